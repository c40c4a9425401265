"""Measures of quality: distances between two sets of samples, and errors of a simulation.

A distance compares x: (n, *shape) ~ p with y: (m, *shape) ~ q. It is 0 exactly where the two empirical distributions
agree, and tends, as the sets grow, to a distance between p and q that is 0 only for p = q. An error compares simulated
states with exact ones, path by path (strong) or in the mean (weak). Samples with labels are judged by how well a
classifier knows them, how much they differ within a class, and how far they are from the data that were learned.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fmlab.values import half, holds, in_single, precise, require_floating, require_tensor, tracked, transformed

CHUNK = 512  # rows and columns of the distance matrix held at a time
EXACT, EXPANDED = "donot_use_mm_for_euclid_dist", "use_mm_for_euclid_dist"  # how torch computes distances


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared energy distance 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ between the two empirical distributions.

    x: (n, *shape), y: (m, *shape). Returns a scalar ≥ 0 (up to rounding).
    Cost (n + m)²/2 distances, held in tiles of `CHUNK` rows and columns. Squares are expanded around the mean of x,
    ‖x‖² + ‖y‖² − 2xᵀy: of a distance near 0 that loses digits, of a mean distance none that matter, unless many
    distances are near 0, as in clusters far from each other. Then, for few points, and where gradients are tracked,
    distances are those of the differences.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    if half(x, y):
        return in_single(energy_distance, x, y)
    x, y = _points(x, y)
    centre = x.mean(0)
    x, y = x - centre, y - centre
    exact = tracked(x, y) or len(x) + len(y) <= CHUNK or _clustered(torch.cat([_some(x), _some(y)]))
    xs, ys = x.split(CHUNK), y.split(CHUNK)
    return (2 * _mean_distance(xs, ys, exact) - _mean_distance(xs, xs, exact) - _mean_distance(ys, ys, exact)).to(
        centre
    )


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 128, generator: torch.Generator | None = None
) -> Tensor:
    """Sliced 2-Wasserstein distance (E_v W₂²(vᵀX, vᵀY))^½ over random unit directions v.

    x: (n, *shape), y: (m, *shape). Returns a scalar. On a line, W₂ pairs equal quantiles: between two of the levels
    i/n and j/m each set stands at one point, so each direction costs one sort, and the distance is exact for any sizes.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    if half(x, y):
        return in_single(sliced_wasserstein, x, y, projections, generator)
    x, y = _points(x, y)
    if projections < 1:
        raise ValueError(f"need at least one direction, got {projections}")
    directions = torch.randn(x.shape[1], projections, dtype=x.dtype, device=x.device, generator=generator)
    directions /= directions.norm(dim=0)
    x, y = (x @ directions).sort(0).values, (y @ directions).sort(0).values
    if len(x) == len(y):
        return _root((x - y).square().mean())
    of_x, of_y, share = _couplings(len(x), len(y))
    squares = (x[of_x.to(x.device)] - y[of_y.to(x.device)]).square().mean(1)
    return _root(squares @ share.to(x))


