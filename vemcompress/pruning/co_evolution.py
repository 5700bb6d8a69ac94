"""Co-Evolutionary compression: evolutionary pruning of both generators of a CycleGAN (Shu et al., ICCV 2019; rows of
VEM's Table 2).

A genome has one bit per channel (`genome`). Two populations evolve alternately, one of generators A to B and one of B
to A, and each is scored together with the best of the other. Where the published code, huawei-noah/GAN-pruning, differs
from the paper, this follows the code: fitness counts channels, not parameters.

Our choices where the code leaves it open: a gene without any set bit gets one back. The result is the best of the last
generation (there it is chosen by hand), because scores of different generations have different partners, and those of
the first have no cycle term. The initial draw counts as the first generation. A candidate whose training fails has a
resemblance of 0. A budget of MACs, which the paper does not have, is met by clearing random bits.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from vemcompress.errors import UsageError
from vemcompress.pruning.genome import Bits, Genome, parse_bits, text_of
from vemcompress.pruning.population import Population, PopulationSettings
from vemcompress.system.settings import Batch, Convention, Weight

Direction = Literal["a", "b"]  # generators A to B, and B to A
DIRECTIONS: tuple[Direction, ...] = ("a", "b")
LEAST = 1e-9  # least loss, so that the unpruned network has a finite fitness


class CoEvolutionSettings(PopulationSettings):
    """Fitness is `resemblance` / L + `removed` times the number of removed channels (`Genome.removed`).

    L sums over the validation images (D(G'(x)) - D(G(x)))^2, where D is averaged over its patches, G is the whole
    generator and G' the pruned one. From the second generation on it adds `cycle` times the mean of |F'(G'(x)) - x|
    with the partner F'. Before scoring, both are trained as a CycleGAN by the recipe's [gan].

    `resemblance`: weight of 1 / L in the fitness. `removed`: weight of the removed channels in the fitness. `cycle`:
    weight of the cycle term in L. `steps`: training steps of a candidate before it is scored; 0 for none. `epochs`: the
    same in epochs; None is the published 10. `batch`: batch size of that training. `selected`: share of new members
    that are copied from the last generation. `mutants`: share of new members that are mutations; the others are crossed
    from two members. There is no budget by default; if one is given, it applies to each of the two generators.
    """

    supernet: ClassVar = False
    replaces: ClassVar = {"steps": ("epochs",), "epochs": ("steps",)}

    method: Literal["co_evolution"] = "co_evolution"
    count_as: Convention = "paper"
    population: int = Field(32, ge=2, le=10_000)
    generations: int = Field(50, ge=1, le=100_000)
    resemblance: Weight = 500.0
    removed: Weight = 1e-3
    cycle: Weight = 10.0
    steps: int | None = Field(None, ge=0, le=10**7)
    epochs: float | None = Field(None, ge=0, le=1e6)
    batch: Batch = 1
    selected: float = Field(0.2, ge=0, le=1)
    mutants: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self):
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; give only one")
        if self.selected + self.mutants > 1:
            raise ValueError(f"selected {self.selected} and mutants {self.mutants} add up to more than 1; lower one")
        return self

    def steps_of(self, images: int) -> int:
        """How many steps each candidate is trained, for this number of training images."""
        if self.steps is not None:
            return self.steps
        return round((10 if self.epochs is None else self.epochs) * images / self.batch)

    def fitness(self, loss: float, removed: int) -> float:
        """The fitness; higher is better."""
        return self.resemblance / max(loss, LEAST) + self.removed * removed


class Member(NamedTuple):
    """A scored genome. Its generation, from 0, decides which partner it has."""

    generation: int
    direction: Direction
    bits: Bits


class CoEvolution(Population[Member]):
    """Alternates between the two directions: A to B, then B to A with the newest best A to B as partner.

    `genomes` and `macs`, a function of the widths of all channel groups, are by direction. Each candidate has at most
    `target` MACs. Raises UsageError (2) for a target that no candidate meets.
    """

    def __init__(
        self,
        genomes: Mapping[Direction, Genome],
        macs: Mapping[Direction, Callable[[dict[str, int]], int]],
        target: int | None,
        settings: CoEvolutionSettings,
    ):
        super().__init__(target)
        self.genomes, self.settings = genomes, settings
        self._macs, self._random, self._turn = macs, Random(settings.seed), 0
        for direction in DIRECTIONS:
            smallest = self.count(Member(0, direction, genomes[direction].smallest()))
            if target is not None and smallest > target:
                raise UsageError(
                    f"a target of {target:,} MACs: the smallest candidate has {smallest:,}; give a higher target."
                )
        self._members = {
            direction: [self._fitting(direction, self._drawn(direction)) for _ in range(settings.population)]
            for direction in DIRECTIONS
        }

    # -- interface of a search -------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return self.settings.generations

    @property
    def said(self) -> str:
        return " and ".join(f"{self.genomes[direction].bits} bits" for direction in DIRECTIONS)

    @property
    def direction(self) -> Direction:
        """The direction of the current turn."""
        return DIRECTIONS[self._turn % 2]

    @property
    def population(self) -> list[Member]:
        return [Member(self.generation, self.direction, bits) for bits in self._members[self.direction]]

    @property
    def partner(self) -> Member | None:
        """The best of the other direction in its newest turn; None in the first generation."""
        if self.generation == 0:
            return None
        return self.best_of("b", self.generation - 1) if self.direction == "a" else self.best_of("a", self.generation)

    def advance(self) -> bool:
        """Move to the other direction's turn. The turn of A to B begins a new generation."""
        self._turn += 1
        self.generation = self._turn // 2
        if self.generation >= self.total:
            return False
        if self.generation > 0:
            self._members[self.direction] = self._next()
        return True

    def shape(self, member: Member) -> dict[str, int]:
        return self.genomes[member.direction].widths(member.bits)

    def count(self, member: Member) -> int:
        return self._macs[member.direction](self.shape(member))

    def row(self, member: Member) -> dict[str, Any]:
        about = {"generation": member.generation, "direction": member.direction, "bits": text_of(member.bits)}
        return {"widths": self.widths(member)} | about

    def read(self, row: dict[str, Any]) -> Member | None:
        try:
            direction = row["direction"]
            bits = parse_bits(row["bits"], self.genomes[direction].bits)
            return Member(int(row["generation"]), direction, bits)
        except (KeyError, TypeError, ValueError):
            return None

    def widths(self, member: Member) -> str:
        """How many channels each gene keeps, such as "31_60_130_66_35"."""
        return "_".join(str(sum(part)) for part in self.genomes[member.direction].parts(member.bits))

    def removed(self, member: Member) -> int:
        return self.genomes[member.direction].removed(member.bits)

    def peers(self) -> list[Member]:
        """The candidates from A to B in the newest generation that has scores."""
        newest = max(member.generation for member in self.fitness if member.direction == "a")
        return self._scored("a", newest)

    def best_of(self, direction: Direction, generation: int) -> Member:
        return self.ranked(self._scored(direction, generation))[0]

    def back(self) -> Member:
        """The best candidate from B to A in the same generation as `best`."""
        return self.best_of("b", self.best().generation)

    def _scored(self, direction: Direction, generation: int) -> list[Member]:
        return [m for m in self.fitness if m.direction == direction and m.generation == generation]

    # -- the next generation --------------------------------------------------------------------------------------

    def _next(self) -> list[Bits]:
        """The best member unchanged, then members chosen by a uniform number u: below `selected` a copy, above it
        two crossed ones, and above 1 - `mutants`, or exactly at `selected`, a mutant. The last case follows the
        published code.
        """
        direction, settings = self.direction, self.settings
        old = self._members[direction]
        members = [Member(self.generation - 1, direction, bits) for bits in old]
        fitness = [self.fitness[member] for member in members]

        def chosen() -> Bits:
            return self._random.choices(old, fitness if sum(fitness) else None)[0]

        found = [self.ranked(members)[0].bits]
        while len(found) < settings.population:
            u = self._random.random()
            if u < settings.selected:
                children = (chosen(),)
            elif settings.selected < u <= 1 - settings.mutants:
                children = crossed(chosen(), chosen(), *self._segment(direction))
            else:
                children = (mutated(chosen(), *self._segment(direction)),)
            found += [self._fitting(direction, bits) for bits in children]
        return found[: settings.population]

    def _segment(self, direction: Direction) -> tuple[int, int]:
        """A random range of bits. As published, it never includes the last bit."""
        bits = self.genomes[direction].bits
        start, end = sorted(self._random.randrange(bits) for _ in range(2))
        return start, end

    def _drawn(self, direction: Direction) -> Bits:
        return tuple(self._random.getrandbits(1) for _ in range(self.genomes[direction].bits))

    def _fitting(self, direction: Direction, bits: Bits) -> Bits:
        """The bits, changed so that each gene has what it needs and the budget is met."""
        genome = self.genomes[direction]
        bits = genome.living(bits, self._random)
        while self.target is not None and self.count(Member(self.generation, direction, bits)) > self.target:
            bits = genome.without_one(bits, self._random)
        return bits


def crossed(one: Bits, other: Bits, start: int, end: int) -> tuple[Bits, Bits]:
    """Two genomes with the bits in range(start, end) exchanged."""
    return one[:start] + other[start:end] + one[end:], other[:start] + one[start:end] + other[end:]


def mutated(bits: Bits, start: int, end: int) -> Bits:
    """The genome with the bits in range(start, end) inverted."""
    return bits[:start] + tuple(1 - bit for bit in bits[start:end]) + bits[end:]
