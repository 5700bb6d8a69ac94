"""Running a generator for a measurement: in evaluation mode, checked, and its images as others can be compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from vemcompress.errors import InputError, NumericalError
from vemcompress.evaluation.checks import Checks


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every module's own mode again afterwards."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def output_of(model: nn.Module, role: str, x: Tensor, files: Sequence[Path], checks: Checks | None = None) -> Tensor:
    """What a generator makes of a batch; NumericalError naming the file where it is not finite, from `checks`' next
    look where they are given."""

    def error(finite: Tensor) -> NumericalError:
        bad = files[int((~finite).nonzero()[0, 0])]
        return NumericalError(
            f"the {role} gives NaN or Inf for {bad}; its weights are damaged, use another checkpoint."
        )

    y = model(x)
    (checks or Checks("cpu")).add(y, error)
    return y


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1], or uint8, to floats in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else (images.float() + 1) / 2


def as_rgb(images: Tensor) -> Tensor:
    """B x 3 x H x W of images of 1 or 3 channels; InputError for others."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] != 3:
        raise InputError(f"the generator gives {images.shape[1]} channels; feature networks compare images of 1 or 3.")
    return images


def same_shape(made: Tensor, other: Tensor, whose: str, advice: str) -> None:
    """Raises InputError where the student's images cannot be laid beside others."""
    if made.shape != other.shape:
        sizes = ["x".join(map(str, images.shape[1:])) for images in (made, other)]
        raise InputError(f"the student gives images of {sizes[0]} and {whose} of {sizes[1]}; {advice}.")
