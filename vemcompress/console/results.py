"""Results on stdout: as JSON, or as a table."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console as Rich
from rich.table import Table
from rich.text import Text

from vemcompress.console.ending import compared
from vemcompress.console.words import (
    add_on,
    duration,
    giga,
    goal,
    losses,
    millions,
    plain,
    plural,
    resume,
    size,
    steps_of,
    stopped,
    thousands,
    times_fewer,
    which_images,
)
from vemcompress.system import launch, names
from vemcompress.system.names import printable
from vemcompress.system.quantities import count_text


class Results:
    """`result` prints a result; each other method shows one kind of result. Notes go to `err`."""

    err: Rich

    def __init__(self):
        self.out = Rich(highlight=False, width=None if sys.stdout.isatty() else 1000)

    def result(self, values: dict, as_json: bool, render: Callable[[dict], None]) -> None:
        """Print a result as JSON, or as `render` shows it. With several ranks, only the first one prints."""
        if launch.number():
            return
        if as_json:
            print(json.dumps(names.plain(values), indent=2, default=str))
        else:
            render(values)

    def table(self, values: dict) -> None:
        """Names and values; a nested table becomes one line."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")  # do not cut a hash or a path
        for name, value in values.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {plain(v)}" for k, v in value.items())
            elif isinstance(value, list | tuple):
                value = ", ".join(map(str, value))
            grid.add_row(Text(printable(str(name))), Text(printable(plain(value))))
        self.show(grid)

    def show(self, what) -> None:
        """Print on stdout. If that is not a terminal, lines may have any width, and blanks at their end are removed."""
        what = printable(what) if isinstance(what, str) else what
        if self.out.is_terminal:
            self.out.print(what, markup=False)
            return
        with self.out.capture() as captured:
            self.out.print(what, markup=False)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def line(self, text: str) -> None:
        """Print a line that only the terminal wraps, so that it can be copied whole."""
        self.out.print(printable(text), markup=False, soft_wrap=True)

    def made(self, values: dict) -> None:
        """Show the result of `distill`: a run, the stages of a pipeline, or one stage that prunes or searches."""
        kinds = {"stages": self.piped, "front": self.searched, "widths": self.pruned}
        next((show for key, show in kinds.items() if key in values), self.distilled)(values)

    def distilled(self, values: dict) -> None:
        self._compared(values)
        shown = {"student": values["student"], **_goal(values), **_training(values, "student")}
        if values["information_share"] is not None:
            shown["add-on"] = add_on(values["information_share"])
        if values["skipped_images"]:
            shown["skipped"] = plural(values["skipped_images"], "unreadable image")
        self.table(shown | _report(values))
        self._next(values)

    def _compared(self, values: dict, note: str = "") -> None:
        """Show the table of a run: its teacher, its last and its best network."""
        titles, rows, notes = compared(values)
        self.show(figures(titles, rows, "fold"))
        for line in [*notes, *([note] if note else []), ""]:
            self.show(line)

    def _next(self, values: dict) -> None:
        """Show the next commands, each on one line to copy. With --quiet, only the command that continues an unfinished
        run."""
        if values["next"] and (values["stopped"] or not self.err.quiet):
            self.show("")
            self.show("next")
            for command in values["next"]:
                self.line(f"  {command}")

    def piped(self, values: dict) -> None:
        shown = {name: f"skipped, {why}" for name, why in values["skipped"].items()}
        for name, run in values["stages"].items():
            what = run.get("student") or run.get("teacher") or run.get("out") or "unfinished"
            parameters = run["parameters"] if "parameters" in run else run["after"]["parameters"]
            shown[name] = f"{what}, {millions(parameters)} parameters" + (
                f", {steps_of(run)} steps" if "steps" in run else ""
            )
            shown |= {f"{name} diverged": found["message"] for found in run.get("diverged", {}).values()}
        shown["student"] = values["student"] or "none yet"
        if values["stopped"]:
            left = f"; still to do: {', '.join(values['missing'])}" if values["missing"] else ""
            shown["stopped"] = stopped(values) + left
        trained = {name: run for name, run in values["stages"].items() if "losses" in run}
        if trained:
            name = list(trained)[-1]
            self._compared(trained[name], f"the table shows stage {name}")
        self.table(shown | _report(values))
        self._next(values)

    def taught(self, values: dict) -> None:
        self._compared(values)
        shown = {"teacher": values["teacher"], "others": ", ".join(values["others"].values())}
        self.table(shown | _training(values, "teacher") | _report(values))
        self._next(values)

    def tried(self, values: dict) -> None:
        """Show the result of a dry run."""
        shown = {"recipe": values["recipe"]}
        if values["stage"]:
            shown["stage"] = values["stage"] if values["timed"] else f"{values['stage']}: without training, not timed"
        if values["timed"]:
            per, timed = f"{values['seconds_per_step']:.3g} s per step", plural(values["timed"], "step")
            shown["steps"] = (
                f"{values['steps']:,}, batch {values['batch']} at {values['size']} px on {values['device']}"
            )
            shown["time"] = (
                f"about {duration(values['seconds'])}: {per}, measured over {timed}; saving, sample pictures and "
                "scoring take additional time"
            )
            shown["memory"] = f"{size(values['memory'])} peak"
        if values["later"]:
            shown["later"] = f"{', '.join(values['later'])}: not timed, because they need the results of earlier stages"
        shown["dry run"] = f"all checks passed, nothing was written; omit --dry-run to start {values['run']}"
        self.table(shown)

    def pruned(self, values: dict) -> None:
        before, after = values["before"], values["after"]
        rows = [(name, str(size), str(kept)) for name, (kept, size) in values["widths"].items()]
        self.show(figures(("channels", "of", "kept"), rows))
        self.show("")
        counted = values["convention"]
        macs = [found["macs"][counted] for found in (before, after)]
        target = "" if values["goal"] else f", target {giga(values['target'])}"
        self.table({
            "file": values["out"],
            "parameters": f"{millions(after['parameters'])}, {times_fewer(before['parameters'] / after['parameters'])}",
            f"MACs ({counted})": f"{giga(macs[1])} of {giga(macs[0])}{target}",
            **_goal(values),
            "method": values["method"],
        })  # fmt: skip

    def searched(self, values: dict) -> None:
        costs = (values["goal"] or {}).get("front")
        titles = ("Pareto front", "MACs", *([f"predicted {values['goal']['unit']}"] if costs else []), values["metric"])
        rows = [(widths, count_text(macs), f"{fitness:.4g}") for widths, macs, fitness in values["front"]]
        if costs:
            rows = [(*row[:2], f"{cost:,.4g}", row[2]) for row, cost in zip(rows, costs, strict=True)]
        self.show(figures(titles, rows))
        self.show("")
        before, after, counted = values["before"], values["after"], values["convention"]
        macs = [found["macs"][counted] for found in (before, after)]
        budget = "" if values["target"] is None else f", target {giga(values['target'])}"
        shown = {
            "student": values["student"] or "none yet",
            "widths": values["widths"],
            values["metric"]: f"{values['fitness']:.4g} on {values['images']} of {which_images(values['on'])}",
            "parameters": f"{millions(after['parameters'])}, {times_fewer(before['parameters'] / after['parameters'])}",
            f"MACs ({counted})": f"{giga(macs[1])} of {giga(macs[0])}" + budget,
            **_goal(values),
            "scored": f"{values['scored']} candidates",
        }
        self.table(shown | ({"stopped": stopped(values)} if values["stopped"] else {}))
        if values["stopped"]:
            self.line(f"next  {resume(values, 'search')}")

    def exported(self, values: dict) -> None:
        for file in values.get("exports", [values]):
            self._exported_file(file)
        if values["compared"]:
            columns = ("format", "precision", "kB", "p50 ms", "SSIM", "PSNR dB")
            shown = (("p50_ms", 2), ("ssim", 4), ("psnr", 1))
            rows = [
                (row["format"], row["precision"], thousands(row["bytes"]), *(f"{row[k]:.{n}f}" for k, n in shown))
                for row in values["compared"]
            ]
            self.show(figures(columns, rows))
            images = values["compared"][0]["images"]
            self.show(f"one thread, batch 1; SSIM and PSNR to the float network on {images}")

    def _exported_file(self, file: dict) -> None:
        opset = "" if file["opset"] is None else f", opset {file['opset']}"
        precision = "" if file["precision"] == "fp32" else f", {file['precision']}"
        self.table({
            "file": f"{file['path']} ({file['bytes'] / 2**20:.2f} MiB{opset}{precision})",
            "input": file["input"],
            "output": file["output"],
            "checked": _how_checked(file),
        })  # fmt: skip
        for note in file["notes"]:
            self.show(f"note: {note}")

    def demoed(self, values: dict) -> None:
        model = values["model"]
        self.table({
            "folder": f"{values['path']} ({plural(len(values['files']), 'file')}, {size(values['bytes'])})",
            "model": f"{model['family']}, {millions(model['parameters'])} parameters, {size(model['bytes'])}",
            "runtime": f"ONNX Runtime Web {values['onnxruntime_web']}",
            "open it": f"vemcompress demo --serve --out {values['path']}, or any static web server",
        })  # fmt: skip

    def pushed(self, values: dict) -> None:
        files = f"{plural(len(values['files']), 'file')}, {size(sum(values['files'].values()))}"
        if values["url"]:
            seen = "private" if values["private"] else "public"
            shown = {"uploaded": f"{values['url']} ({seen}, {files})", "commit": values["commit"]}
            weights = next(name for name in values["files"] if name.endswith(".safetensors"))
            self.table(shown | {"load it": f'vemcompress.load_generator("hf://{values["repo"]}/{weights}")'})
        elif values["folder"]:
            self.table({"folder": f"{values['folder']} ({files})"})
        else:
            self.show(f"nothing was uploaded ({files}).")

    def reported(self, values: dict) -> None:
        inside = f"{plural(values['pictures'], 'picture')}, {thousands(values['bytes'])} kB"
        shown = {"report": f"{values['path']} ({inside})"}
        if values["missing"]:
            shown["missing"] = " ".join(values["missing"])
        if values["tensorboard"]:
            shown["TensorBoard"] = f"tensorboard --logdir {values['run']}"
        self.table(shown | {"open it": "in any browser; it loads nothing from elsewhere"})

    def generated(self, values: dict) -> None:
        count, images = len(values["written"]), values["images"]
        each = f"{values['seconds'] / max(1, images):.3f} s per image"
        made = f"{plural(count, 'picture')}{f' of {images} images' if images > count else ''}"
        self.show(f"{made} in {_place(values['written'])}, {each}" if count else f"{made}, {each}")

    def benched(self, values: dict) -> None:
        models = values.get("models", {"": values})
        rows = [
            [*([name] if name else []), runtime, *_latency(found)]
            for name, model in models.items()
            for runtime, found in model["runtimes"].items()
        ]
        titles = ("runtime", "p50 ms", "p95 ms", "runs", "file kB", "memory kB")
        self.show(figures(titles if "" in models else ("model", *titles), rows))
        sizes = dict.fromkeys(f"{model['size'][0]} x {model['size'][1]} px" for model in models.values())
        self.show(f"batch 1, {', '.join(sizes)}, {plural(values['threads'], 'thread')}, {values['machine']}")
        for name, model in models.items():
            for runtime, why in model["skipped"].items():
                self.show(f"skipped {runtime}{f' for {name}' if name else ''}: {why}")

    def benched_step(self, values: dict) -> None:
        ms = values["step_ms"]
        rows = [(name, f"{found:.1f}", f"{100 * found / ms:.1f}") for name, found in values["parts"].items()]
        self.show(figures(("part", "ms", "%"), [*rows, ("step", f"{ms:.1f}", "100")]))
        compiled = ", compiled" if values["compiled"] else ""
        phase = f", the {values['phase']}'s turn" if values["phase"] else ""
        made_up = f"; random: {', '.join(values['random'])}" if values["random"] else ""
        self.show(
            f"{values['recipe']}{phase}: batch {values['batch']} at {values['size']} px, "
            f"{values['precision']}{compiled}, {values['images_per_second']:.2f} images per second, "
            f"add-on {values['information']} {100 * values['information_share']:.1f} %"
        )
        self.show(
            f"{values['flops'] / 1e9:.1f} GFLOP per step, which need {values['floor_ms']:.1f} ms at the peak of "
            f"{values['peak_flops'] / 1e9:.0f} GFLOP/s: the step reaches {100 * values['peak_share']:.0f} % of it; "
            f"copies at {values['peak_bytes'] / 1e9:.0f} GB/s; {values['memory'] / 2**30:.1f} GiB of memory"
        )
        if values["reference_ms"] is not None:
            self.show(
                f"plain step {values['reference_ms']:.1f} ms, ratio {values['ratio']:.3f}; without add-on "
                f"{values['reference_none_ms']:.1f} ms, ratio {values['ratio_none']:.3f}"
            )
        on = f"{values['device']}, {plural(values['threads'], 'thread')}"
        self.show(f"{on}, median of {plural(values['steps'], 'step')}{made_up}")

    def inspected(self, values: dict) -> None:
        macs = {name: count_text(count) for name, count in values["macs"].items()}
        sides = (values if values["input"]["kind"] == "image" else {"input": values["output"]})["input"]["shape"][1:]
        shown = values | {"macs": macs | {"at": f"{sides[0]} x {sides[1]} px"}, "notes": []}
        self.table({name: value for name, value in shown.items() if value not in (None, [], {})})
        for note in values.get("notes", ()):
            self.show(note)

    def toured(self, values: dict) -> None:
        def shown(name: str, cell) -> str:
            return count_text(cell) if name.startswith("MACs") and isinstance(cell, int) else plain(cell)

        rows = [(name, *(shown(name, cell) for cell in row)) for name, row in values["rows"].items()]
        self.show(figures(("", *values["columns"]), rows))
        for line in values["notes"]:
            self.show(line)


