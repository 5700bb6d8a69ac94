"""`inspect`: a description of a loaded generator, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any

from vemcompress.commands.progress import shows_progress
from vemcompress.errors import UsageError
from vemcompress.export.sides import both_sides, own_sides
from vemcompress.networks.base import Generator, Padding, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.system.events import Event, silent
from vemcompress.weights.loading import Loaded, opened
from vemcompress.weights.modules import Model


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a generator is. `config` is None for a network of the user's own class; `macs` are those of one image by
    convention ("true", "paper", "paper_norm").

    `input` is {"kind": "image" or "latent", "shape"}; `output`, {"shape"}, is None if it is the input's. `range` is the
    value range of the images, and None if the network has a Config. `taps` are the names of the layers whose feature
    maps algorithms can use. `assumed` and `notes` say what the file does not store, and `source`, `sha256` and `origin`
    where the weights came from. `key` names the generator in a file with several, and `others` lists the rest.
    """

    family: str
    config: dict[str, Any] | None
    parameters: int
    macs: dict[str, int]
    input: dict[str, Any]
    taps: list[str]
    assumed: dict[str, str]
    notes: list[str]
    source: str
    sha256: str
    origin: str
    norm: str
    output: dict[str, Any] | None = None
    range: str | None = None
    key: str | None = None
    others: list[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For --json. Fields that do not apply are left out."""
        optional = ("output", "range", "key", "others")
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}


@shows_progress
def inspect(
    model: Model,
    *,
    size: int | tuple[int, int] | None = None,
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: Padding | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> Inspection:
    """Say what a model is: its family, parameters, MACs, input and layers.

        found = vemcompress.inspect("latest_net_G.pth")
        print(found.family, found.parameters, found.macs["true"])

    Arguments:
        model: a run folder, a weight file, "hf://...", an .onnx file or an nn.Module.
        size: side of the image at which MACs are counted, or (height, width), in pixels; by default
            256, or the model's fixed size.
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read the model, as for
            `load_generator`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        Inspection: `family`, `parameters`, `macs` (by convention), `input`, `taps`, `source`, `sha256`, ...

    Raises:
        InputError if the model cannot be read; UsageError for a size that it does not accept; RecipeError for
        arguments that do not fit it; NetworkError, MemoryExhausted.
    """
    how = {"teacher_class": teacher_class, "teacher_key": teacher_key, "teacher_padding": teacher_padding}
    loaded = opened(model, on_event, **how, teacher_range=teacher_range, widths=widths)
    height, width = (None, None) if size is None else both_sides(size)
    return Inspection(**describe(loaded, height, width))


def describe(loaded: Loaded, height: int | None = None, width: int | None = None) -> dict[str, Any]:
    """Family, config, parameters, MACs for one image of `height` x `width`, input and taps: `inspect --json`.

    Without a size, MACs are counted at 256 px, or at the fixed size of the generator if it has one. Without `width`,
    the image is square. Raises UsageError (2) for a size that the network does not accept, and InputError (4) if a
    class fails on it.
    """
    generator = loaded.generator
    if height is None:
        height = getattr(generator.takes, "only", None)
    height, width = sides_of(loaded, None if height is None else (height, height if width is None else width))
    check_size(loaded, height, width)
    takes = generator.takes
    is_image = takes.kind == "image"
    note = getattr(generator.config, "counting_note", "")
    return {
        "family": generator.family,
        "config": generator.config.model_dump(mode="json") if generator.config is not None else None,
        **counts(generator, height, width),
        "input": {"kind": takes.kind, "shape": [takes.channels, height, width] if is_image else [takes.size]},
        **_borders(generator, height, width),
        "taps": list(generator.taps),
        "assumed": loaded.assumed,
        "notes": [*([note] if note else []), *_assumptions(generator)],
        "source": loaded.source,
        "sha256": loaded.sha256,
        "origin": loaded.origin,
        "norm": loaded.norm,
        **({"key": loaded.key, "others": list(loaded.others)} if loaded.key else {}),
    }


def counts(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """Parameters, and MACs by convention, for one image of this size."""
    cost = cost_of(generator, height, width)
    return {"parameters": count_parameters(generator) or cost.parameters, "macs": cost.macs()}


def cost_of(generator: Generator, height: int, width: int) -> Cost:
    """The cost of one image of this size: parameters and MACs."""
    return (generator if generator.config is None else generator.config).cost(height, width)


def _assumptions(generator: Generator) -> list[str]:
    """Notes on properties that were assumed, for a network without a Config."""
    if generator.config is not None or generator.trusted:
        return []
    return [f"its images are assumed to be in {generator.ranges.shown}; give another range with --teacher-range."]


def _borders(generator: Generator, height: int, width: int) -> dict[str, Any]:
    """The output shape, if it differs from the input shape, as for latent vectors. For a network without a Config, the
    output shape and the value range that were found by running it."""
    known, takes = generator.config is not None, generator.takes
    if known and takes.kind == "image" and generator.times == 1:
        return {}
    sides = [takes.image] * 2 if takes.kind == "latent" else [takes.scale * height, takes.scale * width]
    found = {"output": {"shape": [generator.out_channels, *sides]}}
    return found if known else found | {"range": str(generator.ranges)}


def sides_of(loaded: Loaded, size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width at which MACs are counted: the given `size`, or a default. Raises UsageError (2) if the
    generator has a fixed size and `size` is another one."""
    takes = loaded.generator.takes
    own = takes.image if takes.kind == "latent" else takes.only
    return own_sides(loaded.source, own and (own, own), size, of_latents=takes.kind == "latent")


def check_size(loaded: Loaded, height: int, width: int) -> None:
    """Raises UsageError (2) for a size that the network does not accept, and InputError (4) if a class fails on it."""
    sides_of(loaded, (height, width))
    only = getattr(loaded.generator.takes, "only", None)
    if only is not None and (height, width) != (only, only):
        raise UsageError(f"{loaded.source}: needs images of {only} x {only} px, not {height} x {width}; omit the size.")
    multiple, least = loaded.generator.multiple, loaded.generator.min_size
    if min(height, width) < least or height % multiple or width % multiple:
        raise UsageError(
            f"{loaded.source}: does not accept {height} x {width} px; give a height and width that are multiples of "
            f"{multiple}, and at least {least}."
        )
    if loaded.generator.config is None:
        loaded.generator.check(height)
