# %% [markdown] writes="the loss, training, sampling, energy distance, densities, reflow" needs="labs 1 and 2; how a network is trained"
# # Lab 3 · Flow matching
#
# In lab 2 the field that carries noise to data was exact, because the data came from a mixture that we knew. Of real data
# we have only samples. This lab learns the field from samples: **flow matching**, the method behind many of today's
# generators of images and videos. You will write its loss, see why it works, train a network in half a minute,
# draw samples, and measure how good they are and how likely.
#
# **How to work.** As before: replace `raise NotImplementedError` by a few lines of code, run the cell, then run the
# check below it. Figures use your function once its check has passed, and fmlab's until
# then. Stuck? `lab3.hint("batch_loss")` gives up to three hints. Where the text says **predict**, type a
# guess before you run on; it is compared with the result and never graded. The exercises of sections 8 and 9
# are *further*: leave them out if time is short; no later exercise needs them.
#
# | letter | meaning | section |
# |---|---|---|
# | $t$ | time: noise at 0, data at 1 | all |
# | $z$, $\varepsilon$ | a batch of data points, $(n, \dots)$, vectors or images; standard normal noise of the same shape | 1 |
# | $\alpha_t, \beta_t$ | the noise schedule, with derivatives $\dot\alpha_t, \dot\beta_t$; for CondOT $t$ and $1 - t$ | 1 |
# | $x_t$ | the state $\alpha_t z + \beta_t\varepsilon$ | 1 |
# | $u_t(x \mid z)$, $u_t(x)$ | the conditional and the marginal field of lab 2 | 1 |
# | $u_t^\theta(x)$ | the field of a network with weights $\theta$; in code `u(x, t)` or `model(x, t)` | 1 |
# | $C$ | the difference of two losses | 2 |
# | $m$, $s$ | mean and standard deviation of Gaussian data | 3, 4 |
# | $X_t$, $p_t$ | a state that is moved along a field; its density | 5, 7 |
# | $D$; $X$, $Y$ | the energy distance; points of the two sets that it compares | 6 |
# | $x_0, x_1$ | start and end of a straight line (beside axes: coordinates) | 8, 9 |
#
# A field takes `t` as a number, as a tensor of shape `()`, or in the shape `(n,)`, one time for each row of `x`. *Notes*
# means [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/). The lab is worth
# {points:all} points, {points:code} of them for code.

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
# To generate data we need the marginal field, so a network has to learn it. The natural loss is the mean squared error,
#
# <a id="eq-fm"></a>
# $$\mathcal L_{\mathrm{FM}}(\theta) = \mathbb E\,\|u_t^\theta(x_t) - u_t(x_t)\|^2, \tag{notes, eq. 24}$$
#
# but its target is an average over all data that could have led to $x_t$, which we cannot compute. Instead, draw a data
# point $z$ first, and regress on the field that leads to *this* point,
#
# $$\mathcal L_{\mathrm{CFM}}(\theta) = \mathbb E\,\|u_t^\theta(x_t) - u_t(x_t \mid z)\|^2. \tag{notes, eq. 26}$$
#
# Along $x_t = \alpha_t z + \beta_t\varepsilon$ the conditional field is the velocity of the state. This gives the **conditional [flow matching](../words.md#flow-matching) loss**
#
# <a id="eq-cfm"></a>
# $$\mathcal L_{\mathrm{CFM}}(\theta) = \mathbb E\,\|u_t^\theta(\alpha_t z + \beta_t\varepsilon) -
# (\dot\alpha_t z + \dot\beta_t\varepsilon)\|^2. \tag{notes, eq. 31}$$
#
# Unlike the formula in $x$ and $z$ of lab 2 it does not divide by $\beta_t$, so it is accurate near $t = 1$ too. The
# squared norm is the sum over all coordinates of a point; the expectation is the mean over the batch.
#
# ### Exercise {exercise:conditional_flow_matching_loss} · The conditional flow matching loss ({points:conditional_flow_matching_loss} points)
#
# Write `conditional_flow_matching_loss(u, z, t, noise, schedule)`: [the loss above](#eq-cfm), for data, times and noise that
# are given. `schedule.weights(t, z)` returns $\alpha_t, \beta_t, \dot\alpha_t, \dot\beta_t$ in the shape that multiplies
# `z`. Pass `t` itself to the model unchanged: one time for the whole batch or one for each point.
#
# <details><summary>Hint</summary>
# <code>flatten(1)</code> makes each point a row, whatever its shape was. Gradients must flow from the loss to the model, so
# return the tensor.
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
# **Even the exact field has a loss.** For the mixture below we know the marginal field. The figure shows, at each time,
# the loss of three fields: no motion, the straight way to the mean of the data, and the marginal field. The last loss is
# never above the others, but far from 0. No model can remove what remains.

