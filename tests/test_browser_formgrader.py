"""What an instructor sees in formgrader, in a browser, after nbgrader's own autograde."""

import pytest

from tests import submissions
from tests.browser import TOKEN, chromium, expect, jupyterlab, needs_a_browser
from tests.classroom import graded, grades, open_gradebook

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
