"""OMGD's deep teachers, as `unet_deepest_256` and `mobile_deepest_resnet` were saved (bytedance/OMGD).

A widening block keeps its layers in `conv_block`, with convolutions at 1, 4, 7 and 12, each followed by its norm.
U-Net, middle level: LeakyReLU 0, convolution 1, norm 2, blocks 3 and 4, the next level 5, ReLU 6, transposed
convolution 7, norm 8, blocks 9 and 10. Outermost: convolution 0, blocks 1 and 2, level 3, blocks 4 and 5, ReLU 6,
transposed convolution 7. Mobile: one Sequential, in which each step takes seven places instead of three.
"""

import re
from collections.abc import Callable

from vemcompress.networks.generators.deep import BLOCKS, MIDDLE, DeepMobileResNetConfig, DeepUNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Tensors, norm_of, shape

_CONVS = (1, 4, 7, 12)
_DEEPEST = 12  # levels
_TRUNK = 18  # the mobile Sequential's first residual block
_BLOCK = re.compile(r"model\.(\d+)\.conv_block\.")
_PARTS = {".depthwise.": ".conv.0.", ".pointwise.": ".conv.2."}


def _is_deep_unet(tensors: Tensors) -> bool:
    return "model.model.1.conv_block.1.weight" in tensors and "model.model.3.model.1.weight" in tensors


def _read_unet(tensors: Tensors) -> tuple[DeepUNetConfig, Callable[[str], str]]:
    names = {"downs.0": "model.model.0", "ups.0": "model.model.7"}
    names |= _blocks("down_blocks.0", "model.model", 1) | _blocks("up_blocks.0", "model.model", 4)
    block, level = "model.model.3.model", 1
    while any(name.startswith(f"{block}.5.model.") for name in tensors):
        names |= {f"downs.{level}": f"{block}.1", f"down_norms.{level}": f"{block}.2"}
        names |= {f"ups.{level}": f"{block}.7", f"up_norms.{level}": f"{block}.8"}
        names |= _blocks(f"down_blocks.{level}", block, 3) | _blocks(f"up_blocks.{level}", block, 9)
        block, level = f"{block}.5.model", level + 1
        if level > _DEEPEST:
            raise Mismatch(f"it has more than {_DEEPEST} levels")
    names |= {f"downs.{level}": f"{block}.1", f"ups.{level}": f"{block}.3", f"up_norms.{level}": f"{block}.4"}
    config = DeepUNetConfig(
        in_channels=shape(tensors, "model.model.0.weight")[1],
        out_channels=shape(tensors, "model.model.7.weight")[1],
        norm=norm_of(tensors, names["up_norms.1"]),
        down=tuple(shape(tensors, f"{names[f'downs.{i}']}.weight")[0] for i in range(level + 1)),
        up=tuple(shape(tensors, f"{names[f'ups.{i}']}.weight")[1] for i in range(1, level + 1)),
    )
    return config, lambda ours: _published(ours, names)


def _is_deep_mobile(tensors: Tensors) -> bool:
    return "model.1.weight" in tensors and "model.7.conv_block.12.weight" in tensors


def _read_mobile(tensors: Tensors) -> tuple[DeepMobileResNetConfig, Callable[[str], str]]:
    # Besides those of the trunk, one widening block stands in each of the four steps, at its fourth place.
    indices = sorted({int(match[1]) for name in tensors if (match := _BLOCK.match(name))})
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
        mobile.append(f"model.{index}.conv_block.1.conv.2.weight")
        places = (("conv1", 1), ("norm1", 2), ("conv2", 6), ("norm2", 7))
        names |= {f"blocks.{i}.{ours}": f"model.{index}.conv_block.{theirs}" for ours, theirs in places}
    widths = [shape(tensors, f"{names[name]}.weight")[0] for name in ("stem", "down1.0", "down2.0")]
    widths += [shape(tensors, f"{names[name]}.weight")[1] for name in ("up1.0", "up2.0")]
    config = DeepMobileResNetConfig(
        in_channels=shape(tensors, "model.1.weight")[1],
        out_channels=shape(tensors, f"{names['head']}.weight")[0],
        norm=norm_of(tensors, "model.2"),
        widths=tuple(widths),
        blocks=tuple(shape(tensors, name)[0] for name in mobile),
    )
    return config, lambda ours: _published(ours, names)


def _block(ours: str, theirs: str) -> dict[str, str]:
    """Names of one widening block."""
    names = {f"{ours}.convs.{i}": f"{theirs}.conv_block.{index}" for i, index in enumerate(_CONVS)}
    return names | {f"{ours}.norms.{i}": f"{theirs}.conv_block.{index + 1}" for i, index in enumerate(_CONVS)}


def _blocks(ours: str, theirs: str, first: int) -> dict[str, str]:
    """Names of a level's widening blocks, which follow each other from `first` on."""
    names = {}
    for i in range(BLOCKS):
        names |= _block(f"{ours}.{i}", f"{theirs}.{first + i}")
    return names


def _published(ours: str, names: dict[str, str]) -> str:
    for part, theirs in _PARTS.items():
        ours = ours.replace(part, theirs)
    module = next(name for name in names if ours.startswith(f"{name}."))
    return names[module] + ours[len(module) :]


DEEP_UNET = Layout("deep_unet", _is_deep_unet, _read_unet)
DEEP_MOBILE_RESNET = Layout("deep_mobile_resnet", _is_deep_mobile, _read_mobile)
