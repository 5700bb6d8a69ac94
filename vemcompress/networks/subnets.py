"""Sub-networks of a supernet: the widths they may have, sampling, and their notation (GAN-Compression).

A gene is one or more channel groups whose widths change together. Its entry is the first group's width without the
factor that the published notation omits, so "16_16_32_16_32_32_16_16" is a sub-network of a mobile ResNet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from random import Random
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from vemcompress.networks.base import Config
from vemcompress.system.files import parse_json
from vemcompress.system.settings import Text, Width

Entries = tuple[int, ...]
_Options = Annotated[tuple[Width, ...], Field(strict=False, max_length=64)]
# In a recipe: the name of a set, "auto", "none" or lists of entries.
WidthOptions = Text | Annotated[tuple[_Options, ...], Field(strict=False, max_length=1024)]
SPACE = "space"  # key in the metadata of a supernet's file: its options as JSON
SHARES = (1.0, 0.75, 0.5, 0.375, 0.25)  # of a gene's full entry, as in channels-64-cycleGAN

# GAN-Compression's sets for ResNets of nine blocks, by gene, widest first.
PUBLISHED: dict[str, tuple[Entries, ...]] = {
    "channels-32": ((32, 24, 16),) * 8,
    "channels-48": ((48, 32),) * 2 + ((48, 40, 32),) * 4 + ((48, 32, 24, 16),) * 2,
    "channels-64-cycleGAN": ((64, 48, 32, 24, 16),) * 8,
    "channels-64-pix2pix": (tuple(range(64, 15, -8)),) * 8,
}


@dataclass(frozen=True)
class Space:
    """`options` holds the possible entries of each gene of `config`, widest first."""

    config: Config
    options: tuple[Entries, ...]

    @classmethod
    def of(cls, config: Config, options: str | Sequence[Sequence[int]] = "auto") -> "Space":
        """`options`: the name of a published set; entries for each gene, or one list for all; or "auto", `SHARES` of
        each gene's full entry. Raises ValueError if they do not fit.
        """
        full = full_entries(config)
        if options == "auto":
            found = tuple(tuple(dict.fromkeys(max(1, round(entry * share)) for share in SHARES)) for entry in full)
        elif isinstance(options, str):
            if options not in PUBLISHED:
                raise ValueError(f"no set of widths is named '{options}'; known: auto, {', '.join(PUBLISHED)}")
            found = PUBLISHED[options]
        else:
            lists = list(options) * (len(full) if len(options) == 1 else 1)
            found = tuple(tuple(sorted(set(entries), reverse=True)) for entries in lists)
        if len(found) != len(full):
            raise ValueError(
                f"the space has {len(found)} lists of widths, but this {config.family} has {len(full)} genes"
            )
        for gene, entries, most in zip(config.genes(), found, full, strict=True):
            if not entries or min(entries) < 1 or max(entries) > most:
                raise ValueError(f"the space's widths of {gene} must be from 1 to {most}, the network's own width")
        return cls(config, found)

    @classmethod
    def learned(cls, config: Config, said: str) -> "Space":
        """The space from the text that a supernet's file has under `SPACE`. Raises ValueError if it is damaged or
        does not fit.
        """
        try:
            options = TypeAdapter(WidthOptions).validate_python(parse_json(said))
        except ValidationError:
            raise ValueError("the list of widths in the supernet's file is damaged") from None
        return cls.of(config, options)

    @property
    def size(self) -> int:
        """The number of sub-networks."""
        return prod(map(len, self.options))

    @property
    def largest(self) -> Entries:
        return tuple(max(entries) for entries in self.options)

    @property
    def smallest(self) -> Entries:
        return tuple(min(entries) for entries in self.options)

    def all(self) -> Iterator[Entries]:
        return product(*self.options)

    def draw(self, random: Random) -> Entries:
        """A random sub-network, drawn uniformly."""
        return tuple(random.choice(entries) for entries in self.options)

    def widths(self, entries: Entries) -> dict[str, int]:
        """The widths of every channel group."""
        return widths_of(self.config, entries)

    def parse(self, text: str) -> Entries:
        """Raises ValueError for a sub-network outside the space."""
        entries = parse_entries(text, len(self.options))
        for gene, entry, options in zip(self.config.genes(), entries, self.options, strict=True):
            if entry not in options:
                raise ValueError(f"widths {text}: {gene} cannot be {entry}; it can be {', '.join(map(str, options))}")
        return entries


def text_of(entries: Entries) -> str:
    return "_".join(map(str, entries))


def parse_entries(text: str, genes: int) -> Entries:
    """The entries of "24_24_24_32_20_16". Six entries stand for eight genes, with one entry for all residual blocks.
    Raises ValueError.
    """
    parts = text.split("_")
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 7 and int(part) for part in parts):
        raise ValueError(f"widths {text}: must be whole numbers with '_' between them, such as 16_16_32_16_32_32_16_16")
    entries = tuple(map(int, parts))
    if len(entries) == 6 and genes == 8:
        entries = (*entries[:3], *entries[3:4] * 3, *entries[4:])
    if len(entries) != genes:
        raise ValueError(f"widths {text}: has {len(entries)} entries, and this network needs {genes}")
    return entries


def widths_of(config: Config, entries: Entries) -> dict[str, int]:
    """The widths of every channel group, for one entry per gene."""
    pairs = zip(entries, config.genes().values(), strict=True)
    return {group: entry * factor for entry, groups in pairs for group, factor in groups.items()}


def full_entries(config: Config) -> Entries:
    """The entries of the whole network. Raises ValueError if a gene's groups were pruned by different shares, or
    completely.
    """
    widths, found = config.widths_by_group(), []
    for gene, groups in config.genes().items():
        entries = {widths[group] / factor for group, factor in groups.items()}
        if len(entries) > 1 or not (entry := entries.pop()).is_integer():
            raise ValueError(f"{gene}: its channel groups have no common width, so this network has no sub-networks")
        if not entry:
            raise ValueError(f"{gene} was pruned away, but a supernet needs every branch")
        found.append(int(entry))
    return tuple(found)


def sub_widths(config: Config, text: str) -> Mapping[str, int]:
    """The widths by group of the sub-network `text`. Raises ValueError if the network is narrower."""
    entries, full = parse_entries(text, len(config.genes())), full_entries(config)
    for gene, entry, most in zip(config.genes(), entries, full, strict=True):
        if entry > most:
            raise ValueError(f"widths {text}: {gene} cannot be {entry}, because the network has {most}")
    return widths_of(config, entries)
