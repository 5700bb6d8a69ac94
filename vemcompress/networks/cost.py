"""Parameters and multiply-accumulates (MACs) as integer arithmetic, without building a network.

There are three columns, because the literature has three conventions (for one image, batch 1):

- `true`: the multiplications that are really computed;
- `paper`: transposed convolutions counted on their *output* grid, as in every published table of the compared methods
  (stride^2 times too many);
- `paper_norm`: `paper` plus one per element of every normalisation layer's output (GAN-Compression, CAT).

Biases, activations and padding are not counted in any of them.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

MAX_PARAMETERS = 2 * 10**9  # of one network: 8 GB in float32
# Parameters per channel: affine norms have a scale and a shift, AdaILN has a rho, and ILN has all three.
NORM_PARAMETERS = {"none": 0, "instance": 0, "instance_affine": 2, "batch": 2, "layer": 2, "adaptive": 1, "iln": 3}


class Cost(NamedTuple):
    """The cost of a layer or of a sum of layers. `norm` counts the elements that pass normalisation layers."""

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
    """A convolution with an output of `out_pixels` = H x W positions."""
    weights = inputs // groups * outputs * kernel * kernel
    return Cost(weights * out_pixels, weights * out_pixels, 0, weights + (outputs if bias else 0))


def conv_transposed(
    inputs: int, outputs: int, kernel: int, in_pixels: int, *, growth: int = 4, bias: bool = True
) -> Cost:
    """A transposed convolution from `in_pixels` positions to `growth` times as many; `growth` is 4 for stride 2."""
    weights = inputs * outputs * kernel * kernel
    return Cost(weights * in_pixels, growth * weights * in_pixels, 0, weights + (outputs if bias else 0))


def linear(inputs: int, outputs: int, *, bias: bool = True) -> Cost:
    """A fully connected layer."""
    weights = inputs * outputs
    return Cost(weights, weights, 0, weights + (outputs if bias else 0))


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


class Counted:
    """A Config that computes its network's cost without building it; subclasses list the layers. `polynomial`:
    whether every layer's cost is a product of at most two widths.
    """

    polynomial: ClassVar[bool] = True

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        """The cost of every layer on one image of `height` x `width` pixels."""
        raise NotImplementedError

    def cost(self, height: int, width: int) -> Cost:
        """Parameters and MACs for one image of `height` x `width` pixels."""
        return total(self.layer_costs(height, width))

    def check_parameters(self) -> None:
        """Raises ValueError for a network with too many parameters."""
        parameters = self.cost(1, 1).parameters
        if parameters > MAX_PARAMETERS:
            raise ValueError(
                f"the network has {parameters:.3g} parameters, more than {MAX_PARAMETERS:.3g}; lower its width or depth"
            )


class Costs:
    """A Config's cost as a function of its groups' widths; exactly equal to `Config.cost`.

    Every layer's cost is a product of at most two widths, so the total is one polynomial of second degree. Its
    coefficients are the second differences of `Config.cost`. Measured on one CPU core at width 64: 200,000 sets of
    widths per second, and a million in batches of 20,000. The first figure is that of

        python -m timeit -s "from vemcompress.networks import parse_config, cost
        config = parse_config({'family': 'resnet', 'width': 64})
        table, widths = cost.costs(config, 256, 256), config.widths_by_group()" "table(widths)"
    """

    def __init__(self, config, height: int, width: int):
        def of(**widths: int) -> np.ndarray:
            return np.array(config.with_widths(ones | widths).cost(height, width), dtype=np.int64)

        self.names = tuple(config.widths_by_group())
        ones = dict.fromkeys(self.names, 1)
        constant, single = of(), {a: of(**{a: 2}) for a in self.names}
        terms = {}  # coefficients in the widths minus one; the empty product is 1
        for i, a in enumerate(self.names):
            square = of(**{a: 3}) - 2 * single[a] + constant  # twice the coefficient
            terms[i + 1, i + 1] = square // 2
            terms[0, i + 1] = single[a] - constant - square // 2
            for j in range(i):
                b = self.names[j]
                terms[j + 1, i + 1] = of(**{a: 2, b: 2}) - single[a] - single[b] + constant
        terms = {pair: coefficients for pair, coefficients in terms.items() if coefficients.any()}
        self._first, self._second = (np.array([pair[side] for pair in terms], dtype=np.intp) for side in (0, 1))
        self._coefficients = np.stack(list(terms.values()))
        self._constant = constant

    def __call__(self, widths: Mapping[str, int]) -> Cost:
        """The cost at these widths of all groups."""
        less = np.array([1, *(widths[name] - 1 for name in self.names)], dtype=np.int64)
        return Cost(*(less[self._first] * less[self._second] @ self._coefficients + self._constant).tolist())

    def batch(self, widths: np.ndarray) -> np.ndarray:
        """Costs for N x groups whole numbers, in the order of `names`: N x 4 with the fields of `Cost`."""
        widths = np.asarray(widths, dtype=np.int64)
        less = np.concatenate((np.ones((len(widths), 1), dtype=np.int64), widths - 1), axis=1)
        return less[:, self._first] * less[:, self._second] @ self._coefficients + self._constant


class OneByOne:
    """The interface of `Costs` for a Config whose costs are not polynomial: each set of widths is counted alone."""

    def __init__(self, config, height: int, width: int):
        self.names = tuple(config.widths_by_group())
        self._of = lambda widths: config.with_widths(widths).cost(height, width)

    def __call__(self, widths: Mapping[str, int]) -> Cost:
        return self._of(widths)

    def batch(self, widths: np.ndarray) -> np.ndarray:
        rows = (dict(zip(self.names, row, strict=True)) for row in np.asarray(widths).tolist())
        return np.array([self._of(row) for row in rows], dtype=np.int64)


def costs(config, height: int, width: int) -> Costs | OneByOne:
    """The cost of this Config's widths on one image of `height` x `width` pixels. Cached for Configs that differ
    only in widths.
    """
    if not config.polynomial:
        return OneByOne(config, height, width)
    return _costs(config.with_widths(dict.fromkeys(config.widths_by_group(), 1)), height, width)


@lru_cache(maxsize=64)
def _costs(config, height: int, width: int) -> Costs:
    return Costs(config, height, width)
