"""Tables on stdout over several runs: a comparison, and the runs of a matrix."""

from functools import partial

from vemcompress.console import words
from vemcompress.console.results import figures
from vemcompress.console.scores import Scores


class Tables(Scores):
    def compared(self, values: dict) -> None:
        rows = [*([values["teacher"]] if values["teacher"] else []), *values["rows"]]
        names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
        convention = values["convention"].replace("_", " + ")
        titles = ["run", "algorithm", "add-on", "seeds", f"MACs ({convention})", "parameters"]
        titles += ["p50 ms"] if values["threads"] else []
        self.show(
            figures(
                (*titles, *(f"{name} *" if name == values["by"] else name for name in names), "steps", "Pareto"),
                [_compared(row, names, bool(values["threads"])) for row in rows],
                "fold",
            )
        )
        better = "higher" if values["higher_is_better"] else "lower"
        spread = ", mean ± std over seeds" if any(len(row["seeds"]) > 1 for row in rows) else ""
        latency = f"; latency in PyTorch on the CPU, {words.plural(values['threads'], 'thread')}" * bool(
            values["threads"]
        )
        self.show(f"* {better} is better; {values['images']} images at {values['size']} px{spread}{latency}")
        for name, told in values["protocol"].items():
            self.show(f"{name}: {told}")
        self._left_out(values["left_out"])
        for kind in ("csv", "png"):
            if values[kind]:
                self.show(f"{kind}: {values[kind]}")

    def made_matrix(self, values: dict) -> None:
        rows = []
        for row in values["rows"]:
            best = row["best"] and f"{row['best']['metric']} {row['best']['value']:.4g}"
            state = f"failed ({values['failed'][row['name']]['exit_code']})" if row["name"] in values["failed"] else ""
            state = state or ("to do" if row["steps"] is None else str(row["steps"]))
            count = "" if row["parameters"] is None else words.millions(row["parameters"])
            macs = "" if row["macs"] is None else words.giga(row["macs"])
            rows.append((row["name"], macs, count, best or "", words.plain(row["loss"]), state))
        self.show(figures(("run", "MACs (true)", "parameters", "best", "last loss", "steps"), rows, "fold"))
        for name, failure in values["failed"].items():
            self.show(f"failed  {name}: {failure['reason']}")
        if values["stopped"] == "max_hours":
            left = f"; still to do: {', '.join(values['missing'])}" if values["missing"] else ""
            self.show(f"stopped {words.stopped(values)}{left}")
            self.line(f"next    {words.resume(values)}")
        if values["next"]:
            self.show(f"next    {values['next']}")


def _compared(row: dict, names: list[str], timed: bool) -> list[str]:
    cells = [row["name"], row["algorithm"], row["information"], str(len(row["seeds"]) or "")]
    cells += [_mean(row["macs"], lambda macs: words.giga(round(macs)))]
    cells += [_mean(row["parameters"], lambda count: words.millions(round(count)))]
    cells += ["" if row["p50_ms"] is None else f"{row['p50_ms']:.2f}"] if timed else []
    cells += [_mean(row["metrics"].get(name), partial(words.score, name)) for name in names]
    steps = "" if row["steps"] is None else str(row["steps"])
    return [*cells, steps, " and ".join(words.COSTS[cost] for cost in row["front"])]


def _mean(found: dict | None, shown) -> str:
    """Mean ± sample std. The number of seeds has its own column."""
    return words.spread(found, shown).rpartition(" (")[0]
