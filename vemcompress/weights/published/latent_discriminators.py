"""Layouts of the discriminators for `latent`'s generators: GCC's SAGAN, and DCGANs of pytorch/examples and of a 32 px
model.

SAGAN: like its generator, `l1` to `l4` with only the convolution's spectral norm, and `last`. DCGAN: one Sequential
`main`, convolutions at 0, 2, 5, 8, ..., all but the first and the last followed by BatchNorm; or `discriminator`, a
list of pairs, followed by flattening and a linear layer.
"""

from torch import Tensor

from vemcompress.networks.discriminators import (
    DCGANDiscriminatorConfig,
    SAGANDiscriminatorConfig,
    build_discriminator,
)
from vemcompress.networks.generators.sagan import ATTENDED
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, renamed, shape
from vemcompress.weights.published.latent import numbered

_LEAVES = {"weight": "weight_bar", "u": "weight_u", "v": "weight_v"}


def _read_sagan(tensors: Tensors) -> Read:
    layers = len([name for name in tensors if name.endswith(".0.module.weight_bar")])
    width, channels, *_ = shape(tensors, "l1.0.module.weight_bar")
    names = {"head": "last.0"}
    for i in range(ATTENDED):
        names |= {f"attentions.{i}.{part}": f"attn{i + 1}.{part}_conv" for part in ("query", "key", "value")}

    def published(ours: str) -> str:
        kind, _, rest = ours.partition(".")
        if kind == "convs":
            number, leaf = rest.split(".")
            return f"l{int(number) + 1}.0.module.{_LEAVES.get(leaf, leaf)}"
        return f"attn{int(rest[0]) + 1}.gamma" if ours.endswith(".gamma") else renamed(names)(ours)

    return SAGANDiscriminatorConfig(in_channels=channels, width=width, layers=layers), published


def _read_main(tensors: Tensors) -> Read:
    kernels = numbered(tensors, r"main\.(\d{1,2})\.weight")
    found = [name for name, _ in kernels]
    if found != ["main.0", *(f"main.{3 * i - 1}" for i in range(1, len(kernels)))]:
        raise Mismatch(f"its convolutions are at {', '.join(found)}")
    names = {f"stages.{i}.conv": name for i, name in enumerate(found)}
    names |= {f"stages.{i}.norm": f"main.{3 * i}" for i in range(1, len(kernels) - 1)}
    return _dcgan(tensors, kernels, kernels[-1][1].shape[2]), renamed(names)


def _read_pairs(tensors: Tensors) -> Read:
    kernels = numbered(tensors, r"discriminator\.(\d{1,2})\.0\.weight")
    names = {f"stages.{i}.conv": name for i, (name, _) in enumerate(kernels)}
    names |= {f"stages.{i}.norm": f"{name.removesuffix('.0')}.1" for i, (name, _) in enumerate(kernels)}
    linear = f"discriminator.{len(kernels) + 1}"
    names[f"stages.{len(kernels)}.conv"] = linear
    if f"{linear}.weight" not in tensors:
        raise Mismatch(f"{linear}.weight is missing")
    pixels = tensors[f"{linear}.weight"].shape[-1] / kernels[-1][1].shape[0]
    return _dcgan(tensors, [*kernels, (linear, None)], max(1, round(pixels**0.5))), renamed(names)


def _dcgan(tensors: Tensors, kernels: list[tuple[str, Tensor | None]], kernel: int) -> DCGANDiscriminatorConfig:
    width, channels, *_ = kernels[0][1].shape
    return DCGANDiscriminatorConfig(
        in_channels=channels,
        width=width,
        layers=len(kernels) - 1,
        kernel=kernel,
        edge_bias=f"{kernels[0][0]}.bias" in tensors,
    )


def _as_convolution(tensors: Tensors) -> Tensors:
    """A linear layer after flattening is a convolution of the map's size."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(".conv.weight") and tensor.dim() == 2:
            before = tensors[f"stages.{int(name.split('.')[1]) - 1}.conv.weight"].shape[0]
            side = max(1, round((tensor.shape[1] / before) ** 0.5))
            if tensor.shape[1] != before * side * side:
                raise Mismatch(f"{name!r} has {tensor.shape[1]} inputs, which is not a square map of {before} channels")
            found[name] = tensor.unflatten(1, (before, side, side))
    return found


def _is_sagan(tensors: Tensors) -> bool:
    named = has("l1.0.module.weight_bar", "last.0.weight", "attn1.query_conv.weight")(tensors)
    return named and "l1.1.weight" not in tensors


_OPTIONS = {"build": build_discriminator, "advice": "discriminator alone"}
LATENT = (
    Layout("sagan", _is_sagan, _read_sagan, **_OPTIONS),
    Layout("dcgan", has("main.0.weight", "main.2.weight", "main.3.running_mean"), _read_main, **_OPTIONS),
    Layout(
        "dcgan",
        has("discriminator.0.0.weight", "discriminator.1.1.weight"),
        _read_pairs,
        adapt=_as_convolution,
        **_OPTIONS,
    ),
)
