"""A progress bar that always fits the terminal's width."""

from time import monotonic

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from vemcompress.console.below import Below
from vemcompress.console.words import duration

LONGEST, SHORTEST = 20, 8  # cells of the bar itself


class Bar(Live):
    """A bar for the part of `total` that is done.

    Below it is a line with those `parts` that fit, or the drawing of `below`. `info` is shown beside the bar, the most
    important last; None shows the remaining time at the speed so far.
    """

    def __init__(self, title: str, total: int, console: Console):
        super().__init__(console=console, refresh_per_second=4)
        self.title, self.total, self.done = title, total, 0
        self.info: list[str] | None = None
        self.parts: list[str] = []
        self.below: Below | None = None
        self._began = monotonic()
        self._drawn: list[int] = []  # widths of the lines that are on the terminal

    def update(
        self, done: int, info: list[str] | None = None, parts: list[str] | None = None, below: Below | None = None
    ) -> None:
        if done < self.done:  # it starts again
            self._began = monotonic()
        self.done, self.info, self.parts = done, info, parts or []
        self.below = below
        self.refresh()

    def get_renderable(self) -> "Bar":
        return self

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, glyphs = options.max_width, "#-" if options.ascii_only else "━─"
        lines = [self._bar(width, *glyphs), Text(fitting(self.parts, width), style="dim")]
        lines += self.below.lines(width, console.height, options.ascii_only) if self.below else []
        lines = [line for line in lines if line.plain]
        self._drawn = [cell_len(line.plain) for line in lines]
        for line in lines:
            line.no_wrap, line.overflow = True, "crop"
            yield line

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Rich moves the cursor up by the number of lines that it drew. If the terminal has become narrower since, they
        are wrapped into more lines, and some of them would stay."""
        width = max(1, self.console.width)
        more = sum(max(0, (drawn - 1) // width) for drawn in self._drawn)
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
        wipe = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up * more)
        return [*([wipe] if more else []), *super().process_renderables(renderables)]

    def _bar(self, width: int, full: str, empty: str) -> Text:
        """Title, bar, count and info. If they are too wide, the bar becomes shorter, and then parts are omitted."""
        title, count = self.title, f"{self.done}/{self.total}"
        info = self._left() if self.info is None else self.info
        for beside in (info[start:] for start in range(max(1, len(info)))):
            after = "  ".join([count, *beside])
            cells = min(LONGEST, width - cell_len(title) - cell_len(after) - 2)
            if cells >= SHORTEST:
                gone = round(cells * min(1, self.done / self.total)) if self.total else cells
                bar = (full * gone, "green"), (empty * (cells - gone), "bright_black")
                return Text.assemble(f"{title} ", *bar, f" {after}")
        texts = ["  ".join(parts) for parts in ([title, count, *info[-1:]], [count, *info[-1:]], [count])]
        return Text(next((text for text in texts if cell_len(text) <= width), ""))

    def _left(self) -> list[str]:
        if not 0 < self.done < self.total:
            return []
        return [f"{duration((monotonic() - self._began) / self.done * (self.total - self.done))} left"]


def fitting(parts: list[str], width: int) -> str:
    """The first parts that fit into this number of cells without being cut."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if cell_len(longer) > width:
            break
        line = longer
    return line
