"""Layouts of U-Nets with nested skip blocks, `model.model.1.model.3.model.3...`: pix2pix's (Isola et al., junyanz) and
OMGD's deep teacher `unet_deepest_256` (bytedance/OMGD).

A middle block is LeakyReLU 0, convolution 1, norm 2, the next block 3, ReLU 4, transposed convolution 5, norm 6 (and
possibly dropout 7). The outermost has no LeakyReLU and no norm, the innermost no norm after its convolution.

The deep one also has widening blocks, which store their layers in `conv_block`, with convolutions at 1, 4, 7 and 12,
each followed by its norm. A middle level: LeakyReLU 0, convolution 1, norm 2, blocks 3 and 4, the next level 5, ReLU 6,
transposed convolution 7, norm 8, blocks 9 and 10. Outermost: convolution 0, blocks 1 and 2, level 3, blocks 4 and 5,
ReLU 6, transposed convolution 7.
"""

from collections.abc import Callable

from vemcompress.networks.generators.deep import BLOCKS, DeepUNetConfig
from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, norm_of, renamed, shape

_DEEPEST = 12  # levels
_CONVS = (1, 4, 7, 12)  # in a widening block


def _read_nested(
    tensors: Tensors,
    config: type[UNetConfig],
    *,
    inner: tuple[int, int],
    up: tuple[int, int],
    beside: Callable[[int, str], dict[str, str]] = lambda level, block: {},
) -> Read:
    """Read a U-Net of nested blocks. `inner` and `up` are the places of the next block and of the transposed
    convolution, for the outermost block and for the others. `beside` gives the names of further layers of a level
    above the innermost.
    """
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


def _read_deep(tensors: Tensors) -> Read:
    def blocks(level: int, block: str) -> dict[str, str]:
        """The names of a level's widening blocks, which come before the next level and after the transposed
        convolution.
        """
        down, up = (3, 9) if level else (1, 4)
        names = {}
        for i in range(BLOCKS):
            names |= widening_block(f"down_blocks.{level}.{i}", f"{block}.{down + i}")
            names |= widening_block(f"up_blocks.{level}.{i}", f"{block}.{up + i}")
        return names

    return _read_nested(tensors, DeepUNetConfig, inner=(3, 5), up=(7, 7), beside=blocks)


def widening_block(ours: str, theirs: str) -> dict[str, str]:
    """The published names of one widening block."""
    names = {f"{ours}.convs.{i}": f"{theirs}.conv_block.{index}" for i, index in enumerate(_CONVS)}
    return names | {f"{ours}.norms.{i}": f"{theirs}.conv_block.{index + 1}" for i, index in enumerate(_CONVS)}


UNET = Layout(
    "unet",
    has("model.model.0.weight", "model.model.1.model.1.weight"),
    lambda tensors: _read_nested(tensors, UNetConfig, inner=(1, 3), up=(3, 5)),
)
DEEP_UNET = Layout("deep_unet", has("model.model.1.conv_block.1.weight", "model.model.3.model.1.weight"), _read_deep)
