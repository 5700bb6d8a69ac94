"""One iteration of GCC's published training in plain PyTorch: teacher, student, masks, by each kind of GAN.

Written from the method's description; nothing here imports vemcompress. A generator is given as a function to its
image and its hooked features, a teacher's discriminator as one to its scores and features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from published_latent import Masked
from torch import Tensor, nn


class MaskedNLayers(nn.Sequential):
    """The student's PatchGAN: first convolution, LeakyReLU, mask; then three times convolution, norm, mask, LeakyReLU;
    and the last convolution."""

    def __init__(self, channels: int, width: int, threshold: float):
        leaky, previous = nn.LeakyReLU(0.2), width
        layers = [nn.Conv2d(channels, width, 4, 2, 1), leaky, Masked(width, threshold)]
        for n, stride in ((2, 2), (4, 2), (8, 1)):
            layers += [nn.Conv2d(previous, n * width, 4, stride, 1, bias=False), nn.BatchNorm2d(n * width)]
            layers += [Masked(n * width, threshold), leaky]
            previous = n * width
        super().__init__(*layers, nn.Conv2d(previous, 1, 4, 1, 1))


def patch_features(judge: nn.Module) -> Callable:
    """Modules 3 and 9 of a plain PatchGAN `judge.model`, as the LeakyReLU behind them leaves them."""

    def forward(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        second = judge.model[:5](x)
        fourth = judge.model[5:11](second)
        return judge.model[11](fourth), [second, fourth]

    return forward


@dataclass
class Side:
    """Teacher or student: generators A to B (and back), discriminators by the generator that they judge, optimisers."""

    makers: list[nn.Module]
    judges: list[nn.Module]
    make: list[Callable]
    of_makers: torch.optim.Optimizer
    of_judges: torch.optim.Optimizer
    pools: list = field(default_factory=list)


@dataclass
class Weights:
    mode: str
    content: float
    gram: float
    image: float = 0.0
    recon: float = 0.0
    half: float = 1.0
    root: bool = True


def hinge_or_square(mode: str, scores: Tensor, real: bool, generator: bool = False) -> Tensor:
    if mode == "lsgan":
        return ((scores - float(real)) ** 2).mean()
    if generator:
        return -scores.mean()
    return torch.clamp(1 - scores if real else 1 + scores, min=0).mean()


def gram(x: Tensor) -> Tensor:
    _, c, h, w = x.shape
    return torch.stack([m.reshape(c, -1) @ m.reshape(c, -1).t() / (c * h * w) for m in x])


def distances(weights: Weights, teacher: list[Tensor], student: list[Tensor]) -> dict[str, Tensor]:
    terms = {"content": 0.0, "gram": 0.0}
    for t, s in zip(teacher, student, strict=True):
        pairs = {"content": (t.detach(), s), "gram": (gram(t.detach()), gram(s))}
        for name, (a, b) in pairs.items():
            square = ((a - b) ** 2).mean()
            terms[name] = terms[name] + getattr(weights, name) * (square.sqrt() if weights.root else square)
    return terms


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def judge_step(side: Side, weights: Weights, condition, real: Tensor, fake: Tensor, *, fake_first: bool) -> list[float]:
    """The values of the real and the fake half."""
    (judge,) = side.judges
    found = {}
    for is_real in (False, True) if fake_first else (True, False):
        scores = judge(shown(condition, real if is_real else fake.detach()))
        found[is_real] = weights.half * hinge_or_square(weights.mode, scores, is_real)
    step(side.of_judges, found[True] + found[False])
    return [found[True].item(), found[False].item()]


def shown(condition: Tensor | None, image: Tensor) -> Tensor:
    return image if condition is None else torch.cat((condition, image), 1)


def two_player_step(teacher: Side, student: Side, d_features, connectors, weights, inputs, condition, real):
    """SAGAN (no condition, real scores first) and Pix2Pix (condition first, fake scores first). Returns the losses."""
    first, losses = condition is not None, {}

    def moves(side: Side, prefix: str) -> tuple[Tensor, list[Tensor]]:
        image, maps = side.make[0](inputs)
        values = judge_step(side, weights, condition, real, image, fake_first=first)
        losses.update(dict(zip((f"{prefix}_d_real", f"{prefix}_d_fake"), values, strict=True)))
        return image, maps

    fake, maps_t = moves(teacher, "teacher")
    scores, judged_t = d_features(shown(condition, fake))
    terms = {"teacher_gan": hinge_or_square(weights.mode, scores, True, generator=True)}
    if first:
        terms["teacher_recon"] = weights.recon * (fake - real).abs().mean()
    maps_t, judged_t = ([m.detach().clone() for m in maps] for maps in (maps_t, judged_t))
    step(teacher.of_makers, sum(terms.values()))
    losses |= {name: term.item() for name, term in terms.items()}

    image, maps_s = moves(student, "student")
    terms = {"gan": hinge_or_square(weights.mode, student.judges[0](shown(condition, image)), True, generator=True)}
    if first:
        terms["recon"] = weights.recon * (image - real).abs().mean()
    _, judged_s = d_features(shown(condition, image))
    matched = [connector(m) for connector, m in zip(connectors, maps_s, strict=True)]
    terms |= distances(weights, maps_t + judged_t, matched + judged_s)
    if weights.image:
        terms["image"] = weights.image * (image - fake.detach()).abs().mean()
    step(student.of_makers, sum(terms.values()))
    return losses | {name: term.item() for name, term in terms.items()}


def cycle_step(teacher: Side, student: Side, d_features, connectors, weights, a, b, draws, detached=True):
    """CycleGAN: generators before discriminators; D_T's targets are of pooled images, before it moves."""
    losses = {}

    def translate(side: Side):
        (fake_b, maps_b), (fake_a, maps_a) = side.make[0](a), side.make[1](b)
        g_a, g_b = side.makers
        terms = {
            "a_identity": 5 * (g_a(b) - b).abs().mean(),
            "b_identity": 5 * (g_b(a) - a).abs().mean(),
            "a_gan": hinge_or_square(weights.mode, side.judges[0](fake_b), True),
            "b_gan": hinge_or_square(weights.mode, side.judges[1](fake_a), True),
            "a_cycle": 10 * (g_b(fake_b) - a).abs().mean(),
            "b_cycle": 10 * (g_a(fake_a) - b).abs().mean(),
        }
        return [fake_b, fake_a], [maps_b, maps_a], terms

    def judge(side: Side, fakes, judges, prefix: str) -> list[list[Tensor]]:
        kept, total = [], 0.0
        for name, scores_of, pool, real, fake in zip("ab", judges, side.pools, (b, a), fakes, strict=True):
            earlier = pool(fake.detach(), draws)
            of_real, (of_fake, features) = scores_of(real)[0], scores_of(earlier)
            halves = [0.5 * hinge_or_square(weights.mode, s, r) for s, r in ((of_real, True), (of_fake, False))]
            losses.update({f"{prefix}{name}_d_real": halves[0].item(), f"{prefix}{name}_d_fake": halves[1].item()})
            total = total + sum(halves)
            kept.append([feature.detach().clone() for feature in features])
        step(side.of_judges, total)
        return kept

    fakes, maps_t, terms = translate(teacher)
    maps_t = [[m.detach().clone() for m in maps] for maps in maps_t]
    step(teacher.of_makers, sum(terms.values()))
    losses |= {name: term.item() for name, term in terms.items()}
    judged_t = judge(teacher, fakes, d_features, "")

    images, maps_s, terms = translate(student)
    losses_of_student = {f"student_{name}": term for name, term in terms.items()}
    total = {"content": 0.0, "gram": 0.0}
    for side in (0, 1):
        _, judged_s = d_features[side](images[side].detach() if detached else images[side])
        matched = [connector(m) for connector, m in zip(connectors[side], maps_s[side], strict=True)]
        found = distances(weights, maps_t[side] + judged_t[side], matched + judged_s)
        total = {name: total[name] + found[name] for name in total}
    if weights.image:  # once for each of the six features
        total["image"] = (
            weights.image * 6 * sum((s - t.detach()).abs().mean() for s, t in zip(images, fakes, strict=True))
        )
    step(student.of_makers, sum((losses_of_student | total).values()))
    judge(student, images, [lambda x, judge=judge: (judge(x), []) for judge in student.judges], "student_")
    return losses | {name: term.item() for name, term in (losses_of_student | total).items()}


