"""VID: the Gaussian's likelihood, what learns from it, and a run that resumes."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import TOY, random, toy_algorithm, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch
from vemcompress.losses.information import gaussian
from vemcompress.runs import checkpoint
from vemcompress.training.optimizers import Runner


def vid_algorithm(*overrides):
    return toy_algorithm("information.name=vid", *overrides)


def one_output(algorithm):
    return algorithm(Batch(torch.rand(2, 3, 32, 32, generator=random()) * 2 - 1), random())


def test_the_loss_is_a_gaussians_likelihood_by_hand():
    target, mean = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([-1.0, 0.5]).view(1, 2, 1, 1)
    found = gaussian(target, mean, torch.tensor([2.0, 0.25])).item()
    assert found == pytest.approx((0.5 * (4 / 2 + math.log(2)) + 0.5 * (0.25 / 0.25 + math.log(0.25))) / 2, rel=1e-6)


def test_the_loss_is_pytorchs_gaussian_likelihood():
    target, mean, variance = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.rand(3) + 0.1
    expected = F.gaussian_nll_loss(mean, target, variance.view(1, 3, 1, 1).expand_as(mean))
    assert gaussian(target, mean, variance).item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_starts_as_the_weighted_squared_error_of_variance_5():
    algorithm = vid_algorithm("information.weight=0.3")
    out, vid = one_output(algorithm), algorithm.information
    assert vid.variance.tolist() == pytest.approx([5.0] * 3, rel=1e-6)
    expected = 0.3 * 0.5 * ((out.student - out.target).square().mean() / 5 + math.log(5))
    assert vid.student_terms(out)["information"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_target_is_the_target_and_not_the_teacher():
    algorithm = vid_algorithm()
    out = one_output(algorithm)
    before = algorithm.information.student_terms(out)["information"].item()
    out.target = out.student.detach().clone()
    assert algorithm.information.student_terms(out)["information"].item() == pytest.approx(0.5 * math.log(5), rel=1e-5)
    assert before > 0.5 * math.log(5)


def test_the_gradient_is_the_gaussians_and_spares_the_target():
    algorithm = vid_algorithm("information.weight=2.0")
    out = one_output(algorithm)
    out.student, out.target = out.student.detach().requires_grad_(), out.target.clone().requires_grad_()
    algorithm.information.student_terms(out)["information"].backward()
    expected = 2.0 * (out.student - out.target) / 5 / out.student.numel()
    assert torch.allclose(out.student.grad, expected, rtol=1e-4, atol=1e-10)
    assert out.target.grad is None


def test_the_variance_moves_with_the_student_and_no_update_of_its_own():
    algorithm = vid_algorithm()
    runner = Runner(algorithm.updates(), torch.device("cpu"))
    assert [u.name for u in runner.updates] == ["student"]
    before = algorithm.information.variance.detach().clone()
    runner.apply(runner.updates[0], one_output(algorithm), 1)
    assert (algorithm.information.variance < before).all()  # errors are far below 5


def test_the_learnt_variance_is_that_of_the_errors():
    algorithm = vid_algorithm()
    out, vid = one_output(algorithm), algorithm.information
    out.student = out.student.detach()
    optimizer = torch.optim.LBFGS(vid.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = vid.student_terms(out)["information"]
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = (out.student - out.target).square().mean((0, 2, 3))
    assert vid.variance.tolist() == pytest.approx(expected.tolist(), rel=0.01)


def test_the_regressor_is_three_pointwise_convolutions_that_learn():
    algorithm = vid_algorithm("information.regressor=6")
    vid, out = algorithm.information, one_output(algorithm)
    assert [tuple(p.shape) for p in vid.mu.parameters()] == [(6, 3, 1, 1), (6, 6, 1, 1), (3, 6, 1, 1)]
    w1, w2, w3 = (p[:, :, 0, 0] for p in vid.mu.parameters())
    pixel = out.student[0, :, 5, 7]
    expected = w3 @ (w2 @ (w1 @ pixel).relu()).relu()
    assert torch.allclose(vid.mu(out.student)[0, :, 5, 7], expected, atol=1e-6)
    vid.student_terms(out)["information"].backward()
    assert all(p.grad.abs().sum() > 0 for p in vid.parameters())


@pytest.mark.parametrize(
    ("name", "overrides"), [("vid", ["information.regressor=3"]), ("crd", ["information.memory=4"])]
)
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, name, overrides):
    """Six steps in one go, and three that are gone on with: equal files of everything that learnt, and of the log."""
    teacher, images = toy_teacher_file(tmp_path / "teacher.safetensors"), toy_images(tmp_path / "images")
    toy = [o for o in TOY if not o.startswith(("information.", "train.steps"))]
    common = [*toy, f"information.name={name}", *overrides, "train.constant=1.0"]

    def files(run: str, first: int) -> list[bytes]:
        out = tmp_path / run
        distill(teacher, data=[images], out=out, overrides=[*common, f"train.steps={first}"], device="cpu")
        if first < 6:
            distill(resume=out, overrides=["train.steps=6"], device="cpu")
        last = checkpoint.latest(out / "checkpoints")
        kept = [last / f"{n}.safetensors" for n in ("student", "connectors", "optimizers", name)]
        return [path.read_bytes() for path in (*kept, out / "metrics.jsonl")]

    whole, broken = files("whole", 6), files("broken", 3)
    assert whole == broken
    assert b'"information"' in whole[-1]
