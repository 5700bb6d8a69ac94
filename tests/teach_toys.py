"""Toy teachers that learn, and the images that they learn from."""

from pathlib import Path

import numpy as np
from PIL import Image
from toys import toy_images

from vemcompress.commands.teach import TeachResult, teach

TRAIN = ("data.size=32", "train.steps=4", "train.batch=2", "train.log_every=1", "train.sample_every=100")
TRAIN = (*TRAIN, "train.checkpoint_every=2")
UNET = ("teacher.network.width=2", "teacher.network.downs=5", "gan.discriminator.width=2")
RESNET = ("teacher.network.width=2", "teacher.network.blocks=1", "gan.discriminator.width=2", "gan.pool=2")
SMALL = ("student.width=2", "algorithm.features=none")
VEM = ("information.channels=2", "information.steps=2")
CRD = ("information.name=crd", "information.memory=2", "information.channels=2", "information.dimension=4")
TEACHERS = (*SMALL, "student.downs=5", *UNET, "teacher.deep.width=1", "teacher.deep.downs=5")
TURNS = (*SMALL, "student.blocks=1", *RESNET, "train.batch=1", "algorithm.phase_steps=2", "algorithm.student_epochs=1")
LABELS = ("data.kind=labels", "data.classes=3", "data.direction=BtoA")


def toy_pairs(folder: Path, count: int, width: int = 40) -> Path:
    """Side by side, 40 px high: noise, 40 px wide, and white of this width."""
    for path in toy_images(folder, count).iterdir():
        noise = np.asarray(Image.open(path))
        white = np.full((40, width, 3), 255, np.uint8)
        Image.fromarray(np.concatenate((noise, white), axis=1)).save(path)
    return folder


def toy_data(root: Path) -> dict[str, Path]:
    """By kind: pairs whose B is white, two domains, white photos with label maps of 3 classes, single images."""
    toy_pairs(root / "paired", 6)
    toy_images(root / "unpaired" / "trainA", 4)
    toy_images(root / "unpaired" / "trainB", 5)
    photos, maps = root / "labels" / "train", root / "labels" / "train_label"
    for folder in (photos, maps):
        folder.mkdir(parents=True)
    for i in range(4):
        classes = np.random.default_rng(i).integers(0, 3, (40, 40), dtype=np.uint8)
        Image.fromarray(classes).save(maps / f"{i}.png")
        Image.fromarray(np.full((40, 40, 3), 255, np.uint8)).save(photos / f"{i}.png")
    toy_images(root / "single", 3)
    return {kind: root / kind for kind in ("paired", "unpaired", "labels", "single")}


def toy_teachers(data: dict[str, Path], root: Path) -> dict[str, Path]:
    """Runs that taught: pix2pix on pairs, cyclegan, and pix2pix on labels."""
    taught(data, root / "pix2pix")
    taught(data, root / "cyclegan", gan="cyclegan")
    taught(data, root / "labels", *LABELS, kind="labels")
    return {name: root / name for name in ("pix2pix", "cyclegan", "labels")}


def taught(data: dict[str, Path], out: Path, *overrides: str, gan="pix2pix", kind=None, **options) -> TeachResult:
    """A new run of a toy teacher."""
    source, toy = (data[kind or "paired"], UNET) if gan == "pix2pix" else (data[kind or "unpaired"], RESNET)
    return teach(data=source, out=out, recipe=gan, overrides=[*TRAIN, *toy, *overrides], device="cpu", **options)
