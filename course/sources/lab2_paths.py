# %% [markdown] writes="noise schedules, the field of two points on paper, posterior and marginal fields, continuity, the SDE extension" needs="lab 1; normal densities, partial derivatives"
# # Lab 2 · Probability paths
#
# Image generators turn noise into a picture by following a [vector field](../words.md#vector-field) that a network has
# learned. Which field should it learn? Here you build it exactly, without training. First you say where samples should
# be at each time: this is a [**probability path**](../words.md#probability-path). Then you find the field that moves
# them in this way, for one data point and for all of them. At the end you add noise to the motion without changing the
# distribution at any time. Labs 3 and 4 train networks on two formulas that you write here.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace `raise NotImplementedError` by your code,
# run the cell, then the check below it. Figures use your function once its check has passed, and fmlab's until then, so
# you can always go on. `lab2.hint("alpha_beta")` gives up to three hints, one at a time. Leave out what is marked
# *further* if time is short: nothing else needs it. Where a cell says `...  # your guess`, type a guess before you go
# on; a later cell compares it, and nobody grades it.
#
# | letter | meaning | section |
# |---|---|---|
# | $t$ | time, from noise at 0 to data at 1: one number for all rows, or $(n,)$, one for each row | all |
# | $x$ | a *state*, one in each of $n$ rows, $(n, \dots)$: a point of the plane or an image | all |
# | $z$, $z_i$ | a data point; number $i$ of $N$ | all |
# | $\varepsilon$ | standard normal noise | all |
# | $\alpha_t, \beta_t$ | weights of data and noise; a dot, as in $\dot\alpha_t$, is the time derivative | all |
# | $p_t(x \mid z)$, $p_t(x)$ | conditional and marginal path | 1, 2 |
# | $u_t(x \mid z)$, $u_t(x)$ | conditional and marginal field, in code `u(x, t)` | 3, 4 |
# | $\mu_t, s_t$ | mean and standard deviation of any Gaussian path | 3 |
# | $\pm m$ | two data points on a line | 4 |
# | $w_i(x)$ | posterior probability of $z_i$ | 4 |
# | $\nabla \log p_t(x)$ | score | 6 |
# | $\sigma_t$, $b_t$ | diffusion coefficient and drift of an SDE | 7 |
#
# A sample, a moving *particle* and a point of a figure are all states $x$. One particle runs through a
# [trajectory](../words.md#trajectory); a *path* is always a family of distributions, one for each time. A vector field,
# in short *field*, gives each state a velocity. $\mathcal N$ is the normal distribution. *Notes* means [An Introduction
# to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/). The lab is worth {points:all} points,
# {points:code} of them for code.

# %%
import math

import torch

from fmlab import distributions, likelihood, metrics, paths, plots
from fmlab import processes, schedules, simulators, threads, widgets
from fmlab.checks import lab2
from fmlab.schedules import coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread if a core is free
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · From noise to one data point
#
# To learn the way from noise to data, a network needs examples of what lies between. One line makes them: mix a
# data point $z$ with noise, and let the weight of the noise decrease. The result has the distributions
#
# <a id="eq-path"></a>
# $$p_t(x \mid z) = \mathcal N(\alpha_t z,\ \beta_t^2 I), \tag{notes, eq. 15}$$
#
# the **Gaussian conditional path**. The [schedule](../words.md#schedule) $\alpha_t, \beta_t$ says how fast: $\alpha_t$
# rises from 0 to 1, and $\beta_t$ falls from 1 to 0. So the path starts at $\mathcal N(0, I)$, whatever $z$ is, and
# ends at $z$. A formula of this lab that names no schedule holds for every one. Two common ones are
#
# <a id="eq-families"></a>
# $$\text{CondOT:}\quad \alpha_t = t,\ \ \beta_t = 1 - t, \qquad\qquad
# \text{cosine:}\quad \alpha_t = \sin\tfrac{\pi t}{2},\ \ \beta_t = \cos\tfrac{\pi t}{2}.$$
#
# ### Exercise {exercise:alpha_beta} · Noise schedules ({points:alpha_beta} points)
#
# Write `alpha_beta(t, family)`: the values of $\alpha_t$, $\beta_t$, $\dot\alpha_t$ and $\dot\beta_t$, in this order,
# for [the two families](#eq-families).
#
# <details><summary>Hint</summary>
# Mind the inner derivative of the sine. <code>torch.ones_like(t)</code> has the shape of <code>t</code>.
# </details>

# %% exercise="alpha_beta"
def alpha_beta(t, family):
    """A noise schedule and its derivatives.

    t: a tensor of times in [0, 1], of any shape. family: "condot" or "cosine".
    Returns (alpha, beta, alpha_dot, beta_dot), four tensors of the shape and dtype of t.
    """
    ### BEGIN SOLUTION
    if family == "condot":
        return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)
    alpha, beta = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
    return alpha, beta, math.pi / 2 * beta, -math.pi / 2 * alpha
    ### END SOLUTION


# %% check="alpha_beta" points=3

# %% [markdown]
# **Three schedules.** The third, *linear VP*, is given. It comes from diffusion models; "variance preserving" means
# $\alpha_t^2 + \beta_t^2 = 1$. It changes most in the second half: at $t = 0.5$ the weight of the data is only 0.28. At
# $t = 0$ it is 0.0066, which is small, but not 0.

# %%
family = {"condot": schedules.CondOT(), "cosine": schedules.Cosine(), "vp": schedules.LinearVP()}
mine = lab2.answer_or("alpha_beta")

# %% figure="three schedules"
ts = torch.linspace(0, 1, 201)
fig, axes = plots.figure(columns=3, height=3.4)
for ax, (name, schedule) in zip(axes, family.items(), strict=True):
    alpha, beta = mine(ts, name)[:2] if name != "vp" else (schedule.alpha(ts), schedule.beta(ts))
    ax.plot(ts, alpha, label=r"$\alpha_t$, weight of the data")
    ax.plot(ts, beta, label=r"$\beta_t$, weight of the noise")
    ax.plot(ts, (alpha**2 + beta**2).sqrt(), label=r"$\sqrt{\alpha_t^2 + \beta_t^2}$")
    ax.set(title=name, xlabel="time $t$", ylim=(-0.05, 1.1))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plots.describe(
    "The weight of the data rises from 0 to 1 and that of the noise falls from 1 to 0. For condot "
    "both are straight lines; for cosine and vp the root of the sum of squares stays at 1, and vp "
    "changes most in the second half."
)

# %% [markdown]
# **A digit appears.** One digit and one draw of the noise, with three schedules. All rows end at the same image. But
# the [noise level](../words.md#noise-level) falls earlier in some, and there the digit can be recognised earlier.

# %%
digit = distributions.Digits().z[18:19].expand(6, 1, 8, 8)
noise, times = torch.randn(1, 1, 8, 8).expand(6, 1, 8, 8), torch.linspace(0, 1, 6)
rows = {
    name: coefficient(schedule.alpha(times), digit) * digit
    + coefficient(schedule.beta(times), digit) * noise
    for name, schedule in family.items()
}

# %% figure="a digit appears, with three schedules"
fig, axes = plots.figure(columns=6, rows=3, width=1.4, height=1.4)
for row, (name, images) in enumerate(rows.items()):
    for k, ax in enumerate(axes[6 * row : 6 * row + 6]):
        ax.imshow(plots.array(images[k, 0]), cmap="Greys_r", vmin=-1.3, vmax=1.3)
        ax.set(xticks=[], yticks=[], ylabel=name if k == 0 else "")
        ax.set_title(f"$t$ = {times[k]:g}" if row == 0 else "", fontsize=11)
