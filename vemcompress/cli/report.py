"""The command that writes a run as an HTML page: report."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, options, panels


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            readable=False,
            help="A run folder, or a folder of stages, seeds or a matrix.",
            autocompletion=completion.runs,
        ),
    ],
    out: Annotated[
        Path | None,
        panels.main(
            "--out", "-o", readable=False, metavar="FILE", help="The .html file to write. Default: RUN/report.html."
        ),
    ] = None,
    tensorboard: options.Tensorboard = False,
    json: options.Json = False,
) -> None:
    """Write a run as one HTML file.

    It shows the teacher and the student, scores, curves, samples, the time of a step and the recipe. It opens in any
    browser and loads nothing from elsewhere. distill and teach write it at the end; eval and bench
    update it.

    Examples:

        vemcompress report runs/h2z
        vemcompress report runs/h2z -o h2z.html
    """
    console = options.open_console()
    with console.talking():
        from vemcompress.commands.report import report as run_report

        result = run_report(run, out, tensorboard)
    console.result(result.as_dict(), json, console.reported)
