"""The command that compares runs."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, groups, options, panels
from vemcompress.cli.groups import grouped


@grouped
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            readable=False,
            help="Run folders, also of pipelines, --seeds and --matrix.",
            autocompletion=completion.runs,
        ),
    ],
    scoring: groups.Scoring,
    seeds: Annotated[
        bool, panels.main("--seeds", help="Group runs that differ only in the seed into one row: mean and spread.")
    ] = False,
    by: Annotated[
        str | None,
        panels.main(metavar="METRIC", help="Sort by this metric. Default: fid, else frechet_..., else ssim_teacher."),
    ] = None,
    csv: Annotated[
        Path | None, panels.output(readable=False, metavar="FILE", help="Write the table to this .csv file.")
    ] = None,
    png: Annotated[
        Path | None,
        panels.output(readable=False, metavar="FILE", help="Plot quality against MACs and latency in this .png file."),
    ] = None,
    count_as: Annotated[str, panels.main(metavar="NAME", help="Which MACs: true, paper or paper_norm.")] = "true",
    no_latency: Annotated[bool, panels.main("--no-latency", help="Do not measure latency.")] = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compare runs in one table: cost beside quality.

    A run's stored evaluation is reused while its student is unchanged; other runs are evaluated now. Evaluation options
    apply to all runs. Runs that were evaluated on different images, sizes or features are refused.
    Latency is measured by alternating between the networks. The Pareto front is marked: runs that no other run beats in
    both cost and quality.

    Examples:

        vemcompress compare runs/a runs/b --data photos/
        vemcompress compare runs/tables --seeds --png tables.png
        vemcompress compare runs/a runs/b --real photos/testB --by fid --csv all.csv
    """
    arguments = scoring.arguments()
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.compare import compare as run

        result = run(
            runs,
            seeds=seeds,
            by=by,
            count_as=count_as,
            latency=not no_latency,
            threads=threads,
            csv=csv,
            png=png,
            device=device,
            on_event=on_event,
            **arguments,
        )
    console.result(result.as_dict(), json, console.compared)
