"""Right answers to lab 5 in other styles than the solution's: loops, NumPy, other algebra, detours."""

import math

import numpy as np
import torch

from fmlab import conversions
from fmlab.schedules import coefficient


def one_by_one(rule):
    """A rule for one state and one time, applied row by row."""

    def applied(x, *args):
        times = [torch.as_tensor(t).expand(len(x)) for t in args]
        return torch.stack([rule(row, *row_times) for row, *row_times in zip(x, *times, strict=True)])

    return applied


def rescaled_rows(x, t, schedule):
    def rescale(row, t):
        return row / math.hypot(float(schedule.alpha(t)), float(schedule.beta(t)))

    return one_by_one(rescale)(x, t)


def rescaled_by_logarithms(x, t, schedule):
    log_length = torch.logaddexp(2 * schedule.alpha(t).log(), 2 * schedule.beta(t).log()) / 2
    return x * coefficient(torch.exp(-log_length), x)


def rescaled_with_the_dtype_of_x(x, t, schedule):
    t = torch.as_tensor(t, dtype=x.dtype)
    return x / coefficient((schedule.alpha(t).square() + schedule.beta(t).square() + 1e-8).sqrt(), x)


def rescaled_by_vmap(x, t, schedule):
    t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    return torch.vmap(lambda row, t: row / torch.hypot(schedule.alpha(t), schedule.beta(t)))(x, t)


def through_data(value, x, t, schedule, source, target):
    """First to the data, by a formula for each output; then from the data."""
    a, b, a_dot, b_dot = schedule.weights(t, x)
    if source == "data":
        z = value
    elif source == "noise":
        z = (x - b * value) / a
    elif source == "score":
        z = (x + b**2 * value) / a
    elif source == "velocity":
        z = (a * x - b * value) / (a**2 + b**2)
    else:
        z = (b_dot * x - b * value) / (a * b_dot - a_dot * b)
    noise = (x - a * z) / b
    targets = {"data": z, "noise": noise, "score": -noise / b, "velocity": a * noise - b * z}
    return targets[target] if target in targets else a_dot * z + b_dot * noise


def by_linear_algebra(value, x, t, schedule, source, target):
    """Solve a 2 × 2 system for every state."""

    def rows(t):
        a, b = schedule.alpha(t), schedule.beta(t)
        one, zero = torch.ones_like(a), torch.zeros_like(a)
        return {
            "state": torch.stack([a, b]),
            "data": torch.stack([one, zero]),
            "noise": torch.stack([zero, one]),
            "velocity": torch.stack([-b, a]),
            "vector_field": torch.stack([schedule.alpha_dot(t) * one, schedule.beta_dot(t) * one]),
            "score": torch.stack([zero, -1 / b]),
        }

    found = []
    for k, time in enumerate(torch.as_tensor(t).expand(len(x))):
        table = rows(time)
        system = torch.stack([table["state"], table[source]]).to(x)
        known = torch.stack([x[k].flatten(), value[k].flatten()])
        found.append((table[target].to(x) @ torch.linalg.solve(system, known)).reshape(x[k].shape))
    return torch.stack(found)


def with_guards(value, x, t, schedule, source, target):
    t = torch.as_tensor(t, dtype=x.dtype)
    a, b, *dots = schedule.weights(t.expand(len(x)), x)
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (-b, a), "vector_field": dots, "score": (0, -1 / (b + 1e-8))}
    c, d = rows[source]
    noise = (a * value - c * x) / (a * d - b * c + 1e-8)
    z = (d * x - b * value) / (a * d - b * c + 1e-8)
    c, d = rows[target]
    return value if source == target else c * z + d * noise


def in_numpy(value, x, t, schedule, source, target):
    return torch.from_numpy(through_data(value, x, t, schedule, source, target).numpy().copy())


def weight_formulas(output, t, schedule):
    a, b, snr = schedule.alpha(t), schedule.beta(t), torch.exp(schedule.log_snr(t))
    return {
        "data": torch.ones_like(a),
        "noise": snr,
        "velocity": b**2 * (1 + snr) ** 2,
        "vector_field": (schedule.alpha_dot(t) - schedule.beta_dot(t) * a / b) ** 2,
        "score": snr / b**2,
    }[output]


