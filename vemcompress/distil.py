"""From a teacher, a recipe and images to a run with a student in it."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from vemcompress import __version__, devices
from vemcompress import recipe as recipes
from vemcompress.algorithms.omgd import OMGD
from vemcompress.data.images import save_png
from vemcompress.data.sources import locate
from vemcompress.data.stream import ImageStream, test_batch
from vemcompress.errors import InputError, UsageError
from vemcompress.information import build_information
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator, count_parameters, init_weights
from vemcompress.networks.features import FeatureNetwork
from vemcompress.recipe import Recipe
from vemcompress.report import image_grid
from vemcompress.resolve import calibrate, resolve
from vemcompress.step import Adam
from vemcompress.training import checkpoint
from vemcompress.training.loop import Trainer
from vemcompress.training.run import RunFolder
from vemcompress.weights.features import load_features
from vemcompress.weights.files import write_atomically
from vemcompress.weights.inspect import in_channels, out_channels
from vemcompress.weights.loading import Loaded, load

SAMPLES, CALIBRATION_IMAGES = 4, 8

Event = Callable[[dict], None]


@dataclass(frozen=True)
class DistillResult:
    """A finished run. `seconds_per_step` is None where no step was needed; losses are those of the last step."""

    run: str
    student: str
    steps: int
    parameters: int
    teacher_parameters: int
    losses: dict[str, float]
    seconds_per_step: float | None
    skipped_images: int

    def as_dict(self) -> dict:
        return asdict(self)


def distill(
    teacher: str | Path | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    device: str = "auto",
    on_event: Event = lambda event: None,
) -> DistillResult:
    """Distil `teacher` into a small student, in the new run folder `out`; or go on with the run `resume`.

    A resumed run takes `teacher` and `data` where its files have moved. `overrides` are `key=value` as with --set.
    Checks come in this order: recipe, teacher, data, output. Raises the classes of `errors`; a run that raised keeps
    its last checkpoint and can be resumed.
    """
    where = devices.choose(device)
    if resume is not None:
        run = RunFolder(resume)
        run.check_existing()
        plan = recipes.read(run.recipe, overrides)
        if checkpoint.latest(run.checkpoints) is not None:
            _check_same_run(recipes.read(run.recipe), plan)
    else:
        plan = recipes.read(recipe, overrides)
    teacher = teacher or plan.teacher.source
    if teacher is None:
        raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")
    data = [data] if isinstance(data, str | Path) else data
    plan = _located(plan, teacher, data or plan.data.roots)
    loaded = load(plan.teacher.source, class_path=plan.teacher.class_path, norm=plan.teacher.norm)
    if loaded.revision and "@" not in plan.teacher.source:  # the Hub may move on before the run is resumed
        pinned = f"{plan.teacher.source}@{loaded.revision}"
        plan = plan.model_copy(update={"teacher": plan.teacher.model_copy(update={"source": pinned})})
    if not plan.data.roots:
        raise UsageError("no data: give --data DIR, a folder of images.")
    channels = channels_of(loaded.generator)
    found = locate(plan.data.roots, plan.data.split)
    paths = found.paths
    on_event({"event": "data", "images": len(paths), "used": list(found.used)})
    plan = resolve(plan, loaded.generator, channels, len(paths))
    images = test_batch(paths, plan.data.size, channels[0], CALIBRATION_IMAGES, on_event)
    if resume is None:
        if out is None:
            raise UsageError("no output: give --out RUN, a new folder for the run.")
        run = RunFolder(out)
        run.check_new()
    with devices.memory_errors(_advice(plan)):
        features = load_features(plan.algorithm.features, plan.algorithm.features_weights)
        teacher_images = _teacher_at_work(loaded.generator, images, where)
        if features is not None:
            plan = calibrate(plan, features.to(where), teacher_images)
        run.create()
        with run.locked():
            if resume is None:
                write_atomically(run.recipe, plan.toml().encode())  # from here on the run can be resumed
            return _run(plan, loaded, paths, features, images, teacher_images, run, resume is not None, where, on_event)


def _run(
    plan: Recipe,
    loaded: Loaded,
    paths: list[Path],
    features: FeatureNetwork | None,
    images: Tensor,
    teacher_images: Tensor,
    run: RunFolder,
    resumed: bool,
    device: torch.device,
    on_event: Event,
) -> DistillResult:
    algorithm = build_algorithm(plan, loaded.generator, features)
    stream = ImageStream(
        paths,
        size=plan.data.size,
        load_size=plan.data.load_size,
        flip=plan.data.flip,
        batch=plan.train.batch,
        seed=plan.train.seed,
        channels=channels_of(loaded.generator)[0],
        on_event=on_event,
    )
    trainer = Trainer(
        plan,
        algorithm,
        stream,
        run,
        samples=images[:SAMPLES],
        provenance=loaded.provenance(),
        device=device,
        on_event=on_event,
    )
    if resumed:
        _check_same_teacher(run, loaded)
    continued = trainer.restore() if resumed else False
    if trainer.step < plan.train.steps:
        write_atomically(run.recipe, plan.toml().encode())
    run.write_json(run.environment, _environment(plan, loaded, algorithm.student, device))
    picture = run.samples / "teacher.png"
    save_png(picture, image_grid([images[:SAMPLES], teacher_images[:SAMPLES]], ["input", "teacher"]))
    on_event(_announcement(plan, loaded, algorithm.student, len(paths), picture, trainer.step, device, continued))
    if count_parameters(algorithm.student) >= count_parameters(loaded.generator):
        message = "the student is not smaller than its teacher; choose --width or --target-macs."
        on_event({"event": "warning", "message": message})
    if trainer.step < plan.train.steps:
        trainer.train()
    return DistillResult(
        run=str(run.path),
        student=str(run.student),
        steps=trainer.step,
        parameters=count_parameters(algorithm.student),
        teacher_parameters=count_parameters(loaded.generator),
        losses=trainer.losses,
        seconds_per_step=trainer.seconds_per_step,
        skipped_images=len(stream.skipped),
    )


def build_algorithm(plan: Recipe, teacher: Generator, features: FeatureNetwork | None) -> OMGD:
    """The algorithm of a resolved recipe with a freshly initialised student; the same seed gives the same weights."""
    size = plan.data.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        student = build_generator(plan.student)
        init_weights(student)
        information = build_information(
            plan.information, image_channels=plan.student.out_channels, height=size, width=size
        )
        return OMGD(
            plan.algorithm,
            teacher=teacher,
            student=student,
            features=features,
            information=information,
            optimizer=Adam(plan.train.lr, plan.train.betas),
        )


def channels_of(generator: Generator) -> tuple[int, int]:
    """Input and output channels of a generator, one of the user's own included."""
    return in_channels(generator), out_channels(generator)


