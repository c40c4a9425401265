"""Lab 5: one model in the languages of diffusion and of flow matching.

Truth comes from states made of known data and noise, so that every output, error and step is known before anything is
converted; from autograd for all speeds; from the library's inverse of λ; from diffusions and circles in closed form.
"""

from functools import partial
from itertools import permutations

import torch

from fmlab import conversions, losses, metrics, samplers, schedules
from fmlab.checks import judges
from fmlab.checks.compare import Look
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Bent, Powers, Weighted, states, times
from fmlab.checks.lab import Lab
from fmlab.schedules import VE, CondOT, Cosine, DiffusionSchedule, LinearVP, coefficient

lab = Lab("lab5")

F32, F64 = torch.float32, torch.float64
OUTPUTS = ("data", "noise", "velocity", "vector_field", "score")


def double(t):
    return torch.as_tensor(t, dtype=F64)


def like(value, t):
    """A result for the time t: of its dtype for a tensor, a number for a number."""
    return value.to(t) if isinstance(t, torch.Tensor) else float(value)


def at(schedule, t) -> str:
    """For which schedule and times something is asked, in words."""
    return f"for {schedule} at {len(t)} times" if getattr(t, "ndim", 0) else f"for {schedule} at t = {float(t):g}"


def sample(seed, schedule, t, shape, dtype):
    """Data, noise, and the states made of them."""
    z, noise = states(seed, 2, *shape, dtype=dtype)
    a, b, *_ = schedule.weights(t, z)
    return z, noise, a * z + b * noise


def outputs(z, noise, a, b, da, db) -> dict:
    """All five outputs of known data and noise."""
    known = z, noise, a * noise - b * z, da * z + db * noise, -noise / b
    return dict(zip(OUTPUTS, known, strict=True))


def rows(a, b, da, db) -> dict:
    """For each output, the weights of data and noise in it."""
    return dict(zip(OUTPUTS, ((1 + 0 * a, 0 * a), (0 * a, 1 + 0 * a), (-b, a), (da, db), (0 * a, -1 / b)), strict=True))


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
    errors = {name: (wrong[name] - right[name]).square().sum(1) for name in OUTPUTS}
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
        (VE(5.0), [-2 * torch.tensor(5.0).log().item(), 1.4], F64),
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
        "a root was taken where a square belongs": lambda a, b, t: (a / b).log() / 2,
        "the noise is left out": lambda a, b, t: 2 * a.log(),
        "the signal is left out": lambda a, b, t: -2 * b.log(),
        "the logarithm has base 10": lambda a, b, t: 2 * (a / b).log10(),
        "the logarithm has base 2": lambda a, b, t: 2 * (a / b).log2(),
        "signal is compared with signal and noise together": lambda a, b, t: (a**2 / (a**2 + b**2)).log(),
        "this is λ of CondOT, whatever the schedule": lambda a, b, t: 2 * (t / (1 - t)).log(),
        "this is λ of the cosine schedule, whatever the schedule": lambda a, b, t: 2 * (torch.pi / 2 * t).tan().log(),
        "β² was replaced by 1 − α², which is right for variance-preserving schedules only": lambda a, b, t: (
            a**2 / (1 - a**2)
        ).log(),
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
        "the states were divided by β alone": lambda x, a, b: x / b,
        "nothing was rescaled": lambda x, a, b: x,
        "each state was divided by its own length; the factor depends on time alone": lambda x, a, b: (
            x / coefficient(x.flatten(1).norm(dim=1), x)
        ),
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
    for source, target in (*permutations(OUTPUTS, 2), *((name, name) for name in OUTPUTS)):
        what = f"the {target} from the {source} {case.what}".replace("_", " ")
        yield Look(what, answer(case.known[source], *case.args, source, target), case.known[target])


def translated(value, x, t, schedule, source, target, exchanged=False, sign=-1, factor=1, **wrong):
    """A conversion by Cramer's rule, with some rows of the table wrong, or some part of the rule."""
    a, b, *dots = schedule.weights(t, x)
    table = rows(a, b, *dots) | {name: row(a, b) for name, row in wrong.items()}
    (c, d), (e, f) = table[source], table[target]
    if exchanged:
        a, b = b, a
    z, noise = (d * x - b * value) / (a * d + sign * b * c), (a * value - c * x) / (a * d + sign * b * c)
    return factor * (e * z + f * noise)


def misread(**wrong):
    return partial(translated, **wrong)


