"""Checks of lab 2: probability paths, their fields and scores, and the equations that tie them together.

Truth comes from elsewhere than the formulas asked for: fields are velocities along the affine flow, schedules are
differentiated by autograd, scores are gradients of log densities of torch.distributions, posterior averages are sums
over a few data points, and residuals are closed form for a Gaussian that moves at constant velocity. The one random
answer is judged by the noise that can be solved for in it, at eight standard errors.
"""

import math

import torch
from torch import Tensor
from torch import distributions as td

from fmlab.checks.compare import CheckFailed, describe, fail, require, require_close, require_tensor
from fmlab.checks.inputs import states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.schedules import CondOT, Cosine, coefficient

FAMILIES = {
    "condot": (lambda t: t, lambda t: 1 - t),
    "cosine": (lambda t: torch.sin(math.pi / 2 * t), lambda t: torch.cos(math.pi / 2 * t)),
    "vp": (
        lambda t: torch.exp(-0.05 * (1 - t) - 4.975 * (1 - t) ** 2),
        lambda t: (-torch.expm1(-0.1 * (1 - t) - 9.95 * (1 - t) ** 2)).sqrt(),
    ),
}
UNSHAPED = "row k should get its own time t[k], but column k got it; coefficient(value, x) shapes a value of (n,)"


def rate(f, t: Tensor) -> Tensor:
    """df/dt at each time, by autograd."""
    return torch.autograd.functional.jvp(f, t, torch.ones_like(t))[1]


