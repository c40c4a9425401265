# %% [markdown]
# # Lab 6 · Guided image generation
#
# So far our models drew whatever the data contain. Now we ask for something: *draw a 7*. By the end of this lab you
# will have trained one network that draws handwritten digits with and without being told which, mixed its two answers
# so that the request counts for more (**classifier-free guidance**), built a small U-Net for images, and measured what
# guidance buys, what it costs, and whether your model invents its digits or remembers them.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace the line `raise NotImplementedError` by
# your code, run the cell, then run the check below it. A figure follows. It uses your function once its check has
# passed, and fmlab's until then, so you can always read on. Three cells train a network: they take about 5 seconds, 15
# seconds and half a minute. Stuck? `lab6.hint("guided_vector_field")` gives up to three hints, one at a time.
#
# **Notation.** As before, $t = 0$ is noise, $t = 1$ is data, $z$ a data point, $\varepsilon$ standard normal noise, and
# the path is the straight one, $x_t = t z + (1 - t)\,\varepsilon$. Images are states of shape
# $(n, 1, \text{height}, \text{width})$ with pixels from −1 (black) to 1 (white). New is the **label** $y$: a whole
# number, one for each image. *Notes* means [An Introduction to Flow Matching and Diffusion
# Models](https://diffusion.csail.mit.edu/), *course labs* the labs of the same course. The lab is worth {points:all} points, {points:code}
# of them for code.

# %%
import math
import time

import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, silu

from fmlab import distributions, guidance, metrics, models, paths, plots, samplers, training
from fmlab import threads, widgets
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
# The data are now pairs $(z, y)$, and we want to draw from the distribution of $z$ *given* the label, for any label we
# like:
#
# $$z \sim p_{\text{data}}(\cdot \mid y). \tag{notes, key idea 4}$$
#
# Nothing in the theory has to change. Each label has data of its own, so it has a probability path $p_t(x \mid y)$ and
# a vector field $u_t(x \mid y)$ of its own; follow that field from noise, and you draw from
# $p_{\text{data}}(\cdot \mid y)$. Beside these there is the field of all data together, which we write
# $u_t(x \mid \varnothing)$: the label is "no label".
#
# In practice images drawn this way often show their label less plainly than one would wish. **Classifier-free
# guidance** mixes the two fields, and goes *beyond* the field of the label:
#
# <a id="eq-guided"></a>
# $$\tilde u_t(x \mid y) = (1 - w)\, u_t(x \mid \varnothing) + w\, u_t(x \mid y). \tag{course labs}$$
#
# The number $w$ is the **guidance scale**. $w = 0$ ignores the label, $w = 1$ is the field of the label, without
# guidance, and $w > 1$ exaggerates what the label changes.
#
# > **A trap.** Many papers and programs write $(1 + w)\, u_t(x \mid y) - w\, u_t(x \mid \varnothing)$. There 0 means no
# > guidance, and their scale 2 is our 3. Before you copy a scale, ask which convention it belongs to.
#
# ### Exercise {exercise:guided_vector_field} · The guided field ({points:guided_vector_field} points)
#
# Write `guided_vector_field(u, y, w, null)`, which returns [the guided field](#eq-guided) *as a function* of `(x, t)`. Here
# `u(x, t, y)` knows all the fields: called with a label it is $u_t(x \mid y)$, and with the label `null` it is
# $u_t(x \mid \varnothing)$. As in every lab a field takes `t` as a number, a 0-dimensional tensor, or one of shape
# `(n,)`, a time for each row of `x`; so do networks, and so should yours. Labels are whole numbers: one for all rows, or
# a tensor of shape `(n,)`.
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
# **Guidance without a network.** Three labels in the plane, each a mixture of two Gaussians, so that all fields are
# known exactly. We ask for label 0, the blue circles. At $w = 0$ the samples are of all labels; at $w = 1$ they have
# exactly the law of label 0. At $w = 3$ they keep clear of the other labels, and pay for it: the right half of label 0,
# which has yellow neighbours, is nearly given up, and the left half is pushed away from all the others, to where there
# are hardly any data.

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


guided = lab6.answer_or("guided_vector_field")
x0, fresh = torch.randn(1000, 2), [classes[0].sample(1000) for _ in range(2)]
colors = plots.BLUE, plots.ORANGE, plots.GREEN
fig, axes = plots.figure(columns=3)
for ax, w in zip(axes, (0.0, 1.0, 3.0), strict=True):
    for p, marker, color in zip(classes, "osD", colors, strict=True):
        plots.plot_samples(p.sample(150), ax, marker=marker, ms=3, alpha=0.4, color=color)
    x1 = samplers.sample_flow(guided(exact_field, 0, w, 3), x0, steps=20)
    plots.plot_samples(x1[:400], ax, color=plots.BLACK, ms=3, alpha=0.8)
    ax.set(title=f"$w$ = {w:g}", xlim=(-3, 3), ylim=(-3, 3))
    distance = metrics.energy_distance(x1, fresh[0])
    print(f"w = {w:g}: energy distance to label 0 is {distance:.4f}")
