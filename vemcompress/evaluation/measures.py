"""What the best checkpoint can be picked by: figures of a generator over images that are read once and kept."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vemcompress.data.images import ImageError
from vemcompress.data.sets import ImageSet
from vemcompress.errors import InputError
from vemcompress.evaluation import fidelity
from vemcompress.evaluation.batches import batches, to_bytes, to_network
from vemcompress.evaluation.features import INCEPTION, Extractor
from vemcompress.evaluation.frechet import Accumulator, Statistics, distance, double_device
from vemcompress.evaluation.inputs import Batch, Inputs
from vemcompress.evaluation.running import as_rgb, evaluating, output_of, to_unit
from vemcompress.evaluation.segmenters import Segmenter
from vemcompress.evaluation.statistics import OnEvent, checked_features
from vemcompress.evaluation.truths import meter
from vemcompress.networks.features import FeatureNetwork
from vemcompress.system import distributed

BATCH = 8

# The batches of an image set with what a network made of each, in order.
Made = Iterable[tuple[int, Batch, Tensor]]


class Cached:
    """The readable images of a set, decoded once; networks are fed from here. InputError where there is none.

    Among several ranks each holds its share; `count` are all ranks' images.
    """

    def __init__(self, images: ImageSet, channels: tuple[int, int], device: torch.device, tell: OnEvent, truths: bool):
        def on_bad(error: ImageError) -> None:
            tell({"event": "skipped", "path": str(error.path), "reason": error.reason})

        self.images, self.device, self._tell = images, device, on_bad
        self._inputs = Inputs(images, channels, truths=truths)
        self._samples = distributed.together(lambda: list(self._inputs.samples(2 * BATCH, on_bad)))
        self.count = sum(distributed.collected(len(self._samples)))
        if not self.count:
            raise InputError(f"none of {images.count} images to pick the best by can be read; give other images.")

    def batches(self) -> Iterator[Batch]:
        for start in range(0, len(self._samples), BATCH):
            yield self._inputs.collate(self._samples[start : start + BATCH], self.device)

    def made_by(self, network: nn.Module, role: str = "student") -> Made:
        """In the mode that the network is in."""
        for number, batch in enumerate(self.batches()):
            yield number, batch, output_of(network, role, batch.x, batch.files)

    def real(self) -> Iterator[Tensor]:
        """Images as they should be, uint8, B x 3 x H x W: the targets of pairs, or the other domain's; this share."""
        if self.images.pairs:
            yield from (as_rgb(batch.targets) for batch in self.batches())
        else:
            targets, size = self.images.found.targets, self.images.settings.size
            paths = [targets[i] for i in distributed.share(len(targets))]
            yield from (real for _, real in batches(paths, size, BATCH, self._tell, self.device))

    def mean(self, values: Callable[[], Iterable[Tensor]]) -> float:
        """The mean over all images, of sums over batches."""
        return distributed.total(distributed.together(lambda: float(sum(values())))) / self.count


@dataclass(frozen=True)
class Given:
    """What a score may be taken with."""

    cached: Cached
    features: Extractor | FeatureNetwork | None
    segmenter: Segmenter | None
    teacher: nn.Module | None


# The name of a score, whether higher is better, and the figure of what a network made.
Measure = tuple[str, bool, Callable[[Made], float]]


def _ssim_teacher(given: Given) -> Measure:
    cached, teacher = given.cached, given.teacher.to(given.cached.device)
    exact = double_device(cached.device)
    with torch.no_grad(), evaluating(teacher):
        outputs = distributed.together(lambda: [to_unit(y).cpu() for _, _, y in cached.made_by(teacher, "teacher")])

    def likeness(number: int, y: Tensor) -> Tensor:
        return fidelity.ssim(to_unit(y).to(exact), outputs[number].to(exact)).sum()

    def measure(made: Made) -> float:
        return cached.mean(lambda: (likeness(number, y) for number, _, y in made))

    return "ssim_teacher", True, measure


def _l1_target(given: Given) -> Measure:
    exact = double_device(given.cached.device)

    def distance_to(target: Tensor, y: Tensor) -> Tensor:
        return fidelity.l1(to_unit(y).to(exact), to_unit(target).to(exact)).sum()

    def measure(made: Made) -> float:
        return given.cached.mean(lambda: (distance_to(batch.targets, y) for _, batch, y in made))

    return "l1_target", False, measure


def _frechet(given: Given) -> Measure:
    device, features = given.cached.device, given.features.to(given.cached.device)
    is_extractor = isinstance(features, Extractor)
    name = "frechet" if not is_extractor else "fid" if features.name == INCEPTION else f"frechet_{features.name}"

    def rows_of(batch: Tensor) -> Tensor:
        return checked_features(features, batch) if is_extractor else features(to_network(batch))[-1].mean((2, 3))

    def statistics(images: Iterable[Tensor]) -> Statistics:
        accumulator = None
        for rows in _of_all_ranks(rows_of(batch) for batch in images):
            accumulator = accumulator or Accumulator(rows.shape[1], device)
            accumulator.add(rows)
        if accumulator is None:
            raise InputError(f"none of the real images to pick the best by '{name}' can be read; give other images.")
        return accumulator.statistics()

    with torch.no_grad():
        real = statistics(given.cached.real())

    def measure(made: Made) -> float:
        return distance(statistics(as_rgb(to_bytes(y)) for _, _, y in made), real, device)

    return name, False, measure


def _miou(given: Given) -> Measure:
    images, segmenter = given.cached.images, given.segmenter
    meter(segmenter, images)  # a segmenter of other classes is refused before the run begins

    def measure(made: Made) -> float:
        found = meter(segmenter, images)

        def add_all() -> None:
            for _, batch, y in made:
                found.add(as_rgb(to_bytes(y)), batch.truths)

        distributed.together(add_all)
        found.merge()
        return 100 * found.result()["miou"]

    return "miou", True, measure


def _of_all_ranks(rows: Iterable[Tensor]) -> Iterable[Tensor]:
    """Every rank's rows of features, in the images' order; a stream where there is one rank."""
    if distributed.ranks() == 1:
        return rows
    parts = distributed.collected(distributed.together(lambda: [part.cpu() for part in rows]))
    return [part for of_rank in parts for part in of_rank]


MEASURES: dict[str, Callable[[Given], Measure]] = {
    "ssim_teacher": _ssim_teacher,
    "l1_target": _l1_target,
    "frechet": _frechet,
    "fid": _frechet,
    "miou": _miou,
}
