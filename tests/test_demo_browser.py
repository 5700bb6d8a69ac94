"""`vemcompress demo` in a real headless Chromium: the page's pixels are those that ONNX Runtime gives here."""

import base64
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from export_toys import latent_toy, toy
from PIL import Image

from vemcompress.commands.demo import demo
from vemcompress.data import latents
from vemcompress.errors import NetworkError
from vemcompress.export.browser.runtime import fetched_runtime
from vemcompress.export.browser.serve import open_server
from vemcompress.export.exporting import export_onnx
from vemcompress.networks import build_generator, parse_config
from vemcompress.system.events import silent
from vemcompress.weights.artifact import save_generator
from vemcompress.weights.graphs.session import open_onnx

READ = """() => {
  const canvas = document.getElementById("output"), { width, height } = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return [height, width, btoa(Array.from(data, (value) => String.fromCharCode(value)).join(""))];
}"""


@pytest.fixture(scope="module", autouse=True)
def web(tmp_path_factory):
    """ONNX Runtime Web, once for all tests here, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        try:
            fetched_runtime(silent)
        except NetworkError as error:
            pytest.skip(str(error))
        yield


@pytest.fixture
def visit(browser):
    """Open a demo's folder in a new page, which must ask its own server alone: with our server's headers or without."""
    servers, pages, errors = [], [], []

    def opened(folder: Path, *, isolated: bool = True, query: str = ""):
        server = open_server(folder, 0) if isolated else _plain(folder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        page, address = browser.new_page(), f"http://127.0.0.1:{server.server_port}/"
        pages.append(page)
        page.on("request", lambda request: errors.append(request.url) if not request.url.startswith(address) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address + query)
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield opened
    for page in pages:
        page.close()
    for server in servers:
        server.shutdown()
        server.server_close()
    assert [error for error in errors if not error.startswith(("data:", "blob:"))] == []


def _plain(folder: Path) -> ThreadingHTTPServer:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))


def pixels(page, number: int) -> np.ndarray:
    """The canvas once picture `number` is there: uint8, H x W x 3."""
    page.wait_for_selector(f"body[data-shown='{number}']")
    height, width, data = page.evaluate(READ)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]


def levels_apart(seen: np.ndarray, expected: np.ndarray) -> int:
    assert seen.shape == expected.shape and expected.std() > 4
    return int(np.abs(seen.astype(int) - expected).max())


@pytest.fixture
def photo(tmp_path) -> Path:
    """No side is a multiple of what networks take."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    Image.fromarray(noise).resize((62, 45), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def dense():
    torch.manual_seed(0)
    about = {"family": "mobile_resnet", "width": 8, "blocks": 1, "in_channels": 3, "out_channels": 11}
    return build_generator(parse_config(about)).eval()


@pytest.mark.parametrize(
    ("network", "dtype"),
    [
        (lambda: toy("resnet"), "uint8"),
        (lambda: toy("unet_instance"), "uint8"),  # grey
        (lambda: toy("srgan"), "uint8"),  # four times the size
        (dense, "float32"),  # the page pads, normalises, and colours classes
    ],
    ids=["resnet", "grey", "super-resolution", "classes"],
)
def test_a_photo_becomes_what_onnx_runtime_makes_of_it(network, dtype, photo, visit, tmp_path):
    save_generator(tmp_path / "model.safetensors", network())
    assert demo(tmp_path / "model.safetensors", tmp_path / "demo").model["dtype"] == dtype
    page = visit(tmp_path / "demo")
    page.set_input_files("#file", photo)
    seen = pixels(page, 1)
    model, image = open_onnx(tmp_path / "demo" / "model.onnx"), Image.open(photo)
    given = np.asarray(image.convert("L"))[..., None] if model.channels == 1 else np.asarray(image)
    expected = np.broadcast_to(model(given[None])[0], seen.shape)
    assert levels_apart(seen, expected) <= 2
    assert "ms a frame" in page.inner_text("#status")
    height, width = seen.shape[:2]
    assert f"62×45→{width}×{height}px" in page.inner_text("#status").replace(" ", "").replace("\xa0", "")


@pytest.mark.parametrize("name", ["dcgan", "stylegan2"])
def test_a_seed_draws_the_image_that_generate_draws(name, visit, tmp_path):
    export_onnx(latent_toy(name), tmp_path / "g.onnx")
    prior, model = (
        demo(tmp_path / "g.onnx", tmp_path / "demo").model["prior"],
        open_onnx(tmp_path / "g.onnx", latents=True),
    )
    first, last = (latents.draw(prior, 6, seed, [0])[0] for seed in (7, 8))
    page = visit(tmp_path / "demo")
    pixels(page, 1)
    page.fill("#seed", "7")
    assert levels_apart(pixels(page, 2), model(first[None])[0]) <= 2
    page.locator("#truncation").fill("0.6")
    assert levels_apart(pixels(page, 3), model(first[None], 0.6)[0]) <= 2
    page.locator("#truncation").fill("1")
    page.fill("#seed-to", "8")
    page.locator("#share").fill("0.5")
    middle = latents.between(first, last, 3, prior)[1:2]
    assert levels_apart(pixels(page, 6), model(middle)[0]) <= 2
    page.click("#random")
    pixels(page, 7)
    assert page.input_value("#seed") != "7"
    draw = f"import('./latents.js').then((module) => Array.from(module.vector('{prior}', 20000, {2**31 - 1})))"
    expected = latents.draw(prior, 20000, 2**31 - 1, [0])[0]  # enough for each of the ziggurat's branches
    assert np.array_equal(np.array(page.evaluate(draw), np.float32), expected)


def test_the_camera_runs_and_threads_need_the_servers_headers(visit, photo, tmp_path):
    save_generator(tmp_path / "model.safetensors", toy("resnet"))
    demo(tmp_path / "model.safetensors", tmp_path / "demo")
    page = visit(tmp_path / "demo", query="?threads=2")
    assert "2 threads." in page.inner_text("#runtime")
    page.select_option("#size", "128")
    page.click("#camera")
    page.wait_for_selector("#status:has-text('a second')")
    page.click("#camera")
    assert page.evaluate(READ)[:2] == [96, 128]
    assert page.inner_text("#camera") == "Use camera"
    page = visit(tmp_path / "demo", isolated=False, query="?threads=2")
    assert "1 thread: this server does not send" in page.inner_text("#runtime")
    page.reload()
    page.wait_for_selector("#drop")
    page.set_input_files("#file", photo)  # before the network is there: it waits
    assert pixels(page, 1).shape == (45, 62, 3)