print(f"two fresh sets of label 0:             {metrics.energy_distance(*fresh):.4f}")
plots.describe(
    "Black points, guided to label 0, among the data of three labels. At w = 0 they cover all "
    "three, at w = 1 just the two blobs of label 0, and at w = 3 nearly all of them crowd in its "
    "left blob, away from the other labels."
)

# %% [markdown]
# **Why the difference of the two fields?** A field is its score, rescaled (lab 4), and by Bayes' rule the two scores
# differ by the gradient of $\log p_t(y \mid x)$. So the guided field is
#
# $$\tilde u_t(x \mid y) = u_t(x \mid \varnothing) + w\,\kappa_t\,\nabla_x \log p_t(y \mid x), \qquad
# \kappa_t = \beta_t^2\,\frac{\dot\alpha_t}{\alpha_t} - \beta_t \dot\beta_t ,$$
#
# the unguided field and a push of strength $w$ towards places that a perfect classifier of noisy images would take for
# $y$. Nobody had to train that classifier: hence *classifier-free*.
#
# **Try it.** From which $w$ on has label 0 lost its right half? Which label keeps both halves, and what has it that the
# others have not? (In a notebook that has just been opened this is a still picture: run the cell to get the sliders.)

# %%
widgets.guidance_scale(classes)

# %% [markdown]
# ## 2 · One network, with and without the label
#
# For images nobody hands us the fields. We learn them, and we want both, $u_t(x \mid y)$ and $u_t(x \mid \varnothing)$,
# from one network $u_\theta(x, t \mid y)$. The images are real ones: 1797 handwritten digits of 8 × 8 pixels, which
# come with scikit-learn. A fifth of them is held out: no network sees them, and we judge by them.

# %%
if DATA == "mnist":
    try:
        data = [distributions.mnist(train=train) for train in (True, False)]
    except RuntimeError as error:  # which says what to do about it
        print(f"{error}\nUntil then this notebook goes on with the small digits.")
        DATA = "digits"
if DATA == "digits":
    data = [distributions.Digits(train=train) for train in (True, False)]
if DATA == "glyphs":  # the letters A … J take the place of the digits
    data = [distributions.Labelled(*Glyphs(size=16).sample_labelled(n)[:2]) for n in (5000, 1000)]
train_set, held_out = (distributions.Labelled(d.z.to(DEVICE), d.y.to(DEVICE)) for d in data)

SETTINGS = {
    "digits": {"width": 256, "channels": 16, "steps": 1500, "unet_steps": 800, "unet_batch": 64, "smooth": 4},
    "glyphs": {"width": 512, "channels": 16, "steps": 3000, "unet_steps": 2000, "unet_batch": 64, "smooth": 2},
    "mnist": {"width": 1024, "channels": 32, "steps": 10_000, "unet_steps": 10_000, "unet_batch": 256, "smooth": 1},
}[DATA]
SHAPE, PIXELS = train_set.z.shape[1:], train_set.z[0].numel()
NULL = 10  # the labels are the digits 0 … 9; this one says "no label"


def show_images(x, ax, columns=10):
    """Images in rows, smoothed for the eye: the networks see pixels."""
    return plots.plot_images(x, ax, columns=columns, smooth=SETTINGS["smooth"])


def rows_of_digits(z, y, rows):
    """Images in rows from 0 to 9."""
    return torch.stack([z[y == digit][:rows] for digit in range(10)], dim=1).flatten(0, 1)


fig, (ax,) = plots.figure(width=5.5, height=2.5)
show_images(rows_of_digits(train_set.z, train_set.y, rows=4), ax)
ax.set_title(f"{len(train_set.z)} images to learn from, {len(held_out.z)} to judge by")
plots.describe(
    "Four rows of the handwritten digits 0 to 9, white on black. They are legible, and each "
    "writer's differ."
)

# %% [markdown]
# How does one network learn the field without label too? While it is trained, we hide the label of a few images, about
# one in ten, chosen anew each time: it is replaced by a label of its own, `null`. For these images the network can only
# learn what is true of all digits.
#
# ### Exercise {exercise:drop_labels} · Dropping labels ({points:drop_labels} points)
#
# Each label, independently of the others, becomes
#
# <a id="eq-drop"></a>
# $$y \leftarrow \varnothing \quad \text{with probability } p.$$
#
# Write `drop_labels(y, p, null, uniform)`, [this replacement](#eq-drop) by `null`. `uniform` holds one random number for
# each label, uniform on $[0, 1)$, already drawn for you: a label is dropped where its number is **below** $p$.
#
# <details><summary>Hint</summary>
# <code>torch.where</code> chooses between two values, element by element. Think which way round the comparison goes:
# with <code>p = 0.1</code> most labels stay. (A published solution to a lab like this one has it the wrong way round,
# and trains on one label in ten.)
# </details>

# %% exercise="drop_labels"
def drop_labels(y, p, null, uniform):
    """Labels, some of them dropped.

    y: (n,) whole numbers, of any integer dtype. p: the probability of dropping a label. null: what stands for it then.
    uniform: (n,) random numbers; a label is dropped where its number is below p.
    Returns (n,) labels in the dtype of y; y stays as it is.
    """
    ### BEGIN SOLUTION
    return torch.where(uniform < p, null, y)
    ### END SOLUTION


