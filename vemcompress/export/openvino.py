"""OpenVINO on the CPU, as all of this room uses it: without its telemetry, in float32, and with signals left alone."""

import importlib
import sys
from types import ModuleType
from typing import Any

from vemcompress.errors import ExportError
from vemcompress.export.deploy import cause
from vemcompress.export.quiet import quiet, signal_stack_kept


def without_telemetry() -> None:
    """Before OpenVINO is imported: that reports its use to a web service and writes to ~/intel, and its own way to
    decline reports that too. It does neither where its telemetry package cannot be imported, which holds for this
    process alone."""
    sys.modules.setdefault("openvino_telemetry", None)


def library() -> ModuleType:
    """The package. Raises ExportError (7) where it is not installed."""
    without_telemetry()
    try:
        with quiet():
            return importlib.import_module("openvino")
    except Exception as error:  # of one that is there, a library of the system may be absent
        why = cause(error)
        told = f"openvino is not installed, or not whole ({why}); pip install 'vemcompress[openvino]'."
        raise ExportError(told) from error


def compiled(model: str | bytes, threads: int | None = None) -> Any:
    """A `CompiledModel` of a file, or of the bytes of an ONNX graph, on so many threads (all cores). It computes in
    float32: newer CPUs would take bfloat16 by themselves, which is up to 0.025 from PyTorch."""
    core, how = library().Core(), {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    how |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    with signal_stack_kept():
        return core.compile_model(core.read_model(model), "CPU", how)
