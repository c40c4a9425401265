"""Wrong answers to lab 4, beside the mistakes on its cards: broken promises, and code that fits one example.

exercise → name of the misconception → (answer, words that it must be told). Most give the solution something else.
"""

from types import SimpleNamespace

import torch

from fmlab.schedules import coefficient
from tests.labs import solutions, source

AS_IT_CAME = "hand t on as it came"
DRAWN = "draws random numbers of its own"
GRADIENT = "no gradient reaches the network"
END = "a time for each point is not right"

right = SimpleNamespace(**solutions(source("lab4")))


def seeded(noise):
    torch.manual_seed(0)
    return torch.randn_like(noise)


def losses(loss) -> dict:
    """Wrong answers to both losses."""

    def asking(ask):
        return lambda f, *rest: loss(lambda x, t: ask(f, x, t), *rest)

    return {
        "shaped time for the network": (asking(lambda f, x, t: f(x, coefficient(t, x))), AS_IT_CAME),
        "flat states for the network": (asking(lambda f, x, t: f(x.flatten(1), t).reshape(x.shape)), "have shape"),
        "a network that is not asked": (asking(lambda f, x, t: x), "never called"),
        "a float": (lambda *args: loss(*args).item(), GRADIENT),
        "half a gradient": (lambda *args: (loss(*args) + loss(*args).detach()) / 2, "the gradient of the loss"),
        "fresh noise": (lambda f, z, t, e, c: loss(f, z, t, torch.randn_like(e), c), DRAWN),
        "fresh noise, seeded": (lambda f, z, t, e, c: loss(f, z, t, seeded(e), c), DRAWN),
    }


def score_loss(target=lambda b: b, state=lambda b: b, shape=coefficient):
    """Score matching, with another β in the target or the state."""

    def answer(network, z, t, noise, schedule):
        a, b = shape(schedule.alpha(t), z), shape(schedule.beta(t), z)
        return (network(a * z + state(b) * noise, t) + noise / target(b)).square().flatten(1).sum(1).mean()

    return answer


def away(b):
    return b.clamp(min=0.05)


def conversions(convert, low, high) -> dict:
    """Wrong answers to both conversions. low, high: times that keep away from the singular end."""
    return {
        "numbers refused": (lambda v, x, t, c: convert(v, x, t.clone(), c), "raised AttributeError"),
        "one time alone": (lambda v, x, t, c: convert(v, x, float(t), c), "raised"),
        "times kept from the end": (lambda v, x, t, c: convert(v, x, torch.as_tensor(t).clamp(low, high), c), END),
    }


def moved_before_the_score(u, s, sigma, x, ts, noises):
    for t, h, noise in zip(ts[:-1], ts.diff(), noises):
        x = x + h * u(x, t)
        x = x + h * sigma(t) ** 2 / 2 * s(x, t) + h**0.5 * sigma(t) * noise
    return x


def other_sigma(sigma_of):
    return lambda u, s, sigma, x, ts, noises: right.sample_diffusion(u, s, sigma_of(sigma, ts), x, ts, noises)


def drifts(drift) -> dict:
    """Wrong answers to the drift."""
    usual = lambda s: -0.05 - 9.95 * s, lambda s: (0.1 + 19.9 * s) ** 0.5
    return {
        "shaped time": (lambda score, x, t, *rest: drift(score, x, coefficient(t, x), *rest), AS_IT_CAME),
        "numbers refused": (lambda score, x, t, *rest: drift(score, x, t.clone(), *rest), "raised AttributeError"),
        "one time alone": (lambda score, x, t, *rest: drift(score, x, float(t), *rest), "raised"),
        "one σ alone": (lambda *args: drift(*args[:-1], float(args[-1])), "raised"),
        "σ refused as a number": (lambda *args: drift(*args[:-1], args[-1].clone()), "raised AttributeError"),
        "its own rates": (lambda score, x, t, f, g, sigma: drift(score, x, t, *usual, sigma), ""),
    }


def own_table(betas):
    return torch.linspace(0, 0.5, len(betas)).to(betas)


def like_the_mean(*args):
    mean, variance = right.ddpm_posterior(*args)
    return mean, variance.expand(mean.shape)


def floored(*args):
    mean, variance = right.ddpm_posterior(*args)
    return mean, variance.clamp(min=0.01)