@lab.exercise(
    reread=("eq-state", "the state and the table above the exercise"),
    passed="twenty conversions, one rule",
    hints=(
        "Every output is a z + b ε. Write down (a, b) for the five names. The state itself is such a sum, too.",
        "State and value are two equations: α z + β ε = x and a z + b ε = value. Their determinant is α b − β a.",
        "Solve for z and ε by Cramer's rule, and return a z + b ε with the (a, b) of the target.",
    ),
    withhold=("conversions.convert", "samplers.data_and_noise"),
    library=lambda value, x, t, schedule, source, target: conversions.convert(
        value, x, t, schedule, source=source, target=target
    ),
    judge=conversion,
    visible=PLACES,
    mistakes={
        "the velocity has the wrong sign: v = αε − βz": misread(velocity=lambda a, b: (b, -a)),
        "the velocity has α and β exchanged: v = αε − βz": misread(velocity=lambda a, b: (-a, b)),
        "the velocity has a plus: v = αε − βz": misread(velocity=lambda a, b: (b, a)),
        "the velocity is taken to be ε − z": misread(velocity=lambda a, b: (-1 + 0 * a, 1 + 0 * a)),
        "the vector field is taken to be z − ε, which is right for CondOT only": misread(
            vector_field=lambda a, b: (1 + 0 * a, -1 + 0 * a)
        ),
        "the vector field lost its dots: u = α̇z + β̇ε": misread(vector_field=lambda a, b: (a, b)),
        "the sign of the score is missing: s = −ε/β": misread(score=lambda a, b: (0 * a, 1 / b)),
        "the score is −ε/β, not −ε": misread(score=lambda a, b: (0 * a, -1 + 0 * a)),
        "the score is −ε/β, not −ε/β²": misread(score=lambda a, b: (0 * a, -1 / b**2)),
        "the score is −ε/β, not −βε": misread(score=lambda a, b: (0 * a, -b)),
        "the score is −ε/β, not −ε/α": misread(score=lambda a, b: (0 * a, -1 / a)),
        "α and β are exchanged in the state x = αz + βε": misread(exchanged=True),
        "there is a plus in the determinant; it is αb − βa": misread(sign=1),
        "the sign of the determinant is wrong; it is αb − βa": misread(factor=-1),
        "source and target are exchanged": lambda *args: translated(*args[:4], args[5], args[4]),
        "the value came back as it was": lambda value, *_: value,
        "the state came back": lambda value, x, *_: x,
        "the target is ignored: this is always the data": lambda *args: translated(*args[:5], "data"),
        "the target is ignored: this is always the noise": lambda *args: translated(*args[:5], "noise"),
        "the source is ignored: the value was taken for the data": lambda *args: translated(*args[:4], "data", args[5]),
    },
)
def convert_output(schedule, t, shape, dtype=F32):
    """Every output of known data and noise is known."""
    z, noise, x = sample(3, schedule, t, shape, dtype)
    return Case(at(schedule, t), (x, t, schedule), known=outputs(z, noise, *schedule.weights(t, x)))


def of_each_output(answer, case):
    """case.known: a number per time for each output."""
    for output, expected in case.known.items():
        what = f"{case.what[0]} of the {output} {case.what[1]}".replace("_", " ")
        yield Look(what, answer(output, *case.args), expected)


TIMES = [
    (Bent(), times(4)),
    (Cosine(), torch.tensor(0.35)),
    (VE(5.0), 0.62),
    (Powers(), times(3, dtype=F64)),
    (CondOT(), 0.98),
    (LinearVP(), 0.03),
]


def factor_terms(output, t, schedule):
    """The output, its weights (c, d) of data and noise, and those of the state."""
    a, b, da, db = schedule.alpha(t), schedule.beta(t), schedule.alpha_dot(t), schedule.beta_dot(t)
    return output, *rows(a, b, da, db)[output], a, b


def instead(name, formula):
    """The right factor of each output but one, whose formula is wrong."""
    return lambda output, c, d, a, b: formula(a, b) if output == name else (c - d * a / b) ** 2


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
        "the square is missing": lambda output, c, d, a, b: (c - d * a / b).abs(),
        "the factor is upside down": lambda output, c, d, a, b: 1 / (c - d * a / b) ** 2,
        "the factor is that of the data for every output": lambda output, c, d, a, b: 1 + 0 * a,
        "the factor is that of the noise for every output": lambda output, c, d, a, b: (a / b) ** 2,
        "the error of the noise has lost its sign: it is −(α/β) times that of the data": lambda output, c, d, a, b: (
            (c + d * a / b) ** 2
        ),
        "α/β is upside down": lambda output, c, d, a, b: (c - d * b / a) ** 2,
        "noise and data were taken to be off by the same": lambda output, c, d, a, b: (c + d) ** 2,
        "only the data in the output were counted; the noise is off too": lambda output, c, d, a, b: c**2,
        "only the noise in the output was counted; the data are off too": lambda output, c, d, a, b: (d * a / b) ** 2,
        "the squares were added before the errors were: square the sum": lambda output, c, d, a, b: (
            c**2 + (d * a / b) ** 2
        ),
        "the row of the velocity is the one as printed, whose e^{−λ} should be e^λ": instead(
            "velocity", lambda a, b: b**2 * (b**2 / a**2 + 1) ** 2
        ),
        "β² is missing in the row of the velocity": instead("velocity", lambda a, b: (a**2 / b**2 + 1) ** 2),
        "the row of the vector field is right for CondOT only": instead("vector_field", lambda a, b: (1 + a / b) ** 2),
        "the score was taken for the noise: it is −ε/β": instead("score", lambda a, b: a**2 / b**2),
        "the β of the score −ε/β is not squared with the rest": instead("score", lambda a, b: a**2 / b**3),
    },
)
def x_mse_weight(schedule, t):
    """The factors as they are measured, for one wrong guess."""
    factors = {name: like(factor, t) for name, factor in measured_factors(t, schedule).items()}
    return Case(("the factor", at(schedule, t)), (t, schedule), known=factors)


# --- losses -----------------------------------------------------------------------------------------------------------


class Parts:
    """What the loss over λ is made of: w = w(λ), rate = λ̇, and means over the batch."""

    def __init__(self, model, z, noise, t, schedule, weight):
        self.model, self.z, self.noise, self.t, self.schedule, self.weight = model, z, noise, t, schedule, weight
        self.a, self.b, *_ = schedule.weights(t, z)
        self.x = self.a * z + self.b * noise
        self.snr, self.rate = schedule.log_snr(t), schedule.log_snr_dot(t)
        self.w, self.signal = weight(self.snr), schedule.alpha_dot(t) / schedule.alpha(t)

    def squares(self, x=None, target=None):
        """‖prediction − target‖² of each state, by default of the states and the noise that are right."""
        x, target = self.x if x is None else x, self.noise if target is None else target
        return (self.model(x, self.t) - target).flatten(1).square().sum(1)

    def mean(self, factor, **other):
        return (factor * self.squares(**other)).mean()


