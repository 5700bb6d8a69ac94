"""Learning-rate schedules: constant, linear decay, cosine and stepwise. Each gives a factor at a step counted from
1.
"""

import math

from vemcompress.training.update import Schedule


def by_step(step: int, total: int, constant: float) -> float:
    """1 for the first `constant` share of the steps, then linear to zero. This is the recipes' default.

    The published rule by epoch is 1 - max(0, e + 1 - n_constant) / (n_decay + 1) for epochs e from 0; here it is
    applied per step.
    """
    flat = round(total * constant)
    return 1.0 - max(0, step - flat) / (total - flat + 1)


def by_epoch(step: int, total: int, constant: float, epoch_length: float) -> float:
    """The rule of `by_step`, applied once per epoch of `epoch_length` steps, as published."""
    epochs = max(1, round(total / epoch_length))
    flat = round(epochs * constant)
    epoch = int((step - 1) / epoch_length + 1e-9)  # 35 steps of 7/3 are 15 epochs, but slightly less in floats
    return epoch_decay(min(epoch, epochs - 1), flat, epochs - flat)


def epoch_decay(epoch: int, constant: int, decay: int) -> float:
    """The factor in an epoch counted from 0: 1 for `constant` epochs, then linear towards zero over `decay` epochs.

    The rule of CycleGAN and OMGD, 1 - max(0, epoch + 1 - constant) / (decay + 1), applied once per epoch. It ends one
    notch above zero.
    """
    return 1.0 - max(0, epoch + 1 - constant) / (decay + 1)


def constant(step: int, total: int) -> float:
    """Always the full rate."""
    return 1.0


def cosine(step: int, total: int) -> float:
    """Half a cosine: 1 at the first step, near 0 at the last (Loshchilov and Hutter, ICLR 2017)."""
    return 0.5 * (1 + math.cos(math.pi * (step - 1) / total))


def stepwise(period: int, gamma: float) -> Schedule:
    """A schedule that multiplies the factor by `gamma` after every `period` steps."""

    def schedule(step: int, total: int) -> float:
        return gamma ** ((step - 1) // period)

    return schedule