def terms_asking(ask):
    return lambda z, eps, *rest: right.elbo_terms(z, lambda x, t: ask(eps, x, t), *rest)


def differences(eps, best, z, t, noise, schedule):
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    return (eps(x, t) - noise).square().flatten(1).sum(1) - (eps(x, t) - best(x, t)).square().flatten(1).sum(1)


def other_noise(eps, best, z, t, noise, schedule):
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    y = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise.flip(0)
    d = (eps(x, t) - noise).square().flatten(1).sum(1) - (eps(y, t) - best(y, t)).square().flatten(1).sum(1)
    return d.mean(), d.std() / len(d) ** 0.5


WRONG = {
    "denoising_score_matching_loss": {
        **losses(right.denoising_score_matching_loss),
        "coefficients not shaped": (score_loss(shape=lambda value, x: value), "do not fit together"),
        "β kept away from 0": (score_loss(away, away), "the network is shown"),
        "β kept away from 0 in the target": (score_loss(away), "and times up to 0.9"),
        "a constant in the denominator": (score_loss(lambda b: b + 1e-4), "nearly right"),
    },
    "noise_prediction_loss": losses(right.noise_prediction_loss),
    "loss_constant": {
        "numbers in one tensor": (lambda *args: torch.stack(right.loss_constant(*args)), "should come back"),
        "the constant alone": (lambda *args: right.loss_constant(*args)[0], "should come back"),
        "the differences": (lambda *args: (differences(*args), right.loss_constant(*args)[1]), ""),
        "fresh noise": (lambda f, b, z, t, e, c: right.loss_constant(f, b, z, t, torch.randn_like(e), c), DRAWN),
        "another draw for the best": (other_noise, "the best prediction is shown"),
        "shaped time for the network": (
            lambda f, *rest: right.loss_constant(lambda x, t: f(x, coefficient(t, x)), *rest),
            AS_IT_CAME,
        ),
    },
    "score_from_vector_field": conversions(right.score_from_vector_field, 0.0, 0.97),
    "vector_field_from_score": conversions(right.vector_field_from_score, 0.01, 1.0),
    "sample_diffusion": {
        "in place": (
            lambda *args: right.sample_diffusion(*args[:3], args[3].mul_(1.01), *args[4:]),
            "changed a tensor",
        ),
        "own noise": (lambda *args: right.sample_diffusion(*args[:-1], torch.randn_like(args[-1])), DRAWN),
        "the score at the moved state": (moved_before_the_score, ""),
        "σ at the first time": (other_sigma(lambda sigma, ts: lambda t: sigma(ts[0])), ""),
        "σ as a tensor alone": (other_sigma(lambda sigma, ts: lambda t: sigma(t).clone()), "raised AttributeError"),
    },
    "forward_marginal": {
        "one tensor": (lambda *args: torch.stack(right.forward_marginal(*args)), "should come back"),
        "numbers alone": (lambda s, *rates: right.forward_marginal(float(s), *rates), "raised"),
        "numbers refused": (lambda s, *rates: right.forward_marginal(s.clone(), *rates), "raised AttributeError"),
    },
    "reverse_sde_drift": drifts(right.reverse_sde_drift),
    "ddpm_posterior": {
        "a variance of the mean's shape": (like_the_mean, "should be one number"),
        "floor on the variance": (floored, "for k = 1"),
        "a table of its own": (lambda x, z, k, betas: right.ddpm_posterior(x, z, k, own_table(betas)), ""),
    },
    "ancestral_step": {
        "own noise": (lambda *args: right.ancestral_step(*args[:-1], torch.randn_like(args[-1])), DRAWN),
        "mean and noise": (lambda *args: (right.ancestral_step(*args), args[-1]), "found a tuple"),
    },
    "elbo_terms": {
        "own noise": (lambda *args: right.elbo_terms(*args[:-1], torch.randn_like(args[-1])), DRAWN),
        "states in another precision": (terms_asking(lambda eps, x, t: eps(x.double(), t).to(x)), "keep that of z"),
        "a column of times": (terms_asking(lambda eps, x, t: eps(x, torch.full((len(x), 1), t))), AS_IT_CAME),
        "flat images for the network": (terms_asking(lambda eps, x, t: eps(x.flatten(1), t).reshape(x.shape)), "row 0"),
        "the first point": (lambda *args: right.elbo_terms(*args)[:, 0], "should have shape"),
    },
}
