"""Lab 2: probability paths, their fields and scores, and the equations that tie them together.

Truth comes from elsewhere than the formulas asked for: schedules are differentiated by autograd, fields are velocities
along the affine flow, scores are gradients of log densities of torch.distributions, posterior averages are sums over a
few data points, divergences and residuals are closed form. The one random answer is judged by the noise that can be
solved for in it.
"""

import math
from types import SimpleNamespace

import torch
from torch import Tensor
from torch import distributions as td

from fmlab import likelihood
from fmlab.checks import judges
from fmlab.checks.compare import Look, fail, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Field, Powers, states, times
from fmlab.checks.lab import Lab
from fmlab.datasets import Empirical
from fmlab.paths import GaussianPath, GeneralGaussianPath
from fmlab.schedules import VE, CondOT, Cosine, coefficient

lab = Lab("lab2")
DOUBLE = torch.float64

# --- what exercises share ---------------------------------------------------------------------------------------------

# A schedule, the times, the shape of the states, and their dtype.
PATHS = [
    (Cosine(), times(4), (4, 2)),
    (Bent(), torch.tensor(0.35), (3, 2, 2, 3)),
    (CondOT(0.1), times(3, dtype=DOUBLE), (3, 1, 3, 2), DOUBLE),
    (Powers(), 0.3, (2, 5)),
    (VE(3.0), torch.tensor([0.62]), (1, 3)),
    (CondOT(), 0.0, (2, 3)),
    (CondOT(), torch.tensor(0.98, dtype=DOUBLE), (4, 3), DOUBLE),
]
VALUES = "alpha", "beta", "alpha_dot", "beta_dot"
UNSHAPED = "values of shape (n,) multiply states of shape (n, …) as they are; coefficient(value, x) shapes them first"
ROWS_ONLY = "[:, None] shapes the values, which fits points of the plane alone; coefficient(value, x) fits all states"
FIRST_TIME = "the first time was used for all rows"
BORROWED = "√(1 − α²) was taken for β, which holds for some schedules only; use schedule.beta(t)"
CONDOT = "α = t and β = 1 − t were written in, which hold for CondOT alone; use the schedule"


def weighted(*given) -> tuple:
    """Terms of mistakes, from (*states, t, schedule): the states, α, β, α̇ and β̇ in their shape, and t and schedule."""
    *shown, t, schedule = given
    return *shown, *schedule.weights(t, shown[0]), t, schedule


def misweighted(formula) -> dict:
    """Mistakes in the weights of an answer that is formula(*states, α, β, α̇, β̇) else."""

    def answer(weights):
        return lambda *terms: formula(*terms[:-6], *weights(terms[0], *terms[-6:]))

    def each(change):
        return answer(lambda x, *terms: [change(getattr(terms[-1], name)(terms[-2])) for name in VALUES])

    return {
        UNSHAPED: each(lambda value: value),
        ROWS_ONLY: each(lambda value: value[:, None]),
        FIRST_TIME: each(lambda value: value[0]),
        BORROWED: answer(lambda x, a, b, da, db, t, s: (a, (1 - a**2) ** 0.5, da, db)),
        CONDOT: answer(lambda x, a, b, da, db, t, s: CondOT().weights(t, x)),
    }


def pair(seed: int, shape, dtype) -> tuple[Tensor, Tensor]:
    """Data points and noise."""
    return states(seed, *shape, dtype=dtype), states(seed + 1, *shape, dtype=dtype)


def of_pairs(weights: Tensor, x: Tensor) -> Tensor:
    """Weights (n, N) in the shape that multiplies values of pairs, (n, N, *shape)."""
    return weights.reshape(*weights.shape, *[1] * (x.ndim - 1))


# --- 1 · from noise to one data point ---------------------------------------------------------------------------------

# The library's schedule, and α and β as functions to differentiate.
FAMILIES = {
    "condot": (CondOT(), lambda t: t, lambda t: 1 - t),
    "cosine": (Cosine(), lambda t: torch.sin(math.pi / 2 * t), lambda t: torch.cos(math.pi / 2 * t)),
}


def values(t: Tensor, family: str) -> tuple[Tensor, ...]:
    """α, β and their derivatives, in double precision on the way."""
    (_, *functions), t64 = FAMILIES[family], t.double()
    rates = (torch.autograd.functional.jvp(f, t64, torch.ones_like(t64))[1] for f in functions)
    return tuple(value.to(t.dtype) for value in (*(f(t64) for f in functions), *rates))


def changed(family: str = "", **parts):
    """A mistake in some of α, β, α̇, β̇, in one family or in both: functions of these."""

    def mistake(t, own, *right):
        shown = dict(zip(("a", "b", "da", "db"), right))
        wrong = {name: f(SimpleNamespace(**shown)) for name, f in parts.items()} if family in ("", own) else {}
        return tuple({**shown, **wrong}.values())

    return mistake


@lab.exercise(
    reread=("eq-families", "the two families above the exercise"),
    passed="two schedules with their derivatives",
    hints=(
        "Which of the two weights rises with time, and which falls? At t = 0 there is only noise.",
        "The derivative of sin(π t/2) is π/2 cos(π t/2), by the chain rule. That of cos has a minus.",
        "For CondOT the derivatives are 1 and −1, as tensors like t: torch.ones_like(t) makes them.",
    ),
    withhold=tuple(f"schedules.{name}.{value}" for name in ("CondOT", "Cosine") for value in VALUES),
    library=lambda t, family: tuple(getattr(FAMILIES[family][0], name)(t) for name in VALUES),
    visible=[
        (family, t)
        for t in (times(4), torch.tensor([[[0.0, 0.66]], [[0.13, 1.0]]], dtype=DOUBLE), torch.tensor(0.42).double())
        for family in FAMILIES
    ],
    terms=lambda t, family: (t, family, *values(t, family)),
    mistakes={
        "α and β are exchanged": lambda t, family, a, b, da, db: (b, a, db, da),
        "the derivatives of α and β are exchanged": lambda t, family, a, b, da, db: (a, b, db, da),
        "the order should be α, β, α̇, β̇": lambda t, family, a, b, da, db: (a, da, b, db),
        "time runs backwards: α should rise from noise at t = 0 to data at t = 1": lambda t, f, *_: values(1 - t, f),
        "this is β², the variance; β is its root": changed(b=lambda w: w.b**2),
        "β = 1 − α, which holds for CondOT only": changed(b=lambda w: 1 - w.a),
        "β = √(1 − α²), which does not hold for CondOT": changed(b=lambda w: (1 - w.a**2) ** 0.5),
        "β̇ = −α̇, which holds for CondOT only": changed(db=lambda w: -w.da),
        "the sign of α̇ is wrong: α rises": changed(da=lambda w: -w.da),
        "the sign of β̇ is wrong: β falls": changed(db=lambda w: -w.db),
        "the inner derivative π/2 is missing": changed("cosine", da=lambda w: w.b, db=lambda w: -w.a),
        "the angle runs to π, not to π/2": changed("cosine", a=lambda w: 2 * w.a * w.b, b=lambda w: w.b**2 - w.a**2),
        "sine and cosine are exchanged in the derivatives": changed(
            "cosine", da=lambda w: math.pi / 2 * w.a, db=lambda w: -math.pi / 2 * w.b
        ),
        "the derivatives are multiplied by π, not by π/2": changed(
            "cosine", da=lambda w: 2 * w.da, db=lambda w: 2 * w.db
        ),
    },
)
def alpha_beta(family, t):
    names = "the weight α_t", "the weight β_t", "the derivative α̇_t", "the derivative β̇_t"
    return Case(f"of the family {family!r}", (t, family), dict(zip(names, values(t, family))))


