"""The README and the pages of docs/: their commands, Python, links and quoted messages fit the code."""

import ast
import re
import shlex
import sys
import tomllib
from inspect import Parameter, signature
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import typer
from toys import TOY, toy_images, toy_teacher

import vemcompress
from vemcompress import recipe as recipes
from vemcompress.cli import app
from vemcompress.recipe import catalogue
from vemcompress.system.keys import KEYS, DistillKeys, TeachKeys, as_overrides
from vemcompress.training.update import Output

ROOT = Path(__file__).parents[1]
COMMAND_LINE = typer.main.get_command(app)
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {page.name: page.read_text() for page in [README, *DOCS]}
TEXT = "\n".join(PAGES.values()).replace("\\\n", " ")
TEXT = re.sub(r"\$([A-Z]+)\b", lambda m: re.search(rf'^{m[1]}="(.*)"$', TEXT, re.M)[1], TEXT)  # shell variables
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
LINES = [c.strip() for b in BLOCKS for line in b.splitlines() for c in line.split("&&") if "vemcompress " in c]
COMMANDS = list(dict.fromkeys(LINES))
PYTHON = [(name, code) for name, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.S)]
PROSE = {name: re.sub(r"```.*?```", "", text, flags=re.S) for name, text in PAGES.items()}
LINKS = [(name, link) for name, text in PROSE.items() for link in re.findall(r"\]\((?!https?:)(.*?)\)", text)]


def parsed(line: str) -> tuple[str, dict]:
    """The command of a line, with its options."""
    words = shlex.split(line, comments=True)
    command = COMMAND_LINE
    arguments = words[words.index(next(w for w in words if w.endswith("vemcompress"))) + 1 :]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    return command.name, command.make_context(command.name, arguments).params


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documents_parses(line):
    parsed(line)


TOYS = {  # what makes the README's commands fast; LiteRT is an extra
    "distill": [f"--set={setting}" for setting in TOY],
    "export": ["--size", "32"],
}


def test_the_readmes_commands_for_a_generator_of_ones_own_run(call, inputs, no_inception, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("latest_net_G.pth").write_bytes(inputs[0].read_bytes())
    Path("photos").symlink_to(inputs[1])
    toy_images(tmp_path / "test_photos", 4)
    block = next(b for b in re.findall(r"```bash\n(.*?)```", PAGES["README.md"], re.S) if "latest_net_G.pth" in b)
    for line in block.splitlines():
        _, command, *arguments = shlex.split(line.replace("onnx,litert", "onnx"), comments=True)
        code, _, err = call(command, *arguments, *TOYS.get(command, []))
        assert code == 0, (line, err)
    assert len(list(Path("zebras").iterdir())) == 4


def test_the_commands_of_the_documents_set_keys_that_their_recipes_have():
    checked = 0
    for line in COMMANDS:
        name, options = parsed(line)
        recipe = options.get("recipe") or {"distill": "omgd", "teach": "pix2pix"}.get(name)
        trains = name in ("distill", "teach") and recipe in recipes.shipped()
        if trains and options["set_"] and not options["resume"]:
            known = KEYS[TeachKeys if name == "teach" else DistillKeys]
            given = {known[key]: value for key, value in options.items() if key in known and "target" not in key}
            recipes.read(recipe, [*as_overrides(given), *options["set_"]])
            checked += 1
    assert checked > 10


def test_python_of_the_documents_calls_functions_with_arguments_that_they_take():
    calls = []
    for _, code in PYTHON:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and re.fullmatch(r"vemcompress\.\w+", ast.unparse(node.func)):
                calls.append((getattr(vemcompress, node.func.attr), node))
    for function, node in calls:
        known = {name: p for name, p in signature(function).parameters.items() if p.kind != Parameter.VAR_KEYWORD}
        keys = KEYS[TeachKeys if function is vemcompress.teach else DistillKeys]
        assert all(word.arg in {*known, *keys} for word in node.keywords), ast.unparse(node)
        assert len(node.args) <= sum(p.kind != Parameter.KEYWORD_ONLY for p in known.values())
    assert len(calls) > 4


def test_the_lines_that_save_a_pickled_models_weights_do(tmp_path, monkeypatch):
    code = next(code for _, code in PYTHON if "model.pth" in code)
    assert len(list(filter(None, code.splitlines()))) == 3
    monkeypatch.chdir(tmp_path)
    teacher = toy_teacher()
    torch.save(teacher, "model.pth")
    exec(code, {})
    found = torch.load("weights.pth", weights_only=True)
    assert all(torch.equal(found[name], value) for name, value in teacher.state_dict().items())


def test_the_method_in_adding_a_method_works_as_written(monkeypatch):
    method, its_test = (code for name, code in PYTHON if name == "adding-a-method.md")
    recipe = tomllib.loads(re.search(r"```toml\n(.*?)```", PAGES["adding-a-method.md"], re.S)[1])
    module = ModuleType("vemcompress.algorithms.edges")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(method, vars(module))
    exec(its_test, tests := {})
    tests["test_only_differences_between_neighbours_count"]()
    out = Output(*torch.rand(4, 1, 3, 8, 8), {}, {}, torch.Generator())
    learner = SimpleNamespace(settings=module.Edges.Settings(**recipe["algorithm"]))
    assert module.Edges.student_terms(learner, out).keys() == {"recon", "edges"}


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_of_the_documents_leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    here = README.parent if page == "README.md" else ROOT / "docs"
    target = here / path if path else here / page
    assert target.is_file()
    if anchor:
        titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
        assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_short_and_leads_to_every_page():
    text = README.read_text()
    assert len(text.splitlines()) < 150
    assert [page.name for page in DOCS if f"(docs/{page.name}" not in text] == []


def test_the_messages_in_troubleshooting_are_said_by_the_code():
    source = "\n".join(path.read_text() for path in (ROOT / "vemcompress").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    messages = re.findall(r"^\| `(.*?)` \|", PAGES["troubleshooting.md"], re.M)
    assert len(messages) > 40 and [message for message in messages if message not in source] == []


def test_the_table_of_recipes_is_what_the_recipes_say(capsys):
    """Between the two comments is what this command prints; it is not written by hand."""
    app(["recipes", "list", "--markdown"], standalone_mode=False)
    printed = capsys.readouterr().out
    begin = "<!-- begin: vemcompress recipes list --markdown -->\n"
    assert PAGES["recipes.md"].split(begin)[1].split("<!-- end -->")[0] == printed


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
