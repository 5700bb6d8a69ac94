"""Layout of CAT's inception ResNet (snap-research/CAT): `down_sampling`, `features` with `res_ops` and `dw_ops`,
`up_sampling`.

A pruned network omits removed branches, so the others move up: kernel sizes and widths are read from the shapes.
BatchNorm without running statistics normalises by the batch. At one image per batch this is the image's own statistics,
which is how it is loaded.
"""

import re

from vemcompress.networks import build_generator
from vemcompress.networks.base import use_image_statistics
from vemcompress.networks.generators.inception_resnet import InceptionResNetConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, norm_of, shape

_BRANCH = re.compile(r"features\.(\d+)\.(res|dw)_ops\.(\d+)\.")
_ENDS = {"stem": "down_sampling.1", "down1": "down_sampling.4", "down2": "down_sampling.7"}
_ENDS |= {"up1": "up_sampling.0", "up2": "up_sampling.3", "head": "up_sampling.7"}
_PARTS = {
    "res": {"conv1": "1.0", "norm1": "1.1", "conv2": "4"},
    "dw": {"conv1": "0.0", "norm1": "0.1", "depthwise": "2.0", "norm2": "2.1", "conv2": "4"},
}
_TELLS_KERNEL = {"res": "1.0", "dw": "2.0"}


def _untracked(tensors: Tensors) -> bool:
    """Whether BatchNorm's scales are stored, but neither its statistics nor the biases that precede instance norms."""
    return norm_of(tensors, "down_sampling.2") == "instance_affine" and "down_sampling.1.bias" not in tensors


def _read(tensors: Tensors) -> Read:
    indices = {int(match[1]) for n in tensors if (match := re.match(r"features\.(\d{1,4})\.", n))}
    blocks, names = len(indices), dict(_ENDS)
    if indices != set(range(blocks)):
        raise Mismatch(f"its blocks are not features.0 to features.{blocks - 1}")
    for name, theirs in list(_ENDS.items())[:-1]:
        before, _, index = theirs.rpartition(".")
        names[f"{name}_norm"] = f"{before}.{int(index) + 1}"
    widths: dict[tuple[int, str, int], int] = {}
    for block, kind, place in sorted({_BRANCH.match(n).groups() for n in tensors if _BRANCH.match(n)}):
        theirs = f"features.{block}.{kind}_ops.{place}"
        inner, _, kernel, _ = shape(tensors, f"{theirs}.{_TELLS_KERNEL[kind]}.weight")
        if (int(block), kind, kernel) in widths:
            raise Mismatch(f"'{theirs}' is a second branch of kernel size {kernel}")
        widths[int(block), kind, kernel] = inner
        ours = f"blocks.{block}.branches.{kind}{kernel}"
        names |= {f"{ours}.{leaf}": f"{theirs}.{part}" for leaf, part in _PARTS[kind].items()}
    names |= {f"blocks.{i}.norm": f"features.{i}.pw_bn" for i in range(blocks)}
    kernels = sorted({kernel for _, _, kernel in widths} | {1, 3, 5})
    first = [shape(tensors, f"{_ENDS[name]}.weight")[0] for name in ("stem", "down1", "down2")]
    last = [shape(tensors, f"{_ENDS[name]}.weight")[1] for name in ("up1", "up2")]
    config = InceptionResNetConfig(
        in_channels=shape(tensors, f"{_ENDS['stem']}.weight")[1],
        out_channels=shape(tensors, f"{_ENDS['head']}.weight")[0],
        norm="batch" if _untracked(tensors) else norm_of(tensors, "down_sampling.2"),
        widths=(*first, *last),
        kernels=tuple(kernels),
        blocks=tuple(
            tuple(widths.get((i, kind, kernel), 0) for kind in ("res", "dw") for kernel in kernels)
            for i in range(blocks)
        ),
    )

    def published(ours: str) -> str:
        module, _, leaf = ours.rpartition(".")
        return f"{names[module]}.{leaf}"

    return config, published


def _build_untracked(config: InceptionResNetConfig):
    network = build_generator(config)
    use_image_statistics(network)
    return network


_matches = has("down_sampling.1.weight", "features.0.pw_bn.weight", "up_sampling.7.weight")

INCEPTION_RESNET = Layout("inception_resnet", lambda tensors: _matches(tensors) and not _untracked(tensors), _read)
INCEPTION_RESNET_UNTRACKED = Layout(
    "inception_resnet", lambda tensors: _matches(tensors) and _untracked(tensors), _read, build=_build_untracked
)
