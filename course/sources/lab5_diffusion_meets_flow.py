# %% [markdown] writes="a dictionary of the two languages, what a loss weighs, a checkpoint as a flow, DDIM and DDPM" needs="labs 3 and 4"
# # Lab 5 · Diffusion meets flow matching
#
# Diffusion and flow matching are two languages for one kind of model. One language has noise schedules, noise
# prediction, DDIM and DDPM; the other has [probability paths](../words.md#probability-path), vector fields and Euler's
# method. In this lab you write the dictionary, and *measure* which differences are only words and which change the
# trained network or its samples.
#
# By the end you can take a network that was trained in one language and sample from it in the other, say what a
# training loss weighs, and decide whether the trajectories of flow matching are straight.
#
# **How to work.** As before: replace `raise NotImplementedError`, run the cell, run the check. Figures use your
# function once its check has passed, and fmlab's until then. `lab5.hint("log_snr")` gives up to three hints. What is
# marked *further* can be left out: nothing else needs it. The lab is worth {points:all} points, {points:code} of them
# for code. Networks are trained in two cells, each network for five to ten seconds.
#
# | letter | meaning | section |
# |---|---|---|
# | $z$, $\varepsilon$ | data, and standard normal noise; with a hat: guesses of them | all |
# | $t$ | time: 0 is noise, 1 is data; a dot is a derivative in $t$ | all |
# | $x$ | a state $\alpha_t z + \beta_t\varepsilon$; in code $(n, \dots)$ | all |
# | $\alpha_t$, $\beta_t$ | the [schedule](../words.md#schedule): weights of data and noise | all |
# | $\lambda_t$ | log signal-to-noise ratio, log-SNR for short | 1 |
# | $u$ | the [vector field](../words.md#vector-field), $\dot\alpha_t z + \dot\beta_t\varepsilon$: the velocity of a state | 2 |
# | $v$ | $\alpha_t\varepsilon - \beta_t z$, as in "$v$-prediction"; not the velocity of lab 2 | 2 |
# | $\kappa_t$ | squared error of an output, divided by that of the data | 2 |
# | $w(\lambda)$ | what a loss weighs | 3 |
# | $r$ | the time at which another schedule has the same $\lambda$ | 4 |
# | $s$ | the time after the next step of a sampler | 5 |
# | $c$, $q$, $\xi$ | churn, the share of old noise that is kept, and new noise | 5 |
# | $\tau$, $f$, $g$ | time $1 - t$ of a diffusion, and the rates of its drift and of its noise | 7 |
#
# In code, `t` is a number, a tensor without dimensions, or a tensor $(n,)$ with one time per state.
#
# The lab follows [Diffusion Meets Flow Matching](https://diffusionflow.github.io/) (Gao et al., 2024), in our letters
# and with our direction of time. It was written from an early draft of that text, which had some errors. Two of them you
# will find by measuring; the end of the lab lists those that concern it.

# %%
import math

import torch

from fmlab import conversions, distributions, losses, metrics, models, paths, plots
from fmlab import processes, samplers, schedules, simulators, threads, training, widgets
from fmlab.checks import lab5
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · What schedules have in common
#
# A published network comes with its own schedule. Before you can use it with another one, you have to know what two
# schedules share.
#
# Flow matching mostly uses the straight schedule `CondOT`, $\alpha_t = t$ and $\beta_t = 1 - t$. `Cosine` and
# `LinearVP` are **variance preserving**, $\alpha_t^2 + \beta_t^2 = 1$. `VE` is **variance exploding**: the data keep
# their weight $\alpha_t = 1$, and the noise begins with a large weight, $\beta_t = \sigma_{\max}(1 - t)$, here with
# $\sigma_{\max} = 20$.
#
# What a network can know about the data at time $t$ depends on how much noise covers them. The measure of this is the
# [log signal-to-noise ratio](../words.md#log-snr) or **log-SNR**,
#
# <a id="eq-log-snr"></a>
# $$\lambda_t = \log \frac{\alpha_t^2}{\beta_t^2}.$$
#
# It rises from very negative (all noise) to very positive (all data).
#
# ### Exercise {exercise:log_snr} · The log signal-to-noise ratio ({points:log_snr} points)
#
# Write `log_snr(t, schedule)`: [the log-SNR above](#eq-log-snr), from `schedule.alpha` and `schedule.beta`.
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
# **Four schedules.** Left: their weights, as curves in the plane of $\alpha$ and $\beta$; marks stand at $t = 0.25,
# 0.5, 0.75$ (those of `VE` lie above the picture). Right: $\lambda_t$. All schedules pass through the same values, at
# different times. (Two begin at a finite $\lambda_0$, since some of the data is always left: `VE` at $-2 \log
# \sigma_{\max} \approx -6$, `LinearVP` near −10.)

# %%
SCHEDULES = {"CondOT": CondOT(), "cosine": Cosine(), "linear VP": LinearVP(), "VE, 20": VE(20.0)}
snr = lab5.answer_or("log_snr")

# %% figure="four schedules: their weights, and λ over time"
ts = torch.linspace(0.002, 0.998, 250)
fig, axes = plots.figure(columns=2, width=4.6)
for (name, schedule), marker in zip(SCHEDULES.items(), plots.MARKERS, strict=False):
    (line,) = axes[0].plot(schedule.alpha(ts), schedule.beta(ts))
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
# Two schedules at equal $\lambda$ have equal ratios $\alpha/\beta$. So their states, made of the same data and noise,
# differ only by a known factor, which can be divided out before the state is given to the network. The usual choice is
# to rescale until the weights obey $\alpha^2 + \beta^2 = 1$: each schedule has a **variance-preserving** twin with the
# same $\lambda_t$.
#
# Write `to_variance_preserving(x, t, schedule)`: the states $x_t$ of any schedule, rescaled to those of its twin, which
# has [the same log-SNR](#eq-log-snr).
#
# A coefficient such as $\alpha_t$ has either no dimensions or the shape $(n,)$; the states have the shape $(n, \dots)$.
# fmlab's `coefficient(value, x)` gives a coefficient the shape that multiplies `x`, and `schedule.weights(t, x)` gives
# all four, $\alpha_t, \beta_t, \dot\alpha_t, \dot\beta_t$, in this shape. Use one or the other, here and below.
#
# <details><summary>Hint</summary>
# Which number must $(\alpha, \beta)$ be divided by, so that the sum of their squares becomes 1? The ratio stays as it is.
# </details>

