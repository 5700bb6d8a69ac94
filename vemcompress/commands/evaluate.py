"""`evaluate`: choose the networks, the images and the size for a run or a model file, and score them with
`evaluation`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

from vemcompress import recipe
from vemcompress.commands.given_images import Data, for_now
from vemcompress.commands.kept_evaluation import KeptEvaluation
from vemcompress.commands.opening import teacher_gone
from vemcompress.commands.parts import at_work
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.report import refreshed
from vemcompress.commands.scored_images import beside_latents, images_of
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import report
from vemcompress.evaluation.conditions import covers
from vemcompress.evaluation.report import Evaluation
from vemcompress.networks.base import Generator, Padding, use_image_statistics
from vemcompress.runs.best import Networks, look
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.runs.shares import information_share
from vemcompress.system import devices, distributed, names
from vemcompress.system.events import Event, Once, silent
from vemcompress.system.files import sha256_file
from vemcompress.system.keys import Overrides, as_overrides
from vemcompress.weights.custom import check_range
from vemcompress.weights.loading import Loaded, load
from vemcompress.weights.modules import Model, source_of
from vemcompress.weights.outside import tell_device
from vemcompress.weights.trust import named

SHOWN = 4  # images used to check a network's value range


class EvaluateOptions(TypedDict, total=False):
    """The keyword arguments of `evaluate`; see there."""

    data: Data
    split: str | None
    overrides: Overrides
    teacher: Model | None
    teacher_class: str | None
    student_class: str | None
    teacher_key: str | None
    teacher_padding: Padding | None
    teacher_range: str | None
    widths: str | None
    teacher_norm: str | None
    segmenter: str | Path | None
    metrics: Sequence[str] | None
    real: str | Path | Sequence[str | Path] | None
    samples: int | None
    inception: str | Path | None
    features: str | None
    features_weights: str | Path | None
    size: int | None
    batch: int | None
    seed: int
    reuse: bool
    device: str
    on_event: Event


@shows_progress
def evaluate(
    model: Model,
    *,
    data: Data = None,
    split: str | None = None,
    overrides: Overrides = (),
    teacher: Model | None = None,
    teacher_class: str | None = None,
    student_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: Padding | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    teacher_norm: str | None = None,
    segmenter: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    real: str | Path | Sequence[str | Path] | None = None,
    samples: int | None = None,
    inception: str | Path | None = None,
    features: str | None = None,
    features_weights: str | Path | None = None,
    size: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    reuse: bool = False,
    device: str = "auto",
    on_event: Event = silent,
    progress: bool = False,
) -> Evaluation:
    """Score a run or a model file on test images, and its teacher for comparison.

        found = vemcompress.evaluate("runs/small", data="photos/")
        print(found.metrics["ssim_teacher"])

    For a run, the teacher, the data with their settings and the size default to those of the run. The last and
    the best checkpoint are scored in one pass. The result is stored in RUN/evaluation.json, and report.html is
    updated if it exists. For a pipeline, the last finished stage is scored.

    Arguments:
        model: a run folder, a weight file, "hf://...", or an nn.Module.
        data: folders or images, as for `distill`; for a model with latent vectors as input, the real images.
        split: the part of a data set, "test" by default ("testA" for single images; if there is none, the
            validation images).
        overrides: settings of the data, such as {"data.kind": "paired"}.
        teacher: the teacher, instead of the run's own.
        teacher_class, student_class: "module:Class" of your own networks.
        teacher_key, teacher_padding, teacher_range: how to read the teacher, or `model` if there is no teacher;
            as for `load_generator`.
        widths: the sub-network to score, if `model` is a supernet.
        teacher_norm: BatchNorm in the teacher: "eval" uses stored statistics, "batch" those of each image.
        segmenter: the file of a segmentation network, for "miou".
        metrics: names such as ["fid", "ssim_teacher"]. It is an error if a named metric cannot be computed.
            None computes all possible metrics; `skipped` says why others are missing.
        real: the real images for FID and KID: a folder, several, or an .npz written by `vemcompress stats`.
        samples: number of images to generate from latent vectors (10,000).
        inception: a file with Inception's weights, instead of the download.
        features: the feature network of the Frechet distance.
        features_weights: the file of that network.
        size: side of the test images in pixels; by default the run's, or 256.
        batch: images at a time; by default 8, on CUDA up to 64.
        seed: seed of the latent vectors and of KID's subsets.
        reuse: return the evaluation stored in the run, if it was made under the same conditions.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        Evaluation: `metrics` (name to value), `teacher` (the teacher's own scores), `best` (scores of the best
        checkpoint), `protocol` (how each metric was measured), `skipped` (why a metric is missing), `images`,
        `size`.

    Raises:
        UsageError, RecipeError, InputError, NumericalError, MemoryExhausted, and NetworkError if the weights
        for a requested metric cannot be downloaded.

    Processes started by torchrun share the images, and all of them return the result.
    """
    where, changes = devices.choose(device), as_overrides(overrides)
    options = {"metrics": metrics, "real": real, "inception": inception, "features": features}
    options |= {"features_weights": features_weights, "batch": batch, "seed": seed, "samples": samples}
    sources, classes = (source_of(model, "model"), source_of(teacher)), (teacher_class, student_class)
    with distributed.group(where), named(*classes), for_now(data, on_event) as roots:
        on_event = Once(distributed.told_by_writer(on_event))
        networks, found, share, own = distributed.together(
            lambda: _opened(
                *(sources[0], widths, roots, split, changes, sources[1], classes, teacher_key, teacher_range),
                *(teacher_norm, teacher_padding),
                *(segmenter, size, real, samples, where, on_event),
            )
        )
        with devices.memory_errors("lower --batch or --size."), devices.arithmetic("fp32"):
            earlier = own.read(on_event) if own is not None else None
            known = partial(_covering, earlier if reuse else None)
            result = report.evaluate(**networks, device=where, on_event=on_event, known=known, **options)
        if result == earlier:
            return result
        result.information_share = share
        result = _of_run(result, found)
        if own is not None and _covering(earlier, result.conditions) is None:
            distributed.by_writer(lambda: own.write(result, on_event))
            distributed.by_writer(lambda: refreshed(own.run.path, on_event))
    return result


def _covering(earlier: Evaluation | None, conditions: dict) -> Evaluation | None:
    """The earlier evaluation, if it has all metrics that a new one under these conditions would have."""
    return earlier if earlier is not None and covers(earlier.conditions, conditions) else None


def _opened(
    model,
    widths,
    data,
    split,
    overrides,
    teacher,
    classes,
    key,
    range,
    teacher_norm,
    padding,
    segmenter,
    size,
    real,
    samples,
    device,
    on_event: Event,
) -> tuple[dict, Networks, float | None, KeptEvaluation | None]:
    """Load the networks of a run or a file, and the images to score them on.

    Returns the arguments of `report.evaluate`, the run's record of its networks, the add-on's share of the student's
    gradient, and the place where the run stores its evaluation.
    """
    if is_series(model, "stages"):
        model = Series.read(model, "stages").last_done().path
        on_event({"event": "stage", "title": f"stage {model.name}, the last finished one"})
    folder = Path(model)
    plan = _recipe_of(folder, overrides)
    teacher_class, student_class = classes
    settings = (plan or recipe.defaults(overrides)).data
    roots = [data] if isinstance(data, str | Path) else data or settings.roots
    settings = settings.but(roots=tuple(map(names.stored, roots)), size=size or settings.size)
    if teacher is None and teacher_class is not None and (plan is None or plan.learns):
        raise UsageError("--teacher-class needs --teacher, the file with its weights.")
    found = look(folder) if plan is not None else Networks("student", None, None)
    own = student_class or getattr(plan and plan.student, "class_path", None)
    alone = teacher is None and plan is None
    of_model = {"key": key, "padding": padding, "range": range} if alone else {}
    if plan is None and _is_onnx(model) and not (_is_onnx(teacher) or teacher_class):
        of_model, range = of_model | {"range": range}, None  # only the model needs a range here
    opened = load(model, class_path=own, widths=widths, **of_model)
    opened.tell(on_event)
    student = opened.generator
    if student.takes.kind == "latent":
        stated = size is not None or any(key.strip().startswith("data.size") for key in overrides)
        settings = beside_latents(settings, student.takes.image, stated=stated)
        if data and real is not None:
            raise UsageError("the real images are given twice, by --data and by --real; omit one of them.")
    elif samples is not None:
        raise UsageError(f"--samples: {model} makes one image from each input image; omit --samples.")
    elif not settings.roots:
        raise UsageError("no data: give --data DIR, a folder of test images.")
    norm, best = teacher_norm or (plan.teacher.norm if plan is not None else "eval"), None
    if found.name == "teacher":
        student = _learnt(student, norm)
    original = teacher_of(folder, plan, found.name, teacher, teacher_class, key, norm, padding, range, on_event)
    if found.best is not None and found.best.step != found.step:
        best = load(found.best.path, class_path=own, widths=widths).generator
        best = _learnt(best, norm) if found.name == "teacher" else best
    measured = [*([student] if alone else []), *([original.generator] if original else [])]
    only = {getattr(network.takes, "only", None) for network in (student, *measured)} - {None}
    if only and size is None and plan is None and not any("data.size" in override for override in overrides):
        settings = settings.but(size=only.pop())
    trained_on = plan is not None and _folders(plan.data.roots) == _folders(settings.roots)
    images = images_of(settings, student.takes, split or "test", real, own=trained_on, on_event=on_event)
    from vemcompress.evaluation.onnx_segmenter import segmenter_on  # late: only some evaluations need ONNX Runtime

    for network in measured:
        _check_range(network, images, device, on_event)
    with devices.memory_errors("lower --batch or --size."):
        reads = segmenter_on(segmenter, device) if segmenter is not None else None
    stated = original and _padding_of(original) | original.stated_range
    about = {"teacher": original and {"sha256": original.sha256, "norm": norm} | stated}
    about["segmenter"] = None if segmenter is None else sha256_file(segmenter)
    networks = {"student": student, "teacher": original and original.generator, "best": best}
    networks |= {"images": images, "segmenter": reads, "about": about}
    run = RunFolder(folder)
    own = KeptEvaluation(run, opened.sha256) if plan is not None and widths is None else None
    return networks, found, information_share(run.metrics), own


def _folders(roots: Sequence[str]) -> set[Path]:
    return {Path(names.found(root)).resolve() for root in roots}


def _is_onnx(source) -> bool:
    return str(source).lower().endswith(".onnx")


def _padding_of(loaded: Loaded) -> dict[str, str]:
    """The padding as an evaluation condition, if it is not the published one."""
    padding = getattr(loaded.generator.config, "padding", "reflect")
    return {} if padding == "reflect" else {"padding": padding}


def _check_range(network: Generator, images, device, on_event: Event) -> None:
    """Check the value range of a network of unknown range on a few images; see `custom.check_range`."""
    if network.config is not None:
        return
    tell_device(network, device, on_event)
    if network.takes.kind == "image" and network.takes.only in (None, images.settings.size):
        inputs = images.spread(SHOWN).views(network.channels, SHOWN, on_event).inputs
        check_range(network, at_work(network, inputs, device), on_event)


def _of_run(result: Evaluation, found: Networks) -> Evaluation:
    """The evaluation with the run's own record of its networks. If the last checkpoint is the best, its figures are
    used for both."""
    result.role, result.step = found.name, found.step
    result.iou = {found.name if role == "student" else role: values for role, values in result.iou.items()}
    if found.name == "teacher" and not result.teacher:  # a teacher's similarity to itself means nothing
        result.skipped = {k: v for k, v in result.skipped.items() if not k.endswith("_teacher")}
    if found.best is not None:
        metrics = result.best["metrics"] if result.best else dict(result.metrics)
        told = {"step": found.best.step, "picked_by": found.best.picked_by, "on": found.best.on}
        result.best = told | {"metrics": metrics}
    return result


def _recipe_of(folder: Path, overrides: Sequence[str]) -> recipe.Recipe | None:
    """The resolved recipe of a run folder with the user's data settings; None for a file."""
    for override in overrides:
        if not override.strip().startswith("data."):
            raise UsageError(f"--set {override}: eval accepts only settings of the data, such as data.kind=paired.")
    path = folder / "recipe.toml"
    try:
        return recipe.read(path, overrides) if path.is_file() else None
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions.") from error


