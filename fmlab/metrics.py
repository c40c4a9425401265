"""Measures of quality: distances between two sets of samples, and errors of a simulation.

A distance compares x: (n, *shape) ~ p with y: (m, *shape) ~ q. It is 0 exactly where the two empirical distributions
agree, and tends, as the sets grow, to a distance between p and q that is 0 only for p = q. An error compares simulated
states with exact ones, path by path (strong) or in the mean (weak). Samples with labels are judged by how well a
classifier knows them, how much they differ within a class, and how far they are from the data that were learned.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fmlab.values import holds, precise

CHUNK = 512  # rows and columns of the distance matrix held at a time


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Squared energy distance 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ between the two empirical distributions.

    x: (n, *shape), y: (m, *shape). Returns a scalar ≥ 0 (up to rounding).
    Cost (n + m)²/2 distances, held in tiles of `CHUNK` rows and columns. Squares are expanded around the mean of x,
    ‖x‖² + ‖y‖² − 2xᵀy: of a distance near 0 that loses digits, of a mean distance none that matter.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    x, y = _points(x, y)
    centre = x.mean(0)
    x, y = (x - centre).split(CHUNK), (y - centre).split(CHUNK)
    return (2 * _mean_distance(x, y) - _mean_distance(x) - _mean_distance(y)).to(centre)


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 128, generator: torch.Generator | None = None
) -> Tensor:
    """Sliced 2-Wasserstein distance (E_v W₂²(vᵀX, vᵀY))^½ over random unit directions v.

    x: (n, *shape), y: (m, *shape). Returns a scalar. On a line, W₂ pairs equal quantiles, so each direction costs
    one sort.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    x, y = _points(x, y)
    directions = torch.randn(x.shape[1], projections, dtype=x.dtype, device=x.device, generator=generator)
    directions /= directions.norm(dim=0)
    x, y = (x @ directions).sort(0).values, (y @ directions).sort(0).values
    if len(x) != len(y):
        levels = (torch.arange(max(len(x), len(y))).to(x) + 0.5) / max(len(x), len(y))
        x, y = (points[(levels * len(points)).long()] for points in (x, y))
    return (x - y).square().mean().sqrt()


def energy_test(x: Tensor, y: Tensor, permutations: int = 999, generator: torch.Generator | None = None) -> float:
    """p-value of the two-sample test that x and y come from one distribution, by their energy distance.

    Under that hypothesis every division of the pooled points into sets of these sizes is as likely as the one seen, so
    the rank of its distance among those of random divisions is uniform: P(p ≤ a) ≤ a, with no approximation, and p is
    at least 1/(permutations + 1).

    x: (n, *shape), y: (m, *shape), independent draws. Holds all (n + m)² distances: meant for a few thousand points.
    Raises ValueError if the shapes of single points differ or a set is empty.
    """
    x, y = _points(x, y)
    pooled = torch.cat([x, y])
    distances = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    labels = torch.cat([x.new_full((len(x),), 1 / len(x)), x.new_full((len(y),), -1 / len(y))])
    order = torch.rand(permutations, len(pooled), device=x.device, generator=generator).argsort(1)
    divisions = torch.cat([labels[None], labels[order]])  # each row w has −wᵀ D w = its energy distance
    energies = -((divisions @ distances) * divisions).sum(1)
    at_least = energies[1:] >= energies[0] * (1 - 1e-6)
    return (1 + int(at_least.sum())) / (1 + permutations)


def strong_error(x: Tensor, y: Tensor) -> Tensor:
    """Strong error E‖X − Y‖ of states x against exact states y on the same paths, both (n, *shape)."""
    _same_shape(x, y)
    return (x - y).reshape(len(x), -1).norm(dim=1).mean()


def weak_error(x: Tensor, y: Tensor) -> Tensor:
    """Weak error ‖E X − E Y‖ of states x against exact states y, both (n, *shape)."""
    _same_shape(x, y)
    return (x - y).mean(0).norm()


def path_curvature(states: Tensor) -> Tensor:
    """How far trajectories are from straight: mean length over mean distance between the ends, minus 1.

    states: (T, n, *shape), recorded in order of time. Returns a scalar ≥ 0, and 0 exactly where each path is a straight
    line run through in one direction, at any speed. Chords cut corners: record finely.
    Raises ValueError for fewer than two times, or where no trajectory moves.
    """
    if states.ndim < 3 or len(states) < 2:
        raise ValueError(f"states must have shape (T, n, *shape) with T ≥ 2, got {tuple(states.shape)}")
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
    if logits.ndim != 2 or y.shape != logits.shape[:1] or not len(y):
        raise ValueError(f"need logits (n, labels) and labels (n,), got {tuple(logits.shape)} and {tuple(y.shape)}")
    return (logits.argmax(1) == y).to(logits).mean()


def diversity(x: Tensor, y: Tensor) -> Tensor:
    """Mean Euclidean distance between two different points of one class, averaged over the classes.

    x: (n, *shape), y: (n,). Raises ValueError where a class has one point only.
    """
    if y.shape != x.shape[:1] or not len(y) or y.unique(return_counts=True)[1].min() < 2:
        raise ValueError(f"need two points of each class at least, got {tuple(x.shape)} and labels {tuple(y.shape)}")
    return torch.stack([torch.pdist(x[y == label].flatten(1)).mean() for label in y.unique()]).mean()


def nearest_neighbour_distance(x: Tensor, data: Tensor) -> Tensor:
    """Euclidean distance from each point to the nearest of the data. x: (n, *shape), data: (N, *shape). Returns (n,).

    Distances are those of the differences, so that a copy is at distance 0 and not only near it.
    """
    x, data = _points(x, data)
    rows = max(1, 16 * CHUNK**2 // len(data))
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(chunk, data, compute_mode=exact).amin(1) for chunk in x.split(rows)])


def _same_shape(x: Tensor, y: Tensor) -> None:
    if x.shape != y.shape or not x.ndim:
        raise ValueError(f"states must match one to one, got shapes {tuple(x.shape)} and {tuple(y.shape)}")


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets flattened to (n, d), after a check that they can be compared."""
    if x.shape[1:] != y.shape[1:] or not x.ndim or not len(x) or not len(y):
        raise ValueError(f"need two non-empty sets of points of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return x.reshape(len(x), -1), y.reshape(len(y), -1)


def _mean_distance(x: Sequence[Tensor], y: Sequence[Tensor] | None = None) -> Tensor:
    """Mean distance over all pairs of points, given in parts; of x with itself without y. Returns float64."""
    within = y is None
    y = x if within else y
    total = sum(
        (1 + (within and j < i)) * precise(torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").sum(1)).sum()
        for i, a in enumerate(x)
        for j, b in enumerate(y[: i + 1] if within else y)
    )
    return total / (sum(map(len, x)) * sum(map(len, y)))
