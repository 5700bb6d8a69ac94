"""The pix2pix U-Net: skip blocks nested in each other, `model.model.1.model.3.model.3...` (Isola et al., junyanz).

A middle block is LeakyReLU 0, convolution 1, norm 2, the next block 3, ReLU 4, transposed convolution 5, norm 6 (and
perhaps dropout 7). The outermost has no LeakyReLU and no norm, the innermost no norm after its convolution.
"""

from collections.abc import Callable

from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Tensors, norm_of, shape

_DEEPEST = 12


def _is_unet(tensors: Tensors) -> bool:
    return "model.model.0.weight" in tensors and "model.model.1.model.1.weight" in tensors


def _read(tensors: Tensors) -> tuple[UNetConfig, Callable[[str], str]]:
    block = "model.model.1.model"
    names = {"downs.0": "model.model.0", "ups.0": "model.model.3"}
    level = 1
    while any(name.startswith(f"{block}.3.model.") for name in tensors):
        names |= {f"downs.{level}": f"{block}.1", f"down_norms.{level}": f"{block}.2"}
        names |= {f"ups.{level}": f"{block}.5", f"up_norms.{level}": f"{block}.6"}
        block, level = f"{block}.3.model", level + 1
        if level > _DEEPEST:
            raise Mismatch(f"it has more than {_DEEPEST} levels")
    names |= {f"downs.{level}": f"{block}.1", f"ups.{level}": f"{block}.3", f"up_norms.{level}": f"{block}.4"}
    config = UNetConfig(
        in_channels=shape(tensors, "model.model.0.weight")[1],
        out_channels=shape(tensors, "model.model.3.weight")[1],
        norm=norm_of(tensors, names["up_norms.1"]),
        down=tuple(shape(tensors, f"{names[f'downs.{i}']}.weight")[0] for i in range(level + 1)),
        up=tuple(shape(tensors, f"{names[f'ups.{i}']}.weight")[1] for i in range(1, level + 1)),
    )
    return config, lambda ours: _published(ours, names)


def _published(ours: str, names: dict[str, str]) -> str:
    module, _, leaf = ours.rpartition(".")
    return f"{names[module]}.{leaf}"


UNET = Layout("unet", _is_unet, _read)
