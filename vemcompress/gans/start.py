"""What the networks of a GAN begin with: files that are given, or new weights."""

from collections.abc import Callable, Mapping

from vemcompress.errors import InputError
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator, init_weights
from vemcompress.networks.discriminators import Discriminator, DiscriminatorConfig, SharedPatchGANConfig
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load


class Start:
    """What the networks of a GAN beside its first teacher begin with: `files` and `shapes` by name; `recipe` is the
    name of the recipe, for errors."""

    def __init__(self, recipe: str, files: Mapping[str, str], shapes: Mapping[str, Config | None]):
        self.recipe, self.files, self.shapes = recipe, files, shapes

    def generator(self, name: str, default: Callable[[], Config], channels: tuple[int, int]) -> Generator:
        """The one of the file, else a new one: of the shape that is stated, or the `default` one, with the channels."""
        if name in self.files:
            return load(self.files[name]).generator
        return new_generator((self.shapes.get(name) or default()).with_channels(*channels))

    def discriminator(
        self, name: str, channels: int, expected: DiscriminatorConfig | None = None
    ) -> Discriminator | None:
        """The one of the file, None where there is none; without `expected` for one teacher."""
        path = self.files.get(name)
        if not path:
            return None
        found = load_discriminator(path, expected)
        if expected is None and isinstance(found.config, SharedPatchGANConfig):
            raise InputError(
                f"{path}: is a discriminator for two teachers; give one for one teacher, or none to start anew."
            )
        if found.config.in_channels != channels:
            raise InputError(
                f"{path}: takes {found.config.in_channels} channels, and here {name} has {channels} to judge; give "
                "another one, or none to start anew."
            )
        return found


def new_generator(config: Config) -> Generator:
    """With the published initial weights."""
    network = build_generator(config)
    init_weights(network)
    return network
