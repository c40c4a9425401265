"""Right answers to lab 4 in other styles than the solution's: loops, plain numbers, other algebra, torch's own."""

import math

import torch

from fmlab.exercises.lab4 import bayes, exact_terms, guess


def column(value, x):
    """A coefficient of time, in another way than `coefficient`."""
    value = torch.as_tensor(value)
    return value if value.ndim == 0 else value.view([len(value)] + [1] * (x.ndim - 1))


def columns(schedule, t, x):
    """α, β, α̇ and β̇."""
    return [column(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)]


def per_point(t, x):
    """One time for each point, in the dtype of x, whatever t was."""
    return torch.as_tensor(t).to(x).expand(len(x))


def losses(target):
    def by_points(network, z, t, noise, schedule):
        a, b = schedule.alpha(t), schedule.beta(t)
        value = network(torch.stack([a[i] * z[i] + b[i] * noise[i] for i in range(len(z))]), t)
        return sum(((value[i] - target(noise[i], b[i])) ** 2).sum() for i in range(len(z))) / len(z)

    def by_mse(network, z, t, noise, schedule):
        a, b, *_ = columns(schedule, t, z)
        x = torch.lerp(z, noise, b) - (1 - b - a) * z
        return torch.nn.functional.mse_loss(network(x, t), target(noise, b)) * z[0].numel()

    def by_rows(network, z, t, noise, schedule):
        """The network is asked point by point."""
        parts = [by_points(network, z[k : k + 1], t[k : k + 1], noise[k : k + 1], schedule) for k in range(len(z))]
        return torch.stack(parts).mean()

    return [by_points, by_mse, by_rows]


def score_by_elimination(u, x, t, schedule):
    """Two linear equations for data and noise, then −ε/β."""
    a, b, p, q = columns(schedule, t, x)
    z = (q * x - b * u) / (a * q - p * b)
    return -(x - a * z) / b**2


def score_by_solve(u, x, t, schedule):
    t = per_point(t, x)
    rows = torch.stack([schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)], -1)
    both = torch.stack([x.flatten(1), u.flatten(1)], 1)
    noise = torch.linalg.solve(rows.reshape(-1, 2, 2), both)[:, 1]
    return (-noise / schedule.beta(t)[:, None]).reshape(x.shape)


def score_from_denoiser(u, x, t, schedule):
    """E[z | x] from the field, at the speed at which the ratio α/β grows, then Tweedie's formula backwards."""
    a, b, p, q = columns(schedule, t, x)
    denoised = (u - q / b * x) / (b * (p * b - a * q) / b**2)
    return (a * denoised - x) / b**2


def field_from_data_and_noise(s, x, t, schedule):
    """u = α̇ E[z | x] + β̇ E[ε | x]."""
    a, b, p, q = columns(schedule, t, x)
    return p * (x + b**2 * s) / a - q * b * s


def field_of_one_fraction(s, x, t, schedule):
    a, b, p, q = columns(schedule, t, x)
    return torch.addcmul(p * x, b * (p * b - a * q), s) / a


def field_by_points(s, x, t, schedule):
    rows = []
    for k, now in enumerate(per_point(t, x)):
        a, b, p, q = schedule.alpha(now), schedule.beta(now), schedule.alpha_dot(now), schedule.beta_dot(now)
        rows.append(b * (b * p / a - q) * s[k] + p / a * x[k])
    return torch.stack(rows)


def sampler_by_index(u, s, sigma, x0, ts, noises):
    x = x0.clone()
    for k in range(len(noises)):
        t, h = ts[k], float(ts[k + 1] - ts[k])
        x = x + u(x, t) * h + float(sigma(t)) * (0.5 * h * float(sigma(t)) * s(x, t) + math.sqrt(h) * noises[k])
    return x


def sampler_with_a_time_for_each_point(u, s, sigma, x0, ts, noises):
    x = x0
    for t, end, noise in zip(ts[:-1], ts[1:], noises, strict=True):
        now, root = t.expand(len(x)), torch.sqrt(torch.tensor(float(end - t)))
        x = x + (end - t) * (u(x, now) + sigma(t) ** 2 / 2 * s(x, now)) + root * sigma(t) * noise
    return x


