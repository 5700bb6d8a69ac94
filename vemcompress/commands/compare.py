"""`compare`: one table of runs that were evaluated under the same conditions, with their cost and their quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vemcompress.commands.compared import Group, Member, groups
from vemcompress.commands.comparison_files import write_csv, write_png
from vemcompress.commands.comparison_rows import Networks, Row, order, row_of, teacher_row, with_fronts
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.given_images import Data, for_now
from vemcompress.commands.kept_evaluation import KeptEvaluation
from vemcompress.commands.line import Reported
from vemcompress.commands.progress import shows_progress
from vemcompress.data.machine import cores
from vemcompress.errors import InputError, UsageError
from vemcompress.evaluation import Evaluation
from vemcompress.evaluation.choose import METRICS
from vemcompress.evaluation.conditions import difference
from vemcompress.runs.best import look
from vemcompress.system.events import Event, Once, silent
from vemcompress.system.files import check_target, sha256_file
from vemcompress.system.keys import Overrides, as_overrides

CONVENTIONS = ("true", "paper", "paper_norm")


@dataclass(frozen=True)
class CompareResult(Reported):
    """The rows, sorted by the metric `by`, the best first. `teacher` is the teacher's row, if all runs have the same
    teacher.

    MACs are counted by `convention`, for images of `size` px. `conditions` hold for all figures. `protocol` says how
    each metric was measured, and `left_out` why a metric is missing. Latency was measured with `threads` threads.
    """

    rows: tuple[Row, ...]
    teacher: Row | None
    by: str
    higher_is_better: bool
    convention: str
    size: int
    images: int
    threads: int | None
    conditions: dict
    protocol: dict[str, str]
    left_out: dict[str, str]
    csv: str | None = None
    png: str | None = None


@shows_progress
def compare(
    runs: Sequence[str | Path],
    *,
    seeds: bool = False,
    by: str | None = None,
    count_as: str = "true",
    latency: bool = True,
    threads: int | None = None,
    csv: str | Path | None = None,
    png: str | Path | None = None,
    data: Data = None,
    split: str | None = None,
    overrides: Overrides = (),
    segmenter: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    real: str | Path | Sequence[str | Path] | None = None,
    samples: int | None = None,
    inception: str | Path | None = None,
    features: str | None = None,
    features_weights: str | Path | None = None,
    size: int | None = None,
    batch: int | None = None,
    device: str = "auto",
    on_event: Event = silent,
    progress: bool = False,
) -> CompareResult:
    """Compare runs in one table: cost and quality of each, under the same conditions.

        table = vemcompress.compare(["runs/omgd", "runs/cat"], png="compare.png")

    The evaluation stored in a run folder is used. A run is evaluated again if it has none, or one with other
    settings.

    Arguments:
        runs: run folders, pipelines (their last student), folders of several seeds (one row each, with mean
            and spread) or of a matrix (all of its finished runs).
        seeds: put runs that differ only in the seed into one row.
        by: the metric to sort by: by default FID, else a Frechet distance, else the SSIM to the teacher.
        count_as: how MACs are counted: "true", "paper" or "paper_norm".
        latency: also measure the latency of each network, on the CPU.
        threads: number of threads for the latency; all cores by default.
        csv: a file to write the table to.
        png: a file to write a plot of quality against MACs to.
        data, split, overrides, segmenter, metrics, real, samples, inception, features, features_weights, size,
            batch, device: as for `evaluate`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        CompareResult: `rows`, the best first, each with `macs`, `parameters`, `p50_ms` and `metrics`;
        `teacher`, if all runs have the same one; `left_out` says why a metric is missing.

    Raises:
        UsageError if runs were evaluated under different conditions or trained on different data; the
        other classes of `vemcompress.errors`.
    """
    for path, example in ((csv, "table.csv"), (png, "table.png")):
        if path is not None:
            check_target(path, example)
    if count_as not in CONVENTIONS:
        raise UsageError(f"MACs cannot be counted as {count_as!r}; choose from {', '.join(CONVENTIONS)}.")
    if by is not None and by not in METRICS:
        raise UsageError(f"metric {by!r} is not known; the known ones are {', '.join(METRICS)}.")
    told = Once(on_event)
    rows = groups([runs] if isinstance(runs, str | Path) else runs, seeds, told)
    if data is None:
        _check_trained(rows)
    asked = {"split": split, "overrides": as_overrides(overrides), "segmenter": segmenter, "metrics": metrics}
    asked |= {"real": real, "samples": samples, "inception": inception, "features": features}
    asked |= {"features_weights": features_weights, "size": size}
    with for_now(data, told) as roots:
        asked = {key: value for key, value in (asked | {"data": roots}).items() if value}
        found = _evaluations(rows, asked, {"batch": batch, "device": device}, told)
    _check_alike(rows, found)
    columns, left_out = _columns(rows, found, metrics, told)
    by = _chosen(by, columns, left_out)
    first, higher = found[0][0], METRICS[by].higher
    networks = Networks(first.size, count_as)
    table = [row_of(group, several, columns, networks) for group, several in zip(rows, found, strict=True)]
    teacher = teacher_row(rows[0].members[0], found, columns, networks, told)
    threads = (threads or cores()) if latency else None
    if threads:
        table, teacher = networks.timed(table, teacher, threads, told)
    result = CompareResult(
        tuple(sorted(with_fronts(table, by, higher), key=lambda row: order(row, by, higher))),
        teacher,
        by,
        higher,
        count_as,
        first.size,
        first.images,
        threads,
        first.conditions,
        {name: told for several in found for one in several for name, told in one.protocol.items() if name in columns},
        left_out,
        csv and str(csv),
        png and str(png),
    )
    if csv is not None:
        write_csv(Path(csv), result)
    if png is not None:
        write_png(Path(png), result)
    return result


def _check_trained(rows: Sequence[Group]) -> None:
    """Raises UsageError if two runs were trained on different folders. Runs on latent vectors have none."""
    members = [member for group in rows for member in group.members if member.roots]
    for member in members[1:]:
        if member.roots != members[0].roots:
            one, other = (", ".join(of.roots[:2]) for of in (members[0], member))
            raise UsageError(
                f"{members[0].folder} and {member.folder}: were trained on different data ({one}, and {other}); give "
                "the same test images for all runs with --data DIR."
            )


def _evaluations(rows: Sequence[Group], asked: dict, how: dict, on_event: Event) -> list[list[Evaluation]]:
    """The evaluation of every run of every row: the stored one, or a new one."""
    members = [member for group in rows for member in group.members]
    found = {}
    for number, member in enumerate(members, 1):
        kept = None if asked else _kept(member, on_event)
        if kept is None:
            on_event({"event": "stage", "title": f"evaluating {member.folder} ({number} of {len(members)})"})
            kept = evaluate(member.run.path, reuse=True, on_event=on_event, **asked, **how)
        found[id(member)] = kept
    return [[found[id(member)] for member in group.members] for group in rows]


def _kept(member: Member, on_event: Event) -> Evaluation | None:
    network = member.run.artifact(look(member.run.path).name)
    return KeptEvaluation(member.run, sha256_file(network)).read(on_event)


def _check_alike(rows: Sequence[Group], found: Sequence[Sequence[Evaluation]]) -> None:
    """Raises UsageError if the runs were evaluated under different conditions, and InputError if the runs of one row
    have different numbers of steps."""
    members = [member for group in rows for member in group.members]
    flat = list(zip(members, (one for ones in found for one in ones), strict=True))
    for place, (member, one) in enumerate(flat):
        for other, another in flat[:place]:
            if differ := difference(another.conditions, one.conditions):
                what, first, second, advice = differ
                raise UsageError(
                    f"{other.folder} and {member.folder}: were evaluated on {what} ({first}, and {second}); {advice}."
                )
    for group, ones in zip(rows, found, strict=True):
        if len(steps := {one.step for one in ones}) > 1:
            told = ", ".join(map(str, sorted(steps, key=str)))
            raise InputError(f"{group.path}: its runs are at different steps ({told}); finish all of them first.")


def _columns(
    rows: Sequence[Group], found: Sequence[Sequence[Evaluation]], wanted: Sequence[str] | None, on_event: Event
) -> tuple[list[str], dict[str, str]]:
    """The metrics that can be compared, and why others cannot. Raises UsageError if there are none."""
    flat = [one for several in found for one in several]
    columns = [name for name in METRICS if any(name in one.metrics for one in flat) and name in (wanted or METRICS)]
    left_out = {name: why for one in flat for name, why in one.skipped.items() if name not in columns}
    teachers = {one.conditions["teacher"]["sha256"] for one in flat if one.conditions["teacher"]}
    if len(teachers) > 1:
        why = f"the runs have {len(teachers)} different teachers, so their figures cannot be compared"
        left_out |= {name: why for name in columns if METRICS[name].needs.teacher}
    columns = [name for name in columns if name not in left_out]
    if not columns:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or "none was computed for all"
        raise UsageError(f"no metric can be compared: {reasons}.")
    for name in columns:
        if missing := [
            group.name for group, ones in zip(rows, found, strict=True) if any(name not in one.metrics for one in ones)
        ]:
            message = f"{name} is missing for {', '.join(missing)}; compute it with --metric {name}."
            on_event({"event": "warning", "message": message})
    return columns, left_out


def _chosen(by: str | None, columns: Sequence[str], left_out: dict[str, str]) -> str:
    """The metric to sort by. Raises UsageError if the runs do not have it."""
    if by is None:
        usual = ["fid", *(name for name in columns if name.startswith("frechet")), "ssim_teacher", *columns]
        return next(name for name in usual if name in columns)
    if by not in columns:
        why = f" ({left_out[by]})" if by in left_out else f", compute it with --metric {by}"
        raise UsageError(f"--by {by}: these runs have no such metric{why}; choose from {', '.join(columns)}.")
    return by
