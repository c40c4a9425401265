# %% [markdown]
# # Lab 1 · Simulating ODEs and SDEs
#
# A generative model of this course draws a random point and then *moves* it until it looks like data. The rule that
# moves it is a differential equation: an ordinary one (a **flow model**) or a stochastic one (a **diffusion model**).
# Before we learn such rules, we learn to follow them. By the end of this lab you will have written the simulators that
# every later lab uses, and measured how accurate they are.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace the line `raise NotImplementedError` by
# your code, run the cell, then run the check below it. A check says at once whether you are right, and if not, what it
# expected and which idea to look at again. A figure follows each exercise. It uses your function once its check has
# passed, and fmlab's until then, so you can always read on. Stuck? `lab1.hint("euler_step")` gives up to three hints,
# one at a time.
#
# **Notation.** $x$ holds a batch of states, one per row: shape $(n, d)$, or `(n, *shape)` where a state is a number or
# an image. $u_t(x)$ is a vector field, in code `u(x, t)`. $h$ is a step size. *Notes* means
# [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/), *summary* a student's
# summary of the same course. The lab is worth {points:all} points, {points:code} of them for code.

# %%
import math

import torch

from fmlab import distributions, metrics, plots, processes, simulators, threads, widgets
from fmlab.checks import lab1

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · Flows
#
# A vector field $u_t(x)$ says how fast, and in which direction, a point at $x$ moves at time $t$. Following it means
# solving
#
# <a id="eq-flow"></a>
# $$\frac{d}{dt} X_t = u_t(X_t), \qquad X_0 = x_0. \tag{notes, eq. 1}$$
#
# A computer follows it in small steps. If the field hardly changes during a step of size $h$, the displacement is
# about $h$ times the velocity at the start. That is **Euler's method**.
#
# ### Exercise {exercise:euler_step} · One Euler step ({points:euler_step} points)
#
# Write `euler_step(u, x, t, h)`: the state at time $t + h$, from the state `x` at time $t$, one step along
# [notes, eq. 1](#eq-flow). A field `u(x, t)` takes `t` as a number, as a 0-dimensional tensor or as one of shape
# `(n,)`, a time for each row; so do networks.
#
# <details><summary>Hint</summary>
# Velocity is distance per time. Ask the field for the velocity at the place and time where you are <em>now</em>, and do
# not change <code>x</code> itself.
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
# **What a step does.** The field below turns everything around the origin, so exact solutions are circles. Euler's
# steps leave along the tangent: each one lands a little too far out, and the errors add up.

# %%
def rotation(x, t):
    return torch.stack([-x[:, 1], x[:, 0]], dim=1)


def follow(step, h, n):
    """The first n steps from the point (1, 0), one after the other."""
    x = torch.tensor([[1.0, 0.0]])
    path = [x]
    for k in range(n):
        x = step(rotation, x, k * h, h)
        path.append(x)
    return torch.cat(path)


def go_round(step, name):
    """One turn around the circle, in 24 steps and in 96."""
    _, axes = plots.figure(columns=2)
    angle = torch.linspace(0, 2 * math.pi, 200)
    for ax, n in zip(axes, (24, 96), strict=True):
        plots.plot_vector_field(rotation, 0.0, ax, extent=2.5, n=11)
        path = follow(step, 2 * math.pi / n, n)
        ax.plot(path[:, 0], path[:, 1], color=plots.RED, ls="--", marker="o", ms=3, label=name)
        ax.plot(angle.cos(), angle.sin(), color=plots.BLACK, ls="-", lw=1, label="exact", zorder=3)
        ax.set_title(f"{n} steps per turn")
        ax.legend(loc="upper right", frameon=True)


go_round(lab1.answer_or("euler_step"), "Euler")
plots.describe(
    "Arrows turn around the origin. Euler's points leave the exact circle and spiral outwards: "
    "with 24 steps to more than twice the radius in one turn, with 96 steps only a little."
)

# %% [markdown]
# <a id="about-heun-step"></a>
# ### Exercise {exercise:heun_step} · One Heun step ({points:heun_step} points)
#
# Euler trusts the velocity at the start of the step. **Heun's method** first takes Euler's step as a *guess* $X'$,
# looks up the velocity there, at the new time, and then moves from $x$ with the average of the two velocities. It asks
# the field twice per step. Soon we will measure what that buys.
#
# Write `heun_step(u, x, t, h)`, another step along [notes, eq. 1](#eq-flow).
#
# <details><summary>Hint</summary>
# Three lines: the velocity now; the velocity at the guess, at time <code>t + h</code>; the step from <code>x</code>
# with their average.
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
# **The same turn.** With the same numbers of steps, the points now stay on the circle.