plots.describe(
    "Three rows of six images, from noise to the digit 0. In the rows condot and cosine its dark "
    "centre shows by t = 0.6, in the row vp only at t = 0.8."
)

# %% [markdown]
# ## 2 · From noise to all the data
#
# A model should produce any of the data points, not one. So draw the data point first, then the noise. Neither needs a
# simulation, since a normal sample is shifted and scaled standard noise:
#
# <a id="eq-marginal-path"></a>
# $$z \sim p_\text{data}, \quad \varepsilon \sim \mathcal N(0, I) \qquad \Rightarrow \qquad
# x = \alpha_t z + \beta_t \varepsilon \sim p_t. \tag{notes, eqs. 12, 16}$$
#
# This is the [**marginal path**](../words.md#conditional-and-marginal) $p_t$, a [mixture](../words.md#mixture) of all
# conditional paths. It starts at $\mathcal N(0, I)$, as each of them does, and ends at $p_\text{data}$. Its density is
# an integral that we usually cannot compute, $p_t(x) = \int p_t(x \mid z)\, p_\text{data}(z)\, dz$.
#
# ### Exercise {exercise:sample_marginal_path} · Sampling the marginal path ({points:sample_marginal_path} points)
#
# From now on a `schedule` is an object with the methods `alpha(t)`, `beta(t)`, `alpha_dot(t)` and `beta_dot(t)`, whose
# values have the shape of `t`. `coefficient(schedule.alpha(t), x)` gives a value of shape $(n,)$ the shape $(n, 1)$ or
# $(n, 1, 1, 1)$ that multiplies the states $x$ row by row. One value for all rows stays as it is.
#
# Write `sample_marginal_path(sample_data, n, t, schedule)`: [such samples](#eq-marginal-path). `sample_data(n)` draws
# $n$ data points.
#
# <details><summary>Hint</summary>
# Every sample needs a data point of its own and noise of its own. <code>torch.randn_like</code> draws noise in the
# shape of another tensor.
# </details>

# %% exercise="sample_marginal_path"
def sample_marginal_path(sample_data, n, t, schedule):
    """n independent samples of the marginal path p_t.

    sample_data: function of a number n that returns n new data points, (n, *shape).
    t: times from 0 to 1, ends included: a number, a 0-dimensional tensor, or (n,).
    Returns (n, *shape): a sample for each of n data points, with new noise at each call.
    """
    ### BEGIN SOLUTION
    z = sample_data(n)
    alpha, beta = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
    return alpha * z + beta * torch.randn_like(z)
    ### END SOLUTION


# %% check="sample_marginal_path" points=3

# %% [markdown]
# **Two kinds of path.** Above, the conditional path of one data point; below, the marginal path of a checkerboard:
# counts of 40 000 samples, with CondOT.

# %%
sample_path = lab2.answer_or("sample_marginal_path")
board, condot = distributions.Checkerboard(), schedules.CondOT()
one_point = torch.tensor([[1.5, -0.5]])

# %% figure="the conditional path of one point, and the marginal path of a checkerboard"
n, times = 40_000, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
fig, axes = plots.figure(columns=5, rows=2, width=2.3, height=2.3)
for k, t in enumerate(times):
    conditional = sample_path(lambda n: one_point.expand(n, 2), n, t, condot)
    plots.plot_counts(conditional, axes[k]).set_title(f"$t$ = {t:g}")
    plots.plot_counts(sample_path(board.sample, n, t, condot), axes[5 + k])
for ax in axes:
    ax.set(xlabel="", ylabel="", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    ax.grid(False)
axes[0].set_ylabel("conditional")
axes[5].set_ylabel("marginal")
plots.describe(
    "Both rows begin with the same round cloud. Above it moves and shrinks to a single point; below "
    "it turns into the dark cells of a checkerboard, which show from t = 0.75 on."
)

# %% [markdown]
# ## 3 · A field for one data point
#
# A path says where samples should be, not how they get there. We need a vector field that moves them. For one data
# point two steps give it. Keep the noise $\varepsilon$ of a sample fixed and let time run: the sample runs through the
# trajectory
#
# $$\psi_t(\varepsilon \mid z) = \alpha_t z + \beta_t \varepsilon, \tag{notes, eq. 21}$$
#
# with the velocity $\dot\alpha_t z + \dot\beta_t \varepsilon$. A field is a function of the position, not of
# $\varepsilon$; but the position determines the noise, $\varepsilon = (x - \alpha_t z)/\beta_t$. Insert it and sort the
# terms:
#
# <a id="eq-field"></a>
# $$u_t(x \mid z) = \Bigl(\dot\alpha_t - \frac{\dot\beta_t}{\beta_t}\,\alpha_t\Bigr) z + \frac{\dot\beta_t}{\beta_t}\, x.
# \tag{notes, eq. 20}$$
#
# ### Exercise {exercise:conditional_vector_field} · The conditional vector field ({points:conditional_vector_field} points)
#
# Write `conditional_vector_field(x, z, t, schedule)`: [this field](#eq-field).
#
# <details><summary>Hint</summary>
# Bring each coefficient into shape with <code>coefficient</code>. Both forms are right: the sorted one, or
# $\dot\alpha_t z + \dot\beta_t \varepsilon$ with the noise that belongs to the position.
# </details>

# %% exercise="conditional_vector_field"
def conditional_vector_field(x, z, t, schedule):
    """The conditional vector field u_t(x | z) of a Gaussian path.

    x, z: (n, *shape). t: times from 0 on, where β_t > 0: a number, a 0-dimensional tensor,
    or (n,). Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    alpha, alpha_dot = coefficient(schedule.alpha(t), x), coefficient(schedule.alpha_dot(t), x)
    rate = coefficient(schedule.beta_dot(t) / schedule.beta(t), x)
    return (alpha_dot - rate * alpha) * z + rate * x
    ### END SOLUTION


# %% check="conditional_vector_field" points=4

# %% [markdown]
# **The field follows the path.** Grey: the exact conditional density. Dots: 150 particles that started as noise and
# were moved by your field alone. They still match the density. All arrows point at the data point, $(1.5, -0.5)$: for
# CondOT $u_t(x \mid z) = (z - x)/(1 - t)$, the distance that is left, divided by the time that is left.

# %%
conditional_field = lab2.answer_or("conditional_vector_field")


def towards(z, schedule):
    """The conditional field of one data point z: (1, d), as a field u(x, t)."""
    return lambda x, t: conditional_field(x, z.expand_as(x), t, schedule)


def follow(u, x0, t, steps=60):
    """Where the field u moves the states x0 between time 0 and time t, by Heun's method."""
    ts = torch.linspace(0, t, steps + 1)
    return simulators.simulate(processes.ODE(u), x0, ts, simulators.Heun())


# %% figure="particles that follow the conditional field, over the exact density"
start = torch.randn(150, 2)
fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.2, 0.5, 0.8), strict=True):
    gaussian = distributions.Gaussian(t * one_point[0], (1 - t) ** 2)
    plots.plot_density(gaussian.log_prob, ax)
    plots.plot_vector_field(towards(one_point, condot), t, ax, n=11)
    particles = follow(towards(one_point, condot), start, t)
    plots.plot_samples(particles, ax, color=plots.RED, ms=2.5, alpha=0.9)
    ax.set_title(f"$t$ = {t:g}")
