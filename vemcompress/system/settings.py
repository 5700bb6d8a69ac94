"""The base of everything that a recipe can say, and the unions of what it can choose from."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character; omit it")
    return text


TAG_KEYS = ("family", "name", "method")  # that tell the classes of a union apart
MAX_STEPS = 10**7  # of a run
MAX_CHANNELS = 2**16  # of a feature map
SCALES = (1, 2, 3, 4, 8)  # by how much generators may enlarge images

# Every number, text and list of a recipe has bounds, so that a slip or a hostile file is told before it takes memory.
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Batch = Annotated[int, Field(ge=1, le=4096)]
Channels = Annotated[int, Field(ge=1, le=4096)]  # of an image, or of a network's narrowest layer
# How MACs are counted (`networks.cost`). On the command line `=true` is a truth value.
Convention = Annotated[
    Literal["true", "paper", "paper_norm"], BeforeValidator(lambda value: "true" if value is True else value)
]
Epochs = Annotated[float, Field(gt=0, le=1e6)]
Figure = Annotated[int, Field(ge=-(2**53), le=2**53)] | Annotated[float, Field(ge=-1e30, le=1e30)]  # to show
Images = Annotated[int, Field(ge=0, le=2**16)]  # that are kept in memory
Macs = Annotated[int, Field(ge=1, le=10**15)]
Period = Annotated[int, Field(ge=1, le=MAX_STEPS)]  # at each how many-th step
Positive = Annotated[float, Field(gt=0, le=1e30)]  # what float32 holds, with room; a run says that a rate is too high
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_without_nul)]  # as long as a path
Weight = Annotated[float, Field(ge=0, le=1e30)]  # of a loss
Width = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]  # of a layer


class BaseSettings(BaseModel):
    """Frozen; unknown keys, silent conversions (the string "8" for 8) and infinite numbers are errors.

    `replaces`: the keys that a changed key removes from a recipe's lower layer, because it excludes them or they were
    chosen to fit its old value. `shared`: a table that becomes one of another class keeps the keys that both have from
    this one. `exclusive`: keys of which one at most may be given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    replaces: ClassVar[dict[str, tuple[str, ...]]] = {}
    shared: ClassVar[bool] = False
    exclusive: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _one_of(self):
        given = [key for key in self.exclusive if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} exclude each other; give one")
        return self

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """What is kept of a recipe's table, of this class, under the table of the layer `above`, which wins."""
        changed = [key for key in above if above[key] != below.get(key)]
        rules = [vars(kind).get("replaces", {}) for kind in cls.__mro__]
        gone = {old for key in changed for rule in rules for old in rule.get(key, ())}
        return {key: value for key, value in below.items() if key not in gone}

    def but(self, **values: Any) -> Self:
        """The same settings with these values."""
        return self.model_copy(update=values)

    def left_open(self) -> set[str]:
        """Fields that a written recipe leaves out, so that they follow the data or the teacher."""
        return set()


def tag_of(settings: type[BaseSettings]) -> tuple[str, str] | None:
    """The field that tells a class of a union from the others, and its default value; None for a class of no union."""
    tags = ((key, settings.model_fields[key].default) for key in TAG_KEYS if key in settings.model_fields)
    return next((tag for tag in tags if isinstance(tag[1], str)), None)


def tag_values(settings: type[BaseSettings]) -> tuple[str, ...]:
    """The values of that field which stand for this class, its default first."""
    key, default = tag_of(settings)
    return tuple(dict.fromkeys((default, *get_args(settings.model_fields[key].annotation))))


def says(table: dict, settings: type[BaseSettings]) -> bool:
    """Whether a table says by its tag that it is of this class; also where the class needs none."""
    tag = tag_of(settings)
    return tag is None or table.get(tag[0]) in tag_values(settings)


def tagged_union(kinds: Iterable[type[BaseSettings]]) -> Any:
    """The type of an instance of any of these classes, told apart by their tags; for one class, that class."""
    first, *others = kinds
    return Annotated[Union[(first, *others)], Field(discriminator=tag_of(first)[0])] if others else first
