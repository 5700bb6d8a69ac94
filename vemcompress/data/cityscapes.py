"""Cityscapes' classes (Cordts et al., 2016): 34 label ids, the 19 of them that are trained and scored, and colours.

A file `*_labelIds.png` holds label ids, `*_labelTrainIds.png` train ids (255: ignored), `*_color.png` the colours. The
id -1 (licence plates) is never drawn; its colour is that of cars.
"""

from typing import NamedTuple

IGNORED = 255


class Label(NamedTuple):
    """One of Cityscapes' labels. Its label id is its index in LABELS. `train_id` is 0..18 or IGNORED; `colour` is
    RGB.
    """

    name: str
    train_id: int
    colour: tuple[int, int, int]


LABELS = (
    Label("unlabeled", 255, (0, 0, 0)),
    Label("ego vehicle", 255, (0, 0, 0)),
    Label("rectification border", 255, (0, 0, 0)),
    Label("out of roi", 255, (0, 0, 0)),
    Label("static", 255, (0, 0, 0)),
    Label("dynamic", 255, (111, 74, 0)),
    Label("ground", 255, (81, 0, 81)),
    Label("road", 0, (128, 64, 128)),
    Label("sidewalk", 1, (244, 35, 232)),
    Label("parking", 255, (250, 170, 160)),
    Label("rail track", 255, (230, 150, 140)),
    Label("building", 2, (70, 70, 70)),
    Label("wall", 3, (102, 102, 156)),
    Label("fence", 4, (190, 153, 153)),
    Label("guard rail", 255, (180, 165, 180)),
    Label("bridge", 255, (150, 100, 100)),
    Label("tunnel", 255, (150, 120, 90)),
    Label("pole", 5, (153, 153, 153)),
    Label("polegroup", 255, (153, 153, 153)),
    Label("traffic light", 6, (250, 170, 30)),
    Label("traffic sign", 7, (220, 220, 0)),
    Label("vegetation", 8, (107, 142, 35)),
    Label("terrain", 9, (152, 251, 152)),
    Label("sky", 10, (70, 130, 180)),
    Label("person", 11, (220, 20, 60)),
    Label("rider", 12, (255, 0, 0)),
    Label("car", 13, (0, 0, 142)),
    Label("truck", 14, (0, 0, 70)),
    Label("bus", 15, (0, 60, 100)),
    Label("caravan", 255, (0, 0, 90)),
    Label("trailer", 255, (0, 0, 110)),
    Label("train", 16, (0, 80, 100)),
    Label("motorcycle", 17, (0, 0, 230)),
    Label("bicycle", 18, (119, 11, 32)),
)

# Indexed by train id.
CLASSES = tuple(label.name for label in sorted((x for x in LABELS if x.train_id != IGNORED), key=lambda x: x.train_id))
TRAIN_COLOURS = tuple(next(x.colour for x in LABELS if x.name == name) for name in CLASSES)