# %% exercise="to_variance_preserving"
def to_variance_preserving(x, t, schedule):
    """States of a schedule, rescaled to the variance-preserving schedule with the same λ.

    x: (n, *shape) states αz + βε. t: a number in [0, 1], or (n,), one time per state.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, x)
    return x / torch.sqrt(alpha**2 + beta**2)
    ### END SOLUTION


# %% check="to_variance_preserving" points=3

# %% [markdown]
# **Same $\lambda$, same state.** Data on two bumps and one set of noise are mixed by two schedules, each at the time at
# which its $\lambda$ is 2. The states of `VE` are spread wider. After rescaling the states are equal up to rounding,
# point by point, not only in distribution.

# %%
to_vp = lab5.answer_or("to_variance_preserving")
bumps = distributions.GaussianMixture([[-1.5], [1.0]], [0.04, 0.09], [0.4, 0.6])
z, noise = bumps.sample(20_000), torch.randn(20_000, 1)
largest = lambda difference: float(difference.abs().max())  # a number to print
raw, rescaled = {}, {}
for name in ("CondOT", "VE, 20"):
    t = SCHEDULES[name].time_at(torch.tensor(2.0))
    raw[name] = paths.GaussianPath(SCHEDULES[name]).interpolate(z, noise, t)
    rescaled[name] = to_vp(raw[name], t, SCHEDULES[name])
print(f"largest difference, rescaled: {largest(rescaled['CondOT'] - rescaled['VE, 20']):.1e}")

# %% figure="states of two schedules at one λ, before and after rescaling"
fig, axes = plots.figure(columns=2, width=4.6)
for ax, states in zip(axes, (raw, rescaled), strict=True):
    for name, style in (("CondOT", "-"), ("VE, 20", "--")):
        bars = dict(bins=80, density=True, histtype="step", ls=style, lw=1.6)
        ax.hist(states[name][:, 0], label=name, **bars)
    ax.set(ylabel="density", ylim=(0, 1.25 * ax.get_ylim()[1]))
axes[0].set(title=r"states at $\lambda = 2$", xlabel="$x$")
axes[1].set(title="the same, rescaled", xlabel="rescaled state")
axes[0].legend(loc="upper left")
plots.describe(
    "Left: two histograms with two bumps each, that of VE wider. Right: after rescaling the two "
    "lie exactly on each other."
)

# %% [markdown]
# **Try it.** The curve is a schedule, the round mark its weights at time $t$. Rescaling moves them along a ray, on
# which $\lambda$ is constant, to the unit circle. Find times at which two schedules share a ray.

# %%
widgets.noise_schedules()

# %% [markdown]
# ## 2 · What the network predicts
#
# Published networks predict five different things. To use any of them you need a function that turns
# each of them into any other.
#
# The network is given the state,
#
# <a id="eq-state"></a>
# $$x = \alpha_t z + \beta_t \varepsilon.$$
#
# So a guess of the data $z$, of the noise $\varepsilon$, or of a combination of both is the same guess in other words:
# together with $x$, each determines all the others. Five **outputs** are in use.
#
# | name | output | where |
# |---|---|---|
# | `"data"` | $z$ | data prediction, also called $x$-prediction |
# | `"noise"` | $\varepsilon$ | noise prediction, as in DDPM |
# | `"v"` | $v = \alpha_t \varepsilon - \beta_t z$ | $v$-prediction |
# | `"vector_field"` | $u = \dot\alpha_t z + \dot\beta_t \varepsilon$ | flow matching |
# | `"score"` | $-\varepsilon / \beta_t$ | [score](../words.md#score) matching |
#
# (Networks give averages over what $x$ leaves open, such as $\mathbb E[z \mid x]$. These obey the same equations, since
# the equations are linear.)
#
# ### Exercise {exercise:convert_output} · A dictionary ({points:convert_output} points)
#
# Write `convert_output(value, x, t, schedule, source, target)`: the output named `target`, from the `value` of the
# output named `source` and [the state](#eq-state).
#
# <details><summary>Hint</summary>
# Each output is $a z + b\,\varepsilon$ with some $(a, b)$: make a table of the five pairs. Then $x$ and the value are two
# linear equations for $z$ and $\varepsilon$. Solve them (Cramer's rule), and put the result into the row of the target.
# One rule does all twenty conversions.
# </details>

# %% exercise="convert_output"
def convert_output(value, x, t, schedule, source, target):
    """One output of a network from another.

    value: (n, *shape), the output `source` at the states x: (n, *shape).
    t: a number inside (0, 1), or (n,), one time per state.
    source, target: "data", "noise", "v", "vector_field" or "score"; they may be the same.
    Returns the output `target`, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *dots = schedule.weights(t, x)
    rows = {"data": (1, 0), "noise": (0, 1), "v": (-beta, alpha)}
    rows |= {"vector_field": dots, "score": (0, -1 / beta)}
    (a, b), (c, d) = rows[source], rows[target]
    z = (b * x - beta * value) / (alpha * b - beta * a)
    noise = (alpha * value - a * x) / (alpha * b - beta * a)
    return c * z + d * noise
    ### END SOLUTION


# %% check="convert_output" points=6

# %% [markdown]
# **One answer, five outputs.** For data on two bumps the best vector field is known exactly. Here it is converted into
# all five outputs, as functions of the rescaled state, for two schedules at the same $\lambda = 2$. The guesses of data
# and noise are the same curves for both. $v$ and the score differ by a factor, the length $\sqrt{\alpha^2 + \beta^2}$
# of the weights. The vector field differs by more: the speeds $\dot\alpha$ and $\dot\beta$ belong to the schedule, not
# to $\lambda$.

# %%
convert = lab5.answer_or("convert_output")
from_vp = lambda x, t, schedule: x / to_vp(torch.ones_like(x), t, schedule)  # and back
OUTPUTS = ("data", "noise", "v", "vector_field", "score")
grid, curves = torch.linspace(-2.5, 2.5, 201)[:, None], {}
for name in ("CondOT", "cosine"):
    schedule, t = SCHEDULES[name], SCHEDULES[name].time_at(torch.tensor(2.0))
    x = from_vp(grid, t, schedule)
    u = paths.GaussianPath(schedule).marginal(bumps).vector_field(x, t)
    curves[name] = [convert(u, x, t, schedule, "vector_field", output) for output in OUTPUTS]

# %% figure="five outputs of one best answer, for two schedules"
fig, axes = plots.figure(columns=5, width=2.3, height=2.6)
for (name, values), style in zip(curves.items(), ("-", "--"), strict=True):
    for ax, output, value in zip(axes, OUTPUTS, values, strict=True):
        ax.plot(grid, value, ls=style, label=name)
        ax.set(title=output.replace("_", " "), xlabel="rescaled state")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.describe(
    "Five panels, each with its own scale. The curves of data and noise coincide for both "
    "schedules. Those of v and of the score are stretched by a factor. Those of the vector field "
    "differ in form."
)

# %% [markdown]
# ### Exercise {exercise:x_mse_weight} · What an error costs ({points:x_mse_weight} points)
#
# If all outputs say the same, why does it matter which of them a network is trained on? Because the squared error is
# taken of *that* output. Suppose a network's guess of the data is off by $\hat z - z$. Then, at the same state $x$, its
# guess of the noise is off too, and so is every other output, by a factor that depends on $t$:
#
# <a id="eq-weight"></a>
# $$\|\text{error of the output}\|^2 = \kappa_t\, \|\hat z - z\|^2.$$
#
# The draft has a table of these factors, without the score, and for CondOT. The cell below measures them: it takes data,
# noise and a wrong guess of the data, converts right and wrong into each output, and divides.

# %%
printed = {
    "data": lambda t, snr: 1.0,
    "noise": lambda t, snr: math.exp(snr),
    "v": lambda t, snr: (1 - t) ** 2 * (math.exp(-snr) + 1) ** 2,
    "vector_field": lambda t, snr: (1 + math.exp(snr / 2)) ** 2,
}
z, noise, guess = torch.randn(3, 1000, 2)
for output, formula in printed.items():
    for t in (0.25, 0.75):
        x = t * z + (1 - t) * noise
        right, wrong = (convert(y, x, t, CondOT(), "data", output) for y in (z, guess))
        measured = (wrong - right).square().sum() / (guess - z).square().sum()
        said = f"measured {measured:6.3f}, printed {formula(t, CondOT().log_snr(t)):6.3f}"
        print(f"{output:12s} t = {t}: {said}")

# %% [markdown]
# One row does not agree: a sign in the draft's formula (in the cell) is wrong. Which?
#
# Write `x_mse_weight(output, t, schedule)`: [the factor $\kappa_t$](#eq-weight) for each of the five outputs and any
# schedule.
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
    rows = {"data": (torch.ones_like(alpha), 0), "noise": (0, 1), "v": (-beta, alpha)}
    rows |= {"vector_field": (schedule.alpha_dot(t), schedule.beta_dot(t)), "score": (0, 1 / beta)}
    a, b = rows[output]
    return (a - b * alpha / beta) ** 2
    ### END SOLUTION


# %% check="x_mse_weight" points=4

# %% [markdown]
# **The same error in five outputs,** over $\lambda$, with the cosine schedule. With data prediction an error of the data
# counts the same at every $\lambda$. With noise prediction it counts little when noise dominates, and much when there is
# little noise. $v$ and the vector field behave like the data on the left, and like the noise on the right. So whoever
# chooses an output also chooses a weight.

# %%
data_weight = lab5.answer_or("x_mse_weight")
levels = torch.linspace(-6, 6, 121)
factors = {output: data_weight(output, Cosine().time_at(levels), Cosine()) for output in OUTPUTS}

# %% figure="the cost of an error of the data, in five outputs"
fig, (ax,) = plots.figure(width=6.4, height=3.4)
for output, values in factors.items():
    ax.semilogy(levels, values, label=output.replace("_", " "))
