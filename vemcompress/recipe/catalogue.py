"""What there is: the recipes, also as a table in Markdown that docs/recipes.md has, and the methods that they name."""

import re
import sys
from typing import Any

from vemcompress.algorithms import ALGORITHMS
from vemcompress.errors import RecipeError
from vemcompress.evaluation import METRICS
from vemcompress.gans import GANS
from vemcompress.information import INFORMATION
from vemcompress.networks import GENERATORS
from vemcompress.pruning import PRUNERS
from vemcompress.recipe.reading import general, installed, of_stage, read, shipped
from vemcompress.recipe.schema import Recipe
from vemcompress.system.plugins import Registry

TITLES = ("recipe", "what it does", "stages", "data", "add-on")
KINDS = {"single": "real images", "paired": "pairs", "unpaired": "two domains"}  # of data, as the table names them

OWN = "vemcompress"  # the package of what is no plugin's
METHODS: dict[str, Registry] = {  # by the key or the option that names one
    "algorithm.name": ALGORITHMS,
    "information.name": INFORMATION,
    "student.family": GENERATORS,
    "prune.method": PRUNERS,
    "--metric": METRICS,
}


def descriptions() -> dict[str, str]:
    """What each recipe says of itself, by name, those of plugins last. One of a plugin that cannot be read says why."""
    found = {name: read(name).description for name in shipped()}
    for name in installed().keys() - found.keys():
        try:
            found[name] = read(name).description
        except RecipeError as error:
            found[name] = f"cannot be used: {error}"
    return dict(sorted(found.items(), key=lambda item: (item[0] not in shipped(), item[0])))


def methods() -> list[dict[str, str]]:
    """The methods that a recipe or the command line can name: `key`, `name`, what it `does` in a sentence, and the
    `package` that it comes from."""
    return [
        {"key": key, "name": name, "does": _does(method), "package": registry.added.get(name, (None, OWN))[1]}
        for key, registry in METHODS.items()
        for name, method in registry.items()
    ]


def _does(method: Any) -> str:
    """The first sentence of its file."""
    kind = method if isinstance(method, type) else type(method)
    text = " ".join((sys.modules[kind.__module__].__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"(?<!et al)\.\s", text)[0].rstrip(".")


def markdown() -> str:
    """A line for each recipe: its name and description, its stages or the command that takes it, what data it takes and
    the add-on that is on. The paper's rows are counted in one line."""
    lines = [TITLES, ("-",) * len(TITLES), *map(_line, general())]
    count = len(shipped()) - len(general())
    lines.append(["`paper/...`", f"{count} rows of the paper's Tables 1 to 5, with its figures", "", "", ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _line(name: str) -> list[str]:
    plan = read(name)
    teaches = plan.gan is not None and not plan.stages and "student" not in plan.model_fields_set
    stages = ", ".join(stage.name for stage in plan.stages) or ("teach" if teaches else "distill")
    return [f"`{name}`", plan.description, stages, _data(name, plan), "-" if teaches else plan.information.name]


def _data(name: str, plan: Recipe) -> str:
    if plan.data.degrade is not None:
        return "photos"
    images = "image" in ALGORITHMS[plan.algorithm.name].needs.takes
    kinds = [kind for kind in KINDS if _takes(name, kind) and (images or kind == "single")]
    return "any" if len(kinds) == len(KINDS) else "; ".join(KINDS[kind] for kind in kinds)


def _takes(name: str, kind: str) -> bool:
    """Whether every GAN of the recipe can learn from data of this kind, and its teacher's outputs are in it."""
    try:
        plan = read(name, [f"data.kind={kind}"])
    except RecipeError:  # such as the crop of single images from pairs
        return False
    return all(kind in GANS[gan].data for gan in _gans(plan)) and (kind == "paired" or not plan.from_pairs)


def _gans(plan: Recipe) -> set[str]:
    plans = [of_stage(plan, stage) for stage in plan.stages] or [plan]
    return {one.gan.name for one in plans if one.gan is not None}
