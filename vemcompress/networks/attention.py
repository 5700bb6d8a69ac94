"""Self-attention over the places of a feature map (SAGAN, Zhang et al., ICML 2019)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vemcompress.networks.cost import Cost, conv

LARGE = 512  # places of a map


class SelfAttention(nn.Module):
    """x + gamma v softmax(q^T k)^T of B x C x H x W, without the usual 1 / sqrt; gamma begins at 0.

    q and k have `keys` channels (C // 8 as published), v has C; all are 1x1 convolutions with biases.
    """

    def __init__(self, channels: int, keys: int):
        super().__init__()
        self.query, self.key = nn.Conv2d(channels, keys, 1), nn.Conv2d(channels, keys, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        return x + self.gamma * attended(q, k, v).reshape(x.shape)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """v softmax(q^T k)^T of B x K x N and B x C x N: B x C x N.

    Of large maps the N x N products of a whole batch do not fit into a processor's cache, so that image after image is
    2.2 times as fast there, forward and backward (one core, N = 1024, C = 64, batch 32); a GPU has PyTorch's fused
    kernel. Compilers and exporters get the plain form.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or q.shape[2] < LARGE:
        return v @ F.softmax(q.mT @ k, dim=-1).mT
    if q.device.type == "cpu":
        return _ImageByImage.apply(q.contiguous(), k.contiguous(), v.contiguous())
    return F.scaled_dot_product_attention(q.mT[:, None], k.mT[:, None], v.mT[:, None], scale=1.0)[:, 0].mT


class _ImageByImage(torch.autograd.Function):
    """`attended`, which keeps no N x N product: the backward makes each anew."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out = torch.empty_like(v)
        for i in range(len(q)):
            torch.mm(v[i], F.softmax(q[i].T @ k[i], dim=-1).T, out=out[i])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        gradient = gradient.contiguous()
        for i in range(len(q)):
            shares = F.softmax(q[i].T @ k[i], dim=-1)
            torch.mm(gradient[i], shares, out=dv[i])
            inner = gradient[i].T @ v[i]
            # Through the softmax: shares (d - sum of shares d).
            inner -= (inner * shares).sum(-1, keepdim=True)
            inner *= shares
            torch.mm(k[i], inner.T, out=dq[i])
            torch.mm(q[i], inner, out=dk[i])
        return dq, dk, dv


def attention_costs(channels: int, keys: int, pixels: int) -> Iterator[Cost]:
    """The layers of a SelfAttention and its two products."""
    yield conv(channels, keys, 1, pixels)
    yield conv(channels, keys, 1, pixels)
    yield conv(channels, channels, 1, pixels)
    products = pixels * pixels * (keys + channels)
    yield Cost(products, products, 0, 1)
