# %% [markdown]
# # Lab 3 · Flow matching
#
# In lab 2 the field that carries noise to data was exact, because the data were a mixture that we knew. Of real data we
# have nothing but samples. This lab learns the field from samples alone: **flow matching**, the method behind many of
# the image and video generators of today. By the end you will have written its loss, seen why it works, trained a
# network in less than half a minute, drawn samples from it, measured how good they are and what density they have, and
# made its trajectories so straight that a single step is enough.
#
# **How to work.** As before: replace `raise NotImplementedError` by a few lines of code, run the cell, then run the
# check below it. A figure follows each exercise. It uses your function once its check has passed, and fmlab's until
# then. Stuck? `lab3.hint("conditional_flow_matching_loss")` gives up to three hints, one at a time.
#
# **Notation.** Time runs from noise, $t = 0$, to data, $t = 1$. $z$ is a batch of data points, shape $(n, \dots)$: vectors
# or images. $\varepsilon$ is standard normal noise of the same shape, $x_t = \alpha_t z + \beta_t \varepsilon$ the state
# in between, with the noise schedule $\alpha_t, \beta_t$ and its derivatives $\dot\alpha_t, \dot\beta_t$. A field
# `u(x, t)` takes `t` as a number, as a 0-dimensional tensor or as one of shape $(n,)$, a time for each row; so do
# networks, for a network is a field. *Notes* means
# [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/), *intro* the text *Diffusion
# Models Intro*. The lab is worth {points:all} points, {points:code} of them for code.

# %%
import math

import torch

from fmlab import distributions, likelihood, losses, metrics, models, paths, plots
from fmlab import samplers, schedules, simulators, threads, training
from fmlab.checks import lab3
from fmlab.schedules import coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · A regression
#
# We want a network $u_t^\theta(x)$ that equals the marginal field $u_t(x)$. The natural loss is the mean squared error,
#
# <a id="eq-fm"></a>
# $$\mathcal L_{\mathrm{FM}}(\theta) = \mathbb E\,\|u_t^\theta(x_t) - u_t(x_t)\|^2, \tag{notes, eq. 24}$$
#
# but its target is an average over all data that could have led to $x_t$, and we cannot compute that. So
# ask for less: draw a data point $z$ first, and regress on the field that leads to *this* point,
#
# $$\mathcal L_{\mathrm{CFM}}(\theta) = \mathbb E\,\|u_t^\theta(x_t) - u_t(x_t \mid z)\|^2. \tag{notes, eq. 26}$$
#
# Along the path $x_t = \alpha_t z + \beta_t\varepsilon$ the conditional field is the velocity of the
# state, and the **conditional flow matching loss** becomes
#
# <a id="eq-cfm"></a>
# $$\mathcal L_{\mathrm{CFM}}(\theta) = \mathbb E\,\|u_t^\theta(\alpha_t z + \beta_t\varepsilon) -
# (\dot\alpha_t z + \dot\beta_t\varepsilon)\|^2. \tag{notes, eq. 31}$$
#
# It is the same number as with the formula in $x$ and $z$ of lab 2, but nothing is divided by $\beta_t$, so that no digits
# are lost near $t = 1$. The norm is the sum over all coordinates of a point; the expectation is the mean over the batch.
#
# ### Exercise {exercise:conditional_flow_matching_loss} · The conditional flow matching loss ({points:conditional_flow_matching_loss} points)
#
# Write `conditional_flow_matching_loss(u, z, t, noise, schedule)`, the loss of [notes, eq. 31](#eq-cfm). Data, times and
# noise have been drawn for you, so the loss is one definite number. There is one time for the whole batch or one for each
# point; `schedule.weights(t, z)` returns $\alpha_t, \beta_t, \dot\alpha_t, \dot\beta_t$ in the shape that multiplies `z`, be
# it points in the plane or images. Hand `t` itself on to the model as it is.
#
# <details><summary>Hint</summary>
# State, target, model, error: four lines. <code>flatten(1)</code> makes each point a row, whatever its shape was. Gradients
# must be able to flow from the loss to the model, so return the tensor.
# </details>

# %% exercise="conditional_flow_matching_loss"
def conditional_flow_matching_loss(u, z, t, noise, schedule):
    """The conditional flow matching loss of a model on one batch.

    u: the model, u(x, t) → like x. z, noise: (n, *shape) data and standard normal noise.
    t: times from 0 to 1, ends included: a number, a 0-dimensional tensor, or (n,), one for each point.
    schedule: a noise schedule.
    Returns a scalar tensor, of shape (), whose gradients reach the model: the squared error, summed over coordinates,
    averaged over the batch.
    """
    ### BEGIN SOLUTION
    alpha, beta, alpha_dot, beta_dot = schedule.weights(t, z)
    x, target = alpha * z + beta * noise, alpha_dot * z + beta_dot * noise
    return (u(x, t) - target).flatten(1).square().sum(1).mean()
    ### END SOLUTION


# %% check="conditional_flow_matching_loss" points=5

# %% [markdown]
# **Even the true field has a loss.** For the mixture below we know the marginal field exactly. At each time the figure shows
# the loss of three guesses: no motion at all, the straight way to the mean of the data, and the marginal field. The last
# is the lowest everywhere, but it is far from 0. Something remains that no model can get rid of.

# %%
condot = schedules.CondOT()
mixture = distributions.GaussianMixture([[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]], 0.1)
exact_field = paths.GaussianPath(condot).marginal(mixture).vector_field


conditional_loss = lab3.answer_or("conditional_flow_matching_loss")
z, noise, ts = mixture.sample(20_000), torch.randn(20_000, 2), torch.linspace(0, 1, 26)
guesses = {
    "no motion": lambda x, t: torch.zeros_like(x),
    "to the mean": lambda x, t: mixture.mean - x,
    "marginal field": exact_field,
}
fig, (ax,) = plots.figure(width=6)
for label, u in guesses.items():
    values = [float(conditional_loss(u, z, t, noise, condot).detach()) for t in ts]
    ax.plot(ts, values, label=label)
