"""Options that several commands share, and the two things that each command needs: a console, overrides."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion
from vemcompress.system.keys import as_overrides

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
LocalDevice = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Inception = Annotated[Path | None, typer.Option(readable=False, help="Inception's weights, instead of the download.")]
MacsSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2**16,
        help="Side of the image for counting MACs. Default: 256, or the model's only size.",
    ),
]
Recipe = Annotated[str, typer.Option(help="A recipe's name or .toml file.", autocompletion=completion.recipes)]
Teacher = Annotated[
    str | None,
    typer.Option(help="A checkpoint, a run folder or hf://user/repo[/file][@rev].", autocompletion=completion.models),
]
TeacherClass = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CLASS",
        help="Your own generator's class, imported from the current folder and trusted from then on.",
    ),
]
StudentClass = Annotated[
    str | None, typer.Option(metavar="MODULE:CLASS", help="The student's class, if it is your own.")
]
TeacherKey = Annotated[
    str | None, typer.Option(metavar="NAME", help="The generator's name in a file that has several, such as netG_B.")
]
TeacherPadding = Annotated[
    str | None, typer.Option(help="reflect, replicate or zero, if the file does not state the padding.")
]
TeacherRange = Annotated[
    str | None,
    typer.Option(metavar="RANGE", help="Pixel range of your own class or .onnx file: 0..255, 0..1, -1..1, or IN:OUT."),
]
Widths = Annotated[
    str | None, typer.Option(metavar="16_16_32_...", help="Use the supernet's sub-network of these widths.")
]
Weights = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run folder, .safetensors, .pth or hf://...", autocompletion=completion.models
    ),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A run folder, .safetensors, .pth, hf://... or .onnx.", autocompletion=completion.models
    ),
]
TargetMacs = Annotated[str | None, typer.Option(help="At most this many MACs: 2.6e9, 1.2G. This, or --ratio.")]
TargetLatency = Annotated[
    str | None, typer.Option(metavar="TIME", help="Longest time per image, measured on this machine: 20ms, 0.5s.")
]
TargetSize = Annotated[str | None, typer.Option(metavar="SIZE", help="Largest .onnx file: 500KB, 2MB, 512KiB.")]
On = Annotated[str | None, typer.Option(help="Runtime of --target-latency: onnxruntime (default), torch or openvino.")]
GoalThreads = Annotated[
    int | None, typer.Option(min=1, max=os.cpu_count(), help="Threads for --target-latency. Default: all cores.")
]
Size = Annotated[int | None, typer.Option(min=1, help="Side of the square images, in pixels.")]
Measured = Annotated[int | None, typer.Option(min=1, max=4096, help="Side of the square images, in pixels.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(readable=False, help="A folder of images, or the root of trainA/, train/, ...; twice for A and B."),
]
Recursive = Annotated[bool, typer.Option("--recursive", help="Include images in sub-folders.")]
Out = Annotated[Path | None, typer.Option(readable=False, help="The new run folder.")]
Resume = Annotated[
    Path | None,
    typer.Option(readable=False, metavar="RUN", help="Continue this run.", autocompletion=completion.runs),
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")]
Direction = Annotated[str | None, typer.Option(help="Which side is the input: AtoB or BtoA (data.direction).")]
Steps = Annotated[int | None, typer.Option(help="Number of training steps (train.steps).")]
Epochs = Annotated[float | None, typer.Option(help="Number of epochs, instead of --steps (train.epochs).")]
TrainSize = Annotated[int | None, typer.Option(help="Side of the training images, in pixels (data.size).")]
Batch = Annotated[int | None, typer.Option(help="Images per step, over all processes (train.batch).")]
MicroBatch = Annotated[int | None, typer.Option(help="Images of a batch processed at a time (train.micro_batch).")]
Images = Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: 8, on CUDA up to 64.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the run (train.seed).")]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files for TensorBoard to RUN/tensorboard (optional extra).")
]
MaxHours = Annotated[float | None, typer.Option(help="Save and exit before this many hours have passed.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, memory and time, and write nothing.")
]
Threads = Annotated[int | None, typer.Option(min=1, max=os.cpu_count(), help="CPU threads. Default: all cores.")]
Precision = Annotated[str | None, typer.Option(help="fp32, tf32 or bf16 (train.precision).")]
Compile = Annotated[
    bool | None, typer.Option("--compile", help="torch.compile, with CUDA graphs on a GPU (train.compile).")
]
Strict = Annotated[bool | None, typer.Option("--strict", help="Exit with code 5 if the run diverges (train.strict).")]

GLOBAL_FLAGS = {
    "--debug": "Show the traceback of an error.",
    "--quiet": "No progress and no notes, only results and errors.",
}


def open_console():
    from vemcompress.console import Console

    return Console(quiet="--quiet" in sys.argv)


def overrides(given: dict, more: list[str] | None) -> list[str]:
    """Recipe keys that have options of their own, where they were given, and then those of --set."""
    return as_overrides(given) + (more or [])


def weights_only(model: str) -> None:
    from vemcompress.errors import InputError

    if model.lower().endswith(".onnx"):
        raise InputError(f"{model}: an ONNX file cannot be used here; give the run or the weights that it came from.")


def goal_of(latency: str | None, size: str | None, on: str | None) -> tuple[float | None, int | None]:
    """--target-latency in ms and --target-size in bytes. Raises UsageError for what is none, and an unknown --on."""
    from vemcompress.errors import UsageError
    from vemcompress.system.quantities import milliseconds, size_in_bytes

    def parsed(option: str, text: str | None, parse):
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise UsageError(f"{option}: {error}.") from None

    found = parsed("--target-latency", latency, milliseconds), parsed("--target-size", size, size_in_bytes)
    if on is not None:
        from vemcompress.export.goals.runtimes import check_runtime

        parsed("--on", on, check_runtime)
    return found


def macs_of(text: str) -> int:
    """--target-macs as a number: 1.2G, 350M, 20k, 2.6e9."""
    from vemcompress.errors import UsageError

    scale = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}.get(text[-1:].lower(), 1)
    try:
        return round(float(text[:-1] if scale > 1 else text) * scale)
    except (ValueError, OverflowError):
        raise UsageError(f"--target-macs {text}: write a number, such as 1.2G or 350M.") from None
