"""Likelihood: the density that a flow gives to a point, by the instantaneous change of variables.

A flow ψ_t carries the density p_0 = p_init along, p_t = (ψ_t)_# p_0, and along one trajectory X_t = ψ_t(X_0)

    d/dt log p_t(X_t) = −div u_t(X_t),   div u = Σ_i ∂u_i/∂x_i = tr ∂u/∂x                             [intro, ch. 2]
    log p_1(x) = log p_0(X_0) − ∫_0^1 div u_t(X_t) dt,   X_1 = x.                                  [intro, eq. 3, 4]

So one solve backwards from x gives both X_0 and the integral. The divergence is exact, at the price of one backward
pass per dimension, or Hutchinson's estimate, at one pass per probe: E[vᵀ (∂u/∂x) v] = div u for any random v with
E[v vᵀ] = I.
"""

import torch
from torch import Tensor

from fmlab.distributions import log_normal
from fmlab.processes import ODE, Field
from fmlab.simulators import Midpoint, ODEMethod, simulate
from fmlab.values import coefficient, holds, require_precise, transformed, transforming


@torch.no_grad()
def log_likelihood(
    x: Tensor,
    vector_field: Field,
    p_init=None,
    *,
    steps: int = 100,
    method: ODEMethod | None = None,
    t_end: float = 1.0,
    probes: int | None = None,
    noise: str = "rademacher",
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p_t(x) at t = t_end under the flow of u that starts from p_init.    [intro, ch. 2]

    x: (n, *shape). vector_field: any callable u(x, t) that treats each row on its own, such as a network.
    p_init: a distribution with log_prob; N(0, I) if not given.
    method: `Midpoint()` if not given; it never looks at t_end itself, where some fields are singular.
    probes: None for the exact divergence, or the number of Hutchinson probes per point, drawn once for the whole solve,
    which makes log p unbiased up to the error of the method. noise: "rademacher" or "gaussian".
    Returns (n,), without gradients.
    Raises ValueError for t_end outside (0, 1], and what `simulate` and `draw_probes` raise.
    """
    if not 0 < t_end <= 1:
        raise ValueError(f"t_end must be in (0, 1], got {t_end}")
    _require_states(x)
    v = None if probes is None else draw_probes(probes, x, noise, generator)

    def joint_field(state, t):  # of (X_t, ∫ div u dt)
        u, div = _field_and_divergence(vector_field, state[:, :-1].reshape(x.shape), t, v)
        return torch.cat([u.flatten(1), div[:, None]], dim=1)

    end = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], dim=1)
    ts = torch.linspace(t_end, 0, steps + 1, dtype=torch.float64)
    start = simulate(ODE(joint_field), end, ts, method or Midpoint())
    x0, minus_integral = start[:, :-1].reshape(x.shape), start[:, -1]
    log_p0 = log_normal(x0, torch.zeros_like(x0), 1.0) if p_init is None else p_init.log_prob(x0)
    return log_p0 + minus_integral


def divergence(vector_field: Field, x: Tensor, t, probes: Tensor | None = None) -> Tensor:
    """div u_t(x) = Σ_i ∂u_i/∂x_i of a field that treats each row on its own.    [notes, eq. 22]

    x: (n, *shape); t: a scalar or (n,). probes: None for the exact value by one backward pass per dimension; or v of
    shape (m, n, *shape), from `draw_probes`, for Hutchinson's estimate, the mean of vᵀ (∂u/∂x) v over m probes.
    Returns (n,), without gradients.
    Raises ValueError if shapes differ, or if x is not floating point.
    """
    _require_states(x)
    return _field_and_divergence(vector_field, x, torch.as_tensor(t, dtype=x.dtype, device=x.device), probes)[1]


def continuity_residual(density: Field, vector_field: Field, x: Tensor, t) -> Tensor:
    """∂_t p + div(p u) at (x, t), which is 0 everywhere if and only if the flow of u carries p_t.    [notes, eq. 23]

    density: callable p(x, t) → (n,). vector_field: callable u(x, t). Both are differentiable, and treat each row on its
    own. x: (n, *shape); t: a scalar or (n,). Returns (n,), without gradients.
    """
    _require_states(x)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).detach().expand(len(x)).clone().requires_grad_()
        (change,) = torch.autograd.grad(density(x, t).sum() + 0 * t.sum(), t)
    return change + divergence(lambda x, t: coefficient(density(x, t), x) * vector_field(x, t), x, t.detach())


def fokker_planck_residual(density: Field, score: Field, drift: Field, sigma: float, x: Tensor, t) -> Tensor:
    """∂_t p + div(p b) − ½ σ² Δp at (x, t), for the SDE dX = b_t dt + σ dW.    [notes, eq. 50]

    Since ∇p = p ∇log p, it is the continuity equation of the field b − ½ σ² ∇log p.
    score: callable ∇log p(x, t). sigma: the number σ_t. Otherwise as for `continuity_residual`.
    """
    return continuity_residual(density, lambda x, t: drift(x, t) - sigma**2 / 2 * score(x, t), x, t)


def draw_probes(m: int, x: Tensor, noise: str = "rademacher", generator: torch.Generator | None = None) -> Tensor:
    """m random directions v with E[v vᵀ] = I for each row of x: (m, n, *shape).

    "rademacher" draws ±1, and is exact where ∂u/∂x is diagonal; "gaussian" draws N(0, 1).
    Raises ValueError for m < 1 or another kind of noise.
    """
    require_precise(x, "x")
    if m < 1:
        raise ValueError(f"need at least one probe, got {m}")
    v = x.new_empty(m, *x.shape)
    if noise == "rademacher":
        return v.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
    if noise == "gaussian":
        return v.normal_(generator=generator)
    raise ValueError(f'noise must be "rademacher" or "gaussian", got {noise!r}')


def _field_and_divergence(vector_field: Field, x: Tensor, t: Tensor, probes: Tensor | None) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()  # a clone made in inference mode would not be differentiated
        u = vector_field(x, t.clone())
        if not isinstance(u, Tensor) or u.shape != x.shape:
            shape = tuple(u.shape) if isinstance(u, Tensor) else type(u).__name__
            raise ValueError(f"the field must return a tensor of the shape of x, {tuple(x.shape)}, got {shape}")
        if not u.requires_grad and not holds(u == vector_field(x + 1, t.clone())):
            raise ValueError(
                "the field depends on x, but not differentiably: is it computed under torch.no_grad(), or detached?"
            )
        if probes is None:
            parts = (_pulled_back(u[(..., *i)], x)[(..., *i)] for i in _coordinates(x))
            return u.detach(), sum(parts, start=x.new_zeros(len(x)))
        if probes.shape[1:] != x.shape:
            raise ValueError(f"probes must have shape (m, *{tuple(x.shape)}), got {tuple(probes.shape)}")
        terms = [(_pulled_back(u * v, x) * v).flatten(1).sum(1) for v in probes]
        return u.detach(), torch.stack(terms).mean(0)


def _require_states(x: Tensor) -> None:
    """Raise unless x has the shape (n, *shape), in a precision that derivatives can be taken in, and outside of
    torch.func."""
    require_precise(x, "x")
    if x.ndim < 2:
        raise ValueError(f"x must have shape (n, *shape), got {tuple(x.shape)}; n numbers are x[:, None]")
    if transforming() or transformed(x):
        raise ValueError("divergences take derivatives of their own, row by row; they do not work within torch.func")


def _pulled_back(value: Tensor, x: Tensor) -> Tensor:
    """Gradient of each row's sum of value with respect to that row of x."""
    if not value.requires_grad:  # the field does not depend on x
        return torch.zeros_like(x)
    return torch.autograd.grad(value.sum(), x, retain_graph=True, materialize_grads=True)[0]


def _coordinates(x: Tensor):
    """Indices of all entries of one row."""
    return torch.cartesian_prod(*(torch.arange(size) for size in x.shape[1:])).reshape(-1, x.ndim - 1).tolist()
