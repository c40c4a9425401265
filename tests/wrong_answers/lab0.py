"""Wrong answers to lab 0, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import torch


def seeded(n, d):
    torch.manual_seed(0)
    return torch.randn(n, d)


def two_columns(noise, data, t):
    """Right for points in the plane alone."""
    return torch.stack([(1 - t) * noise[:, k] + t * data[:, k] for k in range(2)], dim=1)


def single(noise, data, t):
    return ((1 - t) * noise + t * data).float()


def in_place(noise, data, t):
    noise *= 1 - t
    noise += t * data
    return noise


WRONG = {
    "draw_noise": {
        "uniform": (lambda n, d: torch.rand(n, d), "torch.rand;"),
        "uniform about 0": (lambda n, d: torch.rand(n, d) - 0.5, "standard deviation 1"),
        "uniform of spread 1": (lambda n, d: 12**0.5 * (torch.rand(n, d) - 0.5), "not normal"),
        "transposed": (lambda n, d: torch.randn(d, n), "a row for each point"),
        "one axis": (lambda n, d: torch.randn(n), "should have shape"),
        "plane only": (lambda n, d: torch.randn(n, 2), "should have shape"),
        "one point": (lambda n, d: torch.randn(d).expand(n, d), "all points are the same"),
        "one number per point": (lambda n, d: torch.randn(n, 1).expand(n, d).clone(), "independent"),
        "zeros": (lambda n, d: torch.zeros(n, d), "all points are the same"),
        "shifted": (lambda n, d: 1 + torch.randn(n, d), "mean 0"),
        "too wide": (lambda n, d: 2 * torch.randn(n, d), "standard deviation 1"),
        "the same each time": (seeded, "is the seed set inside"),
        "double": (lambda n, d: torch.randn(n, d, dtype=torch.float64), "dtype"),
        "nothing": (lambda n, d: None, "is there a return"),
    },
    "interpolate": {
        "exchanged": (lambda noise, data, t: t * noise + (1 - t) * data, "noise and data are exchanged"),
        "noise stays": (lambda noise, data, t: noise + t * data, "does not fade"),
        "data from the start": (lambda noise, data, t: (1 - t) * noise + data, "from the start"),
        "same weight t": (lambda noise, data, t: t * (noise + data), "both have the weight t"),
        "same weight 1 − t": (lambda noise, data, t: (1 - t) * (noise + data), "both have the weight 1"),
        "minus": (lambda noise, data, t: (1 - t) * noise - t * data, "sign between"),
        "always halfway": (lambda noise, data, t: (noise + data) / 2, "always the middle"),
        "velocity": (lambda noise, data, t: data - noise, "this is the velocity"),
        "wrong way": (lambda noise, data, t: noise + t * (noise - data), "walks away"),
        "no start": (lambda noise, data, t: t * (data - noise), "the start is missing"),
        "on a circle": (lambda noise, data, t: (1 - t**2) ** 0.5 * noise + t * data, "squares of the weights"),
        "data": (lambda noise, data, t: data, "the data alone"),
        "noise": (lambda noise, data, t: noise, "the noise alone"),
        "a pair": (lambda noise, data, t: ((1 - t) * noise, t * data), "add the two parts"),
        "in place": (in_place, "changed a tensor"),
        "points in the plane alone": (two_columns, ""),
        "single precision": (single, "keep the dtype"),
    },
}
