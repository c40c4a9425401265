"""Lab 5: one model in the languages of diffusion and of flow matching.

Truth comes from states made of known data and noise, so that every output, error and step is known before anything is
converted; from autograd for all speeds; from the library's inverse of λ; from diffusions and circles in closed form.
"""

import math
from functools import partial
from itertools import permutations
from types import SimpleNamespace as Parts

import torch

from fmlab import conversions, metrics, schedules
from fmlab.checks import judges
from fmlab.checks.compare import Look
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Field, Powers, Weighted, states, times
from fmlab.checks.lab import Lab
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient

lab = Lab("lab5")

F32, F64 = torch.float32, torch.float64


def double(t):
    return torch.as_tensor(t, dtype=F64)


def like(value, t):
    """A result for the time t: of its dtype for a tensor, a number for a number."""
    return value.to(t) if isinstance(t, torch.Tensor) else float(value)


def at(schedule, t) -> str:
    """For which schedule and times something is asked, in words."""
    count = torch.as_tensor(t).numel()
    return f"for {schedule} at {count} times" if count > 1 else f"for {schedule} at t = {float(t):g}"


def spoken(output: str) -> str:
    return output.replace("_", " ")


def sample(seed, schedule, t, shape, dtype):
    """Data, noise, and the states made of them."""
    z, noise = states(seed, 2, *shape, dtype=dtype)
    a, b, *_ = schedule.weights(t, z)
    return z, noise, a * z + b * noise


ROWS = {  # the weights of data and noise in each output
    "data": lambda a, b, *dots: (1, 0),
    "noise": lambda a, b, *dots: (0, 1),
    "v": lambda a, b, *dots: (-b, a),
    "vector_field": lambda a, b, *dots: dots,
    "score": lambda a, b, *dots: (0, -1 / b),
}


def outputs(z, noise, *weights) -> dict:
    """All five outputs of known data and noise."""
    rows = {name: row(*weights) for name, row in ROWS.items()}
    return {name: c * z + d * noise for name, (c, d) in rows.items()}


def slope(function, t):
    """The derivative of a function of time, by autograd."""
    t = double(t).clone().requires_grad_()
    return torch.autograd.grad((function(t) + 0 * t).sum(), t)[0]


def speed(t, schedule):
    """λ̇ by autograd."""
    return slope(lambda t: 2 * (schedule.alpha(t) / schedule.beta(t)).log(), t)


def measured_factors(t, schedule) -> dict:
    """The squared error of each output over that of the data, for one wrong guess of the data in a known state."""
    t = double(t)
    z, noise, guess = states(90, 3, max(1, t.numel()), 2, dtype=F64)
    a, b, *dots = schedule.weights(t, z)
    right, wrong = outputs(z, noise, a, b, *dots), outputs(guess, noise + a * (z - guess) / b, a, b, *dots)
    errors = {name: (wrong[name] - right[name]).square().sum(1) for name in ROWS}
    return {name: (error / errors["data"]).reshape(t.shape) for name, error in errors.items()}


# --- schedules --------------------------------------------------------------------------------------------------------


@lab.exercise(
    reread=("eq-log-snr", "the equation for λ_t above the exercise"),
    passed="one number per time tells all schedules",
    hints=(
        "Signal is the part α z of the state, noise the part β ε. How large is each of them, squared?",
        "The ratio is α²/β²; the logarithm is the natural one.",
        "schedule.alpha(t) and schedule.beta(t) are tensors, even for a number t; take the difference of their logs.",
    ),
    withhold=("schedules.Schedule.log_snr",),
    library=lambda t, schedule: schedule.log_snr(t),
    visible=[
        (Cosine(), [-2.3, 0.7, 1.9]),
        (Bent(), 0.8),
        (VE(5.0), [-2 * math.log(5), 1.4], F64),
        (LinearVP(), torch.tensor(-1.6)),
        (CondOT(), [[-8.9, 9.1, 0.3], [-0.6, 3.2, -4.4]], F64),
        (Powers(), -1.7),
    ],
    terms=lambda t, schedule: (schedule.alpha(t), schedule.beta(t), torch.as_tensor(t)),
    mistakes={
        "α and β are not squared": lambda a, b, t: (a / b).log(),
        "the ratio is upside down: signal over noise": lambda a, b, t: 2 * (b / a).log(),
        "the logarithm is missing": lambda a, b, t: (a / b) ** 2,
        "two logarithms were divided; the log of a ratio is a difference": lambda a, b, t: a.log() / b.log(),
        "only α is squared": lambda a, b, t: (a**2 / b).log(),
        "the logarithm was squared, not its argument": lambda a, b, t: (a / b).log() ** 2,
        "the noise is left out": lambda a, b, t: 2 * a.log(),
        "the signal is left out": lambda a, b, t: -2 * b.log(),
        "the logarithm has base 10": lambda a, b, t: 2 * (a / b).log10(),
        "signal is compared with signal and noise together": lambda a, b, t: (a**2 / (a**2 + b**2)).log(),
        "this is λ of CondOT, whatever the schedule": lambda a, b, t: 2 * (t / (1 - t)).log(),
        "β² was replaced by 1 − α², right for Cosine and LinearVP only": lambda a, b, t: (a**2 / (1 - a**2)).log(),
    },
)
def log_snr(schedule, snr, dtype=F32):
    """The time at which λ has a value is known by the library's inverse; a number for a number."""
    t = schedule.time_at(double(snr))
    t = float(t) if isinstance(snr, float) else t.to(dtype)
    return Case(f"λ {at(schedule, t)}", (t, schedule), like(double(snr), t))


