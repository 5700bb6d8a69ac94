"""The candidate table of a search on disk: the identity of the search, and a line for each scored candidate."""

import json
import os
from pathlib import Path

from vemcompress.errors import InputError
from vemcompress.system.events import Event
from vemcompress.system.files import output_error, parse_json, read_bytes, write_atomically

FILE = "candidates.jsonl"
_LIMIT = 1 << 30


class Candidates:
    """`candidates.jsonl`. Its first line is the `identity` of the search. `rows` are the other lines: `widths`, `macs`,
    `fitness`, and further values of the method. A line that a kill cut short is ignored."""

    def __init__(self, path: Path, rows: list[dict]):
        self.path, self.rows = path, rows

    @classmethod
    def opened(cls, folder: Path, identity: dict, on_event: Event) -> "Candidates":
        """Open the table of this folder, or begin one. Raises InputError for a table of another search."""
        path, rows = folder / FILE, []
        try:
            lines = read_bytes(path, _LIMIT).splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); remove it to start the search again."
            ) from error
        identity = json.loads(json.dumps(identity))
        for number, line in enumerate(lines, 1):
            found = _parsed(line)
            if number == 1 and found != identity:
                changed = ", ".join(k for k in identity if not isinstance(found, dict) or found.get(k) != identity[k])
                raise InputError(
                    f"{path}: belongs to another search (other {changed}); remove it, or search in another folder."
                )
            if number > 1 and _is_row(found):
                rows.append(found)
            elif number > 1 and number < len(lines):
                message = f"{path}: line {number} is damaged and ignored; its candidate is scored again."
                on_event({"event": "warning", "message": message})
        whole = [identity, *rows]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in whole).encode())
        return cls(path, rows)

    def add(self, rows: list[dict]) -> None:
        """Append rows and make them durable. Raises OutputError."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "ab") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error
        self.rows += rows


def _parsed(line: bytes):
    try:
        return parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _is_row(found) -> bool:
    return (
        isinstance(found, dict)
        and isinstance(found.get("widths"), str)
        and type(found.get("macs")) is int
        and type(found.get("fitness")) in (int, float)
    )
