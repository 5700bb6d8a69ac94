"""Reference step of GCC for latent vectors, as in the original code: teacher, student, masks, one after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vemcompress.data.batch import Batch
from vemcompress.errors import UsageError
from vemcompress.gans import LatentGAN
from vemcompress.networks.attention import SelfAttention
from vemcompress.networks.discriminators.gates import Gate
from vemcompress.networks.spectral import EPS, SpectralConv2d, SpectralConvTranspose2d
from vemcompress.reference.gans import adam_of, for_generator, judge_step, judged
from vemcompress.reference.omgd import gram
from vemcompress.training.update import Optimizer


class PlainAttention(SelfAttention):
    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        shares = torch.softmax(torch.bmm(q, self.key(x).view(b, -1, h * w)), dim=-1)
        v = self.value(x).view(b, c, h * w)
        return self.gamma * torch.bmm(v, shares.permute(0, 2, 1)).view(b, c, h, w) + x


def normalised(layer: SpectralConv2d | SpectralConvTranspose2d) -> Tensor:
    matrix = layer.weight.flatten(1)
    if layer.training:
        v = torch.mv(matrix.detach().t(), layer.u)
        layer.v.data = (v / (v.norm() + EPS)).detach()
        u = torch.mv(matrix.detach(), layer.v)
        layer.u.data = (u / (u.norm() + EPS)).detach()
    return layer.weight / torch.dot(layer.u, torch.mv(matrix, layer.v))


class PlainConv(SpectralConv2d):
    normalised = normalised


class PlainConvTranspose(SpectralConvTranspose2d):
    normalised = normalised


_PLAIN = {SelfAttention: PlainAttention, SpectralConv2d: PlainConv, SpectralConvTranspose2d: PlainConvTranspose}


class Whole:
    """The whole step, with the optimiser, the teacher and the add-on of the `PlainStep`. Raises UsageError for other
    kinds of GANs."""

    def __init__(self, plain):
        self.plain, self.algorithm = plain, plain.algorithm
        algorithm = self.algorithm
        if not isinstance(algorithm.own, LatentGAN) or algorithm.settings.average:
            raise UsageError(
                "--against reference: GCC has a plain form only for latent vectors and without algorithm.average; "
                "omit --against."
            )
        for module in algorithm.modules():
            module.__class__ = _PLAIN.get(type(module), type(module))
        own, betas = algorithm.own, algorithm.own.settings.betas
        self.judge, self.mode = own.discriminator, own.settings.mode
        self.alphas = [m.alpha for m in self.judge.modules() if isinstance(m, Gate)]
        held = {id(alpha) for alpha in self.alphas}
        self.weights = [p for p in self.judge.parameters() if id(p) not in held]
        update = next(u for u in algorithm.updates() if u.name == "student_discriminator")
        self.of_judge = adam_of(Optimizer(own.settings.lr_d, betas), self.weights, update.twice)
        settings = algorithm.settings
        if self.alphas:
            self.of_masks = torch.optim.Adam(self.alphas, lr=settings.mask_lr, betas=settings.mask_betas)

    def __call__(self, batch: Batch, random: torch.Generator, step: int) -> dict[str, Tensor]:
        algorithm, plain = self.algorithm, self.plain
        z, real = batch.input, batch.real
        fake, maps = plain.generator.forward_with_taps(z, algorithm.teacher_taps)
        losses = plain.gan.teach(z, real, {"teacher": fake}, random)
        targets = [maps[tap].detach().clone() for tap in algorithm.teacher_taps] + plain.gan.features
        image, maps = algorithm.student.forward_with_taps(z, algorithm.student_taps)
        shown = fake.detach()
        if plain.vem is not None:
            losses |= plain.vem.tighten(shown, image, random)
        self._learns(weights=True)
        found = judge_step(self.judge, self.mode, real, image, self.of_judge)
        losses |= dict(zip(("student_d_real", "student_d_fake"), found, strict=True))
        losses |= self._student(image, shown, maps, targets, random)
        if self.alphas and step % algorithm.settings.mask_every == 0:
            losses |= self._masks(batch.second)
        return losses

    def _student(self, image: Tensor, shown: Tensor, maps, targets: list[Tensor], random) -> dict[str, Tensor]:
        algorithm, settings, teacher = self.algorithm, self.algorithm.settings, self.plain.gan.gan.discriminator
        self.judge.requires_grad_(False)
        weight = algorithm.own.settings.lambda_gan
        terms = {"gan": weight * for_generator(self.mode, self.judge(image))}
        teacher.requires_grad_(False)
        _, seen = teacher.forward_with_taps(image.detach() if settings.detached else image, teacher.places)
        teacher.requires_grad_(True)
        (connectors,) = algorithm.connectors
        features = [f(maps[tap]) for f, tap in zip(connectors, algorithm.student_taps, strict=True)]
        features += [seen[place] for place in teacher.places]
        contents, grams = 0.0, 0.0
        for mine, theirs in zip(features, targets, strict=True):
            content, style = F.mse_loss(mine, theirs), F.mse_loss(gram(mine), gram(theirs))
            contents = contents + (content.sqrt() if settings.root else content)
            grams = grams + (style.sqrt() if settings.root else style)
        terms |= {"content": settings.content * contents, "gram": settings.gram * grams}
        if settings.image:
            terms["image"] = settings.image * F.l1_loss(image, shown)
        terms |= self.plain.added(shown, image, shown, random)
        self.plain.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.plain.optimizer.step()
        return terms

    def _masks(self, batch: Batch) -> dict[str, Tensor]:
        """Update the masks. As in the original, both generators build graphs that are not used, and the teacher's
        discriminator judges real images too."""
        for alpha in self.alphas:
            alpha.data.clamp_(0, 1)
        image, fake = self.algorithm.student(batch.input), self.plain.generator(batch.input)
        teacher = self.plain.gan.gan.discriminator
        teacher.requires_grad_(False)
        (of_teacher,) = self.algorithm.balance(self._difference(teacher(fake.detach())).view(1))
        teacher(batch.real)
        teacher.requires_grad_(True)
        self._learns(weights=False)
        self.of_masks.zero_grad()
        on_fake, on_real = self.judge(image.detach()), self.judge(batch.real)
        terms = {
            "mask_balance": F.l1_loss(self._difference(on_fake), of_teacher),
            "mask_real": judged(True, self.mode, on_real),
            "mask_fake": judged(False, self.mode, on_fake),
        }
        sum(terms.values()).backward()
        self.of_masks.step()
        return terms

    def _difference(self, scores: Tensor) -> Tensor:
        return F.l1_loss(for_generator(self.mode, scores), judged(False, self.mode, scores))

    def _learns(self, *, weights: bool) -> None:
        """Let either the weights of the student's discriminator or its masks receive gradients."""
        for parameter in self.weights:
            parameter.requires_grad_(weights)
        for alpha in self.alphas:
            alpha.requires_grad_(not weights)