def sampler_point_by_point(u, s, sigma, x0, ts, noises):
    points = [x0[k : k + 1] for k in range(len(x0))]
    return torch.cat([sampler_by_index(u, s, sigma, x, ts, noises[:, [k]]) for k, x in enumerate(points)])


def marginal_by_mean_rate(s, low, high):
    s = torch.as_tensor(s)
    mean_rate = (low + (low + (high - low) * s)) / 2
    return (-s * mean_rate / 2).exp(), (-torch.expm1(-s * mean_rate)).sqrt()


def marginal_by_numbers(s, low, high):
    if isinstance(s, torch.Tensor):
        pairs = [marginal_by_numbers(float(each), low, high) for each in s.reshape(-1)]
        return tuple(torch.tensor(values, dtype=s.dtype).reshape(s.shape) for values in zip(*pairs, strict=True))
    a = math.exp(-low * s / 2 - (high - low) * s * s / 4)
    return a, math.sqrt(max(0.0, 1 - a * a))


def marginal_as_list(s, low, high):
    s = s if isinstance(s, torch.Tensor) else torch.tensor(s, dtype=torch.float64)
    log_a = -(s**2) * (high - low) / 4 - s * low / 2
    return [torch.exp(log_a), (1 - torch.exp(2 * log_a)) ** 0.5]


def drift_by_points(score, x, t, f, g, sigma):
    t, level, value = per_point(t, x), per_point(sigma, x), score(x, t)
    rows = [(g(1 - t[k]) ** 2 + level[k] ** 2) / 2 * value[k] - f(1 - t[k]) * x[k] for k in range(len(x))]
    return torch.stack(rows)


def drift_by_the_reverse_sde(score, x, t, f, g, sigma):
    """The reverse SDE's drift, and what another noise than g changes."""
    level, value = column(g(1 - t), x), score(x, t)
    return level**2 * value - column(f(1 - t), x) * x + 0.5 * (column(sigma, x) ** 2 - level**2) * value


def drift_by_the_flow(score, x, t, f, g, sigma):
    now, value = 1 - column(t, x), score(x, t)
    return torch.addcmul(-f(now) * x + g(now) ** 2 / 2 * value, column(sigma, x).square().to(x) / 2, value)


def constant_by_points(eps, best, z, t, noise, schedule):
    a, b = schedule.alpha(t), schedule.beta(t)
    x = torch.stack([a[i] * z[i] + b[i] * noise[i] for i in range(len(z))])
    ours, star = eps(x, t), best(x, t)
    d = [float(((ours[i] - noise[i]) ** 2).sum() - ((ours[i] - star[i]) ** 2).sum()) for i in range(len(z))]
    mean = sum(d) / len(d)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in d) / (len(d) - 1) / len(d))


def constant_by_product(eps, best, z, t, noise, schedule):
    """The difference of two squares as a product."""
    a, b, *_ = columns(schedule, t, z)
    x = a * z + b * noise
    star = best(x, t)
    d = torch.einsum("ni,ni->n", (2 * eps(x, t) - noise - star).flatten(1), (star - noise).flatten(1))
    return [d.mean(), torch.sqrt(d.var() / torch.tensor(float(len(d))))]


def constant_of_two_losses(eps, best, z, t, noise, schedule):
    a, b, *_ = columns(schedule, t, z)
    x = a * z + b * noise
    star, answer = best(x, t), eps(x, t)
    losses = [(answer - target).reshape(len(z), -1).norm(dim=1) ** 2 for target in (noise, star)]
    return losses[0].mean() - losses[1].mean(), (losses[0] - losses[1]).std() / math.sqrt(len(z))


def posterior_by_regression(x, z, k, betas):
    """The law of x_{k−1} given z, conditioned on x_k as one jointly Gaussian variable on another."""
    bar, keep = (1 - betas[:k]).prod(), (1 - betas[k]).sqrt()
    gain = keep * (1 - bar) / (keep**2 * (1 - bar) + betas[k])
    mean = bar.sqrt() * z
    return mean + gain * (x - keep * mean), (1 - bar) * (1 - gain * keep)