def formula_of_the_loss(*args):
    parts = Parts(*args)
    return parts.mean(parts.w * parts.rate)


@lab.exercise(
    reread=("eq-loss", "the equation for the loss above the exercise"),
    passed="time has gone from the loss",
    hints=(
        "Step by step: the states, the prediction, one squared error per state, one factor per state, the mean.",
        "The error is that of the noise, summed over the coordinates of a state; its factor is w(λ) λ̇.",
        "Errors, λ̇ and weight(schedule.log_snr(t)) all have shape (n,): multiply the three, then take the mean.",
    ),
    withhold=("losses.loss_over_log_snr", "losses.score_matching_loss", "losses.ddpm_loss"),
    library=formula_of_the_loss,
    judge=judges.loss,
    visible=[
        (Bent(), times(4), (4, 2), 1.3),
        (VE(5.0), times(3, dtype=F64), (3, 2, 2, 3), -0.6, F64),
        (CondOT(), torch.tensor([0.02, 0.31, 0.98], dtype=F64), (3, 5), 0.4, F64),
        (Cosine(), torch.tensor([0.37]), (1, 3), 1.3),
    ],
    terms=lambda *args: (Parts(*args),),
    mistakes={
        "the speed λ̇ is missing": lambda p: p.mean(p.w),
        "the weight w(λ) is missing": lambda p: p.mean(p.rate),
        "λ̇ divides; it should multiply": lambda p: p.mean(p.w / p.rate),
        "the factor 2 of λ̇ is missing": lambda p: p.mean(p.w * p.rate / 2),
        "λ̇ has the wrong sign": lambda p: p.mean(-p.w * p.rate),
        "the sign between the two parts of λ̇ is wrong": lambda p: p.mean(p.w * (4 * p.signal - p.rate)),
        "λ̇ has lost the part of the noise": lambda p: p.mean(p.w * 2 * p.signal),
        "λ̇ has lost the part of the data": lambda p: p.mean(p.w * (p.rate - 2 * p.signal)),
        "λ̇ is 2 (α̇/α − β̇/β), not 2 (α̇ − β̇)": lambda p: p.mean(
            p.w * 2 * (p.schedule.alpha_dot(p.t) - p.schedule.beta_dot(p.t))
        ),
        "the mean was taken over the coordinates too; ‖·‖² is their sum": lambda p: (
            p.mean(p.w * p.rate) / p.z[0].numel()
        ),
        "the batch was summed, not averaged": lambda p: p.mean(p.w * p.rate) * len(p.z),
        "the square is missing from the norm": lambda p: (p.w * p.rate * p.squares().sqrt()).mean(),
        "the factor was squared together with the error": lambda p: p.mean((p.w * p.rate) ** 2),
        "the weight was taken at t instead of at λ_t": lambda p: p.mean(p.weight(p.t) * p.rate),
        "the weight was taken at −λ": lambda p: p.mean(p.weight(-p.snr) * p.rate),
        "λ itself took the place of its speed λ̇": lambda p: p.mean(p.w * p.snr),
        "the model was given the data z instead of the state x": lambda p: p.mean(p.w * p.rate, x=p.z),
        "the model was given the noise instead of the state x": lambda p: p.mean(p.w * p.rate, x=p.noise),
        "α and β are exchanged in the state": lambda p: p.mean(p.w * p.rate, x=p.b * p.z + p.a * p.noise),
        "the state is α z − β ε; it should be their sum": lambda p: p.mean(p.w * p.rate, x=p.a * p.z - p.b * p.noise),
        "the prediction was compared with the data; it is a prediction of the noise": lambda p: p.mean(
            p.w * p.rate, target=p.z
        ),
        "the prediction was compared with the state": lambda p: p.mean(p.w * p.rate, target=p.x),
        "the mean was taken before weighting: each error has a weight of its own": lambda p: (
            p.mean(1) * (p.w * p.rate).mean()
        ),
    },
)
def loss_over_log_snr(schedule, t, shape, middle, dtype=F32):
    """Row by row, with λ̇ by autograd; w(λ) falls around λ = middle."""
    z, noise, x = sample(5, schedule, t, shape, dtype)
    model, rate = Weighted(dtype=dtype), speed(t, schedule).to(t)

    def weight(snr):
        return torch.sigmoid(middle - snr) + 0.1

    factors = weight(schedule.log_snr(t)) * rate
    terms = zip(factors, model.value(x, t), noise, strict=True)
    loss = sum(factor * (row - wanted).norm() ** 2 for factor, row, wanted in terms) / len(z)
    args = model, z, noise, t, schedule, weight
    return Case(f"the loss {at(schedule, t)}", args, loss, weights=model.weights)


def weight_terms(output, t, schedule):
    """The factor of the output, that of the noise, and λ̇ with its part from α; then λ and the time."""
    factor, of_noise = (conversions.x_mse_weight(name, t, schedule) for name in (output, "noise"))
    signal = schedule.alpha_dot(t) / schedule.alpha(t)
    return factor, of_noise, schedule.log_snr_dot(t), signal, schedule.log_snr(t), torch.as_tensor(t)


