"""Checks of lab 5: one model in the languages of diffusion and of flow matching.

Truth comes from states made of known data and noise, so that every output, error and step is known before anything is
converted; from closed forms of schedules and diffusions; and from autograd for the speed of λ. `Bent` is a schedule
that is neither straight nor variance preserving, so that formulas for one schedule do not pass for all.
"""

import math

import torch

from fmlab.checks.compare import describe, fail, require, require_close, require_number
from fmlab.checks.inputs import Bent, states
from fmlab.checks.report import answer_or, check, hint, progress  # noqa: F401 (words of the labs)
from fmlab.checks.submission import submission  # noqa: F401 (a word of the labs)
from fmlab.schedules import CondOT, Cosine, LinearVP, Schedule, coefficient

OUTPUTS = ("data", "noise", "velocity", "vector_field", "score")


class Bare:
    """A schedule as an exercise knows it: α, β, their derivatives and λ, and nothing else."""

    def __init__(self, schedule: Schedule):
        self.alpha, self.beta = schedule.alpha, schedule.beta
        self.alpha_dot, self.beta_dot, self.log_snr = schedule.alpha_dot, schedule.beta_dot, schedule.log_snr


class Weights(Bare):
    """A schedule that does not know its λ."""

    def __init__(self, schedule: Schedule):
        super().__init__(schedule)
        self.log_snr = lambda t: fail("schedule.log_snr is what you are asked to write; use schedule.alpha and .beta")


def mixed(a, z, b, noise):
    """a z + b ε for coefficients of time."""
    return coefficient(torch.as_tensor(a), z) * z + coefficient(torch.as_tensor(b), z) * noise


def outputs(z, noise, t, schedule) -> dict:
    """All five outputs for known data and noise."""
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    return {
        "data": z,
        "noise": noise,
        "velocity": mixed(-beta, z, alpha, noise),
        "vector_field": mixed(schedule.alpha_dot(t), z, schedule.beta_dot(t), noise),
        "score": mixed(0 * beta, z, -1 / beta, noise),
    }


def measured_factors(t, schedule) -> dict:
    """Squared error of each output per squared error of the data, for one wrong guess. t: (n,), float64."""
    z, noise, guess = states(90, 3, len(t), 2, dtype=torch.float64)
    alpha, beta = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    guessed_noise = (alpha * z + beta * noise - alpha * guess) / beta
    right, wrong = outputs(z, noise, t, schedule), outputs(guess, guessed_noise, t, schedule)
    return {name: (wrong[name] - right[name]).square().sum(1) / (guess - z).square().sum(1) for name in OUTPUTS}


