"""Add-ons that maximise the mutual information between the teacher's and the student's images.

`INFORMATION` maps a recipe's `information.name` to its class. The first entry is the default. To add one, write a file
with its Settings and its loss term, and add its name to the list below.
"""

from vemcompress.information.base import Information
from vemcompress.information.crd import CRD
from vemcompress.information.vem import VEM
from vemcompress.information.vid import VID
from vemcompress.system.plugins import Classes

_CLASSES: tuple[type[Information], ...] = (VEM, VID, CRD, Information)

INFORMATION: Classes[type[Information]] = Classes("information", _CLASSES, Information)


def build_information(settings, *, image_channels: int, height: int, width: int) -> Information:
    """Build the add-on of these settings for images of this shape."""
    if type(settings) is Information.Settings:
        return Information()
    return INFORMATION[settings.name](settings, image_channels=image_channels, height=height, width=width)
