"""Candidate networks of a goal: given by the widths of channel groups, by a search space, or by one shorthand width."""

from collections.abc import Callable, Hashable, Mapping
from functools import cache
from itertools import product
from math import prod
from typing import Any, Protocol

import torch

from vemcompress.export.goals.layers import Layer, Shapes, example, recorded
from vemcompress.networks import build_generator
from vemcompress.networks.base import Config, Generator, init_weights, use_image_statistics, uses_image_statistics
from vemcompress.networks.groups import cut
from vemcompress.networks.subnets import Entries, Space

Widths = Mapping[str, int]
MOST_ENTRIES = 1000  # most combinations of the genes that one layer depends on


class Subject(Protocol):
    """The candidates, and the facts about each that need no weights. `size` is the side of the images."""

    size: int

    def layers(self, candidate: Any) -> list[Layer]: ...

    def parameters(self, candidate: Any) -> int: ...

    def network(self, candidate: Any) -> Generator:
        """The candidate with new weights, for measuring; the weights do not change the time."""


class OfGroups:
    """Candidates with other widths of a network's channel groups. The network may be on the meta device. `fresh`:
    widths that depend on others are derived again (`Config.shaped`)."""

    def __init__(self, network: Generator, size: int, *, fresh: bool = False):
        self._whole, self.size, self._fresh = network.deployed(), size, fresh
        self.groups = self._whole.groups()
        self._costs = self._whole.costs(size, size)
        self.widths = {group.name: group.size for group in self.groups}

    def layers(self, candidate: Widths) -> list[Layer]:
        return self.shapes(candidate)

    @property
    def shapes(self) -> Shapes:
        if not hasattr(self, "_shapes"):
            self._shapes = Shapes(self._recorded, self.widths)
        return self._shapes

    def parameters(self, candidate: Widths) -> int:
        config = self._config(candidate)
        return self._costs(candidate).parameters if config is None else config.cost(self.size, self.size).parameters

    def network(self, candidate: Widths) -> Generator:
        network = self._whole
        if network.config is None:
            return cut(network, candidate)
        config = self._config(candidate) or network.config.with_widths(candidate)
        return _built(config, by_image=uses_image_statistics(network))

    def _config(self, candidate: Widths) -> Config | None:
        """The Config of a new network, if it can differ from that of these widths."""
        config = self._whole.config
        return config.shaped(candidate) if self._fresh and config is not None and not config.polynomial else None

    def _recorded(self, widths: Widths) -> list[Layer]:
        config = self._config(widths)
        small = self._whole.narrower(self.groups, widths) if config is None else _built(config, "meta")
        try:
            return recorded(small, example(small, self.size, self.size))
        except Exception:  # a user's class may need real weights to run
            if self._whole.config is not None:
                raise
            small = cut(self._whole, widths)
            return recorded(small, example(small, self.size, self.size, "cpu"))


class OfSpace(OfGroups):
    """The sub-networks of a search space, by their entries."""

    def __init__(self, space: Space, size: int):
        with torch.device("meta"):
            super().__init__(build_generator(space.config), size)
        self.space = space

    def layers(self, candidate: Entries) -> list[Layer]:
        return super().layers(self.space.widths(candidate))

    def parameters(self, candidate: Entries) -> int:
        return super().parameters(self.space.widths(candidate))

    def network(self, candidate: Entries) -> Generator:
        return super().network(self.space.widths(candidate))

    def parts(self) -> dict[tuple[int, ...], dict[Entries, list[Layer]]] | None:
        """The layers of all candidates, grouped by the genes that they depend on, for each combination of entries. None
        if the genes are not known, or if there are too many combinations."""
        found, of_group = self.shapes.groups_of(), {}
        for number, groups in enumerate(self.space.config.genes().values()):
            of_group |= dict.fromkeys(groups, number)
        parts: dict[tuple[int, ...], dict[Entries, list[Layer]]] = {}
        for place, groups in enumerate(found or ()):
            genes = tuple(sorted({of_group[group] for group in groups}))
            if genes not in parts:
                options = [self.space.options[gene] for gene in genes]
                if prod(map(len, options)) > MOST_ENTRIES:
                    return None
                parts[genes] = {entries: [] for entries in product(*options)}
            for entries, layers in parts[genes].items():
                whole = list(self.space.smallest)
                for gene, entry in zip(genes, entries, strict=True):
                    whole[gene] = entry
                layers.append(self.shapes.one(place, self.space.widths(tuple(whole))))
        return parts or None


class OfWidth:
    """Candidates given by one shorthand width."""

    def __init__(self, of_width: Callable[[int], Config], size: int):
        self._config, self.size = cache(of_width), size
        self.layers = cache(self._layers)

    def _layers(self, candidate: int) -> list[Layer]:
        empty = _built(self._config(candidate), "meta")
        return recorded(empty, example(empty, self.size, self.size))

    def parameters(self, candidate: int) -> int:
        return self._config(candidate).cost(self.size, self.size).parameters

    def network(self, candidate: int) -> Generator:
        return _built(self._config(candidate))


def key_of(candidate: Any) -> Hashable:
    return tuple(sorted(candidate.items())) if isinstance(candidate, Mapping) else candidate


def _built(config: Config, device: str = "cpu", *, by_image: bool = False) -> Generator:
    """A network with new weights, always the same, in the form in which it is exported."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        network = build_generator(config)
        if device != "meta":
            init_weights(network)
        if by_image:
            use_image_statistics(network)
    return network.eval().deployed().eval()
