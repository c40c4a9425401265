"""Lab 4: score matching and diffusion.

Truth comes from elsewhere than the formulas asked for. The score of a noised point is the gradient of torch's normal
density. Gaussian data stay Gaussian along a path, so their field and score are told by mean and variance. Steps of
Euler–Maruyama are the library's. The coefficients of a diffusion are integrals by quadrature. The chain's posterior
comes from Bayes' rule, and the terms of its bound from torch's own densities and divergences.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from fmlab import conversions
from fmlab.checks import judges
from fmlab.checks.compare import Look, require
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Field, Powers, Weighted, states, times
from fmlab.checks.lab import Lab
from fmlab.processes import sde_extension
from fmlab.schedules import (
    VE,
    CondOT,
    Cosine,
    DiffusionSchedule,
    LinearVP,
    Schedule,
    coefficient,
    diffusion_coefficients,
    time,
)
from fmlab.simulators import EulerMaruyama

DOUBLE = torch.float64
SPREAD = 0.6

lab = Lab("lab4")


def cast(t, dtype: torch.dtype):
    """A time in a dtype, if it is a tensor."""
    return t.to(dtype) if isinstance(t, Tensor) else t


def at(shape: tuple, t) -> str:
    """Shape and time in words."""
    value = f"t = {float(t):g}" if not getattr(t, "ndim", 0) else "a time for each point"
    return f"for shape {shape} at {value}"


def flat(value, x: Tensor):
    """A coefficient in the shape (n, 1), which is right for points in the plane alone."""
    return value.reshape(-1, 1) if getattr(value, "ndim", 0) else value


FLAT = "coefficients got the shape (n, 1), which fits points in the plane alone; coefficient(value, x) fits images too"
PRESERVING = "β was computed as √(1 − α²), but not every schedule preserves the variance"
FIRST = "all points got the time of the first; each has its own"


def first(t):
    return t.flatten()[0] if isinstance(t, Tensor) else t


def conditional_score(schedule, t, z: Tensor, noise: Tensor) -> Tensor:
    """∇ log p_t(x | z) at x = α z + β ε, by automatic differentiation of the density."""
    a, b, _, _ = schedule.weights(cast(t, DOUBLE), z.double())
    x = (a * z + b * noise).requires_grad_()
    return torch.autograd.grad(Normal(a * z, b).log_prob(x).sum(), x)[0].to(z)


def score_of_gaussian_data(schedule, t, x: Tensor, mean: Tensor) -> Tensor:
    """The score at x of data N(mean, SPREAD² I): on the path they are N(α mean, (α² SPREAD² + β²) I)."""
    a, b = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    return (a * mean - x) / (a**2 * SPREAD**2 + b**2)


def field_of_gaussian_data(schedule, t, x: Tensor, mean: Tensor) -> Tensor:
    """Their vector field: states move with the mean, and away from it as the standard deviation grows."""
    a, b, a_dot, _ = schedule.weights(t, x)
    half = a * a_dot * SPREAD**2 + coefficient(schedule.beta_beta_dot(t), x)  # of the derivative of the variance
    return a_dot * mean + half / (a**2 * SPREAD**2 + b**2) * (x - a * mean)


# --- losses -----------------------------------------------------------------------------------------------------------


def mean_square(errors: Tensor) -> Tensor:
    """The mean over the batch of the squared norm of each point's error."""
    return errors.square().flatten(1).sum(1).mean()


def loss_with(
    target,
    reduce=mean_square,
    state=lambda z, e, a, b: a * z + b * e,
    asked=lambda t: t,
    weights=lambda c, t, z: c.weights(t, z)[:2],
    scale=lambda b: 1,
):
    """A loss as an answer: a network shown the state at the time `asked`, compared with target(z, ε, α, β)."""

    def loss(network, z, t, noise, schedule):
        a, b = weights(schedule, t, z)
        return reduce(scale(b) * (network(state(z, noise, a, b), asked(t)) - target(z, noise, a, b)))

    return loss


def loss_slips(target) -> dict:
    """Slips that both losses share."""
    loss = partial(loss_with, target)
    return {
        "the mean was taken over the coordinates too; sum over them": loss(lambda e: e.square().mean()),
        "the losses were summed over the batch instead of averaged": loss(lambda e: e.square().sum()),
        "the square is missing: distances were averaged": loss(lambda e: e.flatten(1).norm(dim=1).mean()),
        "there is a factor ½ too many": loss(lambda e: mean_square(e) / 2),
        "squares were summed over dimension 1 alone; flatten first": loss(lambda e: e.square().sum(1).mean()),
        "squares were summed over the last dimension alone; flatten first": loss(lambda e: e.square().sum(-1).mean()),
        "the network was shown the clean data z instead of the noised state x": loss(state=lambda z, *_: z),
        "α and β are exchanged in the state": loss(state=lambda z, e, a, b: b * z + a * e),
        "β² was used in the state; β is already a standard deviation": loss(state=lambda z, e, a, b: a * z + b**2 * e),
        "the network was asked at 1 − t": loss(asked=lambda t: 1 - t),
        "the schedule was asked at 1 − t": loss(weights=lambda c, t, z: c.weights(1 - t, z)[:2]),
        "the state is t z + (1 − t) ε; use the schedule": loss(weights=lambda c, t, z: CondOT().weights(t, z)[:2]),
        PRESERVING: loss(weights=lambda c, t, z: (c.weights(t, z)[0], (1 - c.weights(t, z)[0] ** 2).sqrt())),
        FLAT: loss(weights=lambda c, t, z: (flat(c.alpha(t), z), flat(c.beta(t), z))),
    }


def regression(answer, case):
    """What the network is shown, and then the loss with its gradient."""
    network, _, t, *_ = case.args
    found = answer(*case.args)
    yield from judges.shown(network, case.state, t)
    yield from judges.loss_of(found, case.expected, case.weights, case.what)
    yield Look(case.what, found.detach(), case.expected.detach())  # its shape and dtype, too


