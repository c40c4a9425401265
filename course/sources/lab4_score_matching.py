# %% [markdown] writes="denoising losses, score ↔ field, a sampler with any noise, reverse SDEs, the DDPM chain and its bound" needs="labs 1 to 3"
# # Lab 4 · Score matching and diffusion
#
# A flow model learns how to *move*: a vector field. A diffusion model learns where data are *likely*: the
# [score](../words.md#score) $s_t(x) = \nabla \log p_t(x)$, the direction in which the density of the states grows
# fastest. Many image generators that you can download are diffusion models. In this lab you train scores, turn a
# vector field into a score and back, sample one network with any amount of noise, and run a diffusion backwards in
# time. All of these turn out to be one object in different coordinates.
#
# **How to work.** Replace each line `raise NotImplementedError` by your code, run the cell, then run the check below
# it. Figures use your function once its check has passed, and fmlab's until then. Stuck?
# `lab4.hint("denoising_score_matching_loss")` gives the next of three hints. Guesses are never graded: type one before
# you look. What is marked *further* can be left out; nothing else needs it.
#
# | letter | meaning | section |
# |---|---|---|
# | $t$ | time: 0 is noise, 1 is data | all |
# | $z$, $\varepsilon$ | data; noise from $\mathcal N(0, I)$ | all |
# | $x$ | a state, $x = \alpha_t z + \beta_t \varepsilon$, of shape `(n, *shape)`: points `(n, 2)`, images `(n, 1, 8, 8)` | all |
# | $\alpha_t$, $\beta_t$ | the [schedule](../words.md#schedule): `schedule.alpha(t)`, `schedule.beta(t)`; with a dot its time derivatives: `schedule.alpha_dot(t)`, `schedule.beta_dot(t)` | all |
# | $p_t$, $s_t$, $u_t$ | density, score and vector field of the path at time $t$ | all |
# | $s_\theta$, $\varepsilon_\theta$ | networks with weights $\theta$ that learn the score, the noise | 1 |
# | $\delta$ | the clip: times are below $1 - \delta$ | 1 |
# | $C$ | the loss of the best possible network | 1 |
# | $\sigma_t$, $c$ | amount of noise in a sampler; $\sigma_t = c\,\beta_t$ | 3, 4 |
# | $\tau$ | $1 - t$, the clock of a diffusion: 0 is data | 4 |
# | $f$, $g$, $b$ | drift rate, diffusion coefficient, noise rate of that diffusion | 4 |
# | $k$, $K$ | a step of DDPM's chain; the number of steps | 5 |
# | $\alpha_k$, $\beta_k$, $\bar\alpha_k$, $w_k$ | numbers of that chain, *not* of the schedule | 5 |
#
# *Notes* means [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/). The lab is
# worth {points:all} points, {points:code} of them for code.

# %%
import torch

from fmlab import conversions, ddpm, distributions, losses, metrics, models, paths, plots
from fmlab import processes, schedules, simulators, threads, training, widgets
from fmlab.checks import lab4
from fmlab.schedules import coefficient

plots.use_style()
threads.use_idle_cores()  # a second thread if a processor core is idle
_ = torch.manual_seed(0)

# %% [markdown]
# **The data of this lab** are a mixture of three Gaussians in the plane. Its density, score and vector field are known in
# closed form at every time, so everything that we learn can be compared with the truth.

# %%
mixture = distributions.GaussianMixture(
    means=[[-1.4, -0.7], [1.3, -1.0], [0.2, 1.3]],
    covs=[[[0.12, 0.06], [0.06, 0.10]], [[0.06, -0.03], [-0.03, 0.12]], [[0.30, 0.0], [0.0, 0.04]]],
    weights=[0.3, 0.3, 0.4],
)
ot = schedules.CondOT()  # alpha = t, beta = 1 - t
exact = paths.GaussianPath(ot).marginal(mixture)

# %% figure="the score at four times"
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
# The score gives the field (section 2), and samples with any amount of noise (section 3). But for real data it is not
# known, so no network can be fitted to it. The solution is that of flow matching: fit $s_\theta$ to the *conditional*
# score $\nabla \log p_t(x \mid z)$, which is known. The network then learns its average over all $z$ that fit $x$, and
# that is the marginal score. For a Gaussian path the conditional score points against the noise:
#
# $$\nabla \log p_t(x \mid z) = -\frac{x - \alpha_t z}{\beta_t^2} = -\frac{\varepsilon}{\beta_t}.$$
#
# Hence the name **denoising score matching**:
#
# <a id="eq-dsm"></a>
# $$L_{\text{DSM}}(\theta) = \mathbb E_{t, z, \varepsilon} \Big\| s_\theta(x, t) + \frac{\varepsilon}{\beta_t} \Big\|^2,
# \qquad x = \alpha_t z + \beta_t \varepsilon. \tag{Vincent 2011}$$
#
# $\|\cdot\|^2$ is the sum over the coordinates of one point. $\mathbb E$ is estimated by the mean over a batch.
#
# ### Exercise {exercise:denoising_score_matching_loss} · Denoising score matching ({points:denoising_score_matching_loss} points)
#
# Write `denoising_score_matching_loss(s, z, t, noise, schedule)`, [the denoising score matching loss](#eq-dsm) of one
# batch whose times and noise are already drawn. There is one time per point, so $\alpha_t$ has shape `(n,)`. The helper
# `coefficient(value, x)` brings it into the shape that multiplies `x`. A network `s(x, t)`, like every field in this
# lab, takes the time as it is: a number, a tensor of shape `()`, or `(n,)`, a time for each row of `x`.
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
# **Predict.** The network below is perfect: it *is* the exact score. The times are uniform on $[0, 0.9)$. What is its
# loss, on average?

# %%
loss_of_the_exact_score = ...  # your guess, a number

# %%
dsm_loss = lab4.answer_or("denoising_score_matching_loss")


def batch_losses(loss, network, delta, batches=150, n=500):
    """Losses of many batches, with times uniform on [0, 1 - delta)."""
    times = (1 - delta) * torch.rand(batches, n)
    return torch.stack([loss(network, mixture.sample(n), t, torch.randn(n, 2), ot) for t in times])


found = {delta: batch_losses(dsm_loss, exact.score, delta) for delta in (0.1, 0.01, 1e-4)}
lab4.compare("the loss of the exact score", loss_of_the_exact_score, float(found[0.1].mean()))

# %% [markdown]
# **A loss that does not settle.** The loss is not 0, since the target $-\varepsilon/\beta_t$ is random even if the
# state is known, and its variance grows like $1/\beta_t^2$ as $t \to 1$. So one keeps away from $t = 1$, by a **clip**
# $\delta$: times are uniform on $[0, 1 - \delta)$. The smaller the clip, the more the few points near $t = 1$ dominate
# the average of a batch. At $\delta = 0$ the expected loss is infinite.

# %% figure="losses of the exact score, batch by batch"
fig, (ax,) = plots.figure(width=7.5)
for (delta, values), mark, color in zip(
    found.items(), "os^", (plots.BLUE, plots.RED, plots.BLACK), strict=True
):
    ax.semilogy(values, mark, ls="", ms=3, color=color, label=rf"clip $\delta$ = {delta:g}")
    ax.axhline(float(values.mean()), color=color, ls="--", lw=1)
ax.plot([], [], color="grey", ls="--", lw=1, label="mean of 150 batches")
ax.set(xlabel="batch", ylabel="loss of the exact score")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "The losses of 150 batches scatter little about 12 for clip 0.1, more about 200 for clip "
    "0.01, and over nearly four powers of ten for clip 0.0001, where a few batches determine the "
    "mean."
)

