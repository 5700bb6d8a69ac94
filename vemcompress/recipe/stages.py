"""The stages of a pipeline: `[[stages]]`, each a run of its own that may begin with what an earlier one gives."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from vemcompress.system.settings import BaseSettings, Text

NAME = re.compile("[a-z][a-z0-9_]{0,39}")
GIVES = {"teach": "teacher", "distill": "student", "prune": "student", "search": "student"}
TABLES = ("prune", "search")  # of a stage that does this alone


class Stage(BaseSettings):
    """What one stage does. `recipe` has the tables that it changes, such as recipe.train.steps = 100.

    `teacher` and `student` name earlier stages, whose product it begins with; without them it has the pipeline's
    teacher, and a student of its own. A stage that prunes takes its `student`, if it has one, instead of the teacher,
    and one that searches a supernet takes its `student` as that. `adversary`: the earlier stage whose discriminators
    the student's own start from; without one there they start anew.
    """

    name: Text
    do: Literal["teach", "distill", "prune", "search"]
    recipe: dict[Text, Any] = Field(default_factory=dict, max_length=64)
    teacher: Text | None = None
    student: Text | None = None
    adversary: Text | None = None

    @property
    def replaceable(self) -> bool:
        """Whether what the user brings may take the place of what it gives: not of masks that must learn."""
        return "masks" not in self.recipe

    @model_validator(mode="after")
    def _fits(self):
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be a stage's name; use a lower-case word, such as '{self.do}'")
        if "stages" in self.recipe:
            raise ValueError(f"stage {self.name}: its recipe has stages of its own; list them beside it instead")
        for table in TABLES:
            if table in self.recipe and self.do != table:
                raise ValueError(f"stage {self.name}: recipe.{table} needs do = '{table}'")
        if "masks" in self.recipe and self.do != "teach":
            raise ValueError(f"stage {self.name}: recipe.masks needs do = 'teach'")
        if self.do == "teach" and self.student is not None:
            raise ValueError(f"stage {self.name}: trains a teacher and takes no student; omit it")
        return self


def check_stages(stages: Sequence[Stage]) -> None:
    """Raises ValueError where two have one name, or one takes what no earlier one gives."""
    earlier: dict[str, Stage] = {}
    for stage in stages:
        if stage.name in earlier:
            raise ValueError(f"two stages are named '{stage.name}'; give each a name of its own")
        if stage.adversary is not None and (stage.adversary not in earlier or stage.do != "distill"):
            raise ValueError(
                f"stage {stage.name}: adversary = '{stage.adversary}' must be an earlier stage, of one that distils"
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
                what = f"gives a {GIVES[earlier[name].do]}" if name in earlier else "is no earlier stage"
                take = f"take {' or '.join(fit)}" if fit else "no earlier stage gives one"
                raise ValueError(f"stage {stage.name}: takes its {role} from '{name}', which {what}; {take}")
        earlier[stage.name] = stage


def meant(stages: Sequence[Stage], names: Sequence[str], override: str) -> list[str]:
    """Of these stages those that a `table.key=value` is for: one of [prune] or [search] is for stages that do this."""
    table = override.partition(".")[0].strip()
    return [stage.name for stage in stages if stage.name in names and (table not in TABLES or stage.do == table)]


def skipped_stages(stages: Sequence[Stage], brought: dict[str, str]) -> dict[str, str]:
    """Stages that need not run, and why. `brought` says, for "teach" and "prune", why their product already exists.

    A stage whose product only skipped ones would take is skipped too.
    """
    skipped = {stage.name: brought[stage.do] for stage in stages if stage.do in brought and stage.replaceable}
    for stage in reversed(stages):
        takers = [other.name for other in stages if stage.name in (other.teacher, other.student)]
        if takers and skipped.keys() >= set(takers):
            skipped.setdefault(stage.name, f"only {' and '.join(takers)} would take what it gives")
    return {stage.name: skipped[stage.name] for stage in stages if stage.name in skipped}
