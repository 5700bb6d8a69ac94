"""Layout of AnimeGANv2 (bryandlee/animegan2-pytorch).

`block_a` to `block_e` of units (convolution at 1, norm at 2), the residual blocks of `block_c` with `layers` (two
units, a convolution at 2, its norm at 3), and `out_layer.0`.
"""

import re

from vemcompress.networks.generators.animegan2 import AFTER, BEFORE, AnimeGAN2Config
from vemcompress.weights.layouts import PADS, Layout, Mismatch, Read, Tensors, has, renamed, shape

_BLOCK = re.compile(r"block_c\.(\d{1,4})\.layers\.2\.weight")


def _read(tensors: Tensors) -> Read:
    places = sorted({int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))})
    if not places or places != list(range(1, 1 + len(places))):
        raise Mismatch("its residual blocks are not the layers from block_c.1 on")
    units = {"a1": "a.0", "a2": "a.1", "a3": "a.2", "b1": "b.0", "b2": "b.1", "c1": "c.0", "c2": f"c.{len(places) + 1}"}
    units |= {"d1": "d.0", "d2": "d.1", "e1": "e.0", "e2": "e.1", "e3": "e.2"}
    units = {ours: f"block_{theirs}" for ours, theirs in units.items()}
    names = {"head": "out_layer.0"}
    for i, place in enumerate(places):
        layers = f"block_c.{place}.layers"
        units |= {f"blocks.{i}.expand": f"{layers}.0", f"blocks.{i}.spatial": f"{layers}.1"}
        names |= {f"blocks.{i}.project": f"{layers}.2", f"blocks.{i}.norm": f"{layers}.3"}
    for ours, theirs in units.items():
        names |= {f"{ours}.conv": f"{theirs}.1", f"{ours}.norm": f"{theirs}.2"}

    def outputs(name: str) -> int:
        return shape(tensors, f"{names[name]}.weight")[0]

    trunk, before = outputs("blocks.0.project"), outputs("c1.conv")
    if trunk == before:
        raise Mismatch(f"its first residual block has {trunk} channels on both sides, and therefore a skip")
    config = AnimeGAN2Config(
        in_channels=shape(tensors, "block_a.0.1.weight")[1],
        out_channels=outputs("head"),
        widths=(*(outputs(f"{name}.conv") for name in BEFORE), trunk, *(outputs(f"{name}.conv") for name in AFTER)),
        blocks=tuple(outputs(f"blocks.{i}.expand.conv") for i in range(len(places))),
    )
    return config, renamed(names)


ANIMEGAN2 = Layout(
    "AnimeGANv2",
    has("block_a.0.1.weight", "block_c.1.layers.2.weight"),
    _read,
    assumes=PADS | {"resize": "bilinear with aligned corners, within the network"},
)
