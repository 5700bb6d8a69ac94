"""Convert a small network of each family to each format, and print what came of it as docs/devices.md has it; not a
test.

`python tests/bench_formats.py [FAMILY,...] [FORMAT,...]`: all by default, some ten minutes on two cores. A cell is the
largest difference from PyTorch in float32, whose own `rounding` has a column; "converted" where only a Mac runs the
file; or the number of a footnote that says why there is none. ExecuTorch cells also have the number of XNNPACK's parts.
"""

import sys
import tempfile
from pathlib import Path

import torch
from export_toys import as_trained
from torch import nn

from vemcompress.errors import VemError
from vemcompress.export.deploy import deployment_copy
from vemcompress.export.exporting import export
from vemcompress.export.formats import FORMATS
from vemcompress.networks import GENERATORS

LEFT_OUT = {"agd_supernet"}  # it is exported as the network that it has found, of the family agd
BLOCKS = {"blocks": 2}
SIDE = 64  # pixels; the families from latent vectors have their own
SHAPES = {
    **dict.fromkeys(
        ("resnet", "mobile_resnet", "cartoongan", "inception_resnet", "fast_neural_style", "animegan2"), BLOCKS
    ),
    **dict.fromkeys(("ugatit", "local_enhancer", "deep_mobile_resnet", "srgan", "srvgg", "rrdb"), BLOCKS),
    "resampled_resnet": BLOCKS | {"downsample": "blur", "upsample": "bilinear"},
    "unet": {"downs": 5},
    "deep_unet": {"downs": 5},
    "agd": {"cells": 2},
    "dcgan": {"levels": 3, "latent": 16},
    "sagan": {"levels": 3, "latent": 16},
    "stylegan2": {"size": 32, "latent": 16, "mapping": 2},
}


def network(family: str) -> nn.Module:
    """Random weights of width 8 whose norms and attention are at work."""
    return as_trained({"family": family, "width": 8} | SHAPES[family])


def cell(made: nn.Module, name: str, notes: list[str]) -> str:
    size = SIDE if made.takes.kind == "image" else None
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = export(made, Path(folder, "model"), formats=(name,), size=size)[0]
        except VemError as error:
            why = str(error)
            if why not in notes:
                notes.append(why)
            return f"no [{notes.index(why) + 1}]"
    parts = found.metadata.get("xnnpack_parts")
    told = "converted" if found.max_abs_diff is None else f"{found.max_abs_diff:.0e}"
    return told if parts is None else f"{told}, {parts}"


def rounding(made: nn.Module) -> str:
    """The largest difference between PyTorch in float32 and in float64: what a format cannot be asked to beat."""
    single, takes = deployment_copy(made), made.takes
    shape = (1, takes.channels, SIDE, SIDE) if takes.kind == "image" else (1, takes.size)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        return f"{(single(x) - single.double()(x.double())).abs().max():.0e}"


def main(families: str = "", formats: str = "") -> None:
    names = formats.split(",") if formats else list(FORMATS)
    kinds = families.split(",") if families else [kind for kind in GENERATORS if kind not in LEFT_OUT]
    notes: list[str] = []
    print("| family | rounding | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    for kind in kinds:
        made = network(kind)
        print(
            f"| {kind} | {rounding(made)} | " + " | ".join(cell(made, name, notes) for name in names) + " |", flush=True
        )
    for number, note in enumerate(notes, 1):
        print(f"[{number}] {note}")


if __name__ == "__main__":
    main(*sys.argv[1:])