ax.set(xlabel=r"log signal-to-noise ratio $\lambda$", ylabel=r"factor $\kappa$", ylim=(1e-3, 1e6))
ax.set(title="cost of an error of the data, cosine schedule")
ax.legend()
plots.describe(
    "On a logarithmic scale the factor of the data is flat and that of the noise a straight "
    "rising line. The lines of v and of the vector field bend from flat to rising around λ = 0. "
    "The score's line lies on the noise's on the left and is twice as steep on the right."
)

# %% [markdown]
# ## 3 · What a loss weighs
#
# Papers differ in schedule, output and weight at the same time, and then compare their samples. Which of these choices
# changes what a network learns? Take the squared error of the noise at uniform times, with a weight $w(\lambda)$ *and*
# with the speed $\dot\lambda_t$ at which the schedule passes through $\lambda$:
#
# <a id="eq-loss"></a>
# $$\mathbb E_{t, z, \varepsilon}\, \big[\, w(\lambda_t)\, \dot\lambda_t\, \|\hat\varepsilon - \varepsilon\|^2 \,\big]
# = \int_{\lambda_0}^{\lambda_1} w(\lambda)\; \mathbb E_{z, \varepsilon}\, \|\hat\varepsilon - \varepsilon\|^2\,
# d\lambda, \qquad \dot\lambda_t = 2 \Big( \frac{\dot\alpha_t}{\alpha_t} - \frac{\dot\beta_t}{\beta_t} \Big).$$
#
# The right-hand side is the substitution rule, and no time is left in it. Together with exercise
# {exercise:to_variance_preserving} this means: **the training loss does not depend on the schedule, only on $w$ and on
# the ends $\lambda_0, \lambda_1$.**
#
# ### Exercise {exercise:loss_over_log_snr} · The loss over $\lambda$ ({points:loss_over_log_snr} points)
#
# Write `loss_over_log_snr(model, z, noise, t, schedule, weight)`: the left-hand side of [this equation](#eq-loss) as a
# mean over a batch, for given data, noise and times. The square $\|\cdot\|^2$ is the sum over all coordinates of a point.
# `schedule.log_snr(t)` is $\lambda_t$ and `schedule.log_snr_dot(t)` is $\dot\lambda_t$. Give the network `t` as it is;
# shape only what multiplies.
#
# <details><summary>Hint</summary>
# Make the states first: the network is never given $z$. <code>flatten(1)</code> turns images into rows. Errors, weights
# and speeds have the shape $(n,)$.
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
    return (weight(schedule.log_snr(t)) * schedule.log_snr_dot(t) * errors).mean()
    ### END SOLUTION


# %% check="loss_over_log_snr" points=4

# %% [markdown]
# **The schedule drops out.** One network (here the best one for our two bumps), four schedules, and the weight
# $w(\lambda) = 1/(1 + e^{\lambda - 2})$. Over time, the four integrands have only their area in common. (`VE` leaves the
# picture: its $\lambda$ is small for most of the time and rises fast at the end.) Divided by $\dot\lambda_t$ and drawn
# over $\lambda$ they are one curve. Each point is a mean over 4000 draws.

# %%
lambda_loss = lab5.answer_or("loss_over_log_snr")


def best_noise_prediction(schedule):
    """The exact E[ε | x] for the two bumps, as a function of (x, t)."""
    score = paths.GaussianPath(schedule).marginal(bumps).score
    return lambda x, t: conversions.noise_from_score(score(x, t), x, t, schedule)


fading = lambda log_snr: torch.sigmoid(2 - log_snr)  # a weight that fades out for large λ
z, noise, integrands = bumps.sample(4000), torch.randn(4000, 1), {}
for name, schedule in SCHEDULES.items():
    ts, model = schedule.time_at(torch.linspace(-5.9, 6, 50)), best_noise_prediction(schedule)
    values = [lambda_loss(model, z, noise, t.expand(4000), schedule, fading) for t in ts]
    integrands[name] = ts, torch.stack(values)

# %% figure="four integrands over time, and over λ"
fig, axes = plots.figure(columns=2, width=4.6)
for (name, (ts, values)), marker, size in zip(integrands.items(), "osD^", (9, 7, 5, 3), strict=True):
    schedule = SCHEDULES[name]
    axes[0].plot(ts, values, label=name)
    over = values / schedule.log_snr_dot(ts)
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
# **The schedule still affects the variance of the estimated loss.** In training, the loss is estimated from batches with
# random times. Below are 100 batches of 500 for each schedule, all between the same ends. The means agree within two of
# their standard errors. The spread differs: schedules differ in how *well* they measure the same loss. This makes training
# faster or slower, but does not move the minimum.

# %%
print("schedule      mean of the loss   spread of one batch")
for name, schedule in SCHEDULES.items():
    low, high = schedule.time_at(torch.tensor([-5.9, 6.0]))
    model, estimates = best_noise_prediction(schedule), []
    for _ in range(100):
        z, noise, t = bumps.sample(500), torch.randn(500, 1), low + (high - low) * torch.rand(500)
        estimates.append((high - low) * lambda_loss(model, z, noise, t, schedule, fading))
    mean, spread = torch.stack(estimates).mean(), torch.stack(estimates).std()
    print(f"{name:12s}   {mean:.2f} ± {spread / 10:.2f}          {spread:.2f}")

# %% [markdown]
# ### Exercise {exercise:effective_weight} · The weight in disguise ({points:effective_weight} points)
#
# In practice hardly anyone writes $\dot\lambda$. One takes the plain error of some output at uniform times, and this
# choice contains a weight $w(\lambda)$. To find it, write the output's error in terms of the error of the noise
# (exercise {exercise:x_mse_weight}, twice), and compare with the loss of exercise {exercise:loss_over_log_snr}:
#
# <a id="eq-effective"></a>
# $$\|\text{error of the output}\|^2 = w(\lambda_t)\, \dot\lambda_t\, \|\hat\varepsilon - \varepsilon\|^2.$$
#
# Write `effective_weight(output, t, schedule)`: [this weight](#eq-effective) at the time $t$. You may use fmlab's version
# of exercise {exercise:x_mse_weight}, `conversions.x_mse_weight(output, t, schedule)`.
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
    of_output, of_noise = (conversions.x_mse_weight(y, t, schedule) for y in (output, "noise"))
    return of_output / of_noise / schedule.log_snr_dot(t)
    ### END SOLUTION


# %% check="effective_weight" points=3

# %% [markdown]
# **Flow matching is $v$-prediction with the cosine schedule.** Left: the weights of four common recipes. Only their
# shapes matter, since the optimiser divides a constant factor out. Compared with noise prediction, flow matching puts
# more weight on very noisy states (small $\lambda$); compared with data prediction, more on nearly clean ones. Right:
# the plain flow matching loss and the plain $v$-loss with the cosine schedule. The ratio of their weights is $\pi/2$ *at
# every $\lambda$*: two papers, two outputs, two schedules, one loss.

# %%
lambda_weight = lab5.answer_or("effective_weight")
levels = torch.linspace(-7, 7, 141)


def recipe(output, schedule):
    """The weight w of this output and schedule, as a function of λ."""
    return lambda levels: lambda_weight(output, schedule.time_at(levels), schedule)


recipes = {
    "vector field, CondOT": recipe("vector_field", CondOT()),
    "noise, cosine": recipe("noise", Cosine()),
    "noise, linear VP": recipe("noise", LinearVP()),
    "data, cosine": recipe("data", Cosine()),
    "v, cosine": recipe("v", Cosine()),
}
ratio = recipes["vector field, CondOT"](levels) / recipes["v, cosine"](levels)
print(f"ratio: from {ratio.min():.5f} to {ratio.max():.5f}; π/2 is {math.pi / 2:.5f}")

# %% figure="the weights of common recipes"
fig, axes = plots.figure(columns=2, width=4.6)
for name in list(recipes)[:4]:
    axes[0].semilogy(levels, recipes[name](levels), label=name)
flow = recipes["vector field, CondOT"](levels)
axes[1].semilogy(levels, flow, color=plots.SKY, ls="-", lw=5, label="vector field, CondOT")
times_half_pi = math.pi / 2 * recipes["v, cosine"](levels)
axes[1].semilogy(levels, times_half_pi, color=plots.BLACK, ls="--", label=r"$\pi/2 \times$ v, cosine")
for ax in axes:
    ax.set(xlabel=r"$\lambda$", ylabel=r"weight $w(\lambda)$", ylim=(1e-4, 1e3))
    ax.legend(fontsize=9)
