"""Reference step of AGD, as in the original code: one pass after the other, each with its own features."""

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.reference.omgd import gram


class Whole:
    """The whole step, for a supernet or a fixed shape, with the teacher and the add-on of the `PlainStep`."""

    def __init__(self, plain):
        self.plain, self.algorithm = plain, plain.algorithm
        algorithm, settings, student = self.algorithm, self.algorithm.settings, self.algorithm.student
        searched = list(student.architecture.parameters()) if algorithm.searches else []
        held = {id(parameter) for parameter in searched}
        modules = (student, *algorithm.information.student_modules().values())
        self.weights = [p for module in modules for p in module.parameters() if id(p) not in held]
        rate = algorithm.optimizer.lr
        if settings.rule == "sgd":
            options = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
            self.optimizer = torch.optim.SGD(self.weights, rate, **options)
        else:
            self.optimizer = torch.optim.Adam(self.weights, rate, algorithm.optimizer.betas)
        if searched:
            self.of_architecture = torch.optim.Adam(searched, settings.arch_lr, settings.arch_betas)

    def __call__(self, batch: Batch, random: torch.Generator, step: int) -> dict[str, Tensor]:
        plain, settings, losses = self.plain, self.algorithm.settings, {}
        teacher, searches = plain.generator(batch.input).detach(), self.algorithm.searches
        before = searches and step <= settings.pretrain_steps
        images = self._images(batch.input, random, before)
        if plain.vem is not None:
            losses |= plain.vem.tighten(teacher, images[0], random)
        terms = self._terms(teacher, images)
        terms |= plain.added(teacher, images[0], teacher, random)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(self.weights, settings.clip)
        self.optimizer.step()
        losses |= terms
        if searches and step >= settings.pretrain_steps:
            losses |= self._architecture(batch.second.input, random)
        return losses

    def _images(self, x: Tensor, random: torch.Generator, before: bool) -> list[Tensor]:
        student = self.algorithm.student
        if not self.algorithm.searches:
            return [student(x)]
        options = student.config.options
        widest, narrowest = tuple(of[-1] for of in options), tuple(of[0] for of in options)
        if before:
            host = Random(random.initial_seed())
            others = [tuple(host.choice(of) for of in options) for _ in range(2)]
            return [student.passed(x, widths) for widths in (widest, narrowest, *others)]
        images = [student.passed(x, *drawn(student, random))]
        return [*images, student.passed(x, widest), student.passed(x, narrowest)]

    def _terms(self, teacher: Tensor, images: list[Tensor]) -> dict[str, Tensor]:
        settings, features, terms = self.algorithm.settings, self.algorithm.features, {}

        def add(name: str, value: Tensor) -> None:
            terms[name] = terms.get(name, 0.0) + value

        for image in images:
            if settings.recon:
                add("recon", settings.recon * F.l1_loss(image, teacher))
            if features is not None:
                theirs, mine = features(teacher), features(image)
                for a, b in zip(theirs, mine, strict=True):
                    add("style", settings.style * F.mse_loss(gram(b), gram(a)))
                place = features.feature
                add("content", settings.content * F.l1_loss(mine[place], theirs[place]))
            if settings.tv:
                down, right = image[:, :, 1:] - image[:, :, :-1], image[..., 1:] - image[..., :-1]
                add("tv", settings.tv * (down.abs().sum() + right.abs().sum()))
        return terms

    def _architecture(self, x: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Update the architecture. As in the original, unused gradients of the weights are computed too."""
        student, algorithm = self.algorithm.student, self.algorithm
        teacher = self.plain.generator(x).detach()
        terms = self._terms(teacher, self._images(x, random, before=False))
        size, widest = x.shape[-2:], tuple(of[-1] for of in student.config.options)
        count = student.macs(*size, widest, mixed=True) / 4
        count = count + 3 / 4 * student.macs(*size, *drawn(student, random), mixed=False)
        terms["macs"] = algorithm.pressure.weight * count
        self.of_architecture.zero_grad()
        sum(terms.values()).backward()
        self.of_architecture.step()
        return {f"architecture_{name}": term for name, term in terms.items()}


def drawn(student: nn.Module, random: torch.Generator) -> tuple[tuple[int, ...], Tensor]:
    """Widths drawn by a hard Gumbel-softmax at temperature 1, and its entries."""
    logits = F.log_softmax(student.architecture.ratios, -1)
    uniform = torch.rand(logits.shape, generator=random, device=logits.device)
    soft = torch.softmax(logits - torch.log(-torch.log(uniform + 1e-20) + 1e-20), -1)
    index = soft.max(-1)[1]
    hard = torch.zeros_like(soft).scatter_(1, index.view(-1, 1), 1.0)
    entries = ((hard - soft).detach() + soft).gather(1, index.view(-1, 1)).view(-1)
    return tuple(of[i] for of, i in zip(student.config.options, index.tolist(), strict=True)), entries
