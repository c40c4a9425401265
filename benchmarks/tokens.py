"""What the two networks of lab 9 reach, trained as its notebook trains them; medians of three seeds."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.measure import Numbers, at_least, at_most, medians, targets
from fmlab import token_datasets, token_models
from fmlab.checks import lab9
from fmlab.sentences import guided_probs, masked_cross_entropy
from fmlab.token_laws import estimated_bound
from fmlab.tokens import TokenPath
from fmlab.training import train

SUMS = token_datasets.sums()


@targets(
    at_most("held-out bound, nats", 9.55, "one"),
    at_least("right, a digit per call", 0.90, "one"),
    at_most("right, in one call", 0.02, "one"),
    at_least("right, two digits per call", 0.55, "one"),
    at_most("right, two digits per call", 0.68, "one"),
    at_least("held-out sums completed", 0.99, "one"),
    at_least("held-out differences completed", 0.99, "one"),
    at_least("new among the right ones", 0.40, "one"),
    at_most("new among the right ones", 0.55, "one"),
    at_most("CPU seconds of training", 30, "one"),
)
def sums(quick: bool) -> Numbers:
    """The network of lab 9 that writes sums, after 4000 steps on half of them, median of three seeds"""
    return medians(sums_of_a_seed, quick)


@targets(
    at_most("hue read, w = 0", 0.20, "one"),
    at_least("hue read, w = 1", 0.45, "one"),
    at_least("hue read, w = 2", 0.70, "one"),
    at_most("bound with the hue", 1, "bound without the hue"),
    at_most("CPU seconds of training", 30, "one"),
)
def colours(quick: bool) -> Numbers:
    """The network of lab 9 that invents names of colours, after 1200 steps, median of three seeds"""
    return medians(colours_of_a_seed, quick)


def sums_of_a_seed(seed: int, quick: bool) -> Numbers:
    settings, path = token_models.SUMS, TokenPath(10)
    learned, held_out = token_datasets.halves(SUMS)
    n = settings["batch"]

    def loss(model):
        t = token_models.stratified(n)
        z = learned[torch.randint(len(learned), (n,))]
        return masked_cross_entropy(model, path, z, t, torch.rand(n, 7))

    torch.manual_seed(seed)
    network, begin = token_models.TokenMLP(10, 7), time.process_time()
    train(network, loss, steps=50 if quick else settings["steps"], lr=settings["lr"])
    seconds, ask = time.process_time() - begin, token_models.denoiser(network)
    if quick:
        held_out = held_out[:200]
    written = {k: write(ask, torch.full((200 if quick else 4000, 7), 10), 10, k, seed) for k in (7, 2, 1)}
    right = {k: token_datasets.is_sum(x) for k, x in written.items()}
    new = (written[1][right[1]][:, None] == token_datasets.halves(SUMS)[1]).all(-1).any(1).double()
    return {
        "CPU seconds of training": seconds,
        "held-out bound, nats": estimated_bound(ask, held_out, 10),
        "right, a digit per call": float(right[1].double().mean()),
        "right, two digits per call": float(right[2].double().mean()),
        "right, in one call": float(right[7].double().mean()),
        "new among the right ones": float(new.mean()) if len(new) else 0.0,
        "held-out sums completed": completed(ask, held_out, [4, 5, 6]),
        "held-out differences completed": completed(ask, held_out, [2, 3]),
    }


def colours_of_a_seed(seed: int, quick: bool) -> Numbers:
    settings, mask = token_models.COLOURS, len(token_datasets.LETTERS)
    path, none, n = TokenPath(mask), len(token_datasets.HUES), settings["batch"]
    names, unseen = token_datasets.ColourNames(), token_datasets.ColourNames(train=False)

    def loss(model):
        drawn, t = torch.randint(len(names.z), (n,)), token_models.stratified(n)
        y = torch.where(torch.rand(n) < settings["drop"], none, names.y[drawn])
        uniform = torch.rand(n, token_datasets.PLACES)
        return masked_cross_entropy(lambda x, t: model(x, t, y), path, names.z[drawn], t, uniform)

    torch.manual_seed(seed)
    network, begin = token_models.TokenConv(mask, token_datasets.PLACES, labels=none), time.process_time()
    train(network, loss, steps=20 if quick else settings["steps"], lr=settings["lr"])
    seconds, read = time.process_time() - begin, token_models.hue_reader(names.names, names.y)
    asked = torch.arange(none).repeat(2 if quick else 60)
    free, told = (token_models.denoiser(network, y, settings["temperature"]) for y in (None, asked))
    found: Numbers = {"CPU seconds of training": seconds}
    for w in (0, 1, 2):
        start = torch.full((len(asked), token_datasets.PLACES), mask)
        x = write(lambda x, w=w: guided_probs(told(x), free(x), w), start, mask, 1, seed)
        hits = read([token_datasets.name_of(row) for row in x]) == asked
        found[f"hue read, w = {w}"] = float(hits.double().mean())
    for name, y in (("with", unseen.y), ("without", None)):
        found[f"bound {name} the hue"] = estimated_bound(token_models.denoiser(network, y), unseen.z, mask)
    return found | {"hue read, real names": float((read(unseen.names) == unseen.y).double().mean())}


def write(ask: Callable, x: Tensor, mask: int, per_call: int, seed: int) -> Tensor:
    """Masks filled in, in an order drawn by chance for each sentence."""
    generator = torch.Generator().manual_seed(seed)
    order, pick = torch.rand(2, *x.shape, dtype=torch.float64, generator=generator)
    return lab9.sample_in_order.library(ask, x, order.argsort(1), per_call, mask, pick)


def completed(ask: Callable, z: Tensor, hidden: list[int]) -> float:
    """How many sums are found from the rest of them, digit by digit, with the likeliest ones."""
    x = z.clone()
    x[:, hidden] = 10
    found = write(lambda x: one_hot(ask(x).argmax(-1), 10).double(), x, 10, 1, seed=0)
    return float((found == z).all(1).double().mean())
