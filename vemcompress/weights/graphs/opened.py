"""Opens a foreign .onnx file safely with ONNX Runtime alone (no torch)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from vemcompress.errors import InputError, MemoryExhausted, UsageError, first_line
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.foreign import read_onnx

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
LARGEST = 2**14  # pixels per side


@dataclass(frozen=True)
class Opened:
    """A session, its inputs and outputs in words, the file's metadata, and its last node as in `foreign.Read`."""

    path: Path
    session: onnxruntime.InferenceSession
    seen: str
    said: dict[str, str]
    last: str = ""


def open_session(path: Path, device: str, threads: int | None) -> Opened:
    """Open a session. Raises InputError (4) for a file that is missing, is not ONNX, or refers to data outside its
    folder; UsageError (2) for a device that ONNX Runtime cannot use here; MemoryExhausted (6).
    """
    providers = _providers(device)
    read = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised instead
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        source = str(path) if read.external else read.data
        session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=False)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        # Bytes that are not valid text are only detected when a name is read.
        seen = f"inputs {_signature(inputs)}, outputs {_signature(outputs)}"
        said = session.get_modelmeta().custom_metadata_map
    except Exception as error:
        if is_exhausted(error):
            raise MemoryExhausted(f"{path}: not enough memory to load it; close other programs.") from error
        raise InputError(f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export it again.") from error
    if on_cpu(session) and not device.startswith(("auto", "cpu")):
        raise _no_device(device)  # the GPU was requested, but ONNX Runtime silently fell back
    return Opened(path, session, seen, said, read.last)


def run_graph(
    path: Path, session: onnxruntime.InferenceSession, x: np.ndarray, smaller: str, other: str, **more: np.ndarray
) -> np.ndarray:
    """The first output of the graph; `more` are its optional inputs. Raises MemoryExhausted (6), with the advice to
    use `smaller`, and InputError (4), with the advice `other`.
    """
    try:
        return session.run(None, {session.get_inputs()[0].name: x, **more})[0]
    except Exception as error:  # ONNX Runtime's exceptions have no other common base
        if is_exhausted(error):
            raise MemoryExhausted(f"{path}: not enough memory for {times(x.shape)}; use {smaller}.") from error
        raise InputError(f"{path}: does not run on {times(x.shape)} ({first_line(error)}); {other}.") from error


def on_cpu(session: onnxruntime.InferenceSession) -> bool:
    return session.get_providers()[0] == "CPUExecutionProvider"


def _providers(device: str) -> list:
    name, _, number = device.partition(":")
    if device == "auto":
        name = "cuda" if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else "cpu"
    wanted = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(name)
    if wanted not in onnxruntime.get_available_providers() or not (number or "0").isdecimal():
        raise _no_device(device)
    return [wanted] if name == "cpu" else [(wanted, {"device_id": number or "0"}), "CPUExecutionProvider"]


def _no_device(device: str) -> UsageError:
    return UsageError(
        f"--device {device:.40}: ONNX Runtime cannot use it here; use auto or cpu, or install its GPU build for cuda."
    )


def _signature(values) -> str:
    return ", ".join(f"{v.name} {v.type} {times(v.shape)}" for v in values[:4]) or "none"


def times(shape) -> str:
    """A shape in words, with ? for a dynamic side."""
    return " x ".join("?" if dim is None else str(dim) for dim in shape)
