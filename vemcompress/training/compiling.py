"""torch.compile for the parts of a step whose shapes never change, on a GPU as CUDA graphs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator
from vemcompress.networks.energy import EnergyModel
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.norms import SyncBatchNorm2d
from vemcompress.training.learner import Learner
from vemcompress.weights.outside import Outside

# What each kind of network computes. Discriminators are not among them: a compiled backward gives all gradients, and
# of theirs each update needs another part; nor is what the losses do, which is little.
ENTRIES = {Generator: ("forward_with_taps",), FeatureNetwork: ("forward",), EnergyModel: ("prepare", "evaluate")}


def options(device: torch.device) -> dict[str, str]:
    """What torch.compile is asked for on a device: CUDA graphs on a GPU, its default elsewhere."""
    return {"mode": "reduce-overhead"} if device.type == "cuda" else {}


def compile_networks(learner: nn.Module, device: torch.device) -> None:
    """Compile the networks' entries in place, at their first call for each shape and precision.

    Weights, names and files stay as they are. On a GPU whole entries replay as CUDA graphs, which is what a step at
    batch 1 needs, since launching its kernels one by one takes longer than they do. Among several ranks a graph ends
    where BatchNorm waits for the others. Raises UsageError for a learner whose networks cannot be compiled.
    """
    settings = options(device)
    reasons = [module.uncompiled for module in learner.modules() if isinstance(module, Learner) and module.uncompiled]
    if reasons:
        raise UsageError(f"--compile: {reasons[0]}; omit it.")
    for module in learner.modules():
        if isinstance(module, SyncBatchNorm2d | Outside):
            module.forward = torch.compiler.disable(module.forward)
        for name in (name for kind, names in ENTRIES.items() if isinstance(module, kind) for name in names):
            setattr(module, name, torch.compile(getattr(module, name), dynamic=False, **settings))


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Turn what a compiler cannot do (none is installed, say) into UsageError."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"--compile: PyTorch cannot compile here ({reason:.200}); omit it.") from error


def as_written():
    """While inside, nothing is compiled: for pictures and scores, whose shapes and modes are others."""
    if "torch._dynamo" not in sys.modules:  # nothing is, and importing the compiler takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
