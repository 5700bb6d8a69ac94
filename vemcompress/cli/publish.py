"""The command that publishes a model: push."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, options, panels


def push(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder, or a .safetensors file made by vemcompress.",
            autocompletion=completion.models,
        ),
    ],
    repo: Annotated[str | None, typer.Argument(metavar="USER/REPO", help="The repository on the Hub.")] = None,
    private: Annotated[bool, panels.main("--private", help="Make a new repository private.")] = False,
    yes: Annotated[bool, panels.main("--yes", "-y", help="Upload without asking.")] = False,
    best: Annotated[
        bool, panels.upload("--best", help="Upload the run's best checkpoint instead of the last.")
    ] = False,
    onnx: Annotated[
        bool, panels.upload("--onnx/--no-onnx", help="Include an ONNX file, compared with PyTorch.")
    ] = True,
    picture: Annotated[
        bool,
        panels.upload("--picture/--no-picture", help="Include the newest sample picture, which shows your data."),
    ] = True,
    licence: Annotated[
        str | None,
        panels.upload(metavar="NAME", help="The model's licence, such as mit. Default: the teacher's, if known."),
    ] = None,
    out: Annotated[
        Path | None,
        panels.main("--out", "-o", readable=False, metavar="DIR", help="Write the files to this folder instead."),
    ] = None,
    dry_run: Annotated[bool, panels.main("--dry-run", help="List the files; upload and write nothing.")] = False,
    teacher_class: options.TeacherClass = None,
    json: options.Json = False,
) -> None:
    """Publish a model on the Hugging Face Hub.

    Uploads the weights, an ONNX file, the recipe, a picture and a model card in one commit. You are shown what will be
    uploaded and asked first. No file contains folder names of this machine. The token is read from `hf auth login` or
    HF_TOKEN.

    Examples:

        vemcompress push runs/h2z user/repo --dry-run
        vemcompress push runs/h2z user/repo --private --licence mit
        vemcompress push runs/h2z --out card/
    """
    from vemcompress.errors import UsageError

    sent = repo is not None and out is None and not dry_run
    asked = sent and not yes
    if asked and not _on_terminal():
        raise UsageError("nothing is uploaded without your consent, and there is no terminal to ask on; add --yes.")
    console = options.open_console()
    if asked and console.quiet:
        raise UsageError("--quiet hides what will be uploaded; add --yes, or omit --quiet.")
    with console.talking() as on_event:
        from vemcompress.commands.push import push as run

        result = run(
            model,
            repo,
            private=private,
            best=best,
            onnx=onnx,
            picture=picture,
            licence=licence,
            out=out,
            dry_run=dry_run,
            teacher_class=teacher_class,
            confirm=(lambda about: typer.confirm("Upload these files?", err=True)) if asked else None,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.pushed)


def _on_terminal() -> bool:
    """Whether there is a terminal to show the files on and ask for consent."""
    return sys.stdin.isatty() and sys.stderr.isatty()
