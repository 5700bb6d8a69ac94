"""Plain knowledge distillation of images and feature maps (Hinton et al., 2015; Romero et al., ICLR 2015).

The baseline for other methods. The student imitates the teacher's images pixel by pixel, and its feature maps at the
published places. With `adversary` it also learns from a discriminator. GAN-Compression's losses (Li et al., CVPR 2020)
have this form, with the ground truth instead of the teacher's image if there are pairs.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.algorithms.adversarial import AdversarialDistillation
from vemcompress.algorithms.distillation import Facts, Parts
from vemcompress.algorithms.match import paired_places, unmatched
from vemcompress.losses import image as image_losses
from vemcompress.system.settings import Weight
from vemcompress.training.update import Output


class KD(AdversarialDistillation):
    """Distils any teacher: frozen, online or in phases."""

    class Settings(AdversarialDistillation.Settings):
        """`recon`: weight of the mean absolute difference to the teachers' images. `feature`: weight of the mean
        squared difference of the maps at each place, after a 1x1 convolution of the student's; None is 1 if the places
        of both networks match, else 0.
        """

        name: Literal["kd"] = "kd"
        recon: Weight = 10.0
        feature: Weight | None = None

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        settings = super().resolve(settings, facts)
        matched = bool(paired_places(facts.teacher, facts.student))
        if settings.feature and not matched:
            advice = "set algorithm.feature=0 to distil from images alone"
            raise unmatched(facts.recipe, facts.teacher, facts.student, advice)
        return settings if settings.feature is not None else settings.but(feature=float(matched))

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        if settings.feature:
            self.teacher.maps = True
            self.follow(lambda i, o: nn.Conv2d(i, o, 1))

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        terms = {"recon": self.settings.recon * image_losses.reconstruction(out.teachers, out.student)}
        if self.connectors:
            with self.autocast(out.student.device):
                mine = self.connectors(out.student_taps)
            pairs = zip(mine, self.teacher_taps, strict=True)
            distance = sum(F.mse_loss(m.float(), out.teacher_taps[t].float()) for m, t in pairs)
            terms["feature"] = self.settings.feature * distance
        return terms | (self.adversary.student_term(out) if self.adversary else {})