@lab.exercise(
    reread=("eq-effective", "the equation above the exercise"),
    passed="every recipe has its w(λ)",
    hints=(
        "Both errors are known multiples of the error of the data. What is the one in units of the other?",
        "The output's error is factor(output)/factor(noise) times the error of the noise.",
        "That ratio is w λ̇, so divide it by λ̇ = 2 (α̇/α − β̇/β).",
    ),
    withhold=("losses.effective_weight",),
    library=lambda output, t, schedule: (
        conversions.x_mse_weight(output, t, schedule)
        / conversions.x_mse_weight("noise", t, schedule)
        / schedule.log_snr_dot(t)
    ),
    judge=of_each_output,
    visible=TIMES,
    terms=weight_terms,
    mistakes={
        "λ̇ is missing": lambda w, n, r, *_: w / n,
        "λ̇ multiplies; it should divide": lambda w, n, r, *_: w / n * r,
        "the weight is upside down": lambda w, n, r, *_: n / w * r,
        "the factor 2 of λ̇ is missing": lambda w, n, r, *_: w / n / (r / 2),
        "λ̇ has the wrong sign": lambda w, n, r, *_: -w / n / r,
        "the sign between the two parts of λ̇ is wrong": lambda w, n, r, signal, *_: w / n / (4 * signal - r),
        "λ̇ has lost the part of the noise": lambda w, n, r, signal, *_: w / n / (2 * signal),
        "λ̇ has lost the part of the data": lambda w, n, r, signal, *_: w / n / (r - 2 * signal),
        "λ̇ is that of CondOT, whatever the schedule": lambda w, n, r, signal, snr, t: w / n * t * (1 - t) / 2,
        "λ itself took the place of its speed λ̇": lambda w, n, r, signal, snr, t: w / n / snr,
        "this weighs the error of the data; divide by the factor of the noise": lambda w, n, r, *_: w / r,
        "this is the factor w(t) of the output; it is still to be divided, by that of the noise and by λ̇": (
            lambda w, n, r, *_: w
        ),
        "the factors were multiplied; they should be divided": lambda w, n, r, *_: w * n / r,
        "the ratio of the factors is upside down": lambda w, n, r, *_: n / w / r,
        "a root was taken of the factors": lambda w, n, r, *_: (w / n).sqrt() / r,
        "the ratio of the factors was squared": lambda w, n, r, *_: (w / n) ** 2 / r,
    },
)
def effective_weight(schedule, t):
    """From measured factors, and λ̇ by autograd."""
    factors, rate = measured_factors(t, schedule), speed(t, schedule)
    known = {name: like(factor / factors["noise"] / rate, t) for name, factor in factors.items()}
    return Case(("the weight", at(schedule, t)), (t, schedule), known=known)


# --- samplers ---------------------------------------------------------------------------------------------------------


def library_ddim(x, data, t, s, schedule):
    noise = conversions.convert(data, x, t, schedule, source="data", target="noise")
    a, b, *_ = schedule.weights(s, x)
    return a * data + b * noise


def ddim_terms(x, data, t, s, schedule):
    """x, ẑ, ε̂, the weights at t and at s, and a step of Euler's on the vector field of the schedule."""
    (a, b, da, db), (a_s, b_s, *_) = schedule.weights(t, x), schedule.weights(s, x)
    noise, h = (x - a * data) / b, coefficient(s - t, x)
    return x, data, noise, a, b, a_s, b_s, h, x + h * (da * data + db * noise)


@lab.exercise(
    reread=("eq-ddim", "the two equations above the exercise"),
    passed="the guess, moved to the next noise level",
    hints=(
        "The guess of the data is kept for the whole step. Which noise goes with it, in the state you have?",
        "At time t the state is α_t ẑ + β_t ε̂; solve for ε̂.",
        "Then mix ẑ and ε̂ with the weights of time s. All four weights go through coefficient(…, x).",
    ),
    withhold=("samplers.DDIM.step", "samplers.ddim"),
    library=library_ddim,
    judge=judges.repeatable,
    visible=[
        (Bent(), times(4, 0.1, 0.6), times(4, 0.3, 0.8), (4, 2)),
        (Cosine(), torch.tensor(0.35), torch.tensor(0.43), (4, 1, 2, 3)),
        (VE(5.0), 0.0, 0.17, (1, 3)),
        (Powers(), times(3, 0.2, 0.5, dtype=F64), times(3, 0.3, 0.9, dtype=F64), (3, 2, 2, 3), F64),
        (LinearVP(), 0.03, 0.98, (2, 5), F64),
        (CondOT(0.1), 0.98, 1.0, (3, 4), F64),
    ],
    terms=ddim_terms,
    mistakes={
        "this is Euler's step along the vector field; DDIM keeps the guess, not the velocity": lambda *terms: terms[-1],
        "this is Euler's step on CondOT, whatever the schedule": lambda x, z, e, a, b, a_s, b_s, h, _: x + h * (z - e),
        "t and s are exchanged": lambda x, z, e, a, b, a_s, b_s, *_: a * z + b * (x - a_s * z) / b_s,
        "the noise kept its old weight β_t": lambda x, z, e, a, b, a_s, b_s, *_: a_s * z + b * e,
        "the data kept their old weight α_t": lambda x, z, e, a, b, a_s, b_s, *_: a * z + b_s * e,
        "the noise was worked out with the weights at s, so that nothing moves": lambda x, z, e, a, b, a_s, b_s, *_: (
            a_s * z + b_s * (x - a_s * z) / b_s
        ),
        "the noise was divided by β_s; in the state at t its weight is β_t": lambda x, z, e, a, b, a_s, b_s, *_: (
            a_s * z + b_s * (x - a * z) / b_s
        ),
        "the data in the state at t were given the weight α_s": lambda x, z, e, a, b, a_s, b_s, *_: (
            a_s * z + b_s * (x - a_s * z) / b
        ),
        "the noise was not divided by β_t": lambda x, z, e, a, b, a_s, b_s, *_: a_s * z + b_s * (x - a * z),
        "the state x was used in place of the noise": lambda x, z, e, a, b, a_s, b_s, *_: a_s * z + b_s * x,
        "α and β are exchanged in the new state": lambda x, z, e, a, b, a_s, b_s, *_: b_s * z + a_s * e,
        "only the data part is returned": lambda x, z, e, a, b, a_s, *_: a_s * z,
        "only the noise part is returned": lambda x, z, e, a, b, a_s, b_s, *_: b_s * e,
        "the noise is missing its part of the data: ε = (x − α z)/β": lambda x, z, e, a, b, a_s, b_s, *_: (
            a_s * z + b_s * x / b
        ),
        "the parentheses are missing in ε = (x − α z)/β": lambda x, z, e, a, b, a_s, b_s, *_: (
            a_s * z + b_s * (x - a * z / b)
        ),
        "the sign in ε = (x − α z)/β is wrong": lambda x, z, e, a, b, a_s, b_s, *_: a_s * z + b_s * (x + a * z) / b,
        "the guess was taken for the noise": lambda x, z, e, a, b, a_s, b_s, *_: a_s * (x - b * z) / a + b_s * z,
        "the state and the guess are exchanged": lambda x, z, e, a, b, a_s, b_s, *_: a_s * x + b_s * (z - a * x) / b,
        "the guess itself is returned": lambda x, z, *_: z,
    },
)
def ddim_step(schedule, t, s, shape, dtype=F32):
    """The same data and noise, at another time."""
    z, noise, x = sample(7, schedule, t, shape, dtype)
    a, b, *_ = schedule.weights(s, x)
    return Case(f"the step {at(schedule, t)}", (x, z, t, s, schedule), a * z + b * noise)