# %%
condot = schedules.CondOT()
mixture = distributions.GaussianMixture([[-1.5, -1.0], [1.5, -0.5], [0.0, 1.5]], 0.1)
exact_field = paths.GaussianPath(condot).marginal(mixture).vector_field
conditional_loss = lab3.answer_or("conditional_flow_matching_loss")
fields = {
    "no motion": lambda x, t: torch.zeros_like(x),
    "to the mean": lambda x, t: mixture.mean - x,
    "marginal field": exact_field,
}

# %% figure="the loss of three fields at each time"
z, noise, ts = mixture.sample(20_000), torch.randn(20_000, 2), torch.linspace(0, 1, 26)
fig, (ax,) = plots.figure(width=6)
for label, u in fields.items():
    ax.plot(ts, [float(conditional_loss(u, z, t, noise, condot).detach()) for t in ts], label=label)
ax.set(xlabel="time $t$", ylabel="conditional loss at time $t$", ylim=(0, None))
ax.legend()
plots.describe(
    "The loss of no motion is constant at about 5, that of going to the mean rises from 3 to "
    "above 13, and that of the marginal field stays lowest, but never below about 1.7."
)

# %% [markdown]
# **What remains.** Many pairs $(z, \varepsilon)$ pass through the same place, each with its own velocity (left). A
# network that is given only $x_t$ and $t$ cannot tell these pairs apart. For a *squared* error its best answer is the
# average of their velocities. Averages within small squares (middle) are close to the marginal field (right).

# %% figure="velocities of pairs, their averages, and the marginal field"
t, side = torch.tensor(0.5), 0.4
pair = mixture.sample(100_000), torch.randn(100_000, 2)
x, velocity = paths.GaussianPath().interpolate(*pair, t), paths.GaussianPath().velocity(*pair, t)
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
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal")
plots.describe(
    "All at t = 0.5. Left: arrows in all directions, crossing each other. Middle and right: the same smooth "
    "pattern of short arrows, once averaged from the pairs and once from the formula."
)

# %% [markdown]
# ## 2 · Why it works
#
# We want the minimum of one loss and minimise another. That is safe: they are the same function of $\theta$ up to a
# constant,
#
# <a id="eq-constant"></a>
# $$\mathcal L_{\mathrm{FM}}(\theta) = \mathcal L_{\mathrm{CFM}}(\theta) + C, \qquad
# C = \mathbb E\,\|u_t(x_t)\|^2 - \mathbb E\,\|u_t(x_t \mid z)\|^2. \tag{notes, thm. 12}$$
#
# So their gradients agree, and gradient descent on one is gradient descent on the other. For our mixture both can be
# measured, here for the field that never moves.

# %%
z, t, noise = mixture.sample(100_000), torch.rand(100_000), torch.randn(100_000, 2)
x = paths.GaussianPath(condot).interpolate(z, noise, t)


def both_losses(u):
    """The conditional and the marginal loss of a field, at the same 100 000 states."""
    return conditional_loss(u, z, t, noise, condot), (u(x, t) - exact_field(x, t)).square().sum(1).mean()


constant = float(exact_field(x, t).square().sum(1).mean() - (z - noise).square().sum(1).mean())  # C
print("no motion: conditional loss {:.2f}, marginal loss {:.2f}".format(*both_losses(fields["no motion"])))

# %% [markdown]
# **Predict** from these two numbers and [the theorem](#eq-constant): how low can the conditional loss of *any* field get?

# %%
lowest = ...  # your guess, a number

# %% [markdown]
# **Two parabolas.** The fields $u_t^\theta(x) = \theta\,u_t(x)$ are the exact field, too slow or too fast by a factor. Both
# losses have their minimum at $\theta = 1$. There the marginal loss is 0, so that the conditional loss is $-C$.

# %% figure="two losses that differ by a constant"
scales = torch.linspace(-0.5, 2.5, 31)
pairs = [both_losses(lambda x, t, scale=scale: scale * exact_field(x, t)) for scale in scales]
conditional, marginal = torch.tensor(pairs).T
lab3.compare("the lowest conditional loss", lowest, float(conditional.min()))
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
# **For any field** the losses differ by $-C$, up to the random error of 100 000 draws. The gradients in the weights of a
# model $\theta_1 x + \theta_2 t x + \theta_3$ agree in the same way.

# %%
fields["in circles"] = lambda x, t: torch.stack([-x[:, 1], x[:, 0]], dim=1)
print(f"−C = {-constant:.2f}")
for name in ("no motion", "to the mean", "in circles"):
    first, second = both_losses(fields[name])
    print(f"{name:12s} conditional {first:5.2f}   marginal {second:5.2f}   difference {first - second:.2f}")