# %%
go_round(lab1.answer_or("heun_step"), "Heun")
plots.describe(
    "The same field and circle. Heun's points lie on the circle, with 24 steps as with 96."
)

# %% [markdown]
# <a id="about-simulate"></a>
# ### Exercise {exercise:simulate} · The whole trajectory ({points:simulate} points)
#
# A step function knows one step. `simulate` repeats it along a grid of times `ts` and keeps every state. The times
# need not be evenly spaced.
#
# Write `simulate(step, x0, ts)`, the solution of [notes, eq. 1](#eq-flow) at all times, where `step(x, t, h)` advances
# the state from `t` to `t + h`.
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
# **A flow warps space.** The map $\psi_t$ that sends every starting point $x_0$ to its position $X_t$ is called the
# **flow**. Here a field that swirls, and changes with time, carries a square grid along. Lines bend but never cross:
# solutions of an ODE cannot meet, so the flow can be undone. Running the field backwards does exactly that.

# %%
def swirl(x, t):
    t = torch.as_tensor(t).to(x).reshape(-1, 1)
    turn = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    drift = torch.stack([torch.sin(2 * x[:, 1]), torch.cos(2 * x[:, 0])], dim=1)
    return 1.6 * torch.exp(-x.square().sum(1, keepdim=True) / 2) * turn + 0.5 * t * drift


heun = simulators.Heun().step
trajectory = lab1.answer_or("simulate")


def flow(x0, t):
    """The state at time t of every starting point."""
    ts = torch.linspace(0, t, 41)
    return x0 if t == 0 else trajectory(lambda x, s, h: heun(swirl, x, s, s + h), x0, ts)[-1]


fig, axes = plots.figure(columns=3)
for ax, t in zip(axes, (0.0, 0.5, 1.0), strict=True):
    plots.plot_vector_field(swirl, t, ax, extent=2.5, n=13)
    plots.plot_warped_grid(lambda x0, t=t: flow(x0, t), ax)
    ax.set_title(f"$t$ = {t:g}")
plots.describe(
    "A square grid at t = 0, twisted around its centre at t = 0.5 and more so at t = 1. Its lines "
    "bend, and no two of one family ever cross."
)

# %%
x0 = torch.randn(500, 2)
there = simulators.simulate(processes.ODE(swirl), x0, torch.linspace(0, 1, 41), simulators.RK4())
back = simulators.simulate(processes.ODE(swirl), there, torch.linspace(1, 0, 41), simulators.RK4())
distance = (back - x0).norm(dim=1).max()
print(f"largest distance from the start after going there and back: {distance:.1e}")

# %% [markdown]
# ### Exercise {exercise:linear_flow} · A flow in closed form ({points:linear_flow} points)
#
# To judge a simulator we need a flow that we know exactly. For a linear field there is one:
#
# <a id="eq-linear"></a>
# $$u_t(x) = -\theta x. \tag{notes, example 4}$$
#
# A state decays at a rate proportional to itself. Guess the function whose derivative is $-\theta$ times itself, and
# check that it starts at $x_0$.
#
# Write `linear_flow(x0, t, theta)`, the flow of [notes, example 4](#eq-linear).
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
# **Forgetting.** Whatever the start, the state decays to 0; the larger $\theta$, the faster.

# %%
exact_flow = lab1.answer_or("linear_flow")
ts, starts = torch.linspace(0, 2, 101), torch.linspace(-2, 2, 9)[:, None]
fig, axes = plots.figure(columns=3)
for ax, theta in zip(axes, (0.25, 1.0, 4.0), strict=True):
    states = torch.stack([exact_flow(starts, t, theta) for t in ts])
    plots.plot_paths(ts, states, ax, color=plots.BLUE, ls="-")
    ax.set_title(rf"exact flow, $\theta$ = {theta:g}")
plots.describe(
    "Nine starting points decay towards 0. For θ = 0.25 they have come less than half the way by "
    "t = 2, for θ = 1 most of it, and for θ = 4 all are at 0 soon after t = 1."
)

# %% [markdown]
# **Try it.** How many Euler steps does it take until you cannot tell the two curves apart? What happens when $\theta h$
# exceeds 1, and when it exceeds 2? Do the other methods fare better? (In a notebook that has just been opened this is a
# still picture: run the cell to get the sliders.)

# %%
widgets.step_size()