# %% [markdown]
# ### Exercise {exercise:noise_prediction_loss} · Predict the noise instead ({points:noise_prediction_loss} points)
#
# The remedy is a change of variables. Let the network output the *noise* instead of the score. They are related as their
# targets are:
#
# <a id="eq-noise"></a>
# $$s_\theta(x, t) = -\frac{\varepsilon_\theta(x, t)}{\beta_t}.$$
#
# Then multiply the squared error of [denoising score matching](#eq-dsm) by $\beta_t^2$. At each time the best network
# stays the same; what changes is how much each time counts. Simplify on paper, and write
# `noise_prediction_loss(eps, z, t, noise, schedule)`: the loss that you get, with no division left in it.
#
# <details><summary>Hint</summary>
# Take the factor $\beta_t$ into the norm. Which target remains?
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


# %% check="noise_prediction_loss" points=4

# %% [markdown]
# This is the loss of DDPM [Ho et al. 2020], with which diffusion models began to draw good images.
#
# **Predict.** Call *spread* the standard deviation of a batch's loss, divided by its mean. If the clip is 0.001 in place
# of 0.1, by which factor does the spread grow, for each of the two losses?

# %%
growth_of_score_matching = ...  # your guess, a number
growth_of_noise_prediction = ...  # your guess, a number

# %%
noise_loss = lab4.answer_or("noise_prediction_loss")


def exact_noise(x, t):
    """The best noise prediction, from the exact score."""
    return conversions.noise_from_score(exact.score(x, t), x, t, ot)


clips = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
of_score, of_noise = (
    [batch_losses(loss, network, delta) for delta in clips]
    for loss, network in ((dsm_loss, exact.score), (noise_loss, exact_noise))
)
of_score, of_noise = ([float(b.std() / b.mean()) for b in each] for each in (of_score, of_noise))
lab4.compare("growth, score matching", growth_of_score_matching, of_score[-1] / of_score[1])
lab4.compare("growth, noise prediction", growth_of_noise_prediction, of_noise[-1] / of_noise[1])

# %% figure="the spread of both losses against the clip"
fig, (ax,) = plots.figure(width=5)
ax.loglog(clips, of_score, "o-", label="score matching")
ax.loglog(clips, of_noise, "s--", label="noise prediction")
rule = [(2 / (3 * 500 * delta)) ** 0.5 for delta in clips]
ax.loglog(clips, rule, color=plots.BLACK, ls=":", label=r"proportional to $\delta^{-1/2}$")
ax.set(xlabel=r"clip $\delta$ (smaller to the right)", ylabel="spread of a batch's loss")
ax.invert_xaxis()
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "As the clip shrinks, the spread of the score matching loss grows tenfold, for small clips "
    "along the line for the inverse square root of the clip; that of noise prediction stays "
    "below 0.1."
)

# %% [markdown]
# For small clips the spread of score matching is proportional to $\delta^{-1/2}$: with a clip four times smaller it needs
# four times as many points for the same precision. That of noise prediction hardly depends on the clip.
#
# **Two networks** of the same size are trained for a few seconds each: the first by score matching, with times up to
# 0.99, the second by noise prediction.

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
# ### Exercise {exercise:loss_constant} · How good is a loss of 0.8? ({points:loss_constant} points)
#
# The loss of the noise network falls to about 0.8 and stays there. Is that good? A theorem of lab 3 answers it: this loss
# differs by a constant from the one that we care about. With $\varepsilon^\star(x, t)$ for the best prediction, the
# average of the noise over all samples that pass through $x$,
#
# <a id="eq-constant"></a>
# $$\mathbb E \big\| \varepsilon_\theta - \varepsilon \big\|^2
# = \mathbb E \big\| \varepsilon_\theta - \varepsilon^\star \big\|^2 + C, \tag{notes, thm. 12}$$
#
# and $C$ is the same for *every* network. (The notes say it of the vector field.) Here
# $\varepsilon^\star$ is known, so $C$ can be estimated. Take both squared distances at the *same* points, and let $y_i$ be
# the first minus the second at point $i$. The estimate of $C$ is the mean of the $y_i$. Its **standard error**, the
# typical distance of the estimate from the truth, is the standard deviation of the $y_i$ (PyTorch's `.std()`) divided by
# $\sqrt n$.
#
# Write `loss_constant(eps, best, z, t, noise, schedule)`: the pair of the estimate of [the constant C](#eq-constant) and
# its standard error, where `best` is the function $\varepsilon^\star(x, t)$.
#
# <details><summary>Hint</summary>
# One number $y_i$ per point, of shape <code>(n,)</code>, before any mean.
# </details>

# %% exercise="loss_constant"
def loss_constant(eps, best, z, t, noise, schedule):
    """The constant between the two losses of a noise network: its estimate from one batch, and the standard error.

    eps, best: functions of (x, t), the network and the best prediction. z, noise: (n, *shape), n > 1. t: (n,) times in
    [0, 1]. Returns (estimate, error): two numbers, or tensors of shape ().
    """
    ### BEGIN SOLUTION
    x = coefficient(schedule.alpha(t), z) * z + coefficient(schedule.beta(t), z) * noise
    answer = eps(x, t)
    to_noise = (answer - noise).square().flatten(1).sum(1)
    to_best = (answer - best(x, t)).square().flatten(1).sum(1)
    each = to_noise - to_best
    return each.mean(), each.std() / len(each) ** 0.5
    ### END SOLUTION


# %% check="loss_constant" points=4

# %% [markdown]
# **Predict.** How much of its loss of about 0.8 could a better noise network remove? The table shows four made-up
# networks and your two, all on the same 100 000 points.

# %%
removable = ...  # your guess, a number

# %%
constant = lab4.answer_or("loss_constant")
networks = {
    "always 0": lambda x, t: 0 * x,
    "the best": exact_noise,
    "1.5 × the best": lambda x, t: 1.5 * exact_noise(x, t),
    "−1 × the best": lambda x, t: -exact_noise(x, t),
    "score network": lambda x, t: -coefficient(ot.beta(t), x) * score_net(x, t),
    "noise network": noise_net,
}
data = mixture.sample(100_000), torch.rand(100_000), torch.randn(100_000, 2)
of_all = {name: constant(network, exact_noise, *data, ot) for name, network in networks.items()}
print("network           loss   estimate of C   standard error   loss − C")
for name, (estimate, error) in of_all.items():
    loss = float(noise_loss(networks[name], *data, ot))
    print(f"{name:15}{loss:7.3f}{estimate:16.4f}{error:17.4f}{loss - estimate:11.4f}")
lab4.compare("what a better network could remove", removable, loss - float(estimate))

# %% figure="the constant, and the loss during training"
fig, axes = plots.figure(columns=2, width=4.6)
estimates, errors = zip(*((float(c), 2 * float(e)) for c, e in of_all.values()), strict=True)
axes[0].errorbar(estimates, range(6), xerr=errors, fmt="o", capsize=3)
axes[0].axvline(estimates[1], color=plots.BLACK, ls=":")
axes[0].set_yticks(range(6), of_all)
axes[0].set(xlim=(0.7, 0.86), ylim=(5.6, -0.6), xlabel="estimate of $C$ ± 2 standard errors")
plots.plot_history(noise_net.history, axes[1])
axes[1].axhline(estimates[1], color=plots.BLACK, ls=":", label="$C$")
axes[1].set(ylim=(0.7, 1.3), title="training of the noise network")
axes[1].legend()
plots.describe(
    "Left: six estimates of the constant, about 0.77, agree within their error bars. Right: the "
    "loss of the noise network falls fast at first, then slowly towards a line at this height."
)

# %% [markdown]
# Six very different networks have one constant, and it is nearly all of the noise network's loss. The training curve is
# too noisy to show the rest; the difference on the same points shows it. Compare models on the same points.
#
# **Where each loss is accurate.** The table shows the relative errors of the two learned scores. Score matching gives the
# largest weight to times near 1; up to $t = 0.7$ its error is more than twice that of noise prediction. Near $t = 1$
# score matching is better: there the small errors of the predicted noise are divided by a small $\beta_t$.

