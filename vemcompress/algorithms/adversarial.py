"""Base class for distillation with an optional discriminator of the student's own, as in GAN-Compression, CAT and
GAN-Slimming.
"""

from dataclasses import replace
from typing import ClassVar

from torch import nn

from vemcompress.algorithms.distillation import Distillation, Facts, Parts
from vemcompress.gans.adversary import Adversary
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.training.update import Update


class AdversarialDistillation(Distillation):
    """Adds a discriminator's update and files to a distillation. `adversary.student_term(out)` is the student's loss
    term.

    The discriminator is updated before the student, which then learns from the updated discriminator. If `together` is
    set, both losses are computed before either network is updated.
    """

    class Settings(Distillation.Settings):
        """`adversary`: the student's own discriminator, or None for none."""

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
        """The settings with `weights` in place of None. With paired data, the adversary gets Pix2Pix's published
        settings (hinge loss, PatchGAN of width 128) where the recipe does not set them.
        """
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
