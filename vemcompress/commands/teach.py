"""`teach`: train a teacher for `distill` from paired images or from images of two domains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import torch

from vemcompress.commands import afterwards, dry, largest_batch, line, parts
from vemcompress.commands.dry import DryRun
from vemcompress.commands.facts import Facts, read
from vemcompress.commands.given_images import Data, kept
from vemcompress.commands.opening import Given
from vemcompress.commands.progress import shows_progress
from vemcompress.commands.report import reported
from vemcompress.errors import RecipeError
from vemcompress.gans import GAN
from vemcompress.networks.base import count_parameters
from vemcompress.pruning import MaskedGAN
from vemcompress.recipe import Recipe
from vemcompress.runs.folder import RunFolder
from vemcompress.system import devices, distributed
from vemcompress.system.events import Event, Once, silent
from vemcompress.system.keys import Overrides, TeachKeys, as_overrides
from vemcompress.training.learner import Learner
from vemcompress.training.pace import Limit
from vemcompress.weights.modules import Model, source_of


@dataclass(frozen=True, kw_only=True)
class TeachResult(line.RunResult):
    """A run, and the file of its `teacher`, which has `parameters`. `others` are the files of the discriminators and
    other generators, by name."""

    teacher: str
    others: dict[str, str]


@shows_progress
def teach(
    *,
    data: Data = (),
    out: str | Path | None = None,
    recipe: str | Path | Recipe = "pix2pix",
    teacher: Model | None = None,
    overrides: Overrides = (),
    resume: str | Path | None = None,
    device: str = "auto",
    max_hours: float | Limit | None = None,
    dry_run: bool = False,
    tensorboard: bool = False,
    on_event: Event = silent,
    progress: bool = False,
    **keys: Unpack[TeachKeys],
) -> TeachResult | DryRun:
    """Train a teacher with the recipe's [gan], in the new run folder `out`, or continue a run.

        result = vemcompress.teach(data="facades/", out="runs/teacher", recipe="pix2pix", epochs=200)

    Arguments:
        data: folders or images, as for `distill`. "pix2pix" needs pairs, "cyclegan" two domains.
        out: the run folder, which must be new.
        recipe: a recipe with [gan]: "pix2pix" (by default), "cyclegan", ...; or a .toml file.
        teacher: the weights to start from; None starts from new weights.
        overrides, resume, device, max_hours, dry_run, tensorboard: as for `distill`.
        on_event: a function that is called with each event, a dict (`vemcompress.AnyEvent`).
        progress: show progress, as the command line does.
        keys: as for `distill`: steps, epochs, batch, micro_batch, size, seed, precision, compile, strict,
            direction; `lr` is the teacher's learning rate (gan.lr), `width` its channels.

    Returns:
        TeachResult: `run` (folder), `teacher` (file), `others` (files of discriminators and other generators
        by name), `steps`, `losses` and more. `dry_run` returns a DryRun.

    Raises:
        The classes of `vemcompress.errors`, as `distill`.
    """
    overrides = as_overrides(overrides, keys, TeachKeys)
    limit = Limit.of(max_hours)
    given = Given(
        source_of(teacher), data, out, recipe, overrides, resume, device, limit, on_event, dry_run, tensorboard
    )
    with given.shared() as given, kept(given) as given:
        return teach_run(given)


def teach_run(given: Given) -> TeachResult | DryRun:
    """`teach` within a group of processes that has been set up."""
    given.limit.begin()
    given = replace(given, on_event=Once(given.on_event))
    settled = largest_batch.settled("teach", given, partial(_alone, on_event=silent), _on_trial)
    facts = distributed.together(lambda: read("teach", given, lambda plan: _alone(settled(plan), given.on_event)))
    with devices.memory_errors(facts.advice):
        result = _run(facts, given)
    if isinstance(result, DryRun):
        return result
    page = distributed.from_writer(lambda: reported(facts.run.path, given.on_event))
    ended = afterwards.of_teacher(result.run, facts.plan.data.roots)
    return replace(result, report=page, next=(afterwards.resume("teach", result.run),) if result.stopped else ended)


def known(run: RunFolder, overrides: Sequence[str] = ()) -> TeachResult | None:
    """The result of a finished run, as `distilling.known`."""

    def result(told: dict, made: dict) -> TeachResult:
        files = {path.stem: str(path) for path in sorted(run.path.glob("*.safetensors"))}
        teacher = files.pop("teacher")
        counts = {"parameters": line.parameters_of(made, "teacher"), "macs": line.macs_of(made, "teacher")}
        return TeachResult(teacher=teacher, others=files, **counts, **told)

    return line.known(run, overrides, "teach", result)


def _run(facts: Facts, given: Given) -> TeachResult | DryRun:
    with distributed.alike():
        pick = parts.picker(facts, None, given.where, given.on_event)
    plan, gan = facts.plan, facts.gan
    parts.equip(gan, plan, given.where)
    networks = {name: line.described(g, plan.data.size) for name, g in gan.generators().items()}
    described = {"teacher": facts.provenance | next(iter(networks.values())), "networks": networks}
    event = {
        "event": "teaching",
        "gan": plan.gan.model_dump(mode="json", exclude_none=True),
        "networks": networks,
        "discriminators": {name: count_parameters(judge) for name, judge in gan.discriminators().items()},
    }
    if given.dry:
        return dry.dry_run(facts, given, _learner(plan, gan), [event])
    told = line.trained("teach", facts, given, _learner(plan, gan), pick, described, [event])
    teacher, *others = ((name, str(facts.run.artifact(name))) for name in gan.artifacts())
    counts = {"parameters": count_parameters(facts.original), "macs": line.macs_of(described, "teacher")}
    return TeachResult(teacher=teacher[1], others=dict(others), **counts, **told)


def _on_trial(facts: Facts, given: Given) -> Learner:
    """The learner of this run, for trial steps that are discarded."""
    parts.equip(facts.gan, facts.plan, given.where)
    return _learner(facts.plan, facts.gan)


def _learner(plan: Recipe, gan: GAN) -> Learner:
    """The GAN, with masks if the recipe has them."""
    if plan.masks is None:
        return gan
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        return MaskedGAN(plan.masks, gan, size=plan.data.size, steps=plan.train.steps, recipe=plan.name)


def _alone(plan: Recipe, on_event: Event) -> Recipe:
    """The recipe for training the teacher without a student: train.lr is the teacher's rate, so that the log shows the
    right one, and the teacher is updated at every step."""
    if plan.gan is None:
        raise RecipeError(f"recipe {plan.name}: has no [gan] to train with; use pix2pix or cyclegan, or add [gan].")
    gan, train = plan.gan, plan.train
    if "lr" in train.model_fields_set and train.lr != gan.lr:
        _warn(on_event, f"train.lr {train.lr:g} is for a student; the teacher is trained with gan.lr {gan.lr:g}.")
    if gan.every > 1:
        _warn(on_event, f"gan.every {gan.every} is ignored: without a student, the teacher is updated at every step.")
    if plan.masks is not None:  # saved files have the masks only after they are decided
        if train.best_by not in ("auto", "none"):
            _warn(on_event, f"train.best_by {train.best_by} is ignored: no best checkpoint is picked with masks.")
        train = train.but(best_by="none")
    algorithm = plan.algorithm.but(online="step")  # the student's algorithm may need a frozen teacher
    return plan.but(gan=gan.but(every=1), train=train.but(lr=gan.lr), algorithm=algorithm)


def _warn(on_event: Event, message: str) -> None:
    on_event({"event": "warning", "message": message})