# %%
def noise_net_score(x, t):
    return -noise_net(x, t) / coefficient(ot.beta(t), x)


def relative_error(network, truth, t, n=2000):
    """Root mean square of the error over that of the truth, on points of the path at time t."""
    x, t = exact.sample(n, t, torch.Generator().manual_seed(0)), torch.tensor(t)
    error = network(x, t) - truth(x, t)
    return float((error.square().mean() / truth(x, t).square().mean()).sqrt())


times = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
print("t".ljust(15), *(f"{t:6.2f}" for t in times))
for name, network in {"score network": score_net, "noise network": noise_net_score}.items():
    print(name.ljust(15), *(f"{relative_error(network, exact.score, t):6.2f}" for t in times))

# %% [markdown]
# ## 2 · The field contains the score
#
# Can a flow model be used where a score is needed, without new training? Yes. Write $\bar z$ and $\bar\varepsilon$ for the
# averages of data and noise over all samples that pass through $x$. The averages of their states, velocities and
# conditional scores are
#
# <a id="eq-two"></a>
# $$x = \alpha_t\, \bar z + \beta_t\, \bar\varepsilon, \qquad
# u_t(x) = \dot\alpha_t\, \bar z + \dot\beta_t\, \bar\varepsilon, \qquad
# s_t(x) = -\bar\varepsilon / \beta_t.$$
#
# The state $x$ is known. Of $\bar z$, $\bar\varepsilon$, $u_t(x)$ and $s_t(x)$ any one gives the other three.
#
# ### Exercise {exercise:score_from_vector_field} · From vector field to score ({points:score_from_vector_field} points)
#
# Given $u$ and $x$, the first two equations are linear equations for $\bar z$ and $\bar\varepsilon$. Solve them on paper,
# and write `score_from_vector_field(u, x, t, schedule)`: the score that follows from [the three equations](#eq-two).
# `u` holds the values $u_t(x)$. `t` is one time for all points, a number or a tensor of shape `()`, or one for each,
# `(n,)`; `coefficient` takes them all.
#
# <details><summary>Hint</summary>
# Multiply the first equation by $\dot\alpha_t$ and the second by $\alpha_t$, and subtract. A test: for $\alpha_t = t$,
# $\beta_t = 1 - t$ and $t = 0$ the score is $-x$, that of $\mathcal N(0, I)$.
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
    noise = (alpha_dot * x - alpha * u) / (alpha_dot * beta - alpha * beta_dot)
    return -noise / beta
    ### END SOLUTION


# %% check="score_from_vector_field" points=5

# %% [markdown]
# **Learned and converted.** A third network learns the vector field, by flow matching. The figure shows the exact score,
# the one learned by noise prediction, and the one converted from the field, with their relative errors. The shading is
# the density.

# %%
path = paths.GaussianPath(ot)


def flow_matching_step(network):
    return losses.flow_matching_loss(network, path, batch()[0])


field_net = training.train(models.MLP(2), flow_matching_step, steps=1000).requires_grad_(False)

# %%
u_to_s = lab4.answer_or("score_from_vector_field")


def field_net_score(x, t):
    return u_to_s(field_net(x, t), x, t, ot)


# %% figure="exact, learned and converted score"
scores = {"exact": exact.score, "learned": noise_net_score, "converted": field_net_score}
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
# The other direction makes a flow model of a published score network. Write
# `vector_field_from_score(s, x, t, schedule)`: the field by [the same equations](#eq-two), where `s` holds the values
# $s_t(x)$.
#
# <details><summary>Hint</summary>
# The last equation gives $\bar\varepsilon$, then the first one $\bar z$. Your two conversions undo each other: a good
# test.
# </details>

