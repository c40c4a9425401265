"""Every public function follows the states to their device, tried on `meta`, which knows shapes, types and devices.

A tensor that a function makes on the CPU, and mixes with what it was given, fails there as it would on a GPU.
"""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fmlab
from fmlab import (
    autoencoders,
    conversions,
    ddpm,
    flow_maps,
    guidance,
    jumps,
    likelihood,
    losses,
    metrics,
    models,
    samplers,
    schedules,
    sentences,
    simulators,
    token_datasets,
    token_models,
    tokens,
    transformers,
    unmasking,
    values,
)
from fmlab.datasets import Checkerboard, Circles, Empirical
from fmlab.distributions import Gaussian, GaussianMixture, log_normal
from fmlab.paths import GaussianPath, GeneralGaussianPath, LinearPath
from fmlab.processes import (
    ODE,
    SDE,
    GeometricBrownianMotion,
    brownian_motion,
    forward_sde,
    langevin,
    ornstein_uhlenbeck,
    probability_flow,
    reverse_sde,
    sde_extension,
)
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.training import train

OF_NO_DEVICE = {  # what takes no tensors, or draws and trains nothing
    "datasets": {"mnist", "Digits", "Word", "Moons", "Labelled", "Empirical"},
    "natural": {"natural_form", "floored", "short"},
    "notebooks": {"home", "copy"},
    "pretrained": {"digits", "untrained_digits", "load", "save"},
    "marginals": {"Marginal"},
    "paths": {"Path"},
    "processes": {"at"},
    "samplers": {"time_grid"},
    "simulators": {"as_times"},
    "training": {"interrupts_held", "progress_bar", "Run"},
    "values": {
        "holds",
        "widest",
        "floating",
        "time",
        "require",
        "require_floating",
        "require_one_shape",
        "require_precise",
        "require_tensor",
        "tracked",
        "transformed",
        "transforming",
        "half",
        "differentiated",
        "in_single",
        "require_no_derivative",
    },
    "ddpm": {"vp_betas", "betas_of", "ElboTerms"},
    "losses": {"uniform", "null_label"},
    "glyphs": {"Glyphs"},
    "token_datasets": {
        "checkerboard",
        "sudoku",
        "sums",
        "sum_of",
        "written_sum",
        "ColourNames",
        "letters",
        "name_of",
        "hue",
    },
    "token_models": {"stratified", "hue_reader"},
    "token_laws": {  # all states, on the CPU
        "states",
        "law",
        "whole_matrix",
        "kolmogorov_residual",
        "law_in_steps",
        "exact_bound",
        "estimated_bound",
        "uniform_bound",
    },
}
BY_VALUES = {  # which have to look at numbers
    "jumps.simulate_chain",
    "metrics.energy_test",
    "metrics.diversity",
    "unmasking.Unmasking",
    "unmasking.sample_tokens",
}
FOR_EYES = {"extras", "plots", "stills", "threads"}  # which bring all to the CPU, or have no tensors; and all sliders


def field(x, t):
    return -x * (1 + t)


def v(x, s, t):
    return -x


class World:
    """Things on a device, in single precision."""

    def __init__(self, device: str):
        self.device = device
        self.x, self.noise, self.image = self.randn(6, 2), self.randn(6, 2), self.randn(4, 1, 8, 8)
        self.t, self.s = torch.linspace(0.2, 0.7, 6, device=device), torch.linspace(0.3, 0.9, 6, device=device)
        self.y = torch.tensor([0, 1, 2, 0, 1, 2], device=device)
        self.mixture = GaussianMixture(self.randn(3, 2), 0.5)
        self.path, self.schedule = GaussianPath(), CondOT()
        self.tokens, self.masks = TOKENS.to(device), torch.full((6, 2), 4, device=device)
        self.generator = torch.Generator(device) if device not in ("meta",) else None

    def randn(self, *shape):
        return torch.randn(*shape).to(self.device)

    def on(self, module):
        return module.to(self.device)

    def uniform(self, *shape):
        return values.precise(torch.rand(*shape).to(self.device))