PLACES = [
    (Bent(), times(4), (4, 2)),
    (Cosine(), torch.tensor(0.35), (4, 1, 2, 3)),
    (VE(5.0), 0.62, (1, 3)),
    (Powers(), times(3, dtype=F64), (3, 2, 2, 3), F64),
    (CondOT(), 0.98, (2, 5), F64),
    (LinearVP(), 0.03, (3, 4), F64),
]


@lab.exercise(
    reread=("about-to-variance-preserving", "the text of the exercise"),
    passed="one schedule can stand for all",
    hints=(
        "Multiplying a state by c multiplies both weights by c, and leaves their ratio, and λ, as they are.",
        "Which c makes (cα)² + (cβ)² equal to 1?",
        "Divide x by √(α² + β²), shaped by coefficient(…, x) so that each state gets the factor of its own time.",
    ),
    withhold=("schedules.to_variance_preserving",),
    library=schedules.to_variance_preserving,
    visible=[*PLACES, (CondOT(0.1), 1.0, (2, 3)), (VE(5.0), torch.tensor([0.0, 1.0]), (2, 2))],
    terms=lambda x, t, schedule: (x, *schedule.weights(t, x)[:2]),
    mistakes={
        "the square root is missing: the length of (α, β) is √(α² + β²)": lambda x, a, b: x / (a**2 + b**2),
        "the states were multiplied by √(α² + β²), not divided": lambda x, a, b: x * (a**2 + b**2).sqrt(),
        "the states were divided by α + β": lambda x, a, b: x / (a + b),
        "the states were divided by √(α + β): α and β should be squared": lambda x, a, b: x / (a + b).sqrt(),
        "the states were divided by α alone; that gives a variance-exploding schedule": lambda x, a, b: x / a,
        "nothing was rescaled": lambda x, a, b: x,
        "each state was divided by its own length": lambda x, *_: x / coefficient(x.flatten(1).norm(dim=1), x),
        "the sign under the root is wrong": lambda x, a, b: x / (a**2 - b**2).sqrt(),
        "the noise was thought to have the weight √(1 − α²)": lambda x, a, b: x * (1 - a**2).sqrt() / b,
    },
)
def to_variance_preserving(schedule, t, shape, dtype=F32):
    """The same data and noise, with the weights that a variance-preserving schedule has at this λ."""
    z, noise, x = sample(1, schedule, t, shape, dtype)
    snr = coefficient(schedule.log_snr(t), x)
    twin = torch.sigmoid(snr).sqrt() * z + torch.sigmoid(-snr).sqrt() * noise
    return Case(f"the rescaled state {at(schedule, t)}", (x, t, schedule), twin)


# --- outputs ----------------------------------------------------------------------------------------------------------


def conversion(answer, case):
    """Each output from each, at last from itself."""
    for source, target in (*permutations(ROWS, 2), *((name, name) for name in ROWS)):
        what = f"the {spoken(target)} from the {spoken(source)} {case.what}"
        yield Look(what, answer(case.known[source], *case.args[1:4], source, target), case.known[target])


def translated(value, x, t, schedule, source, target, exchanged=False, sign=1, **wrong):
    """A conversion by Cramer's rule, with some rows of the table wrong, or some part of the rule."""
    a, b, *dots = schedule.weights(t, x)
    (c, d), (e, f) = ((ROWS | wrong)[name](a, b, *dots) for name in (source, target))
    if exchanged:
        a, b = b, a
    z, noise = (d * x - b * value) / (a * d - b * c), (a * value - c * x) / (a * d - b * c)
    return sign * (e * z + f * noise)


misread = partial(partial, translated)


@lab.exercise(
    reread=("eq-state", "the state and the table above the exercise"),
    passed="twenty conversions, one rule",
    hints=(
        "Every output is a z + b ε. Write down (a, b) for the five names. The state itself is such a sum, too.",
        "State and value are two equations: α z + β ε = x and a z + b ε = value. Their determinant is α b − β a.",
        "Solve for z and ε by Cramer's rule, and return a z + b ε with the (a, b) of the target.",
    ),
    withhold=("conversions.convert", "samplers.data_and_noise"),
    library=lambda *args: conversions.convert(*args[:4], source=args[4], target=args[5]),
    judge=conversion,
    visible=PLACES,
    mistakes={
        "v has the wrong sign: v = αε − βz": misread(v=lambda a, b, *_: (b, -a)),
        "v has α and β exchanged: v = αε − βz": misread(v=lambda a, b, *_: (-a, b)),
        "the vector field is taken to be z − ε, as for CondOT": misread(vector_field=lambda *_: (1, -1)),
        "the vector field lost its dots: u = α̇z + β̇ε": misread(vector_field=lambda a, b, *_: (a, b)),
        "the sign of the score is missing: s = −ε/β": misread(score=lambda a, b, *_: (0, 1 / b)),
        "the score was taken to be −ε, not −ε/β": misread(score=lambda *_: (0, -1)),
        "the score was taken to be −ε/β², not −ε/β": misread(score=lambda a, b, *_: (0, -1 / b**2)),
        "α and β are exchanged in the state x = αz + βε": misread(exchanged=True),
        "the sign of the determinant is wrong; it is αb − βa": misread(sign=-1),
        "source and target are exchanged": lambda *args: translated(*args[:4], args[5], args[4]),
        "the value came back as it was": lambda value, *_: value,
        "the target is ignored: this is always the data": lambda *args: translated(*args[:5], "data"),
        "the source is ignored: the value was taken for the data": lambda *args: translated(*args[:4], "data", args[5]),
    },
)
def convert_output(schedule, t, shape, dtype=F32):
    """Every output of known data and noise is known."""
    z, noise, x = sample(3, schedule, t, shape, dtype)
    known = outputs(z, noise, *schedule.weights(t, x))
    return Case(at(schedule, t), (z, x, t, schedule, "data", "noise"), known=known)


