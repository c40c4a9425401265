"""Lab 8: flow maps, distillation, consistency.

Truth comes from elsewhere than the formulas asked for: maps are where RK4 takes a state along the exact field, chains
of affine steps are products, derivatives are worked out by hand, and losses are added up row by row.
"""

import functools
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import jvp

from fmlab import flow_maps
from fmlab.checks import judges
from fmlab.checks.compare import Look, describe, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Field, states, times
from fmlab.checks.lab import Lab
from fmlab.distributions import GaussianMixture
from fmlab.schedules import coefficient

lab = Lab("lab8")

SINGLE, DOUBLE = torch.float32, torch.float64


# --- what several exercises share -------------------------------------------------------------------------------------


def followed(u, x: Tensor, s, t, steps: int) -> Tensor:
    """Where RK4 takes x from the times s to the times t along a field, in double precision."""
    end, (s, t) = x.double(), (torch.as_tensor(time, dtype=DOUBLE).expand(len(x)) for time in (s, t))
    h = (t - s) / steps
    shaped = coefficient(h, end)
    for k in range(steps):
        now = s + k * h
        k1 = u(end, now)
        k2 = u(end + shaped / 2 * k1, now + h / 2)
        k3 = u(end + shaped / 2 * k2, now + h / 2)
        k4 = u(end + shaped * k3, now + h)
        end = end + shaped / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return end.to(x)


class Average:
    """v(x, s, t) = w_1 sin(r + 0.8 t) + w_2 (1 + s²) x − 0.3 s t with r = x.roll(1, −1), and its derivatives by hand.

    Two weights, neighbouring coordinates that meet, and no symmetry in s and t. An average velocity or a map, as the
    exercise wants it.
    """

    def __init__(self, dtype=SINGLE):
        self.weights = torch.tensor([0.7, -0.4], dtype=dtype, requires_grad=True)
        self._field = Field(self._formula)

    def _formula(self, x, s, t):
        first, second = self.weights
        return first * torch.sin(x.roll(1, -1) + 0.8 * t) + second * (1 + s**2) * x - 0.3 * s * t

    def __call__(self, x, s, t):
        if not isinstance(x, Tensor):
            raise TypeError(f"the states come first, v(x, s, t), and are a tensor; got {type(x).__name__}")
        return self._field.value(x, s, t)

    def by_s(self, x, s, t) -> Tensor:
        """∂_s v."""
        s, t = coefficient(s, x), coefficient(t, x)
        return (2 * self.weights[1] * s * x - 0.3 * t).detach()

    def by_t(self, x, s, t) -> Tensor:
        """∂_t v."""
        s, t = coefficient(s, x), coefficient(t, x)
        return (0.8 * self.weights[0] * torch.cos(x.roll(1, -1) + 0.8 * t) - 0.3 * s).detach()

    def along(self, x, s, t, direction) -> Tensor:
        """∇v · direction."""
        s, t = coefficient(s, x), coefficient(t, x)
        slope = self.weights[0] * torch.cos(x.roll(1, -1) + 0.8 * t)
        return (slope * direction.roll(1, -1) + self.weights[1] * (1 + s**2) * direction).detach()


def moving() -> Field:
    """A field u(x, t) that depends on both, and on the neighbouring coordinate."""
    return Field(lambda x, t: (0.5 + t) * torch.cos(1.3 * x) + 0.2 * x.roll(1, -1) - 0.4)


def stopped(answer, case):
    """A target: its value, and that it carries no gradient."""
    found = answer(*case.args)
    yield Look(case.what, found.detach() if isinstance(found, Tensor) else found, case.expected)
    graph = isinstance(found, Tensor) and found.requires_grad
    require(
        not graph, f"{case.what} still carries a gradient; return target.detach(), or put all under torch.no_grad()"
    )


def gap(s, t, x):
    return coefficient(t - s, x)


FLAT = "times are shaped for points alone; coefficient(t, x) fits any x"


def for_points(value, x):
    """`coefficient` for x: (n, d) alone."""
    return value.reshape(-1, 1)


def squares(error: Tensor) -> Tensor:
    """‖error‖² of each row: (n,)."""
    return error.flatten(1).square().sum(1)


def mean_square(error: Tensor) -> Tensor:
    return squares(error).mean()


TOTALS = {  # mistakes of every loss: how errors become one number
    "the mean was taken over coordinates too; sum over them": lambda error: error.square().mean(),
    "the losses of the batch were summed, not averaged": lambda error: error.square().sum(),
    "there is a factor ½ too many": lambda error: mean_square(error) / 2,
    "the norm was not squared": lambda error: squares(error).sqrt().mean(),
    "images are summed over axis 1 alone; flatten(1) first": lambda error: error.square().sum(1).mean(),
    "images are summed over the last axis alone; flatten(1) first": lambda error: error.square().sum(-1).mean(),
}


def slope(function, x, s, t, tangent) -> tuple[Tensor, Tensor]:
    """The value of function(x, s, t), and its derivative along a tangent over (x, s, t); numbers stand for all rows."""
    ways = [way if isinstance(way, Tensor) else torch.full_like(at, way) for way, at in zip(tangent, (x, s, t))]
    return jvp(function, (x, s, t), tuple(ways))


# --- the flow map -----------------------------------------------------------------------------------------------------


def gaussian_map(
    ratio=lambda now, later: later / now,
    spread=lambda t, std: (t**2 * std**2 + (1 - t) ** 2) ** 0.5,
    centre=lambda t, mean: t * mean,
    end=None,
    order=lambda s, t: (s, t),
    shape=coefficient,
):
    """The flow map of Gaussian data with another ratio of spreads, spread or centre. end: another one at the time t."""

    def answer(x, s, t, mean, std):
        s, t = (shape(torch.as_tensor(time, dtype=x.dtype), x) for time in order(s, t))
        arrival = (end or centre)(t, mean)
        return arrival + ratio(spread(s, std), spread(t, std)) * (x - centre(s, mean))

    return answer


