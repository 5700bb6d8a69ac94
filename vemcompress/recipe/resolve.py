"""Fills in the open values of a recipe once the teacher is known: student, batch, length, and each method's own
table.
"""

from collections.abc import Callable

import torch
from pydantic import ValidationError

from vemcompress.algorithms import ALGORITHMS, Facts
from vemcompress.data.images import RANDOM
from vemcompress.errors import RecipeError
from vemcompress.gans import GAN, GANS
from vemcompress.information import INFORMATION
from vemcompress.networks import Config, build_generator, student_of
from vemcompress.networks.base import Generator, LatentInput
from vemcompress.recipe.schema import AutoStudent, Recipe
from vemcompress.system import distributed
from vemcompress.system.names import AUTO, OF_TEACHER
from vemcompress.system.settings import MAX_STEPS
from vemcompress.weights.loading import Loaded

DEFAULT_WIDTH, DEFAULT_STEPS = 16, 20_000


def resolved(
    command: str,
    recipe: Recipe,
    teacher: Generator,
    images: int,
    *,
    gan: GAN | None = None,
    loaded: Loaded | None = None,
    student: Loaded | None = None,
) -> Recipe:
    """A command's recipe with all values that follow from its parts: the files of teacher and student as `loaded`,
    the networks that are trained, and the results of `resolve` or `resolve_teaching`. Raises RecipeError.
    """
    if loaded is not None and recipe.teacher.source is not None:
        told = {"key": loaded.key or None, "range": recipe.teacher.range or loaded.range}
        recipe = recipe.but(teacher=recipe.teacher.but(source=loaded.pinned, **told))
    if gan is not None:
        for name, generator in gan.generators().items():
            check_size(recipe, name, generator)
        recipe = with_shapes(recipe, gan)
        gan.check_batch(_batch(recipe, teacher))
    if command == "teach":
        return resolve_teaching(recipe, teacher, images)
    if student is not None and recipe.student.source == OF_TEACHER:
        recipe = recipe.but(student=recipe.student.but(class_path=recipe.teacher.class_path))
    elif student is not None:
        recipe = recipe.but(student=recipe.student.but(source=student.pinned, sha256=student.sha256))
    return resolve(recipe, teacher, images, student and student.generator)


def resolve(recipe: Recipe, teacher: Generator, images: int, given: Generator | None = None) -> Recipe:
    """The recipe with its student, batch, length and weights filled in, except for weights that are calibrated on
    images.

    A `given` student keeps its source in the recipe. Raises RecipeError if it does not fit.
    """
    config, student = recipe.student, given
    _check_fresh(recipe, given)
    if student is None:
        config = _student(recipe, teacher)
        with torch.device("meta"):
            student = build_generator(config)
    if student.channels != teacher.channels:
        raise RecipeError(
            f"recipe {recipe.name}: the student has {student.in_channels} input and {student.out_channels} output "
            f"channels, but the teacher has {teacher.in_channels} and {teacher.out_channels}; set student.in_channels "
            "and out_channels."
        )
    if student.times != teacher.times:
        raise RecipeError(
            f"recipe {recipe.name}: the student enlarges images {student.times} times, but the teacher "
            f"{teacher.times} times; leave student.family at auto, or set another student."
        )
    batch, learns = _batch(recipe, teacher), recipe.learns
    _check_micro_batch(recipe, batch, distils=True)
    steps = _steps(recipe, images, batch)
    paired = recipe.data.has_targets
    facts = Facts(
        *(recipe.name, teacher, student, images, recipe.data.size, batch, steps, learns, paired),
        recorded=recipe.from_pairs,
        scores=_scores(recipe, teacher),
        gan=recipe.gan is not None,
        missing=missing_networks(recipe),
        judge=getattr(recipe.gan, "discriminator", None),
    )
    method = ALGORITHMS[recipe.algorithm.name]
    method.needs.check(method.__name__, facts)
    algorithm = method.resolve(recipe.algorithm, facts)
    _check_cache(recipe, teacher)
    for role, network in (("student", student), ("teacher", teacher)):
        check_size(recipe, role, network)
    if learns and algorithm.online == "phases":
        algorithm = algorithm.resolved(images, batch, steps)
        # Epochs count the teacher's steps, as published; the student's steps are added.
        steps *= 1 + algorithm.student_epochs if recipe.train.epochs else 1
    information = INFORMATION[recipe.information.name].resolve(recipe.information, facts)
    update = {"student": config, "algorithm": algorithm, "information": information}
    return _with_length(recipe, teacher, batch, steps).but(**update)


