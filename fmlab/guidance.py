"""Classifier-free guidance: one network with and without the label, mixed when sampling.

    ũ_t(x | y) = (1 − w) u_t(x | ∅) + w u_t(x | y)              [course labs]

w = 0 ignores the label, w = 1 samples p(x | y), and w > 1 overshoots: samples show the label more plainly, and vary
less. For a Gaussian path the same holds for scores, since field and score are affine in each other. Two labels can be
given scales of their own.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from fmlab.losses import drop_labels, null_label

__all__ = ["doubly_guided_vector_field", "drop_labels", "guided_vector_field"]


def guided_vector_field(model: Callable[..., Tensor], y, w: float = 1.0, null: int | None = None) -> Callable:
    """The guided field ũ(x, t) = (1 − w) u(x, t | ∅) + w u(x, t | y).

    model: callable u(x, t, y). y: one label, or one for each point (n,). null: by default `model.null_label`.
    """
    return partial(_guided, model, y, w, null_label(model, null))


def _guided(model: Callable[..., Tensor], y, w: float, null: int, x: Tensor, t) -> Tensor:
    guided = model(x, t, y)
    return guided if w == 1 else (1 - w) * model(x, t, null) + w * guided


def doubly_guided_vector_field(
    model: Callable[..., Tensor], y, f, w: float, v: float, no_y: int, no_f: int
) -> Callable:
    """Two requests, each with a scale of its own.    [Brooks et al. 2023, eq. 3]

        ũ(x, t) = u(∅, ∅) + w (u(y, ∅) − u(∅, ∅)) + v (u(y, f) − u(y, ∅))

    model: callable u(x, t, y, f). y, f: one label each, or one for each point (n,). no_y, no_f: their null labels.
    w = 1 and v = 0 sample p(x | y), w = v = 1 sample p(x | y, f).
    """
    return partial(_doubly_guided, model, y, f, w, v, no_y, no_f)


def _doubly_guided(
    model: Callable[..., Tensor], y, f, w: float, v: float, no_y: int, no_f: int, x: Tensor, t
) -> Tensor:
    free, shown, both = model(x, t, no_y, no_f), model(x, t, y, no_f), model(x, t, y, f)
    return free + w * (shown - free) + v * (both - shown)
