"""What a student sees of a check, whatever their function does, and of hints and progress."""

import functools
import re
import time
import warnings
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from course import build
from fmlab.checks import calls, lab1, lab2, memory
from fmlab.checks.verdict import MIME, CheckFailed, Verdict
from tests import submissions
from tests.labs import source

ROOT = Path(__file__).resolve().parents[1]


def right(x, t, theta):
    return -theta * x


def wrong(x, t, theta):
    return theta * x


def unsolved(*args):
    raise NotImplementedError


def verdict(answer, exercise=lab1.ou_drift) -> str:
    with pytest.raises(CheckFailed) as failure:
        exercise(answer)
    return str(failure.value)


@pytest.fixture(autouse=True)
def fresh_lab(monkeypatch):
    """No exercise of the two labs has been checked, and no notebook is open."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for exercise in [*lab1, *lab2]:
        exercise.state, exercise.answer, exercise.hints_given = "not checked yet", None, 0


def test_a_verdict_names_the_slip_shows_numbers_and_points_to_the_notes_and_to_a_hint():
    shown = verdict(wrong)
    assert "; it looks as if the drift pushes away from 0: the sign is missing\n" in shown
    assert re.search(r"\n  expected -?\d.*\n  found    -?\d.* at \[\d, \d\] of shape \(5, 2\)", shown)
    assert shown.splitlines()[-1] == '  Reread: the SDE and the lines below it. A hint: lab1.hint("ou_drift")'


def test_the_card_shows_all_that_the_text_says_and_leads_to_the_equation():
    with pytest.raises(CheckFailed) as failure:
        lab1.ou_drift(wrong)
    shown = failure.value.verdict._repr_mimebundle_()
    card = shown["text/html"]
    assert card.startswith('<div role="alert"') and '<a href="#eq-sde">the SDE and the lines below it</a>' in card
    words = re.sub(r"\s", "", re.sub("<.*?>", "", card))
    assert words == re.sub(r"\s", "", shown["text/plain"].replace('"', "&quot;"))
    assert '<a id="eq-sde"></a>' in "".join(cell.source for cell in submissions.blank("lab1_simulation").cells)
    assert Verdict(**shown[MIME]) == failure.value.verdict


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

    head, *more = verdict(broken).splitlines()
    assert head.startswith("✗ ou_drift: raised RuntimeError: ") and "called with" not in head
    assert any("return x @ x" in line for line in more)
    assert any("called with a float32 tensor of shape (5, 2)" in line for line in more)


def test_an_error_in_a_decorated_answer_is_found_in_its_own_lines():
    def slow(function):
        @functools.wraps(function)
        def run(*args):
            return function(*args)

        return run

    @slow
    @torch.no_grad()
    def broken(x, t, theta):
        return x @ x

    assert "return x @ x" in verdict(broken)


def test_what_is_not_solved_yet_is_named():
    def heun_step(u, x, t, h):
        return euler_step(u, x, t, h)

    def euler_step(u, x, t, h):
        raise NotImplementedError

    assert "not solved yet; write your solution in the cell above" in verdict(euler_step, lab1.euler_step)
    assert "it calls euler_step, which is not solved yet" in verdict(heun_step, lab1.heun_step)


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
    return sigma * ts.diff().sqrt()[:, None] * torch.randn(len(ts) - 1, n, dtype=ts.dtype)


def test_figures_use_the_answer_once_it_has_passed(capsys):
    verdict(wrong)
    assert lab1.answer_or("ou_drift") is lab1.ou_drift.library
    assert "fmlab's own" in capsys.readouterr().out
    lab1.ou_drift(right)
    assert lab1.answer_or("ou_drift") is right
    assert capsys.readouterr().out == "✓ ou_drift: a pull towards 0\n"
    verdict(wrong)
    assert lab1.answer_or("ou_drift") is lab1.ou_drift.library


def test_hints_come_one_by_one_and_then_all(capsys):
    hints = lab1.ou_drift.hints
    for number, hint in enumerate(hints, start=1):
        lab1.hint("ou_drift")
        assert capsys.readouterr().out == f"ou_drift, hint {number} of {len(hints)}: {hint}\n"
    lab1.hint("ou_drift")
    assert capsys.readouterr().out.count("ou_drift, hint") == len(hints)


def test_a_hint_to_nothing_lists_what_there_is(capsys):
    with pytest.raises(ValueError, match=r"^lab1 has no exercise 'ou_drif'. Its exercises are: euler_step, .*ou_drift"):
        lab1.hint("ou_drif")
    lab1.hint()
    shown = capsys.readouterr().out
    assert shown.startswith('Say to which exercise: lab1.hint("euler_step"). Its exercises are: euler_step, ')


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_is_of_one_lab_and_tells_what_was_tried(capsys):
    lab1.ou_drift(right)
    for answer, exercise in ((unsolved, lab1.heun_step), (wrong, lab1.linear_flow), (wrong, lab2.divergence)):
        verdict(answer, exercise)
    capsys.readouterr()
    lab1.progress()
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(lab1.exercises)
    states = {line.split()[1]: (line[0], " ".join(line.split()[2:])) for line in lines}
    assert states["ou_drift"] == ("✓", "passed") and states["linear_flow"] == ("✗", "not right yet")
    assert states["heun_step"] == ("·", "not solved yet") and states["euler_step"] == ("·", "not checked yet")
    assert total == f"1 of {len(lines)} exercises pass"  # how many points, only the notebook knows


def cut(path: Path, *names: str) -> Path:
    """A lab's notebook in which an instructor left only these exercises, in this order."""
    nb = submissions.solved("lab1_simulation")
    nb.cells = [nb.cells[0]] + [
        cell for name in names for cell in nb.cells if cell.get("id") in (f"{name}-answer", name)
    ]
    nbformat.write(nb, path)
    return path


