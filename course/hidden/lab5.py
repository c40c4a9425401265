"""Other inputs for the exercises of lab 5."""

import math

import torch

from fmlab.checks.inputs import Bent, Powers, times
from fmlab.schedules import VE, CondOT, Cosine, LinearVP

F64 = torch.float64

log_snr = [
    (LinearVP(0.5, 8.0), [1.2, -0.9, 2.8, -1.9]),
    (Cosine(), [[-8.7, 0.4], [2.1, 8.9], [-3.3, -0.2]], F64),
    (VE(2.5), [-2 * math.log(2.5), 0.3, 3.1], F64),
    (Powers(), 2.3),
]

PLACES = [
    (Powers(), times(5, 0.3, 0.8), (5, 3)),
    (LinearVP(0.5, 8.0), torch.tensor(0.77), (3, 2, 3, 4)),
    (Bent(), 0.27, (1, 4), F64),
    (VE(2.5), times(4, dtype=F64), (4, 1, 4, 4), F64),
    (CondOT(0.1), 0.04, (2, 6), F64),
    (Cosine(), torch.tensor(0.985, dtype=F64), (3, 2), F64),
]

to_variance_preserving = [*PLACES, (VE(2.5), 1.0, (3, 2)), (Bent(), torch.tensor([1.0, 0.0]), (2, 2))]
convert_output = PLACES
x_mse_weight = effective_weight = [place[:2] for place in PLACES]

loss_over_log_snr = [
    (Powers(), times(5, 0.3, 0.8), (5, 3), -0.8),
    (LinearVP(0.5, 8.0), times(3, dtype=F64), (3, 1, 3, 3), 0.7, F64),
    (VE(2.5), torch.tensor([0.03, 0.44, 0.99], dtype=F64), (3, 2, 2, 4), 1.9, F64),
    (Bent(), torch.tensor([0.61]), (1, 4), -0.8),
]

as_vector_field = [
    ("noise", LinearVP(0.5, 8.0), CondOT(), times(5, 0.3, 0.9), (5, 3)),
    ("score", VE(9.0), Cosine(), torch.tensor(0.77, dtype=F64), (3, 2, 3, 4), F64),
    ("v", Powers(), Bent(), 0.27, (1, 4), F64),
    ("data", CondOT(), Powers(), times(4, 0.3, 0.8, dtype=F64), (4, 1, 4, 4), F64),
    ("vector_field", Bent(), LinearVP(), 0.23, (2, 6), F64),
]

ddim_step = [
    (Powers(), times(5, 0.2, 0.5), times(5, 0.3, 0.9), (5, 3)),
    (LinearVP(0.5, 8.0), torch.tensor(0.57), torch.tensor(0.74), (3, 2, 3, 4)),
    (Bent(), 0.0, 0.29, (1, 4), F64),
    (VE(2.5), times(4, 0.1, 0.6, dtype=F64), times(4, 0.3, 0.8, dtype=F64), (4, 1, 4, 4), F64),
    (Cosine(), 0.98, 1.0, (2, 6), F64),
]

ddpm_step = [
    (Powers(), times(5, 0.2, 0.5), times(5, 0.3, 0.9), 0.3, (5, 3)),
    (LinearVP(0.5, 8.0), torch.tensor(0.57), torch.tensor(0.74), 1.0, (3, 2, 3, 4)),
    (Bent(), 0.24, 0.29, 0.0, (1, 4), F64),
    (VE(2.5), times(4, 0.1, 0.6, dtype=F64), times(4, 0.3, 0.8, dtype=F64), 2.2, (4, 1, 4, 4), F64),
    (Cosine(), 0.04, 0.97, 0.1, (2, 6), F64),
]

schedule_from_sde = [
    (0.7, 0.0, 2.0, 0.6, torch.linspace(0, 1, 1701)),
    (0.2, -0.9, 0.8, 1.3, 1.6 * torch.linspace(0, 1, 2101, dtype=F64) ** 1.3),
]

path_curvature = [
    ([(2.2, 2.6), (0.9, 3.7), (4.1, 1.2), (1.4, 4.1)], 41, (3,)),
    ([(1.2, 3.3), (3.1, 2.2), (0.8, 4.6)], 17, (1, 3, 3), F64),
]
