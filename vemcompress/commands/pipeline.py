"""The stages of a pipeline: each has its own recipe, the products of earlier stages as inputs, and a run folder."""

from dataclasses import replace
from pathlib import Path

from vemcompress import recipe as recipes
from vemcompress.commands import distilling, prune, search, teach
from vemcompress.commands.opening import Given
from vemcompress.errors import InputError
from vemcompress.gans import started_by
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.stages import GIVES, Stage
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.series import Series
from vemcompress.system import distributed, names
from vemcompress.system.files import LARGE, read_bytes, write_atomically
from vemcompress.weights.loading import weights_of

StageResult = distilling.DistillResult | teach.TeachResult | prune.PruneResult | search.SearchResult


class Pipeline:
    """A folder of stages and its recipe. `changes` are the overrides of this resume, by stage."""

    def __init__(self, folder: Series, plan: Recipe, changes: dict[str, list[str]] | None = None):
        self.folder, self.plan, self.changes = folder, plan, changes or {}
        self.stages = {stage.name: stage for stage in plan.stages}

    @property
    def student(self) -> Path:
        return RunFolder(self.folder.path).student

    def recipe_of(self, name: str) -> Recipe:
        """A stage's own recipe. It starts from the products of the stages that it names, or from the user's files."""
        stage = self.stages[name]
        plan = recipes.of_stage(self.plan, stage)
        teacher, student = self._product(stage.teacher), self._product(stage.student)
        if teacher is not None:
            plan = plan.but(teacher=plan.teacher.but(source=teacher))
            if stage.teacher not in self.folder.skipped:  # these keys apply only to the user's own file
                plan = plan.but(teacher=plan.teacher.but(key=None, padding=None, range=None))
        if not stage.replaceable:
            plan = plan.but(teacher=plan.teacher.but(source=None, key=None, padding=None, range=None, start={}))
        given = getattr(self.plan.student, "source", None)
        if student is not None:
            fresh, class_path = getattr(plan.student, "fresh", False), self._class_of(stage.student)
            plan = plan.but(student=AutoStudent(source=student, class_path=class_path, fresh=fresh))
        elif given is not None and any(self.stages[other].do == "prune" for other in self.folder.skipped):
            plan = plan.but(student=AutoStudent())  # the user's student replaces the pruned one in later stages
        own = getattr(plan.algorithm, "adversary", None)
        if stage.adversary is not None and own is not None and own.source is None:
            started = own.but(source=self._discriminator(stage.adversary))
            plan = plan.but(algorithm=plan.algorithm.but(adversary=started))
        files = getattr(plan.algorithm, "start", None)  # for a student that has a GAN of its own
        if files is not None and plan.gan is not None:
            plan = plan.but(algorithm=plan.algorithm.but(start=self._beside(stage, plan.gan.name) | files))
        return plan

    def _beside(self, stage: Stage, gan: str) -> dict[str, str]:
        """Files from which the other networks of a student's GAN start: the second generator, pruned with the first,
        and the discriminators of stage.adversary."""
        found, product = {}, self._product(stage.student)
        if stage.adversary is not None and (folder := self._folder(stage.adversary)) is not None:
            found = {name: path for name, path in started_by(gan, folder).items() if name.startswith("discriminator")}
        back = None if product is None else weights_of(Path(product)).with_name("student_b.safetensors")
        return found | ({"generator_b": str(back)} if back is not None and back.is_file() else {})

    def _folder(self, name: str) -> Path | None:
        """The folder of a stage's product, or the path of the user's replacement; None if there is none."""
        if name not in self.folder.skipped:
            return self.folder.run(name).path
        product = self._product(name)
        return None if product is None else Path(product)

    def _discriminator(self, name: str) -> str | None:
        """The file of the discriminator trained with a stage's student or teacher. None if there is none, for example
        if the user supplies a teacher as a single file."""
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

    @property
    def own_class(self) -> str | None:
        """The user's own class of the pipeline's student, or None."""
        return self._class_of(list(self.stages)[-1])

    def _class_of(self, name: str) -> str | None:
        """The user's own class of the student of a stage, or None."""
        stage = self.stages[name]
        if name in self.folder.skipped:
            return getattr(self.plan.student, "class_path", None)
        if stage.student is not None:
            return self._class_of(stage.student)
        plan = recipes.of_stage(self.plan, stage)
        of_teacher = stage.do == "prune" or getattr(plan.student, "source", None) == names.OF_TEACHER
        return plan.teacher.class_path if of_teacher else getattr(plan.student, "class_path", None)

    def known(self, name: str) -> StageResult | None:
        """The result of a finished stage, or None. Raises InputError if its folder was removed."""
        if name not in self.folder.done:
            return None
        self.folder.check_there(name)
        run = self.folder.run(name)
        if self.stages[name].do in ("prune", "search"):
            return (prune if self.stages[name].do == "prune" else search).known(run)
        found = teach if self.stages[name].do == "teach" else distilling
        return found.known(run, self.changes.get(name, ()))

    def make(self, name: str, given: Given) -> StageResult:
        """Run or resume a stage, with the device and the time limit of `given`."""
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
        if not given.dry and not getattr(result, "stopped", None):
            distributed.by_writer(lambda: self.publish(name))
        return result

    def _tell_start(self, stage: Stage, plan: Recipe, given: Given) -> None:
        """Warn if the student's discriminators start from new weights because the stage that trains them was
        skipped."""
        start = getattr(plan.algorithm, "start", None)
        if stage.adversary is not None and start is not None and not any("discriminator" in name for name in start):
            message = (
                f"stage {stage.adversary} has no discriminators, so new ones are trained with the student, which takes "
                "longer; give a run of `vemcompress teach` as the teacher, or set algorithm.start."
            )
            given.on_event({"event": "warning", "message": message})

    def publish(self, name: str) -> None:
        """Copy a stage's student to the pipeline's folder."""
        if GIVES[self.stages[name].do] != "student":
            return
        made = self.folder.run(name).student
        try:
            content = read_bytes(made, LARGE)
            same = self.student.is_file() and read_bytes(self.student, LARGE) == content
        except OSError as error:
            raise InputError(
                f"{made}: cannot be read ({error.strerror or error}), but stage {name} is finished; write it again "
                f"with `vemcompress distill --resume {made.parent}`."
            ) from error
        if not same:
            write_atomically(self.student, content)
