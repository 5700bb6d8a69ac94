"""Groups of options as dataclasses. A command has one parameter for a group, and its help page shows an option for each
field."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Any

from vemcompress.cli import options
from vemcompress.system.keys import KEYS


def grouped(command: Callable) -> Callable:
    """The command in the form that typer reads: the fields of its dataclasses become options."""
    asked = inspect.signature(command)
    groups = {name: p.annotation for name, p in asked.parameters.items() if is_dataclass(p.annotation)}
    parameters = []
    for name, parameter in asked.parameters.items():
        of_group = inspect.signature(groups[name]).parameters.values() if name in groups else ()
        parameters += [p.replace(kind=p.KEYWORD_ONLY) for p in of_group or (parameter,)]

    @wraps(command)
    def called(**given: Any) -> Any:
        made = {n: group(**{f.name: given.pop(f.name) for f in fields(group)}) for n, group in groups.items()}
        return command(**given, **made)

    called.__signature__ = asked.replace(parameters=parameters)
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


@dataclass(frozen=True)
class TeacherFile:
    """How a teacher's file is read, if the file does not say it."""

    teacher_class: options.TeacherClass = None
    teacher_key: options.TeacherKey = None
    teacher_padding: options.TeacherPadding = None
    teacher_range: options.TeacherRange = None

    def opened(self, model: str, on_event):
        """Load the model, and report what is assumed about it. Raises the classes of `errors`."""
        from vemcompress.weights.loading import opened

        return opened(model, on_event, **vars(self))


@dataclass(frozen=True)
class ModelFile(TeacherFile):
    """How the file of a command's model is read. It may be a supernet."""

    widths: options.Widths = None


@dataclass(frozen=True)
class Training:
    """Training: recipe keys that distill and teach have options for."""

    direction: options.Direction = None
    size: options.TrainSize = None
    steps: options.Steps = None
    epochs: options.Epochs = None
    batch: options.Batch = None
    lr: options.LearningRate = None
    seed: options.Seed = None
    strict: options.Strict = None
    micro_batch: options.MicroBatch = None
    precision: options.Precision = None
    compile: options.Compile = None


@dataclass(frozen=True)
class Goals:
    """The largest cost that a network may have."""

    target_macs: options.TargetMacs = None
    target_latency: options.TargetLatency = None
    target_size: options.TargetSize = None
    on: options.On = None
    threads: options.GoalThreads = None

    @property
    def stated(self) -> bool:
        return any(value is not None for value in vars(self).values())

    def parsed(self) -> dict[str, Any]:
        """The values, with MACs as a number, latency in ms and size in bytes. Raises UsageError for a value that cannot
        be read, and for an unknown --on."""
        from vemcompress.errors import UsageError
        from vemcompress.system.quantities import milliseconds, size_in_bytes

        def read(option: str, text: str | None, parse: Callable[[str], Any]) -> Any:
            try:
                return None if text is None else parse(text)
            except ValueError as error:
                raise UsageError(f"{option}: {error}.") from None

        macs = None if self.target_macs is None else options.macs_of(self.target_macs)
        latency = read("--target-latency", self.target_latency, milliseconds)
        size = read("--target-size", self.target_size, size_in_bytes)
        if self.on is not None:
            from vemcompress.export.goals.runtimes import check_runtime

            read("--on", self.on, check_runtime)
        return vars(self) | {"target_macs": macs, "target_latency": latency, "target_size": size}


@dataclass(frozen=True)
class Scoring:
    """The test images of an evaluation, and its metrics."""

    data: options.Data = None
    split: options.Split = None
    set_: options.SetData = None
    size: options.Measured = None
    metric: options.Metric = None
    real: options.Real = None
    segmenter: options.Segmenter = None
    samples: options.Samples = None
    inception: options.Inception = None
    features: options.Features = None
    features_weights: options.FeaturesWeights = None
    batch: options.Images = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `evaluate`."""
        more = {"metrics": self.metric, "overrides": self.set_ or []}
        return {name: value for name, value in vars(self).items() if name not in ("metric", "set_")} | more


def keys_of(kind: type, *groups: Any, **more: Any) -> dict[str, Any]:
    """Values by recipe key, for options that are recipe keys."""
    given = {name: value for group in groups for name, value in vars(group).items()} | more
    return {KEYS[kind][name]: value for name, value in given.items()}
