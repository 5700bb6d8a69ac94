"""The energies that a run with VEM logs: the gap, their magnitude, how far samples moved, and divergence."""

import json

import pytest
import torch
from test_vem import awake, one_output
from toys import TOY, random, toy_algorithm, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch
from vemcompress.information.divergence import Divergence
from vemcompress.networks.energy import EnergyModel
from vemcompress.training.optimizers import Runner


def test_the_log_has_the_gap_the_magnitude_and_the_way_of_the_samples():
    algorithm = awake(toy_algorithm())
    out, vem = one_output(algorithm), algorithm.information
    t, s = out.target, out.student.detach()
    update = algorithm.updates()[0]
    update.terms(out)
    e_t, e_samples = vem.energy(t, s), vem.energy(out.samples, s)
    found = {name: value.item() for name, value in update.monitor(out).items()}
    assert found["energy_gap"] == pytest.approx((e_t.mean() - e_samples.mean()).item(), abs=1e-6)
    assert found["energy_scale"] == pytest.approx(((e_t.abs().mean() + e_samples.abs().mean()) / 2).item(), rel=1e-4)
    assert found["langevin_move"] == pytest.approx((out.samples - s).abs().mean().item(), rel=1e-5)
    assert found["langevin_move"] > 0


@pytest.mark.parametrize("start", ["teacher", "buffer", "noise"])
def test_samples_have_moved_from_where_they_began(start):
    algorithm = awake(toy_algorithm(f"information.start={start}", "information.noise=0.0"))
    out, vem = one_output(algorithm, index=torch.tensor([0, 1])), algorithm.information
    terms = vem.energy_terms(out)
    if start != "noise":
        assert torch.equal(out.start, out.teacher)  # of a chain that begins too
    expected = (out.samples - out.start).abs().mean().item()
    assert vem.monitor(out)["langevin_move"].item() == pytest.approx(expected)
    assert not any(v.requires_grad for v in vem.monitor(out).values())
    assert set(terms) == {"energy", "energy_magnitude"}


def test_monitoring_evaluates_no_network(monkeypatch):
    algorithm = toy_algorithm()
    out = one_output(algorithm)
    update = algorithm.updates()[0]
    update.terms(out)
    monkeypatch.setattr(EnergyModel, "given", None)
    assert set(update.monitor(out)) == {"energy_gap", "energy_scale", "langevin_move"}


def test_what_is_monitored_is_logged_and_moves_nothing():
    states = []
    for monitored in (True, False):
        algorithm = awake(toy_algorithm())
        algorithm.load_state_dict(states[0][0]) if states else None
        start = {k: v.clone() for k, v in algorithm.state_dict().items()}
        runner = Runner(algorithm.updates(), torch.device("cpu"))
        if not monitored:
            runner.updates[0].monitor = None
        out = algorithm(Batch(torch.full((2, 3, 32, 32), 0.1)), random(5))
        logged = runner.apply(runner.updates[0], out, 1)
        assert ("energy_gap" in logged) == monitored
        states.append((start, {k: v.clone() for k, v in algorithm.state_dict().items()}))
    assert all(torch.equal(states[0][1][k], states[1][1][k]) for k in states[0][1])


def test_a_quiet_run_logs_them_and_warns_of_nothing(tmp_path):
    lines, events = toy_run(tmp_path)
    assert {"energy_gap", "energy_scale", "langevin_move"} <= lines[-1].keys()
    assert all(line["energy_gap"] == pytest.approx(line["energy"], abs=1e-6) for line in lines)
    assert not [e for e in events if e["event"] == "warning"]


def test_a_diverging_run_warns_once_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vemcompress.information.divergence.PUBLISHED_LEVEL", 1e-6)
    (tmp_path / "free.toml").write_text('extends = "omgd"\n[information]\nl2 = 0.0\n')
    lines, events = toy_run(tmp_path, recipe=tmp_path / "free.toml")
    warnings = [e["message"] for e in events if e["event"] == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("step 1: the energies diverge: mean |E| is ")
    assert lines[-1]["step"] == 6


def toy_run(tmp_path, recipe="omgd"):
    teacher, images = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    events = []
    out = tmp_path / "run"
    distill(teacher, data=[images], out=out, recipe=recipe, overrides=TOY, device="cpu", on_event=events.append)
    log = (out / "metrics.jsonl").read_text()
    return [json.loads(line) for line in log.splitlines()], events


def warnings_of(scales, l2=0.05):
    watch = Divergence(l2)
    return [bool(watch({"energy_scale": scale})) for scale in scales]


def test_divergence_is_ten_times_the_level_that_the_regulariser_holds():
    assert warnings_of([9, 99, 101, 102]) == [False, False, True, False]
    assert warnings_of([101, 499, 501], l2=0.01) == [False, False, True]
    assert warnings_of([101], l2=0.0) == [True]
    assert Divergence(0.05)({"ssim": 1.0}) is None


def test_steady_growth_beyond_the_level_is_divergence_and_growth_towards_it_is_not():
    assert warnings_of([k + 0.5 for k in range(10)]) == [False] * 10
    assert warnings_of([5 * k for k in range(1, 11)])[-1]
    assert not any(warnings_of([5 * k for k in range(1, 10)] + [44, 46]))
