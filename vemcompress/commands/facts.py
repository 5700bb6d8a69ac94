"""The first part of the line: recipe -> facts -> resolved recipe.

The user's inputs are opened and checked before anything is computed or written.
"""

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vemcompress.algorithms import ALGORITHMS
from vemcompress.commands import opening
from vemcompress.commands.opening import Given
from vemcompress.data.images import tell_notes
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.prefetch import Stream, Twice
from vemcompress.data.sets import ImageSet, training_set
from vemcompress.errors import RecipeError, UsageError
from vemcompress.gans import GAN, Start, build_gan
from vemcompress.gans.teachers import RecordedGenerator
from vemcompress.networks.base import Generator, ImageInput, LatentConfig, LatentInput
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import for_latents, resolved, teacher_network
from vemcompress.runs.folder import RunFolder
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent
from vemcompress.system.names import OF_TEACHER, PAIRS
from vemcompress.weights.loading import Loaded, load_known
from vemcompress.weights.outside import check_learns

SECOND = 8  # added to the seed, for the order of second batches
SAMPLES, DRAWN = 4, 16  # images in a run's sample sheets: for image inputs, and for latent vectors


@dataclass(frozen=True)
class Facts:
    """The checked inputs of a run.

    `plan` is the resolved recipe, without the values that are still to be calibrated. `original` is the teacher to
    distil, or the generator to train. `student` is the user's own, if there is one. `inputs` are the inputs of the
    sample sheets, and `columns` their first columns. `unreadable` are files that could not be read as images.
    """

    plan: Recipe
    run: RunFolder
    loaded: Loaded | None
    gan: GAN | None
    original: Generator
    student: Loaded | None
    images: ImageSet | LatentSet
    held_out: ImageSet | LatentSet | None
    inputs: Tensor
    columns: dict[str, Tensor]
    unreadable: Collection[Path] = ()

    @property
    def learns(self) -> bool:
        """Whether the teacher is trained in this run."""
        return self.plan.learns

    @property
    def frozen(self) -> bool:
        """Whether there is a teacher network that is not trained in this run."""
        return not self.plan.learns and not self.plan.from_pairs

    @property
    def provenance(self) -> dict[str, str]:
        """Where the teacher came from."""
        if self.plan.from_pairs:
            return {"source": PAIRS}
        return self.loaded.provenance() if self.loaded else {"source": f"{self.plan.gan.name}, learnt in this run"}

    def stream(
        self, device: torch.device, on_event: Event = silent, *, second: bool = False, halves: bool = False
    ) -> Stream:
        """The batches of a run. With `second`, each comes with a second batch in another order. With `halves`, the two
        batches are taken from different halves of the images."""
        train, channels = self.plan.train, self.original.channels
        images, others = self.images.halves() if second and halves else (self.images, self.images)

        def ordered(images: ImageSet | LatentSet, seed: int) -> Stream:
            return images.stream(channels, train.batch, seed, on_event, device, train.teacher_cache)

        first = ordered(images, train.seed)
        if not second:
            return first
        seed = int(np.random.SeedSequence((train.seed, SECOND)).generate_state(1)[0] >> 1)
        return Twice(first, ordered(others, seed))

    @property
    def advice(self) -> str:
        """What to do if there is not enough memory."""
        return f"lower train.batch ({self.plan.train.batch}) or data.size ({self.plan.data.size}) in a new run."


def read(command: str, given: Given, adapt: Callable[[Recipe], Recipe] = lambda plan: plan) -> Facts:
    """Read and check the user's inputs before anything is computed or written, in the order recipe, teacher, data,
    output. `command` is "distill" or "teach"; `adapt` changes the recipe after it has been read."""
    plan, run = opening.open_recipe(given.recipe, given.overrides, given.resume, command)
    if run is not None and given.teacher in (None, plan.teacher.source):  # a pipeline passes the same teacher again
        opening.check_teacher_there(plan)
    plan = opening.located(adapt(plan), given.teacher, given.data, given.on_event)
    return replace(gather(command, plan, given.on_event), run=run or opening.new_run(given.out))


def tell_images(images: ImageSet, on_event: Event) -> dict[Path, str]:
    """Report the number of readable images. Other files are reported first, and returned with the reason."""
    for path, reason in (unreadable := images.unreadable()).items():
        on_event({"event": "skipped", "path": str(path), "reason": reason})
    tell_notes(on_event)
    degraded = getattr(images.found, "degraded", None)  # one folder, so there is no direction to choose
    direction = None if degraded else getattr(images.found, "direction", None)
    shown = {"images": images.readable(unreadable), "used": list(images.found.used), "direction": direction}
    on_event({"event": "data", **shown})
    return unreadable


def gather(command: str, plan: Recipe, on_event: Event, given: Loaded | None = None) -> Facts:
    """The facts of a recipe that names its teacher and data, and the resolved recipe. There is no run folder yet.

    `given` is used instead of loading the teacher from the recipe's source.
    """
    opening.check_data(plan)
    source, begin = None if plan.from_pairs else plan.teacher.source, None
    loaded = given or (source and opening.load_teacher(plan, on_event)) or None
    if command == "distill" and (student := getattr(plan.student, "source", None)):
        begin = _student(plan, student, loaded)
        begin.tell(on_event)
    known = loaded or (begin if plan.from_pairs else None)
    takes = taken(plan, known and known.generator)
    plan = for_latents(plan, takes) if takes.kind == "latent" else plan.but(data=plan.data.for_only(takes.only))
    images = data_of(plan, takes, on_event)
    unreadable = _told(images, on_event)
    learn_on, held_out = images.split_off()
    channels, count = images.channels(), learn_on.count
    gan = teachers(plan, loaded, channels) if plan.gan is not None else None
    if plan.from_pairs:
        original = RecordedGenerator(*_stated_channels(plan, begin, channels), images.scale)
    else:
        original = next(iter(gan.generators().values())) if gan else loaded.generator
    plan = resolved(command, plan, original, count, gan=gan, loaded=loaded, student=begin)
    if original.config is None and not plan.from_pairs:
        original.check(plan.data.size)
    distributed.check_batch(plan.train.batch)
    inputs, columns = _shown(learn_on, original, on_event)
    return Facts(plan, None, loaded, gan, original, begin, learn_on, held_out, inputs, columns, frozenset(unreadable))


