"""Wrong answers to lab 3, beside the mistakes on its cards and the mutants of the solutions.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch
from torch.nn.utils import clip_grad_norm_

from fmlab.schedules import coefficient


def mean_squares(error):
    return error.flatten(1).square().sum(1).mean()


def half_of_the_gradient(error):
    return (error.detach() * error).flatten(1).sum(1).mean()


def loss_with(reduce=mean_squares, time=lambda t, z: t, noise=lambda e: e, u=lambda u: u):
    """conditional_flow_matching_loss, or the marginal one if a field is given, with one part exchanged."""

    def loss(model, z, t, e, schedule, field=None):
        (a, b, da, db), e = schedule.weights(t, z), noise(e)
        x = a * z + b * e
        return reduce(u(model)(x, time(t, z)) - (field(x, t) if field else da * z + db * e))

    return loss


def batch_with(
    reduce=mean_squares, data=lambda draw, n: draw(n), time=torch.rand, noise=torch.randn_like, u=lambda u: u
):
    """batch_loss with one part exchanged."""

    def batch_loss(model, sample_data, n, schedule):
        z = data(sample_data, n)
        t, e = time(n), noise(z)
        a, b, da, db = schedule.weights(t, z)
        return reduce(u(model)(a * z + b * e, t) - (da * z + db * e))

    return batch_loss


def noise_kept():
    kept = {}
    return batch_with(noise=lambda z: kept.setdefault(z.shape, torch.randn_like(z)))


def data_kept():
    kept = {}
    return batch_with(data=lambda draw, n: kept[n] if n in kept else kept.setdefault(n, draw(n)))


def one_point(u, sample_data, n, schedule):
    z, t = sample_data(1), torch.rand(n)
    z = z.expand(n, *z.shape[1:])
    return loss_with()(u, z, t, torch.randn_like(z), schedule)


def target_of_other_data(u, sample_data, n, schedule):
    z, t = sample_data(n), torch.rand(n)
    (a, b, da, db), e = schedule.weights(t, z), torch.randn_like(z)
    return mean_squares(u(a * z + b * e, t) - (da * sample_data(n) + db * e))


def target_of_other_noise(u, sample_data, n, schedule):
    z, t = sample_data(n), torch.rand(n)
    a, b, da, db = schedule.weights(t, z)
    return mean_squares(u(a * z + b * torch.randn_like(z), t) - (da * z + db * torch.randn_like(z)))


def optimum(shape=coefficient, guard=0.0):
    def optimal_vector_field(x, t, mean, std):
        t = shape(torch.as_tensor(t, dtype=x.dtype), x)
        return mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2 + guard) * (x - t * mean)

    return optimal_vector_field


def step(before=lambda model: None, value=lambda value: value.item(), down=torch.Tensor.backward):
    """A right training step but for one part."""

    def train_step(model, loss, optimizer):
        optimizer.zero_grad()
        found = loss(model)
        down(found)
        before(model)
        optimizer.step()
        return value(found)

    return train_step


def euler(u, x0, ts, end=lambda states: states[-1]):
    states = [x0]
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        states.append(states[-1] + h * u(states[-1], t))
    return end(states)


def asking(ask):
    """Euler's method with another question to the field: ask(u, x, t)."""
    return torch.no_grad()(lambda u, x0, ts: euler(lambda x, t: ask(u, x, t), x0, ts))


@torch.no_grad()
def own_clock(u, x0, ts):
    """Right for even steps."""
    x, t, h = x0, ts[0], ts[1] - ts[0]
    while (ts[-1] - t) * h.sign() > 1e-6:
        x, t = x + h * u(x, t), t + h
    return x


def likelihood_with(end=lambda log_p, x: log_p.sum(1), times=lambda ts: ts):
    """log_likelihood with one part exchanged. end: what is made of log p, coordinate by coordinate, and X_0."""

    def log_likelihood(u, divergence, x, ts):
        ts, integral = times(ts), 0.0
        for t, h in zip(ts[1:].flip(0), ts.diff().flip(0), strict=True):
            integral, x = integral + h * divergence(x, t), x - h * u(x, t)
        log_p0 = -(x.flatten(1) ** 2) / 2 - math.log(2 * math.pi) / 2
        return end(log_p0 - integral[:, None] / log_p0.shape[1], x)

    return log_likelihood


