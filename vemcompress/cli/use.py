"""Commands that use a model: export, generate."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli.options import Json, Model, Size, TeacherClass, Weights, open_console, weights_only


def export(
    model: Weights,
    onnx: Annotated[Path, typer.Option(readable=False, help="The .onnx file to write.")],
    uint8: Annotated[bool, typer.Option("--uint8", help="uint8 N x H x W x C in and out, any size.")] = False,
    size: Size = None,
    opset: Annotated[int, typer.Option(help="ONNX opset, 18 to 23.")] = 18,
    tolerance: Annotated[float, typer.Option(help="Largest difference from PyTorch that is accepted.")] = 1e-4,
    teacher_class: TeacherClass = None,
    json: Json = False,
) -> None:
    """Export to ONNX, checked against PyTorch.

    The file is compared in ONNX Runtime at two batch sizes and two image sizes before it is written.
    """
    console = open_console()
    weights_only(model)
    with console.talking() as on_event:
        from vemcompress.export.onnx import export_onnx, origin
        from vemcompress.weights.loading import load

        loaded = load(model, class_path=teacher_class)
        result = export_onnx(
            loaded.generator,
            onnx,
            uint8=uint8,
            size=size,
            opset=opset,
            tolerance=tolerance,
            metadata=origin(loaded),
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.exported)


def generate(
    model: Model,
    input: Annotated[
        Path, typer.Option("--input", "-i", readable=False, help="A photo, or a folder of photos, of any size.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The folder for the pictures.")],
    size: Annotated[int | None, typer.Option(min=1, help="Resize the shorter side first.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos of equal size at a time.")] = 1,
    teacher_class: TeacherClass = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Run photos through a model.

    Photos of any size; an .onnx file needs no PyTorch.
    """
    console = open_console()
    with console.talking() as on_event:
        from vemcompress.commands.generate import generate as run

        options = {"size": size, "batch": batch, "device": device, "teacher_class": teacher_class}
        result = run(model, input, out, **options, on_event=on_event)
    console.result(result.as_dict(), json, console.generated)
