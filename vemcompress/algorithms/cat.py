"""CAT: distillation by kernel alignment of feature maps, with a discriminator for the student (Jin et al., CVPR 2021).

VEM paper, eq. 22-23. The terms are an image difference, an adversarial loss and kernel alignment (KA), which needs no
layers between teacher and student.

Eq. 22 writes the image term as a sum; the published code takes the mean, as here. The discriminator is updated before
the student. KA is computed on each process's own part of the batch, as published. With several GPUs the published code
sums the results; here they are averaged.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vemcompress.algorithms.adversarial import AdversarialDistillation
from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.match import paired_places, unmatched
from vemcompress.errors import RecipeError
from vemcompress.gans.adversary import Adversary
from vemcompress.losses.features import kernel_alignment
from vemcompress.system import distributed
from vemcompress.system.settings import Weight
from vemcompress.training.update import Output


class CAT(AdversarialDistillation):
    """Distils any teacher. Each process needs at least two images: KA of a single image is always 1."""

    class Settings(AdversarialDistillation.Settings):
        """`recon`: weight of the mean absolute difference to the ground truth if there is one, else to the teacher's
        image; None is 100 with pairs, else 5. `distill`: weight of -KA, summed over the places; None is 0.5 with pairs,
        else 1.

        `adversary`: the student's discriminator. With pairs the default is hinge loss and a PatchGAN of width 128;
        without pairs, least squares and width 64.
        """

        name: Literal["cat"] = "cat"
        recon: Weight | None = None
        distill: Weight | None = None
        adversary: Adversary.Settings | None = Adversary.Settings()

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        matched = bool(paired_places(facts.teacher, facts.student))
        if settings.distill and not matched:
            advice = "set algorithm.distill=0 to distil from images alone"
            raise unmatched(facts.recipe, facts.teacher, facts.student, advice)
        recon, distill = (100.0, 0.5) if facts.paired else (5.0, 1.0)
        settings = cls.filled(settings, facts, recon=recon, distill=distill if matched else 0.0)
        if settings.distill and facts.batch < 2 * distributed.ranks():
            raise RecipeError(
                f"recipe {facts.recipe}: train.batch {facts.batch} gives a process a single image, for which kernel "
                "alignment (KA) is always 1 and teaches nothing; set train.batch to at least "
                f"{2 * distributed.ranks()}, or algorithm.distill=0."
            )
        return super().resolve(settings, facts)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        if settings.distill:
            self.teacher.maps = True
            pairs = paired_places(self.teacher.generator, self.student)
            self.teacher_taps, self.student_taps = (tuple(names) for names in zip(*pairs, strict=True))

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        terms = self.adversary.student_term(out) if self.adversary else {}
        terms["recon"] = self.settings.recon * F.l1_loss(out.student, out.target.detach().float())
        if self.student_taps:
            places = zip(self.teacher_taps, self.student_taps, strict=True)
            alignment = sum(kernel_alignment(out.teacher_taps[t], out.student_taps[s]) for t, s in places)
            terms["distill"] = -self.settings.distill * alignment
        return terms
