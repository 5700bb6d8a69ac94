"""Tensors over all ranks: gathered, averaged, summed, broadcast. GPU tensors use NCCL, CPU tensors gloo."""

from collections.abc import Sequence
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vemcompress.system.distributed.group import ranks, share, watched
from vemcompress.system.distributed.parts import current


def mine(whole: Tensor, dim: int = 0) -> Tensor:
    """The share of this rank, and of this part of its batch (`parts`), in a tensor for the global batch."""
    return current().of(_of_rank(whole, dim), dim)


def _of_rank(whole: Tensor, dim: int = 0) -> Tensor:
    if ranks() == 1:
        return whole
    part = share(whole.shape[dim])
    return whole.narrow(dim, part.start, len(part))


def gather(part: Tensor) -> Tensor:
    """The global batch from every rank's equal part along the first dimension; with gradients to the parts."""
    return part if ranks() == 1 else _Gather.apply(part)


def stacked(tensor: Tensor) -> Tensor:
    """Every rank's tensor of one shape, ranks x ..., without gradient."""
    if ranks() == 1:
        return tensor.detach()[None]
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(ranks())]
    with watched():
        dist.all_gather(parts, tensor.detach().contiguous())
    return torch.stack(parts)


def summed(tensor: Tensor) -> Tensor:
    """The sum over the ranks, without gradient."""
    found = tensor.detach().clone(memory_format=torch.contiguous_format)
    if ranks() > 1:
        with watched():
            dist.all_reduce(found)
    return found


def total(number: float) -> float:
    """The sum of a number over the ranks, in double precision."""
    return float(summed(torch.tensor(number, dtype=torch.double))) if ranks() > 1 else number


def average(values: Tensor, gradients: Sequence[Tensor] = ()) -> Tensor:
    """The mean over the ranks of `values`, a vector, which is returned, and of `gradients`, in place; in one message.

    Every rank must have the same gradients, in the same order.
    """
    if ranks() == 1:
        return values
    flat = summed(torch.cat([values, *(g.reshape(-1) for g in gradients)])) / ranks()
    values, *parts = flat.split([len(values), *(g.numel() for g in gradients)])
    if parts:
        torch._foreach_copy_(list(gradients), [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])
    return values


def of_all(value: Tensor) -> Tensor:
    """A scalar with the value of the global batch's mean and the gradient of this rank's mean `value`. A root or
    absolute value of it is then correct for the global batch, once gradients are averaged.
    """
    if ranks() == 1:
        return value
    return value + (average(value.detach().reshape(1)).reshape(()) - value.detach())


def broadcast(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if ranks() == 1:
        return
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.numel():
            found = tensor.detach().contiguous()
            with watched():
                dist.broadcast(found, 0)
            tensor.detach().copy_(found)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        return stacked(part).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every rank's loss depends on this part.
        return _of_rank(summed(gradient))
