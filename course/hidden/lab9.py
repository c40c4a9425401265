"""Other inputs for the exercises of lab 9."""

import torch

from fmlab.exercises.lab9 import DOUBLE, SINGLE

draw_tokens = [
    (31, (9, 4)),
    (32, (2, 5, 7), DOUBLE),
    (33, (6, 4), DOUBLE, "with weights of 0"),
    (34, (9, 4), SINGLE, "with rare symbols"),
    (35, (6,)),
]

rate_step = [(31, (5,), 0.11), (32, (4, 3), 0.19, DOUBLE), (33, (4,), torch.tensor(0.8, dtype=DOUBLE), DOUBLE)]

next_jump = [(31, 5, 11), (32, 4, 6, DOUBLE), (33, 3, 1, DOUBLE)]

corrupt = [
    (31, (4, 7), 0.62, 5),
    (32, (5, 5), torch.tensor([0.7, 0.25, 0.1, 0.45, 0.9], dtype=DOUBLE), 6),
    (33, (2, 9), torch.tensor(0.3), 8, torch.int16),
    (34, (3, 5), torch.tensor([1.0, 0.0, 0.4]), 4),
    (35, (4, 6), 0.625, 5, torch.int64, "with a tie"),
]

jump_rate = [
    (31, (4, 3, 4), 0.6**1.3, 1.3 * 0.6**0.3),
    (32, (3, 3, 5), (torch.tensor([0.25, 0.6, 0.85]), 2.3)),
    (33, (4, 2, 4), (torch.tensor([0.7, 0.1, 0.35, 0.55], dtype=DOUBLE), 0.6), None, DOUBLE),
    (34, (2, 5, 3), 0.44, 0.7, SINGLE, "one sentence"),
]

posterior = [(31, 15, 4, 4, 8), (32, 8, 6, 5, 5, "impossible"), (33, 6, 5, 3, 2)]

reveal_step = [
    (31, (35, 5, 6), 0.42, 0.63),
    (32, (25, 7, 4), 0.08, torch.tensor(0.66), DOUBLE),
    (33, (15, 3, 5), 0.37, 1.0, DOUBLE),
    (34, (5, 5, 4), 0.5, 0.625, DOUBLE, "with a tie"),
    (35, (8, 5, 4), 0.2, 0.85, SINGLE, "with rare symbols"),
]

sample_in_order = [
    (31, (4, 8, 3), 3),
    (32, (6, 5, 6), 2, DOUBLE, 0.35),
    (33, (3, 4, 5), 1, DOUBLE),
    (34, (2, 7, 4), 4, SINGLE, 0.2),
]

masked_cross_entropy = [(31, (4, 6, 3), 1.8), (32, (5, 5, 4), 0.6, DOUBLE), (33, (3, 2, 7), 2.6, DOUBLE)]

any_order_log_likelihood = [
    (31, (5, 4, 6)),
    (32, (2, 7, 3), DOUBLE),
    (33, (8, 5, 3), DOUBLE, "a table"),
]

corrector_rate = [
    (31, (4, 5, 3), 0.6**1.3),
    (32, (3, 3, 6), torch.tensor([0.15, 0.75, 0.4])),
    (33, (5, 4, 4), torch.tensor(0.3, dtype=DOUBLE), DOUBLE),
]

guided_probs = [(31, (3, 4, 6), 1.7), (32, (5, 3), -1.2, DOUBLE), (33, (2, 3, 4), 4.2, DOUBLE)]
