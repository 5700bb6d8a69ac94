"""`teach`, and students of its teachers: exact resuming, starting from given weights, and which image is t."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from teach_toys import CRD, LABELS, SMALL, TEACHERS, TRAIN, TURNS, VEM, taught, toy_data, toy_teachers
from toys import logged

from vemcompress import recipe as recipes
from vemcompress.algorithms.omgd import OMGD
from vemcompress.commands import opening, parts
from vemcompress.commands.distill import distill
from vemcompress.commands.teach import teach
from vemcompress.errors import InputError, Interrupted, UsageError
from vemcompress.runs.best import Score
from vemcompress.weights.folder import Made
from vemcompress.weights.loading import load_generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teachers(data, tmp_path_factory):
    return toy_teachers(data, tmp_path_factory.mktemp("teachers"))


# -- a run ----------------------------------------------------------------------------------------------------------


def test_a_taught_run_leaves_a_teacher_that_loads_and_its_discriminator(data, tmp_path):
    events = []
    result = taught(data, tmp_path / "run", "data.held_out=2", on_event=events.append)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"recipe.toml", "teacher.safetensors", "discriminator.safetensors", "environment.json", "best"} <= names
    assert "student.safetensors" not in names
    assert load_generator(tmp_path / "run").config.down[0] == 2
    lines = logged(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert set(result.losses) == {"teacher_d_fake", "teacher_d_real", "teacher_gan", "teacher_recon"}
    assert (result.best["metric"], result.best["images"]) == ("l1_target", 2)
    assert [e["event"] for e in events].count("teaching") == 1


def test_cyclegan_also_leaves_the_way_back(data, teachers):
    present = {p.name for p in teachers["cyclegan"].glob("*.safetensors")}
    names = ("teacher", "generator_b", "discriminator_a", "discriminator_b")
    assert present == {f"{name}.safetensors" for name in names}


def test_the_log_tells_the_rate_at_which_the_teacher_learns(data, tmp_path):
    events, two_epochs = [], ("train.steps=6", "train.decay=epoch")
    taught(data, tmp_path / "run", "gan.lr=1e-3", "gan.every=3", *two_epochs, on_event=events.append)
    lines = logged(tmp_path / "run")
    assert [line["lr"] for line in lines] == pytest.approx([1e-3] * 3 + [5e-4] * 3)
    assert all("teacher_recon" in line for line in lines)
    told = [e["message"] for e in events if e["event"] == "warning"]
    assert any("gan.every 3" in message for message in told)
    assert any("trained with gan.lr 0.001" in message for message in told)


# -- resuming --------------------------------------------------------------------------------------------------------


def stop_after(step: int):
    def on_event(event):
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_event


def same_runs(a: Path, b: Path) -> set[str]:
    """Log, best and every file of the last checkpoint, to the bit; returns the names of the latter."""
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
    best = [(run / "best" / "best.json") for run in (a, b)]
    assert best[0].exists() == best[1].exists()
    if best[0].exists():
        assert best[0].read_bytes() == best[1].read_bytes()
    last = [run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip() for run in (a, b)]
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in last]
    assert last[0].name == last[1].name
    assert files[0].keys() == files[1].keys()
    assert [name for name in files[0] if files[0][name] != files[1][name]] == []
    return {name.removesuffix(".safetensors") for name in files[0] if name.endswith(".safetensors")}


@pytest.mark.parametrize(
    ("gan", "overrides", "stop", "holds"),
    [
        ("pix2pix", ("train.steps=6", "data.held_out=2", "train.decay=epoch"), 3, {"teacher", "discriminator"}),
        (
            "cyclegan",
            ("train.steps=8", "train.batch=1"),
            5,
            {"teacher", "generator_b", "discriminator_a", "discriminator_b", "pool_a", "pool_b"},
        ),
    ],
)
def test_a_resumed_teacher_ends_as_an_unbroken_one(gan, overrides, stop, holds, data, tmp_path):
    taught(data, tmp_path / "whole", *overrides, gan=gan)
    with pytest.raises(Interrupted, match=f"step {stop} of .*vemcompress teach --resume"):
        taught(data, tmp_path / "broken", *overrides, gan=gan, on_event=stop_after(stop))
    teach(resume=tmp_path / "broken", device="cpu")
    assert same_runs(tmp_path / "whole", tmp_path / "broken") == {*holds, "optimizers"}


def by_first_weight(*_, by=None, **__):
    """A judge that needs no images, in place of FID's; None where the student would be judged."""
    if by is None:
        return None
    return lambda network: Score(by, next(network.parameters()).abs().mean().item(), higher_is_better=False)


