"""Layouts of StyleGAN2: rosinality/stylegan2-pytorch, also pruned (CAGC), and NVIDIA's StyleGAN2-ADA.

Both store constants that follow from the sizes: the blur's kernels. The noise of each layer and the mean of w are used
if stored; otherwise the noise is drawn once, from a fixed seed, and the mean is unknown. Rosinality's files store the
mean as `latent_avg` beside the network. ADA's weights of 3x3 convolutions are not scaled. ADA's clamping of activations
to +-256, which only its half precision needs, is omitted.
"""

import math
import re
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from vemcompress.networks.discriminators import StyleGAN2DiscriminatorConfig, build_discriminator
from vemcompress.networks.generators.stylegan2 import StyleGAN2Config
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, shape

_MOST = 32  # layers of one kind, more than any network has
_LEAVES = {"bias": "activate.bias", "strength": "noise.weight"}
_ADA_LEAVES = {"strength": "noise_strength"}


def _size(tensors: Tensors, name: str, dimensions: int) -> torch.Size:
    if name not in tensors:
        raise Mismatch(f"{name!r} is missing")
    if tensors[name].dim() != dimensions:
        raise Mismatch(f"{name!r} has {tensors[name].dim()} dimensions and should have {dimensions}")
    return tensors[name].shape


def _highest(tensors: Tensors, before: str) -> int:
    """The highest number after this prefix of names. Raises Mismatch."""
    found = (re.match(rf"{re.escape(before)}(\d{{1,9}})\.", name) for name in tensors)
    highest = max((int(match[1]) for match in found if match), default=None)
    if highest is None:
        raise Mismatch(f"'{before}...' is missing")
    if highest > _MOST:
        raise Mismatch(f"'{before}{highest}' is beyond the {_MOST} layers that it may have")
    return highest


def _config(tensors: Tensors, layers: list[str], constant: int, channels: int, kernels: list[str]) -> StyleGAN2Config:
    latent = _size(tensors, f"{layers[0]}.weight", 2)[1]
    style = _size(tensors, f"{layers[-1]}.weight", 2)[0]
    widths = (constant, *(tensors[name].shape[-4] for name in kernels))
    return StyleGAN2Config(latent=latent, style=style, mapping=len(layers), widths=widths, out_channels=channels)


def _module(ours: str) -> tuple[str, int, str]:
    """The list, the number and the rest of a name such as `convs.3.modulation.weight`."""
    kind, number, rest = ours.split(".", 2)
    return kind, int(number), rest


# -- rosinality --------------------------------------------------------------------------------------------------------


def _rosinality_conv(i: int) -> str:
    return f"convs.{i - 1}" if i else "conv1"


def _read_rosinality(tensors: Tensors) -> Read:
    convs = max(_highest(tensors, "convs."), 2 * _highest(tensors, "to_rgbs.") + 1) + 2
    kernels = [f"{_rosinality_conv(i)}.conv.weight" for i in range(convs)]
    for name in kernels:
        _size(tensors, name, 5)
    layers = [f"style.{i + 1}" for i in range(_highest(tensors, "style."))]
    constant, channels = _size(tensors, "input.input", 4)[1], _size(tensors, "to_rgb1.conv.weight", 5)[1]
    config = _config(tensors, layers, constant, channels, kernels)

    def in_layer(kind: str, i: int, rest: str) -> str:
        if kind == "mapping":
            return f"style.{i + 1}.{rest}"
        if kind == "rgbs":
            return f"{f'to_rgbs.{i - 1}' if i else 'to_rgb1'}.{rest if rest == 'bias' else f'conv.{rest}'}"
        return f"{_rosinality_conv(i)}.{_LEAVES.get(rest, f'conv.{rest}')}"

    single = {"mean": "latent_avg", "constant.weight": "input.input"}
    return config, _published(single, lambda i: f"noises.noise_{i}", in_layer)


