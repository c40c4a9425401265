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
from fmlab.distributions import Empirical
from fmlab.paths import GaussianPath, GeneralGaussianPath
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient

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
        return lambda *terms: formula(*terms[:-6], *weights(*terms[-2:], terms[0]))

    def values(t, s):
        return s.alpha(t), s.beta(t), s.alpha_dot(t), s.beta_dot(t)

    def borrowed(t, s, x):
        a, _, da, db = s.weights(t, x)
        return a, (1 - a**2) ** 0.5, da, db

    return {
        UNSHAPED: answer(lambda t, s, x: values(t, s)),
        ROWS_ONLY: answer(lambda t, s, x: [value[:, None] for value in values(t, s)]),
        FIRST_TIME: answer(lambda t, s, x: [value[0] for value in values(t, s)]),
        BORROWED: answer(borrowed),
        CONDOT: answer(lambda t, s, x: CondOT().weights(t, x)),
    }


def pair(seed: int, shape, dtype) -> tuple[Tensor, Tensor]:
    """Data points and noise."""
    return states(seed, *shape, dtype=dtype), states(seed + 1, *shape, dtype=dtype)


# --- 1 · from noise to one data point ---------------------------------------------------------------------------------

FAMILIES = {
    "condot": (lambda t: t, lambda t: 1 - t),
    "cosine": (lambda t: torch.sin(math.pi / 2 * t), lambda t: torch.cos(math.pi / 2 * t)),
    "vp": (
        lambda t: torch.exp(-0.05 * (1 - t) - 4.975 * (1 - t) ** 2),
        lambda t: (-torch.expm1(-0.1 * (1 - t) - 9.95 * (1 - t) ** 2)).sqrt(),
    ),
}
LIBRARY = {"condot": CondOT(), "cosine": Cosine(), "vp": LinearVP()}


def values_and_rates(t: Tensor, family: str) -> tuple[Tensor, ...]:
    """α, β and their derivatives, in double precision on the way."""
    functions, t64 = FAMILIES[family], t.double()
    rates = (torch.autograd.functional.jvp(f, t64, torch.ones_like(t64))[1] for f in functions)
    return tuple(value.to(t.dtype) for value in (*(f(t64) for f in functions), *rates))


NAMES = "a", "b", "da", "db"


def changed(family: str = "", **parts):
    """A mistake in some of α, β, α̇, β̇, in one family or in all: functions of these and of t, s = 1 − t and b(s)."""

    def mistake(t, own, *right):
        w = SimpleNamespace(t=t, s=1 - t, rate=0.1 + 19.9 * (1 - t), **dict(zip(NAMES, right)))
        wrong = parts if family in ("", own) else {}
        return tuple(wrong[name](w) if name in wrong else getattr(w, name) for name in NAMES)

    return mistake


@lab.exercise(
    reread=("eq-vp", "the three families, up to intro, eq. 18"),
    passed="three schedules with their derivatives",
    hints=(
        "Which of the two weights rises with time, and which falls? At t = 0 there is only noise.",
        "For VP, integrate the rate first: T(s) = 0.1 s + 9.95 s². Its derivative is b(s), and s falls as t rises.",
        "For VP, α̇ = ½ b(1 − t) α. From α² + β² = 1 follows α α̇ + β β̇ = 0, which gives β̇.",
    ),
    withhold=tuple(
        f"schedules.{family}.{value}"
        for family in ("CondOT", "Cosine", "LinearVP")
        for value in ("alpha", "beta", "alpha_dot", "beta_dot")
    ),
    library=lambda t, family: tuple(
        f(t) for s in [LIBRARY[family]] for f in (s.alpha, s.beta, s.alpha_dot, s.beta_dot)
    ),
    visible=[
        *((family, times(4)) for family in FAMILIES),
        *((family, torch.tensor([[[0.0, 0.37, 0.66]], [[0.81, 0.13, 0.999]]], dtype=DOUBLE)) for family in FAMILIES),
        *((family, torch.tensor(0.42, dtype=DOUBLE)) for family in FAMILIES),
    ],
    terms=lambda t, family: (t, family, *values_and_rates(t, family)),
    mistakes={
        "α and β are exchanged": lambda t, family, a, b, da, db: (b, a, db, da),
        "the derivatives of α and β are exchanged": lambda t, family, a, b, da, db: (a, b, db, da),
        "the order should be α, β, α̇, β̇": lambda t, family, a, b, da, db: (a, da, b, db),
        "time runs backwards: α should rise from noise at t = 0 to data at t = 1": lambda t, family, *_: (
            values_and_rates(1 - t, family)
        ),
        "this is β², the variance; β is its root": changed(b=lambda w: w.b**2),
        "β = 1 − α, which holds for CondOT only": changed(b=lambda w: 1 - w.a),
        "β = √(1 − α²), which does not hold for CondOT": changed(b=lambda w: (1 - w.a**2) ** 0.5),
        "β̇ = −α̇, which holds for CondOT only": changed(db=lambda w: -w.da),
        "this is dα/ds in the reversed time s = 1 − t: the sign is wrong": changed(da=lambda w: -w.da),
        "the sign of β̇ is wrong: β falls": changed(db=lambda w: -w.db),
        "the inner derivative π/2 is missing": changed(
            "cosine", da=lambda w: 2 / math.pi * w.da, db=lambda w: 2 / math.pi * w.db
        ),
        "the angle runs to π; at t = 1 it should be π/2": changed(
            "cosine", a=lambda w: torch.sin(math.pi * w.t), b=lambda w: torch.cos(math.pi * w.t)
        ),
        "the factor ½ in front of T is missing": changed("vp", a=lambda w: w.a**2),
        "b(s) itself stands in the exponent, not its integral T(s)": changed("vp", a=lambda w: torch.exp(-w.rate / 2)),
        "b(s) was multiplied by s, or the integral of 19.9 r lacks its ½: T(s) = 0.1 s + 19.9 s²/2": changed(
            "vp", a=lambda w: torch.exp(-w.rate * w.s / 2)
        ),
        "the rate was taken as constant, b = 20": changed("vp", a=lambda w: torch.exp(-10 * w.s)),
        "T was taken at t instead of s = 1 − t": changed("vp", a=lambda w: torch.exp(-(0.1 * w.t + 9.95 * w.t**2) / 2)),
        "the factor ½ in front of T is missing in the derivative": changed(
            "vp", da=lambda w: 2 * w.da, db=lambda w: 2 * w.db
        ),
        "b was taken at t instead of s = 1 − t": changed("vp", da=lambda w: (0.1 + 19.9 * w.t) / 2 * w.a),
        "the factor α is missing: the derivative of an exponential has it": changed("vp", da=lambda w: w.da / w.a),
        "the division by β is missing: this is β β̇": changed("vp", db=lambda w: w.b * w.db),
        "the derivative of β² was taken": changed("vp", db=lambda w: 2 * w.b * w.db),
        "the factor α is missing in β̇": changed("vp", db=lambda w: w.db / w.a),
    },
)
def alpha_beta(family, t):
    names = "the weight α_t", "the weight β_t", "the derivative α̇_t", "the derivative β̇_t"
    return Case(f"of the family {family!r}", (t, family), dict(zip(names, values_and_rates(t, family))))


