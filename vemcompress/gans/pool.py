"""The image pool of CycleGAN: earlier fakes for the discriminator (Shrivastava et al., CVPR 2017; Zhu et al., ICCV
2017).
"""

import torch
from torch import Tensor, nn

from vemcompress.system import distributed


class ImagePool(nn.Module):
    """Stores earlier fakes, so that a discriminator does not forget them. `size` 0 stores none.

    Until the pool is full, every image is stored and returned. Then, with p = 0.5, an image replaces a random stored
    one, which is returned instead. With several ranks, all hold the same pool. The state dict holds the stored images
    as one tensor, count x C x H x W.
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
        """As many images as given, B x C x H x W, without gradient; handled one after the other, as published.

        `random` is the random generator; None for PyTorch's default.
        """
        if self.size == 0:
            return images.detach()
        images = distributed.gather(images.detach())
        swaps, places = torch.rand(2, len(images), generator=random, device=random and random.device)
        swaps, places = (swaps > 0.5).to(images.device), (places * self.size).long().to(images.device)
        places.clamp_(max=self.size - 1)  # a number just below 1 may round up
        found = [self._exchange(*one) for one in zip(images.split(1), swaps, places.split(1), strict=True)]
        return distributed.mine(torch.cat(found))

    def _exchange(self, image: Tensor, swap: Tensor, place: Tensor) -> Tensor:
        """Handle one image, 1 x C x H x W. The random draws are tensors, because reading them back from a GPU would
        block the host.
        """
        if len(self) < self.size:
            self.images = torch.cat((self.images, image)) if len(self) else image.clone()
            return image
        stored = self.images.index_select(0, place)
        self.images.index_copy_(0, place, torch.where(swap, image, stored))
        return torch.where(swap, stored, image)

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        """Restore the stored images."""
        stored = state_dict.get(f"{prefix}images")
        if stored is not None and len(stored) <= self.size:
            self.images = self.images.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
