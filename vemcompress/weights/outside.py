"""Networks that are not PyTorch modules: the user's functions. An .onnx file is another kind, in `graphs.teacher`."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError
from vemcompress.system.events import Event


class Outside(nn.Module):
    """A network from images to images, B x C x H x W, that PyTorch does not run. It has no weights here and cannot
    be trained, so copies share it. `tried_channels`: the input channels to try.
    """

    tried_channels: tuple[int, ...] = (3, 1, 4)

    def elsewhere(self, device: torch.device) -> str:
        """A sentence if it cannot run on this device, else ""."""
        return ""

    def __deepcopy__(self, memo: dict) -> "Outside":
        return self


class Function(Outside):
    """A function, or any other callable, given by the user."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        """The function's output for images on their device; an output tensor is moved to that device."""
        found = self.function(x)
        return found.to(x.device) if isinstance(found, Tensor) else found

    @property
    def kind(self) -> str:
        """Its qualified name."""
        named = self.function if hasattr(self.function, "__qualname__") else type(self.function)
        return f"{named.__module__}.{named.__qualname__}"

    @property
    def digest(self) -> str:
        """The SHA-256 of its name and, if it is written in Python, of its bytecode."""
        code, body = getattr(self.function, "__code__", None), b""
        if code is not None:
            plain = [value for value in code.co_consts if isinstance(value, int | float | str)]
            body = code.co_code + repr((code.co_names, plain)).encode()
        return hashlib.sha256(self.kind.encode() + body).hexdigest()


def tell_device(network: nn.Module, device: torch.device, on_event: Event) -> None:
    """Report if such a network does not run on the run's device."""
    module = getattr(network, "module", None)
    if isinstance(module, Outside) and (told := module.elsewhere(device)):
        on_event({"event": "assumed", "model": network.name, "assumed": told})


def check_learns(network: nn.Module, name: str) -> None:
    """Raises InputError (4) for such a network where a trainable one is needed."""
    if isinstance(getattr(network, "module", None), Outside):
        raise InputError(f"{name}: cannot be trained, because PyTorch does not run it; give its weights.")
