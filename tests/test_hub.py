"""hf:// addresses, against a small Hub on loopback and then from the cache with the Hub gone."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from urllib.parse import unquote

import pytest

from vemcompress.errors import InputError, NetworkError, UsageError
from vemcompress.weights.hub import Address, choose, parse

COMMIT = "a" * 40
CARD = b"---\nlicense: apache-2.0\n---\n# A generator\n"
REPOS = {
    "user/single": {"README.md": CARD, "g.safetensors": b"the weights", "old.pth": b"x", "G.pkl": b"x"},
    "user/several": {"a.safetensors": b"a", "deep/b.safetensors": b"b"},
    "user/torch": {"latest_net_G.pth": b"torch"},
    "user/pickles": {"G.pkl": b"\x80\x04"},
    "user/gated": {"g.safetensors": b"secret"},
    "user/down": {},
    "user/page": {},
}


class Hub(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks for: a model's information, and its files by HEAD and GET."""

    def do_GET(self):
        path = unquote(self.path.partition("?")[0]).strip("/")
        if path.startswith("api/models/"):
            repo, _, revision = path.removeprefix("api/models/").partition("/revision/")
            self._with_repo(repo, revision or "main", self._information)
        else:
            repo, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._with_repo(repo, revision, lambda repo: self._file(repo, file))

    do_HEAD = do_GET

    def _with_repo(self, repo, revision, answer):
        if repo == "user/down":
            self._refuse(503, "")
        elif repo == "user/page":
            self._send(b"<html>log in first</html>", "text/html")
        elif repo not in REPOS:
            self._refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            answer(repo)

    def _information(self, repo):
        siblings = [{"rfilename": name} for name in REPOS[repo]]
        self._send(json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode(), "application/json")

    def _file(self, repo, file):
        if repo == "user/gated":
            self._refuse(403, "GatedRepo")
        elif file not in REPOS[repo]:
            self._refuse(404, "EntryNotFound")
        else:
            self._send(REPOS[repo][file], "application/octet-stream")

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


SCRIPT = """
import json, sys
from vemcompress.errors import VemError
from vemcompress.weights.hub import fetch
for source in sys.argv[1:]:
    try:
        f = fetch(source)
        print(json.dumps([f.path.read_bytes().decode(), f.repo, f.revision, f.licence]))
    except VemError as error:
        print(json.dumps([type(error).__name__, str(error)]))
assert "torch" not in sys.modules
"""


def fetch_all(endpoint: str, home, *sources: str, **environment: str) -> list:
    """Each source's file, or its error, as a process of its own sees it: the Hub's settings are read at import."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sources], env=clean | settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_files_come_from_the_hub_and_then_from_the_cache(hub, tmp_path):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    sources = ["hf://user/single", f"hf://user/single/old.pth@{COMMIT}", "hf://user/torch"]
    expected = [
        ["the weights", "user/single", COMMIT, "apache-2.0"],
        ["x", "user/single", COMMIT, "apache-2.0"],
        ["torch", "user/torch", COMMIT, ""],
    ]
    assert fetch_all(endpoint, tmp_path, *sources) == expected
    hub.shutdown()
    hub.server_close()
    gone, unknown = fetch_all(endpoint, tmp_path, "hf://user/single/g.safetensors", "hf://user/other")
    assert gone == expected[0]
    assert unknown[0] == "NetworkError" and "not in the cache" in unknown[1]
    assert fetch_all(endpoint, tmp_path, "hf://user/torch", HF_HUB_OFFLINE="1") == expected[2:]


def test_what_cannot_be_had_is_a_network_error_that_says_why(hub, tmp_path):
    said = {
        "hf://user/absent": "no such repository",
        "hf://user/gated": "is gated",
        "hf://user/single@v9": "no revision 'v9'",
        "hf://user/single/b.safetensors": "no file 'b.safetensors'",
        "hf://user/several": "a.safetensors, deep/b.safetensors",
        "hf://user/pickles": "no .safetensors, .pth or .pt",
        "hf://user/down": "not in the cache",
        "hf://user/page": "check HF_ENDPOINT",
    }
    errors = fetch_all(f"http://127.0.0.1:{hub.server_port}", tmp_path, *said)
    for (source, words), (kind, message) in zip(said.items(), errors, strict=True):
        assert kind == "NetworkError" and message.startswith(source) and words in message
        assert "\n" not in message


def test_an_endpoint_that_is_no_hub_is_a_network_error(tmp_path):
    ((kind, message),) = fetch_all("http://127.0.0.1:9", tmp_path, "hf://user/single")
    assert kind == "NetworkError" and "connect" in message


def test_addresses_are_taken_apart():
    assert parse("hf://user/repo") == Address("user/repo", "", "main")
    assert parse("hf://u/r/deep/g_1.pt@refs/pr/1") == Address("u/r", "deep/g_1.pt", "refs/pr/1")


@pytest.mark.parametrize(
    "source",
    [
        *("hf://", "hf://user", "hf:/user/repo", "hf://user/", "hf://user//repo", "hf:///etc/passwd.pt"),
        *("hf://../../x.pt", "hf://u/r/../../x.pt", "hf://u/r/..%2f.pt", "hf://u/r\\x.pt", "hf://u/r/a\n.pt"),
        *("hf://u/r@", "hf://u/r@../main", "hf://u/r@a b", "hf://u/r@/x", "hf://u/r/x.txt", "hf://u/.hidden"),
    ],
)
def test_addresses_cannot_leave_their_folder(source):
    with pytest.raises(UsageError):
        parse(source)


def test_a_pickle_is_never_fetched():
    with pytest.raises(InputError, match="pickles can run code"):
        parse("hf://user/repo/network-snapshot.pkl")


def test_the_single_weight_file_is_chosen():
    assert choose(["README.md", "b.safetensors", "a.pth", "c.pt"], "x") == "b.safetensors"
    with pytest.raises(NetworkError, match=r"a\.pth, c\.pt"):
        choose(["a.pth", "c.pt"], "x")
