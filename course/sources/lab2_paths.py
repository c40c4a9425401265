# %% [markdown]
# # Lab 2 · Probability paths
#
# In lab 1 we followed vector fields that somebody gave us. A generative model needs a particular one: a field that
# carries noise to data. This lab builds it, exactly and without any training. We first say where the samples should be
# at each time (a **probability path**), then find the field that keeps them there, first for one data point and then
# for all of them at once. On the way we meet the score, and learn how to add noise to the motion without disturbing
# the path. By the end you will have written the regression targets of both flow matching and score matching, and checked
# to the last digit the equations that prove them right.
#
# **How to work.** As in lab 1: each exercise asks for one function of a few lines. Replace `raise NotImplementedError`
# by your code, run the cell, then the check below it. Figures use your function once its check has passed, and fmlab's
# until then, so no exercise depends on an earlier one. Stuck? `lab2.hint("alpha_beta")` gives up to three hints, one
# at a time.
#
# **Notation.** Time runs from noise, $t = 0$, to data, $t = 1$. $z$ is a data point, $x$ a state,
# $\varepsilon \sim N(0, I)$ noise; all have the shape $(n, \dots)$, one per row, and a row may be a vector or an image.
# `t` is one time for all rows, a number or a 0-dimensional tensor, or has the shape $(n,)$, a time for each. A field
# `u(x, t)` takes it in the same three ways, and so do networks; hand `t` on to them as it came. A dot is a time
# derivative. *Notes* means
# [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/), *summary* a student's
# summary of the same course, *slides* its fifth lecture, *intro* the text "Diffusion Models Intro". The lab is worth
# {points:all} points, {points:code} of them for code.

# %%
import math

import torch

from fmlab import distributions, likelihood, metrics, paths, plots
from fmlab import processes, schedules, simulators, threads, widgets
from fmlab.checks import lab2
from fmlab.schedules import coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · From noise to one data point
#
# Take one data point $z$ and drown it in noise. Then let the noise fade. This is the **Gaussian conditional path**:
#
# <a id="eq-path"></a>
# $$p_t(x \mid z) = N(\alpha_t z,\ \beta_t^2 I). \tag{notes, eq. 15}$$
#
# The **noise schedule** $\alpha_t, \beta_t$ says how fast: $\alpha_t$, the weight of the data, rises from 0 to 1, and
# $\beta_t$, the weight of the noise, falls from 1 to 0. So the path starts at $N(0, I)$, whatever $z$ is, and ends at $z$
# itself. Everything in this lab holds for every schedule, and we shall need the derivatives
# $\dot\alpha_t, \dot\beta_t$ too. Three families are in common use:
#
# - **CondOT**, straight lines: $\alpha_t = t$, $\beta_t = 1 - t$.
# - **Cosine**: $\alpha_t = \sin\frac{\pi t}{2}$, $\beta_t = \cos\frac{\pi t}{2}$.
# - **Linear VP** ("variance preserving"), which comes from a noising diffusion that runs the other way, in its time
#   $s = 1 - t$, with the noise rate $b(s) = 0.1 + 19.9\,s$:
#
# <a id="eq-vp"></a>
# $$\alpha_t = e^{-T(1 - t)/2}, \qquad \beta_t = \sqrt{1 - \alpha_t^2}, \qquad T(s) = \int_0^s b(r)\,dr.
# \tag{intro, eq. 18}$$
#
# ### Exercise {exercise:alpha_beta} · Noise schedules ({points:alpha_beta} points)
#
# Write `alpha_beta(t, family)`: the values of $\alpha_t$, $\beta_t$, $\dot\alpha_t$ and $\dot\beta_t$, in this order, for
# [notes, eq. 15](#eq-path). The last family is [intro, eq. 18](#eq-vp).
#
# <details><summary>Hint</summary>
# For the VP family, the chain rule meets $1 - t$, which turns a sign. Differentiating $\alpha_t^2 + \beta_t^2 = 1$ on both
# sides gives $\dot\beta_t$ from the other three. <code>torch.ones_like(t)</code> has the shape of <code>t</code>.
# </details>

# %% exercise="alpha_beta"
def alpha_beta(t, family):
    """A noise schedule and its derivatives.

    t: a tensor of times in [0, 1), of any shape. family: "condot", "cosine" or "vp".
    Returns (alpha, beta, alpha_dot, beta_dot), four tensors of the shape and dtype of t.
    """
    ### BEGIN SOLUTION
    if family == "condot":
        return t, 1 - t, torch.ones_like(t), -torch.ones_like(t)
    if family == "cosine":
        alpha, beta = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
        return alpha, beta, math.pi / 2 * beta, -math.pi / 2 * alpha
    s = 1 - t
    alpha = torch.exp(-(0.1 * s + 19.9 * s**2 / 2) / 2)
    beta = torch.sqrt(1 - alpha**2)
    alpha_dot = (0.1 + 19.9 * s) / 2 * alpha
    return alpha, beta, alpha_dot, -alpha * alpha_dot / beta
    ### END SOLUTION


# %% check="alpha_beta" points=4

# %% [markdown]
# **Three ways from noise to data.** The VP schedule does most of its work in the second half of the time: at
# $t = 0.5$ the weight of the data is only 0.28. It starts at $\alpha_0 = 0.0066$, which is small, but not 0.

# %%
family = {"condot": schedules.CondOT(), "cosine": schedules.Cosine(), "vp": schedules.LinearVP()}
coefficients = lab2.answer_or("alpha_beta")
ts = torch.linspace(0, 0.999, 200)
fig, axes = plots.figure(columns=3)
for ax, name in zip(axes, family, strict=True):
    alpha, beta, alpha_dot, beta_dot = coefficients(ts, name)
    ax.plot(ts, alpha, label=r"$\alpha_t$, weight of the data")
    ax.plot(ts, beta, label=r"$\beta_t$, weight of the noise")
    ax.plot(ts, (alpha**2 + beta**2).sqrt(), label=r"$\sqrt{\alpha_t^2 + \beta_t^2}$")
    ax.set(title=name, xlabel="time $t$", ylim=(-0.05, 1.3))
