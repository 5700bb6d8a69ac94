"""Style and content terms on feature networks: what they need, and their weights on features other than VGG's."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vemcompress.algorithms.distillation import Facts
from vemcompress.errors import RecipeError
from vemcompress.losses.features import gram
from vemcompress.networks.features import FeatureNetwork

Features = Literal["vgg16", "squeezenet1_1", "squeezenet1_1_caffe", "none"]


def check_features(settings: Any, weights: Sequence[str], facts: Facts) -> None:
    """Raises RecipeError for features of images that have no three channels, and for `weights` of terms, or a file,
    where there are no features."""
    if settings.features != "none" and facts.teacher.out_channels != 3:
        raise RecipeError(
            f"recipe {facts.recipe}: {settings.features} features need images of 3 channels, the teacher gives "
            f"{facts.teacher.out_channels}; set algorithm.features=none."
        )
    if settings.features == "none" and any(getattr(settings, key) for key in (*weights, "features_weights")):
        raise RecipeError(
            f"algorithm.features = 'none' leaves {', '.join(weights)} and features_weights without meaning; remove "
            "them, or choose features."
        )


def calibrated(
    settings: Any,
    blank: Mapping[str, float],
    features: FeatureNetwork,
    images: Tensor,
    *,
    squared: bool = False,
    layer: int | None = None,
) -> Any:
    """The settings with the weights of the style term and of the content term, the keys of `blank` in this order, where
    they are None: so that these terms of a blank student have the sizes that it says.

    A blank student's terms are about the size of the images' own Gram matrices, or of their squares where the distance
    is `squared`, and of their maps; the content term's is that of `layer`, by default the one of the feature loss.
    Raises RecipeError where those are zero or infinite.
    """
    if all(getattr(settings, key) is not None for key in blank):
        return settings
    with torch.no_grad():
        maps = features(images)
    grams = [gram(m) for m in maps]
    style = sum((g.square() if squared else g.abs()).mean() for g in grams).item()
    content = maps[features.feature if layer is None else layer].float().abs().mean().item()
    if not (0 < style < float("inf") and 0 < content < float("inf")):
        raise RecipeError("algorithm.features_weights: these features are zero or infinite on the teacher's images.")
    pairs = zip(blank.items(), (style, content), strict=True)
    found = {key: float(f"{size / measured:.4g}") for (key, size), measured in pairs}
    return settings.but(**{key: value for key, value in found.items() if getattr(settings, key) is None})
