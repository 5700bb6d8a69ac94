"""The command that shows a model in a browser: demo."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, groups, options, panels
from vemcompress.cli.groups import grouped


@grouped
def demo(
    model_file: groups.ModelFile,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help=options.OR_ONNX, autocompletion=completion.models),
    ] = None,
    out: Annotated[
        Path, panels.main("--out", "-o", readable=False, metavar="DIR", help="The folder for the web page.")
    ] = Path("demo"),
    title: Annotated[
        str | None, panels.page(metavar="TEXT", help="The page's heading. Default: the model's name.")
    ] = None,
    serve: Annotated[
        bool, panels.main("--serve", help="Serve the folder on this machine until Ctrl-C; MODEL is optional.")
    ] = False,
    port: Annotated[
        int | None,
        panels.main(min=0, max=65535, metavar="N", help="Port for --serve. Default: 8000; 0 picks a free one."),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        panels.page(
            "--onnxruntime-web",
            readable=False,
            metavar="FOLDER|TGZ",
            help="The npm package onnxruntime-web, instead of the download by npm.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write a web page that runs the model in a browser.

    A folder for any static web server: photos, the camera, or seeds of latent vectors, computed on the visitor's
    device. The page loads nothing from elsewhere and sends nothing. npm downloads ONNX Runtime Web once. --serve
    sends the headers that let the page use threads.

    Examples:

        vemcompress demo runs/h2z -o demo/ --title "Horse to zebra"
        vemcompress demo runs/h2z -o demo/ --serve
        vemcompress demo --serve -o demo/ --port 8080
    """
    from vemcompress.errors import UsageError

    if model is None and not serve:
        raise UsageError("no model: give one, or --serve to serve an existing demo.")
    if port is not None and not serve:
        raise UsageError("--port applies only to --serve; omit it.")
    console = options.open_console()
    if model is not None:
        with console.talking() as on_event:
            from vemcompress.commands.demo import demo as run

            result = run(
                model,
                out,
                title=title,
                onnxruntime_web=onnxruntime_web,
                on_event=on_event,
                **vars(model_file),
            )
        console.result(result.as_dict(), json, console.demoed)
    if serve:
        with console.talking() as on_event:
            from vemcompress.export.browser.serve import serve_demo

            serve_demo(out, 8000 if port is None else port, on_event)
