"""CRD: a contrastive bound of the mutual information (Tian et al., ICLR 2020), as a rival of VEM."""

import json
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.information.base import Information
from vemcompress.losses.information import info_nce
from vemcompress.settings import BaseSettings
from vemcompress.step import Output


class CRD(Information):
    """InfoNCE between the student's images and t, at the level of instances: negatives are other images.

    CRD maps the features before a classifier's last layer by one linear layer to 128 numbers of unit length. The last
    layer of a generator gives the image itself, so here a small convolutional encoder comes before the linear layer:
    one for s and one for t, learnt with the student by its optimiser, since both tighten and raise one bound.

    The memory holds the latest embeddings of s and of t, each as negatives of the other side's anchors (CRD keeps two
    as well), and begins with random directions. It is first in, first out, and knows no indices: once it is longer
    than the data set, an image of an earlier epoch is its own negative, so keep it shorter.
    """

    class Settings(BaseSettings):
        """`memory`: embeddings kept per side; `channels`: width of the encoders, `dimension`: of the embeddings."""

        name: Literal["crd"] = "crd"
        weight: float = Field(0.8, ge=0)
        temperature: float = Field(0.07, gt=0)
        memory: int = Field(256, ge=0)
        dimension: int = Field(128, ge=1)
        channels: int = Field(32, ge=1)

    file = "crd"

    def __init__(self, settings: Settings, *, image_channels: int, height: int, width: int):
        super().__init__()
        self.settings, self.image_channels = settings, image_channels
        self.of_student = Encoder(image_channels, settings.channels, settings.dimension)
        self.of_target = Encoder(image_channels, settings.channels, settings.dimension)
        if settings.memory:
            for side in ("students", "targets"):
                self.register_buffer(side, F.normalize(torch.randn(settings.memory, settings.dimension), dim=1))

    @staticmethod
    def check(settings: Settings, batch: int) -> None:
        if batch == 1 and not settings.memory:
            raise RecipeError(
                "information.memory 0: with train.batch 1 CRD has no other image to compare with; give it a memory, "
                "as information.memory=256, or a larger batch."
            )

    @property
    def metadata(self) -> dict[str, str]:
        config = {"image_channels": self.image_channels} | self.settings.model_dump(exclude={"name", "weight"})
        return {"family": "crd", "config": json.dumps(config)}

    def student_modules(self) -> dict[str, nn.Module]:
        return {"crd": self}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """Both anchors, summed as in CRD: student against t, and t against student. Then the memory moves on."""
        s, t = self.of_student(out.student.float()), self.of_target(out.target.detach().float())
        students, targets = (self.students, self.targets) if self.settings.memory else (s[:0], t[:0])
        temperature = self.settings.temperature
        loss = info_nce(s, t, targets, temperature) + info_nce(t, s, students, temperature)
        if self.settings.memory:  # new tensors: the old ones are still needed for the gradient
            self.students = _newest(s, students)
            self.targets = _newest(t, targets)
        return {"information": self.settings.weight * loss}


class Encoder(nn.Module):
    """Images B x C x H x W of any size to B x D of unit length.

    Four 3x3 convolutions of stride 2 with LeakyReLU, the mean over pixels, a linear layer. No normalisation: that of
    instances would remove colour and contrast, that of batches would let images see one another.
    """

    def __init__(self, image_channels: int, channels: int, dimension: int):
        super().__init__()
        widths = [image_channels, channels, 2 * channels, 4 * channels, 4 * channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.linear = nn.Linear(widths[-1], dimension)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), 0.2)
        return F.normalize(self.linear(x.mean((2, 3))), dim=1)


def _newest(embeddings: Tensor, memory: Tensor) -> Tensor:
    """First in, first out."""
    return torch.cat((embeddings.detach(), memory))[: len(memory)]
