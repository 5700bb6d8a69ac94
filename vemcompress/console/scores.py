"""Scores on stdout: of one run, of several seeds with mean and spread, and the paper's scores beside a recipe."""

from collections.abc import Callable
from functools import partial

from rich.table import Table

from vemcompress.console import words
from vemcompress.console.results import Results, figures
from vemcompress.system.names import printable


class Scores(Results):
    def evaluated(self, values: dict) -> None:
        best, step, role = values["best"], values["step"], values["role"]
        apart = best is not None and best["step"] != step
        columns = [(f"{role} (step {step})" if apart and step is not None else role, values["metrics"])]
        columns += [(f"best (step {best['step']})", best["metrics"])] if apart else []
        self._scores("metric", columns, values, words.score)
        if best is not None:
            picked = f"picked by {best['picked_by']} on {words.which_images(best['on'])}"
            self.show(f"best: {picked}" if apart else f"the best checkpoint is the last one (step {step}), {picked}")
        if values["information_share"] is not None:
            self.show(f"add-on: {words.add_on(values['information_share'])}")
        self._protocols(values)

    def distilled_seeds(self, values: dict) -> None:
        runs, best = {seed: _last(run) for seed, run in values["seeds"].items()}, values["best"]
        losses = {name: [run.get("losses", {}).get(name) for run in runs.values()] for name in values["losses"]}
        rows = [(name, values["losses"][name], each) for name, each in losses.items()]
        if best is not None:
            each = [run.get("best") and run["best"]["value"] for run in runs.values()]
            rows.append((f"best {best['metric']}, {words.which_images(best['on'])}", best["value"], each))
        titles = ("logged at the last step", "mean ± std (n)", *(f"seed {seed}" for seed in runs))
        lines = [(name, words.spread(found, "{:.4g}".format), *map(words.plain, each)) for name, found, each in rows]
        if lines:
            self.show(figures(titles, lines, "fold"))
        students = [run for run in runs.values() if "student" in run]
        if students:
            count, teacher = students[0]["parameters"], students[0]["teacher_parameters"]
            fewer = f", {words.times_fewer(teacher / count)} than the teacher" if teacher else ""
            self.show(f"{len(students)} students of {words.millions(count)} parameters{fewer}")
        for run in students:
            skipped = (
                f", {words.plural(run['skipped_images'], 'unreadable image')} skipped" if run["skipped_images"] else ""
            )
            self.show(f"{run['student']}, {words.steps_of(run)} steps{skipped}")
            for found in run["diverged"].values():
                self.show(f"diverged  {found['message']}")
        if values["stopped"]:
            left = f"; still to do: seed {', '.join(map(str, values['missing']))}" if values["missing"] else ""
            self.show(f"stopped {words.stopped(values)}{left}")
        if values["report"]:
            self.show(f"report  {values['report']}")
        self._next(values)

    def evaluated_seeds(self, values: dict) -> None:
        first, best = next(iter(values["seeds"].values())), values["best"]
        apart = best is not None and any(
            one["best"] and one["best"]["step"] != one["step"] for one in values["seeds"].values()
        )
        columns = [(f"{first['role']}, last" if apart else first["role"], values["metrics"])]
        columns += [(f"{first['role']}, best", best["metrics"])] if apart else []
        self._scores(
            "mean ± std (n)", columns, values, lambda name, found: words.spread(found, partial(words.score, name))
        )
        for seed, one in values["seeds"].items():
            of = "" if one["step"] is None else f", step {one['step']}"
            self.show(f"seed {seed}{of}" + (f", best at step {one['best']['step']}" if one["best"] else ""))
        if best is not None:
            which = "best" if apart else "the best checkpoint of every seed is the last one"
            self.show(f"{which}: picked by {best['picked_by']} on {words.which_images(best['on'])}")
        self._protocols(first)

    def _scores(self, corner: str, columns: list[tuple[str, dict]], values: dict, cell: Callable) -> None:
        """A table of metrics: these columns, then the teacher's and the real photos'. Empty columns are omitted."""
        real = {name.removesuffix("_real"): value for name, value in values["real"].items()}
        columns += [("teacher", values["teacher"]), ("real photos", real)]
        shown = [(title, column) for title, column in columns if column]
        rows = [(name, *(cell(name, column.get(name)) for _, column in shown)) for name in values["metrics"]]
        self.show(figures((corner, *(title for title, _ in shown)), rows, "fold"))

    def _protocols(self, one: dict) -> None:
        """The number of images, how each score was computed, and why others are missing."""
        real = f", {one['real_images']} real" if one["real_images"] else ""
        noun = "sample" if one.get("latents") else "image"
        count = words.plural(one["images"], noun)
        self.show(f"{count}{real} at {one['size']} px; features: {one['features']}")
        for name in one["metrics"]:  # without the number of images, if it is the one above
            how = one["protocol"].get(name, "").removesuffix(f"; {count} at {one['size']} px.").rstrip(".")
            self.show(f"{name}: {how}." if how else name)
        self._left_out(one["skipped"])

    def _left_out(self, skipped: dict[str, str]) -> None:
        """Print missing metrics on stderr. Metrics with the same reason share a line."""
        missing = dict[str, list[str]]()
        for name, reason in skipped.items():
            missing.setdefault(reason, []).append(name)
        for reason, of in missing.items():  # not wrapped, because a reason may have a URL
            self.err.print(printable(f"skipped   {', '.join(of)}: {reason}"), markup=False, soft_wrap=True)

    def recipe(self, values: dict, toml: str) -> None:
        """Print TOML. For a row of the paper, its figures and ours follow as comments, so that the output stays
        TOML."""
        print(toml, end="")
        if "ours" not in values:
            return
        paper, ours = values["paper"], values["ours"]
        grid = Table.grid(padding=(0, 3))
        grid.add_row("", "", "parameters", "ours", "MACs", "ours", "ours, true")
        for role, prefix in (("student", ""), ("teacher", None), ("deep", None), ("original", "original_")):
            found = ours if role == "student" else ours.get(role, {})
            if "macs" in found or prefix == "":  # without published widths, only the paper's figures
                title, shape = role if "original" in ours else "original", found.get("family", "not published")
                grid.add_row(title, shape, *_beside(paper, prefix, found, ours["agrees"]))
        with self.out.capture() as captured:
            self.out.print(grid, markup=False)
        said = "; ".join(str(paper[key]) for key in ("model", "dataset", "method") if key in paper)
        lines = [
            f"Table {paper.get('table', '?')}: {said}",
            f"compared with our counts for one image of {ours['size']} px square; MACs as papers count them",
            "",
            *captured.get().splitlines(),
            "",
            *_scores(paper),
            *([] if all(ours["agrees"].values()) else ["* differs from ours"]),
            *([f"note: {paper['note']}"] if "note" in paper else []),
        ]
        print("", *(printable(f"# {line}".rstrip()) for line in "\n".join(lines).splitlines()), sep="\n")


