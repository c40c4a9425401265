# %% [markdown] writes="classifier-free guidance, digits on request, what guidance really samples, a U-Net's block, memorisation" needs="labs 3 and 4; convolutions"
# # Lab 6 · Guided image generation
#
# So far our models drew whatever the data contain. Now we ask for something: *draw a 7*. You will train one network
# that draws handwritten digits with or without being told which, and mix its two answers so that the request counts
# for more: [classifier-free guidance](../words.md#guidance), which most large image generators use. Then you
# build a small U-Net, measure what guidance improves and what it costs, and test whether your model invents its digits
# or copies them.
#
# **How to work.** Replace the line `raise NotImplementedError` by your code, run the cell, then run the check below it.
# The figure after it uses your function once its check has passed, and fmlab's until then, so you can always read on.
# Exercises marked *further* can be left out: nothing else needs them. Three cells train a network, for about 15
# seconds, 3 seconds and half a minute. Stuck? `lab6.hint("guided_vector_field")` gives up to three hints.
#
# | letter | meaning | section |
# |---|---|---|
# | $t$, $\varepsilon$ | time (0 is noise, 1 is data) and standard normal noise | all |
# | $z$, $y$ | an image with pixels from −1 (black) to 1 (white), of shape $(1, \text{height}, \text{width})$, and its **label**, a whole number; $\varnothing$ (in code `null`) is the label that says "no label" | all |
# | $x_t$ | a state between noise and data, $x_t = t z + (1 - t)\,\varepsilon$ | all |
# | $u_t(x \mid y)$, $\tilde u_t(x \mid y)$ | the field of a label, and the guided field | 1–7 |
# | $w$ | the guidance scale: 0 is without label, 1 is unguided, above 1 is guided | all |
# | $q$ | the probability that a label is dropped in training | 2 |
# | $h$, $\bar x$ | a step of time, and the state half a step ahead | 3, 7 |
# | $e(t)$, $c$ | the time as $2m$ waves, and the embedding of time and label | 8 |
# | $m, s$ and $M, S$ | mean and standard deviation of the numbers with a label, and of all numbers | 5, 6 |
# | $\sigma_t$, $\sigma^\varnothing_t$, $d_t$ | the standard deviations at time $t$, and the distance of two trajectories | 5, 6 |
# | $A$, $r$, $C$, $\hat z$ | the matrix of a measurement of $z$ (called $y$ there), the standard deviation of its errors, and the covariance and the mean of $z$ given $x_t$ | 7 |
# | $d(x)$, $z_i$ | the distance of an image from the nearest of the training images $z_i$ | 9 |
#
# *Notes* means [An Introduction to Flow Matching and Diffusion Models](https://diffusion.csail.mit.edu/). The lab is
# worth {points:all} points, {points:code} of them for code.

# %%
import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, silu

from fmlab import distributions, guidance, guidance_widgets, metrics, models, paths, plots
from fmlab import samplers, threads, training, widgets
from fmlab.checks import lab6
from fmlab.glyphs import Glyphs
from fmlab.schedules import coefficient

DATA = "digits"  # or "glyphs", letters of 16 × 16 pixels; or "mnist", with torchvision: minutes, or a GPU
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# ## 1 · Asking for something
#
# An image generator is useful if we can say what it should draw. So the data are now pairs $(z, y)$, and we sample $z$
# *given* the label:
#
# $$z \sim p_{\text{data}}(\cdot \mid y). \tag{notes, key idea 4}$$
#
# The theory does not change. The data of each label have a [probability path](../words.md#probability-path)
# $p_t(x \mid y)$ and a [vector field](../words.md#vector-field) $u_t(x \mid y)$ of their own; follow that field from
# noise, and you sample $p_{\text{data}}(\cdot \mid y)$. The field of all data together is $u_t(x \mid \varnothing)$.
#
# Images sampled in this way often show their label less clearly than one would like. **Classifier-free guidance** mixes
# the two fields, and goes *beyond* the field of the label:
#
# <a id="eq-guided"></a>
# $$\tilde u_t(x \mid y) = (1 - w)\, u_t(x \mid \varnothing) + w\, u_t(x \mid y).$$
#
# The number $w$ is the [guidance scale](../words.md#guidance-scale). $w = 0$ ignores the label. $w = 1$ is the field of
# the label: we call it *unguided*. $w > 1$ exaggerates what the label changes.
#
# > **Two conventions.** Some papers write $(1 + w)\, u_t(x \mid y) - w\, u_t(x \mid \varnothing)$. There 0 is unguided,
# > and their scale 2 is our 3. Before you copy a scale, ask which convention it belongs to.
#
# ### Exercise {exercise:guided_vector_field} · The guided field ({points:guided_vector_field} points)
#
# Write `guided_vector_field(u, y, w, null)`, which returns [the guided field](#eq-guided) *as a function* of `(x, t)`.
# The given `u(x, t, y)` is $u_t(x \mid y)$ if `y` is a label, and $u_t(x \mid \varnothing)$ if it is `null`. As always,
# `t` is a number, a 0-dimensional tensor, or has the shape `(n,)`, a time for each row of `x`. Labels are whole numbers:
# one for all rows, or of shape `(n,)`.
#
# <details><summary>Hint</summary>
# Define a function inside your function and return it, or return a <code>lambda x, t: …</code>. It calls <code>u</code>
# twice.
# </details>

# %% exercise="guided_vector_field"
def guided_vector_field(u, y, w, null):
    """The field of classifier-free guidance.

    u: function u(x, t, y). y: one label, or one for each point, (n,). w: guidance scale, a number.
    null: the label that says "no label". Returns a function of (x, t), with x: (n, *shape) and t: a number or (n,).
    """
    ### BEGIN SOLUTION
    return lambda x, t: (1 - w) * u(x, t, null) + w * u(x, t, y)
    ### END SOLUTION


# %% check="guided_vector_field" points=5

# %% [markdown]
# **Guidance without a network.** Here are three labels in the plane. The data of each are a
# [mixture](../words.md#mixture) of two Gaussians, so that all fields are known exactly. We ask for label 0: it has a
# group on the left, and one on the right, close to the data of label 1.
#
# **Predict.** At $w = 3$, which of its two groups gets fewer samples?

# %%
fewer = ...  # your guess: "left" or "right"

# %%
classes = [
    distributions.GaussianMixture([[-1.5, 1.0], [0.5, 0.6]], 0.12),
    distributions.GaussianMixture([[0.1, -0.4], [1.9, 0.9]], 0.12),
    distributions.GaussianMixture([[-1.3, -0.6], [1.0, -1.4]], 0.12),
]
everything = distributions.GaussianMixture(torch.cat([p.means for p in classes]), 0.12)
marginals = [paths.GaussianPath().marginal(p) for p in (*classes, everything)]


def exact_field(x, t, y):
    """u_t(x | y) for the labels y = 0, 1, 2, and u_t(x | ∅) for y = 3."""
    fields = torch.stack([marginal.vector_field(x, t) for marginal in marginals])
    return fields[torch.as_tensor(y).expand(len(x)), torch.arange(len(x))]


# %% figure="samples guided to label 0, by exact fields"
guided = lab6.answer_or("guided_vector_field")
x0, fresh = torch.randn(1000, 2), [classes[0].sample(1000) for _ in range(2)]
colors = plots.BLUE, plots.ORANGE, plots.GREEN
fig, axes = plots.figure(columns=3)
for ax, w in zip(axes, (0.0, 1.0, 3.0), strict=True):
    for k, (p, marker, color) in enumerate(zip(classes, "osD", colors, strict=True)):
        label = f"data, label {k}"
        plots.plot_samples(p.sample(150), ax, marker=marker, ms=4, alpha=0.4, color=color, label=label)
    x1 = samplers.sample_flow(guided(exact_field, 0, w, 3), x0, steps=20)
    plots.plot_samples(x1[:400], ax, color=plots.BLACK, ms=3, alpha=0.8, label="samples")
    ax.set(title=f"$w$ = {w:g}", xlim=(-3.4, 3.4), ylim=(-3, 3))
    distance = metrics.energy_distance(x1, fresh[0])
    print(f"w = {w:g}: energy distance to label 0 is {distance:.4f}")
print(f"two fresh sets of label 0:             {metrics.energy_distance(*fresh):.4f}")
_ = fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
on_the_right = float((x1[:, 0] > -0.5).double().mean())
lab6.compare("the group with fewer samples at w = 3", fewer, "right" if on_the_right < 0.5 else "left")
plots.describe(
    "Black points, guided to label 0, among the data of three labels. At w = 0 they cover all "
    "three labels, at w = 1 only the two groups of label 0. At w = 3 most of them are in its left "
    "group, and all are farther from the other labels."
)

# %% [markdown]
# At $w = 0$ the samples (black) have all labels. At $w = 1$ they have the distribution of label 0 (blue circles): their
# [energy distance](../words.md#energy-distance) to it, which compares two distributions by samples, is about that of two
# fresh sets. At $w = 3$ the right group, close to label 1 (orange squares), has lost most of its samples. Those of the
# left group are pushed outwards, where there are hardly any data.
#
# **Why the difference of the two fields?** A field is an affine function of its [score](../words.md#score) (lab 4). By
# Bayes' rule the two scores differ by $\nabla_x \log p_t(y \mid x)$. So for our straight path the guided field is
#
# $$\tilde u_t(x \mid y) = u_t(x \mid \varnothing) + w\,\frac{1 - t}{t}\, \nabla_x \log p_t(y \mid x):$$
#
# the field without label, and a push of strength $w$ towards states that a perfect classifier would recognise as $y$. No
# such classifier has to be trained: hence *classifier-free*.
#
# **Try it.** From which $w$ on has label 0 lost its right group? Which label keeps both its groups? What is different
# about it?

# %%
widgets.guidance_scale(classes)

