"""How the mutual information is maximised. `INFORMATION` maps a recipe's `information.name` to its add-on."""

from typing import Annotated

from pydantic import Field

from vemcompress.information.base import Information
from vemcompress.information.crd import CRD
from vemcompress.information.vem import VEM
from vemcompress.information.vid import VID

INFORMATION: dict[str, type[Information]] = {"none": Information, "vem": VEM, "vid": VID, "crd": CRD}

AnyInformation = Annotated[
    VEM.Settings | VID.Settings | CRD.Settings | Information.Settings, Field(discriminator="name")
]


def build_information(settings, *, image_channels: int, height: int, width: int) -> Information:
    """The add-on of these settings, for images of this shape."""
    if isinstance(settings, Information.Settings):
        return Information()
    return INFORMATION[settings.name](settings, image_channels=image_channels, height=height, width=width)


def check(settings, batch: int) -> None:
    """Raises RecipeError (3) where an add-on's settings cannot work on batches of this size."""
    INFORMATION[settings.name].check(settings, batch)
