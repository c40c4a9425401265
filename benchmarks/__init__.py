"""Measurements, side by side: `python -m benchmarks [names] [--quick]`, or `make bench`.

Every workload is one function with a docstring, in a module named for what it measures. It takes `quick` and returns
its rows, {name: callable without arguments}, of which the first is the limit that the others are measured against; or,
where it is not time that is measured, {name: number}. What the rows are to reach stands above it, as `@targets(...)`.
A row whose package is not installed is left out. A new workload is named in `WORKLOADS` of `__main__.py`.
"""
