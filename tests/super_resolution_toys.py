"""Tiny published files for super-resolution with random weights, and the original networks as plain functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = dict[str, Tensor]


def _conv(found: Tensors, name: str, inputs: int, outputs: int, kernel: int = 3) -> None:
    found[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
    found[f"{name}.bias"] = torch.randn(outputs) * 0.1


def _batch_norm(found: Tensors, name: str, channels: int) -> None:
    found |= {f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) * 0.1}
    found |= {f"{name}.running_mean": torch.randn(channels) * 0.1, f"{name}.running_var": torch.rand(channels) + 0.5}
    found[f"{name}.num_batches_tracked"] = torch.tensor(3)


def _applied(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return F.conv2d(x, weight, tensors[f"{name}.bias"], padding=weight.shape[-1] // 2)


def _normalised(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    mean, var = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def srgan(width: int = 4, blocks: int = 3, ups: int = 2) -> Tensors:
    found: Tensors = {}
    _conv(found, "block1.0", 3, width, 9)
    found["block1.1.weight"] = torch.tensor([0.3])
    for i in range(2, blocks + 2):
        for part in (1, 2):
            _conv(found, f"block{i}.conv{part}", width, width)
            _batch_norm(found, f"block{i}.bn{part}", width)
        found[f"block{i}.prelu.weight"] = torch.tensor([0.1 * i])
    _conv(found, f"block{blocks + 2}.0", width, width)
    _batch_norm(found, f"block{blocks + 2}.1", width)
    for i in range(ups):
        _conv(found, f"block{blocks + 3}.{i}.conv", width, 4 * width)
        found[f"block{blocks + 3}.{i}.prelu.weight"] = torch.tensor([0.2])
    _conv(found, f"block{blocks + 3}.{ups}", width, 3, 9)
    return found


def plain_srgan(tensors: Tensors, x: Tensor) -> Tensor:
    first = h = F.prelu(_applied(tensors, "block1.0", x), tensors["block1.1.weight"])
    i = 2
    while f"block{i}.conv1.weight" in tensors:
        r = _normalised(tensors, f"block{i}.bn1", _applied(tensors, f"block{i}.conv1", h))
        r = F.prelu(r, tensors[f"block{i}.prelu.weight"])
        h = h + _normalised(tensors, f"block{i}.bn2", _applied(tensors, f"block{i}.conv2", r))
        i += 1
    h = first + _normalised(tensors, f"block{i}.1", _applied(tensors, f"block{i}.0", h))
    j = 0
    while f"block{i + 1}.{j}.conv.weight" in tensors:
        h = F.pixel_shuffle(_applied(tensors, f"block{i + 1}.{j}.conv", h), 2)
        h = F.prelu(h, tensors[f"block{i + 1}.{j}.prelu.weight"])
        j += 1
    return (torch.tanh(_applied(tensors, f"block{i + 1}.{j}", h)) + 1) / 2


def srvgg(width: int = 4, blocks: int = 3, scale: int = 4) -> Tensors:
    found: Tensors = {}
    for i in range(blocks + 1):
        _conv(found, f"body.{2 * i}", width if i else 3, width)
        found[f"body.{2 * i + 1}.weight"] = torch.rand(width)
    _conv(found, f"body.{2 * blocks + 2}", width, 3 * scale**2)
    return found


def plain_srvgg(tensors: Tensors, x: Tensor) -> Tensor:
    h, i = x, 0
    while f"body.{i + 1}.weight" in tensors:
        h = F.prelu(_applied(tensors, f"body.{i}", h), tensors[f"body.{i + 1}.weight"])
        i += 2
    h = F.pixel_shuffle(_applied(tensors, f"body.{i}", h), 4)
    return h + F.interpolate(x, scale_factor=4, mode="nearest")


NEW = ("conv_first", "body.{}.rdb{}.conv{}", "conv_body", ("conv_up1", "conv_up2"), "conv_hr", "conv_last")
OLD = ("model.0", "model.1.sub.{}.RDB{}.conv{}.0", "model.1.sub.2", ("model.3", "model.6"), "model.8", "model.10")
OLD_BY_2 = ("model.0", "model.1.sub.{}.RDB{}.conv{}.0", "model.1.sub.2", ("model.3",), "model.5", "model.7")


def rrdb(names, unshuffle: int = 1, trunk: int = 4, growth: int = 2, blocks: int = 2) -> Tensors:
    found: Tensors = {}
    first, dense, body, ups, high, last = names
    _conv(found, first, 3 * unshuffle**2, trunk)
    for block in range(blocks):
        for part in (1, 2, 3):
            for k in range(1, 6):
                name = dense.format(block, part, k)
                _conv(found, name, trunk + (k - 1) * growth, growth if k < 5 else trunk)
    for name in (body, *ups, high):
        _conv(found, name, trunk, trunk)
    _conv(found, last, trunk, 3)
    return found


def plain_rrdb(names, unshuffle: int = 1):
    first, dense, body, ups, high, last = names

    def run(tensors: Tensors, x: Tensor) -> Tensor:
        def apply(name: str, h: Tensor) -> Tensor:
            return _applied(tensors, name, h)

        def block(h: Tensor, i: int, part: int) -> Tensor:
            maps = [h]
            for k in range(1, 5):
                maps.append(F.leaky_relu(apply(dense.format(i, part, k), torch.cat(maps, 1)), 0.2))
            return apply(dense.format(i, part, 5), torch.cat(maps, 1)) * 0.2 + h

        skip = h = apply(first, F.pixel_unshuffle(x, unshuffle) if unshuffle > 1 else x)
        for i in range(2):
            h = block(block(block(h, i, 1), i, 2), i, 3) * 0.2 + h
        h = skip + apply(body, h)
        for up in ups:
            h = F.leaky_relu(apply(up, F.interpolate(h, scale_factor=2, mode="nearest")), 0.2)
        return apply(last, F.leaky_relu(apply(high, h), 0.2))

    return run


PLAIN = {
    "srgan": (srgan, plain_srgan),
    "srvgg": (srvgg, plain_srvgg),
    "rrdb": (lambda: rrdb(NEW), plain_rrdb(NEW)),
    "rrdb_by_2": (lambda: rrdb(NEW, 2), plain_rrdb(NEW, 2)),
    "old_rrdb": (lambda: rrdb(OLD), plain_rrdb(OLD)),
    "old_rrdb_by_2": (lambda: rrdb(OLD_BY_2), plain_rrdb(OLD_BY_2)),
}


def published(layout: str):
    """The tensors of such a file, and the original network of images in [0, 1]."""
    torch.manual_seed(0)
    make, plain = PLAIN[layout]
    return make(), plain
