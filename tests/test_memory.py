"""Memory is flat: the number of live objects does not grow with the steps."""

import gc

import pytest
import torch
from teach_toys import CRD, TURNS, VEM, toy_data
from toys import TOY, toy_teacher_file

from vemcompress.commands.distill import distill

EARLY, LATE = 60, 240  # by then buffers, pools and caches are full
LONG = (f"train.steps={LATE}", "train.checkpoint_every=20", "train.sample_every=20", "train.log_every=10")
CYCLEGAN = ("data.size=32", *TURNS, *VEM, "algorithm.best_teacher=latest")
NO_INFORMATION = tuple(setting for setting in TOY if not setting.startswith("information."))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("kind", "recipe", "settings"),
    [
        ("single", "omgd", (*TOY, "information.start=buffer", "information.buffer=4")),
        ("single", "omgd", (*NO_INFORMATION, *CRD)),
        ("unpaired", "omgd_cyclegan", CYCLEGAN),
    ],
    ids=["vem", "crd", "cyclegan"],
)
def test_tensors_do_not_gather_over_the_steps(kind, recipe, settings, data, tmp_path):
    found = {}

    def on_event(event):
        if event["event"] == "step" and event["step"] in (EARLY, LATE):
            found[event["step"]] = living()

    teacher = toy_teacher_file(tmp_path / "teacher.safetensors") if recipe == "omgd" else None
    options = {"recipe": recipe, "overrides": [*settings, *LONG], "device": "cpu", "on_event": on_event}
    distill(teacher, data=data[kind], out=tmp_path / "run", **options)
    (count, size, objects), later = found[EARLY], found[LATE]
    assert later[:2] == (count, size)
    assert later[2] < objects + 100


def living() -> tuple[int, int, int]:
    """Tensors, their bytes, and objects of any kind that the garbage collector knows."""
    gc.collect()
    known = gc.get_objects()
    tensors = [thing for thing in known if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    return len(tensors), sum(tensor.nbytes for tensor in tensors), len(known)
