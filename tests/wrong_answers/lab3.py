"""Wrong answers to lab 3, beside the mistakes on its cards.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.schedules import CondOT, coefficient


def squares(error):
    return error.flatten(1).square().sum(1)


def mean_squares(error):
    return squares(error).mean()


def seeded(answer):
    """The answer, with a seed set first."""

    def changed(*args):
        torch.manual_seed(0)
        return answer(*args)

    return changed


def without_gradients(answer):
    return torch.no_grad()(answer)


def plane(value):
    """A coefficient in the shape of points in the plane."""
    return value[:, None] if value.ndim else value


# --- regressions ------------------------------------------------------------------------------------------------------


def loss_with(reduce=mean_squares, time=lambda t, z: t, noise=lambda e: e, weights=lambda s, t, z: s.weights(t, z)):
    """conditional_flow_matching_loss with one part exchanged."""

    def conditional_flow_matching_loss(u, z, t, e, schedule):
        a, b, da, db = weights(schedule, t, z)
        e = noise(e)
        return reduce(u(a * z + b * e, time(t, z)) - (da * z + db * e))

    return conditional_flow_matching_loss


def each(shape):
    """The four weights, each in a shape of its own."""
    return lambda s, t, z: [shape(f(t)) for f in (s.alpha, s.beta, s.alpha_dot, s.beta_dot)]


def own_times(u, z, t, noise, schedule):
    return loss_with()(u, z, torch.rand(len(z), dtype=z.dtype), noise, schedule)


def half_a_gradient(u, z, t, noise, schedule):
    a, b, da, db = schedule.weights(t, z)
    answer, target = u(a * z + b * noise, t), da * z + db * noise
    return ((answer - target).detach() * (answer - target)).sum() / len(z)


def with_a_guard(u, z, t, noise, schedule):
    a, b, da, db = schedule.weights(t, z)
    x = a * z + b * noise
    return mean_squares(u(x, t) - (da * z + db / (b + 1e-4) * (x - a * z)))


def inplace_loss(u, z, t, noise, schedule):
    a, b, da, db = schedule.weights(t, z)
    target = da * z + db * noise
    z *= a
    z += b * noise
    return mean_squares(u(z, t) - target)


def single_loss(u, z, t, noise, schedule):
    return loss_with()(lambda x, t: u(x.float(), t), z, t, noise, schedule)


def marginal_with(reduce=mean_squares, time=lambda t, z: t, noise=lambda e: e, weights=lambda s, t, z: s.weights(t, z)):
    """marginal_flow_matching_loss with one part exchanged."""

    def marginal_flow_matching_loss(u, z, t, e, schedule, field):
        a, b, *_ = weights(schedule, t, z)
        x = a * z + b * noise(e)
        return reduce(u(x, time(t, z)) - field(x, time(t, z)))

    return marginal_flow_matching_loss


def gradient_to_the_field(u, z, t, noise, schedule, field):
    return marginal_with()(lambda x, t: u(x, t).detach(), z, t, noise, schedule, field)


def optimum(shape=coefficient, guard=0.0):
    def optimal_vector_field(x, t, mean, std):
        t = shape(torch.as_tensor(t, dtype=x.dtype), x)
        return mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2 + guard) * (x - t * mean)

    return optimal_vector_field


def inplace_optimum(x, t, mean, std):
    x -= coefficient(torch.as_tensor(t), x) * mean
    return x


# --- training and sampling --------------------------------------------------------------------------------------------


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


def own_optimizer(model, loss, optimizer):
    return step()(model, loss, torch.optim.SGD(model.parameters(), 0.1))


def clipped(model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def euler(u, x0, ts, end=lambda states: states[-1]):
    states = [x0]
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        states.append(states[-1] + h * u(states[-1], t))
    return end(states)


def detached_start(u, x0, ts):
    return euler(u, x0.detach(), ts)


def detached_end(u, x0, ts):
    return euler(u, x0, ts).detach()


@torch.no_grad()
def no_grad_at_the_end(u, x0, ts):
    with torch.enable_grad():
        end = euler(u, x0, ts)
    return end + 0.0


@torch.no_grad()
def looks_twice(u, x0, ts):
    x = x0
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        assert u(x, t).shape == x.shape
        x = x + h * u(x, t)
    return x


@torch.no_grad()
def inplace_sample(u, x0, ts):
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        x0 += h * u(x0, t)
    return x0


@torch.no_grad()
def own_clock(u, x0, ts):
    """Right for even steps."""
    x, t, h = x0, ts[0], ts[1] - ts[0]
    while (ts[-1] - t) * h.sign() > 1e-6:
        x, t = x + h * u(x, t), t + h
    return x


@torch.no_grad()
def a_column_of_times(u, x0, ts):
    return euler(lambda x, t: u(x, t.expand(len(x), 1)), x0, ts)


# --- distances and densities ------------------------------------------------------------------------------------------


def energy(x, y, distance=lambda a, b: torch.cdist(a, b).mean()):
    x, y = x.flatten(1), y.flatten(1)
    return 2 * distance(x, y) - distance(x, x) - distance(y, y)


def rounded_off(a, b):
    return ((a[:, None] - b).square().sum(-1) + 1e-3).sqrt().mean()


def same_number_of_points(x, y):
    return energy(
        x, y, lambda a, b: sum((a[i] - b[j]).norm() for i in range(len(x)) for j in range(len(x))) / len(x) ** 2
    )


def inplace_energy(x, y):
    x -= y.mean(0)
    return energy(x, y - y.mean(0))


def normal(x, d=None):
    x = x.flatten(1)
    return -x.square().sum(1) / 2 - (x.shape[1] if d is None else d) / 2 * math.log(2 * math.pi)


def likelihood_with(p0=normal, end=lambda log_p, x: log_p, times=lambda ts: ts):
    """log_likelihood with one part exchanged."""

    def log_likelihood(u, divergence, x, ts):
        ts, integral = times(ts), torch.zeros(len(x), dtype=x.dtype)
        for k in range(len(ts) - 1, 0, -1):
            integral = integral + (ts[k] - ts[k - 1]) * divergence(x, ts[k])
            x = x - (ts[k] - ts[k - 1]) * u(x, ts[k])
        return end(p0(x) - integral, x)

    return log_likelihood


def inplace_likelihood(u, divergence, x, ts):
    integral = torch.zeros(len(x), dtype=x.dtype)
    for k in range(len(ts) - 1, 0, -1):
        integral += (ts[k] - ts[k - 1]) * divergence(x, ts[k])
        x -= (ts[k] - ts[k - 1]) * u(x, ts[k])
    return normal(x) - integral


def per_coordinate(u, divergence, x, ts):
    for k in range(len(ts) - 1, 0, -1):
        x = x - (ts[k] - ts[k - 1]) * u(x, ts[k])
    return torch.distributions.Normal(0.0, 1.0).log_prob(x)


# --- from any data to any data ----------------------------------------------------------------------------------------


def line(x0, x1, t, shape=coefficient):
    t = shape(torch.as_tensor(t, dtype=x0.dtype), x0)
    return (1 - t) * x0 + t * x1, x1 - x0


def inplace_line(x0, x1, t):
    x1 -= x0
    return x0 + coefficient(t, x0) * x1, x1


def reflow_with(
    ends=lambda sample, x0: sample(x0).detach(),
    reduce=mean_squares,
    shape=coefficient,
    time=lambda t, x: t,
    starts=lambda x0, k: x0[k],
):
    """reflow with one part exchanged."""

    def reflow(sample, x0):
        x1 = ends(sample, x0)

        def loss(u, k, t):
            a, b = starts(x0, k), x1[k]
            s = shape(torch.as_tensor(t), a)
            return reduce(u((1 - s) * a + s * b, time(t, a)) - (b - a))

        return loss

    return reflow


def sampling_in_the_loss(sample, x0):
    sample(x0)
    return lambda u, k, t: reflow_with()(sample, x0)(u, k, t)


def lazy_pairs(sample, x0):
    return lambda u, k, t: reflow_with()(sample, x0)(u, k, t)


def shared_memory():
    memory = {}

    def reflow(sample, x0):
        memory["loss"] = reflow_with()(sample, x0)
        return lambda u, k, t: memory["loss"](u, k, t)

    return reflow


def all_pairs(sample, x0):
    x1 = sample(x0).detach()

    def loss(u, k, t):
        t = coefficient(t, x0)
        return mean_squares(u((1 - t) * x0 + t * x1, t) - (x1 - x0))

    return loss


def inplace_reflow(sample, x0):
    x1 = sample(x0).detach()
    x0 -= x1
    return lambda u, k, t: mean_squares(u(x1[k] + (1 - coefficient(t, x0)) * x0[k], t) + x0[k])


def seeded_loss(sample, x0):
    return seeded(reflow_with()(sample, x0))


FIT = "the shape that does"
OWN = "draws random numbers of its own, or sets a seed"
CUT = "no gradient reaches the network"
REGRESSION = {  # for each maker of losses
    "one per point": (dict(reduce=squares), "one number for the whole batch"),
    "a number": (dict(reduce=lambda error: mean_squares(error).item()), CUT),
    "detached": (dict(reduce=lambda error: mean_squares(error).detach()), CUT),
    "a list of one": (dict(reduce=lambda error: mean_squares(error)[None]), "should be a scalar tensor"),
    "nothing comes back": (dict(reduce=lambda error: None), "is there a return"),
    "times given as a column": (dict(time=lambda t, z: torch.as_tensor(t).reshape(-1, 1)), "hand t on as it came"),
    "times given in the shape of weights": (dict(time=lambda t, z: coefficient(t, z)), "hand t on as it came"),
}


def regressions(make) -> dict:
    return {name: (make(**parts), words) for name, (parts, words) in REGRESSION.items()}


WRONG = {
    "conditional_flow_matching_loss": regressions(loss_with)
    | {
        "no_grad": (without_gradients(loss_with()), CUT),
        "times not shaped": (loss_with(weights=each(lambda value: value)), FIT),
        "shaped for the plane alone": (loss_with(weights=each(plane)), FIT),
        "shaped for the plane and times (n,)": (loss_with(weights=each(lambda value: value[:, None])), "raised"),
        "noise of its own": (loss_with(noise=torch.randn_like), OWN),
        "times of its own": (own_times, OWN),
        "a seed": (seeded(loss_with()), OWN),
        "half of the gradient": (half_a_gradient, "the gradient of the loss"),
        "a guard in the denominator": (with_a_guard, "nearly right"),
        "in place": (inplace_loss, "changed a tensor"),
        "single precision": (single_loss, "should have the dtype"),
        "another schedule's weights": (loss_with(weights=lambda s, t, z: CondOT().weights(t, z)), "path of CondOT"),
        "no network": (lambda u, z, t, e, s: z.mean(), "never called"),
    },
    "marginal_flow_matching_loss": regressions(marginal_with)
    | {
        "no_grad": (without_gradients(marginal_with()), CUT),
        "gradient cut at the network": (gradient_to_the_field, CUT),
        "times not shaped": (marginal_with(weights=each(lambda value: value)), FIT),
        "shaped for the plane alone": (marginal_with(weights=each(plane)), FIT),
        "noise of its own": (marginal_with(noise=torch.randn_like), OWN),
        "a seed": (seeded(marginal_with()), OWN),
    },
    "optimal_vector_field": {
        "times not shaped": (optimum(lambda t, x: t), FIT),
        "shaped for the plane alone": (optimum(lambda t, x: plane(t)), FIT),
        "one time alone": (optimum(lambda t, x: float(t)), "raised"),
        "times (n,) alone": (optimum(lambda t, x: t.reshape(len(x), *[1] * (x.ndim - 1))), "raised"),
        "a guard in the denominator": (optimum(guard=1e-4), "nearly right"),
        "in place": (inplace_optimum, "changed a tensor"),
        "single precision": (lambda *args: optimum()(*args).float(), "should have the dtype"),
        "double precision": (lambda *args: optimum()(*args).double(), "should have the dtype"),
        "a mean over the batch": (lambda *args: optimum()(*args).mean(0), "should have shape"),
        "no return": (lambda *args: None, "is there a return"),
    },
    "train_step": {
        "keeps the graph": (step(value=lambda value: value), "carries its graph"),
        "no value": (step(value=lambda value: None), "is there a return"),
        "value times two": (step(value=lambda value: 2 * value.item()), "the loss returned by step 1"),
        "a list": (step(value=lambda value: [value.item()]), "should be one number"),
        "no loss": (lambda model, loss, optimizer: optimizer.step(), "number of calls of loss"),
        "loss without its model": (lambda model, loss, optimizer: loss(), "raised TypeError"),
        "half of the loss": (step(down=lambda value: (value / 2).backward()), "vector of weights"),
        "an optimiser of its own": (own_optimizer, "vector of weights"),
        "clipped": (step(before=clipped), "vector of weights"),
        "backward twice": (step(down=lambda value: (value.backward(), value.backward())), "a second time"),
        "no_grad": (without_gradients(step()), "raised RuntimeError"),
        "a seed": (seeded(step()), OWN),
    },
    "sample_flow": {
        "keeps the graph": (euler, "torch.no_grad()"),
        "detaches the start alone": (detached_start, "torch.no_grad()"),
        "detaches the end alone": (detached_end, "kept until the end"),
        "no_grad around the end alone": (no_grad_at_the_end, "kept until the end"),
        "all states": (without_gradients(lambda *args: euler(*args, end=torch.stack)), "states at the last time"),
        "a list": (without_gradients(lambda *args: euler(*args, end=list)), "states at the last time"),
        "looks twice": (looks_twice, "number of calls of the field per step"),
        "in place": (inplace_sample, "changed a tensor"),
        "no return": (without_gradients(lambda *args: euler(*args, end=lambda states: None)), "is there a return"),
        "a clock of its own": (own_clock, ""),
        "times in a column": (a_column_of_times, "hand t on as it came"),
        "double precision": (without_gradients(lambda *args: euler(*args).double()), "should have the dtype"),
        "a mean": (without_gradients(lambda *args: euler(*args).mean(0)), "should have shape"),
        "a seed": (seeded(without_gradients(euler)), OWN),
    },
    "energy_distance": {
        "a matrix": (lambda x, y: torch.cdist(x.flatten(1), y.flatten(1)), "should be one number"),
        "for each point of x": (lambda x, y: energy(x, y, lambda a, b: torch.cdist(a, b).mean(1)), ""),
        "a guard in the root": (lambda x, y: energy(x, y, rounded_off), "nearly right"),
        "as many points in both": (same_number_of_points, "raised IndexError"),
        "in place": (inplace_energy, "changed a tensor"),
        "a pair": (lambda x, y: (energy(x, y), torch.cdist(x.flatten(1), y.flatten(1))), "should be one number"),
        "no return": (lambda x, y: None, "is there a return"),
    },
    "log_likelihood": {
        "three dimensions always": (likelihood_with(p0=lambda x: normal(x, 3)), "off by the same"),
        "per coordinate": (per_coordinate, "should have shape"),
        "whole batch": (likelihood_with(end=lambda log_p, x: log_p.sum()), "should have shape"),
        "its start, too": (likelihood_with(end=lambda log_p, x: (log_p, x)), "found a tuple"),
        "in place": (inplace_likelihood, "changed a tensor"),
        "times of its own": (
            likelihood_with(times=lambda ts: torch.linspace(0, 1, len(ts)).to(ts)),
            "none of the slips",
        ),
        "single precision": (likelihood_with(end=lambda log_p, x: log_p.float()), "should have the dtype"),
        "a list of numbers": (likelihood_with(end=lambda log_p, x: log_p.tolist()), "found a list"),
        "no return": (likelihood_with(end=lambda log_p, x: None), "is there a return"),
        "a column": (likelihood_with(end=lambda log_p, x: log_p[:, None]), "should have shape"),
    },
    "linear_path": {
        "state alone": (lambda *args: line(*args)[0], "2 values in this order"),
        "velocity alone": (lambda *args: line(*args)[1], "2 values in this order"),
        "stacked": (lambda *args: torch.stack(line(*args)), "2 values in this order"),
        "times not shaped": (lambda *args: line(*args, shape=lambda t, x: t), FIT),
        "shaped for the plane alone": (lambda *args: line(*args, shape=lambda t, x: plane(t)), FIT),
        "in place": (inplace_line, "changed a tensor"),
        "single precision": (lambda *args: [part.float() for part in line(*args)], "should have the dtype"),
        "a mean velocity": (lambda *args: (line(*args)[0], line(*args)[1].mean(0)), "should have shape"),
        "no return": (lambda *args: None, "is there a return"),
        "a seed": (seeded(line), OWN),
    },
    "reflow": regressions(reflow_with)
    | {
        "samples in the loss": (sampling_in_the_loss, "called sample again"),
        "samples late": (lazy_pairs, "not called by reflow itself"),
        "samples twice": (reflow_with(ends=lambda sample, x0: (sample(x0), sample(x0))[1].detach()), "each pair once"),
        "samples few": (reflow_with(ends=lambda sample, x0: sample(x0[:3]).detach()), "starting points that sample"),
        "samples fresh noise": (
            reflow_with(ends=lambda sample, x0: sample(torch.randn_like(x0)).detach()),
            OWN,
        ),
        "starts of its own": (reflow_with(starts=lambda x0, k: torch.randn_like(x0[k])), OWN),
        "gradient into the flow": (reflow_with(ends=lambda sample, x0: sample(x0)), "back into the first flow"),
        "a value": (lambda sample, x0: mean_squares(sample(x0).detach() - x0), "should be a function"),
        "the pairs": (lambda sample, x0: (x0, sample(x0).detach()), "should be a function"),
        "all pairs": (all_pairs, "raised RuntimeError"),
        "times not shaped": (reflow_with(shape=lambda t, x: t), FIT),
        "shaped for the plane alone": (reflow_with(shape=lambda t, x: plane(t)), FIT),
        "in place": (inplace_reflow, "changed a tensor"),
        "shared memory": (shared_memory(), ""),
        "a seed": (seeded_loss, OWN),
    },
}