TOKENS = torch.tensor([[0, 1], [2, 3], [1, 1], [3, 0], [2, 2], [0, 0]])
PATH = tokens.TokenPath(4)


def denoiser(x, t):
    return torch.full((*x.shape, 4), 0.25, device=x.device)


CALLS = {
    "autoencoders.reparameterise": lambda w: autoencoders.reparameterise(w.x, w.x, w.noise),
    "autoencoders.gaussian_kl": lambda w: autoencoders.gaussian_kl(w.x, w.noise),
    "autoencoders.vae_loss": lambda w: autoencoders.vae_loss(w.x, w.noise, w.x, w.noise, 0.1),
    "autoencoders.linear_rate": lambda w: autoencoders.linear_rate(w.t, 0.1),
    "autoencoders.latent_scale": lambda w: autoencoders.latent_scale(w.x),
    "autoencoders.scaled_time": lambda w: autoencoders.scaled_time(w.t, 2.0),
    "autoencoders.VAE": lambda w: w.on(autoencoders.VAE())(w.randn(2, 1, 16, 16), w.randn(2, 4, 2, 2)),
    "autoencoders.collapsed": lambda w: autoencoders.collapsed(w.x, w.noise),
    **{
        f"conversions.{name}": lambda w, name=name: getattr(conversions, name)(w.x, w.noise, w.t, w.schedule)
        for name in dir(conversions)
        if "_from_" in name
    },
    "conversions.convert": lambda w: conversions.convert(
        w.x, w.noise, 0.3, Cosine(), source="noise", target="vector_field"
    ),
    "conversions.x_mse_weight": lambda w: conversions.x_mse_weight("noise", w.t, w.schedule),
    "ddpm.Chain": lambda w: chain(w),
    "ddpm.gaussian_kl": lambda w: ddpm.gaussian_kl(w.x, 1.0, w.noise, 2.0),
    "distributions.GaussianMixture": lambda w: [w.mixture.log_prob(w.x), w.mixture.score(w.x)],
    "distributions.Gaussian": lambda w: Gaussian(w.randn(2), 0.7).score(w.x),
    "distributions.log_normal": lambda w: log_normal(w.x, w.noise, 2.0),
    "natural.NaturalForm": lambda w: w.mixture.score(values.precise(w.x)),
    "datasets.Checkerboard": lambda w: Checkerboard().log_prob(w.x),
    "datasets.Circles": lambda w: Circles().log_prob(w.x),
    "flow_maps.GaussianFlowMap": lambda w: flow_maps.GaussianFlowMap([1.0, 2.0], 0.5)(w.x, w.t, w.s),
    "flow_maps.LineFlowMap": lambda w: flow_maps.LineFlowMap(GaussianMixture(w.randn(3, 1), 0.5))(w.x[:, :1], 0.1, w.s),
    "flow_maps.map_of": lambda w: flow_maps.map_of(v)(w.x, w.t, w.s),
    "flow_maps.average_velocity": lambda w: flow_maps.average_velocity(v)(w.x, w.t, w.s),
    "flow_maps.semigroup_residual": lambda w: flow_maps.semigroup_residual(v, w.x, 0.1, 0.2, 0.3),
    "flow_maps.lagrangian_residual": lambda w: flow_maps.lagrangian_residual(v, row_field, w.x, 0.1, 0.3),
    "flow_maps.eulerian_residual": lambda w: flow_maps.eulerian_residual(v, row_field, w.x, 0.1, 0.3),
    "flow_maps.semigroup_target": lambda w: flow_maps.semigroup_target(v, None, w.x, 0.1, w.s),
    "flow_maps.lagrangian_target": lambda w: flow_maps.lagrangian_target(v, row_field, w.x, 0.1, w.s),
    "flow_maps.eulerian_target": lambda w: flow_maps.eulerian_target(v, row_field, w.x, 0.1, w.s),
    "flow_maps.consistency_target": lambda w: flow_maps.consistency_target(v, row_field, w.x, w.t, 0.1),
    "flow_maps.target_loss": lambda w: flow_maps.target_loss(v, w.noise, w.x, w.t, w.s),
    "flow_maps.FlowMap": lambda w: flow_maps.FlowMap().step(v, w.x, 0.1, 0.3),
    "flow_maps.Consistency": lambda w: flow_maps.Consistency().advance(v, w.x, 0.1, 0.3, w.generator),
    "flow_maps.sample_map": lambda w: flow_maps.sample_map(v, w.x, [0, 0.5, 1]),
    "flow_maps.sample_consistency": lambda w: flow_maps.sample_consistency(v, w.x, [0.0, 0.5], w.generator),
    "guidance.doubly_guided_vector_field": lambda w: guidance.doubly_guided_vector_field(
        lambda x, t, y, s: -x * torch.as_tensor(y + s, device=x.device).reshape(-1, 1), w.y, w.y, 2.0, 1.5, 4, 4
    )(w.x, w.t),
    "guidance.guided_vector_field": lambda w: guidance.guided_vector_field(
        lambda x, t, y: -x * torch.as_tensor(y, device=x.device).reshape(-1, 1), w.y, 2.0, null=3
    )(w.x, torch.tensor(0.3, device=w.device)),
    "guidance.batch_guidance": lambda w: guidance.batch_guidance(labelled_field, w.x, w.t, w.y, 2.0, 3),
    "guidance.guided_std": lambda w: guidance.guided_std(w.t, w.s, 2.0),
    "guidance.guidance_in_interval": lambda w: guidance.guidance_in_interval(
        labelled_field, w.y, 2.0, 0.3, 0.6, null=3
    )(w.x, w.t),
    "guidance.autoguided_field": lambda w: guidance.autoguided_field(field, row_field, 2.0)(w.x, 0.3),
    "guidance.negative_field": lambda w: guidance.negative_field(labelled_field, w.y, 1, 2.0)(w.x, w.t),
    "guidance.classifier_guided_field": lambda w: guidance.classifier_guided_field(
        row_field, lambda x, t: x.square().sum(1), 2.0
    )(w.x, w.t),
    "guidance.measurement_log_prob": lambda w: guidance.measurement_log_prob(
        w.x, torch.eye(2).to(w.x), torch.ones(1, 2).to(w.x), torch.ones(1).to(w.x), 0.5
    ),
    "guidance.inpaint": lambda w: guidance.inpaint(
        field, w.noise.new_tensor([0.3, -0.2]), w.noise.new_tensor([1.0, 0.0]) > 0, w.noise, 3
    ),
    "jumps.draw": lambda w: jumps.draw(w.uniform(6, 4), w.uniform(6)),
    "jumps.transition_matrix": lambda w: jumps.transition_matrix(RATES.to(w.device), 0.3),
    "jumps.simulate_chain": lambda w: jumps.simulate_chain(RATES.to(w.device), w.y, 0.3, w.generator),
    "likelihood.log_likelihood": lambda w: likelihood.log_likelihood(w.x, field, steps=3),
    "likelihood.divergence": lambda w: likelihood.divergence(field, w.x, 0.3),
    "likelihood.continuity_residual": lambda w: likelihood.continuity_residual(density, row_field, w.x, 0.3),
    "likelihood.fokker_planck_residual": lambda w: likelihood.fokker_planck_residual(
        density, row_field, row_field, 0.5, w.x, 0.3
    ),
    "likelihood.draw_probes": lambda w: likelihood.draw_probes(2, w.x, "gaussian", w.generator),
    "losses.flow_matching_loss": lambda w: losses.flow_matching_loss(row_field, w.path, w.x),
    "losses.score_matching_loss": lambda w: losses.score_matching_loss(row_field, w.path, w.x),
    "losses.ddpm_loss": lambda w: losses.ddpm_loss(row_field, w.path, w.x),
    "losses.guided_flow_matching_loss": lambda w: losses.guided_flow_matching_loss(
        lambda x, t, y: row_field(x, t), w.path, w.x, w.y, drop=0.5, null=3
    ),
    "losses.drop_labels": lambda w: losses.drop_labels(w.y, 0.5, 3, w.generator),
    "losses.marginal_flow_matching_loss": lambda w: losses.marginal_flow_matching_loss(
        row_field, w.path, w.x, w.mixture
    ),
    "losses.marginal_score_matching_loss": lambda w: losses.marginal_score_matching_loss(
        row_field, w.path, w.x, w.mixture
    ),
    "losses.reflow_loss": lambda w: losses.reflow_loss(lambda x: -x, w.x)(row_field, w.y, w.t),
    "losses.loss_over_log_snr": lambda w: losses.loss_over_log_snr(row_field, w.path, w.x, torch.sigmoid, -3.0, 3.0),
    "losses.effective_weight": lambda w: losses.effective_weight("noise", w.t, w.schedule),
    "metrics.energy_distance": lambda w: metrics.energy_distance(w.x, w.noise),
    "metrics.sliced_wasserstein": lambda w: metrics.sliced_wasserstein(w.x, w.noise, 8, w.generator),
    "metrics.distances": lambda w: metrics.distances(w.x, w.noise),
    "metrics.energy_test": lambda w: metrics.energy_test(w.x, w.noise, 9, w.generator),
    "metrics.strong_error": lambda w: metrics.strong_error(w.x, w.noise),
    "metrics.weak_error": lambda w: metrics.weak_error(w.x, w.noise),
    "metrics.path_curvature": lambda w: metrics.path_curvature(w.randn(5, 6, 2)),
    "metrics.convergence_order": lambda w: metrics.convergence_order(w.t, w.s),
    "metrics.fidelity": lambda w: metrics.fidelity(w.randn(6, 3), w.y),
    "metrics.diversity": lambda w: metrics.diversity(w.x, w.y),
    "metrics.nearest_neighbour_distance": lambda w: metrics.nearest_neighbour_distance(w.x, w.noise),
    "models.time_embedding": lambda w: models.time_embedding(w.t, 8),
    "models.Network": lambda w: w.on(models.MLP(2))(w.x, 0.3),
    "models.MLP": lambda w: w.on(models.MLP(2, labels=4))(w.x, w.t, w.y),
    "models.TwoTimeMLP": lambda w: w.on(models.TwoTimeMLP(2))(w.x, w.t, 0.8),
    "models.UNet": lambda w: w.on(models.UNet())(w.image, 0.3),
    "models.Residual": lambda w: w.on(models.UNet())(w.image, torch.tensor(0.3, device=w.device)),
    "paths.GaussianPath": lambda w: path_of(w, w.path),
    "paths.GeneralGaussianPath": lambda w: general(w),
    "paths.LinearPath": lambda w: [
        LinearPath().interpolate(w.x, w.noise, w.t),
        LinearPath().velocity(w.x, w.noise, w.t),
    ],
    "marginals.MixtureMarginal": lambda w: marginal(w, w.path.marginal(w.mixture)),
    "marginals.EmpiricalMarginal": lambda w: marginal(w, w.path.marginal(Empirical(w.randn(20, 2)))),
    "processes.SDE": lambda w: simulators.simulate(SDE(field, 0.3), w.x, [0.0, 0.5], generator=w.generator),
    "processes.ODE": lambda w: simulators.simulate(ODE(field), w.x, torch.tensor([0.0, 0.5])),
    "processes.LinearSDE": lambda w: ornstein_uhlenbeck(1.0, 0.5).moments(w.x, w.t[:, None]),
    "processes.brownian_motion": lambda w: simulators.simulate(brownian_motion(), w.x, [0, 1], generator=w.generator),
    "processes.ornstein_uhlenbeck": lambda w: simulators.simulate(
        ornstein_uhlenbeck(1.0, 0.5), w.x, [0, 1], generator=w.generator
    ),
    "processes.GeometricBrownianMotion": lambda w: GeometricBrownianMotion(0.1, 0.2).solution(w.x, 0.5, w.noise),
    "processes.langevin": lambda w: simulators.simulate(
        langevin(w.mixture.score), w.x, [0, 0.1], generator=w.generator
    ),
    "processes.sde_extension": lambda w: simulators.simulate(
        sde_extension(field, field, lambda t: 1 - t), w.x, [0, 0.1], generator=w.generator
    ),
    "processes.forward_sde": lambda w: simulators.simulate(
        forward_sde(LinearVP()), w.x, [0, 0.1], generator=w.generator
    ),
    "processes.reverse_sde": lambda w: simulators.simulate(
        reverse_sde(LinearVP(), field), w.x, [0.1, 0.2], generator=w.generator
    ),
    "processes.probability_flow": lambda w: simulators.simulate(probability_flow(LinearVP(), field), w.x, [0.1, 0.2]),
    "samplers.sample_flow": lambda w: samplers.sample_flow(field, w.x, 5),
    "samplers.sample_diffusion": lambda w: samplers.sample_diffusion(
        field, None, w.x, lambda t: 1 - t, torch.linspace(0.01, 1, 4), schedule=w.schedule, generator=w.generator
    ),
    "samplers.ddim": lambda w: samplers.ddim(field, w.x, LinearVP(), [0.1, 0.5, 1.0]),
    "samplers.ddpm": lambda w: samplers.ddpm(field, w.x, VE(), 4, generator=w.generator),
    "samplers.DDIM": lambda w: samplers.DDIM(Cosine()).step(field, w.x, 0.3, 0.4),
    "samplers.DDPM": lambda w: samplers.DDPM(Cosine()).step(field, w.x, 0.3, 0.4, w.noise),
    "samplers.renoise": lambda w: samplers.renoise(w.x, 0.5, 0.3, w.schedule, w.noise),
    "samplers.data_and_noise": lambda w: samplers.data_and_noise(w.x, w.noise, w.t, w.schedule, "score"),
    **{
        f"schedules.{type(s).__name__}": lambda w, s=s: [*s.weights(w.t, w.x), s.log_snr(w.t), s.log_snr_dot(w.t)]
        for s in (CondOT(), Cosine(), LinearVP(), VE())
    },
    "schedules.Schedule": lambda w: CondOT().time_at(CondOT().log_snr(w.t)),
    "schedules.DiffusionSchedule": lambda w: schedules.DiffusionSchedule(
        lambda s: 0 * s - 0.5, lambda s: 0 * s + 1
    ).alpha(w.t),
    "schedules.diffusion_coefficients": lambda w: schedules.diffusion_coefficients(LinearVP(), w.t),
    "schedules.to_variance_preserving": lambda w: schedules.to_variance_preserving(w.x, w.t, w.schedule),
    "values.time_like": lambda w: values.time_like(0.3, w.x),
    "values.coefficient": lambda w: values.coefficient(w.t, w.x),
    "sentences.Sentences": lambda w: sentences.Sentences(w.tokens, PATH).posterior(w.masks, 0.3),
    "sentences.masked_cross_entropy": lambda w: sentences.masked_cross_entropy(
        denoiser, PATH, w.tokens, values.precise(w.t), w.uniform(6, 2)
    ),
    "sentences.any_order_log_likelihood": lambda w: sentences.any_order_log_likelihood(
        denoiser, PATH, w.tokens, torch.tensor([1, 0])
    ),
    "sentences.guided_probs": lambda w: sentences.guided_probs(w.uniform(6, 4), w.uniform(6, 4), 2.0),
    **{
        f"simulators.{type(m).__name__}": lambda w, m=m: simulators.simulate(ODE(field), w.x, [0, 0.5, 1], m)
        for m in (simulators.Euler(), simulators.Heun(), simulators.Midpoint(), simulators.RK4())
    },
    "simulators.EulerMaruyama": lambda w: simulators.EulerMaruyama().step(SDE(field, 0.3), w.x, 0.1, 0.2, w.noise),
    "simulators.Method": lambda w: simulators.Method().noise_like(w.x, w.generator),
    "simulators.ODEMethod": lambda w: simulators.Euler().step(row_field, w.x, w.t, w.s),
    "simulators.simulate": lambda w: simulators.simulate(ODE(field), w.x, [0, 1], record=True),
    "simulators.like": lambda w: simulators.like(0.3, w.x),
    "simulators.span": lambda w: simulators.span(w.t, w.s, w.x),
    "token_datasets.is_sudoku": lambda w: token_datasets.is_sudoku(w.tokens.repeat(1, 8)),
    "token_datasets.is_sum": lambda w: token_datasets.is_sum(w.tokens.repeat(1, 4)[:, :7]),
    "token_datasets.halves": lambda w: token_datasets.halves(w.tokens),
    "token_models.TokenMLP": lambda w: w.on(token_models.TokenMLP(4, 2))(w.masks),
    "token_models.TokenConv": lambda w: w.on(token_models.TokenConv(4, 2, labels=3))(w.masks, None, w.y),
    "token_models.denoiser": lambda w: token_models.denoiser(w.on(token_models.TokenMLP(4, 2)))(w.masks),
    "tokens.PowerKappa": lambda w: tokens.PowerKappa(1.5).kappa_dot(w.t),
    "tokens.CosineKappa": lambda w: tokens.CosineKappa().kappa_dot(w.t),
    "tokens.TokenPath": lambda w: token_path(w),
    "tokens.uniform_like": lambda w: tokens.uniform_like(w.masks, w.generator),
    "training.train": lambda w: trained(w),
    "transformers.patchify": lambda w: transformers.patchify(w.image, 2),
    "transformers.unpatchify": lambda w: transformers.unpatchify(w.randn(4, 16, 4), 2, (1, 8, 8)),
    "transformers.attention": lambda w: transformers.attention(w.randn(2, 5, 4), w.randn(2, 5, 4), w.randn(2, 5, 4)),
    "transformers.position_embedding": lambda w: transformers.position_embedding(2, 3, 8).to(w.device),
    "transformers.self_attention": lambda w: transformers.self_attention(
        w.randn(2, 5, 8), w.on(torch.nn.Linear(8, 24)), w.on(torch.nn.Linear(8, 8)), 2
    ),
    "transformers.adaln_zero_block": lambda w: transformers.adaln_zero_block(
        w.randn(2, 5, 8), w.randn(2, 3), w.on(torch.nn.Linear(3, 48)), lambda x: x, lambda x: x
    ),
    "transformers.SelfAttention": lambda w: w.on(transformers.SelfAttention(8, 2))(w.randn(2, 5, 8)),
    "transformers.Block": lambda w: w.on(transformers.Block(8, 2))(w.randn(2, 5, 8), w.randn(2, 8)),
    "transformers.modulate": lambda w: transformers.modulate(w.randn(2, 5, 8), w.randn(2, 1, 8), w.randn(2, 1, 8)),
    "transformers.DiT": lambda w: w.on(transformers.DiT((1, 8, 8)))(w.image, 0.3),
    "values.squares": lambda w: values.squares(w.x),
    "values.precise": lambda w: values.precise(w.x),
    "values.normal_like": lambda w: values.normal_like(w.x, w.generator),
    "unmasking.Unmasking": lambda w: unmasking.Unmasking(PATH, 0.5).advance(denoiser, w.masks, 0.1, 0.3, w.generator),
    "unmasking.sample_tokens": lambda w: unmasking.sample_tokens(denoiser, PATH, w.masks, 4, generator=w.generator),
}
RATES = torch.tensor([[-1.0, 0.6, 0.4], [0.5, -0.9, 0.4], [0.1, 0.2, -0.3]])


