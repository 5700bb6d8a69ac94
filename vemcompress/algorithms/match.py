"""Feature maps of teacher and student at the published places, and the layers that bring them to equal channels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator, Taps, init_weights


class FeatureMatch(nn.ModuleList):
    """A `connector(inputs, outputs)` for each pair of places, from the student's channels to the teacher's.

    `initialise` gives their initial weights; `teacher_taps` and `student_taps` are the places' names, pair by pair.
    Connectors stay in training mode.
    """

    def __init__(
        self,
        teacher: Generator,
        student: Generator,
        connector: Callable[[int, int], nn.Module],
        *,
        initialise: Callable[[nn.Module], None] = init_weights,
    ):
        pairs = paired_places(teacher, student)
        super().__init__(connector(student.tap_channels(s), teacher.tap_channels(t)) for t, s in pairs)
        initialise(self)
        self.teacher_taps = tuple(t for t, _ in pairs)
        self.student_taps = tuple(s for _, s in pairs)

    def forward(self, student: Taps) -> list[Tensor]:
        """The student's maps with the teacher's channels, in the places' order."""
        return [connector(student[tap]) for tap, connector in zip(self.student_taps, self, strict=True)]


def paired_places(teacher: Generator, student: Generator) -> tuple[tuple[str, str], ...]:
    """The published places of both networks, one by one: (teacher's tap, student's tap); empty where they are of two
    kinds."""
    mine, others = teacher.places, student.places
    same_kind = len(mine) == len(others) and all(a[:2] == b[:2] for a, b in zip(mine, others, strict=True))
    return tuple(dict.fromkeys(zip(mine, others, strict=True))) if same_kind else ()


def check_places(method: str, recipe: str, teacher: Generator, student: Generator) -> None:
    """Raises RecipeError where the two have no places that correspond."""
    if not paired_places(teacher, student):
        raise RecipeError(
            f"recipe {recipe}: a {student.family} student has no places that correspond to those of a "
            f"{teacher.family} teacher; {method} needs a student of the teacher's kind."
        )


def sides(network: Generator, size: int) -> list[tuple[int, int]]:
    """Height and width of the feature maps at the places, of images of this size."""
    with torch.device("meta"), torch.no_grad():
        empty = build_generator(network.config)
        taps = empty.forward_with_taps(torch.zeros(1, network.in_channels, size, size), network.places)[1]
    return [tuple(tap.shape[2:]) for tap in taps.values()]