def speed(t, schedule):
    """λ̇ by automatic differentiation. t: (n,), float64."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad((schedule.alpha(t) / schedule.beta(t)).log().mul(2).sum(), t)[0]


@check(
    reread="the text above the exercise (meet, noise schedule)",
    passed="one number per time tells all schedules",
    points=2,
    hints=(
        "Signal is the part α z of the state, noise the part β ε. How large is each of them, squared?",
        "The ratio is α²/β²; the logarithm is the natural one.",
        "schedule.alpha(t) and schedule.beta(t) are tensors, even for a number t; take the difference of their logs.",
    ),
    reference=("schedules.Schedule.log_snr",),
)
def log_snr(answer):
    t = torch.tensor([0.2, 0.4, 0.9])
    tangent = torch.tan(math.pi / 2 * t)  # α/β of the cosine schedule
    alpha, beta = Cosine().alpha(t), Cosine().beta(t)
    mistakes = {
        "α and β are not squared": tangent.log(),
        "the ratio is upside down: signal over noise": -2 * tangent.log(),
        "the logarithm is missing": tangent**2,
        "two logarithms were divided; the log of a ratio is a difference": alpha.log() / beta.log(),
        "this is λ of CondOT, whatever the schedule": 2 * (t / (1 - t)).log(),
        "the logarithm has base 10": 2 * tangent.log10(),
        "the logarithm has base 2": 2 * tangent.log2(),
        "a root was taken where a square belongs": tangent.log() / 2,
        "the noise is left out": 2 * alpha.log(),
    }
    require_close(answer(t, Weights(Cosine())), 2 * tangent.log(), "λ of the cosine schedule", mistakes, 1e-5)
    require_number(answer(0.5, Weights(Bent())), 2 * math.log(0.25 / 0.875), "λ for a number t", tolerance=1e-5)


@check(
    reread="the text above the exercise (meet, noise schedule)",
    passed="one schedule can stand for all",
    points=3,
    hints=(
        "Multiplying a state by c multiplies both weights by c, and leaves their ratio, and λ, as they are.",
        "Which c makes (cα)² + (cβ)² equal to 1?",
        "Divide x by √(α² + β²), shaped by coefficient(…, x) so that each state gets the factor of its own time.",
    ),
    reference=("schedules.to_variance_preserving",),
)
def to_variance_preserving(answer):
    schedule, z, noise = Bent(), states(1, 5, 2), states(2, 5, 2)
    for t, which in ((torch.tensor(0.6), "one time"), (torch.tensor([0.3, 0.5, 0.6, 0.7, 0.9]), "a time per state")):
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        x, snr = mixed(alpha, z, beta, noise), schedule.log_snr(t)
        a, b = coefficient(alpha, x), coefficient(beta, x)
        mistakes = {
            "the square root is missing: the length of (α, β) is √(α² + β²)": x / (a**2 + b**2),
            "the states were multiplied by √(α² + β²), not divided": x * (a**2 + b**2).sqrt(),
            "the states were divided by α + β": x / (a + b),
            "the states were divided by α alone; that gives a variance-exploding schedule": x / a,
            "the states were divided by β alone": x / b,
            "nothing was rescaled": x,
            "each state was divided by its own length; the factor depends on time alone": x / x.norm(dim=1)[:, None],
            "the sign under the root is wrong": x / (a**2 - b**2).abs().sqrt(),
        }
        expected = mixed(torch.sigmoid(snr).sqrt(), z, torch.sigmoid(-snr).sqrt(), noise)
        found = answer(x, t, Bare(schedule))
        require(not isinstance(found, tuple), "only the rescaled states should come back, found a tuple")
        require_close(found, expected, f"the rescaled states, for {which},", mistakes, 1e-5)


def solved(value, x, a, b, alpha, beta):
    """z and ε from x = α z + β ε and value = a z + b ε."""
    determinant = alpha * b - beta * a
    return (b * x - beta * value) / determinant, (alpha * value - a * x) / determinant


def misread(value, x, t, schedule, source: str, target: str, swapped=False, **rows):
    """A conversion with some rows of the table wrong, or with α and β exchanged in the state."""
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    table = {
        "data": (1.0, 0.0),
        "noise": (0.0, 1.0),
        "velocity": (-beta, alpha),
        "vector_field": (coefficient(schedule.alpha_dot(t), x), coefficient(schedule.beta_dot(t), x)),
        "score": (0.0, -1 / beta),
    } | {name: row(alpha, beta) for name, row in rows.items()}
    if source == target:
        return value
    ends = (beta, alpha) if swapped else (alpha, beta)
    z, noise = solved(value, x, *table[source], *ends)
    a, b = table[target]
    return a * z + b * noise


MISREAD = {
    "the velocity has the wrong sign: v = αε − βz": {"velocity": lambda a, b: (b, -a)},
    "the velocity has α and β exchanged: v = αε − βz": {"velocity": lambda a, b: (-a, b)},
    "the velocity has a plus: v = αε − βz": {"velocity": lambda a, b: (b, a)},
    "the vector field is taken to be z − ε, which is right for CondOT only": {"vector_field": lambda a, b: (1.0, -1.0)},
    "the sign of the score is missing: s = −ε/β": {"score": lambda a, b: (0.0, 1 / b)},
    "the score is −ε/β, not −ε": {"score": lambda a, b: (0.0, -1.0)},
    "the score is −ε/β, not −ε/β²": {"score": lambda a, b: (0.0, -1 / b**2)},
    "the score is −ε/β, not −βε": {"score": lambda a, b: (0.0, -b)},
    "the score is −ε/β, not −ε/α": {"score": lambda a, b: (0.0, -1 / a)},
    "α and β are exchanged in the state x = αz + βε": {"swapped": True},
}


@check(
    reread="the table above the exercise (meet, network output)",
    passed="twenty conversions, one rule",
    points=6,
    hints=(
        "Every output is a z + b ε. Write down (a, b) for the five names. The state itself is such a sum, too.",
        "State and value are two equations: α z + β ε = x and a z + b ε = value. Their determinant is α b − β a.",
        "Solve for z and ε by Cramer's rule, and return a z + b ε with the (a, b) of the target.",
    ),
    reference=("conversions.convert",),
)
def convert_output(answer):
    t = torch.tensor([0.4, 0.55, 0.6, 0.7, 0.8])
    conversions(answer, states(3, 5, 2), states(4, 5, 2), t, Bent(), 1e-4)


def conversions(answer, z, noise, t, schedule, tolerance: float, named=MISREAD) -> None:
    """Fail unless the answer converts each of the five outputs of known data and noise into each."""
    x, known = mixed(schedule.alpha(t), z, schedule.beta(t), noise), outputs(z, noise, t, schedule)
    for source in ("velocity", "vector_field", "data", "noise", "score"):
        for target in OUTPUTS:
            value = known[source]
            mistakes = {words: misread(value, x, t, schedule, source, target, **rows) for words, rows in named.items()}
            if source != target:
                mistakes["source and target are exchanged"] = misread(value, x, t, schedule, target, source)
                mistakes["the value came back as it was"] = value
                mistakes["the vector field lost its dots: u = α̇z + β̇ε"] = _without_dots(value, x, source, known)
            found = answer(value, x, t, Bare(schedule), source, target)
            require_close(found, known[target], f"the {target} from the {source}", mistakes, tolerance)


def _without_dots(value, x, source: str, known: dict):
    """αz + βε is the state itself; from it nothing can be found."""
    return x if source != "vector_field" else torch.full_like(value, math.nan)


@check(
    reread="the text above the exercise, and entry 1 of docs/errata.md",
    passed="an output is a choice of weight",
    points=4,
    hints=(
        "The state x is known, so z and ε cannot be wrong independently. By how much is ε off, if z is off by e?",
        "From x = α z + β ε, the error of ε is −(α/β) e. The error of a z + b ε is then (a − b α/β) e.",
        "Square that factor, for the row (a, b) of the output; for the data it is 1, as a tensor like t.",
    ),
    reference=("conversions.x_mse_weight",),
)
def x_mse_weight(answer):
    t = torch.tensor([0.3, 0.5, 0.6, 0.8])
    weights(answer, t, Bent(), 1e-4)
    number = answer("velocity", 0.6, Bare(Cosine()))
    require_number(number, 1 / Cosine().beta(0.6).item() ** 2, "the factor of the velocity for a number t")


def weights(answer, t, schedule, tolerance: float) -> None:
    """Fail unless the answer gives the measured factor of every output."""
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    alpha_dot, beta_dot = schedule.alpha_dot(t), schedule.beta_dot(t)
    snr = alpha**2 / beta**2
    rows = {"velocity": (-beta, alpha), "vector_field": (alpha_dot, beta_dot)}
    for output, factor in measured_factors(t.double(), schedule).items():
        expected = factor.to(t)
        mistakes = {
            "the square is missing": expected.sqrt(),
            "the factor is upside down": 1 / expected,
            "the factor is that of the data for every output": torch.ones_like(t),
        }
        if output in rows:
            a, b = rows[output]
            mistakes |= {
                "the error of the noise has lost its sign: it is −(α/β) times that of the data": (a + b * alpha / beta)
                ** 2,
                "α/β is upside down": (a - b * beta / alpha) ** 2,
                "only the data in the output were counted; the noise is off too": a**2,
                "the squares were added before the errors were: square the sum": a**2 + (b * alpha / beta) ** 2,
            }
        mistakes |= {
            "velocity": {
                "this is the row as printed in the source, whose e^{−λ} should be e^λ": beta**2 * (1 / snr + 1) ** 2,
                "β² is missing": (snr + 1) ** 2,
            },
            "vector_field": {"this row is right for CondOT only": (1 + alpha / beta) ** 2},
            "score": {
                "the score is −ε/β: β is missing": snr,
                "the score is −ε/β: β should be squared with the rest": snr / beta,
            },
        }.get(output, {})
        found = answer(output, t, Bare(schedule))
        if isinstance(found, (int, float)) or (isinstance(found, torch.Tensor) and found.ndim == 0):
            found = torch.as_tensor(found).to(t).expand_as(t)  # a constant may come as one number
        require_close(found, expected, f"the factor of the {output}", mistakes, tolerance)


@check(
    reread="the formula above the exercise (meet, training)",
    passed="time has gone from the loss",
    points=5,
    hints=(
        "Step by step: the states, the prediction, one squared error per state, one factor per state, the mean.",
        "The error is that of the noise, summed over the coordinates of a state; its factor is w(λ) λ̇.",
        "Errors, λ̇ and weight(schedule.log_snr(t)) all have shape (n,): multiply the three, then take the mean.",
    ),
    reference=("losses.loss_over_log_snr", "losses.score_matching_loss"),
)
def loss_over_log_snr(answer):
    z, noise, t = states(5, 6, 3), states(6, 6, 3), torch.tensor([0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    weighted_loss(answer, z, noise, t, Bent(), lambda snr: torch.exp(-snr / 4), 1e-4)


def weighted_loss(answer, z, noise, t, schedule, weight, tolerance: float) -> None:
    """Fail unless the answer is the loss of the model θ x + t, with its gradient in θ."""
    theta = torch.tensor(0.4, dtype=z.dtype, requires_grad=True)
    alpha, beta, snr = schedule.alpha(t), schedule.beta(t), schedule.log_snr(t)
    rate = speed(t.double(), schedule).to(t)
    x = mixed(alpha, z, beta, noise)

    def model(x, t):
        return theta * x + coefficient(t, x)

    def mean(factor, x=x, target=noise, power=2):
        errors = torch.stack([(row - wanted).norm() ** power for row, wanted in zip(model(x, t), target, strict=True)])
        return (factor * errors).mean()

    w, size = weight(snr), z[0].numel()
    expected = mean(w * rate)
    mistakes = {
        "the speed λ̇ is missing": mean(w),
        "the weight w(λ) is missing": mean(rate),
        "λ̇ divides; it should multiply": mean(w / rate),
        "the factor 2 of λ̇ is missing": mean(w * rate / 2),
        "λ̇ has the wrong sign": mean(-w * rate),
        "the sign between the two parts of λ̇ is wrong": mean(
            2 * w * (schedule.alpha_dot(t) / alpha + schedule.beta_dot(t) / beta)
        ),
        "the mean was taken over the coordinates too; ‖·‖² is their sum": expected / size,
        "the batch was summed, not averaged": expected * len(z),
        "the square is missing from the norm": mean(w * rate, power=1),
        "the weight was taken at t instead of at λ_t": mean(weight(t) * rate),
        "the model was given the data z instead of the state x": mean(w * rate, x=z),
        "the model was given the noise instead of the state x": mean(w * rate, x=noise),
        "α and β are exchanged in the state": mean(w * rate, x=mixed(beta, z, alpha, noise)),
        "the prediction was compared with the data; it is a prediction of the noise": mean(w * rate, target=z),
        "the mean was taken before weighting: each error has a weight of its own": mean(torch.ones_like(t))
        * (w * rate).mean(),
    }
    found = answer(model, z, noise, t, Bare(schedule), weight)
    named = {words: float(value) for words, value in mistakes.items()}
    value = found.detach() if isinstance(found, torch.Tensor) else found
    require_number(value, float(expected), "the loss", named, tolerance)
    learns = isinstance(found, torch.Tensor) and found.requires_grad
    require(learns, "the loss has lost its gradient; to train with it, return the tensor itself, not detached")
    slope, exact = (torch.autograd.grad(loss.sum(), theta, retain_graph=True)[0] for loss in (found, expected))
    require_close(slope, exact, "the gradient of the loss", tolerance=10 * tolerance)


@check(
    reread="the formula above the exercise (meet, training)",
    passed="every recipe has its w(λ)",
    points=3,
    hints=(
        "Both errors are known multiples of the error of the data. What is the one in units of the other?",
        "The output's error is factor(output)/factor(noise) times the error of the noise.",
        "That ratio is w λ̇, so divide it by λ̇ = 2 (α̇/α − β̇/β).",
    ),
    reference=("losses.effective_weight",),
)
def effective_weight(answer):
    t = torch.tensor([0.3, 0.5, 0.6, 0.8])
    effective_weights(answer, t, Bent(), 1e-4)
    snr = float(CondOT().log_snr(0.3))
    found = answer("vector_field", 0.3, Bare(CondOT()))
    require_number(found, math.exp(-snr / 2) / 2, "the weight of flow matching with CondOT, for a number t,")


def effective_weights(answer, t, schedule, tolerance: float) -> None:
    """Fail unless the answer gives the weight of every output, from measured factors and the speed of λ."""
    factors, rate = measured_factors(t.double(), schedule), speed(t.double(), schedule)
    for output in ("noise", "velocity", "vector_field", "score", "data"):
        ratio, factor = factors[output] / factors["noise"], factors[output]
        mistakes = {
            "λ̇ is missing": ratio,
            "λ̇ multiplies; it should divide": ratio * rate,
            "the weight is upside down": rate / ratio,
            "the factor 2 of λ̇ is missing": 2 * ratio / rate,
            "λ̇ has the wrong sign": -ratio / rate,
            "this weighs the error of the data; divide by the factor of the noise": factor / rate,
            "the factors were multiplied; they should be divided": factor * factors["noise"] / rate,
            "the ratio of the factors is upside down": 1 / ratio / rate,
            "a root was taken of the factors": ratio.sqrt() / rate,
        }
        found = answer(output, t, Bare(schedule))
        named = {words: value.to(t) for words, value in mistakes.items()}
        require_close(found, (ratio / rate).to(t), f"the weight of the {output}", named, tolerance)


@check(
    reread="the two equations above the exercise (meet, overview)",
    passed="the guess, moved to the next noise level",
    points=3,
    hints=(
        "The guess of the data is kept for the whole step. Which noise goes with it, in the state you have?",
        "At time t the state is α_t ẑ + β_t ε̂; solve for ε̂.",
        "Then mix ẑ and ε̂ with the weights of time s. All four weights go through coefficient(…, x).",
    ),
    reference=("samplers.DDIM.step",),
)
def ddim_step(answer):
    schedule, data, noise = Bent(), states(7, 5, 2), states(8, 5, 2)
    per_state = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6])
    for t, s, which in ((0.3, 0.5, "one time"), (per_state, per_state + 0.2, "a time per state")):
        a_t, b_t = coefficient(schedule.alpha(t), data), coefficient(schedule.beta(t), data)
        a_s, b_s = coefficient(schedule.alpha(s), data), coefficient(schedule.beta(s), data)
        x = a_t * data + b_t * noise
        h = coefficient(torch.as_tensor(s) - torch.as_tensor(t), data)
        u = coefficient(schedule.alpha_dot(t), data) * data + coefficient(schedule.beta_dot(t), data) * noise
        mistakes = {
            "this is Euler's step along the vector field; DDIM keeps the guess, not the velocity": x + h * u,
            "this is Euler's step on CondOT, whatever the schedule": x + h * (data - noise),
            "the noise kept its old weight β_t": a_s * data + b_t * noise,
            "the data kept their old weight α_t": a_t * data + b_s * noise,
            "the noise was worked out with the weights at s, so that nothing moves": x,
            "the noise was not divided by β_t": a_s * data + b_s * (x - a_t * data),
            "the state x was used in place of the noise": a_s * data + b_s * x,
            "α and β are exchanged in the new state": b_s * data + a_s * noise,
            "only the data part is returned": a_s * data,
            "the noise is missing its part of the data: ε = (x − α z)/β": a_s * data + b_s * x / b_t,
            "the sign in ε = (x − α z)/β is wrong": a_s * data + b_s * (x + a_t * data) / b_t,
            "the guess itself is returned": data,
        }
        found = answer(x, data, t, s, Bare(schedule))
        again = answer(x, data, t, s, Bare(schedule))
        _same(found, again, "two calls gave two different steps; DDIM draws no noise")
        require_close(found, a_s * data + b_s * noise, f"the step, for {which},", mistakes, 1e-4)


def _same(found, again, message: str) -> None:
    if isinstance(found, torch.Tensor) and isinstance(again, torch.Tensor) and found.shape == again.shape:
        require(torch.equal(found, again) or not torch.isfinite(found).all(), message)


def overshot(data, noise, t, s, schedule, xi, churn: float):
    """DDIM to λ_s + churn (λ_s − λ_t), then the forward diffusion back to λ_s, in two steps. All float64."""
    snr_t, snr_s = schedule.log_snr(t), schedule.log_snr(s)
    r = schedule.time_at(snr_s + churn * (snr_s - snr_t))
    ratio = schedule.alpha(s) / schedule.alpha(r)
    missing = schedule.beta(s) ** 2 - (ratio * schedule.beta(r)) ** 2
    x_r = mixed(schedule.alpha(r), data, schedule.beta(r), noise)
    return mixed(ratio, x_r, missing.clamp(min=0).sqrt(), xi)


@check(
    reread="the formulas above the exercise (meet, sampling)",
    passed="DDIM that overshoots, and noise that leads back",
    points=5,
    hints=(
        "It is DDIM's step, but the noise in it is partly exchanged for new noise, so that its variance stays 1.",
        "Keep the share q of ε̂ and add √(1 − q²) of ξ. With more churn, less is kept.",
        "q is (α_t β_s / (β_t α_s)) to the power churn; the step is α_s ẑ + β_s (q ε̂ + √(1 − q²) ξ).",
    ),
    reference=("samplers.DDPM.step",),
)
def ddpm_step(answer):
    data, noise, xi = states(9, 3, 5, 2)
    t, s = torch.tensor(0.5), torch.tensor(0.7)
    for churn in (0.6, 1.0, 0.0):
        renoised(answer, data, noise, t, s, Bent(), xi, churn, 1e-4)
    times = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6])
    renoised(answer, data, noise, times, times + 0.2, Bent(), xi, 2.0, 1e-4)


def renoised(answer, data, noise, t, s, schedule, xi, churn: float, tolerance: float) -> None:
    """Fail unless the answer's step is the overshoot and the way back."""
    x = mixed(schedule.alpha(t), data, schedule.beta(t), noise)
    exact = [value.double() for value in (data, noise, t, s)]
    expected = overshot(*exact, schedule, xi.double(), churn).to(x)
    a, b = coefficient(schedule.alpha(s), x), coefficient(schedule.beta(s), x)
    one = torch.exp((schedule.log_snr(t) - schedule.log_snr(s)) / 2)

    def step(q, fresh):
        return a * data + b * (coefficient(q, x) * noise + coefficient(fresh, x) * xi)

    q, scaled = one**churn, churn * one
    rest = (1 - q**2).sqrt()
    mistakes = {
        "the churn is ignored: this is churn 1": step(one, (1 - one**2).sqrt()),
        "no noise is added: this is DDIM": step(torch.ones_like(q), 0 * q),
        "the new noise is missing": step(q, 0 * q),
        "all of the noise is new: nothing is left of the predicted noise": step(0 * q, torch.ones_like(q)),
        "q is squared: e^{−cΔλ} instead of e^{−cΔλ/2}": step(q**2, (1 - q**4).sqrt()),
        "the root is missing: the new noise has the weight √(1 − q²)": step(q, 1 - q**2),
        "the new noise has the weight 1 − q; variances add up, so it should be √(1 − q²)": step(q, 1 - q),
        "the new noise was added on top: the predicted noise must be scaled by q": step(torch.ones_like(q), rest),
        "the two weights q and √(1 − q²) are exchanged": step(rest, q),
        "β_s is missing in front of the new noise": step(q, rest) + coefficient(rest, x) * (1 - b) * xi,
        "the churn was multiplied to q; it belongs in the exponent": step(scaled, (1 - scaled**2).clamp(min=0).sqrt()),
        "the new noise has the weight √(1 + q²); the variance of the noise should stay 1": step(q, (1 + q**2).sqrt()),
    }
    found = answer(x, data, t, s, Bare(schedule), xi, churn)
    if isinstance(found, torch.Tensor) and found.shape == x.shape:
        finite = bool(torch.isfinite(found).all())
        require(finite, "the step is not finite: is q = e^{−cΔλ/2} at most 1? λ rises, so Δλ > 0")
        again = answer(x, data, t, s, Bare(schedule), xi, churn)
        _same(found, again, "the same noise gave two different steps; use the noise that is given")
    require_close(found, expected, f"the step with churn {churn:g}", mistakes, tolerance)


