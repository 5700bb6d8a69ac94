"""Matching feature maps of teacher and student, and the connector layers that give them equal channels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.networks import build_generator
from vemcompress.networks.base import Generator, Taps, init_weights


class FeatureMatch(nn.ModuleList):
    """One `connector(inputs, outputs)` per pair of places, from the student's channels to the teacher's.

    `initialise` sets their initial weights. `teacher_taps` and `student_taps` are the names of the places, pair by
    pair. Connectors stay in training mode.
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
        """The student's maps with the teacher's channels, in the order of the places."""
        return [connector(student[tap]) for tap, connector in zip(self.student_taps, self, strict=True)]


def paired_places(teacher: Generator, student: Generator) -> tuple[tuple[str, str], ...]:
    """Pairs (teacher's tap, student's tap) of the published places of both networks; empty if the places are of
    different kinds.
    """
    mine, others = teacher.places, student.places
    same_kind = len(mine) == len(others) and all(a[:2] == b[:2] for a, b in zip(mine, others, strict=True))
    return tuple(dict.fromkeys(zip(mine, others, strict=True))) if same_kind else ()


def unmatched(recipe: str, teacher: Generator, student: Generator, advice: str) -> RecipeError:
    """The error for two networks whose places do not match, with `advice` on what to do."""
    return RecipeError(
        f"recipe {recipe}: the feature maps of a {student.family} student do not match those of a {teacher.family} "
        f"teacher; {advice}."
    )


def check_places(method: str, recipe: str, teacher: Generator, student: Generator) -> None:
    """Raises RecipeError if the places of the two networks do not match."""
    if not paired_places(teacher, student):
        raise unmatched(recipe, teacher, student, f"{method} needs a student of the teacher's family")


def sides(network: Generator, size: int) -> list[tuple[int, int]]:
    """Height and width of the feature maps at the places, for square images of `size` pixels."""
    with torch.device("meta"), torch.no_grad():
        empty = build_generator(network.config)
        taps = empty.forward_with_taps(torch.zeros(1, network.in_channels, size, size), network.places)[1]
    return [tuple(tap.shape[2:]) for tap in taps.values()]
