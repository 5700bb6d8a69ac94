"""Layout of U-GAT-IT (znxlwm/UGATIT-pytorch), light and full.

`DownBlock` (7x7 at 1, downsampling at 5 and 9, blocks from 12), `gap_fc`, `gmp_fc`, `conv1x1`, `FC` (at 0 and 2),
`gamma`, `beta`, `UpBlock1_1`, ..., and `UpBlock2` (convolutions at 2 and 7, each followed by its norm, and the 7x7 at
11). The first layer of `FC` in the full form reads all pixels, so its width gives the images' size.
"""

import re
from math import isqrt

from vemcompress.networks.generators.ugatit import UGATITConfig
from vemcompress.weights.layouts import PADS, Layout, Mismatch, Read, Tensors, has, renamed, shape

_BLOCK = re.compile(r"DownBlock\.(\d{1,4})\.conv_block\.1\.weight")
_NAMES = {"stem": "DownBlock.1", "down1": "DownBlock.5", "down2": "DownBlock.9", "average": "gap_fc"}
_NAMES |= {"largest": "gmp_fc", "join": "conv1x1", "drive1": "FC.0", "drive2": "FC.2", "gamma": "gamma", "beta": "beta"}
_NAMES |= {"up1": "UpBlock2.2", "up1_norm": "UpBlock2.3", "up2": "UpBlock2.7", "up2_norm": "UpBlock2.8"}
_NAMES["head"] = "UpBlock2.11"


def _read(tensors: Tensors) -> Read:
    places = sorted({int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))})
    if not places or places != list(range(12, 12 + len(places))):
        raise Mismatch("its residual blocks are not the layers from DownBlock.12 on")
    names, blocks = dict(_NAMES), [f"DownBlock.{place}.conv_block" for place in places]
    for i, block in enumerate(blocks):
        names |= {f"encoder.{i}.conv1": f"{block}.1", f"encoder.{i}.conv2": f"{block}.5"}
        names[f"decoder.{i}"] = f"UpBlock1_{i + 1}"

    def outputs(name: str) -> int:
        return shape(tensors, f"{name}.weight")[0]

    decoder = outputs("conv1x1")
    drive = [_matrix(tensors, name) for name in ("FC.0.weight", "FC.2.weight")]
    config = UGATITConfig(
        in_channels=shape(tensors, "DownBlock.1.weight")[1],
        out_channels=outputs("UpBlock2.11"),
        widths=(*map(outputs, list(_NAMES.values())[:3]), decoder, outputs("UpBlock2.2"), outputs("UpBlock2.7")),
        blocks=tuple(outputs(f"{block}.1") for block in blocks),
        drive=(drive[0][0], drive[1][0]),
        full_size=_size(drive[0][1], decoder),
    )
    return config, renamed(names)


def _matrix(tensors: Tensors, name: str) -> tuple[int, int]:
    if name not in tensors or tensors[name].dim() != 2:
        raise Mismatch(f"{name!r} is {'missing' if name not in tensors else 'no matrix'}")
    return tuple(tensors[name].shape)


def _size(inputs: int, channels: int) -> int | None:
    """The images' side, from the width of the first layer of FC; None for the light form, which reads means."""
    if inputs == channels:
        return None
    side = isqrt(inputs // max(channels, 1))
    if side * side * channels != inputs:
        raise Mismatch(f"'FC.0.weight' reads {inputs} numbers, which is not a square image of {channels} channels")
    return 4 * side


UGATIT = Layout("U-GAT-IT", has("DownBlock.1.weight", "UpBlock1_1.norm1.rho", "conv1x1.weight"), _read, assumes=PADS)
