"""The energy-based add-on: which gradient goes where, and what it starts from."""

import pytest
import torch
from toys import random, toy_algorithm

from vemcompress.data.batch import Batch
from vemcompress.losses.information import contrast, magnitude
from vemcompress.training.optimizers import Runner


def one_output(algorithm):
    return algorithm(Batch(torch.rand(2, 3, 32, 32) * 2 - 1), random())


def awake(algorithm):
    """Second convolutions that matter, as after training; they start at zero."""
    for block in algorithm.information.energy.blocks:
        with torch.no_grad():
            block.conv2.weight.normal_(0, 0.3)
        block.conv2.converge()
    return algorithm


def test_the_energy_loss_is_equation_6_with_the_published_regulariser():
    algorithm = awake(toy_algorithm())
    out, vem = one_output(algorithm), algorithm.information
    terms = vem.energy_terms(out)
    positive, negative = vem.energy(out.target, out.student.detach()), vem.energy(out.samples, out.student.detach())
    assert terms["energy"].item() == pytest.approx(contrast(positive, negative).item(), abs=1e-6)
    expected = 0.05 * magnitude(positive, negative).item()
    assert terms["energy_magnitude"].item() == pytest.approx(expected, rel=1e-4)


def test_the_energy_update_moves_theta_alone():
    algorithm = awake(toy_algorithm())
    out = one_output(algorithm)
    sum(algorithm.information.energy_terms(out).values()).backward()
    assert all(p.grad is None for p in algorithm.student.parameters())
    assert all(p.grad is not None for p in algorithm.information.energy.parameters())


def test_the_students_term_reaches_it_through_s_alone():
    algorithm = awake(toy_algorithm("information.weight=0.3"))
    out, vem = one_output(algorithm), algorithm.information
    vem.energy_terms(out)
    out.student.retain_grad()
    term = vem.student_terms(out)["information"]
    term.backward()
    s = out.student.detach().requires_grad_()
    (0.3 * contrast(vem.energy(out.target, s), vem.energy(out.samples, s))).backward()
    assert torch.allclose(out.student.grad, s.grad, atol=1e-7)
    assert s.grad.abs().sum() > 0
    vem.energy.zero_grad()
    assert all(p.grad is None for p in algorithm.teacher.parameters())


def test_both_losses_share_one_langevin_run():
    algorithm = toy_algorithm()
    out = one_output(algorithm)
    algorithm.information.energy_terms(out)
    samples = out.samples
    algorithm.information.student_terms(out)
    assert out.samples is samples


def test_power_iteration_at_every_forward_agrees_once_converged():
    ours, theirs = awake(toy_algorithm()), awake(toy_algorithm("information.power_iteration=forward"))
    theirs.load_state_dict(ours.state_dict())
    batch = Batch(torch.rand(2, 3, 32, 32) * 2 - 1)
    losses = []
    for algorithm in (ours, theirs):
        runner, found = Runner(algorithm.updates(), torch.device("cpu")), []
        for step in range(1, 4):
            out = algorithm(batch, random(step))
            found += [runner.apply(update, out, step) for update in runner.updates]
        losses.append([v.item() for terms in found for v in terms.values()])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3, abs=1e-5)


@pytest.mark.parametrize(("start", "expected"), [("student", "student"), ("teacher", "teacher")])
def test_langevin_starts_where_the_recipe_says(start, expected):
    algorithm = toy_algorithm(f"information.start={start}")
    out = one_output(algorithm)
    found, slots = algorithm.information.start(out)
    assert torch.equal(found, getattr(out, expected))
    assert slots is None
    assert not found.requires_grad


def test_noise_starts_uniform_and_the_buffer_keeps_its_samples():
    out = one_output(toy_algorithm())
    noise, _ = toy_algorithm("information.start=noise").information.start(out)
    assert -1 <= noise.min() < -0.9
    assert 0.9 < noise.max() <= 1
    vem = toy_algorithm("information.start=buffer", "information.buffer=4").information
    before = vem.memory.clone()
    samples = vem.sample(out)
    changed = [i for i in range(4) if not torch.equal(before[i], vem.memory[i])]
    assert len(changed) == 2
    assert all(any(torch.equal(vem.memory[i], s) for s in samples) for i in changed)
