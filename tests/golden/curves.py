"""Golden curves: what short runs of every kind log and end with, written down once and compared ever after.

    python tests/golden/curves.py            # compare with curves.json, bit for bit
    python tests/golden/curves.py --write    # write it anew, after a change that is meant to change them

Only the library's face is used, so that the same file runs on any release. The runs are made on one thread of a CPU.
On another processor the last bits may differ, so that the test compares with a tolerance.
"""

import hashlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vemcompress

CURVES = Path(__file__).with_name("curves.json")
COMMANDS = {"distill": vemcompress.distill, "teach": vemcompress.teach}

TRAIN = ("data.size=32", "train.log_every=1", "train.sample_every=100", "train.checkpoint_every=4", "train.steps=8")
SMALL = ("student.width=4", "algorithm.features=none")
VEM = ("information.channels=2", "information.steps=2")
ADD_ONS = {
    "vem": VEM,
    "vid": ("information.name=vid",),
    "crd": ("information.name=crd", "information.memory=2", "information.channels=2", "information.dimension=4"),
    "none": ("information.name=none",),
}
UNET = ("teacher.network.width=2", "teacher.network.downs=5", "gan.discriminator.width=2")
RESNET = ("teacher.network.width=2", "teacher.network.blocks=3", "gan.discriminator.width=2", "gan.pool=2")
ONLINE = (*SMALL, "student.width=2", "student.downs=5", *UNET, "teacher.deep.width=1", "teacher.deep.downs=5")
TURNS = (*SMALL, "student.width=2", "student.blocks=3", *RESNET, "train.batch=1", "algorithm.phase_steps=2")
TURNS = (*TURNS, "algorithm.student_epochs=1")
LABELS = ("data.kind=labels", "data.classes=3", "data.direction=BtoA")

# By name: the command, the recipe, the kind of data, and the overrides.
CASES = {
    **{f"frozen-{name}": ("distill", "omgd", "single", (*SMALL, *more)) for name, more in ADD_ONS.items()},
    **{
        f"online-{name}": ("distill", "omgd_online", "paired", (*ONLINE, "train.batch=2", *more))
        for name, more in ADD_ONS.items()
    },
    **{
        f"phases-{name}": ("distill", "omgd_cyclegan", "unpaired", (*TURNS, "algorithm.best_teacher=latest", *more))
        for name, more in ADD_ONS.items()
    },
    "frozen-pairs": ("distill", "omgd", "paired", (*SMALL, *VEM, "data.kind=paired", "train.batch=2")),
    "frozen-unpaired": ("distill", "omgd", "unpaired", (*SMALL, *VEM, "data.kind=unpaired")),
    "frozen-buffer": ("distill", "omgd", "single", (*SMALL, *VEM, "information.start=buffer", "information.buffer=3")),
    "frozen-forward": ("distill", "omgd", "single", (*SMALL, *VEM, "information.power_iteration=forward")),
    "frozen-cache": ("distill", "omgd", "single", (*SMALL, *VEM, "train.teacher_cache=2", "data.held_out=1")),
    "frozen-features": (
        "distill",
        "omgd",
        "single",
        ("student.width=4", "algorithm.features=squeezenet1_1", "algorithm.features_weights=FEATURES", *VEM),
    ),
    "frozen-epochs": ("distill", "omgd", "single", (*SMALL, *VEM, "train.epochs=2", "train.decay=epoch")),
    "online-every": ("distill", "omgd_online", "paired", (*ONLINE, *VEM, "train.batch=2", "gan.every=2")),
    "online-share": ("distill", "omgd_online", "paired", (*ONLINE, *VEM, "gan.discriminator.n_share=2")),
    "online-cyclegan": ("distill", "omgd_cyclegan", "unpaired", (*TURNS, *VEM, "algorithm.online=step")),
    "phases-judged": (
        "distill",
        "omgd_cyclegan",
        "unpaired",
        (
            *TURNS,
            *VEM,
            "algorithm.features=squeezenet1_1",
            "algorithm.features_weights=FEATURES",
            "algorithm.best_teacher=frechet",
            "data.held_out=2",
        ),
    ),
    "labels": ("distill", "omgd_online", "labels", (*ONLINE, *VEM, "train.batch=2", *LABELS)),
    "teach-pix2pix": ("teach", "pix2pix", "paired", (*UNET, "train.batch=2", "data.held_out=2")),
    "teach-cyclegan": ("teach", "cyclegan", "unpaired", (*RESNET, "gan.identity=0.5")),
    "teach-labels": ("teach", "pix2pix", "labels", (*UNET, "train.batch=2", *LABELS)),
}


def run(case: str, root: Path) -> dict:
    """The curve of a case: what metrics.jsonl says, and sums over what the run has written."""
    start(case, root)
    return told(root / case)


