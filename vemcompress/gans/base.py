"""What every way of learning a teacher shares (paper, 4.3 and eq. 11)."""

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
    """Teachers and the discriminators that they learn against. All of it stays in training mode while it learns.

    `started` names the networks beside the first teacher that may start from files (`teacher.start.NAME`), `data` the
    kinds of data that it can learn from. `decays`: whether its rates follow the recipe's schedule. `watches`: whether
    what a step computes keeps the discriminators' features of the teachers' images, as constants, in its `features` by
    the discriminator's name: those at its `places`, of the last pass that was published to be kept (GCC).
    `follows_back`: whether that has the maps of CycleGAN's second generator too. `enlarges`: whether its generators'
    images may be larger than their inputs.
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
        """With this first teacher; `start` gives the other networks."""
        raise NotImplementedError

    @classmethod
    def features_of(cls, settings: Any) -> tuple[str, str | None]:
        """The feature network that it compares images by, as `weights.features.load_features` calls it, and the file of
        its weights."""
        return "none", None

    def equip(self, features: nn.Module | None) -> None:
        """Give it that network, which does not learn."""

    def forward(self, batch: Batch, random: torch.Generator, step: int = 1, *, taps: tuple[str, ...] = ()) -> Any:
        """Everything that a step's updates need. `taps`: of the first teacher.

        The result has `images`, the teachers' images of A by name, and `taps`, both as the teachers made them, with
        their graphs; `features`; and of a GAN that has a `twin` the `fakes` by the discriminator that judges them, and
        the `maps` of each generator.
        """
        raise NotImplementedError

    def look(self, condition: Tensor, taps: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], Taps]:
        """The teachers' images of A by name and the first one's taps, as constants, at a step that teaches nobody.

        As published the teachers run in the mode that they learn in, so that BatchNorm's statistics move.
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
        """All generators that learn, by their names in files and logs; the first is the one to distil."""
        raise NotImplementedError

    def teachers(self) -> dict[str, Generator]:
        """Those that translate A to B, and so teach a student to."""
        return self.generators()

    def discriminators(self) -> dict[str, Discriminator]:
        raise NotImplementedError

    def artifacts(self) -> dict[str, nn.Module]:
        """As `teacher` the generator to distil, which is what a run that teaches is for."""
        first, *others = self.generators().items()
        return {"teacher": first[1], **dict(others), **self.discriminators()}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        teachers = self.teachers()
        titles = ["teacher"] if len(teachers) == 1 else list(teachers)
        return {t: one_by_one(network, inputs) for t, network in zip(titles, teachers.values(), strict=True)}

    def twin(self, first: Generator, start: Start, norm: str | None = None) -> "GAN":
        """A GAN of this kind and these settings, which learns at each step, around another first generator. `start`
        gives the networks beside it, `norm` is that of new discriminators, None for that of this GAN's. Raises
        RecipeError where there is no such form."""
        judge = self.settings.discriminator or next(iter(self.discriminators().values())).config
        judge = judge if norm is None else judge.but(norm=norm)
        return type(self).build(self.settings.but(sparsity=None, discriminator=judge, every=1), first, start)

    def no_twin(self, first: Generator, start: Start, norm: str | None = None) -> "GAN":
        """In the place of `twin` where there is none."""
        raise RecipeError(f"gan.name = '{self.settings.name}' has no student form; take pix2pix, cyclegan or latent.")

    @torch.no_grad()
    def observe(self, batch: Batch, random: torch.Generator, step: int, taps: tuple[str, ...]) -> Any:
        """The images and maps of `forward`, as constants, at a step at which nothing of this GAN learns."""
        return self(batch, random, step, taps=taps)

    def draw(self, batch: Batch) -> dict[str, Tensor]:
        """By discriminator the images that its generators make of a batch, and no more."""
        first = next(iter(self.translate(batch.input)[0].values()))
        return {next(iter(self.discriminators())): first}

    def reals(self, batch: Batch) -> dict[str, Tensor]:
        """By discriminator the images of a batch that it takes for real."""
        real = batch.real if batch.target is None else batch.target
        return {next(iter(self.discriminators())): real}

    def shown(self, condition: Tensor, image: Tensor) -> Tensor:
        """What a discriminator sees of an image: also its condition, where it judges by that."""
        return image

    def optimizer(self, lr: float | None = None) -> Optimizer:
        """A new one by the settings, for an update; of another rate where that is given."""
        schedule = None if self.decays else constant
        return Optimizer(lr or self.settings.lr, self.settings.betas, schedule=schedule)

    def sparse_terms(self, name: str) -> dict[str, Tensor]:
        """The penalty of the generator of this name, where the settings have a `sparsity`."""
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
        """Raises RecipeError for a batch that it cannot learn from."""

    def generate(self, generator: Generator, images: Tensor) -> Tensor:
        with self.autocast(images.device):
            return precise(generator(images))

    def judge(self, discriminator: Discriminator, images: Tensor, *teacher: str) -> Tensor:
        with self.autocast(images.device):
            return precise(discriminator(images, *teacher))

    def judge_with_features(self, discriminator: Discriminator, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The scores, and the features at the discriminator's places in float32."""
        with self.autocast(images.device):
            scores, taps = discriminator.forward_with_taps(images, discriminator.places)
        return precise(scores), [taps[place].float() for place in discriminator.places]

    def watched(self, out: Any, name: str, discriminator: Discriminator, images: Tensor, *teacher: str) -> Tensor:
        """As `judge`, of a teacher's images; what it `watches` goes into `out.features`."""
        if not self.watches:
            return self.judge(discriminator, images, *teacher)
        scores, features = self.judge_with_features(discriminator, images)
        out.features[name] = [feature.detach() for feature in features]
        return scores


def within(updates: list[Update], select: Callable[[Any], Any]) -> list[Update]:
    """A GAN's updates for a step that computes more than the GAN: `select` finds the GAN's part of its output."""

    def part(function: Callable | None) -> Callable | None:
        return function and (lambda out: function(select(out)))

    return [replace(update, terms=part(update.terms), monitor=part(update.monitor)) for update in updates]


def check_size(config: DiscriminatorConfig, size: int, where: str) -> None:
    """Raises RecipeError for images, size x size, that are too small for a discriminator, by its recipe's key."""
    if size < config.min_size:
        raise RecipeError(
            f"data.size {size}: is too small for the {config.family} discriminator ({where}), which needs at least "
            f"{config.min_size} px; make it larger, or give a discriminator of fewer layers."
        )


def fit(config: DiscriminatorConfig, channels: int, generator: Generator, where: str = "gan") -> DiscriminatorConfig:
    """The Config with what it does not state: as many channels as there are to judge, and the generator's norm.

    Raises RecipeError where it states another number of channels.
    """
    stated = config.model_fields_set
    if "in_channels" in stated and config.in_channels != channels:
        raise RecipeError(
            f"discriminator: takes {config.in_channels} channels, and here there are {channels} to judge; leave "
            f"{where}.discriminator.in_channels away."
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
    """The one that is given, if it fits, or a new one of this Config with the published initial weights; `where` is
    the table of the recipe that it belongs to."""
    network = given
    if network is None:
        network = build_discriminator(fit(config, channels, generator, where))
        init_weights(network)
    if network.config.in_channels != channels:
        raise RecipeError(
            f"{where}: the discriminator takes {network.config.in_channels} channels, and here there are {channels} "
            "to judge; give another one, or none to start anew."
        )
    if isinstance(network.config, SharedPatchGANConfig) != shared:
        wanted = "shared_patchgan, for two teachers" if shared else "patchgan or pixelgan, for one teacher"
        raise RecipeError(f"{where}: the discriminator is a {network.config.family}; set its family to {wanted}.")
    return network


def check_channels(expected: tuple[int, int], role: str, generator: Generator) -> None:
    """Raises RecipeError where a generator does not take and give so many channels."""
    found = generator.in_channels, generator.out_channels
    if found != expected:
        raise RecipeError(
            f"the {role} generator takes {found[0]} and gives {found[1]} channels, beside the other it must take "
            f"{expected[0]} and give {expected[1]}; set its in_channels and out_channels."
        )


def _norm_of(config: Config | None) -> str:
    return config.norm if config is not None else "instance"
