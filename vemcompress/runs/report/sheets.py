"""A run's sample sheets for its page: a few, evenly spaced in time, and the newest one cut into its columns."""

import io
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.runs.pictures import EARLIER, GAP, Layout
from vemcompress.system.files import read_bytes

SHEETS, ROWS = 12, 6  # most sheets on a page, and most rows of the newest sheet to compare
BUDGET = 1_200_000  # bytes for sheets as WebP; base64 makes them a third longer
PIXELS, FILE = 40_000_000, 64 << 20  # largest sheet that is decoded
TRIES = ((80, 900), (70, 720), (55, 560), (40, 420))  # quality of WebP, widest sheet in pixels
WHITE = 250  # gaps between columns are at least this bright


@dataclass(frozen=True)
class Picture:
    """A sheet as a data: address, with its size in pixels, its step, and the titles of its columns if known."""

    address: str
    width: int
    height: int
    step: int = 0
    titles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """The cells of a sheet by row, and in a row by title: `input`, `teacher`, `student`, ... All have the same size."""

    titles: list[str]
    rows: list[list[Picture]]


def chosen(folder: Path, most: int = SHEETS) -> list[tuple[int, Path]]:
    """Sheets step-N.png of a folder with their steps, evenly spaced in time, including the first and the newest."""
    try:
        names = [path for path in folder.iterdir() if re.fullmatch(r"step-\d{6,12}\.png", path.name, re.ASCII)]
    except OSError:
        return []
    there = sorted((int(path.stem[5:]), path) for path in names)
    if len(there) <= most:
        return there
    if most < 2:
        return there[-most:]
    wanted = np.linspace(there[0][0], there[-1][0], most)
    steps = np.array([step for step, _ in there])
    return [there[place] for place in sorted({int(np.abs(steps - at).argmin()) for at in wanted})]


def opened(path: Path) -> Image.Image:
    """A sheet as RGB with its `text`. Raises OSError or ValueError if it is damaged or too large."""
    try:
        image = Image.open(io.BytesIO(read_bytes(path, FILE)), formats=["PNG"])
        if image.width * image.height > PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many for a page")
        image.load()
        shown = image.convert("RGB")
    except (SyntaxError, Image.DecompressionBombError, MemoryError) as error:
        raise ValueError(str(error)) from error
    shown.info = image.info
    return shown


def sheets(found: Sequence[tuple[int, Path]], notes: list[str], budget: int = BUDGET) -> list[Picture]:
    """The sheets as WebP within a budget of bytes, without header and titles if the layout is known. Unreadable sheets
    are omitted with a note."""
    images, titles = [], {}
    for step, path in found:
        try:
            image = opened(path)
            if layout := Layout.read(image.info.get(Layout.KEY), image.size):
                image, titles[step] = image.crop((0, layout.top, *image.size)), layout.titles
            images.append((step, image))
        except (OSError, ValueError) as error:
            notes.append(f"{path.parent.name}/{path.name} cannot be read ({error!s:.60}) and is ignored.")
    for quality, widest in TRIES if images else ():
        if len(_webp(images[-1][1], quality, widest)[0]) * len(images) <= budget:  # the others are similar
            break
    coded = [(step, *_webp(image, quality, widest)) for step, image in images]
    while coded and sum(len(data) for _, data, _, _ in coded) > budget:
        del coded[0 if len(coded) == 1 else len(coded) // 2]
    return [Picture(_address(data), *size, step, titles.get(step, ())) for step, data, *size in coded]


def cells(path: Path, sides: Sequence[int], taught: bool, most: int = ROWS) -> Cells | None:
    """The first rows of a sheet cut into its columns; None if its layout is unknown.

    A sheet of this release stores its layout. For earlier ones, it follows from `sides`, the possible sides of an
    image, and from the gaps. Their columns are the input, the teacher and the student, or the input and the teacher if
    one was `taught`. Raises OSError or ValueError like `opened`.
    """
    sheet = opened(path)
    layout = Layout.read(sheet.info.get(Layout.KEY), sheet.size)
    if layout is None:
        layout = _measured(sheet, sides, taught)
    if layout is None or len(layout.titles) < 2:
        return None
    rows, widest = [], 384 if layout.rows > 1 else 768
    for row in range(min(layout.rows, most)):
        cut = [sheet.crop(layout.box(column, row)) for column in range(len(layout.titles))]
        rows.append([Picture(_address(data), *size) for data, *size in (_webp(one, 80, widest) for one in cut)])
    return Cells(list(layout.titles), rows)


def _measured(sheet: Image.Image, sides: Sequence[int], taught: bool) -> Layout | None:
    pixels = np.asarray(sheet)
    for side in sides:
        across, beside = divmod(sheet.width - GAP, side + GAP)
        down, below = divmod(sheet.height - EARLIER, side + GAP)
        titles = {True: {2: ("input", "teacher")}, False: {3: ("input", "teacher", "student")}}[taught]
        if beside or below or across not in titles or down < 1:
            continue
        gaps = [pixels[:, n * (side + GAP) : n * (side + GAP) + GAP].min() for n in range(across + 1)]
        if min(gaps) >= WHITE:
            return Layout(titles[across], down, (side, side))
    return None


def _webp(image: Image.Image, quality: int, widest: int) -> tuple[bytes, int, int]:
    if image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=quality, method=1)
    return content.getvalue(), *image.size


def _address(data: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(data).decode('ascii')}"