def regression_case(schedule, t: Tensor, shape, target) -> Case:
    """A batch and the loss against target(z, ε)."""
    network, z, noise = Weighted(dtype=t.dtype), states(1, *shape, dtype=t.dtype), states(2, *shape, dtype=t.dtype)
    a, b, _, _ = schedule.weights(t, z)
    x = a * z + b * noise
    expected = mean_square(network.value(x, t) - target(z, noise))
    what = f"the loss for shape {shape} and times up to {float(t.max()):.3g}"
    return Case(what, (network, z, t, noise, schedule), expected, state=x, weights=[network.weights])


def score_target(z, noise, a, b):
    return -noise / b


def noise_target(z, noise, a, b):
    return noise


@lab.exercise(
    reread=("eq-dsm", "slides, denoising score matching (the loss above the exercise)"),
    passed="the noise is the target, at the size of the score",
    hints=(
        "Noise the data first. Where does the conditional score of that state point, and how large is it?",
        "The target is −ε/β at the state x = α z + β ε, so the error of each point is s(x, t) + ε/β.",
        "Shape α and β with coefficient, call s once, square, sum over all dimensions but the first, average.",
    ),
    withhold=("losses.score_matching_loss",),
    library=loss_with(score_target),
    judge=regression,
    visible=[
        (Bent(), times(6), (6, 3)),
        (Cosine(), times(3), (3, 1, 3, 2)),
        (CondOT(0.2), times(2), (2, 2, 2, 3)),
        (VE(2.3), torch.tensor([0.35]), (1, 5)),
        (CondOT(), torch.tensor([0.0, 0.55, 0.979], dtype=DOUBLE), (3, 2)),
    ],
    mistakes={
        "the target has the wrong sign: the score points against the noise, −ε/β": loss_with(lambda z, e, a, b: e / b),
        "β is missing in the target, −ε/β": loss_with(lambda z, e, a, b: -e),
        "the target was divided by β² instead of β": loss_with(lambda z, e, a, b: -e / b**2),
        "the target is the noise itself: that is noise prediction": loss_with(noise_target),
        "the error was weighted with β²: that is noise_prediction_loss": loss_with(score_target, scale=lambda b: b),
        **loss_slips(score_target),
    },
)
def denoising_score_matching_loss(schedule, t, shape):
    return regression_case(schedule, t, shape, lambda z, noise: conditional_score(schedule, t, z, noise))


@lab.exercise(
    reread=("eq-ddpm", "slides, DDPM trick (the loss above the exercise)"),
    passed="a target of the same size at every time",
    hints=(
        "The state is that of denoising_score_matching_loss. What does the network predict now?",
        "Compare the network's answer at x = α z + β ε with ε itself, without any β.",
        "Square the differences, sum them over all dimensions but the first, and take the mean over the batch.",
    ),
    withhold=("losses.ddpm_loss",),
    library=loss_with(noise_target),
    judge=regression,
    visible=[
        (Bent(), times(5), (5, 3)),
        (Powers(), times(3), (3, 1, 3, 2)),
        (Cosine(), torch.tensor([1.0, 0.3], dtype=DOUBLE), (2, 2, 2, 3)),
        (VE(1.7), torch.tensor([0.35]), (1, 4)),
        (CondOT(0.1), torch.tensor([0.0, 0.45, 0.999]), (3, 2)),
    ],
    mistakes={
        "the target has the wrong sign: the network predicts ε itself": loss_with(lambda z, e, a, b: -e),
        "this is still score matching: the target is ε, not −ε/β": loss_with(score_target),
        "the target was multiplied by β; the network predicts ε itself": loss_with(lambda z, e, a, b: b * e),
        "the target is the data z instead of the noise": loss_with(lambda z, *_: z),
        "the target is the velocity z − ε of flow matching": loss_with(lambda z, e, a, b: z - e),
        **loss_slips(noise_target),
    },
)
def noise_prediction_loss(schedule, t, shape):
    return regression_case(schedule, t, shape, lambda z, noise: noise)


# --- conversions ------------------------------------------------------------------------------------------------------


def formula(of, asked=lambda t: t, shape=coefficient, given=lambda schedule: schedule):
    """An answer that is a formula of the value, x, α, β, α̇ and β̇."""

    def answer(value, x, t, schedule):
        s, t = given(schedule), asked(t)
        return of(value, x, *(shape(c(t), x) for c in (s.alpha, s.beta, s.alpha_dot, s.beta_dot)))

    return answer


def formulas(right, of: dict) -> dict:
    """What goes wrong with the right formula, and mistaken ones."""
    return {words: formula(mistaken) for words, mistaken in of.items()} | {
        "the schedule was asked at 1 − t": formula(right, asked=lambda t: 1 - t),
        "the formula is that of α = t, β = 1 − t; use the schedule": formula(right, given=lambda _: CondOT()),
        FLAT: formula(right, shape=flat),
        FIRST: formula(right, asked=first),
    }


@lab.exercise(
    reread=("eq-noise", "the equation above the exercise"),
    passed="ε = −β s, solved for s",
    hints=(
        "Noise and score point in opposite directions. Which of the two is larger near the data?",
        "Solve ε = −β s for s.",
        "The time may be one for each point: shape β with coefficient before you divide.",
    ),
    withhold=("conversions.score_from_noise", "conversions.convert"),
    library=lambda noise, t, schedule: conversions.score_from_noise(noise, noise, t, schedule),
    visible=[
        (Bent(), times(5), (5, 3)),
        (Cosine(), times(3), (3, 1, 3, 2)),
        (LinearVP(0.3, 7.0), torch.tensor(0.6), (2, 2, 2, 3)),
        (Powers(), 0.37, (1, 4)),
        (VE(2.5), 0.0, (3, 2)),
        (CondOT(), torch.tensor([0.0, 0.42, 0.999]), (3, 2), DOUBLE),
    ],
    terms=lambda noise, t, schedule: (noise, noise, t, schedule),
    mistakes=formulas(
        lambda e, x, a, b, p, q: -e / b,
        {
            "the sign is missing: the score points against the noise": lambda e, x, a, b, p, q: e / b,
            "the noise was multiplied by β instead of divided": lambda e, x, a, b, p, q: -b * e,
            "the noise was divided by β²": lambda e, x, a, b, p, q: -e / b**2,
            "the noise was divided by α instead of β": lambda e, x, a, b, p, q: -e / a,
            "β is missing": lambda e, x, a, b, p, q: -e,
            PRESERVING: lambda e, x, a, b, p, q: -e / (1 - a**2).sqrt(),
            "β was computed as 1 − α; ask the schedule": lambda e, x, a, b, p, q: -e / (1 - a),
        },
    ),
)
def score_from_noise(schedule, t, shape, dtype=torch.float32):
    z, noise, t = states(3, *shape, dtype=dtype), states(4, *shape, dtype=dtype), cast(t, dtype)
    return Case(f"the score {at(shape, t)}", (noise, t, schedule), conditional_score(schedule, t, z, noise))


