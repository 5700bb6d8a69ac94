"""The groups of options on a command's help page, in their order. Each is called as typer.Option."""

from functools import partial

import typer

ARGUMENTS, COMMANDS, EXAMPLES = "Arguments", "Commands", "Examples"

main = partial(typer.Option, rich_help_panel="Main options")
data = partial(typer.Option, rich_help_panel="Data")
photos = partial(typer.Option, rich_help_panel="Photos")
latents = partial(typer.Option, rich_help_panel="Latent vectors")
training = partial(typer.Option, rich_help_panel="Training")
student = partial(typer.Option, rich_help_panel="Student")
goals = partial(typer.Option, rich_help_panel="Goals")
method = partial(typer.Option, rich_help_panel="Method")
metrics = partial(typer.Option, rich_help_panel="Metrics")
precision = partial(typer.Option, rich_help_panel="Precision")
runs = partial(typer.Option, rich_help_panel="Several runs and stages")
upload = partial(typer.Option, rich_help_panel="Upload")
page = partial(typer.Option, rich_help_panel="Page")
checkpoint = partial(typer.Option, rich_help_panel="Reading a checkpoint")
machine = partial(typer.Option, rich_help_panel="This machine")
output = partial(typer.Option, rich_help_panel="Output and help")

_PANELS = (main, data, photos, latents, training, student, goals, method, metrics)
_PANELS += (precision, runs, upload, page, checkpoint, machine, output)
OUTPUT = output.keywords["rich_help_panel"]
ORDER = (ARGUMENTS, *(panel.keywords["rich_help_panel"] for panel in _PANELS))


def of(parameter) -> str:
    """The panel of a command's parameter. Parameters without one, such as --help, go to the output panel."""
    if parameter.param_type_name == "argument":
        return ARGUMENTS
    return getattr(parameter, "rich_help_panel", None) or OUTPUT
