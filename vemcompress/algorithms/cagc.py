"""CAGC: content-aware GAN compression for StyleGAN2 (Liu et al., CVPR 2021), with StyleKD's additions (Xu et al., ECCV
2022).

VEM paper, A.2.5, eq. 24-27. The student is a pruned StyleGAN2. It continues StyleGAN2's own training, against its
teacher's discriminator. It also imitates its teacher's images of the same latent vectors, in the regions that show
content.

Where the paper and the published code (lychenyoko/content-aware-gan-compression) differ, this follows the code:

- Masked differences are means over all pixels, not sums (eq. 25), and both distances have weight 3.
- Feature maps are not imitated by default; set `feature` to add eq. 26. `on = "intermediate"` is the code's other mode.
- R1 and path-length regularisation, which the paper does not mention, are used; learning rates are constant.
- In the other mode, LPIPS compares the teacher's whole image with the student's masked image.
- R1 has its own step, also with StyleKD's settings, although StyleKD's code adds it to the discriminator's loss.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.styled import Drawings, StyledDistillation
from vemcompress.data.batch import Batch
from vemcompress.errors import InputError, RecipeError
from vemcompress.evaluation.masks import MaskSettings, open_masks
from vemcompress.gans.stylegan2 import StyledDrawn
from vemcompress.losses.adversarial import precise
from vemcompress.losses.directions import latent_directions, relation
from vemcompress.networks.base import Generator, Taps
from vemcompress.networks.lpips import LPIPS
from vemcompress.system import distributed
from vemcompress.system.settings import Text, Weight
from vemcompress.training.update import Output
from vemcompress.weights.features import check_given, distance_name

SMALLEST, LARGEST = 32, 256  # image sizes that LPIPS compares, in pixels
RELATION_SIDES = (16, 32, 64, 128)  # sizes of the feature maps whose relations StyleKD compares
STEP = 5.0  # standard deviation of the step along a latent direction


@dataclass
class Masked(Drawings):
    """What one step computes: also the content mask, B x 1 x H x W or None, and, if latent directions are compared, the
    feature maps of teacher and student at the moved w.
    """

    mask: Tensor | None = None
    moved: tuple[Taps, Taps] | None = None


class CAGC(StyledDistillation):
    """Distils a frozen StyleGAN2 into a smaller one."""

    class Settings(StyledDistillation.Settings, MaskSettings):
        """`recon`: weight (lambda_recon) of the L1 difference of masked images. `perceptual`: weight (lambda_LPIPS) of
        the perceptual distance; None is 3, or 0.6 with the Caffe SqueezeNet. That network has no linear LPIPS layers,
        so all its channels count equally, which gives values about five times as large. `feature`: weight
        (lambda_distill of eq. 26) of the mean absolute difference of masked feature maps at each size, after a 1x1
        convolution of the student's. `on`: "output" compares the final images; "intermediate" sums the unmasked L1
        differences of the images at each size.

        `features`: the network that LPIPS uses. `features_weights`: the file of its weights.

        StyleKD's settings follow. `mapping`: "own" is a mapping network of the student's own; "copied" starts it from
        the teacher's; "frozen" copies the teacher's and keeps it fixed. `relation`: weight of the relation term (30 in
        StyleKD): how images moved along latent directions relate to the other images. `relation_by`: how relations are
        compared, "kl" or "mse".
        """

        name: Literal["cagc"] = "cagc"
        recon: Weight = 3.0
        perceptual: Weight | None = None
        feature: Weight = 0.0
        on: Literal["output", "intermediate"] = "output"
        features: Literal["none", "vgg16", "squeezenet1_1", "squeezenet1_1_caffe"] = "vgg16"
        features_weights: Text | None = None
        mapping: Literal["own", "copied", "frozen"] = "own"
        relation: Weight = 0.0
        relation_by: Literal["kl", "mse"] = "kl"

    files: ClassVar = (*StyledDistillation.files, "features_weights", "masks")

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        settings = super().resolve(settings, facts)
        shapes = [(n.config.latent, n.config.style, n.config.mapping) for n in (facts.teacher, facts.student)]
        if (settings.mapping != "own" or settings.relation) and shapes[0] != shapes[1]:
            raise RecipeError(
                f"recipe {facts.recipe}: the shapes of the student's and the teacher's mapping networks differ, so "
                "algorithm.mapping and algorithm.relation cannot be used; use a student with the same latent, style "
                "and mapping."
            )
        if settings.relation and (facts.batch < 2 * distributed.ranks() or facts.size < RELATION_SIDES[0]):
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.relation needs at least 2 images on each process and images of at "
                f"least {RELATION_SIDES[0]} px; set train.batch, or algorithm.relation=0."
            )
        if settings.perceptual != 0:
            check_given(settings.features, settings.features_weights)
        if settings.masks is not None and not Path(settings.masks).exists():
            raise InputError(f"algorithm.masks: {settings.masks}: no such file or folder; check the path.")
        if settings.perceptual is None:
            settings = settings.but(perceptual=0.6 if settings.features.endswith("caffe") else 3.0)
        return settings

    @classmethod
    def features_of(cls, settings: Settings) -> tuple[str, str | None]:
        return ("none" if settings.perceptual == 0 else distance_name(settings.features)), settings.features_weights

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        teacher = self.teacher.generator
        self.distance: LPIPS | None = parts.features
        self.masks = open_masks(settings, teacher)
        if settings.mapping != "own":
            for network in (self.student, self.result):
                network.mapping.load_state_dict(teacher.mapping.state_dict())
            self.student.mapping.requires_grad_(settings.mapping != "frozen")
        if settings.on == "intermediate":
            self._add_taps(teacher.places)
        if settings.feature:
            last = _last_of_sizes(teacher)
            self.connectors = nn.ModuleList(
                nn.Conv2d(self.student.tap_channels(name), teacher.tap_channels(name), 1) for name in last
            )
            self._add_taps(last)
        if settings.relation:
            self.splits = False  # the relation term compares all images of a batch
            self._add_taps(_related(teacher))
            self.register_buffer("directions", _directions(teacher), persistent=False)

    def _add_taps(self, names: tuple[str, ...]) -> None:
        self.teacher_taps = self.student_taps = tuple(dict.fromkeys((*self.teacher_taps, *names)))

    # -- one step ------------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, random: Random, step: int = 1) -> Output:
        """If the masks belong to a fixed set of latent vectors, the student learns from these vectors; the output's
        `index` identifies them.
        """
        masks = self.masks
        if masks is None or masks.vectors is None:
            return super().forward(batch, random, step)
        count = len(batch.input) * distributed.shares()
        drawn = torch.randint(len(masks.vectors), (count,), generator=random, device=random.device)
        chosen = distributed.mine(drawn).to(batch.input.device)
        masks.to(batch.input.device)
        known = masks.vectors[chosen].to(batch.input)
        return super().forward(replace(batch, input=known, index=chosen), random, step, plain=True)

    def beside(self, batch: Batch, drawn: StyledDrawn, teacher: Tensor) -> Masked:
        made, masks = Masked(drawn), self.masks
        if masks is not None:
            with self.timer.part("masks"):
                known = masks.vectors is not None
                made.mask = masks.known[batch.index].to(teacher) if known else masks(teacher)
        if self.settings.relation:
            made.moved = self._moved(drawn)
        return made

    def _moved(self, drawn: StyledDrawn) -> tuple[Taps, Taps]:
        """Feature maps of teacher and student at their w, moved along one random direction per image."""
        mine, random = drawn.w, drawn.random
        count = len(mine) * distributed.shares()
        chosen = torch.randint(len(self.directions), (count,), generator=random, device=random.device)
        length = STEP * self.own.normal(random, len(mine), 1).to(mine)
        step = (self.directions[distributed.mine(chosen)].to(mine) * length)[:, None]
        noises = [self.own.noise(mine, random) for _ in range(2)]
        names, generator = _related(self.student), self.teacher.generator
        with self.autocast(mine.device):
            with torch.no_grad():
                _, teacher = generator.synthesise(drawn.mixture.styles(generator) + step, names, noises[0])
            _, student = self.student.synthesise(mine + step, names, noises[1])
        return teacher, student

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        settings, made = self.settings, out.own
        terms = super().student_terms(out)
        mask = 1.0 if made.mask is None else made.mask
        theirs, mine = mask * out.teacher, mask * out.student
        if settings.on == "intermediate":
            pairs = [(out.teacher_taps[name], out.student_taps[name]) for name in self.student.places]
            terms["recon"] = settings.recon * sum(F.l1_loss(precise(m), precise(t)) for t, m in pairs)
            theirs = out.teacher
        else:
            terms["recon"] = settings.recon * F.l1_loss(mine, theirs)
        if self.distance is not None:
            terms[self.perceptual] = settings.perceptual * self.distance(_compared(theirs), _compared(mine)).mean()
        if settings.feature:
            terms["feature"] = settings.feature * self._feature(out, made.mask)
        if settings.relation:
            (t, s), (t_moved, s_moved) = (out.teacher_taps, out.student_taps), made.moved
            found = [relation(t[k], t_moved[k], s[k], s_moved[k], settings.relation_by) for k in t_moved]
            terms["relation"] = settings.relation * sum(found)
        return terms

    @property
    def perceptual(self) -> str:
        """The name of the perceptual term: "lpips" if LPIPS has its linear layers."""
        return "lpips" if self.distance is not None and self.distance.learned else "perceptual"

    def _feature(self, out: Output, mask: Tensor | None) -> Tensor:
        """Eq. 26, as a mean over elements."""
        found = 0.0
        for name, connector in zip(_last_of_sizes(self.student), self.connectors, strict=True):
            with self.autocast(out.student.device):
                mine = connector(out.student_taps[name])
            difference = (precise(mine) - precise(out.teacher_taps[name])).abs()
            if mask is not None:
                difference = difference * (F.interpolate(mask, difference.shape[2:], mode="area") > 0.5)
            found = found + difference.mean()
        return found


def _compared(images: Tensor) -> Tensor:
    """Images at the size at which LPIPS compares them: at most 256 px, as published, and at least 32 px, which its
    networks need.
    """
    side = min(max(images.shape[2], SMALLEST), LARGEST)
    return images if side == images.shape[2] else F.interpolate(images, (side, side), mode="bilinear")


def _level(side: int) -> int:
    """How often a side of 4 px is doubled to reach this side."""
    return int(math.log2(side)) - 2


def _related(generator: Generator) -> tuple[str, ...]:
    """The taps whose relations are compared: the last convolution at each of the sizes in RELATION_SIDES."""
    return tuple(f"conv{2 * _level(side) + 1}" for side in RELATION_SIDES if side <= generator.takes.image)


def _directions(generator: Generator) -> Tensor:
    levels = range(1, _level(generator.takes.image) + 1)
    layers = [(generator.convs[2 * n - 1], generator.convs[2 * n]) for n in levels]
    return latent_directions([(a.modulation.weight, b.modulation.weight) for a, b in layers])


def _last_of_sizes(generator: Generator) -> tuple[str, ...]:
    """The tap of the last convolution at each size."""
    return tuple(f"conv{2 * _level(int(name[3:])) + 1}" for name in generator.places)
