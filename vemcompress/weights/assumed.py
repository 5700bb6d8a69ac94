"""Assumptions of loading about things that a published file does not store, in words; `inspect` shows them."""

from torch import nn

from vemcompress.networks.base import Generator, ImageInput, LatentInput
from vemcompress.networks.joint_norms import JointNorm
from vemcompress.weights.layouts import Layout

_OWN = "by each image's own statistics"
_COLOURS = {1: "grey in [-1, 1]", 3: "RGB in [-1, 1]"}


def assumed(layout: Layout, network: Generator, *, norm: str, padding: str | None) -> dict[str, str]:
    """Assumptions about a network of this layout, by name: the `range` of its images, `padding`, the statistics of
    its `norm`, and what else the layout lists. `norm` and `padding` are the user's.
    """
    found = {"range": _range(network.takes, network.out_channels), **layout.assumes}
    if padding is not None:
        found["padding"] = f"{padding} as given"
    elif "padding" not in found and hasattr(network.config, "padding"):
        found["padding"] = f"{network.config.padding} (not stored in the file; see --teacher-padding)"
    modules = list(network.modules())
    if any(isinstance(module, nn.BatchNorm2d) for module in modules):
        found["norm"] = "by the stored statistics (each image's own with teacher.norm = 'batch')"
    elif norm == "batch":
        found["norm"] = f"{_OWN} as given"
    elif any(isinstance(module, nn.InstanceNorm2d | JointNorm) for module in modules):
        found["norm"] = _OWN
    return found


def _range(takes: ImageInput | LatentInput, outputs: int) -> str:
    given = _COLOURS.get(outputs, f"{outputs} channels in [-1, 1]")
    if takes.kind == "latent":
        return f"{'N(0, 1)' if takes.prior == 'normal' else 'uniform in [-1, 1]'} to {given}"
    taken = _COLOURS.get(takes.channels, f"{takes.channels} channels as in training")
    return given if taken == given else f"{taken} to {given}"
