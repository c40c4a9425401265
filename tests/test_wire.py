"""Calls between two processes: what travels, how gradients cross, and what nonsense from the other end does."""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from course import wire
from course.wire import Broken, Peer, Remote, RemoteError, _npy
from fmlab.checks.inputs import Bent, Weighted
from fmlab.paths import GaussianPath
from fmlab.schedules import VE, CondOT, Cosine, LinearVP, Schedule


def echo(value):
    return value


def divergence(u, x, t):
    x = x.detach().requires_grad_()
    values = u(x, t)
    columns = [torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])]
    return sum(columns)


def forward_derivative(u, x):
    """By two backward passes, the second through the first."""
    return torch.autograd.functional.jvp(u, x, torch.ones_like(x))[1]


TRANSFORMED = {
    "vmap": lambda u, x: torch.vmap(lambda row: u(row[None])[0])(x),
    "vmap over columns": lambda u, x: torch.vmap(lambda row: u(row[None])[0], in_dims=1, out_dims=1)(x.T),
    "grad": lambda u, x: torch.func.grad(lambda x: u(x).square().sum())(x),
    "jacrev": lambda u, x: torch.func.jacrev(u)(x),
    "jacfwd": lambda u, x: torch.func.jacfwd(u)(x),
    "jvp": lambda u, x: torch.func.jvp(u, (x,), (x.cos(),))[1],
    "vjp": lambda u, x: torch.func.vjp(u, x)[1](x.cos())[0],
    "a divergence by rows": lambda u, x: torch.vmap(lambda y: torch.func.jacrev(lambda y: u(y[None])[0])(y).trace())(x),
    "hessian": lambda u, x: torch.func.hessian(lambda x: u(x).sum())(x),
    "jacrev of jacrev": lambda u, x: torch.func.jacrev(torch.func.jacrev(lambda x: u(x).sum()))(x),
    "jacfwd of jacfwd": lambda u, x: torch.func.jacfwd(torch.func.jacfwd(lambda x: u(x).sum()))(x),
    "a loss by rows": lambda u, x: torch.vmap(lambda row: u(row[None]).square().sum())(x).mean(),
}


def transformed(kind, u, x):
    return TRANSFORMED[kind](u, x)


def regression(u, z, t, noise, schedule):
    alpha, beta = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    return (u(alpha * z + beta * noise, t) - (z - noise)).square().sum(1).mean()


def train_step(model, loss, optimizer):
    """With all that PyTorch has for it."""
    model.train()
    assert isinstance(model, torch.nn.Module) and isinstance(optimizer, torch.optim.Optimizer)
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {*map(id, model.parameters())}

    def closure():
        optimizer.zero_grad(set_to_none=True)
        value = loss(model)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        return value

    return optimizer.step(closure).item()


def shrink(model, optimizer):
    """What an answer may do to its copies and to nothing else."""
    model.weights.data, model.weights.grad = model.weights.data[:1], torch.ones(1)


def bound(schedule):
    """What a schedule is, and what all it has gives."""
    path, t = GaussianPath(schedule), torch.tensor([0.3, 0.8], requires_grad=True)
    shown = isinstance(schedule, Schedule), repr(schedule)
    values = [
        *(getattr(schedule, name)(t) for name in ("alpha", "beta", "alpha_dot", "beta_dot", "beta_beta_dot")),
        schedule.log_snr(t), schedule.log_snr_dot(t), schedule.time_at(schedule.log_snr(torch.tensor([0.4]))),
        *schedule.weights(t, torch.ones(2, 3)), path.vector_field(torch.ones(2, 3), torch.zeros(2, 3), t),
        schedule.alpha(1), schedule.beta_beta_dot(1.0),
    ]  # fmt: skip
    (slope,) = torch.autograd.grad(schedule.beta(t).sum(), t)
    return shown, values, slope


def makes_a_schedule():
    return Cosine()


def handed_on(schedule, f):
    return f(schedule)


def backward_twice(u, x):
    x = x.detach().requires_grad_()
    value = u(x).sum()
    torch.autograd.grad(value, x)
    return torch.autograd.grad(value, x)[0]


def shift(x):
    x += 1
    return x


def shifter():
    return shift


def by_name(f):
    return f(set_to_none=True)


def made(kind):
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    return KINDS[kind](x)


