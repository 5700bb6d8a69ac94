"""The tables of a run's page: networks side by side, scores with their protocol, the time per step, the environment."""

from statistics import median
from typing import Any

from vemcompress.runs.report.gather import Found, number, part, sentence
from vemcompress.runs.report.markup import Html, join, table, tag
from vemcompress.system.quantities import count_text, size_text, time_text

MACS = {"true": "MACs, true", "paper": "MACs, paper", "paper_norm": "MACs, paper + norm"}
NETWORKS = ("teacher", "supernet", "student")  # listed first, in this order
COLUMNS = {"student": "student", "best": "best checkpoint", "teacher": "teacher", "real": "real images"}


def count(value: Any) -> str:
    """A number of parameters or MACs; a dash for anything else."""
    return "–" if (value := number(value)) is None else count_text(value)


def figure(value: Any) -> str:
    if number(value) is None:
        return "–"
    return f"{value:,}" if type(value) is int else f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def times(big: Any, small: Any) -> str | None:
    """A ratio as text."""
    big, small = number(big), number(small)
    return f"{big / small:.1f} ×" if big and small else None


def networks(environment: dict) -> dict[str, dict]:
    """Tables of environment.json that describe networks, by name: the teacher's first, the student's last."""
    several = {name: of for name, of in part(environment, "networks").items() if isinstance(of, dict)}
    found = several or {name: part(environment, name) for name in NETWORKS if part(environment, name)}
    return dict(list(found.items())[:6])


def compressed(environment: dict) -> Html | None:
    """Families, parameters and MACs side by side; of a teacher and a student, how many times smaller."""
    found = networks(environment)
    if not found:
        return None
    ratio = list(found)[-1] == "student" and len(found) > 1
    first, last = next(iter(found.values())), list(found.values())[-1]

    def row(name: str, values: list, shown: Any) -> list:
        more = [times(values[0], values[-1]) or "–"] if ratio else []
        return [name, *map(shown, values), *more]

    rows = [["family", *(sentence(of.get("family") or "–") for of in found.values()), *([""] if ratio else [])]]
    rows.append(row("parameters", [of.get("parameters") for of in found.values()], count))
    for key, title in MACS.items():
        values = [part(of, "macs").get(key) for of in found.values()]
        if any(number(value) is not None for value in values):
            rows.append(row(title, values, count))
    origin = [("source", "source"), ("licence", "licence"), ("revision", "revision"), ("sha256", "SHA-256")]
    about = [[title, sentence(first[key])] for key, title in origin if first.get(key)]
    goal = part(last, "goal")
    if goal.get("unit") in ("ms", "bytes"):
        rows.append(_goal(goal, len(rows[0])))
    return join(
        [
            table(["", *found, *(["smaller by"] if ratio else [])], rows, class_="figures"),
            tag("details", tag("summary", f"Origin of the {next(iter(found))}"), table([], about)) if about else None,
        ]
    )


def _goal(goal: dict, columns: int) -> list:
    say = time_text if goal["unit"] == "ms" else size_text
    told = [say(value) if (value := number(goal.get(key))) is not None else "–" for key in ("measured", "target")]
    name = "latency" if goal["unit"] == "ms" else "file size"
    return [name, *[""] * (columns - 2), f"{told[0]} measured, target {told[1]}"]


def evaluated(evaluation: dict) -> Html | None:
    """The scores of `eval`, with each score's protocol."""
    given = {"student": part(evaluation, "metrics"), "best": part(evaluation, "best", "metrics")}
    given |= {name: part(evaluation, name) for name in ("teacher", "real")}
    columns = {name: values for name, values in given.items() if values}
    names = list(dict.fromkeys(name for values in columns.values() for name in values))[:40]
    if not names:
        return None
    role = sentence(evaluation.get("role") or "student")
    titles = [role if name == "student" else COLUMNS[name] for name in columns]
    rows = [[name, *(figure(values.get(name)) for values in columns.values())] for name in names]
    protocol = [[name, sentence(told)] for name, told in part(evaluation, "protocol").items()]
    skipped = [[name, sentence(f"not computed: {why}")] for name, why in part(evaluation, "skipped").items()]
    images, size = (figure(evaluation.get(key)) for key in ("images", "size"))
    lead = f"{images} images at {size} px, step {figure(evaluation.get('step'))}; features: "
    about = tag("details", tag("summary", "How each score was computed"), table([], protocol + skipped))
    return join(
        [
            tag("p", lead, sentence(evaluation.get("features") or "none"), class_="soft"),
            table(["", *titles], rows, class_="figures"),
            about if protocol or skipped else None,
        ]
    )