@lab.exercise(
    reread=("eq-gaussian-map", "the flow map of a Gaussian, above the exercise"),
    passed="a whole trajectory in one formula",
    hints=(
        "How many standard deviations is x from the centre of p_s? The flow keeps that number.",
        "The centre of p_t is t m, and its standard deviation is √(t² S² + (1 − t)²).",
        "Subtract s m, divide by σ_s, multiply by σ_t, add t m. Shape s and t with coefficient(s, x) first.",
    ),
    withhold=("flow_maps.GaussianFlowMap.__call__",),
    library=lambda x, s, t, mean, std: flow_maps.GaussianFlowMap(mean, std)(x, s, t),
    visible=[
        (0.2, 0.9, (5, 2), 0.6),
        (times(4, dtype=DOUBLE), times(4, 0.3, 1.0, dtype=DOUBLE).flip(0), (4, 1, 2, 3), 1.7, DOUBLE),
        (torch.tensor(0.85), torch.tensor(0.35), (3, 2, 2, 3), 0.3),
        (torch.tensor([0.0, 1.0, 0.4, 0.0]), torch.tensor([0.7, 0.15, 1.0, 1.0]), (4, 3), 2.5),
        (0.0, 0.65, (1, 4), 1.3, DOUBLE),
    ],
    mistakes={
        "σ_s and σ_t are exchanged in the ratio": gaussian_map(lambda now, later: now / later),
        "the ratio σ_t/σ_s is missing": gaussian_map(lambda now, later: 1),
        "it is not divided by σ_s": gaussian_map(lambda now, later: later),
        "the ratio of variances was taken, not of standard deviations": gaussian_map(lambda a, b: (b / a) ** 2),
        "m is not scaled by the times: the centre of p_t is t m": gaussian_map(centre=lambda t, mean: mean),
        "m is missing": gaussian_map(centre=lambda t, mean: 0 * mean),
        "the centre s m is subtracted, and added again where t m belongs": lambda x, s, t, mean, std: (
            gaussian_map()(x, s, t, mean, std) + coefficient(torch.as_tensor(s - t, dtype=x.dtype), x) * mean
        ),
        "the centre t m is not added": gaussian_map(end=lambda t, mean: 0),
        "standard deviations were added, t S + (1 − t); variances add": gaussian_map(
            spread=lambda t, std: t * std + 1 - t
        ),
        "S was not squared": gaussian_map(spread=lambda t, std: (t**2 * std + (1 - t) ** 2) ** 0.5),
        "the weights were not squared": gaussian_map(spread=lambda t, std: (t * std**2 + 1 - t) ** 0.5),
        "the noise is missing in σ_t": gaussian_map(spread=lambda t, std: t * std + 1e-12),
        "s and t are exchanged: this is the way back": gaussian_map(order=lambda s, t: (t, s)),
        "t and 1 − t are exchanged": gaussian_map(order=lambda s, t: (1 - s, 1 - t)),
        FLAT: gaussian_map(shape=for_points),
        "times of shape (n,) meet states (n, …); coefficient(t, x) gives them the shape": gaussian_map(
            shape=lambda t, x: t
        ),
        "the first times were used for all rows": gaussian_map(
            order=lambda s, t: [torch.as_tensor(time).reshape(-1)[0] for time in (s, t)]
        ),
    },
)
def gaussian_flow_map(s, t, shape, std, dtype=SINGLE):
    """RK4 along the regression line of lab 3."""
    mean, x = states(5, *shape[1:], dtype=dtype), states(6, *shape, dtype=dtype)

    def field(x, t):
        t = coefficient(t, x)
        covariance, variance = t * std**2 - (1 - t), t**2 * std**2 + (1 - t) ** 2
        return mean.double() + covariance / variance * (x - t * mean.double())

    expected = followed(field, x, s, t, 120)
    return Case(f"the map for shape {shape} and S = {std:g}", (x, s, t, mean, std), expected)


MIXTURES = {  # means, variances, weights
    "two": ([-1.3, 0.9], [0.2, 0.3], [0.35, 0.65]),
    "three": ([-1.8, 0.1, 1.6], [0.25, 0.1, 0.4], [0.3, 0.25, 0.45]),
    "one": ([0.7], [0.35], [1.0]),
    "left": ([-7.6, -6.4], [0.6, 0.9], [0.7, 0.3]),
    "right": ([6.1, 7.3], [0.8, 0.5], [0.4, 0.6]),
}


def mixture(name: str) -> GaussianMixture:
    means, variances, weights = (torch.tensor(values, dtype=DOUBLE) for values in MIXTURES[name])
    return GaussianMixture(means[:, None], variances, weights)


@functools.lru_cache(64)
def carried(name: str, n: int, s: tuple, t: tuple, dtype) -> tuple[Tensor, Tensor]:
    """n states on a line, and where RK4 takes them along the field of a mixture: regression lines and posteriors."""
    s, t = (torch.tensor(time, dtype=DOUBLE).expand(n) for time in (s, t))
    means, variances, weights = (torch.tensor(values, dtype=DOUBLE) for values in MIXTURES[name])

    def field(x, t):
        t = t[:, None]
        spread, off = t**2 * variances + (1 - t) ** 2, x - t * means
        share = (weights.log() - off**2 / (2 * spread) - spread.log() / 2).softmax(1)
        return (share * (means + (t * variances - (1 - t)) / spread * off)).sum(1, keepdim=True)

    x = (s[:, None] * (weights @ means) + 0.9 * states(7, n, 1, dtype=DOUBLE).clamp(-2, 2)).to(dtype)
    return x, followed(field, x, s, t, 100)


def inverted(
    share=lambda cdf, x, s, t: cdf(x, s),
    asked=lambda cdf, y, s, t: cdf(y, t),
    below=lambda found, wanted: found < wanted,
    ends=(-10.0, 10.0),
    halvings=60,
):
    """Bisection of another equation, with another comparison or between other ends."""

    def answer(cdf, x, s, t):
        wanted = share(cdf, x, s, t)
        low, high = (torch.full_like(x, end) for end in ends)
        for _ in range(halvings):
            middle = (low + high) / 2
            up = below(asked(cdf, middle, s, t), wanted)
            low, high = torch.where(up, middle, low), torch.where(up, high, middle)
        return (low + high) / 2

    return answer


@lab.exercise(
    reread=("eq-line-map", "the flow map on a line, above the exercise"),
    passed="the exact flow of any density on a line, and no field was followed",
    hints=(
        "A flow on a line cannot change the order of points. What share of all points lies to the left of x, before "
        "and after?",
        "The share is cdf(x, s). You look for the y with cdf(y, t) equal to it, and cdf(y, t) grows with y.",
        "Keep low and high with y between them, for all rows at once: where cdf(middle, t) is below the share, low "
        "becomes middle, else high does. torch.where chooses; fifty halvings are enough.",
    ),
    withhold=("flow_maps.LineFlowMap.__call__",),
    library=inverted(),
    visible=[
        ("two", 5, 0.2, 0.9),
        ("three", 7, (0.1, 0.8, 0.35, 0.6, 0.0, 0.45, 0.7), (0.75, 0.2, 1.0, 0.95, 0.55, 0.3, 0.0), DOUBLE),
        ("one", 1, 0.0, 1.0, DOUBLE),
        ("two", 4, 1.0, 0.35),
        ("left", 6, 0.3, 0.95),
        ("right", 4, 0.25, 0.9),
    ],
    mistakes={
        "s and t are exchanged: this is F_s⁻¹(F_t(x))": lambda cdf, x, s, t: inverted()(cdf, x, t, s),
        "F_s was inverted where F_t should be, so that x comes back": inverted(asked=lambda cdf, y, s, t: cdf(y, s)),
        "the share to the right was taken, which turns the order around": inverted(lambda cdf, x, s, t: 1 - cdf(x, s)),
        "the wrong half was kept": inverted(below=lambda found, wanted: found > wanted),
        "the search ends at ±1, and states lie beyond": inverted(ends=(-1.0, 1.0)),
        "the search ends at ±5, and states lie beyond": inverted(ends=(-5.0, 5.0)),
        "the search begins at 0; states may be negative": inverted(ends=(0.0, 10.0)),
        "all rows move together; each needs a half of its own": inverted(
            below=lambda found, wanted: (found < wanted).all().expand_as(found)
        ),
        "this is the share F_s(x) itself; look for the place where F_t has it": lambda cdf, x, s, t: cdf(x, s).to(x),
        "F_t was applied, not inverted": lambda cdf, x, s, t: cdf(cdf(x, s).to(x), t).to(x),
    },
)
def line_flow_map(name, n, s, t, dtype=SINGLE):
    """RK4 along the marginal field; the distribution function of p_t is that of a mixture."""
    x, expected = carried(name, n, s, t, dtype)
    exact = flow_maps.LineFlowMap(mixture(name))
    s, t = (torch.tensor(time, dtype=dtype) if isinstance(time, tuple) else time for time in (s, t))
    return Case(f"the map of {n} states", (lambda y, time: exact.cdf(y, time), x.clone(), s, t), expected)


