"""Train the networks of `fmlab.pretrained` anew and write their weights: python -m course pretrain."""

from __future__ import annotations

from pathlib import Path

import torch

from fmlab import pretrained
from fmlab.datasets import Digits
from fmlab.losses import guided_flow_matching_loss
from fmlab.models import UNet
from fmlab.paths import GaussianPath
from fmlab.training import train


def digits(steps: int = 8000) -> UNet:
    """The network of `pretrained.digits`, trained in about two minutes on one core."""
    torch.manual_seed(0)
    data, path, network = Digits(), GaussianPath(), pretrained.untrained_digits()
    return train(network, lambda model: guided_flow_matching_loss(model, path, *data.sample_labelled(128)), steps, 3e-3)


def write(folder: Path = pretrained.WEIGHTS) -> list[Path]:
    """Train each network, and write its weights. Returns the files."""
    path = folder / "digits.npz"
    pretrained.save(digits(), path)
    return [path]
