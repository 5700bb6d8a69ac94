"""What every image generator here is: a frozen `Config` that determines its shape, and named taps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from vemcompress.errors import UsageError
from vemcompress.networks.cost import Cost, Counted, costs
from vemcompress.networks.equalised import Equalised
from vemcompress.networks.norms import InstanceNorm2d
from vemcompress.networks.slots import Group
from vemcompress.networks.spectral import Spectral
from vemcompress.system.settings import BaseSettings, Channels, Text

Norm = Literal["instance", "instance_affine", "batch"]
Padding = Literal["reflect", "replicate", "zero"]
# relu6 in the place of each published activation: bounded maps lose less in int8. Another network: train it with this.
Activation = Literal["published", "relu6"]
Taps = dict[str, Tensor]


@dataclass(frozen=True)
class ImageInput:
    """A generator takes images of so many channels, whose sides are multiples of `multiple` and at least `least`
    pixels, and gives images of `scale` times their size. `only` is the one side of squares that it takes, where it
    takes no other."""

    channels: int
    multiple: int = 1
    least: int = 1
    scale: int = 1
    only: int | None = None

    kind: ClassVar[str] = "image"


Prior = Literal["normal", "uniform"]


@dataclass(frozen=True)
class LatentInput:
    """A generator takes latent vectors of `size` numbers, B x size, drawn from `prior` (N(0, 1), or uniform in
    [-1, 1]), and draws images of `image` x `image` pixels."""

    size: int
    image: int
    prior: Prior = "normal"

    kind: ClassVar[str] = "latent"


class Config(Counted, BaseSettings):
    """The shape of a network: an `ImageConfig`, or a `LatentConfig`. Subclasses of these add per-layer widths;
    `width = 16` is a shorthand for all of them. `batch` is the published batch size of training such a network.

    All have `in_channels` (of a latent vector its size), `out_channels` and `norm`.
    """

    batch: ClassVar[int] = 1
    # The field whose length another width keeps, and the key for that number.
    counted: ClassVar[tuple[str, str]] = ("", "")
    # A sentence for whoever reads its MACs, where a column of them is not what it seems.
    counting_note: ClassVar[str] = ""

    family: Text

    @model_validator(mode="after")
    def _can_be_built(self):
        self.check()
        self.check_parameters()
        return self

    def check(self) -> None:
        """Raises ValueError for fields that do not fit each other."""

    @property
    def biased(self) -> bool:
        """Whether the convolutions before a norm have biases."""
        return self.norm != "batch"

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """Another width keeps the number of blocks or levels."""
        kept, (field, number) = super().under(below, above), cls.counted
        if "width" in above and above["width"] != below.get("width") and isinstance(below.get(field), list):
            kept[number] = len(below[field])
        return kept

    def with_channels(self, inputs: int, outputs: int) -> Self:
        """With so many channels of the input (numbers of a latent vector) and of the images that it gives."""
        raise NotImplementedError

    def for_data(self, inputs: int, outputs: int) -> Self:
        """With the channels of the data's inputs and targets. Raises ValueError where another number was stated."""
        raise NotImplementedError

    def shaped(self, widths: Mapping[str, int]) -> Self:
        """The Config of a new network of these widths by group, where what follows other widths follows them anew."""
        return self.with_widths(widths)

    def widths_by_group(self) -> dict[str, int]:
        """The width of every channel group, by the names of `Generator.groups`, from the input to the output."""
        raise NotImplementedError

    def with_widths(self, widths: Mapping[str, int]) -> Self:
        """This Config with other widths, by group; those that are left out stay. Raises ValueError for other names."""
        own = self.widths_by_group()
        if unknown := widths.keys() - own.keys():
            raise ValueError(f"no channel group {min(unknown)!r}; there are {', '.join(own)}")
        return type(self).model_validate(self.model_dump() | self._placed(own | dict(widths)))

    def genes(self) -> dict[str, dict[str, int]]:
        """What a sub-network's widths are written by (`networks.subnets`): for each gene its channel groups, and the
        factors between its entry and their widths."""
        return {group: {group: 1} for group in self.widths_by_group()}

    def of_width(self, width: int) -> Self:
        """The network of this kind, depth, norm and channels that the shorthand `width` stands for."""
        kind = type(self)
        return kind.model_validate(kind.under(self.model_dump(mode="json"), {"width": width}) | {"width": width})

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """The fields that hold these widths of all groups."""
        raise NotImplementedError

    def advice(self, size: int) -> str:
        """A key and its value, such as "downs = 6", with which such a network takes images of `size`; nothing where
        there is none."""
        return ""

    def product(self) -> "Config":
        """Of the network that a run with such a student gives, or, of a supernet, one that it could give."""
        return self

    def student(self, width: int) -> "Config":
        """The student of this width that such a teacher is distilled into by default, with its channels."""
        raise NotImplementedError


