"""From a teacher, a recipe and images to a run with a student in it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vemcompress.commands import opening
from vemcompress.commands.gan_parts import build_gan, settled
from vemcompress.commands.parts import build_algorithm
from vemcompress.data.sets import ImageSet
from vemcompress.errors import NetworkError, RecipeError
from vemcompress.gans import GAN
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import calibrate, resolve
from vemcompress.runs.best import Picker
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.teacher_cache import CachePlan
from vemcompress.system import devices, distributed
from vemcompress.training.learner import one_by_one
from vemcompress.training.loop import Trainer
from vemcompress.training.pace import Limit
from vemcompress.weights.features import load_features
from vemcompress.weights.files import write_atomically
from vemcompress.weights.loading import Loaded

Event = Callable[[dict], None]


@dataclass(frozen=True)
class DistillResult:
    """A run. `seconds_per_step`, without saving, is None where no step was needed; losses are those logged last.

    `best` is what best/best.json says of the best checkpoint, None where none was picked. `stopped` is "max_hours"
    where the time was over after `steps` of `total_steps`, None for a run that is finished.
    """

    run: str
    student: str
    steps: int
    parameters: int
    teacher_parameters: int
    losses: dict[str, float]
    seconds_per_step: float | None
    skipped_images: int
    best: dict | None = None
    stopped: str | None = None
    total_steps: int | None = None

    def as_dict(self) -> dict:
        return asdict(self)


def distill(
    teacher: str | Path | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    recipe: str | Path = "omgd",
    overrides: Sequence[str] = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    on_event: Event = lambda event: None,
) -> DistillResult:
    """Distil `teacher` into a small student, in the new run folder `out`; or go on with the run `resume`.

    Where the recipe has a [gan] the teacher learns too: from `teacher`'s weights, or from new ones. A resumed run
    takes `teacher` and `data` where its files have moved. `overrides` are `key=value` as with --set. Checks come in
    this order: recipe, teacher, data, output. With `max_hours` it saves and returns before so much time has passed
    since it was called, after one step at least. Raises the classes of `errors`; a run that raised keeps its last
    checkpoint and can be resumed. Processes that torchrun started train it together, and all get the result.
    """
    limit, where = Limit.of(max_hours), devices.choose(device)
    with distributed.group(where):
        on_event = distributed.told_by_writer(on_event)
        work, run = distributed.together(
            lambda: _checked(teacher, data, out, recipe, overrides, resume, where, on_event)
        )
        with devices.memory_errors(opening.advice(work.plan)):
            work.prepare()
            with distributed.alike():
                work.reserve(run)
            distributed.by_writer(run.create)
            with distributed.held_by_writer(run.locked):
                if resume is None:  # from here on the run can be resumed
                    distributed.by_writer(lambda: write_atomically(run.recipe, work.plan.toml().encode()))
                return work.train(run, resume is not None, limit)


def _checked(
    teacher, data, out, recipe, overrides, resume, device: torch.device, on_event: Event
) -> tuple["_Distillation", RunFolder]:
    """All that can be known to be wrong before anything is computed or written."""
    plan, run = opening.open_recipe(recipe, overrides, resume)
    plan, loaded = opening.load_teacher(opening.located(plan, teacher, data, on_event))
    images = opening.training_images(plan, on_event)
    gan = build_gan(plan, loaded, images.channels()) if plan.gan else None
    plan = settled(plan, gan) if gan else plan
    original = next(iter(gan.teachers().values())) if gan else loaded.generator
    on_event({"event": "data", "images": images.count, "used": list(images.found.used)})
    learn_on, held_out = images.split_off()
    plan = resolve(plan, original, original.channels, learn_on.count)
    distributed.check_batch(plan.train.batch)
    work = _Distillation(plan, loaded, gan, original, learn_on, held_out, device, on_event)
    work.look()
    return work, run or opening.new_run(out)


class _Distillation:
    """The parts of one distillation, put together in the order in which they can fail."""

    def __init__(
        self,
        plan: Recipe,
        loaded: Loaded | None,
        gan: GAN | None,
        original: Generator,
        images: ImageSet,
        held_out: ImageSet | None,
        device: torch.device,
        on_event: Event,
    ):
        self.plan, self.loaded, self.gan, self.original = plan, loaded, gan, original
        self.images, self.held_out, self.device, self.on_event = images, held_out, device, on_event
        self.channels = original.channels

    def look(self) -> None:
        """Read a few images, so that data which do not serve are known before anything is written."""
        shown = self.images.spread(opening.SAMPLES)
        self.inputs, targets = shown.views(self.channels, opening.SAMPLES, self.on_event)
        self.columns = opening.columns(self.images, self.inputs, targets)

    def prepare(self) -> None:
        """Features, weights that depend on them, and what the best checkpoint is picked by."""
        plan = self.plan
        self.features = distributed.writer_first(
            lambda: load_features(plan.algorithm.features, plan.algorithm.features_weights)
        )
        if self.features is not None:
            self.features.to(self.device)
            # One rank's weights for all: another device may round another way.
            self.plan = distributed.from_writer(lambda: calibrate(plan, self.features, self._examples()))
        if self.gan is None:
            self.columns |= {"teacher": self._teacher_at_work(self.inputs).cpu()}
        with distributed.alike():
            self.pick, judge = self._picker(None), self._judge_of_teachers()
        self.algorithm = build_algorithm(self.plan, self.original, self.features, self.gan, judge)

    def reserve(self, run: RunFolder) -> None:
        """Say how large the teacher's cache can become, where there is one. Raises OutputError for a full disk."""
        plan, self.cache = self.plan, None
        if not plan.train.teacher_cache:
            return
        algorithm = self.algorithm.to(self.device)
        algorithm.bf16 = plan.train.precision == "bf16"
        example, sha256 = self.inputs[:1].to(self.device), self.loaded.sha256
        made_by = {
            "teacher": plan.teacher.model_dump(mode="json", include={"class_path", "norm"}) | {"sha256": sha256},
            "precision": plan.train.precision,
            "seed": plan.train.seed,
            "data": plan.data.model_dump(mode="json", exclude={"roots", "workers", "on_device"}),
        }
        self.cache = CachePlan.of(made_by, plan.train.teacher_cache, algorithm.taught(example), self.images.paths)
        self.on_event(self.cache.check_room(run.teacher_cache))

    def train(self, run: RunFolder, resumed: bool, limit: Limit) -> DistillResult:
        plan, train, algorithm = self.plan, self.plan.train, self.algorithm
        stream = self.images.stream(
            self.channels, train.batch, train.seed, self.on_event, self.device, train.teacher_cache
        )
        provenance = self.loaded.provenance() if self.loaded else {"source": f"{plan.gan.name}, learnt in this run"}
        trainer = Trainer(
            plan.name,
            plan.train,
            algorithm,
            stream,
            run,
            inputs=self.inputs,
            columns={k: v for k, v in self.columns.items() if k != "teacher"},
            provenance=provenance,
            device=self.device,
            on_event=self.on_event,
            pick=self.pick,
            limit=limit,
        )
        if resumed:
            distributed.together(lambda: opening.check_same_teacher(run, self.loaded))
        continued = trainer.restore() if resumed else False
        size = plan.data.size
        teacher = provenance | opening.described(self.original, size)
        networks = {"teacher": teacher, "student": opening.described(algorithm.student, size)}
        picture = run.samples / ("data.png" if self.gan else "teacher.png")

        def write_down() -> None:
            if trainer.step < plan.train.steps:
                write_atomically(run.recipe, plan.toml().encode())
            run.write_json(run.environment, opening.environment(self.device, **networks))
            opening.save_picture(picture, self.columns)

        distributed.by_writer(write_down)
        self._announce(networks, picture, trainer.step, continued)
        if trainer.step < plan.train.steps:
            with self._cached(run, stream):
                trainer.train()
        return DistillResult(
            run=str(run.path),
            student=str(run.student),
            steps=trainer.step,
            parameters=networks["student"]["parameters"],
            teacher_parameters=teacher["parameters"],
            losses=trainer.losses,
            seconds_per_step=trainer.seconds_per_step,
            skipped_images=len(opening.union_of_skipped(stream.skipped, self.on_event)),
            best=trainer.best.state,
            stopped=trainer.stopped,
            total_steps=plan.train.steps,
        )

    @contextmanager
    def _cached(self, run: RunFolder, stream) -> Iterator[None]:
        """While inside, the algorithm has the teacher's outputs from disk, where the recipe wants that."""
        if self.cache is None:
            yield
            return
        with self.cache.opened(run.teacher_cache, stream.keys, self.on_event) as self.algorithm.recall:
            yield

    def _examples(self) -> Tensor:
        """What a frozen teacher makes of a few images, or what one that learns shall make."""
        few = opening.CALIBRATION_IMAGES
        if self.gan is not None:
            return self.images.examples(self.channels, few, self.on_event).to(self.device)
        return self._teacher_at_work(self.images.views(self.channels, few, self.on_event).inputs)

    @torch.no_grad()
    def _teacher_at_work(self, inputs: Tensor) -> Tensor:
        self.original.to(self.device).eval()
        return one_by_one(self.original, inputs.to(self.device))

    def _picker(self, by: str | None) -> Picker | None:
        return opening.picker(
            self.plan,
            self.held_out,
            self.channels,
            self.device,
            features=self.features,
            teacher=None if self.gan else self.original,
            by=by,
        )

    def _judge_of_teachers(self) -> Picker | None:
        """What picks the teacher that the student learns from, where the two learn in turn."""
        algorithm = self.plan.algorithm
        if self.gan is None or algorithm.online != "phases" or algorithm.best_teacher == "latest":
            return None
        try:
            judge = self._picker(algorithm.best_teacher)
        except NetworkError as error:
            raise NetworkError(f"{error} Or set algorithm.best_teacher to frechet or latest.") from error
        if judge is None:
            raise RecipeError(
                f"algorithm.best_teacher = '{algorithm.best_teacher}' has no images to score teachers on; set "
                "data.held_out, or train.best_on=test, or algorithm.best_teacher=latest."
            )
        return judge

    def _announce(self, networks: dict, picture: Path, step: int, continued: bool) -> None:
        plan, teacher, student = self.plan, networks["teacher"], networks["student"]
        self.on_event({
            "event": "plan",
            "recipe": plan.name,
            "algorithm": plan.algorithm.model_dump(exclude_none=True),
            "information": plan.information.model_dump(exclude_none=True),
            "gan": plan.gan.name if plan.gan else None,
            "gan_lr": plan.gan.lr if plan.gan else None,
            "beside": self._beside(),
            "teacher": teacher,
            "student": student,
            "images": self.images.count,
            "held_out": len(self.held_out.paths) if self.held_out else 0,
            "size": plan.data.size,
            "batch": plan.train.batch,
            "steps": plan.train.steps,
            "step": step,
            "continued": continued,
            "device": self.device.type,
            "ranks": distributed.ranks(),
            "precision": plan.train.precision,
            "picture": str(picture),
        })  # fmt: skip
        if student["parameters"] >= teacher["parameters"]:
            message = "the student is not smaller than its teacher; choose --width or --target-macs."
            self.on_event({"event": "warning", "message": message})

    def _beside(self) -> dict[str, int]:
        """Parameters of what else learns: further generators and the discriminators."""
        if self.gan is None:
            return {}
        networks = list(self.gan.artifacts().items())[1:]
        return {name: count_parameters(network) for name, network in networks}
