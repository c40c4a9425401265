"""What checks hand to an answer: states, and a schedule that is like no other."""

import torch
from torch import Tensor

from fmlab.schedules import Schedule


def states(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    """Random states, the same for the same seed."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Bent(Schedule):
    """α = t², β = 1 − t³: none of the usual schedules, so that no formula fits it by luck."""

    def alpha(self, t):
        return torch.as_tensor(t) ** 2

    def beta(self, t):
        return 1 - torch.as_tensor(t) ** 3

    def alpha_dot(self, t):
        return 2 * torch.as_tensor(t)

    def beta_dot(self, t):
        return -3 * torch.as_tensor(t) ** 2
