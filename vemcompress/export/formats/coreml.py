"""Core ML for iPhones, iPads and Macs. Files are converted and read back here, but only a Mac runs them."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from vemcompress.errors import ExportError
from vemcompress.export.formats.base import Checked, Format, Opened
from vemcompress.export.formats.job import Job


class CoreML(Format):
    """An .mlpackage (a folder) for one image size. With `uint8`, input and output are images, as in Vision and
    SwiftUI."""

    name = "coreml"
    title = "Core ML"
    suffix = ".mlpackage"
    extra = "coreml"
    packages = ("coremltools",)
    precisions = ("fp32", "fp16")
    is_folder = True
    runs_here = False

    def convert(self, job: Job, path: Path) -> None:
        library = self.module()
        with self.converting(path):
            model = self._converted(library, job)
            ends = model.get_spec().description
            given, drawn = ends.input[0].name, ends.output[0].name
            self.name_ends(job, given, drawn)
            model.user_defined_metadata.update({key: str(value) for key, value in job.facts.items()})
            model.license = job.facts["licence"]  # this and the descriptions are what Xcode shows
            model.input_description[given], model.output_description[drawn] = job.facts["input"], job.facts["output"]
            model.save(str(path))

    def compared(self, job: Job, path: Path) -> Checked:
        """Read the file back and check the names of its input and output. The numbers can be checked only on a Mac."""
        with self.converting(path):
            ends = self.module().utils.load_spec(str(path)).description
        names = ends.input[0].name, ends.output[0].name
        if names != (job.facts["input_name"], job.facts["output_name"]):
            raise ExportError(
                f"{path.name}: coremltools named input and output {' and '.join(names)}, which is not what was asked "
                "for; choose another format."
            )
        job.notes.append("converted, not run: only a Mac runs Core ML; compare its images there before you ship it")
        if job.precision == "fp16":
            job.notes.append("sums in instance norms may overflow in fp16; check the images on a device")
        return Checked(None, None, [])

    def _converted(self, library: ModuleType, job: Job):
        kept = library.precision.FLOAT32 if job.precision == "fp32" else library.precision.FLOAT16
        how = {"convert_to": "mlprogram", "minimum_deployment_target": library.target.iOS16, "compute_precision": kept}
        network = _Pixels(job.network) if job.uint8 else job.network
        program, sample = replace(job, network=network, uint8=False).lowered({})
        traced = torch.jit.trace(program.module(check_guards=False), sample, check_trace=False)
        given, drawn = self._ends(library, job, tuple(sample.shape))
        return library.convert(traced, inputs=[given], outputs=[drawn], **how)

    def _ends(self, library: ModuleType, job: Job, shape: tuple[int, ...]) -> tuple[object, object]:
        """Types of input and output: images for uint8, which Vision and SwiftUI use directly; else arrays."""
        if not job.uint8:
            return library.TensorType(job.contract.name, shape), library.TensorType("y")
        layouts = {1: library.colorlayout.GRAYSCALE, 3: library.colorlayout.RGB}
        images = {job.contract.out_channels} | ({shape[1]} if job.of_images else set())
        if not images <= set(layouts):
            raise ExportError("Core ML has images of 1 or 3 channels only; omit --uint8 for this network.")
        drawn = library.ImageType("result", color_layout=layouts[job.contract.out_channels])
        if not job.of_images:
            return library.TensorType(job.contract.name, shape), drawn
        levels = {"scale": 1 / 127.5, "bias": [-1.0] * shape[1] if shape[1] > 1 else -1.0}
        return library.ImageType("image", shape, color_layout=layouts[shape[1]], **levels), drawn

    def open(self, path: Path, threads: int = 1) -> Opened:
        raise ExportError(f"{path}: only a Mac runs Core ML; use the file there.")


class _Pixels(nn.Module):
    """A network whose output images have the range 0..255, as in Core ML."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return (self.network(x) * 127.5 + 127.5).clamp(0, 255)
