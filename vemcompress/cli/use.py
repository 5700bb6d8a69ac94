"""Commands that make something of a model: export, generate, prune, search."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import options


def export(
    model: options.Weights,
    onnx: Annotated[
        Path | None, typer.Option(readable=False, help="The .onnx file to write: --format onnx -o FILE.")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", help="onnx, openvino, litert, coreml, ncnn, executorch; or several, with commas."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", readable=False, help="The file to write; for several formats, its name without an extension."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16: half the size; int8: a quarter, calibrated and judged on --calibrate.")
    ] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(readable=False, metavar="DIR", help="Real photos, for int8.")
    ] = None,
    least_ssim: Annotated[
        float, typer.Option(min=0, max=1, help="int8 is refused below this SSIM to the float network.")
    ] = 0.98,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="uint8 N x H x W x C in and out; from latent vectors, out only.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the images; ONNX and OpenVINO files still take any size. Default: 256."),
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX opset, 18 to 23.")] = 18,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Largest difference from PyTorch, for images in [-1, 1]. Default: 1e-4, for fp16 2e-2."
        ),
    ] = None,
    rewrites: Annotated[
        bool, typer.Option("--rewrites/--no-rewrites", help="Compute the same in faster operations.")
    ] = True,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    json: options.Json = False,
) -> None:
    """Export for a device, checked against PyTorch.

    Each file is run in its own runtime and compared before it counts; Core ML is only converted, because it runs
    only on a Mac. ONNX and OpenVINO take any number of images of any size, the others one image of --size. With
    --precision each file is timed and judged beside its fp32 form.
    """
    from vemcompress.errors import UsageError

    if onnx is not None and (format or out):
        raise UsageError("--onnx FILE stands for --format onnx -o FILE: give the one or the other.")
    if onnx is None and (not format or out is None):
        raise UsageError("give --onnx FILE, or --format and -o, such as --format openvino -o student.xml.")
    console = options.open_console()
    options.weights_only(model)
    with console.talking() as on_event:
        from vemcompress.commands.export import export_model as run
        from vemcompress.export.exporting import origin
        from vemcompress.weights.loading import load
        from vemcompress.weights.trust import named

        with named(teacher_class):
            about = {"key": teacher_key, "widths": widths, "padding": teacher_padding, "range": teacher_range}
            loaded = load(model, class_path=teacher_class, **about)
            loaded.tell(on_event)
        result = run(
            loaded.generator,
            onnx or out,
            formats=["onnx"] if onnx else [name for part in format for name in part.split(",")],
            precision=precision,
            calibrate=calibrate,
            least_ssim=least_ssim,
            uint8=uint8,
            size=size,
            opset=opset,
            tolerance=tolerance,
            rewrites=rewrites,
            metadata=origin(loaded),
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.exported)


def generate(
    model: options.Model,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", readable=False, help="Folder for the pictures; a .png file for one picture."),
    ],
    input: Annotated[
        Path | None, typer.Option("--input", "-i", readable=False, help="A photo, or a folder of photos, of any size.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of images to draw from latent vectors. Default: 64.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the latent vectors. Default: 0.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All samples in one picture.")] = False,
    truncation: Annotated[
        float | None,
        typer.Option(help="Scale the latent vectors (StyleGAN2: w about its mean): images vary less below 1."),
    ] = None,
    interpolate: Annotated[
        int | None, typer.Option(help="Draw a row of this many images from --seed to --seed-to.")
    ] = None,
    seed_to: Annotated[int | None, typer.Option(help="Last seed of --interpolate. Default: the next seed.")] = None,
    latent: Annotated[
        Path | None, typer.Option(readable=False, help="A .npy file of latent vectors to draw, N x size.")
    ] = None,
    w: Annotated[
        Path | None, typer.Option("--w", readable=False, help="StyleGAN2: a .npy file of w, N x (layers x) style.")
    ] = None,
    noise: Annotated[str | None, typer.Option(help="StyleGAN2: fixed (default), or random for each image.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Resize the shorter side first.")] = None,
    tile: Annotated[
        int | None, typer.Option(min=1, help="Process large photos in square tiles of this side, in pixels.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Context around a tile, in pixels. Default: 32.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Photos of equal size at a time (1), or latent vectors (16).")
    ] = None,
    recursive: options.Recursive = False,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    device: options.LocalDevice = "cpu",
    json: options.Json = False,
) -> None:
    """Run photos through a model, or draw from latent vectors.

    Photos of any size; an .onnx file needs no PyTorch. A generator from latent vectors takes --samples and --seed
    instead of --input; a seed's images are the same however many are drawn.
    """
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.generate import generate as run

        result = run(
            model,
            input,
            out,
            samples=samples,
            seed=seed,
            grid=grid,
            truncation=truncation,
            interpolate=interpolate,
            seed_to=seed_to,
            latent=latent,
            w=w,
            noise=noise,
            size=size,
            tile=tile,
            overlap=overlap,
            batch=batch,
            device=device,
            recursive=recursive,
            teacher_class=teacher_class,
            teacher_key=teacher_key,
            teacher_padding=teacher_padding,
            teacher_range=teacher_range,
            widths=widths,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.generated)


def prune(
    model: options.Weights,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The .safetensors file to write.")],
    target_macs: options.TargetMacs = None,
    target_latency: options.TargetLatency = None,
    target_size: options.TargetSize = None,
    on: options.On = None,
    threads: options.GoalThreads = None,
    multiple: Annotated[
        int, typer.Option(min=1, max=256, help="Keep channels in multiples of this: 8 or 16 run best.")
    ] = 1,
    ratio: Annotated[
        float | None, typer.Option(help="Instead: the share of each layer to remove, such as 0.7.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="l1, l1_out, l1_style, random, scale, gcc, zeros, content or diversity.")
    ] = "l1",
    count_as: Annotated[str, typer.Option(help="Which MACs: true, paper or paper_norm.")] = "true",
    size: options.MacsSize = None,
    least: Annotated[
        int | None,
        typer.Option(min=1, help="Keep at least this many channels per layer (scale: 16), except in residual blocks."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of random choices.")] = 0,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of images to score channels on (content: 400).")
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="What is content: a segmenter (.onnx, BiSeNet's .pth), or a folder of masks.")
    ] = None,
    teacher_class: options.TeacherClass = None,
    teacher_key: options.TeacherKey = None,
    teacher_padding: options.TeacherPadding = None,
    teacher_range: options.TeacherRange = None,
    widths: options.Widths = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Remove a generator's least important channels.

    Channels are removed until the network meets a budget of MACs, time or bytes, or by --ratio. The others keep their
    weights. The file can be used like any other model; its images are poor until it is trained again.

    Methods: l1 (the norm of the weights that make a channel, CAGC's l1-in), l1_out (of the weights that read it),
    random, scale (the norms' scales), gcc (one threshold on l1 or scale), zeros (channels that training has made zero,
    without a budget); for generators from latent vectors also content (CAGC); for a StyleGAN2 l1_style and diversity
    (DCP-GAN).
    """
    console = options.open_console()
    options.weights_only(model)
    target = None if target_macs is None else options.macs_of(target_macs)
    latency, bytes = options.goal_of(target_latency, target_size, on)
    with console.talking() as on_event:
        from vemcompress.commands.prune import prune as run

        result = run(
            model,
            target_macs=target,
            target_latency=latency,
            target_size=bytes,
            on=on,
            threads=threads,
            multiple=multiple,
            ratio=ratio,
            out=out,
            method=method,
            size=size,
            convention=count_as,
            seed=seed,
            least=least,
            samples=samples,
            masks=masks,
            teacher_class=teacher_class,
            teacher_key=teacher_key,
            teacher_padding=teacher_padding,
            teacher_range=teacher_range,
            widths=widths,
            device=device,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.pruned)


