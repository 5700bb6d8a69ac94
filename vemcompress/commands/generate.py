"""`generate`: make images with a model, from photos or from latent vectors. An .onnx file needs only ONNX Runtime, not
torch."""

import os
from pathlib import Path

from vemcompress.commands.generate_latents import Drawing, draw_images
from vemcompress.commands.generate_photos import run_photos
from vemcompress.commands.pictures import GenerateResult
from vemcompress.commands.progress import shows_progress
from vemcompress.errors import UsageError
from vemcompress.export.latency import format_of, is_exported
from vemcompress.export.sides import both_sides, own_sides
from vemcompress.export.tiles import Tiled
from vemcompress.system.events import Event, silent
from vemcompress.weights.graphs.session import open_onnx
from vemcompress.weights.ranges import Ranges
from vemcompress.weights.trust import named

__all__ = ["GenerateResult", "generate"]

DRAWN_AT_ONCE = 16  # images generated at a time from latent vectors


@shows_progress
def generate(
    model_path: str | os.PathLike,
    input: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    *,
    samples: int | None = None,
    seed: int | None = None,
    grid: bool = False,
    truncation: float | None = None,
    interpolate: int | None = None,
    seed_to: int | None = None,
    latent: str | os.PathLike | None = None,
    w: str | os.PathLike | None = None,
    noise: str | None = None,
    batch: int | None = None,
    device: str = "auto",
    size: int | tuple[int, int] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: str | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    recursive: bool = False,
    on_event: Event = silent,
    progress: bool = False,
) -> GenerateResult:
    """Run photos through a model, or generate images from latent vectors, and write PNG files.

        vemcompress.generate("student.onnx", "photos/", "pictures/")
        vemcompress.generate("stylegan2.pt", output="faces/", samples=16, truncation=0.7)

    An output image has the size of its photo, times the scale of a model for super-resolution. If the model has
    one fixed size, photos are resized to it and the results are resized back. No input file is overwritten.

    Arguments:
        model_path: a run folder, a weight file, "hf://..." or an .onnx file; also an .xml, .tflite, .param or
            .pte file written by `export_model`. If a run was trained on label maps, the input is label maps.
        input: a photo or a folder of photos; None for a model with latent vectors as input.
        output: a folder, which is created if needed; for one image also a .png file.
        samples: number of images to generate from latent vectors (64).
        seed: seed of the vectors (0). An image does not depend on how many are generated.
        grid: put all images into one picture.
        truncation: scales the vectors; below 1 the images vary less. For StyleGAN2, where w lies between its
            mean (0) and the original w (1). The mean is over 4,096 vectors, unless the file has one.
        interpolate: number of images to generate between the first vector of `seed` and that of `seed_to` (by
            default the next seed).
        latent: a .npy file of vectors, floats N x size.
        w: a .npy file of StyleGAN2's w, N x style or N x layers x style.
        noise: for StyleGAN2, "fixed" (as stored) or "random".
        batch: images at a time; by default 1 photo, or 16 images from latent vectors.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; exported files run on the CPU.
        size: resize photos first: the shorter side, or (height, width), in pixels.
        tile: side in pixels of the square tiles in which large photos are processed, to save memory.
        overlap: pixels that each tile extends over its neighbours on every side (32).
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read the model, as for
            `load_generator`.
        recursive: include photos in sub-folders.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        GenerateResult: `written` (files), `skipped` (unreadable photos with reasons), `seconds` (time in the
        network), `images` (their number).

    Raises:
        InputError if the model or all photos are unreadable, UsageError, OutputError, MemoryExhausted.
    """
    _check_numbers(batch, size)
    _check_tiles(tile, overlap)
    if output is None:
        raise UsageError("no output: give a folder for the images.")
    files = [None if path is None else Path(path) for path in (latent, w)]
    drawing = Drawing(samples, seed, grid, truncation, interpolate, seed_to, *files, noise)
    drawing.check()
    if is_exported(model_path):
        of_weights = {"class": teacher_class, "key": teacher_key, "padding": teacher_padding}
        model = _open_exported(Path(model_path), of_weights, teacher_range, device)
    else:
        from vemcompress.export.torch_model import open_torch  # late: importing torch is slow, and it may be absent

        labels = _labels_of(Path(model_path))
        with named(teacher_class):
            about = {"class_path": teacher_class, "key": teacher_key, "widths": widths}
            about |= {"padding": teacher_padding, "range": teacher_range}
            model = open_torch(model_path, device=device, labels=labels, **about, on_event=on_event)
    _check_kind(str(model_path), model, input, drawing, size, recursive)
    if tile is not None and model.kind == "latent":
        raise UsageError(f"{model_path}: makes images of one fixed size from latent vectors; omit --tile.")
    model = model if tile is None else Tiled(model, tile, overlap, on_event)
    result = GenerateResult(assumed=model.assumed)
    if model.assumed:
        on_event({"event": "assumed", "model": str(model_path), "assumed": model.assumed})
    if model.kind == "latent":
        draw_images(model, Path(output), drawing, batch or DRAWN_AT_ONCE, result, on_event)
        return result
    how = {"batch": batch or 1, "size": size, "recursive": recursive}
    run_photos(model, Path(input), Path(output), **how, result=result, tell=on_event)
    return result


