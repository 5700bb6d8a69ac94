"""DMAD's distances between attention maps and between features (Li et al., 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.system import distributed

LEAST = 1e-12  # least sum of squares: the square root has no finite gradient at 0


def attention(x: Tensor) -> Tensor:
    """Attention map of a feature map B x C x H x W: the mean of its squares over the channels, B x 1 x H x W,
    float32.
    """
    return x.float().square().mean(1, keepdim=True)


def co_attention(generator: Tensor, discriminator: Tensor, student: Tensor) -> Tensor:
    """The mean squared difference of two attention maps, each normalised to length 1 per image: the student's, and the
    mean of the teacher's generator's and discriminator's. Returns a scalar.

    `generator` and `student` are feature maps B x C x H x W of equal H and W. `discriminator` is an `attention`; if it
    is larger, it is averaged over areas, without gradient. The generator's side has no gradient.
    """
    mine, theirs = attention(student), attention(generator.detach())
    if discriminator.shape[2:] != mine.shape[2:]:
        discriminator = F.adaptive_avg_pool2d(discriminator.detach(), mine.shape[2:])
    target = 0.5 * theirs + 0.5 * discriminator
    return F.mse_loss(F.normalize(mine.flatten(1)), F.normalize(target.flatten(1)))


def whole_norm(difference: Tensor) -> Tensor:
    """The Euclidean norm of a tensor over the global batch, a scalar."""
    squares = distributed.of_all(difference.float().square().sum()) * distributed.ranks()
    return torch.sqrt(squares.clamp(min=LEAST))
