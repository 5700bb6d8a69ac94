"""The schema of a recipe, composed of the `Settings` of the networks, algorithms and add-ons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

import tomli_w
from pydantic import AfterValidator, Field, model_validator

from vemcompress.algorithms import ALGORITHMS
from vemcompress.data.settings import DataSettings
from vemcompress.export.goals.settings import BUDGET, TARGETS, GoalSettings, Multiple
from vemcompress.gans import AnyGAN
from vemcompress.information import INFORMATION
from vemcompress.networks import GENERATORS
from vemcompress.networks.base import Padding
from vemcompress.pruning import PRUNERS, AnySearch, MaskSettings
from vemcompress.recipe.stages import Stage, check_stages
from vemcompress.system.names import PAIRS
from vemcompress.system.settings import BaseSettings, Channels, Convention, Figure, Text, says, tagged_union
from vemcompress.training.settings import TrainSettings
from vemcompress.weights.ranges import check_form


def _first(registry: Mapping[str, Any]) -> BaseSettings:
    return next(iter(registry.values())).Settings()


class TeacherSettings(BaseSettings):
    """`source`: the file of the teacher's weights or, with a [gan], those that it starts from; "pairs" for a teacher
    known only by its outputs, the other side of each pair of the data.

    `key`: the name of the generator in a file with several, such as netG_B. `class_path`: "module:Class" for a network
    of the user's own class. `range`: the range of the images of such a network or an .onnx file: "0..255", "0..1" or
    "-1..1", or input and output ranges as in "-1..1:0..255". The default is [-1, 1] or what an .onnx file states.

    `norm`: "batch" normalises by each image's own statistics, as Pix2Pix is tested; "eval" uses the running statistics.
    `padding`: the padding of a source whose file does not store it, such as a CycleGAN ResNet; the default is the
    file's value or reflection.

    The following apply with a [gan]. `network`: the network to build if there is no source. `deep`: OMGD's second
    teacher. `start`: files for the other networks by name (deep, generator_b, discriminator, discriminator_a,
    discriminator_b).
    """

    source: Text | None = None
    key: str | None = Field(None, max_length=200)
    class_path: Text | None = None
    range: Annotated[str, Field(max_length=20), AfterValidator(check_form)] | None = None
    norm: Literal["eval", "batch"] = "eval"
    padding: Padding | None = None
    network: GENERATORS.union | None = None
    deep: GENERATORS.union | None = None
    start: dict[Text, Text] = Field(default_factory=dict, max_length=16)


class AutoStudent(GoalSettings):
    """The student, if its network is not given in full. `family`: "auto" is a student of the teacher's kind, channels
    and depth, and of a U-Net's norm. `width`: its width. `multiple`: if a target chooses the width, it is a multiple of
    this.

    `source`: a file of the student to start from, or "teacher" for a copy of the teacher. `sha256`: the hash of that
    file. `class_path`: the user's own class of that student. `fresh`: whether a student from a file
    gets new weights instead of the file's.
    """

    replaces: ClassVar = {
        "width": (*BUDGET, "multiple", "source", "sha256"),
        "source": (*BUDGET, "multiple", "width", "sha256"),
        **dict.fromkeys(TARGETS, ("width", "source", "sha256")),
    }
    exclusive: ClassVar = ("width", *TARGETS, "source")
    alone: ClassVar = (*TARGETS, "source")  # keys that leave nothing of another family under them

    family: Literal["auto"] = "auto"
    width: Channels | None = None
    multiple: Multiple | None = None
    source: Text | None = None
    sha256: Text | None = None
    class_path: Text | None = None
    fresh: bool = False

    @model_validator(mode="after")
    def _of_target(self):
        if self.multiple is not None and all(getattr(self, target) is None for target in TARGETS):
            raise ValueError(f"multiple needs one of {', '.join(TARGETS)}; set one, or omit it")
        return self


AnyStudent = tagged_union((AutoStudent, *(kind.config_class for kind in GENERATORS.values())))


class PruneSettings(GoalSettings):
    """`method`: the criterion by which channels are scored. The budget is one of target_macs, target_latency,
    target_size, share, ratio and width; the default is a share of 0.25. `share`: the budget as a share of the network's
    own MACs, on one image of data.size. `count_as`: the convention by which MACs are counted. `ratio`: the share of
    each layer's channels to remove, as CAGC prunes. `width`: the shape given by this width, with the best channels of
    each layer first, as GAN-Compression transfers weights. `multiple`: each layer keeps a multiple of this many
    channels, rounded down, but at least that many if it has them.

    `keep_weights`: if false, the pruned network gets new initial weights, as in CAT's code; only the scales and shifts
    of instance norms are kept. `both`: whether CycleGAN's second generator, in the same folder, is pruned in the same
    way.
    """

    replaces: ClassVar = {
        **dict.fromkeys(TARGETS, ("share", "ratio", "width")),
        "share": (*BUDGET, "ratio", "width"),
        "ratio": (*BUDGET, "share", "width"),
        "width": (*BUDGET, "share", "ratio", "multiple"),
    }
    exclusive: ClassVar = (*TARGETS, "share", "ratio", "width")

    method: PRUNERS.union = _first(PRUNERS)
    multiple: Multiple = 1
    share: float | None = Field(None, gt=0, lt=1)
    ratio: float | None = Field(None, gt=0, lt=1)
    width: int | None = Field(None, ge=1, le=4096)
    keep_weights: bool = True
    both: bool = False
    count_as: Convention = "true"

    def target(self, macs: int) -> int:
        """The largest number of MACs of a pruned network, given the network's own."""
        return self.target_macs or int(macs * (self.share or 0.25))


