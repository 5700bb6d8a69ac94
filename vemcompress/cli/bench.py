"""Commands that measure time: bench, bench-step."""

from typing import Annotated

import typer

from vemcompress.cli import completion, groups, options, panels
from vemcompress.cli.groups import grouped, keys_of
from vemcompress.system.keys import DistillKeys


@grouped
def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folders, weights, hf://..., or exported files.",
            autocompletion=completion.models,
        ),
    ],
    model_file: groups.ModelFile,
    runtime: Annotated[
        list[str] | None,
        panels.main(
            metavar="NAME",
            help="torch, onnxruntime, openvino, litert, ncnn, executorch (several with commas), or all. Default: the "
            "first two.",
        ),
    ] = None,
    size: Annotated[
        int | None,
        panels.main(min=1, metavar="N", help="Side of the image, in pixels. Default: 256, or the model's fixed size."),
    ] = None,
    repeats: Annotated[int, panels.main(min=1, metavar="N", help="Maximum number of timed runs.")] = 50,
    memory: Annotated[bool, panels.main("--memory/--no-memory", help="Also measure each file's peak memory.")] = True,
    threads: options.Threads = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Measure latency at batch 1, size and memory.

    Several models and runtimes alternate, so that their times can be compared. A PyTorch model is exported for each
    runtime; an exported file runs in its own. A runtime whose library is not installed is skipped with a note. Runtimes
    other than PyTorch and ONNX Runtime run on the CPU, so that is the default device. The latency of a run folder is
    stored in it, and shown in its report.

    Examples:

        vemcompress bench runs/h2z
        vemcompress bench runs/h2z student.tflite --runtime all --threads 1
        vemcompress bench latest_net_G.pth --size 512 --device auto
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.bench import bench_models as run

        names = [name for part in runtime or () for name in part.split(",")]
        given = {"runtimes": "all" if "all" in names else names} if names else {}
        result = run(
            models,
            size=size,
            threads=threads,
            repeats=repeats,
            memory=memory,
            device=device,
            **vars(model_file),
            on_event=on_event,
            **given,
        ).as_dict()
    if len(result["models"]) == 1:  # a script that measures one model need not name it again
        result |= result.pop("models").popitem()[1]
    console.result(result, json, console.benched)


@grouped
def bench_step(
    teacher_file: groups.TeacherFile,
    recipe: options.Recipe = None,
    teacher: options.Teacher = None,
    data: options.Data = None,
    set_: options.Set = None,
    random_weights: Annotated[
        bool, panels.main("--random-weights", help="Use random weights for teacher and VGG16; no downloads.")
    ] = False,
    against: Annotated[
        str | None,
        panels.method(metavar="reference", help="Also time the plain float32 step, alternating in the same run."),
    ] = None,
    reference_precision: Annotated[
        str, panels.method(metavar="NAME", help="fp32, or tf32 as PyTorch's own default.")
    ] = "fp32",
    steps: Annotated[
        int | None, panels.method(min=1, metavar="N", help="Steps to measure, after warm-up. Default: 5, on a GPU 50.")
    ] = None,
    phase: Annotated[
        str, panels.method(metavar="NAME", help="student or teacher, if they are trained alternately.")
    ] = "student",
    stage: Annotated[
        str | None, panels.runs(metavar="NAME", help="A stage of the recipe. Default: the first that distils.")
    ] = None,
    size: options.TrainSize = None,
    batch: options.Batch = None,
    precision: options.Precision = None,
    compile: options.Compile = None,
    threads: options.Threads = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure a training step: its parts, and its share of the device's peak.

    Without --data, random images are used. The ratio to the plain step is measured within one run. Other figures of two
    runs are comparable only if the machine does nothing else. The default recipe is omgd.

    Examples:

        vemcompress bench-step --random-weights
        vemcompress bench-step --teacher latest_net_G.pth --data photos/ --batch 4
        vemcompress bench-step --recipe omgd_online --random-weights \\
            --against reference --steps 3
    """
    given = keys_of(DistillKeys, teacher_file, batch=batch, size=size, precision=precision, compile=compile)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.bench import bench_step as run

        result = run(
            recipe or "omgd",
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
