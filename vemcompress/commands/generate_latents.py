"""`generate` from latent vectors: single files, a grid, or an interpolation between two seeds."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from vemcompress.commands.pictures import GenerateResult, check_writable, is_file_name
from vemcompress.data import latents
from vemcompress.data.images import save_png
from vemcompress.data.vectors import MOST, read_vectors
from vemcompress.errors import MemoryExhausted, UsageError
from vemcompress.export.memory import check_batch
from vemcompress.system.events import Event

SAMPLES = 64
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Drawing:
    """The options of `generate` for latent vectors. None or False means that an option was not given."""

    samples: int | None = None
    seed: int | None = None
    grid: bool = False
    truncation: float | None = None
    interpolate: int | None = None
    seed_to: int | None = None
    latent: Path | None = None
    w: Path | None = None
    noise: str | None = None

    def given(self) -> list[str]:
        """The options that were given, as on the command line."""
        said = [field.name for field in fields(self) if self._said(field.name)]
        return [f"--{name.replace('_', '-')}" for name in said]

    def check(self) -> None:
        """Raises UsageError (2) for invalid numbers, and for options that exclude each other."""
        _check_number("samples", self.samples, 1, MOST)
        _check_number("interpolate", self.interpolate, 2, MOST)
        _check_number("seed", self.seed, 0, LARGEST_SEED)
        _check_number("seed-to", self.seed_to, 0, LARGEST_SEED)
        if self.truncation is not None and not 0 <= self.truncation < math.inf:
            raise UsageError(f"truncation {self.truncation}: give a number of at least 0; 1 changes nothing.")
        if self.noise not in (None, "fixed", "random"):
            raise UsageError(f"noise '{self.noise}': is not known; choose fixed or random.")
        read = "samples", "interpolate", "seed_to", *(() if self.noise == "random" else ("seed",))
        excluded = {"interpolate": ("samples", "grid"), "latent": (*read, "w"), "w": read}
        for name, others in excluded.items():
            if self._said(name) and (other := next(filter(self._said, others), None)):
                raise UsageError(f"--{name} excludes --{other.replace('_', '-')}; give one of them.")
        if self.seed_to is not None and self.interpolate is None:
            raise UsageError("--seed-to is the end of an interpolation; give --interpolate N with it.")

    def _said(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value is not False

    @property
    def whole(self) -> bool:
        """Whether all images go into one picture."""
        return self.grid or self.interpolate is not None

    @property
    def seeds(self) -> tuple[int, int]:
        first = self.seed or 0
        return first, first + 1 if self.seed_to is None else self.seed_to

    @property
    def name(self) -> str:
        """The first part of the output files' names."""
        return self.file.stem if self.file is not None else f"seed{self.seeds[0]}"

    @property
    def file(self) -> Path | None:
        """The file of the given vectors."""
        return self.latent or self.w

    def check_styles(self, name: str, model) -> None:
        """Raises UsageError (2) for options that need a StyleGAN2, if the model is none."""
        wanted = {"w": self.w is not None, "noise random": self.noise == "random"}
        for option in (name for name, said in wanted.items() if said):
            if model.styled is None:
                raise UsageError(
                    f"{name}: has no input for --{option}; give the weight file of a StyleGAN2, not an .onnx file."
                )


def draw_images(model, output: Path, drawing: Drawing, batch: int, result: GenerateResult, tell: Event) -> None:
    """Generate images with an opened model, write them and record them in `result`. Raises as `generate`."""
    given = _read(drawing, model)
    total = drawing.interpolate or (len(given) if given is not None else drawing.samples or SAMPLES)
    batch = min(batch, total)
    targets = _targets(output, drawing, total)
    shape = _arranged(drawing, total)
    if drawing.whole:
        _check_pixels(total, shape, model.sides)
    check_batch(str(output), lambda n: model(np.zeros((n, model.size), np.float32)), batch, model.sides,
                on_cpu=model.on_cpu)  # fmt: skip
    kept: list[np.ndarray] = []
    try:
        truncation = 1.0 if drawing.truncation is None else drawing.truncation
        draw = model if drawing.w is None else model.of_styles
        for z, more in _vectors(model, drawing, given, total, batch):
            start = time.perf_counter()
            images = draw(z, truncation, **more)
            result.seconds += time.perf_counter() - start
            for image in images:
                if drawing.whole:
                    kept.append(image)
                else:
                    _write(targets[result.images], image, result)
                result.images += 1
                path = targets[0] if drawing.whole else targets[result.images - 1]
                tell({"event": "generated", "done": result.images, "total": total, "path": str(path)})
        if drawing.whole:
            _write(targets[0], _put_together(kept, shape), result)
    except MemoryError as error:
        raise MemoryExhausted(f"{output}: not enough memory; use a smaller --batch or fewer samples.") from error


