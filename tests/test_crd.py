"""CRD: InfoNCE by hand, its negatives and its memory, and what learns from it."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import random, toy_algorithm

from vemcompress.errors import RecipeError
from vemcompress.information import CRD
from vemcompress.losses.information import info_nce
from vemcompress.training.runner import Runner


def crd_algorithm(*overrides):
    return toy_algorithm("information.name=crd", "information.channels=4", "train.batch=2", *overrides)


def one_output(algorithm, batch=2, seed=0):
    images = torch.rand(batch, 3, 32, 32, generator=random(seed)) * 2 - 1
    return algorithm(images, random())


def test_info_nce_by_hand():
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    found = info_nce(torch.stack((east, north)), torch.stack((east, east)), torch.stack((north, -east)), 0.5).item()
    share = [math.exp(2) / (2 * math.exp(2) + 1 + math.exp(-2)), 1 / (2 + math.exp(2) + 1)]
    assert found == pytest.approx(-(math.log(share[0]) + math.log(share[1])) / 2, rel=1e-6)


def test_the_loss_has_both_anchors_and_each_the_other_sides_memory():
    algorithm = crd_algorithm("information.memory=5", "information.weight=0.3")
    out, crd = one_output(algorithm), algorithm.information
    s, t = crd.of_student(out.student), crd.of_target(out.target)
    expected = 0.0
    for anchors, positives, memory in ((s, t, crd.targets), (t, s, crd.students)):
        for i in range(2):
            likeness = torch.stack([anchors[i] @ other / 0.07 for other in (*positives, *memory)])
            expected += (likeness.logsumexp(0) - likeness[i]).item() / 2
    assert crd.student_terms(out)["information"].item() == pytest.approx(0.3 * expected, rel=1e-4)


def test_a_constant_embedding_gives_the_logarithm_of_the_number_of_candidates():
    algorithm = crd_algorithm("information.memory=6")
    crd = algorithm.information
    for encoder in (crd.of_student, crd.of_target):
        torch.nn.init.zeros_(encoder.linear.weight)
        encoder.linear.bias = torch.nn.Parameter(torch.ones(128))
    crd.students, crd.targets = (F.normalize(torch.ones(6, 128)) for _ in range(2))
    term = crd.student_terms(one_output(algorithm))["information"].item()
    assert term == pytest.approx(0.8 * 2 * math.log(2 + 6), rel=1e-5)


def test_the_memory_is_first_in_first_out():
    algorithm = crd_algorithm("information.memory=3")
    crd = algorithm.information
    with torch.no_grad():
        outs = [one_output(algorithm, seed=seed) for seed in (1, 2)]
        t1, t2 = (crd.of_target(out.target) for out in outs)
        s2 = crd.of_student(outs[1].student)
    for out in outs:
        crd.student_terms(out)["information"].backward()
    assert torch.allclose(crd.targets, torch.cat((t2, t1[:1])), atol=1e-6)
    assert torch.allclose(crd.students[:2], s2, atol=1e-6)
    assert not crd.targets.requires_grad


def test_a_batch_larger_than_the_memory_keeps_it_in_shape():
    algorithm = crd_algorithm("information.memory=1")
    algorithm.information.student_terms(one_output(algorithm, batch=4))
    assert algorithm.information.targets.shape == (1, 128)


def test_without_memory_the_batch_gives_the_negatives():
    algorithm = crd_algorithm("information.memory=0")
    out, crd = one_output(algorithm), algorithm.information
    s, t = crd.of_student(out.student), crd.of_target(out.target)
    likeness, pairs = s @ t.T / 0.07, torch.arange(2)
    expected = F.cross_entropy(likeness, pairs) + F.cross_entropy(likeness.T, pairs)
    assert crd.student_terms(out)["information"].item() == pytest.approx(0.8 * expected.item(), rel=1e-4)
    assert dict(crd.named_buffers()) == {}


def test_batch_1_without_memory_is_refused_and_with_memory_learns():
    with pytest.raises(RecipeError, match=r"information\.memory 0"):
        toy_algorithm("information.name=crd", "information.memory=0", "train.batch=1")
    algorithm = crd_algorithm("train.batch=1", "information.memory=4")
    out = one_output(algorithm, batch=1)
    out.student.retain_grad()
    algorithm.information.student_terms(out)["information"].backward()
    assert out.student.grad.abs().sum() > 0


def test_student_and_both_encoders_learn_and_the_target_does_not():
    algorithm = crd_algorithm()
    out, crd = one_output(algorithm), algorithm.information
    out.student.retain_grad()
    out.target = out.target.clone().requires_grad_()
    crd.student_terms(out)["information"].backward()
    assert out.student.grad.abs().sum() > 0
    assert out.target.grad is None
    assert all(p.grad.abs().sum() > 0 for p in crd.parameters())


def test_the_encoders_are_in_the_students_update():
    algorithm = crd_algorithm()
    runner = Runner(algorithm.updates(), torch.device("cpu"))
    assert [u.name for u in runner.updates] == ["student"]
    before = [p.detach().clone() for p in algorithm.information.parameters()]
    runner.apply(runner.updates[0], one_output(algorithm), 1)
    assert not any(torch.equal(a, b) for a, b in zip(before, algorithm.information.parameters(), strict=True))


def test_embeddings_have_unit_length_at_any_size():
    encoder = toy_algorithm("information.name=crd").information.of_student
    for size in (8, 31, 64):
        assert encoder(torch.rand(2, 3, size, size)).norm(dim=1).tolist() == pytest.approx([1, 1], rel=1e-5)


def test_the_encoders_learn_to_tell_images_apart():
    torch.manual_seed(0)
    crd = CRD(CRD.Settings(memory=0, channels=8), image_channels=3, height=16, width=16)
    t = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16) * 2 - 1
    optimizer, losses = torch.optim.Adam(crd.parameters(), 2e-4, betas=(0.5, 0.999)), []
    for _ in range(150):
        s = t + 0.02 * torch.randn(t.shape)
        a, b = crd.of_student(s), crd.of_target(t)
        losses.append((info_nce(a, b, b[:0], 0.07) + info_nce(b, a, a[:0], 0.07)) / 2)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * math.log(4)
