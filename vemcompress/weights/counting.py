"""MACs of a network that no Config describes, counted while it runs."""

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError
from vemcompress.networks.base import count_parameters
from vemcompress.networks.cost import Cost

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def macs_by_hooks(module: nn.Module, in_channels: int, height: int, width: int, device: str = "cpu") -> Cost:
    """Parameters and MACs (as `networks.cost`) of any network for one image, counted while it runs: convolutions,
    linear layers and norms. Raises InputError where the network does not run at this size."""
    seen: list[Cost] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(_layer_cost(layer, inputs[0], output))

    counted = [m for m in module.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear, *_NORMS))]
    handles = [m.register_forward_hook(count) for m in counted]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, in_channels, height, width, device=device))
    except Exception as error:
        raise InputError(f"does not run at {height} x {width} ({first_line(error)}): choose another size") from error
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return sum(seen, Cost(parameters=count_parameters(module)))


def _layer_cost(layer: nn.Module, x: Tensor, output: Tensor) -> Cost:
    if isinstance(layer, _NORMS):
        return Cost(norm=output.numel())
    if isinstance(layer, nn.Linear):
        return Cost(output.numel() * layer.in_features, output.numel() * layer.in_features)
    per_pixel = layer.weight.numel()  # one position: all inputs of a group, all outputs, the kernel
    on_output = per_pixel * output[0, 0].numel()
    on_input = per_pixel * x[0, 0].numel()
    return Cost(on_input if isinstance(layer, nn.ConvTranspose2d) else on_output, on_output)


def first_line(error: Exception) -> str:
    """The first line of a foreign error, short enough for a sentence."""
    return (str(error).strip().splitlines() or [""])[0][:160]
