"""What every command that makes a run does: open its recipe, its data and its folder, and go on with an old one."""

import json
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from vemcompress import __version__
from vemcompress import recipe as recipes
from vemcompress.commands.gan_parts import start_from
from vemcompress.data.images import save_png
from vemcompress.data.layouts import is_twice_as_wide
from vemcompress.data.pairs import Pairs, find_pairs
from vemcompress.data.sets import ImageSet, test_set, training_set
from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.features import FeatureNetwork
from vemcompress.recipe import Recipe
from vemcompress.runs import checkpoint
from vemcompress.runs.best import Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.pictures import image_grid
from vemcompress.system import distributed
from vemcompress.weights.loading import Loaded, load

SAMPLES, CALIBRATION_IMAGES = 4, 8

Event = Callable[[dict], None]

# What may change when a run goes on: how long and how fast, not what it learns.
_CHANGEABLE = {
    "steps",
    "epochs",
    "lr",
    "constant",
    "precision",
    "compile",
    "checkpoint_every",
    "sample_every",
    "log_every",
}

# Files may have moved: the teacher is known by its hash, and other images are warned of. How images are fetched changes
# no batch.
_MOVABLE = {
    "teacher": {"source", "start"},
    "data": {"roots", "workers", "on_device"},
    "algorithm": {"features_weights"},
    "gan": {"lr"},
    "train": _CHANGEABLE | {"segmenter", "inception"},
}


def open_recipe(
    recipe: str | Path, overrides: Sequence[str], resume: str | Path | None, command: str = "distill"
) -> tuple[Recipe, RunFolder | None]:
    """The recipe of a new run, or that of the run to go on with, which this command made, and its folder."""
    if resume is None:
        return recipes.read(recipe, overrides), None
    run = RunFolder(resume)
    run.check_existing()
    _check_command(run, command)
    plan = recipes.read(run.recipe, overrides)
    if checkpoint.latest(run.checkpoints) is not None:
        _check_same_run(recipes.read(run.recipe), plan)
    return plan, run


def located(
    plan: Recipe, teacher: str | Path | None, data: str | Path | Sequence[str | Path], on_event: Event
) -> Recipe:
    """With the user's teacher and data, and absolute paths, so that the run can be resumed from any folder."""
    source = str(teacher or plan.teacher.source or "") or None
    if source is not None and not source.startswith("hf://"):
        source = str(Path(source).resolve())
        plan = _as_taught(plan, Path(source), data, on_event)
    roots = [data] if isinstance(data, str | Path) else data or plan.data.roots
    start = start_from(source, plan) if source else plan.teacher.start
    start = {name: path if path.startswith("hf://") else _absolute(path) for name, path in start.items()}
    train, features = plan.train, plan.algorithm.features_weights
    return plan.model_copy(
        update={
            "teacher": plan.teacher.model_copy(update={"source": source, "start": start}),
            "data": plan.data.model_copy(update={"roots": tuple(_absolute(root) for root in roots)}),
            "algorithm": plan.algorithm.model_copy(update={"features_weights": features and _absolute(features)}),
            "train": train.model_copy(
                update={k: getattr(train, k) and _absolute(getattr(train, k)) for k in ("segmenter", "inception")}
            ),
        }
    )


def _as_taught(plan: Recipe, teacher: Path, data, on_event: Event) -> Recipe:
    """What a run's own teacher learnt from is the default for who learns from it, but single photos are no pairs."""
    taught = recipes.read(teacher / "recipe.toml") if (teacher / "recipe.toml").is_file() else None
    if taught is None or taught.gan is None or "kind" in plan.data.model_fields_set:
        return plan
    if data and taught.data.kind == "paired" and not _look_like_pairs(data, plan.data.split):
        return plan
    keys = ("kind", "direction", "classes", "void", "label_input", "ids", "roots")
    found = {k: getattr(taught.data, k) for k in keys if k not in plan.data.model_fields_set}
    silent = {"roots"} if taught.data.kind == "labels" else {"roots", "label_input"}
    told = ", ".join(f"data.{k}={v}" for k, v in found.items() if v is not None and k not in silent)
    on_event({"event": "assumed", "model": str(teacher), "assumed": f"{told}, as this teacher learnt"})
    return plan.model_copy(update={"data": plan.data.model_copy(update=found)})


def _look_like_pairs(roots, split: str) -> bool:
    try:
        return isinstance(find_pairs(roots, split), Pairs)
    except (InputError, RecipeError):
        return False


def load_teacher(plan: Recipe) -> tuple[Recipe, Loaded | None]:
    """The teacher that is given, None where the recipe builds one; a Hub revision is pinned in the recipe."""
    source = plan.teacher.source
    if source is None:
        if plan.gan is None:
            raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")
        return plan, None
    loaded = load(source, class_path=plan.teacher.class_path, norm=plan.teacher.norm)
    if loaded.revision and "@" not in source:  # the Hub may move on before the run is resumed
        pinned = plan.teacher.model_copy(update={"source": f"{source}@{loaded.revision}"})
        plan = plan.model_copy(update={"teacher": pinned})
    return plan, loaded


def training_images(plan: Recipe, on_event: Event) -> ImageSet:
    """The recipe's images. Raises UsageError where none were given, RecipeError where a GAN cannot learn from them."""
    if not plan.data.roots:
        raise UsageError("no data: give --data DIR, a folder of images.")
    gan, kind = plan.gan.name if plan.gan else None, plan.data.kind
    if gan and (kind == "unpaired") != (gan == "cyclegan"):
        needed = "unpaired" if gan == "cyclegan" else "paired, or labels"
        raise RecipeError(f"recipe {plan.name}: data.kind = '{kind}' does not serve {gan}; set it to {needed}.")
    if gan and kind == "single":
        raise RecipeError(
            f"recipe {plan.name}: {gan} needs data.kind = 'paired' or 'labels'; images alone do not serve."
        )
    images = training_set(plan.data)
    if images.pairs and images.pairs.side_by_side and not is_twice_as_wide(images.paths):
        message = "these images are cut into two halves, A and B, but are not twice as wide as high; see data.kind."
        on_event({"event": "warning", "message": message})
    return images if gan or kind != "unpaired" else images.inputs_alone()


