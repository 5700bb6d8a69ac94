"""GCC: generator-discriminator cooperative compression (Li et al., NeurIPS 2021).

VEM paper, A.2.2, eq. 16-18. Teacher and student are GANs of the same kind that are trained from scratch side by side.
The channels of the student's discriminators have gates (selective activation), which open and close so that the
student's balance of losses follows the teacher's (global coordination). The student also imitates two kinds of
features: those of the teacher's generator, and those that the *teacher's* discriminator computes from its images.

Where the paper and the published code (SJLeo/GCC) differ, this follows the code:

- The distances are means, not sums, and for SAGAN and Pix2Pix their square roots (`root`).
- CycleGAN's discriminator features give the student no gradient, because its image is detached (`detached`).
- The running average of the teacher's difference never averages: its factor is set on the student alone (`average`).
- The teacher's learning rates are never scheduled, so they stay constant (`teacher_decays`).
- SAGAN's student and its discriminator list the layers with spectral norm and attention's convolutions twice, so Adam
  updates these twice a step (`double_steps`).
- Adam also updates the u and v of discriminators with spectral norm, which are parameters there (`vector_steps`).
- CycleGAN's image term is added once for each feature; its weight is 0.

Difference: U-Nets have no dropout.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.algorithms.distillation import Facts, Needs, Parts
from vemcompress.algorithms.match import FeatureMatch, check_places
from vemcompress.algorithms.twin import TwinDistillation
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.gans.cyclegan import CycleGAN
from vemcompress.gans.latent import LatentGAN
from vemcompress.losses.adversarial import on_fake, on_real
from vemcompress.losses.coordination import content, difference, style
from vemcompress.networks.attention import SelfAttention
from vemcompress.networks.spectral import Spectral
from vemcompress.system.settings import Betas, Positive, Weight
from vemcompress.training.schedules import constant, stepwise
from vemcompress.training.update import Optimizer, Output, Schedule, Update

# The published scripts' weights of content, style and images by kind of GAN; whether distances are square roots; and
# the share of a run after which the masks' learning rate falls: 99 epochs of 250 for Cityscapes, 99 of 200 for
# horse2zebra.
PUBLISHED = {
    "latent": {"content": 1.0, "gram": 1.0, "image": 0.0, "root": True, "detached": False, "mask_period": 0.0},
    "pairs": {"content": 50.0, "gram": 1e4, "image": 0.0, "root": True, "detached": False, "mask_period": 0.396},
    "domains": {"content": 0.01, "gram": 10.0, "image": 0.0, "root": False, "detached": True, "mask_period": 0.495},
}


class GCC(TwinDistillation):
    """Distils an online teacher that is trained by Pix2Pix, by CycleGAN or from latent vectors."""

    class Settings(TwinDistillation.Settings):
        """`content`: weight (lambda_MSE of eq. 18); None is the published value for the kind of GAN. `gram`: weight
        (lambda_style of eq. 18); None is the published value. `image`: weight (lambda_recon) of the mean absolute
        difference to the teacher's image; None is the published value.

        `masks`: whether the student's discriminators have gates. `threshold`: a channel is active if its gate exceeds
        this value (tau). `mask_lr`: learning rate of the gates. `mask_betas`: Adam's betas for the gates.
        `mask_every`: the gates are trained at every n-th step. `mask_period`: the gates' learning rate falls to a tenth
        after each such share of the run's steps; 0 for never. `average`: whether the teacher's difference is a running
        average, with the factor 1 - step / steps for the newest value.

        The next five choose between the paper and the published code; the module's docstring explains them.
        `teacher_decays`: whether the teacher's learning rates fall. `detached`: whether the discriminator's features
        give the student no gradient. `root`: whether distances are square roots. `double_steps`: whether some layers of
        SAGAN take two optimiser steps. `vector_steps`: whether Adam also updates the vectors of spectral norm.
        """

        name: Literal["gcc"] = "gcc"
        content: Weight | None = None
        gram: Weight | None = None
        image: Weight | None = None
        masks: bool = True
        threshold: float = Field(0.5, ge=0, le=1)
        mask_lr: Positive = 1e-4
        mask_betas: Betas = Field((0.9, 0.999), strict=False)
        mask_every: int = Field(1, ge=1, le=1000)
        mask_period: float | None = Field(None, ge=0, le=1)
        average: bool = False
        teacher_decays: bool = False
        root: bool | None = None
        detached: bool | None = None
        double_steps: bool = True
        vector_steps: bool = True

    needs: ClassVar = Needs(teacher="online", gan=True)

    @property
    def second(self) -> bool:
        return self.settings.masks

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        if settings.online != "step":
            raise RecipeError(
                f"recipe {facts.recipe}: GCC trains teacher and student at the same steps; omit algorithm.online."
            )
        check_places("GCC", facts.recipe, facts.teacher, facts.student)
        kind = "latent" if facts.teacher.takes.kind == "latent" else "pairs" if facts.paired else "domains"
        return settings.but(**{k: v for k, v in PUBLISHED[kind].items() if getattr(settings, k) is None})

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        gan = self.teacher.gan
        if gan.settings.every > 1:
            raise RecipeError(f"gan.every {gan.settings.every}: GCC trains the teacher at every step; omit it.")
        gan.watches, gan.decays, self.teacher.maps = True, settings.teacher_decays, True
        gan.follows_back = self.own.follows_back = True
        if settings.masks:
            for judge in self.own.discriminators().values():
                judge.select(settings.threshold)
        self.pairs = list(zip(gan.generators().values(), self.own.generators().values(), strict=True))
        self.connectors = nn.ModuleList(
            FeatureMatch(*pair, lambda i, o: nn.Conv2d(i, o, 1, bias=False), initialise=lambda m: None)
            for pair in self.pairs
        )
        first = self.connectors[0]
        self.teacher_taps, self.student_taps = first.teacher_taps, first.student_taps
        if settings.vector_steps:
            for layer in _spectral(*gan.discriminators().values(), *self.own.discriminators().values()):
                layer.learn_vectors()
        self.balance = Balance(len(gan.discriminators()))

    @classmethod
    def norm_of_judges(cls, gan: GAN) -> str | None:
        """CycleGAN's students have discriminators with BatchNorm, whatever norm the teacher's have."""
        return "batch" if isinstance(gan, CycleGAN) else None

    # -- one step ------------------------------------------------------------------------------------------------

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The student's own GAN terms, and eq. 17."""
        settings, root = self.settings, self.settings.root
        terms = super().student_terms(out)
        teacher, student = self._features(out)
        terms["content"] = settings.content * content(teacher, student, root=root)
        terms["gram"] = settings.gram * style(teacher, student, root=root)
        if settings.image:
            images = zip(out.gan.fakes.values(), out.own.fakes.values(), strict=True)
            distance = sum(F.l1_loss(mine, theirs.detach()) for theirs, mine in images)
            # CycleGAN's published code adds this term once for each of a direction's features.
            terms["image"] = settings.image * distance * (len(teacher) // 2 if len(self.connectors) > 1 else 1)
        return terms

    def _features(self, out: Output) -> tuple[list[Tensor], list[Tensor]]:
        """Matching lists of features: the teacher's, generators first and then discriminators, and the student's."""
        teacher, student = [], []
        for theirs, mine, connectors in zip(out.gan.maps, out.own.maps, self.connectors, strict=True):
            teacher += [theirs[tap] for tap in connectors.teacher_taps]
            with self.autocast(out.student.device):
                student += connectors(mine)
        gan = self.teacher.gan
        for name, judge in gan.discriminators().items():
            image = out.own.fakes[name]
            teacher += out.gan.features[name]
            shown = gan.shown(out.input, image.detach() if self.settings.detached else image)
            student += gan.judge_with_features(judge, shown)[1]
        return teacher, student

    def mask_terms(self, out: Output) -> dict[str, Tensor]:
        """L_arch on the second batch: the difference between the student's and the teacher's balances, and the
        discriminators' own losses."""
        batch, gan, own, mode = out.second, self.teacher.gan, self.own, self.teacher.gan.settings.mode
        half = 1.0 if isinstance(gan, LatentGAN) else 0.5
        for gate in self._gates():
            gate.clip()
        with torch.no_grad():
            theirs, mine = gan.draw(batch), own.draw(batch)
            scores = [gan.judge(d, gan.shown(batch.input, theirs[n])) for n, d in gan.discriminators().items()]
            of_teacher = self.balance(torch.stack([difference(mode, score) for score in scores]))
            for layer in _spectral(*gan.discriminators().values()):
                layer.normalised()  # the published code judges real images too; only its power iteration matters later
        terms, reals = {"mask_balance": 0.0, "mask_real": 0.0, "mask_fake": 0.0}, own.reals(batch)
        for i, (name, judge) in enumerate(own.discriminators().items()):
            on_fakes, on_reals = (own.judge(judge, own.shown(batch.input, x[name])) for x in (mine, reals))
            terms["mask_balance"] += torch.abs(difference(mode, on_fakes) - of_teacher[i])
            terms["mask_real"] += half * on_real(mode, on_reals)
            terms["mask_fake"] += half * on_fake(mode, on_fakes)
        return terms

    # -- the updates ---------------------------------------------------------------------------------------------

    def judges(self) -> Update:
        """The update of the student's discriminators, without their gates."""
        twice = _doubled(*self.own.discriminators().values()) if self.settings.double_steps else ()
        return replace(super().judges(), still=tuple(self._gates()), twice=twice)

    def moved_twice(self) -> tuple[nn.Module, ...]:
        return _doubled(self.student) if self.settings.double_steps else ()

    def late_updates(self) -> list[Update]:
        if not self.settings.masks:
            return super().late_updates()
        optimizer = Optimizer(self.settings.mask_lr, self.settings.mask_betas, schedule=self._mask_schedule())
        masks = {"masks": nn.ModuleList(self._gates())}
        update = Update("masks", masks, self.mask_terms, optimizer, every=self.settings.mask_every)
        return [*super().late_updates(), update]

    def _mask_schedule(self) -> Schedule:
        share = self.settings.mask_period
        return (lambda step, total: stepwise(max(1, round(share * total)), 0.1)(step, total)) if share else constant

    def _gates(self) -> list[nn.Module]:
        return [gate for judge in self.own.discriminators().values() for gate in judge.opened()]

    def clock(self, step: int, total: int) -> tuple[int, int]:
        if self.settings.average:
            self.balance.newest = 1 - (step - 1) / total
        return super().clock(step, total)

    # -- output files --------------------------------------------------------------------------------------------

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | {"balance": (self.balance, {})}


class Balance(nn.Module):
    """The teacher's differences, one for each discriminator: the newest ones, or a running average in which the newest
    have the share `newest`. The first values are stored as they are.
    """

    newest: float = 1.0
    value: Tensor
    count: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("value", torch.zeros(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, found: Tensor) -> Tensor:
        mixed = torch.lerp(self.value, found, self.newest)
        self.value.copy_(torch.where(self.count > 0, mixed, found))
        self.count += 1
        return self.value.clone()


def _doubled(*networks: nn.Module) -> tuple[nn.Module, ...]:
    """Layers that the published optimisers of SAGAN's student list twice."""
    attention = [
        layer
        for network in networks
        for module in network.modules()
        if isinstance(module, SelfAttention)
        for layer in (module.query, module.key, module.value)
    ]
    return (*_spectral(*networks), *attention)


def _spectral(*networks: nn.Module) -> list[Spectral]:
    return [module for network in networks for module in network.modules() if isinstance(module, Spectral)]