plots.describe(
    "A Gaussian and the particles on it shrink together and move to the data point, at which all "
    "arrows point. At each time the particles are spread as the density is."
)

# %% [markdown]
# ### Exercise {exercise:general_vector_field} · One field for every Gaussian path ({points:general_vector_field} points)
#
# Some papers use other Gaussian paths, $\mathcal N(\mu_t, s_t^2 I)$. Their samples run through $\mu_t +
# s_t\,\varepsilon$, and the same two steps give
#
# <a id="eq-general"></a>
# $$u_t(x \mid z) = \frac{\dot s_t}{s_t}\,(x - \mu_t) + \dot\mu_t :$$
#
# move with the mean, and shrink towards it at the rate at which the path shrinks. Write
# `general_vector_field(x, mean, scale, mean_dot, scale_dot)`: [this field](#eq-general), from $\mu_t$, $s_t$ and their
# time derivatives.
#
# <details><summary>Hint</summary>
# All values have shapes that multiply with <code>x</code> already.
# </details>

# %% exercise="general_vector_field"
def general_vector_field(x, mean, scale, mean_dot, scale_dot):
    """The vector field of the Gaussian path N(μ, s² I).

    x, mean, mean_dot: (n, *shape). scale, scale_dot: tensors whose shapes broadcast with x,
    such as () or (n, 1), scale > 0. Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    return scale_dot / scale * (x - mean) + mean_dot
    ### END SOLUTION


# %% check="general_vector_field" points=3 further=true

# %% [markdown]
# **Three paths from papers.** The general field gives the printed ones. VE keeps its mean and starts from very wide
# noise, here $s_0 = 3$; OT moves its mean and keeps a little noise, here $s_1 = 0.1$. Both have straight trajectories.
#
# | path | mean $\mu_t$ | standard deviation $s_t$ | field |
# |---|---|---|---|
# | variance exploding (VE) | $z$ | $s_0\,(1 - t)$ | $(z - x)/(1 - t)$ |
# | variance preserving (VP) | $\alpha_t z$ | $\sqrt{1 - \alpha_t^2}$ | $\dot\alpha_t\,(z - \alpha_t x)/(1 - \alpha_t^2)$ |
# | optimal transport (OT) | $t z$ | $1 - (1 - s_1)\, t$ | $(z - (1 - s_1)\, x)/(1 - (1 - s_1)\, t)$ |

# %%
general_field = lab2.answer_or("general_vector_field")
special = {
    "variance exploding": schedules.VE(sigma_max=3.0),
    "variance preserving": schedules.LinearVP(),
    "optimal transport": schedules.CondOT(sigma_min=0.1),
}


def family_member(name, z, t):
    """Mean and standard deviation of one of the three paths, and their time derivatives."""
    s = special[name]
    return s.alpha(t) * z, s.beta(t), s.alpha_dot(t) * z, s.beta_dot(t)


# %% figure="three Gaussian paths, and the printed fields"
def printed_field(name, x, z, t):
    """The field as it stands in the table."""
    if name == "variance exploding":
        return (z - x) / (1 - t)
    if name == "optimal transport":
        return (z - 0.9 * x) / (1 - 0.9 * t)
    alpha, alpha_dot = special[name].alpha(t), special[name].alpha_dot(t)
    return alpha_dot * (z - alpha * x) / (1 - alpha**2)


ts, z = torch.linspace(0, 0.999, 400), torch.tensor([[1.5]])
fig, axes = plots.figure(columns=3, height=3.4)
for ax, name in zip(axes, special, strict=True):
    mean, scale, _, _ = family_member(name, z[0], ts)
    starts = mean[0] + scale[0] * torch.linspace(-2, 2, 9)[:, None]
    u = lambda x, t, name=name: general_field(x, *family_member(name, z.expand_as(x), t))
    states = simulators.simulate(processes.ODE(u), starts, ts, simulators.Heun(), record=True)
    plots.plot_paths(ts, states, ax, label="trajectories", color=plots.BLUE, ls="-")
    plots.plot_band(ts, mean, scale, ax, label="mean")
    ax.set(title=name, ylabel="state $x$", ylim=(-5, 8))
    x = torch.randn(100, 1)
    difference = u(x, torch.tensor(0.7)) - printed_field(name, x, z, torch.tensor(0.7))
    print(f"{name:20s} largest difference from the printed field {difference.abs().max():.0e}")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plots.describe(
    "Nine trajectories run to one data point in each panel. With variance exploding they are "
    "straight and their mean stays constant, with variance preserving they bend, and with optimal "
    "transport they are straight and keep a little width."
)

# %% [markdown]
# ## 4 · The field of all the data
#
# A particle that follows $u_t(\cdot \mid z)$ ends at $z$, which had to be chosen before. To generate, the field may use
# only position and time, not $z$. A position $x$ can belong to the path of every data point. In which direction should
# a particle there move?
#
# ### Exercise {exercise:two_point_field} · Two data points, on paper ({points:two_point_field} points)
#
# Take the smallest data set that has a choice: $+m$ and $-m$ on a line, equally likely, and CondOT. Work on paper:
#
# <a id="eq-two-points"></a>
# $$u_t(x) = p(+m \mid x)\,\frac{m - x}{1 - t} + p(-m \mid x)\,\frac{-m - x}{1 - t}.$$
#
# 1. From $p_t(x \mid \pm m) = \mathcal N(\pm t m, (1 - t)^2)$ and Bayes' rule, find the
#    [posterior](../words.md#posterior) $p(+m \mid x)$ and $p(-m \mid x)$: how likely each point is, given $x$.
# 2. Find the mean data point $E[z \mid x] = m\, p(+m \mid x) - m\, p(-m \mid x)$. The exponentials combine to a
#    well-known function.
# 3. Put the mean into [the average of the two conditional fields](#eq-two-points).
#
# Write `two_point_field(x, t, m)`: your result for $u_t(x)$.
#
# <details><summary>Hint</summary>
# Divide numerator and denominator of Bayes' rule by everything that both exponentials have in common.
# </details>

# %% exercise="two_point_field"
def two_point_field(x, t, m):
    """The field of CondOT for the two data points +m and −m on a line.

    x: (n,), places on the line. t: times from 0 on, below 1: a number, a 0-dimensional
    tensor, or (n,). m: a number above 0. Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    mean = m * torch.tanh(m * t * x / (1 - t) ** 2)
    return (mean - x) / (1 - t)
    ### END SOLUTION


# %% check="two_point_field" points=4

# %% [markdown]
# **Predict.** The data points are $\pm 1$. At $t = 0.2$ a particle is at $x = 0.5$. Does the field move it to the
# `"left"` or to the `"right"`? From which time on does the field push particles away from the middle, $x = 0$?

# %%
direction = ...  # your guess, "left" or "right"
turn = ...  # your guess, a time (or work it out from your formula)

# %%
by_hand = lab2.answer_or("two_point_field")
ts = torch.linspace(0, 0.999, 1000)
u = by_hand(torch.tensor([0.5]), 0.2, 1.0)
lab2.compare("the direction at x = 0.5", direction, "left" if u < 0 else "right")
outwards = by_hand(torch.full_like(ts, 1e-3), ts, 1.0) > 0  # just to the right of the middle
lab2.compare("the time from which the middle repels", turn, float(ts[outwards][0]))

# %% [markdown]
# At first both data points are nearly equally likely, and the particle moves *away* from the nearer one, towards their
# mean. From $t = (3 - \sqrt 5)/2 \approx 0.38$ on (dotted line) the middle repels. The density has two peaks only from
# $t = 0.5$ on. (Its shades are relative to the maximum at each time.)

