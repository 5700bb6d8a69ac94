"""Losses between feature maps, B x C x H x W: style, feature, channel distillation and kernel alignment."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gram(x: Tensor) -> Tensor:
    """Gram matrix F F^T / (C H W) of each image: B x C x C."""
    c, h, w = x.shape[1:]
    # Shape H W x C, so that a channels_last map is not copied.
    return _Products.apply(x.float().permute(0, 2, 3, 1).flatten(1, 2)) / (c * h * w)


class _Products(torch.autograd.Function):
    """F^T F of B x N x C: B x C x C. Its backward is one product, F (G + G^T), where autograd's has two and a sum."""

    @staticmethod
    def forward(ctx, f: Tensor) -> Tensor:
        ctx.save_for_backward(f)
        return f.mT @ f

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        (f,) = ctx.saved_tensors
        return f @ (g + g.mT)


def style(teachers: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """OMGD's style loss: mean absolute difference of the Gram matrices, summed over the layers and the teachers.
    `teachers` holds, for each layer, the maps of n teachers' images one after another, n B x C x H x W; `student`
    holds B x C x H x W. Returns a scalar.
    """
    return sum(_distance(gram(t.detach()), gram(s)) for t, s in zip(teachers, student, strict=True))


def feature(teachers: Tensor, student: Tensor) -> Tensor:
    """OMGD's feature loss, on relu2_2: mean absolute difference of one layer's maps, summed over the n teachers. A
    scalar.
    """
    return _distance(teachers.detach().float(), student.float())


def _distance(teachers: Tensor, student: Tensor) -> Tensor:
    """The mean absolute difference to each teacher's part of n B x ..., summed."""
    count = len(teachers) // len(student)
    return count * F.l1_loss(student.expand(count, *student.shape), teachers.unflatten(0, (count, len(student))))


def channel_distillation(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Eq. 13-14: squared distance of the channels' spatial means, averaged over batch and channels, summed over
    taps. The n-th maps of both have equal C. The teacher's side has no gradient and may already be `channel_means`.
    Returns a scalar.
    """
    return sum(F.mse_loss(channel_means(s), channel_means(t.detach())) for t, s in zip(teacher, student, strict=True))


def channel_means(x: Tensor) -> Tensor:
    """The mean over pixels of each channel, float32: B x C x 1 x 1."""
    return x.float().mean((2, 3), keepdim=True)


def kernel_alignment(teacher: Tensor, student: Tensor) -> Tensor:
    """KA of eq. 23 (CAT), a scalar in [0, 1]: the cosine between the two Gram matrices of a batch, K = X X^T with X
    the B x (C H W) maps, not centred. Channels and sizes may differ; the teacher has no gradient. For a single image
    KA is always 1, so B must be at least 2.
    """
    t, s = teacher.detach().float().flatten(1), student.float().flatten(1)
    kernel_t, kernel_s = t @ t.T, s @ s.T
    return (kernel_t * kernel_s).sum() / (kernel_t.norm() * kernel_s.norm())
