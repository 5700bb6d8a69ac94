"""The schema of a recipe, put together from the `Settings` of the networks, algorithms and add-ons themselves."""

from __future__ import annotations

from typing import Annotated, Literal

import tomli_w
from pydantic import Field, model_validator

from vemcompress.algorithms import AnyAlgorithm
from vemcompress.data.settings import DataSettings
from vemcompress.gans import AnyGAN
from vemcompress.information import AnyInformation
from vemcompress.information.vem import VEM
from vemcompress.networks import (
    AnyConfig,
    CartoonGANConfig,
    DeepMobileResNetConfig,
    DeepUNetConfig,
    MobileResNetConfig,
    ResNetConfig,
    UNetConfig,
)
from vemcompress.system.settings import BaseSettings
from vemcompress.training.settings import TrainSettings


class TeacherSettings(BaseSettings):
    """`source`: the weights of the teacher, or, where the recipe has a [gan], those that it starts from.

    `norm = "batch"`: BatchNorm by each image's own statistics, as Pix2Pix is tested. With a [gan]: `network` is what
    is built where there is no `source`, `deep` OMGD's second teacher, and `start` gives files for the others by name
    (`deep`, `generator_b`, `discriminator`, `discriminator_a`, `discriminator_b`).
    """

    source: str | None = None
    class_path: str | None = None
    norm: Literal["eval", "batch"] = "eval"
    network: AnyConfig | None = None
    deep: AnyConfig | None = None
    start: dict[str, str] = Field(default_factory=dict)


class AutoStudent(BaseSettings):
    """A student of the teacher's kind, channels and depth, and of a U-Net's norm. `target_macs` are true MACs."""

    family: Literal["auto"] = "auto"
    width: int | None = Field(None, ge=1)
    target_macs: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_of(self):
        if self.width and self.target_macs:
            raise ValueError("width and target_macs exclude each other; give one")
        return self


AnyStudent = Annotated[
    AutoStudent
    | ResNetConfig
    | MobileResNetConfig
    | UNetConfig
    | CartoonGANConfig
    | DeepUNetConfig
    | DeepMobileResNetConfig,
    Field(discriminator="family"),
]


class Recipe(BaseSettings):
    """A whole run. With `gan` the teacher learns, beside the student or alone (`teach`); without, it is frozen.

    `paper` holds a published table's row and changes nothing.
    """

    name: str = "unnamed"
    description: str = ""
    teacher: TeacherSettings = TeacherSettings()
    student: AnyStudent = AutoStudent()
    data: DataSettings = DataSettings()
    gan: AnyGAN | None = None
    algorithm: AnyAlgorithm = AnyAlgorithm()
    information: AnyInformation = VEM.Settings()
    train: TrainSettings = TrainSettings()
    paper: dict[str, str | int | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _frozen(self):
        if self.gan is not None and self.train.teacher_cache:
            raise ValueError("train.teacher_cache is of a frozen teacher, and one with a [gan] learns; leave it away")
        return self

    def toml(self) -> str:
        """The recipe as TOML; settings that are open are left out: those that are None, and what follows the data or
        the teacher where nobody has stated it (channels, a discriminator's norm)."""
        values = self.model_dump(exclude_none=True, mode="json")
        shapes = {"student": self.student, "network": self.teacher.network, "deep": self.teacher.deep}
        tables = {"student": values["student"], **values["teacher"]}
        for name, config in shapes.items():
            _leave_open(tables.get(name), config, ("in_channels", "out_channels"))
        if self.gan is not None:
            # Of two domains' discriminators each has its own number of channels.
            judge = values["gan"]["discriminator"]
            del judge["in_channels"]
            _leave_open(judge, self.gan.discriminator, ("norm",))
        return tomli_w.dumps(values)


def _leave_open(table: dict | None, config: BaseSettings | None, keys: tuple[str, ...]) -> None:
    for key in keys:
        if table and key not in config.model_fields_set:
            table.pop(key, None)
