"""The commands of the README and of docs/ exist, with the options that these give them."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from vemcompress import recipe
from vemcompress.cli import app

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
COMMANDS = [c.strip() for b in BLOCKS for line in b.splitlines() for c in line.split("&&") if "vemcompress " in c]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line):
    words = shlex.split(line, comments=True)
    command = typer.main.get_command(app)
    arguments = words[words.index(next(w for w in words if w.endswith("vemcompress"))) + 1 :]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


def test_the_readme_lists_every_recipe():
    table = README.read_text().split("## Recipes")[1].split("##")[0]
    assert all(f"`{name}`" in table or name.startswith("paper/") for name in recipe.shipped())


def test_the_readmes_picture_is_there():
    assert (README.parent / re.search(r"!\[.*?\]\((.*?)\)", README.read_text())[1]).is_file()