@check(
    reread="the formulas above the exercise (meet, how to relate)",
    passed="every schedule is a diffusion",
    points=4,
    hints=(
        "Both formulas need the growth rate α̇/α of the data, and g² needs β and β̇ as well.",
        "In the time of the diffusion the data fade, so f = −α̇/α is negative or 0.",
        "Compute g² = 2 (β² α̇/α − β β̇) and return f and its square root, in this order.",
    ),
    reference=("schedules.diffusion_coefficients",),
)
def sde_from_schedule(answer):
    t = torch.tensor([0.2, 0.5, 0.9])
    rate = LinearVP().noise_rate(1 - t)  # b(s): f = −b/2, g² = b
    coefficients(answer, t, LinearVP(), -rate / 2, rate, "LinearVP", 1e-4)
    coefficients(answer, t, CondOT(), -1 / t, 2 * (1 - t) / t, "CondOT", 1e-4)
    found = pair_of(answer(0.5, Bare(CondOT())), "f and g")
    require_number(found[1], math.sqrt(2), "g of CondOT for a number t")


def pair_of(found, names: str):
    """The two things that came back."""
    pair = isinstance(found, (tuple, list)) and len(found) == 2
    require(pair, f"{names} should come back, found {describe(found)}")
    return found


def coefficients(answer, t, schedule, f, g_squared, name: str, tolerance: float) -> None:
    """Fail unless the answer gives f and g at the times t, (n,)."""
    found_f, found_g = pair_of(answer(t, Bare(schedule)), "f and g")
    g, beta = g_squared.sqrt(), schedule.beta(t)
    if isinstance(found_f, (int, float)):
        found_f = torch.full_like(t, found_f)
    mistakes = {
        "the sign is reversed: the data fade, so f ≤ 0 in the time of the diffusion": -f,
        "f and g are exchanged": g,
        "α was not divided by: f = −α̇/α": -schedule.alpha_dot(t),
        "f was doubled": 2 * f,
        "f was taken from β": -schedule.beta_dot(t) / beta,
    }
    require_close(found_f, f, f"f of {name}", mistakes, tolerance)
    part = (-2 * beta * schedule.beta_dot(t)).clamp(min=0)
    mistakes = {
        "this is g², as the source's summary prints it; the root is missing": g_squared,
        "the factor 2 is missing": (g_squared / 2).sqrt(),
        "the shrinking of the noise is missing: g² = 2(β² α̇/α − ββ̇) has two parts": part.sqrt(),
        "the growth of the noise is missing: g² = 2(β² α̇/α − ββ̇) has two parts": (-2 * f * beta**2).clamp(min=0).sqrt(),
        "the sign between the two parts of g² is wrong": (-2 * f * beta**2 - part).abs().sqrt(),
        "β is not squared in the first part of g²": (-2 * f * beta + part).abs().sqrt(),
    }
    require_close(found_g, g, f"g of {name}", mistakes, tolerance)


