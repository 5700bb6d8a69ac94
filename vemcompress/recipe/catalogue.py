"""The shipped recipes as a table in Markdown, made from the recipes themselves; docs/recipes.md has it."""

from vemcompress.algorithms import ALGORITHMS
from vemcompress.errors import RecipeError
from vemcompress.gans import GANS
from vemcompress.recipe.reading import general, of_stage, read, shipped
from vemcompress.recipe.schema import Recipe

TITLES = ("recipe", "what it does", "stages", "data", "add-on")
KINDS = {"single": "real images", "paired": "pairs", "unpaired": "two domains"}  # of data, as the table names them


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
