"""How a check compares what came back with what is right, and says where the two differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Relative to the largest expected number, for every check, seen and unseen. Single-precision rounding of a number stays
# below, and so does a guard of 1e-8 in a denominator; a guard of 1e-4 does not.
TOLERANCE = 5e-5


class Wrong(Exception):
    """Why an answer is not right. key: what two answers that are wrong in the same way have in common."""

    def __init__(self, reason: str, key: Any = None):
        super().__init__(reason)
        self.key = reason if key is None else key


class Stop(Wrong):
    """There is no use in looking further: the answer is not written yet, or does not end."""


def fail(reason: str):
    """End a check: the answer is not right, for this reason."""
    raise Wrong(reason)


def require(condition, reason: str) -> None:
    """Fail with the reason unless the condition holds."""
    if not condition:
        fail(reason)


class Look(NamedTuple):
    """One thing that a judge looks at: what it is (singular: it "is not right"), as it was found and as it should be.

    expected: a tensor, whose shape and dtype are asked for too; a number; or anything that can be equal. tolerance:
    relative to the largest expected number; by default the exercise's. error: instead of it, how far each number may
    be off, say six standard errors.
    """

    what: str
    found: Any
    expected: Any
    tolerance: float | None = None
    error: Tensor | float | None = None


class Difference(NamedTuple):
    """Where an answer is not right: why, and what was expected and found at the place where the two differ most."""

    reason: str
    expected: str = ""
    found: str = ""
    where: str = ""


def difference(look: Look, tolerance: float = TOLERANCE) -> Difference | None:
    """What is wrong with what was found, if anything."""
    what, found, expected = look.what, look.found, look.expected
    if isinstance(expected, Tensor):
        if reason := _unlike(what, found, expected):
            return Difference(reason)
    elif isinstance(expected, Real) and not isinstance(expected, bool):
        if _number(found) is None:
            return Difference(f"{what} should be one number, found {describe(found)}")
        found = _number(found)
    elif found != expected:
        return Difference(f"{what} should be {expected}, found {describe(found) if found is None else found}")
    else:
        return None
    if close(found, expected, look.tolerance or tolerance, look.error):
        return None
    return Difference(f"{what} is not right", *_farthest(found, expected))


def close(found, expected, tolerance: float = TOLERANCE, error: Tensor | float | None = None) -> bool:
    """Whether two values agree: numbers and tensors of one shape within a tolerance, anything else exactly."""
    a, b = _values(found), _values(expected)
    if a is None or b is None:
        return _equal(found, expected, tolerance)
    if a.shape != b.shape:
        return False
    finite = b.isfinite()
    if error is None:
        largest = float(b[finite].abs().max()) if finite.any() else 1.0
        error = tolerance * (b.abs() + largest)
    else:
        error = torch.as_tensor(error, dtype=torch.float64)
    near = ((a - b).abs() <= error) & finite
    return bool((near | (a == b) | (a.isnan() & b.isnan())).all())


def says_something(value) -> bool:
    """Whether a value holds any finite number, or none at all; what is nan everywhere fits every mistake that is."""
    numbers = _values(value)
    return numbers is None or not numbers.numel() or bool(numbers.isfinite().any())


def _equal(found, expected, tolerance: float) -> bool:
    """Whether two values that are no numbers agree: lists part by part, functions whatever they do."""
    if type(found) is not type(expected):
        return callable(found) and callable(expected)
    if isinstance(found, (tuple, list)):
        return len(found) == len(expected) and all(close(a, b, tolerance) for a, b in zip(found, expected))
    return callable(found) or found is expected or (not isinstance(found, Tensor) and bool(found == expected))


def relation(found, expected) -> str:
    """What simple relation there is between what was found and expected, in words; "" if none is seen."""
    a, b = _values(found), _values(expected)
    if a is None or b is None or a.shape != b.shape or not b.numel():
        return ""
    if not a.isfinite().all():
        return "some of the numbers are nan or inf"
    largest = float(b.abs().max())
    off = float((a - b).abs().max())
    if off < 0.02 * largest:
        size = f"{off / largest:.0e}".replace("e-0", "e-")
        return (
            f"it is nearly right, with a relative difference of {size}: is there a constant in a denominator, a "
            "finite difference, or a rounding?"
        )
    if b.numel() < 2:
        return ""
    ratio = float((a * b).sum() / b.square().sum())
    if ratio and close(a, ratio * b, 1e-4):
        return f"each number is {ratio:.4g} times what it should be"
    shift = float((a - b).mean())
    if close(a, b + shift, 1e-4) and float(b.std()) > 1e-3 * abs(shift):
        return f"each number is off by the same {shift:.4g}"
    return ""


def describe(value) -> str:
    """A value in a few words: type, and shape and dtype where it has them."""
    if value is None:
        return "None (is there a return?)"
    if isinstance(value, Tensor) and not _ordinary(value):
        return "a tensor that is sparse or nested, or has no data"
    if isinstance(value, Tensor):
        return f"{_a(str(value.dtype).removeprefix('torch.'))} tensor of shape {tuple(value.shape)}"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    if isinstance(value, Real):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) < 40 else "a text"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        return "a dictionary"
    if type(value).__module__ == "numpy":
        return f"a NumPy array of shape {getattr(value, 'shape', ())}"
    return "a function" if callable(value) else _a(type(value).__name__)


def _a(word: str) -> str:
    """A word with its article."""
    return f"{'an' if word[0].lower() in 'aeio' else 'a'} {word}"


def _unlike(what: str, found, expected: Tensor) -> str:
    """Why `found` is no tensor of the shape and dtype of the expected one; "" if it is."""
    shape = tuple(expected.shape)
    if not isinstance(found, Tensor) or not _ordinary(found):
        kind = "a tensor with one number" if shape == () else f"a tensor of shape {shape}"
        return f"{what} should be {kind}, found {describe(found)}"
    if found.shape != expected.shape:
        return f"{what} should have shape {shape}, found {tuple(found.shape)}"
    if found.dtype != expected.dtype:
        return f"{what} should have the dtype {expected.dtype}, found {found.dtype}"
    return ""


def _ordinary(tensor: Tensor) -> bool:
    """Whether a tensor has its numbers in memory, one after the other."""
    return not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta


def _number(found) -> float | None:
    """One number, however it came; None if it is none."""
    if isinstance(found, bool) or (isinstance(found, Tensor) and not (_ordinary(found) and found.numel() == 1)):
        return None
    try:
        if isinstance(found, Real):
            return float(found)
        return float(found.item()) if isinstance(found, Tensor) or getattr(found, "shape", None) == () else None
    except (TypeError, ValueError, OverflowError):  # a complex number, a text, or a whole number beyond all floats
        return None


def _values(value) -> Tensor | None:
    """Numbers in double precision, free of graph and subclass; None for anything else."""
    if isinstance(value, Tensor) and not _ordinary(value):
        return None
    if isinstance(value, Tensor):
        plain = value.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
        return plain.to("cpu", torch.float64) if not plain.is_complex() else None
    if getattr(getattr(value, "dtype", None), "kind", "") in tuple("fiu"):  # a NumPy array
        return torch.as_tensor(value.astype("float64"))
    number = _number(value)
    return None if number is None else torch.tensor(number, dtype=torch.float64)


def _farthest(found, expected) -> tuple[str, str, str]:
    """Expected and found number where they differ most, with digits that differ, and where that is."""
    expected, found = _values(expected), _values(found)
    a, b = found.reshape(-1), expected.reshape(-1)
    k = int((a - b).abs().nan_to_num(math.inf, math.inf).argmax())
    wanted, had = float(b[k]), float(a[k])
    digits = next((n for n in range(5, 18) if f"{wanted:.{n}g}" != f"{had:.{n}g}"), 17)
    shape = tuple(expected.shape)
    place = ""
    if shape:
        index = [int(i) for i in torch.unravel_index(torch.tensor(k), shape)]
        place = f"at {index} of shape {shape}, where the two differ most"
    return f"{wanted:.{digits}g}", f"{had:.{digits}g}", place
