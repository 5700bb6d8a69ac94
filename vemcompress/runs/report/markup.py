"""HTML elements that escape their text: everything that is not `Html` is escaped."""

from html import escape
from typing import Any

from vemcompress.system.names import shown

VOID = ("img", "input", "meta")


class Html(str):
    """Markup that is used unchanged."""


def text(value: Any) -> Html:
    """A value as escaped text; invisible characters, including those that change the direction of text, become
    U+FFFD."""
    if isinstance(value, Html):
        return value
    seen = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in shown(str(value)))
    return Html(escape(seen))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` is class, `data_x` data-x; an attribute that is True has no value, and one that is None is
    omitted."""
    told = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            told += f" {key}" if value is True else f' {key}="{text(value)}"'
    return Html(f"<{name}{told}>" + ("" if name in VOID else f"{join(children)}</{name}>"))


def join(parts: Any) -> Html:
    return Html("".join(text(part) for part in parts if part is not None))


def table(head: list, rows: list[list], **attributes: Any) -> Html:
    """A table that scrolls sideways if it is wider than the page. The first cell of a row is its header."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if any(head) else None
    body = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)) for first, *rest in rows]
    return tag("div", tag("table", top, tag("tbody", *body), **attributes), class_="scroll")