axes[0].legend(loc="upper center", fontsize=8)
plots.describe(
    "The weight of the data rises from 0 to 1 and that of the noise falls from 1 to 0. For condot "
    "both are straight lines; for cosine and vp the root of the sum of squares stays at 1, and vp "
    "moves late."
)

# %% [markdown]
# ### Exercise {exercise:sample_conditional_path} · Sampling the conditional path ({points:sample_conditional_path} points)
#
# A sample of $N(\alpha_t z, \beta_t^2 I)$ needs no loop and no differential equation. Shift and scale a standard normal:
#
# <a id="eq-sample"></a>
# $$x = \alpha_t z + \beta_t \varepsilon, \qquad \varepsilon \sim N(0, I). \tag{notes, eq. 16}$$
#
# From now on a `schedule` is an object with four methods, `schedule.alpha(t)`, `beta`, `alpha_dot` and `beta_dot`. If
# `t` has the shape $(n,)$, so does `schedule.alpha(t)`, and it has to multiply a batch of shape $(n, 2)$ or
# $(n, 1, 8, 8)$ row by row. `coefficient(value, x)` gives it the shape $(n, 1)$ or $(n, 1, 1, 1)$ that does that, and
# leaves one value for all rows alone.
#
# Write `sample_conditional_path(z, noise, t, schedule)`, the $x$ of [notes, eq. 16](#eq-sample). The noise is already
# drawn for you.
#
# <details><summary>Hint</summary>
# Two coefficients, each brought into shape before it multiplies.
# </details>

# %% exercise="sample_conditional_path"
def sample_conditional_path(z, noise, t, schedule):
    """Samples of the conditional path p_t(x | z), one for each z.

    z, noise: (n, *shape), the noise standard normal. t: times from 0 to 1, ends included: a
    number, a 0-dimensional tensor, or (n,). Returns a tensor like z.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
    return alpha * z + beta * noise
    ### END SOLUTION


# %% check="sample_conditional_path" points=2

# %% [markdown]
# **A digit comes out of the noise.** One handwritten digit, one draw of the noise, six times, three schedules. All rows
# end at the same image; they differ in when the digit can first be made out.

# %%
interpolate = lab2.answer_or("sample_conditional_path")
digit = distributions.Digits().z[18:19].expand(6, 1, 8, 8)
noise, times = torch.randn(1, 1, 8, 8).expand(6, 1, 8, 8), torch.linspace(0, 1, 6)
fig, axes = plots.figure(columns=6, rows=3, width=1.25, height=1.25)
for row, (name, schedule) in enumerate(family.items()):
    for k, image in enumerate(interpolate(digit, noise, times, schedule)):
        ax = axes[6 * row + k]
        ax.imshow(plots.array(image[0]), cmap="Greys_r", vmin=-1.3, vmax=1.3)
        ax.set(xticks=[], yticks=[], ylabel=name if k == 0 else "")
        ax.set_title(f"$t$ = {times[k]:g}" if row == 0 else "", fontsize=10)
plots.describe(
    "Three rows of six images, from noise to the digit 0. In the rows condot and cosine its dark "
    "centre shows by t = 0.6, in the row vp only at t = 0.8."
)

# %% [markdown]
# ## 2 · From noise to all the data
#
# A model should produce not one data point but any of them. So draw the data point first, then noise it:
#
# <a id="eq-marginal-path"></a>
# $$z \sim p_\text{data}, \quad x \sim p_t(\cdot \mid z) \qquad \Rightarrow \qquad x \sim p_t. \tag{notes, eq. 12}$$
#
# This is the **marginal path** $p_t$, a mixture of all conditional paths. It starts at $N(0, I)$, as each of them does, and
# ends at $p_\text{data}$. Its density is an integral over the data that we usually cannot compute,
# $p_t(x) = \int p_t(x \mid z)\, p_\text{data}(z)\, dz$. Sampling from it is easy all the same.
#
# ### Exercise {exercise:sample_marginal_path} · Sampling the marginal path ({points:sample_marginal_path} points)
#
# Write `sample_marginal_path(sample_data, n, t, schedule)`, the two draws of [notes, eq. 12](#eq-marginal-path), where
# `sample_data(n)` draws $n$ data points. This time you draw the noise yourself.
#
# <details><summary>Hint</summary>
# Every state needs a data point of its own and noise of its own. <code>torch.randn_like</code> draws noise in the shape of
# another tensor.
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
# **Two kinds of path.** Above, the conditional path of one data point; below, the marginal path of a checkerboard. Both
# begin in the same cloud. Histograms of 40 000 samples, with the CondOT schedule.

# %%
sample_path = lab2.answer_or("sample_marginal_path")
board, condot = distributions.Checkerboard(), schedules.CondOT()
one_point = torch.tensor([[1.5, -0.5]])
n, times = 40_000, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
fig, axes = plots.figure(columns=5, rows=2, width=2.1, height=2.2)
for k, t in enumerate(times):
    conditional = interpolate(one_point.expand(n, 2), torch.randn(n, 2), t, condot)
    for ax, x in ((axes[k], conditional), (axes[5 + k], sample_path(board.sample, n, t, condot))):
        ax.hist2d(*plots.array(x).T, bins=60, range=[[-3, 3], [-3, 3]], cmap="Greys")
        ax.set(aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        ax.grid(False)
    axes[k].set_title(f"$t$ = {t:g}")
axes[0].set_ylabel("conditional")
axes[5].set_ylabel("marginal")
plots.describe(
    "Both rows begin as the same round cloud. Above it shrinks, moving, to a single point; below "
    "it turns into the dark cells of a checkerboard, which show from t = 0.75 on."
)

# %% [markdown]
# ## 3 · A field for one data point
#
# A path only *wishes* where the samples should be. Which vector field takes them there? For one data point we can read it
# off. Keep the noise $\varepsilon$ of a sample fixed and let time run: the sample moves along
#
# $$\psi_t(\varepsilon \mid z) = \alpha_t z + \beta_t \varepsilon, \tag{notes, eq. 21}$$
#
# and its velocity is $\dot\alpha_t z + \dot\beta_t \varepsilon$. A field, however, may not look at $\varepsilon$, only at
# the present position. But the position tells us the noise: $\varepsilon = (x - \alpha_t z)/\beta_t$. Put it in and sort
# the terms:
#
# <a id="eq-field"></a>
# $$u_t(x \mid z) = \Bigl(\dot\alpha_t - \frac{\dot\beta_t}{\beta_t}\,\alpha_t\Bigr) z + \frac{\dot\beta_t}{\beta_t}\, x.
# \tag{notes, eq. 20}$$
#
# ### Exercise {exercise:conditional_vector_field} · The conditional vector field ({points:conditional_vector_field} points)
#
# Write `conditional_vector_field(x, z, t, schedule)`, the field of [notes, eq. 20](#eq-field).
#
# <details><summary>Hint</summary>
# All four coefficients, each brought into shape with <code>coefficient</code>. Either form will do: the sorted one, or
# the velocity with the noise that the position tells.
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
# **The field follows the path.** Grey: the exact conditional density. Red: 300 particles that started as noise and that
# Heun's method moved along your field until $t$. They never heard of the density, and still fill it. All arrows point at
# the same place, the data point: for CondOT $u_t(x \mid z) = (z - x)/(1 - t)$, the velocity that gets there just in time.

# %%
conditional_field = lab2.answer_or("conditional_vector_field")


def towards(z, schedule):
    """The conditional field of one data point z: (1, d), as a field u(x, t)."""
    return lambda x, t: conditional_field(x, z.expand_as(x), t, schedule)


def follow(u, x0, t, steps=60):
    """Where the field u takes the states x0 between time 0 and time t, by Heun's method."""
    ts = torch.linspace(0, t, steps + 1)
    return simulators.simulate(processes.ODE(u), x0, ts, simulators.Heun())


