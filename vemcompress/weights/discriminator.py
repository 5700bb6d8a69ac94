"""Discriminators in files: our own form, and the published ones."""

import json
from pathlib import Path

from pydantic import ValidationError

import vemcompress
from vemcompress.errors import InputError
from vemcompress.networks.discriminators import (
    DISCRIMINATORS,
    STAGES,
    Discriminator,
    DiscriminatorConfig,
    SharedPatchGANConfig,
    build_discriminator,
    parse_discriminator_config,
)
from vemcompress.weights.layouts import Mismatch, assemble, convert
from vemcompress.weights.published.discriminators import PATCHGAN, PIXELGAN, is_shared_patchgan, shared_patchgan
from vemcompress.weights.recognise import hint
from vemcompress.weights.safe import State, read_state
from vemcompress.weights.tensors import safetensors_bytes

# Not a generator's "vemcompress", so that a discriminator given as a teacher is said to be one.
FORMAT = "vemcompress-discriminator"


def discriminator_metadata(discriminator: Discriminator) -> dict[str, str]:
    """What a .safetensors file of its state dict must say for `load_discriminator` to rebuild it."""
    config = discriminator.config
    return {
        "format": FORMAT,
        "vemcompress": vemcompress.__version__,
        "family": config.family,
        "config": config.model_dump_json(),
    }


def discriminator_bytes(discriminator: Discriminator, extra: dict[str, str] | None = None) -> bytes:
    """The content of such a file; `extra` joins its metadata under names that are not taken."""
    return safetensors_bytes(discriminator.state_dict(), (extra or {}) | discriminator_metadata(discriminator))


def load_discriminator(path: str | Path, expected: DiscriminatorConfig | None = None) -> Discriminator:
    """A discriminator (float32, CPU, eval mode) from our own file or a published `n_layers`, `pixel` or
    `multi_n_layers` state dict.

    `expected` is the Config that it must have. A published `multi_n_layers` file needs it, for its `n_share`. Raises
    InputError (4) for files that are unreadable or unsafe, are no discriminator, or do not fit.
    """
    source = str(path)
    state = read_state(path)
    ours = state.metadata.get("format") == FORMAT
    network = _rebuild(state, source) if ours else _published(state, source, expected)
    if expected is not None:
        _check_fit(network.config, expected, source)
    return network


def _rebuild(state: State, source: str) -> Discriminator:
    try:
        config = parse_discriminator_config(json.loads(state.metadata["config"]))
        return assemble(config, state.tensors, build=build_discriminator)
    except ValidationError as error:
        reason = f"its config is not valid ({error.errors()[0]['msg']})"
    except (KeyError, ValueError, RecursionError):
        reason = "its metadata has no readable config"
    except Mismatch as error:
        reason = f"its tensors do not fit its config: {error}"
    raise InputError(f"{source}: damaged discriminator, {reason}: make or download it again")


def _published(state: State, source: str, expected: DiscriminatorConfig | None) -> Discriminator:
    tensors = state.tensors
    if is_shared_patchgan(tensors):
        if expected is None:
            raise InputError(
                f"{source}: is OMGD's discriminator for two teachers, which does not say how many stages they share: "
                "give the expected shared_patchgan with its n_share (5 for published U-Nets)"
            )
        # Where another family is expected, the fit is refused next.
        n_share = expected.n_share if isinstance(expected, SharedPatchGANConfig) else STAGES
        return convert(shared_patchgan(n_share), tensors, source)
    for layout in (PATCHGAN, PIXELGAN):
        if layout.matches(tensors):
            return convert(layout, tensors, source)
    family = state.metadata.get("family")
    what = f"a {family:.40} generator" if state.metadata.get("format") and family else _seen(state)
    raise InputError(
        f"{source}: not a discriminator we know, but {what}: give one of {', '.join(DISCRIMINATORS)}, or leave it out "
        "to start a new one"
    )


def _seen(state: State) -> str:
    first = next(iter(state.tensors))
    return f"{len(state.tensors)} tensors, first {state.prefix + first!r:.80}{hint(state.tensors)}"


def _check_fit(found: DiscriminatorConfig, expected: DiscriminatorConfig, source: str) -> None:
    """One sentence on the first setting that differs."""
    for name in ("family", *type(expected).model_fields):
        mine, wanted = getattr(found, name), getattr(expected, name)
        if mine != wanted:
            raise InputError(
                f"{source}: does not fit, its {name} is {mine} and should be {wanted}: give another discriminator, or "
                "change the recipe to this one"
            )