ax.set(xlabel="time $t$", ylabel="conditional loss at time $t$", ylim=(0, None))
ax.legend()
plots.describe(
    "The loss of no motion is constant at about 5, that of going to the mean rises from 3 to "
    "above 13, and that of the marginal field stays lowest, but never below about 1.7."
)

# %% [markdown]
# **What remains.** Many pairs $(z, \varepsilon)$ pass through the same place, each in its own direction (left). A
# network that sees only $x_t$ and $t$ cannot tell them apart. The best it can answer under a *squared* error is their
# average: the middle panel averages the targets within small squares. That average is the marginal field (right).

# %%
t, side = torch.tensor(0.5), 0.4
pair = mixture.sample(100_000), torch.randn(100_000, 2)
x = paths.GaussianPath().interpolate(*pair, t)
velocity = paths.GaussianPath().velocity(*pair, t)
cells, owner, counts = (x / side).round().unique(dim=0, return_inverse=True, return_counts=True)
average = torch.zeros(len(cells), 2).index_add(0, owner, velocity) / counts[:, None]
often = counts > 150
centres = side * cells[often]
arrows = {
    "targets of 150 pairs": (x[:150], velocity[:150]),
    "averages within squares": (centres, average[often]),
    "marginal field": (centres, exact_field(centres, t)),
}
fig, axes = plots.figure(columns=3)
for ax, (title, (place, arrow)) in zip(axes, arrows.items(), strict=True):
    places, lengths = plots.array(place), plots.array(arrow)
    ax.quiver(*places.T, *lengths.T, color=plots.BLUE, angles="xy", scale=24, width=0.006)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
plots.describe(
    "Left: arrows in all directions, crossing each other. Middle and right: the same smooth "
    "pattern of short arrows, once averaged from the pairs and once from the formula."
)

# %% [markdown]
# ## 2 · Why it works
#
# If the answer to the easy question is the solution of the hard one, the two losses should have the same minimum. More is
# true: they are the same function of $\theta$, up to a constant,
#
# $$\mathcal L_{\mathrm{FM}}(\theta) = \mathcal L_{\mathrm{CFM}}(\theta) + C, \qquad
# C = \mathbb E\,\|u_t(x_t)\|^2 - \mathbb E\,\|u_t(x_t \mid z)\|^2. \tag{notes, thm. 12}$$
#
# So their gradients agree, and gradient descent cannot tell which of them it follows. A theorem about expectations
# can be measured, where the marginal field is known.
#
# ### Exercise {exercise:marginal_flow_matching_loss} · The marginal loss ({points:marginal_flow_matching_loss} points)
#
# Write `marginal_flow_matching_loss(u, z, t, noise, schedule, field)`: the loss of
# [notes, eq. 24](#eq-fm) on the same states $x_t$, where
# `field(x, t)` is the exact marginal field.
#
# <details><summary>Hint</summary>
# Only the target of exercise {exercise:conditional_flow_matching_loss} changes. The state is still made from <code>z</code> and <code>noise</code>.
# </details>

# %% exercise="marginal_flow_matching_loss"
def marginal_flow_matching_loss(u, z, t, noise, schedule, field):
    """The flow matching loss of a model against a known marginal field, on one batch.

    field: the marginal field, field(x, t) → like x. The other arguments, and the result, are
    those of `conditional_flow_matching_loss`: z, noise: (n, *shape); t: a number, a
    0-dimensional tensor, or (n,) times from 0 to 1.
    """
    ### BEGIN SOLUTION
    alpha, beta, _, _ = schedule.weights(t, z)
    x = alpha * z + beta * noise
    return (u(x, t) - field(x, t)).flatten(1).square().sum(1).mean()
    ### END SOLUTION


# %% check="marginal_flow_matching_loss" points=3

# %% [markdown]
# **Two losses, one valley.** The models $u_t^\theta(x) = \theta\,u_t(x)$ are the exact field, too slow or too fast. Both
# losses are parabolas in $\theta$ with their minimum at $\theta = 1$. One lies above the other by $-C$, which is what
# remained in the first figure.

# %%
marginal_loss = lab3.answer_or("marginal_flow_matching_loss")
n = 100_000
batch = mixture.sample(n), torch.rand(n), torch.randn(n, 2), condot
scales = torch.linspace(-0.5, 2.5, 31)
conditional, marginal = [], []
for scale in scales:
    u = lambda x, t, scale=scale: scale * exact_field(x, t)
    conditional.append(float(conditional_loss(u, *batch)))
    marginal.append(float(marginal_loss(u, *batch, exact_field)))

z, t, noise, _ = batch
x = paths.GaussianPath().interpolate(z, noise, t)
constant = float(exact_field(x, t).square().sum(1).mean() - (z - noise).square().sum(1).mean())
fig, (ax,) = plots.figure(width=6)
ax.plot(scales, conditional, label="conditional loss")
ax.plot(scales, marginal, label="marginal loss")
ax.axhline(-constant, color=plots.BLACK, ls=":", lw=1.2, label="$-C$")
ax.set(xlabel=r"$\theta$", ylabel="loss", ylim=(0, None))
ax.legend(loc="upper center")
plots.describe(
    "Two parabolas of the same shape with their minimum at θ = 1. The marginal loss touches 0 "
    "there; the conditional loss is higher by the same constant everywhere, about 3.1."
)

# %% [markdown]
# **In numbers,** for models that have nothing to do with the true field: the difference of the losses is always $-C$ (up
# to the chance in these 100 000 draws), and the gradients with respect to the weights of a model
# $\theta_1 x + \theta_2 t x + \theta_3$ agree.

# %%
print(f"−C = {-constant:.2f}")
some_models = {
    "no motion": lambda x, t: torch.zeros_like(x),
    "to the mean": lambda x, t: mixture.mean - x,
    "in circles": lambda x, t: torch.stack([-x[:, 1], x[:, 0]], dim=1),
}
for name, u in some_models.items():
    pair = float(conditional_loss(u, *batch)), float(marginal_loss(u, *batch, exact_field))
    print(f"{name:12s} conditional {pair[0]:5.2f}   marginal {pair[1]:5.2f}   difference {pair[0] - pair[1]:.2f}")

