"""Wrong answers to lab 5, beside the mistakes on its cards.

exercise → name of the misconception → (answer, words that the verdict must contain).
"""

import functools
import math

import torch

from fmlab import conversions, losses, metrics, samplers, schedules
from fmlab.processes import ODE
from fmlab.schedules import DiffusionSchedule, coefficient


def single(answer):
    """What comes back in single precision."""

    def rounded(*args):
        found = answer(*args)
        return tuple(part.float() for part in found) if isinstance(found, tuple) else found.float()

    return rounded


def column(schedule, t):
    """The weights in the shape that multiplies points in the plane alone."""
    return [f(t)[:, None] for f in (schedule.alpha, schedule.beta, schedule.alpha_dot, schedule.beta_dot)]


def bare(schedule, t):
    """The weights in the shape that they come in."""
    return schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)


def guarded(schedule, t, x):
    """The weights in the right shape, β with a constant that is too large."""
    a, b, *dots = schedule.weights(t, x)
    return a, b + 1e-4, *dots


def clamped(schedule, t, x):
    a, b, *dots = schedule.weights(t, x)
    return a, b.clamp(min=0.05), *dots


def first_time(schedule, t, x):
    return schedule.weights(t[0] if getattr(t, "ndim", 0) else t, x)


def shaped(weights):
    """`weights(schedule, t)` as a function of x, too."""
    return lambda schedule, t, x: weights(schedule, t)


ways = {
    "for the plane": (shaped(column), "IndexError"),
    "no shape": (shaped(bare), "do not fit together"),
    "a large guard": (guarded, "nearly right"),
    "clamped": (clamped, ""),
    "the first time for all": (first_time, ""),
}


def in_these_ways(make, *names):
    """An answer made with weights of another shape or size: name → (answer, words)."""
    return {name: (make(ways[name][0]), ways[name][1]) for name in names}


# --- the formulas, with weights of any shape --------------------------------------------------------------------------


def rescaled(weights):
    def to_variance_preserving(x, t, schedule):
        a, b, *_ = weights(schedule, t, x)
        return x / torch.hypot(a, b)

    return to_variance_preserving