theta = torch.tensor([0.5, -1.0, 0.2], requires_grad=True)
model = lambda x, t: theta[0] * x + theta[1] * coefficient(t, x) * x + theta[2]
for name, value in zip(("conditional", "marginal"), both_losses(model)):
    gradient = torch.autograd.grad(value, theta)[0].tolist()
    print(f"gradient of the {name:11s} loss: " + "  ".join(f"{g:6.2f}" for g in gradient))

# %% [markdown]
# ## 3 · What the regression finds
#
# Before we trust a network, we solve one case by hand. The minimiser of a squared error is a conditional mean, here that of
# the target given the state. On CondOT these are $z - \varepsilon$ and
# $x_t = t z + (1 - t)\varepsilon$. If the data are Gaussian, both are jointly Gaussian, and the mean of
# one given the other is the regression line
#
# <a id="eq-regression"></a>
# $$\mathbb E[z - \varepsilon \mid x_t] = \mathbb E[z - \varepsilon] +
# \frac{\mathrm{Cov}(z - \varepsilon, x_t)}{\mathrm{Var}(x_t)}\,(x_t - \mathbb E\,x_t),$$
#
# in each coordinate, because the coordinates are independent.
#
# ### Exercise {exercise:optimal_vector_field} · The best field for Gaussian data ({points:optimal_vector_field} points)
#
# For data $z \sim N(m, s^2 I)$, work out the means, the covariance and the variance in
# [the regression line](#eq-regression) on paper, and write `optimal_vector_field(x, t, mean, std)`.
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
# **Found by regression.** Data $N(1, 0.6^2)$ on the line. Left: targets and states at $t = 0.4$; the least-squares line,
# which has the smallest sum of squared errors; and your formula. Right: the slope of that line at many times, found from
# pairs of data and noise alone.

# %%
best_field = lab3.answer_or("optimal_vector_field")
mean, std = torch.tensor([1.0]), 0.6
z, noise = mean + std * torch.randn(20_000, 1), torch.randn(20_000, 1)


def least_squares(t):
    """States and targets at time t, with slope and intercept of the line through them."""
    x, target = t * z + (1 - t) * noise, z - noise
    slope = ((x - x.mean()) * (target - target.mean())).mean() / x.var()
    return x, target, slope, target.mean() - slope * x.mean()


# %% figure="targets against states, and the slopes of the best lines"
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
    "formula coincide. Right: the slopes found at 21 times lie on the formula's curve, which falls a "
    "little from −1 and then rises to 1."
)

# %% [markdown]
# ## 4 · Training
#
# Training repeats one thing thousands of times: draw a batch, compute its loss, take a step. The most frequent bugs are in
# the drawing, and they raise no error. Noise that is used again, a target that belongs
# to another state: the loss falls, but the samples are wrong. One time for the whole batch makes gradients noisier.
#
# <a id="about-batch"></a>
# ### Exercise {exercise:batch_loss} · A whole batch ({points:batch_loss} points)
#
# Write `batch_loss(u, sample_data, n, schedule)`, which draws everything itself and returns
# [the conditional flow matching loss](#eq-cfm). The function `sample_data(n)` draws $n$ data points. For each of them draw a
# time, uniform on $[0, 1]$, and standard normal noise. State and target are made from the
# *same* data, time and noise, all drawn anew at each call. A loop over points is right but slow, and training calls
# this function thousands of times. The check's network records its inputs; their statistics are tested.
#
# <details><summary>Hint</summary>
# <code>torch.rand(n)</code> is uniform, <code>torch.randn_like(z)</code> standard normal. Once these are drawn, exercise
# {exercise:conditional_flow_matching_loss} does the rest.
# </details>

# %% exercise="batch_loss"
def batch_loss(u, sample_data, n, schedule):
    """The conditional flow matching loss of a model on a batch that is drawn anew at each call.

    u: the model, u(x, t) → like x. sample_data: a function, sample_data(n) → (n, *shape) data points, new ones at each
    call. n: the number of points in the batch. schedule: a noise schedule.
    Returns a scalar tensor, whose gradients reach the model.
    """
    ### BEGIN SOLUTION
    z = sample_data(n)
    t, noise = torch.rand(n), torch.randn_like(z)
    return conditional_flow_matching_loss(u, z, t, noise, schedule)
    ### END SOLUTION


# %% check="batch_loss" points=4