start = torch.randn(300, 2)
fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.2, 0.5, 0.8), strict=True):
    gaussian = distributions.Gaussian(t * one_point[0], (1 - t) ** 2)
    plots.plot_density(gaussian.log_prob, ax)
    plots.plot_samples(follow(towards(one_point, condot), start, t), ax, color=plots.RED, ms=3)
    plots.plot_vector_field(towards(one_point, condot), t, ax, n=11)
    ax.set_title(f"$t$ = {t:g}")
plots.describe(
    "A Gaussian and the particles on it shrink together and move to the data point, at which all "
    "arrows point. At each time the particles fill the density."
)

# %% [markdown]
# ### Exercise {exercise:general_vector_field} · One field for every Gaussian path ({points:general_vector_field} points)
#
# The argument used nothing about $\alpha_t z$ but that it is the mean, and nothing about $\beta_t$ but that it is the
# standard deviation. So it works for any Gaussian path $N(\mu_t(z), \sigma_t(z)^2 I)$, whose samples move along
# $\mu_t(z) + \sigma_t(z)\,\varepsilon$:
#
# <a id="eq-general"></a>
# $$u_t(x \mid z) = \frac{\dot\sigma_t(z)}{\sigma_t(z)}\,\bigl(x - \mu_t(z)\bigr) + \dot\mu_t(z). \tag{intro, eq. 15}$$
#
# Read it aloud: move with the mean, and shrink towards it at the rate at which the path shrinks. (Only in this exercise,
# $\sigma_t$ is a standard deviation. Later it will be the strength of noise in an SDE. Both names are standard.)
#
# Write `general_vector_field(x, mean, scale, mean_dot, scale_dot)`, the field of [intro, eq. 15](#eq-general), from the
# values of $\mu_t(z)$, $\sigma_t(z)$ and their time derivatives.
#
# <details><summary>Hint</summary>
# The values come in shapes that multiply with <code>x</code> already.
# </details>

