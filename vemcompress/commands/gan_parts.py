"""Teachers that learn: built new from the recipe, or from weights that are given."""

from pathlib import Path

import numpy as np
import torch

from vemcompress.errors import InputError, RecipeError
from vemcompress.gans import GAN, GANS, CycleGAN, Pix2Pix, Pix2PixTeachers
from vemcompress.gans.base import fit
from vemcompress.networks import Config, build_generator
from vemcompress.networks.base import Generator, init_weights
from vemcompress.networks.discriminators import DiscriminatorConfig, SharedPatchGANConfig
from vemcompress.networks.generators.deep import DeepUNetConfig
from vemcompress.networks.generators.unet import UNetConfig
from vemcompress.recipe import Recipe, read
from vemcompress.weights.discriminator import load_discriminator
from vemcompress.weights.loading import Loaded, load

DEEP_WIDTH = 16


def build_gan(plan: Recipe, given: Loaded | None, channels: tuple[int, int]) -> GAN:
    """The GAN of `plan.gan` with its teachers and discriminators.

    The first teacher is `given`, or new from `teacher.network` with the `channels` of the data; the others and the
    discriminators come from `teacher.start`, or are new. The same seed gives the same weights. Raises RecipeError,
    and InputError for files that do not serve.
    """
    if given is not None and given.generator.config is None:
        raise RecipeError(f"recipe {plan.name}: a teacher of your own class cannot learn here; leave [gan] away.")
    if given is not None and given.norm == "batch":
        raise RecipeError(
            f"recipe {plan.name}: teacher.norm = 'batch' is of frozen teachers; leave it away, or leave [gan] away."
        )
    seed = int(np.random.SeedSequence([plan.train.seed, 1]).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = given.generator if given else _new(network_config(plan, channels))
        gan = _BUILDERS[GANS[plan.gan.name]](plan, first)
    _check_start(plan, gan)
    gan.check_size(plan.data.size)
    for name, generator in gan.generators().items():
        _check_size(plan, name, generator)
    return gan.requires_grad_(True)


def settled(plan: Recipe, gan: GAN) -> Recipe:
    """The recipe with the shapes of its teachers and discriminators, so that a resumed run has the same."""
    first, *others = gan.teachers().values()
    shapes = {"network": first.config} | ({"deep": others[0].config} if others else {})
    judge = next(iter(gan.discriminators().values())).config
    return plan.model_copy(
        update={
            "teacher": plan.teacher.model_copy(update=shapes if first.config is not None else {}),
            "gan": plan.gan.model_copy(update={"discriminator": judge}),
        }
    )


def network_config(plan: Recipe, channels: tuple[int, int]) -> Config:
    """`teacher.network` with the channels of the data, unless it states its own. Raises RecipeError."""
    config = plan.teacher.network
    if config is None:
        raise RecipeError(
            f"recipe {plan.name}: no teacher; give --teacher FILE, or say in [teacher] which network is to be built."
        )
    for key, found in zip(("in_channels", "out_channels"), channels, strict=True):
        if key in config.model_fields_set and getattr(config, key) != found:
            raise RecipeError(
                f"recipe {plan.name}: teacher.network.{key} is {getattr(config, key)}, the data have {found}; leave "
                "it away, or change the data's settings."
            )
    return _with_channels(config, channels)


def start_from(source: str | Path, plan: Recipe) -> dict[str, str]:
    """The other networks of a run that taught by the same GAN, by name, where `source` is its folder; `plan`'s win.

    Of a run with a student that one is loaded, and the run's teachers and discriminators are no part of it.
    """
    folder = Path(source)
    taught = (folder / "recipe.toml").is_file() and not (folder / "student.safetensors").exists()
    if plan.gan is None or not taught:
        return dict(plan.teacher.start)
    gan = read(folder / "recipe.toml").gan
    names = _STARTED[GANS[plan.gan.name]] if gan is not None and gan.name == plan.gan.name else ()
    found = {name: folder / f"{name}.safetensors" for name in names}
    return {name: str(path.resolve()) for name, path in found.items() if path.is_file()} | plan.teacher.start


def _pix2pix(plan: Recipe, first: Generator) -> GAN:
    judge = _discriminator(plan, "discriminator", first.in_channels + first.out_channels)
    return Pix2Pix(plan.gan, generator=first, discriminator=judge)


def _pix2pix_teachers(plan: Recipe, first: Generator) -> GAN:
    channels = first.in_channels, first.out_channels
    if "deep" in plan.teacher.start:
        deep = load(plan.teacher.start["deep"]).generator
    else:
        deep = _new(_with_channels(plan.teacher.deep or _deep_like(plan, first.config), channels))
    expected = fit(plan.gan.discriminator, sum(channels), first)  # a published file does not say its n_share
    discriminator = _discriminator(plan, "discriminator", sum(channels), expected)
    return Pix2PixTeachers(plan.gan, wide=first, deep=deep, discriminator=discriminator)


def _cyclegan(plan: Recipe, first: Generator) -> GAN:
    if "generator_b" in plan.teacher.start:
        back = load(plan.teacher.start["generator_b"]).generator
    else:
        back = _new(_with_channels(first.config, (first.out_channels, first.in_channels)))
    judges = {
        name: _discriminator(plan, name, generator.out_channels)
        for name, generator in (("discriminator_a", first), ("discriminator_b", back))
    }
    return CycleGAN(plan.gan, generator_a=first, generator_b=back, **judges)


_BUILDERS = {Pix2Pix: _pix2pix, Pix2PixTeachers: _pix2pix_teachers, CycleGAN: _cyclegan}
_STARTED = {
    Pix2Pix: ("discriminator",),
    Pix2PixTeachers: ("deep", "discriminator"),
    CycleGAN: ("generator_b", "discriminator_a", "discriminator_b"),
}


def _new(config: Config) -> Generator:
    network = build_generator(config)
    init_weights(network)
    return network


def _with_channels(config: Config, channels: tuple[int, int]) -> Config:
    return config.model_copy(update={"in_channels": channels[0], "out_channels": channels[1]})


def _deep_like(plan: Recipe, wide: Config) -> Config:
    """OMGD's deep teacher beside a U-Net: as many levels, the student's width as published."""
    if not isinstance(wide, UNetConfig):
        raise RecipeError(f"recipe {plan.name}: teacher.deep is not set; say which network the deep teacher is.")
    return DeepUNetConfig(width=DEEP_WIDTH, downs=len(wide.down), norm=wide.norm)


def _discriminator(plan: Recipe, name: str, channels: int, expected: DiscriminatorConfig | None = None):
    """The one of the file `teacher.start.NAME`, None where there is none; without `expected` for one teacher."""
    path = plan.teacher.start.get(name)
    if not path:
        return None
    found = load_discriminator(path, expected)
    if expected is None and isinstance(found.config, SharedPatchGANConfig):
        raise InputError(
            f"{path}: is a discriminator for two teachers; give one for one teacher, or none to start anew."
        )
    if found.config.in_channels != channels:
        raise InputError(
            f"{path}: takes {found.config.in_channels} channels, and here {name} has {channels} to judge; give another "
            "one, or none to start anew."
        )
    return found


def _check_start(plan: Recipe, gan: GAN) -> None:
    known = _STARTED[type(gan)]
    if unknown := next((name for name in plan.teacher.start if name not in known), None):
        raise RecipeError(
            f"recipe {plan.name}: teacher.start.{unknown}: {plan.gan.name} has no such network; it has "
            f"{', '.join(known)}."
        )


def _check_size(plan: Recipe, name: str, network: Generator) -> None:
    size = plan.data.size
    if size % network.multiple or size < network.min_size:
        raise RecipeError(
            f"recipe {plan.name}: data.size {size} does not fit the {name}, a {network.family}; it takes multiples of "
            f"{network.multiple} from {max(network.min_size, network.multiple)} on."
        )
