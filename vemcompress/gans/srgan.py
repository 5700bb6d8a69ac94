"""SRGAN: training a generator that enlarges or restores images, from pairs (Ledig et al., CVPR 2017).

This follows leftthomas/SRGAN: the image's squared error, 1e-3 of the adversarial term, 6e-3 of the squared error of
VGG16's features. The paper uses VGG19, and no image term once the adversarial one begins; before that it uses the image
term alone (`pretrain`).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.gans.base import discriminator_for
from vemcompress.gans.pix2pix import Conditional, Pairs
from vemcompress.gans.start import Start
from vemcompress.losses.adversarial import generator_loss
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import AnyDiscriminator, Discriminator, SRGANDiscriminatorConfig
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.lpips import LPIPS
from vemcompress.system.settings import MAX_STEPS, Betas, Positive, Text, Weight
from vemcompress.training.update import Update

VGG, OTHER = 6e-3, 6e-4  # lambda_perceptual: as published, and for a distance of about 1 between two photos


@dataclass
class Enhanced(Pairs):
    """A step's input, target and images. `adversarial`: whether the adversarial terms are on in this step."""

    adversarial: bool = True


class SRGAN(Conditional):
    """One teacher, and a discriminator that sees only images, not the inputs they were made from.

    G minimises lambda_recon times the image's error in [0, 1] and, after `pretrain` steps, also lambda_gan L_G(D(G(A)))
    and lambda_perceptual times a distance of features. D minimises 0.5 (L_fake + L_real).
    """

    class Settings(Conditional.Settings):
        """`pixel`: the image's error, "l2" for squared or "l1" for absolute. `lambda_perceptual`: weight of the
        feature distance; None is 6e-3 with vgg16, else 6e-4. `features`: the network for the feature distance:
        "vgg16" as published, a SqueezeNet's perceptual distance, or "none". `features_weights`: the file of its
        weights. `pretrain`: how many first steps use the image's error alone. `discriminator`: the architecture
        of the discriminator.
        """

        replaces: ClassVar = {"features": ("features_weights", "lambda_perceptual")}

        name: Literal["srgan"] = "srgan"
        mode: Literal["hinge", "lsgan", "vanilla"] = "vanilla"
        pixel: Literal["l1", "l2"] = "l2"
        lambda_recon: Weight = 1.0
        lambda_gan: Weight = 1e-3
        lambda_perceptual: Weight | None = None
        features: Literal["vgg16", "squeezenet1_1", "squeezenet1_1_caffe", "none"] = "vgg16"
        features_weights: Text | None = None
        pretrain: int = Field(5000, ge=0, le=MAX_STEPS)
        lr: Positive = 1e-4
        betas: Betas = Field((0.9, 0.999), strict=False)
        discriminator: AnyDiscriminator = SRGANDiscriminatorConfig()

    started = ("discriminator",)
    data = ("paired",)
    enlarges = True

    @classmethod
    def build(cls, settings: Settings, first: Generator, start: Start) -> "SRGAN":
        return cls(settings, generator=first, discriminator=start.discriminator("discriminator", first.out_channels))

    def __init__(self, settings: Settings, *, generator: Generator, discriminator: Discriminator | None = None):
        super().__init__()
        self.settings, self.generator = settings, generator
        given = settings.discriminator, discriminator, generator.out_channels, generator
        self.discriminator = discriminator_for(*given, shared=False)
        self.features: FeatureNetwork | LPIPS | None = None

    @classmethod
    def features_of(cls, settings: Settings) -> tuple[str, str | None]:
        """VGG16, or the perceptual distance of a SqueezeNet."""
        name = settings.features
        kind = {"squeezenet1_1": "lpips ", "squeezenet1_1_caffe": "perceptual "}.get(name, "")
        return f"{kind}{name}", settings.features_weights

    def equip(self, features: FeatureNetwork | LPIPS | None) -> None:
        self.features = features

    def twin(self, first: Generator, start: Start, norm: str | None = None) -> "SRGAN":
        found = super().twin(first, start, norm)
        found.equip(self.features)
        return found

    def forward(self, batch: Batch, random: Random, step: int = 1, *, taps: tuple[str, ...] = ()) -> Enhanced:
        found = Enhanced(batch.input, batch.target, *self.translate(batch.input, taps))
        found.adversarial = step > self.settings.pretrain
        return found

    def scores(self, teacher: str, condition: Tensor, image: Tensor) -> Tensor:
        return self.judge(self.discriminator, image)

    def generator_terms(self, teacher: str, out: Enhanced) -> dict[str, Tensor]:
        settings, image = self.settings, out.images[teacher]
        error = F.mse_loss if settings.pixel == "l2" else F.l1_loss
        terms = {f"{teacher}_recon": settings.lambda_recon * error((image + 1) / 2, (out.target + 1) / 2)}
        if out.adversarial:
            scores = self.watched(out, "discriminator", self.discriminator, image)
            terms[f"{teacher}_gan"] = settings.lambda_gan * generator_loss(settings.mode, scores)
            if self.features is not None:
                terms[f"{teacher}_perceptual"] = self._perceptual(out.target, image)
        return terms | self.sparse_terms(teacher)

    def _perceptual(self, target: Tensor, image: Tensor) -> Tensor:
        weight, features = self.settings.lambda_perceptual, self.features
        with self.autocast(image.device):
            if isinstance(features, LPIPS):
                return (OTHER if weight is None else weight) * features(target, image).mean()
            wanted, found = (features(x)[features.feature].float() for x in (target, image))
        return (VGG if weight is None else weight) * F.mse_loss(found, wanted.detach())

    def generators(self) -> dict[str, Generator]:
        return {"teacher": self.generator}

    def updates(self) -> list[Update]:
        """The discriminator is updated first, once the adversarial terms are on."""
        begun = partial(int.__lt__, self.settings.pretrain)
        return [self._discriminator_update(None).only(begun), self._generator_update("teacher", None)]
