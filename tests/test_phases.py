"""OMGD in turns with a CycleGAN teacher: whose turn it is, at which rate, and from which teacher the student learns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import random, toy_teacher

from vemcompress.algorithms import Parts
from vemcompress.algorithms.omgd import OMGD
from vemcompress.data.batch import Batch
from vemcompress.gans import CycleGAN
from vemcompress.gans.teachers import Phased, Phases
from vemcompress.information.base import Information
from vemcompress.networks.discriminators import PatchGANConfig
from vemcompress.runs.best import Score
from vemcompress.training.optimizers import Runner
from vemcompress.training.schedules import epoch_decay
from vemcompress.training.update import Optimizer


def turns(phases: Phases) -> str:
    """T where the teacher learns, S where the student does."""
    return "".join("T" if phases.teaches(step) else "S" for step in range(1, phases.total + 1))


def clock(phases: Phases) -> list[int]:
    return [phases.teacher_step(step) for step in range(1, phases.total + 1)]


@pytest.mark.parametrize(
    ("steps", "share", "total", "expected"),
    [
        (2, 3, 16, "TTSSSSSSTTSSSSSS"),
        (1, 1, 5, "TSTST"),
        (3, 4, 15, "TTTSSSSSSSSSSSS"),
        (3, 4, 20, "TTTSSSSSSSSSSSSTSSSS"),  # a short turn keeps the proportion
        (3, 4, 18, "TTTSSSSSSSSSSSSTSS"),  # and begins with the teacher
        (10, 4, 3, "TSS"),
    ],
)
def test_teacher_and_student_take_turns(steps, share, total, expected):
    assert turns(Phases(steps, share, total)) == expected


def test_the_clock_is_the_teachers_and_stands_still_while_the_student_learns():
    assert clock(Phases(2, 2, 12)) == [1, 2, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4]
    assert clock(Phases(2, 2, 9)) == [1, 2, 2, 2, 2, 2, 3, 3, 3]


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 200))
def test_the_clock_counts_the_teachers_steps_and_each_phase_of_it_ends_once(steps, share, total):
    phases, taught, ends = Phases(steps, share, total), 0, 0
    turn = turns(phases)
    for step, whose in enumerate(turn, start=1):
        taught += whose == "T"
        ends += phases.ends_teaching(step)
        assert phases.teacher_step(step) == taught
        assert phases.ends_teaching(step) == (turn[step - 1 : step + 1] in ("TS", "T"))
    assert ends == turn.count("TS") + turn.endswith("T")


# -- whole phases on toys --------------------------------------------------------------------------------------------


def toy(phases: Phases, scores=None) -> OMGD:
    """Its judge gives these scores in turn, lower is better."""
    torch.manual_seed(3)
    a, b = (toy_teacher("mobile_resnet", seed, width=2, blocks=1) for seed in (0, 1))
    values = iter(scores or ())
    gan = CycleGAN(CycleGAN.Settings(pool=2, discriminator=PatchGANConfig(width=2)), generator_a=a, generator_b=b)
    judge = (lambda network: Score("fid", next(values), higher_is_better=False)) if scores else None
    parts = Parts(
        teacher=Phased(gan, toy_teacher("mobile_resnet", 0, width=2, blocks=1), phases, judge),
        student=toy_teacher("mobile_resnet", 2, width=2, blocks=1),
        information=Information(),
        optimizer=Optimizer(2e-4, (0.5, 0.999)),
    )
    settings = OMGD.Settings(style=0.0, feature=0.0, channel=10.0, recon=10.0, features="none", online="phases")
    return OMGD(settings, parts).train()


def images(step: int) -> Batch:
    a, b = torch.rand(2, 1, 3, 32, 32, generator=random(step)) * 2 - 1
    return Batch(a, real=b)


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def played(algorithm: OMGD):
    """Step after step as the loop does: (step, its losses, the parts whose parameters moved, its event)."""
    runner, phases = Runner(algorithm.updates(), torch.device("cpu")), algorithm.teacher.phases
    for step in range(1, phases.total + 1):
        before = {name: p.clone() for name, p in algorithm.named_parameters()}
        out, losses = algorithm(images(step), random(step), step), {}
        for update in runner.updates:
            if update.due(step):
                losses |= runner.apply(update, out, step)
        moved = {name.split(".")[0] for name, p in algorithm.named_parameters() if not torch.equal(p, before[name])}
        yield step, losses, moved, algorithm.finish(step) if algorithm.finishes(step) else None


def test_the_students_rate_stands_where_the_teachers_epoch_is():
    """Epochs of 2 steps, phases of 2 epochs: the teacher's 4 epochs are 2 constant ones and 2 that fall."""
    algorithm, runner = toy(Phases(4, 2, 24)), Runner([], torch.device("cpu"))
    factors = [runner.schedule(*algorithm.clock(step, 24), 0.5, 2) for step in range(1, 25)]
    by_epoch = [epoch_decay(epoch, 2, 2) for epoch in range(4)]
    expected = [by_epoch[0]] * 2 + [by_epoch[1]] * (2 + 8) + [by_epoch[2]] * 2 + [by_epoch[3]] * (2 + 8)
    assert factors == pytest.approx(expected)
    assert by_epoch == pytest.approx([1, 1, 2 / 3, 1 / 3])


