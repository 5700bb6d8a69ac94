"""A PyTorch generator behind the same face as an .onnx file (`session.OnnxModel`)."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vemcompress.errors import ExportError, InputError, MemoryExhausted, UsageError
from vemcompress.export.deploy import contract_of, deployment_copy
from vemcompress.export.pixels import pad_to_multiple, to_bytes, to_float
from vemcompress.weights.loading import load


@dataclass
class TorchModel:
    """Called with uint8 N x H x W x `channels`, it gives uint8 N x H x W x (1 or 3), by padding and cropping."""

    name: str
    network: nn.Module
    channels: int
    multiple: int
    min_size: int
    device: torch.device
    fixed_size: None = None
    assumed: str = ""

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Raises MemoryExhausted (6)."""
        height, width = images.shape[1:3]
        x = to_float(pad_to_multiple(images, self.multiple, self.min_size), -1.0, 1.0)
        try:
            y = self.network(torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(self.device))
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise MemoryExhausted(
                f"{self.name}: not enough memory for a photo of {width} x {height} pixels; use --size."
            ) from error
        return to_bytes(y.permute(0, 2, 3, 1).cpu().numpy(), -1.0, 1.0, self.name)[:, :height, :width]


def open_torch(source: str | os.PathLike, *, device: str = "cpu", photos: bool = True) -> TorchModel:
    """Weights, a run folder or a Hub address as a callable; raises what `weights.loading.load` raises.

    Also UsageError (2) for a device not here and, where it is for `photos`, InputError (4) for a network that does not
    go from photos to pictures.
    """
    place = usable_device(device)
    return wrap(load(source).generator, str(source), place, photos=photos)


def usable_device(name: str) -> torch.device:
    """A device by its name, tried once; raises UsageError (2)."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # unknown names and absent backends fail in different ways
        raise UsageError(f"device '{name}': PyTorch cannot use it here; take 'cpu'.") from error
    return device


def wrap(network: nn.Module, name: str, device: torch.device, *, photos: bool = True) -> TorchModel:
    """A generator as a callable; `name` is for errors. `photos`: 1 or 3 channels on both sides, or InputError."""
    try:
        network = deployment_copy(network)
        contract = contract_of(network)
    except ExportError as error:
        raise InputError(f"{name}: {error}") from error
    if photos and (contract.in_channels not in (1, 3) or contract.out_channels not in (1, 3)):
        raise InputError(
            f"{name}: goes from {contract.in_channels} channels to {contract.out_channels}, not from photos to "
            "pictures; give a model with 3 or 1 on both sides."
        )
    return TorchModel(name, network.to(device), contract.in_channels, contract.multiple, contract.min_size, device)
