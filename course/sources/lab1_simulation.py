# %% [markdown] writes="Euler, Heun and Euler–Maruyama steps, orders of error, Brownian motion, Langevin dynamics" needs="derivatives, the normal distribution, tensors in PyTorch"
# # Lab 1 · Simulating ODEs and SDEs
#
# A **[generative model](../words.md#generative-model)** is a program that makes new examples like those it was trained
# on. The models of this course draw random points, the **noise**, and *move* them until they look like data. They are
# moved by a **[vector field](../words.md#vector-field)**, which gives a velocity for every place and every time.
#
# In the first figure, the data are points around eight centres on a circle. The same noise is moved twice: by a field
# that is known to carry it to these data, and by a neural network that has not been trained.

# %%
import math

import torch

from fmlab import distributions, metrics, models, paths, plots, processes, simulators, threads, widgets
from fmlab.checks import lab1

plots.use_style()
threads.use_idle_cores()  # a second thread where a core is free
_ = torch.manual_seed(0)

# %% [markdown]
# **Predict.** What share of the points that the network moves ends near one of the eight centres, at a distance below
# 0.5? Replace the dots by a number. Guesses are not graded.

# %%
share_near_a_centre = ...  # your guess, a number from 0 to 1

# %%
angles = torch.arange(8) * math.pi / 4
centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
data = distributions.GaussianMixture(centres, 0.02)
known_field = paths.GaussianPath().marginal(data).vector_field  # lab 2 says where it comes from
network = models.MLP(2).requires_grad_(False)
ts, noise = torch.linspace(0, 1, 31), torch.randn(300, 2)


def near(x):
    """The share of the points x that are near one of the centres."""
    return float((torch.cdist(x, centres).min(dim=1).values < 0.5).float().mean())


def untrained_field(x, t):
    return 10 * network(x, t)  # enlarged, or the points would hardly move


moved = {
    name: simulators.simulate(processes.ODE(u), noise, ts, record=True)
    for name, u in (("known field", known_field), ("untrained network", untrained_field))
}

# %% figure="noise, moved by a known field and by an untrained network"
def draw(ax, k):
    ax.plot(*centres.T, "k+", ms=12, label="centres of the data")
    styles = (("untrained network", plots.SKY, "^"), ("known field", plots.RED, "o"))
    for name, color, marker in styles:
        plots.plot_samples(moved[name][k], ax, color=color, marker=marker, ms=3, alpha=0.8, label=name)
    ax.set(xlim=(-5.5, 5.5), ylim=(-5.5, 5.5), title=f"$t$ = {float(ts[k]):.2f}")
    ax.legend(loc="upper right", fontsize=8)


share = near(moved["untrained network"][-1])
lab1.compare("the share near a centre, untrained network", share_near_a_centre, share, digits=2)
print(f"the noise itself: {near(noise):.2f}; the known field: {near(moved['known field'][-1]):.2f}")
plots.animate(
    draw,
    len(ts),
    "One cloud of noise, drawn twice. The dots that follow the known field gather around the eight "
    "centres; the triangles that follow the untrained network spread and end nowhere useful.",
)

# %% [markdown]
# Both clouds follow a field, but the network moves the points nowhere useful. To follow a field well is what you learn
# now; the right field is the subject of labs 2 and 3. Each evaluation of the field will be one run of a large network,
# so a method that needs fewer evaluations saves time and money.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace `raise NotImplementedError` by your code,
# run the cell, then the check below it. If the function is not right, the check says which mistake it looks like. A
# figure follows. It uses your function once its check has passed, and fmlab's until then, so you are never blocked.
# `lab1.hint("euler_step")` gives up to three hints. What is marked *further* can be left out; nothing later needs it.
#
# | letter | meaning | section |
# |---|---|---|
# | $x$, $X_t$ | a state, and the state at time $t$; in code $n$ of them, one per row: $(n, d)$, with $d$ coordinates, or `(n, *shape)` | all |
# | $t$, $h$ | time, size of a time step | all |
# | $u_t(x)$ | a vector field, in code `u(x, t)` | 1 to 4 |
# | $\theta$ | rate of decay | 1, 3, 4, 7 |
# | $C$, $q$ | constant and order of an error $C h^q$ | 1 |
# | $W_t$, $\varepsilon$ | Brownian motion, standard normal noise | 2 to 6 |
# | $\sigma$ | strength of the noise | 2 to 7 |
# | $v_t$ | variance of $X_t$ | 3 |
# | $\mu$; $X$, $Y$ | growth rate; simulated and exact end states | 5 |
# | $p$ | a density to sample from | 6, 7 |
#
# *Notes* are the [lecture notes](https://diffusion.csail.mit.edu/); the equations you need stand on this page. The lab
# is worth {points:all} points, {points:code} of them for code.

# %% [markdown]
# ## 1 · Flows
#
# To follow a vector field is to solve an ordinary differential equation (ODE):
#
# <a id="eq-flow"></a>
# $$\frac{d}{dt} X_t = u_t(X_t), \qquad X_0 = x_0. \tag{notes, eq. 1}$$
#
# A computer solves it in small steps. If the field hardly changes during a step of size $h$, the displacement is about
# $h$ times the velocity at the start. That is **Euler's method**.
#
# ### Exercise {exercise:euler_step} · One Euler step ({points:euler_step} points)
#
# Write `euler_step(u, x, t, h)`: the state at time $t + h$, one Euler step along [the flow](#eq-flow) from the state `x`
# at time $t$. A field `u(x, t)` takes `t` as a number, as a 0-dimensional tensor or as one of shape `(n,)`, a time for
# each row; so do networks.
#
# <details><summary>Hint</summary>
# Evaluate the field at the place and time where the state is <em>now</em>, and do not change <code>x</code> itself.
# </details>

