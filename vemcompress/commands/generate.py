"""Images from a model: of photos, or of latent vectors. An .onnx file needs ONNX Runtime alone, and no torch."""

import os
from pathlib import Path

from vemcompress.commands.generate_latents import Drawing, draw_images
from vemcompress.commands.generate_photos import run_photos
from vemcompress.commands.pictures import GenerateResult
from vemcompress.commands.progress import shows_progress
from vemcompress.errors import UsageError
from vemcompress.export.latency import format_of, is_exported
from vemcompress.export.sides import own_sides
from vemcompress.export.tiles import Tiled
from vemcompress.system.events import Event, silent
from vemcompress.weights.graphs.session import open_onnx
from vemcompress.weights.ranges import Ranges
from vemcompress.weights.trust import named

__all__ = ["GenerateResult", "generate"]

DRAWN_AT_ONCE = 16  # images from latent vectors


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
    """Run photos through a model and write PNG files; or draw images from latent vectors.

        vemcompress.generate("student.onnx", "photos/", "pictures/")
        vemcompress.generate("stylegan2.pt", output="faces/", samples=16, truncation=0.7)

    A picture has its photo's size, or so many times it as the model enlarges. A model of one fixed size gets
    photos resized to it, and its pictures are resized back. No input file is overwritten.

    Arguments:
        model_path: a run folder, a weight file, "hf://..." or an .onnx file; also an .xml, .tflite, .param or
            .pte file that `export_model` wrote. A run that draws from label maps takes those.
        input: a photo or a folder of photos; None for a model that draws from latent vectors.
        output: a folder, which is made; for one picture also a .png file.
        samples: images to draw from latent vectors (64).
        seed: of the vectors (0). An image does not depend on how many are drawn.
        grid: put all images into one picture.
        truncation: scales the vectors; below 1 the images vary less. Of StyleGAN2, the share of the way from
            the mean of w (that of 4,096 vectors, unless the file has one) to w.
        interpolate: draw so many images between the first vector of `seed` and that of `seed_to` (the next
            seed).
        latent: a .npy file of vectors, floats N x size. w: of StyleGAN2's w, N x style or N x layers x style.
        noise: of StyleGAN2, "fixed" (as stored) or "random".
        batch: images at a time: 1 photo, 16 from latent vectors.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps"; exported files run on the CPU.
        size: resize photos first: the shorter side, or (height, width), pixels.
        tile: run large photos in squares of so many pixels, to save memory; each has `overlap` (32) more on
            every side.
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read the model, as for
            `load_generator`.
        recursive: also photos in sub-folders.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        GenerateResult: `written` (files), `skipped` (unreadable photos with reasons), `seconds` in the
        network, `images`.

    Raises:
        InputError where the model or all photos are unreadable, UsageError, OutputError, MemoryExhausted.
    """
    _check_numbers(batch, size)
    _check_tiles(tile, overlap)
    if output is None:
        raise UsageError("no output: give a folder for the pictures.")
    files = [None if path is None else Path(path) for path in (latent, w)]
    drawing = Drawing(samples, seed, grid, truncation, interpolate, seed_to, *files, noise)
    drawing.check()
    if is_exported(model_path):
        of_weights = {"class": teacher_class, "key": teacher_key, "padding": teacher_padding}
        model = _open_exported(Path(model_path), of_weights, teacher_range, device)
    else:
        from vemcompress.export.torch_model import open_torch  # torch takes seconds, and a device may not have it

        labels = _labels_of(Path(model_path))
        with named(teacher_class):
            about = {"class_path": teacher_class, "key": teacher_key, "widths": widths}
            about |= {"padding": teacher_padding, "range": teacher_range}
            model = open_torch(model_path, device=device, labels=labels, **about, on_event=on_event)
    _check_kind(str(model_path), model, input, drawing, size, recursive)
    if tile is not None and model.kind == "latent":
        raise UsageError(f"{model_path}: draws images from latent vectors, all of one size; leave out --tile.")
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
    """A file that was exported, or any .onnx file, for which the options `of_weights` are refused."""
    form = "" if path.suffix.lower() == ".onnx" else format_of(path)  # which imports torch
    of_weights |= {"range": range} if form else {}
    if told := next((name for name, value in of_weights.items() if value is not None), None):
        what = f"{'a' if form else 'an'} {path.suffix.lower()} file"
        raise UsageError(f"{path}: is {what}, and --teacher-{told} applies only to weights; omit it.")
    if form:
        if device not in ("auto", "cpu"):
            raise UsageError(f"{path}: exported files run on the CPU; omit --device {device}.")
        from vemcompress.export.file_model import open_file  # late: imports torch

        return open_file(path, form)
    return open_onnx(path, device=device, latents=True, ranges=None if range is None else Ranges.parse(range))


def _check_kind(name: str, model, input, drawing: Drawing, size, recursive: bool) -> None:
    """Raises UsageError (2) for what a model of this kind does not take."""
    if model.kind == "latent":
        if input is not None or recursive:
            raise UsageError(
                f"{name}: draws images from latent vectors and takes no photos; leave out "
                f"{'--input' if input is not None else '--recursive'}, and say how many with --samples."
            )
        own_sides(name, model.sides, size)
        drawing.check_styles(name, model)
    elif given := drawing.given():
        raise UsageError(
            f"{name}: takes photos and no latent vectors; leave out {', '.join(given)}, and give photos with --input."
        )
    elif input is None:
        raise UsageError(f"{name}: takes photos; give --input with a photo or a folder of photos.")


def _labels_of(run: Path):
    """How the label maps are read that a run's network draws from; None where it draws from photos, or is no run."""
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
    if size is not None and min(size if isinstance(size, tuple) else (size,)) < 1:
        raise UsageError(f"size {size}: give a number of pixels of at least 1.")