# %% [markdown]
# ## 2 · One network, with and without the label
#
# For images the fields are not known. We learn both, $u_t(x \mid y)$ and $u_t(x \mid \varnothing)$, with one network
# $u_\theta(x, t \mid y)$: two would cost twice as much. The images are 1797 handwritten digits of 8 × 8 pixels, which
# come with scikit-learn. A fifth of them is held out: no network is trained on them; they are there to judge by.

# %%
if DATA == "mnist":
    data = [distributions.mnist(train=train) for train in (True, False)]
elif DATA == "glyphs":  # the letters A … J take the place of the digits
    data = [distributions.Labelled(*Glyphs(size=16).sample_labelled(n)[:2]) for n in (5000, 1000)]
else:
    data = [distributions.Digits(train=train) for train in (True, False)]
train_set, held_out = (distributions.Labelled(d.z.to(DEVICE), d.y.to(DEVICE)) for d in data)
KIND, NAMES = ("letters", "ABCDEFGHIJ") if DATA == "glyphs" else ("digits", "0123456789")

SETTINGS = {
    "digits": {"width": 256, "depth": 3, "steps": 1500, "lr": 3e-3, "unet": (16, 800, 64), "smooth": 8},
    "glyphs": {"width": 1024, "depth": 2, "steps": 1200, "lr": 5e-4, "unet": (16, 2000, 64), "smooth": 4},
    "mnist": {"width": 1024, "depth": 3, "steps": 10_000, "lr": 3e-3, "unet": (32, 10_000, 256), "smooth": 2},
}[DATA]
SHAPE, PIXELS = train_set.z.shape[1:], train_set.z[0].numel()
NULL = 10  # the labels are 0 … 9; this one says "no label"

# %% figure="images to learn from, a column for each label"
def show_images(x, ax, columns=10):
    """Images in rows, enlarged smoothly for the eye: the networks see pixels."""
    return plots.plot_images(x, ax, columns=columns, smooth=SETTINGS["smooth"])


def rows_of_digits(z, y, rows):
    """Images in rows, of the labels 0 to 9."""
    return torch.stack([z[y == digit][:rows] for digit in range(10)], dim=1).flatten(0, 1)


fig, (ax,) = plots.figure(width=8.2, height=2.75)
show_images(rows_of_digits(train_set.z, train_set.y, rows=3), ax)
ax.set_title(f"{len(train_set.z)} images to learn from, {len(held_out.z)} to judge by")
plots.describe(
    f"Three rows of the {KIND} {NAMES[0]} to {NAMES[-1]}, white on black. They are legible, and no "
    "two of a column are alike."
)

# %% [markdown]
# How does one network learn the field without label too? In each batch about one label in ten is *dropped*: `null`
# replaces it. For these images the network can only learn what is true of all digits.
#
# ### Exercise {exercise:drop_labels} · Dropping labels ({points:drop_labels} points)
#
# Each label, independently of the others, becomes
#
# <a id="eq-drop"></a>
# $$y \leftarrow \varnothing \quad \text{with probability } q.$$
#
# Write `drop_labels(y, q, null, uniform)`, [this replacement](#eq-drop) by `null`. `uniform` holds one random number for
# each label, uniform on $[0, 1)$, already drawn for you: a label is dropped where its number is **below** $q$.
#
# <details><summary>Hint</summary>
# <code>torch.where</code> chooses between two values, element by element. Check the direction of your comparison: with
# <code>q = 0.1</code> nine of ten labels stay.
# </details>

# %% exercise="drop_labels"
def drop_labels(y, q, null, uniform):
    """Labels, some of them dropped.

    y: (n,) whole numbers, of any integer dtype. q: the probability of dropping a label. null: what replaces it then.
    uniform: (n,) random numbers; a label is dropped where its number is below q.
    Returns (n,) labels in the dtype of y; y stays as it is.
    """
    ### BEGIN SOLUTION
    return torch.where(uniform < q, null, y)
    ### END SOLUTION


# %% check="drop_labels" points=3

# %% [markdown]
# **Which labels were dropped?** About a tenth of each digit's; these images have the null label now.

# %% figure="how many images have each label, before and after"
dropped = lab6.answer_or("drop_labels")
y = train_set.y.cpu()
after = dropped(y, 0.1, NULL, torch.rand(len(y)))
fig, (ax,) = plots.figure(width=6.5, height=2.6)
names = [*NAMES, "∅"]
counts = y.bincount(minlength=11)
ax.bar(names, counts, color=plots.SKY, label="before (wide bars)")
ax.bar(names, after.bincount(minlength=11), color=plots.BLUE, width=0.45, label="after (narrow bars)")
ax.set(xlabel="label", ylabel="images", ylim=(0, 1.35 * int(counts.max())))
ax.legend(loc="upper center", ncols=2)
plots.describe(
    "For each of the ten labels the bar after dropping is about a tenth lower than before. The "
    "images whose labels were dropped are in an eleventh bar of about the same height."
)

# %% [markdown]
# ### Exercise {exercise:guided_flow_matching_loss} · Guided flow matching ({points:guided_flow_matching_loss} points)
#
# The loss is that of lab 3, for a network that gets the label as well:
#
# <a id="eq-loss"></a>
# $$L(\theta) = \mathbb E\,\bigl\| u_\theta(x_t, t \mid y) - (z - \varepsilon) \bigr\|^2, \qquad
# x_t = t z + (1 - t)\,\varepsilon. \tag{notes, eq. 31}$$
#
# $\|\cdot\|^2$ is the sum over the pixels of an image, and $\mathbb E$ the mean over the batch. Each image has its own
# time: $t$ has the shape $(n,)$, and needs the shape $(n, 1, 1, 1)$ before it multiplies images. `coefficient(t, z)`,
# imported above, gives it that for any shape of $z$.
#
# Write `guided_flow_matching_loss(u, z, y, t, noise)`, [this loss](#eq-loss). Some labels in `y` may have been dropped
# before; your function need not do it.
#
# <details><summary>Hint</summary>
# Three lines: the state $x_t$; the error of the network there; the mean of the squared norms. The network gets the
# times in the shape <code>(n,)</code>, as they came.
# </details>

# %% exercise="guided_flow_matching_loss"
def guided_flow_matching_loss(u, z, y, t, noise):
    """The flow matching loss of a network that gets the label, too.

    u: function u(x, t, y), a network. z, noise: (n, *shape). y: (n,) labels. t: (n,) times in [0, 1].
    Returns a scalar tensor, whose gradient reaches the network.
    """
    ### BEGIN SOLUTION
    time = coefficient(t, z)
    error = u(time * z + (1 - time) * noise, t, y) - (z - noise)
    return error.square().flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="guided_flow_matching_loss" points=5

# %% [markdown]
# **Training.** The first network is a plain one, `models.MLP`, for which an image is a list of 64 numbers: which pixels
# are neighbours plays no role. The label enters as a vector of learned numbers, one vector for each digit and one for
# $\varnothing$, which is added to the first layer together with the time. Training takes about 15 seconds.

# %%
flow_loss = lab6.answer_or("guided_flow_matching_loss")


def loss_on(batch):
    """The loss on a new batch of this size, as a function of the model."""

    def loss(model):
        z, y = train_set.sample_labelled(batch)
        y = dropped(y, 0.1, NULL, torch.rand(batch, device=DEVICE))
        return flow_loss(model, z, y, torch.rand(batch, device=DEVICE), torch.randn_like(z))

    return loss


_ = torch.manual_seed(0)
mlp = models.MLP(PIXELS, width=SETTINGS["width"], depth=SETTINGS["depth"], labels=10).to(DEVICE)
_ = training.train(mlp, loss_on(256), steps=SETTINGS["steps"], lr=SETTINGS["lr"])

# %% figure="the loss of the MLP during training"
def size_of(model):
    return f"{sum(weight.numel() for weight in model.parameters()):,} weights"


fig, (ax,) = plots.figure(width=6, height=2.6)
plots.plot_history(mlp.history, ax, label=f"MLP, {size_of(mlp)}")
ax.legend()
plots.describe(
    "The loss falls steeply at first and slowly from then on. For digits it is about 33 at the end, not 0."
)

# %% [markdown]
# The loss falls, but not to 0. Many pairs $(z, \varepsilon)$ lead to the same $x_t$, and the network can only learn the
# average of their velocities $z - \varepsilon$ (lab 3). The variance of these velocities remains.
#
# ## 3 · Drawing digits
#
# ### Exercise {exercise:sample_guided} · Sampling with guidance ({points:sample_guided} points)
#
# You have a field for every label and a way to mix fields, which is all one needs to draw on request. Follow the guided
# field from noise at $t = 0$ to $t = 1$ in equal steps of size $h$ with the [midpoint rule](../words.md#midpoint-rule).
# It evaluates the field twice per step, and moves with the velocity half a step ahead:
#
# <a id="eq-midpoint"></a>
# $$\bar x = x + \tfrac h2\, \tilde u_t(x \mid y), \qquad x \leftarrow x + h\, \tilde u_{t + h/2}(\bar x \mid y).$$
#
# Write `sample_guided(u, y, w, null, noise, steps)`, with [these steps](#eq-midpoint). You may use your
# `guided_vector_field` in it, or `guidance.guided_vector_field` of fmlab, which takes the same arguments.
#
# <details><summary>Hint</summary>
# $h$ is 1 over the number of steps, and step $k = 0, 1, \dots$ starts at $t = k h$. Do not change <code>noise</code>
# itself: <code>x += …</code> would.
# </details>

# %% exercise="sample_guided"
def sample_guided(u, y, w, null, noise, steps):
    """Samples of the guided flow at t = 1, by the midpoint rule.

    u: function u(x, t, y). y: one label, or one for each sample, (n,). w: guidance scale, a number.
    null: the label that says "no label". noise: (n, *shape), the states at t = 0, which stay as they are.
    steps: the number of steps, 1 or more. Returns the states at t = 1, (n, *shape), in the dtype of the noise.
    """
    ### BEGIN SOLUTION
    field, x, h = guidance.guided_vector_field(u, y, w, null), noise, 1 / steps
    for k in range(steps):
        ahead = x + h / 2 * field(x, k * h)
        x = x + h * field(ahead, (k + 0.5) * h)
    return x
    ### END SOLUTION