# %% figure="the field of two data points, and what it does"
line_of_two = paths.GaussianPath().marginal(distributions.Empirical(torch.tensor([[1.0], [-1.0]])))
fig, axes = plots.figure(columns=2, width=4.6, height=3.9)
x = torch.linspace(-2, 2, 401)
for t in (0.2, 0.5, 0.8):
    axes[0].plot(x, by_hand(x, t, 1.0), label=f"$t$ = {t:g}")
axes[0].plot([-1, 1], [0, 0], "X", color=plots.BLACK, ms=8, label="data")
axes[0].set(xlabel="position $x$", ylabel="$u_t(x)$", ylim=(-5.5, 5.5), title="the field")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
ts, starts = torch.linspace(0, 0.99, 200), torch.linspace(-2.4, 2.4, 12)
states = simulators.simulate(
    processes.ODE(lambda x, t: by_hand(x, t, 1.0)), starts, ts, simulators.Heun(), record=True
)


def relative(x, t):
    """The logarithm of the density, less its largest value at each time."""
    logs = line_of_two.log_prob(x, 0.97 * t).reshape(120, 120)
    return (logs - logs.amax(1, keepdim=True)).flatten()


plots.plot_density_in_time(relative, axes[1])
plots.plot_paths(ts, states, axes[1], color=plots.BLUE, ls="-")
axes[1].axvline(0.382, color=plots.BLACK, ls=":")
axes[1].set_title("density and trajectories")
plots.describe(
    "Left: at t = 0.2 the field only falls; in the middle it rises at t = 0.5, and steeply at "
    "t = 0.8. Right: trajectories first approach the middle; after the dotted line at t = 0.38 "
    "they separate towards the two data points."
)

# %% [markdown]
# ### Exercise {exercise:posterior_weights} · The posterior of a data set ({points:posterior_weights} points)
#
# Now any schedule and any data set $z_1, \dots, z_N$, all equally likely. Bayes' rule says
#
# <a id="eq-posterior"></a>
# $$w_i(x) = p(z_i \mid x) = \frac{p_t(x \mid z_i)}{\sum_j p_t(x \mid z_j)}, \qquad
# p_t(x \mid z_i) \propto \exp\Bigl(-\frac{\lVert x - \alpha_t z_i \rVert^2}{2 \beta_t^2}\Bigr).$$
#
# Write `posterior_weights(x, data, t, schedule)`: [these weights](#eq-posterior). When $\beta_t$ is small, all
# exponentials can round to 0, and $0/0$ is not a weight. A [softmax](../words.md#softmax) of the exponents is the same
# quotient without this problem.
#
# <details><summary>Hint</summary>
# <code>x[:, None] - …</code> holds the differences of every state and every data point, $(n, N, \dots)$;
# <code>flatten(2)</code> makes a vector of each, whatever its shape. The exponents have the shape $(n, N)$, and the
# softmax runs over the data points.
# </details>

# %% exercise="posterior_weights"
def posterior_weights(x, data, t, schedule):
    """The posterior probabilities p(z_i | x) of all data points, for every state.

    x: (n, *shape). data: (N, *shape). t: times from 0 on, where β_t > 0: a number, a
    0-dimensional tensor, or (n,). Returns (n, N), in the dtype of x; each row sums to 1.
    """
    ### BEGIN SOLUTION
    x = x[:, None]
    difference = (x - coefficient(schedule.alpha(t), x) * data).flatten(2)
    distance = difference.square().sum(2)
    beta = coefficient(schedule.beta(t), distance)
    return torch.softmax(-distance / (2 * beta**2), dim=1)
    ### END SOLUTION


# %% check="posterior_weights" points=4

# %% [markdown]
# **Fewer and fewer candidates.** A state (triangle) that moves outwards, and 60 data points: the larger the circle, the
# likelier the point. At first all are possible; in the end one is left. The title counts them, $1/\sum_i w_i^2$.

# %%
weigh = lab2.answer_or("posterior_weights")
moons = distributions.Moons(noise=0.05).sample(60, torch.Generator().manual_seed(1))

# %% figure="posterior weights of 60 data points at four times"
state = torch.tensor([[0.1, 0.35]])
fig, axes = plots.figure(columns=4, width=2.8, height=3)
for ax, t in zip(axes, (0.1, 0.5, 0.8, 0.95), strict=True):
    weights = weigh(t * state, moons, torch.tensor(t), condot)[0]
    plots.plot_samples(moons, ax, color=plots.BLACK, ms=3)
    sizes = 300 * plots.array(weights) ** 0.5
    ax.scatter(*plots.array(moons).T, s=sizes, color=plots.BLUE, alpha=0.4)
    ax.plot(*(t * state[0]), "^", color=plots.RED, ms=8)
    candidates = 1 / weights.square().sum()
    ax.set(title=f"$t$ = {t:g}: {candidates:.3g} candidates", xlim=(-2.6, 2.6), ylim=(-2, 2))
plots.describe(
    "Two half moons of 60 points. At t = 0.1 all have circles of one size; then the circles far "
    "from the state shrink and those near it grow, until at t = 0.95 a single large one is left."
)

# %% [markdown]
# ### Exercise {exercise:marginal_vector_field} · The marginal vector field ({points:marginal_vector_field} points)
#
# Average the conditional fields, each weighted by its posterior probability, as for two points. This is the
# **marginalisation trick**:
#
# <a id="eq-marginal-field"></a>
# $$u_t(x) = \int u_t(x \mid z)\, \frac{p_t(x \mid z)\, p_\text{data}(z)}{p_t(x)}\, dz
# = \sum_{i=1}^N w_i(x)\, u_t(x \mid z_i). \tag{notes, eq. 18}$$
#
# It works for *any* conditional field. Write `marginal_vector_field(x, data, t, weights, field)`:
# [the sum](#eq-marginal-field).
#
# <details><summary>Hint</summary>
# A loop over the data points is fine: pair all states with one data point, <code>data[i].expand_as(x)</code>, and add
# up. A column of the weights, of shape $(n,)$, multiplies a field of shape $(n, \dots)$ with the help of
# <code>coefficient</code>.
# </details>