plots.describe(
    "Left: four weights over λ. That of the vector field is a falling straight line, those of noise "
    "rise and then fall, and that of data falls fastest on the right. "
    "Right: the weight of the vector field and that of v times π/2 are one straight line."
)

# %% [markdown]
# ### One network, two weights
#
# Does it matter? Train twice and change nothing but $w$: the same network predicts the vector field on CondOT, from the
# same initial parameters and the same batches, by *your* loss of exercise {exercise:loss_over_log_snr}. One training
# has the weight of flow matching, the other that of data prediction with the cosine schedule. The data are the
# checkerboard of lab 3. We count the points that fall **outside** its squares; of the data, none does.
#
# **Predict.** With the weight of flow matching about 15 % of the samples fall outside. How many with the weight of data
# prediction?

# %%
outside_by_data_weight = ...  # your guess, in percent

# %%
checkerboard, condot = distributions.Checkerboard(), CondOT()
pool, x0 = checkerboard.sample(100_000), torch.randn(6000, 2)


def outside(x):
    """How many of the points are in none of the squares, in percent."""
    return 100 * float(checkerboard.log_prob(x).isinf().float().mean())


def weighted(weight):
    """The loss over λ with this weight, for a network that predicts the vector field on CondOT."""

    def loss(network):
        z, noise = pool[torch.randint(len(pool), (1000,))], torch.randn(1000, 2)
        t = 0.002 + 0.996 * torch.rand(1000)

        guess = lambda x, t: convert(network(x, t), x, t, condot, "vector_field", "noise")
        return lambda_loss(guess, z, noise, t, condot, weight)

    return loss


# %% [markdown]
# Now the two trainings. Sampling uses 64 evaluations of the network each time, so that only the training differs.

# %%
networks, boards = {}, {"data": checkerboard.sample(6000)}
for name in ("vector field, CondOT", "data, cosine"):
    _ = torch.manual_seed(1)  # the same initial parameters, the same batches
    network = training.train(models.MLP(2), weighted(recipes[name]), steps=1500)
    networks[name] = network.requires_grad_(False)
    boards[f"w of {name}"] = samplers.sample_flow(network, x0, 32, simulators.Midpoint())

# %% figure="the data, and the samples of two networks that differ in w alone"
def draw_boards(boards, width=3.4):
    """Samples beside each other, each with the share that falls outside the squares."""
    _, axes = plots.figure(columns=len(boards), width=width, height=width + 0.3)
    for ax, (name, x) in zip(axes, boards.items(), strict=True):
        plots.plot_samples(x[:2500], ax).set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xlabel="", ylabel="")
        ax.set_title(f"{name}\n{outside(x):.0f} % outside", fontsize=11)


draw_boards(boards)
data_weight_outside = outside(boards["w of data, cosine"])
lab5.compare("percent outside with the weight of data prediction", outside_by_data_weight, data_weight_outside)
plots.describe(
    "Left: the data, eight sharp squares. Middle: the weight of flow matching gives a round blob "
    "in each square, with some points between them. Right: with the weight of data prediction there "
    "are more points between them, and some blobs run into each other."
)

# %% [markdown]
# The weight is a difference that matters. If networks were perfect, both would learn the same function: at every
# $\lambda$ the best guess is the same, whatever $w$ is. A real network makes errors, and $w$ decides at which $\lambda$ it
# makes few. Data prediction puts almost no weight on nearly clean states, and those decide where the edges are. The rest
# of the lab uses the network with the weight of flow matching. Its 15 % show its **model error**, which no sampler can
# remove.
#
# ## 4 · A network in the other language
#
# Many published networks (*checkpoints*) predict noise on the schedule of a diffusion, and the sampler that they were
# made for needs many steps. Flow samplers need few. Sections 1 and 2 contain all that it takes to use such a checkpoint
# as a vector field on CondOT, without any training.
#
# <a id="about-as-vector-field"></a>
# ### Exercise {exercise:as_vector_field} · Use it in the other language ({points:as_vector_field} points)
#
# The network was trained on the schedule `source`, and predicts `output`. A sampler needs the vector field at a state
# $x$ and a time $t$ of the schedule `target`. The source has a state with the same $z$ and $\varepsilon$ at the same log-SNR:
#
# <a id="eq-translated"></a>
# $$\lambda_r^\text{source} = \lambda_t^\text{target}, \qquad x_r = \alpha_r^\text{source} z + \beta_r^\text{source} \varepsilon, \qquad x = \alpha_t^\text{target} z + \beta_t^\text{target} \varepsilon.$$
#
# 1. Find the time $r$;
# 2. rescale $x$ to $x_r$;
# 3. evaluate the network at this state and $r$, and convert its output into a guess of the data. The data are the same on
#    all schedules;
# 4. convert the guess into the vector field of the target, at $x$ and $t$.
#
# Write `as_vector_field(network, output, source, target)`, which returns the vector field [by this state](#eq-translated) as a
# function of $(x, t)$. `source.time_at(snr)` is the time at which a schedule has the log-SNR `snr`. For conversions use
# your `convert_output`, or `conversions.convert(value, x, t, schedule, source=…, target=…)`.
#
# <details><summary>Hint</summary>
# A state is rescaled by $\beta_r^\text{source} / \beta_t^\text{target}$. (The ratio of the $\alpha$'s is the same.)
# Which schedule, state and time belong to the first conversion, and which to the second?
# </details>

# %% exercise="as_vector_field"
def as_vector_field(network, output, source, target):
    """The vector field on the schedule `target`, from a network for the schedule `source`.

    network: network(x, t) predicts `output`, a name as in `convert_output`, on `source`.
    Returns a function u(x, t) → (n, *shape). x: (n, *shape). t: a number inside (0, 1), or (n,);
    its log-SNR is one that `source` has, too.
    """
    ### BEGIN SOLUTION
    def field(x, t):
        r = source.time_at(target.log_snr(t))
        x_r = x * coefficient(source.beta(r) / target.beta(t), x)
        z_hat = conversions.convert(network(x_r, r), x_r, r, source, source=output, target="data")
        return conversions.convert(z_hat, x, t, target, source="data", target="vector_field")

    return field
    ### END SOLUTION


# %% check="as_vector_field" points=6

# %% [markdown]
# **A checkpoint.** Let this be the published network: it predicts noise on `LinearVP`, trained with the plain error of
# the noise. Its own sampler is DDPM, here with 500 evaluations.
#
# **Predict.** Of DDPM's samples about a quarter fall outside. How many will it be if the checkpoint is used as a vector
# field on CondOT, sampled by the midpoint rule with 16 evaluations?

# %%
outside_translated = ...  # your guess, in percent

# %%
as_flow, vp = lab5.answer_or("as_vector_field"), LinearVP()


def plain_noise_loss(network):
    return losses.ddpm_loss(network, paths.GaussianPath(vp), pool[torch.randint(len(pool), (1000,))])


checkpoint = training.train(models.MLP(2), plain_noise_loss, steps=1500).requires_grad_(False)

# %% [markdown]
# Now both networks are sampled in both languages. (Grids that stop just short of 0 and 1 avoid the infinite $\lambda$
# there. The two samplers with 500 evaluations take about as long as a training.)

# %%
flow_network = networks["vector field, CondOT"]
on_condot = as_flow(checkpoint, "noise", vp, condot)
on_vp = as_flow(flow_network, "vector_field", condot, vp)
noise_on_vp = lambda x, t: convert(on_vp(x, t), x, t, vp, "vector_field", "noise")
long, short = torch.linspace(0.002, 0.998, 501), torch.linspace(0.01, 0.99, 9)
translations = {
    "checkpoint: DDPM, 500": samplers.ddpm(checkpoint, x0, vp, long, output="noise"),
    "checkpoint: flow, 16": samplers.sample_flow(on_condot, x0, short, simulators.Midpoint()),
    "flow network: DDPM, 500": samplers.ddpm(noise_on_vp, x0, vp, long, output="noise"),
    "flow network: flow, 16": samplers.sample_flow(flow_network, x0, 8, simulators.Midpoint()),
}

