"""Images from a model: of photos, or of latent vectors. An .onnx file needs ONNX Runtime alone, and no torch."""

import os
from pathlib import Path

from vemcompress.commands.generate_latents import Drawing, draw_images
from vemcompress.commands.generate_photos import run_photos
from vemcompress.commands.pictures import GenerateResult
from vemcompress.errors import UsageError
from vemcompress.export.sides import own_sides
from vemcompress.export.tiles import Tiled
from vemcompress.system.events import Event, silent
from vemcompress.weights.graphs.session import open_onnx
from vemcompress.weights.ranges import Ranges
from vemcompress.weights.trust import named

__all__ = ["GenerateResult", "generate"]

DRAWN_AT_ONCE = 16  # images from latent vectors


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
) -> GenerateResult:
    """Run a photo, or every photo of a folder, through a model, and write PNG files of the photos' sizes, or of so many
    times these as it enlarges; or draw images from latent vectors.

    `output` is a folder (created), or for one picture a .png file. `size` resizes photos first: a number is the shorter
    side, a pair height and width, in pixels. Photos of equal size that follow each other run together, up to `batch`
    (1). With `tile` photos go through in squares of so many pixels, each with `overlap` (32) more on every side, which
    are cut off again, so that a large photo needs no more memory than a tile. A model of one fixed size gets photos
    resized to it, and its pictures are resized back. A run that learnt to draw from label maps is given label maps; a
    network of the user's own class needs `teacher_class`, and `teacher_key` is the name of the generator in a file that
    has several; `widths` gives a supernet's sub-network, `teacher_padding` the padding that a file cannot tell
    ("reflect", "replicate", "zero"), and `teacher_range` ("0..255", "0..1", "-1..1") the range of the images that your
    own network, or an .onnx file which does not say it, takes and gives. `recursive`: photos in sub-folders too, whose
    pictures go into equal ones. Unreadable photos are skipped and named in the result. No input file is overwritten.

    A generator from latent vectors has no `input`. It draws `samples` (64) images of a `seed` (0), of which each is the
    same however many are drawn, `batch` (16) at a time; `latent` gives the vectors instead: a .npy file of floats, N x
    size. `grid` puts all into one picture. `truncation` scales the vectors: below 1 the images vary less. `interpolate`
    draws a row of so many images from the seed's first vector to that of `seed_to` (the next seed).

    A StyleGAN2 has w between vectors and images. There `truncation` is the share of the way from the mean of w (that of
    4,096 vectors, unless the file has one) to w; `w` gives it: a .npy file, N x style or N x layers x style; `noise`
    is the one that is stored ("fixed"), or "random", of the seed and other for each image. Its .onnx file takes
    `truncation`.

    Raises InputError (4: model, photos or vectors unreadable, none left), UsageError (2), OutputError (9),
    MemoryExhausted (6: a photo that memory cannot hold is not begun).
    """
    _check_numbers(batch, size)
    _check_tiles(tile, overlap)
    if output is None:
        raise UsageError("no output: give a folder for the pictures.")
    files = [None if path is None else Path(path) for path in (latent, w)]
    drawing = Drawing(samples, seed, grid, truncation, interpolate, seed_to, *files, noise)
    drawing.check()
    if str(model_path).lower().endswith(".onnx"):
        of_weights = {"class": teacher_class, "key": teacher_key, "padding": teacher_padding}
        if told := next((name for name, value in of_weights.items() if value is not None), None):
            raise UsageError(f"{model_path}: is an .onnx file, and --teacher-{told} applies only to weights; omit it.")
        ranges = None if teacher_range is None else Ranges.parse(teacher_range)
        model = open_onnx(model_path, device=device, latents=True, ranges=ranges)
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