# %% exercise="marginal_vector_field"
def marginal_vector_field(x, data, t, weights, field):
    """The posterior average of a conditional field over a data set.

    x: (n, *shape). data: (N, *shape). t: a number, a 0-dimensional tensor, or (n,).
    weights: (n, N), each row sums to 1. field: function field(x, z, t) of pairs, x and z of
    one shape, with one time for all or a time for each pair. Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    total = torch.zeros_like(x)
    for z, weight in zip(data, weights.T):
        total = total + coefficient(weight, x) * field(x, z.expand_as(x), t)
    return total
    ### END SOLUTION


# %% check="marginal_vector_field" points=4

# %% [markdown]
# **Predict.** Give each of 3000 particles one of the 60 data points, at random. The conditional field of that point
# would move the particle there. But all particles follow the marginal field. How many end at their own data point?

# %%
at_their_own = ...  # your guess, a number from 0 to 3000

# %%
average_field = lab2.answer_or("marginal_vector_field")


def towards_all(data, schedule):
    """The marginal field of a data set, as a field u(x, t)."""
    field = lambda x, z, t: conditional_field(x, z, t, schedule)
    return lambda x, t: average_field(x, data, t, weigh(x, data, t, schedule), field)


start, ts, own = torch.randn(3000, 2), torch.linspace(0, 0.99, 61), torch.randint(60, (3000,))
model = processes.ODE(towards_all(moons, condot))
states = simulators.simulate(model, start, ts, simulators.Heun(), record=True)
arrived = weigh(states[-1], moons, 0.99, condot).argmax(1)  # the data point that each ends at
lab2.compare("particles at their own data point", at_their_own, int((arrived == own).sum()))

x, two = torch.linspace(-2, 2, 41), torch.tensor([[1.0], [-1.0]])
difference = towards_all(two, condot)(x[:, None], 0.6)[:, 0] - by_hand(x, 0.6, 1.0)
print(f"two data points: largest difference from your formula {difference.abs().max():.0e}")

# %% [markdown]
# Where a particle ends depends on its start alone, not on the data point that you gave it: only by chance, about once
# in 60, are they the same. *Together* the particles are distributed as they should be. Compare the first two columns:
# samples of the path, and particles. Above for one data point, below for all 60.

# %% figure="samples of the path, particles moved by the field, and trajectories"
marks = {0: ("o", plots.SKY), 36: ("^", plots.ORANGE), 60: ("s", plots.BLUE)}
one = moons[20:21]
single = simulators.simulate(
    processes.ODE(towards(one, condot)), start[:500], ts, simulators.Heun(), record=True
)
fig, axes = plots.figure(columns=3, rows=2)
for row, data, moved in ((axes[:3], one, single), (axes[3:], moons, states)):
    for k, (marker, color) in marks.items():
        drawn = sample_path(distributions.Empirical(data).sample, 500, ts[k], condot)
        look = {"marker": marker, "color": color, "ms": 2.5, "label": f"$t$ = {ts[k]:.2g}"}
        plots.plot_samples(drawn, row[0], **look)
        plots.plot_samples(moved[k, :500], row[1], **look)
    density = paths.GaussianPath(condot).marginal(distributions.Empirical(data))
    plots.plot_density(lambda x, density=density: density.log_prob(x, 0.8), row[2], n=80)
    plots.plot_trajectories(moved[:, :25], row[2])
    for ax, title in zip(row, ("drawn from the path", "moved by the field", "trajectories, density at $t$ = 0.8")):
        ax.set(xlim=(-3.7, 3.7), ylim=(-3.7, 3.7), title=title if row[0] is axes[0] else "")
axes[0].set_ylabel("one data point\n$x_2$")
axes[3].set_ylabel("60 data points\n$x_2$")
handles = [*axes[0].get_legend_handles_labels()[0], *axes[2].get_legend_handles_labels()[0]]
fig.legend(handles=handles, loc="outside lower center", ncols=5, markerscale=2)
plots.describe(
    "In both rows the samples drawn from the path and those moved by the field lie in the same "
    "places. Above, all trajectories run straight to one point; below, they bend and end on the "
    "two moons."
)

# %% [markdown]
# The marginal trajectories *bend*: at first a particle moves towards the average of all candidates, and only later
# towards one of them. And for a finite data set the exact field produces the data points and nothing else. A model
# invents new samples because it learns only a smooth approximation of this field.
#
# **Try it.** Left, the conditional path of one data point; right, the marginal path of five. From which time on is the
# field on the right nearly that of the nearest data point alone?

# %%
widgets.path_through_time()

# %% [markdown]
# ## 5 · Why averaging is right
#
# The figures agree with the claim, but they are no proof. The proof is that probability is conserved. Particles neither
# appear nor vanish, so the density at a point changes only by what flows in or out there. (From the same fact a model
# gets exact [likelihoods](../words.md#likelihood), in lab 3.) The net outflow is the **divergence** of what flows,
#
# <a id="eq-divergence"></a>
# $$\operatorname{div}(u)(x) = \sum_{i=1}^d \frac{\partial u^i}{\partial x_i}(x), \tag{notes, eq. 22}$$
#
# where $u$ has $d$ components $u^i$. The function `likelihood.divergence(u, x, t)` computes it, of shape $(n,)$.
#
# ### Exercise {exercise:continuity_residual} · The continuity equation ({points:continuity_residual} points)
#
# What flows is density times velocity. So a flow along $u_t$ from $p_0$ has the densities $p_t$ if and only if
#
# <a id="eq-continuity"></a>
# $$\partial_t p_t(x) + \operatorname{div}(p_t u_t)(x) = 0 \quad \text{for all } x \text{ and } t. \tag{notes, eq. 23}$$
#
# The equation is *linear* in $p_t$ and in $p_t u_t$. That proves the marginalisation trick: each pair $p_t(x \mid z)$,
# $p_t(x \mid z)\, u_t(x \mid z)$ satisfies it; so do their averages over $z$; and these are $p_t(x)$ and, by
# [the definition of the marginal field](#eq-marginal-field), $p_t(x)\, u_t(x)$.
#
# Write `continuity_residual(density, u, x, t)`: the left-hand side of [the continuity equation](#eq-continuity).
#
# <details><summary>Hint</summary>
# For the time derivative, let <code>t.detach().requires_grad_()</code> record, and take
# <code>torch.autograd.grad</code> of <code>density(x, t).sum()</code>. Each row has its own time, so this gradient
# holds the derivative of every row. For the other term, write what flows as a function, <code>lambda x, t: …</code>,
# and give it to <code>likelihood.divergence</code>.
# </details>

# %% exercise="continuity_residual"
def continuity_residual(density, u, x, t):
    """The residual ∂_t p + div(p u) of the continuity equation.

    density: function p(x, t), (n, d) and (n,) → (n,), not its logarithm. u: function u(x, t).
    Both are made of torch operations. x: (n, d). t: (n,), a time for each row.
    Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    t = t.detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, t).sum(), t)
    flux = lambda x, t: density(x, t)[:, None] * u(x, t)
    return change + likelihood.divergence(flux, x, t)
    ### END SOLUTION


# %% check="continuity_residual" points=3

# %% [markdown]
# **Probability is conserved** at every point. The data are a mixture of three Gaussians, so all is known exactly. Left:
# how fast the density changes at $t = 0.6$. Middle: the residual with the marginal field, rounding errors only. Right:
# with the conditional field towards one of the means, which belongs to another path. Solid contours, orange: above 0;
# dashed, purple: below 0.

# %%
residual = lab2.answer_or("continuity_residual")
mixture = distributions.GaussianMixture(
    means=[[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]],
    covs=[[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.2]]],
    weights=[0.3, 0.4, 0.3],
)
exact = paths.GaussianPath(condot).marginal(mixture)  # its density, field and score are known
density = lambda x, t: exact.log_prob(x, t).exp()
still = lambda x, t: 0 * x

# %% figure="the residual of the continuity equation for three fields"
fields = {
    "rate of change of the density": still,
    "residual, marginal field": exact.vector_field,
    "residual, conditional field": towards(mixture.means[1:2], condot),
}
fig, axes = plots.figure(columns=3, width=4.2, height=3.4)
for ax, (title, u) in zip(axes, fields.items(), strict=True):
    found = lambda x, u=u: residual(density, u, x, torch.full((len(x),), 0.6))
    plots.plot_signed(found, ax, limit=1.0)
    ax.set_title(title)
    print(f"{title:32s} largest value {found(plots.lattice(3.0, 41)).abs().max():.1e}")
plots.describe(
    "Left: the density grows at the three Gaussians and falls between them. Middle: the residual "
    "of the marginal field is blank, hence 0. Right: that of the conditional field is even larger "
    "than the change of the density that the field should explain."
)