def below(a, b, p, q):
    """The denominator of the conversion to the score."""
    return b**2 * p - a * q * b


def conversion(source: str, target: str, schedule, t, shape, dtype) -> Case:
    """The `target` from the `source`, "field" or "score", for Gaussian data."""
    x, mean = states(5, *shape, dtype=dtype), states(6, *shape, dtype=dtype)
    t = cast(t, dtype)
    exact = {"field": field_of_gaussian_data, "score": score_of_gaussian_data}
    of = {name: f(schedule, cast(t, DOUBLE), x.double(), mean.double()).to(dtype) for name, f in exact.items()}
    return Case(f"the {target} {at(shape, t)}", (of[source], x, t, schedule), of[target])


@lab.exercise(
    reread=("eq-score-from-field", "slides, conversion formula (above the exercise)"),
    passed="whoever knows the field knows the score",
    hints=(
        "Data and noise are two unknowns, the state and the field two equations. Which unknown does the score need?",
        "The numerator is α u − α̇ x, the denominator β² α̇ − α β̇ β.",
        "Ask the schedule for its four functions at t, shape each with coefficient, and put them into the formula.",
    ),
    withhold=("conversions.score_from_vector_field", "conversions.convert"),
    library=conversions.score_from_vector_field,
    visible=[
        (Bent(), times(5), (5, 3)),
        (Cosine(), times(3), (3, 1, 3, 2)),
        (CondOT(0.15), 0.37, (2, 2, 2, 3)),
        (Powers(), torch.tensor(0.6), (1, 4)),
        (VE(2.5), torch.tensor([0.0, 0.7]), (2, 3)),
        (CondOT(), 0.0, (3, 2), DOUBLE),
        (CondOT(), torch.tensor([0.98, 0.83, 0.45]), (3, 2), DOUBLE),
    ],
    mistakes=formulas(
        lambda u, x, a, b, p, q: (a * u - p * x) / below(a, b, p, q),
        {
            "the sign is reversed": lambda u, x, a, b, p, q: (p * x - a * u) / below(a, b, p, q),
            "the state x is missing in the numerator": lambda u, x, a, b, p, q: a * u / below(a, b, p, q),
            "x is not multiplied by α̇": lambda u, x, a, b, p, q: (a * u - x) / below(a, b, p, q),
            "u and x are exchanged": lambda u, x, a, b, p, q: (a * x - p * u) / below(a, b, p, q),
            "the first β below is not squared": lambda u, x, a, b, p, q: (a * u - p * x) / (b * p - a * q * b),
            "the second term below lacks β": lambda u, x, a, b, p, q: (a * u - p * x) / (b**2 * p - a * q),
            "there is a plus in the denominator": lambda u, x, a, b, p, q: (a * u - p * x) / below(a, b, p, -q),
            "the denominator lacks parentheses": lambda u, x, a, b, p, q: (a * u - p * x) / b**2 * p - a * q * b,
            "this is the noise, −β s, not the score": lambda u, x, a, b, p, q: (p * x - a * u) / (b * p - a * q),
            "α̇ and β̇ are exchanged": lambda u, x, a, b, p, q: (a * u - q * x) / below(a, b, q, p),
            "α is 0 at t = 0: do not divide by it": lambda u, x, a, b, p, q: (u - p / a * x) / (b**2 * p / a - q * b),
            PRESERVING: lambda u, x, a, b, p, q: (a * u - p * x) / below(a, (1 - a**2).sqrt(), p, q),
        },
    ),
)
def score_from_vector_field(schedule, t, shape, dtype=torch.float32):
    return conversion("field", "score", schedule, t, shape, dtype)


@lab.exercise(
    reread=("eq-field-from-score", "slides, proposition 1 (above the exercise)"),
    passed="a score network alone is a flow model",
    hints=(
        "Test it on what you know: score_from_vector_field, and then this conversion, should change nothing.",
        "The field is a multiple of the score plus α̇/α times the state; the multiple is β² α̇/α − β̇ β.",
        "Compute α̇/α once, shape all values with coefficient, and add the two terms.",
    ),
    withhold=("conversions.vector_field_from_score", "conversions.convert"),
    library=conversions.vector_field_from_score,
    visible=[
        (Bent(), times(5), (5, 3)),
        (Cosine(), times(3), (3, 1, 3, 2)),
        (CondOT(0.15), 0.37, (2, 2, 2, 3)),
        (Powers(), torch.tensor(0.6), (1, 4)),
        (VE(2.5), torch.tensor([1.0, 0.7]), (2, 3)),
        (CondOT(), 1.0, (3, 2), DOUBLE),
        (CondOT(), torch.tensor([0.004, 0.83, 0.45]), (3, 2), DOUBLE),
    ],
    mistakes=formulas(
        lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * s + p / a * x,
        {
            "the term with x is missing": lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * s,
            "the term with the score is missing": lambda s, x, a, b, p, q: p / a * x,
            "the term β̇ β is missing": lambda s, x, a, b, p, q: b**2 * p / a * s + p / a * x,
            "there is a plus in front of β̇ β": lambda s, x, a, b, p, q: (b**2 * p / a + q * b) * s + p / a * x,
            "β is not squared in the first term": lambda s, x, a, b, p, q: (b * p / a - q * b) * s + p / a * x,
            "β̇ alone stands where β̇ β belongs": lambda s, x, a, b, p, q: (b**2 * p / a - q) * s + p / a * x,
            "α̇/α was turned over": lambda s, x, a, b, p, q: (b**2 * a / p - q * b) * s + a / p * x,
            "α̇ stands where α̇/α belongs": lambda s, x, a, b, p, q: (b**2 * p - q * b) * s + p * x,
            "the term with x was subtracted": lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * s - p / a * x,
            "s multiplies both terms: parentheses": lambda s, x, a, b, p, q: b**2 * p / a - q * b * s + p / a * x,
            "α̇ and β̇ are exchanged": lambda s, x, a, b, p, q: (b**2 * q / a - p * b) * s + q / a * x,
            PRESERVING: lambda s, x, a, b, p, q: below(a, (1 - a**2).sqrt(), p, q) / a * s + p / a * x,
        },
    ),
)
def vector_field_from_score(schedule, t, shape, dtype=torch.float32):
    return conversion("score", "field", schedule, t, shape, dtype)