def schedule_values(family: str, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """α, β and their derivatives."""
    alpha, beta = FAMILIES[family]
    return alpha(t), beta(t), rate(alpha, t), rate(beta, t)


def require_four(found) -> None:
    """Fail unless four things came back."""
    if not isinstance(found, (tuple, list)):
        fail(f"alpha, beta, alpha_dot and beta_dot should come back, found {describe(found)}")
    require(len(found) == 4, f"four tensors should come back, found {len(found)}")


@check(
    reread="notes, eq. 16, and intro, eq. 18 (noise schedules)",
    passed="three schedules with their derivatives",
    points=4,
    hints=(
        "Which of the two weights rises with time, and which falls? At t = 0 there is only noise.",
        "For VP, integrate the rate first: T(s) = 0.1 s + 9.95 s². Its derivative is b(s), and s falls as t rises.",
        "For VP, α̇ = ½ b(1 − t) α. From α² + β² = 1 follows α α̇ + β β̇ = 0, which gives β̇.",
    ),
    reference=tuple(
        f"schedules.{family}.{value}"
        for family in ("CondOT", "Cosine", "LinearVP")
        for value in ("alpha", "beta", "alpha_dot", "beta_dot")
    ),
)
def alpha_beta(answer):
    t = torch.tensor([0.1, 0.3, 0.5, 0.8])
    for family in FAMILIES:
        found = answer(t, family)
        require_four(found)
        alpha, beta, alpha_dot, beta_dot = (value.float() for value in schedule_values(family, t.double()))
        back = [value.float() for value in schedule_values(family, 1 - t.double())]
        s, b = 1 - t, 0.1 + 19.9 * (1 - t)
        vp = family == "vp"
        mistakes = {
            "α and β are exchanged": beta,
            "time runs backwards: α should rise from noise at t = 0 to data at t = 1": back[0],
        }
        if vp:
            mistakes |= {
                "the factor ½ in front of T is missing": alpha**2,
                "b(s) was multiplied by s; its integral T(s) is not b(s) s, since b changes": torch.exp(-b * s / 2),
                "b(s) itself stands in the exponent, not its integral T(s)": torch.exp(-b / 2),
                "the integral of 19.9 r lacks its ½": torch.exp(-(0.1 * s + 19.9 * s**2) / 2),
                "the rate was taken as constant, b = 20": torch.exp(-10 * s),
                "T(s) was taken at t instead of s = 1 − t": back[0],
            }
        require_close(found[0], alpha, f"α_t of the family {family!r}", mistakes, 1e-4)
        mistakes = {
            "the order should be α, β, α̇, β̇": alpha_dot,
            "this is α again": alpha,
            "this is β², the variance; β is its root": beta**2,
            "β = 1 − α, which holds for CondOT only": 1 - alpha,
            "time runs backwards in β": back[1],
        }
        require_close(found[1], beta, f"β_t of the family {family!r}", mistakes, 1e-4)
        mistakes = {
            "the derivatives of α and β are exchanged": beta_dot,
            "this is dα/ds in the reversed time s = 1 − t: the sign is wrong": -alpha_dot,
            "the inner derivative π/2 is missing": alpha_dot * 2 / math.pi,
            "the factor ½ in front of T is missing in the derivative": 2 * alpha_dot,
            "b was taken at t instead of s = 1 − t": (0.1 + 19.9 * t) / 2 * alpha,
            "the factor α is missing: the derivative of an exponential has it": alpha_dot / alpha,
        }
        require_close(found[2], alpha_dot, f"the derivative α̇_t of the family {family!r}", mistakes, 1e-4)
        mistakes = {
            "the sign of β̇ is wrong: β falls": -beta_dot,
            "this is α̇ again": alpha_dot,
            "the inner derivative π/2 is missing": beta_dot * 2 / math.pi,
            "the division by β is missing: this is β β̇": beta * beta_dot,
            "the derivative of β² was taken": 2 * beta * beta_dot,
            "β̇ = −α̇, which holds for CondOT only": -alpha_dot,
            "the factor α is missing": beta_dot / alpha,
        }
        require_close(found[3], beta_dot, f"the derivative β̇_t of the family {family!r}", mistakes, 1e-4)


def case(seed: int, schedule, t: Tensor, *shape: int):
    """A data point z, noise ε, the state x on the way between, and α, β, α̇, β̇ in the shape that multiplies them."""
    z, noise = states(seed, *shape, dtype=t.dtype), states(seed + 1, *shape, dtype=t.dtype)
    names = (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)
    alpha, beta, alpha_dot, beta_dot = (coefficient(f(t), z) for f in names)
    return z, noise, alpha * z + beta * noise, alpha, beta, alpha_dot, beta_dot


@check(
    reread="notes, eq. 16 (the Gaussian path)",
    passed="the data point fades in as the noise fades out",
    points=2,
    hints=(
        "The mean of the path is α_t z, its standard deviation β_t. How do you make a sample from a standard normal?",
        "Scale the noise by the standard deviation, and add the mean.",
        "Bring schedule.alpha(t) and schedule.beta(t) into shape with coefficient(…, z) before they multiply.",
    ),
    reference=("paths.GaussianPath.interpolate", "paths.GeneralGaussianPath.interpolate"),
)
def sample_conditional_path(answer):
    schedule, t = Cosine(), torch.tensor([0.2, 0.5, 0.9])
    z, noise, x, alpha, beta, *_ = case(51, schedule, t, 3, 3)
    s = t[:, None]
    found = answer(z, noise, t, schedule)
    mistakes = {
        "α and β are exchanged": alpha * noise + beta * z,
        UNSHAPED: alpha[:, 0] * z + beta[:, 0] * noise,
        "β² was used; β is the standard deviation, and it multiplies the noise": alpha * z + beta**2 * noise,
        "√β was used": alpha * z + beta.sqrt() * noise,
        "this is t z + (1 − t) ε, the path of CondOT alone; use the schedule": s * z + (1 - s) * noise,
        "the noise is missing: this is the mean of the path": alpha * z,
        "β is missing in front of the noise": alpha * z + noise,
        "α is missing in front of the data point": z + beta * noise,
        "the noise was subtracted": alpha * z - beta * noise,
        "β multiplies the whole sum": beta * (alpha * z + noise),
        "1 − α was used instead of β": alpha * z + (1 - alpha) * noise,
        "the first time was used for all rows": alpha[0] * z + beta[0] * noise,
    }
    if isinstance(found, Tensor) and found.shape == z.shape and not torch.equal(found, answer(z, noise, t, schedule)):
        fail("the same noise gave two different samples; use the noise that is given")
    require_close(found, x, "the sample", mistakes)


@check(
    reread="notes, eq. 12 and 16 (sampling the marginal path)",
    passed="fresh data and fresh noise for each sample",
    points=3,
    hints=(
        "Two things are drawn: first a data point for each sample, then noise for each sample.",
        "Call sample_data(n) once. Then it is exercise 2, with noise of your own.",
        "torch.randn_like(z) draws standard normal noise in the shape of z, fresh for each row and coordinate.",
    ),
    reference=("paths.GaussianPath.sample",),
)
def sample_marginal_path(answer):
    n, t, schedule, centres = 500, torch.tensor(0.7), Cosine(), 1.5 * states(70, 3, 32)
    x, z = draw(answer, lambda k: centres[torch.randint(3, (k,))] + 0.3 * torch.randn(k, 32), n, t, schedule)
    fresh_noise(x, z, schedule.alpha(t), schedule.beta(t), float(t))


def draw(answer, sample_data, n: int, t: Tensor, schedule) -> tuple[Tensor, Tensor]:
    """n samples x of the answer and the data points z that it drew for them."""
    drawn = []

    def recorded(k):
        drawn.append(sample_data(int(k)))
        return drawn[-1].clone()

    x = answer(recorded, n, t, schedule)
    if not drawn:
        fail("sample_data was never called; the data points come from it")
    z = torch.cat(drawn)
    if len(z) == 1 < n:
        fail("one data point was drawn for all samples; that gives a conditional path. Each needs its own")
    require(len(z) == n, f"{n} samples need {n} data points, but {len(z)} were drawn")
    require_tensor(x, z, "the tensor of samples")
    return x, z


def fresh_noise(x: Tensor, z: Tensor, alpha: Tensor, beta: Tensor, t: float) -> None:
    """Fail unless (x − αz)/β is independent standard normal noise: moments within eight standard errors."""
    n, d = len(x), x[0].numel()
    flat, data = x.flatten(1).double(), z.flatten(1).double()
    centred = data - data.mean(0)
    slope = float((centred * flat).sum() / centred.square().sum())
    rest = flat - slope * data
    mean, spread = rest.mean(0), float((rest - rest.mean(0)).square().mean().sqrt())
    alpha, beta = float(alpha), float(beta)
    if spread < 0.01 * beta and float(mean.abs().max()) > 0.01 * beta:
        fail("all samples share one draw of the noise; each row needs its own")
    if spread > 0.01 * beta:
        between = (rest.T @ rest / (n * spread**2)).fill_diagonal_(0).abs().max()
        shared = float(between) > 8 / math.sqrt(n) and float(mean.abs().max()) < 0.25 * beta
        require(not shared, "the coordinates of a sample share their noise; each needs its own")
    slope_error, spread_error = 8 * beta / float(centred.square().sum().sqrt()), 8 * beta / math.sqrt(2 * n * d)
    off_centre = float(mean.abs().max()) > 8 * beta / math.sqrt(n)
    if abs(slope - alpha) > slope_error or abs(spread - beta) > spread_error or off_centre:
        patterns = {
            "α and β are exchanged": (beta, alpha),
            "β² was used; β is the standard deviation": (alpha, beta**2),
            "√β was used": (alpha, beta**0.5),
            "the noise is missing": (alpha, 0.0),
            "β is missing in front of the noise": (alpha, 1.0),
            "α is missing in front of the data point": (1.0, beta),
            "the data point is missing: this is noise alone": (0.0, beta),
            "this is the path of CondOT alone; use the schedule": (t, 1 - t),
            "the noise is uniform (torch.rand), not normal (torch.randn)": (alpha, beta / 12**0.5),
        }
        near = [
            words
            for words, (a, b) in patterns.items()
            if abs(slope - a) < 2 * slope_error and abs(spread - b) < 2 * spread_error
        ]
        reason = f"it looks as if {near[0]}" if near else "no common slip gives these moments"
        fail(
            f"the law of the samples is not right; {reason}.\n"
            f"  expected {alpha:.3g} z + noise of mean 0 and standard deviation {beta:.3g}\n"
            f"  found    {slope:.3g} z + noise of mean {float(mean[0]):.3g} and standard deviation {spread:.3g}"
        )
    noise = (flat - alpha * data) / beta
    fourth = float(noise.pow(4).mean())
    require(
        abs(fourth - 3) < 8 * math.sqrt(96 / noise.numel()),
        f"the noise is not Gaussian: its fourth moment is {fourth:.2f}, not 3",
    )
    next_row = (noise[1:] * noise[:-1]).mean(1).mean().abs()
    require(float(next_row) < 8 / math.sqrt(n), "different samples share their noise; each row needs its own")


@check(
    reread="notes, eq. 20 and 21 (the conditional vector field)",
    passed="the velocity of the conditional flow",
    points=4,
    hints=(
        "A sample moves with the velocity α̇ z + β̇ ε. What is ε, if all you know is x and z?",
        "ε = (x − α z)/β. Put it into the velocity, or use the sorted form of eq. 20.",
        "All four coefficients are functions of t; each needs coefficient(…, x) before it multiplies.",
    ),
    reference=("paths.GaussianPath.vector_field", "conversions.convert"),
)
def conditional_vector_field(answer):
    schedule, t = Cosine(), torch.tensor([0.2, 0.5, 0.8])
    z, noise, x, a, b, a_dot, b_dot = case(53, schedule, t, 3, 3)
    flat = [value[:, 0] for value in (a, b, a_dot, b_dot)]
    mistakes = {
        "this is (z − x)/(1 − t), the field of CondOT alone": (z - x) / (1 - t[:, None]),
        UNSHAPED: (flat[2] - flat[3] / flat[1] * flat[0]) * z + flat[3] / flat[1] * x,
        "x was taken for the noise: this is α̇ z + β̇ x": a_dot * z + b_dot * x,
        "the term −(β̇/β) α z is missing": a_dot * z + b_dot / b * x,
        "the term −(β̇/β) α z has the wrong sign": (a_dot + b_dot / b * a) * z + b_dot / b * x,
        "β̇ was not divided by β": (a_dot - b_dot * a) * z + b_dot * x,
        "the fraction is upside down: β/β̇ instead of β̇/β": (a_dot - b / b_dot * a) * z + b / b_dot * x,
        "β̇ was divided by β²": (a_dot - b_dot / b**2 * a) * z + b_dot / b**2 * x,
        "α and β are exchanged": (b_dot - a_dot / a * b) * z + a_dot / a * x,
        "x and z are exchanged": (a_dot - b_dot / b * a) * x + b_dot / b * z,
        "α is missing in the term (β̇/β) α z": (a_dot - b_dot / b) * z + b_dot / b * x,
        "α stands where α̇ belongs": (a - b_dot / b * a) * z + b_dot / b * x,
        "only the part with x is there: the term with z is missing": b_dot / b * x,
        "this is the conditional score, not the field": -(x - a * z) / b**2,
        "the field points away from the data: the sign is reversed": -(a_dot * z + b_dot * noise),
        "the first time was used for all rows": (a_dot[0] - b_dot[0] / b[0] * a[0]) * z + b_dot[0] / b[0] * x,
    }
    require_close(answer(x, z, t, schedule), a_dot * z + b_dot * noise, "the field", mistakes)


@check(
    reread="intro, eq. 15 (Theorem 3)",
    passed="move with the mean, shrink at the rate of the spread",
    points=3,
    hints=(
        "A sample is μ + σ ε. How fast does it move while ε stays as it is?",
        "Its velocity is μ̇ + σ̇ ε. Which ε belongs to the position x?",
        "ε = (x − μ)/σ. The coefficients are in shape already.",
    ),
    reference=("paths.GeneralGaussianPath.vector_field",),
)
def general_vector_field(answer):
    z, noise = states(55, 5, 2), states(56, 5, 2)
    mean, mean_dot = 0.6 * z + 0.3 * z.flip(1), z - 0.4 * z.flip(1)
    scale, scale_dot = 0.3 + 0.2 * z[:, :1].abs(), -0.7 + 0.1 * z[:, :1]
    x = mean + scale * noise
    r = scale_dot / scale
    mistakes = {
        "the mean was not subtracted: (σ̇/σ) x instead of (σ̇/σ)(x − μ)": r * x + mean_dot,
        "the motion μ̇ of the mean is missing": r * (x - mean),
        "the fraction is upside down: σ/σ̇ instead of σ̇/σ": scale / scale_dot * (x - mean) + mean_dot,
        "σ̇ was not divided by σ": scale_dot * (x - mean) + mean_dot,
        "σ̇ was divided by σ²": scale_dot / scale**2 * (x - mean) + mean_dot,
        "σ̇ is missing: the rate is σ̇/σ": (x - mean) / scale + mean_dot,
        "μ was added where μ̇ belongs": r * (x - mean) + mean,
        "μ̇ was subtracted": r * (x - mean) - mean_dot,
        "the rate multiplies μ̇ too": r * (x - mean + mean_dot),
        "μ − x stands where x − μ belongs": r * (mean - x) + mean_dot,
        "only the motion of the mean is there": mean_dot,
    }
    found = answer(x, mean, scale, mean_dot, scale_dot)
    require_close(found, mean_dot + scale_dot * noise, "the field", mistakes)


def exponents(x: Tensor, data: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """log p_t(x | z_i) up to a constant of x, pair by pair, (n, N). alpha, beta: (n,)."""
    rows = [
        torch.stack([td.Normal(a * z, b).log_prob(row).sum() for z in data])
        for row, a, b in zip(x, alpha, beta, strict=True)
    ]
    return torch.stack(rows)


@check(
    reread="notes, text after eq. 21 (Bayes' rule)",
    passed="which data points a state may be on its way to",
    points=4,
    hints=(
        "Bayes' rule with equal priors: the weights are the densities p_t(x | z_i), divided by their sum.",
        "The exponents are minus the squared distances of x and α z_i, over 2 β². Their softmax is what you want.",
        "Make a table (n, N) of exponents: differences by x[:, None], flatten(2), squares, sum(2). Softmax in dim=1.",
    ),
    reference=("paths.EmpiricalMarginal.posterior_weights",),
)
def posterior_weights(answer):
    schedule, t = Cosine(), torch.tensor([0.3, 0.5, 0.6])
    x, data = 0.7 * states(57, 3, 2), states(58, 3, 2)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    expected = exponents(x, data, alpha, beta).softmax(1)
    found = answer(x, data, t, schedule)
    a, b = alpha[:, None], beta[:, None]
    squares = (x[:, None] - a[:, :, None] * data).square().sum(2)
    plain = (x[:, None] - data).square().sum(2)
    straight = (x[:, None] - t[:, None, None] * data).square().sum(2)
    logits = -squares / (2 * b**2)
    mistakes = {
        "the weights were normalised over the states, not over the data points of each state": logits.softmax(0),
        "the table is transposed: one row for each state, one column for each data point": expected.T,
        "the weights were not normalised": logits.exp(),
        "these are logarithms of the weights": logits.log_softmax(1),
        "these are the exponents, before the softmax": logits,
        "the factor ½ is missing in the exponent": (2 * logits).softmax(1),
        "β was not squared": (logits * b).softmax(1),
        "the distance was not squared": (-squares.sqrt() / (2 * b**2)).softmax(1),
        "α is missing: noise is centred at α z, not at z": (-plain / (2 * b**2)).softmax(1),
        "the sign is reversed: far data points got the most weight": (-logits).softmax(1),
        "α and β are exchanged": (-(x[:, None] - b[:, :, None] * data).square().sum(2) / (2 * a**2)).softmax(1),
        "squares were averaged over the coordinates, not summed": (logits / 2).softmax(1),
        "this is right for CondOT alone; use the schedule": (-straight / (2 * (1 - t[:, None]) ** 2)).softmax(1),
        "β is missing in the exponent": (-squares / 2).softmax(1),
        "only the likeliest data point got any weight": torch.eye(3)[logits.argmax(1)],
        UNSHAPED: (-squares / (2 * beta**2)).softmax(1),
    }
    require_close(found, expected, "the table of weights", mistakes, 2e-4)
    narrow_weights(answer, torch.float32)


def narrow_weights(answer, dtype) -> None:
    """Fail unless the weights stay finite and right next to the data, where all exponentials round to 0."""
    data = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=dtype)
    x, t = torch.tensor([[0.9, 0.1], [0.1, 1.5]], dtype=dtype), torch.tensor(0.999, dtype=dtype)
    found = answer(x, data, t, CondOT())
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=dtype)
    require_tensor(found, expected, "the table of weights at β_t = 0.001")
    if not bool(torch.isfinite(found).all()):
        fail("at β_t = 0.001 the weights are not finite: all exponentials rounded to 0; use a softmax of the exponents")
    if float(found.sum(1).min()) < 0.5:
        fail(
            "at β_t = 0.001 the weights do not sum to 1: all exponentials rounded to 0; use a softmax of the exponents"
        )
    require_close(found, expected, "the table of weights at β_t = 0.001", tolerance=1e-4)


