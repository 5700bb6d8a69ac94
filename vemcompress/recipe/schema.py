"""The schema of a recipe, put together from the `Settings` of the networks, algorithms and add-ons themselves."""

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
    """`source`: the weights of the teacher, or, where the recipe has a [gan], those that it starts from. "pairs" for a
    teacher of which only the outputs are known: the other side of each pair of the data.

    `key` is the name of the generator in a file that has several, such as netG_B. `class_path`: "module:Class" for a
    network of the user's own class. `range` is that of the images which such a network or an .onnx file takes and
    gives: "0..255", "0..1" or "-1..1", or two of them as in "-1..1:0..255"; where it is left out, [-1, 1] or what an
    .onnx file tells.

    `norm`: "batch" for BatchNorm by each image's own statistics, as Pix2Pix is tested. `padding`: that of a `source`
    whose file does not tell it, a CycleGAN ResNet or one of its kin; without it as the file says, or by reflection.

    With a [gan]: `network` is what is built where there is no `source`, `deep` OMGD's second teacher, and `start` gives
    files for the others by name (`deep`, `generator_b`, `discriminator`, `discriminator_a`, `discriminator_b`).
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
    """`family`: "auto" for a student of the teacher's kind, channels and depth, and of a U-Net's norm: of a `width`, or
    the widest of at most `target_macs` true MACs, `target_latency` or `target_size`, a `multiple` of so much. `source`:
    or the one of this file, with its weights, known by its `sha256`, and of the user's own class `class_path`;
    "teacher" for the teacher's own network. `fresh`: with new weights in the place of the file's."""

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
            raise ValueError(f"multiple needs one of {', '.join(TARGETS)}, which is not set; omit it")
        return self


AnyStudent = tagged_union((AutoStudent, *(kind.config_class for kind in GENERATORS.values())))


class PruneSettings(GoalSettings):
    """The criterion, and the budget: at most `target_macs`, or this `share` of the network's own MACs (0.25), on one
    image of `data.size`, counted by the convention `count_as`; or a `target_latency` or `target_size`; or without this
    `ratio` of each layer's channels, as CAGC prunes; or the shape that the shorthand `width` stands for, with the best
    channels of each layer first, as GAN-Compression transfers them. `multiple`: as many channels of a layer as are a
    multiple of so many, rounded down, and at least that many where it has them.

    `keep_weights` = false gives the pruned network new initial weights, as CAT's code does: only the scales and shifts
    of instance norms stay. `both`: CycleGAN's second generator, in the same folder, is pruned in the same way.
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
        """So many MACs may be left of a network's."""
        return self.target_macs or int(macs * (self.share or 0.25))


class Recipe(BaseSettings):
    """A whole run, or a pipeline of several, its `stages`. With `gan` the teacher learns, beside the student or alone
    (`teach`), unless algorithm.online is "never"; without, it is frozen.

    `masks` learn beside the generators of a run that teaches. `prune` is of a stage that prunes, `search` of one that
    searches. `paper` holds a published table's row and changes nothing.
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
        """Whether the outputs of the teacher are all that is known of it."""
        return self.teacher.source == PAIRS

    @property
    def learns(self) -> bool:
        """Whether the teacher learns."""
        return self.gan is not None and self.algorithm.online != "never"

    def toml(self) -> str:
        """The recipe as TOML; settings that are open are left out: those that are None, and what follows the data or
        the teacher where nobody has stated it (channels, a discriminator's norm)."""
        values = self.model_dump(exclude_none=True, mode="json", exclude=None if self.stages else {"stages"})
        _leave_open(values, self)
        return tomli_w.dumps(values)

    def stated(self) -> dict[str, Any]:
        """What was said, without the defaults, so that what is open stays so."""
        return self.model_dump(exclude_none=True, exclude_unset=True, mode="json")


def choices(kind: type[BaseSettings] | None, key: str) -> list[type[BaseSettings]]:
    """The classes that the table `key` of a table of this class may be of, the default first."""
    found, todo = [], [kind.model_fields[key].annotation] if kind and key in kind.model_fields else []
    while todo:
        part = todo.pop(0)
        if isinstance(part, type) and issubclass(part, BaseSettings):
            found.append(part)
        todo += get_args(part)  # of unions and Annotated
    return found


def chosen(kinds: list[type[BaseSettings]], table: dict) -> type[BaseSettings] | None:
    """That one of the classes which a table is of by its tag; None where it says none of them."""
    return next((kind for kind in kinds if says(table, kind)), None)


def _leave_open(table: dict, settings: BaseSettings) -> None:
    for key in settings.left_open():
        table.pop(key, None)
    for key, value in settings:
        if isinstance(value, BaseSettings):
            _leave_open(table[key], value)


def changed(settings: BaseSettings, key: str, change: Callable[[Any], Any]) -> BaseSettings:
    """The settings with the value of a `table.key` changed, where it is there and not None."""
    name, _, rest = key.partition(".")
    value = getattr(settings, name, None)
    if value is None:
        return settings
    return settings.but(**{name: changed(value, rest, change) if rest else change(value)})
