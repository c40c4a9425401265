# %% [markdown]
# # Lab 4 · Score matching and diffusion
#
# A flow model learns *where to go*: a vector field. A diffusion model learns *where it is likely*: the **score**
# $s_t(x) = \nabla \log p_t(x)$, the direction in which the density grows fastest. By the end of this lab you will
# have trained scores and watched the training go wrong and right, turned a vector field into a score and back,
# sampled one network with every amount of noise, and rebuilt the classical diffusion model, DDPM, from its forward
# process to its likelihood bound. And you will have seen that all of these are one object in different coordinates.
#
# **How to work.** Replace each line `raise NotImplementedError` by your code, run the cell, then run the check below
# it. A figure follows each exercise. It uses your function once its check has passed, and fmlab's until then. Stuck?
# `lab4.hint("denoising_score_matching_loss")` gives up to three hints, one at a time.
#
# **Notation.** Time runs from noise, $t = 0$, to data, $t = 1$. A state is $x = \alpha_t z + \beta_t \varepsilon$
# with data $z$ and noise $\varepsilon \sim N(0, I)$; a dot is a time derivative. In code, `schedule.alpha(t)`,
# `schedule.beta(t)`, `schedule.alpha_dot(t)` and `schedule.beta_dot(t)` give the four functions, and an image $x$ has
# shape `(n, 1, 8, 8)` just as a point in the plane has `(n, 2)`: we write `(n, *shape)` for both. *Slides* means
# lecture 5 of the course, *intro* the text "Diffusion Models Intro". The lab is worth {points:all} points, {points:code} of them for code.

# %%
import torch

from fmlab import conversions, ddpm, distributions, losses, metrics, models, paths, plots
from fmlab import processes, schedules, simulators, threads, training, widgets
from fmlab.checks import lab4
from fmlab.schedules import coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# **The data of this lab** are a mixture of three Gaussians in the plane. For a mixture, the density, the score and
# the vector field of the whole path are known in closed form, so everything we learn can be compared with the truth.

# %%
mixture = distributions.GaussianMixture(
    means=[[-1.4, -0.7], [1.3, -1.0], [0.2, 1.3]],
    covs=[[[0.12, 0.06], [0.06, 0.10]], [[0.06, -0.03], [-0.03, 0.12]], [[0.30, 0.0], [0.0, 0.04]]],
    weights=[0.3, 0.3, 0.4],
)
ot = schedules.CondOT()  # alpha = t, beta = 1 - t
exact = paths.GaussianPath(ot).marginal(mixture)
fig, axes = plots.figure(columns=4, width=2.6, height=2.7)
for ax, t in zip(axes, (0.0, 0.5, 0.8, 1.0), strict=True):
    plots.plot_density(lambda x, t=t: exact.log_prob(x, t), ax, n=80)
    plots.plot_vector_field(exact.score, t, ax, n=11)
    ax.set_title(f"score at $t$ = {t:g}")
plots.describe(
    "The density of the path turns from one round hill at t = 0 into three narrow ones at t = 1. "
    "The arrows of the score always point uphill."
)

# %% [markdown]
# ## 1 · Learning a score
#
# We would like to regress a network $s_\theta$ on the score $\nabla \log p_t(x)$, but for real data nobody knows it.
# The way out is the one of flow matching: regress on the *conditional* score $\nabla \log p_t(x \mid z)$, which we do
# know, and the network learns its average over all $z$ that fit $x$, which is the marginal score. The two losses
# differ by a constant (slides, marginal vs. conditional score matching).
#
# For a Gaussian path the conditional score points from $x$ back to $\alpha_t z$, that is, against the noise:
#
# $$\nabla \log p_t(x \mid z) = -\frac{x - \alpha_t z}{\beta_t^2} = -\frac{\varepsilon}{\beta_t}.$$
#
# Hence the name **denoising score matching**:
#
# <a id="eq-dsm"></a>
# $$L_{\text{DSM}} = \mathbb E_{t, z, \varepsilon} \Big\| s_\theta(x, t) + \frac{\varepsilon}{\beta_t} \Big\|^2,
# \qquad x = \alpha_t z + \beta_t \varepsilon. \tag{slides, denoising score matching}$$
#
# $\|\cdot\|^2$ is the sum over the coordinates of one point, $\mathbb E$ the mean over the batch.
#
# ### Exercise {exercise:denoising_score_matching_loss} · Denoising score matching ({points:denoising_score_matching_loss} points)
#
# Write `denoising_score_matching_loss(s, z, t, noise, schedule)`, [this loss](#eq-dsm) of one batch whose times and noise
# are already drawn. There is one time per point, so $\alpha_t$ has shape `(n,)` while `z` has shape `(n, *shape)`. The
# given helper `coefficient(value, x)` shapes such a value so that it multiplies `x`. A network `s(x, t)`, like every
# field in this lab, takes the time as it comes: as a number, as a tensor of shape `()`, or of shape `(n,)`, a time for
# each row of `x`.
#
# <details><summary>Hint</summary>
# First the noised state, then the network's answer there, then the squared distance from the target: a sum over all
# dimensions but the first (<code>flatten(1)</code> helps), and last the mean.
# </details>

