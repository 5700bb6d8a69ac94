"""Co-Evolutionary compression: both generators of a CycleGAN pruned by evolution (Shu et al., ICCV 2019; rows of VEM's
Table 2).

A genome has a bit for each channel (`genome`). Two populations evolve in turns, of generators A to B and B to A, and
each judges by the best of the other. The published code, huawei-noah/GAN-pruning, is followed where it differs from the
paper: fitness counts channels, not parameters.

Our choices where the code leaves it open: a gene of which no bit is left gets one back; the result is the best of the
last generation (there it is chosen by hand), because figures of different generations are of different partners, and
those of the first have no cycle; the first draw is the first of the generations; a candidate whose training breaks down
has no resemblance; and a budget of MACs, of which nothing is published, takes bits away at random until it is met.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from vemcompress.errors import UsageError
from vemcompress.pruning.genome import Bits, Genome, parse_bits, text_of
from vemcompress.pruning.population import Population, PopulationSettings
from vemcompress.system.settings import Batch, Convention, Weight

Direction = Literal["a", "b"]  # generators A to B, and back
DIRECTIONS: tuple[Direction, ...] = ("a", "b")
LEAST = 1e-9  # of a loss, so that the whole network has a fitness too


class CoEvolutionSettings(PopulationSettings):
    """Fitness is `resemblance` / L + `removed` times the channels that are gone (`Genome.removed`). L sums over the
    validation images (D(G'(x)) - D(G(x)))^2 with D's mean over its patches, of the whole G and the pruned G', and from
    the second generation on `cycle` times the mean of |F'(G'(x)) - x| of the partner F'. Before that both learn as a
    CycleGAN, by the recipe's [gan], for `steps` or `epochs` (10 as published; 0 for not at all) in batches of `batch`.

    A new member is one of the last generation (u < `selected`), or two by crossing two of them, or by mutation (the
    share `mutants`). There is no budget unless one is given; it then holds for each of the two generators.
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
            raise ValueError("steps and epochs exclude each other; give one")
        if self.selected + self.mutants > 1:
            raise ValueError(f"selected {self.selected} and mutants {self.mutants} are more than all; lower one")
        return self

    def steps_of(self, images: int) -> int:
        """So many steps each candidate learns, of so many training images."""
        if self.steps is not None:
            return self.steps
        return round((10 if self.epochs is None else self.epochs) * images / self.batch)

    def fitness(self, loss: float, removed: int) -> float:
        """Higher is better."""
        return self.resemblance / max(loss, LEAST) + self.removed * removed


class Member(NamedTuple):
    """A genome as it is scored: in a generation, from 0, in which it has that generation's partner."""

    generation: int
    direction: Direction
    bits: Bits


class CoEvolution(Population[Member]):
    """Turns of the two directions: A to B, then B to A against the new best A to B.

    `genomes` and `macs`, a function of the widths of all channel groups, are by direction; each candidate has at most
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

    # -- what a search is asked ------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        return self.settings.generations

    @property
    def said(self) -> str:
        return " and ".join(f"{self.genomes[direction].bits} bits" for direction in DIRECTIONS)

    @property
    def direction(self) -> Direction:
        """The one whose turn it is."""
        return DIRECTIONS[self._turn % 2]

    @property
    def population(self) -> list[Member]:
        return [Member(self.generation, self.direction, bits) for bits in self._members[self.direction]]

    @property
    def partner(self) -> Member | None:
        """The best of the other direction so far, in its newest turn; None in the first generation."""
        if self.generation == 0:
            return None
        return self.best_of("b", self.generation - 1) if self.direction == "a" else self.best_of("a", self.generation)

    def advance(self) -> bool:
        """To the other direction's turn, which begins a generation where it is that of A to B."""
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
        """From A to B, of the newest generation in which any is scored."""
        newest = max(member.generation for member in self.fitness if member.direction == "a")
        return self._scored("a", newest)

    def best_of(self, direction: Direction, generation: int) -> Member:
        return self.ranked(self._scored(direction, generation))[0]

    def back(self) -> Member:
        """The best from B to A of the generation that `best` is of."""
        return self.best_of("b", self.best().generation)

    def _scored(self, direction: Direction, generation: int) -> list[Member]:
        return [m for m in self.fitness if m.direction == direction and m.generation == generation]

    # -- how the next generation is made ---------------------------------------------------------------------------

    def _next(self) -> list[Bits]:
        """The best as it is, then members that are chosen by u: below `selected` an old one, above it two crossed, and
        above 1 - `mutants`, or at `selected` itself, a mutant; that last is how the published code compares."""
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
        """From a bit to before another; as published the last bit of all is in none."""
        bits = self.genomes[direction].bits
        start, end = sorted(self._random.randrange(bits) for _ in range(2))
        return start, end

    def _drawn(self, direction: Direction) -> Bits:
        return tuple(self._random.getrandbits(1) for _ in range(self.genomes[direction].bits))

    def _fitting(self, direction: Direction, bits: Bits) -> Bits:
        """The bits with what each gene needs, and within the budget."""
        genome = self.genomes[direction]
        bits = genome.living(bits, self._random)
        while self.target is not None and self.count(Member(self.generation, direction, bits)) > self.target:
            bits = genome.without_one(bits, self._random)
        return bits


def crossed(one: Bits, other: Bits, start: int, end: int) -> tuple[Bits, Bits]:
    """Two genomes with the bits from `start` to before `end` exchanged."""
    return one[:start] + other[start:end] + one[end:], other[:start] + one[start:end] + other[end:]


def mutated(bits: Bits, start: int, end: int) -> Bits:
    """With the bits from `start` to before `end` turned over."""
    return bits[:start] + tuple(1 - bit for bit in bits[start:end]) + bits[end:]