# %% exercise="euler_step"
def euler_step(u, x, t, h):
    """One step of Euler's method.

    u: vector field, a function u(x, t). x: (n, *shape) states. t: time, a number, 0-dimensional or (n,), as u takes it.
    h: step size, a number or 0-dimensional; negative to go back in time. Returns the states at t + h, (n, *shape).
    """
    ### BEGIN SOLUTION
    return x + h * u(x, t)
    ### END SOLUTION


# %% check="euler_step" points=2

# %% [markdown]
# **What a step does.** The field below turns everything around the origin: exact
# [trajectories](../words.md#trajectory) are circles, and Euler's steps go along the tangent.
#
# **Predict.** A point starts at radius 1 and takes 24 Euler steps in the time of one exact turn. At what radius does it
# end?

# %%
radius_after_one_turn = ...  # your guess, a number

# %%
def rotation(x, t):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def one_turn(step, steps):
    """The states of one turn around the circle from the point (1, 0), (steps + 1, 2)."""
    h, states = 2 * math.pi / steps, [torch.tensor([[1.0, 0.0]])]
    for k in range(steps):
        states.append(step(rotation, states[-1], k * h, h))
    return torch.cat(states)


# %% figure="Euler's steps around a circle"
def show_turns(step, name):
    """One turn in 24 steps and in 96."""
    _, axes = plots.figure(columns=2, width=4.2, height=3.4)
    angle = torch.linspace(0, 2 * math.pi, 200)
    for ax, steps in zip(axes, (24, 96), strict=True):
        plots.plot_vector_field(rotation, 0.0, ax, extent=2.5, n=11)
        states = one_turn(step, steps)
        ax.plot(*states.T, color=plots.RED, ls="--", marker="o", ms=3, label=f"{name}'s states")
        ax.plot(angle.cos(), angle.sin(), color=plots.BLACK, ls="-", lw=1, label="exact", zorder=3)
        ax.set_title(f"{steps} steps per turn")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))


euler = lab1.answer_or("euler_step")
show_turns(euler, "Euler")
lab1.compare("the radius after one turn in 24 steps", radius_after_one_turn, float(one_turn(euler, 24)[-1].norm()))
plots.describe(
    "Arrows turn around the origin. Euler's states leave the exact circle and spiral outwards: "
    "with 24 steps to more than twice the radius in one turn, with 96 steps only a little."
)

# %% [markdown]
# Each step ends a little too far out, and the errors add up.
#
# <a id="about-heun-step"></a>
# ### Exercise {exercise:heun_step} · One Heun step ({points:heun_step} points)
#
# **Heun's method** takes Euler's step only as a *guess* $X'$, evaluates the field there, at the new time, and then moves
# from $x$ with the average of the two velocities. A step costs two evaluations of the field; soon you measure whether
# the second is worth it.
#
# Write `heun_step(u, x, t, h)`, a Heun step along [the flow](#eq-flow).
#
# <details><summary>Hint</summary>
# Three lines: the velocity now; the velocity at the guess, at time <code>t + h</code>; the step.
# </details>

# %% exercise="heun_step"
def heun_step(u, x, t, h):
    """One step of Heun's method.

    u: vector field, a function u(x, t). x: (n, *shape) states. t: time, a number, 0-dimensional or (n,), as u takes it.
    h: step size, a number or 0-dimensional; negative to go back in time. Returns the states at t + h, (n, *shape).
    """
    ### BEGIN SOLUTION
    now = u(x, t)
    ahead = u(x + h * now, t + h)
    return x + h / 2 * (now + ahead)
    ### END SOLUTION


# %% check="heun_step" points=3

# %% [markdown]
# **The same turn.** With the same numbers of steps, the states now stay close to the circle.

# %% figure="Heun's steps around a circle"
show_turns(lab1.answer_or("heun_step"), "Heun")
plots.describe("The same field and circle. Heun's states lie almost on the circle, with 24 steps as with 96.")

# %% [markdown]
# <a id="about-simulate"></a>
# ### Exercise {exercise:simulate} · The whole trajectory ({points:simulate} points)
#
# Write `simulate(step, x0, ts)`, the simulated states along [the flow](#eq-flow) at all times `ts`, which need not be
# evenly spaced. Here `step(x, t, h)` advances the state from `t` to `t + h`.
#
# <details><summary>Hint</summary>
# Between <code>ts[k]</code> and <code>ts[k + 1]</code> the step size is their difference. Collect the states in a list
# that starts with <code>x0</code>, and join them with <code>torch.stack</code>.
# </details>

# %% exercise="simulate"
def simulate(step, x0, ts):
    """All states of a simulation.

    step: function step(x, t, h); t and h are numbers or 0-dimensional. x0: (n, *shape) states at ts[0].
    ts: (T,) increasing times. Returns the states at all times, (T, n, *shape), in the dtype of x0; the first is x0.
    """
    ### BEGIN SOLUTION
    states = [x0]
    for t, t_next in zip(ts[:-1], ts[1:]):
        states.append(step(states[-1], t, t_next - t))
    return torch.stack(states)
    ### END SOLUTION


# %% check="simulate" points=3

# %% [markdown]
# **A flow warps space.** The map from every starting point $x_0$ to its state $X_t$ is the
# **[flow](../words.md#flow)** of the field. Here a field moves a square grid. Parallel lines bend but never cross,
# because two trajectories of a smooth field never meet. So the flow can be undone: follow the field backwards in time.

# %%
def swirl(x, t):
    t = torch.as_tensor(t).to(x).reshape(-1, 1)
    turn = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    drift = torch.stack([torch.sin(2 * x[:, 1]), torch.cos(2 * x[:, 0])], dim=1)
    return 1.6 * torch.exp(-x.square().sum(1, keepdim=True) / 2) * turn + 0.5 * t * drift


trajectory, heun = lab1.answer_or("simulate"), lab1.answer_or("heun_step")


def flow(x0, t):
    """The state at time t of every starting point."""
    ts = torch.linspace(0, t, 41)
    return x0 if t == 0 else trajectory(lambda x, s, h: heun(swirl, x, s, h), x0, ts)[-1]


