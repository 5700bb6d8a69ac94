"""One door for every generator: our artifact, published weights, a run folder, the Hub, the user's own class."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from vemcompress.errors import InputError, RecipeError
from vemcompress.networks.base import Generator, use_image_statistics
from vemcompress.system import names
from vemcompress.system.files import sha256_file
from vemcompress.weights.artifact import class_wanted, is_own_class, narrow_as_saved, rebuild
from vemcompress.weights.custom import CustomGenerator, build_custom, fill_strictly
from vemcompress.weights.folder import made
from vemcompress.weights.format import is_artifact
from vemcompress.weights.hub import fetch, is_hub
from vemcompress.weights.recognise import recognise
from vemcompress.weights.safe import State, read_state


@dataclass(frozen=True)
class Loaded:
    """A generator in eval mode (float32, CPU) and where it came from.

    `source` is what the caller gave, `sha256` that of the file read. `revision` and `licence` are the Hub's, else
    empty. `origin` is "artifact", "published:<layout>" or "class"; `norm` is "eval" or "batch".
    """

    generator: Generator
    source: str
    sha256: str
    origin: str
    revision: str = ""
    licence: str = ""
    norm: str = "eval"
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def pinned(self) -> str:
        """The source as recipes have it, of the Hub at this revision: it may move on before a run is resumed."""
        source = names.stored(self.source)
        return f"{source}@{self.revision}" if self.revision and "@" not in source else source

    def provenance(self) -> dict[str, str]:
        """What an artifact records about its teacher."""
        source = names.shown(self.source)
        return {"source": source, "sha256": self.sha256, "revision": self.revision, "licence": self.licence}


def load(source: str | Path, *, class_path: str | None = None, norm: str = "eval") -> Loaded:
    """A generator from a .safetensors, .pth or .pt file, a run folder, or `hf://user/repo[/file][@revision]`.

    `class_path` ("module:Class") builds the user's own class instead of recognising a published layout. `norm` is
    "eval" for stored statistics, or "batch" where BatchNorm shall normalise each image by itself, as Pix2Pix teachers
    were used. Raises InputError (4), NetworkError (8), UsageError (2) and RecipeError (3: no BatchNorm for "batch").
    """
    if norm not in ("eval", "batch"):
        raise RecipeError(f"teacher.norm {norm!r}: must be 'eval' or 'batch'")
    name = names.found(source)
    path, revision, licence = Path(name), "", ""
    if is_hub(name):
        file = fetch(name)
        path, revision, licence = file.path, file.revision, file.licence
    else:
        path = weights_of(path)
    state = read_state(path, source=name)
    digest = sha256_file(path)
    generator, origin = _build(state, name, class_path)
    if norm == "batch":
        if not any(isinstance(module, nn.BatchNorm2d) for module in generator.modules()):
            raise RecipeError(f"{name}: teacher.norm = 'batch' needs a teacher with BatchNorm: use 'eval'")
        use_image_statistics(generator)
    return Loaded(generator, name, digest, origin, revision, licence, norm, state.metadata)


def load_known(source: str | Path, sha256: str | None, what: str, *, class_path: str | None = None) -> Loaded:
    """As `load`, of `what` a run began with. Raises InputError (4) where it is not the file of this hash."""
    loaded = load(source, class_path=class_path)
    if sha256 not in (None, loaded.sha256):
        raise InputError(
            f"{source}: is not the {what} that this run began with (SHA-256 {loaded.sha256[:12]}, then {sha256[:12]}); "
            "put that file back, or start a new run."
        )
    return loaded


def load_generator(source: str | Path, *, class_path: str | None = None, norm: str = "eval") -> nn.Module:
    """The generator alone, in eval mode; arguments and errors as `load`."""
    return load(source, class_path=class_path, norm=norm).generator


def _build(state: State, source: str, class_path: str | None) -> tuple[Generator, str]:
    if class_path is not None:
        network = build_custom(class_path)
        if is_own_class(state.metadata):
            narrow_as_saved(network, state.metadata, source)
        fill_strictly(network, state.tensors, state.prefix, source, class_path)
        return CustomGenerator(network, class_path).eval(), "class"
    if is_own_class(state.metadata):
        raise class_wanted(state.metadata, source)
    if is_artifact(state.metadata):
        return rebuild(state.tensors, state.metadata, source), "artifact"
    generator, layout = recognise(state.tensors, source)
    return generator, f"published:{layout}"


def weights_of(path: Path) -> Path:
    """What a run folder gives, its student or its teacher; every other path as it is, for `read_state`."""
    try:
        if not path.is_dir():
            return path
        if (run := made(path)) is not None and (path / f"{run.gives}.safetensors").exists():
            return path / f"{run.gives}.safetensors"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check its permissions") from error
    if seed := next(iter(sorted(path.glob("seed-*/student.safetensors"))), None):
        raise InputError(f"{path}: has the runs of several seeds; give one of them, such as {seed.parent}.")
    raise InputError(f"{path}: has no student.safetensors; give a run folder that has saved once, or a weight file.")
