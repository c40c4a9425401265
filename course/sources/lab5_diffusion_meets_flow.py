# %% [markdown]
# # Lab 5 · Diffusion meets flow matching
#
# Two communities describe one kind of model in two languages. One speaks of noise schedules, noise prediction, DDIM
# and DDPM; the other of probability paths, vector fields and Euler's method. In this lab you write the dictionary
# between them, and then you *measure* which of their differences are only words, and which ones change the network
# that is trained or the samples that come out.
#
# By the end you will be able to take a network that somebody trained in one language and use it in the other, to say
# what a training loss really weighs, to add noise to a sampler or take it away, and to answer the question whether the
# paths of flow matching are straight.
#
# **How to work.** As before: replace `raise NotImplementedError`, run the cell, run the check. The figure after each
# exercise uses your function once its check has passed, and fmlab's until then. Stuck? `lab5.hint("log_snr")` gives up
# to three hints, one at a time.
#
# **Notation.** A state is $x_t = \alpha_t z + \beta_t \varepsilon$, made of a data point $z$ and of noise
# $\varepsilon \sim N(0, I)$; dots are time derivatives. Time runs from noise ($t = 0$) to data ($t = 1$). In code,
# `x` has shape $(n, \dots)$, `t` is a number, a tensor without dimensions, or a tensor $(n,)$ with one time per
# state, and a `schedule` has the methods `alpha`, `beta`, `alpha_dot` and `beta_dot` (each takes a time).
#
# *meet* means the text [Diffusion Models Meet Flow Matching](https://diffusionflow.github.io/) in an early draft. It
# runs time the other way, from data to noise, and writes $x, \sigma_t, z_t$ for our $z, \beta_t, x_t$; formulas below
# are translated. Like every draft it has slips. Some of them cross our way, and there you will let numbers decide;
# `docs/errata.md` has the full list. The lab is worth {points:all} points, {points:code} of them for code.

# %%
import math

import torch

from fmlab import (
    conversions,
    distributions,
    losses,
    metrics,
    models,
    paths,
    plots,
    processes,
    samplers,
    simulators,
    threads,
    training,
    widgets,
)
from fmlab.checks import lab5
from fmlab.ddpm import Chain
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · What a noise schedule is
#
# Flow matching likes the straight schedule `CondOT`, $\alpha_t = t$ and $\beta_t = 1 - t$. Diffusion models come with
# others. `Cosine` and `LinearVP` are **variance preserving**, $\alpha_t^2 + \beta_t^2 = 1$; `VE` is **variance
# exploding**: the data keep their weight $\alpha_t = 1$ and are drowned in noise of scale
# $\beta_t = \sigma_{\max}(1 - t)$.
#
# They look different, but what can a network know about the data at time $t$? Only what the noise has left of them.
# The number that says how much that is, is the **log signal-to-noise ratio**
#
# <a id="eq-log-snr"></a>
# $$\lambda_t = \log \frac{\alpha_t^2}{\beta_t^2}. \tag{meet, noise schedule}$$
#
# It rises from very negative (all noise) to very positive (all data).
#
# ### Exercise {exercise:log_snr} · The log signal-to-noise ratio ({points:log_snr} points)
#
# Write `log_snr(t, schedule)`, the $\lambda_t$ of [meet, noise schedule](#eq-log-snr), from `schedule.alpha` and
# `schedule.beta`.
#
# <details><summary>Hint</summary>
# Both methods return tensors, whatever kind of number <code>t</code> is. Signal over noise, both squared.
# </details>

# %% exercise="log_snr"
def log_snr(t, schedule):
    """λ_t of a schedule. t: a number, or a tensor of any shape. Returns a tensor of that shape."""
    ### BEGIN SOLUTION
    return 2 * (schedule.alpha(t).log() - schedule.beta(t).log())
    ### END SOLUTION


# %% check="log_snr" points=2

# %% [markdown]
# **Four schedules.** On the left their weights, as curves in the plane of $\alpha$ and $\beta$; the dots mark $t =
# 0.25, 0.5, 0.75$. On the right $\lambda_t$. All pass through the same values, at different times. (`VE` starts at a
# finite $\lambda_0 = -2 \log \sigma_{\max}$: a little of the data is always there. So does `LinearVP`.)

# %%
SCHEDULES = {"CondOT": CondOT(), "cosine": Cosine(), "linear VP": LinearVP(), "VE, 20": VE(20.0)}
snr = lab5.answer_or("log_snr")
ts = torch.linspace(0.002, 0.998, 250)
fig, axes = plots.figure(columns=2, width=4.6)
for (name, schedule), marker in zip(SCHEDULES.items(), plots.MARKERS, strict=False):
    (line,) = axes[0].plot(schedule.alpha(ts), schedule.beta(ts), label=name)
    dots = torch.tensor([0.25, 0.5, 0.75])
    style = dict(ls="", marker=marker, ms=5, color=line.get_color())
    axes[0].plot(schedule.alpha(dots), schedule.beta(dots), **style)
    axes[1].plot(ts, snr(ts, schedule), label=name)
axes[0].set(xlabel=r"weight of the data $\alpha_t$", ylabel=r"weight of the noise $\beta_t$")
axes[0].set(xlim=(-0.05, 1.1), ylim=(-0.05, 1.3), title="the weights")
axes[1].set(xlabel="time $t$", ylabel=r"$\lambda_t$", title="the log signal-to-noise ratio")
axes[1].legend()
plots.describe(
    "Left: CondOT is a straight line between pure data and pure noise, cosine and linear VP are "
    "one quarter circle, VE leaves the picture upwards. Right: all four ratios rise with time, "
    "each at its own pace."
)

# %% [markdown]
# <a id="about-to-variance-preserving"></a>
# ### Exercise {exercise:to_variance_preserving} · One schedule in place of all ({points:to_variance_preserving} points)
#
# Two schedules at equal $\lambda$ have equal ratios $\alpha/\beta$. Then their states differ by a factor that we
# know, and no network cares about a known factor: it can be divided out at its input. The usual choice is to bring
# every state to length $\alpha^2 + \beta^2 = 1$: each schedule has a **variance-preserving** twin with the same
# $\lambda_t$.
#
# Write `to_variance_preserving(x, t, schedule)`: the states $x_t$ of any schedule, rescaled to those of its twin, which has
# the same [$\lambda_t$](#eq-log-snr).
#
# A coefficient such as $\alpha_t$ has no dimension or shape $(n,)$, the states have shape $(n, \dots)$. The function
# `coefficient(value, x)` of fmlab gives a coefficient the shape that multiplies `x`, and `schedule.weights(t, x)` gives
# all four, $\alpha_t, \beta_t, \dot\alpha_t, \dot\beta_t$, in this shape; use one or the other here and in all
# exercises below. What is made of states keeps their dtype.
#
# <details><summary>Hint</summary>
# Which number must $(\alpha, \beta)$ be divided by, so that the sum of their squares becomes 1? The ratio stays as it is.
# </details>

# %% exercise="to_variance_preserving"
def to_variance_preserving(x, t, schedule):
    """States of a schedule, rescaled to the variance-preserving schedule with the same λ.

    x: (n, *shape) states αz + βε. t: a number in [0, 1], or (n,), one time per state.
    Returns (n, *shape).
    """
    ### BEGIN SOLUTION
    length = torch.sqrt(schedule.alpha(t) ** 2 + schedule.beta(t) ** 2)
    return x / coefficient(length, x)
    ### END SOLUTION