# --- 2 · from noise to all the data -----------------------------------------------------------------------------------


class Source:
    """A function that draws data points, which are kept."""

    def __init__(self, shape):
        self.shape, self.drawn = shape, []

    def __call__(self, n) -> Tensor:
        self.drawn.append(0.4 + 1.5 * torch.randn(int(n), *self.shape, dtype=torch.float32))
        return self.drawn[-1].clone()


def sampled(answer, case) -> tuple[Tensor, Tensor]:
    """The samples of an answer, and the data points that were drawn for them."""
    source, n, *_ = case.args
    source.drawn.clear()
    x = answer(*case.args)
    require(source.drawn, "sample_data was never called; the data points come from it")
    z = torch.cat(source.drawn)
    require(len(z) > 1, "one data point was drawn for all; that gives a conditional path. Each sample needs its own")
    require(len(z) == n, f"{n} samples need {n} data points, but {len(z)} were drawn")
    judges.drawn(x, tuple(z.shape), "the tensor of samples")
    return x.detach().to(z), z


def law_of_the_path(answer, case):
    """The samples are α z + β ε, with the data points that were drawn and normal noise that is new at each call."""
    x, z = sampled(answer, case)
    *_, t, schedule = case.args
    a, b, *_ = schedule.weights(t, z)
    if not bool((b > 0).all()):
        yield Look(f"the tensor of samples at t = {float(t):g}", x, a * z)
        return
    data, found = (rows.reshape(-1, len(case.times), z[0].numel()) for rows in (z, x))
    centred, each = data - data.mean(0), judges.ERRORS / data[:, 0].numel() ** 0.5
    slopes = (centred * found).sum((0, 2)) / centred.square().sum((0, 2))
    rest = found - slopes[:, None] * data
    spreads = (rest - rest.mean(0)).square().mean((0, 2)).sqrt()
    shared = (spreads < 1e-3) & (rest.abs().amax((0, 2)) > 1e-3)
    require(not shared.any(), "all samples share one draw of the noise; each row needs its own")
    alpha, beta = schedule.alpha(case.times), schedule.beta(case.times)
    yield Look("the weight of the data in the samples", slopes, alpha, error=each)
    yield Look("the standard deviation of the noise in the samples", spreads, beta, error=each * beta)
    noise = (x - a * z) / b
    yield from judges.normal(noise)
    x, z = sampled(answer, case)
    same = torch.allclose(noise, (x - a * z) / b, atol=1e-3)
    require(not same, "two calls drew the same noise; is a seed set inside?")


