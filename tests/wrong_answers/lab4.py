"""Wrong answers to lab 4, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.schedules import coefficient


def loss_with(error, reduce=None, state=None, time=None, shown=None):
    """A regression loss: error(network's value, noise, a, b, z), from the network at `shown` and `time`."""

    def loss(network, z, t, noise, schedule):
        a, b = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
        x = a * z + b * noise if state is None else state(a, b, z, noise)
        at = t if time is None else time(t)
        value = network(x if shown is None else shown(z, noise), at)
        errors = error(value, noise, a, b, z)
        return errors.square().flatten(1).sum(1).mean() if reduce is None else reduce(errors)

    return loss


def dsm(value, noise, a, b, z):
    return value + noise / b


def eps(value, noise, a, b, z):
    return value - noise


def loss_in_flat_space(network, z, t, noise, schedule):
    """Right in the plane; on images the coefficients multiply the last axis."""
    a, b = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    return (network(a * z + b * noise, t) + noise / b).square().flatten(1).sum(1).mean()


def noise_loss_in_flat_space(network, z, t, noise, schedule):
    a, b = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    return (network(a * z + b * noise, t) - noise).square().sum(1).mean()


def ignoring_the_schedule(sign, divide):
    def loss(network, z, t, noise, schedule):
        a, b = coefficient(t, z), coefficient(1 - t, z)
        errors = network(a * z + b * noise, t) + sign * noise / (b if divide else 1)
        return errors.square().flatten(1).sum(1).mean()

    return loss


def without_shaping(network, z, t, noise, schedule):
    x = schedule.alpha(t) * z + schedule.beta(t) * noise
    return (network(x, t) + noise / schedule.beta(t)).square().sum(1).mean()


def in_place(network, z, t, noise, schedule):
    b = coefficient(schedule.beta(t), z)
    x = z.mul_(coefficient(schedule.alpha(t), z)) + b * noise
    return (network(x, t) + noise / b).square().flatten(1).sum(1).mean()


def fresh_noise(network, z, t, noise, schedule):
    noise = torch.randn_like(z)
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    return (network(x, t) - noise).square().flatten(1).sum(1).mean()


@torch.no_grad()
def without_gradient(network, z, t, noise, schedule):
    return loss_with(dsm)(network, z, t, noise, schedule)


def detached(network, z, t, noise, schedule):
    return loss_with(lambda v, e, a, b, z: v.detach() - e)(network, z, t, noise, schedule)


def score_with(formula, at=lambda t: t):
    """score_from_vector_field as a formula of u, x, α, β, α̇, β̇."""

    def score_from_vector_field(u, x, t, schedule):
        t = at(t)
        a, b = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
        return formula(u, x, a, b, coefficient(schedule.alpha_dot(t), x), coefficient(schedule.beta_dot(t), x))

    return score_from_vector_field


def euler_maruyama(drift, noise, last=0, keep=False, step=None, at_end=False, same=False):
    """sample_diffusion with drift(u, s, σ) and noise(h, σ, ε)."""

    def sample_diffusion(u, s, sigma, x0, ts, noises):
        states = [x0]
        for k in range(len(ts) - 1 - last):
            t, h = ts[k + at_end], ts[k + 1] - ts[k] if step is None else step(ts)
            x, value = states[-1], sigma(t)
            pushed = noise(h, value, noises[0 if same else k])
            states.append(x + h * drift(u(x, t), s(x, t), value) + pushed)
        return torch.stack(states) if keep else states[-1]

    return sample_diffusion


def right_drift(u, s, sigma):
    return u + sigma**2 / 2 * s


def right_noise(h, sigma, e):
    return h**0.5 * sigma * e


def own_noise(u, s, sigma, x0, ts, noises):
    return euler_maruyama(right_drift, right_noise)(u, s, sigma, x0, ts, torch.randn_like(noises))


def moves_its_start(u, s, sigma, x0, ts, noises):
    for t, h, e in zip(ts[:-1], ts.diff(), noises, strict=True):
        x0 += h * right_drift(u(x0, t), s(x0, t), sigma(t)) + right_noise(h, sigma(t), e)
    return x0


def vp_with(a=None, std=None, time=lambda s: s):
    def forward_marginal(s, low, high):
        s = time(torch.as_tensor(s))
        right = torch.exp(-(low * s + (high - low) * s**2 / 2) / 2)
        mean = right if a is None else a(s, low, high)
        return mean, torch.sqrt(1 - right**2) if std is None else std(s, right, low, high)

    return forward_marginal


def drift_with(formula, at=lambda t: 1 - t, score_at=lambda t: t):
    def drift(score, x, t, f, g):
        rate, noise = coefficient(f(at(t)), x), coefficient(g(at(t)), x)
        return formula(x, score(x, score_at(t)), rate, noise)

    return drift


def drift_without_shaping(share):
    return lambda score, x, t, f, g: -f(1 - t) * x + share * g(1 - t) ** 2 * score(x, t)


def drift_for_numbers(share):
    """Right for one time for all points."""
    return lambda score, x, t, f, g: -f(1 - t).reshape(-1)[0] * x + share * g(1 - t).reshape(-1)[0] ** 2 * score(x, t)


def posterior_with(mean=None, variance=None, index=0):
    """ddpm_posterior with the mean from x, x_0, β_k, ᾱ_{k−1}, ᾱ_k and the variance from the last three."""

    def ddpm_posterior(x, x0, k, betas):
        k = k + index
        bars = (1 - betas).cumprod(0)
        beta, before, now = betas[k], bars[k - 1], bars[k]
        right = before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x
        spread = beta * (1 - before) / (1 - now)
        return (
            right if mean is None else mean(x, x0, beta, before, now),
            spread if variance is None else variance(beta, before, now),
        )

    return ddpm_posterior


def step_with(mean=None, noise=None, index=0):
    """ancestral_step with a mean from x, ε̂, β_k, ᾱ_{k−1}, ᾱ_k and the noise's size from the last three."""

    def ancestral_step(x, eps, k, betas, fresh):
        bars = (1 - betas).cumprod(0)
        beta, before, now = betas[k + index], bars[k + index - 1], bars[k + index]
        right = (x - beta / (1 - now).sqrt() * eps) / (1 - beta).sqrt()
        size = (beta * (1 - before) / (1 - now)).sqrt() if noise is None else noise(beta, before, now)
        return (right if mean is None else mean(x, eps, beta, before, now)) + size * fresh

    return ancestral_step


def drawing_step(x, eps, k, betas, noise):
    return step_with()(x, eps, k, betas, torch.randn_like(x))


def floor_of_noise(x, eps, k, betas, noise):
    """√β_k at k = 1 and the right size elsewhere."""
    return step_with(noise=(lambda b, p, n: b.sqrt()) if k == 1 else None)(x, eps, k, betas, noise)


def elbo_with(
    sign=1, weight=None, spread=None, first=None, prior=None, time=lambda k, size: 1 - k / size, shift=1, mean=False
):
    """elbo_terms with other weights w(β, ᾱ_k), constants of the KL (d, ratio), row-0 constants, last KL or times."""

    def elbo_terms(x0, eps, betas, noises):
        bars, d, size = (1 - betas).cumprod(0), x0[0].numel(), len(betas) - 1
        terms = []
        for k in range(1, size + 1):
            beta, noise = betas[k], noises[k - shift]
            x = bars[k].sqrt() * x0 + (1 - bars[k]).sqrt() * noise
            square = (noise - eps(x, time(k, size))).square().flatten(1)
            error = square.mean(1) if mean else square.sum(1)
            w = beta / (2 * (1 - beta) * (1 - bars[k])) if weight is None else weight(beta, bars[k])
            ratio = (1 - bars[k - 1]) / (1 - bars[k])
            if k == 1:
                constant = d / 2 * torch.log(2 * math.pi * beta) if first is None else first(d, beta)
                terms.append(-w * error - constant)
            else:
                constant = d / 2 * (ratio - 1 - ratio.log()) if spread is None else spread(d, ratio)
                terms.append(-sign * (w * error + constant))
        square = x0.square().flatten(1).sum(1)
        last = (bars[-1] * square - d * bars[-1] - d * torch.log(1 - bars[-1])) / 2
        terms.append(-(last if prior is None else prior(square, bars[-1], d, last)))
        return torch.stack(terms)

    return elbo_terms


def transformed(change):
    return lambda *args: change(elbo_with()(*args))


WRONG = {
    "denoising_score_matching_loss": {
        "sign": (loss_with(lambda v, e, a, b, z: v - e / b), "wrong sign"),
        "β missing": (loss_with(lambda v, e, a, b, z: v + e), "β is missing"),
        "β squared": (loss_with(lambda v, e, a, b, z: v + e / b**2), "β² instead of β"),
        "times β": (loss_with(lambda v, e, a, b, z: v + b * e), "multiplied by β"),
        "over α": (loss_with(lambda v, e, a, b, z: v + e / a), "divided by α"),
        "weighted": (loss_with(lambda v, e, a, b, z: b * v + e), "weighted with β²"),
        "mean of coordinates": (loss_with(dsm, lambda e: e.square().mean()), "over the coordinates"),
        "sum of the batch": (loss_with(dsm, lambda e: e.square().sum()), "summed over the batch"),
        "one loss per point": (loss_with(dsm, lambda e: e.square().flatten(1).sum(1)), "average them"),
        "no square": (loss_with(dsm, lambda e: e.flatten(1).norm(dim=1).mean()), "square is missing"),
        "half": (loss_with(dsm, lambda e: e.square().flatten(1).sum(1).mean() / 2), "factor ½"),
        "clean data": (loss_with(dsm, shown=lambda z, e: z), "clean data"),
        "β² in the state": (loss_with(dsm, state=lambda a, b, z, e: a * z + b**2 * e), "standard deviation"),
        "α and β exchanged": (loss_with(dsm, state=lambda a, b, z, e: b * z + a * e), "exchanged in the state"),
        "1 − t": (loss_with(dsm, time=lambda t: 1 - t), "1 − t"),
        "CondOT only": (ignoring_the_schedule(1, True), "schedule was ignored"),
        "coefficients not shaped": (without_shaping, "raised RuntimeError"),
        "images": (loss_in_flat_space, ""),
        "in place": (in_place, "changed a tensor"),
        "no gradient": (without_gradient, "no gradient reaches the network"),
        "a float": (lambda *args: float(loss_with(dsm)(*args)), "found the number"),
    },
    "noise_prediction_loss": {
        "sign": (loss_with(lambda v, e, a, b, z: v + e), "wrong sign"),
        "still the score": (loss_with(dsm), "still score matching"),
        "over β": (loss_with(lambda v, e, a, b, z: v - e / b), "divided by β"),
        "times β": (loss_with(lambda v, e, a, b, z: v - b * e), "multiplied by β"),
        "the data": (loss_with(lambda v, e, a, b, z: v - z), "data z instead of the noise"),
        "the velocity": (loss_with(lambda v, e, a, b, z: v - (z - e)), "flow matching"),
        "weighted again": (loss_with(lambda v, e, a, b, z: b * (v - e)), "once more"),
        "mean of coordinates": (loss_with(eps, lambda e: e.square().mean()), "over the coordinates"),
        "sum of the batch": (loss_with(eps, lambda e: e.square().sum()), "summed over the batch"),
        "no square": (loss_with(eps, lambda e: e.flatten(1).norm(dim=1).mean()), "square is missing"),
        "clean data": (loss_with(eps, shown=lambda z, e: z), "clean data"),
        "shown the noise": (loss_with(eps, shown=lambda z, e: e), "shown the noise"),
        "noise added at full size": (loss_with(eps, state=lambda a, b, z, e: a * z + e), "without β"),
        "data at full size": (loss_with(eps, state=lambda a, b, z, e: z + b * e), "not multiplied by α"),
        "1 − t": (loss_with(eps, time=lambda t: 1 - t), "1 − t"),
        "CondOT only": (ignoring_the_schedule(-1, False), "schedule was ignored"),
        "fresh noise": (fresh_noise, ""),
        "images": (noise_loss_in_flat_space, ""),
        "detached": (detached, "no gradient reaches the network"),
    },
    "score_from_noise": {
        "sign": (lambda e, t, c: e / coefficient(c.beta(t), e), "sign is missing"),
        "times β": (lambda e, t, c: -coefficient(c.beta(t), e) * e, "multiplied by β"),
        "β squared": (lambda e, t, c: -e / coefficient(c.beta(t), e) ** 2, "divided by β²"),
        "α for β": (lambda e, t, c: -e / coefficient(c.alpha(t), e), "α instead of β"),
        "β missing": (lambda e, t, c: -e, "β is missing"),
        "1 − t": (lambda e, t, c: -e / coefficient(c.beta(1 - t), e), "asked at 1 − t"),
        "CondOT only": (lambda e, t, c: -e / coefficient(1 - t, e), "schedule was ignored"),
        "VP only": (lambda e, t, c: -e / torch.sqrt(1 - coefficient(c.alpha(t), e) ** 2), "√(1 − α²)"),
        "not shaped": (lambda e, t, c: -e / c.beta(t), "raised RuntimeError"),
        "shaped for the plane": (lambda e, t, c: -e / c.beta(t).reshape(-1, 1), ""),
        "averaged time": (lambda e, t, c: -e / c.beta(t.mean()), ""),
    },
    "score_from_vector_field": {
        "sign": (score_with(lambda u, x, a, b, p, q: (p * x - a * u) / (b**2 * p - a * q * b)), "sign is reversed"),
        "x missing": (score_with(lambda u, x, a, b, p, q: a * u / (b**2 * p - a * q * b)), "x is missing"),
        "α̇ missing": (score_with(lambda u, x, a, b, p, q: (a * u - x) / (b**2 * p - a * q * b)), "by α̇"),
        "α missing": (score_with(lambda u, x, a, b, p, q: (u - p * x) / (b**2 * p - a * q * b)), "by α"),
        "u and x": (score_with(lambda u, x, a, b, p, q: (a * x - p * u) / (b**2 * p - a * q * b)), "u and x"),
        "plus above": (score_with(lambda u, x, a, b, p, q: (a * u + p * x) / (b**2 * p - a * q * b)), "between α u"),
        "plus below": (score_with(lambda u, x, a, b, p, q: (a * u - p * x) / (b**2 * p + a * q * b)), "plus in the"),
        "β not squared": (score_with(lambda u, x, a, b, p, q: (a * u - p * x) / (b * p - a * q * b)), "not squared"),
        "β missing": (score_with(lambda u, x, a, b, p, q: (a * u - p * x) / (b**2 * p - a * q)), "second term"),
        "no division": (score_with(lambda u, x, a, b, p, q: a * u - p * x), "division by the denominator"),
        "CondOT only": (
            lambda u, x, t, c: (coefficient(t, x) * u - x) / (1 - coefficient(t, x)),
            "α = t, β = 1 − t",
        ),
        "the noise": (score_with(lambda u, x, a, b, p, q: -(a * u - p * x) / (b * p - a * q)), "the noise, −β s"),
        "the other direction": (score_with(lambda u, x, a, b, p, q: (b**2 * p / a - q * b) * u + p / a * x), "other"),
        "1 − t": (
            score_with(lambda u, x, a, b, p, q: (a * u - p * x) / (b**2 * p - a * q * b), lambda t: 1 - t),
            "asked at 1 − t",
        ),
        "clamped": (
            score_with(lambda u, x, a, b, p, q: (a * u - p * x) / (b**2 * p - a * q * b + 1e-2)),
            "",
        ),
        "not shaped": (
            lambda u, x, t, c: (c.alpha(t) * u - c.alpha_dot(t) * x) / (c.beta(t) ** 2 * c.alpha_dot(t)),
            "raised RuntimeError",
        ),
    },
    "vector_field_from_score": {
        "sign": (score_with(lambda s, x, a, b, p, q: -(b**2 * p / a - q * b) * s - p / a * x), "sign is reversed"),
        "x missing": (score_with(lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * s), "term with x is missing"),
        "β̇ β missing": (score_with(lambda s, x, a, b, p, q: b**2 * p / a * s + p / a * x), "β̇ β is missing"),
        "plus": (score_with(lambda s, x, a, b, p, q: (b**2 * p / a + q * b) * s + p / a * x), "plus in front"),
        "β not squared": (score_with(lambda s, x, a, b, p, q: (b * p / a - q * b) * s + p / a * x), "not squared"),
        "β̇ alone": (score_with(lambda s, x, a, b, p, q: (b**2 * p / a - q) * s + p / a * x), "β̇ alone"),
        "turned over": (score_with(lambda s, x, a, b, p, q: (b**2 * a / p - q * b) * s + a / p * x), "turned over"),
        "α missing": (score_with(lambda s, x, a, b, p, q: (b**2 * p - q * b) * s + p * x), "where α̇/α belongs"),
        "s and x": (score_with(lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * x + p / a * s), "s and x"),
        "x subtracted": (score_with(lambda s, x, a, b, p, q: (b**2 * p / a - q * b) * s - p / a * x), "subtracted"),
        "CondOT only": (
            lambda s, x, t, c: ((1 - coefficient(t, x)) * s + x) / coefficient(t, x),
            "α = t, β = 1 − t",
        ),
        "the other direction": (
            score_with(lambda s, x, a, b, p, q: (a * s - p * x) / (b**2 * p - a * q * b)),
            "other direction",
        ),
        "shaped for the plane": (
            lambda s, x, t, c: (
                (c.beta(t) ** 2 * c.alpha_dot(t) / c.alpha(t) - c.beta(t) * c.beta_dot(t)).reshape(-1, 1) * s
                + (c.alpha_dot(t) / c.alpha(t)).reshape(-1, 1) * x
            ),
            "",
        ),
    },
    "sample_diffusion": {
        "½ missing": (euler_maruyama(lambda u, s, c: u + c**2 * s, right_noise), "factor ½"),
        "σ not squared": (euler_maruyama(lambda u, s, c: u + c / 2 * s, right_noise), "not squared in the drift"),
        "no score": (euler_maruyama(lambda u, s, c: u, right_noise), "nothing pays for the noise"),
        "sign": (euler_maruyama(lambda u, s, c: u - c**2 / 2 * s, right_noise), "wrong sign"),
        "score alone": (euler_maruyama(lambda u, s, c: c**2 / 2 * s, right_noise), "vector field is missing"),
        "score unweighted": (euler_maruyama(lambda u, s, c: u + s, right_noise), "without ½ σ²"),
        "h for √h": (euler_maruyama(right_drift, lambda h, c, e: h * c * e), "√h belongs"),
        "√h missing": (euler_maruyama(right_drift, lambda h, c, e: c * e), "√h is missing"),
        "σ missing": (euler_maruyama(right_drift, lambda h, c, e: h**0.5 * e), "σ is missing"),
        "σ squared": (euler_maruyama(right_drift, lambda h, c, e: h**0.5 * c**2 * e), "σ is squared"),
        "no noise": (euler_maruyama(right_drift, lambda h, c, e: 0 * e), "noise is missing"),
        "end of the step": (euler_maruyama(right_drift, right_noise, at_end=True), "end of the step"),
        "the same noise": (euler_maruyama(right_drift, right_noise, same=True), "same noise"),
        "first step for all": (euler_maruyama(right_drift, right_noise, step=lambda ts: ts[1] - ts[0]), "the first"),
        "even spacing": (
            euler_maruyama(right_drift, right_noise, step=lambda ts: (ts[-1] - ts[0]) / (len(ts) - 1)),
            "evenly spaced",
        ),
        "one step short": (euler_maruyama(right_drift, right_noise, last=1), "last step is missing"),
        "all states": (euler_maruyama(right_drift, right_noise, keep=True), "all states came back"),
        "own noise": (own_noise, "use the noise that is given"),
        "in place": (moves_its_start, "changed a tensor"),
    },
    "forward_marginal": {
        "½ missing": (
            vp_with(lambda s, low, high: torch.exp(-(low * s + (high - low) * s**2 / 2))),
            "½ in front of the integral",
        ),
        "grows": (vp_with(lambda s, low, high: torch.exp((low * s + (high - low) * s**2 / 2) / 2)), "sign"),
        "rate times s": (
            vp_with(lambda s, low, high: torch.exp(-s * (low + (high - low) * s) / 2)),
            "not integrated",
        ),
        "the rate": (vp_with(lambda s, low, high: torch.exp(-(low + (high - low) * s) / 2)), "rate itself"),
        "no rectangle": (vp_with(lambda s, low, high: torch.exp(-(high - low) * s**2 / 4)), "b_min was left out"),
        "triangle to b_max": (
            vp_with(lambda s, low, high: torch.exp(-(low * s + high * s**2 / 2) / 2)),
            "b_max instead of",
        ),
        "our time": (vp_with(time=lambda s: 1 - s), "wrong way"),
        "variance": (vp_with(std=lambda s, a, low, high: 1 - a**2), "variance was returned"),
        "1 − a": (vp_with(std=lambda s, a, low, high: 1 - a), "as 1 − a"),
        "a not squared": (vp_with(std=lambda s, a, low, high: torch.sqrt(1 - a)), "not squared"),
        "no pull": (
            vp_with(std=lambda s, a, low, high: torch.sqrt(low * s + (high - low) * s**2 / 2)),
            "without the pull",
        ),
        "exchanged": (lambda s, low, high: vp_with()(s, low, high)[::-1], "exchanged"),
        "mean alone": (lambda s, low, high: vp_with()(s, low, high)[0], "should come back"),
        "the usual rates": (lambda s, low, high: vp_with()(s, 0.1, 20.0), ""),
    },
    "reverse_sde_drift": {
        "text formula": (drift_with(lambda x, s, f, g: f * x - g**2 * s), "s running down"),
        "f not turned": (drift_with(lambda x, s, f, g: f * x + g**2 * s), "f did not turn"),
        "score's sign": (drift_with(lambda x, s, f, g: -f * x - g**2 * s), "score has the wrong sign"),
        "half the score": (drift_with(lambda x, s, f, g: -f * x + g**2 / 2 * s), "probability flow"),
        "g not squared": (drift_with(lambda x, s, f, g: -f * x + g * s), "g is not squared"),
        "f and g at t": (drift_with(lambda x, s, f, g: -f * x + g**2 * s, at=lambda t: t), "asked at t"),
        "score at 1 − t": (
            drift_with(lambda x, s, f, g: -f * x + g**2 * s, score_at=lambda t: 1 - t),
            "score was asked at 1 − t",
        ),
        "forward drift": (drift_with(lambda x, s, f, g: f * x), "forward diffusion"),
        "f without x": (drift_with(lambda x, s, f, g: -f + g**2 * s), "not multiplied by x"),
        "no score": (drift_with(lambda x, s, f, g: -f * x), "score is missing"),
        "no f": (drift_with(lambda x, s, f, g: g**2 * s), "term with f is missing"),
        "not shaped": (drift_without_shaping(1.0), "raised RuntimeError"),
        "the first time for all": (drift_for_numbers(1.0), ""),
    },
    "probability_flow_field": {
        "the reverse SDE": (drift_with(lambda x, s, f, g: -f * x + g**2 * s), "reverse SDE"),
        "text formula": (drift_with(lambda x, s, f, g: f * x - g**2 / 2 * s), "from data to noise"),
        "f not turned": (drift_with(lambda x, s, f, g: f * x + g**2 / 2 * s), "f did not turn"),
        "score's sign": (drift_with(lambda x, s, f, g: -f * x - g**2 / 2 * s), "score has the wrong sign"),
        "g not squared": (drift_with(lambda x, s, f, g: -f * x + g / 2 * s), "g is not squared"),
        "half squared": (drift_with(lambda x, s, f, g: -f * x + (g / 2) ** 2 * s), "squared with g"),
        "half of all": (drift_with(lambda x, s, f, g: (-f * x + g**2 * s) / 2), "on f too"),
        "f and g at t": (drift_with(lambda x, s, f, g: -f * x + g**2 / 2 * s, at=lambda t: t), "asked at t"),
        "score at 1 − t": (
            drift_with(lambda x, s, f, g: -f * x + g**2 / 2 * s, score_at=lambda t: 1 - t),
            "score was asked at 1 − t",
        ),
        "no score": (drift_with(lambda x, s, f, g: -f * x), "score is missing"),
        "not shaped": (drift_without_shaping(0.5), "raised RuntimeError"),
    },
    "ddpm_posterior": {
        "weights exchanged": (
            lambda x, x0, k, betas: posterior_with()(x0, x, k, betas),
            "weights of x_0 and x_k are exchanged",
        ),
        "ᾱ_k for x_0": (
            posterior_with(lambda x, x0, b, p, n: n.sqrt() * b / (1 - n) * x0 + (1 - b).sqrt() * (1 - p) / (1 - n) * x),
            "where √ᾱ_{k−1} belongs",
        ),
        "no root for x_0": (
            posterior_with(lambda x, x0, b, p, n: p * b / (1 - n) * x0 + (1 - b).sqrt() * (1 - p) / (1 - n) * x),
            "root of ᾱ_{k−1}",
        ),
        "no root for x_k": (
            posterior_with(lambda x, x0, b, p, n: p.sqrt() * b / (1 - n) * x0 + (1 - b) * (1 - p) / (1 - n) * x),
            "root of α_k",
        ),
        "ᾱ_k for x_k": (
            posterior_with(lambda x, x0, b, p, n: p.sqrt() * b / (1 - n) * x0 + n.sqrt() * (1 - p) / (1 - n) * x),
            "where √α_k belongs",
        ),
        "1 − ᾱ_k for x_k": (
            posterior_with(lambda x, x0, b, p, n: p.sqrt() * b / (1 - n) * x0 + (1 - b).sqrt() * x),
            "where 1 − ᾱ_{k−1} belongs",
        ),
        "no division": (
            posterior_with(lambda x, x0, b, p, n: p.sqrt() * b * x0 + (1 - b).sqrt() * (1 - p) * x),
            "division by 1 − ᾱ_k",
        ),
        "index": (posterior_with(index=-1), "one place too early"),
        "data alone": (posterior_with(lambda x, x0, b, p, n: p.sqrt() * x0), "given x_0 alone"),
        "standard deviation": (
            posterior_with(variance=lambda b, p, n: (b * (1 - p) / (1 - n)).sqrt()),
            "standard deviation",
        ),
        "β_k": (posterior_with(variance=lambda b, p, n: b), "step forward"),
        "upside down": (posterior_with(variance=lambda b, p, n: b * (1 - n) / (1 - p)), "upside down"),
        "factor β_k": (posterior_with(variance=lambda b, p, n: (1 - p) / (1 - n)), "factor β_k"),
        "variance alone": (lambda x, x0, k, betas: posterior_with()(x, x0, k, betas)[1], "should come back"),
        "in front": (lambda x, x0, k, betas: posterior_with()(x, x0, k, betas)[::-1], "shape"),
        "floor on the variance": (
            posterior_with(variance=lambda b, p, n: b * (1 - p).clamp(min=0.01) / (1 - n)),
            "k = 1",
        ),
    },
    "ancestral_step": {
        "√β_k": (step_with(noise=lambda b, p, n: b.sqrt()), "√β_k; here it is √β̃_k"),
        "variance for its root": (step_with(noise=lambda b, p, n: b * (1 - p) / (1 - n)), "take its root"),
        "no noise": (step_with(noise=lambda b, p, n: 0.0), "fresh noise is missing"),
        "noise not scaled": (step_with(noise=lambda b, p, n: 1.0), "not scaled"),
        "noise added": (
            step_with(lambda x, e, b, p, n: (x + b / (1 - n).sqrt() * e) / (1 - b).sqrt()),
            "added instead of subtracted",
        ),
        "no root": (step_with(lambda x, e, b, p, n: (x - b / (1 - n) * e) / (1 - b).sqrt()), "root of 1 − ᾱ_k"),
        "β_k missing": (
            step_with(lambda x, e, b, p, n: (x - e / (1 - n).sqrt()) / (1 - b).sqrt()),
            "β_k is missing",
        ),
        "no division": (step_with(lambda x, e, b, p, n: x - b / (1 - n).sqrt() * e), "division by √α_k"),
        "α_k for its root": (
            step_with(lambda x, e, b, p, n: (x - b / (1 - n).sqrt() * e) / (1 - b)),
            "α_k instead of √α_k",
        ),
        "ᾱ_k for α_k": (
            step_with(lambda x, e, b, p, n: (x - b / (1 - n).sqrt() * e) / n.sqrt()),
            "√ᾱ_k instead of √α_k",
        ),
        "x alone divided": (
            step_with(lambda x, e, b, p, n: x / (1 - b).sqrt() - b / (1 - n).sqrt() * e),
            "only x was divided",
        ),
        "jump to the data": (
            step_with(lambda x, e, b, p, n: (x - (1 - n).sqrt() * e) / n.sqrt()),
            "jumps to the guess",
        ),
        "α_k for ᾱ_k": (step_with(lambda x, e, b, p, n: (x - b.sqrt() * e) / (1 - b).sqrt()), "where 1 − ᾱ_k"),
        "noises exchanged": (
            lambda x, eps, k, betas, noise: step_with()(x, noise, k, betas, eps),
            "fresh noise and the predicted noise",
        ),
        "index": (step_with(index=-1), "one place too early"),
        "own noise": (drawing_step, "use the noise that is given"),
        "noise at the end": (floor_of_noise, "last step, which ends in the data"),
    },
    "elbo_terms": {
        "sign of the KLs": (elbo_with(sign=-1), "wrong sign"),
        "plain errors": (elbo_with(weight=lambda b, n: 1.0), "not weighted"),
        "α_k missing": (elbo_with(weight=lambda b, n: b / (2 * (1 - n))), "α_k is missing"),
        "½ missing": (elbo_with(weight=lambda b, n: b / ((1 - b) * (1 - n))), "½ of the weight"),
        "no constant": (elbo_with(spread=lambda d, r: 0.0), "constant of the KL"),
        "constant without d": (elbo_with(spread=lambda d, r: (r - 1 - r.log()) / 2), "number of coordinates"),
        "sign of the logarithm": (elbo_with(spread=lambda d, r: d / 2 * (r - 1 + r.log())), "logarithm"),
        "means of coordinates": (elbo_with(mean=True), "over the coordinates in the errors"),
        "k/K": (elbo_with(time=lambda k, size: k / size), "asked at k/K"),
        "index for time": (elbo_with(time=lambda k, size: k), "index k"),
        "shifted noises": (elbo_with(shift=0), ""),
        "row 0 without constant": (elbo_with(first=lambda d, b: 0.0), "log(2πβ_1) is missing"),
        "row 0 without d": (elbo_with(first=lambda d, b: torch.log(2 * math.pi * b) / 2), "lacks the number"),
        "last KL negated": (elbo_with(prior=lambda q, n, d, last: -last), "last KL has the wrong sign"),
        "last KL without constant": (elbo_with(prior=lambda q, n, d, last: n * q / 2), "lacks its constant"),
        "last KL left at 0": (elbo_with(prior=lambda q, n, d, last: 0 * last), "taken as 0"),
        "last KL left out": (transformed(lambda terms: terms[:-1]), "K + 1"),
        "last variance": (
            elbo_with(
                prior=lambda q, n, d, last: (n * q + d * ((1 - n) ** 2 - 1 - 2 * torch.log(1 - n))) / 2,
            ),
            "not a standard deviation",
        ),
        "the sum": (transformed(lambda terms: terms.sum(0)), "the sum came back"),
        "batch means": (transformed(lambda terms: terms.mean(1)), "averaged over the batch"),
        "points first": (transformed(lambda terms: terms.T), "terms come first"),
        "a list": (transformed(list), "one tensor"),
    },
}
