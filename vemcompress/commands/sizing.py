"""Choose the width of a student for a target latency or file size. Candidates are measured before training with random
weights, because the time does not depend on the weights."""

from dataclasses import replace
from typing import Any

from vemcompress.commands import facts, opening
from vemcompress.commands.opening import Given
from vemcompress.errors import UsageError
from vemcompress.export.goals.goal import met
from vemcompress.export.goals.subjects import OfWidth
from vemcompress.networks import student_of
from vemcompress.networks.base import Config, Generator
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.resolve import widest
from vemcompress.system.events import Event, silent

Chosen = tuple[int, dict[str, Any]]  # the width, and how it meets the goal

_chosen: dict[tuple, Chosen] = {}  # a cache for this process, so that runs with several seeds get the same width


def asked(given: Given) -> Chosen | None:
    """The width for the goal of a new run, and the report on the goal; None if there is no goal. Everything is checked
    before anything is measured. Raises the classes of `errors`."""
    plan, _ = opening.open_recipe(given.recipe, given.overrides, given.resume)
    if not getattr(plan.student, "wanted", None):
        return None
    found = facts.read("distill", replace(given, on_event=silent), stand_in)
    return chosen(found.plan.but(student=plan.student), found.original, given.on_event)


def stand_in(plan: Recipe, width: int | None = None) -> Recipe:
    """The recipe with a student of this width, or of the smallest possible width, instead of one still to be
    measured."""
    student = plan.student
    if not getattr(student, "wanted", None):
        return plan
    return plan.but(student=AutoStudent(width=width or student.multiple or 1))


def chosen(plan: Recipe, teacher: Generator, on_event: Event = silent) -> Chosen:
    """The widest student of this teacher that meets the recipe's goal. Raises UsageError if none does."""
    key = plan.student, teacher.config, teacher.takes, teacher.channels, plan.data.size
    if key not in _chosen:
        _chosen[key] = _measured(plan, teacher, on_event)
    return _chosen[key]


def _measured(plan: Recipe, teacher: Generator, on_event: Event) -> Chosen:
    wanted, step = plan.student.wanted, plan.student.multiple or 1

    def of_width(width: int) -> Config:
        return student_of(teacher.config, width, teacher.takes).with_channels(*teacher.channels)

    goal = wanted.of(OfWidth(of_width, plan.data.size), on_event)

    def choose(most: float) -> int:
        width = widest(lambda width: goal.cost(width) <= most, step)
        if width is None:
            goal.calibrate(step)  # predictions are least accurate for very narrow networks
            if (needed := goal.measured(step)) > goal.most:
                raise UsageError(
                    f"student.target_{goal.kind} {goal.shown(goal.most)}: a {goal.kind} target below what width {step} "
                    f"needs, {goal.shown(needed)}{goal.where}; give a higher target."
                )
        return width or step

    width, report = met(goal, choose)
    return width, report | {"width": width}
