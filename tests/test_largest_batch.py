"""`--batch auto`: the largest batch that fits is found, printed, and stored in the run's recipe as a number."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from toys import TOY, toy_images

from vemcompress import recipe as recipes
from vemcompress.bench import bench_step, peak
from vemcompress.cli import options
from vemcompress.commands import distilling, teach
from vemcompress.commands.distill import distill
from vemcompress.commands.facts import read
from vemcompress.commands.init import init
from vemcompress.commands.largest_batch import USABLE, Fit, Trial, fitting, largest, power_of_two
from vemcompress.commands.matrix import distill_matrix
from vemcompress.commands.opening import Given
from vemcompress.errors import MemoryExhausted, NumericalError, UsageError
from vemcompress.system import devices, distributed, launch

CPU = torch.device("cpu")
SMALL = (*(o for o in TOY if not o.startswith("train.batch")), "train.best_by=none", "train.batch=auto")


def opened(inputs, tmp_path, *overrides):
    given = Given(str(inputs[0]), [inputs[1]], tmp_path / "run", "omgd", (*SMALL, *overrides), device="cpu")
    facts = read("distill", given)
    return facts, distilling._on_trial(facts, given)


def trial_of(facts, learner) -> Trial:
    few = next(facts.stream(CPU, second=learner.second).iterate(0))[1].map(lambda tensor: tensor[:2])
    return Trial(learner, facts.plan.train, few, CPU, 1.0)


def test_the_free_memory_of_the_cpu_and_the_number_of_images_limit_the_batch(inputs, tmp_path, monkeypatch):
    facts, learner = opened(inputs, tmp_path)
    needed = trial_of(facts, learner).estimate()
    for free, batch, limit in ((2**40, 4, "images"), (2, 2, "memory")):
        free = free if free > 4 else int((needed.of(free) - needed.there) / USABLE) + 1
        monkeypatch.setattr(devices, "free", lambda device, free=free: free)
        found = fitting(facts, learner, CPU)
        assert (found.batch, found.limit, found.measured, found.free) == (batch, limit, False, free)
        assert found.bytes == needed.of(batch)
    monkeypatch.setattr(devices, "free", lambda device: 1)
    with pytest.raises(MemoryExhausted, match="a step of one image does not fit"):
        fitting(facts, learner, CPU)
    monkeypatch.setattr(devices, "free", lambda device: None)
    with pytest.raises(UsageError, match="give a number"):
        fitting(facts, learner, CPU)


def test_the_process_with_the_least_memory_decides_for_all(inputs, tmp_path, monkeypatch):
    facts, learner = opened(inputs, tmp_path)
    monkeypatch.setattr(distributed, "collected", lambda fit: [fit, replace(fit, batch=1)])
    assert fitting(facts, learner, CPU).batch == 1
    monkeypatch.setattr(distributed, "ranks", lambda: 2)
    assert fitting(facts, learner, CPU).batch == 2  # one image in each of two processes


def test_processes_of_one_machine_share_its_memory(inputs, tmp_path, monkeypatch):
    facts, learner = opened(inputs, tmp_path)
    monkeypatch.setattr(devices, "free", lambda device: 2**40)
    monkeypatch.setattr(launch, "local_processes", lambda: 2)
    assert fitting(facts, learner, CPU).free == 2**39


def test_steps_are_made_with_more_images_until_memory_is_out(inputs, tmp_path, monkeypatch):
    trial, tried = trial_of(*opened(inputs, tmp_path)), []
    assert trial.holds(4)
    assert all(p.grad is None for p in trial.stepper.learner.parameters())

    def step(batch, number):
        tried.append(len(batch.input))
        if len(batch.input) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {}

    learner, runner = trial.stepper.learner, trial.stepper.runner
    trial.stepper = Mock(side_effect=step, learner=learner, runner=runner)
    assert largest(trial.holds, 64) == 8
    assert tried == sorted(tried) and tried[-1] == 16
    trial.stepper.side_effect = NumericalError("NaN")
    assert trial.holds(1)  # there was enough memory; the run itself reports the error
    trial.stepper.side_effect = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        trial.holds(1)


def test_powers_of_two():
    assert [power_of_two(n) for n in (0, 1, 3, 4, 63, 64)] == [1, 1, 2, 4, 32, 64]
    assert largest(lambda n: n < 5, 64) == 4 and largest(lambda n: True, 1) == 1
    with pytest.raises(MemoryExhausted):
        largest(lambda n: False, 64)


def test_a_run_tells_its_batch_and_keeps_it_as_a_number(inputs, tmp_path):
    events = []
    options = {"data": inputs[1], "device": "cpu", "on_event": events.append}
    distill(inputs[0], out=tmp_path / "run", overrides=[*SMALL, "train.steps=2"], **options)
    (told,) = (event for event in events if event["event"] == "batch")
    assert (told["batch"], told["limit"]) == (4, "images")
    assert recipes.read(tmp_path / "run" / "recipe.toml").train.batch == 4
    assert distill(resume=tmp_path / "run", steps=3, device="cpu").steps == 3
    with pytest.raises(UsageError, match=r"train\.batch cannot change within a run"):
        distill(resume=tmp_path / "run", batch="auto", device="cpu")


def test_a_teacher_that_learns_has_its_own(tmp_path, inputs):
    small = ["teacher.network.width=2", "teacher.network.blocks=1", "gan.discriminator.width=2", "data.size=32"]
    given = Given(
        data=[inputs[1], toy_images(tmp_path / "B", 4)],
        out=tmp_path / "t",
        recipe="cyclegan",
        overrides=[*small, "train.batch=auto"],
    )
    facts = read("teach", given, lambda plan: teach._alone(plan, print))
    found = fitting(facts, teach._on_trial(facts, given), CPU)
    assert (found.batch, found.limit) == (4, "images") and found.bytes > 0


def test_bench_step_measures_the_batch_that_it_found_for_a_stage(inputs, monkeypatch):
    monkeypatch.setattr("vemcompress.bench.step.fitting", lambda *_: Fit(3, "memory", False))
    small = ["data.size=32", "stages.supernet.train.batch=auto", "student.width=4", "information.name=none"]
    how = {"teacher": inputs[0], "stage": "supernet", "random_weights": True, "steps": 1, "device": "cpu"}
    assert bench_step("gan_compression_fast", overrides=small, **how).batch == 3


def test_what_cannot_be_left_to_the_machine_is_refused(inputs, tmp_path):
    small = [override for override in SMALL if not override.startswith("information.")]
    given = {"data": inputs[1], "device": "cpu", "overrides": small}
    with pytest.raises(UsageError, match="cannot be combined with --micro-batch; omit it"):
        distill(inputs[0], out=tmp_path / "run", micro_batch=1, **given)
    matrix = tmp_path / "matrix.toml"
    matrix.write_text('[matrix]\nrecipes = ["omgd"]\ninformation = ["none"]\nseeds = [1, 2]\n')
    with pytest.raises(UsageError, match="need the same batch"):
        distill_matrix(matrix, inputs[0], out=tmp_path / "runs", **given)
    assert not (tmp_path / "run").exists() and not (tmp_path / "runs").exists()


def test_a_recipe_that_is_written_to_be_changed_still_leaves_it_open(inputs, tmp_path):
    init(inputs[0], data=inputs[1], out=tmp_path / "mine.toml", overrides=SMALL, batch="auto")
    assert recipes.read(tmp_path / "mine.toml").train.batch == "auto"


def test_the_option_takes_a_number_or_auto():
    assert options.batch_of("16") == options.images_at_once("16") == 16
    assert options.batch_of("auto") == "auto" and options.images_at_once("auto") is None
    for text in ("0", "-1", "1.5", "many", "²"):
        with pytest.raises(UsageError, match="whole number of at least 1, or auto"):
            options.batch_of(text)
    with pytest.raises(UsageError, match="at most nine digits"):
        options.batch_of("12345678901")


def test_a_bench_of_the_step_finds_it_too(inputs, monkeypatch):
    monkeypatch.setattr(peak, "measure", lambda *arguments: Mock(flops=1e9, bytes=1e9))  # which takes long
    found = bench_step("omgd", teacher=inputs[0], data=inputs[1], overrides=SMALL, device="cpu", steps=1)
    assert found.batch == 4