def of_each_output(answer, case):
    """case.known: what is asked for each output."""
    for output, expected in case.known.items():
        yield Look(f"{case.what} of the {spoken(output)} {case.where}", answer(output, *case.args[1:]), expected)


TIMES = [*(place[:2] for place in PLACES[:-1]), (LinearVP(), 0.12)]  # at 0.03 even a guard of 1e-8 shows


def factor_terms(output, t, schedule):
    """The weights c and d of data and noise in the output, α/β, β, and the name of the output."""
    a, b = schedule.alpha(t), schedule.beta(t)
    c, d = ROWS[output](a, b, schedule.alpha_dot(t), schedule.beta_dot(t))
    return c + 0 * a, d + 0 * a, a / b, b, output


def instead(name, formula):
    """The right factor of each output but one, whose formula in α/β and β is wrong."""
    return lambda c, d, r, b, output: formula(r, b) if output == name else (c - d * r) ** 2


@lab.exercise(
    reread=("eq-weight", "the equation and the table above the exercise"),
    passed="an output is a choice of weight",
    hints=(
        "The state x is known, so z and ε cannot be wrong independently. By how much is ε off, if z is off by e?",
        "From x = α z + β ε, the error of ε is −(α/β) e. The error of a z + b ε is then (a − b α/β) e.",
        "Square that factor, for the row (a, b) of the output; for the data it is 1, as a tensor of the shape of t.",
    ),
    withhold=("conversions.x_mse_weight",),
    library=conversions.x_mse_weight,
    judge=of_each_output,
    visible=TIMES,
    terms=factor_terms,
    mistakes={
        "the square is missing": lambda c, d, r, *_: c - d * r,
        "the factor is upside down": lambda c, d, r, *_: 1 / (c - d * r) ** 2,
        "the factor is that of the data for every output": lambda c, d, r, *_: 1 + 0 * r,
        "the error of the noise lost its sign: it is −α/β times that of the data": lambda c, d, r, *_: (c + d * r) ** 2,
        "α/β is upside down": lambda c, d, r, *_: (c - d / r) ** 2,
        "noise and data were taken to be off by the same": lambda c, d, *_: (c + d) ** 2,
        "only the data in the output were counted; the noise is off too": lambda c, *_: c**2,
        "only the noise in the output was counted; the data are off too": lambda c, d, r, *_: (d * r) ** 2,
        "the squares were added before the errors were: square the sum": lambda c, d, r, *_: c**2 + (d * r) ** 2,
        "the row of v has e^{−λ}, a misprint for e^λ": instead("v", lambda r, b: (b / r**2 + b) ** 2),
        "β² is missing in the row of v": instead("v", lambda r, b: (r**2 + 1) ** 2),
        "the row of the vector field is right for CondOT only": instead("vector_field", lambda r, b: (1 + r) ** 2),
        "the score was taken for the noise: it is −ε/β": instead("score", lambda r, b: r**2),
        "the β of the score −ε/β is not squared with the rest": instead("score", lambda r, b: r**2 / b),
    },
)
def x_mse_weight(schedule, t):
    """The factors as they are measured, for one wrong guess."""
    factors = {name: like(factor, t) for name, factor in measured_factors(t, schedule).items()}
    return Case("the factor", ("data", t, schedule), known=factors, where=at(schedule, t))


# --- losses -----------------------------------------------------------------------------------------------------------


def loss_parts(model, z, noise, t, schedule, weight):
    """mean(factor, …) is the mean of factor · ‖model(x, t) − target‖²; full is w λ̇, of data and of noise."""
    a, b, *_ = schedule.weights(t, z)
    x, w, da, db = a * z + b * noise, weight(schedule.log_snr(t)), schedule.alpha_dot(t), schedule.beta_dot(t)
    p = Parts(a=a, b=b, z=z, noise=noise, w=w, squares=(model(x, t) - noise).square(), dots=2 * (da - db))
    p.of_data, p.of_noise = 2 * w * da / schedule.alpha(t), -2 * w * db / schedule.beta(t)
    p.full, p.w_of_t = p.of_data + p.of_noise, weight(t)
    p.mean = lambda factor, x=x, target=noise: (factor * (model(x, t) - target).flatten(1).square().sum(1)).mean()
    return p


