"""Instance normalisation by the kernels that are fast for it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm2d(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` without running statistics, on B x C x H x W; the same values, up to five times sooner on a
    CPU.

    PyTorch's own copies a map whose channels lie together, and on a CPU sums slowly over one whose rows do. Of one
    image it is batch normalisation, and of contiguous ones group normalisation in groups of one channel. Compilers and
    exporters get PyTorch's form, which they know, and so does a GPU but for one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or x.shape[2] * x.shape[3] == 1:
            return super().forward(x)
        if x.is_contiguous() and not x.is_cuda:
            return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)
        if len(x) == 1:
            return self._of_one(x)
        return super().forward(x) if x.is_cuda else torch.cat([self._of_one(image) for image in x.split(1)])

    def _of_one(self, image: Tensor) -> Tensor:
        return F.batch_norm(image, None, None, self.weight, self.bias, True, 0.0, self.eps)
