"""OMGD's deep teachers, as `unet_deepest_256` and `mobile_deepest_resnet` were saved (bytedance/OMGD).

A widening block keeps its layers in `conv_block`, with convolutions at 1, 4, 7 and 12, each followed by its norm.
U-Net, middle level: LeakyReLU 0, convolution 1, norm 2, blocks 3 and 4, the next level 5, ReLU 6, transposed
convolution 7, norm 8, blocks 9 and 10. Outermost: convolution 0, blocks 1 and 2, level 3, blocks 4 and 5, ReLU 6,
transposed convolution 7. Mobile: one Sequential, in which each step takes seven places instead of three.
"""

from vemcompress.networks.generators.deep import BLOCKS, MIDDLE, DeepMobileResNetConfig, DeepUNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors
from vemcompress.weights.published.resnet import BLOCK, read_shapes
from vemcompress.weights.published.unet import read_nested

_CONVS = (1, 4, 7, 12)
_TRUNK = 18  # the mobile Sequential's first residual block


def _is_deep_unet(tensors: Tensors) -> bool:
    return "model.model.1.conv_block.1.weight" in tensors and "model.model.3.model.1.weight" in tensors


def _read_unet(tensors: Tensors) -> Read:
    def blocks(level: int, block: str) -> dict[str, str]:
        """Of a level's widening blocks, which follow each other before the next level and after the way up."""
        down, up = (3, 9) if level else (1, 4)
        names = {}
        for i in range(BLOCKS):
            names |= _block(f"down_blocks.{level}.{i}", f"{block}.{down + i}")
            names |= _block(f"up_blocks.{level}.{i}", f"{block}.{up + i}")
        return names

    return read_nested(tensors, DeepUNetConfig, inner=(3, 5), up=(7, 7), beside=blocks)


def _is_deep_mobile(tensors: Tensors) -> bool:
    return "model.1.weight" in tensors and "model.7.conv_block.12.weight" in tensors


def _read_mobile(tensors: Tensors) -> Read:
    # Besides those of the trunk, one widening block stands in each of the four steps, at its fourth place.
    indices = sorted({int(match[1]) for name in tensors if (match := BLOCK.match(name))})
    trunk = [index for index in indices if index >= _TRUNK][:-2]
    if len(trunk) <= MIDDLE or indices != [7, 14, *trunk, trunk[-1] + 4, trunk[-1] + 11]:
        raise Mismatch(f"its residual blocks are at {', '.join(map(str, indices))} of model")
    after = trunk[-1] + 1
    if trunk != list(range(_TRUNK, after)):
        raise Mismatch(f"the blocks in its middle are not the layers from model.{_TRUNK} to model.{after - 1}")
    names = {"stem": "model.1", "stem_norm": "model.2", "head": f"model.{after + 15}"}
    for name, first in (("down1", 4), ("down2", 11), ("up1", after), ("up2", after + 7)):
        names |= {f"{name}.0": f"model.{first}", f"{name}.1": f"model.{first + 1}"}
        names |= _block(f"{name}.3", f"model.{first + 3}")
        names |= {f"{name}.4": f"model.{first + 4}", f"{name}_norm": f"model.{first + 5}"}
    wide = (len(trunk) - MIDDLE) // 2
    mobile = []
    for i, index in enumerate(trunk):
        if wide <= i < wide + MIDDLE:
            names |= _block(f"blocks.{i}", f"model.{index}")
            continue
        mobile.append(f"model.{index}.conv_block.1.conv.2")
        places = (("conv1", 1), ("norm1", 2), ("conv2", 6), ("norm2", 7))
        names |= {f"blocks.{i}.{ours}": f"model.{index}.conv_block.{theirs}" for ours, theirs in places}
    return read_shapes(tensors, DeepMobileResNetConfig, names, mobile, step=".0")


def _block(ours: str, theirs: str) -> dict[str, str]:
    """Names of one widening block."""
    names = {f"{ours}.convs.{i}": f"{theirs}.conv_block.{index}" for i, index in enumerate(_CONVS)}
    return names | {f"{ours}.norms.{i}": f"{theirs}.conv_block.{index + 1}" for i, index in enumerate(_CONVS)}


DEEP_UNET = Layout("deep_unet", _is_deep_unet, _read_unet)
DEEP_MOBILE_RESNET = Layout("deep_mobile_resnet", _is_deep_mobile, _read_mobile)
