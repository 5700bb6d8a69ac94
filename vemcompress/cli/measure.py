"""Commands that measure and show: eval, stats, inspect, recipes list, recipes methods, recipes show."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, options


def evaluate(
    model: options.Model,
    data: Annotated[
        list[Path] | None, typer.Option(help="Test images, or a root of test/ or testA/. Default: the run's.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part of a data set. Default: test, testA.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What the data are: data.kind=paired.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Compare with this teacher. Default: the run's.")] = None,
    teacher_class: options.TeacherClass = None,
    student_class: options.StudentClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    teacher_norm: Annotated[str | None, typer.Option(help="eval, or batch: BatchNorm by each image.")] = None,
    real: Annotated[
        Path | None,
        typer.Option(readable=False, help="Real images, or .npz statistics, for FID and KID. Default: the targets."),
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(readable=False, help="For mIoU: an .onnx file, or DRN-D-105's weights.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=10**7, help="Images that a model of latent vectors draws. Default: 10000.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only these metrics. May be repeated.")] = None,
    inception: options.Inception = None,
    features: Annotated[str | None, typer.Option(help="A second feature network: squeezenet1_1[_caffe].")] = None,
    features_weights: Annotated[Path | None, typer.Option(readable=False, help="Its weights.")] = None,
    recursive: options.Recursive = False,
    size: options.Measured = None,
    batch: options.Images = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of latent vectors and KID's subsets.")] = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Score a student beside its teacher.

    Fidelity to the teacher and to the ground truth (SSIM, PSNR, L1), if there are any; FID and KID, if there are real
    images and Inception's weights; mIoU, if there are label maps and --segmenter. A run's best checkpoint is scored
    beside its last. A folder of distill --seeds gives mean and spread over its runs. A generator from latent vectors
    draws --samples images, which are compared with those of --data, also by precision and recall.
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.evaluate import evaluate as run
        from vemcompress.commands.seeds import evaluate_seeds
        from vemcompress.runs.series import is_series

        several = is_series(model, "seeds")
        result = (evaluate_seeds if several else run)(
            model,
            data=data,
            split=split,
            overrides=[*(["data.recursive=true"] if recursive else []), *(set_ or [])],
            teacher=teacher,
            teacher_class=teacher_class,
            student_class=student_class,
            teacher_key=teacher_key,
            teacher_padding=teacher_padding,
            teacher_range=teacher_range,
            widths=widths,
            teacher_norm=teacher_norm,
            segmenter=segmenter,
            size=size,
            device=device,
            on_event=on_event,
            metrics=metric,
            real=real,
            samples=samples,
            inception=inception,
            features=features,
            features_weights=features_weights,
            batch=batch,
            seed=seed,
        )
    console.result(result.as_dict(), json, console.evaluated_seeds if several else console.evaluated)


def stats(
    data: Annotated[Path, typer.Argument(readable=False, metavar="DIR", help="A folder of real images.")],
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .npz to write.")],
    inception: options.Inception = None,
    features: Annotated[str, typer.Option(help="inception, or squeezenet1_1[_caffe].")] = "inception",
    features_weights: Annotated[Path | None, typer.Option(readable=False, help="SqueezeNet's weights.")] = None,
    recursive: options.Recursive = False,
    size: options.Measured = None,
    crop: Annotated[
        str | None, typer.Option(metavar="N|square", help="The square in an image's middle (data.crop), before --size.")
    ] = None,
    batch: options.Images = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Save real images' statistics for eval --real."""
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.evaluate import real_statistics

        result = real_statistics(
            data,
            out,
            features=features,
            weights=features_weights or inception,
            recursive=recursive,
            size=size,
            crop=_crop(crop),
            batch=batch,
            device=device,
            on_event=on_event,
        )
    console.result(result, json, console.table)


def _crop(text: str | None) -> int | str | None:
    from vemcompress.errors import UsageError

    if text in (None, "square"):
        return text
    if not text.isascii() or not text.isdigit() or not 8 <= int(text[:6]) <= 8192:
        raise UsageError(f"--crop {text:.80}: give a number of pixels from 8 to 8192, or square.")
    return int(text)


def inspect(
    model: options.Model,
    size: options.MacsSize = None,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    json: options.Json = False,
) -> None:
    """Say what a checkpoint is: family, MACs, taps."""
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.inspect import describe
        from vemcompress.weights.loading import load
        from vemcompress.weights.trust import named

        with named(teacher_class):
            about = {"key": teacher_key, "widths": widths, "padding": teacher_padding, "range": teacher_range}
            loaded = load(model, class_path=teacher_class, **about)
            loaded.tell(on_event)
            result = describe(loaded, size)
    console.result(result, json, console.inspected)


def recipes_list(
    markdown: Annotated[bool, typer.Option("--markdown", help="A table in Markdown, with stages and data.")] = False,
    json: options.Json = False,
) -> None:
    """The shipped recipes, and those of plugins.

    Methods that plugins add are listed below them; `recipes methods` lists all.
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

    Ours, and those of plugins with the package that each comes from.
    """
    from vemcompress.recipe import catalogue

    console, found = options.open_console(), catalogue.methods()
    console.result({"methods": found}, json, lambda values: console.table(_rows(values["methods"])))


def _rows(methods: list[dict[str, str]]) -> dict[str, str]:
    """For a table; of plugins with their packages."""
    said = {f"{one['key']} {one['name']}": one for one in methods}
    return {name: one["does"] + f" ({one['package']})" * (" " in one["package"]) for name, one in said.items()}


def recipes_show(
    name: Annotated[str, typer.Argument(help="A recipe's name or .toml file.", autocompletion=completion.recipes)],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="What each key means and may be, as comments.")] = False,
    json: options.Json = False,
) -> None:
    """A recipe with every default written out, as TOML.

    Of a row of the paper also its figures beside ours, as comments.
    """
    from vemcompress import recipe
    from vemcompress.recipe import paper
    from vemcompress.recipe.explain import explained

    found, console = recipe.read(name, set_ or []), options.open_console()
    values = found.model_dump(mode="json")
    if found.paper:
        values["ours"] = paper.row(found)
    console.result(values, json, lambda values: console.recipe(values, explained(found) if explain else found.toml()))