def posterior_with_numbers(x, z, k, betas):
    before, beta = math.prod(1 - b for b in betas.tolist()[:k]), float(betas[k])
    now = before * (1 - beta)
    mean = (before**0.5 * beta * z + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - now)
    return [mean, torch.tensor((1 - before) / (1 - now) * beta)]


def step_through_the_guess(x, eps, k, betas, noise):
    mean, variance = bayes(x, guess(x, eps, float((1 - betas).cumprod(0)[k])), k, betas)
    return mean + math.sqrt(variance) * noise


def step_through_the_score(x, eps, k, betas, noise):
    """Tweedie's formula for the step: (x + β_k s) / √(1 − β_k), with the score s = −ε / √(1 − ᾱ_k)."""
    bars = (1 - betas).cumprod(0)
    spread = (betas[k] * (1 - bars[k - 1]) / (1 - bars[k])).sqrt()
    return torch.addcmul((x - betas[k] * eps / (1 - bars[k]).sqrt()) * (1 - betas[k]).rsqrt(), spread, noise)


def step_with_numbers(x, eps, k, betas, noise):
    before, beta = math.prod(1 - b for b in betas.tolist()[:k]), float(betas[k])
    now = before * (1 - beta)
    mean = x / math.sqrt(1 - beta) - beta / math.sqrt((1 - beta) * (1 - now)) * eps
    return mean if k == 1 else mean + math.sqrt(beta * (1 - before) / (1 - now)) * noise


def elbo_by_points(z, eps, betas, noises):
    """One column after the other."""
    return torch.cat([exact_terms(z[i : i + 1], eps, betas, noises[:, i : i + 1]) for i in range(len(z))], 1)


def elbo_at_once(z, eps, betas, noises):
    """All steps in one call of the network, with a time for each row; a double table makes the sum double."""
    bars, count, d = (1 - betas).cumprod(0), len(noises), z[0].numel()
    before, now = (part.reshape(-1, *[1] * z.ndim) for part in (bars[:-1], bars[1:]))
    x = (now.sqrt() * z + (1 - now).sqrt() * noises).to(z)
    times = 1 - torch.arange(1, count + 1).to(z) / count
    predicted = eps(x.flatten(0, 1), times.repeat_interleave(len(z))).reshape(x.shape)
    weights = betas[1:] / (2 * (1 - betas[1:]) * (1 - bars[1:]))
    ratio = ((1 - before) / (1 - now)).flatten()
    constants = torch.cat([(2 * math.pi * betas[1:2]).log(), (ratio - 1 - ratio.log())[1:]])
    terms = -weights[:, None] * (noises - predicted).square().flatten(2).sum(2) - d / 2 * constants[:, None]
    last = bars[-1] * z.square().flatten(1).sum(1) - d * bars[-1] - d * torch.log1p(-bars[-1])
    return torch.cat([terms, -last[None] / 2])


RIGHT = {
    "denoising_score_matching_loss": losses(lambda noise, b: -noise / b),
    "noise_prediction_loss": losses(lambda noise, b: noise),
    "loss_constant": [constant_by_points, constant_by_product, constant_of_two_losses],
    "score_from_vector_field": [score_by_elimination, score_by_solve, score_from_denoiser],
    "vector_field_from_score": [field_from_data_and_noise, field_of_one_fraction, field_by_points],
    "sample_diffusion": [sampler_by_index, sampler_with_a_time_for_each_point, sampler_point_by_point],
    "forward_marginal": [marginal_by_mean_rate, marginal_by_numbers, marginal_as_list],
    "reverse_sde_drift": [drift_by_points, drift_by_the_reverse_sde, drift_by_the_flow],
    "ddpm_posterior": [bayes, posterior_by_regression, posterior_with_numbers],
    "ancestral_step": [step_through_the_guess, step_through_the_score, step_with_numbers],
    "elbo_terms": [exact_terms, elbo_by_points, elbo_at_once],
}