# %% check="drop_labels" points=3

# %% [markdown]
# **Who has lost a label?** About a tenth of each digit, and they all meet under the null label.

# %%
dropped = lab6.answer_or("drop_labels")
y = train_set.y.cpu()
after = dropped(y, 0.1, NULL, torch.rand(len(y)))
fig, (ax,) = plots.figure(width=6.5, height=2.6)
names = [*map(str, range(10)), "∅"]
ax.bar(names, y.bincount(minlength=11), color=plots.SKY, label="before")
ax.bar(names, after.bincount(minlength=11), color=plots.BLUE, width=0.45, label="after")
ax.set(xlabel="label", ylabel="images", ylim=(0, 200))
ax.legend(loc="upper center", ncols=2)
plots.describe(
    "For each of the ten labels the bar after dropping is about a tenth lower than before. The "
    "images without a label have gathered in an eleventh bar of the same height."
)

# %% [markdown]
# ### Exercise {exercise:guided_flow_matching_loss} · Guided flow matching ({points:guided_flow_matching_loss} points)
#
# The loss is that of lab 3, for a network that is told the label as well:
#
# <a id="eq-loss"></a>
# $$L(\theta) = \mathbb E\,\bigl\| u_\theta(x_t, t \mid y) - (z - \varepsilon) \bigr\|^2, \qquad
# x_t = t z + (1 - t)\,\varepsilon. \tag{notes, eq. 31}$$
#
# $\|\cdot\|^2$ is the sum over the pixels of an image, and $\mathbb E$ the mean over the batch. Each image has a time
# of its own: $t$ has the shape $(n,)$, and must be given the shape $(n, 1, 1, 1)$ before it multiplies images.
# `coefficient(t, z)`, imported above, does that for any shape of $z$.
#
# Write `guided_flow_matching_loss(u, z, y, t, noise)`, the loss of [notes, eq. 31](#eq-loss). Some labels in `y` may have been dropped already; that is not
# your concern here.
#
# <details><summary>Hint</summary>
# Three lines: the state $x_t$; the error of the network there; the mean of the squared norms. The network gets the
# times in the shape <code>(n,)</code>, as they came.
# </details>

# %% exercise="guided_flow_matching_loss"
def guided_flow_matching_loss(u, z, y, t, noise):
    """The flow matching loss of a network that is told the label.

    u: function u(x, t, y), a network. z, noise: (n, *shape). y: (n,) labels. t: (n,) times in [0, 1].
    Returns a scalar tensor, whose gradient reaches the network.
    """
    ### BEGIN SOLUTION
    s = coefficient(t, z)
    error = u(s * z + (1 - s) * noise, t, y) - (z - noise)
    return error.square().flatten(1).sum(dim=1).mean()
    ### END SOLUTION


# %% check="guided_flow_matching_loss" points=5

# %% [markdown]
# **Training.** The first network is a plain one, `models.MLP`: it takes an image as a list of 64 numbers and knows
# nothing of neighbours. The label enters as a vector of learned numbers (one for each digit, and one for $\varnothing$)
# that is added to the first layer together with the time. The cell below trains it on your loss with your dropped
# labels, in about 15 seconds.

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
begin = time.process_time()
mlp = models.MLP(PIXELS, width=SETTINGS["width"], depth=3, labels=10).to(DEVICE)
_ = training.train(mlp, loss_on(256), steps=SETTINGS["steps"], lr=3e-3)
print("trained within a minute of CPU time:", time.process_time() - begin < 60)


def plot_history(model, ax, **line):
    """The loss while training, averaged over 50 steps."""
    history = torch.tensor(model.history).unfold(0, 50, 10).mean(dim=1)
    ax.plot(50 + 10 * torch.arange(len(history)), history, **line)
    ax.set(xlabel="training step", ylabel="loss (mean of 50 steps)")


fig, (ax,) = plots.figure(width=6, height=2.6)
plot_history(mlp, ax, label=f"MLP, {sum(w.numel() for w in mlp.parameters()):,} weights")
ax.legend()
plots.describe(
    "The loss falls steeply in the first 300 training steps, from 80 to about 40, and slowly from "
    "then on, to about 33."
)

# %% [markdown]
# The loss falls, but not to 0: many pairs $(z, \varepsilon)$ pass through the same $x_t$, and the network can only
# learn the average of their velocities (lab 3). What remains is their variance.
#
# ## 3 · Drawing digits
#
# ### Exercise {exercise:sample_guided} · Sampling with guidance ({points:sample_guided} points)
#
# Everything is in place: a field for every label, and a way to mix them. To draw, start from noise and follow the
# guided field from $t = 0$ to $t = 1$ in equal steps of size $h$ with the **midpoint rule**. It looks twice per step,
# and moves with the velocity half a step ahead:
#
# <a id="eq-midpoint"></a>
# $$x' = x + \tfrac h2\, \tilde u_t(x \mid y), \qquad x \leftarrow x + h\, \tilde u_{t + h/2}(x' \mid y).$$
#
# Write `sample_guided(u, y, w, null, noise, steps)`, with [these steps](#eq-midpoint). You may use your `guided_vector_field` in it; if that is still
# open, `guidance.guided_vector_field` of fmlab takes the same arguments.
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
# **Digits on request.** The columns ask for 0, 1, …, 9. All four pictures start from the same noise and differ in $w$
# alone. At $w = 0$ the request is ignored. At $w = 1$ nearly every digit is the one asked for, though some are smudged
# or odd. At $w = 2$ they are plain and clean. At $w = 5$ they are garish, and the digits of a column look alike.