theta = torch.tensor([0.5, -1.0, 0.2], requires_grad=True)
model = lambda x, t: theta[0] * x + theta[1] * coefficient(t, x) * x + theta[2]
both = {"conditional": conditional_loss(model, *batch)}
both["marginal"] = marginal_loss(model, *batch, exact_field)
for name, value in both.items():
    gradient = torch.autograd.grad(value, theta)[0].tolist()
    print(f"gradient of the {name:11s} loss: " + "  ".join(f"{g:6.2f}" for g in gradient))

# %% [markdown]
# ## 3 · What the regression finds
#
# The minimiser of a squared error is a conditional mean: $u_t(x) = \mathbb E[\dot\alpha_t z + \dot\beta_t\varepsilon
# \mid x_t = x]$. For Gaussian data we can work it out. Target and state are then jointly Gaussian, and the mean of one
# given the other is the regression line
#
# <a id="eq-regression"></a>
# $$\mathbb E[y \mid x] = \mathbb E y + \frac{\mathrm{Cov}(y, x)}{\mathrm{Var}(x)}\,(x - \mathbb E x),$$
#
# in each coordinate, because they are independent.
#
# ### Exercise {exercise:optimal_vector_field} · The best field for Gaussian data ({points:optimal_vector_field} points)
#
# Write `optimal_vector_field(x, t, mean, std)`, [this line](#eq-regression) for data $z \sim N(m, s^2 I)$ on CondOT, where
# $x_t = t z + (1 - t)\varepsilon$ and the target is $y = z - \varepsilon$.
#
# <details><summary>Hint</summary>
# $z$ and $\varepsilon$ are independent with variances $s^2$ and 1, so $\mathrm{Cov}(a z + b\varepsilon, c z + d\varepsilon) =
# a c\,s^2 + b d$. Two tests: the field starts as $m - x$ at $t = 0$, and ends as $x$ at $t = 1$.
# </details>

# %% exercise="optimal_vector_field"
def optimal_vector_field(x, t, mean, std):
    """The marginal field of the CondOT path for data N(mean, std² I).

    x: (n, *shape) states. t: times from 0 to 1: a number, a 0-dimensional tensor, or (n,).
    mean: (*shape). std: a number. Returns (n, *shape).
    """
    ### BEGIN SOLUTION
    t = coefficient(t, x)
    covariance = t * std**2 - (1 - t)
    variance = t**2 * std**2 + (1 - t) ** 2
    return mean + covariance / variance * (x - t * mean)
    ### END SOLUTION


# %% check="optimal_vector_field" points=4

# %% [markdown]
# **Found by regression.** Data $N(1, 0.6^2)$ on the line. Left: targets against states at $t = 0.4$, the least-squares line
# through them, and your formula. Right: the slope of that line at many times. No field was used to make the dots, only
# pairs of data and noise.

# %%
best_field = lab3.answer_or("optimal_vector_field")
mean, std = torch.tensor([1.0]), 0.6
z, noise = mean + std * torch.randn(20_000, 1), torch.randn(20_000, 1)


def least_squares(t):
    """States and targets at time t, with slope and intercept of the line through them."""
    x, target = t * z + (1 - t) * noise, z - noise
    slope = ((x - x.mean()) * (target - target.mean())).mean() / x.var()
    return x, target, slope, target.mean() - slope * x.mean()


fig, axes = plots.figure(columns=2, width=4.6)
x, target, slope, intercept = least_squares(0.4)
grid = torch.linspace(-1, 2.4, 2)[:, None]
axes[0].plot(x[:1500], target[:1500], "o", ms=1.5, ls="", color=plots.SKY, label="pairs")
axes[0].plot(grid, slope * grid + intercept, color=plots.RED, ls="--", lw=3, label="least squares")
axes[0].plot(grid, best_field(grid, 0.4, mean, std), color=plots.BLACK, ls="-", label="formula")
axes[0].set(xlabel="state $x_t$", ylabel=r"target $z - \varepsilon$", title="$t$ = 0.4")
axes[0].legend(markerscale=4)
ts, ends = torch.linspace(0, 1, 101), torch.tensor([[0.0], [1.0]])
few = torch.linspace(0, 1, 21)
slopes = [float(best_field(ends, t, mean, std).diff(dim=0)) for t in ts]
axes[1].plot(few, [least_squares(t)[2] for t in few], "o", ls="", color=plots.RED, label="least squares")
axes[1].plot(ts, slopes, color=plots.BLACK, ls="-", label="formula")
axes[1].set(xlabel="time $t$", ylabel="slope", title="slope of the best line")
axes[1].legend()
plots.describe(
    "Left: a cloud of pairs, falling to the right, on which the line of least squares and the "
    "formula coincide. Right: the slopes found at 21 times lie on the formula's curve, from −1 up "
    "to 1."
)

# %% [markdown]
# ## 4 · Training
#
# A network is fitted by gradient descent: draw a batch, compute the loss and its gradient, let the optimiser take a step. The
# plainest one goes down the gradient,
#
# <a id="eq-step"></a>
# $$\theta \leftarrow \theta - \eta\, \nabla_\theta \mathcal L(\theta). \tag{notes, algorithm 3}$$
#
# PyTorch *adds* each new gradient to what is already stored, so what earlier steps have left must be cleared first.
#
# ### Exercise {exercise:train_step} · One training step ({points:train_step} points)
#
# Write `train_step(model, loss, optimizer)`, one step of [notes, algorithm 3](#eq-step). `loss(model)` draws a batch and returns the loss; each call draws anew. Return
# the value of the loss before the step, as a plain number for a curve.
#
# <details><summary>Hint</summary>
# The optimiser knows <code>zero_grad()</code> and <code>step()</code>, the loss knows <code>backward()</code>. A loss that
# carries its graph keeps a whole batch in memory; <code>.item()</code> takes the number out of it.
# </details>

# %% exercise="train_step"
def train_step(model, loss, optimizer):
    """One step of gradient descent.

    model: a network, torch.nn.Module. loss: a function loss(model) → scalar tensor, on a batch
    that it draws anew at each call. optimizer: a torch.optim optimiser of the model's weights.
    Returns the loss before the step, a number without a graph.
    """
    ### BEGIN SOLUTION
    value = loss(model)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()
    ### END SOLUTION


