"""PyTorch's default ONNX exporter, made quiet."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn
from torch.export import Dim

from vemcompress.errors import ExportError
from vemcompress.export.deploy import Contract, first_line


def trace(network: nn.Module, contract: Contract, opset: int) -> onnx.ModelProto:
    """A deployment copy as ONNX: `x`, float32 N x C x H x W, to `y`, with N, H and W dynamic and the weights inside.

    Raises ExportError (7) for what the exporter cannot take.
    """
    multiple, unit = contract.multiple, contract.unit
    # Multiples let the tracer see that halves meet again (U-Net skips); a plain Dim would be refused for no reason.
    sides = (multiple * Dim("h"), multiple * Dim("w")) if multiple > 1 else (Dim.AUTO, Dim.AUTO)
    sample = torch.zeros(2, contract.in_channels, 2 * unit, 3 * unit)
    try:
        with _silence():
            program = torch.onnx.export(
                network,
                (sample,),
                dynamo=True,
                opset_version=opset,
                external_data=False,
                input_names=["x"],
                output_names=["y"],
                dynamic_shapes=({0: Dim("n"), 2: sides[0], 3: sides[1]},),
                verbose=False,
            )
        return program.model_proto
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the exporter has dozens of exception types of its own
        raise ExportError(
            f"PyTorch's ONNX exporter cannot take this network ({first_line(error)}); it needs operations that ONNX "
            "has and sizes that stay dynamic."
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter prints, warns and logs on its way; what matters of it comes back as an exception."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(previous)
