"""An answer in another process is judged as it would be here: right ones in any style, wrong ones in the same words."""

import functools
import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from course import desk, hidden, jobs
from course.student import Notebook, quietly, seed
from course.wire import Peer
from fmlab.checks import lab as labs
from fmlab.checks import lab1, lab2
from fmlab.checks.calls import default_dtype
from tests.labs import LABS, right, wrong
from tests.styles import STYLES
from tests.test_styles import with_sources


class Desk(desk.Desk):
    """A student's process with answers that are given by name."""

    def __init__(self, peer: Peer):
        self.peer, self.patience = peer, jobs.Patience()

    def _peer(self, seconds) -> Peer:
        return self.peer


@contextmanager
def another_process(answers: dict):
    """Functions that call these answers in a process of their own, without walls."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(a)
        os.close(d)

        notebook = SimpleNamespace(lookup=answers.get)
        call = functools.partial(Notebook.call, notebook)
        try:
            Peer(c, b, {"call": call, "seed": seed}, around=functools.partial(quietly, os.getpid())).serve()
        finally:
            os._exit(0)
    os.close(b)
    os.close(c)
    peer = Peer(a, d, discreet=True)
    try:
        yield {name: desk.Answer(Desk(peer), name) for name in answers}
    finally:
        peer.close()
        os.waitpid(child, 0)


def judged(exercise, answer) -> dict:
    """The verdicts on an answer, visible and hidden."""
    inputs = {"visible": exercise.visible, "hidden": hidden.inputs(exercise)}
    return {who: exercise.examine(answer, given, withhold=False) for who, given in inputs.items()}


# Those of all styles in which something else crosses; `test_styles` has all of them within one process.
CROSSING = (
    "numbers made double tensors",
    "strided arguments",
    "a module",
    "a subclass",
    "the negative bit",
    "a strided result",
    "lists for tuples",
    "another default dtype",
)


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("style", CROSSING)
def test_a_harmless_style_is_right(lab, style):
    cards = labs.load(lab).exercises
    styled = {name: STYLES[style](solution, cards[name]) for name, solution in with_sources(lab).items()}
    styled, faults = {name: answer for name, answer in styled.items() if answer is not None}, []
    with (
        default_dtype(torch.float64 if style == "another default dtype" else torch.float32),
        another_process(styled) as answers,
    ):
        for name, answer in answers.items():
            faults += [f"{who}: {v}" for who, v in judged(cards[name], answer).items() if not v.passed]
    assert not faults, "\n".join(faults)


def written(exercise, mistake):
    """A mistake of the card as a student writes it: no guard around it."""
    return lambda *args: mistake._function(*(exercise.terms._function(*args) if exercise.terms else args))


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_wrong_answers_are_wrong_in_the_same_words(lab):
    """Known mistakes in their own; the others as they would be here. Nothing of the library is withheld from them."""
    cards, faults = labs.load(lab).exercises, []
    made = {(e.name, said): written(e, mistake) for e in cards.values() for said, mistake in e.mistakes.items()}
    made |= {(name, said): answer for name, found in wrong(lab).items() for said, (answer, _) in found.items()}
    with another_process({" ".join(key): answer for key, answer in made.items()}) as answers:
        for (name, said), answer in made.items():
            known, there = said in cards[name].mistakes, judged(cards[name], answers[f"{name} {said}"])
            here = {} if known else judged(cards[name], answer)
            for who, verdict in there.items():
                should = (False, said) if known else (here[who].passed, here[who].mistake)
                if (verdict.passed, verdict.mistake) != should:
                    faults.append(f"{name}, {who}: {said}\n    should be: {should}\n    is: {verdict.head}")
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_right_answers_by_jvp_are_right():
    """In any style of lab 8: with the graph of what jvp returns, by dual numbers, by double backward passes."""
    cards, faults = labs.load("lab8").exercises, []
    answers = {(name, k): answer for name, found in right("lab8").items() for k, answer in enumerate(found)}
    with another_process({f"{name} {k}": answer for (name, k), answer in answers.items()}) as there:
        for name, k in answers:
            if name != "line_flow_map":  # a call for each number, and no derivative
                verdicts = judged(cards[name], there[f"{name} {k}"])
                faults += [f"{name} {k}, {who}: {verdict}" for who, verdict in verdicts.items() if not verdict.passed]
    assert not faults, "\n".join(faults)


def test_random_numbers_of_an_answer_start_from_the_number_of_the_call():
    """So a check is the same each time; and a seed for an answer is no draw of it."""
    with another_process({"draw": lambda: torch.rand(3), "none": lambda: torch.zeros(3)}) as there:
        first, second = there["draw"](), there["draw"]()
        again = desk.Answer(there["draw"].desk, "draw")
        assert torch.equal(again(), first) and torch.equal(again(), second) and not torch.equal(first, second)
        before = torch.get_rng_state()
        there["none"]()
        assert torch.equal(torch.get_rng_state(), before)
        there["draw"]()
        assert not torch.equal(torch.get_rng_state(), before)  # a check sees that something was drawn


def test_jvp_of_a_function_elsewhere_keeps_the_graph_to_its_weights():
    """The value, its derivative, and the gradient of both in a weight that the other process does not know."""
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def f(x):
        return (weight * x).sin()

    def derived(f, x):
        value, rate = torch.func.jvp(f, (x,), (torch.ones_like(x),))
        return value.square().sum() + 3 * rate.square().sum()

    def stopped(f, x):
        with torch.no_grad():
            value, rate = torch.func.jvp(f, (x,), (torch.ones_like(x),))
        return value + rate

    with another_process({"derived": derived, "stopped": stopped}) as there:
        found, target = there["derived"](f, x), there["stopped"](f, x)
    expected = f(x).square().sum() + 3 * (weight * (weight * x).cos()).square().sum()
    torch.testing.assert_close(found.detach(), expected.detach())
    assert not target.requires_grad
    torch.testing.assert_close(target, (f(x) + weight * (weight * x).cos()).detach())
    with another_process({"derived": derived}) as there:
        gradients = [torch.autograd.grad(value, weight)[0] for value in (there["derived"](f, x), expected)]
    torch.testing.assert_close(*gradients)


def by_rows(u, x, t):
    """The divergence by torch.func, row by row."""

    def one(row, t):
        return torch.func.jacrev(lambda y: u(y.reshape(1, *x.shape[1:]), t).flatten())(row.flatten()).trace()

    return torch.vmap(one)(x, t) if torch.as_tensor(t).ndim else torch.vmap(lambda row: one(row, t))(x)


def score_by_rows(x, z, t, schedule):
    def one(x, z, t):
        a, b, *_ = schedule.weights(t, x)
        return -(x - a * z) / b**2

    return torch.vmap(one)(x, z, t) if torch.as_tensor(t).ndim else torch.vmap(lambda x, z: one(x, z, t))(x, z)


@functools.partial(torch.compile, backend="eager")
def compiled(u, x, t, h):
    return x + h * u(x, t)


@pytest.mark.slow
def test_answers_that_transform_functions_are_right():
    torch.func.jacrev(torch.sin)(torch.ones(1))  # which imports much
    made = {lab2.divergence: by_rows, lab2.conditional_score: score_by_rows, lab1.euler_step: compiled}
    with another_process({exercise.name: answer for exercise, answer in made.items()}) as answers:
        for exercise, answer in made.items():
            for found in judged(exercise, answer), judged(exercise, answers[exercise.name]):
                assert all(verdict.passed for verdict in found.values()), found
