"""Progress of a call from Python: what the command line shows, in a script as in a notebook."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as Rich

from vemcompress.console import Console
from vemcompress.system.events import Event


@contextmanager
def drawn() -> Iterator[Event]:
    """While inside, events that the callable is given are drawn: on stderr as by the command line, in a notebook as
    lines of text in the cell's output."""
    console = Console()
    if console.err.is_jupyter:  # Rich would make an HTML box of each line
        console.err = Rich(file=sys.stdout, force_jupyter=False, force_terminal=False, width=120, highlight=False)
    with console.talking() as on_event:
        yield on_event
