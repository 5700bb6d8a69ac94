"""The pix2pix U-Net: skip blocks nested in each other, `model.model.1.model.3.model.3...` (Isola et al., junyanz).

A middle block is LeakyReLU 0, convolution 1, norm 2, the next block 3, ReLU 4, transposed convolution 5, norm 6 (and
perhaps dropout 7). The outermost has no LeakyReLU and no norm, the innermost no norm after its convolution.
"""

from collections.abc import Callable

from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, norm_of, renamed, shape

_DEEPEST = 12


def _is_unet(tensors: Tensors) -> bool:
    return "model.model.0.weight" in tensors and "model.model.1.model.1.weight" in tensors


def read_nested(
    tensors: Tensors,
    config: type[UNetConfig],
    *,
    inner: tuple[int, int],
    up: tuple[int, int],
    beside: Callable[[int, str], dict[str, str]] = lambda level, block: {},
) -> Read:
    """A U-Net of nested blocks, whose next block is at `inner` and transposed convolution at `up`, of the outermost
    and of the others. `beside` gives the names of what else a level above the innermost has."""
    names = {"downs.0": "model.model.0", "ups.0": f"model.model.{up[0]}"} | beside(0, "model.model")
    block, level = f"model.model.{inner[0]}.model", 1
    while any(name.startswith(f"{block}.{inner[1]}.model.") for name in tensors):
        names |= {f"downs.{level}": f"{block}.1", f"down_norms.{level}": f"{block}.2"}
        names |= {f"ups.{level}": f"{block}.{up[1]}", f"up_norms.{level}": f"{block}.{up[1] + 1}"}
        names |= beside(level, block)
        block, level = f"{block}.{inner[1]}.model", level + 1
        if level > _DEEPEST:
            raise Mismatch(f"it has more than {_DEEPEST} levels")
    names |= {f"downs.{level}": f"{block}.1", f"ups.{level}": f"{block}.3", f"up_norms.{level}": f"{block}.4"}
    found = config(
        in_channels=shape(tensors, "model.model.0.weight")[1],
        out_channels=shape(tensors, f"{names['ups.0']}.weight")[1],
        norm=norm_of(tensors, names["up_norms.1"]),
        down=tuple(shape(tensors, f"{names[f'downs.{i}']}.weight")[0] for i in range(level + 1)),
        up=tuple(shape(tensors, f"{names[f'ups.{i}']}.weight")[1] for i in range(1, level + 1)),
    )
    return found, renamed(names)


UNET = Layout("unet", _is_unet, lambda tensors: read_nested(tensors, UNetConfig, inner=(1, 3), up=(3, 5)))
