"""Scores on stdout: of one run, and mean and spread of several seeds' runs."""

from collections.abc import Callable
from functools import partial

from vemcompress.console.results import Results, columns
from vemcompress.console.words import (
    millions,
    plain,
    score,
    spread,
    steps_of,
    stopped,
    times_fewer,
    which_images,
    without_suffix,
)


class Scores(Results):
    def evaluated(self, values: dict) -> None:
        best, step, role = values["best"], values["step"], values["role"]
        apart = best is not None and best["step"] != step
        columns = [(f"{role} (step {step})" if apart and step is not None else role, values["metrics"])]
        columns += [(f"best (step {best['step']})", best["metrics"])] if apart else []
        self._scores("metric", columns, values, score)
        if best is not None:
            picked = f"picked by {best['picked_by']} on {which_images(best['on'])}"
            self.show(f"best: {picked}" if apart else f"the best is the last (step {step}), {picked}")
        self._protocols(values)

    def distilled_seeds(self, values: dict) -> None:
        runs, best = {seed: _last(run) for seed, run in values["seeds"].items()}, values["best"]
        losses = {name: [run.get("losses", {}).get(name) for run in runs.values()] for name in values["losses"]}
        rows = [(name, values["losses"][name], each) for name, each in losses.items()]
        if best is not None:
            each = [run.get("best") and run["best"]["value"] for run in runs.values()]
            rows.append((f"best {best['metric']}, {which_images(best['on'])}", best["value"], each))
        titles = ("loss of the last step", "mean ± std (n)", *(f"seed {seed}" for seed in runs))
        lines = [(name, spread(found, "{:.4g}".format), *map(plain, each)) for name, found, each in rows]
        if lines:
            self.show(columns(titles, lines, "fold"))
        students = [run for run in runs.values() if "student" in run]
        if students:
            count, teacher = students[0]["parameters"], students[0]["teacher_parameters"]
            fewer = times_fewer(teacher / count)
            self.show(f"{len(students)} students of {millions(count)} parameters, {fewer} than the teacher")
        for run in students:
            skipped = f", {run['skipped_images']} unreadable images skipped" if run["skipped_images"] else ""
            self.show(f"{run['student']}, {steps_of(run)} steps{skipped}")
        if values["stopped"]:
            left = f"; seed {', '.join(map(str, values['missing']))} is left" if values["missing"] else ""
            self.show(f"stopped {stopped(values, 'distill')}{left}")

    def evaluated_seeds(self, values: dict) -> None:
        first, best = next(iter(values["seeds"].values())), values["best"]
        apart = best is not None and any(
            one["best"] and one["best"]["step"] != one["step"] for one in values["seeds"].values()
        )
        columns = [(f"{first['role']}, last" if apart else first["role"], values["metrics"])]
        columns += [(f"{first['role']}, best", best["metrics"])] if apart else []
        self._scores("mean ± std (n)", columns, values, lambda name, found: spread(found, partial(score, name)))
        for seed, one in values["seeds"].items():
            of = "" if one["step"] is None else f", step {one['step']}"
            self.show(f"seed {seed}{of}" + (f", best of step {one['best']['step']}" if one["best"] else ""))
        if best is not None:
            which = "best" if apart else "the best is the last of every seed"
            self.show(f"{which}: picked by {best['picked_by']} on {which_images(best['on'])}")
        self._protocols(first)

    def _scores(self, corner: str, columns: list[tuple[str, dict]], values: dict, cell: Callable) -> None:
        """A table of metrics: these columns, then the teacher's and the real photos'; empty ones are left out."""
        columns += [("teacher", values["teacher"]), ("real photos", without_suffix(values["real"], "_real"))]
        shown = [(title, column) for title, column in columns if column]
        rows = [(name, *(cell(name, column.get(name)) for _, column in shown)) for name in values["metrics"]]
        self.show(columns((corner, *(title for title, _ in shown)), rows, "fold"))

    def _protocols(self, one: dict) -> None:
        """How many images, how each figure was made, and why others are missing."""
        real = f", {one['real_images']} real" if one["real_images"] else ""
        self.show(f"{one['images']} images{real} at {one['size']} px; features: {one['features']}")
        for name in one["metrics"]:
            self.show(f"{name}: {one['protocol'].get(name, '')}")
        for name, reason in one["skipped"].items():
            self.err.print(f"left out  {name}: {reason}", markup=False)


def _last(run: dict) -> dict:
    """Of a pipeline the run of the last stage that began; of none the run itself."""
    return [*run["stages"].values(), {}][max(len(run["stages"]) - 1, 0)] if "stages" in run else run
