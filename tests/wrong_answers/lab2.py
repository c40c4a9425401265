"""Wrong answers to lab 2 that are no mistakes on a card: another kind, dtype or shape, a network or a time that is
handled wrongly, a formula that holds here and there.

exercise → what is wrong → (answer, words that the verdict must contain).
"""

import math

import torch
from torch import distributions as td

from fmlab.likelihood import divergence as exact_divergence
from fmlab.schedules import Cosine, coefficient

PLANE = "fits points of the plane alone"
NEARLY = "nearly right"


# --- schedules and samples --------------------------------------------------------------------------------------------


def right_schedule(t, family):
    if family == "condot":
        return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)
    if family == "cosine":
        a, b = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
        return a, b, math.pi / 2 * b, -math.pi / 2 * a
    s = 1 - t
    a = torch.exp(-0.05 * s - 4.975 * s**2)
    b, da = (1 - a**2).sqrt(), (0.1 + 19.9 * s) / 2 * a
    return a, b, da, -a * da / b


def numbers_for_condot(t, family):
    return (t, 1 - t, 1.0, -1.0) if family == "condot" else right_schedule(t, family)


def vp_by_differences(t, family, h=1e-3):
    a, b, *_ = right_schedule(t, family)
    before, earlier, *_ = right_schedule(t - h, family)
    return a, b, (a - before) / h, (b - earlier) / h


def shifted_in_place(t, family):
    if family == "vp":
        t -= 1e-4
    return right_schedule(t, family)


def shaped(schedule, t, x):
    """α, β, α̇, β̇ in the shape that multiplies x."""
    return schedule.weights(t, x)


def right_sample(z, noise, t, schedule):
    a, b, *_ = shaped(schedule, t, z)
    return a * z + b * noise


def noise_again(z, noise, t, schedule):
    return right_sample(z, torch.randn_like(z), t, schedule)


def inplace_sample(z, noise, t, schedule):
    z *= coefficient(schedule.alpha(t), z)
    return z + coefficient(schedule.beta(t), z) * noise


def sample_of_plane(z, noise, t, schedule):
    """A column for every t."""
    a, b = (torch.as_tensor(f(t)).reshape(-1, 1) for f in (schedule.alpha, schedule.beta))
    return (a * z + b * noise).to(z)


def sample_of_images(z, noise, t, schedule):
    a, b = (torch.as_tensor(f(t)).reshape(-1, 1, 1, 1) for f in (schedule.alpha, schedule.beta))
    return (a * z + b * noise).to(z)


def sample_of_times(z, noise, t, schedule):
    """Times are a tensor of shape (n,) always."""
    a, b = (f(t).view(len(z), *[1] * (z.ndim - 1)) for f in (schedule.alpha, schedule.beta))
    return a * z + b * noise


def marginal_with(f=lambda z, e, a, b: a * z + b * e, noise=torch.randn_like, count=lambda n: n):
    """sample_marginal_path as a formula f of z, noise, α, β."""

    def sample_marginal_path(sample_data, n, t, schedule):
        z = sample_data(count(n))
        z = z.expand(n, *z.shape[1:]) if len(z) == 1 else z[:n]
        return f(z, noise(z), *shaped(schedule, t, z)[:2])

    return sample_marginal_path


def seeded_noise(z):
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(12345))


def seeded_at_the_top(sample_data, n, t, schedule):
    torch.manual_seed(0)
    return marginal_with()(sample_data, n, t, schedule)


def seeded_between(sample_data, n, t, schedule):
    z = sample_data(n)
    torch.manual_seed(0)
    return marginal_with()(lambda n: z, n, t, schedule)


