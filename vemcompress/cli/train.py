"""Commands that train, and the one that writes a recipe for them: distill, teach, init, quickstart."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import groups, options, panels
from vemcompress.cli.groups import grouped, keys_of
from vemcompress.system.keys import DistillKeys, TeachKeys


@grouped
def distill(
    teacher_file: groups.TeacherFile,
    training: groups.Training,
    goals: groups.Goals,
    teacher: options.Teacher = None,
    data: options.Data = None,
    out: options.Out = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    resume: options.Resume = None,
    dry_run: options.DryRun = False,
    seeds: Annotated[
        str | None, panels.runs(metavar="1,2,3", help="One run per seed, in OUT/seed-N; prints mean and spread.")
    ] = None,
    matrix: Annotated[
        Path | None,
        panels.runs(readable=False, metavar="FILE", help="One run per recipe, add-on and seed of a .toml file."),
    ] = None,
    until: Annotated[str | None, panels.runs(metavar="STAGE", help="Stop after this stage.")] = None,
    width: options.Width = None,
    multiple: Annotated[
        int | None,
        panels.goals(min=1, max=256, metavar="N", help="With a goal: make the width a multiple of this number."),
    ] = None,
    student: Annotated[
        str | None,
        panels.student(metavar="MODEL", help="The student to start from: a file, a run folder or hf://..."),
    ] = None,
    student_class: options.StudentClass = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    tensorboard: options.Tensorboard = False,
    json: options.Json = False,
) -> None:
    """Distil a teacher into a small student.

    A new run needs --out, and usually --teacher and --data. --resume RUN continues a run, the runs of --seeds or
    --matrix, or the stages of a recipe; give --teacher and --data again if the files have moved.

    --set sets any recipe key; stages.NAME.KEY sets it for one stage. The default recipe is omgd. With a goal, the
    student is the widest one that meets it.

    Examples:

        vemcompress distill --teacher latest_net_G.pth --data photos/ --out runs/a
        vemcompress distill --resume runs/a --steps 40000
        vemcompress distill --teacher hf://user/repo --data photos/ --out runs/b \\
            --recipe gan_compression_fast --batch auto
        vemcompress distill --teacher latest_net_G.pth --data photos/ --out runs/c \\
            --target-latency 20ms --threads 1
    """
    from vemcompress.errors import UsageError
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)  # the time limit starts here, before the heavy imports
    if dry_run and resume is not None:
        raise UsageError("--dry-run is for a new run; omit --resume.")
    _check_resume(resume, recipe, out)
    if student_class and not student and resume is None and not (recipe or "").endswith(".toml"):
        raise UsageError("--student-class needs --student, the file with its weights.")
    more = goals.parsed() | {"width": width, "multiple": multiple, "student": student, "student_class": student_class}
    overrides = options.overrides(keys_of(DistillKeys, teacher_file, training, **more), set_)
    numbers = None if seeds is None else _seeds(seeds)
    if until is not None and numbers is not None:
        raise UsageError("--seeds runs all stages for each seed; omit --until.")
    if matrix is not None and (numbers is not None or until is not None or recipe is not None):
        raise UsageError("--matrix has recipes and seeds of its own; omit --recipe, --seeds and --until.")
    if dry_run and (matrix is not None or numbers is not None or until is not None):
        raise UsageError("--dry-run is for one run; omit --matrix, --seeds and --until.")
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.distill import distill as run
        from vemcompress.commands.matrix import distill_matrix
        from vemcompress.commands.seeds import distill_seeds
        from vemcompress.runs.series import is_series

        several = numbers is not None or (until is None and resume is not None and is_series(resume, "seeds"))
        whole = matrix is not None or (until is None and resume is not None and is_series(resume, "matrix"))
        one = partial(distill_seeds, numbers) if several else partial(run, until=until, dry_run=dry_run)
        result = (partial(distill_matrix, matrix) if whole else partial(one, recipe=recipe or "omgd"))(
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


@grouped
def teach(
    teacher_file: groups.TeacherFile,
    training: groups.Training,
    data: options.Data = None,
    out: options.Out = None,
    recipe: options.Recipe = None,
    teacher: options.Teacher = None,
    set_: options.Set = None,
    resume: options.Resume = None,
    dry_run: options.DryRun = False,
    width: Annotated[
        int | None, panels.training(metavar="N", help="The teacher's width (teacher.network.width).")
    ] = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    tensorboard: options.Tensorboard = False,
    json: options.Json = False,
) -> None:
    """Train a teacher if you have none.

    The default recipe, pix2pix, needs pairs; cyclegan needs two domains. Any recipe with a [gan] can be used. With
    --teacher, training starts from that teacher's weights. The run folder can be given to distill as --teacher.

    Examples:

        vemcompress teach --data facades/ --direction BtoA --out runs/teacher
        vemcompress teach --recipe cyclegan --data photos/ --data paintings/ \\
            --out runs/paint --batch auto
        vemcompress teach --resume runs/teacher --steps 100000
    """
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)  # the time limit starts here, before the heavy imports
    _check_resume(resume, recipe, out)
    overrides = options.overrides(keys_of(TeachKeys, teacher_file, training, width=width), set_)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.teach import teach as run

        result = run(
            data=data or (),
            out=out,
            recipe=recipe or "pix2pix",
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


@grouped
def init(
    teacher_file: groups.TeacherFile,
    out: Annotated[Path, panels.main("--out", "-o", readable=False, metavar="FILE", help="The .toml file to write.")],
    teacher: options.Teacher = None,
    data: options.Data = None,
    recipe: options.Recipe = None,
    set_: options.Set = None,
    size: options.TrainSize = None,
    batch: options.Batch = None,
    width: options.Width = None,
    json: options.Json = False,
) -> None:
    """Write a commented recipe for a teacher and data.

    The recipe has every value that distill would choose, so that you can read and change it first. It names the teacher
    and the data: run it with distill --recipe FILE --out RUN. The default recipe is omgd.

    Examples:

        vemcompress init --teacher latest_net_G.pth --data photos/ -o mine.toml
        vemcompress distill --recipe mine.toml --out runs/mine
    """
    given = keys_of(DistillKeys, teacher_file, size=size, batch=batch, width=width)
    overrides = options.overrides(given, set_)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.init import init as run

        result = run(teacher, data=data or (), out=out, recipe=recipe or "omgd", overrides=overrides, on_event=on_event)
    console.result(result.as_dict(), json, console.table)


def quickstart(
    out: Annotated[
        Path, panels.main("--out", "-o", readable=False, metavar="DIR", help="The folder for all output.")
    ] = Path("quickstart"),
    steps: Annotated[int | None, panels.main(min=1, metavar="N", help="Training steps.")] = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Try the whole tool, in a few minutes.

    It uses an embedded teacher and drawn images, and needs neither network nor data.

    Examples:

        vemcompress quickstart
        vemcompress quickstart --out /tmp/tour --steps 300 --device cpu
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.quickstart.tour import tour
        from vemcompress.system import devices

        devices.choose(device)  # before the folder is made
        result = tour(out, steps=steps, device=device, on_event=on_event)
    console.result(result, json, console.toured)


def _check_resume(resume: Path | None, recipe: str | None, out: Path | None) -> None:
    from vemcompress.errors import UsageError

    given = [name for name, value in {"--recipe": recipe, "--out": out}.items() if value is not None]
    if resume is not None and given:
        raise UsageError(f"--resume reads recipe and folder from the run; omit {' and '.join(given)}.")


def _seeds(text: str) -> list[int]:
    from vemcompress.errors import UsageError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text}: write whole numbers with commas, such as 1,2,3.") from None
