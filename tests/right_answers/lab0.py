"""Right answers to lab 0 in other styles than the solution's."""

import math

import numpy as np
import torch


def box_muller(n, d):
    """Two uniform numbers make a normal one."""
    radius = (-2 * torch.log(1 - torch.rand(n, d))).sqrt()
    return radius * torch.cos(2 * math.pi * torch.rand(n, d))


def walk(noise, data, t):
    return torch.lerp(noise, data, torch.as_tensor(t, dtype=noise.dtype))


RIGHT = {
    "draw_noise": [
        lambda n, d: torch.normal(0.0, 1.0, (n, d)),
        lambda n, d: torch.stack([torch.randn(d) for _ in range(n)]),
        lambda n, d: torch.from_numpy(np.random.default_rng().standard_normal((n, d), dtype=np.float32)),
        lambda n, d: torch.empty(n, d).normal_(),
        box_muller,
    ],
    "interpolate": [
        lambda noise, data, t: noise + t * (data - noise),
        lambda noise, data, t: data * t - noise * (t - 1),
        lambda noise, data, t: data - (data - noise).mul(1 - t),
        walk,
    ],
}
