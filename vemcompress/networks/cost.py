"""Parameters and multiply-accumulates (MACs) as integer arithmetic, without building a network.

Three columns, because the literature has three conventions (for one image, batch 1):

- `true`: the multiplications that are really done;
- `paper`: transposed convolutions counted on their *output* grid, as every published table of the compared methods
  does (stride^2 times too many);
- `paper_norm`: `paper` plus one per element of every normalisation layer's output (GAN-Compression, CAT).

Biases, activations and padding are not counted in any of them.
"""

from typing import NamedTuple

NORM_PARAMETERS = {"none": 0, "instance": 0, "instance_affine": 2, "batch": 2}


class Cost(NamedTuple):
    """What a layer, or a sum of layers, costs. `norm` counts the elements that pass normalisation layers."""

    true: int = 0
    paper: int = 0
    norm: int = 0
    parameters: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def paper_norm(self) -> int:
        return self.paper + self.norm

    def macs(self) -> dict[str, int]:
        return {"true": self.true, "paper": self.paper, "paper_norm": self.paper_norm}


def conv(inputs: int, outputs: int, kernel: int, out_pixels: int, *, groups: int = 1, bias: bool = True) -> Cost:
    """A convolution whose output has `out_pixels` = H x W positions."""
    weights = inputs // groups * outputs * kernel * kernel
    return Cost(weights * out_pixels, weights * out_pixels, 0, weights + (outputs if bias else 0))


def conv_transposed(
    inputs: int, outputs: int, kernel: int, in_pixels: int, *, stride: int = 2, bias: bool = True
) -> Cost:
    """A transposed convolution from `in_pixels` positions to stride^2 times as many."""
    weights = inputs * outputs * kernel * kernel
    return Cost(weights * in_pixels, weights * in_pixels * stride**2, 0, weights + (outputs if bias else 0))


def norm(kind: str, channels: int, pixels: int) -> Cost:
    """A normalisation layer of `channels` over `pixels` positions."""
    if kind == "none":
        return Cost()
    return Cost(0, 0, channels * pixels, NORM_PARAMETERS[kind] * channels)


def total(layers) -> Cost:
    """The sum over an iterable of `Cost`."""
    true = paper = norms = parameters = 0
    for layer in layers:
        true += layer[0]
        paper += layer[1]
        norms += layer[2]
        parameters += layer[3]
    return Cost(true, paper, norms, parameters)