def _open_exported(path: Path, of_weights: dict[str, str | None], range: str | None, device: str):
    """Open an exported file, or any .onnx file. The options `of_weights` are refused for it."""
    form = "" if path.suffix.lower() == ".onnx" else format_of(path)  # which imports torch
    of_weights |= {"range": range} if form else {}
    if told := next((name for name, value in of_weights.items() if value is not None), None):
        what = f"{'a' if form else 'an'} {path.suffix.lower()} file"
        raise UsageError(f"{path}: is {what}, and --teacher-{told} applies only to weight files; omit it.")
    if form:
        if device not in ("auto", "cpu"):
            raise UsageError(f"{path}: exported files run on the CPU; omit --device {device}.")
        from vemcompress.export.file_model import open_file  # late: imports torch

        return open_file(path, form)
    return open_onnx(path, device=device, latents=True, ranges=None if range is None else Ranges.parse(range))


def _check_kind(name: str, model, input, drawing: Drawing, size, recursive: bool) -> None:
    """Raises UsageError (2) for options that do not fit the kind of the model."""
    if model.kind == "latent":
        if input is not None or recursive:
            raise UsageError(
                f"{name}: makes images from latent vectors, not from photos; omit "
                f"{'--input' if input is not None else '--recursive'}, and give their number with --samples."
            )
        own_sides(name, model.sides, size)
        drawing.check_styles(name, model)
    elif given := drawing.given():
        raise UsageError(
            f"{name}: needs photos, not latent vectors; omit {', '.join(given)}, and give photos with --input."
        )
    elif input is None:
        raise UsageError(f"{name}: needs photos; give a photo or a folder of photos with --input.")


def _labels_of(run: Path):
    """How to read the label maps that are the input of a run's network; None if the input is photos or it is no run."""
    if not (run / "recipe.toml").is_file():
        return None
    from vemcompress.data.labels import label_maps
    from vemcompress.recipe import read

    data = read(run / "recipe.toml").data
    if data.kind != "labels" or data.direction != "BtoA":
        return None
    return label_maps(data.classes, data.void, data.label_input, data.ids or "index")


def _check_tiles(tile: int | None, overlap: int | None) -> None:
    if tile is None and overlap is not None:
        raise UsageError("--overlap needs tiles; give --tile with a tile's side, or omit it.")
    if tile is not None and (tile < 1 or (overlap or 0) < 0):
        raise UsageError(f"tile {tile}, overlap {overlap}: give at least 1 pixel, and an overlap of at least 0.")


def _check_numbers(batch: int | None, size: int | tuple[int, int] | None) -> None:
    if batch is not None and batch < 1:
        raise UsageError(f"batch {batch}: give a whole number of at least 1.")
    if size is not None:
        both_sides(size)
