"""Reference step of a student's own discriminator, as in the original code."""

import torch
from torch import Tensor

from vemcompress.gans.adversary import Adversary
from vemcompress.reference.gans import adam, for_generator, judged


class PlainAdversary:
    """The discriminator learns from detached images; the student learns from its scores while it is frozen."""

    def __init__(self, adversary: Adversary):
        self.own, self.mode = adversary, adversary.settings.mode
        self.optimizer = adam(adversary.settings, adversary.discriminator)

    def learn(self, a: Tensor, real: Tensor, fake: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Compute the gradients of its loss; the optimiser does not step yet."""
        fake = fake.detach()
        shown = fake if self.own.conditional else self.own.pool.query(fake, random)
        self.optimizer.zero_grad()
        half_fake = 0.5 * judged(False, self.mode, self._scores(a, shown))
        half_real = 0.5 * judged(True, self.mode, self._scores(a, real))
        (half_fake + half_real).backward()
        return {"adversary_fake": half_fake, "adversary_real": half_real}

    def of_student(self, a: Tensor, fake: Tensor) -> Tensor:
        self.own.discriminator.requires_grad_(False)
        term = self.own.settings.weight * for_generator(self.mode, self._scores(a, fake))
        self.own.discriminator.requires_grad_(True)
        return term

    def _scores(self, a: Tensor, image: Tensor) -> Tensor:
        return self.own.discriminator(torch.cat((a, image), 1) if self.own.conditional else image)
