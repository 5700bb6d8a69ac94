"""Mean and spread of a figure that several runs gave."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Of `n` values: their mean, and their sample standard deviation (n - 1), None where there is but one."""

    mean: float
    std: float | None
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    values = list(values)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def spreads(tables: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """Key by key; a key that some tables lack has a smaller n."""
    tables = list(tables)
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: spread(table[name] for table in tables if name in table) for name in names}