@lab.exercise(
    reread=("eq-marginal-path", "the two draws, above the exercise"),
    passed="fresh data and fresh noise for each sample",
    hints=(
        "Two things are drawn: first a data point for each sample, then noise for each sample.",
        "Call sample_data(n) once, and give each of the n data points noise of its own. Mix them with weights α and β.",
        "torch.randn_like(z) draws standard normal noise in the shape of z, fresh for each row and coordinate.",
    ),
    withhold=("paths.GaussianPath.sample",),
    library=lambda sample_data, n, t, schedule: GaussianPath(schedule).sample(sample_data(n), t),
    judge=law_of_the_path,
    random=True,
    visible=[
        (Cosine(), [0.2, 0.7], (2,)),
        (Bent(), [0.8, 0.65], (1, 2, 3)),
        (CondOT(0.2), 0.45, (3,), 5001),
        (CondOT(), torch.tensor(1.0), (2,)),
        (CondOT(), 0.0, (2,)),
    ],
    terms=lambda draw, n, t, schedule: weighted(z := draw(n), torch.randn_like(z), t, schedule),
    mistakes={
        "α and β are exchanged": lambda z, e, a, b, *_: a * e + b * z,
        "β² was used; β is the standard deviation, and it multiplies the noise": lambda z, e, a, b, *_: (
            a * z + b**2 * e
        ),
        "√β was used": lambda z, e, a, b, *_: a * z + b**0.5 * e,
        "1 − α was used instead of β": lambda z, e, a, b, *_: a * z + (1 - a) * e,
        "the noise is missing: this is the mean of the path": lambda z, e, a, *_: a * z,
        "the data point is missing: this is noise alone": lambda z, e, a, b, *_: b * e,
        "β is missing in front of the noise": lambda z, e, a, *_: a * z + e,
        "α is missing in front of the data point": lambda z, e, a, b, *_: z + b * e,
        "α multiplies the whole sum": lambda z, e, a, b, *_: a * (z + b * e),
        **misweighted(lambda z, e, a, b, *_: a * z + b * e),
        "torch.rand is uniform; normal noise is torch.randn": lambda z, e, a, b, *_: a * z + b * torch.special.ndtr(e),
        "the noise is uniform, scaled to spread 1": lambda z, e, a, b, *_: a * z + b * 3**0.5 * torch.erf(e / 2**0.5),
        "a sample's coordinates share one noise": lambda z, e, a, b, *_: a * z + b * coefficient(e.flatten(1)[:, 0], z),
    },
)
def sample_marginal_path(schedule, t, shape, n=6000):
    """t: a number, a tensor of shape (), or a list of times that the rows have in turn."""
    once = torch.tensor(t) if isinstance(t, list) else torch.as_tensor(t, dtype=torch.float32).reshape(1)
    t = once.repeat(n // len(once)) if isinstance(t, list) else t
    return Case("the tensor of samples", (Source(shape), n, t, schedule), times=once)


# --- 3 · a field for one data point -----------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-field", "the conditional vector field, above the exercise"),
    passed="the velocity of the conditional flow",
    hints=(
        "A sample moves with the velocity α̇ z + β̇ ε. What is ε, if all you know is x and z?",
        "ε = (x − α z)/β. Put it into the velocity, or use the field above the exercise, where the terms are sorted.",
        "All four coefficients are functions of t; each needs coefficient(…, x) before it multiplies.",
    ),
    withhold=("paths.GaussianPath.vector_field", "conversions.convert"),
    library=lambda x, z, t, schedule: GaussianPath(schedule).vector_field(x, z, t),
    visible=[*PATHS, (CondOT(), 1 - 2**-9, (1, 5), DOUBLE)],
    terms=weighted,
    mistakes={
        "it divides by α, which is 0 at t = 0": lambda x, z, a, b, da, db, *_: da * a / a * z + db / b * (x - a * z),
        "this is z − x, without the time that is left": lambda x, z, *_: z - x,
        "x was taken for the noise: this is α̇ z + β̇ x": lambda x, z, a, b, da, db, *_: da * z + db * x,
        "the term −(β̇/β) α z is missing": lambda x, z, a, b, da, db, *_: da * z + db / b * x,
        "the term −(β̇/β) α z has the wrong sign": lambda x, z, a, b, da, db, *_: da * z + db / b * (x + a * z),
        "β̇ was not divided by β": lambda x, z, a, b, da, db, *_: da * z + db * (x - a * z),
        "the fraction β̇/β is upside down": lambda x, z, a, b, da, db, *_: da * z + b / db * (x - a * z),
        "β̇ was divided by β²": lambda x, z, a, b, da, db, *_: da * z + db / b**2 * (x - a * z),
        "α and β are exchanged": lambda x, z, a, b, da, db, *_: db * z + da / a * (x - b * z),
        "x and z are exchanged": lambda x, z, a, b, da, db, *_: da * x + db / b * (z - a * x),
        "α is missing in the term (β̇/β) α z": lambda x, z, a, b, da, db, *_: da * z + db / b * (x - z),
        "α stands where α̇ belongs": lambda x, z, a, b, da, db, *_: a * z + db / b * (x - a * z),
        "parentheses are missing around α̇ − (β̇/β) α": lambda x, z, a, b, da, db, *_: da - db / b * (a * z - x),
        "only the part with x is there: the term with z is missing": lambda x, z, a, b, da, db, *_: db / b * x,
        "this is the conditional score, not the field": lambda x, z, a, b, *_: -(x - a * z) / b**2,
        "the sign is reversed: it points away from data": lambda x, z, a, b, da, db, *_: db / b * (a * z - x) - da * z,
        "β̇/β was taken for −α α̇/(1 − α²), which holds for some schedules only": lambda x, z, a, b, da, *_: (
            da * z - a * da / (1 - a**2) * (x - a * z)
        ),
        **misweighted(lambda x, z, a, b, da, db: da * z + db / b * (x - a * z)),
    },
)
def conditional_vector_field(schedule, t, shape, dtype=torch.float32):
    """A state made of known data and noise: the field there is the velocity of that sample."""
    z, noise = pair(53, shape, dtype)
    a, b, da, db = schedule.weights(t, z)
    return Case(f"the field for shape {shape}", (a * z + b * noise, z, t, schedule), da * z + db * noise)


@lab.exercise(
    reread=("eq-general", "the field of any Gaussian path, above the exercise"),
    passed="move with the mean, shrink at the rate of the spread",
    hints=(
        "A sample is μ + s ε. How fast does it move while ε stays as it is?",
        "Its velocity is μ̇ + ṡ ε. Which ε belongs to the position x?",
        "ε = (x − μ)/s. The coefficients are in shape already.",
    ),
    withhold=("paths.GeneralGaussianPath.vector_field",),
    library=lambda x, mean, scale, mean_dot, scale_dot: GeneralGaussianPath(
        lambda z, t: mean + t * mean_dot, lambda z, t: scale + t * scale_dot
    ).vector_field(x, x, 0.0),
    visible=[
        ((5, 2), (5, 1), 0.3),
        ((3, 2, 2, 3), (3, 1, 1, 1), 0.6, DOUBLE),
        ((4, 1), (), 1.4),
        ((1, 3), (1, 3), 0.002, DOUBLE),
    ],
    mistakes={
        "the mean was not subtracted: (ṡ/s) x instead of (ṡ/s)(x − μ)": lambda x, m, s, dm, ds: ds / s * x + dm,
        "parentheses are missing: (ṡ/s) x − μ instead of (ṡ/s)(x − μ)": lambda x, m, s, dm, ds: ds / s * x - m + dm,
        "the motion μ̇ of the mean is missing": lambda x, m, s, dm, ds: ds / s * (x - m),
        "the fraction is upside down: s/ṡ instead of ṡ/s": lambda x, m, s, dm, ds: s / ds * (x - m) + dm,
        "ṡ was not divided by s": lambda x, m, s, dm, ds: ds * (x - m) + dm,
        "ṡ was divided by s²": lambda x, m, s, dm, ds: ds / s**2 * (x - m) + dm,
        "ṡ is missing: the rate is ṡ/s": lambda x, m, s, dm, ds: (x - m) / s + dm,
        "μ was added where μ̇ belongs": lambda x, m, s, dm, ds: ds / s * (x - m) + m,
        "μ̇ was subtracted": lambda x, m, s, dm, ds: ds / s * (x - m) - dm,
        "the rate multiplies μ̇ too": lambda x, m, s, dm, ds: ds / s * (x - m + dm),
        "μ̇ was subtracted from x instead of μ": lambda x, m, s, dm, ds: ds / s * (x - dm) + dm,
        "μ − x stands where x − μ belongs": lambda x, m, s, dm, ds: ds / s * (m - x) + dm,
        "only the motion of the mean is there": lambda x, m, s, dm, ds: dm.clone(),
        "this is −(x − μ)/s², the score": lambda x, m, s, dm, ds: -(x - m) / s**2,
    },
)
def general_vector_field(shape, scale_shape, scale, dtype=torch.float32):
    """As for the field of one data point, where mean and spread move on their own. scale: the least spread."""
    z, noise = pair(55, shape, dtype)
    mean, mean_dot, draw = 0.6 * z + 0.3 * z.flip(1), z - 0.4 * z.flip(1), states(57, *scale_shape, dtype=dtype)
    scale, scale_dot = scale * (1 + draw.abs()), -0.7 + 0.3 * draw
    args = mean + scale * noise, mean, scale, mean_dot, scale_dot
    return Case(f"the field for shape {shape}", args, mean_dot + scale_dot * noise)


# --- 4 · the field of all the data ------------------------------------------------------------------------------------


