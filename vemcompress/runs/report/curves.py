"""Curves as inline SVG: a small plot for each name of a log, with axes, thinned, and on a log scale where values span
several powers of ten."""

import math
from collections.abc import Sequence
from itertools import pairwise

from vemcompress.runs.report.markup import Html, tag

POINTS = 300  # points per curve
WIDTH, HEIGHT = 360, 190
LEFT, TOP, RIGHT, BOTTOM = 52, 10, 350, 162
LEAST = 1e-250  # smaller values are drawn as 0: differences of float64 lose their digits below 1e-307
WIDE = 30  # the scale is logarithmic if the largest value is this many times the smallest
Points = Sequence[tuple[int, float]]


def thinned(points: Points) -> list[tuple[float, float, float, float]]:
    """At most 300 tuples (step, mean, smallest, largest), each over neighbouring points."""
    size = -(-len(points) // POINTS) or 1
    found = []
    for start in range(0, len(points), size):
        steps, values = zip(*points[start : start + size], strict=True)
        found.append((sum(steps) / len(steps), sum(values) / len(values), min(values), max(values)))
    return found


def curve(name: str, points: Points) -> Html:
    """One plot. If points were thinned, a band behind the line shows their range."""
    points = [(step, value if abs(value) > LEAST else 0.0) for step, value in points]
    parts = thinned(points)
    low, high = min(part[2] for part in parts), max(part[3] for part in parts)
    log = low > 0 and high > WIDE * low
    scale = math.log10 if log else float
    y0, y1 = _span(scale(low), scale(high))
    x0, x1 = points[0][0], max(points[-1][0], points[0][0] + 1)

    def at(step: float, value: float) -> str:
        x = LEFT + (step - x0) / (x1 - x0) * (RIGHT - LEFT)
        y = BOTTOM - (scale(value) - y0) / (y1 - y0) * (BOTTOM - TOP)
        return f"{x:.1f},{y:.1f}"

    band = None
    if len(parts) < len(points):
        edge = [at(part[0], part[3]) for part in parts] + [at(part[0], part[2]) for part in reversed(parts)]
        band = tag("polygon", points=" ".join(edge), class_="band")
    line = tag("polyline", points=" ".join(at(part[0], part[1]) for part in parts), class_="curve")
    last = at(parts[-1][0], parts[-1][1]).split(",")
    end = tag("circle", cx=last[0], cy=last[1], r=2.5, class_="end")
    drawn = tag(
        "svg",
        *_across(x0, x1),
        *_up(y0, y1, log),
        band,
        line,
        end,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{name} from {points[0][1]:.4g} at step {x0} to {points[-1][1]:.4g} at step {points[-1][0]}",
    )
    title = tag("figcaption", tag("b", name), tag("span", f"{points[-1][1]:.4g}", " · log scale" if log else ""))
    return tag("figure", title, drawn, class_="plot")


def _span(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return low - margin, high + margin


def _across(x0: float, x1: float) -> list[Html]:
    found = []
    for step, anchor in ((x0, "start"), ((x0 + x1) / 2, "middle"), (x1, "end")):
        x = LEFT + (step - x0) / (x1 - x0) * (RIGHT - LEFT)
        label = f"step {step:,.0f}" if anchor == "end" else f"{step:,.0f}"
        found.append(tag("text", label, x=f"{x:.1f}", y=BOTTOM + 18, text_anchor=anchor))
    return found


def _up(y0: float, y1: float, log: bool) -> list[Html]:
    found = []
    levels = _ticks(y0, y1, log)
    apart = levels[1] - levels[0] if len(levels) > 1 else 0.0
    for level in levels:
        y = BOTTOM - (level - y0) / (y1 - y0) * (BOTTOM - TOP)
        label = _label(10**level) if log else _label(level, apart)
        found += [
            tag("line", x1=LEFT, x2=RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"),
            tag("text", label, x=LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end"),
        ]
    return found


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Three to six round levels; for a log scale powers of ten, if there are at least two."""
    powers = range(math.ceil(low), math.floor(high) + 1) if log else ()
    if len(powers) >= 2:
        return [float(power) for power in powers[:: -(-len(powers) // 5)]]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
    first = math.ceil(low / step)
    ticks = [step * (first + k) for k in range(6) if step * (first + k) <= high]
    return ticks if all(a < b for a, b in pairwise(ticks)) else ticks[:1]


def _label(value: float, apart: float = 0.0) -> str:
    """A level, with enough digits to differ from its neighbours at this distance."""
    if abs(value) < 1e-6 * apart or not value:
        return "0"
    digits = max(3, math.ceil(math.log10(abs(value) / apart)) + 1) if apart else 3
    return f"{value:.{min(digits, 8)}g}".replace("e-0", "e-").replace("e+0", "e+")
