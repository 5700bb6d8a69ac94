"""Open the user's inputs: the recipe, the teacher, the images and the run folder of a command that trains."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.data.pairs import Pairs, find_pairs
from vemcompress.data.settings import MAX_ROOTS
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.gans import GANS, started_by
from vemcompress.pruning import PRUNERS
from vemcompress.recipe import Recipe
from vemcompress.recipe.stages import TABLES
from vemcompress.recipe.toml import BYTES
from vemcompress.runs import checkpoint
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.tensorboard import check_installed
from vemcompress.system import devices, distributed, names
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json
from vemcompress.system.names import NEW, OF_TEACHER, PAIRS
from vemcompress.training.pace import Limit
from vemcompress.weights.discriminator import beside_generator
from vemcompress.weights.folder import made
from vemcompress.weights.hub import is_hub
from vemcompress.weights.loading import Loaded, identity_of, load
from vemcompress.weights.modules import PREFIX, is_module, missing
from vemcompress.weights.trust import named

# Keys that may change when a run is resumed: how long and how fast it trains, not what it learns. Files may have moved:
# the hashes of teacher and student are checked, and other images cause a warning. How images are read changes no batch.
_MOVABLE = {
    "teacher": ("source", "start"),
    "student": ("source",),
    "data": ("roots", "workers", "on_device"),
    "gan": ("lr", "features_weights"),
    "train": (
        *("steps", "epochs", "lr", "constant", "precision", "compile", "micro_batch"),
        *("segmenter", "inception", "features_weights"),
        *("checkpoint_every", "sample_every", "log_every", "strict"),
    ),
}


# Keys of a recipe that are paths, in addition to those of the algorithm.
_FILES = (
    *("student.source", "train.segmenter", "train.inception", "train.features_weights", "gan.features_weights"),
    *sorted({f"prune.method.{key}" for kind in PRUNERS.values() for key in kind.files}),
)
_WORDS = (OF_TEACHER, NEW, PAIRS)  # words that replace a file name


@dataclass(frozen=True)
class Given:
    """The user's arguments of a command that trains; see `distill`."""

    teacher: str | None = None
    data: Any = ()  # paths; or images, until `given_images.kept` has saved them
    out: str | Path | None = None
    recipe: str | Path | Recipe = ""
    overrides: Sequence[str] = ()
    resume: str | Path | None = None
    device: str = "auto"
    limit: Limit | None = None
    on_event: Event = silent
    dry: bool = False  # only check, plan and time the run
    tensorboard: bool = False

    def __post_init__(self):
        for name in ("out", "resume", "recipe"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str | os.PathLike | Recipe)):
                raise UsageError(f"{name}: is of type {type(value).__name__}; give a name or a path.")
        if self.tensorboard:
            check_installed()
        if self.dry and self.resume is not None:
            raise UsageError("--dry-run is only for a new run; omit --resume.")

    @property
    def where(self) -> torch.device:
        return devices.choose(self.device)

    @contextmanager
    def shared(self) -> Iterator["Given"]:
        """While inside, the processes started by torchrun work together, only the writer gets events, and the user's
        classes that the overrides name are trusted."""
        with distributed.group(self.where), named(*recipes.classes_named(self.overrides)):
            yield replace(self, on_event=distributed.told_by_writer(self.on_event))


def open_recipe(
    recipe: str | Path | Recipe, overrides: Sequence[str], resume: str | Path | None, command: str = "distill"
) -> tuple[Recipe, RunFolder | None]:
    """The recipe of a new run, with no folder; or the recipe and the folder of the run to continue, which must have
    been made by the same `command`."""
    if resume is None:
        plan = recipe if isinstance(recipe, Recipe) else recipes.read(recipe, overrides)
        if plan.stages:
            raise RecipeError(f"recipe {plan.name}: has stages; run it with `vemcompress distill`.")
        if plan.masks is not None and command != "teach":
            raise RecipeError(f"recipe {plan.name}: [masks] need a stage with do = 'teach'; omit it.")
        for table in TABLES:
            if getattr(plan, table) is not None:
                raise RecipeError(f"recipe {plan.name}: [{table}] needs a stage with do = '{table}'; omit it.")
        return plan, None
    run = RunFolder(resume)
    run.check_existing()
    _check_command(run, command)
    before, plan = recipes.read(run.recipe), recipes.read(run.recipe, overrides)
    if plan.stages:
        raise UsageError(f"{run.path}: has stages; continue with `vemcompress distill --resume {run.path}`.")
    if (known := getattr(before.student, "sha256", None)) and getattr(plan.student, "source", None):
        plan = plan.but(student=plan.student.but(sha256=known))
    if checkpoint.latest(run.checkpoints) is not None:
        _check_same_run(before, plan)
    return plan, run


