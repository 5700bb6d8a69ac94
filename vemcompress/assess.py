"""Scores a run or a model file: which teacher, which images and which size, then `evaluation`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vemcompress import devices, recipe
from vemcompress.data.sources import FLAT, find_test_images
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import run as evaluation
from vemcompress.evaluation.features import INCEPTION, load_extractor, squeezenet_name
from vemcompress.evaluation.statistics import compute_statistics, save_statistics
from vemcompress.weights.loading import load


def evaluate(
    model: str | Path,
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    split: str = "testA",
    teacher: str | Path | None = None,
    teacher_class: str | None = None,
    teacher_norm: str | None = None,
    size: int | None = None,
    device: str = "auto",
    on_event: Callable[[dict], None] = lambda event: None,
    **options,
) -> evaluation.Evaluation:
    """Evaluate `model`, a run folder or a model file, on the test images of `data`.

    A run supplies what is not given: its teacher, its data's roots, its size. `options` are those of
    `evaluation.run.evaluate`. Raises the classes of `errors`.
    """
    where = devices.choose(device)
    plan = _recipe_of(model)
    data, given = [data] if isinstance(data, str | Path) else data, bool(data)
    if plan is not None:
        data = data or plan.data.roots
        size = size or plan.data.size
        if teacher is None:
            teacher, teacher_class = plan.teacher.source, teacher_class or plan.teacher.class_path
            teacher_norm = teacher_norm or plan.teacher.norm
    if teacher is None and teacher_class is not None:
        raise UsageError("--teacher-class needs --teacher, the file with its weights.")
    if not data:
        raise UsageError("no data: give --data DIR, a folder of test images.")
    student = load(model).generator
    norm = teacher_norm or "eval"
    original = load(teacher, class_path=teacher_class, norm=norm).generator if teacher else None
    found = find_test_images(data, split)
    on_event({"event": "data", "images": len(found.paths), "used": list(found.used)})
    if not given and FLAT in found.used:
        message = "these are the images that the run was trained on; give test images with --data."
        on_event({"event": "warning", "message": message})
    with devices.memory_errors("lower --batch or --size."):
        return evaluation.evaluate(
            student, original, found.paths, size=size, device=where, on_event=on_event, **options
        )


def real_statistics(
    data: Path,
    out: Path,
    *,
    features: str,
    weights: Path | None,
    size: int | None,
    batch: int,
    device: str,
    on_event: Callable[[dict], None],
) -> dict:
    """Write the .npz of a folder's statistics; returns what it holds."""
    where = devices.choose(device)
    name = INCEPTION if features == "inception" else squeezenet_name(features, weights)
    extractor = load_extractor(name, weights)
    statistics = compute_statistics(data, extractor, size=size, batch=batch, device=where, on_event=on_event)
    save_statistics(out, statistics)
    return {"file": str(out), "features": name, "images": statistics.images, "dimensions": len(statistics.mu)}


def _recipe_of(model: str | Path):
    """The resolved recipe of a run folder; None for a file."""
    path = Path(model) / "recipe.toml"
    try:
        return recipe.read(path) if path.is_file() else None
    except OSError as error:
        raise InputError(f"{model}: cannot be read ({error.strerror}); check its permissions.") from error
