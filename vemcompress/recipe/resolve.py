"""Fills in what a recipe leaves open, once the teacher is known: the published defaults of its family."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from vemcompress.algorithms.omgd import OMGD, paired_taps
from vemcompress.errors import RecipeError
from vemcompress.information import INFORMATION
from vemcompress.losses.features import gram
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.generators.resnet import MobileResNetConfig
from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.recipe import AutoStudent, Recipe, TrainSettings

DEFAULT_WIDTH, DEFAULT_STEPS = 16, 20_000

# What OMGD's style and feature terms weigh in with features other than VGG's: their values for a blank student,
# beside the 10 of SSIM. 1e4 and 10 are tuned for VGG on [0, 1] and mean nothing elsewhere.
BLANK_STYLE, BLANK_FEATURE = 17.0, 6.0

# lambda_CD of U-Nets, and of ResNets with features other than VGG's. The 500 that is published for ResNets outweighs
# the other terms there until the connectors have learnt the teacher's channel means, which takes thousands of steps:
# 1,000 steps on a CartoonGAN teacher ended at an SSIM of 0.39 with 500, 0.50 with 10 and 0.50 with 0.
OTHER_CHANNEL = 10.0


def resolve(recipe: Recipe, teacher: Generator, channels: tuple[int, int], images: int) -> Recipe:
    """The recipe with its student, batch, length and weights decided. `channels`: the teacher's in and out.

    Weights of features other than VGG stay open until `calibrate`. Raises RecipeError where it does not fit.
    """
    unet = isinstance(teacher.config, UNetConfig)
    student = _student(recipe, teacher, channels)
    _check(recipe, teacher, student, channels)
    train, algorithm, information = recipe.train, recipe.algorithm, recipe.information
    batch = train.batch or (4 if unet else 1)
    algorithm = _algorithm(algorithm, teacher, unet)
    steps = _steps(train, images, batch)
    if recipe.gan is not None and algorithm.online == "phases":
        algorithm = _phases(algorithm, images, batch, steps)
        # Epochs are the teacher's, as published; the student's come on top.
        steps *= 1 + algorithm.student_epochs if train.epochs else 1
    size = recipe.data.size
    facts = SimpleNamespace(teacher=teacher, batch=batch, size=size)
    information = INFORMATION[information.name].resolve(information, facts)
    return _with(
        recipe,
        student=student,
        data=_with(recipe.data, load_size=recipe.data.load_size or round(size * 286 / 256)),
        train=_with(train, batch=batch, steps=steps, epochs=None),
        information=information,
        algorithm=algorithm,
    )


def resolve_teaching(recipe: Recipe, teacher: Generator, images: int) -> Recipe:
    """The recipe of a teacher that learns alone, with its batch and length decided."""
    batch = recipe.train.batch or (4 if isinstance(teacher.config, UNetConfig) else 1)
    size, steps = recipe.data.size, _steps(recipe.train, images, batch)
    return _with(
        recipe,
        data=_with(recipe.data, load_size=recipe.data.load_size or round(size * 286 / 256)),
        train=_with(recipe.train, batch=batch, steps=steps, epochs=None),
    )


def _steps(train: TrainSettings, images: int, batch: int) -> int:
    return max(1, round(train.epochs * images / batch)) if train.epochs else train.steps or DEFAULT_STEPS


def _phases(settings: OMGD.Settings, images: int, batch: int, steps: int) -> OMGD.Settings:
    """How many steps a phase of the teacher has; ten of them where the recipe does not say."""
    if settings.phase_steps is not None:
        return _with(settings, phase_epochs=None)
    found = round(settings.phase_epochs * images / batch) if settings.phase_epochs else steps // 10
    return _with(settings, phase_steps=max(1, found), phase_epochs=None)


def calibrate(recipe: Recipe, features: FeatureNetwork, teacher_images: Tensor) -> Recipe:
    """Weights for features other than VGG that keep the terms in proportion, measured on the teacher's own images.

    A blank student's style and feature terms are about the size of the teacher's own Gram matrices and maps.
    """
    settings = recipe.algorithm
    if settings.style is not None and settings.feature is not None:
        return recipe
    with torch.no_grad():
        maps = features(teacher_images)
    style = sum(gram(m).abs().mean() for m in maps).item()
    feature = maps[features.feature].float().abs().mean().item()
    if not (0 < style < float("inf") and 0 < feature < float("inf")):
        raise RecipeError("algorithm.features_weights: these features are zero or infinite on the teacher's images.")
    return _with(
        recipe,
        algorithm=_with(
            settings,
            style=settings.style if settings.style is not None else float(f"{BLANK_STYLE / style:.4g}"),
            feature=settings.feature if settings.feature is not None else float(f"{BLANK_FEATURE / feature:.4g}"),
        ),
    )


def _with(settings, **values):
    return settings.model_copy(update=values)


def _algorithm(settings: OMGD.Settings, teacher: Generator, unet: bool) -> OMGD.Settings:
    vgg, none = settings.features == "vgg16", settings.features == "none"
    channel = settings.channel if settings.channel is not None else (500.0 if vgg and not unet else OTHER_CHANNEL)
    if not teacher.taps:
        if settings.channel:
            raise RecipeError("algorithm.channel: a network of your own class has no named feature maps; set it to 0.")
        channel = 0.0
    if none and (settings.style or settings.feature or settings.features_weights):
        raise RecipeError(
            "algorithm.features = 'none' leaves style, feature and features_weights without meaning; remove them, or "
            "choose features."
        )
    style = 1e4 if vgg else 0.0 if none else None
    feature = 10.0 if vgg else 0.0 if none else None
    return _with(
        settings,
        channel=channel,
        style=style if settings.style is None else settings.style,
        feature=feature if settings.feature is None else settings.feature,
        recon=settings.recon if settings.recon is not None else (0.0 if vgg else 10.0),
    )


def _student(recipe: Recipe, teacher: Generator, channels: tuple[int, int]) -> Config:
    shape = {"in_channels": channels[0], "out_channels": channels[1]}
    if not isinstance(recipe.student, AutoStudent):
        open_ = {key: count for key, count in shape.items() if key not in recipe.student.model_fields_set}
        return _with(recipe.student, **open_)

    def of_width(width: int) -> Config:
        if isinstance(teacher.config, UNetConfig):
            return UNetConfig(width=width, downs=len(teacher.config.down), norm=teacher.config.norm, **shape)
        blocks = len(teacher.config.blocks) if teacher.config is not None else 9
        return MobileResNetConfig(width=width, blocks=blocks, **shape)

    if recipe.student.target_macs:
        return _widest(of_width, recipe.student.target_macs, recipe.data.size)
    return of_width(recipe.student.width or DEFAULT_WIDTH)


def _widest(of_width: Callable[[int], Config], target: int, size: int) -> Config:
    """The widest student of at most `target` true MACs on one image of `size`."""
    if of_width(1).cost(size, size).true > target:
        least = of_width(1).cost(size, size).true
        raise RecipeError(f"student.target_macs {target}: even width 1 needs {least} at {size} px; ask for more.")
    low, high = 1, 2
    while of_width(high).cost(size, size).true <= target and high < 4096:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if of_width(middle).cost(size, size).true <= target else (low, middle)
    return of_width(low)


def _check(recipe: Recipe, teacher: Generator, student: Config, channels: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = build_generator(student)
    if (student.in_channels, student.out_channels) != channels:
        raise RecipeError(
            f"recipe {recipe.name}: the student has {student.in_channels} input and {student.out_channels} output "
            f"channels, the teacher {channels[0]} and {channels[1]}; set student.in_channels and out_channels."
        )
    if recipe.algorithm.channel != 0 and teacher.taps and not paired_taps(teacher, network):
        raise RecipeError(
            f"recipe {recipe.name}: a {student.family} student cannot follow the feature maps of a {teacher.family} "
            "teacher; leave student.family at auto, or set algorithm.channel=0 to distil from images alone."
        )
    if recipe.algorithm.features != "none" and channels[1] != 3:
        raise RecipeError(
            f"recipe {recipe.name}: {recipe.algorithm.features} features need images of 3 channels, the teacher gives "
            f"{channels[1]}; set algorithm.features=none."
        )
    size = recipe.data.size
    for role, net in (("student", network), ("teacher", teacher)):
        if size % net.multiple or size < net.min_size:
            raise RecipeError(
                f"recipe {recipe.name}: data.size {size} does not fit the {role}, a {net.family}; it takes multiples "
                f"of {net.multiple} from {max(net.min_size, net.multiple)} on."
            )