def halves(x: Tensor, t, m: float) -> tuple:
    """Terms of mistakes: x, t, m, β = 1 − t, the argument m t x/β² of the tanh, and E[z | x]."""
    b = 1 - t
    a = m * t * x / b**2
    return x, t, m, b, a, m * torch.tanh(a)


@lab.exercise(
    reread=("eq-two-points", "the three steps above the exercise"),
    passed="a tanh: far from the middle one data point is nearly certain",
    hints=(
        "Bayes' rule: p(+m | x) is p_t(x | +m), divided by p_t(x | +m) + p_t(x | −m). Write out both exponents.",
        "In the exponents, x² and t² m² are the same for both points and cancel. What is left is ± m t x/(1 − t)².",
        "E[z | x] = m (e^a − e^−a)/(e^a + e^−a) with a = m t x/(1 − t)². Which function is that? The field of a single "
        "point, (z − x)/(1 − t), is linear in z: put E[z | x] in for z.",
    ),
    withhold=("marginals.EmpiricalMarginal.vector_field",),
    library=lambda x, t, m: (
        GaussianPath(CondOT())
        .marginal(Empirical(torch.tensor([[m], [-m]], dtype=x.dtype)))
        .vector_field(x[:, None], t)[:, 0]
    ),
    visible=[
        (1.3, times(4), 4),
        (0.6, 0.35, 3),
        (2.1, torch.tensor(0.7, dtype=DOUBLE), 5, DOUBLE),
        (1.7, 0.0, 3),
        (0.9, torch.tensor([0.62]), 1),
        (1.4, torch.tensor(0.98), 4),
    ],
    terms=halves,
    mistakes={
        "this is E[z | x]; the field is (E[z | x] − x)/(1 − t)": lambda x, t, m, b, a, d: d,
        "the division by 1 − t is missing": lambda x, t, m, b, a, d: d - x,
        "x was not subtracted from E[z | x]": lambda x, t, m, b, a, d: d / b,
        "the sign is reversed": lambda x, t, m, b, a, d: (x - d) / b,
        "the probabilities of +m and −m are exchanged": lambda x, t, m, b, a, d: (-d - x) / b,
        "the variance (1 − t)² is missing in the exponents": lambda x, t, m, b, a, d: (
            (m * torch.tanh(a * b**2) - x) / b
        ),
        "1 − t was not squared in the exponents": lambda x, t, m, b, a, d: (m * torch.tanh(a * b) - x) / b,
        "the argument of tanh is twice too large": lambda x, t, m, b, a, d: (m * torch.tanh(2 * a) - x) / b,
        "the argument of tanh is only half of what it should be": lambda x, t, m, b, a, d: (
            (m * torch.tanh(a / 2) - x) / b
        ),
        "m is missing in front of the tanh: the data are ±m, not ±1": lambda x, t, m, b, a, d: (torch.tanh(a) - x) / b,
        "m is missing in the exponents: the noise is centred at ±t m": lambda x, t, m, b, a, d: (
            (m * torch.tanh(a / m) - x) / b
        ),
        "t is missing in the exponents: the noise is centred at ±t m, not at ±m": lambda x, t, m, b, a, d: (
            (m * torch.tanh(m * x / b**2) - x) / b
        ),
        "the point −m was left out: this is m p(+m | x), not m p(+m | x) − m p(−m | x)": lambda x, t, m, b, a, d: (
            (m * torch.sigmoid(2 * a) - x) / b
        ),
        "both data points count the same everywhere; their probabilities depend on x": lambda x, t, m, b, a, d: -x / b,
        "this is the field of the nearer data point alone": lambda x, t, m, b, a, d: (m * torch.sign(x) - x) / b,
        "E[z | x] was multiplied by t: the velocity (z − x)/(1 − t) points to z, not to t z": (
            lambda x, t, m, b, a, d: (t * d - x) / b
        ),
        "this is the score, (t E[z | x] − x)/(1 − t)²": lambda x, t, m, b, a, d: (t * d - x) / b**2,
        "close to t = 1 the exponentials round to 0 or overflow, and the quotient is nan; torch.tanh is never nan": (
            lambda x, t, m, b, a, d: (_quotient(x, t, m, b) - x) / b
        ),
        FIRST_TIME: lambda x, t, m, *_: (halves(x, t[0], m)[-1] - x) / (1 - t[0]),
    },
)
def two_point_field(m, t, n, dtype=torch.float32):
    """States on both sides of the middle; the average velocity from the two normal densities."""
    x, t64 = (0.5 + 0.4 * m) * states(86, n, dtype=dtype), torch.as_tensor(t).double()
    z = torch.tensor([m, -m], dtype=DOUBLE)
    time = t64.expand(n)[:, None]
    logs = td.Normal(time * z, (1 - time).expand(n, 2)).log_prob(x.double()[:, None])
    expected = (logs.softmax(1) * (z - x.double()[:, None]) / (1 - time)).sum(1)
    return Case(f"the field at {n} places", (x, t, m), expected.to(dtype))


def _quotient(x, t, m, b):
    """E[z | x] from the densities as they stand."""
    right, left = (torch.exp(-((x - z) ** 2) / (2 * b**2)) for z in (t * m, -t * m))
    return m * (right - left) / (right + left)


def exponents(x: Tensor, data: Tensor, schedule, t) -> Tensor:
    """log p_t(x | z_i) up to a constant of x, pair by pair: (n, N)."""
    alpha, beta = (coefficient(value, x).to(x).expand_as(x) for value in (schedule.alpha(t), schedule.beta(t)))
    rows = [torch.stack([td.Normal(a * z, b).log_prob(row).sum() for z in data]) for row, a, b in zip(x, alpha, beta)]
    return torch.stack(rows)


def among(seed: int, schedule, t, shape, dtype, count: int, spread: float | None = None) -> tuple[Tensor, Tensor]:
    """States, and data points that are near enough to each other (or `spread`) for more than one to be likely."""
    z, noise = pair(seed, shape, dtype)
    a, b, *_ = schedule.weights(t, z)
    spread = min(1.0, 2 * float(b.min())) if spread is None else spread
    data = 0.7 + spread * states(seed + 2, count, *shape[1:], dtype=dtype)
    return a * (0.7 + spread * z) + 0.6 * b * noise, data


def squares(x: Tensor, data: Tensor, alpha) -> Tensor:
    """‖x − α z‖² for each state and data point: (n, N)."""
    x = x[:, None]
    return (x - coefficient(alpha, x) * data).flatten(2).square().sum(2)


def bayes(d: Tensor, beta) -> Tensor:
    """Posterior weights from squared distances."""
    return (-d / (2 * beta**2)).softmax(1)