ONLINE = {
    "teachers in step": (
        "omgd_online",
        "paired",
        (*TEACHERS, *VEM, "gan.every=2", "data.held_out=2", "information.start=buffer", "information.buffer=4"),
        {"student", "teacher", "deep", "discriminator", "connectors", "energy"},
    ),
    "turns": (
        "omgd_cyclegan",
        "unpaired",
        (*TURNS, *CRD, "algorithm.best_teacher=frechet"),
        {"student", "teacher", "generator_a", "generator_b", "discriminator_a", "discriminator_b"}
        | {"pool_a", "pool_b", "connectors", "crd", "phases"},
    ),
}


@pytest.mark.parametrize(("case", "stop"), [("teachers in step", 3), ("turns", 3), ("turns", 5)])
def test_a_resumed_online_run_ends_as_an_unbroken_one(case, stop, data, tmp_path, monkeypatch):
    recipe, kind, settings, holds = ONLINE[case]
    if case == "turns":
        monkeypatch.setattr(parts, "picker", by_first_weight)
    options = {"data": data[kind], "recipe": recipe, "device": "cpu"}
    options["overrides"] = [*TRAIN, *settings, "train.steps=8", "train.decay=epoch"]
    distill(out=tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match=f"step {stop} of 8"):
        distill(out=tmp_path / "broken", on_event=stop_after(stop), **options)
    distill(resume=tmp_path / "broken", device="cpu")
    assert same_runs(tmp_path / "whole", tmp_path / "broken") == {*holds, "optimizers"}


def test_a_run_with_a_student_is_not_taught_on(data, teachers, tmp_path):
    options = {"data": data["paired"], "device": "cpu"}
    overrides = [*TRAIN, *TEACHERS, *VEM, "train.steps=1"]
    distill(out=tmp_path / "online", recipe="omgd_online", overrides=overrides, **options)
    with pytest.raises(UsageError, match="has a student; continue with `vemcompress distill --resume"):
        teach(resume=tmp_path / "online", overrides=["train.steps=2"], device="cpu")


def test_a_taught_run_is_not_distilled_on(data, tmp_path):
    taught(data, tmp_path / "run", "algorithm.features=none")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises((UsageError, InputError), match="run"):
        distill(resume=tmp_path / "run", device="cpu")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


# -- learning from it ------------------------------------------------------------------------------------------------


