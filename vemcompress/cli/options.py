"""Options that several commands share, each declared once, and helpers of commands: the console, overrides."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, panels
from vemcompress.cli.help import GLOBAL_FLAGS
from vemcompress.system.keys import as_overrides

__all__ = ["GLOBAL_FLAGS"]

FILE = "A run folder, .safetensors, .pth or hf://user/repo[/file][@rev]."
OR_ONNX = "A run folder, .safetensors, .pth, .onnx or hf://user/repo[/file][@rev]."


def batch_of(text: str) -> int | str:
    """--batch as a number, or "auto". Raises UsageError."""
    from vemcompress.errors import UsageError

    if text == "auto":
        return text
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        most = ", with at most nine digits" if text.isdigit() and len(text) > 9 else ""
        raise UsageError(f"--batch {text:.40}: give a whole number of at least 1{most}, or auto.")
    return int(text)


def images_at_once(text: str) -> int | None:
    """Like `batch_of`; None means the number that fits the device."""
    found = batch_of(text)
    return None if found == "auto" else found


Weights = Annotated[str, typer.Argument(metavar="MODEL", help=FILE, autocompletion=completion.models)]
Model = Annotated[str, typer.Argument(metavar="MODEL", help=OR_ONNX, autocompletion=completion.models)]

Teacher = Annotated[
    str | None,
    panels.main(
        metavar="MODEL",
        help=f"The teacher. {OR_ONNX} Default: the run's or the recipe's.",
        autocompletion=completion.models,
    ),
]
Data = Annotated[
    list[Path] | None,
    panels.main(
        readable=False,
        metavar="DIR",
        help="Images: a folder, or the root of train/, test/, trainA/, ...; give it twice for two domains. Default: "
        "the run's or the recipe's.",
    ),
]
Recipe = Annotated[
    str | None,
    panels.main(metavar="NAME|FILE", help="A recipe's name or .toml file.", autocompletion=completion.recipes),
]
Out = Annotated[Path | None, panels.main("--out", "-o", readable=False, metavar="RUN", help="The new run folder.")]
Resume = Annotated[
    Path | None,
    panels.main(readable=False, metavar="RUN", help="Continue this run.", autocompletion=completion.runs),
]
Set = Annotated[list[str] | None, panels.main("--set", metavar="KEY=VALUE", help="Override a recipe key.")]
DryRun = Annotated[
    bool, panels.main("--dry-run", help="Check everything, print the plan, memory and time, and write nothing.")
]

Recursive = Annotated[bool, panels.data("--recursive", help="Include images in sub-folders.")]
Split = Annotated[str | None, panels.data(metavar="NAME", help="Which part of a data set. Default: test, testA.")]
SetData = Annotated[
    list[str] | None, panels.data("--set", metavar="KEY=VALUE", help="Override a data key, such as data.kind=paired.")
]
Direction = Annotated[str | None, panels.data(metavar="AtoB|BtoA", help="Which side is the input (data.direction).")]
TrainSize = Annotated[int | None, panels.data(metavar="N", help="Side of the training images, in pixels (data.size).")]
Measured = Annotated[
    int | None, panels.data(min=1, max=4096, metavar="N", help="Side of the square images, in pixels.")
]
MacsSize = Annotated[
    int | None,
    panels.main(
        min=1,
        max=2**16,
        metavar="N",
        help="Side of the image for counting MACs. Default: 256, or the model's fixed size.",
    ),
]

Steps = Annotated[int | None, panels.training(metavar="N", help="Number of training steps (train.steps).")]
Epochs = Annotated[
    float | None, panels.training(metavar="N", help="Number of epochs, instead of --steps (train.epochs).")
]
Batch = Annotated[
    str | None,
    panels.training(
        metavar="N|auto",
        parser=batch_of,
        help="Images per step, over all processes (train.batch); auto: the largest that fits, at most 64.",
    ),
]
LearningRate = Annotated[float | None, panels.training("--lr", metavar="X", help="Learning rate (train.lr).")]
Seed = Annotated[int | None, panels.training(metavar="N", help="Seed of the run (train.seed).")]
Strict = Annotated[
    bool | None, panels.training("--strict", help="Exit with code 5 if the run diverges (train.strict).")
]

Width = Annotated[int | None, panels.student(metavar="N", help="The student's width (student.width). Default: 16.")]
StudentClass = Annotated[
    str | None, panels.student(metavar="MODULE:CLASS", help="The student's class, if it is your own.")
]
TargetMacs = Annotated[str | None, panels.goals(metavar="MACS", help="At most this many MACs: 2.6e9, 1.2G, 350M.")]
TargetLatency = Annotated[
    str | None, panels.goals(metavar="TIME", help="Longest time per image, measured on this machine: 20ms, 0.5s.")
]
TargetSize = Annotated[str | None, panels.goals(metavar="SIZE", help="Largest .onnx file: 500KB, 2MB, 512KiB.")]
On = Annotated[
    str | None,
    panels.goals(metavar="NAME", help="Runtime of --target-latency: onnxruntime (default), torch or openvino."),
]
GoalThreads = Annotated[
    int | None,
    panels.goals(min=1, max=os.cpu_count(), metavar="N", help="Threads for --target-latency. Default: all cores."),
]
CountAs = Annotated[str, panels.goals(metavar="NAME", help="Which MACs: true, paper or paper_norm.")]

TeacherClass = Annotated[
    str | None,
    panels.checkpoint(
        metavar="MODULE:CLASS",
        help="Your own generator's class, imported from the current folder and trusted from then on.",
    ),
]
TeacherKey = Annotated[
    str | None,
    panels.checkpoint(metavar="NAME", help="The generator's name in a file that has several, such as netG_B."),
]
TeacherPadding = Annotated[
    str | None,
    panels.checkpoint(metavar="NAME", help="reflect, replicate or zero, if the file does not state the padding."),
]
TeacherRange = Annotated[
    str | None,
    panels.checkpoint(
        metavar="RANGE", help="Pixel range of your own class or .onnx file: 0..255, 0..1, -1..1, or IN:OUT."
    ),
]
Widths = Annotated[
    str | None,
    panels.checkpoint(metavar="16_16_32_...", help="Use the supernet's sub-network of these widths."),
]

Metric = Annotated[list[str] | None, panels.metrics(metavar="NAME", help="Only this metric. May be repeated.")]
Real = Annotated[
    Path | None,
    panels.metrics(
        readable=False,
        metavar="DIR|NPZ",
        help="Real images, or .npz statistics, for FID and KID. Default: the targets.",
    ),
]
Segmenter = Annotated[
    Path | None,
    panels.metrics(readable=False, metavar="FILE", help="For mIoU: an .onnx file, or DRN-D-105's weights."),
]
Samples = Annotated[
    int | None,
    panels.metrics(min=1, max=10**7, metavar="N", help="Number of images to draw, for latent vectors. Default: 10000."),
]
Inception = Annotated[
    Path | None,
    panels.metrics(readable=False, metavar="FILE", help="Inception's weights, instead of the download."),
]
Features = Annotated[
    str | None, panels.metrics(metavar="NAME", help="A second feature network: squeezenet1_1[_caffe].")
]
FeaturesWeights = Annotated[
    Path | None, panels.metrics(readable=False, metavar="FILE", help="The weights of --features.")
]

Device = Annotated[str, panels.machine(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Images = Annotated[
    str | None,
    panels.machine(
        "--batch",
        metavar="N|auto",
        parser=images_at_once,
        help="Images at a time. auto, the default, fits the device: 8, on CUDA up to 64.",
    ),
]
MicroBatch = Annotated[
    int | None, panels.machine(metavar="N", help="Images of a batch processed at a time (train.micro_batch).")
]
MaxHours = Annotated[
    float | None, panels.machine(metavar="X", help="Save and exit before this many hours have passed.")
]
Threads = Annotated[
    int | None, panels.machine(min=1, max=os.cpu_count(), metavar="N", help="CPU threads. Default: all cores.")
]
Precision = Annotated[str | None, panels.machine(metavar="NAME", help="fp32, tf32 or bf16 (train.precision).")]
Compile = Annotated[
    bool | None, panels.machine("--compile", help="Use torch.compile, with CUDA graphs on a GPU (train.compile).")
]
Tensorboard = Annotated[
    bool, panels.output("--tensorboard", help="Write event files for TensorBoard to RUN/tensorboard (optional extra).")
]
Json = Annotated[bool, panels.output("--json", help="Print the result as JSON on stdout.")]


def open_console():
    from vemcompress.console import Console

    return Console(quiet="--quiet" in sys.argv)


def overrides(given: dict, more: list[str] | None) -> list[str]:
    """Overrides from options that stand for recipe keys, then those of --set."""
    return as_overrides(given) + (more or [])


def weights_only(model: str) -> None:
    from vemcompress.errors import InputError

    if model.lower().endswith(".onnx"):
        raise InputError(f"{model}: an ONNX file cannot be used here; give the run or the weights that it came from.")


def macs_of(text: str) -> int:
    """--target-macs as a number: 1.2G, 350M, 20k, 2.6e9."""
    from vemcompress.errors import UsageError

    scale = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}.get(text[-1:].lower(), 1)
    try:
        return round(float(text[:-1] if scale > 1 else text) * scale)
    except (ValueError, OverflowError):
        raise UsageError(f"--target-macs {text}: write a number, such as 1.2G or 350M.") from None
