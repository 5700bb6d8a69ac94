"""A web server for the demo on the loopback address, with the headers that WebAssembly threads need."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from vemcompress.errors import InputError, UsageError
from vemcompress.export.browser.site import is_demo
from vemcompress.system.events import Event, silent

HOST, PORT = "127.0.0.1", 8000


class _Handler(SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {
        ".html": "text/html",
        ".css": "text/css",
        ".js": "text/javascript",
        ".json": "application/json",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Print nothing if the browser closed the connection early."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def open_server(folder: Path, port: int = PORT) -> ThreadingHTTPServer:
    """A server for this folder on the loopback address, not yet running; port 0 chooses a free port. Raises UsageError
    (2) for a port that cannot be used."""
    try:
        return _Server((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise UsageError(
            f"port {port}: cannot be used ({(error.strerror or str(error)).lower()}); choose another with --port."
        ) from error


def serve_demo(folder: Path, port: int = PORT, on_event: Event = silent) -> None:
    """Serve a demo until Ctrl-C. Event: {"event": "demo", "stage": "serve", "folder", "address"}. Raises InputError (4)
    for a folder without a demo, and UsageError (2) as `open_server`."""
    if not is_demo(folder):
        raise InputError(f"{folder}: has no demo; make one with `vemcompress demo MODEL --out {folder}`.")
    server = open_server(folder, port)
    address = f"http://{HOST}:{server.server_port}/"
    with server, suppress(KeyboardInterrupt), _interruptible():
        on_event({"event": "demo", "stage": "serve", "folder": str(folder), "address": address})
        server.serve_forever()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside this context, Ctrl-C raises KeyboardInterrupt, even if the program handles it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
