"""Commands that measure time: bench, bench-step."""

from typing import Annotated

import typer

from vemcompress.cli import completion, options


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folders, weights, hf://..., or exported files.",
            autocompletion=completion.models,
        ),
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="torch, onnxruntime, openvino, litert, ncnn, executorch (several by commas), or all. Default: the "
            "first two."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the image, in pixels. Default: 256, or the model's only one.")
    ] = None,
    threads: options.Threads = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs at most.")] = 50,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Also peak memory of each file.")] = True,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    device: options.LocalDevice = "cpu",
    json: options.Json = False,
) -> None:
    """Measure latency at batch 1, size and memory.

    Several models and runtimes take turns, so that their times compare. A PyTorch model is exported for each runtime;
    an exported file runs in its own. A runtime whose library is not installed is skipped with a note.
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.bench import bench as run
        from vemcompress.export.latency import is_exported
        from vemcompress.weights.loading import load
        from vemcompress.weights.trust import named

        about, found = {"key": teacher_key, "widths": widths, "padding": teacher_padding}, {}
        with named(teacher_class):
            for model in dict.fromkeys(models):
                if is_exported(model):
                    found[model] = model
                    continue
                loaded = load(model, class_path=teacher_class, range=teacher_range, **about)
                loaded.tell(on_event)
                found[model] = loaded.generator
        names = [name for part in runtime or () for name in part.split(",")]
        given = {"runtimes": "all" if "all" in names else names} if names else {}
        result = run(
            found,
            size=size,
            threads=threads,
            repeats=repeats,
            memory=memory,
            device=device,
            teacher_range=teacher_range,
            on_event=on_event,
            **given,
        )
    if len(found) == 1:  # a script that measures one model need not name it again
        result |= result.pop("models")[next(iter(found))]
    console.result(result, json, console.benched)


def bench_step(
    recipe: options.Recipe = "omgd",
    teacher: Annotated[str | None, typer.Option(help="Its teacher, as in distill.")] = None,
    data: options.Data = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random weights for the teacher and VGG16, without downloads.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="reference", help="Also time the plain float32 step, alternating in the same run."),
    ] = None,
    reference_precision: Annotated[str, typer.Option(help="fp32, or tf32 as PyTorch's own default.")] = "fp32",
    steps: Annotated[int | None, typer.Option(min=1, help="Measured after warm-up. Default: 5, on a GPU 50.")] = None,
    phase: Annotated[str, typer.Option(help="student or teacher, where they take turns.")] = "student",
    stage: Annotated[str | None, typer.Option(help="Of a recipe with stages. Default: the first that distils.")] = None,
    batch: options.Batch = None,
    size: options.TrainSize = None,
    precision: options.Precision = None,
    compile: options.Compile = None,
    threads: options.Threads = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure a training step: its parts, its share of the device's peak.

    Without --data, images are drawn. Ratios to the plain step come from one run; other figures of two runs do not
    compare where the machine does something else.
    """
    given = {"train.batch": batch, "data.size": size, "train.precision": precision, "train.compile": compile}
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.bench import bench_step as run

        result = run(
            recipe,
            teacher=teacher,
            data=data,
            overrides=options.overrides(given, set_),
            device=device,
            random_weights=random_weights,
            against=against,
            reference_precision=reference_precision,
            steps=steps,
            phase=phase,
            stage=stage,
            threads=threads,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.benched_step)
