"""GAN-Compression: image, feature and adversarial losses for a student or for a supernet whose widths are sampled at
each step (Li et al., CVPR 2020).

VEM paper, eq. 19-21. Feature maps are compared through 1x1 convolutions, and the student has its own discriminator.

Eq. 20 and 21 are written as sums; the published code uses means, and its weights are tuned for means, so this follows
the code. The losses of student and discriminator are both computed before either is updated, so the student learns from
the discriminator of the previous step. With several GPUs the published code sums their feature terms; here the result
does not depend on the number of GPUs.
"""

import json
from random import Random
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vemcompress.algorithms.adversarial import AdversarialDistillation
from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.match import paired_places, unmatched
from vemcompress.errors import RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.networks.base import Taps
from vemcompress.networks.groups import at
from vemcompress.networks.subnets import SPACE, Space, WidthOptions
from vemcompress.system.settings import Weight
from vemcompress.training.compiling import as_written
from vemcompress.training.update import Output


class GANCompression(AdversarialDistillation):
    """Distils any teacher. With `space` the student is a supernet: each step trains one of its sub-networks, drawn
    uniformly, which uses the first channels of every layer.
    """

    class Settings(AdversarialDistillation.Settings):
        """`recon`: weight of the mean absolute difference to the ground truth if there is one, else to the teacher's
        image; None is the published 100 with pairs, else 10. `distill`: weight of the mean squared difference of the
        feature maps, summed over the places; None is the published 1 with pairs, else 0.01.

        `adversary`: the student's discriminator. With pairs the default is hinge loss and a PatchGAN of width 128;
        without pairs, least squares and width 64. `space`: the widths of the supernet: the name of a published set,
        "auto" (1, 3/4, 1/2, 3/8 and 1/4 of each width), or lists of widths, one for each gene or one for all; "none"
        for a student of fixed shape.
        """

        name: Literal["gan_compression"] = "gan_compression"
        recon: Weight | None = None
        distill: Weight | None = None
        adversary: Adversary.Settings | None = Adversary.Settings()
        space: WidthOptions = "none"

    together: ClassVar = "gan_compression"

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        recon, distill = (100.0, 1.0) if facts.paired else (10.0, 0.01)
        matched = bool(paired_places(facts.teacher, facts.student))
        if settings.distill and not matched:
            advice = "set algorithm.distill=0 to distil from images alone"
            raise unmatched(facts.recipe, facts.teacher, facts.student, advice)
        settings = cls.filled(settings, facts, recon=recon, distill=distill if matched else 0.0)
        _check_space(settings.space, facts)
        return super().resolve(settings, facts)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        self.space = Space.of(self.student.config, settings.space) if settings.space != "none" else None
        if settings.distill:
            self.teacher.maps = True
            self.follow(lambda i, o: nn.Conv2d(i, o, 1))

    def imitate(self, x: Tensor, random: Generator) -> tuple[Tensor, Taps]:
        if self.space is None:
            return super().imitate(x, random)
        # The seed, not the state: drawing a number from a generator on the GPU would block the host.
        entries = self.space.draw(Random(random.initial_seed()))
        with as_written():  # a compiler would recompile for each shape
            return at(self.student, self.space.widths(entries), x, self.student_taps)

    def metadata(self) -> dict[str, str]:
        return {} if self.space is None else {SPACE: json.dumps(self.space.options)}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        terms = self.adversary.student_term(out) if self.adversary else {}
        terms["recon"] = self.settings.recon * F.l1_loss(out.student, out.target.detach().float())
        if self.connectors:
            terms["distill"] = self.settings.distill * sum(self.distances(out))
        return terms

    def distances(self, out: Output) -> list[Tensor]:
        """Mean squared difference at each place, after the convolution from the student's channels to the teacher's. A
        narrower student uses the convolution's weights of its own channels.
        """
        found = []
        for connector, t, s in zip(self.connectors, self.teacher_taps, self.student_taps, strict=True):
            mine = out.student_taps[s]
            with self.autocast(mine.device):
                mine = F.conv2d(mine, connector.weight[:, : mine.shape[1]], connector.bias)
            found.append(F.mse_loss(mine.float(), out.teacher_taps[t].float()))
        return found


def _check_space(space, facts: Facts) -> None:
    """Raises RecipeError for widths that exceed the student's, and for a student that cannot be a supernet."""
    if space == "none":
        return
    config = facts.student.config
    if config is None:
        raise RecipeError(
            f"recipe {facts.recipe}: algorithm.space needs a student of a known family; student.class_path cannot be "
            "used with it."
        )
    try:
        Space.of(config, space)
    except ValueError as error:
        raise RecipeError(f"recipe {facts.recipe}: algorithm.space: {error}.") from error
