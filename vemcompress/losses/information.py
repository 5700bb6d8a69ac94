"""Bounds of the mutual information I(T; S), on float32 tensors: VEM's, on energies B x 1, and those of VID and CRD."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """VID: -log q(t|s) of a factorised Gaussian without its constant, mean of ((mu(s) - t)^2 / var_c + log var_c) / 2.

    `target` and `mean` are B x C x H x W, `variance` has C positive values. Returns a scalar. Ahn et al., CVPR 2019.
    """
    variance = variance.view(-1, 1, 1)
    return (0.5 * ((mean - target).square() / variance + variance.log())).mean()


def info_nce(anchors: Tensor, positives: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """CRD: InfoNCE, the mean of -log of the softmax share of each anchor's own positive among all positives and the
    memory.

    `anchors` and `positives` are B x D and `memory` is M x D, of unit length. Rows of zeros are empty places of the
    memory and are ignored. The bound is I(T; S) >= log(B + M) minus this scalar. van den Oord et al., 2018; Tian et
    al., ICLR 2020.
    """
    candidates = torch.cat((positives, memory))
    likeness = (anchors @ candidates.T / temperature).masked_fill(~candidates.any(1), -torch.inf)
    return F.cross_entropy(likeness, torch.arange(len(anchors), device=anchors.device))


def contrast(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean E(t, s) - mean E(t~, s), a scalar. Its gradient in theta is eq. 6, which tightens the bound; its gradient
    in the student through s is eq. 9, which raises the bound.
    """
    return positive.mean() - negative.mean()


def magnitude(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of E(t, s)^2 + E(t~, s)^2, a scalar: keeps the unbounded energies finite (A.3)."""
    return (positive.square() + negative.square()).mean()