def weight_by_measuring(output, t, schedule):
    """Convert two guesses and divide."""
    t = torch.as_tensor(t)
    own = torch.Generator().manual_seed(7)
    x, z, guess = torch.randn(3, max(1, t.numel()), 2, dtype=torch.float64, generator=own)
    right, wrong = (through_data(v, x, t.double(), schedule, "data", output) for v in (z, guess))
    weight = (wrong - right).square().sum(1) / (guess - z).square().sum(1)
    return weight.reshape(t.shape).to(t)


def weight_by_loops(output, t, schedule):
    t = torch.as_tensor(t)
    values = [float(weight_formulas(output, time.double(), schedule)) for time in t.flatten()]
    return torch.tensor(values, dtype=t.dtype).reshape(t.shape)


def weight_with_a_guard(output, t, schedule):
    a, b = schedule.alpha(t), schedule.beta(t) + 1e-8
    rows = {
        "data": (torch.ones_like(a), 0),
        "noise": (0, 1),
        "velocity": (-b, a),
        "vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)),
        "score": (0, 1 / b),
    }
    return (rows[output][0] - rows[output][1] * a / b).square()


def rate_of(t, schedule):
    return 2 * schedule.alpha_dot(t) / schedule.alpha(t) - 2 * schedule.beta_dot(t) / schedule.beta(t)


def loss_by_loops(model, z, noise, t, schedule, weight):
    x = torch.stack([schedule.alpha(s) * a + schedule.beta(s) * b for a, b, s in zip(z, noise, t, strict=True)])
    predicted, total = model(x, t), 0
    for k, s in enumerate(t):
        w = weight(schedule.log_snr(t))[k] * rate_of(s, schedule)
        total = total + w * torch.sum((predicted[k] - noise[k]) ** 2)
    return total / len(t)


def loss_point_by_point(model, z, noise, t, schedule, weight):
    """One call of the network for each point, and of everything else."""
    total = 0
    for k in range(len(z)):
        a, b, *_ = schedule.weights(t[k], z[k])
        error = model((a * z[k] + b * noise[k])[None], t[k : k + 1])[0] - noise[k]
        total = total + weight(schedule.log_snr(t[k])) * schedule.log_snr_dot(t[k]) * (error**2).sum()
    return total / len(z)


def loss_by_einsum(model, z, noise, t, schedule, weight):
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    errors = (model(x, t) - noise).reshape(len(z), -1)
    return torch.einsum("n,nk,nk->", weight(schedule.log_snr(t)) * rate_of(t, schedule), errors, errors) / len(z)


def loss_by_autograd(model, z, noise, t, schedule, weight):
    """λ̇ from automatic differentiation."""
    s = t.clone().requires_grad_()
    rate = torch.autograd.grad((schedule.alpha(s).log() - schedule.beta(s).log()).sum(), s)[0] * 2
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    squares = torch.nn.functional.mse_loss(model(x, t), noise, reduction="none").flatten(1).sum(1)
    return torch.mean(rate * weight(schedule.log_snr(t)) * squares)


def effective_in_closed_form(output, t, schedule):
    """The row (a, b) of the output against that of the noise: (b − a β/α)²."""
    a, b = schedule.alpha(t), schedule.beta(t)
    row = {
        "data": (1, 0),
        "noise": (0, 1),
        "velocity": (-b, a),
        "vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)),
        "score": (0, -1 / b),
    }[output]
    return (row[1] - row[0] * b / a) ** 2 / rate_of(t, schedule)


def effective_by_exponential(output, t, schedule):
    return weight_formulas(output, t, schedule) * torch.exp(-schedule.log_snr(t)) / rate_of(t, schedule)


def effective_by_the_library(output, t, schedule):
    factors = [conversions.x_mse_weight(name, t, schedule) for name in (output, "noise")]
    return factors[0] / (factors[1] + 1e-8) / schedule.log_snr_dot(t)


def effective_by_autograd(output, t, schedule):
    s = torch.as_tensor(t).clone().requires_grad_()
    rate = torch.autograd.grad((schedule.alpha(s) / schedule.beta(s)).log().sum(), s)[0]
    return weight_formulas(output, t, schedule) / weight_formulas("noise", t, schedule) / rate / 2


def ddim_by_blending(x, data, t, s, schedule):
    """Scale the state, and make up the data."""
    kept = coefficient(schedule.beta(s) / schedule.beta(t), x)
    added = coefficient(schedule.alpha(s) - schedule.beta(s) / schedule.beta(t) * schedule.alpha(t), x)
    return kept * x + added * data


