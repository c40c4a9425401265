"""Figures of the tests are drawn in memory."""

import os

os.environ.setdefault("MPLBACKEND", "agg")
