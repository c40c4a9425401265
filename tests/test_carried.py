"""One mistake costs one exercise: what builds on a wrong answer is judged with the library's in its place."""

import functools
from unittest import mock

import pytest

from course import build, hidden
from course.ipython import names
from fmlab.checks import carried
from fmlab.checks import lab as labs
from fmlab.checks.verdict import CheckFailed
from tests.labs import SOURCES, namespace


def building() -> list[tuple[str, str, str]]:
    """(lab, exercise, another that its solution uses)."""
    found = []
    for path in SOURCES:
        cards = labs.load(path.stem.split("_")[0]).exercises
        for cell in build.read(path).cells:
            name = cell.id.removesuffix("-answer")
            if build.is_solution(cell) and name in cards:
                found += [(path, name, other) for other in sorted(names(cell.source).used & {*cards} - {name})]
    return found


@pytest.fixture(params=building(), ids=lambda case: " ".join([case[0].stem, *case[1:]]))
def case(request):
    """An exercise, its solution, and another of its lab that it uses, which is not solved."""
    path, name, other = request.param
    cards, notebook = labs.load(path.stem.split("_")[0]).exercises, namespace(path)
    before, solved = [(card, vars(card).copy()) for card in cards.values()], notebook[other]

    def stub(*args, **options):
        raise NotImplementedError

    notebook[other] = stub
    try:
        yield cards[name], notebook[name], cards[other]
    finally:
        assert notebook[other] is stub
        notebook[other] = solved
        for card, state in before:
            vars(card).update(state)


def test_a_right_answer_is_right_whatever_it_builds_on(case, capsys):
    card, answer, other = case
    other.answer = None
    card(answer)
    assert f"fmlab's own {other.name} in place of yours" in capsys.readouterr().out
    hidden.check(card, answer)
    assert other.answer is None and card.answer is answer


def test_a_wrong_one_is_wrong_in_words_of_its_own(case):
    card, answer, _ = case
    wrong = functools.wraps(answer)(lambda *args: None)
    with pytest.raises(CheckFailed) as caught:
        card(wrong)
    assert "in place of yours" not in str(caught.value)


def test_what_passed_is_never_replaced(case):
    """An answer that passed and then was changed for a wrong one: it is the student's own that counts."""
    card, answer, other = case
    other.answer = other.library  # anything but None
    assert not card.examine(answer).passed


SOURCE = """
import functools
def first(x): return 0
def helper(x): return first(x)
def direct(x): return first(x)
def through(x): return helper(x)
def within(x): return (lambda: [first(v) for v in x])()
partial = functools.partial(lambda k, x: first(x), 1)
class Model:
    def __call__(self, x): return first(x)
class Module:
    def forward(self, x): return helper(x)
model, module = Model(), Module()
method = module.forward
nested = functools.partial(functools.partial(model, 1))
wrapped = functools.wraps(direct)(lambda *args: 0)
def alone(x): return x
"""


@pytest.mark.parametrize(
    "name", ["direct", "through", "within", "partial", "model", "module", "method", "nested", "wrapped"]
)
def test_names_are_found_wherever_they_are_used(name):
    notebook = {}
    exec(SOURCE, notebook)
    before = dict(notebook)
    with carried.replaced(notebook[name], {"first": lambda x: 1, "alone": print}) as used:
        assert used == ["first"] and notebook["first"](0) == 1
    assert notebook == before


class Odd:
    """Whatever is asked of it raises."""

    def __getattr__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "answer", [len, 3, None, functools.partial(len), Odd, mock.Mock()], ids=lambda answer: type(answer).__name__
)
def test_what_uses_nothing_has_nothing_replaced(answer):
    with carried.replaced(answer, {"first": print}) as used:
        assert used == []


def test_an_answer_that_cannot_even_be_asked():
    with carried.replaced(Odd(), {"first": print}) as used:
        assert used == []


def test_an_error_leaves_the_notebook_as_it_was():
    notebook = {}
    exec(SOURCE, notebook)
    before = dict(notebook)
    with pytest.raises(KeyboardInterrupt), carried.replaced(notebook["direct"], {"first": print}):
        raise KeyboardInterrupt
    assert notebook == before