# %% [markdown]
# Now the step. The simplest optimiser goes down the gradient, with a learning rate $\eta$:
#
# <a id="eq-step"></a>
# $$\theta \leftarrow \theta - \eta\, \nabla_\theta \mathcal L(\theta). \tag{notes, algorithm 3}$$
#
# PyTorch *adds* each new gradient to the stored one, so the gradients of earlier steps must be cleared first.
#
# ### Exercise {exercise:train_step} · One training step ({points:train_step} points)
#
# Write `train_step(model, loss, optimizer)`, [the step above](#eq-step), taken by the optimiser. `loss(model)` draws a batch
# and returns its loss; each call draws anew. Return the loss before the step, as a plain number.
#
# <details><summary>Hint</summary>
# An optimiser has <code>zero_grad()</code> and <code>step()</code>, a loss has <code>backward()</code>. A loss that
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
# **First a case with a known answer:** a small network, and the Gaussian $N(m, s^2 I)$ in the plane. In each
# coordinate, the variance of the target given the state is $s^2/(t^2 s^2 + (1-t)^2)$; its integral over $t$ is $\pi s/2$.
# So the mean loss cannot be below $\pi s$ (dotted). It falls to that line, and the network is
# then close to the best field (right: on the axis $x_2 = 0$, over the range that holds 95 % of all $x_1$).

# %%
step, whole_batch = lab3.answer_or("train_step"), lab3.answer_or("batch_loss")
mean, std = torch.tensor([1.0, -0.5]), 0.5
gaussian = lambda n: mean + std * torch.randn(n, 2)
small = models.MLP(2, width=32, depth=3)
adam = torch.optim.Adam(small.parameters(), lr=5e-3)
curve = [step(small, lambda u: whole_batch(u, gaussian, 500, condot), adam) for _ in range(800)]

# %% figure="the loss of a small network, and the field that it has learned"
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
axes[1].set(xlabel="$x_1$", ylabel="first component", title="learned (marks) and best field (lines)", ylim=(-1.2, 3.9))
axes[1].legend(loc="upper center", ncols=3)
plots.describe(
    "Left: the loss falls within 50 steps from 3.5 to the dotted line and jitters about it. "
    "Right: the learned values lie close to the lines of the best field at t = 0.1 and 0.5, and "
    "nearly so at 0.9."
)

# %% [markdown]
# **Now the checkerboard,** in about 20 seconds. `training.train` adds two things to your step. The learning rate
# falls to 0 along a cosine: large steps first, small ones later. And the weights that are kept are a running
# average over the last steps (an exponential moving average, [EMA](../words.md#ema)), which removes the random error
# of single batches.
#
# **Predict.** A field that never moves has a loss of about 4.7 here. How low can the loss of a network get?

# %%
low = ...  # your guess, a number

# %%
checkerboard = distributions.Checkerboard()
data_set = checkerboard.sample(100_000)  # the network learns from these points alone
draw = lambda n: data_set[torch.randint(len(data_set), (n,))]
network = training.train(models.MLP(2, width=80), lambda u: whole_batch(u, draw, 1500, condot), steps=2500)

# %% [markdown]
# **How low can the loss get?** Only the distance of a loss from $-C$ says how good a model is. For the checkerboard the exact
# field has a closed form (in the folded cell), so $-C$ is known. The mean of 50 random batches is sometimes below it.

# %% figure="training on the checkerboard, and the loss of the exact field"
def exact_checkerboard_field(x, t):
    """The marginal field of the checkerboard on CondOT. x: (n, 2); t: in (0, 1). The posterior of z is a normal
    distribution that is cut off at the edges of the dark cells."""
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


z, t, noise = checkerboard.sample(100_000), torch.rand(100_000).clamp(1e-4, 1 - 1e-4), torch.randn(100_000, 2)
with torch.no_grad():
    least, reached = (float(conditional_loss(u, z, t, noise, condot)) for u in (exact_checkerboard_field, network))
lab3.compare("the lowest loss on the checkerboard", low, least)
print(f"on fresh data: loss of the network {reached:.3f}, of the exact field {least:.3f}")
fig, (ax,) = plots.figure(width=6)
plots.plot_history(network.history, ax, color=plots.BLUE, ls="-", label="network")
ax.axhline(least, color=plots.BLACK, ls=":", lw=2, label="exact field")
ax.legend()
plots.describe(
    "The loss falls steeply at first and then slowly, to the dotted line of the exact field, "
    "around which it ends: little is left to learn."
)

# %% [markdown]
# ## 5 · Sampling
#
# Now the network takes the place of the exact field. Draw noise, and follow the network to $t = 1$:
#
# <a id="eq-sampling"></a>
# $$\frac{d}{dt} X_t = u_t^\theta(X_t), \qquad X_0 \sim N(0, I). \tag{notes, algorithm 1}$$
#
# ### Exercise {exercise:sample_flow} · Sampling a flow ({points:sample_flow} points)
#
# Write `sample_flow(u, x0, ts)`: the end points of [the flow above](#eq-sampling), by Euler's method with one step per
# interval of `ts`. The times need not be evenly spaced, and may decrease. Record no gradients: with them, memory grows with
# the number of steps.
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
# **Exact path and model, through time** (after figure 7 of the notes). Top: states $x_t = t z + (1 - t)\varepsilon$ made from
# fresh data. Bottom: noise, moved by the network. The rows nearly agree at *every* time: the network
# has learned the whole [probability path](../words.md#probability-path). The sharp edges of the cells are hardest to
# learn; they form close to $t = 1$.

