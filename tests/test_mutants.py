"""Solutions with one small change are rejected: a sample here, all of them by `make mutants`."""

import ast
import random

import pytest

from fmlab.checks import lab as labs
from tests.equivalent_mutants import EQUIVALENT
from tests.labs import LABS, SOURCES
from tests.mutants import main, mutants, mutations, reason, survives

SAMPLE = 60  # mutants of a lab; another sample each time would make the test another one each time


@pytest.mark.parametrize("path", SOURCES, ids=LABS)
def test_mutants_are_rejected_and_those_listed_as_equivalent_exist_and_are_accepted(path):
    every, lab = list(mutants(path)), path.stem.split("_")[0]
    chosen = random.Random(0).sample(every, min(SAMPLE, len(every)))
    assert [f"{m.exercise}: {m.change}" for m in chosen if not reason(m) and survives(lab, m)] == []
    equivalent = [m for m in every if reason(m)]
    assert [f"{m.exercise}: {m.change}" for m in equivalent if not survives(lab, m)] == []
    listed = {(name, change) for name in labs.load(lab).exercises for change in EQUIVALENT.get(name, ())}
    assert {(m.exercise, m.change) for m in equivalent} == listed


def test_every_exercise_with_equivalent_mutants_is_in_a_lab():
    assert not EQUIVALENT.keys() - {name for lab in LABS for name in labs.load(lab).exercises}


def test_a_check_with_a_hole_is_found_out(monkeypatch, capsys):
    """Where the check in the notebook lets everything pass, the command names what it accepts, and that hidden inputs
    judge otherwise."""
    monkeypatch.setattr(
        "tests.mutants.survives",
        lambda lab, mutant, unseen=False: mutant.exercise == "ou_drift" and not unseen,
    )
    assert main(["lab1"]) == 1
    shown = capsys.readouterr().out
    assert "accepted: ou_drift: return -theta * x → return theta * x" in shown
    assert shown.count("accepted: ") == shown.count("accepted: ou_drift") == shown.count("judged otherwise: ou_drift")


def test_mutations_are_single_and_different():
    source = "def f(x, h):\n    x.zero_()\n    return (x + 2 * h).sqrt()"
    found = dict(mutations(ast.parse(source)))
    assert "return (x + 2 * h).sqrt() → return (x - 2 * h).sqrt()" in found
    assert "return (x + 2 * h).sqrt() → return x + 2 * h" in found
    assert "return (x + 2 * h).sqrt() → return (x + 2 * x).sqrt()" in found
    assert "x.zero_() → pass" in found
    assert len({ast.unparse(tree) for tree in found.values()}) == len(found)