def likely(x: Tensor, data: Tensor, t, schedule) -> tuple:
    """Terms of mistakes: squared distances, exponents, α and β as columns, and what was given."""
    a, b = (torch.as_tensor(value).to(x).reshape(-1, 1) for value in (schedule.alpha(t), schedule.beta(t)))
    d = squares(x, data, a)
    return d, -d / (2 * b**2), a, b, x, data, t


@lab.exercise(
    reread=("eq-posterior", "Bayes' rule, above the exercise"),
    passed="the probability of each data point, given the state",
    hints=(
        "Bayes' rule with equal priors: the weights are the densities p_t(x | z_i), divided by their sum.",
        "The exponents are minus the squared distances of x and α z_i, over 2 β². Their softmax is what you want.",
        "Make a table (n, N) of exponents: differences by x[:, None], flatten(2), squares, sum(2). Softmax in dim=1.",
    ),
    withhold=("marginals.EmpiricalMarginal.posterior_weights",),
    library=lambda x, data, t, schedule: GaussianPath(schedule).marginal(Empirical(data)).posterior_weights(x, t),
    visible=[*PATHS, (CondOT(), torch.tensor(0.999), (3, 2), torch.float32, 4, 1.0)],
    terms=likely,
    mistakes={
        "the weights were normalised over the states, not over the data points": lambda d, e, *_: e.softmax(0),
        "normalised over the whole table; each row sums to 1": lambda d, e, *_: e.flatten().softmax(0).reshape(e.shape),
        "the table is transposed; each state has a row, each data point a column": lambda d, e, *_: e.softmax(1).T,
        "the weights were not normalised": lambda d, e, *_: e.exp(),
        "these are logarithms of the weights": lambda d, e, *_: e.log_softmax(1),
        "these are the exponents, before the softmax": lambda d, e, *_: e,
        "the sign is reversed: far data points got the most weight": lambda d, e, *_: (-e).softmax(1),
        "only the likeliest data point got any weight": lambda d, e, *_: (e == e.amax(1, keepdim=True)).to(e),
        "all exponentials rounded to 0, and 0/0 is nan; use a softmax": lambda d, e, *_: e.exp() / e.exp().sum(1, True),
        "all exponentials rounded to 0; use a softmax": lambda d, e, *_: e.exp() / (e.exp().sum(1, True) + 1e-8),
        "the factor ½ is missing in the exponent": lambda d, e, a, b, *_: bayes(2 * d, b),
        "parentheses are missing: 2 β² as a whole should be below": lambda d, e, a, b, *_: bayes(d, 1 / b),
        "β was not squared": lambda d, e, a, b, *_: bayes(d, b**0.5),
        "β is missing in the exponent": lambda d, e, *_: bayes(d, 1),
        "the distance was not squared": lambda d, e, a, b, *_: bayes(d**0.5, b),
        "squares were averaged over the coordinates, not summed": lambda d, e, a, b, x, *_: bayes(d / x[0].numel(), b),
        "α is missing: noise is centred at α z, not at z": lambda d, e, a, b, x, z, t: bayes(squares(x, z, 1), b),
        "α multiplies x, not the data": lambda d, e, a, b, x, z, t: bayes(squares(coefficient(a, x) * x, z, 1), b),
        "α and β are exchanged": lambda d, e, a, b, x, z, t: bayes(squares(x, z, b), a),
        CONDOT: lambda d, e, a, b, x, z, t: likely(x, z, t, CondOT())[1].softmax(1),
        BORROWED: lambda d, e, a, b, *_: bayes(d, (1 - a**2) ** 0.5),
        UNSHAPED: lambda d, e, a, b, *_: bayes(d, b[:, 0]),
    },
)
def posterior_weights(schedule, t, shape, dtype=torch.float32, count=3, spread=None):
    """States near several data points, or, with a spread, so far from all that exponentials round to 0."""
    x, data = among(58, schedule, t, shape, dtype, count, spread)
    expected = exponents(x, data, schedule, t).softmax(1)
    return Case(f"the table of weights for states of shape {shape}", (x, data, t, schedule), expected)


def pulling(x: Tensor, z: Tensor, t) -> Tensor:
    """A conditional field that is not linear in z. Fails unless x and z are pairs with times that fit."""
    t = torch.as_tensor(t).to(x)
    if x.shape != z.shape:
        fail(f"field(x, z, t) needs pairs, x and z of one shape; found {tuple(x.shape)} and {tuple(z.shape)}")
    if t.ndim and t.shape != x.shape[:1]:
        fail(f"field(x, z, t) was asked about {len(x)} pairs with {tuple(t.shape)} times; each needs that of its state")
    return torch.cos(z) * z - coefficient(t, x) ** 2 * x * z**2


def velocities(field, x, data, t) -> Tensor:
    """The field at all states and data points: (n, N, *shape)."""
    return torch.stack([field(x, z.expand_as(x), t) for z in data], 1)


@lab.exercise(
    reread=("eq-marginal-field", "the marginal field, above the exercise"),
    passed="the posterior average of the velocities",
    hints=(
        "It is a weighted mean of N velocities. Where do they come from, and which weight belongs to which?",
        "For each data point, ask the field about all states paired with it: field(x, z.expand_as(x), t).",
        "Multiply that by column i of the weights, brought into shape with coefficient(…, x), and add up over i.",
    ),
    withhold=("marginals.EmpiricalMarginal.vector_field",),
    library=lambda x, data, t, weights, field: (of_pairs(weights, x) * velocities(field, x, data, t)).sum(1),
    visible=[
        (times(4), (4, 2), 3),
        (torch.tensor(0.35), (3, 2, 2, 3), 4),
        (times(3, dtype=DOUBLE), (3, 1, 3, 2), 2, DOUBLE),
        (0.8, (1, 3), 5),
        (torch.tensor([0.62]), (1, 2), 3),
    ],
    terms=lambda x, data, t, weights, u: (of_pairs(weights, x), velocities(u, x, data, t), x, data, t, u),
    mistakes={
        "the weights were not used: this is the plain mean over the data": lambda w, v, *_: v.mean(1),
        "the velocities were added up without weights": lambda w, v, *_: v.sum(1),
        "it was divided by the number of data points; the weights sum to 1 already": lambda w, v, *_: (w * v).mean(1),
        "only the likeliest data point was used": lambda w, v, *_: ((w == w.amax(1, keepdim=True)) * v).sum(1),
        "the field was asked once, at the average data point; that is right only if it is linear in z": (
            lambda w, v, x, z, t, u: u(x, (w * z).sum(1), t)
        ),
        "the weights were squared": lambda w, v, *_: (w**2 * v).sum(1),
        "a softmax of the weights was used; they are probabilities": lambda w, v, *_: (w.softmax(1) * v).sum(1),
        "this is the average data point, not a velocity": lambda w, v, x, z, *_: (w * z).sum(1),
        "the last data point was left out": lambda w, v, *_: (w * v)[:, :-1].sum(1),
        "the first data point was left out": lambda w, v, *_: (w * v)[:, 1:].sum(1),
        "only the last data point was used": lambda w, v, *_: (w * v)[:, -1],
        "the first state's weights were used for all": lambda w, v, *_: (w[:1] * v).sum(1),
        "x and z are exchanged in field(x, z, t)": lambda w, v, x, z, t, u: (
            w * velocities(lambda x, z, t: u(z, x, t), x, z, t)
        ).sum(1),
        FIRST_TIME: lambda w, v, x, z, t, u: (w * velocities(u, x, z, t[0])).sum(1),
        UNSHAPED: lambda w, v, x, z, *_: sum(w[:, i].flatten() * v[:, i] for i in range(len(z))),
        ROWS_ONLY: lambda w, v, x, z, *_: sum(w[:, i].reshape(-1, 1) * v[:, i] for i in range(len(z))),
    },
)
def marginal_vector_field(t, shape, count, dtype=torch.float32):
    x, data = states(59, *shape, dtype=dtype), states(60, count, *shape[1:], dtype=dtype)
    w = states(61, len(x), count, dtype=dtype).softmax(1)
    moments = torch.cos(data) * data, data**2  # of which a velocity is linear
    first, second = (torch.einsum("nk,k...->n...", w, moment) for moment in moments)
    expected = first - coefficient(torch.as_tensor(t).to(x), x) ** 2 * x * second
    return Case(f"the field for shape {shape}", (x, data, t, w, pulling), expected)


