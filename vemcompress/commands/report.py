"""`report`: write one HTML file about a run, the stages of a pipeline, or several runs."""

import os
from dataclasses import dataclass
from pathlib import Path

from vemcompress.commands.line import Reported
from vemcompress.errors import InputError, VemError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.own import check_inside
from vemcompress.runs.report import several
from vemcompress.runs.report.gather import gather, is_run
from vemcompress.runs.report.page import framed, lead_of, sections
from vemcompress.runs.series import KINDS, Series, is_series
from vemcompress.runs.tensorboard import check_installed, convert
from vemcompress.system.events import Event
from vemcompress.system.files import check_target, write_atomically
from vemcompress.system.names import shown

FILE = "report.html"


@dataclass(frozen=True)
class ReportResult(Reported):
    """The file `path`, of size `bytes`.

    `kind` is "run", "stages", "seeds" or "matrix". `pictures` is the number of sample sheets in it. `missing` lists
    parts of the run that are damaged or absent, and therefore omitted. `tensorboard` lists the folders of event files
    that were written.
    """

    run: str
    path: str
    bytes: int
    kind: str
    pictures: int
    missing: tuple[str, ...] = ()
    tensorboard: tuple[str, ...] = ()


def report(run: str | os.PathLike, out: str | os.PathLike | None = None, tensorboard: bool = False) -> ReportResult:
    """Write a report of a run as one HTML file that needs no other files.

        vemcompress.report("runs/small")

    It shows teacher and student, metrics with their protocol, curves, samples, the time per step, the recipe,
    warnings and the environment. `distill` and `teach` write it at their end, and `evaluate` and
    `bench_models` update it.

    Arguments:
        run: a folder made by `distill`, `teach`, `prune`, `search`, `distill_seeds` or `distill_matrix`.
        out: the file, by default RUN/report.html.
        tensorboard: also write event files into RUN/tensorboard, which needs `pip install
            'vemcompress[tensorboard]'`.

    Returns:
        ReportResult: `path`, `bytes`, `kind`, `pictures`, `missing` (parts that are damaged or absent).

    Raises:
        InputError if it is not a run, or has links to files outside it; UsageError, OutputError.
    """
    folder = Path(run)
    path = folder / FILE if out is None else Path(out)
    kind = _kind(folder)
    check_inside(folder)
    if tensorboard:
        check_installed()
    check_target(path, FILE)
    title = shown(folder.absolute().name) or "run"
    if kind == "run":
        found = gather(RunFolder(folder))
        body, pictures = sections(found)
        lead, missing = lead_of(found), found.notes
    else:
        page = several.stages if kind == "stages" else several.runs
        lead, body, pictures, missing = page(Series.read(folder, kind))
    data = framed(title, lead, body).encode()
    write_atomically(path, data)
    boards = convert(folder) if tensorboard else ()
    return ReportResult(str(folder), str(path), len(data), kind, pictures, tuple(missing), tuple(boards))


def refreshed(run: str | os.PathLike, on_event: Event) -> None:
    """Update RUN/report.html after a measurement, if it exists, and the report of the pipeline, seeds or matrix that
    the run belongs to. Problems are reported as in `reported`."""
    folder = Path(run)
    of_several = [path for path in folder.absolute().parents[:2] if any(is_series(path, kind) for kind in KINDS)]
    for path in (folder, *of_several):
        if (path / FILE).is_file():
            reported(path, on_event)


def _kind(folder: Path) -> str:
    for kind in KINDS:
        if is_series(folder, kind):
            return kind
    if not is_run(folder):
        reason = "is no run folder (no recipe.toml)" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {reason}; give a folder made by distill, teach, prune or search.")
    return "run"


def reported(run: str | os.PathLike, on_event: Event) -> str | None:
    """Write RUN/report.html at the end of a run, and return its path. If it cannot be written, there is a warning, and
    the run is not affected."""
    try:
        made = report(run)
    except Exception as error:  # a problem of the report must not end the run
        reason = str(error) if isinstance(error, VemError) else f"{type(error).__name__}: {error}"
        on_event({"event": "warning", "message": f"no report of {shown(run)} was written: {' '.join(reason.split())}"})
    else:
        on_event({"event": "report", "path": made.path})
        return made.path
    return None