# %% exercise="vector_field_from_score"
def vector_field_from_score(s, x, t, schedule):
    """The vector field that belongs to a score, for a Gaussian path.

    s: values of the score at x and t, (n, *shape). x: (n, *shape). t: a number or (n,), in (0, 1]: 1 is included.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    alpha, beta = coefficient(schedule.alpha(t), x), coefficient(schedule.beta(t), x)
    noise = -beta * s
    data = (x - beta * noise) / alpha
    return coefficient(schedule.alpha_dot(t), x) * data + coefficient(schedule.beta_dot(t), x) * noise
    ### END SOLUTION


# %% check="vector_field_from_score" points=4

# %% [markdown]
# **Both ends.** The figure shows the errors of the three networks, read as scores and as vector fields. A conversion
# multiplies the network's error by a coefficient. Towards the score it is singular at $t = 1$, where $\beta_t = 0$;
# towards the field at $t = 0$, where $\alpha_t = 0$. So a sampler that uses a score or noise network of this schedule
# must start a little after $t = 0$. No network is the best everywhere.

# %%
s_to_u = lab4.answer_or("vector_field_from_score")
as_scores = {
    "score network": score_net,
    "noise network": noise_net_score,
    "field network": field_net_score,
}
as_fields = {
    "score network": lambda x, t: s_to_u(score_net(x, t), x, t, ot),
    "noise network": lambda x, t: s_to_u(noise_net_score(x, t), x, t, ot),
    "field network": field_net,
}

# %% figure="errors of three networks towards both ends"
near = torch.logspace(-2.5, -0.5, 9)
times = torch.cat([near, torch.tensor([0.5]), (1 - near).flip(0)]).tolist()
fig, axes = plots.figure(columns=2, width=4.2)
for ax, members, truth, title in (
    (axes[0], as_scores, exact.score, "read as scores"),
    (axes[1], as_fields, exact.vector_field, "read as vector fields"),
):
    for (name, network), style in zip(members.items(), ("o-", "s--", "^:"), strict=True):
        errors = [relative_error(network, truth, t) for t in times]
        ax.plot(times, errors, style, ms=3.5, label=name)
    ax.set(xscale="logit", yscale="log", xlabel="time $t$", title=title, ylim=(5e-5, 300))
    ax.set_xticks([0.01, 0.1, 0.5, 0.9, 0.99], ["0.01", "0.1", "0.5", "0.9", "0.99"])
    ax.minorticks_off()
axes[0].set_ylabel("relative error")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "Left: read as scores, the field network is best at small t and worst near t = 1. Right: "
    "read as fields, the score network is useless at small t and best near t = 1."
)

# %% [markdown]
# ## 3 · One network, any amount of noise
#
# A flow is not the only sampler that a network allows, nor always the best. Lab 2 showed that one may add noise without
# changing the distribution at any time, if a drift along the score compensates it:
#
# <a id="eq-extension"></a>
# $$dX_t = \Big( u_t(X_t) + \tfrac12 \sigma_t^2\, s_t(X_t) \Big) dt + \sigma_t\, dW_t
# \quad\Rightarrow\quad X_t \sim p_t, \tag{lab 2}$$
#
# for every $\sigma_t \ge 0$, if $X_0 \sim p_0$. Since $u_t$ gives $s_t$, one network is enough, and $\sigma_t$ is chosen
# after training; $\sigma_t = 0$ is the flow model.
#
# ### Exercise {exercise:sample_diffusion} · Sampling with any σ ({points:sample_diffusion} points)
#
# Write `sample_diffusion(u, s, sigma, start, ts, noises)`, which simulates [this SDE](#eq-extension) by Euler–Maruyama
# along the times `ts` and returns the states at the last time. Step number $i$ uses `noises[i]`.
#
# <details><summary>Hint</summary>
# The loop and the step of lab 1, with the new drift. Between <code>ts[i]</code> and <code>ts[i + 1]</code> everything
# is evaluated at <code>ts[i]</code>.
# </details>

# %% exercise="sample_diffusion"
def sample_diffusion(u, s, sigma, start, ts, noises):
    """Simulate dX = (u + ½ σ² s) dt + σ dW by Euler–Maruyama.

    u, s: functions of (x, t). sigma: function of t that returns one number, as a float or a tensor of shape ().
    start: (n, *shape), states at ts[0]. ts: (T,) increasing times in [0, 1], not necessarily evenly spaced, nor from 0
    to 1. noises: (T − 1, n, *shape), standard normal, one for each step. Returns the states at ts[-1], (n, *shape), in
    the dtype of start.
    """
    ### BEGIN SOLUTION
    x = start
    for t, h, noise in zip(ts[:-1], ts.diff(), noises):
        drift = u(x, t) + 0.5 * sigma(t) ** 2 * s(x, t)
        x = x + h * drift + h**0.5 * sigma(t) * noise
    return x
    ### END SOLUTION


# %% check="sample_diffusion" points=5

# %% [markdown]
# **Every σ, one probability path.** The figure shows samples of the field network, with the score converted from it, for
# $\sigma_t = c\,\beta_t$ with three values of $c$. All rows start from the same states. Single particles (five are larger
# dots) move very differently; the clouds agree with each other and with the exact density behind them.

# %%
sampler = lab4.answer_or("sample_diffusion")
shown, ts = (25, 50, 75, 100), torch.linspace(0, 1, 101)
start, noises = torch.randn(1500, 2), torch.randn(100, 1500, 2)
rows = {}
for c in (0.0, 1.0, 3.0):
    rows[c] = [
        sampler(field_net, field_net_score, lambda t, c=c: c * ot.beta(t), start, ts[: k + 1], noises[:k])
        for k in shown
    ]

# %% figure="clouds for three amounts of noise"
fig, axes = plots.figure(columns=4, rows=3, width=2.5, height=2.45)
for row, (c, clouds) in enumerate(rows.items()):
    for ax, k, x in zip(axes[4 * row :], shown, clouds, strict=False):
        plots.plot_density(lambda x, t=ts[k]: exact.log_prob(x, t), ax, n=60)
        plots.plot_samples(x[:400], ax, color=plots.RED, alpha=0.5, ms=1.5)
        ax.plot(*x[:5].T, "o", ms=6, color=plots.BLUE, mec="white")
        ax.set(title=f"$c$ = {c:g}, $t$ = {ts[k]:g}", xlabel="", ylabel="")
plots.describe(
    "Three rows for three amounts of noise, four columns for four times. In each column the "
    "clouds look the same and fill the exact density; only the five marked particles are "
    "elsewhere."
)

# %% [markdown]
# **What σ changes.** If all distributions agree, why care? Because steps are finite and networks are wrong. The
# [energy distance](../words.md#energy-distance) to fresh data, near 0 for samples of the same distribution, measures
# both. We test the exact field and a network whose training was stopped early, in 8 and in 60 steps.
#
# **Predict.** With the exact field and 8 steps, which $c$ in $\sigma_t = c\,\beta_t$ is the best: 0, 0.5, 1, 2, 3, 4
# or 6?

# %%
best_c = ...  # your guess, a number

# %%
torch.manual_seed(2)
early = training.train(
    models.MLP(2), lambda net: losses.flow_matching_loss(net, path, batch(256)[0]), steps=150
).requires_grad_(False)

# %%
start, fresh, scales = torch.randn(2000, 2), mixture.sample(2000), (0, 0.5, 1, 2, 3, 4, 6)


def distances(field, steps, size):
    """Energy distances of samples to fresh data for σ_t = c · size(t), by c, with the same random numbers for each."""
    ts, noise = torch.linspace(0, 1, steps + 1), torch.Generator().manual_seed(steps)
    noises = torch.randn(steps, *start.shape, generator=noise)
    noises[-1] = 0  # no noise in the last step

    def score(x, t):
        return u_to_s(field(x, t), x, t, ot)

    found = []
    for c in scales:
        x = sampler(field, score, lambda t, c=c: c * size(t), start, ts, noises)
        found.append(float(metrics.energy_distance(x, fresh)))
    return found


kinds = {
    r"$\sigma_t = c\,\beta_t$, 8 steps": (8, ot.beta),
    r"$\sigma_t = c\,\beta_t$, 60 steps": (60, ot.beta),
    r"$\sigma_t = c$, 60 steps": (60, lambda t: 1.0),
}
measured = {
    title: {label: distances(field, *kind) for label, kind in kinds.items()}
    for title, field in (("exact field", exact.vector_field), ("network, stopped early", early))
}
in_8_steps = measured["exact field"][r"$\sigma_t = c\,\beta_t$, 8 steps"]
lab4.compare("the best c in 8 steps", best_c, scales[in_8_steps.index(min(in_8_steps))])
floor = float(metrics.energy_distance(mixture.sample(2000), fresh))
print(f"two sets of fresh data: energy distance {floor:.4f}")

# %% figure="energy distance against the amount of noise"
fig, axes = plots.figure(columns=2, width=4.2)
for ax, (title, curves) in zip(axes, measured.items(), strict=True):
    for (label, curve), style in zip(curves.items(), ("o-", "s--", "^:"), strict=True):
        ax.semilogy(scales, curve, style, ms=4, label=label)
    ax.axhline(floor, color="grey", lw=1, label="two sets of fresh data")
    ax.set(xlabel="amount of noise $c$", title=title, ylim=(4e-4, 0.5))
axes[0].set_ylabel("energy distance")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "With the exact field and 60 steps, noise in proportion to β keeps the distance below "
    "0.003. In 8 steps some noise halves it, and c = 6 makes it thirty times larger. Large "
    "constant noise makes it leave the frame. With the network that was stopped early no amount "
    "of noise improves 60 steps."
)

# %% [markdown]
# The same random numbers are used for all $c$. The grey line is the distance of two
# [sets of fresh data](../words.md#fresh-sets): smaller differences can be chance.
#
# * *Simulation error.* In few steps some noise helps: the drift along the score repairs part of the error of a step.
# * *Model error.* That drift uses the *learned* score: the larger $\sigma_t$, the more its errors count. Compare the dotted
#   curves at $c = 1$: with the exact field this noise is harmless.
# * *Stability.* Near the data the score is large, and a step $h$ is stable only while $h\,\sigma_t^2$ is small compared
#   with $\beta_t^2$ plus the variance of one peak of the data in its narrowest direction. With a large constant $\sigma_t$
#   this fails as $t \to 1$, and samples move far away (the dotted curves leave the frame); with
#   $\sigma_t = c\,\beta_t$ it holds up to a larger $c$.
#
# **Try it.** The widget shows the first coordinate of samples by the exact field and score, for
# $\sigma_t = c\,\beta_t$. How few steps are enough? Does the best $c$ depend on the number of steps?

# %%
widgets.diffusion_sigma()

# %% [markdown]
# ## 4 · The same model, starting from the data
#
# Papers on diffusion models, and their code, start from the data: *add* noise, slowly, by an SDE; then learn to run it
# backwards in time. To read them you need a translation. Their clock is $\tau = 1 - t$: 0 is data and 1 is noise. The
# best known process is **variance preserving** (VP), with a noise rate $b(\tau)$ that grows linearly:
#
# $$dX_\tau = -\tfrac12\, b(\tau)\, X_\tau\, d\tau + \sqrt{b(\tau)}\, dW_\tau, \qquad
# b(\tau) = b_{\min} + (b_{\max} - b_{\min})\, \tau. \tag{Song et al. 2021}$$
#
# (Many texts write $\beta(\tau)$ for this rate. It is not our $\beta_t$.) Like the Ornstein–Uhlenbeck process of lab 1,
# the equation is linear, so given its start the state is Gaussian:
#
# <a id="eq-vp"></a>
# $$X_\tau \mid X_0 = z \;\sim\; \mathcal N\big(a(\tau)\, z,\; \mathrm{std}(\tau)^2 I\big), \qquad
# a(\tau) = e^{-\frac12 \int_0^\tau b(r)\,dr}, \qquad \mathrm{std}(\tau)^2 = 1 - a(\tau)^2.$$
#
# So this is only another schedule, $\alpha_t = a(1 - t)$ and $\beta_t = \mathrm{std}(1 - t)$, in fmlab
# `schedules.LinearVP(b_min, b_max)`.
#
# ### Exercise {exercise:forward_marginal} · The marginals of the VP diffusion ({points:forward_marginal} points)
#
# Write `forward_marginal(tau, b_min, b_max)`: the pair of mean coefficient $a(\tau)$ and standard deviation
# $\mathrm{std}(\tau)$ in [the Gaussian above](#eq-vp).
#
# <details><summary>Hint</summary>
# The integral of a linear function is an area that you can draw: a rectangle and a triangle. <code>tau</code> may be a
# number or a tensor, and <code>torch.as_tensor</code> accepts both.
# </details>

# %% exercise="forward_marginal"
def forward_marginal(tau, b_min, b_max):
    """Marginal of the VP diffusion at its own time τ (0 is data, 1 is noise), given the data.

    tau: a number or a tensor of times of any shape, in [0, 1]. b_min, b_max: numbers, 0 < b_min ≤ b_max.
    Returns (a, std): mean coefficient and standard deviation, of the shape and dtype of tau; of a number, two numbers
    or tensors of shape ().
    """
    ### BEGIN SOLUTION
    tau = torch.as_tensor(tau)
    a = torch.exp(-(b_min * tau + (b_max - b_min) * tau**2 / 2) / 2)
    return a, torch.sqrt(1 - a**2)
    ### END SOLUTION


# %% check="forward_marginal" points=3

# %% [markdown]
# **Data fade, noise grows.** Left: the two coefficients; for the usual rates 0.1 and 20 almost nothing is left of the
# data at $\tau = 1$. Right: trajectories of the SDE from $z = 2$, and their mean and a band by your formula.

# %%
vp = schedules.LinearVP(0.1, 20.0)
marginal_at = lab4.answer_or("forward_marginal")


def f(tau):
    """Rate of the drift: f(τ) x."""
    return -vp.noise_rate(tau) / 2


def g(tau):
    """Diffusion coefficient."""
    return vp.noise_rate(tau).sqrt()


forward = processes.LinearSDE(f, g)
taus = torch.linspace(0, 1, 401)
a, std = marginal_at(taus, 0.1, 20.0)
noising = simulators.simulate(forward, torch.full((12,), 2.0), taus, record=True)

# %% figure="the VP diffusion from one point"
fig, axes = plots.figure(columns=2, width=4.6)
axes[0].plot(taus, a, color=plots.BLUE, ls="-", label=r"mean coefficient $a(\tau)$")
axes[0].plot(taus, std, color=plots.RED, ls="--", label="standard deviation")
axes[0].set(xlabel=r"time of the diffusion $\tau$", ylim=(0, 1.05))
axes[0].legend(loc="center right")
plots.plot_paths(taus, noising, axes[1], color=plots.BLUE, ls="-", alpha=0.5)
plots.plot_band(taus, 2 * a, std, axes[1], label="mean, your formula")
axes[1].set(xlabel=r"time of the diffusion $\tau$", ylabel=r"state $X_\tau$", ylim=(-5, 4.5))
axes[1].legend(loc="lower left")
plots.describe(
    "Left: the coefficient of the mean falls from 1 to 0 while the standard deviation rises from "
    "0 to 1. Right: twelve trajectories from 2 fan out and fill the band of the formula, which "
    "ends as ± 2 about 0."
)

# %% [markdown]
# ### Exercise {exercise:reverse_sde_drift} · Back in time, with any amount of noise ({points:reverse_sde_drift} points)
#
# A diffusion $dX_\tau = f(\tau) X_\tau\,d\tau + g(\tau)\,dW_\tau$ run backwards is again a diffusion, whose drift needs
# the score. Papers let the clock $\tau$ run *down* from 1 to 0 and write, with another Brownian motion $\bar W_\tau$,
#
# <a id="eq-reverse"></a>
# $$dX_\tau = \big( f(\tau)\, X_\tau - g(\tau)^2\, \nabla \log p(X_\tau) \big)\, d\tau + g(\tau)\, d\bar W_\tau,
# \qquad d\tau < 0. \tag{Anderson 1982}$$
#
# We want it in our clock, and with any noise $\sigma_t$ in place of $g$. Two steps, on paper:
#
# 1. *The clock.* Ours runs up, $dt = -d\tau$. What happens to the drift, and what to the noise, which has no direction?
#    (A wrong sign here is the classical bug of diffusion samplers.)
# 2. *The noise.* The result is [the SDE of section 3](#eq-extension) with the special noise $\sigma_t = g(1 - t)$. So what
#    is $u_t$, in terms of $f$, $g$ and the score? And what is the drift for another $\sigma_t$?
#
# Write `reverse_sde_drift(score, x, t, f, g, sigma)`: the drift at our time $t$ for the noise `sigma`, the value
# $\sigma_t \ge 0$. `f` and `g` are functions of $\tau$; `score(x, t)` uses our time.
#
# <details><summary>Hint</summary>
# Far from the data the drift must point back to them: for VP, $-f$ is positive and pushes outward, and the score pulls
# inward. For $\sigma_t = g$ the factor of the score is $g^2$. <code>coefficient</code> shapes <code>f(1 - t)</code>,
# <code>g(1 - t)</code> and <code>sigma</code>.
# </details>

# %% exercise="reverse_sde_drift"
def reverse_sde_drift(score, x, t, f, g, sigma):
    """Drift, at our time t (0 is noise, 1 is data), of the SDE with noise sigma that turns a diffusion back.

    score: function score(x, t), the gradient of log p_t. x: (n, *shape). t: a number or (n,), in [0, 1].
    f, g: functions of τ = 1 − t, a number or (n,), which return a tensor of shape () or (n,) to match: the forward SDE
    is dX = f(τ) X dτ + g(τ) dW. sigma: the noise at time t, a number, a tensor of shape (), or (n,); 0 is included.
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    rate, noise = coefficient(f(1 - t), x), coefficient(g(1 - t), x)
    return -rate * x + 0.5 * (noise**2 + coefficient(sigma, x) ** 2) * score(x, t)
    ### END SOLUTION