# %%
sampler = lab6.answer_or("sample_guided")
labels = (torch.arange(500) % 10).to(DEVICE)
noise = torch.randn(500, *SHAPE, generator=torch.Generator().manual_seed(1)).to(DEVICE)


@torch.no_grad()
def draw(model, w):
    """Fifty images of each digit, from the same noise for all models and scales."""
    return sampler(model, labels, w, NULL, noise, 10).clamp(-1, 1)  # no darker than black


def show_grids(grids, rows=4):
    """Pictures side by side, the columns asking for 0 … 9. grids: title → images."""
    fig, axes = plots.figure(columns=2, rows=len(grids) // 2, width=4.6, height=0.45 * rows + 0.35)
    fig.get_layout_engine().set(wspace=0.06)
    for ax, (title, images) in zip(axes, grids.items(), strict=True):
        show_images(images[: 10 * rows], ax).set_title(title)


SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
from_mlp = {w: draw(mlp, w) for w in SCALES}
show_grids({f"MLP, $w$ = {w:g}": from_mlp[w] for w in (0.0, 1.0, 2.0, 5.0)})
plots.describe(
    "Four grids whose columns ask for 0 to 9. At w = 0 the columns mix all digits, at w = 1 "
    "nearly all show what was asked for, and at w = 2 and 5 the digits of a column look more and "
    "more alike."
)

# %% [markdown]
# ## 4 · What guidance buys, and what it costs
#
# Looking is good, counting is better. To count how many digits are what we asked for we need somebody to read them: a
# classifier, trained on the real images with their labels. It has never seen a generated image, and the generating
# network never sees the classifier. It returns a **logit** for each digit, the larger the likelier.

# %%
_ = torch.manual_seed(0)
classifier = nn.Sequential(
    nn.Flatten(),
    nn.Linear(PIXELS, 256), nn.ReLU(),
    nn.Linear(256, 256), nn.ReLU(),
    nn.Linear(256, 10),
).to(DEVICE)  # fmt: skip


def classifier_loss(network):
    z, y = train_set.sample_labelled(128)
    return cross_entropy(network(z + 0.3 * torch.randn_like(z)), y)  # a little noise steadies it


_ = training.train(classifier, classifier_loss, steps=1000, lr=3e-3)

# %% [markdown]
# ### Exercise {exercise:fidelity} · Fidelity ({points:fidelity} points)
#
# **Fidelity** is the share of the images whose largest logit is the label's:
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
# **Are the digits what we asked for?** The classifier errs too, so its score on real digits that it has not seen stands
# beside. At $w = 1$ the model is about as legible as people are; with a little guidance it is *more* legible than real
# handwriting. That should make you suspicious.

# %%
share_recognised = lab6.answer_or("fidelity")


@torch.no_grad()
def recognised(x, y):
    return float(share_recognised(classifier(x), y))


real = recognised(held_out.z, held_out.y)
print(f"real digits, held out: {real:6.1%} recognised")
for w in (0.0, 1.0, 2.0):
    print(f"MLP at w = {w:g}:          {recognised(from_mlp[w], labels):6.1%}")
fig, (ax,) = plots.figure(width=6, height=2.8)
ax.plot(SCALES, [recognised(from_mlp[w], labels) for w in SCALES], marker="o", label="MLP")
ax.axhline(real, color=plots.BLACK, ls=":", label="real digits, held out")
ax.set(xlabel="guidance scale $w$", ylabel="share recognised")
ax.legend(loc="lower right")
plots.describe(
    "The share recognised rises from 0.1 at w = 0 to about 1 at w = 1, where real digits are, and "
    "stays there."
)

# %% [markdown]
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
# **The trade.** Up to $w = 2$ diversity falls, while fidelity rises. Beyond that the plain network fails in another
# way: the distances grow again, and not because its digits become more varied. The guided field is a *difference* of
# two predictions, multiplied, and their errors are multiplied with it. You saw them in the last picture: speckles and
# hard edges that no real digit has.

# %%
spread = lab6.answer_or("diversity")


def plot_measure(measure, real, grids_of, ax, label):
    """A measure against the guidance scale, for each model, and its value for real digits."""
    for (name, grids), marker in zip(grids_of.items(), "os"):
        values = [float(measure(x, labels)) for x in grids.values()]
        ax.plot(grids.keys(), values, marker=marker, label=name)
    ax.axhline(float(real), color=plots.BLACK, ls=":", label="real digits, held out")
    ax.set(xlabel="guidance scale $w$", ylabel=label)
    ax.margins(y=0.15)
    ax.legend()


real_spread = spread(held_out.z, held_out.y)
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
# much variety is lost. For Gaussians we can compute it exactly. By the **law** of a field we mean the distribution in
# which its flow ends at $t = 1$, started from standard normal noise.
#
# Numbers take the place of images: those with the label are $\mathcal N(m, s^2)$, all numbers $\mathcal N(M, S^2)$. One
# expects the **tilted law**, proportional to $p(x \mid y)^w\, p(x)^{1 - w}$: a Gaussian with the variance
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
# **Your formula, and a simulation.** The flow is affine. So the ends of two trajectories, from −1 and from 1, tell mean
# and standard deviation.

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
# Guidance goes further than the tilted law and loses far more variety. At every single time the guided field belongs to
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
# ## 6 · Other ways to ask
#
# Classifier-free guidance moves the mean *and* takes variety away. Other fields have other laws, so you can choose what
# to give up. All exercises of this section and the next can be left out.
#
# ### Exercise {exercise:classifier_guided_field} · A classifier asks ({points:classifier_guided_field} points)
#
# What if nobody trained the network with labels? Then a second model can ask: a classifier of noisy images,
# $p_t(y \mid x)$. By Bayes' rule the score of label $y$ is the score of all data plus $\nabla_x \log p_t(y \mid x)$. On
# the straight path a difference of scores, times $(1 - t)/t$, is a difference of fields (section 1, $\kappa_t$):
#
# <a id="eq-classifier"></a>
# $$\tilde u_t(x) = u_t(x) + w\,\frac{1 - t}{t}\,\nabla_x \log p_t(y \mid x).$$
#
# At $w = 1$ this is the field of the label, exactly. Write `classifier_guided_field(u, log_likelihood, w)`, which
# returns [the field with this push](#eq-classifier) as a function of $(x, t)$. `log_likelihood(x, t)` is
# $\log p_t(y \mid x)$, a number for each row. Samplers run under `torch.no_grad()`, so your function has to switch
# gradients on.
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
    "Arrows at t = 0.6. Those of all data lead to three places. The push leads up from below "
    "and left from the right, away from the other labels. The sum leads to the upper left, "
    "where label 0 is."
)