def line(x0, x1, t, shape=coefficient):
    t = shape(torch.as_tensor(t, dtype=x0.dtype), x0)
    return (1 - t) * x0 + t * x1, x1 - x0


def reflow_with(ends=lambda sample, x0: sample(x0).detach(), time=lambda t, x: t, starts=lambda x0, k: x0[k]):
    """reflow with one part exchanged."""

    def reflow(sample, x0):
        x1 = ends(sample, x0)

        def loss(u, k, t):
            a, b = starts(x0, k), x1[k]
            x, velocity = line(a, b, t)
            return mean_squares(u(x, time(t, a)) - velocity)

        return loss

    return reflow


def late_reflow(sample, x0):
    return lambda *batch: reflow_with()(sample, x0)(*batch)


def shared_memory():
    memory = {}

    def reflow(sample, x0):
        memory["loss"] = reflow_with()(sample, x0)
        return lambda *batch: memory["loss"](*batch)

    return reflow


OWN = "draws random numbers of its own, or sets a seed"
CUT = "no gradient reaches the network"
WRONG = {
    "conditional_flow_matching_loss": {
        "times in the shape of weights": (loss_with(time=coefficient), "hand t on as it came"),
        "a list of one": (loss_with(lambda error: mean_squares(error)[None]), "should be a scalar tensor"),
        "a number": (loss_with(lambda error: mean_squares(error).item()), CUT),
        "no_grad": (torch.no_grad()(loss_with()), CUT),
        "noise of its own": (loss_with(noise=torch.randn_like), OWN),
        "times of its own": (loss_with(time=lambda t, z: torch.rand(len(z))), OWN),
        "half of the gradient": (loss_with(half_of_the_gradient), "the gradient of the loss"),
        "in place": (loss_with(noise=lambda e: e.mul_(2)), "changed a tensor"),
        "single precision": (loss_with(u=lambda u: lambda x, t: u(x.float(), t)), "should have the dtype"),
        "no network": (lambda u, z, t, e, s: z.mean(), "never called"),
    },
    "batch_loss": {
        "one time for all": (batch_with(time=lambda n: torch.rand(1).expand(n)), "one time was drawn for the whole"),
        "one number as time": (batch_with(time=lambda n: torch.rand(()).item()), "one time was drawn for the whole"),
        "normal times": (batch_with(time=torch.randn), "times must be in [0, 1]"),
        "even times": (batch_with(time=lambda n: torch.linspace(0, 1, n)), "two calls drew the same times"),
        "times in a column": (batch_with(time=lambda n: torch.rand(n, 1)), "hand t on as it came"),
        "noise reused": (noise_kept(), "two calls drew the same noise"),
        "one noise for all": (batch_with(noise=lambda z: torch.randn_like(z[:1]).expand_as(z)), "one noise was drawn"),
        "the noise is data": (batch_with(noise=lambda z: z.roll(1, 0)), "the noise"),
        "a seed inside": (batch_with(data=lambda draw, n: (torch.manual_seed(0), draw(n))[1]), "two calls drew"),
        "no data": (batch_with(data=lambda draw, n: torch.randn(n, 2)), "sample_data was never called"),
        "data kept": (data_kept(), "sample_data was never called"),
        "one point": (batch_with(data=lambda draw, n: draw(1).expand(n, *draw(1).shape[1:])), "data points were drawn"),
        "one point for all": (one_point, "one data point was drawn"),
        "another n": (lambda u, draw, n, schedule: batch_with()(u, draw, 64, schedule), "data points were drawn"),
        "data drawn twice": (target_of_other_data, "data points were drawn"),
        "noise drawn twice": (target_of_other_noise, "pairs are mixed up: the target has the noise of another point"),
        "the network asked twice": (batch_with(u=lambda u: lambda x, t: (u(x, t) + u(x, t)) / 2), "was asked about"),
        "no network": (lambda u, sample_data, n, schedule: sample_data(n).mean(), "never called"),
        "a number": (batch_with(lambda error: mean_squares(error).item()), "should be a scalar tensor"),
        "a list of losses": (batch_with(lambda error: error.flatten(1).square().sum(1)), "should be a scalar tensor"),
        "no gradient": (batch_with(u=lambda u: lambda x, t: u(x, t).detach()), CUT),
        "no_grad": (torch.no_grad()(batch_with(data=lambda draw, n: draw(n))), CUT),
        "not squared": (batch_with(lambda error: error.flatten(1).norm(dim=1).mean()), "the norm was not squared"),
        "half of the gradient": (batch_with(half_of_the_gradient), "the factor of the squared errors"),
        "clipped errors": (batch_with(lambda error: mean_squares(error.clamp(-1, 1))), ""),
    },
    "optimal_vector_field": {
        "times not shaped": (optimum(lambda t, x: t), "the shape that does"),
        "one time alone": (optimum(lambda t, x: float(t)), "raised"),
        "times (n,) alone": (optimum(lambda t, x: t.reshape(len(x), *[1] * (x.ndim - 1))), "raised"),
        "a guard in the denominator": (optimum(guard=1e-4), "nearly right"),
        "double precision": (lambda *args: optimum()(*args).double(), "should have the dtype"),
    },
    "train_step": {
        "keeps the graph": (step(value=lambda value: value), "carries its graph"),
        "half of the loss": (step(down=lambda value: (value / 2).backward()), "vector of weights"),
        "clipped": (step(before=lambda model: clip_grad_norm_(model.parameters(), 0.1)), "vector of weights"),
        "backward twice": (step(down=lambda value: (value.backward(), value.backward())), "a second time"),
        "no_grad": (torch.no_grad()(step()), "raised RuntimeError"),
    },
    "sample_flow": {
        "keeps the graph": (euler, "torch.no_grad()"),
        "detaches the start alone": (lambda u, x0, ts: euler(u, x0.detach(), ts), "torch.no_grad()"),
        "detaches the end alone": (lambda *args: euler(*args).detach(), "kept until the end"),
        "all states": (lambda *args: euler(*args, end=torch.stack), "states at the last time"),
        "looks twice": (asking(lambda u, x, t: (u(x, t) + u(x, t)) / 2), "number of calls of the field per step"),
        "a clock of its own": (own_clock, ""),
        "times in a column": (asking(lambda u, x, t: u(x, t.expand(len(x), 1))), "hand t on as it came"),
    },
    "energy_distance": {
        "a matrix": (lambda x, y: torch.cdist(x.flatten(1), y.flatten(1)), "should be one number"),
    },
    "log_likelihood": {
        "per coordinate": (likelihood_with(lambda log_p, x: log_p), "should have shape"),
        "whole batch": (likelihood_with(lambda log_p, x: log_p.sum()), "should have shape"),
        "its start, too": (likelihood_with(lambda log_p, x: (log_p.sum(1), x)), "found a tuple"),
        "even times": (likelihood_with(times=lambda ts: torch.linspace(0, 1, len(ts)).to(ts)), "none of the slips"),
    },
    "linear_path": {
        "state alone": (lambda *args: line(*args)[0], "2 values in this order"),
        "stacked": (lambda *args: torch.stack(line(*args)), "2 values in this order"),
        "times not shaped": (lambda *args: line(*args, shape=lambda t, x: t), "the shape that does"),
        "a mean velocity": (lambda *args: (line(*args)[0], line(*args)[1].mean(0)), "should have shape"),
    },
    "reflow": {
        "times in the shape of weights": (reflow_with(time=coefficient), "hand t on as it came"),
        "samples in the loss": (lambda sample, x0: (late_reflow(sample, x0), sample(x0))[0], "called sample again"),
        "samples late": (late_reflow, "not called by reflow itself"),
        "samples twice": (reflow_with(lambda sample, x0: (sample(x0), sample(x0))[1].detach()), "each pair once"),
        "samples few": (reflow_with(lambda sample, x0: sample(x0[:3]).detach()), "starting points that sample"),
        "samples fresh noise": (reflow_with(lambda sample, x0: sample(torch.randn_like(x0)).detach()), OWN),
        "starts of its own": (reflow_with(starts=lambda x0, k: torch.randn_like(x0[k])), OWN),
        "a seed in the loss": (reflow_with(starts=lambda x0, k: (torch.manual_seed(0), x0[k])[1]), OWN),
        "gradient into the flow": (reflow_with(lambda sample, x0: sample(x0)), "back into the first flow"),
        "a value": (lambda sample, x0: mean_squares(sample(x0).detach() - x0), "should be a function"),
        "the pairs": (lambda sample, x0: (x0, sample(x0).detach()), "should be a function"),
        "all pairs": (reflow_with(starts=lambda x0, k: x0), "raised RuntimeError"),
        "shared memory": (shared_memory(), ""),
    },
}
