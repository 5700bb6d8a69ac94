"""AutoGAN-Distiller (AGD, Fu et al., ICML 2020): gradient-based search for a student's operators and widths, then
training the network that was found.

A supernet (family `agd_supernet`) is first trained at its largest, its smallest and two random widths. Then the search
alternates two updates. The architecture is updated on one half of the images and the weights on the other half, each at
sampled widths, at the largest and at the smallest. Any other student is trained with the losses and the optimiser of
AGD's final training. The teacher is frozen.

This follows the published code, VITA-Group/AGD. One step here is an update of the weights followed by the update of the
architecture that comes before the next step. Where the published code has two runs, here one optimiser continues from
the first phase to the second, and each phase has its own schedule. One difference: in the published code, the gradient
norm used to clip the weights' gradients includes the architecture's gradients; here it does not. AGD's super-resolution
search space is not implemented.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random as HostRandom
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.algorithms.calibration import Features, calibrated, check_features
from vemcompress.algorithms.distillation import Distillation, Facts, Needs, Parts
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.losses import coordination
from vemcompress.losses import features as feature_losses
from vemcompress.losses import image as image_losses
from vemcompress.networks.base import Taps
from vemcompress.networks.features import FeatureNetwork
from vemcompress.networks.generators.agd_supernet import AGDSupernet, AGDSupernetConfig
from vemcompress.system import distributed
from vemcompress.system.settings import MAX_STEPS, Betas, Macs, Period, Positive, Text, Weight
from vemcompress.training.schedules import constant
from vemcompress.training.update import Optimizer, Output, Update

# Targets for the style and content terms of an untrained student if the features are not VGG's. Content is as in OMGD,
# whose weight of 10 gives 6. Style is derived from the Gram matrices behind OMGD's 1e4 and 17; their mean square is
# five times their squared mean (measured with SqueezeNet).
BLANK_STYLE, BLANK_CONTENT = 0.4, 0.6
# Bounds of the derived network's MACs, counted as AGD counts them, and the MACs of the supernet they apply to.
LEAST, MOST, OF = 3_000_000_000, 8_000_000_000, 29_996_924_928
EVALUATIONS, DRAWS = 25, 8  # of a search; steps that a benchmark averages over
MIXED, DRAWN = 1 / 4, 3 / 4  # weights of the expected MACs over operators, and of the MACs at sampled widths
PRETRAINING, SEARCHING = ("widest", "narrowest", "random", "random"), ("drawn", "widest", "narrowest")


class AutoGANDistiller(Distillation):
    """Distils a frozen teacher into a supernet or into a network of fixed shape."""

    class Settings(Distillation.Settings):
        """`recon`: weight (w0) of the mean absolute difference of the images; None is 0.01, and 0 in the search.
        `style`: weight of the mean squared difference of four Gram matrices; None is 1e5 with VGG. `content`: weight of
        the mean absolute difference of one feature map; None is 1 with VGG. `tv`: weight of the total variation, which
        is a sum.

        `features`: the network whose feature maps are compared. `features_weights`: the file of its weights.

        `rule`: the optimiser; None is Adam for a supernet, with the betas of [train], and SGD otherwise. `momentum`:
        SGD's momentum. `weight_decay`: SGD's weight decay. `clip`: the largest gradient norm; 0 for no limit.

        The following apply to a supernet only. `pretrain_steps`: steps before the search starts; None for half of the
        run. `arch_lr`: learning rate of the architecture's Adam. `arch_betas`: betas of the architecture's Adam.
        `macs_weight`: initial weight of the MACs. The published 1e-17 has no effect until it has been doubled about
        twenty times. `macs_every`: steps between two adjustments of that weight; None for 25 adjustments in a search.
        `macs_least`: if the network found so far has fewer MACs, the weight is halved; None is 3 G for a supernet of
        29.997 G, by AGD's own count. `macs_most`: if it has more MACs, the weight is doubled; None is 8 G for a
        supernet of 29.997 G.
        """

        replaces: ClassVar = {"features": ("features_weights", "style", "content", "recon")}

        name: Literal["agd"] = "agd"
        recon: Weight | None = None
        style: Weight | None = None
        content: Weight | None = None
        tv: Weight = 0.0
        features: Features = "vgg16"
        features_weights: Text | None = None
        rule: Literal["adam", "sgd"] | None = None
        momentum: float = Field(0.5, ge=0, lt=1)
        weight_decay: Weight = 5e-4
        clip: Weight = 5.0
        pretrain_steps: int | None = Field(None, ge=0, le=MAX_STEPS)
        arch_lr: Positive = 3e-4
        arch_betas: Betas = Field((0.5, 0.999), strict=False)
        macs_weight: Weight = 1e-17
        macs_every: Period | None = None
        macs_least: Macs | None = None
        macs_most: Macs | None = None

    needs: ClassVar = Needs(teacher="frozen", takes=("image",))
    files: ClassVar = ("features_weights",)

    @classmethod
    def resolve(cls, settings: Settings, facts: Facts) -> Settings:
        check_features(settings, ("style", "content"), facts)
        vgg, none = settings.features == "vgg16", settings.features == "none"
        searches = isinstance(facts.student.config, AGDSupernetConfig)
        defaults = {
            "recon": 1.0 if none else 0.0 if searches else 0.01,
            "style": 1e5 if vgg else 0.0 if none else None,
            "content": 1.0 if vgg else 0.0 if none else None,
            "rule": "adam" if searches else "sgd",
        }
        if searches:
            defaults |= _of_search(settings, facts)
        found = settings.but(**{key: value for key, value in defaults.items() if getattr(settings, key) is None})
        if (found.recon, found.style, found.content, found.tv) == (0, 0, 0, 0):
            raise RecipeError(f"recipe {facts.recipe}: algorithm: all weights are 0; raise one of them.")
        return found

    @classmethod
    def calibrate(cls, settings: Settings, features: FeatureNetwork, images: Tensor) -> Settings:
        blank = {"style": BLANK_STYLE, "content": BLANK_CONTENT}
        return calibrated(settings, blank, features, images, squared=True)

    def __init__(self, settings: Settings, parts: Parts):
        super().__init__(settings, parts)
        own = {"kind": settings.rule, "clip": settings.clip}
        if settings.rule == "sgd":
            own |= {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
        self.optimizer = replace(parts.optimizer, **own)
        self.searches = self.second = self.halves = isinstance(self.student, AGDSupernet)
        self.total, self.size = math.inf, (0, 0)
        if self.searches:
            self.settled, self.period = settings.pretrain_steps + 1, DRAWS
            self.pressure = Pressure(settings.macs_weight)

    # -- one step ------------------------------------------------------------------------------------------------

    def draw(self, batch: Batch, random: Random, step: int) -> tuple[Tensor, Taps, Any]:
        """For a supernet, the add-on sees the image at the sampled widths; before the search it sees the image at the
        largest widths.
        """
        if not self.searches:
            return super().draw(batch, random, step)
        self.size = tuple(batch.input.shape[-2:])
        passes = SEARCHING if step > self.settings.pretrain_steps else PRETRAINING
        image, *others = self._passes(batch.input, passes, random)
        return image, {}, others

    def _passes(self, x: Tensor, passes: Sequence[str], random: Random) -> list[Tensor]:
        """The supernet's images, one for each kind of widths in `passes`."""
        options, images = self.student.config.options, []
        host = HostRandom(random.initial_seed())  # reading a random number from the device would block the host
        for kind in passes:
            entries = None
            match kind:
                case "drawn":
                    widths, entries = self.student.sample(random)
                case "random":
                    widths = tuple(map(host.choice, options))
                case _:
                    widths = tuple(of[-1 if kind == "widest" else 0] for of in options)
            with self.autocast(x.device):
                images.append(self.student.passed(x, widths, entries).float())
        return images

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        return self.distances(out.teacher, [out.student, *(out.own or ())])

    def distances(self, teacher: Tensor, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """Weighted loss terms between the teacher's images and the student's, summed over the student's passes."""
        settings, count = self.settings, len(images)
        terms = {}
        if settings.recon:
            terms["recon"] = settings.recon * sum(F.l1_loss(image, teacher) for image in images)
        if settings.style or settings.content:
            layer, (wanted, found) = self.features.feature, self.maps_of(teacher, torch.cat(tuple(images)))
            passes = list(zip(*(tap.chunk(count) for tap in found), strict=True))
            style = sum(coordination.style(wanted, maps, root=False) for maps in passes)
            content = sum(feature_losses.feature(wanted[layer], maps[layer]) for maps in passes)
            terms |= {"style": settings.style * style, "content": settings.content * content}
        if settings.tv:
            # A sum over the global batch; the ranks' terms are averaged later.
            variation = distributed.ranks() * sum(image_losses.total_variation(image) for image in images)
            terms["tv"] = settings.tv * variation
        return terms

    def architecture_terms(self, out: Output) -> dict[str, Tensor]:
        """The same loss terms on the other half of the images, plus the weighted MACs, at newly sampled widths."""
        inputs, (height, width) = out.second.input, self.size
        with self.timer.part("teacher"):
            teacher = self.teacher.ask(inputs, ())[0].float()
        terms = self.distances(teacher, self._passes(inputs, SEARCHING, out.random))
        full = tuple(of[-1] for of in self.student.config.options)
        mixed = self.student.macs(height, width, full, mixed=True)
        drawn = self.student.macs(height, width, *self.student.sample(out.random), mixed=False)
        count = self.pressure.weight * (MIXED * mixed + DRAWN * drawn)
        return {f"architecture_{name}": term for name, term in terms.items()} | {"architecture_macs": count}

    # -- the updates ---------------------------------------------------------------------------------------------

    def still(self) -> tuple[nn.Module, ...]:
        return (self.student.architecture,) if self.searches else ()

    def late_updates(self) -> list[Update]:
        if not self.searches:
            return []
        settings, modules = self.settings, {"architecture": self.student.architecture}
        optimizer = Optimizer(settings.arch_lr, settings.arch_betas, schedule=constant)

        def due(step: int) -> bool:
            """True for the update before each step of the search, except before the first step of a run."""
            return settings.pretrain_steps <= step < self.total

        return [Update("architecture", modules, self.architecture_terms, optimizer, when=due)]

    def clock(self, step: int, total: int) -> tuple[int, int]:
        """Pretraining and search each have their own learning-rate schedule."""
        self.total = total
        first = self.settings.pretrain_steps if self.searches else None
        if first is None:
            return super().clock(step, total)
        return (step, first) if step <= first else (step - first, total - first)

    def finishes(self, step: int) -> bool:
        searched = step - (self.settings.pretrain_steps or 0)
        return self.searches and searched > 0 and searched % self.settings.macs_every == 0

    def finish(self, step: int) -> dict:
        """Adjust the weight of the MACs to the MACs of the network found so far."""
        settings, found = self.settings, self.student.derived()
        macs = found.cost(*self.size).paper
        factor = 0.5 if macs < settings.macs_least else 2.0 if macs > settings.macs_most else 1.0
        self.pressure.weight.mul_(factor)
        return {
            "event": "architecture",
            "operators": list(found.operators),
            "widths": [*found.stem, *found.cells, *found.header],
            "macs": macs,
            "weight": self.pressure.weight.item(),
        }

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return super().companions() | ({"macs_weight": (self.pressure, {})} if self.searches else {})


class Pressure(nn.Module):
    """The weight of the MACs, as a module so that checkpoints hold it."""

    weight: Tensor

    def __init__(self, weight: float):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))


def _of_search(settings: AutoGANDistiller.Settings, facts: Facts) -> dict[str, int]:
    """Defaults for what a search's settings leave open. Raises RecipeError."""
    first = facts.steps // 2 if settings.pretrain_steps is None else settings.pretrain_steps
    if first >= facts.steps:
        raise RecipeError(
            f"recipe {facts.recipe}: algorithm.pretrain_steps {first} leaves none of the {facts.steps} steps for the "
            "search; lower it, or raise train.steps."
        )
    macs = facts.student.config.cost(facts.size, facts.size).paper
    found = {key: max(1, bound * macs // OF) for key, bound in (("macs_least", LEAST), ("macs_most", MOST))}
    return found | {"pretrain_steps": first, "macs_every": max(1, (facts.steps - first) // EVALUATIONS)}