# %% [markdown]
# ### Exercise {exercise:divergence} · Divergence by automatic differentiation ({points:divergence} points)
#
# Lab 3 sums up the divergence along a trajectory to find out how likely an image is under a model. Write
# `divergence(u, x, t)`: [the sum of derivatives](#eq-divergence), with `torch.autograd.grad`.
#
# <details><summary>Hint</summary>
# Work on a copy that records operations: <code>x.detach().requires_grad_()</code>. Each row of the field depends on its
# own row of <code>x</code> alone, so the gradient of <code>u(x, t)[:, i].sum()</code> holds $\partial u^i/\partial x_j$
# for every row, and you need one of its columns. The graph is needed $d$ times: <code>retain_graph=True</code>.
# </details>

# %% exercise="divergence"
def divergence(u, x, t):
    """The divergence of a field that treats each row of x on its own.

    u: function u(x, t), made of torch operations. x: (n, d). t: a number, a 0-dimensional
    tensor, or (n,). Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    x = x.detach().requires_grad_()
    values = u(x, t)
    total = 0
    for i in range(x.shape[1]):
        gradient = torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0]
        total = total + gradient[:, i]
    return total
    ### END SOLUTION


# %% check="divergence" points=4 further=true

# %% [markdown]
# **Where trajectories separate.** The marginal field of the mixture, and its divergence. Mostly it is negative, on the
# way from wide noise to narrow data. At $t = 0.6$ it is positive on the borders between the three Gaussians, where
# neighbours go to different ones (5 and more have one colour).

# %% figure="the divergence of the marginal field at two times"
div = lab2.answer_or("divergence")
fig, axes = plots.figure(columns=2, width=4.6, height=3.6)
for ax, t in zip(axes, (0.3, 0.6), strict=True):
    plots.plot_signed(lambda x, t=t: div(exact.vector_field, x, torch.tensor(t)), ax, limit=5)
    plots.plot_vector_field(exact.vector_field, t, ax, n=13)
    ax.set_title(f"divergence at $t$ = {t:g}")
plots.describe(
    "At t = 0.3 the divergence is negative everywhere. At t = 0.6 a positive ridge in the form of "
    "a T, weaker on its right, separates three negative regions, one around each Gaussian."
)

# %% [markdown]
# ## 6 · The score
#
# Diffusion models are built on the [score](../words.md#score), $\nabla \log p_t(x)$: the direction in which the density
# grows fastest. Samplers that add noise need it, such as the Langevin dynamics of lab 1. For one data point,
# differentiate the logarithm of the Gaussian density with respect to $x$:
#
# <a id="eq-score"></a>
# $$\nabla \log p_t(x \mid z) = -\frac{x - \alpha_t z}{\beta_t^2}.$$
#
# ### Exercise {exercise:conditional_score} · The conditional score ({points:conditional_score} points)
#
# Write `conditional_score(x, z, t, schedule)`: [the score above](#eq-score).
#
# <details><summary>Hint</summary>
# For $x = \alpha_t z + \beta_t \varepsilon$ it is $-\varepsilon/\beta_t$: opposite to the noise, and large where
# $\beta_t$ is small.
# </details>

# %% exercise="conditional_score"
def conditional_score(x, z, t, schedule):
    """The conditional score ∇ log p_t(x | z) of a Gaussian path.

    x, z: (n, *shape). t: times from 0 on, where β_t > 0: a number, a 0-dimensional tensor,
    or (n,). Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    return -(x - alpha * z) / beta**2
    ### END SOLUTION


# %% check="conditional_score" points=2

# %% [markdown]
# **The marginal score** needs no new code. By the chain rule, the gradient of $\log \int p_t(x \mid z)\,
# p_\text{data}(z)\, dz$ is a posterior average too:
#
# <a id="eq-marginal-score"></a>
# $$\nabla \log p_t(x) = \sum_{i=1}^N w_i(x)\, \nabla \log p_t(x \mid z_i).$$
#
# So `marginal_vector_field` computes it, if its field is the conditional score. The next cell compares the result with
# a derivative of $\log p_t$. The conditional field and score are linear in $z$, so the marginal ones follow from the
# mean data point $E[z \mid x] = \sum_i w_i(x)\, z_i$, the [denoiser](../words.md#denoiser). Lab 5 is about this.

# %%
score_of_one = lab2.answer_or("conditional_score")


def score_of_all(x, t):
    """The score of the 60 data points on the moons."""
    field = lambda x, z, t: score_of_one(x, z, t, condot)
    return average_field(x, moons, t, weigh(x, moons, t, condot), field)


peaks = paths.GaussianPath(condot).marginal(distributions.Empirical(moons))
x = plots.lattice(2.0, 9).requires_grad_()
(slope,) = torch.autograd.grad(peaks.log_prob(x, 0.6).sum(), x)
difference = (score_of_all(x.detach(), 0.6) - slope).abs().max()
print(f"largest difference from the derivative of log p: {difference:.0e}")

# %% [markdown]
# **Field and score are different.** At $t = 0.4$ the field of one data point points to $z$, the cross; the score points
# to where the density is highest *now*, $\alpha_t z$, the triangle. Right: the score of the 60 data points. At
# $t = 0.85$ neighbours still share a peak; nearer the end each has its own.

# %% figure="the field and the score of one data point, and the score of 60"
fig, axes = plots.figure(columns=4, width=3.3, height=3.5)
arrows = {
    "field of one point": towards(one_point, condot),
    "score of one point": lambda x, t: score_of_one(x, one_point.expand_as(x), t, condot),
}
for ax, (title, field) in zip(axes, arrows.items()):
    plots.plot_density(distributions.Gaussian(0.4 * one_point[0], 0.6**2).log_prob, ax)
    plots.plot_vector_field(field, 0.4, ax, n=13)
    ax.plot(*one_point[0], "X", color=plots.RED, ms=9, label="$z$")
    ax.plot(*(0.4 * one_point[0]), "^", color=plots.ORANGE, ms=8, label=r"$\alpha_t z$")
    ax.set_title(f"{title}, $t$ = 0.4")
for ax, t in zip(axes[2:], (0.3, 0.85)):
    plots.plot_density(lambda x, t=t: peaks.log_prob(x, t), ax)
    plots.plot_vector_field(score_of_all, t, ax, n=13)
    ax.set_title(f"score of 60, $t$ = {t:g}")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.describe(
    "The arrows of the field meet at the data point, those of the score at the centre of the "
    "Gaussian. The score of all points leads up one round peak at t = 0.3, and at t = 0.85 up "
    "several small peaks along the two moons."
)

# %% [markdown]
# ### Thin data
#
# Images fill only a thin part of the space of all pixels. The simplest thin data set is a circle in the plane: it has
# no area, hence at $t = 1$ no density and no score. For $t < 1$ the noise makes it a ring of width $\beta_t$. At a
# distance $\delta$ outside, the score points back to the ring, with a length of about $\delta/\beta_t^2$. **Predict.**
# By which factor does the score at $\delta = 0.1$ grow from $\beta_t = 0.02$ to $0.01$? And if the *data* have noise of
# standard deviation 0.05?

# %%
growth = ...  # your guess, a factor
growth_with_noise = ...  # your guess, a factor

# %%
def ring(t, noise=0.0):
    """p_t for a circle of radius 1 with some noise: a circle of radius t with more noise."""
    return distributions.Circles(radii=(t,), noise=math.hypot(1 - t, noise * t))


def length(b, noise):
    """The length of the score at a distance of 0.1 outside of the ring, for β = b."""
    x = torch.tensor([[1 - b + 0.1, 0.0]], requires_grad=True)
    return torch.autograd.grad(ring(1 - b, noise).log_prob(x).sum(), x)[0].norm()


