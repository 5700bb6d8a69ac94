"""Style and content losses on feature networks: checks, and weights for features other than VGG's."""

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
    """Raises RecipeError if the images do not have the 3 channels that the features need, or if `weights` or a file is
    given without features.
    """
    if settings.features != "none" and facts.teacher.out_channels != 3:
        raise RecipeError(
            f"recipe {facts.recipe}: {settings.features} features need images of 3 channels, and the teacher's have "
            f"{facts.teacher.out_channels}; set algorithm.features=none."
        )
    if settings.features == "none" and any(getattr(settings, key) for key in (*weights, "features_weights")):
        raise RecipeError(
            f"algorithm.features = 'none' leaves {', '.join(weights)} and features_weights unused; remove "
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
    """Settings with their style and content weights filled in where they are None.

    `blank` maps the two keys, style first, to the values that the weighted terms should have for an untrained student.
    The unweighted style term of an untrained student is about the size of the Gram matrices of `images`, or of their
    squares if the distance is `squared`. Its content term is about the size of the feature map at `layer`, by default
    the feature loss's layer. Raises RecipeError if either is zero or infinite.
    """
    if all(getattr(settings, key) is not None for key in blank):
        return settings
    with torch.no_grad():
        maps = features(images)
    grams = [gram(m) for m in maps]
    style = sum((g.square() if squared else g.abs()).mean() for g in grams).item()
    content = maps[features.feature if layer is None else layer].float().abs().mean().item()
    if not (0 < style < float("inf") and 0 < content < float("inf")):
        raise RecipeError(
            "algorithm.features_weights: these features are zero or infinite on the teacher's images; use another file."
        )
    pairs = zip(blank.items(), (style, content), strict=True)
    found = {key: float(f"{size / measured:.4g}") for (key, size), measured in pairs}
    return settings.but(**{key: value for key, value in found.items() if getattr(settings, key) is None})