# %% [markdown]
# ### Exercise {exercise:convergence_order} · The order of a method ({points:convergence_order} points)
#
# Halve the step: how much smaller does the error get? If the error behaves like $C h^p$, the method has **order** $p$.
# On logarithmic axes
#
# <a id="eq-order"></a>
# $$\log(\text{error}) = \log C + p \log h$$
#
# is a straight line, and its slope is the order.
#
# Write `convergence_order(hs, errors)`: the $p$ of [this line](#eq-order), that is, the slope of the least-squares line
# through all the points $(\log h, \log \text{error})$.
#
# <details><summary>Hint</summary>
# The least-squares slope is the covariance of the two, divided by the variance of $\log h$. Subtract both means first.
# <code>numpy.polyfit</code> also does it: the first of the two numbers that it returns is the slope.
# </details>

# %% exercise="convergence_order"
def convergence_order(hs, errors):
    """The order p of errors C hᵖ.

    hs: (m,) step sizes, in any order. errors: (m,) positive errors. Returns one number.
    """
    ### BEGIN SOLUTION
    log_h = hs.log() - hs.log().mean()
    log_error = errors.log() - errors.log().mean()
    return (log_h * log_error).sum() / (log_h**2).sum()
    ### END SOLUTION


# %% check="convergence_order" points=3

# %% [markdown]
# **Measured.** Each method solves $\dot X = -\theta X$ with fewer and fewer steps, in double precision. Euler's
# error falls with $h$, Heun's with $h^2$, and the classical Runge–Kutta method RK4, at four looks per step, with
# $h^4$.

# %%
order_of = lab1.answer_or("convergence_order")
x0, theta = torch.tensor([[1.0]], dtype=torch.float64), 2.0
decay = processes.ODE(lambda x, t: -theta * x)
exact = exact_flow(x0, torch.tensor(1.0, dtype=torch.float64), theta)
hs = 0.5 ** torch.arange(3.0, 9.0, dtype=torch.float64)


def errors(method):
    grids = [torch.linspace(0, 1, round(1 / float(h)) + 1) for h in hs]
    ends = [simulators.simulate(decay, x0, ts, method) for ts in grids]
    return torch.stack([(end - exact).abs().max() for end in ends])


methods = {"Euler": simulators.Euler(), "Heun": simulators.Heun(), "RK4": simulators.RK4()}
measured = {name: errors(method) for name, method in methods.items()}
plots.plot_convergence(hs, measured, {"Euler": 1, "Heun": 2, "RK4": 4})
for name, values in measured.items():
    print(f"{name:6s} order {float(order_of(hs, values)):.2f}")
plots.describe(
    "Errors against the step size on logarithmic axes are three straight lines, of slopes 1 for "
    "Euler, 2 for Heun and 4 for RK4: the steeper the line, the more a smaller step buys."
)

# %% [markdown]
# ## 2 · Noise
#
# A flow sends equal starts to equal ends. Diffusion models let chance act all along the way, through
# **Brownian motion** $W_t$: it starts at 0, and its increment over any interval from $s$ to $t$ is Gaussian,
#
# <a id="eq-brownian"></a>
# $$W_t - W_s \sim N(0,\ t - s), \tag{notes, § 2.2}$$
#
# with variance $t - s$, and independent of what happens over intervals that do not overlap it.
#
# Variances of independent increments add up. So the *variance* of a small step is $h$, and its standard deviation is
# $\sqrt h$: the most important square root of this course.
#
# ### Exercise {exercise:brownian_paths} · Brownian paths ({points:brownian_paths} points)
#
# Write `brownian_paths(n, ts, sigma)`: $n$ paths of $\sigma W_t$, with the increments of
# [notes, § 2.2](#eq-brownian), at the times `ts`, which need not be evenly spaced.
#
# <details><summary>Hint</summary>
# Draw all increments at once with <code>torch.randn</code>, scale each by the square root of its interval, and sum
# them up with <code>cumsum</code>. Put the zero of the first time in front.
# </details>

# %% exercise="brownian_paths"
def brownian_paths(n, ts, sigma):
    """n paths of σW.

    ts: (T,) increasing times; every path is 0 at ts[0], whatever time that is. sigma: a number.
    Returns the paths, new ones at each call: (T, n), of which the first row is 0.
    """
    ### BEGIN SOLUTION
    h = ts.diff()[:, None]
    increments = sigma * h.sqrt() * torch.randn(len(h), n)
    return torch.cat([torch.zeros(1, n), increments.cumsum(0)])
    ### END SOLUTION


# %% check="brownian_paths" points=4

# %% [markdown]
# **Look closer.** Left: a few paths, and the band $\pm 2\sqrt t$ that holds about 95 % of them at each time. Right:
# where they stand at $t = 1$. The paths are continuous, yet jagged at every scale: a velocity does not exist.

