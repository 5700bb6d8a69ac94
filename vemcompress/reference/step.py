"""A whole step of OMGD, with frozen, online or phased teachers and any add-on, as the original code does it."""

from typing import Any

import torch
from torch import Tensor, nn

from vemcompress.algorithms.omgd import OMGD
from vemcompress.algorithms.omgd_online import OnlineOMGD, PhasedOMGD
from vemcompress.information.vem import VEM
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.reference.gans import plain_gan
from vemcompress.reference.losses import channel_distillation, distillation
from vemcompress.reference.vem import PlainVEM
from vemcompress.training.update import Output


class PlainStep:
    """Called with a batch, a step's number (from 1) and its noise; trains the networks of `algorithm` in place.

    Returns the loss terms by the fast step's names, detached. Learning rates are constant. Give it a deep copy of an
    algorithm in its initial state: optimisers are its own, PyTorch's default ones.
    """

    def __init__(self, algorithm: OMGD):
        self.algorithm, self.settings = algorithm, algorithm.settings
        self.gan = plain_gan(algorithm.gan) if isinstance(algorithm, OnlineOMGD | PhasedOMGD) else None
        self.vem = PlainVEM(algorithm.information) if isinstance(algorithm.information, VEM) else None
        learned = [algorithm.student, algorithm.connectors, *algorithm.information.student_modules().values()]
        parameters = [p for module in learned for p in module.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=algorithm.optimizer.lr, betas=algorithm.optimizer.betas)
        # The original's teachers are ready to learn whoever's turn it is, so every forward of theirs builds a graph.
        algorithm.teacher.requires_grad_(True)
        if self.gan is not None:
            algorithm.gan.requires_grad_(True)
        algorithm.train()
        for module in algorithm.modules():
            if isinstance(module, InstanceNorm2d):
                module.__class__ = nn.InstanceNorm2d  # PyTorch's own

    def __call__(self, batch: Any, random: torch.Generator, step: int = 1) -> dict[str, Tensor]:
        algorithm, losses = self.algorithm, {}
        a, b = batch if isinstance(batch, tuple) else (batch, None)
        if isinstance(algorithm, PhasedOMGD) and algorithm.phases.teaches(step):
            return _detached(self.gan.teach(a, b, {"generator_a": algorithm.gan.generator_a(a)}, random))
        teacher, of_teacher = algorithm.teacher.forward_with_taps(a, algorithm.teacher_taps)
        fakes = self._others(a, teacher)
        student, of_student = algorithm.student.forward_with_taps(a, algorithm.student_taps)
        shown = [fake.detach() for fake in fakes.values()]
        if isinstance(algorithm, OnlineOMGD) and step % algorithm.gan.settings.every == 0:
            losses |= self.gan.teach(a, b, fakes, random)
        target = shown[0] if b is None or not getattr(algorithm, "paired", True) else b
        if self.vem is not None:
            losses |= self.vem.tighten(target, student, random)
        losses |= self._student(shown, student, of_teacher, of_student, target, random)
        return _detached(losses)

    def _others(self, a: Tensor, first: Tensor) -> dict[str, Tensor]:
        """The images of all teachers, with their graphs."""
        if not isinstance(self.algorithm, OnlineOMGD):
            return {"teacher": first}
        name, *others = self.algorithm.gan.teachers()
        return {name: first} | {other: self.algorithm.gan.teachers()[other](a) for other in others}

    def _student(self, shown, student, of_teacher, of_student, target, random) -> dict[str, Tensor]:
        algorithm, terms = self.algorithm, {}
        for image in shown:
            for name, value in distillation(student, image, algorithm.features, self.settings).items():
                terms[name] = terms.get(name, 0.0) + value
        if algorithm.connectors:
            maps = [of_student[s] for s in algorithm.student_taps], [of_teacher[t] for t in algorithm.teacher_taps]
            terms["channel"] = self.settings.channel * channel_distillation(*maps, algorithm.connectors)
        if self.vem is not None:
            terms["information"] = self.vem.student_term(target, student)
        else:
            out = Output(student, student, shown[0], target, {}, {}, random)
            terms |= algorithm.information.student_terms(out)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        return terms


def _detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in losses.items()}
