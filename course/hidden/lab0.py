"""Other inputs for the exercises of lab 0."""

import torch

DOUBLE = torch.float64

draw_noise = [(12_000, 2), (4_000, 5)]

interpolate = [((3, 1, 4, 4), torch.tensor(0.77, dtype=DOUBLE), DOUBLE), ((1, 5), 0.13), ((6, 2), 0.0), ((3, 3), 1.0)]
