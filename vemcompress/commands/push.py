"""`push`: publish a network with model card, ONNX file, recipe and picture on the Hugging Face Hub, or in a folder."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from vemcompress.commands.inspect import describe
from vemcompress.commands.model_card import CARD, PICTURE, RECIPE, Facts, model_card
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.push_folder import earlier_files, write_folder
from vemcompress.commands.pushed_run import Subject, figures_of, picture_of, subject, teacher_cost
from vemcompress.errors import ExportError, InputError, MemoryExhausted, UsageError
from vemcompress.export.exporting import export_onnx, origin
from vemcompress.export.result import ExportResult
from vemcompress.export.sides import usual_side
from vemcompress.recipe.toml import parse_file
from vemcompress.system.events import Event, silent
from vemcompress.system.files import LARGE, MALFORMED, parse_json, read_bytes
from vemcompress.system.private import metadata_without_folders, without_folders
from vemcompress.weights.artifact import is_own_class
from vemcompress.weights.format import is_artifact, relabelled
from vemcompress.weights.loading import Loaded, load
from vemcompress.weights.trust import named
from vemcompress.weights.upload import checked_repo, existing, upload

Confirm = Callable[[dict], bool]
EXAMPLE = "user/repo"  # in the card, if no repository was given


@dataclass(frozen=True)
class PushResult:
    """The files (`files`: sizes in bytes by name) and where they went.

    `repo`, `url` and `commit` describe the upload; `folder` is the folder written instead. All are None after a dry
    run, or if the user declined. `removed` names the files of an earlier push that the new one removes. `notes` say
    what was omitted, and why.
    """

    files: dict[str, int]
    private: bool
    repo: str | None = None
    url: str | None = None
    commit: str | None = None
    folder: Path | None = None
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """For --json."""
        return asdict(self) | {"folder": self.folder and str(self.folder)}


@shows_progress
def push(
    model: str | os.PathLike,
    repo: str | None = None,
    *,
    private: bool = False,
    best: bool = False,
    onnx: bool = True,
    picture: bool = True,
    licence: str | None = None,
    out: str | os.PathLike | None = None,
    dry_run: bool = False,
    teacher_class: str | None = None,
    confirm: Confirm | None = None,
    on_event: Event = silent,
    progress: bool = False,
) -> PushResult:
    """Publish a model on the Hugging Face Hub in one commit, or write the same files into the folder `out`.

        vemcompress.push("runs/small", "user/repo", private=True)

    The files are a model card, the weights, an ONNX file that was compared with PyTorch, the recipe and a
    picture. No file contains a path of this machine. huggingface_hub finds the access token. The upload starts
    without a question, unless you pass `confirm`.

    If the card in the repository or the folder was written by `push`, the earlier picture, recipe and ONNX file are
    removed, unless the new push has them too. The Hub keeps them in the repository's history.

    Arguments:
        model: a run folder, a pipeline, or a .safetensors file written by vemcompress.
        repo: "user/repo". A new repository is public unless `private`; an existing one gets a new commit.
        best: publish the run's best checkpoint.
        onnx, picture: include the ONNX file and the picture.
        licence: the licence on the card, instead of the teacher's licence.
        out: a folder to write the files to, instead of the upload: a new or empty one, or that of an earlier push.
        dry_run: make the files, but upload and write nothing.
        teacher_class: "module:Class" of a network of your own class.
        confirm: a function that is called with {"repo", "exists", "private", "files", "removed", "notes"} before
            the upload; if it returns False, nothing is uploaded.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        PushResult: `files` (bytes by name), `removed` (files of an earlier push), `url`, `commit`, `folder`,
        `notes` (what was omitted, and why).

    Raises:
        UsageError, InputError, NetworkError, OutputError.
    """
    if repo is None and out is None and not dry_run:
        raise UsageError("nowhere to push to: give user/repo, or --out DIR to write the files into a folder.")
    repo, folder = repo and checked_repo(repo), None if out is None else Path(out)
    found = subject(model, best)
    own = {PICTURE, RECIPE, f"{found.name}.onnx"}
    known = {CARD, f"{found.name}.safetensors", *own}
    earlier = set() if folder is None else earlier_files(folder, found.path, known)
    with named(teacher_class):
        loaded = load(found.path, class_path=teacher_class)
    if not is_artifact(loaded.metadata):
        raise InputError(
            f"{found.path}: was not written by vemcompress; give a run folder, or a .safetensors file from one."
        )
    loaded.tell(on_event)
    sent = repo is not None and folder is None and not dry_run
    before = existing(repo) if sent else None
    if before is not None and private and not before.private:
        raise UsageError(f"{repo}: is already public; make it private on its page on the Hub, or omit --private.")
    private = private or (before is not None and before.private)
    files, notes = _contents(found, loaded, repo or EXAMPLE, onnx, picture, licence, on_event)
    sizes = {name: len(data) for name, data in files.items()}
    if before is not None and before.ours:
        earlier = before.files
    removed = sorted(earlier & own - {*files})
    result = PushResult(sizes, private, removed=removed, notes=notes)
    about = {"repo": repo, "exists": before is not None, "private": private, "files": sizes, "notes": notes}
    about["removed"] = removed
    on_event({"event": "push", "stage": "files", **about, "folder": folder and str(folder)})
    if folder is not None and not dry_run:
        return replace(result, folder=write_folder(folder, files, removed))
    if not sent or (confirm is not None and not confirm(about)):
        return result
    on_event({"event": "push", "stage": "upload", "repo": repo})
    done = upload(repo, files, removed, private=private, message=f"{found.name} by vemcompress")
    return replace(result, repo=repo, url=done.url, commit=done.commit)


def _contents(
    found: Subject, loaded: Loaded, repo: str, onnx: bool, picture: bool, licence: str | None, on_event: Event
) -> tuple[dict[str, bytes], list[str]]:
    """The files by name, the card first, and notes on what was omitted."""
    notes: list[str] = []
    weights, graph = f"{found.name}.safetensors", f"{found.name}.onnx"
    files = {weights: relabelled(read_bytes(found.path, LARGE), metadata_without_folders)}
    exported = None
    if onnx:
        try:
            about = {"source": found.title, "sha256": hashlib.sha256(files[weights]).hexdigest()}
            exported, files[graph] = _exported(loaded, graph, about, on_event)
        except (ExportError, MemoryExhausted, UsageError) as error:
            notes.append(f"no {graph}: {without_folders(str(error))}")
    if found.recipe is not None:
        values, _ = parse_file(found.recipe)
        files[RECIPE] = tomli_w.dumps(without_folders(values)).encode()
    step, image = picture_of(found) if picture else (None, None)
    if image is not None:
        files[PICTURE] = image
    figures = figures_of(found, on_event)
    if figures is None:
        notes.append(
            "no metrics on the card: measure them with `vemcompress eval`, which stores them in the run folder."
        )
    facts = Facts(
        repo=repo,
        weights=weights,
        graph=exported and graph,
        takes=loaded.generator.takes,
        gives=loaded.generator.out_channels,
        class_path=_class_of(loaded.metadata),
        about=_described(loaded),
        metadata=metadata_without_folders(loaded.metadata),
        teacher=_teacher(loaded.metadata),
        teacher_cost=teacher_cost(found),
        figures=figures,
        licence=licence,
        step=found.step,
        picture_step=step,
        pictured=image is not None,
        exported=exported and without_folders(exported.as_dict()),
        files={name: len(data) for name, data in files.items()},
    )
    return {CARD: model_card(facts).encode(), **files}, notes


def _exported(loaded: Loaded, name: str, about: dict[str, str], on_event: Event) -> tuple[ExportResult, bytes]:
    """Export to ONNX and compare with PyTorch; returns the result and the file's content. `about` is added to its
    metadata. Raises ExportError, MemoryExhausted and UsageError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        metadata = without_folders(origin(loaded) | about)
        result = export_onnx(loaded.generator, path, metadata=metadata, on_event=on_event)
        return result, read_bytes(path, LARGE)


def _described(loaded: Loaded) -> dict[str, Any]:
    """Family, parameters and MACs of the network, for the card."""
    takes = loaded.generator.takes
    if takes.kind == "latent":
        return describe(loaded)
    side = usual_side(takes.only, takes.least, takes.multiple)
    return describe(loaded, side) | {"side": side}


def _teacher(metadata: dict[str, str]) -> dict[str, str]:
    """The file's record of its teacher, as texts without folders."""
    try:
        said = without_folders(dict(parse_json(metadata["teacher"])))
    except MALFORMED:
        return {}
    return {name: text for name, text in said.items() if isinstance(text, str) and text}


def _class_of(metadata: dict[str, str]) -> str | None:
    """The user's own class of the network, if it has one and its name is safe to show in code."""
    name = metadata.get("class", "")
    return name if is_own_class(metadata) and re.fullmatch(r"[\w.]+:[\w.]+", name, re.ASCII) else None
