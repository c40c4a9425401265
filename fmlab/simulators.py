"""Simulators: one-step methods, and the loop that repeats them over a time grid.

A method advances the state by one step of size h. Deterministic methods solve dX = u_t(X) dt; their global error is
O(h^order). Euler–Maruyama solves dX = u_t(X) dt + σ_t(X) dW in the Itô sense with strong order ½ (1 for additive
noise) and weak order 1.

    Euler             X_{t+h} = X_t + h u_t(X_t)                                      [notes, eq. 4]
    Heun              X_{t+h} = X_t + h/2 (u_t(X_t) + u_{t+h}(X_t + h u_t(X_t)))      [notes, § 2.1]
    Midpoint          X_{t+h} = X_t + h u_{t+h/2}(X_t + h/2 u_t(X_t))
    RK4               the classical fourth-order Runge–Kutta method
    Euler–Maruyama    X_{t+h} = X_t + h u_t(X_t) + √h σ_t(X_t) ε,   ε ~ N(0, I)       [notes, eq. 9]
"""

import copy
import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from fmlab.processes import ODE, SDE, Field, LinearSDE, at


class ODEMethod:
    """A deterministic method: subclasses define `step` and state their `order`."""

    order: int

    def step(self, u: Field, x: Tensor, t: Tensor, h: float) -> Tensor:
        """State at t + h from the state x at t, along the vector field u. Leaves x as it is."""
        raise NotImplementedError


class Euler(ODEMethod):
    """X_{t+h} = X_t + h u_t(X_t), order 1.    [notes, eq. 4]"""

    order = 1

    def step(self, u, x, t, h):
        return torch.add(x, u(x, t), alpha=h)


class Heun(ODEMethod):
    """X_{t+h} = X_t + h/2 (u_t(X_t) + u_{t+h}(X')) from the guess X' = X_t + h u_t(X_t), order 2.    [notes, § 2.1]"""

    order = 2

    def step(self, u, x, t, h):
        now = u(x, t)
        ahead = u(x + h * now, t + h)
        return x + h / 2 * (now + ahead)


class Midpoint(ODEMethod):
    """X_{t+h} = X_t + h u_{t+h/2}(X_t + h/2 u_t(X_t)), order 2."""

    order = 2

    def step(self, u, x, t, h):
        return x + h * u(x + h / 2 * u(x, t), t + h / 2)


class RK4(ODEMethod):
    """X_{t+h} = X_t + h/6 (k_1 + 2 k_2 + 2 k_3 + k_4), order 4."""

    order = 4

    def step(self, u, x, t, h):
        k1 = u(x, t)
        k2 = u(x + h / 2 * k1, t + h / 2)
        k3 = u(x + h / 2 * k2, t + h / 2)
        k4 = u(x + h * k3, t + h)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


class EulerMaruyama:
    """X_{t+h} = X_t + h u_t(X_t) + √h σ_t(X_t) ε with ε ~ N(0, I).    [notes, eq. 9]

    Strong order ½ (1 where σ does not depend on x), weak order 1; Euler's method where σ = 0.
    """

    def step(self, process: SDE, x: Tensor, t: Tensor, h: float, noise: Tensor, out: Tensor | None = None) -> Tensor:
        """State at t + h from the state x at t and standard normal noise ε of the shape of x.

        Leaves x and noise as they are, unless out=noise asks for the new state in the place of the noise: the same
        formula in fewer passes over memory, where no gradient is tracked.
        """
        drift, sigma = process.drift(x, t), process.diffusion(x, t)
        if out is None or _tracked(x, drift, sigma):
            return torch.add(x, drift, alpha=h) + h**0.5 * sigma * noise
        if isinstance(sigma, Tensor):
            moved = torch.addcmul(x, noise, sigma, value=h**0.5, out=out)
        else:
            moved = torch.add(x, noise, alpha=h**0.5 * sigma, out=out)
        return moved.add_(drift, alpha=h)


