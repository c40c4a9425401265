"""Flow maps: where a flow takes a state between two times, in one evaluation.

X_{s,t}(x) is the state at time t of the trajectory that is at x at time s. Its average velocity v_{s,t} is what
networks learn, so that X_{s,s} is the identity by construction:

    X_{s,t}(x) = x + (t − s) v_{s,t}(x),   v_{t,t} = u_t                           [Boffi et al. 2024, eq. 2.6, 2.10]

Three equations, each of which makes a map that of the flow u:

    semigroup    X_{m,t}(X_{s,m}(x)) = X_{s,t}(x)
    Lagrangian   ∂_t X_{s,t}(x) = u_t(X_{s,t}(x))                                  [Boffi et al. 2024, eq. 2.7]
    Eulerian     ∂_s X_{s,t}(x) + ∇X_{s,t}(x) u_s(x) = 0                           [Boffi et al. 2024, eq. 2.8]

Solved for v, each gives a target that a network's own v is regressed on, with the gradient stopped:

    semigroup    ½ (v_{s,m}(x) + v_{m,t}(X_{s,m}(x))), m the middle     teacher's v: progressive distillation;
                                                                        own v: shortcut models [Frans et al. 2024]
    Lagrangian   u_t(X_{s,t}(x)) − (t − s) ∂_t v_{s,t}(x)
    Eulerian     u_s(x) + (t − s) (∂_s + u_s · ∇) v_{s,t}(x)
                                                            with z − ε for u_s(x): mean flow [Geng et al. 2025]

Mean flow is published in the other direction of time (data at 0, anchored at the later time), where the sign of the
second term is − and the tangent of the derivative that of the later time; here it is + and (u, 1, 0) over (x, s, t).

A map X(x, s, t), an average velocity v(x, s, t) and a field u(x, t) are callables; x: (n, *shape), s and t scalars or
(n,). Derivatives are forward-mode (`torch.func.jvp`), exact to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from fmlab.distributions import GaussianMixture
from fmlab.processes import Field
from fmlab.schedules import CondOT, Schedule
from fmlab.simulators import Method, like, simulate, span
from fmlab.values import (
    coefficient,
    half,
    in_single,
    precise,
    require_floating,
    require_no_derivative,
    squares,
    time_like,
    tracked,
)

Map = Callable[[Tensor, Tensor, Tensor], Tensor]


class GaussianFlowMap:
    """X_{s,t}(x) = α_t m + (σ_t/σ_s)(x − α_s m) with σ_t² = α_t² S² + β_t², exact for data N(m, S² I).

    mean: (*shape). std: S > 0. Called as X(x, s, t).
    """

    def __init__(self, mean, std: float, schedule: Schedule | None = None):
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.mean, self.std, self.schedule = torch.as_tensor(mean), float(std), schedule or CondOT()

    def __call__(self, x: Tensor, s, t) -> Tensor:
        if half(x):
            return in_single(self, x, s, t)
        (a, spread), (a_later, spread_later) = self._law(s, x), self._law(t, x)
        mean = self.mean.to(x)
        return a_later * mean + spread_later / spread * (x - a * mean)

    def _law(self, t, x: Tensor) -> tuple[Tensor, Tensor]:
        """α_t and σ_t, in the shape that multiplies x."""
        t = time_like(t, x)
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        return coefficient(alpha, x), coefficient(torch.hypot(alpha * self.std, beta), x)


class LineFlowMap:
    """X_{s,t} = F_t⁻¹ ∘ F_s on a line, F_t the distribution function of p_t: flows keep the order of points.

    mixture: of Gaussians in one dimension, as data. Called as X(x, s, t) with x: (n, 1). F_t⁻¹ is found by bisection,
    in double precision, and has a first and a second derivative.
    """

    def __init__(self, mixture: GaussianMixture, schedule: Schedule | None = None):
        if mixture.means.shape[1] != 1:
            raise ValueError(f"the mixture must be on a line, got {mixture.means.shape[1]} dimensions")
        self.mixture, self.schedule = mixture, schedule or CondOT()

    def cdf(self, x: Tensor, t) -> Tensor:
        """F_t(x) = Σ_k w_k Φ((x − α m_k)/√(α² C_k + β²)). Returns (n, 1)."""
        means, stds = self._components(x, t)
        return (precise(self.mixture.weights) * torch.special.ndtr((precise(x) - means) / stds)).sum(1, keepdim=True)

    def density(self, x: Tensor, t) -> Tensor:
        """p_t(x) = Σ_k w_k N(x; α m_k, α² C_k + β²). Returns (n, 1)."""
        means, stds = self._components(x, t)
        of_each = torch.exp(-(((precise(x) - means) / stds) ** 2) / 2) / (stds * math.sqrt(2 * math.pi))
        return (precise(self.mixture.weights) * of_each).sum(1, keepdim=True)

    def __call__(self, x: Tensor, s, t) -> Tensor:
        if half(x):
            return in_single(self, x, s, t)
        share = self.cdf(x, s)
        means, stds = self._components(x, t)
        low, high = ((means + side * 40 * stds) for side in (-1, 1))
        low, high = low.amin(1, keepdim=True).expand_as(share), high.amax(1, keepdim=True).expand_as(share)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cdf(middle, t) < share
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        found = ((low + high) / 2).detach()
        if tracked(x, s, t):
            for _ in range(2):  # a step of Newton's method adds the next derivative, and nothing to the value
                density = self.density(found, t)
                somewhere = density > 0
                step = torch.where(somewhere, (share - self.cdf(found, t)) / torch.where(somewhere, density, 1), 0)
                found = found + step - step.detach()
        return found.to(x)

    def _components(self, x: Tensor, t) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the components of p_t: (1, K) or (n, K), double precision."""
        if x.ndim != 2 or x.shape[1] != 1:
            raise ValueError(f"x must have shape (n, 1), got {tuple(x.shape)}")
        t = precise(time_like(t, x)).reshape(-1, 1)
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        means, variances = precise(self.mixture.means)[:, 0], precise(self.mixture.covs)[:, 0, 0]
        return alpha * means, (alpha**2 * variances + beta**2).sqrt()


