"""VEM: an energy-based variational distribution q(t|s) (Kang et al., NeurIPS 2022, sections 3, 4.1 and 4.2)."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vemcompress.errors import RecipeError
from vemcompress.information.base import Information
from vemcompress.information.divergence import Divergence
from vemcompress.losses.information import contrast, magnitude
from vemcompress.networks.energy import MAX_CHANNELS, EnergyConfig, EnergyModel
from vemcompress.networks.generators.resnet import ResNetConfig
from vemcompress.system import distributed
from vemcompress.system.settings import BaseSettings, Betas, Positive, Weight
from vemcompress.training.schedules import constant
from vemcompress.training.update import Optimizer, Output, Update


class VEM(Information):
    """One energy network, one run of Langevin dynamics per step, used by the network's loss and by the student's.

    The energy's parameters move once per step, so W / sigma is computed once and held over the Langevin steps, and u
    moves on by one power iteration after each move. `power_iteration = "forward"` is the authors' own habit: one
    iteration before every evaluation.
    """

    class Settings(BaseSettings):
        """The paper's symbols: `weight` lambda_MI, `channels` C (8 for ResNets, 32 else), `steps` K, `start` q_0."""

        name: Literal["vem"] = "vem"
        weight: Weight = 0.1
        channels: int | None = Field(None, ge=1, le=MAX_CHANNELS)
        steps: int = Field(10, ge=1, le=10_000)
        step_size: Positive = 100.0
        noise: Weight = 0.005
        l2: Weight = 0.05
        lr: Positive = 1e-4
        betas: Betas = Field((0.0, 0.999), strict=False)
        start: Literal["student", "teacher", "buffer", "noise"] = "student"
        buffer: int = Field(64, ge=1, le=4096)
        power_iteration: Literal["step", "forward"] = "step"

    def __init__(self, settings: Settings, *, image_channels: int, height: int, width: int):
        super().__init__()
        self.settings = settings
        config = EnergyConfig.for_size(settings.channels or 32, height, width, image_channels)
        self.energy = EnergyModel(config)
        if settings.start == "buffer":
            self.register_buffer("memory", torch.rand(settings.buffer, image_channels, height, width) * 2 - 1)

    file = "energy"

    @staticmethod
    def resolve(settings: Settings, facts: Any) -> Settings:
        if settings.start == "buffer" and settings.buffer < facts.batch:
            raise RecipeError(
                f"information.buffer {settings.buffer}: is smaller than the batch of {facts.batch}; make it larger."
            )
        config = facts.teacher.config
        published = 8 if config is None or isinstance(config, ResNetConfig) else 32
        return settings.model_copy(update={"channels": settings.channels or published})

    @property
    def metadata(self) -> dict[str, str]:
        return {"family": "energy", "config": self.energy.config.model_dump_json()}

    def _evaluator(self, s: Tensor, frozen: bool):
        """E(., s), of constants where `frozen`."""
        if self.settings.power_iteration == "step":
            return self.energy.given(s, frozen)

        def energy(t: Tensor) -> Tensor:
            self.energy.power_iteration()
            return self.energy.given(s, frozen)(t)

        return energy

    def _both(self, s: Tensor, target: Tensor, samples: Tensor, frozen: bool) -> tuple[Tensor, Tensor]:
        """E(t, s) and E(t~, s)."""
        energy = self._evaluator(s, frozen)
        if self.settings.power_iteration == "forward":
            return energy(target), energy(samples)
        return energy(torch.cat((target, samples))).chunk(2)

    def start(self, out: Output) -> tuple[Tensor, Tensor | None]:
        """t_0 of section 4.1.3, and the memory's slots that all ranks' were taken from."""
        like, batch = out.student, distributed.ranks() * len(out.student)
        match self.settings.start:
            case "student":
                return like.detach(), None
            case "teacher":
                return out.teacher.detach(), None
            case "noise":
                shape = (batch, *like.shape[1:])
                return distributed.mine(torch.rand(shape, generator=out.random, device=like.device) * 2 - 1), None
        slots = torch.randperm(len(self.memory), generator=out.random, device=like.device)[:batch]
        return self.memory[distributed.mine(slots)], slots

    def sample(self, out: Output) -> Tensor:
        """t~ by Langevin dynamics, given the student's images (eq. 7)."""
        settings = self.settings
        out.start, slots = self.start(out)
        samples = langevin(
            self._evaluator(out.student.detach().float(), frozen=True),
            out.start,
            steps=settings.steps,
            step_size=settings.step_size,
            noise=settings.noise,
            random=out.random,
        )
        if slots is not None:
            self.memory[slots] = distributed.gather(samples)
        return samples

    def energy_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 5-6: the terms of the energy's own loss. Draws the samples of this step."""
        with self.timer.part("langevin"):
            out.samples = self.sample(out)
        positive, negative = self._both(out.student.detach().float(), out.target.float(), out.samples, frozen=False)
        out.energies = positive.detach(), negative.detach()
        return {
            "energy": contrast(positive, negative),
            "energy_magnitude": self.settings.l2 * magnitude(positive, negative),
        }

    def monitor(self, out: Output) -> dict[str, Tensor]:
        """For the log: mean E(t, s) - E(t~, s), mean |E| of both, and mean |t~ - t_0|, from what is computed already.
        The energies are those before theta moves in this step."""
        positive, negative = out.energies
        return {
            "energy_gap": contrast(positive, negative),
            "energy_scale": torch.cat((positive, negative)).abs().mean(),
            "langevin_move": (out.samples - out.start.float()).abs().mean(),
        }

    def update(self) -> Update:
        optimizer = Optimizer(self.settings.lr, self.settings.betas, schedule=constant)
        after = self.energy.power_iteration if self.settings.power_iteration == "step" else None
        return Update(
            "energy",
            {"energy": self.energy},
            self.energy_terms,
            optimizer,
            after=after,
            monitor=self.monitor,
            watch=Divergence(self.settings.l2),
        )

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 8-10: -lambda_MI I(T; S), with theta moved already in this step; the gradient goes through s alone."""
        with self.timer.part("information"):
            s = self.timed(out.student)
            positive, negative = self._both(s, out.target.float(), out.samples, frozen=True)
            return {"information": self.settings.weight * contrast(positive, negative)}


def langevin(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    noise: float,
    random: torch.Generator | None = None,
) -> Tensor:
    """K-step samples of q(t|s) by Langevin dynamics (eq. 7) from `start` (B x C x H x W): t <- t - step_size dE/dt +
    noise N(0, I).

    `step_size` multiplies the gradient itself, as in the authors' code: eq. 7's lambda / 2 with a noise variance of
    lambda would contradict the paper's own 100 and 0.005. The energy is summed over the batch, so samples do not
    influence one another; after the last step they are clamped to [-1, 1]. The energy's parameters must be frozen.
    """
    t = start.detach().float()
    kicks = None
    if noise:  # drawn for the global batch, of which this rank has a part
        shape = (steps, distributed.ranks() * len(t), *t.shape[1:])
        kicks = distributed.mine(torch.randn(shape, generator=random, device=t.device) * noise, dim=1)
    for k in range(steps):
        t.requires_grad_()
        (gradient,) = torch.autograd.grad(energy(t).sum(), t)
        t = t.detach() - step_size * gradient
        if kicks is not None:
            t += kicks[k]
    return t.clamp(-1, 1)