def simulate(
    process: SDE,
    x0: Tensor,
    ts: Tensor | Sequence[float],
    method: ODEMethod | EulerMaruyama | None = None,
    record: bool | Sequence[int] = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Solve a process from the states x_0 at ts[0] to ts[-1], one step of the method per interval.    [notes, alg. 1–2]

    process: an `ODE` or an `SDE`. x0: (n, *shape), floating point. ts: at least two times, strictly increasing;
    an ODE also runs backwards along strictly decreasing times, which inverts its flow.
    method: by default `Euler()` for an ODE and `EulerMaruyama()` for an SDE.
    record: False for the end points (n, *shape); True for the states at all times (len(ts), n, *shape); or the
    increasing indices of the times to keep, such as range(0, len(ts), 10), of which alone memory is held.
    generator: source of the noise.

    The memory of a state handed to a field serves later steps too: clone it to keep it. Gradients are tracked where
    x_0 or a field requires them.

    Raises TypeError if process, method or generator is not one, ValueError for times, shapes, dtypes or devices that
    do not fit together, and FloatingPointError naming the time at which a state is found not to be finite.
    """
    if not isinstance(process, SDE):
        raise TypeError(f"process must be an ODE or an SDE, got {type(process).__name__}; wrap a field as ODE(u)")
    if not isinstance(x0, Tensor) or not x0.is_floating_point() or not x0.ndim:
        raise ValueError("x0 must be a floating-point tensor of shape (n, *shape)")
    times, steps = _time_grid(ts, x0, backwards=isinstance(process, ODE))
    advance = _advance(process, method, x0, generator)
    kept = {index: row for row, index in enumerate(_kept_times(record, len(times)))}
    states = x0.new_empty(len(kept), *x0.shape)
    look = max(1, len(steps) // 100)  # a state that is not finite stays so: it need not be looked for at every step

    x = x0.clone()
    if not _finite(x):
        raise FloatingPointError(f"the initial state, at t = {times[0]:g}, is not finite (NaN or infinite)")
    if 0 in kept:
        states[kept[0]] = x
    for k, (t, h) in enumerate(zip(times, steps, strict=False), start=1):
        x = _like(advance(x, t, h), x0, "the step")
        if (k % look == 0 or k == len(steps)) and not _finite(x):
            raise FloatingPointError(
                f"the state at t = {times[k]:g}, after {k} of {len(steps)} steps, is not finite (NaN or infinite); "
                f"at t = {times[(k - 1) // look * look]:g} it still was. Try smaller steps"
            )
        if k in kept:
            states[kept[k]] = x
    return x if record is False else states


def _advance(process: SDE, method, x0: Tensor, generator: torch.Generator | None):
    """The map (x, t, h) ↦ state at t + h, with the fields' results checked on the way."""
    drift = _checked(process.drift, x0)
    if isinstance(process, ODE) and (method is None or type(method) is EulerMaruyama):
        method = Euler()  # σ = 0
    method = EulerMaruyama() if method is None else method
    if isinstance(method, type) or not hasattr(method, "step"):
        raise TypeError(f"method must be an object with a step, like Euler() or EulerMaruyama(), got {method!r}")
    if not isinstance(method, EulerMaruyama):
        if not isinstance(process, ODE):
            raise TypeError(f"{type(method).__name__} solves ODEs and would leave out the noise; use EulerMaruyama()")
        return lambda x, t, h: method.step(drift, x, t, h)
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if generator is not None and generator.device.type != x0.device.type:
        raise ValueError(f"mixed devices: x0 is on {x0.device}, the generator on {generator.device}")

    noisy_step = _linear_step if isinstance(process, LinearSDE) and type(method) is EulerMaruyama else _noisy_step
    process = copy.copy(process)
    process.drift, process.diffusion = drift, _checked_diffusion(process.diffusion, x0)
    spare = torch.empty_like(x0, requires_grad=False)

    def advance(x, t, h):
        """Noise is drawn into spare memory and becomes the new state there; the old state's memory is spare next."""
        nonlocal spare
        noise = torch.empty_like(x, requires_grad=False) if x.requires_grad else spare
        moved = noisy_step(method, process, x, t, h, noise, generator)
        if moved is spare:
            spare = x
        return moved

    return advance


def _noisy_step(method, process: SDE, x: Tensor, t: Tensor, h: float, noise: Tensor, generator) -> Tensor:
    """The method's step with fresh noise."""
    return method.step(process, x, t, h, noise.normal_(generator=generator), out=noise)


def _linear_step(method, process: LinearSDE, x: Tensor, t: Tensor, h: float, noise: Tensor, generator) -> Tensor:
    """Euler–Maruyama's step (1 + h a_t) X + √h σ_t ε in one pass over memory: noise is scaled as it is drawn."""
    rate, sigma = _number(at(process.rate, t), "the rate"), _number(at(process.sigma, t), "sigma")
    if _tracked(x, rate, sigma):
        return _noisy_step(method, process, x, t, h, noise, generator)
    return noise.normal_(0, h**0.5 * abs(float(sigma)), generator=generator).add_(x, alpha=1 + h * float(rate))


def _time_grid(ts, x0: Tensor, backwards: bool) -> tuple[tuple[Tensor, ...], list[float]]:
    """Times as 0-dimensional tensors like x0, and the steps between them as numbers."""
    if isinstance(ts, Tensor) and ts.device != x0.device:
        raise ValueError(f"mixed devices: x0 is on {x0.device}, ts on {ts.device}")
    try:
        times = torch.as_tensor(ts, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"ts must be a sequence of times, got {ts!r}") from None
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"ts must hold at least two times in one dimension, got shape {tuple(times.shape)}")
    if not times.isfinite().all():
        raise ValueError(f"ts must be finite, got {times.tolist()}")
    steps = times.diff()
    wrong = steps >= 0 if backwards and steps[0] < 0 else steps <= 0
    if wrong.any():
        k = int(wrong.nonzero()[0])
        also = " (or strictly decreasing, to run an ODE backwards)" if backwards else ""
        found = f"ts[{k}] = {times[k]:g}, ts[{k + 1}] = {times[k + 1]:g}"
        raise ValueError(f"ts must be strictly increasing{also}: {found}")
    return times.to(x0).unbind(), steps.tolist()


