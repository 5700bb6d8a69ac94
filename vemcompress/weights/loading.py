"""Loads a generator from any source: our artifact, published weights, a run folder, the Hub, the user's own class."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack, get_args

from torch import nn

from vemcompress.errors import InputError, RecipeError, UsageError
from vemcompress.networks.base import Generator, Padding, use_image_statistics, with_padding
from vemcompress.networks.groups import cut
from vemcompress.networks.subnets import SPACE, Space, sub_widths
from vemcompress.system import names
from vemcompress.system.devices import memory_errors
from vemcompress.system.events import Event
from vemcompress.system.files import MALFORMED, parse_json, sha256_file
from vemcompress.weights.artifact import class_wanted, is_own_class, narrow_as_saved, rebuild, saved_range
from vemcompress.weights.assumed import assumed
from vemcompress.weights.custom import CustomGenerator
from vemcompress.weights.custom_latents import own_generator
from vemcompress.weights.folder import made, never_picked
from vemcompress.weights.format import is_artifact
from vemcompress.weights.hub import SUFFIXES, fetch, is_hub
from vemcompress.weights.layouts import Layout
from vemcompress.weights.modules import Model, is_module, open_module, source_of
from vemcompress.weights.own_class import build_custom, fill_strictly
from vemcompress.weights.ranges import Ranges
from vemcompress.weights.recognise import recognise
from vemcompress.weights.safe import State, read_state
from vemcompress.weights.sniff import tensorflow
from vemcompress.weights.trust import named


class Reading(TypedDict, total=False):
    """How the file of a model is read, if the file does not say it; see `load`."""

    teacher_class: str | None
    teacher_key: str | None
    teacher_padding: Padding | None
    teacher_range: str | None
    widths: str | None


@dataclass(frozen=True)
class Loaded:
    """A generator in eval mode (float32, CPU) and its origin.

    `source` is what the caller gave; `path` is the file that was read, and `sha256` its hash. `revision` and `licence`
    are the Hub's, else empty. `origin` is "artifact", "published:<layout>", "class", "module" or "onnx"; `norm` is
    "eval" or "batch". In a file with several generators, `key` names this one, and `others` the rest. `is_supernet`:
    whether it is a whole supernet. `assumed` lists, by name, the assumptions about what a published file does not
    store.
    """

    generator: Generator
    source: str
    sha256: str
    origin: str
    revision: str = ""
    licence: str = ""
    norm: str = "eval"
    metadata: dict[str, str] = field(default_factory=dict)
    key: str = ""
    others: tuple[str, ...] = ()
    is_supernet: bool = False
    path: Path | None = None
    assumed: dict[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> str:
        """The source for recipes; a Hub source gets this revision, because the repository may change before a run is
        resumed.
        """
        source = names.stored(self.source)
        return f"{source}@{self.revision}" if self.revision and "@" not in source else source

    @property
    def range(self) -> str | None:
        """The range of its images for recipes; None for our own, [-1, 1]."""
        ranges = getattr(self.generator, "ranges", None)
        return None if ranges in (None, Ranges()) else str(ranges)

    @property
    def stated_range(self) -> dict[str, str]:
        """`range` under its name, if there is one."""
        return {} if self.range is None else {"range": self.range}

    @property
    def is_fresh(self) -> bool:
        """Whether it was pruned for its shape alone, and has new weights."""
        try:
            return parse_json(self.metadata["pruned"])["fresh"] is True
        except MALFORMED:
            return False

    def provenance(self) -> dict[str, str]:
        """What an artifact records about its teacher."""
        about = {"source": names.shown(self.source), "sha256": self.sha256}
        about |= {"revision": self.revision, "licence": self.licence}
        return about | ({"key": self.key} if self.key else {}) | self.stated_range

    def tell(self, on_event: Event) -> None:
        """Report which of several generators was loaded, what was assumed, and, for a class, warnings about its
        images.
        """
        if warning := getattr(self.generator, "warning", ""):
            on_event({"event": "warning", "message": warning})
        if assumed := getattr(self.generator, "assumed", ""):
            on_event({"event": "assumed", "model": self.source, "assumed": assumed})
        if self.is_supernet:
            told = (
                "a supernet, at its full width; --widths selects a sub-network, and `vemcompress search` finds the best"
            )
            on_event({"event": "assumed", "model": self.source, "assumed": told})
        if self.others:
            taken = f"{self.key} is used; the file also has {', '.join(self.others)} (--teacher-key)"
            on_event({"event": "assumed", "model": self.source, "assumed": taken})


def opened(model: Model, on_event: Event, **how: Unpack[Reading]) -> Loaded:
    """`load` a model that a user gave to a command, trust the class that the user named, and report what is assumed.
    Raises the classes of `errors`."""
    if model is None:
        raise UsageError("no model: give a file, a run folder, hf://user/repo, an nn.Module or a function.")
    about = {name.removeprefix("teacher_"): value for name, value in how.items()}
    class_path = about.pop("class", None)
    with named(class_path):
        loaded = load(source_of(model, "model"), class_path=class_path, **about)
        loaded.tell(on_event)
    return loaded


def load(
    source: str | Path,
    *,
    class_path: str | None = None,
    norm: str = "eval",
    key: str | None = None,
    widths: str | None = None,
    padding: Padding | None = None,
    range: str | None = None,
) -> Loaded:
    """Load a generator from a .safetensors, .pth, .pt or .onnx file, a run folder, or
    `hf://user/repo[/file][@revision]`.

    `class_path` ("module:Class") builds the user's own class instead of recognising a published layout. Its code must
    be trusted: inside `trust.named`, or because the user has trusted its files before. `norm` is "eval" for stored
    statistics, or "batch" if BatchNorm should normalise each image by itself, as Pix2Pix teachers were tested. `key` is
    the name of the generator in a file with several. `widths` selects a sub-network ("16_16_32_16_32_32_16_16"), the
    first channels of every layer, as in GAN-Compression's supernets.

    `padding` ("reflect", "replicate" or "zero") is that of the convolutions with reflection padding as published, if
    the file does not store it; None for the file's value or reflection. `range` is the range of images of the user's
    own class or of an .onnx file ("0..255", "0..1", "-1..1", or input and output as in "-1..1:0..255"); the returned
    generator itself always uses [-1, 1].

    Raises InputError (4), MemoryExhausted (6), NetworkError (8), UsageError (2) and RecipeError (3: no BatchNorm for
    "batch", a `padding` for a network with fixed padding, a range for a published layout).
    """
    if padding not in (None, *get_args(Padding)):
        raise RecipeError(f"teacher.padding {padding!r:.80}: must be one of {', '.join(get_args(Padding))}")
    if norm not in ("eval", "batch"):
        raise RecipeError(f"teacher.norm {norm!r}: must be 'eval' or 'batch'")
    name, ranges = names.found(source), None if range is None else Ranges.parse(range)
    if is_module(name):
        generator, digest = open_module(name, ranges)
        _check_range(generator, ranges, name)
        return Loaded(_normed(_padded(generator, name, padding), name, norm), name, digest, "module", norm=norm)
    path, revision, licence = Path(name), "", ""
    if is_hub(name):
        file = fetch(name)
        path, revision, licence = file.path, file.revision, file.licence
    else:
        path = weights_of(path)
    if path.suffix.lower() == ".onnx":
        if told := next((o for o, v in {"class": class_path, "key": key}.items() if v is not None), None):
            raise UsageError(f"{name}: is an .onnx file, and --teacher-{told} applies only to weights; omit it.")
        if widths is not None:
            raise UsageError(f"{name}: is an .onnx file, and --widths applies only to supernets; omit it.")
        from vemcompress.weights.graphs.teacher import open_graph  # imported late: few commands need ONNX Runtime

        generator, digest = open_graph(path, name, ranges)
        return Loaded(
            _normed(_padded(generator, name, padding), name, norm),
            name,
            digest,
            "onnx",
            revision,
            licence,
            norm,
            path=path,
        )
    with memory_errors(f"{name} needs more than is free; close other programs."):
        state = read_state(path, source=name, key=key)
        digest = sha256_file(path)
        generator, origin = _build(state, name, class_path, ranges)
        _check_range(generator, ranges, name)
        generator = _padded(generator, name, padding)
        if widths is not None:
            generator = _narrowed(generator, widths, state.metadata, name)
    about = state.metadata, state.key, state.others
    whole = SPACE in state.metadata and widths is None
    normed = _normed(generator, name, norm)
    told = {} if isinstance(origin, str) else assumed(origin, normed, norm=norm, padding=padding)
    origin = origin if isinstance(origin, str) else f"published:{origin.name}"
    more = {"is_supernet": whole, "path": path, "assumed": told}
    return Loaded(normed, name, digest, origin, revision, licence, norm, *about, **more)


def load_known(source: str | Path, sha256: str | None, what: str, *, class_path: str | None = None) -> Loaded:
    """As `load`, for the network `what` that a run began with. Raises InputError (4) if the file has another hash."""
    loaded = load(source, class_path=class_path)
    if sha256 not in (None, loaded.sha256):
        raise InputError(
            f"{source}: is not the {what} that this run began with (SHA-256 {loaded.sha256[:12]}, at that time "
            f"{sha256[:12]}); restore that file, or start a new run."
        )
    return loaded


def load_generator(
    source: str | Path,
    *,
    class_path: str | None = None,
    norm: str = "eval",
    key: str | None = None,
    widths: str | None = None,
    padding: Padding | None = None,
    range: str | None = None,
) -> nn.Module:
    """The generator of a file, a run folder or the Hub: an nn.Module in eval mode, float32, on the CPU.

        student = vemcompress.load_generator("runs/small")
        image = student(torch.rand(1, 3, 256, 256) * 2 - 1)

    It takes and gives images B x 3 x H x W in [-1, 1], RGB, whatever the file's own range is; one that draws
    from latent vectors takes B x size. Files are never unpickled.

    Arguments:
        source: a .safetensors, .pth, .pt or .onnx file, a run folder, or "hf://user/repo[/file][@revision]".
        class_path: "module:Class", your own class, for a file of no known layout. A class that is named here
            is trusted.
        norm: "eval" for stored statistics of BatchNorm, "batch" for those of each image, as Pix2Pix is often
            used.
        key: the generator's name in a file that has several, such as "netG_B".
        widths: a supernet's sub-network, "16_16_32_16_32_32_16_16".
        padding: "reflect", "replicate" or "zero", if the file does not state it; None is what the file
            says, or "reflect".
        range: the range of images of your own class or an .onnx file: "0..255", "0..1", "-1..1", or input and
            output, "-1..1:0..255".

    Returns:
        nn.Module: it also has `family`, `config` and `takes` (what its input is).

    Raises:
        InputError for a file that is unreadable, unsafe or not recognised, NetworkError, MemoryExhausted,
        UsageError, and RecipeError for a `norm`, `padding` or `range` that does not fit.
    """
    more = {"norm": norm, "key": key, "widths": widths, "padding": padding, "range": range}
    with named(class_path):
        return load(source, class_path=class_path, **more).generator


def _check_range(generator: Generator, ranges: Ranges | None, name: str) -> None:
    """Raises RecipeError."""
    if ranges is not None and not isinstance(generator, CustomGenerator):
        raise RecipeError(
            f"{name}: teacher.range (--teacher-range) applies only to your own classes and .onnx files, and this "
            f"network is of the family {generator.family}, whose range is known; omit it."
        )


def _narrowed(generator: Generator, widths: str, metadata: dict[str, str], source: str) -> Generator:
    """The sub-network of these widths. Raises UsageError if there is none, or if the supernet was not trained for
    it.
    """
    try:
        if generator.config is None:
            raise ValueError("a network of your own class has no sub-networks")
        if SPACE in metadata:
            space = Space.learned(generator.config, metadata[SPACE])
            return cut(generator, space.widths(space.parse(widths)))
        return cut(generator, sub_widths(generator.config, widths))
    except ValueError as error:
        raise UsageError(f"{source}: --widths: {error}.") from error


def _padded(generator: Generator, name: str, padding: Padding | None) -> Generator:
    """The generator with the requested padding. Raises RecipeError."""
    if padding is None:
        return generator
    try:
        return with_padding(generator, padding)
    except ValueError as error:
        raise RecipeError(
            f"{name}: teacher.padding = '{padding}' is for networks whose file does not store their padding, but that "
            f"of the family {generator.family} is known; omit it"
        ) from error


def _normed(generator: Generator, name: str, norm: str) -> Generator:
    """The generator with the requested statistics. Raises RecipeError."""
    if norm == "batch":
        if not any(isinstance(module, nn.BatchNorm2d) for module in generator.modules()):
            raise RecipeError(f"{name}: teacher.norm = 'batch' needs a teacher with BatchNorm: use 'eval'")
        use_image_statistics(generator)
    return generator


def _build(state: State, source: str, class_path: str | None, ranges: Ranges | None) -> tuple[Generator, str | Layout]:
    """The network and its origin; for a published one, its layout."""
    if class_path is not None:
        network = build_custom(class_path, source)
        if is_own_class(state.metadata):
            narrow_as_saved(network, state.metadata, source)
            ranges = ranges or saved_range(state.metadata, source)
        tensors, prefix = state.tensors, state.prefix
        wanted = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
        if state.whole is not None and not (wanted <= {*tensors} or wanted <= {prefix + name for name in tensors}):
            tensors, prefix = state.whole(), ""  # the class may contain all networks of the file
        fill_strictly(network, tensors, prefix, source, class_path)
        return own_generator(network, class_path, ranges), "class"
    if is_own_class(state.metadata):
        raise class_wanted(state.metadata, source)
    if is_artifact(state.metadata):
        return rebuild(state.tensors, state.metadata, source), "artifact"
    return recognise(state.beside | state.tensors, source)


def identity_of(path: Path) -> str:
    """The identity of a file, or of a run folder's network file, for a run: its SHA-256. Raises InputError (4)."""
    path = weights_of(path)
    if path.suffix.lower() != ".onnx":
        return sha256_file(path)
    from vemcompress.weights.graphs.teacher import identity

    return identity(path)


def weights_of(path: Path) -> Path:
    """The network file of a run folder, its student or its teacher; any other path unchanged, for `read_state`."""
    try:
        if told := never_picked(path):
            raise InputError(told)
        if not path.is_dir():
            return path
        if told := tensorflow(path):
            raise InputError(f"{path}: {told}")
        if (run := made(path)) is not None and (path / f"{run.gives}.safetensors").exists():
            return path / f"{run.gives}.safetensors"
        files = [found.name for found in path.iterdir() if found.name.lower().endswith(SUFFIXES)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check its permissions") from error
    if seed := next(
        (found for name in ("seed-*", "*-seed*") for found in sorted(path.glob(f"{name}/student.safetensors"))), None
    ):
        raise InputError(f"{path}: has the runs of several seeds; give one of them, such as {seed.parent}.")
    if files and run is None:
        raise InputError(f"{path}: is not a run folder; give one of its files: {', '.join(sorted(files)[:5])}.")
    raise InputError(f"{path}: has no student.safetensors; give a run folder with a checkpoint, or a weight file.")