@check(
    reread="the formulas above the exercise, and entry 2 of docs/errata.md",
    passed="every linear diffusion is a schedule",
    points=5,
    hints=(
        "Integrate f first: that gives log α at every time of the grid. What is α at s = 0?",
        "β²/α² is the integral of g²/α²; put a 0 in front of each cumulative integral, for the time 0.",
        "Return α = exp ∫ f, and β = α √(∫ g²/α²), both as tensors as long as s.",
    ),
    reference=("schedules.DiffusionSchedule.alpha", "schedules.DiffusionSchedule.beta"),
)
def schedule_from_sde(answer):
    s = torch.linspace(0, 1, 401)
    fading, spread = torch.exp(-(s**2) / 2), 3 * s  # of f = −s, g² = 3 e^{−s²}
    ended = torch.cumulative_trapezoid(3 * torch.exp(-(s**2)), s)
    unshrunk = torch.cat([s[:1], ended]).sqrt()
    once = torch.cat([s[:1], torch.cumulative_trapezoid(3 * torch.exp(-(s**2) / 2), s)])
    twice = torch.cat([s[:1], torch.cumulative_trapezoid(3 * torch.exp(-2 * s**2), s)])
    both = torch.cat([s[:1], torch.cumulative_trapezoid(9 * torch.exp(-2 * s**2) / fading**2, s)])
    integrated(
        answer,
        lambda s: -s,
        lambda s: 3 * torch.exp(-(s**2)),
        s,
        fading,
        fading * spread.sqrt(),
        {
            "f was multiplied by s instead of being integrated": torch.exp(-(s**2)),
            "α grows: the sign of f is lost": 1 / fading,
            "this is ∫ f; the exponential is missing": -(s**2) / 2,
            "the rate was doubled: that is α²": fading**2,
            "only the last value of the integral was used": torch.full_like(s, float(fading[-1])),
            "α and β are exchanged": fading * spread.sqrt(),
        },
        {
            "the factor α(s)² is missing, as in the source: noise shrinks after it was added": spread.sqrt(),
            "this is β², not β": fading**2 * spread,
            "the noise never shrinks: α(s)²/α(r)² is missing": unshrunk,
            "α was not squared: the variance shrinks with α²": (fading * once).sqrt(),
            "noise shrinks before it was added: divide by α(r)², not multiply": fading * twice.sqrt(),
            "α(s) was squared and its root not taken": fading**2 * spread.sqrt(),
            "g² was squared once more": fading * both.sqrt(),
            "this is β of a variance-preserving schedule, √(1 − α²)": (1 - fading**2).sqrt(),
        },
    )