# %% check="sample_guided" points=5

# %% [markdown]
# **Ask for something.** A year, a phone number, anything made of digits. Change the request, or $w$ with `draw("2811",
# w=5)`, and run the cell again: each row of images starts from new noise, so the handwriting is new, too.

# %%
sampler = lab6.answer_or("sample_guided")


@torch.no_grad()
def draw(request, w=2.0, model=mlp, tries=2):
    """The digits (or letters) of a request in large images, each row from new noise."""
    y = torch.tensor([NAMES.index(name) for name in request if name in NAMES], device=DEVICE)
    if not len(y):
        raise ValueError(f"nothing to draw in {request!r}: ask for {KIND}, {NAMES}")
    start = torch.randn(tries * len(y), *SHAPE, device=DEVICE)
    side = min(1.4, 9 / len(y))
    _, (ax,) = plots.figure(width=side * len(y), height=side * tries)
    show_images(sampler(model, y.repeat(tries), w, NULL, start, 10), ax, columns=len(y))
    return plots.describe(f"{tries} rows of images for {request}, by {type(model).__name__} at w = {w:g}.")


draw("CABBAGE" if DATA == "glyphs" else "2811")

# %% [markdown]
# **From no guidance to much.** The columns ask for 0, 1, …, 9. The four pictures start from the same noise and differ
# only in $w$. At $w = 0$ the request is ignored. At $w = 1$ nearly every digit is the one asked for, though some are
# blurred. At $w = 2$ they are clear. At $w = 5$ the contrast is too strong, and the digits of a column look alike.

# %%
labels = (torch.arange(500) % 10).to(DEVICE)
noise = torch.randn(500, *SHAPE, generator=torch.Generator().manual_seed(1)).to(DEVICE)


@torch.no_grad()
def draw_all(model, w):
    """Fifty images of each label, from the same noise for all models and scales."""
    return sampler(model, labels, w, NULL, noise, 10).clamp(-1, 1)  # no darker than black


SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
from_mlp = {w: draw_all(mlp, w) for w in SCALES}

# %% figure="digits from the MLP at four guidance scales"
def show_grids(grids, rows=2):
    """Pictures below each other, the columns asking for the labels 0 … 9. grids: title → images."""
    _, axes = plots.figure(rows=len(grids), width=8.2, height=0.81 * rows + 0.3)
    for ax, (title, images) in zip(axes, grids.items(), strict=True):
        show_images(images[: 10 * rows], ax).set_title(title)


show_grids({f"MLP, $w$ = {w:g}": from_mlp[w] for w in (0.0, 1.0, 2.0, 5.0)})
plots.describe(
    f"Four grids whose columns ask for {NAMES[0]} to {NAMES[-1]}. At w = 0 the columns mix all "
    "labels, at w = 1 nearly all images show what was asked for, and at w = 2 and 5 the images of "
    "a column look more and more alike."
)

# %% [markdown]
# **Move the slider.** Each digit keeps its noise as $w$ grows. From which $w$ on is it the digit asked for? What happens
# at 7.5, the usual scale of a well-known large generator?

# %%
guidance_widgets.drawn_images(
    {"MLP": from_mlp | {7.5: draw_all(mlp, 7.5)}}, NAMES, smooth=SETTINGS["smooth"]
)

# %% [markdown]
# ## 4 · What guidance buys, and what it costs
#
# To choose $w$ we need numbers, not only pictures. How many images show the digit asked for is counted by a
# **classifier**, a network trained on the real images and their labels, and on nothing else. For each image it returns
# a [logit](../words.md#logit) for each digit: the larger the logit, the more probable the digit.

# %%
_ = torch.manual_seed(0)
hidden = [nn.Linear(PIXELS, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
classifier = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10)).to(DEVICE)


def classifier_loss(network):
    z, y = train_set.sample_labelled(128)
    return cross_entropy(network(z + 0.3 * torch.randn_like(z)), y)  # a little noise steadies it


_ = training.train(classifier, classifier_loss, steps=1000, lr=3e-3)

# %% [markdown]
# ### Exercise {exercise:fidelity} · Fidelity ({points:fidelity} points)
#
# **Fidelity** is the [accuracy](../words.md#accuracy) of the classifier on drawn images: the share of images whose
# largest logit is that of the label asked for,
#
# <a id="eq-fidelity"></a>
# $$\text{fidelity} = \frac{\text{number of images recognised as their label}}{\text{number of images}}.$$
#
# Write `fidelity(logits, y)`, [this share](#eq-fidelity).
#
# <details><summary>Hint</summary>
# <code>argmax</code> along the axis of the labels. A share is a number between 0 and 1.
# </details>

# %% exercise="fidelity"
def fidelity(logits, y):
    """Share of images recognised. logits: (n, labels). y: (n,) labels, counted from 0. Returns one number."""
    ### BEGIN SOLUTION
    return (logits.argmax(dim=1) == y).float().mean()
    ### END SOLUTION


# %% check="fidelity" points=3

# %% [markdown]
# **Are the digits what we asked for?** The classifier errs too, so its accuracy on held-out real digits is shown as a
# reference line.
#
# **Predict.** At which of our scales, 0, 0.5, 1, 1.5, 2, 3 and 5, is the accuracy highest (the smallest one, if there
# are several)? And is it higher there than on real digits?

# %%
best_scale = ...  # your guess, one of the scales

# %%
share_recognised = lab6.answer_or("fidelity")


@torch.no_grad()
def recognised(x, y):
    return float(share_recognised(classifier(x), y))


real = recognised(held_out.z, held_out.y)
accuracy = {w: recognised(from_mlp[w], labels) for w in SCALES}
print(f"real {KIND}, held out: {real:.1%} recognised; MLP at w = 1: {accuracy[1.0]:.1%}")
lab6.compare("the scale with the highest accuracy", best_scale, max(SCALES, key=accuracy.get))

# %% figure="the share recognised at each guidance scale"
fig, (ax,) = plots.figure(width=6, height=2.8)
ax.plot(SCALES, [*accuracy.values()], marker="o", label="MLP")
ax.axhline(real, color=plots.BLACK, ls=":", label=f"real {KIND}, held out")
ax.set(xlabel="guidance scale $w$", ylabel="share recognised", ylim=(0, 1.05))
ax.legend(loc="lower right")
plots.describe(
    "The share recognised rises from 0.1 at w = 0 to about 1 at w = 1, where real images are, and "
    "stays there."
)

# %% [markdown]
# Unguided, the MLP's digits are nearly as legible as real ones. With a little guidance they are *more* legible, which
# should make you suspicious.
#
# ### Exercise {exercise:diversity} · Diversity ({points:diversity} points)
#
# A model that always drew the same perfect 7 would be recognised every time. So we also measure how much the images of
# a label differ. **Diversity**: for each label that occurs, the mean Euclidean distance between two *different* images
# with that label; then the mean of these numbers over the labels,
#
# <a id="eq-diversity"></a>
# $$\text{diversity} = \mathbb E_y\, \mathbb E_{x \neq x' \mid y}\, \lVert x - x' \rVert.$$
#
# The Euclidean distance of two images is the root of the sum of their squared differences over all pixels.
#
# Write `diversity(x, y)`, [this mean of means](#eq-diversity). Every label that occurs does so at least twice.
#
# <details><summary>Hint</summary>
# <code>y.unique()</code> lists the labels. <code>torch.pdist</code> gives the distances of all pairs of different rows
# of a matrix, so images must be flattened first.
# </details>

# %% exercise="diversity"
def diversity(x, y):
    """Mean distance within a class, averaged over the classes.

    x: (n, *shape), images or points. y: (n,) labels, any whole numbers. Returns one number.
    """
    ### BEGIN SOLUTION
    means = [torch.pdist(x[y == label].flatten(1)).mean() for label in y.unique()]
    return torch.stack(means).mean()
    ### END SOLUTION


# %% check="diversity" points=4

# %% [markdown]
# **The trade.** From $w = 0$ to $w = 2$ the MLP's diversity falls, while its fidelity rises.
#
# **Predict.** And from $w = 2$ to $w = 5$?

# %%
from_2_to_5 = ...  # your guess: "falls" or "rises"

# %% figure="diversity at each guidance scale"
spread = lab6.answer_or("diversity")


def plot_measure(measure, real, grids_of, ax, label):
    """A measure against the guidance scale, for each model, and its value for real digits."""
    for (name, grids), marker in zip(grids_of.items(), "os"):
        values = [float(measure(x, labels)) for x in grids.values()]
        ax.plot(grids.keys(), values, marker=marker, label=name)
    ax.axhline(float(real), color=plots.BLACK, ls=":", label=f"real {KIND}, held out")
    ax.set(xlabel="guidance scale $w$", ylabel=label)
    ax.margins(y=0.15)
    ax.legend()


real_spread = spread(held_out.z, held_out.y)
rises = spread(from_mlp[5.0], labels) > spread(from_mlp[2.0], labels)
lab6.compare("diversity from w = 2 to w = 5", from_2_to_5, "rises" if rises else "falls")
fig, (ax,) = plots.figure(width=6, height=2.8)
plot_measure(spread, real_spread, {"MLP": from_mlp}, ax, "diversity")
plots.describe(
    "Diversity falls from 5 at w = 0 to its lowest at w = 2, well below real digits, and then "
    "rises again, though the digits have not become more natural."
)

# %% [markdown]
# ## 5 · The law that guidance really samples
#
# Guided digits are plain, but from which distribution are they drawn? The answer says how far averages move and how
# much variety is lost. For Gaussians we can compute it exactly. A **law** is a distribution; the law *of a field* is the
# distribution of the states at $t = 1$ if its flow starts from standard normal noise.
#
# Numbers take the place of images: those with the label are $\mathcal N(m, s^2)$, all numbers $\mathcal N(M, S^2)$. One
# might expect the **tilted law**, proportional to $p(x \mid y)^w\, p(x)^{1 - w}$: a Gaussian with the variance
# $1/(w/s^2 + (1 - w)/S^2)$.
#
# **Predict.** Let $m = 1$, $s = 0.5$, $M = 0$, $S = 1.3$ and $w = 2$. The tilted law has the mean 1.080 and the
# standard deviation 0.367. What is the standard deviation of the guided field's law?