lab2.compare("the growth for a circle", growth, float(length(0.01, 0) / length(0.02, 0)))
ratio = float(length(0.01, 0.05) / length(0.02, 0.05))
lab2.compare("the growth for a circle with noise", growth_with_noise, ratio)

# %% [markdown]
# Without noise in the data the score grows without bound as $t \to 1$; with it, the score stays finite. A network has
# to learn such large numbers (lab 4).

# %% figure="two rings, and the score beside them as the noise falls"
betas = 0.1 * 0.6 ** torch.arange(6.0)
measured = {
    "circle": torch.stack([length(float(b), 0.0) for b in betas]),
    "circle with noise": torch.stack([length(float(b), 0.05) for b in betas]),
}
fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.8, 0.95)):
    plots.plot_density(ring(t).log_prob, ax, extent=1.7)
    ax.set_title(rf"$\beta_t$ = {1 - t:.2g}")
plots.plot_convergence(betas, measured, {"circle": -2}, axes[2])
axes[2].set(xlabel=r"noise $\beta_t$", ylabel="length of the score")
axes[2].xaxis.set_minor_formatter("")
print(f"slope for the circle: {float(metrics.convergence_order(betas, measured['circle'])):.2f}")
plots.describe(
    "Two rings, the second much thinner. On logarithmic axes the score of the circle grows with "
    "slope −2 as the noise falls, while that of the noisy circle levels off."
)

# %% [markdown]
# ## 7 · Noise that changes no distribution
#
# Many samplers of diffusion models add noise at every step, and can so reduce earlier errors. Can we add noise and
# still have $X_t \sim p_t$ at every time? Yes. Noise flattens the density; a drift along the score moves particles
# back to where the density is high; with the right factor the two cancel:
#
# <a id="eq-extension"></a>
# $$dX_t = \Bigl(u_t(X_t) + \tfrac12 \sigma_t^2\, \nabla \log p_t(X_t)\Bigr)\,dt + \sigma_t\,dW_t
# \qquad \Rightarrow \qquad X_t \sim p_t,$$
#
# with [Brownian motion](../words.md#brownian-motion) $W$. This stochastic differential equation
# ([SDE](../words.md#sde)) is the **SDE extension** of the flow. It holds for every [diffusion
# coefficient](../words.md#drift-and-diffusion) $\sigma_t \ge 0$, the strength of the added noise. If the path does not
# change and $u_t = 0$, it is [Langevin dynamics](../words.md#langevin-dynamics).
#
# ### Exercise {exercise:sde_extension_drift} · The SDE extension ({points:sde_extension_drift} points)
#
# Write `sde_extension_drift(u, score, sigma)`, which returns the drift of [the SDE extension](#eq-extension) *as a
# function* of `(x, t)`.
#
# <details><summary>Hint</summary>
# As for the Langevin drift of lab 1, return a function. Inside it, <code>sigma(t)</code> has the shape of
# <code>t</code>, and <code>coefficient</code> brings it into shape.
# </details>

# %% exercise="sde_extension_drift"
def sde_extension_drift(u, score, sigma):
    """Drift of the SDE extension of a flow.

    u, score: functions of (x, t), x: (n, *shape). t: a number, a 0-dimensional tensor, or (n,).
    sigma: function of t that returns a tensor of the shape of t. Returns a function of (x, t).
    """
    ### BEGIN SOLUTION
    return lambda x, t: u(x, t) + coefficient(sigma(t), x) ** 2 / 2 * score(x, t)
    ### END SOLUTION


# %% check="sde_extension_drift" points=2

# %% [markdown]
# **Predict.** 20 000 particles move from noise to two narrow Gaussians. With $\sigma = 2$ in place of $\sigma = 0$, by
# which factor does the standard deviation of their end points change? By which, if the drift along the score is left
# out?

# %%
with_score = ...  # your guess, a factor
without_score = ...  # your guess, a factor

# %%
extended = lab2.answer_or("sde_extension_drift")
line = paths.GaussianPath(condot).marginal(
    distributions.GaussianMixture([[-1.0], [1.2]], [0.05, 0.15], weights=[0.4, 0.6])
)
ts, start, columns = torch.linspace(0, 1, 201), torch.randn(20_000, 1), []
for sigma, score in ((0.0, line.score), (0.7, line.score), (2.0, line.score), (2.0, still)):
    noise_level = lambda t, sigma=sigma: sigma * torch.ones_like(t)
    sde = processes.SDE(extended(line.vector_field, score, noise_level), sigma)
    columns.append(simulators.simulate(sde, start, ts, record=True))
spreads = [float(states[-1].std()) for states in columns]
lab2.compare("the factor with the score", with_score, spreads[2] / spreads[0])
lab2.compare("the factor without it", without_score, spreads[3] / spreads[0])

# %% [markdown]
# **Other trajectories, the same distributions.** Above, the exact density in grey and twelve trajectories; below, all
# particles at five times as horizontal histograms. The trajectories become rougher with $\sigma$; the distributions
# stay right, except in the last column, where the score is left out.

# %% figure="trajectories and distributions with three values of σ, and without the score"
titles = (r"$\sigma$ = 0", r"$\sigma$ = 0.7", r"$\sigma$ = 2", r"$\sigma$ = 2, no score")
fig, axes = plots.figure(columns=4, rows=2, width=2.9, height=2.8)
exact_density = lambda x, t: line.log_prob(x[:, None], t).exp()
for k, (states, title) in enumerate(zip(columns, titles, strict=True)):
    plots.plot_density_in_time(line.log_prob, axes[k], extent=5)
    plots.plot_paths(ts, states[:, :12], axes[k], color=plots.BLUE, ls="-", lw=0.7)
    bins = torch.linspace(-5, 5, 101)
    plots.plot_marginals(ts[::50], states[::50], axes[4 + k], exact_density, bins)
    axes[k].set(title=title, ylim=(-5, 5))
    axes[4 + k].set(ylim=(-5, 5))
fig.legend(*axes[4].get_legend_handles_labels(), loc="outside lower center", ncols=2)
plots.describe(
    "With the score the trajectories are smooth for σ = 0 and rougher and rougher up to σ = 2, "
    "and in all three columns the histograms fit the exact densities, from one bell to two peaks. "
    "With σ = 2 and no score the histograms are too wide, and the two peaks are lost."
)

# %% [markdown]
# **Try it.** Dashed: the 10 %, 50 % and 90 % quantiles of 2000 simulated trajectories; solid: those of the exact path.
# What does $\sigma$ change in one trajectory, and what in the dashed lines? Near which end do large $\sigma$ need
# smaller steps?

# %%
widgets.sde_extension_noise()

# %% [markdown]
# ### Why the two cancel
#
# For an SDE with drift $b_t$ and diffusion coefficient $\sigma_t$, conservation of probability has one term more: noise
# moves probability from where the density is high to where it is low. This is the **Fokker–Planck equation**,
#
# <a id="eq-fokker-planck"></a>
# $$\partial_t p_t(x) + \operatorname{div}(p_t b_t)(x) - \tfrac12 \sigma_t^2\, \Delta p_t(x) = 0,
# \qquad \Delta p = \operatorname{div}(\nabla p). \tag{notes, eq. 50}$$
#
# In question {exercise:why_extension} you put the drift of the SDE extension into it.
#
# ### Exercise {exercise:fokker_planck_residual} · The Fokker–Planck equation ({points:fokker_planck_residual} points)
#
# Write `fokker_planck_residual(density, score, drift, sigma, x, t)`: the left-hand side of
# [the Fokker–Planck equation](#eq-fokker-planck). It needs no second derivatives: since $\nabla p = p\, \nabla \log p$,
# what the noise does is one more flow of probability, along a field that you have.
#
# <details><summary>Hint</summary>
# Write the last two terms as the divergence of a single field. The rest is as in exercise
# {exercise:continuity_residual}.
# </details>

