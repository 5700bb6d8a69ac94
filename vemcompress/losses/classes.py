"""Losses on class scores, B x K x H x W: cross entropy to the ground truth, and KL divergence from a teacher."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(truth: Tensor, scores: Tensor) -> Tensor:
    """Mean over pixels of -log of the softmax probability that `scores` give to the right class.

    `truth`: one-hot, above 0 only at the right class. Pixels without a class contribute 0. The mean is over all pixels,
    so it does not depend on how a batch is divided. Returns a scalar.
    """
    labelled = truth.detach().amax(1) > 0
    losses = F.cross_entropy(scores.float(), truth.detach().argmax(1), reduction="none")
    return (losses * labelled).mean()


def soft_divergence(teachers: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(softmax(t / T) || softmax(s / T)), averaged over pixels and summed over the n teachers: Hinton et al.,
    2015, at every pixel, as Liu et al., CVPR 2019, eq. 1, with T = 1.

    `teachers`: the scores of n teachers one after another, n B x K x H x W; `student`: B x K x H x W. Returns a scalar.
    """
    s = F.log_softmax(student.float() / temperature, 1)
    t = F.log_softmax(teachers.detach().float() / temperature, 1).unflatten(0, (-1, len(s)))
    pixels = s.numel() // s.shape[1]
    return temperature**2 * F.kl_div(s.expand_as(t), t, reduction="sum", log_target=True) / pixels