# %%
std_guess = ...  # your guess, a number

# %% [markdown]
# ### Exercise {exercise:guided_std} · How wide is the law? ({points:guided_std} points)
#
# The standard deviation at time $t$ is $\sigma_t = \sqrt{t^2 s^2 + (1 - t)^2}$ for the label, and
# $\sigma^\varnothing_t = \sqrt{t^2 S^2 + (1 - t)^2}$ for all numbers. The field of a Gaussian path is affine (lab 2):
# $u_t(x \mid y) = (x - t\,m)\,\dot\sigma_t/\sigma_t + m$. So the distance $d_t$ of two trajectories grows at the rate
# $\dot d_t/d_t = \dot\sigma_t/\sigma_t$. With guidance, the two rates are mixed:
#
# <a id="eq-guided-spread"></a>
# $$\frac{\dot d_t}{d_t} = w\,\frac{\dot\sigma_t}{\sigma_t} + (1 - w)\,\frac{\dot\sigma^\varnothing_t}{\sigma^\varnothing_t}.$$
#
# All distances grow by the same factor $d_1/d_0$, and the noise has the standard deviation 1. Hence the law is a
# Gaussian with the standard deviation $d_1/d_0$. Integrate [the equation for the distance](#eq-guided-spread) from 0 to
# 1, on paper, and write the result as `guided_std(s, S, w)`.
#
# <details><summary>Hint</summary>
# The quotient of a derivative and its function is the derivative of a logarithm.
# </details>

# %% exercise="guided_std"
def guided_std(s, S, w):
    """The standard deviation of the law that guidance samples.

    s: the standard deviation of p(x | y). S: that of p(x). w: guidance scale. All are numbers, s
    and S positive. Returns one number.
    """
    ### BEGIN SOLUTION
    return s**w * S ** (1 - w)
    ### END SOLUTION


# %% check="guided_std" points=4

# %% [markdown]
# **Your formula, and a simulation.** The flow is affine. Of trajectories from −1 and 1, the middle of the ends is the
# mean of the law, and half their distance is the standard deviation.

# %%
std_of = lab6.answer_or("guided_std")


def gaussian_field(mean, std):
    """The field whose law is N(mean, std²)."""
    mean = torch.tensor([mean], dtype=torch.float64)
    return paths.GaussianPath().marginal(distributions.Gaussian(mean, std**2)).vector_field


def law_of(field, start=0.0):
    """Mean and standard deviation of the law of an affine field, from where −1 and 1 end."""
    x0 = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    ts = torch.linspace(start, 1, 201, dtype=torch.float64)
    low, high = samplers.sample_flow(field, x0, steps=ts)
    return float(low + high) / 2, float(high - low) / 2


three = [gaussian_field(1.0, 0.5), gaussian_field(-1.0, 0.5), gaussian_field(0.0, 1.3)]


def gaussian_fields(x, t, y):
    """The label is 0, another label is 1, and 2 is no label."""
    return three[y](x, t)


precision = 2 / 0.5**2 - 1 / 1.3**2
laws = {
    "label, w = 1": (1.0, 0.5),
    "tilted law, w = 2": (2 / 0.5**2 / precision, precision**-0.5),
    "guidance, w = 2": law_of(guided(gaussian_fields, 0, 2.0, 2)),
}
print(f"{'':30} mean    std")
for name, (mean, std) in laws.items():
    print(f"{name:28}{mean:7.3f}{std:7.3f}")
print(f"{'your formula, w = 2':35}{std_of(0.5, 1.3, 2.0):7.3f}")
lab6.compare("the standard deviation of the guided law", std_guess, laws["guidance, w = 2"][1])

# %% figure="three laws, and their spread against the scale"
def plot_laws(laws, ax):
    """Densities of Gaussians by name."""
    grid = torch.linspace(-2.5, 5, 600)
    for (name, law), style in zip(laws.items(), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))):
        density = torch.distributions.Normal(*law).log_prob(grid).exp()
        ax.plot(grid, density, ls=style, lw=1.6, label=name)
    ax.set(xlabel="$x$", ylabel="density at $t$ = 1")
    ax.legend(loc="upper left", fontsize=9)


_, (left, right) = plots.figure(columns=2, width=4.6, height=3)
plot_laws(laws, left)
left.set(xlim=(-1, 3), ylim=(0, 2.3))
scales = torch.linspace(1, 4, 61)
tilted = (scales / 0.5**2 + (1 - scales) / 1.3**2) ** -0.5
right.plot(scales, tilted, color=plots.RED, ls="--", label="tilted law")
by_formula = [std_of(0.5, 1.3, w) for w in scales.tolist()]
right.plot(scales, by_formula, color=plots.BLACK, ls="-.", label="guidance")
right.set(xlabel="guidance scale $w$", ylabel="standard deviation", ylim=(0, 0.6))
right.legend(loc="upper right")
plots.describe(
    "Left: at w = 2 the law of guidance is a peak near 1.26, about twice as high as the tilted "
    "law and further right. Right: the standard deviation of the tilted law falls slowly with "
    "w, that of guidance falls exponentially."
)

# %% [markdown]
# Guidance goes further than the tilted law and loses far more variety. At each time the guided field belongs to
# the score of a tilted density, $p_t(x \mid y)^w\, p_t(x)^{1-w}$. But these densities are no [probability
# path](../words.md#probability-path) of that field: to tilt and then add noise is not the same as to add noise and then
# tilt.
#
# ### Exercise {exercise:batch_guidance} · Both calls in one batch ({points:batch_guidance} points)
#
# Guidance calls the network twice per evaluation, with and without the label. Neither call needs the other's result. So
# programs join them to one call with $2n$ rows. On a GPU, a small batch often takes as long as one of twice the size:
#
# <a id="eq-one-batch"></a>
# $$\begin{pmatrix} u_t(x \mid \varnothing) \\ u_t(x \mid y) \end{pmatrix}
# = u\left(\begin{pmatrix} x \\ x \end{pmatrix}, \begin{pmatrix} t \\ t \end{pmatrix},
# \begin{pmatrix} \varnothing \\ y \end{pmatrix}\right).$$
#
# Write `batch_guidance(u, x, t, y, w, null)`: the guided velocity $(1 - w)\,u_t(x \mid \varnothing) + w\,u_t(x \mid y)$
# by [one call of the network](#eq-one-batch).
#
# <details><summary>Hint</summary>
# <code>torch.cat</code> joins, <code>.chunk(2)</code> cuts into halves. One label for all must first become one for each
# row. A time of shape <code>()</code> can stay as it is.
# </details>

# %% exercise="batch_guidance"
def batch_guidance(u, x, t, y, w, null):
    """The guided velocity, by one call of the network.

    u: function u(x, t, y), a network. x: (n, *shape). t: a number or (n,). y: one label, or one
    for each state, (n,). w: guidance scale, a number. null: the label that says "no label".
    Returns (n, *shape), in the dtype of x.
    """
    ### BEGIN SOLUTION
    t = torch.as_tensor(t, device=x.device).expand(len(x))
    y = torch.as_tensor(y, device=x.device).expand(len(x))
    both = u(torch.cat([x, x]), torch.cat([t, t]), torch.cat([torch.full_like(y, null), y]))
    free, shown = both.chunk(2)
    return (1 - w) * free + w * shown
    ### END SOLUTION


# %% check="batch_guidance" points=4

# %% [markdown]
# **Count the calls.** The same ten digits, drawn both ways in ten steps of the midpoint rule.

# %%
one_call, calls = lab6.answer_or("batch_guidance"), []


def counted(x, t, y):
    """The network of section 2, which notes the rows of each call."""
    calls.append(len(x))
    return mlp(x, t, y)


with torch.no_grad():
    in_two = sampler(counted, labels[:10], 2.0, NULL, noise[:10], 10)
    print(f"two calls per evaluation: {len(calls)} calls, {sum(calls)} rows")
    calls.clear()
    in_one = samplers.sample_flow(
        lambda x, t: one_call(counted, x, t, labels[:10], 2.0, NULL), noise[:10], steps=10
    )
    print(f"one call per evaluation:  {len(calls)} calls, {sum(calls)} rows")
_, (ax,) = plots.figure(width=5.5, height=1.4)
show_images(torch.cat([in_two, in_one]).clamp(-1, 1), ax)
ax.set_title("two calls above, one call below")
plots.describe("Two rows of the digits 0 to 9. Each digit below is the same as the one above it.")

# %% [markdown]
# ## 6 · Other ways to ask · *further*
#
# Classifier-free guidance moves the mean *and* takes variety away. Other fields have other laws, so you can choose what
# to give up. All exercises of this section and the next can be left out.
#
# ### Exercise {exercise:classifier_guided_field} · A classifier asks ({points:classifier_guided_field} points)
#
# What if nobody trained the network with labels? Then a second model can ask: a classifier of noisy images,
# $p_t(y \mid x)$. By Bayes' rule the score of label $y$ is the score of all data plus $\nabla_x \log p_t(y \mid x)$. On
# the straight path a difference of scores, times $(1 - t)/t$, is a difference of fields (section 1):
#
# <a id="eq-classifier"></a>
# $$\tilde u_t(x) = u_t(x) + w\,\frac{1 - t}{t}\,\nabla_x \log p_t(y \mid x).$$
#
# If the classifier is exact, at $w = 1$ this is the field of the label. Write `classifier_guided_field(u,
# log_likelihood, w)`, which returns [the field with this push](#eq-classifier) as a function of $(x, t)$.
# `log_likelihood(x, t)` is $\log p_t(y \mid x)$, a number for each row. Samplers run under `torch.no_grad()`, so your
# function has to switch gradients on.
#
# <details><summary>Hint</summary>
# Under <code>with torch.enable_grad():</code> make a copy by <code>x.detach().requires_grad_()</code>. Then
# <code>torch.autograd.grad</code> of the summed log-likelihoods holds each row's own gradient.
# </details>

