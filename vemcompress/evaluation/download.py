"""The Inception's weights from where pytorch-fid publishes them."""

import hashlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_fid.inception
import torch

from vemcompress.errors import NetworkError, OutputError

# Of the file at pytorch_fid.inception.FID_WEIGHTS_URL, whose name carries the first eight digits.
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_TIMEOUT_SECONDS = 30.0


def downloaded_inception() -> Path:
    """The weights' file in torch.hub's folder, downloaded where absent; its SHA-256 is checked every time.

    Raises NetworkError where it cannot be had or is damaged, OutputError where the folder cannot be made.
    """
    url = pytorch_fid.inception.FID_WEIGHTS_URL
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        _download(url, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != INCEPTION_SHA256:
        raise NetworkError(
            f"{path}: a damaged download (SHA-256 {found[:8]} and not {INCEPTION_SHA256[:8]}); delete it to get it "
            "again, or give the file with --inception PATH."
        )
    return path


def _download(url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be made ({error.strerror}); set TORCH_HOME to another place."
        ) from error
    try:
        with _socket_timeout(_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise NetworkError(
            f"the Inception weights could not be had from {url} ({error}); go online, or give the file with "
            "--inception PATH."
        ) from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub sets no time limit, so that a silent network would hold the evaluation for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
