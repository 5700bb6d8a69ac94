"""The reference step of a distillation, as in the original code, with frozen, online or phased teachers and any add-on.

The module of an algorithm's name in this folder has the student's loss terms, `student_terms`. If a step of the student
consists of more, it has the whole step, `Whole`.
"""

from importlib import import_module, util

import torch
from torch import Tensor, nn

from vemcompress.algorithms import Distillation
from vemcompress.data.batch import Batch
from vemcompress.errors import UsageError
from vemcompress.gans.teachers import Online, Phased
from vemcompress.information.vem import VEM
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.reference.adversary import PlainAdversary
from vemcompress.reference.gans import adam_of, plain_gan
from vemcompress.reference.vem import PlainVEM
from vemcompress.training.update import Output


class PlainStep:
    """Call it with a batch, the step's number (from 1) and its noise. It trains the networks of `algorithm` in place.

    Returns the detached loss terms, by the names of the fast step. Learning rates are constant. Give it a deep copy of
    an algorithm in its initial state, because it has its own optimisers (PyTorch's default ones). Raises UsageError for
    an algorithm without a reference form here.
    """

    def __init__(self, algorithm: Distillation):
        self.algorithm, plain = algorithm, _module_of(algorithm.settings.name)
        teacher, self.generator = algorithm.teacher, algorithm.teacher.generator
        self.gan = plain_gan(teacher.gan) if isinstance(teacher, Online | Phased) else None
        own = getattr(algorithm, "adversary", None)
        self.adversary = PlainAdversary(own) if own is not None else None
        self.vem = PlainVEM(algorithm.information) if isinstance(algorithm.information, VEM) else None
        learned = [algorithm.student, *algorithm.learned().values(), *algorithm.information.student_modules().values()]
        parameters = [p for module in learned for p in module.parameters()]
        self.optimizer = adam_of(algorithm.optimizer, parameters, algorithm.moved_twice())
        # The original's teachers always require gradients, so each of their forward passes builds a graph.
        self.generator.requires_grad_(True)
        if self.gan is not None:
            teacher.gan.requires_grad_(True)
        algorithm.train()
        for module in algorithm.modules():
            if isinstance(module, InstanceNorm2d):
                module.__class__ = nn.InstanceNorm2d  # PyTorch's own
        self.whole = plain.Whole(self) if hasattr(plain, "Whole") else None
        self.terms = getattr(plain, "student_terms", None)

    def __call__(self, batch: Batch, random: torch.Generator, step: int = 1) -> dict[str, Tensor]:
        algorithm, teacher, losses = self.algorithm, self.algorithm.teacher, {}
        if self.whole is not None:
            return _detached(self.whole(batch, random, step))
        a, b = batch.input, batch.real if batch.target is None else batch.target
        if not teacher.due(step):
            fakes = {name: generator(a) for name, generator in teacher.gan.teachers().items()}
            return _detached(self.gan.teach(a, b, fakes, random))
        image, of_teacher = self.generator.forward_with_taps(a, algorithm.teacher_taps)
        fakes = self._others(a, image)
        student, of_student = algorithm.imitate(a, random)
        shown = [fake.detach() for fake in fakes.values()]
        if isinstance(teacher, Online) and step % teacher.gan.settings.every == 0:
            losses |= self.gan.teach(a, b, fakes, random)
        target = shown[0] if batch.target is None else batch.target
        if self.vem is not None:
            losses |= self.vem.tighten(target, student, random)
        if self.adversary is not None:
            real = next(image for image in (batch.target, batch.real, shown[0]) if image is not None)
            losses |= self.adversary.learn(a, real, student, random)
            if algorithm.together is None:  # updated before the student learns from it
                self.adversary.optimizer.step()
        losses |= self._student(a, shown, student, of_teacher, of_student, target, random)
        return _detached(losses)

    def _others(self, a: Tensor, first: Tensor) -> dict[str, Tensor]:
        """The images of all teachers, with their autograd graphs."""
        teacher = self.algorithm.teacher
        if not isinstance(teacher, Online):
            return {"teacher": first}
        name, *others = teacher.gan.teachers()
        return {name: first} | {other: teacher.gan.teachers()[other](a) for other in others}

    def _student(self, a, shown, student, of_teacher, of_student, target, random) -> dict[str, Tensor]:
        terms = self.terms(self.algorithm, shown, student, of_teacher, of_student, target)
        if self.adversary is not None:
            terms["gan"] = self.adversary.of_student(a, student)
        terms |= self.added(shown[0], student, target, random)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        if self.adversary is not None and self.algorithm.together is not None:
            self.adversary.optimizer.step()
        self.optimizer.step()
        return terms

    def added(self, image: Tensor, student: Tensor, target: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """The add-on's terms, from the first teacher's image and the student's."""
        if self.vem is not None:
            return {"information": self.vem.student_term(target, student)}
        out = Output(student, student, image, target, {}, {}, random)
        return self.algorithm.information.student_terms(out)


def _module_of(name: str):
    """The module with the reference form of the algorithm of this name."""
    module = f"{__package__}.{name}"
    if util.find_spec(module) is None:
        raise UsageError(f"--against reference: there is no reference form of {name} to compare with; omit --against.")
    return import_module(module)


def _detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in losses.items()}
