"""Running statistics of BatchNorm layers, for passes that are computed in another order than they count."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class PassOrder:
    """The BatchNorms among `layers` as if their passes had come in `order`, each as often as it is named there.

    Within a step that leaves the weights alone a pass may stand for several, or come earlier than published; only what
    it does to the running statistics depends on that. All have one momentum. Without BatchNorm this does nothing.
    """

    def __init__(self, layers: Iterable[nn.Module], order: Sequence[str]):
        self.layers = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats]
        self.order = order
        self._start, self._added = None, {}

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """One pass through the layers is computed inside."""
        if not self.layers:
            yield
            return
        before = self._flat()
        if self._start is None:
            self._start = before
        yield
        kept = 1 - self.layers[0].momentum
        self._added[name] = self._flat() - kept * before

    @torch.no_grad()
    def settle(self) -> None:
        """Set the statistics and the counts of passes; once all passes of a step are computed."""
        if not self.layers:
            return
        kept, value = 1 - self.layers[0].momentum, self._start
        for name in self.order:
            value = kept * value + self._added[name]
        buffers = self._buffers()
        # As data: a graph keeps running statistics, which in training mode its backward never reads.
        for buffer, part in zip(buffers, value.split([b.numel() for b in buffers]), strict=True):
            buffer.data.copy_(part)
        for layer in self.layers:
            layer.num_batches_tracked += len(self.order) - len(self._added)
        self._start, self._added = None, {}

    def _buffers(self) -> list[Tensor]:
        return [b for layer in self.layers for b in (layer.running_mean, layer.running_var)]

    def _flat(self) -> Tensor:
        return torch.cat(self._buffers())
