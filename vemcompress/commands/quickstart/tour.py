"""The quickstart's tour of the tool, with the embedded teacher and drawn images: distil, evaluate, export, generate,
bench.

For comparison, a second student is trained without the teacher: the same network with the same initial weights, number
of steps and losses between images. Its targets are the drawn night images, which a user with only a teacher does not
have.
"""

from pathlib import Path
from time import perf_counter

import torch

from vemcompress import recipe as recipes
from vemcompress.commands.bench import bench_models
from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.generate import generate
from vemcompress.commands.quickstart import TEACHER
from vemcompress.commands.quickstart.scenes import write_pairs
from vemcompress.commands.report import reported
from vemcompress.data.images import save_png
from vemcompress.data.stream import test_batch
from vemcompress.errors import UsageError
from vemcompress.evaluation import Evaluation
from vemcompress.export.exporting import export_onnx
from vemcompress.export.latency import DEFAULT
from vemcompress.networks.base import Generator
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.pictures import image_grid
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.weights.loading import load

RECIPE, TRAIN_IMAGES, TEST_IMAGES, ROWS = "quickstart", 400, 24, 4
TRAIN_SEED, TEST_SEED = 0, 1_000_000
# The same run without the teacher: pairs of drawn images replace its outputs. Without the cache, each image is flipped
# at random again every time it is used.
UNDISTILLED = ("teacher.source=pairs", "data.kind=paired", "information.name=none", "train.teacher_cache=0")
SCORES = (  # metric, its title, the teacher's own value (None: as evaluated)
    ("ssim_teacher", "SSIM to the teacher", 1.0),
    ("psnr_teacher", "PSNR to the teacher, dB", ""),
    ("l1_teacher", "L1 to the teacher", 0.0),
    ("ssim_target", "SSIM to the drawn night", None),
    ("psnr_target", "PSNR to the drawn night, dB", None),
)


def tour(out: str | Path, *, steps: int | None = None, device: str = "auto", on_event: Event = silent) -> dict:
    """Run everything in the new folder `out`; returns the closing table and the picture's path.

    Raises UsageError if the folder already exists.
    """
    out, began = Path(out), perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: already exists; remove it, or give another folder with --out.")

    def stage(title: str) -> None:
        on_event({"event": "stage", "title": title})

    changes = [f"train.steps={steps}"] if steps else []
    size, images = recipes.read(RECIPE, changes).data.size, out / "images"
    stage(f"1/7  Drawing {TRAIN_IMAGES + TEST_IMAGES} scenes by day and by night")
    write_pairs(images, "train", TRAIN_IMAGES, TRAIN_SEED, size)
    tests = write_pairs(images, "test", TEST_IMAGES, TEST_SEED, size)

    settings = {"data": [images], "recipe": RECIPE, "device": device, "on_event": on_event}
    # For such small networks, a second thread gains about 10 %, and makes the run several times slower on a busy
    # machine.
    with devices.threads(1):
        stage("2/7  Distilling the teacher (day to night) with OMGD + VEM")
        run = distill(TEACHER, out=out / "run", overrides=changes, **settings)
        stage("3/7  Training the same student without the teacher, from the drawn nights")
        other = distill(out=out / "undistilled", overrides=[*changes, *UNDISTILLED], **settings)
    teacher, student, undistilled = (load(path).generator for path in (TEACHER, run.student, other.student))

    stage("4/7  Evaluating both on scenes that neither has seen")
    asked = {"teacher": TEACHER, "metrics": [name for name, *_ in SCORES], "device": device, "on_event": on_event}
    scores, without = (evaluate(r, overrides=["data.kind=paired"], **asked) for r in (run.run, other.run))

    stage("5/7  Exporting to ONNX, checked against PyTorch")
    exported = export_onnx(student, out / "student.onnx", on_event=on_event)
    export_onnx(student, out / "student_uint8.onnx", uint8=True, on_event=on_event)

    stage("6/7  Generating with ONNX Runtime")
    generate(out / "student.onnx", images / "testA", out / "nights")

    stage("7/7  Measuring latency")
    latency = bench_models({"teacher": teacher, "student": student}, size=size, memory=False).as_dict()
    folder = RunFolder(run.run)
    folder.write_json(folder.latency, latency)
    reported(folder.path, on_event)
    picture = _picture(out, [teacher, student, undistilled], tests[:ROWS], size)
    return {
        "columns": ["teacher", "student", "gain", "without distillation"],
        "rows": _costs(teacher, student, size, latency["models"]) | _scores(scores, without),
        "notes": [
            f"scores: means over {scores.images} unseen scenes at {size} px",
            f"without distillation: the same student, trained for as many steps on the {TRAIN_IMAGES} drawn nights, "
            "which a user who has only a teacher does not have",
            f"ONNX differs from PyTorch by at most {exported.max_abs_diff:.1e}",
            f"picture: {picture}",
            f"{perf_counter() - began:.0f} s in all; the run is in {out / 'run'}",
        ],
        "metrics": scores.metrics,
        "undistilled": without.metrics,
        "picture": str(picture),
        "run": run.run,
        "seconds": perf_counter() - began,
    }


def _costs(teacher: Generator, student: Generator, size: int, latency: dict) -> dict[str, list]:
    costs = [network.config.cost(size, size) for network in (teacher, student)]
    counts = {
        "parameters": [cost.parameters for cost in costs],
        "MACs, true": [cost.true for cost in costs],
        "MACs, paper": [cost.paper for cost in costs],
        "MACs, paper + norm": [cost.paper_norm for cost in costs],
    }
    counts |= {
        f"{name} p50, ms": [latency[which]["runtimes"][name]["p50_ms"] for which in ("teacher", "student")]
        for name in DEFAULT
    }
    return {name: [big, small, f"{big / small:.1f} x", "the same"] for name, (big, small) in counts.items()}


def _scores(distilled: Evaluation, without: Evaluation) -> dict[str, list]:
    def row(name: str, best: float | str | None) -> list:
        return [distilled.teacher[name] if best is None else best, distilled.metrics[name], "", without.metrics[name]]

    return {title: row(name, best) for name, title, best in SCORES}


@torch.no_grad()
def _picture(out: Path, networks: list[Generator], paths: list[Path], size: int) -> Path:
    inputs, path = test_batch(paths, size), out / "quickstart.png"
    columns = [inputs, *(network(inputs) for network in networks)]
    save_png(path, image_grid(columns, ["input", "teacher", "student", "without distillation"]))
    return path