# %%
sampler = lab3.answer_or("sample_flow")
shown = (0.0, 0.25, 0.5, 0.75, 1.0)
exact_states = [paths.GaussianPath().sample(checkerboard.sample(40_000), t) for t in shown]
model_states = [torch.randn(40_000, 2)]
for start, end in zip(shown[:-1], shown[1:], strict=True):
    model_states.append(sampler(network, model_states[-1], torch.linspace(start, end, 26)))

# %% figure="how many points are where, exactly and by the model"
fig, axes = plots.figure(columns=5, rows=2, width=2.4, height=2.5)
for k, (ax, x) in enumerate(zip(axes, exact_states + model_states, strict=True)):
    plots.plot_counts(x, ax).set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.grid(False)
    if k < 5:
        ax.set_title(f"$t$ = {shown[k]:g}")
    else:  # the same greys in both rows
        ax.collections[0].set_clim(axes[k - 5].collections[0].get_clim())
axes[0].set_ylabel("exact $p_t$")
axes[5].set_ylabel("model")
plots.describe(
    "Two rows of five histograms that look alike at every time: a round cloud until t = 0.5, then "
    "the cells of a checkerboard. The model's cells have softer edges."
)

# %% [markdown]
# **In motion.** The network moves noise to data. Press *Play*, or move the slider with the mouse or the arrow keys.

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
# **Straight and bent.** Left: pairs of noise and data, joined by the straight lines $x_t$ of CondOT. They cross.
# Right: trajectories of the network. No two are at the same place at the same time, since the field has
# one value there. They bend, first towards the middle, then out to a cell. Question {exercise:when_not_straight} asks why.

# %%
ts, starts = torch.linspace(0, 1, 51), torch.randn(60, 2)
straight = torch.lerp(starts, checkerboard.sample(60), ts[:, None, None])
bent = samplers.sample_flow(network, starts, ts, record=True)

# %% figure="lines of random pairs, and trajectories of the network"
fig, axes = plots.figure(columns=2, width=4.2, height=4)
for ax, states, title in zip(axes, (straight, bent), ("lines of pairs", "trajectories"), strict=True):
    plots.plot_trajectories(states, ax).set(title=title, xlim=(-3.4, 3.4), ylim=(-3.4, 3.4))
    ax.legend(loc="lower right", frameon=True)
plots.describe(
    "Left: straight lines from starts to ends that cross everywhere. Right: curves that first run "
    "towards the middle and then turn outwards."
)

# %% [markdown]
# ## 6 · How good, and at what cost?
#
# To choose between models and samplers we need a number. The **[energy distance](../words.md#energy-distance)** between the distributions of $X$ and $Y$ is
#
# <a id="eq-energy"></a>
# $$D = 2\,\mathbb E\|X - Y\| - \mathbb E\|X - X'\| - \mathbb E\|Y - Y'\|,$$
#
# where $X'$ is an independent copy of $X$, and $Y'$ of $Y$. It compares distances between the distributions with
# distances within each. It is 0 if these are equal, and positive if they differ in any way. For two finite sets of samples $D$
# is a little above 0 even if their distributions are equal.
#
# ### Exercise {exercise:energy_distance} · The energy distance ({points:energy_distance} points)
#
# Write `energy_distance(x, y)`, [this $D$](#eq-energy) for two sets of samples. Each expectation becomes the mean over *all*
# pairs of points, those of a point with itself included. The sets may differ in size.
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
# **Steps and quality.** The cost of a sample is the number of evaluations of the network: one per step for Euler's method,
# two for Heun's (lab 1) and for the **[midpoint rule](../words.md#midpoint-rule)**, which makes half an Euler step and uses the field
# found there for the whole step. The reference is the energy distance between
# [two fresh sets of data](../words.md#fresh-sets).
#
# **Predict.** With how many Euler steps are samples of the network as close to fresh data as this? Type a power of 2 up to
# 128, or `"never"`.

# %%
euler_steps = ...  # your guess

# %%
distance = lab3.answer_or("energy_distance")
same = torch.Generator().manual_seed(0)  # the same points in every run of this notebook
fresh, x0 = checkerboard.sample(3000, same), torch.randn(3000, 2, generator=same)
between_fresh = torch.tensor([float(distance(checkerboard.sample(3000, same), fresh)) for _ in range(8)])
floor = float(between_fresh.mean())
calls = torch.tensor([2, 4, 8, 16, 32, 64, 128])
solvers = {"Euler": simulators.Euler(), "midpoint": simulators.Midpoint(), "Heun": simulators.Heun()}
distances = {}
for name, method in solvers.items():
    steps = calls if name == "Euler" else calls // 2
    ends = [samplers.sample_flow(network, x0, int(k), method) for k in steps]
    distances[name] = torch.tensor([float(distance(x, fresh)) for x in ends])