# %% exercise="general_vector_field"
def general_vector_field(x, mean, scale, mean_dot, scale_dot):
    """The vector field of the Gaussian path N(μ, σ² I).

    x, mean, mean_dot: (n, *shape). scale, scale_dot: tensors whose shapes broadcast with x,
    such as () or (n, 1), scale > 0. Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    return scale_dot / scale * (x - mean) + mean_dot
    ### END SOLUTION


# %% check="general_vector_field" points=3

# %% [markdown]
# **Three members of the family.** What differs is only where the mean goes and how the spread shrinks:
#
# | path | mean $\mu_t(z)$ | standard deviation $\sigma_t$ | field | intro |
# |---|---|---|---|---|
# | variance exploding (VE) | $z$ | $\sigma_\text{max} (1 - t)$ | $(z - x)/(1 - t)$ | eqs. 16–17 |
# | variance preserving (VP) | $\alpha_t z$ | $\sqrt{1 - \alpha_t^2}$ | $\dot\alpha_t\,(z - \alpha_t x)/(1 - \alpha_t^2)$ | eqs. 18–19 |
# | optimal transport (OT) | $t z$ | $1 - (1 - \sigma_\text{min}) t$ | $(z - (1 - \sigma_\text{min}) x)/(1 - (1 - \sigma_\text{min}) t)$ | eqs. 20–21 |
#
# The general field reproduces the three printed ones. Blue: states that follow it towards $z = 1.5$. Black: mean
# and two standard deviations. VE keeps its mean and starts from very wide noise; OT moves along straight lines, and keeps
# some noise $\sigma_\text{min}$ at the end.

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


def printed_field(name, x, z, t):
    """The field as it stands in the table."""
    if name == "variance exploding":
        return (z - x) / (1 - t)
    if name == "optimal transport":
        return (z - 0.9 * x) / (1 - 0.9 * t)
    alpha, alpha_dot = special[name].alpha(t), special[name].alpha_dot(t)
    return alpha_dot * (z - alpha * x) / (1 - alpha**2)


ts, z = torch.linspace(0, 0.999, 400), torch.tensor([[1.5]])
fig, axes = plots.figure(columns=3)
for ax, name in zip(axes, special, strict=True):
    mean, scale, _, _ = family_member(name, z[0], ts)
    starts = mean[0] + scale[0] * torch.linspace(-2, 2, 9)[:, None]
    u = lambda x, t, name=name: general_field(x, *family_member(name, z.expand_as(x), t))
    states = simulators.simulate(processes.ODE(u), starts, ts, simulators.Heun(), record=True)
    plots.plot_paths(ts, states, ax, color=plots.BLUE, ls="-")
    plots.plot_band(ts, mean, scale, ax, label=r"mean")
    ax.set(title=name, ylabel="state $x$")
    x = torch.randn(100, 1)
    difference = u(x, torch.tensor(0.7)) - printed_field(name, x, z, torch.tensor(0.7))
    print(f"{name:20s} largest difference from the printed field {difference.abs().max():.0e}")
axes[0].legend(loc="lower right")
plots.describe(
    "Nine paths run to one data point in each panel. With variance exploding their mean stands "
    "still, with variance preserving they bend, and with optimal transport they are straight and "
    "keep a little width."
)

# %% [markdown]
# ## 4 · The field of all the data
#
# Following $u_t(\cdot \mid z)$ we arrive at $z$, which we knew before. To arrive at a *random* data point, a state has
# to go by what it can see: its own position. Several data points may have led there. How likely is each of them? For a
# data set $z_1, \dots, z_N$, all equally likely to begin with, Bayes' rule says
#
# <a id="eq-posterior"></a>
# $$w_i(x) = p(z_i \mid x) = \frac{p_t(x \mid z_i)}{\sum_j p_t(x \mid z_j)}, \qquad
# p_t(x \mid z_i) \propto \exp\Bigl(-\frac{\lVert x - \alpha_t z_i \rVert^2}{2 \beta_t^2}\Bigr).$$
#
# ### Exercise {exercise:posterior_weights} · Who is it going to be? ({points:posterior_weights} points)
#
# Write `posterior_weights(x, data, t, schedule)`, the $w_i(x)$ of [Bayes' rule](#eq-posterior). Mind the end of the
# path: as $\beta_t$ gets small, all exponentials round to 0, and $0/0$ is not a weight. A softmax of the exponents does
# not have this problem.
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
# **The choice narrows.** One state (red) that moves slowly outwards, and 60 data points, drawn the larger the likelier they
# are. Early on, all of them
# are still possible. Later, fewer and fewer, until one is left. The title counts the candidates, $1/\sum_i w_i^2$.

# %%
weigh = lab2.answer_or("posterior_weights")
moons = distributions.Moons(noise=0.05).sample(60, torch.Generator().manual_seed(1))
state = torch.tensor([[0.1, 0.35]])
fig, axes = plots.figure(columns=4, width=2.8, height=3)
for ax, t in zip(axes, (0.1, 0.5, 0.8, 0.95), strict=True):
    weights = weigh(t * state, moons, torch.tensor(t), condot)[0]
    plots.plot_samples(moons, ax, color=plots.BLACK, ms=3)
    sizes = 300 * plots.array(weights) ** 0.5
    ax.scatter(*plots.array(moons).T, s=sizes, color=plots.BLUE, alpha=0.4)
    ax.plot(*(t * state[0]), "^", color=plots.RED, ms=7)
    candidates = 1 / weights.square().sum()
    ax.set(title=f"$t$ = {t:g}: {candidates:.3g} candidates", xlim=(-2.6, 2.6), ylim=(-2, 2))
plots.describe(
    "Two half moons of 60 points. At t = 0.1 all have circles of one size; the circles then "
    "shrink except near the red state, until at t = 0.95 a single one is left."
)

# %% [markdown]
# ### Exercise {exercise:marginal_vector_field} · The marginal vector field ({points:marginal_vector_field} points)
#
# Now let every candidate have its say, as loudly as it is likely. That is the **marginalisation trick**:
#
# <a id="eq-marginal-field"></a>
# $$u_t(x) = \int u_t(x \mid z)\, \frac{p_t(x \mid z)\, p_\text{data}(z)}{p_t(x)}\, dz
# = \sum_{i=1}^N w_i(x)\, u_t(x \mid z_i). \tag{notes, eq. 18}$$
#
# It works for *any* conditional field, so here the field is an argument.
#
# Write `marginal_vector_field(x, data, t, weights, field)`, the sum of [notes, eq. 18](#eq-marginal-field), from the
# weights of exercise {exercise:posterior_weights} and a conditional field.
#
# <details><summary>Hint</summary>
# A loop over the data points is fine: pair all states with one data point, <code>data[i].expand_as(x)</code>, and add up.
# A column of the weights, of shape $(n,)$, multiplies a field of shape $(n, \dots)$ with the help of
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
# **Conditional against marginal.** Left: samples drawn straight from the path, at three times. Middle: noise that
# followed the field to the same times. Right: some trajectories, over the density at $t = 0.8$. Above, all of them
# run to one $z$. Below, the same noise spreads over all 60 data points: $X_t \sim p_t$ holds in both rows.

# %%
average_field = lab2.answer_or("marginal_vector_field")


def towards_all(data, schedule):
    """The marginal field of a data set, as a field u(x, t)."""
    field = lambda x, z, t: conditional_field(x, z, t, schedule)
    return lambda x, t: average_field(x, data, t, weigh(x, data, t, schedule), field)


start, ts = torch.randn(500, 2), torch.linspace(0, 0.99, 61)
marks = {0: ("o", plots.SKY), 36: ("^", plots.ORANGE), 60: ("s", plots.BLUE)}
one = moons[20:21]
fig, axes = plots.figure(columns=3, rows=2)
for row, data in zip((axes[:3], axes[3:]), (one, moons), strict=True):
    u = towards(one, condot) if data is one else towards_all(moons, condot)
    states = simulators.simulate(processes.ODE(u), start, ts, simulators.Heun(), record=True)
    for k, (marker, color) in marks.items():
        drawn = sample_path(distributions.Empirical(data).sample, 500, ts[k], condot)
        look = {"marker": marker, "color": color, "ms": 2.5, "label": f"$t$ = {ts[k]:.2g}"}
        plots.plot_samples(drawn, row[0], **look)
        plots.plot_samples(states[k], row[1], **look)
    density = paths.GaussianPath(condot).marginal(distributions.Empirical(data))
    plots.plot_density(lambda x, density=density: density.log_prob(x, 0.8), row[2], n=80)
    plots.plot_trajectories(states[:, :25], row[2])
    for ax, title in zip(row, ("drawn from the path", "moved by the field", "trajectories")):
        ax.set(xlim=(-3, 3), ylim=(-3, 3), title=title if row[0] is axes[0] else "")
axes[0].set_ylabel("conditional\n$x_2$")
axes[3].set_ylabel("marginal\n$x_2$")
axes[0].legend(loc="upper left", markerscale=2, frameon=True)
plots.describe(
    "In both rows the samples drawn from the path and those moved by the field lie in the same "
    "places. Above, all trajectories run straight to one point; below, they bend and end on the "
    "two moons."
)

# %% [markdown]
# Two things are worth a second look. The marginal trajectories *bend*: at first a particle heads for the average of all
# candidates, and only later for one of them. And with a finite data set the exact field brings back the data points
# and nothing else. A model that invents new samples owes that to its imperfect, smooth approximation of this field.
#
# **Try it.** Left the conditional path of one data point, right the marginal path of all of them. When does the field on
# the right begin to look like that of the nearest data point alone?

# %%
widgets.path_through_time()

# %% [markdown]
# ## 5 · Why averaging is right
#
# That the figure looks right is no proof. The proof is a book-keeping of probability. Samples neither appear nor vanish,
# so the density at a place can only change by what flows in and out. The **divergence** of a field counts what flows out
# of a point,
#
# <a id="eq-divergence"></a>
# $$\operatorname{div}(u)(x) = \sum_{i=1}^d \frac{\partial u^i}{\partial x_i}(x), \tag{notes, eq. 22}$$
#
# where $u^i$ is the $i$-th component of $u$.
#
# ### Exercise {exercise:divergence} · Divergence by automatic differentiation ({points:divergence} points)
#
# Write `divergence(u, x, t)`, the sum of [notes, eq. 22](#eq-divergence), with `torch.autograd.grad`.
#
# <details><summary>Hint</summary>
# Work on a copy that records operations: <code>x.detach().requires_grad_()</code>. Each row of the field depends on its
# own row of <code>x</code> alone, so the gradient of <code>u(x, t)[:, i].sum()</code> holds $\partial u^i/\partial x_j$ for
# every row, and you need one of its columns. The graph is needed $d$ times: <code>retain_graph=True</code>.
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


# %% check="divergence" points=4

# %% [markdown]
# **Where a field collects.** The marginal field of a mixture of three Gaussians, and its divergence. Purple, dashed
# lines: negative, the flow contracts, as it does almost everywhere on the way from wide noise to narrow data. Orange, solid
# lines: positive, the flow spreads. That happens where ways part, on the borders between the three Gaussians.

# %%
div = lab2.answer_or("divergence")
mixture = distributions.GaussianMixture(
    means=[[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]],
    covs=[[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.2]]],
    weights=[0.3, 0.4, 0.3],
)
exact = paths.GaussianPath(condot).marginal(mixture)  # its density, field and score are closed form
fig, axes = plots.figure(columns=2, width=4.6, height=3.6)
for ax, t in zip(axes, (0.3, 0.6), strict=True):
    plots.plot_signed(lambda x, t=t: div(exact.vector_field, x, torch.tensor(t)), ax, limit=5)
    plots.plot_vector_field(exact.vector_field, t, ax, n=13)
    ax.set_title(f"divergence at $t$ = {t:g}")
plots.describe(
    "At t = 0.3 the divergence is negative nearly everywhere. At t = 0.6 a strongly positive "
    "ridge in the form of a T separates three negative regions, one around each Gaussian."
)

# %% [markdown]
# ### Exercise {exercise:continuity_residual} · The continuity equation ({points:continuity_residual} points)
#
# What flows is the density times the velocity. So a flow along $u_t$ that starts in $p_0$ has the densities $p_t$ if and
# only if
#
# <a id="eq-continuity"></a>
# $$\partial_t p_t(x) + \operatorname{div}(p_t u_t)(x) = 0 \quad \text{for all } x \text{ and } t. \tag{notes, eq. 23}$$
#
# The equation is *linear* in the product $p_t u_t$. That is the whole proof of the marginalisation trick: each pair
# $p_t(x \mid z)$, $u_t(x \mid z)$ satisfies it; so does their average over $z$; and $\int p_t(x \mid z)\,
# u_t(x \mid z)\, p_\text{data}(z)\, dz$ is exactly $p_t(x)\, u_t(x)$ with the $u_t$ of exercise {exercise:marginal_vector_field}.
#
# Write `continuity_residual(density, u, x, t)`: the left-hand side of [notes, eq. 23](#eq-continuity). Where the pair
# fits, it is 0.
#
# <details><summary>Hint</summary>
# The time derivative is one more <code>torch.autograd.grad</code>: with a time for each row, the gradient of a sum holds
# the derivative of every row. For the other term use your <code>divergence</code>, or <code>likelihood.divergence</code>,
# which takes the same arguments, on the field <code>lambda x, t: …</code> that flows.
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
# **The books balance,** point by point. Left: how fast the density of the mixture changes at $t = 0.6$. Middle: the
# residual with the marginal field, on the same scale: nothing but rounding. Right: the residual with the conditional
# field towards one of the three means. That field belongs to another path.

# %%
residual = lab2.answer_or("continuity_residual")
density = lambda x, t: exact.log_prob(x, t).exp()
still = lambda x, t: 0 * x
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
    "of the marginal field is blank, hence 0. Right: that of the conditional field is as large as "
    "what it should cancel."
)

# %% [markdown]
# ## 6 · The score
#
# The other target of the course is the **score**, $\nabla \log p_t(x)$: the direction in which the density grows fastest.
# Lab 1 used it to draw samples by Langevin dynamics. For one data point, differentiate the logarithm of the Gaussian
# $N(\alpha_t z, \beta_t^2 I)$ with respect to $x$:
#
# <a id="eq-score"></a>
# $$\nabla \log p_t(x \mid z) = -\frac{x - \alpha_t z}{\beta_t^2}. \tag{slides}$$
#
# ### Exercise {exercise:conditional_score} · The conditional score ({points:conditional_score} points)
#
# Write `conditional_score(x, z, t, schedule)`, [the score above](#eq-score).
#
# <details><summary>Hint</summary>
# With $x = \alpha_t z + \beta_t \varepsilon$ it is $-\varepsilon/\beta_t$: the noise, turned around, and larger the less
# noise there is.
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
# **Field and score are not the same thing.** At $t = 0.4$ the field (left) already heads for the data point $z$, the
# cross. The score (right) points to where the density is highest *now*, $\alpha_t z$, the triangle.

# %%
score_of_one = lab2.answer_or("conditional_score")
fig, axes = plots.figure(columns=2)
arrows = {
    "field": towards(one_point, condot),
    "score": lambda x, t: score_of_one(x, one_point.expand_as(x), t, condot),
}
for ax, (title, field) in zip(axes, arrows.items(), strict=True):
    plots.plot_density(distributions.Gaussian(0.4 * one_point[0], 0.6**2).log_prob, ax)
    plots.plot_vector_field(field, 0.4, ax, n=13)
    ax.plot(*one_point[0], "X", color=plots.RED, ms=9, label="$z$")
    ax.plot(*(0.4 * one_point[0]), "^", color=plots.ORANGE, ms=8, label=r"$\alpha_t z$")
    ax.set_title(title)
axes[0].legend(loc="upper left", frameon=True)
plots.describe(
    "The same Gaussian twice. The arrows of the field meet at the data point, the cross outside; "
    "those of the score meet at the centre of the Gaussian, the triangle."
)

# %% [markdown]
# ### Exercise {exercise:marginal_score} · The marginal score ({points:marginal_score} points)
#
# The gradient of $\log p_t = \log \int p_t(x \mid z)\, p_\text{data}(z)\, dz$ is once more a posterior average, by the chain
# rule alone:
#
# <a id="eq-marginal-score"></a>
# $$\nabla \log p_t(x) = \int \nabla \log p_t(x \mid z)\, \frac{p_t(x \mid z)\, p_\text{data}(z)}{p_t(x)}\, dz
# = \sum_{i=1}^N w_i(x)\, \nabla \log p_t(x \mid z_i). \tag{summary, § 3.3}$$
#
# The conditional score is linear in $z$. So instead of averaging $N$ scores we may average the data points, which is one
# product of matrices, and ask for the score only once. The average data point $E[z \mid x] = \sum_i w_i(x)\, z_i$ has a name
# of its own: it is the **denoiser**, the best guess of the clean $z$ behind a noisy $x$.
#
# Write `marginal_score(x, data, t, weights, schedule)`, the sum in [summary, § 3.3](#eq-marginal-score). Both ways are
# right.
#
# <details><summary>Hint</summary>
# <code>weights @ data.flatten(1)</code> averages all data points for all states; bring it back into the shape of
# <code>x</code>.
# </details>

# %% exercise="marginal_score"
def marginal_score(x, data, t, weights, schedule):
    """The score ∇ log p_t(x) of the marginal path of a data set.

    x: (n, *shape). data: (N, *shape). t: times from 0 on, where β_t > 0: a number, a
    0-dimensional tensor, or (n,). weights: (n, N), the posterior probabilities of the data
    points, as in exercise {exercise:posterior_weights}. Returns a tensor like x.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    denoised = (weights @ data.flatten(1)).reshape(x.shape)
    return -(x - alpha * denoised) / beta**2
    ### END SOLUTION