@lab.exercise(
    reread=("eq-loss", "the equation for the loss above the exercise"),
    passed="time has gone from the loss",
    hints=(
        "Step by step: the states, the prediction, one squared error per state, one factor per state, the mean.",
        "The error is that of the noise, summed over the coordinates of a state; its factor is w(λ) λ̇.",
        "Errors, λ̇ and weight(schedule.log_snr(t)) all have shape (n,): multiply the three, then take the mean.",
    ),
    withhold=("losses.loss_over_log_snr", "losses.score_matching_loss", "losses.ddpm_loss"),
    library=lambda *args: (lambda p: p.mean(p.full))(loss_parts(*args)),
    judge=judges.loss,
    visible=[
        (Bent(), times(4), (4, 2), 1.3),
        (VE(5.0), times(3, dtype=F64), (3, 2, 2, 3), -0.6, F64),
        (CondOT(), torch.tensor([0.02, 0.31, 0.98], dtype=F64), (3, 5), 0.4, F64),
        (Cosine(), torch.tensor([0.37]), (1, 3), 1.3),
    ],
    terms=lambda *args: (loss_parts(*args),),
    mistakes={
        "the speed λ̇ is missing": lambda p: p.mean(p.w),
        "the weight w(λ) is missing": lambda p: p.mean(p.full / p.w),
        "λ̇ divides; it should multiply": lambda p: p.mean(p.w**2 / p.full),
        "the factor 2 of λ̇ is missing": lambda p: p.mean(p.full / 2),
        "λ̇ has the wrong sign": lambda p: p.mean(-p.full),
        "the sign between the two parts of λ̇ is wrong": lambda p: p.mean(p.of_data - p.of_noise),
        "λ̇ has lost the part of the noise": lambda p: p.mean(p.of_data),
        "λ̇ lost its denominators: it is 2 (α̇/α − β̇/β)": lambda p: p.mean(p.w * p.dots),
        "the mean was taken over the coordinates too; ‖·‖² is their sum": lambda p: p.mean(p.full / p.z[0].numel()),
        "an image was not flattened: sums along one dimension": lambda p: (p.full * p.squares.sum(1)).mean(),
        "an image was not flattened: sums along its rows": lambda p: (p.full * p.squares.sum(-1)).mean(),
        "the batch was summed, not averaged": lambda p: p.mean(p.full) * len(p.z),
        "the square is missing from the norm": lambda p: (p.full * p.squares.flatten(1).sum(1).sqrt()).mean(),
        "the weight was taken at t instead of at λ_t": lambda p: p.mean(p.full / p.w * p.w_of_t),
        "the model was given the data z instead of the state x": lambda p: p.mean(p.full, x=p.z),
        "α and β are exchanged in the state": lambda p: p.mean(p.full, x=p.b * p.z + p.a * p.noise),
        "the prediction was compared with the data; it is one of the noise": lambda p: p.mean(p.full, target=p.z),
        "the mean was taken before weighting: each error has a weight of its own": lambda p: p.mean(1) * p.full.mean(),
    },
)
def loss_over_log_snr(schedule, t, shape, middle, dtype=F32):
    """Row by row, with λ̇ by autograd; w(λ) falls around λ = middle."""
    z, noise, x = sample(5, schedule, t, shape, dtype)
    model = Weighted(dtype=dtype)

    def weight(snr):
        return torch.sigmoid(middle - snr) + 0.1

    factors = weight(schedule.log_snr(t)) * speed(t, schedule).to(t)
    batch = zip(factors, model.value(x, t), noise, strict=True)
    loss = sum(factor * (row - wanted).square().sum() for factor, row, wanted in batch) / len(z)
    args = model, z, noise, t, schedule, weight
    return Case(f"the loss {at(schedule, t)}", args, loss, weights=model.weights)


def weight_terms(output, t, schedule):
    """The factors of the output and of the noise, λ̇, its part from α, and the time."""
    factors = (conversions.x_mse_weight(name, t, schedule) for name in (output, "noise"))
    part = 2 * schedule.alpha_dot(t) / schedule.alpha(t)
    return *factors, schedule.log_snr_dot(t), part, torch.as_tensor(t)


@lab.exercise(
    reread=("eq-effective", "the equation above the exercise"),
    passed="every recipe has its w(λ)",
    hints=(
        "Both errors are known multiples of the error of the data. What is the one in units of the other?",
        "The output's error is factor(output)/factor(noise) times the error of the noise.",
        "That ratio is w λ̇, so divide it by λ̇, schedule.log_snr_dot(t).",
    ),
    withhold=("losses.effective_weight",),
    library=lambda *args: (lambda w, n, r, *_: w / n / r)(*weight_terms(*args)),
    judge=of_each_output,
    visible=TIMES,
    terms=weight_terms,
    mistakes={
        "λ̇ is missing": lambda w, n, r, *_: w / n,
        "λ̇ multiplies; it should divide": lambda w, n, r, *_: w / n * r,
        "the weight is upside down": lambda w, n, r, *_: n / w * r,
        "the factor 2 of λ̇ is missing": lambda w, n, r, *_: w / n / (r / 2),
        "λ̇ has the wrong sign": lambda w, n, r, *_: -w / n / r,
        "the sign between the two parts of λ̇ is wrong": lambda w, n, r, part, *_: w / n / (2 * part - r),
        "λ̇ has lost the part of the noise": lambda w, n, r, part, *_: w / n / part,
        "λ̇ is that of CondOT, whatever the schedule": lambda w, n, r, part, t: w / n * t * (1 - t) / 2,
        "this weighs the error of the data; divide by the factor of the noise": lambda w, n, r, *_: w / r,
        "this is the output's factor; it is not yet divided by that of the noise and by λ̇": lambda w, *_: w,
        "the factors were multiplied; they should be divided": lambda w, n, r, *_: w * n / r,
        "the ratio of the factors is upside down": lambda w, n, r, *_: n / w / r,
    },
)
def effective_weight(schedule, t):
    """From measured factors, and λ̇ by autograd."""
    factors, rate = measured_factors(t, schedule), speed(t, schedule)
    known = {name: like(factor / factors["noise"] / rate, t) for name, factor in factors.items()}
    return Case("the weight", ("data", t, schedule), known=known, where=at(schedule, t))


# --- a network in the other language ----------------------------------------------------------------------------------


