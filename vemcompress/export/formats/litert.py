"""LiteRT (formerly TensorFlow Lite) for Android, iOS and microcontrollers."""

from pathlib import Path

from vemcompress.export.formats.base import Format, Opened
from vemcompress.export.formats.job import Job
from vemcompress.export.int8_litert import quantise_tflite
from vemcompress.export.rules import HEAD, NORMS, PADDING, UPSAMPLING

# Without the last three a mobile ResNet of width 16 takes 3.4 times as long (256 px, one thread).
RULES = UPSAMPLING | PADDING | NORMS | HEAD


class LiteRT(Format):
    """A .tflite file for one image size; input and output have channels last."""

    name = "litert"
    title = "LiteRT"
    suffix = ".tflite"
    extra = "litert"
    packages = ("litert_torch", "ai_edge_litert.interpreter")
    precisions = ("fp32", "int8")
    has_metadata = False
    int8_has_float_ends = True
    last = True

    def convert(self, job: Job, path: Path) -> None:
        library = self.module()
        with self.converting(path):
            program, sample = job.lowered(RULES, self.last)
            made = library.convert(program.module(check_guards=False), (sample,)).model_content()
            if job.precision == "int8":
                how = {"least_ssim": job.least_ssim, "on_event": job.on_event}
                job.quantised = quantise_tflite(made, job.photos, **how)
                made = job.quantised.product
            path.write_bytes(made)  # the library's own writer ends the process if the disk is full
        opened = self._interpreter(path, 1)
        names = opened.get_input_details()[0]["name"], opened.get_output_details()[0]["name"]
        self.name_ends(job, *names)
        self.describe(job, path)

    def _interpreter(self, path: Path, threads: int):
        library = self.module("ai_edge_litert.interpreter")
        with self.converting(path):
            opened = library.Interpreter(model_path=str(path), num_threads=threads)
            opened.allocate_tensors()
        return opened

    def open(self, path: Path, threads: int = 1) -> Opened:
        opened = self._interpreter(path, threads)
        given, drawn = opened.get_input_details()[0], opened.get_output_details()[0]

        def run(x):
            opened.set_tensor(given["index"], x)
            opened.invoke()
            return opened.get_tensor(drawn["index"])

        return Opened(run, "NHWC", tuple(given["shape"].tolist()), drawn["dtype"].__name__ == "uint8")
