"""PatchGAN for the images of two teachers (OMGD, Ren et al., ICCV 2021)."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vemcompress.networks.base import Taps
from vemcompress.networks.cost import Cost
from vemcompress.networks.discriminators.base import Discriminator, Stage, judge
from vemcompress.networks.discriminators.patchgan import PatchGANConfig, patch_stages

TeacherName = Literal["wide", "deep"]
STAGES = 5


class SharedPatchGANConfig(PatchGANConfig):
    """`multi_n_layers`, OMGD's for two teachers: two copies of each of PatchGAN's five stages.

    The first `n_share` stages are one for both teachers. Parameters count both copies, as published; MACs are those
    of judging for one teacher.
    """

    family: Literal["shared_patchgan"] = "shared_patchgan"
    in_channels: int = Field(6, ge=1, le=4096)
    width: int = Field(128, ge=1, le=4096)
    layers: Literal[3] = 3
    n_share: int = Field(5, ge=0, le=STAGES)

    def costs(self, height: int, width: int) -> Iterator[Cost]:
        for cost in super().costs(height, width):
            yield cost._replace(parameters=2 * cost.parameters)


class SharedPatchGAN(Discriminator):
    """PatchGAN for the images of two teachers, `stages[i][copy]`.

    Of a shared stage (the first `n_share`) both use copy 1, and copy 0 is dead: kept as published, without gradients
    ever. Of the others the wide teacher uses copy 0, the deep one copy 1.
    """

    config_class = SharedPatchGANConfig

    def __init__(self, config: SharedPatchGANConfig):
        super().__init__(config)
        copies = zip(patch_stages(config), patch_stages(config), strict=True)
        self.stages = nn.ModuleList(nn.ModuleList(pair) for pair in copies)

    def path(self, teacher: TeacherName = "wide") -> list[Stage]:
        if teacher not in ("wide", "deep"):
            raise ValueError(f"teacher {teacher!r}: must be 'wide' or 'deep'")
        own = 0 if teacher == "wide" else 1
        return [pair[1 if i < self.config.n_share else own] for i, pair in enumerate(self.stages)]

    def forward(self, x: Tensor, teacher: TeacherName = "wide") -> Tensor:
        return self.forward_with_taps(x, (), teacher)[0]

    def for_both(self, x: Tensor) -> dict[str, Tensor]:
        """The scores of one image for either teacher; what both share is computed once."""
        h = x
        for pair in self.stages[: self.config.n_share]:
            h = pair[1](h)
        if self.config.n_share == STAGES:
            return {"wide": h, "deep": h}
        return {teacher: judge(self.path(teacher)[self.config.n_share :], h, ())[0] for teacher in ("wide", "deep")}

    def owners(self) -> dict[str, list[Stage]]:
        """The stages in use: those of both teachers, and of each alone."""
        shared = self.config.n_share
        own = {"wide": [pair[0] for pair in self.stages[shared:]], "deep": [pair[1] for pair in self.stages[shared:]]}
        return {"both": [pair[1] for pair in self.stages[:shared]], **own}

    def forward_with_taps(
        self, x: Tensor, names: tuple[str, ...], teacher: TeacherName = "wide"
    ) -> tuple[Tensor, Taps]:
        return judge(self.path(teacher), x, names)
