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
    reread=("eq-dsm", "the loss above the exercise"),
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
    reread=("eq-noise", "how score and noise are related, above the exercise"),
    passed="the mean of ‖ε_θ − ε‖²: a target of the same size at every time",
    hints=(
        "Put s = −ε_θ/β into β² ‖s + ε/β‖². What happens to the two β?",
        "What is left is ‖ε − ε_θ‖²: compare the network's answer at x = α z + β ε with ε itself, without any β.",
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


def constant_by(
    each=lambda answer, best, noise: squares(answer - noise) - squares(answer - best),
    error=lambda d: d.std() / len(d) ** 0.5,
    estimate=lambda d: d.mean(),
    state=lambda z, e, a, b: a * z + b * e,
    asked=lambda x, z: x,
    weights=lambda c, t, z: c.weights(t, z)[:2],
):
    """loss_constant as an answer, by the difference of each point. asked: where the best prediction is asked."""

    def answer(eps, best, z, t, noise, schedule):
        x = state(z, noise, *weights(schedule, t, z))
        d = each(eps(x, t), best(asked(x, z), t), noise)
        return estimate(d), error(d)

    return answer


def squares(errors: Tensor) -> Tensor:
    """The squared norm of each point's error."""
    return errors.square().flatten(1).sum(1)


def apart(answer, best, noise):
    """The standard error of two independent means."""
    return ((squares(answer - noise).var() + squares(answer - best).var()) / len(noise)).sqrt()


def unpaired(eps, best, z, t, noise, schedule):
    a, b, _, _ = schedule.weights(t, z)
    x = a * z + b * noise
    return constant_by()(eps, best, z, t, noise, schedule)[0], apart(eps(x, t), best(x, t), noise)


def asked_at_the_states(answer, case):
    """What both functions are shown, and then the two numbers."""
    eps, best, _, t, *_ = case.args
    found = answer(*case.args)
    yield from judges.shown(eps, case.state, t)
    yield from judges.shown(best, case.state, t, "the state that the best prediction is shown")
    yield from judges.parts(found, case)


@lab.exercise(
    reread=("eq-constant", "the theorem above the exercise"),
    passed="one constant for every network, and how well it is known",
    hints=(
        "Both sides are means over points. Make the state x once, and ask both functions there.",
        "y_i is the squared distance of eps(x, t) from the noise minus that from best(x, t), summed over coordinates.",
        "Return y.mean() and y.std() / len(y) ** 0.5, where y has the shape (n,).",
    ),
    library=constant_by(),
    judge=asked_at_the_states,
    visible=[
        (Bent(), times(6), (6, 3)),
        (Powers(), times(3), (3, 1, 3, 2)),
        (CondOT(0.2), torch.tensor([1.0, 0.0], dtype=DOUBLE), (2, 2, 2, 3)),
        (VE(1.7), times(5, dtype=DOUBLE), (5, 4)),
    ],
    mistakes={
        "the sign is reversed: C is the loss minus the distance from the best": constant_by(
            lambda n, b, e: squares(n - b) - squares(n - e)
        ),
        "this is the loss; the distance from the best was not subtracted": constant_by(lambda n, b, e: squares(n - e)),
        "this is the distance from the best prediction alone": constant_by(lambda n, b, e: squares(n - b)),
        "this is the loss of the best prediction; the network was not used": constant_by(
            lambda n, b, e: squares(b - e)
        ),
        "the two distances were added": constant_by(lambda n, b, e: squares(n - e) + squares(n - b)),
        "means were taken over the coordinates too; sum over them": constant_by(
            lambda n, b, e: (squares(n - e) - squares(n - b)) / e[0].numel()
        ),
        "squares were summed over dimension 1 alone; flatten first": constant_by(
            lambda n, b, e: (n - e).square().sum(1) - (n - b).square().sum(1)
        ),
        "distances were taken without the square": constant_by(
            lambda n, b, e: squares(n - e).sqrt() - squares(n - b).sqrt()
        ),
        "this is the standard deviation of the differences; divide it by √n": constant_by(error=lambda d: d.std()),
        "the standard deviation was divided by n instead of √n": constant_by(error=lambda d: d.std() / len(d)),
        "the variance was taken for the standard deviation": constant_by(error=lambda d: d.var() / len(d) ** 0.5),
        "this is the squared standard error; take the root": constant_by(error=lambda d: d.var() / len(d)),
        "the errors of the two means were added as if they were independent; take that of the differences": unpaired,
        "the differences were summed over the batch instead of averaged": constant_by(estimate=lambda d: d.sum()),
        "the network was shown the clean data z instead of the noised state x": constant_by(state=lambda z, *_: z),
        "the best prediction was asked at the data z; ask it at x": constant_by(asked=lambda x, z: z),
        "α and β are exchanged in the state": constant_by(state=lambda z, e, a, b: b * z + a * e),
        "the state is t z + (1 − t) ε; use the schedule": constant_by(
            weights=lambda c, t, z: CondOT().weights(t, z)[:2]
        ),
        FLAT: constant_by(weights=lambda c, t, z: (flat(c.alpha(t), z), flat(c.beta(t), z))),
    },
)
def loss_constant(schedule, t, shape):
    """‖ε_θ − ε‖² − ‖ε_θ − ε*‖² of each point is (2 ε_θ − ε − ε*)·(ε* − ε)."""
    z, noise = states(19, *shape, dtype=t.dtype), states(20, *shape, dtype=t.dtype)
    eps, best = Field(lambda x, t: (0.4 + t) * x.flip(-1) - 0.7), Field(lambda x, t: 0.6 * x - 0.3 * t**2)
    a, b, _, _ = schedule.weights(t, z)
    x = a * z + b * noise
    star = best.value(x, t)
    each = ((2 * eps.value(x, t) - noise - star) * (star - noise)).double().flatten(1).sum(1)
    deviations = each - each.mean()
    error = (deviations.square().sum() / (len(z) - 1) / len(z)).sqrt()
    expected = {"the estimate": float(each.mean()), "the standard error": float(error)}
    what = f"for shape {shape}"
    return Case(what, (eps, best, z, t, noise, schedule), expected, state=x)


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
    reread=("eq-two", "the three equations at the beginning of section 2"),
    passed="the score that a field contains",
    hints=(
        "Data and noise are two unknowns, the state and the field two equations. Which unknown does the score need?",
        "α̇ times the first equation minus α times the second leaves the noise alone: α̇ x − α u = (α̇ β − α β̇) ε̄.",
        "Shape the four functions of the schedule with coefficient, compute ε̄, and return −ε̄/β.",
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
    reread=("eq-two", "the three equations at the beginning of section 2"),
    passed="a score network alone is a flow model",
    hints=(
        "Test it on what you know: score_from_vector_field, and then this conversion, should change nothing.",
        "The noise is ε̄ = −β s, and then the data are z̄ = (x − β ε̄)/α.",
        "Shape the four functions of the schedule with coefficient, and return α̇ z̄ + β̇ ε̄.",
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


def library_steps(u, s, sigma, start, ts, noises):
    """Euler–Maruyama by the library, with the noise that is given."""
    x, process = start, sde_extension(u, s, sigma)
    for t, end, noise in zip(ts[:-1], ts[1:], noises):
        x = EulerMaruyama().step(process, x, t, end, noise)
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
        "Loop over ts[:-1], ts.diff() and noises together; make a new x in each step, and return the last.",
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
        "the score is missing: nothing compensates the noise": walk(lambda u, s, g: u),
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
    ts, start = torch.tensor(ts, dtype=dtype), states(8, *shape, dtype=dtype)
    noises = states(9, len(ts) - 1, *shape, dtype=dtype)
    what = f"the last state for shape {shape} and {len(noises)} steps from t = {float(ts[0]):g}"
    return Case(what, (u, s, sigma, start, ts, noises), library_steps(u.value, s.value, sigma, start, ts, noises))


# --- the diffusion's own time -----------------------------------------------------------------------------------------


def area(tau, low, high):
    """The integral of the noise rate from 0 to τ."""
    return low * tau + (high - low) * tau**2 / 2


def vp(integral=area, std=lambda a: (1 - a**2).sqrt(), asked=lambda tau: tau):
    """forward_marginal as an answer, by integral(τ, b_min, b_max) and std(a)."""

    def answer(tau, low, high):
        a = torch.exp(-integral(asked(torch.as_tensor(tau)), low, high) / 2)
        return a, std(a)

    return answer


@lab.exercise(
    reread=("eq-vp", "the Gaussian above the exercise"),
    passed="the diffusion is a Gaussian path",
    hints=(
        "Everything follows from the integral of the noise rate from 0 to τ. Can you draw its area?",
        "The integral is b_min τ + (b_max − b_min) τ²/2, and a is e to the power of minus half of it.",
        "The variance is 1 − a²; return a and its square root, of a tensor made with torch.as_tensor(tau).",
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
        "the rate was not integrated, but multiplied by τ": vp(lambda s, b0, b1: s * (b0 + (b1 - b0) * s)),
        "the integral has τ where τ² belongs": vp(lambda s, b0, b1: b0 * s + (b1 - b0) * s / 2),
        "the rectangle was left out: the rate begins at b_min": vp(lambda s, b0, b1: (b1 - b0) * s**2 / 2),
        "the triangle was left out: the rate grows with τ": vp(lambda s, b0, b1: b0 * s),
        "the triangle has height b_max instead of b_max − b_min": vp(lambda s, b0, b1: b0 * s + b1 * s**2 / 2),
        "b_min and b_max are exchanged": vp(lambda s, b0, b1: area(s, b1, b0)),
        "the usual rates 0.1 and 20 are written in; use those that are given": vp(lambda s, *_: area(s, 0.1, 20.0)),
        "time runs the wrong way: τ = 0 is the data": vp(asked=lambda s: 1 - s),
        "the two results are exchanged: the mean coefficient comes first": lambda *args: vp()(*args)[::-1],
        "the variance was returned; take its root": vp(std=lambda a: 1 - a**2),
        "the standard deviation was computed as 1 − a": vp(std=lambda a: 1 - a),
        "a is not squared in 1 − a²": vp(std=lambda a: (1 - a).sqrt()),
    },
)
def forward_marginal(tau, low, high):
    diffusion = DiffusionSchedule(lambda r: -(low + (high - low) * r) / 2, lambda r: (low + (high - low) * r).sqrt())
    now = 1 - torch.as_tensor(tau).double()
    pair = diffusion.alpha(now), diffusion.beta(now)
    pair = [value.to(tau.dtype) if isinstance(tau, Tensor) else float(value) for value in pair]
    what = f"at τ = {float(tau):g}" if not getattr(tau, "ndim", 0) else f"for τ of shape {tuple(tau.shape)}"
    return Case(what, (tau, low, high), dict(zip(("the mean coefficient", "the standard deviation"), pair)))


def drift_with(of, clock=lambda t: 1 - t, asked=lambda t: t, shape=coefficient, level=lambda sigma: sigma):
    """A drift as an answer, by a formula of x, the score, f, g and σ."""

    def answer(score, x, t, f, g, sigma):
        values = f(clock(t)), g(clock(t)), level(sigma)
        return of(x, score(x, asked(t)), *(shape(value, x) for value in values))

    return answer


def back_in_time(x, s, f, g, sigma):
    """The drift −f x + ½ (g² + σ²) s."""
    return -f * x + (g**2 + sigma**2) / 2 * s


class Swelling(Schedule):
    """α = 2 − t, β = (1 − t)(2 − t): a diffusion that spreads states out, f = 1/(1 + τ) > 0."""

    def alpha(self, t):
        return 2 - time(t)

    def beta(self, t):
        return (1 - time(t)) * (2 - time(t))

    def alpha_dot(self, t):
        return -torch.ones_like(time(t))

    def beta_dot(self, t):
        return 2 * time(t) - 3


@lab.exercise(
    reread=("eq-reverse", "the reverse SDE above the exercise"),
    passed="one drift for the reverse SDE, the probability flow and all between them",
    hints=(
        "With dt = −dτ the drift changes its sign as a whole: −f x + g² score, with the noise g, at τ = 1 − t.",
        "Section 3 says that this is u + ½ g² score. So the field is u = −f x + ½ g² score; now add ½ σ² score.",
        "Shape f(1 − t), g(1 − t) and sigma with coefficient; the score is asked at our time t.",
    ),
    withhold=("processes.reverse_sde", "processes.probability_flow"),
    library=drift_with(back_in_time),
    visible=[
        (LinearVP(0.3, 7.0), times(5), (5, 3), 1.3),
        (Swelling(), times(3), (3, 1, 3, 2), times(3, 0.4, 2.2)),
        (VE(1.5), 0.37, (2, 2, 2, 3), 0.0),
        (LinearVP(1.2, 4.0), torch.tensor(0.8), (1, 4), torch.tensor(0.7)),
        (Swelling(), torch.tensor([0.0, 1.0]), (2, 3), 2.4, DOUBLE),
    ],
    mistakes={
        words: drift_with(mistaken)
        for words, mistaken in {
            "this is the drift of the forward diffusion": lambda x, s, f, g, c: f * x,
            "this is for τ running down; our time runs up: all signs turn": lambda x, s, f, g, c: (
                -back_in_time(x, s, f, g, c)
            ),
            "f did not turn its sign: our time runs backwards in τ": lambda x, s, f, g, c: back_in_time(x, s, -f, g, c),
            "the score has the wrong sign: it pulls towards likely states": lambda x, s, f, g, c: back_in_time(
                x, -s, f, g, c
            ),
            "this is the reverse SDE, whose noise is g; the noise that is asked for is σ": lambda x, s, f, g, c: (
                -f * x + g**2 * s
            ),
            "this is the probability flow, without what σ adds": lambda x, s, f, g, c: -f * x + g**2 / 2 * s,
            "½ σ² was added to the drift of the reverse SDE, not to the field": lambda x, s, f, g, c: (
                -f * x + (g**2 + c**2 / 2) * s
            ),
            "σ stands in place of g everywhere": lambda x, s, f, g, c: -f * x + c**2 * s,
            "the factor ½ is missing": lambda x, s, f, g, c: -f * x + (g**2 + c**2) * s,
            "½ σ² was subtracted": lambda x, s, f, g, c: -f * x + (g**2 - c**2) / 2 * s,
            "g is not squared": lambda x, s, f, g, c: -f * x + (g + c**2) / 2 * s,
            "σ is not squared": lambda x, s, f, g, c: -f * x + (g**2 + c) / 2 * s,
            "g and σ were added before they were squared": lambda x, s, f, g, c: -f * x + (g + c) ** 2 / 2 * s,
            "f was not multiplied by x": lambda x, s, f, g, c: -f + (g**2 + c**2) / 2 * s,
            "the score is missing": lambda x, s, f, g, c: -f * x,
            "the term with f is missing": lambda x, s, f, g, c: (g**2 + c**2) / 2 * s,
        }.items()
    }
    | {
        "f and g were asked at t; their time is τ = 1 − t": drift_with(back_in_time, clock=lambda t: t),
        "the score was asked at 1 − t; its time is ours": drift_with(back_in_time, asked=lambda t: 1 - t),
        FLAT: drift_with(back_in_time, shape=flat),
        FIRST: drift_with(back_in_time, clock=lambda t: 1 - first(t)),
        "all points got the σ of the first; each may have its own": drift_with(back_in_time, level=first),
    },
)
def reverse_sde_drift(schedule, t, shape, sigma, dtype=torch.float32):
    """The path's vector field and ½ σ² times its score, for Gaussian data noised along a schedule."""

    def f(tau):
        return diffusion_coefficients(schedule, 1 - tau)[0]

    def g(tau):
        return diffusion_coefficients(schedule, 1 - tau)[1]

    x, mean = states(10, *shape, dtype=dtype), states(11, *shape[1:], dtype=dtype)
    t, sigma = cast(t, dtype), cast(sigma, dtype)
    exact = schedule, cast(t, DOUBLE), x.double(), mean.double()
    score = Field(lambda x, t: score_of_gaussian_data(schedule, t, x, mean.to(x)))
    pull = coefficient(cast(sigma, DOUBLE), x) ** 2 * score_of_gaussian_data(*exact)
    expected = field_of_gaussian_data(*exact) + pull / 2
    return Case(f"the drift {at(shape, t)}", (score, x, t, f, g, sigma), expected.to(dtype))


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


def bayes(x: Tensor, z: Tensor, k: int, betas: Tensor) -> tuple[Tensor, float]:
    """Mean and variance of q(x_{k−1} | x_k, z) by Bayes' rule: precisions of prior and likelihood add up."""
    beta, bar = float(betas[k]), alpha_bars(betas)[k - 1]
    if k == 1:
        return z, 0.0
    variance = 1 / ((1 - beta) / beta + 1 / (1 - bar))
    return variance * (math.sqrt(1 - beta) / beta * x + math.sqrt(bar) / (1 - bar) * z), variance


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
    """ddpm_posterior as an answer: the weights of z and x_k and the variance, of β_k, ᾱ_{k−1} and ᾱ_k."""

    def answer(x, z, k, betas):
        values = levels(betas, k + shift, bars)
        return data(*values) * z + state(*values) * x, variance(*values)

    return answer


def nearly_zero(answer, case):
    """`judges.value`, but where a number should be 0, rounding may leave a little."""
    for look in judges.value(answer, case):
        yield look._replace(error=1e-6) if isinstance(look.expected, float) and not look.expected else look


@lab.exercise(
    reread=("eq-posterior", "the posterior above the exercise"),
    passed="Bayes' rule for one step of the chain",
    hints=(
        "Which of the tables does each symbol come from: β_k, α_k = 1 − β_k, or the product ᾱ_k?",
        "With bars = (1 − betas).cumprod(0), bars[k] is ᾱ_k and bars[k − 1] is ᾱ_{k−1}.",
        "Write the weight of z, the weight of x_k and the variance, one line each; all have 1 − ᾱ_k below.",
    ),
    withhold=("ddpm.Chain.posterior_mean", "ddpm.Chain.posterior_variance"),
    library=posterior(),
    judge=nearly_zero,
    visible=STEPS,
    mistakes={
        "the weights of z and x_k are exchanged": lambda x, z, k, betas: posterior()(z, x, k, betas),
        "√ᾱ_k stands in front of z where √ᾱ_{k−1} belongs": posterior(lambda b, p, n: n.sqrt() * b / (1 - n)),
        "the root of ᾱ_{k−1} is missing in front of z": posterior(lambda b, p, n: p * b / (1 - n)),
        "β_k is missing in front of z": posterior(lambda b, p, n: p.sqrt() / (1 - n)),
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
    x, z, betas = states(12, *shape, dtype=dtype), states(13, *shape, dtype=dtype), chain(betas, table or dtype)
    mean, variance = bayes(x, z, k, betas)
    return Case(f"for k = {k}", (x, z, k, betas), {"the mean": mean, "the variance": variance})


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
    reread=("eq-ancestral", "the step above the exercise"),
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


def exact_terms(z, eps, betas, noises, kl=kl_divergence) -> Tensor:
    """The terms from torch's own densities and divergences, with posteriors by Bayes' rule."""
    bars, size, terms = alpha_bars(betas), len(betas) - 1, []
    for k in range(1, size + 1):
        x = math.sqrt(bars[k]) * z + math.sqrt(1 - bars[k]) * noises[k - 1]
        data = guess(x, eps(x, 1 - k / size), bars[k])
        model = Normal(bayes(x, data, k, betas)[0], math.sqrt(betas[k]))
        mean, variance = bayes(x, z, k, betas)
        terms.append(model.log_prob(z) if k == 1 else -kl(Normal(mean, math.sqrt(variance)), model))
    last = Normal(math.sqrt(bars[-1]) * z, math.sqrt(1 - bars[-1]))
    terms.append(-kl_divergence(last, Normal(torch.zeros_like(z), torch.ones_like(z))))
    return torch.stack([term.flatten(1).sum(1) for term in terms])


def terms_with(
    sign=1,
    weight=lambda b, p, n: b / (2 * (1 - b) * (1 - n)),
    spread=lambda d, r: d / 2 * (r - 1 - r.log()),
    first=lambda d, b: d / 2 * torch.log(2 * math.pi * b),
    last=lambda q, n, d: (n * q - d * n - d * torch.log(1 - n)) / 2,
    clock=lambda k, size: 1 - k / size,
    norms=lambda e: e.square().flatten(1).sum(1),
    count=lambda z: z[0].numel(),
):
    """elbo_terms as an answer, with other weights, constants, times or norms."""

    def answer(z, eps, betas, noises):
        d, size, terms = count(z), len(betas) - 1, []
        for k in range(1, size + 1):
            (b, p, n), e = levels(betas, k), noises[k - 1]
            each = weight(b, p, n) * norms(e - eps(n.sqrt() * z + (1 - n).sqrt() * e, clock(k, size)))
            terms.append(-each - first(d, b) if k == 1 else -sign * (each + spread(d, (1 - p) / (1 - n))))
        return torch.stack([*terms, -last(norms(z), n, d)])

    return answer


def rows_of_the_bound(answer, case):
    """The terms row by row; the network is shown states like z."""
    z, eps, betas, _ = case.args
    found, expected = answer(*case.args), case.expected
    if not isinstance(found, Tensor) or found.shape != expected.shape or not found.is_floating_point():
        yield Look("the tensor of terms, (K + 1, n),", found, expected)
        return
    for state, *_ in eps.calls:
        require(state.dtype == z.dtype, f"the network was shown states of {state.dtype}; keep that of z, {z.dtype}")
    if betas.dtype != z.dtype:
        found = found.to(z.dtype)  # a double table may make the sum double
    names = ["log p(z given x_1)", *(f"minus the KL of step {k}" for k in range(2, len(betas))), "minus the last KL"]
    for row, name in enumerate(names):
        yield Look(f"row {row}, {name},", found[row], expected[row])


@lab.exercise(
    reread=("eq-elbo", "the bound above the exercise"),
    passed="a bound that is a weighted noise loss",
    hints=(
        "Each KL is a weighted error of the noise plus a constant that no network can change. Which constant?",
        "With r = (1 − ᾱ_{k−1})/(1 − ᾱ_k), the KL of step k is w_k ‖ε − ε̂‖² + d/2 (r − 1 − log r).",
        "Row 0 is −w_1 ‖ε − ε̂‖² − d/2 log(2π β_1); the last KL is that of N(√ᾱ_K z, (1 − ᾱ_K) I) to N(0, I).",
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
        "d is the size of one dimension; count all, z[0].numel()": terms_with(count=lambda z: z.shape[1]),
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
    z, betas = states(17, *shape, dtype=dtype), chain(betas, table or dtype)
    noises = states(18, len(betas) - 1, *shape, dtype=dtype)
    expected = exact_terms(z.double(), eps.value, betas.double(), noises.double()).to(dtype)
    return Case("the terms", (z, eps, betas, noises), expected)