@lab.exercise(
    reread=("eq-sample", "notes, eq. 16 (a sample of the path)"),
    passed="the data point fades in as the noise fades out",
    hints=(
        "The mean of the path is α_t z, its standard deviation β_t. How do you make a sample from a standard normal?",
        "Scale the noise by the standard deviation, and add the mean.",
        "Bring schedule.alpha(t) and schedule.beta(t) into shape with coefficient(…, z) before they multiply.",
    ),
    withhold=("paths.GaussianPath.interpolate", "paths.GeneralGaussianPath.interpolate"),
    library=lambda z, noise, t, schedule: GaussianPath(schedule).interpolate(z, noise, t),
    judge=judges.repeatable,
    visible=[*PATHS, (CondOT(), torch.tensor(1.0), (2, 3)), (Bent(), 1.0, (1, 2))],
    terms=weighted,
    mistakes={
        "α and β are exchanged": lambda z, e, a, b, *_: a * e + b * z,
        "β² was used; β is the standard deviation, and it multiplies the noise": lambda z, e, a, b, *_: (
            a * z + b**2 * e
        ),
        "√β was used": lambda z, e, a, b, *_: a * z + b**0.5 * e,
        "1 − α² was taken for β, which is neither β nor, for all schedules, its square": lambda z, e, a, b, *_: (
            a * z + (1 - a**2) * e
        ),
        "1 − α was used instead of β": lambda z, e, a, b, *_: a * z + (1 - a) * e,
        "the noise is missing: this is the mean of the path": lambda z, e, a, *_: a * z,
        "β is missing in front of the noise": lambda z, e, a, *_: a * z + e,
        "α is missing in front of the data point": lambda z, e, a, b, *_: z + b * e,
        "the noise was subtracted": lambda z, e, a, b, *_: a * z - b * e,
        "β multiplies the whole sum": lambda z, e, a, b, *_: b * (a * z + e),
        "α multiplies the whole sum": lambda z, e, a, b, *_: a * (z + b * e),
        "this is the velocity α̇ z + β̇ ε, not the place": lambda z, e, a, b, da, db, *_: da * z + db * e,
        **misweighted(lambda z, e, a, b, *_: a * z + b * e),
    },
)
def sample_conditional_path(schedule, t, shape, dtype=torch.float32):
    z, noise = pair(51, shape, dtype)
    a, b, *_ = schedule.weights(t, z)
    return Case(f"the sample for shape {shape}", (z, noise, t, schedule), torch.addcmul(a * z, b, noise))


# --- 2 · from noise to all the data -----------------------------------------------------------------------------------


class Source:
    """A function that draws data points, which are kept."""

    def __init__(self, shape):
        self.shape, self.drawn = shape, []

    def __call__(self, n) -> Tensor:
        self.drawn.append(0.4 + 1.5 * torch.randn(int(n), *self.shape, dtype=torch.float32))
        return self.drawn[-1].clone()


