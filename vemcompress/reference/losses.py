"""The adversarial losses as the original code writes them (eq. 11)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def on_real(mode: str, scores: Tensor) -> Tensor:
    match mode:
        case "hinge":
            return F.relu(1 - scores).mean()
        case "lsgan":
            return F.mse_loss(scores, torch.ones_like(scores))
    return F.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))


def on_fake(mode: str, scores: Tensor) -> Tensor:
    match mode:
        case "hinge":
            return F.relu(1 + scores).mean()
        case "lsgan":
            return F.mse_loss(scores, torch.zeros_like(scores))
    return F.binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))


def for_generator(mode: str, scores: Tensor) -> Tensor:
    return -scores.mean() if mode == "hinge" else on_real(mode, scores)
