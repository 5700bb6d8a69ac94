"""Differentiable image embeddings (DINO, Inception, SqueezeNet) for losses that compare distributions (DiME)."""

import pytorch_fid.inception
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from vemcompress.errors import InputError, RecipeError
from vemcompress.evaluation.extractors import INCEPTION_SHA256, build_inception
from vemcompress.networks.features import squeezenet_embedding
from vemcompress.weights.features import downloaded, fill_trunk
from vemcompress.weights.safe import read_state

EMBEDDINGS = {"dino_resnet50": 2048, "inception": 2048, "squeezenet1_1_caffe": 512}  # dimensions by name

NO_WEIGHTS = (
    "algorithm.features {}: needs its weights; give their path with algorithm.features_weights, or use inception, "
    "which is downloaded, or none."
)


class Embedding(nn.Module):
    """Maps B x 3 x H x W, RGB in [-1, 1], to B x dims, float32. Its weights are frozen."""

    def __init__(self, name: str, network: nn.Module):
        super().__init__()
        self.name, self.dims = name, EMBEDDINGS[name]
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Embedding":
        return self

    def forward(self, images: Tensor) -> Tensor:
        if self.name == "inception":
            return self.network((images + 1) / 2)[0].flatten(1).float()
        if self.name == "dino_resnet50":  # as published, images are not normalised by ImageNet's statistics
            return self.network(images).float()
        return self.network(images)[0].mean((2, 3)).float()


def open_embedding(name: str, weights: str | None) -> Embedding:
    """Open one of `EMBEDDINGS`: DINO's ResNet-50 without a head (2048), the Inception of FID (2048), or the last map of
    a SqueezeNet (512). Raises RecipeError if needed weights are not given, InputError if they do not fit, NetworkError
    if Inception's cannot be downloaded."""
    if name == "inception":
        path = weights or downloaded(
            pytorch_fid.inception.FID_WEIGHTS_URL,
            INCEPTION_SHA256,
            what="Inception's weights",
            remedy="give another place with --set algorithm.features_weights=PATH",
        )
        return Embedding(name, build_inception(path))
    if weights is None:
        raise RecipeError(NO_WEIGHTS.format(name))
    tensors = read_state(weights).tensors
    if name == "squeezenet1_1_caffe":
        network = squeezenet_embedding(caffe=True)
        fill_trunk(network, tensors, name, weights)
        return Embedding(name, network)
    return Embedding(name, _resnet(tensors, weights))


def _resnet(tensors: dict[str, Tensor], source: str) -> nn.Module:
    with torch.device("meta"):
        network = resnet50(weights=None)
    network.fc = nn.Identity()
    found = {key: value for key, value in tensors.items() if not key.startswith("fc.")}
    for key, wanted in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            found.setdefault(key, torch.zeros((), dtype=torch.int64))
        elif key not in found or found[key].shape != wanted.shape:
            raise InputError(
                f"{source}: not the weights of a ResNet-50: '{key}' is missing or has another shape; give DINO's "
                "dino_resnet50_pretrain.pth."
            )
    own = {key: found[key].float() if found[key].is_floating_point() else found[key] for key in network.state_dict()}
    network.load_state_dict(own, assign=True)
    return network