def library_ddpm(x, data, t, s, schedule, noise, churn):
    _, predicted, _, a, b, q = ddpm_terms(x, data, t, s, schedule, noise, 1.0)[:6]
    return a * data + b * (q**churn * predicted + (1 - q ** (2 * churn)).sqrt() * noise)


def ddpm_terms(x, data, t, s, schedule, noise, churn):
    """ẑ, ε̂, ξ, the weights at s, q with this churn and with churn 1, the churn; then x and the weights at t."""
    (a, b, *_), (a_s, b_s, *_) = schedule.weights(t, x), schedule.weights(s, x)
    one = a * b_s / (b * a_s)
    return data, (x - a * data) / b, noise, a_s, b_s, one**churn, one, churn, x, a, b


def remixed(mix):
    """A step from its weights of ε̂ and ξ, as a function of q with the churn, and q and the churn themselves."""

    def step(data, predicted, noise, a_s, b_s, q, one, churn, *_):
        kept, fresh = mix(q, one, churn)
        return a_s * data + b_s * (kept * predicted + fresh * noise)

    return step


def rest(q):
    return (1 - q**2).sqrt()


@lab.exercise(
    reread=("eq-churn", "the equation for x_s above the exercise"),
    passed="DDIM that overshoots, and noise that leads back",
    hints=(
        "It is DDIM's step, but the noise in it is partly exchanged for new noise, so that its variance stays 1.",
        "Keep the share q of ε̂ and add √(1 − q²) of ξ. With more churn, less is kept.",
        "q is (α_t β_s / (β_t α_s)) to the power churn; the step is α_s ẑ + β_s (q ε̂ + √(1 − q²) ξ).",
    ),
    withhold=("samplers.DDPM.step", "samplers.ddpm"),
    library=library_ddpm,
    judge=judges.repeatable,
    visible=[
        (Bent(), times(4, 0.1, 0.6), times(4, 0.3, 0.8), 0.6, (4, 2)),
        (Cosine(), torch.tensor(0.35), torch.tensor(0.43), 1.0, (4, 1, 2, 3)),
        (VE(5.0), 0.31, 0.47, 1.7, (1, 3)),
        (Powers(), times(3, 0.2, 0.5, dtype=F64), times(3, 0.3, 0.9, dtype=F64), 0.0, (3, 2, 2, 3), F64),
        (LinearVP(), 0.03, 0.98, 0.15, (2, 5), F64),
        (CondOT(), 0.9, 0.98, 2.3, (3, 4), F64),
    ],
    terms=ddpm_terms,
    mistakes={
        "the churn is ignored: this is churn 1": remixed(lambda q, one, churn: (one, rest(one))),
        "no noise is added: this is DDIM": remixed(lambda q, one, churn: (1, 0)),
        "the new noise is missing": remixed(lambda q, one, churn: (q, 0)),
        "all of the noise is new: nothing is left of the predicted noise": remixed(lambda q, one, churn: (0, 1)),
        "q is squared: e^{−cΔλ} instead of e^{−cΔλ/2}": remixed(lambda q, one, churn: (q**2, rest(q**2))),
        "the sign of Δλ is wrong: q = e^{−cΔλ/2} is at most 1": remixed(lambda q, one, churn: (1 / q, rest(1 / q))),
        "t and s are exchanged": lambda z, e, xi, a_s, b_s, q, one, churn, x, a, b: (
            a * z + b * ((x - a_s * z) / b_s / q + rest(1 / q) * xi)
        ),
        "the root is missing: the new noise has the weight √(1 − q²)": remixed(lambda q, one, churn: (q, 1 - q**2)),
        "the square is missing: the new noise has the weight √(1 − q²)": remixed(
            lambda q, one, churn: (q, (1 - q).sqrt())
        ),
        "the new noise has the weight 1 − q; variances add up, so it should be √(1 − q²)": remixed(
            lambda q, one, churn: (q, 1 - q)
        ),
        "the new noise has the weight √(1 + q²); the variance of the noise should stay 1": remixed(
            lambda q, one, churn: (q, (1 + q**2).sqrt())
        ),
        "the new noise was added on top: the predicted noise must be scaled by q": remixed(
            lambda q, one, churn: (1, rest(q))
        ),
        "the two weights q and √(1 − q²) are exchanged": remixed(lambda q, one, churn: (rest(q), q)),
        "predicted and new noise both have the weight q": remixed(lambda q, one, churn: (q, q)),
        "the new noise was subtracted": remixed(lambda q, one, churn: (q, -rest(q))),
        "the churn was multiplied to q; it belongs in the exponent": remixed(
            lambda q, one, churn: (churn * one, rest(churn * one))
        ),
        "the churn scales the new noise; it belongs in the exponent of q": remixed(
            lambda q, one, churn: (one, churn * rest(one))
        ),
        "β_s is missing in front of the new noise": lambda z, e, xi, a_s, b_s, q, *_: (
            a_s * z + b_s * q * e + rest(q) * xi
        ),
        "the state was used in place of the predicted noise": lambda z, e, xi, a_s, b_s, q, one, churn, x, *_: (
            a_s * z + b_s * (q * x + rest(q) * xi)
        ),
        "the predicted noise was not divided by β_t": lambda z, e, xi, a_s, b_s, q, one, churn, x, a, b: (
            a_s * z + b_s * (q * b * e + rest(q) * xi)
        ),
        "q is made of the β alone; λ is the ratio of α² and β²": lambda z, e, xi, a_s, b_s, q, one, churn, x, a, b: (
            a_s * z + b_s * ((b_s / b) ** churn * e + rest((b_s / b) ** churn) * xi)
        ),
    },
)
def ddpm_step(schedule, t, s, churn, shape, dtype=F32):
    """DDIM to λ_s + churn (λ_s − λ_t), then the forward diffusion back to λ_s: two steps, in double precision."""
    z, noise, x = sample(9, schedule, t, shape, dtype)
    xi, t_, s_ = states(10, *shape, dtype=dtype), double(t), double(s)
    snr_t, snr_s = schedule.log_snr(t_), schedule.log_snr(s_)
    r = schedule.time_at(snr_s + churn * (snr_s - snr_t))
    ratio = schedule.alpha(s_) / schedule.alpha(r)
    missing = (schedule.beta(s_) ** 2 - (ratio * schedule.beta(r)) ** 2).clamp(min=0).sqrt()
    a, b, *_ = schedule.weights(r, x)
    stepped = coefficient(ratio, x) * (a * z + b * noise) + coefficient(missing, x) * xi
    what = f"the step with churn {churn:g} {at(schedule, t)}"
    return Case(what, (x, z, t, s, schedule, xi, churn), stepped.to(dtype))