def ddim_by_conversion(x, data, t, s, schedule):
    noise = through_data(data, x, t, schedule, "data", "noise")
    return coefficient(schedule.alpha(s), x) * data + coefficient(schedule.beta(s), x) * noise


def ddim_by_rows(x, data, t, s, schedule):
    times = zip(torch.as_tensor(t).expand(len(x)), torch.as_tensor(s).expand(len(x)), strict=True)
    rows = []
    for row, guess, (t_k, s_k) in zip(x, data, times, strict=True):
        noise = (row - schedule.alpha(t_k) * guess) / schedule.beta(t_k)
        rows.append(schedule.alpha(s_k) * guess + schedule.beta(s_k) * noise)
    return torch.stack(rows)


def ddim_by_vmap(x, data, t, s, schedule):
    t, s = (torch.as_tensor(time, dtype=x.dtype).expand(len(x)) for time in (t, s))

    def step(x, data, t, s):
        noise = (x - schedule.alpha(t) * data) / (schedule.beta(t) + 1e-8)
        return schedule.alpha(s) * data + schedule.beta(s) * noise

    return torch.vmap(step)(x, data, t, s)


def ddpm_by_overshooting(x, data, t, s, schedule, noise, churn):
    """As told: DDIM to the time r, and back to s."""
    x, data, noise, dtype = x.double(), data.double(), noise.double(), x.dtype
    t, s = torch.as_tensor(t).double(), torch.as_tensor(s).double()
    now, then = schedule.log_snr(t), schedule.log_snr(s)
    r = schedule.time_at(then + churn * (then - now))
    far, ratio = ddim_by_blending(x, data, t, r, schedule), schedule.alpha(s) / schedule.alpha(r)
    missing = (schedule.beta(s) ** 2 - (ratio * schedule.beta(r)) ** 2).clamp(min=0).sqrt()
    return (coefficient(ratio, x) * far + coefficient(missing, x) * noise).to(dtype)


def ddpm_by_log_snr(x, data, t, s, schedule, noise, churn):
    step = schedule.log_snr(s) - schedule.log_snr(t)
    kept = coefficient(torch.exp(-churn * step / 2), x)
    fresh = coefficient((-torch.expm1(-churn * step)).sqrt(), x)
    predicted = through_data(data, x, t, schedule, "data", "noise")
    return coefficient(schedule.alpha(s), x) * data + coefficient(schedule.beta(s), x) * (
        kept * predicted + fresh * noise
    )


def ddpm_by_renoising(x, data, t, s, schedule, noise, churn):
    """Overshoot to a ratio β_r/α_r, in units of α_r, and fill up the variance."""
    a, b = coefficient(schedule.alpha(s), x), coefficient(schedule.beta(s), x)
    inverse = coefficient(torch.exp(-(schedule.log_snr(s) * (1 + churn) - schedule.log_snr(t) * churn) / 2), x)
    scaled = data + inverse * through_data(data, x, t, schedule, "data", "noise")
    return a * scaled + (b**2 - (a * inverse) ** 2).clamp(min=0).sqrt() * noise


def ddpm_from_ddim(x, data, t, s, schedule, noise, churn):
    """DDIM's step, with part of its noise exchanged."""
    b = coefficient(schedule.beta(s), x)
    old = ddim_by_blending(x, data, t, s, schedule) - coefficient(schedule.alpha(s), x) * data
    q = coefficient((schedule.alpha(t) * schedule.beta(s) / schedule.beta(t) / schedule.alpha(s)) ** churn, x)
    return coefficient(schedule.alpha(s), x) * data + q * old + b * torch.sqrt((1 - q) * (1 + q)) * noise


def sde_by_autograd(t, schedule):
    """f = ∂_s log α, g² = ∂_s β² − 2 f β²."""
    s = torch.as_tensor(t).clone().requires_grad_()
    f = -torch.autograd.grad(schedule.alpha(s).log().sum(), s)[0] if schedule.alpha(s).requires_grad else 0 * s.detach()
    growth = -torch.autograd.grad((schedule.beta(s) ** 2).sum(), s)[0]
    return f, (growth - 2 * f * schedule.beta(t) ** 2).sqrt()


def sde_by_ratio(t, schedule):
    """g² = 2 α β ∂_s(β/α)."""
    a, b = schedule.alpha(t), schedule.beta(t)
    slope = (b * schedule.alpha_dot(t) - a * schedule.beta_dot(t)) / a**2
    return schedule.alpha_dot(t) / -a, torch.sqrt(2 * a * b * slope)