# %% exercise="classifier_guided_field"
def classifier_guided_field(u, log_likelihood, w):
    """A field with a push towards what a classifier takes for y.

    u: function u(x, t), without a label. log_likelihood: function (x, t) → (n,), differentiable
    in x. w: a number. Returns a function of (x, t), with x: (n, *shape) and t: a number or (n,),
    above 0. It works under torch.no_grad().
    """

    ### BEGIN SOLUTION
    def field(x, t):
        with torch.enable_grad():
            given = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_likelihood(given, t).sum(), given)
        return u(x, t) + w * coefficient((1 - t) / t, x) * gradient

    return field
    ### END SOLUTION


# %% check="classifier_guided_field" points=4 further=true

# %% [markdown]
# **An exact classifier.** In the plane of section 1 all densities are known, so Bayes' rule is a perfect classifier.

# %%
by_classifier = lab6.answer_or("classifier_guided_field")


def log_label(x, t):
    """log p_t(0 | x) in the plane of section 1, but for a constant."""
    return marginals[0].log_prob(x, t) - marginals[3].log_prob(x, t)


x, t = torch.randn(1000, 2), torch.rand(1000).clamp(0.1, 0.95)
asked = by_classifier(marginals[3].vector_field, log_label, 1.0)(x, t)
error = float((asked - marginals[0].vector_field(x, t)).abs().max())
print("the largest difference from the field of label 0 is below 0.001:", error < 1e-3)

# %% figure="the field of all data, the push, and their sum"
shown = {
    "all data": marginals[3].vector_field,
    "push": by_classifier(lambda x, t: 0 * x, log_label, 1.0),
    "sum: the field of label 0": by_classifier(marginals[3].vector_field, log_label, 1.0),
}
_, axes = plots.figure(columns=3)
for ax, (name, field) in zip(axes, shown.items(), strict=True):
    plots.plot_vector_field(field, 0.6, ax).set_title(name)
plots.describe(
    "Arrows at t = 0.6. Those of all data lead to four places. The push leads up from below "
    "and left from the right, away from the other labels. The sum leads to the two groups of "
    "label 0."
)

# %% [markdown]
# ### Exercise {exercise:guidance_in_interval} · Only for a while ({points:guidance_in_interval} points)
#
# In section 1 most of label 0's right group was lost at $w = 3$. Early on, while $x$ is mostly noise, guidance chooses
# among the groups of the label; late, it changes little. Kynkäänniemi and others (2024) guide only in the middle:
#
# <a id="eq-interval"></a>
# $$w_t = w \ \text{ for } a \le t < b, \qquad w_t = 1 \ \text{ at other times.}$$
#
# Write `guidance_in_interval(u, y, w, null, start, end)`, the guided field with [this scale](#eq-interval), $a$ being
# `start` and $b$ `end`.
#
# <details><summary>Hint</summary>
# <code>torch.where</code> chooses the scale for one time or many; <code>coefficient(scale, x)</code> shapes it.
# </details>

# %% exercise="guidance_in_interval"
def guidance_in_interval(u, y, w, null, start, end):
    """The guided field, with the scale w at times start ≤ t < end and 1 at others.

    u: function u(x, t, y). y: one label, or one for each point, (n,). null: the label that says
    "no label". w, start, end: numbers. Returns a function of (x, t), with x: (n, *shape) and t: a
    number or (n,).
    """

    ### BEGIN SOLUTION
    def field(x, t):
        at = torch.as_tensor(t)
        scale = coefficient(torch.where((start <= at) & (at < end), w, 1.0).to(x), x)
        return (1 - scale) * u(x, t, null) + scale * u(x, t, y)

    return field
    ### END SOLUTION


# %% check="guidance_in_interval" points=3 further=true

# %% [markdown]
# **Variety kept.** The plane of section 1 at $w = 3$. Half of label 0 lies in its right group. Guidance from 0.5 to 0.9
# keeps nearly all of it, and yet the points show their label almost as plainly as with guidance at all times.

# %%
in_interval = lab6.answer_or("guidance_in_interval")
fields = {
    "$w$ = 1": guided(exact_field, 0, 1.0, 3),
    "$w$ = 3": guided(exact_field, 0, 3.0, 3),
    "$w$ = 3 from 0.5 to 0.9": in_interval(exact_field, 0, 3.0, 3, 0.5, 0.9),
}
ends = {name: samplers.sample_flow(field, x0, steps=40) for name, field in fields.items()}
for name, x in ends.items():
    certain = torch.stack([p.log_prob(x) for p in classes]).softmax(0)[0].mean()  # p(0 | x)
    right = (x[:, 0] > -0.5).float().mean()
    name = name.replace("$", "")
    print(f"{name:24} in the right group: {right:4.0%}   certainty of label 0: {certain:.3f}")

# %% figure="label 0 without guidance, with it, and with it for a while"
_, axes = plots.figure(columns=3)
for ax, (name, x) in zip(axes, ends.items(), strict=True):
    for p, marker, color in zip(classes, "osD", colors, strict=True):
        plots.plot_samples(p.sample(150), ax, marker=marker, ms=3, alpha=0.4, color=color)
    plots.plot_samples(x[:300], ax, color=plots.BLACK, ms=3, alpha=0.7)
    ax.set(title=name, xlim=(-3, 3), ylim=(-3, 3))
plots.describe(
    "Black points among the data of three labels. Without guidance they fill both groups of "
    "label 0, with it most are in the left one, and with guidance only from 0.5 to 0.9 "
    "both groups have many again."
)

# %% [markdown]
# ### Exercise {exercise:autoguided_field} · A worse model of the same ({points:autoguided_field} points)
#
# Is "no label" the right thing to move away from? Karras and others (2024) take a *worse* model of the *same* label
# instead, one that is smaller or trained for less time. It makes similar errors, only larger. So one continues in
# the direction from bad to good:
#
# <a id="eq-auto"></a>
# $$\tilde u_t(x) = w\,u^{\text{good}}_t(x) + (1 - w)\,u^{\text{bad}}_t(x).$$
#
# Write `autoguided_field(good, bad, w)`, [this field](#eq-auto) as a function of $(x, t)$.
#
# <details><summary>Hint</summary>
# Compare it with the guided field: which field has the place of which?
# </details>

# %% exercise="autoguided_field"
def autoguided_field(good, bad, w):
    """The field of autoguidance.

    good, bad: functions u(x, t), for one and the same label. w: guidance scale, a number.
    Returns a function of (x, t), with x: (n, *shape) and t: a number or (n,).
    """
    ### BEGIN SOLUTION
    return lambda x, t: w * good(x, t) + (1 - w) * bad(x, t)
    ### END SOLUTION


# %% check="autoguided_field" points=2 further=true

# %% [markdown]
# **Predict.** The good model has the law $\mathcal N(1, 0.5^2)$, the bad one is blurrier, $\mathcal N(1, 1.3^2)$. In
# section 5 guidance moved the mean from 1 to 1.258. What is the mean under autoguidance, at $w = 2$?

# %%
mean_guess = ...  # your guess, a number

# %% [markdown]
# ### Exercise {exercise:negative_field} · A label to avoid ({points:negative_field} points)
#
# "A street, but no cars": image programs take *negative* requests. They put the label to avoid, $y'$, in the place of
# $\varnothing$:
#
# <a id="eq-negative"></a>
# $$\tilde u_t(x) = (1 - w)\,u_t(x \mid y') + w\,u_t(x \mid y).$$
#
# Write `negative_field(u, y, avoid, w)`, [this field](#eq-negative) as a function of $(x, t)$.
#
# <details><summary>Hint</summary>
# You have written this function before, under another name.
# </details>

# %% exercise="negative_field"
def negative_field(u, y, avoid, w):
    """The field towards one label and away from another.

    u: function u(x, t, y). y, avoid: one label each, or one for each point, (n,). w: guidance
    scale, a number. Returns a function of (x, t), with x: (n, *shape) and t: a number or (n,).
    """
    ### BEGIN SOLUTION
    return lambda x, t: (1 - w) * u(x, t, avoid) + w * u(x, t, y)
    ### END SOLUTION


# %% check="negative_field" points=2 further=true

# %% [markdown]
# **Which guidance?** All laws at $w = 2$, for the label $\mathcal N(1, 0.5^2)$. The bad model is
# $\mathcal N(1, 1.3^2)$, the label to avoid $\mathcal N(-1, 0.5^2)$.

# %%
auto, negative = lab6.answer_or("autoguided_field"), lab6.answer_or("negative_field")
laws |= {
    "from 0.3 to 0.7, w = 2": law_of(in_interval(gaussian_fields, 0, 2.0, 2, 0.3, 0.7)),
    "autoguidance, w = 2": law_of(auto(three[0], gaussian_field(1.0, 1.3), 2.0)),
    "label avoided, w = 2": law_of(negative(gaussian_fields, 0, 1, 2.0)),
}
print(f"{'':30} mean    std")
for name, (mean, std) in laws.items():
    print(f"{name:28}{mean:7.3f}{std:7.3f}")
lab6.compare("the mean under autoguidance", mean_guess, laws["autoguidance, w = 2"][0])

# %% figure="five laws of one label"
_, (ax,) = plots.figure(width=6.5, height=3)
plot_laws({name: law for name, law in laws.items() if "tilted" not in name}, ax)
ax.set(xlim=(-2.5, 5), ylim=(0, 2.4))
plots.describe(
    "Guidance is a narrow peak right of the label's mean, autoguidance an equally narrow one at "
    "the label's mean. The interval lies between label and guidance. With a label to avoid, the "
    "curve keeps its width and moves to 3."
)

