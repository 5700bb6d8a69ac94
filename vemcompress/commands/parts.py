"""The second part of the line: parts -> learner.

Builds a distillation from its parts (networks, features, the add-on and the teacher's strategy), and the scorer of
checkpoints.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from vemcompress.algorithms import ALGORITHMS, Distillation, Parts
from vemcompress.commands.facts import Facts
from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import ImageSet, test_set
from vemcompress.errors import NetworkError, RecipeError
from vemcompress.gans import GAN, new_generator
from vemcompress.gans.teachers import Frozen, Held, Online, Phased, Phases, Recorded, Teacher
from vemcompress.information import build_information
from vemcompress.networks.base import Generator
from vemcompress.networks.features import FeatureNetwork
from vemcompress.recipe import Recipe
from vemcompress.runs.best import Picker
from vemcompress.system import distributed
from vemcompress.system.events import Event, silent
from vemcompress.training.learner import one_by_one
from vemcompress.training.update import Optimizer
from vemcompress.weights.features import load_features

CALIBRATION_IMAGES = 8


def features_of(plan: Recipe, device: torch.device) -> FeatureNetwork | None:
    """The feature network of the recipe's algorithm, on the device, or None."""
    name, weights = ALGORITHMS[plan.algorithm.name].features_of(plan.algorithm)
    features = distributed.writer_first(lambda: load_features(name, weights))
    return features if features is None else features.to(device)


def equip(gan: GAN | None, plan: Recipe, device: torch.device) -> None:
    """Load the feature network of the recipe's GAN onto the device, if it has one."""
    if gan is None:
        return
    name, weights = gan.features_of(plan.gan)
    features = distributed.writer_first(lambda: load_features(name, weights, "gan"))
    gan.equip(features if features is None else features.to(device))


def calibrated(facts: Facts, features: FeatureNetwork | None, device: torch.device, on_event: Event) -> Facts:
    """The facts with the algorithm's loss weights calibrated on a few images. These are outputs of a frozen teacher;
    else example outputs from the data."""
    if features is None:
        return facts
    plan, channels = facts.plan, facts.original.channels
    if not facts.frozen:
        examples = facts.images.examples(channels, CALIBRATION_IMAGES, on_event).to(device)
    else:
        inputs = facts.images.views(channels, CALIBRATION_IMAGES, on_event).inputs
        examples = at_work(facts.original, inputs, device)
    method = ALGORITHMS[plan.algorithm.name]
    # The weights of one rank are used on all, because another device may round differently.
    algorithm = distributed.from_writer(lambda: method.calibrate(plan.algorithm, features, examples))
    return replace(facts, plan=plan.but(algorithm=algorithm))


@torch.no_grad()
def at_work(generator: Generator, inputs: Tensor, device: torch.device) -> Tensor:
    """The outputs of a frozen generator for `inputs`, on the device."""
    generator.to(device).eval()
    return one_by_one(generator, inputs.to(device))


def distillation(
    plan: Recipe,
    original: Generator,
    features: FeatureNetwork | None = None,
    *,
    gan: GAN | None = None,
    student: Generator | None = None,
    judge: Picker | None = None,
) -> Distillation:
    """The algorithm of a resolved recipe with its student. The same seed gives the same weights.

    `gan` holds the `original` if that is trained too. The `student` is new, with the published initial weights, unless
    one is given. `judge` scores a teacher at the end of each of its phases.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        student = student or new_generator(plan.student)
        takes = student.takes
        side = takes.image if takes.kind == "latent" else student.times * plan.data.size
        information = build_information(plan.information, image_channels=student.out_channels, height=side, width=side)
        parts = Parts(
            teacher=_strategy(plan, original, gan, judge),
            student=student,
            information=information,
            optimizer=Optimizer(plan.train.lr, plan.train.betas),
            features=features,
            paired=plan.data.has_targets,
            gan=gan,
        )
        return ALGORITHMS[plan.algorithm.name](plan.algorithm, parts)


def _strategy(plan: Recipe, original: Generator, gan: GAN | None, judge: Picker | None) -> Teacher:
    algorithm = plan.algorithm
    if plan.from_pairs:
        return Recorded(original)
    if gan is not None and algorithm.online == "never" and ALGORITHMS[algorithm.name].needs.whole:
        return Held(gan)
    if gan is None or algorithm.online == "never":
        return Frozen(original)
    if algorithm.online == "step":
        return Online(gan)
    phases = Phases(algorithm.phase_steps, algorithm.student_epochs, plan.train.steps)
    return Phased(gan, deepcopy(original), phases, judge)


def tested(plan: Recipe, images: ImageSet | LatentSet, on_event: Event = silent) -> ImageSet | LatentSet:
    """The test images of a run's data; for latent vectors, unseen vectors and the real test images, if any."""
    if isinstance(images, LatentSet):
        return images.unseen(test_set(plan.data, on_event=on_event) if plan.data.roots else None)
    return test_set(plan.data, on_event=on_event, scale=images.scale)


