"""Every exercise, as one object: what its card promises holds for what students see and for what they do not."""

import re
from itertools import combinations

import pytest
import torch

from course import hidden
from fmlab.checks import lab as labs
from fmlab.checks.exercise import Exercise
from tests.labs import LABS, solutions, source

EXERCISES = [exercise for lab in LABS for exercise in labs.load(lab)]


def everywhere(exercise: Exercise) -> dict[str, list]:
    """The inputs that students see, and those that they do not."""
    return {"visible": exercise.visible, "hidden": hidden.inputs(exercise)}


def verdicts(exercise: Exercise, answer, **options) -> dict:
    """The verdicts on an answer, "visible" and "hidden"."""
    return {who: exercise.examine(answer, inputs, **options) for who, inputs in everywhere(exercise).items()}


@pytest.fixture(params=EXERCISES, ids=repr)
def exercise(request) -> Exercise:
    return request.param


def test_the_card_is_whole(exercise):
    anchor, said = exercise.reread
    text = source(exercise.lab).read_text()
    assert f'<a id="{anchor}"></a>' in text, "what to reread is not in the notebook"
    assert said and exercise.passed and "docs/" not in said
    assert 1 <= len(exercise.hints) <= 3 and all(hint.endswith((".", "?")) for hint in exercise.hints)
    assert len(exercise.mistakes) >= 4
    assert len(exercise.visible) >= 2 and len(hidden.inputs(exercise)) >= 2


def test_the_library_and_the_solution_are_right(exercise):
    for answer in exercise.library, solutions(source(exercise.lab))[exercise.name]:
        for who, verdict in verdicts(exercise, answer, withhold=False).items():
            assert verdict.passed, f"{who}: {verdict}"


def test_every_mistake_is_rejected_in_its_own_words(exercise):
    """Visibly and hidden, where it is judged as an answer of a student's is."""
    faults = []
    for mistake, function in exercise.mistakes.items():
        for who, verdict in verdicts(exercise, exercise.mistaken(function)).items():
            if verdict.passed or verdict.mistake != mistake:
                faults.append(f"{who}: {mistake}\n    {verdict.head}")
            if verdict.expected and verdict.expected == verdict.found:
                faults.append(f"{who}: {mistake}: shows the same number twice, {verdict.found}")
            if private := re.search(r"\b(Bare|Weighted|Field|OnCard|Guarded|Remote|a str|a float)\b", str(verdict)):
                faults.append(f"{who}: {mistake}: speaks of {private[0]!r}, which no student knows")
    assert not faults, "\n".join(faults)


def test_no_two_mistakes_are_one(exercise):
    """Nor is any of them the truth: in what students see, and in what they do not."""
    for who, inputs in everywhere(exercise).items():
        torch.manual_seed(0)
        shown = {words: exercise.shown_by(words, inputs) for words in exercise.mistakes}
        same = [pair for pair in combinations(shown, 2) if exercise.agree(shown[pair[0]], shown[pair[1]])]
        assert not same, who


def test_no_mistake_is_wrong_by_a_slip_of_the_card_itself(exercise):
    """It may raise where students' code would, over shapes and kinds, but not over a name that does not exist."""
    for who, inputs in everywhere(exercise).items():
        for mistake in exercise.mistakes:
            ends = [trace.end.key for trace in exercise.shown_by(mistake, inputs) if trace.end]
            kinds = {key[0] for key in ends if isinstance(key, tuple)}
            assert not kinds & {"NameError", "UnboundLocalError", "AttributeError", "KeyError"}, (who, mistake, ends)
