"""The runs in the table of `compare`, grouped into rows: runs that differ only in the seed may share one row."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vemcompress import recipe as recipes
from vemcompress.commands.seeds import check_done
from vemcompress.errors import InputError, UsageError
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system import names
from vemcompress.system.events import Event


@dataclass(frozen=True)
class Member:
    """A run or a pipeline in `folder`, with its recipe. `run` is the run whose student is scored: for a pipeline, one
    of its stages."""

    folder: Path
    recipe: Recipe
    run: RunFolder

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders of its training images."""
        return tuple(sorted(os.path.realpath(names.found(root)) for root in self.recipe.data.roots))

    def apart_from_seed(self) -> str:
        """The recipe as text, without the seed, also in its stages. Numbers are rounded, because weights that were
        calibrated on another machine may differ in the last bits.
        """
        return json.dumps(_comparable(self.recipe.model_dump(mode="json")), sort_keys=True)


@dataclass(frozen=True)
class Group:
    """The runs of one row. `path` is their folder; `name` is the shortest part of it that is unique in the table."""

    path: str
    members: tuple[Member, ...]
    name: str = field(default="")

    @property
    def recipe(self) -> Recipe:
        return self.members[0].recipe


def groups(paths: Sequence[str | Path], merge: bool, on_event: Event) -> list[Group]:
    """The rows for these runs, pipelines, folders of seeds and matrices. With `merge`, runs that differ only in the
    seed become one row. Raises InputError for a path that is not a run or has no student yet, and UsageError for a run
    that is listed twice.
    """
    if not paths:
        raise UsageError("no run: name at least one run folder, or the folder of a matrix.")
    found = [group for path in paths for group in _of(Path(path), on_event)]
    there: dict[Path, Member] = {}
    for member in (member for group in found for member in group.members):
        if there.setdefault(member.folder.resolve(), member) is not member:
            raise UsageError(f"{member.folder}: is listed twice; name every run once.")
    found = _merged(found) if merge else found
    above = os.path.commonpath([Path(group.path).absolute().parent for group in found])
    return [Group(group.path, group.members, os.path.relpath(group.path, above)) for group in found]


def _of(path: Path, on_event: Event) -> list[Group]:
    if is_series(path, "matrix"):
        series = Series.read(path, "matrix")
        if left := [name for name in series.items if name not in series.done]:
            message = f"{path}: these runs are not finished and are omitted: {', '.join(left)}; "
            message += f"finish them with `vemcompress distill --resume {path}`."
            on_event({"event": "warning", "message": message})
        if not series.done:
            raise InputError(
                f"{path}: none of its runs is finished; continue with `vemcompress distill --resume {path}`."
            )
        return [_single(series.run(name).path) for name in series.items if name in series.done]
    if is_series(path, "seeds"):
        series = Series.read(path, "seeds")
        check_done(series)
        return [Group(str(path), tuple(_member(series.run(seed).path) for seed in series.items))]
    return [_single(path)]


def _single(path: Path) -> Group:
    return Group(str(path), (_member(path),))


def _member(path: Path) -> Member:
    run = RunFolder(path)
    if not run.recipe.is_file():
        raise InputError(
            f"{path}: is not a run folder (no recipe.toml); give the folder of a run, a pipeline, --seeds or a matrix."
        )
    return Member(path, recipes.read(run.recipe), _scored(run))


def _scored(run: RunFolder) -> RunFolder:
    """The run whose student is scored: for a pipeline, the last finished stage that has one."""
    if is_series(run.path, "stages"):
        series = Series.read(run.path, "stages")
        done = [series.run(name) for name in series.items if name in series.done]
        run = next((stage for stage in reversed(done) if stage.student.is_file()), run)
    if not any(run.artifact(name).is_file() for name in ("student", "teacher")) or not run.recipe.is_file():
        raise InputError(f"{run.path}: has no student yet; continue with `vemcompress distill --resume {run.path}`.")
    return run


def _merged(found: Sequence[Group]) -> list[Group]:
    alike: dict[str, list[Group]] = {}
    for group in found:
        alike.setdefault(group.members[0].apart_from_seed(), []).append(group)
    rows = []
    for same in alike.values():
        members = tuple(member for group in same for member in group.members)
        seeds = [member.recipe.train.seed for member in members]
        if twice := next((seed for seed in seeds if seeds.count(seed) > 1), None):
            first, second = (member.folder for member in members if member.recipe.train.seed == twice)
            raise UsageError(f"{first} and {second}: are runs of the same recipe and seed {twice}; omit one of them.")
        rows.append(Group(_common([group.path for group in same]), members))
    return rows


def _common(paths: list[str]) -> str:
    """A common name for several runs, such as omgd-vem for omgd-vem-seed1 and omgd-vem-seed2."""
    found = {re.sub(r"[-_.]*seed[-_.]*\d+$", "", path) for path in paths}
    if len(found) == 1 and Path(common := found.pop()).name:
        return common
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _comparable(part) for key, part in value.items() if key != "seed"}
    if isinstance(value, list):
        return [_comparable(part) for part in value]
    return f"{value:.5g}" if isinstance(value, float) else value
