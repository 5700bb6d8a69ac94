"""Weights from the Hugging Face Hub, `hf://user/repo[/file][@revision]`, from the network or the cache.

This uses huggingface_hub, with HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download, metadata_load, scan_cache_dir
from huggingface_hub import errors as hf

from vemcompress.errors import InputError, NetworkError, UsageError, VemError
from vemcompress.system.files import output_error
from vemcompress.weights.sniff import CONVERT

SCHEME = "hf://"
_FORM = "hf://user/repo[/file][@revision]"
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]{0,127}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_ORDER = ((".safetensors",), (".pth", ".pt"))
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx")
_SECONDS = 15


@dataclass(frozen=True)
class HubFile:
    """A file of a Hub repository on this machine. `revision` is the commit; `licence` is "" if none is stated."""

    path: Path
    repo: str
    revision: str
    licence: str


@dataclass(frozen=True)
class Address:
    """The parts of an `hf://` address; `file` is "" for the repository's only weight file."""

    repo: str
    file: str
    revision: str


def is_hub(source: str) -> bool:
    """Whether this is a Hub address instead of a path."""
    return source.startswith("hf:/")


def parse(source: str) -> Address:
    """The parts of an address. Raises UsageError (2) for one that is malformed or tries to leave its folder."""
    rest, _, revision = source.removeprefix(SCHEME).partition("@")
    parts = rest.split("/")
    words = all(_WORD.fullmatch(part) and ".." not in part for part in parts)
    if not source.startswith(SCHEME) or len(parts) < 2 or not words:
        raise UsageError(f"{source!r:.200}: not a Hub address: write {_FORM}, with plain names")
    if "@" in source and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise UsageError(f"{source!r:.200}: not a revision: write a branch, a tag or a commit after the @")
    file = "/".join(parts[2:])
    if file and not file.endswith(SUFFIXES):
        if file.endswith((".pkl", ".pickle")):
            raise InputError(f"{source}: pickles can run code when they are opened, so none is fetched: {CONVERT}")
        raise UsageError(f"{source}: not a weight file: give a .safetensors, .pth or .pt file")
    return Address("/".join(parts[:2]), file, revision or "main")


def fetch(source: str) -> HubFile:
    """Download the file of an address, or find it in the cache if there is no network.

    Without a file name, the repository's single .safetensors is used, else its single .pth or .pt. Raises NetworkError
    (8) if it does not exist, is gated or unreachable, UsageError (2) for a malformed address, InputError (4) for a
    pickle, OutputError (9) if the cache cannot be written.
    """
    address = parse(source)
    try:
        info = HfApi().model_info(address.repo, revision=address.revision, timeout=_SECONDS)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        file = address.file or choose(names, source)
        path = Path(hf_hub_download(address.repo, file, revision=address.revision))
        if "README.md" in names:  # cached with the weights, so that the licence is known offline too
            hf_hub_download(address.repo, "README.md", revision=address.revision)
        return _found(path, file, address)
    except VemError:
        raise
    except Exception as error:
        if unreachable(error):
            return _from_cache(address, source, error)
        raise _explained(error, address, source) from error


def choose(names: list[str], source: str) -> str:
    """The single weight file among a repository's files. Raises NetworkError (8) listing the candidates."""
    for suffixes in _ORDER:
        found = sorted(name for name in names if name.endswith(suffixes))
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(found[:8]) + (" ..." if len(found) > 8 else "")
            raise NetworkError(f"{source}: has several weight files ({listed}): choose one, as in {_FORM}")
    raise NetworkError(f"{source}: has no .safetensors, .pth or .pt file: choose another repository")


def _from_cache(address: Address, source: str, cause: Exception) -> HubFile:
    try:
        repos = scan_cache_dir().repos
    except hf.CacheNotFound:
        repos = frozenset()
    for repo in repos:
        for revision in repo.revisions if (repo.repo_type, repo.repo_id) == ("model", address.repo) else ():
            if address.revision in revision.refs or address.revision == revision.commit_hash:
                held = {f.file_path.relative_to(revision.snapshot_path).as_posix(): f.file_path for f in revision.files}
                weights = any(name.endswith(SUFFIXES) for name in held)
                file = address.file or (choose(list(held), source) if weights else "")
                if file in held:
                    return _found(held[file], file, address)
    raise NetworkError(
        f"{source}: the Hub cannot be reached, and it is not in the cache: connect, or unset HF_HUB_OFFLINE"
    ) from cause


def _found(path: Path, file: str, address: Address) -> HubFile:
    snapshot = path.parents[len(PurePosixPath(file).parts) - 1]  # .../snapshots/<commit>
    return HubFile(path, address.repo, snapshot.name, _licence(snapshot / "README.md"))


def _licence(card: Path) -> str:
    """The licence stated in the header of the model card, or ""."""
    try:
        stated = (metadata_load(card) or {}).get("license", "") if card.is_file() else ""
    except Exception:  # a card is free text by others; an unreadable header counts as no licence
        return ""
    return stated if isinstance(stated, str) else ", ".join(map(str, stated))


def unreachable(error: Exception) -> bool:
    """Whether the Hub did not answer, as opposed to refusing."""
    if isinstance(error, hf.HfHubHTTPError):
        return error.response.status_code >= 500
    if isinstance(error, hf.LocalEntryNotFoundError):
        return True
    transport = hf.HfHubHTTPError.__mro__[1]  # the base class in the HTTP library that huggingface_hub uses
    return isinstance(error, transport | ConnectionError | TimeoutError)


def _explained(error: Exception, address: Address, source: str) -> VemError:
    known = (
        (hf.GatedRepoError, "is gated: accept its terms on the Hub and log in with `hf auth login`"),
        (hf.RepositoryNotFoundError, "no such repository, or a private one: check the name, or log in to the Hub"),
        (hf.RevisionNotFoundError, f"no revision {address.revision!r} in {address.repo}: check the branch or commit"),
        (hf.EntryNotFoundError, f"no file {address.file!r} in {address.repo}: check the name"),
    )
    for kind, sentence in known:
        if isinstance(error, kind):
            return NetworkError(f"{source}: {sentence}")
    if isinstance(error, hf.HfHubHTTPError):
        code = error.response.status_code
        return NetworkError(f"{source}: the Hub refused with HTTP status {code}: check your login, or try again later")
    if isinstance(error, OSError) and error.errno is not None:  # without a number, the download was interrupted
        return output_error(getattr(error, "filename", None) or "the Hub's cache", error)
    kind = type(error).__name__
    return NetworkError(f"{source}: the Hub's answer is incomplete or invalid ({kind}): check HF_ENDPOINT, try again")