def mirrored(z):
    half = torch.randn_like(z[: (len(z) + 1) // 2])
    return torch.stack([half, -half], 1).flatten(0, 1)[: len(z)]


# --- fields -----------------------------------------------------------------------------------------------------------


def field_with(f):
    """conditional_vector_field as a formula f of x, z, α, β, α̇, β̇."""
    return lambda x, z, t, schedule: f(x, z, *shaped(schedule, t, x))


def right_field(x, z, a, b, da, db):
    return da * z + db / b * (x - a * z)


def finite_difference_field(x, z, t, schedule, h=1e-3):
    a, b, *_ = shaped(schedule, t, x)
    later, less, *_ = shaped(schedule, t + h, x)
    return ((later - a) * z + (less - b) * (x - a * z) / b) / h


def through_log_snr(x, z, t, schedule):
    """α̇/α x − (λ̇/2) (x − α z), which is no number where α = 0."""
    a, _, da, _ = shaped(schedule, t, x)
    return da / a * x - coefficient(schedule.log_snr_dot(t), x).to(x) / 2 * (x - a * z)


def plane_columns(schedule, t):
    parts = schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot
    return [torch.as_tensor(part(t)).reshape(-1, 1) for part in parts]


def scale_of_first_row(x, mean, scale, mean_dot, scale_dot):
    rate = scale_dot / scale
    return (rate[0] if rate.ndim else rate) * (x - mean) + mean_dot


def scale_as_column(x, mean, scale, mean_dot, scale_dot):
    return (scale_dot / scale).reshape(-1, 1) * (x - mean) + mean_dot


def general_in_place(x, mean, scale, mean_dot, scale_dot):
    x -= mean
    return scale_dot / scale * x + mean_dot


# --- posterior averages -----------------------------------------------------------------------------------------------


def logits(x, data, a, b):
    """−‖x − α z‖²/(2β²), (n, N), with α and β as they come from a schedule."""
    difference = (x[:, None] - coefficient(a, x[:, None]) * data).flatten(2)
    return -difference.square().sum(2) / (2 * coefficient(b, difference[..., 0]) ** 2)


def weights_with(change=lambda b: b, finish=lambda e: e.softmax(1)):
    """posterior_weights with another β, or another end."""
    return lambda x, data, t, s: finish(logits(x, data, s.alpha(t), change(s.beta(t))))


def last_axis_weights(x, data, t, s):
    x = x[:, None]
    squares = (x - coefficient(s.alpha(t), x) * data).square().sum(-1)
    return (-squares / (2 * coefficient(s.beta(t), squares) ** 2)).softmax(1)


def plane_weights(x, data, t, s):
    a, b = (torch.as_tensor(f(t)).reshape(-1, 1) for f in (s.alpha, s.beta))
    return (-(x[:, None] - a[:, None] * data).square().sum(2) / (2 * b**2)).softmax(1).to(x)


def cdist_weights(x, data, t, s):
    """For points alone: the distances of images are tables themselves."""
    a, b = (torch.as_tensor(f(t)).reshape(-1, 1) for f in (s.alpha, s.beta))
    return (-((a * torch.cdist((x / a).to(x), data)) ** 2) / (2 * b**2)).softmax(1).to(x)


def averaged(combine):
    """marginal_vector_field from the weights (n, N, 1, …) and the table of velocities (n, N, *shape)."""

    def marginal_vector_field(x, data, t, weights, field):
        table = torch.stack([field(x, z.expand_as(x), t) for z in data], dim=1)
        return combine(weights.reshape(*weights.shape, *[1] * (x.ndim - 1)), table)

    return marginal_vector_field


def flattened_without_times(x, data, t, weights, field):
    n, count = weights.shape
    pairs = field(x.repeat_interleave(count, 0), data.repeat(n, *[1] * (x.ndim - 1)), t)
    return (weights[..., None] * pairs.unflatten(0, (n, count)).flatten(2)).sum(1).reshape(x.shape)


def average_at_shaped_times(x, data, t, weights, field):
    t = coefficient(torch.as_tensor(t), x)
    return sum(coefficient(w, x) * field(x, z.expand_as(x), t) for z, w in zip(data, weights.T))


def average_by_product(x, data, t, weights, field):
    """A matrix product of weights and velocities, for points of the plane alone."""
    table = torch.stack([field(x, z.expand_as(x), t) for z in data], dim=1)
    return (weights[:, None] @ table)[:, 0]


def average_at(time):
    return lambda x, data, t, weights, field: sum(
        coefficient(w, x) * field(x, z.expand_as(x), time(t)) for z, w in zip(data, weights.T)
    )


# --- divergences and residuals ----------------------------------------------------------------------------------------


def jacobian(u, x, t):
    """∂u^i/∂x_j for each row, (n, d, d)."""
    x = x.detach().requires_grad_()
    values = u(x, t)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1)


def central_differences(u, x, t, h=1e-3):
    total = 0
    for i in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, i] = h
        total = total + (u(x + e, t) - u(x - e, t))[:, i] / (2 * h)
    return total


def not_recorded(u, x, t):
    values = u(x, t)
    return torch.autograd.grad(values[:, 0].sum(), x)[0][:, 0]


