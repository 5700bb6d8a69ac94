"""CAT's generator: a ResNet whose residual blocks are sums of branches with several kernel sizes (Jin et al., CVPR
2021).

It is designed for pruning: the scales of the norms within the branches rate each channel, and branches or whole blocks
may be removed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vemcompress.networks.base import Norm, check_number
from vemcompress.networks.cost import Cost, conv, norm
from vemcompress.networks.generators.resnet import MAX_BLOCKS, ResNet, ResNetConfig, expand_width
from vemcompress.networks.slots import Group, Slot, passes, reads, writes
from vemcompress.system.settings import MAX_CHANNELS

REDUCTION = 6  # ratio of the trunk's width to that of each branch, as published
MAX_KERNELS = 4
Kernel = Annotated[int, Field(ge=1, le=15)]
Branches = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_CHANNELS)], ...], Field(strict=False, max_length=2 * MAX_KERNELS)
]


class InceptionResNetConfig(ResNetConfig):
    """`widths` as in `ResNetConfig`. `kernels`: kernel sizes of the branches. `blocks`: for each block the widths of
    its dense branches, one per kernel size, followed by those of its depthwise branches, or the number of blocks; 0
    stands for a missing branch. `width = n` stands for branches of 4n // 6 channels.
    """

    family: Literal["inception_resnet"] = "inception_resnet"
    norm: Norm = "instance_affine"
    kernels: tuple[Kernel, ...] = Field((1, 3, 5), strict=False, min_length=1, max_length=MAX_KERNELS)
    blocks: tuple[Branches, ...] = Field(strict=False, min_length=1, max_length=MAX_BLOCKS)

    @model_validator(mode="before")
    @classmethod
    def _expand_width(cls, values):
        if not isinstance(values, dict):
            return values
        if {"channels", "legacy"} & values.keys():
            raise ValueError("channels is only for mobile ResNets; give width, or widths and blocks")
        values = expand_width(dict(values))
        blocks, widths, kernels = values.get("blocks", 9), values.get("widths"), values.get("kernels", (1, 3, 5))
        if not isinstance(blocks, list | tuple):
            check_number("blocks", blocks, 1, MAX_BLOCKS)
            if all(isinstance(part, list | tuple) for part in (widths, kernels)) and len(widths) % 2:
                trunk, count = widths[len(widths) // 2], min(len(kernels), MAX_KERNELS)
                inner = trunk // REDUCTION if isinstance(trunk, int) else trunk
                values["blocks"] = ((inner,) * 2 * count,) * blocks
        return values

    def check(self) -> None:
        super().check()
        if any(kernel % 2 == 0 for kernel in self.kernels) or len(set(self.kernels)) < len(self.kernels):
            raise ValueError("kernels must be different odd numbers")
        if any(len(block) != 2 * len(self.kernels) for block in self.blocks):
            raise ValueError(f"each of blocks must have {2 * len(self.kernels)} widths: two for each kernel")

    @property
    def branches(self) -> tuple[tuple[str, int], ...]:
        """Kind ("res" or "dw") and kernel size of a block's branches, in the order of its widths."""
        return tuple((kind, kernel) for kind in ("res", "dw") for kernel in self.kernels)

    def widths_by_group(self) -> dict[str, int]:
        blocks = {
            f"block{i + 1}_{kind}{kernel}": width
            for i, block in enumerate(self.blocks)
            for (kind, kernel), width in zip(self.branches, block, strict=True)
        }
        return self._around(dict(zip(self._stages, self.widths, strict=True)), blocks)

    def genes(self) -> dict[str, dict[str, int]]:
        return {group: {group: 1} for group in self.widths_by_group()}

    def _placed(self, widths: dict[str, int]) -> dict:
        blocks = tuple(
            tuple(widths[f"block{i + 1}_{kind}{kernel}"] for kind, kernel in self.branches)
            for i in range(len(self.blocks))
        )
        return {"widths": tuple(widths[name] for name in self._stages), "blocks": blocks}

    def _middle(self, trunk: int, height: int, width: int) -> Iterator[Cost]:
        pixels, bias = height * width, self.biased
        for block in self.blocks:
            for (kind, kernel), inner in zip(self.branches, block, strict=True):
                if not inner:
                    continue
                first, last = (kernel, kernel) if kind == "res" else (1, 1)
                yield conv(trunk, inner, first, pixels, bias=bias)
                yield norm(self.norm, inner, pixels)
                if kind == "dw":
                    yield conv(inner, inner, kernel, pixels, groups=inner, bias=bias)
                    yield norm(self.norm, inner, pixels)
                yield conv(inner, trunk, last, pixels, bias=bias)
            last_norm = norm(self.norm, trunk, pixels)
            yield last_norm if any(block) else last_norm._replace(norm=0)  # stored in the file but never computed


