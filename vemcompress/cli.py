"""The command line: parse, call, render. Heavy imports wait for the command, so that --help answers at once."""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="vemcompress",
    help="Compress pretrained GAN generators: distil a small student (OMGD + VEM), measure it, export it to ONNX.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
recipes_app = typer.Typer(help="List and show recipes.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
TeacherClass = Annotated[
    str | None, typer.Option(metavar="MODULE:CLASS", help="Your own generator's class, imported from this folder.")
]
Weights = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, .safetensors, .pth or hf://...")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, .safetensors, .pth, hf://... or .onnx.")]
Size = Annotated[int | None, typer.Option(min=1, help="Side of the square images, in pixels.")]

GLOBAL_FLAGS = {
    "--debug": "Show the traceback of an error.",
    "--quiet": "No progress and no notes, only results and errors.",
}


@app.callback()
def _globals(
    debug: Annotated[bool, typer.Option("--debug", help=GLOBAL_FLAGS["--debug"])] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help=GLOBAL_FLAGS["--quiet"])] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from vemcompress import __version__

        print(__version__)
        raise typer.Exit


def _console():
    from vemcompress.console import Console

    return Console(quiet="--quiet" in sys.argv)


@app.command()
def distill(
    teacher: Annotated[
        str | None, typer.Option(help="A checkpoint, a run folder or hf://user/repo[/file][@rev].")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(readable=False, help="A folder of images, or of trainA/. May be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(readable=False, help="The new run folder.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or .toml file.")] = "omgd",
    resume: Annotated[Path | None, typer.Option(readable=False, metavar="RUN", help="Go on with this run.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")] = None,
    steps: Annotated[int | None, typer.Option(help="train.steps")] = None,
    epochs: Annotated[float | None, typer.Option(help="train.epochs")] = None,
    size: Annotated[int | None, typer.Option(help="data.size")] = None,
    batch: Annotated[int | None, typer.Option(help="train.batch")] = None,
    lr: Annotated[float | None, typer.Option(help="train.lr")] = None,
    seed: Annotated[int | None, typer.Option(help="train.seed")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="A run for each, in OUT/seed-N; mean and spread over them.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16 (train.precision)")] = None,
    width: Annotated[int | None, typer.Option(help="The student's width (16).")] = None,
    target_macs: Annotated[
        str | None, typer.Option(help="The widest student of at most so many true MACs: 1.2G")
    ] = None,
    teacher_class: TeacherClass = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Distil a teacher into a small student.

    A new run takes --teacher, --data and --out; --resume RUN goes on with one, or with several that --seeds made. Any
    recipe key can be set with --set.
    """
    from vemcompress.errors import UsageError

    if resume is not None and out is not None:
        raise UsageError("--resume goes on in its own folder; leave --out away.")
    if resume is not None and (teacher or data or teacher_class or recipe != "omgd"):
        raise UsageError(
            "--resume takes teacher, data and recipe from the run; leave --teacher, --data, --recipe away."
        )
    given = {
        "train.steps": steps,
        "train.epochs": epochs,
        "data.size": size,
        "train.batch": batch,
        "train.lr": lr,
        "train.seed": seed,
        "train.precision": precision,
        "student.width": width,
        "student.target_macs": None if target_macs is None else _count(target_macs),
        "teacher.class_path": teacher_class,
    }
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None] + (set_ or [])
    numbers = None if seeds is None else _seeds(seeds)
    console = _console()
    with console.talking() as on_event:
        from vemcompress.distil import distill as run
        from vemcompress.seeds import are_in, distill_seeds

        several = numbers is not None or (resume is not None and are_in(resume))
        result = (partial(distill_seeds, numbers) if several else run)(
            teacher,
            data=data or (),
            out=out,
            recipe=recipe,
            overrides=overrides,
            resume=resume,
            device=device,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.distilled_seeds if several else console.distilled)


@app.command()
def teach(
    data: Annotated[
        list[Path] | None, typer.Option(readable=False, help="The root of the pairs or domains, or A and B.")
    ] = None,
    out: Annotated[Path | None, typer.Option(readable=False, help="The new run folder.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe with a [gan], or its .toml file.")] = "pix2pix",
    teacher: Annotated[str | None, typer.Option(help="Start from these weights.")] = None,
    resume: Annotated[Path | None, typer.Option(readable=False, metavar="RUN", help="Go on with this run.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")] = None,
    direction: Annotated[str | None, typer.Option(help="AtoB or BtoA (data.direction)")] = None,
    steps: Annotated[int | None, typer.Option(help="train.steps")] = None,
    epochs: Annotated[float | None, typer.Option(help="train.epochs")] = None,
    size: Annotated[int | None, typer.Option(help="data.size")] = None,
    batch: Annotated[int | None, typer.Option(help="train.batch")] = None,
    seed: Annotated[int | None, typer.Option(help="train.seed")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16 (train.precision)")] = None,
    width: Annotated[int | None, typer.Option(help="The teacher's width (teacher.network.width)")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a teacher where there is none.

    By Pix2Pix from pairs, by CycleGAN from two domains. The run is a teacher for distill, which reads its weights.
    """
    from vemcompress.errors import UsageError

    if resume is not None and (out or teacher or data or recipe != "pix2pix"):
        raise UsageError("--resume takes data, recipe and folder from the run; leave them away.")
    given = {
        "data.direction": direction,
        "train.steps": steps,
        "train.epochs": epochs,
        "data.size": size,
        "train.batch": batch,
        "train.seed": seed,
        "train.precision": precision,
        "teacher.network.width": width,
    }
    overrides = [f"{key}={value}" for key, value in given.items() if value is not None] + (set_ or [])
    console = _console()
    with console.talking() as on_event:
        from vemcompress.teach import teach as run

        result = run(
            data=data or (),
            out=out,
            recipe=recipe,
            teacher=teacher,
            overrides=overrides,
            resume=resume,
            device=device,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.taught)


@app.command("eval")
def evaluate(
    model: Weights,
    data: Annotated[
        list[Path] | None, typer.Option(help="Test images, or a root of test/ or testA/. Default: the run's.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part of a data set. Default: test, testA.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What the data are: data.kind=paired.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Compare with this teacher. Default: the run's.")] = None,
    teacher_class: TeacherClass = None,
    teacher_norm: Annotated[str | None, typer.Option(help="eval, or batch: BatchNorm by each image.")] = None,
    real: Annotated[
        Path | None,
        typer.Option(readable=False, help="Real images, or .npz statistics, for FID and KID. Default: the targets."),
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(readable=False, help="For mIoU: an .onnx file, or DRN-D-105's weights.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only these metrics. May be repeated.")] = None,
    inception: Annotated[
        Path | None, typer.Option(readable=False, help="Inception's weights, instead of the download.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="A second feature network: squeezenet1_1[_caffe].")] = None,
    features_weights: Annotated[Path | None, typer.Option(readable=False, help="Its weights.")] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    seed: Annotated[int, typer.Option(help="Of KID's subsets.")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score a student beside its teacher.

    Fidelity to the teacher and to the ground truth (SSIM, PSNR, L1) where there are any; FID and KID where there are
    real images and Inception's weights; mIoU where there are label maps and --segmenter. A run's best checkpoint is
    scored beside its last. Of a folder that distill --seeds made: mean and spread over its runs.
    """
    console = _console()
    _weights_only(model)
    with console.talking() as on_event:
        from vemcompress.assess import evaluate as run
        from vemcompress.seeds import are_in, evaluate_seeds

        several = are_in(model)
        result = (evaluate_seeds if several else run)(
            model,
            data=data,
            split=split,
            overrides=set_ or (),
            teacher=teacher,
            teacher_class=teacher_class,
            teacher_norm=teacher_norm,
            segmenter=segmenter,
            size=size,
            device=device,
            on_event=on_event,
            metrics=metric,
            real=real,
            inception=inception,
            features=features,
            features_weights=features_weights,
            batch=batch,
            seed=seed,
        )
    console.result(result.as_dict(), json, console.evaluated_seeds if several else console.evaluated)


@app.command()
def stats(
    data: Annotated[Path, typer.Argument(readable=False, metavar="DIR", help="A folder of real images.")],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .npz to write.")],
    inception: Annotated[
        Path | None, typer.Option(readable=False, help="Inception's weights, instead of the download.")
    ] = None,
    features: Annotated[str, typer.Option(help="inception, or squeezenet1_1[_caffe].")] = "inception",
    features_weights: Annotated[Path | None, typer.Option(readable=False, help="SqueezeNet's weights.")] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Save real images' statistics for eval --real."""
    console = _console()
    with console.talking() as on_event:
        from vemcompress.assess import real_statistics

        result = real_statistics(
            data,
            out,
            features=features,
            weights=features_weights or inception,
            size=size,
            batch=batch,
            device=device,
            on_event=on_event,
        )
    console.result(result, json, console.table)


@app.command()
def export(
    model: Weights,
    onnx: Annotated[Path, typer.Option(readable=False, help="The .onnx file to write.")],
    uint8: Annotated[bool, typer.Option("--uint8", help="uint8 N x H x W x C in and out, any size.")] = False,
    size: Size = None,
    opset: Annotated[int, typer.Option(help="ONNX opset, 18 to 23.")] = 18,
    tolerance: Annotated[float, typer.Option(help="Largest difference from PyTorch that is accepted.")] = 1e-4,
    teacher_class: TeacherClass = None,
    json: Json = False,
) -> None:
    """Export to ONNX, checked against PyTorch.

    The file is compared in ONNX Runtime at two batch sizes and two image sizes before it is written.
    """
    console = _console()
    _weights_only(model)
    with console.talking() as on_event:
        from vemcompress.export.onnx import export_onnx, origin
        from vemcompress.weights.loading import load

        loaded = load(model, class_path=teacher_class)
        result = export_onnx(
            loaded.generator,
            onnx,
            uint8=uint8,
            size=size,
            opset=opset,
            tolerance=tolerance,
            metadata=origin(loaded),
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.exported)


@app.command()
def generate(
    model: Model,
    input: Annotated[
        Path, typer.Option("--input", "-i", readable=False, help="A photo, or a folder of photos, of any size.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The folder for the pictures.")],
    size: Annotated[int | None, typer.Option(min=1, help="Resize the shorter side first.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos of equal size at a time.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Run photos through a model.

    Photos of any size; an .onnx file needs no PyTorch.
    """
    console = _console()
    with console.talking() as on_event:
        from vemcompress.generate import generate as run

        result = run(model, input, out, size=size, batch=batch, device=device, on_event=on_event)
    console.result(result.as_dict(), json, console.generated)


@app.command()
def bench(
    model: Model,
    size: Annotated[int, typer.Option(min=1, help="Side of the image, in pixels.")] = 256,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs at most.")] = 50,
    teacher_class: TeacherClass = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Measure latency at batch 1: p50 and p95."""
    console = _console()
    with console.talking() as on_event:
        from vemcompress.export.latency import bench as run

        target = model
        if not model.lower().endswith(".onnx"):
            from vemcompress.weights.loading import load

            target = load(model, class_path=teacher_class).generator
        result = run(target, size=size, threads=threads, repeats=repeats, device=device, on_event=on_event)
    console.result(result, json, console.benched)


@app.command()
def inspect(
    model: Weights,
    size: Annotated[int, typer.Option(min=1, help="Side of the image that MACs are counted for.")] = 256,
    teacher_class: TeacherClass = None,
    json: Json = False,
) -> None:
    """Say what a checkpoint is: family, MACs, taps."""
    console = _console()
    _weights_only(model)
    with console.talking():
        from vemcompress.weights.inspect import describe
        from vemcompress.weights.loading import load

        result = describe(load(model, class_path=teacher_class), size, size)
    console.result(result, json, console.table)


@recipes_app.command("list")
def recipes_list(json: Json = False) -> None:
    """The shipped recipes."""
    from vemcompress import recipe

    names = {name: recipe.read(name).description for name in recipe.shipped()}
    _console().result(names, json, lambda values: _console().table(values))


@recipes_app.command("show")
def recipes_show(
    name: Annotated[str, typer.Argument(help="A recipe's name or .toml file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    json: Json = False,
) -> None:
    """A recipe with every default written out, as TOML.

    Of a row of the paper also its figures beside ours, as comments.
    """
    from vemcompress import paper, recipe

    found, console = recipe.read(name, set_ or []), _console()
    values = found.model_dump(mode="json")
    if found.paper:
        values["ours"] = paper.row(found)
    console.result(values, json, lambda values: console.recipe(values, found.toml()))


@app.command()
def quickstart(
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="The folder for everything it makes.")
    ] = Path("quickstart"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """The whole tool once, in a few minutes.

    On an embedded teacher and drawn images: no network and no data needed.
    """
    console = _console()
    with console.talking() as on_event:
        from vemcompress.quickstart.tour import tour

        result = tour(out, steps=steps, device=device, on_event=on_event)
    console.result(result, json, console.toured)


def _weights_only(model: str) -> None:
    from vemcompress.errors import InputError

    if model.lower().endswith(".onnx"):
        raise InputError(f"{model}: an ONNX file cannot be used here; give the run or the weights that it came from.")


def _count(text: str) -> int:
    """1.2G, 350M, 20k or a plain number."""
    from vemcompress.errors import UsageError

    scale = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}.get(text[-1:].lower(), 1)
    try:
        return round(float(text[:-1] if scale > 1 else text) * scale)
    except (ValueError, OverflowError):
        raise UsageError(f"--target-macs {text}: write a number, such as 1.2G or 350M.") from None


def _seeds(text: str) -> list[int]:
    from vemcompress.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text}: write whole numbers with commas, such as 1,2,3.") from None


def _leave(number: int, frame) -> None:
    """Interrupted outside training, which saves first: say so and leave at once, even in the middle of an import."""
    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
    os.write(2, f"{cursor}error: interrupted.\n".encode())
    os._exit(130)


def main() -> None:
    """Entry point: turns an expected failure into one sentence and its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    flags = [flag for flag in GLOBAL_FLAGS if flag in sys.argv]
    arguments = flags + [a for a in sys.argv[1:] if a not in GLOBAL_FLAGS]  # global flags may stand anywhere
    try:
        app(arguments, prog_name="vemcompress")
    except SystemExit:
        raise
    except BaseException as error:
        if "--debug" in flags:
            raise
        from vemcompress.console import explain

        raise SystemExit(explain(error)) from None


if __name__ == "__main__":
    main()
