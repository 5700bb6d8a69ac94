"""Finds the generator in a checkpoint: wrappers are opened, one of several networks is chosen, prefixes are stripped.

Trainers store generators, discriminators, optimisers and counters in one dict under their own names, or in one state
dict whose names begin with the network's. A generator is recognised by its name, or else by its layout.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vemcompress.errors import InputError
from vemcompress.weights.pickles import Inert

Tensors = dict[str, Tensor]

# G, netG, gen, generator; one direction of two: G_A, genA2B, netG_AB; with what was saved of it, before or after its
# name: netG_state_dict, state_dict_G, g_ema.
_WAY = r"(_?(?P<way>a|b|ab|ba|a2b|b2a|atob|btoa|a_to_b|b_to_a|x|y|xy|yx|h|z|f|[1-4]))?"
_SAVED = r"(_?(state|state_?dict|weights?|params|model|net|network))?"
_GENERATOR = re.compile(
    rf"((state_?dict|params|ema)_)?((net|model)_?)?(g|gen|generators?){_WAY}(_ema)?{_SAVED}(_ema)?", re.IGNORECASE
)
_AVERAGE = re.compile(r"(.+_)?ema(_.+)?", re.IGNORECASE)
_BACK = ("b", "ba", "b2a", "btoa", "b_to_a", "y", "yx", "z", "f", "2", "3", "4")  # not the first of several directions
_ANY = ("params", "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "module")
_DISCRIMINATOR = re.compile(
    rf"((state_?dict|params|ema)_)?((net|model)_?)?(d|dis|disc|.*discrim.*|.*critic.*){_WAY}(_.*)?", re.I
)
_OTHER = re.compile(
    r"opt|.*(optim|sched|scaler|loss|criterion|vgg|lpips|percep|callback|metric|fid|inception).*", re.IGNORECASE
)

_PREFIXES = ("module", "_orig_mod", "net", "network")  # besides generators' names
_COUNTERS = ("total_ops", "total_params", "n_averaged")  # left behind by thop and by AveragedModel
_BESIDE = ("latent_avg",)  # the mean of StyleGAN2's w, stored beside its weights
_DEEPEST = 8


@dataclass(frozen=True)
class Unwrapped:
    """A generator's tensors, the wrappers that were opened to find them, and the prefix stripped from all names.

    If the file has several generators, `key` is the name of this one, and `others` are the rest. If one state dict held
    several networks, `whole` has the tensors of all. `beside` holds tensors stored beside a network that belong to it.
    """

    tensors: Tensors
    taken: tuple[str, ...] = ()
    prefix: str = ""
    key: str = ""
    others: tuple[str, ...] = ()
    whole: Tensors | None = None
    beside: Tensors = field(default_factory=dict)


def unwrap(value: Any, source: str, key: str | None, known: Callable[[Tensors], bool]) -> Unwrapped:
    """The generator in a file's content: the one named `key`, or the most likely one. `known` tells whether tensors
    have a known layout. Raises InputError (4), also for a `key` that does not exist.
    """
    found, taken, beside = _Choice(key), [], {}
    memo: dict[int, bool] = {}
    for _ in range(_DEEPEST):
        value = _only(value, memo)
        if not isinstance(value, Mapping):
            raise InputError(f"{source}: holds a {type(value).__name__}, not a state dict: save generator.state_dict()")
        inner = {name: _only(item, memo) for name, item in value.items() if isinstance(name, str)}
        networks = {name: item for name, item in inner.items() if isinstance(item, Mapping) and _full(item, memo)}
        bare = any(isinstance(item, Tensor) for item in value.values())
        name = found.among(networks, None if bare else known, source)
        if name is None:
            break
        taken.append(name)
        beside |= {n: item for n, item in value.items() if n in _BESIDE and isinstance(item, Tensor)}
        value = networks[name]
    else:
        raise InputError(f"{source}: is nested too deeply: save generator.state_dict() alone")
    tensors = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
    if not tensors:
        raise InputError(f"{source}: holds no tensors, but {_seen(value)}")
    tensors, prefix = strip_prefixes(tensors)
    whole, parts, before = tensors, _parts(tensors), prefix
    wanted = key if found.open else None
    while len(parts) == 1 and _beside_others(below := _parts(next(iter(parts.values()))), wanted):
        parts, before = below, f"{before}{next(iter(parts))}."
    split = _beside_others(parts, wanted)
    if split:
        name = found.among(parts, None, source)
        taken.append(name)
        tensors, prefix = strip_prefixes(parts[name])
        prefix = f"{before}{name}.{prefix}"
    found.check(source)
    return Unwrapped(tensors, tuple(taken), prefix, found.chosen, found.others, whole if split else None, beside)


class _Choice:
    """The choice among several networks: the requested one, or the most likely generator."""

    def __init__(self, key: str | None):
        self.key, self.open = key, key is not None
        self.chosen, self.others = "", ()

    def among(self, networks: Mapping[str, Any], known: Callable[[Tensors], bool] | None, source: str) -> str | None:
        """The name to continue with, or None. Networks with unknown names are only considered if `known` recognises
        their layouts.
        """
        generators = sorted((name for name in networks if _likeness(name) is not None), key=_likeness)
        generators = [name for name in generators if "param_groups" not in networks[name]]
        name = generators[0] if generators else None
        asked = self.open and self.key in networks
        if asked:
            name, self.open = self.key, False
        elif name is None and known is not None:
            name = _only_generator(networks, known, source)
        others = tuple(other for other in generators if other != name)
        if asked or (others and not self.chosen):
            self.chosen, self.others = name, others
        return name

    def check(self, source: str) -> None:
        """Raises InputError if the requested network does not exist."""
        if self.open:
            there = f"has {', '.join((self.chosen, *self.others))}" if self.chosen else "has only one generator"
            raise InputError(
                f"{source}: has no network {self.key!r:.80} (--teacher-key), it {there}: give another name"
            )


def _is(kind: re.Pattern, name: str) -> re.Match | None:
    """Whether a network's name is of this kind. Long names, which take long to match, and unprintable ones are
    excluded; no trainer uses them.
    """
    return kind.fullmatch(name) if len(name) < 100 and name.isprintable() else None


def _likeness(name: str) -> tuple[bool, bool, bool] | None:
    """A sort key for names that a generator can have, the most likely first; None for other names."""
    if _is(_DISCRIMINATOR, name) or _is(_OTHER, name):
        return None
    average = _is(_AVERAGE, name) is not None
    named = _is(_GENERATOR, name)
    if not (average or named or name.lower() in _ANY):
        return None
    # Papers evaluate the average of the weights, so it comes first.
    return not average, named is None, named is not None and (named["way"] or "").lower() in _BACK


def _only_generator(networks: Mapping[str, Any], known: Callable[[Tensors], bool], source: str) -> str | None:
    """The only network that may be a generator; of several, the one with a known layout. Raises InputError."""
    names = [n for n in networks if not _is(_DISCRIMINATOR, n) and not _is(_OTHER, n)]
    names = [n for n in names if "param_groups" not in networks[n]]
    if len(names) > 1:
        fits = [n for n in names if known({str(k): t for k, t in networks[n].items() if isinstance(t, Tensor)})]
        if len(fits) != 1:
            listed = ", ".join(f"{n if n.isprintable() else ascii(n):.40}" for n in (fits or names)[:8])
            raise InputError(f"{source}: holds several networks, {listed}: name the generator with --teacher-key NAME")
        names = fits
    return names[0] if names else None


def _beside_others(parts: Mapping[str, Tensors], key: str | None) -> bool:
    """Whether parts of a state dict are separate networks, including a generator."""
    generators = [name for name in parts if _is(_GENERATOR, name)]
    strangers = [name for name in parts if _is(_DISCRIMINATOR, name) or _is(_OTHER, name)]
    return bool(generators and (strangers or len(generators) > 1)) or (len(parts) > 1 and key in parts)


def _parts(tensors: Tensors) -> dict[str, Tensors]:
    """The tensors grouped by the first part of their names."""
    parts: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            parts.setdefault(first, {})[rest] = tensor
    return parts


def strip_prefixes(tensors: Tensors) -> tuple[Tensors, str]:
    """The tensors without counters and without the prefixes that all names share; and the stripped prefix."""
    tensors = {name: t for name, t in tensors.items() if name.rpartition(".")[2] not in _COUNTERS}
    stripped = ""
    while tensors:
        prefix = f"{next(iter(tensors)).partition('.')[0]}."
        known = prefix[:-1] in _PREFIXES or _is(_GENERATOR, prefix[:-1])
        if not known or not all(name.startswith(prefix) and name != prefix for name in tensors):
            break
        tensors = {name[len(prefix) :]: t for name, t in tensors.items()}
        stripped += prefix
    return tensors, stripped


def _only(value: Any, memo: dict[int, bool]) -> Any:
    """The only state dict in a short list; anything else unchanged."""
    if not isinstance(value, list | tuple) or len(value) > 32:
        return value
    dicts = [item for item in value if isinstance(item, Mapping) and _full(item, memo)]
    return dicts[0] if len(dicts) == 1 else value


def _full(value: Mapping, memo: dict[int, bool], depth: int = _DEEPEST) -> bool:
    """Whether there is a tensor in a dict, or in a nested one. Each dict is visited once, however often it is
    referenced.
    """
    if id(value) not in memo:
        memo[id(value)] = False
        memo[id(value)] = any(
            isinstance(item, Tensor) or (isinstance(item, Mapping) and depth > 0 and _full(item, memo, depth - 1))
            for item in value.values()
        )
    return memo[id(value)]


def _seen(value: Mapping) -> str:
    names = ", ".join(f"{name!r:.40}" for name in list(value)[:5]) or "nothing"
    if any(isinstance(item, Inert) for item in value.values()):
        return f"{names}, NumPy values: save torch tensors, generator.state_dict()"
    return f"{names}: save it under one of g_ema, G, netG, generator, state_dict, or bare"
