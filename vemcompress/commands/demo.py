"""`demo`: write a folder with a web page that runs a model in the browser. Any static web server can serve it."""

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vemcompress.commands.progress import shows_progress
from vemcompress.errors import InputError, UsageError
from vemcompress.export.browser.facts import for_browsers, page_facts, told
from vemcompress.export.browser.runtime import Runtime, fetched_runtime, given_runtime
from vemcompress.export.browser.site import GRAPH, check_place, write_site
from vemcompress.export.exporting import export_onnx, origin
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.system.events import Event, silent
from vemcompress.system.files import read_bytes
from vemcompress.system.names import shown
from vemcompress.weights.graphs.foreign import LIMIT
from vemcompress.weights.graphs.pixels import COLOURS
from vemcompress.weights.loading import Loaded, Reading, opened

MOST_TITLE = 200  # characters


@dataclass(frozen=True)
class DemoResult:
    """What was written to the folder `path`: the size in bytes of each file (`files`) and of all files (`bytes`).
    `model` is the content of model.json."""

    path: Path
    files: dict[str, int]
    bytes: int
    onnxruntime_web: str
    model: dict[str, Any]

    def as_dict(self) -> dict:
        """For --json."""
        return asdict(self) | {"path": str(self.path)}


@shows_progress
def demo(
    model: str | os.PathLike,
    out: str | os.PathLike = "demo",
    *,
    title: str | None = None,
    onnxruntime_web: str | os.PathLike | None = None,
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: str | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> DemoResult:
    """Write a folder with a web page that runs a model in the visitor's browser.

        vemcompress.demo("runs/small", "demo/", title="Horses to zebras")

    The input is a photo, the camera, or a latent vector. The page needs no other server: ONNX Runtime Web is in
    the folder.

    Arguments:
        model: a run folder, a weight file, "hf://..." or an .onnx file that `export_onnx` wrote.
        out: the folder; an older demo in it is replaced.
        title: the page's title, up to 200 characters; by default the model's name.
        onnxruntime_web: the npm package onnxruntime-web, a folder or .tgz. None downloads it once with npm, and
            checks it.
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read the model, as for
            `load_generator`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        DemoResult: `path`, `files` (bytes by name), `bytes`, `model` (what model.json says).

    Raises:
        UsageError if `out` holds other files, InputError, ExportError, NetworkError, OutputError.
    """
    folder, source = Path(out), str(model)
    if title is not None and not 0 < len(title) <= MOST_TITLE:
        raise UsageError(f"title: give one of 1 to {MOST_TITLE} characters.")
    check_place(folder)
    of_weights: Reading = {"teacher_class": teacher_class, "teacher_key": teacher_key, "widths": widths}
    of_weights |= {"teacher_padding": teacher_padding, "teacher_range": teacher_range}
    if source.lower().endswith(".onnx") and "://" not in source:
        if any(value is not None for value in of_weights.values()):
            raise UsageError(f"{source}: is an .onnx file; omit the options that apply only to weight files.")
        facts, data = page_facts(Path(source)), read_bytes(source, LIMIT)
        runtime = _runtime(onnxruntime_web, on_event)
    else:
        loaded = opened(source, on_event, **of_weights)
        _check_photos(source, loaded.generator)
        runtime = _runtime(onnxruntime_web, on_event)
        facts, data = _exported(loaded, on_event)
    data = for_browsers(data)
    facts = told(facts | {"file": GRAPH, "bytes": len(data)}, title or _title(source))
    written = write_site(folder, facts, data, runtime)
    return DemoResult(folder, written, sum(written.values()), runtime.version, facts)


def _runtime(given: str | os.PathLike | None, on_event: Event) -> Runtime:
    return fetched_runtime(on_event) if given is None else given_runtime(Path(given))


def _check_photos(source: str, generator: Generator) -> None:
    takes = generator.takes
    if takes.kind == "image" and takes.channels not in COLOURS:
        raise InputError(
            f"{source}: its input has {takes.channels} channels, so it is not a photo, and the page cannot show it; "
            "export the model with `vemcompress export` instead."
        )


def _exported(loaded: Loaded, on_event: Event) -> tuple[dict[str, Any], bytes]:
    """The facts of a loaded model's ONNX graph, and the graph as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path, uint8 = Path(folder) / GRAPH, _is_bytes(loaded.generator)
        export_onnx(loaded.generator, path, uint8=uint8, metadata=origin(loaded), on_event=on_event)
        facts, data = page_facts(path), read_bytes(path, LIMIT)
    return facts | {"parameters": count_parameters(loaded.generator) or facts["parameters"]}, data


def _is_bytes(generator: Generator) -> bool:
    """Whether the page uses the uint8 graph, which converts the pixels itself.

    Measured p50 per image, uint8 and float32: 61 and 67 ms (mobile ResNet of width 12), 100 and 118 ms (mobile ResNet
    of width 16), 36 and 36 ms (U-Net of width 16). That is ONNX Runtime Web 1.30.0 in headless Chromium 150 on one
    thread at 256 px, 14 images each in random order, on a shared 2-core AMD EPYC.

    A network with one fixed size has no uint8 graph. Class scores lose too much in 8 bits. Both use float32.
    """
    if generator.takes.kind == "latent":
        return True
    return getattr(generator.takes, "only", None) is None and generator.out_channels in COLOURS


def _title(source: str) -> str:
    """The default title: the name of the run folder, of the file without its ending, or of the repository."""
    if "://" in source:
        return "/".join(source.split("://", 1)[1].split("@")[0].split("/")[:2])
    path = Path(source).absolute()
    return shown(path.name if path.is_dir() else path.stem)[:MOST_TITLE]