# %% [markdown]
# Classifier-free guidance moves the mean and narrows the law. Autoguidance only narrows it: where the good model is a
# little too wide, some $w > 1$ gives the exact width. A label to avoid, of equal width, only moves it. The law of
# guidance from $a$ to $b$ lies in between: the standard deviation is $s\,\bigl[(\sigma_b/\sigma_a) /
# (\sigma^\varnothing_b/\sigma^\varnothing_a)\bigr]^{w-1}$, from [the equation for the distance](#eq-guided-spread) once
# more.
#
# ## 7 · Guided by a measurement · *further*
#
# A request need not be a label. Sharpen this photograph, fill in that gap: the request is a *measurement* of the image,
# and the right answer is a known distribution, the [posterior](../words.md#posterior) of the data given the
# measurement. So one can check whether a method draws from it.
#
# ### Exercise {exercise:measurement_log_prob} · A measurement as a classifier ({points:measurement_log_prob} points)
#
# We measure $y = A z + r\,\xi$ with a matrix $A$ and standard normal errors $\xi$. In the field of exercise
# {exercise:classifier_guided_field} the measurement $y$ replaces the label, so $p_t(y \mid x)$ is needed. A state $x$
# leaves $z$ uncertain: let $\hat z$, the output of the [denoiser](../words.md#denoiser), be the mean of $z$ given $x$,
# and $C$ the covariance. If $z$ given $x$ is Gaussian, so is the measurement:
#
# <a id="eq-measured"></a>
# $$p_t(y \mid x) = \mathcal N\bigl(y;\ A \hat z,\ r^2 I + A\,C A^\top\bigr).$$
#
# Write `measurement_log_prob(mean, cov, A, y, noise_var)`, the logarithm of [this density](#eq-measured) for each row
# $\hat z$ of `mean`; `noise_var` is $r^2$. **Diffusion posterior sampling** (DPS; Chung and others, 2023) leaves out
# $C$.
#
# <details><summary>Hint</summary>
# <code>torch.distributions.MultivariateNormal(means, covariance).log_prob(y)</code>.
# </details>

# %% exercise="measurement_log_prob"
def measurement_log_prob(mean, cov, A, y, noise_var):
    """log N(y; A ẑ, r² I + A C Aᵀ) for each row ẑ.

    mean: (n, d), the rows ẑ. cov: (d, d), the matrix C. A: (k, d). y: (k,), the measurement.
    noise_var: r², a number. Returns (n,), in the dtype of mean; its gradient reaches mean.
    """
    ### BEGIN SOLUTION
    covariance = noise_var * torch.eye(len(y)).to(A) + A @ cov @ A.T
    return torch.distributions.MultivariateNormal(mean @ A.T, covariance).log_prob(y)
    ### END SOLUTION


# %% check="measurement_log_prob" points=4 further=true

# %% [markdown]
# **With and without $C$.** The data are $\mathcal N(0, 1.3^2)$, and the measurement is $y = 1$, with $A = 1$ and $r =
# 0.4$. For such Gaussian data $\hat z = x + (1 - t)\,u_t(x)$ and $C = (1 - t)^2\, 1.3^2/(t^2\, 1.3^2 + (1 - t)^2)$ are
# exact.

# %%
log_density, prior = lab6.answer_or("measurement_log_prob"), gaussian_field(0.0, 1.3)
A = torch.ones(1, 1, dtype=torch.float64)


def posterior_field(doubt):
    """The field guided by the measurement 1, with the covariance C times doubt."""

    def log_likelihood(x, t):
        cov = doubt * A * (1 - t) ** 2 * 1.69 / (t**2 * 1.69 + (1 - t) ** 2)
        return log_density(x + (1 - t) * prior(x, t), cov, A, A[0], 0.4**2)

    return by_classifier(prior, log_likelihood, 1.0)


precision = 1 / 1.3**2 + 1 / 0.4**2
posteriors = {
    "exact posterior": (1 / 0.4**2 / precision, precision**-0.5),
    "with C": law_of(posterior_field(1.0), start=1e-5),
    "DPS, C = 0": law_of(posterior_field(0.0), start=1e-5),
}
print(f"{'':18} mean    std")
for name, (mean, std) in posteriors.items():
    print(f"{name:16}{mean:7.4f}{std:8.4f}")

# %% figure="trajectories guided by a measurement, with the right covariance and without"
_, axes = plots.figure(columns=2, width=4.6, height=3)
ts = torch.linspace(1e-5, 1, 101, dtype=torch.float64)
starts = torch.linspace(-2, 2, 15, dtype=torch.float64)
for ax, (name, doubt) in zip(axes, {"with $C$": 1.0, "DPS, $C$ = 0": 0.0}.items(), strict=True):
    states = samplers.sample_flow(posterior_field(doubt), starts[:, None], steps=ts, record=True)
    ax.plot(ts, states[..., 0], color=plots.BLUE, ls="-", lw=0.9, alpha=0.7)
    mean, std = posteriors["exact posterior"]
    ax.errorbar(1.03, mean, yerr=2 * std, color=plots.BLACK, fmt="o", ms=4, capsize=4)
    ax.set(title=name, xlabel="time $t$", ylabel="state", xlim=(0, 1.08), ylim=(-2.2, 3.4))
plots.describe(
    "Trajectories from 15 starts between −2 and 2. With C they end spread over the bar, the "
    "posterior's mean and twice its standard deviation. With C = 0 they all meet near 1.15, "
    "above the mean."
)

# %% [markdown]
# With $C = 0$ the method treats its guess $\hat z$ as exact, so the push is far too strong while little is known.
# Programs of DPS weaken it by a step size, which has to be found anew for each task.
#
# ### Exercise {exercise:inpaint} · The rest of a digit ({points:inpaint} points)
#
# You have the upper part of a digit. Which lower parts fit? A popular method needs no classifier: before each step it
# replaces the known pixels by noisy ones, as a state of the path would show them. That seems right; below you measure
# whether it is. With the straight path and Euler's steps of length $h$:
#
# <a id="eq-inpaint"></a>
# $$x \leftarrow t\,z_{\text{known}} + (1 - t)\,\varepsilon \ \text{ where a pixel is known}, \qquad
# x \leftarrow x + h\,u_t(x) \ \text{ everywhere.}$$
#
# $\varepsilon$ is the noise at the start, the same in all steps. Write `inpaint(u, known, mask, noise, steps)`, with
# [these two parts](#eq-inpaint) in each step. In the end the known pixels are put in without noise.
#
# <details><summary>Hint</summary>
# <code>torch.where(mask, new, x)</code> replaces known pixels alone. Step $k$ starts at $t = k h$.
# </details>

# %% exercise="inpaint"
def inpaint(u, known, mask, noise, steps):
    """Images at t = 1 whose known pixels are given.

    u: function u(x, t). known: (*shape), an image. mask: (*shape), true where a pixel of it is
    known; the others may be anything. noise: (n, *shape), the states at t = 0. steps: their
    number. Returns (n, *shape), in the dtype of noise.
    """
    ### BEGIN SOLUTION
    x = noise
    for k in range(steps):
        t = k / steps
        x = torch.where(mask, t * known + (1 - t) * noise, x)
        x = x + u(x, t) / steps
    return torch.where(mask, known, x)
    ### END SOLUTION


# %% check="inpaint" points=4 further=true

# %% [markdown]
# **Against the exact answer.** We make the training digits purely black and white, and let them be all the data. Then
# the field is known exactly, and so is the answer: the digits that *match*, whose three upper rows are the known ones,
# each with the same probability. The field of these digits alone draws from that distribution.
#
# **Predict.** Which share of the inpainted images is one of these digits?

# %%
share_guess = ...  # your guess, a number between 0 and 1

# %%
fill = lab6.answer_or("inpaint")
binary = torch.where(distributions.Digits().z > 0, 1.0, -1.0)
known, mask = binary[72], torch.zeros(1, 8, 8, dtype=torch.bool)
mask[:, :3] = True
matching = binary[(binary == known)[:, mask].all(dim=1)]
start = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
all_digits, exact = (
    paths.GaussianPath().marginal(distributions.Empirical(z)).vector_field
    for z in (binary, matching)
)
filled = {
    "inpainted": fill(all_digits, known, mask, start, 50),
    "exact": samplers.sample_flow(exact, start, steps=50),
}

# %% figure="digits that match, and inpainted ones"
fresh = [matching[torch.randint(len(matching), (300,))] for _ in range(2)]
shares = {}
print(f"{len(matching)} of {len(binary)} digits match")
for name, x in {**filled, "drawn anew": fresh[1]}.items():
    nearest = torch.cdist(x.flatten(1), matching.flatten(1)).amin(dim=1)
    shares[name], distance = (
        float((nearest < 0.1).float().mean()),
        metrics.energy_distance(x, fresh[0]),
    )
    print(f"{name:12} one of them: {shares[name]:4.0%}   energy distance: {distance:.2f}")
lab6.compare("the share of inpainted images that match", share_guess, shares["inpainted"])

fig, axes = plots.figure(columns=3, width=3.6, height=2.1)
fig.get_layout_engine().set(wspace=0.08)
for ax, (name, x) in zip(axes, {"digits that match": matching, **filled}.items(), strict=True):
    plots.plot_images(x[:18], ax, columns=6, smooth=4).set_title(name)
plots.describe(
    "All images have the same three upper rows. The exact samples are digits of the data. The "
    "inpainted images look like digits, too, but most have lower parts that no matching digit "
    "has."
)

# %% [markdown]
# Replacing pixels seems right at each time, and is not. The field moves the unknown pixels by what the known ones show
# *at time $t$*, and that is mostly noise at first. When the known pixels become clear, the others have already moved
# towards another digit. RePaint (Lugmayr and others, 2022) therefore goes back and forth many times at each noise
# level, which helps.

