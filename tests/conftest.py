"""What several test files ask for by name."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from toys import toy_images, toy_teacher_file

from vemcompress.cli import main
from vemcompress.errors import NetworkError
from vemcompress.evaluation import choose, load_extractor

# One thread, here and in the processes that tests start: workers share the cores, and sums over several threads can
# differ in the last bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
sys.modules.setdefault("openvino_telemetry", None)  # `importorskip("openvino")` would report to a web service


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vemcompress", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture(autouse=True, scope="session")
def config_folder(tmp_path_factory):
    """The user's config folder, which a test must not change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def one_thread():
    """As in the processes that tests start: sums over several threads could differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A toy teacher's file, and a folder of four images."""
    folder = tmp_path_factory.mktemp("inputs")
    return toy_teacher_file(folder / "teacher.safetensors"), toy_images(folder / "images", 4)


@pytest.fixture(scope="session")
def squeezenet_weights(tmp_path_factory):
    """A file of random SqueezeNet 1.1 features, the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = squeezenet1_1(weights=None).features.state_dict()
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def no_inception(monkeypatch):
    """Inception's weights cannot be downloaded."""

    def load(name, weights=None):
        if name == "inception_pool3":
            raise NetworkError("no network; give --inception PATH.")
        return load_extractor(name, weights)

    monkeypatch.setattr(choose, "load_extractor", load)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and published weights; skips where it is absent."""
    folder = os.environ.get("VEMCOMPRESS_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VEMCOMPRESS_TEST_DATA names no folder")
    return Path(folder)


CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window, which asks nobody by itself."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=list(CHROMIUM))
        yield opened
        opened.close()
