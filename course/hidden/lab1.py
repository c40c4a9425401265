"""Other inputs for the exercises of lab 1."""

import torch

from fmlab.checks.inputs import times
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.exercises.lab1 import F32, F64

euler_step = heun_step = [
    ((3, 4), torch.tensor(0.6, dtype=F64), 0.05, F64),
    ((5, 2, 2, 3), times(5), torch.tensor(0.13), F32),
    ((1, 2), -0.4, -0.3, F64),
    ((7,), torch.tensor(0.2), 0.24, F64),
]

simulate = [
    ((5, 3), [0.25, 0.36, 0.7, 0.82, 1.1, 1.15, 1.2, 1.45], F64),
    ((2, 1, 3, 2), [-0.9, -0.3, 0.2, 0.35, 0.6], F32),
    ((1, 4), [0.6, 0.9], F64),
]

linear_flow = [
    ((2, 2, 2, 3), torch.tensor(1.1, dtype=F64), 0.75, F64),
    ((5, 1), torch.tensor(0.3), 3.7, F32),
    ((1, 2), 0.8, -1.2, F64),
    ((3, 2), torch.tensor(0.0), 2.3, F32),
]

convergence_order = [
    (2.3, [0.009, 0.04, 0.07, 0.25], 4.0, 0.0, F64),
    (0.8, [0.35, 0.12, 0.06, 0.05, 0.011, 0.008], 0.4, 0.6, F32),
]

brownian_paths = [(18_000, [1.0, 1.5, 2.1, 3.1, 3.8, 5.6], 0.7, F64), (12_000, [0.9, 2.5], 1.3, F32)]

ou_drift = [
    ((4, 3), torch.tensor(0.9, dtype=F64), 3.2, F64),
    ((5, 2, 2, 3), times(5), 0.25, F32),
    ((1, 2), 2.3, 1.7, F32),
]

ou_moments = [
    ((4, 3), 0.3, 0.25, 2.2, F64),
    ((3, 2, 2, 3), torch.tensor(0.8), 1.6, 0.6, F32),
    ((1, 2), torch.tensor(0.0, dtype=F64), 1.4, 0.9, F64),
    ((2, 1), 0.9, 0.3, 0.0, F32),
]

euler_maruyama_step = [
    ((4, 3), torch.tensor(0.6, dtype=F64), 0.11, None, F64),
    ((5, 2, 2, 3), times(5), torch.tensor(0.06), None, F32),
    ((8,), torch.tensor(0.9), 0.14, 0.0, F32),
    ((1, 2), 0.45, 0.33, 1.2, F32),
]

geometric_brownian_motion = [
    (4, 1.4, -0.4, 0.5, F64),
    (7, times(7, 0.2, 3.1), 0.6, 0.8, F32),
    (5, 0.6, 0.3, 0.0, F32),
]

strong_and_weak_error = [(11, 0.7, F64), (90, -1.3, F32), (1, -0.4, F64)]

langevin_drift = [
    (GaussianMixture([[1.0, 0.0], [-1.0, 2.0]], [0.5, 1.5]), 5, [0.3, torch.tensor(1.2, dtype=F64)], 0.5, F64),
    (Gaussian([0.3, -0.7, 0.9], 0.6), 3, [times(3)], 2.2, F32),
]
