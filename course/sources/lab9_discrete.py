# %% [markdown] writes="jumps and their rates, masks, exact posteriors, a sudoku solved by sampling, a language model of sums" needs="lab 3; probabilities"
# # Lab 9 · Discrete diffusion: sentences out of masks
#
# A picture can be moved a little, and every lab so far moved points a little at a time. A sentence cannot: there is
# nothing between "7" and "8", or between "dusty" and "rusty". So a sentence has to **jump**. In this lab you rebuild
# flow matching for such data. By the end you will have drawn sentences exactly where that is possible, trained a small
# language model that writes sums such as `36+97=133`, had it solve subtractions though nobody told it what they are, and
# measured the one thing that makes such models quick and wrong at the same time: drawing several tokens in one call.
#
# **How to work.** Each exercise asks for one function of a few lines. Replace the line `raise NotImplementedError` by
# your code, run the cell, then run the check below it. A figure or a table follows. It uses your function once its
# check has passed, and fmlab's until then, so you can always read on. What is marked *further* can be left out: nothing
# else needs it. Two cells train a network: they take about 20 and 15 seconds. Stuck?
# `lab9.hint("jump_rate")` gives up to three hints, one at a time.
#
# **Notation.** As before $t = 0$ is noise, $t = 1$ is data, and $z$ is a data point.
#
# | letter | meaning |
# |---|---|
# | $z$, $x$ | a sentence, and a noisy one: $D$ **tokens**, whole numbers. In code a batch, `(n, D)` |
# | $x^i$ | the token at place $i$ |
# | $K$ | the number of symbols, $0, \dots, K - 1$. The **mask** is one symbol more, $K$; in code `mask` |
# | $\delta(y, x)$ | 1 where $y = x$, else 0 |
# | $Q_t(x, y)$ | the rate at which $x$ jumps to $y$ at time $t$ (section 1); $Q_t^i(x, y)$ where token $i$ alone turns, into the symbol $y$ (section 2) |
# | $\kappa_t$, $\dot\kappa_t$ | the share of tokens that are data at time $t$, and its derivative (section 2); $\kappa_s$ is that share at a later time $s$ |
# | $p(z^i = y \mid x)$ | what token $i$ is, given what can be seen: the **posterior** (section 3) |
#
# The lab is worth {points:all} points, {points:code} of them for code. The three exercises
# marked *further*, with {points:next_jump,corrector_rate,guided_probs} points together, are among these.

# %%
import itertools
import math
import textwrap

import torch
from matplotlib.colors import hsv_to_rgb
from torch.nn.functional import one_hot

from fmlab import jumps, plots, sentences, threads, tokens, training, unmasking
from fmlab import token_datasets, token_laws, token_models, token_widgets
from fmlab.checks import lab9

plots.use_style()
threads.use_idle_cores()  # a second thread while a core stands idle
_ = torch.manual_seed(0)

# %% [markdown]
# **Where we are going.** Seven masks turn into a sum, a few digits at a time, twice. The machine behind the cell knows
# all 10 000 sums of two numbers below 100 by heart, and every probability in it is exact. Check its results.

# %%
def seeded(seed):
    """A source of random numbers, the same ones each time."""
    return torch.Generator().manual_seed(seed)


def uniforms(generator, *shape):
    """Uniform numbers in [0, 1), in double precision."""
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


SUMS = token_datasets.sums()
sum_path = tokens.TokenPath(10)  # ten digits; the mask is symbol 10 and is written _
sum_table = sentences.Sentences(SUMS, sum_path)
masks = torch.full((1, 7), sum_path.mask)
knows = sum_table.posterior  # what each token is, given the others
runs = [
    unmasking.sample_tokens(knows, sum_path, masks, 8, record=True, generator=seeded(seed))
    for seed in (9, 13)
]
for k, states in enumerate(zip(*runs)):
    print(f"t = {k / 8:.3f}   ", *(token_datasets.written_sum(x[0]) + "     " for x in states))

# %% [markdown]
# The second sum is wrong, and that is no bug: about one in three is, drawn like this. Why a machine that knows
# everything makes such errors is the question of this lab, and in the end you will know by how much, and what to do.
# Later a network will have to learn the sums from half of the list.

# %% [markdown]
# ## 1 · What cannot be moved a little, jumps
#
# ### Drawing a symbol
#
# Every step of this lab ends in drawing a symbol from a list of probabilities. Lay the probabilities side by side as
# parts of an interval, and see which part a uniform random number $u$ falls into:
#
# <a id="eq-draw"></a>
# $$y = \text{the smallest symbol with}\quad a_0 + a_1 + \dots + a_y > u \cdot (a_0 + \dots + a_{K-1}).$$
#
# The weights $a$ need not sum to 1; the total on the right takes care of that.
#
# ### Exercise {exercise:draw_tokens} · Drawing with given numbers ({points:draw_tokens} points)
#
# Write `draw_tokens(probs, uniform)`, [this rule](#eq-draw) for each row of weights. Compute in double precision: the
# figure below shows why.
#
# <details><summary>Hint</summary>
# <code>probs.double().cumsum(-1)</code> holds the right ends of the parts. A symbol is passed where its right end is
# at most <code>u</code> times the total. How many are passed?
# </details>

# %% exercise="draw_tokens"
def draw_tokens(probs, uniform):
    """A symbol for each row of weights.

    probs: (..., K), not negative, single or double precision; a row need not sum to 1.
    uniform: (...), in [0, 1), double precision, one number for each row.
    Returns symbols, whole numbers (int64), (...). A symbol of weight 0 is never drawn. Computed in double precision.
    """
    ### BEGIN SOLUTION
    ends = probs.double().cumsum(-1)
    mark = uniform[..., None] * ends[..., -1:]
    return (ends <= mark).sum(-1)
    ### END SOLUTION


# %% check="draw_tokens" points=3

# %% [markdown]
# **Why double precision?** Language models often draw with **Gumbel noise**: add $-\log(-\log u)$ to the logarithm of
# each probability and take the largest. That is exact on paper. In single precision $u$ comes in steps of $2^{-24}$,
# so the noise ends at $-\log(-\log(1 - 2^{-24})) = 16.64$, and a rare symbol can never receive the large number that it
# needs to win. The figure shows the share of its draws that a symbol of probability $p$ gets, beside one other symbol.
# Before you run it: below which $p$ will the loss begin, roughly?

# %%
draw = lab9.answer_or("draw_tokens")
rare = 10.0 ** -torch.arange(3, 9.1, 0.5, dtype=torch.float64)
top = torch.arange(1, 4_000_000, dtype=torch.float64) * 2.0**-24  # 1 − u, from the largest u down
gumbel = -torch.log(-torch.log1p(-top))
by_gumbel = [
    float((-torch.exp(-gumbel) * (1 - p) / p).exp().sum()) * 2.0**-24 / float(p) for p in rare
]
by_parts = []
for p in rare.tolist():
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    near_the_end = 1 - 4 * p * even  # the last 4 p of the interval
    drawn = draw(torch.tensor([1 - p, p], dtype=torch.float64).expand(1000, 2), near_the_end)
    by_parts.append(4 * float((drawn == 1).double().mean()))

# %% figure="why double precision"
fig, (ax,) = plots.figure(width=6, height=2.8)
ax.semilogx(
    rare, by_parts, color=plots.BLUE, marker="o", label="parts of an interval, double precision"
)
ax.semilogx(
    rare, by_gumbel, color=plots.RED, ls="--", marker="^", label="Gumbel noise, single precision"
)
ax.set(xlabel="probability $p$ of a rare symbol", ylabel="share of its draws", ylim=(-0.05, 1.1))
ax.legend(loc="center right")
plots.describe(
    "The share of its draws that a rare symbol gets. By parts of an interval in double "
    "precision it is 1 for all probabilities. By Gumbel noise in single precision it falls "
    "below 1 from about one in a million on, and is nearly 0 for one in a hundred million."
)

# %% [markdown]
# One rare symbol does not matter. A large vocabulary has many thousands of them, and such a sampler is then
# quietly more conservative than its model. From here on numbers for drawing are always in double precision.
#
# ### Rates
#
# Time runs on as always, and a state jumps now and then. How often is said by **rates**: in a short time $h$ a state
# $x$ jumps to $y \ne x$ with probability $h\,Q(x, y)$. On the diagonal one writes minus the rate of leaving, so that
# each row sums to 0. What leaves one state arrives at another, and so the probabilities of all states obey
# **Kolmogorov's equation**
#
# <a id="eq-kolmogorov"></a>
# $$\frac{d}{dt} p_t(y) = \sum_x p_t(x)\, Q_t(x, y), \tag{Campbell et al. 2024, eq. 3}$$
#
# which is to jumps what the continuity equation (lab 2) is to flows.
#
# ### Exercise {exercise:rate_step} · Euler's step for probabilities ({points:rate_step} points)
#
# Write `rate_step(p, rates, h)`: the probabilities after one step of Euler's method along
# [Kolmogorov's equation](#eq-kolmogorov), $p + h\,\dot p$.
#
# <details><summary>Hint</summary>
# Rows of <code>rates</code> are where one comes from. <code>p @ rates</code> sums over them.
# </details>

# %% exercise="rate_step"
def rate_step(p, rates, h):
    """One step of Euler's method for the probabilities of a chain's states.

    p: (S,) or (n, S), rows of probabilities. rates: (S, S), rows are where one comes from, and sum to 0.
    h: step size, a number or 0-dimensional. Returns the probabilities after the step, in the shape and dtype of p.
    """
    ### BEGIN SOLUTION
    return p + h * p @ rates
    ### END SOLUTION


# %% check="rate_step" points=3

# %% [markdown]
# **Three states.** With constant rates the exact answer is the matrix exponential, $p_t = p_0\, e^{tQ}$. All starts in
# state 0. Before you run the cell: with two steps of size ½, one of the printed numbers will be impossible. Which?

