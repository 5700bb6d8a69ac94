"""A distillation whose student may have a discriminator of its own, as GAN-Compression, CAT and GCC give it one."""

from dataclasses import replace
from typing import ClassVar

from torch import nn

from vemcompress.algorithms.distillation import Distillation, Facts, Parts
from vemcompress.gans.adversary import Adversary
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.update import Update


class AdversarialDistillation(Distillation):
    """Adds the adversary's update, its file and its companions; the student's term is `adversary.student_term(out)`.

    The adversary moves first, and the student learns from it as it is then; both at once where `together` is set.
    """

    class Settings(Distillation.Settings):
        """`adversary`: None for none."""

        adversary: Adversary.Settings | None = None

    files: ClassVar = ("adversary.source",)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        if settings.adversary is not None:
            takes = facts.student.takes
            side = takes.image if takes.kind == "latent" else takes.scale * facts.size
            Adversary.check(settings.adversary, side, facts.paired)
        return settings

    @classmethod
    def filled(cls, settings: Settings, facts: Facts, **weights: float) -> Settings:
        """With these weights where the settings have None, and with pairs the published adversary of Pix2Pix (hinge
        loss, PatchGAN 128) where they do not say another."""
        found = {key: value for key, value in weights.items() if getattr(settings, key) is None}
        if settings.adversary is not None and facts.paired:
            published = {"mode": "hinge", "discriminator": PatchGANConfig(width=128)}
            stated = settings.adversary.model_fields_set
            found["adversary"] = settings.adversary.but(**{k: v for k, v in published.items() if k not in stated})
        return settings.but(**found)

    @classmethod
    def wants_real(cls, settings: Settings) -> bool:
        return settings.adversary is not None

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        self.adversary = None
        if settings.adversary is not None:
            self.adversary = Adversary(settings.adversary, student=self.student, conditional=parts.paired)

    def extra_updates(self) -> list[Update]:
        return [replace(self.adversary.update(), together=self.together)] if self.adversary else []

    def artifacts(self) -> dict[str, nn.Module]:
        return super().artifacts() | (self.adversary.artifacts() if self.adversary else {})

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | (self.adversary.companions() if self.adversary else {})
