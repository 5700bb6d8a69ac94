"""The command line: parse, call, render. Heavy imports wait for the command, so that --help answers at once."""

import os
import signal
import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from vemcompress.cli import bench, compare, demo, measure, publish, report, train, use
from vemcompress.cli.help import GLOBAL_FLAGS, Command, Group
from vemcompress.system import launch
from vemcompress.system.interrupts import heeded

__all__ = ["app", "main"]

HELP = """Compress pretrained GAN generators: distil a small student (with VEM), measure it, export it for a device.

Each command lists its options and examples: vemcompress COMMAND --help.

Examples:

    vemcompress quickstart
    vemcompress distill --teacher latest_net_G.pth --data photos/ --out runs/h2z
    vemcompress eval runs/h2z --data test_photos/
    vemcompress export runs/h2z --onnx student.onnx
"""
RECIPES_HELP = """List and show recipes, and the methods that they name.

Examples:

    vemcompress recipes list
    vemcompress recipes show omgd --explain
"""

app = typer.Typer(
    name="vemcompress",
    cls=Group,
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
recipes_app = typer.Typer(cls=Group, help=RECIPES_HELP, rich_markup_mode=None, no_args_is_help=True)

GROUPS = {
    "Start": {"quickstart": train.quickstart, "init": train.init, "inspect": measure.inspect},
    "Train": {"distill": train.distill, "teach": train.teach, "prune": use.prune, "search": use.search},
    "Measure": {
        "eval": measure.evaluate,
        "compare": compare.compare,
        "report": report.report,
        "stats": measure.stats,
        "bench": bench.bench,
        "bench-step": bench.bench_step,
    },
    "Use": {"export": use.export, "generate": use.generate, "demo": demo.demo, "push": publish.push},
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
for group, commands in GROUPS.items():
    for name, command in commands.items():
        app.command(name, cls=Command, rich_help_panel=group)(command)
    if group == "Start":
        app.add_typer(recipes_app, name="recipes", rich_help_panel=group)
recipes_app.command("list", cls=Command)(measure.recipes_list)
recipes_app.command("methods", cls=Command)(measure.recipes_methods)
recipes_app.command("show", cls=Command)(measure.recipes_show)


SPREAD = ("distill", "teach", "search", "eval")  # commands that use the processes of torchrun


def _version(wanted: bool) -> None:
    """An eager option, so that --version works without a command."""
    if wanted:
        from vemcompress import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help=GLOBAL_FLAGS["--debug"])] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help=GLOBAL_FLAGS["--quiet"])] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand not in SPREAD and launch.processes() > 1:
        from vemcompress.errors import UsageError

        raise UsageError(f"torchrun is only for {', '.join(SPREAD)}; start {context.invoked_subcommand} without it.")


def _leave(number: int, frame) -> None:
    """Handle a signal outside training (training saves first): print a message and exit at once, even during an import.

    With several ranks, only the first one prints it.
    """
    if launch.number():
        os._exit(130)
    with suppress(OSError):  # after SIGHUP the terminal is gone
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
        os.write(2, f"{cursor}interrupted.\n".encode())
    os._exit(130)


def _print_notes(flags: list[str]) -> None:
    """Print the library's log on stderr: notes, and with --debug also details."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    logger = logging.getLogger("vemcompress")
    logger.handlers = [handler]
    logger.setLevel("DEBUG" if "--debug" in flags else "ERROR" if "--quiet" in flags else "WARNING")


def _open_closed_streams() -> None:
    """Replace streams that the shell has closed (`>&-`) by /dev/null. Otherwise the next file that is opened would get
    the stream's number, and the printed text."""
    for name in ("stdin", "stdout", "stderr"):  # in order: open() uses the lowest free number
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def main() -> None:
    """Entry point: turns an expected failure into one sentence and its exit code."""
    _open_closed_streams()
    for number in heeded():
        signal.signal(number, _leave)
    flags = [flag for flag in GLOBAL_FLAGS if flag in sys.argv]
    arguments = flags + [a for a in sys.argv[1:] if a not in GLOBAL_FLAGS]  # global flags may be anywhere
    _print_notes(flags)
    try:
        app(arguments, prog_name="vemcompress")
    except SystemExit:
        raise
    except BaseException as error:
        if "--debug" in flags:
            raise
        from vemcompress.console import explain

        if launch.processes() == 1:
            raise SystemExit(explain(error)) from None
        # torchrun stops the other processes as soon as one exits. Ignoring SIGTERM lets each print its own error first;
        # os._exit does not wait for threads or for connections to processes that are gone.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = explain(error)
        if launch.number() and getattr(error, "shared", False):
            time.sleep(1)  # until the first rank has printed it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