# %% [markdown]
# ## 8 · A network made for images
#
# Why did the MLP's diversity rise again (section 4)? Guidance multiplies the *difference* of two predictions by $w$,
# and with it their errors: they become speckles and hard edges that no real digit has. A better network has smaller
# errors.
#
# An MLP learns for every pixel separately how it depends on its neighbours. A **convolution** applies the same weights
# at every place, and a **U-Net** uses convolutions at two sizes of the image: strokes are visible at the full size,
# whole digits at half of it. You will write the two parts that bring in time and label.
#
# ### Exercise {exercise:time_embedding} · Time as waves ({points:time_embedding} points)
#
# The network should behave differently at different times, but all that a layer can do with the number $t$ is multiply
# it by a weight. So it gets $2m$ numbers instead, slow and fast waves of $t$:
#
# <a id="eq-waves"></a>
# $$e(t) = (\cos \pi t,\ \cos 2\pi t,\ \dots,\ \cos m\pi t,\ \ \sin \pi t,\ \sin 2\pi t,\ \dots,\ \sin m\pi t),
# \qquad m = \text{size}/2.$$
#
# Write `time_embedding(t, size)`: [these waves](#eq-waves) for each time.
#
# <details><summary>Hint</summary>
# A column of times <code>t[:, None]</code> times a row of frequencies is a table of angles.
# </details>

# %% exercise="time_embedding"
def time_embedding(t, size):
    """Waves of the time: cos kπt for k = 1 … size/2, and then sin kπt.

    t: (n,). size: an even number. Returns (n, size), in the dtype of t.
    """
    ### BEGIN SOLUTION
    angles = math.pi * t[:, None] * torch.arange(1, size // 2 + 1, device=t.device)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
    ### END SOLUTION


# %% check="time_embedding" points=4

# %% [markdown]
# **What the network gets.** Left: the first waves. Right: the scalar product of the embeddings of times $t'$ and $t$.
# It depends only on $t - t'$ (why?), and is large only where the times are close. So different times have different
# embeddings, and nearly equal times similar ones.

# %% figure="waves of the time, and products of embeddings"
embed = lab6.answer_or("time_embedding")
ts = torch.linspace(0, 1, 201)
fig, (left, right) = plots.figure(columns=2, width=4.6, height=3)
waves = embed(ts, 16)
for k, color in enumerate((plots.BLACK, plots.BLUE, plots.ORANGE)):
    left.plot(ts, waves[:, k], color=color, ls="-", lw=1.2, label=f"k = {k + 1}")
    left.plot(ts, waves[:, 8 + k], color=color, ls="--", lw=1.2)
left.set(xlabel="time $t$", ylabel=r"cos $k\pi t$ (solid), sin $k\pi t$ (dashed)", ylim=(-1.1, 1.6))
left.legend(loc="upper center", ncols=3)
for k in (20, 100, 160):
    right.plot(ts, waves @ waves[k], label=f"$t'$ = {float(ts[k]):g}")
right.set(xlabel="time $t$", ylabel=r"$e(t') \cdot e(t)$", ylim=(-3, 12))
right.legend(loc="upper center", ncols=3)
plots.describe(
    "Left: waves of three frequencies. Right: the product of two embeddings is largest where their "
    "times are equal and small elsewhere, so the network can distinguish times."
)

# %% [markdown]
# ### Exercise {exercise:residual_block} · The residual block ({points:residual_block} points)
#
# The U-Net consists of blocks of one kind. A block computes a *correction* to its input and adds it, so that it can
# easily leave the input as it is. Between its two convolutions, a linear layer turns the embedding $c$ of time and label
# into one number for each channel, which is added to the channel at all pixels:
#
# <a id="eq-block"></a>
# $$\text{block}(x, c) = x + f_2\bigl(\text{silu}(f_1(\text{silu}(x)) + \text{shift}(c))\bigr), \qquad
# \text{silu}(a) = \frac{a}{1 + e^{-a}}.$$
#
# $f_1$ and $f_2$ are convolutions, here the functions `first` and `second`.
#
# Write `residual_block(x, c, first, shift, second)`, [this block](#eq-block). `silu` is imported.
#
# <details><summary>Hint</summary>
# <code>shift(c)</code> has the shape <code>(n, channels)</code>, and what <code>first</code> returns has <code>(n,
# channels, height, width)</code>. Give the shift two more axes at the end.
# </details>

# %% exercise="residual_block"
def residual_block(x, c, first, shift, second):
    """A residual block that gets time and label.

    x: (n, channels, height, width). c: (n, size), the embedding of time and label.
    first, second: layers, from and to (n, channels, height, width).
    shift: a layer (n, size) → (n, channels).
    Returns (n, channels, height, width), in the dtype of x; its gradient reaches x, c and all layers.
    """
    ### BEGIN SOLUTION
    inner = first(silu(x)) + shift(c)[:, :, None, None]
    return x + second(silu(inner))
    ### END SOLUTION


# %% check="residual_block" points=5

# %% [markdown]
# **The whole U-Net** around your two functions: a block; then half the size with twice the channels, and two blocks;
# then the full size again, joined with the earlier result of that size (the bar across the U); and a last block.
# `first` and `second` normalise the channels before they convolve, which makes training stable.

# %%
own_block = lab6.answer_or("residual_block")


class Block(nn.Module):
    """Your residual block, with layers of its own."""

    def __init__(self, channels, size):
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1))
            for _ in range(2)
        )
        self.shift = nn.Linear(size, channels)

    def forward(self, x, c):
        return own_block(x, c, self.first, self.shift, self.second)


class DigitUNet(nn.Module):
    """u_θ(x, t | y) for images (n, 1, height, width) with even height and width."""

    def __init__(self, channels, labels=10, waves=16):
        super().__init__()
        size = 4 * channels
        self.waves, self.null_label = waves, labels
        self.time, self.label = nn.Linear(waves, size), nn.Embedding(labels + 1, size)
        self.enter = nn.Conv2d(1, channels, 3, padding=1)
        self.before = Block(channels, size)
        self.down = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(Block(2 * channels, size) for _ in range(2))
        self.join = nn.Conv2d(3 * channels, channels, 1)
        self.after = Block(channels, size)
        self.leave = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, t, y):
        t, y = (torch.as_tensor(value, device=x.device).expand(len(x)) for value in (t, y))
        c = silu(self.time(embed(t.to(x.dtype), self.waves)) + self.label(y))
        fine = self.before(self.enter(x), c)
        coarse = self.down(fine)
        for block in self.middle:
            coarse = block(coarse, c)
        joined = self.join(torch.cat([interpolate(coarse, scale_factor=2.0), fine], dim=1))
        return self.leave(silu(self.after(joined, c)))


# %% [markdown]
# **Training it** takes about half a minute. With a third of the MLP's weights and half as many steps, its loss ends
# much lower.

# %%
_ = torch.manual_seed(0)
channels, steps, batch = SETTINGS["unet"]
unet = DigitUNet(channels).to(DEVICE)
_ = training.train(unet, loss_on(batch), steps=steps, lr=6e-3)

# %% figure="the losses of MLP and U-Net during training"
fig, (ax,) = plots.figure(width=6, height=2.6)
for name, model in {"MLP": mlp, "U-Net": unet}.items():
    plots.plot_history(model.history, ax, label=f"{name}, {size_of(model)}")
last = torch.tensor(mlp.history[-50:]).mean()
ax.set_ylim(0.6 * last, 1.8 * last)
ax.legend()
plots.describe(
    "Both losses fall and become flat. The U-Net's is lower from the first steps on; for digits it "
    "ends at about 26, and the MLP's at about 33."
)

# %% [markdown]
# **Ask again**, now the U-Net.

# %%
draw("BADGE" if DATA == "glyphs" else "2811", model=unet)

# %% [markdown]
# **Both networks, from the same noise.** An evaluation of a U-Net is expensive: this cell takes nearly as long as the
# training. Unguided, the U-Net's digits have sharper strokes and blacker backgrounds than the MLP's, and vary like
# handwriting, unreadable ones included. With guidance the digits of both are clear.

# %%
from_unet = {}
with training.progress_bar("drawing", len(SCALES)) as bar:
    for w in SCALES:
        from_unet[w] = draw_all(unet, w)
        bar.update()
both = {"MLP": from_mlp, "U-Net": from_unet}

# %% figure="digits from MLP and U-Net, unguided and guided"
show_grids({f"{name}, $w$ = {w:g}": both[name][w] for w in (1.0, 2.0) for name in both})
plots.describe(
    "At w = 1 the U-Net's images have sharper strokes and more variety than the MLP's. At w = 2 "
    "both are clear and look much alike within a column."
)

# %%
guidance_widgets.drawn_images({"U-Net": from_unet, "MLP": from_mlp}, NAMES, smooth=SETTINGS["smooth"])

# %% [markdown]
# **The trade, again.** The better network's diversity falls with every step of $w$. At $w = 1$ it is close to real
# handwriting in *both* respects. Larger $w$ raise the accuracy a little and lower diversity further and further.

# %% figure="share recognised and diversity of both networks"
fig, axes = plots.figure(columns=2, width=4.6, height=3)
plot_measure(recognised, real, both, axes[0], "share recognised")
plot_measure(spread, real_spread, both, axes[1], "diversity")
plots.describe(
    "Left: both networks come near the level of real images at w = 1. Right: the U-Net's diversity "
    "falls steadily with w and is below that of real digits from w = 1 on; the MLP's falls and "
    "rises again."
)

# %% [markdown]
# ## 9 · Inventing or remembering?
#
# Five hundred good digits prove nothing if they are copies of the 1438 that the network was trained on, and copies may
# harm those whom the data belong to. So for each generated image we measure the distance
#
# <a id="eq-nearest"></a>
# $$d(x) = \min_i\, \lVert x - z_i \rVert$$
#
# to its nearest neighbour among the training images $z_i$. By itself this number says little. But the *held-out* images
# are real, new handwriting, and their distances show what to expect of new images.
#
# ### Exercise {exercise:nearest_neighbour_distance} · The nearest neighbour ({points:nearest_neighbour_distance} points)
#
# Write `nearest_neighbour_distance(x, data)`: for each image of `x` [the Euclidean distance](#eq-nearest) to the nearest
# image of `data`.
#
# <details><summary>Hint</summary>
# <code>torch.cdist</code> makes the table of all distances between the rows of two matrices.
# </details>