# --- 5 · why averaging is right ---------------------------------------------------------------------------------------


class Stirring(Field):
    """t² M x + ½ (Σ_i x_i) x² + cos ω t x, a field that treats no two coordinates alike, nor x and t; its divergence.

    Where ω is large, differences over short distances are not derivatives.
    """

    def __init__(self, seed: int, d: int, dtype, omega: float = 1.0):
        self.matrix, self.omega = states(seed, d, d, dtype=dtype), omega
        super().__init__(
            lambda x, t: t**2 * x @ self.matrix.T.to(x) + x.sum(1, keepdim=True) / 2 * x**2 + torch.cos(omega * t * x)
        )

    def divergence(self, x, t) -> Tensor:
        t = coefficient(torch.as_tensor(t).to(x), x)
        terms = x.sum(1, keepdim=True) * x + x**2 / 2 - self.omega * t * torch.sin(self.omega * t * x)
        return (t**2 * self.matrix.trace() + terms.sum(1, keepdim=True))[:, 0]


def jacobian(u, x: Tensor, t) -> tuple:
    """Terms of mistakes: ∂u^i/∂x_j for each row, (n, d, d), its diagonal, (n, d), and what was given."""
    x = x.detach().requires_grad_()
    values = u(x, t)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    full = torch.stack(rows, 1)
    return full, full.diagonal(dim1=1, dim2=2), u, x.detach(), t


@lab.exercise(
    reread=("eq-divergence", "the divergence, at the start of section 5"),
    passed="the net outflow, exact to rounding",
    hints=(
        "Of the Jacobian ∂u^i/∂x_j of each row, which entries does the divergence need?",
        "The gradient of u(x, t)[:, i].sum() with respect to x holds row i of every Jacobian. Keep column i of it.",
        "Let x record first: x.detach().requires_grad_(). Evaluate u once, and keep the graph between the d gradients.",
    ),
    withhold=("likelihood.divergence",),
    library=likelihood.divergence,
    visible=[
        (62, times(5), (5, 2)),
        (63, torch.tensor(0.35, dtype=DOUBLE), (4, 3), DOUBLE, 170.0),
        (64, 0.8, (1, 5)),
        (65, torch.tensor([0.62, 1.0, 0.0]), (3, 1)),
    ],
    terms=jacobian,
    mistakes={
        "the whole Jacobian was summed; the divergence takes ∂u^i/∂x_j for i = j only": lambda J, D, *_: J.sum((1, 2)),
        "u(x, t).sum() was differentiated; that sums over i, in a column for each j": lambda J, D, *_: J.sum(1),
        "the result has a column for each coordinate; the divergence is their sum": lambda J, D, *_: D,
        "one number came back; each state has a divergence of its own, so do not add them up": lambda J, D, *_: D.sum(),
        "only the first coordinate was differentiated": lambda J, D, *_: D[:, 0],
        "only the last coordinate was differentiated": lambda J, D, *_: D[:, -1],
        "only the first two coordinates were differentiated": lambda J, D, *_: D[:, :2].sum(1),
        "the terms were averaged over the coordinates, not summed": lambda J, D, *_: D.mean(1),
        "the entries ∂u^i/∂x_j with i ≠ j were summed": lambda J, D, *_: J.sum((1, 2)) - D.sum(1),
        "this is the curl: ∂u²/∂x_1 − ∂u¹/∂x_2": lambda J, D, *_: J[:, 1, 0] - J[:, 0, 1],
        "this is the sum of the components, without a derivative": lambda J, D, u, x, t: u(x, t).sum(1),
        "the sign is reversed": lambda J, D, *_: -D.sum(1),
        FIRST_TIME: lambda J, D, u, x, t: jacobian(u, x, t[0])[1].sum(1),
    },
)
def divergence(seed, t, shape, dtype=torch.float32, omega=1.0):
    x, u = states(seed, *shape, dtype=dtype), Stirring(seed + 1, shape[1], dtype, omega)
    return Case(f"the divergence for x of shape {shape}", (u, x, t), u.divergence(x, t))


class Drifting:
    """The path N(t m, v I), of which all is closed form: density, score, and what a field does to it."""

    v = 0.7

    def __init__(self, seed: int, d: int, dtype):
        self.m = states(seed, d, dtype=dtype)
        scale = (2 * math.pi * self.v) ** (d / 2)
        self.density = Field(lambda x, t: torch.exp(-(x - t * self.m.to(x)).square().sum(1) / (2 * self.v)) / scale)
        self.score = Field(lambda x, t: (t * self.m.to(x) - x) / self.v)

    def change(self, x, t) -> Tensor:
        """∂_t p = −p m · ∇ log p."""
        return -self.density.value(x, t) * (self.score.value(x, t) @ self.m)

    def outflow(self, u: Stirring, x, t) -> Tensor:
        """div(p u) = p (div u + u · ∇ log p)."""
        flow = (u.value(x, t) * self.score.value(x, t)).sum(1)
        return self.density.value(x, t) * (u.divergence(x, t) + flow)

    def laplacian(self, x, t) -> Tensor:
        """Δp = p (‖∇ log p‖² − d/v)."""
        return self.density.value(x, t) * (self.score.value(x, t).square().sum(1) - x.shape[1] / self.v)


