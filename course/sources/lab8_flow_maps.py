# %% [markdown] writes="flow maps and their equations, distillation, consistency, mean flow: samples in one call" needs="labs 3 and 6; the chain rule"
# # Lab 8 · Need for speed: flow maps, distillation, consistency
#
# A flow model draws by taking steps, and each step calls the network once or twice. With a large network fifty calls
# are the difference between a tool and a wait. Can one call do the work of fifty? In this lab you will see how the
# obvious idea fails, learn the object that does it, the **flow map**, and train it in several ways, with a teacher and
# without. At the end one call draws a digit on request, guidance included.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace the line `raise NotImplementedError` by
# your code, run the cell, then run the check below it. A figure follows. It uses your function once its check has
# passed, and fmlab's until then, so you can always read on. Each training takes between three and fifteen seconds. Stuck?
# `lab8.hint("gaussian_flow_map")` gives up to three hints, one at a time. Exercises
# marked *further*, with {points:line_flow_map,lagrangian_target,shortcut_loss,distribution_matching_loss} points
# together, can be left out: nothing else needs them.
#
# **Notation.** Time runs from noise, $t = 0$, to data, $t = 1$, on the straight path of lab 3.
#
# | letter | meaning |
# |---|---|
# | $z$, $\varepsilon$, $x_t = t z + (1 - t)\,\varepsilon$ | a data point, standard normal noise, the state between them |
# | $p_t$, $F_t$ | density of $x_t$; on a line also its distribution function, $F_t(x)$ = probability of a value below $x$ |
# | $u_t(x)$, `u(x, t)` | the velocity field of the flow: exact where we know it, otherwise a trained network, the **teacher** |
# | $X_{s,t}(x)$, `X(x, s, t)` | the flow map: where the flow takes, by time $t$, a state that is at $x$ at time $s$ |
# | $v_{s,t}(x)$, `v(x, s, t)` | the average velocity of that jump, $(X_{s,t}(x) - x)/(t - s)$; what a **student** network learns |
# | $\partial_s X$, $\nabla X\, u$ | derivative in $s$; derivative in $x$ along the direction $u$ |
# | $\operatorname{sg}[\,\cdot\,]$ | stop the gradient: `.detach()` |
#
# A **call** is one evaluation of a network. Sources are named by paper where their formula stands; each formula you
# need is on this page. The lab is worth {points:all} points, {points:code} of them for code.

# %%
import copy

import torch
from matplotlib.colors import LogNorm
from torch import nn
from torch.func import jvp
from torch.nn.functional import cross_entropy

from fmlab import datasets, distributions, flow_maps, guidance, losses, map_widgets, metrics
from fmlab import models, paths, plots, samplers, simulators, threads, training
from fmlab.checks import lab8
from fmlab.glyphs import Glyphs
from fmlab.schedules import coefficient

DATA = "digits"  # what section 10 draws; or "glyphs": the letters A to J, of 16 × 16 pixels

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · The price of a sample
#
# The data are two moons. We train a flow model on them exactly as in lab 3. It will be the teacher of this lab.

# %%
data = datasets.Moons()
straight = paths.GaussianPath()  # x_t = t z + (1 - t) noise

_ = torch.manual_seed(0)
teacher = models.MLP(2, width=80)
_ = training.train(
    teacher, lambda u: losses.flow_matching_loss(u, straight, data.sample(1000)), steps=2500
)
_ = teacher.requires_grad_(False)

# %% [markdown]
# To compare samples we use the **energy distance** (lab 3): 0 for equal distributions, and a little more for two finite
# sets of equal origin. The distance between two fresh sets of 3000 data is therefore the best one can hope for, on
# average. We call this average the *floor* and measure in floors: 1 is perfect. (It varies from set to set, so do not
# read much into a difference of half a floor.)

# %%
sets = [data.sample(3000, torch.Generator().manual_seed(k)) for k in range(101, 109)]
floor = torch.stack(
    [metrics.energy_distance(a, b) for k, a in enumerate(sets) for b in sets[:k]]
).mean()
fresh = sets[:4]
noise = torch.randn(3000, 2, generator=torch.Generator().manual_seed(7))


def floors(x):
    """The energy distance of samples to fresh data, in floors."""
    return float(torch.stack([metrics.energy_distance(x, y) for y in fresh]).mean() / floor)


price = {"Euler": {}, "midpoint": {}}  # calls → distance
for steps in (1, 2, 4, 8, 16, 32):
    price["Euler"][steps] = floors(
        samplers.sample_flow(teacher, noise, steps, simulators.Euler())
    )
    if steps < 32:
        price["midpoint"][2 * steps] = floors(
            samplers.sample_flow(teacher, noise, steps, simulators.Midpoint())
        )

# %% [markdown]
# **Before you run the cell:** a single Euler step from $t = 0$ to $1$ moves each noise point $\varepsilon$ to
# $\varepsilon + u_0(\varepsilon)$. Where will the 3000 points lie: all over the moons, in a blurred copy of them, or
# somewhere else?

# %% figure="energy distance"
fig, axes = plots.figure(columns=2, width=4.2)
one_step = samplers.sample_flow(teacher, noise, 1, simulators.Euler())
plots.plot_samples(fresh[0], axes[0], color=plots.SKY, alpha=0.3)
plots.plot_samples(one_step, axes[0], color=plots.RED, ms=4).set_title("data, and one Euler step")
for (name, found), mark in zip(price.items(), "os", strict=True):
    axes[1].loglog(list(found), list(found.values()), marker=mark, label=name)
axes[1].axhline(1, color=plots.BLACK, ls=":", lw=1)
axes[1].set(xlabel="network calls per sample", ylabel="energy distance, in floors")
axes[1].legend()
plots.describe(
    "Left: after one Euler step all 3000 points lie close to one spot between the moons. Right: "
    "the energy distance falls, for Euler's method from nearly a thousand floors at one call to "
    "about two at sixteen, for the midpoint rule from about 16 at two calls to about one."
)

# %% [markdown]
# They lie nearly on one spot. At $t = 0$ the state is pure noise and says nothing about the data, so the best guess of the
# velocity $z - \varepsilon$ is $\mathbb E z - \varepsilon$: one step leads all points to the mean, up to the network's
# errors. Good samples cost 16 calls here, by midpoint steps. We want them for one.
#
# ## 2 · A beautiful failure
#
# The obvious idea: train a network $f$ that maps noise to data directly, by regression,
# $\min_f \mathbb E\,\|f(\varepsilon) - z\|^2$. It needs pairs $(\varepsilon, z)$. Below the same network is trained
# twice with this loss: once on pairs that are drawn independently, once on pairs that the teacher makes, $z$ being where
# its flow takes $\varepsilon$.
#
# **Before you run the cell:** what will the first network answer for the 3000 noise points, and what for the second?

# %%
starts = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(8))
ends = samplers.sample_flow(teacher, starts, 8, simulators.Midpoint())


def regression(pairs):
    """A network from noise to data, fitted to pairs that are drawn by `pairs(n)`."""
    torch.manual_seed(0)
    f, zero = models.MLP(2, width=80), torch.zeros(500)

    def loss(f):
        start, end = pairs(500)
        return (f(start, zero) - end).square().sum(dim=1).mean()

    return training.train(f, loss, steps=1500, lr=3e-3).requires_grad_(False)


def flows_own(n):
    """Pairs of the flow: noise, and where it ends."""
    rows = torch.randint(len(starts), (n,))
    return starts[rows], ends[rows]


fitted = {
    "independent pairs": regression(lambda n: (torch.randn(n, 2), data.sample(n))),
    "the flow's pairs": regression(flows_own),
}
spread = data.sample(100_000).var(dim=0).sum()

# %% figure="A beautiful failure"
fig, axes = plots.figure(columns=2, width=4.2)
for ax, (name, f) in zip(axes, fitted.items(), strict=True):
    x, end = f(noise, torch.zeros(len(noise))), torch.tensor(f.history[-200:]).mean()
    plots.plot_samples(fresh[0], ax, color=plots.SKY, alpha=0.3)
    plots.plot_samples(x, ax, color=plots.RED, ms=3).set(xlim=(-2.7, 2.7), ylim=(-1.6, 1.6))
    ax.set_title(
        f"{name}: {floors(x):.3g} floors\nlast loss {float(end / spread):.2f} tr Cov($z$)"
    )
plots.describe(
    "Left: trained on independent pairs, the network sends all noise to the mean of the data, "
    "and its loss stays at the trace of their covariance. Right: trained on the flow's pairs, "
    "the same network with the same loss fills both moons in one call."
)

