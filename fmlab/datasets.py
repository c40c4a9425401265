"""Data to learn from: finite data sets, with labels or without, and distributions in the plane that are no mixtures.

Whatever has `sample(n, generator)` is data. `Empirical` and `Labelled` hold given points; `Digits` and `mnist` are
images, `Checkerboard`, `Moons`, `Circles` and `Word` draw points of the plane, as many as one likes. Where there is a
density in closed form, there is a `log_prob`. (`fmlab.glyphs` draws letters, images that need no download.)
"""

import math
import warnings

import torch
from torch import Tensor

from fmlab import extras
from fmlab.values import floating, half, in_single, normal_like, precise, require_tensor


class Empirical:
    """Uniform distribution over a finite data set. z: (N, *shape), floating point."""

    def __init__(self, z: Tensor):
        self.z = floating(z)
        if self.z.ndim < 2 or not len(self.z):
            raise ValueError(f"z must have shape (N, *shape) with N ≥ 1, got {tuple(self.z.shape)}")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n points drawn with replacement. Returns (n, *shape)."""
        return self.z[torch.randint(len(self.z), (n,), generator=generator, device=self.z.device)]


class Labelled(Empirical):
    """A finite data set with a label for each point. z: (N, *shape), floating point; y: (N,), whole numbers."""

    def __init__(self, z: Tensor, y: Tensor):
        super().__init__(z)
        self.y = torch.as_tensor(y)
        if self.y.shape != self.z.shape[:1] or self.y.is_floating_point():
            raise ValueError(f"y must be {len(self.z)} whole numbers, got {self.y.dtype} {tuple(self.y.shape)}")

    def sample_labelled(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n points with their labels, drawn with replacement. Returns z: (n, *shape), y: (n,)."""
        drawn = torch.randint(len(self.z), (n,), generator=generator, device=self.z.device)
        return self.z[drawn], self.y[drawn]


class Digits(Labelled):
    """1797 handwritten digits of 8 × 8 pixels, which come with scikit-learn: z: (N, 1, 8, 8) in [−1, 1], y: 0 … 9.

    train: the four fifths to learn from, or the fifth held out to judge by. seed: what decides who is held out.
    """

    def __init__(self, train: bool = True, seed: int = 0):
        with extras.needed("the data set of digits"):
            from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        held_out = len(labels) // 5
        kept = order[held_out:] if train else order[:held_out]
        images = torch.as_tensor(pixels, dtype=torch.get_default_dtype()).reshape(-1, 1, 8, 8) / 8 - 1
        super().__init__(images[kept], torch.as_tensor(labels, dtype=torch.int64)[kept])


def mnist(root: str = "data", train: bool = True) -> Labelled:
    """MNIST: z: (N, 1, 28, 28) in [−1, 1], y: 0 … 9, read from `root`, or downloaded there, by torchvision.

    Raises RuntimeError that says what to do where torchvision is missing or broken, or the data are out of reach.
    """
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(
            f"MNIST needs torchvision, which does not load here ({error}). Install the torchvision that belongs to "
            f"torch {torch.__version__}, or use Digits(), which needs no download."
        ) from error
    try:
        data = MNIST(root, train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"MNIST is neither in {root!r} nor could it be downloaded ({error}). Put the files there, or use Digits(), "
            "which needs no download."
        ) from error
    return Labelled(data.data[:, None].to(torch.get_default_dtype()) / 127.5 - 1, data.targets)