# %%
step = lab9.answer_or("rate_step")
RATES = torch.tensor([[-3.0, 2.0, 1.0], [1.0, -1.5, 0.5], [0.2, 0.3, -0.5]], dtype=torch.float64)
START = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


def euler(n):
    """Probabilities at the times 0, 1/n, …, 1."""
    p = [START]
    for _ in range(n):
        p.append(step(p[-1], RATES, 1 / n))
    return torch.stack(p)


print("after the first of two steps:", [round(value, 2) for value in euler(2)[1].tolist()])
fine = torch.linspace(0, 1, 101)
exact_p = torch.stack([START @ torch.linalg.matrix_exp(t * RATES) for t in fine.double()])

# %% figure="three states"
fig, axes = plots.figure(columns=2, width=4.2)
for state, (color, marker) in enumerate(zip((plots.BLUE, plots.RED, plots.GREEN), "o^s")):
    axes[0].plot(fine, exact_p[:, state], color=color, ls="-", label=f"state {state}")
    axes[0].plot(
        torch.linspace(0, 1, 7), euler(6)[:, state], color=color, ls="", marker=marker, ms=5
    )
axes[0].set(xlabel="time $t$", ylabel="probability", title="exact, and six Euler steps")
axes[0].legend(loc="upper right")
ns = torch.tensor([4, 8, 16, 32, 64])
errors = torch.stack([(euler(int(n))[-1] - exact_p[-1]).abs().sum() / 2 for n in ns])
plots.plot_convergence(1 / ns, {"Euler": errors}, {"Euler": 1}, axes[1])
axes[1].set(
    ylabel="total variation at $t = 1$",
    title="of first order",
    xticks=1 / ns,
    yticks=(0.003, 0.01, 0.03),
)
axes[1].set(xticklabels=[f"1/{n}" for n in ns], yticklabels=("0.003", "0.01", "0.03"))
axes[1].minorticks_off()
plots.describe(
    "Left: the exact probabilities of three states as curves, with the marks of six Euler steps "
    "near them, farthest off in the first steps. Right: the error against the step size falls "
    "on a line of slope 1."
)

# %% [markdown]
# The error on the right is the **total variation** of two distributions, half the sum of $|p(x) - q(x)|$: the largest
# difference that they give to any event. And the impossible number: a state cannot be left with probability
# $h \cdot 3 = 1.5$. Keep this in mind, it comes back.
#
# ### Following one state
#
# Probabilities of *all* states can only be written down for tiny systems. For sentences we follow single states, and
# with constant rates this can be done without any error. A state $x$ is left at the rate $\lambda = -Q(x, x)$, so it
# has been left by the time $\tau$ with probability $1 - e^{-\lambda \tau}$. With two uniform numbers,
#
# <a id="eq-hold"></a>
# $$1 - e^{-\lambda\tau} = \text{hold}, \qquad
# y \sim \text{weights } Q(x, y),\ y \ne x, \text{ drawn with pick}. \tag{Gillespie 1977}$$
#
# ### Exercise {exercise:next_jump} · When, and where to ({points:next_jump} points)
#
# Write `next_jump(rates, x, hold, pick)`: for each state the time $\tau$ that it waits and the state that follows, by
# [these two draws](#eq-hold). Draw with your `draw_tokens` or with `jumps.draw(weights, pick)`.
#
# <details><summary>Hint</summary>
# <code>rates[x]</code> holds the row of each state. Make its own entry 0 and what is left are the weights; a weight may
# not be negative.
# </details>

# %% exercise="next_jump"
def next_jump(rates, x, hold, pick):
    """How long states wait, and where they jump to.

    rates: (S, S), rows are where one comes from, and sum to 0; every state can be left. x: (n,) states, whole numbers.
    hold, pick: (n,) uniform numbers in [0, 1), double precision.
    Returns two tensors, the times (n,), in double precision, and the next states (n,), whole numbers.
    """
    ### BEGIN SOLUTION
    time = -torch.log1p(-hold) / -rates.diagonal()[x]
    weights = rates[x].clamp(min=0)
    return time, jumps.draw(weights, pick)
    ### END SOLUTION


# %% check="next_jump" points=4 further=true

# %% [markdown]
# **Twenty thousand chains.** The loop lets every chain jump until its time is up. There is no step size in it, and no
# error but chance.

# %%
jump = lab9.answer_or("next_jump")


def simulate(x, end, generator):
    """States at the time `end`, and the path of the first chain: its times and states."""
    x, clock = x.clone(), torch.zeros(len(x), dtype=torch.float64)
    path, moving = [(0.0, int(x[0]))], torch.arange(len(x))
    while len(moving):
        hold, pick = uniforms(generator, 2, len(moving))
        time, then = jump(RATES, x[moving], hold, pick)
        clock[moving] += time
        still = clock[moving] < end
        moving, then = moving[still], then[still]
        x[moving] = then
        if len(moving) and moving[0] == 0:
            path.append((float(clock[0]), int(then[0])))
    return x, [*path, (end, path[-1][1])]

# %% figure="twenty thousand chains"
fig, axes = plots.figure(columns=2, width=4.2, height=2.8)
for seed, (color, style) in enumerate(zip((plots.BLUE, plots.RED, plots.GREEN), ("-", "--", "-."))):
    _, path = simulate(torch.zeros(1, dtype=torch.int64), 4.0, seeded(seed + 3))
    times, visited = zip(*path)
    axes[0].step(
        times,
        [state + 0.06 * seed for state in visited],
        where="post",
        color=color,
        ls=style,
        lw=1.8,
    )
axes[0].set(xlabel="time $t$", ylabel="state", yticks=(0, 1, 2), title="three chains")
ends, _ = simulate(torch.zeros(20_000, dtype=torch.int64), 1.0, seeded(0))
share = ends.bincount(minlength=3) / 20_000
axes[1].bar(range(3), share, color=plots.SKY, label="20 000 chains")
axes[1].plot(range(3), exact_p[-1], "D", ls="", color=plots.BLACK, label="exact")
axes[1].set(xlabel="state at $t = 1$", ylabel="share", xticks=range(3), ylim=(0, 0.6))
axes[1].legend(loc="upper left")
standard_errors = ((share - exact_p[-1]) / (exact_p[-1] * (1 - exact_p[-1]) / 20_000).sqrt()).abs()
print("all within four standard errors:", bool((standard_errors < 4).all()))
plots.describe(
    "Left: three chains as steps between the states 0, 1 and 2, which they hold for short and "
    "for long times. Right: bars for the share of chains in each state at t = 1, with marks of "
    "the exact probabilities at their tops."
)

# %% [markdown]
# ## 2 · A path of masks
#
# Generation needs a path from noise to data (lab 2). For pictures it was a mixture of the two, pixel by pixel. Half of a
# 7 and half of a mask is nothing, so here each token *is* one or the other: data with probability $\kappa_t$, else
# noise, all tokens independently. $\kappa_t$ rises from 0 to 1. The noise that works best is a symbol of its own, the
# mask. With a uniform number $u^i$ for each token,
#
# <a id="eq-corrupt"></a>
# $$x_t^i = z^i \text{ where } u^i < \kappa_t, \quad \text{and the mask elsewhere.} \tag{Gat et al. 2024, eq. 8}$$
#
# ### Exercise {exercise:corrupt} · Masking ({points:corrupt} points)
#
# Write `corrupt(z, kappa, mask, uniform)`, [this noisy sentence](#eq-corrupt). `kappa` may be one number, or one for
# each sentence.
#
# <details><summary>Hint</summary>
# <code>torch.where(uniform &lt; kappa, z, mask)</code>, once <code>kappa</code> has a shape that goes with
# <code>(n, D)</code>.
# </details>

# %% exercise="corrupt"
def corrupt(z, kappa, mask, uniform):
    """Sentences, some of whose tokens are masked.

    z: (n, D) whole numbers of any integer dtype. kappa: the share to keep, a number, 0-dimensional, or (n,), one for
    each sentence. mask: the symbol of the mask. uniform: (n, D) in [0, 1); a token is kept where its number is below
    kappa. Returns (n, D), in the dtype of z; z stays as it is.
    """
    ### BEGIN SOLUTION
    kappa = torch.as_tensor(kappa).reshape(-1, 1)
    return torch.where(uniform < kappa, z, mask)
    ### END SOLUTION


# %% check="corrupt" points=3

# %% [markdown]
# **A name behind masks.** The same 14 random numbers at six values of $\kappa$: from top to bottom masks only lift.

# %%
masked = lab9.answer_or("corrupt")
name = token_datasets.letters("dusty rose")
numbers = uniforms(seeded(2), name.shape)
LETTER_MASK = len(token_datasets.LETTERS)
for kappa in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
    print(
        f"κ = {kappa:.1f}   {token_datasets.name_of(masked(name, kappa, LETTER_MASK, numbers)[0])}"
    )

# %% [markdown]
# (The masks at the end stand for places that turn out to be empty: names have 14 places, filled up with "·".)
#
# ### Which rate follows this path?
#
# A token that is a mask at time $t$ turns into data sooner or later. A share $1 - \kappa_t$ is still masked, and
# $\dot\kappa_t$ of it turns per time. So each masked token turns at the rate $\dot\kappa_t / (1 - \kappa_t)$, its
# **hazard**. If it turns into a symbol drawn from some **target** $q(\cdot)$, its rates are
#
# <a id="eq-rate"></a>
# $$Q_t^i(x, y) = \frac{\dot\kappa_t}{1 - \kappa_t} \bigl( q(y) - \delta(y, x^i) \bigr).
# \tag{Gat et al. 2024, eq. 17}$$
#
# For one known sentence $z$ the target is certain, $q(y) = \delta(y, z^i)$. A token that is data already has
# $x^i = z^i$, and its rates are 0: it stays.
#
# ### Exercise {exercise:jump_rate} · The rate towards a target ({points:jump_rate} points)
#
# Write `jump_rate(target, x, kappa, kappa_dot)`, [these rates](#eq-rate) for each token and each symbol. You are given
# $\kappa_t$ and $\dot\kappa_t$ themselves, so that any schedule will do.
#
# <details><summary>Hint</summary>
# <code>one_hot(x, M)</code> is $\delta(y, x)$ with the symbols along the last axis. Where <code>kappa</code> has shape
# <code>(n,)</code> it needs <code>(n, 1, 1)</code>.
# </details>

