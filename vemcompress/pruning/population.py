"""Base class of searches: candidates, their fitness, generations, and a budget of MACs.

Nothing here knows how fitness is measured. `wanted` lists the candidates to score next, and `tell` receives their
fitness. The draws depend only on the seed and on the fitness values. So a search that receives the same values again
makes the same choices; this is how an interrupted search is resumed.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from vemcompress.system.settings import BaseSettings, Convention, Macs, Seed

Candidate = TypeVar("Candidate", bound=Hashable)


class PopulationSettings(BaseSettings):
    """The budget and size of a search. `target_macs`: the largest number of MACs of a candidate, on one image of
    data.size. `share`: the budget as a share of the searched network's MACs. `count_as`: the convention by which MACs
    are counted. `population`: candidates per generation. `generations`: how many generations. `seed`: seed of the
    draws.

    `supernet` (class variable): whether the method searches a supernet; otherwise it prunes the teacher's own networks.
    """

    shared: ClassVar = True
    supernet: ClassVar[bool] = True
    replaces: ClassVar = {"target_macs": ("share",), "share": ("target_macs",)}
    exclusive: ClassVar = ("target_macs", "share")

    target_macs: Macs | None = None
    share: float | None = Field(None, gt=0, le=1)
    count_as: Convention = "paper"
    population: int = Field(100, ge=2, le=10_000)
    generations: int = Field(500, ge=1, le=100_000)
    seed: Seed = 0


class Population(Generic[Candidate]):
    """The candidates of a generation, `population`, and the `fitness` of all candidates scored so far.

    `target`: the largest `cost` of a candidate; None for no limit. `higher`: whether a higher fitness is better.
    """

    population: Sequence[Candidate]
    goal: str | None = None  # the name of `cost` in the table of candidates, if it is not MACs

    def __init__(self, target: float | None, *, higher: bool = True):
        self.target, self.higher = target, higher
        self.fitness: dict[Candidate, float] = {}
        self.generation = 0
        self._counted: dict[Candidate, int] = {}

    # -- what a method defines --------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """The number of generations."""
        raise NotImplementedError

    @property
    def said(self) -> str:
        """The number of candidates, in words."""
        raise NotImplementedError

    def advance(self) -> bool:
        """Move to the next generation; False if there is none. All of `population` must be scored."""
        raise NotImplementedError

    def shape(self, candidate: Candidate) -> dict[str, int]:
        """The widths of all channel groups of a candidate."""
        raise NotImplementedError

    def count(self, candidate: Candidate) -> int:
        """The MACs of a candidate."""
        raise NotImplementedError

    def row(self, candidate: Candidate) -> dict[str, Any]:
        """A candidate's columns in the table besides MACs and fitness: its `widths`, and what `read` needs."""
        raise NotImplementedError

    def read(self, row: dict[str, Any]) -> Candidate | None:
        """The candidate of a table row; None if it is not one of this search."""
        raise NotImplementedError

    def peers(self) -> Iterable[Candidate]:
        """The scored candidates whose fitness values are comparable, at least one. By default all."""
        return self.fitness

    # -- what all methods share --------------------------------------------------------------------------------------

    def macs(self, candidate: Candidate) -> int:
        if candidate not in self._counted:
            self._counted[candidate] = self.count(candidate)
        return self._counted[candidate]

    def cost(self, candidate: Candidate) -> float:
        """The cost that the budget limits: MACs, unless overridden."""
        return self.macs(candidate)

    def shown(self, cost: float) -> str:
        """A cost in words."""
        return f"{cost:,} MACs"

    @property
    def wanted(self) -> list[Candidate]:
        """The candidates of this generation without a fitness."""
        return [candidate for candidate in dict.fromkeys(self.population) if candidate not in self.fitness]

    def tell(self, fitness: dict[Candidate, float]) -> None:
        self.fitness |= fitness

    def ranked(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Candidates in order, best first, each once. For equal fitness the cheaper one comes first."""
        sign = -1 if self.higher else 1
        return sorted(dict.fromkeys(candidates), key=lambda c: (sign * self.fitness[c], self.cost(c), c))

    def best(self) -> Candidate:
        """The best of the comparable candidates."""
        return self.ranked(self.peers())[0]

    def decided(self) -> tuple[Candidate, dict[str, Any] | None]:
        """The result of a finished search, and the report of its goal on a device, if any."""
        return self.best(), None

    def front(self) -> list[Candidate]:
        """The Pareto front: candidates for which no other is both cheaper and better, from small to large."""
        found: list[Candidate] = []
        for candidate in sorted(self.ranked(self.peers()), key=self.cost):
            worse = found and (self.fitness[candidate] <= self.fitness[found[-1]]) == self.higher
            if not (worse or (found and self.fitness[candidate] == self.fitness[found[-1]])):
                found.append(candidate)
        return found
