"""GAN training of generators of latent vectors: SAGAN (Zhang et al., ICML 2019) and DCGAN (Radford et al., ICLR
2016).
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Generator as Random
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN, discriminator_for
from vemcompress.gans.sparsity import Sparsity
from vemcompress.gans.start import Start
from vemcompress.losses.adversarial import generator_loss, on_fake, on_real
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.discriminators import (
    AnyDiscriminator,
    DCGANDiscriminatorConfig,
    Discriminator,
    DiscriminatorConfig,
    SAGANDiscriminatorConfig,
    StyleGAN2DiscriminatorConfig,
)
from vemcompress.system.settings import BaseSettings, Betas, Period, Positive, Weight
from vemcompress.training.update import Update


@dataclass
class Drawn:
    """One step's latent vectors, real images, and the teacher's images with their feature maps."""

    input: Tensor
    real: Tensor
    images: dict[str, Tensor]
    taps: Taps = field(default_factory=dict)
    features: dict[str, list[Tensor]] = field(default_factory=dict)

    @property
    def fakes(self) -> dict[str, Tensor]:
        return {"discriminator": self.images["teacher"]}

    @property
    def maps(self) -> list[Taps]:
        return [self.taps]


class LatentGAN(GAN):
    """G: z -> image, and a discriminator of images. D minimises L_real + L_fake, without a factor of a half, as
    published. Then G minimises lambda_gan L_G on the same images (`losses.adversarial`).
    """

    class Settings(BaseSettings):
        """`mode`: the adversarial loss. `lambda_gan`: weight of the generator's adversarial term. `lr`: learning rate
        of the generator. `lr_d`: learning rate of the discriminator. `betas`: betas of Adam. `every`: both are trained
        at every n-th step. `sparsity`: an L1 penalty for later pruning. `discriminator`: its architecture; None for
        that of the generator's family, for images of its size.

        Defaults are SAGAN's in GCC. DCGAN's are vanilla and 2e-4 for both, with betas 0.5 and 0.999.
        """

        name: Literal["latent"] = "latent"
        mode: Literal["hinge", "lsgan", "vanilla"] = "hinge"
        lambda_gan: Weight = 1.0
        lr: Positive = 1e-4
        lr_d: Positive = 4e-4
        betas: Betas = Field((0.0, 0.9), strict=False)
        every: Period = 1
        sparsity: Sparsity | None = None
        discriminator: AnyDiscriminator | None = None

    started = ("discriminator",)
    data = ("single",)

    @classmethod
    def build(cls, settings: Settings, first: Generator, start: Start) -> "LatentGAN":
        return cls(settings, generator=first, discriminator=start.discriminator("discriminator", first.out_channels))

    def __init__(self, settings: Settings, *, generator: Generator, discriminator: Discriminator | None = None):
        super().__init__()
        if generator.takes.kind != "latent":
            raise RecipeError(
                f"gan.name = 'latent' needs a generator of latent vectors, and a {generator.family} takes "
                "images; set it to pix2pix or cyclegan."
            )
        self.settings, self.generator = settings, generator
        config = settings.discriminator or discriminator_like(generator)
        self.discriminator = discriminator_for(config, discriminator, generator.out_channels, generator, shared=False)

    def forward(self, batch: Batch, random: Random, step: int = 1, *, taps: tuple[str, ...] = ()) -> Drawn:
        """z is the batch's input; the batch also has real images."""
        return Drawn(batch.input, batch.real, *self.translate(batch.input, taps))

    def discriminator_terms(self, out: Drawn) -> dict[str, Tensor]:
        """Real, then fake: the published order of spectral norm's power iterations."""
        mode, image = self.settings.mode, out.images["teacher"]
        real = on_real(mode, self.judge(self.discriminator, out.real))
        return {"teacher_d_real": real, "teacher_d_fake": on_fake(mode, self.judge(self.discriminator, image.detach()))}

    def generator_terms(self, out: Drawn) -> dict[str, Tensor]:
        scores = self.watched(out, "discriminator", self.discriminator, out.images["teacher"])
        terms = {"teacher_gan": self.settings.lambda_gan * generator_loss(self.settings.mode, scores)}
        return terms | self.sparse_terms("teacher")

    def updates(self) -> list[Update]:
        settings, learns = self.settings, {"discriminator": self.discriminator}
        judge = self.optimizer(settings.lr_d)
        return [
            Update("discriminator", learns, self.discriminator_terms, judge, settings.every),
            Update("teacher", {"generator": self.generator}, self.generator_terms, self.optimizer(), settings.every),
        ]

    def generators(self) -> dict[str, Generator]:
        return {"teacher": self.generator}

    def discriminators(self) -> dict[str, Discriminator]:
        return {"discriminator": self.discriminator}


def discriminator_like(generator: Generator) -> DiscriminatorConfig:
    """The Config of the published discriminator for a SAGAN or StyleGAN2 generator, and DCGAN's for others, with the
    generator's last width.
    """
    if generator.family == "stylegan2":
        return StyleGAN2DiscriminatorConfig(width=generator.config.widths[-1], most=max(generator.config.widths))
    kind = SAGANDiscriminatorConfig if generator.family == "sagan" else DCGANDiscriminatorConfig
    widths = getattr(generator.config, "widths", None)
    return kind(width=widths[-1] if widths else 64)
