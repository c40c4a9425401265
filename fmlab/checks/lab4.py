"""Checks of lab 4: score matching and diffusion.

Truth comes from the definition of a path: where a state α z + β ε is made of known data and noise, every output of a
network is known too. It comes from Bayes' rule for Gaussians, from torch's own KL divergence, and from gradients.
Nothing is random: times and noise are passed in.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from fmlab.checks.compare import describe, fail, require, require_close, require_number, require_tensor
from fmlab.checks.inputs import Bent, states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.schedules import coefficient

TIMES = torch.tensor([0.15, 0.3, 0.45, 0.6, 0.75, 0.85])


def weights(schedule, t: Tensor, x: Tensor) -> list[Tensor]:
    """α, β, α̇, β̇ at t in the shape that multiplies x."""
    values = schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)
    return [coefficient(value, x) for value in values]


# --- losses ----------------------------------------------------------------------------------------------------------


def line(w: Tensor):
    """A network with the one weight w."""
    return lambda x, t: w * (1 + coefficient(t, x)) * x


def squares(errors: Tensor) -> Tensor:
    """The squared norm of each point's error: (n,)."""
    return (errors.reshape(len(errors), -1) ** 2).sum(1)


def require_loss(found, n: int) -> None:
    """Fail unless `found` is a tensor with one number."""
    if isinstance(found, Tensor) and found.shape == (n,):
        fail(f"one loss for each of the {n} points came back; average them over the batch")
    require_tensor(found, found.new_empty(()) if isinstance(found, Tensor) else torch.empty(()), "the loss")


def require_gradient(found: Tensor, w: Tensor, expected: Tensor) -> None:
    """Fail unless the loss has the expected loss's gradient with respect to the network's weight."""
    right = torch.autograd.grad(expected, w)[0]
    cut = "the value is right, but no gradient reaches the network: no detach(), item(), numpy() or torch.no_grad()"
    require(found.requires_grad, cut)
    gradient = torch.autograd.grad(found, w, allow_unused=True)[0]
    require(gradient is not None, cut)
    require_close(gradient, right, "the gradient of the loss", tolerance=1e-4)


def require_regression(answer, target, mistakes) -> None:
    """Fail unless the answer is the mean of ‖network(α z + β ε, t) − target(ε, β)‖² over the batch.

    mistakes(score, x, a, b, z, noise): words → value of the loss, with score(x, target) for the loss of another state
    or target.
    """
    schedule, t, w = Bent(), TIMES, torch.tensor(0.7, requires_grad=True)
    z, noise = states(1, 6, 3), states(2, 6, 3)
    network, (a, b, _, _) = line(w), weights(schedule, t, z)
    x, right = a * z + b * noise, target(noise, b)

    def loss(x, target, t=t):
        return squares(network(x, t) - target).mean()

    errors = network(x, t) - right
    common = {
        "the mean was taken over the coordinates too; each point's error is their sum": errors.square().mean(),
        "the losses were summed over the batch instead of averaged": squares(errors).sum(),
        "the square is missing: distances were averaged": squares(errors).sqrt().mean(),
        "there is a factor ½ too many": squares(errors).mean() / 2,
        "the errors were summed over the coordinates before they were squared": errors.sum(1).square().mean(),
        "the network was shown the clean data z instead of the noised state x": loss(z, right),
        "the network was shown the noise instead of the noised state x": loss(noise, right),
        "α and β are exchanged in the state": loss(b * z + a * noise, right),
        "β² was used in the state; β is already a standard deviation": loss(a * z + b**2 * noise, right),
        "the noise was added to the data without β": loss(a * z + noise, right),
        "the data were not multiplied by α": loss(z + b * noise, right),
        "the network was asked at 1 − t": loss(x, right, 1 - t),
        "the schedule was ignored: this is the state t z + (1 − t) ε": loss(
            coefficient(t, z) * z + coefficient(1 - t, z) * noise, target(noise, coefficient(1 - t, z))
        ),
    }
    found = answer(network, z, t, noise, schedule)
    require_loss(found, len(z))
    expected = squares(errors).mean()
    require_close(found, expected, "the loss", mistakes(loss, x, a, b, z, noise) | common, tolerance=3e-5)
    require_gradient(found, w, expected)


@check(
    reread="slides, denoising score matching",
    passed="the noise is the target, at the size of the score",
    points=4,
    hints=(
        "Noise the data first. Where does the conditional score of that state point, and how large is it?",
        "The target is −ε/β at the state x = α z + β ε, so the error of each point is s(x, t) + ε/β.",
        "Shape α and β with coefficient, call s once, square, sum over all dimensions but the first, average.",
    ),
    reference=("losses.score_matching_loss",),
)
def denoising_score_matching_loss(answer):
    def mistakes(loss, x, a, b, z, noise):
        error = x * 0.7 * (1 + TIMES[:, None]) + noise / b
        return {
            "the target has the wrong sign: the score points against the noise, −ε/β": loss(x, noise / b),
            "β is missing in the target, −ε/β": loss(x, -noise),
            "the target was divided by β² instead of β": loss(x, -noise / b**2),
            "the target was multiplied by β instead of divided": loss(x, -b * noise),
            "the target is the score of N(0, I), not that of the noised data": loss(x, -x),
            "the error was weighted with β²: that is noise prediction, the next exercise": squares(b * error).mean(),
            "α and β are exchanged everywhere": loss(b * z + a * noise, -noise / a),
            "the target is divided by α instead of β": loss(x, -noise / a),
        }

    require_regression(answer, lambda noise, b: -noise / b, mistakes)


