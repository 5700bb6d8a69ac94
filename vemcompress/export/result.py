"""`ExportResult`: a written file and how it was checked."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from vemcompress.export.precision import Quantised


@dataclass(frozen=True)
class ExportResult:
    """A written file, and how it was checked.

    `files` are all its files, `path` first. `max_abs_diff` is the largest difference from PyTorch for values in [-1,
    1]. It is None if this machine cannot run the file, and for int8, which is scored by SSIM instead. `max_level_diff`
    is the largest difference of a uint8 file, in levels of 255. `shapes` are the inputs that were compared. `rewrites`:
    for an ONNX file, the number of places that each exact rewrite changed.
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
        """Plain values for --json."""
        own = {name: value for name, value in vars(self).items() if name != "quantised"}
        plain = asdict(ExportResult(**own)) | {"path": str(self.path), "files": [str(path) for path in self.files]}
        plain["shapes"] = [list(shape) for shape in self.shapes]
        return plain | {"quantised": self.quantised and self.quantised.as_dict()}
