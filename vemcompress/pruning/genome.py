"""Genomes of bits, one bit per channel of a network: which channels a genome removes and keeps.

Channels that must be removed together share one bit. In a ResNet, the channels of a residual trunk and those inside its
blocks share the trunk's bits if they are equally many. So a ResNet of width 64 has 64 + 128 + 256 + 128 + 64 = 640
bits, as published with Co-Evolution (Shu et al., ICCV 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import torch
from torch import Tensor

from vemcompress.networks.slots import Group

Bits = tuple[int, ...]  # 1 for a kept channel


@dataclass(frozen=True)
class Gene:
    """Channel groups that share `size` bits. `times`: how many layers produce these channels; a bit counts as often.
    `least`: the smallest number of set bits.
    """

    groups: tuple[str, ...]
    size: int
    times: int
    least: int


@dataclass(frozen=True)
class Genome:
    """The genes of a network, from input to output."""

    genes: tuple[Gene, ...]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> "Genome":
        """Build a genome. A group within residual blocks shares the bits of the preceding trunk if it is as wide."""
        found: list[list[Group]] = []
        trunk: list[Group] = []
        for group in groups:
            if group.bypassed and trunk and trunk[0].size == group.size:
                trunk.append(group)
                continue
            found.append([group])
            if not group.bypassed:
                trunk = found[-1]
        return cls(tuple(_gene(together) for together in found))

    @property
    def bits(self) -> int:
        return sum(gene.size for gene in self.genes)

    def parts(self, bits: Bits) -> list[Bits]:
        """The bits of each gene."""
        ends = list(accumulate(gene.size for gene in self.genes))
        return [bits[end - gene.size : end] for gene, end in zip(self.genes, ends, strict=True)]

    def removed(self, bits: Bits) -> int:
        """The number of cleared bits, each counted once for every layer that produces its channel."""
        return sum(gene.times * part.count(0) for gene, part in zip(self.genes, self.parts(bits), strict=True))

    def kept(self, bits: Bits) -> dict[str, Tensor]:
        """The channels that stay, by group, for `networks.groups.cut`."""
        found = {}
        for gene, part in zip(self.genes, self.parts(bits), strict=True):
            index = torch.tensor([i for i, bit in enumerate(part) if bit], dtype=torch.int64)
            found |= dict.fromkeys(gene.groups, index)
        return found

    def widths(self, bits: Bits) -> dict[str, int]:
        """The number of channels that stay, by group."""
        pairs = zip(self.genes, self.parts(bits), strict=True)
        return {group: sum(part) for gene, part in pairs for group in gene.groups}

    def smallest(self) -> Bits:
        """The bits of the smallest network: the least that each gene needs."""
        return tuple(int(i < gene.least) for gene in self.genes for i in range(gene.size))

    def living(self, bits: Bits, random: Random) -> Bits:
        """The bits, with one random bit set in each gene that has fewer than it needs."""
        parts = self.parts(bits)
        for i, (gene, part) in enumerate(zip(self.genes, parts, strict=True)):
            if sum(part) < gene.least:
                chosen = random.randrange(gene.size)
                parts[i] = tuple(int(place == chosen) for place in range(gene.size))
        return tuple(bit for part in parts for bit in part)

    def without_one(self, bits: Bits, random: Random) -> Bits:
        """The bits with one random set bit cleared, in a gene that has more than it needs. There must be such a
        gene.
        """
        spare, start = [], 0
        for gene, part in zip(self.genes, self.parts(bits), strict=True):
            if sum(part) > gene.least:
                spare += [start + place for place, bit in enumerate(part) if bit]
            start += gene.size
        chosen = random.choice(spare)
        return (*bits[:chosen], 0, *bits[chosen + 1 :])


def text_of(bits: Bits) -> str:
    """The bits in hexadecimal, the first bit as the highest."""
    return f"{int(''.join(map(str, bits)), 2):0{-(-len(bits) // 4)}x}"


def parse_bits(text: str, count: int) -> Bits:
    """Parse `count` bits written by `text_of`. Raises ValueError for any other text."""
    bits = tuple(map(int, f"{int(text, 16):0{count}b}"))
    if text_of(bits) != text or len(bits) != count:
        raise ValueError(f"{text!r:.80} is not {count} bits in hexadecimal")
    return bits


def _gene(groups: Sequence[Group]) -> Gene:
    made = [slot for group in groups for slot in group.slots if slot.role == "write" and slot.tensor.endswith("weight")]
    least = max(min(1, group.least) for group in groups)
    return Gene(tuple(group.name for group in groups), groups[0].size, len(made), least)
