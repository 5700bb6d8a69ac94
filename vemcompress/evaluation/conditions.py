"""Conditions of an evaluation: what its scores depend on besides the network, so that only comparable ones are
compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vemcompress.data.latent_set import LatentSet
from vemcompress.data.sets import ImageSet
from vemcompress.evaluation.choose import Chosen
from vemcompress.evaluation.metric import Tools
from vemcompress.system.files import open_regular
from vemcompress.system.names import shown

# By condition: its description, and what to do so that all networks have the same one.
_SAID = {
    "read": ("inputs of different kinds", "give runs whose [data] are of one kind"),
    "images": ("different images", "give --data DIR, the test images of all"),
    "size": ("images of different sizes", "give --size N"),
    "crop": ("different parts of images", "give --set data.crop=N"),
    "latents": ("different latent vectors", "evaluate them with the same --seed"),
    "samples": ("different numbers of images", "give --samples N"),
    "real": ("different real images", "give --real DIR"),
    "features": ("features of different weights", "give --inception or --features-weights"),
    "segmenter": ("different segmentation networks", "give --segmenter FILE"),
    "seed": ("different seeds", "evaluate them with the same --seed"),
}
_PARTIAL = ("real", "features", "segmenter")  # an evaluation without one of these has no scores that depend on it


@dataclass(frozen=True)
class Named:
    """Files, identified by a SHA-256 of their names and contents. `what` describes them for people."""

    sha256: str
    what: str


@dataclass(frozen=True)
class Conditions:
    """The form of `conditions`, to validate stored ones."""

    metrics: list[str]
    images: Named | None
    read: str
    size: int
    crop: int | str | None
    latents: str
    samples: int | None
    real: Named | None
    features: dict[str, str]
    seed: int
    teacher: dict[str, str] | None
    segmenter: str | None


def conditions(images: ImageSet | LatentSet, chosen: Chosen, tools: Tools, samples: int | None, about: dict) -> dict:
    """The conditions of an evaluation as plain values of `Conditions`.

    Images are identified by names and contents, feature networks by weights. `about` has what only the caller knows:
    {"teacher": {"sha256", "norm"} or None, "segmenter": the SHA-256 of its file or None}; missing entries are None.
    This reads every image once.
    """
    latent, statistics = isinstance(images, LatentSet), tools.real.statistics
    real = None
    if tools.real.targets:
        real = {"sha256": "targets", "what": "the targets of these images"}
    elif tools.real.paths:
        real = _named(tools.real.paths)
    elif statistics is not None:
        digest = hashlib.sha256(statistics.mu.tobytes() + statistics.sigma.tobytes()).hexdigest()
        real = {"sha256": digest, "what": f"statistics of {statistics.images or 'an unknown number of'} images"}
    return {
        "metrics": sorted(metric.name for metric in chosen.metrics),
        "images": None if latent else _named([path for sample in images.samples for path in sample]),
        "read": "vectors" if latent else _reading(images),
        "size": tools.size,
        "crop": tools.crop,
        "latents": tools.latents,
        "samples": samples,
        "real": real,
        "features": {name: extractor.fingerprint() for name, extractor in sorted(tools.extractors.items())},
        "seed": tools.seed,
        **{"teacher": None, "segmenter": None, **about},
    }


def covers(known: dict, wanted: dict) -> bool:
    """Whether an evaluation under the conditions `known` has all scores that one under `wanted` would have."""
    keys = [key for key in wanted if key not in ("metrics", "features") and (wanted[key] or key not in _PARTIAL)]
    same = all(_same(key, known[key], wanted[key]) for key in keys)
    features = wanted["features"].items() <= known["features"].items()
    return same and features and set(wanted["metrics"]) <= set(known["metrics"])


def difference(a: dict, b: dict) -> tuple[str, str, str, str] | None:
    """Why scores under two conditions must not be compared: the description, the values in `a` and `b`, and what to do.
    None if they may be compared. Metrics and teachers may differ; then fewer scores are common to both."""
    for key, (what, advice) in _SAID.items():
        one, other = a[key], b[key]
        if key in _PARTIAL and (not one or not other):
            continue
        if key == "features":
            differ = any(other.get(name, weights) != weights for name, weights in one.items())
        else:
            differ = not _same(key, one, other)
        if differ:
            return what, _words(one), _words(other), advice
    return None


def _same(key: str, one, other) -> bool:
    """Whether two conditions are equal; the folder of files does not matter."""
    if key in ("images", "real") and one and other:
        return one["sha256"] == other["sha256"]
    return one == other


def _named(paths: Sequence[Path]) -> dict:
    folders = list(dict.fromkeys(str(path.absolute().parent) for path in paths))
    what = f"{len(paths)} of {folders[0]}" + (f" and {len(folders) - 1} more" if len(folders) > 1 else "")
    return {"sha256": digest(paths), "what": shown(what)}


def _words(value) -> str:
    if isinstance(value, dict):
        return value.get("what") or ", ".join(f"{name} {weights[:12]}" for name, weights in value.items())
    return f"{value!s:.80}"


def _reading(images: ImageSet) -> str:
    """How image files become inputs and targets."""
    enlarged = [f"enlarged {images.scale} times"] if images.scale > 1 else []
    if images.pairs is None:
        return ", ".join(["single", *enlarged])
    labels = images.settings.model_dump(include={"classes", "void", "label_input", "ids"}, exclude_none=True)
    if images.scores:
        labels["label_target"] = images.settings.label_target
    told = [f"{key} {value}" for key, value in labels.items()] if images.pairs.labels is not None else []
    if images.settings.degrade is not None:
        return ", ".join(["single", f"degraded by {images.settings.degrade}", *enlarged])
    return ", ".join([images.settings.kind, images.settings.direction, *told, *enlarged])


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 over the names and contents of files, in order. An unreadable file counts as empty."""
    return _digest(tuple((path, *_state(path)) for path in paths))


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    except OSError:
        return 0, 0


@lru_cache(maxsize=16)  # several runs are often scored on the same images
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    found = hashlib.sha256()
    for path, *_ in files:
        found.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
        try:
            with open_regular(path) as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            found.update(bytes(32))
    return found.hexdigest()
