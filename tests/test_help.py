"""Help pages: options in groups, examples that work, and no word cut off."""

import re
import subprocess
import sys

import pytest
import typer
from test_readme import parsed

from vemcompress.cli import app, panels
from vemcompress.cli.help import GLOBAL_FLAGS, Group


def commands(command=None, name: str = "vemcompress") -> dict:
    command = command or typer.main.get_command(app)
    below = command.commands.items() if isinstance(command, Group) else ()
    return {name: command} | {n: c for own, one in below for n, c in commands(one, f"{name} {own}").items()}


ALL = commands()
LEAVES = {name: command for name, command in ALL.items() if not isinstance(command, Group)}


def page(call, name: str) -> str:
    code, out, _ = call(*name.split()[1:], "--help")
    assert code == 0
    return out


def examples_of(command) -> list[str]:
    return command.examples.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("name", ALL)
def test_a_page_ends_with_examples_as_they_were_written_and_cuts_no_word(call, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    out, command = page(call, name), ALL[name]
    assert max(map(len, out.splitlines())) <= 80 and "\x1b" not in out and "…" not in out
    shown = out.split("\nExamples:\n")[1].splitlines()
    assert [line.removeprefix("  ") for line in shown] == command.examples.splitlines() and shown
    said = [command.help, *(p.help or "" for p in command.params), *GLOBAL_FLAGS.values()]
    said += [c.help.partition("\n\n")[0] for c in getattr(command, "commands", {}).values()]
    said = said if command.global_flags else [text for text in said if text not in GLOBAL_FLAGS.values()]
    words = set(out.split())
    assert {word for text in said for word in text.split()} - words == set()
    assert {option for p in command.params for option in (*p.opts, *p.secondary_opts) if option[0] == "-"} <= {
        word.strip(",") for word in words
    }


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_has_examples_of_itself_that_parse(name):
    lines = examples_of(LEAVES[name])
    assert 2 <= len(lines) <= 4 and any(line.startswith(f"{name} ") for line in [f"{x} " for x in lines])
    for line in lines:
        parsed(line)


def test_the_first_pages_show_commands_in_groups_and_examples_that_parse():
    for name in ALL.keys() - LEAVES.keys():
        for line in examples_of(ALL[name]):
            parsed(line)
    assert {command.rich_help_panel for command in ALL["vemcompress"].commands.values()} == {
        *("Start", "Train", "Measure", "Use")
    }


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_is_in_a_group_with_the_most_used_first(name, call):
    options = [p for p in LEAVES[name].params if p.param_type_name == "option"]
    assert [p.name for p in options if p.rich_help_panel not in panels.ORDER] == []
    order = [p.name for p in options if panels.of(p) == "Main options"]
    assert len(order) <= 8 and all(p.metavar or p.is_flag for p in options)
    titles = [title for line in page(call, name).splitlines() if (title := line.removesuffix(":")) in panels.ORDER]
    groups = [title for title in titles if title != "Arguments"]
    assert groups[-1] == "Output and help" and ("Main options" not in groups or groups[0] == "Main options")


def test_options_of_one_name_are_declared_once():
    """These mean the same in every command, so they say the same."""
    for name in ("data", "teacher", "recipe", "device", "resume", "teacher_class", "teacher_range", "json"):
        found = {(p.help, p.metavar, p.multiple, panels.of(p), *p.opts) for p in parameters(name)}
        assert len(found) == 1, name
        assert len({p.default for c in LEAVES.values() if c.name != "bench" for p in c.params if p.name == name}) <= 1
    read = {"teacher_class", "teacher_key", "teacher_padding", "teacher_range"}
    for name, command in LEAVES.items():
        options = {p.name for p in command.params}
        assert not options & {"teacher", "widths"} or read <= options, name


def parameters(name: str) -> list:
    return [p for c in LEAVES.values() for p in c.params if p.name == name and p.param_type_name == "option"]


def test_titles_are_bold_on_a_terminal_alone_and_never_with_no_color():
    code = (
        "import pty, os, sys; os.environ.pop('NO_COLOR', None); os.environ.update(COLUMNS='80', {more}); "
        "pty.spawn([sys.executable, '-m', 'vemcompress', 'inspect', '--help'])"
    )
    pages = [
        subprocess.run([sys.executable, "-c", code.format(more=more)], capture_output=True, stdin=subprocess.DEVNULL)
        for more in ("TERM='xterm'", "NO_COLOR='1'")
    ]
    shown, plain = (done.stdout.decode().replace("\r", "") for done in pages)
    assert "\x1b[1mExamples:\x1b[0m" in shown and "\x1b[1m" not in plain
    assert re.sub(r"\x1b\[\d*m", "", shown) == plain
