"""A recipe on stdout, and a row of the paper beside what is counted here."""

from rich.table import Table

from vemcompress.console.results import Results
from vemcompress.console.words import hundredths


class Recipes(Results):
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


def _beside(paper: dict, prefix: str | None, found: dict, agrees: dict) -> list[str]:
    """A network's parameters and MACs, the paper's and ours in turn; `prefix` of its keys, None where it has none."""

    def printed(key: str, unit: str) -> str:
        key = f"{prefix}{key}"
        if prefix is None or key not in paper:
            return "-"
        return f"{hundredths(paper[key])} {unit}" + ("" if agrees.get(key) else " *")

    macs = found["macs"]
    ours = [f"{value:.3f}" for value in (found["parameters"] / 1e6, macs["paper"] / 1e9, macs["true"] / 1e9)]
    return [printed("params", "M"), f"{ours[0]} M", printed("macs", "G"), f"{ours[1]} G", f"{ours[2]} G"]


def _scores(paper: dict) -> list[str]:
    """What the paper measured, which no recipe can tell for our own networks."""
    return [
        f"{name} {hundredths(paper[key])} in the paper"
        + (f" (original {hundredths(paper[f'original_{key}'])})" if f"original_{key}" in paper else "")
        + ", not measured here"
        for key, name in (("fid", "FID"), ("miou", "mIoU"))
        if key in paper
    ]
