"""Networks that come trained, for those who want to draw before they train.

Their weights lie in fmlab/weights/, in half precision, and `python -m course pretrain` makes them again.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from fmlab.models import UNet

Network = TypeVar("Network", bound=nn.Module)

WEIGHTS = Path(__file__).parent / "weights"


def digits() -> UNet:
    """A vector-field network u(x, t, y) that draws handwritten digits of 8 × 8 pixels.

    x: (n, 1, 8, 8) in single precision, pixels from −1, black, to 1, white. t: 0 for noise, 1 for images. y: labels
    0 … 9, one for all images or (n,); without y, or with `null_label`, it draws any digit.

    It is lab 6's U-Net of half the width, trained on the same images, `datasets.Digits()`. Draw with

        field = guided_vector_field(digits(), y, w=2)
        images = sample_flow(field, torch.randn(len(y), 1, 8, 8))
    """
    with torch.device("meta"):  # draws no random numbers
        network = untrained_digits()
    return load(network, WEIGHTS / "digits.npz")


def untrained_digits() -> UNet:
    """The network of `digits` before its training."""
    return UNet(1, width=8, labels=10)


def load(network: Network, path: Path) -> Network:
    """Put the weights in a file into a network, in single precision. Returns the network, ready to be used."""
    with np.load(path, allow_pickle=False) as arrays:
        weights = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def save(network: nn.Module, path: Path) -> None:
    """Write the weights of a network into a file, in half precision."""
    np.savez_compressed(path, **{name: weight.cpu().half().numpy() for name, weight in network.state_dict().items()})
