"""Right answers to lab 8 in other styles than the solution's: loops, other derivatives, other algebra, SciPy."""

import functools

import torch
from scipy.optimize import brentq
from torch.autograd.functional import jvp as reverse_jvp
from torch.func import jacfwd, jvp

from fmlab import flow_maps
from fmlab.schedules import coefficient


def rows(value, n):
    """A number or (n,) as n tensors of shape (1,)."""
    return torch.as_tensor(value).expand(n).split(1)


# --- maps -------------------------------------------------------------------------------------------------------------


def gaussian_by_rows(x, s, t, mean, std):
    def spread(r):
        return ((r * std) ** 2 + (1 - r) ** 2) ** 0.5

    out = [
        b * mean + spread(b) / spread(a) * (row - a * mean)
        for row, a, b in zip(x, rows(s, len(x)), rows(t, len(x)), strict=True)
    ]
    return torch.stack(out).to(x.dtype)


def gaussian_by_scores(x, s, t, mean, std):
    """Standardise at s, and undo it at t."""
    s, t = (torch.as_tensor(r, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1)) for r in (s, t))
    score = (x - s * mean) / torch.hypot(s * std, 1 - s)
    return torch.addcmul(t * mean, torch.hypot(t * std, 1 - t), score)


def gaussian_by_velocity(x, s, t, mean, std):
    s, t = coefficient(s, x), coefficient(t, x)
    ratio = ((t**2 * std**2 + 1 - 2 * t + t**2) / (s**2 * std**2 + 1 - 2 * s + s**2)) ** 0.5
    return ratio * x + (t - ratio * s) * mean


def line_by_brent(cdf, x, s, t):
    ends = []
    for k in range(len(x)):
        a, b = (time[k : k + 1] if getattr(time, "ndim", 0) else time for time in (s, t))
        share = float(cdf(x[k : k + 1], a))
        ends.append(
            brentq(
                lambda y, b=b, share=share, x=x: float(cdf(torch.tensor([[y]], dtype=torch.float64), b)) - share,
                -10,
                10,
            )
        )
    return torch.tensor(ends, dtype=x.dtype)[:, None]


def line_by_digits(cdf, x, s, t):
    """A step that is halved each time, up or down."""
    share, y, step = cdf(x, s), torch.zeros_like(x), 5.0
    for _ in range(45):
        y = y + step * torch.sign(share - cdf(y, t)).to(x.dtype)
        step /= 2
    return y


def line_by_table(cdf, x, s, t):
    """Smaller and smaller tables."""
    share, low, high = cdf(x, s), x.new_full(x.shape, -10.0).double(), x.new_full(x.shape, 10.0).double()
    for _ in range(7):
        table = low + (high - low) * torch.linspace(0, 1, 101, dtype=torch.float64)
        found = torch.cat([cdf(column[:, None], t) for column in table.T], dim=1)
        place = (found < share).sum(1, keepdim=True).clamp(1, 100)
        low, high = table.gather(1, place - 1), table.gather(1, place)
    return ((low + high) / 2).to(x.dtype)


def jumps_backwards_defined(v, x0, times):
    """Recursion from the last interval to the first."""
    if len(times) == 1:
        return x0
    s, t = times[0], times[1]
    return jumps_backwards_defined(v, x0 + (t - s) * v(x0, s, t), times[1:])


def jumps_by_reduce(v, x0, times):
    return functools.reduce(
        lambda x, k: torch.lerp(x, x + v(x, *times[k : k + 2]), times[k + 1] - times[k]), range(len(times) - 1), x0
    )


def jumps_by_rows_of_times(v, x0, times):
    x = x0.clone()
    times = torch.as_tensor(times, dtype=x0.dtype)
    for k in range(len(times) - 1):
        s, t = (times[j].expand(len(x)) for j in (k, k + 1))
        x += coefficient(t - s, x) * v(x, s, t)
    return x


