"""What one training step is made of: everything computed once, and the updates that use it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.networks.base import Taps


@dataclass
class Output:
    """All that the updates of one step share. Images are B x C x H x W in [-1, 1].

    `input` is what the generators take, images or latent vectors. `target` is t of q(t|s): the teacher's image, or the
    ground truth where data is paired (section 5.3). `random` is this step's own generator of noise. `samples` holds t~,
    drawn once by the add-on and used by both of its losses; `start` is t_0, where its dynamics began, and `energies`
    are E(t, s) and E(t~, s), B x 1, before theta moved. `teacher_taps` are the teacher's maps, or their means over
    pixels, B x C x 1 x 1, where these are enough. `others` are further teachers' images, `real` what an adversary takes
    for real, and `gan` what teachers that learn at this step have computed for it. `gradients` are norms of the
    student's, where a step measures them. `index` and `second` are the batch's, `own` what a student that is part of a
    GAN of its own has computed for it. At a step that is the teachers' own there is nothing else.
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
        """All teachers' images, one teacher's after the other's: n B x C x H x W."""
        return torch.cat((self.teacher, *self.others))

    @classmethod
    def of_teachers(cls, random: Generator, gan: Any) -> "Output":
        """Of a step at which the teachers alone learn."""
        return cls(None, None, None, None, {}, {}, random, gan=gan)


Schedule = Callable[[int, int], float]  # a learning rate's factor at a step, from 1, of so many


@dataclass(eq=False)
class Optimizer:
    """The optimiser of an update, or of several that share its state: updates that are given the same object share
    moments and counts of steps, as lazy regularisers do with the network that they regularise.

    `kind`: "adam" with `betas`, or "sgd" with `momentum`. `schedule` None follows the recipe's (`train.constant`,
    `train.decay`); others are functions of (step, total), such as those of `training.schedules`. `clip`: an update
    whose gradients' norm is larger moves by ones that are scaled down to it; 0 for never.
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
    """One optimiser step: `terms` gives the loss as named, weighted terms; `modules` are the ones that learn from it.
    Its name is its own among the updates of a learner.

    `every`: due at each n-th step, and of these where `when` says so. `after` is called once the parameters have
    moved. `monitor` gives detached scalars to log that are no part of the loss; `watch` is told the values of each
    logged step, and returns a warning or None. Due updates of one label `together` that follow one another all learn
    before the first of them moves. `retains`: a later update's terms use this one's graph again. `still`: modules
    within `modules` that do not learn here; `twice`: modules within them whose own parameters take two optimiser steps
    by the same gradient, as where an optimiser is given a parameter twice. `apart`: its terms need no graph of what the
    step has computed. `own`: optimisers of those of the `modules`, by name, that do not move by `optimizer`, but by the
    same gradients; their parameters may be within other modules too.
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
        """The same update, at steps where this says so too."""
        own = self.when
        return replace(self, when=when if own is None else lambda step: when(step) and own(step))

    def due(self, step: int) -> bool:
        """Steps count from 1."""
        return step % self.every == 0 and (self.when is None or self.when(step))
