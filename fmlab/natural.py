"""The natural form of a Gaussian mixture: sums over its components as matrix products.

With log weights ℓ_k(x) of the components and r = softmax(ℓ), densities are log Σ_k exp ℓ_k, and scores, fields and
means are Σ_k r_k times something affine in x. `NaturalForm` expands the squares in ℓ_k, and is several times faster
than whitening each component; `natural_form` says where that costs no digits.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fmlab.values import holds

BLOCK = 2**16  # numbers in the largest table of a block of points, which caches hold and the allocator keeps
FLOOR = 60.0  # how far below the largest ℓ_k others count: e⁻⁶⁰ is lost in any sum, and not yet small enough to be slow
LOST = 256.0  # the largest loss of precision that expanding a square may cost, per root of the dimension


class NaturalForm:
    """A mixture by its natural parameters: ℓ_k is linear in the features z and z zᵀ of z = x − c.

        ℓ_k = c_k + b_kᵀ z − ½ zᵀ P_k z,   P_k = W_kᵀ W_k,   b_k = W_kᵀ s_k,   c_k = log_scale_k − ½ ‖s_k‖²

    So all components are one matrix product, and so is Σ_k r_k (B_k y_k + o_k): it averages affine maps of z, and
    applies the one that is left. Points are taken in blocks that stay in cache.

    whiten: W_k with W_k C_k W_kᵀ = I, (K, d, d). shift: s_k = W_k (m_k − c), (K, d, 1). log_scale: (K, 1).
    centre: c, (d, 1), `short`, so that z has no digits of its own to lose. All in the best precision of their device.
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
            value, *columns = (affine @ log_joint.softmax(0)).view(1 + len(z), *z.shape)
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


def short(value: Tensor) -> Tensor:
    """The value rounded to single precision, from which a state in single precision differs by a rounding at most."""
    rounded = value.float().to(value.dtype)
    return torch.where(rounded.isfinite(), rounded, value)


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
    sharp = not holds(shift.square().sum(1) <= LOST * d**0.5, unseen=False)
    return None if sharp or k < d else NaturalForm(whiten, shift, log_scale, centre)