def row_field(x, t):
    return -x * (1 + values.coefficient(torch.as_tensor(t), x))


def labelled_field(x, t, y):
    return -x * torch.as_tensor(y, device=x.device).reshape(-1, 1)


def density(x, t):
    return torch.exp(-x.square().sum(1) / 2) * (1 + t)


def chain(w):
    steps = ddpm.Chain(ddpm.vp_betas(LinearVP(), 40))
    return [
        steps.step(w.x, 3, w.noise),
        steps.step_kl(w.x, w.noise, w.noise, 3),
        steps.elbo_terms(w.x, field).elbo,
        steps.ancestral_sample(field, w.x),
    ]


def path_of(w, path):
    z, t = w.x, w.t
    return [
        path.interpolate(z, w.noise, t), path.velocity(z, w.noise, t), path.sample(z, t), path.log_prob(w.noise, z, t),
        path.vector_field(w.noise, z, t), path.score(w.noise, z, t),
    ]  # fmt: skip


def general(w):
    path = GeneralGaussianPath(lambda z, t: t * z, lambda z, t: 1.1 - t)
    return path.interpolate(w.x, w.noise, w.t)


def marginal(w, exact):
    return [
        exact.log_prob(w.x, w.t),
        exact.score(w.x, 0.3),
        exact.vector_field(w.x, w.t),
        exact.posterior_mean(w.x, 0.3),
    ]