class ImageConfig(Config):
    """Of a generator from images to images."""

    in_channels: Channels = 3
    out_channels: Channels = 3
    norm: Norm = "instance"

    def left_open(self) -> set[str]:
        return {"in_channels", "out_channels"} - self.model_fields_set

    def with_channels(self, inputs: int, outputs: int) -> Self:
        return self.but(in_channels=inputs, out_channels=outputs)

    def for_data(self, inputs: int, outputs: int) -> Self:
        for key, found in (("in_channels", inputs), ("out_channels", outputs)):
            _check_stated(self, key, found)
        return self.but(in_channels=inputs, out_channels=outputs)


class LatentConfig(Config):
    """Of a generator from latent vectors of `latent` numbers, drawn from `prior`, to square images."""

    batch: ClassVar[int] = 64

    latent: Channels = 128
    prior: Prior = "normal"
    out_channels: Channels = 3
    norm: Norm = "batch"

    @property
    def in_channels(self) -> int:
        return self.latent

    @property
    def image(self) -> int:
        """The side of its images, in pixels."""
        raise NotImplementedError

    @property
    def takes(self) -> LatentInput:
        return LatentInput(self.latent, self.image, self.prior)

    @property
    def biased(self) -> bool:
        return True

    def left_open(self) -> set[str]:
        return {"out_channels"} - self.model_fields_set

    def with_channels(self, inputs: int, outputs: int) -> Self:
        return self.but(latent=inputs, out_channels=outputs)

    def for_data(self, inputs: int, outputs: int) -> Self:
        """Data have no latent vectors."""
        _check_stated(self, "out_channels", outputs)
        return self.but(out_channels=outputs)


def _check_stated(config: Config, key: str, found: int) -> None:
    if key in config.model_fields_set and getattr(config, key) != found:
        raise ValueError(f"{key} is {getattr(config, key)}, the data have {found}")


class Generator(nn.Module):
    """An image-to-image generator: B x in_channels x H x W in [-1, 1] to B x out_channels x H x W in [-1, 1].

    `LatentGenerator` is its form without an image as input. RGB on both sides, whatever the published weights use.
    `multiple` is the number that H and W must be divisible by for an output of the input's size; `min_size` is the
    smallest H or W that the padding allows; `only_size` is both, where its weights take no other.
    """

    styled: ClassVar[bool] = False  # has w between latent vectors and images, on which `draw` works
    config_class: ClassVar[type[Config]]  # what builds it; its `family` is the network's key in `GENERATORS`
    multiple: int = 1
    min_size: int = 1
    only_size: int | None = None
    in_channels: int
    out_channels: int

    def __init__(self, config: Config | None):
        super().__init__()
        self.config = config
        if config is not None:
            self.in_channels, self.out_channels = config.in_channels, config.out_channels

    @property
    def family(self) -> str:
        return self.config.family

    @property
    def what(self) -> str:
        """What it is, in a sentence."""
        return f"a network of the family {self.family}"

    @property
    def channels(self) -> tuple[int, int]:
        """Of the images that it takes and gives."""
        return self.in_channels, self.out_channels

    @property
    def takes(self) -> ImageInput | LatentInput:
        """What it takes as input."""
        return ImageInput(self.in_channels, self.multiple, self.min_size, only=self.only_size)

    @property
    def times(self) -> int:
        """How many times the input's sides its images have; 1 for images drawn from latent vectors."""
        takes = self.takes
        return takes.scale if isinstance(takes, ImageInput) else 1

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the feature maps that can be distilled from, shallow to deep."""
        return ()

    @property
    def places(self) -> tuple[str, ...]:
        """The taps at which features are distilled as published, shallow to deep; places of two networks of one kind
        belong together one by one."""
        return ()

    def deployed(self) -> "Generator":
        """The network as it is written to files and exported: itself, or one without what only training needs."""
        return self

    def settle(self) -> None:
        """Store what is computed of the weights once. Called for a copy whose weights do not change any more."""

    def learning(self) -> "Generator":
        """The network as it learns: itself, or one with what training needs beside it, which gives the same images."""
        return self

    def groups(self) -> tuple[Group, ...]:
        """The channels that can be removed, in groups that only go together, from the input to the output. Raises
        UsageError for an architecture that has none."""
        raise UsageError(f"{self.family}: the channels of this architecture cannot be removed; distil it instead.")

    def narrower(self, groups: Sequence[Group], widths: Mapping[str, int]) -> "Generator":
        """A network of these widths of its groups, without weights: on the meta device."""
        config = self.config.with_widths(widths)
        with torch.device("meta"):
            small = type(self)(config)
            if uses_image_statistics(self):
                use_image_statistics(small)
        return small

    def costs(self, height: int, width: int) -> Callable[[Mapping[str, int]], Cost]:
        """Parameters and MACs on one image of this size as a function of the groups' widths."""
        return costs(self.config, height, width)

    def tap_channels(self, name: str) -> int:
        """The number of channels of a tap."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_taps(x, ())[0]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The image, and the feature maps of the given names."""
        raise NotImplementedError


