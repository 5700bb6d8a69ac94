"""The batch of one training step."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vemcompress.system.distributed import Part


@dataclass(frozen=True)
class Batch:
    """A batch of B samples, along the first dimension of each tensor.

    `input`: the networks' input, images B x C x H x W in [-1, 1] (one-hot label maps: 0 and 1), or latent vectors B x
    size. `target`: the ground truth of each input, B x C x H x W in [-1, 1], if there is one. `real`: images of the
    desired kind that belong to no input: those of another domain, or real images beside latent vectors. `index`: the
    number of the training image in each input, B, int64, whatever its crop; None if unknown. `second`: another batch of
    the same data in another order, for methods that need two (GCC).
    """

    input: Tensor
    target: Tensor | None = None
    real: Tensor | None = None
    index: Tensor | None = None
    second: "Batch | None" = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to each of its tensors, and to those of the second batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "second"}
        changed = {name: None if value is None else change(value) for name, value in values.items()}
        return Batch(**changed, second=self.second and self.second.map(change))

    def part(self, part: Part) -> "Batch":
        """The share of a part of the batch."""
        return self.map(part.of)

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to the device without blocking; images use the channels_last memory format."""

        def moved(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, non_blocking=True)
            return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

        return self.map(moved)