def bent(x: Tensor, z: Tensor, t) -> Tensor:
    """A conditional field that is not linear in z. Fails unless x and z are pairs with times that fit."""
    if x.shape != z.shape:
        fail(
            f"field(x, z, t) needs pairs: x has shape {tuple(x.shape)} and z {tuple(z.shape)}, which should be the same"
        )
    t = torch.as_tensor(t)
    if t.ndim and t.shape != x.shape[:1]:
        fail(
            f"field(x, z, t) was asked about {len(x)} pairs with {len(t)} times; each pair needs the time of its state"
        )
    return torch.cos(z) * z - coefficient(t, x) * x * z**2


@check(
    reread="notes, theorem 9, eq. 18 (the marginalisation trick)",
    passed="the posterior average of the velocities",
    points=4,
    hints=(
        "It is a weighted mean of N velocities. Where do they come from, and which weight belongs to which?",
        "For each data point, ask the field about all states paired with it: field(x, z.expand_as(x), t).",
        "Multiply that by column i of the weights, brought into shape with coefficient(…, x), and add up over i.",
    ),
    reference=("paths.EmpiricalMarginal.vector_field",),
)
def marginal_vector_field(answer):
    x, data, t = states(59, 4, 2), states(60, 3, 2), torch.tensor([0.2, 0.4, 0.6, 0.8])
    w = states(61, 4, 3).softmax(1)
    table = torch.stack([bent(x, z.expand_as(x), t) for z in data], dim=1)  # (n, N, d)
    expected = (w[..., None] * table).sum(1)
    best = w.argmax(1)
    mistakes = {
        "the weights were not used: this is the plain mean over the data": table.mean(1),
        "the velocities were added up without weights": table.sum(1),
        "the result was divided by the number of data points; the weights sum to 1 already": expected / 3,
        "only the likeliest data point was used": table[torch.arange(4), best],
        "the field was asked once, at the average data point; that is right only if it is linear in z": bent(
            x, w @ data, t
        ),
        "the weights were squared": (w[..., None] ** 2 * table).sum(1),
        "a softmax was applied to the weights; they are probabilities already": (w.softmax(1)[..., None] * table).sum(
            1
        ),
        "this is the average data point, not a velocity": w @ data,
        "the last data point was left out": (w[..., None] * table)[:, :-1].sum(1),
        "only the last data point was used": (w[..., None] * table)[:, -1],
    }
    require_close(answer(x, data, t, w, bent), expected, "the field", mistakes)