# %% [markdown]
# Least squares learns the conditional mean $\mathbb E[z \mid \varepsilon]$. If $z$ is independent of $\varepsilon$, that
# is the mean $\mathbb E z$ for every $\varepsilon$, and the loss cannot fall below the variance of the data. But the
# flow's $z$ is a *function* of $\varepsilon$: its conditional mean is that function. The loss is innocent; the pairing
# decides.
#
# Still, these pairs were expensive: each cost 16 calls, and they teach nothing about what lies between $t = 0$ and $1$.
# The rest of the lab learns that function, and more, without storing pairs.
#
# ## 3 · The flow map
#
# Let a state be at $x$ at time $s$ and follow $u$ until time $t$. Where it arrives is the **flow map** $X_{s,t}(x)$. For
# $s = 0$, $t = 1$ it is the function of section 2. It usually has no formula. In two cases it has, and we will judge
# everything by these.
#
# **Gaussian data**, $z \sim N(m, S^2 I)$. Then $p_t$ is normal with mean $t m$ and standard deviation
# $\sigma_t = \sqrt{t^2 S^2 + (1 - t)^2}$, and the flow keeps each state at its number of standard deviations from the
# mean:
#
# <a id="eq-gaussian-map"></a>
# $$X_{s,t}(x) = t\,m + \frac{\sigma_t}{\sigma_s}\,(x - s\,m).$$
#
# ### Exercise {exercise:gaussian_flow_map} · The flow map of a Gaussian ({points:gaussian_flow_map} points)
#
# Write `gaussian_flow_map(x, s, t, mean, std)`, [this map](#eq-gaussian-map). The times may be numbers, or one for each
# row; they may also run backwards, $t < s$.
#
# <details><summary>Hint</summary>
# <code>coefficient(t, x)</code> gives times of shape <code>(n,)</code> the shape that multiplies <code>x</code>, and
# leaves numbers as they are. A root of a number and of a tensor alike: <code>(…) ** 0.5</code>.
# </details>

# %% exercise="gaussian_flow_map"
def gaussian_flow_map(x, s, t, mean, std):
    """Where the flow of Gaussian data takes a state from time s to time t.

    x: (n, *shape). s, t: numbers or (n,), in [0, 1]. mean: (*shape), m. std: a positive number,
    S. Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    s, t = coefficient(s, x), coefficient(t, x)
    spread_s, spread_t = (((r * std) ** 2 + (1 - r) ** 2) ** 0.5 for r in (s, t))
    return t * mean + spread_t / spread_s * (x - s * mean)
    ### END SOLUTION


# %% check="gaussian_flow_map" points=3

# %% [markdown]
# **A jump against many steps.** The lines are trajectories of the exact field. The crosses are jumps by your map, from
# $t = 0$ straight to $0.4$, $0.7$ and $1$. The dashed lines are single Euler steps. The map agrees with 200 steps of
# RK4 to eight digits and more, and knows nothing of steps.

# %%
gaussian_map = lab8.answer_or("gaussian_flow_map")
mean, std = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.6
gaussian_field = straight.marginal(distributions.Gaussian(mean, std**2)).vector_field
x0 = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
ts = torch.linspace(0, 1, 201, dtype=torch.float64)
by_steps = simulators.simulate(
    simulators.ODE(gaussian_field), x0, ts, simulators.RK4(), record=True
)

# %% figure="A jump against many steps"
fig, (ax,) = plots.figure(width=5, height=3.6)
ax.plot(by_steps[..., 0], by_steps[..., 1], color=plots.BLUE, ls="-", lw=1)
euler = torch.stack([x0, x0 + gaussian_field(x0, torch.tensor(0.0))])
ax.plot(euler[..., 0], euler[..., 1], color=plots.RED, ls="--", lw=0.8, alpha=0.7)
for t, mark in ((0.4, "+"), (0.7, "x"), (1.0, "*")):
    ax.plot(
        *gaussian_map(x0, 0.0, t, mean, std).T,
        mark,
        ls="",
        color=plots.BLACK,
        ms=7,
        label=f"$X_{{0,t}}$, t = {t}",
    )
ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
ax.legend(loc="lower left")
agree = (gaussian_map(x0, 0.0, 1.0, mean, std) - by_steps[-1]).abs().max() < 1e-8
print("agrees with RK4 to eight digits:", bool(agree))
plots.describe(
    "Twelve curved trajectories draw together and then spread a little. The jumps of the map, "
    "marked at three times, lie on them. Dashed single Euler steps all end in the one point of "
    "the mean."
)

# %% [markdown]
# **Any data on a line.** Trajectories never meet. On a line this means that the flow cannot change the order of points:
# the share of points to the left of a trajectory stays the same for all times,
#
# <a id="eq-line-map"></a>
# $$F_t\bigl(X_{s,t}(x)\bigr) = F_s(x), \qquad\text{that is}\qquad X_{s,t} = F_t^{-1} \circ F_s .$$
#
# No differential equation is left, only a number to be found: the $y$ with $F_t(y) = F_s(x)$. Since $F_t$ increases,
# **bisection** finds it: keep two ends with $y$ between them, ask $F_t$ in the middle, drop the half where $y$ is not.
#
# ### Exercise {exercise:line_flow_map} · The flow map on a line ({points:line_flow_map} points)
#
# Write `line_flow_map(cdf, x, s, t)`, which [finds this $y$](#eq-line-map) for each row by bisection between −10 and 10.
#
# <details><summary>Hint</summary>
# Compute the share <code>cdf(x, s)</code> once. Then fifty times: <code>middle</code>, a comparison for each row, and
# <code>torch.where</code> for the new ends. <code>torch.full_like(x, -10.0)</code> is a tensor of left ends.
# </details>

# %% exercise="line_flow_map"
def line_flow_map(cdf, x, s, t):
    """Where the flow on a line takes a state from time s to time t.

    cdf: function cdf(x, t), the share F_t(x) below x: (n, 1) → (n, 1), strictly increasing; it
    returns double precision for single, too. x: (n, 1). s, t: numbers or (n,), in [0, 1], handed
    to cdf as they come. All states are between −10 and 10. Returns (n, 1), in the dtype of x,
    correct to five digits.
    """
    ### BEGIN SOLUTION
    share, low, high = cdf(x, s), torch.full_like(x, -10.0), torch.full_like(x, 10.0)
    for _ in range(50):
        middle = (low + high) / 2
        below = cdf(middle, t) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
    ### END SOLUTION


# %% check="line_flow_map" points=4 further=true

# %% [markdown]
# **The truth for the rest of the lab.** Left: a mixture on a line and trajectories by your map. Right: the map
# $X_{0,1}$, and a cloud of independent pairs $(\varepsilon, z)$, whose regression line is flat: section 2 in one
# picture.

# %%
line_map = lab8.answer_or("line_flow_map")
line = distributions.GaussianMixture([[-1.2], [0.9]], [0.06, 0.12], [0.4, 0.6])
line_path = straight.marginal(line)
line_field, line_cdf = line_path.vector_field, flow_maps.LineFlowMap(line).cdf

fig, axes = plots.figure(columns=2, width=4.4)
x0 = torch.linspace(-2.2, 2.2, 15, dtype=torch.float64)[:, None]
ts = torch.linspace(0, 1, 61, dtype=torch.float64)
fan = torch.stack([line_map(line_cdf, x0, 0.0, t) for t in ts])
plots.plot_density_in_time(lambda x, t: line_path.log_prob(x, t), axes[0])
plots.plot_paths(ts, fan, axes[0], color=plots.BLUE, ls="-").set_title(
    "trajectories $X_{0,t}(x)$"
)
curve = torch.linspace(-3, 3, 301, dtype=torch.float64)[:, None]
axes[1].plot(
    torch.randn(1500),
    line.sample(1500)[:, 0],
    ".",
    ms=2,
    color=plots.SKY,
    label="independent pairs",
)
axes[1].axhline(float(line.mean), color=plots.RED, ls="--", label="their regression")
axes[1].plot(
    curve, line_map(line_cdf, curve, 0.0, 1.0), color=plots.BLACK, ls="-", label="$X_{0,1}$"
)
axes[1].set(xlabel="noise", ylabel="data", ylim=(-2.2, 3.6))
axes[1].legend(loc="upper left")
by_steps = simulators.simulate(simulators.ODE(line_field), x0, ts, simulators.RK4())
print(
    "agrees with 60 steps of RK4 to 1e-5:",
    bool((line_map(line_cdf, x0, 0.0, 1.0) - by_steps).abs().max() < 1e-5),
)
plots.describe(
    "Left: trajectories fan out into the two bumps of the data without crossing. Right: the "
    "exact map is a rising curve that is nearly vertical between the bumps, while independent "
    "pairs are a cloud in two bands whose regression is a flat line at the mean."
)

# %% [markdown]
# **Try it.** The chord leads from $x$ at time $s$ to $X_{s,t}(x)$ at time $t$, and its slope is the average velocity
# $v_{s,t}(x)$. Where is it far from the velocity $u_s(x)$ at its start, which Euler's method would use? (In a notebook
# that has just been opened this is a still picture: run the cell to get the sliders.)

# %%
map_widgets.chord_on_a_line(line)

# %% [markdown]
# **What a network should learn.** A network for $X_{s,t}$ would first have to learn that $X_{s,s}(x) = x$. It is better
# to build that in, and to let it learn the slope of the chord:
#
# <a id="eq-map-step"></a>
# $$X_{s,t}(x) = x + (t - s)\, v_{s,t}(x), \qquad v_{t,t}(x) = u_t(x). \tag{Boffi et al. 2024}$$
#
# For ever shorter jumps the average velocity becomes the velocity. Sampling then looks like Euler's method, with one
# difference: $v$ is told how far the jump is going to be.
#
# ### Exercise {exercise:sample_by_map} · Sampling by jumps ({points:sample_by_map} points)
#
# Write `sample_by_map(v, x0, times)`: from each of the times to the next [one jump](#eq-map-step).
#
# <details><summary>Hint</summary>
# <code>zip(times[:-1], times[1:])</code> runs over the intervals. <code>v</code> takes the state, the time it is at, and
# the time it goes to.
# </details>

# %% exercise="sample_by_map"
def sample_by_map(v, x0, times):
    """States at the last of the times, by one jump of the average velocity v from each time to the next.

    v: function v(x, s, t), with s and t numbers, 0-dimensional or (n,). x0: (n, *shape), the
    states at times[0]. times: a list or a tensor of two or more times, rising or falling. Returns
    (n, *shape), in the dtype of x0.
    """
    ### BEGIN SOLUTION
    x = x0
    for s, t in zip(times[:-1], times[1:]):
        x = x + (t - s) * v(x, s, t)
    return x
    ### END SOLUTION


# %% check="sample_by_map" points=3

# %% [markdown]
# **Any number of jumps is right.** Filled: samples by the exact average velocity of the mixture on the line. Outlined:
# Euler's method with as many calls. The exact map gives *the same points* whether it jumps once or four times, which is
# the **semigroup** property: $X_{r,t}(X_{s,r}(x)) = X_{s,t}(x)$ for any time $r$ between.

# %%
sample_jumps = lab8.answer_or("sample_by_map")


def exact_v(x, s, t):
    """The average velocity on the line, for s < t."""
    return (line_map(line_cdf, x, s, t) - x) / (t - s)


x0 = torch.randn(4000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

# %% figure="any number of jumps is right"
fig, axes = plots.figure(columns=3, width=3, height=2.8)
jumps = {}
for ax, steps in zip(axes, (1, 2, 4), strict=True):
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    jumps[steps] = sample_jumps(exact_v, x0, times)
    ax.hist(
        plots.array(jumps[steps][:, 0]),
        bins=60,
        range=(-2.5, 2.5),
        density=True,
        color=plots.SKY,
        label="map",
    )
    x = samplers.sample_flow(line_field, x0, steps, simulators.Euler())
    style = {"histtype": "step", "color": plots.RED, "lw": 1.4, "label": "Euler"}
    ax.hist(plots.array(x[:, 0]), bins=60, range=(-2.5, 2.5), density=True, **style)
    ax.set(title=f"{steps} call{'s' * (steps > 1)}", xlabel="$x$", ylim=(0, 1.2))
axes[0].legend()
print(
    "one and four jumps end at the same points:", bool((jumps[1] - jumps[4]).abs().max() < 1e-6)
)
plots.describe(
    "Filled histograms of samples by the map show the same two bumps for one, two and four "
    "jumps. Euler's method puts all samples on the mean with one call, and with four it still "
    "leaves some between the bumps, where there are no data."
)

# %% [markdown]
# ## 4 · Two equations that a flow map obeys
#
# For images we know no formula for $X_{s,t}$. But we can say which equations it must obey. Either of the two below,
# *together with* $X_{s,s}(x) = x$, determines it, and that is enough to check a map, and to train one.
#
# **Move the end.** Hold $x$ and $s$ and let $t$ grow. The end of the jump follows its trajectory, so its velocity is the
# field's, taken where and when the jump ends:
#
# <a id="eq-lagrangian"></a>
# $$\underbrace{\partial_t X_{s,t}(x) - u_t\bigl(X_{s,t}(x)\bigr)}_{\text{Lagrangian residual}} = 0 . \tag{Boffi et al. 2024}$$
#
# The derivative in $t$ is one call of `torch.func.jvp`, a *Jacobian–vector product*: `jvp(f, (t,), (w,))` returns
# $f(t)$ and the derivative of $f$ in the direction $w$, the **tangent**, exactly and at about the price of one more
# evaluation. With $w = (1, \dots, 1)$ each row gets the derivative in its own time.
#
# ### Exercise {exercise:lagrangian_residual} · The Lagrangian residual ({points:lagrangian_residual} points)
#
# Write `lagrangian_residual(X, u, x, s, t)`, [this difference](#eq-lagrangian).
#
# <details><summary>Hint</summary>
# The function to differentiate is <code>lambda t: X(x, s, t)</code>. Inputs and tangents come as tuples, even if there is
# only one: <code>(t,)</code>. What <code>jvp</code> returns is where the jump ends, and how fast that end moves.
# </details>

# %% exercise="lagrangian_residual"
def lagrangian_residual(X, u, x, s, t):
    """By how much the end of a jump does not follow the field: ∂_t X_{s,t}(x) − u_t(X_{s,t}(x)).

    X: function X(x, s, t), a map. u: function u(x, t), a field. x: (n, *shape). s, t: (n,).
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    moved, rate = jvp(lambda t: X(x, s, t), (t,), (torch.ones_like(t),))
    return rate - u(moved, t)
    ### END SOLUTION


