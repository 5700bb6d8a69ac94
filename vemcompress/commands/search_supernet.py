"""GAN-Compression's search among the sub-networks of a supernet, scored on images that training has not seen."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vemcompress.commands import parts
from vemcompress.commands.facts import Facts, data_of
from vemcompress.commands.opening import Given
from vemcompress.commands.searching import Measure, Method
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import ImageSet
from vemcompress.errors import NetworkError, RecipeError
from vemcompress.export.goals.goal import Goal
from vemcompress.export.goals.kinds import Wanted
from vemcompress.export.goals.subjects import OfSpace
from vemcompress.networks.base import Config, Generator
from vemcompress.networks.cost import costs
from vemcompress.networks.groups import cut
from vemcompress.networks.norms import recalibrate
from vemcompress.networks.subnets import SPACE, Entries, Space
from vemcompress.pruning.search import Search
from vemcompress.recipe import Recipe
from vemcompress.runs.best import Picker
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, read_json, write_atomically
from vemcompress.weights.features import load_features

CALIBRATION, CALIBRATION_BATCH = 64, 8
FILE, LIMIT = "goal.json", 64 << 20  # in the run folder: the measurements that predictions of a goal depend on


class OfSupernet(Method):
    """The search in a supernet. BatchNorm statistics of each candidate are measured on training inputs. All processes
    score one candidate together."""

    def __init__(self, facts: Facts, given: Given):
        super().__init__(facts, given)
        distributed.together(lambda: check_fitness(facts.plan, data_of(facts.plan, facts.original.takes)))
        learned = facts.student.metadata.get(SPACE)
        self.supernet = facts.student.generator
        about = facts.plan, self.supernet.config, learned
        self.measured = distributed.from_writer(lambda: self._measured(*about))
        self.population = distributed.together(lambda: planned(*about, measured=self.measured))
        with distributed.alike():
            self.pick = self._picker()

    def _measured(self, plan: Recipe, config: Config | None, learned: str | None) -> dict[str, Any] | None:
        """The measurements that predictions of the goal depend on: those stored in the run, so that a resumed search
        continues in the same way, or new ones. None without a goal."""
        if not plan.search.wanted:
            return None
        try:
            found = read_json(self.facts.run.path / FILE, LIMIT)
            planned(plan, config, learned, measured=found)
            return found
        except FileNotFoundError:
            pass
        except (OSError, *MALFORMED) as error:
            message = f"{self.facts.run.path / FILE}: is damaged ({error!s:.80}); the layers are measured again."
            self.given.on_event({"event": "warning", "message": message})
        return planned(plan, config, learned, on_event=self.given.on_event).measured

    def begin(self) -> Measure:
        if self.measured is not None:
            content = json.dumps(self.measured).encode()
            distributed.by_writer(lambda: write_atomically(self.facts.run.path / FILE, content))
        self.supernet.to(self.given.where)
        self._examples = []  # stays empty for a network without BatchNorm
        if self.supernet.config.norm == "batch":
            found = self.facts.images.spread(CALIBRATION).views(self.facts.original.channels, CALIBRATION).inputs
            self._examples = list(found.to(self.given.where).split(CALIBRATION_BATCH))
        with torch.no_grad():
            recalibrate(self.supernet, self._examples)
            whole = self.pick(self.supernet)
        self.population.higher = whole.higher_is_better
        return Measure(whole.name, whole.on, whole.images, whole.value)

    def identity(self, measure: Measure) -> dict[str, Any]:
        plan = self.facts.plan
        wanted = plan.search.wanted
        about = {"goal": [wanted.on, wanted.threads]} if wanted.latency else {}
        return about | {
            "supernet": self.facts.student.sha256,
            "space": self.population.space.options,
            "macs": [plan.search.count_as, plan.data.size],
            "fitness": [measure.name, plan.search.features, measure.on, measure.images],
        }

    def fitness(self, entries: Entries) -> float:
        with torch.no_grad():
            return self.pick(self.network(entries)).value

    @torch.no_grad()
    def network(self, entries: Entries) -> Generator:
        found = cut(self.supernet, self.population.shape(entries))
        recalibrate(found, self._examples)
        return found

    def _picker(self) -> Picker:
        settings, device = self.facts.plan.search, self.given.where
        features = load_features(settings.features, settings.features_weights)
        with _named():
            return parts.picker(
                self.facts, features and features.to(device), device, self.given.on_event, by=settings.by
            )


def planned(
    plan: Recipe,
    supernet: Config | None,
    learned: str | None = None,
    *,
    measured: dict[str, Any] | None = None,
    on_event: Event = silent,
) -> Search:
    """The search in a supernet of this Config. `learned` are the widths that it was trained at, from its file, if
    known.

    For a goal on a device, the layers are measured, unless `measured` holds earlier measurements. Raises RecipeError if
    the space does not fit the supernet, and UsageError for a budget that cannot be met.
    """
    settings, size = plan.search, plan.data.size
    if supernet is None:
        raise RecipeError(f"recipe {plan.name}: a network of your own class cannot be searched; prune it instead.")
    space = settings.space if settings.space != "none" else getattr(plan.algorithm, "space", "none")
    try:
        known = None if learned is None else Space.learned(supernet, learned)
        if known is not None and settings.space == "none":
            space = known
        else:
            space = Space.of(supernet, "auto" if space == "none" else space)
        for gene, mine, theirs in zip(supernet.genes(), space.options, (known or space).options, strict=True):
            if foreign := sorted(set(mine) - set(theirs)):
                raise ValueError(f"the supernet was not trained with {gene} at {', '.join(map(str, foreign))}")
    except ValueError as error:
        raise RecipeError(f"recipe {plan.name}: search.space does not fit: {error}.") from error
    table = costs(supernet, size, size)

    def macs(widths: dict[str, int]) -> int:
        return table(widths).macs()[settings.count_as]

    if settings.wanted:
        goal = goal_of(settings.wanted, space, size, measured, on_event)
        return Search(space, macs, goal.most, settings, goal=goal)
    return Search(space, macs, settings.target(macs(supernet.widths_by_group())), settings)


def goal_of(wanted: Wanted, space: Space, size: int, measured: dict[str, Any] | None, on_event: Event) -> Goal:
    """A goal that is ready to predict the candidates of a space. All their layers are measured at once; the smallest
    and the largest candidate are also measured as a whole."""
    goal = wanted.of(OfSpace(space, size), on_event)
    if measured is not None:
        goal.take(measured)
    goal.tabulate()
    if measured is None:
        goal.calibrate(space.smallest)
        goal.calibrate(space.largest)
    return goal


def check_fitness(plan: Recipe, images: ImageSet | LatentSet) -> None:
    """Raises RecipeError if candidates cannot be scored on images that training has not seen, and NetworkError or
    InputError if the weights for the fitness cannot be loaded."""
    from vemcompress.evaluation.extractors import INCEPTION, load_extractor  # late: the import takes a second
    from vemcompress.evaluation.judge import check_by

    settings, train = plan.search, plan.train
    unseen = parts.unseen(plan, images)
    features = load_features(settings.features, settings.features_weights)
    teacher = None if plan.learns else plan.teacher
    with _named():
        check_by(settings.by, unseen, features=features, segmenter=train.segmenter, teacher=teacher)
        if settings.by == "fid":
            load_extractor(INCEPTION, train.inception)


@contextmanager
def _named() -> Iterator[None]:
    """While inside, errors about the scoring name the keys of [search]."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(str(error).replace("train.best_by", "search.by").replace("best_by", "search.by")) from error
    except NetworkError as error:
        raise NetworkError(f"{error} Or set search.by to frechet, with search.features.") from error
