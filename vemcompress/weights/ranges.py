"""The ranges of images at the border of a foreign network. Our own images are in [-1, 1]."""

import re
from dataclasses import dataclass
from typing import Any

from vemcompress.errors import UsageError

RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
_FORM = re.compile(r"(-1\.\.1|0\.\.1|0\.\.255)(:(-1\.\.1|0\.\.1|0\.\.255))?")
_WRITE = "write 0..255, 0..1 or -1..1, or two of them, as in -1..1:0..255, for what it takes and what it gives"
_OPTION = "--teacher-range"
_STRAY = 8.0  # networks that give [-1, 1] or [0, 1] stay below, those that give 0 to 255 do not
_BYTES = (-64.0, 320.0)  # what networks of 0 to 255 overshoot to


@dataclass(frozen=True)
class Ranges:
    """What a network takes and what it gives, each a key of `RANGES`."""

    taken: str = "-1..1"
    given: str = "-1..1"

    @classmethod
    def parse(cls, text: str) -> "Ranges":
        """ "0..255" for both, or "-1..1:0..255" for what it takes and what it gives. Raises UsageError (2)."""
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
        """Images in [-1, 1], an array or a tensor of floats, as the network takes them."""
        low, high = RANGES[self.taken]
        return images if self.taken == "-1..1" else (images + 1) * ((high - low) / 2) + low

    def back(self, images: Any) -> Any:
        """What the network gives as images in [-1, 1]; what is beyond its range is so here too."""
        low, high = RANGES[self.given]
        return images if self.given == "-1..1" else (images - low) * (2 / (high - low)) - 1

    def raw(self, value: float) -> float:
        """A value of an image in [-1, 1] as the network gave it."""
        low, high = RANGES[self.given]
        return (value + 1) * ((high - low) / 2) + low


def check_form(text: str) -> str:
    """The text, where it says a range. Raises ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError(_WRITE)
    return text


def looks_like(low: float, high: float) -> str | None:
    """The range that an image's smallest and largest values are of; None where they are of none."""
    if max(-low, high) > _STRAY:
        return "0..255" if _BYTES[0] <= low and high <= _BYTES[1] else None
    return "0..1" if low >= -0.05 * high else "-1..1"


def is_far(name: str, low: float, high: float, given: str = "-1..1") -> str:
    """What is said of a network that gives values from `low` to `high`, which its range cannot be; else nothing."""
    found, seen = looks_like(low, high), f"{name}: gives values from {low:.4g} to {high:.4g}"
    if found is None:
        return f"{seen}, which are of none of {', '.join(RANGES)}: return an image of one of them, and say {_OPTION}"
    if found == given or (found, given) == ("0..1", "-1..1") or (given == "0..1" and low > -0.25 and found == "-1..1"):
        return ""
    if given == "0..255" and high > 1:  # a dark image
        return ""
    return f"{seen}, so its images seem to be in {found} and not in {given}: {_advice(found)}"


def is_unsigned(name: str, low: float, high: float) -> str:
    """What is said of a network that should give [-1, 1], and gives nothing below 0 on photos; else nothing."""
    if looks_like(low, high) != "0..1":
        return ""
    return (
        f"{name}: gives values from {low:.4g} to {high:.4g} on your photos, so its images seem to be in 0..1 and not "
        f"in -1..1: {_advice('0..1')}, or -1..1 where this is right"
    )


def _advice(found: str) -> str:
    other = "0..1:-1..1" if found == "-1..1" else f"-1..1:{found}"
    return f"say {_OPTION} {found}, or {other} if it takes {other.partition(':')[0]}"