# %% check="lagrangian_residual" points=4

# %% [markdown]
# **Move the start.** Hold $t$, and let the start follow its own trajectory: while $s$ grows by $h$, $x$ moves by
# $h\,u_s(x)$. It stays on the same trajectory, so the end does not change at all:
#
# <a id="eq-eulerian"></a>
# $$\underbrace{\partial_s X_{s,t}(x) + \nabla X_{s,t}(x)\, u_s(x)}_{\text{Eulerian residual}} = 0 . \tag{Boffi et al. 2024}$$
#
# Both terms together are *one* derivative, of $X$ over $(x, s, t)$ along the direction $(u, 1, 0)$.
#
# **Before you go on:** a classmate takes the tangent $(u, 0, 1)$ instead. Which of the three arguments moves then, and
# which should?
#
# ### Exercise {exercise:eulerian_residual} · The Eulerian residual ({points:eulerian_residual} points)
#
# Write `eulerian_residual(X, u, x, s, t)`, [this sum](#eq-eulerian), by one call of `jvp`.
#
# <details><summary>Hint</summary>
# The function takes two inputs, <code>lambda x, s: X(x, s, t)</code>, so inputs and tangents are tuples of two. Of what
# <code>jvp</code> returns you need the second.
# </details>

# %% exercise="eulerian_residual"
def eulerian_residual(X, u, x, s, t):
    """By how much the end of a jump changes when its start follows the field: ∂_s X_{s,t}(x) + ∇X_{s,t}(x) u_s(x).

    X: function X(x, s, t), a map. u: function u(x, t), a field. x: (n, *shape). s, t: (n,).
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    return jvp(lambda x, s: X(x, s, t), (x, s), (u(x, s), torch.ones_like(s)))[1]
    ### END SOLUTION


# %% check="eulerian_residual" points=4

# %% [markdown]
# **Residuals are a magnifying glass.** Six maps for Gaussian data: the right one, four with a slip of the kind one makes,
# and one that sends everything to the mean. No training, no sampling, 500 points: the right map leaves nothing but
# rounding, and each slip leaves a residual that nobody can overlook. The last map obeys both equations as well, and is
# no flow map: it moves a state in no time at all. So test $X_{s,s}(x) = x$, too, or build it in. Whenever you write a jvp
# by hand, do this first.

# %%
end_moves, start_moves = (
    lab8.answer_or("lagrangian_residual"),
    lab8.answer_or("eulerian_residual"),
)


def sigma(t):
    return ((t * std) ** 2 + (1 - t) ** 2) ** 0.5


maps = {
    "the flow map": lambda x, s, t: gaussian_map(x, s, t, mean, std),
    "σs/σt for σt/σs": lambda x, s, t: (
        t[:, None] * mean + (sigma(s) / sigma(t))[:, None] * (x - s[:, None] * mean)
    ),
    "m not scaled by t": lambda x, s, t: mean + (sigma(t) / sigma(s))[:, None] * (x - mean),
    "spread on a line": lambda x, s, t: (
        t[:, None] * mean
        + ((1 + t * (std - 1)) / (1 + s * (std - 1)))[:, None] * (x - s[:, None] * mean)
    ),
    "s and t exchanged": lambda x, s, t: gaussian_map(x, t, s, mean, std),
    "all to the mean": lambda x, s, t: t[:, None] * mean + 0 * x,
}
generator = torch.Generator().manual_seed(0)
x = torch.randn(500, 2, dtype=torch.float64, generator=generator)
s, t = torch.rand(2, 500, dtype=torch.float64, generator=generator).sort(dim=0).values
rms = {
    name: [
        float(f(X, gaussian_field, x, s, t).square().sum(1).mean().sqrt())
        for f in (end_moves, start_moves)
    ]
    for name, X in maps.items()
}

# %% figure="residuals are a magnifying glass"
fig, (ax,) = plots.figure(width=7, height=2.8)
for k, (label, mark) in enumerate((("Lagrangian", "o"), ("Eulerian", "s"))):
    values = [max(r[k], 1e-17) for r in rms.values()]
    ax.semilogy(
        range(6), values, mark, ls="", ms=9 - 2 * k, mfc="none" if k else None, label=label
    )
ax.set_xticks(range(6), list(maps), fontsize=8)
ax.set(ylabel="rms residual", ylim=(1e-18, 1e2))
ax.legend(loc="center right")
print("right map: both at most 1e-10:", max(rms["the flow map"]) <= 1e-10)
print("each slip: at least 0.03:", min(max(r) for r in list(rms.values())[1:5]) >= 0.03)
same = [float((X(x, s, s) - x).square().sum(1).mean().sqrt()) for X in maps.values()]
print("X(x, s, s) − x, right map and last:", f"{same[0]:.2f}, {same[-1]:.2f}")
plots.describe(
    "Residuals on a logarithmic axis. For the right map both are near 1e-16; for the four maps "
    "with a slip they are about 1, fifteen powers of ten higher; for the map to the mean they "
    "are at the bottom."
)

# %% [markdown]
# ## 5 · Two steps into one
#
# The semigroup property needs no derivative. Make two steps of half the length, and ask for one step that ends at the
# same place. With the middle $r = (s + t)/2$ both halves count the same, so the average velocity of the whole is the
# mean of theirs:
#
# <a id="eq-semigroup-target"></a>
# $$\text{target} = \operatorname{sg}\Bigl[\tfrac12\bigl(v_{s,r}(x) + v_{r,t}(y)\bigr)\Bigr], \qquad
# y = x + (r - s)\,v_{s,r}(x). \tag{Salimans \& Ho 2022}$$
#
# A target is something a network is compared with. It is not to be moved by the gradient, hence $\operatorname{sg}$.
#
# ### Exercise {exercise:semigroup_target} · Two steps made into one ({points:semigroup_target} points)
#
# Write `semigroup_target(v, x, s, t)`, [this target](#eq-semigroup-target).
#
# <details><summary>Hint</summary>
# Three lines under <code>with torch.no_grad():</code>, the first of them <code>r = (s + t) / 2</code>. Times may be
# numbers or one for each row: <code>coefficient(r - s, x)</code> multiplies <code>x</code> in both cases.
# </details>

# %% exercise="semigroup_target"
def semigroup_target(v, x, s, t):
    """The average velocity from s to t of two jumps of v, from s to the middle and from there to t.

    v: function v(x, s, t). x: (n, *shape). s, t: numbers or (n,). Returns (n, *shape), in the
    dtype of x, without a gradient.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        r = (s + t) / 2
        first = v(x, s, r)
        second = v(x + coefficient(r - s, x) * first, r, t)
        return (first + second) / 2
    ### END SOLUTION


