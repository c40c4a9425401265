# %% [markdown] writes="noise, and points on their way from it to data" needs="nothing"
# # Lab 0 · Welcome
#
# In this lab you learn how notebooks, checks and hints work. You solve two exercises of one line each, answer a
# question, and hand in a notebook. On the way, noise turns into a word, and later into the digits that you ask for.
# Turning [noise](../words.md#noise) into [data](../words.md#data) is what this whole course is about.
#
# This is a **notebook**: text, and **cells** of code. Click on the grey line below, which is a folded cell, and press
# **Shift + Enter**: it runs, and the next cell is selected. Go on like this. Later cells can use what a cell defines,
# so run them from top to bottom. A number in brackets beside a cell says that it has run; a star says that it runs or
# waits. The **■** button above stops it.
#
# This lab is worth {points:all} points, {points:code} of them for code. They count if you hand your notebook in; if you
# study alone, they show you how far you are.

# %%
import torch

from fmlab import datasets, guidance, plots, pretrained, samplers, simulators, threads, widgets
from fmlab.checks import lab0

plots.use_style()
threads.use_idle_cores()  # a second thread where a core is free
_ = torch.manual_seed(0)

# %% [markdown]
# **A word out of noise.** The next cell shows 4000 points. Move the slider with the mouse, or click on its handle and
# use the arrow keys: at $t = 0$ the points are noise, at $t = 1$ they are a word. A few points are marked, with the
# lines that they move on. Then change the word, to your name perhaps, and run the cell again.

# %%
word = "flow"
letters = datasets.Word(word).sample(4000)
widgets.noise_to_data(letters)

# %% [markdown]
# **Is everything in place?** The next cell looks at what is installed. Then it simulates a process with a million
# random numbers, and compares mean and variance with those of the exact distribution. Every line should begin with ✓;
# one that begins with ✗ says what to do.

# %%
lab0.self_test()

# %% [markdown]
# ## 1 · An exercise, and its check
#
# A [generative model](../words.md#generative-model) is a program that makes new examples like those it was trained on.
# Most models of this course start from **noise**: points $\varepsilon$ whose $d$ coordinates are independent standard
# normal numbers (mean 0, variance 1),
#
# <a id="eq-noise"></a>
# $$\varepsilon \sim N(0, I_d),$$
#
# where $I_d$ is the identity matrix of size $d \times d$.
#
# ### Exercise {exercise:draw_noise} · Noise ({points:draw_noise} points)
#
# Write `draw_noise(n, d)`: $n$ points of [noise](#eq-noise) in $d$ dimensions, one per row. (Every exercise has such a
# link. It leads back to the equation that you are to write.)
#
# First run the next two cells *as they are*. The first defines a function that does nothing yet. The second is its
# **check**, and it fails, in a line that begins with ✗. Nothing is broken: every exercise begins like this.
#
# Then replace the line `raise NotImplementedError` by `return torch.rand(n, d)`, run the cell, and run the check again.
# The answer is still wrong, and now the check says which mistake it looks like. Correct it, run both cells once more,
# and the line begins with ✓.
#
# <details><summary>Hint</summary>
# Exercises have a hint like this one in their text. <code>torch.rand</code> draws uniform numbers;
# <code>torch.randn</code> draws normal ones.
# </details>

# %% exercise="draw_noise"
def draw_noise(n, d):
    """Standard normal noise. Returns a new random tensor of shape (n, d) at each call."""
    ### BEGIN SOLUTION
    return torch.randn(n, d)
    ### END SOLUTION


# %% check="draw_noise" points=1

# %% [markdown]
# **What you have made.** A picture follows most exercises. It uses your function once its check has passed, and the
# function of the library fmlab until then. So you can always read on.

# %%
noise_of = lab0.answer_or("draw_noise")
plots.plot_samples(noise_of(4000, 2)).set_title("noise")
plots.describe("A round cloud of 4000 points, densest at 0, that thins out within 3 or 4 units of it.")

# %% [markdown]
# ## 2 · From noise to data
#
# The *data* of this section are the points of your word.
#
# Give each point of noise $\varepsilon$ a data point $z$, and move the noise there on a straight line. At time $t$,
# from 0 to 1, the moving point is at
#
# <a id="eq-path"></a>
# $$x_t = (1 - t)\,\varepsilon + t\,z. \tag{the straight path}$$
#
# ### Exercise {exercise:interpolate} · On the way ({points:interpolate} points)
#
# Write `interpolate(noise, data, t)`: the points at time $t$ on [the straight path](#eq-path).
#
# Stuck? `lab0.hint("interpolate")`, in any cell, gives up to three hints, one at a time. Try it: hints cost no points.
#
# <details><summary>Hint</summary>
# A tensor times a number is the tensor with all its entries multiplied, and tensors of one shape are added entry by
# entry. So you can type the formula as it is printed, with <code>*</code> for each product.
# </details>

# %% exercise="interpolate"
def interpolate(noise, data, t):
    """Points on the straight lines from noise to data.

    noise, data: tensors of one shape. t: a number from 0 to 1. Returns a tensor of their shape.
    """
    ### BEGIN SOLUTION
    return (1 - t) * noise + t * data
    ### END SOLUTION


# %% check="interpolate" points=2

# %% [markdown]
# **Your two functions at work.** The noise is yours, and so are the points on the way.

# %%
on_the_way = lab0.answer_or("interpolate")
noise, times = noise_of(4000, 2), (0.0, 0.5, 0.9, 1.0)
clouds = [on_the_way(noise, letters, t) for t in times]

# %% figure="the points at four times"
_, axes = plots.figure(columns=2, rows=2, width=4.4, height=3.6)
for ax, t, cloud in zip(axes, times, clouds, strict=True):
    plots.plot_samples(cloud, ax).set_title(f"$t$ = {t:g}")
    ax.set(xlim=(-4, 4), ylim=(-4, 4))
