"""The stepper: compiled networks, memory layout, and NaN or Inf when the host checks a step later."""

import json

import pytest
import torch
from torch import nn
from toys import TOY, random, toy_algorithm, toy_images, toy_plan, toy_teacher, toy_teacher_file

from vemcompress.commands.distill import distill
from vemcompress.commands.parts import distillation
from vemcompress.data.batch import Batch
from vemcompress.errors import NumericalError, UsageError
from vemcompress.training import compiling
from vemcompress.training.optimizers import Runner
from vemcompress.training.stepper import Stepper
from vemcompress.training.timing import Timer
from vemcompress.training.update import Optimizer, Update

CPU = torch.device("cpu")


def stepper(*overrides: str) -> Stepper:
    teacher = toy_teacher("unet", norm="batch", downs=3)
    plan = toy_plan(teacher, "train.batch=2", *overrides)
    return Stepper(distillation(plan, teacher), plan.train, CPU, 10)


def batch(seed: int = 0) -> Batch:
    return Batch(torch.rand((2, 3, 32, 32), generator=random(seed)) * 2 - 1)


# -- compiled --------------------------------------------------------------------------------------------------------


@pytest.fixture
def graphs(monkeypatch):
    """As traced and with its gradients, but without a compiler's minutes. Which functions were traced, how often."""
    traced = []

    def backend(module, inputs):
        traced.append(len(inputs))
        from torch._dynamo.backends.debugging import aot_eager

        return aot_eager(module, inputs)

    monkeypatch.setattr(compiling, "options", lambda device: {"backend": backend})
    yield traced
    torch._dynamo.reset()


def test_compiled_networks_train_as_those_that_are_not(graphs):
    plain, compiled = stepper(), stepper("train.compile=true")
    for step in (1, 2, 3):
        wanted, found = plain(batch(step), step), compiled(batch(step), step)
        for name, value in wanted.items():
            assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name
        if step == 1:
            once = len(graphs)
    assert once >= 3  # teacher, student, energy
    assert len(graphs) == once  # nothing is traced anew at later steps
    for ours, theirs in zip(compiled.learner.parameters(), plain.learner.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_compiled_run_saves_what_any_run_saves_and_goes_on(graphs, tmp_path):
    teacher, data = toy_teacher_file(tmp_path / "t.safetensors"), toy_images(tmp_path / "images")
    distill(teacher, data=[data], out=tmp_path / "run", overrides=[*TOY, "train.compile=true"], device="cpu")
    assert graphs
    distill(teacher, data=[data], out=tmp_path / "plain", overrides=TOY, device="cpu")
    last = [json.loads((tmp_path / n / "metrics.jsonl").read_text().splitlines()[-1]) for n in ("run", "plain")]
    for name in ("ssim", "recon", "channel"):
        assert last[0][name] == pytest.approx(last[1][name], rel=0.01)
    longer = ["train.steps=8", "train.compile=false"]  # it changes no weight's name
    assert distill(resume=tmp_path / "run", overrides=longer, device="cpu").steps == 8


def test_a_compiler_that_fails_is_told_in_a_sentence(monkeypatch):
    def backend(module, inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiling, "options", lambda device: {"backend": backend})
    with pytest.raises(UsageError, match=r"no C\+\+ compiler.*omit it"):
        stepper("train.compile=true")(batch(), 1)
    torch._dynamo.reset()


# -- layout ----------------------------------------------------------------------------------------------------------


def test_everything_lies_with_its_channels_together_and_optimisers_know():
    made = stepper()
    made(batch().to(CPU), 1)
    weight = made.learner.student.downs[1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    state = made.runner.state()
    again = stepper()
    again.runner.load(state)
    moment = again.runner.state()["student/student.downs.1.weight/exp_avg"]
    assert moment.stride() == weight.stride()  # the fused Adam goes by memory
    assert torch.equal(moment, state["student/student.downs.1.weight/exp_avg"])


# -- a guard that looks later ----------------------------------------------------------------------------------------


def two_layers(bad_at: int | None = None, together: str | None = None):
    """Two updates of a number each; the second's loss is NaN at a step."""
    modules = {name: nn.Linear(1, 1, bias=False) for name in ("first", "second")}

    def terms(name):
        def of(step: int):
            value = modules[name].weight.sum()
            return {name: value * float("nan") if (name, step) == ("second", bad_at) else value}

        return of

    updates = [Update(n, {n: m}, terms(n), Optimizer(0.1, (0.5, 0.9)), together=together) for n, m in modules.items()]
    return modules, Runner(updates, CPU, deferred=True)


def run(runner: Runner, step: int) -> None:
    for update in runner.updates:
        runner.apply(update, step, step)
    runner.settle()


def test_a_nan_that_is_told_a_step_late_has_not_moved_its_optimiser():
    modules, runner = two_layers(bad_at=2)
    run(runner, 1)
    before = {name: module.weight.item() for name, module in modules.items()}
    run(runner, 2)  # not told yet
    assert modules["second"].weight.item() == before["second"]
    assert modules["first"].weight.item() != before["first"]
    with pytest.raises(NumericalError, match="step 2: the second update's loss term 'second'"):
        run(runner, 3)


def test_a_nan_is_told_at_once_where_something_is_to_be_written():
    _, runner = two_layers(bad_at=1)
    run(runner, 1)
    with pytest.raises(NumericalError, match="step 1"):
        runner.settle(wait=True)
    runner.settle(wait=True)  # once


def test_of_updates_that_move_together_none_moves_where_one_is_bad():
    modules, runner = two_layers(bad_at=1, together="both")
    before = {name: module.weight.item() for name, module in modules.items()}
    run(runner, 1)
    assert {name: module.weight.item() for name, module in modules.items()} == before


def test_a_deferred_guard_trains_as_one_that_looks_at_once():
    algorithms = [toy_algorithm() for _ in range(2)]
    for algorithm, deferred in zip(algorithms, (False, True), strict=True):
        runner = Runner(algorithm.updates(), CPU, deferred=deferred)
        for step in (1, 2, 3):
            out = algorithm(batch(step), random(step), step)
            for update in runner.updates:
                runner.apply(update, out, step)
            runner.settle()
        runner.settle(wait=True)
    for ours, theirs in zip(*(a.parameters() for a in algorithms), strict=True):
        assert torch.equal(ours, theirs)


# -- where the time goes ---------------------------------------------------------------------------------------------


def test_parts_within_parts_count_once(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("vemcompress.training.timing.perf_counter", lambda: next(clock))
    timer = Timer(CPU)
    with timer.part("outer"), timer.part("inner"):
        pass
    assert timer.collect() == {"outer": 2, "inner": 1}
    assert timer.collect() == {}


def test_a_backward_is_divided_where_a_gradient_arrives():
    timer, leaf = Timer(CPU), torch.ones(3, requires_grad=True)
    image = leaf * 2
    timer.until_gradient(image, "features")
    with timer.part("student"):
        image.square().sum().backward()
    assert timer.collect().keys() == {"features", "student"}
