"""PyTorch generators as callables, with the interface of .onnx files (`session.OnnxModel`,
`latent_session.OnnxLatents`)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from vemcompress.data.labels import LabelMaps
from vemcompress.errors import ExportError, InputError, MemoryExhausted
from vemcompress.export.contracts import LatentContract
from vemcompress.export.deploy import cause, contract_of, deployment_copy
from vemcompress.networks.base import Padding
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.system.memory import is_exhausted
from vemcompress.weights.custom import check_range
from vemcompress.weights.graphs.latent_session import Styled
from vemcompress.weights.graphs.pixels import COLOURS, pad_to_multiple, to_bytes, to_float, to_pictures
from vemcompress.weights.loading import load


@dataclass
class TorchModel:
    """A callable from uint8 N x H x W x `channels` to uint8 N x H x W x (1, 3 or 4), with H and W times `scale`. It
    pads and crops as needed. `fixed_size` is (H, W) if it takes no other size. With `labels`, the input is label maps,
    N x H x W x 1 with classes and VOID."""

    name: str
    network: nn.Module
    channels: int
    multiple: int
    min_size: int
    device: torch.device
    fixed_size: tuple[int, int] | None = None
    assumed: str = ""
    labels: LabelMaps | None = None
    scale: int = 1
    check: Callable[[torch.Tensor], None] | None = None  # called once with the first images, B x C x H x W

    kind = "image"

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Process a batch of images. Raises MemoryExhausted (6), and InputError (4) if the user's class fails."""
        height, width = images.shape[1:3]
        padded = pad_to_multiple(images, self.multiple, self.min_size)
        if self.labels is not None and self.labels.input == "onehot":
            x = self.labels.one_hot(padded[..., 0])
        else:
            padded = padded if self.labels is None else self.labels.colours(padded[..., 0])
            x = torch.from_numpy(to_float(padded, -1.0, 1.0)).permute(0, 3, 1, 2)
        try:
            y = self.network(x.contiguous().to(self.device))
        except Exception as error:  # the user's own code may raise anything
            what = f"{width} x {height} pixels"
            if is_exhausted(error):
                raise MemoryExhausted(f"{self.name}: not enough memory for a photo of {what}; use --size.") from error
            if getattr(self.network, "config", None) is not None:
                raise
            told = f"failed on an image of {what} ({cause(error)})"
            raise InputError(f"{self.name}: {told}; use --size.") from error
        if self.check is not None:
            self.check(y)
            self.check = None
        drawn = to_pictures(y.permute(0, 2, 3, 1).cpu().numpy(), -1.0, 1.0, self.name)
        return drawn[:, : self.scale * height, : self.scale * width]


@dataclass
class TorchLatents:
    """A callable from latent vectors, float32 N x `size` from `prior`, to uint8 N x H x W x (1 or 3). `sides` are H and
    W."""

    name: str
    network: nn.Module
    size: int
    prior: str
    sides: tuple[int, int]
    device: torch.device
    assumed: str = ""

    kind = "latent"

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def styled(self) -> Styled | None:
        """The shapes of w and of the noise, if the network has a w."""
        if not getattr(self.network, "styled", False):
            return None
        return Styled(self.network.config.layers, self.network.config.style, self.network.noise_sides)

    def __call__(self, z: np.ndarray, truncation: float = 1.0, noise: list[np.ndarray] | None = None) -> np.ndarray:
        """Draw images. `truncation` scales the vectors or, with w, the distance of w from its mean. `noise` replaces
        the stored noise of a network with w. Raises MemoryExhausted (6), and InputError (4) if the user's class
        fails."""
        if self.styled is None:
            return self._drawn(z * np.float32(truncation), self.network)
        return self._drawn(z, lambda z: self.network.draw(z, truncation, self._placed(noise)))

    def of_styles(self, w: np.ndarray, truncation: float = 1.0, noise: list[np.ndarray] | None = None) -> np.ndarray:
        """Draw images from w, N x style or N x layers x style. Otherwise as `__call__`."""

        def draw(w: torch.Tensor) -> torch.Tensor:
            return self.network.synthesise(self.network.truncated(w, truncation), noise=self._placed(noise))[0]

        return self._drawn(w, draw)

    def _placed(self, noise: list[np.ndarray] | None) -> list[torch.Tensor] | None:
        return noise and [torch.from_numpy(n).to(self.device) for n in noise]

    @torch.inference_mode()
    def _drawn(self, z: np.ndarray, draw: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        try:
            y = draw(torch.from_numpy(z).to(self.device))
        except Exception as error:  # the user's own code may raise anything
            if is_exhausted(error):
                told = f"not enough memory for {len(z)} images at a time; use a smaller --batch."
                raise MemoryExhausted(f"{self.name}: {told}") from error
            if getattr(self.network, "config", None) is not None:
                raise
            raise InputError(
                f"{self.name}: failed on {len(z)} latent vectors ({cause(error)}); use --batch 1."
            ) from error
        return to_bytes(y.permute(0, 2, 3, 1).cpu().numpy(), -1.0, 1.0, self.name)


def open_torch(
    source: str | os.PathLike,
    *,
    device: str = "cpu",
    photos: bool = True,
    labels: LabelMaps | None = None,
    class_path: str | None = None,
    key: str | None = None,
    widths: str | None = None,
    padding: Padding | None = None,
    range: str | None = None,
    on_event: Event = silent,
) -> TorchModel | TorchLatents:
    """Open weights, a run folder or a Hub address as a callable. Raises the errors of `weights.loading.load`.

    `labels`: how to read label maps, if the network's input is label maps. `class_path`: the user's own class. `key`:
    the generator's name in a file that holds several; the choice is reported to `on_event`. `widths`: those of a
    supernet's sub-network. `padding`, `range`: as in `load`. If the range of a class is not stated, it is checked on
    the first images. Also raises UsageError (2) for a device that is not available and, with `photos`, InputError (4)
    for a network that does not turn photos into pictures.
    """
    place = devices.choose(device)
    loaded = load(source, class_path=class_path, key=key, widths=widths, padding=padding, range=range)
    loaded.tell(on_event)
    model = wrap(loaded.generator, str(source), place, photos=photos and labels is None)
    if photos and model.kind == "image":
        model = replace(model, check=lambda images: check_range(loaded.generator, images, on_event))
    return model if labels is None or model.kind == "latent" else replace(model, labels=labels, channels=1)


def wrap(network: nn.Module, name: str, device: torch.device, *, photos: bool = True) -> TorchModel | TorchLatents:
    """A generator as a callable; `name` is for errors. With `photos`, raises InputError unless the input (for latent
    vectors: the output) has a photo's number of channels."""
    try:
        network = deployment_copy(network)
        contract = contract_of(network)
    except ExportError as error:
        raise InputError(f"{name}: {error}") from error
    if isinstance(contract, LatentContract):
        if photos and contract.out_channels not in (1, 3):
            raise InputError(f"{name}: draws images of {contract.out_channels} channels; pictures have 3 or 1.")
        sides = (contract.image, contract.image)
        return TorchLatents(name, network.to(device), contract.size, contract.prior, sides, device)
    if photos and contract.in_channels not in COLOURS:
        raise InputError(
            f"{name}: maps {contract.in_channels} channels to {contract.out_channels}, not photos to pictures; give a "
            "model that takes 1, 3 or 4 channels, or the folder of a run that was trained on label maps."
        )
    fixed = None if contract.only_size is None else (contract.only_size,) * 2
    sizes = contract.multiple, contract.min_size, device, fixed
    return TorchModel(name, network.to(device), contract.in_channels, *sizes, scale=contract.scale)
