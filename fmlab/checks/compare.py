"""How a check compares what came back with what is right, and words the difference."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class CheckFailed(AssertionError):
    """A verdict: the answer is not right (yet). Notebooks show its words alone, without a traceback."""

    def _render_traceback_(self):
        first, *others = str(self).splitlines()
        return [f"\x1b[1m{first}\x1b[0m", *others]  # bold, in a notebook


def fail(message: str):
    """End a check with a verdict."""
    raise CheckFailed(message)


def require(condition, message: str) -> None:
    """Fail with the message unless the condition holds."""
    if not condition:
        fail(message)


def require_tensor(found, like: Tensor, what: str) -> None:
    """Fail unless `found` is a tensor of the shape and dtype of `like`."""
    if not isinstance(found, Tensor):
        fail(f"{what} should be a tensor of shape {tuple(like.shape)}, found {describe(found)}")
    if found.shape != like.shape:
        fail(f"{what} should have shape {tuple(like.shape)}, found {tuple(found.shape)}")
    if found.dtype != like.dtype:
        fail(f"{what} should keep the dtype {like.dtype}, found {found.dtype}")


def require_close(
    found, expected: Tensor, what: str, mistakes: Mapping[str, Tensor] | None = None, tolerance: float | None = None
) -> None:
    """Fail unless `found` is the expected tensor; a match with a known mistake is named.

    mistakes: words for a misconception → the tensor it leads to. tolerance: relative to the largest expected value;
    by default a few hundred roundings of the dtype.
    """
    require_tensor(found, expected, what)
    if _close(found, expected, tolerance):
        return
    named = [words for words, wrong in (mistakes or {}).items() if _close(found, wrong, tolerance)]
    reason = f"it looks as if {named[0]}" if named else "no common slip gives these numbers"
    fail(f"{what} is not right; {reason}.\n  expected {_numbers(expected)}\n  found    {_numbers(found)}")


def require_number(found, expected: float, what: str, mistakes: Mapping[str, float] | None = None, tolerance=1e-4):
    """`require_close` for one number, given as a Python number or as a tensor with one element."""
    if (isinstance(found, Tensor) and found.numel() == 1) or isinstance(found, (int, float)):
        found = torch.tensor(float(found), dtype=torch.float64)
    elif not isinstance(found, Tensor) and hasattr(found, "item"):
        found = torch.tensor(float(found.item()), dtype=torch.float64)
    else:
        fail(f"{what} should be one number, found {describe(found)}")
    as_tensor = {words: torch.tensor(value, dtype=torch.float64) for words, value in (mistakes or {}).items()}
    require_close(found, torch.tensor(expected, dtype=torch.float64), what, as_tensor, tolerance)


def describe(value) -> str:
    """A value in a few words: type, and shape and dtype where it has them."""
    if value is None:
        return "None (is there a return?)"
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return f"a {type(value).__name__}"


def _close(found: Tensor, expected: Tensor, tolerance: float | None) -> bool:
    tolerance = tolerance or 300 * torch.finfo(expected.dtype).eps
    scale = float(expected.detach().abs().max()) if expected.numel() else 1.0
    near = torch.allclose(found.detach().to(expected), expected, rtol=tolerance, atol=tolerance * max(scale, 1e-30))
    return found.shape == expected.shape and near and math.isfinite(scale)


def _numbers(values: Tensor) -> str:
    """The first few numbers of a tensor."""
    flat = values.detach().flatten()
    shown = ", ".join(f"{value:.5g}" for value in flat[:4].tolist())
    return f"{shown}{', …' if flat.numel() > 4 else ''}   (shape {tuple(values.shape)})"
