"""Initial networks of a GAN: from files, or with new weights."""

from collections.abc import Callable, Mapping

from vemcompress.errors import InputError
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator, init_weights
from vemcompress.networks.discriminators import Discriminator, DiscriminatorConfig, SharedPatchGANConfig
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import load


class Start:
    """Initial networks of a GAN besides its first teacher.

    `files` and `shapes` are by network name. `recipe` is the recipe's name, for errors.
    """

    def __init__(self, recipe: str, files: Mapping[str, str], shapes: Mapping[str, Config | None]):
        self.recipe, self.files, self.shapes = recipe, files, shapes

    def generator(self, name: str, default: Callable[[], Config], channels: tuple[int, int]) -> Generator:
        """The generator of the file, else a new one with these channels, of the Config in `shapes` or the `default`."""
        if name in self.files:
            return load(self.files[name]).generator
        return new_generator((self.shapes.get(name) or default()).with_channels(*channels))

    def discriminator(
        self, name: str, channels: int, expected: DiscriminatorConfig | None = None
    ) -> Discriminator | None:
        """The discriminator of the file, or None. Without `expected` it must be one for a single teacher."""
        path = self.files.get(name)
        if not path:
            return None
        found = load_discriminator(path, expected)
        if expected is None and isinstance(found.config, SharedPatchGANConfig):
            raise InputError(
                f"{path}: is a discriminator for two teachers; give one for a single teacher, or none for a new one."
            )
        if found.config.in_channels != channels:
            raise InputError(
                f"{path}: takes {found.config.in_channels} channels, but {name} has {channels} to judge; give "
                "another one, or none for a new one."
            )
        return found


def new_generator(config: Config) -> Generator:
    """A generator with the published initial weights."""
    network = build_generator(config)
    init_weights(network)
    return network