# %% exercise="denoising_score_matching_loss"
def denoising_score_matching_loss(s, z, t, noise, schedule):
    """Denoising score matching loss of one batch.

    s: score network, a function s(x, t). z, noise: (n, *shape). t: (n,) times in [0, 1).
    Returns a scalar tensor of the dtype of z, through which gradients can pass: the batch mean of squared distances.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), z), coefficient(schedule.beta(t), z)
    x = alpha * z + beta * noise
    return (s(x, t) + noise / beta).square().flatten(1).sum(1).mean()
    ### END SOLUTION


# %% check="denoising_score_matching_loss" points=4

# %% [markdown]
# **A loss that never settles.** The network below is perfect: it *is* the exact score. Still its loss is not 0, since
# the target is noisy, and the noise has variance $1/\beta_t^2$ per coordinate, without bound as $t \to 1$. Each point
# is the loss of one batch of 500 with times uniform on $[0, 1 - c)$. The smaller the **clip** $c$, the more a few
# points near $t = 1$ drown all others. At $c = 0$ the expectation is infinite.

# %%
dsm_loss = lab4.answer_or("denoising_score_matching_loss")


def batch_losses(loss, network, clip, batches=150, n=500):
    """Losses of many batches, with times uniform on [0, 1 - clip)."""
    found = []
    for _ in range(batches):
        t = (1 - clip) * torch.rand(n)
        found.append(loss(network, mixture.sample(n), t, torch.randn(n, 2), ot))
    return torch.stack(found)


fig, (ax,) = plots.figure(width=7.5)
for clip, mark, color in ((0.1, "o", plots.BLUE), (0.01, "s", plots.RED), (1e-4, "^", plots.BLACK)):
    found = batch_losses(dsm_loss, exact.score, clip)
    ax.semilogy(found, mark, ls="", ms=3, color=color, label=f"clip {clip:g}")
    ax.axhline(float(found.mean()), color=color, ls="--", lw=1)
ax.set(xlabel="batch", ylabel="loss of the exact score")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "The losses of 150 batches scatter little about 12 for clip 0.1, more about 200 for clip "
    "0.01, and over four powers of ten for clip 0.0001, where a few batches carry the mean."
)

# %% [markdown]
# **Is it the right loss?** We wanted the distance to the *marginal* score, which here we know. For three networks, a
# perfect one, one that always says 0 and one that exaggerates, the two losses differ by the same number, up to the
# chance of 200 000 draws. So a step that lowers one lowers the other.

# %%
t, z, noise = 0.9 * torch.rand(200_000), mixture.sample(200_000), torch.randn(200_000, 2)
x = t[:, None] * z + (1 - t[:, None]) * noise
truth = exact.score(x, t)
print("network         to the conditional score   to the marginal score   difference")
for name, factor in (("the score", 1.0), ("0", 0.0), ("1.5 × the score", 1.5)):
    conditional = dsm_loss(lambda x, t, c=factor: c * exact.score(x, t), z, t, noise, ot)
    marginal = ((factor - 1) * truth).square().sum(1).mean()
    print(f"{name:15s}{conditional:27.2f}{marginal:24.2f}{conditional - marginal:13.2f}")

# %% [markdown]
# ### Exercise {exercise:noise_prediction_loss} · Predict the noise instead ({points:noise_prediction_loss} points)
#
# The cure is a change of variables. Let the network output the *noise* rather than the score,
# $\varepsilon_\theta = -\beta_t s_\theta$, and weigh the squared error by $\beta_t^2$. Then
# $\beta_t^2\,\| s_\theta + \varepsilon/\beta_t \|^2 = \| \varepsilon_\theta - \varepsilon \|^2$, and what remains is
# the loss that made diffusion models work:
#
# <a id="eq-ddpm"></a>
# $$L_{\text{DDPM}} = \mathbb E_{t, z, \varepsilon} \big\| \varepsilon_\theta(x, t) - \varepsilon \big\|^2,
# \qquad x = \alpha_t z + \beta_t \varepsilon. \tag{slides, DDPM trick}$$
#
# At each time the best network is the same as before; what changes is how much each time counts, and no time can
# drown the others now.
#
# Write `noise_prediction_loss(eps, z, t, noise, schedule)`, the loss of [slides, DDPM trick](#eq-ddpm).
#
# <details><summary>Hint</summary>
# The same state as in exercise {exercise:denoising_score_matching_loss}, another target. Where did $\beta_t$ go?
# </details>

# %% exercise="noise_prediction_loss"
def noise_prediction_loss(eps, z, t, noise, schedule):
    """Noise prediction loss of one batch.

    eps: noise network, a function eps(x, t). z, noise: (n, *shape). t: (n,) times in [0, 1].
    Returns a scalar tensor of the dtype of z, through which gradients can pass: the batch mean of squared distances.
    """
    ### BEGIN SOLUTION
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    return (eps(x, t) - noise).square().flatten(1).sum(1).mean()
    ### END SOLUTION


# %% check="noise_prediction_loss" points=3

# %% [markdown]
# **Spread against clip.** The standard deviation of a batch's loss, divided by its mean, for the two losses of the
# same perfect network. Score matching needs four times as many points for each factor 4 in the clip; noise prediction
# does not mind.

# %%
noise_loss = lab4.answer_or("noise_prediction_loss")


def exact_noise(x, t):
    """The best noise prediction, from the exact score."""
    return conversions.noise_from_score(exact.score(x, t), x, t, ot)


clips = torch.tensor([0.3, 0.1, 0.03, 0.01, 0.003, 0.001])
fig, (ax,) = plots.figure(width=5)
for label, loss, network, style in (
    ("score matching", dsm_loss, exact.score, "o-"),
    ("noise prediction", noise_loss, exact_noise, "s--"),
):
    found = [batch_losses(loss, network, float(clip)) for clip in clips]
    ax.loglog(clips, [float(batch.std() / batch.mean()) for batch in found], style, label=label)
rule = torch.sqrt(2 / (3 * 500 * clips))
ax.loglog(clips, rule, color=plots.BLACK, ls=":", label=r"$\propto c^{-1/2}$")
ax.set(xlabel="clip $c$", ylabel="spread of a batch's loss / mean")
ax.invert_xaxis()
ax.legend()
plots.describe(
    "As the clip shrinks, the relative spread of the score matching loss grows tenfold, along the "
    "line for the inverse square root of the clip; that of noise prediction stays below 0.1."
)

# %% [markdown]
# **Two networks.** The first learns the score with the loss of exercise {exercise:denoising_score_matching_loss} and times up to 0.99, the second the noise
# with the loss of exercise {exercise:noise_prediction_loss}. They have the same size and take the same number of steps, a few seconds each.

# %%
pool = mixture.sample(20_000)


def batch(n=1000):
    """Data, times and noise for one step of training."""
    return pool[torch.randint(len(pool), (n,))], torch.rand(n), torch.randn(n, 2)


def score_matching_step(network):
    z, t, noise = batch()
    return dsm_loss(network, z, 0.99 * t, noise, ot)


score_net = training.train(models.MLP(2), score_matching_step, steps=1000).requires_grad_(False)


# %%
def noise_prediction_step(network):
    z, t, noise = batch()
    return noise_loss(network, z, t, noise, ot)


noise_net = training.train(models.MLP(2), noise_prediction_step, steps=1000).requires_grad_(False)

# %% [markdown]
# ### Exercise {exercise:score_from_noise} · From noise to score ({points:score_from_noise} points)
#
# To compare the two we need the score that belongs to a noise prediction: solve
#
# <a id="eq-noise"></a>
# $$\varepsilon_\theta = -\beta_t\, s_\theta$$
#
# for $s_\theta$.
#
# Write `score_from_noise(noise, t, schedule)`, the $s_\theta$ of [this equation](#eq-noise). This and the conversions that follow work on *values*: `noise` is a
# tensor that a network has already returned. And `t` may be one time for all points, a number or a tensor of shape `()`,
# or one for each, `(n,)`; `coefficient` takes them all.
#
# <details><summary>Hint</summary>
# One line. At which time is it singular?
# </details>

# %% exercise="score_from_noise"
def score_from_noise(noise, t, schedule):
    """The score that belongs to a noise prediction.

    noise: (n, *shape), the prediction. t: a number or (n,), in [0, 1). Returns (n, *shape), in the dtype of noise.
    """
    ### BEGIN SOLUTION
    return -noise / coefficient(schedule.beta(t), noise)
    ### END SOLUTION


# %% check="score_from_noise" points=2

# %% [markdown]
# **Where each loss looks.** Relative errors of the two learned scores. Score matching spends nearly all its effort
# where $1/\beta_t^2$ is large, near the data, and is careless elsewhere. Noise prediction is good almost everywhere;
# only very near $t = 1$ its small errors are divided by a small $\beta_t$.

# %%
to_score = lab4.answer_or("score_from_noise")
learned_scores = {
    "score network": score_net,
    "noise network": lambda x, t: to_score(noise_net(x, t), t, ot),
}


def relative_error(network, truth, t, n=2000):
    """Root mean square of the error over that of the truth, on points of the path at time t."""
    x, t = exact.sample(n, t, torch.Generator().manual_seed(0)), torch.tensor(t)
    error = network(x, t) - truth(x, t)
    return float((error.square().mean() / truth(x, t).square().mean()).sqrt())


times = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
print("t".ljust(15), *(f"{t:6.2f}" for t in times))
for name, network in learned_scores.items():
    print(name.ljust(15), *(f"{relative_error(network, exact.score, t):6.2f}" for t in times))

# %% [markdown]
# ## 2 · The score was there all along
#
# In lab 3 you trained a vector field. Does it know the score? The field is the average of
# $\dot\alpha_t z + \dot\beta_t \varepsilon$ given $x$, the score that of $-\varepsilon/\beta_t$, and
# $x = \alpha_t z + \beta_t \varepsilon$ itself is known. Two unknown averages, and two linear equations for them:
# whoever knows the field knows the score,
#
# <a id="eq-score-from-field"></a>
# $$s_t(x) = \frac{\alpha_t\, u_t(x) - \dot\alpha_t\, x}{\beta_t^2\, \dot\alpha_t - \alpha_t \dot\beta_t \beta_t}.
# \tag{slides, conversion formula}$$
#
# ### Exercise {exercise:score_from_vector_field} · From vector field to score ({points:score_from_vector_field} points)
#
# Write `score_from_vector_field(u, x, t, schedule)`, the [conversion formula](#eq-score-from-field) of the slides, where
# `u` holds the values $u_t(x)$.
#
# <details><summary>Hint</summary>
# Shape the four coefficients first. For $\alpha_t = t$, $\beta_t = 1 - t$ the formula becomes $(t\,u - x)/(1 - t)$, a
# good test of yours; at $t = 0$ it says $-x$, the score of $N(0, I)$.
# </details>

# %% exercise="score_from_vector_field"
def score_from_vector_field(u, x, t, schedule):
    """The score that belongs to a vector field, for a Gaussian path.

    u: values of the field at x and t, (n, *shape). x: (n, *shape). t: a number or (n,), in [0, 1): 0 is included.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    alpha_dot = coefficient(schedule.alpha_dot(t), x)
    beta_dot = coefficient(schedule.beta_dot(t), x)
    return (alpha * u - alpha_dot * x) / (beta**2 * alpha_dot - alpha * beta_dot * beta)
    ### END SOLUTION


