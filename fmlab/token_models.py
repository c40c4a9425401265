"""Networks for tokens: logits of what each token is, from what can be seen of the others.

A network is called as model(x, t) or model(x, t, y) with x: (n, D), symbols 0 … K − 1 and the mask K, and y: labels,
whole numbers, one or (n,). It returns logits (n, D, K). The time is taken and not used: with masks, what is revealed
says all that t does [Sahoo et al. 2024]. A network with labels knows one more, `null_label`, used where y is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from fmlab import extras
from fmlab.values import precise

# How the networks of lab 9 are trained; the benchmark `tokens` trains as the notebook does.
SUMS = {"steps": 4000, "batch": 256, "lr": 4e-3}
COLOURS = {"steps": 1200, "batch": 128, "lr": 5e-3, "drop": 0.15, "temperature": 0.5}


class TokenMLP(nn.Module):
    """An MLP for sentences of few tokens, each at a place of its own.

    size: K. places: D. width: of `depth` layers after the embedding, all but the first residual.
    """

    def __init__(self, size: int, places: int, width: int = 256, depth: int = 3, features: int = 16):
        super().__init__()
        self.size, self.places = size, places
        self.embed = nn.Embedding(size + 1, features)
        self.enter = nn.Linear(places * features, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.leave = nn.Linear(width, places * size)

    def forward(self, x: Tensor, t=None) -> Tensor:
        h = gelu(self.enter(self.embed(x).flatten(1)))
        for layer in self.layers:
            h = h + gelu(layer(h))
        return self.leave(h).reshape(*x.shape, self.size)


class TokenConv(nn.Module):
    """Residual convolutions along a sentence, for words: the same letters mean the same at other places.

    size: K. places: D. labels: how many there are. reach: how many neighbouring tokens a layer sees.
    """

    def __init__(
        self, size: int, places: int, labels: int | None = None, width: int = 64, depth: int = 3, reach: int = 5
    ):
        super().__init__()
        self.size, self.places, self.null_label = size, places, labels
        self.embed, self.place = nn.Embedding(size + 1, width), nn.Parameter(torch.randn(places, width))
        self.label = None if labels is None else nn.Embedding(labels + 1, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, reach, padding=reach // 2) for _ in range(depth))
        self.leave = nn.Linear(width, size)

    def forward(self, x: Tensor, t=None, y=None) -> Tensor:
        h = self.embed(x) + self.place
        if self.label is not None:
            y = torch.as_tensor(self.null_label if y is None else y, device=x.device)
            h = h + self.label(y.expand(len(x)))[:, None]
        elif y is not None:
            raise ValueError("this network knows no labels; build it with labels=… (the number of classes)")
        h = h.mT
        for layer in self.layers:
            h = h + gelu(layer(h))
        return self.leave(h.mT)


def denoiser(model: Callable, y=None, temperature: float = 1.0) -> Callable:
    """The probabilities of a network, (x, t) ↦ softmax(logits/T), in double precision, without gradients.

    temperature: T > 0; below 1 likely symbols become likelier.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")

    @torch.no_grad()
    def probs(x: Tensor, t=None) -> Tensor:
        logits = model(x, t) if y is None else model(x, t, y)
        return (precise(logits) / temperature).softmax(-1)

    return probs


def stratified(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n rising times, one at random in each of n equal parts of [0, 1): (n,). A batch of them is less noisy."""
    return (torch.arange(n) + torch.rand(n, generator=generator)) / n


def hue_reader(names: Sequence[str], hues: Sequence[int]) -> Callable[[Sequence[str]], Tensor]:
    """A judge that reads a hue in a name, by its parts of one to four letters; it has learned from names and hues."""
    with extras.needed("a reader of hues"):
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

    judge = make_pipeline(
        CountVectorizer(analyzer="char_wb", ngram_range=(1, 4)), LogisticRegression(C=1, max_iter=500)
    )
    judge.fit(list(names), [int(hue) for hue in hues])
    return lambda names: torch.as_tensor(judge.predict(list(names)))
