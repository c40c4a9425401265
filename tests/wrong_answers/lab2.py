"""Wrong answers to lab 2 that are no mistakes on a card: another kind or shape, a function or a time that is handled
wrongly, a formula that holds here and there, a guard that is too large.

exercise → what is wrong → (answer, words that the verdict must contain).
"""

import copy

import torch

from fmlab.exercises.lab2 import balance, jacobian, squares, values
from fmlab.schedules import coefficient

NEARLY = "nearly right"


def shaped(t, x):
    return coefficient(torch.as_tensor(t), x)


def guarded(answer, change=lambda b: b + 1e-4):
    """An answer for which the schedule's β is another one."""

    def changed(*args):
        *given, schedule = args
        other = copy.copy(schedule)
        object.__setattr__(other, "beta", lambda t: change(schedule.beta(t)))
        return answer(*given, other)

    return changed


def clamped(answer):
    return guarded(answer, lambda b: b.clamp(min=0.05))


def by_differences(t, family, h=1e-3):
    now, before = values(t, family)[:2], values(t - h, family)[:2]
    return *now, *((a - b) / h for a, b in zip(now, before))


def sample(z, noise, t, schedule):
    a, b, *_ = schedule.weights(t, z)
    return a * z + b * noise


def marginal_with(noise=torch.randn_like, count=lambda n: n, data=lambda z: z):
    """sample_marginal_path with another noise, or other data points."""

    def sample_marginal_path(sample_data, n, t, schedule):
        z = data(sample_data(count(n)))
        z = z.expand(n, *z.shape[1:]) if len(z) == 1 else z[:n]
        return sample(z, noise(z), t, schedule)

    return sample_marginal_path


def seeded(z):
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(1))


def field(x, z, t, schedule):
    a, b, da, db = schedule.weights(t, x)
    return da * z + db / b * (x - a * z)


def of_two(x, t, m, noise=lambda b: b):
    """The field of two points, with another noise in the posterior."""
    return (m * torch.tanh(m * t * x / noise(1 - t) ** 2) - x) / (1 - t)


def weights(x, data, t, schedule):
    d = squares(x, data, schedule.alpha(t))
    return (-d / (2 * coefficient(schedule.beta(t), d) ** 2)).softmax(1)


def cdist_weights(x, data, t, schedule):
    """For points alone: the distances of images are tables themselves."""
    a, b, *_ = schedule.weights(t, x)
    return (-((a * torch.cdist(x / a, data)) ** 2) / (2 * b**2)).softmax(1)


def average(time=lambda t, x: t, end=lambda pairs: pairs.sum(1)):
    """marginal_vector_field with another time, or another end of weights times velocities, (n, N, *shape)."""

    def marginal_vector_field(x, data, t, weights, field):
        pairs = [coefficient(w, x) * field(x, z.expand_as(x), time(t, x)) for z, w in zip(data, weights.T)]
        return end(torch.stack(pairs, 1))

    return marginal_vector_field


def times_not_repeated(x, data, t, weights, field):
    n, count = weights.shape
    pairs = field(x.repeat_interleave(count, 0), data.repeat(n, *[1] * (x.ndim - 1)), t)
    return (weights[..., None] * pairs.unflatten(0, (n, count)).flatten(2)).sum(1).reshape(x.shape)


def score(x, z, t, schedule):
    a, b, *_ = schedule.weights(t, x)
    return (a * z - x) / b**2


def trace(u, x, t):
    return jacobian(u, x, t)[1].sum(1)


def central_differences(u, x, t, h=1e-3):
    steps = h * torch.eye(x.shape[1], dtype=x.dtype)
    return sum((u(x + e, t) - u(x - e, t))[:, i] / (2 * h) for i, e in enumerate(steps))


def drift(f=lambda u, s, g: u + g**2 / 2 * s, time=lambda t, x: t, noise=lambda sigma, t: sigma(t)):
    """sde_extension_drift as a formula f of u, s and σ, with u and s at another time, or another σ."""
    return lambda u, score, sigma: (
        lambda x, t: f(u(x, time(t, x)), score(x, time(t, x)), coefficient(noise(sigma, t), x))
    )


def last_one_made():
    memory = {}
    return lambda *args: memory.update(args=args) or (lambda x, t: drift()(*memory["args"])(x, t))


def planck(density, score, drift, sigma, x, t):
    return sum(balance(density, lambda x, t: drift(x, t) - sigma**2 / 2 * score(x, t), x, t)[:2])