def _scores(recipe: Recipe, teacher: Generator) -> bool:
    """Whether the ground truth has one channel per class. With a teacher of 3 output channels, label maps are the
    input and the target is a photo.
    """
    data = recipe.data
    onehot = data.kind == "labels" and data.label_target == "onehot"
    return onehot and (teacher.out_channels != 3 or data.classes in (None, 3))


def missing_networks(recipe: Recipe) -> tuple[str, ...]:
    """The networks of the teacher's GAN, besides its first generator, that start from no file."""
    started = () if recipe.gan is None else GANS[recipe.gan.name].started
    return tuple(name for name in started if name not in recipe.teacher.start)


def _check_fresh(recipe: Recipe, given: Generator | None) -> None:
    if not getattr(recipe.student, "fresh", False):
        return
    if given is None:
        raise RecipeError(
            f"recipe {recipe.name}: student.fresh needs a student from a file; omit it, or give --student."
        )
    if given.config is None:
        raise RecipeError(
            f"recipe {recipe.name}: student.fresh: the initialisation of your own class is not known; omit it."
        )


def resolve_teaching(recipe: Recipe, teacher: Generator, images: int) -> Recipe:
    """The recipe for training a teacher alone, with its batch and length filled in."""
    batch = _batch(recipe, teacher)
    _check_micro_batch(recipe, batch, distils=False)
    return _with_length(recipe, teacher, batch, _steps(recipe, images, batch))


def with_shapes(recipe: Recipe, gan: GAN) -> Recipe:
    """The recipe with the Configs of its teachers and discriminators, so that a resumed run uses the same."""
    first, *others = gan.teachers().values()
    shapes = {"network": first.config} | ({"deep": others[0].config} if others else {})
    judge = next(iter(gan.discriminators().values())).config
    return recipe.but(
        teacher=recipe.teacher.but(**(shapes if first.config is not None else {})),
        gan=recipe.gan.but(discriminator=judge),
    )


def teacher_network(recipe: Recipe, channels: tuple[int, int]) -> Config:
    """`teacher.network` with the channels of the data, unless it states its own. Raises RecipeError."""
    config = recipe.teacher.network
    if config is None:
        raise RecipeError(
            f"recipe {recipe.name}: no teacher; give --teacher FILE, or set teacher.network to the network to build."
        )
    try:
        return config.for_data(*channels)
    except ValueError as error:
        raise RecipeError(
            f"recipe {recipe.name}: teacher.network.{error}; omit it, or change the data's settings."
        ) from error


def for_latents(recipe: Recipe, takes: LatentInput) -> Recipe:
    """The recipe for a generator of latent vectors: real images get the size of its images and are cropped only if
    the recipe says so. Raises RecipeError for data or a size that do not fit.
    """
    data = recipe.data
    if data.kind != "single":
        raise RecipeError(
            f"recipe {recipe.name}: data.kind = '{data.kind}' needs a generator that takes images, but this one takes "
            "latent vectors; omit it, and give a folder of real images, or none."
        )
    if "size" in data.model_fields_set and data.size != takes.image:
        raise RecipeError(
            f"recipe {recipe.name}: data.size {data.size}: this generator makes images of {takes.image} px; omit it, "
            "or give a teacher.network of another depth."
        )
    size = takes.image
    if data.load_size is not None and data.load_size < size:
        raise RecipeError(f"recipe {recipe.name}: data.load_size {data.load_size} is smaller than {size}; omit it.")
    return recipe.but(data=data.but(size=size, load_size=data.load_size or size))


def _check_cache(recipe: Recipe, teacher: Generator) -> None:
    if recipe.train.teacher_cache and isinstance(teacher.takes, LatentInput):
        raise RecipeError(
            f"recipe {recipe.name}: train.teacher_cache stores a teacher's outputs for images, but latent vectors are "
            "new at each step; omit it."
        )


def check_size(recipe: Recipe, role: str, network: Generator) -> None:
    """Raises RecipeError for an image size that a network does not support."""
    size, takes = recipe.data.size, network.takes
    if takes.kind == "image" and takes.only not in (None, size):
        raise RecipeError(
            f"recipe {recipe.name}: data.size {size} does not fit the {role}, which only takes images of {takes.only} "
            f"px; set it to {takes.only}."
        )
    if takes.kind == "image" and (size % takes.multiple or size < takes.least):
        advice = network.config.advice(size) if network.config is not None and recipe.teacher.source is None else ""
        table = {"student": "student", "deep": "teacher.deep"}.get(role, "teacher.network")
        raise RecipeError(
            f"recipe {recipe.name}: data.size {size} does not fit the {role}, a {network.family}; it needs multiples "
            f"of {takes.multiple} from {max(takes.least, takes.multiple)} px on"
            + (f"; or add --set {table}.{advice} for that size." if advice else ".")
        )