def shear(x, t):
    """A field with the divergence t (2 x_1 x_2 + 3 x_2²)."""
    t = coefficient(torch.as_tensor(t), x[:, 0])
    return torch.stack([t * x[:, 0] ** 2 * x[:, 1], t * (torch.sin(x[:, 0]) + x[:, 1] ** 3)], dim=1)


def require_exact(found, expected: Tensor, what: str, mistakes=None, tolerance=None) -> None:
    """`require_close`, which also names an answer that is nearly right."""
    try:
        require_close(found, expected, what, mistakes, tolerance)
    except CheckFailed as failure:
        nearly = isinstance(found, Tensor) and found.shape == expected.shape and found.dtype == expected.dtype
        if nearly and (found.detach() - expected).abs().max() < 0.02 * expected.abs().max():
            fail(f"{what} is only nearly right; it looks like finite differences, and torch.autograd.grad is exact")
        raise failure


@check(
    reread="notes, eq. 22 (divergence)",
    passed="the net outflow, exact to rounding",
    points=4,
    hints=(
        "Of the Jacobian ∂u^i/∂x_j of each row, which entries does the divergence need?",
        "The gradient of u(x, t)[:, i].sum() with respect to x holds row i of every Jacobian. Keep column i of it.",
        "Let x record first: x.detach().requires_grad_(). Evaluate u once, and keep the graph between the d gradients.",
    ),
    reference=("likelihood.divergence",),
)
def divergence(answer):
    x, t = states(62, 5, 2), torch.tensor([0.3, 0.5, 0.7, 0.9, 1.1])
    a, b = x.T
    expected = t * (2 * a * b + 3 * b**2)
    mistakes = {
        "the whole Jacobian was summed; the divergence takes ∂u^i/∂x_j for i = j only": t
        * (2 * a * b + a**2 + torch.cos(a) + 3 * b**2),
        "only the first coordinate was differentiated": t * 2 * a * b,
        "only the last coordinate was differentiated": t * 3 * b**2,
        "the terms were averaged over the coordinates, not summed": expected / 2,
        "this is the curl: ∂u²/∂x_1 − ∂u¹/∂x_2": t * (torch.cos(a) - a**2),
        "this is the sum of the components, without a derivative": shear(x, t).sum(1),
        "the sign is reversed": -expected,
        "the entries ∂u^i/∂x_j with i ≠ j were summed": t * (a**2 + torch.cos(a)),
    }
    found = answer(shear, x, t)
    if isinstance(found, (int, float)) or (isinstance(found, Tensor) and found.numel() == 1):
        fail("one number came back; each state has a divergence of its own, so do not add them up")
    if isinstance(found, Tensor) and found.shape == x.shape:
        fail("the result has a column for each coordinate; the divergence is their sum, one number for each state")
    require_exact(found, expected, "the divergence", mistakes, 1e-4)


