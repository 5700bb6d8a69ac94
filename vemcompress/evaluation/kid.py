"""Kernel Inception Distance (Binkowski et al., ICLR 2018): the unbiased squared MMD with a cubic kernel."""

import numpy as np
import torch
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.evaluation.frechet import double_device

SUBSETS, SUBSET_SIZE = 100, 1000

# Up to here one Gram matrix of all features (288 MB) is cheaper than one per subset.
_GRAM_LIMIT = 6000


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 of every row of x (N x D) with every row of y (M x D): N x M."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def unbiased_mmd(xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """The U-statistic from the three kernel matrices, a scalar; below 0 by chance where the sets are alike."""
    n, m = len(xx), len(yy)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return within - 2 * xy.mean()


def kernel_distance(
    x: np.ndarray | Tensor,
    y: np.ndarray | Tensor,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[float, float | None]:
    """Mean and standard deviation of the MMD over random subsets of both sets of features (N x D and M x D).

    A subset has `subset_size` features, or as many as the smaller set; where both sets have no more than that, all
    are taken at once and there is no deviation (None). Computed in float64. Raises InputError for fewer than 2
    features.
    """
    device = double_device(device)
    x, y = (torch.as_tensor(v).to(device).double() for v in (x, y))
    if min(len(x), len(y)) < 2:
        raise InputError(f"{min(len(x), len(y))} image is too few for a kernel distance; give at least 2 images.")
    if max(len(x), len(y)) <= subset_size:
        return float(unbiased_mmd(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))), None
    size = min(subset_size, len(x), len(y))
    both = torch.cat((x, y))
    gram = polynomial_kernel(both, both) if len(both) <= _GRAM_LIMIT else None
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        i, j = (torch.from_numpy(rng.choice(len(v), size, replace=False)).to(device) for v in (x, y))
        if gram is None:
            a, b = x[i], y[j]
            blocks = polynomial_kernel(a, a), polynomial_kernel(b, b), polynomial_kernel(a, b)
        else:
            j = j + len(x)
            blocks = gram[i][:, i], gram[j][:, j], gram[i][:, j]
        values.append(unbiased_mmd(*blocks))
    values = torch.stack(values)
    return float(values.mean()), float(values.std(correction=0))
