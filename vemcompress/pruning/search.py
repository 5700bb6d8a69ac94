"""Search for the best sub-network of a supernet under a budget: evolution as in GAN-Compression (Li et al., CVPR
2020), or an exhaustive search of small spaces.
"""

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Literal

from pydantic import Field

from vemcompress.errors import UsageError
from vemcompress.export.goals.goal import Goal, met
from vemcompress.export.goals.settings import BUDGET, TARGETS, GoalSettings
from vemcompress.networks.subnets import Entries, Space, WidthOptions, text_of
from vemcompress.pruning.population import Population, PopulationSettings
from vemcompress.system.settings import Convention, Text

TRIES = 1000  # draws over the budget before one is narrowed until it fits
EXHAUSTIVE = 1000  # up to this many candidates are all scored


class SearchSettings(PopulationSettings, GoalSettings):
    """Settings of a search in a supernet; the defaults are the published ones. `by`: the score used as fitness, on the
    held-out images or, if train.best_on says so, the test images. `features`: the feature network for "frechet".
    `features_weights`: the file of its weights. `space`: the widths to search, as in the algorithm. "none" uses the
    widths stored in the supernet's file (others are then refused), else the algorithm's, else "auto".

    The budget is target_macs, share, target_latency or target_size; the default is a share of 0.25. `method`:
    "evolution", "exhaustive" for all candidates, or "auto" for all if at most 1,000 fit the budget. `parents`: the
    share of a generation that survives. `mutants`: the share of the population that are mutations of parents; the
    others are crossed from two parents gene by gene. `mutate`: probability that a gene of a mutant is drawn again.
    `weighted`: how many times as likely the narrowest width is as the widest in random draws. `weighting`: "arithmetic"
    interpolates between the two; "geometric" makes each width that many times as likely as the next
    wider one.
    """

    replaces: ClassVar = {**dict.fromkeys(TARGETS, ("share",)), "share": BUDGET}
    exclusive: ClassVar = (*TARGETS, "share")

    method: Literal["auto", "evolution", "exhaustive"] = "auto"
    by: Literal["fid", "frechet", "miou", "ssim_teacher", "l1_target"] = "fid"
    features: Literal["none", "vgg16", "squeezenet1_1", "squeezenet1_1_caffe"] = "none"
    features_weights: Text | None = None
    space: WidthOptions = "none"
    count_as: Convention = "paper_norm"
    parents: float = Field(0.25, gt=0, le=1)
    mutants: float = Field(0.5, ge=0, le=1)
    mutate: float = Field(0.2, ge=0, le=1)
    weighted: float = Field(1.0, gt=0, le=1000)
    weighting: Literal["arithmetic", "geometric"] = "arithmetic"

    def target(self, macs: int) -> int:
        """The largest number of MACs of a candidate, for a supernet of `macs`."""
        return self.target_macs or int(macs * (self.share or 0.25))