class MovingGaussian:
    """The path N(t m, I): its density, its score, and the field m that moves it, all closed form."""

    def __init__(self, m: Tensor):
        self.m = m

    def density(self, x, t):
        at = coefficient(torch.as_tensor(t), x) * self.m
        return torch.exp(-(x - at).square().sum(1) / 2) / (2 * math.pi) ** (len(self.m) / 2)

    def score(self, x, t):
        return coefficient(torch.as_tensor(t), x) * self.m - x

    def change(self, x, t):
        """∂_t p = −p m · ∇ log p."""
        return -self.density(x, t) * (self.score(x, t) @ self.m)

    def outflow(self, x, t):
        """div(p t x) = p (t d + t x · ∇ log p)."""
        return self.density(x, t) * t * (x.shape[1] + (x * self.score(x, t)).sum(1))

    def laplacian(self, x, t):
        """Δp = p (‖∇ log p‖² − d)."""
        return self.density(x, t) * (self.score(x, t).square().sum(1) - x.shape[1])


def grow(x, t):
    """The field t x, of divergence t d."""
    return coefficient(torch.as_tensor(t), x) * x


@check(
    reread="notes, eq. 23 (the continuity equation)",
    passed="what flows in and out adds up",
    points=3,
    hints=(
        "Two terms: how the density changes in time, and what flows out. Each is a derivative.",
        "For ∂_t p, let a copy of t record, and take the gradient of density(x, t).sum() with respect to it.",
        "What flows is the field density(x, t)[:, None] * u(x, t), a function of (x, t). Take its divergence.",
    ),
    reference=("likelihood.continuity_residual",),
)
def continuity_residual(answer):
    path, x, t = MovingGaussian(torch.tensor([1.0, -0.5])), states(63, 5, 2), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    p, s = path.density(x, t), path.score(x, t)
    change, outflow, div = path.change(x, t), path.outflow(x, t), 2 * t
    flow = (grow(x, t) * s).sum(1)
    mistakes = {
        "the time derivative is missing": outflow,
        "div(p u) is missing": change,
        "div(p u) was subtracted; on the left-hand side it is added": change - outflow,
        "the sign of the whole left-hand side is reversed": -(change + outflow),
        "div(p u) was replaced by p div u: the density changes in space too": change + p * div,
        "the density is missing: div u instead of div(p u)": change + div,
        "the logarithm of the density was differentiated in time": change / p + outflow,
        "everything was divided by p": (change + outflow) / p,
        "only u · ∇p is there; p div u is missing": change + p * flow,
        "the time derivatives of all rows were added up; each row has a time of its own": change.sum() + outflow,
        "the absolute value was taken": (change + outflow).abs(),
        "the field was taken for the right one; where it does not fit, the residual is not 0": torch.zeros_like(p),
    }
    found = answer(path.density, grow, x.clone(), t.clone())
    require_close(found, change + outflow, "the residual for a field that does not fit", mistakes, 1e-4)
    found = answer(path.density, lambda x, t: path.m.expand_as(x) + 0 * x, x.clone(), t.clone())
    require_tensor(found, p, "the residual")
    require(float(found.abs().max()) < 1e-5, "the residual should be 0 for a Gaussian and the field that moves it")


