"""Values: conditions on them, of tensors that may have no data; and the precision that a device has for them."""

import torch
from torch import Tensor

WITHOUT_DOUBLE = {"mps"}  # devices without double precision


def holds(condition: Tensor) -> bool:
    """Whether a condition holds everywhere. Of tensors without data, on the device "meta", it is taken to."""
    return condition.is_meta or bool(condition.all())


def widest(device: torch.device) -> torch.dtype:
    """Double precision, or single on a device that has no other."""
    return torch.float32 if device.type in WITHOUT_DOUBLE else torch.float64


def precise(x) -> Tensor:
    """A tensor, or numbers, in the best precision that the device has."""
    x = x if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float64)
    return x.to(widest(x.device))