class Search(Population[Entries]):
    """Evolution of candidates in a `space`.

    Each candidate has at most `target` MACs by `macs`, a function of the widths of all channel groups. With a `goal`,
    whose candidates are those of the space, each candidate must meet the goal by prediction instead. `higher`: whether
    a higher fitness is better. Raises UsageError (2) for a target that no candidate meets, or that the largest
    candidate meets already.
    """

    def __init__(
        self,
        space: Space,
        macs: Callable[[dict[str, int]], int],
        target: float,
        settings: SearchSettings,
        *,
        goal: Goal | None = None,
        higher: bool = True,
    ):
        super().__init__(target, higher=higher)
        self.space, self.settings, self._goal = space, settings, goal
        self.goal = None if goal is None else f"predicted_{goal.unit}"
        self._macs, self._random = macs, Random(settings.seed)
        self._costs: dict[Entries, float] = {}
        smallest, largest = self.cost(space.smallest), self.cost(space.largest)
        if smallest > target:
            raise UsageError(
                f"a target of {self.shown(target)}: the smallest candidate has {self.shown(smallest)}; give a higher "
                "target or narrower widths in the space."
            )
        if largest <= target:
            raise UsageError(
                f"a target of {self.shown(target)}: the largest candidate has {self.shown(largest)} and meets it "
                "already, so there is nothing to search; give a lower target."
            )
        self.everything = self._few()
        self.population = self.everything if self.everything is not None else self._drawn(self._draw)

    def shape(self, entries: Entries) -> dict[str, int]:
        return self.space.widths(entries)

    def count(self, entries: Entries) -> int:
        return self._macs(self.shape(entries))

    def cost(self, entries: Entries) -> float:
        if self._goal is None:
            return self.macs(entries)
        if entries not in self._costs:
            self._costs[entries] = self._goal.cost(entries)
        return self._costs[entries]

    def shown(self, cost: float) -> str:
        return super().shown(cost) if self._goal is None else self._goal.shown(cost)

    @property
    def measured(self) -> dict[str, Any] | None:
        """The values that the goal's predictions depend on."""
        return None if self._goal is None else self._goal.state()

    def decided(self) -> tuple[Entries, dict[str, Any] | None]:
        """The best candidate and the report of the goal, which it meets when measured. Raises UsageError if no
        scored candidate meets it.
        """
        if self._goal is None:
            return self.best(), None
        ranked, goal = self.ranked(self.peers()), self._goal

        def choose(most: float) -> Entries:
            fitting = (entries for entries in ranked if goal.cost(entries) <= most)
            if (found := next(fitting, None)) is None:
                raise goal.too_high(goal.measured(ranked[0]), len(ranked))
            return found

        best, report = met(goal, choose)
        return best, report | {"before": goal.measured(self.space.largest)}

    @property
    def said(self) -> str:
        return f"{self.space.size:,} sub-networks"

    def row(self, entries: Entries) -> dict[str, Any]:
        return {"widths": text_of(entries)}

    def read(self, row: dict[str, Any]) -> Entries | None:
        try:
            entries = self.space.parse(row["widths"])
        except ValueError:
            return None
        return entries if self.cost(entries) <= self.target else None

    @property
    def total(self) -> int:
        """The number of generations."""
        return 1 if self.everything is not None else self.settings.generations

    def advance(self) -> bool:
        self.generation += 1
        if self.generation >= self.total:
            return False
        parents = self.ranked(self.population)[: max(1, round(self.settings.parents * self.settings.population))]
        mutants = round(self.settings.mutants * self.settings.population)
        children = [self._fitting(lambda: self._mutant(parents)) for _ in range(mutants)]
        children += [self._fitting(lambda: self._cross(parents)) for _ in range(self.settings.population - mutants)]
        self.population = parents + children
        return True

    def _few(self) -> list[Entries] | None:
        """Every candidate within the budget, if all are to be scored; else None."""
        if self.settings.method == "evolution" or (
            self.settings.method == "auto" and self.space.size > 20 * EXHAUSTIVE
        ):
            return None
        if self.space.size > 10_000_000:
            raise UsageError(f"search.method exhaustive: the space has {self.space.size:,} candidates; use evolution.")
        found = [entries for entries in self.space.all() if self.cost(entries) <= self.target]
        return found if self.settings.method == "exhaustive" or len(found) <= EXHAUSTIVE else None

    def _drawn(self, make: Callable[[], Entries]) -> list[Entries]:
        return [self._fitting(make) for _ in range(self.settings.population)]

    def _fitting(self, make: Callable[[], Entries]) -> Entries:
        """A candidate within the budget. Under a tight budget nearly every draw exceeds it. Therefore, after some
        tries, one is narrowed gene by gene at random until it fits; the smallest always fits.
        """
        for _ in range(TRIES):
            if self.cost(entries := make()) <= self.target:
                return entries
        while self.cost(entries) > self.target:
            gene = self._random.randrange(len(entries))
            narrower = [option for option in self.space.options[gene] if option < entries[gene]]
            if narrower:
                entries = (*entries[:gene], max(narrower), *entries[gene + 1 :])
        return entries

    def _draw(self) -> Entries:
        return tuple(self._option(gene) for gene in range(len(self.space.options)))

    def _option(self, gene: int) -> int:
        options, weighted = self.space.options[gene], self.settings.weighted
        last = max(1, len(options) - 1)
        if self.settings.weighting == "geometric":
            weights = [weighted**i for i in range(len(options))]
        else:
            weights = [1 + (weighted - 1) * i / last for i in range(len(options))]
        return self._random.choices(options, weights)[0]

    def _mutant(self, parents: list[Entries]) -> Entries:
        parent = self._random.choice(parents)
        anew = [self._random.random() < self.settings.mutate for _ in parent]
        return tuple(self._option(i) if new else entry for i, (new, entry) in enumerate(zip(anew, parent, strict=True)))

    def _cross(self, parents: list[Entries]) -> Entries:
        a, b = (self._random.choice(parents) for _ in range(2))
        return tuple(self._random.choice(pair) for pair in zip(a, b, strict=True))