# %% check="reverse_sde_drift" points=5

# %% [markdown]
# With $\sigma_t = g(1 - t)$ this is the **reverse SDE**; with $\sigma_t = 0$ it is the vector field that flow matching
# learns. Papers call that flow the **probability flow** [Song et al. 2021].
#
# **There and back.** The data are one-dimensional, with three peaks. Top left, the diffusion takes data to noise; its
# clock $\tau$ runs to the right. The reverse SDE and the probability flow start from the same noise and use the exact
# score. The shading is the exact $p_t$.

# %%
peaks = distributions.GaussianMixture([[-1.6], [0.2], [1.5]], [0.03, 0.02, 0.06], [0.4, 0.25, 0.35])
line = paths.GaussianPath(vp).marginal(peaks)
drift = lab4.answer_or("reverse_sde_drift")
ts = torch.linspace(0, 1, 401)
noising = simulators.simulate(forward, peaks.sample(10), ts, record=True)
reverse = processes.SDE(
    lambda x, t: drift(line.score, x, t, f, g, g(1 - t)), lambda x, t: g(1 - t)
)
flow = processes.ODE(lambda x, t: drift(line.score, x, t, f, g, 0.0))
start = torch.randn(2000, 1)
sampled = simulators.simulate(reverse, start, ts, record=True)
flowed = simulators.simulate(flow, start, ts, simulators.Midpoint(), record=True)