def of_gaussian(output, schedule, mean, variance):
    """The best possible network for data N(mean, variance), the same in every coordinate, that predicts this output."""

    def network(x, t):
        a, b, *dots = (value.to(x) for value in schedule.weights(t, x))
        z_hat = mean + a * variance * (x - a * mean) / (a**2 * variance + b**2)
        return outputs(z_hat, (x - a * z_hat) / b, a, b, *dots)[output]

    return network


def carried(scale=lambda a, b, c, d: b / d, asked=None, first=None, second=None, **change):
    """A translation with one thing wrong: the factor of the state, the time asked about, or a conversion.

    a, b: the weights of the source at its time r; c, d: those of the target at t.
    """

    def translate(network, output, source, target):
        def field(x, t):
            r = asked(t, source, target) if asked else source.time_at(target.log_snr(t))
            (a, b, *_), (c, d, *_) = source.weights(r, x), target.weights(t, x)
            x_r = x * scale(a, b, c, d)
            p = Parts(x=x, t=t, x_r=x_r, r=r, source=source, target=target, value=network(x_r, r))
            p.z_hat = translated(*(first or source_first)(p), change.get("output", output), "data")
            return translated(*(second or target_second)(p), "vector_field") if change.get("convert", True) else p.z_hat

        return field

    return translate


def source_first(p):
    return p.value, p.x_r, p.r, p.source


def target_second(p):
    return p.z_hat, p.x, p.t, p.target, "data"


@lab.exercise(
    reread=("about-as-vector-field", "the four steps of the exercise"),
    passed="one network, any schedule, any output",
    hints=(
        "At which time has the source seen as much noise as the target has at t? Both have the same log-SNR then.",
        "r = source.time_at(target.log_snr(t)); the state of the source is x times source.beta(r) / target.beta(t).",
        "Ask network(x_r, r). Convert it into data with x_r, r, source, and the data into a field with x, t, target.",
    ),
    library=carried(),
    judge=judges.function,
    visible=[
        ("noise", LinearVP(), CondOT(), times(4), (4, 2)),
        ("v", Cosine(), Bent(), torch.tensor(0.35, dtype=F64), (4, 1, 2, 3), F64),
        ("vector_field", Powers(), VE(5.0), 0.62, (1, 3), F64),
        ("data", VE(30.0), Powers(), times(3, 0.3, 0.8, dtype=F64), (3, 2, 2, 3), F64),
        ("score", Bent(), CondOT(), 0.97, (2, 5), F64),
    ],
    mistakes={
        "the state was not rescaled: the source has other weights at this λ": carried(lambda a, b, c, d: 1),
        "the state was rescaled the wrong way: times β of the source over β of the target": carried(
            lambda a, b, c, d: d / b
        ),
        "the state was rescaled to α² + β² = 1; the source's own weights may be longer": carried(
            lambda a, b, c, d: 1 / (c**2 + d**2).sqrt()
        ),
        "the network was asked at t; the source has the same λ at another time": carried(asked=lambda t, *_: t),
        "the network was asked at t, and nothing was rescaled": carried(lambda *_: 1, asked=lambda t, *_: t),
        "the schedules are exchanged: r is the time at which the source has the λ of the target": carried(
            asked=lambda t, source, target: target.time_at(source.log_snr(t))
        ),
        "the first conversion took the schedule of the target; the network is of the source": carried(
            first=lambda p: (p.value, p.x_r, p.r, p.target)
        ),
        "the first conversion took the state of the target": carried(first=lambda p: (p.value, p.x, p.r, p.source)),
        "the first conversion took x and t of the target": carried(first=lambda p: (p.value, p.x, p.t, p.target)),
        "the second conversion took state and time of the source": carried(
            second=lambda p: (p.z_hat, p.x_r, p.r, p.target, "data")
        ),
        "the second conversion took the state of the source": carried(
            second=lambda p: (p.z_hat, p.x_r, p.t, p.target, "data")
        ),
        "this is the field on the source; convert the guess with x, t and the target": carried(
            second=lambda p: (p.z_hat, p.x_r, p.r, p.source, "data")
        ),
        "the output was taken for the noise, whatever its name": carried(output="noise"),
        "this is the guess of the data; it is not yet converted into the vector field": carried(convert=False),
        "the network's own output came back": lambda network, output, source, target: network,
    },
)
def as_vector_field(output, source, target, t, shape, dtype=F32):
    """The best network for Gaussian data is known in closed form on every schedule, with every output."""
    best = of_gaussian(output, source, 0.7, 0.3)
    field = of_gaussian("vector_field", target, 0.7, 0.3)
    x, one = states(13, *shape, dtype=dtype), torch.tensor(0.41, dtype=dtype)
    calls = [
        (f"the field {at(target, time)} from the {spoken(output)} on {source}", (x, time), field(x, time))
        for time in (t, one, 0.55)
    ]
    others = Field(lambda x, t: x + t), "noise", CondOT(), Cosine()
    network = Field(best)
    return Case("the field", (network, output, source, target), calls=calls, others=others)


# --- samplers ---------------------------------------------------------------------------------------------------------


def step_parts(x, z_hat, t, s, schedule, xi=None, churn=0.0):
    """Guess z, its noise e, the weights a, b at t and A, B at s; q is what this churn keeps of e, one what 1 does."""
    (a, b, da, db), (a_s, b_s, *_) = schedule.weights(t, x), schedule.weights(s, x)
    p = Parts(x=x, z=z_hat, e=(x - a * z_hat) / b, a=a, b=b, A=a_s, B=b_s, h=coefficient(s - t, x), xi=xi, churn=churn)
    p.euler, p.one = x + p.h * (da * z_hat + db * p.e), a * b_s / (b * a_s)
    p.q = p.one**churn
    return p


