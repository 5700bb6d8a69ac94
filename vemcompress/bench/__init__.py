"""How fast the training step is, in ratios that one run measures."""

from vemcompress.bench.step import StepBench, bench_step

__all__ = ["StepBench", "bench_step"]
