"""The image pool of CycleGAN (Zhu et al., ICCV 2017; Shrivastava et al., CVPR 2017)."""

import torch
from torch import Tensor, nn

from vemcompress import distributed


class ImagePool(nn.Module):
    """Earlier fakes, so that a discriminator does not forget them. `size` 0 keeps none.

    Until it is full every image is stored and returned; then, with p = 0.5, an image takes the place of a random
    stored one, which is returned in its stead. Among several ranks every one keeps the same pool. The state dict holds
    the stored images as one tensor, count x C x H x W.
    """

    images: Tensor

    def __init__(self, size: int = 50):
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.empty(0))

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def query(self, images: Tensor, random: torch.Generator | None = None) -> Tensor:
        """As many images as are given, B x C x H x W, constants; one after the other, as published.

        `random` draws; None is PyTorch's own generator.
        """
        if self.size == 0:
            return images.detach()
        images = distributed.gather(images.detach())
        # Drawn for the whole batch at once: on a GPU each draw that is read back waits for the device.
        chances = torch.rand(2, len(images), generator=random, device=random and random.device).tolist()
        found = [self._exchange(x, *c) for x, *c in zip(images.split(1), *chances, strict=True)]
        return distributed.mine(torch.cat(found))

    def _exchange(self, image: Tensor, swap: float, place: float) -> Tensor:
        if len(self) < self.size:
            self.images = torch.cat((self.images, image)) if len(self) else image.clone()
            return image
        if swap <= 0.5:
            return image
        index = int(place * self.size)
        stored = self.images[index : index + 1].clone()
        self.images[index] = image[0]
        return stored

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        """Take up as many images as were stored."""
        stored = state_dict.get(f"{prefix}images")
        if stored is not None and len(stored) <= self.size:
            self.images = self.images.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