def integrated(answer, f, g_squared, s, alpha, beta, alpha_mistakes=None, beta_mistakes=None) -> None:
    """Fail unless the answer integrates to α and β; any sensible rule of integration will do on a fine grid."""
    found_alpha, found_beta = pair_of(answer(f, g_squared, s), "α and β")
    for found, expected, name, mistakes in (
        (found_alpha, alpha, "α", alpha_mistakes),
        (found_beta, beta, "β", beta_mistakes),
    ):
        if isinstance(found, torch.Tensor) and found.shape == (len(s) - 1,):
            fail(f"{name} should have {len(s)} values, found {len(s) - 1}: the one at s = 0 is missing")
        if isinstance(found, torch.Tensor) and found.ndim == 0:
            fail(f"{name} is wanted at every time of the grid, found one number")
        require_close(found, expected, name, mistakes, tolerance=5e-3)


@check(
    reread="the text above the exercise (meet, straightness misnomer)",
    passed="0 for straight lines alone",
    points=3,
    hints=(
        "How long is a path of which you know only many points?",
        "Sum the norms of its steps, states.diff(dim=0), over time; the distance is the norm of last minus first.",
        "Flatten coordinates before the norms, average lengths and distances, divide one by the other, subtract 1.",
    ),
    reference=("metrics.path_curvature",),
)
def path_curvature(answer):
    angle = torch.linspace(0, math.pi, 201)
    circle = 3 * torch.stack([angle.cos(), angle.sin()], dim=1)
    line = torch.stack([10 * angle / math.pi, 0 * angle], dim=1)
    paths, length = torch.stack([circle, line], dim=1), 3 * math.pi + 10  # in all; the distances are 6 and 10
    steps, ends = paths.diff(dim=0), paths[-1] - paths[0]
    squares = (steps.norm(dim=2).sum(0).square().mean() / ends.norm(dim=1).square().mean()).sqrt()
    mistakes = {
        "1 was not subtracted": length / 16,
        "the ratio was taken path by path; divide the two means": (math.pi / 2 + 1) / 2 - 1,
        "the ratio is upside down": 16 / length - 1,
        "the mean distance was subtracted, not divided by": (length - 16) / 2,
        "squares were averaged; take the norm first": float(squares) - 1,
        "the steps were averaged, not summed: a length is their sum": length / 16 / 200 - 1,
        "only the first trajectory was measured": math.pi / 2 - 1,
        "the absolute values of the coordinates were summed; a length is a root of squares": 22 / 16 - 1,
        "1 was subtracted from the wrong side": 1 - length / 16,
        "all trajectories went into one norm": float(steps.flatten(1).norm(dim=1).sum() / ends.norm()) - 1,
        "the lengths were summed but the distances averaged": length / 8 - 1,
        "differences were taken from trajectory to trajectory instead of in time": _across(paths),
    }
    require_number(answer(paths), length / 16 - 1, "the curvature of a half circle and a line", mistakes, 1e-3)


def _across(paths) -> float:
    lengths, ends = paths.diff(dim=1).norm(dim=2).sum(1), (paths[:, -1] - paths[:, 0]).norm(dim=1)
    return float(lengths.mean() / ends.mean() - 1)