# %% exercise="fokker_planck_residual"
def fokker_planck_residual(density, score, drift, sigma, x, t):
    """The residual ∂_t p + div(p b) − ½ σ² Δp of the Fokker–Planck equation.

    density: function p(x, t), (n, d) and (n,) → (n,). score: function of (x, t), ∇ log p.
    drift: function b(x, t). All are made of torch operations. sigma: a number, σ_t.
    x: (n, d). t: (n,), a time for each row. Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    t = t.detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, t).sum(), t)
    flux = lambda x, t: density(x, t)[:, None] * (drift(x, t) - sigma**2 / 2 * score(x, t))
    return change + likelihood.divergence(flux, x, t)
    ### END SOLUTION


# %% check="fokker_planck_residual" points=3 further=true

# %% [markdown]
# **Only one factor is right.** The drift $u_t + c\,\sigma^2\,\nabla \log p_t$ for several $c$, on the mixture in the
# plane. If $\sigma > 0$, only for $c = \frac12$ the residual is a rounding error.

# %%
planck = lab2.answer_or("fokker_planck_residual")


def with_factor(c, sigma):
    return lambda x, t: exact.vector_field(x, t) + c * sigma**2 * exact.score(x, t)


x, t = plots.lattice(3.0, 31), torch.full((31**2,), 0.6)
print("largest residual      c = 0    c = 1/4    c = 1/2      c = 1")
for sigma in (0.0, 0.5, 1.0, 2.0):
    drifts = [with_factor(c, sigma) for c in (0, 0.25, 0.5, 1)]
    found = [planck(density, exact.score, b, sigma, x, t).abs().max() for b in drifts]
    print(f"σ = {sigma:g}".ljust(16) + "".join(f"{float(value):11.1e}" for value in found))

# %% [markdown]
# **The same without a density.** The equation also has a weak form, which needs only averages. For every smooth test
# function $f$ that vanishes far out,
#
# $$\frac{d}{dt}\, E f(X_t) = E\Bigl[\nabla f(X_t) \cdot b_t(X_t) + \tfrac12 \sigma_t^2\, \Delta f(X_t)\Bigr].$$
#
# Here for $f(x) = e^{-(x - 1)^2}$ and the path on the line at $t = 0.6$, by sums over a fine grid. The left-hand side
# does not contain $\sigma$. The right-hand side does not depend on it either: its two terms with $\sigma$ cancel.

# %%
grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
t = torch.tensor(0.6, dtype=torch.float64)
f = torch.exp(-((grid - 1) ** 2))[:, 0]
f_dot, f_dot_dot = -2 * (grid[:, 0] - 1) * f, (4 * (grid[:, 0] - 1) ** 2 - 2) * f
average = lambda values, t: (line.log_prob(grid, t).exp() * values).sum() * 16 / 4000
left = (average(f, t + 1e-5) - average(f, t - 1e-5)) / 2e-5
print(f"d/dt E f(X)            {float(left):.8f}")
for sigma in (0.0, 1.0, 2.0):
    noise_level = lambda t, sigma=sigma: sigma * torch.ones_like(t)
    b = extended(line.vector_field, line.score, noise_level)(grid, t)[:, 0]
    terms = float(average(f_dot * b, t)), float(average(sigma**2 / 2 * f_dot_dot, t))
    print(f"σ = {sigma:g}: drift {terms[0]:+.8f}, noise {terms[1]:+.8f}, together {sum(terms):.8f}")

# %% [markdown]
# ## 8 · Two questions to answer in words
#
# A person reads these two; a few sentences each are enough. Before you hand the notebook in, save it and run
# `lab2.submission()` in a new cell: it runs the saved file in a fresh process, and lists what is missing.

# %%
lab2.progress()

# %% [markdown]
# ### Question {exercise:why_marginal} · Why the marginal field ({points:why_marginal} points)
#
# The conditional field $u_t(x \mid z)$ is simple and known for every data point. Suppose you pick a $z$ at random for
# every particle and let it follow $u_t(\cdot \mid z)$ all the way. Which distribution do the end points have, and why
# is this not yet a generative model? On what does the marginal field depend, and on what does it not depend, when it
# moves a particle?

# %% [markdown] answer="why_marginal" points=3
# ### BEGIN SOLUTION
# Every particle that follows $u_t(\cdot \mid z)$ ends at its own $z$. So the end points have the distribution of the
# $z$ that were put in: they are copies of known data points. Nothing new is generated, and the rule needs the result
# $z$ before the motion begins. The marginal field depends only on the position $x$ and the time $t$, not on the data
# point. It averages the conditional velocities over all data points, each weighted by the posterior probability that
# the particle at $x$ was made from it. By the continuity equation, which is linear in $p_t$ and $p_t u_t$, this average
# moves $p_t$ exactly along the marginal path. So particles that start as pure noise end up distributed as the data, and
# nobody has to choose a $z$. This field is a function of $(x, t)$ alone, so a network can learn it.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:why_extension} · Why the extension has the same distributions ({points:why_extension} points)
#
# Show it: put the drift $b_t = u_t + \frac12 \sigma_t^2\, \nabla \log p_t$ into the Fokker–Planck equation, and use the
# continuity equation for $u_t$. Then say what this freedom is good for. Where would you take $\sigma_t$ large, where
# small, if the field and the score you have are exact, but your steps are not infinitely small?

# %% [markdown] answer="why_extension" points=4
# ### BEGIN SOLUTION
# Since $p_t \nabla \log p_t = \nabla p_t$, we have $\operatorname{div}(p_t b_t) = \operatorname{div}(p_t u_t) + \frac12
# \sigma_t^2 \operatorname{div}(\nabla p_t) = \operatorname{div}(p_t u_t) + \frac12 \sigma_t^2 \Delta p_t$. In the
# Fokker–Planck equation the last term cancels with $-\frac12 \sigma_t^2 \Delta p_t$, and $\partial_t p_t +
# \operatorname{div}(p_t u_t)$ is left, which is 0 by the continuity equation. So the same $p_t$ solves the
# Fokker–Planck equation for every $\sigma_t$, and with the same start its solution is unique: all the processes have
# the same distribution at each time, although their trajectories differ. With exact field and score and finite steps,
# noise only adds errors of simulation, so $\sigma_t = 0$ (the flow) is the safest choice. In particular the slope of
# the score grows like $1/\beta_t^2$ towards the data, and there large noise makes the drift stiff; if noise is wanted,
# let it decrease with $\beta_t$. Noise helps if the model is *not* exact: the drift along the score then keeps moving
# the samples back to the path, as in Langevin dynamics, and corrects errors made earlier.
# ### END SOLUTION

# %% [markdown]
# ## 9 · From here to learning
#
# Everything here was exact, because we could sum over all the data. For a million images that sum is too expensive, and
# it would only return the images that it sums over. But the *conditional* targets of exercises
# {exercise:conditional_vector_field} and {exercise:conditional_score} need no sum, and a network fitted to them by
# least squares learns the *marginal* field and score. Why this is so is the subject of lab 3.
