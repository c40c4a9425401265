"""Hidden tests of lab 4: images, double precision, usual schedules, exact marginals, longer chains."""

import math

import torch

from course.hidden import check
from fmlab.checks.compare import require_close, require_number
from fmlab.checks.inputs import states
from fmlab.checks.lab4 import (
    bayes,
    chain,
    exact_terms,
    line,
    one_step_back,
    outputs,
    pair,
    require_first,
    require_gradient,
    require_terms,
    squares,
)
from fmlab.conversions import convert
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient, diffusion_coefficients

DOUBLE = torch.float64
SCHEDULES = (CondOT(), Cosine(), LinearVP(0.2, 8.0))


def images(seed: int, n: int = 3):
    return states(seed, n, 1, 4, 4, dtype=DOUBLE)


def times(n: int) -> torch.Tensor:
    return torch.linspace(0.2, 0.9, n, dtype=DOUBLE)


# --- losses ----------------------------------------------------------------------------------------------------------


def require_regression(answer, target) -> None:
    """target(x, z, t, path): what the network is compared with, by the library's conditional score."""
    for n, schedule in ((4, Cosine()), (1, CondOT(sigma_min=0.1)), (3, VE(2.0))):
        z, noise, t = images(41, n), images(42, n), times(n)
        w, path = torch.tensor(-0.3, dtype=DOUBLE, requires_grad=True), GaussianPath(schedule)
        x = path.interpolate(z, noise, t)
        expected = squares(line(w)(x, t) - target(x, z, t, path)).mean()
        found = answer(line(w), z, t, noise, schedule)
        require_close(found, expected, f"the loss on {n} images", tolerance=1e-9)
        require_gradient(found, w, expected)


@check("slides, denoising score matching")
def denoising_score_matching_loss(answer):
    require_regression(answer, lambda x, z, t, path: path.score(x, z, t))


@check("slides, DDPM trick")
def noise_prediction_loss(answer):
    def noise(x, z, t, path):
        return convert(path.score(x, z, t), x, t, path.schedule, source="score", target="noise")

    require_regression(answer, noise)


# --- conversions -----------------------------------------------------------------------------------------------------


@check("slides, DDPM trick")
def score_from_noise(answer):
    for schedule in SCHEDULES:
        for n, t in ((4, times(4)), (1, times(1)), (4, torch.tensor(0.35, dtype=DOUBLE))):
            z, noise = images(43, n), images(44, n)
            _, _, s = outputs(schedule, t, z, noise)
            require_close(answer(noise, t, schedule), s, f"the score on {n} images")


@check("slides, conversion formula")
def score_from_vector_field(answer):
    for schedule in SCHEDULES:
        for n, t in ((4, times(4)), (1, times(1)), (4, torch.tensor(0.35, dtype=DOUBLE))):
            x, u, s = outputs(schedule, t, images(45, n), images(46, n))
            require_close(answer(u, x, t, schedule), s, f"the score on {n} images", tolerance=1e-9)
        path = GaussianPath(schedule).marginal(mixture())
        x, t = states(47, 6, 2, dtype=DOUBLE).requires_grad_(), torch.tensor(0.6, dtype=DOUBLE)
        s = torch.autograd.grad(path.log_prob(x, t).sum(), x)[0]
        x = x.detach()
        found = answer(path.vector_field(x, t), x, t, schedule)
        require_close(found, s, "the score of a mixture", tolerance=1e-9)


@check("slides, proposition 1")
def vector_field_from_score(answer):
    for schedule in SCHEDULES:
        for n, t in ((4, times(4)), (1, times(1)), (4, torch.tensor(0.35, dtype=DOUBLE))):
            x, u, s = outputs(schedule, t, images(48, n), images(49, n))
            require_close(answer(s, x, t, schedule), u, f"the field on {n} images", tolerance=1e-9)
        path = GaussianPath(schedule).marginal(mixture())
        x, t = states(50, 6, 2, dtype=DOUBLE), torch.tensor(0.6, dtype=DOUBLE)
        found = answer(path.score(x, t), x, t, schedule)
        require_close(found, path.vector_field(x, t), "the field of a mixture", tolerance=1e-9)


def mixture() -> GaussianMixture:
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=DOUBLE)
    return GaussianMixture(means, torch.tensor([0.2, 0.5], dtype=DOUBLE))


# --- sampling --------------------------------------------------------------------------------------------------------


@check("slides, sampling with an arbitrary diffusion coefficient")
def sample_diffusion(answer):
    """A linear equation, dX = (c_t − ½ σ_t² k_t) X dt + σ_t dW: its last state is a sum of scaled noises."""
    for n, ts in ((3, torch.linspace(0.1, 0.9, 6, dtype=DOUBLE)), (1, torch.tensor([0.0, 0.04, 0.5], dtype=DOUBLE))):
        x0, hs = images(51, n), ts.diff()
        noises = states(52, len(hs), n, 1, 4, 4, dtype=DOUBLE)
        for sigma in (lambda t: 2 * (1 - t), lambda t: 0.7, lambda t: 0.0):
            sigmas = torch.tensor([float(sigma(t)) for t in ts[:-1]], dtype=DOUBLE)
            growth = 1 + hs * (ts[:-1].cos() - sigmas**2 / 2 * (2 + ts[:-1]))
            after = growth.flip(0).cumprod(0).flip(0)  # what the steps from k on make of a state
            scaled = (sigmas * hs.sqrt() * torch.cat([after[1:], torch.ones(1, dtype=DOUBLE)])).tolist()
            expected = after[0] * x0 + sum(scale * noise for scale, noise in zip(scaled, noises, strict=True))
            found = answer(
                lambda x, t: torch.cos(torch.as_tensor(t, dtype=x.dtype)) * x,
                lambda x, t: -(2 + t) * x,
                sigma,
                x0,
                ts,
                noises,
            )
            require_close(found, expected, "the last state for a linear field", tolerance=1e-9)