def test_only_those_whose_turn_it_is_learn():
    for step, losses, moved, _ in played(toy(Phases(2, 2, 7))):
        teaches = step in (1, 2, 7)
        assert moved == ({"teacher"} if teaches else {"student", "connectors"}), step
        assert ("a_cycle" in losses, "ssim" in losses) == (teaches, not teaches)


def test_the_student_learns_from_the_best_teacher_while_the_latest_goes_on():
    algorithm = toy(Phases(1, 1, 6), scores=[50.0, 60.0, 40.0])
    latest, events = {}, {}
    for step, _, _, event in played(algorithm):
        latest[step] = weights(algorithm.teacher.gan.generator_a)
        expected = latest[1] if step < 5 else latest[5]
        assert torch.equal(weights(algorithm.teacher.generator), expected), step
        events |= {step: event} if event else {}
    assert not torch.equal(latest[3], latest[1])
    assert {step: (event["event"], event["kept"]) for step, event in events.items()} == {
        1: ("phase", True),
        3: ("phase", False),
        5: ("phase", True),
    }
    assert [event["score"]["value"] for event in events.values()] == [50.0, 60.0, 40.0]


def test_the_generator_goes_on_from_its_latest_weights_and_not_from_the_best():
    kept, alone = toy(Phases(1, 1, 5), scores=[1.0, 2.0, 3.0]), toy(Phases(5, 1, 10))
    for _ in played(kept):
        pass
    steps = [1, 3, 5]  # the same batches, without the student's turns
    runner = Runner(alone.teacher.gan.updates(), torch.device("cpu"))
    for step in steps:
        out = alone.teacher.gan(images(step), random(step), step)
        for update in runner.updates:
            runner.apply(update, out, step)
    assert torch.equal(weights(kept.teacher.gan), weights(alone.teacher.gan))


def test_without_a_judge_the_latest_teacher_is_taken():
    algorithm = toy(Phases(1, 1, 4))
    events = [event for _, _, _, event in played(algorithm) if event]
    assert [(event["kept"], event["score"]) for event in events] == [(True, None)] * 2
    assert torch.equal(weights(algorithm.teacher.generator), weights(algorithm.teacher.gan.generator_a))


def test_the_best_teacher_and_its_score_are_in_the_checkpoint():
    broken, resumed = toy(Phases(1, 1, 4), scores=[5.0, 6.0]), toy(Phases(1, 1, 4), scores=[6.0])
    for step, *_ in played(broken):
        if step == 2:
            break
    for name, module in (broken.artifacts() | {n: m for n, (m, _) in broken.companions().items()}).items():
        (resumed.artifacts() | {n: m for n, (m, _) in resumed.companions().items()})[name].load_state_dict(
            module.state_dict()
        )
    assert resumed.finish(3)["kept"] is False
    assert torch.equal(weights(resumed.teacher.generator), weights(broken.teacher.generator))


def test_the_teacher_that_the_student_follows_stays_frozen_and_in_evaluation_mode():
    algorithm = toy(Phases(1, 1, 2)).train()
    assert not algorithm.teacher.generator.training
    assert algorithm.teacher.gan.generator_a.training
    assert not any(p.requires_grad for p in algorithm.teacher.generator.parameters())
    assert not algorithm(images(2), random(), 2).teacher.requires_grad


def test_an_epoch_of_a_fraction_of_steps_begins_on_time():
    """35 steps of 7 images in batches of 3 are 15 epochs, though 35 / (7 / 3) is less than 15 as a float."""
    runner = Runner([], torch.device("cpu"))
    factors = [runner.schedule(step, 70, 0.5, 7 / 3) for step in (35, 36)]
    assert factors == pytest.approx([epoch_decay(epoch, 15, 15) for epoch in (14, 15)])
