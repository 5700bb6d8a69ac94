"""The command that shows a model in a browser: demo."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import options


def demo(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A run folder, .safetensors, .pth, hf://... or our .onnx.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The folder for the web page.")] = Path(
        "demo"
    ),
    title: Annotated[str | None, typer.Option(help="The page's heading. Default: the model's name.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the folder on this machine until Ctrl-C; MODEL is optional.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for --serve. Default: 8000; 0 picks a free one.")
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            "--onnxruntime-web",
            readable=False,
            metavar="FOLDER|TGZ",
            help="The npm package onnxruntime-web, instead of the download by npm.",
        ),
    ] = None,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    json: options.Json = False,
) -> None:
    """Write a web page that runs the model in a browser.

    A folder for any static web server: photos, the camera, or seeds of latent vectors, computed on the visitor's
    device. The page loads nothing from elsewhere and sends nothing. ONNX Runtime Web is fetched once by npm. --serve
    sends the headers that let the page use threads.
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
                teacher_class=teacher_class,
                teacher_key=teacher_key,
                teacher_padding=teacher_padding,
                teacher_range=teacher_range,
                widths=widths,
                on_event=on_event,
            )
        console.result(result.as_dict(), json, console.demoed)
    if serve:
        with console.talking() as on_event:
            from vemcompress.export.browser.serve import serve_demo

            serve_demo(out, 8000 if port is None else port, on_event)
