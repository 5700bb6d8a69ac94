"""The SAGAN generator (Zhang et al., ICML 2019) in GCC's form (SJLeo/GCC): latent vectors to images of 64 px."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.attention import SelfAttention, attended_taps, attention_costs, forward_attended
from vemcompress.networks.base import LatentConfig, LatentGenerator, Taps, expands_shorthands, take_shorthand
from vemcompress.networks.cost import Cost, conv_transposed, norm
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.networks.spectral import SpectralConvTranspose2d
from vemcompress.system.settings import Width

MAX_LEVELS = 8
ATTENDED = 2  # the last levels have attention


class SAGANConfig(LatentConfig):
    """`widths`: widths of the levels from 4 px on, each doubling the size. `keys`: channels of q and k in the
    self-attention of the last two levels; by default an eighth of the width. `spectral`: whether the transposed
    convolutions, except the last, have spectral norm, as in training; files store its result.

    `width = 64` stands for (512, 256, 128, 64), and with `levels = 3`, for images of 32 px, for (256, 128, 64).

    The column `paper` of the MACs is GCC's own count (thop 0.0.31), which misses layers with spectral norm, because its
    wrapper calls their forward without thop's hooks. It counts the attention's 1x1 convolutions, the last transposed
    convolution on its output grid, with biases, and two per element of every norm, but not the attention's products.
    The paper's 23.45 M and 15.45 M are of this kind.
    """

    counted: ClassVar = ("widths", "levels")
    replaces: ClassVar = {"width": ("widths", "keys"), "widths": ("keys",)}
    counting_note: ClassVar = (
        "The paper column is GCC's own count, as in its tables: it omits layers with spectral norm and the "
        "attention's products. The true column counts everything."
    )
    polynomial: ClassVar = False  # an eighth of a width is rounded down

    family: Literal["sagan"] = "sagan"
    widths: tuple[Width, ...] = Field(strict=False, min_length=ATTENDED, max_length=MAX_LEVELS)
    keys: tuple[Width, Width] = Field(strict=False)
    spectral: bool = True

    @expands_shorthands
    def _expand_width(cls, values):
        width, levels = take_shorthand(values, "widths", "levels", 4, (ATTENDED, MAX_LEVELS))
        if width is not None:
            values["widths"] = tuple(width * 2 ** (levels - 1 - i) for i in range(levels))
        widths = values.get("widths")
        if isinstance(widths, list | tuple) and "keys" not in values and all(type(w) is int for w in widths):
            values["keys"] = tuple(_keys(width) for width in widths[-ATTENDED:])
        return values

    @property
    def image(self) -> int:
        return 4 * 2 ** len(self.widths)

    def student(self, width: int) -> "SAGANConfig":
        """A SAGAN with as many levels."""
        config = SAGANConfig(width=width, levels=len(self.widths), latent=self.latent, prior=self.prior)
        return config.but(out_channels=self.out_channels)

    def widths_by_group(self) -> dict[str, int]:
        levels = {f"l{i + 1}": width for i, width in enumerate(self.widths)}
        return levels | {f"attn{i + 1}": keys for i, keys in enumerate(self.keys)}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        levels = tuple(widths[f"l{i + 1}"] for i in range(len(self.widths)))
        return {"widths": levels, "keys": tuple(widths[f"attn{i + 1}"] for i in range(ATTENDED))}

    def shaped(self, widths: Mapping[str, int]) -> Self:
        """The widths of q and k follow their level, as published."""
        found = self.with_widths(widths)
        return found.but(keys=tuple(_keys(width) for width in found.widths[-ATTENDED:]), spectral=True)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        for cost in self._true_costs():
            yield cost._replace(paper=0, norm=0)
        for i, (level, keys) in enumerate(zip(self.widths[-ATTENDED:], self.keys, strict=True)):
            pixels = self._side(len(self.widths) - ATTENDED + i) ** 2
            yield Cost(paper=pixels * (2 * level * keys + level * level + 2 * keys + level))
        yield Cost(paper=self.out_channels * self.image**2 * (16 * self.widths[-1] + 1))
        yield Cost(paper=sum(2 * level * self._side(i) ** 2 for i, level in enumerate(self.widths)))

    def _true_costs(self) -> Iterator[Cost]:
        inputs, first = self.latent, len(self.widths) - ATTENDED
        for i, level in enumerate(self.widths):
            pixels = self._side(i) ** 2
            yield conv_transposed(inputs, level, 4, pixels // 4 if i else 1)
            yield norm("batch", level, pixels)
            if i >= first:
                yield from attention_costs(level, self.keys[i - first], pixels)
            inputs = level
        yield conv_transposed(inputs, self.out_channels, 4, self._side(len(self.widths) - 1) ** 2)

    @staticmethod
    def _side(level: int) -> int:
        return 4 * 2**level


def _keys(width: int) -> int:
    return max(1, width // 8)


class SAGAN(LatentGenerator):
    """4x4 transposed convolutions with biases, from one pixel to 4 px and then by factors of 2, each with BatchNorm
    and ReLU; self-attention after the last two; a last transposed convolution and tanh. Taps: `l1`, ... before the
    attention, `attn1` and `attn2` after it.
    """

    config_class = SAGANConfig
    norm_bias_std = 1.0  # published initial biases of the norms are N(0, 1)

    def __init__(self, config: SAGANConfig):
        super().__init__(config)
        layer = SpectralConvTranspose2d if config.spectral else nn.ConvTranspose2d
        inputs = (config.latent, *config.widths)
        self.ups = nn.ModuleList(
            layer(inputs[i], width, 4, *((2, 1) if i else (1, 0))) for i, width in enumerate(config.widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        pairs = zip(config.widths[-ATTENDED:], config.keys, strict=True)
        self.attentions = nn.ModuleList(SelfAttention(width, keys) for width, keys in pairs)
        self.head = nn.ConvTranspose2d(config.widths[-1], config.out_channels, 4, 2, 1)

    @property
    def taps(self) -> tuple[str, ...]:
        return attended_taps(len(self.ups), ATTENDED)

    @property
    def places(self) -> tuple[str, ...]:
        """GCC's places."""
        return "l2", "attn2"

    def tap_channels(self, name: str) -> int:
        widths = self.config.widths
        return widths[int(name[1:]) - 1] if name.startswith("l") else widths[int(name[4:]) - 1 - ATTENDED]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        pairs = zip(self.ups, self.norms, strict=True)
        layers = [lambda h, up=up, normalise=normalise: F.relu(normalise(up(h))) for up, normalise in pairs]
        h, taps = forward_attended(self.as_map(x), layers, self.attentions, names)
        return self.head(h).tanh(), taps

    def groups(self) -> tuple[Group, ...]:
        """`l1`, ... as the taps, and the channels of q and k as `attn1` and `attn2`."""
        found, first, last = {}, len(self.ups) - ATTENDED, len(self.ups) - 1
        for i in range(last + 1):
            slots = [*self._writes(i), *passes(f"norms.{i}")]
            slots += self._reads(i + 1) if i < last else reads("head", transposed=True)
            if i >= first:
                name = f"attentions.{i - first}"
                slots += (*reads(f"{name}.query"), *reads(f"{name}.key"), *reads(f"{name}.value"))
                slots += writes(f"{name}.value")
                # These channels are read in the product of q and k.
                key = (Slot(f"{name}.key.{leaf}", 0, role="read") for leaf in ("weight", "bias"))
                found[f"attn{i - first + 1}"] = (*writes(f"{name}.query"), *key), None
            found[f"l{i + 1}"] = tuple(slots), f"norms.{i}.weight"
        return tuple(Group(name, width, *found[name]) for name, width in self.config.widths_by_group().items())

    def _writes(self, i: int) -> tuple[Slot, ...]:
        """The outputs of a transposed convolution, and their entries in its spectral norm: v has one entry for each
        weight of an output channel.
        """
        return (*writes(f"ups.{i}", transposed=True), Slot(f"ups.{i}.v", 0, each=16))

    def _reads(self, i: int) -> tuple[Slot, ...]:
        return (*reads(f"ups.{i}", transposed=True), Slot(f"ups.{i}.u", 0))

    @torch.no_grad()
    def deployed(self) -> "SAGAN":
        """The network with the spectral norm folded into plain weights."""
        return self._other_form(spectral=False) if self.config.spectral else self

    def learning(self) -> "SAGAN":
        """The network with spectral norm whose u and v have converged. A folded weight has a largest singular value
        of 1, or what GCC's stored u gave, so its images are the same up to that difference.
        """
        if self.config.spectral:
            return self
        network = self._other_form(spectral=True)
        for up in network.ups:
            up.converge()
        return network

    def _other_form(self, *, spectral: bool) -> "SAGAN":
        with torch.device("meta"):
            other = SAGAN(self.config.but(spectral=spectral)).to(self.head.weight.dtype)
        other.to_empty(device=self.head.weight.device)
        state = {name: value for name, value in self.state_dict().items() if not name.endswith((".u", ".v"))}
        if not spectral:
            training, _ = self.training, self.eval()
            state |= {f"ups.{i}.weight": up.normalised() for i, up in enumerate(self.ups)}
            self.train(training)
        other.load_state_dict(state, strict=False)
        return other.train(self.training)