# %% figure="two networks, each sampled in both languages"
draw_boards(translations, width=2.8)
translated_outside = outside(translations["checkpoint: flow, 16"])
lab5.compare("percent outside, checkpoint as a flow", outside_translated, translated_outside)
plots.describe(
    "Four checkerboards. Both of the checkpoint have about a quarter of the points outside the "
    "squares, both of the network of flow matching about a sixth."
)

# %% [markdown]
# The share outside is a property of the network, decided in training: it is about the same in both languages. The number
# of evaluations is a property of the sampler: 16 do what took 500.
#
# ## 5 · Samplers
#
# Every step of a sampler costs an [evaluation](../words.md#evaluation) of a large network. So you should know which
# samplers are one method under two names, and which need fewer steps.
#
# Diffusion models are often sampled by **DDIM**. In each step it takes the network's guess of the data $\hat z$, computes
# the noise $\hat\varepsilon$ that belongs to it, and mixes both again with the weights of the next time $s$:
#
# <a id="eq-ddim"></a>
# $$x_t = \alpha_t \hat z + \beta_t \hat\varepsilon, \qquad x_s = \alpha_s \hat z + \beta_s \hat\varepsilon.$$
#
# ### Exercise {exercise:ddim_step} · One DDIM step ({points:ddim_step} points)
#
# Write `ddim_step(x, z_hat, t, s, schedule)`: [the states at $s$ above](#eq-ddim), from the states `x` at $t$ and the
# guess `z_hat` of the data.
#
# <details><summary>Hint</summary>
# The first equation gives the noise. The whole step is deterministic.
# </details>