# %% check="train_step" points=3

# %% [markdown]
# **First on an easy target:** a small network and the Gaussian $N(m, s^2 I)$ in the plane, of which we know everything. In each
# coordinate the state leaves the target with the variance $s^2/(t^2 s^2 + (1-t)^2)$, whose integral over $t$ is
# $\pi s/2$. So the loss cannot fall below $\pi s$ (dotted). It falls to that line, and the network has then found the best
# field (right, along the axis $x_2 = 0$, where 95 % of the states are).

# %%
step = lab3.answer_or("train_step")
mean, std = torch.tensor([1.0, -0.5]), 0.5
small = models.MLP(2, width=32, depth=3)
adam = torch.optim.Adam(small.parameters(), lr=5e-3)


def easy_loss(model):
    z = mean + std * torch.randn(500, 2)
    return conditional_loss(model, z, torch.rand(500), torch.randn(500, 2), condot)


curve = [step(small, easy_loss, adam) for _ in range(800)]
fig, axes = plots.figure(columns=2, width=4.6)
axes[0].plot(curve, color=plots.BLUE, ls="-", lw=0.7, label="loss of each step")
axes[0].axhline(math.pi * std, color=plots.BLACK, ls=":", lw=2, label=r"$\pi s$")
axes[0].set(xlabel="step", ylabel="conditional loss", ylim=(0, 5))
axes[0].legend()
for t, marker in ((0.1, "o"), (0.5, "s"), (0.9, "D")):
    reach = 2 * math.sqrt(t**2 * std**2 + (1 - t) ** 2)
    first = t * mean[0] + reach * torch.linspace(-1, 1, 15)
    line = torch.stack([first, torch.zeros(15)], dim=1)
    axes[1].plot(first, best_field(line, t, mean, std)[:, 0], color=plots.BLACK, ls="-", lw=1)
    learned = plots.array(small(line, t))[:, 0]
    axes[1].plot(first, learned, marker, ms=5, ls="", label=f"$t$ = {t:g}")
axes[1].set(xlabel="$x_1$", ylabel="first component", title="learned (dots) and best field (lines)")
axes[1].legend()
plots.describe(
    "Left: the loss falls within 50 steps from 3.5 to the dotted line and jitters about it. "
    "Right: the learned values lie close to the lines of the best field at t = 0.1 and 0.5, and "
    "nearly so at 0.9."
)

# %% [markdown]
# **Now the checkerboard.** It needs more steps, and two refinements that `training.train` adds to your step. The learning rate
# starts high and falls to 0 along a cosine: large steps first, fine ones later. And what is kept is a running average of the
# weights (EMA), which evens out the jitter that every single batch brings in. The next cell takes about 20 seconds.

# %%
board = distributions.Checkerboard()
pool = board.sample(100_000)  # the "data set"; nothing else is known about the board


def draw(data, n):
    return data[torch.randint(len(data), (n,))]


def board_loss(model):
    n = 1500
    return conditional_loss(model, draw(pool, n), torch.rand(n), torch.randn(n, 2), condot)


network = training.train(models.MLP(2, width=80), board_loss, steps=2500)

# %% [markdown]
# **Where can the loss go?** The loss of a flow matching model is not a percentage; only its distance from the constant
# $-C$ means something. For the board the posterior of $z$ is a normal cut off at the edges of its cells, so the exact field
# has a closed form too. The cell below computes it, and with it the loss that no network can beat. (You need not read it. The curve dips
# below that line now and then only because every batch is drawn at random.)

# %%
def exact_board_field(x, t):
    """The marginal field of the checkerboard on CondOT. x: (n, 2); t: in (0, 1)."""
    x, t = x.double(), torch.as_tensor(t).double().expand(len(x))[:, None, None]
    edges = (torch.arange(-2.0, 3.0) * t - x[:, :, None]) / (1 - t)  # of the columns and rows
    mass = torch.special.ndtr(edges).diff(dim=2)
    bell = torch.exp(-(edges**2) / 2).diff(dim=2) / math.sqrt(2 * math.pi)
    moment = x[:, :, None] / t * mass - (1 - t) / t * bell
    dark = torch.eye(2, dtype=torch.float64).repeat(2, 2)
    both = [(moment[:, 0], mass[:, 1]), (mass[:, 0], moment[:, 1]), (mass[:, 0], mass[:, 1])]
    first, second, total = (torch.einsum("ni,nj,ij->n", a, b, dark) for a, b in both)
    data = torch.stack([first / total, second / total], dim=1)
    return ((data - x) / (1 - t[:, :, 0])).float()


n = 100_000
z, t, noise = board.sample(n), torch.rand(n).clamp(1e-4, 1 - 1e-4), torch.randn(n, 2)
least = float(conditional_loss(exact_board_field, z, t, noise, condot))
with torch.no_grad():
    reached = float(conditional_loss(network, z, t, noise, condot))
smooth = torch.tensor(network.history).unflatten(0, (-1, 50)).mean(1)
fig, (ax,) = plots.figure(width=6)
ax.plot(50 * torch.arange(len(smooth)), smooth, color=plots.BLUE, ls="-", label="mean over 50 steps")
ax.axhline(least, color=plots.BLACK, ls=":", lw=2, label="exact field")
ax.set(xlabel="step", ylabel="conditional loss", title="training on the checkerboard")
ax.legend()
print(f"on fresh data: loss of the network {reached:.3f}, of the exact field {least:.3f}")
plots.describe(
    "The loss falls steeply at first and then slowly, to the dotted line of the exact field, "
    "around which it ends: little is left to learn."
)

