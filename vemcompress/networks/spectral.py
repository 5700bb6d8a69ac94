"""Convolutions with spectral normalisation (Miyato et al., ICLR 2018), as in GCC's SAGAN.

W / sigma with sigma = u^T W v, W reshaped to (shape[0], -1). For a transposed convolution dimension 0 is the *input*
channels, where torch's own `spectral_norm` uses the outputs: the two are not interchangeable. The gradient goes through
W alone, also within sigma. `networks.energy` has another form of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12


class Spectral(nn.Module):
    """One power iteration at every forward in training mode, as published. In evaluation mode u and v do not change.
    The published network continues to iterate there, so its images change from call to call until u and v have
    converged.

    As published, autograd does not see the iteration. With several passes before one backward, such as a
    discriminator's passes of real and fake images, all gradients use the u and v of the last pass.
    """

    weight: Tensor
    u: Tensor
    v: Tensor

    def _add_vectors(self) -> None:
        rows, columns = self.weight.flatten(1).shape
        for name, size in (("u", rows), ("v", columns)):
            self.register_buffer(name, F.normalize(torch.randn(size, device=self.weight.device), dim=0, eps=EPS))

    def normalised(self) -> Tensor:
        """The normalised weight; in training mode after one power iteration."""
        matrix = self.weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self.v.data.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=EPS))
                self.u.data.copy_(F.normalize(matrix @ self.v, dim=0, eps=EPS))
        return self.weight / (self.u @ (matrix @ self.v))

    def learn_vectors(self) -> None:
        """Make u and v trained parameters, as GCC's discriminators have them by mistake: an optimiser step changes
        them slightly, and the next iteration starts from there.
        """
        for name in ("u", "v"):
            vector = self._buffers.pop(name)
            self.register_parameter(name, nn.Parameter(vector))

    @torch.no_grad()
    def converge(self) -> None:
        """Set u and v to the leading singular vectors."""
        left, _, right = torch.linalg.svd(self.weight.flatten(1), full_matrices=False)
        self.u.copy_(left[:, 0])
        self.v.copy_(right[0])


class SpectralConv2d(Spectral, nn.Conv2d):
    """A convolution with the arguments of `nn.Conv2d`; it keeps PyTorch's initial weights, as published."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._add_vectors()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalised(), self.bias)


class SpectralConvTranspose2d(Spectral, nn.ConvTranspose2d):
    """A transposed convolution with the arguments of `nn.ConvTranspose2d`; it keeps PyTorch's initial weights, as
    published.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._add_vectors()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.normalised(), self.bias, self.stride, self.padding)


def folded(weight: Tensor, u: Tensor) -> Tensor:
    """W / sigma as in the published network's first forward from a stored u: after one power iteration. Raises
    ValueError if the result is not a number.
    """
    matrix = weight.flatten(1)
    v = F.normalize(matrix.T @ u, dim=0, eps=EPS)
    sigma = F.normalize(matrix @ v, dim=0, eps=EPS) @ (matrix @ v)
    if not (sigma > 0 and torch.isfinite(sigma)):
        raise ValueError(f"gives a largest singular value of {sigma.item():.3g}")
    return weight / sigma