# %% check="marginal_score" points=3

# %% [markdown]
# **Uphill, from everywhere.** The score of the 60 data points on the moons. Far out its arrows are longest; near the end
# of the path each data point has its own little hill.

# %%
score_of_all = lab2.answer_or("marginal_score")
hills = paths.GaussianPath(condot).marginal(distributions.Empirical(moons))
fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.3, 0.6, 0.85), strict=True):
    plots.plot_density(lambda x, t=t: hills.log_prob(x, t), ax)
    score = lambda x, t: score_of_all(x, moons, t, weigh(x, moons, t, condot), condot)
    plots.plot_vector_field(score, t, ax)
    ax.set_title(f"$t$ = {t:g}")
plots.describe(
    "Arrows point up the density from everywhere: at t = 0.3 towards one round hill, at t = 0.6 "
    "towards a curved one, and at t = 0.85 towards many small hills along the two moons."
)

# %% [markdown]
# ### Exercise {exercise:score_along_normal} · Thin data ({points:score_along_normal} points)
#
# Images fill only a thin part of the space of all pixels. The simplest thin data set is a circle in the plane: it has no
# area, so the data have *no density*, and at $t = 1$ no score. The noise of the path is what saves us: for $t < 1$ the
# circle, shrunk to the radius $\alpha_t$, is blurred to a ring of width $\beta_t$, and $p_t$ is as smooth as any.
# But the closer to the data, the steeper. At a distance $\delta$ outside of the ring's ridge, the score points straight
# back along the outward normal $n$ of the circle:
#
# <a id="eq-normal"></a>
# $$n(x) \cdot \nabla \log p_t(x) \approx -\frac{\delta}{\beta_t^2}.$$
#
# To see this, write `score_along_normal(score, x, t)`: [the left-hand side](#eq-normal), that is, the component of the
# score along the outward normal of the circle around the origin through $x$.
#
# <details><summary>Hint</summary>
# The outward normal at $x$ is $x/\lVert x \rVert$, a vector of length 1. The component along it is an inner product, one
# number for each state.
# </details>

