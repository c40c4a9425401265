"""Lab 7: autoencoders, latent space and transformers.

Truth comes from elsewhere than the formulas asked for: Gaussians are those of `torch.distributions`, water is poured
level by level, patches are those of `unfold`, attention is torch's own, positions are counted one by one.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from fmlab import autoencoders, guidance, transformers
from fmlab.checks import judges
from fmlab.checks.compare import Look, fail
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import Field, states, times
from fmlab.checks.lab import Lab

lab = Lab("lab7")

DOUBLE = torch.float64


def given(seed: int, *shape: int, dtype=torch.float32) -> Tensor:
    """Random numbers that come from layers before, so that a gradient may reach them."""
    return states(seed, *shape, dtype=dtype).requires_grad_() * 1


# --- an autoencoder ---------------------------------------------------------------------------------------------------


def moved(std=lambda ell: (ell / 2).exp(), put=lambda mean, part: mean + part):
    """A sample with another standard deviation, or put together otherwise."""
    return lambda mean, log_var, noise: put(mean, std(log_var) * noise)


@lab.exercise(
    reread=("eq-sample", "the sample z = μ + e^{ℓ/2} ε, above the exercise"),
    passed="a random number through which gradients flow",
    hints=(
        "What is the standard deviation, if ℓ is the logarithm of the variance?",
        "σ = √(e^ℓ) = e^{ℓ/2}.",
        "Add (log_var / 2).exp() times the noise to the mean.",
    ),
    withhold=("autoencoders.reparameterise",),
    library=autoencoders.reparameterise,
    judge=judges.learning,
    visible=[((5, 3),), ((4, 2, 3, 1),), ((1, 4), DOUBLE)],
    mistakes={
        "e^ℓ is the variance; the noise is multiplied by its root": moved(lambda ell: ell.exp()),
        "ℓ itself was taken for the standard deviation": moved(lambda ell: ell),
        "ℓ was taken for the variance: this is √|ℓ|": moved(lambda ell: ell.abs().sqrt()),
        "ℓ/2 has the wrong sign": moved(lambda ell: (-ell / 2).exp()),
        "e^{ℓ/4}: the root was taken twice": moved(lambda ell: (ell / 4).exp()),
        "e^{2ℓ} is the variance squared": moved(lambda ell: (2 * ell).exp()),
        "parentheses are missing: this is e^ℓ/2": moved(lambda ell: ell.exp() / 2),
        "the standard deviation is missing: every latent got noise of size 1": moved(lambda ell: ell * 0 + 1),
        "this is the mean alone, without noise": moved(lambda ell: ell * 0),
        "the mean was not added": moved(put=lambda mean, part: mean * 0 + part),
        "the noise was subtracted": moved(put=lambda mean, part: mean - part),
        "the mean was multiplied by the standard deviation, too": lambda m, ell, e: (m + e) * (ell / 2).exp(),
    },
)
def reparameterise(shape, dtype=torch.float32):
    mean, log_var = given(81, *shape, dtype=dtype), given(82, *shape, dtype=dtype)
    noise = states(83, *shape, dtype=dtype)
    expected = torch.addcmul(mean, log_var.exp().sqrt(), noise)
    return Case(f"the sample for shape {shape}", (mean, log_var, noise), expected, weights=[mean, log_var])


def nats(
    each=lambda m, ell: (m.square() + ell.exp() - 1 - ell) / 2,
    total=lambda all: all.flatten(1).sum(1),
):
    """The KL with another formula for each latent, or summed otherwise."""
    return lambda mean, log_var: total(each(mean, log_var))


def one_number_each(answer, case):
    """A number for each image, and its gradient."""
    found, n = answer(*case.args), len(case.args[0])
    if n > 1 and isinstance(found, Tensor) and found.numel() == 1:
        fail(f"each image has a KL of its own, ({n},); found one number: sum over the latents of an image alone")
    yield from judges.learning(answer, case)


@lab.exercise(
    reread=("eq-kl", "the KL divergence, above the exercise"),
    passed="what it costs to be told the latents of an image",
    hints=(
        "How many numbers come back, and over which axes do you have to sum?",
        "σ² is e^ℓ and log σ² is ℓ; nothing else has to be computed.",
        "Compute (mean² + e^ℓ − 1 − ℓ)/2 for each latent, flatten(1), and sum over axis 1.",
    ),
    withhold=("autoencoders.gaussian_kl",),
    library=autoencoders.gaussian_kl,
    judge=one_number_each,
    visible=[((5, 3),), ((3, 2, 1, 4),), ((1, 4), DOUBLE), ((4, 2, 2, 3), DOUBLE)],
    mistakes={
        "the factor ½ is missing": nats(lambda m, ell: m.square() + ell.exp() - 1 - ell),
        "the −1 is missing: the KL of N(0, 1) should be 0": nats(lambda m, ell: (m.square() + ell.exp() - ell) / 2),
        "log σ² was added; it is subtracted": nats(lambda m, ell: (m.square() + ell.exp() - 1 + ell) / 2),
        "ℓ was taken for log σ; it is log σ²": nats(lambda m, ell: (m.square() + (2 * ell).exp() - 1 - 2 * ell) / 2),
        "ℓ was taken for σ²": nats(lambda m, ell: (m.square() + ell - 1 - ell.abs().log()) / 2),
        "e^ℓ should be the variance; here it is e^{ℓ/2}": nats(
            lambda m, ell: (m.square() + (ell / 2).exp() - 1 - ell) / 2
        ),
        "the mean was not squared": nats(lambda m, ell: (m + ell.exp() - 1 - ell) / 2),
        "the mean is missing": nats(lambda m, ell: m * 0 + (ell.exp() - 1 - ell) / 2),
        "the sign is reversed; a KL is not negative": nats(lambda m, ell: -(m.square() + ell.exp() - 1 - ell) / 2),
        "this is the KL the other way round, of N(0, 1) from q": nats(
            lambda m, ell: ((m.square() + 1) * (-ell).exp() - 1 + ell) / 2
        ),
        "the mean was taken over the latents; sum them": nats(total=lambda all: all.flatten(1).mean(1)),
        "only the last axis was summed; flatten(1) first": nats(total=lambda all: all.sum(-1)),
        "only axis 1 was summed; flatten(1) first": nats(total=lambda all: all.sum(1)),
        "the latents were not summed": nats(total=lambda all: all + 0),
        "it was summed over the images; each has its own": nats(total=lambda all: all.sum(0)),
    },
)
def gaussian_kl(shape, dtype=torch.float32):
    mean, log_var = given(84, *shape, dtype=dtype), given(85, *shape, dtype=dtype)
    each = kl_divergence(Normal(mean, log_var.exp().sqrt()), Normal(torch.zeros_like(mean), 1))
    expected = torch.stack([latents.sum() for latents in each])
    return Case(f"the KL for shape {shape}", (mean, log_var), expected, weights=[mean, log_var])


def bound(
    error=lambda d: d.square().flatten(1).sum(1),
    kl=autoencoders.gaussian_kl,
    put=lambda error, kl, beta: error + beta * kl,
    total=lambda each: each.mean(),
):
    """The loss with another error or KL, put together or averaged otherwise."""
    return lambda x, decoded, mean, log_var, beta: total(put(error(x - decoded), kl(mean, log_var), beta))


@lab.exercise(
    reread=("eq-vae", "the loss of the autoencoder, above the exercise"),
    passed="an error, and a price for every nat",
    hints=(
        "There are two parts, each one number for an image. Over what does each sum?",
        "autoencoders.gaussian_kl(mean, log_var) is the second part, (n,), whether or not yours is written.",
        "Sum the squares of x − decoded over all but the first axis, add beta times the KL, and take the mean.",
    ),
    withhold=("autoencoders.vae_loss",),
    library=autoencoders.vae_loss,
    judge=judges.loss,
    visible=[
        ((5, 1, 3, 2), (5, 2, 1, 3), 0.3),
        ((3, 4), (3, 2), 2.7),
        ((4, 2, 2, 3), (4, 5), 1.6, DOUBLE),
        ((1, 3), (1, 2), 0.07),
    ],
    mistakes={
        "the error was averaged over the pixels beside a KL that is summed; sum both": bound(
            lambda d: d.square().flatten(1).mean(1)
        ),
        "the KL was averaged over the latents beside an error that is summed; sum both": lambda x, d, m, ell, beta: (
            bound(kl=lambda m, ell: autoencoders.gaussian_kl(m, ell) / m[0].numel())(x, d, m, ell, beta)
        ),
        "both parts were averaged within an image; sum them": lambda x, d, m, ell, beta: bound(
            lambda e: e.square().flatten(1).mean(1), lambda m, ell: autoencoders.gaussian_kl(m, ell) / m[0].numel()
        )(x, d, m, ell, beta),
        "the losses of the batch were summed, not averaged": bound(total=lambda each: each.sum()),
        "there is a factor ½ before the error": bound(lambda d: d.square().flatten(1).sum(1) / 2),
        "the norm was not squared": bound(lambda d: d.flatten(1).norm(dim=1)),
        "absolute values were summed instead of squares": bound(lambda d: d.abs().flatten(1).sum(1)),
        "only axis 1 of the errors was summed; flatten(1) first": lambda x, d, m, ell, beta: (
            (x - d).square().sum(1).mean() + beta * autoencoders.gaussian_kl(m, ell).mean()
        ),
        "β is not used": bound(put=lambda error, kl, beta: error + kl),
        "β stands before the error; it is the price of the KL": bound(put=lambda error, kl, beta: beta * error + kl),
        "the KL is divided by β": bound(put=lambda error, kl, beta: error + kl / beta),
        "the KL was subtracted": bound(put=lambda error, kl, beta: error - beta * kl),
        "the KL is missing": bound(put=lambda error, kl, beta: error + 0 * kl),
        "the error is missing": bound(put=lambda error, kl, beta: 0 * error + beta * kl),
        "the parts are weighed by 1 − β and β": bound(put=lambda error, kl, beta: (1 - beta) * error + beta * kl),
        "0.1 is written in where β should be used": bound(put=lambda error, kl, beta: error + 0.1 * kl),
        "β was squared": bound(put=lambda error, kl, beta: error + beta**2 * kl),
        "the KL is ½ β of what it should be": bound(put=lambda error, kl, beta: error + beta * kl / 2),
    },
)
def vae_loss(image, latents, beta, dtype=torch.float32):
    x, decoded = states(86, *image, dtype=dtype), given(87, *image, dtype=dtype)
    mean, log_var = given(88, *latents, dtype=dtype), given(89, *latents, dtype=dtype)
    costs = kl_divergence(Normal(mean, log_var.exp().sqrt()), Normal(torch.zeros_like(mean), 1))
    each = [torch.dist(a, b) ** 2 + beta * cost.sum() for a, b, cost in zip(x, decoded, costs)]
    args = x, decoded, mean, log_var, beta
    return Case(
        f"the loss for images {image} and β = {beta:g}", args, sum(each) / len(each), weights=[decoded, mean, log_var]
    )


def poured(
    level=lambda beta: beta / 2,
    rate=lambda ratio: ratio.log() / 2,
    error=lambda lam, tau: torch.minimum(lam, torch.full_like(lam, tau)),
    cut=lambda ratio: ratio.clamp(min=1),
    total=lambda each: each.sum(),
):
    """Nats and error with another water level, rate or error of a direction, or put together otherwise."""

    def linear_rate(eigenvalues, beta):
        tau = level(beta)
        return total(rate(cut(eigenvalues / tau))), total(error(eigenvalues, tau))

    return linear_rate


@lab.exercise(
    reread=("eq-water", "reverse water-filling, above the exercise"),
    passed="which directions live, which die, and what both cost",
    hints=(
        "Make τ = β/2 first. What does a direction with λ ≤ τ add to the nats, and what to the error?",
        "A direction that lives adds ½ log(λ/τ) nats and the error τ; one that dies adds no nats and the error λ.",
        "(eigenvalues / τ).clamp(min=1).log() is 0 where a direction dies; eigenvalues.clamp(max=τ) are the errors.",
    ),
    withhold=("autoencoders.linear_rate",),
    library=autoencoders.linear_rate,
    visible=[
        ([0.3, 5.1, 0.02, 1.9, 0.8], 0.7),
        ([2.3, 0.41, 0.0, 7.7], 1.3, DOUBLE),
        ([0.2, 0.35, 0.11], 2.9),
        ([11.0, 4.0, 6.3], 0.05, DOUBLE),
    ],
    mistakes={
        "the water stands at β; the level is τ = β/2": poured(lambda beta: beta),
        "the water stands at 2β; the level is τ = β/2": poured(lambda beta: 2 * beta),
        "the water stands at √(β/2); λ is a variance, and so is the level τ = β/2": poured(
            lambda beta: (beta / 2) ** 0.5
        ),
        "the water stands at (β/2)²; the level is β/2": poured(lambda beta: (beta / 2) ** 2),
        "the factor ½ is missing in ½ log(λ/τ)": poured(rate=lambda ratio: ratio.log()),
        "the nats are bits here: take the natural logarithm": poured(rate=lambda ratio: ratio.log2() / 2),
        "1 was added in the logarithm": poured(rate=lambda ratio: torch.where(ratio > 1, ratio.log1p() / 2, 0)),
        "directions that die were counted with negative nats": poured(cut=lambda ratio: ratio.clamp(min=1e-6)),
        "only the error of the directions that die is there; those that live keep τ each": poured(
            error=lambda lam, tau: torch.where(lam > tau, 0, lam)
        ),
        "only the error of the directions that live is there; those that die lose all of λ": poured(
            error=lambda lam, tau: torch.where(lam > tau, tau, 0)
        ),
        "every direction was given the error τ; one with λ < τ cannot lose more than λ": poured(
            error=lambda lam, tau: torch.full_like(lam, tau)
        ),
        "the error is max(λ, τ); it is the smaller of the two": poured(error=lambda lam, tau: lam.clamp(min=tau)),
        "this is the error of decoding the mean, τ²/λ; with the sampled z it is τ": poured(
            error=lambda lam, tau: torch.where(lam > tau, tau**2 / lam, lam)
        ),
        "nats and error were averaged over the directions; sum them": poured(total=lambda each: each.mean()),
        "nats and error are exchanged": lambda *args: poured()(*args)[::-1],
    },
)
def linear_rate(eigenvalues, beta, dtype=torch.float32):
    """Nats and error as integrals over the water level u, of the number of directions that stand out of it."""
    tau, falling = beta / 2, sorted(eigenvalues, reverse=True)
    lower = [max(value, tau) for value in [*falling[1:], 0.0]]
    rate = sum(k * math.log(max(top, tau) / low) for k, (top, low) in enumerate(zip(falling, lower), start=1)) / 2
    levels = sorted(min(value, tau) for value in [0.0, *eigenvalues])
    error = sum((b - a) * (len(levels) - k) for k, (a, b) in enumerate(zip(levels, levels[1:]), start=1))
    expected = {"the rate": rate, "the error": error}
    return Case(
        f"of {len(eigenvalues)} directions at β = {beta:g}", (torch.tensor(eigenvalues, dtype=dtype), beta), expected
    )


@lab.exercise(
    reread=("eq-scale", "the shifted time t′, above the exercise"),
    passed="a scale of the data is a shift of time",
    hints=(
        "Divide t s z + (1 − t) ε by a number, so that the two weights add up to 1. By which?",
        "It is their sum, t s + (1 − t) = 1 + t (s − 1).",
        "t′ is the weight of z after the division: t s over this sum.",
    ),
    withhold=("autoencoders.scaled_time",),
    library=autoencoders.scaled_time,
    visible=[
        (torch.tensor([0.0, 0.13, 0.46, 0.81, 1.0]), 3.0),
        (0.37, 0.2),
        (times(4, dtype=DOUBLE), 0.7),
        (torch.tensor(0.62), 5),
        (0.28, 1.0),
    ],
    mistakes={
        "the numerator is t; the data were multiplied by s": lambda t, s: t / (1 + t * (s - 1)),
        "s and 1/s are exchanged": lambda t, s: (t / s) / (1 + t * (1 / s - 1)),
        "s was squared": lambda t, s: t * s**2 / (1 + t * (s**2 - 1)),
        "the root of s was taken": lambda t, s: t * s**0.5 / (1 + t * (s**0.5 - 1)),
        "t was multiplied by s; times have to stay between 0 and 1": lambda t, s: t * s,
        "t was divided by s": lambda t, s: t / s,
        "this is the sum of the weights; t′ is t s over it": lambda t, s: 1 + t * (s - 1),
        "this is 1 − t′, the weight of the noise": lambda t, s: 1 - t * s / (1 + t * (s - 1)),
        "t and 1 − t are exchanged below the line": lambda t, s: t * s / (1 + (1 - t) * (s - 1)),
        "t and 1 − t are exchanged": lambda t, s: (1 - t) * s / (1 + (1 - t) * (s - 1)),
        "parentheses are missing around what stands below the line": lambda t, s: t * s / 1 + t * (s - 1),
        "s and 1 are exchanged below the line": lambda t, s: t * s / (1 + t * (1 - s)),
        "parentheses are missing around s − 1": lambda t, s: t * s / (1 + t * s - 1),
        "t′ = t: the scale is not used": lambda t, s: t * 1,
        "below the line stands 1 + t s; it is t s + (1 − t)": lambda t, s: t * s / (1 + t * s),
    },
)
def scaled_time(t, scale):
    """Where the log-odds of signal and noise are those at t, and log s more."""
    expected = torch.sigmoid(torch.logit(torch.as_tensor(t)) + math.log(scale))
    return Case(
        f"the shifted time for s = {scale:g}", (t, scale), expected if isinstance(t, Tensor) else float(expected)
    )


# --- patches ----------------------------------------------------------------------------------------------------------


def cut(order=(0, 2, 4, 1, 3, 5), join=lambda parts: parts.flatten(3).flatten(1, 2)):
    """Patches whose axes (n, C, rows, p, columns, p) come in another order."""

    def patchify(x, size):
        n, c, h, w = x.shape
        return join(x.reshape(n, c, h // size, size, w // size, size).permute(order))

    return patchify


@lab.exercise(
    reread=("eq-patches", "what a patch is, above the exercise"),
    passed="a picture is a sentence",
    hints=(
        "A row number is p times the number of the patch plus the row within it. How does reshape split an axis so?",
        "reshape to (n, C, H/p, p, W/p, p): which two of the six axes number the patches?",
        "permute the six axes to (n, H/p, W/p, C, p, p), and reshape to (n, H/p · W/p, C p²).",
    ),
    withhold=("transformers.patchify",),
    library=transformers.patchify,
    visible=[((3, 2, 4, 6), 2), ((2, 1, 6, 3), 3), ((2, 3, 4, 8), 4, DOUBLE), ((1, 2, 3, 2), 1)],
    mistakes={
        "this is a plain reshape: each token holds neighbours in a row, not a patch": lambda x, p: x.reshape(
            len(x), -1, x.shape[1] * p * p
        ),
        "patches are numbered column by column; go row by row": cut((0, 4, 2, 1, 3, 5)),
        "within a patch the channels come last; they come first": cut((0, 2, 4, 3, 5, 1)),
        "within a patch rows and columns are exchanged": cut((0, 2, 4, 1, 5, 3)),
        "rows and columns are exchanged, of patches and within them": cut((0, 4, 2, 1, 5, 3)),
        "patches are numbered column by column, and channels come last": cut((0, 4, 2, 3, 5, 1)),
        "a token holds every (H/p)-th row and (W/p)-th column; it should hold p neighbours": lambda x, p: (
            x.reshape(len(x), x.shape[1], p, x.shape[2] // p, p, x.shape[3] // p)
            .permute(0, 3, 5, 1, 2, 4)
            .flatten(3)
            .flatten(1, 2)
        ),
        "tokens and their numbers are exchanged; (n, tokens, C p²) is wanted": lambda x, p: cut()(x, p).mT,
        "each channel of a patch became a token; all channels belong to one": lambda x, p: cut()(x, p).reshape(
            len(x), -1, p * p
        ),
        "the patches were not numbered in one axis: (n, H/p, W/p, C p²)": cut(join=lambda parts: parts.flatten(3)),
        "a token should be a row of numbers, C p² of them": cut(join=lambda parts: parts.flatten(1, 2)),
        "all images got the patches of the first": lambda x, p: cut()(x[:1].expand_as(x), p),
        "patches of all images are in one list; each image has its own": cut(
            join=lambda parts: parts.flatten(3).flatten(0, 2)
        ),
    },
)
def patchify(shape, size, dtype=torch.float32):
    x = states(91, *shape, dtype=dtype)
    expected = functional.unfold(x, size, stride=size).mT
    return Case(f"the array of tokens of images {shape} for patches of {size} × {size}", (x, size), expected)


def glued(order=(0, 3, 1, 4, 2, 5), grid=lambda c, h, w, p: (h // p, w // p, c, p, p)):
    """Tokens put back with their axes read, or put, in another order."""

    def unpatchify(tokens, size, shape):
        return tokens.reshape(len(tokens), *grid(*shape, size)).permute(order).reshape(len(tokens), *shape)

    return unpatchify


@lab.exercise(
    reread=("eq-patches", "what a patch is, above exercise `patchify`"),
    passed="the sentence is a picture again",
    hints=(
        "Take the steps of patchify backwards. What had the last reshape made of which axes?",
        "reshape to (n, H/p, W/p, C, p, p); the picture's axes are n, C, rows, columns.",
        "permute to (n, C, H/p, p, W/p, p), and reshape to (n, C, H, W).",
    ),
    withhold=("transformers.unpatchify",),
    library=transformers.unpatchify,
    visible=[((3, 2, 4, 6), 2), ((2, 3, 6, 3), 3), ((2, 2, 4, 8), 2, DOUBLE), ((1, 3, 3, 2), 1)],
    mistakes={
        "this is a plain reshape: the axes were not put back in order": lambda tokens, p, shape: tokens.reshape(
            len(tokens), *shape
        ),
        "patches were put down column by column; go row by row": glued(
            (0, 3, 2, 4, 1, 5), lambda c, h, w, p: (w // p, h // p, c, p, p)
        ),
        "a patch was read with its channels last; they come first": glued(
            (0, 5, 1, 3, 2, 4), lambda c, h, w, p: (h // p, w // p, p, p, c)
        ),
        "within a patch rows and columns are exchanged": glued((0, 3, 1, 5, 2, 4)),
        "the axes were exchanged as in patchify; that is not the way back": glued((0, 2, 4, 1, 3, 5)),
        "rows of a patch were put p rows apart; they are neighbours": glued((0, 3, 4, 1, 5, 2)),
        "H/p and W/p are exchanged": glued(grid=lambda c, h, w, p: (w // p, h // p, c, p, p)),
        "all images were made of the tokens of the first": lambda tokens, p, shape: glued()(
            tokens[:1].expand_as(tokens), p, shape
        ),
        "the channels were put last: (n, C, H, W) is wanted": lambda tokens, p, shape: glued()(
            tokens, p, shape
        ).movedim(1, -1),
    },
)
def unpatchify(shape, size, dtype=torch.float32):
    x = states(92, *shape, dtype=dtype)
    tokens = functional.unfold(x, size, stride=size).mT.contiguous()
    back = functional.fold(tokens.mT, shape[2:], size, stride=size)
    return Case(f"the batch of images {shape} from patches of {size} × {size}", (tokens, size, tuple(shape[1:])), back)


# --- attention --------------------------------------------------------------------------------------------------------


def attended(
    scale=lambda q, k, v: q.shape[-1] ** 0.5,
    weigh=lambda scores: scores.softmax(-1),
    answer=lambda weights, v: weights @ v,
):
    """Attention with scores divided by another number, or made into other weights."""
    return lambda q, k, v: answer(weigh(q @ k.mT / scale(q, k, v)), v)


@lab.exercise(
    reread=("eq-attention", "Vaswani et al. 2017, eq. 1, above the exercise"),
    passed="each query takes an average of the values",
    hints=(
        "q @ k.mT is the table of all products, a row for each query. Over which axis do weights have to sum to 1?",
        "Divide the table by √d, where d = q.shape[-1] is the length of a query.",
        "Take softmax(-1) of the table, and multiply it by v with @.",
    ),
    withhold=("transformers.attention",),
    library=transformers.attention,
    judge=judges.learning,
    visible=[
        ((2, 7, 9, 5, 3), 1.0),
        ((4, 4, 4, 4, 4), 0.7),
        ((3, 2, 5, 4, 6, 2), 1.3, DOUBLE),
        ((4, 6, 3, 2), 1.6),
        ((2, 3, 4, 6, 2), 0.8, DOUBLE, 900.0),
    ],
    mistakes={
        "the products were not divided by √d": attended(lambda q, k, v: 1),
        "the products were divided by d, not by its root": attended(lambda q, k, v: q.shape[-1]),
        "the products were multiplied by √d": attended(lambda q, k, v: q.shape[-1] ** -0.5),
        "√ of the number of keys; d is the length of a query": attended(lambda q, k, v: k.shape[-2] ** 0.5),
        "√ of the number of queries; d is the length of a query": attended(lambda q, k, v: q.shape[-2] ** 0.5),
        "√ of the length of a value; d is the length of a query": attended(lambda q, k, v: v.shape[-1] ** 0.5),
        "the softmax runs over the queries; the weights of each query should sum to 1": attended(
            weigh=lambda scores: scores.softmax(-2)
        ),
        "the softmax runs over queries and keys together": attended(
            weigh=lambda scores: scores.flatten(-2).softmax(-1).view(scores.shape)
        ),
        "there is no softmax": attended(weigh=lambda scores: scores),
        "a sigmoid took the place of the softmax: the weights do not sum to 1": attended(
            weigh=lambda scores: scores.sigmoid()
        ),
        "e^… was not divided by its sum": attended(weigh=lambda scores: (scores - scores.amax(-1, True)).exp()),
        "the products have the wrong sign": attended(weigh=lambda scores: (-scores).softmax(-1)),
        "the weights came back; they have to multiply v": attended(answer=lambda weights, v: weights),
        "all keys got the same weight": attended(weigh=lambda scores: (scores * 0).softmax(-1)),
        "the softmax came before the division by √d": lambda q, k, v: (q @ k.mT).softmax(-1) / q.shape[-1] ** 0.5 @ v,
    },
)
def attention(sizes, scale, dtype=torch.float32, far=0.0):
    """sizes: those before the last two axes, then queries, keys, their length, and the length of a value. far: how far
    all keys are moved, by which products become large; the answer stays, since they all grow alike."""
    *before, queries, keys, d, e = sizes
    q, k = given(93, *before, queries, d, dtype=dtype) * scale, given(94, *before, keys, d, dtype=dtype) + far
    v = given(95, *before, keys, e, dtype=dtype)
    expected = functional.scaled_dot_product_attention(q, k, v)
    what = f"the answer to {queries} queries and {keys} keys" + (" with large products" if far else "")
    return Case(what, (q, k, v), expected, weights=[q, k, v])


def heads_of(
    split=lambda part, heads: part.unflatten(-1, (heads, -1)).transpose(1, 2),
    merge=lambda each: each.transpose(1, 2).flatten(2),
    attend=transformers.attention,
    cut=lambda all: all.chunk(3, dim=-1),
    finish=lambda out, merged: out(merged),
):
    """Self-attention that splits, attends or merges otherwise."""

    def self_attention(x, qkv, out, heads):
        q, k, v = (split(part, heads) for part in cut(qkv(x)))
        return finish(out, merge(attend(q, k, v)))

    return self_attention


@lab.exercise(
    reread=("eq-heads", "self-attention with heads, above the exercise"),
    passed="every patch asks all patches, in several ways at once",
    hints=(
        "Follow the shapes: qkv(x) has 3 · size numbers for each token. Which of them are queries?",
        "Split the last axis into (heads, size/heads), and bring the heads before the tokens with transpose(1, 2).",
        "After transformers.attention take transpose(1, 2) again, flatten(2), and hand the result to out.",
    ),
    withhold=("transformers.self_attention", "transformers.SelfAttention.forward"),
    library=transformers.self_attention,
    judge=judges.learning,
    visible=[((3, 5, 6), 2), ((2, 4, 12), 3, DOUBLE), ((4, 4, 4), 4), ((1, 7, 10), 5), ((2, 3, 6), 1)],
    mistakes={
        "heads were read interleaved; each is a run of neighbouring numbers": heads_of(
            lambda part, heads: part.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)
        ),
        "the heads were merged without transposing back": heads_of(
            merge=lambda each: each.reshape(len(each), each.shape[2], -1)
        ),
        "each token asked its own heads, not the other tokens: transpose(1, 2) is missing": heads_of(
            lambda part, heads: part.unflatten(-1, (heads, -1)), merge=lambda each: each.flatten(2)
        ),
        "there is one head only": lambda x, qkv, out, heads: heads_of()(x, qkv, out, 1),
        "the products were divided by the root of size; d is that of a head, size/heads": heads_of(
            attend=lambda q, k, v: attended(lambda q, k, v: (q.shape[1] * q.shape[-1]) ** 0.5)(q, k, v)
        ),
        "the layer out is missing": heads_of(finish=lambda out, merged: merged),
        "queries and keys are exchanged": heads_of(attend=lambda q, k, v: transformers.attention(k, q, v)),
        "the order is queries, keys, values; here values come first": heads_of(
            cut=lambda all: [all.chunk(3, dim=-1)[k] for k in (1, 2, 0)]
        ),
        "queries and values are exchanged": heads_of(cut=lambda all: all.chunk(3, dim=-1)[::-1]),
        "keys and values are exchanged": heads_of(attend=lambda q, k, v: transformers.attention(q, v, k)),
        "two heads are written in; their number is given": lambda x, qkv, out, heads: heads_of()(
            x, qkv, out, math.gcd(2, x.shape[-1])
        ),
        "qkv was cut into heads first, and each head into query, key and value; the three come first": (
            lambda x, qkv, out, heads: heads_of(
                cut=lambda all: all.unflatten(-1, (heads, 3, -1)).movedim(-2, 0).flatten(-2)
            )(x, qkv, out, heads)
        ),
        "x was added at the end; that is the block's work": lambda x, qkv, out, heads: (
            x + heads_of()(x, qkv, out, heads)
        ),
        "heads were cut along the tokens, not along the numbers": heads_of(
            lambda part, heads: part.reshape(len(part), heads, part.shape[1], -1)
        ),
    },
)
def self_attention(shape, heads, dtype=torch.float32):
    size = shape[-1]
    qkv, out = linear(70, size, 3 * size, dtype), linear(72, size, size, dtype)
    x = given(96, *shape, dtype=dtype)
    theirs = nn.utils.skip_init(nn.MultiheadAttention, size, heads, batch_first=True, dtype=dtype)
    weights = {"in_proj_weight": qkv.weight, "in_proj_bias": qkv.bias, "out_proj.weight": out.weight}
    expected = torch.func.functional_call(theirs, weights | {"out_proj.bias": out.bias}, (x, x, x))[0]
    what = f"the array of tokens after {heads} head{'s' * (heads > 1)} for shape {tuple(shape)}"
    return Case(what, (x, qkv, out, heads), expected, weights=[x, qkv.weight, qkv.bias, out.weight, out.bias])


def linear(seed: int, ins: int, outs: int, dtype: torch.dtype, size: float = 0.5) -> nn.Linear:
    """A linear layer with weights that are always the same."""
    layer = nn.utils.skip_init(nn.Linear, ins, outs)
    for k, weight in enumerate(layer.parameters()):
        weight.data = size * states(seed + k, *weight.shape, dtype=dtype)
    return layer


# --- the rest of a transformer ----------------------------------------------------------------------------------------


def placed(
    rates=lambda k, size: 1e4 ** (-4 * k / size),
    put=lambda row, column: [row.sin(), row.cos(), column.sin(), column.cos()],
    number=lambda place: place,
    join=lambda parts: torch.cat(parts, dim=1),
):
    """Positions with other frequencies, numbers, or parts in another order."""

    def position_embedding(rows, columns, size):
        place = number(torch.cartesian_prod(torch.arange(rows), torch.arange(columns)))
        row, column = (part[:, None] * rates(torch.arange(size // 4), size) for part in place.T)
        return join(put(row, column)).float()

    return position_embedding


def numbers_of_places(answer, case):
    """A table of numbers, in whichever floating-point dtype: none is given that it could follow."""
    found = answer(*case.args)
    floating = isinstance(found, Tensor) and found.is_floating_point()
    yield Look(case.what, found.to(case.expected) if floating else found, case.expected)


@lab.exercise(
    reread=("eq-position", "the embedding of a place, above the exercise"),
    passed="every place has numbers of its own",
    hints=(
        "Make a list of all places, row by row: what are the row and the column of place number k?",
        "torch.cartesian_prod(torch.arange(rows), torch.arange(columns)) lists them; a column of rows times a row of "
        "frequencies is a table of angles.",
        "Join four tables along axis 1: sin and cos of the rows' angles, then sin and cos of the columns'.",
    ),
    withhold=("transformers.position_embedding",),
    library=transformers.position_embedding,
    judge=numbers_of_places,
    visible=[(3, 4, 8), (5, 2, 12), (1, 3, 4), (4, 4, 16)],
    mistakes={
        "the column comes first; the row should": placed(put=lambda r, c: [c.sin(), c.cos(), r.sin(), r.cos()]),
        "only the row was used, twice": placed(put=lambda r, c: [r.sin(), r.cos(), r.sin(), r.cos()]),
        "only the column was used, twice": placed(put=lambda r, c: [c.sin(), c.cos(), c.sin(), c.cos()]),
        "the order is sin, cos of the row, then of the column; here both sin come first": placed(
            put=lambda r, c: [r.sin(), c.sin(), r.cos(), c.cos()]
        ),
        "cosines come first; sines should": placed(put=lambda r, c: [r.cos(), r.sin(), c.cos(), c.sin()]),
        "rows and columns were counted from 1; count from 0": placed(number=lambda place: place + 1),
        "places are listed column by column; go row by row": lambda rows, columns, size: (
            placed()(rows, columns, size).view(rows, columns, size).transpose(0, 1).flatten(0, 1)
        ),
        "place number k was divided by the number of rows; a row has as many places as there are columns": (
            lambda rows, columns, size: placed(
                number=lambda place: torch.stack([torch.arange(len(place)) // rows, torch.arange(len(place)) % rows], 1)
            )(rows, columns, size)
        ),
        "the exponent is −4k/size: there are size/4 frequencies": placed(lambda k, size: 1e4 ** (-2 * k / size)),
        "the exponent lost its sign: frequencies grow": placed(lambda k, size: 1e4 ** (4 * k / size)),
        "k was counted from 1; the first frequency is 1": placed(lambda k, size: 1e4 ** (-4 * (k + 1) / size)),
        "all frequencies are 1": placed(lambda k, size: 1.0 * k**0),
        "the frequencies are those of the time, π(k + 1)": placed(lambda k, size: math.pi * (k + 1)),
        "the base is 1000; it is 10 000": placed(lambda k, size: 1000 ** (-4 * k / size)),
        "sines and cosines alternate; all sines of the rows come first": lambda rows, columns, size: (
            placed()(rows, columns, size).unflatten(1, (2, 2, -1)).mT.flatten(1)
        ),
        "the places were not listed in one axis: (rows · columns, size)": lambda rows, columns, size: placed()(
            rows, columns, size
        ).view(rows, columns, size),
        "row and column were added; each has its own half": placed(
            put=lambda r, c: [r.sin() + c.sin(), r.cos() + c.cos()] * 2
        ),
    },
)
def position_embedding(rows, columns, size):
    frequencies = [10_000 ** (-4 * k / size) for k in range(size // 4)]
    table = [
        [f(place * w) for place in (r, c) for f in (math.sin, math.cos) for w in frequencies]
        for r in range(rows)
        for c in range(columns)
    ]
    return Case(f"the embedding of {rows} × {columns} places", (rows, columns, size), torch.tensor(table))


def normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def block(
    modulate=lambda x, shift, scale: normed(x) * (1 + scale) + shift,
    add=lambda x, gate, part: x + gate * part,
    order=(0, 1, 2, 3, 4, 5),
    second=lambda x, h: h,
    spread=lambda m: m[:, None],
):
    """A block that modulates or adds otherwise, or reads the six vectors in another order."""

    def adaln_zero_block(x, c, modulation, attend, mlp):
        six = spread(modulation(c)).chunk(6, dim=-1)
        b1, a1, g1, b2, a2, g2 = (six[k] for k in order)
        h = add(x, g1, attend(modulate(x, b1, a1)))
        return add(second(x, h), g2, mlp(modulate(h, b2, a2)))

    return adaln_zero_block


@lab.exercise(
    reread=("eq-block", "the block, above the exercise"),
    passed="nothing at first, and then whatever is needed",
    hints=(
        "Cut modulation(c) into six vectors of each image. What shape multiplies tokens, (n, tokens, size)?",
        "modulation(c)[:, None].chunk(6, dim=-1) gives b₁, a₁, g₁, b₂, a₂, g₂, each (n, 1, size).",
        "h = x + g₁ · attend(LN(x)(1 + a₁) + b₁), and the same again for h, with mlp and the second three.",
    ),
    withhold=("transformers.adaln_zero_block", "transformers.Block.forward", "transformers.modulate"),
    library=transformers.adaln_zero_block,
    judge=judges.learning,
    visible=[((4, 4, 4), 3, 0.5), ((3, 5, 2), 4, 0.7, DOUBLE), ((1, 2, 8), 5, 0.5), ((2, 3, 4), 3, 0.0, DOUBLE)],
    mistakes={
        "a stands where 1 + a should: at zero nothing would come through": block(lambda x, b, a: normed(x) * a + b),
        "shift and scale are exchanged": block(order=(1, 0, 2, 4, 3, 5)),
        "the gate comes third: shift, scale, gate": block(order=(2, 0, 1, 5, 3, 4)),
        "shift and gate are exchanged": block(order=(2, 1, 0, 5, 4, 3)),
        "the second three vectors were used first": block(order=(3, 4, 5, 0, 1, 2)),
        "the first three vectors were used twice": block(order=(0, 1, 2, 0, 1, 2)),
        "the six vectors were read in turns, b₁, b₂, a₁, …; the first three belong to the attention": block(
            order=(0, 2, 4, 1, 3, 5)
        ),
        "the gate stands inside the branch; it multiplies what the branch gives": lambda x, c, m, attend, mlp: (
            gates_inside(x, m(c)[:, None].chunk(6, dim=-1), attend, mlp)
        ),
        "c went through silu before the modulation, which may do that itself": lambda x, c, m, attend, mlp: block()(
            x, functional.silu(c), m, attend, mlp
        ),
        "the gates are missing": block(add=lambda x, g, part: x + part),
        "the gate multiplies x as well; it belongs to the branch alone": block(add=lambda x, g, part: g * (x + part)),
        "1 + g stands where g should: the block does not start as the identity": block(
            add=lambda x, g, part: x + (1 + g) * part
        ),
        "x was not added to its branches": block(add=lambda x, g, part: g * part),
        "the mlp's branch was added to x; it is added to h": block(second=lambda x, h: x),
        "the tokens were not normalised": block(lambda x, b, a: x * (1 + a) + b),
        "the norm came after scale and shift": block(lambda x, b, a: normed(x * (1 + a) + b)),
        "the shift is missing": block(lambda x, b, a: normed(x) * (1 + a) + 0 * b),
        "the scale is missing": block(lambda x, b, a: normed(x) + b + 0 * a),
        "the shift was multiplied by 1 + a, too": block(lambda x, b, a: (normed(x) + b) * (1 + a)),
        "the norm divides by torch's std, which has n − 1 below the line; layer_norm has n": block(
            lambda x, b, a: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * (1 + a) + b
        ),
        "the norm was taken over all tokens of an image; each token is normalised by itself": block(
            lambda x, b, a: functional.layer_norm(x, x.shape[1:]) * (1 + a) + b
        ),
        "both branches start from x; the second starts from h": lambda x, c, modulation, attend, mlp: side_by_side(
            x, modulation(c)[:, None].chunk(6, dim=-1), attend, mlp
        ),
        "attend and mlp are exchanged": lambda x, c, modulation, attend, mlp: block()(x, c, modulation, mlp, attend),
        "the vectors were spread along the images; each image has its own": block(spread=lambda m: m),
    },
)
def adaln_zero_block(shape, features, weight, dtype=torch.float32):
    """weight: the size of the modulation's weights; at 0 the block is the identity, and only its gates learn."""
    n, tokens, size = shape
    modulation = linear(74, features, 6 * size, dtype, weight)
    mix, mlp = linear(76, tokens, tokens, dtype), linear(78, size, size, dtype)
    x, c = given(97, *shape, dtype=dtype), given(98, n, features, dtype=dtype)

    def attend(x):
        """A layer in which tokens meet."""
        return mix(x.mT).mT.tanh()

    six = [part.reshape(n, 1, size) for part in torch.split(modulation(c), size, dim=1)]
    expected = x
    for layer, (shift, scale, gate) in (attend, six[:3]), (mlp, six[3:]):
        centred = expected - expected.mean(-1, keepdim=True)
        standard = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        expected = torch.addcmul(expected, gate, layer(standard + scale * standard + shift))
    what = f"the array of tokens for shape {tuple(shape)}" + (" with a modulation of zeros" if not weight else "")
    return Case(what, (x, c, modulation, attend, mlp), expected, weights=[x, *modulation.parameters()])


