"""Written answers, question by question: a page on this machine with all answers to one of them, names hidden.

    python -m course read                       serves it, and opens a browser

The model answer and the lines of a rubric stand beside; points are given by key, comments are used again.
What is given is in nbgrader's gradebook at once, so formgrader and the reports have it, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import webbrowser
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tornado import httpserver, netutil, web

from course import gradebook
from course.build import short
from course.edition import current
from course.pages import clean, page
from course.prose import prose
from course.records import Record, by_lab
from course.titles import asked, models, titles

LONGEST = 10_000  # characters of a comment


class Answer(NamedTuple):
    """A written answer as it is shown. key: what stands for the student on the page; they are ordered by it."""

    key: str
    student: str
    text: str
    score: float | None
    comment: str


class Question(NamedTuple):
    lab: str
    name: str
    title: str
    points: float
    model: str
    rubric: Sequence[str]
    answers: Sequence[Answer]

    @property
    def waiting(self) -> int:
        return sum(answer.score is None for answer in self.answers)


def questions(records: Sequence[Record], salt: str) -> dict[tuple[str, str], Question]:
    """By lab and name, with all answers, blank ones excepted. salt: so that a key tells nobody whose it is."""
    found = {}
    for lab, mine in by_lab(records).items():
        graded = [record for record in mine if record["status"] == "graded"]
        for name in dict.fromkeys(name for record in graded for name in record["written"]):
            answers = [
                Answer(_key(salt, lab, name, record["student"]), record["student"], item["answer"], *_given(item))
                for record in graded
                if (item := record["written"].get(name)) and not _is_blank(item)
            ]
            points = max(record["written"][name]["points"] for record in graded if name in record["written"])
            title, model = titles(lab).get(name, name), models(lab).get(name, "")
            rubric = current().of(short(lab)).rubric.get(name, ())
            found[lab, name] = Question(lab, name, title, points, model, rubric, sorted(answers))
    return found


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:16]


def _given(item: dict[str, Any]) -> tuple[float | None, str]:
    return item["score"], item.get("comment", "")


def _is_blank(item: dict[str, Any]) -> bool:
    """Whether the grader gave 0 since nothing was written, and nobody has said otherwise."""
    return item["score"] == 0 and not item.get("marked") and not item.get("comment")


# --- pages ------------------------------------------------------------------------------------------------------------


class Handler(web.RequestHandler):
    """What all pages have in common: only who has the token of this run gets in, and no page loads anything else."""

    load: Callable[[], dict[tuple[str, str], Question]]
    url: str

    def initialize(self, load, url):
        self.load, self.url = load, url

    def prepare(self):
        given = self.get_query_argument("token", "") or self.get_cookie("fmlab-token", "")
        if not secrets.compare_digest(given, self.settings["token"]):
            raise web.HTTPError(403, reason="open the address that the terminal shows")
        self.set_cookie("fmlab-token", self.settings["token"], httponly=True, samesite="Strict")

    def set_default_headers(self):
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
            "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        )
        self.set_header("Cache-Control", "no-store")

    def question(self, lab: str, name: str) -> Question:
        try:
            return self.load()[lab, name]
        except KeyError:
            raise web.HTTPError(404) from None


class Home(Handler):
    """The questions, and how many answers wait."""

    def get(self):
        self.finish(page("reading_home.html", questions=list(self.load().values())))


class Page(Handler):
    """All answers to a question, those that wait first."""

    def get(self, lab: str, name: str):
        question = self.question(lab, name)
        answers = sorted(question.answers, key=lambda answer: answer.score is not None)
        comments = Counter(answer.comment for answer in answers if answer.comment)
        self.finish(
            page(
                "reading.html",
                question=question,
                answers=[(answer, prose(answer.text), prose(answer.comment)) for answer in answers],
                model=prose(question.model),
                asked=prose(asked(question.lab).get(question.name, "")),
                comments=[comment for comment, _ in comments.most_common(20)],
                xsrf=self.xsrf_token.decode(),
            )
        )


class Give(Handler):
    """Points and a comment for one answer."""

    def post(self, lab: str, name: str, key: str):
        question = self.question(lab, name)
        answer = next((answer for answer in question.answers if answer.key == key), None)
        if answer is None:
            raise web.HTTPError(404)
        try:
            said = json.loads(self.request.body)
            score, comment = said["score"], clean(str(said["comment"]))[:LONGEST]
            if score is not None:
                score = float(score)
                if not 0 <= score <= question.points:
                    raise ValueError
        except (ValueError, KeyError, TypeError):
            raise web.HTTPError(400, reason=f"points are a number from 0 to {question.points:g}") from None
        gradebook.give(self.url, lab, answer.student, name, score, comment)
        self.finish({"waiting": self.question(lab, name).waiting, "comment": prose(comment)})


SCRIPT = (Path(__file__).parent / "templates" / "reading.js").read_text(encoding="utf-8")


class Script(web.RequestHandler):
    def get(self):
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(SCRIPT)


def app(load: Callable[[], Sequence[Record]], url: str, token: str) -> web.Application:
    """load: the records with what persons gave. url: of the gradebook."""
    shared = {"load": lambda: questions(load(), token), "url": url}
    return web.Application(
        [
            (r"/", Home, shared),
            (r"/reading\.js", Script),
            (r"/([\w-]+)/(\w+)", Page, shared),
            (r"/([\w-]+)/(\w+)/([0-9a-f]{16})", Give, shared),
        ],
        token=token,
        xsrf_cookies=True,
        xsrf_cookie_kwargs={"httponly": True, "samesite": "Strict"},
    )


def serve(load: Callable[[], Sequence[Record]], url: str, port: int, browser: bool) -> None:
    """Serve until it is interrupted. port: 0 for any that is free."""
    asyncio.run(_serve(load, url, port, browser))


async def _serve(load: Callable[[], Sequence[Record]], url: str, port: int, browser: bool) -> None:
    token = secrets.token_urlsafe(24)
    sockets = netutil.bind_sockets(port, "127.0.0.1")
    server = httpserver.HTTPServer(app(load, url, token))
    server.add_sockets(sockets)
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/?token={token}"
    print(f"Written answers: {address}\nControl-C ends it; what was given is in the gradebook.", flush=True)
    if browser:
        webbrowser.open(address)
    await asyncio.Event().wait()