def chained(
    asked=lambda s, t, x0, last: (s, t),
    size=lambda s, t: t - s,
    grid=lambda times: times,
    state=lambda x, x0: x,
):
    """Samples by a map that is asked about other times or states, moves by other sizes, or on another grid."""

    def answer(v, x0, times):
        x, steps = x0, grid(times)
        for s, t in pairwise(steps):
            x = x + size(s, t) * v(state(x, x0), *asked(s, t, x0, times[-1]))
        return x

    return answer


def one_call_each(answer, case):
    """The states at the last time, and one call of v for each interval."""
    v, x0, grid = case.args
    found = answer(*case.args)
    several = isinstance(found, (list, tuple)) or getattr(found, "shape", ()) == (len(grid), *x0.shape)
    require(not several, f"only the states at the last time should come back, found {describe(found)}")
    yield Look(case.what, found, case.expected)
    asked = sum(len(x) for x, *_ in v.calls) / len(x0)
    yield Look("the number of calls of v per interval", asked / (len(grid) - 1), 1)


@lab.exercise(
    reread=("eq-map-step", "one step of a flow map, above the exercise"),
    passed="a jump for each interval, however long it is",
    hints=(
        "It looks like Euler's method. What is v asked about that a field is not?",
        "The jump from times[k] to times[k + 1] needs both: v(x, s, t) with s = times[k] and t = times[k + 1].",
        "In a loop over pairs of neighbouring times, x becomes x + (t − s) v(x, s, t).",
    ),
    withhold=("flow_maps.sample_map", "flow_maps.FlowMap.step"),
    library=lambda v, x0, times: flow_maps.sample_map(v, x0, times),
    judge=one_call_each,
    visible=[
        (torch.tensor([0.1, 0.2, 0.4, 0.8, 0.85]), (5, 2)),
        (torch.tensor([0.0, 0.3, 0.9], dtype=DOUBLE), (4, 1, 2, 3), DOUBLE),
        ([0.95, 0.6, 0.5, 0.15], (3, 4)),
        ([0.0, 1.0], (1, 3)),
    ],
    mistakes={
        "the times were sorted; they may fall": chained(grid=lambda times: torch.as_tensor(times).sort().values),
        "these are Euler's steps: v was asked about (s, s)": chained(lambda s, t, *_: (s, s)),
        "v was asked about (t, t)": chained(lambda s, t, *_: (t, t)),
        "v was asked about (t, s): the time where it starts comes first": chained(lambda s, t, *_: (t, s)),
        "v was asked for the map to the last time, at each step": chained(lambda s, t, x0, last: (s, last)),
        "v was asked for the map from the first time, at each step": lambda v, x0, ts: chained(
            lambda s, t, *_: (ts[0], t)
        )(v, x0, ts),
        "the sign is reversed: the step is t − s": chained(size=lambda s, t: s - t),
        "the factor t − s is missing": chained(size=lambda s, t: 1),
        "the factor is |t − s|; times may decrease": chained(size=lambda s, t: abs(t - s)),
        "v was asked about x0 at each step": chained(state=lambda x, x0: x0),
        "the first interval is missing": chained(grid=lambda times: times[1:]),
        "the last interval is missing": chained(grid=lambda times: times[:-1]),
        "this is one jump from the first time to the last": chained(grid=lambda times: [times[0], times[-1]]),
        "the times were taken as evenly spaced": chained(
            grid=lambda times: torch.linspace(float(times[0]), float(times[-1]), len(times), dtype=DOUBLE).tolist()
        ),
    },
)
def sample_by_map(grid, shape, dtype=SINGLE):
    """For v = (0.4 + s) x − 0.7 t a jump is x ↦ growth x + shift, so many of them are products and sums."""
    x0 = states(8, *shape, dtype=dtype)
    ts = torch.as_tensor(grid, dtype=dtype)
    s, t = ts[:-1], ts[1:]
    growth, shift = 1 + (t - s) * (0.4 + s), -0.7 * (t - s) * t
    later = torch.cat([growth.flip(0).cumprod(0).flip(0)[1:], torch.ones(1, dtype=dtype)])
    expected = growth.prod() * x0 + (shift * later).sum()
    v = Field(lambda x, s, t: (0.4 + s) * x - 0.7 * t)
    own = grid if isinstance(grid, Tensor) else list(grid)  # a list may be sorted in place
    return Case(f"the state at the last of {len(ts)} times", (v, x0, own), expected)


# --- its equations ----------------------------------------------------------------------------------------------------


def lagrangian(tangent=(0, 0, 1), at=lambda moved, x: moved, time=lambda s, t: t, sign=-1, u_in=1):
    """A residual with the derivative along another tangent, or with the field at another place or time."""

    def answer(X, u, x, s, t):
        moved, rate = slope(X, x, s, t, tangent)
        return rate + sign * u_in * u(at(moved, x), time(s, t))

    return answer


PAIRS = {  # times s and t for batches, in either order
    5: (times(5), torch.tensor([0.9, 0.35, 0.62, 0.15, 0.77])),
    4: (times(4, dtype=DOUBLE), torch.tensor([0.2, 0.95, 0.58, 0.31], dtype=DOUBLE)),
    3: (torch.tensor([0.0, 0.83, 0.41]), torch.tensor([0.7, 0.1, 1.0])),
    1: (times(1), torch.tensor([0.27])),
}
BATCHES = [(*PAIRS[5], (5, 3)), (*PAIRS[4], (4, 1, 2, 3), DOUBLE), (*PAIRS[3], (3, 2, 2, 3)), (*PAIRS[1], (1, 4))]


