"""The losses of the energy-based variational distribution, on energies B x 1."""

from torch import Tensor


def contrast(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean E(t, s) - mean E(t~, s).

    Its gradient in theta is eq. 6, which tightens the bound; its gradient in the student through s is eq. 9, which
    raises it.
    """
    return positive.mean() - negative.mean()


def magnitude(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of E(t, s)^2 + E(t~, s)^2: keeps the unbounded energies finite (A.3)."""
    return (positive.square() + negative.square()).mean()
