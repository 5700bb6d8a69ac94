"""Ranges of image values in foreign networks. Our own images are in [-1, 1]."""

import re
from dataclasses import dataclass
from typing import Any

from vemcompress.errors import UsageError

RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
_FORM = re.compile(r"(-1\.\.1|0\.\.1|0\.\.255)(:(-1\.\.1|0\.\.1|0\.\.255))?")
_WRITE = "write 0..255, 0..1 or -1..1, or two of them for its input and output, as in -1..1:0..255"
_OPTION = "--teacher-range"
_STRAY = 8.0  # networks with outputs in [-1, 1] or [0, 1] stay below this, those in 0 to 255 do not
_BYTES = (-64.0, 320.0)  # how far networks in 0 to 255 may overshoot


@dataclass(frozen=True)
class Ranges:
    """The ranges of a network's input and output, each a key of `RANGES`."""

    taken: str = "-1..1"
    given: str = "-1..1"

    @classmethod
    def parse(cls, text: str) -> "Ranges":
        """ "0..255" for both, or "-1..1:0..255" for input and output. Raises UsageError (2)."""
        if not _FORM.fullmatch(str(text)):
            raise UsageError(f"{_OPTION} {text!r:.40}: {_WRITE}.")
        taken, _, given = text.partition(":")
        return cls(taken, given or taken)

    def __str__(self) -> str:
        return self.taken if self.taken == self.given else f"{self.taken}:{self.given}"

    @property
    def shown(self) -> str:
        """In words: "[0, 255]", or "[-1, 1] in, [0, 255] out"."""
        taken, given = (f"[{limits.replace('..', ', ')}]" for limits in (self.taken, self.given))
        return taken if taken == given else f"{taken} in, {given} out"

    def into(self, images: Any) -> Any:
        """Convert images in [-1, 1], an array or a tensor of floats, to the network's input range."""
        low, high = RANGES[self.taken]
        return images if self.taken == "-1..1" else (images + 1) * ((high - low) / 2) + low

    def back(self, images: Any) -> Any:
        """Convert the network's output to images in [-1, 1]; values outside its range stay outside."""
        low, high = RANGES[self.given]
        return images if self.given == "-1..1" else (images - low) * (2 / (high - low)) - 1

    def raw(self, value: float) -> float:
        """A value of an image in [-1, 1], in the network's output range."""
        low, high = RANGES[self.given]
        return (value + 1) * ((high - low) / 2) + low


def check_form(text: str) -> str:
    """The text, if it is a valid range. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError(_WRITE)
    return text


def looks_like(low: float, high: float) -> str | None:
    """The range that fits an image's smallest and largest values, or None."""
    if max(-low, high) > _STRAY:
        return "0..255" if _BYTES[0] <= low and high <= _BYTES[1] else None
    return "0..1" if low >= -0.05 * high else "-1..1"


def is_far(name: str, low: float, high: float, given: str = "-1..1") -> str:
    """A message for a network whose values from `low` to `high` cannot be in its range; else ""."""
    found, seen = looks_like(low, high), f"{name}: gives values from {low:.4g} to {high:.4g}"
    if found is None:
        return (
            f"{seen}, which fit none of {', '.join(RANGES)}: return an image in one of these ranges, and state it with "
            f"{_OPTION}"
        )
    if found == given or (found, given) == ("0..1", "-1..1") or (given == "0..1" and low > -0.25 and found == "-1..1"):
        return ""
    if given == "0..255" and high > 1:  # a dark image
        return ""
    return f"{seen}, so its images seem to be in {found} and not in {given}: {_advice(found)}"


def is_unsigned(name: str, low: float, high: float) -> str:
    """A message for a network that should give [-1, 1] but gives nothing below 0 on photos; else ""."""
    if looks_like(low, high) != "0..1":
        return ""
    return (
        f"{name}: gives values from {low:.4g} to {high:.4g} on your photos, so its images seem to be in 0..1 and not "
        f"in -1..1: {_advice('0..1')}, or -1..1 if this is right"
    )


def _advice(found: str) -> str:
    other = "0..1:-1..1" if found == "-1..1" else f"-1..1:{found}"
    return f"set {_OPTION} {found}, or {other} if its input is in {other.partition(':')[0]}"
