"""Benchmark of one stage of a pipeline: the results of earlier stages are replaced by networks with random weights."""

from pathlib import Path

import torch

from vemcompress import recipe as recipes
from vemcompress.commands import search
from vemcompress.errors import UsageError
from vemcompress.networks import Config, build_generator, student_of
from vemcompress.networks.base import LatentConfig
from vemcompress.pruning.budget import narrow, prune_network
from vemcompress.pruning.random import Random
from vemcompress.recipe import AutoStudent, Recipe
from vemcompress.recipe.stages import Stage
from vemcompress.weights.loading import load


def of_stage(plan: Recipe, name: str | None, teacher: str | Path | None) -> Recipe:
    """A recipe for the named stage alone, by default for the first stage that distils. Its teacher has the shape that
    the pipeline trains, and its student a shape that earlier stages could give. Raises UsageError if the stage does not
    distil."""
    stages = {stage.name: stage for stage in plan.stages}
    if name is None:
        name = next((stage.name for stage in plan.stages if stage.do == "distill"), "")
    if name not in stages or stages[name].do != "distill":
        fit = ", ".join(stage.name for stage in plan.stages if stage.do == "distill")
        raise UsageError(f"recipe {plan.name}: --stage {name}: is not a stage that distils; choose from {fit}.")
    own, shape = recipes.of_stage(plan, stages[name]), None
    if teacher is not None:
        shape = load(teacher, class_path=own.teacher.class_path).generator.config
    elif stages[name].teacher is not None:
        shape = recipes.of_stage(plan, stages[stages[name].teacher]).teacher.network
        own = own.but(teacher=own.teacher.but(network=shape))
    elif own.gan is None:
        shape = own.teacher.network
    if stages[name].student is None:
        return own
    student = _gives(plan, stages, stages[name].student, shape)
    if shape is None:
        student = student.with_channels(student.in_channels if isinstance(student, LatentConfig) else 3, 3)
    return own.but(student=student)


def _gives(plan: Recipe, stages: dict[str, Stage], name: str, teacher: Config | None) -> Config:
    """The shape of the student that a stage produces."""
    stage = stages[name]
    own = recipes.of_stage(plan, stage)
    before = None if stage.student is None else _gives(plan, stages, stage.student, teacher)
    if stage.do == "distill":
        if before is not None or not isinstance(own.student, AutoStudent):
            return before or own.student.product()
        return student_of(teacher, own.student.width or 16)
    if stage.do == "search":
        if stage.student is not None:  # the supernet, with the widths that it is trained for
            own = own.but(algorithm=recipes.of_stage(plan, stages[stage.student]).algorithm)
        return search.shape(own, before or teacher)
    if teacher is None and stage.teacher is not None:  # a teacher that is trained in order to be pruned
        teacher = recipes.of_stage(plan, stages[stage.teacher]).teacher.network
    network, settings, size = before or teacher, own.prune, own.data.size
    if network is None:
        raise UsageError(f"recipe {plan.name}: stage {name} prunes a teacher; give it with --teacher.")
    if settings.width is not None:
        return network.of_width(settings.width)
    with torch.device("meta"):
        whole = build_generator(network)
    fresh = not settings.keep_weights
    if settings.ratio is not None:
        small, kept = narrow(whole, Random(), settings.ratio)
    else:
        target = settings.target(network.cost(size, size).macs()[settings.count_as])
        small, kept = prune_network(whole, Random(), target, size, size, settings.count_as, fresh=fresh)
    return network.shaped({name: len(channels) for name, channels in kept.items()}) if fresh else small.config
