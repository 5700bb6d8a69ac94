"""`init`: write a commented recipe for a teacher and images, with all the values that `distill` would choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from vemcompress import recipe as recipes
from vemcompress.commands import facts, opening, sizing
from vemcompress.commands.distill import stated
from vemcompress.commands.line import Reported
from vemcompress.commands.opening import Given
from vemcompress.errors import RecipeError, UsageError
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.explain import explained
from vemcompress.recipe.resolve import DEFAULT_WIDTH
from vemcompress.system.events import Event, silent
from vemcompress.system.files import output_error
from vemcompress.system.keys import DistillKeys, Overrides, as_overrides
from vemcompress.system.names import AUTO
from vemcompress.weights.trust import named


@dataclass(frozen=True)
class InitResult(Reported):
    """The file that was written, and the name of the recipe that it is based on."""

    recipe: str
    follows: str


def init(
    teacher: str | Path | None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path,
    recipe: str | Path = "omgd",
    overrides: Overrides = (),
    on_event: Event = silent,
    **keys: Unpack[DistillKeys],
) -> InitResult:
    """Write a commented recipe for your teacher and data to the new file `out`.

        vemcompress.init("netG.pth", data="photos/", out="mine.toml", width=16)
        vemcompress.distill(recipe="mine.toml", out="runs/mine")

    Values that depend on the teacher and the data are filled in. A recipe with stages is written unchanged.

    Arguments:
        teacher: a weight file, a run folder or "hf://..."; None if the recipe needs no teacher.
        data: one or more folders of images.
        out: the .toml file, which must be new.
        recipe: the recipe to start from; "omgd" by default.
        overrides, keys: as for `distill`.
        on_event: a function that is called with each event, a dict.

    Returns:
        InitResult: `recipe` (the file) and `follows` (the name of the recipe it is based on).

    Raises:
        UsageError if `out` exists or is not a .toml file; the other classes of `vemcompress.errors` as
        `distill`.
    """
    path = Path(out)
    if path.suffix != ".toml":
        raise UsageError(f"{path}: the name of a recipe file must end in .toml; give -o {path}.toml.")
    if path.exists():
        raise UsageError(f"{path}: already exists; give another name with -o.")
    overrides = as_overrides(overrides, keys, DistillKeys)
    given = Given(teacher and str(teacher), data, None, recipe, overrides, on_event=on_event)
    with named(*recipes.classes_named(overrides)):
        plan = decided(given)
    begun = f"# Written by `vemcompress init`, based on the recipe {plan.name}. It names its teacher and data.\n"
    begun += f"# Start a run with `vemcompress distill --recipe {path} --out RUN`.\n"
    text = begun + explained(plan.but(name=path.stem, paper={}))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise output_error(path, error) from error
    return InitResult(str(path), plan.name)


def decided(given: Given) -> Recipe:
    """The resolved recipe of a new run. Only the student may stay open. Raises as `distill`."""
    asked = recipes.read(given.recipe, given.overrides)
    if asked.gan is not None and not asked.stages and "student" not in asked.model_fields_set:
        raise RecipeError(
            f"recipe {asked.name}: trains a teacher, so init cannot write it; use `vemcompress recipes show "
            f"{given.recipe} --explain`."
        )
    plan = stated(given)
    if plan.stages:
        return plan
    plan, _ = opening.open_recipe(plan, (), None)
    student = plan.student
    found = facts.gather("distill", sizing.stand_in(plan), given.on_event).plan
    if student == AutoStudent():
        student = AutoStudent(width=DEFAULT_WIDTH)
    train = found.train if plan.train.batch != AUTO else plan.train  # the run chooses its batch and then its steps
    return found.but(student=student if isinstance(student, AutoStudent) else found.student, train=train)
