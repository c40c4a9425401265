"""Tokens: states that cannot be moved a little, so they jump.

A state x: (n, D) is a batch of sentences of D tokens, whole numbers 0 … K − 1. One more symbol, K, is the mask, where
there is one. Chains in continuous time jump from x to y ≠ x at the rate Q_t(x, y); Q_t(x, x) is minus the rate of
leaving, so that rows sum to 0. Their law follows Kolmogorov's equation,

    d/dt p_t(y) = Σ_x p_t(x) Q_t(x, y)                                             [Campbell et al. 2024, eq. 3]

A path mixes data and noise token by token, with κ_t rising from 0 (noise) to 1 (data):

    p_t(x | z) = Π_i κ_t δ(x^i, z^i) + (1 − κ_t) p_noise(x^i)                      [Gat et al. 2024, eq. 8]

A token that is noise turns into data at the hazard κ̇_t/(1 − κ_t). Given z, and on average over z given x,

    u_t^i(y | x, z) = κ̇_t/(1 − κ_t) (δ(y, z^i) − δ(y, x^i))
    u_t^i(y | x)    = κ̇_t/(1 − κ_t) (p(z^i = y | x) − δ(y, x^i))                   [Gat et al. 2024, eq. 17]

which is the marginalisation trick of flow matching. A denoiser is any callable (x, t) ↦ (n, D, K), the probabilities
p(z^i = y | x). `fmlab.sentences` has the exact one of a table of sentences, and likelihoods; `fmlab.jumps` simulates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fmlab.values import holds, precise, time, widest


class PowerKappa:
    """κ_t = t^p, the share of tokens that are data at time t. power: p > 0; with 1, the rate of reveals is even."""

    def __init__(self, power: float = 1.0):
        if not power > 0:
            raise ValueError(f"power must be positive, got {power}")
        self.power = float(power)

    def kappa(self, t) -> Tensor:
        """κ_t."""
        return time(t) ** self.power

    def kappa_dot(self, t) -> Tensor:
        """dκ_t/dt."""
        return self.power * time(t) ** (self.power - 1)


class CosineKappa:
    """κ_t = 1 − cos(πt/2): few reveals at first, many at the end."""

    def kappa(self, t) -> Tensor:
        """κ_t."""
        return 1 - torch.cos(math.pi / 2 * time(t))

    def kappa_dot(self, t) -> Tensor:
        """dκ_t/dt."""
        return math.pi / 2 * torch.sin(math.pi / 2 * time(t))


class TokenPath:
    """The path p_t(x | z) = Π_i κ_t δ(x^i, z^i) + (1 − κ_t) p_noise(x^i) of tokens.    [Gat et al. 2024, eq. 8]

    size: the number K of symbols. masked: whether noise is the mask, symbol K; if not, it is uniform over the symbols.
    schedule: an object with kappa(t) and kappa_dot(t). x, z: (n, D), whole numbers; t: a scalar or (n,).
    """

    def __init__(self, size: int, masked: bool = True, schedule=None):
        if size < 1:
            raise ValueError(f"there must be at least one symbol, got size {size}")
        self.size, self.masked, self.schedule = size, masked, schedule or PowerKappa()

    @property
    def mask(self) -> int:
        """The symbol of the mask. Raises ValueError where the noise is uniform."""
        if not self.masked:
            raise ValueError("the noise of this path is uniform; there is no mask")
        return self.size

    @property
    def symbols(self) -> int:
        """How many symbols a noisy token may have: K, and one more with a mask."""
        return self.size + self.masked

    def kappa(self, t, x: Tensor) -> Tensor:
        """κ_t in the shape that multiplies tokens: (n, 1), or () for one time. Double precision."""
        return _rows(self.schedule.kappa(precise(t)), x)

    def hazard(self, t, x: Tensor) -> Tensor:
        """κ̇_t/(1 − κ_t), the rate at which a token that is noise turns into data. Raises ValueError where κ_t = 1."""
        kappa = self.schedule.kappa(precise(t))
        if not holds(kappa < 1):
            raise ValueError("at κ_t = 1 nothing is noise, and the hazard is infinite; ask before t = 1")
        return _rows(self.schedule.kappa_dot(precise(t)) / (1 - kappa), x)

    def noise_like(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise in the shape of z: masks, or uniform symbols."""
        if self.masked:
            return torch.full_like(z, self.mask)
        return torch.randint(self.size, z.shape, generator=generator, device=z.device, dtype=z.dtype)

    def noise_from(self, uniform: Tensor) -> Tensor:
        """Noise from numbers in [0, 1): masks, or the symbols ⌊K u⌋."""
        if self.masked:
            return torch.full_like(uniform, self.mask, dtype=torch.long)
        return (self.size * uniform).long()

    def corrupt(self, z: Tensor, noise: Tensor, t, uniform: Tensor) -> Tensor:
        """x^i = z^i where u^i < κ_t, and noise elsewhere. uniform: (n, D) numbers in [0, 1), one for each token."""
        return torch.where(uniform < self.kappa(t, z), z, noise)

    def sample(self, z: Tensor, t, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p_t(· | z) for each z."""
        return self.corrupt(z, self.noise_like(z, generator), t, uniform_like(z, generator))

    def prob(self, x: Tensor, z: Tensor, t) -> Tensor:
        """p_t(x | z) of pairs of sentences: (n,), double precision."""
        kappa = self.kappa(t, x)
        return (kappa * (x == z) + (1 - kappa) * self._noise_probs(x)[x]).prod(1)

    def conditional_rate(self, x: Tensor, z: Tensor, t) -> Tensor:
        """u_t^i(y | x, z) = κ̇/(1 − κ) (δ(y, z^i) − δ(y, x^i)) for each symbol y: (n, D, symbols)."""
        return self.hazard(t, x)[..., None] * (self._one_hot(z) - self._one_hot(x))

    def marginal_rate(self, probs: Tensor, x: Tensor, t) -> Tensor:
        """u_t^i(y | x) = κ̇/(1 − κ) (p(z^i = y | x) − δ(y, x^i)).    [Gat et al. 2024, eq. 17]

        probs: (n, D, K), a denoiser's. Returns (n, D, symbols). With masks, tokens that are data do not jump.
        """
        probs = self.clean(precise(probs), x)
        return self.hazard(t, x)[..., None] * (probs - self._one_hot(x))

    def corrector_rate(self, probs: Tensor, x: Tensor, t) -> Tensor:
        """Rates that leave p_t alone, of which any multiple may be added to the marginal ones: tokens turn into noise
        at the rate 1, and noise into data at κ/(1 − κ).    [Campbell et al. 2024, § 4.1; Gat et al. 2024, eq. 22]

            κ/(1 − κ) (p(z^i = y | x) − δ(y, x^i)) + p_noise(y) − δ(y, x^i)

        probs: (n, D, K). Returns (n, D, symbols).
        """
        kappa, here = self.kappa(t, x)[..., None], self._one_hot(x)
        return kappa / (1 - kappa) * (self.clean(precise(probs), x) - here) + self._noise_probs(x) - here

    def _noise_probs(self, x: Tensor) -> Tensor:
        """p_noise: (symbols,)."""
        if self.masked:
            return self._one_hot(torch.tensor(self.mask, device=x.device))
        return torch.full((self.size,), 1 / self.size, dtype=widest(x.device), device=x.device)

    def clean(self, probs: Tensor, x: Tensor) -> Tensor:
        """A denoiser's probabilities, (n, D, K), over all symbols; with masks, a token that is data stays."""
        if not self.masked:
            return probs
        padded = torch.cat([probs, torch.zeros_like(probs[..., :1])], dim=-1)
        return torch.where((x == self.mask)[..., None], padded, self._one_hot(x))

    def _one_hot(self, x: Tensor) -> Tensor:
        return precise(one_hot(x, self.symbols))


def uniform_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) in the shape of x, in double precision.

    Single precision has 2⁻²⁴ for its smallest step, so that Gumbel noise −log(−log u) is cut off at 16.64 and rare
    symbols lose draws that they should win.
    """
    return torch.rand(x.shape, dtype=widest(x.device), generator=generator, device=x.device)


def _rows(value: Tensor, x: Tensor) -> Tensor:
    value = value.to(x.device, widest(x.device))
    return value.reshape(-1, 1) if value.ndim else value
