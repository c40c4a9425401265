"""Simulators: methods that take one step, and the loop that repeats them over a time grid.

A method takes a state from time t to time s by asking a model. What a model is, the method says: a field u(x, t), an
`SDE`, a network that predicts the noise, a denoiser of tokens, a flow map. A method that `draws` is given random
numbers. Deterministic methods solve dX = u_t(X) dt; with h = s − t their global error is O(h^order). Euler–Maruyama
solves dX = u_t(X) dt + σ_t(X) dW in the Itô sense with strong order ½ (1 for additive noise) and weak order 1.

    Euler             X_s = X_t + h u_t(X_t)                                      [notes, eq. 4]
    Heun              X_s = X_t + h/2 (u_t(X_t) + u_s(X_t + h u_t(X_t)))          [notes, § 2.1]
    Midpoint          X_s = X_t + h u_{t+h/2}(X_t + h/2 u_t(X_t))
    RK4               the classical fourth-order Runge–Kutta method
    Euler–Maruyama    X_s = X_t + h u_t(X_t) + √h σ_t(X_t) ε,   ε ~ N(0, I)       [notes, eq. 9]
"""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fmlab.processes import ODE, SDE, Field, LinearSDE, at
from fmlab.values import HALF, coefficient, differentiated, holds, normal_like, tracked, transformed

Time = float | Tensor  # a number; or a tensor, of no dimension or with one time for each state