def test_progress_knows_the_open_notebook(tmp_path, monkeypatch, capsys):
    path = cut(tmp_path / "mine.ipynb", "ou_drift", "euler_step")
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    points = submissions.points("lab1_simulation")
    lab1.ou_drift(right)
    capsys.readouterr()
    lab1.progress()
    one, other, total = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"✓ ou_drift +passed +{points['ou_drift']} of {points['ou_drift']}", one)
    assert re.fullmatch(rf"· euler_step +not checked yet +0 of {points['euler_step']}", other)
    most = points["ou_drift"] + points["euler_step"]
    assert total == f"1 of 2 exercises pass: {points['ou_drift']} of {most} points for code"
    lab1.hint()
    assert "Its exercises are: ou_drift, euler_step\n" in capsys.readouterr().out
    lab2.progress()  # another lab than the one that is open
    assert capsys.readouterr().out.endswith(f"0 of {len(lab2.exercises)} exercises pass\n")


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.fixture
def remembering(tmp_path, monkeypatch):
    """An open notebook of two exercises, beside which there is room for a file."""
    path = cut(tmp_path / "mine.ipynb", "ou_drift", "euler_step")
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    monkeypatch.delenv("FMLAB_PROGRESS")
    return path.with_name(memory.FILE)


def restart() -> None:
    for exercise in lab1:
        exercise.state, exercise.answer = "not checked yet", None


def said(capsys) -> list[str]:
    capsys.readouterr()
    lab1.progress()
    return capsys.readouterr().out.splitlines()


def test_progress_survives_a_restart(remembering, capsys):
    points = submissions.points("lab1_simulation")
    lab1.ou_drift(right)
    restart()
    one, other, total = said(capsys)
    assert re.fullmatch(rf"✓ ou_drift +passed earlier +{points['ou_drift']} of {points['ou_drift']}", one)
    assert re.fullmatch(r"· euler_step +not checked yet +0 of \d+", other) and total.startswith("1 of 2 exercises pass")
    lab1.answer_or("ou_drift")  # the function itself is gone with the kernel
    assert "ou_drift has not passed its check yet" in capsys.readouterr().out
    verdict(wrong, lab1.ou_drift)
    restart()
    assert said(capsys)[0].startswith("· ou_drift")


def test_predictions_are_compared_and_kept_the_last_one_of_each_question(remembering, capsys):
    lab1.compare("the radius after one turn", ..., 2.5678)
    lab1.compare("the radius after one turn", " ", 2.5678)
    assert capsys.readouterr().out.count("the radius after one turn: 2.57. (You have typed no prediction") == 2
    for guess in (1, torch.tensor(1.25)):
        lab1.compare("the radius after one turn", guess, 2.5678)
    lab1.compare("the method that stays", "Euler", "Heun")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "the radius after one turn: you predicted 1.25; it is 2.57."
    assert said(capsys)[-2:] == [
        "  the radius after one turn: you predicted 1.25; it is 2.57",
        "  the method that stays: you predicted Euler; it is Heun",
    ]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"lab1": 3}', '{"lab1": {"passed": 1, "predictions": []}}', "\0"])