# --- sampling ---------------------------------------------------------------------------------------------------------


def library_steps(u, s, sigma, x0, ts, noises):
    """Euler–Maruyama by the library, with the noise that is given."""
    x, process = x0, sde_extension(u, s, sigma)
    for t, s, noise in zip(ts[:-1], ts[1:], noises):
        x = EulerMaruyama().step(process, x, t, s, noise)
    return x


def walk(
    drift=lambda u, s, g: u + g**2 / 2 * s,
    noise=lambda h, g, e: h**0.5 * g * e,
    times=lambda ts: (ts[:-1], ts.diff()),
    noises=lambda noises: noises,
):
    """sample_diffusion as an answer. times: starts and sizes of the steps."""

    def answer(u, s, sigma, x, ts, given):
        for t, h, e in zip(*times(ts), noises(given)):
            x = x + h * drift(u(x, t), s(x, t), sigma(t)) + noise(h, sigma(t), e)
        return x

    return answer


def evenly(ts):
    return ts[:-1], ((ts[-1] - ts[0]) / (len(ts) - 1)).expand(len(ts) - 1)


@lab.exercise(
    reread=("eq-extension", "the SDE above the exercise"),
    passed="one network, any amount of noise",
    hints=(
        "It is lab 1's Euler–Maruyama method. What are the drift and the diffusion coefficient of this equation?",
        "The drift is u + ½ σ² s, the noise σ √h ε, and all of it is evaluated at the start of the step.",
        "Loop over ts[:-1], ts.diff() and noises together; start from x0, make a new x in each step, return the last.",
    ),
    withhold=("samplers.sample_diffusion",),
    library=library_steps,
    visible=[
        ((0.1, 0.15, 0.3, 0.62, 0.7, 0.97), lambda t: 1.6 - t, (6, 2)),
        ((0.0, 0.35, 0.45, 1.0), lambda t: 2.3 * CondOT().beta(t), (2, 1, 3, 2)),
        ((0.25, 0.4, 0.85, 0.9), lambda t: 0.7, (3, 4), DOUBLE),
        ((0.3, 0.55, 0.6), lambda t: 0.0, (1, 5)),
    ],
    mistakes={
        "the factor ½ of the score is missing": walk(lambda u, s, g: u + g**2 * s),
        "σ is not squared in the drift": walk(lambda u, s, g: u + g / 2 * s),
        "the score is missing: nothing pays for the noise": walk(lambda u, s, g: u),
        "the score has the wrong sign; it is added to the field": walk(lambda u, s, g: u - g**2 / 2 * s),
        "the vector field is missing in the drift": walk(lambda u, s, g: g**2 / 2 * s),
        "the field and the score are exchanged": walk(lambda u, s, g: s + g**2 / 2 * u),
        "h stands in front of the noise where √h belongs": walk(noise=lambda h, g, e: h * g * e),
        "√h is missing in front of the noise": walk(noise=lambda h, g, e: g * e),
        "σ is missing in front of the noise": walk(noise=lambda h, g, e: h**0.5 * e),
        "σ is squared in front of the noise": walk(noise=lambda h, g, e: h**0.5 * g**2 * e),
        "the noise is missing": walk(noise=lambda h, g, e: 0 * e),
        "everything was evaluated at the end of the step, not its start": walk(times=lambda ts: (ts[1:], ts.diff())),
        "all steps have the size of the first": walk(times=lambda ts: (ts[:-1], ts.diff()[:1].expand(len(ts) - 1))),
        "the steps were taken as if the times were evenly spaced": walk(times=evenly),
        "the last step is missing": walk(times=lambda ts: (ts[:-2], ts.diff())),
        "the same noise was used in every step": walk(noises=lambda given: given[:1].expand_as(given)),
    },
)
def sample_diffusion(ts, sigma, shape, dtype=torch.float32):
    u, s = Field(lambda x, t: t + 0.5 * x.flip(-1)), Field(lambda x, t: -(1 + t) * x - 0.3 * t**2)
    ts, x0 = torch.tensor(ts, dtype=dtype), states(8, *shape, dtype=dtype)
    noises = states(9, len(ts) - 1, *shape, dtype=dtype)
    what = f"the last state for shape {shape} and {len(noises)} steps from t = {float(ts[0]):g}"
    return Case(what, (u, s, sigma, x0, ts, noises), library_steps(u.value, s.value, sigma, x0, ts, noises))


# --- the diffusion's own time -----------------------------------------------------------------------------------------


def area(s, low, high):
    """The integral of the noise rate from 0 to s."""
    return low * s + (high - low) * s**2 / 2


def vp(integral=area, std=lambda a: (1 - a**2).sqrt(), asked=lambda s: s):
    """forward_marginal as an answer, by integral(s, b_min, b_max) and std(a)."""

    def answer(s, low, high):
        a = torch.exp(-integral(asked(torch.as_tensor(s)), low, high) / 2)
        return a, std(a)

    return answer


