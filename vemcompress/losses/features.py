"""Losses between feature maps, B x C x H x W."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def gram(x: Tensor) -> Tensor:
    """F F^T / (C H W) of each image: B x C x C."""
    c, h, w = x.shape[1:]
    f = x.float().flatten(2)
    return f @ f.transpose(1, 2) / (c * h * w)


def style(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the Gram matrices, summed over the layers (OMGD's style loss)."""
    return sum(F.l1_loss(gram(s), gram(t.detach())) for t, s in zip(teacher, student, strict=True))


def feature(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean absolute difference of one layer's maps (OMGD's feature loss, on relu2_2)."""
    return F.l1_loss(student.float(), teacher.detach().float())


def channel_distillation(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Eq. 13-14: squared distance of the channels' spatial means, averaged over batch and channels, summed over taps.

    The n-th maps of both have equal C; the teacher's side is a constant, and may be `channel_means` already, which are
    their own means. Returns a scalar.
    """
    return sum(F.mse_loss(channel_means(s), channel_means(t.detach())) for t, s in zip(teacher, student, strict=True))


def channel_means(x: Tensor) -> Tensor:
    """The mean over pixels of each channel, float32: B x C x 1 x 1."""
    return x.float().mean((2, 3), keepdim=True)
