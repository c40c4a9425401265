"""Agreement with independent libraries, where they implement the same thing. Each test needs only its own library."""

import numpy as np
import pytest
import torch

from fmlab.conversions import convert
from fmlab.ddpm import Chain, betas_of
from fmlab.distributions import Gaussian, GaussianMixture
from fmlab.likelihood import log_likelihood
from fmlab.paths import GaussianPath, LinearPath
from fmlab.processes import sde_extension
from fmlab.samplers import DDIM, ddim, ddpm, sample_flow
from fmlab.schedules import CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, Euler, EulerMaruyama, Midpoint
from tests.cases import normal, rng, uniform

MIXTURE = GaussianMixture(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]).double(), torch.tensor([0.1, 0.3]).double())
PACKAGES = {"ot": "pot"}  # of modules that have another name


def library(name):
    return pytest.importorskip(
        name, reason=f"no {name}, an oracle of the tests alone: pip install --no-deps {PACKAGES.get(name, name)}"
    )


def field(schedule):
    return GaussianPath(schedule).marginal(MIXTURE).vector_field


def noise_model(schedule):
    def predict(x, t):
        return convert(field(schedule)(x, t), x, t, schedule, source="vector_field", target="noise")

    return predict


# --- flow_matching: paths, conversions, solver, likelihood -------------------------------------------------------

FACEBOOK = {
    "CondOTScheduler": (CondOT(), {}),
    "CosineScheduler": (Cosine(), {}),
    "VPScheduler": (LinearVP(0.1, 20.0), {"beta_min": 0.1, "beta_max": 20.0}),
}


@pytest.fixture(params=FACEBOOK)
def facebook(request):
    """Their affine path and our schedule."""
    library("flow_matching")
    from flow_matching import path

    schedule, settings = FACEBOOK[request.param]
    return path.AffineProbPath(scheduler=getattr(path.scheduler, request.param)(**settings)), schedule


def test_flow_matching_draws_the_same_path(facebook):
    path, schedule = facebook
    z, noise, t = normal(50, 2, seed=0), normal(50, 2, seed=1), uniform(50, 0.01, 0.99, 2)
    theirs = path.sample(x_0=noise, x_1=z, t=t)
    ours = GaussianPath(schedule)
    torch.testing.assert_close(ours.interpolate(z, noise, t), theirs.x_t)
    torch.testing.assert_close(ours.velocity(z, noise, t), theirs.dx_t)
    torch.testing.assert_close(ours.vector_field(theirs.x_t, z, t), theirs.dx_t, rtol=1e-6, atol=1e-6)


def test_flow_matching_converts_alike(facebook):
    path, schedule = facebook
    value, x, t = normal(50, 2, seed=0), normal(50, 2, seed=1), uniform(50, 0.05, 0.95, 2)[:, None]
    for source, target, theirs in [
        ("vector_field", "noise", path.velocity_to_epsilon),
        ("vector_field", "data", path.velocity_to_target),
        ("noise", "vector_field", path.epsilon_to_velocity),
        ("noise", "data", path.epsilon_to_target),
        ("data", "vector_field", path.target_to_velocity),
        ("data", "noise", path.target_to_epsilon),
    ]:
        ours = convert(value, x, t[:, 0], schedule, source=source, target=target)
        torch.testing.assert_close(ours, theirs(value, x, t), rtol=1e-9, atol=1e-9, msg=f"{source} to {target}")


def test_flow_matching_solves_the_same_ode():
    library("flow_matching")
    from flow_matching.solver import ODESolver

    x0, u = normal(50, 2, seed=0), field(CondOT())
    solver = ODESolver(velocity_model=lambda x, t: u(x, t))
    for name, method in (("euler", Euler()), ("midpoint", Midpoint())):
        theirs = solver.sample(x_init=x0, step_size=0.0625, method=name, time_grid=torch.tensor([0.0, 1.0]).double())
        torch.testing.assert_close(sample_flow(u, x0, 16, method), theirs)


def test_flow_matching_finds_the_same_likelihood():
    library("flow_matching")
    from flow_matching.solver import ODESolver

    x, u, p_init = MIXTURE.sample(20, rng(0)), field(CondOT()), Gaussian(torch.zeros(2).double(), 1.0)
    solver = ODESolver(velocity_model=lambda x, t: u(x, t))
    _, theirs = solver.compute_likelihood(
        x_1=x,
        log_p0=p_init.log_prob,
        step_size=0.0625,
        method="midpoint",
        time_grid=torch.tensor([1.0, 0.0]).double(),
        exact_divergence=True,
    )
    torch.testing.assert_close(log_likelihood(x, u, p_init, steps=16), theirs.detach())


# --- torchcfm: conditional flows ---------------------------------------------------------------------------------


@pytest.fixture
def torchcfm():
    library("ot")
    return library("torchcfm").conditional_flow_matching


def test_torchcfm_draws_the_same_conditional_flows(torchcfm):
    x0, z, t = normal(50, 2, seed=0), normal(50, 2, seed=1), uniform(50, 0.01, 0.99, 2)

    _, x, u = torchcfm.ConditionalFlowMatcher(sigma=0.0).sample_location_and_conditional_flow(x0, z, t=t)
    for path in (GaussianPath(CondOT()), LinearPath()):
        torch.testing.assert_close(path.interpolate(z, x0, t), x)
        torch.testing.assert_close(path.velocity(z, x0, t), u)

    variance_preserving = torchcfm.VariancePreservingConditionalFlowMatcher(sigma=0.0)
    _, x, u = variance_preserving.sample_location_and_conditional_flow(x0, z, t=t)
    torch.testing.assert_close(GaussianPath(Cosine()).interpolate(z, x0, t), x)
    torch.testing.assert_close(GaussianPath(Cosine()).velocity(z, x0, t), u)


