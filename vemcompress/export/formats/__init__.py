"""File formats for devices: one file a format. `FORMATS` maps what `--format` calls it to its class.

A new one is a file with a subclass of `base.Format` beside these, its name in the list, and an extra in pyproject.toml.
The library of a format is imported where it is used, never by the package.
"""

from vemcompress.export.formats.base import Format, Opened
from vemcompress.export.formats.coreml import CoreML
from vemcompress.export.formats.executorch import ExecuTorch
from vemcompress.export.formats.job import Job
from vemcompress.export.formats.litert import LiteRT
from vemcompress.export.formats.ncnn import NCNN
from vemcompress.export.formats.onnx import ONNX
from vemcompress.export.formats.openvino import OpenVINO

__all__ = ["FORMATS", "Format", "Job", "Opened"]

FORMATS: dict[str, Format] = {kind.name: kind() for kind in (ONNX, OpenVINO, LiteRT, CoreML, NCNN, ExecuTorch)}
