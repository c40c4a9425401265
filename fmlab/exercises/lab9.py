"""Lab 9: jumps, masks, posteriors of a table, unmasking, a loss that bounds a likelihood, orders, guidance.

Truth comes from elsewhere than the formulas asked for: symbols are drawn by walking along an interval, probabilities
flow from state to state one pair at a time, rates are derivatives of transition laws by autograd or balance flows,
posteriors are counted sentence by sentence, and a table of N sentences has the likelihood 1/N in any order.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fmlab import jumps, sentences, tokens
from fmlab.checks import judges
from fmlab.checks.compare import Look, Wrong, describe, fail, require
from fmlab.checks.exercise import Case
from fmlab.checks.lab import Lab

lab = Lab("lab9")

SINGLE, DOUBLE = torch.float32, torch.float64


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniforms(seed: int, *shape: int) -> Tensor:
    """Numbers in [0, 1), in double precision."""
    return torch.rand(shape, dtype=DOUBLE, generator=rng(seed))


def symbols(seed: int, size: int, *shape: int) -> Tensor:
    return torch.randint(size, shape, generator=rng(seed))


def laws(seed: int, *shape: int, dtype=DOUBLE) -> Tensor:
    """Rows of probabilities, none of them 0."""
    return torch.randn(shape, dtype=DOUBLE, generator=rng(seed)).softmax(-1).to(dtype)


def walked(weights: Sequence[float], number: float) -> int:
    """The symbol that holds a share `number` of an interval, cut into one part after the other."""
    left = number * math.fsum(weights)
    for symbol, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return symbol
    return len(weights) - 1


def whole(value) -> bool:
    return isinstance(value, Tensor) and not value.is_floating_point() and value.dtype != torch.bool


def column(value, axes: int = 1):
    """A number as it is, or (n,) with axes at its end."""
    value = torch.as_tensor(value)
    return value.reshape(-1, *[1] * axes) if value.ndim else value


def first(value):
    """The first of several numbers, for all."""
    return torch.as_tensor(value).flatten()[0]


class Reader(nn.Module):
    """A network that tells what each token is from all that it sees: (n, D) ↦ logits (n, D, K)."""

    def __init__(self, seed: int, size: int, places: int, dtype=SINGLE):
        super().__init__()
        self.size, self.places, self.calls = size, places, []
        self.seen, self.told = (
            nn.Parameter(torch.randn(shape, dtype=DOUBLE, generator=rng(seed + k)).to(dtype))
            for k, shape in enumerate([(places, size + 1, 4), (4, places, size)])
        )

    def forward(self, x):
        if not whole(x) or x.ndim != 2 or x.shape[1] != self.places:
            raise ValueError(f"sentences are whole numbers of shape (n, {self.places}), got {describe(x)}")
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) <= self.size:
            raise ValueError(f"symbols are 0 … {self.size - 1}, and {self.size} for the mask; got {int(x.max())}")
        self.calls.append(x.detach().clone())
        seen = self.seen[torch.arange(self.places), x.long()].sum(1)
        return torch.einsum("nh,hdk->ndk", torch.sin(seen), self.told)


class Denoiser(Reader):
    """Probabilities, without gradients."""

    @torch.no_grad()
    def forward(self, x):
        return super().forward(x).softmax(-1)


# --- drawing ----------------------------------------------------------------------------------------------------------


def drawn_by(
    mark=lambda u, total: u * total,
    weights=lambda p: p.double(),
    then=lambda y: y,
    passed=torch.le,
    along=-1,
    beyond=False,
):
    """Drawing with another mark on the interval, other parts, or another symbol beside it, or beyond all symbols."""

    def draw_tokens(probs, uniform):
        parts = weights(probs)
        total = parts.sum(-1, keepdim=True)
        number = passed(parts.cumsum(along), mark(uniform[..., None], total)).sum(-1)
        return then(number) if beyond else then(number).clamp(0, probs.shape[-1] - 1)

    return draw_tokens


# In single precision: all of it, or the weights alone.
drawn_in_single = drawn_by(lambda u, total: u.float() * total, lambda p: p.float(), beyond=True)
summed_in_single = drawn_by(weights=lambda p: p)


def rare(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of some 1e-8 behind one of 1, and numbers that draw these rare symbols, too."""
    weights = torch.cat([torch.ones_like(weights[..., :1]), 1e-8 * (1 + weights[..., 1:])], -1)
    return weights, 1 - 3e-8 * uniform


def whole_numbers(answer, case):
    """Symbols come back: whole numbers."""
    found = answer(*case.args)
    if isinstance(found, Tensor) and found.is_floating_point() and found.shape == case.expected.shape:
        fail(f"symbols are whole numbers (int64), found {describe(found)}")
    yield Look(case.what, found, case.expected)