# %%
paths_of = lab1.answer_or("brownian_paths")
ts = torch.linspace(0, 1, 501)
paths = paths_of(5000, ts, 1.0)
fig, axes = plots.figure(columns=2, width=4.6)
plots.plot_paths(ts, paths[:, :8], axes[0], color=plots.BLUE, ls="-")
plots.plot_band(ts, torch.zeros_like(ts), ts.sqrt(), axes[0], label="mean 0")
axes[0].set_ylabel("state $W_t$")
axes[0].legend(loc="upper left")
standard_normal = distributions.Gaussian([0.0], 1.0)
plots.plot_histogram(paths[-1], axes[1], lambda x: standard_normal.log_prob(x[:, None]).exp())
axes[1].set(title="at $t$ = 1", xlabel="state $W_1$")
axes[1].legend()
plots.describe(
    "Left: eight jagged paths from 0, most of them between two curves that open like the square "
    "root of time. Right: the histogram at t = 1 follows the standard normal density."
)

# %% [markdown]
# ## 3 · The Ornstein–Uhlenbeck process
#
# Add both ideas: a pull that follows a vector field, and noise that follows Brownian motion. That is a **stochastic
# differential equation** (SDE),
#
# <a id="eq-sde"></a>
# $$dX_t = u_t(X_t)\,dt + \sigma_t(X_t)\,dW_t. \tag{notes, eq. 7}$$
#
# Its best known example pulls every state towards 0 and shakes it all the time:
#
# <a id="eq-ou"></a>
# $$dX_t = -\theta X_t\,dt + \sigma\,dW_t. \tag{notes, eq. 8}$$
#
# ### Exercise {exercise:ou_drift} · The two coefficients ({points:ou_drift,ou_diffusion} points)
#
# Write the **drift** `ou_drift(x, t, theta)` and the **diffusion coefficient** `ou_diffusion(x, t, sigma)` of
# [notes, eq. 8](#eq-ou). The coefficient says how strong the noise is; the simulator brings the noise.
#
# <details><summary>Hint</summary>
# Read them off: the drift stands before <em>dt</em>, the diffusion coefficient before <em>dW</em>. No square roots, no
# random numbers.
# </details>

# %% exercise="ou_drift"
def ou_drift(x, t, theta):
    """Drift of the Ornstein–Uhlenbeck process.

    x: (n, *shape). t: a number, 0-dimensional or (n,). theta: a number. Returns (n, *shape).
    """
    ### BEGIN SOLUTION
    return -theta * x
    ### END SOLUTION


# %% check="ou_drift" points=1

# %% exercise="ou_diffusion"
def ou_diffusion(x, t, sigma):
    """Diffusion coefficient of the Ornstein–Uhlenbeck process.

    x: (n, *shape). t: a number, 0-dimensional or (n,). sigma: a number ≥ 0.
    Returns a number, or a tensor that multiplies x.
    """
    ### BEGIN SOLUTION
    return sigma
    ### END SOLUTION


# %% check="ou_diffusion" points=1

# %% [markdown]
# **One small step from several places.** The dots show how far the drift carries a state during a step $h$, the bars the
# spread $\pm\sigma\sqrt h$ of the noise around it. The noise is the same everywhere; the pull grows with the distance from 0.
# So far out a state is carried back, and near 0 it is shaken about.

# %%
drift_of, sigma_of = lab1.answer_or("ou_drift"), lab1.answer_or("ou_diffusion")
x, h = torch.linspace(-6, 6, 13)[:, None], 0.1
pull = h * drift_of(x, 0.0, 1.0)
spread = (torch.as_tensor(sigma_of(x, 0.0, 1.0)) * math.sqrt(h)).expand_as(x)
fig, (ax,) = plots.figure(width=7)
ax.axhline(0, color=plots.BLACK, lw=1)
ax.errorbar(x[:, 0], pull[:, 0], spread[:, 0], fmt="o", ls="", color=plots.RED, capsize=4)
ax.set(xlabel="state $x$", ylabel="change of the state")
ax.set_title("one step, $h$ = 0.1: pull (dots) ± noise (bars)")
ax.set_ylim(-1, 1)
plots.describe(
    "Thirteen dots on a falling line through 0, each with a bar of the same length. Far from 0 "
    "the pull back is larger than the noise; near 0 the noise is larger than the pull."
)

# %% [markdown]
# ### Exercise {exercise:ou_moments} · Its exact law ({points:ou_moments} points)
#
# The process is linear and the noise Gaussian, so $X_t$ is Gaussian too, and two numbers say everything. The mean
# forgets the start as the flow of exercise {exercise:linear_flow} does. The variance $v_t$ gains $\sigma^2$ per unit of time from the noise
# and loses $2\theta v_t$ to the pull:
#
# <a id="eq-variance"></a>
# $$\dot v_t = \sigma^2 - 2\theta v_t, \qquad v_0 = 0.$$
#
# Write `ou_moments(x0, t, theta, sigma)`, which returns the mean of $X_t$ given $X_0 = x_0$, and the variance, the
# solution of [this equation](#eq-variance).
#
# <details><summary>Hint</summary>
# Where does the variance stand still? Call that value $v_\infty$. The distance $v_\infty - v_t$ obeys a linear equation
# like that of exercise {exercise:linear_flow}, with the rate $2\theta$.
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