def law_of_the_path(answer, case):
    """The samples are α z + β ε, with the data points that were drawn and normal noise that is new at each call."""
    x, z = sampled(answer, case)
    *_, t, schedule = case.args
    a, b, *_ = schedule.weights(t, z)
    if not bool((b > 0).all()):
        yield Look(f"the tensor of samples at t = {float(t):g}", x, a * z)
        return
    k = len(case.times)
    slopes, spreads, each = [], [], judges.ERRORS / (z.numel() // k) ** 0.5
    for rows in (slice(i, None, k) for i in range(k)):  # of each time
        data, found = z[rows].flatten(1), x[rows].flatten(1)
        centred = data - data.mean(0)
        slopes.append((centred * found).sum() / centred.square().sum())
        rest = found - slopes[-1] * data
        spreads.append((rest - rest.mean(0)).square().mean().sqrt())
        shared = float(spreads[-1]) < 1e-3 < float(rest.abs().max())
        require(not shared, "all samples share one draw of the noise; each row needs its own")
    alpha, beta = schedule.alpha(case.times), schedule.beta(case.times)
    yield Look("the weight of the data in the samples", torch.stack(slopes), alpha, error=each)
    yield Look("the standard deviation of the noise in the samples", torch.stack(spreads), beta, error=each * beta)
    noise = (x - a * z) / b
    yield from judges.normal(noise)
    x, z = sampled(answer, case)
    same = torch.allclose(noise, (x - a * z) / b, atol=1e-3)
    require(not same, "two calls drew the same noise; is a seed set inside?")


def sampled(answer, case) -> tuple[Tensor, Tensor]:
    """The samples of an answer, and the data points that were drawn for them."""
    source, n, *_ = case.args
    source.drawn.clear()
    x = answer(*case.args)
    require(source.drawn, "sample_data was never called; the data points come from it")
    z = torch.cat(source.drawn)
    alone = "one data point was drawn for all samples; that gives a conditional path. Each needs its own"
    require(len(z) > 1, alone)
    require(len(z) == n, f"{n} samples need {n} data points, but {len(z)} were drawn")
    judges.drawn(x, tuple(z.shape), "the tensor of samples")
    return x.detach().to(z), z


@lab.exercise(
    reread=("eq-marginal-path", "notes, eq. 12 (the marginal path)"),
    passed="fresh data and fresh noise for each sample",
    hints=(
        "Two things are drawn: first a data point for each sample, then noise for each sample.",
        "Call sample_data(n) once. The rest is as in sample_conditional_path, with noise of your own.",
        "torch.randn_like(z) draws standard normal noise in the shape of z, fresh for each row and coordinate.",
    ),
    withhold=("paths.GaussianPath.sample",),
    library=lambda sample_data, n, t, schedule: GaussianPath(schedule).sample(sample_data(n), t),
    judge=law_of_the_path,
    random=True,
    visible=[
        (Cosine(), [0.25, 0.7], (2,)),
        (Bent(), [0.8, 0.65], (1, 2, 3)),
        (CondOT(0.2), 0.45, (3,)),
        (CondOT(), torch.tensor(1.0), (2,)),
        (CondOT(), 0.0, (2,)),
    ],
    terms=lambda sample_data, n, t, schedule: noised(sample_data(n), t, schedule),
    mistakes={
        "α and β are exchanged": lambda z, e, a, b, *_: b * z + a * e,
        "β² was used; β is the standard deviation": lambda z, e, a, b, *_: a * z + b**2 * e,
        "√β was used": lambda z, e, a, b, *_: a * z + b**0.5 * e,
        "1 − α was used instead of β": lambda z, e, a, b, *_: a * z + (1 - a) * e,
        "the noise is missing": lambda z, e, a, *_: a * z,
        "β is missing in front of the noise": lambda z, e, a, *_: a * z + e,
        "α is missing in front of the data point": lambda z, e, a, b, *_: z + b * e,
        "the data point is missing: this is noise alone": lambda z, e, a, b, *_: b * e,
        "the noise is uniform (torch.rand), not normal (torch.randn)": lambda z, e, a, b, *_: (
            a * z + b * torch.rand_like(z)
        ),
        "the noise is uniform, scaled to spread 1; normal noise comes from torch.randn": lambda z, e, a, b, *_: (
            a * z + b * 12**0.5 * (torch.rand_like(z) - 0.5)
        ),
        "the coordinates of a sample share their noise; each needs its own": lambda z, e, a, b, *_: (
            a * z + b * coefficient(torch.randn(len(z)), z)
        ),
        **misweighted(lambda z, e, a, b, *_: a * z + b * e),
    },
)
def sample_marginal_path(schedule, t, shape, n=6000):
    """t: a number, a tensor of shape (), or a list of times that the rows have in turn."""
    once = torch.tensor(t) if isinstance(t, list) else torch.as_tensor(t, dtype=torch.float32).reshape(1)
    t = once.repeat(n // len(once)) if isinstance(t, list) else t
    return Case("the tensor of samples", (Source(shape), n, t, schedule), times=once)


def noised(z, t, schedule) -> tuple:
    """The terms of a sample: its data point, its noise, and their weights."""
    return weighted(z, torch.randn_like(z), t, schedule)


# --- 3 · a field for one data point -----------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-field", "notes, eq. 20 (the conditional vector field)"),
    passed="the velocity of the conditional flow",
    hints=(
        "A sample moves with the velocity α̇ z + β̇ ε. What is ε, if all you know is x and z?",
        "ε = (x − α z)/β. Put it into the velocity, or use the sorted form of eq. 20.",
        "All four coefficients are functions of t; each needs coefficient(…, x) before it multiplies.",
    ),
    withhold=("paths.GaussianPath.vector_field", "conversions.convert"),
    library=lambda x, z, t, schedule: GaussianPath(schedule).vector_field(x, z, t),
    visible=[*PATHS, (CondOT(), 1 - 2**-9, (1, 5), DOUBLE)],
    terms=weighted,
    mistakes={
        "the formula divides by α, which is 0 at t = 0; it can do without": lambda x, z, a, b, da, db, *_: (
            da / a * x - (da / a - db / b) * (x - a * z)
        ),
        "this is z − x, without the time that is left": lambda x, z, *_: z - x,
        "x was taken for the noise: this is α̇ z + β̇ x": lambda x, z, a, b, da, db, *_: da * z + db * x,
        "the term −(β̇/β) α z is missing": lambda x, z, a, b, da, db, *_: da * z + db / b * x,
        "the term −(β̇/β) α z has the wrong sign": lambda x, z, a, b, da, db, *_: (da + db / b * a) * z + db / b * x,
        "β̇ was not divided by β": lambda x, z, a, b, da, db, *_: (da - db * a) * z + db * x,
        "the fraction is upside down: β/β̇ instead of β̇/β": lambda x, z, a, b, da, db, *_: (
            (da - b / db * a) * z + b / db * x
        ),
        "β̇ was divided by β²": lambda x, z, a, b, da, db, *_: (da - db / b**2 * a) * z + db / b**2 * x,
        "α and β are exchanged": lambda x, z, a, b, da, db, *_: (db - da / a * b) * z + da / a * x,
        "x and z are exchanged": lambda x, z, a, b, da, db, *_: (da - db / b * a) * x + db / b * z,
        "α is missing in the term (β̇/β) α z": lambda x, z, a, b, da, db, *_: (da - db / b) * z + db / b * x,
        "α stands where α̇ belongs": lambda x, z, a, b, da, db, *_: (a - db / b * a) * z + db / b * x,
        "parentheses are missing: only α̇ − β̇/β α multiplies z, and (β̇/β) x is added": lambda x, z, a, b, da, db, *_: (
            da - db / b * a * z + db / b * x
        ),
        "only the part with x is there: the term with z is missing": lambda x, z, a, b, da, db, *_: db / b * x,
        "this is the conditional score, not the field": lambda x, z, a, b, *_: -(x - a * z) / b**2,
        "the field points away from the data: the sign is reversed": lambda x, z, a, b, da, db, *_: (
            -(da * z + db / b * (x - a * z))
        ),
        "β̇/β was taken for −α α̇/(1 − α²), which holds for some schedules only": lambda x, z, a, b, da, *_: (
            da * z - a * da / (1 - a**2) * (x - a * z)
        ),
        **misweighted(lambda x, z, a, b, da, db: (da - db / b * a) * z + db / b * x),
    },
)
def conditional_vector_field(schedule, t, shape, dtype=torch.float32):
    """A state made of known data and noise: the field there is the velocity of that sample."""
    z, noise = pair(53, shape, dtype)
    a, b, da, db = schedule.weights(t, z)
    return Case(f"the field for shape {shape}", (a * z + b * noise, z, t, schedule), da * z + db * noise)


@lab.exercise(
    reread=("eq-general", "intro, eq. 15 (one field for every Gaussian path)"),
    passed="move with the mean, shrink at the rate of the spread",
    hints=(
        "A sample is μ + σ ε. How fast does it move while ε stays as it is?",
        "Its velocity is μ̇ + σ̇ ε. Which ε belongs to the position x?",
        "ε = (x − μ)/σ. The coefficients are in shape already.",
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
        "the mean was not subtracted: (σ̇/σ) x instead of (σ̇/σ)(x − μ)": lambda x, m, s, dm, ds: ds / s * x + dm,
        "parentheses are missing: (σ̇/σ) x − μ instead of (σ̇/σ)(x − μ)": lambda x, m, s, dm, ds: ds / s * x - m + dm,
        "the motion μ̇ of the mean is missing": lambda x, m, s, dm, ds: ds / s * (x - m),
        "the fraction is upside down: σ/σ̇ instead of σ̇/σ": lambda x, m, s, dm, ds: s / ds * (x - m) + dm,
        "σ̇ was not divided by σ": lambda x, m, s, dm, ds: ds * (x - m) + dm,
        "σ̇ was divided by σ²": lambda x, m, s, dm, ds: ds / s**2 * (x - m) + dm,
        "σ̇ is missing: the rate is σ̇/σ": lambda x, m, s, dm, ds: (x - m) / s + dm,
        "μ was added where μ̇ belongs": lambda x, m, s, dm, ds: ds / s * (x - m) + m,
        "μ̇ was subtracted": lambda x, m, s, dm, ds: ds / s * (x - m) - dm,
        "the rate multiplies μ̇ too": lambda x, m, s, dm, ds: ds / s * (x - m + dm),
        "μ̇ was subtracted from x instead of μ": lambda x, m, s, dm, ds: ds / s * (x - dm) + dm,
        "μ − x stands where x − μ belongs": lambda x, m, s, dm, ds: ds / s * (m - x) + dm,
        "only the motion of the mean is there": lambda x, m, s, dm, ds: dm.clone(),
        "this is −(x − μ)/σ², the score": lambda x, m, s, dm, ds: -(x - m) / s**2,
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


def squares(x: Tensor, data: Tensor, t, schedule) -> tuple[Tensor, ...]:
    """Terms of mistakes: x in the shape (n, 1, …), data, and α, β in that shape and as columns, t and schedule."""
    x = x[:, None]
    a, b, *_ = schedule.weights(t, x)
    return x, data, a, a.reshape(-1, 1), b.reshape(-1, 1), t, schedule


def distance(x: Tensor, data: Tensor) -> Tensor:
    """‖x − z‖² for each state and data point: (n, N)."""
    return (x - data).flatten(2).square().sum(2)


def exponent(f, distance=lambda x, data, a: distance(x, a * data)):
    """A mistake in the exponents: f(‖x − α z‖², α, β), of shapes (n, N) and (n, 1), or of another distance."""
    return lambda x, data, a, alpha, beta, *_: f(distance(x, data, a), alpha, beta).softmax(1)


def ending(f):
    """A mistake in what becomes of the exponents."""
    return lambda x, data, a, alpha, beta, *_: f(-distance(x, a * data) / (2 * beta**2))


@lab.exercise(
    reread=("eq-posterior", "Bayes' rule, above the exercise"),
    passed="which data points a state may be on its way to",
    hints=(
        "Bayes' rule with equal priors: the weights are the densities p_t(x | z_i), divided by their sum.",
        "The exponents are minus the squared distances of x and α z_i, over 2 β². Their softmax is what you want.",
        "Make a table (n, N) of exponents: differences by x[:, None], flatten(2), squares, sum(2). Softmax in dim=1.",
    ),
    withhold=("paths.EmpiricalMarginal.posterior_weights",),
    library=lambda x, data, t, schedule: GaussianPath(schedule).marginal(Empirical(data)).posterior_weights(x, t),
    visible=[
        *((*path, torch.float32)[:4] for path in PATHS),
        (CondOT(), torch.tensor(0.999), (3, 2), torch.float32, 4, 1.0),
    ],
    terms=squares,
    mistakes={
        "the weights were normalised over the states, not over the data points of each state": ending(
            lambda e: e.softmax(0)
        ),
        "the weights were normalised over the whole table; each row sums to 1": ending(
            lambda e: e.flatten().softmax(0).reshape(e.shape)
        ),
        "the table is transposed: one row for each state, one column for each data point": ending(
            lambda e: e.softmax(1).T
        ),
        "the weights were not normalised": ending(lambda e: e.exp()),
        "these are logarithms of the weights": ending(lambda e: e.log_softmax(1)),
        "these are the exponents, before the softmax": ending(lambda e: e),
        "the sign is reversed: far data points got the most weight": ending(lambda e: (-e).softmax(1)),
        "only the likeliest data point got any weight": ending(
            lambda e: torch.nn.functional.one_hot(e.argmax(1), e.shape[1]).to(e)
        ),
        "all exponentials rounded to 0 near the data, and 0/0 is no weight; use a softmax of the exponents": ending(
            lambda e: e.exp() / e.exp().sum(1, keepdim=True)
        ),
        "all exponentials rounded to 0 near the data, and so do the weights; use a softmax of the exponents": ending(
            lambda e: e.exp() / (e.exp().sum(1, keepdim=True) + 1e-8)
        ),
        "the factor ½ is missing in the exponent": exponent(lambda d, a, b: -d / b**2),
        "parentheses are missing: 2 β² as a whole should be below": exponent(lambda d, a, b: -d / 2 * b**2),
        "β was not squared": exponent(lambda d, a, b: -d / (2 * b)),
        "β is missing in the exponent": exponent(lambda d, a, b: -d / 2),
        BORROWED: exponent(lambda d, a, b: -d / (2 * (1 - a**2))),
        "the distance was not squared": exponent(lambda d, a, b: -(d**0.5) / (2 * b**2)),
        "squares were averaged over the coordinates, not summed": exponent(
            lambda d, a, b: -d / (2 * b**2), lambda x, data, a: distance(x, a * data) / x[0].numel()
        ),
        "α is missing: noise is centred at α z, not at z": exponent(
            lambda d, a, b: -d / (2 * b**2), lambda x, data, a: distance(x, data)
        ),
        "α multiplies x, not the data points": exponent(
            lambda d, a, b: -d / (2 * b**2), lambda x, data, a: distance(a * x, data)
        ),
        "α and β are exchanged": lambda x, data, a, alpha, beta, t, schedule: (
            -distance(x, schedule.weights(t, x)[1] * data) / (2 * alpha**2)
        ).softmax(1),
        CONDOT: lambda x, data, a, alpha, beta, t, schedule: ending(lambda e: e.softmax(1))(
            *squares(x[:, 0], data, t, CondOT())
        ),
        UNSHAPED: lambda x, data, a, alpha, beta, t, schedule: (
            -distance(x, a * data) / (2 * schedule.beta(t) ** 2)
        ).softmax(1),
    },
)
def posterior_weights(schedule, t, shape, dtype=torch.float32, count=3, spread=None):
    """States near several data points, or, with a spread, so far from all that exponentials round to 0."""
    x, data = among(58, schedule, t, shape, dtype, count, spread)
    expected = exponents(x, data, schedule, t).softmax(1)
    return Case(f"the table of weights for states of shape {shape}", (x, data, t, schedule), expected)


def of_pairs(x: Tensor, z: Tensor, t) -> Tensor:
    """A conditional field that is not linear in z. Fails unless x and z are pairs with times that fit."""
    t = torch.as_tensor(t).to(x)
    if x.shape != z.shape:
        fail(f"field(x, z, t) needs pairs, x and z of one shape; found {tuple(x.shape)} and {tuple(z.shape)}")
    if t.ndim and t.shape != x.shape[:1]:
        fail(f"field(x, z, t) was asked about {len(x)} pairs with {tuple(t.shape)} times; each needs that of its state")
    return torch.cos(z) * z - coefficient(t, x) ** 2 * x * z**2


def velocities(x, data, t, weights, field) -> tuple[Tensor, ...]:
    """Terms of mistakes: the weights (n, N, 1), the table of velocities (n, N, d), and what was given."""
    table = torch.stack([field(x, z.expand_as(x), t) for z in data], dim=1)
    return weights[..., None], table.flatten(2), x, data, t, field


def averaging(f):
    """A mistake in the average: f(w, velocities), of shapes (n, N, 1) and (n, N, d), gives (n, d)."""
    return lambda w, v, x, *_: f(w, v).reshape(x.shape)


@lab.exercise(
    reread=("eq-marginal-field", "notes, eq. 18 (the marginalisation trick)"),
    passed="the posterior average of the velocities",
    hints=(
        "It is a weighted mean of N velocities. Where do they come from, and which weight belongs to which?",
        "For each data point, ask the field about all states paired with it: field(x, z.expand_as(x), t).",
        "Multiply that by column i of the weights, brought into shape with coefficient(…, x), and add up over i.",
    ),
    withhold=("paths.EmpiricalMarginal.vector_field",),
    library=lambda x, data, t, weights, field: sum(
        coefficient(weight, x) * field(x, z.expand_as(x), t) for z, weight in zip(data, weights.T)
    ),
    visible=[
        (times(4), (4, 2), 3),
        (torch.tensor(0.35), (3, 2, 2, 3), 4),
        (times(3, dtype=DOUBLE), (3, 1, 3, 2), 2, DOUBLE),
        (0.8, (1, 3), 5),
        (torch.tensor([0.62]), (1, 2), 3),
    ],
    terms=velocities,
    mistakes={
        "the weights were not used: this is the plain mean over the data": averaging(lambda w, v: v.mean(1)),
        "the velocities were added up without weights": averaging(lambda w, v: v.sum(1)),
        "the result was divided by the number of data points; the weights sum to 1 already": averaging(
            lambda w, v: (w * v).mean(1)
        ),
        "only the likeliest data point was used": averaging(lambda w, v: v[torch.arange(len(v)), w[..., 0].argmax(1)]),
        "the field was asked once, at the average data point; that is right only if it is linear in z": (
            lambda w, v, x, data, t, field: field(x, (w[..., 0] @ data.flatten(1)).reshape(x.shape), t)
        ),
        "the weights were squared": averaging(lambda w, v: (w**2 * v).sum(1)),
        "a softmax was applied to the weights; they are probabilities already": averaging(
            lambda w, v: (w.softmax(1) * v).sum(1)
        ),
        "this is the average data point, not a velocity": lambda w, v, x, data, *_: (
            w[..., 0] @ data.flatten(1)
        ).reshape(x.shape),
        "the last data point was left out": averaging(lambda w, v: (w * v)[:, :-1].sum(1)),
        "the first data point was left out": averaging(lambda w, v: (w * v)[:, 1:].sum(1)),
        "only the last data point was used": averaging(lambda w, v: (w * v)[:, -1]),
        "x and z are exchanged in field(x, z, t)": lambda w, v, x, data, t, field: averaging(
            lambda w, v: (w * v).sum(1)
        )(w, torch.stack([field(z.expand_as(x), x, t) for z in data], 1).flatten(2), x),
        FIRST_TIME: lambda w, v, x, data, t, field: averaging(lambda w, v: (w * v).sum(1))(
            *velocities(x, data, t[0], w[..., 0], field)
        ),
        "the first state's weights were used for all": averaging(lambda w, v: (w[:1] * v).sum(1)),
        "weights of shape (n,) multiply velocities of shape (n, …) as they are; coefficient(weight, x) shapes them": (
            lambda w, v, x, data, t, field: sum(w[:, i, 0] * v[:, i].reshape(x.shape) for i in range(len(data)))
        ),
        "weights of shape (n, 1) multiply velocities, which fits points of the plane alone; use coefficient": (
            lambda w, v, x, data, t, field: sum(w[:, i] * v[:, i].reshape(x.shape) for i in range(len(data)))
        ),
    },
)
def marginal_vector_field(t, shape, count, dtype=torch.float32):
    x, data = states(59, *shape, dtype=dtype), states(60, count, *shape[1:], dtype=dtype)
    w = states(61, len(x), count, dtype=dtype).softmax(1)
    moments = torch.cos(data) * data, data**2  # of which a velocity is linear
    first, second = (torch.einsum("nk,k...->n...", w, moment) for moment in moments)
    expected = first - coefficient(torch.as_tensor(t).to(x), x) ** 2 * x * second
    return Case(f"the field for shape {shape}", (x, data, t, w, of_pairs), expected)


# --- 5 · why averaging is right ---------------------------------------------------------------------------------------


class Stirring(Field):
    """t² M x + ½ (Σ_i x_i) x² + cos t x, a field that treats no two coordinates alike, nor x and t; its divergence."""

    def __init__(self, seed: int, d: int, dtype):
        self.matrix = states(seed, d, d, dtype=dtype)
        super().__init__(
            lambda x, t: t**2 * x @ self.matrix.T.to(x) + x.sum(1, keepdim=True) / 2 * x**2 + torch.cos(t * x)
        )

    def divergence(self, x, t) -> Tensor:
        t = coefficient(torch.as_tensor(t).to(x), x)
        terms = x.sum(1, keepdim=True) * x + x**2 / 2 - t * torch.sin(t * x)
        return (t**2 * self.matrix.trace() + terms.sum(1, keepdim=True))[:, 0]


def jacobian(u, x: Tensor, t) -> tuple:
    """Terms of mistakes: ∂u^i/∂x_j for each row, (n, d, d), and what was given."""
    x = x.detach().requires_grad_()
    values = u(x, t)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1), u, x.detach(), t


def diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=1, dim2=2)


@lab.exercise(
    reread=("eq-divergence", "notes, eq. 22 (the divergence)"),
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
        (63, torch.tensor(0.35, dtype=DOUBLE), (4, 3), DOUBLE),
        (64, 0.8, (1, 5)),
        (65, torch.tensor([0.62, 1.0, 0.0]), (3, 1)),
    ],
    terms=jacobian,
    mistakes={
        "the whole Jacobian was summed; the divergence takes ∂u^i/∂x_j for i = j only": lambda J, *_: J.sum((1, 2)),
        "u(x, t).sum() was differentiated at once; that has a column for each coordinate, and sums over all i": (
            lambda J, *_: J.sum(1)
        ),
        "the result has a column for each coordinate; the divergence is their sum": lambda J, *_: diagonal(J),
        "one number came back; each state has a divergence of its own, so do not add them up": lambda J, *_: diagonal(
            J
        ).sum(),
        "only the first coordinate was differentiated": lambda J, *_: J[:, 0, 0],
        "only the last coordinate was differentiated": lambda J, *_: J[:, -1, -1],
        "only the first two coordinates were differentiated": lambda J, *_: diagonal(J)[:, :2].sum(1),
        "the terms were averaged over the coordinates, not summed": lambda J, *_: diagonal(J).mean(1),
        "the entries ∂u^i/∂x_j with i ≠ j were summed": lambda J, *_: J.sum((1, 2)) - diagonal(J).sum(1),
        "this is the curl: ∂u²/∂x_1 − ∂u¹/∂x_2": lambda J, *_: J[:, 1, 0] - J[:, 0, 1],
        "this is the sum of the components, without a derivative": lambda J, u, x, t: u(x, t).sum(1),
        "the sign is reversed": lambda J, *_: -diagonal(J).sum(1),
        FIRST_TIME: lambda J, u, x, t: diagonal(jacobian(u, x, t[0])[0]).sum(1),
    },
)
def divergence(seed, t, shape, dtype=torch.float32):
    x, u = states(seed, *shape, dtype=dtype), Stirring(seed + 1, shape[1], dtype)
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