class Checkerboard:
    """Uniform distribution on the 8 dark cells of a 4 × 4 board that covers [−2, 2]².

    A cell is dark where ⌊x_1⌋ + ⌊x_2⌋ is even. Each coordinate is uniform on [−2, 2], of variance 4/3.
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples. Returns (n, 2)."""
        x, y = 4 * _uniform(2, n, generator) - 2
        light = (x.floor() + y.floor()) % 2 == 1
        y = torch.where(light, (y + 3) % 4 - 2, y)  # one cell up, from the top to the bottom
        return torch.stack([x, y], dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log 1/8 on dark cells, −∞ elsewhere, at x: (n, 2). Returns (n,)."""
        _require_plane(x)
        dark = (x.floor().sum(1) % 2 == 0) & ((x >= -2) & (x < 2)).all(1)
        return torch.where(dark, -math.log(8), -math.inf).to(x)


class Moons:
    """Two interleaved half circles, of unit variance over all, with normal noise.

    The curves are (cos θ, sin θ) and (1 − cos θ, ½ − sin θ), θ uniform on [0, π], centred and times √2.
    noise: standard deviation of the noise; with 0 the data are the curves themselves, and have no density.
    """

    def __init__(self, noise: float = 0.1):
        self.noise = _noise_level(noise)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples. Returns (n, 2)."""
        theta, side = _uniform(2, n, generator)
        angle = math.pi * theta
        upper = torch.stack([angle.cos(), angle.sin()], dim=1)
        lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
        curve = torch.where(side[:, None] < 0.5, upper, lower) - torch.tensor([0.5, 0.25]).to(upper)
        return math.sqrt(2) * curve + self.noise * normal_like(curve, generator)


class Circles:
    """Points on circles around 0, all as likely, with normal noise.

    radii: R_1 … R_K. noise: standard deviation σ of the noise; with 0 the data are the circles, and have no density.
    Averaging the noise N(x; R e_θ, σ² I) over θ gives, with the Bessel function I_0 and ρ = ‖x‖,

        p(x) = 1/K Σ_k exp(−(ρ² + R_k²)/(2σ²)) I_0(ρ R_k/σ²) / (2πσ²).
    """

    def __init__(self, radii: tuple[float, ...] = (0.8, 1.6), noise: float = 0.1):
        self.radii, self.noise = tuple(float(radius) for radius in radii), _noise_level(noise)
        if not self.radii or min(self.radii) <= 0:
            raise ValueError(f"radii must be positive, got {radii}")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples. Returns (n, 2)."""
        theta, circle = _uniform(2, n, generator)
        angle = 2 * math.pi * theta
        radius = torch.tensor(self.radii).to(circle)[(len(self.radii) * circle).long()]
        curve = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        return curve + self.noise * normal_like(curve, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) at x: (n, 2). Returns (n,). Raises ValueError where noise = 0."""
        if half(x):
            return in_single(self.log_prob, x)
        _require_plane(x)
        if self.noise == 0:
            raise ValueError("without noise the data lie on curves, and have no density")
        radius, rho, variance = torch.tensor(self.radii).to(x)[:, None], x.norm(dim=1), self.noise**2
        bessel = torch.special.i0e(rho * radius / variance).log()  # log I_0(κ) − κ, which completes the square
        log_each = bessel - (rho - radius) ** 2 / (2 * variance)
        return log_each.logsumexp(0) - math.log(2 * math.pi * variance * len(self.radii))


class Word:
    """Uniform distribution on the letters of a word as they are printed, centred in the plane and 6 units wide.

    Raises ValueError for a word that leaves no ink, or has letters that matplotlib's font does not have.
    """

    def __init__(self, word: str):
        with extras.needed("drawing a word"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

        canvas = FigureCanvasAgg(Figure(figsize=(len(word) + 1, 2)))
        text = canvas.figure.text(0.5, 0.4, word, size=60, weight="bold", ha="center", parse_math=False)
        if hasattr(text, "set_fontfeatures"):  # from matplotlib 3.11 on, which else joins f and l
            text.set_fontfeatures(["-liga"])
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Glyph .* missing")
            try:
                canvas.draw()
            except UserWarning:
                raise ValueError(
                    f"the font has no letters for {word!r}; write it in Latin, Greek or Cyrillic"
                ) from None
        pixels = canvas.buffer_rgba()
        ink = torch.frombuffer(pixels, dtype=torch.uint8).reshape(pixels.shape)[..., 0] < 128
        if not ink.any():
            raise ValueError(f"a word needs letters, got {word!r}")
        row, column = ink.nonzero().T
        corner = torch.stack([column, -row], dim=1).to(torch.get_default_dtype())
        low, high = corner.min(0).values, corner.max(0).values + 1
        self.pixel = 6 / float((high - low).max())
        self.corner = self.pixel * (corner - (low + high) / 2)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples. Returns (n, 2)."""
        pixel, *inside = _uniform(3, n, generator)
        corner = self.corner.to(pixel)
        return corner[(len(corner) * precise(pixel)).long()] + self.pixel * torch.stack(inside, dim=1)


def _uniform(rows: int, n: int, generator: torch.Generator | None) -> Tensor:
    """Numbers uniform on [0, 1), (rows, n), where the generator lives."""
    return torch.rand(rows, n, generator=generator, device=generator.device if generator else None)


def _noise_level(noise: float) -> float:
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a number ≥ 0, got {noise}")
    return float(noise)


def _require_plane(x: Tensor) -> None:
    require_tensor(x, "x")
    if x.ndim != 2 or x.shape[1] != 2 or not x.is_floating_point():
        raise ValueError(f"x must be floating point of shape (n, 2), got {x.dtype} {tuple(x.shape)}")
