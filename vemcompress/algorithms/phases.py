"""Whose turn it is: OMGD's alternation of teacher and student on CycleGAN."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Phases:
    """`steps` of the teacher, then `share` times as many of the student, and so on to `total` steps, counted from 1.

    What does not make a whole turn at the end is one in the same proportion.
    """

    steps: int
    share: int
    total: int

    @property
    def turn(self) -> int:
        """Steps of one turn of both."""
        return self.steps * (1 + self.share)

    def teaches(self, step: int) -> bool:
        """Whether the teacher learns at this step, or the student."""
        turn, place = divmod(step - 1, self.turn)
        return place < self._teacher_steps(turn)

    def ends_teaching(self, step: int) -> bool:
        """Whether this is the last step of a phase of the teacher."""
        return self.teaches(step) and (step == self.total or not self.teaches(step + 1))

    def teacher_step(self, step: int) -> int:
        """How many steps the teacher has learnt once this step is done."""
        turn, place = divmod(step - 1, self.turn)
        return turn * self.steps + min(place + 1, self._teacher_steps(turn))

    def _teacher_steps(self, turn: int) -> int:
        rest = min(self.turn, self.total - turn * self.turn)
        return math.ceil(rest / (1 + self.share))
