"""`report`: a run, the stages of a pipeline, or several runs, as one HTML file that shows them."""

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
    """What was written: the file `path` of so many `bytes`. `kind` is "run", "stages", "seeds" or "matrix"; `pictures`
    are the sample sheets in it; `missing` says what of the run was damaged or absent, and is left out. `tensorboard`:
    the folders of event files that were written."""

    run: str
    path: str
    bytes: int
    kind: str
    pictures: int
    missing: tuple[str, ...] = ()
    tensorboard: tuple[str, ...] = ()


def report(run: str | os.PathLike, out: str | os.PathLike | None = None, tensorboard: bool = False) -> ReportResult:
    """Write a run as one HTML file that loads nothing from elsewhere.

        vemcompress.report("runs/small")

    It shows what was compressed into what, figures with their protocol, curves, samples, the time of a step,
    the recipe, warnings and the environment. `distill` and `teach` write it themselves at their end, and
    `evaluate` renews it.

    Arguments:
        run: a folder that `distill`, `teach`, `prune`, `search`, `distill_seeds` or `distill_matrix` made.
        out: the file, by default RUN/report.html.
        tensorboard: also write event files into RUN/tensorboard, which needs `pip install
            'vemcompress[tensorboard]'`.

    Returns:
        ReportResult: `path`, `bytes`, `kind`, `pictures`, `missing` (what is damaged or absent, and left
        out).

    Raises:
        InputError for what is no run or has links that lead out of it, UsageError, OutputError.
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
    """Write RUN/report.html anew, where it is there, and that of the pipeline, seeds or matrix which the run is of: the
    run has got an evaluation. Problems are told as in `reported`."""
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
        raise InputError(f"{folder}: {reason}; give one that distill, teach, prune or search made.")
    return "run"


def reported(run: str | os.PathLike, on_event: Event) -> str | None:
    """Write RUN/report.html at the end of a run, and give its path. Where it cannot be written this is told, and the
    run is as it was."""
    try:
        made = report(run)
    except Exception as error:  # a page is worth no run
        reason = str(error) if isinstance(error, VemError) else f"{type(error).__name__}: {error}"
        on_event({"event": "warning", "message": f"no report of {shown(run)} was written: {' '.join(reason.split())}"})
    else:
        on_event({"event": "report", "path": made.path})
        return made.path
    return None
