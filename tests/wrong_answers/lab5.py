"""Wrong answers to lab 5, beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import math

import torch

from fmlab import conversions, losses, metrics, samplers, schedules
from fmlab.schedules import DiffusionSchedule, Schedule, coefficient
from tests.labs import solutions, source

RIGHT = solutions(source("lab5"))
FACTOR, LOSS, WEIGHT = (RIGHT[name] for name in ("x_mse_weight", "loss_over_log_snr", "effective_weight"))
CONVERT, DDIM, DDPM = (RIGHT[name] for name in ("convert_output", "ddim_step", "ddpm_step"))
FLOW, SCHEDULE, CURVATURE = (RIGHT[name] for name in ("as_vector_field", "schedule_from_sde", "path_curvature"))
ASKS = "asks you to write"


class Changed(Schedule):
    """A schedule as an answer may take it: its weights not shaped for the states, or its β changed."""

    def __init__(self, schedule, beta=lambda b: b, shaped=True):
        self.alpha, self.alpha_dot, self.beta_dot = schedule.alpha, schedule.alpha_dot, schedule.beta_dot
        self.beta, self.shaped = (lambda t: beta(schedule.beta(t))), shaped

    def weights(self, t, x):
        return super().weights(t, x if self.shaped else torch.empty(1))


def ways(exercise, *names):
    """The solution, with weights of another shape or size: name → (answer, words)."""

    def taking(**change):
        return lambda *args: RIGHT[exercise](*[Changed(a, **change) if isinstance(a, Schedule) else a for a in args])

    known = {
        "no shape": (taking(shaped=False), "do not fit together"),
        "a large guard": (taking(beta=lambda b: b + 1e-4), "nearly right"),
        "clamped": (taking(beta=lambda b: b.clamp(min=0.05)), ""),
    }
    return {name: known[name] for name in names}


def halves_by_the_library(value, x, t, schedule, source, target):
    return CONVERT(samplers.data_and_noise(value, x, t, schedule, source)[0], x, t, schedule, "data", target)


def unshaped(network, output, source, target):
    def field(x, t):
        r = source.time_at(target.log_snr(t))
        x_r = x * (source.beta(r) / target.beta(t))
        z_hat = conversions.convert(network(x_r, r), x_r, r, source, source=output, target="data")
        return conversions.convert(z_hat, x, t, target, source="data", target="vector_field")

    return field


LAST = {}


def of_the_last_call(network, output, source, target):
    LAST["parts"] = network, output, source, target
    return lambda x, t: FLOW(*LAST["parts"])(x, t)


def guarded(network, output, source, target):
    return FLOW(network, output, source, Changed(target, beta=lambda b: b + 1e-4))


def fresh_noise(x, z_hat, t, s, schedule):
    a, b, *_ = schedule.weights(s, x)
    return a * z_hat + b * torch.randn_like(x)


def noise_in_place(x, z_hat, t, s, schedule, noise, churn):
    noise *= 1.0 + churn
    return DDPM(x, z_hat, t, s, schedule, noise / (1.0 + churn), churn)


def renoised_by_the_library(x, z_hat, t, s, schedule, noise, churn):
    return samplers.DDPM(schedule, "data", churn).step(lambda x, t: z_hat, x, t, s, noise)


def integrated_by_the_library(f, g_squared, s):
    schedule = DiffusionSchedule(f, lambda r: g_squared(r).sqrt())
    return schedule.alpha(1 - s), schedule.beta(1 - s)


def of_each_path(x):
    return torch.stack([CURVATURE(x[:, k : k + 1]) for k in range(x.shape[1])])


WRONG = {
    "log_snr": {
        **ways("log_snr", "a large guard", "clamped"),
        "the schedule's own": (lambda t, s: s.log_snr(t), ASKS),
        "the class's own": (lambda t, s: Schedule.log_snr(s, t), ASKS),
        "one number": (lambda t, s: 2 * (s.alpha(t) / s.beta(t)).log().mean(), "shape"),
        "numbers alone": (lambda t, s: 2 * math.log(s.alpha(t) / s.beta(t)), "raised"),
    },
    "to_variance_preserving": {
        "no shape": (lambda x, t, s: x / torch.hypot(s.alpha(t), s.beta(t)), "do not fit together"),
        "a large guard": (lambda x, t, s: x / torch.hypot(*s.weights(t, x)[:2]).add(1e-3), "nearly right"),
        "one time only": (lambda x, t, s: x / math.hypot(s.alpha(t), s.beta(t)), "raised"),
        "the library's": (schedules.to_variance_preserving, ASKS),
    },
    "convert_output": {
        **ways("convert_output", "no shape", "a large guard", "clamped"),
        "from data only": (lambda *args: CONVERT(*args) if args[4] == "data" else None, "is there a return"),
        "through the library's halves": (halves_by_the_library, ASKS),
        "the library's": (lambda v, x, t, s, a, b: conversions.convert(v, x, t, s, source=a, target=b), ASKS),
    },
    "x_mse_weight": {
        **ways("x_mse_weight", "a large guard"),
        "1.0 for the data": (lambda o, t, s: 1.0 if o == "data" else FACTOR(o, t, s), "found the number 1.0"),
        "one number": (lambda *args: FACTOR(*args).mean(), "shape"),
        "a column": (lambda *args: FACTOR(*args)[..., None], "shape"),
        "the library's": (conversions.x_mse_weight, ASKS),
    },
    "loss_over_log_snr": {
        **ways("loss_over_log_snr", "no shape", "clamped"),
        "a float": (lambda *args: LOSS(*args).item(), "no gradient reaches"),
        "one per state": (lambda *args: LOSS(*args).expand(len(args[1])), "one number for the whole batch"),
        "own noise": (lambda u, z, _, *rest: LOSS(u, z, torch.randn_like(z), *rest), "random numbers of its own"),
        "a column of times": (lambda u, *a: LOSS(lambda x, t: u(x, coefficient(t, x)), *a), "hand t on as it came"),
        "(t, x)": (lambda u, *rest: LOSS(lambda x, t: u(t, x), *rest), "raised"),
        "the library's": (lambda u, z, e, t, s, w: losses.loss_over_log_snr(u, s, z, w, -5.0, 5.0), ASKS),
    },
    "effective_weight": {
        "1.0 for the noise": (lambda o, t, s: 1.0 if o == "noise" else WEIGHT(o, t, s), "found the number 1.0"),
        "the library's": (lambda o, t, s: losses.effective_weight(o, s.log_snr(t), s), ASKS),
    },
    "as_vector_field": {
        "no shape": (unshaped, "do not fit together"),
        "the field at once": (lambda f, o, a, b: FLOW(f, o, a, b)(torch.ones(3, 2), 0.5), "found a tensor"),
        "one time for all": (lambda f, *rest: FLOW(lambda x, t: f(x, t.mean()), *rest), ""),
        "a column of times": (
            lambda f, *rest: FLOW(lambda x, t: f(x, coefficient(t, x)), *rest),
            "hand t on as it came",
        ),
        "(t, x)": (lambda f, *rest: FLOW(lambda x, t: f(t, x), *rest), "raised"),
        "of the last call": (of_the_last_call, ""),
        "with a large guard": (guarded, "nearly right"),
    },
    "ddim_step": {
        **ways("ddim_step", "no shape", "clamped"),
        "fresh noise": (fresh_noise, "random numbers of its own"),
        "noise returned too": (lambda *args: (DDIM(*args), args[0]), "found a tuple"),
        "the library's": (lambda x, z, t, s, a: samplers.ddim(lambda x, t: z, x, a, [t, s], output="data"), ASKS),
    },
    "ddpm_step": {
        **ways("ddpm_step", "no shape"),
        "noise in place": (noise_in_place, "changed a tensor"),
        "the library's": (renoised_by_the_library, ASKS),
    },
    "schedule_from_sde": {
        "the last of each": (lambda *args: [part[-1] for part in SCHEDULE(*args)], "shape"),
        "another grid": (lambda f, g, s: SCHEDULE(f, g, torch.linspace(0, 1, len(s)).to(s)), ""),
        "a schedule": (lambda f, g, s: DiffusionSchedule(f, lambda r: g(r).sqrt()), "α and β should come back"),
        "the library's": (integrated_by_the_library, ASKS),
    },
    "path_curvature": {
        "one per path": (of_each_path, "one number"),
        "for the plane": (lambda x: CURVATURE(x.flatten(2)[..., :2]), ""),
        "halves": (lambda x: of_each_path(x).square().mean().sqrt(), ""),
        "the library's": (metrics.path_curvature, ASKS),
    },
}
