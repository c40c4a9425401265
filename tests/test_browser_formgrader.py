"""What an instructor sees in formgrader, in a browser, after nbgrader's own autograde and after `make grade`."""

import json
import zipfile

import pytest

from tests import submissions
from tests.browser import TOKEN, chromium, expect, jupyterlab, needs_a_browser
from tests.classroom import copy_checkout, graded, grades, open_gradebook
from tests.test_grade import course as command
from tests.walls import needs_walls

LAB = "lab0_welcome"

pytestmark = [*needs_a_browser, pytest.mark.grading]


def test_formgrader_shows_the_marks_and_takes_those_for_the_written_answer(tmp_path):
    """The instructor opens a submission and types a mark, and the gradebook has it."""
    pytest.importorskip("nbgrader", reason="no nbgrader: pip install 'fmlab[grading]'")
    (root := tmp_path / "course").mkdir()
    graded(root, LAB, {"anna": submissions.solved(LAB)})
    with open_gradebook(root) as gradebook:
        submission = gradebook.find_submission_notebook(LAB, LAB, "anna").id
    (tmp_path / "home").mkdir()
    with jupyterlab(root, tmp_path / "home", start=root) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}/formgrader?token={TOKEN}")
        expect(page.get_by_role("link", name=LAB).first).to_be_visible()
        page.goto(f"{address}/formgrader/submissions/{submission}")
        for name, points in submissions.points(LAB).items():
            expect(page.locator(f"input.score#{name}")).to_have_attribute("placeholder", f"{points:g}")
        score = page.locator("input.score#velocity_of_a_point")
        score.fill("1")
        with page.expect_response(lambda answer: "/api/grade/" in answer.url and answer.request.method == "PUT"):
            score.press("Tab")
    with open_gradebook(root) as gradebook:
        assert grades(gradebook, LAB, "anna")["velocity_of_a_point"].manual_score == 1


@needs_walls
def test_formgrader_shows_what_is_released_and_handed_in_and_when(tmp_path, monkeypatch):
    """After `make grade`: the lab is released and has its date; each hand-in has its own, its marks and the penalty."""
    (root := tmp_path / "course").mkdir()
    copy_checkout(root, "nbgrader_config.py", "pyproject.toml", "course", "fmlab")
    (root / "edition.toml").write_text("[lab0]\ndue = 2027-03-01T12:00:00Z\n[late]\nper_day = 0.5\n")
    monkeypatch.setenv("FMLAB_EDITION", str(root / "edition.toml"))
    with zipfile.ZipFile(root / "inbox.zip", "w") as inbox:
        for name, day in (("anna", 1), ("bo", 2)):
            path = zipfile.ZipInfo(f"{name}/{LAB}.ipynb", (2027, 3, day, 9, 0, 0))
            inbox.writestr(path, json.dumps(submissions.solved(LAB)))
    command(root, "grade", "inbox.zip", "--workers", "2")
    (tmp_path / "home").mkdir()
    with jupyterlab(root, tmp_path / "home", start=root) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}/formgrader?token={TOKEN}")
        row = page.get_by_role("row").filter(has_text=LAB)
        expect(row.locator(".status")).to_have_text("released")
        expect(row.locator(".duedate")).to_contain_text("2027-03-01 12:00:00")
        expect(row.locator(".num-submissions")).to_have_text("2")
        page.goto(f"{address}/formgrader/manage_submissions/{LAB}")
        for name, when in (("anna", "2027-03-01 09:00:00"), ("bo", "2027-03-02 09:00:00")):
            row = page.get_by_role("row").filter(has_text=name)
            expect(row.locator(".timestamp")).to_contain_text(when)
            expect(row.locator(".status")).to_have_text("needs manual grading")
            expect(row.locator(".score")).to_have_text("3 / 4")
