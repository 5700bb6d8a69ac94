"""Layouts of CycleGAN's ResNet generator in other code bases, whose down- and upsampling differ from the original's.

CUT and FastCUT (taesungp/contrastive-unpaired-translation) use CycleGAN's Sequential `model`, with blur filters as
buffers `filt` in separate layers: after each downsampling (3 places become 4) and before each upsampling; either may be
in CycleGAN's plain form. PyTorch-GAN (eriklindernoren) enlarges by `nn.Upsample` before the upsampling convolutions,
and names a block's layers `block`. The popular tutorial by Aladdin Persson names its parts (`initial`, `down_blocks`,
`res_blocks`, `up_blocks`, `last`), and uses reflection padding in every convolution but the upsampling ones.
"""

import re

import torch

from vemcompress.networks.generators.resampled import ResampledResNetConfig
from vemcompress.weights.layouts import PADS, Layout, Mismatch, Read, Tensors, has
from vemcompress.weights.published.resnet import BLOCK, is_resnet, read_shapes, second_conv

_BLOCK = re.compile(r"model\.(\d{1,6})\.block\.1\.weight")
_FILTER = re.compile(r"model\.(\d{1,6})\.filt")
_NAMED = re.compile(r"res_blocks\.(\d{1,6})\.")
_BLURS = {(1, 3, 3): torch.tensor([1.0, 2, 1]), (1, 4, 4): torch.tensor([1.0, 3, 3, 1])}  # one side of the filter


def _read_sequential(tensors: Tensors, places: list[int], block: str, down: str, up: str) -> Read:
    """Read a Sequential `model` with residual blocks at these places; `block` is the name of their layers."""
    step = 4 if down == "blur" else 3
    first = 4 + 2 * step if down == "blur" else 10
    if places != list(range(first, first + len(places))):
        raise Mismatch(f"its residual blocks are not the layers from model.{first} on")
    after, before = (
        first + len(places),
        0 if up == "transposed" else 1,
    )  # layers before an upsampling convolution
    layers = {"stem": 1, "down1": 4, "down2": 4 + step, "up1": after + before, "up2": after + 3 + 2 * before}
    layers["head"] = layers["up2"] + 4
    names = {name: f"model.{index}" for name, index in layers.items()}
    names |= {f"{name}_norm": f"model.{index + 1}" for name, index in layers.items()}
    for i, index in enumerate(places):
        inside = f"model.{index}.{block}"
        second = second_conv(tensors, inside, "")
        for ours, theirs in (("conv1", 1), ("norm1", 2), ("conv2", second), ("norm2", second + 1)):
            names[f"blocks.{i}.{ours}"] = f"{inside}.{theirs}"
    blocks = [f"model.{index}.{block}.1" for index in places]
    return read_shapes(tensors, ResampledResNetConfig, names, blocks, downsample=down, upsample=up)


def _read_cut(tensors: Tensors) -> Read:
    places = sorted({int(match[1]) for name in tensors if (match := BLOCK.match(name))})
    filters = [int(match[1]) for name in tensors if (match := _FILTER.fullmatch(name))]
    if not places:
        raise Mismatch("it has no residual blocks")
    down = "blur" if any(index < places[0] for index in filters) else "strided"
    up = "bilinear" if any(index > places[-1] for index in filters) else "transposed"
    return _read_sequential(tensors, places, "conv_block", down, up)


def _without_filters(tensors: Tensors) -> Tensors:
    """The weights without CUT's constant blur filters. Raises Mismatch for other filters."""
    for name, tensor in tensors.items():
        if not _FILTER.fullmatch(name):
            continue
        line = _BLURS.get(tuple(tensor.shape[1:]), torch.zeros(1))
        if not torch.allclose(tensor.float(), line[:, None] * line / 16):
            raise Mismatch(f"{name!r} is not the blur filter of the anti-aliased (CUT) form")
    return {name: tensor for name, tensor in tensors.items() if not _FILTER.fullmatch(name)}


def _read_upsampled(tensors: Tensors) -> Read:
    places = sorted({int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))})
    found = _read_sequential(tensors, places, "block", "strided", "nearest")
    if found[0].in_channels != 3:  # the original's padding equals the number of channels
        raise Mismatch(
            f"it has {found[0].in_channels} input channels, but only with 3 does its image have the input's size"
        )
    return found


def _read_named(tensors: Tensors) -> Read:
    places = sorted({int(match[1]) for name in tensors if (match := _NAMED.match(name))})
    names = {"stem": "initial.0", "stem_norm": "initial.1", "head": "last"}
    for i in (1, 2):
        for ours, theirs in ((f"down{i}", f"down_blocks.{i - 1}"), (f"up{i}", f"up_blocks.{i - 1}")):
            names |= {ours: f"{theirs}.conv.0", f"{ours}_norm": f"{theirs}.conv.1"}
    for i in places:
        for k in (1, 2):
            inside = f"res_blocks.{i}.block.{k - 1}.conv"
            names |= {f"blocks.{i}.conv{k}": f"{inside}.0", f"blocks.{i}.norm{k}": f"{inside}.1"}
    if places != list(range(len(places))):
        raise Mismatch("its residual blocks are not numbered from 0 on")
    blocks = [f"res_blocks.{i}.block.0.conv.0" for i in places]
    return read_shapes(tensors, ResampledResNetConfig, names, blocks, downsample="reflect")


def _is_cut(tensors: Tensors) -> bool:
    return is_resnet(tensors) and any(_FILTER.fullmatch(name) for name in tensors)


def _is_upsampled(tensors: Tensors) -> bool:
    return "model.1.weight" in tensors and any(_BLOCK.fullmatch(name) for name in tensors)


CUT = Layout("anti-aliased (CUT) resnet", _is_cut, _read_cut, prepare=_without_filters)
UPSAMPLED = Layout("resnet of PyTorch-GAN", _is_upsampled, _read_upsampled, assumes=PADS)
NAMED = Layout(
    "resnet of Aladdin Persson",
    has("initial.0.weight", "res_blocks.0.block.0.conv.0.weight", "last.weight"),
    _read_named,
    assumes=PADS,
)
