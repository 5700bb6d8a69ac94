"""Import and compile with OpenVINO on the CPU: without telemetry, in float32, and without changing signal handling."""

import importlib
import sys
from types import ModuleType
from typing import Any

from vemcompress.errors import ExportError
from vemcompress.export.deploy import cause
from vemcompress.export.quiet import quiet, signal_stack_kept


def without_telemetry() -> None:
    """Turn off OpenVINO's telemetry in this process; call it before OpenVINO is imported.

    The import reports to a web service and writes to ~/intel, and OpenVINO's own way to opt out sends a report too. It
    does neither if its telemetry package cannot be imported, so this blocks that import."""
    sys.modules.setdefault("openvino_telemetry", None)


def library() -> ModuleType:
    """The package `openvino`. Raises ExportError (7) if it is not installed."""
    without_telemetry()
    try:
        with quiet():
            return importlib.import_module("openvino")
    except Exception as error:  # an installed package may still lack a system library
        why = cause(error)
        told = f"openvino is not installed, or is incomplete ({why}); pip install 'vemcompress[openvino]'."
        raise ExportError(told) from error


def compiled(model: str | bytes, threads: int | None = None) -> Any:
    """Compile a file, or the bytes of an ONNX graph, for this number of threads (default: all cores). It computes in
    float32. By default, newer CPUs would compute in bfloat16, which differs from PyTorch by up to 0.025."""
    core, how = library().Core(), {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    how |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    with signal_stack_kept():
        return core.compile_model(core.read_model(model), "CPU", how)
