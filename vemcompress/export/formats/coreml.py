"""Core ML: iPhones, iPads and Macs. Converted and looked at here; only a Mac runs it."""

from pathlib import Path
from types import ModuleType

from vemcompress.export.formats.base import Format, Job, Opened


class CoreML(Format):
    """An .mlpackage, which is a folder, of one image size. With `uint8` both ends are images, as Vision and SwiftUI have
    them."""

    name = "coreml"
    title = "Core ML"
    suffix = ".mlpackage"
    extra = "coreml"
    packages = ("coremltools",)
    precisions = ("fp32", "fp16")
    runs = False

    def convert(self, job: Job, path: Path) -> None:
        library = self.library()
        with self.converting():
            model = self._converted(library, job)
            described = model.get_spec().description
            names = described.input[0].name, described.output[0].name
            job.facts |= dict(zip(("input_name", "output_name"), names, strict=True))
            model.user_defined_metadata.update({key: str(value) for key, value in job.facts.items()})
            model.save(str(path))
        if job.precision == "fp16":
            job.notes.append("sums of instance norms may overflow in fp16: look at its images on a device")

    def _converted(self, library: ModuleType, job: Job):
        kept = library.precision.FLOAT32 if job.precision == "fp32" else library.precision.FLOAT16
        how = {"convert_to": "mlprogram", "minimum_deployment_target": library.target.iOS16, "compute_precision": kept}
        program, _ = job.lowered({})
        return library.convert(program.run_decompositions({}), **how)

    def open(self, path: Path, threads: int = 1) -> Opened:
        raise NotImplementedError("Core ML runs on a Mac alone")
