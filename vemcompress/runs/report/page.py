"""A run's page: its parts as sections, and the frame around one run or several."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any

from vemcompress.runs.report import sheets, tables
from vemcompress.runs.report.curves import curve
from vemcompress.runs.report.gather import Found, number, part, plan_of, sentence
from vemcompress.runs.report.groups import group_of
from vemcompress.runs.report.markup import Html, join, tag
from vemcompress.runs.report.side_by_side import compared

CURVES = 24  # most plots of a page


def framed(title: str, lead: Any, *body: Any) -> str:
    """A whole document. Its policy blocks all loading, and all scripts except ours."""
    home = files("vemcompress.runs.report") / "page"
    style, script = ((home / name).read_text("utf-8") for name in ("style.css", "page.js"))
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    top = tag("header", tag("h1", title), tag("p", lead, id="lead"))
    foot = tag("footer", "Made by ", tag("code", "vemcompress report"), ". This file loads nothing from elsewhere.")
    whole = tag("html", head, tag("body", top, *body, foot, tag("script", Html(script))), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def lead_of(found: Found) -> str:
    """One sentence: what the run makes, by which recipe, and its progress."""
    plan = plan_of(found)
    total, name = number(part(plan, "train").get("steps")), sentence(plan.get("name") or "")
    add_on = sentence(part(plan, "information").get("name") or "none")
    made = {"teach": "A teacher", "prune": "A pruned student", "search": "A searched student"}
    what = made.get(found.command, "A student")
    how = f"{what}, recipe {name}" if name else what
    how += f" with {add_on.upper()}" if add_on != "none" and found.command == "distill" else ""
    if found.step is not None:
        how += f", step {found.step:,}" + (f" of {total:,}" if total else "")
        how += "" if not total or found.step >= total else ", not finished"
    return f"{how}."


def sections(found: Found, share: int = 1) -> tuple[Html, int]:
    """The parts of a run's page, and the number of sheets it shows. `share`: the number of runs on the page."""
    notes = found.notes
    pictures = _samples(found, max(2, sheets.SHEETS // share), sheets.BUDGET // share)
    figures = join([tables.evaluated(found.evaluation), tables.judged(found)])
    parts = [
        _headline(found.environment),
        _section("Warnings", _list(found.warnings), class_="warned") if found.warnings else None,
        _section("Networks" if found.command == "teach" else "Compressed", tables.compressed(found.environment)),
        _newest(found, max(1, sheets.ROWS // share)),
        _section("Samples through time", _player(pictures)) if pictures else None,
        _section("Candidates of the search", _candidates(found)),
        _section("Figures", figures) if figures else None,
        _section("Latency", tables.latency(found.latency)),
        _section("Curves", _curves(found)),
        _section("Time per step", tables.timed(found)),
        _section("Recipe", _folded("recipe.toml", tag("pre", found.recipe)) if found.recipe else None),
        _section("Environment", _surroundings(found)),
        _section("Missing on this page", _list(notes)) if notes else None,
    ]
    return join(parts), len(pictures)


def _section(title: str, content: Any, **attributes: Any) -> Html | None:
    return tag("section", tag("h2", title), content, **attributes) if content else None


def _surroundings(found: Found) -> Html | None:
    rows = tables.surroundings(found.environment)
    return _folded("Versions, machine, time", rows) if rows else None


def _list(sentences: list[str]) -> Html:
    return tag("ul", *(tag("li", one) for one in sentences))


def _folded(title: str, content: Any) -> Html:
    return tag("details", tag("summary", title), content)


def _headline(environment: dict) -> Html | None:
    """The ratios of parameters and MACs, in large type."""
    found = tables.networks(environment)
    if list(found)[-1:] != ["student"] or "teacher" not in found:
        return None
    big, small = found["teacher"], found["student"]
    pairs = [("parameters", big.get("parameters"), small.get("parameters"))]
    pairs.append(("MACs", part(big, "macs").get("true"), part(small, "macs").get("true")))
    cards = [
        _card(tables.times(max(a, b), min(a, b)), f"{'fewer' if a >= b else 'more'} {name}", a, b)
        for name, a, b in pairs
        if tables.times(a, b)
    ]
    return tag("div", *cards, class_="cards") if cards else None


def _card(ratio: str | None, what: str, before: Any, after: Any) -> Html:
    numbers = tag("small", f"{tables.count(before)} → {tables.count(after)}")
    return tag("div", tag("b", ratio), tag("span", what), numbers)


def _samples(found: Found, most: int, budget: int) -> list[sheets.Picture]:
    there = sheets.chosen(found.run.samples, most)
    if not there and found.command in ("distill", "teach"):
        found.notes.append("This run has no sample sheets (samples/step-N.png).")
    return sheets.sheets(there, found.notes, budget)


def _newest(found: Found, rows: int) -> Html | None:
    there = sheets.chosen(found.run.samples, 1)
    return _section(f"Side by side at step {there[0][0]:,}", compared(found, there[0][1], rows)) if there else None


def _candidates(found: Found) -> Html | None:
    """The plot of a search."""
    plot = found.run.path / "candidates.png"
    drawn = sheets.sheets([(0, plot)], found.notes) if plot.is_file() else []
    images = [tag("img", src=one.address, alt="candidates: quality against cost") for one in drawn]
    return tag("div", *images, class_="sheet") if images else None


def _player(pictures: list[sheets.Picture]) -> Html:
    last = len(pictures) - 1
    images = [
        tag("img", src=one.address, width=one.width, height=one.height, alt=f"samples at step {one.step}",
            data_step=f"{one.step:,}", hidden=place != last)
        for place, one in enumerate(pictures)
    ]  # fmt: skip
    slide = (
        tag("input", type="range", min=0, max=last, value=last, aria_label="training step of the samples")
        if last
        else None
    )
    label = tag("label", tag("output", f"step {pictures[-1].step:,}"), slide)
    titles = [tag("span", title) for title in pictures[-1].titles]
    above = tag("div", *titles, class_="titles") if titles else None
    return tag("div", label, tag("div", above, *images, class_="sheet"), class_="player")


def _curves(found: Found) -> Html | None:
    series = {name: points for name, points in found.metrics.series.items() if len(points) > 1}
    scores = {name: points for name, points in found.metrics.scores.items() if len(points) > 1}
    picks = "Score that picks the best checkpoint"
    drawn: dict[str, list[Html]] = {}
    for name, points in list(series.items())[:CURVES]:
        drawn.setdefault(group_of(name), []).append(curve(name, points))
    groups = {picks: [curve(name, points) for name, points in list(scores.items())[:CURVES]]}
    last = ("add-on", "schedule")
    for group in ("losses", *sorted(drawn.keys() - {"losses", *last}), *last):
        groups[group[0].upper() + group[1:]] = drawn.get(group, [])
    shown = [join([tag("h3", title), tag("div", *plots, class_="plots")]) for title, plots in groups.items() if plots]
    values = tables.losses(found)
    if not shown:
        return values
    return join([*shown, _folded("First, lowest and last values", values) if values else None])
