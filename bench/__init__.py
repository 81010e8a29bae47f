"""Benchmarks: same work, same machine, one run. Ratios count; figures of one machine do not."""