@lab.exercise(
    reread=("eq-lagrangian", "the Lagrangian equation, above the exercise"),
    passed="the end of the jump moves as the field says",
    hints=(
        "Hold x and s. When t moves a little, the end of the jump moves: with which velocity should it?",
        "torch.func.jvp(f, (t,), (torch.ones_like(t),)) gives f(t) and its derivative, for each row, in one call.",
        "With f = lambda t: X(x, s, t), jvp returns the moved states and their rate; subtract u(moved, t).",
    ),
    withhold=("flow_maps.lagrangian_residual",),
    library=lambda X, u, x, s, t: flow_maps.lagrangian_residual(X, u, x, s, t),
    visible=BATCHES,
    mistakes={
        "the field is taken at x; it belongs where the jump ends, at X_{s,t}(x)": lagrangian(at=lambda moved, x: x),
        "the field is taken at the time s; the jump ends at t": lagrangian(time=lambda s, t: s),
        "the field is taken where the jump starts, at x and s": lagrangian(at=lambda y, x: x, time=lambda s, t: s),
        "the field is taken at the first time for all rows": lagrangian(time=lambda s, t: t[0]),
        "the residual was squared": lambda *args: lagrangian()(*args).square(),
        "the derivative is with respect to s": lagrangian((0, 1, 0)),
        "both times were moved: the tangent of s is 0": lagrangian((0, 1, 1)),
        "field and rate were added": lagrangian(sign=1),
        "the sign is reversed: rate minus field": lambda *args: -lagrangian()(*args),
        "the field was not subtracted": lagrangian(u_in=0),
        "this is the field alone; the rate is missing": lambda X, u, x, s, t: -u(X(x, s, t), t),
        "jvp gives the value first and the derivative second: here they are exchanged": lambda X, u, x, s, t: (
            lambda moved, rate: moved - u(rate, t)
        )(*slope(X, x, s, t, (0, 0, 1))),
        "the map itself was taken where its rate belongs": lambda X, u, x, s, t: X(x, s, t) - u(X(x, s, t), t),
        "s and t are exchanged": lambda X, u, x, s, t: lagrangian()(X, u, x, t, s),
    },
)
def lagrangian_residual(s, t, shape, dtype=SINGLE):
    """For a map whose derivatives are known."""
    X, u, x = Average(dtype), moving(), states(11, *shape, dtype=dtype)
    expected = X.by_t(x, s, t) - u.value(X(x, s, t).detach(), t)
    return Case(f"the residual for shape {shape}", (detached(X), u, x, s, t), expected)


def detached(v: Average):
    """A function that gives what v does, without its weights' gradient."""
    v.weights.requires_grad_(False)
    return lambda x, s, t: v(x, s, t)


def eulerian(way=lambda X, u, x, s, t: (u(x, s), 1, 0), sign=1):
    """A residual as the derivative along another tangent over (x, s, t)."""

    def answer(X, u, x, s, t):
        return sign * slope(X, x, s, t, way(X, u, x, s, t))[1]

    return answer


@lab.exercise(
    reread=("eq-eulerian", "the Eulerian equation, above the exercise"),
    passed="a start that moves with the flow leads to the same end",
    hints=(
        "Hold t, and let the start move along its own trajectory: x and s change together. How should the end change?",
        "Both terms are one directional derivative of X over (x, s): along which direction?",
        "jvp takes several inputs: for lambda x, s: X(x, s, t) these are (x, s), tangents (u(x, s), ones_like(s)).",
    ),
    withhold=("flow_maps.eulerian_residual",),
    library=lambda X, u, x, s, t: flow_maps.eulerian_residual(X, u, x, s, t),
    visible=BATCHES,
    mistakes={
        "the tangent of x is −u: the start moves with the flow, along +u": eulerian(
            lambda X, u, x, s, t: (-u(x, s), 1, 0)
        ),
        "the tangent of s is −1": eulerian(lambda X, u, x, s, t: (u(x, s), -1, 0)),
        "the sign is reversed": eulerian(sign=-1),
        "∂_s is missing: the tangent of s is 1": eulerian(lambda X, u, x, s, t: (u(x, s), 0, 0)),
        "∇X u is missing: the tangent of x is u": eulerian(lambda X, u, x, s, t: (0, 1, 0)),
        "the derivative is with respect to t, not s": eulerian(lambda X, u, x, s, t: (u(x, s), 0, 1)),
        "both times were moved; t stands still": eulerian(lambda X, u, x, s, t: (u(x, s), 1, 1)),
        "the field is taken at the first time for all rows": eulerian(lambda X, u, x, s, t: (u(x, s[0]), 1, 0)),
        "the field is taken at the time t; the start is at s": eulerian(lambda X, u, x, s, t: (u(x, t), 1, 0)),
        "the field is taken where the jump ends": eulerian(lambda X, u, x, s, t: (u(X(x, s, t), t), 1, 0)),
        "the tangent of x is 1; it is the field u": eulerian(lambda X, u, x, s, t: (1, 1, 0)),
        "jvp gives the value first; this is the map itself": lambda X, u, x, s, t: X(x, s, t),
        "the field was added to ∂_s X; ∇X multiplies it": lambda X, u, x, s, t: (
            eulerian(lambda *_: (0, 1, 0))(X, u, x, s, t) + u(x, s)
        ),
        "s and t are exchanged": lambda X, u, x, s, t: eulerian()(X, u, x, t, s),
    },
)
def eulerian_residual(s, t, shape, dtype=SINGLE):
    """For a map whose derivatives are known."""
    X, u, x = Average(dtype), moving(), states(12, *shape, dtype=dtype)
    expected = X.by_s(x, s, t) + X.along(x, s, t, u.value(x, s))
    return Case(f"the residual for shape {shape}", (detached(X), u, x, s, t), expected)


# --- targets ----------------------------------------------------------------------------------------------------------


def halved(
    second=lambda v, x, y, s, m, t: v(y, m, t),
    middle=lambda s, t: (s + t) / 2,
    step=lambda s, m, t: m - s,
    first=lambda v, x, s, m, t: v(x, s, m),
    mean=lambda a, b: (a + b) / 2,
    shape=coefficient,
):
    """Two steps made into one, with another second velocity, middle, step between them, first velocity or mean."""

    @torch.no_grad()
    def answer(v, x, s, t):
        s, t = (torch.as_tensor(time, dtype=x.dtype) for time in (s, t))
        m = middle(s, t)
        one = first(v, x, s, m, t)
        y = x + shape(step(s, m, t), x) * one
        return mean(one, second(v, x, y, s, m, t))

    return answer


HALVED = {
    "the second velocity was taken at x; the second step starts where the first ended": halved(
        lambda v, x, y, s, m, t: v(x, m, t)
    ),
    "the second step has the times (s, m) again; it leads from m to t": halved(lambda v, x, y, s, m, t: v(y, s, m)),
    "the second step has the times (s, t)": halved(lambda v, x, y, s, m, t: v(y, s, t)),
    "the first step has the times (s, t); it leads from s to m": halved(first=lambda v, x, s, m, t: v(x, s, t)),
    "the first step was made as long as both, t − s": halved(step=lambda s, m, t: t - s),
    "the first step has the wrong sign": halved(step=lambda s, m, t: s - m),
    "the velocities were added; take their mean": halved(mean=lambda a, b: a + b),
    "this is the second velocity alone": halved(mean=lambda a, b: b),
    "this is the first velocity alone": halved(mean=lambda a, b: a),
    "the middle of s and t is (s + t)/2, not (t − s)/2": halved(middle=lambda s, t: (t - s) / 2),
}


