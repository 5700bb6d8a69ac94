"""The page of several runs: the stages of a pipeline one below the other, or a table over seeds or the runs of a
matrix."""

from statistics import fmean, stdev

from vemcompress.errors import InputError
from vemcompress.runs.folder import RunFolder
from vemcompress.runs.report import tables
from vemcompress.runs.report.gather import Found, gather, is_run, number, part, sentence
from vemcompress.runs.report.markup import Html, join, table, tag
from vemcompress.runs.report.page import lead_of, sections
from vemcompress.runs.series import Series

MOST = 200  # runs in a table
Page = tuple[str, Html, int, list[str]]  # lead, body, pictures, what is missing


def stages(folder: Series) -> Page:
    """A pipeline: a table of its stages, then each stage's parts. The last stage that has begun is open."""
    begun = {name: folder.run(name) for name in folder.items if is_run(folder.run(name).path)}
    share = max(1, len(begun))
    rows, parts, pictures, missing = [], [], 0, []
    for place, name in enumerate(folder.items, 1):
        if name not in begun:
            why = f"skipped: {sentence(folder.skipped[name])}" if name in folder.skipped else "not begun"
            rows.append([f"{place}  {name}", why, ""])
            continue
        found = gather(begun[name])
        body, shown = sections(found, share)
        pictures, missing = pictures + shown, missing + [f"{name}: {note}" for note in found.notes]
        rows.append([f"{place}  {name}", "done" if name in folder.done else "not finished", lead_of(found)])
        title = tag("summary", f"Stage {place}: {name}")
        parts.append(tag("details", title, body, class_="stage-page", open=name == list(begun)[-1]))
    done = len({*folder.done, *folder.skipped} & {*folder.items})
    overview = tag("section", tag("h2", "Stages"), table(["stage", "state", ""], rows))
    lead = f"A pipeline of {len(folder.items)} stages, {done} of them done."
    return lead, join([overview, *parts]), pictures, missing


def runs(folder: Series) -> Page:
    """Seeds or a matrix: a row for each run; for seeds, also the mean and the standard deviation."""
    found = {item: _last(folder.run(item)) for item in folder.items[:MOST]}
    there = {item: one for item, one in found.items() if one is not None}
    figures = {item: _figures(one) for item, one in there.items()}
    names = list(dict.fromkeys(name for values in figures.values() for name in values))[:30]
    rows = [
        [_named(folder, item), _state(folder, item, there.get(item)),
         *(tables.figure(figures.get(item, {}).get(name)) for name in names)]
        for item in found
    ]  # fmt: skip
    done = [figures[item] for item in there if item in folder.done]
    if folder.kind == "seeds" and len(done) > 1:
        columns = [[values[name] for values in done if name in values] for name in names]
        spread = [f"{fmean(of):.4g} ± {stdev(of):.2g}" if len(of) > 1 else "–" for of in columns]
        rows.append(["mean ± std", f"{len(done)} runs", *spread])
    what = "seed" if folder.kind == "seeds" else "run"
    overview = tag("section", tag("h2", "Runs"), table([what, "state", *names], rows, class_="figures"))
    missing = [f"{item}: {note}" for item, one in there.items() for note in one.notes]
    if missing:
        notes = tag("ul", *(tag("li", note) for note in missing[:MOST]))
        overview = join([overview, tag("section", tag("h2", "Missing on this page"), notes)])
    counted = f"{len(folder.items)} {'seeds of one recipe' if what == 'seed' else 'runs of a matrix'}"
    return f"{counted}, {len({*folder.done} & {*folder.items})} done.", overview, 0, missing


def _last(run: RunFolder) -> Found | None:
    """A run, or the last finished stage of a pipeline; None if there is nothing yet."""
    try:
        if (run.path / "stages.json").is_file():
            run = Series.read(run.path, "stages").last_done()
        return gather(run) if is_run(run.path) else None
    except InputError:
        return None


def _named(folder: Series, item: int | str) -> Html | str:
    """The item's name, as a link if it has a page of its own."""
    run = folder.run(item).path
    there = (run / "report.html").is_file()
    return tag("a", item, href=f"{run.name}/report.html") if there else str(item)


def _state(folder: Series, item: int | str, found: Found | None) -> str:
    if item in folder.done:
        return "done"
    return "not begun" if found is None else f"step {tables.figure(found.step)}"


def _figures(found: Found) -> dict[str, float]:
    """Scores of the evaluation, otherwise of the end of the run; then the best checkpoint's score and the last
    losses."""
    values = part(found.evaluation, "metrics") or part(found.environment, "quality", "metrics")
    told = dict(values)
    if found.best.get("metric"):
        told[f"best {sentence(found.best['metric'])}"] = found.best.get("value")
    told |= {name: points[-1][1] for name, points in found.metrics.series.items() if points and name != "lr"}
    return {sentence(name): value for name, value in told.items() if number(value) is not None}