def figures(titles: Iterable[str], rows: Iterable[Sequence[str]], overflow: str = "ellipsis") -> Table:
    """A table without a frame: row titles on the left, figures on the right."""
    first, *others = titles
    table = Table(first, show_edge=False, pad_edge=False)
    for title in others:
        table.add_column(title, justify="right", overflow=overflow)
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def _place(written: Sequence[str]) -> str:
    """The folder of the written files, or the only file."""
    return written[0] if len(written) == 1 else os.path.commonpath([Path(name).parent for name in written])


def _goal(values: dict) -> dict[str, str]:
    """The line for a latency or size goal, if there is one."""
    return dict([goal(values["goal"])]) if values.get("goal") else {}


def _training(values: dict, gives: str) -> dict:
    """Lines that all training runs have."""
    rate, best, lines = values["seconds_per_step"], values["best"], {}
    if best and best["step"] != values["steps"]:
        lines["best"] = f"{values['run']}/best/{gives}.safetensors"
    lines["steps"] = steps_of(values) + (f", {rate:.3f} s each" if rate else "")
    if values["main"]:
        lines["last step"] = "  ".join(map(" ".join, losses(values["losses"], values["main"])))
    lines |= {f"diverged ({kind})": found["message"] for kind, found in values["diverged"].items()}
    return lines | ({"stopped": stopped(values)} if values["stopped"] else {})


