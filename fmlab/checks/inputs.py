"""What checks hand to an answer: states and times, test fields, and schedules that are like no other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmlab.schedules import Schedule
from fmlab.values import coefficient, time


def states(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    """Random states, the same for the same seed."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def times(n: int, low: float = 0.1, high: float = 0.9, dtype=torch.float32) -> Tensor:
    """n different times between low and high, uneven and in no order."""
    return low + (high - low) * (torch.arange(1, n + 1, dtype=dtype) * 0.618034 % 1)


class Field:
    """A test field u(x, t) or u(x, t, y), which keeps what it is shown.

    As every field here, networks included, it takes t as a number, as a tensor of shape () or as one of shape (n,), a
    time for each row of x: (n, *shape). formula gets x and t, and y if there is one, in shapes that multiply.
    """

    def __init__(self, formula: Callable):
        self.formula = formula
        self.calls: list[tuple] = []

    def __call__(self, x, t, *labels):
        if not isinstance(x, Tensor):
            raise TypeError(f"a field is asked about a tensor of states, got {type(x).__name__}")
        self.calls.append((x.detach().clone(), torch.as_tensor(t).detach().clone(), *labels))
        return self.value(x, t, *labels)

    def value(self, x, t, *labels):
        """u(x, t), without a note of it."""
        return self.formula(x, _per_row(t, x), *(_per_row(label, x) for label in labels))


def _per_row(value, x: Tensor) -> Tensor:
    """A time, or a label, in the dtype of x and in the shape that multiplies it."""
    value = torch.as_tensor(value).to(x)
    if value.ndim > x.ndim:
        raise ValueError("a field takes the states first and the time second, u(x, t); are the two exchanged?")
    if value.ndim and value.shape != x.shape[:1]:
        raise ValueError(
            f"a field takes t as a number or in the shape {tuple(x.shape[:1])}, a time for each state, "
            f"got {tuple(value.shape)}; hand t on as it came, and shape only what multiplies"
        )
    return coefficient(value, x)


class Weighted(nn.Module):
    """A network with two weights, w_1 x + w_2 t + x t², a `Field` whose loss has a gradient.

    It takes t as a number, of shape () or (n,), and keeps what it is shown.
    """

    def __init__(self, first: float = 0.7, second: float = -0.4, dtype=torch.float32):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([first, second], dtype=dtype))
        self.field = Field(self._formula)  # a method: a copy of the network has weights of its own

    def _formula(self, x, t):
        return self.weights[0] * x + self.weights[1] * t + x * t**2

    @property
    def calls(self) -> list:
        return self.field.calls

    def forward(self, x, t):
        return self.field(x, t)

    def value(self, x, t) -> Tensor:
        """u(x, t), without a note of it."""
        return self.field.value(x, t)


class Bent(Schedule):
    """α = t², β = 1 − t³: none of the usual schedules, and α² + β² ≠ 1, so that no formula fits it by luck."""

    def alpha(self, t):
        return time(t) ** 2

    def beta(self, t):
        return 1 - time(t) ** 3

    def alpha_dot(self, t):
        return 2 * time(t)

    def beta_dot(self, t):
        return -3 * time(t) ** 2

    def __repr__(self) -> str:
        return "α = t², β = 1 − t³"


class Powers(Schedule):
    """α = t³, β = (1 − t)²: another one that is no library's, whose noise fades fast."""

    def alpha(self, t):
        return time(t) ** 3

    def beta(self, t):
        return (1 - time(t)) ** 2

    def alpha_dot(self, t):
        return 3 * time(t) ** 2

    def beta_dot(self, t):
        return 2 * (time(t) - 1)

    def __repr__(self) -> str:
        return "α = t³, β = (1 − t)²"