# %% exercise="score_along_normal"
def score_along_normal(score, x, t):
    """The component of a score along the outward normal of the circle around 0 through x.

    score: function score(x, t), (n, d) → (n, d). x: (n, d), none of them 0. t: a number, a
    0-dimensional tensor, or (n,). Returns (n,), negative where the score points inwards.
    """
    ### BEGIN SOLUTION
    normal = x / x.norm(dim=1, keepdim=True)
    return (score(x, t) * normal).sum(1)
    ### END SOLUTION


# %% check="score_along_normal" points=2

# %% [markdown]
# **The thinner, the steeper.** Two rings on their way to the circle, and the score at the distance $\delta = 0.1$ outside.
# The measured slope against $\beta_t$ is $-2$: the score grows without bound. If the *data* already have a little noise,
# here of standard deviation 0.05, the ring never gets thinner than that, and the score stays finite up to $t = 1$. A
# network that has to learn a score can tell the difference.

# %%
along_normal = lab2.answer_or("score_along_normal")


def ring(t, noise=0.0):
    """p_t for a circle of radius 1 with some noise: a circle of radius t with more noise."""
    return distributions.Circles(radii=(t,), noise=math.hypot(1 - t, noise * t))


def ring_score(x, t, noise=0.0):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(ring(float(t), noise).log_prob(x).sum(), x)[0]


