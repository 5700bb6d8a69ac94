"""The commands of the README and of docs/ exist, with the options that these give them."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from vemcompress.cli import app
from vemcompress.recipe import catalogue

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES).replace("\\\n", " ")
TEXT = re.sub(r"\$([A-Z]+)\b", lambda m: re.search(rf'^{m[1]}="(.*)"$', TEXT, re.M)[1], TEXT)  # shell variables
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


def test_the_readmes_table_of_recipes_is_what_the_recipes_say(capsys):
    """Between the two comments is what this command prints; it is not written by hand."""
    app(["recipes", "list", "--markdown"], standalone_mode=False)
    printed = capsys.readouterr().out
    kept = README.read_text().split("<!-- begin: vemcompress recipes list --markdown -->\n")[1].split("<!-- end -->")[0]
    assert kept == printed


def test_the_table_tells_stages_data_and_add_ons():
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in catalogue.markdown().splitlines()]
    table = {cells[0].strip("`"): cells[2:] for cells in lines[2:]}
    assert table["cat"] == ["teacher, prune, distill", "two domains", "vem"]
    assert table["cagc"] == ["prune, train", "real images", "vem"]
    assert table["dmad"][1:] == ["pairs; two domains", "vem"]
    assert table["kd"] == ["distill", "any", "vem"]
    assert table["nickel_dime"][2] == "none"
    assert (table["pix2pix"], table["sagan"]) == (["teach", "pairs", "-"], ["teach", "real images", "-"])
    assert [name for name in table if name.startswith("paper/")] == ["paper/..."]


def test_the_readmes_picture_is_there():
    assert (README.parent / re.search(r"!\[.*?\]\((.*?)\)", README.read_text())[1]).is_file()
