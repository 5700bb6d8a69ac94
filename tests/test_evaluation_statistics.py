"""Statistics of folders and their files: ours, pytorch-fid's, and hostile ones."""

import os
import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from pytorch_fid import fid_score
from torch import nn

from vemcompress.data.images import save_png
from vemcompress.errors import InputError, NumericalError, UsageError
from vemcompress.evaluation.extractors import Extractor
from vemcompress.evaluation.frechet import Statistics
from vemcompress.evaluation.statistics import check_fit, compute_statistics, load_statistics, save_statistics


class Toy(Extractor):
    """A fixed random projection of 3 x 8 x 8 pixels, as pytorch-fid calls its network too."""

    name, dims, protocol = "toy", 5, "toy features"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * 8 * 8, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        return images.float().flatten(1) / 255 @ self.weight


class AsPublished(Toy):
    def forward(self, images):
        return [super().forward(images * 255)[:, :, None, None]]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(7):
        save_png(tmp_path / "photos" / f"{i}.png", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return tmp_path / "photos"


def test_statistics_of_a_folder_are_pytorch_fids(folder):
    files = sorted(folder.iterdir())
    mu, sigma = fid_score.calculate_activation_statistics(files, AsPublished(), dims=5, num_workers=0)
    found = compute_statistics(folder, Toy(), batch=3)
    np.testing.assert_allclose(found.mu, mu, rtol=1e-5)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-4, atol=1e-7)
    assert (found.images, found.features, found.size) == (7, "toy", None)


def test_statistics_survive_their_file_and_pytorch_fid_reads_it(folder, tmp_path):
    made = compute_statistics(folder, Toy(), size=8)
    save_statistics(tmp_path / "real.npz", made)
    found = load_statistics(tmp_path / "real.npz")
    mu, sigma = fid_score.compute_statistics_of_path(str(tmp_path / "real.npz"), None, 1, 5, "cpu")
    for one, other in ((found.mu, made.mu), (found.sigma, made.sigma), (mu, made.mu), (sigma, made.sigma)):
        np.testing.assert_array_equal(one, other)
    assert (found.images, found.features, found.size, found.weights) == (7, "toy", 8, Toy().fingerprint())
    check_fit(found, Toy(), "real.npz")
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


def test_published_statistics_without_provenance_are_read(tmp_path):
    np.savez_compressed(tmp_path / "real.npz", mu=np.zeros(5, np.float32), sigma=np.eye(5, dtype=np.float32))
    found = load_statistics(tmp_path / "real.npz")
    assert found.mu.dtype == found.sigma.dtype == np.float64
    assert (found.images, found.features) == (None, None)
    check_fit(found, Toy(), "real.npz")


@pytest.mark.parametrize(
    "statistics",
    [
        Statistics(np.zeros(6), np.eye(6)),
        Statistics(np.zeros(5), np.eye(5), features="inception_pool3"),
        Statistics(np.zeros(5), np.eye(5), features="toy", weights="0" * 64),
    ],
    ids=["dimension", "features", "weights"],
)
def test_statistics_of_other_features_are_refused(statistics):
    with pytest.raises(InputError, match=r"real\.npz: statistics of"):
        check_fit(statistics, Toy(), "real.npz")


def write_raw(path, **arrays):
    """An .npz whose headers may lie about what follows: every value is (shape, dtype, bytes)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, (shape, dtype, data) in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
                member.write(data)


HOSTILE = {
    "pickle": lambda p: np.savez(p, mu=np.array([print, 1], object), sigma=np.eye(2)),
    "huge": lambda p: write_raw(p, mu=((2**33,), "<f8", b""), sigma=((2**33, 2**33), "<f8", b"")),
    "short": lambda p: write_raw(p, mu=((5,), "<f8", b"\0" * 40), sigma=((5, 5), "<f8", b"\0" * 16)),
    "long-name": lambda p: write_raw(
        p,
        mu=((1,), "<f8", b"\0" * 8),
        sigma=((1, 1), "<f8", b"\0" * 8),
        features=((), f"<U{2**28}", b""),
    ),
    "not-square": lambda p: np.savez(p, mu=np.zeros(5), sigma=np.zeros((5, 4))),
    "not-symmetric": lambda p: np.savez(p, mu=np.zeros(3), sigma=np.triu(np.ones((3, 3)))),
    "nan": lambda p: np.savez(p, mu=np.full(3, np.nan), sigma=np.eye(3)),
    "other-arrays": lambda p: np.savez(p, features=np.zeros((4, 5))),
    "text": lambda p: p.write_text("mu = 0"),
    "truncated": lambda p: (np.savez(p, mu=np.zeros(9), sigma=np.eye(9)), p.write_bytes(p.read_bytes()[:400])),
    "absent": lambda p: None,
    "folder": lambda p: p.mkdir(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_statistics_is_refused_in_one_sentence(kind, tmp_path):
    path = tmp_path / "real.npz"
    HOSTILE[kind](path)
    with pytest.raises(InputError, match=r"real\.npz: ") as caught:
        load_statistics(path)
    assert "\n" not in str(caught.value)


def test_bad_images_are_reported_and_left_out(folder):
    (folder / "3.png").write_bytes(b"not a picture")
    events = []
    found = compute_statistics(folder, Toy(), on_event=events.append)
    assert found.images == 6
    assert [e["path"] for e in events if e["stage"] == "unreadable"] == [str(folder / "3.png")]


def test_one_image_is_too_few(folder):
    with pytest.raises(InputError, match="1 of 1"):
        compute_statistics([folder / "0.png"], Toy())


def test_features_that_are_not_finite_stop_the_run(folder):
    extractor = Toy()
    extractor.weight.data[0, 0] = torch.inf
    with pytest.raises(NumericalError, match="toy"):
        compute_statistics(folder, extractor)


def test_another_ending_is_refused_because_nothing_would_recognise_it(tmp_path):
    with pytest.raises(UsageError, match=r"\.npz"):
        save_statistics(tmp_path / "real.stats", Statistics(np.zeros(2), np.eye(2)))


def test_statistics_are_read_from_regular_files_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "zero.npz"):
        with pytest.raises(InputError, match="not a regular file"):
            load_statistics(tmp_path / name)
