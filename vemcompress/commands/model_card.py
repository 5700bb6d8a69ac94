"""The model card of a model on the Hugging Face Hub (README.md): what it is, how to run it, its metrics, its origin.

All text from files is escaped, because such text is not trusted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vemcompress import __version__
from vemcompress.commands.card_code import on_the_command_line, with_onnx_runtime, with_vemcompress
from vemcompress.commands.card_header import header, repository, stated
from vemcompress.console.words import millions, plain, thousands, times_fewer
from vemcompress.networks.base import ImageInput, LatentInput
from vemcompress.system.names import PAIRS, printable
from vemcompress.system.quantities import count_text

CARD, RECIPE, PICTURE = "README.md", "recipe.toml", "sample.png"


@dataclass(frozen=True)
class Figures:
    """Metrics by name, those of the teacher, and how each was measured. `by` is the source: `vemcompress eval`, or
    training."""

    metrics: dict[str, float]
    teacher: dict[str, float]
    protocol: dict[str, str]
    by: str


@dataclass(frozen=True)
class Facts:
    """The content of a card.

    `weights` and `graph` are file names; `graph` is None if there is no ONNX file. `about` is the result of
    `inspect.describe`, with the `side` at which MACs are counted. `metadata` is the metadata of the weights, and
    `teacher` its record of the teacher. `teacher_cost` is the run's record of the teacher. `exported` is the result of
    the export.
    """

    repo: str
    weights: str
    graph: str | None
    takes: ImageInput | LatentInput
    gives: int
    class_path: str | None
    about: dict[str, Any]
    metadata: dict[str, str]
    teacher: dict[str, str]
    teacher_cost: dict[str, Any]
    figures: Figures | None
    licence: str | None
    step: int | None
    picture_step: int | None
    pictured: bool
    exported: dict[str, Any] | None
    files: dict[str, int] = field(default_factory=dict)


def model_card(facts: Facts) -> str:
    """The card: a header in YAML, and Markdown."""
    parts = [
        header(facts.takes.kind, facts.teacher, facts.licence, has_onnx=facts.graph is not None),
        f"# {facts.repo.partition('/')[2]}",
        _summary(facts),
        *_picture(facts),
        "## Run it",
        *_code(facts),
        "## The network",
        _network(facts),
        *_figures(facts.figures),
        "## Where it comes from",
        _origin(facts),
        "## Files",
        _files(facts),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: Any) -> str:
    """The text on one line, with the characters of Markdown and HTML escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$@])", r"\\\1", printable(str(text)))


def _summary(facts: Facts) -> str:
    count, macs = facts.about["parameters"], facts.about["macs"]["true"]
    before = facts.teacher_cost.get("parameters")
    smaller = f", {times_fewer(before / count)} parameters than its teacher" if before and count else ""
    recipe = facts.metadata.get("recipe")
    how = f" with the recipe {escaped(recipe)}" if recipe else ""
    turns = "makes images from latent vectors" if facts.takes.kind == "latent" else "translates images into images"
    return (
        f"A GAN generator that {turns}. It has {millions(count)} parameters{smaller}, and needs {count_text(macs)} "
        f"multiplications {_at(facts)}. It was made by vemcompress{how}."
    )


def _at(facts: Facts) -> str:
    if facts.takes.kind == "latent":
        return f"for an image of {facts.takes.image} px"
    return f"for an image of {facts.about['side']} x {facts.about['side']} px"


def _picture(facts: Facts) -> list[str]:
    if not facts.pictured:
        return []
    when = "" if facts.picture_step is None else f" after step {facts.picture_step:,}"
    return [f"![Sample images of the run{when}]({PICTURE})", f"Sample images of the training run{when}."]


def _code(facts: Facts) -> list[str]:
    address = f"hf://{facts.repo}/{facts.weights}"  # with the file, because the repository may have other weights
    found = [
        "On the command line:",
        _block("bash", on_the_command_line(address, facts.takes, facts.class_path)),
        f"In Python, with the package vemcompress {__version__}:",
        _block("python", with_vemcompress(address, facts.takes, facts.gives, facts.class_path)),
    ]
    if facts.class_path:
        found.append(f"The network's class is `{facts.class_path}`. Its code is not in this repository.")
    if facts.graph:
        found += [
            f"In ONNX Runtime, with `{facts.graph}` in the folder of the script:",
            _block("python", with_onnx_runtime(facts.graph, facts.takes, facts.gives)),
        ]
    return found


