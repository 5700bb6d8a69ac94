"""Commands that make something of a model: export, generate, prune, search."""

from pathlib import Path
from typing import Annotated

import typer

from vemcompress.cli import completion, groups, options, panels
from vemcompress.cli.groups import grouped, keys_of
from vemcompress.system.keys import DistillKeys


@grouped
def export(
    model: options.Weights,
    model_file: groups.ModelFile,
    format: Annotated[
        list[str] | None,
        panels.main(
            "--format",
            "-f",
            metavar="NAME",
            help="onnx, openvino, litert, coreml, ncnn, executorch; or several, with commas.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        panels.main(
            "--out",
            "-o",
            readable=False,
            metavar="FILE",
            help="The file to write; for several formats, its name without an extension.",
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        panels.main(readable=False, metavar="FILE", help="The .onnx file to write: --format onnx -o FILE."),
    ] = None,
    size: Annotated[
        int | None,
        panels.main(
            min=1,
            metavar="N",
            help="Side of the images; ONNX and OpenVINO files still accept other sizes. Default: 256.",
        ),
    ] = None,
    uint8: Annotated[
        bool, panels.main("--uint8", help="uint8 N x H x W x C in and out; from latent vectors, out only.")
    ] = False,
    precision: Annotated[
        str,
        panels.precision(
            metavar="NAME",
            help="fp32; fp16: up to half the size; int8: down to a quarter, calibrated and checked on --calibrate.",
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None, panels.precision(readable=False, metavar="DIR", help="Real photos, for int8.")
    ] = None,
    least_ssim: Annotated[
        float, panels.precision(min=0, max=1, metavar="X", help="int8 is refused below this SSIM to the float network.")
    ] = 0.98,
    tolerance: Annotated[
        float | None,
        panels.precision(
            min=0,
            metavar="X",
            help="Largest difference from PyTorch, for images in [-1, 1]. Default: 1e-4, for fp16 2e-2.",
        ),
    ] = None,
    opset: Annotated[int, panels.output(metavar="N", help="ONNX opset, 18 to 23.")] = 18,
    rewrites: Annotated[
        bool,
        panels.output(
            "--rewrites/--no-rewrites", help="Rewrite the graph into faster operations that give the same result."
        ),
    ] = True,
    json: options.Json = False,
) -> None:
    """Export for a device, checked against PyTorch.

    Each file is run in its own runtime and compared with PyTorch before it is written. Core ML is only converted,
    because it runs only on a Mac. ONNX and OpenVINO files accept any number of images; their sides must be multiples
    of the network's stride, which is printed, and with --uint8 may be any. The others accept one image of --size.
    With --precision, each file is compared with its fp32 form in time and quality.

    Examples:

        vemcompress export runs/h2z --onnx student.onnx
        vemcompress export runs/h2z --format openvino,litert --size 256 -o student
        vemcompress export runs/h2z --format onnx --uint8 -o phone.onnx
        vemcompress export runs/h2z --format openvino -o small.xml \\
            --precision int8 --calibrate photos/
    """
    from vemcompress.errors import UsageError

    if onnx is not None and (format or out):
        raise UsageError("--onnx FILE means --format onnx -o FILE: give one or the other.")
    if onnx is None and format and out is None:
        raise UsageError("no output: give -o FILE; with several formats, its name without the ending.")
    if onnx is None and not format:
        raise UsageError("no format: give --onnx student.onnx, or for example --format litert -o student.tflite.")
    console = options.open_console()
    options.weights_only(model)
    with console.talking() as on_event:
        from vemcompress.commands.export import export_model as run
        from vemcompress.export.exporting import origin

        loaded = model_file.opened(model, on_event)
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


@grouped
def generate(
    model: options.Model,
    model_file: groups.ModelFile,
    out: Annotated[
        Path,
        panels.main(
            "--out",
            "-o",
            readable=False,
            metavar="DIR|PNG",
            help="Folder for the pictures; a .png file for one picture.",
        ),
    ],
    input: Annotated[
        Path | None,
        panels.main(
            "--input", "-i", readable=False, metavar="DIR|FILE", help="A photo, or a folder of photos, of any size."
        ),
    ] = None,
    samples: Annotated[
        int | None, panels.main(metavar="N", help="Number of images to draw from latent vectors. Default: 64.")
    ] = None,
    seed: Annotated[int | None, panels.main(metavar="N", help="Seed of the latent vectors. Default: 0.")] = None,
    size: Annotated[int | None, panels.photos(min=1, metavar="N", help="Resize the shorter side first.")] = None,
    tile: Annotated[
        int | None,
        panels.photos(min=1, metavar="N", help="Process large photos in square tiles of this side, in pixels."),
    ] = None,
    overlap: Annotated[
        int | None, panels.photos(min=0, metavar="N", help="Context around a tile, in pixels. Default: 32.")
    ] = None,
    recursive: Annotated[bool, panels.photos("--recursive", help="Include photos in sub-folders.")] = False,
    grid: Annotated[bool, panels.latents("--grid", help="All samples in one picture.")] = False,
    truncation: Annotated[
        float | None,
        panels.latents(
            metavar="X", help="Scale the latent vectors (StyleGAN2: w about its mean): images vary less below 1."
        ),
    ] = None,
    interpolate: Annotated[
        int | None, panels.latents(metavar="N", help="Draw a row of this many images from --seed to --seed-to.")
    ] = None,
    seed_to: Annotated[
        int | None, panels.latents(metavar="N", help="Last seed of --interpolate. Default: the next seed.")
    ] = None,
    latent: Annotated[
        Path | None,
        panels.latents(readable=False, metavar="NPY", help="A .npy file of latent vectors to draw, N x size."),
    ] = None,
    w: Annotated[
        Path | None,
        panels.latents("--w", readable=False, metavar="NPY", help="StyleGAN2: a .npy file of w, N x (layers x) style."),
    ] = None,
    noise: Annotated[
        str | None, panels.latents(metavar="NAME", help="StyleGAN2's noise: fixed (default), or random for each image.")
    ] = None,
    device: options.Device = "auto",
    batch: Annotated[
        str | None,
        panels.machine(
            metavar="N|auto",
            parser=options.images_at_once,
            help="Photos of equal size, or latent vectors, at a time. auto, the default: 1 photo, 16 vectors.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run photos through a model, or draw from latent vectors.

    Photos may have any size. The model may also be a file that `export` wrote: .onnx (it runs without PyTorch), .xml,
    .tflite, .ncnn.param or .pte. For latent vectors, give --samples and --seed instead of --input. The first images of
    a seed do not depend on how many are drawn.

    Examples:

        vemcompress generate student.onnx --input photos/ --out zebras/
        vemcompress generate runs/h2z --input photo.jpg --out zebra.png --tile 512
        vemcompress generate runs/dcgan --samples 64 --seed 7 --grid --out faces.png
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
            on_event=on_event,
            **vars(model_file),
        )
    console.result(result.as_dict(), json, console.generated)


@grouped
def prune(
    model: options.Weights,
    model_file: groups.ModelFile,
    goals: groups.Goals,
    out: Annotated[
        Path, panels.main("--out", "-o", readable=False, metavar="FILE", help="The .safetensors file to write.")
    ],
    method: Annotated[
        str,
        panels.main(metavar="NAME", help="l1, l1_out, l1_style, random, scale, gcc, zeros, content or diversity."),
    ] = "l1",
    ratio: Annotated[
        float | None,
        panels.main(metavar="X", help="Share of each layer's channels to remove, such as 0.7, instead of a goal."),
    ] = None,
    size: options.MacsSize = None,
    multiple: Annotated[
        int, panels.goals(min=1, max=256, metavar="N", help="Keep channels in multiples of this: 8 or 16 run best.")
    ] = 1,
    count_as: options.CountAs = "true",
    least: Annotated[
        int | None,
        panels.method(
            min=1,
            metavar="N",
            help="Keep at least this many channels per layer (scale: 16), except in residual blocks.",
        ),
    ] = None,
    seed: Annotated[int, panels.method(min=0, max=2**31 - 1, metavar="N", help="Seed of random choices.")] = 0,
    samples: Annotated[
        int | None,
        panels.method(min=1, metavar="N", help="Number of images to score channels on (content: 400)."),
    ] = None,
    masks: Annotated[
        str | None,
        panels.method(
            metavar="FILE|DIR", help="Content masks: a segmenter (.onnx, BiSeNet's .pth), or a folder of masks."
        ),
    ] = None,
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

    Examples:

        vemcompress prune latest_net_G.pth --ratio 0.7 -o small.safetensors
        vemcompress prune latest_net_G.pth --method scale --target-macs 20G \\
            -o small.safetensors
        vemcompress prune latest_net_G.pth --target-latency 20ms --threads 1 \\
            -o fast.safetensors
    """
    budget = goals.parsed()
    console = options.open_console()
    options.weights_only(model)
    with console.talking() as on_event:
        from vemcompress.commands.prune import prune as run

        result = run(
            model,
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
            device=device,
            on_event=on_event,
            **budget,
            **vars(model_file),
        )
    console.result(result.as_dict(), json, console.pruned)


@grouped
def search(
    goals: groups.Goals,
    teacher_file: groups.TeacherFile,
    supernet: Annotated[
        str | None,
        typer.Argument(
            metavar="SUPERNET", help="A run with algorithm.space, or its weights.", autocompletion=completion.models
        ),
    ] = None,
    out: options.Out = None,
    data: options.Data = None,
    teacher: options.Teacher = None,
    set_: options.Set = None,
    resume: options.Resume = None,
    by: Annotated[
        str | None,
        panels.method(metavar="NAME", help="fid, frechet, miou, ssim_teacher or l1_target (search.by)."),
    ] = None,
    device: options.Device = "auto",
    max_hours: options.MaxHours = None,
    json: options.Json = False,
) -> None:
    """Search a supernet for its best sub-network under a budget.

    Candidates are scored on held-out images. GAN-Compression's evolution chooses them; if there are few, all are
    scored. The run folder has a table and a plot of all candidates, and the best student. --resume continues an
    interrupted search. With --set search.method=co_evolution, a CycleGAN that `teach` trained is searched instead.

    Examples:

        vemcompress search runs/gc/1-supernet --target-macs 2.6G --out runs/small
        vemcompress search runs/gc/1-supernet --target-latency 20ms --threads 1 \\
            --by ssim_teacher --out runs/fast
        vemcompress search --resume runs/small
    """
    from vemcompress.errors import UsageError
    from vemcompress.training.pace import Limit

    limit = Limit(max_hours)
    if resume is not None and (supernet or out or data or goals.stated or by):
        raise UsageError("--resume takes supernet, data, budget and folder from the search; omit them.")
    budget = goals.parsed()
    console = options.open_console()
    with console.talking() as on_event:
        from vemcompress.commands.search import search as run

        result = run(
            supernet,
            data=data or (),
            out=out,
            teacher=teacher,
            overrides=options.overrides(keys_of(DistillKeys, teacher_file) | {"search.by": by}, set_),
            resume=resume,
            device=device,
            max_hours=limit,
            on_event=on_event,
            **budget,
        )
    console.result(result.as_dict(), json, console.searched)