# --- residuals --------------------------------------------------------------------------------------------------------


def lagrangian_by_autograd(X, u, x, s, t):
    moved, rate = reverse_jvp(lambda t: X(x, s, t), t, torch.ones_like(t))
    return rate - u(moved, t)


def lagrangian_three_tangents(X, u, x, s, t):
    moved, rate = jvp(X, (x, s, t), (torch.zeros_like(x), torch.zeros_like(s), torch.ones_like(t)))
    return rate - u(moved, t)


def lagrangian_by_dual(X, u, x, s, t):
    with torch.autograd.forward_ad.dual_level():
        moved = X(x, s, torch.autograd.forward_ad.make_dual(t, torch.ones_like(t)))
        value, rate = torch.autograd.forward_ad.unpack_dual(moved)
    return rate - u(value, t)


def lagrangian_row_by_row(X, u, x, s, t):
    out = []
    for row, a, b in zip(x.split(1), s.split(1), t.split(1), strict=True):
        moved, rate = jvp(lambda b, row=row, a=a: X(row, a, b), (b,), (torch.ones_like(b),))
        out.append(rate - u(moved, b))
    return torch.cat(out)


def eulerian_three_tangents(X, u, x, s, t):
    return jvp(X, (x, s, t), (u(x, s), torch.ones_like(s), torch.zeros_like(t)))[1]


def eulerian_two_terms(X, u, x, s, t):
    by_s = jvp(lambda s: X(x, s, t), (s,), (torch.ones_like(s),))[1]
    along = jvp(lambda x: X(x, s, t), (x,), (u(x, s),))[1]
    return by_s + along


def eulerian_along_a_line(X, u, x, s, t):
    """The derivative in one number at 0, along x + r u and s + r."""
    velocity, zero = u(x, s), torch.zeros((), dtype=x.dtype)
    return jvp(lambda r: X(x + r * velocity, s + r, t), (zero,), (torch.ones_like(zero),))[1]


def eulerian_by_autograd(X, u, x, s, t):
    return reverse_jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones_like(s)))[1]


# --- targets ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def two_steps_by_map(v, x, s, t):
    m = s + (t - s) / 2
    X = flow_maps.map_of(v)
    return (X(X(x, s, m), m, t) - x) / coefficient(t - s, x)


def two_steps_by_rows(v, x, s, t):
    out = []
    for row, a, b in zip(x.split(1), rows(s, len(x)), rows(t, len(x)), strict=True):
        a, b = a.to(x.dtype), b.to(x.dtype)
        half = (b - a) / 2
        first = v(row, a, a + half)
        second = v(row + coefficient(half, row) * first, a + half, b)
        out.append(((first + second) / 2).detach())
    return torch.cat(out)


def two_steps_detached(v, x, s, t):
    m = 0.5 * (s + t)
    first = v(x, s, m).detach()
    return torch.lerp(first, v(x + coefficient(m - s, x) * first, m, t).detach(), 0.5)


def eulerian_target_of_the_map(v, u, x, s, t):
    """From the residual of X = x + (t − s) v."""
    residual = eulerian_two_terms(flow_maps.map_of(v), u, x, s, t)
    return (v(x, s, t) + residual).detach()


@torch.no_grad()
def eulerian_target_two_terms(v, u, x, s, t):
    way = u(x, s)
    return way + coefficient(t - s, x) * eulerian_two_terms(v, lambda *_: way, x, s, t)


def eulerian_target_by_line(v, u, x, s, t):
    way = u(x, s)
    return way.add(coefficient(t - s, x).mul(eulerian_along_a_line(v, u, x, s, t))).detach()


@torch.no_grad()
def lagrangian_target_of_the_map(v, u, x, s, t):
    """∂_t X = u(X, t) where X = x + (t − s) v: move the residual to the other side."""
    return v(x, s, t) - lagrangian_three_tangents(flow_maps.map_of(v), u, x, s, t)


