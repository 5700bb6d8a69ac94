"""Recognises the published layout of a set of tensors, and explains what an unknown one looks like."""

from itertools import pairwise

import torch

from vemcompress.errors import InputError
from vemcompress.networks import GENERATORS
from vemcompress.networks.base import Generator
from vemcompress.weights.layouts import Layout, Tensors, convert
from vemcompress.weights.published.animegan2 import ANIMEGAN2
from vemcompress.weights.published.cartoongan import CARTOONGAN
from vemcompress.weights.published.fast_neural_style import FAST_NEURAL_STYLE
from vemcompress.weights.published.inception_resnet import INCEPTION_RESNET, INCEPTION_RESNET_UNTRACKED
from vemcompress.weights.published.latent import DCGAN, DCGAN_REFINED, SAGAN
from vemcompress.weights.published.pix2pixhd import LOCAL_ENHANCER
from vemcompress.weights.published.resampled import CUT, NAMED, UPSAMPLED
from vemcompress.weights.published.resnet import DEEP_MOBILE_RESNET, MOBILE_RESNET, PIX2PIXHD, RESNET
from vemcompress.weights.published.stylegan2 import ADA, ROSINALITY
from vemcompress.weights.published.super_resolution import OLD_RRDB, RRDB, SRGAN, SRVGG
from vemcompress.weights.published.ugatit import UGATIT
from vemcompress.weights.published.unet import DEEP_UNET, UNET
from vemcompress.weights.wrappers import strip_prefixes

# The first match is used: the deep mobile form also has the names of a mobile ResNet, and others those of a ResNet.
LAYOUTS = (DEEP_MOBILE_RESNET, DEEP_UNET, MOBILE_RESNET, CUT, LOCAL_ENHANCER, PIX2PIXHD, RESNET, UNET, CARTOONGAN)
LAYOUTS += (UPSAMPLED, NAMED, FAST_NEURAL_STYLE, ANIMEGAN2, UGATIT)
LAYOUTS += (INCEPTION_RESNET, INCEPTION_RESNET_UNTRACKED, SAGAN, DCGAN, DCGAN_REFINED, ROSINALITY, ADA)
LAYOUTS += (SRGAN, SRVGG, RRDB, OLD_RRDB)

# A part of a tensor name, and the network that has it; the first match is reported.
_SIGNS = (
    ("magnitude_ema", "StyleGAN3, which has no StyleGAN2 or image-to-image form"),
    ("weight_bar", "a network with hand-written spectral norm, and not GCC's SAGAN generator"),
    ("to_rgb", "a StyleGAN of another layout than rosinality's StyleGAN2 and StyleGAN2-ADA"),
    (".filt", "an anti-aliased (CUT) network of another shape than its default ResNet"),
    ("final_linear.1.weight", "StyleGAN2's discriminator"),
    ("b4.out.weight", "StyleGAN2-ADA's discriminator"),
    ("block1s.0.block.0.weight", "OMGD's discriminator for two teachers"),
    ("stages.0.conv.weight", "a discriminator of vemcompress"),
    ("stages.0.0.conv.weight", "a discriminator of vemcompress for two teachers"),
)


def hint(tensors: Tensors) -> str:
    """The text " (looks like ...)", or ""."""
    for sign, what in _SIGNS:
        if any(sign in name for name in tensors):
            return f" (looks like {what})"
    kernels = {name: tensor.shape for name, tensor in tensors.items() if tensor.dim() == 4}
    if _is_dcgan(list(kernels.values())):
        return " (looks like a DCGAN of another layout than pytorch/examples)"
    return " (looks like a discriminator)" if _is_discriminator(tensors, kernels) else ""


def _is_dcgan(kernels: list[torch.Size]) -> bool:
    """Only transposed convolutions, in x out, with ever fewer channels, down to those of an image."""
    if not kernels or kernels[0][2:] != (4, 4) or kernels[0][1] <= 4 or kernels[-1][1] > 3:
        return False
    return all(after[0] <= before[0] and after[1] <= before[1] for before, after in pairwise(kernels))


def _is_discriminator(tensors: Tensors, kernels: dict[str, torch.Size]) -> bool:
    """Only 4x4 convolutions with ever more channels and a single one at the end: nothing upsamples."""
    outputs = [kernel[0] for kernel in kernels.values()]
    if len(outputs) < 2 or outputs[-1] != 1 or any(kernel[2:] != (4, 4) for kernel in kernels.values()):
        return False
    if any(before > after for before, after in pairwise(outputs[:-1])):
        return False
    biases = {name: tensors.get(f"{name.removesuffix('weight')}bias") for name in kernels}
    # A transposed convolution is in x out, and its bias has as many elements as outputs.
    return all(bias is None or bias.shape == kernels[name][:1] for name, bias in biases.items())


def is_known(tensors: Tensors) -> bool:
    """Whether tensors have the names of a published generator, possibly after a common prefix."""
    tensors = strip_prefixes(tensors)[0]
    return any(layout.matches(candidate) for candidate in _candidates(tensors) for layout in LAYOUTS)


def _candidates(tensors: Tensors) -> list[Tensors]:
    if tensors and all(name.startswith("model.") for name in tensors):  # possibly one wrapper more than published
        return [tensors, {name.removeprefix("model."): tensor for name, tensor in tensors.items()}]
    return [tensors]


def recognise(tensors: Tensors, source: str) -> tuple[Generator, Layout]:
    """Our network with these published weights, in eval mode, and the layout. Raises InputError (4) for an unknown
    layout, or for a known one with a missing, surplus or misshapen tensor.
    """
    for candidate in _candidates(tensors):
        for layout in LAYOUTS:
            if layout.matches(candidate):
                return convert(layout, candidate, source), layout
    first, looks = next(iter(tensors)), hint(tensors)
    seen = f"{source}: not a known generator: {len(tensors)} tensors, first {first!r:.80}{looks}. "
    if "discriminator" in looks:
        raise InputError(f"{seen}Give the generator's file, such as latest_net_G.pth.")
    raise InputError(f"{seen}Known: {', '.join(GENERATORS)}. Use --teacher-class module:Class for your own.")
