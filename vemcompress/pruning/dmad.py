"""DMAD's differentiable masks: a GAN is trained from scratch with a mask on each channel of its generators, and each
mask becomes 0 or 1 (Li et al., 2020).

A mask m(w) is 0 below -b, 1 above b, and consists of two parabolas between. The bound b falls from 1 to 0 in three
quarters of the run, and a penalty pushes undecided masks down. Once b is 0, or the masked network is small enough,
channels whose mask is 0 also have zero weights, so that the prune method `zeros` removes them.

This follows the published code, SJLeo/DMAD, whose options name a threshold that does not exist. Differences: its
penalty of a trunk is also 0 at exactly b = 0.5; a block without any channel left disappears, where here one channel
stays; U-Nets have dropout.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Generator
from vemcompress.networks.groups import makers
from vemcompress.networks.slots import Group, Slot
from vemcompress.system.settings import BaseSettings, Convention, Macs, Text, Weight

LEAST = 0.005  # the least width of the parabolas


class MaskSettings(BaseSettings):
    """`weight`: weight of the penalty (mask_weight_decay). `bounded`: channel groups whose penalty is the distance to
    the bound; for the others it is w + b. `factor`: factor of that distance (upconv_coeff). `trunk`: factor of the
    penalty on groups that several layers write (lambda_update_coeff). It is larger the fewer layers are undecided, and
    channels that one layer has decided to keep are not pushed. 0 treats each layer by itself. `frozen`: a layer is
    decided as a whole if more than this share of it is below the bound (frozen_threshold).

    `target_macs`: the masks stop changing once the generator has at most so many MACs at data.size. `back_macs`: the
    budget of CycleGAN's second generator; None for the same. `count_as`: the convention by which MACs are counted.
    `updates`: how often the bound is lowered. `period`: the share of the run's steps in which the bound falls.
    `deviation`: standard deviation of the initial w. Adam moves w by at most its learning rate per step, so a run of a
    few hundred steps needs a smaller deviation to decide anything.
    """

    weight: Weight = 1e-3
    bounded: tuple[Text, ...] = Field((), strict=False, max_length=256)
    factor: Weight = 100.0
    trunk: Weight = 1.0
    frozen: float | None = Field(None, gt=0, lt=1)
    target_macs: Macs | None = None
    back_macs: Macs | None = None
    count_as: Convention = "paper"
    updates: int = Field(150, ge=1, le=100_000)
    period: float = Field(0.75, gt=0, le=1)
    deviation: float = Field(0.2, gt=0, le=100)


def mask(w: Tensor, bound: Tensor) -> Tensor:
    """m(w) of any shape, in [0, 1]. With a bound of 0 it is 1 where w > 0, else 0. Its gradient is 0 outside the
    bound.
    """
    t = w / bound.clamp(min=LEAST)
    curve = torch.where(t < 0, 0.5 * (1 + t).square(), 1 - 0.5 * (1 - t).square())
    inside = torch.where(w.abs() <= bound, curve, (w > bound).to(w))
    return torch.where(bound > 0, inside, (w > 0).to(w))


class GeneratorMasks(nn.Module):
    """The masks of one generator: a number w for each channel of each layer that produces a channel group.

    Masks are applied after the layer's norm. If a network's first group has no norm, its mask is applied after the
    convolution; other groups without norms are not masked. `bound` is b. `decided`: whether this generator is small
    enough or b is 0. Both are saved in checkpoints, as w is.
    """

    _known: bool | None = None  # copy of `decided` on the host
    _gone: list[tuple[Tensor, Tensor]] | None = None  # once decided: slices of weights, and their masks

    bound: Tensor
    decided: Tensor

    def __init__(self, generator: Generator, settings: MaskSettings):
        super().__init__()
        self._generator = [generator]  # in a list, so that it is not a submodule
        self.settings, self.layers = settings, nn.ParameterDict()
        self.where: dict[str, tuple[Group, Slot, Slot | None]] = {}
        self._groups: dict[str, list[str]] = {}
        for i, group in enumerate(generator.groups()):
            for layer, norm in makers(generator, group):
                if norm is None and i > 0:
                    continue
                name = f"{group.name}_{layer.module}".replace(".", "_")
                self.where[name] = group, layer, norm
                self._groups.setdefault(group.name, []).append(name)
                self.layers[name] = nn.Parameter(torch.randn(group.size) * settings.deviation)
                self.register_buffer(f"factor_{name}", torch.ones(group.size))
                place = generator.get_submodule((norm or layer).module)
                place.register_forward_hook(lambda _, args, out, name=name: self._masked(name, out))
        self.register_buffer("bound", torch.ones(()))
        self.register_buffer("decided", torch.zeros((), dtype=torch.bool))

    @property
    def generator(self) -> Generator:
        return self._generator[0]

    def _masked(self, name: str, out: Tensor) -> Tensor:
        group, layer, norm = self.where[name]
        slot, found = norm or layer, mask(self.layers[name], self.bound)
        if slot.start or slot.each > 1 or len(found) < out.shape[1]:
            whole = found.new_ones(out.shape[1])
            whole[slot.start : slot.start + group.size * slot.each] = found.repeat_interleave(slot.each)
            found = whole
        return out * found.view(1, -1, 1, 1).to(out.dtype)

    # -- the penalty ---------------------------------------------------------------------------------------------

    def penalty(self) -> Tensor:
        """The unweighted penalty, a scalar. It is 0 once all masks are decided."""
        total = self.bound.new_zeros(())
        for group, names in self._groups.items():
            for name in names:
                w = self.layers[name].float()
                open_ = (w.abs() < self.bound) & ~self.decided
                if group in self.settings.bounded:
                    distance = torch.where(open_, self.bound - w.abs(), 0.0).square().sum()
                    total = total + self.settings.factor * distance.clamp(min=torch.finfo(w.dtype).tiny).sqrt()
                else:
                    pushed = getattr(self, f"factor_{name}") * (w + self.bound)
                    total = total + torch.where(open_, pushed, 0.0).sum()
        return total

    # -- lowering the bound ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def lower(self, bound: float, macs: int | None, target: int | None) -> None:
        """Lower the bound and recompute the factors of the penalty. All masks are decided if the network is small
        enough, or if the bound is 0.
        """
        if self.is_decided:
            return
        bound = min(bound, self.bound.item())  # a run continued with more steps has a new schedule
        self._refresh()
        if macs is not None and target is not None and macs <= target:
            for name in self.layers:
                self._decide(name)
            bound = 0.0
        for name, w in self.layers.items():
            self._absorb(name, (w > bound) & (w <= self.bound))
        self.bound.fill_(bound)
        for name, w in self.layers.items():
            gone = (w < -self.bound).float().mean().item()
            if bound == 0 or (self.settings.frozen is not None and gone > self.settings.frozen):
                self._decide(name)
        self.decided.fill_(bound == 0)
        self._known = self._gone = None

    @property
    def is_decided(self) -> bool:
        """Read from the device once after each change, not at every step."""
        if self._known is None:
            self._known = bool(self.decided)
        return self._known

    def _load_from_state_dict(self, *args) -> None:
        super()._load_from_state_dict(*args)
        self._known = self._gone = None

    def kept(self) -> dict[str, int]:
        """How many channels of each group would stay now: those with w > -b in any layer."""
        found = {}
        for group, names in self._groups.items():
            above = torch.stack([self.layers[name].detach() > -self.bound for name in names])
            found[group] = max(1, int(above.any(0).sum()))
        return found

    @torch.no_grad()
    def settle(self) -> None:
        """Once all masks are decided: set the weights of channels whose mask is 0 to 0."""
        if not self.is_decided:
            return
        if self._gone is None:
            masks = {name: mask(w, self.bound) for name, w in self.layers.items()}
            self._gone = [pair for name, values in masks.items() for pair in self._parts(name, values)]
        torch._foreach_mul_([part for part, _ in self._gone], [values for _, values in self._gone])

    def _refresh(self) -> None:
        """Recompute the factors of the penalty on the channels of trunks."""
        for names in self._groups.values():
            if len(names) < 2 or not self.settings.trunk:
                continue
            w = torch.stack([self.layers[name].detach() for name in names])
            undecided = (w.abs() < self.bound).sum(0)
            done = (w > self.bound).any(0) | (w < -self.bound).all(0)
            push = torch.where(done, 0.0, len(names) / undecided.clamp(min=1) * self.settings.trunk)
            for name in names:
                getattr(self, f"factor_{name}").copy_(push)

    def _decide(self, name: str) -> None:
        """Keep every channel of a layer above -b, with its mask multiplied into its weights."""
        w = self.layers[name]
        above = w > -self.bound
        self._absorb(name, above & (w <= self.bound))
        w.copy_(torch.where(above, 1.0, -1.0))

    def _absorb(self, name: str, chosen: Tensor) -> None:
        """Multiply the weights of the chosen channels by their masks."""
        for part, values in self._parts(name, torch.where(chosen, mask(self.layers[name], self.bound), 1.0)):
            part.mul_(values)

    def _parts(self, name: str, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Slices of the tensors that scale a layer's channels: the norm's scale and shift, or the layer's own
        weights if it has no norm. Each slice comes with the channels' values in a shape that broadcasts to it.
        """
        group, layer, norm = self.where[name]
        tensors = dict(self.generator.named_parameters())
        slot = norm if norm is not None and norm.tensor in tensors else layer
        values, found = values.repeat_interleave(slot.each), []
        for leaf in ("weight", "bias"):
            tensor = tensors.get(f"{slot.module}.{leaf}")
            if tensor is not None:
                axis = slot.axis if leaf == "weight" else 0
                part = tensor.detach().narrow(axis, slot.start, group.size * slot.each)
                found.append((part, values.view([-1 if i == axis else 1 for i in range(part.dim())])))
        return found
