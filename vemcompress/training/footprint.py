"""How much memory a step will take, estimated before the first one."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from vemcompress.data.batch import Batch
from vemcompress.training.learner import Learner

SAMPLE = 2  # images that are tried
ADAM = 3  # a gradient and two moments for each parameter that learns


@dataclass(frozen=True)
class Footprint:
    """In bytes: what networks, gradients and optimisers take, of which the networks are `there` already, and what the
    graphs of one image take where a step is computed once, and where each update computes its own
    (`train.micro_batch`)."""

    fixed: int
    there: int
    image: int
    image_in_parts: int

    def of(self, images: int, parts: bool = False) -> int:
        """For so many images at a time; what convolutions need for a moment comes on top."""
        return self.fixed + images * (self.image_in_parts if parts else self.image)


def footprint(learner: Learner, batch: Batch, random) -> Footprint:
    """Of a learner whose step changes nothing but by its updates: tried on a few of the batch's images, and no update
    moves. `random` gives the first step's random numbers."""
    few = batch.map(lambda tensor: tensor[:SAMPLE])
    kept, updates = {id(p): p for p in (*learner.parameters(), *learner.buffers())}, learner.updates()
    whole = Saved(kept)
    with whole:
        out = learner(few, random, 1)
    largest, largest_apart = 0, 0
    for update in updates:
        if update.due(1):
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
    """While inside, `bytes` sums what graphs keep for their backward, each storage once, weights aside."""

    def __init__(self, weights: dict[int, Tensor]):
        self.bytes, self._seen = 0, {p.untyped_storage().data_ptr(): None for p in weights.values()}
        super().__init__(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen[storage.data_ptr()] = storage  # held, so that no other takes its place
            self.bytes += storage.nbytes()
        return tensor


def _bytes(tensor: Tensor | nn.Parameter) -> int:
    return tensor.numel() * tensor.element_size()
