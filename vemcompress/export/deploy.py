"""The deployment copy of a network: ready for export, without the parts that only training needs; and its contract."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vemcompress.errors import ExportError, first_line
from vemcompress.export.contracts import Contract, ImageContract, LatentContract
from vemcompress.networks.base import Generator
from vemcompress.system.memory import is_exhausted
from vemcompress.system.settings import SCALES
from vemcompress.weights.custom_latents import of_latents
from vemcompress.weights.outside import Outside

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def deployment_copy(model: nn.Module) -> nn.Module:
    """A frozen float32 copy on the CPU in eval mode, without dropout, with parametrised weights folded.

    Raises ExportError (7) for a BatchNorm that normalises by batch statistics even in eval mode: the exporter would
    silently change it, and the result for an image must not depend on the other images of its batch. A foreign module
    that states its latent size is wrapped by `weights.custom_latents`."""
    model = copy.deepcopy(getattr(model, "_orig_mod", model)).to(device="cpu", dtype=torch.float32).eval()
    if isinstance(getattr(model, "module", None), Outside):
        raise ExportError(f"{model.name}: is not a PyTorch network, so it cannot be exported; distil it first.")
    if isinstance(model, Generator):
        model = model.deployed()
        model.settle()
    else:
        model = of_latents(model, type(model).__name__) or model
    model.eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, _DROPOUT):
            if not name:
                raise ExportError("the model is a single dropout layer: there is nothing to export.")
            model.set_submodule(name, nn.Identity())
        elif isinstance(module, _BATCH_NORM) and (module.training or module.running_mean is None):
            raise ExportError(
                f"layer '{name}' is a BatchNorm that uses the statistics of the batch even in eval mode: give it "
                "running statistics, or replace it with networks.base.use_image_statistics(model)."
            )
        if parametrize.is_parametrized(module):  # spectral norm: a fixed weight is exact, and can be exported
            # The copy shares its class with the original, and unfolding edits the class.
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
            for tensor in list(module.parametrizations):
                parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)
    return model


def contract_of(model: nn.Module) -> Contract:
    """The contract of a deployment copy, from its attributes and Config. One forward pass gives the output channels.

    A network without a Config does not state its sizes, so they are found by trial: first the multiple, among powers of
    two up to 256, then the smallest side from `min_size` on. Raises ExportError (7) if the network does not map
    B x C x H x W to B x C' x H x W or to an integer multiple of that size, or latent vectors to images of the size that
    it states.
    """
    takes = getattr(model, "takes", None)
    if getattr(takes, "kind", "image") == "latent":
        outputs, _, problem = _output(model, torch.zeros(1, takes.size), takes.image, scales=(1,))
        if outputs is None:
            raise ExportError(
                f"the network does not turn a latent vector of {takes.size} numbers into an image of {takes.image} x "
                f"{takes.image} pixels ({problem}); correct the sizes that its attributes state."
            )
        return LatentContract(takes.size, takes.image, takes.prior, outputs, getattr(model, "styled", False))
    config = getattr(model, "config", None)
    inputs = getattr(config, "in_channels", None) or getattr(model, "in_channels", None)
    if inputs is None:
        inputs = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    multiple, least = int(getattr(model, "multiple", 1)), int(getattr(model, "min_size", 1))
    if config is None:
        powers = [2**i for i in range(9)]
        if multiple == 1:
            multiple = next((k for k in powers if _tried(model, inputs, max(64, k) + k)[0] is not None), 1)
        sides = [multiple * k for k in powers if multiple * k >= least]
        least = next((side for side in sides if _tried(model, inputs, side)[0] is not None), least)
    only = getattr(model, "only_size", None)
    side = ImageContract(inputs, inputs, multiple, least, only).unit
    outputs, scale, problem = _tried(model, inputs, side)
    if outputs is None:
        raise ExportError(
            f"the network does not turn a 1 x {inputs} x {side} x {side} image into one of the same height and width, "
            f"or of an integer multiple ({problem}); export an image-to-image network, or one with an attribute "
            "latent_dim that states the size of its latent vectors."
        )
    return ImageContract(inputs, outputs, multiple, least, only, scale)


def _tried(model: nn.Module, inputs: int, side: int) -> tuple[int | None, int, str]:
    return _output(model, torch.zeros(1, inputs, side, side), side)


@torch.no_grad()
def _output(model: nn.Module, x: Tensor, side: int, scales: Sequence[int] = SCALES) -> tuple[int | None, int, str]:
    """The output's channels and its scale, for a square input of this side; or None and the reason for the failure."""
    try:
        image = model(x)
    except Exception as error:  # a foreign class may fail in any way
        if is_exhausted(error):
            raise
        return None, 1, cause(error)
    if not isinstance(image, Tensor):
        return None, 1, f"a {type(image).__name__} came out"
    scale = next((n for n in scales if image.ndim == 4 and image.shape[2:] == (n * side, n * side)), None)
    if scale is None:
        return None, 1, f"{tuple(image.shape)} came out"
    return image.shape[1], scale, ""


def cause(error: BaseException) -> str:
    """The first line of an error's innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
