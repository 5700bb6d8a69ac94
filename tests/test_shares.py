"""The add-on's share of the student's gradient: measured in the backward that trains, which it leaves as it is."""

from copy import deepcopy

import pytest
import torch
from test_kd import SMALL, kd
from test_vem import awake
from toys import TOY, logged, random, toy_images, toy_plan, toy_teacher, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.commands.evaluate import evaluate
from vemcompress.commands.parts import distillation
from vemcompress.console import Console
from vemcompress.data.batch import Batch
from vemcompress.gans.adversary import Adversary
from vemcompress.runs.shares import information_share
from vemcompress.training import loop
from vemcompress.training.optimizers import Runner

CPU = torch.device("cpu")
SHARES = {"information.gradient_share", "information.rest_share"}
ADD_ONS = {
    "vem": ("information.weight=50.0",),
    "vid": ("information.name=vid",),
    "crd": ("information.name=crd", "information.memory=2", "information.channels=2", "information.dimension=4"),
    "none": ("information.name=none",),
}


def subject(add_on: str, method: str = "omgd"):
    if method == "kd":
        algorithm = kd(add_on=add_on, adversary=Adversary.Settings(**SMALL))
    else:
        teacher = toy_teacher()
        algorithm = distillation(toy_plan(teacher, *ADD_ONS[add_on]), teacher).train()
    return awake(algorithm) if add_on == "vem" else algorithm


def stepped(algorithm, **options) -> dict[str, float]:
    runner = Runner(algorithm.updates(), CPU, **options)
    out, values = algorithm(Batch(torch.rand(2, 3, 32, 32, generator=random(3)) * 2 - 1), random(1)), {}
    for update in runner.updates:
        values |= runner.apply(update, out, 1)
    return {name: value.item() for name, value in values.items()}


def expected(algorithm) -> tuple[float, float]:
    """The shares by gradients of their own."""
    runner = Runner(algorithm.updates(), CPU)
    out = algorithm(Batch(torch.rand(2, 3, 32, 32, generator=random(3)) * 2 - 1), random(1))
    for update in runner.updates[:-1]:
        runner.apply(update, out, 1)
    terms = runner.updates[-1].terms(out)
    (mine,) = torch.autograd.grad(terms.pop("information"), out.student, retain_graph=True)
    (rest,) = torch.autograd.grad(sum(terms.values()), out.student)
    return (mine.norm() / (mine + rest).norm()).item(), (rest.norm() / (mine + rest).norm()).item()


@pytest.mark.parametrize("method", ["omgd", "kd"])
@pytest.mark.parametrize("add_on", ["vem", "vid", "crd"])
def test_the_shares_are_those_of_the_gradients_at_the_students_image(add_on, method):
    algorithm = subject(add_on, method)
    share, rest = expected(deepcopy(algorithm))
    algorithm.measures = True
    values = stepped(algorithm)
    assert values["information.gradient_share"] == pytest.approx(share, rel=1e-5)
    assert values["information.rest_share"] == pytest.approx(rest, rel=1e-5)
    assert share > 1e-6


@pytest.mark.parametrize("add_on", ADD_ONS)
def test_measuring_moves_no_bit(add_on):
    plain = subject(add_on)
    measured = deepcopy(plain)
    measured.measures = True
    losses, more = stepped(plain), stepped(measured)
    assert more.keys() - losses.keys() == (SHARES if add_on != "none" else set())
    assert losses == {name: more[name] for name in losses}
    found = measured.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("how", ["bf16", "deferred"])  # compiled, and of several ranks: ranks_toys.py
def test_shares_are_measured_however_the_step_is_made(how):
    algorithm = subject("vem")
    share, _ = expected(deepcopy(algorithm))
    algorithm.measures = True
    if how == "bf16":
        algorithm.work_with(algorithm.timer, True)
    values = stepped(algorithm, deferred=how == "deferred")
    assert values["information.gradient_share"] == pytest.approx(share, rel=0.2 if how == "bf16" else 1e-4)


def test_a_gradient_of_zero_has_a_share_of_zero():
    algorithm = subject("vem")
    algorithm.information.settings = algorithm.information.settings.but(weight=0.0)
    algorithm.measures = True
    assert stepped(algorithm)["information.gradient_share"] == 0


def test_a_run_logs_its_shares_at_first_and_then_now_and_then_and_says_so_at_the_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "MEASURED_FIRST", 2)
    monkeypatch.setattr(loop, "MEASURED_EVERY", 2)
    teacher, images = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    result = distill(teacher, data=images, out=tmp_path / "run", overrides=[*TOY, "train.steps=7"], device="cpu")
    lines = logged(tmp_path / "run")
    assert [line["step"] for line in lines if line.keys() >= SHARES] == [1, 2, 4, 6, 7]
    shares = sorted(line["information.gradient_share"] for line in lines if line.keys() >= SHARES)
    assert result.information_share == shares[2] > 0
    found = evaluate(tmp_path / "run", data=images, metrics=["ssim_teacher"], device="cpu")
    assert found.information_share == shares[2]
    Console().made(result.as_dict())
    assert "% of the gradient at the student's image" in capsys.readouterr().out


def test_a_log_without_shares_or_with_damaged_lines_has_what_is_whole(tmp_path):
    log = tmp_path / "metrics.jsonl"
    assert information_share(log) is None
    log.write_text('{"step": 1}\nnull\n{"step": 2, "information.gradient_share": "x"}\n{"step"')
    assert information_share(log) is None
    shares = [f'{{"step": {step}, "information.gradient_share": {share}}}' for step, share in ((1, 0.25), (3, 0.5))]
    log.write_text("\n\xff\n".join(shares) + "\n[1]\n")
    assert information_share(log) == 0.375
