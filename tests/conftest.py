"""Figures of the tests are drawn in memory, each worker keeps to one core, and what was left out is said in the end."""

import os
from collections import Counter

import pytest

from tests import again

os.environ.setdefault("MPLBACKEND", "agg")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["FMLAB_EDITION"] = "none"  # whatever edition this repository is used for
os.environ["FMLAB_PROGRESS"] = "off"  # so that no test leaves a file beside a notebook


# Thousands of answers: what they run is also run by others, and measuring doubles their time.
UNMEASURED = {f"test_{name}" for name in ("answers", "exercises", "mutants")}


def pytest_configure(config):
    config.pluginmanager.register(again)  # for notebooks too, which are not in this folder


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    """pytest-cov has read which sources it measures; nbval, which would measure inside of kernels too, shall not."""
    session.config.option.cov_source = None


def pytest_collection_modifyitems(items):
    """What takes long begins first, so that in the end no worker waits for another; and it is not measured."""
    long = [item for item in items if item.get_closest_marker("slow") or item.path.stem in UNMEASURED]
    for item in long:
        item.add_marker("no_cover")
    first = {item.path for item in long} | {item.path for item in items if item.path.suffix == ".ipynb"}
    items.sort(key=lambda item: item.path not in first)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """After all else: how many tests were skipped for what, and which packages bring it."""
    yield
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section("left out")
        for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
            terminalreporter.line(f"{count:4} test{'s' * (count > 1)}, {reason}")


def _reason(report) -> str:
    """Why a test was skipped."""
    where = report.longrepr
    return str(where[2] if isinstance(where, (tuple, list)) else where).removeprefix("Skipped: ")
