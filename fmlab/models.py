"""Networks u_θ(x, t) and u_θ(x, t | y): small enough to train while one waits.

A network is called as model(x, t) or model(x, t, y) with x: (n, *shape), t: a scalar or (n,), and y: whole-number
labels, one or (n,). It returns (n, *shape), so it stands wherever an exact field u(x, t) does. A network with labels
knows one label more, `null_label`, which says "no label" and is used where y is not given: model(x, t) is the unguided
field u_θ(x, t | ∅).

Initial weights come from torch's global generator: call `torch.manual_seed` before building a network to repeat it.
Inputs should have about unit variance in each coordinate; `scale` divides them first where the data are larger.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from fmlab.values import HALF, holds, require_floating


def time_embedding(t: Tensor, size: int) -> Tensor:
    """Fourier features cos(π k t), sin(π k t) of the time, k = 1 … size/2.

    t: (n,) in [0, 1]. Returns (n, size). Frequencies are low: fields change smoothly in t.
    """
    exact = t.float() if t.dtype in HALF else t  # many half turns are lost in half precision
    angles = math.pi * torch.arange(1, size // 2 + 1).to(exact) * exact[:, None]
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(t.dtype)


class Network(nn.Module):
    """What all networks share: x in, t (and y) checked and embedded as one vector of `size` numbers, x out.

    Subclasses define `field(x, c)`, with c: (n, size) the embedding of time and label.
    """

    def __init__(self, size: int, labels: int | None, features: int):
        super().__init__()
        self.null_label, self._features = labels, features
        self.time = nn.Linear(features, size)
        self.label = None if labels is None else nn.Embedding(labels + 1, size)

    def forward(self, x: Tensor, t, y=None) -> Tensor:
        """u_θ(x, t | y), or u_θ(x, t) without y. Raises ValueError for times or labels that do not fit x."""
        return self.field(x, self._embedding(self._times(t, x), y, x).expand(len(x), -1))

    def _times(self, t, x: Tensor) -> Tensor:
        """t like x, (n,) or (1,)."""
        require_floating(x, "x")
        own = self.time.weight.dtype
        if x.dtype != own and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"this network computes in {own}, but x is {x.dtype}; use x.to({own}) or network.to(x)")
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        if t.ndim and t.shape != x.shape[:1]:
            raise ValueError(f"t must be a scalar or have shape ({len(x)},), got {tuple(t.shape)}")
        return t.reshape(-1)

    def _embedding(self, t: Tensor, y, x: Tensor) -> Tensor:
        """Time and label as one vector of `size` numbers: (n, size) or (1, size)."""
        c = self.time(time_embedding(t, self._features))
        if self.label is not None:
            return c + self.label(self._labels(y, x))
        if y is not None:
            raise ValueError("this network knows no labels; build it with labels=… (the number of classes)")
        return c

    def field(self, x: Tensor, c: Tensor) -> Tensor:
        raise NotImplementedError

    def _labels(self, y, x: Tensor) -> Tensor:
        """y as whole numbers (n,) or (1,), the null label where it is None."""
        y = torch.as_tensor(self.null_label if y is None else y, device=x.device)
        if y.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8):
            raise ValueError(f"labels must be whole numbers, got {y.dtype}; use y.long()")
        if y.ndim and y.shape != x.shape[:1]:
            raise ValueError(f"labels must be one or have shape ({len(x)},), got {tuple(y.shape)}")
        if not holds((y >= 0) & (y <= self.null_label)):
            known = f"0 … {self.null_label - 1}, or {self.null_label} for none"  # type: ignore[operator]
            raise ValueError(f"labels must be {known}; got values from {int(y.min())} to {int(y.max())}")
        return y.reshape(-1).long()


class MLP(Network):
    """Fully connected network; the embedding of time and label is added before the first activation.

    dim: number of coordinates of a point (images are flattened and shaped back). width, depth: units in, and number of,
    hidden layers. labels: number of classes, if any. scale: typical size of the inputs, which divides them.
    features: of the time (even); few where derivatives with respect to it are learned from.
    """

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 4,
        labels: int | None = None,
        scale: float = 1.0,
        features: int = 16,
    ):
        super().__init__(width, labels, features)
        self.dim, self.scale = dim, float(scale)
        self.first = nn.Linear(dim, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, dim)

    def field(self, x, c):
        if math.prod(x.shape[1:]) != self.dim:
            raise ValueError(f"x must have {self.dim} coordinates per point, got shape {tuple(x.shape)}")
        h = torch.relu(self.first(x.flatten(1) / self.scale) + c)
        for layer in self.hidden:
            h = torch.relu(layer(h))
        return self.last(h).reshape(x.shape)


class TwoTimeMLP(MLP):
    """The average velocity v(x, s, t) of a flow map, or v(x, s, t, y): an MLP that is told s and t − s.

    s, t: scalars or (n,), the times that a state is at and that it is to go to. With 16 features of a time, cos and sin
    up to 8 half turns, derivatives with respect to s and t are too large to learn from; 2 are enough.
    """

    def __init__(self, dim: int, width: int = 80, depth: int = 4, labels: int | None = None, features: int = 2):
        super().__init__(dim, width, depth, labels, features=features)
        self.gap = nn.Linear(features, width)

    def forward(self, x, s, t, y=None):
        s, t = self._times(s, x), self._times(t, x)
        c = self._embedding(s, y, x) + self.gap(time_embedding(t - s, self._features))
        return self.field(x, c.expand(len(x), -1))


class UNet(Network):
    """Residual U-Net for images: down to half the size, with twice the channels, as often as `halvings`, and up again.

    channels: of an image. width: channels of the first level, a multiple of 8. labels: number of classes, if any.
    features: of the time. Images are (n, channels, height, width), height and width multiples of 2^halvings.
    """

    def __init__(
        self, channels: int = 1, width: int = 16, labels: int | None = None, features: int = 16, halvings: int = 1
    ):
        size = 4 * width
        super().__init__(size, labels, features)
        self.channels, self.halvings = channels, halvings
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down, self.coarser, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        widths = [width * 2**k for k in range(halvings + 1)]
        for fine, coarse in zip(widths, widths[1:]):
            self.down.append(Residual(fine, fine, size))
            self.coarser.append(nn.Conv2d(fine, coarse, 3, stride=2, padding=1))
        self.middle = nn.ModuleList(Residual(widths[-1], widths[-1], size) for _ in range(2))
        for fine, coarse in zip(widths[-2::-1], widths[:0:-1]):
            self.up.append(Residual(fine + coarse, fine, size))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def field(self, x, c):
        unit = 2**self.halvings
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % unit or x.shape[3] % unit:
            sides = f"multiples of {unit}" if unit > 2 else "even"
            raise ValueError(f"x must be images (n, {self.channels}, {sides}, {sides}), got {tuple(x.shape)}")
        c, h, skips = silu(c), self.first(x), []
        for block, coarser in zip(self.down, self.coarser):
            skips.append(block(h, c))
            h = coarser(skips[-1])
        for block in self.middle:
            h = block(h, c)
        for block in self.up:
            h = block(torch.cat([interpolate(h, scale_factor=2.0), skips.pop()], dim=1), c)
        return self.last(silu(h))


class Residual(nn.Module):
    """Residual block x + f(x, c): two convolutions, with the embedding c of time and label shifting what is between.

    x: (n, ins, height, width), c: (n, size). Returns (n, outs, height, width).
    """

    def __init__(self, ins: int, outs: int, size: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(8, ins), nn.GroupNorm(8, outs)])
        self.convolutions = nn.ModuleList([nn.Conv2d(ins, outs, 3, padding=1), nn.Conv2d(outs, outs, 3, padding=1)])
        self.shift = nn.Linear(size, outs)
        self.straight = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = self.convolutions[0](silu(self.norms[0](x))) + self.shift(c)[:, :, None, None]
        return self.straight(x) + self.convolutions[1](silu(self.norms[1](h)))