@lab.exercise(
    reread=("eq-draw", "the drawing rule, above the exercise"),
    passed="a symbol for each row, and rare ones get their share",
    hints=(
        "Lay the weights of a row side by side as parts of an interval. Which part holds the share u of it?",
        "cumsum gives the right ends of the parts. A symbol is passed where its end is at most u times the total.",
        "Count the symbols that are passed: (ends <= mark[..., None]).sum(-1), with ends and mark in double precision.",
    ),
    withhold=("jumps.draw",),
    library=jumps.draw,
    judge=whole_numbers,
    visible=[
        (1, (7, 5)),
        (2, (3, 4, 6), DOUBLE),
        (3, (4,), DOUBLE),
        (4, (8, 3), SINGLE, "with weights of 0"),
        (5, (6, 3), SINGLE, "with rare symbols"),
    ],
    mistakes={
        "the likeliest symbol was taken; it is to be drawn": lambda p, u: p.argmax(-1),
        "the weights of a row need not sum to 1: multiply u by their sum": drawn_by(lambda u, total: u),
        "computed in single precision, in which rare symbols are lost: the weights need .double()": summed_in_single,
        "computed in single precision: u was rounded, to 1 where it is nearly 1": drawn_in_single,
        "it is the symbol after the one that is drawn": drawn_by(then=lambda y: y + 1),
        "it is the symbol before the one that is drawn": drawn_by(then=lambda y: y - 1),
        "the parts were counted from the other end: 1 − u stands where u should": drawn_by(
            lambda u, total: (1 - u) * total
        ),
        "one number drew for all rows; each has its own": drawn_by(lambda u, total: u.flatten()[0] * total),
        "all symbols were taken as equally likely": lambda p, u: (p.shape[-1] * u).long(),
        "the weights were summed from row to row, not from symbol to symbol": drawn_by(along=0),
        "the symbols that are not passed were counted; count those that are (≤, not >)": drawn_by(
            passed=torch.gt, beyond=True
        ),
        "a symbol of weight 0 is drawn where u = 0: it is passed, too (≤, not <)": drawn_by(passed=torch.lt),
        "the weights were taken through a softmax; they are probabilities already": drawn_by(
            weights=lambda p: p.double().softmax(-1)
        ),
    },
)
def draw_tokens(seed, shape, dtype=SINGLE, kind=""):
    *rows, size = shape
    weights = laws(seed, *shape) * (0.4 + uniforms(seed + 1, *rows, 1))
    uniform = uniforms(seed + 2, *rows)
    if kind == "with weights of 0":
        weights[:, 0], weights[: len(weights) // 2, 1] = 0, 0
        uniform[::2] = 0
    if kind == "with rare symbols":
        weights, uniform = rare(weights, uniform)
    weights = weights.to(dtype)
    table = zip(weights.double().reshape(-1, size).tolist(), uniform.flatten().tolist())
    expected = torch.tensor([walked(row, number) for row, number in table]).reshape(rows)
    what = f"the tensor of symbols for weights of shape {tuple(shape)}{' ' * bool(kind)}{kind}"
    return Case(what, (weights, uniform), expected)


# --- rates ------------------------------------------------------------------------------------------------------------


def random_rates(seed: int, states: int, dtype) -> Tensor:
    """Rates of a chain in which every state can be left to every other: rows sum to 0."""
    rates = 0.2 + 2 * uniforms(seed, states, states)
    rates.fill_diagonal_(0)
    return (rates - torch.diag(rates.sum(1))).to(dtype)


def off_diagonal(rates: Tensor) -> Tensor:
    return rates - torch.diag(rates.diagonal())


@lab.exercise(
    reread=("eq-kolmogorov", "Kolmogorov's equation, above the exercise"),
    passed="what leaves one state arrives at another",
    hints=(
        "In a short time h, how much probability goes from x to y? And how much does x lose in all?",
        "The change of p is h times the right-hand side of the equation, and Q(x, x) already holds what leaves.",
        "Σ_x p(x) Q(x, y) is a row times a matrix: p @ rates. Rows of Q are where one comes from.",
    ),
    withhold=("jumps.transition_matrix",),
    library=lambda p, rates, h: p + h * p @ rates,
    visible=[
        (1, (4,), 0.15),
        (2, (3, 5), 0.07, DOUBLE),
        (3, (3,), torch.tensor(0.9, dtype=DOUBLE), DOUBLE),
        (4, (4, 4), 0.23),
    ],
    mistakes={
        "the matrix is transposed: rows are where one comes from, p @ rates": lambda p, q, h: p + h * p @ q.T,
        "the step size h is missing": lambda p, q, h: p + p @ q,
        "this is the change alone, without the p before it": lambda p, q, h: h * p @ q,
        "nothing leaves: Q(x, x) is missing": lambda p, q, h: p + h * p @ off_diagonal(q),
        "nothing arrives: only Q(x, x) was used": lambda p, q, h: p + h * p * q.diagonal(),
        "the sign is reversed": lambda p, q, h: p - h * p @ q,
        "this is the exact step, exp(hQ); Euler's is its first two terms": lambda p, q, h: (
            p @ torch.linalg.matrix_exp(torch.as_tensor(h).to(q) * q)
        ),
        "negative numbers were set to 0; Euler's step keeps them": lambda p, q, h: (p + h * p @ q).clamp(min=0),
        "numbers below 0 and above 1 were cut off; Euler's step keeps them": lambda p, q, h: (p + h * p @ q).clamp(
            0, 1
        ),
        "probabilities were set right by a division; Euler's step keeps the sum by itself": lambda p, q, h: (
            (r := (p + h * p @ q).clamp(min=0)) / r.sum(-1, keepdim=True)
        ),
        "the rates were summed over y, where they cancel; sum over x": lambda p, q, h: p + h * p * q.sum(1),
        "the old p is multiplied by h, too": lambda p, q, h: h * (p + p @ q),
    },
)
def rate_step(seed, shape, h, dtype=SINGLE):
    """Between each two states flows h p(x) Q(x, y): what one loses the other gains."""
    p, rates = normalised(laws(seed, *shape, dtype=dtype) ** 4), random_rates(seed + 1, shape[-1], dtype)
    expected = p.double().clone()
    for x in range(shape[-1]):
        for y in range(shape[-1]):
            if x != y:
                flow = float(h) * p[..., x].double() * float(rates[x, y])
                expected[..., x] -= flow
                expected[..., y] += flow
    return Case(f"the step of size {float(h):.3g} for p of shape {tuple(shape)}", (p, rates, h), expected.to(dtype))


class Leaving:
    """States x about to jump, with rates Q and numbers hold and pick. Mistakes exchange a part."""

    def __init__(self, rates, x, hold, pick):
        self.q, self.x, self.hold, self.pick = rates.double(), x, hold, pick
        self.leave, self.others = -self.q.diagonal()[x], off_diagonal(self.q)[x]

    def jump(self, wait=None, others=None, pick=None, then=None):
        """The wait and the next state, one of them another."""
        wait = -torch.log1p(-self.hold) / self.leave if wait is None else wait
        others, pick = self.others if others is None else others, self.pick if pick is None else pick
        return wait, drawn_by()(others, pick) if then is None else then

    def shifted(self):
        """The others without the place of x, so that those behind it move one down."""
        kept = ~one_hot(self.x, len(self.q)).bool()
        return self.others[kept].reshape(len(self.x), -1)


@lab.exercise(
    reread=("eq-hold", "the two draws of a jump, above the exercise"),
    passed="how long, and where to",
    hints=(
        "How likely is it that a state that is left at the rate λ has been left by the time τ?",
        "Solve 1 − exp(−λτ) = hold for τ, with λ = −Q(x, x). The next state has the weights Q(x, y), y ≠ x.",
        "rates[x] is the row of each state and rates.diagonal()[x] its own entry. Set that entry to 0 and use "
        "jumps.draw(weights, pick).",
    ),
    withhold=("jumps.simulate_chain",),
    library=lambda *args: Leaving(*args).jump(),
    visible=[(1, 4, 9), (2, 3, 7, DOUBLE), (3, 6, 1, DOUBLE), (4, 5, 5)],
    terms=lambda *args: (Leaving(*args),),
    mistakes={
        "the time was multiplied by the rate; fast states wait less": lambda s: s.jump(-torch.log1p(-s.hold) * s.leave),
        "hold stands where 1 − hold should: the chance of having left by then is 1 − exp(−λτ)": lambda s: s.jump(
            -s.hold.log() / s.leave
        ),
        "this is the mean time 1/λ; it has to be drawn": lambda s: s.jump(1 / s.leave + 0 * s.hold),
        "the times are negative: Q(x, x) is −λ": lambda s: s.jump(torch.log1p(-s.hold) / s.leave),
        "the time is uniform; exponential is wanted": lambda s: s.jump(s.hold / s.leave),
        "the rate is missing: all states wait alike": lambda s: s.jump(-torch.log1p(-s.hold)),
        "the rate of the first state was used for all": lambda s: s.jump(-torch.log1p(-s.hold) / s.leave[0]),
        "the next state was drawn evenly among the others; their rates differ": lambda s: s.jump(
            others=(s.others > 0).double()
        ),
        "|Q(x, x)| was left among the weights, so that a state jumps to itself": lambda s: s.jump(
            others=s.q[s.x].abs()
        ),
        "columns of Q were used; rows are where one comes from": lambda s: s.jump(others=off_diagonal(s.q).T[s.x]),
        "the likeliest state was taken; it is to be drawn": lambda s: s.jump(then=s.others.argmax(1)),
        "hold and pick are exchanged": lambda s: s.jump(-torch.log1p(-s.pick) / s.leave, pick=s.hold),
        "one number served for both; hold is for the time, pick for the state": lambda s: s.jump(pick=s.hold),
        "x was taken out of the row, so that the numbers of later states are one too small": lambda s: s.jump(
            others=s.shifted()
        ),
        "the time and the state are in the wrong order: the time comes first": lambda s: s.jump()[::-1],
    },
)
def next_jump(seed, states, n, dtype=SINGLE):
    rates, x = random_rates(seed, states, dtype), symbols(seed + 1, states, n)
    hold, pick = uniforms(seed + 2, n), uniforms(seed + 3, n)
    off = off_diagonal(rates).double()
    wait = torch.distributions.Exponential(off.sum(1)[x]).icdf(hold)
    then = torch.tensor([walked(row, number) for row, number in zip(off[x].tolist(), pick.tolist())])
    expected = {"the tensor of times": wait, "the tensor of next states": then}
    return Case(f"for {n} states of {states}", (rates, x, hold, pick), expected)


# --- the path of masks ------------------------------------------------------------------------------------------------


def masked_where(kept=lambda u, k: u < k, then=lambda z, mask, u: mask):
    """Corruption that keeps other tokens, or puts something else in place of the others."""
    return lambda z, kappa, mask, uniform: torch.where(
        kept(uniform, column(kappa)), z, torch.as_tensor(then(z, mask, uniform)).to(z)
    )


@lab.exercise(
    reread=("eq-corrupt", "the noisy sentence, above the exercise"),
    passed="each token by its own number, each sentence by its own κ",
    hints=(
        "For which share of uniform numbers should a token survive?",
        "u < κ happens with probability κ. Every sentence may have a κ of its own: which shape does (n,) need?",
        "kappa = torch.as_tensor(kappa); reshape it to (-1, 1), and torch.where(uniform < kappa, z, mask).",
    ),
    withhold=("tokens.TokenPath.corrupt", "tokens.TokenPath.sample"),
    library=lambda z, kappa, mask, uniform: tokens.TokenPath(mask).corrupt(z, torch.full_like(z, mask), kappa, uniform),
    judge=whole_numbers,
    visible=[
        (1, (6, 5), 0.35, 4),
        (2, (4, 4), torch.tensor([0.15, 0.8, 0.55, 0.3], dtype=DOUBLE), 7),
        (3, (3, 8), torch.tensor(0.7), 9, torch.int32),
        (4, (1, 6), torch.tensor([0.4]), 5),
        (5, (3, 4), torch.tensor([0.0, 1.0, 0.6], dtype=DOUBLE), 3),
        (6, (3, 5), 0.375, 6, torch.int64, "with a tie"),
    ],
    mistakes={
        "kept and masked tokens are exchanged: a token is kept where u < κ": masked_where(lambda u, k: u >= k),
        "a token was kept where u is κ; it is kept where u is below κ (<, not ≤)": masked_where(lambda u, k: u <= k),
        "1 − κ stands where κ should": masked_where(lambda u, k: u < 1 - k),
        "tokens were kept where u is above 1 − κ, not where it is below κ": masked_where(lambda u, k: u >= 1 - k),
        "one number decided for the whole sentence; each token has its own": masked_where(lambda u, k: u[:, :1] < k),
        "the first κ was used for all sentences": masked_where(lambda u, k: u < first(k)),
        "the κ of each sentence was spread along its tokens; it needs the shape (n, 1)": lambda z, k, mask, u: (
            torch.where(u < torch.as_tensor(k), z, mask)
        ),
        "half of the tokens were kept, whatever κ is": masked_where(lambda u, k: u < 0.5),
        "everything was masked": masked_where(lambda u, k: u < 0),
        "nothing was masked": masked_where(lambda u, k: u >= 0),
        "exactly κD tokens of a sentence were kept; it is chance how many are": masked_where(
            lambda u, k: u.argsort(1).argsort(1) < (k * u.shape[1]).round()
        ),
        "masked tokens became 0, which is a symbol; the mask is one more": masked_where(then=lambda z, mask, u: 0),
        "masked tokens became −1 instead of the mask": masked_where(then=lambda z, mask, u: -1),
        "the mask is off by one: it is mask, not mask − 1": masked_where(then=lambda z, mask, u: mask - 1),
        "the mask is off by one: it is mask, not mask + 1": masked_where(then=lambda z, mask, u: mask + 1),
        "masked tokens became other symbols; the noise here is the mask": masked_where(
            then=lambda z, mask, u: (mask * u).long()
        ),
    },
)
def corrupt(seed, shape, kappa, mask, dtype=torch.int64, kind=""):
    z, uniform = symbols(seed, mask, *shape).to(dtype), uniforms(seed + 1, *shape)
    if kind == "with a tie":
        uniform[:, 1] = kappa
    each = torch.as_tensor(kappa).expand(shape[0]).tolist()
    rows = [
        [token if number < share else mask for token, number in zip(*pair)]
        for share, *pair in zip(each, z.tolist(), uniform.tolist())
    ]
    what = f"the noisy sentence for shape {tuple(shape)}{' ' * bool(kind)}{kind}"
    return Case(what, (z, kappa, mask, uniform), torch.tensor(rows, dtype=dtype))


class Turning:
    """Rates towards a target: the parts of κ̇/(1 − κ) (target − δ). Mistakes exchange one."""

    def __init__(self, target, x, kappa, kappa_dot):
        self.target, self.k, self.dk = target, column(kappa, 2), column(kappa_dot, 2)
        self.hazard = torch.as_tensor(kappa_dot / (1 - kappa))  # as it comes
        self.here = one_hot(x, target.shape[-1]).to(target)
        self.last = (x == target.shape[-1] - 1)[..., None]

    def rate(self, factor=None, target=None, here=None):
        factor = self.dk / (1 - self.k) if factor is None else factor
        found = (self.target if target is None else target) - (self.here if here is None else here)
        return (factor * found).to(self.target)


@lab.exercise(
    reread=("eq-rate", "the rate towards a target, above the exercise"),
    passed="out of here, into the target",
    hints=(
        "At which rate does a token that is still noise turn into data, if κ_t is the share that has turned by t?",
        "The share of noise is 1 − κ, and κ̇ of it turns per time: the hazard is κ̇/(1 − κ).",
        "one_hot(x, M) is δ(y, x). Bring κ and κ̇ of shape (n,) into the shape (n, 1, 1) first.",
    ),
    withhold=("tokens.TokenPath.marginal_rate", "tokens.TokenPath.conditional_rate", "tokens.TokenPath.hazard"),
    library=lambda *args: Turning(*args).rate(),
    visible=[
        (1, (3, 2, 5), 0.3**1.5, 1.5 * 0.3**0.5),
        (2, (4, 4, 6), (torch.tensor([0.3, 0.7, 0.45, 0.12]), 1.7)),
        (3, (5, 2, 5), (torch.tensor([0.15, 0.6, 0.35, 0.8, 0.05], dtype=DOUBLE), 0.8), None, DOUBLE),
        (4, (1, 3, 4), torch.tensor(0.62), torch.tensor(0.35), DOUBLE),
        (5, (3, 4, 5), 0.27, 1.9, SINGLE, "one sentence"),
    ],
    terms=lambda *args: (Turning(*args),),
    mistakes={
        "the denominator is κ, not 1 − κ: only noise can still turn": lambda m: m.rate(m.dk / m.k),
        "κ̇ is missing": lambda m: m.rate(1 / (1 - m.k)),
        "1/(1 − κ) is missing": lambda m: m.rate(m.dk),
        "κ and κ̇ are exchanged": lambda m: m.rate(m.k / (1 - m.dk)),
        "the hazard is multiplied by 1 − κ instead of divided": lambda m: m.rate(m.dk * (1 - m.k)),
        "nothing leaves: δ(y, x) is missing, and rows do not sum to 0": lambda m: m.rate(here=0),
        "nothing arrives: the target is missing": lambda m: m.rate(target=0),
        "the sign is reversed": lambda m: -m.rate(),
        "only the likeliest symbol of the target was used": lambda m: m.rate(
            target=one_hot(m.target.argmax(-1), m.target.shape[-1]).to(m.target)
        ),
        "the entry of x itself was set to 0; it is minus the rate of leaving": lambda m: m.rate() * (1 - m.here),
        "only the last symbol was given rates, as if all others stayed; the formula holds for every x": lambda m: (
            m.rate() * m.last
        ),
        "the κ of the first sentence was used for all": lambda m: m.rate(m.dk / (1 - first(m.k))),
        "the κ̇ of the first sentence was used for all": lambda m: m.rate(first(m.dk) / (1 - m.k)),
        "the κ of each sentence was spread along the tokens; it needs the shape (n, 1, 1)": lambda m: m.rate(
            m.hazard[:, None] if m.hazard.ndim else m.hazard
        ),
        "the κ of each sentence was spread along the symbols; it needs the shape (n, 1, 1)": lambda m: m.rate(m.hazard),
        "parentheses are missing: κ̇/(1 − κ) multiplies the target alone": lambda m: (
            m.dk / (1 - m.k) * m.target - m.here
        ).to(m.target),
    },
)
def jump_rate(seed, shape, kappa, kappa_dot=None, dtype=SINGLE, kind=""):
    """A token that has not turned by κ has by κ_s with probability (κ_s − κ)/(1 − κ), and then has the target's law.

    kappa: the number itself, or (t, power) for κ = t^power.
    """
    if isinstance(kappa, tuple):
        t, power = kappa
        t = t.to(dtype)
        kappa, kappa_dot = t**power, power * t ** (power - 1)
    n, places, states = shape
    target = laws(seed, *shape, dtype=dtype)
    if kind == "one sentence":
        target = one_hot(symbols(seed, states - 1, n, places), states).to(dtype)
    x, now = symbols(seed + 1, states, n, places), column(kappa, 2).double()
    here = one_hot(x, states).double()

    def law(later):
        turned = (later - now) / (1 - now)
        return (1 - turned) * here + turned * target.double()

    speed = column(kappa_dot, 2).double()
    _, expected = torch.autograd.functional.jvp(law, now.clone(), speed.expand_as(now).clone())
    what = f"the tensor of rates for targets of shape {tuple(shape)}"
    return Case(what, (target, x, kappa, kappa_dot), expected.to(dtype))


# --- what a table says ------------------------------------------------------------------------------------------------


class Table:
    """Noisy sentences beside a table: matches, and the posterior that follows from the sentences that are kept."""

    def __init__(self, x, table, mask):
        self.x, self.table, self.mask = x, table, mask
        self.matches = (x[:, None] == table).sum(-1)
        self.best = (self.matches == self.matches.amax(1, keepdim=True)).double()
        self.possible = (self.matches == (x != mask).sum(1, keepdim=True)).double()
        self.answers = one_hot(table, mask).double()

    def by(self, kept, total=None):
        total = kept.sum(1) if total is None else total
        return torch.einsum("nt,tdk->ndk", kept, self.answers) / total[:, None, None]

    def pinned(self, found):
        """Another posterior, in which what is revealed has the probability 1."""
        revealed = one_hot(self.x, self.mask + 1)[..., :-1].double()
        return torch.where((self.x == self.mask)[..., None], found, revealed)


def counted_posterior(x: Tensor, table: Tensor, mask: int) -> Tensor:
    """Row by row: the sentences with the most tokens that agree, and how often each symbol stands where in them."""
    found = torch.zeros(*x.shape, mask, dtype=DOUBLE)
    for k, row in enumerate(x.tolist()):
        agree = [sum(a == b for a, b in zip(row, sentence) if a != mask) for sentence in table.tolist()]
        kept = [sentence for sentence, number in zip(table.tolist(), agree) if number == max(agree)]
        for sentence in kept:
            for place, symbol in enumerate(sentence):
                found[k, place, symbol] += 1 / len(kept)
    return found


def distinct(seed: int, count: int, places: int, mask: int) -> Tensor:
    """A table of different sentences, (count, places)."""
    every = torch.unique(symbols(seed, mask, 4 * count, places), dim=0)
    return every[torch.randperm(len(every), generator=rng(seed + 1))[:count]]


@lab.exercise(
    reread=("eq-posterior", "what a table says, above the exercise"),
    passed="the sentences that still fit, and nothing else",
    hints=(
        "Which sentences of the table could still be behind what is revealed? How many tokens of each agree?",
        "A mask equals no symbol of the table, so x[:, None] == table counts what is revealed and agrees. Keep those "
        "with the most.",
        "kept: (n, N) times one_hot(table, mask).flatten(1): (N, D K), divided by the number kept, in shape (n, D, K).",
    ),
    withhold=("sentences.Sentences.posterior", "sentences.Sentences.weights"),
    library=lambda x, table, mask: sentences.Sentences(table, tokens.TokenPath(mask), dtype=DOUBLE).posterior(x, 0.5),
    visible=[(1, 12, 5, 3, 7), (2, 20, 4, 6, 4), (3, 5, 7, 4, 1), (4, 9, 3, 3, 6, "impossible")],
    terms=lambda *args: (Table(*args),),
    mistakes={
        "the sentences that fit were summed, not averaged": lambda m: m.by(m.best, torch.ones(len(m.x))),
        "the sum was divided by the size of the table; divide by the number of sentences that are kept": lambda m: m.by(
            m.best, torch.full((len(m.x),), len(m.table))
        ),
        "this is 0/0 for sentences that fit nothing: there those with the most matching tokens count": lambda m: m.by(
            m.possible
        ),
        "this is 0 for sentences that fit nothing: there those with the most matching tokens count": lambda m: m.by(
            m.possible
        ).nan_to_num(),
        "sentences that fit nothing got all of the table; those with the most matching tokens count": lambda m: m.by(
            torch.where(m.possible.sum(1, keepdim=True) > 0, m.possible, 1.0)
        ),
        "what is revealed was not used: this is the average of the whole table": lambda m: m.by(
            torch.ones_like(m.best)
        ),
        "sentences count by how many tokens match; those that clash should not count at all": lambda m: m.by(
            m.matches.double()
        ),
        "sentences with one matching token were kept; all that is revealed has to match": lambda m: m.by(
            (m.matches > 0).double()
        ),
        "each place was looked at alone: what is revealed elsewhere changes the others": lambda m: m.pinned(
            m.by(torch.ones_like(m.best))
        ),
        "only the first sentence that fits was used": lambda m: m.by(
            one_hot(m.matches.argmax(1), len(m.table)).double()
        ),
        "the likeliest symbol got all the probability": lambda m: one_hot(m.by(m.best).argmax(-1), m.mask).double(),
        "masked tokens were compared, too; they fit every symbol": lambda m: m.by((m.matches == m.x.shape[1]).double()),
        "revealed tokens that clash were kept; they count as noise": lambda m: m.pinned(m.by(m.best)),
    },
)
def posterior(seed, count, places, mask, n, kind=""):
    """Sentences of the table, masked here and there; the last of them with a token that fits nothing, if it can."""
    table = distinct(seed, count, places, mask)
    x = table[symbols(seed + 2, len(table), n)]
    x = torch.where(uniforms(seed + 3, n, places) < 0.5, x, mask)
    if kind == "impossible" or n > 3:
        x[-2:] = symbols(seed + 4, mask, 2, places)
        x[-1, 0] = mask
    what = f"the tensor of probabilities for {n} sentences and a table of {len(table)}"
    return Case(what, (x, table, mask), counted_posterior(x, table, mask))


# --- unmasking --------------------------------------------------------------------------------------------------------


class Reveal:
    """A step of reveals. Mistakes exchange the chance, the tokens that turn, or what they turn into."""

    def __init__(self, x, probs, kappa, later, mask, uniform, pick):
        self.x, self.probs, self.k, self.s = x, probs, float(kappa), float(later)
        self.mask, self.u, self.pick = mask, uniform, pick

    def step(self, chance=None, turned=None, symbol=None):
        chance = (self.s - self.k) / (1 - self.k) if chance is None else chance
        turned = (self.u < chance) & (self.x == self.mask) if turned is None else turned
        return torch.where(turned, drawn_by()(self.probs, self.pick) if symbol is None else symbol, self.x)

    def chance(self):
        return (self.s - self.k) / (1 - self.k)


@lab.exercise(
    reread=("eq-reveal", "the chance of a reveal, above the exercise"),
    passed="exact for steps of any size, and no mask is left at the end",
    hints=(
        "Of the tokens that are noise at κ, which share is data when κ has risen to κ_s?",
        "Of 1 − κ, κ_s − κ have turned: the chance is (κ_s − κ)/(1 − κ). Revealed tokens stay as they are.",
        "torch.where((uniform < chance) & (x == mask), jumps.draw(probs, pick), x).",
    ),
    withhold=("unmasking.Unmasking.step", "unmasking.sample_tokens"),
    library=lambda x, probs, kappa, later, mask, uniform, pick: torch.where(
        (uniform < (later - kappa) / (1 - kappa)) & (x == mask), jumps.draw(probs, pick), x
    ),
    judge=whole_numbers,
    visible=[
        (1, (40, 6, 5), 0.3, 0.55),
        (2, (30, 5, 7), 0.15, torch.tensor(0.82), DOUBLE),
        (3, (20, 4, 3), 0.62, 1.0, DOUBLE),
        (4, (1, 9, 4), torch.tensor(0.0), 0.4),
        (5, (6, 4, 5), 0.25, 0.625, DOUBLE, "with a tie"),
        (6, (9, 4, 3), 0.35, 0.75, SINGLE, "with rare symbols"),
    ],
    terms=lambda *args: (Reveal(*args),),
    mistakes={
        "the chance is κ_s − κ: it has to be divided by the share 1 − κ that is noise": lambda m: m.step(m.s - m.k),
        "the denominator is 1 − κ_s, not 1 − κ": lambda m: m.step(min(1, (m.s - m.k) / max(1 - m.s, 1e-12))),
        "the chance is κ_s, that of having turned at all": lambda m: m.step(m.s),
        "1 − exp(−(κ_s − κ)/(1 − κ)) is right for tiny steps only": lambda m: m.step(1 - math.exp(-m.chance())),
        "revealed and waiting tokens are exchanged: a token turns where u is below the chance": lambda m: m.step(
            turned=(m.u >= m.chance()) & (m.x == m.mask)
        ),
        "a token turned where its number is the chance; it turns where it is below (<, not ≤)": lambda m: m.step(
            turned=(m.u <= m.chance()) & (m.x == m.mask)
        ),
        "computed in single precision, in which rare symbols are lost: draw in double": lambda m: m.step(
            symbol=summed_in_single(m.probs.float(), m.pick)
        ),
        "computed in single precision: pick was rounded, to 1 where it is nearly 1": lambda m: m.step(
            symbol=drawn_in_single(m.probs, m.pick)
        ),
        "everything was revealed at once": lambda m: m.step(1.0),
        "revealed tokens were drawn anew; they stay": lambda m: m.step(turned=m.u < m.chance()),
        "one number decided for the whole sentence; each token has its own": lambda m: m.step(
            turned=(m.u[:, :1] < m.chance()) & (m.x == m.mask)
        ),
        "the likeliest symbol was taken; it is to be drawn": lambda m: m.step(symbol=m.probs.argmax(-1)),
        "one number served for both: uniform says which tokens turn, pick into what": lambda m: m.step(
            symbol=drawn_by()(m.probs, m.u)
        ),
        "uniform and pick are exchanged": lambda m: m.step(
            turned=(m.pick < m.chance()) & (m.x == m.mask), symbol=drawn_by()(m.probs, m.u)
        ),
        "the tokens that turned became masks": lambda m: m.step(symbol=torch.full_like(m.x, m.mask)),
    },
)
def reveal_step(seed, shape, kappa, later, dtype=SINGLE, kind=""):
    *batch, mask = shape
    probs, x = laws(seed, *shape), symbols(seed + 1, mask, *batch)
    x = torch.where(uniforms(seed + 2, *batch) < 0.7, mask, x)
    uniform, pick = uniforms(seed + 3, *batch), uniforms(seed + 4, *batch)
    if kind == "with a tie":  # numbers that are the chance
        uniform[:, 1] = (later - kappa) / (1 - kappa)
    if kind == "with rare symbols":
        probs, pick = rare(probs, pick)
    probs = probs.to(dtype)
    expected = x.clone()
    for n, place in torch.cartesian_prod(*map(torch.arange, batch)).tolist():
        noise = 1 - float(kappa)  # of which a share, from the bottom, has turned when 1 − later is left
        if x[n, place] == mask and float(uniform[n, place]) * noise < noise - (1 - float(later)):
            expected[n, place] = walked(probs[n, place].double().tolist(), float(pick[n, place]))
    args = (x, probs, kappa, later, mask, uniform, pick)
    what = f"the sentence from κ = {float(kappa):.3g} to {float(later):.3g}{' ' * bool(kind)}{kind}"
    return Case(what, args, expected)


class Order:
    """Places of sentences filled in an order, several per call. Mistakes exchange a part."""

    def __init__(self, denoiser, x, order, per_call, mask, pick):
        self.denoiser, self.x, self.order, self.k = denoiser, x, order, per_call
        self.mask, self.pick = mask, pick

    def fill(self, order=None, k=None, calls=None, given=True, once=False, symbol=None, cumulative=False):
        x, order, probs = self.x, self.order if order is None else order, None
        for number, places in enumerate(order.split(k or self.k, dim=1)):
            if calls is not None and number == calls:
                break
            probs = self.denoiser(x) if probs is None or not once else probs
            chosen = torch.zeros_like(x, dtype=torch.bool).scatter(1, places, True) | cumulative
            chosen &= (self.x == self.mask) if given else torch.tensor(True)
            x = torch.where(chosen, drawn_by()(probs, self.pick) if symbol is None else symbol(probs), x)
        return x


def filled(answer, case):
    """The sentence, and not more calls than the order needs."""
    denoiser, x, order, k, *_ = case.args
    before = len(denoiser.calls)
    found = answer(*case.args)
    calls = sum(len(each) for each in denoiser.calls[before:]) / len(x)
    yield Look(case.what, found, case.expected)
    most = -(-order.shape[1] // k)
    require(calls <= most, f"the denoiser was asked {calls:g} times per sentence; {k} places a call need {most} calls")


@lab.exercise(
    reread=("eq-order", "the chain rule in any order, above the exercise"),
    passed="what is given stays, and the rest is filled in",
    hints=(
        "Which places are filled after the first call, and what does the second call see?",
        "order.split(per_call, dim=1) gives the places of each call, (n, per_call). Ask about the x of that moment.",
        "chosen = zeros_like(x, dtype=bool).scatter(1, places, True); replace x where chosen & (x == mask) by draws.",
    ),
    withhold=("unmasking.sample_tokens", "unmasking.Unmasking.step"),
    library=lambda *args: Order(*args).fill(),
    judge=filled,
    visible=[
        (1, (5, 6, 4), 1),
        (2, (4, 7, 5), 3, DOUBLE),
        (3, (6, 5, 3), 2, DOUBLE, 0.4),
        (4, (1, 4, 6), 4),
        (5, (3, 3, 8), 5, SINGLE, 0.3),
    ],
    terms=lambda *args: (Order(*args),),
    mistakes={
        "places that were given were filled, too; they stay": lambda m: m.fill(given=False),
        "the order was not used: places were filled from left to right": lambda m: m.fill(
            torch.arange(m.x.shape[1]).expand_as(m.x)
        ),
        "the order was walked backwards": lambda m: m.fill(m.order.flip(1)),
        "ranks were taken for places: order[:, 0] is the place that comes first": lambda m: m.fill(m.order.argsort(1)),
        "the order of the first sentence was used for all": lambda m: m.fill(m.order[:1].expand_as(m.order)),
        "the denoiser was asked once, at the start; it must see what has been filled in": lambda m: m.fill(once=True),
        "per_call was not used: one place was filled at a time": lambda m: m.fill(k=1),
        "the last places are missing, where per_call does not divide their number": lambda m: m.fill(
            calls=m.x.shape[1] // m.k
        ),
        "only the places of the first call were filled": lambda m: m.fill(calls=1),
        "every call filled all places again; a call fills its own": lambda m: m.fill(cumulative=True),
        "the likeliest symbol was taken; it is to be drawn": lambda m: m.fill(symbol=lambda probs: probs.argmax(-1)),
        "pick was taken by rank; pick[:, i] belongs to place i": lambda m: m.fill(
            symbol=lambda probs: drawn_by()(probs, m.pick.gather(1, m.order.argsort(1)))
        ),
        "nothing was filled in": lambda m: m.x,
        "one number was used for all places; each has its own": lambda m: m.fill(
            symbol=lambda probs: drawn_by()(probs, m.pick[:, :1].expand_as(m.pick))
        ),
    },
)
def sample_in_order(seed, shape, per_call, dtype=SINGLE, given=0.0):
    """Sentence by sentence and place by place, with the probabilities of the sentence as it was before the call."""
    n, places, mask = shape
    denoiser, pick = Denoiser(seed, mask, places, dtype), uniforms(seed + 2, n, places)
    x = torch.where(uniforms(seed + 3, n, places) < given, symbols(seed + 4, mask, n, places), mask)
    order = uniforms(seed + 5, n, places).argsort(1)
    rows = []
    for row, way, numbers in zip(x, order.tolist(), pick.tolist()):
        row = row.tolist()
        for start in range(0, places, per_call):
            probs = Denoiser.forward(denoiser, torch.tensor([row]))[0].double().tolist()
            for place in way[start : start + per_call]:
                if row[place] == mask:
                    row[place] = walked(probs[place], numbers[place])
        rows.append(row)
    denoiser.calls.clear()
    args = (denoiser, x, order, per_call, mask, pick)
    return Case(f"the sentence for shape {(n, places)}, {per_call} places a call", args, torch.tensor(rows))


# --- losses and likelihoods -------------------------------------------------------------------------------------------


def sparing(judge):
    """A judge that tells an answer that it overwrites what it is given, also where it raises for that reason."""

    def asked(answer, case):
        before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in case.args]
        try:
            yield from judge(answer, case)
        except Wrong:
            for given, now in zip(before, case.args):
                said = "changed a tensor it was given; compute a new one instead (x = x.clone() before x[…] = …)"
                require(not isinstance(now, Tensor) or now.equal(given), said)
            raise

    return asked


def per_token(logits: Tensor, z: Tensor) -> Tensor:
    """−log p of each token: (n, D)."""
    return -logits.log_softmax(-1).gather(-1, z[..., None])[..., 0]


def masked_loss(
    weight=lambda k, dk: dk / (1 - k),
    kept=lambda u, k: u < k[:, None],
    counted=lambda hidden: hidden,
    total=lambda each, hidden: each.sum(1),
    mean=torch.mean,
    show=lambda x, z: x,
    surprise=per_token,
):
    """The loss with another weight, other masks, other tokens counted, another mean, or the network shown another x."""

    def masked_cross_entropy(model, z, kappa, kappa_dot, mask, uniform):
        x = torch.where(kept(uniform, kappa), z, mask)
        hidden = counted(x == mask)
        each = surprise(model(show(x, z)), z) * hidden
        return mean(weight(kappa, kappa_dot) * total(each, hidden))

    return masked_cross_entropy


class Given:
    """A schedule of which only κ and κ̇ at the times in question are known."""

    def __init__(self, kappa, kappa_dot):
        self._kappa, self._kappa_dot = kappa, kappa_dot

    def kappa(self, t):
        return self._kappa

    def kappa_dot(self, t):
        return self._kappa_dot


@lab.exercise(
    reread=("eq-loss", "the loss, above the exercise"),
    passed="a classifier's loss on the masks, weighted so that it bounds −log p",
    hints=(
        "Which tokens does the network have to guess? What does a wrong guess cost?",
        "Corrupt z, ask model(x) for logits, take −log p of the true symbols, and sum over the masked places only.",
        "logits.log_softmax(-1).gather(-1, z[..., None])[..., 0] is log p(z^i | x). Weight each sentence by κ̇/(1 − κ), "
        "then take the mean.",
    ),
    withhold=("sentences.masked_cross_entropy",),
    library=lambda model, z, kappa, kappa_dot, mask, uniform: sentences.masked_cross_entropy(
        lambda x, t: model(x), tokens.TokenPath(mask, schedule=Given(kappa, kappa_dot)), z, kappa, uniform
    ),
    judge=sparing(judges.loss),
    visible=[
        (1, (5, 4, 6), 1.5),
        (2, (4, 4, 3), 0.7, DOUBLE),
        (3, (6, 3, 5), 2.2),
        (4, (1, 7, 4), 1.3, DOUBLE),
    ],
    mistakes={
        "the weight κ̇/(1 − κ) is missing": masked_loss(lambda k, dk: 1.0),
        "the weight is κ̇/κ; divide by the share that is masked, 1 − κ": masked_loss(lambda k, dk: dk / k),
        "κ̇ is missing in the weight": masked_loss(lambda k, dk: 1 / (1 - k)),
        "1/(1 − κ) is missing in the weight": masked_loss(lambda k, dk: dk),
        "the weight is upside down": masked_loss(lambda k, dk: (1 - k) / dk),
        "all sentences were given the weight of the first": masked_loss(lambda k, dk: dk[0] / (1 - k[0])),
        "the masked tokens of a sentence were averaged; sum them": masked_loss(
            total=lambda each, hidden: each.sum(1) / hidden.sum(1).clamp(min=1)
        ),
        "all tokens of a sentence were averaged; sum those that are masked": masked_loss(
            total=lambda each, hidden: each.mean(1)
        ),
        "all tokens count; only masked ones should": masked_loss(counted=torch.ones_like),
        "the revealed tokens count; only masked ones should": masked_loss(counted=torch.logical_not),
        "the losses of the batch were summed, not averaged": masked_loss(mean=torch.sum),
        "the sign is reversed: this is +log p": masked_loss(surprise=lambda *args: -per_token(*args)),
        "the logits were taken for log probabilities; log_softmax makes them that": masked_loss(
            surprise=lambda logits, z: -logits.gather(-1, z[..., None])[..., 0]
        ),
        "the softmax ran over the places, not over the symbols": masked_loss(
            surprise=lambda logits, z: -logits.log_softmax(1).gather(-1, z[..., None])[..., 0]
        ),
        "these are the probabilities themselves; the loss is −log p": masked_loss(
            surprise=lambda *args: (-per_token(*args)).exp()
        ),
        "the logarithm is missing: this is made of −p, the loss of −log p": masked_loss(
            surprise=lambda *args: -(-per_token(*args)).exp()
        ),
        "the network was given the clean sentence": masked_loss(show=lambda x, z: z),
        "kept and masked tokens are exchanged: a token is kept where u < κ": masked_loss(
            kept=lambda u, k: u >= k[:, None]
        ),
        "all sentences were corrupted with the first κ": masked_loss(kept=lambda u, k: u < k[0]),
        "one number decided for the whole sentence; each token has its own": masked_loss(
            kept=lambda u, k: u[:, :1] < k[:, None]
        ),
    },
)
def masked_cross_entropy(seed, shape, power, dtype=SINGLE):
    """Added up token by token, with κ = t^power."""
    n, places, mask = shape
    model, z = Reader(seed, mask, places, dtype), symbols(seed + 2, mask, n, places)
    t, uniform = 0.08 + 0.8 * uniforms(seed + 3, n), uniforms(seed + 4, n, places)
    kappa, kappa_dot = (t**power).to(dtype), (power * t ** (power - 1)).to(dtype)
    total = 0.0
    for k in range(n):
        kept = uniform[k] < kappa[k]
        logits = model(torch.where(kept, z[k], mask)[None])[0]
        for place in range(places):
            if not kept[place]:
                odds = (logits[place] - logits[place, z[k, place]]).exp().sum()  # 1/p of the true symbol
                total = total + kappa_dot[k] / (1 - kappa[k]) * odds.log() / n
    model.calls.clear()
    args = (model, z, kappa, kappa_dot, mask, uniform)
    return Case(f"the loss for sentences of shape {(n, places)}", args, total, weights=list(model.parameters()))


class Chain:
    """The chain rule along an order. Mistakes exchange what is asked, added or revealed."""

    def __init__(self, denoiser, z, order, mask):
        self.denoiser, self.z, self.order, self.mask = denoiser, z, order, mask

    def terms(self, order=None, revealed="before", once=False):
        """p(z^{σ_j} | what is revealed) of each place, in order: (n, D)."""
        x, found, probs = torch.full_like(self.z, self.mask), [], None
        for place in (self.order if order is None else order).tolist():
            if revealed == "too early":
                x = self.put(x, place)
            probs = self.denoiser(x) if probs is None or not once else probs
            found.append(probs[:, place].gather(1, self.z[:, place, None])[:, 0])
            x = torch.full_like(x, self.mask) if revealed == "the last" else x
            x = self.put(x, place) if revealed != "too early" else x
        return torch.stack(found, 1)

    def put(self, x, place):
        return torch.where(torch.arange(x.shape[1]) == place, self.z, x)


@lab.exercise(
    reread=("eq-any-order", "the likelihood in any order, above the exercise"),
    passed="one token after the other, in the order that was given",
    hints=(
        "The chain rule of probability holds in any order. What does the denoiser see when token σ_j is asked for?",
        "Start with masks. For each place of the order: ask, add log p of the true symbol, and only then reveal it.",
        "denoiser(x)[:, place] has the shape (n, K); pick column z[:, place] with gather. Then x = x.clone(), "
        "x[:, place] = z[:, place].",
    ),
    withhold=("sentences.any_order_log_likelihood",),
    judge=sparing(judges.value),
    library=lambda denoiser, z, order, mask: sentences.any_order_log_likelihood(
        lambda x, t: denoiser(x), tokens.TokenPath(mask), z, order
    ).to(denoiser(z[:1])),
    visible=[
        (1, (4, 5, 3)),
        (2, (3, 6, 7), DOUBLE),
        (3, (6, 4, 4), DOUBLE, "a table"),
        (4, (1, 3, 5)),
    ],
    terms=lambda *args: (Chain(*args),),
    mistakes={
        "the denoiser was asked once, about masks alone; it must see what has been revealed": lambda m: (
            m.terms(once=True).log().sum(1)
        ),
        "the token was revealed before the denoiser was asked about it": lambda m: (
            m.terms(revealed="too early").log().sum(1)
        ),
        "only the last revealed token was kept; all earlier ones stay": lambda m: (
            m.terms(revealed="the last").log().sum(1)
        ),
        "the order was not used: tokens came from left to right": lambda m: (
            m.terms(torch.arange(m.z.shape[1])).log().sum(1)
        ),
        "the order was walked backwards": lambda m: m.terms(m.order.flip(0)).log().sum(1),
        "ranks were taken for places: order[0] is the place that comes first": lambda m: (
            m.terms(m.order.argsort()).log().sum(1)
        ),
        "the probabilities were added; add their logarithms": lambda m: m.terms().sum(1),
        "this is the likelihood itself; its logarithm is wanted": lambda m: m.terms().prod(1),
        "the sign is reversed: this is −log p": lambda m: -m.terms().log().sum(1),
        "the logarithms were averaged over the tokens; they add up": lambda m: m.terms().log().mean(1),
        "these are bits; the natural logarithm gives nats": lambda m: m.terms().log2().sum(1),
        "the first token of the order is missing": lambda m: m.terms()[:, 1:].log().sum(1),
        "the last token of the order is missing": lambda m: m.terms()[:, :-1].log().sum(1),
    },
)
def any_order_log_likelihood(seed, shape, dtype=SINGLE, kind=""):
    """A denoiser that knows a table of N sentences gives each of them 1/N; of another, sentence by sentence."""
    n, places, mask = shape
    order = uniforms(seed + 1, places).argsort()
    if kind == "a table":
        z = distinct(seed, n, places, mask)
        args = (lambda x: counted_posterior(x, z, mask).to(dtype), z.clone(), order, mask)
        return Case("the log likelihood of a table", args, torch.full((len(z),), -math.log(len(z)), dtype=dtype))
    denoiser, z = Denoiser(seed, mask, places, dtype), symbols(seed + 2, mask, n, places)
    expected = []
    for sentence in z.tolist():
        known, total = {}, 0.0
        for place in order.tolist():
            x = torch.tensor([[known.get(j, mask) for j in range(places)]])
            total += math.log(float(denoiser(x)[0, place, sentence[place]]))
            known[place] = sentence[place]
        expected.append(total)
    what = f"the log likelihood of sentences of shape {(n, places)}"
    return Case(what, (denoiser, z, order, mask), torch.tensor(expected, dtype=dtype))


# --- a second thought, and guidance -----------------------------------------------------------------------------------


class Second:
    """The corrector's rates. Mistakes exchange the rate of reveals, that of new masks, or a part of the matrix."""

    def __init__(self, probs, x, kappa):
        self.probs, self.x, self.k = probs, x, column(kappa, 2).to(probs)
        self.mask = probs.shape[-1]
        self.masked = (x == self.mask)[..., None]
        self.here = one_hot(x, self.mask + 1).to(probs)
        self.to_mask = one_hot(torch.full_like(x, self.mask), self.mask + 1).to(probs)
        self.padded = torch.cat([probs, torch.zeros_like(probs[..., :1])], -1)

    def rate(self, reveal=None, renoise=1.0, masks_leave=True, tokens_leave=True, masked=None):
        reveal = self.k / (1 - self.k) if reveal is None else reveal
        out = reveal * (self.padded - self.here * masks_leave)
        back = renoise * (self.to_mask - self.here * tokens_leave)
        return torch.where(self.masked if masked is None else masked, out, back).to(self.probs)


@lab.exercise(
    reread=("eq-corrector", "the corrector, above the exercise"),
    passed="back and forth in balance",
    hints=(
        "Tokens are masked again at the rate 1. At which rate must masks be revealed so that as many go back?",
        "At time t a share κ is revealed and 1 − κ is masked: in balance, κ · 1 = (1 − κ) · r.",
        "For masks: κ/(1 − κ) times p(y|x), and minus that at the mask itself. For revealed tokens: 1 at the mask, −1 "
        "at x. Join them with torch.where.",
    ),
    withhold=("tokens.TokenPath.corrector_rate",),
    library=lambda probs, x, kappa: tokens.TokenPath(probs.shape[-1]).corrector_rate(probs, x, kappa).to(probs),
    visible=[
        (1, (5, 3, 4), 0.3**1.5),
        (2, (4, 4, 5), torch.tensor([0.65, 0.2, 0.8, 0.35])),
        (3, (6, 5, 3), torch.tensor(0.7, dtype=DOUBLE), DOUBLE),
        (4, (1, 4, 6), 0.42, DOUBLE),
    ],
    terms=lambda *args: (Second(*args),),
    mistakes={
        "the ratio is upside down: masks are revealed at κ/(1 − κ)": lambda m: m.rate((1 - m.k) / m.k),
        "both ways have the same rate, 1; then more is masked than revealed, or less": lambda m: m.rate(1.0),
        "masks are revealed at κ; divide by the share 1 − κ that is masked": lambda m: m.rate(m.k),
        "masks are revealed at 1/(1 − κ), which is the rate forward; in balance it is κ/(1 − κ)": lambda m: m.rate(
            1 / (1 - m.k)
        ),
        "revealed tokens are never masked again": lambda m: m.rate(renoise=0.0),
        "tokens are masked again at κ/(1 − κ), too; the rate is 1": lambda m: m.rate(renoise=m.k / (1 - m.k)),
        "nothing leaves: rows do not sum to 0": lambda m: m.rate(masks_leave=False, tokens_leave=False),
        "masks do not leave: −κ/(1 − κ) at the mask itself is missing": lambda m: m.rate(masks_leave=False),
        "revealed tokens do not leave: −1 at x is missing": lambda m: m.rate(tokens_leave=False),
        "masked and revealed tokens are exchanged: each has the rates of the other": lambda m: m.rate(masked=~m.masked),
        "masks are never revealed": lambda m: m.rate(0.0),
        "the sign is reversed": lambda m: -m.rate(),
        "the κ of the first sentence was used for all": lambda m: m.rate(first(m.k) / (1 - first(m.k))),
    },
)
def corrector_rate(seed, shape, kappa, dtype=SINGLE):
    """Detailed balance: the rate of revealing y is p_t(with y)/p_t(with a mask), since the way back has the rate 1."""
    n, places, mask = shape
    table = distinct(seed, 7, places, mask)
    x = torch.where(uniforms(seed + 3, n, places) < 0.45, table[symbols(seed + 2, len(table), n)], mask)
    probs = counted_posterior(x, table, mask)
    expected = torch.zeros(n, places, mask + 1, dtype=DOUBLE)
    shares = torch.as_tensor(kappa).double().expand(n).tolist()

    def law(sentence, share):
        """p_t of a noisy sentence, N times."""
        each = (share * (sentence == table) + (1 - share) * (sentence == mask)).prod(1)
        return float(each.sum())

    for k, place in torch.cartesian_prod(torch.arange(n), torch.arange(places)).tolist():
        row, share = x[k], shares[k]
        if row[place] == mask:
            for y in range(mask):
                then = torch.where(torch.arange(places) == place, y, row)
                expected[k, place, y] = law(then, share) / law(row, share)
        else:
            expected[k, place, mask] = 1.0
        expected[k, place, row[place]] = -expected[k, place].sum()
    given = kappa if isinstance(kappa, float) else torch.as_tensor(kappa).to(dtype)
    what = f"the tensor of rates for sentences of shape {(n, places)}"
    return Case(what, (probs.to(dtype), x, given), expected.to(dtype))


def normalised(p: Tensor) -> Tensor:
    return p / p.sum(-1, keepdim=True)


@lab.exercise(
    reread=("eq-guided-probs", "guidance for tokens, above the exercise"),
    passed="exaggerated, and still probabilities",
    hints=(
        "What must come back at w = 0, and what at w = 1?",
        "Mix the logarithms, w of the conditional and 1 − w of the other. What turns logarithms into probabilities?",
        "(w * conditional.log() + (1 - w) * unconditional.log()).softmax(-1).",
    ),
    withhold=("sentences.guided_probs",),
    library=lambda conditional, unconditional, w: sentences.guided_probs(conditional, unconditional, w).to(conditional),
    visible=[(1, (4, 3, 5), 2.3), (2, (6, 4), -0.6, DOUBLE), (3, (7,), 0.35), (4, (2, 2, 3), 3.6, DOUBLE)],
    mistakes={
        "it is not normalised: the numbers of a row have to sum to 1": lambda c, u, w: c**w * u ** (1 - w),
        "the probabilities were mixed; guidance mixes their logarithms": lambda c, u, w: w * c + (1 - w) * u,
        "the probabilities were mixed and cut off at 0; guidance mixes their logarithms": lambda c, u, w: normalised(
            (w * c + (1 - w) * u).clamp(min=0)
        ),
        "w is counted from 0, with weights 1 + w and −w; w = 1 is conditional": lambda c, u, w: normalised(
            c ** (1 + w) * u ** (-w)
        ),
        "the weights w and 1 − w are exchanged": lambda c, u, w: normalised(c ** (1 - w) * u**w),
        "the unconditional probabilities are missing": lambda c, u, w: normalised(c**w),
        "the unconditional probabilities lost their weight 1 − w": lambda c, u, w: normalised(c**w * u),
        "w is not used: these are the conditional probabilities": lambda c, u, w: c,
        "the condition is not used": lambda c, u, w: u,
        "these are logarithms; a softmax makes probabilities of them": lambda c, u, w: w * c.log() + (1 - w) * u.log(),
        "these are logarithms of probabilities; a softmax without log is wanted": lambda c, u, w: (
            w * c.log() + (1 - w) * u.log()
        ).log_softmax(-1),
        "the sum was taken over all rows; each row sums to 1": lambda c, u, w: (p := c**w * u ** (1 - w)) / p.sum(),
        "the softmax ran along another axis; the symbols are the last": lambda c, u, w: (
            w * c.log() + (1 - w) * u.log()
        ).softmax(0),
        "the softmax was taken of mixed probabilities, without logarithms": lambda c, u, w: (
            w * c + (1 - w) * u
        ).softmax(-1),
    },
)
def guided_probs(seed, shape, w, dtype=SINGLE):
    """Row by row, with the odds against the first symbol."""
    conditional, free = laws(seed, *shape, dtype=dtype), laws(seed + 1, *shape, dtype=dtype)
    rows = []
    for c, u in zip(
        conditional.double().reshape(-1, shape[-1]).tolist(), free.double().reshape(-1, shape[-1]).tolist()
    ):
        odds = [(a / c[0]) ** w * (b / u[0]) ** (1 - w) for a, b in zip(c, u)]
        rows.append([each / math.fsum(odds) for each in odds])
    expected = torch.tensor(rows, dtype=DOUBLE).reshape(shape).to(dtype)
    return Case(f"the tensor of probabilities for w = {w:g}", (conditional, free, w), expected)