def token_path(w):
    probs, t = denoiser(w.masks, None), values.precise(w.t)
    return [
        PATH.noise_like(w.tokens, w.generator), PATH.sample(w.tokens, t, w.generator), PATH.prob(w.masks, w.tokens, t),
        PATH.conditional_rate(w.masks, w.tokens, t), PATH.marginal_rate(probs, w.masks, t),
        PATH.corrector_rate(probs, w.masks, t),
    ]  # fmt: skip


def trained(w):
    network = w.on(models.MLP(2))
    train(network, lambda model: losses.flow_matching_loss(model, w.path, w.x), steps=2)
    return next(network.parameters())


def public() -> list[str]:
    """All public functions and classes of the library that may take tensors."""
    found = []
    for module in (info.name for info in pkgutil.iter_modules(fmlab.__path__)):
        if module in FOR_EYES | {"__main__", "checks", "exercises"} or module.endswith("widgets"):
            continue
        imported = importlib.import_module(f"fmlab.{module}")
        for name, thing in vars(imported).items():
            own = getattr(thing, "__module__", "") == imported.__name__ and not name.startswith("_")
            if own and (inspect.isfunction(thing) or inspect.isclass(thing)):
                found += [f"{module}.{name}"] if name not in OF_NO_DEVICE.get(module, ()) else []
    return sorted(found)