def _prepare_rosinality(tensors: Tensors) -> Tensors:
    found = _without_kernels(tensors, r".+\.(blur|upsample)\.kernel", 4.0)
    last = _highest(tensors, "style.")
    found.setdefault("latent_avg", torch.zeros(len(tensors[f"style.{last}.weight"])))
    found["latent_avg"] = found["latent_avg"].flatten()
    for name in list(found):
        if name.endswith(".conv.weight"):
            found[f"{name.removesuffix('weight')}scale"] = _scale(found[name])
    convs = next(i for i in count() if f"{_rosinality_conv(i)}.conv.weight" not in tensors)
    return _with_noise(found, [f"noises.noise_{i}" for i in range(convs)], (1, 1))


def _adapt(tensors: Tensors) -> Tensors:
    """Remove the dimensions of size 1, which each layout has in other places."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        leaf = name.rpartition(".")[2]
        if leaf == "weight" and tensor.dim() == 5 and len(tensor) == 1:
            found[name] = tensor[0]
        elif (leaf == "bias" and tensor.shape[0:1] == (1,) and tensor.dim() == 4) or leaf == "strength":
            found[name] = tensor.flatten()
        elif name == "constant.weight" and tensor.dim() == 3:
            found[name] = tensor[None]
        elif leaf.startswith("noise_") and tensor.dim() == 2:
            found[name] = tensor[None, None]
    return found


def _published(
    single: dict[str, str], noise: Callable[[int], str], in_layer: Callable[[str, int, str], str]
) -> Callable[[str], str]:
    """A function from our tensor names to a layout's: single tensors, the noise of a convolution, and others by
    kind, number and rest.
    """

    def published(ours: str) -> str:
        if ours in single:
            return single[ours]
        return noise(int(ours[6:])) if ours.startswith("noise_") else in_layer(*_module(ours))

    return published


def _without_kernels(tensors: Tensors, pattern: str, gain: float) -> Tensors:
    """Remove the kernels, which must all be our blur's. Raises Mismatch."""
    row, found = torch.tensor((1.0, 3.0, 3.0, 1.0)), {}
    wanted = torch.outer(row, row) * (gain / 64)
    for name, tensor in tensors.items():
        if not re.fullmatch(pattern, name):
            found[name] = tensor
        elif tensor.shape != wanted.shape or not torch.allclose(tensor, wanted, atol=1e-4):
            raise Mismatch(f"{name!r:.80} is another filter than [1, 3, 3, 1]")
    return found


