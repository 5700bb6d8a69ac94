"""CRD: contrastive representation distillation, a contrastive bound of the mutual information (Tian et al., ICLR
2020), as a baseline for VEM.
"""

import json
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vemcompress.errors import RecipeError
from vemcompress.information.base import Information
from vemcompress.losses.information import info_nce
from vemcompress.system import distributed
from vemcompress.system.settings import BaseSettings, Channels, Positive, Weight
from vemcompress.training.update import Output

SIDE, SLOPE = 64, 0.2


class CRD(Information):
    """InfoNCE between the student's images and t. Negatives are other images.

    CRD maps the features before a classifier's last layer by one linear layer to 128 numbers of unit length. The last
    layer of a generator gives the image itself, so here a small convolutional encoder precedes the linear layer. There
    is one encoder for s and one for t. Both are trained with the student's optimiser, because one loss both tightens
    and raises the bound.

    The negatives of the student's anchors are the other t of the batch and a memory of earlier t. The negatives of the
    anchors t are only the other s of the batch, so at batch 1 only the student's anchor is used. In CRD the memory
    holds embeddings of both sides. At batch 1 all of them would come from older encoders, and the encoders would learn
    to differ from their past instead of telling images apart (600 steps on horses, InfoNCE of 33 images: 2.3 with
    embeddings, 0.4 with images, 3.5 by chance). Earlier s as negatives would teach the student to differ from its own
    past images. Therefore the memory holds images, and only t.

    The memory is first in, first out and starts empty. It does not store indices: if it is as long as the data set, an
    image's copy from the previous epoch counts as its negative.
    """

    class Settings(BaseSettings):
        """`weight`: weight of the term in the student's loss. `temperature`: divides the similarities before the
        softmax. `memory`: how many earlier images are kept. `dimension`: length of an embedding. `channels`: width
        of the encoders.
        """

        name: Literal["crd"] = "crd"
        weight: Weight = 0.8
        temperature: Positive = 0.07
        memory: int = Field(32, ge=0, le=2**14)
        dimension: Channels = 128
        channels: int = Field(32, ge=1, le=1024)

    file = "crd"
    splits = False

    def __init__(self, settings: Settings, *, image_channels: int, height: int, width: int):
        super().__init__()
        self.settings, self.shape = settings, {"image_channels": image_channels, "height": height, "width": width}
        self.of_student = Encoder(image_channels, settings.channels, settings.dimension)
        self.of_target = Encoder(image_channels, settings.channels, settings.dimension)
        if settings.memory:
            images = torch.empty(settings.memory, image_channels, height, width, device="meta")
            self.register_buffer("memory", torch.zeros(pooled(images).shape))
            self.register_buffer("filled", torch.tensor(0))

    @staticmethod
    def resolve(settings: Settings, facts: Any) -> Settings:
        if facts.batch == 1 and not settings.memory:
            raise RecipeError(
                "information.memory 0: with train.batch 1 CRD has no other image to compare with; set a memory, such "
                "as information.memory=32, or a larger batch."
            )
        return settings

    @property
    def metadata(self) -> dict[str, str]:
        config = self.shape | self.settings.model_dump(exclude={"name", "weight"})
        return {"family": "crd", "config": json.dumps(config)}

    def student_modules(self) -> dict[str, nn.Module]:
        return {"crd": self}

    def student_terms(self, out: Output) -> dict[str, Tensor]:
        """The losses of both anchors, summed as in CRD: student against t, and t against student. Then t is added to
        the memory. With several ranks, the negatives are those of the global batch, and every rank computes the
        whole loss.
        """
        with self.timer.part("information"):
            s = distributed.gather(self.of_student(pooled(self.timed(out.student))))
            t = distributed.gather(pooled(out.target.detach().float()))
            t, earlier = self._targets(t)
            temperature = self.settings.temperature
            loss = info_nce(s, t, earlier, temperature) + info_nce(t, s, s[:0], temperature)
            return {"information": self.settings.weight * loss}

    def _targets(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of t, and of the memory's images with rows of zeros for empty places. Adds t to the memory."""
        if not self.settings.memory:
            return self.of_target(t), t.new_zeros(0, self.settings.dimension)
        count, size = len(t), len(self.memory)
        images = torch.cat((t, self.memory))
        present = torch.arange(size, device=t.device) < self.filled
        embeddings = self.of_target(images)
        # New tensors, because the gradient still needs the old memory.
        self.memory, self.filled = images[:size].clone(), (self.filled + count).clamp(max=size)
        return embeddings[:count], embeddings[count:] * present[:, None]


class Encoder(nn.Module):
    """Maps images B x C x H x W of any size to embeddings B x D of unit length.

    Four 3x3 convolutions of stride 2 with LeakyReLU, the mean over pixels, a linear layer. There is no normalisation:
    instance norm would remove colour and contrast, and batch norm would mix images. Initial weights are Kaiming's
    without biases, because PyTorch's default maps all images to nearly the same direction.
    """

    def __init__(self, image_channels: int, channels: int, dimension: int):
        super().__init__()
        widths = [image_channels, channels, 2 * channels, 4 * channels, 4 * channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.linear = nn.Linear(widths[-1], dimension)
        for layer in (*self.convolutions, self.linear):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), SLOPE)
        return F.normalize(self.linear(x.mean((2, 3))), dim=1)


def pooled(images: Tensor) -> Tensor:
    """Average-pool images so that the shorter side keeps 64 to 127 pixels. This keeps the memory, and the cost of
    encoding it, small compared with a step of the teacher.
    """
    return F.avg_pool2d(images, max(1, min(images.shape[-2:]) // SIDE))