# %% exercise="ddim_step"
def ddim_step(x, z_hat, t, s, schedule):
    """One step of DDIM from t to s.

    x: (n, *shape) states at t. z_hat: (n, *shape), the network's guess of z there.
    t, s: numbers with 0 ≤ t < s ≤ 1, or (n,), one time per state.
    Returns the states at s, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, x)
    alpha_s, beta_s, *_ = schedule.weights(s, x)
    return alpha_s * z_hat + beta_s * (x - alpha * z_hat) / beta
    ### END SOLUTION


# %% check="ddim_step" points=3

# %% [markdown]
# **DDIM on CondOT is Euler's method.** With $\alpha_t = t$ and $\beta_t = 1 - t$ the step is $x_s = x_t + (s -
# t)(\hat z - \hat\varepsilon)$, and $\hat z - \hat\varepsilon$ is the vector field. On the cosine schedule the two
# differ: during a step, Euler's method keeps the *velocity* of the state constant, and DDIM keeps the guess. The network
# was trained on CondOT; your `as_vector_field` gives it on any schedule.

# %%
ddim = lab5.answer_or("ddim_step")


def by_ddim(field, x, ts, schedule):
    """All states from x on, at the times ts, by DDIM with a vector field on this schedule."""
    states = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        z_hat = convert(field(states[-1], t), states[-1], t, schedule, "vector_field", "data")
        states.append(ddim(states[-1], z_hat, t, s, schedule))
    return torch.stack(states)


ways, ts = {}, torch.linspace(0.01, 0.99, 8)
for name in ("CondOT", "cosine"):
    field = as_flow(flow_network, "vector_field", condot, SCHEDULES[name])
    euler = samplers.sample_flow(field, x0[:10], ts, simulators.Euler(), record=True)
    ways[name] = euler, by_ddim(field, x0[:10], ts, SCHEDULES[name])
    print(f"{name:7s} largest difference: {largest(ways[name][0] - ways[name][1]):.1e}")

# %% figure="seven steps of Euler and of DDIM on two schedules"
fig, axes = plots.figure(columns=2, width=3.8, height=3.8)
styles = (dict(marker="o", ls="-", color=plots.SKY, ms=6, lw=3, label="Euler"),)
styles += (dict(marker=".", ls="--", color=plots.BLACK, ms=4, lw=1, label="DDIM"),)
for ax, (name, pair) in zip(axes, ways.items(), strict=True):
    for states, style in zip(pair, styles, strict=True):
        lines = ax.plot(states[:, :, 0], states[:, :, 1], **style)
        for line in lines[1:]:
            line.set_label("")
    ax.set(title=f"{name}, 7 steps", xlabel="$x_1$", ylabel="$x_2$")
    ax.set_aspect("equal", adjustable="datalim")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.describe(
    "For CondOT the points of Euler and DDIM coincide at every step. For cosine they begin "
    "together and drift apart."
)

# %% [markdown]
# **For DDIM, a schedule is only a choice of times.** At the same values of $\lambda$, every schedule gives the same
# points once they are rescaled, up to rounding. With equally spaced *times*, schedules place their steps at different
# $\lambda$, and the results differ. A schedule acts on these samples in no other way.

# %%
levels, ends = torch.linspace(-5.9, 8, 21), {}
for name, schedule in SCHEDULES.items():
    ts, field = schedule.time_at(levels), as_flow(flow_network, "vector_field", condot, schedule)
    end = by_ddim(field, from_vp(x0[:2000], ts[0], schedule), ts, schedule)[-1]
    ends[name] = to_vp(end, ts[-1], schedule)
    print(f"{name:9s} largest difference to CondOT: {largest(ends[name] - ends['CondOT']):.1e}")

# %% [markdown]
# ### Exercise {exercise:ddpm_step} · DDPM: overshoot and add noise ({points:ddpm_step} points)
#
# DDIM is deterministic; **DDPM**, the older method, draws noise at each step. Noise on the way can repair errors that
# earlier steps made. Both methods are one. Let $\Delta\lambda = \lambda_s - \lambda_t$. Let DDIM go *too far*, to the
# time $s^+$ with $\lambda_{s^+} = \lambda_s + c\,\Delta\lambda$. Then bring the state back to $\lambda_s$ as the
# diffusion would, which scales a state and adds noise:
#
# $$x_{s^+} = \alpha_{s^+} \hat z + \beta_{s^+} \hat\varepsilon, \qquad
# x_s = \frac{\alpha_s}{\alpha_{s^+}}\, x_{s^+} + \sqrt{\beta_s^2 - \Big(\frac{\alpha_s}{\alpha_{s^+}}
# \beta_{s^+}\Big)^2}\; \xi, \qquad \xi \sim N(0, I).$$
#
# Since $\beta_{s^+}/\alpha_{s^+} = e^{-\lambda_{s^+}/2} = e^{-c\Delta\lambda/2}\, \beta_s/\alpha_s$, the time $s^+$ drops
# out, and
#
# <a id="eq-churn"></a>
# $$x_s = \alpha_s \hat z + \beta_s \big( q\, \hat\varepsilon + \sqrt{1 - q^2}\; \xi \big),
# \qquad q = e^{-c\,\Delta\lambda/2}.$$
#
# The number $c \ge 0$ is the [churn](../words.md#churn): 0 is DDIM, 1 is DDPM (which takes back half of the way in
# $\lambda$ that its DDIM went), and other values are allowed.
#
# Write `ddpm_step(x, z_hat, t, s, schedule, noise, churn)`: [the states at $s$](#eq-churn), where `noise` is $\xi$.
#
# <details><summary>Hint</summary>
# $\hat\varepsilon$ as in exercise {exercise:ddim_step}. For $q$ no logarithm is needed: $e^{-\Delta\lambda/2} = \alpha_t \beta_s / (\beta_t \alpha_s)$.
# </details>

# %% exercise="ddpm_step"
def ddpm_step(x, z_hat, t, s, schedule, noise, churn):
    """One step of DDPM from t to s: DDIM to λ_s + churn · Δλ, then noise is added, back to λ_s.

    x: (n, *shape) states at t. z_hat: the network's guess of z there. noise: (n, *shape), standard
    normal. t, s: numbers with 0 < t < s < 1, or (n,), one time per state. churn: a number ≥ 0.
    Returns the states at s, (n, *shape).
    """
    ### BEGIN SOLUTION
    alpha, beta, *_ = schedule.weights(t, x)
    alpha_s, beta_s, *_ = schedule.weights(s, x)
    kept = (alpha * beta_s / (beta * alpha_s)) ** churn
    predicted = (x - alpha * z_hat) / beta
    return alpha_s * z_hat + beta_s * (kept * predicted + torch.sqrt(1 - kept**2) * noise)
    ### END SOLUTION


# %% check="ddpm_step" points=5 further=true

# %% [markdown]
# **What churn does.** Thirty trajectories from *one* starting point, with the exact guess of the data for our two bumps.
# Without churn the start decides the end. With more churn, the end is decided later. Over all starting points, the
# distribution of the ends is the same in every panel, up to the error of the steps. (With churn 1, mean and variance of a
# step are those of the reverse posterior of the DDPM chain, lab 4.)

# %%
ddpm = lab5.answer_or("ddpm_step")
inner = torch.linspace(0.002, 0.998, 101)  # λ is infinite at 0 and 1


def by_ddpm(guess, x, ts, schedule, churn):
    states = [x]
    for t, s in zip(ts[:-1], ts[1:], strict=True):
        z_hat, noise = guess(states[-1], t), torch.randn_like(x)
        states.append(ddpm(states[-1], z_hat, t, s, schedule, noise, churn))
    return torch.stack(states)


exact_guess = paths.GaussianPath(condot).marginal(bumps).posterior_mean
start, churns = torch.full((30, 1), 0.3), (0.0, 0.05, 0.3, 1.0)
moving = {churn: by_ddpm(exact_guess, start, inner, condot, churn) for churn in churns}

# %% figure="thirty trajectories from one point, for four values of the churn"
fig, axes = plots.figure(columns=4, width=2.7, height=2.9)
for ax, (churn, states) in zip(axes, moving.items(), strict=True):
    plots.plot_paths(inner, states, ax, color=plots.BLUE, ls="-", alpha=0.5)
    ax.set(title=f"churn {churn:g}", ylim=(-2.7, 2.7))
plots.describe(
    "Thirty trajectories from one point. Without churn they are a single line; with a little they "
    "fan out slowly, and with churn 1 they jump about at once and settle late in two bumps."
)

# %% [markdown]
# **Try it.** The histogram shows the ends of 1000 trajectories; the line is the exact density. How many steps does each
# churn need? What is wrong first when steps are few, and does churn help or hurt?

# %%
widgets.sampler_churn()

# %% [markdown]
# ### How many evaluations?
#
# Five samplers for the network of flow matching. Euler's method is DDIM. Midpoint and Heun are of second
# [order](../words.md#order), with two evaluations per step. DDPM adds noise at each step, the more the larger its
# *churn*. Left: the [energy distance](../words.md#energy-distance) between samples and data, which is 0 for equal
# distributions. The dotted line is the mean energy distance between [two fresh sets](../words.md#fresh-sets) of data.
# Right: the points outside the squares; its dotted line is 0, as for the data.
#
# **Predict.** How many evaluations does Euler's method need for at most twice the energy distance of midpoint with 8?

# %%
euler_needs = ...  # your guess: 4, 8, 16, 32 or 64

# %%
RUNGE_KUTTA = {"midpoint": simulators.Midpoint(), "Heun": simulators.Heun()}
CHURN = {"Euler = DDIM": 0.0, "DDPM, churn 0.3": 0.3, "DDPM, churn 1": 1.0}
SAMPLERS = ("Euler = DDIM", "midpoint", "Heun", "DDPM, churn 0.3", "DDPM, churn 1")
guess_on_condot = lambda x, t: convert(flow_network(x, t), x, t, condot, "vector_field", "data")


def sampled(sampler, evaluations):
    """Samples of the checkerboard from x0, with so many evaluations of the network."""
    if sampler in RUNGE_KUTTA:
        return samplers.sample_flow(flow_network, x0, evaluations // 2, RUNGE_KUTTA[sampler])
    ts = torch.linspace(0.002, 0.998, evaluations + 1)
    return by_ddpm(guess_on_condot, x0, ts, condot, CHURN[sampler])[-1]


fresh, evaluations = checkerboard.sample(6000), (4, 8, 16, 32, 64)
others = [metrics.energy_distance(checkerboard.sample(6000), fresh) for _ in range(8)]
runs = {sampler: [sampled(sampler, n) for n in evaluations] for sampler in SAMPLERS}
far = {name: [float(metrics.energy_distance(x, fresh)) for x in xs] for name, xs in runs.items()}

# %% figure="quality of five samplers over the number of evaluations"
fig, axes = plots.figure(columns=2, width=4.6, height=3.8)
for (sampler, distances), marker in zip(far.items(), plots.MARKERS, strict=False):
    axes[0].loglog(evaluations, distances, marker=marker, ms=5, label=sampler)
    axes[1].semilogx(evaluations, [outside(x) for x in runs[sampler]], marker=marker, ms=5)
floor = float(torch.stack(others).mean())
axes[0].axhline(floor, color=plots.BLACK, ls=":", lw=1.5, label="two fresh sets")
axes[1].axhline(0, color=plots.BLACK, ls=":", lw=1.5)
axes[0].set(title="energy distance to data")
axes[1].set(title="outside the squares, in percent", ylim=(-2, 50))
for ax in axes:
    ax.set(xlabel="evaluations of the network")
    ax.set_xticks(evaluations, [str(n) for n in evaluations])
    ax.minorticks_off()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
goal = 2 * far["midpoint"][1]
enough = [n for n, got in zip(evaluations, far["Euler = DDIM"], strict=True) if got <= goal]
lab5.compare("evaluations of Euler's method", euler_needs, enough[0] if enough else "over 64")
plots.describe(
    "Left: the energy distance falls as evaluations grow. Midpoint and Heun are near the dotted "
    "line from 8 evaluations on; Euler and DDPM come there at 32 or 64. Right: from 16 evaluations "
    "on, all samplers lie between 14 and 18 percent, far above the 0 of the data."
)

# %% [markdown]
# **Two errors.** More evaluations reduce the error of the *simulation*. What remains at 64 evaluations is the model
# error, and only training reduces it. The energy distance hardly shows it: its plateau is so close to the dotted line
# that it may be chance. The right panel shows it clearly: about 15 % for every sampler, where the data have 0.
#
# **What eight evaluations look like,** beside the data. Euler's method pulls the squares together into blobs; midpoint is
# nearly finished. Noise that a step adds has to be removed by later steps, and here these are few.

# %% figure="the data, and four samplers after eight evaluations"
after_eight = {sampler: runs[sampler][1] for sampler in SAMPLERS if sampler != "Heun"}
draw_boards({"data": fresh} | after_eight, width=2.3)
plots.describe(
    "The data are eight sharp squares. After eight evaluations midpoint covers the area of the "
    "data; Euler pulls it together, and with churn the blobs run into each other."
)

# %% [markdown]
# ## 6 · Are the trajectories of flow matching straight?
#
# "Flow matching is straight, diffusion is curved." One often hears this, and it matters: along a straight line at
# constant speed a single step of Euler's method is exact. So measure it. A [trajectory](../words.md#trajectory) is
# straight if its length is the distance between its ends. Over many trajectories,
#
# <a id="eq-curvature"></a>
# $$\text{curvature} = \frac{\text{mean length}}{\text{mean distance between the ends}} - 1$$
#
# is 0 if all of them are straight, and positive otherwise.
#
# ### Exercise {exercise:path_curvature} · Curvature ({points:path_curvature} points)
#
# Write `path_curvature(states)`: [the curvature above](#eq-curvature), for states recorded at many times.
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


# %% check="path_curvature" points=3 further=true

# %% [markdown]
# ### Measured, three times
#
# The data are two clusters in the plane, and every field is exact.
#
# - *One pair:* the motion $\alpha_t z + \beta_t \varepsilon$ from a fixed noise to a fixed data point, on which flow
#   matching is trained.
# - *The flow:* the trajectories of the marginal field, which a sampler follows.
# - *Rescaled:* the same trajectories, brought to the variance-preserving schedule state by state (exercise
#   {exercise:to_variance_preserving}).
#
# **Predict.** Which of the four schedules has the straightest flow?

# %%
straightest = ...  # your guess: "CondOT", "cosine", "linear VP" or "VE, 20"

# %%
curvature = lab5.answer_or("path_curvature")
clusters = distributions.GaussianMixture([[2.0, 0.0], [-1.0, 0.5]], [0.1, 0.3])
z, noise, levels = clusters.sample(1000), torch.randn(1000, 2), torch.linspace(-5.9, 12, 250)
trajectories, of_flow = {}, {}
print("schedule      one pair    the flow    rescaled")
for name, schedule in SCHEDULES.items():
    ts = torch.cat([torch.zeros(1), schedule.time_at(levels), torch.ones(1)]).unique()
    path = paths.GaussianPath(schedule)
    pairs = torch.stack([path.interpolate(z, noise, t) for t in ts])
    field = path.marginal(clusters).vector_field
    states = samplers.sample_flow(field, schedule.beta(0.0) * noise, ts, record=True)
    twins = torch.stack([to_vp(x, t, schedule) for x, t in zip(states, ts, strict=True)])
    row = [round(float(curvature(x)), 3) + 0.0 for x in (pairs, states, twins)]
    trajectories[name], of_flow[name] = states, row[1]
    print(f"{name:10s} {row[0]:11.3f} {row[1]:11.3f} {row[2]:11.3f}")

# %% [markdown]
# **The trajectories of the flow,** from the same noise. Those of `VE` are nearly straight: its noise is twenty times
# that of the others, and only the last bit of the way bends. CondOT, whose single pairs are perfectly straight, has the
# *least* straight flow of all four. At first every point moves towards the mean of all data; later, when $\lambda$ has
# grown, it moves towards one of the clusters. An average of straight motions over what is still unknown is not
# straight. With a single data point there would be nothing to average.

# %% figure="the trajectories of four flows"
fig, axes = plots.figure(columns=4, width=2.8, height=3.2)
far_out = 1.1 * float(trajectories["VE, 20"][0, :40].abs().max())
for ax, (name, states) in zip(axes, trajectories.items(), strict=True):
    plots.plot_trajectories(states[:, :40], ax, lw=0.7)
    size = far_out if name.startswith("VE") else max(far_out / 20, 3)
    ax.set(xlim=(-size, size), ylim=(-size, size), title=name)
axes[3].set_title("VE, 20: larger axes")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
lab5.compare("the straightest flow", straightest, min(of_flow, key=of_flow.get))
plots.describe(
    "For CondOT, cosine and linear VP the trajectories bend on their way from starts to ends. For "
    "VE, on axes about twenty times as long, they run straight to the centre."
)

# %% [markdown]
# ## 7 · The diffusion behind a schedule
#
# Papers on diffusion models often give no schedule, but a process that turns data into noise. To load such a checkpoint
# with `as_vector_field` you need its $\alpha$ and $\beta$. The process runs in the time $\tau = 1 - t$, from data to
# noise:
#
# <a id="eq-diffusion"></a>
# $$dX_\tau = f(\tau)\, X_\tau\, d\tau + g(\tau)\, dW_\tau.$$
#
# ### Exercise {exercise:schedule_from_sde} · From a diffusion to its schedule ({points:schedule_from_sde} points)
#
# At time $\tau$ a data point has the weight $\alpha(\tau)$, which changes at the rate $f$: $d\alpha/d\tau = f \alpha$.
# The noise added at an earlier time $\rho$, during $d\rho$, has the variance $g^2(\rho)\, d\rho$. From then on it is
# scaled as the data are, by the factor $\alpha(\tau)/\alpha(\rho)$. Adding up:
#
# <a id="eq-schedule"></a>
# $$\alpha(\tau) = \exp \int_0^\tau f(\rho)\, d\rho, \qquad
# \beta(\tau)^2 = \int_0^\tau g^2(\rho)\, \frac{\alpha(\tau)^2}{\alpha(\rho)^2}\, d\rho.$$
#
# The draft prints this integral without the factor $\alpha(\tau)^2$. For $f = -1$, $g^2 = 2$ and long times, which of the
# two versions has the stationary variance 1 that you know from lab 1? The figure below the exercise decides.
#
# Write `schedule_from_sde(f, g_squared, tau)`, which returns $\alpha$ and $\beta$ of [these integrals](#eq-schedule) at
# the times `tau`, a fine grid from 0.
#
# <details><summary>Hint</summary>
# <code>torch.cumulative_trapezoid(y, tau)</code> integrates from the start of the grid to each later point. It returns one value
# less than the grid has points: the integral from 0 to 0 is missing in front. The factor $\alpha(\tau)^2$ does not depend on $\rho$.
# </details>

# %% exercise="schedule_from_sde"
def schedule_from_sde(f, g_squared, tau):
    """(α, β) of the diffusion dX = f X dτ + g dW, by numerical integration.

    f, g_squared: functions of a tensor of times, (m,) → (m,). tau: (m,) increasing times, from
    tau[0] = 0, close together but not always equally. Returns α and β at these times, both (m,).
    """
    ### BEGIN SOLUTION
    start = tau.new_zeros(1)
    alpha = torch.cat([start, torch.cumulative_trapezoid(f(tau), tau)]).exp()
    spread = torch.cat([start, torch.cumulative_trapezoid(g_squared(tau) / alpha**2, tau)])
    return alpha, alpha * spread.sqrt()
    ### END SOLUTION


# %% check="schedule_from_sde" points=5 further=true

# %% [markdown]
# **There and back.** Left: from `LinearVP` to its diffusion, by fmlab's `schedules.diffusion_coefficients`, and back by
# your integration. Right: constant rates, the Ornstein–Uhlenbeck process of lab 1, whose known standard deviation decides
# between the two versions of $\beta$. Any such process is a schedule, and flow matching could train on it. On this one
# it should not: at $\tau = 1$ a good part of the data is left, while sampling starts from pure noise.

# %%
schedule_of = lab5.answer_or("schedule_from_sde")


# (f, g) behind LinearVP; β has an infinite slope at τ = 0: stay away from it
rates = lambda tau: schedules.diffusion_coefficients(LinearVP(), 1 - tau.clamp(min=1e-4))
tau = torch.linspace(0, 1, 2001, dtype=torch.float64)
there_and_back = schedule_of(lambda tau: rates(tau)[0], lambda tau: rates(tau)[1] ** 2, tau)
constant = schedule_of(lambda tau: -torch.ones_like(tau), lambda tau: 2 * torch.ones_like(tau), tau)

# %% figure="two diffusions and their schedules"
fig, axes = plots.figure(columns=2, width=4.6)
for ax, (alpha, beta) in zip(axes, (there_and_back, constant), strict=True):
    ax.plot(tau, alpha, color=plots.BLUE, ls="-", label=r"$\alpha$")
    ax.plot(tau, beta, color=plots.RED, ls="--", label=r"$\beta$")
    ax.set(xlabel=r"time of the diffusion $\tau = 1 - t$", ylabel="weight")
few = tau[::200]
variance = processes.ornstein_uhlenbeck(1.0, math.sqrt(2)).moments(torch.zeros(1), few)[1]
axes[0].plot(few, LinearVP().alpha(1 - few), "ko", ms=4, label="LinearVP itself")
axes[0].plot(few, LinearVP().beta(1 - few), "ko", ms=4)
axes[1].plot(few, variance.sqrt(), "ko", ms=4, label="standard deviation, lab 1")
axes[1].plot(tau, torch.expm1(2 * tau).sqrt(), color=plots.GREEN, ls=":", label=r"$\beta$ as printed")
axes[0].set(title="LinearVP, there and back", ylim=(-0.05, 1.08))
axes[1].set(title="constant rates $f = -1$, $g^2 = 2$", ylim=(-0.1, 2.7))
axes[0].legend(loc="center right")
axes[1].legend(loc="upper left")
plots.describe(
    "Left: the curves integrated from the rates pass through all points of LinearVP itself. "
    "Right: the corrected β passes through the exact standard deviations and levels off below 1; "
    "β as printed grows past 2.5."
)

# %% [markdown]
# ### Question {exercise:rates_of_a_schedule} · From a schedule to its diffusion ({points:rates_of_a_schedule} points)
#
# Given the data point $z$, the mean of [the diffusion](#eq-diffusion) is $\alpha z$ and its variance $\beta^2$ per
# coordinate. By lab 1 the mean $m$ and the variance $V$ of a linear SDE obey $\frac{dm}{d\tau} = f m$ and
# $\frac{dV}{d\tau} = 2 f V + g^2$. Derive $f$ and $g^2$ from $\alpha_t$, $\beta_t$ and their derivatives in $t$ (note the
# sign of time). Then show that $g^2 = \beta_t^2\, \dot\lambda_t$. What are $f$ and $g^2$ for `VE`?

# %% [markdown] answer="rates_of_a_schedule" points=3 further=true
# ### BEGIN SOLUTION
# A derivative in $\tau$ is minus that in $t$. From $m = \alpha z$: $-\dot\alpha_t z = f \alpha_t z$, so $f =
# -\dot\alpha_t/\alpha_t$. From $V = \beta_t^2$: $-2 \beta_t \dot\beta_t = 2 f \beta_t^2 + g^2$, so
# $g^2 = 2 \big(\beta_t^2\, \dot\alpha_t/\alpha_t - \beta_t \dot\beta_t\big)$.
#
# Taking $\beta_t^2$ out, $g^2 = \beta_t^2 \cdot 2\, (\dot\alpha_t/\alpha_t - \dot\beta_t/\beta_t) = \beta_t^2\,
# \dot\lambda_t$: noise is added as fast as $\lambda$ changes, measured in the noise that is already there.
#
# For `VE`, $\dot\alpha_t = 0$, so $f = 0$: the data keep their size. And $g^2 = -2\beta_t\dot\beta_t = 2
# \sigma_{\max}^2 (1 - t)$, the growth of the variance $\sigma_{\max}^2 \tau^2$.
# ### END SOLUTION

# %% [markdown]
# **One generative SDE, written twice.** Flow matching adds noise of any strength $\sigma_t$ to its flow; diffusion models
# reverse their diffusion and scale its noise by any $\eta$:
#
# $$dX_t = \big(u_t + \tfrac12 \sigma_t^2\, \nabla \log p_t\big)\, dt + \sigma_t\, dW_t, \qquad
# dX_t = \big({-f} X_t + \tfrac12 (1 + \eta^2)\, g^2\, \nabla \log p_t\big)\, dt + \eta g\, dW_t.$$
#
# With $\sigma_t = \eta g$ the noise is the same, and so is the drift:

# %%
t, x = 0.4, torch.linspace(-2.5, 2.5, 101)[:, None]
exact = paths.GaussianPath(Cosine()).marginal(bumps)
f, g = schedules.diffusion_coefficients(Cosine(), t)
u, score = exact.vector_field(x, t), exact.score(x, t)
for eta in (0.0, 0.5, 1.0, 2.0):
    of_flow_matching = u + 0.5 * (eta * g) ** 2 * score
    of_diffusion = -f * x + 0.5 * (1 + eta**2) * g**2 * score
    print(f"η = {eta:3.1f}: largest difference {largest(of_flow_matching - of_diffusion):.1e}")

# %% [markdown]
# ## 8 · Two questions to answer in words
#
# ### Question {exercise:what_matters} · What matters? ({points:what_matters} points)
#
# A colleague plans an experiment: "We compare our diffusion model, trained with noise prediction and a linear VP
# schedule and sampled with DDPM, to flow matching, trained with CondOT and sampled with Euler's method." She changes four
# things at once: the schedule, the output, the weight of the loss, and the sampler. For each of the four, say whether
# it changes the ideal trained model, or only how well training or sampling approximates it, or only names. Which
# measurement of this lab shows it?

# %% [markdown] answer="what_matters" points=4
# ### BEGIN SOLUTION
# *Schedule.* In training it drops out of the loss, which depends on $w(\lambda)$ and the end points alone (exercise
# {exercise:loss_over_log_snr}: one curve over $\lambda$). It changes only the spread of the estimates. In sampling it is
# a choice of times: at the same $\lambda$, DDIM gives the same samples with all four schedules. So it changes names, apart
# from efficiency and the error of the steps.
#
# *Output.* The outputs convert into one another exactly (exercise {exercise:convert_output}), so the perfect network says
# the same in all of them, and a checkpoint that predicts noise can be sampled as a vector field (exercise
# {exercise:as_vector_field}). But the plain error of an output is a weight on the error of the data (exercise
# {exercise:x_mse_weight}). With the weight corrected for, only the name changes; for a real network it may still change
# how easy the function is to learn.
#
# *Weight.* This one is real: $w(\lambda)$ decides at which noise a network of limited size and training is accurate. Two
# trainings that differed in $w$ alone left 15 % and 22 % of the samples outside the squares. A perfect network would not
# depend on it, since at every $\lambda$ the same guess is best. Flow matching with CondOT has the same $w$ as
# $v$-prediction with the cosine schedule, up to the constant $\pi/2$ (exercise {exercise:effective_weight}).
#
# *Sampler.* It does not change the trained model, and with many steps and an exact model all samplers, with any churn,
# draw from the same distribution. With few steps they differ (figure of the five samplers): the order of the method and
# the churn matter. Euler on CondOT is DDIM, so *that* difference is only a name.
#
# She should change one thing at a time: the weight for training, the sampler (with its times and churn) for sampling.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:are_paths_straight} · Are they straight? ({points:are_paths_straight} points)
#
# Look at the table of section 6 row by row and column by column. In what sense is the sentence
# "flow matching is straight" true, and in what sense is it false? Why is the last column (nearly) constant, and what
# does that say about straightness as a property of a *model*?

# %% [markdown] answer="are_paths_straight" points=3
# ### BEGIN SOLUTION
# True for one pair: given $z$ and $\varepsilon$, the motion of CondOT is a straight line (curvature 0), and so is that
# of the flow if the data are a single point. False for the flow that generates: its field is the average of the
# conditional ones over all $z$ that are possible given $x$, and this average turns as $\lambda$ grows and the
# posterior decides for a cluster. There, CondOT has the largest curvature of the four (0.38), and VE the smallest
# (0.01), although its single pairs are as straight as those of CondOT.
#
# The last column is constant because the trajectories of two schedules are the same up to a known factor, the one of
# exercise {exercise:to_variance_preserving}. Rescaled to the same coordinates they are the same curves (VE begins only at
# $\lambda_0 = -6$, linear VP at $-10$, so their curves lack the beginning). Straightness is therefore not a property
# of the model but of the coordinates (the schedule) in which its trajectories are drawn. It can be chosen after training,
# by the schedule used for sampling.
# ### END SOLUTION

# %% [markdown]
# ## 9 · One model
#
# You can now read a paper in either language. When two papers seem to disagree, ask three questions: which
# $w(\lambda)$? which values of $\lambda$ for the steps, and which order? how much churn? Schedule and output are
# coordinates, and can be changed after training. In the next lab you tell such a network *what* to generate.
#
# <details><summary>Errors in the early draft that this lab was written from</summary>
#
# In our letters; the numbers are those of [errata](../errata.md), which has all of them in the draft's own.
#
# | no. | where | printed | right |
# |---|---|---|---|
# | 1 | error of $v$ (exercise {exercise:x_mse_weight}) | $\beta_t^2 (e^{-\lambda} + 1)^2$ | $\beta_t^2 (e^{\lambda} + 1)^2$ |
# | 2 | $\beta(\tau)^2$ (exercise {exercise:schedule_from_sde}) | without $\alpha(\tau)^2$ | with it |
# | 4 | $g$ in the summary (section 7) | its square | the root of that |
# | 5 | Euler's step on CondOT (section 5) | $x - (\hat z - \hat\varepsilon)\,\Delta t$, towards noise | with a plus sign |
# | 7 | the generative SDE (section 7) | $1 + \eta$ | $1 + \eta^2$ |
# | 9 | the loss over $\lambda$ (section 3) | $d\lambda/dt$, negative in the draft's time | its absolute value |
# | 10 | the same loss as an integral | error of $z$ on the left, of $\varepsilon$ on the right | the same on both sides |
# </details>

# %% [markdown]
# **How far you are.** The checks that have passed, and their points. Before you hand the notebook in, save it and run
# `lab5.submission()` in a new cell: it runs the saved file from top to bottom in a fresh process, and lists what is
# still open.

# %%
lab5.progress()
