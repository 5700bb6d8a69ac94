"""StyleKD's relation loss: how images relate to images moved along latent directions (Xu et al., ECCV 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.losses.adversarial import precise

BLOCKS, EACH = 5, 5  # sizes, from 8 px on, that give directions; directions per size


@torch.no_grad()
def latent_directions(modulations: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Latent directions, N x style, of unit length: for each size those along which w changes the styles of its two
    convolutions most. `modulations` are the weights of these, channels x style each.

    As published, each channel's weights are scaled to unit length. The directions are the eigenvectors of W W^T, sorted
    here by falling eigenvalue.
    """
    found = []
    for pair in modulations[:BLOCKS]:
        w = F.normalize(torch.cat(pair).double(), dim=1)
        _, vectors = torch.linalg.eigh(w.T @ w)
        found.append(vectors.flip(1)[:, :EACH].T)
    return torch.cat(found).float()


def relation(teacher: Tensor, teacher_moved: Tensor, student: Tensor, student_moved: Tensor, by: str = "kl") -> Tensor:
    """Distance between the relations of maps, B x C x H x W, to the maps of moved w. Relations are cosine similarities
    S, B x B.

    "kl": the divergence of the softmax of the student's rows from the teacher's, averaged over rows; "mse": the mean
    squared difference. The teacher's side has no gradient. Returns a scalar.
    """
    theirs, mine = _cosines(teacher, teacher_moved).detach(), _cosines(student, student_moved)
    if by == "mse":
        return F.mse_loss(mine, theirs)
    return F.kl_div(mine.log_softmax(1), theirs.softmax(1), reduction="batchmean")


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    first, second = (F.normalize(precise(x).flatten(1), dim=1) for x in (first, second))
    return first @ second.T