def located(
    plan: Recipe, teacher: str | Path | None, data: str | Path | Sequence[str | Path] = (), on_event: Event = silent
) -> Recipe:
    """The recipe with the user's teacher and data, and with absolute paths, so that the run can be resumed from any
    folder.

    Raises UsageError if a teacher is needed and none is given, and RecipeError if teacher.padding is set for a teacher
    without a file.
    """
    source = str(teacher or ("" if plan.from_pairs else plan.teacher.source) or "") or None
    if source is not None:
        source = _absolute(source)
    elif plan.from_pairs:
        _check_pairs(plan)
    elif not plan.learns and not plan.stages:  # each stage has its own teacher
        raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")
    elif plan.teacher.padding is not None and not plan.stages:
        raise RecipeError(
            f"recipe {plan.name}: teacher.padding needs the file of a teacher, and none is given; set "
            "teacher.network.padding instead."
        )
    start = _start_from(source, plan) if source else plan.teacher.start
    for key in (*_FILES, *_files_of(plan.algorithm.name)):
        plan = recipes.changed(plan, key, _all_absolute)
    start = {name: _absolute(path) for name, path in start.items()}
    plan = plan.but(teacher=plan.teacher.but(source=source or (PAIRS if plan.from_pairs else None), start=start))
    if source is not None:
        plan = _as_taught(plan, Path(names.found(source)), data, on_event)
    roots = [data] if isinstance(data, str | os.PathLike) else data or plan.data.roots
    roots = tuple(map(_absolute, roots))
    if len(roots) > MAX_ROOTS or sum(map(len, roots)) > BYTES // 2:
        raise UsageError(f"data: {len(roots):,} names are too many for a recipe; give the folders of these files.")
    return plan.but(data=plan.data.but(roots=roots))


def _check_pairs(plan: Recipe) -> None:
    """Raises RecipeError if the recipe needs more of the teacher than its outputs."""
    what = None
    if plan.gan is not None or plan.stages:
        needs = "a [gan] needs" if plan.gan is not None else "stages need"
        what = f", which {needs}; give --teacher, or use a recipe such as pairs, omgd or kd"
    elif not plan.data.has_targets:
        what = "; set data.kind = 'paired' and give inputs and outputs as pairs, or give --teacher"
    if what is not None:
        raise RecipeError(
            f"recipe {plan.name}: teacher.source = '{PAIRS}' supplies only a teacher's outputs, not its network{what}."
        )


def located_stages(plan: Recipe) -> Recipe:
    """The recipe with absolute paths in the stages' own tables."""
    files = path_keys()

    def made_absolute(values: Any, key: str) -> Any:
        if isinstance(values, dict) and key not in files:
            return {name: made_absolute(value, f"{key}.{name}" if key else name) for name, value in values.items()}
        return _all_absolute(values) if key in files else values

    stages = [stage.but(recipe=made_absolute(stage.recipe, "")) if stage.recipe else stage for stage in plan.stages]
    return plan.but(stages=tuple(stages))


def path_keys() -> set[str]:
    """The recipe keys that name one file, including those of all algorithms and pruning methods."""
    return {*_FILES, "teacher.source", *(key for name in ALGORITHMS for key in _files_of(name))}


def beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`values` by `table.key` (or `stages.NAME.table.key`), with relative paths made absolute. They start from
    `folder`."""

    def placed(path: Any) -> Any:
        alone = not isinstance(path, str) or not path or path in _WORDS or path.startswith(("hf://", PREFIX))
        return path if alone else names.stored(folder / names.found(path))

    found = {}
    for key, value in values.items():
        own = re.sub(r"^stages\.\w+\.", "", key)
        if own in path_keys() or own.startswith(("teacher.start.", "algorithm.start.")):
            value = placed(value)
        elif own == "data.roots":
            value = [placed(path) for path in ([value] if isinstance(value, str) else value)]
        found[key] = value
    return found


def _files_of(algorithm: str) -> list[str]:
    return [f"algorithm.{key}" for key in ALGORITHMS[algorithm].files]


def _as_taught(plan: Recipe, teacher: Path, data, on_event: Event) -> Recipe:
    """The recipe with the data settings of the teacher's own run as defaults, unless the data are single photos and the
    teacher was trained on pairs."""
    taught = recipes.read(teacher / "recipe.toml") if (teacher / "recipe.toml").is_file() else None
    if taught is None or taught.gan is None or "kind" in plan.data.model_fields_set:
        return plan
    if data and taught.data.kind == "paired" and not _look_like_pairs(data, plan.data.split):
        return plan
    keys = ("kind", "direction", "degrade", "classes", "void", "label_input", "ids", "roots", "recursive")
    keys += ("crop", "size") if taught.data.degrade is not None else ()
    if taught.data.degrade is not None and data and _look_like_pairs(data, plan.data.split):
        return plan.but(data=plan.data.but(kind="paired"))
    found = {k: getattr(taught.data, k) for k in keys if k not in plan.data.model_fields_set}
    silent = {"roots"} if taught.data.kind == "labels" else {"roots", "label_input"}
    told = ", ".join(f"data.{k}={v}" for k, v in found.items() if v is not None and k not in silent)
    on_event({"event": "assumed", "model": str(teacher), "assumed": f"{told}, as in this teacher's training"})
    return plan.but(data=plan.data.but(**found))


def _look_like_pairs(roots, split: str) -> bool:
    try:
        return isinstance(find_pairs(roots, split), Pairs)
    except (InputError, RecipeError):
        return False


def _start_from(source: str | Path, plan: Recipe) -> dict[str, str]:
    """The files of the other networks, by name, if `source` is the folder of a `teach` run with the same GAN. Files in
    `plan` take precedence.

    A run that trained a student supplies only the student, not its teachers and discriminators.
    """
    folder = Path(names.found(source))
    found = made(folder) if (folder / "recipe.toml").is_file() else None
    if plan.gan is None or found is None or found.gives != "teacher":
        return dict(plan.teacher.start)
    gan = recipes.read(folder / "recipe.toml").gan
    files = started_by(gan.name, folder) if gan is not None and gan.name == plan.gan.name else {}
    return files | plan.teacher.start


def with_adversary(plan: Recipe, teacher: Loaded, on_event: Event) -> Recipe:
    """The recipe from which parts are built: the words for a discriminator are replaced by the file of the teacher's
    own one, or by None for a new one. The run's recipe keeps the words, so that the teacher can be moved."""
    named = {key: _value(plan, key) for key in _files_of(plan.algorithm.name)}
    for key in (key for key, value in named.items() if value == NEW):
        plan = recipes.changed(plan, key, lambda _: None)
    keys = [key for key, value in named.items() if value == OF_TEACHER]
    if not keys:
        return plan
    file = beside_generator(teacher.path) if teacher.path is not None else None
    if file is not None:
        told = {"event": "assumed", "model": teacher.source, "assumed": f"the discriminator starts from {file}"}
    else:
        message = (
            f"{names.shown(teacher.source)}: has no discriminator, so a new one is trained with the student, which "
            f"takes longer; give one with --set {keys[0]}=FILE."
        )
        told = {"event": "warning", "message": message}
    on_event(told)
    for key in keys:
        plan = recipes.changed(plan, key, lambda _: file and _absolute(str(file)))
    return plan


def _value(settings: Any, key: str) -> Any:
    """The value of a `table.key`, or None."""
    for name in key.split("."):
        settings = getattr(settings, name, None)
    return settings


def check_data(plan: Recipe) -> None:
    """Raises RecipeError if the GAN cannot be trained on data of this kind."""
    kind = plan.data.kind if plan.data.degrade is None else "paired"
    if plan.gan is None or kind in (kinds := GANS[plan.gan.name].data):
        return
    if kinds == ("single",):
        what = f"data.kind = '{kind}'" if plan.data.degrade is None else "data.degrade"
        raise RecipeError(
            f"recipe {plan.name}: {what} does not fit gan.name = '{plan.gan.name}', whose input is latent vectors; "
            "omit it, and give a folder of real images."
        )
    if kind == "single" and "unpaired" not in kinds:
        raise RecipeError(
            f"recipe {plan.name}: {plan.gan.name} needs pairs; set data.kind to {' or '.join(kinds)}, or data.degrade."
        )
    kind = plan.data.kind
    raise RecipeError(
        f"recipe {plan.name}: data.kind = '{kind}' does not fit {plan.gan.name}; set it to {' or '.join(kinds)}."
    )


def second_domain(plan: Recipe) -> bool:
    """Whether training uses the images of a second domain."""
    return plan.gan is not None or ALGORITHMS[plan.algorithm.name].wants_real(plan.algorithm)


