"""Layout of CartoonGAN's published PyTorch weights: named layers, scale and shift of the norms, eight blocks, BGR
images.
"""

from vemcompress.networks.generators.cartoongan import CartoonGANConfig
from vemcompress.weights.layouts import PADS, Layout, Read, Tensors, has, shape

_BLOCKS = range(4, 12)  # conv04 to conv11
_NAMES = {"stem": "conv01_1", "stem_norm": "in01_1", "head": "deconv03_1"}
for _step, _conv, _norm in (
    ("down1", "conv02", "in02"),
    ("down2", "conv03", "in03"),
    ("up1", "deconv01", "in12"),
    ("up2", "deconv02", "in13"),
):
    _NAMES |= {f"{_step}.0": f"{_conv}_1", f"{_step}.1": f"{_conv}_2", f"{_step}_norm": f"{_norm}_1"}
for _i, _number in enumerate(_BLOCKS):
    for _layer in (1, 2):
        _NAMES[f"blocks.{_i}.conv{_layer}"] = f"conv{_number:02}_{_layer}"
        _NAMES[f"blocks.{_i}.norm{_layer}"] = f"in{_number:02}_{_layer}"
_LEAVES = {"weight": "scale", "bias": "shift"}


def _read(tensors: Tensors) -> Read:
    steps = ("conv01_1", "conv02_2", "conv03_2", "deconv01_2", "deconv02_2")
    config = CartoonGANConfig(
        in_channels=shape(tensors, "conv01_1.weight")[1],
        out_channels=shape(tensors, "deconv03_1.weight")[0],
        widths=tuple(shape(tensors, f"{name}.weight")[0] for name in steps),
        blocks=tuple(shape(tensors, f"conv{number:02}_1.weight")[0] for number in _BLOCKS),
    )
    return config, _published


def _published(ours: str) -> str:
    module, _, leaf = ours.rpartition(".")
    name = _NAMES[module]
    return f"{name}.{_LEAVES[leaf] if name.startswith('in') else leaf}"


def _to_rgb(tensors: Tensors) -> Tensors:
    """Reverse the image channels of the first and last convolution: BGR to RGB, on both sides."""
    adapted = dict(tensors)
    if tensors["stem.weight"].shape[1] == 3:
        adapted["stem.weight"] = tensors["stem.weight"].flip(1)
    if tensors["head.weight"].shape[0] == 3:
        adapted["head.weight"] = tensors["head.weight"].flip(0)
        adapted["head.bias"] = tensors["head.bias"].flip(0)
    return adapted


_ASSUMES = {"range": "BGR in [-1, 1] (here RGB)"} | PADS
CARTOONGAN = Layout("cartoongan", has("conv01_1.weight", "deconv03_1.weight"), _read, _to_rgb, assumes=_ASSUMES)