# %% figure="forward diffusion, reverse SDE and probability flow"
fig, axes = plots.figure(columns=2, rows=2, width=4.6, height=3.2)
for ax, states, title in (
    (axes[0], noising, "forward: data to noise"),
    (axes[1], sampled[:, :10], "reverse SDE: noise to data"),
    (axes[2], flowed[:, :10], "probability flow: noise to data"),
):
    density = (lambda x, tau: line.log_prob(x, 1 - tau)) if states is noising else line.log_prob
    plots.plot_density_in_time(density, ax, extent=4)
    plots.plot_paths(ts, states, ax, color=plots.BLUE if states is noising else plots.RED, ls="-")
    ax.set(title=title, ylim=(-4, 4))
axes[0].set(xlabel=r"time of the diffusion $\tau$", ylabel=r"state $X_\tau$")
bins, density = torch.linspace(-2.5, 2.5, 61).tolist(), lambda x: peaks.log_prob(x[:, None]).exp()
plots.plot_histogram(flowed[-1], axes[3], density, bins, label="probability flow")
outline = dict(histtype="step", color=plots.RED, ls="--", lw=1.5, label="reverse SDE")
axes[3].hist(plots.array(sampled[-1])[:, 0], bins, density=True, **outline)
axes[3].set(title="at $t$ = 1", xlim=(-2.5, 2.5), ylim=(0, 1.15))
axes[3].legend(loc="upper center", fontsize=9, ncols=3, columnspacing=1)
plots.describe(
    "Trajectories of the diffusion start at three peaks and mix. Those of the reverse SDE, "
    "rough, and of the probability flow, smooth and never crossing, start as noise and end in "
    "the same peaks. The histograms of both follow the exact density."
)

# %% [markdown]
# ## 5 · DDPM: diffusion in K steps · *further*
#
# Much published code goes back to DDPM [Ho et al. 2020], which uses no SDE but a chain of $K$ steps that each add a
# little noise. It gives something in addition: a lower bound on the likelihood of data, by which models can be compared
# without looking at samples.
#
# ### Exercise {exercise:ddpm_posterior} · The posterior of one step ({points:ddpm_posterior} points)
#
# The states are counted from $k = 0$ (data) to $k = K$ (noise). Step $k$ adds noise of variance $\beta_k$ (once more a
# different $\beta$). With $\xi_k \sim \mathcal N(0, I)$, $\alpha_k = 1 - \beta_k$ and
# $\bar\alpha_k = \alpha_1 \cdots \alpha_k$,
#
# $$x_k = \sqrt{\alpha_k}\, x_{k-1} + \sqrt{\beta_k}\, \xi_k, \qquad
# x_k \mid z \sim \mathcal N\big( \sqrt{\bar\alpha_k}\, z,\; (1 - \bar\alpha_k) I \big). \tag{Ho et al. 2020}$$
#
# (Their $x_0$ is our data point $z$.) To go back we need $x_{k-1}$ given $x_k$. If $z$ is given as well, its density is
# proportional to a product of two Gaussian densities, and so a Gaussian:
#
# <a id="eq-posterior"></a>
# $$q(x_{k-1} \mid x_k, z) = \mathcal N(\tilde\mu_k, \tilde\beta_k I), \qquad
# \tilde\beta_k = \frac{1 - \bar\alpha_{k-1}}{1 - \bar\alpha_k}\, \beta_k, \qquad
# \tilde\mu_k = \frac{\sqrt{\bar\alpha_{k-1}}\, \beta_k}{1 - \bar\alpha_k}\, z
# + \frac{\sqrt{\alpha_k}\, (1 - \bar\alpha_{k-1})}{1 - \bar\alpha_k}\, x_k.$$
#
# Write `ddpm_posterior(x, z, k, betas)`: the pair of mean and variance of [this posterior](#eq-posterior). The table
# `betas` is padded so that `betas[k]` is $\beta_k$: it has $K + 1$ entries, the first is 0, and $\bar\alpha_0 = 1$.
#
# <details><summary>Hint</summary>
# <code>(1 - betas).cumprod(0)</code> holds all the $\bar\alpha_k$. For $k = 1$ the posterior is the point $z$ itself,
# with variance 0: a good test.
# </details>

# %% exercise="ddpm_posterior"
def ddpm_posterior(x, z, k, betas):
    """Mean and variance of q(x_{k−1} | x_k, z), for 1 ≤ k ≤ K.

    x: x_k, (n, *shape). z: the data, (n, *shape). k: a whole number. betas: (K + 1,), with betas[0] = 0, perhaps in
    double precision where x is not. Returns (mean, variance): (n, *shape), in the dtype of x, and one number.
    """
    ### BEGIN SOLUTION
    bars = (1 - betas).cumprod(0)
    of_data = bars[k - 1].sqrt() * betas[k] / (1 - bars[k])
    of_state = (1 - betas[k]).sqrt() * (1 - bars[k - 1]) / (1 - bars[k])
    return of_data * z + of_state * x, betas[k] * (1 - bars[k - 1]) / (1 - bars[k])
    ### END SOLUTION


# %% check="ddpm_posterior" points=4 further=true

# %% [markdown]
# **The chain is the VP diffusion.** With $\beta_k = b(k/K)/K$ a step of the chain is a step of Euler–Maruyama for the VP
# diffusion, up to terms of order $1/K^2$. So $\sqrt{\bar\alpha_k}$ tends to your $a(k/K)$. (From here on we take the
# $\beta_k$ for which the two are equal.)
#
# The figure shows the density of $x_{k-1}$ if only the data point $z = 1$ is known, and if $x_k = -0.5$ is known too. Near
# the data ($k = 5$) both count; nearer the noise ($k = 50$) the noise hides $z$, and almost only $x_k$ counts.

# %%
print("largest difference between the chain and the diffusion")
for steps in (50, 100, 200, 400, 800):
    bars = ddpm.Chain(ddpm.vp_betas(vp, steps)).alpha_bars
    a, _ = marginal_at(torch.arange(steps + 1) / steps, 0.1, 20.0)
    print(f"K = {steps:4d}   {float((bars.sqrt() - a).abs().max()):.5f}")

K = 100
chain = ddpm.Chain(ddpm.betas_of(vp, K))  # chain.betas is padded as described
posterior = lab4.answer_or("ddpm_posterior")

# %% figure="one step back, with and without the next state"
grid, one = torch.linspace(-2.5, 2.5, 401), torch.ones(1, 1)
fig, axes = plots.figure(columns=3, width=3.4)
for ax, k in zip(axes, (5, 15, 50), strict=True):
    bar = chain.alpha_bars[k - 1]
    mean, variance = posterior(-0.5 * one, one, k, chain.betas)
    alone = distributions.Gaussian([float(bar.sqrt())], float(1 - bar))
    both = distributions.Gaussian([float(mean)], float(variance))
    ax.plot(grid, alone.log_prob(grid[:, None]).exp(), color=plots.BLUE, ls="--", label="given $z$")
    density = both.log_prob(grid[:, None]).exp()
    ax.plot(grid, density, color=plots.RED, ls="-", label="given $z$ and $x_k$")
    ax.plot([1], [0], "o", color=plots.BLUE, label="$z$", clip_on=False)
    ax.plot([-0.5], [0], "^", color=plots.BLACK, label="$x_k$", clip_on=False)
    ax.set(xlabel="$x_{k-1}$", title=f"$k$ = {k}", ylim=(0, None))
axes[0].set_ylabel("density (own scale in each panel)")
axes[2].legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.describe(
    "Two bell curves each. Given the data point alone, the curve widens with k; given the next "
    "state too, it is narrower and moves from between the two marks, at k = 5, almost to the "
    "next state, at k = 50."
)