def rest(q):
    return (1 - q**2).sqrt()


@lab.exercise(
    reread=("eq-ddim", "the two equations above the exercise"),
    passed="the guess, moved to the next noise level",
    hints=(
        "The guess of the data is kept for the whole step. Which noise goes with it, in the state you have?",
        "At time t the state is α_t ẑ + β_t ε̂; solve for ε̂.",
        "Then mix ẑ and ε̂ with the weights of time s. All four weights go through coefficient(…, x).",
    ),
    withhold=("samplers.DDIM.step", "samplers.ddim"),
    library=lambda *args: (lambda p: p.A * p.z + p.B * p.e)(step_parts(*args)),
    visible=[
        (Bent(), times(4, 0.1, 0.6), times(4, 0.3, 0.8), (4, 2)),
        (Cosine(), torch.tensor(0.35), torch.tensor(0.43), (4, 1, 2, 3)),
        (VE(5.0), 0.0, 0.17, (1, 3)),
        (Powers(), times(3, 0.2, 0.5, dtype=F64), times(3, 0.3, 0.9, dtype=F64), (3, 2, 2, 3), F64),
        (LinearVP(), 0.03, 0.98, (2, 5), F64),
        (CondOT(0.1), 0.98, 1.0, (3, 4), F64),
    ],
    terms=lambda *args: (step_parts(*args),),
    mistakes={
        "this is Euler's step along the vector field; DDIM keeps the guess, not the velocity of the state": lambda p: (
            p.euler
        ),
        "this is Euler's step on CondOT, whatever the schedule": lambda p: p.x + p.h * (p.z - p.e),
        "t and s are exchanged": lambda p: p.a * p.z + p.b * (p.x - p.A * p.z) / p.B,
        "the noise kept its old weight β_t": lambda p: p.A * p.z + p.b * p.e,
        "the data kept their old weight α_t": lambda p: p.a * p.z + p.B * p.e,
        "the noise was worked out with the weights at s": lambda p: p.A * p.z + p.B * (p.x - p.A * p.z) / p.B,
        "the noise was not divided by β_t": lambda p: p.A * p.z + p.B * (p.x - p.a * p.z),
        "the state x was used in place of the noise": lambda p: p.A * p.z + p.B * p.x,
        "α and β are exchanged in the new state": lambda p: p.B * p.z + p.A * p.e,
        "the noise is missing its part of the data: ε = (x − α z)/β": lambda p: p.A * p.z + p.B * p.x / p.b,
        "the parentheses are missing in ε = (x − α z)/β": lambda p: p.A * p.z + p.B * (p.x - p.a * p.z / p.b),
        "the sign in ε = (x − α z)/β is wrong": lambda p: p.A * p.z + p.B * (p.x + p.a * p.z) / p.b,
        "the guess was taken for the noise": lambda p: p.A * (p.x - p.b * p.z) / p.a + p.B * p.z,
        "the state and the guess are exchanged": lambda p: p.A * p.x + p.B * (p.z - p.a * p.x) / p.b,
    },
)
def ddim_step(schedule, t, s, shape, dtype=F32):
    """The same data and noise, at another time."""
    z, noise, x = sample(7, schedule, t, shape, dtype)
    a, b, *_ = schedule.weights(s, x)
    return Case(f"the step {at(schedule, t)}", (x, z, t, s, schedule), a * z + b * noise)


def remixed(mix):
    """A step of DDPM with other weights of ε̂ and ξ, a function of q, of that by churn 1, and of the churn."""

    def step(p):
        kept, fresh = mix(p.q, p.one, p.churn)
        return p.A * p.z + p.B * (kept * p.e + fresh * p.xi)

    return step