x0 = torch.randn(500, 2)
there, ts = flow(x0, 1.0), torch.linspace(0, 1, 41)
back = trajectory(lambda x, s, h: heun(swirl, x, 1 - s, -h), there, ts)[-1]
print("there and back, all points moved by less than 0.0001:", bool(((back - x0).norm(dim=1) < 1e-4).all()))

# %% figure="a grid, moved by a flow"
_, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.0, 0.5, 1.0), strict=True):
    plots.plot_vector_field(swirl, t, ax, extent=2.5, n=13)
    plots.plot_warped_grid(lambda x0, t=t: flow(x0, t), ax)
    ax.set_title(f"$t$ = {t:g}")
plots.describe(
    "A square grid at t = 0, twisted around its centre at t = 0.5 and more so at t = 1. Its lines "
    "bend, and no two of one family ever cross."
)

# %% [markdown]
# ### Exercise {exercise:linear_flow} · A flow in closed form ({points:linear_flow} points)
#
# The exact flow of a network is unknown. So the error of a method is measured where the flow is known, as for a linear
# field:
#
# <a id="eq-linear"></a>
# $$u_t(x) = -\theta x. \tag{notes, example 4}$$
#
# Write `linear_flow(x0, t, theta)`, the flow of [the linear field](#eq-linear): which function is $-\theta$ times itself
# when differentiated, and starts at $x_0$?
#
# <details><summary>Hint</summary>
# <code>math.exp</code> is for numbers, <code>torch.exp</code> for tensors. <code>t</code> may be either;
# <code>torch.as_tensor</code> accepts both.
# </details>

# %% exercise="linear_flow"
def linear_flow(x0, t, theta):
    """The exact flow of u_t(x) = −θx.

    x0: (n, *shape). t: a number or a 0-dimensional tensor. theta: a number. Returns the states at t, (n, *shape), in
    double precision where x0 and t are.
    """
    ### BEGIN SOLUTION
    return torch.exp(-theta * torch.as_tensor(t)) * x0
    ### END SOLUTION


# %% check="linear_flow" points=1

# %% [markdown]
# **Decay.** From every start the state decays to 0; the larger $\theta$, the faster.

# %% figure="nine states decay at three rates"
exact_flow = lab1.answer_or("linear_flow")
ts, starts = torch.linspace(0, 2, 101), torch.linspace(-2, 2, 9)[:, None]
_, axes = plots.figure(columns=3)
for ax, theta in zip(axes, (0.25, 1.0, 4.0), strict=True):
    states = torch.stack([exact_flow(starts, t, theta) for t in ts])
    plots.plot_paths(ts, states, ax, color=plots.BLUE, ls="-")
    ax.set(title=rf"exact flow, $\theta$ = {theta:g}", ylim=(-2.2, 2.2))
plots.describe(
    "Nine starting points decay towards 0. For θ = 0.25 they have come less than half the way by "
    "t = 2, for θ = 1 most of it, and for θ = 4 all are at 0 soon after t = 1."
)

# %% [markdown]
# **Try it.** Euler's step multiplies the state by $1 - \theta h$. For which $\theta h$ do the states jump over 0, and for
# which do they grow? Try it with few steps, and with other methods.

# %%
widgets.step_size()

# %% [markdown]
# ### Exercise {exercise:convergence_order} · The order of a method ({points:convergence_order} points)
#
# Which method needs the fewest evaluations for an error that is small enough? If the error behaves like $C h^q$, the
# method has [order](../words.md#order) $q$. On logarithmic axes
#
# <a id="eq-order"></a>
# $$\log(\text{error}) = \log C + q \log h$$
#
# is a straight line, and its slope is the order. Measured errors lie close to it.
#
# Write `convergence_order(hs, errors)`: the $q$ of [this line](#eq-order), that is, the slope of the least-squares line
# through all the points $(\log h, \log \text{error})$, the straight line with the smallest sum of squared vertical
# distances to them.
#
# <details><summary>Hint</summary>
# The slope is the covariance of the two, divided by the variance of $\log h$. Or use <code>numpy.polyfit</code> with
# degree 1: the first of the two numbers that it returns is the slope.
# </details>

# %% exercise="convergence_order"
def convergence_order(hs, errors):
    """The order q of errors C h^q.

    hs: (m,) step sizes, in any order. errors: (m,) positive errors. Returns one number.
    """
    ### BEGIN SOLUTION
    log_h = hs.log() - hs.log().mean()
    log_error = errors.log() - errors.log().mean()
    return (log_h * log_error).sum() / (log_h**2).sum()
    ### END SOLUTION


# %% check="convergence_order" points=3

# %% [markdown]
# **Measured.** Euler, Heun and [RK4](../words.md#rk4), the classical Runge–Kutta method, which averages four velocities
# per step, follow $u_t(x) = -2x$ from $x_0 = 1$ to $t = 1$, in
# [double precision](../words.md#double-precision): with 16 digits instead of 7, rounding does not hide small errors.
#
# **Predict.** Ten Heun steps cost 20 evaluations of the field. How many Euler steps, at one evaluation each, have an
# error as small?

# %%
euler_steps = ...  # your guess, a whole number

# %%
order_of = lab1.answer_or("convergence_order")
x0, theta = torch.ones(1, 1, dtype=torch.float64), 2.0
exact = lab1.answer_or("linear_flow")(x0, torch.tensor(1.0, dtype=torch.float64), theta)
hs = 0.5 ** torch.arange(3.0, 9.0, dtype=torch.float64)
methods = {"Euler": simulators.Euler(), "Heun": simulators.Heun(), "RK4": simulators.RK4()}


def error(method, steps):
    ts, decay = torch.linspace(0, 1, steps + 1), processes.ODE(lambda x, t: -theta * x)
    return float((simulators.simulate(decay, x0, ts, method) - exact).abs())


