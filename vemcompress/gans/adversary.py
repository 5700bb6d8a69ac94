"""A discriminator that a student learns against, as GAN-Compression, CAT and GCC give it one of its own."""

from typing import Literal

from pydantic import Field
from torch import Tensor, cat, nn

from vemcompress.errors import RecipeError
from vemcompress.gans.base import check_size, discriminator_for
from vemcompress.gans.pool import ImagePool
from vemcompress.losses.adversarial import discriminator_loss, generator_loss, precise
from vemcompress.networks.base import Generator
from vemcompress.networks.discriminators import AnyDiscriminator, Discriminator, PatchGANConfig
from vemcompress.system.settings import BaseSettings, Betas, Images, Positive, Text, Weight
from vemcompress.training.learner import Learner
from vemcompress.training.update import Optimizer, Output, Update
from vemcompress.weights.discriminator import load_discriminator


class Adversary(Learner):
    """It judges the student's images against real ones: the ground truth, else images of the target's domain, else the
    teacher's own.

    With pairs it judges cat(input, image), as Pix2Pix's does, else the image alone, as of students that enlarge. D
    minimises 0.5 (L_fake + L_real), the student `weight` L_G (`losses.adversarial`).
    """

    class Settings(BaseSettings):
        """`source`: a file of a discriminator to start from, or "teacher" for the one in the teacher's file or run, as
        published; "new", or None, for a new one. `pool`: how many earlier images of the student's it sees again,
        without pairs alone; 0, as published for most students, for none. `pooled`: the scores of an image's patches
        are one, their mean."""

        weight: Weight = 1.0
        mode: Literal["hinge", "lsgan", "vanilla"] = "lsgan"
        lr: Positive = 2e-4
        betas: Betas = Field((0.5, 0.999), strict=False)
        pool: Images = 0
        pooled: bool = False
        discriminator: AnyDiscriminator = PatchGANConfig(width=64)
        source: Text | None = None

    @staticmethod
    def check(settings: Settings, side: int, paired: bool) -> None:
        """Raises RecipeError for images of this side that are too small for it, and for a pool of pairs."""
        check_size(settings.discriminator, side, "algorithm.adversary.discriminator")
        if paired and settings.pool:
            raise RecipeError(
                f"algorithm.adversary.pool {settings.pool}: an image pool needs data without pairs; omit it, or "
                "choose other data."
            )

    def __init__(self, settings: Settings, *, student: Generator, conditional: bool):
        """Raises RecipeError for a discriminator of other channels, InputError for a file that is none."""
        super().__init__()
        self.settings, self.conditional = settings, conditional and student.times == 1
        channels = student.out_channels + (student.in_channels if self.conditional else 0)
        given = load_discriminator(settings.source) if settings.source else None
        self.discriminator: Discriminator = discriminator_for(
            settings.discriminator, given, channels, student, shared=False, where="algorithm.adversary"
        )
        self.discriminator.train().requires_grad_(True)  # one of a file comes ready to be used
        self.pool = ImagePool(settings.pool)

    def judge(self, x: Tensor, image: Tensor) -> Tensor:
        """Raw scores, B x 1 x h x w, float32, of images of the inputs `x`; B x 1 x 1 x 1 where they are `pooled`."""
        with self.autocast(image.device):
            scores = precise(self.discriminator(cat((x, image), dim=1) if self.conditional else image))
        return scores.mean((2, 3), keepdim=True) if self.settings.pooled else scores

    def terms(self, out: Output) -> dict[str, Tensor]:
        """The discriminator's loss in its two halves; the student's images are constants."""
        made = out.student.detach()
        fake = self.judge(out.input, made if self.conditional else self.pool.query(made, out.random))
        halves = discriminator_loss(self.settings.mode, self.judge(out.input, out.real), fake)
        return {f"adversary_{half}": value for half, value in halves.items()}

    def update(self) -> Update:
        optimizer = Optimizer(self.settings.lr, self.settings.betas)
        return Update("adversary", {"discriminator": self.discriminator}, self.terms, optimizer)

    def student_term(self, out: Output) -> dict[str, Tensor]:
        """The student's weighted loss, a scalar, against the discriminator as it is now."""
        return {"gan": self.settings.weight * generator_loss(self.settings.mode, self.judge(out.input, out.student))}

    def artifacts(self) -> dict[str, nn.Module]:
        return {"adversary": self.discriminator}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return {"adversary_pool": (self.pool, {})} if self.settings.pool else {}
