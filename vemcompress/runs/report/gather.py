"""Reads a run folder leniently: a damaged or missing file gives an empty value and a note."""

import math
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vemcompress.errors import InputError
from vemcompress.runs.best import look
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.log import damage, is_score, lines
from vemcompress.system.files import read_json, read_text, sha256_file
from vemcompress.weights.folder import made

ROWS, KEYS, TEXT = 20_000, 60, 400  # most lines of a log, names in it, characters of a text
MOST = 50  # sentences


@dataclass
class Log:
    """Numbers of a log by name, as (step, value). Of a log with more than 20,000 lines every n-th is kept. `scores` are
    those by which the best checkpoint is picked, by metric; the first 20,000 of each."""

    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass
class Found:
    """The contents of a run. JSON tables are unchecked and may have any shape. `notes` say what is missing or damaged;
    `warnings` are those of the run."""

    run: RunFolder
    command: str
    step: int | None
    environment: dict
    evaluation: dict
    latency: dict
    best: dict
    recipe: str
    metrics: Log
    timing: Log
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, even an incomplete one."""
    names = ("recipe.toml", "run.json", "environment.json", "metrics.jsonl")
    with suppress(OSError):
        return any((folder / name).is_file() for name in names)
    return False


def gather(run: RunFolder) -> Found:
    """Read a run. Whatever is wrong with a file becomes a note, not an error."""
    notes: list[str] = []
    environment = _table(run.environment, notes, "which networks and which machine the run used")
    evaluation = _table(run.evaluation, notes, None)
    best = _table(run.best / "best.json", notes, None)
    told = made(run.path)
    metrics, timing = (_log(path, notes) for path in (run.metrics, run.timing))
    found = Found(
        run,
        told.command if told else "run",
        _step(run, metrics),
        environment,
        part(evaluation, "evaluation"),
        _table(run.latency, notes, None),
        best,
        _recipe(run, notes),
        metrics,
        timing,
        notes,
    )
    if found.evaluation:
        _check_fresh(found, evaluation, told.gives if told else "student")
    found.warnings = _warnings(found)
    return found


def plan_of(found: Found) -> dict:
    """The recipe as a table; empty if it is not valid TOML."""
    try:
        return tomllib.loads(found.recipe)
    except (ValueError, RecursionError):
        return {}


def part(values: Any, *keys: str) -> dict:
    """A nested table; empty if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def number(value: Any) -> float | int | None:
    """A finite number; None for anything else."""
    fits = type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    return value if fits else None


def sentence(value: Any) -> str:
    """One line of text of limited length."""
    return " ".join(str(value).split())[:TEXT]


def _table(path: Path, notes: list[str], lost: str | None) -> dict:
    """A JSON table. If the file is missing and the page needs it, a note says what is `lost`."""
    try:
        found = read_json(path)
        if isinstance(found, dict):
            return found
        reason = "it is not a table"
    except (FileNotFoundError, NotADirectoryError):
        if lost:
            notes.append(f"{path.name} is missing, so this page cannot show {lost}.")
        return {}
    except (OSError, ValueError) as error:
        reason = sentence(error)
    notes.append(f"{path.name} cannot be read ({reason:.80}) and is ignored.")
    return {}


def _recipe(run: RunFolder, notes: list[str]) -> str:
    try:
        return read_text(run.recipe, 1 << 20)
    except (OSError, ValueError) as error:
        notes.append(f"recipe.toml cannot be read ({sentence(error):.80}) and is ignored.")
        return ""


def _log(path: Path, notes: list[str]) -> Log:
    found, stride, kept, whole = Log(), 1, 0, True
    try:
        for count, (_, _, values) in enumerate(lines(path)):
            whole = whole and values is not None
            if values is not None and "event" in values:
                _add_score(found.scores, values)
                continue
            if values is None or count % stride:
                continue
            for name, value in values.items():
                if name == "step" or (value := number(value)) is None:
                    continue
                if name in found.series or len(found.series) < KEYS:
                    found.series.setdefault(name, []).append((values["step"], float(value)))
            kept += 1
            if kept >= ROWS:
                stride, kept = 2 * stride, kept // 2
                found.series = {name: points[::2] for name, points in found.series.items()}
        if not whole:
            notes.append(sentence(str(damage(path)).replace(f"{path}", path.name)))
    except InputError as error:
        notes.append(sentence(str(error).replace(f"{path}", path.name)))
    return found


def _add_score(scores: dict[str, list[tuple[int, float]]], values: dict) -> None:
    known = is_score(values) and number(values["value"]) is not None
    if known and (values["metric"] in scores or len(scores) < KEYS):
        points = scores.setdefault(values["metric"], [])
        points += [(values["step"], float(values["value"]))] if len(points) < ROWS else []


def _step(run: RunFolder, metrics: Log) -> int | None:
    logged = max((points[-1][0] for points in metrics.series.values() if points), default=None)
    with suppress(InputError):
        step = look(run.path).step
        return logged if step is None else step
    return logged


def _check_fresh(found: Found, said: dict, gives: str) -> None:
    """Add a note if the evaluation belongs to an earlier network than the run's current one."""
    with suppress(InputError):
        if said.get("sha256") != sha256_file(found.run.artifact(gives)):
            found.notes.append(
                "The evaluation belongs to an earlier network than the run's newest one; run `eval` again."
            )


def _warnings(found: Found) -> list[str]:
    environment, evaluation = found.environment, found.evaluation
    diverged = [sentence(of["message"]) for of in part(environment, "diverged").values() if part(of).get("message")]
    kept = environment.get("warnings")
    told = [sentence(one) for one in (kept if isinstance(kept, list) else []) if isinstance(one, str)]
    unreadable = [f"{sentence(path)}: {sentence(why)}" for path, why in part(evaluation, "unreadable").items()]
    return list(dict.fromkeys([*diverged, *told, *unreadable]))[:MOST]
