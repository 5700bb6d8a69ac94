"""The [data] table of a recipe."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vemcompress.data import degrade
from vemcompress.data.labels import Ids, LabelInput
from vemcompress.data.pairs import Direction
from vemcompress.system.settings import BaseSettings, Images, Text

MAX_ROOTS = 10_000  # folders and files

DEGRADED = "degraded"  # photos that become pairs
DataKind = Literal["single", "paired", "labels", "unpaired"]


class DataSettings(BaseSettings):
    """`size`: side of the square images in pixels. `load_size`: what they are resized to before the random crop.
    `crop`: the square in the middle of an image, of so many of its own pixels or, "square", as large as it has one,
    that is taken before it is resized (CelebA: 160); without it the aspect ratio is not kept. "random": images are not
    resized, and squares are cut from them where chance puts them; what is measured is cut from their middle. `size` is
    that of the inputs, and of a generator that enlarges the targets are larger by its scale.

    `degrade`: single photos become pairs, a photo the ground truth and what this makes of it the input; steps of
    `data.degrade` with "+" between them, such as "bicubic4" or "blur0.5..2+noise10+jpeg40..90".

    `kind`: "single" images for a frozen teacher, or real ones beside latent vectors; "paired" ones, or "labels" with
    photos, whose other side is the ground truth; two "unpaired" domains. `direction`: which side of pairs, or which
    domain, becomes which. `flip`: whether training images are mirrored at random. `roots`: the folders or files of the
    images. `split`: the part of them that is trained on. `recursive`: whether images in sub-folders are taken too.

    `classes`, `void` and `ids` say how the numbers of label maps are read, as in `data.labels`. `label_input` and
    `label_target`: a channel for each class, or a picture in colours, where label maps are the input or the target.

    `held_out`: training images that are set aside to pick the best checkpoint by; None is one in twenty, at most 64,
    and none of fewer than 80. `workers`: threads that read images, None as many as there are processors, 2 to 8;
    `on_device`: whether a set that is small beside a GPU's memory is kept there, "auto" or "never". Neither of these
    two changes a batch.
    """

    replaces: ClassVar = {"size": ("load_size",), "kind": ("degrade",), "degrade": ("kind",)}

    kind: DataKind = "single"
    direction: Direction = "AtoB"
    size: int = Field(256, ge=8, le=4096)
    load_size: int | None = Field(None, ge=8, le=8192)
    crop: Literal["square", "random"] | Annotated[int, Field(ge=8, le=8192)] | None = None
    degrade: Text | None = None
    flip: bool = True
    split: Text = "trainA"
    roots: tuple[Text, ...] = Field((), strict=False, max_length=MAX_ROOTS)
    recursive: bool = False
    classes: int | None = Field(None, ge=1, le=255)
    void: int | None = Field(None, ge=0, le=255)
    label_input: LabelInput = "onehot"
    label_target: LabelInput = "colour"
    ids: Ids | None = None
    held_out: Images | None = None
    workers: int | None = Field(None, ge=1, le=256)
    on_device: Literal["auto", "never"] = "auto"

    def left_open(self) -> set[str]:
        return {"size"} - self.model_fields_set  # that of a latent generator's images is its own

    @model_validator(mode="after")
    def _crop_fits(self):
        if self.load_size and self.load_size < self.size:
            raise ValueError(f"load_size {self.load_size} is smaller than size {self.size}")
        return self

    @property
    def fits(self) -> str:
        """What a recipe may fit itself to: the kind, or "degraded"."""
        return self.kind if self.degrade is None else DEGRADED

    def for_only(self, size: int | None) -> Self:
        """With the only `size` that a network takes, where there is one and none is stated."""
        return self if size is None or "size" in self.model_fields_set else self.but(size=size)

    @property
    def has_targets(self) -> bool:
        """Whether each input has its ground truth."""
        return self.kind in ("paired", "labels") or self.degrade is not None

    @field_validator("degrade")
    @classmethod
    def _can_be_made(cls, text: str | None) -> str | None:
        if text is not None:
            degrade.parse(text)
        return text

    @model_validator(mode="after")
    def _crops_alone(self):
        if self.crop is not None and (self.kind == "labels" or (self.kind == "paired" and self.crop != "random")):
            raise ValueError("crop applies to single images, and would cut only one side of a pair; omit it")
        if self.crop == "random" and self.load_size not in (None, self.size):
            raise ValueError("crop = 'random' leaves images at their own size, and load_size resizes them; give one")
        if self.degrade is not None and self.kind != "single":
            raise ValueError("degrade makes pairs of single photos; omit it, or leave data.kind at 'single'")
        return self

    @model_validator(mode="after")
    def _labels_alone(self):
        for key in ("classes", "void", "ids"):
            if self.kind != "labels" and getattr(self, key) is not None:
                raise ValueError(f"{key} applies only to label maps; set data.kind = 'labels' or omit it")
        return self
