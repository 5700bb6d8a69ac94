"""Benchmark of the training step (`bench-step`), as ratios to a reference step that is measured in the same run."""

from vemcompress.bench.step import StepBench, bench_step

__all__ = ["StepBench", "bench_step"]
