"""Right answers to lab 4 in other styles than the solution's: loops, einsum, NumPy, other algebra, torch's own."""

import math
import torch
from fmlab import ddpm
from fmlab.paths import GaussianPath


def column(value, x):
    """A coefficient of time, in another way than `coefficient`."""
    value = torch.as_tensor(value)
    return value if value.ndim == 0 else value.view([len(value)] + [1] * (x.ndim - 1))


def per_point(t, x):
    """One time for each point, in the dtype of x, whatever t was."""
    return torch.as_tensor(t).to(x).expand(len(x))


def loss_by_points(target):
    def loss(network, z, t, noise, schedule):
        a, b = schedule.alpha(t), schedule.beta(t)
        x = torch.stack([a[i] * z[i] + b[i] * noise[i] for i in range(len(z))])
        value = network(x, t)
        return sum(((value[i] - target(noise[i], b[i])) ** 2).sum() for i in range(len(z))) / len(z)

    return loss


def loss_by_mse(target):
    def loss(network, z, t, noise, schedule):
        b = column(schedule.beta(t), z)
        x = torch.lerp(z, noise, b) - (1 - b - column(schedule.alpha(t), z)) * z
        return torch.nn.functional.mse_loss(network(x, t), target(noise, b)) * z[0].numel()

    return loss


def loss_by_rows(target):
    """The network is asked point by point."""

    def loss(network, z, t, noise, schedule):
        each = []
        for k in range(len(z)):
            a, b = schedule.alpha(t[k]), schedule.beta(t[k])
            x = a * z[k : k + 1] + b * noise[k : k + 1]
            each.append((network(x, t[k : k + 1]) - target(noise[k : k + 1], b)).square().sum())
        return torch.stack(each).mean()

    return loss


def conditional_score_loss(network, z, t, noise, schedule):
    path = GaussianPath(schedule)
    x = path.interpolate(z, noise, t)
    return (network(x, t) - path.score(x, z, t)).flatten(1).norm(dim=1).pow(2).mean()


