"""PatchGAN (Isola et al., CVPR 2017), its 1x1 form PixelGAN, and OMGD's PatchGAN for two teachers (Ren et al., ICCV
2021).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Taps, norm_layer
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.discriminators.base import Discriminator, DiscriminatorConfig, Stage, judge
from vemcompress.system.settings import Channels

TeacherName = Literal["wide", "deep"]
STAGES = 5


class PatchGANConfig(DiscriminatorConfig):
    """PatchGAN, the published `n_layers`. `layers`: convolutions of stride 2; two of stride 1 follow. With 3,
    patches have 70 pixels.
    """

    family: Literal["patchgan"] = "patchgan"
    layers: int = Field(3, ge=1, le=8)

    @property
    def min_size(self) -> int:
        return 3 * 2**self.layers

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels between the convolutions: of the input, n, 2n, 4n, 8n, 8n, ..., and 1 for the scores."""
        return (self.in_channels, *(self.width * min(2**i, 8) for i in range(self.layers + 1)), 1)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        last = self.layers + 1
        for i, (inputs, outputs) in enumerate(pairwise(self.channels)):
            height, width = (height // 2, width // 2) if i < self.layers else (height - 1, width - 1)
            edge = i in (0, last)
            yield conv(inputs, outputs, 4, height * width, bias=edge or self.norm != "batch")
            yield norm("none" if edge else self.norm, outputs, height * width)


class PatchGAN(Discriminator):
    """4x4 convolutions with padding 1. The first and the last have no norm, and always have biases.

    Taps: `layer1` to `layerN`, N = layers + 1, after LeakyReLU. In the published Sequential `model` these are module 1
    for `layer1` and 3K - 2 for `layerK`. Its LeakyReLU works in place, so a hook on the module before it gets the same
    map (GCC's "layers 3 and 9" are `layer2` and `layer4`).
    """

    config_class = PatchGANConfig

    def __init__(self, config: PatchGANConfig):
        super().__init__(config)
        self.stages = nn.ModuleList(patch_stages(config))


def patch_stages(config: PatchGANConfig) -> Iterator[Stage]:
    """PatchGAN's stages, with new weights."""
    last = config.layers + 1
    for i, (inputs, outputs) in enumerate(pairwise(config.channels)):
        edge = i in (0, last)
        bias, stride = edge or config.norm != "batch", 2 if i < config.layers else 1
        layer = nn.Conv2d(inputs, outputs, 4, stride, padding=1, bias=bias)
        yield Stage(layer, None if edge else norm_layer(config.norm, outputs), last=i == last)


class PixelGANConfig(DiscriminatorConfig):
    """PixelGAN, the published `pixel`: three 1x1 convolutions, which judge each pixel separately."""

    family: Literal["pixelgan"] = "pixelgan"

    @property
    def min_size(self) -> int:
        return 2  # instance norm needs more than one pixel

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        pixels, bias = height * width, self.norm != "batch"
        yield conv(self.in_channels, self.width, 1, pixels)
        yield conv(self.width, 2 * self.width, 1, pixels, bias=bias)
        yield norm(self.norm, 2 * self.width, pixels)
        yield conv(2 * self.width, 1, 1, pixels, bias=bias)


class PixelGAN(Discriminator):
    """1x1 convolutions: n (no norm), 2n, 1. Taps: `layer1`, `layer2`. With batch norm only the first has a bias."""

    config_class = PixelGANConfig

    def __init__(self, config: PixelGANConfig):
        super().__init__(config)
        n, bias = config.width, config.norm != "batch"
        self.stages = nn.ModuleList(
            (
                Stage(nn.Conv2d(config.in_channels, n, 1), None),
                Stage(nn.Conv2d(n, 2 * n, 1, bias=bias), norm_layer(config.norm, 2 * n)),
                Stage(nn.Conv2d(2 * n, 1, 1, bias=bias), None, last=True),
            )
        )


class SharedPatchGANConfig(PatchGANConfig):
    """OMGD's `multi_n_layers` for two teachers: two copies of each of PatchGAN's five stages. `n_share`: the first
    stages, which both teachers share. Parameters count both copies, as published; MACs are those of judging for one
    teacher.
    """

    family: Literal["shared_patchgan"] = "shared_patchgan"
    in_channels: Channels = 6
    width: Channels = 128
    layers: Literal[3] = 3
    n_share: int = Field(5, ge=0, le=STAGES)

    def layer_costs(self, height: int, width: int) -> Iterator[Cost]:
        for cost in super().layer_costs(height, width):
            yield cost._replace(parameters=2 * cost.parameters)


class SharedPatchGAN(Discriminator):
    """PatchGAN for the images of two teachers, `stages[i][copy]`. In a shared stage (the first `n_share`) both use
    copy 1; copy 0 is unused, kept as published, and never gets gradients. In the other stages the wide teacher uses
    copy 0, the deep one copy 1.
    """

    config_class = SharedPatchGANConfig

    def __init__(self, config: SharedPatchGANConfig):
        super().__init__(config)
        copies = zip(patch_stages(config), patch_stages(config), strict=True)
        self.stages = nn.ModuleList(nn.ModuleList(pair) for pair in copies)

    def path(self, teacher: TeacherName = "wide") -> list[Stage]:
        if teacher not in ("wide", "deep"):
            raise ValueError(f"teacher {teacher!r}: must be 'wide' or 'deep'")
        own = 0 if teacher == "wide" else 1
        return [pair[1 if i < self.config.n_share else own] for i, pair in enumerate(self.stages)]

    def forward(self, x: Tensor, teacher: TeacherName = "wide") -> Tensor:
        return self.forward_with_taps(x, (), teacher)[0]

    def for_both(self, x: Tensor) -> dict[str, Tensor]:
        """The scores of one image for either teacher; the shared stages are computed once."""
        h = x
        for pair in self.stages[: self.config.n_share]:
            h = pair[1](h)
        if self.config.n_share == STAGES:
            return {"wide": h, "deep": h}
        return {teacher: judge(self.path(teacher)[self.config.n_share :], h, ())[0] for teacher in ("wide", "deep")}

    def owners(self) -> dict[str, list[Stage]]:
        """The stages in use: those of both teachers, and of each alone."""
        shared = self.config.n_share
        own = {"wide": [pair[0] for pair in self.stages[shared:]], "deep": [pair[1] for pair in self.stages[shared:]]}
        return {"both": [pair[1] for pair in self.stages[:shared]], **own}

    def forward_with_taps(
        self, x: Tensor, names: tuple[str, ...], teacher: TeacherName = "wide"
    ) -> tuple[Tensor, Taps]:
        return judge(self.path(teacher), x, names)
