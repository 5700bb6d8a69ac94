"""ncnn for phones (CPU and Vulkan), converted by pnnx."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from vemcompress.errors import ExportError, first_line
from vemcompress.export.formats.base import Format, Opened
from vemcompress.export.formats.job import Job

UNKNOWN = re.compile(r"^((?:aten|prim|pnnx|torch|F|nn|Tensor)[.:]\S+)", re.MULTILINE)  # unconverted PyTorch layers


class NCNN(Format):
    """A .param file with the graph and a .bin file with the weights. Input and output are called in0 and out0. A batch
    is one image."""

    name = "ncnn"
    title = "ncnn"
    suffix = ".ncnn.param"
    extra = "ncnn"
    packages = ("ncnn", "pnnx")
    precisions = ("fp32", "fp16")
    takes_uint8 = False
    has_metadata = False

    def files(self, path: Path) -> list[Path]:
        graph, described = super().files(path)
        return [graph, path.with_name(path.name.removesuffix(".param") + ".bin"), described]

    def convert(self, job: Job, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, self.converting(path):
            program, sample = job.lowered({})
            traced = torch.jit.trace(program.module(check_guards=False), sample, check_trace=False)
            traced.save(f"{folder}/model.pt")
            self._run_pnnx(Path(folder), sample.shape, job.precision)
            graph = Path(folder, "model.ncnn.param")
            if unknown := UNKNOWN.findall(graph.read_text()):
                named = min(unknown, key=lambda name: name.startswith("pnnx."))  # pnnx.* are leftovers of others
                raise ExportError(f"ncnn has no operation {named}, which this network needs; choose another format.")
            shutil.copyfile(graph, path)
            shutil.copyfile(Path(folder, "model.ncnn.bin"), self.files(path)[1])
        self.name_ends(job, "in0", "out0")
        self.describe(job, path)

    def _run_pnnx(self, folder: Path, shape: torch.Size, precision: str) -> None:
        """Run the pnnx program. Its Python interface would import the Python code that pnnx writes."""
        import pnnx

        sides = ",".join(map(str, shape))
        done = subprocess.run(
            [pnnx.EXEC_PATH, "model.pt", f"inputshape=[{sides}]f32", f"fp16={int(precision == 'fp16')}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode or not (folder / "model.ncnn.param").exists():
            raise ExportError(f"pnnx failed on this network ({first_line(done.stderr)}); choose another format.")

    def open(self, path: Path, threads: int = 1) -> Opened:
        library = self.module("ncnn")
        net = library.Net()
        net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
        # By default ncnn uses half precision if the CPU supports it, on x86 in linear layers: U-GAT-IT changes by 4e-4.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        with self.converting(path):
            if net.load_param(str(path)) or net.load_model(str(self.files(path)[1])):
                raise ExportError(f"{path}: ncnn lacks an operation of this network; choose another format.")

        def run(x: np.ndarray) -> np.ndarray:
            one = net.create_extractor()
            one.input("in0", library.Mat(np.ascontiguousarray(x[0])).clone())
            return np.array(one.extract("out0")[1])[None]

        return Opened(run, shape=self.shape_told(path))
