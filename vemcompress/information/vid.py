"""VID: variational information distillation, with a factorised Gaussian as q(t|s) (Ahn et al., CVPR 2019), as a
baseline for VEM.
"""

import json
import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.information.base import Information
from vemcompress.losses.information import gaussian
from vemcompress.system.settings import BaseSettings, Weight
from vemcompress.training.update import Output

INITIAL_VARIANCE, LEAST_VARIANCE = 5.0, 1e-5


class VID(Information):
    """q(t|s) = N(mu(s), diag(var_c)), with one variance per colour channel. Pixels are independent of one another.

    mu(s) = s, as in the public code of VEM's authors. VID itself distils feature maps of unequal width; it maps s by
    1x1 convolutions with ReLUs between and no bias. `regressor` gives that form. The variances and convolutions are
    trained with the student's optimiser.
    """

    class Settings(BaseSettings):
        """`weight`: weight of the term (beta of VID). `regressor`: channels between mu's convolutions; VID has as
        many as t, so 3 for RGB; 0 for mu(s) = s.
        """

        name: Literal["vid"] = "vid"
        weight: Weight = 1.0
        regressor: int = Field(0, ge=0, le=4096)

    file = "vid"

    def __init__(self, settings: Settings, *, image_channels: int, height: int, width: int):
        super().__init__()
        self.settings = settings
        start = math.log(math.expm1(INITIAL_VARIANCE - LEAST_VARIANCE))  # the inverse of softplus
        self.a = nn.Parameter(torch.full((image_channels,), start))
        self.mu = nn.Identity()
        if middle := settings.regressor:
            widths = (image_channels, middle), (middle, middle), (middle, image_channels)
            first, second, last = (nn.Conv2d(i, o, 1, bias=False) for i, o in widths)
            self.mu = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    @property
    def variance(self) -> Tensor:
        """var_c = softplus(a_c) + 1e-5."""
        return F.softplus(self.a.float()) + LEAST_VARIANCE

    @property
    def metadata(self) -> dict[str, str]:
        config = {"image_channels": len(self.a), "regressor": self.settings.regressor}
        return {"family": "vid", "config": json.dumps(config)}

    def student_modules(self) -> dict[str, nn.Module]:
        return {"vid": self}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """-log q(t|s), a scalar: its gradient raises the bound through s, and tightens it through var and mu."""
        with self.timer.part("information"):
            nll = gaussian(out.target.detach().float(), self.mu(self.timed(out.student)), self.variance)
            return {"information": self.settings.weight * nll}