# %% check="score_from_vector_field" points=4

# %% [markdown]
# **Learned and converted.** A third network learns the vector field by flow matching, and never hears of a score.
# Below, the exact score, the score that was learned (by noise prediction), and the score converted from the field.
# (After slides, figure 1. The shading is the density at that time; the numbers are relative errors.)

# %%
path = paths.GaussianPath(ot)


def flow_matching_step(network):
    return losses.flow_matching_loss(network, path, batch()[0])


field_net = training.train(models.MLP(2), flow_matching_step, steps=1000).requires_grad_(False)

# %%
u_to_s = lab4.answer_or("score_from_vector_field")


def converted_score(x, t):
    return u_to_s(field_net(x, t), x, t, ot)


scores = {
    "exact": exact.score,
    "learned": learned_scores["noise network"],
    "converted": converted_score,
}
fig, axes = plots.figure(columns=3, rows=2, width=3.2, height=3.1)
for row, t in enumerate((0.4, 0.8)):
    for ax, (name, score) in zip(axes[3 * row :], scores.items(), strict=False):
        plots.plot_density(lambda x, t=t: exact.log_prob(x, t), ax, n=80)
        plots.plot_vector_field(score, t, ax, n=13)
        error = relative_error(score, exact.score, t)
        ax.set_title(f"$t$ = {t:g}, {name}" + (f" ({error:.2f})" if name != "exact" else ""))
plots.describe(
    "Two rows, at t = 0.4 and 0.8, in which the exact, the learned and the converted score look "
    "alike. The relative errors in the titles are a few per cent at t = 0.4 and about 0.1 at t = "
    "0.8."
)

# %% [markdown]
# ### Exercise {exercise:vector_field_from_score} · From score to vector field ({points:vector_field_from_score} points)
#
# The other way round, solved for $u$:
#
# <a id="eq-field-from-score"></a>
# $$u_t(x) = \Big( \beta_t^2\, \frac{\dot\alpha_t}{\alpha_t} - \dot\beta_t \beta_t \Big)\, s_t(x) + \frac{\dot\alpha_t}{\alpha_t}\, x.
# \tag{slides, proposition 1}$$
#
# So a score network alone is a flow model. Write `vector_field_from_score(s, x, t, schedule)`, the field of
# [slides, proposition 1](#eq-field-from-score).
#
# <details><summary>Hint</summary>
# Compute $\dot\alpha_t/\alpha_t$ once. Your two conversions should undo each other.
# </details>

