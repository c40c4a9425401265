"""Judges: how an answer to an exercise is asked, and what is looked at. Most exercises need no judge of their own.

A judge is a generator function `judge(answer, case)`. It calls the answer, as often as it likes, and yields a `Look`
for each thing that came of it, with what should have; it may `fail` or `require` in words of its own. It does not
compare. So a known mistake can be put to the same judge: whoever makes it, sees what the student's answer shows.

Judges are put together by `yield from`: an exercise's own judge can begin or end with one of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fmlab.checks.compare import Look, describe, fail, require

Looks = Iterator[Look]


def value(answer, case) -> Looks:
    """What comes back for `case.args` is `case.expected`: a tensor, a number, or several by name, {"the mean": …}.

    Several come back as a tuple or list, in the order of the names.
    """
    yield from parts(answer(*case.args), case)


def repeatable(answer, case) -> Looks:
    """`value`, for an answer that is given its random numbers: the same ones give the same result."""
    first, second = answer(*case.args), answer(*case.args)
    said = "the same random numbers gave two different results; use those that are given, and no others"
    require(equal(first, second) is not False or not bool(first.isfinite().all()), said)
    yield from parts(first, case)


def equal(first, second) -> bool | None:
    """Whether two results of one kind are the same number by number; None if they are no tensors of one shape."""
    if isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape:
        return torch.equal(first.detach(), second.detach())
    return None


def parts(found, case) -> Looks:
    """What was found beside `case.expected`, name by name where that has several parts."""
    if not isinstance(case.expected, Mapping):
        yield Look(case.what, found, case.expected)
        return
    names = list(case.expected)
    if not isinstance(found, (tuple, list)) or len(found) != len(names):
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        fail(f"{listed} should come back, {len(names)} values in this order; found {describe(found)}")
    for name, part in zip(names, found):
        yield Look(f"{name} {case.what}".rstrip(), part, case.expected[name])


def function(answer, case) -> Looks:
    """The answer returns a function: `answer(*case.args)`, called with the arguments of each of `case.calls`.

    case.calls: (what, args, expected) for each call. The function gives the same each time it is called. case.others,
    if there are any: arguments of which another function is made before the first is called.
    """
    made = answer(*case.args)
    if isinstance(made, Tensor):
        fail("a function should be returned, to be called later; found a tensor")
    made = answer.returned(made, "the function that is returned")
    if hasattr(case, "others"):
        answer(*case.others)
    for what, args, expected in case.calls:
        found, again = made(*args), made(*args)
        said = "the function that is returned gives something else at each call"
        require(equal(found, again) is not False or not bool(found.isfinite().all()), said)
        yield Look(what, found, expected)


def loss(answer, case) -> Looks:
    """A loss with its gradient: `answer(*case.args)` is `case.expected`, and so is its gradient in `case.weights`.

    case.expected: a scalar tensor that was made from `case.weights`, a tensor or a list of them.
    """
    found = answer(*case.args)
    yield from loss_of(found, case.expected, case.weights, case.what)


def loss_of(found, expected: Tensor, weights, what: str = "the loss") -> Looks:
    """A loss that came back, and its gradient, beside the expected ones."""
    if isinstance(found, Tensor) and found.ndim:
        fail(f"{what} should be one number for the whole batch, a tensor of shape (), found {describe(found)}")
    yield Look(what, found.detach() if isinstance(found, Tensor) else found, float(expected.detach()))
    cut = (
        f"the value of {what} is right, but no gradient reaches the network: return the tensor itself (no .item(), "
        "no .detach(), no NumPy, no torch.no_grad())"
    )
    require(isinstance(found, Tensor) and found.requires_grad, cut)
    weights = [weights] if isinstance(weights, Tensor) else list(weights)
    gradients = torch.autograd.grad(found.sum(), weights, allow_unused=True)
    wanted = torch.autograd.grad(expected, weights, retain_graph=True)
    require(all(gradient is not None for gradient in gradients), cut)
    for gradient, right in zip(gradients, wanted):
        yield Look(f"the gradient of {what}", gradient, right)


def learning(answer, case) -> Looks:
    """A tensor through which gradients flow: `answer(*case.args)` is `case.expected`, and so is the gradient of its
    sum of squares in `case.weights`."""
    found = answer(*case.args)
    yield Look(case.what, found, case.expected.detach())
    total = case.expected.square().sum()
    yield from loss_of(found.square().sum(), total, case.weights, f"the sum of squares of {case.what}")


def shown(model, x: Tensor, t, what: str = "the state that the network is shown") -> Looks:
    """What a `Field` or `Weighted` was first asked about, beside the state x and the time t that it should be."""
    require(model.calls, "the network was never called")
    states, t = torch.cat([call[0] for call in model.calls]), torch.as_tensor(t).to(x)
    times = [time.to(x).expand(len(state)) for state, time, *_ in model.calls]
    yield Look(what, states[: len(x)], x)
    yield Look("the time that the network is given", torch.cat(times)[: len(x)], t.expand(len(x)))


def counted(calls: list, expected: int, what: str) -> Looks:
    """How often something was called or drawn: one call per step, one draw per batch."""
    yield Look(what, len(calls), expected)


def fresh(answer, case) -> Looks:
    """Two calls draw different random numbers."""
    same = equal(answer(*case.args), answer(*case.args))
    require(not same, "two calls drew the same random numbers; is a seed set inside?")
    yield from ()


def drawn(found, shape: tuple[int, ...], what: str) -> None:
    """Fail unless random numbers of this shape came back, in any floating-point dtype."""
    require(isinstance(found, Tensor), f"{what} should be a tensor of shape {shape}, found {describe(found)}")
    require(found.shape == shape, f"{what} should have shape {shape}, found {tuple(found.shape)}")
    require(found.is_floating_point(), f"{what} should be floating-point numbers, found {found.dtype}")
    require(bool(found.isfinite().all()), f"{what} should be finite numbers, found nan or inf")


ERRORS = 6  # standard errors that a moment may be off: one false alarm in 10⁹ looks


def normal(noise: Tensor, what: str = "the noise") -> Looks:
    """Noise (n, *shape) that should be standard normal and independent: its moments, each with its standard error."""
    rows = noise.detach().flatten(1).double()
    (n, d), each = rows.shape, ERRORS / math.sqrt(len(rows))
    zeros, ones = torch.zeros(d, dtype=rows.dtype), torch.ones(d, dtype=rows.dtype)
    require(bool((rows.std(0) > 1e-6).all()), f"all rows of {what} are the same; each needs numbers of its own")
    yield Look(f"the mean of {what}", rows.mean(0), zeros, error=each)
    yield Look(f"the standard deviation of {what}", rows.std(0), ones, error=each)
    fourth = (ERRORS + 2) * math.sqrt(96 / rows.numel())
    yield Look(f"the mean fourth power of {what}", float(rows.pow(4).mean()), 3.0, error=fourth)
    between = (rows.T @ rows / n).fill_diagonal_(0)
    yield Look(f"the correlation within a row of {what}", between, torch.zeros_like(between), error=each)
    neighbours, error = float((rows[1:] * rows[:-1]).mean()), ERRORS / math.sqrt((n - 1) * d)
    yield Look(f"the correlation between neighbouring rows of {what}", neighbours, 0.0, error=error)
