"""Export of a network to an ONNX graph by PyTorch's exporter, and the comparison of both in ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from vemcompress.errors import ExportError
from vemcompress.export.contracts import Contract, Shape
from vemcompress.export.deploy import cause
from vemcompress.export.quiet import quiet
from vemcompress.export.uint8 import uint8_reference
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.graphs.latent_session import TRUNCATION
from vemcompress.weights.graphs.opened import times

TRIED = 0.6  # truncation used in the check


def trace(network: nn.Module, contract: Contract, opset: int) -> onnx.ModelProto:
    """A deployment copy as an ONNX graph with the weights inside. It maps `x`, float32 N x C x H x W with dynamic N, H
    and W, or `z`, float32 N x size with dynamic N, to `y`. Raises ExportError (7) if the exporter fails."""
    sample, dynamic = contract.traced()
    samples, names, free = [sample], [contract.name], [dynamic]
    if styled := getattr(contract, "styled", False):
        network = _Truncated(network)
        samples, names, free = [*samples, torch.ones(())], [*names, TRUNCATION], [*free, None]
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                tuple(samples),
                dynamo=True,
                opset_version=opset,
                external_data=False,
                input_names=names,
                output_names=["y"],
                dynamic_shapes=tuple(free),
                verbose=False,
            )
        graph = without_traces(program.model_proto)
        if styled:  # an input with an initial value is optional
            graph.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((), np.float32), TRUNCATION))
        return graph
    except Exception as error:  # the exporter has dozens of exception types of its own
        if is_exhausted(error):
            raise
        raise ExportError(
            f"PyTorch's ONNX exporter failed on this network ({cause(error)}); use only operations that ONNX supports, "
            "and no fixed sizes."
        ) from error


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the stack traces that PyTorch writes beside every node: they contain paths of this machine, and are larger
    than the weights of a small network."""
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        for part in (graph, *graph.node, *graph.value_info, *getattr(graph, "initializer", ())):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
        graphs += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    return model


class _Truncated(nn.Module):
    """A network with a second input, the truncation."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        return self.network.draw(z, truncation)


def check_float(
    model: nn.Module,
    exported: onnx.ModelProto,
    contract: Contract,
    shapes: list[Shape],
    tolerance: float,
    tell: Callable[[Shape], None] = lambda shape: None,
) -> float:
    """The largest absolute difference on noise inputs. Raises ExportError (7) if it is above `tolerance`, which is
    meant for images in [-1, 1]. If PyTorch's largest absolute value m is above 1, the limit is `tolerance` x m, because
    rounding errors grow with the values. `tell` is called with each shape before it is compared."""
    session, worst = _session(exported), 0.0
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        tell(shape)
        x = contract.noise(shape, generator)
        with torch.no_grad():
            expected = model(x).numpy()
        difference = _difference(session, x.numpy(), expected)
        if getattr(contract, "styled", False):
            with torch.no_grad():
                nearer = model.draw(x, TRIED).numpy()
            difference = max(
                difference, _difference(session, x.numpy(), nearer, **{TRUNCATION: np.array(TRIED, np.float32)})
            )
        largest = float(np.abs(expected).max())
        allowed = tolerance * max(1.0, largest)
        if not difference <= allowed:  # NaN fails too
            of = f"{tolerance:.3g} of the largest value, {largest:.4g}" if largest > 1 else f"{tolerance:.3g}"
            advice = (
                "remove operations that are random, or that depend on the training mode or the image size, from the "
                "network."
            )
            if difference <= 1e-4 * max(1.0, largest):
                advice = "this is rounding error; allow it with a larger --tolerance."
            raise ExportError(
                f"the exported graph differs from PyTorch by {difference:.3g} on {times(shape)} (allowed: {of}), so no "
                f"file was written; {advice}"
            )
        worst = max(worst, difference)
    return worst


def check_uint8(
    model: nn.Module,
    exported: onnx.ModelProto,
    contract: Contract,
    tell: Callable[[Shape], None] = lambda shape: None,
) -> int:
    """The largest difference in levels of 255. Raises ExportError (7) if it is above 1. `tell` as in `check_float`."""
    session, worst = _session(exported), 0
    generator = torch.Generator().manual_seed(0)
    for shape in contract.uint8_shapes():
        tell(shape)
        given = contract.uint8_noise(shape, generator)
        expected = uint8_reference(model, given, contract).numpy()
        levels = int(_difference(session, given.numpy(), expected))
        if levels > 1:
            raise ExportError(
                f"the exported uint8 graph differs from PyTorch by {levels} levels on {times(shape)} (allowed: 1), "
                "so no file was written."
            )
        worst = max(worst, levels)
    return worst


def _session(exported: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised instead
    try:
        return onnxruntime.InferenceSession(exported.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {cause(error)}") from error


def _difference(session: onnxruntime.InferenceSession, values: np.ndarray, expected: np.ndarray, **more) -> float:
    """The largest absolute difference between the graph's output for `values` and `expected`."""
    try:
        seen = session.run(None, {session.get_inputs()[0].name: values, **more})[0]
    except Exception as error:
        if is_exhausted(error):
            raise
        raise ExportError(f"ONNX Runtime fails on {times(values.shape)}: {cause(error)}") from error
    if seen.dtype != expected.dtype:
        raise ExportError(f"the exported graph gives {seen.dtype} instead of {expected.dtype}; no file was written.")
    if seen.shape != expected.shape:
        raise ExportError(
            f"the exported graph gives {times(seen.shape)} where PyTorch gives {times(expected.shape)}, for an input "
            f"of {times(values.shape)}; no file was written."
        )
    return float(np.abs(seen.astype(np.float64) - expected.astype(np.float64)).max())