def test_whatever_stands_in_the_file_progress_goes_on(remembering, capsys, text):
    remembering.write_text(text)
    assert said(capsys)[-1].startswith("0 of 2 exercises pass")
    lab1.ou_drift(right)
    restart()
    assert said(capsys)[0].startswith("✓ ou_drift")


def test_where_nothing_can_be_written_nothing_is_said(remembering, monkeypatch, capsys):
    monkeypatch.setattr(Path, "write_text", lambda *args, **options: (_ for _ in ()).throw(PermissionError()))
    lab1.ou_drift(right)
    monkeypatch.undo()
    assert not remembering.exists()


# --- in a real kernel -------------------------------------------------------------------------------------------------


def run(*cells: str) -> list:
    """The outputs of cells in a real kernel, one after the other."""
    nb = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    nbformat.validate(NotebookClient(nb, kernel_name="python3", allow_errors=True).execute())
    return [cell.outputs for cell in nb.cells]


@pytest.mark.slow
def test_in_a_notebook(monkeypatch):
    """A name that is not defined, a wrong answer, a right one, the progress made; other errors are as ever."""
    (path,) = build.sources(["lab1_simulation"])
    monkeypatch.setenv("JPY_SESSION_NAME", str(ROOT / "labs" / path.stem / f"{path.stem}.ipynb"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    imports, undefined, used, other, failed, passed, made = run(
        "from fmlab.checks import lab1, lab2",
        "lab1.ou_drift(ou_drift)",
        "ou_drift(1, 2, 3)",
        "nonsense",
        "def ou_drift(x, t, theta): return x\nlab1.ou_drift(ou_drift)",
        "lab1.ou_drift(lambda x, t, theta: -theta * x)",
        "lab1.progress()",
    )
    assert imports == []
    words = "✗ ou_drift: not defined yet; run the cell above that defines it, then run this check again"
    card, error = undefined
    assert card.data["text/plain"] == words and card.data["text/html"].startswith('<div role="alert"')
    assert not card.data[MIME]["passed"] and card.data[MIME]["exercise"] == "ou_drift"
    assert (error.ename, error.traceback) == ("CheckFailed", [f"\x1b[1m{words}\x1b[0m"])
    for output in used[0], other[0]:
        assert output.ename == "NameError" and "Traceback" in "".join(output.traceback)
    card, error = failed
    assert card.data["text/html"].startswith('<div role="alert"') and 'href="#eq-sde"' in card.data["text/html"]
    (line,) = error.traceback
    assert error.ename == "CheckFailed" and re.fullmatch("\x1b\\[1m✗ ou_drift: .*\x1b\\[0m", line)
    assert "expected" in card.data["text/plain"] and "expected" not in line
    (card,) = passed
    assert card.data["text/plain"] == "✓ ou_drift: a pull towards 0"
    assert card.data["text/html"].startswith('<div role="status"')
    points = submissions.points("lab1_simulation")
    assert re.search(rf"✓ ou_drift +passed +{points['ou_drift']} of {points['ou_drift']}\n", made[0].text)
    assert re.search(rf"· euler_step +not checked yet +0 of {points['euler_step']}\n", made[0].text)
    total = f"1 of {len(points)} exercises pass: {points['ou_drift']} of {sum(points.values())} points for code\n"
    assert made[0].text.endswith(total) and "divergence" not in made[0].text


def test_the_words_of_the_labs_exist():
    """Whatever a notebook calls on its lab is there."""
    for lab in lab1, lab2:
        for name in set(re.findall(rf"\b{lab.name}\.(\w+)\(", source(lab.name).read_text())):
            assert callable(getattr(lab, name)), name


def test_a_yield_or_an_async_in_an_answer_is_spoken_of():
    def generator(x, t, theta):
        yield -theta * x

    async def coroutine(x, t, theta):
        return -theta * x

    for answer in generator, coroutine:
        assert "a yield in place of return" in verdict(answer)