@lab.exercise(
    reread=("eq-vp", "the law above the exercise"),
    passed="the diffusion is a Gaussian path",
    hints=(
        "Everything follows from the integral of the noise rate from 0 to s. Can you draw its area?",
        "The integral is b_min s + (b_max − b_min) s²/2, and a is e to the power of minus half of it.",
        "The variance is 1 − a²; return a and its square root, of a tensor made with torch.as_tensor(s).",
    ),
    withhold=("schedules.LinearVP.alpha", "schedules.LinearVP.beta"),
    library=vp(),
    visible=[
        (torch.tensor([0.1, 0.4, 0.85, 1.0]), 1.3, 6.0),
        (0.37, 0.4, 9.0),
        (torch.tensor([[0.0, 0.2, 0.45], [0.9, 0.35, 0.7]], dtype=DOUBLE), 0.1, 20.0),
        (torch.tensor(0.6, dtype=DOUBLE), 3, 5),
        (1, 0.7, 0.7),
    ],
    mistakes={
        "the factor ½ in front of the integral is missing": vp(lambda s, b0, b1: 2 * area(s, b0, b1)),
        "the sign in the exponent is missing": vp(lambda s, b0, b1: -area(s, b0, b1)),
        "the rate was not integrated, but multiplied by s": vp(lambda s, b0, b1: s * (b0 + (b1 - b0) * s)),
        "the integral has s where s² belongs": vp(lambda s, b0, b1: b0 * s + (b1 - b0) * s / 2),
        "the rectangle was left out: the rate begins at b_min": vp(lambda s, b0, b1: (b1 - b0) * s**2 / 2),
        "the triangle was left out: the rate grows with s": vp(lambda s, b0, b1: b0 * s),
        "the triangle has height b_max instead of b_max − b_min": vp(lambda s, b0, b1: b0 * s + b1 * s**2 / 2),
        "b_min and b_max are exchanged": vp(lambda s, b0, b1: area(s, b1, b0)),
        "the usual rates 0.1 and 20 are written in; use those that are given": vp(lambda s, *_: area(s, 0.1, 20.0)),
        "time runs the wrong way: s = 0 is the data": vp(asked=lambda s: 1 - s),
        "the two results are exchanged: the mean coefficient comes first": lambda *args: vp()(*args)[::-1],
        "the variance was returned; take its root": vp(std=lambda a: 1 - a**2),
        "the standard deviation was computed as 1 − a": vp(std=lambda a: 1 - a),
        "a is not squared in 1 − a²": vp(std=lambda a: (1 - a).sqrt()),
    },
)
def forward_marginal(s, low, high):
    diffusion = DiffusionSchedule(lambda r: -(low + (high - low) * r) / 2, lambda r: (low + (high - low) * r).sqrt())
    now = 1 - torch.as_tensor(s).double()
    pair = diffusion.alpha(now), diffusion.beta(now)
    pair = [value.to(s.dtype) if isinstance(s, Tensor) else float(value) for value in pair]
    what = f"at s = {float(s):g}" if not getattr(s, "ndim", 0) else f"for s of shape {tuple(s.shape)}"
    return Case(what, (s, low, high), dict(zip(("the mean coefficient", "the standard deviation"), pair)))


def drift_with(of, clock=lambda t: 1 - t, asked=lambda t: t, shape=coefficient):
    """A drift as an answer, by a formula of x, the score, f and g."""

    def answer(score, x, t, f, g):
        return of(x, score(x, asked(t)), shape(f(clock(t)), x), shape(g(clock(t)), x))

    return answer


def drifts(of: dict, right) -> dict:
    """Mistaken formulas, and what else goes wrong with the right one."""
    return {words: drift_with(mistaken) for words, mistaken in of.items()} | {
        "f and g were asked at t; their time is s = 1 − t": drift_with(right, clock=lambda t: t),
        "the score was asked at 1 − t; its time is ours": drift_with(right, asked=lambda t: 1 - t),
        FLAT: drift_with(right, shape=flat),
        FIRST: drift_with(right, clock=lambda t: 1 - first(t)),
    }


class Swelling(Schedule):
    """α = 2 − t, β = (1 − t)(2 − t): a diffusion that spreads states out, f = 1/(1 + s) > 0."""

    def alpha(self, t):
        return 2 - time(t)

    def beta(self, t):
        return (1 - time(t)) * (2 - time(t))

    def alpha_dot(self, t):
        return -torch.ones_like(time(t))

    def beta_dot(self, t):
        return 2 * time(t) - 3


DIFFUSIONS = [
    (LinearVP(0.3, 7.0), times(5), (5, 3)),
    (Swelling(), times(3), (3, 1, 3, 2)),
    (VE(1.5), 0.37, (2, 2, 2, 3)),
    (LinearVP(1.2, 4.0), torch.tensor(0.8), (1, 4)),
    (Swelling(), torch.tensor([0.0, 1.0]), (2, 3), DOUBLE),
]


def drift_case(what: str, share: float, schedule, t, shape, dtype) -> Case:
    """The path's vector field and `share` g² times its score, for Gaussian data noised along a schedule."""

    def f(s):
        return diffusion_coefficients(schedule, 1 - s)[0]

    def g(s):
        return diffusion_coefficients(schedule, 1 - s)[1]

    x, mean, t = states(10, *shape, dtype=dtype), states(11, *shape[1:], dtype=dtype), cast(t, dtype)
    exact = schedule, cast(t, DOUBLE), x.double(), mean.double()
    pull = coefficient(g(1 - cast(t, DOUBLE)), x) ** 2 * score_of_gaussian_data(*exact)
    score = Field(lambda x, t: score_of_gaussian_data(schedule, t, x, mean.to(x)))
    expected = field_of_gaussian_data(*exact) + share * pull
    return Case(f"{what} {at(shape, t)}", (score, x, t, f, g), expected.to(dtype))