def test_torchcfm_has_the_same_sigma_min(torchcfm):
    x0, z, t = normal(50, 2, seed=0), normal(50, 2, seed=1), uniform(50, 0.01, 0.99, 2)
    matcher, path = torchcfm.TargetConditionalFlowMatcher(sigma=0.1), GaussianPath(CondOT(sigma_min=0.1))
    _, x, u, noise = matcher.sample_location_and_conditional_flow(x0, z, t=t, return_noise=True)
    torch.testing.assert_close(path.interpolate(z, noise, t), x)
    torch.testing.assert_close(path.vector_field(x, z, t), u)


# --- torchdiffeq and torchsde: solvers ---------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [CondOT(), Cosine()], ids=repr)
def test_torchdiffeq_ends_at_the_same_point(schedule):
    x0, u = normal(20, 2, seed=0), field(schedule)
    ts = torch.tensor([0.0, 1.0]).double()
    theirs = library("torchdiffeq").odeint(lambda t, x: u(x, t.clamp(0, 1)), x0, ts, rtol=1e-8, atol=1e-8)[-1]
    torch.testing.assert_close(sample_flow(u, x0, 200, RK4()), theirs, rtol=1e-5, atol=1e-5)


def test_torchsde_takes_the_same_euler_maruyama_steps():
    torchsde = library("torchsde")
    marginal, x0, n = GaussianPath(CondOT()).marginal(MIXTURE), normal(20, 2, seed=0), 16
    process = sde_extension(marginal.vector_field, marginal.score, lambda t: 0.5 + t)

    class Theirs(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, x):
            return process.drift(x, t)

        def g(self, t, x):
            return torch.ones_like(x) * process.diffusion(x, t)

    ts = torch.linspace(0, 1 - 1 / n, n).double()
    brownian = torchsde.BrownianInterval(0.0, 1.0, size=x0.shape, dtype=x0.dtype, entropy=0)
    theirs = torchsde.sdeint(Theirs(), x0, ts, bm=brownian, method="euler", dt=1 / n)[-1]
    x = x0
    for t, s in zip(ts, ts[1:]):
        x = EulerMaruyama().step(process, x, t, s, brownian(t, s) / (s - t).sqrt())
    torch.testing.assert_close(x, theirs)


# --- diffusers: DDIM, DDPM and flow matching ---------------------------------------------------------------------


def in_double(scheduler, chain):
    """Their scheduler with its tables in double precision, so that only formulas can differ."""
    scheduler.betas, scheduler.alphas = chain.betas[1:], chain.alphas[1:]
    scheduler.alphas_cumprod = chain.alpha_bars[1:]
    scheduler.final_alpha_cumprod = scheduler.one = torch.tensor(1.0).double()
    scheduler.set_timesteps(chain.n_steps)
    return scheduler


def settings(chain):
    return dict(num_train_timesteps=chain.n_steps, trained_betas=chain.betas[1:].numpy(), clip_sample=False)


def test_diffusers_takes_the_same_ddim_steps():
    schedule, model, x = LinearVP(), noise_model(LinearVP()), normal(50, 2, seed=0)
    chain = Chain(betas_of(schedule, 25))
    scheduler = in_double(library("diffusers").DDIMScheduler(**settings(chain)), chain)
    theirs = [x]
    for k, index in zip(range(25, 0, -1), scheduler.timesteps):
        predicted = model(theirs[-1], chain.time(k))
        theirs.append(scheduler.step(predicted, int(index), theirs[-1]).prev_sample)
    torch.testing.assert_close(ddim(model, x, schedule, 25, record=True), torch.stack(theirs), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variance, theirs", [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_diffusers_takes_the_same_ddpm_steps(variance, theirs):
    schedule, model = LinearVP(), noise_model(LinearVP())
    chain = Chain(betas_of(schedule, 25))
    scheduler = in_double(library("diffusers").DDPMScheduler(**settings(chain), variance_type=theirs), chain)
    x, generator = normal(50, 2, seed=0), rng(1)
    states = [x]
    for k, index in zip(range(25, 0, -1), scheduler.timesteps):
        predicted = model(states[-1], chain.time(k))
        states.append(scheduler.step(predicted, int(index), states[-1], generator=generator).prev_sample)
    ours = chain.ancestral_sample(model, x, variance, record=True, generator=rng(1))
    torch.testing.assert_close(ours, torch.stack(states), rtol=1e-8, atol=1e-8)
    if variance == "posterior":
        by_sampler = ddpm(model, x, schedule, 25, record=True, generator=rng(1))
        torch.testing.assert_close(by_sampler, torch.stack(states), rtol=1e-8, atol=1e-8)


def test_diffusers_takes_the_same_flow_matching_steps():
    """Their noise level is 1 − t, their velocity −u, their state in single precision."""
    x, u, n = normal(50, 2, seed=0), field(CondOT()), 20
    scheduler = library("diffusers").FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / n, n))
    theirs = x
    for k, index in enumerate(scheduler.timesteps):
        theirs = scheduler.step(-u(theirs, k / n), index, theirs).prev_sample
    torch.testing.assert_close(sample_flow(u, x, n, Euler()), theirs, rtol=1e-4, atol=1e-4)
    step = DDIM(CondOT(), "vector_field").step(u, x, 0.0, 1 / n)
    torch.testing.assert_close(step, x + u(x, 0.0) / n)