def teacher_of(
    folder: Path,
    plan,
    name: str,
    given=None,
    class_path: str | None = None,
    key: str | None = None,
    norm: str = "eval",
    padding: Padding | None = None,
    range: str | None = None,
    on_event: Event = silent,
) -> Loaded | None:
    """The teacher to compare with: the user's, or the run's own (trained in the run, or given to it).

    `name` is the network that the run trained. Returns None if there is no teacher, or, with a warning, if its file is
    gone.
    """
    if given is not None:
        loaded = load(given, class_path=class_path, norm=norm, key=key, padding=padding, range=range)
        loaded.tell(on_event)
        return loaded
    if plan is None or name == "teacher" or plan.from_pairs:
        return None
    if plan.learns:
        loaded = load(folder / "teacher.safetensors")
        _learnt(loaded.generator, norm)
        return loaded
    if told := teacher_gone(plan):
        on_event({"event": "warning", "message": f"{told}; metrics that need it are omitted."})
        return None
    about = plan.teacher
    more = {"class_path": class_path or about.class_path, "key": key or about.key}
    more |= {"padding": padding or about.padding, "range": range or about.range}
    return load(about.source, norm=norm, **more) if about.source else None


def _learnt(generator: Generator, norm: str) -> Generator:
    """A teacher trained in the run. With `norm` "batch", BatchNorm uses the statistics of each image."""
    if norm == "batch":
        use_image_statistics(generator)
    return generator