class LatentGenerator(Generator):
    """A generator from latent vectors, B x size, to images, B x out_channels x side x side in [-1, 1], RGB."""

    @property
    def takes(self) -> LatentInput:
        return self.config.takes

    def draw(self, z: Tensor, truncation: Tensor | float = 1.0) -> Tensor:
        """The images of vectors that are brought nearer to their mean, 0, by this factor: 1 changes nothing."""
        return self(z * truncation)

    @staticmethod
    def as_map(z: Tensor) -> Tensor:
        """Latent vectors as maps of one pixel: B x size x 1 x 1."""
        return z.flatten(1)[:, :, None, None]


def expands_shorthands(expand: Callable) -> Any:
    """A Config's validator of its shorthands: `expand(cls, values)` gets a copy of the given dict, and returns the
    fields. Anything but a dict passes it by, for pydantic to refuse."""

    @wraps(expand)
    def expanded(cls, values):
        return expand(cls, dict(values)) if isinstance(values, dict) else values

    return model_validator(mode="before")(classmethod(expanded))


def check_width(width) -> None:
    """Raises ValueError for a shorthand `width` that is no whole number from 1 to 4096."""
    check_number("width", width, 1, 4096)


def take_shorthand(
    values: dict, field: str, number: str, default: int, bounds: tuple[int, int]
) -> tuple[int | None, int]:
    """A Config's `width` and the `number` of layers that it is for, taken out of its values. Raises ValueError for
    either beside the `field` that they stand for, and with a width for numbers out of bounds."""
    if field in values and not {"width", number}.isdisjoint(values):
        raise ValueError(f"{field} excludes width and {number}; give the one or the other")
    width, count = values.pop("width", None), values.pop(number, default)
    if width is not None:
        check_width(width)
        check_number(number, count, *bounds)
    return width, count


def take_width(values: dict, blocks: int, most: int) -> tuple[int | None, int]:
    """A Config's `width`, taken out of its values, and the number of its blocks: that of the list `blocks`, or the
    number in its place, or by default `blocks`. Raises ValueError beside `widths`, and out of bounds."""
    width, given = values.pop("width", None), values.get("blocks", blocks)
    if isinstance(given, list | tuple):
        count = len(given)
    else:
        values.pop("blocks", None)
        check_number("blocks", count := given, 1, most)
    if width is not None:
        if "widths" in values:
            raise ValueError("width and widths exclude each other; give one")
        check_width(width)
    return width, count


def check_number(name: str, value, least: int, most: int) -> None:
    """Raises ValueError for a `value` that is no whole number within these bounds."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """Normalisation as published: instance without parameters or running statistics unless `instance_affine`."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return InstanceNorm2d(channels, affine=kind == "instance_affine")


def init_weights(network: nn.Module) -> None:
    """The initialisation of all baselines: N(0, 0.02), BatchNorm scales N(1, 0.02), biases 0; those of the norms of a
    network that has a `norm_bias_std` N(0, that). Layers with spectral norm, and others that say so by
    `keeps_initial_weights`, keep PyTorch's; those with an equalised learning rate have their own."""
    for module in network.modules():
        if isinstance(module, Spectral) or getattr(module, "keeps_initial_weights", False):
            continue
        if isinstance(module, Equalised):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
            if std := getattr(network, "norm_bias_std", 0.0):
                nn.init.normal_(module.bias, 0.0, std)


def count_parameters(network: nn.Module) -> int:
    """Learnable parameters; buffers are not counted."""
    return sum(p.numel() for p in network.parameters())


def with_scales(network: Generator) -> Generator:
    """The network with scales of 1 and shifts of 0 in its instance norms, which change no image; itself where it has
    scales, or is of the user's own class."""
    if network.config is None or network.config.norm != "instance":
        return network
    found = type(network)(network.config.but(norm="instance_affine"))
    found.load_state_dict(found.state_dict() | network.state_dict())
    return found.train(network.training)


def with_padding(network: Generator, padding: Padding) -> Generator:
    """The network with this padding where it pads by reflection as published, and the same tensors. Raises ValueError
    for a family whose padding is known: its Config lets no other be said."""
    config = network.config
    if config is None:
        raise ValueError("a class of the user's own pads as it says")
    with torch.device("meta"):
        found = type(network)(type(config).model_validate(config.model_dump() | {"padding": padding}))
        if uses_image_statistics(network):
            use_image_statistics(found)
    found.load_state_dict(network.state_dict(), assign=True)
    return found.train(network.training)


def uses_image_statistics(network: Generator) -> bool:
    """Whether `use_image_statistics` replaced the BatchNorms of a network that its Config builds with them."""
    return network.config.norm == "batch" and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def use_image_statistics(network: nn.Module) -> None:
    """Make every BatchNorm2d normalise each image by its own statistics, in place. Pix2Pix generators were published
    with a test that leaves BatchNorm in training mode at batch 1; this is exactly that, and does not make an image
    depend on its neighbours in a batch."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            layer = InstanceNorm2d(module.num_features, eps=module.eps, affine=module.affine)
            if module.affine:
                layer.weight, layer.bias = module.weight, module.bias
            network.set_submodule(name, layer.train(module.training))
