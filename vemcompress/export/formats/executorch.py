"""ExecuTorch with XNNPACK, PyTorch's own runtime for Android, iOS and embedded Linux."""

from pathlib import Path

import numpy as np
import torch

from vemcompress.errors import ExportError
from vemcompress.export.formats.base import Format, Opened
from vemcompress.export.formats.job import Job
from vemcompress.export.int8_executorch import quantise_program
from vemcompress.export.rules import ENLARGING, HEAD, MEANS, NORMS, PADDING, UPSAMPLING

RULES = PADDING | NORMS | ENLARGING | MEANS | UPSAMPLING | HEAD


class ExecuTorch(Format):
    """A .pte file for one image size. Reflection padding, norms, means and nearest-neighbour upsampling are rewritten,
    so that XNNPACK can run the whole network."""

    name = "executorch"
    title = "ExecuTorch"
    suffix = ".pte"
    extra = "executorch"
    packages = ("executorch.exir", "executorch.runtime")
    precisions = ("fp32", "int8")
    has_metadata = False
    int8_has_float_ends = True

    def convert(self, job: Job, path: Path) -> None:
        lower = self.module("executorch.exir").to_edge_transform_and_lower
        partition = self.module("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner
        with self.converting(path):
            program, _ = job.lowered(RULES)
            if job.precision == "int8":
                program = self._quantised(job, program)
            edge = lower(program, partitioner=[partition()])
            kinds = [str(node.target) for node in edge.exported_program().graph.nodes if node.op == "call_function"]
            delegated = sum("executorch_call_delegate" in kind for kind in kinds)
            made = edge.to_executorch()
            self._check_operators(made)
            path.write_bytes(made.buffer)
        if delegated > 1:
            job.notes.append(f"{delegated} parts run in XNNPACK, with copies between them; one part would be faster")
        self.name_ends(job, "0", "0")  # inputs and outputs have numbers, not names
        job.facts["xnnpack_parts"] = str(delegated)
        self.describe(job, path)

    def _check_operators(self, made) -> None:
        """Raises ExportError (7) for an unknown operation; ExecuTorch's own error would only be a number."""
        known = self.module("executorch.runtime").Runtime.get().operator_registry.operator_names
        needed = {
            f"{operator.name}.{operator.overload}" if operator.overload else operator.name
            for plan in made.executorch_program.execution_plan
            for operator in plan.operators
        }
        if unknown := sorted(needed - set(known)):
            raise ExportError(
                f"ExecuTorch has no operation {unknown[0]}, which this network needs; choose another format."
            )

    def _quantised(self, job: Job, program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
        job.quantised = quantise_program(program, job.photos, least_ssim=job.least_ssim, on_event=job.on_event)
        return job.quantised.product

    def open(self, path: Path, threads: int = 1) -> Opened:
        library, process = self.module("executorch.runtime"), "executorch.extension.pybindings.portable_lib"
        with self.converting(path):
            self.module(process)._unsafe_reset_threadpool(threads)  # for the process: there is no other way
            program = library.Runtime.get().load_program(path.read_bytes())
            method = program.load_method("forward")
            about = method.metadata.input_tensor_meta(0)
            shape, uint8 = tuple(about.sizes()), method.metadata.output_tensor_meta(0).dtype() == 0
        kept = program, method  # a method does not keep its program alive by itself

        def run(x: np.ndarray) -> np.ndarray:
            return kept[1].execute([torch.from_numpy(x)])[0].numpy().copy()

        return Opened(run, "NHWC" if uint8 else "NCHW", shape, uint8)