# %% exercise="jump_rate"
def jump_rate(target, x, kappa, kappa_dot):
    """Rates at which tokens jump to each symbol, on their way to a target.

    target: (n, D, M), for each token the probabilities of what it turns into; M symbols, the mask among them if there
    is one. x: (n, D) symbols, 0 … M − 1. kappa, kappa_dot: κ < 1 and its derivative, numbers, 0-dimensional or (n,),
    one for each sentence.
    Returns (n, D, M), in the dtype of the target; the entry of x itself is minus the rate of leaving.
    """
    ### BEGIN SOLUTION
    hazard = torch.as_tensor(kappa_dot / (1 - kappa)).reshape(-1, 1, 1)
    return hazard.to(target) * (target - one_hot(x, target.shape[-1]))
    ### END SOLUTION


# %% check="jump_rate" points=4

# %% [markdown]
# **Does it follow the path?** Take sentences of two tokens with eight symbols and a mask: $9 \times 9 = 81$ states, so
# that all probabilities can be written down. The module `token_laws` does that. For one sentence and three schedules, the
# cell compares $p_t Q_t$ (all states, your rates) with $\dot p_t$ from automatic differentiation. The figure shows their hazards: they all explode at $t = 1$,
# where the last masks have no time left.

# %%
rate = lab9.answer_or("jump_rate")
SCHEDULES = {
    "κ = t": tokens.PowerKappa(),
    "κ = t^1.5": tokens.PowerKappa(1.5),
    "κ = 1 − cos(πt/2)": tokens.CosineKappa(),
}
TIME = 0.3

one_sentence = torch.tensor([[2, 7]])

# %% figure="does it follow the path"
fig, (ax,) = plots.figure(width=5.5, height=2.8)
times = torch.linspace(0.01, 0.93, 60)
for (label, schedule), color in zip(SCHEDULES.items(), (plots.BLUE, plots.RED, plots.GREEN)):
    path = tokens.TokenPath(8, schedule=schedule)
    target = one_hot(one_sentence, 9).double().expand(81, 2, 9)
    rates = rate(target, token_laws.states(path), schedule.kappa(TIME), schedule.kappa_dot(TIME))
    residual = token_laws.kolmogorov_residual(path, rates, one_sentence, TIME)
    print(f"{label:18} residual below 1e-10: {residual < 1e-10}")
    one_token, one_mask = target[:60, :1].float(), torch.full((60, 1), 8)
    hazard = rate(one_token, one_mask, schedule.kappa(times), schedule.kappa_dot(times))
    ax.plot(times, hazard[:, 0, 2], color=color, label=label)
ax.set(xlabel="time $t$", ylabel="hazard of a mask", ylim=(0, 15))
ax.legend()
plots.describe(
    "The hazards of three schedules against time. For κ = t it starts at 1, for the two others "
    "at 0, of which that of κ = t^1.5 rises at once; all grow steeply towards t = 1."
)

# %% [markdown]
# ## 3 · What all the data say
#
# Nobody knows the sentence $z$ in advance. In lab 2 the way out was to average the conditional fields over the
# posterior: over what $z$ may still be, given $x$. Let us first see this posterior. For a table of sentences, all
# equally likely, Bayes' rule with masks is a matter of counting. A sentence that disagrees with a revealed token is
# out, and those that agree with all of them are equally likely:
#
# <a id="eq-posterior"></a>
# $$p(z^i = y \mid x) = \text{the share, among the sentences that match } x \text{ in the most tokens, of those with }
# z^i = y .$$
#
# A mask matches nothing, so only revealed tokens count. The time does not enter: *when* a token was revealed says
# nothing about what it is. That is special to masks, and it means that a network need not be told the time either.
#
# **Why "in the most tokens"?** If $x$ came from the path, then some sentence matches all that is revealed, and "the
# most" means "all". But soon we will reveal several tokens at once, and they may clash: **impossible states**. If
# revealed tokens clash, no sentence fits and Bayes' rule is 0/0. Then we keep the sentences with the most matching
# tokens, as if the tokens that do not match were noise.
#
# ### Exercise {exercise:posterior} · What a table says ({points:posterior} points)
#
# Write `posterior(x, table, mask)`, [this share](#eq-posterior) for every token and symbol.
#
# <details><summary>Hint</summary>
# <code>(x[:, None] == table).sum(-1)</code> counts the matches of each noisy sentence with each of the table. Which
# ones are equal to the largest number of their row?
# </details>

# %% exercise="posterior"
def posterior(x, table, mask):
    """What each token is, given the revealed ones, if all sentences of a table are equally likely.

    x: (n, D) symbols 0 … mask − 1, or the mask. table: (N, D) symbols. mask: the symbol of the mask, and the number
    of the others. Returns probabilities (n, D, mask), double precision: averages over those sentences of the table
    that match x in the most tokens. Revealed tokens get no special treatment.
    """
    ### BEGIN SOLUTION
    matches = (x[:, None] == table).sum(-1)
    kept = (matches == matches.amax(1, keepdim=True)).double()
    probs = kept @ one_hot(table, mask).flatten(1).double() / kept.sum(1, keepdim=True)
    return probs.reshape(*x.shape, mask)
    ### END SOLUTION


# %% check="posterior" points=5

# %% [markdown]
# **Worlds left.** There are exactly 288 sudoku grids of $4 \times 4$: each symbol once in every row, column and thick
# box. Move the slider and watch the masks lift. Revealed cells are framed. The shade and number of any other cell is
# its **entropy** in **bits**: how many yes-or-no answers it still hides, on average. Notice cells that become certain
# *before* their mask lifts: that is the posterior solving the puzzle. (In a notebook that has just been opened this
# is a still picture: run the cell.)

# %%
token_widgets.lifting_masks()

# %% [markdown]
# **The trick, again.** Average the conditional rates of [the last section](#eq-rate) over the posterior. The rates are
# *linear* in their target, so averaging the rates is the same as averaging the target:
#
# $$\sum_z p(z \mid x)\, \frac{\dot\kappa_t}{1 - \kappa_t} \bigl( \delta(y, z^i) - \delta(y, x^i) \bigr)
# = \frac{\dot\kappa_t}{1 - \kappa_t} \bigl( p(z^i = y \mid x) - \delta(y, x^i) \bigr).$$
#
# This is the marginalisation trick of flow matching in one line, and it says what there is to learn: for each token
# the probabilities of what it is, given the rest. That is a *classifier*. The cell below checks on a
# **checkerboard of tokens** that these rates are the average of conditional ones, and that they follow $p_t$; for masks,
# and for noise that is a uniformly drawn symbol. The board is a $4 \times 4$ checkerboard, each square $2 \times 2$
# cells: of the 64 pairs of row and column, 32 are dark, and these are the sentences.

# %%
BOARD = token_datasets.checkerboard()
posterior_of = lab9.answer_or("posterior")


def posterior_rates(path):
    """Rates towards the posterior for all states, at t = 0.3. Uniform noise needs Bayes' rule with the time in it."""
    every, schedule = token_laws.states(path), path.schedule
    if path.masked:
        probs = path.clean(posterior_of(every, BOARD, 8), every)  # revealed tokens stay, for sure
    else:
        probs = sentences.Sentences(BOARD, path, dtype=torch.float64).posterior(every, TIME)
    return rate(probs, every, schedule.kappa(TIME), schedule.kappa_dot(TIME))


def averaged_rates(path):
    """Conditional rates, averaged over p(z | x) by Bayes' rule, one sentence of the board after the other."""
    every, schedule = token_laws.states(path), path.schedule
    joint = torch.stack([path.prob(every, z.expand_as(every), TIME) for z in BOARD], 1)
    weights = joint / joint.sum(1, keepdim=True)
    targets = [one_hot(z.expand_as(every), path.symbols).double() for z in BOARD]
    each = [rate(target, every, schedule.kappa(TIME), schedule.kappa_dot(TIME)) for target in targets]
    return torch.einsum("sz,zsdy->sdy", weights, torch.stack(each))


print(f"{'':26}average of conditional rates   follows p_t")
for masks_or_uniform, (label, schedule) in itertools.product((True, False), SCHEDULES.items()):
    path = tokens.TokenPath(8, masks_or_uniform, schedule)
    possible = token_laws.law(path, TIME, BOARD) > 0
    gap = (posterior_rates(path) - averaged_rates(path))[possible].abs().max()
    follows = token_laws.kolmogorov_residual(path, posterior_rates(path), BOARD, TIME) < 1e-10
    print(
        f"{'masks' if masks_or_uniform else 'uniform':8}{label:18}{bool(gap < 1e-12)!s:^28}   {follows!s:^11}"
    )