def gates_inside(x, six, attend, mlp):
    b1, a1, g1, b2, a2, g2 = six
    h = x + attend(g1 * (normed(x) * (1 + a1) + b1))
    return h + mlp(g2 * (normed(h) * (1 + a2) + b2))


def side_by_side(x, six, attend, mlp):
    """Both branches from the same tokens."""
    b1, a1, g1, b2, a2, g2 = six
    first, second = attend(normed(x) * (1 + a1) + b1), mlp(normed(x) * (1 + a2) + b2)
    return x + g1 * first + g2 * second


# --- two requests -----------------------------------------------------------------------------------------------------


class TwoLabels(nn.Module):
    """A network u(x, t, y, s) of two labels, with a product of both, so that each changes what the other does.

    As the library's networks it takes t as a number, of shape () or (n,), and labels, whole numbers, one or (n,).
    """

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.3, -0.4, 0.15], dtype=dtype))
        a, b, c = self.weights.detach()
        self.field = Field(
            lambda x, t, y, s: torch.sin(x.roll(1, -1) + a * t) + b * (y * x - t) + c * s * (1 + y) * x.cos()
        )

    def forward(self, x, t, y, s):
        return self.field(x, t, y, s)


def mixed(put=lambda n, y, s, b, w, v: n + w * (y - n) + v * (b - y), time=lambda t: t):
    """A field put together otherwise from those of no label, of y alone, of s alone, and of both."""

    def doubly_guided_vector_field(u, y, s, w, v, no_y, no_s):
        def field(x, t):
            asked = [u(x, time(t), *labels) for labels in ((no_y, no_s), (y, no_s), (no_y, s), (y, s))]
            return put(*asked, w, v)

        return field

    return doubly_guided_vector_field


