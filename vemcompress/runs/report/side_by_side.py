"""The newest sheet's columns side by side, and two of them under a wipe, which page.js moves."""

from pathlib import Path

from vemcompress.runs.report import sheets
from vemcompress.runs.report.gather import Found, number, part, plan_of
from vemcompress.runs.report.markup import Html, tag

SCALES = (1, 2, 4)  # how many times networks enlarge images


def compared(found: Found, sheet: Path, rows: int = sheets.ROWS) -> Html | None:
    """The first `rows` of a sheet. None if the sheet cannot be cut into columns."""
    size = number(part(plan_of(found), "data").get("size")) or 0
    sides = [int(size) * scale for scale in SCALES if size >= 1]
    try:
        cells = sheets.cells(sheet, sides, found.command == "teach", rows)
    except (OSError, ValueError):
        return None  # `sheets.sheets` adds a note
    if cells is None:
        return None
    last = len(cells.titles) - 1
    sources = [tag("template", *(tag("img", src=one.address) for one in row), class_="row") for row in cells.rows]
    return tag(
        "div",
        _panels(cells),
        _rows(cells) if len(cells.rows) > 1 else None,
        _stage(cells, last - 1, last),
        tag("div", _pick(cells, "left", last - 1), tag("span", "|"), _pick(cells, "right", last), class_="pick"),
        *sources,
        class_="compare",
    )


def _panels(cells: sheets.Cells) -> Html:
    """The images of a row side by side."""
    panels = []
    for title, one in zip(cells.titles, cells.rows[0], strict=True):
        image = tag("img", src=one.address, alt=title, width=one.width, height=one.height)
        panels.append(tag("figure", image, tag("figcaption", title)))
    return tag("div", *panels, class_="panels")


def _rows(cells: sheets.Cells) -> Html:
    """Small images as buttons that choose the row."""
    buttons = []
    for place, row in enumerate(cells.rows, 1):
        image = tag("img", src=row[0].address, alt=f"row {place}")
        buttons.append(tag("button", image, type="button", aria_pressed="true" if place == 1 else "false"))
    return tag("div", *buttons, class_="rows")


def _stage(cells: sheets.Cells, left: int, right: int) -> Html:
    """One image over the other, cut at the wipe."""
    first, titles = cells.rows[0], cells.titles
    shape = {"width": first[left].width, "height": first[left].height}
    return tag(
        "div",
        tag("img", src=first[left].address, alt=titles[left], class_="under", **shape),
        tag("img", src=first[right].address, alt=titles[right], class_="over"),
        tag("i", class_="line"),
        tag("span", titles[left], class_="tag left"),
        tag("span", titles[right], class_="tag right"),
        tag("input", type="range", min=0, max=100, value=50, step=0.5, aria_label="wipe between the two images"),
        class_="stage",
    )


def _pick(cells: sheets.Cells, side: str, at: int) -> Html:
    options = [tag("option", title, value=k, selected=k == at) for k, title in enumerate(cells.titles)]
    return tag("select", *options, aria_label=f"{side} image")
