"""Commands that measure and show: eval, stats, inspect, recipes list, recipes methods, recipes show."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, groups, options, panels
from vemcompress.cli.groups import grouped


@grouped
def evaluate(
    model: options.Model,
    scoring: groups.Scoring,
    teacher_file: groups.ModelFile,
    teacher: options.Teacher = None,
    recursive: options.Recursive = False,
    student_class: options.StudentClass = None,
    teacher_norm: Annotated[
        str | None,
        panels.checkpoint(
            metavar="NAME", help="BatchNorm's statistics: eval (stored), or batch (those of each image)."
        ),
    ] = None,
    seed: Annotated[int, panels.metrics(min=0, metavar="N", help="Seed of latent vectors and KID's subsets.")] = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Score a student beside its teacher.

    Scores whose inputs are available are computed: SSIM, PSNR and L1 to the teacher and to the ground truth; FID and
    KID with real images and Inception's weights; mIoU with label maps and --segmenter. A run's best checkpoint is
    scored beside its last. For a folder of distill --seeds, mean and spread over its runs are printed. A generator from
    latent vectors draws --samples images, which are compared with those of --data, also by precision and recall. The
    run's report.html is updated.

    Examples:

        vemcompress eval runs/h2z --data horse2zebra/
        vemcompress eval runs/h2z --data horse2zebra/ --real horse2zebra/testB \\
            --metric fid --metric kid
        vemcompress eval student.onnx --teacher latest_net_G.pth --data photos/
    """
    arguments = scoring.arguments()
    arguments["overrides"] = [*(["data.recursive=true"] if recursive else []), *arguments["overrides"]]
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.evaluate import evaluate as run
        from vemcompress.commands.seeds import evaluate_seeds
        from vemcompress.runs.series import is_series

        several = is_series(model, "seeds")
        result = (evaluate_seeds if several else run)(
            model,
            teacher=teacher,
            student_class=student_class,
            teacher_norm=teacher_norm,
            device=device,
            on_event=on_event,
            seed=seed,
            **arguments,
            **vars(teacher_file),
        )
    console.result(result.as_dict(), json, console.evaluated_seeds if several else console.evaluated)


def stats(
    data: Annotated[Path, typer.Argument(readable=False, metavar="DIR", help="A folder of real images.")],
    out: Annotated[Path, panels.main("--out", "-o", readable=False, metavar="NPZ", help="The .npz to write.")],
    size: Annotated[
        int | None, panels.main(min=1, max=4096, metavar="N", help="Side of the square images, in pixels.")
    ] = None,
    crop: Annotated[
        str | None,
        panels.data(metavar="N|square", help="Crop this central square (data.crop) before resizing."),
    ] = None,
    recursive: options.Recursive = False,
    inception: options.Inception = None,
    features: Annotated[str, panels.metrics(metavar="NAME", help="inception, or squeezenet1_1[_caffe].")] = "inception",
    features_weights: options.FeaturesWeights = None,
    batch: options.Images = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Save real images' statistics for eval --real.

    Examples:

        vemcompress stats horse2zebra/trainB -o zebras.npz --size 256
        vemcompress eval runs/h2z --data horse2zebra/ --real zebras.npz
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.stats import stats as run

        result = run(
            data,
            out,
            size=size,
            crop=crop,
            recursive=recursive,
            inception=inception,
            features=features,
            features_weights=features_weights,
            batch=batch,
            device=device,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.table)


@grouped
def inspect(
    model: options.Model,
    model_file: groups.ModelFile,
    size: options.MacsSize = None,
    json: options.Json = False,
) -> None:
    """Say what a checkpoint is: family, MACs, taps.

    Examples:

        vemcompress inspect latest_net_G.pth
        vemcompress inspect runs/h2z --size 512 --json
        vemcompress inspect weights.pth --teacher-class mynet:Generator
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.inspect import inspect as run

        result = run(model, size=size, **vars(model_file), on_event=on_event).as_dict()
    console.result(result, json, console.inspected)


def recipes_list(
    markdown: Annotated[
        bool, panels.output("--markdown", help="Print a Markdown table, with stages and data.")
    ] = False,
    json: options.Json = False,
) -> None:
    """The shipped recipes, and those of plugins.

    Methods that plugins add are listed below them; `recipes methods` lists all.

    Examples:

        vemcompress recipes list
        vemcompress recipes list --json
    """
    from vemcompress.errors import UsageError
    from vemcompress.recipe import catalogue

    if markdown and json:
        raise UsageError("--markdown and --json: choose one of them.")
    if markdown:
        print(catalogue.markdown())
        return
    console, added = options.open_console(), [one for one in catalogue.methods() if one["package"] != catalogue.OWN]
    console.result(catalogue.descriptions(), json, lambda values: console.table(values | _rows(added)))


def recipes_methods(json: options.Json = False) -> None:
    """The methods that a recipe can name, and the metrics.

    Methods of plugins are listed too, with their package.

    Examples:

        vemcompress recipes methods
        vemcompress recipes methods --json
    """
    from vemcompress.recipe import catalogue

    console, found = options.open_console(), catalogue.methods()
    console.result({"methods": found}, json, lambda values: console.table(_rows(values["methods"])))


def _rows(methods: list[dict[str, str]]) -> dict[str, str]:
    """Rows for a table; plugins' methods with their packages."""
    said = {f"{one['key']} {one['name']}": one for one in methods}
    return {name: one["does"] + f" ({one['package']})" * (" " in one["package"]) for name, one in said.items()}


def recipes_show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="A recipe's name or .toml file.", autocompletion=completion.recipes),
    ],
    set_: options.Set = None,
    explain: Annotated[
        bool, panels.main("--explain", help="Add comments: what each key means, and its allowed values.")
    ] = False,
    json: options.Json = False,
) -> None:
    """A recipe as TOML, with its defaults.

    Defaults that depend on the teacher or the data are left out; --explain names these keys too.

    For a row of the paper's tables, its figures and ours are added as comments.

    Examples:

        vemcompress recipes show omgd
        vemcompress recipes show omgd --set train.batch=4 --explain
        vemcompress recipes show paper/cityscapes_omgd_vem
    """
    from vemcompress import recipe
    from vemcompress.recipe import paper
    from vemcompress.recipe.explain import explained

    found, console = recipe.read(name, set_ or []), options.open_console()
    values = found.model_dump(mode="json")
    if found.paper:
        values["ours"] = paper.row(found)
    console.result(values, json, lambda values: console.recipe(values, explained(found) if explain else found.toml()))
