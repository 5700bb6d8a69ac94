"""How much of the student's gradient a run's add-on had, by the run's log."""

import json
from contextlib import suppress
from pathlib import Path
from statistics import median

from vemcompress.system.files import open_regular

KEY, LONGEST = "information.gradient_share", 1 << 20  # bytes of a line


def information_share(metrics: Path) -> float | None:
    """The median over the steps of a metrics.jsonl that measured it; None where none did: without an add-on, or in a
    run of a release that did not measure. Lines that are damaged are left out."""
    found = []
    with suppress(OSError), open_regular(metrics) as file:
        while line := file.readline(LONGEST):
            with suppress(ValueError, RecursionError, KeyError, TypeError):
                found.append(float(json.loads(line)[KEY]))
    return median(found) if found else None
