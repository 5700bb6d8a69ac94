"""A quick quality check on a few images at the end of a run, if no best checkpoint was picked."""

import torch

from vemcompress.commands import parts
from vemcompress.commands.facts import Facts
from vemcompress.data.latent_set import VECTORS
from vemcompress.errors import InputError
from vemcompress.networks.base import Generator
from vemcompress.training.compiling import as_written

IMAGES = 8


def quality(facts: Facts, network: Generator, device: torch.device) -> dict | None:
    """Mean SSIM and PSNR to the frozen teacher, or to the ground truth if there is none: {"on", "images", "metrics"}.

    At most 8 images are used: held-out images, or training images if none are held out, or images from 8 latent vectors
    that training never uses. None if there is neither teacher nor ground truth, if the images can no longer be read,
    and for class scores, for which these metrics have no meaning.
    """
    if facts.images.scores:
        return None
    from vemcompress.evaluation.fidelity import WINDOW, psnr, ssim  # late: evaluation takes a second to import

    images, channels = facts.held_out or facts.images, facts.original.channels
    try:
        inputs, targets = images.spread(IMAGES).views(channels, IMAGES)
    except InputError:
        return None
    with as_written():
        if facts.frozen:
            against, wanted = "teacher", parts.at_work(facts.original, inputs, device)
        elif targets is not None:
            against, wanted = "target", targets.to(device)
        else:
            return None
        made = parts.at_work(network, inputs, device)
    kinds = {"ssim": ssim, "psnr": psnr} if min(made.shape[-2:]) >= WINDOW else {"psnr": psnr}
    a, b = ((images.cpu() + 1) / 2 for images in (made, wanted))
    found = {f"{kind}_{against}": measure(a, b).mean().item() for kind, measure in kinds.items()}
    on = VECTORS if facts.original.takes.kind == "latent" else "held_out" if facts.held_out else "training"
    return {"on": on, "images": len(inputs), "metrics": found}