# --- the diffusion's own time ----------------------------------------------------------------------------------------


@check("intro, § 4.2 (the VP diffusion)")
def forward_marginal(answer):
    """Mean and variance by Euler's method for their own equations, dm = −½ b m ds and dv = (b − b v) ds."""
    for low, high in ((0.1, 20.0), (1.0, 1.0), (2.0, 3.0)):
        schedule = LinearVP(low, high)
        s = torch.tensor([0.0, 0.2, 0.55, 1.0], dtype=DOUBLE)
        a, std = pair(answer(s, low, high), "mean coefficient and standard deviation")
        require_close(a, schedule.alpha(1 - s), "the mean coefficient", tolerance=1e-6)
        require_close(std, schedule.beta(1 - s), "the standard deviation", tolerance=1e-6)
        mean, variance, steps = 1.0, 0.0, 2000
        for k in range(steps):
            rate = low + (high - low) * 0.5 * (k + 0.5) / steps
            mean, variance = mean * (1 - rate / 4 / steps), variance + (1 - variance) * rate / 2 / steps
        a, std = answer(0.5, low, high)
        require_number(a, mean, "the mean coefficient at s = 0.5", tolerance=0.01)
        require_number(std, math.sqrt(variance), "the standard deviation at s = 0.5", tolerance=0.01)


def require_drift(answer, share: float, what: str) -> None:
    """Fail unless the drift is the path's vector field and `share` · g² times its score."""
    for schedule in (LinearVP(0.3, 9.0), VE(1.5)):
        path = GaussianPath(schedule).marginal(mixture())
        for n, t in ((5, torch.tensor(0.4, dtype=DOUBLE)), (5, times(5)), (1, times(1))):
            x = states(53, n, 2, dtype=DOUBLE)
            _, noise = diffusion_coefficients(schedule, t)
            expected = path.vector_field(x, t) + share * coefficient(noise, x) ** 2 * path.score(x, t)
            found = answer(
                path.score,
                x,
                t,
                lambda s, schedule=schedule: diffusion_coefficients(schedule, 1 - s)[0],
                lambda s, schedule=schedule: diffusion_coefficients(schedule, 1 - s)[1],
            )
            require_close(found, expected, what, tolerance=1e-7)
    x, t = images(54, 3), torch.tensor(0.25, dtype=DOUBLE)
    found = answer(lambda x, t: -3 * x, x, t, lambda s: -s, lambda s: 2 * s)
    require_close(found, 0.75 * x - (0.5 + share) * (2 * 0.75) ** 2 * 3 * x, f"{what} on images")


@check("intro, § 3.2, and the text above the exercise")
def reverse_sde_drift(answer):
    require_drift(answer, 0.5, "the reverse drift, which is the field plus ½ g² times the score,")


@check("intro, § 3.2 and § 5.5 (probability flow)")
def probability_flow_field(answer):
    require_drift(answer, 0.0, "the probability flow, which is the vector field of the path,")


# --- the chain -------------------------------------------------------------------------------------------------------

LONG = chain(*torch.linspace(0.02, 0.4, 12).tolist(), dtype=DOUBLE)


@check("intro, § 4.4 (the reverse posterior)")
def ddpm_posterior(answer):
    x, x0 = images(55), images(56)
    for betas in (LONG, chain(0.3, 0.1, dtype=DOUBLE)):
        for k in range(2, len(betas)):
            mean, variance = bayes(x, x0, k, betas)
            found = pair(answer(x, x0, k, betas), "mean and variance")
            require_close(found[0], mean, f"the mean for k = {k}", tolerance=1e-9)
            require_number(found[1], variance, f"the variance for k = {k}")
        require_first(pair(answer(x, x0, 1, betas), "mean and variance"), x0)


@check("intro, § 4.4 and § 4.5, and the text above the exercise")
def ancestral_step(answer):
    for n in (3, 1):
        x, eps, noise = images(57, n), images(58, n), images(59, n)
        for k in (1, 2, 12):
            expected = one_step_back(x, eps, k, LONG, noise)[0]
            require_close(answer(x, eps, k, LONG, noise), expected, f"the step for k = {k}", tolerance=1e-9)


@check("intro, § 4.4 and § 4.5, and the text above the exercise")
def elbo_terms(answer):
    for n, betas in ((3, LONG), (1, chain(0.2, 0.6, dtype=DOUBLE))):
        x0, noises = images(60, n), states(61, len(betas) - 1, n, 1, 4, 4, dtype=DOUBLE)

        def network(x, t):
            return (0.2 + t) * x.flip(-1)

        found = answer(x0, network, betas, noises)
        expected = exact_terms(x0, network, betas, noises)
        require_terms(found, expected)
        require_close(found, expected, f"the terms of {n} images", tolerance=1e-7)
