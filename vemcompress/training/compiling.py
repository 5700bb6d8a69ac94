"""torch.compile for the parts of a training step with fixed shapes; on a GPU as CUDA graphs."""

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

# The methods to compile, by kind of network. Discriminators are not compiled: a compiled backward pass computes all
# gradients, but each update needs only some of theirs. Losses are not compiled because they take little time.
ENTRIES = {Generator: ("forward_with_taps",), FeatureNetwork: ("forward",), EnergyModel: ("prepare", "evaluate")}


def options(device: torch.device) -> dict[str, str]:
    """Options for torch.compile: CUDA graphs on a GPU, the defaults elsewhere."""
    return {"mode": "reduce-overhead"} if device.type == "cuda" else {}


def compile_networks(learner: nn.Module, device: torch.device) -> None:
    """Compile the networks' methods in place, at their first call for each shape and precision.

    Weights, names and files do not change. On a GPU whole methods are replayed as CUDA graphs. A step at batch 1 needs
    this, because launching its kernels one by one takes longer than running them. With several ranks a graph ends where
    BatchNorm waits for the other ranks. Raises UsageError for a learner whose networks cannot be compiled.
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
    """Turn a compiler's errors, such as a missing compiler, into UsageError."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"--compile: PyTorch cannot compile here ({reason:.200}); omit it.") from error


def as_written():
    """Context in which nothing is compiled, for pictures and scores, whose shapes and modes differ."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing the compiler takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")
