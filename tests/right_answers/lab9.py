"""Right answers to lab 9 in other styles than the solution's: loops, NumPy, einsum, other algebra, the library."""

import bisect
import math

import numpy as np
import torch
from torch.nn import functional
from torch.nn.functional import one_hot

from fmlab import jumps, tokens


def draw_by_search(probs, uniform):
    ends = probs.double().cumsum(-1)
    return torch.searchsorted(ends, (uniform * ends[..., -1])[..., None].contiguous(), right=True)[..., 0]


def draw_by_numpy(probs, uniform):
    ends = np.cumsum(probs.numpy().astype("float64"), axis=-1)
    return torch.as_tensor((ends <= uniform.numpy()[..., None] * ends[..., -1:]).sum(-1))


def draw_by_bisection(probs, uniform):
    rows = probs.double().reshape(-1, probs.shape[-1])
    found = []
    for row, number in zip(rows, uniform.flatten().tolist()):
        ends = row.cumsum(0).tolist()
        found.append(bisect.bisect_right(ends, number * ends[-1]))
    return torch.tensor(found).reshape(uniform.shape)


def draw_with_normalised(probs, uniform):
    p = probs.double() / probs.double().sum(-1, keepdim=True)
    passed = p.cumsum(-1) <= uniform.unsqueeze(-1)
    return passed.long().sum(-1).clamp(max=probs.shape[-1] - 1)


def step_by_flows(p, rates, h):
    out = p.clone()
    for x in range(len(rates)):
        for y in range(len(rates)):
            out[..., y] = out[..., y] + h * p[..., x] * rates[x, y]
    return out


def step_by_numpy(p, rates, h):
    return torch.from_numpy(p.numpy() + float(h) * np.dot(p.numpy(), rates.numpy())).to(p)


def jump_by_loop(rates, x, hold, pick):
    times, then = [], []
    for state, a, b in zip(x.tolist(), hold.tolist(), pick.tolist()):
        row = rates[state].tolist()
        leave, row[state] = -row[state], 0.0
        times.append(-math.log(1 - a) / leave)
        then.append(draw_by_bisection(torch.tensor([row], dtype=torch.float64), torch.tensor([b]).double()).item())
    return torch.tensor(times, dtype=torch.float64), torch.tensor(then)


def jump_by_sums(rates, x, hold, pick):
    others = (rates - torch.diag(rates.diagonal())).double()[x]
    return -(1 - hold).log() / others.sum(1), draw_by_search(others, pick)


def jump_by_library(rates, x, hold, pick):
    weights = torch.where(torch.arange(len(rates)) == x[:, None], 0.0, rates[x])
    exponential = torch.distributions.Exponential(rates.diagonal().double().neg()[x])
    return [exponential.icdf(hold), jumps.draw(weights, pick)]


def corrupt_by_loop(z, kappa, mask, uniform):
    kappa, x = torch.as_tensor(kappa).expand(len(z)), z.clone()
    for k in range(z.shape[0]):
        for i in range(z.shape[1]):
            if uniform[k, i] >= kappa[k]:
                x[k, i] = mask
    return x


def corrupt_by_arithmetic(z, kappa, mask, uniform):
    kappa = torch.as_tensor(kappa)
    kept = (uniform < (kappa[:, None] if kappa.ndim else kappa)).to(z.dtype)
    return z * kept + mask * (1 - kept)


def corrupt_by_numpy(z, kappa, mask, uniform):
    kappa = np.broadcast_to(np.asarray(kappa), (len(z),))[:, None]
    return torch.from_numpy(np.where(uniform.numpy() < kappa, z.numpy(), mask)).to(z.dtype)


def rate_by_scatter(target, x, kappa, kappa_dot):
    hazard = torch.as_tensor(kappa_dot).to(target) / (1 - torch.as_tensor(kappa).to(target))
    hazard = hazard.reshape(-1, 1, 1).expand(len(x), x.shape[1], 1)
    rates = hazard * target
    return rates.scatter_add(2, x[..., None], -hazard)


def rate_by_loop(target, x, kappa, kappa_dot):
    kappa, kappa_dot = (torch.as_tensor(value).expand(len(x)) for value in (kappa, kappa_dot))
    rates = target.clone()
    for k in range(len(x)):
        for i, symbol in enumerate(x[k].tolist()):
            rates[k, i, symbol] -= 1
        rates[k] *= (kappa_dot[k] / (1 - kappa[k])).to(target)
    return rates


def rate_by_einsum(target, x, kappa, kappa_dot):
    gap = target - one_hot(x, target.shape[2]).to(target)
    hazard = (torch.as_tensor(kappa_dot) / (1 - torch.as_tensor(kappa))).to(target).expand(len(x))
    return torch.einsum("n,nds->nds", hazard, gap)


