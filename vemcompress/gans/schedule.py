"""The learning rate's published course."""


def epoch_decay(epoch: int, constant: int, decay: int) -> float:
    """The factor in an epoch counted from 0: 1 for `constant` epochs, then linear towards zero over `decay` epochs.

    CycleGAN's and OMGD's rule, 1 - max(0, epoch + 1 - constant) / (decay + 1), set once an epoch; it ends one notch
    above zero. `training.runner.decay` is the same rule by steps.
    """
    return 1.0 - max(0, epoch + 1 - constant) / (decay + 1)