# %% [markdown]
# ## 5 · Sampling
#
# The network now stands where exact fields stood before. Draw noise, and follow the network to $t = 1$:
#
# <a id="eq-sampling"></a>
# $$\frac{d}{dt} X_t = u_t^\theta(X_t), \qquad X_0 \sim N(0, I). \tag{notes, algorithm 1}$$
#
# ### Exercise {exercise:sample_flow} · Sampling a flow ({points:sample_flow} points)
#
# Write `sample_flow(u, x0, ts)`: the end points of [notes, algorithm 1](#eq-sampling), by Euler's method with one step per
# interval of `ts`, which need not be evenly spaced, and may decrease. A sampler needs no gradients. If PyTorch records them
# all the same, every step keeps its activations, and the memory grows with the number of steps.
#
# <details><summary>Hint</summary>
# A loop over pairs of neighbouring times, under <code>torch.no_grad()</code>, which can also stand above the function as a
# decorator. Only the last state is returned.
# </details>

# %% exercise="sample_flow"
def sample_flow(u, x0, ts):
    """The end points of Euler's method along a field.

    u: field u(x, t), such as a network. x0: (n, *shape) states at ts[0]. ts: (T,) times,
    increasing or decreasing. Returns the states at ts[-1], (n, *shape), without a gradient
    graph, of which no part is kept on the way.
    """
    ### BEGIN SOLUTION
    x = x0
    with torch.no_grad():
        for t, t_next in zip(ts[:-1], ts[1:]):
            x = x + (t_next - t) * u(x, t)
    return x
    ### END SOLUTION


# %% check="sample_flow" points=3

# %% [markdown]
# **Truth and model, through time** (after figure 7 of the notes). Top: states $x_t = t z + (1 - t)\varepsilon$ made from fresh
# data. Bottom: noise, carried along by the network. The two rows agree at *every* time, not only at the end: the model
# has learned the whole path. What comes last is the hardest: the sharp edges of the cells are made close to $t = 1$.

# %%
sampler = lab3.answer_or("sample_flow")
shown = (0.0, 0.25, 0.5, 0.75, 1.0)
n = 40_000
truth = [paths.GaussianPath().sample(board.sample(n), t) for t in shown]
model_states = [torch.randn(n, 2)]
for start, end in zip(shown[:-1], shown[1:], strict=True):
    model_states.append(sampler(network, model_states[-1], torch.linspace(start, end, 26)))

fig, axes = plots.figure(columns=5, rows=2, width=2.2, height=2.3)
for k, (ax, x) in enumerate(zip(axes, truth + model_states, strict=True)):
    ax.hist2d(*plots.array(x).T, bins=75, range=[[-3, 3], [-3, 3]])
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    if k < 5:
        ax.set_title(f"$t$ = {shown[k]:g}")
axes[0].set_ylabel("truth $p_t$")
axes[5].set_ylabel("model")
plots.describe(
    "Two rows of five histograms that look alike at every time: a round cloud until t = 0.5, then "
    "the cells of a checkerboard. The model's cells have softer edges."
)

# %% [markdown]
# **In motion.** The model moves noise to data. Press *Play*, or move the slider with the mouse or the arrow keys.

# %%
ts = torch.linspace(0, 1, 25)
cloud = torch.randn(800, 2, generator=torch.Generator().manual_seed(0))
plots.animate_samples(
    ts,
    samplers.sample_flow(network, cloud, ts, record=True),
    "A round cloud of points first draws together, then parts into eight blobs, which become the "
    "cells of a checkerboard just before t = 1.",
)

# %% [markdown]
# **Straight, and not straight.** Left: conditional paths, each straight from its noise to its data point. They cross as
# they like. Right: trajectories of the network. No two of them are ever at the same place at the same time, since the
# field has one value there, and so they bend: first towards the middle, then out to a cell. (Question {exercise:when_not_straight} will ask you why.)

# %%
ts = torch.linspace(0, 1, 51)
starts = torch.randn(60, 2)
straight = torch.lerp(starts, board.sample(60), ts[:, None, None])
bent = samplers.sample_flow(network, starts, ts, record=True)
fig, axes = plots.figure(columns=2, width=4.2, height=4)
for ax, states, title in zip(axes, (straight, bent), ("conditional paths", "marginal trajectories"), strict=True):
    plots.plot_trajectories(states, ax)
    ax.set(title=title, xlim=(-3, 3), ylim=(-3, 3))
axes[1].legend(loc="lower right", frameon=True)
plots.describe(
    "Left: straight lines from starts to ends that cross everywhere. Right: curves that first run "
    "towards the middle and then turn outwards."
)

# %% [markdown]
# ## 6 · How good, at what price?
#
# Two clouds of points look alike. How alike? The **energy distance** between the distributions of $X$ and $Y$ is
#
# <a id="eq-energy"></a>
# $$D = 2\,\mathbb E\|X - Y\| - \mathbb E\|X - X'\| - \mathbb E\|Y - Y'\|,$$
#
# where $X'$ and $Y'$ are independent copies. It is 0 if the distributions are the same, and positive otherwise: points of
# two different clouds are, on average, further apart than points of one.
#
# ### Exercise {exercise:energy_distance} · The energy distance ({points:energy_distance} points)
#
# Write `energy_distance(x, y)`, [this $D$](#eq-energy) for two sets of samples. Each expectation becomes the mean over *all* pairs of points, those of
# a point with itself included. The sets may differ in size.
#
# <details><summary>Hint</summary>
# <code>torch.cdist(a, b)</code> holds all distances between the rows of two matrices. Images become rows by
# <code>flatten(1)</code>.
# </details>

# %% exercise="energy_distance"
def energy_distance(x, y):
    """Energy distance between two sets of samples. x: (n, *shape), y: (m, *shape).

    Returns one number.
    """
    ### BEGIN SOLUTION
    def mean_distance(a, b):
        return torch.cdist(a.flatten(1), b.flatten(1)).mean()

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)
    ### END SOLUTION


# %% check="energy_distance" points=3

# %% [markdown]
# **Steps against quality.** What a sample costs is the number of network calls: one per step for Euler, two for the midpoint rule
# and for Heun. The shaded band is what chance gives between two sets of fresh data. The second-order methods are as good
# as they get after about ten calls; Euler needs nearly ten times as many. Past that point more steps buy nothing: what is
# left is the error of the network.

