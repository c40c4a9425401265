# %% [markdown]
# # Lab 0 · Welcome
#
# Ten minutes to get to know the desk you will work at. You will test your installation, solve two exercises of one line
# each, answer a question, and hand in a notebook. On the way a word forms out of noise, which is what all of this
# course is about.
#
# This is a **notebook**: text, and **cells** of code. Click on the cell below and press **Shift + Enter**: it runs, and
# the next cell is selected. What a cell defines, all later cells can use, so run them from top to bottom. A number in
# brackets beside a cell says that it has run; a star says that it is running, and the **■** button above stops it.
#
# This lab is worth {points:all} points, {points:code} of them for code.

# %%
import torch

from fmlab import distributions, plots, threads, widgets
from fmlab.checks import lab0

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# **Is everything in place?** The next cell looks at what is installed, draws a million random numbers and compares
# them with their exact law. Every line should begin with ✓; one that begins with ✗ says what to do.

# %%
lab0.self_test()

# %% [markdown]
# ## 1 · An exercise, and its check
#
# A generative model starts from **noise**: points $\varepsilon$ whose coordinates are independent standard normal
# numbers,
#
# <a id="eq-noise"></a>
# $$\varepsilon \sim N(0, I_d).$$
#
# ### Exercise {exercise:draw_noise} · Noise ({points:draw_noise} points)
#
# Write `draw_noise(n, d)`: $n$ points of [noise](#eq-noise) in $d$ dimensions, one per row. (That link leads back to the
# equation to write; every exercise has one.)
#
# First run the next two cells *as they are*. The first defines a function that does nothing yet. The second is its
# **check**, and it fails: it says so in a line that begins with ✗. Nothing is broken; that is how every exercise begins.
#
# Then replace the line `raise NotImplementedError` by `return torch.rand(n, d)`, run the cell, and run the check again.
# That is still wrong, and now the check says which mistake it looks like. Mend it, run both cells once more, and the
# line begins with ✓.
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
# **What you have made.** A picture follows most exercises. It uses your function once its check has passed, and
# fmlab's own until then, so you can always read on.

# %%
noise_of = lab0.answer_or("draw_noise")
plots.plot_samples(noise_of(4000, 2)).set_title("noise")
plots.describe("A round cloud of 4000 points, densest at 0, that thins out within 3 or 4 units of it.")

# %% [markdown]
# ## 2 · From noise to data
#
# The *data* of this lab are points spread over the letters of a word. Change the word, to your name perhaps, and run
# the cell again: everything below follows.

# %%
word = "flow"
letters = distributions.Word(word).sample(4000)
plots.plot_samples(letters, color=plots.RED).set_title("data")
plots.describe(f"The word {word}, 6 units wide, as 4000 points spread evenly over its letters.")

# %% [markdown]
# Give each point of noise $\varepsilon$ a data point $z$, and move it there on a straight line. At time $t$, between 0
# and 1, it is at
#
# <a id="eq-path"></a>
# $$x_t = (1 - t)\,\varepsilon + t\,z. \tag{the straight path}$$
#
# ### Exercise {exercise:interpolate} · On the way ({points:interpolate} points)
#
# Write `interpolate(noise, data, t)`: the points at time $t$ on [the straight path](#eq-path).
#
# Stuck? `lab0.hint("interpolate")`, in any cell, gives up to three hints, one at a time. Try it: hints cost nothing.
#
# <details><summary>Hint</summary>
# A tensor times a number is the tensor with all its entries multiplied, and tensors of one shape are added entry by
# entry. So the formula can stand there as it is.
# </details>

# %% exercise="interpolate"
def interpolate(noise, data, t):
    """Points on the straight lines from noise to data.

    noise, data: tensors of one shape. t: a number between 0 and 1. Returns a tensor of their shape.
    """
    ### BEGIN SOLUTION
    return (1 - t) * noise + t * data
    ### END SOLUTION


# %% check="interpolate" points=2

# %% [markdown]
# **A word out of noise.** Your two functions at four times.

# %%
on_the_way = lab0.answer_or("interpolate")
noise = noise_of(4000, 2)
_, axes = plots.figure(columns=2, rows=2, width=4.4, height=2.6)
for ax, t in zip(axes, (0.0, 0.5, 0.8, 1.0), strict=True):
    plots.plot_samples(on_the_way(noise, letters, t), ax).set_title(f"$t$ = {t:g}")
    ax.set(xlim=(-4, 4), ylim=(-2, 2))
plots.describe(
    f"At t = 0 a round cloud of points; at t = 0.5 it has become wide and flat; at t = 0.8 letters can be made out; "
    f"at t = 1 they are the word {word}."
)

# %% [markdown]
# **Try it.** Move the slider with the mouse, or click on its handle and use the arrow keys. A few points are marked, to
# show the lines they move on. (In a notebook that has just been opened this is a still picture: run the cell to get the
# slider.)

# %%
widgets.noise_to_data(letters)

# %% [markdown]
# Here we knew which data point belongs to which point of noise. A generative model does not: it is asked for a *new*
# point, and must find the way from the noise alone. How to learn that is the subject of labs 2 and 3.
#
# ## 3 · A question to answer in words
#
# Most labs end with questions that a person reads. Double-click on the text *Write your answer here*, replace it, and
# press Shift + Enter. Formulas between dollar signs are typeset: `$x_t$`.
#
# ### Question {exercise:velocity_of_a_point} · How fast? ({points:velocity_of_a_point} points)
#
# With which velocity $\frac{d}{dt} x_t$ does a point move along its line, and how does it change on the way?

# %% [markdown] answer="velocity_of_a_point" points=1
# ### BEGIN SOLUTION
# The derivative of $(1 - t)\,\varepsilon + t\,z$ with respect to $t$ is $z - \varepsilon$: from the noise to its data
# point, in one unit of time. It does not depend on $t$, so each point moves at a constant speed, and those with a longer
# way move faster.
# ### END SOLUTION

# %% [markdown]
# ## 4 · Handing in
#
# **How far you are.** The checks that passed since this notebook was started, and their points.

# %%
lab0.progress()

# %% [markdown]
# **Before you send it.** Save the notebook (Ctrl + S, or ⌘ + S on a Mac), remove the first `#` from the line below and
# run it. It takes the *saved file*, runs it from top to bottom in a fresh process, as the one who grades it will, and
# lists what is still open. It changes nothing, and ■ stops it. Every lab ends like this; nothing needs to be complete to
# be handed in.

# %%
# lab0.submission()

# %% [markdown]
# If it finds something that you do not see, your notebook remembers what its cells no longer say, such as a function
# whose cell you deleted. **Kernel → Restart Kernel and Run All Cells…** forgets everything and starts over. It helps
# with most troubles.
#
# On to [lab 1](../lab1_simulation/lab1_simulation.ipynb).
