"""Feature networks: pytorch-fid's Inception from a file or a checked download, SqueezeNet under its own name."""

import hashlib

import pytest
import pytorch_fid.inception as published
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from toys import random_inception_file

from vemcompress.errors import InputError, NetworkError, UsageError
from vemcompress.evaluation import extractors
from vemcompress.evaluation.extractors import Inception, SqueezeNet, load_extractor


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory):
    return random_inception_file(tmp_path_factory.mktemp("inception") / "inception.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def images(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_inception_is_pytorch_fids(inception_file, monkeypatch):
    state = torch.load(inception_file, weights_only=True)
    monkeypatch.setattr(published, "load_state_dict_from_url", lambda *_, **__: state)
    with torch.no_grad():
        expected = published.InceptionV3().eval()(images() / 255.0)[0].flatten(1)
        found = Inception(inception_file)(images())
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, expected)


def test_a_file_that_is_not_inceptions_is_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not the Inception weights"):
        Inception(tmp_path / "other.safetensors")
    assert published.load_state_dict_from_url.__module__.startswith("torch")


def test_a_download_that_fails_names_the_way_out(hub, monkeypatch):
    monkeypatch.setattr(published, "FID_WEIGHTS_URL", "http://127.0.0.1:9/pt_inception-6726825d.pth")
    with pytest.raises(NetworkError, match="--inception PATH"):
        Inception()
    assert list(hub.iterdir()) == []


def test_a_download_with_another_hash_is_refused_and_not_kept(hub, tmp_path, monkeypatch):
    (tmp_path / "pt_inception-6726825d.pth").write_bytes(b"a login page")
    monkeypatch.setattr(published, "FID_WEIGHTS_URL", (tmp_path / "pt_inception-6726825d.pth").as_uri())
    with pytest.raises(NetworkError, match="hash"):
        Inception()
    assert list(hub.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_not_used(hub):
    hub.mkdir(parents=True)
    (hub / published.FID_WEIGHTS_URL.rsplit("/", 1)[-1]).write_bytes(b"half of it")
    with pytest.raises(NetworkError, match="damaged download"):
        Inception()


def test_a_download_with_the_right_hash_is_used_and_kept(hub, inception_file, monkeypatch):
    digest = hashlib.sha256(inception_file.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "FID_WEIGHTS_URL", inception_file.as_uri())
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", digest)
    assert Inception().fingerprint() == Inception(inception_file).fingerprint()
    assert [p.name for p in hub.iterdir()] == [inception_file.name]


def squeezenet_files(folder):
    torch.manual_seed(0)
    state = squeezenet1_1(weights=None).state_dict()
    trunk = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    torch.save(state, folder / "whole.pth")
    save_file({f"features.{k}": v for k, v in trunk.items()}, folder / "prefixed.safetensors")
    save_file(trunk, folder / "trunk_caffe.safetensors")
    return [folder / name for name in ("whole.pth", "prefixed.safetensors", "trunk_caffe.safetensors")]


def test_squeezenet_takes_the_whole_state_or_the_trunk(tmp_path):
    found = [SqueezeNet("squeezenet1_1", path)(images()) for path in squeezenet_files(tmp_path)]
    assert found[0].shape == (2, 512)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_plain_squeezenet_takes_the_convention_of_the_files_name(tmp_path):
    whole, _, caffe = squeezenet_files(tmp_path)
    assert load_extractor("squeezenet", whole).name == "squeezenet1_1"
    assert load_extractor("squeezenet", caffe).name == "squeezenet1_1_caffe"


def test_other_weights_and_other_names_are_refused(tmp_path):
    save_file({"0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="squeezenet1_1"):
        SqueezeNet("squeezenet1_1", tmp_path / "part.safetensors")
    with pytest.raises(UsageError, match="squeezenet1_1_caffe"):
        load_extractor("resnet50", tmp_path / "part.safetensors")
    with pytest.raises(UsageError, match="--features-weights"):
        load_extractor("squeezenet1_1")


def test_fingerprints_tell_weights_apart(tmp_path):
    whole, prefixed, _ = squeezenet_files(tmp_path)
    first, same = SqueezeNet("squeezenet1_1", whole), SqueezeNet("squeezenet1_1", prefixed)
    assert first.fingerprint() == same.fingerprint()
    with torch.no_grad():
        first.network.layers[0].weight[0, 0, 0, 0] += 1
    assert first.fingerprint() != same.fingerprint()