plots.describe(
    "At t = 0 a round cloud of points; at t = 0.5 it begins to take the proportions of the word; "
    f"at t = 0.9 letters can be made out; at t = 1 they are the word {word}."
)

# %% [markdown]
# Cells such as the last one only draw. They are folded, and a click on the three dots shows their code.
#
# Here we knew which data point belongs to which point of noise. A generative model does not know this. It has to make a
# *new* point, and to find the way there from the noise alone.
#
# ## 3 · The goal: digits on request
#
# Here is such a model. A small neural network has learned from 1437 handwritten digits. Given a noisy image, a time and
# the digit that you want, it says how fast each pixel should become lighter or darker. To draw a digit, start from noise
# and follow this rule in small steps.
#
# The cell below does that in six lines. You need not understand them yet: **by lab 6 you will have written what each of
# them does.** Then change the digits, to your year of birth perhaps, and run this cell and the next one again.

# %%
digits = "2718281828"
labels = torch.tensor([int(digit) for digit in digits])
network = pretrained.digits()  # you train one in lab 6
field = guidance.guided_vector_field(network, labels, w=2)  # how to move; w > 1 makes digits clearer: lab 6
noise = torch.randn(len(digits), 1, 8, 8)
states = samplers.sample_flow(field, noise, 16, simulators.Euler(), record=True)  # 16 steps: labs 1 and 3

# %% figure="digits out of noise, from top to bottom"
fig, (ax,) = plots.figure(width=9, height=4.8)
plots.plot_images(states[[0, 4, 8, 12, 16]].flatten(0, 1), ax, columns=len(digits), smooth=8)
ax.set_title("from noise (top) to digits (bottom)")
plots.describe(
    f"Five rows of small images, from t = 0 to t = 1. The first row is noise; strokes appear in the third; "
    f"the last row shows the handwritten digits {digits}."
)

# %% [markdown]
# **Predict.** These digits took 16 steps. With the large networks that draw photographs, every step costs time and
# money. How many steps are needed, at least, before the digits can be read? Type your guess in place of the dots. It is
# not graded.

# %%
steps_needed = ...  # your guess, a whole number

# %% [markdown]
# The next cell draws each digit ten times, and a simple program reads the drawings: it finds the most similar one of the
# 1437 real images and takes its label.

# %%
real, wanted = datasets.Digits(), torch.arange(10).repeat(10)
field, noise = lambda x, t: network(x, t, wanted), torch.randn(100, 1, 8, 8)  # w = 1: the network itself
drawn, read = {}, {}
for steps in (1, 2, 4, 8, 16):
    drawn[steps] = samplers.sample_flow(field, noise, steps, simulators.Euler())
    nearest = torch.cdist(drawn[steps].flatten(1), real.z.flatten(1)).argmin(dim=1)
    read[steps] = float((real.y[nearest] == wanted).float().mean())
    print(f"{steps:2d} steps: {read[steps]:.0%} read as the digit that was asked for")
lab0.compare("steps until nine of ten digits are read right", steps_needed, min(k for k in read if read[k] >= 0.9))

# %% figure="ten sevens, after one step and after sixteen"
fig, axes = plots.figure(rows=2, width=9, height=1.3)
for ax, steps in zip(axes, (1, 16), strict=True):
    plots.plot_images(drawn[steps][wanted == 7], ax, smooth=8)
    ax.set_title("one step" if steps == 1 else f"{steps} steps")
plots.describe(
    "Ten sevens in a row, twice, from the same noise. After one step they are legible, blurred, and nearly all alike. "
    "After sixteen they are sharper, and each is written in another way."
)

# %% [markdown]
# One step is enough to *read* the digit. In training, each image is paired with random noise. So at $t = 0$ the network
# can only point to an average seven, and one long step leads nearly there from every noise. Many short steps lead to
# *different* sevens, as different people write them, and a few digits are misread. How many steps a small error needs
# is a subject of lab 1.
#
# ## 4 · A question to answer in words
#
# Most labs end with questions that a person reads. Double-click on the text *Write your answer here*, replace it, and
# press Shift + Enter. Formulas between dollar signs are typeset: `$x_t$`.
#
# ### Question {exercise:velocity_of_a_point} · How fast? ({points:velocity_of_a_point} points)
#
# With which velocity $\frac{d}{dt} x_t$ does a point move along its line, and does the velocity change on the way?

# %% [markdown] answer="velocity_of_a_point" points=1
# ### BEGIN SOLUTION
# The derivative of $(1 - t)\,\varepsilon + t\,z$ with respect to $t$ is $z - \varepsilon$, the way from the noise to its
# data point. It does not depend on $t$, so each point moves at a constant velocity, and points with a longer way move
# faster.
# ### END SOLUTION

# %% [markdown]
# ## 5 · Handing in
#
# **How far you are.** The checks that have passed, and their points.

# %%
lab0.progress()

# %% [markdown]
# **Before you send it.** Save the notebook (Ctrl + S, or ⌘ + S on a Mac), remove the first `#` from the line below and
# run it. The line takes the *saved file*, runs it from top to bottom in a fresh process, as the grader will, and lists
# what is still open. It changes nothing, and ■ stops it. Every lab ends like this. You may hand in a notebook that is
# not complete.

# %%
# lab0.submission()

# %% [markdown]
# Does this find a mistake where you see none? Then the memory of your notebook holds something that no cell contains any
# more, such as a function whose cell you deleted. **Kernel → Restart Kernel and Run All Cells…** clears the memory and
# runs all cells again. It helps with most troubles.
#
# On to [lab 1](../lab1_simulation/lab1_simulation.ipynb).
