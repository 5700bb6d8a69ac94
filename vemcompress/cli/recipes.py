"""Commands that show recipes."""

from typing import Annotated

import typer

from vemcompress.cli import options


def recipes_list(json: options.Json = False) -> None:
    """The shipped recipes."""
    from vemcompress import recipe

    names = {name: recipe.read(name).description for name in recipe.shipped()}
    options.open_console().result(names, json, lambda values: options.open_console().table(values))


def recipes_show(
    name: Annotated[str, typer.Argument(help="A recipe's name or .toml file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    json: options.Json = False,
) -> None:
    """A recipe with every default written out, as TOML.

    Of a row of the paper also its figures beside ours, as comments.
    """
    from vemcompress import recipe
    from vemcompress.recipe import paper

    found, console = recipe.read(name, set_ or []), options.open_console()
    values = found.model_dump(mode="json")
    if found.paper:
        values["ours"] = paper.row(found)
    console.result(values, json, lambda values: console.recipe(values, found.toml()))