@lab.exercise(
    reread=("eq-semigroup-target", "two steps made into one, above the exercise"),
    passed="one step that ends where two would",
    hints=(
        "Make the two steps by hand first: where are you after the first, and which times has the second?",
        "With m = (s + t)/2 the first velocity is v(x, s, m); the second is v(y, m, t) at y = x + (m − s) v(x, s, m).",
        "Both steps are equally long, so their average velocity is the mean of the two. All under torch.no_grad().",
    ),
    withhold=("flow_maps.semigroup_target",),
    library=lambda v, x, s, t: flow_maps.semigroup_target(v, None, x, s, t),
    judge=stopped,
    visible=[
        (0.2, 0.9, (5, 3)),
        (*PAIRS[4], (4, 1, 2, 3), DOUBLE),
        (*PAIRS[3], (3, 2, 2, 3)),
        (torch.tensor(0.15), torch.tensor(0.48), (1, 4)),
    ],
    mistakes=HALVED
    | {
        FLAT: halved(shape=for_points),
        "this is v of the whole step; make two half steps": halved(
            lambda v, x, y, s, m, t: v(x, s, t), first=lambda v, x, s, m, t: v(x, s, t)
        ),
        "the state after two steps came back; a velocity is wanted": lambda v, x, s, t: (
            x + gap(torch.as_tensor(s), torch.as_tensor(t), x) * halved()(v, x, s, t)
        ),
    },
)
def semigroup_target(s, t, shape, dtype=SINGLE):
    """Row by row: the displacement after two steps, over the time."""
    v, x, rows = Average(dtype), states(13, *shape, dtype=dtype), []
    for k, (a, b) in enumerate(zip(*(torch.as_tensor(time).double().expand(len(x)) for time in (s, t)))):
        start = x[k : k + 1].double()
        exact = Average(DOUBLE)
        exact.weights = v.weights.double()
        state = start
        for low, high in (a, a + (b - a) / 2), (a + (b - a) / 2, b):
            state = state + (high - low) * exact(state, low, high)
        rows.append((state - start) / (b - a))
    return Case("the target", (v, x, s, t), torch.cat(rows).detach().to(dtype))


def consistent(
    stop=Tensor.detach,
    weigh=lambda error, rest: error / rest,
    ahead=lambda u, x, s, h: x + h * u(x, s),
    later=lambda s, h: s + h,
    field=None,
    total=mean_square,
    jump=lambda v, x, s: x + gap(s, torch.ones_like(s), x) * v(x, s, torch.ones_like(s)),
):
    """A consistency loss without a stop, with another weight, another state or time ahead, another f or norm."""

    def answer(v, u, x, s, h):
        target = stop(jump(v, ahead(field or u, x, s, h), later(s, h)))
        return total(weigh(jump(v, x, s) - target, gap(s, torch.ones_like(s), x)))

    return answer


@lab.exercise(
    reread=("eq-consistency", "the consistency loss, above the exercise"),
    passed="neighbours on a trajectory agree about its end",
    hints=(
        "There are two states on one trajectory, x at s and one a step h later. Both jump to t = 1: how do you write "
        "such a jump with v?",
        "f(x, s) = x + (1 − s) v(x, s, 1). The target is f at x + h u(x, s) and s + h, with .detach().",
        "Divide the difference by 1 − s, in the shape that multiplies x, then square, sum over each row, and average. "
        "The time 1 for all rows is torch.ones_like(s).",
    ),
    withhold=("flow_maps.consistency_target",),
    library=lambda v, u, x, s, h: flow_maps.target_loss(
        v, flow_maps.consistency_target(v, u, x, s, h), x, s, torch.ones_like(s)
    ),
    judge=judges.loss,
    visible=[
        ((5, 3), times(5, 0.05, 0.8), 0.15),
        ((4, 1, 2, 3), torch.tensor([0.0, 0.75, 0.4, 0.62], dtype=DOUBLE), 0.25, DOUBLE),
        ((3, 2, 2, 3), torch.tensor([0.9, 0.1, 0.55]), 0.07),
        ((1, 4), times(1), 0.3),
    ],
    mistakes={said: consistent(total=total) for said, total in TOTALS.items()}
    | {
        "the gradient runs through the target too; .detach() it": consistent(stop=lambda target: target),
        "the weight is missing: divide the difference by 1 − s": consistent(weigh=lambda error, rest: error),
        "the weight is 1/(1 − s); the difference is divided before it is squared": consistent(
            weigh=lambda error, rest: error / rest.sqrt()
        ),
        "it was multiplied by 1 − s; divide": consistent(weigh=lambda error, rest: error * rest),
        "the state ahead has the time s + h, not s": consistent(later=lambda s, h: s),
        "the state of the target was not moved: it is x + h u(x, s)": consistent(ahead=lambda u, x, s, h: x),
        "the step to the state ahead has the wrong sign": consistent(ahead=lambda u, x, s, h: x - h * u(x, s)),
        "the step h is missing: the state ahead is x + h u(x, s)": consistent(ahead=lambda u, x, s, h: x + u(x, s)),
        "the field was asked at the time s + h; the step starts at s": consistent(
            ahead=lambda u, x, s, h: x + h * u(x, s + h)
        ),
        "the network's own v was used for the step; use u": lambda v, u, x, s, h: consistent(
            ahead=lambda _, x, s, h: x + h * v(x, s, s)
        )(v, u, x, s, h),
        "f is x + v; at s = 1 it has to be x: multiply v by 1 − s": consistent(
            jump=lambda v, x, s: x + v(x, s, torch.ones_like(s))
        ),
        "f is the bare v; it has to start from x": consistent(jump=lambda v, x, s: v(x, s, torch.ones_like(s))),
        "v was asked about (s, s); the jump leads to t = 1": consistent(
            jump=lambda v, x, s: x + gap(s, torch.ones_like(s), x) * v(x, s, s)
        ),
        "v was multiplied by s instead of 1 − s": consistent(
            jump=lambda v, x, s: x + coefficient(s, x) * v(x, s, torch.ones_like(s))
        ),
    },
)
def consistency_loss(shape, s, h, dtype=SINGLE):
    """As a regression of v: its target is the average velocity to the end that the neighbour names."""
    v, u, x = Average(dtype), moving(), states(14, *shape, dtype=dtype)
    losses, one = [], torch.ones(1, dtype=dtype)
    for row, time in zip(x.split(1), s.split(1)):
        ahead = row + h * u.value(row, time)
        end = ahead + (1 - time - h).reshape(-1, *[1] * (x.ndim - 1)) * v(ahead, time + h, one).detach()
        losses.append((v(row, time, one) - (end - row) / (1 - float(time))).square().sum())
    return Case(f"the loss for shape {shape}", (v, u, x, s, h), sum(losses) / len(x), weights=v.weights)


