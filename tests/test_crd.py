"""CRD: InfoNCE by hand, its negatives and its memory, and what learns from it."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import random, toy_algorithm

from vemcompress.data.batch import Batch
from vemcompress.errors import RecipeError
from vemcompress.information.crd import CRD, pooled
from vemcompress.losses.information import info_nce
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Output


def crd_algorithm(*overrides):
    return toy_algorithm("information.name=crd", "information.channels=4", "train.batch=2", *overrides)


def one_output(algorithm, batch=2, seed=0):
    images = torch.rand(batch, 3, 32, 32, generator=random(seed)) * 2 - 1
    return algorithm(Batch(images), random())


def test_info_nce_by_hand():
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    found = info_nce(torch.stack((east, north)), torch.stack((east, east)), torch.stack((north, -east)), 0.5).item()
    share = [math.exp(2) / (2 * math.exp(2) + 1 + math.exp(-2)), 1 / (2 + math.exp(2) + 1)]
    assert found == pytest.approx(-(math.log(share[0]) + math.log(share[1])) / 2, rel=1e-6)


def test_an_empty_memory_counts_for_nothing():
    anchors, positives = F.normalize(torch.randn(2, 3, 8), dim=2)
    memory = F.normalize(torch.randn(2, 8), dim=1)
    partly = torch.cat((memory, torch.zeros(3, 8)))
    assert torch.equal(info_nce(anchors, positives, partly, 0.1), info_nce(anchors, positives, memory, 0.1))
    assert info_nce(anchors[:1], positives[:1], torch.zeros(3, 8), 0.1) == 0


def test_the_loss_has_both_anchors_and_the_student_also_the_memory():
    algorithm = crd_algorithm("information.memory=5", "information.weight=0.3")
    crd = algorithm.information
    earlier = [one_output(algorithm, batch=1, seed=seed) for seed in (1, 2, 3)]
    for out in earlier:
        crd.student_terms(out)
    out = one_output(algorithm)
    s, t, memory = crd.of_student(out.student), crd.of_target(out.target), [crd.of_target(o.target)[0] for o in earlier]
    expected = 0.0
    for anchors, positives, others in ((s, t, memory), (t, s, [])):
        for i in range(2):
            likeness = torch.stack([anchors[i] @ other / 0.07 for other in (*positives, *others)])
            expected += (likeness.logsumexp(0) - likeness[i]).item() / 2
    assert crd.student_terms(out)["information"].item() == pytest.approx(0.3 * expected, rel=1e-4)


def test_equal_embeddings_give_the_logarithm_of_the_number_of_candidates():
    algorithm = crd_algorithm("information.memory=6")
    crd = algorithm.information
    for encoder in (crd.of_student, crd.of_target):
        torch.nn.init.zeros_(encoder.linear.weight)
        torch.nn.init.ones_(encoder.linear.bias)
    terms = [crd.student_terms(one_output(algorithm))["information"].item() for _ in range(5)]
    assert terms == pytest.approx([0.8 * (math.log(2 + n) + math.log(2)) for n in (0, 2, 4, 6, 6)], rel=1e-5)


def test_the_memory_of_targets_is_first_in_first_out():
    algorithm = crd_algorithm("information.memory=3")
    outs = [one_output(algorithm, seed=seed) for seed in (1, 2)]
    for out in outs:
        algorithm.information.student_terms(out)["information"].backward()
    expected = torch.cat((outs[1].target, outs[0].target[:1]))
    assert torch.equal(algorithm.information.memory, expected)
    assert not algorithm.information.memory.requires_grad


def test_a_batch_larger_than_the_memory_keeps_it_in_shape():
    algorithm = crd_algorithm("information.memory=1")
    out = one_output(algorithm, batch=4)
    algorithm.information.student_terms(out)
    assert torch.equal(algorithm.information.memory, out.target[:1])


def test_large_images_are_seen_and_kept_as_means_over_squares():
    crd = CRD(CRD.Settings(memory=2, channels=4), image_channels=3, height=256, width=320)
    assert crd.memory.shape == (2, 3, 64, 80)
    assert pooled(torch.rand(1, 3, 96, 96)).shape[-2:] == (96, 96)
    image = torch.rand(1, 3, 128, 128)
    assert pooled(image)[0, 0, 3, 5].item() == pytest.approx(image[0, 0, 6:8, 10:12].mean().item())


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
    algorithm.information.student_terms(one_output(algorithm, batch=1, seed=1))
    out = one_output(algorithm, batch=1, seed=2)
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


def test_at_batch_1_the_encoders_learn_to_tell_images_apart():
    """By the InfoNCE of all images at once, and not by the logged one, which encoders that drift can lower."""
    torch.manual_seed(0)
    crd = CRD(CRD.Settings(memory=7, channels=8), image_channels=3, height=16, width=16)
    images = F.interpolate(torch.rand(12, 3, 4, 4), 16, mode="bilinear") * 2 - 1
    optimizer = torch.optim.Adam(crd.parameters(), 1e-3, betas=(0.5, 0.999))
    for step in range(120):
        t = images[step % 12][None]
        out = Output(t, t + 0.1 * torch.randn(t.shape), t, t, {}, {}, random())
        optimizer.zero_grad()
        crd.student_terms(out)["information"].backward()
        optimizer.step()
    s, t = crd.of_student(images), crd.of_target(images)
    assert info_nce(s, t, t[:0], 0.07) < 0.3 * math.log(12)
