"""Calls between two processes: what travels, how gradients cross, and what nonsense from the other end does."""

import json
import os
import struct
import time

import numpy as np
import pytest
import torch

from course import wire
from course.wire import Broken, Peer, Remote, RemoteError, _npy
from fmlab.schedules import Cosine


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


def regression(u, z, t, noise, schedule):
    alpha, beta = schedule.alpha(t)[:, None], schedule.beta(t)[:, None]
    return (u(alpha * z + beta * noise, t) - (z - noise)).square().sum(1).mean()


def train_step(model, loss, optimizer):
    optimizer.zero_grad()
    value = loss(model)
    value.backward()
    optimizer.step()
    return float(value.detach())


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


def optimise(optimizer):
    return optimizer.zero_grad(set_to_none=True)


def langevin(score, sigma):
    return lambda x, t: 0.5 * sigma**2 * score(x)


def careless(f):
    try:
        f()
    except Exception as error:
        return type(error).__name__, str(error)


def unsolved():
    raise NotImplementedError


def hoard(f):
    while True:
        f(torch.ones(2**20, requires_grad=True))


FUNCTIONS = [
    echo, divergence, forward_derivative, regression, train_step, backward_twice, shift, shifter, optimise, hoard,
    langevin, careless, unsolved,
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


def test_gradients_of_gradients_cross(peer):
    x = torch.randn(4, 3, dtype=torch.float64)
    found = peer.call("forward_derivative", lambda x: x.sin() * x.sum(1, keepdim=True), x)
    expected = forward_derivative(lambda x: x.sin() * x.sum(1, keepdim=True), x)
    assert torch.allclose(found, expected)


def test_an_optimizer_steps_where_it_is(peer):
    models, x = [torch.nn.Linear(2, 1) for _ in range(2)], torch.randn(9, 2)
    models[1].load_state_dict(models[0].state_dict())
    for model, step in zip(models, (lambda *args: peer.call("train_step", *args), train_step), strict=True):
        optimizer = torch.optim.Adam(model.parameters(), 0.1)
        losses = [step(model, lambda model: model(x).square().mean(), optimizer) for _ in range(5)]
        assert losses[-1] < losses[0]
    assert torch.allclose(models[0].weight, models[1].weight)


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
    class Optimizer:
        def zero_grad(self, set_to_none=False):
            return f"zeroed: {set_to_none}"

    assert peer.call("optimise", Optimizer()) == "zeroed: True"


def test_errors_keep_their_names_and_words_from_here_do_not_travel(peer):
    with pytest.raises(RemoteError, match="missing 2 required") as failure:
        peer.call("langevin")
    assert type(failure.value).__name__ == "TypeError"
    with pytest.raises(NotImplementedError):
        peer.call("unsolved")
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


def flood(reading: int, writing: int) -> None:
    """Call without a pause, and let a second process read what comes, so that there is always something to serve."""
    if os.fork():
        while os.read(reading, 2**16):
            pass
    else:
        calls = 500 * message("call", 0, {"list": []}, {"dict": {}})
        while True:
            os.write(writing, calls)


def deaf(reading: int, writing: int) -> None:
    """Call for much, and never read what comes."""
    os.write(writing, message("call", 0, {"list": []}, {"dict": {}}))
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
    peer = Peer(a, d)
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


def reply(value, *blobs: bytes) -> bytes:
    return message("return", value, {"dict": {}}, blobs=blobs)


def lying(shape: str, dtype: str = "<f4") -> bytes:
    """An array whose header tells of more than there is."""
    return _npy(np.zeros(4, np.float32)).replace(b"(4,), ", shape.encode() + b", ").replace(b"<f4", dtype.encode())


NONSENSE = {
    "nothing": b"",
    "half a message": reply(1)[:-3],
    "no JSON": framed(b"hello"),
    "no list": framed(b"3"),
    "another kind": framed(json.dumps({"list": ["exec", "import os", {"dict": {}}]}).encode()),
    "a call in a call to nobody": framed(
        json.dumps({"list": ["call", "__import__", {"list": ["os"]}, {"dict": {}}]}).encode()
    ),
    "a call of a number not given": framed(json.dumps({"list": ["call", 7, {"list": []}, {"dict": {}}]}).encode()),
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
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_breaks_the_connection_and_nothing_else(name):
    """Whatever comes, one kind of error comes of it, at once and with little memory."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.write(b, NONSENSE[name])
        os._exit(0)
    os.close(b)
    peer = Peer(a, d)
    peer.deadline = time.monotonic() + 20
    with pytest.raises(Broken):
        peer.call("anything", torch.ones(2))
    assert peer.broken
    for descriptor in (a, c, d):
        os.close(descriptor)
    os.wait()
