"""Registries of methods: this package's own, and those of plugins, which are other installed packages.

A package declares an entry point in a group `vemcompress.GROUP`. If it is a class (for metrics: an object) like ours,
it is registered under its own name. An entry point of `vemcompress.recipes` names a package that holds .toml files. If
a plugin is invalid, one sentence says why, and it is ignored. A plugin is code that the user has installed, and it is
run as such.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar, get_origin

from vemcompress.system.installed import leave_out, package_of, points
from vemcompress.system.settings import BaseSettings, tag_of, tag_values, tagged_union

RESERVED = {"auto"}  # a student without a family yet

Method = TypeVar("Method")


class Registry(Mapping[str, Method], Generic[Method]):
    """Objects derived from `base`, by their `name`: this package's `own`, then those of plugins.

    Plugins are imported at the first lookup, so they may import any of this package's files in any order.
    """

    def __init__(self, group: str, own: tuple[Method, ...], base: type):
        self.group, self.own, self.base = group, own, base
        self._loading = False

    def names(self, method: Method) -> tuple[str, ...]:
        """The names that a recipe may use for it, the registry's key first. Raises TypeError for an invalid object."""
        if not isinstance(method, self.base):
            raise TypeError(f"it must be an object of a class derived from {_path(self.base)}")
        return (method.name,)

    @cached_property
    def added(self) -> dict[str, tuple[Method, str]]:
        """The objects that plugins add, by name, each with its package."""
        if self._loading:
            raise ImportError("it looks up all plugins' methods while it is being imported; do that later")
        self._loading = True
        try:
            return self._load()
        finally:
            self._loading = False

    def _load(self) -> dict[str, tuple[Method, str]]:
        found: dict[str, tuple[Method, str]] = {}
        taken = dict.fromkeys(RESERVED, "vemcompress")
        taken |= {name: "vemcompress" for method in self.own for name in self.names(method)}
        for point in points(self.group):
            try:
                method = point.load()
                names = self.names(method)
                if clash := next((name for name in names if name in taken), None):
                    raise ValueError(f"{clash!r} is already a name of {taken[clash]}; give it another name")
            except (Exception, SystemExit) as error:
                leave_out(point, error)
                continue
            found[names[0]] = method, package_of(point)
            taken |= dict.fromkeys(names, package_of(point))
        return found

    @cached_property
    def _all(self) -> dict[str, Method]:
        own = {self.names(method)[0]: method for method in self.own}
        return own | {name: method for name, (method, _) in self.added.items()}

    def __getitem__(self, name: str) -> Method:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


class Classes(Registry[Method]):
    """Classes, by the tag in the settings that build them. These are each class's attribute named `settings`."""

    def __init__(self, group: str, own: tuple[Method, ...], base: type, settings: str = "Settings"):
        super().__init__(group, own, base)
        self.settings = settings

    def names(self, method: Method) -> tuple[str, ...]:
        if not (isinstance(method, type) and issubclass(method, self.base)):
            raise TypeError(f"it must be a class derived from {_path(self.base)}")
        settings, (key, _) = self._settings(method), tag_of(self._settings(self.own[0]))
        field = settings.model_fields.get(key)
        if field is None or not isinstance(field.default, str) or get_origin(field.annotation) is not Literal:
            raise TypeError(f'its {self.settings} needs {key}: Literal["NAME"] = "NAME"')
        return tag_values(settings)

    @cached_property
    def union(self) -> Any:
        """The union type of all their settings, for a recipe."""
        return tagged_union(map(self._settings, self.values()))

    def _settings(self, method: Method) -> type[BaseSettings]:
        return getattr(method, self.settings)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"
