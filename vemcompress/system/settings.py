"""Base class of all settings in a recipe, common field types, and unions of alternatives."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WrapValidator,
    model_validator,
)

from vemcompress.system.names import AUTO


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character; omit it")
    return text


TAG_KEYS = ("family", "name", "method")  # keys that select the class in a union
MAX_STEPS = 10**7  # of a run
MAX_CHANNELS = 2**16  # of a feature map
SCALES = (1, 2, 3, 4, 8)  # factors by which generators may enlarge images

# Every number, text and list in a recipe has bounds, so that mistakes and hostile files are refused before they use
# memory.
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Batch = Annotated[int, Field(ge=1, le=4096)]
# A union with Literal["auto"] would report two errors for a wrong number; this reports one.
AutoBatch = Annotated[
    Batch,
    WrapValidator(lambda value, number: value if value == AUTO else number(value)),
    PlainSerializer(lambda value: value, return_type=int | str),
]
Channels = Annotated[int, Field(ge=1, le=4096)]  # of an image, or of a network's narrowest layer
# How MACs are counted (`networks.cost`). On the command line, `=true` would be read as a boolean.
Convention = Annotated[
    Literal["true", "paper", "paper_norm"], BeforeValidator(lambda value: "true" if value is True else value)
]
Epochs = Annotated[float, Field(gt=0, le=1e6)]
Figure = Annotated[int, Field(ge=-(2**53), le=2**53)] | Annotated[float, Field(ge=-1e30, le=1e30)]  # only shown
Images = Annotated[int, Field(ge=0, le=2**16)]  # images kept in memory
Macs = Annotated[int, Field(ge=1, le=10**15)]
Period = Annotated[int, Field(ge=1, le=MAX_STEPS)]  # steps between two events
Positive = Annotated[float, Field(gt=0, le=1e30)]  # within float32; a run detects a learning rate that is too high
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_without_nul)]  # the largest length of a path
Weight = Annotated[float, Field(ge=0, le=1e30)]  # of a loss
Width = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]  # of a layer


class BaseSettings(BaseModel):
    """Frozen settings. Unknown keys, silent conversions (the string "8" for 8) and infinite numbers are errors.

    `replaces`: the keys that a changed key removes from a recipe's lower layer, because they exclude it or were chosen
    for its old value. `shared`: if a table becomes one of another class, it keeps the keys that both classes inherit
    from this one. `exclusive`: keys of which at most one may be given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    replaces: ClassVar[dict[str, tuple[str, ...]]] = {}
    shared: ClassVar[bool] = False
    exclusive: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _one_of(self):
        given = [key for key in self.exclusive if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} exclude each other; give only one")
        return self

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """The values of the table `below` that are kept when the table `above`, of a higher layer, is applied."""
        changed = [key for key in above if above[key] != below.get(key)]
        rules = [vars(kind).get("replaces", {}) for kind in cls.__mro__]
        gone = {old for key in changed for rule in rules for old in rule.get(key, ())}
        return {key: value for key, value in below.items() if key not in gone}

    def but(self, **values: Any) -> Self:
        """A copy with these values."""
        return self.model_copy(update=values)

    def left_open(self) -> set[str]:
        """Fields that a written recipe omits, so that they follow the data or the teacher."""
        return set()


def tag_of(settings: type[BaseSettings]) -> tuple[str, str] | None:
    """The field that selects a class in a union, and its default value; None for a class outside unions."""
    tags = ((key, settings.model_fields[key].default) for key in TAG_KEYS if key in settings.model_fields)
    return next((tag for tag in tags if isinstance(tag[1], str)), None)


def tag_values(settings: type[BaseSettings]) -> tuple[str, ...]:
    """The values of that field that select this class, its default first."""
    key, default = tag_of(settings)
    return tuple(dict.fromkeys((default, *get_args(settings.model_fields[key].annotation))))


def says(table: dict, settings: type[BaseSettings]) -> bool:
    """Whether a table's tag selects this class; also True if the class has no tag."""
    tag = tag_of(settings)
    return tag is None or table.get(tag[0]) in tag_values(settings)


def tagged_union(kinds: Iterable[type[BaseSettings]]) -> Any:
    """The type of an instance of any of these classes, selected by their tags; for one class, that class."""
    first, *others = kinds
    return Annotated[Union[(first, *others)], Field(discriminator=tag_of(first)[0])] if others else first