# %% exercise="vector_field_from_score"
def vector_field_from_score(s, x, t, schedule):
    """The vector field that belongs to a score, for a Gaussian path.

    s: values of the score at x and t, (n, *shape). x: (n, *shape). t: a number or (n,), in (0, 1]: 1 is included.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    beta, beta_dot = coefficient(schedule.beta(t), x), coefficient(schedule.beta_dot(t), x)
    growth = coefficient(schedule.alpha_dot(t) / schedule.alpha(t), x)
    return (beta**2 * growth - beta_dot * beta) * s + growth * x
    ### END SOLUTION


# %% check="vector_field_from_score" points=3

# %% [markdown]
# **Both ends.** The three networks, once all read as scores and once all as vector fields. A conversion multiplies
# the network's error by its coefficient, and each direction has its own singular end: towards the score $t = 1$,
# where $\beta_t = 0$; towards the field $t = 0$, where $\alpha_t = 0$. A sampler that runs on a score or noise
# network of this schedule must therefore start a little after $t = 0$. No network is the best everywhere: the score
# network, useless as a field near the noise, makes the best field near the data.

# %%
s_to_u = lab4.answer_or("vector_field_from_score")
as_scores = learned_scores | {"field network": converted_score}
as_fields = {
    "score network": lambda x, t: s_to_u(score_net(x, t), x, t, ot),
    "noise network": lambda x, t: s_to_u(to_score(noise_net(x, t), t, ot), x, t, ot),
    "field network": field_net,
}
near = torch.logspace(-2.5, -0.5, 9)
times = torch.cat([near, torch.tensor([0.5]), (1 - near).flip(0)]).tolist()
fig, axes = plots.figure(columns=2, width=5)
for ax, networks, truth, title in (
    (axes[0], as_scores, exact.score, "read as scores"),
    (axes[1], as_fields, exact.vector_field, "read as vector fields"),
):
    for (name, network), style in zip(networks.items(), ("o-", "s--", "^:"), strict=True):
        errors = [relative_error(network, truth, t) for t in times]
        ax.plot(times, errors, style, ms=3.5, label=name)
    ax.set(xscale="logit", yscale="log", xlabel="time $t$", ylabel="relative error", title=title)
    ax.set_xticks([0.01, 0.1, 0.5, 0.9, 0.99], ["0.01", "0.1", "0.5", "0.9", "0.99"])
    ax.minorticks_off()
axes[0].legend()
plots.describe(
    "Left: read as scores, the field network is best at small t and worst near t = 1. Right: read "
    "as fields, the score network is useless at small t and best near t = 1."
)

# %% [markdown]
# ## 3 · One network, any amount of noise
#
# Lab 2 showed that the flow can be shaken without leaving its path, if a pull along the score pays for the noise:
#
# <a id="eq-extension"></a>
# $$dX_t = \Big( u_t(X_t) + \tfrac12 \sigma_t^2\, s_t(X_t) \Big) dt + \sigma_t\, dW_t
# \quad\Rightarrow\quad X_t \sim p_t, \tag{slides}$$
#
# for every $\sigma_t \ge 0$. Since $u$ gives $s$, one network is enough, and $\sigma_t$ can be chosen after training. $\sigma = 0$ is the flow
# model.
#
# ### Exercise {exercise:sample_diffusion} · Sampling with any σ ({points:sample_diffusion} points)
#
# Write `sample_diffusion(u, s, sigma, x0, ts, noises)`, which simulates [this SDE](#eq-extension) by Euler–Maruyama along
# the times `ts` and returns the states at the last time. Step $k$ uses `noises[k]`.
#
# <details><summary>Hint</summary>
# Lab 1's loop and lab 1's step, with the new drift. Between <code>ts[k]</code> and <code>ts[k + 1]</code> everything
# is evaluated at <code>ts[k]</code>.
# </details>

# %% exercise="sample_diffusion"
def sample_diffusion(u, s, sigma, x0, ts, noises):
    """Simulate dX = (u + ½ σ² s) dt + σ dW by Euler–Maruyama.

    u, s: functions of (x, t). sigma: function of t that returns one number, as a float or a tensor of shape ().
    x0: (n, *shape), states at ts[0]. ts: (T,) increasing times in [0, 1], not necessarily evenly spaced, nor from 0 to 1.
    noises: (T − 1, n, *shape), standard normal, one for each step. Returns the states at ts[-1], (n, *shape), in the
    dtype of x0.
    """
    ### BEGIN SOLUTION
    x = x0
    for t, h, noise in zip(ts[:-1], ts.diff(), noises):
        drift = u(x, t) + 0.5 * sigma(t) ** 2 * s(x, t)
        x = x + h * drift + h**0.5 * sigma(t) * noise
    return x
    ### END SOLUTION


# %% check="sample_diffusion" points=5

# %% [markdown]
# **Every σ, one path.** Samples of the field network, with the score converted from it, at four times and for
# $\sigma_t = c\,\beta_t$ with three values of $c$. Single particles wander very differently (five are marked), the
# clouds agree with each other and with the exact density behind them.

# %%
sampler = lab4.answer_or("sample_diffusion")
shown, ts = (25, 50, 75, 100), torch.linspace(0, 1, 101)
x0, noises = torch.randn(1500, 2), torch.randn(100, 1500, 2)
fig, axes = plots.figure(columns=4, rows=3, width=2.5, height=2.45)
for row, c in enumerate((0.0, 1.0, 3.0)):
    x, before = x0, 0
    for ax, k in zip(axes[4 * row :], shown, strict=False):
        part = slice(before, k + 1)
        x = sampler(
            field_net, converted_score, lambda t, c=c: c * ot.beta(t), x, ts[part], noises[before:k]
        )
        before = k
        plots.plot_density(lambda x, t=ts[k]: exact.log_prob(x, t), ax, n=60)
        plots.plot_samples(x, ax, color=plots.RED, alpha=0.35)
        ax.plot(*x[:5].T, "o", ms=5, color=plots.BLUE, mec="white")
        ax.set(title=f"$c$ = {c:g}, $t$ = {ts[k]:g}", xlabel="", ylabel="")
plots.describe(
    "Three rows for three amounts of noise, four columns for four times. In each column the "
    "clouds look the same and fill the exact density; only the five marked particles stand "
    "elsewhere."
)

# %% [markdown]
# **What σ trades.** If all marginals agree, why care? Because steps are finite and networks are wrong. We measure it
# with the energy distance to fresh data for the exact field and for a network whose training was stopped early, in 8
# steps and in 60. All values of $c$ get the same noise, and below the energy distance of two sets of fresh data,
# printed last, there is nothing to see.
#
# * *Simulation error.* In few steps some noise helps: the pull along the score repairs what a coarse step got wrong.
# * *Model error.* The noise is paid for by the *learned* score, $\tfrac12\sigma_t^2 s_t$. The larger $\sigma_t$, the
#   more its errors count: too much noise blurs. Compare the dotted curves at $c = 1$, harmless with the exact score.
# * *Stiffness.* Near the data the score grows and a step is stable only while $h\,\sigma_t^2$ is small against
#   $\beta_t^2$ and the width of the data. A constant $\sigma$ breaks this rule as $t \to 1$, and
#   $\sigma_t \propto \beta_t$ keeps it far longer. Beyond it samples fly apart.

# %%
torch.manual_seed(2)
early = training.train(
    models.MLP(2), lambda net: losses.flow_matching_loss(net, path, batch(256)[0]), steps=150
).requires_grad_(False)

# %%
x0, fresh, scales = torch.randn(2000, 2), mixture.sample(2000), (0, 0.5, 1, 2, 3, 4, 6)


def distance_of(field, sigma, steps):
    """Energy distance of samples to fresh data: one noise for every sigma, none in the last step."""
    ts, noise = torch.linspace(0, 1, steps + 1), torch.Generator().manual_seed(steps)
    noises = torch.randn(steps, *x0.shape, generator=noise)
    last = ts[-2] - 1e-6
    x = sampler(
        field,
        lambda x, t: u_to_s(field(x, t), x, t, ot),
        lambda t: sigma(t) if t < last else 0.0,
        x0,
        ts,
        noises,
    )
    return float(metrics.energy_distance(x, fresh))


fig, axes = plots.figure(columns=2, width=4.6)
for ax, (title, field) in zip(
    axes, {"exact field": exact.vector_field, "network, stopped early": early}.items(), strict=True
):
    for label, style, steps, sigma in (
        (r"$\sigma_t = c\,\beta_t$, 8 steps", "o-", 8, lambda c: lambda t: c * ot.beta(t)),
        (r"$\sigma_t = c\,\beta_t$, 60 steps", "s--", 60, lambda c: lambda t: c * ot.beta(t)),
        (r"$\sigma_t = c$, 60 steps", "^:", 60, lambda c: lambda t: c),
    ):
        found = [distance_of(field, sigma(c), steps) for c in scales]
        ax.semilogy(scales, found, style, ms=4, label=label)
    ax.set(xlabel="amount of noise $c$", ylabel="energy distance", title=title, ylim=(4e-4, 0.5))
_ = axes[0].legend(fontsize=8)
floor = metrics.energy_distance(mixture.sample(2000), fresh)
print(f"two sets of fresh data: energy distance {floor:.4f}")
plots.describe(
    "With noise in proportion to β and 60 steps the distance stays near 0.002 for every c. With 8 "
    "steps some noise helps and much harms; with constant noise the distance explodes."
)

# %% [markdown]
# **Try it.** The exact field and score, $\sigma_t = c\,\beta_t$, and the first coordinate of the samples. With how
# few steps can you still match the density? Does the best $c$ depend on the number of steps? Where does it fly apart?

# %%
widgets.diffusion_sigma()

# %% [markdown]
# ## 4 · The same thing, seen from the data
#
# Diffusion models were discovered the other way round: take data and *add* noise, slowly, by an SDE, then learn to
# turn time back. That process has a clock of its own, which starts at the data. We write it $s = 1 - t$, so that
# $s = 0$ is data and $s = 1$ is noise. The best known one is **variance preserving** (VP), with a noise rate $b(s)$
# that grows linearly:
#
# $$dX_s = -\tfrac12\, b(s)\, X_s\, ds + \sqrt{b(s)}\, dW_s, \qquad b(s) = b_{\min} + (b_{\max} - b_{\min})\, s.
# \tag{intro, § 4.2}$$
#
# (Many texts write $\beta(s)$ for this rate. It is not our $\beta_t$.) The equation is linear, like
# Ornstein–Uhlenbeck with $\theta$ that changes with time, so given its start it stays Gaussian:
#
# <a id="eq-vp"></a>
# $$X_s \mid X_0 = z \;\sim\; N\big(a(s)\, z,\; \mathrm{std}(s)^2 I\big), \qquad
# a(s) = e^{-\frac12 \int_0^s b(r)\,dr}, \qquad \mathrm{std}(s)^2 = 1 - a(s)^2.$$
#
# Read at $t = 1 - s$, this is a Gaussian path with $\alpha_t = a(1 - t)$ and $\beta_t = \mathrm{std}(1 - t)$: nothing
# new to learn, only a schedule, in fmlab `schedules.LinearVP(beta_min, beta_max)`.
#
# ### Exercise {exercise:forward_marginal} · The marginals of the VP diffusion ({points:forward_marginal} points)
#
# Write `forward_marginal(s, beta_min, beta_max)`, with `beta_min`, `beta_max` for $b_{\min}$, $b_{\max}$: the pair of
# mean coefficient $a(s)$ and standard deviation in [the law above](#eq-vp).
#
# <details><summary>Hint</summary>
# The integral of a linear function is an area you can draw: a rectangle and a triangle. <code>s</code> may be a
# number or a tensor, and <code>torch.as_tensor</code> accepts both.
# </details>

# %% exercise="forward_marginal"
def forward_marginal(s, beta_min, beta_max):
    """Marginal of the VP diffusion at its own time s (0 is data, 1 is noise), given the data.

    s: a number or a tensor of times of any shape, in [0, 1]. beta_min, beta_max: numbers, 0 < beta_min ≤ beta_max.
    Returns (a, std): mean coefficient and standard deviation, of the shape and dtype of s; of a number, two numbers or
    tensors of shape ().
    """
    ### BEGIN SOLUTION
    s = torch.as_tensor(s)
    a = torch.exp(-(beta_min * s + (beta_max - beta_min) * s**2 / 2) / 2)
    return a, torch.sqrt(1 - a**2)
    ### END SOLUTION


# %% check="forward_marginal" points=3

# %% [markdown]
# **Data fade, noise comes up.** Left: the two coefficients; for the usual rates 0.1 and 20 nothing is left of the
# data at $s = 1$. Right: paths of the SDE from the point $z = 2$, simulated with lab 1's Euler–Maruyama, in the band
# of your formula.

# %%
vp = schedules.LinearVP(0.1, 20.0)
marginal_at = lab4.answer_or("forward_marginal")


def f(s):
    """Rate of the drift: f(s) x."""
    return -vp.noise_rate(s) / 2


def g(s):
    """Diffusion coefficient."""
    return vp.noise_rate(s).sqrt()


forward = processes.LinearSDE(f, g)
ss = torch.linspace(0, 1, 401)
a, std = marginal_at(ss, 0.1, 20.0)
noising = simulators.simulate(forward, torch.full((12,), 2.0), ss, record=True)
fig, axes = plots.figure(columns=2, width=4.6)
axes[0].plot(ss, a, color=plots.BLUE, ls="-", label="mean coefficient $a(s)$")
axes[0].plot(ss, std, color=plots.RED, ls="--", label="standard deviation")
axes[0].set(xlabel="time of the diffusion $s$", ylim=(0, 1.05))
axes[0].legend(loc="center right")
plots.plot_paths(ss, noising, axes[1], color=plots.BLUE, ls="-", alpha=0.5)
plots.plot_band(ss, 2 * a, std, axes[1], label="mean, your formula")
axes[1].set(xlabel="time of the diffusion $s$", ylabel="state $X_s$")
axes[1].legend(loc="lower left")
plots.describe(
    "Left: the coefficient of the mean falls from 1 to 0 while the standard deviation rises from "
    "0 to 1. Right: twelve paths from 2 fan out and fill the band of the formula, which ends as ± "
    "2 about 0."
)

# %% [markdown]
# ### Exercise {exercise:reverse_sde_drift} · Turning time back ({points:reverse_sde_drift} points)
#
# A diffusion $dX_s = f(s) X_s\,ds + g(s)\,dW_s$ run backwards is again a diffusion, and its drift needs the score.
# Texts that keep the clock $s$ and let it run *down* from 1 to 0 write
#
# $$dX_s = \big( f(s)\, X_s - g(s)^2\, \nabla \log p(X_s) \big)\, ds + g(s)\, d\bar W_s, \qquad ds < 0.
# \tag{intro, § 3.2}$$
#
# We sample in our own clock $t = 1 - s$, which runs *up*: $ds = -dt$. So the drift changes its sign as a whole, and
# the noise, which has no direction, stays:
#
# <a id="eq-reverse"></a>
# $$dX_t = \big( -f(1 - t)\, X_t + g(1 - t)^2\, s_t(X_t) \big)\, dt + g(1 - t)\, dW_t.$$
#
# The flipped sign is the classical bug of home-made diffusion samplers. Write `reverse_sde_drift(score, x, t, f, g)`:
# the drift of [this SDE](#eq-reverse) at our time $t$. The functions `f(s)`, `g(s)` live in the diffusion's time; `score(x, t)` lives in ours.
#
# <details><summary>Hint</summary>
# Far from the data the drift must point home: for VP, $-f$ is positive and pushes outward, and the score, twice as
# strong, pulls inward. <code>coefficient</code> shapes <code>f(1 - t)</code> and <code>g(1 - t)</code>.
# </details>

# %% exercise="reverse_sde_drift"
def reverse_sde_drift(score, x, t, f, g):
    """Drift of the reverse SDE at our time t (0 is noise, 1 is data).

    score: function score(x, t), the gradient of log p_t. x: (n, *shape). t: a number or (n,), in [0, 1].
    f, g: functions of s = 1 − t, a number or (n,), which return a tensor of shape () or (n,) to match: the forward SDE
    is dX = f(s) X ds + g(s) dW.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    rate, noise = coefficient(f(1 - t), x), coefficient(g(1 - t), x)
    return -rate * x + noise**2 * score(x, t)
    ### END SOLUTION