errors = {
    name: torch.tensor([error(method, round(1 / float(h))) for h in hs]).double()
    for name, method in methods.items()
}
needed, ten_of_heun = 1, error(methods["Heun"], 10)
while error(methods["Euler"], needed) > ten_of_heun:
    needed += 1

# %% figure="errors against the step size"
plots.plot_convergence(hs, errors, {"Euler": 1, "Heun": 2, "RK4": 4})
for name, values in errors.items():
    print(f"{name:6s} order {float(order_of(hs, values)):.2f}")
lab1.compare("Euler's steps for the error of 10 of Heun's", euler_steps, needed)
plots.describe(
    "Errors against the step size on logarithmic axes are three straight lines, of slopes 1 for "
    "Euler, 2 for Heun and 4 for RK4: the steeper the line, the more a smaller step helps."
)

# %% [markdown]
# Euler's error falls like $h$, Heun's like $h^2$, RK4's like $h^4$. If the field were a network, one image with the
# error of ten Heun steps would cost as much by Euler's method as six by Heun's.
#
# **But order is about small steps.** Let the noise of the first screen follow the known field with only 4 evaluations:
# four Euler steps, two Heun steps, or one of RK4.
#
# **Predict.** Which method ends nearest to the exact flow?

# %%
best_with_4 = ...  # your guess: "Euler", "Heun" or "RK4"

