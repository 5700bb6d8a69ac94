"""Layout of pix2pixHD's local enhancer (NVIDIA/pix2pixHD).

The global generator, `resnet`'s Sequential without its last three layers, is `model`. Beside it are `model1_1` (7x7 at
1, downsampling at 4) and `model1_2` (blocks from 0, then the upsampling, and the 7x7 four places further).
"""

import re

from vemcompress.networks.generators.local_enhancer import LocalEnhancerConfig
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, has, shape
from vemcompress.weights.published.resnet import block_names, read_shapes, sequential, without_biases

_BLOCK = re.compile(r"model1_2\.(\d{1,4})\.conv_block\.")


def _read(tensors: Tensors) -> Read:
    names, blocks, _ = sequential(tensors, "model")
    found = sorted({int(match[1]) for name in tensors if (match := _BLOCK.match(name))})
    if not found or found != list(range(len(found))):
        raise Mismatch("its local blocks are not the layers from model1_2.0 on")
    up = f"model1_2.{len(found)}"
    names |= {"local_stem": "model1_1.1", "local_stem_norm": "model1_1.2", "local_down": "model1_1.4"}
    names |= {"local_down_norm": "model1_1.5", "local_up": up, "local_up_norm": f"model1_2.{len(found) + 1}"}
    names |= block_names(tensors, "local_blocks", [f"model1_2.{index}" for index in found])
    names["head"] = f"model1_2.{len(found) + 4}"
    local = shape(tensors, "model1_1.1.weight")[0], shape(tensors, f"{up}.weight")[1]
    inner = tuple(shape(tensors, f"model1_2.{index}.conv_block.1.weight")[0] for index in found)
    return read_shapes(tensors, LocalEnhancerConfig, names, blocks, local=local, local_blocks=inner)


LOCAL_ENHANCER = Layout(
    "pix2pixHD local enhancer",
    has("model1_1.1.weight", "model1_2.0.conv_block.1.weight"),
    _read,
    prepare=without_biases,
)