@check(
    reread="slides, the conditional score",
    passed="towards the mean, steeper the less noise",
    points=2,
    hints=(
        "Take the logarithm of the Gaussian density first. What is left that depends on x?",
        "Only −‖x − α z‖²/(2 β²) depends on x. What is its gradient?",
        "The 2 cancels, the minus stays, and the variance β² is below.",
    ),
    reference=("paths.GaussianPath.score", "conversions.convert"),
)
def conditional_score(answer):
    schedule, t = Cosine(), torch.tensor([0.2, 0.5, 0.8])
    z, noise, x, a, b, a_dot, b_dot = case(64, schedule, t, 3, 3)
    y = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(td.Normal(a * z, b.expand_as(z)).log_prob(y).sum(), y)
    flat = a[:, 0], b[:, 0]
    mistakes = {
        "the sign is missing: the score points towards the mean": -expected,
        "β was not squared: this is −ε": b * expected,
        "β is missing: this is α z − x": b**2 * expected,
        "α is missing: noise is centred at α z": -(x - z) / b**2,
        UNSHAPED: -(x - flat[0] * z) / flat[1] ** 2,
        "α and β are exchanged": -(x - b * z) / a**2,
        "this is right for CondOT alone; use the schedule": -(x - t[:, None] * z) / (1 - t[:, None]) ** 2,
        "the factor ½ of the log density stayed; the derivative of a square is twice its root": expected / 2,
        "the derivative was taken with respect to z": -a * expected,
        "this is the vector field, not the score": a_dot * z + b_dot * noise,
        "the log density itself came back": -((x - a * z) ** 2) / (2 * b**2),
        "x and z are exchanged": -(z - a * x) / b**2,
        "the difference was squared": -((x - a * z) ** 2) / b**2,
    }
    require_close(answer(x, z, t, schedule), expected, "the score", mistakes, 1e-4)


