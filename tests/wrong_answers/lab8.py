"""Wrong answers to lab 8 beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import torch
from torch.func import jvp

from fmlab.schedules import coefficient


def gaussian(x, s, t, mean, std):
    s, t = coefficient(s, x), coefficient(t, x)
    return t * mean + (((t * std) ** 2 + (1 - t) ** 2) / ((s * std) ** 2 + (1 - s) ** 2)) ** 0.5 * (x - s * mean)


def guarded(x, s, t, mean, std):
    """A guard of 1e-3 in the denominator."""
    s, t = coefficient(s, x), coefficient(t, x)
    now, later = (((r * std) ** 2 + (1 - r) ** 2) ** 0.5 for r in (s, t))
    return t * mean + later / (now + 1e-3) * (x - s * mean)


def bisect(cdf, x, s, t, halvings=60, change=lambda y: y):
    share, low, high = cdf(x, s), torch.full_like(x, -10.0), torch.full_like(x, 10.0)
    for _ in range(halvings):
        middle = (low + high) / 2
        below = cdf(middle, t) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return change((low + high) / 2)


def jumps(v, x0, times, change=lambda states: states[-1]):
    states = [x0]
    for s, t in zip(times[:-1], times[1:]):
        states.append(states[-1] + (t - s) * v(states[-1], s, t))
    return change(states)


def jumps_twice(v, x0, times):
    x = x0
    for s, t in zip(times[:-1], times[1:]):
        v(x, s, t)
        x = x + (t - s) * v(x, s, t)
    return x


def by_difference(X, u, x, s, t, h=0.01):
    return (X(x, s, t + h) - X(x, s, t)) / h - u(X(x, s, t), t)


def rates(X, u, x, s, t):
    return jvp(lambda t: X(x, s, t), (t,), (torch.ones_like(t),))


def start_by_difference(X, u, x, s, t, h=0.01):
    return (X(x + h * u(x, s), s + h, t) - X(x, s, t)) / h


def two_steps(v, x, s, t, graph=False):
    m = (s + t) / 2
    first = v(x, s, m)
    target = (first + v(x + coefficient(m - s, x) * first, m, t)) / 2
    return target if graph else target.detach()


def agreement(v, u, x, s, h, total=lambda d: d.flatten(1).square().sum(1).mean(), rest=1e-9):
    def f(x, s):
        return x + coefficient(1 - s, x) * v(x, s, torch.ones_like(s))

    return total((f(x, s) - f(x + h * u(x, s), s + h).detach()) / (coefficient(1 - s, x) + rest))


def eulerian(v, u, x, s, t, graph=False):
    velocity = u(x, s)
    change = jvp(lambda x, s: v(x, s, t), (x, s), (velocity, torch.ones_like(s)))[1]
    target = velocity + coefficient(t - s, x) * change
    return target if graph else target.detach()


def lagrangian(v, u, x, s, t, graph=False):
    value, rate = jvp(lambda t: v(x, s, t), (t,), (torch.ones_like(t),))
    target = u(x + coefficient(t - s, x) * value, t) - coefficient(t - s, x) * rate
    return target if graph else target.detach()


def noised(z, noise, s):
    return coefficient(s, z) * z + coefficient(1 - s, z) * noise


def mean_flow(v, z, noise, s, t, total=lambda e: e.flatten(1).square().sum(1).mean()):
    x = noised(z, noise, s)
    return total(v(x, s, t) - eulerian(v, lambda x, s: z - noise, x, s, t))


def mean_flow_of_the_mean(v, z, noise, s, t):
    """The velocity of the whole batch for each row."""
    x = noised(z, noise, s)
    way = (z - noise).mean(0, keepdim=True).expand_as(z)
    return (v(x, s, t) - eulerian(v, lambda x, s: way, x, s, t)).flatten(1).square().sum(1).mean()


def shortcut(v, z, noise, s, t, anchor=lambda s, t: s == t):
    x = noised(z, noise, s)
    target = torch.where(coefficient(anchor(s, t), x), z - noise, two_steps(v, x, s, t))
    return (v(x, s, t) - target).flatten(1).square().sum(1).mean()


def matching(teacher, fake, x, noise, t, stop=True):
    own = coefficient(t, x)
    noisy = own * x + (1 - own) * noise
    push = own * (fake(noisy, t) - teacher(noisy, t))
    return ((push.detach() if stop else push) * x).flatten(1).sum(1).mean()


def matching_through_fields(teacher, fake, x, noise, t):
    """The states are detached, the fields are not."""
    own = coefficient(t, x)
    noisy = (own * x + (1 - own) * noise).detach()
    return (own * (fake(noisy, t) - teacher(noisy, t)) * x).flatten(1).sum(1).mean()


def half_detached(loss):
    def answer(*args):
        right = loss(*args)
        return (right + right.detach()) / 2

    return answer


WRONG = {
    "gaussian_flow_map": {
        "numbers alone": (lambda x, s, t, m, k: gaussian(x, float(s), float(t), m, k), "raised"),
        "tensors alone": (lambda x, s, t, m, k: gaussian(x, s[:, None], t[:, None], m, k), "raised TypeError"),
        "single precision": (lambda *a: gaussian(*a).float(), "dtype torch.float64"),
        "a guard of 1e-3": (guarded, "nearly right"),
        "the identity": (lambda x, *_: x.clone(), ""),
    },
    "line_flow_map": {
        "twelve halvings": (lambda *a: bisect(*a, halvings=12), "nearly right"),
        "no shape": (lambda *a: bisect(*a, change=lambda y: y[:, 0]), "should have shape"),
        "double precision": (lambda cdf, x, s, t: bisect(cdf, x.double(), s, t), "dtype torch.float32"),
        "the first row": (lambda *a: bisect(*a, change=lambda y: y[:1].expand_as(y)), ""),
        "a number": (lambda *a: bisect(*a, change=lambda y: float(y[0, 0])), "should be a tensor"),
        "times as numbers": (lambda cdf, x, s, t: bisect(cdf, x, float(s), float(t)), "raised"),
        "the identity": (lambda cdf, x, s, t: x.clone(), "so that x comes back"),
    },
    "sample_by_map": {
        "all states": (lambda *a: jumps(*a, change=torch.stack), "only the states at the last time"),
        "a list of states": (lambda *a: jumps(*a, change=list), "only the states at the last time"),
        "two calls": (jumps_twice, "the number of calls of v per interval is not right"),
        "single precision": (lambda *a: jumps(*a).float(), "dtype torch.float64"),
        "in place": (lambda v, x0, ts: x0.copy_(jumps(v, x0, ts)), "changed a tensor"),
    },
    "lagrangian_residual": {
        "a finite difference": (by_difference, "nearly right"),
        "both that jvp returns": (rates, "should be a tensor"),
        "the norm": (lambda *a: (rates(*a)[1] - a[1](rates(*a)[0], a[4])).flatten(1).norm(dim=1), "should have shape"),
    },
    "eulerian_residual": {
        "a finite difference": (start_by_difference, "nearly right"),
        "both that jvp returns": (
            lambda X, u, x, s, t: jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones_like(s))),
            "should be a tensor",
        ),
        "a tangent of the wrong shape": (
            lambda X, u, x, s, t: jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones(())))[1],
            "raised",
        ),
    },
    "semigroup_target": {
        "with its graph": (lambda *a: two_steps(*a, graph=True), "still carries a gradient"),
        "the first step's graph": (
            lambda v, x, s, t: two_steps(v, x, s, t) + 0 * v(x, s, t),
            "still carries a gradient",
        ),
        "a quarter": (lambda *a: two_steps(*a) / 2, "times what it should be"),
        "single precision": (lambda *a: two_steps(*a).float(), "dtype torch.float64"),
    },
    "consistency_loss": {
        "a number": (lambda *a: agreement(*a).item(), "no gradient reaches"),
        "of each row": (lambda *a: agreement(*a, total=lambda d: d.flatten(1).square().sum(1)), "one number"),
        "half detached": (half_detached(agreement), "0.5 times what it should be"),
        "a guard of 1e-2": (lambda *a: agreement(*a, rest=1e-2), ""),
    },
    "eulerian_target": {
        "with its graph": (lambda *a: eulerian(*a, graph=True), "still carries a gradient"),
        "the negative": (lambda *a: -eulerian(*a), "-1 times what it should be"),
        "single precision": (lambda *a: eulerian(*a).float(), "dtype torch.float64"),
    },
    "lagrangian_target": {
        "with its graph": (lambda *a: lagrangian(*a, graph=True), "still carries a gradient"),
        "the negative": (lambda *a: -lagrangian(*a), "-1 times what it should be"),
        "single precision": (lambda *a: lagrangian(*a).float(), "dtype torch.float64"),
    },
    "mean_flow_loss": {
        "a number": (lambda *a: mean_flow(*a).item(), "no gradient reaches"),
        "of each row": (lambda *a: mean_flow(*a, total=lambda e: e.flatten(1).square().sum(1)), "one number"),
        "half detached": (half_detached(mean_flow), "0.5 times what it should be"),
        "the batch's mean velocity": (mean_flow_of_the_mean, ""),
        "its own noise": (
            lambda v, z, noise, s, t: mean_flow(v, z, torch.randn_like(z), s, t),
            "random numbers of its own",
        ),
    },
    "shortcut_loss": {
        "a number": (lambda *a: shortcut(*a).item(), "no gradient reaches"),
        "half detached": (half_detached(shortcut), "0.5 times what it should be"),
        "anchored by the first row": (lambda *a: shortcut(*a, anchor=lambda s, t: (s == t)[:1].expand_as(s)), ""),
    },
    "distribution_matching_loss": {
        "not detached": (lambda *a: matching(*a, stop=False), "a gradient reaches the two fields"),
        "through the fields alone": (matching_through_fields, "a gradient reaches the two fields"),
        "all detached": (lambda *a: matching(*a).detach(), "no gradient reaches"),
        "half detached": (half_detached(matching), "0.5 times what it should be"),
    },
}
