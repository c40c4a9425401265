"""Wrong answers to lab 0, beside the mistakes on its cards.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import torch


def seeded(n, d):
    torch.manual_seed(0)
    return torch.randn(n, d)


def two_columns(noise, data, t):
    """Right for points in the plane alone."""
    return torch.stack([(1 - t) * noise[:, k] + t * data[:, k] for k in range(2)], dim=1)


def in_place(noise, data, t):
    noise *= 1 - t
    noise += t * data
    return noise


WRONG = {
    "draw_noise": {
        "transposed": (lambda n, d: torch.randn(d, n), "a row for each point"),
        "one point": (lambda n, d: torch.randn(d).expand(n, d), "are the same"),
        "zeros": (lambda n, d: torch.zeros(n, d), "are the same"),
        "the same each time": (seeded, "is a seed set inside"),
        "whole numbers": (lambda n, d: torch.randint(-2, 3, (n, d)), "floating-point"),
        "nothing": (lambda n, d: None, "is there a return"),
    },
    "interpolate": {
        "in place": (in_place, "changed a tensor"),
        "points in the plane alone": (two_columns, "IndexError"),
    },
}
