"""VGG16's weights: a checked download that leaves stdout to --json."""

import hashlib
import socket
import time

import pytest
import torch
from torchvision.models import vgg16

from vemcompress.errors import NetworkError
from vemcompress.weights import features


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_vgg_is_downloaded_without_a_word_checked_and_kept(hub, tmp_path, monkeypatch, capfd):
    torch.manual_seed(0)
    state = {k: v for k, v in vgg16(weights=None).state_dict().items() if k.startswith("features.")}
    published = tmp_path / "vgg16-random.pth"
    torch.save(state, published)
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    monkeypatch.setattr(features, "VGG16_URL", published.as_uri())
    monkeypatch.setattr(features, "VGG16_SHA256", digest[:8])
    network = features.load_features("vgg16", None)
    assert torch.equal(network.layers.state_dict()["0.weight"], state["features.0.weight"])
    assert [p.name for p in hub.iterdir()] == [published.name]
    published.unlink()
    features.load_features("vgg16", None)
    assert capfd.readouterr() == ("", "")


def test_vggs_hash_is_the_one_in_the_files_name():
    assert features.VGG16_URL.endswith(f"/vgg16-{features.VGG16_SHA256}.pth")


@pytest.mark.parametrize("page", [None, b"a login page"])
def test_a_download_that_fails_names_the_way_out(page, hub, tmp_path, monkeypatch, capfd):
    if page is not None:
        (tmp_path / "vgg16.pth").write_bytes(page)
    monkeypatch.setattr(features, "VGG16_URL", (tmp_path / "vgg16.pth").as_uri())
    with pytest.raises(NetworkError, match=r"VGG16's weights cannot be downloaded \(.*features_weights=PATH"):
        features.load_features("vgg16", None)
    assert list(hub.iterdir()) == [] and capfd.readouterr().out == ""


@pytest.fixture
def silent_server():
    """It accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/vgg16-397923af.pth"


def test_a_silent_server_is_given_up_soon_and_the_ways_out_are_told(hub, silent_server, monkeypatch):
    monkeypatch.setattr(features, "_CONTACT_SECONDS", 0.2)
    monkeypatch.setattr(features, "VGG16_URL", silent_server)
    with pytest.raises(NetworkError) as caught:
        features.load_features("vgg16", None)
    for word in (
        "timed out",  # after the patched seconds: urlopen alone would wait without end
        silent_server,
        str(hub),
        "algorithm.features_weights=PATH",
        "algorithm.features=none",
        "squeezenet1_1",
    ):
        assert word in str(caught.value)


def test_a_name_server_that_is_silent_is_given_up_soon(hub, monkeypatch):
    monkeypatch.setattr(features, "_CONTACT_SECONDS", 0.1)
    monkeypatch.setattr(features, "VGG16_URL", "https://example.invalid/vgg16-397923af.pth")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    with pytest.raises(NetworkError, match="no answer within"):
        features.load_features("vgg16", None)
