"""Langevin dynamics in image space (eq. 7)."""

from collections.abc import Callable

import torch
from torch import Tensor

from vemcompress.system import distributed


def langevin(
    energy: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    noise: float,
    random: torch.Generator | None = None,
) -> Tensor:
    """K-step samples of q(t|s) from `start` (B x C x H x W): t <- t - step_size dE/dt + noise N(0, I).

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
