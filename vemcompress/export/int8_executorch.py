"""int8 quantisation for ExecuTorch (XNNPACK): PyTorch's static quantisation, calibrated on real inputs."""

import copy
from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import fx

from vemcompress.errors import UsageError
from vemcompress.export.precision import Judge, Quantised, Run, split
from vemcompress.export.sensitivity import Candidate, Search
from vemcompress.system.events import Event, silent

aten = torch.ops.aten

LAYERS = (
    aten.conv2d.default,
    aten.conv_transpose2d.input,
    aten.linear.default,
)
METHOD = "histogram"  # torchao's observer that picks the range with the smallest squared error
RANKED = 2  # calibration images when one layer is tried alone: enough to rank layers, and each pass takes seconds


def quantise_program(
    program: torch.export.ExportedProgram,
    photos: Sequence[np.ndarray],
    *,
    least_ssim: float = 0.98,
    on_event: Event = silent,
) -> Quantised:
    """Quantise a program with one float input and one output. As few layers as possible stay in float, so that the SSIM
    to the float program is at least `least_ssim`.

    `photos` are its inputs, as in `int8_onnx.quantise`. The product is a program that still has to be lowered to
    XNNPACK; XNNPACK and PyTorch agree on it up to rounding. `bytes` is the size of its tensors. Only layers with
    weights are int8; sums, products and norms stay float. Raises UsageError (2) if ExecuTorch is not installed, and the
    errors of `int8_onnx.quantise`.
    """
    calibration, held = split(photos)
    float_module = program.module(check_guards=False)
    layers = _layers(float_module)
    sample = torch.from_numpy(held[0])

    def build(method: str, names: Collection[str]) -> Candidate:
        seen = calibration[:RANKED] if len(names) == 1 < len(layers) else calibration
        module = _quantised(copy.deepcopy(float_module), {layers[name] for name in names}, seen)
        tensors = {tensor.data_ptr(): tensor for tensor in module.state_dict().values()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        return Candidate(module, size, _runner(module))

    found = Search(build, Judge(held, _runner(float_module)), least_ssim, on_event).find([METHOD], list(layers))
    with torch.no_grad():
        return found.with_product(torch.export.export(found.product, (sample,)))


def _layers(module: fx.GraphModule) -> dict[str, str]:
    """Node names of the layers with fixed weights, by the layers' names in the PyTorch module."""
    found: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.target in LAYERS and isinstance(node.args[1], fx.Node) and node.args[1].op == "get_attr":
            name = str(node.args[1].target).removesuffix(".weight")
            found[name if name not in found else node.name] = node.name
    return found


def _quantised(module: fx.GraphModule, chosen: Collection[str], photos: Sequence[np.ndarray]) -> fx.GraphModule:
    try:
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    except ImportError as error:
        raise UsageError("ExecuTorch is not installed: pip install 'vemcompress[executorch]'.") from error

    class OfLayers(xnnpack.XNNPACKQuantizer):
        """Quantises layers with weights only: no sums, products or concatenations, some of which pass the filter."""

        SUPPORTED_PATTERNS: ClassVar = [
            pattern
            for pattern in xnnpack.XNNPACKQuantizer.SUPPORTED_PATTERNS
            if pattern.name.startswith(("conv", "linear")) and "_bn" not in pattern.name  # these are folded before
        ]

    quantiser = OfLayers().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    # A pattern is a layer with its weights, and perhaps the operation after it.
    quantiser.set_filter_function(lambda node: node.target not in LAYERS or node.name in chosen)
    prepared = prepare_pt2e(module, quantiser)
    with torch.no_grad():
        for photo in photos:
            prepared(torch.from_numpy(photo))
    return convert_pt2e(prepared)


def _runner(module: fx.GraphModule) -> Run:
    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return run