# %% check="to_variance_preserving" points=3

# %% [markdown]
# **Same $\lambda$, same state.** Data on two bumps and one set of noise, mixed by two schedules, each at the time at
# which $\lambda = 2$. As they come, the states of `VE` are spread wider. Rescaled, the two are one: not only in law,
# but point by point.

# %%
def largest(difference):
    """The largest absolute value of a tensor, as a number to print."""
    return float(difference.abs().max())


to_vp = lab5.answer_or("to_variance_preserving")


def from_vp(x, t, schedule):
    """Back from the variance-preserving state to that of the schedule."""
    return x / to_vp(torch.ones_like(x), t, schedule)


bumps = distributions.GaussianMixture([[-1.5], [1.0]], [0.04, 0.09], [0.4, 0.6])
z, noise = bumps.sample(20_000), torch.randn(20_000, 1)
fig, axes = plots.figure(columns=2, width=4.6)
rescaled = {}
for (name, schedule), style in zip(list(SCHEDULES.items())[::3], ("-", "--"), strict=True):
    t = schedule.time_at(torch.tensor(2.0))
    x = paths.GaussianPath(schedule).interpolate(z, noise, t)
    rescaled[name] = to_vp(x, t, schedule)
    for ax, states in zip(axes, (x, rescaled[name]), strict=True):
        bars = dict(bins=80, density=True, histtype="step", ls=style, lw=1.6)
        ax.hist(states[:, 0], label=f"{name}, $t$ = {t:.2f}", **bars)
axes[0].set(title=r"states at $\lambda = 2$", xlabel="$x$", ylabel="density")
axes[1].set(title="the same, rescaled", xlabel="rescaled state", ylabel="density")
for ax in axes:
    ax.set(ylim=(0, 1.25 * ax.get_ylim()[1]))
    ax.legend(loc="upper left")
difference = largest(rescaled["CondOT"] - rescaled["VE, 20"])
print(f"largest difference between the rescaled states of CondOT and VE: {difference:.1e}")
plots.describe(
    "Left: two histograms with two bumps each, that of VE wider. Right: after rescaling the two "
    "lie exactly on each other."
)

# %% [markdown]
# **Try it.** The curve is a schedule, the dot its state at time $t$. Rescaling moves the dot along the ray from the
# origin to the unit circle; $\lambda$ is the steepness of the ray. Find the times at which two schedules share a ray.

# %%
widgets.noise_schedules()

# %% [markdown]
# ## 2 · What the network predicts
#
# The network knows the state,
#
# <a id="eq-state"></a>
# $$x = \alpha_t z + \beta_t \varepsilon.$$
#
# So, whether it guesses the data $z$, the noise $\varepsilon$, or a
# combination of both, is a matter of language: each guess and $x$ together determine all the others. Five **outputs**
# are in use.
#
# | name | output | where |
# |---|---|---|
# | `"data"` | $z$ | $x$-prediction |
# | `"noise"` | $\varepsilon$ | $\varepsilon$-prediction, DDPM |
# | `"velocity"` | $v = \alpha_t \varepsilon - \beta_t z$ | $v$-prediction |
# | `"vector_field"` | $u = \dot\alpha_t z + \dot\beta_t \varepsilon$ | flow matching |
# | `"score"` | $s = -\varepsilon / \beta_t$ | score matching |
#
# (An averaged guess such as $\mathbb E[z \mid x]$ obeys the same equations, since all of them are linear.)
#
# ### Exercise {exercise:convert_output} · A dictionary ({points:convert_output} points)
#
# Write `convert_output(value, x, t, schedule, source, target)`: the output named `target`, from the `value` of the
# output named `source` and [the state](#eq-state).
#
# <details><summary>Hint</summary>
# Each output is $a z + b\,\varepsilon$ with some $(a, b)$: make a table of the five pairs. Then $x$ and the value are two
# linear equations for $z$ and $\varepsilon$. Solve them (Cramer's rule), and put the result into the row of the target.
# One rule serves all twenty conversions.
# </details>