# %%
distance = lab3.answer_or("energy_distance")
same = torch.Generator().manual_seed(0)  # the same points in every run of this notebook
fresh, x0 = board.sample(3000, same), torch.randn(3000, 2, generator=same)
by_chance = torch.tensor([float(distance(board.sample(3000, same), fresh)) for _ in range(8)])
floor = float(by_chance.mean())
solvers = {"Euler": simulators.Euler(), "midpoint": simulators.Midpoint(), "Heun": simulators.Heun()}
calls = (2, 4, 8, 16, 32, 64, 128)
fig, (ax,) = plots.figure(width=6)
for marker, (name, method) in zip("osD", solvers.items(), strict=True):
    steps = [k if name == "Euler" else k // 2 for k in calls]
    ends = [samplers.sample_flow(network, x0, k, method) for k in steps]
    ax.loglog(calls, [float(distance(x, fresh)) for x in ends], marker=marker, label=name)
ax.axhspan(float(by_chance.min()), float(by_chance.max()), color=plots.BLACK, alpha=0.15, label="fresh data")
ax.set(xlabel="network calls per sample", ylabel="energy distance to the data")
ax.set_xticks(calls, [str(k) for k in calls])
ax.minorticks_off()
ax.legend()
plots.describe(
    "On logarithmic axes the distances fall with the number of calls: those of midpoint and Heun "
    "reach their lowest value at 8 calls, that of Euler at 64. All end slightly above the band of "
    "fresh data."
)

# %% [markdown]
# ## 7 · The density of a flow
#
# A flow gives more than samples. It also says how likely a given point is, which is rare among generative models. Follow the
# density of one particle on its way. Where the flow spreads, particles thin out, at the rate of the divergence:
#
# $$\frac{d}{dt}\log p_t(X_t) = -\operatorname{div} u_t(X_t). \tag{intro, ch. 2}$$
#
# At $t = 0$ the density is known. So take a point $x$ at $t = 1$, follow the flow *back* to $X_0$, and collect what happened
# on the way:
#
# <a id="eq-likelihood"></a>
# $$\log p_1(x) = \log p_0(X_0) - \int_0^1 \operatorname{div} u_t(X_t)\,dt, \qquad X_1 = x,\quad p_0 = N(0, I).$$
#
# ### Exercise {exercise:log_likelihood} · The log-likelihood ({points:log_likelihood} points)
#
# Write `log_likelihood(u, divergence, x, ts)`, by [the last equation](#eq-likelihood). Walk the times `ts` backwards by Euler's method: each step leaves a state and a
# time, evaluates field and divergence *there*, and adds the step's share to the integral.
#
# <details><summary>Hint</summary>
# <code>ts.flip(0)</code> runs backwards. Collect the integral before you move the state. In $d$ dimensions
# $\log N(x; 0, I) = -\tfrac12\|x\|^2 - \tfrac d2\log 2\pi$, where $d$ counts all coordinates of a point.
# </details>

# %% exercise="log_likelihood"
def log_likelihood(u, divergence, x, ts):
    """log p(x) at time ts[-1] under the flow that starts from N(0, I) at time ts[0].

    u: field u(x, t) → like x. divergence: its divergence, a function of (x, t) → (n,).
    x: (n, *shape) points. ts: (T,) increasing times. Returns (n,).
    """
    ### BEGIN SOLUTION
    integral = 0.0
    for t, t_before in zip(ts.flip(0)[:-1], ts.flip(0)[1:]):
        integral = integral + (t - t_before) * divergence(x, t)
        x = x - (t - t_before) * u(x, t)
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1) - integral
    ### END SOLUTION


# %% check="log_likelihood" points=5

# %% [markdown]
# **On the exact field of the mixture** the flow must give back the density of the mixture itself. It does, with an error that
# falls with the step, as Euler's does. The divergence comes from automatic differentiation.

# %%
log_density = lab3.answer_or("log_likelihood")


def density_at(u, x, steps):
    """log p_1(x) under the flow of u, in that many steps back."""
    with torch.no_grad():
        divergence = lambda x, t: likelihood.divergence(u, x, t)
        return log_density(u, divergence, x, torch.linspace(0, 1, steps + 1))


x = mixture.sample(500)
for steps in (25, 100, 400):
    error = (density_at(exact_field, x, steps) - mixture.log_prob(x)).abs().mean()
    print(f"{steps:4d} steps: mean error of log p {float(error):.4f}")

# %% [markdown]
# **On the network:** the density that our trained model gives to each place, and that of the board, 1/8 on its dark cells.
# The network rounds corners and leaves thin bridges between cells. On average over data, no model can have a higher
# log-likelihood than the true density, $-\log 8 = -2.08$; the gap is the Kullback–Leibler divergence from data to model.

# %%
side = 72
x = plots.lattice(2.7, side)
maps = {"network": density_at(network, x, 100), "checkerboard": board.log_prob(x)}
fig, axes = plots.figure(columns=2, width=4.2, height=3.6)
for ax, (title, values) in zip(axes, maps.items(), strict=True):
    image = plots.array(values.exp()).reshape(side, side).T
    picture = ax.imshow(image, origin="lower", extent=(-2.7, 2.7, -2.7, 2.7), vmin=0, vmax=0.2)
    ax.grid(False)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$")
_ = fig.colorbar(picture, ax=axes, label="density")
average = float(density_at(network, board.sample(2000), 100).mean())
print(f"mean log-likelihood of fresh data: {average:.2f}, at best {-math.log(8):.2f}")
plots.describe(
    "The network's density has a hill on each of the eight dark cells, with rounded corners and "
    "faint bridges between them; the true density is flat with sharp edges."
)

# %% [markdown]
# ## 8 · From any data to any data
#
# Nothing in section 1 needed the start to be noise. Take two data sets, pair their points at random, and
# join each pair by a straight line that is run through at constant speed. The same regression then learns a flow from one
# distribution to the other.
#
# <a id="about-linear-path"></a>
# ### Exercise {exercise:linear_path} · The linear path ({points:linear_path} points)
#
# Write `linear_path(x0, x1, t)`: the state at time $t$ on the way from $x_0$ to $x_1$, and the velocity there. They take the
# places of state and target in [notes, eq. 31](#eq-cfm).
#
# <details><summary>Hint</summary>
# This is CondOT with $x_0$ in the place of the noise. <code>coefficient(t, x0)</code> shapes the times.
# </details>

