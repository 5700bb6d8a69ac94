"""BatchNorm with the statistics of the global batch over several ranks, and InstanceNorm that is fast on a CPU.

PyTorch's own SyncBatchNorm does not support the CPU.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vemcompress.system import distributed


class SyncBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm2d whose training statistics are those of all ranks' images; each rank must have the same number."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise this rank's B x C x H x W. Raises ValueError for one value per channel, which has no variance."""
        if not self.training or distributed.ranks() == 1:
            return super().forward(x)
        count = x.numel() // x.shape[1] * distributed.ranks()
        if count == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        weight, bias = (self.weight, self.bias) if self.affine else (x.new_ones(x.shape[1]), x.new_zeros(x.shape[1]))
        y, mean, variance = _Normalise.apply(x, weight, bias, self.eps)
        if self.track_running_stats:
            self._follow(mean, variance * (count / (count - 1)))
        return y

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise(network: nn.Module) -> None:
    """Make every BatchNorm2d use the global batch, in place. Parameters, buffers and their names do not change."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every BatchNorm2d to those of these inputs, averaged over the batches, in place. A
    network without BatchNorm is not changed and not run. The network is in evaluation mode afterwards.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if layers:
        before = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
        network.train()
        for batch in batches:
            network(batch)
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
    network.eval()


class _Normalise(torch.autograd.Function):
    """gamma (x - mean) / sqrt(var + eps) + beta, in float32 or better; also the mean and the variance, without
    gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float):
        exact = _precise(x)
        parts = distributed.stacked(torch.stack((exact.mean((0, 2, 3)), exact.var((0, 2, 3), correction=0))))
        # Means and variances of equal parts are combined; sums of squares would lose digits to cancellation.
        mean = parts[:, 0].mean(0)
        variance = parts[:, 1].mean(0) + (parts[:, 0] - mean).square().mean(0)
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        scale = weight.to(exact.dtype) * inverse
        y = exact * _broad(scale) + _broad(bias.to(exact.dtype) - mean * scale)
        return y.to(x.dtype), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_):
        x, weight, mean, inverse = ctx.saved_tensors
        dy, normal = _precise(gradient), (_precise(x) - _broad(mean)) * _broad(inverse)
        own = torch.stack((dy.sum((0, 2, 3)), (dy * normal).sum((0, 2, 3))))
        count = x.numel() // x.shape[1] * distributed.ranks()
        # The statistics depend on all ranks, so every rank's loss contributes to this gradient of x; the gradients of
        # gamma and beta are averaged later.
        of_all = distributed.summed(own) / count
        dx = _broad(weight.to(dy.dtype) * inverse) * (dy - _broad(of_all[0]) - normal * _broad(of_all[1]))
        return dx.to(x.dtype), own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.double else x.float()


def _broad(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)


class InstanceNorm2d(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` without running statistics, on B x C x H x W; the same values, up to five times faster on a
    CPU.

    PyTorch's version copies a channels_last map, and on a CPU sums slowly over a contiguous one. Instance norm of one
    image equals batch normalisation, and of contiguous images it equals group normalisation with groups of one channel.
    Compilers and exporters get PyTorch's form, which they know; so does a GPU for more than one image.
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


class PassOrder:
    """Makes the BatchNorms among `layers` behave as if their passes had come in `order`, each as often as it is named
    there.

    Within a step that does not change the weights, one pass may stand for several, or come earlier than published; only
    the running statistics depend on that. All layers have the same momentum. Without BatchNorm this does nothing.
    """

    def __init__(self, layers: Iterable[nn.Module], order: Sequence[str]):
        self.layers = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats]
        self.order = order
        self._start, self._added = None, {}

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Context in which one pass through the layers is computed."""
        if not self.layers:
            yield
            return
        before = self._flat()
        if self._start is None:
            self._start = before
        yield
        kept = 1 - self.layers[0].momentum
        self._added[name] = self._flat() - kept * before

    @torch.no_grad()
    def settle(self) -> None:
        """Set the running statistics and the pass counts, after all passes of a step."""
        if not self.layers:
            return
        kept, value = 1 - self.layers[0].momentum, self._start
        for name in self.order:
            value = kept * value + self._added[name]
        buffers = self._buffers()
        # Set through .data: the graph keeps the running statistics, but its backward in training mode never reads them.
        for buffer, part in zip(buffers, value.split([b.numel() for b in buffers]), strict=True):
            buffer.data.copy_(part)
        for layer in self.layers:
            layer.num_batches_tracked += len(self.order) - len(self._added)
        self._start, self._added = None, {}

    def _buffers(self) -> list[Tensor]:
        return [b for layer in self.layers for b in (layer.running_mean, layer.running_var)]

    def _flat(self) -> Tensor:
        return torch.cat(self._buffers())