# %% figure="energy distance against the number of evaluations"
enough = calls[distances["Euler"] <= between_fresh.max()]
lab3.compare("the number of Euler steps", euler_steps, int(enough[0]) if len(enough) else "never")
fig, (ax,) = plots.figure(width=6)
plots.plot_distances(calls, distances, floor, ax)
ax.set(xlabel="evaluations of the network per sample")
plots.describe(
    "On logarithmic axes the distances fall with the number of evaluations: those of midpoint and Heun "
    "level off at 8, those of Euler at about 64. All end above the line of two fresh sets of data."
)

# %% [markdown]
# Midpoint and Heun level off at 8 evaluations, Euler's method at several times as
# many. More steps then change little: what is left above the dotted line is the error of the network, and only
# better training reduces it.
#
# ## 7 · The density of a flow
#
# A flow can also say how likely a point is. A point of very low density is an outlier; compression needs the
# density to store frequent data in few bits; and two models can be compared by their density at new
# data. Follow the density at a particle that the flow moves. Where the flow
# spreads, the log density falls at the rate of the divergence (lab 2):
#
# $$\frac{d}{dt}\log p_t(X_t) = -\operatorname{div} u_t(X_t).$$
#
# At $t = 0$ the density is known. So follow the flow *back* from $x$ at $t = 1$ to $X_0$, and add up the divergence:
#
# <a id="eq-likelihood"></a>
# $$\log p_1(x) = \log p_0(X_0) - \int_0^1 \operatorname{div} u_t(X_t)\,dt, \qquad X_1 = x,\quad p_0 = N(0, I).$$
#
# ### Exercise {exercise:log_likelihood} · The log-likelihood ({points:log_likelihood} points)
#
# Write `log_likelihood(u, divergence, x, ts)`, by [the last equation](#eq-likelihood): Euler's method backwards through `ts`.
# Each step evaluates field and divergence at the state and the time that it *leaves*.
#
# <details><summary>Hint</summary>
# <code>ts.flip(0)</code> runs backwards. Add to the integral before you move the state. In $d$ dimensions
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
# **On the exact field of the mixture** the result must be the density of the mixture. It is, up to an error that becomes
# nearly 4 times smaller with 4 times as many steps, as it should with Euler's method. Automatic differentiation gives the
# divergence.

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
# **On the network.** The density of the checkerboard is 1/8 on dark cells. The network rounds corners and leaves thin bridges between cells. On average over data, no model can have a higher
# log-likelihood than the true density, $-\log 8 = -2.08$. The difference is the Kullback–Leibler divergence
# ([KL](../words.md#kl-divergence)) from data to model, the mean over data of
# $\log p_{\text{data}} - \log p_{\text{model}}$.

# %% figure="density of the network, and of the checkerboard"
side = 72
x = plots.lattice(2.7, side)
maps = {"network": density_at(network, x, 100), "checkerboard": checkerboard.log_prob(x)}
fig, axes = plots.figure(columns=2, width=4.2, height=3.6)
for ax, (title, values) in zip(axes, maps.items(), strict=True):
    image = plots.array(values.exp()).reshape(side, side).T
    picture = ax.imshow(image, origin="lower", extent=(-2.7, 2.7, -2.7, 2.7), vmin=0, vmax=0.2, cmap="Greys")
    ax.grid(False)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$")
_ = fig.colorbar(picture, ax=axes, label="density")
average = float(density_at(network, checkerboard.sample(2000), 100).mean())
print(f"mean log-likelihood of fresh data: {average:.2f}, at best {-math.log(8):.2f}")
plots.describe(
    "The network's density has a hill on each of the eight dark cells, with rounded corners and "
    "faint bridges between them; the true density is flat with sharp edges."
)

# %% [markdown]
# ## 8 · From any data to any data
#
# Can a flow turn photographs of summer into winter? Nothing in section 1
# needed noise at the start. Pair the points of two data sets at random, and join each pair by a straight line that is
# traversed at constant speed. The same regression learns a flow from one distribution to the other.
#
# <a id="about-linear-path"></a>
# ### Exercise {exercise:linear_path} · The linear path ({points:linear_path} points)
#
# Write `linear_path(x0, x1, t)`: the state at time $t$ on the line from $x_0$ to $x_1$, and the velocity there. They take the
# places of state and target in [the conditional flow matching loss](#eq-cfm).
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


# %% check="linear_path" points=2 further=true

# %% [markdown]
# **From two moons to a checkerboard,** with the same kind of network and training (about 8 seconds).

# %%
line_of = lab3.answer_or("linear_path")
moons = distributions.Moons()


def transport_loss(model):
    t = torch.rand(1000)
    x, velocity = line_of(moons.sample(1000), draw(1000), t)
    return (model(x, t) - velocity).square().sum(1).mean()


