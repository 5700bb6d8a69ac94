"""The next commands after a run has ended, with its paths filled in, ready to copy."""

from collections.abc import Sequence
from pathlib import Path
from shlex import join

TOOL = "vemcompress"


def resume(command: str, run: str | Path) -> str:
    """The command that continues a run."""
    return join([TOOL, command, "--resume", str(run)])


def evaluate(run: str | Path) -> str:
    """The command that evaluates a run on its own test images."""
    return join([TOOL, "eval", str(run)])


def of_student(run: str | Path, best_in: str | Path | None = None, class_path: str | None = None) -> tuple[str, ...]:
    """Commands for a run that trained a student.

    `best_in`: the run whose best checkpoint is not its last one; that checkpoint is exported then. `class_path`: the
    user's own class of the student, if it has one.
    """
    model = run if best_in is None else Path(best_in) / "best" / "student.safetensors"
    own = ["--teacher-class", class_path] if class_path else []
    to = ["--format", "onnx", "-o", str(Path(run) / "student.onnx")]
    return evaluate(run), join([TOOL, "export", str(model), *own, *to])


def of_teacher(run: str | Path, roots: Sequence[str]) -> tuple[str, ...]:
    """Commands for a run that trained a teacher on the images in `roots`."""
    data = [part for root in roots for part in ("--data", root)]
    return evaluate(run), join([TOOL, "distill", "--teacher", str(run), *data, "--out", f"{run}_student"])
