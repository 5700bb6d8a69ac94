"""GCC's losses between features of teacher and student (Li et al., NeurIPS 2021; VEM paper, eq. 17-18)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.losses.adversarial import Mode, generator_loss, on_fake
from vemcompress.losses.features import gram
from vemcompress.system import distributed

LEAST = 1e-12  # least mean square: the square root has no finite gradient at 0


def content(teacher: Sequence[Tensor], student: Sequence[Tensor], *, root: bool) -> Tensor:
    """The mean squared difference of each pair of maps, B x C x H x W, or its square root (`root`), summed over the
    pairs. The teacher's maps have no gradient. Eq. 18 writes squared sums; all published code uses means. Returns a
    scalar.
    """
    return _summed([(t.detach(), s) for t, s in zip(teacher, student, strict=True)], root)


def style(teacher: Sequence[Tensor], student: Sequence[Tensor], *, root: bool) -> Tensor:
    """Like `content`, for the maps' Gram matrices F F^T / (C H W)."""
    return _summed([(gram(t.detach()), gram(s)) for t, s in zip(teacher, student, strict=True)], root)


def _summed(pairs: Sequence[tuple[Tensor, Tensor]], root: bool) -> Tensor:
    squares = [F.mse_loss(s.float(), t.float()) for t, s in pairs]
    if not root:
        return sum(squares)
    return sum(distributed.of_all(square).clamp(min=LEAST).sqrt() for square in squares)


def difference(mode: Mode, fake: Tensor) -> Tensor:
    """|L_G - L_D| of a discriminator's raw scores of fakes, a scalar: the imbalance between the generator's and the
    discriminator's loss. Global coordination moves the student's value towards the teacher's.
    """
    return torch.abs(distributed.of_all(generator_loss(mode, fake) - on_fake(mode, fake)))
