"""Wrong answers to lab 4, beside the mistakes on its cards: broken promises, and code that fits one example.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.schedules import coefficient

PLANE = "fits images too"
SHAPES = "do not fit together"
AS_IT_CAME = "hand t on as it came"
DRAWN = "draws random numbers of its own"
GRADIENT = "no gradient reaches the network"
DTYPE = "should have the dtype"

# --- losses -----------------------------------------------------------------------------------------------------------


def score_error(value, noise, b):
    return value + noise / b


def noise_error(value, noise, b):
    return value - noise


def loss(error, ask=lambda network, x, t: network(x, t), reduce=None, clamp=lambda b: b, drawn=lambda noise: noise):
    """A right loss but for what is given."""

    def answer(network, z, t, noise, schedule):
        noise = drawn(noise)
        a, b = coefficient(schedule.alpha(t), z), clamp(coefficient(schedule.beta(t), z))
        errors = error(ask(network, a * z + b * noise, t), noise, b)
        return errors.square().flatten(1).sum(1).mean() if reduce is None else reduce(errors)

    return answer


def clamped_target(network, z, t, noise, schedule):
    """β is kept away from 0 in the target alone."""
    a, b = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
    return (network(a * z + b * noise, t) + noise / b.clamp(min=0.05)).square().flatten(1).sum(1).mean()


def guarded_target(network, z, t, noise, schedule):
    a, b = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
    return (network(a * z + b * noise, t) + noise / (b + 1e-4)).square().flatten(1).sum(1).mean()


def shaped_time(error):
    """t is shaped for the schedule, and the network is handed that."""

    def answer(network, z, t, noise, schedule):
        t = coefficient(t, z)
        a, b = schedule.alpha(t), schedule.beta(t)
        return error(network(a * z + b * noise, t), noise, b).square().flatten(1).sum(1).mean()

    return answer


def not_shaped(error):
    def answer(network, z, t, noise, schedule):
        a, b = schedule.alpha(t), schedule.beta(t)
        return error(network(a * z + b * noise, t), noise, b).square().sum(1).mean()

    return answer


def in_place(error):
    def answer(network, z, t, noise, schedule):
        b = coefficient(schedule.beta(t), z)
        x = z.mul_(coefficient(schedule.alpha(t), z)) + b * noise
        return error(network(x, t), noise, b).square().flatten(1).sum(1).mean()

    return answer


def seeded(noise):
    torch.manual_seed(0)
    return torch.randn_like(noise)


def losses(error) -> dict:
    """Wrong answers to both losses."""
    right = loss(error)
    return {
        "images, by [:, None]": (
            lambda f, z, t, e, c: (
                error(f(c.alpha(t)[:, None] * z + c.beta(t)[:, None] * e, t), e, c.beta(t)[:, None])
                .square()
                .flatten(1)
                .sum(1)
                .mean()
            ),
            PLANE,
        ),
        "coefficients not shaped": (not_shaped(error), SHAPES),
        "shaped time for the network": (shaped_time(error), AS_IT_CAME),
        "time and state exchanged": (loss(error, lambda f, x, t: f(t, x)), "are the two exchanged"),
        "time as a column": (loss(error, lambda f, x, t: f(x, t[:, None])), AS_IT_CAME),
        "one time for all": (loss(error, lambda f, x, t: f(x, t[0])), "the time that the network is given"),
        "flat states for the network": (
            loss(error, lambda f, x, t: f(x.flatten(1), t).reshape(x.shape)),
            "the state that the network is shown should have shape",
        ),
        "states in single precision": (loss(error, lambda f, x, t: f(x.float(), t)), DTYPE),
        "a loss in single precision": (lambda *args: right(*args).float(), DTYPE),
        "one loss for each point": (loss(error, reduce=lambda e: e.square().flatten(1).sum(1)), "one number for the"),
        "one loss in a list": (lambda *args: [right(*args)], "one number"),
        "a float": (lambda *args: right(*args).item(), GRADIENT),
        "no graph": (torch.no_grad()(loss(error)), GRADIENT),
        "detached": (loss(error, lambda f, x, t: f(x, t).detach()), GRADIENT),
        "half a gradient": (
            lambda f, z, t, e, c: (right(f, z, t, e, c) + right(f, z, t, e, c).detach()) / 2,
            "the gradient of the loss",
        ),
        "in place": (in_place(error), "changed a tensor"),
        "fresh noise": (loss(error, drawn=torch.randn_like), DRAWN),
        "fresh noise, seeded": (loss(error, drawn=seeded), DRAWN),
        "a network that is not asked": (lambda f, z, t, e, c: e.square().flatten(1).sum(1).mean(), "never called"),
    }


# --- conversions ------------------------------------------------------------------------------------------------------


def score_of_noise(value, x, t, schedule, shape=coefficient):
    return -value / shape(schedule.beta(t), x)


def score_of_field(u, x, t, schedule, shape=coefficient):
    a, b, p, q = (shape(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    return (a * u - p * x) / (b**2 * p - a * q * b)


def field_of_score(s, x, t, schedule, shape=coefficient):
    b, q = shape(schedule.beta(t), x), shape(schedule.beta_dot(t), x)
    growth = shape(schedule.alpha_dot(t) / schedule.alpha(t), x)
    return (b**2 * growth - q * b) * s + growth * x


def conversions(right, end: str) -> dict:
    """Wrong answers to all conversions. end: words of the verdict on one that keeps away from a singular end."""
    low, high = (0.01, 1.0) if right is field_of_score else (0.0, 0.97)
    return {
        "not shaped": (lambda v, x, t, c: right(v, x, t, c, lambda value, x: value), SHAPES),
        "shaped by [:, None]": (lambda v, x, t, c: right(v, x, t, c, lambda value, x: value[:, None]), PLANE),
        "for four dimensions": (
            lambda v, x, t, c: right(v, x, t, c, lambda value, x: value.reshape(-1, 1, 1, 1)),
            "should have shape",
        ),
        "numbers refused": (lambda v, x, t, c: right(v, x, t.clone(), c), "raised AttributeError"),
        "times for each point alone": (lambda v, x, t, c: right(v, x, t[:], c), "raised"),
        "one time alone": (lambda v, x, t, c: right(v, x, float(t), c), "raised"),
        "averaged time": (lambda v, x, t, c: right(v, x, torch.as_tensor(t).mean(), c), ""),
        "times kept from the end": (lambda v, x, t, c: right(v, x, torch.as_tensor(t).clamp(low, high), c), end),
        "single precision": (lambda *args: right(*args).float(), DTYPE),
        "double precision": (lambda *args: right(*args).double(), DTYPE),
        "in place": (lambda v, x, t, c: v.copy_(right(v, x, t, c)), "changed a tensor"),
        "an array": (lambda *args: right(*args).numpy(), "found a NumPy array"),
    }


def without_state(entries: dict) -> dict:
    """The same for score_from_noise, which is not given x."""
    return {
        name: (lambda noise, t, c, answer=answer: answer(noise, noise, t, c), words)
        for name, (answer, words) in entries.items()
    }


def guarded_field(s, x, t, schedule):
    b, q, p = (coefficient(c(t), x) for c in (schedule.beta, schedule.beta_dot, schedule.alpha_dot))
    growth = p / (coefficient(schedule.alpha(t), x) + 1e-4)
    return (b**2 * growth - q * b) * s + growth * x


def guarded_score(u, x, t, schedule):
    a, b, p, q = schedule.weights(t, x)
    return (a * u - p * x) / (b**2 * p - a * q * b + 1e-4)


# --- sampling ---------------------------------------------------------------------------------------------------------


def sampler(
    ask=lambda f, x, t: f(x, t), noise=lambda e: e, steps=lambda ts: range(len(ts) - 1), at=lambda sigma, t: sigma(t)
):
    """Euler–Maruyama, right but for what is given."""

    def answer(u, s, sigma, x0, ts, noises):
        x, noises = x0, noise(noises)
        for k in steps(ts):
            t, h = ts[k], ts[k + 1] - ts[k]
            g = at(sigma, t)
            x = x + h * (ask(u, x, t) + g**2 / 2 * ask(s, x, t)) + h**0.5 * g * noises[k]
        return x

    return answer


def moved_before_the_score(u, s, sigma, x0, ts, noises):
    x = x0
    for t, h, e in zip(ts[:-1], ts.diff(), noises):
        x = x + h * u(x, t)
        x = x + h * sigma(t) ** 2 / 2 * s(x, t) + h**0.5 * sigma(t) * e
    return x


def one_sigma(u, s, sigma, x0, ts, noises):
    return sampler()(u, s, lambda t: sigma(ts[0]), x0, ts, noises)


def moves_its_start(u, s, sigma, x0, ts, noises):
    for t, h, e in zip(ts[:-1], ts.diff(), noises):
        x0 += h * (u(x0, t) + sigma(t) ** 2 / 2 * s(x0, t)) + h**0.5 * sigma(t) * e
    return x0


# --- the diffusion's own time -----------------------------------------------------------------------------------------


def marginal(s, low, high):
    s = torch.as_tensor(s)
    a = torch.exp(-(low * s + (high - low) * s**2 / 2) / 2)
    return a, torch.sqrt(1 - a**2)


def marginal_by_math(s, low, high):
    a = math.exp(-(low * s + (high - low) * s**2 / 2) / 2)
    return a, math.sqrt(1 - a**2)


def marginal_in_place(s, low, high):
    integral = torch.as_tensor(s)
    integral *= low + (high - low) * integral / 2
    return torch.exp(-integral / 2), torch.sqrt(1 - torch.exp(-integral))


def drift(share, shape=coefficient, ask=lambda score, x, t: score(x, t), given=lambda t, x: t):
    """A right drift but for what is given."""

    def answer(score, x, t, f, g):
        t = given(t, x)
        return share * shape(g(1 - t), x) ** 2 * ask(score, x, t) - shape(f(1 - t), x) * x

    return answer


def drifts(share) -> dict:
    """Wrong answers to both drifts."""
    return {
        "not shaped": (drift(share, lambda value, x: value), SHAPES),
        "shaped by [:, None]": (drift(share, lambda value, x: value[:, None]), PLANE),
        "shaped time for the score": (drift(share, given=lambda t, x: coefficient(t, x)), AS_IT_CAME),
        "time and state exchanged": (drift(share, ask=lambda score, x, t: score(t, x)), "are the two exchanged"),
        "the first time for all": (drift(share, lambda value, x: value.reshape(-1)[0]), "the time of the first"),
        "numbers refused": (drift(share, given=lambda t, x: t.clone()), "raised AttributeError"),
        "times for each point alone": (drift(share, given=lambda t, x: t[:]), "raised"),
        "one time alone": (drift(share, given=lambda t, x: float(t)), "raised"),
        "single precision": (lambda *args: drift(share)(*args).float(), DTYPE),
        "in place": (lambda score, x, t, f, g: x.copy_(drift(share)(score, x, t, f, g)), "changed a tensor"),
        "its own rates": (
            lambda score, x, t, f, g: drift(share)(
                score, x, t, lambda s: -0.05 - 9.95 * s, lambda s: (0.1 + 19.9 * s) ** 0.5
            ),
            "",
        ),
    }


# --- the chain --------------------------------------------------------------------------------------------------------


def posterior(x, x0, k, betas, floor=0.0):
    bars = (1 - betas).cumprod(0)
    beta, before, now = betas[k], (1 - bars[k - 1]).clamp(min=floor), 1 - bars[k]
    mean = bars[k - 1].sqrt() * beta / now * x0 + (1 - beta).sqrt() * before / now * x
    return mean, beta * before / now


def posterior_like(change):
    return lambda *args: change(*posterior(*args))


def back(x, eps, k, betas, noise):
    bars = (1 - betas).cumprod(0)
    mean = (x - betas[k] / (1 - bars[k]).sqrt() * eps) / (1 - betas[k]).sqrt()
    return mean + (betas[k] * (1 - bars[k - 1]) / (1 - bars[k])).sqrt() * noise


def back_in_place(x, eps, k, betas, noise):
    now = (1 - betas).cumprod(0)[k]
    x -= betas[k] / (1 - now).sqrt() * eps
    return x / (1 - betas[k]).sqrt() + back(0 * x, 0 * eps, k, betas, noise)


def terms(x0, eps, betas, noises, ask=lambda eps, x, t: eps(x, t), double=False):
    bars, d, size, rows = (1 - betas).cumprod(0), x0[0].numel(), len(betas) - 1, []
    for k in range(1, size + 1):
        x = bars[k].sqrt() * x0 + (1 - bars[k]).sqrt() * noises[k - 1]
        error = (noises[k - 1] - ask(eps, x.to(betas.dtype) if double else x, 1 - k / size)).square().flatten(1).sum(1)
        ratio = (1 - bars[k - 1]) / (1 - bars[k])
        constant = ratio - 1 - ratio.log() if k > 1 else (2 * math.pi * betas[1]).log()
        rows.append(-betas[k] / (2 * (1 - betas[k]) * (1 - bars[k])) * error - d / 2 * constant)
    last = bars[-1] * x0.square().flatten(1).sum(1) - d * bars[-1] - d * (1 - bars[-1]).log()
    return torch.stack([*rows, -last / 2])


def terms_with(ask):
    return lambda *args: terms(*args, ask=ask)


WRONG = {
    "denoising_score_matching_loss": {
        **losses(score_error),
        "β kept away from 0": (loss(score_error, clamp=lambda b: b.clamp(min=0.05)), "the network is shown"),
        "β kept away from 0 in the target": (clamped_target, "and times up to 0.9"),
        "a constant in the denominator": (guarded_target, "nearly right"),
    },
    "noise_prediction_loss": losses(noise_error),
    "score_from_noise": {
        **without_state(conversions(score_of_noise, "a time for each point is not right")),
        "β kept away from 0": (
            lambda e, t, c: -e / coefficient(c.beta(t).clamp(min=0.05), e),
            "a time for each point is not right",
        ),
        "a constant in the denominator": (lambda e, t, c: -e / (coefficient(c.beta(t), e) + 1e-5), "nearly right"),
    },
    "score_from_vector_field": {
        **conversions(score_of_field, "a time for each point is not right"),
        "a constant in the denominator": (guarded_score, "nearly right"),
    },
    "vector_field_from_score": {
        **conversions(field_of_score, "a time for each point is not right"),
        "a constant in the denominator": (guarded_field, "nearly right"),
    },
    "sample_diffusion": {
        "in place": (moves_its_start, "changed a tensor"),
        "own noise": (sampler(noise=torch.randn_like), DRAWN),
        "own noise, seeded": (sampler(noise=seeded), DRAWN),
        "the score at the moved state": (moved_before_the_score, ""),
        "σ at the first time": (one_sigma, ""),
        "one step too many": (sampler(steps=lambda ts: range(len(ts))), "raised IndexError"),
        "five steps": (sampler(steps=lambda ts: range(5)), ""),
        "σ of state and time": (sampler(at=lambda sigma, t: sigma(t, t)), "raised TypeError"),
        "σ as a tensor alone": (sampler(at=lambda sigma, t: sigma(t).clone()), "raised AttributeError"),
        "a column of times": (
            sampler(lambda f, x, t: f(x, t.reshape(1, 1).expand(len(x), 1))),
            AS_IT_CAME,
        ),
        "time and state exchanged": (sampler(lambda f, x, t: f(t, x)), "are the two exchanged"),
        "single precision": (lambda *args: sampler()(*args).float(), DTYPE),
        "points in the plane": (
            lambda u, s, sigma, x0, ts, e: sampler()(u, s, sigma, x0, ts, e.reshape(len(e), *x0.shape[:2])),
            "raised RuntimeError",
        ),
    },
    "forward_marginal": {
        "mean alone": (lambda *args: marginal(*args)[0], "should come back"),
        "three values": (lambda *args: (*marginal(*args), 1.0), "should come back"),
        "one tensor": (lambda *args: torch.stack(marginal(*args)), "should come back"),
        "numbers alone": (marginal_by_math, "raised"),
        "numbers refused": (lambda s, low, high: marginal(s.clone(), low, high), "raised AttributeError"),
        "single precision": (lambda *args: tuple(value.float() for value in marginal(*args)), DTYPE),
        "a row": (lambda *args: tuple(value.reshape(-1) for value in marginal(*args)), "should have shape"),
        "a constant rate": (lambda s, low, high: marginal(s, low, low), "the triangle was left out"),
        "in place": (marginal_in_place, "changed a tensor"),
    },
    "reverse_sde_drift": drifts(1.0),
    "probability_flow_field": drifts(0.5),
    "ddpm_posterior": {
        "variance alone": (lambda *args: posterior(*args)[1], "should come back"),
        "mean alone": (lambda *args: posterior(*args)[0], "should come back"),
        "a variance for each point": (
            posterior_like(lambda mean, variance: (mean, variance.expand(len(mean)))),
            "should be one number",
        ),
        "a variance of the mean's shape": (
            posterior_like(lambda mean, variance: (mean, 0 * mean + variance)),
            "should be one number",
        ),
        "floor on the variance": (lambda *args: posterior(*args, floor=0.01), "for k = 1"),
        "single precision": (posterior_like(lambda mean, variance: (mean.float(), variance)), DTYPE),
        "double precision": (posterior_like(lambda mean, variance: (mean.double(), variance)), DTYPE),
        "a table of its own": (
            lambda x, x0, k, betas: posterior(x, x0, k, torch.linspace(0, 0.5, len(betas)).to(betas)),
            "",
        ),
        "in place": (lambda x, x0, k, betas: (x.copy_(posterior(x, x0, k, betas)[0]), 0.0), "changed a tensor"),
    },
    "ancestral_step": {
        "own noise": (lambda x, eps, k, betas, noise: back(x, eps, k, betas, torch.randn_like(x)), DRAWN),
        "own noise, seeded": (lambda x, eps, k, betas, noise: back(x, eps, k, betas, seeded(noise)), DRAWN),
        "in place": (back_in_place, "changed a tensor"),
        "a table of its own": (
            lambda x, eps, k, betas, noise: back(x, eps, k, torch.linspace(0, 0.5, len(betas)).to(betas), noise),
            "",
        ),
        "single precision": (lambda *args: back(*args).float(), DTYPE),
        "double precision": (lambda *args: back(*args).double(), DTYPE),
        "mean and noise": (lambda x, eps, k, betas, noise: (back(x, eps, k, betas, 0 * noise), noise), "found a tuple"),
    },
    "elbo_terms": {
        "own noise": (lambda x0, eps, betas, noises: terms(x0, eps, betas, torch.randn_like(noises)), DRAWN),
        "own noise, seeded": (lambda x0, eps, betas, noises: terms(x0, eps, betas, seeded(noises)), DRAWN),
        "states in double precision": (lambda *args: terms(*args, double=True), "keep its dtype"),
        "a column of times": (terms_with(lambda eps, x, t: eps(x, torch.full((len(x), 1), t))), AS_IT_CAME),
        "time and state exchanged": (
            terms_with(lambda eps, x, t: eps(torch.full((len(x),), t), x)),
            "are the two exchanged",
        ),
        "flat images for the network": (terms_with(lambda eps, x, t: eps(x.flatten(1), t).reshape(x.shape)), "row 0"),
        "numbers": (lambda *args: [[float(term) for term in row] for row in terms(*args)], "found a list"),
        "the first point": (lambda *args: terms(*args)[:, 0], "should have shape"),
        "single precision": (lambda *args: terms(*args).float(), DTYPE),
        "in place": (lambda x0, eps, betas, noises: terms(x0.mul_(1.01), eps, betas, noises), "changed a tensor"),
    },
}
