"""Figures of the tests are drawn in memory, and each worker keeps to one core."""

import os

os.environ.setdefault("MPLBACKEND", "agg")
os.environ["OMP_NUM_THREADS"] = "1"
