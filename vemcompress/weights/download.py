"""Published weights by their address: quiet, checked, kept in torch.hub's folder."""

import hashlib
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vemcompress.errors import NetworkError, OutputError

_TIMEOUT_SECONDS = 30.0


def downloaded(url: str, sha256: str, *, failed: str, remedy: str) -> Path:
    """The file in torch.hub's folder, downloaded where absent; its SHA-256 is checked every time.

    `sha256` is the sum or how it begins; `failed` and `remedy` begin and end the sentence for a failed download.
    Raises NetworkError where the file cannot be had or is damaged, OutputError where the folder cannot be made.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "set TORCH_HOME to another place"
            raise OutputError(f"{path.parent}: cannot be made ({error.strerror}); {hint}.") from error
        try:
            with _socket_timeout(_TIMEOUT_SECONDS):
                torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise NetworkError(f"{failed} ({reason}); {remedy}.") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256):
        raise NetworkError(
            f"{path}: a damaged download (SHA-256 {found[:8]} and not {sha256[:8]}); delete it to get it again."
        )
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub sets no time limit, so that a silent network would hold the command for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
