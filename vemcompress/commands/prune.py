"""From a generator to a smaller one: its best channels by a pruning method, under a budget of MACs."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vemcompress.commands.inspect import check_size, cost_of
from vemcompress.errors import UsageError
from vemcompress.networks.base import Generator, count_parameters
from vemcompress.networks.cost import Cost
from vemcompress.pruning import PRUNERS, Pruner
from vemcompress.pruning.budget import prune_network
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.files import check_target, write_atomically
from vemcompress.weights.hub import is_hub
from vemcompress.weights.loading import Loaded, load, weights_of

CONVENTIONS = tuple(Cost().macs())


@dataclass(frozen=True)
class PruneResult:
    """The file, and what is in it. `before` and `after` have `parameters` and `macs` at `size`; `widths` gives of each
    channel group how many channels were kept and how many there were."""

    out: str
    method: str
    family: str
    target: int
    convention: str
    size: int
    before: dict
    after: dict
    widths: dict[str, tuple[int, int]]

    def as_dict(self) -> dict:
        """For --json."""
        return asdict(self)


def prune(
    model: str | Path,
    *,
    target_macs: int,
    out: str | Path,
    method: str = "l1",
    size: int = 256,
    convention: str = "true",
    seed: int = 0,
    least: int | None = None,
    teacher_class: str | None = None,
    on_event: Callable[[dict], None] = lambda event: None,
) -> PruneResult:
    """Write to `out` the network of `model` with at most `target_macs` MACs on an image of `size` x `size` pixels.

    `model` is a weight file, a run folder or `hf://...`. MACs are counted by `convention` ("true", "paper" or
    "paper_norm"). `seed` is that of "random"; `least` the channels that each group keeps outside residual blocks, the
    method's own where it is None. A network of `teacher_class` needs the class again when the file is loaded.

    Raises UsageError (2: unknown method, a target that cannot be), InputError (4) and OutputError (9); an earlier
    `out` is then intact.
    """
    pruner = _pruner(method, seed, least)
    if convention not in CONVENTIONS:
        raise UsageError(f"MACs are counted as {', '.join(CONVENTIONS)}; not as {convention!r}.")
    loaded = load(model, class_path=teacher_class)
    check_size(loaded, size, size)
    network, target_macs = loaded.generator, int(target_macs)
    check_target(out, "small.safetensors")
    if not is_hub(str(model)) and Path(out).resolve() == weights_of(Path(model)).resolve():
        raise UsageError(f"{out}: is the model itself, which would be lost; give another name.")
    small, kept = prune_network(network, pruner, target_macs, size, size, convention)
    before, after = (_described(n, size) for n in (network, small))
    widths = {group.name: (len(kept[group.name]), group.size) for group in network.groups()}
    write_atomically(out, _content(small, loaded, method, target_macs, convention, size))
    on_event({"event": "pruned", "path": str(out)})
    return PruneResult(str(out), method, network.family, target_macs, convention, size, before, after, widths)


def _pruner(method: str, seed: int, least: int | None) -> Pruner:
    if method not in PRUNERS:
        raise UsageError(f"no pruning method {method!r}; there are {', '.join(PRUNERS)}.")
    if least is not None and least < 1:
        raise UsageError(f"least {least}: keep at least 1 channel.")
    cls = PRUNERS[method]
    given = {"seed": seed if "seed" in cls.Settings.model_fields else None, "least": least}
    return cls(cls.Settings(**{name: value for name, value in given.items() if value is not None}))


def _described(network: Generator, size: int) -> dict:
    return {"parameters": count_parameters(network), "macs": cost_of(network, size, size).macs()}


def _content(small: Generator, loaded: Loaded, method: str, target: int, convention: str, size: int) -> bytes:
    how = {"method": method, "target_macs": target, "convention": convention, "size": size}
    extra = {"pruned": json.dumps(how)}
    return artifact_bytes(small, teacher=loaded.provenance(), extra=extra)