# %% [markdown]
# ## 4 · Drawing a board, with an error that is known
#
# The rates change all the time, so a simulation takes steps. A step from $t$ to a later time turns each masked token
# with some probability. The rate times the step size, as in Euler's method, would be a poor choice: the hazard explodes
# at the end. But the share of masks that has turned by then is known *exactly*. With $\kappa_t$ now and $\kappa_s$ at
# the later time $s$,
#
# <a id="eq-reveal"></a>
# $$\text{chance that a mask turns} = \frac{\kappa_s - \kappa_t}{1 - \kappa_t}, \qquad
# \text{and then } x^i \sim p(z^i = \cdot \mid x).$$
#
# It is right for steps of any size, and it is 1 in the last step, where $\kappa_s = 1$: no mask is left.
#
# ### Exercise {exercise:reveal_step} · One step of reveals ({points:reveal_step} points)
#
# Write `reveal_step(x, probs, kappa, later, mask, uniform, pick)`: a masked token [turns](#eq-reveal) where its number in `uniform`
# is below the chance; what it turns into is drawn from its row of `probs` with its number in `pick`. Revealed tokens
# stay. Draw with `jumps.draw(probs, pick)`, or with your own.
#
# <details><summary>Hint</summary>
# Draw symbols for all places, and keep them only where a token is masked <em>and</em> turns.
# </details>

# %% exercise="reveal_step"
def reveal_step(x, probs, kappa, later, mask, uniform, pick):
    """A step in which masked tokens turn into data.

    x: (n, D) symbols 0 … mask − 1, or the mask. probs: (n, D, mask), what each token is, single or double precision.
    kappa < later: κ_t and κ_s, before and after the step, numbers or 0-dimensional. mask: the symbol of the mask.
    uniform, pick: (n, D) in [0, 1), double precision. Returns (n, D), whole numbers (int64).
    """
    ### BEGIN SOLUTION
    chance = (later - kappa) / (1 - kappa)
    turns = (uniform < chance) & (x == mask)
    return torch.where(turns, jumps.draw(probs, pick), x)
    ### END SOLUTION


# %% check="reveal_step" points=5

# %% [markdown]
# **What does a step cost?** The posterior and the chance of turning are exact. Each token alone gets exactly the right
# distribution. And yet something is wrong when *two* tokens turn in the same step: each is drawn without looking at the
# other. Before you run the cell: in **one** step, what share of the pairs will land on light squares? And in $n$ steps?

# %%
reveal = lab9.answer_or("reveal_step")


def in_steps(ask, x, mask, n, seed, kappa=lambda t: t):
    """Sentences from masks in n steps, each with the probabilities ask(x)."""
    generator = seeded(seed)
    for k in range(n):
        uniform, pick = uniforms(generator, 2, *x.shape)
        x = reveal(x, ask(x), kappa(k / n), kappa((k + 1) / n), mask, uniform, pick)
    return x