class Method:
    """A way to take one step. Subclasses define `step`, and say whether it `draws`."""

    draws = False

    def step(self, model: Any, x: Tensor, t: Time, s: Time, noise: Tensor | None = None) -> Tensor:
        """State at time s from the state x at time t. Leaves x and noise as they are. noise: as `noise_like` makes it,
        where the method draws."""
        raise NotImplementedError

    def noise_like(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The random numbers of one step from x: standard normal ones in its shape, whatever its layout in memory."""
        return normal_like(x, generator)

    def checked(self, model: Any, x0: Tensor) -> Any:
        """The model, whose answers are looked at as they come.

        Raises TypeError for a model that this method cannot ask, and ValueError for states that it cannot move.
        """
        return model

    def advance(self, model: Any, x: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """`step`, with random numbers of its own."""
        return self.step(model, x, t, s, self.noise_like(x, generator) if self.draws else None)


class ODEMethod(Method):
    """A deterministic method for a field u(x, t): subclasses define `step` and state their `order`."""

    order: int

    def checked(self, model, x0):
        if isinstance(model, SDE) and not isinstance(model, ODE):
            raise TypeError(f"{type(self).__name__} solves ODEs and would leave out the noise; use EulerMaruyama()")
        return _checked(model.drift if isinstance(model, ODE) else _callable(model), _floating(x0))


class Euler(ODEMethod):
    """X_s = X_t + h u_t(X_t), order 1.    [notes, eq. 4]"""

    order = 1

    def step(self, model, x, t, s, noise=None):
        return _along(x, model(x, like(t, x)), span(t, s, x))


class Heun(ODEMethod):
    """X_s = X_t + h/2 (u_t(X_t) + u_s(X')) from the guess X' = X_t + h u_t(X_t), order 2.    [notes, § 2.1]"""

    order = 2

    def step(self, model, x, t, s, noise=None):
        h = span(t, s, x)
        now = model(x, like(t, x))
        ahead = model(x + h * now, like(s, x))
        return x + h / 2 * (now + ahead)


class Midpoint(ODEMethod):
    """X_s = X_t + h u_{t+h/2}(X_t + h/2 u_t(X_t)), order 2."""

    order = 2

    def step(self, model, x, t, s, noise=None):
        h = span(t, s, x)
        return x + h * model(x + h / 2 * model(x, like(t, x)), like(t + (s - t) / 2, x))


class RK4(ODEMethod):
    """X_s = X_t + h/6 (k_1 + 2 k_2 + 2 k_3 + k_4), order 4."""

    order = 4

    def step(self, model, x, t, s, noise=None):
        h, middle = span(t, s, x), like(t + (s - t) / 2, x)
        k1 = model(x, like(t, x))
        k2 = model(x + h / 2 * k1, middle)
        k3 = model(x + h / 2 * k2, middle)
        k4 = model(x + h * k3, like(s, x))
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


class EulerMaruyama(Method):
    """X_s = X_t + h u_t(X_t) + √h σ_t(X_t) ε with ε ~ N(0, I).    [notes, eq. 9]

    Strong order ½ (1 where σ does not depend on x), weak order 1; Euler's method where σ = 0. The model is an `SDE`.
    """

    draws = True

    def step(self, model, x, t, s, noise=None):
        now = like(t, x)
        return _shaken(x, model.drift(x, now), model.diffusion(x, now), span(t, s, x), noise)

    def checked(self, model, x0):
        if not isinstance(model, SDE):
            raise TypeError(f"the process must be an ODE or an SDE, got {type(model).__name__}; wrap a field as ODE(u)")
        process = copy.copy(model)
        process.drift, process.diffusion = _checked(model.drift, _floating(x0)), _checked_diffusion(model.diffusion, x0)
        process.made = process.spare = None  # the last state that was made here; memory for the next
        return process

    def advance(self, model, x, t, s, generator=None):
        """`step`, in fewer passes over memory where that is possible: the noise becomes the new state."""
        if type(self).step is not EulerMaruyama.step:
            return super().advance(model, x, t, s, generator)
        if isinstance(model, LinearSDE) and "spare" in vars(model):
            return self._linear(model, x, t, s, generator)
        now, h = like(t, x), s - t
        drift, sigma, noise = model.drift(x, now), model.diffusion(x, now), self.noise_like(x, generator)
        if tracked(x, drift, sigma):
            return _shaken(x, drift, sigma, h, noise)
        if isinstance(sigma, Tensor):
            moved = torch.addcmul(x, noise, sigma, value=h**0.5, out=noise)
        else:
            moved = torch.add(x, noise, alpha=h**0.5 * sigma, out=noise)
        return moved.add_(drift, alpha=h)

    def _linear(self, model: LinearSDE, x: Tensor, t: float, s: float, generator) -> Tensor:
        """(1 + h a_t) X + √h σ_t ε in one pass over memory: noise is scaled as it is drawn. As the coefficients are not
        shown the state, the memory of the one before serves for the next."""
        now, h = like(t, x), s - t
        rate, sigma = _number(at(model.rate, now), "the rate"), _number(at(model.sigma, now), "sigma")
        if tracked(x, rate, sigma) or x.is_meta or sigma < 0:
            return self.step(model, x, t, s, self.noise_like(x, generator))
        noise = torch.empty(x.shape, dtype=x.dtype, device=x.device) if model.spare is None else model.spare
        noise.normal_(0, h**0.5 * float(sigma), generator=generator).add_(x, alpha=1 + h * float(rate))
        model.spare, model.made = x if x is model.made else None, noise
        return noise


def simulate(
    process: Any,
    x0: Tensor,
    ts: Tensor | Sequence[float],
    method: Method | None = None,
    record: bool | Sequence[int] = False,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """States of a process from x_0 at ts[0] to ts[-1], one step of the method per interval.    [notes, alg. 1–2]

    process: an `ODE` or an `SDE`; or, with a method, whatever model that asks. x0: (n, *shape). ts: at least two times,
    strictly increasing, or strictly decreasing for a method that does not draw, which inverts a flow.
    method: by default `Euler()` for an ODE and `EulerMaruyama()` for an SDE.
    record: False for the end points (n, *shape); True for the states at all times (len(ts), n, *shape); or the
    increasing indices of the times to keep, such as range(0, len(ts), 10), of which alone memory is held.
    generator: source of the noise. progress: whether a bar shows how far it is.

    Times are kept as numbers in double precision, and handed to fields like x. Gradients are tracked where x_0 or a
    field requires them, not through ts. In half precision fields see and return half, and steps are in single.

    Raises TypeError if process, method or generator is not one, ValueError for times, shapes, dtypes or devices that
    do not fit together, and FloatingPointError naming the time at which a state is found not to be finite.
    """
    method = _method(process, method)
    if not isinstance(x0, Tensor) or not x0.ndim:
        raise ValueError("x0 must be a tensor of shape (n, *shape)")
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if x0.dtype in HALF:
        return simulate(_seeing_half(process, x0), x0.float(), ts, method, record, generator, progress).to(x0.dtype)
    if generator is not None and generator.device.type != x0.device.type:
        raise ValueError(f"mixed devices: x0 is on {x0.device}, the generator on {generator.device}")
    model, times = method.checked(process, x0), _time_grid(ts, backwards=not method.draws)
    kept = {index: row for row, index in enumerate(_kept_times(record, len(times)))}
    states = x0.new_empty(len(kept), *x0.shape)
    last = len(times) - 1
    look = max(1, last // 100)  # a state that is not finite stays so: it need not be looked for at every step

    x = x0.clone()
    if not _finite(x):
        raise FloatingPointError(f"the initial state, at t = {times[0]:g}, is not finite (NaN or infinite)")
    if 0 in kept:
        states[kept[0]] = x
    for k in tqdm(range(1, last + 1), desc="steps", disable=None if progress else True):
        x = _like(method.advance(model, x, times[k - 1], times[k], generator), x0, "the step")
        if (k % look == 0 or k == last) and not _finite(x):
            raise FloatingPointError(
                f"the state at t = {times[k]:g}, after {k} of {last} steps, is not finite (NaN or infinite); "
                f"at t = {times[(k - 1) // look * look]:g} it still was. Try smaller steps"
            )
        if k in kept:
            states[kept[k]] = x
    return x if record is False else states


def _method(process, method) -> Method:
    """The method, or the one that is usual for the process."""
    if isinstance(process, ODE) and (method is None or type(method) is EulerMaruyama):
        return Euler()  # σ = 0
    if method is None:
        return EulerMaruyama()
    if not isinstance(method, Method):
        raise TypeError(f"method must be an object with a step, like Euler() or EulerMaruyama(), got {method!r}")
    return method


def like(t: Time, x: Tensor) -> Tensor:
    """A time as a tensor; a number becomes one of the dtype and on the device of x."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=x.dtype, device=x.device)


def span(t: Time, s: Time, x: Tensor) -> float | Tensor:
    """h = s − t as a number, or in the shape that multiplies x."""
    h = s - t
    return h if not isinstance(h, Tensor) else coefficient(h, x) if h.ndim or h.is_meta else float(h)


def _along(x: Tensor, velocity: Tensor, h: float | Tensor) -> Tensor:
    return x + h * velocity if isinstance(h, Tensor) else torch.add(x, velocity, alpha=h)


def _shaken(x: Tensor, drift: Tensor, sigma, h: float | Tensor, noise: Tensor) -> Tensor:
    return _along(x, drift, h) + h**0.5 * sigma * noise


def _callable(field) -> Field:
    if not callable(field):
        raise TypeError(f"the field must be a callable of (x, t), got {type(field).__name__}")
    return field


def _floating(x0: Tensor) -> Tensor:
    if not x0.is_floating_point():
        raise ValueError(f"x0 must be a floating-point tensor of shape (n, *shape), got {x0.dtype}")
    return x0


def as_times(value, name: str, kind: str) -> Tensor:
    """Times as a tensor in double precision on the CPU. Raises ValueError, which calls the value by its name and says
    of what kind it must be."""
    if differentiated(value):
        raise ValueError(f"gradients do not flow through {name}, which are kept as numbers; detach them")
    try:
        return torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be {kind}, got {str(value)[:80]}") from None


def _time_grid(ts, backwards: bool) -> list[float]:
    """Times as numbers."""
    times = as_times(ts, "ts", "a sequence of times")
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"ts must hold at least two times in one dimension, got shape {tuple(times.shape)}")
    if not times.isfinite().all():
        k = int((~times.isfinite()).nonzero()[0])
        raise ValueError(f"ts must be finite, got ts[{k}] = {times[k]:g}")
    steps = times.diff()
    wrong = steps >= 0 if backwards and steps[0] < 0 else steps <= 0
    if wrong.any():
        k = int(wrong.nonzero()[0])
        also = " (or strictly decreasing, to run an ODE backwards)" if backwards else ""
        found = f"ts[{k}] = {times[k]:g}, ts[{k + 1}] = {times[k + 1]:g}"
        raise ValueError(f"ts must be strictly increasing{also}: {found}")
    return times.tolist()


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


def _seeing_half(process: Any, x0: Tensor) -> Any:
    """A process or model that is shown states and times in the half precision of x0, and answers in single."""
    if isinstance(process, LinearSDE) or not (isinstance(process, SDE) or callable(process)):
        return process
    if not isinstance(process, SDE):
        return partial(_in_half, process, x0.dtype)
    process = copy.copy(process)
    process.drift = partial(_in_half, process.drift, x0.dtype)
    process.diffusion = partial(_in_half, process.diffusion, x0.dtype)
    return process


def _in_half(function: Callable, dtype: torch.dtype, *args):
    def floats(value):
        return isinstance(value, Tensor) and value.is_floating_point()

    value = function(*(arg.to(dtype) if floats(arg) else arg for arg in args))
    if floats(value) and value.dtype != dtype:
        raise ValueError(f"the field returned dtype {value.dtype}, but the state has {dtype}")
    return value.float() if floats(value) else value


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
    """A finite sum has finite terms, and costs less than a look at each. (Finite terms may have an infinite sum.)

    Whole numbers are finite; tensors without data, and those within `torch.func`, are not looked at.
    """
    if not x.is_floating_point() or x.is_meta or transformed(x):
        return True
    return math.isfinite(x.detach().sum()) or holds(x.isfinite())