def langevin(score, sigma):
    return lambda x, t: 0.5 * sigma**2 * score(x)


def careless(f):
    try:
        f()
    except Exception as error:
        return type(error).__name__, str(error)


def unsolved():
    error = NotImplementedError()
    error.function = "heun_step"
    raise error


def hoard(f):
    while True:
        f(torch.ones(2**20, requires_grad=True))


FUNCTIONS = [
    echo, divergence, forward_derivative, regression, train_step, backward_twice, shift, shifter, by_name, hoard,
    langevin, careless, unsolved, transformed, shrink, bound, makes_a_schedule, handed_on, made,
    time.sleep, torch.manual_seed,
]  # fmt: skip


@pytest.fixture
def peer():
    """A connection to a process that has the functions above."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(a)
        os.close(d)
        try:
            Peer(c, b, {function.__name__: function for function in FUNCTIONS}).serve()
        finally:
            os._exit(0)
    os.close(b)
    os.close(c)
    peer = Peer(a, d, discreet=True)
    yield peer
    os.close(a)
    os.close(d)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -2.5, float("inf"), "ε_θ", [1, [2.0, "x"]], (1, (None,)), {"a": [1], "b": ()}],
    ids=str,
)
def test_plain_values_come_back(peer, value):
    found = peer.call("echo", value)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 1, 2)])
def test_arrays_come_back(peer, dtype, shape):
    value = (3 * torch.randn(shape)).to(dtype)
    found = peer.call("echo", value)
    assert found.dtype == dtype and found.shape == value.shape and torch.equal(found, value)
    in_numpy = peer.call("echo", value.numpy().T)
    assert in_numpy.dtype == value.numpy().dtype and np.array_equal(in_numpy, value.numpy().T)


class Own(torch.Tensor):
    pass


KINDS = {
    "bfloat16": lambda x: x.bfloat16() / 3,
    "float16": lambda x: x.half() / 3,
    "a subclass": lambda x: x.as_subclass(Own),
    "negative bit": lambda x: torch._neg_view(x),
    "conjugate bit": lambda x: (x * (1 + 2j)).conj(),
    "imaginary part of a conjugate": lambda x: (x * (1 + 2j)).conj().imag,
    "expanded": lambda x: x[:1].expand(4, 3),
    "transposed": lambda x: x.T,
    "strided": lambda x: x[:, ::2],
    "reversed in NumPy": lambda x: x.numpy()[::-1],
    "of no dimension": lambda x: x.sum().bfloat16(),
    "with a gradient": lambda x: x.bfloat16().requires_grad_() * 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_every_kind_travel(peer, kind):
    expected = made(kind)
    for found in peer.call("made", kind), peer.call("echo", expected):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        if isinstance(expected, torch.Tensor):
            assert type(found) is torch.Tensor
            assert torch.equal(found, expected.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg())
        else:
            assert np.array_equal(found, expected)


def test_what_cannot_travel_arrives_as_its_name_alone(peer):
    found = peer.call("echo", object())
    assert type(found).__name__ == "object" and not vars(found)
    assert type(peer.call("echo", np.array([{}]))).__name__ == "ndarray"


def test_functions_are_called_back_and_come_back_as_themselves(peer):
    x = torch.randn(5, 2)
    drift = peer.call("langevin", lambda x: -x, 2.0)
    assert isinstance(drift, Remote) and torch.equal(drift(x, 0.0), -2 * x)

    def mine():
        pass

    assert peer.call("echo", mine) is mine


def test_gradients_cross_in_both_directions(peer):
    matrix, x = torch.randn(2, 2), torch.randn(5, 2)
    found = peer.call("divergence", lambda x, t: x @ matrix, x, 0.3)
    assert torch.allclose(found, matrix.trace().expand(5))

    theta, z, noise, t = torch.randn(2, 2), torch.randn(7, 2), torch.randn(7, 2), torch.rand(7)
    theta.requires_grad_()
    z.requires_grad_()
    there, here = (
        f(lambda x, t: x @ theta, z, t, noise, Cosine()) for f in (lambda *a: peer.call("regression", *a), regression)
    )
    assert torch.allclose(there, here)
    for found, expected in zip(*(torch.autograd.grad(loss, [theta, z]) for loss in (there, here)), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_gradients_cross_where_they_are_switched_off_here(peer):
    """As within one process, where the other end switches them on, and what it calls does."""
    u, x, t = torch.enable_grad()(lambda x, t: torch.sin(x * t).cumsum(1)), torch.randn(4, 3), torch.rand(4, 1)
    expected = (t * torch.cos(x * t)).sum(1)
    with torch.no_grad():
        found = peer.call("divergence", u, x, t)
    torch.testing.assert_close(found, expected)


def test_gradients_of_gradients_cross(peer):
    x = torch.randn(4, 3, dtype=torch.float64)
    found = peer.call("forward_derivative", lambda x: x.sin() * x.sum(1, keepdim=True), x)
    expected = forward_derivative(lambda x: x.sin() * x.sum(1, keepdim=True), x)
    assert torch.allclose(found, expected)


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.1),
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda parameters: torch.optim.Adam(parameters, 0.1),
    "groups": lambda parameters: torch.optim.Adam([{"params": parameters, "lr": 0.03, "betas": (0.7, 0.8)}], 0.1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_and_its_optimizer_are_lent_and_come_back_changed(peer, kind, dtype):
    """As if they had been there: values, gradients, and what the optimiser remembers from one step to the next."""
    ends, x = [], torch.randn(9, 2, dtype=dtype)
    for step in (lambda *args: peer.call("train_step", *args), train_step):
        model, asked = Weighted(dtype=dtype).eval(), []
        optimizer = OPTIMIZERS[kind](model.parameters())
        model.weights.grad = torch.ones(2, dtype=dtype)

        def loss(model, asked=asked):
            asked.append(model)
            return (model(x, 0.3) - 1).square().mean()

        losses = [step(model, loss, optimizer) for _ in range(5)]
        assert len(asked) == 5 and losses[-1] < losses[0]
        ends.append((losses, model, optimizer))
    (losses, there, _), (expected, here, _) = ends
    assert losses == pytest.approx(expected) and there.weights.dtype == dtype
    assert torch.allclose(there.weights, here.weights) and torch.allclose(there.weights.grad, here.weights.grad)
    states = [optimizer.state[model.weights] for _, model, optimizer in ends]
    assert states[0].keys() == {name for name, value in states[1].items() if value is not None}
    for name, value in states[0].items():
        assert torch.allclose(torch.as_tensor(value), torch.as_tensor(states[1][name])), name


def test_what_comes_back_of_a_loan_has_to_fit(peer):
    model = Weighted()
    before = model.weights.detach().clone()
    with pytest.raises(Broken, match="makes no sense"):
        peer.call("shrink", model, torch.optim.SGD(model.parameters(), 0.1))
    assert torch.equal(model.weights, before) and model.weights.grad is None


def test_a_network_without_an_optimizer_is_a_function(peer):
    model = Weighted()
    assert isinstance(peer.call("langevin", model, 1.0), Remote)
    with pytest.raises(ValueError, match="Linear does not travel"):
        linear = torch.nn.Linear(2, 2)
        peer.call("train_step", linear, print, torch.optim.SGD(linear.parameters(), 0.1))


@pytest.mark.parametrize("schedule", [CondOT(0.2), Cosine(), LinearVP(), VE(5.0), Bent()], ids=repr)
def test_a_schedule_is_one_over_there_too(peer, schedule):
    """Its ends as well, where a derivative alone would be infinite."""
    (shown, values, slope), (also, expected, steep) = peer.call("bound", schedule), bound(schedule)
    assert shown == also and torch.allclose(slope, steep)
    for found, right in zip(values, expected, strict=True):
        assert found.dtype == right.dtype and torch.allclose(found, right, atol=1e-6)


def test_a_schedule_that_was_lent_comes_back_as_itself_and_none_is_made_here(peer):
    mine = Cosine()
    assert peer.call("echo", mine) is mine
    assert peer.call("handed_on", mine, lambda schedule: schedule is mine)
    theirs = peer.call("makes_a_schedule")
    assert not isinstance(theirs, Schedule) and type(theirs).__name__ == "Cosine"
    assert torch.equal(theirs.alpha(torch.tensor(0.3)), mine.alpha(torch.tensor(0.3)))


@pytest.mark.parametrize("kind", TRANSFORMED)
def test_transformations_of_functions_cross(peer, kind):
    x, theta = torch.randn(4, 3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def u(x):
        return (theta * x).sin() * x.square().sum(1, keepdim=True)

    there, here = peer.call("transformed", kind, u, x), transformed(kind, u, x)
    assert torch.allclose(there, here)
    if "vmap" in kind or "loss" in kind:
        found, expected = (torch.autograd.grad(value.sum(), theta)[0] for value in (there, here))
        assert torch.allclose(found, expected)


def test_a_graph_is_gone_after_one_pass_as_in_one_process(peer):
    with pytest.raises(RemoteError, match="second time"):
        peer.call("backward_twice", lambda x: x.exp(), torch.ones(3))


def test_a_changed_argument_is_changed_here_too(peer):
    x = torch.zeros(3)
    assert torch.equal(peer.call("shift", x), torch.ones(3)) and torch.equal(x, torch.ones(3))


def test_an_argument_that_a_returned_function_changes_stays_here_as_it_was(peer):
    """Or an answer could move the states that its own answer is compared at."""
    x = torch.zeros(3)
    assert torch.equal(peer.call("shifter")(x), torch.ones(3)) and torch.equal(x, torch.zeros(3))


def test_arguments_by_name_cross(peer):
    assert peer.call("by_name", lambda set_to_none=False: f"zeroed: {set_to_none}") == "zeroed: True"


def test_errors_keep_their_names_and_words_from_here_do_not_travel(peer):
    with pytest.raises(RemoteError, match="missing 2 required") as failure:
        peer.call("langevin")
    assert type(failure.value).__name__ == "TypeError"
    with pytest.raises(NotImplementedError) as failure:
        peer.call("unsolved")
    assert failure.value.function == "heun_step"
    assert peer.call("careless", lambda: 1 / 0) == ("Exception", "")


def test_what_a_function_here_raised_is_raised_here(peer):
    class Verdict(AssertionError):
        pass

    def judge(x, t):
        raise Verdict("secret words")

    with pytest.raises(Verdict, match="secret words"):
        peer.call("divergence", judge, torch.ones(2, 2), 0.0)


def test_waiting_ends_at_the_deadline_and_the_connection_with_it(peer):
    peer.deadline = time.monotonic() + 0.2
    with pytest.raises(Broken, match="in time"):
        peer.call("sleep", 2)
    with pytest.raises(Broken, match="has ended"):
        peer.call("echo", 1)


def test_what_is_kept_for_gradients_has_a_limit(peer, monkeypatch):
    monkeypatch.setattr(wire, "MOST_KEPT", 2**26)
    with pytest.raises(Broken, match="kept for their gradients"):
        peer.call("hoard", lambda x: x + 1)


def test_texts_have_a_limit_far_below_that_of_arrays(peer):
    assert len(peer.call("echo", torch.zeros(wire.MOST_TEXT))) == wire.MOST_TEXT
    with pytest.raises(ValueError, match="too much to send"):
        peer.call("echo", "x" * (wire.MOST_TEXT + 1))


NOTHING = {"dict": {}}


def flood(reading: int, writing: int) -> None:
    """Call without a pause, and let a second process read what comes, so that there is always something to serve."""
    if os.fork():
        while os.read(reading, 2**16):
            pass
    else:
        calls = 500 * message("call", 0, {"list": []}, NOTHING, NOTHING, 0)
        while True:
            os.write(writing, calls)


def deaf(reading: int, writing: int) -> None:
    """Call for much, and never read what comes."""
    os.write(writing, message("call", 0, {"list": []}, NOTHING, NOTHING, 0))
    time.sleep(600)


@pytest.mark.parametrize("behaviour", [flood, deaf])
def test_no_behaviour_of_the_other_end_holds_this_one_beyond_the_deadline(behaviour):
    (a, b), (c, d) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(a)
        os.close(d)
        try:
            behaviour(c, b)
        finally:
            os._exit(0)
    os.close(b)
    os.close(c)
    peer = Peer(a, d, discreet=True)
    peer.functions.append(lambda: torch.zeros(2**20 if behaviour is deaf else 1))
    peer.deadline = time.monotonic() + 1
    with pytest.raises(Broken):
        peer.call("anything")
    peer.close()
    os.kill(child, 9)
    os.waitpid(child, 0)


def framed(text: bytes, *blobs: bytes) -> bytes:
    return struct.pack("<QQ", len(text), len(blobs)) + text + b"".join(struct.pack("<Q", len(b)) + b for b in blobs)


def message(*parts, blobs: tuple[bytes, ...] = ()) -> bytes:
    return framed(json.dumps({"list": parts}).encode(), *blobs)


def reply(value, *blobs: bytes, **changed) -> bytes:
    return message("return", value, {"dict": changed}, blobs=blobs)


def lying(shape: str, dtype: str = "<f4") -> bytes:
    """An array whose header tells of more than there is."""
    return _npy(np.zeros(4, np.float32)).replace(b"(4,), ", shape.encode() + b", ").replace(b"<f4", dtype.encode())


NONSENSE = {
    "nothing": b"",
    "half a message": reply(1)[:-3],
    "no JSON": framed(b"hello"),
    "no list": framed(b"3"),
    "another kind": framed(json.dumps({"list": ["exec", "import os", {"dict": {}}]}).encode()),
    "a call in a call to nobody": message("call", "__import__", {"list": ["os"]}, NOTHING, NOTHING, 0),
    "a call of a number not given": message("call", 7, {"list": []}, NOTHING, NOTHING, 0),
    "a seed that is no number": message("call", 0, {"list": []}, NOTHING, NOTHING, "7"),
    "an error of no kind": message("raise", {"list": []}, "", "", ""),
    "a long text": struct.pack("<QQ", 2**27, 0) + b"[" * 1000,
    "many arrays": struct.pack("<QQ", 2, 2**17) + b"{}",
    "an endless length": struct.pack("<QQ", 2**62, 0),
    "endless arrays": struct.pack("<QQ", 2, 2**62) + b"{}",
    "deep nesting": framed(b'{"list":[' * 50_000),
    "a huge shape": reply({"tensor": 0}, lying("(999999999999,)")),
    "a negative shape": reply({"tensor": 0}, lying("(-1,)")),
    "objects": reply({"tensor": 0}, lying("(4,)", "|O8")),
    "no array": reply({"tensor": 0}, b"\x93NUMPY"),
    "an array that did not come": reply({"tensor": 3}),
    "a tensor never sent": reply({"tensor": 0, "number": 0, "made_from": [5]}, _npy(np.zeros(4))),
    "a function never sent": reply({"yours": 99}),
    "a private function": reply({"yours": "_call"}),
    "other than 16 bits": reply({"tensor": 0, "bfloat16": True}, _npy(np.zeros(3, np.int8))),
    "a schedule": reply({"schedule": 0, "words": "mine", "functions": {"dict": {"alpha": {"function": 0}}}}),
}


@contextmanager
def saying(said: bytes) -> Iterator[Peer]:
    """A connection to a process that says this and ends."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.write(b, said)
        os._exit(0)
    os.close(b)
    peer = Peer(a, d, discreet=True)
    peer.deadline = time.monotonic() + 20
    yield peer
    for descriptor in (a, c, d):
        os.close(descriptor)
    os.wait()


def test_a_seed_that_a_students_process_sends_moves_no_random_numbers_here():
    before = torch.get_rng_state()
    with saying(message("call", 0, {"list": []}, NOTHING, NOTHING, 7) + reply(1)) as peer:
        peer.names["seed"] = torch.manual_seed
        assert peer.call("anything", lambda: 3) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tensor_that_requires_a_gradient_there_does_so_here_if_it_can():
    flagged = {"0 requires_grad": True}
    for target in ("a name", 3):  # of a function, or of one that came back
        x = torch.ones(2)
        with saying(reply(1, **flagged)) as peer:
            assert peer.call(target, x) == 1 and x.requires_grad
        with saying(reply(1, **flagged)) as peer, pytest.raises(Broken, match="makes no sense"):
            peer.call(target, torch.arange(2))
        made = 2 * torch.ones(2).requires_grad_()  # no leaf: its own flag is what it is
        with saying(reply(1, **flagged)) as peer:
            assert peer.call(target, made) == 1


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_breaks_the_connection_and_nothing_else(name):
    """Whatever comes, one kind of error comes of it, at once and with little memory."""
    with saying(NONSENSE[name]) as peer:
        with pytest.raises(Broken):
            peer.call("anything", torch.ones(2))
        assert peer.broken