# %% exercise="linear_path"
def linear_path(x0, x1, t):
    """The straight line from x0 to x1, and its velocity.

    x0, x1: (n, *shape). t: times from 0 to 1, ends included: a number, a 0-dimensional
    tensor, or (n,). Returns (state, velocity), both (n, *shape).
    """
    ### BEGIN SOLUTION
    t = coefficient(t, x0)
    return (1 - t) * x0 + t * x1, x1 - x0
    ### END SOLUTION


# %% check="linear_path" points=2

# %% [markdown]
# **From two moons to a checkerboard.** Same network, same training, another start (about 8 seconds). The last panel
# follows single particles.

# %%
line_of = lab3.answer_or("linear_path")
moons = distributions.Moons()
moon_pool = moons.sample(100_000)


def transport_loss(model):
    t = torch.rand(1000)
    x, velocity = line_of(draw(moon_pool, 1000), draw(pool, 1000), t)
    return (model(x, t) - velocity).square().sum(1).mean()


transport = training.train(models.MLP(2), transport_loss, steps=1200)
ts = torch.linspace(0, 1, 41)
states = samplers.sample_flow(transport, moons.sample(4000), ts, record=True)
fig, axes = plots.figure(columns=3, rows=2, width=3.2, height=3.2)
for ax, k in zip(axes, (0, 10, 20, 30, 40), strict=False):
    plots.plot_samples(states[k], ax).set_title(f"$t$ = {ts[k]:g}")
plots.plot_trajectories(states[:, :80], axes[5]).set_title("80 trajectories")
for ax in axes:
    ax.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7))
plots.describe(
    "Two half moons at t = 0 spread over a square by t = 0.5 and gather in eight blobs, the cells "
    "of a checkerboard, at t = 1. The trajectories run outwards and bend a little."
)

# %% [markdown]
# ## 9 · Reflow: straight at last
#
# An Euler step is exact along a straight line run through at constant speed. The lines we train on are straight, the
# trajectories we get are not, and so a single step fails. At $t = 0$ the field is the mean of the data minus $x$,
# whatever $x$ is, and one step takes every noise to that mean.
#
# **Rectified flow** (Liu, Gong and Liu, 2022) trains a second time. The pairs are no longer random: each noise $x_0$ is paired
# with the end point $x_1$ to which the *first* flow carries it. These pairs follow trajectories that do not cross. Join them
# by straight lines, and regress on those:
#
# <a id="eq-reflow"></a>
# $$\mathcal L(\theta) = \mathbb E\,\|u_t^\theta((1 - t)x_0 + t x_1) - (x_1 - x_0)\|^2.$$
#
# ### Exercise {exercise:reflow} · Reflow, a challenge ({points:reflow} points)
#
# Write `reflow(sample, x0)`, where `sample(x0)` runs the first flow. Sampling is expensive, so make each pair *once*, before
# the loss is asked for. Return a function `loss(u, k, t)`: [the loss above](#eq-reflow) of a model on the pairs with the
# numbers `k`, at the times `t`.
#
# <details><summary>Hint</summary>
# A function defined inside yours can use <code>x0</code> and <code>x1</code>; <code>x0[k]</code> picks rows by a tensor of
# whole numbers. The pairs are data: no gradient should lead back into <code>sample</code>. The path is that of exercise {exercise:linear_path}.
# </details>

# %% exercise="reflow"
def reflow(sample, x0):
    """The straight-line loss on the pairs that a trained flow makes.

    sample: the trained flow, sample(x0) → like x0, also for some rows of x0.
    x0: (N, *shape) starting points.
    Returns a function loss(u, k, t) of a model u(x, t), whole numbers k: (n,), and times t
    from 0 to 1: a number, a 0-dimensional tensor, or (n,). It returns a scalar tensor, whose
    gradients reach the model: summed over coordinates, averaged over the n pairs.
    """
    ### BEGIN SOLUTION
    x1 = sample(x0).detach()

    def loss(u, k, t):
        s = coefficient(t, x0)
        x = (1 - s) * x0[k] + s * x1[k]
        return (u(x, t) - (x1[k] - x0[k])).flatten(1).square().sum(1).mean()

    return loss
    ### END SOLUTION


# %% check="reflow" points=5

# %% [markdown]
# **Before and after.** Twenty thousand pairs from the network of section 4, then about 8 seconds of training. Left: trajectories.
# Right: what *one* Euler step makes of noise. The table measures it. The curvature is the mean length of the
# trajectories over the mean distance of their ends, minus 1. The price: the second network learns from the first one's
# samples, and inherits its errors.

# %%
noise = torch.randn(20_000, 2)
rectified_loss = lab3.answer_or("reflow")(lambda x0: samplers.sample_flow(network, x0, 20), noise)
rectified = training.train(
    models.MLP(2),
    lambda model: rectified_loss(model, torch.randint(len(noise), (1000,)), torch.rand(1000)),
    steps=1200,
)
fig, axes = plots.figure(columns=4, width=3, height=3.2)
print("                 curvature   energy distance after 1, 2, 4, 64 Euler steps")
for k, (name, u) in enumerate({"network": network, "after reflow": rectified}.items()):
    trajectories = samplers.sample_flow(u, x0[:500], 64, record=True)
    plots.plot_trajectories(trajectories[:, :60], axes[2 * k]).set_title(name)
    ends = [sampler(u, x0, torch.linspace(0, 1, steps + 1)) for steps in (1, 2, 4, 64)]
    plots.plot_samples(ends[0], axes[2 * k + 1]).set_title(f"{name}, one step")
    distances = "  ".join(f"{float(distance(x, fresh)):.4f}" for x in ends)
    print(f"{name:15s}  {float(metrics.path_curvature(trajectories)):9.4f}   {distances}")
print(f"{'fresh data':15s}  {'':9s}   {floor:.4f} on average")
for ax in axes:
    ax.set(xlim=(-3, 3), ylim=(-3, 3), ylabel="")
