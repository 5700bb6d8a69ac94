"""Parsing of times and sizes such as 20ms, 0.5s, 500KB, 2MiB, for options and recipes."""

import math
import re
from typing import Any

TIMES = {"ms": 1.0, "s": 1e3, "": 1.0}
SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "": 1}
LONGEST, LARGEST = 1e7, 10**12  # in milliseconds (3 hours), in bytes


def milliseconds(value: Any) -> float:
    """Milliseconds from "20ms", "0.5s", or a number of milliseconds. Raises ValueError for anything else, and for
    values not above 0.
    """
    found = _number(value, TIMES, "a time such as 20ms or 0.5s")
    if not 0 < found <= LONGEST:
        raise ValueError(f"{_said(value)}: a time must be above 0 and at most {LONGEST:.0e} ms")
    return found


def size_in_bytes(value: Any) -> int:
    """Bytes from "500KB", "2MB" (of 1,000), "512KiB" (of 1,024), or a number of bytes. Raises ValueError for
    anything else, and for less than 1.
    """
    found = _number(value, SIZES, "a size such as 500KB or 2MB")
    if not 1 <= found <= LARGEST:
        raise ValueError(f"{_said(value)}: a size must be at least 1 byte and at most {LARGEST // 10**9:,} GB")
    return int(found)


def time_text(value: float) -> str:
    return f"{value:.4g} ms"


def size_text(value: float) -> str:
    return f"{value / 1e6:.4g} MB" if value >= 1e6 else f"{value / 1e3:.4g} KB"


def count_text(value: float) -> str:
    """A number of parameters or MACs, in three digits: 56.8 G."""
    for power, letter in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{float(f'{value / 10**power:.3g}'):g} {letter}"
    return f"{value:g}"


def _number(value: Any, units: dict[str, float], example: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = float(value), ""
    else:
        parts = re.fullmatch(r"\s*(-?\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,3})?)\s*([a-z]*)\s*", str(value).lower())
        if not isinstance(value, str) or parts is None or parts[2] not in units:
            raise ValueError(f"{_said(value)}: write {example}")
        number, unit = float(parts[1]), parts[2]
    if not math.isfinite(number):
        raise ValueError(f"{_said(value)}: write {example}")
    return number * units[unit]


def _said(value: Any) -> str:
    return f"{value!s:.40}"