def search(
    supernet: Annotated[
        str | None, typer.Argument(metavar="SUPERNET", help="A run with algorithm.space, or its weights.")
    ] = None,
    target_macs: Annotated[
        str | None, typer.Option(help="At most this many MACs: 2.6e9, 1.2G (search.target_macs)")
    ] = None,
    target_latency: options.TargetLatency = None,
    target_size: options.TargetSize = None,
    on: options.On = None,
    threads: options.GoalThreads = None,
    data: options.Data = None,
    out: options.Out = None,
    by: Annotated[str | None, typer.Option(help="fid, frechet, miou, ssim_teacher or l1_target (search.by).")] = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher for ssim_teacher, if the run's own has moved.")] = None,
    resume: options.Resume = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    json: options.Json = False,
) -> None:
    """Search a supernet for its best sub-network under a budget.

    By GAN-Compression's evolution, or by scoring all sub-networks if there are few, on held-out images. The run folder
    has the table of all candidates, a plot of it and the best student. --resume continues an interrupted search. With
    --set search.method=co_evolution, a CycleGAN that `teach` trained is searched instead.
    """
    from vemcompress.errors import UsageError
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)
    budget = target_macs or target_latency or target_size or on or threads
    if resume is not None and (supernet or out or data or budget or by):
        raise UsageError("--resume takes supernet, data, budget and folder from the search; omit them.")
    target = None if target_macs is None else options.macs_of(target_macs)
    latency, bytes = options.goal_of(target_latency, target_size, on)
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.search import search as run

        result = run(
            supernet,
            target_macs=target,
            target_latency=latency,
            target_size=bytes,
            on=on,
            threads=threads,
            data=data or (),
            out=out,
            teacher=teacher,
            overrides=options.overrides({"search.by": by}, set_),
            resume=resume,
            device=device,
            max_hours=limit,
            on_event=on_event,
        )
    console.result(result.as_dict(), json, console.searched)