# %% check="ou_moments" points=3

# %% [markdown]
# **The law through time,** from $x_0 = 5$: the mean falls to 0 while the spread grows to its final width. Both happen at a
# pace that $\theta$ sets.

# %%
moments = lab1.answer_or("ou_moments")


def band(ax, ts, x0, theta, sigma):
    """Draw the mean ± 2 standard deviations of the process from x0."""
    pairs = [moments(torch.tensor([[x0]]), t, theta, sigma) for t in ts]
    mean = torch.stack([torch.as_tensor(mean).reshape(()) for mean, _ in pairs])
    variance = torch.stack([torch.as_tensor(variance).reshape(()) for _, variance in pairs])
    plots.plot_band(ts, mean, variance.sqrt(), ax, label="mean")


ts = torch.linspace(0, 20, 201)
fig, axes = plots.figure(columns=3)
for ax, theta in zip(axes, (0.1, 0.25, 1.0), strict=True):
    band(ax, ts, 5.0, theta, 1.0)
    ax.set(xlabel="time $t$", ylabel="state $X_t$", ylim=(-6, 10))
    ax.set_title(rf"$\theta$ = {theta:g}, $\sigma$ = 1")
    ax.legend(loc="upper right")
plots.describe(
    "From 5 the mean decays to 0 while the band around it widens to a constant width: slowly and "
    "wide for θ = 0.1, at once and narrow for θ = 1."
)

# %% [markdown]
# <a id="about-euler-maruyama-step"></a>
# ## 4 · Simulating an SDE
#
# Most SDEs have no closed form, and again small steps help. During one of them drift and coefficient hardly change, so
# the drift moves the state as in Euler's method, and the noise adds a Gaussian whose variance is $\sigma^2$ times the
# length of the step. This is the **Euler–Maruyama method**.
#
# ### Exercise {exercise:euler_maruyama_step} · One Euler–Maruyama step ({points:euler_maruyama_step} points)
#
# Write `euler_maruyama_step(drift, diffusion, x, t, h, noise)`, one step along [notes, eq. 7](#eq-sde), where `noise` is
# standard normal $\varepsilon$ of the shape of `x`, already drawn for you.
#
# <details><summary>Hint</summary>
# Euler's step, plus the increment of exercise {exercise:brownian_paths}. Both coefficients are evaluated at the start of the step.
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
# **Pull and noise.** The same $\theta = 0.25$ and four strengths of noise. At $\sigma = 0$ we are back at a flow; the
# stronger the noise, the wider the law that the paths settle into. The band is the exact law of exercise {exercise:ou_moments} for the
# topmost start, $x_0 = 5$.

# %%
em_step = lab1.answer_or("euler_maruyama_step")


def noisy_paths(drift, diffusion, x0, ts):
    states = [x0]
    for t, h in zip(ts[:-1], ts.diff(), strict=True):
        states.append(em_step(drift, diffusion, states[-1], t, float(h), torch.randn_like(x0)))
    return torch.stack(states)


x0 = torch.linspace(-5, 5, 9)[:, None]
fig, axes = plots.figure(columns=4, width=2.7)
for ax, sigma in zip(axes, (0.0, 0.5, 1.0, 2.0), strict=True):
    states = noisy_paths(lambda x, t: -0.25 * x, lambda x, t, sigma=sigma: sigma, x0, ts)
    plots.plot_paths(ts, states, ax, color=plots.BLUE, ls="-", alpha=0.6)
    band(ax, ts, 5.0, 0.25, sigma)
    ax.set(title=rf"$\sigma$ = {sigma:g}", ylim=(-9, 9))
axes[0].legend(loc="lower right")
plots.describe(
    "Without noise nine smooth curves run together at 0. The stronger the noise, the rougher the "
    "paths and the wider the band in which they stay, up to about ± 6 for σ = 2."
)

# %% [markdown]
# **Try it.** Move $\theta$ and $\sigma$. Which pairs of values give the same band for late times, and what still tells
# them apart? You will need the answer in question {exercise:ou_parameters}.

# %%
widgets.ornstein_uhlenbeck_paths()

