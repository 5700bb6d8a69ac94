"""The parts of a run folder that `push` publishes: the weights' file, the metrics, a picture, the teacher's size."""

from dataclasses import dataclass
from pathlib import Path

from vemcompress.commands.kept_evaluation import KeptEvaluation
from vemcompress.commands.model_card import Figures
from vemcompress.console.words import which_images
from vemcompress.errors import InputError, UsageError
from vemcompress.runs.best import checked, look
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series, is_series
from vemcompress.system.events import Event
from vemcompress.system.files import MALFORMED, is_count, read_bytes, read_json, sha256_file
from vemcompress.system.private import without_folders
from vemcompress.weights.folder import made
from vemcompress.weights.hub import is_hub
from vemcompress.weights.loading import weights_of


@dataclass(frozen=True)
class Subject:
    """The weights to push: the file at `path`, with the `name` "student" or "teacher".

    `title` is the name of its run or its file. `run` is the run that it belongs to, or None. `recipe` is the recipe
    file of the run, or of its pipeline. `best` says whether it is the run's best checkpoint, and `step` is its training
    step.
    """

    path: Path
    name: str
    title: str
    run: RunFolder | None = None
    recipe: Path | None = None
    best: bool = False
    step: int | None = None


def subject(model: str | Path, best: bool) -> Subject:
    """The weights to push for `model`. Raises InputError (4), and UsageError (2) for a model that is already on the Hub
    or has no best checkpoint."""
    if is_hub(str(model)):
        raise UsageError(f"{model}: is already on the Hub; give a run folder, or a .safetensors file.")
    path = Path(model)
    title = path.absolute().name if path.is_dir() else path.stem
    if not path.is_dir():
        if best:
            raise UsageError(f"--best: needs a run folder, but {path} is a file; omit --best.")
        home = path.absolute().parent
        of_best = home.name == "best"
        run = home.parent if of_best else home
        told = made(run) if (run / "recipe.toml").is_file() else None
        if told is None or path.name != f"{told.gives}.safetensors":
            return Subject(path, "student", title)
        return _of_run(run, run.name, run / "recipe.toml", of_best)
    recipe = path / "recipe.toml"
    run = Series.read(path, "stages").last_done().path if is_series(path, "stages") else path
    weights_of(run)  # raises an error if the folder is no run, or has no saved weights
    return _of_run(run, title, recipe, best)


def _of_run(folder: Path, title: str, recipe: Path, best: bool) -> Subject:
    run, found = RunFolder(folder), look(folder)
    path = (run.best if best else run.path) / f"{found.name}.safetensors"
    weights_of(path)  # raises an error if no best checkpoint was picked
    step = found.best.step if best and found.best is not None else found.step
    return Subject(path, found.name, title, run, recipe if recipe.is_file() else None, best, step)


def figures_of(found: Subject, on_event: Event) -> Figures | None:
    """The metrics of the newest evaluation of this network; if there is none, the score that picked the best
    checkpoint, or the measurement at the end of the run. None if nothing was measured."""
    if found.run is None:
        return None
    last = found.run.artifact(found.name)
    kept = KeptEvaluation(found.run, sha256_file(last)).read(on_event) if last.is_file() else None
    if kept is not None:
        metrics = (kept.best or {}).get("metrics") if found.best else kept.metrics
        if isinstance(metrics, dict) and metrics:
            return Figures(metrics, kept.teacher, without_folders(kept.protocol), "`vemcompress eval`")
    return _measured_in_training(found)


def _measured_in_training(found: Subject) -> Figures | None:
    try:
        said = checked(read_json(found.run.best / "best.json"))
        if said["step"] == found.step:
            on = f"{which_images(said['on'])}, which also picked the best checkpoint"
            return Figures({said["metric"]: said["value"]}, {}, {said["metric"]: on}, "training")
    except (OSError, *MALFORMED):
        pass
    try:
        quality = None if found.best else read_json(found.run.environment)["quality"]
        on = f"{quality['images']} of {which_images(quality['on'])}"
        return Figures(dict(quality["metrics"]), {}, dict.fromkeys(quality["metrics"], on), "training")
    except (OSError, *MALFORMED):
        return None


def teacher_cost(found: Subject) -> dict:
    """The teacher's family and parameters from the run's environment.json, or an empty dict."""
    try:
        said = read_json(found.run.environment)["teacher"] if found.run is not None else {}
        known = isinstance(said["family"], str) and is_count(said["parameters"])
        return {"family": said["family"], "parameters": said["parameters"]} if known else {}
    except (OSError, *MALFORMED):
        return {}


def picture_of(found: Subject) -> tuple[int | None, bytes | None]:
    """The newest sample sheet and its step; for the best checkpoint, the sheet of its step if there is one. Raises
    InputError if it cannot be read."""
    if found.run is None:
        return None, None
    pictures = sorted(found.run.samples.glob("step-*.png"))
    exact = [path for path in pictures if path.stem == f"step-{found.step or 0:06d}"]
    chosen = exact if found.best and exact else pictures
    if not chosen:
        return None, None
    try:
        step = chosen[-1].stem.removeprefix("step-")
        return int(step) if step.isdecimal() else None, read_bytes(chosen[-1])
    except OSError as error:
        raise InputError(f"{chosen[-1]}: cannot be read ({error.strerror or error}); use --no-picture.") from error
