"""Right and wrong answers to every exercise: what students see and what they do not is one check.

Wrong answers that are known mistakes stand on the cards (`test_exercises`); `tests/wrong_answers` has the others.
"""

import pytest
import torch

from course import hidden
from fmlab.checks import lab as labs
from fmlab.checks.calls import Guarded
from fmlab.checks.verdict import CheckFailed
from tests.labs import LABS, right, solutions, source, wrong

SEEDS = 20


def draws(exercise, answer, inputs) -> bool:
    """Whether random numbers are drawn while an answer is judged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        list(exercise.traces(Guarded(answer), inputs))
        return not torch.equal(before, torch.get_rng_state())


def judged(exercise, answer, name: bool = True) -> dict[str, list]:
    """The verdicts on an answer, "visible" and "hidden", for 20 seeds; for one if nothing random is drawn."""
    found = {}
    for who, inputs in ("visible", exercise.visible), ("hidden", hidden.inputs(exercise)):
        seeds = range(SEEDS if draws(exercise, answer, inputs) else 1)
        found[who] = [exercise.examine(answer, inputs, seed=seed, name=name) for seed in seeds]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_kill_rate(lab, capsys):
    """Every wrong answer is rejected, visibly and hidden, in the right words, and every right one accepted; over 20
    seeds where anything is random. Prints the table of a lab."""
    rows, faults = [], []
    for exercise in labs.load(lab):
        answers, styles = wrong(lab).get(exercise.name, {}), right(lab)[exercise.name]
        assert len(styles) >= 3 and len(answers) + len(exercise.mistakes) >= 6, exercise.name
        named = visible = unseen = 0
        for name, (answer, words) in answers.items():
            found = judged(exercise, answer)
            visible += all(not verdict.passed for verdict in found["visible"])
            unseen += all(not verdict.passed for verdict in found["hidden"])
            named += bool(words)
            faults += [
                f"{exercise.name}: wrong answer {name!r}, {who}: {verdict.head}"
                for who, verdicts in found.items()
                for verdict in verdicts
                if verdict.passed or words not in str(verdict)
            ]
        for k, answer in enumerate(styles):
            faults += [
                f"{exercise.name}: right answer {k}, {who}: {verdict}"
                for who, verdicts in judged(exercise, answer).items()
                for verdict in verdicts
                if not verdict.passed
            ]
        rows.append((exercise.name, len(exercise.mistakes), len(answers), visible, unseen, named, len(styles)))
    with capsys.disabled():
        heads = ("mistakes", "wrong", "visible", "hidden", "named", "right")
        print(f"\n{lab:32}{''.join(f'{head:>10}' for head in heads)}")
        for name, *numbers in [*rows, ("all", *map(sum, zip(*(row[1:] for row in rows), strict=True)))]:
            print(f"{name:32}{''.join(f'{number:10}' for number in numbers)}")
    assert faults == [], "\n".join(faults)
    mistakes, others, named = (sum(row[k] for row in rows) for k in (1, 2, 5))
    assert mistakes + named >= 0.95 * (mistakes + others)


def unsolved(*args):
    raise NotImplementedError


UNUSABLE = {
    "a text": lambda *args: "x",
    "nothing": lambda *args: None,
    "what it was given": lambda *args: args,
    "no arguments": lambda: None,
    "an empty tensor": lambda *args: torch.tensor([]),
    "nan": lambda *args: torch.tensor(float("nan")),
    "a list of nan": lambda *args: [torch.full((5, 2), float("nan"))] * 2,
    "a function": lambda *args: lambda *more: None,
}


@pytest.mark.parametrize("lab", LABS)
def test_unsolved_and_unusable_answers_get_a_verdict(lab):
    for exercise in labs.load(lab):
        for answer, words in [(unsolved, "not solved yet"), (None, "a function"), (3.0, "a function")]:
            with pytest.raises(CheckFailed, match=rf"(?s)^✗ {exercise.name}: .*{words}"):
                exercise(answer)
        for kind, answer in UNUSABLE.items():
            verdict = exercise.examine(answer)
            assert not verdict.passed and verdict.reason, (exercise.name, kind)
            assert "could not be compared" not in verdict.reason, (exercise.name, kind, verdict.reason)


class Replay:
    """An answer that knows nothing but what it returned while it was recorded, call by call."""

    def __init__(self, answer):
        self.answer, self.tape, self.calls = answer, [], 0

    def record(self, *args):
        self.tape.append(self.answer(*args))
        return self.tape[-1]

    def __call__(self, *args):
        self.calls += 1
        return self.tape[(self.calls - 1) % len(self.tape)]


@pytest.mark.parametrize("lab", LABS)
def test_hard_coding_what_the_visible_check_wants_is_not_enough(lab):
    """The one kind of answer that passes on the visible inputs and not on the others: it fits them alone."""
    for name, solution in solutions(source(lab)).items():
        exercise, replay = labs.load(lab).exercises[name], Replay(solution)
        assert exercise.examine(replay.record).passed
        assert not exercise.examine(replay, hidden.inputs(exercise)).passed, name