def _with_noise(tensors: Tensors, names: list[str], front: tuple[int, ...]) -> Tensors:
    """Add noise for every convolution if the file has none at all."""
    if any(name in tensors for name in names):
        return tensors
    draws = torch.Generator().manual_seed(0)
    sides = [4 * 2 ** ((i + 1) // 2) for i in range(len(names))]
    pairs = zip(names, sides, strict=True)
    return tensors | {name: torch.randn(*front, side, side, generator=draws) for name, side in pairs}


def _scale(kernel: Tensor) -> Tensor:
    """1 / sqrt(inputs * kernel^2), for a kernel whose last axes are I x k x k."""
    return torch.tensor([1 / math.sqrt(max(1, math.prod(kernel.shape[-3:])))])


# -- StyleGAN2-ADA -----------------------------------------------------------------------------------------------------


def _ada_conv(i: int) -> str:
    return f"synthesis.b{4 * 2 ** ((i + 1) // 2)}.conv{i % 2 ^ 1}"


def _read_ada(tensors: Tensors) -> Read:
    if any(name.startswith("mapping.embed.") for name in tensors):
        raise Mismatch("it is conditional (mapping.embed): its images depend on a class, which is not supported")
    largest = max((int(m[1]) for m in (re.match(r"synthesis\.b(\d{1,4})\.", name) for name in tensors) if m), default=4)
    convs = 2 * (largest // 4).bit_length() - 1
    kernels = [f"{_ada_conv(i)}.weight" for i in range(convs)]
    layers = [f"mapping.fc{i}" for i in range(1 + _highest(tensors, "mapping.fc"))]
    constant, channels = _size(tensors, "synthesis.b4.const", 3)[0], shape(tensors, "synthesis.b4.torgb.weight")[0]
    for name in kernels:
        shape(tensors, name)
    config = _config(tensors, layers, constant, channels, kernels)

    def in_layer(kind: str, i: int, rest: str) -> str:
        if kind == "mapping":
            return f"mapping.fc{i}.{rest}"
        module = _ada_conv(i) if kind == "convs" else f"synthesis.b{4 * 2**i}.torgb"
        return f"{module}.{_ADA_LEAVES.get(rest, rest.replace('modulation', 'affine'))}"

    single = {"mean": "mapping.w_avg", "constant.weight": "synthesis.b4.const"}
    return config, _published(single, lambda i: f"{_ada_conv(i)}.noise_const", in_layer)


def _prepare_ada(tensors: Tensors) -> Tensors:
    found = _without_kernels(tensors, r".+\.resample_filter", 1.0)
    last = _highest(tensors, "mapping.fc")
    found.setdefault("mapping.w_avg", torch.zeros(len(found[f"mapping.fc{last}.weight"])))
    for name in list(found):
        if match := re.fullmatch(r"(synthesis\.b\d+\.(conv[01]|torgb))\.weight", name):
            found[f"{match[1]}.scale"] = _scale(found[name]) if match[2] == "torgb" else torch.ones(1)
    convs = next(i for i in count() if f"{_ada_conv(i)}.weight" not in tensors)
    return _with_noise(found, [f"{_ada_conv(i)}.noise_const" for i in range(convs)], ())


ROSINALITY = Layout(
    "stylegan2",
    has("input.input", "convs.0.conv.modulation.weight"),
    _read_rosinality,
    adapt=_adapt,
    prepare=_prepare_rosinality,
)
_IS_ADA = has("synthesis.b4.const", "mapping.fc0.weight")
ADA = Layout("stylegan2", _IS_ADA, _read_ada, adapt=_adapt, prepare=_prepare_ada)


# -- rosinality's discriminator ----------------------------------------------------------------------------------------


def _read_discriminator(tensors: Tensors) -> Read:
    blocks = _highest(tensors, "convs.")
    width, channels, *_ = shape(tensors, "convs.0.0.weight")
    most = shape(tensors, "final_conv.0.weight")[0]
    config = StyleGAN2DiscriminatorConfig(in_channels=channels, width=width, size=4 * 2**blocks, most=most)
    modules = {"first": ("convs.0.0", "convs.0.1"), "last": ("final_conv.0", "final_conv.1")}
    for i in range(blocks):
        modules[f"blocks.{i}.first"] = f"convs.{i + 1}.conv1.0", f"convs.{i + 1}.conv1.1"
        modules[f"blocks.{i}.second"] = f"convs.{i + 1}.conv2.1", f"convs.{i + 1}.conv2.2"
        modules[f"blocks.{i}.skip"] = (f"convs.{i + 1}.skip.1",) * 2
    modules |= {"hidden": ("final_linear.0",) * 2, "score": ("final_linear.1",) * 2}

    def published(ours: str) -> str:
        module, _, leaf = ours.rpartition(".")
        return f"{modules[module][leaf == 'bias']}.{leaf}"

    return config, published


def _blurless(tensors: Tensors) -> Tensors:
    return _without_kernels(tensors, r".+\.kernel", 1.0)


DISCRIMINATOR = Layout(
    "stylegan2",
    has("convs.0.0.weight", "final_conv.0.weight", "final_linear.1.weight"),
    _read_discriminator,
    prepare=_blurless,
    build=build_discriminator,
    advice="discriminator alone",
)