def posterior_by_product(x, table, mask):
    """Matches as one product of one-hot rows."""
    matches = (one_hot(x, mask + 1)[..., :-1].flatten(1) @ one_hot(table, mask).flatten(1).T).double()
    weights = (matches == matches.amax(1, keepdim=True)).double()
    weights /= weights.sum(1, keepdim=True)
    return torch.einsum("nt,tdk->ndk", weights, one_hot(table, mask).double())


def posterior_by_loop(x, table, mask):
    found = torch.zeros(*x.shape, mask, dtype=torch.float64)
    for k, row in enumerate(x):
        agree = ((table == row) & (row != mask)).sum(1)
        kept = table[agree == agree.max()]
        for i in range(x.shape[1]):
            found[k, i] = kept[:, i].bincount(minlength=mask).double() / len(kept)
    return found


def posterior_by_softmax(x, table, mask):
    """Weights that fall by e^{−1000} with each token that does not match."""
    clashes = ((x[:, None] != table) & (x[:, None] != mask)).sum(-1).double()
    weights = (-1000 * clashes).softmax(1)
    return (weights @ functional.one_hot(table, mask).double().reshape(len(table), -1)).view(*x.shape, mask)


def reveal_by_loop(x, probs, kappa, later, mask, uniform, pick):
    chance, out = float((later - kappa) / (1 - kappa)), x.clone()
    for k, i in (x == mask).nonzero().tolist():
        if uniform[k, i] < chance:
            out[k, i] = draw_by_bisection(probs[k, i][None], pick[k, i][None])[0]
    return out


def reveal_in_place(x, probs, kappa, later, mask, uniform, pick):
    x, masked = x.clone(), x == mask
    turns = masked & (uniform * (1 - kappa) < later - kappa)
    x[turns] = draw_by_search(probs[turns], pick[turns])
    return x


def reveal_by_survival(x, probs, kappa, later, mask, uniform, pick):
    """A token stays masked with probability (1 − κ')/(1 − κ)."""
    stays = uniform >= 1 - (1 - later) / (1 - kappa)
    return torch.where(stays | (x != mask), x, jumps.draw(probs, pick))


def in_order_by_loop(denoiser, x, order, per_call, mask, pick):
    x = x.clone()
    for start in range(0, order.shape[1], per_call):
        probs, rows = denoiser(x), torch.arange(len(x))
        for place in order[:, start : start + per_call].T:
            drawn = jumps.draw(probs[rows, place], pick[rows, place])
            x[rows, place] = torch.where(x[rows, place] == mask, drawn, x[rows, place])
    return x


