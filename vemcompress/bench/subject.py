"""The subject of a step benchmark: a recipe's algorithm with its networks, and images for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vemcompress import recipe as recipes
from vemcompress.algorithms import ALGORITHMS, Distillation
from vemcompress.bench.stage import of_stage
from vemcompress.commands import facts, opening, parts
from vemcompress.commands.facts import Facts
from vemcompress.data.prefetch import Stream
from vemcompress.errors import UsageError
from vemcompress.gans import Start, build_gan, new_generator
from vemcompress.gans.teachers import Phased
from vemcompress.networks.base import Generator
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.generators.resnet import MobileResNetConfig
from vemcompress.networks.generators.stylegan2 import StyleGAN2Config
from vemcompress.recipe import Recipe
from vemcompress.system import names
from vemcompress.system.events import silent
from vemcompress.system.files import write_atomically
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.discriminator import discriminator_bytes
from vemcompress.weights.features import load_features, random_features
from vemcompress.weights.loading import Loaded
from vemcompress.weights.trust import named

TEACHER = MobileResNetConfig(width=64)  # the papers' CycleGAN teacher
LATENT_TEACHER = StyleGAN2Config(size=64, width=64)
CPU = torch.device("cpu")
IMAGES = 32  # number of generated images, if none are given
DRAWS = 8  # draws of a supernet's widths over which a step is averaged


@dataclass
class Subject:
    """The algorithm and its facts. `random` lists the weights and images that are random. `auto`: the recipe leaves
    the batch size to the machine, so this subject serves only to find it."""

    facts: Facts
    algorithm: Distillation
    random: list[str] = field(default_factory=list)
    auto: bool = False

    @property
    def plan(self) -> Recipe:
        return self.facts.plan

    def stream(self, device: torch.device) -> Stream:
        """The batches of a run on this device."""
        return self.facts.stream(device, second=self.algorithm.second, halves=self.algorithm.halves)

    @property
    def alternates(self) -> bool:
        """Whether teacher and student take turns."""
        return isinstance(self.algorithm.teacher, Phased)

    def cycle(self, phase: str) -> list[int]:
        """Step numbers of one cycle, after which the same updates are due again; for alternating recipes, one step of
        this `phase`."""
        if self.alternates:
            return [1 if phase == "teacher" else self.algorithm.teacher.phases.steps + 1]
        if getattr(self.algorithm, "space", None) is not None:  # a supernet, whose steps differ in their widths
            return list(range(1, 1 + DRAWS))
        if self.algorithm.period > 1:
            start = self.algorithm.settled
            return list(range(start, start + self.algorithm.period))
        return list(range(1, 1 + (self.plan.gan.every if self.plan.gan else 1)))


def subject(
    recipe: str | Path,
    overrides: Sequence[str],
    *,
    teacher: str | Path | None,
    data: str | Path | Sequence[str | Path] | None,
    random_weights: bool,
    folder: Path,
    stage: str | None = None,
    batch: int | None = None,
) -> Subject:
    """The recipe's algorithm as in `distill`. If `data` is None, images are generated in `folder`. In a recipe with
    stages, `stage` chooses the stage, by default the first that distils; its student has a shape that earlier stages
    could give. `batch` replaces the batch of the recipe or the stage. Raises the errors of `distill`, and UsageError if
    weights are missing and may not be random."""
    plan, made_up = recipes.read(recipe, overrides), []
    if teacher is None and plan.gan is None and ALGORITHMS[plan.algorithm.name].needs.takes == ("latent",):
        plan = plan.but(teacher=plan.teacher.but(network=plan.teacher.network or LATENT_TEACHER))
    if plan.stages:
        plan = of_stage(plan, stage, teacher)
    elif stage is not None:
        raise UsageError(f"recipe {plan.name}: has no stages; omit --stage.")
    if plan.train.teacher_cache:
        raise UsageError("bench-step measures the running teacher; omit train.teacher_cache.")
    if batch is not None:
        plan = plan.but(train=plan.train.but(batch=batch))
    auto = plan.train.batch == names.AUTO
    if data is None:
        plan, made_up = _with_drawn_images(plan, folder), ["images"]
    plan = opening.located(plan, teacher, data or ()) if teacher is not None else _with_data(plan, data)
    asked = teacher is None and not plan.from_pairs
    random_teacher = _random_teacher(plan, random_weights) if asked and not plan.learns else None
    if random_teacher is not None and plan.gan is not None:
        plan = _with_random_gan(plan, random_teacher, folder)
    made_up += ["teacher"] if asked else []
    with named(*recipes.classes_named(overrides)):
        found = facts.gather("distill", plan, silent, random_teacher)
    features, is_random = _features(found.plan, random_weights)
    made_up += [ALGORITHMS[plan.algorithm.name].features_of(plan.algorithm)[0]] if is_random else []
    if found.gan is not None:
        found.gan.equip(_named_features(*found.gan.features_of(found.plan.gan), random_weights)[0])
    found = parts.calibrated(found, features, CPU, silent)
    student = found.student and found.student.generator
    plan = found.plan if found.loaded is None else opening.with_adversary(found.plan, found.loaded, silent)
    algorithm = parts.distillation(plan, found.original, features, gan=found.gan, student=student)
    return Subject(found, algorithm, made_up, auto=auto)


def _with_drawn_images(plan: Recipe, folder: Path) -> Recipe:
    """The recipe with generated images. Label maps in colour count as pictures; one-hot maps cannot be generated."""
    kind = plan.data.kind
    if kind == "labels":
        if plan.data.label_input == "onehot":
            raise UsageError("no data: label maps cannot be generated; give --data DIR.")
        kind = "paired"
    root = _draw(folder, kind, plan.data.size)
    update = {"kind": kind, "roots": (str(root),), "classes": None, "void": None, "ids": None}
    return plan.but(data=plan.data.but(**update))


def _draw(folder: Path, kind: str, size: int) -> Path:
    """Write JPEGs for data of this `kind`: A|B side by side, trainA/ and trainB/, or single images. They are noise with
    the spectrum of photos, so reading them takes as long. Returns the root folder of the data."""
    rng = np.random.default_rng(0)
    names = {"paired": ["train"], "unpaired": ["trainA", "trainB"]}.get(kind, ["."])
    width = 2 * size if kind == "paired" else size
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(IMAGES):
            Image.fromarray(_noise(rng, size, width)).save(folder / name / f"{i}.jpg", quality=90)
    return folder


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A sum of octaves, each half as strong as the next coarser one; uint8, H x W x 3."""
    total = np.zeros((height, width, 3))
    for octave in range(1, 7):
        rough = rng.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8)
        fine = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        total += (np.asarray(fine, float) - 127.5) / 2**octave
    return (total + 127.5).clip(0, 255).astype(np.uint8)