# %% exercise="convert_output"
def convert_output(value, x, t, schedule, source, target):
    """One output of a network from another.

    value: (n, *shape), the output `source` at the states x: (n, *shape).
    t: a number inside (0, 1), or (n,), one time per state.
    source, target: "data", "noise", "velocity", "vector_field" or "score"; they may be the same.
    Returns the output `target`, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *dots = schedule.weights(t, x)
    rows = {"data": (1, 0), "noise": (0, 1), "velocity": (-beta, alpha)}
    rows |= {"vector_field": dots, "score": (0, -1 / beta)}
    a, b = rows[source]
    data = (b * x - beta * value) / (alpha * b - beta * a)
    noise = (alpha * value - a * x) / (alpha * b - beta * a)
    a, b = rows[target]
    return a * data + b * noise
    ### END SOLUTION


# %% check="convert_output" points=6

# %% [markdown]
# **One answer, five languages.** For data on two bumps the best possible vector field is known exactly. Here it is
# translated into all five outputs, as functions of the rescaled state, for two schedules at the same $\lambda = 0$.
# The guesses of data and noise are the same curves. The others differ only by factors that a schedule brings along.

# %%
convert = lab5.answer_or("convert_output")
OUTPUTS = ("data", "noise", "velocity", "vector_field", "score")
fig, axes = plots.figure(columns=5, width=2.3, height=2.6)
for name, style in (("CondOT", "-"), ("cosine", "--")):
    schedule, grid = SCHEDULES[name], torch.linspace(-2.5, 2.5, 201)[:, None]
    t = schedule.time_at(torch.tensor(0.0))
    x = from_vp(grid, t, schedule)
    u = paths.GaussianPath(schedule).marginal(bumps).vector_field(x, t)
    for ax, output in zip(axes, OUTPUTS, strict=True):
        ax.plot(grid, convert(u, x, t, schedule, "vector_field", output), ls=style, label=name)
        ax.set(title=output, xlabel="rescaled state")
axes[0].legend(fontsize=8)
plots.describe(
    "Five panels for five outputs. The curves of data and noise coincide for both schedules; "
    "those of velocity, vector field and score have the same form, stretched differently."
)

# %% [markdown]
# ### Exercise {exercise:x_mse_weight} · What an error costs ({points:x_mse_weight} points)
#
# If all outputs say the same, why does it matter which of them a network is trained on? Because the mean squared
# error is taken in that language. Suppose a network's guess of the data is off by $\hat z - z$. Then, with the same
# state $x$, its guess of the noise is off too, and so is every other output, by a factor that depends on $t$:
#
# <a id="eq-weight"></a>
# $$\|\text{error of the output}\|^2 = w(t)\, \|\hat z - z\|^2. \tag{meet, network output}$$
#
# The source tabulates these factors (its row for $u$ holds for CondOT). The cell below measures them: it takes data,
# noise and a wrong guess of the data, translates right and wrong into each output, and divides. Compare both columns
# before you believe either.

# %%
printed = {
    "data": lambda t, s: 1.0,
    "noise": lambda t, s: math.exp(s.log_snr(t)),
    "velocity": lambda t, s: s.beta(t) ** 2 * (math.exp(-s.log_snr(t)) + 1) ** 2,
    "vector_field": lambda t, s: (1 + math.exp(s.log_snr(t) / 2)) ** 2,
}
z, noise, guess = torch.randn(3, 1000, 2)
print("CondOT                 t = 0.25            t = 0.75")
print("output           measured  printed   measured  printed")
for output, formula in printed.items():
    columns = []
    for t in (0.25, 0.75):
        x = paths.GaussianPath().interpolate(z, noise, t)
        right, wrong = (convert(v, x, t, CondOT(), "data", output) for v in (z, guess))
        measured = (wrong - right).square().sum() / (guess - z).square().sum()
        columns += [float(measured), float(formula(torch.tensor(t), CondOT()))]
    print(f"{output:14s} {columns[0]:10.3f} {columns[1]:8.3f} {columns[2]:10.3f} {columns[3]:8.3f}")

# %% [markdown]
# One row does not fit: there is a sign to be found (entry 1 of `docs/errata.md`).
#
# Write `x_mse_weight(output, t, schedule)`: the factor $w(t)$ of [meet, network output](#eq-weight) for each of the five
# outputs and any schedule.
#
# <details><summary>Hint</summary>
# Since $x = \alpha z + \beta\varepsilon$ is known, an error $e$ of $z$ comes with the error $-(\alpha/\beta)\, e$ of
# $\varepsilon$. Put both into $a z + b\,\varepsilon$ with the rows of exercise {exercise:convert_output}, and square.
# </details>

# %% exercise="x_mse_weight"
def x_mse_weight(output, t, schedule):
    """The factor between the squared error of an output and that of the data.

    output: a name as in `convert_output`. t: a number inside (0, 1), or a tensor (n,) of such.
    Returns a tensor of the shape of t, also where all its numbers are the same.
    """
    ### BEGIN SOLUTION
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    rows = {"data": (torch.ones_like(alpha), 0), "noise": (0, 1), "velocity": (-beta, alpha)}
    rows |= {"vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)), "score": (0, 1 / beta)}
    a, b = rows[output]
    return (a - b * alpha / beta) ** 2
    ### END SOLUTION


# %% check="x_mse_weight" points=4

# %% [markdown]
# **The same error in five languages,** over $\lambda$, with the cosine schedule. An error in the data counts as much
# at every noise level if data are predicted. Predicting noise, one forgives it where noise dominates and punishes it
# where little noise is left. Velocity and vector field go with the data at one end and with the noise at the other.
# So the choice of an output is, silently, the choice of a weight.

# %%
data_weight = lab5.answer_or("x_mse_weight")
levels = torch.linspace(-6, 6, 121)
fig, (ax,) = plots.figure(width=6.4, height=3.4)
for output in OUTPUTS:
    weights = data_weight(output, Cosine().time_at(levels), Cosine())
    ax.semilogy(levels, weights, label=output.replace("_", " "))
ax.set(xlabel=r"log signal-to-noise ratio $\lambda$", ylabel="factor $w$", ylim=(1e-3, 1e6))
ax.set(title="cost of an error of the data, cosine schedule")
ax.legend()
plots.describe(
    "On a logarithmic scale the factor of data is flat, those of noise and score rise as straight "
    "lines, and those of velocity and vector field bend from flat to rising at λ = 0."
)

# %% [markdown]
# ## 3 · What a loss weighs
#
# A loss has a schedule, an output and perhaps a weight on top, drawn at uniform times. Which of them act on the
# result? Write the squared error of the noise, weighted with a function $w(\lambda)$ *and* with the speed
# $\dot\lambda_t$ at which the schedule passes through $\lambda$:
#
# <a id="eq-loss"></a>
# $$\mathbb E_{t, \varepsilon}\, \big[\, w(\lambda_t)\, \dot\lambda_t\, \|\hat\varepsilon - \varepsilon\|^2 \,\big]
# = \int_{\lambda_0}^{\lambda_1} w(\lambda)\; \mathbb E\, \|\hat\varepsilon - \varepsilon\|^2\, d\lambda,
# \qquad \dot\lambda_t = 2 \Big( \frac{\dot\alpha_t}{\alpha_t} - \frac{\dot\beta_t}{\beta_t} \Big).
# \tag{meet, training}$$
#
# The right-hand side is the substitution rule, and time has gone from it. Together with exercise {exercise:to_variance_preserving} this means: **the
# training loss does not depend on the schedule, only on $w$ and on the ends $\lambda_0, \lambda_1$.** (The source
# prints the left side with the error of the data and the right side with that of the noise; they differ by
# $e^\lambda$. And since in its time $\lambda$ falls, $d\lambda/dt$ would make its loss negative. Entries 9 and 10 of
# the errata.)
#
# ### Exercise {exercise:loss_over_log_snr} · The loss over $\lambda$ ({points:loss_over_log_snr} points)
#
# Write `loss_over_log_snr(model, z, noise, t, schedule, weight)`: the left-hand side of [meet, training](#eq-loss) for a
# batch, that is, the mean over the batch, for given data, noise and times. The square $\|\cdot\|^2$ is the sum over all coordinates of a
# point. A network takes the time as it is: as a number, as a tensor without dimensions, or in the shape $(n,)$, a time
# for each row of $x$. Shape only what multiplies.
#
# <details><summary>Hint</summary>
# Make the states first: the network never sees $z$. <code>flatten(1)</code> turns images into rows. $\dot\lambda$ needs all
# four functions of the schedule; $\lambda$ itself is <code>schedule.log_snr(t)</code>.
# </details>

# %% exercise="loss_over_log_snr"
def loss_over_log_snr(model, z, noise, t, schedule, weight):
    """Mean of w(λ) · dλ/dt · ‖predicted noise − noise‖² over a batch.

    model: a network, model(x, t) predicts the noise. z, noise: (n, *shape). t: (n,), inside (0, 1).
    weight: function of λ, (n,) → (n,).
    Returns one number, as a tensor through which the model can be trained.
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, z)
    errors = (model(alpha * z + beta * noise, t) - noise).flatten(1).square().sum(1)
    growth = schedule.alpha_dot(t) / schedule.alpha(t)
    log_snr_dot = 2 * (growth - schedule.beta_dot(t) / schedule.beta(t))
    return (weight(schedule.log_snr(t)) * log_snr_dot * errors).mean()
    ### END SOLUTION


# %% check="loss_over_log_snr" points=5

# %% [markdown]
# **The schedule drops out.** One network (here the best one for our two bumps), four schedules, and the weight
# $w(\lambda) = 1/(1 + e^{\lambda - 2})$. Over time, the four integrands have nothing in common but their area (`VE`
# leaves the picture: it spends most of its time at small $\lambda$ and rushes through the rest at the end). Divided
# by $\dot\lambda_t$ and drawn over $\lambda$ they are one curve. Each point is a mean over 4000 draws.

# %%
lambda_loss = lab5.answer_or("loss_over_log_snr")


def best_noise_prediction(schedule):
    """The exact E[ε | x] for the two bumps, as a function of (x, t)."""
    score = paths.GaussianPath(schedule).marginal(bumps).score
    return lambda x, t: conversions.noise_from_score(score(x, t), x, t, schedule)


def fading(log_snr):
    """A weight that fades out for large λ."""
    return torch.sigmoid(2 - log_snr)


z, noise = bumps.sample(4000), torch.randn(4000, 1)
fig, axes = plots.figure(columns=2, width=4.6)
for (name, schedule), marker, size in zip(SCHEDULES.items(), "osD^", (9, 7, 5, 3), strict=True):
    ts = schedule.time_at(torch.linspace(-5.9, 6, 50))
    model = best_noise_prediction(schedule)
    values = [lambda_loss(model, z, noise, t.expand(4000), schedule, fading) for t in ts]
    integrand = torch.stack(values)
    axes[0].plot(ts, integrand, label=name)
    over = integrand / schedule.log_snr_dot(ts)
    axes[1].plot(schedule.log_snr(ts), over, ls="", marker=marker, ms=size, label=name)
