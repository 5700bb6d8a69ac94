"""Adversarial losses by hand, and the learning rate's course."""

import math

import pytest
import torch

from vemcompress.losses.adversarial import discriminator_loss, generator_loss
from vemcompress.training.schedules import epoch_decay

REAL, FAKE = torch.tensor([[0.5, 2.0]]), torch.tensor([[-2.0, 1.0]])


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


# mode: 0.5 L_fake, 0.5 L_real, the generator's.
BY_HAND = {
    "hinge": (0.5 * (0 + 2) / 2, 0.5 * (0.5 + 0) / 2, 0.5),
    "lsgan": (0.5 * (4 + 1) / 2, 0.5 * (0.25 + 1) / 2, (9 + 0) / 2),
    "vanilla": (
        0.5 * (softplus(-2) + softplus(1)) / 2,
        0.5 * (softplus(-0.5) + softplus(-2)) / 2,
        (softplus(2) + softplus(-1)) / 2,
    ),
    "wgangp": (0.5 * -0.5, 0.5 * -1.25, 0.5),
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_adversarial_losses_by_hand(mode):
    halves = discriminator_loss(mode, REAL, FAKE)
    found = halves["fake"].item(), halves["real"].item(), generator_loss(mode, FAKE).item()
    assert found == pytest.approx(BY_HAND[mode], rel=1e-6)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="must be hinge"):
        discriminator_loss("hing", REAL, FAKE)


def test_epochs_keep_the_rate_and_then_take_even_steps_towards_zero():
    assert [epoch_decay(e, 2, 3) for e in range(5)] == pytest.approx([1, 1, 3 / 4, 2 / 4, 1 / 4])
    assert epoch_decay(749, 300, 450) == pytest.approx(1 / 451)
