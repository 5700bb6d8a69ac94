"""A row of a published table compared with this project's counts: parameters and MACs of every network in a recipe."""

import math
from typing import Any

from pydantic import ValidationError

from vemcompress.errors import RecipeError
from vemcompress.networks import Config, parse_config
from vemcompress.networks.base import LatentConfig
from vemcompress.recipe import AutoStudent, Recipe

SIZE = 256  # pixels, in every row with generators that take images
UNITS = {"M": 1e6, "G": 1e9}


def row(recipe: Recipe) -> dict[str, Any]:
    """This project's counts for one image of `size`: the student's `parameters` and `macs` (as in `inspect`), or those
    of the original network in its row.

    The same for `teacher`, `deep` and the tables' `original`, in dicts with these names, if the recipe has them.
    `agrees` says for each such figure of [paper] whether ours rounds to it. Raises RecipeError for an unknown original.
    """
    networks = _networks(recipe)
    costs = {role: _cost(config) for role, config in networks.items()}
    sizes = [config.image for config in networks.values() if isinstance(config, LatentConfig)]
    found = {"size": sizes[0] if sizes else SIZE, **costs.pop("student", {}), **costs}
    return found | {"agrees": {key: _prints(*pair) for key, pair in _pairs(recipe, found).items()}}


def _networks(recipe: Recipe) -> dict[str, Config]:
    paper, given = recipe.paper, {"teacher": recipe.teacher.network, "deep": recipe.teacher.deep}
    networks = {} if isinstance(recipe.student, AutoStudent) else {"student": recipe.student}
    if "channels" in paper:  # a student found by a search
        networks["student"] = parse_config({"family": paper["student"], "channels": paper["channels"]})
    if "widths" in paper:  # a pruned student
        widths = [int(width) for width in str(paper["widths"]).split("_")]
        networks["student"] = parse_config({"family": paper["student"], "widths": widths})
    networks |= {role: config for role, config in given.items() if config is not None}
    if "original" in paper:
        try:
            networks["original"] = parse_config({"family": paper["original"], "width": paper.get("original_width")})
        except ValidationError as error:
            raise RecipeError(
                f"recipe {recipe.name}: original and original_width in [paper] do not name a network; give a family, "
                "such as 'resnet', and a width."
            ) from error
    elif "teacher" in networks:  # the row of the original itself
        networks["student"] = networks.pop("teacher")
    return networks


def _cost(config: Config) -> dict[str, Any]:
    cost = config.cost(SIZE, SIZE)
    return {"family": config.family, "parameters": cost.parameters, "macs": cost.macs()}


def _pairs(recipe: Recipe, found: dict) -> dict[str, tuple[float, str | float]]:
    """By key of [paper]: our figure in the paper's unit (M parameters; G MACs by its convention, or M if `unit` says
    so), and the paper's figure.
    """
    pairs = {}
    own, unit = recipe.paper.get("count_as", "paper"), UNITS.get(recipe.paper.get("unit"), UNITS["G"])
    for prefix, network, convention in (("", found, own), ("original_", found.get("original", {}), "paper")):
        if "parameters" in network:
            pairs[f"{prefix}params"] = network["parameters"] / 1e6
            pairs[f"{prefix}macs"] = network["macs"][convention] / unit
    return {key: (value, recipe.paper[key]) for key, value in pairs.items() if key in recipe.paper}


def _prints(value: float, printed: str | float) -> bool:
    """Whether a figure would be printed this way: rounded to two decimals or, as in older papers, truncated after
    one.
    """
    return printed in (round(value, 2), math.floor(value * 10) / 10)