def mask_step(teacher: Side, student: Side, weights, optimizer, inputs, condition, reals, averages, beta):
    """L_arch of each discriminator on the second batch; `averages` has the teacher's differences, 0.0 at first."""
    alphas = [m.alpha for judge in student.judges for m in judge.modules() if isinstance(m, Masked)]
    for alpha in alphas:
        alpha.data.clamp_(0, 1)

    def difference(scores: Tensor) -> Tensor:
        fools = hinge_or_square(weights.mode, scores, True, generator=True)
        return (fools - hinge_or_square(weights.mode, scores, False)).abs()

    found = {"mask_balance": 0.0, "mask_real": 0.0, "mask_fake": 0.0}
    for i, (of_teacher, of_student) in enumerate(zip(teacher.judges, student.judges, strict=True)):
        newest = difference(of_teacher(shown(condition, teacher.make[i](inputs[i])[0].detach()))).detach()
        if condition is None:  # its scores are not used, and running statistics, of Pix2Pix, neither
            of_teacher(shown(condition, reals[i]))
        averages[i] = newest if averages[i] == 0.0 else beta * newest + (1 - beta) * averages[i]
        on_fake = of_student(shown(condition, student.make[i](inputs[i])[0].detach()))
        on_real = of_student(shown(condition, reals[i]))
        found["mask_balance"] = found["mask_balance"] + (difference(on_fake) - averages[i]).abs()
        found["mask_real"] = found["mask_real"] + weights.half * hinge_or_square(weights.mode, on_real, True)
        found["mask_fake"] = found["mask_fake"] + weights.half * hinge_or_square(weights.mode, on_fake, False)
    step(optimizer, sum(found.values()))
    return {name: term.item() for name, term in found.items()}


def weights_of(judge: nn.Module) -> list[nn.Parameter]:
    """All that learn, but alpha; the vectors of spectral norm are among them where they do."""
    return [p for n, p in judge.named_parameters() if not n.endswith("alpha") and p.requires_grad]


def listed_by_type(network: nn.Module) -> list[nn.Parameter]:
    """As SAGAN's student and its discriminator give them to Adam: layers with spectral norm and attention's 1x1 ones
    come by their own type and once more as convolutions."""
    inside = [p for n, m in network.named_modules() if n.endswith((".module", "_conv")) for p in weights_of(m)]
    return weights_of(network) + inside
