"""Layouts of generators from latent vectors: GCC's SAGAN (SJLeo/GCC), and DCGANs of pytorch/examples and of a 32 px
model.

SAGAN: `l1` to `l4` (transposed convolution in a wrapper at 0, BatchNorm at 1), `last`, `attn1` and `attn2` with
`query_conv`, `key_conv`, `value_conv` and `gamma`. Its hand-written spectral norm stores `weight_bar`, `weight_u` and
`weight_v` under `module`. Reading folds them into the weight that the published network uses at its first forward.

DCGAN: one Sequential `main`, transposed convolutions at 0, 3, 6, ... each followed by BatchNorm; or `generator_deconv`,
a list of pairs, the second of which is a 3x3 convolution, with latent vectors uniform in [-1, 1]. The latter file does
not store its activations. Those used here, none after the first pair and LeakyReLU 0.2 after the others, reproduce the
stored mean and variance of each norm's input to 2 %.
"""

import re
from itertools import count

from torch import Tensor

from vemcompress.networks.generators.dcgan import DCGANConfig
from vemcompress.networks.generators.sagan import ATTENDED, SAGANConfig
from vemcompress.networks.spectral import folded
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, renamed, shape

_BAR, _MOST = ".weight_bar", 16


def fold_spectral(tensors: Tensors) -> Tensors:
    """Replace `NAME.weight_bar`, `NAME.weight_u` and `NAME.weight_v` by `NAME.weight`. Raises Mismatch."""
    found = dict(tensors)
    for bar in [name for name in tensors if name.endswith(_BAR)]:
        name = bar.removesuffix(_BAR)
        weight, u, v = (found.pop(f"{name}.weight_{part}", None) for part in ("bar", "u", "v"))
        rows, columns = weight.flatten(1).shape if weight.dim() > 1 else (0, 0)
        for part, vector, size in (("u", u, rows), ("v", v, columns)):
            if vector is None or vector.shape != (size,):
                seen = "missing" if vector is None else f"of {'x'.join(map(str, vector.shape))}, not {size}"
                raise Mismatch(f"'{name}.weight_{part}' is {seen}")
        try:
            found[f"{name}.weight"] = folded(weight, u)
        except ValueError as error:
            raise Mismatch(f"'{name}.weight_u' {error}, so its spectral norm cannot be computed") from error
    return found


def _sagan_names(levels: int) -> dict[str, str]:
    names = {"head": "last.0"}
    for i in range(levels):
        names |= {f"ups.{i}": f"l{i + 1}.0.module", f"norms.{i}": f"l{i + 1}.1"}
    for i in range(ATTENDED):
        names |= {f"attentions.{i}.{part}": f"attn{i + 1}.{part}_conv" for part in ("query", "key", "value")}
        names[f"attentions.{i}.gamma"] = f"attn{i + 1}.gamma"
    return names


def _read_sagan(tensors: Tensors) -> Read:
    levels = next(n for n in count() if f"l{n + 1}.0.module{_BAR}" not in tensors)
    if not ATTENDED <= levels <= _MOST:
        raise Mismatch(f"it has {levels} levels")
    config = SAGANConfig(
        latent=shape(tensors, f"l1.0.module{_BAR}")[0],
        out_channels=shape(tensors, "last.0.weight")[1],
        widths=tuple(shape(tensors, f"l{i + 1}.0.module{_BAR}")[1] for i in range(levels)),
        keys=tuple(shape(tensors, f"attn{i + 1}.query_conv.weight")[0] for i in range(ATTENDED)),
        spectral=False,
    )
    names = _sagan_names(levels)

    def published(ours: str) -> str:
        return names[ours] if ours in names else renamed(names)(ours)

    return config, published


def numbered(tensors: Tensors, pattern: str) -> list[tuple[str, Tensor]]:
    """The kernels whose names match, sorted by their number: the name without `.weight`, and the kernel."""
    matches = [(re.fullmatch(pattern, name), tensor) for name, tensor in tensors.items() if tensor.dim() == 4]
    found = sorted((int(match[1]), match[0].removesuffix(".weight"), tensor) for match, tensor in matches if match)
    return [(name, tensor) for _, name, tensor in found]


def _read_main(tensors: Tensors) -> Read:
    kernels = numbered(tensors, r"main\.(\d{1,2})\.weight")
    if len(kernels) < 2 or [name for name, _ in kernels] != [f"main.{3 * i}" for i in range(len(kernels))]:
        raise Mismatch(f"its convolutions are at {', '.join(name for name, _ in kernels)}")
    names = {"head": kernels[-1][0]}
    for i in range(len(kernels) - 1):
        names |= {f"ups.{i}": f"main.{3 * i}", f"norms.{i}": f"main.{3 * i + 1}"}
    return _dcgan(tensors, [kernel for _, kernel in kernels], names, refined=0, prior="normal"), renamed(names)


def _read_deconv(tensors: Tensors) -> Read:
    kernels = numbered(tensors, r"generator_deconv\.(\d{1,2})\.0\.weight")
    refined = sum(kernel.shape[2:] == (3, 3) for _, kernel in kernels)
    names = {"head": kernels[-1][0]}
    for i, (name, _) in enumerate(kernels[:-1]):
        names |= {f"ups.{i}": name, f"norms.{i}": f"{name.removesuffix('.0')}.1"}
    config = _dcgan(tensors, [kernel for _, kernel in kernels], names, refined, prior="uniform")
    return config.but(slope=0.2, linear_first=True), renamed(names)


def _dcgan(tensors: Tensors, kernels: list[Tensor], names: dict[str, str], refined: int, prior: str) -> DCGANConfig:
    *hidden, head = kernels
    if not hidden:
        raise Mismatch("it has only one layer")
    return DCGANConfig(
        latent=hidden[0].shape[0],
        prior=prior,
        out_channels=head.shape[1],
        widths=tuple(kernel.shape[0 if 0 < i <= refined else 1] for i, kernel in enumerate(hidden)),
        refined=refined,
        head_bias=f"{names['head']}.bias" in tensors,
    )


def _is_main(tensors: Tensors) -> bool:
    """Whether it is a DCGAN generator; a discriminator's `main` has its second convolution at 2."""
    return has("main.0.weight", "main.1.running_mean", "main.3.weight")(tensors)


def _is_sagan(tensors: Tensors) -> bool:
    """Whether it is a SAGAN generator; a discriminator's layers have no norm."""
    return has(f"l1.0.module{_BAR}", "l1.1.weight", "last.0.weight", "attn1.query_conv.weight")(tensors)


SAGAN = Layout("sagan", _is_sagan, _read_sagan, prepare=fold_spectral)
DCGAN = Layout("dcgan", _is_main, _read_main)
DCGAN_REFINED = Layout("dcgan", has("generator_deconv.0.0.weight", "generator_deconv.1.0.weight"), _read_deconv)
