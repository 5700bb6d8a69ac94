"""The energy-based add-on: which parameters get which gradient, and where sampling starts."""

import pytest
import torch
from toys import random, toy_algorithm, toy_plan, toy_teacher

from vemcompress import recipe as recipes
from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.losses.information import contrast, magnitude
from vemcompress.recipe.resolve import resolve
from vemcompress.training.optimizers import Runner


def one_output(algorithm, index=None):
    return algorithm(Batch(torch.rand(2, 3, 32, 32) * 2 - 1, index=index), random())


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
    found = algorithm.information.start(out)
    assert torch.equal(found, getattr(out, expected))
    assert not found.requires_grad


def test_noise_starts_uniform():
    noise = toy_algorithm("information.start=noise").information.start(one_output(toy_algorithm()))
    assert -1 <= noise.min() < -0.9
    assert 0.9 < noise.max() <= 1


def sampled(algorithm, *indices: int):
    """t_0 and t~ of a step that shows these images, and the teacher's."""
    images = torch.rand(len(indices), 3, 32, 32, generator=random(sum(indices))) * 2 - 1
    out = algorithm(Batch(images, index=torch.tensor(indices)), random(len(indices)))
    samples = algorithm.information.sample(out)
    return out.start, samples, out.teacher


def test_a_chain_belongs_to_its_own_image_and_begins_at_the_teachers():
    algorithm = awake(toy_algorithm("information.start=buffer", "information.buffer=3"))
    start, first, teacher = sampled(algorithm, 2, 0)
    assert torch.equal(start, teacher)
    start, second, teacher = sampled(algorithm, 0, 1)
    assert torch.equal(start[0], first[1])
    assert torch.equal(start[1], teacher[1])
    start, _, _ = sampled(algorithm, 1, 2)
    assert torch.equal(start, torch.stack((second[1], first[0])))


def test_images_beyond_the_buffer_begin_anew_and_an_image_shown_twice_keeps_its_later_sample():
    algorithm = awake(toy_algorithm("information.start=buffer", "information.buffer=2"))
    _, first, _ = sampled(algorithm, 1, 7, 1)
    start, _, teacher = sampled(algorithm, 7, 1, 2)
    assert torch.equal(start, torch.stack((teacher[0], first[2], teacher[2])))


def test_a_buffer_is_as_long_as_the_list_of_images_and_bounded():
    assert toy_plan(toy_teacher(), "information.start=buffer").information.buffer == 3
    assert resolve(recipes.read("omgd", ["information.start=buffer"]), toy_teacher(), 9999).information.buffer == 256
    with pytest.raises(RecipeError, match=r"buffer in \[information\]"):
        recipes.read("omgd", ["information.start=buffer", "information.buffer=1_000_000"])


def test_chains_are_resumed_and_those_of_an_earlier_release_begin_anew():
    algorithm = awake(toy_algorithm("information.start=buffer", "information.buffer=2"))
    _, first, _ = sampled(algorithm, 0)
    again = toy_algorithm("information.start=buffer", "information.buffer=2")
    again.information.load_state_dict(state := algorithm.information.state_dict())
    again.student.load_state_dict(algorithm.student.state_dict())
    assert torch.equal(sampled(again, 0)[0], first)
    old = {k: v for k, v in state.items() if k.startswith("energy.")} | {"memory": torch.rand(2, 3, 32, 32)}
    again.information.load_state_dict(old)
    start, _, teacher = sampled(again, 0)
    assert torch.equal(start, teacher)


def test_chains_need_to_know_their_images():
    with pytest.raises(ValueError, match=r"set Batch\.index"):
        toy_algorithm("information.start=buffer").information.sample(one_output(toy_algorithm()))
