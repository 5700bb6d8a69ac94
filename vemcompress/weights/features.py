"""Published weights of feature networks: from a file, or downloaded, checked, and cached in torch.hub's folder."""

import http.client
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor
from torchvision.models import VGG16_Weights

from vemcompress.errors import InputError, NetworkError, OutputError, RecipeError, first_line
from vemcompress.networks.features import (
    FeatureNetwork,
    squeezenet_features,
    squeezenet_lpips,
    vgg16_features,
    vgg16_lpips,
)
from vemcompress.networks.lpips import LPIPS
from vemcompress.system.files import sha256_file
from vemcompress.weights.safe import read_state

VGG16_URL = VGG16_Weights.IMAGENET1K_V1.url
VGG16_SHA256 = "397923af"  # its first digits, as in the file's name
_TIMEOUT_SECONDS, _CONTACT_SECONDS = 30.0, 5.0


def load_features(name: str, weights: str | Path | None, table: str = "algorithm") -> FeatureNetwork | LPIPS | None:
    """`vgg16`, `squeezenet1_1` or `squeezenet1_1_caffe` with weights, or None for `none`.

    "lpips" before a name gives the LPIPS distance; "perceptual" before the Caffe network, for which LPIPS has no linear
    layers, gives the distance without them. `table` is the recipe's table with these settings. Raises RecipeError if
    weights are needed and not given, InputError if they do not fit, and NetworkError if VGG's cannot be downloaded.
    """
    if name == "none":
        return None
    which = name.rpartition(" ")[2]
    check_given(which, weights, table)
    network = random_features(name)
    _fill(network.trunk if isinstance(network, LPIPS) else network, which, weights, table)
    return network


def random_features(name: str) -> FeatureNetwork | LPIPS:
    """The network that `load_features` fills, with new weights."""
    kind, _, network = name.rpartition(" ")
    if kind:
        trunk = vgg16_lpips() if network == "vgg16" else squeezenet_lpips(caffe=network.endswith("caffe"))
        return LPIPS(trunk, _linear_layers(network) if kind == "lpips" else None)
    return vgg16_features() if name == "vgg16" else squeezenet_features(caffe=name.endswith("caffe"))


def distance_name(features: str) -> str:
    """The name of the distance on these features in `load_features` and in results: LPIPS only with linear layers."""
    if features == "none":
        return features
    return f"{'perceptual' if features.endswith('caffe') else 'lpips'} {features}"


def _linear_layers(name: str) -> list[Tensor]:
    """LPIPS' weights by channel for each map, from the package `lpips`."""
    file = "vgg.pth" if name == "vgg16" else "squeeze.pth"
    with as_file(files("lpips") / "weights" / "v0.1" / file) as path:
        tensors = read_state(path).tensors
    return [tensors[f"lin{n}.model.1.weight"] for n in range(len(tensors))]


def check_given(name: str, weights: str | Path | None, table: str = "algorithm") -> None:
    """Raises RecipeError for a feature network whose weights are neither given nor downloadable."""
    if weights is None and name not in ("none", "vgg16"):
        raise RecipeError(f"{table}.features {name}: needs {table}.features_weights, a path to its weights.")


def _fill(network: FeatureNetwork, name: str, weights: str | Path | None, table: str) -> None:
    if weights is None:
        remedy = (
            f"give the file with --set {table}.features_weights=PATH. Or continue without VGG16: --set "
            f"{table}.features=none, or squeezenet1_1 with its own features_weights"
        )
        weights = downloaded(VGG16_URL, VGG16_SHA256, what="VGG16's weights", remedy=remedy)
    fill_trunk(network, read_state(weights).tensors, name, weights)


def fill_trunk(network: FeatureNetwork, tensors: dict[str, Tensor], name: str, weights: str | Path | None) -> None:
    """Load the tensors, with or without torchvision's `features.` prefix. Raises InputError with the first that does
    not fit; `weights` is the file's name.
    """
    trunk = {k.removeprefix("features."): v for k, v in tensors.items()}
    for key, value in network.layers.state_dict().items():
        if key not in trunk or trunk[key].shape != value.shape:
            seen = f"{tuple(trunk[key].shape)} instead of {tuple(value.shape)}" if key in trunk else "absent"
            raise InputError(f"{weights}: not the weights of {name}: '{key}' is {seen}; give its state dict.")
        value.copy_(trunk[key].to(torch.float32))


def downloaded(url: str, sha256: str, *, what: str, remedy: str) -> Path:
    """The file in torch.hub's folder, downloaded if missing; its SHA-256 is checked every time.

    `sha256` is the full hash or its first digits. `what` and `remedy` are the start and the end of the error for a
    failed download. A server that does not answer is given up after seconds. Raises NetworkError if the file cannot be
    downloaded or is damaged, OutputError if the folder cannot be created.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "set TORCH_HOME to another folder"
            raise OutputError(f"{path.parent}: cannot be created ({error.strerror}); {hint}.") from error
        try:
            _contact(url)
            with _socket_timeout(_TIMEOUT_SECONDS):
                torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reason = first_line(getattr(error, "reason", error))
            raise NetworkError(
                f"{what} cannot be downloaded ({reason}): download {url} yourself and put it into {path.parent}, or "
                f"{remedy}."
            ) from error
    found = sha256_file(path)
    if not found.startswith(sha256):
        raise NetworkError(
            f"{path}: a damaged download (SHA-256 {found[:8]} instead of {sha256[:8]}); delete it to download it again."
        )
    return path


def _contact(url: str) -> None:
    """Check once whether the server answers. Raises urlopen's errors, and TimeoutError.

    Runs in a thread, because neither name servers nor servers with many addresses respect a time limit.
    """
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            urlopen(Request(url, method="HEAD"), timeout=_CONTACT_SECONDS).close()
        except HTTPError:
            answers.put(None)  # it answers; the download itself reports other errors
        except Exception as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=2 * _CONTACT_SECONDS)
    except queue.Empty:
        error = TimeoutError(f"no answer within {2 * _CONTACT_SECONDS:.0f} seconds")
    if error is not None:
        raise error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set a time limit: torch.hub has none, so a silent network would block the command forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
