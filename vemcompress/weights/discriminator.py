"""Discriminators in files: this project's own format, and published layouts.

Published layouts are PatchGAN and its 1x1 form from junyanz/pytorch-CycleGAN-and-pix2pix, and OMGD's for two teachers.
`n_layers`: one Sequential `model` with convolutions at 0, 2, 5, 8, ..., all but the first and the last followed by
their norm. `pixel`: a Sequential `net`, convolutions at 0, 2 and 5, norm at 3. `multi_n_layers`: `block1s` to
`block5s`, each with copies 0 and 1 of a Sequential `block`, convolution at 0 and norm at 1. Those of latent generators
are in `published.latent_discriminators`.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import vemcompress
from vemcompress.errors import InputError, UsageError
from vemcompress.networks.discriminators import (
    DISCRIMINATORS,
    STAGES,
    Discriminator,
    DiscriminatorConfig,
    PatchGANConfig,
    PixelGANConfig,
    SharedPatchGANConfig,
    build_discriminator,
    parse_discriminator_config,
)
from vemcompress.weights.format import safetensors_bytes
from vemcompress.weights.layouts import Layout, Mismatch, Read, Tensors, convert, has, norm_of, rebuild, renamed, shape
from vemcompress.weights.published.latent_discriminators import LATENT
from vemcompress.weights.published.stylegan2 import DISCRIMINATOR
from vemcompress.weights.recognise import hint
from vemcompress.weights.safe import State, read_state

# Different from a generator's "vemcompress", so that a discriminator given as a teacher is recognised as one.
FORMAT = "vemcompress-discriminator"
_MODULE = re.compile(r"model\.(\d+)\.weight")
_IS_SHARED = has("block1s.0.block.0.weight", "block5s.1.block.0.weight")  # OMGD's for two teachers
_PIXEL = ("0", "2", "5")  # without `net.`, the common prefix that reading removes


def discriminator_metadata(discriminator: Discriminator) -> dict[str, str]:
    """The metadata that a .safetensors file of its state dict needs for `load_discriminator` to rebuild it."""
    config = discriminator.config
    return {
        "format": FORMAT,
        "vemcompress": vemcompress.__version__,
        "family": config.family,
        "config": config.model_dump_json(),
    }


def discriminator_bytes(discriminator: Discriminator, extra: dict[str, str] | None = None) -> bytes:
    """The content of such a file; `extra` is added to its metadata under names that are not used yet."""
    return safetensors_bytes(discriminator.state_dict(), (extra or {}) | discriminator_metadata(discriminator))


def load_discriminator(path: str | Path, expected: DiscriminatorConfig | None = None) -> Discriminator:
    """A discriminator (float32, CPU, eval mode) from this project's own file or a published `n_layers`, `pixel` or
    `multi_n_layers` state dict.

    `expected` is the Config that it must have. A published `multi_n_layers` file needs it, for its `n_share`. Raises
    InputError (4) for files that are unreadable or unsafe, are not a discriminator, or do not fit.
    """
    source = str(path)
    state = read_state(path)
    if state.taken and not any(layout.matches(state.tensors) for layout in _LAYOUTS):
        for key in ("D", "d"):  # GCC's and rosinality's files hold both networks; by default the generator is read
            with suppress(InputError, UsageError):
                state = read_state(path, key=key)
                break
    if state.metadata.get("format") == FORMAT:
        given = state.tensors, state.metadata, source, "discriminator", parse_discriminator_config
        network = rebuild(*given, build=build_discriminator)
    else:
        network = _published(state, source, expected)
    if expected is not None:
        _check_fit(network.config, expected, source)
    return network


def beside_generator(path: Path) -> Path | None:
    """The file of the discriminator that a generator was trained against: the same file if it holds both, as GCC's
    and rosinality's do, or the one in the run that trained it; None if there is none.
    """
    if path.name == "teacher.safetensors" and (beside := path.with_name("discriminator.safetensors")).is_file():
        return beside
    for key in ("D", "d"):
        with suppress(InputError, UsageError):
            read_state(path, key=key)
            return path
    return None


def _published(state: State, source: str, expected: DiscriminatorConfig | None) -> Discriminator:
    tensors = state.tensors
    if _IS_SHARED(tensors):
        if expected is None:
            raise InputError(
                f"{source}: is OMGD's discriminator for two teachers, which does not store how many stages they share: "
                "give the expected shared_patchgan with its n_share (5 for published U-Nets)"
            )
        # If another family is expected, the check below refuses it.
        n_share = expected.n_share if isinstance(expected, SharedPatchGANConfig) else STAGES
        return convert(_shared_patchgan(n_share), tensors, source)
    for layout in _LAYOUTS:
        if layout.matches(tensors):
            return convert(layout, tensors, source)
    family = state.metadata.get("family")
    first = next(iter(tensors))
    what = f"{len(tensors)} tensors, first {state.prefix + first!r:.80}{hint(tensors)}"
    if state.metadata.get("format") and family:
        what = f"a {family:.40} generator"
    raise InputError(
        f"{source}: not a known discriminator, but {what}: give one of {', '.join(DISCRIMINATORS)}, or omit it "
        "for a new one"
    )


def _check_fit(found: DiscriminatorConfig, expected: DiscriminatorConfig, source: str) -> None:
    """Raises InputError with the first setting that differs."""
    for name in ("family", *type(expected).model_fields):
        mine, wanted = getattr(found, name), getattr(expected, name)
        if mine != wanted:
            raise InputError(
                f"{source}: does not fit, its {name} is {mine} and should be {wanted}: give another discriminator, or "
                "change the recipe to this one"
            )


def _read_patchgan(tensors: Tensors) -> Read:
    matches = {name: match for name, tensor in tensors.items() if tensor.dim() == 4 and (match := _MODULE.match(name))}
    found = sorted(int(match[1]) for match in matches.values())
    if len(found) < 3 or found != [0, *range(2, 3 * len(found) - 3, 3)]:
        raise Mismatch(f"its convolutions are at {', '.join(map(str, found))} of model")
    names = {}
    for stage, index in enumerate(found):
        names |= {f"stages.{stage}.conv": f"model.{index}", f"stages.{stage}.norm": f"model.{index + 1}"}
    return PatchGANConfig(layers=len(found) - 2, **_shape(tensors, names, "")), renamed(names)


def _read_pixelgan(tensors: Tensors) -> Read:
    names = {f"stages.{stage}.conv": index for stage, index in enumerate(_PIXEL)} | {"stages.1.norm": "3"}
    return PixelGANConfig(**_shape(tensors, names, "")), renamed(names)


def _shared_patchgan(n_share: int) -> Layout:
    """The layout of OMGD's discriminator for two teachers; the file does not store how many stages they share."""
    names = {}
    for stage in range(STAGES):
        for copy in (0, 1):
            theirs = f"block{stage + 1}s.{copy}.block"
            names |= {f"stages.{stage}.{copy}.conv": f"{theirs}.0", f"stages.{stage}.{copy}.norm": f"{theirs}.1"}

    def read(tensors: Tensors) -> Read:
        return SharedPatchGANConfig(n_share=n_share, **_shape(tensors, names, ".0")), renamed(names)

    return Layout("shared_patchgan", _IS_SHARED, read, **_DISCRIMINATOR)


def _has_kernels(size: int, *names: str) -> Callable[[Tensors], bool]:
    return lambda tensors: all(name in tensors and tensors[name].shape[2:] == (size, size) for name in names)


def _shape(tensors: Tensors, names: dict[str, str], copy: str) -> dict[str, int | str]:
    """The common values of every Config, from the first kernel and the norm of the second stage."""
    width, channels, *_ = shape(tensors, f"{names[f'stages.0{copy}.conv']}.weight")
    norm = norm_of(tensors, names[f"stages.1{copy}.norm"])
    return {"in_channels": channels, "width": width, "norm": norm}


_DISCRIMINATOR = {"build": build_discriminator, "advice": "discriminator alone"}
_PATCHGAN = Layout("patchgan", _has_kernels(4, "model.0.weight", "model.2.weight"), _read_patchgan, **_DISCRIMINATOR)
_PIXELGAN = Layout(
    "pixelgan", _has_kernels(1, *(f"{index}.weight" for index in _PIXEL)), _read_pixelgan, **_DISCRIMINATOR
)
_LAYOUTS = (_PATCHGAN, _PIXELGAN, *LATENT, DISCRIMINATOR)
