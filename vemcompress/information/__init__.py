"""How the mutual information is maximised. `INFORMATION` maps a recipe's `information.name` to its add-on."""

from typing import Annotated

from pydantic import Field

from vemcompress.information.base import Information
from vemcompress.information.vem import VEM

INFORMATION: dict[str, type[Information]] = {"none": Information, "vem": VEM}

AnyInformation = Annotated[VEM.Settings | Information.Settings, Field(discriminator="name")]


def build_information(settings, *, image_channels: int, height: int, width: int) -> Information:
    """The add-on of these settings, for images of this shape."""
    if isinstance(settings, Information.Settings):
        return Information()
    return INFORMATION[settings.name](settings, image_channels=image_channels, height=height, width=width)