def flow_of(density, u, x, t) -> Tensor:
    """div(p u), if density(x, t) has the shape that multiplies u."""
    return likelihood.divergence(lambda x, t: density(x, t) * u(x, t), x, t)


def balance(density, u, x, t) -> tuple:
    """Terms of mistakes: ∂_t p, div(p u), p and div u, and what was given."""
    s = t.detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, s).sum(), s)
    flow = flow_of(lambda x, t: density(x, t)[:, None], u, x, t)
    return change, flow, density(x, t), likelihood.divergence(u, x, t), density, u, x, t


@lab.exercise(
    reread=("eq-continuity", "the continuity equation, above the exercise"),
    passed="the density changes by what flows in and out",
    hints=(
        "Two terms: how the density changes in time, and what flows out. Each is a derivative.",
        "For ∂_t p, let a copy of t record, and take the gradient of density(x, t).sum() with respect to it.",
        "What flows is the field density(x, t)[:, None] * u(x, t), a function of (x, t). Take its divergence.",
    ),
    withhold=("likelihood.continuity_residual",),
    library=likelihood.continuity_residual,
    visible=[(70, (5, 2)), (71, (3, 3), DOUBLE), (72, (1, 1), DOUBLE), (73, (4, 1))],
    terms=balance,
    mistakes={
        "the time derivative is missing": lambda c, f, p, div, *_: f,
        "div(p u) is missing": lambda c, f, p, div, *_: c,
        "div(p u) was subtracted; on the left-hand side it is added": lambda c, f, p, div, *_: c - f,
        "the sign of the whole left-hand side is reversed": lambda c, f, p, div, *_: -c - f,
        "div(p u) was replaced by p div u: the density changes in space too": lambda c, f, p, div, *_: c + p * div,
        "the density is missing: div u instead of div(p u)": lambda c, f, p, div, *_: c + div,
        "the logarithm of the density was differentiated in time": lambda c, f, p, div, *_: c / p + f,
        "log p stands for p in both terms": lambda c, f, p, div, *_: c / p + p.log() * div + f / p - div,
        "everything was divided by p": lambda c, f, p, div, *_: (c + f) / p,
        "only u · ∇p is there; p div u is missing": lambda c, f, p, div, *_: c + f - p * div,
        "the time derivatives of all rows were added up; each row has its own": lambda c, f, p, div, *_: c.sum() + f,
        "p of shape (n,) multiplies u of shape (n, d) as it is; density(x, t)[:, None] shapes it": (
            lambda c, f, p, div, density, u, x, t: c + flow_of(density, u, x, t)
        ),
        FIRST_TIME: lambda c, f, p, div, density, u, x, t: sum(balance(density, u, x, t[:1].expand(len(x)))[:2]),
        "the absolute value was taken": lambda c, f, p, div, *_: (c + f).abs(),
        "the field was taken for the right one; where it does not fit, the residual is not 0": lambda c, *_: 0 * c,
    },
)
def continuity_residual(seed, shape, dtype=torch.float32):
    """The residual of a field that does not fit, in a path of which all is known."""
    x, t, d = 0.7 * states(seed, *shape, dtype=dtype), times(shape[0], dtype=dtype), shape[1]
    path, u = Drifting(seed + 10, d, dtype), Stirring(seed + 20, d, dtype)
    expected = path.change(x, t) + path.outflow(u, x, t)
    return Case(f"the residual for x of shape {shape}", (path.density, u, x, t), expected)


# --- 6 · the score ----------------------------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-score", "the conditional score, above the exercise"),
    passed="towards the mean, steeper the less noise",
    hints=(
        "Take the logarithm of the Gaussian density first. What is left that depends on x?",
        "Only −‖x − α z‖²/(2 β²) depends on x. What is its gradient?",
        "The 2 cancels, the minus stays, and the variance β² is below.",
    ),
    withhold=("paths.GaussianPath.score", "conversions.convert"),
    library=lambda x, z, t, schedule: GaussianPath(schedule).score(x, z, t),
    visible=PATHS,
    terms=weighted,
    mistakes={
        "the sign is missing: the score points towards the mean": lambda x, z, a, b, *_: (x - a * z) / b**2,
        "parentheses are missing: this is −x + α z/β²": lambda x, z, a, b, *_: -x + a * z / b**2,
        "parentheses are missing: this is −x − α z/β²": lambda x, z, a, b, *_: -x - a * z / b**2,
        "x and α z were added, not subtracted": lambda x, z, a, b, *_: -(x + a * z) / b**2,
        "β was not squared: this is −ε": lambda x, z, a, b, *_: -(x - a * z) / b,
        "β is missing: this is α z − x": lambda x, z, a, b, *_: a * z - x,
        "α is missing: noise is centred at α z": lambda x, z, a, b, *_: -(x - z) / b**2,
        "α and β are exchanged": lambda x, z, a, b, *_: -(x - b * z) / a**2,
        "the ½ stayed; the derivative of a square is twice its root": lambda x, z, a, b, *_: (a * z - x) / (2 * b**2),
        "the derivative was taken with respect to z": lambda x, z, a, b, *_: a * (x - a * z) / b**2,
        "this is the vector field, not the score": lambda x, z, a, b, da, db, *_: da * z + db / b * (x - a * z),
        "the log density itself came back": lambda x, z, a, b, *_: -((x - a * z) ** 2) / (2 * b**2),
        "x and z are exchanged": lambda x, z, a, b, *_: -(z - a * x) / b**2,
        "the difference was squared": lambda x, z, a, b, *_: -((x - a * z) ** 2) / b**2,
        **misweighted(lambda x, z, a, b, *_: -(x - a * z) / b**2),
    },
)
def conditional_score(schedule, t, shape, dtype=torch.float32):
    """A state whose noise is known, and the gradient of the log density there."""
    z, noise = pair(64, shape, dtype)
    a, b, *_ = schedule.weights(t, z)
    x = (a * z + b * noise).requires_grad_()
    (expected,) = torch.autograd.grad(td.Normal(a * z, b.expand_as(z)).log_prob(x).sum(), x)
    return Case(f"the score for shape {shape}", (x.detach(), z, t, schedule), expected.to(dtype))


# --- 7 · noise that changes no distribution ---------------------------------------------------------------------------


