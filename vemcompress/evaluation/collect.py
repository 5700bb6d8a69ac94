"""One pass over the test images: both generators, their fidelity to each other and the features of their outputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vemcompress.data.images import ImageError
from vemcompress.errors import InputError, NumericalError
from vemcompress.evaluation import fidelity
from vemcompress.evaluation.batches import batches, to_bytes, to_network
from vemcompress.evaluation.features import Extractor
from vemcompress.evaluation.frechet import double_device
from vemcompress.evaluation.statistics import OnEvent, checked_features

_FIDELITY = {"ssim_teacher": fidelity.ssim, "psnr_teacher": fidelity.psnr, "l1_teacher": fidelity.l1}

# Rec. 601, as Pillow turns colours into grey.
_LUMA = (0.299, 0.587, 0.114)


class Features:
    """Features of a growing set of images, by extractor."""

    def __init__(self, extractors: Sequence[Extractor]):
        self._extractors, self.count = extractors, 0
        self._rows: dict[str, list[Tensor]] = {e.name: [] for e in extractors}

    def add(self, images: Tensor) -> None:
        """Take in B x 3 x H x W uint8 images on the extractors' device."""
        self.count += len(images)
        for extractor in self._extractors:
            self._rows[extractor.name].append(checked_features(extractor, images).float().cpu())

    def matrix(self, name: str) -> Tensor:
        """N x D float32, in the images' order."""
        return torch.cat(self._rows[name])


@dataclass
class Pass:
    """How images are read: side in pixels (None: as they are), batch, device, and where events go. `unreadable`
    collects path: reason."""

    size: int | None
    batch: int
    device: torch.device
    report: OnEvent
    unreadable: dict[str, str] = field(default_factory=dict)

    def images(self, stage: str, paths: Sequence[Path]) -> Iterator[tuple[list[Path], Tensor]]:
        """Names and uint8 images on the device, with an event for every batch; InputError where none can be read."""
        done = 0
        for names, images in batches(paths, self.size, self.batch, self._on_bad):
            yield names, images.to(self.device)
            done += len(names)
            self.report({"event": "eval", "stage": stage, "done": done, "total": len(paths)})
        if not done:
            first = f"{paths[0]}: {self.unreadable[str(paths[0])]}"
            raise InputError(f"none of {len(paths)} images could be read (the first, {first}); give other images.")

    def _on_bad(self, error: ImageError) -> None:
        self.unreadable[str(error.path)] = error.reason
        self.report({"event": "eval", "stage": "unreadable", "path": str(error.path), "reason": error.reason})


@dataclass
class Generated:
    """Number of images, mean fidelity by metric, and the features of both generators' outputs."""

    images: int
    fidelity: dict[str, float]
    student: Features
    teacher: Features | None


@torch.no_grad()
def generate(
    student: nn.Module,
    teacher: nn.Module | None,
    paths: Sequence[Path],
    extractors: Sequence[Extractor],
    names: Sequence[str],
    reading: Pass,
) -> Generated:
    """Run both generators once on every image. `names` are the fidelity metrics to compute.

    Raises NumericalError where an output is not finite, InputError where the two outputs differ in shape.
    """
    sums = dict.fromkeys(names, 0.0)
    out = Generated(0, {}, Features(extractors), None if teacher is None else Features(extractors))
    exact = double_device(reading.device)
    with _evaluating(student, teacher):
        for files, images in reading.images("generate", paths):
            x = to_network(images)
            s = _run(student, "student", x, files)
            if extractors:
                out.student.add(_as_rgb(to_bytes(s)))
            if teacher is not None:
                t = _run(teacher, "teacher", x, files)
                if t.shape != s.shape:
                    raise InputError(
                        f"the student gives images of {_shape(s)} and the teacher of {_shape(t)}; "
                        "evaluate a student with its own teacher."
                    )
                if extractors:
                    out.teacher.add(_as_rgb(to_bytes(t)))
                pair = [(v.to(exact).float() + 1) / 2 for v in (s, t)] if names else []
                for name in names:
                    sums[name] += float(_FIDELITY[name](*pair).sum())
            out.images += len(files)
    out.fidelity = {name: value / out.images for name, value in sums.items()}
    return out


@torch.no_grad()
def collect(paths: Sequence[Path], extractors: Sequence[Extractor], reading: Pass) -> Features:
    """The features of real images, read and resized as the inputs are."""
    features = Features(extractors)
    for _, images in reading.images("real", paths):
        features.add(images)
    return features


def _run(model: nn.Module, role: str, x: Tensor, files: list[Path]) -> Tensor:
    channels = getattr(getattr(model, "config", None), "in_channels", 3)
    if channels == 1:
        x = (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    elif channels != 3:
        raise InputError(f"the {role} takes {channels} channels; eval feeds photos of 3, or 1 in grey.")
    y = model(x)
    finite = torch.isfinite(y).flatten(1).all(1)
    if not finite.all():
        bad = files[int((~finite).nonzero()[0, 0])]
        raise NumericalError(f"the {role} gives NaN or Inf for {bad}; its weights are damaged, use another checkpoint.")
    return y


def _as_rgb(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] != 3:
        raise InputError(f"the generator gives {images.shape[1]} channels; feature networks compare images of 1 or 3.")
    return images


def _shape(images: Tensor) -> str:
    return "x".join(str(n) for n in images.shape[1:])


@contextmanager
def _evaluating(*models: nn.Module | None) -> Iterator[None]:
    """Evaluation mode, and every module's own mode again afterwards."""
    before = [(module, module.training) for model in models if model is not None for module in model.modules()]
    for model in models:
        if model is not None:
            model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
