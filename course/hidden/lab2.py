"""Other inputs for the exercises of lab 2."""

import torch

from fmlab.checks.inputs import Bent, Powers, times
from fmlab.schedules import VE, CondOT, Cosine, LinearVP

DOUBLE = torch.float64

PATHS = [
    (LinearVP(), times(3, dtype=DOUBLE), (3, 1, 4, 4), DOUBLE),
    (CondOT(0.2), torch.tensor(0.45, dtype=DOUBLE), (2, 1, 4, 4), DOUBLE),
    (Bent(), 0.7, (2, 2, 3, 2)),
    (VE(2.5), times(4, 0.2, 0.8), (4, 3)),
    (Cosine(), torch.tensor([0.6], dtype=DOUBLE), (1, 5), DOUBLE),
    (CondOT(), 0.0, (3, 2)),
    (Powers(), torch.tensor(0.85, dtype=DOUBLE), (2, 4), DOUBLE),
]

alpha_beta = [
    (family, t)
    for t in (times(6).reshape(2, 3), torch.tensor(0.25, dtype=DOUBLE), torch.tensor([0.998], dtype=DOUBLE))
    for family in ("condot", "cosine")
]

sample_marginal_path = [
    (Bent(), [0.8, 0.9, 0.7], (4,)),
    (Powers(), [0.4, 0.6], (1, 2, 2)),
    (CondOT(0.3), torch.tensor(0.5), (3,), 5002),
    (Cosine(), 1.0, (1, 2, 3)),
]
conditional_vector_field = [*PATHS, (CondOT(), torch.tensor(0.997, dtype=DOUBLE), (2, 3), DOUBLE)]
general_vector_field = [((3, 1, 4, 4), (), 0.35, DOUBLE), ((1, 6), (1, 1), 0.8), ((4, 3), (4, 3), 0.003, DOUBLE)]
two_point_field = [
    (1.6, times(5, dtype=DOUBLE), 5, DOUBLE),
    (0.7, torch.tensor(0.45), 4),
    (1.9, 0.96, 5),
    (0.8, 0.0, 2),
]
posterior_weights = [
    *((*path, torch.float32)[:4] + (6,) for path in PATHS),
    (Cosine(), torch.tensor(0.9995, dtype=DOUBLE), (4, 3), DOUBLE, 3, 1.0),
]
marginal_vector_field = [
    (times(3, dtype=DOUBLE), (3, 1, 4, 4), 5, DOUBLE),
    (times(5), (5, 3), 2),
    (0.35, (2, 2, 2, 2), 4),
]
divergence = [
    (162, times(4, dtype=DOUBLE), (4, 3), DOUBLE),
    (163, 0.45, (6, 2)),
    (164, torch.tensor(0.7), (1, 4)),
]
continuity_residual = [(170, (4, 3), DOUBLE), (171, (6, 2)), (173, (2, 1))]
conditional_score = PATHS
sde_extension_drift = [
    (Powers().beta, times(3, dtype=DOUBLE), (3, 1, 4, 4), DOUBLE),
    (VE(2.3).beta, torch.tensor(0.45), (5, 2)),
]
fokker_planck_residual = [(0.7, 180, (4, 3), DOUBLE), (1.6, 181, (6, 2)), (0.0, 182, (2, 3), DOUBLE)]
