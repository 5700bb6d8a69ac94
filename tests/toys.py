"""Small things that tests share: a teacher, images, a plan, a run."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytorch_fid.inception as published
import torch
from PIL import Image

from vemcompress import recipe as recipes
from vemcompress.algorithms.omgd import OMGD
from vemcompress.commands.parts import distillation
from vemcompress.data import folders
from vemcompress.data.batch import Batch
from vemcompress.networks import build_generator, parse_config
from vemcompress.networks.base import Generator, init_weights
from vemcompress.recipe import Recipe
from vemcompress.recipe.resolve import resolve
from vemcompress.weights.artifact import save_generator

# No features, few and small images: a step takes milliseconds.
TOY = (
    "data.size=32",
    "student.width=4",
    "algorithm.features=none",
    "information.channels=2",
    "information.steps=2",
    "train.steps=6",
    "train.log_every=1",
    "train.sample_every=100",
    "train.checkpoint_every=3",
)
# Every add-on, at its smallest.
ADD_ONS = {
    "vem": {"channels": 2, "steps": 2},
    "vid": {},
    "crd": {"memory": 2, "channels": 2, "dimension": 4},
    "none": {},
}


def toy_teacher(family: str = "resnet", seed: int = 0, **shape) -> Generator:
    torch.manual_seed(seed)
    depth = {"levels": 2} if family in ("dcgan", "sagan") else {"downs": 5} if "unet" in family else {"blocks": 3}
    depth = {"size": 16, "latent": 16, "mapping": 2} if family == "stylegan2" else depth
    depth = {"cells": 3} if family in ("agd", "agd_supernet") else depth
    shape = {"width": 4, **depth, **shape}
    network = build_generator(parse_config({"family": family, **shape}))
    init_weights(network)
    return network.eval()


def toy_images(folder: Path, count: int = 3, size: int = 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def find_images(roots, split: str = "trainA") -> list[Path]:
    return folders.find_images(roots, split).paths


def toy_teacher_file(path: Path, **options) -> Path:
    save_generator(path, toy_teacher(**options))
    return path


def toy_plan(teacher: Generator, *overrides: str) -> Recipe:
    """A resolved recipe for a toy teacher; another add-on than VEM does without VEM's settings."""
    other = any(o.startswith("information.name=") for o in overrides)
    toy = [o for o in TOY if not (other and o.startswith("information."))]
    plan = recipes.read("omgd", [*toy, *overrides])
    return resolve(plan, teacher, 3)


def toy_algorithm(*overrides: str, family: str = "resnet", features=None, **shape) -> OMGD:
    teacher = toy_teacher(family, **shape)
    algorithm = distillation(toy_plan(teacher, *overrides), teacher, features)
    algorithm.train()
    return algorithm


def tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    """What a batch holds, the input first."""
    return tuple(part for part in (batch.input, batch.target, batch.real) if part is not None)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_inception_file(path: Path) -> Path:
    """Random weights in pytorch-fid's layout."""
    torch.manual_seed(0)
    network = published._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    network.Mixed_5b = published.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = published.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = published.FIDInceptionA(288, pool_features=64)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        setattr(network, name, published.FIDInceptionC(768, channels_7x7=width))
    network.Mixed_7b, network.Mixed_7c = published.FIDInceptionE_1(1280), published.FIDInceptionE_2(2048)
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    return path


def stop_after(step: int):
    """Told of events, sends this process SIGTERM once a step is made."""

    def on_event(event: dict) -> None:
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


def logged(run: Path) -> list[dict]:
    """The lines of a run's metrics.jsonl, without the scores that pick the best checkpoint."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") != "score"]
