"""The argument `progress=True` of the library's functions."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from vemcompress.system.events import silent

P = ParamSpec("P")
R = TypeVar("R")


def shows_progress(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator for functions with the keyword arguments `on_event` and `progress`. If `progress` is true, their
    events are also shown in the terminal. Only then is Rich imported."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs.get("progress"):
            return function(*args, **kwargs)
        from vemcompress.console.progress import drawn

        heard: Callable[[Any], None] = kwargs.get("on_event", silent)
        with drawn() as draw:

            def both(event: dict[str, Any]) -> None:
                draw(event)
                heard(event)

            return function(*args, **{**kwargs, "on_event": both})

    return call
