"""Checks of lab 0: noise, and the straight way from it to data.

Noise is judged by its moments, at six standard errors and more; the straight way by a closed form.
"""

import math

import torch

from fmlab.checks.compare import describe, fail, require, require_close, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.installation import self_test  # noqa: F401 (a word of this lab)
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)


@check(
    reread="the text above the exercise",
    passed="independent normal numbers, new ones at each call",
    points=1,
    hints=(
        "PyTorch draws random numbers of several kinds. Which of its functions draws standard normal ones?",
        "torch.rand draws uniform numbers between 0 and 1; the n in torch.randn is for normal.",
        "Give torch.randn the two numbers of the shape, n first, and return what it draws.",
    ),
)
def draw_noise(answer):
    n, d = 20_000, 3
    noise = answer(n, d)
    require_noise(noise, n, d)
    require(not torch.equal(noise, answer(n, d)), "two calls drew the same numbers; is the seed set inside?")


def require_noise(noise, n: int, d: int) -> None:
    """Fail unless noise is n independent draws of N(0, I) in d dimensions, within 6 to 8 standard errors."""
    if isinstance(noise, torch.Tensor) and noise.shape == (d, n) != (n, d):
        fail(f"the noise should have shape (n, d) = {(n, d)}, found {(d, n)}: a row for each point")
    require_tensor(noise, torch.empty(n, d), "the noise")
    require(bool(noise.isfinite().all()), "the noise should be finite numbers, found nan or inf")
    spread = noise.std(0)
    require(bool((spread > 1e-6).all()), "all points are the same; each needs noise of its own")
    if 0 <= noise.min() and noise.max() <= 1:
        fail("the numbers lie evenly between 0 and 1: this is torch.rand; normal numbers come from torch.randn")
    six = 6 / math.sqrt(n)
    require(bool((noise.mean(0).abs() < six).all()), f"the noise should have mean 0, found {_row(noise.mean(0))}")
    require(
        bool(((spread - 1).abs() < six).all()),  # twice as many standard errors: that of a spread is 1 / √(2n)
        f"the noise should have standard deviation 1, found {_row(spread)}",
    )
    fourth = float(noise.pow(4).mean())
    require(
        abs(fourth - 3) < 8 * math.sqrt(96 / noise.numel()),
        f"mean and spread are right, but the numbers are not normal: their mean fourth power is {fourth:.2f}, not 3",
    )
    products = (noise.T @ noise / n - torch.eye(d)).fill_diagonal_(0).abs().max() if d > 1 else 0
    require(products < six, "the d numbers of a point should be independent: draw each of them")


def _row(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in values[:4].tolist())


@check(
    reread="the text above the exercise (the straight path)",
    passed="noise at t = 0, data at t = 1, and a straight line between",
    points=2,
    hints=(
        "What should come out at t = 0, and what at t = 1? Halfway, it is the mean of the two.",
        "The weights of noise and data add up to 1, and that of the data is t.",
        "Multiply noise by 1 − t and data by t, and return the sum.",
    ),
)
def interpolate(answer):
    noise, data, t = states(1, 5, 2), states(2, 5, 2), 0.3
    found = answer(noise, data, t)
    if isinstance(found, (tuple, list)):
        fail(f"the points should be one tensor, found {describe(found)}; add the two parts")
    mistakes = {
        "noise and data are exchanged: t = 0 should be the noise, t = 1 the data": t * noise + (1 - t) * data,
        "the noise does not fade: its weight is 1 − t": noise + t * data,
        "the data is there from the start: its weight is t": (1 - t) * noise + data,
        "both have the weight t": t * (noise + data),
        "both have the weight 1 − t": (1 - t) * (noise + data),
        "the sign between the two parts is wrong": (1 - t) * noise - t * data,
        "t is missing: this is always the middle": (noise + data) / 2,
        "this is the velocity, data − noise, not the place": data - noise,
        "the point walks away from the data: its way is t (data − noise)": noise + t * (noise - data),
        "the start is missing: add t (data − noise) to the noise": t * (data - noise),
        "the squares of the weights add up to 1; here the weights themselves do": (1 - t**2) ** 0.5 * noise + t * data,
        "the data alone is returned": data,
        "the noise alone is returned": noise,
    }
    require_close(found, 0.7 * noise + 0.3 * data, "the points at time t", mistakes)
