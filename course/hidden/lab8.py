"""Other inputs for the exercises of lab 8."""

import torch

from fmlab.checks.inputs import times

DOUBLE = torch.float64

gaussian_flow_map = [
    (times(6), torch.tensor([0.85, 0.1, 0.55, 1.0, 0.3, 0.7]), (6, 3), 0.45),
    (torch.tensor(0.72, dtype=DOUBLE), torch.tensor(0.18, dtype=DOUBLE), (3, 2, 3, 2), 2.2, DOUBLE),
    (0.35, 1.0, (2, 5), 0.8),
    (torch.tensor([0.0, 0.64]), torch.tensor([0.9, 0.05]), (2, 1, 2, 4), 1.4),
]

line_flow_map = [
    ("three", 6, 0.3, 0.85),
    ("two", 5, (0.9, 0.15, 0.0, 0.55, 0.4), (0.25, 0.7, 0.8, 1.0, 0.65), DOUBLE),
    ("left", 4, 0.2, 0.95, DOUBLE),
    ("right", 5, 0.15, 0.9),
    ("one", 3, 0.1, 0.75),
]

sample_by_map = [
    (torch.tensor([0.15, 0.45, 0.6, 0.65, 1.0]), (6, 3)),
    (torch.tensor([0.9, 0.7, 0.05], dtype=DOUBLE), (2, 2, 3, 2), DOUBLE),
    ([0.2, 0.55, 0.7], (1, 4)),
]

PAIRS = [
    (times(6), torch.tensor([0.4, 0.85, 0.13, 0.66, 0.95, 0.28])),
    (torch.tensor([0.93, 0.21, 0.47], dtype=DOUBLE), torch.tensor([0.08, 0.64, 0.88], dtype=DOUBLE)),
    (torch.tensor([1.0, 0.0]), torch.tensor([0.35, 0.57])),
]

lagrangian_residual = eulerian_residual = eulerian_target = lagrangian_target = mean_flow_loss = [
    (*PAIRS[0], (6, 2)),
    (*PAIRS[1], (3, 1, 3, 4), DOUBLE),
    (*PAIRS[2], (2, 3, 2, 2)),
]

semigroup_target = [
    (0.35, 0.8, (6, 4)),
    (*PAIRS[1], (3, 1, 3, 4), DOUBLE),
    (torch.tensor(0.9), torch.tensor(0.25), (2, 3, 2, 2)),
]

consistency_loss = [
    ((6, 2), times(6, 0.02, 0.7), 0.22),
    ((3, 1, 3, 4), torch.tensor([0.91, 0.3, 0.56], dtype=DOUBLE), 0.09, DOUBLE),
    ((2, 3, 2, 2), torch.tensor([0.0, 0.65]), 0.35),
]

shortcut_loss = [
    (torch.tensor([0.4, 0.0, 0.13, 0.66, 0.95, 0.2]), torch.tensor([0.4, 0.75, 0.9, 0.66, 0.95, 1.0]), (6, 2)),
    (
        torch.tensor([0.08, 0.64, 0.47], dtype=DOUBLE),
        torch.tensor([0.93, 0.64, 0.88], dtype=DOUBLE),
        (3, 1, 3, 4),
        DOUBLE,
    ),
    (torch.tensor([0.35, 0.57]), torch.tensor([0.5, 0.57]), (2, 3, 2, 2)),
]

distribution_matching_loss = [
    ((6, 2), times(6)),
    ((3, 1, 3, 4), torch.tensor([0.91, 0.3, 0.56], dtype=DOUBLE), DOUBLE),
    ((2, 3, 2, 2), torch.tensor([0.24, 0.77])),
]