def graph_freed(u, x, t):
    x = x.detach().requires_grad_()
    values = u(x, t)
    return sum(torch.autograd.grad(values[:, i].sum(), x)[0][:, i] for i in range(x.shape[1]))


def two_dimensions(u, x, t):
    rows = jacobian(u, x, t)
    return rows[:, 0, 0] + rows[:, 1, 1]


def trace(u, x, t):
    return jacobian(u, x, t).diagonal(dim1=1, dim2=2).sum(1)


def change_of(density, x, t):
    t = t.detach().requires_grad_()
    return torch.autograd.grad(density(x, t).sum(), t)[0]


def flow_of(density, u, x, t):
    return exact_divergence(lambda x, t: density(x, t)[:, None] * u(x, t), x, t)


def detached_residual(density, u, x, t):
    return flow_of(lambda x, t: density(x, t).detach(), u, x, t) + change_of(density, x, t)


def unshaped_residual(density, u, x, t):
    return change_of(density, x, t) + exact_divergence(lambda x, t: density(x, t) * u(x, t), x, t)


def differences_in_time(density, u, x, t, h=1e-3):
    return (density(x, t + h) - density(x, t)) / h + flow_of(density, u, x, t)


def residual_at_shaped_times(density, u, x, t):
    s = t[:, None].detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, s).sum(), s)
    return change[:, 0] + flow_of(density, u, x, t)


# --- scores -----------------------------------------------------------------------------------------------------------


def score_with(f):
    """conditional_score as a formula f of x, z, α, β."""
    return lambda x, z, t, schedule: f(x, z, *shaped(schedule, t, x)[:2])


def marginal_score_with(f):
    """marginal_score as a formula f of x, E[z | x], α, β."""

    def marginal_score(x, data, t, weights, schedule):
        return f(x, (weights @ data.flatten(1)).reshape(x.shape), *shaped(schedule, t, x)[:2])

    return marginal_score


def right_score(x, z, a, b):
    return -(x - a * z) / b**2


def plane_score(x, data, t, weights, schedule):
    a, b, *_ = shaped(schedule, t, x)
    return -(x - a * (weights @ data)) / b**2


def columns_score(x, data, t, weights, schedule):
    a, b, *_ = plane_columns(schedule, t)
    return (-(x - a * (weights @ data.flatten(1)).reshape(x.shape)) / b**2).to(x)


def score_by_differences(x, data, t, weights, schedule, h=1e-2):
    """Of the log density, in the first two coordinates as in all others."""

    def log_density(y):
        a, b, *_ = shaped(schedule, t, y)
        logs = [td.Normal(a * z, b).log_prob(y).flatten(1).sum(1) for z in data]
        return torch.stack(logs).logsumexp(0)

    total = torch.zeros_like(x).flatten(1)
    for i in range(total.shape[1]):
        e = torch.zeros_like(total)
        e[:, i] = h
        e = e.reshape(x.shape)
        total[:, i] = (log_density(x + e) - log_density(x - e)) / (2 * h)
    return total.reshape(x.shape)


def normal_by_angle(score, x, t):
    angle = torch.atan2(x[:, 1], x[:, 0])
    return (score(x, t) * torch.stack([angle.cos(), angle.sin()], 1)).sum(1)


def normal_at_shaped_time(score, x, t):
    return (score(x, coefficient(torch.as_tensor(t), x)) * x).sum(1) / x.norm(dim=1)


# --- noise ------------------------------------------------------------------------------------------------------------


def extension_with(f):
    """sde_extension_drift as a formula f of u, s and σ, at (x, t)."""
    return lambda u, score, sigma: lambda x, t: f(u(x, t), score(x, t), coefficient(sigma(t), x))


def right_drift(u, s, g):
    return u + g**2 / 2 * s


def drift_at_shaped_time(u, score, sigma):
    def drift(x, t):
        t = coefficient(torch.as_tensor(t), x)
        return u(x, t) + sigma(t) ** 2 / 2 * score(x, t)

    return drift


def drift_of_plane(u, score, sigma):
    return lambda x, t: (u(x, t) + torch.as_tensor(sigma(t)).reshape(-1, 1) ** 2 / 2 * score(x, t)).to(x)


def last_one_made():
    memory = {}

    def sde_extension_drift(u, score, sigma):
        memory.update(u=u, score=score, sigma=sigma)
        return lambda x, t: memory["u"](x, t) + coefficient(memory["sigma"](t), x) ** 2 / 2 * memory["score"](x, t)

    return sde_extension_drift