def latency(measured: dict) -> Html | None:
    """The result of `commands.bench`: median and 95th percentile of the time per image, by runtime and model."""
    models = [(name, part(measured, "models", name)) for name in list(part(measured, "models"))[:4]]
    runtimes = list(dict.fromkeys(name for _, model in models for name in part(model, "runtimes")))[:8]
    if not runtimes:
        return None

    def shown(model: dict, runtime: str) -> str:
        found = part(model, "runtimes", runtime)
        return f"{figure(found.get('p50_ms'))} / {figure(found.get('p95_ms'))} ms"

    size = models[0][1].get("size")
    sides = " x ".join(map(figure, size[:2])) if isinstance(size, list) else "–"
    threads = figure(measured.get("threads"))
    with_threads = f"{threads} thread{'' if threads == '1' else 's'}"
    lead = f"Median / 95th percentile of the time for one image of {sides} px, {with_threads}, "
    rows = [[sentence(runtime), *(shown(model, runtime) for _, model in models)] for runtime in runtimes]
    return join(
        [
            tag("p", lead, sentence(measured.get("machine") or "unknown machine"), class_="soft"),
            table(["", *(sentence(name) for name, _ in models)], rows, class_="figures"),
        ]
    )


def judged(found: Found) -> Html | None:
    """The best checkpoint's score, or the scores on a few images at the end of a run without one."""
    best, quality = found.best, part(found.environment, "quality")
    parts = []
    if number(best.get("value")) is not None:
        on = sentence(f"{best.get('on', '')}".replace("_", " "))
        picked = f"Best checkpoint: step {figure(best.get('step'))}, {sentence(best.get('metric'))} "
        parts.append(tag("p", picked, tag("b", figure(best["value"])), f" on {on} images" if on else "", "."))
    if metrics := part(quality, "metrics"):
        rows = [[name, figure(value)] for name, value in list(metrics.items())[:20]]
        on = sentence(f"{quality.get('on', '')}".replace("_", " "))
        note = f"At the end of the run, on {figure(quality.get('images'))} {on} images; `eval` computes all scores."
        parts += [tag("p", note, class_="soft"), table(["", "student"], rows, class_="figures")]
    return join(parts) if parts else None


def losses(found: Found) -> Html | None:
    """The first, lowest and last value of each logged number."""
    series = {name: points for name, points in found.metrics.series.items() if points and name != "lr"}
    if not series:
        return None
    rows = []
    for name, points in series.items():
        step, least = min(points, key=lambda point: point[1])
        rows.append([name, figure(points[0][1]), f"{figure(least)} at {step:,}", figure(points[-1][1])])
    return table(["", "first", "lowest", "last"], rows, class_="figures")


def timed(found: Found) -> Html | None:
    """The parts of a step's time: medians over the lines of timing.jsonl, as bars."""
    series = {name: [value for _, value in points] for name, points in found.timing.series.items() if points}
    whole = median(series.pop("seconds", [0.0]))
    parts = {name: median(values) for name, values in series.items()}
    total = max(whole, sum(parts.values()))
    if total <= 0:
        return None
    parts |= {"other": total - sum(parts.values())}
    rows, longest = [], max(parts.values())
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        share = max(0.0, seconds / total)
        bar = tag("rect", width=f"{max(0.0, 100 * seconds / longest):.2f}", height=10)
        drawn = tag("svg", bar, viewBox="0 0 100 10", preserveAspectRatio="none", class_="bar", aria_hidden="true")
        if share >= 0.002:
            rows.append([name, f"{1000 * seconds:.3g} ms", f"{100 * share:.0f} %", drawn])
    steps = found.step or 0
    lead = f"The median step takes {1000 * total:.3g} ms, without saving and sampling"
    lead += f"; {steps:,} steps take {_duration(steps * total)}." if steps else "."
    return join([tag("p", lead, class_="soft"), table([], rows, class_="figures bars")])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def surroundings(environment: dict) -> Html | None:
    """The machine and the versions that the run used."""
    keys = ("vemcompress", "python", "platform", "device", "ranks", "threads", "written")
    rows = [[key, sentence(environment[key])] for key in keys if key in environment]
    rows += [[name, sentence(of)] for name, of in list(part(environment, "packages").items())[:20]]
    return table([], rows) if rows else None
