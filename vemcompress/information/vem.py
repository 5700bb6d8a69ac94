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
    """One energy network, one run of Langevin dynamics per step, used by the network's loss and by the student's.

    The energy's parameters move once per step, so W / sigma is computed once and held over the Langevin steps, and u
    moves on by one power iteration after each move. `power_iteration = "forward"` is the authors' own habit: one
    iteration before every evaluation.
    """

    class Settings(BaseSettings):
        """The paper's symbols: `weight` lambda_MI, `channels` C (8 for ResNets, 32 else), `steps` K, `start` q_0.
        `step_size` and `noise` are those of a step of Langevin dynamics, `l2` weighs the energies' squares. `lr` and
        `betas` are those of the energy network's Adam. `power_iteration`: when its spectral norms follow its weights,
        once a "step", or before every "forward".

        `start` (section 4.1.3): "student", VEM's own and the only one of the published code; "teacher", contrastive
        divergence: the teacher's image, also where there are pairs and t itself is the ground truth, for the paper
        speaks of "the data distributions of teacher networks"; "noise", short-run MCMC; "buffer", persistent
        contrastive divergence, see `Chains`. `buffer`: how many images have a chain, the first ones of the list; None
        for all, but 256 at most. Each takes its pixels in float32, in memory and in every checkpoint: 256 images of
        256 px 200 MB.
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
        """The buffer of an earlier release, whose chains belonged to no image, is forgotten."""
        if self.chains is not None and state_dict.pop(f"{prefix}memory", None) is not None:
            fresh = self.chains.named_buffers(prefix=f"{prefix}chains")
            state_dict.update({name: torch.zeros_like(value) for name, value in fresh})
        super()._load_from_state_dict(state_dict, prefix, *others)

    @staticmethod
    def resolve(settings: Settings, facts: Any) -> Settings:
        config, buffer = facts.teacher.config, settings.buffer
        if settings.start == "buffer" and facts.teacher.takes.kind == "latent":
            raise RecipeError(
                "information.start = 'buffer' keeps a chain for each training image, and latent vectors are new at "
                "each sample; take student, teacher or noise."
            )
        published = 8 if config is None or isinstance(config, ResNetConfig) else 32
        if settings.start == "buffer" and buffer is None:
            buffer = min(facts.images, MOST_CHAINS)
        return settings.model_copy(update={"channels": settings.channels or published, "buffer": buffer})

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

    def start(self, out: Output) -> Tensor:
        """t_0 of section 4.1.3."""
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
        """t~ by Langevin dynamics, given the student's images (eq. 7)."""
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
            apart=True,
        )

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Eq. 8-10: -lambda_MI I(T; S), with theta moved already in this step; the gradient goes through s alone."""
        with self.timer.part("information"):
            s = self.timed(out.student)
            positive, negative = self._both(s, out.target.float(), out.samples, frozen=True)
            return {"information": self.settings.weight * contrast(positive, negative)}


class Chains(nn.Module):
    """The chains of persistent contrastive divergence: where the samples of each image ended, and go on from.

    A chain samples q(t|s), so that it belongs to its image: "PCD updates all samples in the memory buffer" (section
    4.1.3), of which there is one for each. It begins at the teacher's image, "the data distributions of teacher
    networks, [...] dynamic in Persistent Contrastive Divergence". (The published code has no buffer; earlier releases
    of this one continued the chain of any image.)

    It is known by the image's index. The paper does not speak of augmentation, by which each visit sees another crop,
    half of them mirrored: then a chain goes on from the same photo, shifted by up to a tenth. `data.flip=false` and
    `data.load_size` equal to `data.size` show an image always alike, so that only the student moves between visits.

    The images from number `count` on have none, and begin anew each time. Among several ranks every one holds all
    chains. In a batch that shows an image twice both go on from its one chain, and the later one's sample is kept.
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("samples", torch.zeros(count + 1, *shape))  # the last row takes what is not kept
        self.register_buffer("begun", torch.zeros(count + 1, dtype=torch.bool))

    def of(self, index: Tensor, new: Tensor) -> Tensor:
        """Where the chains of images `index`, B, are, and `new`, B x C x H x W, for those that have not begun."""
        if index is None:
            raise ValueError("information.start = buffer needs to know which images a batch shows; give it an index")
        slots = self._slots(index)
        return torch.where(self.begun[slots].view(-1, 1, 1, 1), self.samples[slots], new)

    def keep(self, index: Tensor, samples: Tensor) -> None:
        """These are where the chains are now."""
        index, samples = distributed.gather(index), distributed.gather(samples)
        slots, row = self._slots(index), torch.arange(len(index), device=index.device)
        latest = ((slots[:, None] == slots) * row).amax(1)  # equal rows write equal values, in whatever order
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
    influence one another; after the last step they are clamped to [-1, 1]. The energy's parameters must be frozen.
    """
    t = start.detach().float()
    kicks = None
    if noise:  # drawn for the global batch, of which this rank has a part
        shape = (steps, distributed.shares() * len(t), *t.shape[1:])
        kicks = distributed.mine(torch.randn(shape, generator=random, device=t.device) * noise, dim=1)
    for k in range(steps):
        t.requires_grad_()
        (gradient,) = torch.autograd.grad(energy(t).sum(), t)
        t = t.detach() - step_size * gradient
        if kicks is not None:
            t += kicks[k]
    return t.clamp(-1, 1)