@lab.exercise(
    reread=("eq-churn", "the equation for x_s above the exercise"),
    passed="DDIM that goes too far, and noise that brings it back",
    hints=(
        "It is DDIM's step, but the noise in it is partly exchanged for new noise, so that its variance stays 1.",
        "Keep the share q of ε̂ and add √(1 − q²) of ξ. With more churn, less is kept.",
        "q is (α_t β_s / (β_t α_s)) to the power churn; the step is α_s ẑ + β_s (q ε̂ + √(1 − q²) ξ).",
    ),
    withhold=("samplers.DDPM.step", "samplers.ddpm"),
    library=lambda *args: remixed(lambda q, *_: (q, rest(q)))(step_parts(*args)),
    visible=[
        (Bent(), times(4, 0.1, 0.6), times(4, 0.3, 0.8), 0.6, (4, 2)),
        (Cosine(), torch.tensor(0.35), torch.tensor(0.43), 1.0, (4, 1, 2, 3)),
        (VE(5.0), 0.31, 0.47, 1.7, (1, 3)),
        (Powers(), times(3, 0.2, 0.5, dtype=F64), times(3, 0.3, 0.9, dtype=F64), 0.0, (3, 2, 2, 3), F64),
        (LinearVP(), 0.03, 0.98, 0.15, (2, 5), F64),
        (CondOT(), 0.9, 0.98, 2.3, (3, 4), F64),
    ],
    terms=lambda *args: (step_parts(*args),),
    mistakes={
        "the churn is ignored: this is churn 1": remixed(lambda q, one, churn: (one, rest(one))),
        "no noise is added: this is DDIM": remixed(lambda *_: (1, 0)),
        "the new noise is missing": remixed(lambda q, *_: (q, 0)),
        "q is squared: e^{−cΔλ} instead of e^{−cΔλ/2}": remixed(lambda q, *_: (q**2, rest(q**2))),
        "the sign of Δλ is wrong: q = e^{−cΔλ/2} is at most 1": remixed(lambda q, *_: (1 / q, rest(1 / q))),
        "t and s are exchanged": lambda p: p.a * p.z + p.b * ((p.x - p.A * p.z) / p.B / p.q + rest(1 / p.q) * p.xi),
        "the root is missing: the new noise has the weight √(1 − q²)": remixed(lambda q, *_: (q, 1 - q**2)),
        "the square is missing: the new noise has the weight √(1 − q²)": remixed(lambda q, *_: (q, (1 - q).sqrt())),
        "the new noise has the weight 1 − q; variances add up, so it is √(1 − q²)": remixed(lambda q, *_: (q, 1 - q)),
        "the new noise was added on top: scale the predicted one by q": remixed(lambda q, *_: (1, rest(q))),
        "the two weights q and √(1 − q²) are exchanged": remixed(lambda q, *_: (rest(q), q)),
        "the churn was multiplied to q; it is an exponent": remixed(lambda q, one, c: (c * one, rest(c * one))),
        "β_s is missing in front of the new noise": lambda p: p.A * p.z + p.B * p.q * p.e + rest(p.q) * p.xi,
        "the predicted noise was not divided by β_t": lambda p: p.A * p.z + p.B * (p.q * p.b * p.e + rest(p.q) * p.xi),
    },
)
def ddpm_step(schedule, t, s, churn, shape, dtype=F32):
    """DDIM to λ_s + churn (λ_s − λ_t), then the forward diffusion back to λ_s: two steps, in double precision."""
    z, noise, x = sample(9, schedule, t, shape, dtype)
    xi, exact = states(10, *shape, dtype=dtype), double(s)
    before, after = schedule.log_snr(double(t)), schedule.log_snr(exact)
    r = schedule.time_at(after + churn * (after - before))
    ratio = schedule.alpha(exact) / schedule.alpha(r)
    missing = (schedule.beta(exact) ** 2 - (ratio * schedule.beta(r)) ** 2).clamp(min=0).sqrt()
    a, b, *_ = schedule.weights(r, x)
    stepped = coefficient(ratio, x) * (a * z + b * noise) + coefficient(missing, x) * xi
    what = f"the step with churn {churn:g} {at(schedule, t)}"
    return Case(what, (x, z, t, s, schedule, xi, churn), stepped.to(dtype))


# --- diffusions -------------------------------------------------------------------------------------------------------


def cumulative(y, s):
    """The integral of y from the first to each of the times s."""
    return torch.cat([s.new_zeros(1), torch.cumulative_trapezoid(y, s)])


def integrated(f, g_squared, s, log_alpha=None):
    """α and β from the values of f and g², or from another logarithm of α."""
    alpha = (cumulative(f, s) if log_alpha is None else log_alpha).exp()
    return alpha, alpha * cumulative(g_squared / alpha**2, s).sqrt()


def with_alpha(rule):
    """The logarithm of α as a wrong function of f and s, and the β that comes of it."""
    return lambda f, g, s, *_: integrated(f, g, s, rule(f, s))


def with_beta(rule):
    """The right α, and β as a wrong function of it, of g² and s."""
    return lambda f, g, s, a, b: (a, rule(a, g, s))


@lab.exercise(
    reread=("eq-schedule", "the equations above the exercise"),
    passed="every linear diffusion is a schedule",
    hints=(
        "Integrate f first: that gives log α at every time of the grid. What is α at τ = 0?",
        "β²/α² is the integral of g²/α²; put a 0 in front of each cumulative integral, for the time 0.",
        "Return α = exp ∫ f, and β = α √(∫ g²/α²), both as tensors as long as tau.",
    ),
    withhold=("schedules.DiffusionSchedule.alpha", "schedules.DiffusionSchedule.beta"),
    library=lambda f, g_squared, s: integrated(f(s), g_squared(s), s),
    tolerance=2e-3,  # a rule of first order is off by half a step, times the change of the rate: by 1e-3 at most here
    visible=[
        (0.0, 1.1, 3.0, 0.7, torch.linspace(0, 1, 2001)),
        (-0.4, 1.7, 0.3, 1.9, 1.3 * torch.linspace(0, 1, 1801, dtype=F64) ** 1.4),
        (0.0, 0.0, 0.0, 2.6, torch.linspace(0, 0.8, 1501, dtype=F64)),
    ],
    terms=lambda f, g, s: (f(s), g(s), s, *integrated(f(s), g(s), s)),
    mistakes={
        "f was multiplied by τ instead of being integrated": with_alpha(lambda f, s: f * s),
        "this is exp f: f was not integrated": with_alpha(lambda f, s: f),
        "f was added up without the width of the steps": with_alpha(lambda f, s: f.cumsum(0)),
        "α grows: the sign of f is lost": with_alpha(lambda f, s: -cumulative(f, s)),
        "this is ∫ f; the exponential is missing": lambda f, g, s, a, b: (a.log(), b),
        "only the whole integral was used; α is wanted at every time": with_alpha(torch.trapezoid),
        "the integral lacks its first value, the 0 at τ = 0": with_alpha(torch.cumulative_trapezoid),
        "the steps of the grid were taken as equal": lambda f, g, s, *_: integrated(f, g, s[1] * torch.arange(len(s))),
        "α and β are exchanged": lambda f, g, s, a, b: (b, a),
        "this is β², not β": lambda f, g, s, a, b: (a, b**2),
        "α(τ)² is missing: noise shrinks after it was added": with_beta(lambda a, g, s: cumulative(g / a**2, s).sqrt()),
        "the noise never shrinks: α(τ)²/α(ρ)² is missing": with_beta(lambda a, g, s: cumulative(g, s).sqrt()),
        "noise shrinks before it was added: divide by α(ρ)²": with_beta(lambda a, g, s: a * cumulative(g, s).sqrt()),
        "α was not squared: the variance shrinks with α²": with_beta(lambda a, g, s: (a * cumulative(g / a, s)).sqrt()),
        "α(ρ)² multiplies; it should divide": with_beta(lambda a, g, s: a * cumulative(g * a**2, s).sqrt()),
        "this is β of a variance-preserving schedule, √(1 − α²)": with_beta(lambda a, g, s: (1 - a**2).sqrt()),
    },
)
def schedule_from_sde(f0, f1, c0, c1, s):
    """f = −f0 − f1 s shrinks the data to α = exp(−f0 s − ½ f1 s²), and g² = α² (c0 + 2 c1 s) adds up in closed form."""
    alpha = torch.exp(-f0 * s - f1 * s**2 / 2)
    beta = alpha * (c0 * s + c1 * s**2).sqrt()
    rates = (lambda s: -f0 - f1 * s), (lambda s: torch.exp(-2 * f0 * s - f1 * s**2) * (c0 + 2 * c1 * s))
    return Case(f"for times from 0 to {float(s[-1]):g}", (*rates, s), {"α": alpha, "β": beta})


