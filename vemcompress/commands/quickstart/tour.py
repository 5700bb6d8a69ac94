"""The whole tool, once, on the embedded teacher and drawn images: distil, evaluate, export, generate, bench."""

from pathlib import Path
from time import perf_counter

import torch

from vemcompress import recipe as recipes
from vemcompress.commands import parts
from vemcompress.commands.distill import distill
from vemcompress.commands.generate import generate
from vemcompress.commands.quickstart import TEACHER
from vemcompress.commands.quickstart.scenes import write_images
from vemcompress.data.images import save_png
from vemcompress.data.listing import list_images
from vemcompress.data.stream import test_batch
from vemcompress.errors import UsageError
from vemcompress.evaluation import Evaluation, evaluate
from vemcompress.export.exporting import export_onnx
from vemcompress.export.latency import bench
from vemcompress.networks.base import Generator
from vemcompress.runs.pictures import image_grid
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.loading import load

RECIPE, TRAIN_IMAGES, TEST_IMAGES, ROWS = "quickstart", 160, 24, 4
TRAIN_SEED, TEST_SEED = 0, 1_000_000


def tour(out: str | Path, *, steps: int | None = None, device: str = "auto", on_event: Event = silent) -> dict:
    """Run everything in the new folder `out`; returns the closing table and the picture's path.

    Raises UsageError where the folder already exists.
    """
    out, began = Path(out), perf_counter()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: already exists; remove it, or give another folder with --out.")

    def stage(title: str) -> None:
        on_event({"event": "stage", "title": title})

    plan = recipes.read(RECIPE, [f"train.steps={steps}"] if steps else [])
    size = plan.data.size
    stage(f"1/6  Drawing {TRAIN_IMAGES + TEST_IMAGES} scenes by day")
    write_images(out / "images" / "trainA", TRAIN_IMAGES, TRAIN_SEED, size)
    write_images(out / "images" / "testA", TEST_IMAGES, TEST_SEED, size)

    stage("2/6  Distilling the teacher (day to night) with OMGD + VEM")
    # For networks this small a second thread gains a tenth, and costs several times as much on a busy machine.
    with devices.threads(1):
        result = distill(
            TEACHER,
            data=[out / "images"],
            out=out / "run",
            recipe=RECIPE,
            overrides=[f"train.steps={steps}"] if steps else (),
            device=device,
            on_event=on_event,
        )
    teacher, student = load(TEACHER).generator, load(result.student).generator
    resolved = recipes.read(out / "run" / "recipe.toml")
    untrained = parts.distillation(resolved, load(TEACHER).generator).student.eval()
    save_generator(out / "untrained.safetensors", untrained)

    stage("3/6  Evaluating on scenes that it has not seen")
    tests, where = list_images(out / "images" / "testA"), devices.choose(device)
    scores = evaluate(student, teacher, tests, size=size, device=where, on_event=on_event)
    before = evaluate(untrained, teacher, tests, size=size, device=where, on_event=on_event)

    stage("4/6  Exporting to ONNX, checked against PyTorch")
    exported = export_onnx(student.cpu(), out / "student.onnx", on_event=on_event)
    export_onnx(student, out / "student_uint8.onnx", uint8=True, on_event=on_event)

    stage("5/6  Generating with ONNX Runtime")
    generate(out / "student.onnx", out / "images" / "testA", out / "nights")

    stage("6/6  Measuring latency")
    latency = {name: bench(model.cpu(), size=size) for name, model in (("teacher", teacher), ("student", student))}
    picture = _picture(out, teacher, student, untrained, tests[:ROWS], size)
    return {
        "columns": ["teacher", "student", "gain"],
        "rows": _rows(teacher, student, size, latency, scores, before),
        "notes": [
            f"fidelity: means over {scores.images} unseen scenes at {size} px, against the teacher; the gain is over "
            "the untrained student",
            f"ONNX differs from PyTorch by at most {exported.max_abs_diff:.1e}",
            f"picture: {picture}",
            f"{perf_counter() - began:.0f} s in all; the run is in {out / 'run'}",
        ],
        "metrics": scores.metrics,
        "untrained": before.metrics,
        "picture": str(picture),
        "run": result.run,
        "seconds": perf_counter() - began,
    }


def _rows(
    teacher: Generator, student: Generator, size: int, latency: dict, scores: Evaluation, before: Evaluation
) -> dict[str, list]:
    costs = [network.config.cost(size, size) for network in (teacher, student)]
    counts = {
        "parameters": [cost.parameters for cost in costs],
        "MACs, true": [cost.true for cost in costs],
        "MACs, paper": [cost.paper for cost in costs],
        "MACs, paper + norm": [cost.paper_norm for cost in costs],
    }
    for runtime in ("torch", "onnxruntime"):
        counts[f"{runtime} p50, ms"] = [latency[n]["runtimes"][runtime]["p50_ms"] for n in ("teacher", "student")]
    rows = {name: [big, small, f"{big / small:.1f} x"] for name, (big, small) in counts.items()}
    for name, title, best in (
        ("ssim_teacher", "SSIM to the teacher", 1.0),
        ("psnr_teacher", "PSNR to the teacher, dB", None),
        ("l1_teacher", "L1 to the teacher", 0.0),
    ):
        value = scores.metrics[name]
        rows[title] = [best, value, f"{value - before.metrics[name]:+.3g}"]
    return rows


@torch.no_grad()
def _picture(
    out: Path, teacher: Generator, student: Generator, untrained: Generator, paths: list[Path], size: int
) -> Path:
    inputs = test_batch(paths, size)
    columns = [inputs, teacher(inputs), student(inputs), untrained.cpu()(inputs)]
    path = out / "quickstart.png"
    save_png(path, image_grid(columns, ["input", "teacher", "student", "untrained"]))
    return path
