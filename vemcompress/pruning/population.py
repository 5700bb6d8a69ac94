"""What every search has: candidates, their fitness, generation after generation, and a budget of MACs.

Nothing here knows what a candidate's fitness is: `wanted` says which candidates to score next, and `tell` takes their
fitness. The draws depend on the seed and on these figures alone, so that a search that is told what it was told before
goes the same way again: that is how an interrupted one goes on.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from vemcompress.system.settings import BaseSettings, Convention, Macs, Seed

Candidate = TypeVar("Candidate", bound=Hashable)


class PopulationSettings(BaseSettings):
    """The budget: at most `target_macs`, or this `share` of the MACs of the network that is searched, on one image of
    `data.size`, counted by the convention `count_as`. `population` candidates in each of so many `generations`.

    `supernet`: whether the method searches one, or else the teacher's own networks.
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
    """The candidates of a generation, `population`, and the `fitness` of all that were scored so far. `target`: so much
    of `cost` may a candidate have, None for any. `higher`: whether a higher fitness is better."""

    population: Sequence[Candidate]
    goal: str | None = None  # what `cost` is called in the table of candidates, where it is not MACs

    def __init__(self, target: float | None, *, higher: bool = True):
        self.target, self.higher = target, higher
        self.fitness: dict[Candidate, float] = {}
        self.generation = 0
        self._counted: dict[Candidate, int] = {}

    # -- what a method says ----------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Generations."""
        raise NotImplementedError

    @property
    def said(self) -> str:
        """How many candidates there are, for people."""
        raise NotImplementedError

    def advance(self) -> bool:
        """To the next candidates; False where there are none. All of `population` must be scored."""
        raise NotImplementedError

    def shape(self, candidate: Candidate) -> dict[str, int]:
        """The widths of all channel groups."""
        raise NotImplementedError

    def count(self, candidate: Candidate) -> int:
        """The MACs of a candidate."""
        raise NotImplementedError

    def row(self, candidate: Candidate) -> dict[str, Any]:
        """What the table says of a candidate beside MACs and fitness: its `widths`, and what `read` needs."""
        raise NotImplementedError

    def read(self, row: dict[str, Any]) -> Candidate | None:
        """The candidate of a row of the table; None where it cannot be one of this search."""
        raise NotImplementedError

    def peers(self) -> Iterable[Candidate]:
        """The scored candidates whose figures may be compared, at least one: all."""
        return self.fitness

    # -- what all share --------------------------------------------------------------------------------------------

    def macs(self, candidate: Candidate) -> int:
        if candidate not in self._counted:
            self._counted[candidate] = self.count(candidate)
        return self._counted[candidate]

    def cost(self, candidate: Candidate) -> float:
        """What the budget limits: MACs, or another."""
        return self.macs(candidate)

    def shown(self, cost: float) -> str:
        """Such a cost in words."""
        return f"{cost:,} MACs"

    @property
    def wanted(self) -> list[Candidate]:
        """The candidates of this generation that have no fitness yet."""
        return [candidate for candidate in dict.fromkeys(self.population) if candidate not in self.fitness]

    def tell(self, fitness: dict[Candidate, float]) -> None:
        self.fitness |= fitness

    def ranked(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Best first, each once; of equal ones those of less cost."""
        sign = -1 if self.higher else 1
        return sorted(dict.fromkeys(candidates), key=lambda c: (sign * self.fitness[c], self.cost(c), c))

    def best(self) -> Candidate:
        """Of those that may be compared."""
        return self.ranked(self.peers())[0]

    def decided(self) -> tuple[Candidate, dict[str, Any] | None]:
        """What the search gives once all is scored, and how it meets a goal on a device, where there is one."""
        return self.best(), None

    def front(self) -> list[Candidate]:
        """The Pareto front: candidates than which no other is both of less cost and better, from small to large."""
        found: list[Candidate] = []
        for candidate in sorted(self.ranked(self.peers()), key=self.cost):
            worse = found and (self.fitness[candidate] <= self.fitness[found[-1]]) == self.higher
            if not (worse or (found and self.fitness[candidate] == self.fitness[found[-1]])):
                found.append(candidate)
        return found
