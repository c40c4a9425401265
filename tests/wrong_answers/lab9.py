"""Wrong answers to lab 9 beside the mistakes on its cards: of another kind, or short of what the docstring promises.

exercise → name → (answer, words that the verdict must contain).
"""

import torch
from torch.nn.functional import one_hot

from fmlab import jumps


def draw(probs, uniform):
    ends = probs.double().cumsum(-1)
    return (ends <= uniform[..., None] * ends[..., -1:]).sum(-1)


def jump(rates, x, hold, pick):
    return torch.log1p(-hold) / rates.diagonal()[x], draw(rates[x].clamp(min=0), pick)


def mask_out(z, kappa, mask, uniform):
    return torch.where(uniform < torch.as_tensor(kappa).reshape(-1, 1), z, mask)


def corrupt_in_place(z, kappa, mask, uniform):
    z[uniform >= torch.as_tensor(kappa).reshape(-1, 1)] = mask
    return z


def towards(target, x, kappa, kappa_dot, shape=(-1, 1, 1)):
    hazard = torch.as_tensor(kappa_dot / (1 - kappa)).reshape(shape)
    return hazard.to(target) * (target - one_hot(x, target.shape[-1]))


def counted(x, table, mask):
    matches = (x[:, None] == table).sum(-1)
    kept = (matches == matches.amax(1, keepdim=True)).double()
    probs = kept @ one_hot(table, mask).flatten(1).double() / kept.sum(1, keepdim=True)
    return probs.reshape(*x.shape, mask)


def reveal(x, probs, kappa, later, mask, uniform, pick):
    turns = (uniform < (later - kappa) / (1 - kappa)) & (x == mask)
    return torch.where(turns, jumps.draw(probs, pick), x)


def reveal_in_place(x, probs, kappa, later, mask, uniform, pick):
    x.copy_(reveal(x, probs, kappa, later, mask, uniform, pick))
    return x


def fill(denoiser, x, order, per_call, mask, pick, ask=lambda denoiser, x: denoiser(x)):
    for places in order.split(per_call, dim=1):
        drawn = jumps.draw(ask(denoiser, x), pick)
        chosen = torch.zeros_like(x, dtype=torch.bool).scatter(1, places, True)
        x = torch.where(chosen & (x == mask), drawn, x)
    return x


def fill_by_rank(denoiser, x, order, per_call, mask, pick):
    """Cut into calls along with the order, as if pick[:, j] belonged to the place that comes j-th."""
    for places, numbers in zip(order.split(per_call, dim=1), pick.split(per_call, dim=1)):
        probs = denoiser(x).gather(1, places[..., None].expand(-1, -1, mask))
        drawn, old = jumps.draw(probs, numbers), x.gather(1, places)
        x = x.scatter(1, places, torch.where(old == mask, drawn, old))
    return x


def fill_asking_twice(denoiser, x, *args):
    return fill(denoiser, x, *args, ask=lambda denoiser, x: (denoiser(x) + denoiser(x)) / 2)


def fill_in_place(denoiser, x, *args):
    x.copy_(fill(denoiser, x.clone(), *args))
    return x


def loss(model, z, kappa, kappa_dot, mask, uniform, total=lambda each: each.sum(1), mean=torch.mean, ask=lambda u: u):
    x = torch.where(uniform < kappa[:, None], z, mask)
    surprise = -ask(model(x)).log_softmax(-1).gather(-1, z[..., None])[..., 0]
    return mean(kappa_dot / (1 - kappa) * total(surprise * (x == mask)))


def likelihood(denoiser, z, order, mask, total=lambda terms: terms.sum(1)):
    x, terms = torch.full_like(z, mask), []
    for place in order.tolist():
        terms.append(denoiser(x)[:, place].gather(1, z[:, place, None])[:, 0].log())
        x = torch.where(torch.arange(z.shape[1]) == place, z, x)
    return total(torch.stack(terms, 1))


def likelihood_in_place(denoiser, z, order, mask):
    """The masks are written over the sentences themselves."""
    x, total = z, 0.0
    x[:] = mask
    for place in order.tolist():
        total = total + denoiser(x)[:, place].gather(1, z[:, place, None])[:, 0].log()
    return total


def loss_in_place(model, z, kappa, kappa_dot, mask, uniform):
    z[uniform >= kappa[:, None]] = mask
    surprise = -model(z).log_softmax(-1).gather(-1, z[..., None])[..., 0]
    return (kappa_dot / (1 - kappa) * (surprise * (z == mask)).sum(1)).mean()


def likelihood_of_one_hot(denoiser, z, order, mask):
    """The network is shown one-hot rows instead of symbols."""
    return likelihood(lambda x: denoiser(one_hot(x, mask + 1).double().flatten(1)), z, order, mask)