plots.describe(
    "The first network's trajectories bend, and its single step puts all points near the origin. "
    "After reflow they are nearly straight, and a single step already draws the checkerboard."
)

# %% [markdown]
# ## 10 · Choices in practice
#
# **Which times to train on, which path?** Four short runs, the same but for one choice. The theory holds for any density
# of times that is positive on $[0, 1]$. Stopping at 0.8 leaves the last fifth of the way unlearned, and that is where the
# cells of the board are made. The other choices are about as good as uniform times here: repeat with another seed, and
# their order changes.

# %%
uniform = losses.uniform()
choices = {
    "CondOT, uniform times": (schedules.CondOT(), uniform),
    "CondOT, times up to 0.8": (schedules.CondOT(), losses.uniform(0, 0.8)),
    "CondOT, logit-normal times": (schedules.CondOT(), lambda n, g: torch.randn(n).sigmoid()),
    "Cosine, uniform times": (schedules.Cosine(), uniform),
}
print(f"{'':28s} energy distance (fresh data: 1)")
for name, (schedule, times) in choices.items():
    path = paths.GaussianPath(schedule)
    loss = lambda model, path=path, times=times: losses.flow_matching_loss(
        model, path, draw(pool, 1000), times=times
    )
    short = training.train(models.MLP(2), loss, steps=600)
    ends = samplers.sample_flow(short, x0, 32)
    print(f"{name:28s} {float(distance(ends, fresh)) / floor:5.1f}")

# %% [markdown]
# **When clipping matters.** For CondOT the regression target $z - \varepsilon$ is harmless at all times. For $\beta_t = \sqrt{1 - t}$
# it is not: $\dot\beta_t$ is infinite at $t = 1$, the target's second moment diverges, and single batches have enormous
# losses, so that training never settles. Stopping at $t = 0.99$ helps there. So does a better schedule.

# %%
class SquareRoot(schedules.CondOT):
    """α = t, β = √(1 − t)."""

    def beta(self, t):
        return (1 - t).sqrt()

    def beta_dot(self, t):
        return -0.5 / (1 - t).sqrt()


print("loss of 'no motion' over 500 batches:     mean   largest")
for schedule in (condot, SquareRoot()):
    for last in (1.0, 0.99):
        values = []
        for _ in range(500):
            z, noise, t = draw(pool, 1000), torch.randn(1000, 2), last * torch.rand(1000)
            target = paths.GaussianPath(schedule).velocity(z, noise, t)
            values.append(float(target.square().sum(1).mean()))
        name = f"{type(schedule).__name__}, times up to {last:g}"
        print(f"{name:38s} {sum(values) / 500:7.2f} {max(values):9.1f}")

# %% [markdown]
# **Which solver, which grid?** Sixteen network calls, spent in different ways on the network of section 4. A second-order method
# is worth far more than a clever grid.

# %%
even = torch.linspace(0, 1, 9)
grids = {"even": even, "fine near the noise": even**1.5, "fine near the data": 1 - (1 - even) ** 1.5}
ends = {"Euler, 16 even steps": samplers.sample_flow(network, x0, 16, simulators.Euler())}
for name, grid in grids.items():
    ends[f"midpoint, 8 steps, {name}"] = samplers.sample_flow(network, x0, grid)
print(f"{'':40s} energy distance (fresh data: 1)")
for name, x in ends.items():
    print(f"{name:40s} {float(distance(x, fresh)) / floor:5.1f}")

# %% [markdown]
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab3.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab3.progress()

# %% [markdown]
# ## 11 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:when_not_straight} · Straight lines, bent trajectories ({points:when_not_straight} points)
#
# Every conditional path of CondOT is a straight line. Why are the trajectories of the learned flow not straight? What does
# reflow change, so that they are, and why does that make one step enough?

# %% [markdown] answer="when_not_straight" points=4
# ### BEGIN SOLUTION
# The conditional lines of random pairs cross. Where they do, the marginal field is the average of their velocities over
# the posterior of $z$ given $x_t$, and this average changes along the way: near $t = 0$ the state says almost nothing
# about $z$, so the field points to the mean of the data; later the posterior concentrates on one cell, and the field turns
# there. A trajectory of the marginal field therefore follows one average after the other and bends. Reflow replaces the random
# pairs by those that the flow itself makes. Its trajectories cannot cross, and the lines between such pairs (nearly) do not
# cross either; then only one line passes through each state, the average is over a single velocity, and the marginal
# field is constant along each line. Euler's method has no error on a straight line at constant speed, so one step suffices.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:why_conditional_works} · The easy question and the hard one ({points:why_conditional_works} points)
#
# We wanted the marginal field, but regressed on the conditional one, which is a different and random target for the same $x_t$.
# Why does the network learn the marginal field all the same? Why does its loss not go to 0, and how can you then tell
# that training is done?

# %% [markdown] answer="why_conditional_works" points=3
# ### BEGIN SOLUTION
# The minimiser of a squared error is the conditional mean of the target given what the model sees. The model sees
# $x_t$ and $t$, and the mean of $u_t(x_t \mid z)$ over all $z$ that could have led there is, by definition, the marginal
# field. In terms of the losses: $\mathcal L_{\mathrm{CFM}} = \mathcal L_{\mathrm{FM}} - C$ where $C$ does not depend on $\theta$, so
# gradients and minimisers are the same. At the minimum $\mathcal L_{\mathrm{FM}} = 0$, and the conditional loss equals $-C$, the
# variance of the target that $x_t$ leaves open, which is positive as soon as several pairs pass through one state. Only the
# distance from $-C$ counts. Where $-C$ is not known, one looks at a loss that no longer falls, and at the samples.
# ### END SOLUTION

# %% [markdown]
# ## 12 · What comes next
#
# You have trained a flow model with nothing but samples, and know its field, its samples, its density and its price. The same
# network knows one thing more: on a Gaussian path the score is a linear function of the field. So the flow that you trained can
# be turned into a diffusion, with any amount of noise, without training again. That is the subject of lab 4.
