"""What weights look like that are not loaded, so that the message can say more than "unknown"."""

from torch import Tensor

# A part of some name, and what has it; the first that fits is said.
_SIGNS = (
    ("magnitude_ema", "StyleGAN3, which has no StyleGAN2 or image-to-image form"),
    ("convs.0.conv.modulation.weight", "StyleGAN2 in rosinality's layout, which makes images from noise"),
    ("synthesis.b4.const", "StyleGAN2-ADA, which makes images from noise"),
    ("weight_bar", "SAGAN with hand-written spectral norm, which makes images from noise"),
    ("to_rgb", "a StyleGAN, which makes images from noise"),
    (".filt", "a generator with anti-aliased sampling (CUT)"),
    ("block1s.0.block.0.weight", "OMGD's discriminator for two teachers"),
    ("stages.0.conv.weight", "a discriminator of vemcompress"),
    ("stages.0.0.conv.weight", "a discriminator of vemcompress for two teachers"),
)


def hint(tensors: dict[str, Tensor]) -> str:
    """ " (looks like ...)", or nothing."""
    for sign, what in _SIGNS:
        if any(sign in name for name in tensors):
            return f" (looks like {what})"
    kernels = [tensor.shape for tensor in tensors.values() if tensor.dim() == 4]
    if kernels and kernels[0][2:] == (4, 4):
        if kernels[0][1] > 4 and kernels[-1][1] <= 3:  # a transposed convolution is in x out
            return " (looks like a DCGAN, which makes images from noise)"
        if all("up" not in name for name in tensors) and kernels[0][1] <= 8:
            return " (looks like a discriminator)"
    return ""