# --- trajectories -----------------------------------------------------------------------------------------------------


def path_parts(x):
    """The moves between states (T − 1, n, *shape), and from end to end; the length of each, and of each trajectory."""
    p = Parts(moves=x.diff(dim=0), end=x[-1] - x[0], last=x[-1].flatten(1).norm(dim=1))
    p.steps, p.far = p.moves.flatten(2).norm(dim=2), p.end.flatten(1).norm(dim=1)
    p.long = p.steps.sum(0)
    return p


def ratio(long, far):
    return long.mean() / far.mean() - 1


@lab.exercise(
    reread=("eq-curvature", "the equation above the exercise"),
    passed="0 for straight lines alone",
    hints=(
        "How long is a trajectory of which you know only many points?",
        "Sum the norms of its steps, states.diff(dim=0), over time; the distance is the norm of last minus first.",
        "Flatten coordinates before the norms, average lengths and distances, divide one by the other, subtract 1.",
    ),
    withhold=("metrics.path_curvature",),
    library=metrics.path_curvature,
    visible=[
        ([(3.0, 3.1), (1.3, 4.4), (5.0, 0.7)], 37, (2,)),
        ([(0.4, 2.3), (2.7, 3.9)], 23, (2, 2, 3), F64),
        ([(1.7, 2.9)], 11, (4,)),
    ],
    terms=lambda states: (path_parts(states),),
    mistakes={
        "1 was not subtracted": lambda p: 1 + ratio(p.long, p.far),
        "the ratio was taken for each trajectory; divide the two means": lambda p: (p.long / p.far).mean() - 1,
        "the ratio is upside down": lambda p: ratio(p.far, p.long),
        "the mean distance was subtracted, not divided by": lambda p: (p.long - p.far).mean(),
        "the lengths were summed but the distances averaged": lambda p: ratio(p.long.sum(), p.far),
        "only the first trajectory was measured": lambda p: ratio(p.long[0], p.far[0]),
        "the steps were averaged, not summed": lambda p: ratio(p.steps, p.far),
        "the steps were squared, the distances not": lambda p: ratio(p.steps.square().sum(0), p.far),
        "steps and distances were squared": lambda p: ratio(p.steps.square().sum(0), p.far.square()),
        "one root was taken of all the squares of a trajectory": lambda p: ratio(p.steps.square().sum(0).sqrt(), p.far),
        "absolute values of coordinates were summed": lambda p: ratio(p.moves.abs().sum(), p.end.abs().sum()),
        "images not flattened: norms along the rows": lambda p: ratio(p.moves.norm(dim=-1).sum(0), p.end.norm(dim=-1)),
        "images not flattened: norms along one axis": lambda p: ratio(p.moves.norm(dim=2).sum(0), p.end.norm(dim=1)),
        "the distance was taken from the origin": lambda p: ratio(p.long, p.last),
    },
)
def path_curvature(arcs, count, shape, dtype=F32):
    """Arcs of circles, (radius, angle), in a plane of the space: `count` chords each, along turns of changing speed."""
    plane = torch.linalg.qr(states(11, math.prod(shape), 2, dtype=F64)).Q.T
    paths, length, distance = [], 0.0, 0.0
    for k, (radius, angle) in enumerate(arcs):
        turned = angle * (torch.arange(count + 1, dtype=F64) / count) ** (1.4 + k)
        paths.append(radius * torch.stack([turned.cos(), turned.sin()], dim=1) @ plane)
        length += 2 * radius * (turned.diff() / 2).sin().sum()
        distance += 2 * radius * math.sin(angle / 2)
    moving = torch.stack(paths, dim=1).unflatten(2, shape) + states(12, len(arcs), *shape, dtype=F64)
    what = f"the curvature of arcs in {math.prod(shape)} dimensions"
    return Case(what, (moving.to(dtype),), float(length / distance - 1))
