"""GAN-Slimming: pruning, quantisation and distillation in one loss (Wang et al., ECCV 2020; a row of VEM's Table 2).

The student starts as a copy of the teacher. It learns the teacher's images by a perceptual distance, and against a
discriminator that treats the teacher's images as real. At the same time a proximal step pulls the scales of its norms
towards zero. Channels with a scale of zero are then removed (prune method `zeros`), and the rest is trained without
that step (`sparse` = false).

This follows the published code, VITA-Group/GAN-Slimming:

- The weight 20, described as the adversarial term's, multiplies the perceptual term.
- Norms that write to a residual trunk have no scales, so the trunk keeps its width. Here they have scales, which are
  not trained; they are 1 if the teacher has none, which is the same network.
- The features are VGG16's of images in [0, 1], without ImageNet's mean and standard deviation.
- The student is updated before the discriminator, which also sees earlier images and gives one score per image.

Differences: the authors' initial discriminator is not available, so a new one is trained; each image is flipped
(data.flip flips half of them); learning rates fall at every step, not at every epoch. With features other than VGG's,
both perceptual terms are scaled to 1 for an untrained student, which is our choice.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.adversarial import AdversarialDistillation
from vemcompress.algorithms.calibration import calibrated, check_features
from vemcompress.algorithms.distillation import Facts, Needs, Parts
from vemcompress.errors import RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.losses.coordination import style
from vemcompress.networks.base import Generator, Taps, with_scales
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.groups import makers
from vemcompress.networks.quantised import forward_of_8_bits
from vemcompress.system.settings import Positive, Text, Weight
from vemcompress.training.compiling import as_written
from vemcompress.training.learner import one_by_one
from vemcompress.training.schedules import cosine
from vemcompress.training.update import Optimizer, Output, Update

PUBLISHED = {"content": 1.0, "style": 1e5}  # for VGG16 features
BLANK = {"style": 1.0, "content": 1.0}  # values of the terms for an untrained student with other features


class GANSlimming(AdversarialDistillation):
    """Distils any teacher, by its images alone."""

    class Settings(AdversarialDistillation.Settings):
        """`perceptual`: weight of the sum of the two terms below. `content`: weight of the mean absolute difference of
        the first feature map; None is the published 1 with VGG16. `style`: weight of the mean squared difference of the
        Gram matrices, summed over the maps; None is the published 1e5 with VGG16.

        `features`: the network whose feature maps are compared. `features_weights`: the file of its weights.

        `sparse`: whether each step moves the scales towards zero. Otherwise they are trained like the other weights.
        `rho`: size of that step, multiplied by the scales' learning rate. `gamma_lr`: learning rate of the scales' SGD.
        `gamma_momentum`: momentum of the scales' SGD. `weight_decay`: weight decay of Adam, for all other weights and
        for the discriminator. All learning rates fall along a cosine. `bits`: with 8, the student's convolutions use
        8-bit weights and activations (networks.quantised); the file still holds full weights.

        `adversary`: the student's discriminator. With paired data it judges pairs and keeps no earlier images.
        """

        replaces: ClassVar = {"features": ("features_weights", "content", "style")}

        name: Literal["gan_slimming"] = "gan_slimming"
        perceptual: Weight = 20.0
        content: Weight | None = None
        style: Weight | None = None
        features: Literal["vgg16", "squeezenet1_1", "squeezenet1_1_caffe"] = "vgg16"
        features_weights: Text | None = None
        sparse: bool = True
        rho: Positive = 0.01
        gamma_lr: Positive = 0.1
        gamma_momentum: float = Field(0.5, ge=0, lt=1)
        weight_decay: Weight = 1e-3
        bits: Literal[8, 32] = 32
        adversary: Adversary.Settings | None = Adversary.Settings(
            lr=1e-5, pool=50, pooled=True, discriminator=PatchGANConfig(width=64, norm="instance_affine")
        )

    needs: ClassVar = Needs(takes=("image",))
    files: ClassVar = ("adversary.source", "features_weights")

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        check_features(settings, tuple(PUBLISHED), facts)
        if settings.sparse and settings.ema:
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.ema: an average of scales is never exactly zero, so no channel "
                "would be removed; omit it in the sparse stage."
            )
        if settings.sparse and not _prunable(facts.student):
            raise RecipeError(
                f"recipe {facts.recipe}: a {facts.student.family} student has no norms whose channels can be removed; "
                "choose another algorithm, or another student."
            )
        own = settings.adversary
        if own is not None and facts.paired and own.pool:  # a discriminator of pairs cannot reuse earlier images
            settings = settings.but(adversary=own.but(pool=0))
        found = PUBLISHED if settings.features == "vgg16" else {}
        settings = settings.but(**{key: value for key, value in found.items() if getattr(settings, key) is None})
        return super().resolve(settings, facts)

    @classmethod
    def wants_real(cls, settings: Settings) -> bool:
        """False: the discriminator treats the teacher's images as real."""
        return False

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        return calibrated(settings, BLANK, features, images, squared=True, layer=0)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, replace(parts, student=with_scales(parts.student)))
        self.optimizer = self._adam(parts.optimizer.lr, parts.optimizer.betas)
        scales, rest = _prunable(self.student), _norms(self.student)
        self.scales = nn.ParameterList(layer.weight for layer in scales) if settings.sparse else nn.ParameterList()
        held = {id(layer) for layer in scales}
        self._still = nn.ModuleList(layer for layer in rest if id(layer) not in held)
        self._sgd = Optimizer(settings.gamma_lr, kind="sgd", momentum=settings.gamma_momentum, schedule=cosine)
        self._rate = settings.gamma_lr

    def _adam(self, lr: float, betas: tuple[float, float]) -> Optimizer:
        return Optimizer(lr, betas, weight_decay=self.settings.weight_decay, schedule=cosine)

    # -- one step ------------------------------------------------------------------------------------------------

    def imitate(self, x: Tensor, random: Random) -> tuple[Tensor, Taps]:
        if self.settings.bits == 32:
            return super().imitate(x, random)
        with as_written():
            return forward_of_8_bits(self.student, x, self.student_taps)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        settings = self.settings
        theirs, mine = self.maps_of(out.teacher, out.student)
        content = F.l1_loss(mine[0].float(), theirs[0].float())
        terms = {
            "content": settings.perceptual * settings.content * content,
            "style": settings.perceptual * settings.style * style(theirs, mine, root=False),
        }
        return terms | (self.adversary.student_term(out) if self.adversary else {})

    # -- the updates ---------------------------------------------------------------------------------------------

    def clock(self, step: int, total: int) -> tuple[int, int]:
        self._rate = self.settings.gamma_lr * cosine(step, total)
        return super().clock(step, total)

    @torch.no_grad()
    def moved(self) -> None:
        """Proximal step of |gamma|: scales smaller than rho times the learning rate become zero."""
        for scale in self.scales:
            scale.copy_(F.softshrink(scale, self.settings.rho * self._rate))
        super().moved()

    def learned(self) -> dict[str, nn.Module]:
        return super().learned() | ({"scales": self.scales} if len(self.scales) else {})

    def own_optimizers(self) -> dict[str, Optimizer]:
        return {"scales": self._sgd} if len(self.scales) else {}

    def still(self) -> tuple[nn.Module, ...]:
        """Norms that write to a trunk: they have no scales in the published code."""
        return tuple(self._still)

    def monitored(self, out: Output) -> dict[str, Tensor]:
        """Also logs the share of scales that are zero, before this step."""
        found = super().monitored(out)
        if len(self.scales):
            found["zero_scales"] = (torch.cat(list(self.scales)).detach() == 0).float().mean()
        return found

    def extra_updates(self) -> list[Update]:
        return []

    def late_updates(self) -> list[Update]:
        """The discriminator is updated after the student."""
        if self.adversary is None:
            return []
        own, update = self.settings.adversary, self.adversary.update()

        def terms(out: Output) -> dict[str, Tensor]:
            return update.terms(replace(out, real=out.teacher))  # even if there is a ground truth

        return [replace(update, terms=terms, optimizer=self._adam(own.lr, own.betas))]

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        if self.settings.bits == 32:
            return super().pictures(inputs)
        of_8_bits = torch.cat([forward_of_8_bits(self.result, x[None])[0].float() for x in inputs])
        return self.teacher.pictures(inputs) | {"student": one_by_one(self.result, inputs), "8 bits": of_8_bits}


def _prunable(network: Generator) -> list[nn.Module]:
    """Norms after layers that are the only producers of a group's channels."""
    found = []
    for group in network.groups():
        layers = makers(network, group)
        if len(layers) == 1 and layers[0][1] is not None:
            found.append(network.get_submodule(layers[0][1].module))
    return [norm for norm in found if network.config is not None or norm.weight is not None]


def _norms(network: Generator) -> list[nn.Module]:
    kinds = nn.BatchNorm2d | nn.InstanceNorm2d
    return [module for module in network.modules() if isinstance(module, kinds) and module.weight is not None]
