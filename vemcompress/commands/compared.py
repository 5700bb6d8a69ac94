"""Which runs `compare` has in its table, and in which row: several are one row where they differ in the seed alone."""

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
    """A run or a pipeline in `folder`, with its recipe; `run` is that whose student is scored."""

    folder: Path
    recipe: Recipe
    run: RunFolder

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that it learnt from."""
        return tuple(sorted(os.path.realpath(names.found(root)) for root in self.recipe.data.roots))

    def apart_from_seed(self) -> str:
        """Its recipe without the seed, which its stages have too. Weights that were calibrated on another machine may
        differ in the last bits.
        """
        return json.dumps(_comparable(self.recipe.model_dump(mode="json")), sort_keys=True)


@dataclass(frozen=True)
class Group:
    """The runs of a row, and what they are called; `name` is a part of it that tells it from others."""

    path: str
    members: tuple[Member, ...]
    name: str = field(default="")

    @property
    def recipe(self) -> Recipe:
        return self.members[0].recipe


def groups(paths: Sequence[str | Path], merge: bool, on_event: Event) -> list[Group]:
    """The rows of these runs, pipelines, folders of seeds and matrices. With `merge`, runs that differ in the seed
    alone are one. Raises InputError for what is no run or has no student yet, UsageError for a run listed twice.
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
            message = f"{path}: left out, because they are not finished: {', '.join(left)}; "
            message += f"finish them with `vemcompress distill --resume {path}`."
            on_event({"event": "warning", "message": message})
        if not series.done:
            raise InputError(f"{path}: none of its runs is finished; go on with `vemcompress distill --resume {path}`.")
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
        raise InputError(f"{path}: no run here (no recipe.toml); give a run folder, a pipeline's, or one of --seeds.")
    return Member(path, recipes.read(run.recipe), _scored(run))


def _scored(run: RunFolder) -> RunFolder:
    """Of a pipeline the last stage that is done and gives a student."""
    if is_series(run.path, "stages"):
        series = Series.read(run.path, "stages")
        done = [series.run(name) for name in series.items if name in series.done]
        run = next((stage for stage in reversed(done) if stage.student.is_file()), run)
    if not any(run.artifact(name).is_file() for name in ("student", "teacher")) or not run.recipe.is_file():
        raise InputError(f"{run.path}: has no student yet; go on with `vemcompress distill --resume {run.path}`.")
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
            raise UsageError(f"{first} and {second}: are runs of the same recipe and seed {twice}; leave one out.")
        rows.append(Group(_common([group.path for group in same]), members))
    return rows


def _common(paths: list[str]) -> str:
    """What several runs are called together: omgd-vem for omgd-vem-seed1 and omgd-vem-seed2."""
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
