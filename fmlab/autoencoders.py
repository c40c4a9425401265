"""Autoencoders: images squeezed into a few numbers, with a bound that says what that costs.

An encoder gives each image x a Gaussian q(z | x) = N(μ, diag e^ℓ), a decoder an image x̂(z). The loss

    ‖x − x̂(z)‖² + β KL(q(z | x) ‖ N(0, I)),   z = μ + e^{ℓ/2} ε,   KL = ½ Σ (μ² + e^ℓ − 1 − ℓ)   [Kingma & Welling 2014]

is, up to constants, 2s² times the negative evidence lower bound of pixels with noise of variance s² = β/2. For linear
maps its minimum is known: of the directions of the data, of variances λ, those with λ > s² are kept, each with the
error s² and ½ log(λ/s²) nats; the others die. That is reverse water-filling, the rate–distortion curve of a Gaussian.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from fmlab.values import require_floating, require_one_shape, squares


def reparameterise(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """z = μ + e^{ℓ/2} ε, a sample of N(μ, diag e^ℓ) through which gradients flow."""
    require_floating(mean, "mean"), require_floating(log_var, "log_var"), require_floating(noise, "noise")
    return mean + (log_var / 2).exp() * noise


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(μ, diag e^ℓ) ‖ N(0, I)) = ½ Σ (μ² + e^ℓ − 1 − ℓ), one number for each image. mean, log_var: (n, *shape)."""
    return _nats(mean, log_var).reshape(len(mean), math.prod(mean.shape[1:])).sum(1)


def _nats(mean: Tensor, log_var: Tensor) -> Tensor:
    """The KL of each latent alone, ½ (μ² + e^ℓ − 1 − ℓ)."""
    require_one_shape(mean=mean, log_var=log_var)
    return (mean.square() + log_var.exp() - 1 - log_var) / 2


def vae_loss(x: Tensor, decoded: Tensor, mean: Tensor, log_var: Tensor, beta: float) -> Tensor:
    """‖x − x̂‖² + β KL, both summed over an image, averaged over the batch.

    A mean over pixels beside a sum over latents is β times the number of pixels, and kills every latent.
    """
    require_one_shape(x=x, decoded=decoded)
    if not len(x):
        raise ValueError("a mean over no images is no number; give one at least")
    return (squares(x - decoded) + beta * gaussian_kl(mean, log_var)).mean()


def linear_rate(eigenvalues: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Nats and squared error of the best linear autoencoder of Gaussian data: reverse water-filling at s² = β/2.

    rate = Σ_{λ > s²} ½ log(λ/s²),   error = Σ min(λ, s²)                             [Cover & Thomas 2006, thm. 10.3.3]
    """
    require_floating(eigenvalues, "eigenvalues")
    level = beta / 2
    return (eigenvalues / level).clamp(min=1).log().sum() / 2, eigenvalues.clamp(max=level).sum()


def latent_scale(latents: Tensor) -> Tensor:
    """One number, the standard deviation over all entries: divide latents by it before a flow learns them."""
    require_floating(latents, "latents")
    if not latents.numel():
        raise ValueError(f"a scale needs latents to be taken from, got none, of shape {tuple(latents.shape)}")
    return latents.std(correction=0)


def scaled_time(t, scale: float):
    """t′ = ts/(1 + t(s − 1)): the time at which data have the signal-to-noise ratio that s times the data have at t.

    t s z + (1 − t) ε = (1 + t(s − 1)) (t′ z + (1 − t′) ε): a scale of the data is a shift of time.
    """
    return t * scale / (1 + t * (scale - 1))


class VAE(nn.Module):
    """Convolutional autoencoder of images in [−1, 1] whose sides 8 divides: an eighth of each side, `latents` channels.

    encode(x) ↦ (mean, log_var), each (n, latents, H/8, W/8); decode(z) ↦ (n, channels, H, W); vae(x, noise) ↦ both and
    the decoded sample. width: channels of the first level, a multiple of 8.
    """

    def __init__(self, channels: int = 1, latents: int = 4, width: int = 16):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths, widths[1:]))
        self.norm = nn.GroupNorm(8, widths[-1])
        self.squeeze = nn.Conv2d(widths[-1], 2 * latents, 1)
        self.widen = nn.Conv2d(latents, widths[-1], 3, padding=1)
        back = [widths[3], widths[2], widths[1], channels]
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 3, padding=1) for a, b in zip(back, back[1:]))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z | x)."""
        if x.ndim != 4 or x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError(f"x must be images (n, channels, H, W) with sides that 8 divides, got {tuple(x.shape)}")
        for k, layer in enumerate(self.down):
            x = layer(silu(x) if k else x)
        mean, log_var = self.squeeze(silu(self.norm(x))).chunk(2, dim=1)
        return mean, log_var.clamp(-12, 6)

    def decode(self, z: Tensor) -> Tensor:
        """The image of latents."""
        x = self.widen(z)
        for layer in self.up:
            x = pixel_shuffle(layer(silu(x)), 2)
        return x.tanh()

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The decoded sample, and mean and log-variance of the latents. noise: standard normal, like the latents."""
        mean, log_var = self.encode(x)
        return self.decode(reparameterise(mean, log_var, noise)), mean, log_var


def collapsed(mean: Tensor, log_var: Tensor, nats: float = 0.05) -> Tensor:
    """Which latents have died: those whose KL, on average over the batch, is below `nats`. Returns (*shape), bool."""
    return _nats(mean, log_var).mean(0) < nats
