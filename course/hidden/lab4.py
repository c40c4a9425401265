"""Other inputs for the exercises of lab 4."""

import torch

from fmlab.checks.inputs import Bent, Powers, times
from fmlab.exercises.lab4 import Swelling
from fmlab.schedules import VE, CondOT, Cosine, LinearVP

DOUBLE = torch.float64

denoising_score_matching_loss = [
    (Powers(), times(4, 0.2, 0.7), (4, 2)),
    (LinearVP(0.2, 8.0), times(4, dtype=DOUBLE), (4, 2, 4, 3)),
    (VE(1.4), torch.tensor([0.0, 0.6, 0.984], dtype=DOUBLE), (3, 5)),
]

noise_prediction_loss = [
    (CondOT(0.3), times(4), (4, 2)),
    (LinearVP(0.2, 8.0), times(4, dtype=DOUBLE), (4, 2, 4, 3)),
    (Bent(), torch.tensor([0.44]), (1, 1, 3, 2)),
]

loss_constant = [
    (CondOT(0.3), times(4), (4, 2)),
    (LinearVP(0.2, 8.0), times(4, dtype=DOUBLE), (4, 2, 4, 3)),
    (Bent(), torch.tensor([0.44, 1.0]), (2, 1, 3, 2)),
]

score_from_vector_field = [
    (CondOT(0.3), times(4), (4, 2)),
    (Powers(), times(4, 0.2, 0.7), (4, 2, 4, 3), DOUBLE),
    (Cosine(), 0.0, (2, 3), DOUBLE),
    (VE(1.4), torch.tensor([0.984, 0.3]), (2, 5), DOUBLE),
]

vector_field_from_score = [
    (CondOT(0.3), times(4), (4, 2)),
    (Powers(), times(4, 0.2, 0.7), (4, 2, 4, 3), DOUBLE),
    (LinearVP(0.2, 8.0), 0.61, (1, 3)),
    (Cosine(), torch.tensor([0.003, 0.3]), (2, 5), DOUBLE),
]

sample_diffusion = [
    ((0.2, 0.23, 0.41, 0.66, 0.7, 0.83, 0.95), lambda t: 0.3 + 2 * t, (4, 3)),
    ((0.0, 0.12, 0.57, 1.0), lambda t: 1.7 * Cosine().beta(t), (3, 2, 2, 3), DOUBLE),
    ((0.35, 0.8, 0.92), lambda t: 1.3, (1, 2)),
]

forward_marginal = [
    (torch.tensor([1.0, 0.23, 0.0, 0.55, 0.8]), 0.8, 4.0),
    (0.62, 1.5, 11.0),
    (torch.tensor([[0.15, 0.95]], dtype=DOUBLE), 2, 3),
]

reverse_sde_drift = [
    (Swelling(), times(4), (4, 2), 0.6),
    (LinearVP(0.2, 8.0), times(4), (4, 2, 4, 3), times(4, 1.2, 3.0), DOUBLE),
    (Swelling(), 0.21, (2, 1, 3, 2), torch.tensor(1.8)),
]

LONG = (0.02, 0.05, 0.03, 0.11, 0.2, 0.14, 0.27, 0.35, 0.31, 0.4, 0.38)

ddpm_posterior = ancestral_step = [
    (LONG, 7, (4, 2)),
    (LONG, 11, (3, 1, 2, 3), torch.float32, DOUBLE),
    ((0.2, 0.6, 0.33), 1, (2, 3), DOUBLE),
]

elbo_terms = [
    (LONG, (3, 2)),
    ((0.2, 0.6, 0.33), (3, 1, 2, 3), DOUBLE),
    ((0.35, 0.16, 0.28, 0.22), (1, 2), torch.float32, DOUBLE),
]