def _beside(paper: dict, prefix: str | None, found: dict, agrees: dict) -> list[str]:
    """A network's parameters and MACs, alternating between the paper's and ours. `prefix` is that of its keys, None if
    the paper gives none."""

    def printed(key: str, unit: str) -> str:
        key = f"{prefix}{key}"
        if prefix is None or key not in paper:
            return "-"
        return f"{words.hundredths(paper[key])} {unit}" + ("" if agrees.get(key, True) else " *")

    unit = str(paper.get("unit", "G"))
    if "macs" not in found:
        return [printed("params", "M"), "-", printed("macs", unit), "-", "-"]
    macs = found["macs"]
    scale, counted = 1e6 if unit == "M" else 1e9, macs[paper.get("count_as", "paper") if prefix == "" else "paper"]
    ours = [f"{value:.3f}" for value in (found["parameters"] / 1e6, counted / scale, macs["true"] / scale)]
    return [printed("params", "M"), f"{ours[0]} M", printed("macs", unit), f"{ours[1]} {unit}", f"{ours[2]} {unit}"]


def _scores(paper: dict) -> list[str]:
    """Scores that the paper measured. We cannot count these for our own networks."""
    return [
        f"{name} {words.hundredths(paper[key])} in the paper"
        + (f" (original {words.hundredths(paper[f'original_{key}'])})" if f"original_{key}" in paper else "")
        + (", not trained and not measured here" if paper.get("trained_here") == "no" else "")
        for key, name in (("fid", "FID"), ("miou", "mIoU"))
        if key in paper
    ]


def _last(run: dict) -> dict:
    """The run of a pipeline's last stage that has begun; the run itself if it is not a pipeline."""
    return [*run["stages"].values(), {}][max(len(run["stages"]) - 1, 0)] if "stages" in run else run