WRONG = {
    "alpha_beta": {
        "numbers for CondOT": (lambda t, f: (t, 1 - t, 1.0, -1.0) if f == "condot" else values(t, f), "the number 1"),
        "α and β alone": (lambda t, family: values(t, family)[:2], "4 values in this order"),
        "one family for all": (lambda t, family: values(t, "cosine"), ""),
        "finite differences": (by_differences, NEARLY),
        "in place": (lambda t, family: values(t.sub_(1e-4), family), "changed a tensor"),
        "flat": (lambda t, family: [v.flatten() for v in values(t, family)], "should have shape"),
    },
    "sample_marginal_path": {
        "one data point": (marginal_with(count=lambda n: 1), "one data point"),
        "too many data points": (marginal_with(count=lambda n: 2 * n), "data points, but"),
        "one noise for all": (marginal_with(lambda z: torch.randn(z.shape[1:])), "share one draw"),
        "noise times noise": (marginal_with(lambda z: torch.randn_like(z) * torch.randn_like(z)), "fourth power"),
        "each noise twice": (marginal_with(lambda z: torch.randn_like(z[::2]).repeat_interleave(2, 0)), "neighbouring"),
        "a seed": (marginal_with(seeded), "is a seed set inside"),
        "data never drawn": (lambda sample_data, n, t, s: torch.randn(n, 2), "never called"),
        "a mean over the data": (marginal_with(data=lambda z: z.mean(0, keepdim=True)), "the weight of the data"),
    },
    "conditional_vector_field": {
        "a guard of 1e-4": (guarded(field), NEARLY),
        "β kept above 0.05": (clamped(field), ""),
    },
    "general_vector_field": {
        "first row's rate": (lambda x, m, s, dm, ds: (ds / s).flatten()[0] * (x - m) + dm, ""),
        "columns": (lambda x, m, s, dm, ds: (ds / s).reshape(-1, 1) * (x - m) + dm, "shape"),
        "a guard of 1e-4": (lambda x, m, s, dm, ds: ds / (s + 1e-4) * (x - m) + dm, NEARLY),
    },
    "two_point_field": {
        "a guard of 1e-4": (lambda x, t, m: of_two(x, t, m, lambda b: b + 1e-4), NEARLY),
        "1 − t kept above 0.3": (
            lambda x, t, m: of_two(x, t, m, lambda b: max(b, 0.3) if isinstance(b, float) else b.clamp(min=0.3)),
            "",
        ),
        "a column": (lambda x, t, m: of_two(x, t, m)[:, None], "should have shape"),
        "a time for each": (lambda x, t, m: of_two(x[:, None], t, m), "shape"),
        "points of the plane": (lambda x, t, m: of_two(x, t, m) * torch.ones(len(x), 2)[:, 0].repeat(2), "shape"),
        "atan": (lambda x, t, m: (m * 2 / torch.pi * torch.atan(m * t * x / (1 - t) ** 2) - x) / (1 - t), ""),
    },
    "posterior_weights": {
        "cdist of images": (cdist_weights, "shape"),
        "a guard of 1e-4": (guarded(weights), NEARLY),
        "β kept above 0.05": (clamped(weights), ""),
        "rounded": (lambda *args: (weights(*args) * 100).round() / 100, NEARLY),
        "likeliest by name": (lambda *args: weights(*args).argmax(1), "should have shape"),
    },
    "marginal_vector_field": {
        "not paired": (lambda x, data, t, w, field: field(x, data, t), "needs pairs"),
        "times not repeated": (times_not_repeated, "needs that of its state"),
        "times shaped": (average(shaped), "needs that of its state"),
        "at time 0": (average(lambda t, x: 0.0), ""),
        "over the states": (average(end=lambda pairs: pairs.sum(0)), "shape"),
        "not summed": (average(end=lambda pairs: pairs), "should have shape"),
    },
    "divergence": {
        "finite differences": (central_differences, NEARLY),
        "nothing recorded": (lambda u, x, t: torch.autograd.grad(u(x, t).sum(), x)[0][:, 0], "raised RuntimeError"),
        "time shaped": (lambda u, x, t: trace(u, x, shaped(t, x)), "hand t on as it came"),
        "time forgotten": (lambda u, x, t: trace(u, x, 1.0), ""),
        "a column": (lambda u, x, t: trace(u, x, t)[:, None], "should have shape"),
        "(t, x)": (lambda u, x, t: trace(lambda x, t: u(t, x), x, t), "are the two exchanged"),
        "NumPy": (lambda u, x, t: trace(u, x, t).numpy(), "found a NumPy array"),
    },
    "continuity_residual": {
        "differences in time": (lambda p, u, x, t: (p(x, t + 1e-3) - p(x, t)) * 1e3 + balance(p, u, x, t)[1], NEARLY),
        "times shaped": (lambda p, u, x, t: sum(balance(p, u, x, shaped(t, x))[:2]), "hand t on as it came"),
        "one number": (lambda *args: sum(balance(*args)[:2]).abs().max(), "should have shape"),
    },
    "conditional_score": {
        "one number per row": (lambda *args: score(*args).flatten(1).sum(1), "shape"),
        "a guard of 1e-4": (guarded(score), NEARLY),
        "a guard of 1e-6 beside β²": (guarded(score, lambda b: (b**2 + 1e-6) ** 0.5), NEARLY),
        "β kept above 0.05": (clamped(score), ""),
    },
    "sde_extension_drift": {
        "noise inside": (drift(lambda u, s, g: u + g**2 / 2 * s + g * torch.randn_like(u)), "numbers of its own"),
        "x alone": (lambda u, score, sigma: lambda x: u(x, 0.0), "takes 1 positional argument"),
        "(t, x)": (lambda *args: lambda t, x: drift()(*args)(x, t), "are the two exchanged"),
        "time shaped": (drift(time=shaped), "hand t on as it came"),
        "u and score at time 0": (drift(time=lambda t, x: 0.0), ""),
        "σ at time 0.5": (drift(noise=lambda sigma, t: sigma(0.5)), ""),
        "σ as a number": (drift(noise=lambda sigma, t: sigma), "unsupported operand"),
        "shared memory": (last_one_made(), ""),
        "drift and noise": (lambda *args: (drift()(*args), args[2]), "should be a function, found a tuple"),
    },
    "fokker_planck_residual": {
        "one number": (lambda *args: planck(*args).sum(), "should have shape"),
        "times shaped": (lambda *args: planck(*args[:5], shaped(args[5], args[4])), "hand t on as it came"),
        "σ as a function": (lambda p, s, b, sigma, x, t: planck(p, s, b, sigma(t), x, t), "is not callable"),
    },
}
