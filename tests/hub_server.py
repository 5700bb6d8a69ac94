"""A small Hugging Face Hub on loopback that takes commits: what `create_repo` and `create_commit` ask for, and the
files and facts that a download asks for."""

import base64
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote

from huggingface_hub import ModelCard

TOKEN = "hf_good"


class WritableHub(http.server.ThreadingHTTPServer):
    """`repos`: by name {"private", "commits": [{file: bytes}, ...]}; `stored`: large files by SHA-256; `seen`: the
    method and path of every request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.stored, self.seen = {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def newest(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo]["commits"][-1]


def _oid(number: int) -> str:
    return f"{number:040x}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self):
        path = unquote(self.path.partition("?")[0]).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {path}")
        if path.startswith("lfs/"):
            self.server.stored[path.removeprefix("lfs/")] = body
            return self._send({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, message="Invalid credentials in Authorization header")
        if path == "api/repos/create":
            return self._create(json.loads(body))
        if path == "api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._send({"transfer": "basic", "objects": [*map(self._place, json.loads(body)["objects"])]})
        parts = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.server.repos:
            return self._refuse(404, "RepoNotFound")
        if rest[:1] == ["preupload"]:
            return self._send({"files": [*map(_mode, json.loads(body)["files"])]})
        if rest[:1] == ["commit"]:
            return self._commit(repo, [json.loads(line) for line in body.splitlines()])
        if rest[:1] == ["resolve"]:
            return self._send(self.server.newest(repo)[rest[2]], repo)
        return self._send(self._facts(repo), repo)

    def _facts(self, repo: str) -> dict:
        siblings = [{"rfilename": name} for name in self.server.newest(repo)]
        private = self.server.repos[repo]["private"]
        card = self.server.newest(repo).get("README.md", b"").decode()
        header = ModelCard(card).data.to_dict() if card.startswith("---\n") else {}
        return {"id": repo, "sha": self._sha(repo), "private": private, "siblings": siblings, "cardData": header}

    def _sha(self, repo: str) -> str:
        return _oid(len(self.server.repos[repo]["commits"]))

    def _create(self, asked: dict) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.server.repos:
            self._send({"url": f"{self.server.url}/{repo}"}, status=409)
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.repos[repo] = {"private": bool(private), "commits": [{}]}
        self._send({"url": f"{self.server.url}/{repo}"})

    def _place(self, file: dict) -> dict:
        return file | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{file['oid']}"}}}

    def _commit(self, repo: str, lines: list[dict]) -> None:
        files = dict(self.server.newest(repo))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.server.repos[repo]["commits"].append(files)
        self._send({"commitUrl": f"{self.server.url}/{repo}/commit/x", "commitOid": self._sha(repo)})

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def _send(self, what: dict | bytes, repo: str = "", status: int = 200) -> None:
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if body is what else "application/json")
        self.send_header("Content-Length", str(len(body)))
        if repo:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", self._sha(repo))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def _mode(file: dict) -> dict:
    large = file["path"].endswith((".safetensors", ".onnx"))
    return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
