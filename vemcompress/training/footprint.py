"""Estimates the memory of a training step before the first step."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vemcompress.data.batch import Batch
from vemcompress.training.learner import Learner

SAMPLE = 2  # images of the trial step
ADAM = 3  # a gradient and two moments for each trained parameter


@dataclass(frozen=True)
class Footprint:
    """Memory of a step, in bytes.

    `fixed`: networks, gradients and optimiser state. `there`: the part of it that is already allocated, the networks.
    `image`: the graphs of one image if the step is computed once. `image_in_parts`: the same if each update computes
    its own graph (`train.micro_batch`).
    """

    fixed: int
    there: int
    image: int
    image_in_parts: int

    def of(self, images: int, parts: bool = False) -> int:
        """Memory for `images` images at a time, without the temporary memory of convolutions."""
        return self.fixed + images * (self.image_in_parts if parts else self.image)


def footprint(learner: Learner, batch: Batch, random, step: int = 1) -> Footprint:
    """Estimate the memory of a learner by computing a step on a few of the batch's images, without updating any
    weights.

    The learner's step must change nothing except through its updates, or the learner must not be used afterwards.
    `random` gives the step's random numbers.
    """
    few = batch.map(lambda tensor: tensor[:SAMPLE])
    kept, updates = {id(p): p for p in (*learner.parameters(), *learner.buffers())}, learner.updates()
    whole = Saved(kept)
    with whole:
        out = learner(few, random, step)
    largest, largest_apart = 0, 0
    for update in updates:
        if update.due(step):
            saved = Saved(kept)
            with saved:
                terms = update.terms(out)
            del terms
            largest = max(largest, saved.bytes)
            largest_apart = max(largest_apart, saved.bytes + (0 if update.apart else whole.bytes))
    learned = {id(p): p for update in updates for m in update.modules.values() for p in m.parameters()}
    there = sum(map(_bytes, kept.values()))
    fixed = there + ADAM * sum(map(_bytes, learned.values()))
    count = len(few.input)
    return Footprint(fixed, there, (whole.bytes + largest) // count, largest_apart // count)


class Saved(saved_tensors_hooks):
    """Context that counts in `bytes` what graphs keep for their backward pass: each storage once, without weights."""

    def __init__(self, weights: dict[int, Tensor]):
        self.bytes, self._seen = 0, {p.untyped_storage().data_ptr(): None for p in weights.values()}
        super().__init__(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen[storage.data_ptr()] = storage  # kept alive, so that its address is not reused
            self.bytes += storage.nbytes()
        return tensor


def _bytes(tensor: Tensor | nn.Parameter) -> int:
    return tensor.numel() * tensor.element_size()
