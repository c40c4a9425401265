"""Right answers to lab 5 in other styles than the solution's: loops, NumPy, other algebra, detours."""

import math

import numpy as np
import torch

from fmlab.schedules import coefficient


def table(a, b, a_dot, b_dot):
    """Every output in terms of data and noise, and the state itself."""
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    rows = {"state": (a, b), "data": (one, zero), "noise": (zero, one), "v": (-b, a)}
    return {**rows, "vector_field": (a_dot * one, b_dot * one), "score": (zero, -1 / b)}


def rescaled_rows(x, t, schedule):
    lengths = [math.hypot(schedule.alpha(s), schedule.beta(s)) for s in torch.as_tensor(t).expand(len(x))]
    return torch.stack([row / length for row, length in zip(x, lengths, strict=True)])


def rescaled_by_logarithms(x, t, schedule):
    log_length = torch.logaddexp(2 * schedule.alpha(t).log(), 2 * schedule.beta(t).log()) / 2
    return x * coefficient(torch.exp(-log_length), x)


def rescaled_by_vmap(x, t, schedule):
    t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    return torch.vmap(lambda row, t: row / torch.hypot(schedule.alpha(t), schedule.beta(t)))(x, t)


def through_data(value, x, t, schedule, source, target):
    """First to the data, by a formula for each output; then from the data."""
    a, b, a_dot, b_dot = schedule.weights(t, x)
    z = {
        "data": value,
        "noise": (x - b * value) / a,
        "v": (a * x - b * value) / (a**2 + b**2),
        "vector_field": (b_dot * x - b * value) / (a * b_dot - a_dot * b),
        "score": (x + b**2 * value) / a,
    }[source]
    noise = (x - a * z) / b
    targets = {"data": z, "noise": noise, "score": -noise / b, "v": a * noise - b * z}
    return targets[target] if target in targets else a_dot * z + b_dot * noise


def by_linear_algebra(value, x, t, schedule, source, target):
    """Solve a 2 × 2 system for every coordinate."""
    rows = table(*torch.broadcast_tensors(*schedule.weights(t, x), x)[:4])
    system, known = [torch.stack(rows["state"], -1), torch.stack(rows[source], -1)], torch.stack([x, value], -1)
    found = torch.linalg.solve(torch.stack(system, -2).to(x), known)
    return (torch.stack(rows[target], -1) * found).sum(-1).to(x)


def in_numpy(value, x, t, schedule, source, target):
    return torch.from_numpy(through_data(value, x, t, schedule, source, target).numpy().copy())


def weight_formulas(output, t, schedule):
    a, b, snr = schedule.alpha(t), schedule.beta(t), torch.exp(schedule.log_snr(t))
    return {
        "data": torch.ones_like(a),
        "noise": snr,
        "v": b**2 * (1 + snr) ** 2,
        "vector_field": (schedule.alpha_dot(t) - schedule.beta_dot(t) * a / b) ** 2,
        "score": snr / b**2,
    }[output]


def weight_by_measuring(output, t, schedule):
    """An error of 1 in the data, in the state 0, whose outputs are 0."""
    t = torch.as_tensor(t)
    return through_data(torch.ones_like(t), torch.zeros_like(t), t, schedule, "data", output).square()


def weight_by_loops(output, t, schedule):
    t = torch.as_tensor(t)
    values = [float(weight_formulas(output, time.double(), schedule)) for time in t.flatten()]
    return torch.tensor(values, dtype=t.dtype).reshape(t.shape)


def loss_by_einsum(model, z, noise, t, schedule, weight):
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    errors = (model(x, t) - noise).reshape(len(z), -1)
    return torch.einsum("n,n,nk,nk->", weight(schedule.log_snr(t)), schedule.log_snr_dot(t), errors, errors) / len(z)


def loss_point_by_point(model, z, noise, t, schedule, weight):
    """One call of the network for each point, and of everything else."""
    total = 0
    for k in range(len(z)):
        a, b, *_ = schedule.weights(t[k], z[k])
        error = model((a * z[k] + b * noise[k])[None], t[k : k + 1])[0] - noise[k]
        total = total + weight(schedule.log_snr(t[k])) * schedule.log_snr_dot(t[k]) * (error**2).sum()
    return total / len(z)


def rate_by_autograd(t, schedule):
    s = torch.as_tensor(t).clone().requires_grad_()
    return 2 * torch.autograd.grad((schedule.alpha(s) / schedule.beta(s)).log().sum(), s)[0]


