"""Flow matching in a latent space: what the space cannot say is one error, what the flow gets wrong another."""

import torch

from fmlab.datasets import Digits, Empirical
from fmlab.paths import GaussianPath
from fmlab.samplers import sample_flow
from tests.cases import rng


def test_decoded_samples_of_the_exact_flow_lie_on_the_floor_of_the_latents():
    """The best k linear latents lose Σ_{i>k} λ_i of each image on average; a flow that is exact adds nothing to it."""
    k = 16
    x = Digits().z.flatten(1).double()
    mean = x.mean(0)
    eigenvalues, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    floor, basis = float(eigenvalues[:-k].sum()), axes[:, -k:]
    latents = (x - mean) @ basis
    lost = (latents @ basis.T + mean - x).square().sum(1)
    assert abs(float(lost.mean()) - floor) < 1e-10

    field = GaussianPath().marginal(Empirical(latents)).vector_field
    x0 = torch.randn(300, k, dtype=torch.float64, generator=rng(0))
    found = sample_flow(field, x0, steps=torch.linspace(0, 0.999, 200).tolist())
    nearest = torch.cdist(found, latents).min(1)
    assert float(nearest.values.square().mean()) < 0.01 * floor  # the flow ends at latents of the data
    decoded = found @ basis.T + mean
    error = (decoded - x[nearest.indices]).square().sum(1).mean()
    assert abs(float(error) - floor) < 5 * float(lost.std()) / 300**0.5
