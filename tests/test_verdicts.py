"""What a student sees of a check, whatever their function does, and of hints and progress."""

import re
import time
import warnings

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from fmlab.checks import calls, lab1
from fmlab.checks.compare import CheckFailed


def right(x, t, theta):
    return -theta * x


def wrong(x, t, theta):
    return theta * x


def unsolved(*args):
    raise NotImplementedError


def verdict(answer) -> str:
    with pytest.raises(CheckFailed) as failure:
        lab1.ou_drift(answer)
    return str(failure.value)


def test_a_verdict_names_the_slip_shows_numbers_and_points_to_the_notes_and_to_a_hint():
    shown = verdict(wrong)
    assert "the drift pushes away from 0" in shown
    assert re.search(r"\n  expected .*\n  found ", shown)
    assert shown.splitlines()[-1].startswith("  Reread: notes, example 6, eq. 8")
    assert shown.endswith(' A hint: lab1.hint("ou_drift")')


def test_a_call_that_never_returns_is_stopped(monkeypatch):
    def endless(x, t, theta):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pass

    monkeypatch.setattr(calls, "SECONDS", 0.2)
    assert "did not finish within 0.2 seconds" in verdict(endless)


def test_a_slow_step_of_the_check_itself_is_not_the_students():
    with calls.time_limit(0.05):
        pass
    time.sleep(0.1)  # no alarm is left behind


def test_what_is_printed_is_shown_and_too_much_is_cut_and_counted(capsys):
    def chatty(x, t, theta):
        print("x is", tuple(x.shape))
        return -theta * x

    def flooding(x, t, theta):
        for _ in range(100_000):
            print("here")
        return -theta * x

    lab1.ou_drift(chatty)
    assert capsys.readouterr().out.startswith("x is (5, 2)\n")
    lab1.ou_drift(flooding)
    shown = capsys.readouterr().out
    assert len(shown) < 3000 and "✓ ou_drift" in shown
    assert re.search(r"It printed [\d,]+ more characters than are shown", shown)


def test_an_error_is_shown_with_its_line_and_what_the_function_was_given():
    def broken(x, t, theta):
        return x @ x

    shown = verdict(broken)
    assert "raised RuntimeError" in shown and "return x @ x" in shown and "a float32 tensor of shape (5, 2)" in shown


def test_none_is_asked_for_its_return():
    assert "None (is there a return?)" in verdict(lambda x, t, theta: None)


def test_warnings_raised_by_an_answer_do_not_reach_stderr(recwarn):
    def mine(x, t, theta):
        warnings.warn("old-fashioned", stacklevel=1)
        return -theta * x

    lab1.ou_drift(mine)
    assert not recwarn


def test_a_check_leaves_the_students_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    lab1.brownian_paths(lambda n, ts, sigma: torch.cat([torch.zeros(1, n), _increments(n, ts, sigma).cumsum(0)]))
    assert torch.equal(torch.rand(3), expected)


def _increments(n, ts, sigma):
    return sigma * ts.diff().sqrt()[:, None] * torch.randn(len(ts) - 1, n)


def test_figures_use_the_answer_once_it_has_passed(capsys):
    verdict(wrong)
    assert lab1.answer_or("ou_drift", unsolved) is unsolved
    assert "fmlab's own" in capsys.readouterr().out
    lab1.ou_drift(right)
    assert lab1.answer_or("ou_drift", unsolved) is right
    assert capsys.readouterr().out == "✓ ou_drift: a pull towards 0\n"
    verdict(wrong)
    assert lab1.answer_or("ou_drift", unsolved) is unsolved


def test_hints_come_one_by_one_and_then_all(capsys):
    exercise = lab1.ou_drift.exercise
    exercise.hints_given = 0
    count = len(exercise.hints)
    assert 1 <= count <= 3
    for number in range(1, count + 1):
        lab1.hint("ou_drift")
        assert capsys.readouterr().out == f"ou_drift, hint {number} of {count}: {exercise.hints[number - 1]}\n"
    lab1.hint("ou_drift")
    assert capsys.readouterr().out.count("ou_drift, hint") == count
    with pytest.raises(ValueError, match=r"no hints for 'ou_drif'; there are hints for: .*ou_drift"):
        lab1.hint("ou_drif")


def run(*cells: str) -> list:
    """The outputs of cells in a real kernel, one after the other."""
    nb = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    nbformat.validate(NotebookClient(nb, kernel_name="python3", allow_errors=True).execute())
    return [cell.outputs for cell in nb.cells]


@pytest.mark.slow
def test_in_a_notebook():
    """A name that is not defined, a wrong answer, a right one, the progress made; other errors are as ever."""
    imports, undefined, other, failed, passed, made = run(
        "from fmlab.checks import lab1",
        "lab1.ou_drift(ou_drift)",
        "nonsense",
        "def ou_drift(x, t, theta): return x\nlab1.ou_drift(ou_drift)",
        "lab1.ou_drift(lambda x, t, theta: -theta * x)",
        "lab1.progress()",
    )
    assert imports == []
    assert undefined[0].traceback == [
        "✗ ou_drift: not defined yet; run the cell above that defines it, then run this check again"
    ]
    assert "Traceback" in "".join(other[0].traceback) and "nonsense" in other[0].evalue
    (verdict,) = failed
    assert verdict.ename == "CheckFailed"
    assert verdict.traceback[0].startswith("\x1b[1m✗ ou_drift: ") and "Reread" in verdict.traceback[-1]
    (card,) = passed
    assert card.data["text/plain"] == "✓ ou_drift: a pull towards 0"
    assert card.data["text/html"].startswith('<div role="status"')
    assert re.search(r"✓ ou_drift +passed +1 of 1\n", made[0].text)
    assert re.search(r"· euler_step +not checked yet +0 of 2\n", made[0].text)
    assert made[0].text.endswith("1 of 14 exercises pass: 1 of 33 points for code\n")
