"""Distributions with exact samples, densities and scores.

p(x) is a density on R^d and s(x) = ∇ log p(x) its score. For a Gaussian mixture with weights w_k, means m_k and
covariances C_k = L_k L_kᵀ everything is closed form once each component is whitened:

    y_k = L_k⁻¹ (x − m_k)
    log p(x) = log Σ_k exp(ℓ_k),   ℓ_k = log w_k − ½‖y_k‖² − log det L_k − (d/2) log 2π
    s(x) = −Σ_k r_k L_k⁻ᵀ y_k,     r = softmax(ℓ), the probability that x came from component k

Whitening keeps components as the leading axis (K, d, n) and is one matrix product; it also keeps the digits that
expanding the square (x − m)ᵀ C⁻¹ (x − m) loses for narrow components. Where there are none, `NaturalForm` expands it,
and is several times faster.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fmlab.values import holds, precise

BLOCK = 2**16  # numbers in the largest table of a block of points, which caches hold and the allocator keeps
FLOOR = 60.0  # how far below the largest ℓ_k others count: e⁻⁶⁰ is lost in any sum, and not yet small enough to be slow
LOST = 256.0  # the largest loss of precision that expanding a square may cost, per root of the dimension


class GaussianMixture:
    """Mixture Σ_k w_k N(m_k, C_k) of K Gaussians in R^d.

    means: (K, d). covs: one variance for all, (K,) variances, or full covariances (K, d, d).
    weights: (K,), positive, normalised here; equal if not given.
    Samples take the dtype and device of `means`; `log_prob` and `score` follow those of x.
    Raises ValueError if the shapes disagree, a weight is not positive or a covariance is not symmetric
    positive definite.
    """

    def __init__(self, means, covs, weights=None):
        self.means = _float(means)
        if self.means.ndim != 2 or not len(self.means):
            raise ValueError(f"means must have shape (K, d), got {tuple(self.means.shape)}")
        k, d = self.means.shape
        self.covs = _full_covariances(covs, self.means)
        self.weights = self.means.new_ones(k) if weights is None else _like(weights, self.means)
        if self.weights.shape != (k,) or not holds((self.weights > 0) & self.weights.isfinite()):
            raise ValueError(f"weights must be {k} positive, finite numbers, got {self.weights.tolist()}")
        self.weights = self.weights / self.weights.sum()

        means, covs, weights = map(precise, (self.means, self.covs, self.weights))
        factor, failed = torch.linalg.cholesky_ex(covs)
        if not holds(failed == 0) or not holds(torch.isclose(covs, covs.mT)):
            raise ValueError("each covariance must be symmetric and positive definite")
        whiten = torch.linalg.solve_triangular(factor, torch.eye(d).to(factor).expand(k, d, d), upper=False)
        self._factor = factor
        self._whiten = whiten.reshape(k * d, d)
        self._shift = (whiten @ means[..., None]).reshape(k * d, 1)
        centre = means.mean(0)[:, None]
        centred = whiten @ (means[..., None] - centre)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        self._log_scale = (weights.log() - log_det - d / 2 * math.log(2 * math.pi))[:, None]
        self._natural = natural_form(whiten, centred, self._log_scale, centre)
        self._score_table = self._natural and self._natural.affine(-whiten.mT)

    @property
    def mean(self) -> Tensor:
        """Mean Σ w_k m_k of the mixture, (d,)."""
        return self.weights @ self.means

    @property
    def cov(self) -> Tensor:
        """Covariance Σ w_k (C_k + m_k m_kᵀ) − m mᵀ of the mixture, (d, d)."""
        second_moments = self.covs + self.means[:, :, None] * self.means[:, None, :]
        return torch.einsum("k,kij->ij", self.weights, second_moments) - torch.outer(self.mean, self.mean)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent samples m_k + L_k ε with k ~ w, ε ~ N(0, I). Returns (n, d)."""
        k, d = self.means.shape
        noise = torch.randn(n, d, dtype=self.means.dtype, device=self.means.device, generator=generator)
        if k == 1:
            return self.means[0] + noise @ self._factor[0].to(noise).T
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[component] + (self._factor.to(noise)[component] @ noise[..., None])[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density log Σ_k exp(ℓ_k) at x: (n, d). Returns (n,)."""
        self._require_points(x)
        return self._natural.log_prob(x) if self._natural else self._log_joint(self._whitened(x)).logsumexp(0)

    def score(self, x: Tensor) -> Tensor:
        """Score ∇ log p(x) = −Σ_k r_k L_k⁻ᵀ y_k at x: (n, d). Returns (n, d)."""
        self._require_points(x)
        if self._natural:
            return self._natural.average(x, self._score_table)
        y = self._whitened(x)
        if len(y) > 1:
            y = y * self._log_joint(y).softmax(0)[:, None]
        return y.flatten(0, 1).mT @ -self._whiten.to(x)

    def _whitened(self, x: Tensor) -> Tensor:
        """y_k = L_k⁻¹ (x − m_k) for all components: (K, d, n)."""
        k, d = self.means.shape
        return torch.addmm(-self._shift.to(x), self._whiten.to(x), x.mT).view(k, d, -1)

    def _log_joint(self, y: Tensor) -> Tensor:
        """ℓ_k = log (w_k N(x; m_k, C_k)) from the whitened y: (K, n)."""
        return floored(self._log_scale.to(y) - y.square().sum(1) / 2)

    def _require_points(self, x: Tensor) -> None:
        d = self.means.shape[1]
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor of shape (n, {d}), got {type(x).__name__}")
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"x must be floating point, got {x.dtype}; use x.float() or x.double()")


class Gaussian(GaussianMixture):
    """Normal distribution N(mean, cov) in R^d: the mixture with one component.

    mean: (d,). cov: a variance, or a full covariance (d, d).
    Raises ValueError if the shapes disagree or cov is not symmetric positive definite.
    """

    def __init__(self, mean, cov):
        mean = _float(mean)
        cov = _like(cov, mean)
        if mean.ndim != 1:
            raise ValueError(f"mean must have shape (d,), got {tuple(mean.shape)}")
        if cov.ndim == 1:
            raise ValueError("cov must be a variance or a matrix (d, d); for a diagonal covariance use torch.diag")
        super().__init__(mean[None], cov[None] if cov.ndim else cov)


class NaturalForm:
    """A mixture by its natural parameters: ℓ_k is linear in the features z and z zᵀ of z = x − c.

        ℓ_k = c_k + b_kᵀ z − ½ zᵀ P_k z,   P_k = W_kᵀ W_k,   b_k = W_kᵀ s_k,   c_k = log_scale_k − ½ ‖s_k‖²

    So all components are one matrix product, and so is Σ_k r_k (B_k y_k + o_k): it averages affine maps of z, and
    applies the one that is left. Points are taken in blocks that stay in cache.

    whiten: W_k with W_k C_k W_kᵀ = I, (K, d, d). shift: s_k = W_k (m_k − c), (K, d, 1). log_scale: (K, 1).
    centre: c, (d, 1). All in the best precision of their device.
    """

    def __init__(self, whiten: Tensor, shift: Tensor, log_scale: Tensor, centre: Tensor):
        self.whiten, self.shift, self.centre = whiten, shift, centre
        linear, precision = whiten.mT @ shift, whiten.mT @ whiten
        self.parameters = torch.cat([linear.flatten(1), precision.flatten(1) / -2], dim=1)  # (K, d + d²)
        self.constant = log_scale - shift.square().sum(1) / 2

    def affine(self, maps: Tensor, offsets: Tensor | float = 0.0) -> Tensor:
        """The maps B_k y_k + o_k as affine maps of z, a table ((1 + d) d, K). maps: (K, d, d), offsets: (K, d, 1)."""
        table = torch.cat([offsets - maps @ self.shift, maps @ self.whiten], dim=2)
        return table.permute(2, 1, 0).flatten(0, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log Σ_k exp ℓ_k at x: (n, d). Returns (n,)."""
        return self._blockwise(lambda z, log_joint: log_joint.logsumexp(0), x)

    def average(self, x: Tensor, affine: Tensor) -> Tensor:
        """Σ_k r_k (B_k y_k + o_k) at x: (n, d), for a table made by `affine`. Returns (n, d)."""
        affine = affine.to(x)

        def averaged(z: Tensor, log_joint: Tensor) -> Tensor:
            value, *columns = (affine @ log_joint.softmax(0)).view(-1, *z.shape)
            for column, coordinate in zip(columns, z):
                value = torch.addcmul(value, column, coordinate)
            return value.mT

        return self._blockwise(averaged, x)

    def _blockwise(self, function: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
        """function(z, ℓ) for blocks of x: z: (d, m), ℓ: (K, m)."""
        parameters, constant, centre = (table.to(x) for table in (self.parameters, self.constant, self.centre))
        identity, values = torch.eye(x.shape[1]).to(x), []
        for block in x.split(max(1, BLOCK // len(constant))):
            z = torch.addmm(-centre, identity, block.mT)  # a product, since a transposed copy costs more
            features = torch.cat([z, (z[:, None] * z).flatten(0, 1)])
            values.append(function(z, floored(torch.addmm(constant, parameters, features))))
        return torch.cat(values)


def floored(logits: Tensor, dim: int = 0) -> Tensor:
    """ℓ, but nowhere less than its largest value along dim less FLOOR, so that exp gives no subnormal numbers.

    They add nothing to a sum of exp ℓ, yet many processors take a hundred times as long to compute with them. Where the
    largest value is so large that FLOOR is lost in its rounding, the floor is a few roundings below it.
    """
    largest = logits.amax(dim, keepdim=True)
    return torch.maximum(logits, largest - (4 * torch.finfo(logits.dtype).eps * largest.abs()).clamp(min=FLOOR))


def natural_form(whiten: Tensor, shift: Tensor, log_scale: Tensor, centre: Tensor) -> NaturalForm | None:
    """The natural form, or None where it would cost digits or time.

    Near its own component ‖y_k‖² is about d, and comes out as a difference of numbers near ‖s_k‖² with their roundings;
    and the features z zᵀ pay only for as many components as dimensions.
    """
    k, d, _ = shift.shape
    sharp = not holds(shift.square().sum(1) <= LOST * d**0.5)
    return None if sharp or k < d else NaturalForm(whiten, shift, log_scale, centre)


class Empirical:
    """Uniform distribution over a finite data set. z: (N, *shape), floating point."""

    def __init__(self, z: Tensor):
        self.z = _float(z)
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
        return math.sqrt(2) * curve + self.noise * torch.empty_like(curve).normal_(generator=generator)


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
        return curve + self.noise * torch.empty_like(curve).normal_(generator=generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) at x: (n, 2). Returns (n,). Raises ValueError where noise = 0."""
        _require_plane(x)
        if self.noise == 0:
            raise ValueError("without noise the data lie on curves, and have no density")
        radius, rho, variance = torch.tensor(self.radii).to(x)[:, None], x.norm(dim=1), self.noise**2
        bessel = torch.special.i0e(rho * radius / variance).log()  # log I_0(κ) − κ, which completes the square
        log_each = bessel - (rho - radius) ** 2 / (2 * variance)
        return log_each.logsumexp(0) - math.log(2 * math.pi * variance * len(self.radii))


class Word:
    """Uniform distribution on the letters of a word as they are printed, centred in the plane and 6 units wide.

    Raises ValueError for a word that leaves no ink.
    """

    def __init__(self, word: str):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        canvas = FigureCanvasAgg(Figure(figsize=(len(word) + 1, 2)))
        canvas.figure.text(0.5, 0.4, word, size=60, weight="bold", ha="center", parse_math=False)
        canvas.draw()
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


def _float(value) -> Tensor:
    """The value as a floating-point tensor (whole numbers take the default dtype)."""
    value = torch.as_tensor(value)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _like(value, other: Tensor) -> Tensor:
    """The value as a tensor of the dtype and device of another; numbers keep all the digits that these have."""
    return torch.as_tensor(value, dtype=other.dtype, device=other.device)


def _full_covariances(covs, means: Tensor) -> Tensor:
    """Expand a variance or K variances to full covariances (K, d, d)."""
    k, d = means.shape
    covs = _like(covs, means)
    if covs.ndim == 0:
        covs = covs.expand(k)
    if covs.shape == (k,):
        covs = covs[:, None, None] * torch.eye(d).to(means)
    if covs.shape != (k, d, d):
        raise ValueError(f"covs must be a variance, ({k},) variances or ({k}, {d}, {d}), got {tuple(covs.shape)}")
    return covs


def _uniform(rows: int, n: int, generator: torch.Generator | None) -> Tensor:
    """Numbers uniform on [0, 1), (rows, n), where the generator lives."""
    return torch.rand(rows, n, generator=generator, device=generator.device if generator else None)


def _noise_level(noise: float) -> float:
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be a number ≥ 0, got {noise}")
    return float(noise)


def _require_plane(x: Tensor) -> None:
    if x.ndim != 2 or x.shape[1] != 2 or not x.is_floating_point():
        raise ValueError(f"x must be floating point of shape (n, 2), got {x.dtype} {tuple(x.shape)}")