def in_order_by_ranks(denoiser, x, order, per_call, mask, pick):
    rank = order.argsort(1) // per_call
    for call in range(-(-order.shape[1] // per_call)):
        drawn = draw_by_search(denoiser(x), pick)
        x = x.where((rank != call) | (x != mask), drawn)
    return x


def in_order_by_sentence(denoiser, x, order, per_call, mask, pick):
    """One sentence after the other; those that are full are not asked about."""
    rows = []
    for row, way, numbers in zip(x, order, pick):
        row = row.clone()[None]
        for places in way.split(per_call):
            if bool((row == mask).any()):
                probs = denoiser(row)[0]
                for place in places.tolist():
                    if row[0, place] == mask:
                        row = row.clone()
                        row[0, place] = jumps.draw(probs[place], numbers[place])
        rows.append(row)
    return torch.cat(rows)


def loss_by_loop(model, z, kappa, kappa_dot, mask, uniform):
    total = 0.0
    for k in range(len(z)):
        hidden = uniform[k] >= kappa[k]
        logits = model(torch.where(hidden, mask, z[k])[None])[0]
        if hidden.any():
            summed = functional.cross_entropy(logits[hidden], z[k, hidden], reduction="sum")
            total = total + kappa_dot[k] / (1 - kappa[k]) * summed
        else:
            total = total + 0 * logits.sum()
    return total / len(z)


def loss_by_cross_entropy(model, z, kappa, kappa_dot, mask, uniform):
    hidden = uniform >= kappa.unsqueeze(1)
    logits = model(z.masked_fill(hidden, mask))
    each = functional.cross_entropy(logits.mT, z, reduction="none")
    weights = (kappa_dot / (1 - kappa))[:, None].expand_as(each)
    return (weights * each).masked_fill(~hidden, 0.0).sum() / len(z)


def loss_by_one_hot(model, z, kappa, kappa_dot, mask, uniform):
    x = torch.where(uniform < kappa.reshape(-1, 1), z, torch.full_like(z, mask))
    logits = model(x)
    log_probs = logits - logits.logsumexp(-1, keepdim=True)
    hidden = (x == mask).to(logits)
    return -torch.einsum(
        "n,nd,ndk,ndk->", kappa_dot / (1 - kappa), hidden, log_probs, one_hot(z, mask).to(logits)
    ) / len(z)


def likelihood_by_stages(denoiser, z, order, mask):
    rank, total = order.argsort(), []
    for j, place in enumerate(order.tolist()):
        probs = denoiser(torch.where(rank < j, z, mask))
        total.append(probs[torch.arange(len(z)), place, z[:, place]])
    return torch.stack(total, 1).log().sum(1)


def likelihood_in_one_call(denoiser, z, order, mask):
    """All stages as one batch."""
    (n, places), rank = z.shape, order.argsort()
    stages = torch.where(rank < torch.arange(places)[:, None], z[:, None], mask)  # (n, D, D)
    probs = denoiser(stages.flatten(0, 1)).unflatten(0, (n, places))[:, torch.arange(places), order]
    return probs.gather(2, z[:, order, None])[..., 0].log().sum(1)


def likelihood_in_place(denoiser, z, order, mask):
    x = torch.full_like(z, mask)
    total = None
    for place in order:
        place = int(place)
        term = torch.log(torch.stack([p[place, y[place]] for p, y in zip(denoiser(x), z)]))
        total = term if total is None else total + term
        x = torch.where(torch.arange(z.shape[1]) == place, z, x)
    return total


def corrector_by_loop(probs, x, kappa):
    mask, kappa = probs.shape[-1], torch.as_tensor(kappa).expand(len(x))
    rates = torch.zeros(*x.shape, mask + 1, dtype=probs.dtype)
    for k in range(len(x)):
        for i, symbol in enumerate(x[k].tolist()):
            if symbol == mask:
                rates[k, i, :mask] = (kappa[k] / (1 - kappa[k])).to(probs) * probs[k, i]
                rates[k, i, mask] = -(kappa[k] / (1 - kappa[k])).to(probs)
            else:
                rates[k, i, mask], rates[k, i, symbol] = 1, -1
    return rates


def corrector_by_odds(probs, x, kappa):
    odds = torch.as_tensor(kappa).to(probs)
    odds = (odds / (1 - odds)).reshape(-1, 1, 1)
    masked = (x == probs.shape[-1])[..., None].to(probs)
    arrive = torch.cat([masked * odds * probs, 1 - masked], dim=-1)
    return arrive.scatter_add(2, x[..., None], -arrive.sum(-1, keepdim=True))


def corrector_by_rates(probs, x, kappa):
    """Twice the rate towards a target, of a schedule in which κ̇ is κ, or 1 − κ."""
    mask = probs.shape[-1]
    path, k = tokens.TokenPath(mask), torch.as_tensor(kappa).to(probs).reshape(-1, 1, 1)
    forward = path.clean(probs.double(), x).to(probs) - one_hot(x, mask + 1)
    back = one_hot(torch.full_like(x, mask), mask + 1) - one_hot(x, mask + 1)
    return k / (1 - k) * forward + back.to(probs)


def guided_by_powers(conditional, unconditional, w):
    p = conditional**w * unconditional ** (1 - w)
    return p / p.sum(-1, keepdim=True)


def guided_by_ratio(conditional, unconditional, w):
    p = unconditional * (conditional / unconditional).pow(w)
    return functional.normalize(p, p=1, dim=-1)


def guided_by_lerp(conditional, unconditional, w):
    logits = unconditional.log() + w * (conditional.log() - unconditional.log())
    return (logits - logits.logsumexp(-1, keepdim=True)).exp()


RIGHT = {
    "draw_tokens": [draw_by_search, draw_by_numpy, draw_by_bisection, draw_with_normalised],
    "rate_step": [
        step_by_flows,
        step_by_numpy,
        lambda p, rates, h: p @ (torch.eye(len(rates)).to(rates) + h * rates),
        lambda p, rates, h: p + torch.einsum("...x,xy->...y", p, rates) * h,
    ],
    "next_jump": [jump_by_loop, jump_by_sums, jump_by_library],
    "corrupt": [corrupt_by_loop, corrupt_by_arithmetic, corrupt_by_numpy],
    "jump_rate": [rate_by_scatter, rate_by_loop, rate_by_einsum],
    "posterior": [posterior_by_product, posterior_by_loop, posterior_by_softmax],
    "reveal_step": [reveal_by_loop, reveal_in_place, reveal_by_survival],
    "sample_in_order": [in_order_by_loop, in_order_by_ranks, in_order_by_sentence],
    "masked_cross_entropy": [loss_by_loop, loss_by_cross_entropy, loss_by_one_hot],
    "any_order_log_likelihood": [likelihood_by_stages, likelihood_in_one_call, likelihood_in_place],
    "corrector_rate": [corrector_by_loop, corrector_by_odds, corrector_by_rates],
    "guided_probs": [guided_by_powers, guided_by_ratio, guided_by_lerp],
}