# %% [markdown]
# ## 5 · How wrong is a simulated path?
#
# For an ODE there is one error. For an SDE there are two. Does each *path* stay close to its own exact path (**strong**
# error)? Or is only the *distribution* right (**weak** error), of which we shall look at the mean? A generative model
# needs only the second, and it is easier.
#
# To measure them we need an SDE whose noise depends on the state, and whose solution is known all the same. Geometric
# Brownian motion, the model of a share price, will do:
#
# <a id="eq-gbm"></a>
# $$dX_t = \mu X_t\,dt + \sigma X_t\,dW_t.$$
#
# Its logarithm is Brownian motion with a drift. The drift is not $\mu$ but $\mu - \sigma^2/2$: noise that multiplies
# moves the typical path down, even though the mean grows like $e^{\mu t}$. That is Itô's correction.
#
# ### Exercise {exercise:geometric_brownian_motion} · An exact solution ({points:geometric_brownian_motion} points)
#
# Write `geometric_brownian_motion(x0, t, w, mu, sigma)`: the solution $X_t$ of [the equation above](#eq-gbm) when the
# Brownian motion stands at $W_t = w$.
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


# %% check="geometric_brownian_motion" points=2

# %% [markdown]
# **One path, three step sizes.** All simulations below are driven by the same Brownian motion: the increment of a
# coarse step is the sum of the fine increments it spans.

# %%
mu, sigma, fine = 1.0, 0.8, 512
gbm = lab1.answer_or("geometric_brownian_motion")


def coarse_simulation(increments, steps):
    """States of Euler–Maruyama in few steps, driven by the fine increments of W, (fine, n)."""
    h = 1 / steps
    noise = increments.unflatten(0, (steps, -1)).sum(1) / math.sqrt(h)
    states = [torch.ones(increments.shape[1])]
    for k in range(steps):
        drift, diffusion = lambda x, t: mu * x, lambda x, t: sigma * x
        states.append(em_step(drift, diffusion, states[-1], k * h, h, noise[k]))
    return torch.stack(states)


increments = torch.randn(fine, 20_000) / math.sqrt(fine)
brownian = torch.cat([torch.zeros(1, 20_000), increments.cumsum(0)])
ts = torch.linspace(0, 1, fine + 1)
fig, (ax,) = plots.figure(width=7)
exact_path = gbm(torch.ones(fine + 1), ts, brownian[:, 0], mu, sigma)
ax.plot(ts, exact_path, color=plots.BLACK, ls="-", lw=1, label="exact")
for steps, style in ((4, "o-"), (16, "s--"), (128, "-.")):
    states = coarse_simulation(increments[:, :1], steps)[:, 0]
    color = {4: plots.BLUE, 16: plots.RED, 128: plots.GREEN}[steps]
    ax.plot(torch.linspace(0, 1, steps + 1), states, style, color=color, ms=5, label=f"{steps} steps")
ax.set(xlabel="time $t$", ylabel="state $X_t$")
ax.legend()
plots.describe(
    "With 4 steps the polygon misses most of the exact path, with 16 it follows it roughly, and "
    "with 128 only the highest peaks are cut: the path itself comes closer as the steps shrink."
)

# %% [markdown]
# ### Exercise {exercise:strong_error} · Strong error ({points:strong_error} points)
#
# The strong error of simulated end points $X^{(1)}, \dots, X^{(n)}$ against the exact ones $Y^{(1)}, \dots, Y^{(n)}$, driven
# by the same noise, is the mean distance
#
# <a id="eq-strong"></a>
# $$\text{strong error} = \mathbb E\,|X - Y|.$$
#
# Write `strong_error(x, y)`, [this mean](#eq-strong) over the samples.
#
# <details><summary>Hint</summary>
# Distance first, then mean.
# </details>

# %% exercise="strong_error"
def strong_error(x, y):
    """Mean distance between simulated states x: (n,) and exact states y: (n,) on the same paths.

    Returns one number.
    """
    ### BEGIN SOLUTION
    return (x - y).abs().mean()
    ### END SOLUTION


# %% check="strong_error" points=2

# %% [markdown]
# **The errors of 20 000 paths.** With 16 times as many steps the errors are about four times smaller, not sixteen.

# %%
strong = lab1.answer_or("strong_error")
exact_ends = gbm(torch.ones(20_000), 1.0, brownian[-1], mu, sigma)
fig, axes = plots.figure(columns=2, width=4.6)
for ax, steps in zip(axes, (8, 128), strict=True):
    ends = coarse_simulation(increments, steps)[-1]
    plots.plot_histogram(ends - exact_ends, ax, bins=torch.linspace(-2, 2, 81).tolist())
    ax.set(title=f"{steps} steps: strong error {float(strong(ends, exact_ends)):.3f}", xlim=(-2, 2))
    ax.set(xlabel="error of one path, $X - Y$")
