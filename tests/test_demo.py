"""`vemcompress demo`: the folder of a web page, ONNX Runtime Web in it, and its web server. Browsers are in
test_demo_browser."""

import base64
import errno
import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.request import urlopen

import onnx
import onnxruntime
import pytest
from export_toys import toy
from onnx import parser
from onnx_toys import tanh_graph

from vemcompress.commands.demo import demo
from vemcompress.errors import InputError, NetworkError, OutputError, UsageError
from vemcompress.export.browser import runtime as package
from vemcompress.export.browser.facts import for_browsers
from vemcompress.export.browser.runtime import VERSION, given_runtime
from vemcompress.export.exporting import export_onnx
from vemcompress.weights.artifact import save_generator

FILES = {
    *("index.html", "style.css", "page.js", "photos.js", "worker.js", "latents.js", "model.json"),
    *(
        "model.onnx",
        "onnxruntime/LICENSE",
        "onnxruntime/ort.wasm.bundle.min.js",
        "onnxruntime/ort-wasm-simd-threaded.wasm",
    ),
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "night.onnx"
    export_onnx(toy("resnet"), path, uint8=True, metadata={"source": "/home/someone/runs/night", "licence": "MIT"})
    return path


def contents(version: str = "9.9.9") -> dict[str, bytes]:
    about = json.dumps({"name": "onnxruntime-web", "version": version}).encode()
    return {"package.json": about, package.SCRIPT: b"script", package.WASM: b"wasm"}


def packed(files: dict[str, bytes]) -> bytes:
    """As npm has packages: a .tgz of a folder `package`."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def web(tmp_path) -> Path:
    """The package's folder, as in node_modules."""
    for name, content in contents().items():
        (tmp_path / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "web" / name).write_bytes(content)
    return tmp_path / "web"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A cache of its own, and a PATH with an npm that packs what is given, or with none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(data: bytes | None) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("PATH", str(folder))
        (folder / "npm").unlink(missing_ok=True)
        if data is not None:
            (tmp_path / "packed").write_bytes(data)
            (folder / "npm").write_text(f"#!/bin/sh\n/bin/cat '{tmp_path}/packed' > onnxruntime-web.tgz\n")
            (folder / "npm").chmod(0o755)

    return install


def there(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_the_page_the_model_and_the_runtime_alone(call, graph, web, tmp_path):
    out = tmp_path / "new" / "demo"
    code, text, err = call("demo", graph, "-o", out, "--onnxruntime-web", web, "--title", "<Night>", "--json")
    assert code == 0, err
    told = json.loads(text)
    assert there(out) == FILES == set(told["files"])
    written, given = onnx.load(out / "model.onnx"), onnx.load(graph)
    assert written.graph == given.graph and written.opset_import == given.opset_import  # all but its metadata
    assert told["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert told["onnxruntime_web"] == "9.9.9" and "MIT License" in (out / "onnxruntime" / "LICENSE").read_text()
    facts = json.loads((out / "model.json").read_text())
    assert (facts["title"], facts["dtype"], facts["channels"]) == ("<Night>", "uint8", 3)
    assert facts["size"] in facts["sizes"] and facts["made_by"] == "vemcompress demo"
    shown = dict(map(tuple, facts["shown"]))
    assert (shown["Source"], shown["Licence"]) == ("night", "MIT")  # no folders of the machine that made it
    assert "Teacher" not in shown and "multiplications" in shown["Computation"]


def test_the_page_names_no_other_server(graph, web, tmp_path):
    demo(graph, tmp_path / "demo", onnxruntime_web=web)
    page = [path for path in (tmp_path / "demo").iterdir() if path.suffix in (".html", ".css", ".js")]
    assert len(page) == 6
    assert [path.name for path in page if re.search(r"(https?|wss?):|[\"'(]//", path.read_text())] == []
    assert "default-src 'self'" in (tmp_path / "demo" / "index.html").read_text()


def test_only_an_older_demo_is_replaced(graph, web, tmp_path):
    out = tmp_path / "demo"
    out.mkdir()
    demo(graph, out, onnxruntime_web=web, title="first")
    demo(graph, out, onnxruntime_web=web, title="second")
    assert json.loads((out / "model.json").read_text())["title"] == "second" and there(out) == FILES
    (out / "CNAME").write_text("mine")
    with pytest.raises(UsageError, match="CNAME beside an older demo"):
        demo(graph, out, onnxruntime_web=web)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for place in ("photos", "link", "photos/a.jpg"):
        with pytest.raises(UsageError, match="new"):
            demo(graph, tmp_path / place, onnxruntime_web=web)
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"mine" and (out / "CNAME").is_file()


def test_a_full_disk_leaves_the_older_demo_and_nothing_else(graph, web, tmp_path, monkeypatch):
    out = tmp_path / "site" / "demo"
    demo(graph, out, onnxruntime_web=web, title="first")

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="disk is full"):
        demo(graph, out, onnxruntime_web=web, title="second")
    assert json.loads((out / "model.json").read_text())["title"] == "first"
    assert there(out) == FILES and [path.name for path in out.parent.iterdir()] == ["demo"]


def test_what_npm_fetches_must_be_the_published_package(call, graph, npm, tmp_path):
    npm(packed(contents(VERSION)))
    code, _, err = call("demo", graph, "-o", tmp_path / "demo")
    assert code == 8 and "SHA-512" in err and "--onnxruntime-web" in err
    assert not (tmp_path / "demo").exists() and not (tmp_path / "cache").exists()


def test_the_package_is_fetched_once_and_checked_every_time(graph, npm, tmp_path, monkeypatch):
    data = packed(contents(VERSION))
    sum512 = base64.b64encode(hashlib.sha512(data).digest()).decode()
    monkeypatch.setattr(package, "INTEGRITY", f"sha512-{sum512}")
    npm(data)
    heard = []
    for _ in range(2):
        result = demo(graph, tmp_path / "demo", on_event=heard.append)
    assert result.onnxruntime_web == VERSION
    assert [event["stage"] for event in heard] == ["fetch"]
    (kept,) = (tmp_path / "cache" / "vemcompress").iterdir()
    kept.write_bytes(data + b"x")
    npm(None)
    with pytest.raises(NetworkError, match="npm is not installed"):
        demo(graph, tmp_path / "demo")


def test_without_npm_the_error_says_what_to_install_or_give(call, graph, npm, tmp_path):
    npm(None)
    code, _, err = call("demo", graph, "-o", tmp_path / "demo")
    assert code == 8 and "install Node.js with npm, or give --onnxruntime-web" in err
    assert len(err.splitlines()) == 1 and not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (packed(contents(VERSION)), "is not the published package"),
        (packed(contents())[:-40], "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (packed(contents() | {package.WASM: b""}), "has no dist/ort-wasm"),
        (packed(contents() | {"package.json": b'{"name": "other"}'}), "names another"),
        (packed({f"../{name}": data for name, data in contents().items()}), "has no package.json"),
    ],
)
def test_an_archive_that_is_not_the_package_is_refused(data, said, tmp_path):
    (tmp_path / "web.tgz").write_bytes(data)
    with pytest.raises(InputError, match=said):
        given_runtime(tmp_path / "web.tgz")
    assert [path.name for path in tmp_path.iterdir()] == ["web.tgz"]


def test_an_archive_is_taken_of_another_version_and_without_end_is_refused(tmp_path, monkeypatch):
    (tmp_path / "web.tgz").write_bytes(packed(contents() | {"../../evil": b"x", "large": bytes(200_000)}))
    given = given_runtime(tmp_path / "web.tgz")
    assert given.version == "9.9.9" and given.files["ort-wasm-simd-threaded.wasm"] == b"wasm"
    assert [path.name for path in tmp_path.iterdir()] == ["web.tgz"]
    monkeypatch.setattr(package, "_LARGEST_UNPACKED", 100_000)
    with pytest.raises(InputError, match="unpacks to more than"):
        given_runtime(tmp_path / "web.tgz")


def test_a_truncation_that_may_be_left_out_becomes_an_input():
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 18]>
        g (float[N, 6] z, float truncation) => (float[N, 6] y) <float truncation = {1.0}>
        { y = Mul(z, truncation) }
    """)
    data = model.SerializeToString()
    sessions = [
        onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"]) for given in (data, for_browsers(data))
    ]
    assert [[value.name for value in s.get_inputs()] for s in sessions] == [["z"], ["z", "truncation"]]


def test_a_page_holds_no_folders_of_the_machine_that_made_it(call, graph, web, tmp_path):
    assert b"someone" in graph.read_bytes()
    assert call("demo", graph, "-o", tmp_path / "demo", "--onnxruntime-web", web)[0] == 0
    assert not any(b"someone" in path.read_bytes() for path in (tmp_path / "demo").rglob("*") if path.is_file())


def test_graphs_of_others_and_networks_without_photos_are_refused(call, graph, web, tmp_path):
    tanh_graph(tmp_path / "theirs.onnx")
    code, _, err = call("demo", tmp_path / "theirs.onnx", "-o", tmp_path / "demo", "--onnxruntime-web", web)
    assert code == 4 and "was not exported by vemcompress" in err
    save_generator(tmp_path / "labels.safetensors", toy("of_labels"))
    code, _, err = call("demo", tmp_path / "labels.safetensors", "-o", tmp_path / "demo", "--onnxruntime-web", web)
    assert code == 4 and "its input has 11 channels, so it is not a photo" in err
    assert call("demo", graph, "-o", tmp_path / "demo", "--widths", "8_8")[0] == 2
    assert call("demo", "-o", tmp_path / "demo")[0] == 2 and not (tmp_path / "demo").exists()


def test_the_server_isolates_the_page_and_ends_at_ctrl_c_with_0(graph, web, tmp_path):
    demo(graph, tmp_path / "demo", onnxruntime_web=web)
    command = [sys.executable, "-m", "vemcompress", "demo", "-o", tmp_path / "demo", "--serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        address = re.search(r"http://127\.0\.0\.1:\d+/", server.stderr.readline())[0]
        for name, kind in (("", "text/html"), ("worker.js", "text/javascript"), ("model.onnx", "octet-stream")):
            with urlopen(address + name) as answer:
                assert kind in answer.headers["Content-Type"]
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0 and server.stderr.read() == ""


def test_serving_needs_a_demo_and_a_free_port(call, graph, web, tmp_path):
    code, _, err = call("demo", "--serve", "-o", tmp_path)
    assert code == 4 and "has no demo" in err
    assert call("demo", graph, "-o", tmp_path / "demo", "--port", 1)[0] == 2
