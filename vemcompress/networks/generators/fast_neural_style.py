"""The fast-neural-style generator (Johnson et al., ECCV 2016), as in pytorch/examples."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from vemcompress.networks.base import Norm
from vemcompress.networks.generators.resampled import EnlargedConv, ResampledResNet, ResampledResNetConfig


class FastNeuralStyleConfig(ResampledResNetConfig):
    """As `ResNetConfig`, with 9x9 first and last convolutions, affine instance norms and nearest-neighbour
    upsampling; all convolutions use reflection padding. `width = 32` and 5 blocks are the published values.
    """

    published_blocks: ClassVar = 5
    ends: ClassVar = 9

    family: Literal["fast_neural_style"] = "fast_neural_style"
    norm: Norm = "instance_affine"
    downsample: Literal["reflect"] = "reflect"
    upsample: Literal["nearest"] = "nearest"
    padding: Literal["reflect"] = "reflect"


class FastNeuralStyle(ResampledResNet):
    """`ResNet` in this form, without tanh; the same taps and channel groups. The published network uses images in [0,
    255]; loading scales its first and last convolution, so this one uses [-1, 1].

    The published output is not bounded. In evaluation mode it is clamped to [-1, 1]. In training mode it is not,
    because a clamped pixel has no gradient and could not change.
    """

    config_class: ClassVar = FastNeuralStyleConfig

    def _up(self, inputs: int, outputs: int) -> nn.Module:
        config = self.config
        return EnlargedConv(inputs, outputs, config.upsample, config.biased, config.padding_mode)

    def _image(self, h: Tensor) -> Tensor:
        return h if self.training else h.clamp(-1, 1)
