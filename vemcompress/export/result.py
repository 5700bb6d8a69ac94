"""What an export gives back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from vemcompress.export.precision import Quantised


@dataclass(frozen=True)
class ExportResult:
    """A file that was written, and how it was checked.

    `files` are all that belong to it, `path` first. `max_abs_diff` is the largest difference from PyTorch on [-1, 1],
    None where this machine cannot run the file or it is int8, which is judged by its images; `max_level_diff` that of a
    file with uint8 at both ends, in levels of 255. `shapes` are the inputs that were compared. Of an ONNX file
    `rewrites` says at how many places each exact rewrite applied.
    """

    path: Path
    format: str
    precision: str
    bytes: int
    files: list[Path]
    max_abs_diff: float | None
    max_level_diff: int | None
    shapes: list[tuple[int, ...]]
    input: str
    output: str
    metadata: dict[str, str]
    opset: int | None = None
    nodes: int | None = None
    rewrites: dict[str, int] = field(default_factory=dict)
    quantised: Quantised | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """For --json."""
        own = {name: value for name, value in vars(self).items() if name != "quantised"}
        plain = asdict(ExportResult(**own)) | {"path": str(self.path), "files": [str(path) for path in self.files]}
        plain["shapes"] = [list(shape) for shape in self.shapes]
        return plain | {"quantised": self.quantised and self.quantised.as_dict()}
