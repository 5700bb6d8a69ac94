"""`progress=True` for calls from Python: the command line's progress, in a script or a notebook."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as Rich

from vemcompress.console import Console
from vemcompress.system.events import Event


@contextmanager
def drawn() -> Iterator[Event]:
    """A context whose callable draws events: on stderr like the command line, or as lines of text in the output of a
    notebook's cell."""
    console = Console()
    if console.err.is_jupyter:  # Rich would make an HTML box of each line
        console.err = Rich(file=sys.stdout, force_jupyter=False, force_terminal=False, width=120, highlight=False)
    with console.talking() as on_event:
        yield on_event
