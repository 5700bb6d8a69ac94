"""ONNX Runtime Web, the npm package that runs ONNX in browsers: downloads it through npm, checks it, and keeps two
files."""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO, RawIOBase
from pathlib import Path
from zlib import error as ZlibError

from vemcompress.errors import InputError, NetworkError, OutputError, first_line
from vemcompress.system.events import Event
from vemcompress.system.files import cache_folder, make_folder, parse_json, read_bytes, write_atomically

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The two files, by their names in the package. The script is served as .js: older web servers do not know .mjs.
SCRIPT, WASM = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"
SERVED = {SCRIPT: "ort.wasm.bundle.min.js", WASM: "ort-wasm-simd-threaded.wasm"}
ABOUT = "package.json"

_LARGEST = 64 << 20  # bytes of one file; WebAssembly has 14 MB
_LARGEST_PACKAGE, _LARGEST_UNPACKED = 256 << 20, 1 << 30  # bytes; 33 MB and 145 MB
_SECONDS = 600  # for npm
_ELSE = f"give --onnxruntime-web with the npm package {PACKAGE}, as a folder or .tgz"


@dataclass(frozen=True)
class Runtime:
    """The package's version, and the files that a page needs, by the names under which they are served."""

    version: str
    files: dict[str, bytes]


def given_runtime(path: Path) -> Runtime:
    """The runtime from the user's copy of the package, a folder or a .tgz. A .tgz of the pinned version must be the
    published one; other versions are not checked. Raises InputError (4)."""
    if path.is_dir():
        found = {name: _of_folder(path, name) for name in (ABOUT, *SERVED)}
        return _runtime(str(path), found)
    try:
        data = read_bytes(path, _LARGEST_PACKAGE)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {_ELSE}.") from error
    runtime = _runtime(str(path), _unpacked(str(path), data))
    if runtime.version == VERSION and not _is_published(data):
        raise InputError(f"{path}: is named {PACKAGE} {VERSION}, but is not the published package; download it again.")
    return runtime


def fetched_runtime(on_event: Event) -> Runtime:
    """The pinned version, from the cache or through npm. Its SHA-512 is checked every time. Event: {"event": "demo",
    "stage": "fetch", "package"} before npm is called. Raises NetworkError (8)."""
    with suppress(OSError, OutputError):
        data = read_bytes(kept := _kept(), _LARGEST_PACKAGE)
        if _is_published(data):
            return _runtime(str(kept), _unpacked(str(kept), data))
    data = _packed(on_event)
    if not _is_published(data):
        raise NetworkError(
            f"{PACKAGE} {VERSION}: npm downloaded another file than the published package (its SHA-512 differs); check "
            f"npm's registry, or {_ELSE}."
        )
    with suppress(OutputError):  # without a cache it is downloaded each time
        make_folder(_kept().parent)
        write_atomically(_kept(), data)
    return _runtime(PACKAGE, _unpacked(PACKAGE, data))


def _kept() -> Path:
    """The package in the cache folder. Raises OutputError."""
    return cache_folder() / f"{PACKAGE}-{VERSION}.tgz"


def _packed(on_event: Event) -> bytes:
    """The package's .tgz through npm, without running its scripts. Raises NetworkError."""
    what = f"{PACKAGE} {VERSION}, which runs the network in browsers, "
    npm = shutil.which("npm")
    if npm is None:
        raise NetworkError(f"{what}is fetched by npm, and npm is not installed: install Node.js with npm, or {_ELSE}.")
    on_event({"event": "demo", "stage": "fetch", "package": f"{PACKAGE} {VERSION}"})
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--loglevel=error"]
        try:
            done = subprocess.run(
                command, cwd=folder, timeout=_SECONDS, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            files = list(Path(folder).glob("*.tgz"))
            if done.returncode == 0 and len(files) == 1:
                return read_bytes(files[0], _LARGEST_PACKAGE)
            reason = first_line(done.stderr or "npm made no .tgz")
        except subprocess.TimeoutExpired:
            reason = f"npm did not end within {_SECONDS} seconds"
        except (OSError, ValueError) as error:
            reason = first_line(error)
    raise NetworkError(f"{what}cannot be fetched ({reason}); check the network and npm, or {_ELSE}.")


def _is_published(data: bytes) -> bool:
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}" == INTEGRITY


def _unpacked(name: str, data: bytes) -> dict[str, bytes]:
    """The needed files of a .tgz, by their names in the package. They are read into memory and not written, so names in
    the archive can do no harm. Raises InputError."""
    wanted = {f"package/{file}": file for file in (ABOUT, *SERVED)}
    found: dict[str, bytes] = {}
    try:
        with gzip.open(BytesIO(data)) as whole, tarfile.open(fileobj=_Limited(whole), mode="r|") as archive:
            for member in archive:
                if member.name in wanted and member.isfile() and member.size <= _LARGEST:
                    found[wanted[member.name]] = archive.extractfile(member).read()
    except (OSError, EOFError, ZlibError, tarfile.TarError, ValueError) as error:
        raise InputError(f"{name}: cannot be unpacked ({first_line(error)}); {_ELSE}.") from error
    return found


class _Limited(RawIOBase):
    """A stream that stops at a limit, against archives that unpack to a huge size."""

    def __init__(self, stream):
        self._stream, self._left = stream, _LARGEST_UNPACKED

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size if size >= 0 else self._left + 1, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {_LARGEST_UNPACKED:,} bytes")
        return data


def _of_folder(folder: Path, name: str) -> bytes:
    """A file of the package's folder; b"" if it does not exist."""
    try:
        return read_bytes(folder / name, _LARGEST)
    except OSError:
        return b""


def _runtime(source: str, found: dict[str, bytes]) -> Runtime:
    missing = [name for name in (ABOUT, *SERVED) if not found.get(name)]
    if missing:
        raise InputError(f"{source}: is not the npm package {PACKAGE}: it has no {missing[0]}; {_ELSE}.")
    try:
        about = parse_json(found[ABOUT])
        if about["name"] != PACKAGE:
            raise ValueError
        version = str(about["version"])[:40]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{source}: is not the npm package {PACKAGE} (package.json names another); {_ELSE}."
        ) from error
    return Runtime(version, {SERVED[name]: found[name] for name in SERVED})