# --- diffusions -------------------------------------------------------------------------------------------------------


def both_rates(growth, b, db):
    """f and g, from α̇/α, β and β̇."""
    return -growth, (2 * (b**2 * growth - b * db)).sqrt()


def rate_terms(t, schedule):
    """α̇/α, β and β̇, the right f and g, and what they come of."""
    growth, b, db = schedule.alpha_dot(t) / schedule.alpha(t), schedule.beta(t), schedule.beta_dot(t)
    return growth, b, db, *both_rates(growth, b, db), t, schedule


def with_g(squared):
    """The right f, and a g whose square is a wrong function of α̇/α, β and β̇."""
    return lambda growth, b, db, f, *_: (f, squared(growth, b, db).sqrt())


@lab.exercise(
    reread=("eq-rates", "the equations above the exercise"),
    passed="every schedule is a diffusion",
    hints=(
        "Both formulas need the growth rate α̇/α of the data, and g² needs β and β̇ as well.",
        "In the time of the diffusion the data fade, so f = −α̇/α is negative or 0.",
        "Compute g² = 2 (β² α̇/α − β β̇) and return f and its square root, in this order.",
    ),
    withhold=("schedules.diffusion_coefficients",),
    library=lambda t, schedule: schedules.diffusion_coefficients(schedule, t),
    visible=TIMES,
    terms=rate_terms,
    mistakes={
        "the sign of f is reversed: the data fade, so f ≤ 0 in the time of the diffusion": lambda *terms: (
            -terms[3],
            terms[4],
        ),
        "f and g are exchanged": lambda growth, b, db, f, g, *_: (g, f),
        "f was doubled": lambda growth, b, db, f, g, *_: (2 * f, g),
        "f was taken from β": lambda growth, b, db, f, g, *_: (-db / b, g),
        "α was not divided by: f = −α̇/α": lambda growth, b, db, f, g, t, schedule: both_rates(
            schedule.alpha_dot(t), b, db
        ),
        "everything was taken at 1 − t; the schedule takes t itself": lambda *terms: rate_terms(
            1 - terms[-2], terms[-1]
        )[3:5],
        "this is g²; the root is missing": lambda growth, b, db, f, g, *_: (f, g**2),
        "the factor 2 of g² is missing": with_g(lambda growth, b, db: b**2 * growth - b * db),
        "the shrinking of the noise is missing: g² = 2(β² α̇/α − ββ̇) has two parts": with_g(
            lambda growth, b, db: -2 * b * db
        ),
        "the growth of the noise is missing: g² = 2(β² α̇/α − ββ̇) has two parts": with_g(
            lambda growth, b, db: 2 * b**2 * growth
        ),
        "the sign between the two parts of g² is wrong": with_g(lambda growth, b, db: 2 * (b**2 * growth + b * db)),
        "f was put into g² for α̇/α, with its sign": with_g(lambda growth, b, db: 2 * (-(b**2) * growth - b * db)),
        "β is not squared in the first part of g²": with_g(lambda growth, b, db: 2 * (b * growth - b * db)),
        "β is missing in the second part of g²": with_g(lambda growth, b, db: 2 * (b**2 * growth - db)),
        "the factor 2 is only at the first part of g²": with_g(lambda growth, b, db: 2 * b**2 * growth - b * db),
        "this g is right for variance-preserving schedules only: g² = −2f": with_g(lambda growth, b, db: 2 * growth),
    },
)
def sde_from_schedule(schedule, t):
    """By autograd: the data shrink at the rate f, and the variance of the noise grows by 2 f β² + g²."""
    f = -slope(lambda t: schedule.alpha(t).log(), t)
    g = (-slope(lambda t: schedule.beta(t) ** 2, t) - 2 * f * schedule.beta(double(t)) ** 2).sqrt()
    return Case(at(schedule, t), (t, schedule), {"f": like(f, t), "g": like(g, t)})


