"""The inputs of an evaluation: test images, or latent vectors and real images."""

from vemcompress.commands.facts import tell_images
from vemcompress.data.folders import FLAT
from vemcompress.data.latent_set import TEST, LatentSet
from vemcompress.data.sets import ImageSet, test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import RecipeError, UsageError
from vemcompress.networks.base import ImageInput, LatentInput
from vemcompress.system.events import Event


def beside_latents(settings: DataSettings, side: int, *, stated: bool) -> DataSettings:
    """The settings of the real images for networks that make images of this `side` from latent vectors. Raises
    UsageError if another size is `stated`, and RecipeError if data.kind is not "single"."""
    if stated and settings.size != side:
        raise UsageError(f"a size of {settings.size} px: this model makes images of {side} px; omit the size.")
    if settings.kind != "single":
        raise RecipeError(
            f"data.kind '{settings.kind}': the model's input is latent vectors, so the real images must be single "
            "images; omit data.kind."
        )
    return settings.model_copy(update={"size": side, "load_size": None})


def images_of(
    settings: DataSettings, takes: ImageInput | LatentInput, split: str, real, *, own: bool, on_event: Event
) -> ImageSet | LatentSet:
    """The test images of the settings' roots. `own`: they are the roots of the run.

    For networks with latent vectors as input, they are the real images, and are not needed if the user gave `real`. If
    there are neither, there is a warning.
    """
    if takes.kind == "image":
        return _test_images(settings, split, own, on_event, takes.scale)
    images = _test_images(settings, split, own, on_event) if settings.roots and real is None else None
    if images is None and real is None:
        message = "no real images, so only similarity to the teacher is measured; for FID and KID, give --data DIR."
        on_event({"event": "warning", "message": message})
    return LatentSet(settings, takes, images, purpose=TEST)


def _test_images(settings: DataSettings, split: str, own: bool, on_event: Event, scale: int = 1) -> ImageSet:
    images = test_set(settings, split, on_event, scale=scale)
    tell_images(images, on_event)
    if own and FLAT in images.found.used:
        message = "the run was trained on these images; give other images as test images with --data."
        on_event({"event": "warning", "message": message})
    return images
