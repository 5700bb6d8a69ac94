"""Layouts of super-resolution generators: leftthomas/SRGAN, and the compact network and RRDBNet of xinntao/Real-ESRGAN.

SRGAN numbers its parts `block1` (the first convolution), `block2` and on (residual blocks), then the trunk's last
convolution, then a Sequential of enlargements and the last convolution. SRVGGNetCompact is one Sequential `body`, whose
odd places are PReLUs. RRDBNet has named layers; before BasicSR it was a Sequential `model`, in which the residual
blocks are places of `model.1.sub`, followed by the trunk's last convolution.
"""

import re

from torch import Tensor

from vemcompress.networks.generators.rrdb import DENSE, INNER, RRDBConfig
from vemcompress.networks.generators.srgan import SRGANConfig
from vemcompress.networks.generators.srvgg import SRVGGConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, renamed, shape

_BLOCK = re.compile(r"block(\d{1,3})\.conv1\.weight")
_UP = re.compile(r"block(\d{1,3})\.(\d)\.conv\.weight")
_BODY = re.compile(r"body\.(\d{1,3})\.weight")
_DENSE = re.compile(r"body\.(\d{1,3})\.rdb1\.conv1\.weight")
_OLD = re.compile(r"model\.1\.sub\.(\d{1,3})\.RDB1\.conv1\.0\.weight")
_LAST = re.compile(r"model\.(\d{1,2})\.weight")


def _numbers(pattern: re.Pattern, tensors: Tensors, first: int = 0) -> list[int]:
    """The numbers in names of this pattern, which must be consecutive. Raises Mismatch."""
    found = sorted({int(match[1]) for name in tensors if (match := pattern.fullmatch(name))})
    if not found or found != list(range(first, first + len(found))):
        raise Mismatch(f"its blocks are not numbered from {first} on")
    return found


def _read_srgan(tensors: Tensors) -> Read:
    blocks = _numbers(_BLOCK, tensors, 2)
    trunk, end = blocks[-1] + 1, blocks[-1] + 2
    ups = sorted({int(match[2]) for name in tensors if (match := _UP.fullmatch(name)) and int(match[1]) == end})
    names = {"stem": "block1.0", "stem_slope": "block1.1", "trunk": f"block{trunk}.0", "trunk_norm": f"block{trunk}.1"}
    for i, block in enumerate(blocks):
        places = {"conv1": "conv1", "norm1": "bn1", "slope": "prelu", "conv2": "conv2", "norm2": "bn2"}
        names |= {f"blocks.{i}.{ours}": f"block{block}.{theirs}" for ours, theirs in places.items()}
    for i in ups:
        names |= {f"ups.{i}": f"block{end}.{i}.conv", f"slopes.{i}": f"block{end}.{i}.prelu"}
    names["head"] = f"block{end}.{len(ups)}"
    config = SRGANConfig(
        in_channels=shape(tensors, "block1.0.weight")[1],
        out_channels=shape(tensors, f"{names['head']}.weight")[0],
        scale=2 ** len(ups),
        trunk=shape(tensors, "block1.0.weight")[0],
        blocks=tuple(shape(tensors, f"block{block}.conv1.weight")[0] for block in blocks),
        ups=tuple(shape(tensors, f"block{end}.{i}.conv.weight")[0] // 4 for i in ups),
    )
    return config, renamed(names)


def _read_srvgg(tensors: Tensors) -> Read:
    """Only PReLU has weights. Networks without them may use ReLU or LeakyReLU, which the names do not show."""
    places = sorted({int(match[1]) for name in tensors if (match := _BODY.fullmatch(name))})
    if places != list(range(len(places))) or len(places) < 5 or len(places) % 2 == 0:
        raise Mismatch("its body does not consist of convolutions, each followed by a PReLU")
    widths = [shape(tensors, f"body.{i}.weight")[0] for i in places[::2]]
    inputs = shape(tensors, "body.0.weight")[1]
    scale = round((widths[-1] / inputs) ** 0.5)
    if scale * scale * inputs != widths[-1]:
        raise Mismatch(
            f"its last convolution has {widths[-1]} outputs, which is not a square number times {inputs} channels"
        )
    names = {"head": f"body.{places[-1]}"}
    for i in range(len(widths) - 1):
        names |= {f"convs.{i}": f"body.{2 * i}", f"slopes.{i}": f"body.{2 * i + 1}"}
    stem, *blocks, _ = widths
    config = SRVGGConfig(in_channels=inputs, out_channels=inputs, scale=scale, stem=stem, blocks=tuple(blocks))
    return config, renamed(names)


def _read_rrdb(tensors: Tensors) -> Read:
    blocks = _numbers(_DENSE, tensors)
    names = {"stem": "conv_first", "trunk": "conv_body", "last": "conv_hr", "head": "conv_last"}
    names |= {f"ups.{i}": f"conv_up{i + 1}" for i in range(2)}
    return _rrdb(tensors, names, {i: f"body.{i}.rdb{{}}.conv{{}}" for i in blocks})


def _read_old_rrdb(tensors: Tensors) -> Read:
    blocks = _numbers(_OLD, tensors)
    last = max(int(match[1]) for name in tensors if (match := _LAST.fullmatch(name)))
    ups = (last - 4) // 3
    names = {"stem": "model.0", "trunk": f"model.1.sub.{len(blocks)}", "last": f"model.{last - 2}"}
    names |= {"head": f"model.{last}"} | {f"ups.{i}": f"model.{3 + 3 * i}" for i in range(ups)}
    return _rrdb(tensors, names, {i: f"model.1.sub.{i}.RDB{{}}.conv{{}}.0" for i in blocks})


def _rrdb(tensors: Tensors, names: dict[str, str], blocks: dict[int, str]) -> Read:
    """`blocks` are the names of the convolutions, formatted with the numbers of the dense block and the convolution."""
    for i, name in blocks.items():
        for j in range(DENSE):
            names |= {f"blocks.{i}.dense.{j}.convs.{k}": name.format(j + 1, k + 1) for k in range(INNER + 1)}
    ups = [name for name in names if name.startswith("ups.")]
    widths = {name: shape(tensors, f"{names[name]}.weight") for name in ("stem", "last", "head", *ups)}
    image = widths["head"][0]
    unshuffle = round((widths["stem"][1] / image) ** 0.5)
    config = RRDBConfig(
        in_channels=image,
        out_channels=image,
        scale=2 ** len(ups) // unshuffle if unshuffle else 0,
        trunk=widths["stem"][0],
        blocks=tuple(shape(tensors, f"{name.format(1, 1)}.weight")[0] for name in blocks.values()),
        ups=tuple(widths[name][0] for name in ups),
        last=widths["last"][0],
        unshuffle=unshuffle,
    )
    return config, renamed(names)


def _is_srvgg(tensors: Tensors) -> bool:
    slope: Tensor | None = tensors.get("body.1.weight")
    return "body.0.weight" in tensors and (slope is None or slope.dim() == 1)


_ASSUMES = {"range": "RGB in 0..1 (here in [-1, 1])", "padding": "zero as published"}

SRGAN = Layout("srgan", has("block1.0.weight", "block1.1.weight", "block2.conv1.weight"), _read_srgan, assumes=_ASSUMES)
SRVGG = Layout("srvgg", _is_srvgg, _read_srvgg, assumes=_ASSUMES)
RRDB = Layout("rrdb", has("conv_first.weight", "body.0.rdb1.conv1.weight"), _read_rrdb, assumes=_ASSUMES)
OLD_RRDB = Layout("rrdb", has("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), _read_old_rrdb, assumes=_ASSUMES)
