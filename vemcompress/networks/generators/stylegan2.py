"""The StyleGAN2 generator (Karras et al., CVPR 2020) with skip connections: latent vectors to images of 8 to 1024 px.

Its layers may have any widths, as in CAGC's pruned networks (Liu et al., CVPR 2021).
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import LatentConfig, LatentGenerator, Norm, Taps, check_number, check_width
from vemcompress.networks.cost import Cost
from vemcompress.networks.equalised import Constant, EqualLinear, activated, pixel_norm, upsampled
from vemcompress.networks.modulated import Form, ModulatedConv2d, StyledConv, ToRGB
from vemcompress.networks.slots import Group, Slot, reads, writes
from vemcompress.system.settings import Width

SIDES = tuple(2**i for i in range(3, 11))  # image sides in pixels
MOST = 512  # the largest published width
RATE = 0.01  # the mapping network's learning rate, relative to the others
Noise = Sequence[Tensor] | torch.Generator | None


def published_width(side: int, multiplier: int = 2) -> int:
    """The published width of the layers with maps of `side` pixels."""
    return min(MOST, 16384 * multiplier // side)


class StyleGAN2Config(LatentConfig):
    """`style`: length of w. `mapping`: number of layers from z to w. `widths`: widths of the constant of 4 px, of the
    convolution after it, and of two convolutions for every size from 8 px on: 14 numbers for images of 256 px.

    `size = 256` and `multiplier = 2` stand for the published widths; `size = 256` and `width = 16` for widths in
    proportion to them, with 16 at the images' own size.
    """

    batch: ClassVar[int] = 16
    counted: ClassVar = ("widths", "size")
    replaces: ClassVar = {"width": ("widths", "multiplier"), "multiplier": ("widths",), "size": ("widths",)}

    family: Literal["stylegan2"] = "stylegan2"
    norm: Norm = "instance"  # not a layer of its own: demodulation replaces it, and there are no running statistics
    latent: int = Field(512, ge=1, le=4096)
    prior: Literal["normal"] = "normal"
    style: int = Field(ge=1, le=4096)
    mapping: int = Field(8, ge=1, le=16)
    widths: tuple[Width, ...] = Field(strict=False, min_length=4, max_length=2 * len(SIDES) + 2)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, values):
        if not isinstance(values, dict):
            return values
        values = {"style": values.get("latent", 512)} | values
        if "widths" in values and not {"width", "size", "multiplier"}.isdisjoint(values):
            raise ValueError("widths excludes size, width and multiplier; give either widths or the others")
        if "width" in values and "multiplier" in values:
            raise ValueError("width excludes multiplier; give only one of them")
        size, width, multiplier = values.pop("size", 256), values.pop("width", None), values.pop("multiplier", 2)
        if "widths" in values:
            return values
        if type(size) is not int or size not in SIDES:
            raise ValueError(f"size must be one of {', '.join(map(str, SIDES))}")
        check_number("multiplier", multiplier, 1, 8)
        sides = [4, 4, *(side for side in SIDES if side <= size for _ in range(2))]
        values["widths"] = tuple(published_width(side, multiplier) for side in sides)
        if width is not None:
            check_width(width)
            values["widths"] = tuple(width * w // values["widths"][-1] for w in values["widths"])
        return values

    def check(self) -> None:
        if len(self.widths) % 2:
            raise ValueError("the number of widths must be even: two for every size of a map")

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        kept = super().under(below, above)
        if isinstance(below.get("widths"), list) and "widths" not in kept and "widths" not in above:
            kept["size"] = 2 * 2 ** (len(below["widths"]) // 2)
        return {key: value for key, value in kept.items() if key not in above}

    @property
    def image(self) -> int:
        return 2 * 2 ** (len(self.widths) // 2)

    @property
    def layers(self) -> int:
        """The number of styles of an image: one for each convolution, and one for the last layer to RGB."""
        return len(self.widths)

    def side(self, layer: int) -> int:
        """The side of the map that convolution `layer`, counted from 0, produces."""
        return 4 * 2 ** ((layer + 1) // 2)

    def student(self, width: int) -> "StyleGAN2Config":
        """A StyleGAN2 with as many layers and the same length of w."""
        config = StyleGAN2Config(size=self.image, width=width, latent=self.latent, prior=self.prior)
        return config.but(style=self.style, mapping=self.mapping, out_channels=self.out_channels)

    def widths_by_group(self) -> dict[str, int]:
        return {f"conv{i}" if i else "constant": width for i, width in enumerate(self.widths)}

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        return {"widths": tuple(widths[name] for name in self.widths_by_group())}

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        """As published: a convolution that doubles the size is counted on its input; blur, demodulation, noise and
        the upsampling of images are not counted.
        """
        inputs = self.latent
        for _ in range(self.mapping):
            yield _linear(inputs, self.style)
            inputs = self.style
        yield Cost(parameters=16 * self.widths[0])
        for i in range(self.layers - 1):
            before, after = self.widths[i], self.widths[i + 1]
            yield _linear(self.style, before)
            yield _conv(before, after, 9, self.side(i - i % 2))
            yield Cost(parameters=1)
            if i % 2 == 0:
                yield _linear(self.style, after)
                yield _conv(after, self.out_channels, 1, self.side(i))


def _linear(inputs: int, outputs: int) -> Cost:
    return Cost(inputs * outputs, inputs * outputs, 0, inputs * outputs + outputs)


def _conv(inputs: int, outputs: int, weights: int, side: int) -> Cost:
    macs = inputs * outputs * weights * side * side
    return Cost(macs, macs, 0, inputs * outputs * weights + outputs)


class StyleGAN2(LatentGenerator):
    """The mapping network computes w from z. From a constant, convolutions modulated by w, with noise, compute the
    image: two for each size, the first of which doubles it. Each size adds to the image. There is no tanh: images are
    in [-1, 1] except for some pixels.

    Taps: `conv1`, ... after their activations, and `rgb4`, `rgb8`, ..., the images so far. `noise_0`, ... are the
    stored noise of each convolution, used if none is given; `mean` is the mean of w, or zeros if it is not known.
    """

    config_class = StyleGAN2Config
    styled = True

    def __init__(self, config: StyleGAN2Config):
        super().__init__(config)
        style, widths = config.style, config.widths
        ins = (config.latent, *(style for _ in range(config.mapping - 1)))
        self.mapping = nn.ModuleList(EqualLinear(n, style, rate=RATE) for n in ins)
        self.constant = Constant(widths[0])
        self.convs = nn.ModuleList(
            StyledConv(widths[i], widths[i + 1], style, up=i % 2 == 1) for i in range(config.layers - 1)
        )
        self.rgbs = nn.ModuleList(ToRGB(width, config.out_channels, style) for width in widths[1::2])
        self.register_buffer("mean", torch.zeros(style))
        for i, side in enumerate(self.noise_sides):
            self.register_buffer(f"noise_{i}", torch.randn(1, 1, side, side))

    @property
    def taps(self) -> tuple[str, ...]:
        found = []
        for i in range(len(self.convs)):
            found += [f"conv{i + 1}", *([f"rgb{self.config.side(i)}"] if i % 2 == 0 else [])]
        return tuple(found)

    @property
    def places(self) -> tuple[str, ...]:
        """CAGC's places: the images of every size."""
        return tuple(name for name in self.taps if name.startswith("rgb"))

    def tap_channels(self, name: str) -> int:
        return self.config.out_channels if name.startswith("rgb") else self.config.widths[int(name[4:])]

    @property
    def noise_sides(self) -> tuple[int, ...]:
        """The side of each convolution's noise."""
        return tuple(self.config.side(i) for i in range(len(self.convs)))

    def use_form(self, form: Form) -> None:
        """Use this form in all modulated convolutions."""
        for module in self.modules():
            if isinstance(module, ModulatedConv2d):
                module.form = form

    def styles(self, z: Tensor) -> Tensor:
        """The styles w, B x style, of latent vectors."""
        w = pixel_norm(z.flatten(1))
        for layer in self.mapping:
            w = activated(layer(w))
        return w

    @torch.no_grad()
    def mean_latent(self, count: int = 4096, seed: int = 0) -> Tensor:
        """The mean of w over `count` latent vectors."""
        draws = torch.Generator().manual_seed(seed)
        z = torch.randn(count, self.config.latent, generator=draws).to(self.mean)
        return self.styles(z).mean(0)

    def settle(self) -> None:
        """Store the mean of w, from 4096 latent vectors, unless it is known."""
        if not self.mean.any():
            self.mean.copy_(self.mean_latent())

    def truncated(self, w: Tensor, share: Tensor | float) -> Tensor:
        """`share` of the way from the stored mean (`settle`) to w: 1 for w itself."""
        return self.mean + (w - self.mean) * share

    def draw(self, z: Tensor, truncation: Tensor | float = 1.0, noise: Noise = None) -> Tensor:
        """Images of w moved towards its mean (the truncation trick, StyleGAN, appendix B)."""
        return self.synthesise(self.truncated(self.styles(z), truncation), noise=noise)[0]

    def mixed(self, first: Tensor, second: Tensor, index: int) -> Tensor:
        """B x layers x style: w `first` for the layers before `index`, and `second` from there on."""
        parts = first[:, None].expand(-1, index, -1), second[:, None].expand(-1, self.config.layers - index, -1)
        return torch.cat(parts, 1)

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...], noise: Noise = None) -> tuple[Tensor, Taps]:
        return self.synthesise(self.styles(x), names, noise)

    def synthesise(self, w: Tensor, names: tuple[str, ...] = (), noise: Noise = None) -> tuple[Tensor, Taps]:
        """The images of styles B x style, or B x layers x style, and the taps with these names. `noise`: a tensor
        for each convolution, B or 1 x 1 x H x W; or a random generator to draw it from; or None for the stored
        noise.
        """
        if w.dim() == 2:
            w = w[:, None].expand(-1, self.config.layers, -1)
        taps, h, image = {}, self.constant.weight.expand(w.shape[0], -1, -1, -1), None
        for i, (conv, n) in enumerate(zip(self.convs, self._noise(noise, w), strict=True)):
            h = conv(h, w[:, i], n)
            if f"conv{i + 1}" in names:
                taps[f"conv{i + 1}"] = h
            if i % 2 == 0:
                more = self.rgbs[i // 2](h, w[:, i + 1])
                image = more if image is None else upsampled(image) + more
                if (name := f"rgb{self.config.side(i)}") in names:
                    taps[name] = image
        return image, taps

    def _noise(self, noise: Noise, w: Tensor) -> Iterator[Tensor]:
        if noise is None:
            return (getattr(self, f"noise_{i}") for i in range(len(self.convs)))
        if not isinstance(noise, torch.Generator):
            return iter(noise)
        return (torch.randn(len(w), 1, n, n, generator=noise, device=noise.device).to(w) for n in self.noise_sides)

    def groups(self) -> tuple[Group, ...]:
        """`constant`, and `conv1`, ... as the taps. The kernel's slots are where channels are read: the demodulation
        is computed from the kernel, so that masking an input has the same effect as cutting it.
        """
        found = []
        for i, (name, width) in enumerate(self.config.widths_by_group().items()):
            slots = [*writes(f"convs.{i - 1}")] if i else [Slot("constant.weight", 1, role="write")]
            readers = ([f"convs.{i}"] if i < len(self.convs) else []) + ([f"rgbs.{i // 2}"] if i % 2 else [])
            for reader in readers:
                slots += reads(reader)
                slots += (Slot(f"{reader}.modulation.{leaf}", 0) for leaf in ("weight", "bias"))
            found.append(Group(name, width, tuple(slots)))
        return tuple(found)
