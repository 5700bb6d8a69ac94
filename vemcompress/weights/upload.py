"""Uploads files to a model repository on the Hugging Face Hub, in one commit.

This uses huggingface_hub, which finds the token itself (HF_TOKEN, or `hf auth login`) and uses HF_ENDPOINT.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, utils
from huggingface_hub import errors as hf

from vemcompress.errors import NetworkError, UsageError, VemError
from vemcompress.weights.hub import SCHEME, unreachable

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
_SECONDS = 15


@dataclass(frozen=True)
class Existing:
    """A repository on the Hub, with the names of the files on its main branch. `ours`: its card is one of `push`."""

    private: bool
    files: frozenset[str] = frozenset()
    ours: bool = False


@dataclass(frozen=True)
class Uploaded:
    """The repository's page, and the new commit, or the newest one if no file has changed."""

    url: str
    commit: str


def checked_repo(repo: str) -> str:
    """`user/repo`, also from hf://user/repo. Raises UsageError (2) for an invalid repository name."""
    name = repo.removeprefix(SCHEME)
    try:
        utils.validate_repo_id(name)
        named = name.count("/") == 1
    except hf.HFValidationError:
        named = False
    if not named:
        raise UsageError(
            f"{repo!r:.120}: is not the name of a repository; give user/repo, with letters, digits, '-', '_' and '.'."
        )
    return name


def existing(repo: str) -> Existing | None:
    """The repository, or None if it does not exist yet. Raises NetworkError (8), also if nobody is logged in."""
    with _explained(repo):
        if get_token() is None:
            raise NetworkError(f"{repo}: nobody is logged in to the Hub: {_LOG_IN}.")
        try:
            info = HfApi().model_info(repo, timeout=_SECONDS)
            files = frozenset(file.rfilename for file in info.siblings or ())
            return Existing(
                bool(info.private), files, ours=getattr(info.card_data, "library_name", "") == "vemcompress"
            )
        except hf.RepositoryNotFoundError:
            return None


def upload(repo: str, files: dict[str, bytes], removed: Iterable[str] = (), *, private: bool, message: str) -> Uploaded:
    """Commit `files`, contents by name, to the main branch of `repo`. A new repository is created, `private` or
    public. The same commit removes the files named in `removed` from an existing one, whose history still has them; its
    other files are kept. Raises NetworkError (8).
    """
    with _explained(repo), _in_silence():
        api = HfApi()
        url = api.create_repo(repo, private=private or None, exist_ok=True)  # None: the organisation's default
        operations = [CommitOperationAdd(name, data) for name, data in files.items()]
        operations += [CommitOperationDelete(name, is_folder=False) for name in removed]
        return Uploaded(str(url), api.create_commit(repo, operations, commit_message=message).oid)


@contextmanager
def _in_silence() -> Iterator[None]:
    """Context without huggingface_hub's progress bars and warnings."""
    silent = utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not silent:
            utils.enable_progress_bars()


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    try:
        yield
    except VemError:
        raise
    except Exception as error:
        raise NetworkError(f"{repo}: {_sentence(error)}.") from error


def _sentence(error: Exception) -> str:
    """What happened and what to do, without the Hub's own words, which may contain signed addresses."""
    status = error.response.status_code if isinstance(error, hf.HfHubHTTPError) else None
    if status == 401:
        return f"the Hub does not accept your token: {_LOG_IN}"
    if status in (403, 404):
        return f"your token may not write there: check the name, and {_LOG_IN}"
    if unreachable(error):
        return "the Hub cannot be reached: connect, unset HF_HUB_OFFLINE, check HF_ENDPOINT, or try again later"
    if status is not None:
        return f"the Hub refused with HTTP status {status}: try again later"
    kind = type(error.__cause__ or error).__name__
    return f"the upload failed ({kind}): try again; --out DIR writes the files to a folder instead"
