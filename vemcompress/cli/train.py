"""Commands that train, and the one that writes a recipe for them: distill, teach, init, quickstart."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, options
from vemcompress.system.keys import KEYS, DistillKeys, TeachKeys


def distill(
    teacher: options.Teacher = None,
    data: options.Data = None,
    out: options.Out = None,
    recipe: options.Recipe = "omgd",
    resume: options.Resume = None,
    set_: options.Set = None,
    direction: options.Direction = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    size: options.TrainSize = None,
    batch: options.Batch = None,
    micro_batch: options.MicroBatch = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (train.lr).")] = None,
    seed: options.Seed = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="One run per seed, in OUT/seed-N; prints mean and spread.")
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE", help="One run per recipe, add-on and seed of a .toml file."),
    ] = None,
    precision: options.Precision = None,
    compile: options.Compile = None,
    strict: options.Strict = None,
    width: Annotated[int | None, typer.Option(help="The student's width (16).")] = None,
    target_macs: Annotated[
        str | None, typer.Option(help="Build the widest student of at most this many true MACs: 1.2G")
    ] = None,
    target_latency: options.TargetLatency = None,
    target_size: options.TargetSize = None,
    on: options.On = None,
    threads: options.GoalThreads = None,
    multiple: Annotated[
        int | None, typer.Option(min=1, max=256, help="With a target: the width is a multiple of this number.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="The student to start from: a file, a run folder or hf://...")
    ] = None,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    student_class: options.StudentClass = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    dry_run: options.DryRun = False,
    tensorboard: options.Tensorboard = False,
    json: options.Json = False,
) -> None:
    """Distil a teacher into a small student.

    A new run needs --teacher, --data and --out. --resume RUN continues a run, the runs of --seeds or --matrix, or the
    stages of a recipe; give --teacher and --data again if the files have moved.

    --set sets any recipe key; stages.NAME.KEY sets it for one stage.
    """
    given = {KEYS[DistillKeys][name]: value for name, value in locals().items() if name in KEYS[DistillKeys]}
    from vemcompress.errors import UsageError
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)  # from here on, as heavy imports come later
    if dry_run and resume is not None:
        raise UsageError("--dry-run is for a new run; leave out --resume.")
    if resume is not None and out is not None:
        raise UsageError("--resume goes on in its own folder; leave out --out.")
    if resume is not None and recipe != "omgd":
        raise UsageError("--resume takes the recipe from the run; leave out --recipe.")
    if student_class and not student and resume is None and not recipe.endswith(".toml"):
        raise UsageError("--student-class needs --student, the file with its weights.")
    goal = options.goal_of(target_latency, target_size, on)
    given["student.target_latency"], given["student.target_size"] = goal
    given["student.target_macs"] = None if target_macs is None else options.macs_of(target_macs)
    overrides = options.overrides(given, set_)
    numbers = None if seeds is None else _seeds(seeds)
    if until is not None and numbers is not None:
        raise UsageError("--seeds makes all stages of each seed; leave out --until.")
    if matrix is not None and (numbers is not None or until is not None or recipe != "omgd"):
        raise UsageError("--matrix has recipes and seeds of its own; leave out --recipe, --seeds and --until.")
    if dry_run and (matrix is not None or numbers is not None or until is not None):
        raise UsageError("--dry-run is of one run; leave out --matrix, --seeds and --until.")
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.distill import distill as run
        from vemcompress.commands.matrix import distill_matrix
        from vemcompress.commands.seeds import distill_seeds
        from vemcompress.runs.series import is_series

        several = numbers is not None or (until is None and resume is not None and is_series(resume, "seeds"))
        whole = matrix is not None or (until is None and resume is not None and is_series(resume, "matrix"))
        one = partial(distill_seeds, numbers) if several else partial(run, until=until, dry_run=dry_run)
        result = (partial(distill_matrix, matrix) if whole else partial(one, recipe=recipe))(
            teacher,
            data=data or (),
            out=out,
            overrides=overrides,
            resume=resume,
            device=device,
            max_hours=limit,
            tensorboard=tensorboard,
            on_event=on_event,
        )
    show = console.made_matrix if whole else console.distilled_seeds if several else console.made
    show = console.tried if dry_run else show
    console.result(result.as_dict(), json, show)
    if whole and result.exit_code:
        raise typer.Exit(result.exit_code)


def teach(
    data: options.Data = None,
    out: options.Out = None,
    recipe: Annotated[
        str, typer.Option(help="A recipe with a [gan], or its .toml file.", autocompletion=completion.recipes)
    ] = "pix2pix",
    teacher: Annotated[str | None, typer.Option(help="Start from these weights.")] = None,
    resume: options.Resume = None,
    set_: options.Set = None,
    direction: options.Direction = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    size: options.TrainSize = None,
    batch: options.Batch = None,
    micro_batch: options.MicroBatch = None,
    seed: options.Seed = None,
    precision: options.Precision = None,
    compile: options.Compile = None,
    strict: options.Strict = None,
    width: Annotated[int | None, typer.Option(help="The teacher's width (teacher.network.width)")] = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    dry_run: options.DryRun = False,
    tensorboard: options.Tensorboard = False,
    json: options.Json = False,
) -> None:
    """Train a teacher if you have none.

    By Pix2Pix from pairs, by CycleGAN from two domains, or by another recipe. The run folder is a teacher for distill.
    """
    given = {KEYS[TeachKeys][name]: value for name, value in locals().items() if name in KEYS[TeachKeys]}
    from vemcompress.errors import UsageError
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)  # from here on, as heavy imports come later
    if resume is not None and (out or recipe != "pix2pix"):
        raise UsageError("--resume takes recipe and folder from the run; leave out --recipe and --out.")
    overrides = options.overrides(given, set_)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.teach import teach as run

        result = run(
            data=data or (),
            out=out,
            recipe=recipe,
            teacher=teacher,
            overrides=overrides,
            resume=resume,
            device=device,
            max_hours=limit,
            tensorboard=tensorboard,
            dry_run=dry_run,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.tried if dry_run else console.taught)


def init(
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, metavar="FILE", help="The .toml file to write.")],
    teacher: options.Teacher = None,
    data: options.Data = None,
    recipe: options.Recipe = "omgd",
    set_: options.Set = None,
    size: options.TrainSize = None,
    width: Annotated[int | None, typer.Option(help="The student's width (16).")] = None,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    json: options.Json = False,
) -> None:
    """Write a commented recipe for a teacher and data.

    With everything that distill would decide, so that it can be read and changed first. It names teacher and data:
    distill --recipe FILE --out RUN makes the run.
    """
    given = {KEYS[DistillKeys][name]: value for name, value in locals().items() if name in KEYS[DistillKeys]}
    overrides = options.overrides(given, set_)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.init import init as run

        result = run(teacher, data=data or (), out=out, recipe=recipe, overrides=overrides, on_event=on_event)
    console.result(result.as_dict(), json, console.table)


def quickstart(
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="The folder for everything it makes.")
    ] = Path("quickstart"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Try the whole tool, in a few minutes.

    It uses an embedded teacher and drawn images, and needs neither network nor data.
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.quickstart.tour import tour

        result = tour(out, steps=steps, device=device, on_event=on_event)
    console.result(result, json, console.toured)


def _seeds(text: str) -> list[int]:
    from vemcompress.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text}: write whole numbers with commas, such as 1,2,3.") from None