def lagrangian_target_by_autograd(v, u, x, s, t):
    value, rate = reverse_jvp(lambda t: v(x, s, t), t, torch.ones_like(t))
    value, rate = value.detach(), rate.detach()
    return u(x + coefficient(t - s, x) * value, t) + coefficient(s - t, x) * rate


def lagrangian_target_row_by_row(v, u, x, s, t):
    out = []
    for row, a, b in zip(x.split(1), s.split(1), t.split(1), strict=True):
        value, rate = jvp(lambda b, row=row, a=a: v(row, a, b), (b,), (torch.ones_like(b),))
        gap = coefficient(b - a, row)
        out.append((u(row + gap * value, b) - gap * rate).detach())
    return torch.cat(out)


# --- losses -----------------------------------------------------------------------------------------------------------


def consistency_by_regression(v, u, x, s, h):
    """A regression of v, not of f."""
    one, rest = torch.ones_like(s), coefficient(1 - s, x)
    with torch.no_grad():
        ahead = x + h * u(x, s)
        target = (ahead + (rest - h) * v(ahead, s + h, one) - x) / rest
    return (v(x, s, one) - target).flatten(1).norm(dim=1).square().mean()


def consistency_by_rows(v, u, x, s, h):
    total = 0.0
    for k in range(len(x)):
        row, a, one = x[k : k + 1], s[k : k + 1], torch.ones(1, dtype=x.dtype)
        ahead = row + h * u(row, a)
        later = (ahead + (1 - a[0] - h) * v(ahead, a + h, one)).detach()
        now = row + (1 - a[0]) * v(row, a, one)
        total = total + ((now - later) ** 2).sum() / (1 - a[0]) ** 2
    return total / len(x)


def consistency_weighted(v, u, x, s, h):
    def f(x, s):
        return torch.lerp(x, x + v(x, s, s * 0 + 1), coefficient(1 - s, x))

    with torch.no_grad():
        later = f(x + h * u(x, s), s + h)
    squares = torch.einsum("n...,n...->n", f(x, s) - later, f(x, s) - later)
    return (squares * (1 - s) ** -2).mean()


def mean_flow_by_hand(v, z, noise, s, t):
    x, way = torch.lerp(noise, z, coefficient(s, z)), z - noise
    value, change = jvp(v, (x, s, t), (way, torch.ones_like(s), torch.zeros_like(t)))
    target = way + coefficient(t - s, x) * change
    return torch.mean(torch.sum((value - target.detach()).reshape(len(z), -1) ** 2, 1))


def mean_flow_by_rows(v, z, noise, s, t):
    total = 0.0
    for data, e, a, b in zip(z.split(1), noise.split(1), s.split(1), t.split(1), strict=True):
        x = coefficient(a, e) * data + coefficient(1 - a, e) * e
        with torch.no_grad():
            target = data - e + coefficient(b - a, x) * eulerian_two_terms(v, lambda x, s, w=data - e: w, x, a, b)
        total = total + (v(x, a, b) - target).pow(2).sum()
    return total / len(z)


def mean_flow_by_library(v, z, noise, s, t):
    x = coefficient(s, z) * z + coefficient(1 - s, z) * noise
    return flow_maps.target_loss(v, flow_maps.eulerian_target(v, lambda *_: z - noise, x, s, t), x, s, t)


def shortcut_by_rows(v, z, noise, s, t):
    total = 0.0
    for data, e, a, b in zip(z.split(1), noise.split(1), s.split(1), t.split(1), strict=True):
        x = coefficient(a, e) * data + coefficient(1 - a, e) * e
        target = data - e if bool(a == b) else two_steps_detached(v, x, a, b)
        total = total + (v(x, a, b) - target).square().sum()
    return total / len(z)