def unseen(plan: Recipe, images: ImageSet | LatentSet) -> ImageSet | LatentSet:
    """The images on which a search scores candidates. Raises RecipeError if there are none."""
    found = tested(plan, images) if plan.train.best_on == "test" else images.split_off()[1]
    if found is None:
        raise RecipeError(
            f"recipe {plan.name}: a search scores candidates on images that training has not seen, but none are held "
            "out; set data.held_out=40, for example, or train.best_on=test."
        )
    return found


def judge_of_teachers(
    facts: Facts, features: FeatureNetwork | None, device: torch.device, on_event: Event
) -> Picker | None:
    """The scorer that picks the teacher for the student, if the two are trained in alternating phases."""
    algorithm = facts.plan.algorithm
    if not facts.learns or algorithm.online != "phases" or algorithm.best_teacher == "latest":
        return None
    try:
        judge = picker(facts, features, device, on_event, by=algorithm.best_teacher)
    except NetworkError as error:
        raise NetworkError(f"{error} Or set algorithm.best_teacher to frechet or latest.") from error
    if judge is None:
        raise RecipeError(
            f"algorithm.best_teacher = '{algorithm.best_teacher}': there are no images to score teachers on; set "
            "data.held_out, train.best_on=test, or algorithm.best_teacher=latest."
        )
    return judge


def picker(
    facts: Facts, features: FeatureNetwork | None, device: torch.device, on_event: Event, by: str | None = None
) -> Picker | None:
    """The scorer of a network on the held-out images, or on the test images if the recipe says so.

    None if the recipe disables it, or if it is automatic and no images are held out. Raises RecipeError if the recipe
    names a metric and no images are held out.
    """
    plan, teacher = facts.plan, facts.original if facts.frozen else None
    features = features if isinstance(features, FeatureNetwork) else None  # a distance cannot compare sets of images
    wanted = (by or plan.train.best_by) in ("auto", "frechet")
    if wanted and features is None and plan.train.features != "none":
        found = distributed.writer_first(lambda: load_features(plan.train.features, plan.train.features_weights))
        features = found.to(device)
    named = by is None and plan.train.best_by not in ("auto", "none")
    by = by or plan.train.best_by
    images = facts.held_out if plan.train.best_on != "test" else tested(plan, facts.images, on_event)
    if by == "auto":
        like = teacher and ALGORITHMS[plan.algorithm.name].imitates
        by = "ssim_teacher" if like else "l1_target" if plan.data.has_targets else "frechet"
        by = "miou" if facts.images.scores else by
        if by == "frechet" and features is None:
            return None
    if images is None and named:
        raise RecipeError(
            f"train.best_by = '{by}': no images are held out to pick the best checkpoint with; set data.held_out, "
            "train.best_on=test, or train.best_by=none."
        )
    if by == "none" or images is None:
        return None
    from vemcompress.evaluation.judge import scorer  # late: evaluation's libraries take a second to import
    from vemcompress.evaluation.onnx_segmenter import segmenter_on

    segmenter = segmenter_on(plan.train.segmenter, device) if by == "miou" and plan.train.segmenter else None
    return scorer(
        by,
        images,
        facts.original.channels,
        device,
        features=features,
        teacher=teacher,
        segmenter=segmenter,
        inception=plan.train.inception,
        on=plan.train.best_on,
        on_event=on_event,
    )