# %% check="semigroup_target" points=4

# %% [markdown]
# **Progressive distillation.** The teacher makes 8 midpoint steps, 16 calls. A copy of it learns to do in 4 steps what
# the teacher does in 8, then a copy of that one learns to do it in 2, and then in 1. Each round takes 300 training
# steps. The student of a round knows only the steps of its grid, so that it needs to be told $s$ alone: it is the plain
# network of lab 3, called as $v_{s,t}(x) = \text{network}(x, s)$.
#
# **Before you run the cell:** which quality do you expect of a single call: that of one Euler step, of four midpoint
# steps, or of the teacher's eight?

# %%
half_steps = lab8.answer_or("semigroup_target")


def states_at(s):
    """States x_s, one for each time, with the data and the noise that they are made of."""
    z, eps = data.sample(len(s)), torch.randn(len(s), 2)
    return s[:, None] * z + (1 - s)[:, None] * eps, z, eps


def error(v, target, x, s, t):
    """The regression loss on a target."""
    return (v(x, s, t) - target).square().sum(dim=1).mean()


def midpoint_v(x, s, t):
    """The average velocity of a midpoint step of the teacher."""
    return teacher(x + ((t - s) / 2)[:, None] * teacher(x, s), (s + t) / 2)


def halved(v, network, steps, seed):
    """A network that makes `steps` steps, taught by v with twice as many."""
    torch.manual_seed(seed)
    network = copy.deepcopy(network).requires_grad_(True)

    def loss(network):
        s = torch.randint(steps, (500,)) / steps
        x, *_ = states_at(s)
        t = s + 1 / steps
        return error(lambda x, s, t: network(x, s), half_steps(v, x, s, t), x, s, t)

    return training.train(network, loss, steps=300, lr=3e-3).requires_grad_(False)


taught, v = {8: teacher}, midpoint_v
for steps in (4, 2, 1):
    taught[steps] = halved(v, taught[2 * steps], steps, seed=steps)
    v = lambda x, s, t, network=taught[steps]: network(x, s)

in_steps = {8: samplers.sample_flow(teacher, noise, 8, simulators.Midpoint())}
for steps in (4, 2, 1):
    student = lambda x, s, t, network=taught[steps]: network(x, s)
    in_steps[steps] = flow_maps.sample_map(student, noise, torch.linspace(0, 1, steps + 1))

# %% figure="progressive distillation"
fig, axes = plots.figure(columns=4, width=2.5, height=2.6)
for ax, (steps, x) in zip(axes, in_steps.items(), strict=True):
    calls = 16 if steps == 8 else steps
    plots.plot_samples(x, ax).set_title(
        f"{calls} call{'s' * (calls > 1)}: {floors(x):.1f} floors"
    )
    ax.set(xlim=(-2.7, 2.7), ylim=(-1.9, 1.9))
print(
    "one call within twice the teacher's distance:",
    floors(in_steps[1]) <= 2 * floors(in_steps[8]),
)
plots.describe(
    "Four pictures of the moons: the teacher's with 16 calls, and the students' with 4, 2 and "
    "1. All four have sharp moons with a few stray points, and their distances are nearly the "
    "same."
)

# %% [markdown]
# Nothing was lost but the steps. Yet a student knows one grid. It cannot take three steps, or start at $t = 0.37$.
#
# ## 6 · Consistency
#
# Perhaps we only ever want to jump to the end. A **consistency function** sends every state of a trajectory to where the
# trajectory ends:
#
# $$f(x, s) = x + (1 - s)\, v_{s,1}(x), \qquad f(x, 1) = x .$$
#
# Two states of one trajectory must have the same $f$. So take a state $x$ at time $s$ and its neighbour a step $h$
# later, and make the earlier agree with the later, which is nearer to the end and should know better:
#
# <a id="eq-consistency"></a>
# $$L = \mathbb E\;\frac{1}{(1 - s)^2}\,\bigl\| f(x, s) - \operatorname{sg}\bigl[f(x + h\,u_s(x),\; s + h)\bigr] \bigr\|^2 .
# \tag{Song et al. 2023}$$
#
# $\|\cdot\|^2$ is the sum over the coordinates of a row, and $\mathbb E$ the mean over the batch. The weight makes it a
# regression of $v$: early states, whose jumps are long, would otherwise outweigh the late ones that everything is
# learned from.
#
# ### Exercise {exercise:consistency_loss} · The consistency loss ({points:consistency_loss} points)
#
# Write `consistency_loss(v, u, x, s, h)`, [this $L$](#eq-consistency).
#
# <details><summary>Hint</summary>
# Write a small function <code>f(x, s)</code> inside, with <code>torch.ones_like(s)</code> for the time 1. Divide the
# difference by <code>coefficient(1 - s, x)</code> before you square it, and sum over all but the first axis with
# <code>.flatten(1).sum(dim=1)</code>.
# </details>

# %% exercise="consistency_loss"
def consistency_loss(v, u, x, s, h):
    """The weighted consistency loss of a batch.

    v: function v(x, s, t), a network, asked about maps to t = 1 alone. u: function u(x, t), the
    field that takes x a step further. x: (n, *shape). s: (n,), in [0, 1). h: a number, with s + h
    ≤ 1. Returns a scalar tensor; its gradient reaches v through f(x, s) alone.
    """

    ### BEGIN SOLUTION
    def f(x, s):
        return x + coefficient(1 - s, x) * v(x, s, torch.ones_like(s))

    later = f(x + h * u(x, s), s + h).detach()
    difference = (f(x, s) - later) / coefficient(1 - s, x)
    return difference.square().flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="consistency_loss" points=5

# %% [markdown]
# **Without a teacher.** The field $u$ takes the state one short step further. With a trained teacher for $u$ this is
# *consistency distillation*. But $z - \varepsilon$ is right on average (that is what the teacher was trained on), and
# so it may stand for $u_s(x)$, if $h$ is small: *consistency training*. Its bias shrinks with $h$ and does not vanish by
# training longer. Here $h = 1/128$, and the network is new.
#
# **A warning about time.** The network is `models.TwoTimeMLP`, which is told $s$ and $t - s$ through *two* waves,
# $\cos \pi s$ and $\sin \pi s$, not sixteen as in lab 6. Section 7 shows why.
#
# **Before you run the cell:** $f$ jumps to the end from any $s$. Suppose we want four steps and use $v_{s,t}$ of this
# network with $t < 1$, as in section 3. Will that work?

# %%
agree_loss = lab8.answer_or("consistency_loss")


def consistency_training(n, steps, seed=0):
    """A consistency function trained on data alone, with steps of size 1/n."""
    torch.manual_seed(seed)

    def loss(v):
        s = torch.randint(n, (500,)) / n
        x, z, eps = states_at(s)
        return agree_loss(v, lambda x, s: z - eps, x, s, 1 / n)

    return training.train(models.TwoTimeMLP(2), loss, steps=steps, lr=3e-3).requires_grad_(False)


