"""A discriminator for a student, as in GAN-Compression and CAT."""

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
    """Judges the student's images against real ones. Real images are the ground truth, else images of the target's
    domain, else the teacher's.

    With pairs it judges cat(input, image), like Pix2Pix's discriminator; otherwise, and for students that enlarge
    images, the image alone. D minimises 0.5 (L_fake + L_real), the student `weight` L_G (`losses.adversarial`).
    """

    class Settings(BaseSettings):
        """`weight`: weight of the student's adversarial term. `mode`: the adversarial loss. `lr`: learning rate of
        the discriminator. `betas`: betas of its Adam. `pool`: how many of the student's earlier images it sees
        again; only without pairs; 0, as published for most students, for none. `pooled`: whether an image has one
        score, the mean over its patches. `discriminator`: its architecture. `source`: the file it starts from;
        "teacher" for the discriminator in the teacher's file or run, as published; "new" or None for a new one.
        """

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
        """Raises RecipeError for images whose side is too small for the discriminator, and for a pool with paired
        data.
        """
        check_size(settings.discriminator, side, "algorithm.adversary.discriminator")
        if paired and settings.pool:
            raise RecipeError(
                f"algorithm.adversary.pool {settings.pool}: an image pool needs data without pairs; omit it, or "
                "choose other data."
            )

    def __init__(self, settings: Settings, *, student: Generator, conditional: bool):
        """Raises RecipeError for a discriminator with other channels, and InputError for a file that holds none."""
        super().__init__()
        self.settings, self.conditional = settings, conditional and student.times == 1
        channels = student.out_channels + (student.in_channels if self.conditional else 0)
        given = load_discriminator(settings.source) if settings.source else None
        self.discriminator: Discriminator = discriminator_for(
            settings.discriminator, given, channels, student, shared=False, where="algorithm.adversary"
        )
        self.discriminator.train().requires_grad_(True)  # a loaded one is frozen and in evaluation mode
        self.pool = ImagePool(settings.pool)

    def judge(self, x: Tensor, image: Tensor) -> Tensor:
        """Raw scores in float32 of images of the inputs `x`: B x 1 x h x w, or B x 1 x 1 x 1 if `pooled`."""
        with self.autocast(image.device):
            scores = precise(self.discriminator(cat((x, image), dim=1) if self.conditional else image))
        return scores.mean((2, 3), keepdim=True) if self.settings.pooled else scores

    def terms(self, out: Output) -> dict[str, Tensor]:
        """The two halves of the discriminator's loss; no gradient flows to the student."""
        made = out.student.detach()
        fake = self.judge(out.input, made if self.conditional else self.pool.query(made, out.random))
        halves = discriminator_loss(self.settings.mode, self.judge(out.input, out.real), fake)
        return {f"adversary_{half}": value for half, value in halves.items()}

    def update(self) -> Update:
        optimizer = Optimizer(self.settings.lr, self.settings.betas)
        return Update("adversary", {"discriminator": self.discriminator}, self.terms, optimizer)

    def student_term(self, out: Output) -> dict[str, Tensor]:
        """The student's weighted loss against the discriminator in its current state, a scalar."""
        return {"gan": self.settings.weight * generator_loss(self.settings.mode, self.judge(out.input, out.student))}

    def artifacts(self) -> dict[str, nn.Module]:
        return {"adversary": self.discriminator}

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return {"adversary_pool": (self.pool, {})} if self.settings.pool else {}