def rescaled_in_place(x, t, schedule):
    x /= coefficient((schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt(), x)
    return x


def converter(weights):
    def convert_output(value, x, t, schedule, source, target):
        a, b, *dots = weights(schedule, t, x)
        rows = {"data": (1, 0), "noise": (0, 1), "velocity": (-b, a), "vector_field": dots, "score": (0, -1 / b)}
        c, d = rows[source]
        z, noise = (d * x - b * value) / (a * d - b * c), (a * value - c * x) / (a * d - b * c)
        c, d = rows[target]
        return c * z + d * noise

    return convert_output


right_conversion = converter(lambda schedule, t, x: schedule.weights(t, x))


def all_but_itself(value, x, t, schedule, source, target):
    if source != target:
        return right_conversion(value, x, t, schedule, source, target)


def only_from_data(value, x, t, schedule, source, target):
    if source == "data":
        return right_conversion(value, x, t, schedule, source, target)


def through_both(value, x, t, schedule, source, target):
    z, _ = samplers.data_and_noise(value, x, t, schedule, source)
    return right_conversion(z, x, t, schedule, "data", target)


def factor(output, t, schedule, guard=0.0):
    a, b = schedule.alpha(t), schedule.beta(t) + guard
    rows = {"data": (torch.ones_like(a), 0), "noise": (0, 1), "velocity": (-b, a)}
    rows |= {"vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)), "score": (0, 1 / b)}
    c, d = rows[output]
    return (c - d * a / b) ** 2


def one_for_data(output, t, schedule):
    return 1.0 if output == "data" else factor(output, t, schedule)


def loss_with(weights=lambda schedule, t, x: schedule.weights(t, x), squares=lambda e: e.flatten(1).square().sum(1)):
    def loss_over_log_snr(model, z, noise, t, schedule, weight):
        a, b, *_ = weights(schedule, t, z)
        errors = squares(model(a * z + b * noise, t) - noise)
        return (weight(schedule.log_snr(t)) * schedule.log_snr_dot(t) * errors).mean()

    return loss_over_log_snr


def untrainable(*args):
    with torch.no_grad():
        return loss_with()(*args)


def one_per_state(model, z, noise, t, schedule, weight):
    a, b, *_ = schedule.weights(t, z)
    errors = (model(a * z + b * noise, t) - noise).flatten(1).square().sum(1)
    return weight(schedule.log_snr(t)) * schedule.log_snr_dot(t) * errors


def own_noise(model, z, noise, t, schedule, weight):
    return loss_with()(model, z, torch.randn_like(z), t, schedule, weight)


def column_of_times(model, z, noise, t, schedule, weight):
    t = coefficient(t, z)
    errors = model(schedule.alpha(t) * z + schedule.beta(t) * noise, t) - noise
    return (weight(schedule.log_snr(t)) * schedule.log_snr_dot(t) * errors.square()).flatten(1).sum(1).mean()


def exchanged_arguments(model, *args):
    return loss_with()(lambda x, t: model(t, x), *args)


def by_the_library(model, z, noise, t, schedule, weight):
    return losses.loss_over_log_snr(model, schedules.CondOT(), z, weight, -5.0, 5.0)


def weight_of(output, t, schedule):
    return factor(output, t, schedule) / factor("noise", t, schedule) / schedule.log_snr_dot(t)


def stepped(weights):
    def ddim_step(x, data, t, s, schedule):
        (a, b, *_), (a_s, b_s, *_) = weights(schedule, t, x), weights(schedule, s, x)
        return a_s * data + b_s * (x - a * data) / b

    return ddim_step


right_step = stepped(lambda schedule, t, x: schedule.weights(t, x))


def fresh_noise(x, data, t, s, schedule):
    a, b, *_ = schedule.weights(s, x)
    return a * data + b * torch.randn_like(x)


def step_in_place(x, data, t, s, schedule):
    x -= right_step(x, data, t, s, schedule)
    return -x


def renoised(weights):
    def ddpm_step(x, data, t, s, schedule, noise, churn):
        (a, b, *_), (a_s, b_s, *_) = weights(schedule, t, x), weights(schedule, s, x)
        q = (a * b_s / (b * a_s)) ** churn
        return a_s * data + b_s * (q * (x - a * data) / b + (1 - q**2).sqrt() * noise)

    return ddpm_step


right_renoising = renoised(lambda schedule, t, x: schedule.weights(t, x))


def own_renoising(x, data, t, s, schedule, noise, churn):
    return right_renoising(x, data, t, s, schedule, torch.randn_like(x), churn)


def seeded_renoising(x, data, t, s, schedule, noise, churn):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return right_renoising(x, data, t, s, schedule, noise, churn)


def noise_in_place(x, data, t, s, schedule, noise, churn):
    noise *= 1.0 + churn
    return right_renoising(x, data, t, s, schedule, noise / (1.0 + churn), churn)


def by_the_library_step(x, data, t, s, schedule, noise, churn):
    return samplers.DDPM(schedule, "data", churn).step(ODE(lambda x, t: data), x, t, s - t, noise)


def rates(t, schedule, guard=0.0):
    growth, b = schedule.alpha_dot(t) / (schedule.alpha(t) + guard), schedule.beta(t)
    return -growth, (2 * (b**2 * growth - b * schedule.beta_dot(t))).sqrt()


def cumulative(y, s):
    return torch.cat([s.new_zeros(1), torch.cumulative_trapezoid(y, s)])


def integrated(f, g_squared, s):
    alpha = cumulative(f(s), s).exp()
    return alpha, alpha * cumulative(g_squared(s) / alpha**2, s).sqrt()


def on_a_grid_to_1(f, g_squared, s):
    return integrated(f, g_squared, torch.linspace(0, 1, len(s), dtype=s.dtype))


def by_the_librarys_schedule(f, g_squared, s):
    schedule = DiffusionSchedule(f, lambda r: g_squared(r).sqrt())
    return schedule.alpha(1 - s), schedule.beta(1 - s)


def of_each_path(x):
    steps, ends = x.diff(dim=0).flatten(2).norm(dim=2).sum(0), (x[-1] - x[0]).flatten(1).norm(dim=1)
    return steps / ends - 1


def two_coordinates(x):
    first, second, *_ = x.flatten(2).unbind(2)
    steps, ends = (
        torch.hypot(first.diff(dim=0), second.diff(dim=0)),
        torch.hypot(*(p[-1] - p[0] for p in (first, second))),
    )
    return steps.sum(0).mean() / ends.mean() - 1


LOG_SNR = {
    "the schedule's own": (lambda t, s: s.log_snr(t), "asks you to write"),
    "the class's own": (lambda t, s: schedules.Schedule.log_snr(s, t), "asks you to write"),
    "one number": (lambda t, s: 2 * (s.alpha(t) / s.beta(t)).log().mean(), "shape"),
    "numbers alone": (lambda t, s: 2 * math.log(s.alpha(t) / s.beta(t)), "raised"),
    "a list": (lambda t, s: (2 * (s.alpha(t) / s.beta(t)).log()).tolist(), "found a list"),
    "single precision": (lambda t, s: (2 * (s.alpha(t) / s.beta(t)).log()).float(), "dtype"),
    "a large guard": (lambda t, s: 2 * (s.alpha(t) / (s.beta(t) + 1e-4)).log(), "nearly right"),
    "clamped": (lambda t, s: 2 * (s.alpha(t) / s.beta(t).clamp(min=0.05)).log(), ""),
    "nothing": (lambda t, s: print(end=""), "is there a return"),
}

WRONG = {
    "log_snr": LOG_SNR,
    "to_variance_preserving": {
        **in_these_ways(rescaled, "for the plane", "no shape"),
        "a large guard": (lambda x, t, s: x / torch.hypot(*s.weights(t, x)[:2]).add(1e-3), "nearly right"),
        "in place": (rescaled_in_place, "changed a tensor"),
        "one time only": (lambda x, t, s: x / math.hypot(s.alpha(t), s.beta(t)), "raised"),
        "twin returned too": (lambda x, t, s: (x, s.alpha(t)), "found a tuple"),
        "single precision": (single(rescaled(lambda s, t, x: s.weights(t, x))), "dtype"),
        "the library's": (schedules.to_variance_preserving, "asks you to write"),
    },
    "convert_output": {
        **in_these_ways(converter, *ways),
        "all but itself": (all_but_itself, "is there a return"),
        "from data only": (only_from_data, "is there a return"),
        "single precision": (single(right_conversion), "dtype"),
        "through the library's halves": (through_both, "asks you to write"),
        "the library's": (
            lambda value, x, t, schedule, source, target: conversions.convert(
                value, x, t, schedule, source=source, target=target
            ),
            "asks you to write",
        ),
    },
    "x_mse_weight": {
        "1.0 for the data": (one_for_data, "found the number 1.0"),
        "nothing for the score": (lambda o, t, s: None if o == "score" else factor(o, t, s), "is there a return"),
        "one number": (lambda *args: factor(*args).mean(), "shape"),
        "a column": (lambda *args: factor(*args)[..., None], "shape"),
        "tensors alone": (lambda o, t, s: torch.ones_like(t) if o == "data" else factor(o, t, s), "raised TypeError"),
        "single precision": (single(factor), "dtype"),
        "a large guard": (functools.partial(factor, guard=1e-4), "nearly right"),
        "the library's": (conversions.x_mse_weight, "asks you to write"),
    },
    "loss_over_log_snr": {
        **in_these_ways(loss_with, "no shape", "clamped"),
        "for the plane": (loss_with(shaped(column)), ""),
        "no gradient": (untrainable, "no gradient reaches"),
        "a float": (lambda *args: loss_with()(*args).item(), "no gradient reaches"),
        "one per state": (one_per_state, "one number for the whole batch"),
        "own noise": (own_noise, "random numbers of its own"),
        "a column of times": (column_of_times, "hand t on as it came"),
        "(t, x)": (exchanged_arguments, "raised"),
        "the library's": (by_the_library, "asks you to write"),
    },
    "effective_weight": {
        "one number": (lambda *args: weight_of(*args).mean(), "shape"),
        "1.0 for the noise": (
            lambda o, t, s: (1.0 if o == "noise" else weight_of(o, t, s) * s.log_snr_dot(t)) / s.log_snr_dot(0.5),
            "",
        ),
        "single precision": (single(weight_of), "dtype"),
        "nothing for the score": (lambda o, t, s: None if o == "score" else weight_of(o, t, s), "is there a return"),
        "a large guard": (
            lambda o, t, s: factor(o, t, s, 1e-4) / factor("noise", t, s, 1e-4) / s.log_snr_dot(t),
            "nearly right",
        ),
        "the library's": (lambda o, t, s: losses.effective_weight(o, s.log_snr(t), s), "asks you to write"),
    },
    "ddim_step": {
        **in_these_ways(stepped, "for the plane", "no shape", "clamped"),
        "a large guard": (
            lambda x, z, t, s, sch: right_step(x, z, t, s, sch) + 1e-3 * (x - z),
            "nearly right",
        ),
        "fresh noise": (fresh_noise, "random numbers of its own"),
        "in place": (step_in_place, "changed a tensor"),
        "noise returned too": (lambda *args: (right_step(*args), args[0]), "found a tuple"),
        "single precision": (single(right_step), "dtype"),
        "the library's": (
            lambda x, z, t, s, schedule: samplers.ddim(lambda x, t: z, x, schedule, [t, s], output="data"),
            "asks you to write",
        ),
    },
    "ddpm_step": {
        **in_these_ways(renoised, "for the plane", "no shape"),
        "a large guard": (
            lambda x, z, t, s, sch, xi, c: right_renoising(x, z, t, s, sch, xi, c + 1e-3),
            "nearly right",
        ),
        "own noise": (own_renoising, "random numbers of its own"),
        "seeded noise": (seeded_renoising, ""),
        "noise in place": (noise_in_place, "changed a tensor"),
        "single precision": (single(right_renoising), "dtype"),
        "the library's": (by_the_library_step, "asks you to write"),
    },
    "sde_from_schedule": {
        "g alone": (lambda t, s: rates(t, s)[1], "f and g should come back"),
        "a dictionary": (lambda t, s: dict(zip("fg", rates(t, s))), "f and g should come back"),
        "f a number": (lambda t, s: (float(rates(t, s)[0].mean()), rates(t, s)[1]), "f for"),
        "single precision": (single(rates), "dtype"),
        "a large guard": (functools.partial(rates, guard=1e-4), "nearly right"),
        "the library's": (lambda t, s: schedules.diffusion_coefficients(s, t), "asks you to write"),
    },
    "schedule_from_sde": {
        "α alone": (lambda *args: integrated(*args)[0], "α and β should come back"),
        "the last of each": (lambda *args: tuple(part[-1] for part in integrated(*args)), "shape"),
        "another grid": (on_a_grid_to_1, ""),
        "a schedule": (lambda f, g, s: DiffusionSchedule(f, lambda r: g(r).sqrt()), "α and β should come back"),
        "single precision": (single(integrated), "dtype"),
        "the library's": (by_the_librarys_schedule, "asks you to write"),
    },
    "path_curvature": {
        "one per path": (of_each_path, "one number"),
        "for the plane": (two_coordinates, ""),
        "halves": (lambda x: of_each_path(x).square().mean().sqrt(), ""),
        "nothing": (lambda x: print(end=""), "one number"),
        "the library's": (metrics.path_curvature, "asks you to write"),
    },
}