# %% check="reverse_sde_drift" points=4

# %% [markdown]
# **There and back.** One-dimensional data with three peaks, so that time fits on an axis. Left the diffusion takes
# data to noise (its clock $s$ runs to the right), right the reverse SDE with the exact score takes noise to data. The
# shading is the exact $p_t$.

# %%
peaks = distributions.GaussianMixture([[-1.6], [0.2], [1.5]], [0.03, 0.02, 0.06], [0.4, 0.25, 0.35])
line = paths.GaussianPath(vp).marginal(peaks)
backward = lab4.answer_or("reverse_sde_drift")
ts = torch.linspace(0, 1, 401)
noising = simulators.simulate(forward, peaks.sample(10), ts, record=True)
reverse = processes.SDE(lambda x, t: backward(line.score, x, t, f, g), lambda x, t: g(1 - t))
start = torch.randn(2000, 1)
sampled = simulators.simulate(reverse, start, ts, record=True)
fig, axes = plots.figure(columns=2, width=4.6)
plots.plot_density_in_time(lambda x, s: line.log_prob(x, 1 - s), axes[0])
plots.plot_paths(ts, noising, axes[0], color=plots.BLUE, ls="-")
axes[0].set(xlabel="time of the diffusion $s$", ylabel="state $X_s$")
axes[0].set_title("forward: data to noise")
plots.plot_density_in_time(line.log_prob, axes[1])
plots.plot_paths(ts, sampled[:, :10], axes[1], color=plots.RED, ls="-")
axes[1].set_title("reverse SDE: noise to data")
plots.describe(
    "Left: paths start at three peaks and mix until only noise is left. Right: paths start as "
    "noise and end in the same three peaks; they run within the shading of the exact density."
)

# %% [markdown]
# ### Exercise {exercise:probability_flow_field} · The probability flow ({points:probability_flow_field} points)
#
# A flow with the same marginals exists too: take away the noise, and with it the half of the score that paid for it,
#
# <a id="eq-probability-flow"></a>
# $$\frac{d}{dt} X_t = -f(1 - t)\, X_t + \tfrac12\, g(1 - t)^2\, s_t(X_t). \tag{intro, § 3.2}$$
#
# It is the vector field of this path, the one that flow matching would learn; and the reverse SDE is section 3's SDE
# with $\sigma_t = g(1 - t)$. Write `probability_flow_field(score, x, t, f, g)`, the right-hand side of
# [intro, § 3.2](#eq-probability-flow).
#
# <details><summary>Hint</summary>
# Compare the two drifts. What is the difference?
# </details>

