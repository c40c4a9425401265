"""A student's page for the teacher: all that the grader knows, and every link of the report leads to it."""

from urllib.parse import unquote, urldefrag

from course import records, report, students
from course.exports import NOBODY
from course.inbox.table import Row
from course.marks import items
from course.titles import titles
from tests.html_page import Page, harmless
from tests.made_records import LAB, WRITTEN, a_class, hostile, record, rejected, ungraded


def shown(found, rows=()) -> Page:
    return harmless(students.student_page(found[0]["student"], found, rows, NOBODY))


def test_titles_are_those_of_the_lab():
    called = titles(LAB)
    assert list(called) == list(items(record("ada"))) and all(" · " in title for title in called.values())
    assert titles("lab99_gone") == titles(None) == {}


def test_a_page_holds_verdicts_hidden_values_answers_repairs_and_times():
    by_hidden, by_check = rejected()["euler_step"][0], rejected()["heun_step"][1]
    assert by_hidden[0] == "hidden" and by_check[0] == "visible"
    wrong = {"euler_step": by_hidden, "heun_step": by_check}
    ada = record("ada", wrong, notes=["a cell was copied"], flags=["to be looked at"], when=1803945600.0)
    rows = [
        Row("inbox.zip", "lab1 (1).ipynb", "ada", "", LAB, "superseded", "By inbox.zip/lab1.ipynb."),
        Row("inbox.zip", "else.ipynb", "bo", "", LAB, "graded"),
    ]
    page = shown([ada], rows)
    for _, verdict in wrong.values():
        assert verdict.expected in page.text and verdict.short in page.text
    assert "passes the check in the notebook, rejected by hidden tests" in page.text
    for words in (
        "a cell was copied",
        "to be looked at",
        "2027-03-02 00:00 UTC",
        "superseded. By inbox.zip/lab1.ipynb.",
    ):
        assert words in page.text
    assert "else.ipynb" not in page.text
    for name, title in titles(LAB).items():
        assert f"{title}: " in page.text and ada["exercises"].get(name, {"answer": ""})["answer"] in page.text


def test_what_waits_what_a_person_gave_and_what_was_not_graded_is_told():
    waiting = record("ada", written=None)
    assert shown([waiting]).text.count("waits for a person") == len(WRITTEN)
    name = next(iter(WRITTEN))
    waiting["written"][name] |= {"score": 1.5, "marked": True, "comment": "Why?"}
    text = shown([waiting]).text
    assert "1.5 of" in text and "marked by a person" in text and "Comment: Why?" in text
    assert "the file is empty" in shown([ungraded("cy")]).text


def test_a_students_words_stay_words():
    harmless(students.student_page("x", [hostile("x")], [], NOBODY))


def test_every_link_of_the_report_leads_to_a_page_and_a_place_on_it(tmp_path):
    made = [record("a b&c/ü".replace("/", "_"), {"euler_step": rejected()["euler_step"][1]}), *a_class()]
    for each in made:
        records.write(each, tmp_path)
    report.write_all(records.read(tmp_path), tmp_path, tmp_path)
    page = Page((tmp_path / f"{LAB}.html").read_text())
    links = {value for _, name, value in page.attributes if name == "href" and not value.startswith("#")}
    assert len(links) > len(made)
    for link in links:
        path, place = urldefrag(link)
        there = Page((tmp_path / unquote(path)).read_text())
        assert place in {value for _, name, value in there.attributes if name == "id"}
