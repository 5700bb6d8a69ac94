"""The add-on's share of the student's gradient, read from a run's log."""

from pathlib import Path
from statistics import median

from vemcompress.runs.log import lines

KEY = "information.gradient_share"


def information_share(metrics: Path) -> float | None:
    """The median over the measured steps in metrics.jsonl. None if no step measured it: without an add-on, or in runs
    of earlier releases. Raises InputError for a file that cannot be read."""
    found = [values[KEY] for _, _, values in lines(metrics) if values and type(values.get(KEY)) in (int, float)]
    return median(found) if found else None
