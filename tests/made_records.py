"""Records like the grader's, for the tests, with what the real checks say of wrong answers."""

import ast
import functools
import random
from dataclasses import asdict

from course import answers, hidden
from fmlab.checks import lab1
from fmlab.checks.verdict import Verdict
from tests import submissions
from tests.labs import wrong

LAB = "lab1_simulation"
POINTS, WRITTEN = submissions.points(LAB), submissions.written(LAB)
HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;{{ 7 * 7 }}"

Rejection = tuple[str, Verdict]  # by whom, and what is found


@functools.cache
def rejected() -> dict[str, list[Rejection]]:
    """What the real checks say of wrong answers to each exercise: of mistakes on its card, the first one also as if it
    had passed on the visible inputs, and of others."""
    return {exercise.name: list(_rejections(exercise)) for exercise in lab1}


def _rejections(exercise):
    answers = [exercise.mistaken(mistake) for mistake in exercise.mistakes.values()]
    yield "hidden", exercise.examine(answers[0], hidden.inputs(exercise))
    for answer in [*answers, *(answer for answer, _ in wrong("lab1").get(exercise.name, {}).values())]:
        yield "visible", exercise.examine(answer)


def verdict_on(name: str, answer) -> Rejection:
    verdict = getattr(lab1, name).examine(answer)
    assert not verdict.passed
    return "visible", verdict


def saying(name: str, by: str, reason: str) -> Rejection:
    """A rejection in these words."""
    return by, Verdict(name, False, reason)


@functools.cache
def stubs() -> dict[str, str]:
    blank = submissions.blank(LAB)
    return {name: next(c.source for c in blank.cells if c.id == f"{name}-answer") for name in POINTS}


def record(student, wrong=None, written=2.5, **more):
    """wrong: exercise → (by, verdict). Every other answer is the official one, and right."""
    right = {name: asdict(Verdict(name, True, getattr(lab1, name).passed)) for name in POINTS}
    exercises = {
        name: {"points": float(points), "score": float(points), "by": "", "verdict": right[name], "answer": answer}
        for (name, points), answer in zip(POINTS.items(), answers.official(LAB).values())
    }
    for name, (by, verdict) in (wrong or {}).items():
        answer = f"def {name}(*args):\n    return None"
        exercises[name].update(score=0.0, by=by, verdict=asdict(verdict), answer=answer)
    return {
        "student": student,
        "lab": LAB,
        "file": f"{LAB}.ipynb",
        "sha256": "0" * 64,
        "status": "graded",
        "reason": "",
        "notes": [],
        "flags": [],
        "exercises": exercises,
        "written": {name: {"points": float(p), "score": written, "answer": "A text."} for name, p in WRITTEN.items()},
        "seconds": 1.9,
    } | more


def unsolved(student):
    made = record(student, {name: saying(name, "visible", "not solved yet; …") for name in POINTS}, written=0.0)
    for name, exercise in made["exercises"].items():
        exercise["answer"] = stubs()[name]
    return made


def ungraded(student, reason="the file is empty"):
    return record(student, status="ungraded", reason=reason, exercises={}) | {"written": {}}


def a_class(size=40, seed=0):
    """Students of different strength, whose wrong answers are those of the tables."""
    draw = random.Random(seed)
    records = []
    for number in range(size):
        strength = draw.random()
        missed = [name for name in POINTS if name != "strong_and_weak_error" and draw.random() > strength]
        wrong = {name: draw.choice(rejected()[name]) for name in missed}
        records.append(record(f"student{number:03}", wrong, written=draw.choice([None, 0.0, 1.5, 3.0])))
    return records + [unsolved("blank"), ungraded("gone"), ungraded("lost")]


def hostile(student=HOSTILE):
    wrong = {name: saying(name, "visible", f"raised ValueError: {HOSTILE}\n{HOSTILE}") for name in POINTS}
    made = record(student, wrong, notes=[HOSTILE], flags=[HOSTILE], file=HOSTILE)
    for exercise in made["exercises"].values():
        exercise["answer"] = f'"""{HOSTILE}"""\ndef f():\n    return {HOSTILE!r} + str(12345678)'
    return made


class Style(ast.NodeTransformer):
    """A program as another student would write it: operands exchanged, results named, a slip now and then."""

    def __init__(self, draw):
        self.draw = draw

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, (ast.Add, ast.Mult)) and self.draw.random() < 0.4:
            node.left, node.right = node.right, node.left
        elif self.draw.random() < 0.05:
            node.op = self.draw.choice([ast.Add(), ast.Sub(), ast.Mult(), ast.Div()])
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        if self.draw.random() < 0.6:
            return node
        name = self.draw.choice(["result", "out", "y"])
        return [ast.Assign([ast.Name(name, ast.Store())], node.value), ast.Return(ast.Name(name, ast.Load()))]


def styled_record(student, seed):
    made, draw = record(student), random.Random(seed)
    for exercise in made["exercises"].values():
        tree = Style(draw).visit(ast.parse(exercise["answer"]))
        exercise["answer"] = ast.unparse(ast.fix_missing_locations(tree))
    return made
