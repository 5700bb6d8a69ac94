"""No add-on (`none`), which is also the base class of all information add-ons.

An add-on may have one update, which tightens the bound, and one term in the student's loss.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from vemcompress.system.settings import BaseSettings
from vemcompress.training.timing import Timer
from vemcompress.training.update import Output, Update


class Information(nn.Module):
    """Maximises the mutual information between teacher and student. This base class does nothing: `none`."""

    class Settings(BaseSettings):
        """No settings."""

        name: Literal["none"] = "none"

    file = "information"  # the name of its file in a checkpoint
    splits = True  # whether its losses are means over images, so that a batch can be computed in parts

    def __init__(self):
        super().__init__()
        self.timer = Timer(torch.device("cpu"))

    @staticmethod
    def resolve(settings: BaseSettings, facts: Any) -> BaseSettings:
        """The settings with their open values filled in.

        `facts` has the `teacher`, a Generator, the `batch`, and the `size` of the images in pixels. Raises RecipeError
        (3) if they do not fit the settings.
        """
        return settings

    @property
    def metadata(self) -> dict[str, str]:
        """What is needed to rebuild the add-on from its weights; empty if it has none."""
        return {}

    def update(self) -> Update | None:
        """The update that tightens the variational bound, before the student's update (section 3, step 1)."""
        return None

    def student_modules(self) -> dict[str, nn.Module]:
        """Modules that are trained with the student's optimiser, because one loss trains both."""
        return {}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The named, weighted term of the student's loss (eq. 10), a scalar."""
        return {}

    def timed(self, student: Tensor) -> Tensor:
        """The student's images in float32, for `student_terms`. The time of the backward pass down to them counts as
        the add-on's.
        """
        s = student.float()
        s = s.view_as(s) if s is student else s  # a separate tensor, so that its gradient is this term's alone
        self.timer.until_gradient(s, "information")
        return s
