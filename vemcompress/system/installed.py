"""Installed recipes and plugins: the shipped recipes, and the entry points of other packages.

Entry points are in groups `vemcompress.GROUP`; those of `vemcompress.recipes` name packages that hold .toml files.
There are no slow imports here, because shell completion uses this file.
"""

import importlib.util
import logging
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from vemcompress.errors import summary

_log = logging.getLogger(__name__)


def folder() -> Path:
    """The folder of the shipped recipes: inside a wheel, or beside the package in an editable install."""
    packaged = Path(__file__).parents[1] / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def shipped() -> list[str]:
    """Names of the shipped recipes, including `paper/...`."""
    return sorted(p.relative_to(folder()).with_suffix("").as_posix() for p in folder().rglob("*.toml"))


def recipes() -> dict[str, Path]:
    """The files of all recipes by name: the shipped ones, then those of plugins as ENTRY/FILE, where ENTRY is the
    name of the entry point.
    """
    found = {name: folder() / f"{name}.toml" for name in shipped()}
    for point in points("recipes"):
        try:
            if point.name == "paper" or not point.name.isidentifier():
                raise ValueError("its name is the prefix of shipped recipes; give it another name")
            spec = importlib.util.find_spec(point.value)
            places = list(spec.submodule_search_locations or ()) if spec else []
            if not places:
                raise ValueError(f"there is no package {point.value}")
        except (Exception, SystemExit) as error:
            leave_out(point, error)
            continue
        files = (file for place in places for file in sorted(Path(place).glob("*.toml")))
        found |= {f"{point.name}/{file.stem}": file for file in files}
    return found


def points(group: str) -> list[EntryPoint]:
    """The entry points of a group, in an order that does not depend on the file system."""
    return sorted(entry_points(group=f"vemcompress.{group}"), key=lambda point: (point.name, point.value))


def package_of(point: EntryPoint) -> str:
    """The package that declares an entry point, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def leave_out(point: EntryPoint, error: BaseException) -> None:
    """Log why an entry point is not used."""
    why = str(error) if type(error) in (TypeError, ValueError) else summary(error)
    _log.warning(f"{package_of(point)}: {point.group} {point.name} = {point.value} is ignored: {why}.")