# %% [markdown]
# ### Exercise {exercise:guidance_in_interval} · Only for a while ({points:guidance_in_interval} points)
#
# In section 1 guidance gave up half of label 0. Early on, while $x$ is mostly noise, it chooses among the blobs of the
# label; late, it changes little. Kynkäänniemi and others (2024) guide in the middle alone, with the scale
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
# **Variety kept.** The plane of section 1 at $w = 3$. Half of label 0 lies in its right blob. Guidance from 0.5 to 0.9
# leaves nearly all of it, and yet the points show their label almost as plainly as with guidance at all times.

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
    print(f"{name:24} in the right blob: {right:4.0%}   certainty of label 0: {certain:.3f}")

# %% figure="label 0 without guidance, with it, and with it for a while"
_, axes = plots.figure(columns=3)
for ax, (name, x) in zip(axes, ends.items(), strict=True):
    for p, marker, color in zip(classes, "osD", colors, strict=True):
        plots.plot_samples(p.sample(150), ax, marker=marker, ms=3, alpha=0.4, color=color)
    plots.plot_samples(x[:300], ax, color=plots.BLACK, ms=3, alpha=0.7)
    ax.set(title=name, xlim=(-3, 3), ylim=(-3, 3))
plots.describe(
    "Black points among the data of three labels. Without guidance they fill both blobs of "
    "label 0, with it most are in the left one, and with guidance from 0.5 to 0.9 alone "
    "both blobs have many again."
)

# %% [markdown]
# ### Exercise {exercise:autoguided_field} · A worse model of the same ({points:autoguided_field} points)
#
# Is "no label" the right thing to move away from? Karras and others (2024) take a *worse* model of the *same* label
# instead, one that is smaller or trained for less time. It makes similar errors, only larger, so one goes on in the
# direction from bad to good:
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
# Classifier-free guidance moves the mean and shrinks. Autoguidance only shrinks: where the good model is a little too
# wide, some $w > 1$ makes it exact. A label to avoid, of equal width, only moves. The interval does the work of
# guidance in part: the standard deviation is
# $s\,\bigl[(\sigma_b/\sigma_a) / (\sigma^\varnothing_b/\sigma^\varnothing_a)\bigr]^{w-1}$, from [the equation for the
# distance](#eq-guided-spread) once more.
#
# ## 7 · Guided by a measurement
#
# A request need not be a label. Sharpen this photograph, fill in that gap: the request is a *measurement* of the image,
# and the right answer is a known distribution, the [posterior](../words.md#posterior) of the data given the
# measurement. So one can check whether a method draws from it.
#
# ### Exercise {exercise:measurement_log_prob} · A measurement as a classifier ({points:measurement_log_prob} points)
#
# We measure $y = A z + r\,\xi$ with a matrix $A$ and standard normal errors $\xi$. In the field of exercise
# {exercise:classifier_guided_field} it takes the part of the label, so $p_t(y \mid x)$ is needed. A state $x$ leaves
# $z$ uncertain: let its mean be $\hat z$, the output of the denoiser, and its covariance $C$. If it is Gaussian, so is
# the measurement:
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
# **With and without $C$.** The data are $\mathcal N(0, 1.3^2)$, and 1 was measured with $r = 0.4$. For a Gaussian
# $\hat z = x + (1 - t)\,u_t(x)$ and $C = (1 - t)^2\, 1.3^2/(t^2\, 1.3^2 + (1 - t)^2)$ are exact.

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
# With $C = 0$ the method treats its first guess $\hat z$ as exact, so the push is far too strong while little is known.
# Programs of DPS weaken it by a step size, which has to be found anew for each task.
#
# ### Exercise {exercise:inpaint} · The rest of a digit ({points:inpaint} points)
#
# You have the upper part of a digit. Which lower parts fit? A popular method needs no classifier: before each step it
# replaces the known pixels by their noised selves. They are what a state of the path would show, so it seems right.
# Below you measure whether it is. With the straight path and Euler's steps of length $h$:
#
# <a id="eq-inpaint"></a>
# $$x \leftarrow t\,z_{\text{known}} + (1 - t)\,\varepsilon \ \text{ where a pixel is known}, \qquad
# x \leftarrow x + h\,u_t(x) \ \text{ everywhere.}$$
#
# $\varepsilon$ is the noise of the start. Write `inpaint(u, known, mask, noise, steps)`, with [these two
# parts](#eq-inpaint) in each step. In the end the known pixels are put in without noise.
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
# **Against the exact answer.** We make the digits black and white, and take them alone as the data. Then the field is
# known exactly, and so is the answer: the digits that *match*, whose three upper rows are the known ones, each with the
# same probability. The field of these digits alone draws from that distribution.
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

