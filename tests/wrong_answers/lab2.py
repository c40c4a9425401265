"""Wrong answers to lab 2, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.likelihood import divergence as exact_divergence
from fmlab.schedules import coefficient

FOUR = ("alpha", "beta", "alpha_dot", "beta_dot")


def vp(t, exponent=lambda s: 0.1 * s + 9.95 * s**2, half=0.5, rate=None, beta=None, alpha_dot=None, beta_dot=None):
    """The VP family with one part exchanged."""
    s = 1 - t
    alpha = torch.exp(-half * exponent(s))
    own_beta = torch.sqrt(1 - alpha**2) if beta is None else beta(alpha)
    b = 0.1 + 19.9 * s if rate is None else rate(t)
    own_dot = b / 2 * alpha if alpha_dot is None else alpha_dot(b, alpha)
    own_beta_dot = -alpha * own_dot / own_beta if beta_dot is None else beta_dot(alpha, own_dot, own_beta)
    return alpha, own_beta, own_dot, own_beta_dot


def right_schedule(t, family):
    if family == "condot":
        return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)
    if family == "cosine":
        a, b = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
        return a, b, math.pi / 2 * b, -math.pi / 2 * a
    return vp(t)


def schedule_with(change, only=None):
    """alpha_beta with `change` applied to the right (t, four values), in one family or in all."""

    def alpha_beta(t, family):
        values = right_schedule(t, family)
        return change(t, *values) if only in (None, family) else values

    return alpha_beta


def vp_with(**parts):
    return lambda t, family: vp(t, **parts) if family == "vp" else right_schedule(t, family)


def numbers_for_condot(t, family):
    return (t, 1 - t, 1.0, -1.0) if family == "condot" else right_schedule(t, family)


def shaped(schedule, t, x):
    """α, β, α̇, β̇ in the shape that multiplies x."""
    return [coefficient(getattr(schedule, name)(t), x) for name in FOUR]


def sample_with(f):
    """sample_conditional_path as a formula f of z, noise, α, β."""
    return lambda z, noise, t, schedule: f(z, noise, *shaped(schedule, t, z)[:2])


def inplace_sample(z, noise, t, schedule):
    z *= coefficient(schedule.alpha(t), z)
    return z + coefficient(schedule.beta(t), z) * noise


def unshaped_sample(z, noise, t, schedule):
    return schedule.alpha(t) * z + schedule.beta(t) * noise


def plane_only_sample(z, noise, t, schedule):
    return schedule.alpha(t)[:, None] * z + schedule.beta(t)[:, None] * noise


def marginal_with(f, noise=torch.randn_like, count=lambda n: n):
    """sample_marginal_path as a formula f of z, noise, α, β."""

    def sample_marginal_path(sample_data, n, t, schedule):
        z = sample_data(count(n))
        z = z.expand(n, *z.shape[1:]) if len(z) == 1 else z
        return f(z, noise(z), *shaped(schedule, t, z)[:2])

    return sample_marginal_path


def right_mix(z, noise, a, b):
    return a * z + b * noise


def seeded_noise(z):
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(12345))


def condot_marginal(sample_data, n, t, schedule):
    z, t = sample_data(n), torch.as_tensor(t)
    return coefficient(t, z) * z + coefficient(1 - t, z) * torch.randn_like(z)


def field_with(f):
    """conditional_vector_field as a formula f of x, z, α, β, α̇, β̇."""
    return lambda x, z, t, schedule: f(x, z, *shaped(schedule, t, x))


def unshaped_field(x, z, t, s):
    a, b, da, db = s.alpha(t), s.beta(t), s.alpha_dot(t), s.beta_dot(t)
    return (da - db / b * a) * z + db / b * x


def finite_difference_field(x, z, t, schedule, h=1e-2):
    a, b, *_ = shaped(schedule, t, x)
    noise = (x - a * z) / b
    later, _, *_ = shaped(schedule, t + h, x)
    return ((later - a) * z + (coefficient(schedule.beta(t + h), x) - b) * noise) / h


def logits(x, data, alpha, beta):
    """−‖x − α z‖²/(2β²), (n, N)."""
    difference = (x[:, None] - coefficient(alpha, x[:, None]) * data).flatten(2)
    return -difference.square().sum(2) / (2 * coefficient(beta, difference[..., 0]) ** 2)


def weights_with(f):
    """posterior_weights as a function f of the right exponents."""
    return lambda x, data, t, s: f(logits(x, data, s.alpha(t), s.beta(t)))


def naive_softmax(e):
    return e.exp() / e.exp().sum(1, keepdim=True)


def padded_softmax(e):
    return e.exp() / (e.exp().sum(1, keepdim=True) + 1e-8)


def root_logits(x, data, t, s):
    difference = (x[:, None] - coefficient(s.alpha(t), x[:, None]) * data).flatten(2)
    return (-difference.norm(dim=2) / (2 * coefficient(s.beta(t), x[:, :1]) ** 2)).softmax(1)


def unsquared_beta(x, data, t, s):
    e = logits(x, data, s.alpha(t), s.beta(t))
    return (e * coefficient(torch.as_tensor(s.beta(t)), e)).softmax(1)


def vectors_only_weights(x, data, t, s):
    a, b = coefficient(s.alpha(t), x)[..., None], coefficient(s.beta(t), x)
    return (-(x[:, None] - a * data).square().sum(2) / (2 * b**2)).softmax(1)


def unshaped_weights(x, data, t, s):
    e = logits(x, data, s.alpha(t), torch.ones(()))
    return (e / s.beta(t) ** 2).softmax(1)


def averaged(combine):
    """marginal_vector_field from the weights (n, N) and the table of velocities (n, N, *shape)."""

    def marginal_vector_field(x, data, t, weights, field):
        table = torch.stack([field(x, z.expand_as(x), t) for z in data], dim=1)
        return combine(weights, table)

    return marginal_vector_field


def spread_weights(w, table):
    return w.reshape(*w.shape, *[1] * (table.ndim - 2)) * table


def flattened_without_times(x, data, t, weights, field):
    n, count = weights.shape
    pairs = field(x.repeat_interleave(count, 0), data.repeat(n, *[1] * (x.ndim - 1)), t)
    return spread_weights(weights, pairs.unflatten(0, (n, count))).sum(1)


def off_by_one_average(x, data, t, weights, field):
    total = torch.zeros_like(x)
    for i in range(len(data) - 1):
        total = total + coefficient(weights[:, i], x) * field(x, data[i].expand_as(x), t)
    return total


def overwriting_average(x, data, t, weights, field):
    for i, z in enumerate(data):
        total = coefficient(weights[:, i], x) * field(x, z.expand_as(x), t)
    return total


def plane_only_average(x, data, t, weights, field):
    return sum(weights[:, i, None] * field(x, data[i].expand_as(x), t) for i in range(len(data)))


def jacobian(u, x, t):
    """∂u^i/∂x_j for each row, (n, d, d)."""
    x = x.detach().requires_grad_()
    values = u(x, t)
    rows = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return torch.stack(rows, 1)


def sum_of_gradients(u, x, t):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(u(x, t).sum(), x)[0].sum(1)


def gradient_of_sum(u, x, t):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(u(x, t).sum(), x)[0]


def central_differences(u, x, t, h=1e-2):
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


def change_of(density, x, t):
    t = t.detach().requires_grad_()
    return torch.autograd.grad(density(x, t).sum(), t)[0]


def gradient_of(density, x, t):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(density(x, t).sum(), x)[0]


def flow_of(density, u, x, t):
    return exact_divergence(lambda x, t: density(x, t)[:, None] * u(x, t), x, t)


def balance(f):
    """continuity_residual as a formula f of ∂_t p, div(p u), p, div u and u · ∇p."""

    def continuity_residual(density, u, x, t):
        return f(
            change_of(density, x, t),
            flow_of(density, u, x, t),
            density(x, t),
            exact_divergence(u, x, t),
            (u(x, t) * gradient_of(density, x, t)).sum(1),
        )

    return continuity_residual


def log_time(density, u, x, t):
    return change_of(lambda x, t: density(x, t).log(), x, t) + flow_of(density, u, x, t)


def one_time_for_all(density, u, x, t):
    s = torch.tensor(0.0, dtype=t.dtype, requires_grad=True)
    (change,) = torch.autograd.grad(density(x, t + s).sum(), s)
    return change + flow_of(density, u, x, t)


def detached_residual(density, u, x, t):
    return flow_of(lambda x, t: density(x, t).detach(), u, x, t) + change_of(density, x, t)


def score_with(f):
    """conditional_score as a formula f of x, z, α, β."""
    return lambda x, z, t, schedule: f(x, z, *shaped(schedule, t, x)[:2])


def unshaped_score(x, z, t, s):
    return -(x - s.alpha(t) * z) / s.beta(t) ** 2


def marginal_score_with(f):
    """marginal_score as a formula f of x, E[z | x], α, β."""

    def marginal_score(x, data, t, weights, schedule):
        return f(x, (weights @ data.flatten(1)).reshape(x.shape), *shaped(schedule, t, x)[:2])

    return marginal_score


def score_table(f):
    """marginal_score from the weights and the table of conditional scores (n, N, *shape)."""

    def marginal_score(x, data, t, weights, s):
        scores = [score_with(lambda x, z, a, b: -(x - a * z) / b**2)(x, z.expand_as(x), t, s) for z in data]
        return f(weights, torch.stack(scores, 1))

    return marginal_score


def plane_only_score(x, data, t, weights, schedule):
    a, b, *_ = shaped(schedule, t, x)
    return -(x - a * (weights @ data)) / b**2


def marginal_field_for_score(x, data, t, weights, schedule):
    a, b, da, db = shaped(schedule, t, x)
    z = (weights @ data.flatten(1)).reshape(x.shape)
    return da * z + db / b * (x - a * z)


def normal_with(f):
    """score_along_normal as a formula f of the score and x."""
    return lambda score, x, t: f(score(x, t), x)


def extension_with(f):
    """sde_extension_drift as a formula f of u, s and σ, at (x, t)."""
    return lambda u, score, sigma: lambda x, t: f(u(x, t), score(x, t), coefficient(torch.as_tensor(sigma(t)), x))


def unshaped_extension(u, score, sigma):
    return lambda x, t: u(x, t) + sigma(t) ** 2 / 2 * score(x, t)


def frozen_sigma(u, score, sigma):
    level = sigma(torch.zeros(()))
    return lambda x, t: u(x, t) + level**2 / 2 * score(x, t)


def last_one_made():
    memory = {}

    def sde_extension_drift(u, score, sigma):
        memory.update(u=u, score=score, sigma=sigma)
        return lambda x, t: memory["u"](x, t) + coefficient(memory["sigma"](t), x) ** 2 / 2 * memory["score"](x, t)

    return sde_extension_drift


def noisy_drift(u, score, sigma):
    return lambda x, t: (
        u(x, t) + coefficient(sigma(t), x) ** 2 / 2 * score(x, t) + coefficient(sigma(t), x) * torch.randn_like(x)
    )


def planck(f):
    """fokker_planck_residual as a formula f of ∂_t p, div(p b), Δp, σ, p, div s and ‖s‖²."""

    def fokker_planck_residual(density, score, drift, sigma, x, t):
        return f(
            change_of(density, x, t),
            flow_of(density, drift, x, t),
            flow_of(density, score, x, t),
            sigma,
            density(x, t),
            exact_divergence(score, x, t),
            score(x, t).square().sum(1),
        )

    return fokker_planck_residual


RIGHT_Z = score_with(lambda x, z, a, b: -(x - a * z) / b**2)

WRONG = {
    "alpha_beta": {
        "α and β exchanged": (schedule_with(lambda t, a, b, da, db: (b, a, db, da)), "exchanged"),
        "other order": (schedule_with(lambda t, a, b, da, db: (a, da, b, db)), "order should be"),
        "backwards": (lambda t, family: right_schedule(1 - t, family), ""),
        "VP backwards": (
            lambda t, family: right_schedule(1 - t if family == "vp" else t, family),
            "backwards",
        ),
        "derivatives exchanged": (schedule_with(lambda t, a, b, da, db: (a, b, db, da)), "derivatives"),
        "CondOT without derivatives' shape": (numbers_for_condot, "found the number 1"),
        "no inner derivative": (
            schedule_with(lambda t, a, b, da, db: (a, b, b, -a), only="cosine"),
            "inner derivative π/2",
        ),
        "cosine, sign of β̇": (schedule_with(lambda t, a, b, da, db: (a, b, da, -db), only="cosine"), "β falls"),
        "VP, no ½": (vp_with(half=1.0), "½ in front of T"),
        "VP, no ½ in the derivative": (vp_with(alpha_dot=lambda b, a: b * a), "½ in front of T is missing in the"),
        "VP, rate times time": (vp_with(exponent=lambda s: (0.1 + 19.9 * s) * s), "its integral"),
        "VP, rate for integral": (vp_with(exponent=lambda s: 0.1 + 19.9 * s), "not its integral"),
        "VP, sign of α̇": (vp_with(alpha_dot=lambda b, a: -b / 2 * a), "reversed time s"),
        "VP, rate at t": (vp_with(rate=lambda t: 0.1 + 19.9 * t), "b was taken at t"),
        "VP, variance for β": (vp_with(beta=lambda a: 1 - a**2), "variance"),
        "VP, β = 1 − α": (vp_with(beta=lambda a: 1 - a), "CondOT only"),
        "VP, ββ̇ for β̇": (vp_with(beta_dot=lambda a, da, b: -a * da), "division by β"),
        "VP, derivative of β²": (vp_with(beta_dot=lambda a, da, b: -2 * a * da), "derivative of β²"),
        "VP, β̇ = −α̇": (vp_with(beta_dot=lambda a, da, b: -da), "β̇ = −α̇"),
        "α and β alone": (lambda t, family: right_schedule(t, family)[:2], "four tensors"),
        "α alone": (lambda t, family: right_schedule(t, family)[0], "should come back"),
    },
    "sample_conditional_path": {
        "exchanged": (sample_with(lambda z, e, a, b: b * z + a * e), "exchanged"),
        "unshaped": (unshaped_sample, "coefficient(value, x)"),
        "variance": (sample_with(lambda z, e, a, b: a * z + b**2 * e), "standard deviation"),
        "root": (sample_with(lambda z, e, a, b: a * z + b**0.5 * e), "√β"),
        "CondOT alone": (
            lambda z, noise, t, s: coefficient(t, z) * z + (1 - coefficient(t, z)) * noise,
            "CondOT alone",
        ),
        "mean": (sample_with(lambda z, e, a, b: a * z), "noise is missing"),
        "noise unweighted": (sample_with(lambda z, e, a, b: a * z + e), "β is missing"),
        "data unweighted": (sample_with(lambda z, e, a, b: z + b * e), "α is missing"),
        "1 − α": (sample_with(lambda z, e, a, b: a * z + (1 - a) * e), "1 − α"),
        "noise drawn again": (sample_with(lambda z, e, a, b: a * z + b * torch.randn_like(z)), "two different"),
        "first time": (
            lambda z, noise, t, s: s.alpha(t)[0] * z + s.beta(t)[0] * noise,
            "first time",
        ),
        "in place": (inplace_sample, "changed a tensor"),
        "vectors only": (plane_only_sample, ""),
        "double": (sample_with(lambda z, e, a, b: (a * z + b * e).double()), "dtype"),
    },
    "sample_marginal_path": {
        "exchanged": (marginal_with(lambda z, e, a, b: b * z + a * e), "exchanged"),
        "variance": (marginal_with(lambda z, e, a, b: a * z + b**2 * e), "standard deviation"),
        "no noise": (marginal_with(lambda z, e, a, b: a * z), "noise is missing"),
        "noise unweighted": (marginal_with(lambda z, e, a, b: a * z + e), "β is missing"),
        "data unweighted": (marginal_with(lambda z, e, a, b: z + b * e), "α is missing"),
        "noise alone": (marginal_with(lambda z, e, a, b: b * e), "noise alone"),
        "one data point": (marginal_with(right_mix, count=lambda n: 1), "one data point"),
        "too many data points": (
            lambda sample_data, n, t, s: right_mix(
                sample_data(2 * n)[:n], torch.randn(n, 32), *shaped(s, t, torch.zeros(n, 32))[:2]
            ),
            "need 500 data points",
        ),
        "uniform noise": (marginal_with(right_mix, noise=torch.rand_like), "uniform"),
        "centred uniform noise": (
            marginal_with(right_mix, noise=lambda z: (torch.rand_like(z) - 0.5) * 12**0.5),
            "not Gaussian",
        ),
        "one noise for all": (marginal_with(right_mix, noise=lambda z: torch.randn(z.shape[1:])), "share one draw"),
        "one noise for all coordinates": (
            marginal_with(right_mix, noise=lambda z: torch.randn(len(z), *[1] * (z.ndim - 1)).expand(z.shape)),
            "coordinates",
        ),
        "noise twice": (
            marginal_with(right_mix, noise=lambda z: torch.randn_like(z) * torch.randn_like(z)),
            "not Gaussian",
        ),
        "seeded inside": (marginal_with(right_mix, noise=seeded_noise), "new noise"),
        "CondOT alone": (condot_marginal, "CondOT alone"),
        "data never drawn": (lambda sample_data, n, t, s: torch.randn(n, 2), "never called"),
    },
    "conditional_vector_field": {
        "CondOT alone": (lambda x, z, t, s: (z - x) / (1 - coefficient(t, x)), "CondOT alone"),
        "unshaped": (unshaped_field, "coefficient(value, x)"),
        "x for the noise": (field_with(lambda x, z, a, b, da, db: da * z + db * x), "taken for the noise"),
        "second term missing": (field_with(lambda x, z, a, b, da, db: da * z + db / b * x), "α z is missing"),
        "second term's sign": (
            field_with(lambda x, z, a, b, da, db: (da + db / b * a) * z + db / b * x),
            "wrong sign",
        ),
        "not divided": (field_with(lambda x, z, a, b, da, db: (da - db * a) * z + db * x), "not divided by β"),
        "upside down": (field_with(lambda x, z, a, b, da, db: (da - b / db * a) * z + b / db * x), "upside down"),
        "β squared": (
            field_with(lambda x, z, a, b, da, db: (da - db / b**2 * a) * z + db / b**2 * x),
            "divided by β²",
        ),
        "α and β exchanged": (
            field_with(lambda x, z, a, b, da, db: (db - da / a * b) * z + da / a * x),
            "α and β are exchanged",
        ),
        "x and z exchanged": (
            field_with(lambda x, z, a, b, da, db: (da - db / b * a) * x + db / b * z),
            "x and z are exchanged",
        ),
        "α missing": (field_with(lambda x, z, a, b, da, db: (da - db / b) * z + db / b * x), "α is missing"),
        "score": (field_with(lambda x, z, a, b, da, db: -(x - a * z) / b**2), "score, not the field"),
        "x alone": (field_with(lambda x, z, a, b, da, db: db / b * x), "term with z"),
        "finite differences": (finite_difference_field, ""),
        "sign": (field_with(lambda x, z, a, b, da, db: -(da * z + db * (x - a * z) / b)), "sign is reversed"),
    },
    "general_vector_field": {
        "mean not subtracted": (lambda x, m, s, dm, ds: ds / s * x + dm, "mean was not subtracted"),
        "motion missing": (lambda x, m, s, dm, ds: ds / s * (x - m), "motion μ̇"),
        "upside down": (lambda x, m, s, dm, ds: s / ds * (x - m) + dm, "upside down"),
        "not divided": (lambda x, m, s, dm, ds: ds * (x - m) + dm, "not divided by σ"),
        "σ squared": (lambda x, m, s, dm, ds: ds / s**2 * (x - m) + dm, "divided by σ²"),
        "σ̇ missing": (lambda x, m, s, dm, ds: (x - m) / s + dm, "σ̇ is missing"),
        "μ for μ̇": (lambda x, m, s, dm, ds: ds / s * (x - m) + m, "where μ̇ belongs"),
        "motion subtracted": (lambda x, m, s, dm, ds: ds / s * (x - m) - dm, "was subtracted"),
        "rate times everything": (lambda x, m, s, dm, ds: ds / s * (x - m + dm), "multiplies μ̇ too"),
        "turned around": (lambda x, m, s, dm, ds: ds / s * (m - x) + dm, "μ − x stands"),
        "a list of rows": (lambda x, m, s, dm, ds: list(ds / s * (x - m) + dm), "found a list"),
    },
    "posterior_weights": {
        "over the states": (weights_with(lambda e: e.softmax(0)), "over the states"),
        "transposed": (weights_with(lambda e: e.softmax(1).T), "transposed"),
        "not normalised": (weights_with(torch.exp), "not normalised"),
        "logarithms": (weights_with(lambda e: e.log_softmax(1)), "logarithms"),
        "exponents": (weights_with(lambda e: e), "before the softmax"),
        "½ missing": (weights_with(lambda e: (2 * e).softmax(1)), "factor ½"),
        "β not squared": (unsquared_beta, "β was not squared"),
        "distance not squared": (root_logits, "distance was not squared"),
        "α missing": (
            lambda x, data, t, s: logits(x, data, torch.ones_like(t), s.beta(t)).softmax(1),
            "α is missing",
        ),
        "β missing": (
            lambda x, data, t, s: logits(x, data, s.alpha(t), torch.ones_like(t)).softmax(1),
            "β is missing",
        ),
        "sign": (weights_with(lambda e: (-e).softmax(1)), "far data points"),
        "α and β exchanged": (lambda x, data, t, s: logits(x, data, s.beta(t), s.alpha(t)).softmax(1), "exchanged"),
        "mean of squares": (weights_with(lambda e: (e / 2).softmax(1)), "averaged over the coordinates"),
        "CondOT alone": (lambda x, data, t, s: logits(x, data, t, 1 - t).softmax(1), "CondOT alone"),
        "unshaped": (unshaped_weights, "coefficient(value, x)"),
        "underflow": (weights_with(naive_softmax), "rounded to 0"),
        "underflow, padded": (weights_with(padded_softmax), "do not sum to 1"),
        "vectors only": (vectors_only_weights, ""),
        "certain": (
            weights_with(lambda e: torch.nn.functional.one_hot(e.argmax(1), e.shape[1]).to(e)),
            "only the likeliest",
        ),
    },
    "marginal_vector_field": {
        "plain mean": (averaged(lambda w, table: table.mean(1)), "plain mean"),
        "plain sum": (averaged(lambda w, table: table.sum(1)), "without weights"),
        "divided by N": (averaged(lambda w, table: spread_weights(w, table).mean(1)), "sum to 1 already"),
        "likeliest only": (
            averaged(lambda w, table: table[torch.arange(len(w)), w.argmax(1)]),
            "likeliest data point",
        ),
        "average data point": (
            lambda x, data, t, w, field: field(x, (w @ data.flatten(1)).reshape(x.shape), t),
            "average data point",
        ),
        "squared": (averaged(lambda w, table: spread_weights(w**2, table).sum(1)), "squared"),
        "softmax twice": (averaged(lambda w, table: spread_weights(w.softmax(1), table).sum(1)), "softmax"),
        "denoiser": (lambda x, data, t, w, field: w @ data, "not a velocity"),
        "not paired": (lambda x, data, t, w, field: field(x, data, t), "needs pairs"),
        "times not repeated": (flattened_without_times, "each pair needs the time"),
        "last left out": (off_by_one_average, "left out"),
        "overwritten": (overwriting_average, "only the last"),
        "vectors only": (plane_only_average, ""),
        "over the states": (averaged(lambda w, table: spread_weights(w, table).sum(0)), "shape"),
    },
    "divergence": {
        "whole Jacobian": (sum_of_gradients, "whole Jacobian"),
        "gradient": (gradient_of_sum, "a column for each coordinate"),
        "one number": (lambda u, x, t: torch.einsum("nii->", jacobian(u, x, t)), "each state has a divergence"),
        "first coordinate": (lambda u, x, t: jacobian(u, x, t)[:, 0, 0], "only the first coordinate"),
        "last coordinate": (lambda u, x, t: jacobian(u, x, t)[:, -1, -1], "only the last coordinate"),
        "mean of the terms": (lambda u, x, t: jacobian(u, x, t).diagonal(dim1=1, dim2=2).mean(1), "averaged"),
        "off the diagonal": (
            lambda u, x, t: jacobian(u, x, t).sum((1, 2)) - jacobian(u, x, t).diagonal(dim1=1, dim2=2).sum(1),
            "i ≠ j",
        ),
        "curl": (lambda u, x, t: jacobian(u, x, t)[:, 1, 0] - jacobian(u, x, t)[:, 0, 1], "curl"),
        "no derivative": (lambda u, x, t: u(x, t).sum(1), "without a derivative"),
        "sign": (lambda u, x, t: -jacobian(u, x, t).diagonal(dim1=1, dim2=2).sum(1), "sign is reversed"),
        "finite differences": (central_differences, "finite differences"),
        "nothing recorded": (not_recorded, "raised RuntimeError"),
        "graph freed": (graph_freed, "raised RuntimeError"),
        "two dimensions": (two_dimensions, ""),
    },
    "continuity_residual": {
        "no time derivative": (balance(lambda c, f, p, d, g: f), "time derivative is missing"),
        "no flow": (balance(lambda c, f, p, d, g: c), "div(p u) is missing"),
        "sign of the flow": (balance(lambda c, f, p, d, g: c - f), "subtracted"),
        "sign": (balance(lambda c, f, p, d, g: -c - f), "left-hand side is reversed"),
        "p div u": (balance(lambda c, f, p, d, g: c + p * d), "changes in space too"),
        "p detached": (detached_residual, "changes in space too"),
        "div u": (balance(lambda c, f, p, d, g: c + d), "density is missing"),
        "logarithm in time": (log_time, "logarithm"),
        "divided by p": (balance(lambda c, f, p, d, g: (c + f) / p), "divided by p"),
        "gradient alone": (balance(lambda c, f, p, d, g: c + g), "p div u is missing"),
        "times added up": (one_time_for_all, "added up"),
        "absolute value": (balance(lambda c, f, p, d, g: (c + f).abs()), "absolute value"),
        "always 0": (lambda density, u, x, t: torch.zeros_like(t), "taken for the right one"),
    },
    "conditional_score": {
        "sign": (score_with(lambda x, z, a, b: (x - a * z) / b**2), "sign is missing"),
        "β not squared": (score_with(lambda x, z, a, b: -(x - a * z) / b), "β was not squared"),
        "β missing": (score_with(lambda x, z, a, b: -(x - a * z)), "β is missing"),
        "α missing": (score_with(lambda x, z, a, b: -(x - z) / b**2), "α is missing"),
        "unshaped": (unshaped_score, "coefficient(value, x)"),
        "exchanged": (score_with(lambda x, z, a, b: -(x - b * z) / a**2), "α and β are exchanged"),
        "CondOT alone": (
            lambda x, z, t, s: -(x - coefficient(t, x) * z) / (1 - coefficient(t, x)) ** 2,
            "CondOT alone",
        ),
        "½ kept": (score_with(lambda x, z, a, b: -(x - a * z) / (2 * b**2)), "factor ½"),
        "with respect to z": (score_with(lambda x, z, a, b: a * (x - a * z) / b**2), "respect to z"),
        "field": (field_with(lambda x, z, a, b, da, db: da * z + db / b * (x - a * z)), "vector field, not"),
        "log density": (score_with(lambda x, z, a, b: -((x - a * z) ** 2) / (2 * b**2)), "log density itself"),
        "one number per row": (score_with(lambda x, z, a, b: (-(x - a * z) / b**2).flatten(1).sum(1)), "shape"),
    },
    "marginal_score": {
        "plain mean": (score_table(lambda w, table: table.mean(1)), "plain mean"),
        "plain sum": (score_table(lambda w, table: table.sum(1)), "without weights"),
        "sign": (marginal_score_with(lambda x, z, a, b: (x - a * z) / b**2), "sign is missing"),
        "β not squared": (marginal_score_with(lambda x, z, a, b: -(x - a * z) / b), "β was not squared"),
        "β missing": (marginal_score_with(lambda x, z, a, b: -(x - a * z)), "β is missing"),
        "α missing": (marginal_score_with(lambda x, z, a, b: -(x - z) / b**2), "α is missing"),
        "denoiser": (marginal_score_with(lambda x, z, a, b: z), "denoiser"),
        "x missing": (marginal_score_with(lambda x, z, a, b: a * z / b**2), "without x"),
        "likeliest only": (
            score_table(lambda w, table: table[torch.arange(len(w)), w.argmax(1)]),
            "likeliest data point",
        ),
        "exchanged": (marginal_score_with(lambda x, z, a, b: -(x - b * z) / a**2), "exchanged"),
        "divided by N": (score_table(lambda w, table: spread_weights(w, table).mean(1)), "sum to 1 already"),
        "field": (marginal_field_for_score, "marginal field"),
        "mean of the data": (
            lambda x, data, t, w, s: RIGHT_Z(x, data.mean(0).expand_as(x), t, s),
            "plain mean over the data",
        ),
        "vectors only": (plane_only_score, ""),
    },
    "score_along_normal": {
        "not normalised": (normal_with(lambda s, x: (s * x).sum(1)), "a normal has length 1"),
        "squared length": (normal_with(lambda s, x: (s * x).sum(1) / x.square().sum(1)), "squared length"),
        "length": (normal_with(lambda s, x: s.norm(dim=1)), "length of the score"),
        "along the circle": (
            normal_with(lambda s, x: (s[:, 1] * x[:, 0] - s[:, 0] * x[:, 1]) / x.norm(dim=1)),
            "along the circle",
        ),
        "inwards": (normal_with(lambda s, x: -(s * x).sum(1) / x.norm(dim=1)), "sign is reversed"),
        "absolute value": (normal_with(lambda s, x: ((s * x).sum(1) / x.norm(dim=1)).abs()), "absolute value"),
        "cosine": (normal_with(lambda s, x: torch.cosine_similarity(s, x)), "cosine"),
        "vectors": (normal_with(lambda s, x: s * x / x.norm(dim=1, keepdim=True)), "inner product"),
        "length of the batch": (normal_with(lambda s, x: (s * x).sum(1) / x.norm()), "whole batch"),
        "mean": (normal_with(lambda s, x: (s * x).mean(1) / x.norm(dim=1)), "averaged"),
        "time forgotten": (lambda score, x, t: (score(x, 1.0) * x).sum(1) / x.norm(dim=1), "another time"),
    },
    "sde_extension_drift": {
        "½ missing": (extension_with(lambda u, s, g: u + g**2 * s), "½ is missing"),
        "σ not squared": (extension_with(lambda u, s, g: u + g / 2 * s), "σ was not squared"),
        "σ missing": (extension_with(lambda u, s, g: u + s / 2), "σ is missing"),
        "sign": (extension_with(lambda u, s, g: u - g**2 / 2 * s), "subtracted"),
        "u missing": (extension_with(lambda u, s, g: g**2 / 2 * s), "Langevin"),
        "score missing": (extension_with(lambda u, s, g: u + g**2 / 2), "score is missing"),
        "flow alone": (extension_with(lambda u, s, g: u), "flow alone"),
        "unshaped": (unshaped_extension, "coefficient(value, x)"),
        "exchanged": (extension_with(lambda u, s, g: s + g**2 / 2 * u), "exchanged"),
        "factor on both": (extension_with(lambda u, s, g: g**2 / 2 * (u + s)), "multiplies u too"),
        "σ at time 0": (frozen_sigma, "at time 0"),
        "half squared": (extension_with(lambda u, s, g: u + (g / 2) ** 2 * s), "½ was squared"),
        "noise inside": (noisy_drift, "random"),
        "not a function": (lambda u, score, sigma: torch.zeros(3), "a function of (x, t)"),
        "x alone": (lambda u, score, sigma: lambda x: u(x, 0.0), "when called with (x, t)"),
        "shared memory": (last_one_made(), ""),
    },
    "fokker_planck_residual": {
        "noise missing": (planck(lambda c, f, lap, g, p, d, q: c + f), "continuity equation"),
        "½ missing": (planck(lambda c, f, lap, g, p, d, q: c + f - g**2 * lap), "½ is missing"),
        "σ not squared": (planck(lambda c, f, lap, g, p, d, q: c + f - g / 2 * lap), "σ was not squared"),
        "sign of the noise": (planck(lambda c, f, lap, g, p, d, q: c + f + g**2 / 2 * lap), "noise has the wrong"),
        "Laplacian of log p": (planck(lambda c, f, lap, g, p, d, q: c + f - g**2 / 2 * d), "Laplacian of log p"),
        "p times that": (planck(lambda c, f, lap, g, p, d, q: c + f - g**2 / 2 * p * d), "lacks p ‖∇ log p‖²"),
        "square alone": (planck(lambda c, f, lap, g, p, d, q: c + f - g**2 / 2 * p * q), "lacks p div"),
        "no time derivative": (planck(lambda c, f, lap, g, p, d, q: f - g**2 / 2 * lap), "time derivative"),
        "no drift": (planck(lambda c, f, lap, g, p, d, q: c - g**2 / 2 * lap), "drift is missing"),
        "sign": (planck(lambda c, f, lap, g, p, d, q: -c - f + g**2 / 2 * lap), "left-hand side is reversed"),
        "divided by p": (planck(lambda c, f, lap, g, p, d, q: (c + f - g**2 / 2 * lap) / p), "divided by p"),
        "half squared": (planck(lambda c, f, lap, g, p, d, q: c + f - (g / 2) ** 2 * lap), "½ was squared"),
        "drift subtracted": (planck(lambda c, f, lap, g, p, d, q: c - f - g**2 / 2 * lap), "was subtracted"),
        "always 0": (lambda density, score, drift, sigma, x, t: torch.zeros_like(t), "taken for the right one"),
    },
}