def turned(
    tangent=lambda v, u, x, s, t: (u, 1, 0),
    sign=1,
    base=lambda v, u, x, s, t: u,
    factor=gap,
    field=lambda u, x, s, t: u(x, s),
):
    """An Eulerian target with another tangent over (x, s, t), sign, first term or factor."""

    def answer(v, u, x, s, t):
        velocity = field(u, x, s, t)
        _, change = slope(v, x, s, t, tangent(v, velocity, x, s, t))
        return (base(v, velocity, x, s, t) + sign * factor(s, t, x) * change).detach()

    return answer


TURNED = {
    "the sign is minus, as in the mean flow paper (section 8), whose time runs to the noise; here it is plus": turned(
        sign=-1
    ),
    "the tangent is (u, 0, 1), as in the mean flow paper, where t moves; here x and s do: (u, 1, 0)": turned(
        lambda v, u, x, s, t: (u, 0, 1)
    ),
    "sign and tangent are those of the mean flow paper, whose time runs to the noise; here +, and (u, 1, 0)": turned(
        lambda v, u, x, s, t: (u, 0, 1), sign=-1
    ),
    "the tangent is (v, 0, 1), with the network's v; it is (u, 1, 0)": turned(
        lambda v, u, x, s, t: (v(x, s, t).detach(), 0, 1)
    ),
    "∂_s is missing: the tangent is (u, 1, 0), not (u, 0, 0)": turned(lambda v, u, x, s, t: (u, 0, 0)),
    "∇v u is missing: the tangent is (u, 1, 0), not (0, 1, 0)": turned(lambda v, u, x, s, t: (0, 1, 0)),
    "both times were moved: the tangent is (u, 1, 0), not (u, 1, 1)": turned(lambda v, u, x, s, t: (u, 1, 1)),
    "the network's v is in the tangent where u belongs": turned(lambda v, u, x, s, t: (v(x, s, t).detach(), 1, 0)),
    "the factor t − s is missing": turned(factor=lambda s, t, x: 1),
    "the factor is 1 − s; it is t − s": turned(factor=lambda s, t, x: coefficient(1 - s, x)),
    "the derivative alone came back; u is missing": turned(base=lambda v, u, x, s, t: 0),
    "the network's v stands where u belongs": turned(base=lambda v, u, x, s, t: v(x, s, t).detach()),
}


@lab.exercise(
    reread=("eq-eulerian-target", "the Eulerian target, above the exercise"),
    passed="the Eulerian equation, solved for the average velocity",
    hints=(
        "The bracket is one directional derivative of v over (x, s), as in the residual. Which direction is it?",
        "jvp of lambda x, s: v(x, s, t) at (x, s) along (u(x, s), torch.ones_like(s)) is the whole bracket.",
        "Multiply it by t − s, shaped with coefficient(t − s, x), add u(x, s), and detach.",
    ),
    withhold=("flow_maps.eulerian_target",),
    library=lambda v, u, x, s, t: flow_maps.eulerian_target(v, u, x, s, t),
    judge=stopped,
    visible=BATCHES,
    mistakes=TURNED
    | {
        FLAT: turned(factor=lambda s, t, x: for_points(t - s, x)),
        "the field was asked at the time t; the start is at s": turned(field=lambda u, x, s, t: u(x, t)),
        "the factor is t; it is t − s": turned(factor=lambda s, t, x: coefficient(t, x)),
    },
)
def eulerian_target(s, t, shape, dtype=SINGLE):
    """For an average velocity whose derivatives are known."""
    v, u, x = Average(dtype), moving(), states(15, *shape, dtype=dtype)
    velocity = u.value(x, s)
    expected = velocity + gap(s, t, x) * (v.by_s(x, s, t) + v.along(x, s, t, velocity))
    return Case("the target", (v, u, x, s, t), expected)


def arriving(
    at=lambda moved, x: moved, time=lambda s, t: t, sign=-1, tangent=(0, 0, 1), factor=gap, jump=gap, arrival=1
):
    """A Lagrangian target with the field elsewhere, another sign, tangent, factor, or length of the jump."""

    def answer(v, u, x, s, t):
        value, rate = slope(v, x, s, t, tangent)
        moved = x + jump(s, t, x) * value
        return (arrival * u(at(moved, x), time(s, t)) + sign * factor(s, t, x) * rate).detach()

    return answer


@lab.exercise(
    reread=("eq-lagrangian-target", "the Lagrangian target, above the exercise"),
    passed="the Lagrangian equation, solved for the average velocity",
    hints=(
        "Differentiate x + (t − s) v(x, s, t) with respect to t, by the product rule. Which term is v itself?",
        "jvp of lambda t: v(x, s, t) gives the value v and ∂_t v at once; the jump ends at x + (t − s) v.",
        "The target is u(x + (t − s) v, t) − (t − s) ∂_t v, with t − s in the shape of x, detached.",
    ),
    withhold=("flow_maps.lagrangian_target",),
    library=lambda v, u, x, s, t: flow_maps.lagrangian_target(v, u, x, s, t),
    judge=stopped,
    visible=BATCHES,
    mistakes={
        "the sign is plus; ∂_t v moves to the other side of the equation": arriving(sign=1),
        "the field is taken at x; it belongs where the jump ends": arriving(at=lambda moved, x: x),
        "the field is taken at the time s; the jump ends at t": arriving(time=lambda s, t: s),
        "the field is taken where the jump starts, at x and s": arriving(lambda moved, x: x, lambda s, t: s),
        "the factor t − s is missing": arriving(factor=lambda s, t, x: 1),
        FLAT: arriving(factor=lambda s, t, x: for_points(t - s, x), jump=lambda s, t, x: for_points(t - s, x)),
        "the factor is t; it is t − s": arriving(factor=lambda s, t, x: coefficient(t, x)),
        "the derivative is with respect to s; here t moves": arriving(tangent=(0, 1, 0)),
        "both times were moved; here t alone": arriving(tangent=(0, 1, 1)),
        "the field is taken at x + v; the jump is (t − s) v long": arriving(jump=lambda s, t, x: 1),
        "∂_t v is missing": arriving(sign=0),
        "the field is missing": arriving(arrival=0),
    },
)
def lagrangian_target(s, t, shape, dtype=SINGLE):
    """For an average velocity whose derivatives are known."""
    v, u, x = Average(dtype), moving(), states(16, *shape, dtype=dtype)
    moved = x + gap(s, t, x) * v(x, s, t).detach()
    expected = u.value(moved, t) - gap(s, t, x) * v.by_t(x, s, t)
    return Case("the target", (v, u, x, s, t), expected)


# --- without a teacher ------------------------------------------------------------------------------------------------


def from_data(
    target=None,
    stop=Tensor.detach,
    state=lambda z, e, s: s * z + (1 - s) * e,
    velocity=lambda z, e: z - e,
    total=mean_square,
    start=lambda s, t: s,
    anchored=None,
    shape=coefficient,
):
    """A loss on data and noise: a regression of v(x_s, s, t) on a target of v, z − ε, x, s and t.

    anchored: if given, where the target is the velocity itself, as a function of s and t.
    """

    def answer(v, z, noise, s, t):
        x, way = state(z, noise, shape(start(s, t), z)), velocity(z, noise)
        goal = stop(target(v, way, x, s, t))
        if anchored:
            goal = torch.where(coefficient(anchored(s, t), x), way, goal)
        return total(v(x, s, t) - goal)

    return answer