@lab.exercise(
    reread=("eq-reverse", "the SDE in our own clock, above the exercise"),
    passed="both terms turn their sign with time",
    hints=(
        "In which direction does the diffusion's clock run when ours runs forward?",
        "The drift is −f(s) x + g(s)² score at s = 1 − t; the score is asked at our time t.",
        "Shape f(1 − t) and g(1 − t) with coefficient, and do not forget the square of g.",
    ),
    withhold=("processes.reverse_sde",),
    library=drift_with(lambda x, s, f, g: -f * x + g**2 * s),
    visible=DIFFUSIONS,
    mistakes=drifts(
        {
            "this is the drift of the forward diffusion": lambda x, s, f, g: f * x,
            "this is for s running down; our time runs up: both signs turn": lambda x, s, f, g: f * x - g**2 * s,
            "f did not turn its sign: our time runs backwards in s": lambda x, s, f, g: f * x + g**2 * s,
            "the score has the wrong sign: it pulls towards likely states": lambda x, s, f, g: -f * x - g**2 * s,
            "this is the probability flow, with half of the score": lambda x, s, f, g: -f * x + g**2 / 2 * s,
            "g is not squared": lambda x, s, f, g: -f * x + g * s,
            "f was not multiplied by x": lambda x, s, f, g: -f + g**2 * s,
            "the score is missing": lambda x, s, f, g: -f * x,
            "the term with f is missing": lambda x, s, f, g: g**2 * s,
        },
        lambda x, s, f, g: -f * x + g**2 * s,
    ),
)
def reverse_sde_drift(schedule, t, shape, dtype=torch.float32):
    return drift_case("the drift", 0.5, schedule, t, shape, dtype)


@lab.exercise(
    reread=("eq-probability-flow", "intro, § 3.2 (the flow above the exercise)"),
    passed="the same marginals without noise",
    hints=(
        "Half of the score in the reverse drift pays for the noise. What is left without noise?",
        "It is the reverse drift with ½ g² in the place of g².",
        "Copy your reverse drift and change one factor.",
    ),
    withhold=("processes.probability_flow",),
    library=drift_with(lambda x, s, f, g: -f * x + g**2 / 2 * s),
    visible=DIFFUSIONS,
    mistakes=drifts(
        {
            "this is the reverse SDE; without noise half of the score is enough": lambda x, s, f, g: -f * x + g**2 * s,
            "this is the flow from data to noise: in our time both signs turn": lambda x, s, f, g: f * x - g**2 / 2 * s,
            "f did not turn its sign": lambda x, s, f, g: f * x + g**2 / 2 * s,
            "the score has the wrong sign": lambda x, s, f, g: -f * x - g**2 / 2 * s,
            "g is not squared": lambda x, s, f, g: -f * x + g / 2 * s,
            "the half was squared with g": lambda x, s, f, g: -f * x + (g / 2) ** 2 * s,
            "the half was put on f too": lambda x, s, f, g: (-f * x + g**2 * s) / 2,
            "f was not multiplied by x": lambda x, s, f, g: -f + g**2 / 2 * s,
            "the score is missing": lambda x, s, f, g: -f * x,
        },
        lambda x, s, f, g: -f * x + g**2 / 2 * s,
    ),
)
def probability_flow_field(schedule, t, shape, dtype=torch.float32):
    return drift_case("the field", 0.0, schedule, t, shape, dtype)


# --- the chain --------------------------------------------------------------------------------------------------------


def chain(betas: tuple, dtype: torch.dtype) -> Tensor:
    """The padded table of the noise levels."""
    return torch.tensor([0.0, *betas], dtype=dtype)


def alpha_bars(betas: Tensor) -> list[float]:
    """ᾱ_0 … ᾱ_K."""
    bars = [1.0]
    for beta in betas.tolist()[1:]:
        bars.append(bars[-1] * (1 - beta))
    return bars


def bayes(x: Tensor, x0: Tensor, k: int, betas: Tensor) -> tuple[Tensor, float]:
    """Mean and variance of q(x_{k−1} | x_k, x_0) by Bayes' rule: precisions of prior and likelihood add up."""
    beta, bar = float(betas[k]), alpha_bars(betas)[k - 1]
    if k == 1:
        return x0, 0.0
    variance = 1 / ((1 - beta) / beta + 1 / (1 - bar))
    return variance * (math.sqrt(1 - beta) / beta * x + math.sqrt(bar) / (1 - bar) * x0), variance


def guess(x: Tensor, eps: Tensor, bar: float) -> Tensor:
    """The data that a predicted noise points to."""
    return (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)


def product(betas: Tensor) -> Tensor:
    return (1 - betas).cumprod(0)


def levels(betas: Tensor, k: int, bars=product) -> tuple[Tensor, Tensor, Tensor]:
    """β_k, ᾱ_{k−1} and ᾱ_k."""
    return betas[k], bars(betas)[k - 1], bars(betas)[k]


EARLY = "the table was read one place too early: betas[k] is β_k"
LATE = "the table was read one place too late: betas[k] is β_k, since betas[0] = 0"
STEPS = [
    ((0.1, 0.25, 0.42, 0.3, 0.55), 3, (5, 3)),
    ((0.1, 0.25, 0.42, 0.3, 0.55), 5, (2, 2, 2, 3), torch.float32, DOUBLE),
    ((0.03, 0.2, 0.07), 1, (3, 2), DOUBLE),
    ((0.3, 0.13), 2, (1, 4), torch.float32, DOUBLE),
]


def posterior(
    data=lambda b, p, n: p.sqrt() * b / (1 - n),
    state=lambda b, p, n: (1 - b).sqrt() * (1 - p) / (1 - n),
    variance=lambda b, p, n: b * (1 - p) / (1 - n),
    shift=0,
    bars=product,
):
    """ddpm_posterior as an answer: the weights of x_0 and x_k and the variance, of β_k, ᾱ_{k−1} and ᾱ_k."""

    def answer(x, x0, k, betas):
        values = levels(betas, k + shift, bars)
        return data(*values) * x0 + state(*values) * x, variance(*values)

    return answer


def nearly_zero(answer, case):
    """`judges.value`, but where a number should be 0, rounding may leave a little."""
    for look in judges.value(answer, case):
        yield look._replace(error=1e-6) if isinstance(look.expected, float) and not look.expected else look