# %% exercise="probability_flow_field"
def probability_flow_field(score, x, t, f, g):
    """Vector field of the probability flow at our time t (0 is noise, 1 is data).

    score: function score(x, t), the gradient of log p_t. x: (n, *shape). t: a number or (n,), in [0, 1].
    f, g: functions of s = 1 − t, as for `reverse_sde_drift`. Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    rate, noise = coefficient(f(1 - t), x), coefficient(g(1 - t), x)
    return -rate * x + 0.5 * noise**2 * score(x, t)
    ### END SOLUTION


# %% check="probability_flow_field" points=2

# %% [markdown]
# **The same score, no noise.** Left: the flow from the same starting points as the reverse SDE above. Its paths are
# smooth and never cross. Right: where 2000 particles of each end; both are samples of the data.

# %%
flow_field = lab4.answer_or("probability_flow_field")
flow = processes.ODE(lambda x, t: flow_field(line.score, x, t, f, g))
flowed = simulators.simulate(flow, start, ts, simulators.Midpoint(), record=True)
fig, axes = plots.figure(columns=2, width=4.6)
plots.plot_density_in_time(line.log_prob, axes[0])
plots.plot_paths(ts, flowed[:, :10], axes[0], color=plots.RED, ls="-")
axes[0].set_title("probability flow: noise to data")
bins = torch.linspace(-2.5, 2.5, 61).tolist()
plots.plot_histogram(
    flowed[-1], axes[1], lambda x: peaks.log_prob(x[:, None]).exp(), bins, label="probability flow"
)
axes[1].hist(
    plots.array(sampled[-1])[:, 0],
    bins,
    density=True,
    histtype="step",
    color=plots.RED,
    ls="--",
    lw=1.5,
    label="reverse SDE",
)
axes[1].set(title="at $t$ = 1", xlim=(-2.5, 2.5))
axes[1].legend(fontsize=8, loc="upper right")
plots.describe(
    "Left: smooth paths that never cross run from noise into three peaks. Right: the histograms "
    "of the flow and of the reverse SDE both follow the exact density."
)

# %% [markdown]
# ## 5 · DDPM: diffusion in K steps
#
# The original diffusion model knows no SDE. It is a chain of $K$ steps that each add a little noise. Here the
# literature counts $k = 0$ (data) to $k = K$ (noise) and writes $\beta_k$ for the variance added in step $k$, once
# more a different $\beta$. With $\alpha_k = 1 - \beta_k$ and $\bar\alpha_k = \alpha_1 \cdots \alpha_k$,
#
# $$x_k = \sqrt{\alpha_k}\, x_{k-1} + \sqrt{\beta_k}\, \varepsilon_k, \qquad
# x_k \mid x_0 \sim N\big( \sqrt{\bar\alpha_k}\, x_0,\; (1 - \bar\alpha_k) I \big). \tag{intro, § 3.4}$$
#
# With $\beta_k = b(k/K)/K$ a step of the chain is a step of Euler–Maruyama for the VP diffusion, up to terms of order
# $1/K^2$. So the chain's $\sqrt{\bar\alpha_k}$ should tend to your $a(k/K)$ as $K$ grows:

# %%
print("largest difference between the chain and the diffusion")
for steps in (50, 100, 200, 400, 800):
    bars = ddpm.Chain(ddpm.vp_betas(vp, steps)).alpha_bars
    a, _ = marginal_at(torch.arange(steps + 1) / steps, 0.1, 20.0)
    print(f"K = {steps:4d}   {float((bars.sqrt() - a).abs().max()):.5f}")

# %% [markdown]
# ### Exercise {exercise:ddpm_posterior} · The posterior of one step ({points:ddpm_posterior} points)
#
# To go back we need $x_{k-1}$ given $x_k$. Nobody knows that without the data; but if $x_0$ is given as well, it is a
# product of Gaussians, and so a Gaussian:
#
# <a id="eq-posterior"></a>
# $$q(x_{k-1} \mid x_k, x_0) = N(\tilde\mu_k, \tilde\beta_k I), \qquad
# \tilde\beta_k = \frac{1 - \bar\alpha_{k-1}}{1 - \bar\alpha_k}\, \beta_k, \tag{intro, § 4.4}$$
#
# $$\tilde\mu_k = \frac{\sqrt{\bar\alpha_{k-1}}\, \beta_k}{1 - \bar\alpha_k}\, x_0
# + \frac{\sqrt{\alpha_k}\, (1 - \bar\alpha_{k-1})}{1 - \bar\alpha_k}\, x_k.$$
#
# The mean is a compromise between where the data say the state should be and where it is now.
#
# Write `ddpm_posterior(x, x0, k, betas)`: the pair of mean and variance of [intro, § 4.4](#eq-posterior). The table `betas` is padded so that
# `betas[k]` is $\beta_k$: it has $K + 1$ entries, the first is 0, and then $\bar\alpha_0 = 1$.
#
# <details><summary>Hint</summary>
# <code>(1 - betas).cumprod(0)</code> holds all the $\bar\alpha_k$. For $k = 1$ the posterior is the point $x_0$ itself, with variance 0:
# a good test.
# </details>

# %% exercise="ddpm_posterior"
def ddpm_posterior(x, x0, k, betas):
    """Mean and variance of q(x_{k−1} | x_k, x_0), for 1 ≤ k ≤ K.

    x: x_k, (n, *shape). x0: (n, *shape). k: a whole number. betas: (K + 1,), with betas[0] = 0, perhaps in double
    precision where x is not. Returns (mean, variance): (n, *shape), in the dtype of x, and one number.
    """
    ### BEGIN SOLUTION
    bars = (1 - betas).cumprod(0)
    of_data = bars[k - 1].sqrt() * betas[k] / (1 - bars[k])
    of_state = (1 - betas[k]).sqrt() * (1 - bars[k - 1]) / (1 - bars[k])
    return of_data * x0 + of_state * x, betas[k] * (1 - bars[k - 1]) / (1 - bars[k])
    ### END SOLUTION


# %% check="ddpm_posterior" points=4

# %% [markdown]
# **Knowing one neighbour more.** What the chain allows for $x_{k-1}$ if only the data point $x_0 = 1$ is known, and
# if in addition $x_k = -0.5$ is known. Early in the chain ($k = 5$) both have their say; late ($k = 50$) the step is
# so small against the noise that only $x_k$ counts.

# %%
K = 100
chain = ddpm.Chain(ddpm.vp_betas(vp, K))  # chain.betas is padded as described
posterior = lab4.answer_or("ddpm_posterior")
x, one = torch.linspace(-2.5, 2.5, 401), torch.ones(1, 1)
fig, axes = plots.figure(columns=3, width=3.4)
for ax, k in zip(axes, (5, 15, 50), strict=True):
    bar = chain.alpha_bars[k - 1]
    mean, variance = posterior(-0.5 * one, one, k, chain.betas)
    alone = distributions.Gaussian([float(bar.sqrt())], float(1 - bar))
    both = distributions.Gaussian([float(mean)], float(variance))
    ax.plot(x, alone.log_prob(x[:, None]).exp(), color=plots.BLUE, ls="--", label="given $x_0$")
    ax.plot(x, both.log_prob(x[:, None]).exp(), color=plots.RED, ls="-", label="given $x_0$, $x_k$")
    ax.plot([1], [0], "o", color=plots.BLUE, label="$x_0$", clip_on=False)
    ax.plot([-0.5], [0], "^", color=plots.BLACK, label="$x_k$", clip_on=False)
    ax.set(xlabel="$x_{k-1}$", title=f"$k$ = {k}")
axes[0].set_ylabel("density")
axes[2].legend(fontsize=8)
plots.describe(
    "Two bell curves each. Given the data point alone, the curve widens with k; given the next "
    "state too, it is narrower and moves from between the two marks, at k = 5, to the next state, "
    "at k = 50."
)

# %% [markdown]
# ### Exercise {exercise:ancestral_step} · Ancestral sampling ({points:ancestral_step} points)
#
# When we sample, $x_0$ is what we do not have. But a noise network has an opinion about it. Solve
# $x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1 - \bar\alpha_k}\, \varepsilon$ with the predicted noise
# $\hat\varepsilon$,
#
# $$\hat x_0 = \frac{x_k - \sqrt{1 - \bar\alpha_k}\, \hat\varepsilon}{\sqrt{\bar\alpha_k}},$$
#
# and draw $x_{k-1}$ from the posterior with $\hat x_0$ in the place of $x_0$. Its mean simplifies:
#
# <a id="eq-ancestral"></a>
# $$x_{k-1} = \frac{1}{\sqrt{\alpha_k}} \Big( x_k - \frac{\beta_k}{\sqrt{1 - \bar\alpha_k}}\, \hat\varepsilon \Big)
# + \sqrt{\tilde\beta_k}\; \xi, \qquad \xi \sim N(0, I). \tag{intro, § 4.4–4.5}$$
#
# Write `ancestral_step(x, eps, k, betas, noise)`, the $x_{k-1}$ of [intro, § 4.4–4.5](#eq-ancestral), with `eps` the
# predicted noise $\hat\varepsilon$ and `noise` the fresh noise $\xi$.
#
# <details><summary>Hint</summary>
# Either form of the mean will do. The last step, $k = 1$, needs no special case: what is $\tilde\beta_1$?
# </details>

# %% exercise="ancestral_step"
def ancestral_step(x, eps, k, betas, noise):
    """One step back, from x_k to x_{k−1}.

    x: x_k, (n, *shape). eps: predicted noise, noise: fresh standard normal noise, both (n, *shape).
    k: a whole number, 1 ≤ k ≤ K. betas: (K + 1,), with betas[0] = 0, perhaps in double precision where x is not.
    Returns x_{k−1}, (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    bars = (1 - betas).cumprod(0)
    mean = (x - betas[k] / (1 - bars[k]).sqrt() * eps) / (1 - betas[k]).sqrt()
    variance = betas[k] * (1 - bars[k - 1]) / (1 - bars[k])
    return mean + variance.sqrt() * noise
    ### END SOLUTION


# %% check="ancestral_step" points=4

# %% [markdown]
# **A diffusion model, running.** Which network predicts the noise of this chain? We have trained none on the VP
# schedule, and need none: dividing a state by $\alpha_t + \beta_t$ turns it into a state
# $t' z + (1 - t')\, \varepsilon$ of our first schedule, at the time $t' = \alpha_t/(\alpha_t + \beta_t)$ and with the
# same $\varepsilon$. So the noise network of section 1 can be asked there. (Why every schedule is every other one in
# disguise is a subject of lab 5.)

# %%
def chain_noise(x, t):
    """Noise predicted in a VP state at our time t, by the network that was trained on CondOT."""
    alpha, beta = vp.alpha(t), vp.beta(t)
    return noise_net(x / coefficient(alpha + beta, x), alpha / (alpha + beta))


step_back = lab4.answer_or("ancestral_step")


def ancestral_samples(chain, x, keep=()):
    """x_0 from x = x_K, and the states on the way whose indices are in keep."""
    kept = []
    for k in range(chain.n_steps, 0, -1):
        kept += [(k, x)] if k in keep else []
        x = step_back(x, chain_noise(x, chain.time(k)), k, chain.betas, torch.randn_like(x))
    return [*kept, (0, x)]


x_K = torch.randn(2000, 2)
on_vp = paths.GaussianPath(vp).marginal(mixture)
fig, axes = plots.figure(columns=5, width=2.4, height=2.5)
for ax, (k, x) in zip(axes, ancestral_samples(chain, x_K, (100, 50, 25, 10)), strict=True):
    plots.plot_density(lambda x, k=k: on_vp.log_prob(x, 1 - k / K), ax, n=60)
    plots.plot_samples(x, ax, color=plots.RED, alpha=0.35)
    ax.set(title=f"$x_{{{k}}}$", xlabel="", ylabel="")
for steps in (30, 100, 300):
    end = ancestral_samples(ddpm.Chain(ddpm.vp_betas(vp, steps)), x_K)[-1][1]
    print(f"K = {steps:3d}: energy distance to data {metrics.energy_distance(end, fresh):.4f}")
plots.describe(
    "The same cloud as a chain runs from 100 steps before the data to 0: round noise, then a "
    "bulge, then the three Gaussians of the data, each time on the exact density."
)

# %% [markdown]
# ### Exercise {exercise:elbo_terms} · A bound on the likelihood ({points:elbo_terms} points, a challenge)
#
# How likely is a data point under such a model? Not known, but bounded from below by the **ELBO**, a sum over the
# chain of how well each step back imitates the posterior:
#
# <a id="eq-elbo"></a>
# $$\log p(x_0) \ge \mathbb E \log p(x_0 \mid x_1)
# - \sum_{k=2}^{K} \mathbb E\, \mathrm{KL}_k - \mathrm{KL}\big( q(x_K \mid x_0) \,\big\|\, N(0, I) \big),
# \tag{intro, § 4.4}$$
#
# $$\mathrm{KL}_k = \mathrm{KL}\big( q(x_{k-1} \mid x_k, x_0) \,\big\|\, p(x_{k-1} \mid x_k) \big).$$
#
# The model's step is $p(x_{k-1} \mid x_k) = N(\hat\mu_k, \beta_k I)$, where $\hat\mu_k$ is the mean of exercise {exercise:ancestral_step}.
# Its variance is ours to choose; for the bound we take $\beta_k$, since $\tilde\beta_1 = 0$ would leave no density at
# $k = 1$. Everything is Gaussian, and
#
# $$\mathrm{KL}\big( N(m, v I) \,\big\|\, N(m', v' I) \big)
# = \frac12 \Big( \frac{\| m - m' \|^2}{v'} + d\, \Big( \frac{v}{v'} - 1 - \log \frac{v}{v'} \Big) \Big),$$
#
# with $d$ the number of coordinates of a point. The means $\tilde\mu_k$ and $\hat\mu_k$ differ only in $\varepsilon$
# against $\hat\varepsilon$, so $\| \tilde\mu_k - \hat\mu_k \|^2 / (2 \beta_k)$ is
# $w_k \| \varepsilon - \hat\varepsilon \|^2$: exercise {exercise:noise_prediction_loss}'s loss, with the weight
#
# $$w_k = \frac{\beta_k}{2\, \alpha_k\, (1 - \bar\alpha_k)}. \tag{intro, § 4.5}$$
#
# Write `elbo_terms(x0, eps, betas, noises)`: the $K + 1$ terms of [the bound](#eq-elbo) with their signs, so that their sum is
# the ELBO. Row 0 is $\log p(x_0 \mid x_1)$, row $k - 1$ is minus the KL of step $k$ for $k = 2, \dots, K$, and row
# $K$ is minus the last KL. Each expectation is estimated with one state,
# $x_k = \sqrt{\bar\alpha_k}\, x_0 + \sqrt{1 - \bar\alpha_k}\, \varepsilon_k$ with $\varepsilon_k$ = `noises[k - 1]`.
# The network is asked at *our* time, `eps(x, 1 - k / K)`.
#
# <details><summary>Hint</summary>
# Two ways: compute the two means and put them into the KL, or compute the squared error of the noise and use the
# weight. Row 0 is the log density of $N(\hat\mu_1, \beta_1 I)$ at $x_0$, and $x_0 - \hat\mu_1$ is again a multiple of
# $\varepsilon - \hat\varepsilon$, with the same $w_1$. Do not forget its $-\frac d2 \log (2 \pi \beta_1)$.
# </details>

# %% exercise="elbo_terms"
def elbo_terms(x0, eps, betas, noises):
    """The terms of the bound on log p(x_0), with their signs.

    x0: (n, *shape). eps: noise network, a function eps(x, t) of our time t, for x in the dtype of x0.
    betas: (K + 1,), with betas[0] = 0, perhaps in double precision where x0 is not.
    noises: (K, n, *shape), the noise of x_1 … x_K.
    Returns (K + 1, n), whose sum over the rows is the ELBO.
    """
    ### BEGIN SOLUTION
    bars, d, steps = (1 - betas).cumprod(0), x0[0].numel(), len(betas) - 1
    terms = []
    for k, noise in enumerate(noises, start=1):
        x = bars[k].sqrt() * x0 + (1 - bars[k]).sqrt() * noise
        error = (noise - eps(x, 1 - k / steps)).square().flatten(1).sum(1)
        ratio = (1 - bars[k - 1]) / (1 - bars[k])  # of the two variances
        spread = ratio - 1 - ratio.log() if k > 1 else (2 * torch.pi * betas[1]).log()
        terms.append(-betas[k] / (2 * (1 - betas[k]) * (1 - bars[k])) * error - d / 2 * spread)
    prior = bars[-1] * x0.square().flatten(1).sum(1) - d * bars[-1] - d * (1 - bars[-1]).log()
    return torch.stack([*terms, -prior / 2])
    ### END SOLUTION


# %% check="elbo_terms" points=5

# %% [markdown]
# **What each step costs.** The chain of 100 steps and 1000 data points. Left: the KL of each step, for the best
# possible noise prediction and for the network. That it is not 0 is nobody's fault: even the best prediction does not
# know $x_0$, and pays for what $x_k$ leaves open. The network pays more only where the cost is tiny. Right: the
# weight $w_k$ that the bound gives to the error of step $k$; exercise {exercise:noise_prediction_loss} gives all steps the same. The bound weighs
# the last steps before the data, where the finest details are decided, ten times as much as those in the middle.
#
# The sum is printed below. For the best prediction, what is missing to the true $\log p$ is due to the steps alone: a
# true step back is not quite Gaussian, but the shorter it is the nearer it comes, and the bound closes in.

# %%
bound = lab4.answer_or("elbo_terms")
z = mixture.sample(1000)


def best_noise(x, t):
    """The exact noise prediction on the VP path."""
    return conversions.noise_from_score(on_vp.score(x, t), x, t, vp)


def terms_of(network, steps):
    betas = ddpm.Chain(ddpm.vp_betas(vp, steps)).betas
    noises = torch.randn(steps, *z.shape, generator=torch.Generator().manual_seed(0))
    return bound(z, lambda x, t: network(x, torch.as_tensor(t)), betas, noises).mean(1)


networks = {"exact": best_noise, "network": chain_noise}
ks = torch.arange(1, K + 1)
fig, axes = plots.figure(columns=2, width=4.6)
for (name, network), style in zip(networks.items(), ("-", "--"), strict=True):
    axes[0].semilogy(ks[1:], -terms_of(network, K)[1:-1], style, label=name)
axes[0].set(xlabel="step $k$ (data left, noise right)", ylabel="KL", title="cost of each step")
axes[0].legend()
weights = torch.tensor([chain.noise_mse_weight(int(k)) for k in ks])
axes[1].semilogy(ks, weights, color=plots.BLUE, ls="-", label="in the bound, $w_k$")
axes[1].axhline(1, color=plots.RED, ls="--", label="in exercise {exercise:noise_prediction_loss}")
axes[1].set(xlabel="step $k$", title=r"weight of $\|\varepsilon - \hat\varepsilon\|^2$")
axes[1].legend()
print(f"true log-likelihood of the data: {float(mixture.log_prob(z).mean()):.3f}")
for steps in (30, 100, 300):
    found = [f"{name} {float(terms_of(net, steps).sum()):.3f}" for name, net in networks.items()]
    print(f"ELBO with K = {steps:3d}:", "   ".join(found))
plots.describe(
    "Left: the cost of a step falls from 1 to below 0.00001 over the chain; the network pays more "
    "only in the last twenty noisy steps. Right: the bound's weight is largest at the first step "
    "and smallest near step 30."
)

# %% [markdown]
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab4.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab4.progress()

# %% [markdown]
# ## 6 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:singular_ends} · The singular ends ({points:singular_ends} points)
#
# For $\alpha_t = t$, $\beta_t = 1 - t$: at which end is the target of denoising score matching singular, and what is
# the variance of the target there? At which end is each of the two conversions singular? What does clipping the times
# at 0.99 do to the loss, and what does it cost? What does the weight $\beta_t^2$ do instead, and what price does
# noise prediction pay for it?

# %% [markdown] answer="singular_ends" points=4
# ### BEGIN SOLUTION
# The target $-\varepsilon/\beta_t$ is singular at the data, $t = 1$: its variance is $1/\beta_t^2 = 1/(1 - t)^2$ per
# coordinate, and the integral of that over $[0, 1)$ diverges, so even the perfect score has infinite expected loss
# and the average over batches never settles. The conversion to the score divides by
# $\beta_t(\beta_t \dot\alpha_t - \alpha_t \dot\beta_t) = \beta_t$ and is singular at $t = 1$ as well; the conversion
# to the field divides by $\alpha_t$ and is singular at the noise, $t = 0$, where the score is $-x$ whatever the data
# are. Times clipped to $[0, 1 - c]$ make the loss finite, of size $d/c$ with a spread that grows as $c$ shrinks. The
# cost: nothing is learned about $t > 0.99$, and the times near 0.99 still dominate, so the score is poor for small
# $t$. The weight $\beta_t^2$ gives the target the variance 1 at every time, with no need to clip, and leaves the
# minimiser at each time as it is. The price is paid at $t \to 1$, where the network is asked for a noise that it can
# hardly see, and the score $-\varepsilon_\theta/\beta_t$ divides its error by $\beta_t$.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:which_sigma} · Which σ? ({points:which_sigma} points)
#
# With an exact field, exact score and infinitely many steps, what does the choice of $\sigma_t$ change, and what not?
# With few steps? With an imperfect network? Say why a constant $\sigma$ is a bad choice near $t = 1$.

# %% [markdown] answer="which_sigma" points=3
# ### BEGIN SOLUTION
# With exact fields and small steps every $\sigma_t$ gives the same marginals $p_t$, in particular the same samples in
# law; only the paths change, from smooth curves that can be run backwards ($\sigma = 0$) to rough ones that forget
# their start. With few steps a moderate $\sigma$ can help: the drift $\frac12\sigma_t^2 s_t$ pulls states back to
# where $p_t$ has its mass and repairs part of the discretisation error. Too large a $\sigma$ needs smaller steps
# itself. With an imperfect network the pull along the true score would repair errors of the field too, but the pull
# is along the learned score, so its error enters with the factor $\frac12\sigma_t^2$: beyond some point more noise
# makes samples worse, it blurs. Near $t = 1$ the score grows like $1/\beta_t^2$ where data are thin, and
# Euler–Maruyama is stable only for $h \sigma_t^2$ of the order of $\beta_t^2$ (plus the variance of the data); a
# constant $\sigma$ violates this near the end and samples fly apart, while $\sigma_t \propto \beta_t$ fades together
# with $\beta_t$.
# ### END SOLUTION

# %% [markdown]
# ## 7 · One object, many coordinates
#
# Score, noise, vector field: three outputs of one denoiser. Flow, extended SDE, reverse SDE, DDPM: samplers of one
# path that differ in how much noise they add and how they step. Which output should a network have, which schedule,
# which weight over time? Lab 5 puts all of them on one axis, the signal-to-noise ratio, and shows how little is left
# to choose.