def extension(f=lambda u, s, g: u + g**2 / 2 * s, shape=coefficient):
    """A mistake in the drift: f(u, s, σ), the values at (x, t) in shapes that multiply."""
    return lambda u, score, sigma: lambda x, t: f(u(x, t), score(x, t), shape(sigma(t), x))


@lab.exercise(
    reread=("eq-extension", "the SDE extension, above the exercise"),
    passed="a drift that compensates the noise",
    hints=(
        "The field u stays. Which drift has to be added to compensate the noise?",
        "Add the score, times half of σ(t)².",
        "Return a function of (x, t). In it, bring sigma(t) into shape with coefficient(…, x) before you use it.",
    ),
    withhold=("processes.sde_extension",),
    library=extension(),
    judge=judges.function,
    visible=[(VE(1.7).beta, times(4), (4, 2)), (Bent().beta, times(3, dtype=DOUBLE), (3, 1, 2, 4), DOUBLE)],
    mistakes={
        "the factor ½ is missing": extension(lambda u, s, g: u + g**2 * s),
        "σ was not squared": extension(lambda u, s, g: u + g / 2 * s),
        "σ is missing": extension(lambda u, s, g: u + s / 2),
        "½ was squared with σ: it is ½ σ²": extension(lambda u, s, g: u + (g / 2) ** 2 * s),
        "the score was subtracted; it has to work against the noise": extension(lambda u, s, g: u - g**2 / 2 * s),
        "the field u is missing: this is Langevin dynamics": extension(lambda u, s, g: g**2 / 2 * s),
        "the score is missing": extension(lambda u, s, g: u + g**2 / 2),
        "the flow alone came back, without the score": extension(lambda u, s, g: u),
        "u and the score are exchanged": extension(lambda u, s, g: s + g**2 / 2 * u),
        "the factor multiplies u too": extension(lambda u, s, g: g**2 / 2 * (u + s)),
        "σ itself was added": extension(lambda u, s, g: u + g**2 / 2 * s + g),
        "σ was taken at time 0, not t": lambda u, s, sigma: lambda x, t: u(x, t) + sigma(0.0) ** 2 / 2 * s(x, t),
        UNSHAPED: extension(shape=lambda value, x: value),
        ROWS_ONLY: extension(shape=lambda value, x: value[:, None]),
        FIRST_TIME: extension(shape=lambda value, x: value[0]),
    },
)
def sde_extension_drift(sigma, t, shape, dtype=torch.float32):
    """The drift at these times, and at one time for all. sigma: a function of t."""
    u, score = Field(lambda x, t: torch.cos(x) + t), Field(lambda x, t: t - x**2)
    x, calls = states(68, *shape, dtype=dtype), []
    for at in (t, torch.tensor(0.35, dtype=dtype), 0.8, 0.0):
        half = coefficient(sigma(at).square().to(dtype) / 2, x)
        what = f"the drift for x of shape {shape}" + ("" if at is t else f" at t = {float(at):g}")
        calls.append((what, (x, at), torch.addcmul(u.value(x, at), score.value(x, at), half)))
    others = Field(lambda x, t: x * t), Field(lambda x, t: 1 - x), VE(0.6).beta
    return Case("the drift", (u, score, sigma), calls=calls, others=others)


def spending(density, score, drift, sigma, x, t) -> tuple:
    """Terms of mistakes: ∂_t p, div(p b), Δp, p, div of the score, ½ σ², and σ."""
    change, flow, p, *_ = balance(density, drift, x, t)
    _, laplacian, _, spread, *_ = balance(density, score, x, t)
    return change, flow, laplacian, p, spread, sigma**2 / 2, sigma


@lab.exercise(
    reread=("eq-fokker-planck", "the Fokker–Planck equation, above the exercise"),
    passed="drift and noise balance",
    hints=(
        "Δp is the divergence of ∇p. Which field is ∇p, in terms of the density and the score?",
        "∇p = p ∇log p. So drift and noise together are the divergence of p times one field.",
        "That field is the drift minus ½σ² times the score. The time derivative is that of continuity_residual.",
    ),
    withhold=("likelihood.fokker_planck_residual",),
    library=likelihood.fokker_planck_residual,
    visible=[(1.3, 80, (5, 2)), (0.6, 81, (3, 3), DOUBLE), (2.2, 82, (1, 1), DOUBLE), (0.0, 83, (4, 1))],
    terms=spending,
    mistakes={
        "the noise is missing: this is the continuity equation": lambda c, f, *_: c + f,
        "the factor ½ is missing": lambda c, f, lap, p, d, half, g: c + f - g**2 * lap,
        "σ was not squared": lambda c, f, lap, p, d, half, g: c + f - g / 2 * lap,
        "½ was squared with σ: it is ½ σ²": lambda c, f, lap, p, d, half, g: c + f - g**2 / 4 * lap,
        "the noise has the wrong sign": lambda c, f, lap, p, d, half, g: c + f + half * lap,
        "the Laplacian of log p was taken instead of that of p": lambda c, f, lap, p, d, half, g: c + f - half * d,
        "the noise lacks p ‖∇ log p‖², the other part of Δp": lambda c, f, _, p, d, half, g: c + f - half * p * d,
        "the noise lacks p div(∇ log p)": lambda c, f, lap, p, d, half, g: c + f - half * (lap - p * d),
        "the time derivative is missing": lambda c, f, lap, p, d, half, g: f - half * lap,
        "the drift is missing": lambda c, f, lap, p, d, half, g: c - half * lap,
        "div(p b) was subtracted": lambda c, f, lap, p, d, half, g: c - f - half * lap,
        "½ σ² multiplies the drift too": lambda c, f, lap, p, d, half, g: c + half * (f - lap),
        "the sign of the whole left-hand side is reversed": lambda c, f, lap, p, d, half, g: half * lap - c - f,
        "everything was divided by p": lambda c, f, lap, p, d, half, g: (c + f - half * lap) / p,
        "the drift was taken for the right one; where it does not fit, the residual is not 0": lambda c, *_: 0 * c,
        "the time derivatives of all rows were added up": lambda c, f, lap, p, d, half, g: c.sum() + f - half * lap,
    },
)
def fokker_planck_residual(sigma, seed, shape, dtype=torch.float32):
    """The residual of a drift that does not fit, in a path of which all is known."""
    x, t, d = 0.7 * states(seed, *shape, dtype=dtype), times(shape[0], dtype=dtype), shape[1]
    path, b = Drifting(seed + 10, d, dtype), Stirring(seed + 20, d, dtype)
    expected = path.change(x, t) + path.outflow(b, x, t) - sigma**2 / 2 * path.laplacian(x, t)
    return Case(f"the residual for x of shape {shape}", (path.density, path.score, b, sigma, x, t), expected)
