"""uint8 input and output for ONNX graphs: adds pre- and post-processing inside the graph.

The graph then maps uint8 N x H x W x C to the same, for any size of at least 1 x 1. For a network from latent vectors
only the output is uint8. PyTorch's exporter cannot express padding by a dynamic amount in a form that works in ONNX
Runtime for every size. So both parts are written in ONNX itself and joined to the exported network.
"""

import onnx
import torch
from onnx import compose, parser
from torch import Tensor, nn

from vemcompress.export.contracts import Contract, ImageContract
from vemcompress.weights.graphs.pixels import pad_to_multiple

_BEFORE = """
<ir_version: {ir}, opset_import: ["": {opset}]>
before (uint8[N, H, W, {channels}] image) => (float[N, {channels}, PH, PW] padded, int64[2] cropped_size)
<int64[2] multiple = {{ {multiple}, {multiple} }}, int64[2] rounder = {{ {rounder}, {rounder} }},
 int64[2] least = {{ {least}, {least} }}, int64[5] before_none = {{ 0, 0, 0, 0, 0 }}, int64[1] none = {{ 0 }}>
{{
    levels = Cast <to = 1> (image)
    half = Constant <value = float {{127.5}}> ()
    one = Constant <value = float {{1.0}}> ()
    scaled = Div (levels, half)
    centred = Sub (scaled, one)
    cropped_size = Shape <start = 1, end = 3> (image)
    raised = Add (cropped_size, rounder)
    times = Div (raised, multiple)
    rounded = Mul (times, multiple)
    whole_size = Max (rounded, least)
    missing = Sub (whole_size, cropped_size)
    amounts = Concat <axis = 0> (before_none, missing, none)
    whole = Pad <mode = "edge"> (centred, amounts)
    padded = Transpose <perm = [0, 3, 1, 2]> (whole)
}}
"""

_LEVELS = """
    half = Constant <value = float {{127.5}}> ()
    low = Constant <value = float {{0.0}}> ()
    high = Constant <value = float {{255.0}}> ()
    scaled = Mul (pixels, half)
    lifted = Add (scaled, half)
    limited = Clip (lifted, low, high)
    levels = Round (limited)
    result = Cast <to = 2> (levels)
}}
"""

_AFTER = f"""
<ir_version: {{ir}}, opset_import: ["": {{opset}}]>
after (float[N, {{channels}}, PH, PW] drawn, int64[2] size) => (uint8[N, H, W, {{channels}}] result)
<int64[2] none = {{{{ 0, 0 }}}}, int64[2] axes = {{{{ 1, 2 }}}}, int64[2] scale = {{{{ {{scale}}, {{scale}} }}}}>
{{{{
    whole = Transpose <perm = [0, 2, 3, 1]> (drawn)
    grown = Mul (size, scale)
    pixels = Slice (whole, none, grown, axes)
    {_LEVELS}
"""

_DRAWN = f"""
<ir_version: {{ir}}, opset_import: ["": {{opset}}]>
after (float[N, {{channels}}, {{side}}, {{side}}] drawn) => (uint8[N, {{side}}, {{side}}, {{channels}}] result)
{{{{
    pixels = Transpose <perm = [0, 2, 3, 1]> (drawn)
    {_LEVELS}
"""


def wrap_uint8(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """`model` (x: float32 N x C x H x W in [-1, 1] to y) with input `image` and output `result`, both uint8 NHWC.

    The graph normalises, transposes, repeats the last row and column up to the next permitted size, runs the network,
    crops, clamps, and rounds to the nearest level. The output has exactly `scale` times the input's height and width. A
    latent input `z` is unchanged.
    """
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    about = {"ir": model.ir_version, "opset": opset}
    if not isinstance(contract, ImageContract):
        after = parser.parse_model(_DRAWN.format(**about, channels=contract.out_channels, side=contract.image))
        joined = compose.merge_models(model, compose.add_prefix(after, "after_"), io_map=[("y", "after_drawn")])
        _rename(joined, {"after_result": "result"})
        for value in (joined.graph.input[0], joined.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        return _tidy(joined)
    # Pad comes before the transposition and names all axes: ONNX Runtime 1.31's optimiser breaks the graph when it
    # moves a transposition across a Pad of some axes.
    least = -(-contract.min_size // contract.multiple) * contract.multiple
    values = about | {"multiple": contract.multiple, "rounder": contract.multiple - 1, "least": least}
    before = parser.parse_model(_BEFORE.format(channels=contract.in_channels, **values))
    after = parser.parse_model(_AFTER.format(channels=contract.out_channels, scale=contract.scale, **values))
    before, after = compose.add_prefix(before, "before_"), compose.add_prefix(after, "after_")
    # The network's names for its sizes ("4*h") are wrong for the photo, because H and W are padded first.
    core = onnx.ModelProto()
    core.CopyFrom(model)
    del core.graph.value_info[:]
    size = "before_cropped_size"
    joined = compose.merge_models(before, core, io_map=[("before_padded", "x")], outputs=["y", size])
    joined = compose.merge_models(joined, after, io_map=[("y", "after_drawn"), (size, "after_size")])
    _rename(joined, {"before_image": "image", "after_result": "result"})
    for value, times in ((joined.graph.input[0], 1), (joined.graph.output[0], contract.scale)):
        sides = ("H", "W") if times == 1 else (f"{times}*H", f"{times}*W")
        for dim, name in zip(value.type.tensor_type.shape.dim, ("N", *sides), strict=False):
            dim.dim_param = name
    return _tidy(joined)


def _tidy(joined: onnx.ModelProto) -> onnx.ModelProto:
    """Clean a merged model. It lists its opset once for each part; some readers use only the first entry, and others
    refuse the file. It also has a comment about the merge."""
    joined.graph.ClearField("doc_string")
    versions = {o.domain: o.version for o in joined.opset_import}
    del joined.opset_import[:]
    joined.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in versions.items())
    return joined


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


@torch.no_grad()
def uint8_reference(model: nn.Module, given: Tensor, contract: Contract) -> Tensor:
    """The reference for `wrap_uint8` in PyTorch: from uint8 N x H x W x C, or latent vectors, to uint8
    N x H x W x C'."""
    if not isinstance(contract, ImageContract):
        return _to_levels(model(given))
    height, width = given.shape[1:3]
    padded = pad_to_multiple(given.numpy(), contract.multiple, contract.min_size)
    x = torch.from_numpy(padded).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    return _to_levels(model(x)[:, :, : contract.scale * height, : contract.scale * width])


def _to_levels(y: Tensor) -> Tensor:
    return (y * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