def _report(values: dict) -> dict[str, str]:
    return {"report": values["report"]} if values["report"] else {}


def _how_checked(file: dict) -> str:
    """How an exported file was compared with PyTorch."""
    at = f" at {', '.join('x'.join(map(str, shape)) for shape in file['shapes'])}"
    found, levels, quantised = file["max_abs_diff"], file["max_level_diff"], file["quantised"]
    if quantised is not None:
        kept = [row["layer"] for row in quantised["float_layers"]]
        named = f"; in float: {', '.join(kept[:5])}{', ...' if len(kept) > 5 else ''}" if kept else ""
        ranges = f"{plural(len(quantised['layers']), 'layer')} in int8 ({quantised['method']})"
        return f"SSIM {quantised['ssim']:.4f}, PSNR {quantised['psnr']:.1f} dB to the float network, {ranges}{named}"
    if found is None:
        return "converted and read again, not run"
    uint8 = "" if levels is None else f", of uint8 {levels} levels"
    return f"largest difference from PyTorch {found:.1e}{uint8}{at}"


def _latency(found: dict) -> list[str]:
    """The columns for one model in one runtime."""
    times = [f"{found['p50_ms']:.2f}", f"{found['p95_ms']:.2f}", str(found["runs"])]
    return [*times, thousands(found.get("bytes")), thousands(found.get("peak_bytes"))]