axes[0].set(xlabel="time $t$", ylabel="integrand", ylim=(0, 12), title="over time")
axes[1].set(xlabel=r"$\lambda$", ylabel=r"integrand $/\, \dot\lambda$", title=r"over $\lambda$")
for ax in axes:
    ax.legend()
plots.describe(
    "Left: over time the four integrands are four different curves. Right: over λ the points of "
    "all four schedules lie on one curve."
)

# %% [markdown]
# **But not out of the noise of an estimate.** In training, the loss is estimated from batches with random times.
# Below are 100 batches of 500 for each schedule, all between the same ends. The means agree as well as their standard
# errors allow. The scatter does not: schedules differ in how *well* they measure the same loss, which makes training
# faster or slower, but does not move its minimum.

# %%
print("schedule      mean of the loss   scatter of one batch")
for name, schedule in SCHEDULES.items():
    low, high = schedule.time_at(torch.tensor([-5.9, 6.0]))
    model, estimates = best_noise_prediction(schedule), []
    for _ in range(100):
        z, noise, t = bumps.sample(500), torch.randn(500, 1), low + (high - low) * torch.rand(500)
        estimates.append((high - low) * lambda_loss(model, z, noise, t, schedule, fading))
    mean, scatter = torch.stack(estimates).mean(), torch.stack(estimates).std()
    print(f"{name:12s}   {mean:.2f} ± {scatter / 10:.2f}          {scatter:.2f}")

# %% [markdown]
# ### Exercise {exercise:effective_weight} · The weight in disguise ({points:effective_weight} points)
#
# In practice nobody writes $\dot\lambda$. One takes the plain error of some output at uniform times, and in this way
# chooses a $w(\lambda)$ without saying so. To find it, write the output's error in terms of the noise error (exercise
# {exercise:x_mse_weight}, twice), and compare with the loss of exercise {exercise:loss_over_log_snr}:
#
# <a id="eq-effective"></a>
# $$\|\text{error of the output}\|^2 = w(\lambda_t)\, \dot\lambda_t\, \|\hat\varepsilon - \varepsilon\|^2.$$
#
# Write `effective_weight(output, t, schedule)`: [this $w$](#eq-effective), at the time $t$. fmlab's own version of exercise {exercise:x_mse_weight},
# `conversions.x_mse_weight(output, t, schedule)`, is there for you to use.
#
# <details><summary>Hint</summary>
# Factor of the output over the factor of the noise gives the left-hand side per noise error. What is left to divide by?
# </details>

# %% exercise="effective_weight"
def effective_weight(output, t, schedule):
    """The weight w(λ_t) over λ that the plain error of an output has, with uniform times.

    output: a name as in `convert_output`. t: a number inside (0, 1), or a tensor (n,) of such.
    Returns a tensor of the shape of t.
    """
    ### BEGIN SOLUTION
    factor = conversions.x_mse_weight(output, t, schedule)
    ratio = factor / conversions.x_mse_weight("noise", t, schedule)
    growth = schedule.alpha_dot(t) / schedule.alpha(t)
    return ratio / (2 * (growth - schedule.beta_dot(t) / schedule.beta(t)))
    ### END SOLUTION


# %% check="effective_weight" points=3

# %% [markdown]
# **Flow matching is $v$-prediction with the cosine schedule.** On the left, the weights of four common recipes; only
# the shapes matter, since a constant factor is a matter of the learning rate. Compared with noise prediction, flow
# matching moves weight to the noisy end, where the large features of the data are decided; compared with data
# prediction, to the other end, where the details are. On the right, the plain flow matching loss and the plain
# $v$-loss with the cosine schedule: one is $\pi/2$ times the other *at every $\lambda$*. Two papers, two outputs, two
# schedules, one loss.

# %%
lambda_weight = lab5.answer_or("effective_weight")
levels = torch.linspace(-7, 7, 141)


def recipe(output, schedule):
    return lambda_weight(output, schedule.time_at(levels), schedule)


fig, axes = plots.figure(columns=2, width=4.6)
recipes = {
    "vector field, CondOT": ("vector_field", CondOT()),
    "noise, cosine": ("noise", Cosine()),
    "noise, linear VP": ("noise", LinearVP()),
    "data, cosine": ("data", Cosine()),
}
for label, (output, schedule) in recipes.items():
    axes[0].semilogy(levels, recipe(output, schedule), label=label)
flow, velocity = recipe("vector_field", CondOT()), recipe("velocity", Cosine())
axes[1].semilogy(levels, flow, color=plots.SKY, ls="-", lw=5, label="vector field, CondOT")
label = r"$\pi/2 \times$ velocity, cosine"
axes[1].semilogy(levels, math.pi / 2 * velocity, color=plots.BLACK, ls="--", label=label)
for ax in axes:
    ax.set(xlabel=r"$\lambda$", ylabel=r"weight $w(\lambda)$", ylim=(1e-4, 1e2))
    ax.legend(fontsize=8)
ratio = flow / velocity
print(f"CondOT flow over cosine velocity: from {ratio.min():.5f} to {ratio.max():.5f}")
print(f"π/2 is {math.pi / 2:.5f}")
plots.describe(
    "Left: four weights of different slopes over λ. Right: the weight of the vector field and "
    "that of the velocity times π/2 are one straight line."
)

# %% [markdown]
# ## 4 · Samplers
#
# Now one network for all that follows. It is trained once, with plain flow matching on CondOT, to draw the
# checkerboard.

# %%
checkerboard, condot = distributions.Checkerboard(), CondOT()
pool = checkerboard.sample(100_000)


def flow_matching(network):
    batch = pool[torch.randint(len(pool), (1000,))]
    return losses.flow_matching_loss(network, paths.GaussianPath(condot), batch)


network = training.train(models.MLP(2), flow_matching, steps=1500).requires_grad_(False)
print(f"flow matching loss, mean of the last 100 steps: {sum(network.history[-100:]) / 100:.3f}")

# %% [markdown]
# Diffusion models are sampled by **DDIM**. It asks the network for the data $\hat z$, works out the noise
# $\hat\varepsilon$ that goes with it, and puts both together again with the weights of the next time $s$:
#
# <a id="eq-ddim"></a>
# $$x_s = \alpha_s \hat z + \beta_s \hat\varepsilon, \qquad x_t = \alpha_t \hat z + \beta_t \hat\varepsilon. \tag{meet, overview}$$
#
# ### Exercise {exercise:ddim_step} · One DDIM step ({points:ddim_step} points)
#
# Write `ddim_step(x, data, t, s, schedule)`: the states at $s$ of [meet, overview](#eq-ddim), from the states `x` at $t$ and the guess `data` of
# $z$.
#
# <details><summary>Hint</summary>
# The second equation gives the noise. The whole step is deterministic.
# </details>

