"""An answer in another process is judged as it would be here: right ones in every style, wrong ones in the same words."""

import functools
import os
from contextlib import contextmanager

import pytest
import torch

from course import hidden
from course.judge import Answer, Patience
from course.student import quietly, seed
from course.wire import Peer
from fmlab.checks import lab as labs
from fmlab.checks.calls import default_dtype
from tests.labs import LABS, wrong
from tests.styles import STYLES
from tests.test_styles import with_sources


class Desk:
    """As `course.judge.Desk`, for answers that are given by name."""

    def __init__(self, peer: Peer):
        self.peer, self.patience = peer, Patience()

    def call(self, name, number, args):
        return self.peer.call("call", name, number, *args)


@contextmanager
def another_process(answers: dict):
    """Functions that call these answers in a process of their own, without walls."""
    (a, b), (c, d) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(a)
        os.close(d)

        def call(name, number, *args):
            seed(number)
            return answers[name](*args)

        try:
            Peer(c, b, {"call": call}, around=functools.partial(quietly, os.getpid())).serve()
        finally:
            os._exit(0)
    os.close(b)
    os.close(c)
    peer = Peer(a, d, discreet=True)
    try:
        yield {name: Answer(Desk(peer), name) for name in answers}
    finally:
        peer.close()
        os.waitpid(child, 0)


def judged(exercise, answer) -> dict:
    """The verdicts on an answer, visible and hidden."""
    inputs = {"visible": exercise.visible, "hidden": hidden.inputs(exercise)}
    return {who: exercise.examine(answer, given, withhold=False) for who, given in inputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("style", STYLES)
def test_a_harmless_style_is_right(lab, style):
    torch._dynamo.reset()
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
    """Known mistakes in their own; the others as they would be here. What random numbers are drawn may differ."""
    cards, faults = labs.load(lab).exercises, []
    made = {(e.name, said): written(e, mistake) for e in cards.values() for said, mistake in e.mistakes.items()}
    made |= {(name, said): answer for name, found in wrong(lab).items() for said, (answer, _) in found.items()}
    with another_process({" ".join(key): answer for key, answer in made.items()}) as answers:
        for (name, said), here in made.items():
            exercise, there = cards[name], answers[f"{name} {said}"]
            expected = judged(exercise, here)
            for who, verdict in judged(exercise, there).items():
                named = said if said in exercise.mistakes else expected[who].mistake
                if verdict.passed or verdict.mistake != named:
                    faults.append(f"{name}, {who}: {said}\n    here:  {expected[who].head}\n    there: {verdict.head}")
    assert not faults, "\n".join(faults)