def _batch(recipe: Recipe, teacher: Generator) -> int:
    """The recipe's, or the family's own. While "auto" is not decided (`commands.largest_batch`), one that every method
    takes."""
    own = teacher.config.batch if teacher.config is not None else 1
    if recipe.train.batch == AUTO:
        return max(2, own) * distributed.ranks()
    return recipe.train.batch or own


def _steps(recipe: Recipe, images: int, batch: int) -> int:
    train = recipe.train
    if train.epochs and not images:
        raise RecipeError(
            f"recipe {recipe.name}: train.epochs counts real images, and there are none; give --data, or train.steps."
        )
    return max(1, round(train.epochs * images / batch)) if train.epochs else train.steps or DEFAULT_STEPS


def _check_micro_batch(recipe: Recipe, batch: int, *, distils: bool) -> None:
    here, part = batch // distributed.ranks(), recipe.train.micro_batch
    if part is not None and here % min(part, here):
        raise RecipeError(
            f"recipe {recipe.name}: train.micro_batch {part} does not divide the {here} images of a batch on "
            "each process; set a divisor."
        )
    if distils and part is not None and part < here and not INFORMATION[recipe.information.name].splits:
        raise RecipeError(
            f"recipe {recipe.name}: train.micro_batch {part}: the add-on {recipe.information.name} compares all images "
            "of a batch; omit it, or lower train.batch."
        )


def _with_length(recipe: Recipe, teacher: Generator, batch: int, steps: int) -> Recipe:
    """The recipe with the length of the run, and the size that images are resized to before cropping: the published
    one, but for enhancement the size itself, because an enlarged photo is not a ground truth.
    """
    if steps > MAX_STEPS:
        raise RecipeError(
            f"recipe {recipe.name}: {steps:,} steps exceed the limit of {MAX_STEPS:,}; lower train.epochs."
        )
    data = recipe.data
    enhances = data.degrade is not None or data.crop == RANDOM or teacher.times > 1
    load_size = data.load_size or (data.size if enhances else round(data.size * 286 / 256))
    train = recipe.train.but(batch=batch, steps=steps, epochs=None)
    return recipe.but(data=data.but(size=data.size, load_size=load_size), train=train)


def _student(recipe: Recipe, teacher: Generator) -> Config:
    if not isinstance(recipe.student, AutoStudent):
        shape, stated = recipe.student.with_channels(*teacher.channels), recipe.student.model_fields_set
        return shape.but(**{key: getattr(recipe.student, key) for key in stated})

    def of_width(width: int) -> Config:
        return student_of(teacher.config, width, teacher.takes).with_channels(*teacher.channels)

    if recipe.student.wanted:
        raise RecipeError(
            f"recipe {recipe.name}: only `vemcompress distill` can choose the width for a target_latency or "
            "target_size, because it measures; set student.width here."
        )
    if recipe.student.target_macs:
        return _of_macs(of_width, recipe.student.target_macs, recipe.data.size, recipe.student.multiple or 1)
    width = recipe.student.width or DEFAULT_WIDTH
    try:
        return of_width(width)
    except ValidationError as error:
        raise RecipeError(f"student.width {width}: gives a network that is too large; lower it.") from error
    except ValueError as error:
        raise RecipeError(f"recipe {recipe.name}: {error}; give a --student.") from error


def _of_macs(of_width: Callable[[int], Config], target: int, size: int, multiple: int) -> Config:
    """The widest student with at most `target` true MACs on one image of `size`."""
    width = widest(lambda width: of_width(width).cost(size, size).true <= target, multiple)
    if width is None:
        least = of_width(multiple).cost(size, size).true
        raise RecipeError(f"student.target_macs {target}: even width {multiple} needs {least} at {size} px; raise it.")
    return of_width(width)


def widest(fits: Callable[[int], bool], multiple: int = 1) -> int | None:
    """The largest width, a multiple of `multiple`, that fits; None if none does. A width that is too large to build,
    which raises ValidationError, does not fit.
    """

    def is_possible(count: int) -> bool:
        try:
            return fits(count * multiple)
        except ValidationError:
            return False

    if not is_possible(1):
        return None
    low, high = 1, 2
    while high * multiple <= 4096 and is_possible(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return low * multiple
