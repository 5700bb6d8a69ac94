"""Improved precision and recall against hand numbers and a plain form."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.evaluation import precision
from vemcompress.evaluation.choose import METRICS, choose
from vemcompress.evaluation.distances import Features
from vemcompress.evaluation.extractors import Extractor
from vemcompress.evaluation.gather import Gathered
from vemcompress.evaluation.metric import Given, Tools
from vemcompress.evaluation.precision import radii, share_inside

NAMES = ["precision_squeezenet1_1", "recall_squeezenet1_1"]


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def gathered(**rows: Tensor) -> Gathered:
    found = Gathered()
    for role, matrix in rows.items():
        found[role, "squeezenet1_1"] = Features(Extractor())
        found[role, "squeezenet1_1"]._rows.append(matrix)
    return found


def scores(made: Tensor, real: Tensor) -> tuple[float, float]:
    roles, tools = gathered(student=made, real=real), Tools(torch.device("cpu"), 32)
    return tuple(METRICS[name].figures("student", roles, tools)[name] for name in NAMES)


def plain(points: np.ndarray, centres: np.ndarray, k: int) -> float:
    """As the paper writes it, one pair at a time."""
    reach = [
        sorted(np.linalg.norm(c - other) for other in np.delete(centres, i, 0))[k - 1] for i, c in enumerate(centres)
    ]
    inside = [any(np.linalg.norm(p - c) <= r for c, r in zip(centres, reach, strict=True)) for p in points]
    return sum(inside) / len(points)


def test_hand_numbers():
    """The spheres of 0, 1, 3, 7 reach over 1, 1, 2 and 4; those of 20, 21, 23, 27 likewise."""
    real = column(0, 1, 3, 7)
    assert radii(real, 1).tolist() == [1, 1, 4, 16]
    assert radii(real).tolist() == [49, 36, 16, 49]
    assert share_inside(column(-1, -1.001, 2, 11, 11.001), real, radii(real, 1)) == 3 / 5  # surfaces belong to spheres
    assert scores(column(-7.5, -6.5, 13.5, 14.5), real) == (2 / 4, 4 / 4)


@pytest.mark.parametrize("offset", [0, 1000])
def test_blocks_give_the_plain_form(offset, monkeypatch):
    rng = np.random.default_rng(0)
    real, made = (rng.normal(size=(n, 5)).astype(np.float32) * s + offset for n, s in ((40, 1), (30, 1.2)))
    monkeypatch.setattr(precision, "_BLOCK_BYTES", 8 * 40 * 7)  # 7 rows, which divide neither
    found = scores(torch.from_numpy(made), torch.from_numpy(real))
    assert found == (plain(made, real, 3), plain(real, made, 3))
    assert 0 < found[0] < 1 and 0 < found[1] < 1


def test_copies_are_neighbours_of_each_other_and_lie_in_spheres_without_extent():
    points = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * 30 + 100
    real = points.repeat_interleave(4, 0)
    assert scores(points, real)[0] == scores(real, real)[0] == scores(real, real)[1] == 1
    assert scores(points + 0.01, real)[0] == 0


def test_one_mode_is_precise_and_recalls_half():
    rng = torch.Generator().manual_seed(0)
    left, right, made = (torch.randn(200, 2, generator=rng) + of for of in (0, 50, 0))
    found = scores(made, torch.cat((left, right)))
    assert found[0] > 0.9 and 0.4 < found[1] < 0.51


def test_fewer_images_than_neighbours_are_an_error():
    with pytest.raises(InputError, match="3 are too few images for precision with 3 neighbours; give at least 4"):
        scores(column(0, 1, 2), column(0, 1, 2, 3))


def test_they_are_default_for_latent_vectors_alone_and_there_by_name():
    given = Given(real="images", features=("squeezenet1_1",))
    assert not set(NAMES) & {metric.name for metric in choose(None, given).metrics}
    assert [metric.name for metric in choose(NAMES, given).metrics] == NAMES
    given = Given(real="images", features=("squeezenet1_1",), latent=True)
    assert set(NAMES) < {metric.name for metric in choose(None, given).metrics}
    given = Given(real="statistics", features=("squeezenet1_1",), latent=True)
    assert "not only their statistics" in choose(None, given).skipped[NAMES[0]]


def test_the_real_spheres_are_computed_once_for_all_networks(monkeypatch):
    counted, computed = [], precision.radii
    monkeypatch.setattr(precision, "radii", lambda x: counted.append(len(x)) or computed(x))
    roles, tools = gathered(student=column(*range(5)), teacher=column(*range(6)), real=column(*range(7))), None
    tools = Tools(torch.device("cpu"), 32)
    for role in ("student", "teacher"):
        for name in NAMES:
            METRICS[name].figures(role, roles, tools)
    assert sorted(counted) == [5, 6, 7]
