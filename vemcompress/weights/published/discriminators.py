"""PatchGAN and its 1x1 form in junyanz/pytorch-CycleGAN-and-pix2pix's layout, and OMGD's for two teachers.

`n_layers`: one Sequential `model` with convolutions at 0, 2, 5, 8, ..., all but the first and the last followed by
their norm. `pixel`: a Sequential `net`, convolutions at 0, 2 and 5, norm at 3. `multi_n_layers`: `block1s` to
`block5s`, each with copies 0 and 1 of a Sequential `block`, convolution at 0 and norm at 1.
"""

import re

from vemcompress.networks.discriminators import (
    STAGES,
    PatchGANConfig,
    PixelGANConfig,
    SharedPatchGANConfig,
    build_discriminator,
)
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, norm_of, renamed, shape

_MODULE = re.compile(r"model\.(\d+)\.weight")
_PIXEL = ("0", "2", "5")  # without `net.`, which all names share and reading strips


def _is_patchgan(tensors: Tensors) -> bool:
    return all(_has_kernel(tensors, f"model.{index}.weight", 4) for index in (0, 2))


def _read_patchgan(tensors: Tensors) -> Read:
    matches = {name: match for name, tensor in tensors.items() if tensor.dim() == 4 and (match := _MODULE.match(name))}
    found = sorted(int(match[1]) for match in matches.values())
    if len(found) < 3 or found != [0, *range(2, 3 * len(found) - 3, 3)]:
        raise Mismatch(f"its convolutions are at {', '.join(map(str, found))} of model")
    names = {}
    for stage, index in enumerate(found):
        names |= {f"stages.{stage}.conv": f"model.{index}", f"stages.{stage}.norm": f"model.{index + 1}"}
    return PatchGANConfig(layers=len(found) - 2, **_shape(tensors, names, "")), renamed(names)


def _is_pixelgan(tensors: Tensors) -> bool:
    return all(_has_kernel(tensors, f"{index}.weight", 1) for index in _PIXEL)


def _read_pixelgan(tensors: Tensors) -> Read:
    names = {f"stages.{stage}.conv": index for stage, index in enumerate(_PIXEL)} | {"stages.1.norm": "3"}
    return PixelGANConfig(**_shape(tensors, names, "")), renamed(names)


def is_shared_patchgan(tensors: Tensors) -> bool:
    """Whether the names are those of OMGD's discriminator for two teachers."""
    return "block1s.0.block.0.weight" in tensors and "block5s.1.block.0.weight" in tensors


def shared_patchgan(n_share: int) -> Layout:
    """The layout of OMGD's discriminator for two teachers; its file does not say how many stages they share."""
    names = {}
    for stage in range(STAGES):
        for copy in (0, 1):
            theirs = f"block{stage + 1}s.{copy}.block"
            names |= {f"stages.{stage}.{copy}.conv": f"{theirs}.0", f"stages.{stage}.{copy}.norm": f"{theirs}.1"}

    def read(tensors: Tensors) -> Read:
        return SharedPatchGANConfig(n_share=n_share, **_shape(tensors, names, ".0")), renamed(names)

    return Layout("shared_patchgan", is_shared_patchgan, read, **_DISCRIMINATOR)


def _has_kernel(tensors: Tensors, name: str, size: int) -> bool:
    return name in tensors and tensors[name].shape[2:] == (size, size)


def _shape(tensors: Tensors, names: dict[str, str], copy: str) -> dict[str, int | str]:
    """What every Config has, from the first kernel and the norm of the second stage."""
    width, channels, *_ = shape(tensors, f"{names[f'stages.0{copy}.conv']}.weight")
    norm = norm_of(tensors, names[f"stages.1{copy}.norm"])
    return {"in_channels": channels, "width": width, "norm": norm}


_DISCRIMINATOR = {"build": build_discriminator, "advice": "discriminator alone"}
PATCHGAN = Layout("patchgan", _is_patchgan, _read_patchgan, **_DISCRIMINATOR)
PIXELGAN = Layout("pixelgan", _is_pixelgan, _read_pixelgan, **_DISCRIMINATOR)
