"""VEM: an energy-based variational distribution q(t|s) (Kang et al., NeurIPS 2022, sections 3, 4.1 and 4.2)."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

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

MOST_CHAINS = 256


class VEM(Information):
    """One energy network. The samples of one Langevin run per step are used by the network's loss and by the student's.

    The energy's parameters change once per step, so W / sigma is computed once and kept during the Langevin steps, and
    u advances by one power iteration after each change. `power_iteration = "forward"` is the behaviour of the authors'
    code: one iteration before every evaluation.
    """

    class Settings(BaseSettings):
        """The names in parentheses are the paper's symbols. `weight`: weight of the mutual information (lambda_MI).
        `channels`: width of the energy network (C); None is 8 for ResNets, else 32. `steps`: Langevin steps (K).
        `step_size`: step size of Langevin dynamics. `noise`: standard deviation of the noise in Langevin dynamics.
        `l2`: weight of the energies' squares. `lr`: learning rate of the energy network's Adam. `betas`: betas of the
        energy network's Adam. `power_iteration`: when the spectral norms are updated, once a "step" or before every
        "forward".

        `start`: where Langevin dynamics start (q_0, section 4.1.3). "student" is VEM's own start and the only one in
        the published code. "teacher" is contrastive divergence: it starts from the teacher's image, also with paired
        data, where t itself is the ground truth, because the paper speaks of "the data distributions of teacher
        networks". "noise" is short-run MCMC. "buffer" is persistent contrastive divergence, with one chain per image.
        `buffer`: how many images have a chain, the first ones of the list; None for all, but at most 256. Each chain
        stores its image in float32, in memory and in every checkpoint: 256 images of 256 px take 200 MB.
        """

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
        buffer: int | None = Field(None, ge=1, le=2**16)
        power_iteration: Literal["step", "forward"] = "step"

    def __init__(self, settings: Settings, *, image_channels: int, height: int, width: int):
        super().__init__()
        self.settings = settings
        self.splits = settings.power_iteration == "step"
        config = EnergyConfig.for_size(settings.channels or 32, height, width, image_channels)
        self.energy = EnergyModel(config)
        self.chains = None
        if settings.start == "buffer":
            self.chains = Chains(settings.buffer or MOST_CHAINS, (image_channels, height, width))

    file = "energy"

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *others) -> None:
        """Discards the buffer of an earlier release, whose chains belonged to no image."""
        if self.chains is not None and state_dict.pop(f"{prefix}memory", None) is not None:
            fresh = self.chains.named_buffers(prefix=f"{prefix}chains")
            state_dict.update({name: torch.zeros_like(value) for name, value in fresh})
        super()._load_from_state_dict(state_dict, prefix, *others)

    @staticmethod
    def resolve(settings: Settings, facts: Any) -> Settings:
        config, buffer = facts.teacher.config, settings.buffer
        if settings.start == "buffer" and facts.teacher.takes.kind == "latent":
            raise RecipeError(
                "information.start = 'buffer' keeps a chain for each training image, but latent vectors are new at "
                "each step; set it to student, teacher or noise."
            )
        published = 8 if config is None or isinstance(config, ResNetConfig) else 32
        if settings.start == "buffer" and buffer is None:
            buffer = min(facts.images, MOST_CHAINS)
        return settings.model_copy(update={"channels": settings.channels or published, "buffer": buffer})

    @property
    def metadata(self) -> dict[str, str]:
        return {"family": "energy", "config": self.energy.config.model_dump_json()}

    def _evaluator(self, s: Tensor, frozen: bool):
        """E(., s), with the parameters as constants if `frozen`."""
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

    def start(self, out: Output) -> Tensor:
        """The start t_0 of Langevin dynamics (section 4.1.3)."""
        like = out.student
        match self.settings.start:
            case "student":
                return like.detach()
            case "teacher":
                return out.teacher.detach()
            case "noise":
                shape = (distributed.shares() * len(like), *like.shape[1:])
                return distributed.mine(torch.rand(shape, generator=out.random, device=like.device) * 2 - 1)
        return self.chains.of(out.index, out.teacher.detach().float())

    def sample(self, out: Output) -> Tensor:
        """Samples t~ by Langevin dynamics, given the student's images (eq. 7)."""
        settings = self.settings
        out.start = self.start(out)
        samples = langevin(
            self._evaluator(out.student.detach().float(), frozen=True),
            out.start,
            steps=settings.steps,
            step_size=settings.step_size,
            noise=settings.noise,
            random=out.random,
        )
        if self.chains is not None:
            self.chains.keep(out.index, samples)
        return samples

    def energy_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 5-6: the terms of the energy network's loss. Also draws the samples of this step."""
        with self.timer.part("langevin"):
            out.samples = self.sample(out)
        positive, negative = self._both(out.student.detach().float(), out.target.float(), out.samples, frozen=False)
        out.energies = positive.detach(), negative.detach()
        return {
            "energy": contrast(positive, negative),
            "energy_magnitude": self.settings.l2 * magnitude(positive, negative),
        }

    def monitor(self, out: Output) -> dict[str, Tensor]:
        """Values for the log: mean E(t, s) - E(t~, s), mean |E| of both, and mean |t~ - t_0|. The energies are those
        before theta is updated in this step.
        """
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
            apart=True,
        )

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 8-10: -lambda_MI I(T; S), after theta was updated in this step. The gradient goes through s alone."""
        with self.timer.part("information"):
            s = self.timed(out.student)
            positive, negative = self._both(s, out.target.float(), out.samples, frozen=True)
            return {"information": self.settings.weight * contrast(positive, negative)}


class Chains(nn.Module):
    """The chains of persistent contrastive divergence: the last sample of each image, where its next run starts.

    A chain samples q(t|s), so it belongs to one image: "PCD updates all samples in the memory buffer" (section 4.1.3).
    It starts at the teacher's image: "the data distributions of teacher networks, [...] dynamic in Persistent
    Contrastive Divergence". The published code has no buffer. Earlier releases of vemcompress continued the chain of
    any image.

    An image is identified by its index. The paper does not discuss augmentation. With it, each visit shows another
    crop, half of them mirrored, and the chain continues from the same photo shifted by up to a tenth. With
    `data.flip=false` and `data.load_size` equal to `data.size` an image always looks the same, so only the student
    changes between visits.

    Images from number `count` on have no chain; their runs start again each time. With several ranks, each holds all
    chains. If a batch contains an image twice, both start from its one chain, and the later one's sample is kept.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("samples", torch.zeros(count + 1, *shape))  # the last row is for images without a chain
        self.register_buffer("begun", torch.zeros(count + 1, dtype=torch.bool))

    def of(self, index: Tensor, new: Tensor) -> Tensor:
        """The samples of images `index`, B, or `new`, B x C x H x W, for chains that have not begun."""
        if index is None:
            raise ValueError("information.start = buffer needs the indices of a batch's images; set Batch.index")
        slots = self._slots(index)
        return torch.where(self.begun[slots].view(-1, 1, 1, 1), self.samples[slots], new)

    def keep(self, index: Tensor, samples: Tensor) -> None:
        """Store the newest samples of the chains."""
        index, samples = distributed.gather(index), distributed.gather(samples)
        slots, row = self._slots(index), torch.arange(len(index), device=index.device)
        latest = ((slots[:, None] == slots) * row).amax(1)  # equal slots get equal values, so the order is irrelevant
        kept = slots < len(self.begun) - 1
        self.samples[slots] = samples[latest] * kept.view(-1, 1, 1, 1)
        self.begun[slots] = kept

    def _slots(self, index: Tensor) -> Tensor:
        return index.clamp(max=len(self.begun) - 1)


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
    influence one another. After the last step they are clamped to [-1, 1]. The energy's parameters must be frozen.
    """
    t = start.detach().float()
    kicks = None
    if noise:  # drawn for the global batch, of which this rank uses its part
        shape = (steps, distributed.shares() * len(t), *t.shape[1:])
        kicks = distributed.mine(torch.randn(shape, generator=random, device=t.device) * noise, dim=1)
    for k in range(steps):
        t.requires_grad_()
        (gradient,) = torch.autograd.grad(energy(t).sum(), t)
        t = t.detach() - step_size * gradient
        if kicks is not None:
            t += kicks[k]
    return t.clamp(-1, 1)
