"""Search for the layers that must stay in float for int8: each layer is tried alone, and the worst stay in float."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from vemcompress.errors import ExportError
from vemcompress.export.precision import Judge, Quantised, Run, Score, Tried
from vemcompress.system.events import Event


@dataclass(frozen=True)
class Candidate:
    """A network with some layers in int8: the runtime's form of it, its size in bytes, and a function that runs it."""

    product: object
    bytes: int
    run: Run


Build = Callable[[str, Collection[str]], Candidate]  # from a method for the ranges, and the layers to put into int8


class Search:
    """Finds the smallest number of layers to keep in float for an SSIM of `least_ssim` on the judge's inputs.

    First, each of the `methods` is tried with all `layers` in int8, and the one with the best SSIM is used. If that
    SSIM is too low, each layer is put into int8 alone. Then the k layers with the worst PSNR stay in float, for k = 1,
    2, 4, ... until the SSIM is reached, and bisection finds the smallest such k. `tried` has a row for each scored
    network.
    """

    def __init__(self, build: Build, judge: Judge, least_ssim: float, on_event: Event):
        self._build, self._judge, self._least, self._on_event = build, judge, least_ssim, on_event
        self.tried: list[Tried] = []

    def find(self, methods: Sequence[str], layers: Sequence[str]) -> Quantised:
        """The best network found. Raises ExportError (7) if none with a layer in int8 reaches the SSIM."""
        if not layers:
            raise ExportError(
                "no layer of this graph can be int8: it has no convolution or product with fixed weights; use fp32 or "
                "fp16."
            )
        scored = {method: self._try(method, layers, 0) for method in methods}
        method = max(scored, key=lambda method: scored[method][1])
        candidate, score = scored[method]
        if score.ssim >= self._least:
            return self._result(candidate, score, method, layers, ())
        costs = self.costs(method, layers)
        worst = sorted(costs, key=lambda layer: (costs[layer], layer))
        k, (candidate, score) = self._fewest(method, layers, worst)
        kept = [layer for layer in layers if layer not in worst[:k]]
        return self._result(candidate, score, method, kept, tuple((layer, costs[layer]) for layer in worst[:k]))

    def costs(self, method: str, layers: Sequence[str]) -> dict[str, float]:
        """The PSNR in dB of each network in which one layer alone is int8."""
        found = {}
        for done, layer in enumerate(layers, 1):
            found[layer] = self._judge.psnr(self._build(method, [layer]).run)
            self._tell("sensitivity", done=done, total=len(layers), layer=layer, psnr=found[layer])
        return found

    def _fewest(self, method: str, layers: Sequence[str], worst: Sequence[str]) -> tuple[int, tuple[Candidate, Score]]:
        """The smallest k that reaches the SSIM, and the network for it."""

        def attempt(k: int) -> tuple[Candidate, Score]:
            return self._try(method, [layer for layer in layers if layer not in worst[:k]], k)

        short, k, most = 0, 1, len(layers) - 1
        while k <= most:
            got = attempt(k)
            if got[1].ssim >= self._least:
                break
            short, k = k, min(2 * k, most) if k < most else most + 1
        else:
            best = max(row.ssim for row in self.tried)
            raise ExportError(
                f"int8 reaches an SSIM of {best:.4f} to the float network, with {short} of {len(layers)} layers left "
                f"in float, but {self._least:g} is required, so no file was written; give more real images, "
                "train longer, or use fp16."
            )
        while k - short > 1:
            middle = (short + k) // 2
            tried = attempt(middle)
            if tried[1].ssim >= self._least:
                k, got = middle, tried
            else:
                short = middle
        return k, got

    def _try(self, method: str, layers: Sequence[str], k: int) -> tuple[Candidate, Score]:
        candidate = self._build(method, layers)
        score = self._judge.score(candidate.run)
        self.tried.append(Tried(method, k, *score, candidate.bytes))
        self._tell("try", method=method, float_layers=k, ssim=score.ssim, psnr=score.psnr)
        return candidate, score

    def _result(self, candidate: Candidate, score: Score, method: str, layers, kept) -> Quantised:
        return Quantised(
            candidate.product, method, tuple(layers), kept, score.ssim, score.psnr, candidate.bytes, tuple(self.tried)
        )

    def _tell(self, stage: str, **more) -> None:
        self._on_event({"event": "export", "stage": stage, **more})
