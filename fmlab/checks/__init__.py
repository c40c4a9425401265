"""Checks: `from fmlab.checks import lab1`, then `lab1.euler_step(euler_step)`.

A check touches a student's object only by calling it with tensors, numbers and callables and by looking at what comes
back; everything it compares with is its own. Exercises stand in `fmlab.exercises`; here is how they are judged
(`exercise`, `judges`, `compare`, `calls`), what answers are given (`inputs`), and what students see (`lab`, `verdict`).
"""

import re


def __getattr__(name: str):
    """The lab of this name."""
    if re.fullmatch(r"lab\d+", name):
        from fmlab.checks import lab

        return lab.load(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