@check(
    reread="slides, DDPM trick",
    passed="a target of the same size at every time",
    points=3,
    hints=(
        "The state is that of the exercise before. What does the network predict now?",
        "Compare the network's answer at x = α z + β ε with ε itself, without any β.",
        "Square the differences, sum them over all dimensions but the first, and take the mean over the batch.",
    ),
    reference=("losses.ddpm_loss",),
)
def noise_prediction_loss(answer):
    def mistakes(loss, x, a, b, z, noise):
        return {
            "the target has the wrong sign: the network predicts ε itself": loss(x, -noise),
            "this is still score matching: the target is ε, not −ε/β": loss(x, -noise / b),
            "the target was divided by β; the network predicts ε itself": loss(x, noise / b),
            "the target was multiplied by β; the network predicts ε itself": loss(x, b * noise),
            "the target is the data z instead of the noise": loss(x, z),
            "the target is the velocity z − ε of flow matching": loss(x, z - noise),
            "the error was weighted with β² once more": squares(b * (x * 0.7 * (1 + TIMES[:, None]) - noise)).mean(),
        }

    require_regression(answer, lambda noise, b: noise, mistakes)


# --- conversions -----------------------------------------------------------------------------------------------------


def outputs(schedule, t: Tensor, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """State, vector field and score where the data and the noise are known: α z + β ε, α̇ z + β̇ ε and −ε/β."""
    a, b, a_dot, b_dot = weights(schedule, t, z)
    return a * z + b * noise, a_dot * z + b_dot * noise, -noise / b


@check(
    reread="slides, DDPM trick",
    passed="ε = −β s, solved for s",
    points=2,
    hints=(
        "Noise and score point in opposite directions. Which of the two is larger near the data?",
        "Solve ε = −β s for s.",
        "The time may be one for each point: shape β with coefficient before you divide.",
    ),
    reference=("conversions.score_from_noise", "conversions.convert"),
)
def score_from_noise(answer):
    schedule, noise = Bent(), states(3, 6, 3)
    for t, which in ((TIMES, "one time for each point"), (torch.tensor(0.6), "one time for all points")):
        a, b, _, _ = weights(schedule, t, noise)
        mistakes = {
            "the sign is missing: the score points against the noise": noise / b,
            "the noise was multiplied by β instead of divided": -b * noise,
            "the noise was divided by β²": -noise / b**2,
            "the noise was divided by α instead of β": -noise / a,
            "β is missing": -noise,
            "the schedule was asked at 1 − t": -noise / coefficient(schedule.beta(1 - t), noise),
            "the schedule was ignored: this is right for β = 1 − t only": -noise / coefficient(1 - t, noise),
            "β was computed as √(1 − α²); not every schedule preserves the variance": -noise / torch.sqrt(1 - a**2),
        }
        require_close(answer(noise, t, schedule), -noise / b, f"the score, {which},", mistakes)


@check(
    reread="slides, conversion formula",
    passed="whoever knows the field knows the score",
    points=4,
    hints=(
        "Data and noise are two unknowns, the state and the field two equations. Which unknown does the score need?",
        "The numerator is α u − α̇ x, the denominator β² α̇ − α β̇ β.",
        "Ask the schedule for its four functions at t, shape each with coefficient, and put them into the formula.",
    ),
    reference=("conversions.score_from_vector_field", "conversions.convert"),
)
def score_from_vector_field(answer):
    schedule, z, noise = Bent(), states(4, 6, 3), states(5, 6, 3)
    for t, which in ((TIMES, "one time for each point"), (torch.tensor(0.6), "one time for all points")):
        x, u, s = outputs(schedule, t, z, noise)
        a, b, a_dot, b_dot = weights(schedule, t, z)
        below, time = b**2 * a_dot - a * b_dot * b, coefficient(t, z)
        mistakes = {
            "the sign is reversed": -s,
            "the state x is missing in the numerator": a * u / below,
            "x is not multiplied by α̇": (a * u - x) / below,
            "u is not multiplied by α": (u - a_dot * x) / below,
            "u and x are exchanged": (a * x - a_dot * u) / below,
            "there is a plus between α u and α̇ x": (a * u + a_dot * x) / below,
            "the first β in the denominator is not squared": (a * u - a_dot * x) / (b * a_dot - a * b_dot * b),
            "a β is missing in the second term of the denominator": (a * u - a_dot * x) / (b**2 * a_dot - a * b_dot),
            "there is a plus in the denominator": (a * u - a_dot * x) / (b**2 * a_dot + a * b_dot * b),
            "the denominator was multiplied instead of divided by": (a * u - a_dot * x) * below,
            "the division by the denominator is missing": a * u - a_dot * x,
            "the formula is that of α = t, β = 1 − t; use the schedule": (time * u - x) / (1 - time),
            "this is the noise, −β s, not the score": -b * s,
            "the formula is that of the other direction, from score to field": (b**2 * a_dot / a - b_dot * b) * u
            + a_dot / a * x,
            "the schedule was asked at 1 − t": reversed_time(schedule, u, x, t),
            "the derivatives of α and β are exchanged": (a * u - b_dot * x) / (b**2 * b_dot - a * a_dot * b),
        }
        found = answer(u, x, t, schedule)
        require_close(found, s, f"the score, {which},", mistakes, tolerance=1e-4)


def reversed_time(schedule, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The conversion to the score with the coefficients of 1 − t."""
    a, b, a_dot, b_dot = weights(schedule, 1 - t, x)
    return (a * u - a_dot * x) / (b**2 * a_dot - a * b_dot * b)


@check(
    reread="slides, proposition 1",
    passed="a score network alone is a flow model",
    points=3,
    hints=(
        "Test it on what you know: the conversion of the exercise before, and then this one, should change nothing.",
        "The field is a multiple of the score plus α̇/α times the state; the multiple is β² α̇/α − β̇ β.",
        "Compute α̇/α once, shape all values with coefficient, and add the two terms.",
    ),
    reference=("conversions.vector_field_from_score", "conversions.convert"),
)
def vector_field_from_score(answer):
    schedule, z, noise = Bent(), states(6, 6, 3), states(7, 6, 3)
    for t, which in ((TIMES, "one time for each point"), (torch.tensor(0.6), "one time for all points")):
        x, u, s = outputs(schedule, t, z, noise)
        a, b, a_dot, b_dot = weights(schedule, t, z)
        growth, time = a_dot / a, coefficient(t, z)
        mistakes = {
            "the sign is reversed": -u,
            "the term with x is missing": u - growth * x,
            "the term with the score is missing": growth * x,
            "the term β̇ β is missing": b**2 * growth * s + growth * x,
            "there is a plus in front of β̇ β": (b**2 * growth + b_dot * b) * s + growth * x,
            "β is not squared in the first term": (b * growth - b_dot * b) * s + growth * x,
            "β̇ alone stands where β̇ β belongs": (b**2 * growth - b_dot) * s + growth * x,
            "α̇/α was turned over": (b**2 / growth - b_dot * b) * s + x / growth,
            "α̇ stands where α̇/α belongs": (b**2 * a_dot - b_dot * b) * s + a_dot * x,
            "s and x are exchanged": (b**2 * growth - b_dot * b) * x + growth * s,
            "the term with x was subtracted": (b**2 * growth - b_dot * b) * s - growth * x,
            "the formula is that of α = t, β = 1 − t; use the schedule": ((1 - time) * s + x) / time,
            "the formula is that of the other direction, from field to score": (a * s - a_dot * x)
            / (b**2 * a_dot - a * b_dot * b),
        }
        found = answer(s, x, t, schedule)
        require_close(found, u, f"the field, {which},", mistakes, tolerance=1e-4)


# --- sampling --------------------------------------------------------------------------------------------------------


def steps(x0: Tensor, ts: Tensor, noises: Tensor, step) -> Tensor:
    """The last state of the recursion x ← step(x, t, h, ε, s) along ts, where s is the time after the step."""
    x = x0
    for k in range(len(ts) - 1):
        x = step(x, float(ts[k]), float(ts[k + 1] - ts[k]), noises[k], float(ts[k + 1]))
    return x


@check(
    reread="slides, sampling with an arbitrary diffusion coefficient",
    passed="one network, any amount of noise",
    points=5,
    hints=(
        "It is lab 1's Euler–Maruyama method. What are the drift and the diffusion coefficient of this equation?",
        "The drift is u + ½ σ² s, the noise σ √h ε, and all of it is evaluated at the start of the step.",
        "Loop over ts[:-1], ts.diff() and noises together; start from x0, make a new x in each step, return the last.",
    ),
    reference=("samplers.sample_diffusion",),
)
def sample_diffusion(answer):
    ts, x0, noises = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0]), states(8, 6, 2), states(9, 4, 6, 2)

    def u(x, t):
        return t + 0.5 * x

    def s(x, t):
        return -(1 + t) * x

    def sigma(t):
        return 1.5 - t

    def run(step):
        return steps(x0, ts, noises, step)

    def drift(x, t):
        return u(x, t) + sigma(t) ** 2 / 2 * s(x, t)

    mistakes = {
        "the factor ½ of the score is missing": run(
            lambda x, t, h, e, _: x + h * (u(x, t) + sigma(t) ** 2 * s(x, t)) + h**0.5 * sigma(t) * e
        ),
        "σ is not squared in the drift": run(
            lambda x, t, h, e, _: x + h * (u(x, t) + sigma(t) / 2 * s(x, t)) + h**0.5 * sigma(t) * e
        ),
        "the score is missing: nothing pays for the noise": run(
            lambda x, t, h, e, _: x + h * u(x, t) + h**0.5 * sigma(t) * e
        ),
        "the score has the wrong sign; it is added to the field": run(
            lambda x, t, h, e, _: x + h * (u(x, t) - sigma(t) ** 2 / 2 * s(x, t)) + h**0.5 * sigma(t) * e
        ),
        "the score was added without ½ σ²": run(
            lambda x, t, h, e, _: x + h * (u(x, t) + s(x, t)) + h**0.5 * sigma(t) * e
        ),
        "the vector field is missing in the drift": run(
            lambda x, t, h, e, _: x + h * sigma(t) ** 2 / 2 * s(x, t) + h**0.5 * sigma(t) * e
        ),
        "h stands in front of the noise where √h belongs": run(
            lambda x, t, h, e, _: x + h * drift(x, t) + h * sigma(t) * e
        ),
        "√h is missing in front of the noise": run(lambda x, t, h, e, _: x + h * drift(x, t) + sigma(t) * e),
        "σ is missing in front of the noise": run(lambda x, t, h, e, _: x + h * drift(x, t) + h**0.5 * e),
        "σ is squared in front of the noise": run(
            lambda x, t, h, e, _: x + h * drift(x, t) + h**0.5 * sigma(t) ** 2 * e
        ),
        "the noise is missing": run(lambda x, t, h, e, _: x + h * drift(x, t)),
        "everything was evaluated at the end of the step instead of its start": run(
            lambda x, t, h, e, s: x + h * drift(x, s) + h**0.5 * sigma(s) * e
        ),
        "the same noise was used in every step": run(
            lambda x, t, h, _, __: x + h * drift(x, t) + h**0.5 * sigma(t) * noises[0]
        ),
        "all steps have the size of the first": run(
            lambda x, t, h, e, _: x + 0.1 * drift(x, t) + 0.1**0.5 * sigma(t) * e
        ),
        "the steps were taken as if the times were evenly spaced": run(
            lambda x, t, h, e, _: x + 0.25 * drift(x, t) + 0.5 * sigma(t) * e
        ),
        "the last step is missing": steps(
            x0, ts[:-1], noises, lambda x, t, h, e, _: x + h * drift(x, t) + h**0.5 * sigma(t) * e
        ),
    }
    expected = run(lambda x, t, h, e, _: x + h * drift(x, t) + h**0.5 * sigma(t) * e)
    found = answer(u, s, sigma, x0, ts, noises)
    if isinstance(found, Tensor) and found.shape == (len(ts), *x0.shape):
        fail("all states came back; only the last ones are wanted")
    if isinstance(found, Tensor) and found.shape == x0.shape:
        again = answer(u, s, sigma, x0, ts, noises)
        require(torch.equal(found, again), "two calls gave two results; use the noise that is given")
    require_close(found, expected, "the last state", mistakes)


# --- the diffusion's own time ----------------------------------------------------------------------------------------


@check(
    reread="intro, § 4.2 (the VP diffusion)",
    passed="the diffusion is a Gaussian path",
    points=3,
    hints=(
        "Everything follows from the integral of the noise rate from 0 to s. Can you draw its area?",
        "The integral is b_min s + (b_max − b_min) s²/2, and a is e to the power of minus half of it.",
        "The variance is 1 − a²; return a and its square root, of a tensor made with torch.as_tensor(s).",
    ),
    reference=("schedules.LinearVP.alpha", "schedules.LinearVP.beta"),
)
def forward_marginal(answer):
    low, high = 0.5, 6.0

    def rate(s):
        return low + (high - low) * s

    for s in (torch.tensor([0.1, 0.4, 0.7, 1.0]), 0.4):
        found = pair(answer(s, low, high), "mean coefficient and standard deviation")
        s = torch.as_tensor(s)
        integral = s * rate(s / 2)  # the midpoint rule is exact for linear functions
        a, std = (-integral / 2).exp(), (1 - (-integral).exp()).sqrt()
        turned = (1 - s) * rate((1 - s) / 2)
        mistakes = {
            "the factor ½ in front of the integral is missing": (-integral).exp(),
            "the sign in the exponent is missing": (integral / 2).exp(),
            "the rate was not integrated: it was multiplied by s": (-s * rate(s) / 2).exp(),
            "the rate itself stands in the exponent; integrate it": (-rate(s) / 2).exp(),
            "the triangle in the integral lacks its factor ½": (-(low * s + (high - low) * s**2) / 2).exp(),
            "the integral has s where s² belongs": (-(low * s + (high - low) * s / 2) / 2).exp(),
            "b_min was left out: the integral has a rectangle and a triangle": (-(high - low) * s**2 / 4).exp(),
            "the triangle has height b_max instead of b_max − b_min": (-(low * s + high * s**2 / 2) / 2).exp(),
            "time runs the wrong way: s = 0 is the data": (-turned / 2).exp(),
            "the exponential is missing": -integral / 2,
            "the two results are exchanged: the mean coefficient comes first": std,
        }
        require_close(like(found[0], a), a, "the mean coefficient", mistakes, tolerance=1e-4)
        mistakes = {
            "the variance was returned; take its root": std**2,
            "the standard deviation was computed as 1 − a": 1 - a,
            "a is not squared in 1 − a²": torch.sqrt(1 - a),
            "this is the variance of Brownian motion, without the pull towards 0": integral.sqrt(),
        }
        require_close(like(found[1], std), std, "the standard deviation", mistakes, tolerance=1e-4)


def pair(found, what: str):
    """The two things that came back, or a verdict."""
    require(isinstance(found, (tuple, list)) and len(found) == 2, f"{what} should come back, found {describe(found)}")
    return found


def like(found, expected: Tensor):
    """A number as a tensor, where one number is expected."""
    if isinstance(found, (int, float)) and expected.ndim == 0:
        return torch.tensor(float(found), dtype=expected.dtype)
    if expected.ndim == 0 and hasattr(found, "item") and getattr(found, "size", 0) == 1:  # one of NumPy's
        return torch.tensor(found.item(), dtype=expected.dtype)
    return found


def forward_rates():
    """f and g of a diffusion that is not VP."""
    return lambda s: -0.5 - s, lambda s: 1 + s**2


def score_like(x: Tensor, t: Tensor) -> Tensor:
    """A score that depends on the time."""
    return coefficient(1 + 2 * t, x) * (1 - x)


@check(
    reread="intro, § 3.2, and the text above the exercise",
    passed="both terms turn their sign with time",
    points=4,
    hints=(
        "In which direction does the diffusion's clock run when ours runs forward?",
        "The drift is −f(s) x + g(s)² score at s = 1 − t; the score is asked at our time t.",
        "Shape f(1 − t) and g(1 − t) with coefficient, and do not forget the square of g.",
    ),
    reference=("processes.reverse_sde",),
)
def reverse_sde_drift(answer):
    f, g = forward_rates()
    x = states(10, 6, 3)
    for t, which in ((torch.tensor(0.3), "at one time for all points"), (TIMES, "with one time for each point")):
        s, time = score_like(x, t), coefficient(t, x)
        rate, noise = -1.5 + time, 1 + (1 - time) ** 2  # f and g at 1 − t
        mistakes = {
            "this is the drift of the forward diffusion": rate * x,
            "this is the formula for s running down; in our time, which runs up, both signs turn": rate * x
            - noise**2 * s,
            "f did not turn its sign: in our time the drift of the diffusion runs backwards": rate * x + noise**2 * s,
            "the score has the wrong sign: it pulls towards likely states": -rate * x - noise**2 * s,
            "this is the probability flow, with half of the score": -rate * x + noise**2 / 2 * s,
            "g is not squared": -rate * x + noise * s,
            "f and g were asked at t; their time is s = 1 − t": (0.5 + time) * x + (1 + time**2) ** 2 * s,
            "the score was asked at 1 − t; its time is ours": -rate * x + noise**2 * score_like(x, 1 - t),
            "f was not multiplied by x": -rate + noise**2 * s,
            "the score is missing": -rate * x,
            "the term with f is missing": noise**2 * s,
        }
        require_close(answer(score_like, x, t, f, g), -rate * x + noise**2 * s, f"the drift, {which},", mistakes)


@check(
    reread="intro, § 3.2 and § 5.5 (probability flow)",
    passed="the same marginals without noise",
    points=2,
    hints=(
        "Half of the score in the reverse drift pays for the noise. What is left without noise?",
        "It is the reverse drift with ½ g² in the place of g².",
        "Copy your reverse drift and change one factor.",
    ),
    reference=("processes.probability_flow",),
)
def probability_flow_field(answer):
    f, g = forward_rates()
    x = states(11, 6, 3)
    for t, which in ((torch.tensor(0.3), "at one time for all points"), (TIMES, "with one time for each point")):
        s, time = score_like(x, t), coefficient(t, x)
        rate, noise = -1.5 + time, 1 + (1 - time) ** 2
        mistakes = {
            "this is the drift of the reverse SDE: without noise half of the score is enough": -rate * x + noise**2 * s,
            "this is the flow from data to noise: in our time both signs turn": rate * x - noise**2 / 2 * s,
            "f did not turn its sign": rate * x + noise**2 / 2 * s,
            "the score has the wrong sign": -rate * x - noise**2 / 2 * s,
            "g is not squared": -rate * x + noise / 2 * s,
            "the half was squared with g": -rate * x + (noise / 2) ** 2 * s,
            "the half was put on f too": -rate * x / 2 + noise**2 / 2 * s,
            "f and g were asked at t; their time is s = 1 − t": (0.5 + time) * x + (1 + time**2) ** 2 / 2 * s,
            "the score was asked at 1 − t; its time is ours": -rate * x + noise**2 / 2 * score_like(x, 1 - t),
            "the score is missing": -rate * x,
        }
        require_close(answer(score_like, x, t, f, g), -rate * x + noise**2 / 2 * s, f"the field, {which},", mistakes)


# --- the chain -------------------------------------------------------------------------------------------------------


def chain(*betas: float, dtype=torch.float32) -> Tensor:
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


@check(
    reread="intro, § 4.4 (the reverse posterior)",
    passed="Bayes' rule for one step of the chain",
    points=4,
    hints=(
        "Which of the tables does each symbol come from: β_k, α_k = 1 − β_k, or the product ᾱ_k?",
        "With bars = (1 − betas).cumprod(0), bars[k] is ᾱ_k and bars[k − 1] is ᾱ_{k−1}.",
        "Write the weight of x_0, the weight of x_k and the variance, one line each; all have 1 − ᾱ_k below.",
    ),
    reference=("ddpm.Chain.posterior_mean", "ddpm.Chain.posterior_variance"),
)
def ddpm_posterior(answer):
    betas, x, x0, k = chain(0.1, 0.25, 0.4, 0.55), states(12, 5, 3), states(13, 5, 3), 3
    mean, variance = bayes(x, x0, k, betas)
    beta, before, now = float(betas[k]), *alpha_bars(betas)[k - 1 : k + 1]
    alpha, last = 1 - beta, float(betas[k - 1])
    for_data, for_state = math.sqrt(before) * beta / (1 - now), math.sqrt(alpha) * (1 - before) / (1 - now)
    too_early = bayes(x, x0, k - 1, betas)
    mistakes = {
        "the weights of x_0 and x_k are exchanged": for_state * x0 + for_data * x,
        "√ᾱ_k stands in front of x_0 where √ᾱ_{k−1} belongs": math.sqrt(alpha) * for_data * x0 + for_state * x,
        "the root of ᾱ_{k−1} is missing in front of x_0": math.sqrt(before) * for_data * x0 + for_state * x,
        "the root of α_k is missing in front of x_k": for_data * x0 + math.sqrt(alpha) * for_state * x,
        "√ᾱ_k stands in front of x_k where √α_k belongs": for_data * x0 + math.sqrt(before) * for_state * x,
        "1 − ᾱ_k stands in front of x_k where 1 − ᾱ_{k−1} belongs": for_data * x0 + math.sqrt(alpha) * x,
        "the division by 1 − ᾱ_k is missing": (1 - now) * mean,
        "the division is by 1 − ᾱ_{k−1} instead of 1 − ᾱ_k": (1 - now) / (1 - before) * mean,
        "α_k stands where the product ᾱ_k belongs": math.sqrt(1 - last) * x0 + math.sqrt(alpha) * last / beta * x,
        "the table was read one place too early: betas[k] is β_k": too_early[0],
        "this is the mean of x_{k−1} given x_0 alone": math.sqrt(before) * x0,
        "mean and variance are exchanged": torch.full_like(x, variance),
    }
    found = pair(answer(x, x0, k, betas), "mean and variance")
    require_close(found[0], mean, f"the mean for k = {k}", mistakes)
    spread = {
        "the standard deviation was returned": math.sqrt(variance),
        "this is β_k, the variance of a step forward": beta,
        "this is the variance of x_{k−1} given x_0 alone": 1 - before,
        "the fraction is upside down": beta * (1 - now) / (1 - before),
        "the factor β_k is missing": (1 - before) / (1 - now),
        "the division by 1 − ᾱ_k is missing": beta * (1 - before),
        "the table was read one place too early: betas[k] is β_k": too_early[1],
    }
    require_number(found[1], variance, f"the variance for k = {k}", spread)
    require_first(pair(answer(x, x0, 1, betas), "mean and variance"), x0)


def require_first(found, x0: Tensor) -> None:
    """Fail unless the posterior for k = 1 is the point x_0."""
    require_close(found[0], x0, "the mean for k = 1, which is x_0,", tolerance=1e-4)
    nearly = torch.as_tensor(found[1]).double().abs().max() < 1e-6
    require(bool(nearly), f"for k = 1 the state is x_0 itself: the variance should be 0, found {float(found[1]):g}")


@check(
    reread="intro, § 4.4 and § 4.5, and the text above the exercise",
    passed="a guess of the data, and one step",
    points=4,
    hints=(
        "If the predicted noise were right, where would the data be? And then the state one step earlier?",
        "The mean is (x − β_k/√(1 − ᾱ_k) ε̂)/√α_k; the variance is that of the posterior.",
        "Add the root of the posterior variance times the noise. For k = 1 it is 0 all by itself.",
    ),
    reference=("ddpm.Chain.ancestral_step", "ddpm.Chain.model_mean"),
)
def ancestral_step(answer):
    betas, k = chain(0.1, 0.25, 0.4, 0.55), 3
    x, eps, noise = states(14, 5, 3), states(15, 5, 3), states(16, 5, 3)
    expected, mean, guess, std = one_step_back(x, eps, k, betas, noise)
    beta, before, now = float(betas[k]), *alpha_bars(betas)[k - 1 : k + 1]
    alpha = 1 - beta
    scaled = x / math.sqrt(alpha)
    push = scaled - mean
    mistakes = {
        "the fresh noise has the standard deviation √β_k; here it is √β̃_k": mean + math.sqrt(beta) * noise,
        "the variance stands in front of the noise; take its root": mean + std**2 * noise,
        "the fresh noise is missing": mean,
        "the fresh noise is not scaled": mean + noise,
        "the predicted noise was added instead of subtracted": scaled + push + std * noise,
        "the root of 1 − ᾱ_k is missing": scaled - push / math.sqrt(1 - now) + std * noise,
        "β_k is missing in front of the predicted noise": scaled - push / beta + std * noise,
        "the division by √α_k is missing": math.sqrt(alpha) * mean + std * noise,
        "the division is by α_k instead of √α_k": mean / math.sqrt(alpha) + std * noise,
        "the division is by √ᾱ_k instead of √α_k": mean * math.sqrt(alpha / now) + std * noise,
        "only x was divided by √α_k, not the predicted noise": scaled - math.sqrt(alpha) * push + std * noise,
        "x was multiplied by √α_k: that is a step forward": alpha * mean + std * noise,
        "1 − α_k stands where 1 − ᾱ_k belongs": scaled - math.sqrt(beta / alpha) * eps + std * noise,
        "this jumps to the guess of the data and adds noise": guess + std * noise,
        "the fresh noise and the predicted noise are exchanged": scaled
        - beta / math.sqrt(alpha * (1 - now)) * noise
        + std * eps,
        "this noises the guess of the data to the level k − 1, without a look at x_k": math.sqrt(before) * guess
        + math.sqrt(1 - before) * noise,
        "the table was read one place too early: betas[k] is β_k": one_step_back(x, eps, k - 1, betas, noise)[0],
    }
    found = answer(x, eps, k, betas, noise)
    if isinstance(found, Tensor) and found.shape == x.shape:
        again = answer(x, eps, k, betas, noise)
        require(torch.equal(found, again), "two calls gave two results; use the noise that is given")
    require_close(found, expected, f"the state after the step for k = {k}", mistakes, tolerance=1e-4)
    expected, mean, *_ = one_step_back(x, eps, 1, betas, noise)
    mistakes = {"noise was added in the last step, which ends in the data": mean + math.sqrt(float(betas[1])) * noise}
    require_close(answer(x, eps, 1, betas, noise), expected, "the last state, for k = 1,", mistakes, tolerance=1e-4)


def one_step_back(x: Tensor, eps: Tensor, k: int, betas: Tensor, noise: Tensor):
    """The step from x_k to x_{k−1}, its mean, the guess of the data that it rests on, and its standard deviation."""
    now = alpha_bars(betas)[k]
    guess = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
    mean, variance = bayes(x, guess, k, betas)
    return mean + math.sqrt(variance) * noise, mean, guess, math.sqrt(variance)


def exact_terms(x0: Tensor, eps, betas: Tensor, noises: Tensor) -> Tensor:
    """The terms of the bound from torch's own densities and divergences, with posteriors by Bayes' rule."""
    bars, size = alpha_bars(betas), len(betas) - 1
    terms = []
    for k in range(1, size + 1):
        x = math.sqrt(bars[k]) * x0 + math.sqrt(1 - bars[k]) * noises[k - 1]
        guess = (x - math.sqrt(1 - bars[k]) * eps(x, 1 - k / size)) / math.sqrt(bars[k])
        model = Normal(bayes(x, guess, k, betas)[0], math.sqrt(float(betas[k])))
        if k == 1:
            each = model.log_prob(x0)
        else:
            mean, variance = bayes(x, x0, k, betas)
            each = -kl_divergence(Normal(mean, math.sqrt(variance)), model)
        terms.append(each.flatten(1).sum(1))
    last = Normal(math.sqrt(bars[-1]) * x0, math.sqrt(1 - bars[-1]))
    noise = Normal(torch.zeros_like(x0), torch.ones_like(x0))
    return torch.stack([*terms, -kl_divergence(last, noise).flatten(1).sum(1)])


def guess_noise(x: Tensor, t) -> Tensor:
    """A noise network that depends on the time."""
    return (0.3 + 0.5 * t) * x


@check(
    reread="intro, § 4.4 and § 4.5, and the text above the exercise",
    passed="a bound that is a weighted noise loss",
    points=5,
    hints=(
        "Each KL is a weighted error of the noise plus a constant that no network can change. Which constant?",
        "With r = (1 − ᾱ_{k−1})/(1 − ᾱ_k), the KL of step k is w_k ‖ε − ε̂‖² + d/2 (r − 1 − log r).",
        "Row 0 is −w_1 ‖ε − ε̂‖² − d/2 log(2π β_1); the last KL is that of N(√ᾱ_K x_0, (1 − ᾱ_K) I) to N(0, I).",
    ),
    reference=("ddpm.Chain.elbo_terms",),
)
def elbo_terms(answer):
    betas, x0 = chain(0.1, 0.25, 0.4, 0.55), states(17, 6, 3)
    noises = states(18, 4, 6, 3)
    found = answer(x0, guess_noise, betas, noises)
    expected = exact_terms(x0, guess_noise, betas, noises)
    require_terms(found, expected)
    bars, d = alpha_bars(betas), x0.shape[1]

    def errors(network=guess_noise, shift=0):
        """‖ε − ε̂‖² of every step: (K, n)."""
        rows = []
        for k in range(1, 5):
            noise = noises[k - 1 + shift]
            x = math.sqrt(bars[k]) * x0 + math.sqrt(1 - bars[k]) * noise
            rows.append((noise - network(x, 1 - k / 4)).square().sum(1))
        return torch.stack(rows)

    w = torch.tensor([float(betas[k]) / (2 * (1 - float(betas[k])) * (1 - bars[k])) for k in range(1, 5)])[:, None]
    no_alpha = w * (1 - betas[1:])[:, None]
    ratio = torch.tensor([(1 - bars[k - 1]) / (1 - bars[k]) for k in range(2, 5)])[:, None]
    spread, squared = d / 2 * (ratio - 1 - ratio.log()), errors()
    steps_wrong = {
        "the terms have the wrong sign: each KL is subtracted": -expected[1:4],
        "the constant of the KL, d (v/v' − 1 − log v/v') / 2, is missing": -(w * squared)[1:],
        "the constant of the KL lacks the number of coordinates d": -(w * squared)[1:] - spread / d,
        "the logarithm in the KL has the wrong sign": -(w * squared)[1:] - d / 2 * (ratio - 1 + ratio.log()),
        "the errors are not weighted with w_k": -squared[1:] - spread,
        "α_k is missing in the weight w_k": -(no_alpha * squared)[1:] - spread,
        "the factor ½ of the weight w_k is missing": -(2 * w * squared)[1:] - spread,
        "the mean was taken over the coordinates; a KL is a sum over them": expected[1:4] / d,
        "the mean was taken over the coordinates in the errors; a KL is a sum over them": -(w * squared)[1:] / d
        - spread,
        "the network was asked at k/K; our time is 1 − k/K": -(w * errors(lambda x, t: guess_noise(x, 1 - t)))[1:]
        - spread,
        "the network was asked at the index k instead of the time 1 − k/K": -(
            w * errors(lambda x, t: guess_noise(x, 4 * (1 - t)))
        )[1:]
        - spread,
        "the noises are shifted: ε_k is noises[k − 1]": -(w * errors(shift=-1))[1:] - spread,
        "the two Gaussians of the KL are exchanged": reversed_kls(x0, betas, noises),
    }
    require_close(
        found[1:4], expected[1:4], "the rows 1 … K − 1, minus the KLs of the steps,", steps_wrong, tolerance=1e-4
    )
    first_wrong = {
        "−d/2 log(2πβ_1) is missing in row 0": -(w * squared)[0],
        "−d/2 log(2πβ_1) lacks the number of coordinates d": -(w * squared)[0] - torch.log(2 * math.pi * betas[1]) / 2,
        "row 0 is the log density of x_0, not minus it": -expected[0],
        "β_1 was used as a standard deviation; it is the variance": normal_row(x0, betas, noises, float(betas[1])),
        "the model's variance at k = 1 is β_1": normal_row(x0, betas, noises, 1.0),
    }
    require_close(found[0], expected[0], "row 0, log p(x_0 given x_1),", first_wrong, tolerance=1e-4)
    last, square = bars[-1], x0.square().sum(1)
    last_wrong = {
        "the last KL has the wrong sign: it is subtracted": -expected[4],
        "the last KL lacks its constant": -last * square / 2,
        "the mean of q(x_K | x_0) is √ᾱ_K x_0; the root is missing": -(
            last**2 * square + d * (-last - math.log(1 - last))
        )
        / 2,
        "the last KL lacks its factor ½": 2 * expected[4],
        "1 − ᾱ_K is a variance, not a standard deviation": -(
            last * square + d * ((1 - last) ** 2 - 1 - 2 * math.log(1 - last))
        )
        / 2,
        "the last KL was taken as 0; it is small, but not 0": torch.zeros(6),
    }
    require_close(found[4], expected[4], "row K, minus the last KL,", last_wrong, tolerance=1e-4)


def require_terms(found, expected: Tensor) -> None:
    """Fail unless the terms have the right shape."""
    rows, n = expected.shape
    require(isinstance(found, Tensor), f"the terms should be one tensor (K + 1, n), found {describe(found)}")
    if found.shape == (n,):
        fail(f"the sum came back; each of the {rows} terms is wanted, for each of the {n} points: shape {(rows, n)}")
    if found.shape == (rows,):
        fail(f"the terms were averaged over the batch; one of each point is wanted: shape {(rows, n)}")
    if found.shape == (n, rows):
        fail(f"the terms should have shape (K + 1, n) = {(rows, n)}, found {(n, rows)}: the terms come first")
    if found.shape == (rows - 1, n):
        fail(
            f"there should be K + 1 = {rows} terms, found {rows - 1}: one for x_0, K − 1 KLs of steps, and the last KL"
        )
    require_tensor(found, expected, "the tensor of terms")


def normal_row(x0: Tensor, betas: Tensor, noises: Tensor, std: float) -> Tensor:
    """Row 0 with another standard deviation of the model."""
    beta = float(betas[1])
    x = math.sqrt(1 - beta) * x0 + math.sqrt(beta) * noises[0]
    guess = (x - math.sqrt(beta) * guess_noise(x, 1 - 1 / len(noises))) / math.sqrt(1 - beta)
    return Normal(guess, std).log_prob(x0).sum(1)


def reversed_kls(x0: Tensor, betas: Tensor, noises: Tensor) -> Tensor:
    """Minus KL(p ‖ q) of the steps k = 2 … K."""
    bars, size = alpha_bars(betas), len(betas) - 1
    rows = []
    for k in range(2, size + 1):
        x = math.sqrt(bars[k]) * x0 + math.sqrt(1 - bars[k]) * noises[k - 1]
        guess = (x - math.sqrt(1 - bars[k]) * guess_noise(x, 1 - k / size)) / math.sqrt(bars[k])
        mean, variance = bayes(x, x0, k, betas)
        model = Normal(bayes(x, guess, k, betas)[0], math.sqrt(float(betas[k])))
        rows.append(-kl_divergence(model, Normal(mean, math.sqrt(variance))).sum(1))
    return torch.stack(rows)
