"""bfloat16 touches networks only; the CUDA path trains as the CPU's does."""

import json

import pytest
import torch
from toys import TOY, random, toy_algorithm, toy_images, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.data.batch import Batch

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_bf16_runs_networks_in_bfloat16_and_losses_in_float32():
    algorithm = toy_algorithm()
    algorithm.bf16 = True
    out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
    assert out.student_taps["down2"].dtype == torch.bfloat16
    assert out.student.dtype == out.teacher.dtype == torch.float32
    energies = algorithm.information.energy_terms(out)
    terms = algorithm.student_terms(out) | algorithm.information.student_terms(out) | energies
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert all(torch.isfinite(term) for term in terms.values())


def test_bf16_is_near_float32():
    losses = []
    for bf16 in (False, True):
        algorithm = toy_algorithm()
        algorithm.bf16 = bf16
        torch.manual_seed(0)
        out = algorithm(Batch(torch.rand(1, 3, 32, 32) * 2 - 1), random())
        losses.append(sum(algorithm.student_terms(out).values()).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_cuda_is_near_the_one_on_the_cpu(tmp_path, precision):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    overrides = [*TOY, f"train.precision={precision}", "information.noise=0.0"]
    last = []
    for device in ("cpu", "cuda"):
        distill(teacher, data=[data], out=tmp_path / device, overrides=overrides, device=device)
        last.append(json.loads((tmp_path / device / "metrics.jsonl").read_text().splitlines()[-1]))
    assert last[0]["ssim"] == pytest.approx(last[1]["ssim"], rel=1e-3 if precision == "fp32" else 0.05)


@pytest.mark.gpu
@GPU
def test_a_run_on_cuda_resumes(tmp_path):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    distill(teacher, data=[data], out=tmp_path / "run", overrides=TOY, device="cuda")
    assert distill(resume=tmp_path / "run", overrides=["train.steps=8"], device="cuda").steps == 8