def against(target, v, z, noise, s, t) -> Tensor:
    """The library's regression of v at x_s on target(x_s)."""
    x = coefficient(s, z) * z + (1 - coefficient(s, z)) * noise
    return flow_maps.target_loss(v, target(x), x, s, t)


def bootstrapped(v, way, x, s, t, **others):
    """The Eulerian target, with its graph, of a velocity in place of the field."""
    _, change = slope(v, x, s, t, others.pop("tangent", lambda v, way: (way, 1, 0))(v, way))
    return others.pop("base", way) + others.pop("sign", 1) * others.pop("factor", gap)(s, t, x) * change


def mean_flow(**others):
    """Mean flow with another target, or with another part of a loss on data."""
    parts = {name: others.pop(name) for name in ("tangent", "base", "sign", "factor") if name in others}
    return from_data(lambda v, way, x, s, t: bootstrapped(v, way, x, s, t, **parts), **others)


ON_PATH = {
    FLAT: {"shape": for_points},
    "the velocity is ε − z, the way back to noise": {"velocity": lambda z, e: e - z},
    "the velocity is z; it is z − ε": {"velocity": lambda z, e: z},
    "s and 1 − s are exchanged in x_s": {"state": lambda z, e, s: (1 - s) * z + s * e},
    "the noise was subtracted from the state": {"state": lambda z, e, s: s * z - (1 - s) * e},
    "the network was shown the data z instead of x_s": {"state": lambda z, e, s: z},
    "the state was made at the time t; the jump starts at s": {"start": lambda s, t: t},
    "the gradient runs through the target too; .detach() it": {"stop": lambda target: target},
}


@lab.exercise(
    reread=("eq-mean-flow", "mean flow, above the exercise"),
    passed="the Eulerian equation from data alone, and the gradient stops at the target",
    hints=(
        "Nobody hands you u any more. Which velocity do you know for a pair of data and noise?",
        "eulerian_target(v, u, x, s, t) calls u(x, s) once: hand it a function that returns z − noise, whatever it is "
        "asked.",
        "x is s z + (1 − s) ε with s shaped by coefficient; the loss is the squared distance of v(x, s, t) to the "
        "detached target, summed over each row and averaged.",
    ),
    withhold=(),
    library=lambda v, z, noise, s, t: against(
        lambda x: flow_maps.eulerian_target(v, lambda x, s: z - noise, x, s, t), *(v, z, noise, s, t)
    ),
    judge=judges.loss,
    visible=BATCHES,
    mistakes={said: mean_flow(total=total) for said, total in TOTALS.items()}
    | {said: mean_flow(**part) for said, part in ON_PATH.items()}
    | {
        "the sign is minus: that belongs to the paper's time, which runs from data to noise; here it is plus": (
            mean_flow(sign=-1)
        ),
        "the tangent is (z − ε, 0, 1), the paper's (v, 0, 1), where t moves; here x and s do": mean_flow(
            tangent=lambda v, way: (way, 0, 1)
        ),
        "sign and tangent are those of the paper, whose time runs the other way; here +, and (z − ε, 1, 0)": mean_flow(
            tangent=lambda v, way: (way, 0, 1), sign=-1
        ),
        "∂_s is missing from the derivative": mean_flow(tangent=lambda v, way: (way, 0, 0)),
        "∇v (z − ε) is missing from the derivative": mean_flow(tangent=lambda v, way: (0, 1, 0)),
        "both times were moved; here s alone": mean_flow(tangent=lambda v, way: (way, 1, 1)),
        "the factor t − s is missing": mean_flow(factor=lambda s, t, x: 1),
        "this is flow matching: the derivative is missing": mean_flow(factor=lambda s, t, x: 0),
    },
)
def mean_flow_loss(s, t, shape, dtype=SINGLE):
    """Row by row, with derivatives by hand."""
    v, z, noise = Average(dtype), states(17, *shape, dtype=dtype), states(18, *shape, dtype=dtype)
    losses = []
    for data, e, a, b in zip(z.split(1), noise.split(1), s.split(1), t.split(1)):
        x, way = torch.lerp(e, data, float(a)), data - e
        goal = way + (float(b) - float(a)) * (v.by_s(x, a, b) + v.along(x, a, b, way))
        losses.append((v(x, a, b) - goal).square().sum())
    return Case(f"the loss for shape {shape}", (v, z, noise, s, t), sum(losses) / len(z), weights=v.weights)


def shortcut(**others):
    """A shortcut loss, with another target or another part of a loss on data."""
    part = others.pop("half", {})
    return from_data(
        lambda v, way, x, s, t: torch.enable_grad()(halves(**part))(v, x, s, t),
        anchored=others.pop("anchored", lambda s, t: s == t),
        **others,
    )


def halves(second=lambda v, x, y, s, m, t: v(y, m, t), mean=lambda a, b: (a + b) / 2, step=lambda s, m, t: m - s):
    """`halved`, with its graph."""

    def target(v, x, s, t):
        m = (s + t) / 2
        one = v(x, s, m)
        return mean(one, second(v, x, x + coefficient(step(s, m, t), x) * one, s, m, t))

    return target


EQUAL = {  # times s ≤ t, some of which are equal
    5: (torch.tensor([0.2, 0.35, 0.1, 0.0, 0.62]), torch.tensor([0.9, 0.35, 0.62, 0.0, 0.77])),
    4: (
        torch.tensor([0.2, 0.95, 0.31, 0.0], dtype=DOUBLE),
        torch.tensor([0.2, 0.95, 0.58, 1.0], dtype=DOUBLE),
    ),
    3: (torch.tensor([0.0, 0.83, 0.41]), torch.tensor([0.7, 0.83, 1.0])),
    1: (torch.tensor([0.27]), torch.tensor([0.81])),
}


