"""Optimisers of updates: shared state, kinds, schedules, names, averages."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from vemcompress.training import schedules
from vemcompress.training.ema import Average
from vemcompress.training.optimizers import Runner
from vemcompress.training.update import Optimizer, Update

CPU = torch.device("cpu")


def update(name: str, module: nn.Module, optimizer: Optimizer, target: float = 1.0, **options) -> Update:
    return Update(
        name, {"module": module}, lambda out: {name: (module.weight - target).square().sum()}, optimizer, **options
    )


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1, bias=False)


def test_updates_that_share_an_optimizer_share_its_moments():
    """A lazy regulariser moves the network as one Adam that sees both gradients in turn."""
    module, twin = linear(), linear()
    optimizer = Optimizer(0.1, (0.5, 0.9))
    runner = Runner([update("d", module, optimizer), update("r1", module, optimizer, -1.0, every=2)], CPU)
    plain = torch.optim.Adam(twin.parameters(), lr=0.1, betas=(0.5, 0.9))
    for step in (1, 2, 3, 4):
        for each, target in zip(runner.updates, (1.0, -1.0), strict=True):
            if each.due(step):
                runner.apply(each, None, step)
                plain.zero_grad()
                (twin.weight - target).square().sum().backward()
                plain.step()
    assert torch.allclose(module.weight, twin.weight, atol=1e-7)
    assert runner.state()["d/module.weight/step"] == 6
    assert not any(key.startswith("r1/") for key in runner.state())


def test_equal_optimizers_that_are_two_objects_have_two_states():
    module = linear()
    runner = Runner([update("a", module, Optimizer(0.1)), update("b", module, Optimizer(0.1))], CPU)
    for each in runner.updates:
        runner.apply(each, None, 1)
    assert {key.split("/")[0] for key in runner.state()} == {"a", "b"}


def test_two_updates_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two updates are named 'discriminator'"):
        Runner([update("discriminator", linear(), Optimizer(0.1)) for _ in range(2)], CPU)


def test_updates_that_move_together_cannot_share_an_optimizer():
    optimizer = Optimizer(0.1)
    with pytest.raises(ValueError, match="move together share an optimizer"):
        Runner([update(name, linear(), optimizer, together="both") for name in "ab"], CPU)


def test_sgd_with_momentum_and_decay_is_pytorchs():
    module, twin = linear(), linear()
    settings = Optimizer(0.1, kind="sgd", momentum=0.9, weight_decay=0.01)
    runner = Runner([update("a", module, settings)], CPU)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in (1, 2, 3):
        runner.apply(runner.updates[0], None, step)
        plain.zero_grad()
        (twin.weight - 1).square().sum().backward()
        plain.step()
    assert torch.allclose(module.weight, twin.weight)
    again = Runner([update("a", linear(), settings)], CPU)
    again.load(runner.state())
    assert torch.equal(
        again.state()["a/module.weight/momentum_buffer"], runner.state()["a/module.weight/momentum_buffer"]
    )


def test_a_gradient_that_is_too_long_is_scaled_down_and_another_is_not():
    settings = Optimizer(1.0, kind="sgd", clip=0.5)
    for size, moved in ((3.0, 0.5), (0.1, 0.2)):  # the gradient is twice the distance
        module = linear()
        start = module.weight.detach().clone()
        target = start - torch.tensor([[size, 0.0]])
        runner = Runner([update("a", module, settings, target)], CPU)
        runner.apply(runner.updates[0], None, 1)
        assert torch.allclose(start - module.weight, torch.tensor([[moved, 0.0]]), atol=1e-6)


def test_each_update_has_a_schedule_of_its_own():
    rates = {}
    updates = [
        update("recipe", linear(), Optimizer(1.0)),
        update("constant", linear(), Optimizer(1.0, schedule=schedules.constant)),
        update("cosine", linear(), Optimizer(1.0, schedule=schedules.cosine)),
        update("stepwise", linear(), Optimizer(1.0, schedule=schedules.stepwise(2, 0.1))),
    ]
    runner = Runner(updates, CPU)
    assert runner.schedule(3, 4, 0.5) == pytest.approx(2 / 3)
    for each in updates:
        before = each.modules["module"].weight.detach().clone()
        runner.apply(each, None, 3)  # Adam's first step is as long as its rate
        rates[each.name] = (each.modules["module"].weight - before).abs().max().item()
    expected = {"recipe": 2 / 3, "constant": 1.0, "cosine": 0.5, "stepwise": 0.1}
    assert rates == pytest.approx(expected, rel=1e-4)


def test_an_average_follows_its_network_and_its_running_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(network, 0.75)
    start = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight.add_(1)
        network[1].running_mean.fill_(3)
    average.follow()
    assert torch.allclose(average.average[0].weight, start + 0.25)
    assert torch.equal(average.average[1].running_mean, torch.full((2,), 3.0))
    average.train()
    assert not average.average.training
    assert not any(p.requires_grad for p in average.parameters())


def test_a_module_with_an_optimiser_of_its_own_moves_by_the_same_gradients():
    module = torch.nn.Linear(3, 2)
    twin = deepcopy(module)
    own = Optimizer(0.5, kind="sgd", momentum=0.5)
    bias = torch.nn.ParameterList([module.bias])

    def terms(_):
        return {"loss": (module.weight.sum() + 3 * module.bias.sum()).square()}

    update = Update("u", {"m": module, "bias": bias}, terms, Optimizer(0.1, (0.5, 0.9)), own={"bias": own})
    runner = Runner([update], CPU)
    adam = torch.optim.Adam([twin.weight], lr=0.1, betas=(0.5, 0.9))
    sgd = torch.optim.SGD([twin.bias], lr=0.5, momentum=0.5)
    for step in (1, 2, 3):
        runner.apply(update, None, step)
        for optimizer in (adam, sgd):
            optimizer.zero_grad()
        (twin.weight.sum() + 3 * twin.bias.sum()).square().backward()
        adam.step()
        sgd.step()
    assert torch.allclose(module.weight, twin.weight) and torch.allclose(module.bias, twin.bias)
    assert {key.split("/")[0] for key in runner.state()} == {"u", "u.bias"}
    again = Runner([update], CPU)
    again.load(runner.state())
    assert all(torch.equal(value, again.state()[key]) for key, value in runner.state().items())
