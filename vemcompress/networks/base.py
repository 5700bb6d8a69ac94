"""Base classes of image generators: a frozen `Config` that determines the architecture, and named taps."""

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
# relu6 replaces each published activation: bounded maps lose less in int8. This is a different network, which must be
# trained this way.
Activation = Literal["published", "relu6"]
Taps = dict[str, Tensor]


@dataclass(frozen=True)
class ImageInput:
    """The input of an image generator.

    `channels`: its channels. `multiple`: H and W must be multiples of this. `least`: the smallest side in pixels.
    `scale`: size of the output relative to the input. `only`: the only side of square images that it accepts, or None.
    """

    channels: int
    multiple: int = 1
    least: int = 1
    scale: int = 1
    only: int | None = None

    kind: ClassVar[str] = "image"


Prior = Literal["normal", "uniform"]


@dataclass(frozen=True)
class LatentInput:
    """The input of a generator of latent vectors: B x `size`, drawn from `prior` (N(0, 1), or uniform in [-1, 1]).
    Its images have `image` x `image` pixels.
    """

    size: int
    image: int
    prior: Prior = "normal"

    kind: ClassVar[str] = "latent"


class Config(Counted, BaseSettings):
    """The architecture of a network: an `ImageConfig` or a `LatentConfig`. Their subclasses add widths per layer;
    `width = 16` is a shorthand for all of them. `batch` is the published batch size for training such a network.

    All have `in_channels` (for latent vectors, their size), `out_channels` and `norm`.
    """

    batch: ClassVar[int] = 1
    # The field whose length stays the same when `width` changes, and the key for that length.
    counted: ClassVar[tuple[str, str]] = ("", "")
    # A note for readers of its MACs if a column needs an explanation.
    counting_note: ClassVar[str] = ""

    family: Text

    @model_validator(mode="after")
    def _can_be_built(self):
        self.check()
        self.check_parameters()
        return self

    def check(self) -> None:
        """Raises ValueError for fields that are inconsistent."""

    @property
    def biased(self) -> bool:
        """Whether the convolutions before a norm have biases."""
        return self.norm != "batch"

    @classmethod
    def under(cls, below: dict, above: dict) -> dict:
        """Keep the number of blocks or levels when only `width` changes."""
        kept, (field, number) = super().under(below, above), cls.counted
        if "width" in above and above["width"] != below.get("width") and isinstance(below.get(field), list):
            kept[number] = len(below[field])
        return kept

    def with_channels(self, inputs: int, outputs: int) -> Self:
        """The Config with these numbers of input channels (size of latent vectors) and output channels."""
        raise NotImplementedError

    def for_data(self, inputs: int, outputs: int) -> Self:
        """The Config with the channels of the data's inputs and targets. Raises ValueError if another number was
        stated.
        """
        raise NotImplementedError

    def shaped(self, widths: Mapping[str, int]) -> Self:
        """The Config of a new network of these widths by group; widths that depend on others are recomputed."""
        return self.with_widths(widths)

    def widths_by_group(self) -> dict[str, int]:
        """The width of every channel group, by the names in `Generator.groups`, from input to output."""
        raise NotImplementedError

    def with_widths(self, widths: Mapping[str, int]) -> Self:
        """The Config with other widths, by group; the rest is unchanged. Raises ValueError for unknown names."""
        own = self.widths_by_group()
        if unknown := widths.keys() - own.keys():
            raise ValueError(f"no channel group {min(unknown)!r}; there are {', '.join(own)}")
        return type(self).model_validate(self.model_dump() | self._placed(own | dict(widths)))

    def genes(self) -> dict[str, dict[str, int]]:
        """The notation of a sub-network's widths (`networks.subnets`): for each gene its channel groups, and the
        factors from its entry to their widths.
        """
        return {group: {group: 1} for group in self.widths_by_group()}

    def of_width(self, width: int) -> Self:
        """The Config of the same kind, depth, norm and channels with the shorthand `width`."""
        kind = type(self)
        return kind.model_validate(kind.under(self.model_dump(mode="json"), {"width": width}) | {"width": width})

    def _placed(self, widths: dict[str, int]) -> dict[str, tuple[int, ...]]:
        """The fields that hold these widths of all groups."""
        raise NotImplementedError

    def advice(self, size: int) -> str:
        """A key and its value, such as "downs=6", with which such a network can process images of `size`; "" if
        there is none.
        """
        return ""

    def product(self) -> "Config":
        """The Config of the network that a run with this student produces; for a supernet, an example of it."""
        return self

    def student(self, width: int) -> "Config":
        """The Config of the default student of this width, with this teacher's channels."""
        raise NotImplementedError


