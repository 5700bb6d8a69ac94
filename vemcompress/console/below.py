"""The lines below the progress bar of a training run: a small table of losses, and a sparkline of the score that picks
the best checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.text import Text

ROWS = 6  # most lines of losses
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
LONGEST, SHORTEST = 40, 4  # cells of a sparkline
NUMBER = 9  # cells for a value, so that columns do not move: -0.000692
GAP = "  "

Cell = tuple[str, str]  # a name and a value


@dataclass(frozen=True)
class Score:
    """The score that picks the best checkpoint: all `values` so far, and the `best` one with its `step`."""

    name: str
    values: Sequence[float]
    best: float
    step: int

    @property
    def newest(self) -> str:
        return f"{self.values[-1]:.4g} (best {self.best:.4g})"

    def line(self, width: int, ascii_only: bool) -> Text | None:
        """As much as fits: the sparkline is shortened first, then words are omitted."""
        newest, best = f"{self.values[-1]:.4g}", f"best {self.best:.4g}"
        for told in (f"{newest}{GAP}{best} at step {self.step}", f"{newest}{GAP}{best}", newest):
            room = width - cell_len(self.name) - cell_len(told) - 2
            if room >= SHORTEST:
                drawn = sparkline(self.values, min(room, LONGEST), ascii_only)
                return Text.assemble((f"{self.name} ", "dim"), (drawn, "cyan"), f" {told}")
        return None


@dataclass(frozen=True)
class Below:
    """Drawn again when the terminal changes its size."""

    losses: Sequence[Cell] = field(default=())
    score: Score | None = None

    def lines(self, width: int, height: int, ascii_only: bool) -> list[Text]:
        """At most six lines of losses, fewer on a low terminal, and one line for the score."""
        score = self.score and self.score.line(width, ascii_only)
        rows = max(1, min(ROWS, height - 4))  # the bar, the score, a note and the prompt need lines too
        return [*table(self.losses, width, rows), *([score] if score else [])]


def table(cells: Sequence[Cell], width: int, rows: int) -> list[Text]:
    """Names and values in columns, row by row, none of them cut. The number of columns shows the most values in the
    fewest rows. If some are omitted, the last cell gives their number."""
    ways = [(_shown(cells, count, width, rows), count) for count in range(len(cells), 0, -1)]
    shown, count = max(ways, key=lambda way: len(way[0]), default=([], 1))
    if shown and len(shown) < len(cells):
        shown = [*shown, ("", f"+{len(cells) - len(shown)} more")]
    widths = [max(map(_wide, shown[column::count])) for column in range(min(count, len(shown)))]
    lines = []
    for start in range(0, len(shown), count):
        line = Text()
        for (name, value), wide in zip(shown[start : start + count], widths, strict=False):
            line.append(GAP if line.plain else "")
            line.append(name, "dim")
            line.append(f"{value:>{wide - cell_len(name)}}")
        lines.append(line)
    return lines


def sparkline(values: Sequence[float], cells: int, ascii_only: bool) -> str:
    """One character for each value, or for the mean of several consecutive values. The lowest and the highest are the
    ends of the scale. Values that are not finite are omitted."""
    levels, values = ASCII_LEVELS if ascii_only else LEVELS, [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    size = math.ceil(len(values) / cells)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    if high == low:
        return levels[len(levels) // 2] * len(means)
    return "".join(levels[round((mean - low) / (high - low) * (len(levels) - 1))] for mean in means)


def _wide(cell: Cell) -> int:
    return cell_len(cell[0]) + 1 + max(NUMBER, len(cell[1]))


def _shown(cells: Sequence[Cell], count: int, width: int, rows: int) -> list[Cell]:
    """The first cells that fit into this number of columns of equal width."""
    room = (width - len(GAP) * (count - 1)) // count
    fit = [cell for cell in cells if _wide(cell) <= room]
    return fit if len(fit) == len(cells) <= count * rows else fit[: count * rows - 1]
