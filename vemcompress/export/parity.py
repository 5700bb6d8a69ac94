"""An exported graph against the PyTorch network it was made from, in ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from vemcompress.errors import ExportError
from vemcompress.export.deploy import Contract, first_line
from vemcompress.export.uint8 import uint8_reference

Shape = tuple[int, int, int, int]


def check_shapes(contract: Contract, size: tuple[int, int] | None = None) -> list[Shape]:
    """N x C x H x W of the checks: two batch sizes, two image sizes, one not square, none the sample's; `size` too."""
    unit, channels = contract.unit, contract.in_channels
    shapes = [(1, channels, unit, unit), (2 if unit > 128 else 3, channels, unit, 2 * unit)]
    if size is not None and size != (unit, unit):
        shapes.append((1, channels, *size))
    return shapes


def check_float(model: nn.Module, exported: onnx.ModelProto, shapes: list[Shape], tolerance: float) -> float:
    """The largest absolute difference on uniform noise in [-1, 1]; raises ExportError (7) above `tolerance`."""
    session, worst = _session(exported), 0.0
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        x = torch.rand(shape, generator=generator) * 2 - 1
        with torch.no_grad():
            expected = model(x).numpy()
        seen = _run(session, "x", x.numpy(), shape)
        difference = _difference(seen, expected, shape)
        if not difference <= tolerance:  # NaN fails too
            raise ExportError(
                f"the exported graph differs from PyTorch by {difference:.3g} on {_times(shape)} (allowed: "
                f"{tolerance:.3g}), so no file was written; a random operation, or one that depends on the training "
                "mode or on the image's size, must be taken out of the network."
            )
        worst = max(worst, difference)
    return worst


def check_uint8(model: nn.Module, exported: onnx.ModelProto, contract: Contract) -> tuple[int, list[Shape]]:
    """The largest difference in levels and the N x H x W x C shapes compared; raises ExportError (7) above 1.

    The sizes are odd on purpose: none is a multiple of what the network takes, one is smaller than its least.
    """
    session, worst, unit, channels = _session(exported), 0, contract.unit, contract.in_channels
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 7, 5, channels), (2, unit - 3, unit // 2 + 1, channels), (1, unit + 1, unit - 1, channels)]
    for shape in shapes:
        image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        expected = uint8_reference(model, image, contract).numpy()
        seen = _run(session, "image", image.numpy(), shape)
        if seen.dtype != np.uint8:
            raise ExportError(f"the exported graph gives {seen.dtype} instead of uint8; no file was written.")
        levels = int(_difference(seen, expected, shape))
        if levels > 1:
            raise ExportError(
                f"the exported uint8 graph differs from PyTorch by {levels} levels on {_times(shape)} (allowed: 1), "
                "so no file was written."
            )
        worst = max(worst, levels)
    return worst, shapes


def _session(exported: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        return onnxruntime.InferenceSession(exported.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime does not take the exported graph: {first_line(error)}") from error


def _run(session: onnxruntime.InferenceSession, name: str, values: np.ndarray, shape: Shape) -> np.ndarray:
    try:
        return session.run(None, {name: values})[0]
    except MemoryError:
        raise
    except Exception as error:
        raise ExportError(f"ONNX Runtime fails on {_times(shape)}: {first_line(error)}") from error


def _difference(seen: np.ndarray, expected: np.ndarray, shape: Shape) -> float:
    if seen.shape != expected.shape:
        raise ExportError(
            f"the exported graph gives {_times(seen.shape)} where PyTorch gives {_times(expected.shape)}, for an input "
            f"of {_times(shape)}; no file was written."
        )
    return float(np.abs(seen.astype(np.float64) - expected.astype(np.float64)).max())


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
