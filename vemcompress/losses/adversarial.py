"""Adversarial losses on raw scores of any shape, as in published image-to-image code; means over all scores.

`hinge` (Lim and Ye 2017), `lsgan` (Mao et al. 2017: squared distance to 1 or 0), `vanilla` (Goodfellow et al. 2014:
binary cross-entropy of logits), `wgangp` (Gulrajani et al. 2017: the critic's means without the gradient penalty).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["hinge", "lsgan", "vanilla", "wgangp"]


def discriminator_loss(mode: Mode, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """The two halves, `fake` and `real`, of 0.5 (L_fake + L_real), the loss of every image-to-image discriminator.
    Scalars.
    """
    return {"fake": 0.5 * on_fake(mode, fake), "real": 0.5 * on_real(mode, real)}


def generator_loss(mode: Mode, fake: Tensor) -> Tensor:
    """The generator's adversarial loss, a scalar: minus the mean score for hinge, else `on_real` of the scores."""
    return -precise(fake).mean() if mode == "hinge" else on_real(mode, fake)


def on_real(mode: Mode, scores: Tensor) -> Tensor:
    """The discriminator's loss on scores of real images, a scalar."""
    return _on(mode, precise(scores), 1.0)


def on_fake(mode: Mode, scores: Tensor) -> Tensor:
    """The discriminator's loss on scores of fake images, a scalar."""
    return _on(mode, precise(scores), 0.0)


def _on(mode: Mode, scores: Tensor, target: float) -> Tensor:
    signed = scores if target else -scores
    match mode:
        case "hinge":
            return F.relu(1 - signed).mean()
        case "lsgan":
            return F.mse_loss(scores, torch.full_like(scores, target))
        case "vanilla":
            return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))
        case "wgangp":
            return -signed.mean()
    raise ValueError(f"mode {mode!r}: must be hinge, lsgan, vanilla or wgangp")


def precise(x: Tensor) -> Tensor:
    """Convert bfloat16 and float16, which are too coarse for losses, to float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
