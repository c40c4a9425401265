"""Written answers read question by question: in a real browser, into a real gradebook."""

import asyncio
import json
import re
import shutil
import threading

import pytest
import tornado.httpserver
import tornado.netutil
from nbgrader.api import Gradebook

from course import gradebook, reading, worth
from course.edition import Edition
from course.titles import asked, models, titles
from tests.browser import chromium, expect, needs_a_browser
from tests.labs import LABS
from tests.made_records import HOSTILE, LAB, WRITTEN, record
from tests.test_gradebook import labs

FIRST, SECOND = list(WRITTEN)[:2]
TOKEN = "for-this-test"


@pytest.fixture(scope="module")
def made():
    """Five who wrote something; one who wrote nothing, and has 0 for it."""
    texts = ["It is **linear**: $\\theta = 1$.", "Because.", HOSTILE, "The same *again*.", "The last one."]
    found = [record(f"student{k}", written=None) for k in range(len(texts))] + [record("blank", written=0.0)]
    for each, text in zip(found, texts):
        each["written"][FIRST]["answer"] = text
    return found


@pytest.fixture(scope="module")
def entered(made, tmp_path_factory):
    file = tmp_path_factory.mktemp("office") / "gradebook.db"
    gradebook.enter(made, labs(), f"sqlite:///{file}")
    return file


@pytest.mark.parametrize("lab", LABS)
def test_each_question_has_a_title_without_formulas_a_text_and_a_model_answer(lab):
    questions = asked(lab)
    assert questions and questions.keys() == models(lab).keys()
    for name, text in questions.items():
        assert re.match(r"\d+ · [^$\\]+$", titles(lab)[name]), titles(lab)[name]
        assert len(text) > 60 and "](#" not in text and "points)" not in text and text != models(lab)[name]


@pytest.fixture
def desk(made, entered, tmp_path):
    """The address of a server, and of its gradebook."""
    url = f"sqlite:///{shutil.copy(entered, tmp_path)}"
    load = lambda: worth.settled(gradebook.marked(made, url), Edition())  # noqa: E731
    (socket,) = tornado.netutil.bind_sockets(0, "127.0.0.1")
    started, loop = threading.Event(), asyncio.new_event_loop()

    async def serve():
        tornado.httpserver.HTTPServer(reading.app(load, url, TOKEN)).add_sockets([socket])
        started.set()

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(30)
    yield f"http://127.0.0.1:{socket.getsockname()[1]}", url
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def given(url, student, name=FIRST):
    """What the gradebook holds for an answer."""
    with Gradebook(url) as book:
        grade = book.find_grade(name, LAB, LAB, student)
        comment = book.find_comment(name, LAB, LAB, student).manual_comment
        return grade.manual_score, grade.needs_manual_grade, comment


def test_questions_have_all_that_was_written_and_no_names(made):
    found = reading.questions(made, "salt")
    assert list(found) == [(LAB, name) for name in WRITTEN]
    question = found[LAB, FIRST]
    assert (question.title, question.points) == (titles(LAB)[FIRST], WRITTEN[FIRST]) and question.waiting == 5
    assert question.model == models(LAB)[FIRST] and len(question.model) > 40 and "SOLUTION" not in question.model
    assert {answer.student for answer in question.answers} == {f"student{k}" for k in range(5)}
    keys = [answer.key for answer in question.answers]
    assert keys == sorted(keys) and not set(keys) & {
        a.key for a in reading.questions(made, "other")[LAB, FIRST].answers
    }


def test_a_rubric_stands_beside(made, monkeypatch, tmp_path):
    (tmp_path / "edition.toml").write_text(f'[lab1.rubric]\n{FIRST} = ["2: names the ratio"]')
    monkeypatch.setenv("FMLAB_EDITION", str(tmp_path / "edition.toml"))
    assert reading.questions(made, "salt")[LAB, FIRST].rubric == ["2: names the ratio"]


class TestInABrowser:
    pytestmark = needs_a_browser

    def test_points_are_given_by_key_and_comments_used_again(self, desk):
        address, url = desk
        with chromium() as browser:
            page = browser.new_page()
            complaints = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("dialog", lambda dialog: complaints.append(dialog.message))
            page.goto(f"{address}/?token={TOKEN}")
            page.get_by_role("link", name=titles(LAB)[FIRST]).click()
            answers = page.locator("article")
            expect(answers).to_have_count(5)
            assert "student" not in page.content()
            expect(page.locator("aside math").first).to_be_visible()
            expect(page.locator("aside")).to_contain_text("What does")  # the question
            expect(page.locator("article math")).to_have_count(1)
            expect(page.locator("article strong")).to_have_count(1)
            expect(page.locator("article script, article img")).to_have_count(0)

            expect(answers.nth(0)).to_be_focused()
            page.keyboard.press("2")
            expect(answers.nth(0).get_by_role("status")).to_have_text("saved")
            expect(answers.nth(1)).to_be_focused()
            expect(page.locator("#waiting")).to_have_text("4")
            page.keyboard.press("c")
            page.keyboard.type("Where is the **noise**?")
            page.keyboard.press("Escape")
            expect(answers.nth(1).locator(".comment strong")).to_have_text("noise")
            page.keyboard.press("j")
            points = answers.nth(2).get_by_label("points")
            points.fill("1,5")
            points.press("Tab")
            expect(answers.nth(2).get_by_role("status")).to_have_text("saved")
            points.fill("77")
            points.press("Tab")
            expect(answers.nth(2).get_by_role("status")).to_contain_text("from 0 to")

            page.reload()
            expect(page.locator("#waiting")).to_have_text("3")
            page.get_by_role("button", name="Where is the **noise**?").nth(4).click()
            expect(page.locator("article").nth(4).get_by_role("status")).to_have_text("saved")
            assert not complaints
        found = [given(url, f"student{k}") for k in range(5)]
        assert sorted((f[0] or 0.0) for f in found) == [0.0, 0.0, 0.0, 1.5, 2.0]
        assert all(waits == (score is None) for score, waits, _ in found)
        assert [f[2] for f in found].count("Where is the **noise**?") == 2
        assert given(url, "student0", SECOND) == (None, True, None) and given(url, "blank")[0] is None

    def test_without_the_token_nobody_reads_and_from_elsewhere_nobody_gives(self, desk):
        address, url = desk
        with chromium() as browser:
            context = browser.new_context()
            page = context.new_page()
            assert page.goto(f"{address}/").status == 403
            assert page.goto(f"{address}/?token=wrong").status == 403
            assert page.goto(f"{address}/?token={TOKEN}").status == 200
            assert page.goto(f"{address}/{LAB}/nothing").status == 404
            page.goto(f"{address}/{LAB}/{FIRST}")
            place = page.locator("article").first.get_attribute("data-place")
            xsrf = page.locator("main").get_attribute("data-xsrf")

            def post(body, **headers) -> int:
                return context.request.post(f"{address}{place}", data=body, headers=headers).status

            one = json.dumps({"score": 1, "comment": ""})
            assert post(one) == 403  # without the page's own word
            for body in ("", "{}", '{"score": -1, "comment": ""}', '{"score": 1e9, "comment": ""}', '{"score": "x"}'):
                assert post(body, **{"X-XSRFToken": xsrf}) == 400
            assert {given(url, f"student{k}")[0] for k in range(5)} == {None}
            assert post(one, **{"X-XSRFToken": xsrf}) == 200
            assert sorted(str(given(url, f"student{k}")[0]) for k in range(5)) == ["1.0", *["None"] * 4]