class Recipe(BaseSettings):
    """A whole run, or a pipeline of several `stages`. With `gan` the teacher is trained, beside the student or alone
    (`teach`), unless algorithm.online is "never"; without it the teacher is frozen.

    `name`: the recipe's name. `description`: one sentence about it, shown by recipes list.

    `masks` are trained with the generators of a `teach` run. `prune` is for stages that prune, `search` for stages that
    search. `paper` holds a row of a published table and has no effect.
    """

    name: Text = "unnamed"
    description: Text = ""
    teacher: TeacherSettings = TeacherSettings()
    student: AnyStudent = AutoStudent()
    data: DataSettings = DataSettings()
    gan: AnyGAN | None = None
    masks: MaskSettings | None = None
    algorithm: ALGORITHMS.union = _first(ALGORITHMS)
    information: INFORMATION.union = _first(INFORMATION)
    train: TrainSettings = TrainSettings()
    prune: PruneSettings | None = None
    search: AnySearch | None = None
    stages: tuple[Stage, ...] = Field((), strict=False, max_length=64)
    paper: dict[Text, Text | Figure] = Field(default_factory=dict, max_length=64)

    @model_validator(mode="after")
    def _fits(self):
        if self.gan is not None and self.train.teacher_cache:
            raise ValueError("train.teacher_cache needs a frozen teacher without a [gan]; omit it")
        check_stages(self.stages)
        if self.masks is not None and self.stages and all(stage.replaceable for stage in self.stages):
            raise ValueError("[masks] needs a stage with do = 'teach' that has masks, and there is none; omit it")
        for do in ("prune", "search"):
            if getattr(self, do) is not None and self.stages and all(stage.do != do for stage in self.stages):
                raise ValueError(f"[{do}] needs a stage with do = '{do}', and there is none; omit it")
        return self

    @property
    def from_pairs(self) -> bool:
        """Whether only the teacher's outputs are known."""
        return self.teacher.source == PAIRS

    @property
    def learns(self) -> bool:
        """Whether the teacher is trained."""
        return self.gan is not None and self.algorithm.online != "never"

    def toml(self) -> str:
        """The recipe as TOML without open settings: those that are None, and those that follow the data or the
        teacher unless stated (channels, a discriminator's norm).
        """
        values = self.model_dump(exclude_none=True, mode="json", exclude=None if self.stages else {"stages"})
        _leave_open(values, self)
        return tomli_w.dumps(values)

    def stated(self) -> dict[str, Any]:
        """The stated values without defaults, so that open values stay open."""
        return self.model_dump(exclude_none=True, exclude_unset=True, mode="json")


def choices(kind: type[BaseSettings] | None, key: str) -> list[type[BaseSettings]]:
    """The classes that the table `key`, within a table of this class, may have, the default first."""
    found, todo = [], [kind.model_fields[key].annotation] if kind and key in kind.model_fields else []
    while todo:
        part = todo.pop(0)
        if isinstance(part, type) and issubclass(part, BaseSettings):
            found.append(part)
        todo += get_args(part)  # of unions and Annotated
    return found


def chosen(kinds: list[type[BaseSettings]], table: dict) -> type[BaseSettings] | None:
    """The class selected by the table's tag; None if there is none."""
    return next((kind for kind in kinds if says(table, kind)), None)


def _leave_open(table: dict, settings: BaseSettings) -> None:
    for key in settings.left_open():
        table.pop(key, None)
    for key, value in settings:
        if isinstance(value, BaseSettings):
            _leave_open(table[key], value)


def changed(settings: BaseSettings, key: str, change: Callable[[Any], Any]) -> BaseSettings:
    """The settings with the value of a `table.key` changed, if it exists and is not None."""
    name, _, rest = key.partition(".")
    value = getattr(settings, name, None)
    if value is None:
        return settings
    return settings.but(**{name: changed(value, rest, change) if rest else change(value)})
