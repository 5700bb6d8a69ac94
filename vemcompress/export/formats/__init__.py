"""File formats for devices, one module each. `FORMATS` maps the names of `--format` to instances of their classes.

To add a format, write a module with a subclass of `base.Format`, add the class to the list below, and add an extra to
pyproject.toml. Import the format's library only where it is used, never at import of the package.
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
