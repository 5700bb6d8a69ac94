"""What each stage of a pipeline is given: a recipe of its own, the products of earlier stages, a run folder."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS
from vemcompress.commands import distilling, facts, opening, prune, search, teach
from vemcompress.commands.opening import Given
from vemcompress.errors import InputError, NetworkError, RecipeError, UsageError
from vemcompress.gans import GANS, Start, build_gan, started_by
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator
from vemcompress.networks.subnets import Space
from vemcompress.pruning import check_masks
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.resolve import for_latents, resolve, resolve_teaching, teacher_network
from vemcompress.recipe.stages import GIVES, Stage
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series
from vemcompress.system import distributed, names
from vemcompress.system.events import silent
from vemcompress.system.files import LARGE, read_bytes, write_atomically
from vemcompress.weights.hub import is_hub
from vemcompress.weights.loading import weights_of

StageResult = distilling.DistillResult | teach.TeachResult | prune.PruneResult | search.SearchResult


class Pipeline:
    """A folder of stages with its recipe, `changes` of this resume by stage, and what each stage is given."""

    def __init__(self, folder: Series, plan: Recipe, changes: dict[str, list[str]] | None = None):
        self.folder, self.plan, self.changes = folder, plan, changes or {}
        self.stages = {stage.name: stage for stage in plan.stages}
        self._configs: dict[str | None, Config] = {}  # of students, by stage, as far as they are known before it runs

    @property
    def student(self) -> Path:
        return RunFolder(self.folder.path).student

    def recipe_of(self, name: str) -> Recipe:
        """A stage's own recipe, which begins with what the stages that it names have given, or the user instead."""
        stage = self.stages[name]
        plan = recipes.of_stage(self.plan, stage)
        teacher, student = self._product(stage.teacher), self._product(stage.student)
        if teacher is not None:
            key = plan.teacher.key if stage.teacher in self.folder.skipped else None  # of the user's own file alone
            plan = plan.but(teacher=plan.teacher.but(source=teacher, key=key))
        if not stage.replaceable:
            plan = plan.but(teacher=plan.teacher.but(source=None, key=None, start={}))
        given = getattr(self.plan.student, "source", None)
        if student is not None:
            fresh, class_path = getattr(plan.student, "fresh", False), self._class_of(stage.student)
            plan = plan.but(student=AutoStudent(source=student, class_path=class_path, fresh=fresh))
        elif given is not None and any(self.stages[other].do == "prune" for other in self.folder.skipped):
            plan = plan.but(student=AutoStudent())  # the user's is for who takes the pruned one
        own = getattr(plan.algorithm, "adversary", None)
        if stage.adversary is not None and own is not None and own.source is None:
            started = own.but(source=self._discriminator(stage.adversary))
            plan = plan.but(algorithm=plan.algorithm.but(adversary=started))
        files = getattr(plan.algorithm, "start", None)  # of a student that is a GAN of its own
        if files is not None and plan.gan is not None:
            plan = plan.but(algorithm=plan.algorithm.but(start=self._beside(stage, plan.gan.name) | files))
        return plan

    def _beside(self, stage: Stage, gan: str) -> dict[str, str]:
        """Files that the other networks of a student's GAN begin with: its second generator, which was pruned with the
        first, and the discriminators of stage.adversary."""
        found, product = {}, self._product(stage.student)
        if stage.adversary is not None and (folder := self._folder(stage.adversary)) is not None:
            found = {name: path for name, path in started_by(gan, folder).items() if name.startswith("discriminator")}
        back = None if product is None else weights_of(Path(product)).with_name("student_b.safetensors")
        return found | ({"generator_b": str(back)} if back is not None and back.is_file() else {})

    def _folder(self, name: str) -> Path | None:
        """Of what a stage gives, or the user in its place; None where that is nothing."""
        if name not in self.folder.skipped:
            return self.folder.run(name).path
        product = self._product(name)
        return None if product is None else Path(product)

    def _discriminator(self, name: str) -> str | None:
        """The file of the discriminator that judged what a stage gives, its student's own or its teacher's; None where
        there is none, as beside a teacher that the user brings as a file alone."""
        stage, folder = self.stages[name], self._folder(name)
        own = ("adversary",) if GIVES[stage.do] == "student" else ("discriminator_a", "discriminator")
        found = (folder / f"{one}.safetensors" for one in own if folder is not None)
        return next((str(path.resolve()) for path in found if path.is_file()), None)

    def _product(self, name: str | None) -> str | None:
        if name is None:
            return None
        gives, run = GIVES[self.stages[name].do], self.folder.run(name)
        if name in self.folder.skipped:
            return getattr(self.plan, gives).source
        return str((run.path if gives == "teacher" else run.student).resolve())

    def _class_of(self, name: str) -> str | None:
        """The user's own class, where the student that a stage gives is of one."""
        stage = self.stages[name]
        if name in self.folder.skipped:
            return getattr(self.plan.student, "class_path", None)
        if stage.student is not None:
            return self._class_of(stage.student)
        plan = recipes.of_stage(self.plan, stage)
        of_teacher = stage.do == "prune" or getattr(plan.student, "source", None) == names.OF_TEACHER
        return plan.teacher.class_path if of_teacher else getattr(plan.student, "class_path", None)

    def known(self, name: str) -> StageResult | None:
        """The result of a stage that is done. Raises InputError where its folder was removed."""
        if name not in self.folder.done:
            return None
        self.folder.check_there(name)
        run = self.folder.run(name)
        if self.stages[name].do in ("prune", "search"):
            return (prune if self.stages[name].do == "prune" else search).known(run)
        found = teach if self.stages[name].do == "teach" else distilling
        return found.known(run, self.changes.get(name, ()))

    def make(self, name: str, given: Given) -> StageResult:
        """Make a stage, or go on with it, on the device and in the time that is `given`."""
        stage, run, plan = self.stages[name], self.folder.run(name), self.recipe_of(name)
        if stage.do == "prune":
            result = distributed.from_writer(lambda: prune.prune_run(plan, run, given.where, given.on_event))
        elif stage.do == "search":
            result = search.search_run(plan, run, given)
        else:
            own = {"out": run.path, "recipe": plan, "overrides": (), "resume": None}
            if run.recipe.is_file():
                keys = ("source", "class_path") if stage.student else ()
                moved = {key: getattr(plan.student, key) for key in keys}
                moved = [f"student.{key}={value}" for key, value in moved.items() if value is not None]
                own |= {"resume": run.path, "overrides": [*self.changes.get(name, ()), *moved]}
            do = teach.teach_run if stage.do == "teach" else distilling.distill_run
            self._tell_start(stage, plan, given)
            result = do(replace(given, teacher=plan.teacher.source, data=plan.data.roots, **own))
        if not getattr(result, "stopped", None):
            distributed.by_writer(lambda: self.publish(name))
        return result

    def _tell_start(self, stage: Stage, plan: Recipe, given: Given) -> None:
        """Warn where a student's discriminators start anew because the stage that should give them was skipped."""
        start = getattr(plan.algorithm, "start", None)
        if stage.adversary is not None and start is not None and not any("discriminator" in name for name in start):
            message = (
                f"there are no discriminators of stage {stage.adversary}, so that new ones learn beside the student, "
                "which takes longer; give a run of `vemcompress teach`, or algorithm.start."
            )
            given.on_event({"event": "warning", "message": message})

    def publish(self, name: str) -> None:
        """Make a stage's student the pipeline's."""
        if GIVES[self.stages[name].do] != "student":
            return
        made = self.folder.run(name).student
        try:
            content = read_bytes(made, LARGE)
            same = self.student.is_file() and read_bytes(self.student, LARGE) == content
        except OSError as error:
            raise InputError(
                f"{made}: cannot be read ({error.strerror or error}), but stage {name} is done; go on with "
                f"--resume {made.parent} to have it written again."
            ) from error
        if not same:
            write_atomically(self.student, content)

    def check(self, teacher: Generator | None) -> None:
        """What can be known to be wrong before the first stage runs; `teacher` is the user's. Raises the classes of
        `errors`."""
        left = [stage for stage in self.plan.stages if stage.name not in self.folder.skipped]
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
        """Whether there are images, and a stage that distils fits its teacher, also one that is still to be taught."""
        plan = self.recipe_of(stage.name)
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
            check_masks(plan.masks, network, "generator", size=plan.data.size, steps=steps, recipe=plan.name)
        if stage.do == "teach" or (plan.learns and stage.do != "search"):
            return
        if stage.teacher is not None and stage.teacher not in self.folder.skipped:
            config = teacher_network(self.recipe_of(stage.teacher), images.channels())
            teacher = _empty(config)
            if plan.gan is not None:  # that stage will give all of its networks
                start = dict.fromkeys(GANS[plan.gan.name].started, str(self.folder.run(stage.teacher).path))
                plan = plan.but(teacher=plan.teacher.but(start=start))
        if stage.do == "search":
            self._note(stage, search.check_plan(plan, images, teacher and teacher.config))
            return
        if teacher is None:
            return
        if stage.do == "prune":
            source, made = plan.teacher.source or f"stage {stage.teacher}", None
            if teacher.config is not None and stage.teacher is not None:
                made = teacher.config  # of its kind, if narrower
            self._note(stage, prune.check_plan(plan, teacher, source) or made)
            return
        known = self._configs.get(stage.student)
        given = stage.student is not None or getattr(plan.student, "source", None) is not None
        student = _empty(known) if known is not None else teacher if given else None
        resolved = resolve(plan, teacher, images.split_off()[0].count, student)
        if known is not None or not given:
            self._configs[stage.name] = known or resolved.student.product()
        if plan.gan is not None:
            _check_gan(resolved, teacher, student or _empty(resolved.student))

    def _note(self, stage: Stage, made: Config | None) -> None:
        """The shape of what a stage will give, or one like it."""
        if made is not None:
            self._configs[stage.name] = made

    def _data(self, stage: Stage, plan: Recipe, teacher: Generator | None):
        """The recipe, for latent vectors where the teacher takes them, and what the stage learns from."""
        if stage.teacher is not None and stage.teacher not in self.folder.skipped:
            network = self.recipe_of(stage.teacher).teacher.network
            teacher = None if network is None else _empty(network)
        takes = facts.taken(plan, teacher)
        if takes.kind == "latent":
            plan = for_latents(plan, takes)
        return plan, facts.data_of(plan, takes, silent)

    def _learned(self, name: str, supernet: Config) -> str | None:
        """The widths that the supernet of a stage will have learned, as its file will say; None where it is none."""
        options = getattr(self.recipe_of(name).algorithm, "space", "none")
        return None if options == "none" else json.dumps(Space.of(supernet, options).options)

    def _check_teacher(self, stage: Stage) -> None:
        plan = self.recipe_of(stage.name)
        without = stage.student is not None if stage.do == "prune" else stage.do == "teach" or plan.learns
        if stage.do == "teach" and plan.gan is None:
            raise RecipeError(f"recipe {plan.name}: stage {stage.name}: has no [gan] to learn by; add recipe.gan.")
        if plan.teacher.source is not None or without:
            return
        if any(other.do == "teach" for other in self.plan.stages):
            raise RecipeError(
                f"recipe {plan.name}: stage {stage.name}: has no teacher; say in it by which stage, teacher = 'NAME', "
                "or give --teacher."
            )
        raise UsageError("no teacher: give --teacher FILE, or hf://user/repo.")

    def _check_files(self, stage: Stage) -> None:
        """Raises InputError for files of networks that are not there."""
        own = getattr(recipes.of_stage(self.plan, stage).algorithm, "start", {})
        for path in (*self.plan.teacher.start.values(), *own.values()):
            if not is_hub(path) and not Path(names.found(path)).exists():
                raise InputError(f"{path}: is not there; stage {stage.name} begins with it, so check the path.")

    def _check_width(self, stages: list[Stage]) -> None:
        keys = [key for key in ("width", "target_macs") if getattr(self.plan.student, key, None) is not None]
        if keys and stages and all(stage.student for stage in stages):
            raise RecipeError(
                f"recipe {self.plan.name}: student.{keys[0]} has no effect, because stage {stages[0].name} takes its "
                f"student from '{stages[0].student}'; omit it, or change that stage, for example prune.share."
            )


def _check_gan(plan: Recipe, teacher: Generator, student: Generator) -> None:
    """Whether the teacher's GAN can be built, and the method can learn beside it. Raises RecipeError."""
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
    """Without weights."""
    with torch.device("meta"):
        return build_generator(config)