def _student(plan: Recipe, source: str, teacher: Loaded | None) -> Loaded:
    """The student from a file, or a copy of the teacher."""
    if source != OF_TEACHER:
        found = load_known(source, plan.student.sha256, "student", class_path=plan.student.class_path)
        check_learns(found.generator, source)
        return found
    if teacher is None:
        raise RecipeError(
            f"recipe {plan.name}: student.source = 'teacher' needs an existing teacher; give it with --teacher."
        )
    check_learns(teacher.generator, teacher.source)
    return replace(teacher, generator=deepcopy(teacher.generator), others=())


def _stated_channels(plan: Recipe, student: Loaded | None, channels: tuple[int, int]) -> tuple[int, int]:
    """Input and output channels: those of a given student, those that the recipe states, or those of the data."""
    if student is not None:
        return student.generator.channels
    keys, stated = ("in_channels", "out_channels"), plan.student.model_fields_set
    return tuple(getattr(plan.student, key) if key in stated else own for key, own in zip(keys, channels, strict=True))


def taken(plan: Recipe, teacher: Generator | None) -> ImageInput | LatentInput:
    """The kind of input of a run's generators: that of the `teacher`, or of the one to be built."""
    network = plan.teacher.network
    if teacher is None and isinstance(network, LatentConfig):
        return network.takes
    built = plan.student if plan.from_pairs else network
    return teacher.takes if teacher is not None else ImageInput(3, scale=getattr(built, "scale", 1))


def data_of(plan: Recipe, takes: ImageInput | LatentInput, on_event: Event = silent) -> ImageSet | LatentSet:
    """The training data of a run: images, or latent vectors with real images if there are any.

    Raises UsageError if images are needed and none are given, and what `training_set` raises.
    """
    if takes.kind == "image":
        second = opening.second_domain(plan)
        return training_set(plan.data, second_domain=second, scale=takes.scale, on_event=on_event)
    if not plan.data.roots and (plan.gan is not None or ALGORITHMS[plan.algorithm.name].needs.real):
        raise UsageError("no data: give --data DIR, a folder of real images for the discriminator.")
    picked_by = plan.train.best_by, getattr(plan.search, "by", None)
    wanted = opening.second_domain(plan) or not {"fid", "frechet"}.isdisjoint(picked_by)
    real = training_set(plan.data, on_event=on_event) if plan.data.roots and wanted else None
    return LatentSet(plan.data, takes, real)


def _told(images: ImageSet | LatentSet, on_event: Event) -> dict[Path, str]:
    """As `tell_images`. For latent vectors, report the real images, if there are any."""
    if not isinstance(images, LatentSet):
        return tell_images(images, on_event)
    if images.real is not None:
        return tell_images(images.real, on_event)
    ignored = ", so --data is ignored" if images.settings.roots else ""
    message = f"latent vectors of {images.takes.size} numbers ({images.takes.prior}); no real images needed{ignored}"
    on_event({"event": "latent", "message": message})
    return {}


def _shown(images: ImageSet | LatentSet, original: Generator, on_event: Event) -> tuple[Tensor, dict[str, Tensor]]:
    """The inputs of a run's sample sheets, and the first columns of these sheets."""
    if isinstance(images, LatentSet):
        real = {} if images.real is None else {"real": images.real.spread(DRAWN).views((3, 3), DRAWN, on_event).inputs}
        return images.spread(DRAWN).vectors(DRAWN), real
    inputs, targets = images.spread(SAMPLES).views(original.channels, SAMPLES, on_event)
    return inputs, {"input": images.picture(inputs)} | ({} if targets is None else {"ground truth": targets})


def teachers(plan: Recipe, given: Loaded | None, channels: tuple[int, int]) -> GAN:
    """The GAN of `plan.gan` with its teachers and discriminators. The first teacher is `given`, or a new network from
    `teacher.network` with the `channels` of the data. Raises RecipeError and InputError."""
    if given is not None:
        check_teacher(plan, given.generator, given.norm)
    first = given.generator.learning() if given else teacher_network(plan, channels)
    start = Start(plan.name, plan.teacher.start, {"deep": plan.teacher.deep})
    return build_gan(plan.gan, first, start, seed=plan.train.seed, size=plan.data.size)


def check_teacher(plan: Recipe, generator: Generator, norm: str) -> None:
    """Raises RecipeError for a given teacher that cannot be a part of [gan]."""
    if generator.config is None:
        raise RecipeError(
            f"recipe {plan.name}: the teacher is {generator.what}, which cannot be trained in a GAN; omit [gan], and "
            "choose an algorithm that needs none."
        )
    if norm == "batch" and plan.learns:
        raise RecipeError(f"recipe {plan.name}: teacher.norm = 'batch' needs a frozen teacher; omit it, or omit [gan].")