# %% [markdown]
# ### Exercise {exercise:ancestral_step} · Ancestral sampling ({points:ancestral_step} points)
#
# When we sample, $z$ is what we do not have. But a predicted noise $\hat\varepsilon$ implies a guess of it, since
# $x_k = \sqrt{\bar\alpha_k}\, z + \sqrt{1 - \bar\alpha_k}\, \varepsilon$:
#
# $$\hat z = \frac{x_k - \sqrt{1 - \bar\alpha_k}\, \hat\varepsilon}{\sqrt{\bar\alpha_k}}.$$
#
# Draw $x_{k-1}$ from the posterior with $\hat z$ in the place of $z$. Its mean simplifies:
#
# <a id="eq-ancestral"></a>
# $$x_{k-1} = \frac{1}{\sqrt{\alpha_k}} \Big( x_k - \frac{\beta_k}{\sqrt{1 - \bar\alpha_k}}\, \hat\varepsilon \Big)
# + \sqrt{\tilde\beta_k}\; \xi, \qquad \xi \sim \mathcal N(0, I). \tag{Ho et al. 2020}$$
#
# Write `ancestral_step(x, eps, k, betas, noise)`: [this step](#eq-ancestral), where `eps` holds the predicted noise
# $\hat\varepsilon$ and `noise` the fresh noise $\xi$.
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


# %% check="ancestral_step" points=4 further=true

# %% [markdown]
# **A diffusion model that generates.** No network was trained on the VP schedule, and none is needed. Divided by
# $\alpha_t + \beta_t$, a state is a state $t' z + (1 - t')\,\varepsilon$ of our first schedule with the same
# $\varepsilon$, at the time $t' = \alpha_t/(\alpha_t + \beta_t)$, and the noise network of section 1 can be used there.
#
# **Predict.** Which of 3, 5, 10, 30, 100 and 300 steps is the first with an energy distance below twice that of two sets
# of fresh data?

# %%
steps_needed = ...  # your guess, a number


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


x_K, of_steps = torch.randn(2000, 2), {}
for steps in (3, 5, 10, 30, 100, 300):
    end = ancestral_samples(ddpm.Chain(ddpm.betas_of(vp, steps)), x_K)[-1][1]
    of_steps[steps] = float(metrics.energy_distance(end, fresh))
    print(f"K = {steps:3d}: energy distance to data {of_steps[steps]:.4f}")
floor = float(metrics.energy_distance(mixture.sample(2000), fresh))
print(f"two sets of data:                {floor:.4f}")
enough = [steps for steps, distance in of_steps.items() if distance < 2 * floor]
lab4.compare("the steps needed", steps_needed, min(enough, default="more than 300"))
on_the_way = ancestral_samples(chain, x_K, (100, 50, 25, 10))

# %% figure="a chain of 100 steps, back to the data"
on_vp = paths.GaussianPath(vp).marginal(mixture)
fig, axes = plots.figure(columns=5, width=2.4, height=2.5)
for ax, (k, x) in zip(axes, on_the_way, strict=True):
    plots.plot_density(lambda x, k=k: on_vp.log_prob(x, 1 - k / K), ax, n=60)
    plots.plot_samples(x[:400], ax, color=plots.RED, alpha=0.5, ms=1.5)
    ax.set(title=f"$x_{{{k}}}$", xlabel="", ylabel="")
plots.describe(
    "The same cloud as a chain runs from 100 steps before the data to 0: round noise, then a "
    "bulge, then the three Gaussians of the data, each time on the exact density."
)

# %% [markdown]
# ### Exercise {exercise:elbo_terms} · A bound on the likelihood ({points:elbo_terms} points)
#
# How likely is a data point under such a model? A lower bound can be computed, the [ELBO](../words.md#elbo) (evidence
# lower bound). It sums over the chain how much each step back differs from the posterior. The measure, in *nats* (natural
# logarithms), is the [Kullback–Leibler divergence](../words.md#kl-divergence)
# $\mathrm{KL}(q \,\|\, p) = \mathbb E_q \log (q/p)$, which is 0 only if the two distributions are equal.
#
# <a id="eq-elbo"></a>
# $$\log p(z) \ge \mathbb E \log p(z \mid x_1)
# - \sum_{k=2}^{K} \mathbb E\, \mathrm{KL}_k - \mathrm{KL}\big( q(x_K \mid z) \,\big\|\, \mathcal N(0, I) \big),
# \qquad \mathrm{KL}_k = \mathrm{KL}\big( q(x_{k-1} \mid x_k, z) \,\big\|\, p(x_{k-1} \mid x_k) \big).$$
#
# The model's step is $p(x_{k-1} \mid x_k) = \mathcal N(\hat\mu_k, \beta_k I)$, with the mean $\hat\mu_k$ of
# exercise {exercise:ancestral_step}. Its variance can be chosen; for the bound we take $\beta_k$, since with
# $\tilde\beta_1 = 0$ there would be no density at $k = 1$. Everything is Gaussian, and with $d$ coordinates
#
# $$\mathrm{KL}\big( \mathcal N(m, v I) \,\big\|\, \mathcal N(m', v' I) \big)
# = \frac12 \Big( \frac{\| m - m' \|^2}{v'} + d\, \Big( \frac{v}{v'} - 1 - \log \frac{v}{v'} \Big) \Big).$$
#
# The means $\tilde\mu_k$ and $\hat\mu_k$ differ only in $\varepsilon$ against $\hat\varepsilon$. So
# $\| \tilde\mu_k - \hat\mu_k \|^2 / (2 \beta_k)$ is $w_k \| \varepsilon - \hat\varepsilon \|^2$, the loss of
# exercise {exercise:noise_prediction_loss} with the weight
#
# $$w_k = \frac{\beta_k}{2\, \alpha_k\, (1 - \bar\alpha_k)}. \tag{Ho et al. 2020}$$
#
# Write `elbo_terms(z, eps, betas, noises)`: the $K + 1$ terms of [the bound](#eq-elbo) with their signs, so that their
# sum is the ELBO. Row 0 is $\log p(z \mid x_1)$, row $k - 1$ is minus the KL of step $k$ for $k = 2, \dots, K$, and row
# $K$ is minus the last KL. Each expectation is estimated with one state,
# $x_k = \sqrt{\bar\alpha_k}\, z + \sqrt{1 - \bar\alpha_k}\, \varepsilon_k$ with $\varepsilon_k$ = `noises[k - 1]`.
# The network is called at *our* time, `eps(x, 1 - k / K)`.
#
# <details><summary>Hint</summary>
# Two ways: compute the two means and put them into the KL, or compute the squared error of the noise and use the
# weight. Row 0 is the log density of $\mathcal N(\hat\mu_1, \beta_1 I)$ at $z$, and $z - \hat\mu_1$ is again a multiple
# of $\varepsilon - \hat\varepsilon$, with the same $w_1$. Do not forget its $-\frac d2 \log (2 \pi \beta_1)$.
# </details>

# %% exercise="elbo_terms"
def elbo_terms(z, eps, betas, noises):
    """The terms of the bound on log p(z), with their signs.

    z: (n, *shape). eps: noise network, a function eps(x, t) of our time t, for x in the dtype of z.
    betas: (K + 1,), with betas[0] = 0, perhaps in double precision where z is not.
    noises: (K, n, *shape), the noise of x_1 … x_K.
    Returns (K + 1, n), whose sum over the rows is the ELBO.
    """
    ### BEGIN SOLUTION
    bars, d, steps = (1 - betas).cumprod(0), z[0].numel(), len(betas) - 1
    terms = []
    for k, noise in enumerate(noises, start=1):
        x = bars[k].sqrt() * z + (1 - bars[k]).sqrt() * noise
        error = (noise - eps(x, 1 - k / steps)).square().flatten(1).sum(1)
        ratio = (1 - bars[k - 1]) / (1 - bars[k])  # of the two variances
        spread = ratio - 1 - ratio.log() if k > 1 else (2 * torch.pi * betas[1]).log()
        terms.append(-betas[k] / (2 * (1 - betas[k]) * (1 - bars[k])) * error - d / 2 * spread)
    prior = bars[-1] * z.square().flatten(1).sum(1) - d * bars[-1] - d * (1 - bars[-1]).log()
    return torch.stack([*terms, -prior / 2])
    ### END SOLUTION


