"""The batch of one training step."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vemcompress.system.distributed import Part


@dataclass(frozen=True)
class Batch:
    """B samples; each tensor has them along its first dimension.

    `input`: what the generators take, images B x C x H x W in [-1, 1] (one-hot label maps of 0 and 1), or latent
    vectors B x size. `target`: the ground truth of each input, B x C x H x W in [-1, 1], where there is one. `real`:
    images of the kind that should be made, which belong to no input: another domain's, or real ones beside latent
    vectors. `index`: which of the training images each input shows, B, int64, whatever its crop; None where nobody
    knows. `second`: another batch of the same data in another order, where a method learns from two (GCC).
    """

    input: Tensor
    target: Tensor | None = None
    real: Tensor | None = None
    index: Tensor | None = None
    second: "Batch | None" = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to each of its tensors, and to those of the second."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "second"}
        changed = {name: None if value is None else change(value) for name, value in values.items()}
        return Batch(**changed, second=self.second and self.second.map(change))

    def part(self, part: Part) -> "Batch":
        """What belongs to a part of it."""
        return self.map(part.of)

    def to(self, device: torch.device) -> "Batch":
        """On the device, without waiting for it; images in the channels_last memory format."""

        def moved(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, non_blocking=True)
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

        return self.map(moved)
