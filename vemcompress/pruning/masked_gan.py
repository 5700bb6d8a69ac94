"""Training of a GAN whose generators have differentiable masks on their channels (`pruning.dmad`), for a `teach`
stage.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Generator as Random
from torch import Tensor, nn

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.gans.base import GAN
from vemcompress.networks.base import Generator
from vemcompress.networks.groups import makers
from vemcompress.pruning.dmad import GeneratorMasks, MaskSettings
from vemcompress.training.learner import Learner
from vemcompress.training.update import Update


def check_masks(
    settings: MaskSettings, generator: Generator, name: str, *, size: int, steps: int, recipe: str, target: int | None
) -> None:
    """Raises RecipeError for a schedule longer than the run, a `target` that the generator called `name` meets
    already, unknown groups, and a group of which only some layers could be masked. The generator may have no
    weights.
    """
    for group in generator.groups():
        layers = makers(generator, group)
        plain = [layer.module for layer, norm in layers if norm is None]
        if plain and len(plain) < len(layers):
            raise RecipeError(
                f"recipe {recipe}: [masks] need a norm after every layer, and in a {generator.family} {plain[0]} "
                f"writes to {group.name} without one; use a resnet, a mobile_resnet or a unet."
            )
    if not int(settings.period * steps / settings.updates):
        least = -(-settings.updates // settings.period)
        raise RecipeError(
            f"recipe {recipe}: masks.updates {settings.updates} needs a run of at least {least:.0f} steps, not "
            f"{steps}; lower it, or raise train.steps."
        )
    groups = {group.name: group.size for group in generator.groups()}
    if unknown := set(settings.bounded) - groups.keys():
        raise RecipeError(
            f"recipe {recipe}: masks.bounded: no channel group {min(unknown)!r}; known: {', '.join(groups)}."
        )
    whole = generator.costs(size, size)(groups).macs()[settings.count_as]
    if target is not None and whole <= target:
        key = "back_macs" if target == settings.back_macs else "target_macs"
        raise RecipeError(
            f"recipe {recipe}: masks.{key} {target}: the {name} has {whole} already, so no channel would be removed; "
            "set it lower."
        )


class MaskedGAN(Learner):
    """A GAN whose generators are trained with masks, by the same loss and optimiser."""

    uncompiled = "a GAN with trained masks cannot be compiled"

    def __init__(self, settings: MaskSettings, gan: GAN, *, size: int, steps: int, recipe: str):
        super().__init__()
        self.settings, self.gan, self.steps = settings, gan, steps
        generators = gan.generators().items()
        self.masks = nn.ModuleDict({name: GeneratorMasks(generator, settings) for name, generator in generators})
        if sum("discriminator" not in update.name for update in gan.updates()) > 1:
            raise RecipeError(
                f"recipe {recipe}: [masks] need a GAN that updates its generators together; set gan.name to cyclegan, "
                "pix2pix or latent."
            )
        targets = settings.target_macs, settings.back_macs or settings.target_macs
        self.targets = {name: targets[min(place, 1)] for place, (name, _) in enumerate(generators)}
        for name, generator in generators:
            check_masks(settings, generator, name, size=size, steps=steps, recipe=recipe, target=self.targets[name])
        self.every = int(settings.period * steps / settings.updates)
        self._costs = {name: generator.costs(size, size) for name, generator in generators}

    def forward(self, batch: Batch, random: Random, step: int = 1) -> Any:
        return self.gan(batch, random, step)

    def updates(self) -> list[Update]:
        return [u if "discriminator" in u.name else self._with_masks(u) for u in self.gan.updates()]

    def _with_masks(self, update: Update) -> Update:
        def terms(out: Any) -> dict[str, Tensor]:
            found = {f"{name}_masks": self.settings.weight * m.penalty() for name, m in self.masks.items()}
            return update.terms(out) | found

        return replace(update, modules=update.modules | {"masks": self.masks}, terms=terms, after=self._settle)

    def _settle(self) -> None:
        for masks in self.masks.values():
            masks.settle()

    # -- the bound -----------------------------------------------------------------------------------------------

    def finishes(self, step: int) -> bool:
        falls = step % self.every == 0 and step - self.every < self.settings.period * self.steps
        return falls or step == self.steps

    def finish(self, step: int) -> dict:
        """Lower the bound: b = 1 - (n / N)^(1/3) after n of the N steps in which it falls, and 0 after them."""
        bound = 0.0 if step == self.steps else max(0.0, 1 - (step / (self.settings.period * self.steps)) ** (1 / 3))
        found, decided = {}, []
        for name, masks in self.masks.items():
            before = masks.is_decided
            found[name] = self._macs(name, masks.kept())
            masks.lower(bound, found[name], self.targets[name])
            if masks.is_decided and not before:
                decided.append(name)
                found[name] = self._macs(name, masks.kept())
        self._settle()
        told = {"number": step // self.every, "bound": bound, "targets": self.targets}
        return {"event": "masks", **told, "macs": found, "decided": decided}

    def _macs(self, name: str, kept: Mapping[str, int]) -> int:
        generator = self.gan.generators()[name]
        widths = {group.name: kept.get(group.name, group.size) for group in generator.groups()}
        return self._costs[name](widths).macs()[self.settings.count_as]

    # -- output files --------------------------------------------------------------------------------------------

    def artifacts(self) -> dict[str, nn.Module]:
        return self.gan.artifacts()

    def companions(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        return self.gan.companions() | {"masks": (self.masks, {})}

    def pictures(self, inputs: Tensor) -> dict[str, Tensor]:
        return self.gan.pictures(inputs)

    def clock(self, step: int, total: int) -> tuple[int, int]:
        return self.gan.clock(step, total)
