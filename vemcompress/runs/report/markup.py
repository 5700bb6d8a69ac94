"""HTML whose text is escaped where it is put together: what is not `Html` already is text."""

from html import escape
from typing import Any

from vemcompress.system.names import shown

VOID = ("img", "input", "meta")


class Html(str):
    """Markup, which is taken as it is."""


def text(value: Any) -> Html:
    """A value as escaped text; characters that cannot be seen, those that turn the direction of text among them, become
    U+FFFD."""
    if isinstance(value, Html):
        return value
    seen = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in shown(str(value)))
    return Html(escape(seen))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` is class, `data_x` data-x; an attribute of True stands alone, one of None is left out."""
    told = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            told += f" {key}" if value is True else f' {key}="{text(value)}"'
    return Html(f"<{name}{told}>" + ("" if name in VOID else f"{join(children)}</{name}>"))


def join(parts: Any) -> Html:
    return Html("".join(text(part) for part in parts if part is not None))


def table(head: list, rows: list[list], **attributes: Any) -> Html:
    """A table that scrolls sideways where it is wider than the page; the first cell of a row is its name."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))) if any(head) else None
    body = [tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest)) for first, *rest in rows]
    return tag("div", tag("table", top, tag("tbody", *body), **attributes), class_="scroll")