def _read(drawing: Drawing, model) -> np.ndarray | None:
    if drawing.w is not None:
        return read_vectors(drawing.w, model.styled.style, model.styled.layers)
    return None if drawing.latent is None else read_vectors(drawing.latent, model.size)


def _vectors(
    model, drawing: Drawing, given: np.ndarray | None, total: int, batch: int
) -> Iterator[tuple[np.ndarray, dict]]:
    """All vectors, float32, at most `batch` at a time, with the noise if it is random."""
    first, last = drawing.seeds
    if drawing.interpolate is not None:
        ends = (latents.draw(model.prior, model.size, seed, [0])[0] for seed in (first, last))
        given = latents.between(*ends, total, model.prior)
    for start in range(0, total, batch):
        numbers = range(start, min(total, start + batch))
        z = latents.draw(model.prior, model.size, first, numbers) if given is None else given[start : numbers.stop]
        more = {}
        if drawing.noise == "random":  # one noise for a whole interpolation, so that only w changes
            of = numbers if drawing.interpolate is None else [0] * len(numbers)
            more["noise"] = latents.draw_noise(model.styled.noise, first, of)
        yield z, more


def _targets(output: Path, drawing: Drawing, total: int) -> list[Path]:
    """The files to write. Raises UsageError (2) and OutputError (9)."""
    count = 1 if drawing.whole else total
    if is_file_name(output):
        if count > 1:
            raise UsageError(f"{output}: is one file, but there are {count} images; give a folder, or --grid.")
        folder, targets = output.parent, [output]
    elif drawing.interpolate is not None:
        folder, targets = output, [output / f"{drawing.name}_to_seed{drawing.seeds[1]}.png"]
    elif drawing.grid:
        folder, targets = output, [output / f"{drawing.name}_grid.png"]
    else:
        folder, targets = output, [output / f"{drawing.name}_{n:06d}.png" for n in range(total)]
    if drawing.file is not None and any(target.resolve() == drawing.file.resolve() for target in targets):
        raise UsageError(f"{drawing.file}: holds the latent vectors and would be overwritten; give another --out.")
    check_writable(folder)
    return targets


def _arranged(drawing: Drawing, total: int) -> tuple[int, int]:
    """Rows and columns of a picture of all images: one row for an interpolation, else nearly a square."""
    columns = total if drawing.interpolate is not None else math.isqrt(total - 1) + 1
    return -(-total // columns), columns


def _check_pixels(total: int, shape: tuple[int, int], sides: tuple[int, int]) -> None:
    """Raises UsageError (2) for a picture that is too large for other programs to open."""
    pixels, most = shape[0] * shape[1] * sides[0] * sides[1], Image.MAX_IMAGE_PIXELS
    if most is not None and pixels > most:
        raise UsageError(
            f"{total} images in one picture: it would have {pixels:,} pixels, more than {most:,}; make fewer images, "
            "or omit --grid."
        )


def _put_together(images: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """One picture, H x W x C, with the images in rows and columns. Empty places are white."""
    rows, columns = shape
    height, width, channels = images[0].shape
    whole = np.full((rows, height, columns, width, channels), 255, np.uint8)
    for n, image in enumerate(images):
        whole[n // columns, :, n % columns] = image
    return whole.reshape(rows * height, columns * width, channels)


def _write(target: Path, image: np.ndarray, result: GenerateResult) -> None:
    save_png(target, image[:, :, 0] if image.shape[2] == 1 else image)
    result.written.append(target)


def _check_number(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"{name} {value}: give a whole number from {least} to {most}.")