@lab.exercise(
    reread=("eq-shortcut", "the shortcut loss, above the exercise"),
    passed="two of its own steps in one, and data where a step has no length",
    hints=(
        "Two kinds of rows are in the batch: those with s = t, and the others. What is each compared with?",
        "For all rows compute semigroup_target(v, x, s, t), for all rows z − ε, and choose with torch.where.",
        "The condition is s == t, in the shape of x by coefficient(s == t, x); no gradient through the target.",
    ),
    withhold=(),
    library=lambda v, z, noise, s, t: against(
        lambda x: torch.where(coefficient(s == t, x), z - noise, flow_maps.semigroup_target(v, None, x, s, t)),
        *(v, z, noise, s, t),
    ),
    judge=judges.loss,
    visible=[
        (*EQUAL[5], (5, 3)),
        (*EQUAL[4], (4, 1, 2, 3), DOUBLE),
        (*EQUAL[3], (3, 2, 2, 3)),
        (*EQUAL[1], (1, 4)),
    ],
    mistakes={said: shortcut(total=total) for said, total in TOTALS.items()}
    | {said: shortcut(**part) for said, part in ON_PATH.items()}
    | {
        "the anchor is missing: where s = t the target is z − ε": shortcut(anchored=lambda s, t: s != s),
        "all rows are compared with z − ε; where s < t the target is two steps": shortcut(anchored=lambda s, t: s == s),
        "rows whose s and t are near to each other were anchored; s = t is asked": shortcut(
            anchored=lambda s, t: t - s < 0.3
        ),
        "the rows with s = 0 were anchored; s = t is asked": shortcut(anchored=lambda s, t: s == 0),
        "the two kinds of rows are exchanged": shortcut(anchored=lambda s, t: s != t),
        "the second velocity was taken at x; the second step starts where the first ended": shortcut(
            half={"second": lambda v, x, y, s, m, t: v(x, m, t)}
        ),
        "the second step has the times (s, m) again": shortcut(half={"second": lambda v, x, y, s, m, t: v(y, s, m)}),
        "the first step was made as long as both, t − s": shortcut(half={"step": lambda s, m, t: t - s}),
        "the velocities were added; take their mean": shortcut(half={"mean": lambda a, b: a + b}),
        "the rows with s = t were left out, and the mean is over the others": lambda v, z, noise, s, t: shortcut()(
            v, z[s != t], noise[s != t], s[s != t], t[s != t]
        ),
    },
)
def shortcut_loss(s, t, shape, dtype=SINGLE):
    """Row by row: flow matching where s = t, else where two steps lead."""
    v, z, noise = Average(dtype), states(19, *shape, dtype=dtype), states(20, *shape, dtype=dtype)
    losses = []
    for data, e, a, b in zip(z.split(1), noise.split(1), s.split(1), t.split(1)):
        x, goal, state, m = torch.lerp(e, data, float(a)), data - e, None, (a + b) / 2
        if float(b) > float(a):
            state = x + float(m - a) * v(x, a, m).detach()
            state = state + float(b - m) * v(state, m, b).detach()
            goal = (state - x) / float(b - a)
        losses.append((v(x, a, b) - goal).square().sum())
    return Case(f"the loss for shape {shape}", (v, z, noise, s, t), sum(losses) / len(z), weights=v.weights)


def matching(
    difference=lambda fake, teacher: fake - teacher,
    stop=Tensor.detach,
    state=lambda x, e, t: t * x + (1 - t) * e,
    weigh=lambda t: t,
    product=lambda push, x, noisy: push * x,
    total=lambda each: each.flatten(1).sum(1).mean(),
    time=lambda t: t,
    shape=coefficient,
):
    """A distribution matching loss with another difference, stop, state, weight, product or mean."""

    def answer(teacher, fake, x, noise, t):
        own = shape(t, x)
        noisy = state(x, noise, own)
        push = stop(weigh(own) * difference(fake(noisy, time(t)), teacher(noisy, time(t))))
        return total(product(push, x, noisy))

    return answer


def frozen(answer, case):
    """A loss, its gradient in the generator, and that none reaches the two fields."""
    found = answer(*case.args)
    if isinstance(found, Tensor) and found.ndim == 0 and found.requires_grad:
        (leak,) = torch.autograd.grad(found, [case.field], allow_unused=True, retain_graph=True)
        said = "a gradient reaches the two fields; detach their difference: they only say which way to move x"
        require(leak is None or not bool(leak.any()), said)
    yield from judges.loss_of(found, case.expected, case.weights, case.what)


@lab.exercise(
    reread=("eq-distribution-matching", "the surrogate loss, above the exercise"),
    passed="a push towards where the data are denser than the samples",
    hints=(
        "Which part of the product may be differentiated: the difference of the fields, or the sample x?",
        "The noisy state is t x + (1 − t) ε; the push there is t (fake − teacher), detached.",
        "Multiply the push by x itself, not by the noisy state, sum over each row, and average.",
    ),
    withhold=(),
    library=matching(),
    judge=frozen,
    visible=[
        ((5, 3), times(5)),
        ((4, 1, 2, 3), times(4, dtype=DOUBLE), DOUBLE),
        ((3, 2, 2, 3), torch.tensor([0.0, 0.83, 1.0])),
        ((1, 4), times(1)),
    ],
    mistakes={
        FLAT: matching(shape=for_points),
        "the sign is reversed: samples are driven away from the data": matching(lambda fake, teacher: teacher - fake),
        "the fields were added": matching(lambda fake, teacher: fake + teacher),
        "the teacher alone pushes; subtract it from the fake field": matching(lambda fake, teacher: -teacher),
        "the fake field alone pushes; subtract the teacher": matching(lambda fake, teacher: fake),
        "the weight t is missing": matching(weigh=lambda t: 1),
        "the weight is 1 − t; it is t": matching(weigh=lambda t: 1 - t),
        "the weight was squared": matching(weigh=lambda t: t**2),
        "the push was multiplied by the noisy state; multiply by x": matching(
            product=lambda push, x, noisy: push * noisy
        ),
        "the fields were asked about x; they know noisy states": matching(state=lambda x, e, t: x),
        "t and 1 − t are exchanged in the noisy state": matching(state=lambda x, e, t: (1 - t) * x + t * e),
        "the fields were given the time 1 − t": matching(time=lambda t: 1 - t),
        "the mean was taken over coordinates too; sum over them": matching(total=lambda each: each.mean()),
        "the batch was summed, not averaged": matching(total=lambda each: each.sum()),
        "images are summed over axis 1 alone; flatten(1) first": matching(total=lambda each: each.sum(1).mean()),
        "images are summed over the last axis alone; flatten(1) first": matching(
            total=lambda each: each.sum(-1).mean()
        ),
        "this is ½‖x − sg[x − push]‖²: its gradient is right, and its value is not that of L, push times x": matching(
            product=lambda push, x, noisy: (x - (x - push).detach()).square() / 2
        ),
        "the difference was squared; its product with x is wanted": matching(
            product=lambda push, x, noisy: push**2 + 0 * x
        ),
    },
)
def distribution_matching_loss(shape, t, dtype=SINGLE):
    """Row by row; the samples come from a generator with two weights, once for the answer and once for the truth."""
    weights = torch.tensor([0.8, -0.3], dtype=dtype, requires_grad=True)
    x, own = (weights[0] * states(21, *shape, dtype=dtype) + weights[1] * states(22, *shape, dtype=dtype) for _ in "ab")
    noise, field = states(23, *shape, dtype=dtype), torch.tensor(0.9, dtype=dtype, requires_grad=True)
    teacher = Field(lambda x, t: field * torch.cos(1.3 * x) * (0.5 + t) + 0.2 * x.roll(1, -1))
    fake = Field(lambda x, t: field * torch.sin(x + t) - 0.4 * t * x.roll(1, -1))
    each = []
    for row, e, time in zip(own.split(1), noise.split(1), t.split(1)):
        noisy = torch.lerp(e, row.detach(), float(time))
        push = float(time) * (fake.value(noisy, time) - teacher.value(noisy, time)).detach()
        each.append((push * row).sum())
    args = teacher, fake, x, noise, t
    return Case(f"the loss for shape {shape}", args, sum(each) / len(each), weights=weights, field=field)