# %% figure="digits that match, and inpainted ones"
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
# ## 5 · A network made for images
#
# The MLP has to learn for every pixel separately what its neighbours mean. A **convolution** does the same thing at
# every place, and a **U-Net** stacks convolutions at two sizes of the image, so that it sees both strokes and the
# whole. You will write the two parts that tell it the time and the label.
#
# ### Exercise {exercise:time_embedding} · Time as waves ({points:time_embedding} points)
#
# A single number $t$ is a poor input: the network should behave differently at different times, and a layer that
# multiplies $t$ by a weight can do little with it. So $t$ is spread over a few waves, slow ones and faster ones:
#
# <a id="eq-waves"></a>
# $$e(t) = (\cos \pi t,\ \cos 2\pi t,\ \dots,\ \cos m\pi t,\ \ \sin \pi t,\ \sin 2\pi t,\ \dots,\ \sin m\pi t),
# \qquad m = \text{size}/2.$$
#
# Write `time_embedding(t, size)`, the waves of [$e(t)$](#eq-waves).
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
# **What the network sees.** Left, the first waves. Right, how alike the embeddings of two times $s$ and $t$ are, by
# their scalar product. It depends on $t - s$ alone (why?), it is large for times close by and small for all others:
# each time has a fingerprint, and neighbours have similar ones.

# %%
embed = lab6.answer_or("time_embedding")
ts = torch.linspace(0, 1, 201)
fig, (left, right) = plots.figure(columns=2, width=4.6, height=2.8)
waves = embed(ts, 16)
for k in (0, 1, 2):
    color, width = (plots.BLACK, plots.BLUE, plots.ORANGE)[k], 1.2
    left.plot(ts, waves[:, k], color=color, ls="-", lw=width, label=f"k = {k + 1}")
    left.plot(ts, waves[:, 8 + k], color=color, ls="--", lw=width)
left.set(xlabel="time $t$", ylabel=r"$e_k(t)$: cos solid, sin dashed", ylim=(-1.1, 1.6))
left.legend(loc="upper center", ncols=3)
for s in (20, 100, 160):
    right.plot(ts, waves @ waves[s], label=f"s = {float(ts[s]):g}")
right.set(xlabel="time $t$", ylabel=r"$e(s) \cdot e(t)$", ylim=(-3, 12))
right.legend(loc="upper center", ncols=3)
plots.describe(
    "Left: waves of three frequencies. Right: the product of two embeddings peaks where their "
    "times are equal and is small elsewhere, so the network can tell times apart."
)

# %% [markdown]
# ### Exercise {exercise:residual_block} · The residual block ({points:residual_block} points)
#
# The U-Net is built of one kind of block. It computes a *correction* to its input and adds it, so that a block which
# has nothing to say can leave the image as it is. In the middle the embedding $c$ of time and label comes in: a linear
# layer turns it into one number for each channel, and that number is added to the channel, at all pixels alike:
#
# <a id="eq-block"></a>
# $$\text{block}(x, c) = x + f_2\bigl(\text{silu}(f_1(\text{silu}(x)) + s(c))\bigr), \qquad
# \text{silu}(a) = \frac{a}{1 + e^{-a}}.$$
#
# $f_1$ and $f_2$ are convolutions, here the functions `first` and `second`, and $s$ is the linear layer, here `shift`.
#
# Write `residual_block(x, c, first, shift, second)`, [this block](#eq-block). `silu` is imported.
#
# <details><summary>Hint</summary>
# <code>shift(c)</code> has the shape <code>(n, channels)</code>, and the features have <code>(n, channels, height,
# width)</code>. Give the shift two more axes at the end.
# </details>