def load_teacher(plan: Recipe, on_event: Event = silent) -> Loaded:
    """The network of `teacher.source`. Raises what `load` raises."""
    about = plan.teacher
    more = {"norm": about.norm, "key": about.key, "padding": about.padding, "range": about.range}
    loaded = load(about.source, class_path=about.class_path, **more)
    loaded.tell(on_event)
    return loaded


def new_run(out: str | Path | None) -> RunFolder:
    """The folder of a new run. Raises UsageError if no folder is given, or if it already exists."""
    if out is None:
        raise UsageError("no output: give --out RUN, a new folder for the run.")
    run = RunFolder(out)
    run.check_new()
    return run


def teacher_gone(plan: Recipe) -> str | None:
    """A sentence that says that the run's teacher is missing; None if it exists."""
    source = plan.teacher.source
    if source is not None and is_module(source):
        return missing(source)
    if source is None or plan.from_pairs or is_hub(source) or Path(names.found(source)).exists():
        return None
    return f"{source}: the run's teacher is missing; give it with --teacher"


def check_teacher_there(plan: Recipe) -> None:
    """Raises InputError if a run's teacher has been moved or removed."""
    if told := teacher_gone(plan):
        raise InputError(f"{told}; it must be the same {'module' if is_module(plan.teacher.source) else 'file'}.")


def check_same_teacher(run: RunFolder, loaded: Loaded | None, on_event: Event = silent) -> None:
    """Raises InputError if a resumed run gets another teacher than it started with."""
    try:
        before = str(read_json(run.environment)["teacher"].get("sha256", ""))
    except FileNotFoundError:
        return  # the run was stopped before it had written its environment
    except (OSError, *MALFORMED) as error:
        told = f"{run.environment}: is damaged ({error!s:.80}) and will be written again."
        on_event({"event": "warning", "message": told})
        return
    found = loaded.sha256 if loaded is not None else ""
    if before != found:
        raise _another_teacher(loaded.source if loaded is not None else PAIRS, run, found, before)


def check_moved(run: RunFolder, teacher: str | Path | None, source: str | None) -> None:
    """Raises InputError if a run started with the teacher of `source`, and `teacher` is another file.

    Runs in one folder must have the same teacher.
    """
    if teacher is None or is_hub(str(teacher)) or not Path(teacher).exists():
        return  # the code that needs the file reports that it is missing
    try:
        before = read_json(run.environment)["teacher"]
        known = before["sha256"] if before["source"] == source else None
    except (OSError, *MALFORMED):
        return  # resuming that run reports the problem
    if known is not None and (found := identity_of(Path(teacher))) != known:
        raise _another_teacher(teacher, run, found, str(known))


def _another_teacher(source: str | Path, run: RunFolder, found: str, before: str) -> InputError:
    return InputError(
        f"{source}: is not the teacher that {run.path} started with (SHA-256 now {found[:12] or 'none'}, then "
        f"{before[:12] or 'none'}); restore the original file, or start a new run."
    )


def _all_absolute(path: str | dict[str, str]) -> str | dict[str, str]:
    """A path, or a table of paths, made absolute. A word that replaces a file name stays."""
    if isinstance(path, dict):
        return {name: _absolute(one) for name, one in path.items()}
    return path if path in _WORDS else _absolute(path)


def _absolute(path: str | Path) -> str:
    if str(path).startswith(("hf://", PREFIX)):
        return str(path)
    return names.stored(Path(names.found(path)).resolve())


def _check_command(run: RunFolder, command: str) -> None:
    """Raises UsageError if another command made the run, because its checkpoints hold other networks."""
    found = made(run.path)
    if found is not None and found.command != command:
        what = "a student" if found.gives == "student" else f"only a {found.gives}"
        raise UsageError(f"{run.path}: has {what}; continue with `vemcompress {found.command} --resume {run.path}`.")


def _check_same_run(before: Recipe, after: Recipe) -> None:
    movable = [f"{table}.{key}" for table, keys in _MOVABLE.items() for key in keys]
    for key in (*movable, *_files_of(after.algorithm.name)):
        before, after = (recipes.changed(plan, key, lambda value: None) for plan in (before, after))
    old, new = before.model_dump(), after.model_dump()
    for table in new:
        if isinstance(new[table], dict) and isinstance(old[table], dict):
            changed = sorted(f"{table}.{key}" for key in new[table] if new[table][key] != old[table].get(key))
        else:
            changed = [table] if new[table] != old[table] else []
        if changed:
            raise UsageError(
                f"{changed[0]} cannot change within a run; omit it to resume, or start a new run with "
                "--recipe RUN/recipe.toml."
            )
