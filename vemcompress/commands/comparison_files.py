"""The files that `compare` writes: a CSV table, and a plot of quality against cost."""

import csv
import io
from pathlib import Path

from vemcompress.data.images import save_png
from vemcompress.runs.panels import Mark, panels
from vemcompress.system.files import write_atomically
from vemcompress.system.names import printable, shown


def write_csv(path: Path, result) -> None:
    """Write one line per row of a `CompareResult`, the teacher's first. Each metric has a column for the mean and a
    column for the standard deviation. Raises OutputError."""
    rows = [*([result.teacher] if result.teacher else []), *result.rows]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    titles = ["run", "recipe", "algorithm", "information", "seeds", f"macs_{result.convention}", "parameters", "p50_ms"]
    titles += [title for name in names for title in (name, f"{name}_std")] + ["steps", "front"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(titles)
    for row in rows:
        figures = [row.metrics.get(name) for name in names]
        line = [row.name, row.recipe, row.algorithm, row.information, " ".join(map(str, row.seeds))]
        line += [f"{row.macs.mean:.10g}", f"{row.parameters.mean:.10g}", row.p50_ms]
        line += [value for found in figures for value in ((found.mean, found.std) if found else (None, None))]
        table.writerow(
            [shown(cell) if isinstance(cell, str) else cell for cell in [*line, row.steps, " ".join(row.front)]]
        )
    write_atomically(path, text.getvalue().encode())


def write_png(path: Path, result) -> None:
    """Plot the metric of a `CompareResult` against MACs, and against latency if that was measured, with the Pareto
    fronts. Raises OutputError."""
    rows = [*([result.teacher] if result.teacher else []), *result.rows]
    scale, unit = (1e9, "G") if max(row.macs.mean for row in rows) >= 1e9 else (1e6, "M")

    def mark(row, cost: str, x: float | None) -> Mark | None:
        found = row.metrics.get(result.by)
        if found is None or x is None:
            return None
        return Mark(x, found.mean, found.std or 0.0, cost in row.front, row is result.teacher)

    convention = result.convention.replace("_", " + ")
    plots = [(f"MACs ({convention}), {unit}", [mark(row, "macs", row.macs.mean / scale) for row in rows])]
    if result.threads:
        title = f"latency on the CPU, p50, ms ({result.threads} thread{'s' if result.threads > 1 else ''})"
        plots.append((title, [mark(row, "latency", row.p50_ms) for row in rows]))
    better = "higher" if result.higher_is_better else "lower"
    save_png(path, panels([printable(row.name) for row in rows], plots, f"{result.by} ({better} is better)"))