consistent = consistency_training(128, steps=3500)
quarters = (0.0, 0.25, 0.5, 0.75)
renoised = {
    k: flow_maps.sample_consistency(
        consistent, noise, quarters[:: 4 // k], torch.Generator().manual_seed(9)
    )
    for k in (1, 2, 4)
}
shown = {
    "one jump": renoised[1],
    "four jumps to 1, renoised": renoised[4],
    "four jumps as a map": flow_maps.sample_map(consistent, noise, (*quarters, 1.0)),
}

# %% figure="without a teacher"
fig, axes = plots.figure(columns=3, width=3.2, height=2.7)
for ax, (name, x) in zip(axes, shown.items(), strict=True):
    plots.plot_samples(x, ax).set_title(f"{name}:\n{floors(x):.3g} floors")
    ax.set(xlim=(-3.6, 3.6), ylim=(-2.2, 2.2))
print("one jump within 8 floors:", floors(renoised[1]) <= 8)
plots.describe(
    "Left: one jump draws the moons, with stray points between them. Middle: after four jumps "
    "with fresh noise in between there are fewer. Right: chained as if it were a map, the "
    "network draws two moons that are pulled apart, far from the data."
)

# %% [markdown]
# It does not: only $t = 1$ was ever trained. More steps are still possible, in another way. Jump to the end, add fresh
# noise to be back at time $t_k$ (the state $t_k \hat z + (1 - t_k)\,\varepsilon$ is just what the network knows), and
# jump again. That repairs some of the first jump's errors, and costs the link between noise and sample.
#
# ## 7 · Differentiate instead of halving
#
# A map that jumps from *any* $s$ to *any* $t$ needs an equation for all of them. We have two. Insert
# $X = x + (t - s)\,v$ into the Eulerian equation. Since $\partial_s X = -v + (t - s)\,\partial_s v$ and
# $\nabla X\,u = u + (t - s)\,\nabla v\,u$, it says (and $X_{s,s}(x) = x$ is built in)
#
# <a id="eq-eulerian-target"></a>
# $$v_{s,t}(x) = \text{target} = \operatorname{sg}\Bigl[u_s(x) + (t - s)\,\bigl(\partial_s v_{s,t}(x) +
# \nabla v_{s,t}(x)\,u_s(x)\bigr)\Bigr] .$$
#
# The bracket is the derivative of $v$ over $(x, s, t)$ along $(u, 1, 0)$. The network stands on both sides; we regress
# the left side on the right one, which is held fixed.
#
# ### Exercise {exercise:eulerian_target} · The Eulerian target ({points:eulerian_target} points)
#
# Write `eulerian_target(v, u, x, s, t)`, [this target](#eq-eulerian-target).
#
# <details><summary>Hint</summary>
# Evaluate <code>u(x, s)</code> once; it is needed twice. The jvp is that of the Eulerian residual, of
# <code>v</code> instead of <code>X</code>.
# </details>

# %% exercise="eulerian_target"
def eulerian_target(v, u, x, s, t):
    """What the Eulerian equation says that v_{s,t}(x) is, from v's own derivative.

    v: function v(x, s, t). u: function u(x, t), a field. x: (n, *shape). s, t: (n,).
    Returns (n, *shape), in the dtype of x, without a gradient.
    """
    ### BEGIN SOLUTION
    velocity = u(x, s)
    change = jvp(lambda x, s: v(x, s, t), (x, s), (velocity, torch.ones_like(s)))[1]
    return (velocity + coefficient(t - s, x) * change).detach()
    ### END SOLUTION


# %% check="eulerian_target" points=5

# %% [markdown]
# **Is it the code, or is it the network?** When such a training fails, this is the question, and the loss does not
# answer it. On the line we know everything, so look at three students of the *exact* field, trained for equally long:
#
# - A: the target of this exercise;
# - B: the same target, and a network that is told its times through 16 waves, up to $\cos 8\pi s$, instead of 2;
# - C: a target with the wrong tangent, $(u, 0, 1)$.
#
# **Before you run the cell:** one of the three ends with the smallest loss. Which one?

# %%
eulerian = lab8.answer_or("eulerian_target")


def wrong_target(v, u, x, s, t):
    """With the tangent (u, 0, 1)."""
    change = jvp(lambda x, t: v(x, s, t), (x, t), (u(x, s), torch.ones_like(t)))[1]
    return (u(x, s) + coefficient(t - s, x) * change).detach()


def two_times(n, equal):
    """n pairs s ≤ t; a share of them with s = t."""
    s, t = torch.rand(2, n).sort(dim=0).values
    return s, torch.where(torch.rand(n) < equal, s, t)


def line_student(target, features):
    """A student of the exact field on the line."""
    torch.manual_seed(0)

    def loss(v):
        s, t = two_times(500, equal=0.25)
        x = s[:, None] * line.sample(500) + (1 - s)[:, None] * torch.randn(500, 1)
        return error(v, target(v, line_field, x, s, t), x, s, t)

    network = models.TwoTimeMLP(1, width=64, depth=3, features=features)
    return training.train(network, loss, steps=700, lr=3e-3).requires_grad_(False)


students = {
    "A: right code": line_student(eulerian, features=2),
    "B: 16 waves": line_student(eulerian, features=16),
    "C: wrong tangent": line_student(wrong_target, features=2),
}
last = {name: float(torch.tensor(v.history[-100:]).mean()) for name, v in students.items()}
for name, value in last.items():
    print(f"{name:18} loss at the end {value:.2f}")

# %% [markdown]
# The wrong code has the smallest loss. So ask two other questions.
#
# *Is it the code?* Put the **exact** average velocity into the target. The right target gives it back, whatever network
# you plan to use. This needs no training.
#
# *Is it the network?* Put the **trained network** into the Eulerian residual of $X = x + (t - s)\,v$, for all $s < t$.
# Below it stands beside the error that we can only know on a line, the distance to the exact map.

# %%
generator = torch.Generator().manual_seed(1)
knots = torch.linspace(0.02, 0.98, 13, dtype=torch.float64)
at, to = (k.flatten() for k in torch.meshgrid(knots, knots, indexing="ij"))
rows = torch.arange(len(at))[at < to].repeat_interleave(150)
s, t = at[rows], to[rows]
x = s[:, None] * line.sample(len(rows), generator) + (1 - s)[:, None] * torch.randn(
    len(rows), 1, generator=generator
)
reference = flow_maps.average_velocity(flow_maps.LineFlowMap(line))  # which jvp can differentiate
for name, target in {"A and B": eulerian, "C": wrong_target}.items():
    off = (target(reference, line_field, x, s, t) - reference(x, s, t)).square().mean().sqrt()
    print(f"code of {name}: gives the exact average velocity back to 1e-6: {bool(off < 1e-6)}")


def on_grid(values):
    """The rms over the points of each pair of times, as a picture over (s, t)."""
    sums = torch.zeros(len(at), dtype=torch.float64).index_add(
        0, rows, values[:, 0].double().square()
    )
    return torch.where(at < to, (sums / 150).sqrt(), torch.nan).reshape(13, 13).T


arrivals = flow_maps.LineFlowMap(line)(x, s, t)
single, x32 = {"s": s.float(), "t": t.float()}, x.float()

# %% figure="is it the code, or is it the network"
fig, axes = plots.figure(columns=3, rows=2, width=3.0, height=2.5)
for k, (name, v) in enumerate(students.items()):
    X = flow_maps.map_of(v)
    pictures = {
        "Eulerian residual": start_moves(X, line_field, x32, single["s"], single["t"]),
        "error of the map": X(x32, **single) - arrivals,
    }
    for ax, (what, values) in zip(axes[k::3], pictures.items(), strict=True):
        image = ax.imshow(
            on_grid(values), origin="lower", extent=(0, 1, 0, 1), norm=LogNorm(0.01, 5)
        )
        ax.set_title(f"{name}\n{what}", fontsize=9)
        ax.set(xlabel="$s$", ylabel="$t$" if k == 0 else None)
        ax.grid(False)
fig.colorbar(image, ax=axes, label="rms", shrink=0.7)
plots.describe(
    "Six pictures over the triangle s < t. Student A has a small error everywhere, largest for "
    "jumps that end near t = 1. B and C are about ten times worse for long jumps, in the "
    "residual and in the error alike."
)

# %% [markdown]
# Now the three are told apart:
#
# | | exact $v$ into the code | network into the residual | verdict |
# |---|---|---|---|
# | A | comes back | smallest, about 0.2 | right |
# | B | comes back | large, 2 and more for long jumps | the code is right, the network is not |
# | C | does not come back | large, about 1 | the code is wrong |
#
# B's network could represent the map. But the derivative $\partial_s$ of its fast waves is large from the start, and it
# enters the target: the network learns from its own noise. Where a loss contains a derivative in time, tell the network about time slowly.
# Reports of jvp trainings that explode are often one or the other, and often nobody knows which.
#
# **On the moons**, with the teacher's field for $u$, and a fresh network:

# %%
def map_student(batch_loss, steps, seed=0):
    """A new network v(x, s, t), trained on batch_loss(v)."""
    torch.manual_seed(seed)
    return training.train(models.TwoTimeMLP(2), batch_loss, steps=steps, lr=3e-3).requires_grad_(
        False
    )


def eulerian_loss(v):
    s, t = two_times(500, equal=0.25)
    x, *_ = states_at(s)
    return error(v, eulerian(v, teacher, x, s, t), x, s, t)


eulerian_student = map_student(eulerian_loss, steps=1500)


def by_jumps(v):
    """Samples by 1, 2, 4 and 8 jumps."""
    return {k: flow_maps.sample_map(v, noise, torch.linspace(0, 1, k + 1)) for k in (1, 2, 4, 8)}


def show_jumps(found):
    """Two pictures side by side: one jump, and four."""
    _, axes = plots.figure(columns=2, width=3.4, height=2.7)
    for ax, k in zip(axes, (1, 4), strict=True):
        plots.plot_samples(found[k], ax).set_title(
            f"{k} jump{'s' * (k > 1)}: {floors(found[k]):.1f} floors"
        )
        ax.set(xlim=(-2.7, 2.7), ylim=(-1.9, 1.9))


eulerian_samples = by_jumps(eulerian_student)
show_jumps(eulerian_samples)
print("one jump within 12 floors:", floors(eulerian_samples[1]) <= 12)
plots.describe(
    "Samples of the Eulerian student. One jump draws both moons with many stray points between "
    "them; four jumps of the same network come closer to the data, and stray points remain."
)

# %% [markdown]
# The stray points come from noise that the exact map tears apart: neighbours that go to different moons. A small network
# makes of this tear a steep slope, and draws what lies on it. The energy distance counts them little, the eye more.
#
# ### Exercise {exercise:lagrangian_target} · The Lagrangian target ({points:lagrangian_target} points)
#
# Do the same with the other equation. With $X = x + (t - s)\,v$ the product rule gives
# $\partial_t X = v + (t - s)\,\partial_t v$, and so
#
# <a id="eq-lagrangian-target"></a>
# $$v_{s,t}(x) = \text{target} = \operatorname{sg}\Bigl[u_t\bigl(x + (t - s)\,v_{s,t}(x)\bigr) -
# (t - s)\,\partial_t v_{s,t}(x)\Bigr] .$$
#
# Write `lagrangian_target(v, u, x, s, t)`, [this target](#eq-lagrangian-target). It needs no derivative in $x$. For
# large networks it is often the calmer of the two.
#
# <details><summary>Hint</summary>
# One <code>jvp</code> in $t$ gives $v$ and $\partial_t v$. Mind the sign.
# </details>

# %% exercise="lagrangian_target"
def lagrangian_target(v, u, x, s, t):
    """What the Lagrangian equation says that v_{s,t}(x) is, from v's own derivative.

    v: function v(x, s, t). u: function u(x, t), a field. x: (n, *shape). s, t: (n,).
    Returns (n, *shape), in the dtype of x, without a gradient.
    """
    ### BEGIN SOLUTION
    value, rate = jvp(lambda t: v(x, s, t), (t,), (torch.ones_like(t),))
    gap = coefficient(t - s, x)
    return (u(x + gap * value, t) - gap * rate).detach()
    ### END SOLUTION


# %% check="lagrangian_target" points=3 further=true

# %% [markdown]
# **Three curves.** A student on the line with your Lagrangian target, beside student A and the exact map $X_{0,1}$. Both
# follow it where there is noise to learn from. They are wrong at the far ends, where there is hardly any, and soften the
# steepest part, where neighbouring points go to different bumps.

# %%
lagrangian = lab8.answer_or("lagrangian_target")
both = {
    "Eulerian (A)": students["A: right code"],
    "Lagrangian": line_student(lagrangian, features=2),
}

# %% figure="three curves"
fig, (ax,) = plots.figure(width=5.4, height=3.2)
ax.plot(
    curve,
    line_map(line_cdf, curve, 0.0, 1.0),
    color=plots.BLACK,
    ls="-",
    lw=2.5,
    alpha=0.5,
    label="exact",
)
for (name, v), style, color in zip(
    both.items(), ("--", ":"), (plots.BLUE, plots.RED), strict=True
):
    ax.plot(
        curve, flow_maps.sample_map(v, curve.float()), ls=style, lw=2, color=color, label=name
    )
ax.set(xlabel="noise $x$", ylabel="$X_{0,1}(x)$")
ax.legend()
plots.describe(
    "Both students' curves lie close to the exact map between −2 and 2, with small errors "
    "around its steep part, and leave it at the far ends, where noise is rare."
)

# %% [markdown]
# ## 8 · No teacher
#
# The Eulerian target asks for $u_s(x)$, once. As in flow matching, replace what nobody knows by what is right on
# average: at $x_s = s z + (1 - s)\,\varepsilon$ the velocity $z - \varepsilon$ has the mean $u_s(x_s)$. The target is
# affine in $u$, so that its mean stays right too. This is **mean flow** [Geng et al. 2025]:
#
# <a id="eq-mean-flow"></a>
# $$L = \mathbb E\,\bigl\| v_{s,t}(x_s) - \operatorname{sg}\bigl[(z - \varepsilon) + (t - s)\bigl(\partial_s v_{s,t}(x_s)
# + \nabla v_{s,t}(x_s)\,(z - \varepsilon)\bigr)\bigr] \bigr\|^2 .$$
#
# > **A trap.** The paper's time runs the other way, from data to noise. Its state sits at the *later* of two times, $t$,
# > and jumps back to $r < t$: there the second term has a **minus** sign, and the tangent over $(x, r, t)$ is
# > (velocity, 0, 1). In our direction of time the sign is **plus** and the tangent over $(x, s, t)$ is
# > $(z - \varepsilon, 1, 0)$. Whoever copies the paper's formula into this notation makes two mistakes at once; the
# > check knows each of them, and both.
#
# ### Exercise {exercise:mean_flow_loss} · Mean flow ({points:mean_flow_loss} points)
#
# Write `mean_flow_loss(v, z, noise, s, t)`, [this $L$](#eq-mean-flow). You may call your `eulerian_target`; if that is
# still open, `flow_maps.eulerian_target` takes the same arguments.
#
# <details><summary>Hint</summary>
# <code>eulerian_target</code> calls <code>u(x, s)</code>. Hand it <code>lambda x, s: z - noise</code>, a field that
# knows the pair.
# </details>

# %% exercise="mean_flow_loss"
def mean_flow_loss(v, z, noise, s, t):
    """The mean flow loss of a batch.

    v: function v(x, s, t), a network. z, noise: (n, *shape). s, t: (n,). Returns a scalar tensor;
    its gradient reaches v through v(x, s, t) alone, not through the target.
    """
    ### BEGIN SOLUTION
    x = coefficient(s, z) * z + coefficient(1 - s, z) * noise
    target = flow_maps.eulerian_target(v, lambda x, s: z - noise, x, s, t)
    return (v(x, s, t) - target).square().flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="mean_flow_loss" points=6

# %% [markdown]
# **What the stop is for.** We train twice for equally long: with your loss, and with the same loss whose gradient runs
# through the target too. In every batch the two losses have *the same value, to the last digit*.
#
# **Before you run the cell:** which of the two ends with the smaller loss? And which draws the better moons?

# %%
own_mean_flow = lab8.answer_or("mean_flow_loss")


def without_stop(v, z, eps, s, t):
    """The mean flow loss with the gradient of its target."""
    x = s[:, None] * z + (1 - s)[:, None] * eps
    value, change = jvp(lambda x, s: v(x, s, t), (x, s), (z - eps, torch.ones_like(s)))
    return (value - (z - eps) - (t - s)[:, None] * change).square().sum(dim=1).mean()


def from_data(loss):
    """A loss on a fresh batch of data and noise, half of it with s = t."""

    def batch_loss(v):
        s, t = two_times(500, equal=0.5)
        _, z, eps = states_at(s)
        return loss(v, z, eps, s, t)

    return batch_loss


mean_flows = {"with stop": map_student(from_data(own_mean_flow), steps=1800)}

# %%
mean_flows["without"] = map_student(from_data(without_stop), steps=1800)
mean_flow_samples = {name: by_jumps(v) for name, v in mean_flows.items()}

# %% figure="what the stop is for"
fig, axes = plots.figure(columns=3, width=3.2, height=2.7)
for ax, (name, found) in zip(axes, mean_flow_samples.items(), strict=False):
    plots.plot_samples(found[1], ax).set_title(f"{name}: {floors(found[1]):.3g} floors")
    ax.set(xlim=(-2.7, 2.7), ylim=(-1.9, 1.9))
for (name, v), style in zip(mean_flows.items(), ("-", "--"), strict=True):
    history = torch.tensor(v.history).unfold(0, 50, 10).mean(dim=1)
    axes[2].plot(50 + 10 * torch.arange(len(history)), history, ls=style, label=name)
axes[2].set(xlabel="training step", ylabel="loss (mean of 50 steps)", ylim=(2.5, 4.2))
axes[2].legend()
one = {name: floors(found[1]) for name, found in mean_flow_samples.items()}
print("one jump within 15 floors:", one["with stop"] <= 15)
print("without the stop at least five times as far:", one["without"] >= 5 * one["with stop"])
plots.describe(
    "Left: with the stop, one jump draws the moons, with stray points between them. Middle: "
    "without it the samples fill a slanted patch that is no moons. Right: the loss without the "
    "stop is lower all along."
)

# %% [markdown]
# Without the stop the loss is lower and the samples are ruined. The target contains $z - \varepsilon$ multiplied by
# $I + (t - s)\,\nabla v = \nabla X$, so its *variance* is a part of the loss. Without the stop the network lowers it by
# making $\nabla X$ small, instead of getting the mean right. Note also that the loss *with* the stop does not fall, while
# the samples become good: a loss whose target moves is no judge.
#
# **One table.** Three equations, each with a teacher's field or with data in its place, name most methods of this
# field:
#
# | equation | with a teacher | from data alone |
# |---|---|---|
# | semigroup: $v = \tfrac12(v_{s,r} + v_{r,t})$ | progressive distillation | shortcut models |
# | Eulerian: start moves | Eulerian distillation; consistency distillation, for $t = 1$ and finite $h$ | mean flow; consistency training |
# | Lagrangian: end moves | Lagrangian distillation | self-distillation [Boffi et al. 2025], with the network's own $v_{t,t}$ for $u_t$ |
#
# ### Exercise {exercise:shortcut_loss} · Shortcuts ({points:shortcut_loss} points)
#
# One cell of the table is left: the semigroup target with the network as its own teacher. By itself that is satisfied by
# any map that chains, $v = 0$ included. It needs an **anchor**: where $s = t$ the target is the data's velocity.
#
# <a id="eq-shortcut"></a>
# $$L = \mathbb E\,\bigl\| v_{s,t}(x_s) - \operatorname{target} \bigr\|^2, \qquad
# \operatorname{target} = \begin{cases} z - \varepsilon & s = t, \\
# \operatorname{sg}\bigl[\tfrac12\bigl(v_{s,r}(x_s) + v_{r,t}(y)\bigr)\bigr] & s < t .\end{cases} \tag{Frans et al. 2024}$$
#
# Write `shortcut_loss(v, z, noise, s, t)`, [this $L$](#eq-shortcut), with $y$ and $r$ as in section 5. You may call your
# `semigroup_target`; if that is still open, use `flow_maps.semigroup_target(v, None, x, s, t)`.
#
# <details><summary>Hint</summary>
# Compute both targets for all rows, and let <code>torch.where(coefficient(s == t, x), …, …)</code> choose.
# </details>

# %% exercise="shortcut_loss"
def shortcut_loss(v, z, noise, s, t):
    """The shortcut loss of a batch.

    v: function v(x, s, t), a network. z, noise: (n, *shape). s, t: (n,), with s ≤ t; rows with s
    = t are anchored. Returns a scalar tensor; its gradient reaches v through v(x, s, t) alone,
    not through the target.
    """
    ### BEGIN SOLUTION
    x = coefficient(s, z) * z + coefficient(1 - s, z) * noise
    two_steps = flow_maps.semigroup_target(v, None, x, s, t)
    target = torch.where(coefficient(s == t, x), z - noise, two_steps)
    return (v(x, s, t) - target).square().flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="shortcut_loss" points=4 further=true

# %% [markdown]
# **A shortcut model** of the moons. Short steps are learned first, and the jump over the whole time last: one jump is
# much worse than four.

# %%
own_shortcut = lab8.answer_or("shortcut_loss")
shortcut_student = map_student(from_data(own_shortcut), steps=1500)
shortcut_samples = by_jumps(shortcut_student)
show_jumps(shortcut_samples)
plots.describe(
    "Samples of the shortcut model. One jump fills the space between the moons, too; with four "
    "jumps most points lie on the moons."
)

# %% [markdown]
# ## 9 · Quality against calls
#
# All that we have drawn, in one figure: the energy distance against the number of calls per sample.
#
# **Before you run the cell:** how many calls of the teacher is one call of a student worth? And will more calls help the
# students?

# %%
curves = {name: found for name, found in price.items()}
curves["progressive"] = {k: floors(in_steps[k]) for k in (1, 2, 4)}
curves["consistency training"] = {k: floors(x) for k, x in renoised.items()}
for name, found in {
    "Eulerian": eulerian_samples,
    "mean flow": mean_flow_samples["with stop"],
    "shortcut": shortcut_samples,
}.items():
    curves[name] = {k: floors(x) for k, x in found.items()}

# %% figure="quality against calls"
fig, (ax,) = plots.figure(width=7, height=4)
colors = (
    plots.BLACK,
    plots.BLACK,
    plots.BLUE,
    plots.ORANGE,
    plots.RED,
    plots.GREEN,
    plots.PURPLE,
)
for (name, found), mark, color, style in zip(
    curves.items(), "osD^v*P", colors, ("--", ":", "-", "-", "-", "-", "-"), strict=True
):
    label = f"teacher, {name}" if style != "-" else name
    ax.loglog(
        list(found), list(found.values()), marker=mark, color=color, ls=style, ms=6, label=label
    )
ax.axhline(1, color=plots.BLACK, lw=0.8, ls=(0, (1, 4)))
ax.set(xlabel="network calls per sample", ylabel="energy distance, in floors")
ax.legend(ncols=2, fontsize=8)
plots.describe(
    "On logarithmic axes Euler's curve falls from about 800 floors at one call to about two at "
    "sixteen, that of the midpoint rule from about 16 at two calls to about one. Students "
    "begin, at one call, between one and nine floors; more calls help the shortcut model and "
    "consistency training, and the others little or not at all."
)

# %% [markdown]
# One call of a student is worth from four to sixteen calls of the teacher by midpoint steps. With many calls the teacher
# is hard to beat: a student inherits its teacher's errors or adds its own, and more steps do not always remove them. (The
# figure is no ranking of methods. They were trained for different numbers of steps, and the progressive student began
# with the teacher's weights.)
#
# **Try it.** Choose who draws and how often it calls.

# %%
map_widgets.few_calls(
    teacher,
    {
        "Eulerian": eulerian_student,
        "mean flow": mean_flows["with stop"],
        "shortcut": shortcut_student,
    },
    fresh[0],
)

# %% [markdown]
# ## 10 · A digit on request, in one call
#
# Lab 6 drew digits with guidance: at each step the field was called with and without the label. Four midpoint steps cost
# $4 \cdot 2 \cdot 2 = 16$ calls. All of that, guidance included, is a field like any other, so it can be distilled. First
# the teacher of lab 6 again, and a classifier that judges.

# %%
digits, held_out = datasets.Digits(train=True), datasets.Digits(train=False)
if DATA == "glyphs":  # letters take the place of the digits
    letters = Glyphs(size=16)
    digits, held_out = (datasets.Labelled(*letters.sample_labelled(n)[:2]) for n in (5000, 500))
SHAPE, PIXELS = digits.z.shape[1:], digits.z[0].numel()
NULL, SCALE = 10, 2.0  # the label that says "no label", the guidance scale


def labelled_states(n, s):
    """States x_s of digits as rows of pixels, with labels, data and noise."""
    z, y = digits.sample_labelled(n)
    z = z.flatten(1)
    eps = torch.randn_like(z)
    return s[:, None] * z + (1 - s)[:, None] * eps, y, z, eps


def digit_loss(u):
    s = torch.rand(256)
    x, y, z, eps = labelled_states(256, s)
    y = torch.where(torch.rand(256) < 0.1, NULL, y)
    return (u(x, s, y) - (z - eps)).square().sum(dim=1).mean()


_ = torch.manual_seed(0)
digit_teacher = models.MLP(PIXELS, width=256, depth=3, labels=10)
_ = training.train(digit_teacher, digit_loss, steps=1500, lr=3e-3).requires_grad_(False)


def reading_loss(classifier):
    z, y = digits.sample_labelled(256)
    return cross_entropy(classifier(z + 0.3 * torch.randn_like(z)), y)


hidden_layers = nn.Linear(PIXELS, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
classifier = nn.Sequential(nn.Flatten(), *hidden_layers)
_ = training.train(classifier, reading_loss, steps=400, lr=3e-3).requires_grad_(False)

# %% [markdown]
# Then two rounds of halving, from 4 steps to 2 to 1, with your target of exercise {exercise:semigroup_target}. The label
# goes along as an argument of the networks; the guidance scale is baked in.

# %%
def guided_v(x, s, t, y):
    """The average velocity of a midpoint step of the guided teacher: four calls."""
    u = guidance.guided_vector_field(digit_teacher, y, SCALE, NULL)
    return u(x + ((t - s) / 2)[:, None] * u(x, s), (s + t) / 2)


def halved_digits(v, network, steps):
    """A network with labels that makes `steps` steps, taught by v with twice as many."""
    torch.manual_seed(steps)
    network = copy.deepcopy(network).requires_grad_(True)

    def loss(network):
        s = torch.randint(steps, (128,)) / steps
        x, y, *_ = labelled_states(128, s)
        target = half_steps(lambda x, s, t: v(x, s, t, y), x, s, s + 1 / steps)
        return (network(x, s, y) - target).square().sum(dim=1).mean()

    return training.train(network, loss, steps=500, lr=2e-3).requires_grad_(False)


in_two = halved_digits(guided_v, digit_teacher, 2)
in_one = halved_digits(lambda x, s, t, y: in_two(x, s, y), in_two, 1)

labels = torch.arange(500) % 10
start = torch.randn(500, PIXELS, generator=torch.Generator().manual_seed(1))
guided = guidance.guided_vector_field(digit_teacher, labels, SCALE, NULL)
drawn = {
    "teacher, 16 calls": samplers.sample_flow(guided, start, 4, simulators.Midpoint()),
    "student, 1 call": start + in_one(start, torch.zeros(500), labels),
    "teacher, one Euler step": samplers.sample_flow(guided, start, 1, simulators.Euler()),
}
drawn = {name: x.clamp(-1, 1).reshape(-1, *SHAPE) for name, x in drawn.items()}

# %% figure="A digit on request, in one call"
fig, axes = plots.figure(rows=3, width=6.5, height=1.75)
far = {name: float(metrics.energy_distance(x, held_out.z)) for name, x in drawn.items()}
read = {name: float(metrics.fidelity(classifier(x), labels)) for name, x in drawn.items()}
for ax, (name, x) in zip(axes, drawn.items(), strict=True):
    plots.plot_images(x[:20], ax, smooth=4)
    ax.set_title(f"{name}: energy distance {far[name]:.3f}, {read[name]:.0%} recognised")
teachers, students_own, _ = far.values()
print("student within 1.5 times the teacher's energy distance:", students_own <= 1.5 * teachers)
print("at least 95 % recognised:", read["student, 1 call"] >= 0.95)
plots.describe(
    "Three times two rows of the digits 0 to 9, from the same noise. The teacher's with 16 "
    "calls and the student's with one are alike, image by image. One Euler step of the teacher "
    "gives overdrawn averages with leftovers of noise, four times as far from real digits, "
    "which are recognised all the same."
)

# %% [markdown]
# Note the third picture. One Euler step draws ten averages, overdrawn since guidance pushes past the mean, with leftovers
# of noise; and the classifier recognises every one. "Recognised" alone is no measure of quality; the energy distance, which compares whole sets, sees the difference.
#
# ## 11 · Matching the distribution instead of the map · *further*
#
# So far the student had to send each $\varepsilon$ where the flow sends it. But who asked for that? We want the *set* of
# samples to be right. Let a generator $g$ draw $x = g(\varepsilon)$ in one call, noise its samples to
# $x_t = t\,x + (1 - t)\,\varepsilon'$, and compare two fields there: the teacher's, which knows the data, and a second
# one, the *fake* field, that is trained all along by flow matching on the generator's own samples. Where they differ, the
# two densities differ: $u^{\text{fake}} - u^{\text{teacher}}$ is $(1 - t)/t$ times the difference of their scores (lab 4),
# and the mean of that difference along a move of the samples is how
# $\mathrm{KL}(p_t^{\text{fake}} \,\|\, p_t)$ grows, with $p_t^{\text{fake}}$ the density of $x_t$. So move the samples
# against it. (The factor $t$ below is $\partial x_t / \partial x$.)
#
# <a id="eq-distribution-matching"></a>
# $$L = \mathbb E\; \operatorname{sg}\bigl[t\,\bigl(u^{\text{fake}}_t(x_t) - u^{\text{teacher}}_t(x_t)\bigr)\bigr] \cdot x .
# \tag{Yin et al. 2024}$$
#
# The value of this **surrogate** means nothing. Its gradient, in $x$, is the push.
#
# ### Exercise {exercise:distribution_matching_loss} · Matching distributions ({points:distribution_matching_loss} points)
#
# Write `distribution_matching_loss(teacher, fake, x, noise, t)`, [this $L$](#eq-distribution-matching).
#
# <details><summary>Hint</summary>
# Compute the push with both fields at $x_t$, <code>.detach()</code> it, and only then multiply by <code>x</code>, whose
# gradient leads to the generator. Sum over each row, average over the batch.
# </details>

# %% exercise="distribution_matching_loss"
def distribution_matching_loss(teacher, fake, x, noise, t):
    """A surrogate whose gradient moves samples towards the teacher's distribution.

    teacher, fake: fields u(x, t), of the data and of the samples. x: (n, *shape), samples of a
    generator, with their gradient. noise: (n, *shape). t: (n,). Returns a scalar tensor; its
    gradient reaches the generator through the factor x alone, and no field.
    """
    ### BEGIN SOLUTION
    own = coefficient(t, x)
    noisy = own * x + (1 - own) * noise
    push = (own * (fake(noisy, t) - teacher(noisy, t))).detach()
    return (push * x).flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="distribution_matching_loss" points=5 further=true

# %% [markdown]
# **Before you run the cell:** the generator will fill the moons. Will it send each noise point to where the flow sends
# it?

# %%
match = lab8.answer_or("distribution_matching_loss")


class Pair(nn.Module):
    """A generator that makes one jump from noise, and the field of what it draws."""

    def __init__(self):
        super().__init__()
        self.generator, self.fake = copy.deepcopy(teacher), copy.deepcopy(teacher)
        self.requires_grad_(True)

    def draw(self, eps):
        return eps + self.generator(eps, torch.zeros(len(eps)))


def pair_loss(pair):
    """Flow matching of the fake field on the samples, and the push on the generator."""
    x, t = pair.draw(torch.randn(500, 2)), torch.rand(500)
    follow = losses.flow_matching_loss(pair.fake, straight, x.detach())
    return follow + match(teacher, pair.fake, x, torch.randn(500, 2), t)


_ = torch.manual_seed(0)
pair = training.train(Pair(), pair_loss, steps=1500, lr=5e-3).requires_grad_(False)
matched, by_flow = pair.draw(noise), in_steps[8]

# %% figure="matching distributions"
fig, axes = plots.figure(columns=2, width=4.2)
few = slice(0, 60)
for ax, (name, x) in zip(
    axes, {"the flow's ends": by_flow, "matched distribution": matched}.items(), strict=True
):
    plots.plot_samples(x, ax, color=plots.SKY, alpha=0.4).set_title(
        f"{name}: {floors(x):.1f} floors"
    )
    lines = torch.stack([noise[few], x[few]])
    ax.plot(lines[..., 0], lines[..., 1], color=plots.BLACK, ls="-", lw=0.5, alpha=0.6)
    ax.plot(*x[few].T, "o", ls="", color=plots.RED, ms=3)
own_map, halved_map = (
    (x - by_flow).square().sum(1).mean().sqrt() for x in (matched, in_steps[1])
)
print(f"rms distance of its ends from the flow's:   {float(own_map):.2f}")
print(f"that of the progressive student's ends:     {float(halved_map):.2f}")
plots.describe(
    "Two pictures with lines from 60 noise points to their ends. Both fill the moons. Many "
    "lines of the generator that matched the distribution lead to ends like the flow's, some to "
    "quite other ones."
)

# %% [markdown]
# Some points end elsewhere: many maps send noise to the moons, and this loss is content with any of them. What is gained is freedom, and the price is a second network that has to keep up with the first.
#
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab8.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab8.progress()

# %% [markdown]
# ## 12 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:code_or_network} · Code or network? ({points:code_or_network} points)
#
# A friend trains a mean flow on images. The loss falls nicely, and the samples are mush. Which experiments of this lab
# would you do, in which order, to find out whether the code is wrong or the network too weak? Why is the training loss
# no help, and which two results of this lab show that?

# %% [markdown] answer="code_or_network" points=6
# ### BEGIN SOLUTION
# First the code, without any training: take Gaussian data, or a mixture on a line, where the flow map is known, and put
# the exact average velocity into the target in double precision. Right code gives it back to rounding; a wrong sign,
# tangent or missing factor leaves a residual of a few hundredths or more. A missing stop-gradient does not show in this
# value, nor in the value of any loss, so compare the *gradient* with that of the loss whose target is detached, at
# parameters that are not the exact ones, where it is not 0 anyway.
#
# Then the network: with right code, put the trained network into the Lagrangian, Eulerian or semigroup residual over all
# $(s, t)$. If it is large, and largest for long jumps, the network is too weak, trained too briefly, or restless in
# time: fast time features make the derivative in the target large. The remedy is slower features, more steps, a larger
# share of $s = t$.
#
# The loss is no help since its target is made by the network itself: there is no fixed thing that a small value would be
# near to. On the line the wrong tangent ended with the smallest loss of the three students. Without the stop-gradient
# the mean flow loss was lower all along and the samples were ruined. And the right mean flow loss does not go to 0
# either: the variance of $z - \varepsilon$ remains.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:what_is_lost} · What is lost? ({points:what_is_lost} points)
#
# The flow of the teacher, a flow map, a consistency function, a progressive student and a generator that matches the
# distribution can all draw moons. What can the flow map do that the last three cannot? What does each of the three give
# up, and when would you choose it nevertheless?

# %% [markdown] answer="what_is_lost" points=6
# ### BEGIN SOLUTION
# A flow map jumps from any time to any other, also backwards: it is invertible (its inverse is $X_{t,s}$), it can be
# chained, it spends more calls for more accuracy, and it keeps the link between noise and sample. With $v_{t,t} = u_t$ it
# contains the field, so that likelihoods and guidance remain possible.
#
# A consistency function knows jumps to $t = 1$ alone. It cannot stop half-way, nor go back; more steps need fresh noise,
# so the link between noise and sample is lost. But its training needs no derivative and no teacher, and is cheap and
# stable. A progressive student knows the steps of one grid, and each number of steps is another network. It had the best
# quality per second of training here, and is the choice if there is a good teacher and the number of steps is fixed. It
# inherits the teacher's errors, guidance included. A generator that matches the distribution gives up the map itself:
# noise ends elsewhere than the flow would take it, modes can be dropped, and a second network must be trained beside it.
# In return it is not bound to the teacher's trajectories, which are hard to copy where they part, and can spend all its
# capacity on the samples.
# ### END SOLUTION

# %% [markdown]
# ## 13 · From here
#
# Fast image and video models of today are made of these parts: a teacher with guidance, distilled to one to four calls
# by consistency, progressive halving or matched distributions; and mean flows trained from scratch. The originals:
#
# - Salimans & Ho 2022, *Progressive Distillation for Fast Sampling of Diffusion Models* (arXiv 2202.00512)
# - Song, Dhariwal, Chen & Sutskever 2023, *Consistency Models* (arXiv 2303.01469)
# - Boffi, Albergo & Vanden-Eijnden 2024, *Flow Map Matching* (arXiv 2406.07507); 2025, on self-distillation (arXiv
#   2505.18825)
# - Frans, Hafner, Levine & Abbeel 2024, *One Step Diffusion via Shortcut Models* (arXiv 2410.12557)
# - Geng, Deng, Bai, Kolter & He 2025, *Mean Flows for One-step Generative Modeling* (arXiv 2505.13447)
# - Yin et al. 2024, *One-step Diffusion with Distribution Matching Distillation* (arXiv 2311.18828)
#
# Each has its own direction of time. You now know what to do with a formula that you copy: put an exact map into it.