def test_every_public_function_is_tried():
    assert sorted(CALLS) == public()


def tensors(value) -> list[torch.Tensor]:
    if isinstance(value, (list, tuple)):
        return [each for part in value for each in tensors(part)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize("name", sorted(CALLS.keys() - BY_VALUES))
def test_on_meta_all_that_comes_back_is_there(name):
    found = tensors(CALLS[name](World("meta")))
    assert found and all(each.is_meta for each in found)
    expected = tensors(CALLS[name](World("cpu")))
    assert [(each.shape, each.dtype) for each in found] == [(each.shape, each.dtype) for each in expected]


class NoDouble(TorchDispatchMode):
    """Refuses double precision on meta, as some devices do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in tensors(result):
            assert not (each.is_meta and each.dtype in (torch.float64, torch.complex128)), function
        return result


@pytest.mark.parametrize("name", sorted(CALLS.keys() - BY_VALUES))
def test_a_device_may_have_no_double_precision(name, monkeypatch):
    monkeypatch.setattr(values, "WITHOUT_DOUBLE", {"meta"})
    with NoDouble():
        assert tensors(CALLS[name](World("meta")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", CALLS)
def test_on_a_gpu_as_well(name):
    assert all(each.is_cuda for each in tensors(CALLS[name](World("cuda"))))
