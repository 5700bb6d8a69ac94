"""Stages of a pipeline: `[[stages]]`, each a run of its own that may start from the product of an earlier one."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from vemcompress.system.settings import BaseSettings, Text

NAME = re.compile("[a-z][a-z0-9_]{0,39}")
GIVES = {"teach": "teacher", "distill": "student", "prune": "student", "search": "student"}
TABLES = ("prune", "search")  # tables for stages that only do this


class Stage(BaseSettings):
    """`name`: the stage's name, after which its folder is named. `do`: what the stage does: "teach", "distill", "prune"
    or "search". `recipe`: the tables that the stage changes, such as recipe.train.steps = 100.

    `teacher`: the earlier stage whose product is the teacher; the default is the pipeline's teacher. `student`: the
    earlier stage whose product is the student; the default is a new student. A stage that prunes uses its student, if
    given, instead of the teacher; one that searches a supernet uses its student as the supernet. `adversary`: the
    earlier stage whose discriminators the student's discriminators start from; by default they are new.
    """

    name: Text
    do: Literal["teach", "distill", "prune", "search"]
    recipe: dict[Text, Any] = Field(default_factory=dict, max_length=64)
    teacher: Text | None = None
    student: Text | None = None
    adversary: Text | None = None

    @property
    def replaceable(self) -> bool:
        """Whether the user's own file can replace the stage's product. Not possible for a stage that trains masks."""
        return "masks" not in self.recipe

    @model_validator(mode="after")
    def _fits(self):
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be a stage's name; use a lower-case word, such as '{self.do}'")
        if "stages" in self.recipe:
            raise ValueError(
                f"stage {self.name}: its recipe has stages too; list them as stages of this pipeline instead"
            )
        for table in TABLES:
            if table in self.recipe and self.do != table:
                raise ValueError(f"stage {self.name}: recipe.{table} needs do = '{table}'")
        if "masks" in self.recipe and self.do != "teach":
            raise ValueError(f"stage {self.name}: recipe.masks needs do = 'teach'")
        if self.do == "teach" and self.student is not None:
            raise ValueError(f"stage {self.name}: trains a teacher and uses no student; omit it")
        return self


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises ValueError if two stages have the same name, or if one needs what no earlier one produces."""
    earlier: dict[str, Stage] = {}
    for stage in stages:
        if stage.name in earlier:
            raise ValueError(f"two stages are named '{stage.name}'; give each its own name")
        if stage.adversary is not None and (stage.adversary not in earlier or stage.do != "distill"):
            raise ValueError(
                f"stage {stage.name}: adversary = '{stage.adversary}' must be an earlier stage, and only a stage that "
                "distils may have one"
            )
        if stage.adversary is not None and earlier[stage.adversary].do in TABLES:
            raise ValueError(
                f"stage {stage.name}: adversary = '{stage.adversary}' has no discriminator; name a stage that trains"
            )
        for role in ("teacher", "student"):
            name = getattr(stage, role)
            if name is None:
                continue
            fit = [one.name for one in earlier.values() if GIVES[one.do] == role]
            if name not in fit:
                what = f"gives a {GIVES[earlier[name].do]}" if name in earlier else "is not an earlier stage"
                take = f"use {' or '.join(fit)}" if fit else "no earlier stage gives one"
                raise ValueError(f"stage {stage.name}: takes its {role} from '{name}', which {what}; {take}")
        earlier[stage.name] = stage


def meant(stages: Sequence[Stage], names: Sequence[str], override: str) -> list[str]:
    """The stages in `names` to which a `table.key=value` applies: one of [prune] or [search] applies to stages that
    do this.
    """
    table = override.partition(".")[0].strip()
    return [stage.name for stage in stages if stage.name in names and (table not in TABLES or stage.do == table)]


def skipped_stages(stages: Sequence[Stage], brought: dict[str, str]) -> dict[str, str]:
    """Stages that need not run, and why. `brought` says, for "teach" and "prune", why their product already exists.

    A stage is also skipped if only skipped stages would use its product.
    """
    skipped = {stage.name: brought[stage.do] for stage in stages if stage.do in brought and stage.replaceable}
    for stage in reversed(stages):
        takers = [other.name for other in stages if stage.name in (other.teacher, other.student)]
        if takers and skipped.keys() >= set(takers):
            skipped.setdefault(stage.name, f"only {' and '.join(takers)} would use its result")
    return {stage.name: skipped[stage.name] for stage in stages if stage.name in skipped}
