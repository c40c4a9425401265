"""Other inputs for the exercises of lab 7."""

import torch

from fmlab.checks.inputs import times

DOUBLE = torch.float64

reparameterise = [((6, 4),), ((3, 2, 2, 5), DOUBLE), ((1, 3),)]

gaussian_kl = [((4, 5),), ((2, 3, 2, 4), DOUBLE), ((1, 6),), ((5, 3, 1, 2),)]

vae_loss = [
    ((4, 2, 2, 5), (4, 3, 2, 1), 1.4),
    ((6, 3), (6, 4), 0.24),
    ((2, 1, 4, 3), (2, 6), 3.1, DOUBLE),
    ((1, 5), (1, 3), 0.6),
]

linear_rate = [
    ([0.9, 0.07, 3.3, 12.1, 0.55, 0.0], 1.1),
    ([4.7, 0.6, 1.7], 2.3, DOUBLE),
    ([0.31, 0.06, 0.27, 0.12], 3.7),
    ([8.0, 5.2], 0.09, DOUBLE),
]

scaled_time = [
    (torch.tensor([0.91, 0.0, 0.33, 1.0, 0.07], dtype=DOUBLE), 0.3),
    (0.58, 4.0),
    (times(6), 2.6),
    (torch.tensor(0.21, dtype=DOUBLE), 0.15),
]

patchify = [((2, 3, 6, 4), 2), ((3, 2, 3, 9), 3, DOUBLE), ((1, 2, 8, 4), 4), ((2, 3, 2, 3), 1)]

unpatchify = [((2, 3, 6, 4), 2), ((3, 2, 3, 9), 3, DOUBLE), ((1, 4, 4, 2), 2), ((2, 2, 2, 3), 1)]

attention = [
    ((3, 5, 8, 4, 2), 1.2),
    ((5, 5, 5, 5, 5), 0.8),
    ((2, 3, 4, 6, 7, 3), 0.9, DOUBLE),
    ((5, 7, 2, 4), 1.4),
    ((3, 4, 2, 5, 3), 1.1, DOUBLE, -1200.0),
]

self_attention = [((2, 6, 8), 4), ((3, 3, 9), 3, DOUBLE), ((6, 6, 6), 2), ((1, 5, 12), 6), ((3, 4, 5), 1)]

position_embedding = [(4, 3, 16), (2, 6, 4), (3, 1, 12), (5, 5, 8)]

adaln_zero_block = [
    ((3, 3, 3), 4, 0.6),
    ((2, 6, 4), 5, 0.5, DOUBLE),
    ((1, 3, 9), 2, 0.7),
    ((3, 2, 3), 4, 0.0, DOUBLE),
]

doubly_guided_vector_field = [
    ((6, 3), times(6), torch.tensor([3, 0, 5, 1, 1, 2]), 2, 3.4, 0.6, 7, 5),
    ((3, 1, 4, 2), torch.tensor(0.72, dtype=DOUBLE), 2, torch.tensor([1, 4, 0]), 1.3, 2.2, 4, 6, DOUBLE),
    ((1, 2, 2, 3), 0.4, 4, 3, -0.6, 1.9, 6, 8),
]