def _block(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _network(facts: Facts) -> str:
    about, takes = facts.about, facts.takes
    if takes.kind == "latent":
        given, gives = f"z, N x {takes.size}, {takes.prior} distribution", f"{takes.image} x {takes.image} px"
    else:
        sides = f"{takes.only} x {takes.only} px" if takes.only else _sides(takes)
        given = f"{takes.channels} channels, float32 in [-1, 1], RGB, N x C x H x W, {sides}"
        gives = f"{takes.scale} times the size" if takes.scale > 1 else "the same size"
    rows = [
        ("Family", escaped(about["family"])),
        ("Parameters", f"{about['parameters']:,}"),
        (f"Multiplications (MACs) {_at(facts)}", f"{about['macs']['true']:,}"),
        ("MACs as papers count them", f"{about['macs']['paper']:,}; with norms {about['macs']['paper_norm']:,}"),
        ("Input", given),
        ("Output", f"{facts.gives} channels in [-1, 1], {gives}"),
        *([("Training step", f"{facts.step:,}")] if facts.step else []),
    ]
    if facts.exported is not None:
        rows.append(("ONNX and PyTorch", f"outputs differ by at most {facts.exported['max_abs_diff']:.1e}"))
    return _table(("", ""), rows)


def _sides(takes: ImageInput) -> str:
    multiple = f"multiples of {takes.multiple}, " if takes.multiple > 1 else ""
    return f"H and W {multiple}at least {takes.least} px"


def _figures(figures: Figures | None) -> list[str]:
    if figures is None:
        return ["## Metrics", "This network has not been evaluated."]
    beside = any(name in figures.teacher for name in figures.metrics)
    rows = []
    for name, value in figures.metrics.items():
        teacher = [_number(figures.teacher.get(name))] if beside else []
        rows.append((escaped(name), _number(value), *teacher, escaped(figures.protocol.get(name, ""))))
    titles = ("Metric", "This network", *(["Its teacher"] if beside else []), "How it was measured")
    return ["## Metrics", _table(titles, rows), f"Measured by {figures.by}."]


def _number(value: Any) -> str:
    return plain(float(value)) if isinstance(value, int | float) else "-"


def _origin(facts: Facts) -> str:
    teacher, source = facts.teacher, facts.teacher.get("source", "")
    on_hub, family = repository(source), facts.teacher_cost.get("family")
    told = escaped(source) if on_hub is None else f"[{escaped(source)}](https://huggingface.co/{on_hub})"
    told = "only pairs of its inputs and outputs; the network itself was not used" if source == PAIRS else told
    lines = [f"- Teacher: {told or 'not recorded'}" + (f" ({escaped(family)})" if family else "")]
    named = {"key": "Network in that file", "revision": "Revision", "sha256": "SHA-256 of its file"}
    lines += [f"- {title}: {escaped(teacher[name])}" for name, title in named.items() if name in teacher]
    lines.append(f"- Licence of the teacher: {escaped(teacher['licence']) if 'licence' in teacher else 'not known'}")
    if facts.licence:
        lines.append(f"- Licence of this network, as stated by its author: {escaped(facts.licence)}")
    if not stated(facts.teacher, facts.licence):
        lines.append(
            "\nThe teacher's licence is not recorded. It may also apply to networks trained from the teacher, so check "
            "it before you use this one."
        )
    elif not facts.licence:
        lines.append("\nThis network was trained from its teacher, so it is published under the teacher's licence.")
    return "\n".join(lines)


def _files(facts: Facts) -> str:
    what = {
        facts.weights: "the weights, with all metadata needed to load them",
        facts.graph or "": "the same network for ONNX Runtime; any batch size",
        RECIPE: "how it was trained; paths are reduced to file names",
        PICTURE: "sample images of the training run",
    }
    rows = [(f"`{name}`", thousands(size), what[name]) for name, size in facts.files.items()]
    return _table(("File", "kB", "Content"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