transport = training.train(models.MLP(2), transport_loss, steps=1200)
ts = torch.linspace(0, 1, 41)
states = samplers.sample_flow(transport, moons.sample(4000), ts, record=True)

# %% figure="two moons become a checkerboard"
fig, axes = plots.figure(columns=3, rows=2, width=3.2, height=3.2)
for ax, k in zip(axes, (0, 10, 20, 30, 40), strict=False):
    plots.plot_samples(states[k], ax).set_title(f"$t$ = {ts[k]:g}")
plots.plot_trajectories(states[:, :80], axes[5]).set_title("80 trajectories")
axes[5].legend(loc="lower center", ncols=2)
for ax in axes:
    ax.set(xlim=(-3, 3), ylim=(-3.3, 2.7))
plots.describe(
    "Two half moons at t = 0 spread to a round cloud by t = 0.5 and gather in eight blobs, the cells "
    "of a checkerboard, at t = 1. The trajectories run outwards and bend a little."
)

# %% [markdown]
# ## 9 · Reflow: straight trajectories
#
# Every step costs an evaluation of a large network, so one step would be best. An Euler step is exact along a
# straight line that is traversed at constant speed, but the trajectories are not straight. At
# $t = 0$ the field is the mean of the data minus $x$, so a single step moves all noise to that mean.
#
# **Rectified flow** (Liu, Gong and Liu, 2022), also called [reflow](../words.md#reflow), trains a second time. Now each noise $x_0$ is paired with the end point $x_1$ to which the *first* flow carries it. The lines between
# such pairs hardly cross. Regress on these lines:
#
# <a id="eq-reflow"></a>
# $$\mathcal L(\theta) = \mathbb E\,\|u_t^\theta((1 - t)x_0 + t x_1) - (x_1 - x_0)\|^2.$$
#
# ### Exercise {exercise:reflow} · Reflow, a challenge ({points:reflow} points)
#
# Write `reflow(sample, x0)`, where `sample(x0)` runs the first flow. Sampling is expensive: make each pair *once*,
# all together or in parts. Return a function `loss(u, k, t)`: [the loss above](#eq-reflow) of a model
# `u` at the times `t`, on the pairs with the numbers `k`.
#
# <details><summary>Hint</summary>
# <code>x0[k]</code> picks rows by a tensor of whole numbers. The pairs are data: no gradient should lead back into
# <code>sample</code>. State and velocity are those of exercise {exercise:linear_path}.
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


# %% check="reflow" points=5 further=true

# %% [markdown]
# **Before and after.** The next training (about 8 seconds) uses twenty thousand pairs from the network of section 4. The
# *curvature* is the mean length of the trajectories over the mean distance between their ends, minus 1. That of the
# network of section 4 is about 1.1: its trajectories are more than twice as long as straight lines.
#
# **Predict.** What is the curvature after reflow?

# %%
curvature = ...  # your guess, a number

# %%
noise = torch.randn(20_000, 2)
rectified_loss = lab3.answer_or("reflow")(lambda x0: samplers.sample_flow(network, x0, 20), noise)
rectified = training.train(
    models.MLP(2),
    lambda model: rectified_loss(model, torch.randint(len(noise), (1000,)), torch.rand(1000)),
    steps=1200,
)

# %% figure="trajectories and one-step samples, before and after reflow"
fig, axes = plots.figure(columns=4, width=3, height=3.2)
print("                 curvature   energy distance after 1, 2, 4, 64 Euler steps")
for k, (name, u) in enumerate({"network": network, "after reflow": rectified}.items()):
    trajectories = samplers.sample_flow(u, x0[:500], 64, record=True)
    plots.plot_trajectories(trajectories[:, :60], axes[2 * k]).set_title(name)
    ends = [sampler(u, x0, torch.linspace(0, 1, steps + 1)) for steps in (1, 2, 4, 64)]
    plots.plot_samples(ends[0], axes[2 * k + 1]).set_title(f"{name}, one step")
    each = "  ".join(f"{float(distance(x, fresh)):.4f}" for x in ends)
    bend = float(metrics.path_curvature(trajectories))
    print(f"{name:15s}  {bend:9.4f}   {each}")
print(f"{'fresh data':15s}  {'':9s}   {floor:.4f} on average")
lab3.compare("the curvature after reflow", curvature, bend)
for ax in axes:
    ax.set(xlim=(-4, 4), ylim=(-4, 4), ylabel="")
axes[0].legend(loc="lower center", ncols=2)
plots.describe(
    "The first network's trajectories bend, and its single step puts all points near the origin. "
    "After reflow they are nearly straight, and a single step already draws the checkerboard."
)