def map_of(v: Map) -> Map:
    """The map X_{s,t}(x) = x + (t − s) v_{s,t}(x) of an average velocity."""
    return partial(_moved, v)


def average_velocity(flow_map: Map) -> Map:
    """v_{s,t}(x) = (X_{s,t}(x) − x)/(t − s) of a map, for s ≠ t."""
    return partial(_average_velocity, flow_map)


def _moved(v: Map, x: Tensor, s, t) -> Tensor:
    return x + _gap(s, t, x) * v(x, s, t)


def _average_velocity(flow_map: Map, x: Tensor, s, t) -> Tensor:
    return (flow_map(x, s, t) - x) / _gap(s, t, x)


# --- the three equations ----------------------------------------------------------------------------------------------


def semigroup_residual(flow_map: Map, x: Tensor, s, m, t) -> Tensor:
    """X_{m,t}(X_{s,m}(x)) − X_{s,t}(x)."""
    require_floating(x, "x")
    return flow_map(flow_map(x, s, m), m, t) - flow_map(x, s, t)


def lagrangian_residual(flow_map: Map, u: Field, x: Tensor, s, t) -> Tensor:
    """∂_t X_{s,t}(x) − u_t(X_{s,t}(x))."""
    s, t = _times(s, t, x)
    moved, rate = torch.func.jvp(lambda t: flow_map(x, s, t), (t,), (torch.ones_like(t),))  # type: ignore[misc]
    return rate - u(moved, t)


def eulerian_residual(flow_map: Map, u: Field, x: Tensor, s, t) -> Tensor:
    """∂_s X_{s,t}(x) + ∇X_{s,t}(x) u_s(x)."""
    s, t = _times(s, t, x)
    x = x.contiguous()
    return torch.func.jvp(lambda x, s: flow_map(x, s, t), (x, s), (u(x, s).contiguous(), torch.ones_like(s)))[1]


# --- targets: one signature, target(v, u, x, s, t), no gradient -------------------------------------------------------


@torch.no_grad()
def semigroup_target(v: Map, u: Field | None, x: Tensor, s, t) -> Tensor:
    """½ (v_{s,m}(x) + v_{m,t}(x + (m − s) v_{s,m}(x))), m half-way: two steps of v in one. u is not used.

    v of a teacher: progressive distillation [Salimans & Ho 2022]; of the network itself: shortcuts.
    """
    s, t = _times(s, t, x)
    m = (s + t) / 2
    first = v(x, s, m)
    return (first + v(x + _gap(s, m, x) * first, m, t)) / 2


@torch.no_grad()
def lagrangian_target(v: Map, u: Field, x: Tensor, s, t) -> Tensor:
    """u_t(x + (t − s) v_{s,t}(x)) − (t − s) ∂_t v_{s,t}(x)."""
    s, t = _times(s, t, x)
    value, rate = torch.func.jvp(lambda t: v(x, s, t), (t,), (torch.ones_like(t),))  # type: ignore[misc]
    gap = _gap(s, t, x)
    return u(x + gap * value, t) - gap * rate