def cumulative(y, s):
    """The integral of y from the first to each of the times s."""
    return torch.cat([s.new_zeros(1), torch.cumulative_trapezoid(y, s)])


def both_weights(log_alpha, g_squared, s):
    """α and β, from the logarithm of α."""
    alpha = log_alpha.exp()
    return alpha, alpha * cumulative(g_squared / alpha**2, s).sqrt()


def with_beta(beta):
    """The right α, and a wrong function of α, g² and s for β."""
    return lambda f, g_squared, s, alpha, right: (alpha, beta(alpha, g_squared, s))


def integral_terms(f, g_squared, s):
    """The values of f and g², the times, and the right α and β."""
    return f(s), g_squared(s), s, *both_weights(cumulative(f(s), s), g_squared(s), s)


def library_schedule(f, g_squared, s):
    return both_weights(cumulative(f(s), s), g_squared(s), s)


@lab.exercise(
    reread=("eq-schedule", "the equations above the exercise"),
    passed="every linear diffusion is a schedule",
    hints=(
        "Integrate f first: that gives log α at every time of the grid. What is α at s = 0?",
        "β²/α² is the integral of g²/α²; put a 0 in front of each cumulative integral, for the time 0.",
        "Return α = exp ∫ f, and β = α √(∫ g²/α²), both as tensors as long as s.",
    ),
    withhold=("schedules.DiffusionSchedule.alpha", "schedules.DiffusionSchedule.beta"),
    library=library_schedule,
    tolerance=2e-3,  # a rule of first order is off by half a step, times the change of the rate: by 1e-3 at most here
    visible=[
        (0.0, 1.1, 3.0, 0.7, torch.linspace(0, 1, 2001)),
        (-0.4, 1.7, 0.3, 1.9, 1.3 * torch.linspace(0, 1, 1801, dtype=F64) ** 1.4),
        (0.0, 0.0, 0.0, 2.6, torch.linspace(0, 0.8, 1501, dtype=F64)),
    ],
    terms=integral_terms,
    mistakes={
        "f was multiplied by s instead of being integrated": lambda f, g, s, *_: both_weights(f * s, g, s),
        "α grows: the sign of f is lost": lambda f, g, s, *_: both_weights(-cumulative(f, s), g, s),
        "the rate was doubled: that is α²": lambda f, g, s, *_: both_weights(2 * cumulative(f, s), g, s),
        "this is ∫ f; the exponential is missing": lambda f, g, s, a, b: (cumulative(f, s), b),
        "this is exp f: f was not integrated": lambda f, g, s, *_: both_weights(f, g, s),
        "f was added up without the width of the steps": lambda f, g, s, *_: both_weights(f.cumsum(0), g, s),
        "the steps of the grid were taken to be equal; they are s.diff()": lambda f, g, s, *_: both_weights(
            cumulative(f, s[1] * torch.arange(len(s))), g, s[1] * torch.arange(len(s))
        ),
        "only the whole integral was used; α is wanted at every time of the grid": lambda f, g, s, *_: both_weights(
            torch.trapezoid(f, s), g, s
        ),
        "the first value is missing: at s = 0 every integral is 0": lambda f, g, s, a, b: (a[1:], b[1:]),
        "an integral is one value shorter than the grid: at s = 0 a 0 is missing": lambda f, g, s, *_: both_weights(
            torch.cumulative_trapezoid(f, s), g, s
        ),
        "α and β are exchanged": lambda f, g, s, a, b: (b, a),
        "the factor α(s)² is missing: noise shrinks after it was added": with_beta(
            lambda a, g, s: cumulative(g / a**2, s).sqrt()
        ),
        "this is β², not β": lambda f, g, s, a, b: (a, b**2),
        "the noise never shrinks: α(s)²/α(r)² is missing": with_beta(lambda a, g, s: cumulative(g, s).sqrt()),
        "noise shrinks before it was added: divide by α(r)²": with_beta(lambda a, g, s: a * cumulative(g, s).sqrt()),
        "α was not squared: the variance shrinks with α²": with_beta(lambda a, g, s: (a * cumulative(g / a, s)).sqrt()),
        "α(r)² multiplies; it should divide": with_beta(lambda a, g, s: a * cumulative(g * a**2, s).sqrt()),
        "α(s) was squared and its root not taken": with_beta(lambda a, g, s: a**2 * cumulative(g / a**2, s).sqrt()),
        "g² was squared once more": with_beta(lambda a, g, s: a * cumulative(g**2 / a**2, s).sqrt()),
        "g was integrated in place of g²": with_beta(lambda a, g, s: a * cumulative(g.sqrt() / a**2, s).sqrt()),
        "this is β of a variance-preserving schedule, √(1 − α²)": with_beta(lambda a, g, s: (1 - a**2).sqrt()),
    },
)
def schedule_from_sde(f0, f1, c0, c1, s):
    """f = −f0 − f1 s shrinks the data to α = exp(−f0 s − ½ f1 s²), and g² = α² (c0 + 2 c1 s) adds up in closed form."""

    def alpha(s):
        return torch.exp(-f0 * s - f1 * s**2 / 2)

    beta = alpha(s) * (c0 * s + c1 * s**2).sqrt()
    rates = (lambda s: -f0 - f1 * s), (lambda s: alpha(s) ** 2 * (c0 + 2 * c1 * s))
    return Case(f"for times from 0 to {float(s[-1]):g}", (*rates, s), {"α": alpha(s), "β": beta})


