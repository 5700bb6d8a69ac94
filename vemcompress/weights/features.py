"""Weights of the perceptual feature networks: torchvision's download, checked, or a file."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import VGG16_Weights

from vemcompress.errors import InputError, RecipeError
from vemcompress.networks.features import FeatureNetwork, squeezenet_features, vgg16_features
from vemcompress.weights.download import downloaded
from vemcompress.weights.safe import read_state

VGG16_URL = VGG16_Weights.IMAGENET1K_V1.url
VGG16_SHA256 = "397923af"  # how it begins, as the file's name says


def load_features(name: str, weights: str | Path | None) -> FeatureNetwork | None:
    """`vgg16`, `squeezenet1_1`, `squeezenet1_1_caffe` with their weights, or None for `none`.

    Raises RecipeError where weights are needed and not given, InputError where they do not fit, NetworkError where
    VGG's cannot be downloaded.
    """
    if name == "none":
        return None
    if weights is None and name != "vgg16":
        raise RecipeError(f"algorithm.features {name}: needs algorithm.features_weights, a path to its weights.")
    network = vgg16_features() if name == "vgg16" else squeezenet_features(caffe=name.endswith("caffe"))
    if weights is None:
        remedy = "give a file with --set algorithm.features_weights=PATH, or use --set algorithm.features=none"
        weights = downloaded(VGG16_URL, VGG16_SHA256, failed="VGG16's weights cannot be downloaded", remedy=remedy)
    fill_trunk(network, read_state(weights).tensors, name, weights)
    return network


def fill_trunk(network: FeatureNetwork, tensors: dict[str, Tensor], name: str, weights: str | Path | None) -> None:
    """Take the trunk's tensors, with or without torchvision's `features.` before their names; every one must fit.

    Raises InputError naming the first that does not; `weights` is the file's name.
    """
    trunk = {k.removeprefix("features."): v for k, v in tensors.items()}
    for key, value in network.layers.state_dict().items():
        if key not in trunk or trunk[key].shape != value.shape:
            seen = f"{tuple(trunk[key].shape)} instead of {tuple(value.shape)}" if key in trunk else "absent"
            raise InputError(f"{weights}: not the weights of {name}: '{key}' is {seen}; give its state dict.")
        value.copy_(trunk[key].to(torch.float32))
