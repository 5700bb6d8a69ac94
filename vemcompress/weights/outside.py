"""Networks that others run: functions of the user's own. An .onnx file is another, in `graphs.teacher`."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError
from vemcompress.system.events import Event


class Outside(nn.Module):
    """From images to images, B x C x H x W, by what is no PyTorch module: it has no weights here and cannot learn, so
    that copies share it. `tried_channels`: the input channels that it is tried with."""

    tried_channels: tuple[int, ...] = (3, 1, 4)

    def elsewhere(self, device: torch.device) -> str:
        """That it does not run on this device, where that is so."""
        return ""

    def __deepcopy__(self, memo: dict) -> "Outside":
        return self


class Function(Outside):
    """A function, or any other callable, that the user gave."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        """What the function gives for images on their device. Its image comes back to that device."""
        found = self.function(x)
        return found.to(x.device) if isinstance(found, Tensor) else found

    @property
    def kind(self) -> str:
        """Its qualified name."""
        named = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{named.__module__}.{named.__qualname__}"

    @property
    def digest(self) -> str:
        """The SHA-256 of its name and, where it is written in Python, its bytecode: all that can be known of it."""
        code, body = getattr(self.function, "__code__", None), b""
        if code is not None:
            plain = [value for value in code.co_consts if isinstance(value, int | float | str)]
            body = code.co_code + repr((code.co_names, plain)).encode()
        return hashlib.sha256(self.kind.encode() + body).hexdigest()


def tell_device(network: nn.Module, device: torch.device, on_event: Event) -> None:
    """Say where a network that others run does not run on the run's device."""
    module = getattr(network, "module", None)
    if isinstance(module, Outside) and (told := module.elsewhere(device)):
        on_event({"event": "assumed", "model": network.name, "assumed": told})


def check_learns(network: nn.Module, name: str) -> None:
    """Raises InputError (4) for a network that others run, where one is needed that can learn."""
    if isinstance(getattr(network, "module", None), Outside):
        raise InputError(f"{name}: cannot learn, because PyTorch does not run it; give the weights that it is made of.")