@lab.exercise(
    reread=("eq-posterior", "intro, § 4.4 (the posterior above the exercise)"),
    passed="Bayes' rule for one step of the chain",
    hints=(
        "Which of the tables does each symbol come from: β_k, α_k = 1 − β_k, or the product ᾱ_k?",
        "With bars = (1 − betas).cumprod(0), bars[k] is ᾱ_k and bars[k − 1] is ᾱ_{k−1}.",
        "Write the weight of x_0, the weight of x_k and the variance, one line each; all have 1 − ᾱ_k below.",
    ),
    withhold=("ddpm.Chain.posterior_mean", "ddpm.Chain.posterior_variance"),
    library=posterior(),
    judge=nearly_zero,
    visible=STEPS,
    mistakes={
        "the weights of x_0 and x_k are exchanged": lambda x, x0, k, betas: posterior()(x0, x, k, betas),
        "√ᾱ_k stands in front of x_0 where √ᾱ_{k−1} belongs": posterior(lambda b, p, n: n.sqrt() * b / (1 - n)),
        "the root of ᾱ_{k−1} is missing in front of x_0": posterior(lambda b, p, n: p * b / (1 - n)),
        "β_k is missing in front of x_0": posterior(lambda b, p, n: p.sqrt() / (1 - n)),
        "the root of α_k is missing in front of x_k": posterior(state=lambda b, p, n: (1 - b) * (1 - p) / (1 - n)),
        "1 − ᾱ_k stands in front of x_k where 1 − ᾱ_{k−1} belongs": posterior(state=lambda b, p, n: (1 - b).sqrt()),
        "α_k stands where the product ᾱ_k belongs": posterior(bars=lambda betas: 1 - betas),
        "the β were added up; ᾱ_k is the product of the 1 − β": posterior(bars=lambda betas: 1 - betas.cumsum(0)),
        EARLY: posterior(shift=-1),
        LATE: posterior(shift=1),
        "mean and variance are exchanged: the mean comes first": lambda *args: posterior()(*args)[::-1],
        "the standard deviation was returned": posterior(variance=lambda b, p, n: (b * (1 - p) / (1 - n)).sqrt()),
        "this is β_k, the variance of a step forward": posterior(variance=lambda b, p, n: b),
        "the fraction in the variance is upside down": posterior(variance=lambda b, p, n: b * (1 - n) / (1 - p)),
        "the division by 1 − ᾱ_k is missing in the variance": posterior(variance=lambda b, p, n: b * (1 - p)),
    },
)
def ddpm_posterior(betas, k, shape, dtype=torch.float32, table=None):
    x, x0, betas = states(12, *shape, dtype=dtype), states(13, *shape, dtype=dtype), chain(betas, table or dtype)
    mean, variance = bayes(x, x0, k, betas)
    return Case(f"for k = {k}", (x, x0, k, betas), {"the mean": mean, "the variance": variance})


def back(
    push=lambda b, p, n: b / (1 - n).sqrt(),
    scale=lambda b, p, n: (1 - b).sqrt(),
    size=lambda b, p, n: (b * (1 - p) / (1 - n)).sqrt(),
    shift=0,
):
    """ancestral_step as an answer: (x − push ε̂)/scale + size ξ, all three of β_k, ᾱ_{k−1} and ᾱ_k."""

    def answer(x, eps, k, betas, noise):
        values = levels(betas, k + shift)
        return (x - push(*values) * eps) / scale(*values) + size(*values) * noise

    return answer


@lab.exercise(
    reread=("eq-ancestral", "intro, § 4.4–4.5 (the step above the exercise)"),
    passed="a guess of the data, and one step",
    hints=(
        "If the predicted noise were right, where would the data be? And then the state one step earlier?",
        "The mean is (x − β_k/√(1 − ᾱ_k) ε̂)/√α_k; the variance is that of the posterior.",
        "Add the root of the posterior variance times the noise. For k = 1 it is 0 all by itself.",
    ),
    withhold=("ddpm.Chain.ancestral_step", "ddpm.Chain.model_mean"),
    library=back(),
    visible=STEPS,
    mistakes={
        "the fresh noise has the standard deviation √β_k; here it is √β̃_k": back(size=lambda b, p, n: b.sqrt()),
        "the variance stands in front of the noise; take its root": back(size=lambda b, p, n: b * (1 - p) / (1 - n)),
        "the fresh noise is missing": back(size=lambda b, p, n: 0.0),
        "the fresh noise is not scaled": back(size=lambda b, p, n: 1.0),
        "the predicted noise was added instead of subtracted": back(lambda b, p, n: -b / (1 - n).sqrt()),
        "the root of 1 − ᾱ_k is missing": back(lambda b, p, n: b / (1 - n)),
        "β_k is missing in front of the predicted noise": back(lambda b, p, n: 1 / (1 - n).sqrt()),
        "√ᾱ_k stands where √(1 − ᾱ_k) belongs": back(lambda b, p, n: b / n.sqrt()),
        "1 − α_k stands where 1 − ᾱ_k belongs": back(lambda b, p, n: b.sqrt()),
        "the division by √α_k is missing": back(scale=lambda b, p, n: 1.0),
        "the division is by α_k instead of √α_k": back(scale=lambda b, p, n: 1 - b),
        "only x was divided by √α_k, not the predicted noise": back(lambda b, p, n: b * ((1 - b) / (1 - n)).sqrt()),
        "fresh and predicted noise are exchanged": lambda x, eps, k, betas, noise: back()(x, noise, k, betas, eps),
        EARLY: back(shift=-1),
        LATE: back(shift=1),
    },
)
def ancestral_step(betas, k, shape, dtype=torch.float32, table=None):
    x, eps, noise = (states(seed, *shape, dtype=dtype) for seed in (14, 15, 16))
    betas = chain(betas, table or dtype)
    mean, variance = bayes(x, guess(x, eps, alpha_bars(betas)[k]), k, betas)
    what = f"the state after the step for k = {k}"
    return Case(what, (x, eps, k, betas, noise), mean + math.sqrt(variance) * noise)


# --- the bound --------------------------------------------------------------------------------------------------------


def exact_terms(x0, eps, betas, noises, kl=kl_divergence) -> Tensor:
    """The terms from torch's own densities and divergences, with posteriors by Bayes' rule."""
    bars, size, terms = alpha_bars(betas), len(betas) - 1, []
    for k in range(1, size + 1):
        x = math.sqrt(bars[k]) * x0 + math.sqrt(1 - bars[k]) * noises[k - 1]
        data = guess(x, eps(x, 1 - k / size), bars[k])
        model = Normal(bayes(x, data, k, betas)[0], math.sqrt(betas[k]))
        mean, variance = bayes(x, x0, k, betas)
        terms.append(model.log_prob(x0) if k == 1 else -kl(Normal(mean, math.sqrt(variance)), model))
    last = Normal(math.sqrt(bars[-1]) * x0, math.sqrt(1 - bars[-1]))
    terms.append(-kl_divergence(last, Normal(torch.zeros_like(x0), torch.ones_like(x0))))
    return torch.stack([term.flatten(1).sum(1) for term in terms])