def lengths(noise):
    """The score at a distance of 0.1 outside of the ring, along the normal, for each β."""
    score = lambda x, t: ring_score(x, t, noise)
    outside = lambda b: torch.tensor([[1 - b + 0.1, 0.0]])
    return torch.cat([along_normal(score, outside(b), 1 - b) for b in betas]).abs()


betas = 0.1 * 0.6 ** torch.arange(6.0)
measured = {"circle": lengths(noise=0.0), "circle with noise": lengths(noise=0.05)}
fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.8, 0.95)):
    plots.plot_density(ring(t).log_prob, ax, extent=1.5)
    ax.set_title(rf"$\beta_t$ = {1 - t:.2g}")
plots.plot_convergence(betas, measured, {"circle": -2}, axes[2])
axes[2].set(xlabel=r"noise $\beta_t$", ylabel="score along the normal")
axes[2].xaxis.set_minor_formatter("")
print(f"slope for the circle: {float(metrics.convergence_order(betas, measured['circle'])):.2f}")
plots.describe(
    "Two rings, the second much thinner. On logarithmic axes the score of the circle grows with "
    "slope −2 as the noise falls, while that of the noisy circle levels off."
)

# %% [markdown]
# ## 7 · Noise that leaves the path alone
#
# A flow moves all samples without chance. A diffusion model shakes them on the way. Can we shake them and still be on the
# *same* path at every time? Yes, if the drift makes up for what the noise does. Noise flattens the density. The score
# pushes back uphill, and with the right factor the two cancel:
#
# <a id="eq-extension"></a>
# $$dX_t = \Bigl(u_t(X_t) + \tfrac12 \sigma_t^2\, \nabla \log p_t(X_t)\Bigr)\,dt + \sigma_t\,dW_t
# \qquad \Rightarrow \qquad X_t \sim p_t. \tag{summary, § 3.3}$$
#
# This is the **SDE extension** of the flow. It holds for every noise level $\sigma_t \ge 0$, which may change with time. For a
# path that stands still we may take $u_t = 0$, and are back at Langevin dynamics.
#
# ### Exercise {exercise:sde_extension_drift} · The SDE extension ({points:sde_extension_drift} points)
#
# Write `sde_extension_drift(u, score, sigma)`, which returns the drift of [summary, § 3.3](#eq-extension) *as a function*
# of `(x, t)`.
#
# <details><summary>Hint</summary>
# As for the Langevin drift of lab 1, return a function. Inside it, <code>sigma(t)</code> has the shape of <code>t</code>,
# and <code>coefficient</code> brings it into shape.
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
# **Different paths, same marginals.** From noise to two Gaussians on a line. Above, in grey, the exact density $p_t$, and
# twelve trajectories; below, histograms of 20 000 particles at five times, each on its side, and the exact densities.
# However rough the trajectories are, the law is the same at every time. In the last column the noise is there but the score is not, and the law goes wrong.

# %%
extended = lab2.answer_or("sde_extension_drift")
line = paths.GaussianPath(condot).marginal(
    distributions.GaussianMixture([[-1.0], [1.2]], [0.05, 0.15], weights=[0.4, 0.6])
)
ts, start = torch.linspace(0, 1, 201), torch.randn(20_000, 1)
columns = [(0.0, line.score), (0.7, line.score), (2.0, line.score), (2.0, still)]
fig, axes = plots.figure(columns=4, rows=2, width=2.8, height=2.6)
for k, (sigma, score) in enumerate(columns):
    noise_level = lambda t, sigma=sigma: sigma * torch.ones_like(t)
    sde = processes.SDE(extended(line.vector_field, score, noise_level), sigma)
    states = simulators.simulate(sde, start, ts, record=True)
    plots.plot_density_in_time(line.log_prob, axes[k])
    plots.plot_paths(ts, states[:, :12], axes[k], color=plots.BLUE, ls="-", lw=0.7)
    exact_law = lambda x, t: line.log_prob(x[:, None], t).exp()
    bins = torch.linspace(-3, 3, 61)
    plots.plot_marginals(ts[::50], states[::50], axes[4 + k], exact_law, bins)
    axes[k].set(title=rf"$\sigma$ = {sigma:g}" + (", no score" if score is still else ""))
    axes[4 + k].set(ylim=(-3, 3))
axes[4].legend(loc="lower right", fontsize=7)
plots.describe(
    "With the score the trajectories are smooth for σ = 0 and rougher and rougher up to σ = 2, "
    "and in all three columns the histograms fit the exact densities, from one bell to two peaks. "
    "With σ = 2 and no score the peaks are washed out."
)

# %% [markdown]
# **Try it.** The dashed lines are the 10 %, 50 % and 90 % quantiles of 2000 simulated trajectories, the solid ones those of
# the exact path. What does $\sigma$ do to a single trajectory? What does it do to the dashed lines? At which end of the time
# axis do large values of $\sigma$ get into trouble, and with what (think of lab 1)?

# %%
widgets.sde_extension_noise()

# %% [markdown]
# ### Exercise {exercise:fokker_planck_residual} · The Fokker–Planck equation ({points:fokker_planck_residual} points, a challenge)
#
# For an SDE with drift $b_t$ and noise $\sigma_t$ the book-keeping has one more entry. Noise spreads probability from where there
# is much of it to where there is little:
#
# <a id="eq-fokker-planck"></a>
# $$\partial_t p_t(x) + \operatorname{div}(p_t b_t)(x) - \tfrac12 \sigma_t^2\, \Delta p_t(x) = 0,
# \qquad \Delta p = \operatorname{div}(\nabla p). \tag{notes, eq. 50}$$
#
# Write `fokker_planck_residual(density, score, drift, sigma, x, t)`: the left-hand side of
# [notes, eq. 50](#eq-fokker-planck). No second derivatives by hand or by machine are needed, since $\nabla p = p\, \nabla \log p$. What the noise does is then one more flow of probability,
# along a field that you know.
#
# <details><summary>Hint</summary>
# Write the last two terms as the divergence of a single field. Then it is exercise {exercise:continuity_residual} once more, and you may call
# your <code>divergence</code> or <code>likelihood.divergence</code>.
# </details>