# %% exercise="residual_block"
def residual_block(x, c, first, shift, second):
    """A residual block that is told time and label.

    x: (n, channels, height, width). c: (n, size), the embedding of time and label.
    first, second: layers, from and to (n, channels, height, width).
    shift: a layer (n, size) → (n, channels).
    Returns (n, channels, height, width), in the dtype of x; its gradient reaches x, c and all layers.
    """
    ### BEGIN SOLUTION
    h = first(silu(x)) + shift(c)[:, :, None, None]
    return x + second(silu(h))
    ### END SOLUTION


# %% check="residual_block" points=5

# %% [markdown]
# **The whole U-Net.** Here it is, around your two functions: in, a block; down to half the size, with twice the
# channels, and two blocks; up again, joined with what was there before (the horizontal bar of the U), a block; out.
# Each of `first` and `second` normalises its channels before it convolves, which keeps training steady.

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
# **Training it** takes about half a minute. It has about a third of the MLP's weights and half as many steps, and yet
# its loss ends much lower.

# %%
_ = torch.manual_seed(0)
unet = DigitUNet(SETTINGS["channels"]).to(DEVICE)
_ = training.train(unet, loss_on(SETTINGS["unet_batch"]), steps=SETTINGS["unet_steps"], lr=6e-3)
fig, (ax,) = plots.figure(width=6, height=2.6)
for name, model in {"MLP": mlp, "U-Net": unet}.items():
    plot_history(model, ax, label=f"{name}, {sum(w.numel() for w in model.parameters()):,} weights")
ax.set(ylim=(20, 60))
ax.legend()
plots.describe(
    "Both losses fall and level off. The U-Net's is lower all along and ends at about 26, against "
    "33 for the MLP, with a third of the weights and half as many steps."
)

# %% [markdown]
# **Side by side.** From the same noise. The U-Net's unguided digits have crisper strokes and blacker backgrounds, and
# they vary like handwriting, unreadable scrawls included. With guidance both are plain.

# %%
from_unet = {w: draw(unet, w) for w in SCALES}
show_grids(
    {
        "MLP, $w$ = 1": from_mlp[1.0],
        "U-Net, $w$ = 1": from_unet[1.0],
        "MLP, $w$ = 2": from_mlp[2.0],
        "U-Net, $w$ = 2": from_unet[2.0],
    }
)
plots.describe(
    "At w = 1 the U-Net's digits have crisper strokes and more variety than the MLP's. At w = 2 "
    "both are plain and look much alike within a column."
)

# %% [markdown]
# **The trade, again.** For the better network it is a clean one: each step of $w$ lowers diversity. At $w = 1$ it is
# close to real handwriting in *both* respects, and every larger $w$ moves away from it.

# %%
both = {"MLP": from_mlp, "U-Net": from_unet}
fig, axes = plots.figure(columns=2, width=4.6, height=2.8)
plot_measure(recognised, real, both, axes[0], "share recognised")
plot_measure(spread, real_spread, both, axes[1], "diversity")
plots.describe(
    "Left: both networks come near the level of real digits at w = 1. Right: the U-Net's diversity "
    "falls steadily with w and crosses the line of real digits just below w = 1; the MLP's falls "
    "and rises again."
)

# %% [markdown]
# ## 6 · Inventing or remembering?
#
# Five hundred good digits prove nothing if they are copies of the 1438 that the network was trained on. So we ask of
# each generated image how far its nearest neighbour among the training images is. By itself this number says little.
# But we have a yardstick: the *held-out* images are real, new handwriting, and they too are at some distance
#
# <a id="eq-nearest"></a>
# $$d(x) = \min_i\, \lVert x - z_i \rVert$$
#
# from their nearest neighbours among the training images $z_i$.
#
# ### Exercise {exercise:nearest_neighbour_distance} · The nearest neighbour ({points:nearest_neighbour_distance} points)
#
# Write `nearest_neighbour_distance(x, data)`: for each image of `x` the Euclidean distance [$d(x)$](#eq-nearest) to the
# nearest image of `data`.
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
# **A model that does memorise.** What would the *perfect* minimiser of our training loss be? The training set is
# finite, so its marginal field is known exactly: a weighted average over the training images (lab 2). We can follow it
# without any network. Every path ends on a training image. A network that fitted the loss perfectly would be a copying
# machine; it generalises because it does not.

# %%
nearest = lab6.answer_or("nearest_neighbour_distance")
copyist = paths.GaussianPath().marginal(distributions.Empirical(train_set.z[:2000])).vector_field
sources = {
    "real, held out": held_out.z,
    "U-Net, w = 1": from_unet[1.0][:400],
    "U-Net, w = 2": from_unet[2.0][:400],
    "perfect minimiser": samplers.sample_flow(copyist, noise[:400], steps=20),
}
fig, (ax,) = plots.figure(width=6.5, height=3)
lines = zip((plots.BLACK, plots.BLUE, plots.RED, plots.ORANGE), ("-", "--", "-.", "-"), strict=True)
for (name, x), (color, style) in zip(sources.items(), lines, strict=True):
    distances = plots.array(nearest(x, train_set.z).sort().values)
    label = f"{name}: mean {distances.mean():.2f}"
    ax.ecdf(distances, color=color, ls=style, lw=1.8, label=label)