@lab.exercise(
    reread=("eq-two", "Brooks et al. 2023, eq. 3, above the exercise"),
    passed="two requests, each as loud as you like",
    hints=(
        "Which three fields does the equation need, and with which labels is u called for each of them?",
        "u(x, t, no_y, no_f), u(x, t, y, no_f) and u(x, t, y, f).",
        "Start from the first; add w times the step to the second, and v times the step from the second to the third.",
    ),
    withhold=("guidance.doubly_guided_vector_field", "guidance.guided_vector_field"),
    library=guidance.doubly_guided_vector_field,
    judge=judges.function,
    visible=[
        ((5, 2), 0.3, torch.tensor([0, 1, 2, 1, 0]), 3, 2.5, 1.7, 4, 6),
        ((4, 1, 2, 3), times(4), 3, torch.tensor([2, 0, 1, 1]), -0.7, 0.4, 6, 4),
        ((1, 3), torch.tensor(0.8, dtype=DOUBLE), 2, 1, 1.6, 3.1, 5, 3, DOUBLE),
    ],
    mistakes={
        "w and v are exchanged": mixed(lambda n, y, s, b, w, v: n + v * (y - n) + w * (b - y)),
        "the second step starts at the field without any label; it goes from y alone to both": mixed(
            lambda n, y, s, b, w, v: n + w * (y - n) + v * (b - n)
        ),
        "the second step is that of f alone; y has to be shown as well": mixed(
            lambda n, y, s, b, w, v: n + w * (y - n) + v * (s - n)
        ),
        "the order is y first, then f: here f came first": mixed(
            lambda n, y, s, b, w, v: n + v * (s - n) + w * (b - s)
        ),
        "the field without labels is missing: only the two steps are there": mixed(
            lambda n, y, s, b, w, v: w * (y - n) + v * (b - y)
        ),
        "the step to both labels is missing": mixed(lambda n, y, s, b, w, v: n + w * (y - n)),
        "the step to y is missing": mixed(lambda n, y, s, b, w, v: n + v * (b - y)),
        "w and v are counted from 0; at 1 there is no guidance": mixed(
            lambda n, y, s, b, w, v: n + (1 + w) * (y - n) + (1 + v) * (b - y)
        ),
        "the two null labels are exchanged": lambda u, y, s, w, v, no_y, no_s: mixed()(u, y, s, w, v, no_s, no_y),
        "both labels were guided together, with w": mixed(lambda n, y, s, b, w, v: n + w * (b - n)),
        "both labels were guided together, with v": mixed(lambda n, y, s, b, w, v: n + v * (b - n)),
        "both labels were guided together, with w v": mixed(lambda n, y, s, b, w, v: n + w * v * (b - n)),
        "both labels were guided together, with w + v": mixed(lambda n, y, s, b, w, v: n + (w + v) * (b - n)),
        "all points were given the first label": lambda u, y, *others: mixed()(
            u, int(torch.as_tensor(y).flatten()[0]), *others
        ),
        "neither scale is used: this is the field of both labels": mixed(lambda n, y, s, b, w, v: b * 1),
        "it starts from the field of y, as if w were counted from 0": mixed(
            lambda n, y, s, b, w, v: y + w * (y - n) + v * (b - y)
        ),
        "the step to y has the wrong sign": mixed(lambda n, y, s, b, w, v: n - w * (y - n) + v * (b - y)),
        "the step to both labels has the wrong sign": mixed(lambda n, y, s, b, w, v: n + w * (y - n) - v * (b - y)),
        "the fields were asked at the time 1 − t": mixed(time=lambda t: 1 - t),
        "y and f are exchanged in the calls": lambda u, y, s, w, v, no_y, no_s: mixed()(
            lambda x, t, a, b: u(x, t, b, a), y, s, w, v, no_y, no_s
        ),
    },
)
def doubly_guided_vector_field(shape, t, y, s, w, v, no_y, no_s, dtype=torch.float32):
    """The sum of three fields, each with the weight that the equation gives it."""
    u, x = TwoLabels(dtype), states(99, *shape, dtype=dtype)
    weighted = [((no_y, no_s), 1 - w), ((y, no_s), w - v), ((y, s), v)]
    expected = sum(weight * u.field.value(x, t, *labels) for labels, weight in weighted)
    what = f"the guided field at w = {w:g} and v = {v:g} for shape {shape}"
    others = (u, y + 1, s, w - 1, v + 1, no_y + 2, no_s)
    return Case(what, (u, y, s, w, v, no_y, no_s), calls=[(what, (x, t), expected)], others=others)