# --- paths ------------------------------------------------------------------------------------------------------------


def path_terms(x):
    """The lengths of the steps (T − 1, n), the distances between the ends (n,), and the states."""
    return x.diff(dim=0).flatten(2).norm(dim=2), (x[-1] - x[0]).flatten(1).norm(dim=1), x


def in_other_norm(norm):
    """The curvature with another norm of points, taken along dim=2 of (…, n, d)."""
    return lambda steps, ends, x: (
        norm(x.diff(dim=0).flatten(2)).sum(0).mean() / norm((x[-1:] - x[:1]).flatten(2)).mean() - 1
    )


@lab.exercise(
    reread=("eq-curvature", "the equation above the exercise"),
    passed="0 for straight lines alone",
    hints=(
        "How long is a path of which you know only many points?",
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
    terms=path_terms,
    mistakes={
        "1 was not subtracted": lambda steps, ends, x: steps.sum(0).mean() / ends.mean(),
        "1 was subtracted from the wrong side": lambda steps, ends, x: 1 - steps.sum(0).mean() / ends.mean(),
        "the ratio was taken path by path; divide the two means": lambda steps, ends, x: (
            (steps.sum(0) / ends).mean() - 1
        ),
        "the ratio is upside down": lambda steps, ends, x: ends.mean() / steps.sum(0).mean() - 1,
        "the mean distance was subtracted, not divided by": lambda steps, ends, x: (steps.sum(0) - ends).mean(),
        "the steps were averaged, not summed: a length is their sum": lambda steps, ends, x: (
            steps.mean() / ends.mean() - 1
        ),
        "the lengths were summed but the distances averaged": lambda steps, ends, x: steps.sum() / ends.mean() - 1,
        "steps and distances were squared; a length is a root of squares": in_other_norm(
            lambda y: y.square().sum(dim=-1)
        ),
        "the steps were squared, the distances not; a length is a root of squares": lambda steps, ends, x: (
            steps.square().sum(0).mean() / ends.mean() - 1
        ),
        "one root was taken of all the squares of a path; each step has a length of its own": lambda steps, ends, x: (
            steps.square().sum(0).sqrt().mean() / ends.mean() - 1
        ),
        "squares of the lengths were averaged; average the lengths themselves": lambda steps, ends, x: (
            (steps.sum(0).square().mean() / ends.square().mean()).sqrt() - 1
        ),
        "the absolute values of the coordinates were summed; a length is a root of squares": in_other_norm(
            lambda y: y.abs().sum(dim=-1)
        ),
        "the largest coordinate was taken; a length is a root of squares": in_other_norm(
            lambda y: y.abs().amax(dim=-1)
        ),
        "only the first trajectory was measured": lambda steps, ends, x: steps[:, 0].sum() / ends[0] - 1,
        "all trajectories went into one norm": lambda steps, ends, x: (
            x.diff(dim=0).flatten(1).norm(dim=1).sum() / (x[-1] - x[0]).norm() - 1
        ),
        "the distance was taken from the origin, not from the start": lambda steps, ends, x: (
            steps.sum(0).mean() / x[-1].flatten(1).norm(dim=1).mean() - 1
        ),
        "differences were taken from trajectory to trajectory instead of in time": lambda steps, ends, x: (
            x.diff(dim=1).flatten(2).norm(dim=2).sum(1).mean() / (x[:, -1] - x[:, 0]).flatten(1).norm(dim=1).mean() - 1
        ),
    },
)
def path_curvature(arcs, count, shape, dtype=F32):
    """Arcs of circles, (radius, angle), in a plane of the space: `count` chords each, from turns of changing speed."""
    turns = (torch.arange(count + 1, dtype=F64) / count) ** 1.5
    plane = torch.linalg.qr(states(11, torch.Size(shape).numel(), 2, dtype=F64)).Q.T
    paths, length, distance = [], 0.0, 0.0
    for radius, angle in arcs:
        paths.append(radius * torch.stack([(angle * turns).cos(), (angle * turns).sin()], dim=1) @ plane)
        length += 2 * radius * (angle * turns.diff() / 2).sin().sum()
        distance += 2 * radius * torch.tensor(angle / 2, dtype=F64).sin()
    moving = torch.stack(paths, dim=1).unflatten(2, shape) + states(12, len(arcs), *shape, dtype=F64)
    return Case(f"the curvature of {len(arcs)} arcs", (moving.to(dtype),), float(length / distance - 1))
