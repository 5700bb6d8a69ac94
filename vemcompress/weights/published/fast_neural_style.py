"""Layout of fast neural style in pytorch/examples.

`conv1` to `conv3`, `res1`, ..., `deconv1` to `deconv3`, each layer's convolution in `conv2d`, and `in1` to `in5`. The
published network uses 0..255. This is folded into the first and the last convolution: their input is 127.5 (x + 1), and
their output y / 127.5 - 1. Old files hold running statistics of InstanceNorm, which were never used.
"""

import re

from vemcompress.networks.generators.fast_neural_style import FastNeuralStyleConfig
from vemcompress.weights.layouts import PADS, STATISTICS, Layout, Mismatch, Read, Tensors, has, shape
from vemcompress.weights.published.resnet import read_shapes

_HALF = 127.5
_BLOCK = re.compile(r"res(\d{1,4})\.conv1\.conv2d\.weight")


def _read(tensors: Tensors) -> Read:
    names = {"head": "deconv3.conv2d"}
    layers = {"stem": "conv1", "down1": "conv2", "down2": "conv3", "up1": "deconv1", "up2": "deconv2"}
    for number, (ours, theirs) in enumerate(layers.items(), 1):
        names |= {ours: f"{theirs}.conv2d", f"{ours}_norm": f"in{number}"}
    numbers = sorted({int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name))})
    if numbers != list(range(1, len(numbers) + 1)):
        raise Mismatch("its residual blocks are not numbered from res1 on")
    for number in numbers:
        for i in (1, 2):
            names[f"blocks.{number - 1}.conv{i}"] = f"res{number}.conv{i}.conv2d"
            names[f"blocks.{number - 1}.norm{i}"] = f"res{number}.in{i}"
    for name, kernel in (("stem", 9), ("up1", 3), ("head", 9)):
        if (found := shape(tensors, f"{names[name]}.weight")[2]) != kernel:
            raise Mismatch(f"'{names[name]}.weight' is of size {found}, and not {kernel}")
    blocks = [f"res{number}.conv1.conv2d" for number in numbers]
    return read_shapes(
        _without_statistics(tensors), FastNeuralStyleConfig, names, blocks, downsample="reflect", upsample="nearest"
    )


def _without_statistics(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in STATISTICS}


def _in_our_range(tensors: Tensors) -> Tensors:
    """Fold the range into the first and the last convolution. Unchanged if their shapes do not fit; that error is
    reported for all tensors together.
    """
    first, last = ((tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in ("stem", "head"))
    if any(bias.shape != weight.shape[:1] or not weight.is_floating_point() for weight, bias in (first, last)):
        return tensors
    adapted = {"stem.weight": first[0] * _HALF, "stem.bias": first[1] + _HALF * first[0].sum((1, 2, 3))}
    return tensors | adapted | {"head.weight": last[0] / _HALF, "head.bias": last[1] / _HALF - 1}


FAST_NEURAL_STYLE = Layout(
    "fast neural style",
    has("conv1.conv2d.weight", "res1.conv1.conv2d.weight"),
    _read,
    adapt=_in_our_range,
    prepare=_without_statistics,
    assumes={"range": "RGB in 0..255 (here in [-1, 1], clamped)"} | PADS,
)