# What may change when a run goes on: how long and how fast, not what it learns.
_CHANGEABLE = {"steps", "epochs", "lr", "constant", "precision", "checkpoint_every", "sample_every", "log_every"}

# Files may have moved: the teacher is known by its hash, and other images are warned of.
_MOVABLE = {"teacher": {"source"}, "data": {"roots"}, "algorithm": {"features_weights"}}


def _check_same_run(before: Recipe, after: Recipe) -> None:
    old, new = before.model_dump(), after.model_dump()
    for table in new:
        if isinstance(new[table], dict) and table != "train":
            keys = new[table].keys() - _MOVABLE.get(table, set())
            changed = sorted(f"{table}.{key}" for key in keys if new[table][key] != old[table].get(key))
        elif table == "train":
            changed = [f"train.{k}" for k in new[table] if k not in _CHANGEABLE and new[table][k] != old[table][k]]
        else:
            changed = [table] if new[table] != old[table] else []
        if changed:
            raise UsageError(
                f"{changed[0]} cannot change within a run; leave it away to resume, or start a new run with "
                "--recipe RUN/recipe.toml."
            )


def _located(plan: Recipe, teacher: str | Path, roots: Sequence[str | Path]) -> Recipe:
    """With absolute paths, so that the run can be resumed from any folder."""
    source, features = str(teacher), plan.algorithm.features_weights
    if not source.startswith("hf://"):
        source = str(Path(source).resolve())
    changes = {
        "teacher": plan.teacher.model_copy(update={"source": source}),
        "data": plan.data.model_copy(update={"roots": tuple(str(Path(root).resolve()) for root in roots)}),
    }
    if features is not None:
        features = str(Path(features).resolve())
        changes["algorithm"] = plan.algorithm.model_copy(update={"features_weights": features})
    return plan.model_copy(update=changes)


@torch.no_grad()
def _teacher_at_work(teacher: Generator, images: Tensor, device: torch.device) -> Tensor:
    teacher.to(device).eval()
    return torch.cat([teacher(image[None].to(device)).float() for image in images])


def _check_same_teacher(run: RunFolder, loaded: Loaded) -> None:
    try:
        before = json.loads(run.environment.read_text())["teacher"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # the run was stopped before it had written its environment
    if before != loaded.sha256:
        raise InputError(
            f"{loaded.source}: is not the teacher that {run.path} began with (SHA-256 {loaded.sha256[:12]}, then "
            f"{before[:12]}); put that file back, or start a new run."
        )


def _advice(plan: Recipe) -> str:
    return f"lower train.batch ({plan.train.batch}) or data.size ({plan.data.size}) in a new run."


def _environment(plan: Recipe, loaded: Loaded, student: Generator, device: torch.device) -> dict:
    packages = ("torch", "torchvision", "numpy", "safetensors", "pillow", "onnx", "onnxruntime")
    size = plan.data.size
    return {
        "vemcompress": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "teacher": {
            **loaded.provenance(),
            "family": loaded.generator.family,
            "parameters": count_parameters(loaded.generator),
        },
        "student": {
            "family": student.family,
            "parameters": count_parameters(student),
            "macs": plan.student.cost(size, size).macs(),
        },
    }


def _announcement(plan, loaded, student, images, picture, step, device, continued) -> dict:
    size, teacher = plan.data.size, loaded.generator
    cost = teacher.config.cost(size, size) if teacher.config is not None else None
    return {
        "event": "plan",
        "recipe": plan.name,
        "algorithm": plan.algorithm.model_dump(exclude_none=True),
        "information": plan.information.model_dump(exclude_none=True),
        "teacher": {
            "family": teacher.family,
            "source": loaded.source,
            "parameters": count_parameters(teacher),
            "macs": cost.macs() if cost else None,
        },
        "student": {
            "family": student.family,
            "parameters": count_parameters(student),
            "macs": plan.student.cost(size, size).macs(),
        },
        "images": images,
        "size": size,
        "batch": plan.train.batch,
        "steps": plan.train.steps,
        "step": step,
        "continued": continued,
        "device": device.type,
        "precision": plan.train.precision,
        "picture": str(picture),
    }