def back_and_forth(probs, x, kappa):
    mask = probs.shape[-1]
    odds = torch.as_tensor(kappa / (1 - kappa)).reshape(-1, 1, 1).to(probs)
    here, back = one_hot(x, mask + 1), one_hot(torch.full_like(x, mask), mask + 1).to(probs)
    padded = torch.cat([probs, torch.zeros_like(probs[..., :1])], -1)
    return torch.where((x == mask)[..., None], odds * (padded - here), back - here)


def guided(conditional, unconditional, w):
    return (w * conditional.log() + (1 - w) * unconditional.log()).softmax(-1)


WRONG = {
    "draw_tokens": {
        "by torch's own numbers": (
            lambda p, u: torch.multinomial(p.reshape(-1, p.shape[-1]), 1)[:, 0],
            "random numbers",
        ),
        "as floats": (lambda p, u: draw(p, u).double(), "symbols are whole numbers"),
        "without .double()": (
            lambda p, u: (p.cumsum(-1) <= u[..., None] * p.sum(-1, keepdim=True)).sum(-1),
            "computed in single precision",
        ),
        "u in single precision": (lambda p, u: draw(p, u.float()), "computed in single precision"),
        "all in single precision": (
            lambda p, u: (p.float().cumsum(-1) <= u.float()[..., None] * p.float().sum(-1, keepdim=True)).sum(-1),
            "computed in single precision",
        ),
        "as one-hot rows": (lambda p, u: one_hot(draw(p, u), p.shape[-1]), "should have shape"),
        "two axes alone": (
            lambda p, u: torch.stack([draw(a, b) for a, b in zip(p, u, strict=True)]),
            "raised TypeError",
        ),
        "right ends alone": (lambda p, u: p.cumsum(-1), "should have shape"),
        "which are passed": (lambda p, u: p.double().cumsum(-1) <= u[..., None], "should have shape"),
    },
    "rate_step": {
        "one row alone": (lambda p, q, h: p + h * torch.einsum("x,xy->y", p, q), "raised RuntimeError"),
        "rows alone": (lambda p, q, h: torch.stack([row + h * row @ q for row in p]), "raised RuntimeError"),
        "in place": (lambda p, q, h: p.add_(h * p @ q), "changed a tensor"),
        "an h that is a number alone": (lambda p, q, h: p + h.real * p @ q if isinstance(h, float) else None, "None"),
        "single precision": (lambda p, q, h: (p + h * p @ q).float(), "dtype torch.float64"),
    },
    "next_jump": {
        "the time alone": (lambda *args: jump(*args)[0], "2 values in this order"),
        "its own numbers": (lambda q, x, hold, pick: jump(q, x, torch.rand_like(hold), pick), "random numbers"),
        "states as floats": (lambda *args: (jump(*args)[0], jump(*args)[1].double()), "dtype torch.int64"),
        "one state": (lambda q, x, hold, pick: jump(q, x[:1], hold[:1], pick[:1]), "should have shape"),
        "times in single precision": (lambda *args: (jump(*args)[0].float(), jump(*args)[1]), "dtype torch.float64"),
        "three states alone": (lambda q, x, hold, pick: jump(q[:3, :3], x.clamp(max=2), hold, pick), ""),
    },
    "corrupt": {
        "in place": (corrupt_in_place, "changed a tensor"),
        "which are kept": (lambda z, k, m, u: u < torch.as_tensor(k).reshape(-1, 1), "dtype torch.int64"),
        "one κ alone": (lambda z, k, m, u: torch.where(u < k, z, m), "spread along its tokens"),
        "a κ for each sentence alone": (lambda z, k, m, u: mask_out(z, k[:, None], m, u), "raised TypeError"),
        "new numbers": (lambda z, k, m, u: mask_out(z, k, m, torch.rand_like(u)), "random numbers"),
        "long tokens": (lambda *args: mask_out(*args).long(), "dtype torch.int"),
        "taken out": (lambda z, k, m, u: z[u < torch.as_tensor(k).reshape(-1, 1)], "should have shape"),
    },
    "jump_rate": {
        "one κ alone": (lambda t, x, k, d: d / (1 - k) * (t - one_hot(x, t.shape[-1])), "spread along the symbols"),
        "κ spread along the tokens": (lambda *args: towards(*args, shape=(1, -1, 1)), "spread along the tokens"),
        "a κ for each sentence alone": (lambda t, x, k, d: towards(t, x, k[:, None, None], d), "raised TypeError"),
        "without the mask": (lambda t, x, k, d: towards(t, x, k, d)[..., :-1], "should have shape"),
        "single precision": (lambda *args: towards(*args).float(), "dtype torch.float64"),
        "double precision": (lambda t, *args: towards(t.double(), *args), "dtype torch.float32"),
    },
    "posterior": {
        "with the mask": (
            lambda x, t, m: torch.cat([counted(x, t, m), torch.zeros(*x.shape, 1).double()], -1),
            "should have shape",
        ),
        "of sentences": (lambda x, t, m: (x[:, None] == t).sum(-1).double().softmax(1), "should have shape"),
        "single precision": (lambda *args: counted(*args).float(), "dtype torch.float64"),
        "one row at a time": (lambda x, t, m: counted(x[:1], t, m), "should have shape"),
        "symbols": (lambda *args: counted(*args).argmax(-1), "should have shape"),
        "a hundredth too large": (lambda *args: 1.01 * counted(*args), "nearly right"),
    },
    "reveal_step": {
        "in place": (reveal_in_place, "changed a tensor"),
        "new numbers": (lambda x, p, k, s, m, u, v: reveal(x, p, k, s, m, torch.rand_like(u), v), "random numbers"),
        "as floats": (lambda *args: reveal(*args).double(), "symbols are whole numbers"),
        "drawn in single precision": (
            lambda x, p, k, s, m, u, v: torch.where(
                (u < (s - k) / (1 - k)) & (x == m), (p.cumsum(-1) <= v[..., None] * p.sum(-1, keepdim=True)).sum(-1), x
            ),
            "computed in single precision",
        ),
        "which turn": (lambda x, p, k, s, m, u, v: (u < (s - k) / (1 - k)) & (x == m), "dtype torch.int64"),
        "the mask is 5": (lambda x, p, k, s, m, u, v: reveal(x, p, k, s, 5, u, v), ""),
    },
    "sample_in_order": {
        "in place": (fill_in_place, "changed a tensor"),
        "by rank": (fill_by_rank, "pick[:, i] belongs to place i"),
        "asked twice": (fill_asking_twice, "the denoiser was asked"),
        "new numbers": (
            lambda d, x, o, k, m, pick: fill(d, x, o, k, m, torch.rand_like(pick)),
            "random numbers",
        ),
        "all states": (lambda *args: [fill(*args)], "should be a tensor"),
        "as floats": (lambda *args: fill(*args).double(), "dtype torch.int64"),
        "one order of shape (D,)": (lambda d, x, o, *args: fill(d, x, o[0].expand_as(o), *args), "order of the first"),
    },
    "masked_cross_entropy": {
        "one per sentence": (lambda *args: loss(*args, mean=lambda each: each), "one number"),
        "in place": (loss_in_place, "changed a tensor"),
        "a float": (lambda *args: float(loss(*args).detach()), "no gradient reaches"),
        "logits detached": (lambda *args: loss(*args, ask=torch.Tensor.detach), "no gradient reaches"),
        "half detached": (lambda *args: (loss(*args) + loss(*args).detach()) / 2, "the gradient of the loss"),
        "new masks": (lambda u, z, k, d, m, r: loss(u, z, k, d, m, torch.rand_like(r)), "random numbers"),
        "the time, too": (lambda u, *args: loss(lambda x: u(x, args[1]), *args), "raised TypeError"),
        "one-hot sentences": (
            lambda u, *args: loss(lambda x: u(one_hot(x, args[3] + 1)), *args),
            "whole numbers of shape",
        ),
        "a guard in the logarithm": (
            lambda *args: loss(*args, ask=lambda logits: (logits.softmax(-1) + 1e-3).log()),
            "nearly right",
        ),
    },
    "any_order_log_likelihood": {
        "in place": (likelihood_in_place, "changed a tensor"),
        "each term": (lambda *args: likelihood(*args, total=lambda terms: terms), "should have shape"),
        "one number": (lambda *args: likelihood(*args).mean(), "should have shape"),
        "one-hot sentences": (likelihood_of_one_hot, "whole numbers of shape"),
        "single precision": (lambda *args: likelihood(*args).float(), "dtype torch.float64"),
        "five places alone": (lambda d, z, order, m: likelihood(d, z, order[:5], m), ""),
    },
    "corrector_rate": {
        "without the mask": (lambda *args: back_and_forth(*args)[..., :-1], "should have shape"),
        "single precision": (lambda *args: back_and_forth(*args).float(), "dtype torch.float64"),
        "κ as a number alone": (lambda p, x, k: back_and_forth(p, x, float(k)), "raised RuntimeError"),
        "twice": (lambda *args: 2 * back_and_forth(*args), "is 2 times what it should be"),
        "κ of ½": (lambda p, x, k: back_and_forth(p, x, 0.5), "both ways have the same rate"),
    },
    "guided_probs": {
        "single precision": (lambda *args: guided(*args).float(), "dtype torch.float64"),
        "over the first axis": (lambda c, u, w: (w * c.log() + (1 - w) * u.log()).softmax(0), "another axis"),
        "w = 2 alone": (lambda c, u, w: guided(c, u, 2.0), ""),
        "symbols": (lambda *args: guided(*args).argmax(-1), "should have shape"),
    },
}
