"""OpenVINO's intermediate representation, for Intel CPUs, GPUs and NPUs, and for ARM CPUs."""

from io import BytesIO
from pathlib import Path
from types import ModuleType

from vemcompress.export.formats.base import Format, Opened
from vemcompress.export.formats.job import Job
from vemcompress.export.formats.onnx import product
from vemcompress.export.openvino import compiled, without_telemetry


class OpenVINO(Format):
    """An .xml file with the graph and a .bin file with the weights. Sizes stay dynamic."""

    name = "openvino"
    title = "OpenVINO"
    suffix = ".xml"
    extra = "openvino"
    packages = ("openvino",)
    precisions = ("fp32", "fp16", "int8")
    fixes_size = False
    rewrites = ("biases", "head")  # its transposed convolutions are fast; "upsampling" would be 1.5 times slower

    def files(self, path: Path) -> list[Path]:
        return [path, path.with_suffix(".bin")]

    def module(self, name: str | None = None) -> ModuleType:
        without_telemetry()
        return super().module(name)

    def convert(self, job: Job, path: Path) -> None:
        job.facts["inference_precision_hint"] = "f32"
        job.notes.append("compared in float32; newer CPUs compute in bfloat16 unless INFERENCE_PRECISION_HINT is f32")
        package, graph = self.module(), product(job, self.rewrites, "openvino")
        with self.converting(path):
            model = package.convert_model(BytesIO(graph.SerializeToString()))  # read_model would store int8 as floats
            for key, value in job.facts.items():
                model.set_rt_info(str(value), ["vemcompress", key])
            package.save_model(model, str(path), compress_to_fp16=job.precision != "fp32")

    def facts(self, path: Path) -> dict[str, str]:
        model = self.module().Core().read_model(str(path))
        if not model.has_rt_info("vemcompress"):
            return {}
        return {name: str(said) for name, said in model.get_rt_info("vemcompress").value.items()}

    def open(self, path: Path, threads: int = 1) -> Opened:
        package = self.module()
        with self.converting(path):
            model = compiled(str(path), threads)
            request = model.create_infer_request()
            uint8 = model.outputs[0].element_type == package.Type.u8
            sides = model.inputs[0].get_partial_shape()
            shape = tuple(-1 if side.is_dynamic else side.get_length() for side in sides)
        return Opened(lambda x: request.infer([x])[0].copy(), "NHWC" if uint8 else "NCHW", shape, uint8)
