"""Wrong answers to lab 5, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.schedules import coefficient

# 1, 2


def ratio(t, schedule):
    return schedule.alpha(t) / schedule.beta(t)


def rescaled_by(factor):
    """to_variance_preserving that divides by a factor of α and β."""

    def to_variance_preserving(x, t, schedule):
        return x / coefficient(factor(schedule.alpha(t), schedule.beta(t)), x)

    return to_variance_preserving


def rescaled_in_place(x, t, schedule):
    x /= coefficient((schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt(), x)
    return x


def rescaled_with_a_number(x, t, schedule):
    return x / float((schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt())


# 3


def converter(swapped=False, transposed=False, **wrong):
    """convert_output with some rows (a, b) of the table replaced; a row is a function of α, β, α̇, β̇."""

    def convert_output(value, x, t, schedule, source, target):
        alpha, beta, alpha_dot, beta_dot = (
            coefficient(torch.as_tensor(f(t)), x)
            for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)
        )
        rows = {
            "data": lambda a, b, a_dot, b_dot: (1, 0),
            "noise": lambda a, b, a_dot, b_dot: (0, 1),
            "velocity": lambda a, b, a_dot, b_dot: (-b, a),
            "vector_field": lambda a, b, a_dot, b_dot: (a_dot, b_dot),
            "score": lambda a, b, a_dot, b_dot: (0, -1 / b),
        } | wrong
        if source == target:
            return value
        if transposed:
            source, target = target, source
        a, b = rows[source](alpha, beta, alpha_dot, beta_dot)
        first, second = (beta, alpha) if swapped else (alpha, beta)
        determinant = first * b - second * a
        data, noise = (b * x - second * value) / determinant, (first * value - a * x) / determinant
        a, b = rows[target](alpha, beta, alpha_dot, beta_dot)
        return a * data + b * noise

    return convert_output


def without_shapes(value, x, t, schedule, source, target):
    """The coefficients multiply as they are."""
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (-beta, alpha), "score": (0, -1 / beta)}
    rows["vector_field"] = schedule.alpha_dot(t), schedule.beta_dot(t)
    a, b = rows[source]
    determinant = alpha * b - beta * a
    data, noise = (b * x - beta * value) / determinant, (alpha * value - a * x) / determinant
    return rows[target][0] * data + rows[target][1] * noise


def only_to_data(value, x, t, schedule, source, target):
    return converter()(value, x, t, schedule, source, "data")


def only_from_data(value, x, t, schedule, source, target):
    if source == "data":
        return converter()(value, x, t, schedule, source, target)


# 4


def weight_with(rule=lambda a, b, alpha, beta: (a - b * alpha / beta) ** 2, **wrong):
    """x_mse_weight by a rule of the row (a, b) and of α, β, or with the formula of an output replaced."""

    def x_mse_weight(output, t, schedule):
        alpha, beta = schedule.alpha(t), schedule.beta(t)
        one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
        rows = {
            "data": (one, zero),
            "noise": (zero, one),
            "velocity": (-beta, alpha),
            "vector_field": (schedule.alpha_dot(t) * one, schedule.beta_dot(t) * one),
            "score": (zero, -1 / beta),
        }
        return wrong[output](alpha, beta) if output in wrong else rule(*rows[output], alpha, beta)

    return x_mse_weight


# 5


def loss_with(term=lambda w, rate, errors: (w * rate * errors).mean(), **wrong):
    """loss_over_log_snr with a part replaced: state, rate, errors, or the weight."""

    def loss_over_log_snr(model, z, noise, t, schedule, weight):
        alpha, beta = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
        x = wrong.get("state", lambda a, b, z, e: a * z + b * e)(alpha, beta, z, noise)
        parts = schedule.alpha_dot(t) / schedule.alpha(t), schedule.beta_dot(t) / schedule.beta(t)
        rate = wrong.get("rate", lambda a, b: 2 * (a - b))(*parts)
        target = wrong.get("target", lambda z, e: e)(z, noise)
        errors = (model(x, t) - target).flatten(1)
        errors = wrong.get("errors", lambda e: e.square().sum(1))(errors)
        return term(weight(wrong.get("at", lambda t: schedule.log_snr(t))(t)), rate, errors)

    return loss_over_log_snr


def untrainable(model, z, noise, t, schedule, weight):
    with torch.no_grad():
        return loss_with()(model, z, noise, t, schedule, weight)


# 6


def effective_with(rule):
    """effective_weight from the factor of the output, that of the noise, and λ̇."""

    def effective_weight(output, t, schedule):
        rate = 2 * (schedule.alpha_dot(t) / schedule.alpha(t) - schedule.beta_dot(t) / schedule.beta(t))
        return rule(weight_with()(output, t, schedule), weight_with()("noise", t, schedule), rate)

    return effective_weight


# 7, 8


def step_with(rule):
    """ddim_step as a rule of x, ẑ and α, β at t and s, in the shape of x."""

    def ddim_step(x, data, t, s, schedule):
        weights = [coefficient(f(time), x) for time in (t, s) for f in (schedule.alpha, schedule.beta)]
        return rule(x, data, *weights)

    return ddim_step


def euler(x, data, t, s, schedule):
    u = converter()(data, x, t, schedule, "data", "vector_field")
    return x + coefficient(torch.as_tensor(s) - torch.as_tensor(t), x) * u


def renoised_with(rule, exponent=lambda q, churn: q**churn):
    """ddpm_step as a rule of ẑ, ε̂, ξ, q, α_s and β_s."""

    def ddpm_step(x, data, t, s, schedule, noise, churn):
        a, b, a_s, b_s = [coefficient(f(time), x) for time in (t, s) for f in (schedule.alpha, schedule.beta)]
        return rule(data, (x - a * data) / b, noise, exponent(a * b_s / (b * a_s), churn), a_s, b_s)

    return ddpm_step


def rest(q):
    return (1 - q**2).sqrt()


def ddpm_right(z, e, xi, q, a, b):
    return a * z + b * (q * e + rest(q) * xi)


# 9, 10, 11


def sde_with(f=lambda growth, b, b_dot: -growth, g=lambda growth, b, b_dot: (2 * (b**2 * growth - b * b_dot)).sqrt()):
    def sde_from_schedule(t, schedule):
        values = schedule.alpha_dot(t) / schedule.alpha(t), schedule.beta(t), schedule.beta_dot(t)
        return f(*values), g(*values)

    return sde_from_schedule


def cumulative(y, s):
    return torch.cat([s[:1] * 0, torch.cumulative_trapezoid(y, s)])


def schedule_with(
    alpha=lambda f, s: cumulative(f(s), s).exp(),
    beta=lambda a, g2, s: a * cumulative(g2 / a**2, s).sqrt(),
):
    def schedule_from_sde(f, g_squared, s):
        a = alpha(f, s)
        return a, beta(cumulative(f(s), s).exp(), g_squared(s), s)

    return schedule_from_sde


def curvature_with(rule, norm=lambda x: x.flatten(2).norm(dim=2)):
    """path_curvature as a rule of the lengths and the distances of all trajectories."""
    return lambda states: rule(norm(states.diff(dim=0)).sum(0), norm((states[-1] - states[0])[None])[0])


WRONG = {
    "log_snr": {
        "no squares": (lambda t, s: ratio(t, s).log(), "not squared"),
        "upside down": (lambda t, s: -2 * ratio(t, s).log(), "upside down"),
        "no logarithm": (lambda t, s: ratio(t, s) ** 2, "logarithm is missing"),
        "logarithms divided": (lambda t, s: s.alpha(t).log() / s.beta(t).log(), "two logarithms were divided"),
        "CondOT": (lambda t, s: 2 * torch.logit(torch.as_tensor(t)), "CondOT, whatever"),
        "base 10": (lambda t, s: 2 * ratio(t, s).log10(), "base 10"),
        "cosine": (lambda t, s: 2 * torch.tan(math.pi / 2 * torch.as_tensor(t)).log(), ""),
        "variance preserving": (lambda t, s: 2 * (s.alpha(t) / (1 - s.alpha(t) ** 2).sqrt()).log(), ""),
        "the schedule's own": (lambda t, s: s.log_snr(t), "what you are asked to write"),
        "one number": (lambda t, s: 2 * ratio(t, s).log().mean(), "shape"),
    },
    "to_variance_preserving": {
        "no root": (rescaled_by(lambda a, b: a**2 + b**2), "square root is missing"),
        "multiplied": (rescaled_by(lambda a, b: 1 / (a**2 + b**2).sqrt()), "multiplied"),
        "sum of weights": (rescaled_by(lambda a, b: a + b), "α + β"),
        "by α": (rescaled_by(lambda a, b: a), "by α alone"),
        "by β": (rescaled_by(lambda a, b: b), "by β alone"),
        "unchanged": (lambda x, t, s: 1 * x, "nothing was rescaled"),
        "own length": (lambda x, t, s: x / x.norm(dim=1, keepdim=True), "its own length"),
        "difference of squares": (rescaled_by(lambda a, b: (a**2 - b**2).abs().sqrt()), "sign under the root"),
        "in place": (rescaled_in_place, "changed a tensor"),
        "one time only": (rescaled_with_a_number, "raised"),
        "no shape": (lambda x, t, s: x / (s.alpha(t) ** 2 + s.beta(t) ** 2).sqrt(), "raised RuntimeError"),
        "twin returned too": (lambda x, t, s: (x, s.alpha(t)), "found a tuple"),
    },
    "convert_output": {
        "velocity's sign": (converter(velocity=lambda a, b, *_: (b, -a)), "velocity has the wrong sign"),
        "velocity exchanged": (converter(velocity=lambda a, b, *_: (-a, b)), "velocity has α and β exchanged"),
        "velocity with a plus": (converter(velocity=lambda a, b, *_: (b, a)), "has a plus"),
        "u for CondOT": (converter(vector_field=lambda *_: (1, -1)), "right for CondOT only"),
        "score's sign": (converter(score=lambda a, b, *_: (0, 1 / b)), "sign of the score"),
        "score without β": (converter(score=lambda *_: (0, -1)), "not −ε."),
        "score over β²": (converter(score=lambda a, b, *_: (0, -1 / b**2)), "not −ε/β²"),
        "score times β": (converter(score=lambda a, b, *_: (0, -b)), "not −βε"),
        "state exchanged": (converter(swapped=True), "exchanged in the state"),
        "names exchanged": (converter(transposed=True), "source and target are exchanged"),
        "nothing done": (lambda value, x, t, schedule, source, target: value, "came back as it was"),
        "no shape": (without_shapes, "raised RuntimeError"),
        "data only": (only_to_data, ""),
        "from data only": (only_from_data, "None"),
        "state for value": (lambda value, x, t, schedule, source, target: x, ""),
    },
    "x_mse_weight": {
        "as printed": (weight_with(velocity=lambda a, b: b**2 * (b**2 / a**2 + 1) ** 2), "as printed in the source"),
        "no square": (weight_with(lambda a, b, al, be: (a - b * al / be).abs()), "square is missing"),
        "upside down": (weight_with(lambda a, b, al, be: 1 / (a - b * al / be) ** 2), "upside down"),
        "noise's sign lost": (weight_with(lambda a, b, al, be: (a + b * al / be) ** 2), "lost its sign"),
        "ratio upside down": (weight_with(lambda a, b, al, be: (a - b * be / al) ** 2), "upside down"),
        "data's part only": (
            weight_with(velocity=lambda a, b: b**2, vector_field=lambda a, b: (1 + a / b) ** 2),
            "only the data",
        ),
        "squares added": (weight_with(lambda a, b, al, be: a**2 + (b * al / be) ** 2), "squares were added"),
        "u for CondOT": (weight_with(vector_field=lambda a, b: (1 + a / b) ** 2), "right for CondOT only"),
        "score like noise": (weight_with(score=lambda a, b: a**2 / b**2), "β is missing"),
        "β² missing": (weight_with(velocity=lambda a, b: (a**2 / b**2 + 1) ** 2), "β² is missing"),
        "all alike": (weight_with(lambda a, b, al, be: torch.ones_like(al)), "for every output"),
        "None for the score": (weight_with(score=lambda a, b: None), "None"),
    },
    "loss_over_log_snr": {
        "no λ̇": (loss_with(lambda w, r, e: (w * e).mean()), "speed λ̇ is missing"),
        "no weight": (loss_with(lambda w, r, e: (r * e).mean()), "weight w(λ) is missing"),
        "λ̇ divides": (loss_with(lambda w, r, e: (w / r * e).mean()), "λ̇ divides"),
        "no 2": (loss_with(rate=lambda a, b: a - b), "factor 2"),
        "λ̇ negative": (loss_with(rate=lambda a, b: 2 * (b - a)), "wrong sign"),
        "λ̇ with a plus": (loss_with(rate=lambda a, b: 2 * (a + b)), "between the two parts"),
        "mean of coordinates": (loss_with(errors=lambda e: e.square().mean(1)), "over the coordinates"),
        "sum of batch": (loss_with(lambda w, r, e: (w * r * e).sum()), "summed, not averaged"),
        "norm not squared": (loss_with(errors=lambda e: e.norm(dim=1)), "square is missing from the norm"),
        "weight at t": (loss_with(at=lambda t: t), "at t instead of at λ_t"),
        "model sees z": (loss_with(state=lambda a, b, z, e: z), "given the data z"),
        "state exchanged": (loss_with(state=lambda a, b, z, e: b * z + a * e), "exchanged in the state"),
        "predicts data": (loss_with(target=lambda z, e: z), "compared with the data"),
        "mean first": (loss_with(lambda w, r, e: (w * r).mean() * e.mean()), "before weighting"),
        "no gradient": (untrainable, "lost its gradient"),
        "a float": (loss_with(lambda w, r, e: float((w * r * e).mean())), "lost its gradient"),
        "one per state": (loss_with(lambda w, r, e: w * r * e), "one number"),
    },
    "effective_weight": {
        "no λ̇": (effective_with(lambda w, n, r: w / n), "λ̇ is missing"),
        "times λ̇": (effective_with(lambda w, n, r: w / n * r), "λ̇ multiplies"),
        "no 2": (effective_with(lambda w, n, r: 2 * w / n / r), "factor 2"),
        "sign": (effective_with(lambda w, n, r: -w / n / r), "wrong sign"),
        "error of the data": (effective_with(lambda w, n, r: w / r), "error of the data"),
        "multiplied": (effective_with(lambda w, n, r: w * n / r), "should be divided"),
        "ratio upside down": (effective_with(lambda w, n, r: n / w / r), "ratio of the factors is upside down"),
        "all upside down": (effective_with(lambda w, n, r: r * n / w), ""),
        "root": (effective_with(lambda w, n, r: (w / n).sqrt() / r), "root was taken"),
        "CondOT's λ̇": (
            lambda output, t, s: (
                weight_with()(output, t, s) / weight_with()("noise", t, s) * torch.as_tensor(t) * (1 - t) / 2
            ),
            "",
        ),
    },
    "ddim_step": {
        "Euler": (euler, "Euler's step along"),
        "Euler on CondOT": (
            lambda x, z, t, s, sch: (
                x
                + coefficient(torch.as_tensor(s - t), x)
                * (z - (x - coefficient(sch.alpha(t), x) * z) / coefficient(sch.beta(t), x))
            ),
            "CondOT, whatever",
        ),
        "old β": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + x - a * z), "old weight β_t"),
        "old α": (step_with(lambda x, z, a, b, a_s, b_s: a * z + b_s * (x - a * z) / b), "old weight α_t"),
        "noise at s": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * (x - a_s * z) / b_s), "nothing moves"),
        "no division": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * (x - a * z)), "not divided by β_t"),
        "x for noise": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * x), "x was used in place"),
        "x over β": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * x / b), "missing its part of the data"),
        "sign": (step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * (x + a * z) / b), "sign in ε"),
        "exchanged": (step_with(lambda x, z, a, b, a_s, b_s: b_s * z + a_s * (x - a * z) / b), "exchanged in the new"),
        "fresh noise": (
            step_with(lambda x, z, a, b, a_s, b_s: a_s * z + b_s * torch.randn_like(x)),
            "two different steps",
        ),
        "the guess": (lambda x, z, t, s, schedule: 1 * z, "guess itself"),
        "no shape": (
            lambda x, z, t, s, sch: sch.alpha(s) * z + sch.beta(s) * (x - sch.alpha(t) * z) / sch.beta(t),
            "raised RuntimeError",
        ),
    },
    "ddpm_step": {
        "churn ignored": (renoised_with(ddpm_right, lambda q, c: q), "churn is ignored"),
        "DDIM": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * e), "this is DDIM"),
        "no new noise": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * q * e), "new noise is missing"),
        "all new": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * xi), "all of the noise is new"),
        "q squared": (renoised_with(ddpm_right, lambda q, c: q ** (2 * c)), "q is squared"),
        "no root": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * (q * e + (1 - q**2) * xi)), "root is missing"),
        "1 − q": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * (q * e + (1 - q) * xi)), "variances add up"),
        "on top": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * (e + rest(q) * xi)), "added on top"),
        "exchanged": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * (rest(q) * e + q * xi)), "are exchanged"),
        "β missing": (renoised_with(lambda z, e, xi, q, a, b: a * z + b * q * e + rest(q) * xi), "β_s is missing"),
        "churn times q": (
            renoised_with(
                lambda z, e, xi, q, a, b: a * z + b * (q * e + (1 - q**2).clamp(min=0).sqrt() * xi),
                lambda q, c: c * q,
            ),
            "belongs in the exponent",
        ),
        "Δλ reversed": (renoised_with(ddpm_right, lambda q, c: q ** (-c)), "not finite"),
        "own noise": (
            renoised_with(lambda z, e, xi, q, a, b: a * z + b * (q * e + rest(q) * torch.randn_like(xi))),
            "two different steps",
        ),
    },
    "sde_from_schedule": {
        "sign of f": (sde_with(f=lambda r, b, b_dot: r), "sign is reversed"),
        "g squared": (sde_with(g=lambda r, b, b_dot: 2 * (b**2 * r - b * b_dot)), "root is missing"),
        "2 missing": (sde_with(g=lambda r, b, b_dot: (b**2 * r - b * b_dot).sqrt()), "factor 2 is missing"),
        "no shrinking": (sde_with(g=lambda r, b, b_dot: (-2 * b * b_dot).sqrt()), "shrinking of the noise is missing"),
        "no growth": (sde_with(g=lambda r, b, b_dot: (2 * b**2 * r).sqrt()), "growth of the noise is missing"),
        "sign in g": (
            sde_with(g=lambda r, b, b_dot: (2 * (b**2 * r + b * b_dot)).abs().sqrt()),
            "sign between the two parts",
        ),
        "β not squared": (sde_with(g=lambda r, b, b_dot: (2 * (b * r - b * b_dot)).sqrt()), "β is not squared"),
        "exchanged": (lambda t, s: sde_with()(t, s)[::-1], "f and g are exchanged"),
        "α̇ alone": (lambda t, s: (-s.alpha_dot(t), sde_with()(t, s)[1]), "α was not divided by"),
        "g alone": (lambda t, s: sde_with()(t, s)[1], "f and g should come back"),
        "variance preserving": (
            lambda t, s: (
                -s.alpha_dot(t) / s.alpha(t),
                (2 * s.alpha_dot(t) / s.alpha(t)).sqrt(),
            ),
            "",
        ),
    },
    "schedule_from_sde": {
        "as printed": (schedule_with(beta=lambda a, g2, s: cumulative(g2 / a**2, s).sqrt()), "as in the source"),
        "β²": (schedule_with(beta=lambda a, g2, s: a**2 * cumulative(g2 / a**2, s)), "this is β², not β"),
        "no shrinking": (schedule_with(beta=lambda a, g2, s: cumulative(g2, s).sqrt()), "never shrinks"),
        "α not squared": (schedule_with(beta=lambda a, g2, s: (a * cumulative(g2 / a, s)).sqrt()), "was not squared"),
        "multiplied": (schedule_with(beta=lambda a, g2, s: a * cumulative(g2 * a**2, s).sqrt()), "before it was added"),
        "α² outside": (schedule_with(beta=lambda a, g2, s: a**2 * cumulative(g2 / a**2, s).sqrt()), "root not taken"),
        "f not integrated": (schedule_with(alpha=lambda f, s: (f(s) * s).exp()), "instead of being integrated"),
        "f's sign": (schedule_with(alpha=lambda f, s: (-cumulative(f(s), s)).exp()), "sign of f is lost"),
        "no exponential": (schedule_with(alpha=lambda f, s: cumulative(f(s), s)), "exponential is missing"),
        "last value": (schedule_with(alpha=lambda f, s: torch.trapezoid(f(s), s).exp()), "found one number"),
        "start missing": (
            schedule_with(alpha=lambda f, s: torch.cumulative_trapezoid(f(s), s).exp()),
            "the one at s = 0 is missing",
        ),
        "preserving": (schedule_with(beta=lambda a, g2, s: (1 - a**2).sqrt()), "variance-preserving"),
        "g² squared": (schedule_with(beta=lambda a, g2, s: a * cumulative(g2**2 / a**2, s).sqrt()), "once more"),
        "α alone": (lambda f, g2, s: schedule_with()(f, g2, s)[0], "α and β should come back"),
    },
    "path_curvature": {
        "no −1": (curvature_with(lambda length, d: length.mean() / d.mean()), "1 was not subtracted"),
        "path by path": (curvature_with(lambda length, d: (length / d).mean() - 1), "path by path"),
        "upside down": (curvature_with(lambda length, d: d.mean() / length.mean() - 1), "upside down"),
        "difference": (curvature_with(lambda length, d: (length - d).mean()), "was subtracted"),
        "steps averaged": (
            lambda x: x.diff(dim=0).flatten(2).norm(dim=2).mean() / (x[-1] - x[0]).flatten(1).norm(dim=1).mean() - 1,
            "steps were averaged",
        ),
        "first only": (curvature_with(lambda length, d: length[0] / d[0] - 1), "only the first"),
        "1-norm": (
            curvature_with(lambda length, d: length.mean() / d.mean() - 1, lambda x: x.flatten(2).abs().sum(2)),
            "absolute values of the coordinates",
        ),
        "wrong side": (curvature_with(lambda length, d: 1 - length.mean() / d.mean()), "wrong side"),
        "sum of lengths": (curvature_with(lambda length, d: length.sum() / d.mean() - 1), "lengths were summed"),
        "across": (
            lambda x: curvature_with(lambda le, d: le.mean() / d.mean() - 1)(x.transpose(0, 1)),
            "instead of in time",
        ),
        "one per path": (curvature_with(lambda length, d: length / d - 1), "one number"),
    },
}
