"""The folder of a demo: written beside its place and renamed, so that there is a whole one or none."""

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
    """Raises UsageError (2) for a place where something else is than a demo of ours, which would be lost; a demo with
    other files beside it is refused too. Raises OutputError (9) where nothing can be written."""
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
        raise UsageError(f"{folder}: holds other files, and no demo to replace; give the name of a new folder.")
    if others := sorted(name for name in there - {*PAGE, FACTS, GRAPH} if not name.startswith(f"{LIBRARY}/")):
        raise UsageError(
            f"{folder}: holds {others[0]} beside an older demo, and would be replaced; move it away, or give the name "
            "of a new folder."
        )


def is_demo(folder: Path) -> bool:
    """Whether a folder is a demo that we have made."""
    try:
        return read_json(folder / FACTS)["made_by"] == MADE_BY
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_site(folder: Path, facts: dict, graph: bytes, runtime: Runtime) -> dict[str, int]:
    """Write the demo, in place of an older one; returns the size in bytes of each file by its name in the folder.
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