def start(case: str, root: Path, **more) -> None:
    """Make the run of a case in its folder under `root`."""
    command, recipe, kind, overrides = CASES[case]
    data = make_data(root / "data")
    overrides = [*TRAIN, *(o.replace("FEATURES", str(data["features"])) for o in overrides)]
    if "epochs" in case:
        overrides.remove("train.steps=8")
    options = {"data": data[kind], "out": root / case, "recipe": recipe, "overrides": overrides, "device": "cpu"}
    if command == "distill" and recipe == "omgd":
        options["teacher"] = data["teacher"]
    COMMANDS[command](**options, **more)


def told(out: Path) -> dict:
    """The curve of a run folder."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "event" not in line]  # scores
    lines = [{k: v for k, v in line.items() if not k.startswith("information.")} for line in lines]  # measured beside
    last = max((out / "checkpoints").glob("step-*"))
    weights = {path.name: _sum(path) for path in sorted(last.glob("*.safetensors"))}
    return {"curve": lines, "weights": weights}


def _sum(path: Path) -> dict:
    """Of a file's tensors: a hash of all bits, and their mean magnitude, which a tolerance can be laid on."""
    tensors, digest = load_file(path), hashlib.sha256()
    total = count = 0
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(name.encode() + tensor.numpy().tobytes())
        total += tensor.double().abs().sum().item()
        count += tensor.numel()
    return {"sha256": digest.hexdigest()[:16], "tensors": len(tensors), "mean": total / max(1, count)}


def make_data(root: Path) -> dict[str, Path]:
    """Images of each kind, a published teacher, a trunk of features: the same wherever they are made."""
    paths = {name: root / name for name in ("single", "paired", "unpaired", "labels")}
    paths |= {"teacher": root / "teacher.safetensors", "features": root / "features.safetensors"}
    if not root.exists():
        random = np.random.default_rng(0)
        _pictures(paths["single"], 5, random)
        _pictures(paths["paired"], 6, random, width=80)
        _pictures(paths["unpaired"] / "trainA", 6, random)
        _pictures(paths["unpaired"] / "trainB", 5, random)
        _pictures(paths["labels"] / "train", 4, random)
        _pictures(paths["labels"] / "train_label", 4, random, classes=3)
        save_file(_teacher(random), paths["teacher"])
        save_file(_trunk(random), paths["features"])
    return paths


def _pictures(folder: Path, count: int, random: np.random.Generator, width: int = 40, classes: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        shape = (40, width) if classes else (40, width, 3)
        Image.fromarray(random.integers(0, classes or 256, shape, dtype=np.uint8)).save(folder / f"{i}.png")


def _tensor(random: np.random.Generator, *shape: int, scale: float = 0.1) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32) * scale)


def _teacher(random: np.random.Generator) -> dict[str, torch.Tensor]:
    """A CycleGAN ResNet of width 4 with 3 blocks, under the published names."""
    convolutions = {1: (4, 3, 7), 4: (8, 4, 3), 7: (16, 8, 3), 13: (16, 8, 3), 16: (8, 4, 3), 20: (3, 4, 7)}
    tensors = {}
    for number, (outputs, inputs, kernel) in convolutions.items():
        tensors[f"model.{number}.weight"] = _tensor(random, outputs, inputs, kernel, kernel)
        tensors[f"model.{number}.bias"] = _tensor(random, inputs if number in (13, 16) else outputs)
    for block in (10, 11, 12):
        for layer in (1, 5):
            tensors[f"model.{block}.conv_block.{layer}.weight"] = _tensor(random, 16, 16, 3, 3)
            tensors[f"model.{block}.conv_block.{layer}.bias"] = _tensor(random, 16)
    return tensors


def _trunk(random: np.random.Generator) -> dict[str, torch.Tensor]:
    """SqueezeNet 1.1's, under torchvision's names."""
    from torchvision.models import squeezenet1_1

    shapes = squeezenet1_1(weights=None).features.state_dict()
    return {name: _tensor(random, *value.shape, scale=0.05) for name, value in shapes.items()}


def main() -> int:
    torch.set_num_threads(1)
    known = json.loads(CURVES.read_text()) if CURVES.exists() else {}
    names = [a for a in sys.argv[1:] if not a.startswith("-")] or list(CASES)
    made, wrong = {}, []
    with TemporaryDirectory() as folder:
        for name in names:
            made[name] = json.loads(json.dumps(run(name, Path(folder))))
            same = made[name] == known.get(name)
            wrong += [] if same else [name]
            print(name, "is the same" if same else "differs", flush=True)
    if "--write" in sys.argv:
        rows = (f"{json.dumps(name)}: {json.dumps(curve)}" for name, curve in (known | made).items())
        CURVES.write_text("{\n" + ",\n".join(rows) + "\n}\n")
        return 0
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
