"""How a check calls a student's object, compares what comes back, and shows its verdict."""

import functools
import math
import traceback
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_passed: dict[str, Callable] = {}


class CheckFailed(AssertionError):
    """A verdict: the answer is not right (yet). Notebooks show its words alone, without a traceback."""

    def _render_traceback_(self):
        return str(self).splitlines()


def check(reread: str, passed: str = "", hidden: bool = False) -> Callable:
    """Make a check of `body(answer)`: the exercise is named by the function.

    reread: the place in the notes that a failed check points to. passed: what a passed check means, in a few words.
    hidden: a check that is silent when it passes and does not count as passed for `answer_or`.
    """

    def decorate(body: Callable) -> Callable:
        name = body.__name__

        @functools.wraps(body)
        def run(answer) -> None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                try:
                    body(_Guarded(name, answer))
                except Exception as failure:
                    _passed.pop(name, None)
                    if not isinstance(failure, CheckFailed):
                        failure = f"what came back could not be compared ({type(failure).__name__}: {failure})"
                    raise CheckFailed(f"✗ {name}: {failure}\n  Reread: {reread}.") from None
            if not hidden:
                _passed[name] = answer
                print(f"✓ {name}: {passed}")

        return run

    return decorate


def answer_or(name: str, otherwise: Callable) -> Callable:
    """The student's answer to an exercise once its check has passed, else the library's function `otherwise`.

    Figures use it, so that every part of a lab works whatever was solved before it.
    """
    if name not in _passed:
        print(f"{name} has not passed its check yet: this cell uses fmlab's own instead.")
    return _passed.get(name, otherwise)


class _Guarded:
    """A student's object whose calls fail with a verdict instead of a bare exception."""

    def __init__(self, name: str, answer):
        if not callable(answer):
            fail(f"should be a function, found {describe(answer)}")
        self.name, self.answer = name, answer

    def __call__(self, *args):
        before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in args]
        try:
            found = self.answer(*args)
        except NotImplementedError:
            fail("not solved yet; write your solution in the cell above, run it, then run this check again")
        except CheckFailed:
            raise
        except Exception as error:
            fail(f"raised {type(error).__name__}: {error}{self._where(error)}\n  called with {_describe_all(before)}")
        for given, now in zip(before, args, strict=True):
            if isinstance(now, Tensor) and not torch.equal(given, now):
                fail("changed a tensor it was given; compute a new one instead (x + …, not x += …)")
        return found

    def _where(self, error: Exception) -> str:
        """The line of the student's code that raised."""
        file = getattr(getattr(self.answer, "__code__", None), "co_filename", None)
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        return f"\n  in line {lines[-1].lineno}: {lines[-1].line}" if lines else ""


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


def _describe_all(values) -> str:
    return "; ".join("a function" if callable(value) else describe(value) for value in values)


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
