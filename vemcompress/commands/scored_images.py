"""What an evaluation feeds its networks: test images, or latent vectors beside real images."""

from vemcompress.commands.facts import tell_images
from vemcompress.data.folders import FLAT
from vemcompress.data.latent_set import TEST, LatentSet
from vemcompress.data.sets import ImageSet, test_set
from vemcompress.data.settings import DataSettings
from vemcompress.errors import RecipeError, UsageError
from vemcompress.networks.base import ImageInput, LatentInput
from vemcompress.system.events import Event


def beside_latents(settings: DataSettings, side: int, *, stated: bool) -> DataSettings:
    """The settings of real images beside latent vectors, whose networks draw images of this `side`. Raises UsageError
    where another size is `stated`, and RecipeError for images that are not single ones."""
    if stated and settings.size != side:
        raise UsageError(f"a size of {settings.size} px: this model draws images of {side} px; leave the size out.")
    if settings.kind != "single":
        raise RecipeError(
            f"data.kind '{settings.kind}': beside latent vectors real images are single ones; leave data.kind out."
        )
    return settings.model_copy(update={"size": side, "load_size": None})


def images_of(
    settings: DataSettings, takes: ImageInput | LatentInput, split: str, real, *, own: bool, on_event: Event
) -> ImageSet | LatentSet:
    """The test images of the settings' roots, which are a run's `own` unless the user gave them.

    For networks that take latent vectors they are the real images, which are not looked for where the user gave
    others, `real`; where there are neither, this is told.
    """
    if takes.kind == "image":
        return _test_images(settings, split, own, on_event, takes.scale)
    images = _test_images(settings, split, own, on_event) if settings.roots and real is None else None
    if images is None and real is None:
        message = "no real images: only similarity to the teacher is measured; for FID and KID give --data DIR."
        on_event({"event": "warning", "message": message})
    return LatentSet(settings, takes, images, purpose=TEST)


def _test_images(settings: DataSettings, split: str, own: bool, on_event: Event, scale: int = 1) -> ImageSet:
    images = test_set(settings, split, on_event, scale=scale)
    tell_images(images, on_event)
    if own and FLAT in images.found.used:
        message = "these are the images that the run was trained on; give test images with --data."
        on_event({"event": "warning", "message": message})
    return images
