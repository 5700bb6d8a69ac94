"""The command that compares runs."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, options


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
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Group runs that differ only in the seed into one row: mean and spread.")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Sort by it. Default: fid, else frechet_..., else ssim_teacher."),
    ] = None,
    count_as: Annotated[str, typer.Option(help="Which MACs: true, paper or paper_norm.")] = "true",
    no_latency: Annotated[bool, typer.Option("--no-latency", help="Do not measure latency.")] = False,
    threads: options.Threads = None,
    csv: Annotated[Path | None, typer.Option(readable=False, help="Write the table to this .csv file.")] = None,
    png: Annotated[
        Path | None, typer.Option(readable=False, help="Draw quality against MACs and latency into this .png file.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(readable=False, help="Test images for all. Default: the runs' own.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part of a data set. Default: test, testA.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What the data are: data.kind=paired.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only these metrics. May be repeated.")] = None,
    real: Annotated[
        Path | None, typer.Option(readable=False, help="Real images, or .npz statistics, for FID and KID.")
    ] = None,
    segmenter: Annotated[Path | None, typer.Option(readable=False, help="For mIoU, as in eval.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=10**7, help="Images that models of latent vectors draw. Default: 10000.")
    ] = None,
    inception: options.Inception = None,
    features: Annotated[str | None, typer.Option(help="A second feature network: squeezenet1_1[_caffe].")] = None,
    features_weights: Annotated[Path | None, typer.Option(readable=False, help="Its weights.")] = None,
    size: options.Measured = None,
    batch: options.Images = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compare runs in one table: cost beside quality.

    A run's stored evaluation is reused while its student is unchanged; other runs are evaluated now. Evaluation options
    apply to all runs. Runs that were evaluated on different images, sizes or features are refused.
    Latency is measured by alternating between the networks. The Pareto front is marked: runs that no other run beats in
    both cost and quality.
    """
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
            data=data,
            split=split,
            overrides=set_ or (),
            segmenter=segmenter,
            metrics=metric,
            real=real,
            samples=samples,
            inception=inception,
            features=features,
            features_weights=features_weights,
            size=size,
            batch=batch,
            device=device,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.compared)