def energy_test(x: Tensor, y: Tensor, permutations: int = 999, generator: torch.Generator | None = None) -> float:
    """p-value of the two-sample test that x and y come from one distribution, by their energy distance.

    Under that hypothesis every division of the pooled points into sets of these sizes is as likely as the one seen, so
    the rank of its distance among those of random divisions is uniform: P(p ≤ a) ≤ a, with no approximation, and p is
    at least 1/(permutations + 1).

    x: (n, *shape), y: (m, *shape), independent draws. Holds all (n + m)² distances: meant for a few thousand points.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    if half(x, y):
        return in_single(energy_test, x, y, permutations, generator)
    x, y = _points(x, y)
    if transformed(x, y):
        raise ValueError("energy_test counts, and returns a number; it does not work within torch.func")
    pooled = torch.cat([x, y])
    distances = torch.cdist(pooled, pooled, compute_mode=EXACT)
    labels = torch.cat([x.new_full((len(x),), 1 / len(x)), x.new_full((len(y),), -1 / len(y))])
    order = torch.rand(permutations, len(pooled), device=x.device, generator=generator).argsort(1)
    divisions = torch.cat([labels[None], labels[order]])  # each row w has −wᵀ D w = its energy distance
    energies = -((divisions @ distances) * divisions).sum(1)
    at_least = energies[1:] >= energies[0] * (1 - 1e-6)
    return (1 + int(at_least.sum())) / (1 + permutations)


def strong_error(x: Tensor, y: Tensor) -> Tensor:
    """Strong error E‖X − Y‖ of states x against exact states y on the same paths, both (n, *shape)."""
    if half(x, y):
        return in_single(strong_error, x, y)
    _same_shape(x, y)
    return (x - y).reshape(len(x), -1).norm(dim=1).mean()


def weak_error(x: Tensor, y: Tensor) -> Tensor:
    """Weak error ‖E X − E Y‖ of states x against exact states y, both (n, *shape)."""
    if half(x, y):
        return in_single(weak_error, x, y)
    _same_shape(x, y)
    return (x - y).mean(0).norm()


def path_curvature(states: Tensor) -> Tensor:
    """How far trajectories are from straight: mean length over mean distance between the ends, minus 1.

    states: (T, n, *shape), recorded in order of time. Returns a scalar ≥ 0, and 0 exactly where each path is a straight
    line run through in one direction, at any speed. Chords cut corners: record finely.
    Raises ValueError for fewer than two times, or where no trajectory moves.
    """
    if half(states):
        return in_single(path_curvature, states)
    require_floating(states, "states")
    if states.ndim < 3 or len(states) < 2 or not states.shape[1]:
        raise ValueError(f"states must have shape (T, n, *shape) with T ≥ 2 and n ≥ 1, got {tuple(states.shape)}")
    length = states.diff(dim=0).flatten(2).norm(dim=2).sum(0).mean()
    distance = (states[-1] - states[0]).flatten(1).norm(dim=1).mean()
    if not holds(distance > 0):
        raise ValueError("no trajectory moves from its start, got a distance of 0 between the ends")
    return length / distance - 1


def convergence_order(hs: Tensor, errors: Tensor) -> Tensor:
    """Order p of errors C h^p: the least-squares slope of log error against log h.

    hs, errors: (m,), positive. Raises ValueError unless there are at least two of each.
    """
    log_h, log_error = (precise(values).log() for values in (hs, errors))
    if log_h.ndim != 1 or log_h.shape != log_error.shape or len(log_h) < 2:
        raise ValueError(f"need as many errors as steps, two at least; got {log_error.shape} and {log_h.shape}")
    log_h = log_h - log_h.mean()
    return (log_h @ log_error) / (log_h @ log_h)


def fidelity(logits: Tensor, y: Tensor) -> Tensor:
    """Share of points whose label the classifier finds most likely. logits: (n, labels), y: (n,), whole numbers."""
    if half(logits, y):
        return in_single(fidelity, logits, y)
    require_floating(logits, "logits"), require_tensor(y, "y")
    if logits.ndim != 2 or y.shape != logits.shape[:1] or not len(y):
        raise ValueError(f"need logits (n, labels) and labels (n,), got {tuple(logits.shape)} and {tuple(y.shape)}")
    return (logits.argmax(1) == y).to(logits).mean()


def diversity(x: Tensor, y: Tensor) -> Tensor:
    """Mean Euclidean distance between two different points of one class, averaged over the classes.

    x: (n, *shape), y: (n,). Raises ValueError where a class has one point only.
    """
    if half(x, y):
        return in_single(diversity, x, y)
    require_floating(x, "x"), require_tensor(y, "y")
    if y.shape != x.shape[:1] or not len(y) or y.unique(return_counts=True)[1].min() < 2:
        raise ValueError(f"need two points of each class at least, got {tuple(x.shape)} and labels {tuple(y.shape)}")
    classes = [x[y == label].flatten(1) for label in y.unique()]
    return torch.stack([distances(z, z).sum() / (len(z) * (len(z) - 1)) for z in classes]).mean()


def nearest_neighbour_distance(x: Tensor, data: Tensor) -> Tensor:
    """Euclidean distance from each point to the nearest of the data. x: (n, *shape), data: (N, *shape). Returns (n,).

    Distances are those of the differences, so that a copy is at distance 0 and not only near it.
    """
    if half(x, data):
        return in_single(nearest_neighbour_distance, x, data)
    x, data = _points(x, data)
    rows = max(1, 16 * CHUNK**2 // len(data))
    return torch.cat([distances(chunk, data).amin(1) for chunk in x.split(rows)])


def distances(x: Tensor, y: Tensor, exact: bool = True) -> Tensor:
    """Euclidean distances ‖x_i − y_j‖ of x: (n, *shape) and y: (m, *shape), with all derivatives. Returns (n, m).

    exact: whether they are those of the differences, or of expanded squares, which is faster.
    """
    if half(x, y):
        return in_single(distances, x, y, exact)
    x, y = _points(x, y)
    if transformed(x, y):
        return _root((x[:, None] - y).square().sum(2))
    return _Distances.apply(x, y, EXACT if exact else EXPANDED)


class _Distances(torch.autograd.Function):
    """torch's own distances, whose gradient is a function of distances again: ∂‖x − y‖/∂x = (x − y)/‖x − y‖, or 0."""

    generate_vmap_rule = True  # asked for within vmap, even of tensors that vmap does not touch

    @staticmethod
    def forward(x, y, mode):
        return torch.cdist(x, y, compute_mode=mode)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2], output)

    @staticmethod
    def backward(ctx, gradient):
        x, y, d = ctx.saved_tensors
        w = torch.where(d > 0, gradient / torch.where(d > 0, d, 1), 0)
        return w.sum(1)[:, None] * x - w @ y, w.sum(0)[:, None] * y - w.mT @ x, None


