"""`prune`: reduce a generator to its best channels, chosen by a pruning method, within a budget."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vemcompress import recipe as recipes
from vemcompress.commands import line, opening
from vemcompress.commands.inspect import check_size, cost_of, counts, sides_of
from vemcompress.commands.progress import shows_progress
from vemcompress.errors import RecipeError, UsageError
from vemcompress.export.goals.kinds import Wanted
from vemcompress.export.goals.settings import TARGETS
from vemcompress.export.goals.subjects import OfGroups
from vemcompress.gans import GANS, new_generator
from vemcompress.networks import build_generator
from vemcompress.networks.base import Config, Generator, Padding, init_weights
from vemcompress.networks.cost import Cost
from vemcompress.networks.groups import cut
from vemcompress.pruning import PRUNERS, Pruner
from vemcompress.pruning.budget import check_budget, cut_to, narrow, prune_network
from vemcompress.pruning.goals import check_goal, prune_to
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices
from vemcompress.system.events import Event, silent
from vemcompress.system.files import MALFORMED, check_target, is_count, make_folder, read_json, write_atomically
from vemcompress.weights.artifact import artifact_bytes
from vemcompress.weights.folder import Made
from vemcompress.weights.loading import Loaded, Reading, load, load_known, opened
from vemcompress.weights.modules import Model
from vemcompress.weights.outside import Outside

CONVENTIONS = tuple(Cost().macs())


@dataclass(frozen=True)
class PruneResult(line.Reported):
    """The file `out`, and its content.

    `before` and `after` have `parameters` and `macs` at `size`. `widths` maps each channel group to the number of
    channels kept and the number before. `goal` says how a requested latency or file size is met: its `target`,
    `predicted` and `measured` values in `unit`. `target`, in MACs, is then the result's own number.
    """

    out: str
    method: str
    family: str
    target: int
    convention: str
    size: int
    before: dict
    after: dict
    widths: dict[str, tuple[int, int]]
    goal: dict | None = None


@shows_progress
def prune(
    model: Model,
    *,
    out: str | Path,
    target_macs: int | None = None,
    target_latency: float | str | None = None,
    target_size: int | str | None = None,
    ratio: float | None = None,
    on: str | None = None,
    threads: int | None = None,
    multiple: int = 1,
    method: str = "l1",
    size: int | None = None,
    convention: str = "true",
    seed: int = 0,
    least: int | None = None,
    samples: int | None = None,
    masks: str | Path | None = None,
    teacher_class: str | None = None,
    teacher_key: str | None = None,
    teacher_padding: Padding | None = None,
    teacher_range: str | None = None,
    widths: str | None = None,
    device: str = "auto",
    on_event: Event = silent,
    progress: bool = False,
) -> PruneResult:
    """Remove channels of a generator, and write the smaller network to the file `out`, without training it.

        result = vemcompress.prune("netG.pth", out="small.safetensors", target_macs=2_600_000_000)

    Arguments:
        model: a weight file, a run folder, "hf://...", or a network from `load_generator`.
        out: the .safetensors file to write. An existing file is replaced only on success.
        One of these gives the budget, unless the method chooses the channels itself:
            target_macs: maximum number of MACs for an image of `size` x `size`.
            target_latency: maximum time per image (ms, or "20ms"), measured on this machine in the runtime
                `on` ("onnxruntime" by default, "torch" or "openvino") with `threads` threads (all cores).
            target_size: maximum size of the .onnx file (bytes, or "500KB").
            ratio: the share of each layer's channels to remove, between 0 and 1.
        multiple: a layer that loses channels keeps a multiple of this number (1).
        method: a name from `vemcompress recipes methods`; "l1" by default.
        size: side of the image for MACs and latency, in pixels; by default 256, or the network's fixed size.
        convention: how MACs are counted: "true", "paper" or "paper_norm".
        seed: seed of methods that use random numbers.
        least: the minimum number of channels per group outside residual blocks. None: the method's default.
        samples: number of images that the method generates. None: the method's default.
        masks: masks of the content of images, for the methods that need them (docs/data.md).
        teacher_class, teacher_key, teacher_padding, teacher_range, widths: how to read `model`, as for
            `load_generator`.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.

    Returns:
        PruneResult: `out`, `before` and `after` (each `parameters` and `macs`), `widths` (channels kept and
        before, by group), `goal` (how a latency or file size is met).

    Raises:
        UsageError for an unknown method or a target that cannot be met, InputError for a model that cannot be
        read, OutputError.
    """
    decides = method in PRUNERS and PRUNERS[method].decides
    asked = {"target_macs": target_macs, "target_latency": target_latency, "target_size": target_size, "ratio": ratio}
    asked = [name for name, value in asked.items() if value is not None]
    if decides and (asked or multiple != 1):
        left = ", ".join(f"--{name.replace('_', '-')}" for name in asked or ["multiple"])
        raise UsageError(f"method {method}: chooses the channels to remove by itself; omit {left}.")
    if not decides and len(asked) != 1:
        told = f", not {' and '.join(asked)}" if asked else ""
        raise UsageError(
            "give either target_macs (--target-macs 2.6G), target_latency (--target-latency 20ms), target_size "
            f"(--target-size 500KB), or the ratio of channels to remove (--ratio 0.7){told}."
        )
    wanted = Wanted.said(target_latency, target_size, on, threads)
    if not 1 <= multiple <= 256:
        raise UsageError(f"multiple {multiple}: give a whole number from 1 to 256.")
    if ratio is not None and not 0 < ratio < 1:
        raise UsageError(f"ratio {ratio}: give the share of each layer's channels to remove, between 0 and 1.")
    if decides and least is not None:
        raise UsageError(f"method {method}: chooses the channels to remove by itself; omit --least.")
    pruner = _pruner(method, seed, least=least, samples=samples, masks=masks and str(masks))
    where = devices.choose(device)
    if convention not in CONVENTIONS:
        raise UsageError(f"MACs cannot be counted as {convention!r}; choose from {', '.join(CONVENTIONS)}.")
    how: Reading = {"teacher_class": teacher_class, "teacher_key": teacher_key, "teacher_padding": teacher_padding}
    loaded = opened(model, on_event, **how, teacher_range=teacher_range, widths=widths)
    check_prunable(loaded)
    size, _ = sides_of(loaded, size)
    check_size(loaded, size, size)
    check_target(out, "small.safetensors")
    if loaded.path is not None and Path(out).resolve() == loaded.path.resolve():
        raise UsageError(f"{out}: is the model itself, which would be overwritten; give another name.")
    pruner.work_on(where, on_event)
    with devices.memory_errors("use --device cpu, or a method that generates no images."):
        how = {"ratio": ratio, "wanted": wanted, "multiple": multiple, "on_event": on_event}
        result, content = _pruned(loaded, pruner, target_macs and int(target_macs), out, size, convention, **how)
    if convention != "true" and (note := getattr(loaded.generator.config, "counting_note", "")):
        on_event({"event": "warning", "message": note})
    write_atomically(out, content)
    _tell_whole(result, loaded, on_event)
    on_event({"event": "pruned", "path": str(out)})
    return result


def check_prunable(loaded: Loaded) -> None:
    """Raises UsageError for a function, and for a module of the user's own class: its smaller form could not be loaded
    from a file."""
    if isinstance(getattr(loaded.generator, "module", None), Outside):
        raise UsageError(f"{loaded.source}: has no channels that can be removed; use `vemcompress distill` instead.")
    if loaded.origin == "module" and loaded.generator.config is None:
        raise UsageError("an nn.Module of your own class cannot be pruned; give its file, and teacher_class.")


def prune_run(
    plan: Recipe, run: RunFolder, device: torch.device | None = None, on_event: Event = silent
) -> PruneResult:
    """Prune with the settings of [prune] in a run folder: the network of student.source, or the teacher. The result is
    deterministic. A method that generates images uses the `device`; None is the CPU.

    Raises the classes of `errors`, and InputError if the network is not the one that the folder started with.
    """
    settings, size = plan.prune, plan.data.size
    given, teacher = getattr(plan.student, "source", None), plan.teacher
    if given is not None:
        loaded = load_known(given, plan.student.sha256, "student", class_path=plan.student.class_path)
        plan = plan.but(student=plan.student.but(sha256=loaded.sha256))
    else:
        more = {"norm": teacher.norm, "key": teacher.key, "padding": teacher.padding, "range": teacher.range}
        loaded = load(teacher.source, class_path=teacher.class_path, **more)
        plan = plan.but(teacher=teacher.but(key=loaded.key or None))
        opening.check_same_teacher(run, loaded)
        if loaded.generator.config is None:  # the pruned file has the user's own class too
            plan = recipes.changed(plan, "student", lambda _: AutoStudent(class_path=teacher.class_path))
    if loaded.generator.takes.kind == "latent":  # the size of its images is fixed
        size, _ = sides_of(loaded, None)
    check_size(loaded, size, size)
    result, content = _by_plan(plan, loaded, run.student, size, device, on_event)
    _tell_whole(result, loaded, on_event)
    back = None
    if settings.both and plan.gan is not None and "generator_b" in GANS[plan.gan.name].started:
        back = _way_back(plan, loaded, device, on_event)
    make_folder(run.path)
    with run.locked():
        run.write_recipe(plan.toml())
        if back is not None:
            write_atomically(run.artifact("student_b"), back)
        write_atomically(run.student, content)
        networks = {"teacher": loaded.provenance() | result.before, "student": result.after}
        made = line.environment(torch.device("cpu"), **networks, pruned=result.as_dict())
        run.write_json(run.environment, made)
        Made("prune", "student").write(run.path)
    return result


def _by_plan(
    plan: Recipe, loaded: Loaded, out: Path, size: int, device: torch.device | None, on_event: Event
) -> tuple[PruneResult, bytes]:
    settings = plan.prune
    return _pruned(
        loaded,
        PRUNERS[settings.method.name](settings.method).work_on(device or torch.device("cpu"), on_event),
        settings.target(cost_of(loaded.generator, size, size).macs()[settings.count_as]),
        out,
        size,
        settings.count_as,
        ratio=settings.ratio,
        width=settings.width,
        wanted=settings.wanted,
        multiple=settings.multiple,
        on_event=on_event,
        seed=None if settings.keep_weights else plan.train.seed,
    )


def _tell_whole(result: PruneResult, loaded: Loaded, on_event: Event) -> None:
    """Warn if a method that chooses the channels itself has removed none."""
    if PRUNERS[result.method].decides and result.after == result.before:
        message = f"no channel of {loaded.source} is zero, so none was removed; train it longer, or make it sparser."
        on_event({"event": "warning", "message": message})


def _way_back(plan: Recipe, first: Loaded, device: torch.device | None, on_event: Event) -> bytes | None:
    """CycleGAN's second generator, from the folder of the `first`, pruned in the same way; None with a warning if it is
    not there."""
    there = None
    if first.path is not None:
        name = "student_b" if first.path.stem == "student" else "generator_b"
        there = first.path.with_name(f"{name}.safetensors")
    if there is None or not there.is_file():
        message = f"{first.source}: its folder has no second generator, so the student's one starts from new weights."
        on_event({"event": "warning", "message": message})
        return None
    return _by_plan(plan, load(there), there, plan.data.size, device, on_event)[1]


def prune_again(
    run: RunFolder, overrides: Sequence[str] = (), device: torch.device | None = None, on_event: Event = silent
) -> PruneResult:
    """Resume a folder of `prune_run`. A finished result is kept; then a changed recipe raises UsageError."""
    run.check_existing()
    before, plan = recipes.read(run.recipe), recipes.read(run.recipe, overrides)
    found = known(run)
    if found is not None and plan != before:
        raise UsageError(f"{run.path}: is already pruned; omit --set, or prune again in another folder.")
    return found or prune_run(plan, run, device, on_event)


def known(run: RunFolder) -> PruneResult | None:
    """The result of a finished pruning run; None if it is not finished."""
    try:
        found = read_json(run.environment)["pruned"]
        widths = {name: (int(kept), int(size)) for name, (kept, size) in found.pop("widths").items()}
        sides, convention = ("before", "after"), found["convention"]
        numbers = [found["target"], *(found[side]["macs"][convention] for side in sides)]
        numbers += [line.parameters_of(found, side) for side in sides]
        if not all(map(is_count, numbers)):
            raise TypeError("counts are not numbers")
        return PruneResult(**found | {"out": str(run.student)}, widths=widths) if run.student.is_file() else None
    except (OSError, *MALFORMED):
        return None


def _pruned(
    loaded: Loaded,
    pruner: Pruner,
    target: int | None,
    out: str | Path,
    size: int,
    convention: str,
    *,
    ratio: float | None = None,
    width: int | None = None,
    wanted: Wanted = Wanted(),
    multiple: int = 1,
    seed: int | None = None,
    on_event: Event = silent,
) -> tuple[PruneResult, bytes]:
    """The result and the content of the file `out`. A `ratio`, a `width` or a goal in `wanted` replaces the `target`.
    With a `seed`, the network gets new weights."""
    network, method, goal = loaded.generator.deployed(), pruner.settings.name, None
    if pruner.decides:
        kept = pruner.kept(network)
        small = cut(network, kept)
    elif ratio is not None:
        small, kept = narrow(network, pruner, ratio, multiple)
    elif wanted:
        how = {"fresh": seed is not None, "multiple": multiple, "on_event": on_event}
        kept, goal = prune_to(wanted, network, pruner, size, **how)
        small = cut_to(network, kept)
    elif width is None:
        how = {"fresh": seed is not None, "multiple": multiple}
        if network.config is not None:  # before a method generates images, which takes long
            with torch.device("meta"):
                empty = build_generator(network.config)
            check_budget(empty, pruner, target, size, size, convention, **how)
        small, kept = prune_network(network, pruner, target, size, size, convention, **how)
    else:
        kept = pruner.selected(network, of_width(network.config, width, loaded.source).widths_by_group())
        small = cut(network, kept)
    if ratio is not None or width is not None or wanted or pruner.decides:
        target = cost_of(small, size, size).macs()[convention]
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            small = _fresh(network, small, kept)
    before, after = (counts(n, size, size) for n in (network, small))
    widths = {group.name: (len(kept.get(group.name, range(group.size))), group.size) for group in network.groups()}
    result = PruneResult(str(out), method, network.family, target, convention, size, before, after, widths, goal)
    how = {"method": method, "target_macs": target, "convention": convention, "size": size, "fresh": seed is not None}
    extra = {"pruned": json.dumps(how)} | ({} if goal is None else {"goal": json.dumps(goal)})
    return result, artifact_bytes(small, teacher=loaded.provenance(), extra=extra)


def _fresh(network: Generator, small: Generator, kept: dict[str, torch.Tensor]) -> Generator:
    """`small` with new weights; only scales and shifts of instance norms are kept. If a new network of these widths has
    another shape, that network is returned."""
    if network.config is not None:
        shaped = network.config.shaped({name: len(channels) for name, channels in kept.items()})
        if shaped != small.config:
            return new_generator(shaped)
    init_weights(small)
    return small


def check_plan(plan: Recipe, network: Generator, source: str) -> Config | None:
    """Check [prune] for a network, without its weights. Returns the Config of the result if the recipe gives a width.
    Raises UsageError for an impossible width or budget."""
    settings, size = plan.prune, plan.data.size
    if PRUNERS[settings.method.name].decides:
        if budget := {*TARGETS, "share", "ratio", "width", "multiple"} & settings.model_fields_set:
            raise RecipeError(
                f"recipe {plan.name}: prune.{min(budget)} has no effect, because the method {settings.method.name} "
                "chooses the channels to remove by itself; omit it."
            )
        return None
    if settings.width is not None:
        return of_width(network.config, settings.width, source)
    if network.config is not None and settings.wanted:
        subject = OfGroups(network, size, fresh=not settings.keep_weights)
        pruner = PRUNERS[settings.method.name](settings.method)
        check_goal(settings.wanted.of(subject), subject, network, pruner, settings.multiple)
    elif network.config is not None and settings.ratio is None:
        target = settings.target(network.config.cost(size, size).macs()[settings.count_as])
        pruner = PRUNERS[settings.method.name](settings.method)
        how = {"fresh": not settings.keep_weights, "multiple": settings.multiple}
        check_budget(network, pruner, target, size, size, settings.count_as, **how)
    return None


def of_width(config: Config | None, width: int, source: str) -> Config:
    """The Config of this `width`. Raises UsageError if the network of `source`, which has this Config, is narrower."""
    if config is None:
        raise UsageError("a width cannot be given for a network of your own class; give a target of MACs.")
    small = config.of_width(width)
    wanted, own = small.widths_by_group(), config.widths_by_group()
    if wide := next((name for name in own if wanted[name] > own[name]), None):
        raise UsageError(
            f"width {width}: needs {wanted[wide]} channels in {wide}, but {source} has {own[wide]}; give a smaller "
            "width."
        )
    return small


def _pruner(method: str, seed: int, **given: Any) -> Pruner:
    """The pruning method, with those `given` settings that are not None."""
    if method not in PRUNERS:
        raise UsageError(f"no pruning method {method!r}; choose from {', '.join(PRUNERS)}.")
    cls, given = PRUNERS[method], {name: value for name, value in given.items() if value is not None}
    for name, least, what in (("least", 1, "keep at least 1 channel"), ("samples", 1, "use at least 1 image")):
        if given.get(name, least) < least:
            raise UsageError(f"{name} {given[name]}: {what}.")
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed {seed}: give a whole number from 0 to {2**31 - 1}.")
    fields = cls.Settings.model_fields
    if odd := next((name for name in given if name not in fields), None):
        takers = ", ".join(name for name, kind in PRUNERS.items() if odd in kind.Settings.model_fields)
        raise UsageError(f"method {method}: has no {odd}; omit it, or use one of {takers}.")
    return cls(cls.Settings(**given | ({"seed": seed} if "seed" in fields else {})))
