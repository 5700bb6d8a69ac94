"""Numbers, sizes, times and scores as text."""

import shlex
from collections.abc import Callable

from vemcompress.system.quantities import size_text, time_text

COSTS = {"macs": "MACs", "latency": "latency"}


def plain(value) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def millions(count: int) -> str:
    return f"{count / 1e6:.3f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def times_fewer(ratio: float) -> str:
    return f"{ratio:.1f} times fewer" if ratio >= 1 else f"{1 / ratio:.1f} times more"


def macs(network: dict) -> str:
    return f", {giga(network['macs']['true'])} MACs" if network["macs"] else ""


def losses(values: dict[str, float], main: list[str]) -> list[tuple[str, str]]:
    """Names and values of the important losses: the sum of the `main` terms, then these terms."""
    if not main:
        return []
    found = {"loss": sum(values[name] for name in main), **{name: values[name] for name in main}}
    return [(name, f"{value:.3g}") for name, value in found.items()]


def giga(count: int) -> str:
    return f"{count / 1e9:.3f} G" if count >= 1e8 else f"{count / 1e6:.1f} M"


def size(count: int) -> str:
    """Bytes."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def thousands(count: int | None) -> str:
    """Bytes as kB, "-" if unknown."""
    return "-" if count is None else f"{count / 1000:,.0f}"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def steps_of(run: dict) -> str:
    return f"{run['steps']} of {run['total_steps']}" if run["stopped"] else f"{run['steps']}"


def goal(found: dict) -> tuple[str, str]:
    """A goal for latency or size, and how well it is met: a title and a line."""
    shown = time_text if found["unit"] == "ms" else size_text
    target, predicted, measured = (shown(found[key]) for key in ("target", "predicted", "measured"))
    before = f" of {shown(found['before'])}" if "before" in found else ""
    where = ""
    if "runtime" in found:
        threads = plural(found["threads"], "thread")
        where = f"; {found['runtime']} {found['version']}, {threads}, {found['machine']}"
    told = f"{measured} measured{before}, target {target}, predicted {predicted} ({100 * found['error']:+.1f} %){where}"
    return ("latency" if found["goal"] == "latency" else ".onnx file"), told


def stopped(run: dict) -> str:
    """The option that stopped a run."""
    return f"by --{run['stopped'].replace('_', '-')}, after saving"


def resume(run: dict, command: str = "distill") -> str:
    """The command that continues a run."""
    return shlex.join(["vemcompress", command, "--resume", run["run"]])


def add_on(share: float) -> str:
    """An add-on's share of the gradient, with what it is a share of."""
    return f"{100 * share:.2g} % of the gradient at the student's image (median of the logged steps)"


def spread(found: dict | None, shown: Callable[[float], str]) -> str:
    """Mean ± sample std (n). The std is omitted for a single value, and for equal values, such as those of one frozen
    teacher."""
    if found is None:
        return ""
    return shown(found["mean"]) + (f" ± {shown(found['std'])}" if found["std"] else "") + f" ({found['n']})"


def score(name: str, value: float | None) -> str:
    """A score as papers print it: percentages with two decimals."""
    digits = 2 if name in ("miou", "pixel_accuracy") else 4
    return "" if value is None else f"{value:.{digits}f}"


def which_images(on: str) -> str:
    kinds = {"test": "the test images", "training": "the training images"}
    kinds |= {"vectors": "latent vectors that are not used in training"}
    return kinds.get(on, "held-out training images")


def hundredths(value) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"