ax.set(xlabel="distance $d$ to the nearest training image", ylabel="share nearer than $d$")
ax.set_xlim(-0.2, 1.7 * ax.get_xlim()[1])
ax.legend(loc="center right")
plots.describe(
    "Four rising curves. Those of real digits and of the U-Net run close together, between "
    "distances 1 and 4; that of the perfect minimiser is a vertical line at 0, since all its "
    "images are copies."
)

# %% [markdown]
# **Look at the pairs.** In each upper row images, below them the training images that are nearest to them. Would you
# have said from the right picture alone that the model copies? Then look at the left one: those are real digits, and
# new.

# %%
search = NearestNeighbors(n_neighbors=1).fit(plots.array(train_set.z.flatten(1)))
fig, axes = plots.figure(columns=2, width=4.6, height=1.3)
fig.get_layout_engine().set(wspace=0.06)
new_digits = rows_of_digits(held_out.z, held_out.y, rows=1)
pairs = {"real, held out": new_digits, "U-Net, $w$ = 2": from_unet[2.0][:10]}
for ax, (name, x) in zip(axes, pairs.items(), strict=True):
    found = search.kneighbors(plots.array(x.flatten(1)), return_distance=False)[:, 0]
    show_images(torch.cat([x, train_set.z[found]]), ax).set_title(name)
plots.describe(
    "Digits above, their nearest training images below. They resemble each other, for held-out "
    "digits as for generated ones, and no pair is identical."
)

# %% [markdown]
# **All in one table.** The energy distance (lab 1) compares whole distributions, here with the held-out images; for
# real digits it is that of the training images. The smaller it is, the more the samples are like the data *as a whole*,
# and here the U-Net wins at every scale. Which scale would you choose, and for what?

# %%
def table_row(name, x, y, against):
    """Fidelity, energy distance, diversity and mean distance to the nearest training image."""
    near = float(nearest(x[:400], train_set.z).mean())
    distance = float(metrics.energy_distance(against, held_out.z))
    print(f"{name:16}{recognised(x, y):11.1%}{distance:17.3f}{float(spread(x, y)):11.2f}{near:9.2f}")


print(f"{'':16} recognised  energy distance  diversity  nearest")
table_row("real, held out", held_out.z, held_out.y, train_set.z)
for name, grids in both.items():
    for w, x in grids.items():
        table_row(f"{name}, w = {w:g}", x, labels, x)

# %% [markdown]
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab6.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab6.progress()

# %% [markdown]
# ## 7 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:what_guidance_trades} · What guidance trades ({points:what_guidance_trades} points)
#
# What becomes better as $w$ grows, what becomes worse, and which numbers and pictures of this lab show it? And why are
# the samples at $w > 1$ not samples of $p(x \mid y)$, even when both fields are exact, as they were in section 1? What
# do they avoid, and what do they lose?

# %% [markdown] answer="what_guidance_trades" points=6
# ### BEGIN SOLUTION
# Fidelity grows: the share recognised goes from 10 % at $w = 0$ over 95 to 99 % at $w = 1$ to 100 % at $w = 2$, above
# that of real digits. Diversity falls: the images of a column become alike, and the mean distance within a class drops
# below that of real digits. The energy distance of the U-Net is smallest at $w = 1$ to $1.5$ and grows from there: as
# a whole the samples move away from the data. At large $w$ contrast is exaggerated, and errors of the two predictions
# are multiplied.
#
# Only at $w = 1$ is the field that of the path $p_t(x \mid y)$, so only there does the flow end at $p(x \mid y)$. For
# $w > 1$ the extra push $(w - 1)\,\kappa_t \nabla \log p_t(y \mid x)$ moves all samples towards places where the label
# is certain. They avoid the regions that the label shares with others, although $p(x \mid y)$ has mass there: in
# section 1 half of label 0 is lost, and the rest is pushed beyond the data. Nor are they samples of
# $p(x)^{1 - w} p(x \mid y)^w$, as one might think: at each $t$ the guided field belongs to the score of such a product,
# but the products at different times do not form the path of one distribution.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:does_it_memorise} · Does it memorise? ({points:does_it_memorise} points)
#
# Does your U-Net copy its training images? Say what you compare with what, and why the held-out images are needed for
# it. Why are guided samples nearer to the training images than unguided ones, and is that a sign of copying? And what
# would happen if the network fitted the training loss perfectly?

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
# images. A network that fitted perfectly would only copy. That it generalises is owed to its limits: its size, the
# smoothness of what it can represent, and the length of training. With more weights, more steps or fewer images it
# would begin to copy, and the distances would show it.
# ### END SOLUTION

# %% [markdown]
# ## 8 · From here
#
# Large image models are made of the parts of this lab: a path from noise to data, a U-Net or a transformer that is told
# time and request, labels (or sentences) dropped one time in ten, and a guidance scale that somebody chose by looking
# at curves like yours. With `DATA = "glyphs"` at the top this notebook learns letters, and with `"mnist"` larger digits,
# with larger networks; that takes many minutes, or a GPU, which it uses where there is one.