def planck_of(density, score, drift, sigma, x, t):
    return change_of(density, x, t) + flow_of(density, lambda x, t: drift(x, t) - sigma**2 / 2 * score(x, t), x, t)


def planck_with_own_noise(density, score, drift, sigma, x, t):
    return planck_of(density, score, drift, 1.3, x, t)


def planck_with_plane_score(density, score, drift, sigma, x, t):
    """The Laplacian of two dimensions."""
    p, s = density(x, t), score(x, t)
    rows = jacobian(score, x, t)
    spread = p * (rows[:, 0, 0] + rows[:, 1, 1] + s.square().sum(1))
    return change_of(density, x, t) + flow_of(density, drift, x, t) - sigma**2 / 2 * spread


def planck_at_one_time(density, score, drift, sigma, x, t):
    return planck_of(density, score, drift, sigma, x, t[:1].expand(len(x)))


WRONG = {
    "alpha_beta": {
        "CondOT without derivatives' shape": (numbers_for_condot, "found the number 1"),
        "α and β alone": (lambda t, family: right_schedule(t, family)[:2], "4 values in this order"),
        "α alone": (lambda t, family: right_schedule(t, family)[0], "should come back"),
        "a dictionary": (
            lambda t, family: dict(zip("abcd", right_schedule(t, family))),
            "found a dictionary",
        ),
        "finite differences": (vp_by_differences, NEARLY),
        "in place": (shifted_in_place, "changed a tensor"),
        "single precision": (lambda t, family: [v.float() for v in right_schedule(t, family)], "dtype"),
        "flat": (lambda t, family: [v.flatten() for v in right_schedule(t, family)], "should have shape"),
        "one family for all": (lambda t, family: right_schedule(t, "cosine"), ""),
        "first time": (lambda t, family: right_schedule(t.flatten()[:1], family), "should have shape"),
        "of numbers": (lambda t, family: right_schedule(torch.tensor(math.fsum(t)), family), "shape"),
    },
    "sample_conditional_path": {
        "noise drawn again": (noise_again, "random numbers of its own"),
        "in place": (inplace_sample, "changed a tensor"),
        "double": (lambda *args: right_sample(*args).double(), "dtype"),
        "single": (lambda *args: right_sample(*args).float(), "dtype"),
        "columns": (sample_of_plane, PLANE),
        "images alone": (sample_of_images, "should have shape"),
        "times alone": (sample_of_times, "invalid for input of size 1"),
        "flat": (lambda *args: right_sample(*args).flatten(1), "should have shape"),
        "both parts": (
            lambda z, e, t, s: (shaped(s, t, z)[0] * z, shaped(s, t, z)[1] * e),
            "found a tuple",
        ),
        "cosine alone": (lambda z, e, t, s: right_sample(z, e, t, Cosine()), ""),
        "later": (lambda z, e, t, s: right_sample(z, e, t * 0.999, s), NEARLY),
    },
    "sample_marginal_path": {
        "one data point": (marginal_with(count=lambda n: 1), "one data point"),
        "too many data points": (marginal_with(count=lambda n: 2 * n), "data points, but"),
        "one noise for all": (marginal_with(noise=lambda z: torch.randn(z.shape[1:])), "share one draw"),
        "noise twice": (marginal_with(noise=lambda z: torch.randn_like(z) * torch.randn_like(z)), "fourth power"),
        "mirrored noise": (marginal_with(noise=mirrored), "neighbouring rows"),
        "seeded noise": (marginal_with(noise=seeded_noise), "is a seed set inside"),
        "seeded at the top": (seeded_at_the_top, "is a seed set inside"),
        "seeded between": (seeded_between, "is a seed set inside"),
        "data never drawn": (lambda sample_data, n, t, s: torch.randn(n, 2), "never called"),
        "data and noise": (lambda sample_data, n, t, s: (sample_data(n), torch.randn(n, 2)), "found a tuple"),
        "points alone": (
            lambda sample_data, n, t, s: marginal_with()(sample_data, n, t, s).flatten(1)[:, :2],
            "should have shape",
        ),
        "a mean over the data": (
            lambda sample_data, n, t, s: marginal_with()(lambda n: sample_data(n).mean(0, keepdim=True), n, t, s),
            "the weight of the data",
        ),
    },
    "conditional_vector_field": {
        "finite differences": (finite_difference_field, NEARLY),
        "a guard of 1e-4": (field_with(lambda x, z, a, b, da, db: right_field(x, z, a, b + 1e-4, da, db)), NEARLY),
        "β kept above 0.05": (
            field_with(lambda x, z, a, b, da, db: right_field(x, z, a, b.clamp(min=0.05), da, db)),
            "",
        ),
        "through the log-SNR": (through_log_snr, "divides by α"),
        "columns": (lambda x, z, t, s: right_field(x, z, *plane_columns(s, t)).to(x), "shape"),
        "single": (field_with(lambda *terms: right_field(*terms).float()), "dtype"),
        "flat": (field_with(lambda *terms: right_field(*terms).flatten(1)), "should have shape"),
        "a list of rows": (field_with(lambda *terms: list(right_field(*terms))), "found a list"),
        "a function": (lambda x, z, t, s: lambda x, t: right_field(x, z, *shaped(s, t, x)), "found a function"),
    },
    "general_vector_field": {
        "a list of rows": (lambda x, m, s, dm, ds: list(ds / s * (x - m) + dm), "found a list"),
        "first row's rate": (scale_of_first_row, ""),
        "columns": (scale_as_column, "shape"),
        "in place": (general_in_place, "changed a tensor"),
        "single": (lambda x, m, s, dm, ds: (ds / s * (x - m) + dm).float(), "dtype"),
        "a guard of 1e-4": (lambda x, m, s, dm, ds: ds / (s + 1e-4) * (x - m) + dm, NEARLY),
    },
    "posterior_weights": {
        "last axis alone": (last_axis_weights, "should have shape"),
        "points alone": (plane_weights, "shape"),
        "cdist of images": (cdist_weights, "shape"),
        "a guard of 1e-4": (weights_with(lambda b: (b**2 + 1e-4) ** 0.5), NEARLY),
        "β kept above 0.05": (weights_with(lambda b: b.clamp(min=0.05)), ""),
        "single": (weights_with(finish=lambda e: e.softmax(1).float()), "dtype"),
        "rounded": (weights_with(finish=lambda e: (e.softmax(1) * 100).round() / 100), NEARLY),
        "likeliest by name": (weights_with(finish=lambda e: e.argmax(1)), "should have shape"),
    },
    "marginal_vector_field": {
        "not paired": (lambda x, data, t, w, field: field(x, data, t), "needs pairs"),
        "times not repeated": (flattened_without_times, "needs that of its state"),
        "times shaped": (average_at_shaped_times, "needs that of its state"),
        "over the states": (averaged(lambda w, table: (w * table).sum(0)), "shape"),
        "not summed": (averaged(lambda w, table: w * table), "should have shape"),
        "points alone": (average_by_product, ""),
        "at time 0": (average_at(lambda t: 0.0), ""),
        "single": (lambda *args: averaged(lambda w, v: (w * v).sum(1))(*args).float(), "dtype"),
    },
    "divergence": {
        "finite differences": (central_differences, NEARLY),
        "nothing recorded": (not_recorded, "raised RuntimeError"),
        "graph freed": (graph_freed, "raised RuntimeError"),
        "two dimensions": (two_dimensions, "only the first two coordinates"),
        "time shaped": (lambda u, x, t: trace(u, x, coefficient(torch.as_tensor(t), x)), "hand t on as it came"),
        "time forgotten": (lambda u, x, t: trace(u, x, 1.0), ""),
        "a column": (lambda u, x, t: trace(u, x, t)[:, None], "should have shape"),
        "double": (lambda u, x, t: trace(u, x, t).double(), "dtype"),
        "(t, x)": (lambda u, x, t: trace(lambda x, t: u(t, x), x, t), "are the two exchanged"),
        "a list": (lambda u, x, t: list(trace(u, x, t)), "found a list"),
        "NumPy": (lambda u, x, t: trace(u, x, t).numpy(), "found a NumPy array"),
    },
    "continuity_residual": {
        "p detached": (detached_residual, "changes in space too"),
        "p not shaped": (unshaped_residual, "density(x, t)[:, None]"),
        "differences in time": (differences_in_time, NEARLY),
        "times shaped": (residual_at_shaped_times, "hand t on as it came"),
        "double": (lambda *args: (change_of(args[0], *args[2:]) + flow_of(*args)).double(), "dtype"),
        "one number": (lambda *args: (change_of(args[0], *args[2:]) + flow_of(*args)).abs().max(), "should have shape"),
    },
    "conditional_score": {
        "one number per row": (score_with(lambda *terms: right_score(*terms).flatten(1).sum(1)), "shape"),
        "a guard of 1e-4": (score_with(lambda x, z, a, b: (a * z - x) / (b**2 + 1e-4)), NEARLY),
        "a guard of 1e-6": (score_with(lambda x, z, a, b: (a * z - x) / (b**2 + 1e-6)), NEARLY),
        "β kept above 0.05": (score_with(lambda x, z, a, b: right_score(x, z, a, b.clamp(min=0.05))), ""),
        "columns": (lambda x, z, t, s: right_score(x, z, *plane_columns(s, t)[:2]).to(x), "shape"),
        "single": (score_with(lambda *terms: right_score(*terms).float()), "dtype"),
    },
    "marginal_score": {
        "points alone": (plane_score, ""),
        "columns": (columns_score, "shape"),
        "finite differences": (score_by_differences, NEARLY),
        "a guard of 1e-4": (marginal_score_with(lambda x, z, a, b: (a * z - x) / (b**2 + 1e-4)), NEARLY),
        "single": (marginal_score_with(lambda *terms: right_score(*terms).float()), "dtype"),
        "mean of the data": (
            lambda x, data, t, w, s: right_score(x, data.mean(0).expand_as(x), *shaped(s, t, x)[:2]),
            "plain mean over the data",
        ),
        "likeliest data point": (
            lambda x, data, t, w, s: right_score(x, data[w.argmax(1)], *shaped(s, t, x)[:2]),
            "likeliest data point",
        ),
    },
    "score_along_normal": {
        "the plane alone": (normal_by_angle, "must match the size of tensor"),
        "time shaped": (normal_at_shaped_time, "hand t on as it came"),
        "a guard of 1e-4": (lambda score, x, t: (score(x, t) * x).sum(1) / (x.norm(dim=1) + 1e-4), NEARLY),
        "(t, x)": (lambda score, x, t: (score(t, x) * x).sum(1) / x.norm(dim=1), "are the two exchanged"),
        "a matrix": (lambda score, x, t: score(x, t) @ x.T / x.norm(dim=1), "should have shape"),
        "single": (lambda score, x, t: ((score(x, t) * x).sum(1) / x.norm(dim=1)).float(), "dtype"),
        "not called": (lambda score, x, t: score, "found a function"),
    },
    "sde_extension_drift": {
        "noise inside": (
            extension_with(lambda u, s, g: right_drift(u, s, g) + g * torch.randn_like(u)),
            "random numbers of its own",
        ),
        "not a function": (lambda u, score, sigma: torch.zeros(3), "a function should be returned"),
        "x alone": (lambda u, score, sigma: lambda x: u(x, 0.0), "takes 1 positional argument"),
        "(t, x)": (
            lambda u, score, sigma: lambda t, x: extension_with(right_drift)(u, score, sigma)(x, t),
            "are the two exchanged",
        ),
        "shared memory": (last_one_made(), ""),
        "time shaped": (drift_at_shaped_time, "hand t on as it came"),
        "columns": (drift_of_plane, "shape"),
        "σ as a number": (
            lambda u, score, sigma: lambda x, t: u(x, t) + sigma**2 / 2 * score(x, t),
            "unsupported operand",
        ),
        "σ at time 0.5": (
            lambda u, score, sigma: lambda x, t: u(x, t) + sigma(0.5) ** 2 / 2 * score(x, t),
            "",
        ),
        "u at time 0": (
            lambda u, score, sigma: lambda x, t: u(x, 0.0) + coefficient(sigma(t), x) ** 2 / 2 * score(x, t),
            "",
        ),
        "single": (extension_with(lambda u, s, g: right_drift(u, s, g).float()), "dtype"),
        "drift and noise": (
            lambda u, score, sigma: (extension_with(right_drift)(u, score, sigma), sigma),
            "should be a function, found a tuple",
        ),
    },
    "fokker_planck_residual": {
        "the check's own σ": (planck_with_own_noise, ""),
        "two dimensions": (planck_with_plane_score, ""),
        "first time": (planck_at_one_time, ""),
        "double": (lambda *args: planck_of(*args).double(), "dtype"),
        "one number": (lambda *args: planck_of(*args).sum(), "should have shape"),
        "σ as a function": (
            lambda density, score, drift, sigma, x, t: planck_of(density, score, drift, sigma(t), x, t),
            "is not callable",
        ),
    },
}
