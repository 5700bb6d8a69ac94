"""GAN-Compression (Li et al., CVPR 2020; paper, eq. 19-21): images, feature maps through 1x1 convolutions, a
discriminator of the student's own; and the same for a supernet, at widths that are drawn anew at each step.

Eq. 20 and 21 write sums; the published code takes means, for which its weights are, and is followed. The student learns
from the discriminator as it was before this step, because both losses are computed before either network moves. With
several GPUs the published code adds up their feature terms; here the batch is one, whatever it is spread over.
"""

import json
from random import Random
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vemcompress.algorithms.adversarial import AdversarialDistillation
from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.match import paired_places
from vemcompress.errors import RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.networks.base import Taps
from vemcompress.networks.groups import at
from vemcompress.networks.subnets import SPACE, Space, WidthOptions
from vemcompress.system.settings import Weight
from vemcompress.training.compiling import as_written
from vemcompress.training.update import Output


class GANCompression(AdversarialDistillation):
    """From any teacher. With `space` the student is a supernet: at each step one of its sub-networks learns, each with
    equal probability, as the first channels of every layer."""

    class Settings(AdversarialDistillation.Settings):
        """Weights: `recon` of the mean absolute difference to the ground truth where there is one, else to the
        teacher's image; `distill` of the mean squared difference of the feature maps, summed over the places. None is
        what was published: 100 and 1 with pairs, 10 and 0.01 without.

        `adversary`: with pairs hinge loss and a PatchGAN 128, without least squares and 64, where it does not say.
        `space`: the supernet's widths, as the name of a published set, `auto` (1, 3/4, 1/2, 3/8 and 1/4 of each
        width), or lists of widths, one for each gene or one for all; "none" for a student of one shape.
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
            raise RecipeError(
                f"recipe {facts.recipe}: a {facts.student.family} student cannot follow the feature maps of a "
                f"{facts.teacher.family} teacher; set algorithm.distill=0 to distil from images alone."
            )
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
        # The seed, not the state: on a GPU a number drawn from the generator would make the host wait.
        entries = self.space.draw(Random(random.initial_seed()))
        with as_written():  # a compiler would begin anew for each shape
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
        """Mean squared difference at each place, after the convolution from the student's channels to the teacher's; of
        a narrower student's by the weights of its channels."""
        found = []
        for connector, t, s in zip(self.connectors, self.teacher_taps, self.student_taps, strict=True):
            mine = out.student_taps[s]
            with self.autocast(mine.device):
                mine = F.conv2d(mine, connector.weight[:, : mine.shape[1]], connector.bias)
            found.append(F.mse_loss(mine.float(), out.teacher_taps[t].float()))
        return found


def _check_space(space, facts: Facts) -> None:
    """Raises RecipeError for widths that the student does not have, and for one that cannot be a supernet."""
    if space == "none":
        return
    config = facts.student.config
    if config is None:
        raise RecipeError(f"recipe {facts.recipe}: algorithm.space needs a student of a known family, not of a class.")
    try:
        Space.of(config, space)
    except ValueError as error:
        raise RecipeError(f"recipe {facts.recipe}: algorithm.space: {error}.") from error