# %% [markdown]
# One step is now as good as sixty-four. The disadvantage: the second network learns from samples of the first one, with
# all their errors.
#
# ## 10 · Choices in practice
#
# **Which times to train on, which schedule?** Four short trainings, about 15 seconds in all, differ
# in one choice each. The theory allows any density of times that is positive on $[0, 1]$. Times up to 0.8 leave the last
# fifth unlearned, where the cells of the checkerboard get sharp. The other choices are about equally good:
# with another seed their order changes.

# %%
uniform = losses.uniform()
choices = {
    "CondOT, uniform times": (schedules.CondOT(), uniform),
    "CondOT, times up to 0.8": (schedules.CondOT(), losses.uniform(0, 0.8)),
    "CondOT, logit-normal times": (schedules.CondOT(), lambda n, g: torch.randn(n).sigmoid()),
    "Cosine, uniform times": (schedules.Cosine(), uniform),
}
print(f"{'':28s} energy distance (two fresh sets: 1)")
for name, (schedule, times) in choices.items():
    path = paths.GaussianPath(schedule)
    loss = lambda u, path=path, times=times: losses.flow_matching_loss(u, path, draw(1000), times=times)
    short = training.train(models.MLP(2), loss, steps=600)
    ends = samplers.sample_flow(short, x0, 32)
    print(f"{name:28s} {float(distance(ends, fresh)) / floor:5.1f}")

# %% [markdown]
# **When to avoid times near 1.** For CondOT the target $z - \varepsilon$ has the same size at all times. For
# $\beta_t = \sqrt{1 - t}$ its mean square is infinite: $\dot\beta_t^2 = 1/(4(1 - t))$ has no finite integral. Single batches then have
# enormous losses. Times up to 0.99 help. A better schedule does, too.

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
        path, times = paths.GaussianPath(schedule), losses.uniform(0, last)
        still = lambda x, t: torch.zeros_like(x)
        values = [float(losses.flow_matching_loss(still, path, draw(1000), times=times)) for _ in range(500)]
        name = f"{type(schedule).__name__}, times up to {last:g}"
        print(f"{name:38s} {sum(values) / 500:7.2f} {max(values):9.1f}")

# %% [markdown]
# **Your progress.** Before you hand the notebook in, save it and run `lab3.submission()` in a new cell: it runs the saved
# file from top to bottom in a fresh process, and lists what is still open.

# %%
lab3.progress()

# %% [markdown]
# ## 11 · Two questions to answer in words
#
# A person reads these two. A few sentences each are enough.
#
# ### Question {exercise:when_not_straight} · Straight lines, bent trajectories ({points:when_not_straight} points)
#
# On CondOT every pair of noise and data is joined by a straight line. Why are the trajectories of the learned field not
# straight, and why do they first run towards the middle? For which pairs of noise and data would they be straight, and why would one Euler
# step then be enough?

# %% [markdown] answer="when_not_straight" points=4
# ### BEGIN SOLUTION
# The lines of random pairs cross. Where they do, the marginal field is the average of their velocities over
# the posterior of $z$ given $x_t$, and this average changes on the way. Near $t = 0$ the state says almost nothing
# about $z$, so the field points to the mean of the data, the middle. Later the posterior concentrates on one cell, and the field
# turns there. So a trajectory bends. It would be straight if the lines of the pairs did not cross, for example if each noise were paired with
# the end point to which the flow itself carries it (section 9, nearly). Then only one line passes through each state, the average
# is over a single velocity, and the marginal field is constant along each line. Euler's method has no error on a straight line
# that is traversed at constant speed, so one step is enough.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:why_conditional_works} · The easy question and the hard one ({points:why_conditional_works} points)
#
# We wanted the marginal field, but regressed on the conditional one, which is a different and random target for the same $x_t$.
# Why does the network learn the marginal field all the same? Why does its loss not go to 0, and how can you then tell
# that training is done?

# %% [markdown] answer="why_conditional_works" points=3
# ### BEGIN SOLUTION
# The minimiser of a squared error is the conditional mean of the target given the inputs of the model. These are
# $x_t$ and $t$, and the mean of $u_t(x_t \mid z)$ over all $z$ that could have led there is, by definition, the marginal
# field. In terms of the losses: $\mathcal L_{\mathrm{CFM}} = \mathcal L_{\mathrm{FM}} - C$ where $C$ does not depend on $\theta$, so
# gradients and minimisers are the same. At the minimum $\mathcal L_{\mathrm{FM}} = 0$, and the conditional loss equals $-C$, the
# variance of the target given $x_t$, which is positive as soon as several pairs pass through one state. Only the
# distance from $-C$ counts. Where $-C$ is not known, one watches until the loss no longer falls, and judges the samples.
# ### END SOLUTION

# %% [markdown]
# ## 12 · What comes next
#
# On a Gaussian path the score is a linear combination of field and state. So the flow that you trained can be turned into a
# diffusion, with any amount of noise, without training again. That is the subject of lab 4.