def _with_data(plan: Recipe, data) -> Recipe:
    if data is None:
        return plan
    roots = tuple(map(names.stored, [data] if isinstance(data, str | Path) else data))
    return plan.but(data=plan.data.but(roots=roots))


def _random_teacher(plan: Recipe, random_weights: bool) -> Loaded:
    if not random_weights:
        raise UsageError("no teacher: give --teacher FILE, or --random-weights for one of the papers' size.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = new_generator(plan.teacher.network or TEACHER)
    return Loaded(network.eval(), "random weights", "", "random")


def _with_random_gan(plan: Recipe, teacher: Loaded, folder: Path) -> Recipe:
    """The recipe with files of new weights for the other networks of a frozen teacher's GAN."""
    gan = build_gan(plan.gan, teacher.generator, Start(plan.name, {}, {}), seed=0, size=plan.data.size)
    files = {}
    for name, network in gan.artifacts().items():
        if name in gan.started:
            files[name] = str(folder / f"{name}.safetensors")
            content = artifact_bytes if isinstance(network, Generator) else discriminator_bytes
            write_atomically(files[name], content(network))
    return plan.but(teacher=plan.teacher.but(start=files))


def _features(plan: Recipe, random_weights: bool) -> tuple[FeatureNetwork | None, bool]:
    """The feature network, and whether its weights are random."""
    return _named_features(*ALGORITHMS[plan.algorithm.name].features_of(plan.algorithm), random_weights)


def _named_features(name: str, weights: str | None, random_weights: bool) -> tuple[FeatureNetwork | None, bool]:
    if name == "none" or weights is not None or not random_weights:
        return load_features(name, weights), False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return random_features(name), True