def loss_by_autograd(model, z, noise, t, schedule, weight):
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    squares = torch.nn.functional.mse_loss(model(x, t), noise, reduction="none").flatten(1).sum(1)
    return torch.mean(rate_by_autograd(t, schedule) * weight(schedule.log_snr(t)) * squares)


def effective_in_closed_form(output, t, schedule):
    """The row (a, b) of the output against that of the noise: (b − a β/α)²."""
    weights = schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)
    a, b = table(*weights)[output]
    return (b - a * weights[1] / weights[0]) ** 2 / schedule.log_snr_dot(t)


def effective_by_exponential(output, t, schedule):
    return weight_formulas(output, t, schedule) * torch.exp(-schedule.log_snr(t)) / schedule.log_snr_dot(t)


def effective_by_autograd(output, t, schedule):
    ratio = weight_formulas(output, t, schedule) / weight_formulas("noise", t, schedule)
    return ratio / rate_by_autograd(t, schedule)


def flow_through_the_twin(network, output, source, target):
    """By way of the variance-preserving state, and the noise in place of the data."""

    def field(x, t):
        r = source.time_at(target.log_snr(t))
        x_r = through_twin(x, t, target) / through_twin(torch.ones_like(x), r, source)
        noise = through_data(network(x_r, r), x_r, r, source, output, "noise")
        return through_data(noise, x, t, target, "noise", "vector_field")

    return field


def through_twin(x, t, schedule):
    return x / torch.hypot(*schedule.weights(t, x)[:2])


def flow_by_alphas(network, output, source, target):
    """Rescaled by the weights of the data; one time per state."""

    def field(x, t):
        t = torch.as_tensor(t).expand(len(x))
        r = source.time_at(2 * (target.alpha(t) / target.beta(t)).log())
        x_r = x * coefficient(source.alpha(r) / target.alpha(t), x)
        z_hat = by_linear_algebra(network(x_r, r), x_r, r, source, output, "data")
        a, b, a_dot, b_dot = target.weights(t, x)
        return a_dot * z_hat + b_dot * (x - a * z_hat) / b

    return field


class Flow:
    """An object that is called like a function."""

    def __init__(self, network, output, source, target):
        self.network, self.output, self.source, self.target = network, output, source, target

    @torch.no_grad()
    def __call__(self, x, t):
        r = self.source.time_at(self.target.log_snr(t))
        x_r = self.source.weights(r, x)[1] / (self.target.weights(t, x)[1] + 1e-8) * x
        z_hat = through_data(self.network(x_r, r), x_r, r, self.source, self.output, "data")
        return through_data(z_hat, x, t, self.target, "data", "vector_field")


def ddim_by_blending(x, z_hat, t, s, schedule):
    """Scale the state, and make up the data."""
    kept = coefficient(schedule.beta(s) / schedule.beta(t), x)
    added = coefficient(schedule.alpha(s) - schedule.beta(s) / schedule.beta(t) * schedule.alpha(t), x)
    return kept * x + added * z_hat


def ddim_by_conversion(x, z_hat, t, s, schedule):
    noise = through_data(z_hat, x, t, schedule, "data", "noise")
    return coefficient(schedule.alpha(s), x) * z_hat + coefficient(schedule.beta(s), x) * noise


def ddim_by_vmap(x, z_hat, t, s, schedule):
    t, s = (torch.as_tensor(time, dtype=x.dtype).expand(len(x)) for time in (t, s))

    def step(x, z_hat, t, s):
        noise = (x - schedule.alpha(t) * z_hat) / (schedule.beta(t) + 1e-8)
        return schedule.alpha(s) * z_hat + schedule.beta(s) * noise

    return torch.vmap(step)(x, z_hat, t, s)


def ddpm_by_overshooting(x, z_hat, t, s, schedule, noise, churn):
    """As told: DDIM to the time r, and back to s."""
    x, z_hat, noise, dtype = x.double(), z_hat.double(), noise.double(), x.dtype
    t, s = torch.as_tensor(t).double(), torch.as_tensor(s).double()
    now, then = schedule.log_snr(t), schedule.log_snr(s)
    r = schedule.time_at(then + churn * (then - now))
    far, ratio = ddim_by_blending(x, z_hat, t, r, schedule), schedule.alpha(s) / schedule.alpha(r)
    missing = (schedule.beta(s) ** 2 - (ratio * schedule.beta(r)) ** 2).clamp(min=0).sqrt()
    return (coefficient(ratio, x) * far + coefficient(missing, x) * noise).to(dtype)


