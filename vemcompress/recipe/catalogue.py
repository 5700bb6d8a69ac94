"""Lists of all recipes and methods, for `recipes list`, `recipes methods` and the table in docs/recipes.md."""

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
KINDS = {"single": "real images", "paired": "pairs", "unpaired": "two domains"}  # the table's names of data kinds

OWN = "vemcompress"  # the package of everything that is not a plugin's
METHODS: dict[str, Registry] = {  # by the recipe key or the option
    "algorithm.name": ALGORITHMS,
    "information.name": INFORMATION,
    "student.family": GENERATORS,
    "prune.method": PRUNERS,
    "--metric": METRICS,
}


def descriptions() -> dict[str, str]:
    """Each recipe's description, by name, plugins last. For a plugin's recipe that cannot be read, the text is the
    reason.
    """
    found = {name: read(name).description for name in shipped()}
    for name in installed().keys() - found.keys():
        try:
            found[name] = read(name).description
        except RecipeError as error:
            found[name] = f"cannot be used: {error}"
    return dict(sorted(found.items(), key=lambda item: (item[0] not in shipped(), item[0])))


def methods() -> list[dict[str, str]]:
    """All methods that a recipe or the command line can name: `key`, `name`, what it `does` in one sentence, and its
    `package`.
    """
    return [
        {"key": key, "name": name, "does": _does(method), "package": registry.added.get(name, (None, OWN))[1]}
        for key, registry in METHODS.items()
        for name, method in registry.items()
    ]


def _does(method: Any) -> str:
    """A metric's own sentence; otherwise the first sentence of the docstring of its file."""
    if does := getattr(method, "does", ""):
        return does[0].upper() + does[1:]
    kind = method if isinstance(method, type) else type(method)
    text = " ".join((sys.modules[kind.__module__].__doc__ or "").partition("\n\n")[0].split())
    return re.split(r"(?<!et al)\.\s", text)[0].rstrip(".")


def markdown() -> str:
    """A table row for each recipe: name, description, stages or command, kinds of data, and add-on. The paper's rows
    share one line.
    """
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
    """Whether every GAN of the recipe can be trained on this kind of data, and the data contain the teacher's
    outputs if needed.
    """
    try:
        plan = read(name, [f"data.kind={kind}"])
    except RecipeError:  # such as the crop of single images from pairs
        return False
    return all(kind in GANS[gan].data for gan in _gans(plan)) and (kind == "paired" or not plan.from_pairs)


def _gans(plan: Recipe) -> set[str]:
    plans = [of_stage(plan, stage) for stage in plan.stages] or [plan]
    return {one.gan.name for one in plans if one.gan is not None}
