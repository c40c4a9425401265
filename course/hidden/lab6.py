"""Other inputs for the exercises of lab 6."""

import torch

from fmlab.checks.inputs import times

DOUBLE = torch.float64

guided_vector_field = [
    ((6, 3), times(6), torch.tensor([3, 0, 5, 1, 1, 2]), 3.4, 7),
    ((3, 1, 4, 2), torch.tensor(0.72, dtype=DOUBLE), 2, -1.3, 4, DOUBLE),
    ((1, 2, 2, 3), 0.0, torch.tensor([4]), 0.2, 6),
]

drop_labels = [
    (200, 0.25, 7),
    (15, 0.62, 13, torch.int16, DOUBLE),
    (40, 0.04, 31),
    (1, 0.8, 8),
    (11, 0.6875, 9, torch.int32, DOUBLE, True),
]

guided_flow_matching_loss = [
    ((7, 2), times(7), torch.tensor([1, 2, 0, 5, 3, 3, 4])),
    ((3, 1, 2, 3), times(3), torch.tensor([6, 1, 0])),
    ((4, 3, 2, 2), torch.tensor([0.0, 0.62, 1.0, 0.18], dtype=DOUBLE), torch.tensor([5, 2, 2, 1]), DOUBLE),
    ((1, 5), times(1), torch.tensor([4])),
]

sample_guided = [
    ((5, 3), torch.tensor([2, 0, 1, 4, 2]), 1.7, 5, 13),
    ((2, 1, 3, 2), 3, 2.2, 1, 10, DOUBLE),
    ((2, 1, 2, 4), 1, 0.6, 3, 1),
]

fidelity = [(13, 5, 0.9), (83, 12, 1.6, DOUBLE), (4, 2, 9.0), (7, 3, -9.0)]

diversity = [
    ((10, 1, 2, 4), [7, 3, 3, 7, 7, 1, 3, 1, 7, 3]),
    ((11, 3), [12, 12, 6, 2, 2, 6, 12, 6, 6, 2, 6], DOUBLE),
    ((4, 3, 3, 2), [6, 6, 6, 6]),
]

time_embedding = [(torch.tensor([1.0, 0.42, 0.0, 0.66]), 10), (times(5, dtype=DOUBLE), 14), (torch.tensor([0.58]), 2)]

residual_block = [((2, 2, 2, 2), 4, False), ((5, 6, 3, 2), 3, True), ((1, 4, 2, 6), 7, True, DOUBLE)]

nearest_neighbour_distance = [((1, 2, 4), 5, 7), ((3, 2, 2), 9, 4, DOUBLE), ((4,), 2, 6), ((2,), 1, 5)]

guided_std = [(0.7, 1.6, 2.4), (1.5, 0.8, 0.3), (0.35, 1.1, -0.4)]

batch_guidance = [
    ((6, 3), times(6), torch.tensor([3, 0, 5, 1, 1, 2]), 3.4, 7),
    ((3, 1, 4, 2), torch.tensor(0.72, dtype=DOUBLE), torch.tensor([2, 1, 3]), -1.3, 4, DOUBLE),
    ((4, 2, 2), 0.55, 5, 0.2, 6),
    ((1, 4), times(1), torch.tensor([4]), 2.1, 3),
]

classifier_guided_field = [
    ((6, 2), times(6), 2.2),
    ((2, 1, 4, 3), 0.7, -1.3),
    ((3, 2, 3), torch.tensor(0.15, dtype=DOUBLE), 0.6, DOUBLE),
]

guidance_in_interval = [
    ((5, 3), torch.tensor([0.5, 0.125, 0.3, 0.875, 0.95]), torch.tensor([1, 2, 0, 4, 2]), 3.25, 6, 0.125, 0.5),
    ((4, 1, 3, 2), torch.tensor([0.8, 0.7, 0.5, 0.2], dtype=DOUBLE), 2, 1.5, 5, 0.4375, 0.75, DOUBLE),
    ((2, 2, 3), torch.tensor(0.9), torch.tensor([3, 1]), 2.75, 4, 0.5, 0.8125),
    ((1, 4), 0.45, 1, -1.25, 7, 0.25, 0.625),
]

autoguided_field = [
    ((6, 3), times(6), 3.4),
    ((2, 1, 4, 2), torch.tensor(0.72, dtype=DOUBLE), -1.3, DOUBLE),
    ((1, 5), 0.2, 0.4),
]

negative_field = [
    ((6, 3), times(6), torch.tensor([3, 0, 5, 1, 1, 2]), 7, 3.4),
    ((3, 1, 4, 2), torch.tensor(0.72, dtype=DOUBLE), 2, torch.tensor([4, 5, 1]), -1.3, DOUBLE),
    ((2, 2, 3), 0.6, torch.tensor([4, 2]), torch.tensor([1, 6]), 1.7),
]

measurement_log_prob = [(6, 4, 2, 0.5), (3, 3, 3, 1.4, DOUBLE), (1, 2, 2, 0.25)]

inpaint = [((3, 1, 4, 2), 6), ((5, 4), 3, DOUBLE), ((1, 3, 2, 2), 9)]
