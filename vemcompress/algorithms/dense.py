"""Distillation for dense prediction: a class for every pixel (pixel-wise part of Liu et al., "Structured Knowledge
Distillation for Semantic Segmentation", CVPR 2019).

The student learns the ground truth by cross entropy, and the teacher's class probabilities by KL divergence (Hinton et
al., 2015) with the published weight of 10. SSIM and feature losses are not used: they have no meaning for class scores.
Generators end in tanh, so the scores are `scale` times their outputs. VEM's target t, one-hot labels or the teacher's
outputs, is in [-1, 1] like every image. With `teacher.source = "pairs"` only the ground truth is used, which trains a
supervised teacher.
"""

from typing import Literal

from torch import Tensor

from vemcompress.algorithms.distillation import Distillation, Facts
from vemcompress.errors import RecipeError
from vemcompress.losses.classes import cross_entropy, soft_divergence
from vemcompress.system.settings import Positive, Weight
from vemcompress.training.update import Output


class Dense(Distillation):
    """Distils any teacher of class scores, or learns from label maps alone."""

    class Settings(Distillation.Settings):
        """`classes`: weight of the cross entropy to the ground truth; None is 1 if there is one, else 0. `soft`: weight
        of the divergence from the teachers; None is 10, or 0 with label maps alone. `temperature`: divides the scores
        before the softmax of the divergence. `scale`: factor from outputs in [-1, 1] to scores.
        """

        name: Literal["dense"] = "dense"
        classes: Weight | None = None
        soft: Weight | None = None
        temperature: Positive = 1.0
        scale: Positive = 8.0

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        if facts.paired and not facts.scores and (facts.recorded or settings.classes):
            raise RecipeError(
                f"recipe {facts.recipe}: the dense algorithm needs a class for every pixel; set data.kind=labels, "
                "data.label_target=onehot and data.direction so that the label maps are the target."
            )
        if not facts.paired and settings.classes:
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.classes needs label maps; set data.kind=labels, or omit it."
            )
        if facts.recorded and settings.soft:
            raise RecipeError(
                f"recipe {facts.recipe}: algorithm.soft needs a teacher's scores, and label maps have none; omit it, "
                "or give --teacher."
            )
        found = {"classes": float(facts.scores), "soft": 0.0 if facts.recorded else 10.0}
        settings = settings.but(**{key: value for key, value in found.items() if getattr(settings, key) is None})
        if not settings.classes and not settings.soft:
            raise RecipeError(f"recipe {facts.recipe}: algorithm: both weights are 0; raise classes or soft.")
        return settings

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        settings, terms = self.settings, {}
        scores = settings.scale * out.student
        if settings.classes:
            terms["classes"] = settings.classes * cross_entropy(out.target, scores)
        if settings.soft:
            divergence = soft_divergence(settings.scale * out.teachers, scores, settings.temperature)
            terms["soft"] = settings.soft * divergence
        return terms
