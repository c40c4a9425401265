"""How hard questions were and what went wrong, compared with numpy, and as it is read on the page."""

import re

import numpy as np
import pytest

from course import analysis, answers
from course.report import class_report
from fmlab.checks import lab1
from tests.html_page import Page
from tests.made_records import (
    LAB,
    POINTS,
    WRITTEN,
    a_class,
    record,
    rejected,
    saying,
    stubs,
    ungraded,
    unsolved,
    verdict_on,
)


def score_matrix(records):
    """Students × exercises."""
    graded = [r for r in records if r["status"] == "graded"]
    return np.array([[r["exercises"][name]["score"] for name in POINTS] for r in graded])


def test_easiness_and_discrimination_agree_with_numpy():
    records = a_class()
    scores = score_matrix(records)
    found = {q["name"]: q for q in analysis.questions(records)}
    page = Page(class_report(records, LAB))
    for k, (name, points) in enumerate(POINTS.items()):
        share, rest = scores[:, k].mean() / points, np.delete(scores, k, axis=1).sum(1)
        correlation = np.corrcoef(scores[:, k], rest)[0, 1]
        assert found[name]["difficulty"] == pytest.approx(share)
        assert found[name]["discrimination"] == pytest.approx(correlation)
        assert page.column("questions", "easiness")[name] == f"{100 * share:.0f} %"
        assert page.column("questions", "discrimination")[name] == f"{correlation:.2f}"
    for name in WRITTEN:  # against all code, over those whose text was read
        graded = [r for r in records if r["status"] == "graded"]
        read = np.array([r["written"][name]["score"] is not None for r in graded])
        text = np.array([r["written"][name]["score"] for r in graded])[read].astype(float)
        assert found[name]["discrimination"] == pytest.approx(np.corrcoef(text, scores[read].sum(1))[0, 1])


def test_discrimination_is_blank_where_it_is_undefined():
    same = [record(f"s{k}", {"simulate": rejected()["simulate"][0]} if k % 2 else {}) for k in range(6)]
    assert analysis.discrimination("euler_step", same) is None  # right for all
    assert analysis.discrimination("simulate", same) is None  # the rest is right for all
    assert analysis.discrimination("simulate", a_class(2, seed=3)[:2]) is None
    assert Page(class_report(same, LAB)).column("questions", "discrimination")["simulate"] == ""


def test_shares_of_outcomes():
    words = rejected()["euler_step"]
    visible, hidden = (next(v for v in words if v[0] == by) for by in ("visible", "hidden"))
    records = [record("a", {"euler_step": visible}), record("b", {"euler_step": hidden}), record("c"), unsolved("d")]
    records += [record("e", {"euler_step": saying("euler_step", "process", "it never came back")}), ungraded("f")]
    page = Page(class_report(records, LAB))
    columns = "untouched", "notebook's check", "hidden tests", "other"
    assert [page.column("questions", name)["euler_step"] for name in columns] == ["20 %"] * 4
    assert all(page.column("questions", name)[text] == "" for name in columns for text in WRITTEN)
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert "marked by a person 5" in labels
    assert "right 1, hidden tests only 1, notebook's check 1, other 1, untouched 1" in labels


def test_what_was_handed_out_is_untouched_and_what_was_solved_is_not():
    assert all(map(answers.untouched, stubs().values()))
    assert not any(map(answers.untouched, answers.official(LAB).values()))
    assert not answers.untouched("def f(x):\n    raise NotImplementedError\n    return x")
    assert not answers.untouched("def f(x):\n    return x  # raise NotImplementedError")
    assert not answers.untouched("def f(x) raise NotImplementedError")


def test_histogram_agrees_with_numpy():
    for most in (7.0, 10.0, 41.5):
        marks = np.random.default_rng(0).integers(0, int(2 * most) + 1, 300) / 2
        expected = np.histogram(10 * marks, bins=most * np.arange(11))[0].tolist()
        assert analysis.histogram((mark, most) for mark in marks) == expected
    page = Page(class_report(a_class(), LAB))
    labels = [value for tag, name, value in page.attributes if name == "aria-label" and "tenth" in value]
    assert len(labels) == 2 and sum(map(int, re.findall(r"\d+", labels[0]))) == 41


def test_misconceptions_are_counted_by_idea():
    """One student for each wrong answer: every idea is found, in the words of its card, hidden ones too."""
    cases = [(name, rejection) for name, rejections in rejected().items() for rejection in rejections]
    rows = analysis.misconceptions([record(f"s{k:03}", {name: found}) for k, (name, found) in enumerate(cases)])
    assert sum(row["count"] for row in rows) == len(cases)
    assert sum(row["hidden"] for row in rows) == sum(by == "hidden" for _, (by, _) in cases) == len(POINTS)
    assert [row["count"] for row in rows] == sorted((row["count"] for row in rows), reverse=True)
    found = {(row["exercise"], row["idea"]): row for row in rows}
    for exercise in lab1:
        first, *_ = exercise.mistakes
        for mistake in exercise.mistakes:
            row = found[exercise.name, mistake]
            assert f"; it looks as if {mistake}" in row["example"].splitlines()[0]
            assert row["hidden"] == (mistake == first)
    named = {(name, verdict.mistake) for name, (_, verdict) in cases if verdict.mistake}
    assert not any(re.search(r"\d\.\d", row["idea"]) for key, row in found.items() if key not in named)
    shown = Page(class_report([record("a", {"euler_step": rejected()["euler_step"][0]})], LAB))
    assert next(iter(lab1.euler_step.mistakes)) in shown.text


def test_verdicts_that_differ_in_numbers_are_one_misconception():
    def answer(offset):
        return lambda x, t, theta: x.sin() * offset

    found = [verdict_on("ou_drift", answer(offset)) for offset in (1.0, -2.5, 1e-3)]
    assert len({str(verdict) for _, verdict in found}) == 3
    rows = analysis.misconceptions([record(f"s{k}", {"ou_drift": v}) for k, v in enumerate(found)] + [unsolved("z")])
    assert [(row["count"], row["example"]) for row in rows] == [(3, str(found[0][1]))]
    _, raised = saying("f", "visible", "raised ValueError: 3 of float32 at 0x7f3a, W_0 is -1.5e-3\n  in line 2: f(3)")
    assert analysis.idea(raised) == "raised ValueError: … of float32 at …, W_0 is …"


def test_what_a_person_decided_is_no_outcome_of_the_check():
    wrong, right = record("a", {"simulate": rejected()["simulate"][0]}), record("b")
    for made in (wrong, right):
        made["exercises"]["simulate"] |= {"marked": True, "score": 1.5}
    (question,) = (q for q in analysis.questions([wrong, right]) if q["name"] == "simulate")
    assert question["outcomes"] == {"marked": 2} and question["difficulty"] == 1.5 / POINTS["simulate"]
    assert [row["exercise"] for row in analysis.misconceptions([wrong, right])] == ["simulate"]
