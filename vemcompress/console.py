"""Draws what the library reports: talk and progress on stderr, results on stdout."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as Rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vemcompress.errors import VemError


def explain(error: BaseException) -> int:
    """Print an error as one sentence and return its exit code."""
    if isinstance(error, VemError):
        message, code = str(error), error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        message, code = "interrupted.", 130
    else:
        message, code = f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 1
    print("error:", " ".join(message.split()), file=sys.stderr)
    return code


class Bar(Progress):
    """A progress bar with a line of its own, as wide as the terminal, for what does not fit beside it."""

    line = ""

    def get_renderables(self):
        yield self.make_tasks_table(self.tasks)
        if self.line:
            yield Text(self.line, style="dim", no_wrap=True, overflow="ellipsis")


class Console:
    """`talking` gives the library a callable for its events; `result` prints what came out."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.err = Rich(stderr=True, highlight=False, quiet=quiet)
        self.out = Rich(highlight=False, width=None if sys.stdout.isatty() else 1000)
        self._bar: Bar | None = None
        self._task = None

    # -- events --------------------------------------------------------------------------------------------------

    @contextmanager
    def talking(self) -> Iterator[Callable[[dict], None]]:
        """While inside, events are drawn; a progress bar only where stderr is a terminal."""
        try:
            yield self._on_event
        finally:
            self._end_bar()

    def note(self, text: str) -> None:
        """A line of talk, above the progress bar where there is one."""
        (self._bar.console if self._bar else self.err).print(text, markup=False, soft_wrap=True)

    def _on_event(self, event: dict) -> None:
        if not self.quiet:
            getattr(self, f"_on_{event['event']}", lambda event: None)(event)

    def _on_stage(self, event: dict) -> None:
        self._end_bar()
        self.err.print(event["title"], style="bold", markup=False)

    def _on_plan(self, event: dict) -> None:
        teacher, student = event["teacher"], event["student"]
        learns = f", learns by {event['gan']}" if event["gan"] else ""
        self.note(
            f"teacher   {teacher['family']}, {_millions(teacher['parameters'])} parameters{_macs(teacher)}{learns}"
        )
        self.note(f"student   {student['family']}, {_millions(student['parameters'])} parameters{_macs(student)}")
        smaller = teacher["parameters"] / student["parameters"]
        self.note(f"          {_times_fewer(smaller)} parameters; MACs are the true ones at {event['size']} px")
        algorithm, information = event["algorithm"], event["information"]
        name = information["name"].upper()
        add_on = "no add-on" if name == "NONE" else f"{name}, lambda_MI {information['weight']:g}"
        self.note(
            f"recipe    {event['recipe']}: {algorithm['name'].upper()}, features {algorithm['features']}, {add_on}"
        )
        weights = {k: v for k, v in algorithm.items() if isinstance(v, float)}
        self.note("          " + ", ".join(f"{k} {v:g}" for k, v in weights.items()))
        self._begun(event, "your images" if event["gan"] else "the teacher on your images")

    def _on_teaching(self, event: dict) -> None:
        for name, network in event["networks"].items():
            self.note(f"{name:<9} {network['family']}, {_millions(network['parameters'])} parameters{_macs(network)}")
        judges = ", ".join(f"{name} {_millions(count)}" for name, count in event["discriminators"].items())
        self.note(f"          {judges}; MACs are the true ones at {event['size']} px")
        weights = {k: v for k, v in event["gan"].items() if isinstance(v, float)}
        self.note(f"recipe    {event['recipe']}: {event['gan']['name']}, {event['gan']['mode']}")
        self.note("          " + ", ".join(f"{k} {v:g}" for k, v in weights.items()))
        self._begun(event, "your images")

    def _begun(self, event: dict, shown: str) -> None:
        aside = f" ({event['held_out']} more held out)" if event["held_out"] else ""
        self.note(
            f"data      {event['images']} images{aside} at {event['size']} px, batch {event['batch']}, "
            f"{event['steps']} steps on {event['device']} in {event['precision']}"
        )
        self.note(f"picture   {event['picture']} ({shown})")
        if event["step"] >= event["steps"]:
            self.note(f"nothing to do: this run has done {event['step']} steps; ask for more with --steps.")
        elif event["continued"]:
            self.note(f"resuming after step {event['step']}")

    def _on_step(self, event: dict) -> None:
        losses = "  ".join(f"{name} {value:.3g}" for name, value in event["losses"].items())
        rate = event["seconds_per_step"]
        if self.err.is_terminal:
            bar = self._progress("training", event["total"])
            bar.line = losses
            bar.update(self._task, completed=event["step"], info=f"{rate:.3f} s/step" if rate else "")
        elif rate and event["step"] % max(1, event["total"] // 20) == 0:
            self.note(
                f"step {event['step']}/{event['total']}  {rate:.3f} s/step  "
                f"{_duration(event['remaining'])} left  {losses}"
            )

    def _on_estimate(self, event: dict) -> None:
        self.note(
            f"estimate  {event['seconds_per_step']:.3f} s a step, {_duration(event['seconds'])} to go, "
            f"{event['memory'] / 2**30:.1f} GiB of memory"
        )

    def _on_phase(self, event: dict) -> None:
        score = event["score"]
        value = f", {score['metric']} {score['value']:.4g}" if score else ""
        what = "the student learns from it" if event["kept"] else "an earlier one is better and stays"
        self.note(f"teacher   of step {event['step']}{value}: {what}")

    def _on_best(self, event: dict) -> None:
        if self.err.is_terminal:
            self.note(f"best      step {event['step']}, {event['metric']} {event['value']:.4g} on {event['on']} images")

    def _on_sample(self, event: dict) -> None:
        if self.err.is_terminal:
            self.note(f"sample    {event['path']}")

    def _on_skipped(self, event: dict) -> None:
        self.note(f"skipped   {event['path']}: {event['reason']}")

    def _on_warning(self, event: dict) -> None:
        self.note(f"warning   {event['message']}")

    def _on_assumed(self, event: dict) -> None:
        self.note(f"assumed   {event['model']}: {event['assumed']}")

    def _on_data(self, event: dict) -> None:
        self.note(f"data      {event['images']} images ({', '.join(event['used'])})")

    def _on_eval(self, event: dict) -> None:
        if event["stage"] == "unreadable":
            self._on_skipped(event)
        elif self.err.is_terminal:
            title = "generating" if event["stage"] == "generate" else "real images"
            self._progress(title, event["total"]).update(self._task, completed=event["done"], info="")

    def _on_stats(self, event: dict) -> None:
        if event.get("stage") == "unreadable":
            self._on_skipped(event)
        elif self.err.is_terminal and event.get("total"):
            self._progress("features", event["total"]).update(self._task, completed=event["done"], info="")

    def _on_generated(self, event: dict) -> None:
        if self.err.is_terminal:
            self._progress("generating", event["total"]).update(self._task, completed=event["done"], info="")

    def _on_export(self, event: dict) -> None:
        if self.err.is_terminal:
            self.note(f"export    {event['stage']}")

    def _progress(self, title: str, total: int) -> Bar:
        if self._bar is None or self._title != title:
            self._end_bar()
            columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[info]}"), console=self.err)
            self._bar.start()
            self._task, self._title = self._bar.add_task(title, total=total, info=""), title
        return self._bar

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # -- results -------------------------------------------------------------------------------------------------

    def result(self, values: dict, as_json: bool, render: Callable[[dict], None]) -> None:
        """Print a result: as JSON, or as `render` shows it."""
        if as_json:
            print(json.dumps(values, indent=2, default=str))
        else:
            render(values)

    def table(self, values: dict) -> None:
        """Names and values; a table within is a line of its own."""
        grid = Table.grid(padding=(0, 2))
        for name, value in values.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
            elif isinstance(value, list | tuple):
                value = ", ".join(map(str, value))
            grid.add_row(Text(str(name)), Text(_plain(value)))
        self._show(grid)

    def _show(self, what) -> None:
        """Print on stdout; where that is no terminal, as wide as it needs and without blanks at the end of lines."""
        if self.out.is_terminal:
            self.out.print(what, markup=False)
            return
        with self.out.capture() as captured:
            self.out.print(what, markup=False)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def distilled(self, values: dict) -> None:
        rate, smaller = values["seconds_per_step"], values["teacher_parameters"] / values["parameters"]
        shown = {
            "student": values["student"],
            "parameters": f"{_millions(values['parameters'])}, {_times_fewer(smaller)} than the teacher",
            "steps": f"{values['steps']}" + (f", {rate:.3f} s each" if rate else ""),
            "losses": "  ".join(f"{k} {v:.3g}" for k, v in values["losses"].items()) or "-",
        }
        if values["skipped_images"]:
            shown["skipped"] = f"{values['skipped_images']} unreadable images"
        self.table(shown)

    def taught(self, values: dict) -> None:
        rate = values["seconds_per_step"]
        self.table({
            "teacher": values["teacher"],
            "others": ", ".join(values["others"].values()),
            "parameters": _millions(values["parameters"]),
            "steps": f"{values['steps']}" + (f", {rate:.3f} s each" if rate else ""),
            "losses": "  ".join(f"{k} {v:.3g}" for k, v in values["losses"].items()) or "-",
        })  # fmt: skip

    def evaluated(self, values: dict) -> None:
        best, step, role = values["best"], values["step"], values["role"]
        apart = best is not None and best["step"] != step
        columns = [(f"{role} (step {step})" if apart and step is not None else role, values["metrics"])]
        columns += [(f"best (step {best['step']})", best["metrics"])] if apart else []
        columns += [("teacher", values["teacher"]), ("real photos", _without_suffix(values["real"], "_real"))]
        shown = [(title, column) for title, column in columns if column]
        table = Table("metric", show_edge=False, pad_edge=False)
        for title, _ in shown:
            table.add_column(title, justify="right", overflow="fold")
        for name in values["metrics"]:
            table.add_row(name, *(_score(name, column.get(name)) for _, column in shown))
        self._show(table)
        if best is not None:
            which = "the test images" if best["on"] == "test" else "held-out training images"
            picked = f"picked by {best['picked_by']} on {which}"
            self._show(f"best: {picked}" if apart else f"the best is the last (step {step}), {picked}")
        real = f", {values['real_images']} real" if values["real_images"] else ""
        self._show(f"{values['images']} images{real} at {values['size']} px; features: {values['features']}")
        for name in values["metrics"]:
            self._show(f"{name}: {values['protocol'].get(name, '')}")
        for name, reason in values["skipped"].items():
            self.err.print(f"left out  {name}: {reason}", markup=False)

    def distilled_seeds(self, values: dict) -> None:
        runs, best = values["seeds"], values["best"]
        losses = {name: [run["losses"].get(name) for run in runs.values()] for name in values["losses"]}
        rows = [(name, values["losses"][name], each) for name, each in losses.items()]
        if best is not None:
            each = [run["best"] and run["best"]["value"] for run in runs.values()]
            rows.append((f"best {best['metric']}, {_where(best['on'])}", best["value"], each))
        table = Table("loss of the last step", show_edge=False, pad_edge=False)
        for title in ("mean ± std (n)", *(f"seed {seed}" for seed in runs)):
            table.add_column(title, justify="right", overflow="fold")
        for name, found, each in rows:
            table.add_row(name, _spread(found, "{:.4g}".format), *(_plain(value) for value in each))
        self._show(table)
        first = next(iter(runs.values()))
        fewer = _times_fewer(first["teacher_parameters"] / first["parameters"])
        self._show(f"{len(runs)} students of {_millions(first['parameters'])} parameters, {fewer} than the teacher")
        for run in runs.values():
            skipped = f", {run['skipped_images']} unreadable images skipped" if run["skipped_images"] else ""
            self._show(f"{run['student']}, {run['steps']} steps{skipped}")

    def evaluated_seeds(self, values: dict) -> None:
        first, best = next(iter(values["seeds"].values())), values["best"]
        apart = best is not None and any(
            one["best"] and one["best"]["step"] != one["step"] for one in values["seeds"].values()
        )
        columns = [(f"{first['role']}, last" if apart else first["role"], values["metrics"])]
        columns += [(f"{first['role']}, best", best["metrics"])] if apart else []
        columns += [("teacher", values["teacher"]), ("real photos", _without_suffix(values["real"], "_real"))]
        shown = [(title, column) for title, column in columns if column]
        table = Table("mean ± std (n)", show_edge=False, pad_edge=False)
        for title, _ in shown:
            table.add_column(title, justify="right", overflow="fold")
        for name in values["metrics"]:
            cells = (_spread(column.get(name), lambda value, name=name: _score(name, value)) for _, column in shown)
            table.add_row(name, *cells)
        self._show(table)
        for seed, one in values["seeds"].items():
            of = "" if one["step"] is None else f", step {one['step']}"
            self._show(f"seed {seed}{of}" + (f", best of step {one['best']['step']}" if one["best"] else ""))
        if best is not None:
            which = "best" if apart else "the best is the last of every seed"
            self._show(f"{which}: picked by {best['picked_by']} on {_where(best['on'])}")
        real = f", {first['real_images']} real" if first["real_images"] else ""
        self._show(f"{first['images']} images{real} at {first['size']} px; features: {first['features']}")
        for name in values["metrics"]:
            self._show(f"{name}: {first['protocol'].get(name, '')}")
        for name, reason in first["skipped"].items():
            self.err.print(f"left out  {name}: {reason}", markup=False)

    def exported(self, values: dict) -> None:
        levels = values["max_level_diff"]
        self.table({
            "file": f"{values['path']} ({values['bytes'] / 2**20:.2f} MiB, opset {values['opset']})",
            "input": values["input"],
            "output": values["output"],
            "checked": f"largest difference from PyTorch {values['max_abs_diff']:.1e}"
            + ("" if levels is None else f", of uint8 {levels} levels")
            + f" at {', '.join('x'.join(map(str, s)) for s in values['shapes'])}",
        })  # fmt: skip

    def generated(self, values: dict) -> None:
        count, seconds = len(values["written"]), values["seconds"]
        self._show(f"{count} pictures, {seconds / max(1, count):.3f} s of the network each")

    def benched(self, values: dict) -> None:
        table = Table(show_edge=False, pad_edge=False)
        for title in ("runtime", "p50 ms", "p95 ms", "runs"):
            table.add_column(title, justify="left" if title == "runtime" else "right")
        for name, found in values["runtimes"].items():
            table.add_row(name, f"{found['p50_ms']:.2f}", f"{found['p95_ms']:.2f}", str(found["runs"]))
        self._show(table)
        height, width = values["size"]
        self._show(f"batch 1, {height} x {width} px, {values['threads']} threads, {values['device']}")

    def recipe(self, values: dict, toml: str) -> None:
        """TOML; of a row of the paper then its figures beside ours, as comments, so that all of it stays TOML."""
        print(toml, end="")
        if "ours" not in values:
            return
        paper, ours = values["paper"], values["ours"]
        grid = Table.grid(padding=(0, 3))
        grid.add_row("", "", "parameters", "ours", "MACs", "ours", "ours, true")
        for role, prefix in (("student", ""), ("teacher", None), ("deep", None), ("original", "original_")):
            found = ours if role == "student" else ours.get(role, {})
            if "macs" in found:
                grid.add_row(role, found["family"], *_beside(paper, prefix, found, ours["agrees"]))
        with self.out.capture() as captured:
            self.out.print(grid, markup=False)
        said = "; ".join(str(paper[key]) for key in ("model", "dataset", "method") if key in paper)
        lines = [
            f"Table {paper.get('table', '?')}: {said}",
            f"beside what is counted here for one image of {ours['size']} px square; MACs as papers count them",
            "",
            *captured.get().splitlines(),
            "",
            *_scores(paper),
            *([] if all(ours["agrees"].values()) else ["* differs from ours"]),
            *([f"note: {paper['note']}"] if "note" in paper else []),
        ]
        print("", *(f"# {line}".rstrip() for line in "\n".join(lines).splitlines()), sep="\n")

    def toured(self, values: dict) -> None:
        table = Table(show_edge=False, pad_edge=False)
        for title in ("", *values["columns"]):
            table.add_column(title, justify="right" if title else "left")
        for name, row in values["rows"].items():
            table.add_row(name, *(_plain(value) for value in row))
        self._show(table)
        for line in values["notes"]:
            self._show(line)


