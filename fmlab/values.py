"""Values that functions are given: checks of states and times, and the precision that a device has for them.

Times are in [0, 1]; states are floating point, x: (n, *shape), with one time for all or (n,), a time for each row.
What looks at numbers also takes tensors that have none: on the device "meta" conditions are taken to hold, and within
`torch.func.vmap` times are clamped unseen.
"""

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor
from torch.autograd import forward_ad

HALF = (torch.float16, torch.bfloat16)  # of which sums and small steps lose all digits
WITHOUT_DOUBLE = {"mps"}  # devices without double precision


def holds(condition: Tensor, unseen: bool = True) -> bool:
    """Whether a condition holds everywhere.

    unseen: what is said of tensors that have no numbers to look at, on the device "meta" and within `torch.func.vmap`.
    """
    if condition.is_meta:
        return unseen
    try:
        return bool(condition.all())
    except RuntimeError:
        if transformed(condition):
            return unseen
        raise


def transformed(*values) -> bool:
    """Whether any of the values is a tensor within `torch.func`, such as `vmap`, or has a forward derivative."""
    return any(
        torch._C._functorch.is_functorch_wrapped_tensor(value) or forward_ad.unpack_dual(value).tangent is not None
        for value in values
        if isinstance(value, Tensor)
    )


def transforming() -> bool:
    """Whether `torch.func` is at work, within which torch's own autograd cannot be used."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def tracked(*values) -> bool:
    """Whether a derivative may be asked for in any of the values, backward or forward."""
    return any(isinstance(value, Tensor) and value.requires_grad for value in values) or transformed(*values)


def require_no_derivative(x: Tensor, name: str) -> None:
    """Raise a ValueError where `torch.func` would make a derivative of 0 of a function that tracks no gradients."""
    if transforming() and differentiated(x):
        raise ValueError(f"{name} tracks no gradients, and cannot be differentiated by torch.func")


def differentiated(value) -> bool:
    """Whether a derivative in a value is taken now, by autograd or by `torch.func`."""
    while isinstance(value, Tensor):
        if value.requires_grad or forward_ad.unpack_dual(value).tangent is not None:
            return True
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(value)
        value = torch._C._functorch.get_unwrapped(value) if wrapped else None
    return False


def widest(device: torch.device) -> torch.dtype:
    """Double precision, or single on a device that has no other."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def precise(x) -> Tensor:
    """A tensor, or numbers, in the best precision that the device has."""
    x = x if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float64)
    return x.to(widest(x.device))


def floating(value) -> Tensor:
    """As a floating-point tensor. A number keeps all its digits, and still takes the dtype of what it multiplies."""
    if isinstance(value, Real):
        return torch.tensor(float(value), dtype=torch.float64)
    value = torch.as_tensor(value)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def half(*values: Tensor) -> bool:
    """Whether any of the values has half precision."""
    return any(isinstance(value, Tensor) and value.dtype in HALF for value in values)


def in_single(function: Callable, *args, **kwargs):
    """What a function of tensors computes in single precision of what is given in half precision, as half again."""
    given = (*args, *kwargs.values())
    dtypes = {v.dtype for v in given if isinstance(v, Tensor) and v.is_floating_point() and v.ndim}
    result = function(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})
    return _rounded(result, dtypes.pop()) if len(dtypes) == 1 else result


def _single(value):
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def _rounded(value, dtype: torch.dtype):
    if isinstance(value, tuple):
        return tuple(_rounded(each, dtype) for each in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def normal_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers in the shape of x, the same ones whatever the layout of x in memory."""
    require_floating(x, "the state")
    return torch.empty(x.shape, dtype=x.dtype, device=x.device).normal_(generator=generator)


def require_tensor(x, name: str) -> None:
    """Raise a TypeError unless x, which is called by a name, is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}; use torch.as_tensor")


def require_floating(x: Tensor, name: str) -> None:
    """Raise a TypeError unless x, which is called by a name, is a tensor, and a ValueError unless it is floating point.

    What differentiates or calls a network takes no half precision; see `require_precise`.
    """
    require_tensor(x, name)
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}; use x.float() or x.double()")


def require_precise(x: Tensor, name: str) -> None:
    """`require_floating`, and a ValueError for half precision."""
    require_floating(x, name)
    if x.dtype in HALF:
        raise ValueError(f"{name} has half precision ({x.dtype}), in which sums lose their digits; use {name}.float()")


def require_one_shape(**states: Tensor) -> None:
    """Raise a ValueError unless all states, called by their names, are floating point and of one kind and shape."""
    for name, value in states.items():
        require_floating(value, name)
    for name in ("shape", "dtype", "device"):
        found = [getattr(value, name) for value in states.values()]
        if any(each != found[0] for each in found):
            found = [str(tuple(each) if name == "shape" else each) for each in found]
            raise ValueError(f"{' and '.join(states)} must have one {name}, got {' and '.join(found)}")


def squares(x: Tensor) -> Tensor:
    """‖x‖² of each row of x: (n, *shape). Returns (n,)."""
    require_floating(x, "x")
    return x.square().reshape(len(x), math.prod(x.shape[1:])).sum(1)


def time(t) -> Tensor:
    """t as a floating-point tensor in [0, 1], of which rounding may miss the ends. Raises ValueError outside."""
    t = floating(t)
    slack = 1e-6  # eight roundings in single precision, from which a time may come whatever it is now
    try:
        first, last = map(float, torch.aminmax(t.detach())) if t.numel() else (0.0, 1.0)
    except RuntimeError:  # within torch.func.vmap no tensor has numbers to look at
        return t.clamp(0, 1)
    if not (-slack <= first and last <= 1 + slack):
        raise ValueError(f"times must be in [0, 1], got values from {first:g} to {last:g}")
    return t.clamp(0, 1)


def time_like(t, x: Tensor) -> Tensor:
    """t as a tensor of the dtype and device of x.

    Raises ValueError unless x is floating point and t a scalar or (n,), in [0, 1].
    """
    require_floating(x, "states")
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    if t.ndim and t.shape != x.shape[:1]:
        raise ValueError(f"t must be a scalar or have shape {tuple(x.shape[:1])}, got {tuple(t.shape)}")
    return time(t)


def coefficient(value, x: Tensor):
    """A coefficient of time, a number or (n,), in the shape that multiplies x: (n, *shape)."""
    if not getattr(value, "ndim", 0):
        return value
    require_tensor(x, "x")
    return value.reshape(-1, *[1] * (x.ndim - 1))


def require(ok: Tensor, t, why: str) -> None:
    """Raise a ValueError that names the first time at which a condition fails. ok, t: scalars or (n,)."""
    if not holds(ok):
        bad = torch.as_tensor(t).expand(ok.shape).flatten()[~ok.flatten()][0]
        raise ValueError(f"singular at t = {float(bad):g}: {why}")
