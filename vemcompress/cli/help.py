"""Help pages: what a command does, its options in groups with the most used first, and examples to copy.

The text is the command's docstring. The lines after "Examples:" are printed last, unchanged.
"""

import os
from collections import defaultdict
from textwrap import dedent, indent, wrap

import typer
from typer.core import TyperCommand, TyperGroup

from vemcompress.cli import panels

GLOBAL_FLAGS = {
    "--debug": "Show the traceback of an error.",
    "--quiet": "No progress and no notes, only results and errors.",
}
WIDEST, GAP, MARGIN = 26, 2, "  "  # columns for an option's name, and between it and its help


class Page:
    """The help page of a command: plain text with bold titles, in which no word is broken."""

    global_flags = True  # whether it lists the flags that every command accepts

    def __init__(self, *arguments, help: str | None = None, **more):
        text, _, examples = (help or "").partition("\n\nExamples:\n")
        super().__init__(*arguments, help=text, **more)
        self.examples = dedent(examples).strip("\n")

    def format_help(self, ctx, formatter) -> None:
        self.format_usage(ctx, formatter)
        for paragraph in (self.help or "").split("\n\n"):
            formatter.write("\n" + _filled(paragraph, formatter.width, MARGIN, MARGIN) + "\n")
        found = defaultdict(list)
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is not None:
                name = panels.of(parameter)
                found[name].append((row[0].partition(" <")[0], row[1]) if name == panels.ARGUMENTS else row)
        if self.global_flags:
            found[panels.OUTPUT][-1:-1] = GLOBAL_FLAGS.items()
        for name, rows in self.listed(ctx).items():
            _section(formatter, name, rows)
        for name in sorted(found, key=panels.ORDER.index):
            _section(formatter, name, found[name])
        if self.examples:
            formatter.write(f"\n{_title(panels.EXAMPLES)}\n{indent(self.examples, MARGIN)}\n")

    def listed(self, ctx) -> dict[str, list[tuple[str, str]]]:
        """Commands by group, each with its summary."""
        return {}


class Command(Page, TyperCommand):
    pass


class Group(Page, TyperGroup):
    global_flags = False

    def listed(self, ctx) -> dict[str, list[tuple[str, str]]]:
        found = defaultdict(list)
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            does = (command.help or "").partition("\n\n")[0]
            found[command.rich_help_panel or panels.COMMANDS].append((name, does))
        return found


def _section(formatter, name: str, rows: list[tuple[str, str]]) -> None:
    """A title, and a table of two columns."""
    column = min(max(len(first) for first, _ in rows), WIDEST) + GAP + len(MARGIN)
    formatter.write(f"\n{_title(name)}\n")
    for first, second in rows:
        begin = MARGIN + first
        if len(begin) + GAP > column:
            formatter.write(begin + "\n")
            begin = ""
        formatter.write(_filled(second, formatter.width, begin.ljust(column), " " * column) + "\n")


def _filled(text: str, width: int, first: str, others: str) -> str:
    """Wrap text into lines without breaking words such as `--target-latency`."""
    how = {"break_on_hyphens": False, "break_long_words": False}
    return "\n".join(wrap(text, width, initial_indent=first, subsequent_indent=others, **how)) or first.rstrip()


def _title(name: str) -> str:
    return f"{name}:" if "NO_COLOR" in os.environ else typer.style(f"{name}:", bold=True)