# %% exercise="ddim_step"
def ddim_step(x, data, t, s, schedule):
    """One step of DDIM from t to s.

    x: (n, *shape) states at t. data: (n, *shape), the network's guess of z there.
    t, s: numbers with 0 ≤ t < s ≤ 1, or (n,), one time per state.
    Returns the states at s, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, x)
    alpha_s, beta_s, *_ = schedule.weights(s, x)
    return alpha_s * data + beta_s * (x - alpha * data) / beta
    ### END SOLUTION


# %% check="ddim_step" points=3

# %% [markdown]
# **DDIM on CondOT is Euler's method.** With $\alpha_t = t$ and $\beta_t = 1 - t$ the step is $x_s = x_t + (s -
# t)(\hat z - \hat\varepsilon)$, and $\hat z - \hat\varepsilon$ is the vector field. (The source prints this step with
# a minus sign, which walks back into the noise: entry 5.) On the cosine schedule the two differ: for the length of a
# step, Euler holds the *velocity* of the state, and DDIM holds the guess. Our network only knows CondOT;
# `data_prediction` lets it speak any schedule, with what you wrote in exercises {exercise:to_variance_preserving} and {exercise:convert_output}.

# %%
ddim = lab5.answer_or("ddim_step")


def data_prediction(x, t, schedule):
    """The network's guess of z, at a state and time of any schedule."""
    r = condot.time_at(schedule.log_snr(t))
    x_r = from_vp(to_vp(x, t, schedule), r, condot)
    return convert(network(x_r, r), x_r, r, condot, "vector_field", "data")


def by_ddim(x, ts, schedule):
    states = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        states.append(ddim(states[-1], data_prediction(states[-1], t, schedule), t, s, schedule))
    return torch.stack(states)


def by_euler(x, ts, schedule):
    states = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        data = data_prediction(states[-1], t, schedule)
        u = convert(data, states[-1], t, schedule, "data", "vector_field")
        states.append(states[-1] + (s - t) * u)
    return torch.stack(states)


x0, ts = torch.randn(10, 2), torch.linspace(0.01, 0.99, 8)
fig, axes = plots.figure(columns=2, width=3.8, height=3.8)
for ax, name in zip(axes, ("CondOT", "cosine"), strict=True):
    euler_states, ddim_states = (run(x0, ts, SCHEDULES[name]) for run in (by_euler, by_ddim))
    for k in range(len(x0)):
        label = {"label": "Euler"} if k == 0 else {}
        ax.plot(*euler_states[:, k].T, "o-", color=plots.SKY, ms=6, lw=3, **label)
    for k in range(len(x0)):
        label = {"label": "DDIM"} if k == 0 else {}
        ax.plot(*ddim_states[:, k].T, ".--", color=plots.BLACK, ms=4, lw=1, **label)
    ax.set(title=f"{name}, 7 steps", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    ax.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4))
    difference = largest(euler_states - ddim_states)
    print(f"{name:7s} largest difference of Euler and DDIM: {difference:.1e}")
axes[1].legend(loc="upper right", frameon=True)
plots.describe(
    "For CondOT the points of Euler and DDIM coincide at every step. For cosine the two sets of "
    "points lie apart."
)

# %% [markdown]
# **For DDIM, a schedule is only a choice of times.** Give it the same values of $\lambda$ in every schedule, and the
# same points come out, up to rounding. Given equally spaced *times*, schedules put their steps elsewhere in
# $\lambda$, and the results differ; that is the only way in which a schedule acts on these samples. With which
# schedule the network was trained plays no part in it.

# %%
x0, levels = torch.randn(2000, 2), torch.linspace(-5.9, 8, 21)
ends = {}
for name, schedule in SCHEDULES.items():
    ts = schedule.time_at(levels)
    start = from_vp(x0, ts[0], schedule)
    ends[name] = to_vp(by_ddim(start, ts, schedule)[-1], ts[-1], schedule)
    difference = largest(ends[name] - ends["CondOT"])
    print(f"{name:10s} largest difference from the samples by CondOT: {difference:.1e}")

# %% [markdown]
# ### Exercise {exercise:ddpm_step} · DDPM: overshoot and renoise ({points:ddpm_step} points)
#
# DDIM is deterministic; its older sibling **DDPM** draws noise at each step. Both are one idea. Let $\Delta\lambda =
# \lambda_s - \lambda_t$. Let DDIM go *too far*, to a time $r$ with $\lambda_r = \lambda_s + c\,\Delta\lambda$, and
# let noise bring the state back:
#
# $$x_r = \alpha_r \hat z + \beta_r \hat\varepsilon, \qquad
# x_s = \frac{\alpha_s}{\alpha_r}\, x_r + \sqrt{\beta_s^2 - \Big(\frac{\alpha_s}{\alpha_r} \beta_r\Big)^2}\; \xi,
# \qquad \xi \sim N(0, I). \tag{meet, sampling}$$
#
# The second step is what the forward diffusion does: it scales the state and fills up its noise to $\beta_s$. Since
# $\beta_r/\alpha_r = e^{-\lambda_r/2} = e^{-c\Delta\lambda/2}\, \beta_s/\alpha_s$, the time $r$ drops out, and
#
# <a id="eq-churn"></a>
# $$x_s = \alpha_s \hat z + \beta_s \big( q\, \hat\varepsilon + \sqrt{1 - q^2}\; \xi \big),
# \qquad q = e^{-c\,\Delta\lambda/2}.$$
#
# The number $c \ge 0$ is the **churn**: 0 is DDIM, 1 is DDPM (it undoes half of what its DDIM did), and any other
# value is allowed as well.
#
# Write `ddpm_step(x, data, t, s, schedule, noise, churn)`, the [step to $s$](#eq-churn), where `noise` is $\xi$, already
# drawn for you.
#
# <details><summary>Hint</summary>
# $\hat\varepsilon$ as in exercise {exercise:ddim_step}. For $q$ no logarithm is needed: $e^{-\Delta\lambda/2} = \alpha_t \beta_s / (\beta_t \alpha_s)$.
# </details>

