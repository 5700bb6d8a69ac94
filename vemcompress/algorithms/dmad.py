"""DMAD: co-attention distillation of a network pruned by differentiable masks (Li et al., 2020; rows of VEM's Tables 1
and 2).

The masks are in `pruning.dmad`. The student continues its own GAN training, from the weights and discriminators of the
mask run. In addition, its attention maps imitate the mean of two attention maps: that of the teacher's generator, and
that of the teacher's discriminator applied to the student's image. The discriminator's last feature map of the
student's image also imitates that of the teacher's image.

This follows the published code, SJLeo/DMAD:

- The target of the attention is not detached: gradient also reaches the student through the discriminator in it.
- The distance of the discriminator's features is the norm of the whole batch's difference, neither squared nor
  averaged.
- The teacher's networks stay in training mode.

Differences: if a discriminator's map is larger than the student's, the published code converts it to 8 bits and resizes
it by area; here it is averaged over areas, without gradient as in the code. U-Nets have no dropout.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from vemcompress.algorithms.distillation import Facts, Needs, Parts
from vemcompress.algorithms.match import check_places, paired_places, sides
from vemcompress.algorithms.twin import TwinDistillation
from vemcompress.errors import RecipeError
from vemcompress.losses.attention import attention, co_attention, whole_norm
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import Discriminator
from vemcompress.system.settings import Weight
from vemcompress.training.update import Output


class DMAD(TwinDistillation):
    """Distils a whole teacher GAN, Pix2Pix or CycleGAN, which is either given and frozen or trained too."""

    class Settings(TwinDistillation.Settings):
        """`attention`: weight of the distance of the attention maps; None is the published 10 with pairs, 100 without.
        `feature`: weight of the distance of the discriminator's features.
        """

        name: Literal["dmad"] = "dmad"
        online: Literal["step", "never"] = "never"
        attention: Weight | None = None
        feature: Weight = 1e-4

    needs: ClassVar = Needs(takes=("image",), gan=True, whole=True)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        check_places("DMAD", facts.recipe, facts.teacher, facts.student)
        theirs, mine = (sides(network, facts.size) for network in (facts.teacher, facts.student))
        if theirs != mine:
            raise RecipeError(
                f"recipe {facts.recipe}: DMAD needs feature maps of equal sizes, and the teacher's are "
                f"{theirs}, the student's {mine}; give both networks the same number of levels."
            )
        if settings.attention is None:
            settings = settings.but(attention=10.0 if facts.paired else 100.0)
        return super().resolve(settings, facts)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        self.teacher.maps = True
        self.gan = self.teacher.gan
        if self.gan.settings.every > 1:
            raise RecipeError(f"gan.every {self.gan.settings.every}: DMAD needs the teacher at every step; omit it.")
        self.gan.follows_back = self.own.follows_back = True
        pairs = paired_places(self.teacher.generator, self.student)
        self.teacher_taps = tuple(_attended(self.teacher.generator, t) for t, _ in pairs)
        self.student_taps = tuple(_attended(self.student, s) for _, s in pairs)

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The student's own GAN terms, and the attention and feature distances, summed over the directions."""
        settings, terms = self.settings, super().student_terms(out)
        follow, features = [], []
        directions = zip(self.gan.discriminators().items(), out.gan.maps, out.own.maps, strict=True)
        for (name, judge), theirs, mine in directions:
            seen, last = self._judged(judge, out, out.own.fakes[name])
            with torch.no_grad():
                _, wanted = self._judged(judge, out, out.gan.fakes[name])
            features.append(whole_norm(last - wanted))
            for t, s in zip(self.teacher_taps, self.student_taps, strict=True):
                follow.append(co_attention(theirs[t], seen, mine[s]))
        terms["attention"] = settings.attention * sum(follow)
        terms["feature"] = settings.feature * sum(features)
        return terms

    def _judged(self, judge: Discriminator, out: Output, image: Tensor) -> tuple[Tensor, Tensor]:
        """The attention map of a teacher's discriminator at its second layer for an image, and its last feature map."""
        names = judge.taps[min(1, len(judge.taps) - 1)], judge.taps[-1]
        with self.autocast(image.device):
            taps = judge.forward_with_taps(self.gan.shown(out.input, image), names)[1]
        return attention(taps[names[0]]), taps[names[1]].float()


def _attended(network: Generator, place: str) -> str:
    """The tap whose attention is imitated at a place. In a U-Net's decoder this is the map from the level below,
    without the skip connection.
    """
    below = f"rise{int(place[2:]) + 1}" if place.startswith("up") and place[2:].isdigit() else place
    return below if below in network.taps else place