def _root(square: Tensor) -> Tensor:
    """√v, with the derivative 0 at 0, where it has none."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _couplings(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n and of m sorted points stand at the levels between all breakpoints i/n and j/m, and for how long."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1/(nm)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)


def _same_shape(x: Tensor, y: Tensor) -> None:
    require_floating(x, "x"), require_floating(y, "y")
    if x.shape != y.shape or not x.ndim or not len(x):
        raise ValueError(f"states must match one to one, got shapes {tuple(x.shape)} and {tuple(y.shape)}")


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets flattened to (n, d) in the finer of their dtypes, after a check that they can be compared."""
    require_floating(x, "x"), require_floating(y, "y")
    if x.device != y.device:
        raise ValueError(f"both sets must be on one device, got {x.device} and {y.device}")
    if x.shape[1:] != y.shape[1:] or not x.ndim or not len(x) or not len(y):
        raise ValueError(f"need two non-empty sets of points of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    dtype = torch.promote_types(x.dtype, y.dtype)
    return x.reshape(len(x), -1).to(dtype), y.reshape(len(y), -1).to(dtype)


def _some(x: Tensor) -> Tensor:
    """Up to `CHUNK` points, from all parts of the set."""
    return x[:: math.ceil(len(x) / CHUNK)]


def _clustered(x: Tensor) -> bool:
    """Whether more than a twentieth of the distances of centred points would lose digits where squares are expanded."""
    x = x.detach()
    lost = 1e4 * torch.finfo(x.dtype).eps * x.square().sum(1).amax()  # d² below it keeps less than four digits
    near = torch.cdist(x, x, compute_mode=EXACT).square() < lost
    return not holds(near.to(lost).mean() - 1 / len(x) <= 0.05, unseen=False)


def _mean_distance(x: Sequence[Tensor], y: Sequence[Tensor], exact: bool) -> Tensor:
    """Mean distance over all pairs of points, given in parts. Returns double precision."""
    within = y is x
    totals = [
        (1 + (within and j < i)) * precise(distances(a, b, exact).sum(1)).sum()
        for i, a in enumerate(x)
        for j, b in enumerate(y[: i + 1] if within else y)
    ]
    return torch.stack(totals).sum() / (sum(map(len, x)) * sum(map(len, y)))
