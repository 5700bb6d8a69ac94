"""What can be done with a run that has ended: commands to copy, with its paths filled in."""

from collections.abc import Sequence
from pathlib import Path
from shlex import join

TOOL = "vemcompress"


def resume(command: str, run: str | Path) -> str:
    """The command that goes on with a run."""
    return join([TOOL, command, "--resume", str(run)])


def evaluate(run: str | Path) -> str:
    """By the run's own test images."""
    return join([TOOL, "eval", str(run)])


def of_student(run: str | Path, best_in: str | Path | None = None, class_path: str | None = None) -> tuple[str, ...]:
    """For a run that gave a student. `best_in`: the run whose best checkpoint is an earlier one than its last, and is
    the one to export. `class_path`: the student is of the user's own class."""
    model = run if best_in is None else Path(best_in) / "best" / "student.safetensors"
    own = ["--teacher-class", class_path] if class_path else []
    to = ["--format", "onnx", "-o", str(Path(run) / "student.onnx")]
    return evaluate(run), join([TOOL, "export", str(model), *own, *to])


def of_teacher(run: str | Path, roots: Sequence[str]) -> tuple[str, ...]:
    """For a run that gave a teacher, which learnt from these images."""
    data = [part for root in roots for part in ("--data", root)]
    return evaluate(run), join([TOOL, "distill", "--teacher", str(run), *data, "--out", f"{run}_student"])
