"""The data of one training step: outputs that are computed once, and the updates that use them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.networks.base import Taps


@dataclass
class Output:
    """Everything that the updates of one step share. Images are B x C x H x W in [-1, 1].

    `input` is the generators' input, images or latent vectors. `target` is t of q(t|s): the teacher's image, or the
    ground truth if data is paired (section 5.3). `random` is this step's random generator. `samples` holds t~, drawn
    once by the add-on and used by both of its losses. `start` is t_0, where its dynamics began. `energies` are E(t, s)
    and E(t~, s), B x 1, before theta is updated. `teacher_taps` are the teacher's feature maps, or only their means
    over pixels, B x C x 1 x 1, if these suffice. `others` are further teachers' images. `real` are the images that an
    adversary treats as real. `gan` is what trained teachers computed in this step. `gradients` are gradient norms of
    the student, at steps that measure them. `index` and `second` are the batch's. `own` is what a student with a GAN of
    its own computed. At a step of the teachers alone, only `random` and `gan` are set.
    """

    input: Tensor
    student: Tensor
    teacher: Tensor
    target: Tensor
    student_taps: Taps
    teacher_taps: Taps
    random: Generator
    samples: Tensor | None = None
    start: Tensor | None = None
    energies: tuple[Tensor, Tensor] | None = None
    others: tuple[Tensor, ...] = ()
    real: Tensor | None = None
    gan: Any = None
    index: Tensor | None = None
    gradients: dict[str, Tensor] = field(default_factory=dict)
    own: Any = None
    second: Batch | None = None

    @property
    def teachers(self) -> Tensor:
        """All teachers' images, one teacher after the other: n B x C x H x W."""
        return torch.cat((self.teacher, *self.others))

    @classmethod
    def of_teachers(cls, random: Generator, gan: Any) -> "Output":
        """The output of a step in which only the teachers are trained."""
        return cls(None, None, None, None, {}, {}, random, gan=gan)


Schedule = Callable[[int, int], float]  # (step from 1, total steps) -> factor of the learning rate


@dataclass(eq=False)
class Optimizer:
    """The optimiser of an update. Updates that are given the same object share its state: moments and step counts. Lazy
    regularisers share it with the loss that they regularise.

    `kind`: "adam" with `betas`, or "sgd" with `momentum`. `schedule`: None follows the recipe's (`train.constant`,
    `train.decay`); others are functions of (step, total), such as those of `training.schedules`. `clip`: the largest
    gradient norm; larger gradients are scaled down to it; 0 for no limit.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    kind: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    clip: float = 0.0


@dataclass
class Update:
    """One optimiser step: `terms` gives the loss as named, weighted terms, and `modules` are trained by it. Its name is
    unique among the updates of a learner.

    `every`: due at every n-th step, and `when`, if given, must also hold. `after` is called after the optimiser step.
    `monitor` gives detached scalars for the log that are not part of the loss. `watch` is called with the values of
    each logged step and returns a warning or None. Consecutive due updates with the same label `together` all compute
    their gradients before the first of them moves. `retains`: a later update's terms use this update's graph again.
    `still`: modules within `modules` that are not trained here. `twice`: modules within them whose own parameters take
    two optimiser steps with the same gradient, as when an optimiser is given a parameter twice. `apart`: its terms need
    no graph of the step's outputs. `own`: optimisers, by name, of those `modules` that do not use `optimizer`; they use
    the same gradients, and their parameters may be within other modules too.
    """

    name: str
    modules: dict[str, nn.Module]
    terms: Callable[[Output], dict[str, Tensor]]
    optimizer: Optimizer
    every: int = 1
    after: Callable[[], None] | None = None
    monitor: Callable[[Output], dict[str, Tensor]] | None = None
    watch: Callable[[dict[str, float]], str | None] | None = None
    together: str | None = None
    when: Callable[[int], bool] | None = None
    retains: bool = False
    still: tuple[nn.Module, ...] = ()
    twice: tuple[nn.Module, ...] = ()
    apart: bool = False
    own: dict[str, Optimizer] = field(default_factory=dict)

    def only(self, when: Callable[[int], bool]) -> "Update":
        """The same update, restricted to steps where `when` holds too."""
        own = self.when
        return replace(self, when=when if own is None else lambda step: when(step) and own(step))

    def due(self, step: int) -> bool:
        """Whether the update is due at this step, counted from 1."""
        return step % self.every == 0 and (self.when is None or self.when(step))