plots.describe(
    "Two histograms of errors around 0: wide and skewed to the left for 8 steps, and about four "
    "times narrower for 128 steps."
)

# %% [markdown]
# ### Exercise {exercise:weak_error} · Weak error ({points:weak_error} points)
#
# The weak error compares averages, not paths:
#
# <a id="eq-weak"></a>
# $$\text{weak error} = |\mathbb E X - \mathbb E Y|.$$
#
# Errors of single paths may cancel.
#
# Write `weak_error(x, y)`, [this distance](#eq-weak) for samples.
#
# <details><summary>Hint</summary>
# Mean first, then distance.
# </details>

# %% exercise="weak_error"
def weak_error(x, y):
    """Distance between the means of simulated states x: (n,) and exact states y: (n,).

    Returns one number.
    """
    ### BEGIN SOLUTION
    return (x.mean() - y.mean()).abs()
    ### END SOLUTION


# %% check="weak_error" points=2

# %% [markdown]
# **Measured.** For the same simulations, the strong error falls like $\sqrt h$ and the weak error like $h$: halving the
# step halves the weak error, but it takes a quarter of the step to halve the strong one.

# %%
weak = lab1.answer_or("weak_error")
counts = (8, 16, 32, 64, 128)
hs = torch.tensor([1 / steps for steps in counts])
ends = [coarse_simulation(increments, steps)[-1] for steps in counts]
measured = {
    "strong error": torch.tensor([float(strong(end, exact_ends)) for end in ends]),
    "weak error": torch.tensor([float(weak(end, exact_ends)) for end in ends]),
}
plots.plot_convergence(hs, measured, {"strong error": 0.5, "weak error": 1})
for name, values in measured.items():
    print(f"{name:13s} order {float(order_of(hs, values)):.2f}")
plots.describe(
    "On logarithmic axes both errors fall along straight lines. The weak error lies below the "
    "strong one and falls with slope 1, the strong error with slope one half."
)

# %% [markdown]
# ## 6 · Noise that samples: Langevin dynamics
#
# So far the SDE was given and we asked where it ends. Now turn the question around: given a density $p$, find an SDE
# that leaves it as it is. The answer needs only the **score** $\nabla \log p(x)$, the direction in which the density
# grows fastest:
#
# <a id="eq-langevin"></a>
# $$dX_t = \tfrac12 \sigma^2\, \nabla \log p(X_t)\,dt + \sigma\,dW_t. \tag{summary, § 3.3}$$
#
# The drift climbs towards likely states, the noise shakes them loose, and at the right ratio of the two the density
# stays put. Run it from anywhere for long enough and it draws samples from $p$.
#
# ### Exercise {exercise:langevin_drift} · The Langevin drift ({points:langevin_drift} points)
#
# Write `langevin_drift(score, sigma)`, which returns the drift of [summary, § 3.3](#eq-langevin) *as a function* of
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
# **Sampling a mixture.** Two thousand particles start in one corner. They climb the density towards the nearest of three
# Gaussians, and the noise carries them on to the others. The energy distance to fresh samples of the mixture measures how
# close they have come. Even two fresh sets are not at distance 0; the number printed below says what chance alone gives.

# %%
drift_from = lab1.answer_or("langevin_drift")
mixture = distributions.GaussianMixture(
    means=[[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]],
    covs=[[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.2]]],
    weights=[0.3, 0.4, 0.3],
)
dynamics = processes.SDE(drift_from(mixture.score, 1.5), 1.5)
ts, shown = torch.linspace(0, 20, 1001), (0, 25, 1000)
start = torch.tensor([-2.0, 2.0]) + 0.2 * torch.randn(2000, 2)
states = simulators.simulate(dynamics, start, ts, record=shown)
fresh = mixture.sample(2000)
fig, axes = plots.figure(columns=3)
for ax, k, x in zip(axes, shown, states, strict=True):
    plots.plot_density(mixture.log_prob, ax)
    plots.plot_samples(x, ax, color=plots.RED)
    distance = metrics.energy_distance(x, fresh)
    ax.set_title(f"$t$ = {ts[k]:g}, energy distance {distance:.3f}", fontsize=10)
floor = metrics.energy_distance(mixture.sample(2000), fresh)
print(f"two fresh sets of samples: energy distance {floor:.3f}")
plots.describe(
    "Particles start as a small cloud away from the mixture. At t = 0.5 they have reached the "
    "nearest of its three hills, and at t = 20 they cover all three as the density does."
)

# %% [markdown]
# **In motion.** Press *Play*, or move the slider with the mouse or the arrow keys. The particles rush to the nearest hill
# and take much longer to find the others: the frames cover ever longer stretches of time.

