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
    """`size`: side of the square input images in pixels; if a generator enlarges, its targets are larger by its scale.
    `load_size`: the size to which images are resized before the random crop. `crop`: the central square that is cut out
    before resizing: its side in the image's own pixels (CelebA: 160), or "square" for the largest one; None resizes the
    whole image and does not keep the aspect ratio. "random" does not resize images but cuts random squares from them,
    in evaluation central ones.

    `degrade`: turns single photos into pairs of a degraded input and the photo itself. Its value is a list of steps
    with "+" between them, such as "bicubic4" or "blur0.5..2+noise10+jpeg40..90".

    `kind`: "single" for images without ground truth, for a frozen teacher or as real images beside latent vectors;
    "paired" for pairs of images; "labels" for photos with label maps; "unpaired" for two domains. `direction`: which
    side of the pairs, or which domain, is translated to which; with "AtoB", A is the input. `flip`: whether training
    images are mirrored at random. `roots`: the folders or files of the images. `split`: the sub-folder of training
    images. `recursive`: whether images in sub-folders are used too.

    `classes`: the number of classes in label maps. `void`: the value of pixels without a class. `ids`: the meaning of
    the values: "index", "cityscapes" or "cityscapes_train". `label_input`: how label maps become the network's input:
    "onehot" is one channel per class, "colour" a colour picture. `label_target`: the same for label maps as the target.

    `held_out`: how many training images are set aside to select the best checkpoint; None is one in twenty, at most 64,
    and none if there are fewer than 80. `workers`: threads that read images; None is one per processor, 2 to 8.
    `on_device`: whether a data set that is small compared with a GPU's memory is kept there, "auto" or "never"; this
    does not change the batches.
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
        return {"size"} - self.model_fields_set  # the images of a latent generator have their own size

    @model_validator(mode="after")
    def _crop_fits(self):
        if self.load_size and self.load_size < self.size:
            raise ValueError(f"load_size {self.load_size} is smaller than size {self.size}")
        return self

    @property
    def fits(self) -> str:
        """The key under [fits] that applies: the kind, or "degraded"."""
        return self.kind if self.degrade is None else DEGRADED

    def for_only(self, size: int | None) -> Self:
        """The settings with the only `size` that a network supports, if there is one and no size is stated."""
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
            raise ValueError(
                "crop = 'random' keeps images at their own size, but load_size resizes them; give only one"
            )
        if self.degrade is not None and self.kind != "single":
            raise ValueError("degrade makes pairs of single photos; omit it, or set data.kind to 'single'")
        return self

    @model_validator(mode="after")
    def _labels_alone(self):
        for key in ("classes", "void", "ids"):
            if self.kind != "labels" and getattr(self, key) is not None:
                raise ValueError(f"{key} applies only to label maps; set data.kind = 'labels' or omit it")
        return self
