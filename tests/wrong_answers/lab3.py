"""Wrong answers to lab 3, each a misconception students really have.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab.schedules import coefficient

LOG_2PI = math.log(2 * math.pi)


def weights(schedule, t, z):
    """α, β, α̇, β̇ in the shape of the data."""
    functions = schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot
    return [coefficient(f(t), z) for f in functions]


def squares(error):
    return error.flatten(1).square().sum(1)


def loss_with(
    target=lambda z, e, a, b, da, db: da * z + db * e,
    state=lambda z, e, a, b: a * z + b * e,
    reduce=lambda error: squares(error).mean(),
    time=lambda t: t,
):
    """conditional_flow_matching_loss with one part exchanged."""

    def conditional_flow_matching_loss(u, z, t, noise, schedule):
        a, b, da, db = weights(schedule, t, z)
        return reduce(u(state(z, noise, a, b), time(t)) - target(z, noise, a, b, da, db))

    return conditional_flow_matching_loss


def condot_loss(u, z, t, noise, schedule):
    s = coefficient(torch.as_tensor(t), z)
    return squares(u(s * z + (1 - s) * noise, t) - (z - noise)).mean()


def condot_target(u, z, t, noise, schedule):
    a, b, _, _ = weights(schedule, t, z)
    return squares(u(a * z + b * noise, t) - (z - noise)).mean()


def no_shaping(u, z, t, noise, schedule):
    x = schedule.alpha(t) * z + schedule.beta(t) * noise
    return squares(u(x, t) - schedule.alpha_dot(t) * z - schedule.beta_dot(t) * noise).mean()


def shaped_for_the_plane(u, z, t, noise, schedule):
    a, b, da, db = (f(t)[:, None] for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot))
    return squares(u(a * z + b * noise, t) - (da * z + db * noise)).mean()


def sum_over_columns(u, z, t, noise, schedule):
    a, b, da, db = weights(schedule, t, z)
    return (u(a * z + b * noise, t) - (da * z + db * noise)).square().sum(1).mean()


def no_grad_loss(u, z, t, noise, schedule):
    with torch.no_grad():
        return loss_with()(u, z, t, noise, schedule)


def own_noise(u, z, t, noise, schedule):
    return loss_with()(u, z, t, torch.randn_like(z), schedule)


def inplace_loss(u, z, t, noise, schedule):
    a, b, da, db = weights(schedule, t, z)
    target = da * z + db * noise
    z *= a
    z += b * noise
    return squares(u(z, t) - target).mean()


def marginal_with(
    target=lambda field, x, t, z, e: field(x, t),
    state=lambda z, e, a, b: a * z + b * e,
    reduce=lambda error: squares(error).mean(),
):
    def marginal_flow_matching_loss(u, z, t, noise, schedule, field):
        a, b, _, _ = weights(schedule, t, z)
        x = state(z, noise, a, b)
        return reduce(u(x, t) - target(field, x, t, z, noise))

    return marginal_flow_matching_loss


def still_conditional(u, z, t, noise, schedule, field):
    return loss_with()(u, z, t, noise, schedule)


def without_the_model(u, z, t, noise, schedule, field):
    a, b, da, db = weights(schedule, t, z)
    x = a * z + b * noise
    return squares(field(x, t) - (da * z + db * noise) + 0 * u(x, t)).mean()


def marginal_no_grad(u, z, t, noise, schedule, field):
    return marginal_with()(u, z, t, noise, schedule, field).detach()


def optimum_with(f):
    """optimal_vector_field as a formula f of x, t, m and s, with t in the shape of x."""
    return lambda x, t, mean, std: f(x, coefficient(torch.as_tensor(t, dtype=x.dtype), x), mean, std)


def variance(t, s):
    return t**2 * s**2 + (1 - t) ** 2


def optimum_scalar_time(x, t, mean, std):
    """Right for one time, but times (n,) are not shaped."""
    t = torch.as_tensor(t)
    return mean + (t * std**2 - (1 - t)) / variance(t, std) * (x - t * mean)


def optimum_in_the_plane(x, t, mean, std):
    t = torch.as_tensor(t, dtype=x.dtype)
    t = t[:, None] if t.ndim else t
    return mean + (t * std**2 - (1 - t)) / variance(t, std) * (x - t * mean)


def no_zero_grad(model, loss, optimizer):
    value = loss(model)
    value.backward()
    optimizer.step()
    return value.item()


def zero_grad_between(model, loss, optimizer):
    value = loss(model)
    value.backward()
    optimizer.zero_grad()
    optimizer.step()
    return value.item()


def zero_grad_last(model, loss, optimizer):
    value = loss(model)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value.item()


def no_backward(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    optimizer.step()
    return value.item()


def backward_last(model, loss, optimizer):
    value = loss(model)
    optimizer.step()
    optimizer.zero_grad()
    value.backward()
    return value.item()


def no_step(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    return value.item()


def two_losses(model, loss, optimizer):
    optimizer.zero_grad()
    loss(model).backward()
    optimizer.step()
    return loss(model).item()


def with_graph(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    optimizer.step()
    return value


def no_value(model, loss, optimizer):
    no_graph(model, loss, optimizer)


def no_graph(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    optimizer.step()
    return value.item()


def detached_loss(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model).detach()
    value.backward()
    optimizer.step()
    return value.item()


def two_steps(model, loss, optimizer):
    value = no_graph(model, loss, optimizer)
    optimizer.step()
    return value


def sample_with(
    size=lambda ts, k: ts[k + 1] - ts[k],
    time=lambda ts, k: ts[k],
    intervals=lambda ts: range(len(ts) - 1),
    end=lambda states: states[-1],
    place=lambda x, x0: x,
):
    @torch.no_grad()
    def sample_flow(u, x0, ts):
        states = [x0]
        for k in intervals(ts):
            states.append(states[-1] + size(ts, k) * u(place(states[-1], x0), time(ts, k)))
        return end(states)

    return sample_flow


def sample_with_graph(u, x0, ts):
    x = x0
    for k in range(len(ts) - 1):
        x = x + (ts[k + 1] - ts[k]) * u(x, ts[k])
    return x


def detached_start(u, x0, ts):
    return sample_with_graph(u, x0.detach(), ts)


@torch.no_grad()
def sample_with_heun(u, x0, ts):
    x = x0
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        now = u(x, t)
        x = x + h / 2 * (now + u(x + h * now, t + h))
    return x


@torch.no_grad()
def inplace_sample(u, x0, ts):
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        x0 += h * u(x0, t)
    return x0


def mean_distance(a, b, p=2.0):
    return torch.cdist(a.flatten(1), b.flatten(1), p=p).mean()


def energy_with(combine, distance=mean_distance):
    return lambda x, y: combine(distance(x, y), distance(x, x), distance(y, y))


def energy(xy, xx, yy):
    return 2 * xy - xx - yy


def without_self(x, y):
    n, m = len(x), len(y)
    return energy(mean_distance(x, y), mean_distance(x, x) * n / (n - 1), mean_distance(y, y) * m / (m - 1))


def matched_pairs(x, y):
    n = min(len(x), len(y))
    return 2 * (x[:n] - y[:n]).norm(dim=1).mean()


def normal(x, d=None, half=0.5):
    x = x.flatten(1)
    return -half * x.square().sum(1) - (x.shape[1] if d is None else d) / 2 * LOG_2PI


def likelihood_with(
    sign=-1.0,
    p0=normal,
    looks=lambda ts, k: ts[k],
    size=lambda ts, k: ts[k] - ts[k - 1],
    steps=lambda ts: range(len(ts) - 1, 0, -1),
    direction=-1.0,
    after=False,
    at_start=False,
):
    """log_likelihood with one part exchanged."""

    def log_likelihood(u, divergence, x, ts):
        end, integral = x, torch.zeros(len(x), dtype=x.dtype)
        for k in steps(ts):
            h, t = size(ts, k), looks(ts, k)
            moved = x + direction * h * u(x, t)
            integral = integral + h * divergence(moved if after else x, t)
            x = moved
        return p0(end if at_start else x) + sign * integral

    return log_likelihood


def no_step_size(u, divergence, x, ts):
    integral = 0.0
    for k in range(len(ts) - 1, 0, -1):
        integral = integral + divergence(x, ts[k])
        x = x - (ts[k] - ts[k - 1]) * u(x, ts[k])
    return normal(x) - integral


def last_divergence_only(u, divergence, x, ts):
    integral = 0.0
    for k in range(len(ts) - 1, 0, -1):
        integral = (ts[k] - ts[k - 1]) * divergence(x, ts[k])
        x = x - (ts[k] - ts[k - 1]) * u(x, ts[k])
    return normal(x) - integral


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


def whole_batch(u, divergence, x, ts):
    return likelihood_with()(u, divergence, x, ts).sum()


def line_with(state, velocity=lambda x0, x1, t: x1 - x0):
    def linear_path(x0, x1, t):
        s = coefficient(torch.as_tensor(t, dtype=x0.dtype), x0)
        return state(x0, x1, s), velocity(x0, x1, s)

    return linear_path


def line(x0, x1, t):
    return (1 - t) * x0 + t * x1


def unshaped_line(x0, x1, t):
    return (1 - t) * x0 + t * x1, x1 - x0


def line_in_the_plane(x0, x1, t):
    s = torch.as_tensor(t, dtype=x0.dtype)
    s = s[:, None] if s.ndim else s
    return (1 - s) * x0 + s * x1, x1 - x0


def reflow_with(
    pairs=lambda x0, x1, k: (x0[k], x1[k]),
    target=lambda a, b, x: b - a,
    state=line,
    reduce=lambda error: squares(error).mean(),
    ends=lambda sample, x0: sample(x0).detach(),
):
    def reflow(sample, x0):
        x1 = ends(sample, x0)

        def loss(u, k, t):
            a, b = pairs(x0, x1, k)
            x = state(a, b, coefficient(t, a))
            return reduce(u(x, t) - target(a, b, x))

        return loss

    return reflow


def sampling_in_the_loss(sample, x0):
    sample(x0)
    return lambda u, k, t: reflow_with()(sample, x0)(u, k, t)


def lazy_pairs(sample, x0):
    return lambda u, k, t: reflow_with()(sample, x0)(u, k, t)


def sample_from_fresh_noise(sample, x0):
    return reflow_with(ends=lambda sample, x0: sample(torch.randn_like(x0)).detach())(sample, x0)


def shared_memory():
    memory = {}

    def reflow(sample, x0):
        memory["loss"] = reflow_with()(sample, x0)
        return lambda u, k, t: memory["loss"](u, k, t)

    return reflow


def reflow_value(sample, x0):
    x1 = sample(x0).detach()
    return squares(x1 - x0).mean()


WRONG = {
    "conditional_flow_matching_loss": {
        "CondOT whatever the schedule": (condot_loss, "path of CondOT"),
        "CondOT target": (condot_target, "target of CondOT"),
        "shows the data": (loss_with(state=lambda z, e, a, b: z), "shown the data z"),
        "shows the noise": (loss_with(state=lambda z, e, a, b: e), "shown the noise"),
        "weights exchanged": (loss_with(state=lambda z, e, a, b: b * z + a * e), "α_t and β_t are exchanged"),
        "variance for deviation": (loss_with(state=lambda z, e, a, b: a * z + b**2 * e), "β_t² was used"),
        "noise subtracted": (loss_with(state=lambda z, e, a, b: a * z - b * e), "noise was subtracted"),
        "weights for derivatives": (loss_with(lambda z, e, a, b, da, db: a * z + b * e), "needs their derivatives"),
        "derivatives exchanged": (loss_with(lambda z, e, a, b, da, db: db * z + da * e), "α̇_t and β̇_t are exchanged"),
        "sign of β̇": (loss_with(lambda z, e, a, b, da, db: da * z - db * e), "negative by itself"),
        "predicts the data": (loss_with(lambda z, e, *_: z), "compared with the data"),
        "predicts the noise": (loss_with(lambda z, e, *_: e), "compared with the noise"),
        "noise left out of the target": (loss_with(lambda z, e, a, b, da, db: da * z), "noise is missing"),
        "eq. 29 with ε for x": (
            loss_with(lambda z, e, a, b, da, db: (da - db / b * a) * z + db / b * e),
            "takes the state x_t",
        ),
        "mean over coordinates": (loss_with(reduce=lambda error: error.square().mean()), "mean was taken over coord"),
        "sum over the batch": (loss_with(reduce=lambda error: squares(error).sum()), "summed, not averaged"),
        "one per point": (loss_with(reduce=squares), "one number for the whole batch"),
        "½": (loss_with(reduce=lambda error: squares(error).mean() / 2), "factor ½ too many"),
        "norm": (loss_with(reduce=lambda error: squares(error).sqrt().mean()), "not squared"),
        "a number": (lambda *args: loss_with()(*args).item(), "no gradient reaches the model"),
        "detached": (lambda *args: loss_with()(*args).detach(), "no gradient reaches the model"),
        "no_grad": (no_grad_loss, "no gradient reaches the model"),
        "times not shaped": (no_shaping, "raised RuntimeError"),
        "shaped for the plane alone": (shaped_for_the_plane, "raised"),
        "sum over the first axis of an image": (sum_over_columns, ""),
        "times given as a column": (
            loss_with(time=lambda t: torch.as_tensor(t).reshape(-1, 1)),
            "hand t on as it came",
        ),
        "time turned round": (loss_with(time=lambda t: 1 - t), "the time given to the model"),
        "noise of its own": (own_noise, "the state x_t given to the model"),
        "in place": (inplace_loss, "changed a tensor"),
        "no return": (lambda *args: None, "never called"),
    },
    "marginal_flow_matching_loss": {
        "still conditional": (still_conditional, "never called"),
        "conditional, field unused": (
            lambda u, z, t, e, s, field: (field(z, t), loss_with()(u, z, t, e, s))[1],
            "still the conditional loss",
        ),
        "field at the data": (marginal_with(lambda field, x, t, z, e: field(z, t)), "evaluated at the data"),
        "field at the noise": (marginal_with(lambda field, x, t, z, e: field(e, t)), "evaluated at the noise"),
        "field at 1 − t": (marginal_with(lambda field, x, t, z, e: field(x, 1 - t)), "time 1 − t"),
        "model at the data": (marginal_with(state=lambda z, e, a, b: z), "shown the data z"),
        "weights exchanged": (marginal_with(state=lambda z, e, a, b: b * z + a * e), "α_t and β_t are exchanged"),
        "added": (marginal_with(lambda field, x, t, z, e: -field(x, t)), "were added"),
        "without the model": (without_the_model, "model is missing"),
        "mean over coordinates": (marginal_with(reduce=lambda error: error.square().mean()), "over coordinates"),
        "sum over the batch": (marginal_with(reduce=lambda error: error.square().sum()), "summed, not averaged"),
        "norm": (marginal_with(reduce=lambda error: squares(error).sqrt().mean()), "not squared"),
        "detached": (marginal_no_grad, "no gradient reaches the model"),
        "rows of an image": (marginal_with(reduce=lambda error: error.square().sum(1).mean()), ""),
    },
    "optimal_vector_field": {
        "towards the mean": (optimum_with(lambda x, t, m, s: (m - x) / (1 - t)), "conditional field"),
        "denoiser": (optimum_with(lambda x, t, m, s: m + t * s**2 / variance(t, s) * (x - t * m)), "E[z | x_t]"),
        "s for s²": (
            optimum_with(lambda x, t, m, s: m + (t * s - (1 - t)) / (t**2 * s + (1 - t) ** 2) * (x - t * m)),
            "s², not s",
        ),
        "plus": (
            optimum_with(lambda x, t, m, s: m + (t * s**2 + 1 - t) / variance(t, s) * (x - t * m)),
            "a plus where",
        ),
        "weights not squared": (
            optimum_with(lambda x, t, m, s: m + (t * s**2 - (1 - t)) / (t * s**2 + 1 - t) * (x - t * m)),
            "were not squared",
        ),
        "no variance": (optimum_with(lambda x, t, m, s: m + (t * s**2 - (1 - t)) * (x - t * m)), "Var(x_t) is missing"),
        "no mean of the target": (
            optimum_with(lambda x, t, m, s: (t * s**2 - (1 - t)) / variance(t, s) * (x - t * m)),
            "mean of the target",
        ),
        "m for t m": (
            optimum_with(lambda x, t, m, s: m + (t * s**2 - (1 - t)) / variance(t, s) * (x - m)),
            "t m, not m",
        ),
        "times exchanged": (
            optimum_with(
                lambda x, t, m, s: m + ((1 - t) * s**2 - t) / variance(1 - t, s) * (x - (1 - t) * m),
            ),
            "exchanged",
        ),
        "slope turned round": (
            optimum_with(lambda x, t, m, s: m - (t * s**2 - (1 - t)) / variance(t, s) * (x - t * m)),
            "sign of the slope",
        ),
        "root of the variance": (
            optimum_with(lambda x, t, m, s: m + (t * s**2 - (1 - t)) / variance(t, s) ** 0.5 * (x - t * m)),
            "standard deviation of x_t",
        ),
        "times not shaped": (optimum_scalar_time, "raised RuntimeError"),
        "for the plane alone": (optimum_in_the_plane, ""),
    },
    "train_step": {
        "no zero_grad": (no_zero_grad, "zero_grad() is missing"),
        "zero_grad after backward": (zero_grad_between, "no gradient was there"),
        "zero_grad last": (zero_grad_last, "comes too late"),
        "no backward": (no_backward, "no gradient was there"),
        "backward last": (backward_last, "old gradient"),
        "no step": (no_step, "optimizer.step() was never called"),
        "two batches": (two_losses, "called 2 times"),
        "keeps the graph": (with_graph, "carries its graph"),
        "no value": (no_value, "None"),
        "detached before backward": (detached_loss, "raised RuntimeError"),
        "two steps": (two_steps, "taken twice"),
        "no loss": (lambda model, loss, optimizer: optimizer.step(), "never computed"),
        "value times two": (lambda *args: 2 * no_graph(*args), "the loss returned"),
    },
    "sample_flow": {
        "keeps the graph": (sample_with_graph, "torch.no_grad()"),
        "detaches the start alone": (detached_start, "torch.no_grad()"),
        "first step for all": (sample_with(size=lambda ts, k: ts[1] - ts[0]), "size of the first"),
        "even spacing": (sample_with(size=lambda ts, k: (ts[-1] - ts[0]) / (len(ts) - 1)), "evenly spaced"),
        "divided by the times": (sample_with(size=lambda ts, k: (ts[-1] - ts[0]) / len(ts)), "number of times"),
        "end of the step": (sample_with(time=lambda ts, k: ts[k + 1]), "end of each step"),
        "counter": (sample_with(time=lambda ts, k: torch.tensor(float(k))), "counter"),
        "one step short": (sample_with(intervals=lambda ts: range(len(ts) - 2)), "last interval"),
        "starts late": (sample_with(intervals=lambda ts: range(1, len(ts) - 1)), "first interval"),
        "all states": (sample_with(end=torch.stack), "all states came back"),
        "a list": (sample_with(end=list), "last time should come back"),
        "time turned round": (sample_with(time=lambda ts, k: 1 - ts[k]), "1 − t"),
        "no step size": (sample_with(size=lambda ts, k: 1.0), "step size is missing"),
        "from x0 every time": (sample_with(place=lambda x, x0: x0), "evaluated at x0"),
        "Heun": (sample_with_heun, "more than once per step"),
        "in place": (inplace_sample, "changed a tensor"),
        "no return": (sample_with(end=lambda states: None), "None"),
    },
    "energy_distance": {
        "no factor 2": (energy_with(lambda xy, xx, yy: xy - xx - yy), "factor 2"),
        "mixed term": (energy_with(lambda xy, xx, yy: xy), "mixed term alone"),
        "twice the mixed term": (energy_with(lambda xy, xx, yy: 2 * xy), "to be subtracted"),
        "sign": (energy_with(lambda xy, xx, yy: xx + yy - 2 * xy), "sign is reversed"),
        "without Y": (energy_with(lambda xy, xx, yy: 2 * xy - xx), "E‖Y − Y'‖ is missing"),
        "without X": (energy_with(lambda xy, xx, yy: 2 * xy - yy), "E‖X − X'‖ is missing"),
        "squared distances": (
            energy_with(energy, lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).square().mean()),
            "nothing but the means",
        ),
        "city blocks": (energy_with(energy, lambda a, b: mean_distance(a, b, 1.0)), "Euclidean"),
        "root": (energy_with(lambda *parts: energy(*parts).sqrt()), "root was taken"),
        "without self": (without_self, "with itself"),
        "sums": (
            energy_with(energy, lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).sum()),
            "summed, not averaged",
        ),
        "matrix": (lambda x, y: torch.cdist(x, y), "one number"),
        "matched pairs": (matched_pairs, ""),
        "no images": (energy_with(energy, lambda a, b: torch.cdist(a, b).mean()), ""),
    },
    "log_likelihood": {
        "sign": (likelihood_with(sign=1.0), "wrong sign"),
        "no integral": (likelihood_with(sign=0.0), "integral of the divergence is missing"),
        "no step size": (no_step_size, "step size is missing"),
        "p_0 at x": (likelihood_with(at_start=True), "at x, not at X_0"),
        "forwards": (likelihood_with(direction=1.0), "followed forwards"),
        "forwards in time": (
            likelihood_with(direction=1.0, steps=lambda ts: range(1, len(ts)), looks=lambda ts, k: ts[k - 1]),
            "from the first time on",
        ),
        "from the first time": (likelihood_with(steps=lambda ts: range(1, len(ts))), ""),
        "time the step goes to": (likelihood_with(looks=lambda ts, k: ts[k - 1]), "time the step goes to"),
        "divergence after the move": (likelihood_with(after=True), "after the move"),
        "no constant": (likelihood_with(p0=lambda x: normal(x, 0)), "normalising constant of N(0, I) is missing"),
        "constant once": (likelihood_with(p0=lambda x: normal(x, 1)), "once per coordinate"),
        "no half": (likelihood_with(p0=lambda x: normal(x, half=1.0)), "factor ½"),
        "mean over coordinates": (likelihood_with(p0=lambda x: normal(x) / x[0].numel()), "mean over coordinates"),
        "density": (lambda *args: likelihood_with()(*args).exp(), "not its logarithm"),
        "even steps": (likelihood_with(size=lambda ts, k: (ts[-1] - ts[0]) / (len(ts) - 1)), "same size"),
        "stops early": (likelihood_with(steps=lambda ts: range(len(ts) - 1, 1, -1)), "no step was taken"),
        "last divergence": (last_divergence_only, "add them all up"),
        "per coordinate": (per_coordinate, "one per coordinate"),
        "whole batch": (whole_batch, "a single number"),
        "in place": (inplace_likelihood, "changed a tensor"),
        "three dimensions always": (likelihood_with(p0=lambda x: normal(x, 3)), ""),
    },
    "linear_path": {
        "ends exchanged": (line_with(lambda x0, x1, t: t * x0 + (1 - t) * x1), "exchanged"),
        "results exchanged": (lambda x0, x1, t: line_with(line)(x0, x1, t)[::-1], "state and velocity are exchanged"),
        "weight missing": (line_with(lambda x0, x1, t: x0 + t * x1), "weight 1 − t"),
        "own weight missing": (line_with(lambda x0, x1, t: (1 - t) * x0 + x1), "own weight"),
        "squares": (line_with(lambda x0, x1, t: (1 - t**2) * x0 + t**2 * x1), "squared weights"),
        "velocity back": (line_with(line, lambda x0, x1, t: x0 - x1), "points back"),
        "rest of the way": (line_with(line, lambda x0, x1, t: x1 - line(x0, x1, t)), "left of the way"),
        "way so far": (line_with(line, lambda x0, x1, t: line(x0, x1, t) - x0), "way so far"),
        "end point": (line_with(line, lambda x0, x1, t: x1), "a velocity is a difference"),
        "state alone": (lambda x0, x1, t: line_with(line)(x0, x1, t)[0], "as a pair"),
        "times not shaped": (unshaped_line, "raised RuntimeError"),
        "for the plane alone": (line_in_the_plane, ""),
    },
    "reflow": {
        "turned round": (reflow_with(state=lambda a, b, t: line(b, a, t)), "turned round"),
        "velocity back": (reflow_with(target=lambda a, b, x: a - b), "points back"),
        "end points as target": (reflow_with(target=lambda a, b, x: b), "compared with the end points"),
        "rest of the way": (reflow_with(target=lambda a, b, x: b - x), "left of the way"),
        "torn pairs, noise": (reflow_with(pairs=lambda x0, x1, k: (x0[: len(k)], x1[k])), "noise of other pairs"),
        "torn pairs, ends": (reflow_with(pairs=lambda x0, x1, k: (x0[k], x1[: len(k)])), "end points of other pairs"),
        "k unused": (reflow_with(pairs=lambda x0, x1, k: (x0[: len(k)], x1[: len(k)])), "k was not used"),
        "shows the start": (reflow_with(state=lambda a, b, t: a), "shown the starting points"),
        "samples in the loss": (sampling_in_the_loss, "called sample again"),
        "samples late": (lazy_pairs, "not called by reflow itself"),
        "fresh noise": (sample_from_fresh_noise, "what sample was given"),
        "gradient into the flow": (reflow_with(ends=lambda sample, x0: sample(x0)), "back into the first flow"),
        "detached loss": (reflow_with(reduce=lambda error: squares(error).mean().detach()), "no gradient reaches"),
        "mean over coordinates": (reflow_with(reduce=lambda error: error.square().mean()), "over coordinates"),
        "a number": (reflow_value, "should return a function"),
        "all pairs": (reflow_with(pairs=lambda x0, x1, k: (x0, x1)), "raised RuntimeError"),
        "shared memory": (shared_memory(), ""),
    },
}