def score_by_elimination(u, x, t, schedule):
    """Two linear equations for data and noise, then −ε/β."""
    a, b, p, q = (column(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    z = (q * x - b * u) / (a * q - p * b)
    return -(x - a * z) / b**2


def score_by_solve(u, x, t, schedule):
    t = per_point(t, x)
    rows = [torch.stack([schedule.alpha(t), schedule.beta(t)], -1)]
    rows.append(torch.stack([schedule.alpha_dot(t), schedule.beta_dot(t)], -1))
    both = torch.stack([x.flatten(1), u.flatten(1)], 1)
    noise = torch.linalg.solve(torch.stack(rows, 1), both)[:, 1]
    return (-noise / schedule.beta(t)[:, None]).reshape(x.shape)


def score_from_denoiser(u, x, t, schedule):
    """E[z | x] from the field, at the speed at which the ratio α/β grows, then Tweedie's formula backwards."""
    a, b, p, q = (column(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    denoised = (u - q / b * x) / (b * (p * b - a * q) / b**2)
    return (a * denoised - x) / b**2


def field_from_data_and_noise(s, x, t, schedule):
    """u = α̇ E[z | x] + β̇ E[ε | x]."""
    a, b, p, q = (column(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    return p * (x + b**2 * s) / a - q * b * s


def field_by_elimination(s, x, t, schedule):
    a, b, p, q = (column(c(t), x) for c in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    noise = -b * s
    return p * (x - b * noise) / a + q * noise


def field_by_points(s, x, t, schedule):
    rows = []
    for k, now in enumerate(per_point(t, x)):
        a, b, p, q = schedule.alpha(now), schedule.beta(now), schedule.alpha_dot(now), schedule.beta_dot(now)
        rows.append(b * (b * p / a - q) * s[k] + p / a * x[k])
    return torch.stack(rows)


def rows_by_vmap(noise, t, schedule):
    return torch.vmap(lambda e, now: -e / schedule.beta(now))(noise, per_point(t, noise))


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


def marginal_by_quadrature(s, low, high):
    s = torch.as_tensor(s)
    mean_rate = (low + (low + (high - low) * s)) / 2
    a = (-s * mean_rate / 2).exp()
    return a, (-torch.expm1(-s * mean_rate)).sqrt()


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


def drift_by_points(share):
    def drift(score, x, t, f, g):
        t = per_point(t, x)
        value = score(x, t)
        return torch.stack([share * g(1 - t[k]) ** 2 * value[k] - f(1 - t[k]) * x[k] for k in range(len(x))])

    return drift


def drift_by_columns(share):
    def drift(score, x, t, f, g):
        s = 1 - t
        return share * column(g(s) * g(s), x) * score(x, t) - column(f(s), x) * x

    return drift


def drift_of_shaped_time(share):
    """t is shaped for f and g alone."""

    def drift(score, x, t, f, g):
        s = 1 - column(t, x)
        return share * g(s) ** 2 * score(x, t) - f(s) * x

    return drift


def posterior_by_bayes(x, x0, k, betas):
    if k == 1:
        return 1 * x0, 0.0
    beta, bar = float(betas[k]), float((1 - betas[:k].double()).prod())
    precision = (1 - beta) / beta + 1 / (1 - bar)
    return (math.sqrt(1 - beta) / beta * x + math.sqrt(bar) / (1 - bar) * x0) / precision, 1 / precision


def posterior_by_regression(x, x0, k, betas):
    """The law of x_{k−1} given x_0, conditioned on x_k as one jointly Gaussian variable on another."""
    bar, keep = (1 - betas[:k]).prod(), (1 - betas[k]).sqrt()
    gain = keep * (1 - bar) / (keep**2 * (1 - bar) + betas[k])
    mean = bar.sqrt() * x0
    return mean + gain * (x - keep * mean), (1 - bar) * (1 - gain * keep)


def posterior_with_numbers(x, x0, k, betas):
    before = 1.0
    for beta in betas.tolist()[1:k]:
        before *= 1 - beta
    beta = betas.tolist()[k]
    now = before * (1 - beta)
    mean = (before**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - before) * x) / (1 - now)
    return [mean, torch.tensor((1 - before) / (1 - now) * beta)]


def step_through_the_guess(x, eps, k, betas, noise):
    bar = (1 - betas).cumprod(0)[k]
    mean, variance = posterior_by_bayes(x, (x - (1 - bar).sqrt() * eps) / bar.sqrt(), k, betas)
    return mean + math.sqrt(variance) * noise


def step_through_the_score(x, eps, k, betas, noise):
    """Tweedie's formula for the step: (x + β_k s) / √(1 − β_k), with the score s = −ε / √(1 − ᾱ_k)."""
    bars = (1 - betas).cumprod(0)
    score = -eps / (1 - bars[k]).sqrt()
    spread = (betas[k] * (1 - bars[k - 1]) / (1 - bars[k])).sqrt()
    return torch.addcmul((x + betas[k] * score) * (1 - betas[k]).rsqrt(), spread, noise)


def step_with_numbers(x, eps, k, betas, noise):
    beta = float(betas[k])
    before = math.prod(1 - b for b in betas.tolist()[:k])
    now = before * (1 - beta)
    mean = x / math.sqrt(1 - beta) - beta / math.sqrt((1 - beta) * (1 - now)) * eps
    return mean if k == 1 else mean + math.sqrt(beta * (1 - before) / (1 - now)) * noise


def elbo_by_means(x0, eps, betas, noises):
    """The two means and the KL of the text, through fmlab's functions."""
    chain, size = ddpm.Chain(betas[1:]), len(betas) - 1
    terms = []
    for k in range(1, size + 1):
        x = chain.noised(x0, k, noises[k - 1])
        predicted = eps(x, 1 - k / size)
        if k == 1:
            terms.append(ddpm.gaussian_log_prob(x0, chain.model_mean(x, predicted, 1), float(betas[1])))
        else:
            terms.append(-chain.step_kl(x, x0, predicted, k))
    last = chain.alpha_bars[-1]
    terms.append(-ddpm.gaussian_kl(float(last) ** 0.5 * x0, 1 - last, 0 * x0, 1.0))
    return torch.stack(terms)


def elbo_by_points(x0, eps, betas, noises):
    """One column after the other."""
    return torch.cat([elbo_by_means(x0[i : i + 1], eps, betas, noises[:, i : i + 1]) for i in range(len(x0))], 1)


def elbo_at_once(x0, eps, betas, noises):
    """All steps in one call of the network, with a time for each row; a double table makes the sum double."""
    bars, count, d = (1 - betas).cumprod(0), len(noises), x0[0].numel()
    before, now = (part.reshape(-1, *[1] * x0.ndim) for part in (bars[:-1], bars[1:]))
    x = (now.sqrt() * x0 + (1 - now).sqrt() * noises).to(x0)
    times = 1 - torch.arange(1, count + 1).to(x0) / count
    predicted = eps(x.flatten(0, 1), times.repeat_interleave(len(x0))).reshape(x.shape)
    weights = betas[1:] / (2 * (1 - betas[1:]) * (1 - bars[1:]))
    ratio = ((1 - before) / (1 - now)).flatten()
    constants = torch.cat([(2 * math.pi * betas[1:2]).log(), (ratio - 1 - ratio.log())[1:]])
    terms = -weights[:, None] * (noises - predicted).square().flatten(2).sum(2) - d / 2 * constants[:, None]
    last = bars[-1] * x0.square().flatten(1).sum(1) - d * bars[-1] - d * torch.log1p(-bars[-1])
    return torch.cat([terms, -last[None] / 2])


def score_target(noise, b):
    return -noise / b


def noise_target(noise, b):
    return noise


RIGHT = {
    "denoising_score_matching_loss": [
        *(loss(score_target) for loss in (loss_by_points, loss_by_mse, loss_by_rows)),
        conditional_score_loss,
    ],
    "noise_prediction_loss": [loss(noise_target) for loss in (loss_by_points, loss_by_mse, loss_by_rows)],
    "score_from_noise": [
        lambda noise, t, schedule: torch.stack([-e / schedule.beta(s) for e, s in zip(noise, per_point(t, noise))]),
        lambda noise, t, schedule: noise / column(-schedule.beta(t), noise),
        rows_by_vmap,
    ],
    "score_from_vector_field": [score_by_elimination, score_by_solve, score_from_denoiser],
    "vector_field_from_score": [field_by_elimination, field_by_points, field_from_data_and_noise],
    "sample_diffusion": [sampler_by_index, sampler_with_a_time_for_each_point, sampler_point_by_point],
    "forward_marginal": [marginal_by_quadrature, marginal_by_numbers, marginal_as_list],
    "reverse_sde_drift": [drift(1.0) for drift in (drift_by_points, drift_by_columns, drift_of_shaped_time)],
    "probability_flow_field": [drift(0.5) for drift in (drift_by_points, drift_by_columns, drift_of_shaped_time)],
    "ddpm_posterior": [posterior_by_bayes, posterior_by_regression, posterior_with_numbers],
    "ancestral_step": [step_through_the_guess, step_through_the_score, step_with_numbers],
    "elbo_terms": [elbo_by_means, elbo_by_points, elbo_at_once],
}