def ddpm_by_log_snr(x, z_hat, t, s, schedule, noise, churn):
    step = schedule.log_snr(s) - schedule.log_snr(t)
    kept = coefficient(torch.exp(-churn * step / 2), x)
    fresh = coefficient((-torch.expm1(-churn * step)).sqrt(), x)
    mixed = kept * through_data(z_hat, x, t, schedule, "data", "noise") + fresh * noise
    return coefficient(schedule.alpha(s), x) * z_hat + coefficient(schedule.beta(s), x) * mixed


def ddpm_from_ddim(x, z_hat, t, s, schedule, noise, churn):
    """DDIM's step, with part of its noise exchanged."""
    (a, b, *_), (a_s, b_s, *_) = schedule.weights(t, x), schedule.weights(s, x)
    old, q = ddim_by_blending(x, z_hat, t, s, schedule) - a_s * z_hat, (a * b_s / b / a_s) ** churn
    return a_s * z_hat + q * old + b_s * torch.sqrt((1 - q) * (1 + q)) * noise


def schedule_in_numpy(f, g_squared, s):
    times, rate, noise = s.numpy(), f(s).numpy(), g_squared(s).numpy()

    def integral(y):
        return np.concatenate([[0], np.cumsum((y[1:] + y[:-1]) / 2 * np.diff(times))])

    log_alpha = integral(rate)
    beta = np.sqrt(np.exp(2 * log_alpha) * integral(noise * np.exp(-2 * log_alpha)))
    return torch.tensor(np.exp(log_alpha), dtype=s.dtype), torch.tensor(beta, dtype=s.dtype)


def schedule_by_midpoints(f, g_squared, s):
    steps, middles = s.diff(), (s[1:] + s[:-1]) / 2
    log_alpha = torch.cat([s[:1], (f(middles) * steps).cumsum(0)])
    between = (log_alpha[1:] + log_alpha[:-1]) / 2
    spread = torch.cat([s[:1], (g_squared(middles) * torch.exp(-2 * between) * steps).cumsum(0)])
    return log_alpha.exp(), log_alpha.exp() * spread.sqrt()


def schedule_by_left_sums(f, g_squared, s):
    def integral(y):
        return torch.cat([s[:1], (y[:-1] * s.diff()).cumsum(0)])

    alpha = integral(f(s)).exp()
    return alpha, alpha * integral(g_squared(s) / alpha**2).sqrt()


def curvature_by_loops(states):
    lengths, distances = [], []
    for k in range(states.shape[1]):
        moving = states[:, k].reshape(len(states), -1)
        lengths.append(sum(float((b - a).norm()) for a, b in zip(moving[:-1], moving[1:], strict=True)))
        distances.append(float((moving[-1] - moving[0]).norm()))
    return sum(lengths) / sum(distances) - 1


def curvature_in_numpy(states):
    x = states.numpy().reshape(*states.shape[:2], -1)
    return (np.linalg.norm(np.diff(x, axis=0), axis=2).sum() / np.linalg.norm(x[-1] - x[0], axis=1).sum()) - 1


def curvature_step_by_step(states):
    steps = [(b - a).flatten(1).norm(dim=1) for a, b in zip(states[:-1], states[1:])]
    return sum(steps).sum() / (states[-1] - states[0]).flatten(1).norm(dim=1).sum() - 1


RIGHT = {
    "log_snr": [
        lambda t, s: torch.log(s.alpha(t) ** 2 / s.beta(t) ** 2),
        lambda t, s: (s.alpha(t) / s.beta(t)).square().log(),
        lambda t, s: torch.log(s.alpha(t) ** 2) - torch.log(s.beta(t) ** 2),
    ],
    "to_variance_preserving": [rescaled_rows, rescaled_by_logarithms, rescaled_by_vmap],
    "convert_output": [through_data, by_linear_algebra, in_numpy],
    "x_mse_weight": [weight_formulas, weight_by_measuring, weight_by_loops],
    "loss_over_log_snr": [loss_by_einsum, loss_point_by_point, loss_by_autograd],
    "effective_weight": [effective_in_closed_form, effective_by_exponential, effective_by_autograd],
    "as_vector_field": [flow_through_the_twin, flow_by_alphas, Flow],
    "ddim_step": [ddim_by_blending, ddim_by_conversion, ddim_by_vmap],
    "ddpm_step": [ddpm_by_log_snr, ddpm_from_ddim, ddpm_by_overshooting],
    "schedule_from_sde": [schedule_in_numpy, schedule_by_midpoints, schedule_by_left_sums],
    "path_curvature": [curvature_by_loops, curvature_in_numpy, curvature_step_by_step],
}
