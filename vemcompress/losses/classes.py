"""Losses between scores of classes, B x K x H x W: what a pixel is, and how sure one is of it."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(truth: Tensor, scores: Tensor) -> Tensor:
    """Mean over pixels of -log of the share that the softmax of `scores` gives to the right class.

    `truth`: one-hot, above 0 at the right class alone; pixels of no class count as 0, so that the mean is over all
    pixels, whatever part of a batch it is taken of. Returns a scalar.
    """
    labelled = truth.detach().amax(1) > 0
    losses = F.cross_entropy(scores.float(), truth.detach().argmax(1), reduction="none")
    return (losses * labelled).mean()


def soft_divergence(teachers: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)), the mean over pixels, summed over the n teachers: Hinton et al., 2015,
    at every pixel, as Liu et al., CVPR 2019, eq. 1, which has T = 1.

    `teachers`: the scores of n teachers one after another, n B x K x H x W, beside B of the student. Returns a scalar.
    """
    s = F.log_softmax(student.float() / temperature, 1)
    t = F.log_softmax(teachers.detach().float() / temperature, 1).unflatten(0, (-1, len(s)))
    pixels = s.numel() // s.shape[1]
    return temperature**2 * F.kl_div(s.expand_as(t), t, reduction="sum", log_target=True) / pixels