def assert_same_parameters(a: Path, b: Path) -> None:
    """All but BatchNorm's statistics, which move in every forward pass."""
    x, y = ({k: v for k, v in load_file(path).items() if ".running_" not in k} for path in (a, b))
    x, y = ({k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")} for tensors in (x, y))
    assert x.keys() == y.keys()
    assert all(torch.equal(x[name], y[name]) for name in x), (a, b)


NO_RATE = "gan.lr=1e-30"  # so that after a step the weights are those that it began with


def test_an_online_run_starts_from_the_given_teacher_and_discriminator(data, teachers, tmp_path):
    overrides = [*TRAIN, *SMALL, *VEM, "train.steps=1", "gan.name=pix2pix", "gan.discriminator.width=9", NO_RATE]
    options = {"data": data["paired"], "recipe": "omgd", "device": "cpu"}
    distill(teachers["pix2pix"], out=tmp_path / "run", overrides=[*overrides, "data.kind=paired"], **options)
    for name in ("teacher", "discriminator"):
        assert_same_parameters(teachers["pix2pix"] / f"{name}.safetensors", tmp_path / "run" / f"{name}.safetensors")


@pytest.mark.parametrize("online", ["step", "phases"])
def test_an_online_cyclegan_starts_from_all_four_networks(online, data, teachers, tmp_path):
    overrides = [*TRAIN, *TURNS, *VEM, "train.steps=2", "algorithm.best_teacher=latest", f"algorithm.online={online}"]
    options = {"data": data["unpaired"], "recipe": "omgd_cyclegan", "device": "cpu"}
    distill(teachers["cyclegan"], out=tmp_path / "run", overrides=[*overrides, NO_RATE], **options)
    first = "teacher" if online == "step" else "generator_a"
    for name in ("teacher", first):
        assert_same_parameters(teachers["cyclegan"] / "teacher.safetensors", tmp_path / "run" / f"{name}.safetensors")
    for name in ("generator_b", "discriminator_a", "discriminator_b"):
        assert_same_parameters(teachers["cyclegan"] / f"{name}.safetensors", tmp_path / "run" / f"{name}.safetensors")


def test_two_teachers_start_from_one_taught_alone_without_its_discriminator(data, teachers, tmp_path):
    options = {"data": data["paired"], "recipe": "omgd_online", "device": "cpu"}
    overrides = [*TRAIN, *TEACHERS, *VEM, "train.steps=1", NO_RATE]
    distill(teachers["pix2pix"], out=tmp_path / "run", overrides=overrides, **options)
    assert_same_parameters(teachers["pix2pix"] / "teacher.safetensors", tmp_path / "run" / "teacher.safetensors")


def test_a_run_with_a_student_gives_that_one_alone(teachers, tmp_path):
    plan = recipes.read("omgd", ["gan.name=pix2pix"])
    assert opening._start_from(teachers["pix2pix"], plan).keys() == {"discriminator"}
    run = Path(shutil.copytree(teachers["pix2pix"], tmp_path / "run"))
    (run / "teacher.safetensors").rename(run / "student.safetensors")
    Made("distill", "student").write(run)
    assert opening._start_from(run, plan) == {}


@pytest.fixture
def seen(monkeypatch) -> list:
    """The outputs of the algorithm's steps."""
    outputs, original = [], OMGD.forward
    monkeypatch.setattr(OMGD, "forward", lambda *args: outputs.append(original(*args)) or outputs[-1])
    return outputs


@pytest.mark.parametrize(
    ("teacher", "kind", "settings", "truth"),
    [
        ("pix2pix", "paired", ("data.kind=paired",), True),
        ("labels", "labels", LABELS, True),
        ("pix2pix", "single", ("data.kind=single",), False),
        ("cyclegan", "unpaired", ("data.kind=unpaired",), False),
    ],
)
def test_t_is_the_ground_truth_where_there_is_one_else_the_teachers_image(
    teacher, kind, settings, truth, data, teachers, tmp_path, seen
):
    overrides = [*TRAIN, *SMALL, *VEM, *settings, "train.steps=2"]
    distill(teachers[teacher], data=data[kind], out=tmp_path / "run", overrides=overrides, device="cpu")
    assert len(seen) == 2
    for out in seen:
        assert torch.equal(out.target, torch.ones_like(out.target) if truth else out.teacher)
        assert not torch.equal(out.teacher, torch.ones_like(out.teacher))
    assert seen[0].input.shape == (2, 3, 32, 32)


def test_a_frozen_teacher_that_was_taught_does_not_move(data, teachers, tmp_path, seen):
    overrides = [*TRAIN, *SMALL, *VEM, "data.kind=paired", "train.steps=2"]
    distill(teachers["pix2pix"], data=data["paired"], out=tmp_path / "run", overrides=overrides, device="cpu")
    with torch.no_grad():
        expected = load_generator(teachers["pix2pix"])(seen[1].input)  # in evaluation mode
    assert torch.allclose(seen[1].teacher, expected, atol=1e-6)
    assert not (tmp_path / "run" / "teacher.safetensors").exists()


def test_who_learns_from_a_taught_run_takes_its_kind_of_data_but_no_photo_for_a_pair(tmp_path):
    def kind(data: list) -> str:
        plan = recipes.read("omgd")
        return opening.located(plan, tmp_path / "run", data, lambda event: None).data.kind

    taught = recipes.read("pix2pix", [f"data.roots=['{tmp_path}']", "data.direction=BtoA"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text(taught.toml())
    for name, width in (("pairs", 64), ("photos", 32)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (width, 32)).save(tmp_path / name / "a.png")
    assert kind([]) == kind([tmp_path / "pairs"]) == "paired"
    assert kind([tmp_path / "photos"]) == "single"
