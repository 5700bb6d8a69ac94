"""Feature extractors for distances between sets of images: Inception for FID, SqueezeNet if Inception is not
available."""

import hashlib
import threading
from pathlib import Path

import pytorch_fid.inception
import torch
from torch import Tensor, nn

from vemcompress.data.samples import to_network
from vemcompress.errors import InputError, NumericalError, UsageError
from vemcompress.evaluation.gather import Checks
from vemcompress.networks.features import FeatureNetwork, squeezenet_embedding
from vemcompress.weights.features import distance_name, downloaded, fill_trunk, load_features
from vemcompress.weights.safe import read_state

INCEPTION = "inception_pool3"
SQUEEZENETS = ("squeezenet1_1", "squeezenet1_1_caffe")
LEAST = {INCEPTION: 1} | dict.fromkeys(SQUEEZENETS, 17)  # smallest side of an image, in pixels

# Distances between two images, by their names in `weights.features`: LPIPS if there are linear layers.
PERCEPTUAL = tuple(distance_name(name) for name in ("vgg16", *SQUEEZENETS))

# SHA-256 of the file at pytorch_fid.inception.FID_WEIGHTS_URL; the file's name has its first eight digits.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

# `build_inception` replaces pytorch-fid's loader, one name in one module, for a moment.
_construction = threading.Lock()


class Extractor(nn.Module):
    """Maps B x 3 x H x W uint8 RGB images to B x `dims` float32 features. `name` is stored in statistics, `protocol`
    describes the computation in words, and `fingerprint` identifies the weights."""

    name: str
    dims: int
    protocol: str

    def fingerprint(self) -> str:
        """SHA-256 over the names and values of all weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class Inception(Extractor):
    """The features of FID and KID: pool3 of the TensorFlow Inception of 2015-12-05, as in pytorch-fid.

    `weights` is a file with pytorch-fid's state dict. None downloads it once into torch.hub's folder and checks its
    SHA-256. Raises NetworkError if the download fails, InputError for a file that does not fit.
    """

    name, dims = INCEPTION, 2048
    protocol = "Inception pool3 features (2048, TensorFlow weights of 2015-12-05 as in pytorch-fid, bilinear to 299 px)"

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        if weights is None:
            weights = downloaded(
                pytorch_fid.inception.FID_WEIGHTS_URL,
                INCEPTION_SHA256,
                what="Inception's weights",
                remedy="give another place with --inception PATH (in training --set train.inception=PATH)",
            )
        self.network = _frozen(build_inception(Path(weights)))

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_channels_last(images) / 255)[0].flatten(1)


class SqueezeNet(Extractor):
    """The last map of an ImageNet SqueezeNet 1.1, averaged over its places. A distance on it is not FID.

    `name` is a full name from `squeezenet_name`. `weights` is a file with torchvision's state dict, complete or of the
    trunk only. Raises UsageError for another name, InputError for a file that does not fit.
    """

    dims = 512

    def __init__(self, name: str, weights: str | Path):
        super().__init__()
        self.name = squeezenet_name(name, weights)
        self.protocol = f"{self.name} features (512, the last map averaged over its places, at the images' own size)"
        network = squeezenet_embedding(caffe=self.name.endswith("_caffe"))
        fill_trunk(network, read_state(weights).tensors, self.name, weights)
        self.network = _frozen(network)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(_channels_last(images) / 127.5 - 1)[0].mean((2, 3))


class PerceptualDistance(Extractor):
    """A distance of `PERCEPTUAL` between two batches B x 3 x H x W, RGB in [-1, 1]: B values. `weights` is a file with
    torchvision's state dict; None downloads VGG16's."""

    def __init__(self, name: str, weights: str | Path | None):
        super().__init__()
        self.name, kind = name, "LPIPS 0.1" if name.startswith("lpips") else "LPIPS without linear layers (not LPIPS)"
        self.protocol = f"{kind} on {name.rpartition(' ')[2]}, of images rounded to 8 bits,"
        self.network = load_features(name, weights).eval().requires_grad_(False)

    def forward(self, wanted: Tensor, made: Tensor) -> Tensor:
        return self.network(wanted, made)


class Deepest(Extractor):
    """The last map of the recipe's feature network, averaged over its places."""

    name, protocol = "the feature network", "the deepest features of the recipe, averaged over their places"

    def __init__(self, network: FeatureNetwork):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(to_network(images))[-1].mean((2, 3))


def _frozen(network: nn.Module) -> nn.Module:
    """Freeze a network, in the channels_last format: a third faster on a CPU for Inception, twice for SqueezeNet."""
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last).float()


def load_extractor(name: str, weights: str | Path | None = None) -> Extractor:
    """The extractor of this name: `inception_pool3` (weights optional), one of `SQUEEZENETS` (weights required), or a
    distance of `PERCEPTUAL`."""
    if name == INCEPTION:
        return Inception(weights)
    if name in PERCEPTUAL:
        return PerceptualDistance(name, weights)
    if weights is None:
        raise UsageError(f"features {name}: their weights are missing; give the file with --features-weights PATH.")
    return SqueezeNet(name, weights)


def squeezenet_name(features: str, weights: str | Path | None) -> str:
    """The full name of `--features`. For plain `squeezenet`, the weights' file name decides the convention."""
    if features == "squeezenet":
        return SQUEEZENETS["caffe" in Path(weights or "").name.lower()]
    if features not in SQUEEZENETS:
        raise UsageError(f"features {features!r} are not known; give one of squeezenet, {', '.join(SQUEEZENETS)}.")
    return features


def checked_features(extractor: Extractor, images: Tensor, checks: Checks) -> Tensor:
    """Features of B x 3 x H x W uint8 images. `checks` raises NumericalError later if one is not finite."""
    features = extractor(images)
    message = f"{extractor.name} gives NaN or Inf; its weights are damaged, give another file."
    checks.add(features, lambda finite: NumericalError(message))
    return features


def build_inception(path: Path) -> nn.Module:
    """pytorch-fid's network with the weights of a file; its own constructor would download them without a check."""
    tensors = read_state(path).tensors
    module = pytorch_fid.inception
    with _construction:
        original = module.load_state_dict_from_url
        module.load_state_dict_from_url = lambda *_, **__: tensors
        try:
            return module.InceptionV3()
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()[:120]
            raise InputError(
                f"{path}: not the Inception weights of pytorch-fid ({detail}); give the file that "
                f"{module.FID_WEIGHTS_URL} serves."
            ) from error
        finally:
            module.load_state_dict_from_url = original
