"""The transformer network of fast neural style (Johnson et al., ECCV 2016) in the form of pytorch/examples."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from vemcompress.networks.base import Norm
from vemcompress.networks.generators.resampled import EnlargedConv, ResampledResNet, ResampledResNetConfig


class FastNeuralStyleConfig(ResampledResNetConfig):
    """As `ResNetConfig`, with 9x9 ends, affine instance norms and nearest enlargement; all convolutions pad by
    reflection. `width = 32` and 5 blocks are the published ones."""

    published_blocks: ClassVar = 5
    ends: ClassVar = 9

    family: Literal["fast_neural_style"] = "fast_neural_style"
    norm: Norm = "instance_affine"
    downsample: Literal["reflect"] = "reflect"
    upsample: Literal["nearest"] = "nearest"
    padding: Literal["reflect"] = "reflect"


class FastNeuralStyle(ResampledResNet):
    """`ResNet` in this form, without tanh; taps and channel groups as there. The published network works in 0..255;
    loading scales its first and last convolution, so that this one takes and returns [-1, 1].

    The published output has no bounds. In evaluation mode it is clamped to [-1, 1]; a network that learns is not,
    because a clamped pixel has no gradient, and would stay where it is.
    """

    config_class: ClassVar = FastNeuralStyleConfig

    def _up(self, inputs: int, outputs: int) -> nn.Module:
        config = self.config
        return EnlargedConv(inputs, outputs, config.upsample, config.biased, config.padding_mode)

    def _image(self, h: Tensor) -> Tensor:
        return h if self.training else h.clamp(-1, 1)
