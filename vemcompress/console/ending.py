"""The table at the end of a run: teacher, last and best checkpoint side by side."""

from vemcompress.console.words import giga, millions, plural, which_images

COUNTED = "true"  # the convention of MACs
Rows = list[list[str]]


def compared(values: dict) -> tuple[list[str], Rows, list[str]]:
    """Titles and rows of a run's table, and notes below it. It has only what the run counted or measured."""
    teacher, best, last = values.get("teacher_parameters"), values["best"], values["last"]
    columns = [*(["teacher"] if teacher else []), "last", *(["best"] if best else [])]

    def row(title: str, **cells: str) -> list[str]:
        return [title, *(cells.get(column, "") for column in columns), *([cells.get("smaller", "")] if teacher else [])]

    def counts(title: str, shown, own: int, of_teacher: int | None) -> list[str]:
        smaller = f"{of_teacher / own:.1f} x" if of_teacher and own else ""
        cells = {"last": shown(own), "best": shown(own), "smaller": smaller}
        return row(title, teacher=shown(of_teacher) if of_teacher else "", **cells)

    rows, notes = [counts("parameters", millions, values["parameters"], teacher)], []
    if values["macs"]:
        own, of_teacher = (macs and macs[COUNTED] for macs in (values["macs"], values.get("teacher_macs")))
        rows.append(counts(f"MACs ({COUNTED}, {values['size']} px)", giga, own, of_teacher))
    if best:
        newest = last or {}
        scored = {"last": f"{newest['value']:.4g}" if newest else "", "best": f"{best['value']:.4g}"}
        rows.append(row(best["metric"], **scored))
        rows.append(row("at step", last=str(newest.get("step", "")), best=str(best["step"])))
        higher = best.get("higher_is_better")
        better = f"; {'higher' if higher else 'lower'} is better" if isinstance(higher, bool) else ""
        notes.append(f"{best['metric']} {_on(best)}{better}")
    elif quality := values["quality"]:
        rows += [row(name, last=f"{value:.4g}") for name, value in quality["metrics"].items()]
        notes.append(f"{', '.join(quality['metrics'])} {_on(quality)}")
    return ["", *columns, *(["smaller"] if teacher else [])], rows, notes


def _on(measured: dict) -> str:
    """The images that a score was computed on, and their number."""
    which = which_images(measured["on"])
    return f"on {plural(measured['images'], 'image')} ({which})" if measured.get("images") else f"on {which}"