def new_run(out: str | Path | None) -> RunFolder:
    if out is None:
        raise UsageError("no output: give --out RUN, a new folder for the run.")
    run = RunFolder(out)
    run.check_new()
    return run


def union_of_skipped(skipped: dict[Path, str], on_event: Event) -> dict[Path, str]:
    """The images that any rank could not read, with the reasons; those of other ranks are told here."""
    found = {path: reason for part in distributed.collected(skipped) for path, reason in part.items()}
    for path in found.keys() - skipped.keys():
        on_event({"event": "skipped", "path": str(path), "reason": found[path]})
    return found


def picker(
    plan: Recipe,
    held_out: ImageSet | None,
    channels: tuple[int, int],
    device: torch.device,
    *,
    features: FeatureNetwork | None,
    teacher: Generator | None,
    by: str | None = None,
) -> Picker | None:
    """What scores a network on the held-out images, or the test images where the recipe says so.

    `teacher`: the frozen one. None where the recipe does not want it, or leaves it open and nothing was held out.
    Raises RecipeError where it names a figure and nothing was.
    """
    named = by is None and plan.train.best_by not in ("auto", "none")
    by = by or plan.train.best_by
    images = test_set(plan.data) if plan.train.best_on == "test" else held_out
    if by == "auto":
        by = "ssim_teacher" if teacher else "l1_target" if plan.data.kind in ("paired", "labels") else "frechet"
        if by == "frechet" and features is None:
            return None
    if images is None and named:
        raise RecipeError(
            f"train.best_by = '{by}': no image is held out to pick the best checkpoint by; set data.held_out, or "
            "train.best_on=test, or train.best_by=none."
        )
    if by == "none" or images is None:
        return None
    from vemcompress.evaluation.judge import scorer  # late: evaluation's libraries take a second to import
    from vemcompress.evaluation.onnx_segmenter import segmenter_on

    segmenter = segmenter_on(plan.train.segmenter, device) if by == "miou" and plan.train.segmenter else None
    return scorer(
        by,
        images,
        channels,
        device,
        features=features,
        teacher=teacher,
        segmenter=segmenter,
        inception=plan.train.inception,
        on=plan.train.best_on,
    )


def columns(images: ImageSet, inputs: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
    """The first columns of a run's pictures: inputs as one may look at them, and the ground truth where there is."""
    shown = {"input": images.picture(inputs)}
    return shown if targets is None else shown | {"ground truth": targets}


def save_picture(path: Path, shown: dict[str, Tensor]) -> Path:
    save_png(path, image_grid(list(shown.values()), list(shown)))
    return path


def advice(plan: Recipe) -> str:
    return f"lower train.batch ({plan.train.batch}) or data.size ({plan.data.size}) in a new run."


def check_same_teacher(run: RunFolder, loaded: Loaded | None) -> None:
    """Raises InputError where a resumed run gets another teacher than it began with."""
    try:
        before = json.loads(run.environment.read_text())["teacher"].get("sha256", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # the run was stopped before it had written its environment
    if loaded is not None and before != loaded.sha256:
        raise InputError(
            f"{loaded.source}: is not the teacher that {run.path} began with (SHA-256 {loaded.sha256[:12]}, then "
            f"{before[:12]}); put that file back, or start a new run."
        )


def environment(device: torch.device, **networks: dict) -> dict:
    """What a run's environment.json says."""
    packages = ("torch", "torchvision", "numpy", "safetensors", "pillow", "onnx", "onnxruntime")
    return {
        "vemcompress": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "ranks": distributed.ranks(),
        "threads": torch.get_num_threads(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **networks,
    }


def described(network: Generator, size: int) -> dict:
    """Family, parameters and MACs at `size`, for people."""
    cost = network.config.cost(size, size) if network.config is not None else None
    return {
        "family": network.family,
        "parameters": count_parameters(network),
        "macs": cost.macs() if cost else None,
    }


def _absolute(path: str | Path) -> str:
    return str(Path(path).resolve())


def _check_command(run: RunFolder, command: str) -> None:
    """Raises UsageError where the other command made the run: their checkpoints hold other networks."""
    try:
        made = json.loads(run.environment.read_text())
    except (OSError, ValueError):
        return  # nothing has been learnt there yet
    if not isinstance(made, dict) or not made.keys() & {"student", "networks"}:
        return
    maker, what = ("distill", "a student") if "student" in made else ("teach", "a teacher alone")
    if maker != command:
        raise UsageError(f"{run.path}: has {what}; go on with `vemcompress {maker} --resume {run.path}`.")


def _check_same_run(before: Recipe, after: Recipe) -> None:
    old, new = before.model_dump(), after.model_dump()
    for table in new:
        if isinstance(new[table], dict) and isinstance(old[table], dict):
            keys = new[table].keys() - _MOVABLE.get(table, set())
            changed = sorted(f"{table}.{key}" for key in keys if new[table][key] != old[table].get(key))
        else:
            changed = [table] if new[table] != old[table] else []
        if changed:
            raise UsageError(
                f"{changed[0]} cannot change within a run; leave it away to resume, or start a new run with "
                "--recipe RUN/recipe.toml."
            )
