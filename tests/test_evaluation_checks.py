"""A pass that never waits for its device: checks come late but come, features come back whole."""

import pytest
import torch
from torch import nn

from vemcompress.data import samples
from vemcompress.errors import NumericalError
from vemcompress.evaluation import distances
from vemcompress.evaluation.distances import Features
from vemcompress.evaluation.fidelity import Sum
from vemcompress.evaluation.gather import Checks, Views

GOOD, BAD = torch.ones(2, 3), torch.tensor([[1.0, 2.0], [1.0, float("nan")]])


class Mean(nn.Module):
    """Features that tell images apart."""

    name = "mean"

    def forward(self, images):
        return images.float().mean((2, 3))


class Event:
    """CUDA's, as far as the order of looks is concerned."""

    def record(self, stream):
        assert stream == "of cuda:1"
        self.recorded = True

    def synchronize(self):
        assert self.recorded


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"of {device}")
    return Checks("cuda:1")


def error(finite):
    return NumericalError(f"finite: {finite.tolist()}")


def test_off_a_gpu_an_error_is_there_at_once():
    with pytest.raises(NumericalError, match=r"\[True, False\]"):
        Checks("cpu").add(BAD, error)


def test_on_a_gpu_an_error_waits_until_the_next_batch_is_queued(late):
    late.add(GOOD, error)
    late.turn()
    late.add(BAD, error)
    late.turn()
    late.add(GOOD, error)
    with pytest.raises(NumericalError, match=r"\[True, False\]"):
        late.turn()


@pytest.mark.parametrize("turned", [True, False])
def test_the_end_leaves_nothing_unchecked(late, turned):
    late.add(BAD, error)
    if turned:
        late.turn()
    with pytest.raises(NumericalError):
        late.finish()


def test_features_come_back_in_order_however_few_may_wait(monkeypatch):
    monkeypatch.setattr(distances, "_ROWS", 5)
    features = Features(Mean())
    given = torch.arange(14, dtype=torch.uint8)[:, None, None, None].expand(14, 3, 4, 4)
    for images in given.split(3):
        features.add(Views({"student": images}, Checks("cpu")), "student")
        assert sum(map(len, features._fresh)) < 5
    assert features.matrix()[:, 0].tolist() == list(range(14))
    assert torch.equal(features.matrix(), features.matrix())


def test_sums_of_fidelity_do_not_depend_on_the_batches():
    made, target = torch.rand(2, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    means = []
    for size in (1, 4, 6):
        sums = {kind: Sum(kind, "target") for kind in ("l1", "psnr")}
        for a, b in zip(made.split(size), target.split(size), strict=True):
            for of_kind in sums.values():
                of_kind.add(Views({"student": a, "target": b}, Checks("cpu")), "student")
        means.append({kind: float(of_kind.value) / 6 for kind, of_kind in sums.items()})
    assert means[0] == pytest.approx(means[1], rel=1e-12) and means[0] == pytest.approx(means[2], rel=1e-12)


@pytest.mark.parametrize(("free", "size", "expected"), [(70, 256, 64), (8, 256, 32), (8, 1024, 8), (70, 512, 64)])
def test_a_gpu_takes_as_many_images_at_a_time_as_its_memory_allows(monkeypatch, free, size, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free << 30, 80 << 30))
    assert samples.default_batch(torch.device("cuda"), size) == expected
    assert samples.default_batch(torch.device("cpu"), size) == 8
