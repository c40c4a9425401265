"""What exact densities, scores and fields cost, in units of fmlab's."""

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.nn.functional import one_hot, scaled_dot_product_attention

from benchmarks.measure import Rows, at_least, at_most, targets
from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.sentences import Sentences
from fmlab.token_datasets import sums
from fmlab.tokens import TokenPath

T = 0.6  # the time of every field here; with CondOT, x = 0.6 z + 0.4 ε
MIXTURE_TARGETS = targets(at_least("autograd", 4, "fmlab"), at_least("vmap(jacrev)", 20, "fmlab"))
DATA_TARGETS = targets(at_most("fmlab", 1.2, "chunked products"), at_most("fmlab", 1.2, "attention"))


@MIXTURE_TARGETS
def mixture_8(quick: bool) -> Rows:
    """log p, score and field of the exact marginal of 8 Gaussians in the plane, at 100 000 points"""
    return _mixture(8, quick)


@MIXTURE_TARGETS
def mixture_40(quick: bool) -> Rows:
    """log p, score and field of the exact marginal of 40 Gaussians in the plane, at 100 000 points"""
    return _mixture(40, quick)


@DATA_TARGETS
def data_set_2(quick: bool) -> Rows:
    """Marginal field of 10 000 data points in the plane, at 2000 points"""
    return _data_set(2, quick)


@DATA_TARGETS
def data_set_64(quick: bool) -> Rows:
    """Marginal field of 10 000 data points in 64 dimensions, at 2000 points"""
    return _data_set(64, quick)


@targets(
    at_most("fmlab, masks", 1.2, "chunked products"),
    at_most("fmlab, uniform noise", 1.7, "chunked products"),
    at_most("fmlab, masks", 0.9, "products at once"),
)
def table(quick: bool) -> Rows:
    """Exact posterior of a table of 10 000 sums, of 4096 of them with noise"""
    z, n = sums(), 400 if quick else 4096
    vectors = one_hot(z, 10).flatten(1).float()

    def noisy(path: TokenPath) -> Tensor:
        return path.sample(z[:: len(z) // n][:n], T, torch.Generator().manual_seed(0))

    def exact(path: TokenPath):
        x, sentences = noisy(path), Sentences(z, path)
        return lambda: sentences.posterior(x, T)

    masked = noisy(TokenPath(10))
    queries = one_hot(masked, 11)[..., :10].flatten(1).float()

    def token_by_token():
        parts = masked.split(50)
        fit = [((x[:, None] == z) | (x[:, None] == 10)).all(-1).float() for x in parts]
        return torch.cat([one @ vectors / one.sum(1, keepdim=True) for one in fit]).reshape(*masked.shape, 10)

    return {
        "chunked products": lambda: torch.cat([chunk @ vectors.T @ vectors for chunk in queries.split(50)]),
        "fmlab, masks": exact(TokenPath(10)),
        "fmlab, uniform noise": exact(TokenPath(10, masked=False)),
        "products at once": lambda: queries @ vectors.T @ vectors,
        "compared token by token": token_by_token,
    }


def random_mixture(k: int, d: int = 2) -> GaussianMixture:
    """k correlated components, whose means spread like a standard normal times 2."""
    generator = torch.Generator().manual_seed(k)
    factors = 0.5 * torch.randn(k, d, d, generator=generator)
    return GaussianMixture(2 * torch.randn(k, d, generator=generator), factors @ factors.mT + 0.1 * torch.eye(d))


def pointwise_score(weights: Tensor, means: Tensor, covs: Tensor):
    """The score of a mixture by vmap(jacrev) of its log density at one point, as course material often writes it."""

    def log_prob(x: Tensor) -> Tensor:  # x: (d,)
        return (weights.log() + MultivariateNormal(means, covs, validate_args=False).log_prob(x)).logsumexp(0)

    return torch.func.vmap(torch.func.jacrev(log_prob), chunk_size=10_000)


def _mixture(k: int, quick: bool) -> Rows:
    p_data = random_mixture(k)
    marginal = GaussianPath().marginal(p_data)
    x = marginal.sample(10_000 if quick else 100_000, T, torch.Generator().manual_seed(0))
    covs = T**2 * p_data.covs + (1 - T) ** 2 * torch.eye(2)
    at_t = MixtureSameFamily(Categorical(p_data.weights), MultivariateNormal(T * p_data.means, covs))

    def autograd(x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(at_t.log_prob(leaf).sum(), leaf)[0]

    jacobian = pointwise_score(p_data.weights, T * p_data.means, covs)

    def peer(score):
        """Each of the three on its own, as samplers ask for them; the field of CondOT is (x + (1 − t) s)/t."""
        return lambda: (at_t.log_prob(x), score(x), (x + (1 - T) * score(x)) / T)

    return {
        "fmlab": lambda: (marginal.log_prob(x, T), marginal.score(x, T), marginal.vector_field(x, T)),
        "autograd": peer(autograd),
        "vmap(jacrev)": peer(jacobian),
    }


def _data_set(d: int, quick: bool) -> Rows:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10_000, d, generator=generator)
    n = 200 if quick else 2000
    x = T * z[:n] + (1 - T) * torch.randn(n, d, generator=generator)
    marginal = GaussianPath().marginal(Empirical(z))
    bias = -((T / (1 - T)) ** 2) / 2 * z.square().sum(1)

    def field(mean: Tensor) -> Tensor:
        return mean + (T * mean - x) / (1 - T)

    def products():
        chunks = (T / (1 - T) ** 2 * x).split(50)
        return field(torch.cat([torch.addmm(bias, chunk, z.mT).softmax(1) @ z for chunk in chunks]))

    def attention():
        queries = T / (1 - T) ** 2 * x[None, None]
        return field(
            scaled_dot_product_attention(queries, z[None, None], z[None, None], bias[None, None, None], scale=1.0)[0, 0]
        )

    def by_autograd():
        leaf = x.clone().requires_grad_()
        log_prob = (torch.addmm(bias, T / (1 - T) ** 2 * leaf, z.mT)).logsumexp(1) - (leaf / (1 - T)).square().sum(
            1
        ) / 2
        return (x + (1 - T) * torch.autograd.grad(log_prob.sum(), leaf)[0]) / T

    return {
        "fmlab": lambda: marginal.vector_field(x, T),
        "chunked products": products,
        "attention": attention,
        "autograd": by_autograd,
    }
