"""Measurements, side by side: `python -m benchmarks [names] [--quick]`.

Every workload is one function with a docstring, in a module named for what it measures. It takes `quick` and returns
its rows, {name: callable without arguments}, of which the first is the limit that the others are measured against.
A new one is named in `WORKLOADS` of `__main__.py`.
"""