def mixture_score(x: Tensor, data: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Gradient of log Σ_i N(x; α z_i, β² I) by autograd, in double precision. alpha, beta: (n,)."""
    y = x.double().requires_grad_()
    log_density = exponents(y, data.double(), alpha.double(), beta.double()).logsumexp(1).sum()
    return torch.autograd.grad(log_density, y)[0].to(x)


@check(
    reread="summary, § 3.3 (the marginal score)",
    passed="the gradient of the log density of all the data",
    points=3,
    hints=(
        "It is the average of N conditional scores with the posterior weights, just as for the field.",
        "The score is linear in z: average the data points instead, and ask for the score at their average.",
        "weights @ data.flatten(1), in the shape of x, is the denoised point. Put it into the conditional score for z.",
    ),
    reference=("paths.EmpiricalMarginal.score",),
)
def marginal_score(answer):
    schedule, t = Cosine(), torch.tensor([0.2, 0.4, 0.6, 0.7])
    x, data = 0.8 * states(66, 4, 2), states(67, 3, 2)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    w = exponents(x, data, alpha, beta).softmax(1)
    a, b, s = alpha[:, None], beta[:, None], t[:, None]
    expected = mixture_score(x, data, alpha, beta)
    table = -(x[:, None] - a[..., None] * data) / b[..., None] ** 2
    mistakes = {
        "the weights were not used: this is the plain mean over the data": table.mean(1),
        "the scores were added up without weights": table.sum(1),
        "the sign is missing": -expected,
        "β was not squared": b * expected,
        "β is missing": b**2 * expected,
        "α is missing: the denoised point has to be multiplied by α": -(x - w @ data) / b**2,
        "this is the denoiser E[z | x], not the score": w @ data,
        "this is α E[z | x] without x": a * (w @ data) / b**2,
        "only the likeliest data point was used": table[torch.arange(4), w.argmax(1)],
        "α and β are exchanged": -(x - b * (w @ data)) / a**2,
        "this is right for CondOT alone; use the schedule": -(x - s * (w @ data)) / (1 - s) ** 2,
        "the result was divided by the number of data points; the weights sum to 1 already": expected / 3,
        "this is the marginal field, not the score": (
            coefficient(schedule.alpha_dot(t), x) * (w @ data)
            + coefficient(schedule.beta_dot(t), x) * (x - a * (w @ data)) / b
        ),
    }
    require_close(answer(x, data, t, w, schedule), expected, "the score", mistakes, 1e-4)


@check(
    reread="intro, § 1.3–1.4 (thin data)",
    passed="how steeply the density falls off the circle",
    points=2,
    hints=(
        "How much of a vector points along another one of length 1?",
        "The outward normal is x, divided by its own length, row by row.",
        "Multiply score(x, t) with the normal and sum over the coordinates, dim=1.",
    ),
)
def score_along_normal(answer):
    x, t = torch.tensor([[3.0, 4.0], [0.6, -0.8], [-2.0, 0.0], [0.5, 1.2]]), torch.tensor([0.2, 0.4, 0.6, 0.8])

    def score(x, t):
        return coefficient(torch.as_tensor(t), x) * (torch.tensor([1.0, 0.5]) - x + x.flip(1) ** 2)

    s, angle = score(x, t), torch.atan2(x[:, 1], x[:, 0])
    expected = s[:, 0] * angle.cos() + s[:, 1] * angle.sin()
    radius = x.norm(dim=1)
    mistakes = {
        "x was not divided by its length: a normal has length 1": expected * radius,
        "x was divided by its squared length": expected / radius,
        "this is the length of the score; only the part along the normal is asked for": s.norm(dim=1),
        "this is the component along the circle": s[:, 1] * angle.cos() - s[:, 0] * angle.sin(),
        "the sign is reversed: the normal points outwards": -expected,
        "the absolute value was taken; the sign says whether the score points in or out": expected.abs(),
        "the score was scaled to length 1, too: this is the cosine of an angle": expected / s.norm(dim=1),
        "the terms were averaged over the coordinates, not summed": expected / 2,
        "x was divided by the length of the whole batch": expected * radius / x.norm(),
        "only the first coordinate was used": s[:, 0] * angle.cos(),
        "the score was asked at another time than t": expected / t,
    }
    found = answer(score, x, t)
    if isinstance(found, Tensor) and found.shape == x.shape:
        fail("vectors came back; the component along the normal is an inner product, one number for each state")
    require_close(found, expected, "the component", mistakes)


def called(drift, x, t) -> Tensor:
    """What a returned function of (x, t) says; a verdict where it cannot be called."""
    if isinstance(drift, Tensor):
        fail("a function of (x, t) should be returned, found a tensor")
    require(callable(drift), f"a function of (x, t) should be returned, found {describe(drift)}")
    try:
        return drift(x, t)
    except Exception as error:
        fail(f"the returned function raised {type(error).__name__} when called with (x, t):\n  {error}")


def fading(t):
    """A noise level that falls with time."""
    return 1.5 - t


@check(
    reread="summary, § 3.3 (the SDE extension)",
    passed="a drift that pays for its noise",
    points=2,
    hints=(
        "The old field stays. What has to be added so that the noise is paid for?",
        "Add the score, times half of the squared noise level at the time t.",
        "Return a function of (x, t). In it, bring sigma(t) into shape with coefficient(…, x) before you use it.",
    ),
    reference=("processes.sde_extension",),
)
def sde_extension_drift(answer):
    x, t = states(68, 3, 3), torch.tensor([0.2, 0.5, 0.8])
    u, score = (lambda x, t: torch.cos(x)), (lambda x, t: coefficient(torch.as_tensor(t), x) - x**2)
    v, s, sigma = torch.cos(x), t[:, None] - x**2, 1.5 - t[:, None]
    mistakes = {
        "the factor ½ is missing": v + sigma**2 * s,
        "σ was not squared": v + sigma / 2 * s,
        "σ is missing": v + s / 2,
        "the score was subtracted; its pull has to work against the noise": v - sigma**2 / 2 * s,
        "the field u is missing: this is Langevin dynamics": sigma**2 / 2 * s,
        "the score is missing": v + sigma**2 / 2,
        "the flow alone came back, without the score": v,
        UNSHAPED: v + (1.5 - t) ** 2 / 2 * s,
        "u and the score are exchanged": s + sigma**2 / 2 * v,
        "the factor multiplies u too": sigma**2 / 2 * (v + s),
        "σ was taken at time 0 whatever t is": v + 1.5**2 / 2 * s,
        "only ½ was squared, or σ/2 was: it is ½ σ²": v + (sigma / 2) ** 2 * s,
    }
    drift = answer(u, score, fading)
    found = called(drift, x, t)
    again = called(drift, x, t)
    if isinstance(found, Tensor) and isinstance(again, Tensor) and not torch.equal(found, again):
        fail("the drift is random; the noise itself is added by the simulator, once")
    require_close(found, v + sigma**2 / 2 * s, "the drift", mistakes)


@check(
    reread="notes, theorem 15, eq. 50 (Fokker–Planck)",
    passed="drift and noise balance",
    points=3,
    hints=(
        "Δp is the divergence of ∇p. Which field is ∇p, in terms of the density and the score?",
        "∇p = p ∇log p. So drift and noise together are the divergence of p times one field.",
        "That field is the drift minus ½σ² times the score. The time derivative is that of exercise 9.",
    ),
    reference=("likelihood.fokker_planck_residual",),
)
def fokker_planck_residual(answer):
    path, x, t = MovingGaussian(torch.tensor([1.0, -0.5])), states(69, 5, 2), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    sigma = 1.3
    p, s = path.density(x, t), path.score(x, t)
    base, spread = path.change(x, t) + path.outflow(x, t), path.laplacian(x, t)
    half = sigma**2 / 2
    mistakes = {
        "the noise is missing: this is the continuity equation": base,
        "the factor ½ is missing": base - sigma**2 * spread,
        "σ was not squared": base - sigma / 2 * spread,
        "the noise has the wrong sign": base + half * spread,
        "the Laplacian of log p was taken instead of that of p": base - half * torch.full_like(p, -2.0),
        "the noise lacks p ‖∇ log p‖²: Δp is more than p div(∇ log p)": base - half * p * -2.0,
        "the noise lacks p div(∇ log p)": base - half * p * s.square().sum(1),
        "the divergence of the score was not multiplied by the density": base - half * -2.0,
        "the time derivative is missing": base - path.change(x, t) - half * spread,
        "the drift is missing": path.change(x, t) - half * spread,
        "the sign of the whole left-hand side is reversed": -(base - half * spread),
        "everything was divided by p": (base - half * spread) / p,
        "the score was added to the drift: the noise has the wrong sign": base + half * spread,
        "only ½ was squared, or σ/2 was: it is ½ σ²": base - (sigma / 2) ** 2 * spread,
        "div(p b) was subtracted": path.change(x, t) - path.outflow(x, t) - half * spread,
        "the drift was taken for the right one; where it does not fit, the residual is not 0": torch.zeros_like(p),
        "the time derivatives of all rows were added up": path.change(x, t).sum() + path.outflow(x, t) - half * spread,
    }
    found = answer(path.density, path.score, grow, sigma, x.clone(), t.clone())
    require_close(found, base - half * spread, "the residual for a drift that does not fit", mistakes, 1e-4)