def _kept_times(record: bool | Sequence[int], n_times: int) -> list[int]:
    """Indices of the times to record."""
    if isinstance(record, bool):
        return list(range(n_times)) if record else []
    try:
        kept = [range(n_times)[index] for index in record]
    except (TypeError, IndexError):
        raise ValueError(f"record must be True, False or indices into the {n_times} times, got {record!r}") from None
    if any(a >= b for a, b in zip(kept, kept[1:], strict=False)):
        raise ValueError(f"record must list each time once, in increasing order, got {record!r}")
    return kept


def _checked(field: Field, x0: Tensor) -> Field:
    return lambda x, t: _like(field(x, t), x0, "the field")


def _checked_diffusion(diffusion: Field, x0: Tensor) -> Field:
    def checked(x, t):
        sigma = diffusion(x, t)
        if not isinstance(sigma, Tensor) or sigma.ndim == 0:
            return _number(sigma, "a diffusion coefficient that is no tensor")
        return _like(sigma.expand_as(x) if _broadcasts(sigma, x) else sigma, x0, "the diffusion coefficient")

    return checked


def _broadcasts(value: Tensor, x: Tensor) -> bool:
    return value.ndim == x.ndim and all(a in (1, b) for a, b in zip(value.shape, x.shape, strict=True))


def _like(value, x0: Tensor, what: str) -> Tensor:
    """The value itself, if it is a tensor of the shape, dtype and device of the states."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{what} must return a tensor like the state, got {type(value).__name__}")
    if value.shape == x0.shape and value.dtype == x0.dtype and value.device == x0.device:
        return value
    name = next(name for name in ("shape", "dtype", "device") if getattr(value, name) != getattr(x0, name))
    raise ValueError(f"{what} returned {name} {_show(value, name)}, but the state has {_show(x0, name)}")


def _number(value, what: str):
    """The value itself, if it is a number or a 0-dimensional tensor."""
    if not isinstance(value, Real) and not (isinstance(value, Tensor) and value.ndim == 0):
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} must be a number at each time, got {found}")
    return value


def _show(x: Tensor, name: str) -> str:
    return str(tuple(x.shape) if name == "shape" else getattr(x, name))


def _finite(x: Tensor) -> bool:
    """A finite sum has finite terms, and costs less than a look at each. (Finite terms may have an infinite sum.)"""
    return math.isfinite(x.detach().sum()) or bool(x.isfinite().all())


def _tracked(*values) -> bool:
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)
