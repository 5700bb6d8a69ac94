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
    """Write a run as one HTML file, RUN/report.html or `out`, which loads nothing from elsewhere.

    `run` is a folder that `distill`, `teach`, `prune`, `search` or a pipeline made, or one of several seeds or of a
    matrix. It has what was compressed into what, figures with their protocol, losses as curves, samples, the time of a
    step, the recipe, warnings and the environment. Parts that are damaged or absent are left out, and told in the page.
    With `tensorboard` each run gets event files too, in RUN/tensorboard.
    Raises InputError (4) for what is no run, or has links that lead out of it, UsageError (2) and OutputError (9).
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