# %% exercise="ddpm_step"
def ddpm_step(x, data, t, s, schedule, noise, churn):
    """One step of DDPM from t to s: DDIM to λ_s + churn · Δλ, then renoising to λ_s.

    x: (n, *shape) states at t. data: the network's guess of z there. noise: (n, *shape), standard
    normal. t, s: numbers with 0 < t < s < 1, or (n,), one time per state. churn: a number ≥ 0.
    Returns the states at s, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, x)
    alpha_s, beta_s, *_ = schedule.weights(s, x)
    kept = (alpha * beta_s / (beta * alpha_s)) ** churn
    predicted = (x - alpha * data) / beta
    return alpha_s * data + beta_s * (kept * predicted + torch.sqrt(1 - kept**2) * noise)
    ### END SOLUTION


# %% check="ddpm_step" points=5

# %% [markdown]
# **What churn does.** Thirty paths from *one* starting point, with the exact denoiser of our two bumps. Without churn
# the start decides everything. The more churn, the more of the noise is drawn on the way, and the later it is decided
# where a path ends. Over all starting points, the law of the ends is the same in every panel.

# %%
ddpm = lab5.answer_or("ddpm_step")
inner = torch.linspace(0.002, 0.998, 101)  # λ is infinite at the very ends


def by_ddpm(denoiser, x, ts, schedule, churn):
    states = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        noise = torch.randn_like(x)
        data = denoiser(states[-1], t)
        states.append(ddpm(states[-1], data, t, s, schedule, noise, churn))
    return torch.stack(states)


denoiser = paths.GaussianPath(condot).marginal(bumps).posterior_mean
fig, axes = plots.figure(columns=4, width=2.7, height=2.9)
for ax, churn in zip(axes, (0.0, 0.05, 0.3, 1.0), strict=True):
    states = by_ddpm(denoiser, torch.full((30, 1), 0.3), inner, condot, churn)
    plots.plot_paths(inner, states, ax, color=plots.BLUE, ls="-", alpha=0.5)
    ax.set(title=f"churn {churn:g}", ylim=(-2.5, 2.5))
plots.describe(
    "Thirty paths from one point. Without churn they are a single line; with a little they fan "
    "out slowly, and with churn 1 they jump about at once and settle late in two bumps."
)

# %% [markdown]
# **Churn 1 is the DDPM chain.** Two noise levels are two steps of a chain, and its reverse posterior (lab 4) is known
# in closed form. A DDPM step with $\xi = 0$ is its mean, and the factor of $\xi$ its standard deviation.

# %%
t, s, z, x = 0.5, 0.55, torch.randn(5, 2), torch.randn(5, 2)
bar_t, bar_s = Cosine().alpha(t) ** 2, Cosine().alpha(s) ** 2
chain = Chain([float(1 - bar_s), float(1 - bar_t / bar_s)])
mean, shifted = (ddpm(x, z, t, s, Cosine(), xi * torch.ones_like(x), 1.0) for xi in (0.0, 1.0))
print(f"largest difference of the means: {largest(mean - chain.posterior_mean(x, z, 2)):.1e}")
print(f"factor of ξ: {largest(shifted - mean):.5f}", end=", ")
print(f"posterior standard deviation: {chain.posterior_variance(2) ** 0.5:.5f}")

# %% [markdown]
# **Try it.** The histogram holds the ends of 1000 paths; the line is the exact density. How many steps does each
# churn need? What goes wrong first when steps are few, and does churn help or hurt?

# %%
widgets.sampler_churn()

# %% [markdown]
# **One network, five samplers.** All of them use the network trained above. What they cost is counted in evaluations
# of the network (midpoint and Heun need two per step). Quality is the energy distance to fresh data; the horizontal
# line is what two fresh sets of data are apart.

# %%
def sampled(sampler, evaluations, x0):
    """Samples of the checkerboard from x0, with so many evaluations of the network."""
    if sampler in ("midpoint", "Heun"):
        method = simulators.Midpoint() if sampler == "midpoint" else simulators.Heun()
        return samplers.sample_flow(network, x0, evaluations // 2, method)
    ts = torch.linspace(0.002, 0.998, evaluations + 1)
    churn = {"Euler = DDIM": 0.0, "DDPM, churn 0.3": 0.3, "DDPM, churn 1": 1.0}[sampler]
    return by_ddpm(lambda x, t: data_prediction(x, t, condot), x0, ts, condot, churn)[-1]


SAMPLERS = ("Euler = DDIM", "midpoint", "Heun", "DDPM, churn 0.3", "DDPM, churn 1")
x0, fresh, evaluations = torch.randn(2500, 2), checkerboard.sample(2500), (4, 8, 16, 32, 64)
fig, (ax,) = plots.figure(width=6.4, height=3.6)
for sampler, marker in zip(SAMPLERS, plots.MARKERS, strict=False):
    distances = [metrics.energy_distance(sampled(sampler, n, x0), fresh) for n in evaluations]
    ax.loglog(evaluations, distances, marker=marker, ms=5, label=sampler)
floor = float(metrics.energy_distance(checkerboard.sample(2500), fresh))
ax.axhline(floor, color=plots.BLACK, ls=":", lw=1)
ax.text(4, 1.1 * floor, "two fresh sets", fontsize=8)
ax.set(xlabel="evaluations of the network", ylabel="energy distance")
ax.set_xticks(evaluations, [str(n) for n in evaluations])
ax.minorticks_off()
ax.legend(fontsize=8)
plots.describe(
    "On logarithmic axes the energy distance falls as evaluations grow. Midpoint and Heun reach "
    "the floor at 8 to 16 evaluations; Euler needs about 64, and the more churn, the more are "
    "needed."
)

# %% [markdown]
# **What eight evaluations look like.** Euler pulls the squares together into blobs; a method of second order has
# nearly finished. Churn costs: noise that is added has to be taken out again by later steps, and here these are few.
# (What it may buy, with many steps, is that late steps repair errors which the network made early.)

# %%
fig, axes = plots.figure(columns=4, width=2.7, height=3.0)
for ax, sampler in zip(axes, SAMPLERS[:2] + SAMPLERS[3:], strict=True):
    plots.plot_samples(sampled(sampler, 8, x0), ax).set_title(sampler)
    ax.set(xlim=(-3, 3), ylim=(-3, 3))
plots.describe(
    "Four clouds after eight evaluations. The eight cells are clearest for midpoint; Euler pulls "
    "them together, and with churn they blur and run into each other."
)

# %% [markdown]
# ## 5 · The diffusion behind a schedule
#
# Diffusion models start from a process that turns data into noise. Its time is $s = 1 - t$, from data to noise:
#
# $$dX_s = f(s)\, X_s\, ds + g(s)\, dW_s. \tag{meet, diffusion models}$$
#
# Flow matching starts from $\alpha$ and $\beta$. Each pair determines the other:
#
# <a id="eq-rates"></a>
# $$f = -\frac{\dot\alpha_t}{\alpha_t}, \qquad
# g^2 = 2\Big(\beta_t^2\, \frac{\dot\alpha_t}{\alpha_t} - \beta_t \dot\beta_t\Big) \qquad \text{at } t = 1 - s.
# \tag{meet, how to relate}$$
#
# The signs are those of our $t$; in the source's time $f = \partial_s \log \alpha$. (Its first formula for $g$ has the
# square root, its summary has lost it: entry 4.)
#
# ### Exercise {exercise:sde_from_schedule} · From a schedule to its diffusion ({points:sde_from_schedule} points)
#
# Write `sde_from_schedule(t, schedule)`, which returns $f$ and $g$ (not $g^2$) of [meet, how to relate](#eq-rates) at
# $s = 1 - t$.
#
# <details><summary>Hint</summary>
# Four calls to the schedule and the two formulas. A variance-exploding schedule has $f = 0$: a test you can do in your head.
# </details>

# %% exercise="sde_from_schedule"
def sde_from_schedule(t, schedule):
    """(f, g) of the diffusion dX = f X ds + g dW behind a schedule, at s = 1 − t.

    t: a number or a tensor (n,), inside (0, 1). Returns f and g, two tensors of the shape of t.
    """
    ### BEGIN SOLUTION
    growth = schedule.alpha_dot(t) / schedule.alpha(t)
    beta, beta_dot = schedule.beta(t), schedule.beta_dot(t)
    return -growth, torch.sqrt(2 * (beta**2 * growth - beta * beta_dot))
    ### END SOLUTION


# %% check="sde_from_schedule" points=4

# %% [markdown]
# **Rates.** How fast each diffusion shrinks the data ($-f$) and how fast it adds noise ($g^2$), over its own time.
# `CondOT` and `Cosine` forget the data completely at $s = 1$: for that, their rates must grow without bound.
# `LinearVP` has its name from the straight line on the left.

# %%
coefficients_of = lab5.answer_or("sde_from_schedule")
s = torch.linspace(0.005, 0.98, 196)
fig, axes = plots.figure(columns=2, width=4.6)
for name, schedule in SCHEDULES.items():
    f, g = coefficients_of(1 - s, schedule)
    axes[0].plot(s, -f, label=name)
    axes[1].semilogy(s, g**2, label=name)
axes[0].set(xlabel="time of the diffusion $s = 1 - t$", ylabel="$-f$", ylim=(-1, 25))
axes[1].set(xlabel="time of the diffusion $s = 1 - t$", ylabel="$g^2$")
axes[1].legend(fontsize=8)
plots.describe(
    "Left: the rate of forgetting grows without bound for CondOT and cosine, along a straight "
    "line for linear VP, and is 0 for VE. Right: the rates of noise grow too, that of VE from the "
    "highest level."
)

# %% [markdown]
# ### Exercise {exercise:schedule_from_sde} · From a diffusion to its schedule ({points:schedule_from_sde} points)
#
# Now the way back. What is left of a data point at time $s$ is $\alpha$; it shrinks at the rate $f$. The noise added
# during $dr$ has variance $g^2(r)\, dr$, and shrinks from then on as the data do, by the factor
# $\alpha(s)/\alpha(r)$. Adding up:
#
# <a id="eq-schedule"></a>
# $$\alpha(s) = \exp \int_0^s f(r)\, dr, \qquad
# \beta(s)^2 = \int_0^s g^2(r)\, \frac{\alpha(s)^2}{\alpha(r)^2}\, dr. \tag{meet, corrected}$$
#
# (The source prints this integral without the factor $\alpha(s)^2$: entry 2. For $f = -1$, $g^2 = 2$ and long times,
# which of the two versions settles at the stationary variance 1 that you know from lab 1? The figure below the
# exercise will tell.)
#
# Write `schedule_from_sde(f, g_squared, s)`, which returns $\alpha$ and $\beta$ of [meet, corrected](#eq-schedule) at the
# times `s`, a fine grid from 0.
#
# <details><summary>Hint</summary>
# <code>torch.cumulative_trapezoid(y, s)</code> integrates from the start of the grid to each later point. It returns one value
# less than the grid has points: the integral from 0 to 0 is missing in front. The factor $\alpha(s)^2$ does not depend on $r$.
# </details>

# %% exercise="schedule_from_sde"
def schedule_from_sde(f, g_squared, s):
    """(α, β) of the diffusion dX = f X ds + g dW, by numerical integration.

    f, g_squared: functions of a tensor of times, (m,) → (m,). s: (m,) increasing times, s[0] = 0,
    close together but not always equally. Returns α and β at these times, both (m,).
    """
    ### BEGIN SOLUTION
    start = s.new_zeros(1)
    alpha = torch.cat([start, torch.cumulative_trapezoid(f(s), s)]).exp()
    spread = torch.cat([start, torch.cumulative_trapezoid(g_squared(s) / alpha**2, s)])
    return alpha, alpha * spread.sqrt()
    ### END SOLUTION


# %% check="schedule_from_sde" points=5

# %% [markdown]
# **There and back.** From the schedule `LinearVP` to its diffusion (exercise {exercise:sde_from_schedule}), and back by integration (exercise
# {exercise:schedule_from_sde}). On the right a new diffusion, with constant rates: the Ornstein–Uhlenbeck process of lab 1, whose exact law
# decides between $\beta$ as corrected and $\beta$ as printed. Any such process is a schedule, and flow matching could
# train on it. But on this one it should not: at $s = 1$ a good part of the data is left, while sampling starts from
# pure noise.

# %%
schedule_of = lab5.answer_or("schedule_from_sde")


def rates(s):
    """(f, g) behind LinearVP, whose β has an infinite slope at s = 0: stay away from it."""
    return coefficients_of(1 - s.clamp(min=1e-4), LinearVP())


s = torch.linspace(0, 1, 2001, dtype=torch.float64)
there_and_back = schedule_of(lambda s: rates(s)[0], lambda s: rates(s)[1] ** 2, s)
constant = schedule_of(lambda s: -torch.ones_like(s), lambda s: 2 * torch.ones_like(s), s)
fig, axes = plots.figure(columns=2, width=4.6)
for ax, (alpha, beta) in zip(axes, (there_and_back, constant), strict=True):
    ax.plot(s, alpha, color=plots.BLUE, ls="-", label=r"$\alpha$")
    ax.plot(s, beta, color=plots.RED, ls="--", label=r"$\beta$")
    ax.set(xlabel="time of the diffusion $s = 1 - t$", ylabel="weight")
few = s[::200]
variance = processes.ornstein_uhlenbeck(1.0, math.sqrt(2)).moments(torch.zeros(1), few)[1]
axes[0].plot(few, LinearVP().alpha(1 - few), "ko", ms=4, label="LinearVP itself")
axes[0].plot(few, LinearVP().beta(1 - few), "ko", ms=4)
axes[1].plot(few, variance.sqrt(), "ko", ms=4, label="exact standard deviation, lab 1")
axes[1].plot(s, torch.expm1(2 * s).sqrt(), color=plots.GREEN, ls=":", label=r"$\beta$ as printed")
axes[0].set(title="LinearVP, there and back", ylim=(0, 1.05))
axes[1].set(title="constant rates $f = -1$, $g^2 = 2$", ylim=(0, 2.7))
axes[0].legend(loc="center right")
axes[1].legend(loc="upper left")
plots.describe(
    "Left: the curves integrated from the rates pass through all dots of LinearVP itself. Right: "
    "the corrected β passes through the dots of the exact law and levels off below 1; β as "
    "printed grows past 2.5."
)

# %% [markdown]
# **One generative SDE, written twice.** Flow matching adds noise of any strength $\sigma_t$ to its flow; diffusion
# models turn their diffusion around and scale its noise by any $\eta$:
#
# $$dX_t = \big(u_t + \tfrac12 \sigma_t^2\, s_t\big)\, dt + \sigma_t\, dW_t, \qquad
# dX_t = \big({-f} X_t + \tfrac12 (1 + \eta^2)\, g^2 s_t\big)\, dt + \eta g\, dW_t.$$
#
# With $\sigma_t = \eta g$ the noise is the same, and so is the drift, as the cell measures. (The source prints $1 +
# \eta$ in place of $1 + \eta^2$, entry 7. For which two values of $\eta$ would one not notice?)

# %%
t, x = 0.4, torch.linspace(-2.5, 2.5, 101)[:, None]
exact = paths.GaussianPath(Cosine()).marginal(bumps)
f, g = coefficients_of(t, Cosine())
u, score = exact.vector_field(x, t), exact.score(x, t)
print("  η    largest difference of the drifts    with 1 + η as printed")
for eta in (0.0, 0.5, 1.0, 2.0):
    flow_drift = u + 0.5 * (eta * g) ** 2 * score
    corrected, as_printed = (
        -f * x + 0.5 * factor * g**2 * score for factor in (1 + eta**2, 1 + eta)
    )
    wrong = largest(flow_drift - as_printed)
    print(f"{eta:4.1f}   {largest(flow_drift - corrected):20.1e} {wrong:30.1e}")

# %% [markdown]
# ## 6 · Are the paths of flow matching straight?
#
# "Flow matching paths are straight, diffusion paths are curved." One hears it often, and it decides how many steps a
# sampler needs. So let us measure. A trajectory is straight if its length is the distance between its ends. Over many
# trajectories,
#
# <a id="eq-curvature"></a>
# $$\text{curvature} = \frac{\text{mean length}}{\text{mean distance between the ends}} - 1$$
#
# is 0 if all of them are straight and positive otherwise.
#
# ### Exercise {exercise:path_curvature} · Curvature ({points:path_curvature} points)
#
# Write `path_curvature(states)`, [this number](#eq-curvature) for states recorded at many times.
#
# <details><summary>Hint</summary>
# The length of a trajectory is the sum of the lengths of its steps: <code>states.diff(dim=0)</code>. A point may be an image, so
# flatten its coordinates before you take norms. Both means are over the trajectories; divide last.
# </details>

# %% exercise="path_curvature"
def path_curvature(states):
    """Mean length over mean distance between the ends, minus 1.

    states: (T, n, *shape), n trajectories recorded at T times, in their order. Returns one number.
    """
    ### BEGIN SOLUTION
    length = states.diff(dim=0).flatten(2).norm(dim=2).sum(0)
    distance = (states[-1] - states[0]).flatten(1).norm(dim=1)
    return length.mean() / distance.mean() - 1
    ### END SOLUTION


# %% check="path_curvature" points=3

# %% [markdown]
# **Measured, three times.** The data are two clusters in the plane, and every field is exact.
#
# - *One pair:* the path $\alpha_t z + \beta_t \varepsilon$ from a fixed noise to a fixed data point, which is what flow matching is
#   trained on.
# - *The flow:* the trajectories of the marginal field, which is what a sampler follows.
# - *Rescaled:* the same trajectories, brought to the variance-preserving schedule state by state (exercise {exercise:to_variance_preserving}).

# %%
curvature = lab5.answer_or("path_curvature")
clusters = distributions.GaussianMixture(
    torch.tensor([[2.0, 0.0], [-1.0, 0.5]], dtype=torch.float64),
    torch.tensor([0.1, 0.3], dtype=torch.float64),
)
seeded = torch.Generator().manual_seed(0)
z = clusters.sample(1000, seeded)
noise = torch.randn(1000, 2, dtype=torch.float64, generator=seeded)
levels = torch.linspace(-5.9, 12, 250, dtype=torch.float64)
trajectories, twins = {}, {}
print("schedule      one pair    the flow    rescaled")
for name, schedule in SCHEDULES.items():
    ts = torch.cat([torch.zeros(1), schedule.time_at(levels), torch.ones(1)]).double().unique()
    path = paths.GaussianPath(schedule)
    pairs = torch.stack([path.interpolate(z, noise, t) for t in ts])
    field = path.marginal(clusters).vector_field
    states = samplers.sample_flow(field, schedule.beta(0.0) * noise, ts, record=True)
    trajectories[name] = states
    twins[name] = torch.stack([to_vp(x, t, schedule) for x, t in zip(states, ts, strict=True)])
    row = [float(curvature(moving)) for moving in (pairs, states, twins[name])]
    print(f"{name:10s} {row[0]:11.3f} {row[1]:11.3f} {row[2]:11.3f}")

# %% [markdown]
# **The trajectories of the flow,** from the same noise. Seen from far away, `VE` comes in along nearly straight
# lines: its noise is twenty times larger than the data, which bend only the last bit of the way. CondOT, whose single
# pairs are perfectly straight, has the *least* straight flow of all four: at first every point heads for the mean of
# all the data, and only later, when $\lambda$ has grown, the field learns to which cluster it belongs. An average of
# straight lines over what is still unknown is not a straight line. Only if the data were a single point would there
# be nothing to average.

# %%
fig, axes = plots.figure(columns=4, width=2.8, height=3.0)
for ax, (name, states) in zip(axes, trajectories.items(), strict=True):
    plots.plot_trajectories(states[:, :40], ax, lw=0.7)
    ax.set_title(name)
axes[0].legend(fontsize=7)
plots.describe(
    "For CondOT, cosine and linear VP the trajectories bend on their way from starts to ends. For "
    "VE, on axes twenty times as long, they run straight to the centre."
)

# %% [markdown]
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab5.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab5.progress()

# %% [markdown]
# ## 7 · Two questions to answer in words
#
# These two are read by a person.
#
# ### Question {exercise:what_matters} · What matters? ({points:what_matters} points)
#
# A colleague plans an experiment: "We compare our diffusion model, trained with noise prediction and a linear VP
# schedule and sampled with DDPM, to flow matching, trained with CondOT and sampled with Euler." She changes four
# things at once: the schedule, the output, the weight of the loss, and the sampler. For each of the four, say whether
# it changes the ideal trained model, only how well training or sampling approximates it, or nothing at all but names,
# and which measurement of this lab shows it.

# %% [markdown] answer="what_matters" points=4
# ### BEGIN SOLUTION
# *Schedule.* In training it drops out of the loss, which depends on $w(\lambda)$ and the end points alone (exercise
# {exercise:loss_over_log_snr}: one curve over $\lambda$). It changes only the scatter of the estimates. In sampling it is a choice of times: at
# the same $\lambda$, DDIM gives the same samples with all four schedules. So it relabels, apart from efficiency and
# discretisation.
#
# *Output.* The outputs translate into one another exactly (exercise {exercise:convert_output}), so the perfect network says the same in all
# of them. But the plain error of an output is a weight on the error of the data (exercise {exercise:x_mse_weight}). With the weight
# corrected for, it only relabels; for a real network, it may still change how easy the function is to learn.
#
# *Weight.* This one is real: $w(\lambda)$ decides at which noise levels a network of limited size and training is
# accurate. A perfect network would not notice even this, since at every $\lambda$ the same guess is best. Flow
# matching with CondOT has the same $w$ as $v$-prediction with the cosine schedule, up to the constant $\pi/2$
# (exercise {exercise:effective_weight}).
#
# *Sampler.* It does not touch the trained model, and with many steps and an exact model all samplers, with any churn,
# have the same law. With few steps they differ (figure of the five samplers): order of the method and churn matter.
# Euler on CondOT is DDIM, so *that* difference is only a name.
#
# She should change one thing at a time: the weight for training, the sampler (with its times and churn) for sampling.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:are_paths_straight} · Are the paths straight? ({points:are_paths_straight} points)
#
# Look at the table of exercise {exercise:path_curvature} row by row and column by column. In what sense is the sentence "flow matching paths
# are straight" true, and in what sense is it false? Why is the last column (nearly) constant, and what does that say
# about straightness as a property of a *model*?

# %% [markdown] answer="are_paths_straight" points=3
# ### BEGIN SOLUTION
# True for one pair: given $z$ and $\varepsilon$, the path of CondOT is a straight line (curvature 0), and so is that
# of the flow if the data are a single point. False for the flow that generates: its field is the average of the
# conditional ones over all $z$ that are possible given $x$, and this average turns as $\lambda$ grows and the
# posterior decides for a cluster. There, CondOT has the largest curvature of the four (0.35), and VE the smallest
# (0.01), although its single pairs are as straight as those of CondOT.
#
# The last column is constant because the trajectories of two schedules are the same up to a known factor, the one of
# exercise {exercise:to_variance_preserving}. Rescaled to the same coordinates they are the same curves (VE begins only at $\lambda_0 = -6$, and so
# has a little less of them). Straightness is therefore not a property of the model but of the coordinates (the
# schedule) in which its trajectories are drawn. It can be chosen after training, by the schedule used for sampling.
# ### END SOLUTION

# %% [markdown]
# ## 8 · One model
#
# You can now read a paper of either school and translate it in your head. When the two seem to disagree, ask three
# questions: which $w(\lambda)$? which $\lambda$ steps? how much churn? Everything else in this lab turned out to be a
# change of coordinates, and a trained network can be carried through any of those after training. What remains for
# the next lab is to tell such a network *what* to generate.