def change_of(density, x: Tensor, t: Tensor) -> Tensor:
    """∂_t p for each row."""
    t = t.detach().requires_grad_()
    return torch.autograd.grad(density(x, t).sum(), t)[0]


def balance(density, u, x, t) -> tuple:
    """Terms of mistakes: ∂_t p, div(p u), p and div u, and what was given."""
    flow = likelihood.divergence(lambda x, t: density(x, t)[:, None] * u(x, t), x, t)
    return change_of(density, x, t), flow, density(x, t), likelihood.divergence(u, x, t), density, u, x, t


@lab.exercise(
    reread=("eq-continuity", "notes, eq. 23 (the continuity equation)"),
    passed="what flows in and out adds up",
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
        "the logarithm of the density stands for the density in both terms": lambda c, f, p, div, *_: (
            c / p + p.log() * div + f / p - div
        ),
        "everything was divided by p": lambda c, f, p, div, *_: (c + f) / p,
        "only u · ∇p is there; p div u is missing": lambda c, f, p, div, *_: c + f - p * div,
        "the time derivatives of all rows were added up; each row has a time of its own": lambda c, f, p, div, *_: (
            c.sum() + f
        ),
        "p of shape (n,) multiplies u of shape (n, d) as it is; density(x, t)[:, None] shapes it": (
            lambda c, f, p, div, density, u, x, t: c + likelihood.divergence(lambda x, t: density(x, t) * u(x, t), x, t)
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
        "the factor ½ of the log density stayed; the derivative of a square is twice its root": lambda x, z, a, b, *_: (
            -(x - a * z) / (2 * b**2)
        ),
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


def scoring(f):
    """A mistake in the marginal score: f(x, E[z | x], α, β, …) of what else stands among the terms."""
    return lambda x, data, w, *rest: f(x, (w @ data.flatten(1)).reshape(x.shape), *rest)


def of_each(f):
    """A mistake in the average of the conditional scores: f(w, scores), of shapes (n, N, 1) and (n, N, d)."""

    def mistake(x, data, w, a, b, *_):
        scores = torch.stack([-(x - a * z) / b**2 for z in data], 1)
        return f(w[..., None], scores.flatten(2)).reshape(x.shape)

    return mistake


@lab.exercise(
    reread=("eq-marginal-score", "the marginal score, above the exercise"),
    passed="the gradient of the log density of all the data",
    hints=(
        "It is the average of N conditional scores with the posterior weights, just as for the field.",
        "The score is linear in z: average the data points instead, and ask for the score at their average.",
        "weights @ data.flatten(1), in the shape of x, is the denoised point. Put it into the conditional score for z.",
    ),
    withhold=("paths.EmpiricalMarginal.score",),
    library=lambda x, data, t, weights, schedule: GaussianPath(schedule).marginal(Empirical(data)).score(x, t),
    visible=PATHS,
    terms=lambda x, data, t, weights, schedule: weighted(x, data, weights, t, schedule),
    mistakes={
        "the weights were not used: this is the plain mean over the data": of_each(lambda w, s: s.mean(1)),
        "the scores were added up without weights": of_each(lambda w, s: s.sum(1)),
        "only the likeliest data point was used": of_each(lambda w, s: s[torch.arange(len(s)), w[..., 0].argmax(1)]),
        "the result was divided by the number of data points; the weights sum to 1 already": of_each(
            lambda w, s: (w * s).mean(1)
        ),
        "the last data point was left out": of_each(lambda w, s: (w * s)[:, :-1].sum(1)),
        "the sign is missing": scoring(lambda x, z, a, b, *_: (x - a * z) / b**2),
        "parentheses are missing: this is −x + α E[z | x]/β²": scoring(lambda x, z, a, b, *_: -x + a * z / b**2),
        "β was not squared": scoring(lambda x, z, a, b, *_: -(x - a * z) / b),
        "β is missing": scoring(lambda x, z, a, b, *_: a * z - x),
        "α is missing: the denoised point has to be multiplied by α": scoring(lambda x, z, a, b, *_: -(x - z) / b**2),
        "this is the denoiser E[z | x], not the score": scoring(lambda x, z, *_: z),
        "this is α E[z | x]/β², without x": scoring(lambda x, z, a, b, *_: a * z / b**2),
        "α and β are exchanged": scoring(lambda x, z, a, b, *_: -(x - b * z) / a**2),
        "this is the marginal field, not the score": scoring(
            lambda x, z, a, b, da, db, *_: da * z + db / b * (x - a * z)
        ),
        **misweighted(lambda x, data, w, a, b, *_: -(x - a * (w @ data.flatten(1)).reshape(x.shape)) / b**2),
    },
)
def marginal_score(schedule, t, shape, dtype=torch.float32, count=4):
    """The gradient of log Σ_i N(x; α z_i, β² I) by autograd."""
    x, data = among(66, schedule, t, shape, dtype, count)
    y = x.double().requires_grad_()
    logs = exponents(y, data.double(), schedule, t)
    (expected,) = torch.autograd.grad(logs.logsumexp(1).sum(), y)
    args = x, data, t, logs.detach().softmax(1).to(dtype), schedule
    return Case(f"the score for shape {shape}", args, expected.to(dtype))


def facing(score, x: Tensor, t) -> tuple:
    """Terms of mistakes: the score, x, the length of x, and what else was given."""
    return score(x, t), x, x.norm(dim=1), t, score


@lab.exercise(
    reread=("eq-normal", "the text above the exercise"),
    passed="how steeply the density falls off the circle",
    hints=(
        "How much of a vector points along another one of length 1?",
        "The outward normal is x, divided by its own length, row by row.",
        "Multiply score(x, t) with the normal and sum over the coordinates, dim=1.",
    ),
    library=lambda score, x, t: (score(x, t) * x).sum(1) / x.norm(dim=1),
    visible=[
        (0.8, times(4), (4, 2)),
        (1.7, torch.tensor(0.35), (3, 2)),
        (0.02, 0.8, (2, 3), DOUBLE),
        (0.6, torch.tensor([0.62]), (1, 2)),
    ],
    terms=facing,
    mistakes={
        "x was not divided by its length: a normal has length 1": lambda s, x, r, *_: (s * x).sum(1),
        "x was divided by its squared length": lambda s, x, r, *_: (s * x).sum(1) / r**2,
        "x was divided by the length of the whole batch": lambda s, x, r, *_: (s * x).sum(1) / x.norm(),
        "x was divided by the length of each column, not of each row": lambda s, x, *_: (s * x / x.norm(dim=0)).sum(1),
        "this is the length of the score; only the part along the normal is asked for": lambda s, *_: s.norm(dim=1),
        "this is the component along the circle": lambda s, x, r, *_: (s[:, 1] * x[:, 0] - s[:, 0] * x[:, 1]) / r,
        "the sign is reversed: the normal points outwards": lambda s, x, r, *_: -(s * x).sum(1) / r,
        "the absolute value was taken; the sign says whether the score points in or out": lambda s, x, r, *_: (
            (s * x).sum(1).abs() / r
        ),
        "the score was scaled to length 1, too: this is the cosine of an angle": lambda s, x, *_: (
            torch.cosine_similarity(s, x)
        ),
        "the score was scaled to length 1, not x": lambda s, x, *_: (s * x).sum(1) / s.norm(dim=1),
        "the terms were averaged over the coordinates, not summed": lambda s, x, r, *_: (s * x).mean(1) / r,
        "only the first coordinate was used": lambda s, x, r, *_: s[:, 0] * x[:, 0] / r,
        "vectors came back; the component along the normal is one number for each state": lambda s, x, r, *_: (
            s * x / r[:, None]
        ),
        "this is the normal part of the score as a vector; its length along the normal is asked for": (
            lambda s, x, r, *_: (s * x).sum(1, keepdim=True) * x / r[:, None] ** 2
        ),
        "one number came back for all states": lambda s, x, r, *_: ((s * x).sum(1) / r).sum(),
        "the score was asked at time 1 whatever t is": lambda s, x, r, t, score: (score(x, 1.0) * x).sum(1) / r,
        "the score was asked at time 0 whatever t is": lambda s, x, r, t, score: (score(x, 0.0) * x).sum(1) / r,
        FIRST_TIME: lambda s, x, r, t, score: (score(x, t[0]) * x).sum(1) / r,
        "the score was asked at the normal, not at x": lambda s, x, r, t, score: (
            (score(x / r[:, None], t) * x).sum(1) / r
        ),
    },
)
def score_along_normal(size, t, shape, dtype=torch.float32):
    """The inner product by hand, row by row. size: of x, about."""
    x, score = size * states(67, *shape, dtype=dtype), Field(lambda x, t: t**2 - torch.cos(t * x) + x.flip(1) ** 2)
    rows = zip(score.value(x, t).tolist(), x.tolist())
    expected = [sum(a * b for a, b in zip(s, row)) / math.hypot(*row) for s, row in rows]
    return Case(f"the component for x of shape {shape}", (score, x, t), torch.tensor(expected, dtype=dtype))


# --- 7 · noise that leaves the path alone -----------------------------------------------------------------------------


def extension(f, shape=coefficient):
    """A mistake in the drift: f(u, s, σ), the values at (x, t) in shapes that multiply."""
    return lambda u, score, sigma: lambda x, t: f(u(x, t), score(x, t), shape(sigma(t), x))


def at_start(u, score, sigma):
    level = sigma(torch.tensor(0.0, dtype=torch.float64))
    return lambda x, t: u(x, t) + level**2 / 2 * score(x, t)


@lab.exercise(
    reread=("eq-extension", "the SDE extension, above the exercise"),
    passed="a drift that pays for its noise",
    hints=(
        "The old field stays. What has to be added so that the noise is paid for?",
        "Add the score, times half of the squared noise level at the time t.",
        "Return a function of (x, t). In it, bring sigma(t) into shape with coefficient(…, x) before you use it.",
    ),
    withhold=("processes.sde_extension",),
    library=extension(lambda u, s, g: u + g**2 / 2 * s),
    judge=judges.function,
    visible=[(VE(1.7).beta, times(4), (4, 2)), (Bent().beta, times(3, dtype=DOUBLE), (3, 1, 2, 4), DOUBLE)],
    mistakes={
        "the factor ½ is missing": extension(lambda u, s, g: u + g**2 * s),
        "σ was not squared": extension(lambda u, s, g: u + g / 2 * s),
        "σ is missing": extension(lambda u, s, g: u + s / 2),
        "½ was squared with σ: it is ½ σ²": extension(lambda u, s, g: u + (g / 2) ** 2 * s),
        "the score was subtracted; its pull has to work against the noise": extension(lambda u, s, g: u - g**2 / 2 * s),
        "the field u is missing: this is Langevin dynamics": extension(lambda u, s, g: g**2 / 2 * s),
        "the score is missing": extension(lambda u, s, g: u + g**2 / 2),
        "the flow alone came back, without the score": extension(lambda u, s, g: u),
        "u and the score are exchanged": extension(lambda u, s, g: s + g**2 / 2 * u),
        "the factor multiplies u too": extension(lambda u, s, g: g**2 / 2 * (u + s)),
        "the noise level σ itself was added": extension(lambda u, s, g: u + g**2 / 2 * s + g),
        "σ was taken at time 0 whatever t is": at_start,
        UNSHAPED: extension(lambda u, s, g: u + g**2 / 2 * s, lambda value, x: value),
        ROWS_ONLY: extension(lambda u, s, g: u + g**2 / 2 * s, lambda value, x: value[:, None]),
        FIRST_TIME: extension(lambda u, s, g: u + g**2 / 2 * s, lambda value, x: value[0]),
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
    reread=("eq-fokker-planck", "notes, eq. 50 (the Fokker–Planck equation)"),
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
        "the noise is missing: this is the continuity equation": lambda c, f, lap, p, d, half, g: c + f,
        "the factor ½ is missing": lambda c, f, lap, p, d, half, g: c + f - g**2 * lap,
        "σ was not squared": lambda c, f, lap, p, d, half, g: c + f - g / 2 * lap,
        "½ was squared with σ: it is ½ σ²": lambda c, f, lap, p, d, half, g: c + f - g**2 / 4 * lap,
        "the noise has the wrong sign": lambda c, f, lap, p, d, half, g: c + f + half * lap,
        "the Laplacian of log p was taken instead of that of p": lambda c, f, lap, p, d, half, g: c + f - half * d,
        "the noise lacks p ‖∇ log p‖²: Δp is more than p div(∇ log p)": lambda c, f, lap, p, d, half, g: (
            c + f - half * p * d
        ),
        "the noise lacks p div(∇ log p)": lambda c, f, lap, p, d, half, g: c + f - half * (lap - p * d),
        "the time derivative is missing": lambda c, f, lap, p, d, half, g: f - half * lap,
        "the drift is missing": lambda c, f, lap, p, d, half, g: c - half * lap,
        "div(p b) was subtracted": lambda c, f, lap, p, d, half, g: c - f - half * lap,
        "½ σ² multiplies the drift too": lambda c, f, lap, p, d, half, g: c + half * (f - lap),
        "the sign of the whole left-hand side is reversed": lambda c, f, lap, p, d, half, g: half * lap - c - f,
        "everything was divided by p": lambda c, f, lap, p, d, half, g: (c + f - half * lap) / p,
        "the drift was taken for the right one; where it does not fit, the residual is not 0": (
            lambda c, f, lap, p, d, half, g: torch.zeros_like(p)
        ),
        "the time derivatives of all rows were added up; each row has a time of its own": (
            lambda c, f, lap, p, d, half, g: c.sum() + f - half * lap
        ),
    },
)
def fokker_planck_residual(sigma, seed, shape, dtype=torch.float32):
    """The residual of a drift that does not fit, in a path of which all is known."""
    x, t, d = 0.7 * states(seed, *shape, dtype=dtype), times(shape[0], dtype=dtype), shape[1]
    path, b = Drifting(seed + 10, d, dtype), Stirring(seed + 20, d, dtype)
    expected = path.change(x, t) + path.outflow(b, x, t) - sigma**2 / 2 * path.laplacian(x, t)
    return Case(f"the residual for x of shape {shape}", (path.density, path.score, b, sigma, x, t), expected)