class _Branch(nn.Module):
    """Dense: k x k to `inner` channels, norm, ReLU, k x k back. Depthwise: 1 x 1, norm, ReLU, depthwise k x k, norm,
    ReLU, 1 x 1 back. Reflection padding, or another `mode`.
    """

    def __init__(self, trunk: int, inner: int, kind: str, kernel: int, bias: bool, normalise: Callable, mode: str):
        super().__init__()
        size = kernel if kind == "res" else 1
        padded = {"padding": size // 2, "padding_mode": mode, "bias": bias}
        self.conv1, self.norm1 = nn.Conv2d(trunk, inner, size, **padded), normalise(inner)
        self.depthwise = self.norm2 = None
        if kind == "dw":
            padding = {"padding": kernel // 2, "padding_mode": mode}
            self.depthwise = nn.Conv2d(inner, inner, kernel, groups=inner, bias=bias, **padding)
            self.norm2 = normalise(inner)
        self.conv2 = nn.Conv2d(inner, trunk, size, **padded)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        if self.depthwise is not None:
            h = F.relu(self.norm2(self.depthwise(h)))
        return self.conv2(h)


class InceptionBlock(nn.Module):
    """x plus the normalised sum of the branches; only x if there are no branches."""

    def __init__(self, branches: dict[str, _Branch], norm: nn.Module):
        super().__init__()
        self.branches, self.norm = nn.ModuleDict(branches), norm

    def forward(self, x: Tensor) -> Tensor:
        if not self.branches:
            return x
        return x + self.norm(sum(branch(x) for branch in self.branches.values()))


class InceptionResNet(ResNet):
    """`ResNet` with `InceptionBlock`s; the same taps and places."""

    config_class: ClassVar = InceptionResNetConfig

    def _block(self, trunk: int, inner: tuple[int, ...]) -> InceptionBlock:
        shared = self.config.biased, self._normalise, self.config.padding_mode
        branches = {
            f"{kind}{kernel}": _Branch(trunk, width, kind, kernel, *shared)
            for (kind, kernel), width in zip(self.config.branches, inner, strict=True)
            if width
        }
        return InceptionBlock(branches, self._normalise(trunk))

    def _residual_groups(self, prefix: str = "") -> tuple[list[Slot], dict[str, tuple[tuple[Slot, ...], str]]]:
        trunk, inner = [], {}
        for i, block in enumerate(self.blocks):
            trunk += passes(f"blocks.{i}.norm")
            for branch in block.branches:
                name = f"blocks.{i}.branches.{branch}"
                trunk += (*reads(f"{name}.conv1"), *writes(f"{name}.conv2"))
                slots = (*writes(f"{name}.conv1"), *passes(f"{name}.norm1"), *reads(f"{name}.conv2"))
                if branch.startswith("dw"):
                    slots += (*passes(f"{name}.depthwise"), *passes(f"{name}.norm2"))
                inner[f"block{i + 1}_{branch}"] = slots, f"{name}.norm1.weight"
        return trunk, inner

    def groups(self) -> tuple[Group, ...]:
        """As in `ResNet`; a block's groups are its branches, `block1_res1`, ..., `block1_dw5`, which may be removed
        completely.
        """
        return tuple(replace(group, least=0) if group.bypassed else group for group in super().groups())

    def costs(self, height: int, width: int) -> Callable[[Mapping[str, int]], Cost]:
        """Not a polynomial: a branch of width 0 has no biases either."""
        return lambda widths: self.config.with_widths(widths).cost(height, width)
