"""Reference losses of OMGD (eq. 12-15), as in the original code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vemcompress.algorithms.omgd import OMGD
from vemcompress.networks.base import Taps


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of images B x C x H x W, with the 11 x 11 window as one depthwise convolution."""
    channels = x.shape[1]
    line = torch.exp(-((torch.arange(11, device=x.device, dtype=x.dtype) - 5) ** 2) / (2 * 1.5**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(channels, 1, 11, 11).contiguous()

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z, window, padding=5, groups=channels)

    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2, mean(x * y) - mu_x * mu_y
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mu_x * mu_y + c1) * (2 * cov + c2)) / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))).mean()


def gram(x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    f = x.reshape(b, c, h * w)
    return torch.bmm(f, f.transpose(1, 2)) / (c * h * w)


def distillation(student: Tensor, teacher: Tensor, features: nn.Module | None, settings) -> dict[str, Tensor]:
    """The student's terms for one teacher's image: SSIM, style, feature, total variation, pixels."""
    terms = {"ssim": settings.ssim * (1 - ssim(student, teacher))}
    if features is not None:
        of_student, of_teacher = features(student), features(teacher)
        style = sum(F.l1_loss(gram(s), gram(t)) for s, t in zip(of_student, of_teacher, strict=True))
        place = features.feature
        terms["style"] = settings.style * style
        terms["feature"] = settings.feature * F.l1_loss(of_student[place], of_teacher[place])
    down, right = student[:, :, 1:] - student[:, :, :-1], student[..., 1:] - student[..., :-1]
    terms["tv"] = settings.tv * (down.abs().sum() + right.abs().sum())
    if settings.recon:
        terms["recon"] = settings.recon * F.l1_loss(student, teacher)
    if settings.squared:
        terms["squared"] = settings.squared * F.mse_loss(student, teacher)
    return terms


def channel_distillation(student: list[Tensor], teacher: list[Tensor], connectors: nn.ModuleList) -> Tensor:
    """Eq. 13-14, for the first teacher only."""
    total = 0.0
    for s, t, f in zip(student, teacher, connectors, strict=True):
        total = total + F.mse_loss(f(s).mean((2, 3)), t.detach().mean((2, 3)))
    return total


def student_terms(
    algorithm: OMGD, shown: list[Tensor], student: Tensor, of_teacher: Taps, of_student: Taps, target: Tensor
):
    """The terms, summed over the teachers' images `shown`, which are constants. Only the add-on uses the ground
    truth."""
    terms = {}
    for image in shown:
        for name, value in distillation(student, image, algorithm.features, algorithm.settings).items():
            terms[name] = terms.get(name, 0.0) + value
    if algorithm.connectors:
        maps = [of_student[s] for s in algorithm.student_taps], [of_teacher[t] for t in algorithm.teacher_taps]
        terms["channel"] = algorithm.settings.channel * channel_distillation(*maps, algorithm.connectors)
    return terms