@torch.no_grad()
def eulerian_target(v: Map, u: Field, x: Tensor, s, t) -> Tensor:
    """u_s(x) + (t − s) (∂_s v_{s,t}(x) + ∇v_{s,t}(x) u_s(x)): tangent (u, 1, 0) over (x, s, t).

    u of a teacher: Eulerian distillation; u(x, s) = z − ε for the state s z + (1 − s) ε: mean flow, whose regression
    has the same mean.
    """
    s, t = _times(s, t, x)
    x = x.contiguous()
    velocity = u(x, s).contiguous()
    change = torch.func.jvp(lambda x, s: v(x, s, t), (x, s), (velocity, torch.ones_like(s)))[1]
    return velocity + _gap(s, t, x) * change


@torch.no_grad()
def consistency_target(v: Map, u: Field, x: Tensor, s, h) -> Tensor:
    """The average velocity to t = 1 that agrees with one step of u: (f(x + h u_s(x), s + h) − x)/(1 − s).

    f(x, s) = x + (1 − s) v_{s,1}(x) leads to the data, and is the identity at s = 1. u of a teacher: consistency
    distillation; u(x, s) = z − ε: consistency training, with a bias of order h.    [Song et al. 2023]
    s: in [0, 1); h: the step, with s + h ≤ 1, scalars or (n,).
    """
    s, h = _times(s, h, x)
    later, one = (s + h).clamp(max=1), torch.ones_like(s)
    moved = x + coefficient(h, x) * u(x, s)
    return (moved + _gap(later, one, x) * v(moved, later, one) - x) / _gap(s, one, x)


def target_loss(v: Map, target: Tensor, x: Tensor, s, t) -> Tensor:
    """E ‖v_{s,t}(x) − target‖², the sum over coordinates averaged over the batch; the target carries no gradient."""
    require_floating(x, "x")
    if not len(x):
        raise ValueError("a mean over no states is no number; give one at least")
    return squares(v(x, s, t) - target.detach()).mean()


# --- sampling ---------------------------------------------------------------------------------------------------------


class FlowMap(Method):
    """One step x + (s − t) v_{t,s}(x), exact however long it is where v is. The model is an average velocity."""

    def step(self, model, x, t, s, noise=None):
        return x + span(t, s, x) * model(x, like(t, x), like(s, x))


class Consistency(Method):
    """A jump to the data, ẑ = x + (1 − t) v_{t,1}(x), and back by noise: s ẑ + (1 − s) ε.    [Song et al. 2023]

    The model is an average velocity, which is asked for maps to t = 1 alone. For the path of CondOT.
    """

    draws = True

    def step(self, model, x, t, s, noise=None):
        data = x + span(t, 1.0, x) * model(x, like(t, x), like(1.0, x))
        return coefficient(s, x) * data + coefficient(1 - s, x) * noise


@torch.no_grad()
def sample_map(v: Map, x0: Tensor, times: Sequence[float] | Tensor = (0.0, 1.0)) -> Tensor:
    """States at the last time, by the map from each of the times to the next: one call each. Returns (n, *shape)."""
    require_no_derivative(x0, "sample_map")
    return simulate(v, x0, times, FlowMap())


@torch.no_grad()
def sample_consistency(
    v: Map, x0: Tensor, times: Sequence[float] = (0.0,), generator: torch.Generator | None = None
) -> Tensor:
    """Data by jumps to t = 1: from noise, then from the data noised back to each further time.    [Song et al. 2023]

    A network that was trained for t = 1 alone is no map between other times, so that several steps renoise.
    """
    require_no_derivative(x0, "sample_consistency")
    return simulate(v, x0, [*times, 1.0], Consistency(), generator=generator)


def _times(s, t, x: Tensor) -> tuple[Tensor, Tensor]:
    """Two times as tensors like x, one for each state, which derivatives need."""
    require_floating(x, "x")
    s, t = (torch.as_tensor(time, dtype=x.dtype, device=x.device) for time in (s, t))
    for time in (s, t):
        if time.ndim and time.shape != x.shape[:1]:
            raise ValueError(f"times must be scalars or have shape ({len(x)},), got {tuple(time.shape)}")
    return s.expand(len(x)).clone(), t.expand(len(x)).clone()


def _gap(s, t, x: Tensor):
    """t − s in the shape that multiplies x."""
    gap = t - s
    if isinstance(gap, Tensor) and gap.ndim and gap.shape != x.shape[:1]:
        raise ValueError(f"times must be scalars or have shape ({len(x)},), got {tuple(gap.shape)}")
    return coefficient(gap, x)
