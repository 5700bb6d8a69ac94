"""Base class of the GANs that train teachers (VEM paper, section 4.3 and eq. 11)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.sparsity import Penalty
from vemcompress.gans.start import Start
from vemcompress.losses.adversarial import precise
from vemcompress.networks.base import Config, Generator, Taps, init_weights
from vemcompress.networks.discriminators import (
    Discriminator,
    DiscriminatorConfig,
    SharedPatchGANConfig,
    build_discriminator,
)
from vemcompress.training.learner import Learner, one_by_one
from vemcompress.training.schedules import constant
from vemcompress.training.update import Optimizer, Update


class GAN(Learner):
    """Teachers and their discriminators. All of them stay in training mode during training.

    `started` names the networks, besides the first teacher, that may start from files (`teacher.start.NAME`). `data`
    lists the kinds of data it can be trained on. `decays`: whether its learning rates follow the recipe's schedule.
    `watches`: whether the output of a step keeps the discriminators' features of the teachers' images. They are
    constants, in `features` by the discriminator's name, taken at its `places` in the pass that GCC's code uses.
    `follows_back`: whether the output also has the feature maps of CycleGAN's second generator. `enlarges`: whether its
    generators' images may be larger than their inputs.
    """

    started: ClassVar[tuple[str, ...]]
    data: ClassVar[tuple[str, ...]]

    settings: Any
    decays: bool = True
    watches: bool = False
    follows_back: bool = False
    enlarges: ClassVar[bool] = False

    def __init__(self):
        super().__init__()
        self._penalties: dict[str, Penalty] = {}

    @classmethod
    def build(cls, settings: Any, first: Generator, start: Start) -> "GAN":
        """Build it with this first teacher; `start` gives the other networks."""
        raise NotImplementedError

    @classmethod
    def features_of(cls, settings: Any) -> tuple[str, str | None]:
        """The feature network that it compares images by, as named in `weights.features.load_features`, and the file
        of its weights.
        """
        return "none", None

    def equip(self, features: nn.Module | None) -> None:
        """Set the feature network, which is not trained."""

    def forward(self, batch: Batch, random: torch.Generator, step: int = 1, *, taps: tuple[str, ...] = ()) -> Any:
        """Compute everything that a step's updates need. `taps` are the first teacher's.

        The result has `images`, the teachers' images of A by name, and `taps`, both with their graphs, and `features`.
        If the GAN has a `twin`, it also has `fakes`, by the discriminator that judges them, and `maps` of each
        generator.
        """
        raise NotImplementedError

    def look(self, condition: Tensor, taps: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], Taps]:
        """The teachers' images of A by name and the first teacher's taps, without gradient, at a step that trains no
        teacher.

        As published, the teachers run in training mode, so BatchNorm's running statistics are updated.
        """
        with torch.no_grad():
            return self.translate(condition, taps)

    def translate(self, condition: Tensor, taps: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], Taps]:
        """The teachers' images of A by name, and the first one's taps."""
        images, maps = {}, {}
        with self.autocast(condition.device):
            for i, (name, generator) in enumerate(self.teachers().items()):
                image, found = generator.forward_with_taps(condition, () if i else taps)
                images[name] = precise(image)
                maps |= found
        return images, maps

    def generators(self) -> dict[str, Generator]:
        """All trained generators, by their names in files and logs. The first is the one to distil."""
        raise NotImplementedError

    def teachers(self) -> dict[str, Generator]:
        """The generators that translate A to B. A student imitates them."""
        return self.generators()

    def discriminators(self) -> dict[str, Discriminator]:
        raise NotImplementedError

    def artifacts(self) -> dict[str, nn.Module]:
        """The networks to write. `teacher` is the generator to distil, the product of a `teach` run."""
        first, *others = self.generators().items()
        return {"teacher": first[1], **dict(others), **self.discriminators()}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        teachers = self.teachers()
        titles = ["teacher"] if len(teachers) == 1 else list(teachers)
        return {t: one_by_one(network, inputs) for t, network in zip(titles, teachers.values(), strict=True)}

    def twin(self, first: Generator, start: Start, norm: str | None = None) -> "GAN":
        """A GAN of this kind and these settings around another first generator, trained at every step.

        `start` gives its other networks. `norm` is the norm of new discriminators; None for that of this GAN's. Raises
        RecipeError if this kind has no such form.
        """
        judge = self.settings.discriminator or next(iter(self.discriminators().values())).config
        judge = judge if norm is None else judge.but(norm=norm)
        return type(self).build(self.settings.but(sparsity=None, discriminator=judge, every=1), first, start)

    def no_twin(self, first: Generator, start: Start, norm: str | None = None) -> "GAN":
        """Replaces `twin` in GANs without one."""
        raise RecipeError(
            f"gan.name = '{self.settings.name}' cannot train a student; set it to pix2pix, cyclegan or latent."
        )

    @torch.no_grad()
    def observe(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Any:
        """The images and feature maps of `forward`, without gradient, at a step that trains nothing of this GAN."""
        return self(batch, random, step, taps=taps)

    def draw(self, batch: Batch) -> dict[str, Tensor]:
        """Only the images that its generators make from a batch, by discriminator."""
        first = next(iter(self.translate(batch.input)[0].values()))
        return {next(iter(self.discriminators())): first}

    def reals(self, batch: Batch) -> dict[str, Tensor]:
        """The real images of a batch, by discriminator."""
        real = batch.real if batch.target is None else batch.target
        return {next(iter(self.discriminators())): real}

    def shown(self, condition: Tensor, image: Tensor) -> Tensor:
        """The discriminator's input for an image: with its condition if the discriminator needs it."""
        return image

    def optimizer(self, lr: float | None = None) -> Optimizer:
        """A new Optimizer with the settings' rate, or `lr`."""
        schedule = None if self.decays else constant
        return Optimizer(lr or self.settings.lr, self.settings.betas, schedule=schedule)

    def sparse_terms(self, name: str) -> dict[str, Tensor]:
        """The sparsity penalty of the generator of this name, if the settings have a `sparsity`."""
        if self.settings.sparsity is None:
            return {}
        if name not in self._penalties:
            self._penalties[name] = Penalty(self.settings.sparsity, self.generators()[name])
        return {f"{name}_sparsity": self._penalties[name].term()}

    def check_size(self, size: int) -> None:
        """Raises RecipeError for images, size x size, that are too small for a discriminator."""
        for judge in self.discriminators().values():
            check_size(judge.config, size, "gan.discriminator")

    def check_batch(self, batch: int) -> None:
        """Raises RecipeError for a batch size that it cannot be trained with."""

    def generate(self, generator: Generator, images: Tensor) -> Tensor:
        with self.autocast(images.device):
            return precise(generator(images))

    def judge(self, discriminator: Discriminator, images: Tensor, *teacher: str) -> Tensor:
        with self.autocast(images.device):
            return precise(discriminator(images, *teacher))

    def judge_with_features(self, discriminator: Discriminator, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The scores, and the features at the discriminator's places, both in float32."""
        with self.autocast(images.device):
            scores, taps = discriminator.forward_with_taps(images, discriminator.places)
        return precise(scores), [taps[place].float() for place in discriminator.places]

    def watched(self, out: Any, name: str, discriminator: Discriminator, images: Tensor, *teacher: str) -> Tensor:
        """Like `judge`, for a teacher's images. If it `watches`, the features are stored in `out.features`."""
        if not self.watches:
            return self.judge(discriminator, images, *teacher)
        scores, features = self.judge_with_features(discriminator, images)
        out.features[name] = [feature.detach() for feature in features]
        return scores


def within(updates: list[Update], select: Callable[[Any], Any]) -> list[Update]:
    """A GAN's updates for a step whose output contains more than the GAN's; `select` extracts the GAN's part."""

    def part(function: Callable | None) -> Callable | None:
        return function and (lambda out: function(select(out)))

    return [replace(update, terms=part(update.terms), monitor=part(update.monitor)) for update in updates]


def check_size(config: DiscriminatorConfig, size: int, where: str) -> None:
    """Raises RecipeError for images, size x size, that are too small for a discriminator. `where` is its key in the
    recipe.
    """
    if size < config.min_size:
        raise RecipeError(
            f"data.size {size} is too small for the {config.family} discriminator ({where}), which needs at least "
            f"{config.min_size} px; raise it, or use a discriminator with fewer layers."
        )


def fit(config: DiscriminatorConfig, channels: int, generator: Generator, where: str = "gan") -> DiscriminatorConfig:
    """The Config with its open values filled in: the number of channels to judge, and the generator's norm.

    Raises RecipeError if it states another number of channels.
    """
    stated = config.model_fields_set
    if "in_channels" in stated and config.in_channels != channels:
        raise RecipeError(
            f"discriminator: in_channels is {config.in_channels}, but its images have {channels} channels; omit "
            f"{where}.discriminator.in_channels."
        )
    if not config.norms:
        return config.for_images(generator.takes).but(in_channels=channels)
    norm = config.norm if "norm" in stated else "batch" if _norm_of(generator.config) == "batch" else "instance"
    return config.but(in_channels=channels, norm=norm)


def discriminator_for(
    config: DiscriminatorConfig,
    given: Discriminator | None,
    channels: int,
    generator: Generator,
    *,
    shared: bool,
    where: str = "gan",
) -> Discriminator:
    """The given discriminator, if it fits, or a new one of this Config with the published initial weights. `where`
    is its table in the recipe.
    """
    network = given
    if network is None:
        network = build_discriminator(fit(config, channels, generator, where))
        init_weights(network)
    if network.config.in_channels != channels:
        raise RecipeError(
            f"{where}: the discriminator takes {network.config.in_channels} channels, but there are {channels} "
            "to judge; give another one, or none for a new one."
        )
    if isinstance(network.config, SharedPatchGANConfig) != shared:
        wanted = "shared_patchgan, for two teachers" if shared else "patchgan or pixelgan, for one teacher"
        raise RecipeError(f"{where}: the discriminator is a {network.config.family}; set its family to {wanted}.")
    return network


def check_channels(expected: tuple[int, int], role: str, generator: Generator) -> None:
    """Raises RecipeError if a generator's input and output channels differ from `expected`."""
    found = generator.in_channels, generator.out_channels
    if found != expected:
        raise RecipeError(
            f"the {role} generator has {found[0]} input and {found[1]} output channels, but the first one needs "
            f"{expected[0]} and {expected[1]}; set its in_channels and out_channels."
        )


def _norm_of(config: Config | None) -> str:
    return config.norm if config is not None else "instance"
