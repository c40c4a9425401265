"""What a student reads, and never reads."""

import base64
import io

import matplotlib.pyplot as plt
from nbformat.v4 import new_code_cell, new_output

from course import build, exports
from course.feedback import feedback
from tests.html_page import Page, harmless
from tests.made_records import HOSTILE, LAB, POINTS, WRITTEN, record, rejected, saying, ungraded


def test_students_never_read_what_hidden_tests_say():
    """Of all verdicts, as if only hidden tests rejected the answer, nothing but the words of the card; of rejections in
    words that are not the check's, nothing."""
    cases = [(name, verdict) for name, found in rejected().items() for _, verdict in found]
    secret = saying("simulate", "", "the secret reference\n  called with a tensor of shape (7, 7, 7)")[1]
    for name, verdict in [*cases, ("simulate", secret)]:
        for by in ("hidden", "process", "a rule of next year"):
            made = record("anna", {name: (by, verdict)})
            for text in (feedback(made), exports.to_gradescope(made), exports.to_moodle([made])):
                numbers = f"expected {verdict.expected}", f"found    {verdict.found}"
                for told in filter(None, (verdict.reason, verdict.where, *numbers)):
                    assert told not in text and told not in Page(text).text
            page = Page(feedback(made))
            assert ("further tests" in page.text) == (by == "hidden")
            assert (verdict.mistake in page.text) == (by == "hidden" or not verdict.mistake)


def test_feedback_shows_scores_verdicts_and_repairs():
    slip = next(v for v in rejected()["euler_step"] if v[0] == "visible")
    page = harmless(feedback(record("anna", {"euler_step": slip}, notes=["a cell was copied"])))
    points = page.column("scores", "points")
    assert (
        points["euler_step"] == f"0 of {POINTS['euler_step']}"
        and points["simulate"] == f"{POINTS['simulate']} of {POINTS['simulate']}"
    )
    assert {name: points[name] for name in WRITTEN} == {name: f"2.5 of {most}" for name, most in WRITTEN.items()}
    assert page.column("scores", "what was found")["euler_step"] == str(slip[1])
    assert "a cell was copied" in page.text
    waiting = harmless(feedback(record("anna", written=None)))
    assert {waiting.column("scores", "points")[name] for name in WRITTEN} == {"waiting"}
    assert "points so far" in waiting.text


def test_what_a_person_wrote_is_read_and_where_it_belongs():
    name = next(iter(WRITTEN))
    made = record("anna")
    made["written"][name] |= {"comment": f"Why?\n{HOSTILE}", "answer": "Because."}
    made["exercises"]["simulate"] |= {"comment": "Elegant."}
    found = harmless(feedback(made)).column("scores", "what was found")
    assert found[name].startswith(f"Your instructor: Why?\n{HOSTILE}") and found[name].endswith("Because.")
    assert found["simulate"].startswith("✓ right") and found["simulate"].endswith("Your instructor: Elegant.")
    assert not any("instructor" in words for other, words in found.items() if other not in (name, "simulate"))


def test_feedback_on_an_ungraded_file_has_no_marks_and_not_the_instructors_words():
    page = harmless(feedback(ungraded("anna", reason="tries to read the gradebook")))
    assert "No mark yet" in page.text and "gradebook" not in page.text and "scores" not in page.tables
    flagged = harmless(feedback(record("anna", flags=["looks at the grader's files"])))
    assert "grader's files" not in flagged.text


def test_feedback_with_the_notebook_shows_students_cells_and_figures_but_no_tests():
    (source,) = build.sources([LAB])
    notebook = build.read(source)  # with solutions as answers and all hidden tests
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
            cell.outputs = [new_output("stream", text="what a hidden test prints")]
    cells = {cell.id: cell for cell in notebook.cells}
    figure = io.BytesIO()
    plt.figure(figsize=(1, 1)).savefig(figure, format="png")
    png = base64.b64encode(figure.getvalue()).decode()
    cells["euler_step-answer"].source += "  # my answer"
    own = new_code_cell("mine = 1", id="own", outputs=[new_output("stream", text="what mine prints")])
    silent = new_code_cell("silent = 2", id="silent")
    notebook.cells += [own, silent]
    cells["euler_step-answer"].outputs = [
        new_output("display_data", {"image/png": png + "\n", "text/plain": "a figure"}),
        new_output("display_data", {"image/png": '"><script>alert(1)</script>', "text/plain": "no figure"}),
        new_output("display_data", {"text/html": "<script>alert(3)</script>", "text/plain": HOSTILE}),
        new_output("stream", text="y" * 1_000_000),
        new_output("error", ename="E", evalue="e", traceback=["\x1b[31mValueError\x1b[0m: e"]),
    ]
    text = feedback(record("anna"), notebook)
    page = harmless(text)
    assert page.tags["img"] == 1 and ("img", "src", f"data:image/png;base64,{png}") in page.attributes
    assert all(name == "alt" or value for tag, name, value in page.attributes if tag == "img")
    assert HOSTILE in page.text and "ValueError: e" in page.text and "no figure" in page.text
    assert "alert(3)" not in text and len(text) < 200_000
    assert "# my answer" in page.text and "what mine prints" in page.text and "silent" not in page.text
    for secret in ("HIDDEN TESTS", "course.hidden", "hidden.lab1", "what a hidden test prints"):
        assert secret not in page.text
