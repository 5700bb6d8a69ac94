"""Checks of a pipeline before its first stage runs."""

import json
from pathlib import Path

import torch

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.commands import facts, opening, prune, search, sizing
from vemcompress.commands.pipeline import Pipeline
from vemcompress.errors import InputError, NetworkError, RecipeError, UsageError
from vemcompress.export.goals.settings import TARGETS
from vemcompress.gans import GANS, Start, build_gan
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator
from vemcompress.networks.subnets import Space
from vemcompress.pruning import check_masks
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import for_latents, resolve, resolve_teaching, teacher_network
from vemcompress.recipe.stages import Stage
from vemcompress.system import names
from vemcompress.system.events import silent
from vemcompress.weights.hub import is_hub


class Checks:
    """Checks of the remaining stages, in order. Networks are built without weights."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline = pipeline
        self._configs: dict[str | None, Config] = {}  # Configs of students by stage, if known before the stage runs

    def check(self, teacher: Generator | None) -> None:
        """Check all remaining stages; `teacher` is the user's. Raises the classes of `errors`."""
        left = [stage for stage in self.pipeline.plan.stages if stage.name not in self.pipeline.folder.skipped]
        for stage in left:
            self._check_teacher(stage)
            self._check_files(stage)
        self._check_width([stage for stage in left if stage.do == "distill"])
        for stage in left:
            try:
                self._check_fit(stage, teacher)
            except (RecipeError, InputError, UsageError, NetworkError) as error:
                raise type(error)(f"stage {stage.name}: {error}") from error

    def _check_fit(self, stage: Stage, teacher: Generator | None) -> None:
        """Check that there are images, and that a stage fits its teacher, even if the teacher is still to be
        trained."""
        plan = self.pipeline.recipe_of(stage.name)
        if stage.do == "prune" and getattr(plan.student, "source", None) is not None:
            return
        opening.check_data(plan)
        plan, images = self._data(stage, plan, teacher)
        if stage.do == "search" and plan.search.supernet:
            supernet = self._configs.get(stage.student)
            learned = supernet and self._learned(stage.student, supernet)
            self._note(stage, search.check_plan(plan, images, supernet, learned))
            return
        if stage.do == "teach" and plan.masks is not None:
            network = _empty(teacher_network(plan, images.channels()))
            steps = resolve_teaching(plan, network, images.split_off()[0].count).train.steps
            for target in {plan.masks.target_macs, plan.masks.back_macs or plan.masks.target_macs}:
                about = {"size": plan.data.size, "steps": steps, "recipe": plan.name, "target": target}
                check_masks(plan.masks, network, "generator", **about)
        if stage.do == "teach" or (plan.learns and stage.do != "search"):
            return
        if stage.teacher is not None and stage.teacher not in self.pipeline.folder.skipped:
            config = teacher_network(self.pipeline.recipe_of(stage.teacher), images.channels())
            teacher = _empty(config)
            if plan.gan is not None:  # that stage will supply all networks of the GAN
                start = dict.fromkeys(GANS[plan.gan.name].started, str(self.pipeline.folder.run(stage.teacher).path))
                plan = plan.but(teacher=plan.teacher.but(start=start))
        if stage.do == "search":
            self._note(stage, search.check_plan(plan, images, teacher and teacher.config))
            return
        if teacher is None:
            return
        if stage.do == "prune":
            source, made = plan.teacher.source or f"stage {stage.teacher}", None
            if teacher.config is not None and stage.teacher is not None:
                made = teacher.config  # of the same kind, but narrower
            self._note(stage, prune.check_plan(plan, teacher, source) or made)
            return
        known = self._configs.get(stage.student)
        given = stage.student is not None or getattr(plan.student, "source", None) is not None
        student = _empty(known) if known is not None else teacher if given else None
        measured = getattr(plan.student, "wanted", None)  # its width is not known before the stage runs
        resolved = resolve(sizing.stand_in(plan), teacher, images.split_off()[0].count, student)
        if known is not None or not (given or measured):
            self._configs[stage.name] = known or resolved.student.product()
        if plan.gan is not None:
            _check_gan(resolved, teacher, student or _empty(resolved.student))

    def _note(self, stage: Stage, made: Config | None) -> None:
        """Record the shape of a stage's product, or a similar shape."""
        if made is not None:
            self._configs[stage.name] = made

    def _data(self, stage: Stage, plan: Recipe, teacher: Generator | None):
        """The recipe (adapted to latent vectors if they are the teacher's input) and the stage's training data."""
        if stage.teacher is not None and stage.teacher not in self.pipeline.folder.skipped:
            network = self.pipeline.recipe_of(stage.teacher).teacher.network
            teacher = None if network is None else _empty(network)
        takes = facts.taken(plan, teacher)
        if takes.kind == "latent":
            plan = for_latents(plan, takes)
        return plan, facts.data_of(plan, takes, silent)

    def _learned(self, name: str, supernet: Config) -> str | None:
        """The widths that a stage's supernet will be trained at, in the form of its file; None if it is no supernet."""
        options = getattr(self.pipeline.recipe_of(name).algorithm, "space", "none")
        return None if options == "none" else json.dumps(Space.of(supernet, options).options)

    def _check_teacher(self, stage: Stage) -> None:
        plan = self.pipeline.recipe_of(stage.name)
        without = stage.student is not None if stage.do == "prune" else stage.do == "teach" or plan.learns
        if stage.do == "teach" and plan.gan is None:
            raise RecipeError(f"recipe {plan.name}: stage {stage.name}: has no [gan] to train with; add recipe.gan.")
        if plan.teacher.source is not None or without:
            return
        if any(other.do == "teach" for other in self.pipeline.plan.stages):
            raise RecipeError(
                f"recipe {plan.name}: stage {stage.name}: has no teacher; name the stage that trains it with "
                "teacher = 'NAME', or give --teacher."
            )
        raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")

    def _check_files(self, stage: Stage) -> None:
        """Raises InputError for network files that do not exist."""
        own = getattr(recipes.of_stage(self.pipeline.plan, stage).algorithm, "start", {})
        for path in (*self.pipeline.plan.teacher.start.values(), *own.values()):
            if not is_hub(path) and not Path(names.found(path)).exists():
                raise InputError(f"{path}: does not exist, and stage {stage.name} starts from it; check the path.")

    def _check_width(self, stages: list[Stage]) -> None:
        said = self.pipeline.plan.student
        keys = [key for key in ("width", *TARGETS) if getattr(said, key, None) is not None]
        if keys and stages and all(stage.student for stage in stages):
            raise RecipeError(
                f"recipe {self.pipeline.plan.name}: student.{keys[0]} has no effect, because stage {stages[0].name} "
                f"uses the student of '{stages[0].student}'; omit it, or change that stage, for example prune.share."
            )


def _check_gan(plan: Recipe, teacher: Generator, student: Generator) -> None:
    """Check that the teacher's GAN can be built, and that the method can use it. Raises RecipeError."""
    facts.check_teacher(plan, teacher, plan.teacher.norm)
    with torch.device("meta"):
        gan = build_gan(
            plan.gan,
            _empty(teacher.config),
            Start(plan.name, {}, {"deep": plan.teacher.deep}),
            seed=0,
            size=plan.data.size,
        )
        ALGORITHMS[plan.algorithm.name].check_gan(plan.algorithm, gan, _empty(student.config))


def _empty(config: Config) -> Generator:
    """A network without weights."""
    with torch.device("meta"):
        return build_generator(config)