def shortcut_in_two_parts(v, z, noise, s, t):
    """The anchored rows and the others by themselves."""
    x = torch.lerp(noise, z, coefficient(s, z))
    same, total = s == t, 0.0
    for part, target in (
        (same, (z - noise)[same]),
        (~same, two_steps_detached(v, x[~same], s[~same], t[~same])),
    ):
        if part.any():
            total = total + (v(x[part], s[part], t[part]) - target).square().sum()
    return total / len(z)


def shortcut_by_weights(v, z, noise, s, t):
    x, same = coefficient(s, z) * z + coefficient(1 - s, z) * noise, coefficient((s == t).to(z.dtype), z)
    target = same * (z - noise) + (1 - same) * two_steps_by_rows(v, x, s, t)
    return (v(x, s, t) - target.detach()).flatten(1).square().sum(1).mean()


def matching_by_rows(teacher, fake, x, noise, t):
    total = 0.0
    for row, e, time in zip(x.split(1), noise.split(1), t.split(1), strict=True):
        with torch.no_grad():
            noisy = coefficient(time, e) * row + coefficient(1 - time, e) * e
            push = coefficient(time, e) * (fake(noisy, time) - teacher(noisy, time))
        total = total + (push * row).sum()
    return total / len(x)


def matching_by_einsum(teacher, fake, x, noise, t):
    noisy = torch.lerp(noise, x.detach(), coefficient(t, x))
    push = (fake(noisy, t) - teacher(noisy, t)).detach()
    return torch.einsum("n,n...,n...->", t, push, x) / len(x)


def matching_by_target(teacher, fake, x, noise, t):
    """The value of the product, with the gradient of a squared distance to a target."""
    with torch.no_grad():
        noisy = torch.lerp(noise, x, coefficient(t, x))
        push = coefficient(t, x) * (fake(noisy, t) - teacher(noisy, t))
        value = (push * x).flatten(1).sum(1).mean()
    pull = 0.5 * (x - (x - push).detach()).flatten(1).square().sum(1).mean()
    return pull - pull.detach() + value


def jacobian_by_rows(X, u, x, s, t):
    """∇X as a matrix, for each row."""

    def one(x, s, t):
        def moved(flat, s):
            return X(flat.reshape(1, *x.shape), s.reshape(1), t.reshape(1)).flatten()

        flat = x.flatten()
        way = u(x[None], s.reshape(1)).flatten()
        total = jacfwd(moved, 0)(flat, s) @ way + jacfwd(moved, 1)(flat, s)
        return total.reshape(x.shape)

    return torch.stack([one(*each) for each in zip(x, s, t, strict=True)])


RIGHT = {
    "gaussian_flow_map": [gaussian_by_rows, gaussian_by_scores, gaussian_by_velocity],
    "line_flow_map": [line_by_brent, line_by_digits, line_by_table],
    "sample_by_map": [jumps_backwards_defined, jumps_by_reduce, jumps_by_rows_of_times],
    "lagrangian_residual": [
        lagrangian_by_autograd,
        lagrangian_three_tangents,
        lagrangian_by_dual,
        lagrangian_row_by_row,
    ],
    "eulerian_residual": [
        eulerian_three_tangents,
        eulerian_two_terms,
        eulerian_along_a_line,
        eulerian_by_autograd,
        jacobian_by_rows,
    ],
    "semigroup_target": [two_steps_by_map, two_steps_by_rows, two_steps_detached],
    "consistency_loss": [consistency_by_regression, consistency_by_rows, consistency_weighted],
    "eulerian_target": [eulerian_target_of_the_map, eulerian_target_two_terms, eulerian_target_by_line],
    "lagrangian_target": [
        lagrangian_target_of_the_map,
        lagrangian_target_by_autograd,
        lagrangian_target_row_by_row,
    ],
    "mean_flow_loss": [mean_flow_by_hand, mean_flow_by_rows, mean_flow_by_library],
    "shortcut_loss": [shortcut_by_rows, shortcut_in_two_parts, shortcut_by_weights],
    "distribution_matching_loss": [matching_by_rows, matching_by_einsum, matching_by_target],
}