def sde_by_log_snr(t, schedule):
    """g² = β² λ̇."""
    return [-schedule.alpha_dot(t) / schedule.alpha(t), schedule.beta(t) * rate_of(t, schedule) ** 0.5]


def schedule_by_steps(f, g_squared, s):
    """The moments' equations, by Heun's method."""
    rate, noise = f(s), g_squared(s)
    alpha, variance = [torch.ones((), dtype=s.dtype)], [torch.zeros((), dtype=s.dtype)]
    for k in range(len(s) - 1):
        h, a, v = s[k + 1] - s[k], alpha[-1], variance[-1]
        slope = rate[k] * a
        alpha.append(a + h / 2 * (slope + rate[k + 1] * (a + h * slope)))
        slope = 2 * rate[k] * v + noise[k]
        variance.append(v + h / 2 * (slope + 2 * rate[k + 1] * (v + h * slope) + noise[k + 1]))
    return torch.stack(alpha), torch.stack(variance).sqrt()


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
    return [log_alpha.exp(), log_alpha.exp() * spread.sqrt()]


def schedule_by_left_sums(f, g_squared, s):
    steps = torch.cat([s.diff(), s[:1]])
    log_alpha = (f(s) * steps).roll(1).cumsum(0)
    return log_alpha.exp(), log_alpha.exp() * (g_squared(s) * torch.exp(-2 * log_alpha) * steps).roll(1).cumsum(
        0
    ).sqrt()


def curvature_by_loops(states):
    lengths, distances = [], []
    for k in range(states.shape[1]):
        path = states[:, k].reshape(len(states), -1)
        lengths.append(sum(float((b - a).norm()) for a, b in zip(path[:-1], path[1:], strict=True)))
        distances.append(float((path[-1] - path[0]).norm()))
    return sum(lengths) / sum(distances) - 1


def curvature_in_numpy(states):
    x = states.numpy().reshape(*states.shape[:2], -1)
    return (np.linalg.norm(np.diff(x, axis=0), axis=2).sum() / np.linalg.norm(x[-1] - x[0], axis=1).sum()) - 1


RIGHT = {
    "log_snr": [
        lambda t, s: torch.log(s.alpha(t) ** 2 / s.beta(t) ** 2),
        lambda t, s: (s.alpha(t) / s.beta(t)).square().log(),
        lambda t, s: torch.log(s.alpha(t) ** 2) - torch.log(s.beta(t) ** 2),
        lambda t, s: torch.log((s.alpha(t) ** 2 + 1e-8) / (s.beta(t) ** 2 + 1e-8)),
    ],
    "to_variance_preserving": [
        rescaled_rows,
        rescaled_by_logarithms,
        rescaled_with_the_dtype_of_x,
        rescaled_by_vmap,
        lambda x, t, s: torch.einsum(
            "n,n...->n...", (torch.hypot(s.alpha(t), s.beta(t)) ** -1).to(x).expand(len(x)), x
        ),
    ],
    "convert_output": [through_data, by_linear_algebra, in_numpy, with_guards],
    "x_mse_weight": [weight_formulas, weight_by_measuring, weight_by_loops, weight_with_a_guard],
    "loss_over_log_snr": [loss_by_loops, loss_point_by_point, loss_by_einsum, loss_by_autograd],
    "effective_weight": [
        effective_in_closed_form,
        effective_by_exponential,
        effective_by_autograd,
        effective_by_the_library,
    ],
    "ddim_step": [ddim_by_blending, ddim_by_conversion, ddim_by_rows, ddim_by_vmap],
    "ddpm_step": [ddpm_by_log_snr, ddpm_by_renoising, ddpm_from_ddim, ddpm_by_overshooting],
    "sde_from_schedule": [sde_by_autograd, sde_by_ratio, sde_by_log_snr],
    "schedule_from_sde": [schedule_by_steps, schedule_in_numpy, schedule_by_midpoints, schedule_by_left_sums],
    "path_curvature": [
        curvature_by_loops,
        curvature_in_numpy,
        lambda x: (
            sum((b - a).flatten(1).norm(dim=1) for a, b in zip(x[:-1], x[1:])).sum()
            / (x[-1] - x[0]).flatten(1).norm(dim=1).sum()
            - 1
        ),
    ],
}