def terms_with(
    sign=1,
    weight=lambda b, p, n: b / (2 * (1 - b) * (1 - n)),
    spread=lambda d, r: d / 2 * (r - 1 - r.log()),
    first=lambda d, b: d / 2 * torch.log(2 * math.pi * b),
    last=lambda q, n, d: (n * q - d * n - d * torch.log(1 - n)) / 2,
    clock=lambda k, size: 1 - k / size,
    norms=lambda e: e.square().flatten(1).sum(1),
    count=lambda x0: x0[0].numel(),
):
    """elbo_terms as an answer, with other weights, constants, times or norms."""

    def answer(x0, eps, betas, noises):
        d, size, terms = count(x0), len(betas) - 1, []
        for k in range(1, size + 1):
            (b, p, n), e = levels(betas, k), noises[k - 1]
            each = weight(b, p, n) * norms(e - eps(n.sqrt() * x0 + (1 - n).sqrt() * e, clock(k, size)))
            terms.append(-each - first(d, b) if k == 1 else -sign * (each + spread(d, (1 - p) / (1 - n))))
        return torch.stack([*terms, -last(norms(x0), n, d)])

    return answer


def rows_of_the_bound(answer, case):
    """The terms row by row; the network is shown states like x_0."""
    x0, eps, betas, _ = case.args
    found, expected = answer(*case.args), case.expected
    if not isinstance(found, Tensor) or found.shape != expected.shape or not found.is_floating_point():
        yield Look("the tensor of terms, (K + 1, n),", found, expected)
        return
    for state, *_ in eps.calls:
        require(state.dtype == x0.dtype, f"the network was shown states of {state.dtype}; keep that of x0, {x0.dtype}")
    if betas.dtype != x0.dtype:
        found = found.to(x0.dtype)  # a double table may make the sum double
    names = ["log p(x_0 given x_1)", *(f"minus the KL of step {k}" for k in range(2, len(betas))), "minus the last KL"]
    for row, name in enumerate(names):
        yield Look(f"row {row}, {name},", found[row], expected[row])


@lab.exercise(
    reread=("eq-elbo", "intro, § 4.4 (the bound above the exercise)"),
    passed="a bound that is a weighted noise loss",
    hints=(
        "Each KL is a weighted error of the noise plus a constant that no network can change. Which constant?",
        "With r = (1 − ᾱ_{k−1})/(1 − ᾱ_k), the KL of step k is w_k ‖ε − ε̂‖² + d/2 (r − 1 − log r).",
        "Row 0 is −w_1 ‖ε − ε̂‖² − d/2 log(2π β_1); the last KL is that of N(√ᾱ_K x_0, (1 − ᾱ_K) I) to N(0, I).",
    ),
    withhold=("ddpm.Chain.elbo_terms",),
    library=terms_with(),
    judge=rows_of_the_bound,
    visible=[
        ((0.1, 0.25, 0.42, 0.3, 0.55), (4, 3)),
        ((0.13, 0.2, 0.4), (2, 2, 2, 3), torch.float32, DOUBLE),
        ((0.3, 0.17, 0.24), (1, 4), DOUBLE),
    ],
    mistakes={
        "the terms have the wrong sign: each KL is subtracted": terms_with(sign=-1),
        "the errors are not weighted with w_k": terms_with(weight=lambda b, p, n: 1.0),
        "α_k is missing in the weight w_k": terms_with(weight=lambda b, p, n: b / (2 * (1 - n))),
        "1 − ᾱ_k is missing in the weight w_k": terms_with(weight=lambda b, p, n: b / (2 * (1 - b))),
        "the factor ½ of the weight w_k is missing": terms_with(weight=lambda b, p, n: b / ((1 - b) * (1 - n))),
        "the constant of the KL, d (v/v' − 1 − log v/v') / 2, is missing": terms_with(spread=lambda d, r: 0.0),
        "the constant of the KL lacks the d": terms_with(spread=lambda d, r: (r - 1 - r.log()) / 2),
        "the two Gaussians of the KL are exchanged": partial(exact_terms, kl=lambda q, p: kl_divergence(p, q)),
        "errors were averaged over the coordinates; sum": terms_with(norms=lambda e: e.square().flatten(1).mean(1)),
        "squares were summed over dimension 1 alone; flatten(1)": terms_with(norms=lambda e: e.square().sum(1)),
        "d is the size of one dimension; count all, x0[0].numel()": terms_with(count=lambda x0: x0.shape[1]),
        "the network was asked at k/K; our time is 1 − k/K": terms_with(clock=lambda k, size: k / size),
        "the network was asked one step off, at 1 − (k − 1)/K": terms_with(clock=lambda k, size: 1 - (k - 1) / size),
        "−d/2 log(2πβ_1) is missing in row 0": terms_with(first=lambda d, b: 0.0),
        "2π is missing in −d/2 log(2πβ_1)": terms_with(first=lambda d, b: d / 2 * b.log()),
        "the last KL lacks its constant": terms_with(last=lambda q, n, d: n * q / 2),
        "the sum came back; each of the K + 1 terms is wanted": lambda *args: terms_with()(*args).sum(0),
    },
)
def elbo_terms(betas, shape, dtype=torch.float32, table=None):
    eps = Field(lambda x, t: (0.3 + 0.5 * t) * x.flip(-1) - 0.2 * t)
    x0, betas = states(17, *shape, dtype=dtype), chain(betas, table or dtype)
    noises = states(18, len(betas) - 1, *shape, dtype=dtype)
    expected = exact_terms(x0.double(), eps.value, betas.double(), noises.double()).to(dtype)
    return Case("the terms", (x0, eps, betas, noises), expected)