class ImageConfig(Config):
    """The Config of a generator from images to images. `in_channels`: channels of its input. `out_channels`: channels
    of its output. `norm`: the kind of normalisation.
    """

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
    """The Config of a generator from latent vectors to square images. `latent`: size of the vectors. `prior`: their
    distribution. `out_channels`: channels of the images. `norm`: the normalisation.
    """

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
        """Only the output channels follow the data, which have no latent vectors."""
        _check_stated(self, "out_channels", outputs)
        return self.but(out_channels=outputs)


def _check_stated(config: Config, key: str, found: int) -> None:
    if key in config.model_fields_set and getattr(config, key) != found:
        raise ValueError(f"{key} is {getattr(config, key)}, but the data have {found}")


class Generator(nn.Module):
    """An image-to-image generator: B x in_channels x H x W in [-1, 1] to B x out_channels x H x W in [-1, 1].

    `LatentGenerator` is its form with latent vectors as input. Images are RGB on both sides, whatever order the
    published weights use. H and W must be divisible by `multiple`, so that the output has the input's size. `min_size`
    is the smallest H or W that the padding allows. `only_size` is the only possible H and W, if the weights allow no
    other.
    """

    styled: ClassVar[bool] = False  # has styles w between latent vectors and images, which `draw` uses
    config_class: ClassVar[type[Config]]  # its Config; `family` in it is the key in `GENERATORS`
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
        """A description of the network for error messages."""
        return f"a network of the family {self.family}"

    @property
    def channels(self) -> tuple[int, int]:
        """The channels of its input and output images."""
        return self.in_channels, self.out_channels

    @property
    def takes(self) -> ImageInput | LatentInput:
        """A description of its input."""
        return ImageInput(self.in_channels, self.multiple, self.min_size, only=self.only_size)

    @property
    def times(self) -> int:
        """The size of its output relative to the input; 1 for images from latent vectors."""
        takes = self.takes
        return takes.scale if isinstance(takes, ImageInput) else 1

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the feature maps that can be distilled, shallow to deep."""
        return ()

    @property
    def places(self) -> tuple[str, ...]:
        """The taps at which published methods distil features, shallow to deep. Places of two networks of the same
        kind correspond one by one.
        """
        return ()

    def deployed(self) -> "Generator":
        """The network as it is saved and exported: itself, or a copy without the parts that only training needs."""
        return self

    def settle(self) -> None:
        """Compute values that depend on the weights once. Called on a copy whose weights no longer change."""

    def learning(self) -> "Generator":
        """The network as it is trained: itself, or a copy with the parts that training needs, which gives the same
        images.
        """
        return self

    def groups(self) -> tuple[Group, ...]:
        """The channels that can be removed, in groups that must be removed together, from input to output. Raises
        UsageError for an architecture without any.
        """
        raise UsageError(f"{self.family}: the channels of this architecture cannot be removed; distil it instead.")

    def narrower(self, groups: Sequence[Group], widths: Mapping[str, int]) -> "Generator":
        """A network of these widths by group, on the meta device, without weights."""
        config = self.config.with_widths(widths)
        with torch.device("meta"):
            small = type(self)(config)
            if uses_image_statistics(self):
                use_image_statistics(small)
        return small

    def costs(self, height: int, width: int) -> Callable[[Mapping[str, int]], Cost]:
        """A function from the groups' widths to the parameters and MACs on one image of this size."""
        return costs(self.config, height, width)

    def tap_channels(self, name: str) -> int:
        """The number of channels of a tap."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_taps(x, ())[0]

    def forward_with_taps(self, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Taps]:
        """The image, and the feature maps with these names."""
        raise NotImplementedError


class LatentGenerator(Generator):
    """A generator from latent vectors, B x size, to images, B x out_channels x side x side in [-1, 1], RGB."""

    @property
    def takes(self) -> LatentInput:
        return self.config.takes

    def draw(self, z: Tensor, truncation: Tensor | float = 1.0) -> Tensor:
        """Images of latent vectors multiplied by `truncation`; 1 changes nothing."""
        return self(z * truncation)

    @staticmethod
    def as_map(z: Tensor) -> Tensor:
        """Latent vectors as maps of one pixel: B x size x 1 x 1."""
        return z.flatten(1)[:, :, None, None]


def expands_shorthands(expand: Callable) -> Any:
    """Make a Config's validator for its shorthands. `expand(cls, values)` gets a copy of the given dict and returns
    the fields. Anything but a dict is left to pydantic, which rejects it.
    """

    @wraps(expand)
    def expanded(cls, values):
        return expand(cls, dict(values)) if isinstance(values, dict) else values

    return model_validator(mode="before")(classmethod(expanded))


def check_width(width) -> None:
    """Raises ValueError for a shorthand `width` that is not a whole number from 1 to 4096."""
    check_number("width", width, 1, 4096)


def take_shorthand(
    values: dict, field: str, number: str, default: int, bounds: tuple[int, int]
) -> tuple[int | None, int]:
    """Remove a Config's `width` and the `number` of layers that it applies to from its values, and return them.
    Raises ValueError if either is given together with the `field` that they replace, and, with a width, for a number
    out of bounds.
    """
    if field in values and not {"width", number}.isdisjoint(values):
        raise ValueError(f"{field} excludes width and {number}; give only one of them")
    width, count = values.pop("width", None), values.pop(number, default)
    if width is not None:
        check_width(width)
        check_number(number, count, *bounds)
    return width, count


def take_width(values: dict, blocks: int, most: int) -> tuple[int | None, int]:
    """Remove a Config's `width` from its values. Returns it and the number of blocks: the length of the list
    `blocks`, or the number given instead of it, or the default. Raises ValueError if `widths` is given too, or for a
    number out of bounds.
    """
    width, given = values.pop("width", None), values.get("blocks", blocks)
    if isinstance(given, list | tuple):
        count = len(given)
    else:
        values.pop("blocks", None)
        check_number("blocks", count := given, 1, most)
    if width is not None:
        if "widths" in values:
            raise ValueError("width and widths exclude each other; give only one")
        check_width(width)
    return width, count


def check_number(name: str, value, least: int, most: int) -> None:
    """Raises ValueError for a `value` that is not a whole number within these bounds."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}")


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """The published normalisation layers; instance norm has no parameters or running statistics unless
    `instance_affine`.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return InstanceNorm2d(channels, affine=kind == "instance_affine")


def init_weights(network: nn.Module) -> None:
    """The initialisation of all baselines: weights N(0, 0.02), BatchNorm scales N(1, 0.02), biases 0.

    If a network has a `norm_bias_std`, the biases of its norms are N(0, that). Layers with spectral norm, and others
    marked by `keeps_initial_weights`, keep PyTorch's weights. Layers with an equalised learning rate have their own.
    """
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
    """Number of trainable parameters, without buffers."""
    return sum(p.numel() for p in network.parameters())


def with_scales(network: Generator) -> Generator:
    """The network with scales of 1 and shifts of 0 added to its instance norms, which changes no image. Returns the
    network itself if it has scales or is of the user's own class.
    """
    if network.config is None or network.config.norm != "instance":
        return network
    found = type(network)(network.config.but(norm="instance_affine"))
    found.load_state_dict(found.state_dict() | network.state_dict())
    return found.train(network.training)


def with_padding(network: Generator, padding: Padding) -> Generator:
    """The network with this padding instead of the published reflection padding, and the same tensors. Raises
    ValueError for a family whose padding is fixed.
    """
    config = network.config
    if config is None:
        raise ValueError("the padding of the user's own class cannot be changed")
    with torch.device("meta"):
        found = type(network)(type(config).model_validate(config.model_dump() | {"padding": padding}))
        if uses_image_statistics(network):
            use_image_statistics(found)
    found.load_state_dict(network.state_dict(), assign=True)
    return found.train(network.training)


def uses_image_statistics(network: Generator) -> bool:
    """Whether `use_image_statistics` replaced the BatchNorms that the network's Config describes."""
    return network.config.norm == "batch" and not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def use_image_statistics(network: nn.Module) -> None:
    """Make every BatchNorm2d normalise each image by its own statistics, in place. The published test of Pix2Pix
    leaves BatchNorm in training mode at batch 1; this gives the same result, and images in a batch do not influence
    one another.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            layer = InstanceNorm2d(module.num_features, eps=module.eps, affine=module.affine)
            if module.affine:
                layer.weight, layer.bias = module.weight, module.bias
            network.set_submodule(name, layer.train(module.training))