# %%
frames = (1000 * torch.linspace(0, 1, 30) ** 2).round().int().tolist()
moving = simulators.simulate(
    dynamics, start[:400], ts, record=frames, generator=torch.Generator().manual_seed(0)
)
plots.animate_samples(
    ts[frames],
    moving,
    "Particles leave their corner at once for the nearest of three hills. Single ones then cross "
    "to the other two, until all three hold their share; there they go on jittering.",
    lambda x, t: mixture.log_prob(x),
)

# %% [markdown]
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab1.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab1.progress()

# %% [markdown]
# ## 7 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:ou_parameters} · What $\theta$ and $\sigma$ do ({points:ou_parameters} points)
#
# Look at the figure of exercise {exercise:euler_maruyama_step} and at the slider. What does $\theta$ do to the paths of an Ornstein–Uhlenbeck
# process, and what does $\sigma$ do? Which combination of the two fixes the law for late times, and how can two
# processes with the same late law still look different?

# %% [markdown] answer="ou_parameters" points=3
# ### BEGIN SOLUTION
# $\theta$ is the rate of forgetting: the mean decays like $e^{-\theta t}$, so the memory of a path lasts for a time of
# about $1/\theta$. $\sigma$ is the strength of the noise; at $\sigma = 0$ the paths are the smooth curves of a flow. The
# late law is $N(0, \sigma^2/(2\theta))$, so the ratio $\sigma^2/\theta$ fixes it. If both $\theta$ and $\sigma^2$ are
# multiplied by the same factor, the late law stays the same, but the paths run through it that much faster: they look
# rougher over the same stretch of time and settle earlier.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:ou_is_langevin} · Ornstein–Uhlenbeck is Langevin ({points:ou_is_langevin} points)
#
# Show that the Ornstein–Uhlenbeck process is Langevin dynamics for its own stationary law: write down the score of
# $N(0, \sigma^2/(2\theta))$, put it into the Langevin equation with the same $\sigma$, and compare. What does this say about
# a process that is started in that law?

# %% [markdown] answer="ou_is_langevin" points=4
# ### BEGIN SOLUTION
# For $p = N(0, v)$ with $v = \sigma^2/(2\theta)$ we have $\log p(x) = -x^2/(2v) + \text{const}$, so the score is
# $-x/v = -2\theta x/\sigma^2$. The Langevin drift is $\tfrac12\sigma^2 \cdot (-2\theta x/\sigma^2) = -\theta x$, which is the
# Ornstein–Uhlenbeck drift, and the noise is the same. Langevin dynamics leave $p$ invariant, so a process that starts in
# $N(0, \sigma^2/(2\theta))$ has that law at all times: single paths move for ever, their distribution does not.
# ### END SOLUTION

# %% [markdown]
# ## 8 · From here to generative models
#
# A **flow model** is all of section 1 with a neural network as the vector field: draw $X_0 \sim N(0, I)$, follow the
# network from $t = 0$ to $t = 1$, and hope that $X_1$ looks like data. A **diffusion model** adds the noise of section 4
# on the way; with $\sigma = 0$ it *is* a flow model, number by number. The network below has not been trained, so it moves
# the points somewhere, but nowhere useful. Giving it the right field is the subject of labs 2 and 3.

# %%
network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
network.requires_grad_(False)


def u_theta(x, t):
    """A neural network as a vector field: it sees the state and the time."""
    t = torch.as_tensor(t).to(x).reshape(-1, 1)
    return 3 * network(torch.cat([x, t.expand(len(x), 1)], dim=1))


x0, ts = torch.randn(1500, 2), torch.linspace(0, 1, 51)
fig, axes = plots.figure(columns=3)
plots.plot_samples(x0, axes[0]).set_title("$X_0$, noise")
for ax, sigma in zip(axes[1:], (0.0, 0.7), strict=True):
    x1 = simulators.simulate(processes.SDE(u_theta, sigma), x0, ts)
    plots.plot_samples(x1, ax).set_title(rf"$X_1$, $\sigma$ = {sigma:g}")
for ax in axes:
    ax.set(xlim=(-5, 5), ylim=(-5, 5))
flow_model = simulators.simulate(processes.ODE(u_theta), x0, ts)
diffusion_model = simulators.simulate(processes.SDE(u_theta, 0.0), x0, ts)
print("the diffusion model with σ = 0 is the flow model:", torch.equal(diffusion_model, flow_model))
plots.describe(
    "A round cloud of noise on the left. The untrained network moves and squeezes it a little, "
    "and with noise on the way it ends wider; neither end looks like data."
)
