"""Co-Evolution's search in both generators of a CycleGAN. The fitness is how closely the pruned generators imitate the
original ones on images that training has not seen."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from vemcompress.algorithms.distillation import lacking_networks
from vemcompress.commands import opening, parts
from vemcompress.commands.facts import Facts, data_of
from vemcompress.commands.opening import Given
from vemcompress.commands.searching import Measure, Method
from vemcompress.data.sets import ImageSet
from vemcompress.errors import RecipeError
from vemcompress.gans import GANS
from vemcompress.networks.base import Generator
from vemcompress.pruning.co_evolution import CoEvolution, Direction, Member
from vemcompress.pruning.genome import Genome
from vemcompress.pruning.resemblance import Pruned, Resemblance
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.resolve import missing_networks
from vemcompress.system import distributed
from vemcompress.system.names import OF_TEACHER
from vemcompress.weights.modules import digest

NETWORKS = {"generator_b", "discriminator_a", "discriminator_b"}  # in addition to the first generator


class OfCycleGAN(Method):
    """The search in a CycleGAN. Each process scores different candidates."""

    apart = True

    def __init__(self, facts: Facts, given: Given):
        super().__init__(facts, given)
        distributed.together(lambda: check_teacher(facts.plan))
        generators = {name.removeprefix("generator_"): g for name, g in facts.gan.generators().items()}
        self.population = distributed.together(lambda: planned(facts.plan, generators))
        images = data_of(facts.plan, facts.original.takes)
        self._unseen = distributed.together(lambda: unseen(facts.plan, images))
        self._learn_on: ImageSet = images.split_off()[0].turned().split_off()[0].turned()

    def begin(self) -> Measure:
        facts, given, settings = self.facts, self.given, self.facts.plan.search
        channels = facts.original.channels
        train = facts.plan.train.but(
            steps=settings.steps_of(self._learn_on.count),
            epochs=None,
            batch=settings.batch,
            micro_batch=None,
            constant=1.0,  # the published schedule only starts to decay after 100 epochs
            compile=False,
        )
        images = {
            "a": self._unseen["a"].views(channels, on_event=given.on_event).inputs,
            "b": self._unseen["b"].views(channels[::-1], on_event=given.on_event).inputs,
        }
        self._resemblance = Resemblance(
            facts.gan,
            images,
            train,
            lambda: self._learn_on.stream(channels, settings.batch, train.seed, given.on_event, given.where),
            given.where,
            settings.cycle,
        )
        return Measure("fitness", facts.plan.train.best_on, len(images["a"]))

    def identity(self, measure: Measure) -> dict[str, Any]:
        plan, facts = self.facts.plan, self.facts
        return {
            "teacher": digest(facts.gan),
            "search": plan.search.model_dump(mode="json"),
            "gan": plan.gan.model_dump(mode="json"),
            "macs": [self.population.target, plan.data.size],
            "fitness": [measure.name, measure.on, measure.images, plan.train.seed],
        }

    def fitness(self, member: Member) -> float:
        population, partner = self.population, self.population.partner
        kept = population.genomes[member.direction].kept(member.bits)
        theirs = partner and population.genomes[partner.direction].kept(partner.bits)
        loss = self._resemblance(Pruned(member.direction, kept, theirs))
        return self.facts.plan.search.fitness(loss, population.removed(member))

    def network(self, member: Member) -> Generator:
        genome = self.population.genomes[member.direction]
        return self._resemblance.pruned(member.direction, genome.kept(member.bits))

    def others(self) -> dict[str, nn.Module]:
        """The generator of the other direction, as in a run with two students."""
        return {"student_b": self.network(self.population.back())}


def with_teacher(plan: Recipe) -> Recipe:
    """The recipe of the search: the student is the frozen teacher itself, with the files of its other networks. Raises
    RecipeError for another GAN than a CycleGAN."""
    check_gan(plan)
    plan = plan.but(student=AutoStudent(source=OF_TEACHER), algorithm=plan.algorithm.but(online="never"))
    return opening.located(plan, None, plan.data.roots)


def check_gan(plan: Recipe) -> None:
    """Raises RecipeError for another GAN than a CycleGAN."""
    if plan.gan is None or not set(GANS[plan.gan.name].started) >= NETWORKS:
        found = "has no [gan]" if plan.gan is None else f"has {plan.gan.name}"
        raise RecipeError(
            f"recipe {plan.name}: search.method {plan.search.method} prunes both generators of a CycleGAN, but this "
            f"recipe {found}; set gan.name to cyclegan."
        )


def check_teacher(plan: Recipe) -> None:
    """Raises RecipeError if some of the teacher's networks are missing."""
    if missing := missing_networks(plan):
        raise RecipeError(f"recipe {plan.name}: search.method {plan.search.method} {lacking_networks(missing)}.")


def unseen(plan: Recipe, images: ImageSet) -> dict[Direction, ImageSet]:
    """The unseen input images of each direction. Raises RecipeError if there are none."""
    back = "BtoA" if plan.data.direction == "AtoB" else "AtoB"
    way_back = plan.but(data=plan.data.but(direction=back))
    return {"a": parts.unseen(plan, images), "b": parts.unseen(way_back, images.turned())}


def planned(plan: Recipe, generators: Mapping[Direction, Generator]) -> CoEvolution:
    """The search in these generators. Raises UsageError for a network whose channels cannot be removed, and for a
    budget that cannot be met."""
    settings, size = plan.search, plan.data.size
    genomes = {direction: Genome.of(generator.groups()) for direction, generator in generators.items()}
    tables = {direction: generator.costs(size, size) for direction, generator in generators.items()}

    def counted(direction: Direction) -> Callable[[dict[str, int]], int]:
        return lambda widths: tables[direction](widths).macs()[settings.count_as]

    target = settings.target_macs
    if settings.share is not None:
        target = int(generators["a"].config.cost(size, size).macs()[settings.count_as] * settings.share)
    return CoEvolution(genomes, {direction: counted(direction) for direction in generators}, target, settings)