# %% check="elbo_terms" points=5 further=true

# %% [markdown]
# **How tight is the bound?** For 10 000 data points the next cell prints how far the bound lies below the true
# $\log p(z)$ with the best possible noise prediction, and how much further with the network: differences on the same
# points and noise, with standard errors as in exercise {exercise:loss_constant}.
#
# **Predict.** The network loses about 0.03 nats. With $K = 100$, how many per cent of this are lost in the ten steps
# nearest the data?

# %%
share_near_the_data = ...  # your guess, in per cent

# %%
bound = lab4.answer_or("elbo_terms")
z = mixture.sample(10_000)


def best_noise(x, t):
    """The exact noise prediction on the VP path."""
    return conversions.noise_from_score(on_vp.score(x, t), x, t, vp)


def terms_of(network, steps):
    betas = ddpm.Chain(ddpm.betas_of(vp, steps)).betas
    noises = torch.randn(steps, *z.shape, generator=torch.Generator().manual_seed(0))
    return bound(z, lambda x, t: network(x, torch.as_tensor(t)), betas, noises)


def mean_and_error(each):
    return f"{float(each.mean()):.4f} ± {float(each.std() / len(each) ** 0.5):.4f}"


print("   K   log p − bound, best prediction    bound of the best − that of the network")
for steps in (10, 30, 100, 300):
    of_best, of_network = terms_of(best_noise, steps), terms_of(chain_noise, steps)
    gap, lost = mixture.log_prob(z) - of_best.sum(0), (of_best - of_network).sum(0)
    print(f"{steps:4d}{mean_and_error(gap):>26}{mean_and_error(lost):>30}")
    if steps == K:
        steps_of_best, lost_by_step = -of_best.mean(1), (of_best - of_network).mean(1)[:-1]
share = 100 * float(lost_by_step[:10].sum() / lost_by_step.sum())
lab4.compare("the share lost in the ten steps nearest the data, in %", share_near_the_data, share)

# %% [markdown]
# The gap of the best prediction is due to the steps alone. A true step back is not exactly a Gaussian of variance
# $\beta_k$; the shorter the steps, the closer it comes to that, and the smaller the gap.
#
# **Where the nats go.** Left: the KL of each step with the best prediction. It cannot be 0: even the best prediction does
# not know $z$. Middle: what the network loses in addition; by [the theorem](#eq-constant) it is the mean of
# $w_k \|\hat\varepsilon - \varepsilon^\star\|^2$. Right: the weight $w_k$ of the error of step $k$. It is largest
# near the data, where the finest details are decided, and there the network loses most.

# %% figure="the bound, step by step"
ks = torch.arange(1, K + 1)
fig, axes = plots.figure(columns=3, width=3.7)
axes[0].semilogy(ks[1:], steps_of_best[1:-1])
axes[0].set(title="KL of a step, best prediction", ylabel="nats")
axes[1].bar(ks[4::10], lost_by_step.reshape(10, 10).sum(1), width=8, color=plots.SKY, ec="black")
axes[1].set(title="lost by the network in ten steps", ylabel="nats")
weights = torch.tensor([chain.noise_mse_weight(int(k)) for k in ks])
axes[2].semilogy(ks, weights, ls="-", label="in the bound, $w_k$")
axes[2].axhline(1, color=plots.RED, ls="--", label="in noise prediction")
axes[2].set(title=r"weight of $\|\varepsilon - \hat\varepsilon\|^2$")
axes[2].legend(loc="center right")
for ax in axes:
    ax.set(xlabel="step $k$ (data left, noise right)")
plots.describe(
    "Left: the cost of a step falls steeply from the data to the noise. Middle: the network "
    "loses most in the ten steps nearest the data. Right: the weight of the bound is largest at "
    "the first step and smallest between steps 30 and 40."
)

# %% [markdown]
# **How far you are.** The checks that have passed, and their points. Before you hand the notebook in, save it and run
# `lab4.submission()` in a new cell: it runs the saved file from top to bottom and lists what is still open.

# %%
lab4.progress()

# %% [markdown]
# ## 6 · Two questions to answer in words
#
# A person reads your answers to these two. A few sentences each are enough.
#
# ### Question {exercise:singular_ends} · The singular ends ({points:singular_ends} points)
#
# For $\alpha_t = t$, $\beta_t = 1 - t$: at which end is the target of denoising score matching singular, and what is
# the variance of the target, given $z$, there? At which end is each of the two conversions singular? What does clipping
# the times at 0.99 do to the loss, and what is its disadvantage? What does the weight $\beta_t^2$ do instead, and what
# is the disadvantage of noise prediction?

# %% [markdown] answer="singular_ends" points=4
# ### BEGIN SOLUTION
# The target $-\varepsilon/\beta_t$ is singular at the data, $t = 1$: its variance is $1/\beta_t^2 = 1/(1 - t)^2$ per
# coordinate, and the integral of that over $[0, 1)$ diverges. So even the perfect score has infinite expected loss, and
# the average over batches never settles. The conversion to the score divides by
# $\beta_t(\beta_t \dot\alpha_t - \alpha_t \dot\beta_t) = \beta_t$ and is singular at $t = 1$ as well; the conversion
# to the field divides by $\alpha_t$ and is singular at the noise, $t = 0$, where the score is $-x$ whatever the data
# are. Times clipped to $[0, 1 - \delta)$ make the loss finite, of size $d/\delta$ for $d$ coordinates, with a spread that
# grows as $\delta$ shrinks. The disadvantage: nothing is learned about $t > 0.99$, and the times near 0.99 still dominate,
# so the score is inaccurate for small $t$. The weight $\beta_t^2$ gives the target the variance 1 at every time, with no
# need to clip, and does not change the minimiser at each time. Its disadvantage shows as $t \to 1$: the noise in the
# state becomes too small to be recognised, and the score $-\varepsilon_\theta/\beta_t$ divides the network's error by
# $\beta_t$.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:which_sigma} · Which σ? ({points:which_sigma} points)
#
# With an exact field, exact score and infinitely many steps, what does the choice of $\sigma_t$ change, and what not?
# With few steps? With an imperfect network? Say why a constant $\sigma$ is a bad choice near $t = 1$.

# %% [markdown] answer="which_sigma" points=3
# ### BEGIN SOLUTION
# With exact fields and small steps every $\sigma_t$ gives the same marginals $p_t$, in particular the same distribution
# of samples. Only the trajectories change, from smooth curves that can be run backwards ($\sigma = 0$) to rough ones that
# forget their start. With few steps a moderate $\sigma$ can help: the drift $\frac12\sigma_t^2 s_t$ moves states back to
# where $p_t$ is large and repairs part of the discretisation error. Too large a $\sigma$ needs smaller steps
# itself. With an imperfect network the drift along the true score would repair errors of the field too, but the drift
# uses the learned score, so its error enters with the factor $\frac12\sigma_t^2$: beyond some point more noise
# makes samples worse. Near $t = 1$ the score grows like $1/\beta_t^2$ where data are thin, and
# Euler–Maruyama is stable only for $h \sigma_t^2$ of the order of $\beta_t^2$ (plus the variance of the data where
# they are narrowest). A large constant $\sigma$ violates this near the end and samples move far away, while
# $\sigma_t \propto \beta_t$ vanishes together with $\beta_t$.
# ### END SOLUTION

# %% [markdown]
# ## 7 · One object, many coordinates
#
# Score, noise, vector field: three outputs of one model. Flow, reverse SDE, DDPM: samplers of one probability path that
# differ in their noise and their steps. Which output should a network have, which schedule, which weight over time? Lab 5
# describes all of them by one number, the signal-to-noise ratio, and shows how few choices are left.