def _score(name: str, value: float | None) -> str:
    """As papers print it: percentages with two decimals."""
    digits = 2 if name in ("miou", "pixel_accuracy") else 4
    return "" if value is None else f"{value:.{digits}f}"


def _spread(found: dict | None, shown: Callable[[float], str]) -> str:
    """Mean ± sample std (n); without the std of a single value, or of equal ones as one frozen teacher gives them."""
    if found is None:
        return ""
    return shown(found["mean"]) + (f" ± {shown(found['std'])}" if found["std"] else "") + f" ({found['n']})"


def _where(on: str) -> str:
    return "the test images" if on == "test" else "held-out training images"


def _without_suffix(values: dict, suffix: str) -> dict:
    return {name.removesuffix(suffix): value for name, value in values.items()}


def _plain(value) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _beside(paper: dict, prefix: str | None, found: dict, agrees: dict) -> list[str]:
    """A network's parameters and MACs, the paper's and ours in turn; `prefix` of its keys, None where it has none."""

    def printed(key: str, unit: str) -> str:
        key = f"{prefix}{key}"
        if prefix is None or key not in paper:
            return "-"
        return f"{_hundredths(paper[key])} {unit}" + ("" if agrees.get(key) else " *")

    macs = found["macs"]
    ours = [f"{value:.3f}" for value in (found["parameters"] / 1e6, macs["paper"] / 1e9, macs["true"] / 1e9)]
    return [printed("params", "M"), f"{ours[0]} M", printed("macs", "G"), f"{ours[1]} G", f"{ours[2]} G"]


def _scores(paper: dict) -> list[str]:
    """What the paper measured, which no recipe can tell for our own networks."""
    return [
        f"{name} {_hundredths(paper[key])} in the paper"
        + (f" (original {_hundredths(paper[f'original_{key}'])})" if f"original_{key}" in paper else "")
        + ", not measured here"
        for key, name in (("fid", "FID"), ("miou", "mIoU"))
        if key in paper
    ]


def _hundredths(value) -> str:
    return value if isinstance(value, str) else f"{value:.2f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"


def _times_fewer(ratio: float) -> str:
    return f"{ratio:.1f} times fewer" if ratio >= 1 else f"{1 / ratio:.1f} times more"


def _macs(network: dict) -> str:
    return f", {network['macs']['true'] / 1e9:.3f} G MACs" if network["macs"] else ""


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
