"""The command that removes channels: prune."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli.options import Json, TeacherClass, Weights, macs_of, open_console, weights_only


def prune(
    model: Weights,
    target_macs: Annotated[str, typer.Option(help="At most so many MACs: 2.6e9, 1.2G")],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .safetensors file to write.")],
    method: Annotated[str, typer.Option(help="l1, random or scale.")] = "l1",
    count_as: Annotated[str, typer.Option(help="Which MACs: true, paper or paper_norm.")] = "true",
    size: Annotated[int, typer.Option(min=1, help="Side of the image that MACs are counted for.")] = 256,
    least: Annotated[
        int | None, typer.Option(min=1, help="Keep so many channels of a layer (scale: 16), residual blocks aside.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of random.")] = 0,
    teacher_class: TeacherClass = None,
    json: Json = False,
) -> None:
    """Remove a generator's least important channels.

    The rest keep their weights. The file can be used as any other model, pruned again, and distilled from; its images
    are poor before it is trained again. Methods: l1 (the weights' L1 norm), random, scale (the norms' scales).
    """
    console = open_console()
    weights_only(model)
    target = macs_of(target_macs)
    with console.talking() as on_event:
        from vemcompress.commands.prune import prune as run

        result = run(
            model,
            target_macs=target,
            out=out,
            method=method,
            size=size,
            convention=count_as,
            seed=seed,
            least=least,
            teacher_class=teacher_class,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.pruned)