# %% exercise="nearest_neighbour_distance"
def nearest_neighbour_distance(x, data):
    """Distance of each image to the nearest of the data.

    x: (n, *shape), images or points. data: (N, *shape). Returns (n,), in the dtype of x.
    """
    ### BEGIN SOLUTION
    return torch.cdist(x.flatten(1), data.flatten(1)).amin(dim=1)
    ### END SOLUTION


# %% check="nearest_neighbour_distance" points=4

# %% [markdown]
# **The perfect minimiser.** The training set is finite, so the field that minimises our training loss is known exactly:
# it is a weighted average over the training images (lab 2). We can follow it without any network.
#
# **Predict.** How far from the nearest training image do its trajectories end, on average? (Held-out real digits are
# about 2 away.)

# %%
distance_of_perfect = ...  # your guess, a number

# %%
nearest = lab6.answer_or("nearest_neighbour_distance")
perfect = paths.GaussianPath().marginal(distributions.Empirical(train_set.z[:2000])).vector_field
sources = {
    f"real {KIND}, held out": held_out.z,
    "U-Net, w = 1": from_unet[1.0][:400],
    "U-Net, w = 2": from_unet[2.0][:400],
    "perfect minimiser": samplers.sample_flow(perfect, noise[:400], steps=20),
}
distances = {name: nearest(x, train_set.z) for name, x in sources.items()}
found = float(distances["perfect minimiser"].mean())
lab6.compare("the mean distance with the perfect minimiser", distance_of_perfect, round(found, 2))

# %% figure="distances to the nearest training image"
fig, (ax,) = plots.figure(width=8.4, height=3)
lines = zip((plots.BLACK, plots.BLUE, plots.RED, plots.ORANGE), ("-", "--", "-.", ":"), strict=True)
for (name, d), (color, style) in zip(distances.items(), lines, strict=True):
    label = f"{name}: mean {float(d.mean()):.2f}"
    ax.ecdf(plots.array(d), color=color, ls=style, lw=2, label=label)
ax.set(xlabel="distance $d$ to the nearest training image", ylabel="share nearer than $d$")
ax.set_xlim(left=-0.2)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.describe(
    "Four rising curves. Those of real images and of the U-Net are close together. That of the "
    "perfect minimiser is a vertical line at 0, since all its images are copies."
)

# %% [markdown]
# Every trajectory of that field ends on a training image. A network that minimised the loss perfectly would only copy;
# ours draws new digits because it does not.
#
# **Compare the pairs.** Each lower row shows the training images that are nearest to the upper row. From the U-Net's
# picture alone, would you have said that it copies? Then look at the held-out digits: they are real and new.

# %% figure="images above, their nearest training images below"
new_digits = rows_of_digits(held_out.z, held_out.y, rows=1)
pairs = {f"real {KIND}, held out": new_digits, "U-Net, $w$ = 2": from_unet[2.0][:10]}
# one image after the other, the place of the smallest distance
which = lambda x: [int(nearest(train_set.z, image[None]).argmin()) for image in x]
show_grids({name: torch.cat([x, train_set.z[which(x)]]) for name, x in pairs.items()})
plots.describe(
    "Images above, their nearest training images below. They resemble each other, for held-out "
    "images as for generated ones, and no pair is identical."
)

# %% [markdown]
# **All in one table.** The [energy distance](../words.md#energy-distance) (lab 3, exercise
# {exercise:lab3.energy_distance}) to the held-out images says how much samples differ from the data *as a whole*. (The
# row of real digits compares the training images with them.) The U-Net's is smaller than the MLP's at every scale. Which
# scale would you choose, and for what?

# %% figure="energy distance to real images, and all measures in a table"
def to_held_out(x):
    return float(metrics.energy_distance(x, held_out.z))


def table_row(name, x, y, distance):
    """Fidelity, energy distance, diversity and mean distance to the nearest training image."""
    near = float(nearest(x[:400], train_set.z).mean())
    print(f"{name:16}{recognised(x, y):11.1%}{distance:17.3f}{float(spread(x, y)):11.2f}{near:9.2f}")


print(f"{'':16} recognised  energy distance  diversity  nearest")
real_distance = to_held_out(train_set.z)
table_row("real, held out", held_out.z, held_out.y, real_distance)
fig, (ax,) = plots.figure(width=6, height=2.8)
for (name, grids), marker in zip(both.items(), "os"):
    drawn_distances = {w: to_held_out(x) for w, x in grids.items()}
    for w, x in grids.items():
        table_row(f"{name}, w = {w:g}", x, labels, drawn_distances[w])
    ax.plot(drawn_distances.keys(), drawn_distances.values(), marker=marker, label=name)
ax.axhline(real_distance, color=plots.BLACK, ls=":", label="real, training images")
ax.set(xlabel="guidance scale $w$", ylabel="energy distance")
ax.legend()
plots.describe(
    "The energy distance to held-out images against the guidance scale. Both curves change little "
    "up to w = 0.5, are lowest between 1 and 2 and rise steeply from there; the U-Net's is below "
    "the MLP's everywhere."
)

# %% [markdown]
# **How far you are.** Before you hand the notebook in, save it and run `lab6.submission()` in a new cell: it runs the
# saved file from top to bottom in a fresh process, and lists what is still open.

# %%
lab6.progress()

# %% [markdown]
# ## 10 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:what_guidance_trades} · What guidance trades ({points:what_guidance_trades} points)
#
# What becomes better as $w$ grows, what becomes worse, and which numbers and pictures of this lab show it? And why are
# the samples at $w > 1$ not samples of $p(x \mid y)$, even when both fields are exact, as they were in section 1? Which
# regions do they avoid, and what do they lose?

# %% [markdown] answer="what_guidance_trades" points=6
# ### BEGIN SOLUTION
# Fidelity grows: the share recognised goes from 10 % at $w = 0$ over 95 to 99 % at $w = 1$ to 100 % at $w = 2$, above
# that of real digits. Diversity falls: the images of a column become alike, and the mean distance within a class drops
# below that of real digits. The energy distance of the U-Net is smallest at $w = 1$ to $1.5$ and grows from there: as
# a whole the samples move away from the data. At large $w$ contrast is exaggerated, and errors of the two predictions
# are multiplied.
#
# Only at $w = 1$ is the field that of the path $p_t(x \mid y)$, so only there does the flow end at $p(x \mid y)$. For
# $w > 1$ the extra push $(w - 1)\,\frac{1 - t}{t} \nabla \log p_t(y \mid x)$ moves all samples towards places where the
# label is certain. They avoid the regions that the label shares with others, although $p(x \mid y)$ has mass there: in
# section 1 the right group of label 0 is nearly lost, and the rest is pushed beyond the data. Nor are they samples of
# the tilted law $p(x)^{1 - w} p(x \mid y)^w$, as one might think: at each $t$ the guided field belongs to the score of
# such a product, but the products at different times do not form the path of one distribution.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:does_it_memorise} · Does it memorise? ({points:does_it_memorise} points)
#
# Does your U-Net copy its training images? Say what you compare with what, and why the held-out images are needed for
# it. Why are guided samples nearer to the training images than unguided ones, and is that a sign of copying? And what
# would happen if the network minimised the training loss perfectly?

# %% [markdown] answer="does_it_memorise" points=6
# ### BEGIN SOLUTION
# It does not. Copies would have distances near 0, like those of the perfect minimiser. The distances of the U-Net's
# samples spread over the same range as those of the held-out images, whose mean is about 2.1, and none is near 0; the
# pairs show different handwriting. The held-out images are needed because a distance has no meaning by itself: they say
# how near new, real images come to the training set by chance.
#
# Guided samples are nearer (2.2 against 2.5) because guidance favours plain, typical digits, and in the middle of a
# class training images lie close together. That is a loss of diversity, not copying: the typical 7 is near many
# training images without being one of them. The distances must be compared with those of images just as typical.
#
# The minimiser of the loss on a finite training set is the marginal field of that set, and its flow ends on training
# images. A network that minimised it perfectly would only copy. That ours generalises is due to its limits: its size,
# the smoothness of what it can represent, and the length of training. With more weights, more steps or fewer images it
# would begin to copy, and the distances would show it.
# ### END SOLUTION

# %% [markdown]
# ## 11 · From here to large image models
#
# Large image generators consist of the parts of this lab: a path from noise to data, a U-Net or a transformer that gets
# time and request, requests that are dropped in about one of ten cases, and a guidance scale. Papers on them use four
# terms more:
#
# - **$w = 7.5$** is the usual scale of Stable Diffusion 1, which draws what a sentence asks for. It mixes predictions of
#   noise, $\varepsilon_\theta(x \mid \varnothing) + w\,\bigl(\varepsilon_\theta(x \mid y) - \varepsilon_\theta(x \mid
#   \varnothing)\bigr)$, where $\varnothing$ is the empty sentence: our convention, in which 1 is unguided. But scales
#   cannot be carried over from model to model, as our digits at 7.5 show.
# - **FID**, the *Fréchet inception distance*, takes the place of our energy distance. A classifier, Inception, computes
#   features of real and of generated images. With their means $\mu, \mu'$ and covariances $C, C'$ the distance is
#   $\|\mu - \mu'\|^2 + \text{tr}\bigl(C + C' - 2\,(C C')^{1/2}\bigr)$; smaller is better.
# - **CLIP** takes the place of our classifier: two networks, trained on pictures with captions, turn a picture and a
#   sentence into vectors. The cosine of their angle, the *CLIP score*, is large if the picture shows what the sentence
#   says. Plots of FID against CLIP score for many $w$ show the trade of this lab.
# - **Latents** are a few numbers from which a second network makes all pixels of an image. Stable Diffusion draws
#   latents, and guides them as you guided digits. In lab 7 you build such a model.
#
# With `DATA = "glyphs"` at the top, this notebook draws letters, in about five minutes; the numbers in the text are
# those of the digits. With `"mnist"` it draws larger digits, with larger networks; that takes many minutes, or a GPU,
# which it uses where there is one.
