"""Wrong answers to lab 5, beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab import conversions, losses, metrics, samplers, schedules
from fmlab.processes import ODE
from fmlab.schedules import DiffusionSchedule, Schedule, coefficient
from tests.labs import solutions, source

RIGHT = solutions(source("lab5"))


class Changed(Schedule):
    """A schedule as an answer may take it: its weights not shaped for the states, or its β changed."""

    def __init__(self, schedule, beta=lambda b: b, shaped=True):
        self.schedule, self.changed, self.shaped = schedule, beta, shaped
        self.alpha, self.alpha_dot, self.beta_dot = schedule.alpha, schedule.alpha_dot, schedule.beta_dot

    def beta(self, t):
        return self.changed(self.schedule.beta(t))

    def weights(self, t, x):
        return super().weights(t, x if self.shaped else torch.empty(1))


def with_schedule(exercise, **change):
    """The solution, with a schedule that is changed in this way."""

    def answer(*args):
        return RIGHT[exercise](*(Changed(arg, **change) if isinstance(arg, Schedule) else arg for arg in args))

    return answer


def ways(exercise, *names):
    """Answers with weights of another shape or size: name → (answer, words)."""
    known = {
        "no shape": (with_schedule(exercise, shaped=False), "do not fit together"),
        "a large guard": (with_schedule(exercise, beta=lambda b: b + 1e-4), "nearly right"),
        "clamped": (with_schedule(exercise, beta=lambda b: b.clamp(min=0.05)), ""),
    }
    return {name: known[name] for name in names}


def rescaled_in_place(x, t, schedule):
    x /= coefficient((schedule.alpha(t) ** 2 + schedule.beta(t) ** 2).sqrt(), x)
    return x


def only_from_data(value, x, t, schedule, source, target):
    if source == "data":
        return RIGHT["convert_output"](value, x, t, schedule, source, target)


def through_the_librarys_halves(value, x, t, schedule, source, target):
    z, _ = samplers.data_and_noise(value, x, t, schedule, source)
    return RIGHT["convert_output"](z, x, t, schedule, "data", target)


def converted_by_the_library(value, x, t, schedule, source, target):
    return conversions.convert(value, x, t, schedule, source=source, target=target)


def one_for(name, exercise):
    """The number 1.0 for the output of this name, where a tensor of the shape of t is asked."""
    return lambda output, t, schedule: 1.0 if output == name else RIGHT[exercise](output, t, schedule)


def one_per_state(model, z, noise, t, schedule, weight):
    a, b, *_ = schedule.weights(t, z)
    errors = (model(a * z + b * noise, t) - noise).flatten(1).square().sum(1)
    return weight(schedule.log_snr(t)) * schedule.log_snr_dot(t) * errors


def own_noise(model, z, noise, t, schedule, weight):
    return RIGHT["loss_over_log_snr"](model, z, torch.randn_like(z), t, schedule, weight)


def column_of_times(model, *args):
    return RIGHT["loss_over_log_snr"](lambda x, t: model(x, coefficient(t, x)), *args)


def exchanged_arguments(model, *args):
    return RIGHT["loss_over_log_snr"](lambda x, t: model(t, x), *args)


def loss_by_the_library(model, z, noise, t, schedule, weight):
    return losses.loss_over_log_snr(model, schedules.CondOT(), z, weight, -5.0, 5.0)


def fresh_noise(x, data, t, s, schedule):
    a, b, *_ = schedule.weights(s, x)
    return a * data + b * torch.randn_like(x)


def noise_in_place(x, data, t, s, schedule, noise, churn):
    noise *= 1.0 + churn
    return RIGHT["ddpm_step"](x, data, t, s, schedule, noise / (1.0 + churn), churn)


def seeded_noise(x, data, t, s, schedule, noise, churn):
    noise = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    return RIGHT["ddpm_step"](x, data, t, s, schedule, noise, churn)


def renoised_by_the_library(x, data, t, s, schedule, noise, churn):
    return samplers.DDPM(schedule, "data", churn).step(ODE(lambda x, t: data), x, t, s - t, noise)


def on_a_grid_to_1(f, g_squared, s):
    return RIGHT["schedule_from_sde"](f, g_squared, torch.linspace(0, 1, len(s), dtype=s.dtype))


def integrated_by_the_library(f, g_squared, s):
    schedule = DiffusionSchedule(f, lambda r: g_squared(r).sqrt())
    return schedule.alpha(1 - s), schedule.beta(1 - s)


def of_each_path(x):
    steps, ends = x.diff(dim=0).flatten(2).norm(dim=2).sum(0), (x[-1] - x[0]).flatten(1).norm(dim=1)
    return steps / ends - 1


WRONG = {
    "log_snr": {
        **ways("log_snr", "a large guard", "clamped"),
        "the schedule's own": (lambda t, s: s.log_snr(t), "asks you to write"),
        "the class's own": (lambda t, s: Schedule.log_snr(s, t), "asks you to write"),
        "one number": (lambda t, s: 2 * (s.alpha(t) / s.beta(t)).log().mean(), "shape"),
        "numbers alone": (lambda t, s: 2 * math.log(s.alpha(t) / s.beta(t)), "raised"),
    },
    "to_variance_preserving": {
        "no shape": (lambda x, t, s: x / torch.hypot(s.alpha(t), s.beta(t)), "do not fit together"),
        "a large guard": (lambda x, t, s: x / torch.hypot(*s.weights(t, x)[:2]).add(1e-3), "nearly right"),
        "in place": (rescaled_in_place, "changed a tensor"),
        "one time only": (lambda x, t, s: x / math.hypot(s.alpha(t), s.beta(t)), "raised"),
        "the library's": (schedules.to_variance_preserving, "asks you to write"),
    },
    "convert_output": {
        **ways("convert_output", "no shape", "a large guard", "clamped"),
        "from data only": (only_from_data, "is there a return"),
        "through the library's halves": (through_the_librarys_halves, "asks you to write"),
        "the library's": (converted_by_the_library, "asks you to write"),
    },
    "x_mse_weight": {
        **ways("x_mse_weight", "a large guard"),
        "1.0 for the data": (one_for("data", "x_mse_weight"), "found the number 1.0"),
        "one number": (lambda *args: RIGHT["x_mse_weight"](*args).mean(), "shape"),
        "a column": (lambda *args: RIGHT["x_mse_weight"](*args)[..., None], "shape"),
        "the library's": (conversions.x_mse_weight, "asks you to write"),
    },
    "loss_over_log_snr": {
        **ways("loss_over_log_snr", "no shape", "clamped"),
        "a float": (lambda *args: RIGHT["loss_over_log_snr"](*args).item(), "no gradient reaches"),
        "one per state": (one_per_state, "one number for the whole batch"),
        "own noise": (own_noise, "random numbers of its own"),
        "a column of times": (column_of_times, "hand t on as it came"),
        "(t, x)": (exchanged_arguments, "raised"),
        "the library's": (loss_by_the_library, "asks you to write"),
    },
    "effective_weight": {
        "1.0 for the noise": (one_for("noise", "effective_weight"), "found the number 1.0"),
        "the library's": (lambda o, t, s: losses.effective_weight(o, s.log_snr(t), s), "asks you to write"),
    },
    "ddim_step": {
        **ways("ddim_step", "no shape", "clamped"),
        "fresh noise": (fresh_noise, "random numbers of its own"),
        "noise returned too": (lambda *args: (RIGHT["ddim_step"](*args), args[0]), "found a tuple"),
        "the library's": (
            lambda x, z, t, s, schedule: samplers.ddim(lambda x, t: z, x, schedule, [t, s], output="data"),
            "asks you to write",
        ),
    },
    "ddpm_step": {
        **ways("ddpm_step", "no shape"),
        "noise in place": (noise_in_place, "changed a tensor"),
        "seeded noise": (seeded_noise, ""),
        "the library's": (renoised_by_the_library, "asks you to write"),
    },
    "sde_from_schedule": {
        "g alone": (lambda *args: RIGHT["sde_from_schedule"](*args)[1], "f and g should come back"),
        "a dictionary": (lambda *args: dict(zip("fg", RIGHT["sde_from_schedule"](*args))), "f and g should come back"),
        "the library's": (lambda t, s: schedules.diffusion_coefficients(s, t), "asks you to write"),
    },
    "schedule_from_sde": {
        "the last of each": (lambda *args: [part[-1] for part in RIGHT["schedule_from_sde"](*args)], "shape"),
        "another grid": (on_a_grid_to_1, ""),
        "a schedule": (lambda f, g, s: DiffusionSchedule(f, lambda r: g(r).sqrt()), "α and β should come back"),
        "the library's": (integrated_by_the_library, "asks you to write"),
    },
    "path_curvature": {
        "one per path": (of_each_path, "one number"),
        "for the plane": (lambda x: RIGHT["path_curvature"](x.flatten(2)[..., :2]), ""),
        "halves": (lambda x: of_each_path(x).square().mean().sqrt(), ""),
        "the library's": (metrics.path_curvature, "asks you to write"),
    },
}