# %%
known, costs = processes.ODE(known_field), {"Euler": 1, "Heun": 2, "RK4": 4}
goal = simulators.simulate(known, noise, torch.linspace(0, 1, 301), methods["RK4"])
evaluations = (4, 8, 16, 32, 64)
gaps = {}
for name, method in methods.items():
    grids = [torch.linspace(0, 1, calls // costs[name] + 1) for calls in evaluations]
    ends = [simulators.simulate(known, noise, ts, method) for ts in grids]
    gaps[name] = [float((end - goal).norm(dim=1).mean()) for end in ends]

# %% figure="distance to the exact flow against evaluations of the field"
_, (ax,) = plots.figure(width=5, height=3.6)
for (name, values), marker in zip(gaps.items(), plots.MARKERS):
    ax.loglog(evaluations, values, marker=marker, label=name)
ax.set_xticks(evaluations, evaluations)
ax.minorticks_off()
ax.set(xlabel="evaluations of the field", ylabel="mean distance to the exact flow")
ax.legend(loc="lower left")
lab1.compare("the best with 4 evaluations", best_with_4, min(gaps, key=lambda name: gaps[name][0]))
plots.describe(
    "With 4 evaluations Euler is nearest, Heun and RK4 are more than twice as far. The three lines cross just "
    "below 8 evaluations; with 8 or more, the higher the order the nearer."
)

# %% [markdown]
# With 4 evaluations the ranking is reversed; with 8 the methods are close, with 16 or more the higher order is better.
# Lab 8 is about networks that need one or two evaluations only.
#
# ## 2 · Noise
#
# Diffusion models start from noise and add more at every step. With a field that compensates it, this can repair earlier
# errors (lab 4). The noise comes from **[Brownian motion](../words.md#brownian-motion)** $W_t$, which
# starts at 0. Its increment over any interval from $s$ to $t$ is Gaussian,
#
# <a id="eq-brownian"></a>
# $$W_t - W_s \sim N(0,\ t - s), \tag{notes, § 2.2}$$
#
# with variance $t - s$, and independent of all increments over intervals that do not overlap this one. So the
# *variance* of a step of size $h$ is $h$, and its standard deviation $\sqrt h$: the most important square root of this
# course.
#
# ### Exercise {exercise:brownian_paths} · Brownian motion ({points:brownian_paths} points)
#
# Write `brownian_paths(n, ts, sigma)`: $n$ trajectories of $\sigma W_t$ at the times `ts`, which need not be evenly
# spaced, from 0 at `ts[0]`, with $\sigma$ times [these increments](#eq-brownian).
#
# <details><summary>Hint</summary>
# Draw all increments at once with <code>torch.randn</code>, scale each by the root of its interval, and sum them with
# <code>cumsum</code>. Put the zero of the first time in front.
# </details>

# %% exercise="brownian_paths"
def brownian_paths(n, ts, sigma):
    """n trajectories of σW.

    ts: (T,) increasing times; every trajectory is 0 at ts[0], whatever time that is. sigma: a number.
    Returns the trajectories, new ones at each call: (T, n), of which the first row is 0.
    """
    ### BEGIN SOLUTION
    h = ts.diff()[:, None]
    increments = sigma * h.sqrt() * torch.randn(len(h), n)
    return torch.cat([torch.zeros(1, n), increments.cumsum(0)])
    ### END SOLUTION


# %% check="brownian_paths" points=4

# %% [markdown]
# **Look closer.** Left: eight trajectories, and the band $\pm 2\sqrt t$ that holds about 95 % of all at each time.
# Right: 5000 states at $t = 1$. The trajectories are continuous, but jagged at every scale: they have no velocity.

# %% figure="Brownian motion"
ts = torch.linspace(0, 1, 501)
states = lab1.answer_or("brownian_paths")(5000, ts, 1.0)
_, axes = plots.figure(columns=2, width=4.6)
plots.plot_paths(ts, states[:, :8], axes[0], color=plots.BLUE, ls="-")
plots.plot_band(ts, torch.zeros_like(ts), ts.sqrt(), axes[0], label="mean 0")
axes[0].set(ylabel="state $W_t$", ylim=(-3.2, 3.2))
axes[0].legend(loc="upper left")
standard_normal = distributions.Gaussian([0.0], 1.0)
plots.plot_histogram(states[-1], axes[1], lambda x: standard_normal.log_prob(x[:, None]).exp())
axes[1].set(title="at $t$ = 1", xlabel="state $W_1$", ylim=(0, 0.55))
axes[1].legend(loc="upper left")
plots.describe(
    "Left: eight jagged lines from 0, most of them between two curves that open like the square "
    "root of time. Right: the histogram at t = 1 follows the standard normal density."
)

# %% [markdown]
# ## 3 · The Ornstein–Uhlenbeck process
#
# A field moves the state, and noise disturbs it. Together they make a **stochastic differential equation**
# ([SDE](../words.md#sde)),
#
# <a id="eq-sde"></a>
# $$dX_t = u_t(X_t)\,dt + \sigma_t(X_t)\,dW_t. \tag{notes, eq. 7}$$
#
# The factor of $dt$ is the [drift](../words.md#drift-and-diffusion), the factor of $dW_t$ the **diffusion coefficient**,
# the strength of the noise. The **Ornstein–Uhlenbeck process** adds noise of constant strength $\sigma$ to the flow of
# exercise {exercise:linear_flow}. A process of this kind turns data into noise for the training of diffusion
# models (lab 4).
#
# ### Exercise {exercise:ou_drift} · Its drift ({points:ou_drift} points)
#
# Write `ou_drift(x, t, theta)`, the drift [in the SDE](#eq-sde) of this process, so that without noise the state decays
# at the rate $\theta$. (It is a velocity, not a state.)

# %% exercise="ou_drift"
def ou_drift(x, t, theta):
    """Drift of the Ornstein–Uhlenbeck process.

    x: (n, *shape). t: a number, 0-dimensional or (n,). theta: a number. Returns (n, *shape).
    """
    ### BEGIN SOLUTION
    return -theta * x
    ### END SOLUTION


# %% check="ou_drift" points=1

# %% [markdown]
# So the Ornstein–Uhlenbeck process is
#
# <a id="eq-ou"></a>
# $$dX_t = -\theta X_t\,dt + \sigma\,dW_t. \tag{notes, eq. 8}$$
#
# **One small step from several places.** Dots show how far the drift moves a state during a step, bars the spread
# $\pm\sigma\sqrt h$ of the noise, which is the same everywhere. Far from 0 the pull towards 0 is larger than the noise,
# near 0 it is smaller.

# %% figure="one step: pull and noise"
x, h = torch.linspace(-6, 6, 13)[:, None], 0.1
pull = h * lab1.answer_or("ou_drift")(x, 0.0, 1.0)
_, (ax,) = plots.figure(width=7)
ax.axhline(0, color=plots.BLACK, lw=1)
ax.errorbar(x[:, 0], pull[:, 0], math.sqrt(h), fmt="o", ls="", color=plots.RED, capsize=4)
ax.set(xlabel="state $x$", ylabel="change of the state", ylim=(-1.1, 1.1))
ax.set_title(r"one step, $\theta$ = $\sigma$ = 1, $h$ = 0.1: pull (dots) ± noise (bars)")
plots.describe(
    "Thirteen dots on a falling line through 0, each with a bar of the same length. Far from 0 "
    "the pull back is larger than the noise; near 0 the noise is larger than the pull."
)

# %% [markdown]
# ### Exercise {exercise:ou_moments} · Its exact distribution ({points:ou_moments} points)
#
# Since the drift is linear, $X_t$ is Gaussian: two numbers describe its distribution. The mean decays like the flow of
# exercise {exercise:linear_flow}. The variance $v_t$ gains $\sigma^2$ per unit of time from the noise. It loses
# $2\theta v_t$ to the pull, since distances from the mean decay at the rate $\theta$ and their squares at $2\theta$. With
# a dot for the time derivative,
#
# <a id="eq-variance"></a>
# $$\dot v_t = \sigma^2 - 2\theta v_t, \qquad v_0 = 0.$$
#
# Write `ou_moments(x0, t, theta, sigma)`: the mean of $X_t$ given $X_0 = x_0$, and the variance, the solution of
# [this equation](#eq-variance).
#
# <details><summary>Hint</summary>
# At which value does the variance no longer change? Call it $v_\infty$. The distance $v_\infty - v_t$ obeys a linear
# equation like that of exercise {exercise:linear_flow}, with the rate $2\theta$.
# </details>

# %% exercise="ou_moments"
def ou_moments(x0, t, theta, sigma):
    """Mean and variance of the Ornstein–Uhlenbeck process at time t from X_0 = x0.

    x0: (n, *shape). t: a number ≥ 0, or a 0-dimensional tensor. theta: a number > 0. sigma: a number ≥ 0.
    Returns (mean, variance): the mean like x0, the variance one number or a tensor like x0.
    """
    ### BEGIN SOLUTION
    decay = torch.exp(-theta * torch.as_tensor(t))
    return decay * x0, sigma**2 * (1 - decay**2) / (2 * theta)
    ### END SOLUTION


# %% check="ou_moments" points=4

# %% [markdown]
# **Mean and spread,** from $x_0 = 5$. The larger $\theta$, the sooner both reach their final values.

# %% figure="mean and spread for three rates"
moments = lab1.answer_or("ou_moments")


def band(ax, ts, theta, sigma):
    """Draw the mean ± 2 standard deviations of the process from 5."""
    pairs = [moments(torch.tensor([[5.0]]), t, theta, sigma) for t in ts]
    mean, variance = (torch.stack([torch.as_tensor(v).reshape(()) for v in part]) for part in zip(*pairs))
    plots.plot_band(ts, mean, variance.sqrt(), ax, label="mean")


ts = torch.linspace(0, 20, 201)
_, axes = plots.figure(columns=3)
for ax, theta in zip(axes, (0.1, 0.25, 1.0), strict=True):
    band(ax, ts, theta, 1.0)
    ax.set(xlabel="time $t$", ylabel="state $X_t$", ylim=(-6, 10))
    ax.set_title(rf"$\theta$ = {theta:g}, $\sigma$ = 1")
    ax.legend(loc="upper right")
plots.describe(
    "From 5 the mean decays towards 0 while the band around it widens to a constant width: slowly and "
    "wide for θ = 0.1, fast and narrow for θ = 1."
)

# %% [markdown]
# ## 4 · Simulating an SDE
#
# <a id="about-euler-maruyama-step"></a>
# The SDEs of diffusion models have no solution in closed form; again small steps help. The drift moves the state as in
# Euler's method. The noise adds a Gaussian whose variance is the squared diffusion coefficient times the step size. This
# is the **Euler–Maruyama method**.
#
# ### Exercise {exercise:euler_maruyama_step} · One Euler–Maruyama step ({points:euler_maruyama_step} points)
#
# Write `euler_maruyama_step(drift, diffusion, x, t, h, noise)`, one step along [the SDE](#eq-sde). Here `noise` is
# the standard normal $\varepsilon$, of the shape of `x` and already drawn for you.
#
# <details><summary>Hint</summary>
# Euler's step, plus the increment of exercise {exercise:brownian_paths}. Evaluate both functions at the start of the
# step.
# </details>

# %% exercise="euler_maruyama_step"
def euler_maruyama_step(drift, diffusion, x, t, h, noise):
    """One step of the Euler–Maruyama method.

    drift, diffusion: functions of (x, t); diffusion returns a number, or a tensor like x. x: (n, *shape) states.
    t: time, a number, 0-dimensional or (n,), as both take it. h: step size > 0, a number or 0-dimensional.
    noise: (n, *shape), standard normal. Returns the states at t + h, (n, *shape).
    """
    ### BEGIN SOLUTION
    return x + h * drift(x, t) + h**0.5 * diffusion(x, t) * noise
    ### END SOLUTION


# %% check="euler_maruyama_step" points=3

# %% [markdown]
# **Pull and noise.** Nine trajectories with $\theta = 0.25$, at four strengths of noise. The band is the exact one of
# exercise {exercise:ou_moments} for the topmost start, $x_0 = 5$.

# %%
em_step, drift_of = lab1.answer_or("euler_maruyama_step"), lab1.answer_or("ou_drift")


def simulate_sde(drift, sigma, x0, ts):
    """All states of Euler–Maruyama steps from x0 along the times ts."""
    states = [x0]
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        noise = torch.randn_like(x0)
        states.append(em_step(drift, lambda x, t: sigma, states[-1], t, float(h), noise))
    return torch.stack(states)


# %% figure="nine trajectories at four strengths of noise"
x0, ts = torch.linspace(-5, 5, 9)[:, None], torch.linspace(0, 20, 201)
_, axes = plots.figure(columns=4, width=2.7)
for ax, sigma in zip(axes, (0.0, 0.5, 1.0, 2.0), strict=True):
    states = simulate_sde(lambda x, t: drift_of(x, t, 0.25), sigma, x0, ts)
    plots.plot_paths(ts, states, ax, color=plots.BLUE, ls="-", alpha=0.6)
    band(ax, ts, 0.25, sigma)
    ax.set(title=rf"$\sigma$ = {sigma:g}", ylim=(-11, 11))
axes[0].legend(loc="lower right")
plots.describe(
    "Without noise nine smooth curves run together at 0. The stronger the noise, the rougher the "
    "trajectories and the wider the band in which most stay, for late times about ± 6 for σ = 2."
)

# %% [markdown]
# **Try it.** Move $\theta$ and $\sigma$. Which pairs of values give the same band for late times, and what is still
# different between them? You will need the answer in question {exercise:ou_parameters}.

# %%
widgets.ornstein_uhlenbeck_paths()

# %% [markdown]
# **Back to the first screen.** A **flow model** follows a field from noise to data. A **diffusion model** adds noise on
# the way; with $\sigma = 0$ it *is* a flow model. Here are both, with your step and the known field.

# %% figure="a flow model, and the same with noise on the way"
start, ts = torch.randn(1000, 2), torch.linspace(0, 1, 51)
_, axes = plots.figure(columns=3)
plots.plot_samples(start, axes[0]).set_title("noise at $t$ = 0")
for ax, sigma in zip(axes[1:], (0.0, 0.7), strict=True):
    ends = simulate_sde(known_field, sigma, start, ts)[-1]
    plots.plot_samples(ends, ax).set_title(rf"$t$ = 1, $\sigma$ = {sigma:g}: {near(ends):.0%} near")
for ax in axes:
    ax.plot(*centres.T, "k+", ms=12)
    ax.set(xlim=(-4, 4), ylim=(-4, 4))
plots.describe(
    "Left a round cloud of noise. Middle: without noise on the way nearly all points end near the eight "
    "centres, marked by crosses. Right: with noise on the way each group is spread out, and almost a third misses."
)

# %% [markdown]
# Noise alone makes the result worse. In lab 2 you find the drift that compensates it.
#
# ## 5 · Two errors of a simulated SDE · *further*
#
# How wrong is each *trajectory*, compared with the exact one that has the same noise (**strong** error)? And how wrong is
# the *distribution*, for which we take its mean (**weak** error)? In a generative model only the weak error matters; it is
# the smaller one.
#
# ### Exercise {exercise:geometric_brownian_motion} · An exact solution ({points:geometric_brownian_motion} points)
#
# We use geometric Brownian motion, whose noise depends on the state, because its solution is known:
#
# <a id="eq-gbm"></a>
# $$dX_t = \mu X_t\,dt + \sigma X_t\,dW_t.$$
#
# Its logarithm is Brownian motion with a drift, which is not $\mu$ but $\mu - \sigma^2/2$. The second term is
# **[Itô's correction](../words.md#itos-correction)**. Without it, the mean would be larger than $x_0 e^{\mu t}$, since
# noise that multiplies the state makes a few states very large.
#
# Write `geometric_brownian_motion(x0, t, w, mu, sigma)`: the solution $X_t$ of [the equation above](#eq-gbm) for
# $W_t = w$.
#
# <details><summary>Hint</summary>
# $\log X_t = \log x_0 + (\mu - \sigma^2/2)\,t + \sigma W_t$.
# </details>

# %% exercise="geometric_brownian_motion"
def geometric_brownian_motion(x0, t, w, mu, sigma):
    """Exact geometric Brownian motion.

    x0, w: (n,) starts > 0 and values of W_t. t: a number, 0-dimensional, or (n,), a time for each. mu, sigma: numbers.
    Returns (n,).
    """
    ### BEGIN SOLUTION
    return x0 * torch.exp((mu - sigma**2 / 2) * t + sigma * w)
    ### END SOLUTION


# %% check="geometric_brownian_motion" points=2 further=true

# %% [markdown]
# **One trajectory, three step sizes.** All simulations below are driven by the same Brownian motion: the increment of a
# coarse step is the sum of the fine increments that it spans.

# %%
mu, sigma, fine = 1.0, 0.8, 512
gbm = lab1.answer_or("geometric_brownian_motion")
increments = torch.randn(fine, 20_000) / math.sqrt(fine)
brownian = torch.cat([torch.zeros(1, 20_000), increments.cumsum(0)])
exact_ends = gbm(torch.ones(20_000), 1.0, brownian[-1], mu, sigma)


def coarse_simulation(increments, steps):
    """States of Euler–Maruyama in few steps, driven by the fine increments of W, (fine, n)."""
    h, states = 1 / steps, [torch.ones(increments.shape[1])]
    for noise in increments.unflatten(0, (steps, -1)).sum(1) / math.sqrt(h):
        states.append(
            em_step(lambda x, t: mu * x, lambda x, t: sigma * x, states[-1], 0.0, h, noise)
        )
    return torch.stack(states)


# %% figure="one trajectory, three step sizes"
ts = torch.linspace(0, 1, fine + 1)
_, (ax,) = plots.figure(width=7)
ax.plot(ts, gbm(torch.ones(fine + 1), ts, brownian[:, 0], mu, sigma), color=plots.BLACK, ls="-", lw=1, label="exact")
for steps, style, color in ((4, "o-", plots.BLUE), (16, "s--", plots.RED), (128, "-.", plots.GREEN)):
    states = coarse_simulation(increments[:, :1], steps)[:, 0]
    ax.plot(torch.linspace(0, 1, steps + 1), states, style, color=color, ms=5, label=f"{steps} steps")
ax.set(xlabel="time $t$", ylabel="state $X_t$")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.describe(
    "With 4 steps the polygon misses most of the exact curve, with 16 it follows it roughly, and "
    "with 128 closely: the trajectory comes nearer to the exact one as the steps shrink."
)

# %% [markdown]
# ### Exercise {exercise:strong_and_weak_error} · Strong and weak error ({points:strong_and_weak_error} points)
#
# The simulated end states $X$ and the exact ones $Y$ are driven by the same noise. Then
#
# <a id="eq-strong-and-weak"></a>
# $$\text{strong error} = \mathbb E\,|X - Y|, \qquad \text{weak error} = |\mathbb E X - \mathbb E Y|.$$
#
# Write `strong_and_weak_error(x, y)`: [both errors](#eq-strong-and-weak), with means over the samples. Can the weak error
# be the larger one?
#
# <details><summary>Hint</summary>
# The two differ in the order of distance and mean.
# </details>

# %% exercise="strong_and_weak_error"
def strong_and_weak_error(x, y):
    """Strong and weak error of simulated end states x: (n,) against exact ones y: (n,) on the same trajectories.

    Returns (strong, weak), two numbers.
    """
    ### BEGIN SOLUTION
    return (x - y).abs().mean(), (x.mean() - y.mean()).abs()
    ### END SOLUTION


# %% check="strong_and_weak_error" points=4 further=true

# %% [markdown]
# The weak error is never the larger one; it is smaller where errors of single trajectories cancel.
#
# **Predict.** How many times smaller is the strong error with 128 steps than with 8? (The noise of a step has the size
# $\sqrt h$.)

# %%
strong_shrinks_by = ...  # your guess, a number

# %%
errors_of = lab1.answer_or("strong_and_weak_error")
counts = (8, 16, 32, 64, 128)
hs = torch.tensor([1 / steps for steps in counts])
ends = {steps: coarse_simulation(increments, steps)[-1] for steps in counts}
strong, weak = torch.tensor([[float(e) for e in errors_of(x, exact_ends)] for x in ends.values()]).T

# %% figure="the errors of 20 000 trajectories"
lab1.compare("how many times smaller the strong error is", strong_shrinks_by, float(strong[0] / strong[-1]), digits=2)
_, axes = plots.figure(columns=3, width=3.9)
for ax, steps, value in zip(axes, (8, 128), (strong[0], strong[-1]), strict=False):
    plots.plot_histogram(ends[steps] - exact_ends, ax, bins=torch.linspace(-2, 2, 81).tolist())
    ax.set(title=f"{steps} steps: strong error {float(value):.3f}", xlim=(-2, 2), ylim=(0, 5.5))
    ax.set(xlabel="error of one trajectory, $X - Y$")
plots.plot_convergence(hs, {"strong error": strong, "weak error": weak}, {"strong error": 0.5, "weak error": 1}, axes[2])
axes[2].legend(fontsize=9)
print(f"orders: strong {float(order_of(hs, strong)):.2f}, weak {float(order_of(hs, weak)):.2f}")
plots.describe(
    "Two histograms of errors around 0: wide and skewed to the left for 8 steps, and about four times narrower for "
    "128 steps. Against the step size, the weak error lies below the strong one and falls with a slope near 1, the "
    "strong error with slope one half."
)

# %% [markdown]
# The strong error falls like $\sqrt h$, the weak error like $h$. So a quarter of the step halves the strong error; half
# the step is enough to halve the weak one.
#
# ## 6 · Noise that samples: Langevin dynamics
#
# Now a density $p$ is given, and we look for an SDE under which $p$ does not change: $p$ is then **stationary**. From any
# start, after a long time, the states of such an SDE are samples from $p$.
# [Langevin dynamics](../words.md#langevin-dynamics) need only the [score](../words.md#score) $\nabla \log p(x)$, the
# direction in which $\log p$ grows fastest; in lab 4 a network learns it:
#
# <a id="eq-langevin"></a>
# $$dX_t = \tfrac12 \sigma^2\, \nabla \log p(X_t)\,dt + \sigma\,dW_t.$$
#
# The drift moves states to where $p$ is larger, the noise spreads them. With the factor $\tfrac12 \sigma^2$ the two
# balance, and $p$ does not change.
#
# ### Exercise {exercise:langevin_drift} · The Langevin drift ({points:langevin_drift} points)
#
# Write `langevin_drift(score, sigma)`, which returns the drift of [Langevin dynamics](#eq-langevin) *as a function* of
# `(x, t)`.
#
# <details><summary>Hint</summary>
# Define a function inside your function and return it, or return a <code>lambda x, t: …</code>. The score takes
# <code>x</code> alone.
# </details>

# %% exercise="langevin_drift"
def langevin_drift(score, sigma):
    """Drift of Langevin dynamics.

    score: function of x alone, (n, d) → (n, d). sigma: a number. Returns a function of (x, t), where t is a number,
    0-dimensional or (n,).
    """
    ### BEGIN SOLUTION
    return lambda x, t: 0.5 * sigma**2 * score(x)
    ### END SOLUTION


# %% check="langevin_drift" points=3

# %% [markdown]
# **Sampling a mixture.** A [mixture](../words.md#mixture) draws each sample from one of several distributions, here from
# one of three Gaussians. Particles (states in the plane) start in one corner. The
# [energy distance](../words.md#energy-distance) says how different two sets of samples are: 0 for equal distributions,
# up to chance (formula in lab 3). The last printed line shows what chance alone gives.

# %%
mixture = distributions.GaussianMixture(
    means=[[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]],
    covs=[[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.2]]],
    weights=[0.3, 0.4, 0.3],
)
dynamics = processes.SDE(lab1.answer_or("langevin_drift")(mixture.score, 1.5), 1.5)
ts = torch.linspace(0, 40, 2001)
start = torch.tensor([-2.0, 2.0]) + 0.2 * torch.randn(2000, 2)
states = simulators.simulate(dynamics, start, ts, record=True)
fresh, again = mixture.sample(2000), mixture.sample(2000)
for k in (0, 25, 250, 2000):
    print(f"t = {float(ts[k]):4.1f}: energy distance {metrics.energy_distance(states[k], fresh):.3f}")
print(f"two sets of samples: {metrics.energy_distance(again, fresh):.3f}")

# %% [markdown]
# **In motion.** The particles move fast to the nearest Gaussian, and take much longer to reach the others. (Later frames
# cover longer stretches of time.)

# %% figure="Langevin dynamics in motion"
frames = (2000 * torch.linspace(0, 1, 30) ** 2).round().int().tolist()
plots.animate_samples(
    ts[frames],
    states[frames, :300],
    "Particles move at once from their corner to the nearest of three hills of the density. One by one, some "
    "then cross to the other two, until each hill has its share; there all keep moving.",
    lambda x, t: mixture.log_prob(x),
)

# %% [markdown]
# **How far you are.** Before you hand the notebook in, save it and run `lab1.submission()` in a new cell: it runs the
# saved file from top to bottom in a fresh process, and lists what is still open.

# %%
lab1.progress()

# %% [markdown]
# ## 7 · Two questions to answer in words
#
# A few sentences each are enough.
#
# ### Question {exercise:ou_parameters} · What $\theta$ and $\sigma$ do ({points:ou_parameters} points)
#
# Look at the figure of exercise {exercise:euler_maruyama_step} and at the sliders. What does $\theta$ do to the
# trajectories of an Ornstein–Uhlenbeck process, and what does $\sigma$ do? Which combination of the two determines the
# distribution for late times, and how can two processes with the same distribution for late times still look different?

# %% [markdown] answer="ou_parameters" points=3
# ### BEGIN SOLUTION
# $\theta$ is the rate at which the start is forgotten: the mean decays like $e^{-\theta t}$, so a trajectory depends on
# its start for a time of about $1/\theta$. $\sigma$ is the strength of the noise; at $\sigma = 0$ the trajectories are the
# smooth curves of a flow. For late times the distribution is $N(0, \sigma^2/(2\theta))$, so the ratio $\sigma^2/\theta$
# determines it. If both $\theta$ and $\sigma^2$ are multiplied by the same factor, this distribution stays the same, but
# everything happens that many times faster: the trajectories look rougher over the same stretch of time and settle
# earlier.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:ou_is_langevin} · Ornstein–Uhlenbeck is Langevin ({points:ou_is_langevin} points)
#
# Show that the Ornstein–Uhlenbeck process is Langevin dynamics for its own stationary distribution: write down the score
# of $N(0, \sigma^2/(2\theta))$, put it into [the Langevin equation](#eq-langevin) with the same $\sigma$, and compare.
# What does this say about a process that starts in that distribution?

# %% [markdown] answer="ou_is_langevin" points=4
# ### BEGIN SOLUTION
# For $p = N(0, v)$ with $v = \sigma^2/(2\theta)$ we have $\log p(x) = -x^2/(2v) + \text{const}$, so the score is
# $-x/v = -2\theta x/\sigma^2$. The Langevin drift is $\tfrac12\sigma^2 \cdot (-2\theta x/\sigma^2) = -\theta x$, which is the
# Ornstein–Uhlenbeck drift, and the noise is the same. Under Langevin dynamics $p$ is stationary, so a process that starts
# in $N(0, \sigma^2/(2\theta))$ has that distribution at all times: single trajectories never stop moving, their
# distribution does not change.
# ### END SOLUTION

# %% [markdown]
# ## 8 · From here
#
# You can follow any field, with or without noise. What is missing is a field that leads to data.
# [Lab 2](../lab2_paths/lab2_paths.ipynb) constructs it; in lab 3 a network learns it.
