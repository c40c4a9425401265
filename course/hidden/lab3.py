"""Other inputs for the exercises of lab 3."""

import torch

from fmlab.checks.inputs import Bent, Powers, times
from fmlab.schedules import VE, Cosine, LinearVP

DOUBLE = torch.float64

conditional_flow_matching_loss = [
    (VE(0.6), times(6), (6, 2)),
    (Powers(), times(5, dtype=DOUBLE), (5, 1, 3, 2), DOUBLE),
    (LinearVP(), 0.6, (2, 5)),
    (Bent(), torch.tensor([1.0, 0.45, 0.0, 0.8]), (4, 3)),
]

batch_loss = [(Powers(), (4,), 96), (Cosine(), (2, 1, 3), 103), (Bent(), (3,), 99)]

optimal_vector_field = [
    (times(5, dtype=DOUBLE), (5, 1, 3, 2), 0.8, DOUBLE),
    (0.75, (2, 6), 2.2),
    (torch.tensor([0.0, 0.65, 1.0]), (3, 4), 3.0),
]

train_step = [((6, 2), 0.08, DOUBLE), ((3, 2, 2, 2), 0.05)]

sample_flow = [
    (torch.tensor([0.2, 0.3, 0.55, 0.6, 0.75, 0.8, 1.0]), (4, 3)),
    (torch.tensor([0.9, 0.7, 0.25, 0.0], dtype=DOUBLE), (3, 2, 2, 3)),
    (torch.tensor([0.05, 0.5, 0.65]), (1, 5)),
]

energy_distance = [((21, 3), (14, 3)), ((5, 1, 3, 2), (3, 1, 3, 2), DOUBLE), ((6, 2), (1, 2)), ((11, 1, 2, 3), None)]

log_likelihood = [
    (torch.tensor([0.05, 0.3, 0.4, 0.8, 0.9]), (6, 2), 0.0),
    (torch.tensor([0.1, 0.75]), (3, 2, 2, 2), 0.3),
    (torch.tensor([0.0, 0.4, 0.5, 1.0], dtype=DOUBLE), (1, 3), 0.0),
]

linear_path = [
    (times(5, dtype=DOUBLE), (5, 1, 3, 2), DOUBLE),
    (0.65, (2, 4)),
    (torch.tensor([1.0, 0.4, 0.0, 0.9]), (4, 2)),
]

reflow = [
    ((7, 2), [6, 1, 6, 2], times(4)),
    ((6, 2, 2, 3), [4, 0, 3, 5, 2], times(5, dtype=DOUBLE), DOUBLE),
    ((8, 3), [7], 0.6),
    ((6, 4), [4, 2, 5], torch.tensor([1.0, 0.35, 0.0])),
]
