"""How the mutual information is maximised. `INFORMATION` maps a recipe's `information.name` to its add-on.

A new one is a file with its Settings and its term, and its name in the list; the first is a recipe's default.
"""

from vemcompress.information.base import Information
from vemcompress.information.crd import CRD
from vemcompress.information.vem import VEM
from vemcompress.information.vid import VID
from vemcompress.system.plugins import Classes

_CLASSES: tuple[type[Information], ...] = (VEM, VID, CRD, Information)

INFORMATION: Classes[type[Information]] = Classes("information", _CLASSES, Information)


def build_information(settings, *, image_channels: int, height: int, width: int) -> Information:
    """The add-on of these settings, for images of this shape."""
    if type(settings) is Information.Settings:
        return Information()
    return INFORMATION[settings.name](settings, image_channels=image_channels, height=height, width=width)
