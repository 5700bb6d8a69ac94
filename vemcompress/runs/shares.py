"""How much of the student's gradient a run's add-on had, by the run's log."""

from pathlib import Path
from statistics import median

from vemcompress.runs.log import lines

KEY = "information.gradient_share"


def information_share(metrics: Path) -> float | None:
    """The median over the steps of a metrics.jsonl that measured it; None where none did: without an add-on, or in a
    run of a release that did not measure. Raises InputError for a file that cannot be read."""
    found = [values[KEY] for _, _, values in lines(metrics) if values and type(values.get(KEY)) in (int, float)]
    return median(found) if found else None
