"""Writes the folder of the browser demo: under a temporary name, then renamed, so that it is never incomplete."""

import json
import os
import secrets
import shutil
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from vemcompress.errors import OutputError, UsageError
from vemcompress.export.browser.runtime import Runtime
from vemcompress.system.files import make_folder, output_error, read_json

MADE_BY = "vemcompress demo"
FACTS, GRAPH, LIBRARY = "model.json", "model.onnx", "onnxruntime"
PAGE = ("index.html", "style.css", "page.js", "photos.js", "worker.js", "latents.js")


def check_place(folder: Path) -> None:
    """Raises UsageError (2) if the place holds anything but one of our demos, because it would be lost; also for a demo
    with other files beside it. Raises OutputError (9) if the place cannot be written."""
    above = next((path for path in folder.absolute().parents if path.exists()), Path("/"))
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write into {above}; choose another place.")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder}: is not a folder; give the name of a new one with --out.")
    if not folder.exists():
        return
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not there:
        return
    if not is_demo(folder):
        raise UsageError(f"{folder}: holds other files and no demo; give the name of a new folder.")
    if others := sorted(name for name in there - {*PAGE, FACTS, GRAPH} if not name.startswith(f"{LIBRARY}/")):
        raise UsageError(
            f"{folder}: holds {others[0]} beside an older demo, and it would be lost; move it away, or give the "
            "name of a new folder."
        )


def is_demo(folder: Path) -> bool:
    """Whether the folder is a demo that this command made."""
    try:
        return read_json(folder / FACTS)["made_by"] == MADE_BY
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_site(folder: Path, facts: dict, graph: bytes, runtime: Runtime) -> dict[str, int]:
    """Write the demo, and replace an older one. Returns the size of each file in bytes, by its name in the folder.
    Raises UsageError (2) as `check_place`, and OutputError (9)."""
    page = files("vemcompress.export.browser") / "page"
    content = {name: (page / name).read_bytes() for name in PAGE}
    content |= {f"{LIBRARY}/{name}": data for name, data in runtime.files.items()}
    content[f"{LIBRARY}/LICENSE"] = (page / "LICENSE.onnxruntime").read_bytes()
    facts = {"made_by": MADE_BY, "file": GRAPH, "runtime": runtime.version, **facts}
    content |= {GRAPH: graph, FACTS: (json.dumps(facts, indent=2) + "\n").encode()}
    check_place(folder)
    make_folder(folder.parent)
    new, old = (folder.parent / f".{secrets.token_hex(8)}.tmp" for _ in range(2))
    try:
        for name, data in content.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        _swap(folder, new, old)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return {name: len(data) for name, data in sorted(content.items())}


def _swap(folder: Path, new: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        with suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