def on_board(x):
    return (x[:, 0] // 2 + x[:, 1] // 2) % 2 == 0


def masks_of(n, places, mask):
    return torch.full((n, places), mask)


ns = [1, 2, 4, 8, 16, 32, 64]
off = []
for n in ns:
    x = in_steps(lambda x: posterior_of(x, BOARD, 8), masks_of(40_000, 2, 8), 8, n, seed=n)
    off.append(1 - float(on_board(x).double().mean()))
squares = torch.zeros(8, 8, dtype=torch.float64)
squares[BOARD[:, 0], BOARD[:, 1]] = 1 / 32
distance = {}
for masked_noise in (True, False):
    path = tokens.TokenPath(8, masked_noise)
    laws = [token_laws.law_in_steps(path, BOARD, n) for n in ns]
    distance[masked_noise] = [float((found - squares).abs().sum()) / 2 for found in laws]
gaps = [abs(found - 1 / (2 * n)) for n, found in zip(ns, distance[True])]
print("total variation = 1/(2n) on all states, within 1e-10:", max(gaps) < 1e-10)
gaps = [abs(found - 1 / (2 * n)) for n, found in zip(ns, off)]
print("40 000 samples agree within 0.01:", max(gaps) < 0.01)

# %% figure="what does a step cost"
fig, (ax,) = plots.figure(width=5.5, height=3.2)
ax.loglog(ns, [1 / (2 * n) for n in ns], color=plots.BLACK, ls="-", label="$1/(2n)$")
ax.loglog(ns, off, color=plots.BLUE, ls="", marker="o", label="masks: 40 000 samples off the board")
label = "uniform noise: exact total variation"
ax.loglog(ns, distance[False], color=plots.RED, ls="--", marker="^", label=label)
ax.set(xlabel="steps $n$", ylabel="error", xticks=ns, xticklabels=ns)
ax.set(yticks=(0.5, 0.2, 0.1, 0.05, 0.02, 0.01), yticklabels=(0.5, 0.2, 0.1, 0.05, 0.02, 0.01))
ax.minorticks_off()
ax.legend()
plots.describe(
    "The error against the number of steps on logarithmic axes. With masks the samples lie on "
    "the line 1/(2n), from one half in one step to below one in a hundred in 64. With uniform "
    "noise the error is the same in one step and larger, by two thirds, in many."
)

# %% [markdown]
# In one step the two tokens are independent, and half of the pairs are wrong. In $n$ steps, with $\kappa_t = t$, both
# turn in the same one with probability $1/n$, and half of *those* pairs are wrong: $1/(2n)$, exactly. The error does
# not come from the probabilities, which are perfect here. It comes from **drawing in parallel**.
#
# Uniform noise, the red curve, costs more: 1.6 times as much in 64 steps. There every token may be drawn anew in every
# step, also one that was right already, so that the two are drawn together more often.
#
# **A grey board.** Where does the lost probability go? Move the slider.

# %%
token_widgets.board_in_steps()

# %% [markdown]
# **Why not the rate itself?** With $\kappa = t^2$, what is the chance that a token is *still masked* at $t = 1$? Euler's
# method multiplies the hazard by the step size $h$ (and cuts off at 1); many programs use $1 - e^{-h \cdot
# \text{hazard}}$, with the hazard at the start of the step. Both leave masks behind, which a program then has to
# remove by hand in a last step.

# %%
print("steps   Euler: h × hazard   1 − exp(−h × hazard)   (κ_s − κ)/(1 − κ)")
for n in (4, 16, 64):
    times = torch.arange(n, dtype=torch.float64) / n
    h_hazard = 2 * times / (1 - times**2) / n
    exact_chance = ((times + 1 / n) ** 2 - times**2) / (1 - times**2)
    left = [
        float((1 - chance).prod())
        for chance in (h_hazard.clamp(max=1), 1 - (-h_hazard).exp(), exact_chance)
    ]
    print(f"{n:5}{left[0]:18.5f}{left[1]:22.5f}{left[2]:20.5f}")

# %% [markdown]
# ## 5 · Sudoku: in which order?
#
# If drawing together is the problem, why not one token at a time? By the chain rule of probability,
#
# <a id="eq-order"></a>
# $$p(z) = \prod_{j=1}^{D} p\bigl( z^{\sigma_j} \mid z^{\sigma_1}, \dots, z^{\sigma_{j-1}} \bigr)
# \qquad \text{for every order } \sigma \text{ of the places.}$$
#
# Each factor is the posterior of one token, given those revealed before it. So drawing token by token with the exact
# posterior is exact, in any order, at the price of one call for each token. A compromise is to fill $k$ places per
# call. (A function that gives these probabilities for every place, be it exact or learned, is called a **denoiser**,
# and a call is one question to it.) And if some tokens are given from the start, drawing the others in this way draws
# from $p(z \mid \text{given})$: filling in, without any retraining.
#
# ### Exercise {exercise:sample_in_order} · A few places per call ({points:sample_in_order} points)
#
# Write `sample_in_order(denoiser, x, order, per_call, mask, pick)`. Go through the places of [the order](#eq-order),
# `per_call` at a time. Ask `denoiser(x)` for the probabilities, draw symbols for these places, and only then go on.
# Tokens of `x` that are no masks are given: they stay. The numbers to draw with go by place, not by rank:
# `pick[:, i]` belongs to place $i$, whenever that is filled.
#
# <details><summary>Hint</summary>
# <code>order.split(per_call, dim=1)</code> cuts the order into the places of each call. A table of true and false for
# these places: <code>torch.zeros_like(x, dtype=torch.bool).scatter(1, places, True)</code>.
# </details>

# %% exercise="sample_in_order"
def sample_in_order(denoiser, x, order, per_call, mask, pick):
    """Sentences filled in, some places per call of a denoiser.

    denoiser: function x ↦ probabilities (n, D, mask). x: (n, D) symbols 0 … mask − 1, or the mask; symbols stay.
    order: (n, D), for each sentence its places in the order in which to fill them. per_call: how many in one call; the
    last call fills what is left. pick: (n, D) in [0, 1), double precision; pick[:, i] is to draw place i with.
    Returns (n, D). The denoiser is asked once per call.
    """
    ### BEGIN SOLUTION
    for places in order.split(per_call, dim=1):
        drawn = jumps.draw(denoiser(x), pick)
        chosen = torch.zeros_like(x, dtype=torch.bool).scatter(1, places, True)
        x = torch.where(chosen & (x == mask), drawn, x)
    return x
    ### END SOLUTION


# %% check="sample_in_order" points=5

# %% [markdown]
# **Valid grids.** Now 16 tokens hang together instead of two. The figure counts how many of 2000 drawn grids are valid
# sudokus, against the number of calls. Before you run it: with two cells per call (8 calls), will more than half be
# valid? And would it help to fill the cells first of which the posterior is most certain?

# %%
fill = lab9.answer_or("sample_in_order")
GRIDS = token_datasets.sudoku()


def sudoku(x):
    return posterior_of(x, GRIDS, 4)


def write(ask, x, mask, per_call, seed=0):
    """Sentences with their masks filled in, in an order drawn by chance for each."""
    order, pick = uniforms(seeded(seed), 2, *x.shape)
    return fill(ask, x, order.argsort(1), per_call, mask, pick)


def most_certain_first(n, per_call):
    """As `write`, but each call fills the masks whose likeliest symbol is likeliest."""
    x, generator = masks_of(n, 16, 4), seeded(1)
    for _ in range(16 // per_call):
        probs = sudoku(x)
        tie, pick = uniforms(generator, 2, n, 16)
        certain = torch.where(x == 4, probs.amax(-1) + 1e-6 * tie, -1.0)
        chosen = torch.zeros_like(x, dtype=torch.bool).scatter(
            1, certain.topk(per_call, dim=1).indices, True
        )
        x = torch.where(chosen, jumps.draw(probs, pick), x)
    return x


def valid(x):
    return float(token_datasets.is_sudoku(x).double().mean())

# %%
COUNT = 2000
one_by_one = write(sudoku, masks_of(2880, 16, 4), 4, 1)
per_call = [16, 8, 4, 2]
in_order = [valid(write(sudoku, masks_of(COUNT, 16, 4), 4, k)) for k in per_call] + [valid(one_by_one)]
certain = [valid(most_certain_first(COUNT, k)) for k in (8, 4, 2)]
steps = [1, 2, 4, 8, 16, 32, 64]
in_time = {n: valid(in_steps(sudoku, masks_of(COUNT, 16, 4), 4, n, seed=1)) for n in steps}
counts = (one_by_one[:, None] == GRIDS).all(-1).sum(0)
chi2 = float(((counts - 10) ** 2 / 10).sum())
print(
    f"one by one: {in_order[-1]:.1%} valid; all 288 grids equally often (χ² within its 99% range): {229 < chi2 < 352}"
)
print(f"16 steps in time: valid share within 0.57 and 0.65: {0.57 <= in_time[16] <= 0.65}")


def plot_in_time(ax):
    shares = list(in_time.values())
    ax.plot(steps, shares, color=plots.RED, ls="--", marker="^", label="even steps in time")
    ax.set(xlabel="calls of the denoiser", ylabel="share of valid grids", ylim=(-0.04, 1.05))
    ax.set(xscale="log", xticks=steps, xticklabels=steps)
    ax.minorticks_off()

# %% figure="valid grids"
fig, (ax,) = plots.figure(width=6, height=3.2)
calls = [16 // k for k in [*per_call, 1]]
ax.plot(calls, in_order, color=plots.BLUE, marker="o", label="$k$ cells per call, random order")
ax.plot(
    (2, 4, 8),
    certain,
    color=plots.GREEN,
    ls="",
    marker="s",
    ms=11,
    mfc="none",
    mew=2,
    label="the most certain cells first",
)
plot_in_time(ax)
ax.legend(loc="upper left", frameon=True)
plots.describe(
    "The share of valid sudoku grids against the number of calls. With k cells per call in a "
    "random order it rises from 0 in one call to about 0.6 with two cells per call and 1 with "
    "one. Even steps in time need more calls, about 0.6 at 16 and 0.9 at 64. The most certain "
    "cells first do no better than a random order, and worse at four and at two per call."
)

# %% [markdown]
# One at a time every grid is valid, and all 288 come up equally often. Two per call already spoil four grids in ten.
# And to begin with the most certain cells even hurts. Cells that are sure do no harm, since they depend on nothing.
# But used up early they leave the doubtful ones to be drawn together, often undecided between the same symbols. Steps
# in time are worse for another reason, too: chance lets several masks lift in one step and none in another.
#
# **Solving puzzles.** Given cells stay, and the rest is drawn. If one solution exists, the exact posterior finds it
# every time; if there are several, it finds each of them equally often.

# %%
grid = GRIDS[100]
puzzles = {}
for title, seed in (("four clues", 4), ("four other clues", 2)):
    order = torch.randperm(16, generator=seeded(seed))
    puzzle = torch.where(order.argsort() < 4, grid, 4)
    solutions = write(sudoku, puzzle.repeat(400, 1), 4, 1, seed=seed)
    found = {tuple(row) for row in solutions.tolist()}
    fits = int((puzzle == GRIDS)[:, puzzle != 4].all(1).sum())
    puzzles[title] = puzzle, solutions[0]
    print(
        f"{title}, grids that fit: {fits}; {len(found)} found in 400 draws, {valid(solutions):.0%} valid"
    )

# %% figure="solving puzzles"
fig, axes = plots.figure(columns=4, width=2.2, height=2.5)
for k, (title, (puzzle, solved)) in enumerate(puzzles.items()):
    token_widgets.plot_sudoku(axes[2 * k], puzzle, puzzle != 4).set_title(title)
    token_widgets.plot_sudoku(axes[2 * k + 1], solved, puzzle != 4).set_title("one draw")
plots.describe(
    "Two puzzles with four given symbols, and a drawn solution beside each. Given symbols are "
    "bold and stand unchanged in the solution, in which every row, column and box has the "
    "symbols 1 to 4."
)

# %% [markdown]
# ### Exercise {exercise:corrector_rate} · A second thought ({points:corrector_rate} points)
#
# A token that was drawn wrongly stays wrong for ever, since revealed tokens never jump. Unless we let them: **re-mask**
# tokens now and then, at the rate 1, and reveal masks a little faster in return. For which rate $r$ does $p_t$ stay as
# it is? At time $t$ a share $\kappa$ is revealed and $1 - \kappa$ is masked, and as much must flow one way as the other:
# $\kappa \cdot 1 = (1 - \kappa) \cdot r$. So the **corrector** has the rates
#
# <a id="eq-corrector"></a>
# $$\text{masked: } \frac{\kappa_t}{1 - \kappa_t}\bigl( p(z^i = y \mid x) - \delta(y, x^i) \bigr), \qquad
# \text{revealed: } \delta(y, \text{mask}) - \delta(y, x^i). \tag{Campbell et al. 2024, § 4.1}$$
#
# Any multiple $c$ of them may be added to the rates forward. Write `corrector_rate(probs, x, kappa)`, [these rates](#eq-corrector).
#
# <details><summary>Hint</summary>
# There are $K + 1$ symbols, the mask being the last: pad <code>probs</code> by a column of zeros. Two tensors of rates,
# one for masked and one for revealed tokens, and <code>torch.where</code> to join them.
# </details>

# %% exercise="corrector_rate"
def corrector_rate(probs, x, kappa):
    """Rates, back to the mask and out of it again, that leave p_t as it is.

    probs: (n, D, K), what each token is. x: (n, D) symbols 0 … K − 1, or the mask K. kappa: κ < 1, a number,
    0-dimensional or (n,), one for each sentence. Returns (n, D, K + 1), in the dtype of probs; rows sum to 0.
    """
    ### BEGIN SOLUTION
    mask = probs.shape[-1]
    kappa = torch.as_tensor(kappa).reshape(-1, 1, 1).to(probs)
    here = one_hot(x, mask + 1)
    out = torch.cat([probs, torch.zeros_like(probs[..., :1])], dim=-1)
    back = one_hot(torch.full_like(x, mask), mask + 1)
    return torch.where((x == mask)[..., None], kappa / (1 - kappa) * (out - here), back - here)
    ### END SOLUTION


# %% check="corrector_rate" points=4 further=true

# %% [markdown]
# **Does it pay?** On the board, $p_t Q = 0$ shows that the corrector leaves $p_t$ alone. On sudoku it repairs clashes:
# a token that disagrees with the others is masked again sooner or later, and drawn anew. (On two tokens it does *not*
# pay: its own reveals are parallel, too.)

# %%
corrector = lab9.answer_or("corrector_rate")
path = tokens.TokenPath(8, schedule=tokens.PowerKappa(1.5))
every = token_laws.states(path)
rates = corrector(posterior_of(every, BOARD, 8), every, path.schedule.kappa(TIME))
change = token_laws.law(path, TIME, BOARD) @ token_laws.whole_matrix(path, rates)
print("p_t Q = 0 on the board, below 1e-12:", bool(change.abs().max() < 1e-12))
sudoku_path, corrected = tokens.TokenPath(4), {}
for n in steps:
    ask, start = lambda x, t: sudoku(x), masks_of(COUNT, 16, 4)
    # churn is the multiple c of the corrector's rates
    x = unmasking.sample_tokens(ask, sudoku_path, start, n, churn=3.0, generator=seeded(2))
    corrected[n] = valid(x)
print("16 steps: at least 0.1 more valid grids with c = 3:", corrected[16] >= in_time[16] + 0.1)
on_two_tokens = unmasking.sample_tokens(
    lambda x, t: posterior_of(x, BOARD, 8),
    tokens.TokenPath(8),
    masks_of(40_000, 2, 8),
    8,
    churn=3.0,
    generator=seeded(2),
)
missed = 1 - float(on_board(on_two_tokens).double().mean())
print(f"board, 8 steps, on light squares: {missed:.2f} with c = 3, and 1/16 without")

# %% figure="does it pay"
fig, (ax,) = plots.figure(width=6, height=3.2)
shares = list(corrected.values())
ax.plot(steps, shares, color=plots.BLUE, marker="o", label="with the corrector, $c = 3$")
plot_in_time(ax)
ax.legend()
plots.describe(
    "The share of valid grids against the number of steps. From eight steps on the curve with "
    "the corrector lies above the one without, by more than a tenth at 16, and both rise towards 1."
)

# %% [markdown]
# ## 6 · A network that writes sums
#
# For real text no table of all sentences exists, so the posterior has to be learned. As said, it is a classifier: show
# a network masked sentences and let it guess the masks. The usual loss of a classifier is the **cross-entropy**, the
# surprise $-\log p$ at the right symbol. The weight is new:
#
# <a id="eq-loss"></a>
# $$L(\theta) = \mathbb E_{t, z, x} \; \frac{\dot\kappa_t}{1 - \kappa_t} \sum_{i\,:\,x^i \text{ masked}}
# -\log p_\theta(z^i \mid x). \tag{Sahoo et al. 2024, eq. 10}$$
#
# With this weight the loss is an **upper bound on $-\log p_\theta(z)$**, the surprise at the whole sentence, and for the
# exact posterior the two are *equal*; with no other weight is that so. So the loss can be read: no model can get below
# the entropy of the data, on average, and what lies above it is the model's fault. From here on surprise and entropy are
# taken with the natural logarithm, and their unit is the **nat**: 1 nat is $1/\ln 2 = 1.44$ bits.
#
# ### Exercise {exercise:masked_cross_entropy} · A loss that bounds a likelihood ({points:masked_cross_entropy} points)
#
# Write `masked_cross_entropy(model, z, kappa, kappa_dot, mask, uniform)`, [this loss](#eq-loss) for a batch: corrupt `z` as in
# exercise {exercise:corrupt}, sum over the masked tokens of each sentence, weight each sentence, and average.
#
# <details><summary>Hint</summary>
# <code>model(x).log_softmax(-1).gather(-1, z[..., None])[..., 0]</code> is the logarithm of the probability of each true
# symbol. Multiply by <code>x == mask</code> before you sum.
# </details>

# %% exercise="masked_cross_entropy"
def masked_cross_entropy(model, z, kappa, kappa_dot, mask, uniform):
    """The weighted cross-entropy of masked tokens.

    model: function x ↦ logits (n, D, mask), a network. z: (n, D) symbols. kappa, kappa_dot: (n,), κ < 1 and its
    derivative at the time of each sentence. mask: the symbol of the mask. uniform: (n, D) in [0, 1); a token is masked
    unless its number is below kappa. Returns a scalar tensor, whose gradient reaches the network.
    """
    ### BEGIN SOLUTION
    x = torch.where(uniform < kappa[:, None], z, mask)
    surprise = -model(x).log_softmax(-1).gather(-1, z[..., None])[..., 0]
    per_sentence = (surprise * (x == mask)).sum(1)
    return (kappa_dot / (1 - kappa) * per_sentence).mean()
    ### END SOLUTION


# %% check="masked_cross_entropy" points=5

# %% [markdown]
# **Is the bound tight?** With an exact posterior the expectation can be computed without chance: over all sets of masks,
# each with the probability that the path gives it, integrated over time. (A set of $m$ masks among $D$ tokens comes to
# the weight $(m-1)!\,(D-m)!/D!$, for every schedule.) The entropies are $\ln 32$ for the board and
# $\ln 288$ for sudoku, since all sentences are equally likely.

# %%
loss_of = lab9.answer_or("masked_cross_entropy")
exact_grids = sentences.Sentences(GRIDS, sudoku_path, dtype=torch.float64)
for name, ask, z, mask, count in (
    ("board", lambda x: posterior_of(x, BOARD, 8), BOARD[5], 8, 32),
    ("sudoku", lambda x: exact_grids.posterior(x, 0.5), GRIDS[100], 4, 288),
):
    bound = token_laws.exact_bound(ask, z, mask)
    equal, entropy = abs(bound - math.log(count)) < 1e-9, math.log(count)
    print(f"{name:8} bound {bound:.6f}, entropy ln {count} = {entropy:.6f}, equal: {equal}")
generator = seeded(0)
t = token_models.stratified(20_000, generator).double()  # one time in each 20 000th of [0, 1)
z = BOARD[torch.randint(32, (20_000,), generator=generator)]
found = loss_of(
    lambda x: posterior_of(x, BOARD, 8).clamp(min=1e-300).log(),
    z,
    t**1.5,
    1.5 * t**0.5,
    8,
    uniforms(generator, z.shape),
)
print(
    "the loss, at 20 000 random times, is within 0.2 of ln 32:",
    bool(abs(found - math.log(32)) < 0.2),
)

# %% [markdown]
# **Training.** The data are the 10 000 sums `aa+bb=ccc`: seven digits, since the signs are always the same. Half of
# the sums are for learning, the other half is held out. The network is a plain MLP that is shown the digits and
# masks, and never told the time, since with masks the posterior does not depend on it. The times of a batch are
# `stratified`: of $n$ of them one lies in each $n$th part of $[0, 1)$, which makes the loss less noisy. The cell
# takes about 20 seconds. What can the loss reach? The entropy of all sums is $\ln 10\,000 = 9.21$. A model that only
# *remembers* its 5000 sums would go down to $\ln 5000 = 8.52$ on them, and fail on all others.

# %%
learned, held_out = token_datasets.halves(SUMS)
settings = token_models.SUMS


def sum_loss(model):
    n = settings["batch"]
    t = token_models.stratified(n)  # κ = t, so that its derivative is 1
    z = learned[torch.randint(len(learned), (n,))]
    return loss_of(model, z, t, torch.ones(n), 10, torch.rand(n, 7))


_ = torch.manual_seed(1)
network = token_models.TokenMLP(10, 7)
_ = training.train(network, sum_loss, steps=settings["steps"], lr=settings["lr"])
network_says = token_models.denoiser(network)

# %% figure="the bound against the likelihood"
fig, (ax,) = plots.figure(width=6.5, height=2.9)
history = torch.tensor(network.history).unfold(0, 50, 10).mean(dim=1)
number = 50 + 10 * torch.arange(len(history))
ax.plot(number, history, color=plots.BLUE, ls="-", lw=1, label="loss (mean of 50 steps)")
ax.axhline(math.log(10_000), color=plots.BLACK, ls="--", label="ln 10 000: the entropy of all sums")
ax.axhline(math.log(5000), color=plots.BLACK, ls=":", label="ln 5000: remembering")
at_the_end = token_laws.estimated_bound(network_says, held_out, 10)
ax.plot(
    settings["steps"], at_the_end, "D", ls="", color=plots.RED, label="held-out sums, at the end"
)
ax.set(xlabel="training step", ylabel="nats per sum", ylim=(8, 17))
ax.legend()
print("held-out bound at most 9.55 nats:", at_the_end <= 9.55)
plots.describe(
    "The loss falls from 14 nats, with a bump at step 1300, to just above 9.2, the entropy of all sums, and stays above "
    "the line of remembering at 8.5. The bound on held-out sums at the end lies a little above "
    "9.2 as well."
)

# %% [markdown]
# **One call or seven?** The network is now asked for 2000 sums, all from seven masks. Before you run the cell, guess:
# how many are right when all seven digits are drawn in one call? In two calls? One digit per call?

# %%
def right(x):
    return token_datasets.is_sum(x)


calls = {7: 1, 4: 2, 2: 4, 1: 7}  # digits per call → calls
by_network = {k: write(network_says, masks_of(COUNT, 7, 10), 10, k, seed=3) for k in calls}
by_table = {
    k: write(lambda x: sum_table.posterior(x, 0.5), masks_of(1000, 7, 10), 10, k, seed=4)
    for k in calls
}
for k, title in ((7, "one call"), (1, "one digit per call")):
    few = by_network[k][:6]
    signs = ["✓" if ok else "✗" for ok in right(few)]
    print(
        f"{title:20}",
        *(f"{token_datasets.written_sum(row)} {sign}  " for row, sign in zip(few, signs)),
    )
share = {
    name: [float(right(x[k]).double().mean()) for k in calls]
    for name, x in (("table", by_table), ("network", by_network))
}

# %% figure="one call or seven"
fig, (ax,) = plots.figure(width=5.5, height=3.2)
asked = list(calls.values())
ax.plot(asked, share["table"], color=plots.BLACK, ls="-", label="the exact table of all sums")
ax.plot(asked, share["network"], color=plots.RED, ls="", marker="o", ms=8, label="the network")
ax.set(
    xlabel="calls for seven digits", ylabel="share of right sums", xticks=asked, ylim=(-0.03, 1.05)
)
ax.legend(loc="lower right")
plots.describe(
    "The share of right sums against the number of calls, for the exact table of all sums as a "
    "line and for the trained network as points. Both are near 0 in one call, near a third in "
    "two, about six tenths in four; in seven calls the table is always right and the network in "
    "about 94 of 100 cases. From two calls on the points lie a little below the line."
)

# %% [markdown]
# **The network is close to the exact curve.** The exact posterior, with all 10 000 sums in its memory, does little better
# in one, two or four calls than an MLP after 20 seconds. In one call both are wrong nearly always, although each single
# digit is drawn with the right probability. *Decoding in parallel, not the network, is the error.* In one, two and four
# calls a better network would hardly help; only in seven is what is missing its own. More calls do help.
#
# Does it invent or remember? Half of all right sums are in the training half, so a model that invents would hit it half
# the time.

# %%
def number_of(x):
    """Each row of digits as one whole number."""
    return (x * 10 ** torch.arange(x.shape[1] - 1, -1, -1)).sum(1)


right_ones = by_network[1][right(by_network[1])]
new = float(torch.isin(number_of(right_ones), number_of(held_out)).double().mean())
print("right, one digit per call, at least 90%:", share["network"][3] >= 0.90)
print("right in one call, at most 2%:", share["network"][0] <= 0.02)
print("right with two digits per call, between 55 and 68%:", 0.55 <= share["network"][2] <= 0.68)
print(f"of the right sums {new:.0%} are in the half that it never saw")

# %% [markdown]
# ## 7 · Any order
#
# A language model that writes from left to right knows one order. This one knows them all, and so it can say how likely
# a sentence is in as many ways, from [the chain rule](#eq-order):
#
# <a id="eq-any-order"></a>
# $$\log p(z) = \sum_{j=1}^{D} \log p\bigl( z^{\sigma_j} \mid z^{\sigma_1}, \dots, z^{\sigma_{j-1}} \bigr).
# \tag{Uria et al. 2014}$$
#
# For the exact posterior all orders must give the same number. For a network nothing forces them to.
#
# ### Exercise {exercise:any_order_log_likelihood} · The likelihood in a given order ({points:any_order_log_likelihood} points)
#
# Write `any_order_log_likelihood(denoiser, z, order, mask)`, [this sum](#eq-any-order).
#
# <details><summary>Hint</summary>
# Start with nothing but masks. For each place: ask, add the logarithm of the true symbol's probability there, reveal it.
# </details>

# %% exercise="any_order_log_likelihood"
def any_order_log_likelihood(denoiser, z, order, mask):
    """The logarithm of how likely sentences are, token by token in a given order.

    denoiser: function x ↦ probabilities (n, D, mask). z: (n, D) symbols, which stay as they are. order: (D,), the
    places in the order in which they are revealed, the same for all sentences. mask: the symbol of the mask.
    Returns (n,), natural logarithms, in the dtype of the probabilities.
    """
    ### BEGIN SOLUTION
    x, total = torch.full_like(z, mask), 0.0
    for place in order.tolist():
        probs = denoiser(x)[:, place]
        total = total + probs.gather(1, z[:, place, None])[:, 0].log()
        x[:, place] = z[:, place]
    return total
    ### END SOLUTION


# %% check="any_order_log_likelihood" points=4

# %% [markdown]
# **Do the orders agree?** Each box is one order. For sudoku with the exact posterior every grid has the log
# likelihood $-\ln 288$ in every order. For the network the orders nearly agree, and some are learned a little better
# than others. The average over *all* orders is the bound that it was trained on: in a random order the masks that are
# left are a random set. So one loss has trained all orders at once.

# %%
likelihood = lab9.answer_or("any_order_log_likelihood")
orders = [torch.randperm(16, generator=seeded(k)) for k in range(3)]
exact_ones = torch.stack([likelihood(sudoku, GRIDS, order, 4) for order in orders])
print(
    "−ln 288 for every grid, in every order:", bool((exact_ones + math.log(288)).abs().max() < 1e-9)
)
test = held_out[:1000]
named = {
    "left to\nright": torch.arange(7),
    "right to\nleft": torch.arange(6, -1, -1),
    "result\nfirst": torch.tensor([4, 5, 6, 0, 1, 2, 3]),
}
for k in range(4):
    named[f"random\n{k + 1}"] = torch.randperm(7, generator=seeded(k))
surprise = {name: -likelihood(network_says, test, order, 10) for name, order in named.items()}

# %% figure="do the orders agree"
fig, (ax,) = plots.figure(width=7, height=3)
boxes = [plots.array(value) for value in surprise.values()]
ax.boxplot(boxes, whis=(5, 95), showfliers=False, medianprops={"color": plots.RED, "lw": 2})
ax.axhline(math.log(10_000), color=plots.BLACK, ls="--", lw=1, label="ln 10 000")
ax.set(ylabel="nats per held-out sum", xticks=range(1, len(named) + 1), xticklabels=list(named))
ax.legend(loc="upper right")
plots.describe(
    "Boxes of minus the log likelihood of held-out sums in seven orders, with whiskers from 5 "
    "to 95 per cent. All medians lie a little above ln 10 000, the dashed line. The boxes are "
    "alike but for random 1, which is clearly higher and wider."
)

# %% [markdown]
# **Filling in.** Given digits stay, as in the sudoku. `17+__=112` asks for a *subtraction*. Nobody told the network
# that this is one: it is one of the 127 sets of masks that it was trained on. Each of the four patterns has one
# solution, a sum from the half that the network never saw. Before you run the cell: which will be hardest?

# %%
print("pattern       solutions   right   most frequent")
for pattern in ("3_+_7=082", "17+__=112", "4_+_4=_02", "__+__=198"):
    given = token_datasets.sum_of(pattern)
    answers = write(network_says, given.repeat(300, 1), 10, 1, seed=5)
    fits = int(((given == SUMS) | (given == 10)).all(1).sum())
    commonest = torch.mode(number_of(answers)).values
    text = token_datasets.written_sum([int(digit) for digit in f"{int(commonest):07d}"])
    often = float(right(answers).double().mean())
    print(f"{pattern:14}{fits:9}{often:>9.0%}   {text}")


def likeliest(ask, x, seed=0):
    """As `write`, one place per call, always with the likeliest symbol."""
    return write(lambda x: one_hot(ask(x).argmax(-1), 10).double(), x, 10, 1, seed)


for what, hidden in (("sums", [4, 5, 6]), ("differences", [2, 3])):
    question = held_out.clone()
    question[:, hidden] = 10
    solved = (likeliest(network_says, question) == held_out).all(1).double().mean()
    print(
        f"held-out {what}, with the likeliest digits: at least 99% solved: {bool(solved >= 0.99)}"
    )

# %% [markdown]
# Half of the sums were never seen, and yet their results, and their differences, are found nearly always. The last
# pattern is an honest limit: `__+__=198` has the one solution `99+99`, and its total occurs in no training sum.
#
# **Temperature.** Divide the logits by a number $T < 1$ before the softmax, and likely symbols become likelier. Here
# all sums are equally likely, so hardly anything is lost by it; with text, variety is.

# %%
print("temperature   right   different")
for temperature in (1.0, 0.7, 0.4):
    cooler = token_models.denoiser(network, temperature=temperature)
    x = write(cooler, masks_of(COUNT, 7, 10), 10, 1, seed=6)
    print(
        f"{temperature:11}{float(right(x).double().mean()):>8.0%}{len(set(number_of(x).tolist())):>12}"
    )

# %% [markdown]
# **One sum, digit by digit.** Each column is a place; the shade is the network's probability of each digit, and a
# revealed digit is marked. Watch how one revealed digit of the result narrows the others.

# %%
generator, x = seeded(11), masks_of(1, 7, 10)
way = [4, 0, 2, 5, 6, 1, 3]
frames = [x]
for place in way:
    pick = uniforms(generator, 1, 7)
    x = fill(network_says, x, torch.tensor([[place]]), 1, 10, pick)
    frames.append(x)


def draw_frame(ax, k):
    probs = network_says(frames[k])[0]
    shown = torch.where(
        (frames[k][0] == 10)[:, None], probs, one_hot(frames[k][0].clamp(max=9), 10).double()
    )
    ax.imshow(plots.array(shown.T), cmap="Greys", vmin=0, vmax=1, origin="lower", aspect="auto")
    for place in range(7):
        if frames[k][0, place] != 10:
            ax.plot(place, int(frames[k][0, place]), "o", color=plots.RED, ms=9)
    for sign, place in (("+", 1.5), ("=", 3.5)):
        ax.axvline(place, color=plots.BLUE, ls="-", lw=1.2)
        ax.text(place, 9.65, sign, ha="center", color=plots.BLUE, fontsize=12)
    written = token_datasets.written_sum(frames[k][0])
    ax.set(xticks=range(7), xticklabels=[symbol for symbol in written if symbol not in "+="])
    ax.set(yticks=range(10), ylabel="digit", xlabel=written)
    ax.grid(False)


plots.animate(
    draw_frame,
    len(frames),
    f"A sum appears digit by digit out of seven masks and ends as {token_datasets.written_sum(x[0])}. The network's "
    "probabilities of the digits that are still masked grow narrower with each one that is revealed.",
)

# %% [markdown]
# ### Why masks? Noise that looks like data
#
# Noise may also be a symbol drawn uniformly. All formulas hold, and the sampler may correct its errors, since every
# token can still jump; the red curve of section 4 showed what that costs when tokens are drawn together. And one does
# not *see* which tokens are noise. The cell shows two consequences on the board, both exact. The posterior depends on
# the time, so that a network must be told it. And the bound, which for masks equals the entropy $\ln 32$, is loose
# *for these rates* even with the exact posterior: $x$ does not remember which of its tokens have jumped already. (It
# is no fault of uniform noise itself: a sampler built by reversing uniform noising has a tight bound.)

# %%
def change_of_posterior(path):
    """How far the exact posterior of the board at t = 0.6 is from that at t = 0.3, at most."""
    board, every = sentences.Sentences(BOARD, path, dtype=torch.float64), token_laws.states(path)
    return float((board.posterior(every, 0.6) - board.posterior(every, 0.3)).abs().max())


for label, path in (
    ("masks", tokens.TokenPath(8)),
    ("uniform noise", tokens.TokenPath(8, masked=False)),
):
    print(
        f"{label:14} the posterior at t = 0.3 and 0.6 differs by up to {change_of_posterior(path):.2f}"
    )
print(f"entropy of the board: ln 32 = {math.log(32):.3f}")
print(
    f"bound with masks:     {token_laws.exact_bound(lambda x: posterior_of(x, BOARD, 8), BOARD[5], 8):.3f}"
)
print(f"bound, uniform noise: {token_laws.uniform_bound(BOARD, 8, BOARD[5]):.2f}")

# %% [markdown]
# ## 8 · Colours that do not exist · *further*
#
# To end with, real words. Some years ago the readers of the web comic *xkcd* named colours, and matplotlib knows their
# favourites: "dusty rose", "robin egg blue", "perrywinkle". We take the 839 names of at most 14 letters as a
# language, and the hue of each colour, worked out from its red, green and blue, as its label. A small network of
# convolutions learns letters from their neighbours, with the label and, 15 times in 100, without (lab 6). The cell takes about
# 15 seconds and uses your loss again.

# %%
names, unseen = token_datasets.ColourNames(), token_datasets.ColourNames(train=False)
colours = token_models.COLOURS
NONE = len(token_datasets.HUES)


def name_loss(model):
    n = colours["batch"]
    drawn, t = torch.randint(len(names.z), (n,)), token_models.stratified(n)
    y = torch.where(torch.rand(n) < colours["drop"], NONE, names.y[drawn])
    uniform = torch.rand(n, token_datasets.PLACES)
    return loss_of(
        lambda x: model(x, None, y), names.z[drawn], t, torch.ones(n), LETTER_MASK, uniform
    )


_ = torch.manual_seed(0)
speller = token_models.TokenConv(LETTER_MASK, token_datasets.PLACES, labels=NONE)
_ = training.train(speller, name_loss, steps=colours["steps"], lr=colours["lr"])
with_label, without = (
    token_laws.estimated_bound(token_models.denoiser(speller, y), unseen.z, LETTER_MASK)
    for y in (unseen.y, None)
)
print(f"{len(names.names)} names to learn from, {len(unseen.names)} held out")
print("knowing the hue lowers the bound on held-out names:", with_label < without)
free = token_models.denoiser(speller, temperature=colours["temperature"])
gaps = token_datasets.letters("__sty ____").repeat(200, 1)
found = [token_datasets.name_of(row) for row in write(free, gaps, LETTER_MASK, 1)]
favourites = sorted(set(found), key=lambda name: (-found.count(name), name))[:4]
print('"__sty ____" becomes, most often:', ", ".join(favourites))

# %% [markdown]
# ### Exercise {exercise:guided_probs} · Guidance for tokens ({points:guided_probs} points)
#
# In lab 6 we asked for a digit, and exaggerated the request. The same works here. What the label changes is the ratio of
# two probabilities, and guidance takes it to a power:
#
# <a id="eq-guided-probs"></a>
# $$p_w(y) \propto p(y \mid x, \text{label})^{\,w} \; p(y \mid x)^{\,1 - w}, \qquad \sum_y p_w(y) = 1.
# \tag{Nisonoff et al. 2024}$$
#
# As in lab 6, $w = 0$ ignores the label and $w = 1$ is the conditional model. Write
# `guided_probs(conditional, unconditional, w)`, [these probabilities](#eq-guided-probs).
#
# <details><summary>Hint</summary>
# A product of powers is a weighted sum of logarithms, and a softmax makes probabilities of logarithms.
# </details>

# %% exercise="guided_probs"
def guided_probs(conditional, unconditional, w):
    """Probabilities with a request exaggerated.

    conditional, unconditional: (..., K), rows of probabilities, all above 0, of one dtype. w: guidance scale, a number.
    Returns (..., K), in their dtype; each row sums to 1.
    """
    ### BEGIN SOLUTION
    return (w * conditional.log() + (1 - w) * unconditional.log()).softmax(-1)
    ### END SOLUTION


# %% check="guided_probs" points=3 further=true

# %% [markdown]
# **Swatches.** Each box has the hue that was asked for, and a name that the network made up for it, letter by letter at
# temperature 0.5. At $w = 0$ names and hues have nothing to do with each other. At $w = 1$ many fit. At $w = 2$ more do,
# but the language suffers. (The hue "orange" holds the browns, too.)

# %%
mixed = lab9.answer_or("guided_probs")
asked = torch.arange(NONE).repeat(60)
told = token_models.denoiser(speller, asked, colours["temperature"])


def invent(w):
    """Names for the hues asked for, at guidance scale w."""
    x = masks_of(len(asked), token_datasets.PLACES, LETTER_MASK)
    x = write(lambda x: mixed(told(x), free(x), w), x, LETTER_MASK, 1, seed=8)
    return [token_datasets.name_of(row) for row in x]


invented = {w: invent(w) for w in (0, 1, 2, 4)}
ANGLES = (0, 30, 57, 120, 182, 230, 275, 318)

# %% figure="swatches of invented names"
fig, axes = plots.figure(columns=3, width=3.1, height=3.6)
for ax, w in zip(axes, (0, 1, 2)):
    for hue in range(NONE):
        color = hsv_to_rgb((ANGLES[hue] / 360, 0.5, 0.95)) if hue < 8 else (0.8, 0.8, 0.8)
        for column in (0, 1):
            ax.barh(0.45 - hue, 0.97, 0.9, column, color=color)
            name = invented[w][hue + NONE * column]
            ax.text(
                column + 0.48, 0.45 - hue, name, ha="center", va="center", fontsize=8, color="black"
            )
    ax.set(
        xlim=(0, 2),
        ylim=(-NONE + 1, 1),
        title=f"$w$ = {w}",
        yticks=[0.45 - hue for hue in range(NONE)],
    )
    ax.set(xticks=(), yticklabels=token_datasets.HUES if w == 0 else [])
    ax.tick_params(length=0)
    ax.grid(False)
plots.describe(
    "Three panels of boxes in nine hues, red to grey from top to bottom, each with an invented "
    "colour name. At w = 0 names do not fit the hue of their box; at w = 1 and w = 2 most do, "
    "such as a name with blue in a blue box."
)

# %% [markdown]
# **Counted.** A judge reads the hue from a name: it knows pieces of one to four letters and which hues they go with in
# the real names. It is right for about seven in ten of the held-out real names, and guesses one in nine by chance.

# %%
read_hue = token_models.hue_reader(names.names, names.y)
hits = {w: float((read_hue(found) == asked).double().mean()) for w, found in invented.items()}
real = float((read_hue(unseen.names) == unseen.y).double().mean())
print(
    "asked hue is read: at most 0.2 at w = 0, at least 0.45 at w = 1, at least 0.7 at w = 2:",
    hits[0] <= 0.2 and hits[1] >= 0.45 and hits[2] >= 0.7,
)

# %% figure="what guidance gives and takes, counted"
fig, (ax,) = plots.figure(width=5.5, height=2.8)
ax.plot(list(hits), list(hits.values()), color=plots.BLUE, marker="o", label="invented names")
ax.axhline(real, color=plots.BLACK, ls="--", lw=1, label="real names, held out")
ax.axhline(1 / NONE, color=plots.BLACK, ls=":", lw=1, label="by chance")
ax.set(
    xlabel="guidance scale $w$",
    ylabel="share with the hue asked for",
    ylim=(0, 1),
    xticks=(0, 1, 2, 4),
)
ax.legend(loc="center right")
for w in (1, 2, 4):
    print(f"w = {w}: " + textwrap.shorten(", ".join(invented[w][18:30]), 110, placeholder=" …"))
plots.describe(
    "The share of invented names whose hue is the one asked for, against w: one in nine at w = "
    "0, more than half at w = 1, above eight tenths at w = 2 and 4, beyond the line of real "
    "names."
)

# %% [markdown]
# It is the lesson of lab 6 again, in words: more of what was asked, and beyond real names less of what is real. At
# $w = 4$ the judge is delighted, and many names are no words any more.
#
# **How far you are.** The checks that passed since this notebook was started, and their points. Before you hand the
# notebook in, save it and run `lab9.submission()` in a new cell: it runs the saved file from top to bottom in a fresh
# process, and lists what is still open.

# %%
lab9.progress()

# %% [markdown]
# ## 9 · Two questions to answer in words
#
# These two are read by a person. A few sentences each are enough.
#
# ### Question {exercise:why_parallel_fails} · Right digits, wrong sums ({points:why_parallel_fails} points)
#
# In one call each single digit is drawn with exactly the right probability, and yet the sums are wrong. How can that
# be? What exactly is lost? Where in this lab did you see that a better network would hardly help, and what does help?
# Explain the number $1/(2n)$ on the board.

# %% [markdown] answer="why_parallel_fails" points=6
# ### BEGIN SOLUTION
# A sentence is right when its tokens fit each other. In one call every token is drawn from its own posterior, without a
# look at the others, so that the sentence comes from the product $\prod_i p(z^i \mid x)$ and not from $p(z \mid x)$. The
# two have the same distribution of each single token; what is lost is how tokens depend on each other. From masks alone
# that is everything: the last digit of the result is uniform by itself, and only given the two others is it certain.
#
# On the board, on sudoku, and with the table of all sums the posterior was exact, and parallel drawing was wrong all
# the same; on sums the network lies only a little below the curve of that exact table at one, two and four calls. So
# a better network would hardly help. More calls do, since what has been revealed is seen by the next call; one token
# at a time is exact in any order. So does a corrector, which masks tokens again and draws them anew.
#
# On the board the pair is right if the second token is drawn when the first is seen. With $\kappa = t$ each token turns
# in one of $n$ steps, all equally likely, so both turn in the same step with probability $1/n$. Then they are
# independent, and half of all pairs are light squares: $1/n \cdot 1/2$.
# ### END SOLUTION

# %% [markdown]
# ### Question {exercise:masks_or_uniform} · Masks or uniform noise ({points:masks_or_uniform} points)
#
# With masks the bound equals the entropy for the exact posterior; with uniform noise and these rates it does not.
# With masks the network needs no time; with uniform noise it does. What does one see with masks that one does not see
# with uniform noise, and how does it explain both? What does uniform noise have in exchange?

# %% [markdown] answer="masks_or_uniform" points=6
# ### BEGIN SOLUTION
# With masks one sees which tokens are noise and which are data. With uniform noise one does not: a symbol may be data
# or may have been drawn by chance.
#
# *Time.* Given what is revealed, all sentences that agree with it have the same probability of leading to $x$: the
# factors $\kappa$ and $1 - \kappa$ depend only on how many masks there are, so they cancel in Bayes' rule. With uniform
# noise a sentence that disagrees with a token is still possible, and how much less likely it is depends on $\kappa$:
# early on a disagreement means little, late it means much. So the posterior depends on $t$.
#
# *Bound.* The loss compares whole paths, not only their ends. With masks the path adds nothing to the sentence but
# the order of the reveals, which is the same for data and model and does not depend on $z$; so the path costs as much
# as its end. With uniform noise and these rates the path of the data depends on something hidden, whether a token has
# turned already, and a model that sees $x$ alone cannot follow it exactly. The extra surprise remains even for the
# exact posterior of these rates. (It belongs to rates that jump to a target: those of the reversed noising remember
# nothing hidden, and their bound is tight.)
#
# In exchange, with uniform noise every token can still change until the end, so that an error may be corrected
# without any corrector.
# ### END SOLUTION

# %% [markdown]
# ## 10 · From here
#
# Large masked language models are made of the parts of this lab: the same loss, a transformer in place of the MLP, a
# vocabulary of word pieces, and a sampler that reveals several tokens per call, since one call per token would be as
# slow as writing from left to right. You now know what that costs, and that it is not the network's fault. Open
# questions are of the kind that you met on the board: which tokens may be drawn together, when to look again, and how
# to draw tokens that hang together at once.
