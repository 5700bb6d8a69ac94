"""The add-on's one place: it may bring one update (it tightens the bound) and one term in the student's loss."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from vemcompress.system.settings import BaseSettings
from vemcompress.training.timing import Timer
from vemcompress.training.update import Output, Update


class Information(nn.Module):
    """How the mutual information between teacher and student is maximised. This base does nothing: `none`."""

    class Settings(BaseSettings):
        """No setting."""

        name: Literal["none"] = "none"

    file = "information"  # its name in a checkpoint
    splits = True  # whether its losses are means over images, so that a batch can be worked on in parts

    def __init__(self):
        super().__init__()
        self.timer = Timer(torch.device("cpu"))

    @staticmethod
    def resolve(settings: BaseSettings, facts: Any) -> BaseSettings:
        """The settings with what they leave open, by the `facts`: the `teacher`, a Generator, the `batch`, and the
        `size` of the images in pixels. Raises RecipeError (3) where they cannot work."""
        return settings

    @property
    def metadata(self) -> dict[str, str]:
        """What rebuilds the add-on from its weights; empty where it has none."""
        return {}

    def update(self) -> Update | None:
        """The update that tightens the variational bound, before the student's (section 3, step 1)."""
        return None

    def student_modules(self) -> dict[str, nn.Module]:
        """What learns with the student, by the student's optimiser, because one loss moves both."""
        return {}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The named, weighted term of the student's loss (eq. 10)."""
        return {}

    def timed(self, student: Tensor) -> Tensor:
        """The student's images in float32, for `student_terms`: their backward up to here is the add-on's time."""
        s = student.float()
        s = s.view_as(s) if s is student else s  # a tensor of its own, whose gradient is this term's alone
        self.timer.until_gradient(s, "information")
        return s