# %% exercise="fokker_planck_residual"
def fokker_planck_residual(density, score, drift, sigma, x, t):
    """The residual ∂_t p + div(p b) − ½ σ² Δp of the Fokker–Planck equation.

    density: function p(x, t), (n, d) and (n,) → (n,). score: function of (x, t), ∇ log p.
    drift: function b(x, t). All are made of torch operations. sigma: a number, the noise σ_t.
    x: (n, d). t: (n,), a time for each row. Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    t = t.detach().requires_grad_()
    (change,) = torch.autograd.grad(density(x, t).sum(), t)
    flux = lambda x, t: density(x, t)[:, None] * (drift(x, t) - sigma**2 / 2 * score(x, t))
    return change + likelihood.divergence(flux, x, t)
    ### END SOLUTION


# %% check="fokker_planck_residual" points=3

# %% [markdown]
# **Only one factor balances.** The drift $u_t + c\,\sigma^2\,\nabla \log p_t$ for several $c$, on the mixture in the plane.
# The largest residual is at rounding for $c = \frac12$ and no other, whatever $\sigma$ is; without noise, every $c$ will do.

# %%
books = lab2.answer_or("fokker_planck_residual")


def with_score(c, sigma):
    return lambda x, t: exact.vector_field(x, t) + c * sigma**2 * exact.score(x, t)


x, t = plots.lattice(3.0, 31), torch.full((31**2,), 0.6)
print("largest residual      c = 0    c = 1/4    c = 1/2      c = 1")
for sigma in (0.0, 0.5, 1.0, 2.0):
    drifts = [with_score(c, sigma) for c in (0, 0.25, 0.5, 1)]
    found = [books(density, exact.score, b, sigma, x, t).abs().max() for b in drifts]
    print(f"σ = {sigma:g}".ljust(16) + "".join(f"{float(value):11.1e}" for value in found))

# %% [markdown]
# **The same without a density.** In high dimensions nobody can differentiate $p_t$. The equation also has a weak form, which
# only asks for averages. For every smooth test function $f$ that vanishes far out,
#
# $$\frac{d}{dt}\, \mathbb E f(X_t) = \mathbb E\Bigl[\nabla f(X_t) \cdot b_t(X_t) + \tfrac12 \sigma_t^2\, \Delta f(X_t)\Bigr].$$
#
# Here for $f(x) = e^{-(x - 1)^2}$ and the path on the line at $t = 0.6$, by fine sums over $x$. The left-hand side knows
# nothing of $\sigma$; on the right, what the score adds is what the noise takes.

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
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab2.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab2.progress()

# %% [markdown]
# ## 8 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:why_marginal} · Why the marginal field ({points:why_marginal} points)
#
# The conditional field $u_t(x \mid z)$ is simple and known for every data point. Suppose you pick a $z$ at random for every
# particle and let it follow $u_t(\cdot \mid z)$ all the way. Which distribution do the end points have, and why is this not
# yet a generative model? What does the marginal field know, and what does it not know, when it moves a particle?

# %% [markdown] answer="why_marginal" points=3
# ### BEGIN SOLUTION
# Every particle that follows $u_t(\cdot \mid z)$ ends at its own $z$. So the end points have the distribution of the $z$ that
# were put in: they are copies of known data points. Nothing new is generated, and the rule needs to know the answer $z$ before
# the motion begins. The marginal field sees only the position $x$ and the time $t$, not the data point. It averages the
# conditional velocities over all data points, weighted by the posterior probability that the particle at $x$ is on its way
# to $z$. By the continuity equation, which is linear in $p_t u_t$, this average moves $p_t$ exactly along the marginal path.
# So particles that start as pure noise end up distributed as the data, without anybody choosing a $z$. This field is a
# function of $(x, t)$ alone, hence a network can learn it.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:why_extension} · Why the extension leaves the marginals alone ({points:why_extension} points)
#
# Show it: put the drift $b_t = u_t + \frac12 \sigma_t^2\, \nabla \log p_t$ into the Fokker–Planck equation, and use the
# continuity equation for $u_t$. Then say what this freedom is good for. Where would you take $\sigma_t$ large, where small, if
# the field and the score you have are exact, but your steps are not infinitely small?

# %% [markdown] answer="why_extension" points=4
# ### BEGIN SOLUTION
# Since $p_t \nabla \log p_t = \nabla p_t$, we have $\operatorname{div}(p_t b_t) = \operatorname{div}(p_t u_t) + \frac12
# \sigma_t^2 \operatorname{div}(\nabla p_t) = \operatorname{div}(p_t u_t) + \frac12 \sigma_t^2 \Delta p_t$. In the Fokker–Planck
# equation the last term cancels with $-\frac12 \sigma_t^2 \Delta p_t$, and what is left is
# $\partial_t p_t + \operatorname{div}(p_t u_t)$, which is 0 by the continuity equation. So the same $p_t$ solves the
# Fokker–Planck equation for every $\sigma_t$, and with the same start its solution is unique: all the processes have the
# same marginals, although their trajectories differ.
# With exact field and score and finite steps, noise only adds error of simulation, so $\sigma_t = 0$ (the flow) is the safest.
# In particular the score grows like $1/\beta_t^2$ towards the data, and there large noise makes the drift stiff; if noise is
# wanted, let it fade with $\beta_t$. Noise pays if the model is *not* exact: the score then keeps pulling the samples
# back to the path, as in Langevin dynamics, and corrects errors made earlier.
# ### END SOLUTION

# %% [markdown]
# ## 9 · From here to learning
#
# Everything here was exact because we could sum over all the data. With a million images, the sum behind $u_t(x)$ is out of
# reach for a sampler, and it would return only the images it sums over. But there is a way around it that needs no sum at
# all: the *conditional* targets of exercises {exercise:conditional_vector_field} and {exercise:conditional_score} cost one line each, and a network that regresses on them learns the
# *marginal* field and score. Why that is so, and how well it works, is the subject of lab 3.
