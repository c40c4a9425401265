"""What the records of a lab tell: a report on the class, answers that are alike, marks for other systems, feedback.

A record is what the grader writes about one submission, `grading/autograded/STUDENT/LAB/record.json`. Much of it is in
students' own words, and they may be hostile: pages are filled by Jinja, which escapes everything, and they forbid
scripts and loading anything; tables for spreadsheets hold no formulas. The same records make the same bytes.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import functools
import html
import io
import itertools
import json
import math
import re
import statistics
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from course import build

Record = Mapping[str, Any]
Roster = Mapping[str, Mapping[str, str]]


def load(folder: Path, lab: str) -> list[dict[str, Any]]:
    """The records of a lab under `folder`, which is grading/autograded. One that is not whole is named and skipped."""
    records = []
    for path in sorted(Path(folder).glob(f"*/{lab}/record.json")):
        try:
            records.append(_checked(json.loads(path.read_bytes())))
        except (OSError, ValueError, RecursionError) as error:
            print(f"{path}: skipped, not a whole record ({error}); grade this submission again", file=sys.stderr)
    return _sorted(records)


def _checked(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict) or not isinstance(record.get("student"), str) or "status" not in record:
        raise ValueError("it names no student or no status")
    return record


def _sorted(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record["student"], json.dumps(record, sort_keys=True)))


# --- marks ------------------------------------------------------------------------------------------------------------

GRADED, WAITING, UNGRADED = "graded", "waiting for a person", "ungraded"


def items(record: Record) -> dict[str, Mapping[str, Any]]:
    """The exercises of a record and then its written answers, by name."""
    return {**record.get("exercises", {}), **record.get("written", {})}


def status(record: Record) -> str:
    """GRADED, or WAITING while a score is open, or UNGRADED."""
    if record["status"] != "graded":
        return UNGRADED
    return WAITING if any(item["score"] is None for item in items(record).values()) else GRADED


def scores(record: Record) -> dict[str, float | None]:
    """Scores by name. An ungraded submission has none, which is not the same as zeros."""
    return {} if status(record) == UNGRADED else {name: item["score"] for name, item in items(record).items()}


def total(record: Record) -> float | None:
    """All points together; None as long as one score is open."""
    return sum(scores(record).values()) if status(record) == GRADED else None


def out_of(record: Record) -> float:
    return sum(item["points"] for item in items(record).values())


def worth(records: Iterable[Record]) -> dict[str, float]:
    """What each exercise and then each written answer of the lab is worth."""
    records = list(records)
    return {
        name: item["points"]
        for part in ("exercises", "written")
        for record in records
        for name, item in record.get(part, {}).items()
    }


def _code_score(record: Record) -> float | None:
    found = [exercise["score"] for exercise in record.get("exercises", {}).values()]
    return None if status(record) == UNGRADED or not found or None in found else sum(found)


def _number(value: float | None) -> str:
    """2.0 as 2, 2.50 as 2.5, None as nothing."""
    return "" if value is None else f"{round(value, 4):.10g}"


# --- the class --------------------------------------------------------------------------------------------------------

BINS = 10
SHOWN = 50  # rows of a table, of which there may be very many


def class_report(records: Iterable[Record], lab: str) -> str:
    """One HTML page about a class: marks, exercises, misconceptions, and all that a person should look at."""
    records = _sorted(records)
    return _page(
        "report.html",
        lab=lab,
        counts=Counter(map(status, records)),
        students=[_student(record) for record in records],
        histograms=list(_histograms(records)),
        questions=questions(records),
        misconceptions=misconceptions(records),
        ungraded=[record for record in records if status(record) == UNGRADED],
        flags=[(record["student"], flag) for record in records for flag in record.get("flags", [])],
        notes=[(record["student"], note) for record in records for note in record.get("notes", [])],
        alike=similar_answers(records),
        answers={record["student"]: _answers(record) for record in records},
        shown=SHOWN,
    )


def _student(record: Record) -> dict[str, Any]:
    return {
        "name": record["student"],
        "status": status(record),
        "code": _code_score(record),
        "total": total(record),
        "out_of": out_of(record),
    }


def _histograms(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """How the points for code are spread, and all points where nothing waits."""
    for title, points, score in (
        ("Points for code", lambda r: sum(e["points"] for e in r["exercises"].values()), _code_score),
        ("All points, of those who have all their marks", out_of, total),
    ):
        known = [(score(record), points(record)) for record in records if score(record) is not None]
        if known:
            marks = [mark for mark, _ in known]
            yield {"title": title, "bins": histogram(known), "mean": statistics.fmean(marks), "most": max(known)[1]} | {
                "median": statistics.median(marks),
                "low": min(marks),
                "high": max(marks),
                "spread": statistics.pstdev(marks),
                "count": len(marks),
            }


def histogram(marks: Iterable[tuple[float, float]]) -> list[int]:
    """How many of the marks, each with its maximum, fall in each tenth of it; the last one includes full marks."""
    found = Counter(min(BINS - 1, int(BINS * mark / most)) if most else 0 for mark, most in marks)
    return [found[k] for k in range(BINS)]


def questions(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Per exercise and written answer: what it is worth, how hard it was, what it says of a student, how it went."""
    graded = [record for record in records if status(record) != UNGRADED]
    return [_question(name, points, graded) for name, points in worth(records).items()]


def _question(name: str, points: float, graded: Sequence[Record]) -> dict[str, Any]:
    found = [items(record)[name] for record in graded if name in items(record)]
    known = [item["score"] for item in found if item["score"] is not None]
    return {
        "name": name,
        "points": points,
        "difficulty": statistics.fmean(known) / points if known else None,
        "discrimination": discrimination(name, graded),
        "outcomes": Counter(map(outcome, found)),
        "count": len(found),
    }


def discrimination(name: str, records: Iterable[Record]) -> float | None:
    """Correlation of a question's score with the score for all exercises but this one; None where undefined."""
    pairs = []
    for record in records:
        item, code = items(record).get(name), _code_score(record)
        if item and item["score"] is not None and code is not None:
            pairs.append((item["score"], code - item["score"] if name in record["exercises"] else code))
    if len(pairs) < 3:
        return None
    try:
        return statistics.correlation(*zip(*pairs))
    except statistics.StatisticsError:  # one of the two is the same for all
        return None


def outcome(item: Mapping[str, Any]) -> str:
    """How an answer went: right, untouched, visible, hidden or other; a written one: marked; either: waiting."""
    if item["score"] is None:
        return "waiting"
    if "by" not in item:
        return "marked"
    if not item["by"]:
        return "right" if item["score"] else "other"
    if untouched(item.get("answer", "")):
        return "untouched"
    return item["by"] if item["by"] in ("visible", "hidden") else "other"


def untouched(answer: str) -> bool:
    """Whether a function in it does nothing but raise NotImplementedError, as when it was handed out."""
    if "NotImplementedError" not in answer:
        return False
    code, _ = _normal(answer)
    return bool(re.search(r"(?m)^( *)def .*:\n\1    raise NotImplementedError$(?!\n\1    )", code))


def misconceptions(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Verdicts on what students wrote, grouped by exercise and idea; the commonest first, each with one example."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for record in _sorted(records):
        for name, item in record.get("exercises", {}).items():
            if item.get("verdict") and outcome(item) != "untouched":
                groups[name, idea(item["verdict"])].append(item)
    rows = [
        {
            "exercise": name,
            "idea": words,
            "count": len(found),
            "hidden": sum(item["by"] == "hidden" for item in found),
            "example": found[0]["verdict"],
        }
        for (name, words), found in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["exercise"], row["idea"]))


NUMBER = r"0x[0-9a-fA-F]+|(?<![\w.])-?\d+(\.\d+)?(e[+-]?\d+)?"


def idea(verdict: str) -> str:
    """What a verdict takes for the reason; if it knows none, its first line without the numbers."""
    if named := re.search(r"it looks as if (.+?)\.?$", verdict, flags=re.MULTILINE):
        return named[1][:200]
    first = re.sub(r"^✗ \w+: ", "", verdict.strip().split("\n")[0])
    return re.sub(NUMBER, "…", first)[:200]


# --- answers that are alike -------------------------------------------------------------------------------------------

WINDOW = 5  # tokens
ALIKE = 0.6  # the share of their unusual windows that two answers have in common
LONGEST = 8_000  # characters of an answer that are looked at


def similar_answers(records: Iterable[Record], solutions: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Pairs of students with answers more alike than answers written apart would be; for a person to judge.

    An answer is cut into windows of a few tokens, and one of all, with comments gone and variables numbered. Only
    windows count that few students wrote and the official solution does not hold. Two answers agree if they share most
    of these; the evidence is then −log of the share of the others who wrote the rarest of them, about the chance of
    agreeing if answers were independent. It adds up over the exercises, and a pair is listed if it exceeds
    2 log(students), which chance alone reaches for a handful of all pairs of a class. Friends who learned together
    reach it sooner.

    solutions: exercise → official solution; by default what course/sources holds.
    """
    records = [record for record in _sorted(records) if status(record) != UNGRADED]
    if solutions is None:
        solutions = official(records[0]["lab"]) if records else {}
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for name in worth(records):
        answers = {record["student"]: _answers(record).get(name, "") for record in records}
        written = {student: answer for student, answer in answers.items() if answer and not untouched(answer)}
        for pair, agreement in _agreements(written, solutions.get(name, "")):
            found[pair].append({"exercise": name, **agreement})
    least = max(6.0, 2 * math.log(max(len(records), 1)))
    rows = [_summed(pair, agreements) for pair, agreements in found.items()]
    rows = [row for row in rows if row["evidence"] >= least]
    return sorted(rows, key=lambda row: (-row["evidence"], row["students"]))


def _summed(students: tuple[str, str], agreements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    strongest_first = sorted(agreements, key=lambda agreement: -agreement["evidence"])
    evidence = sum(agreement["evidence"] for agreement in agreements)
    return {"students": students, "evidence": evidence, "exercises": strongest_first}


def _answers(record: Record) -> dict[str, str]:
    """The code a student wrote, by exercise."""
    return {name: item.get("answer", "") for name, item in record.get("exercises", {}).items()}


@functools.cache
def official(lab: str) -> dict[str, str]:
    """The solutions of a lab by exercise; none if its source is not here any more or does not build."""
    try:
        (source,) = build.sources([lab])
        full = build.read(source)
    except build.BuildError:
        return {}
    kinds = [cell.metadata.get("nbgrader", {}) for cell in full.cells]
    return {
        kind["grade_id"].removesuffix("-answer"): cell.source
        for kind, cell in zip(kinds, build.solve(full).cells)
        if kind.get("solution") and not kind["grade"]
    }


def _agreements(answers: Mapping[str, str], solution: str) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Each pair of students whose answers to one exercise agree in unusual windows, and how."""
    windows = {answer: _windows(answer) for answer in {*answers.values(), solution}}
    spread = Counter(window for answer in answers.values() for window in windows[answer])
    usual = {window for window, n in spread.items() if n > max(3, len(answers) // 10)} | windows[solution]
    writers: dict[frozenset, list[str]] = defaultdict(list)
    for student, answer in answers.items():
        writers[windows[answer] - usual].append(student)
    writers.pop(frozenset(), None)
    for one, other in _overlapping(list(writers)):
        shared = one & other
        likeness, writing = len(shared) / len(one | other), min(spread[window] for window in shared)
        if likeness >= ALIKE and writing > 1:
            # Of all others, len(answers) − 2, writing − 2 wrote the same; one more of each, so that it is never 0.
            evidence = likeness * math.log((len(answers) - 1) / (writing - 1))
            for pair in _pairs(writers[one], writers[other]):
                yield pair, {"likeness": likeness, "writing": writing, "evidence": evidence}


def _pairs(some: Sequence[str], others: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each student of the one group with each of the other, or of one group with each other."""
    pairs = itertools.combinations(some, 2) if some is others else itertools.product(some, others)
    return (tuple(sorted(pair)) for pair in pairs)


def _overlapping(sets: Sequence[frozenset]) -> Iterator[tuple[frozenset, frozenset]]:
    """Each set with itself, and each two that share something; those that share nothing are never compared."""
    holding: dict[Any, list[int]] = defaultdict(list)
    for k, some in enumerate(sets):
        for window in some:
            holding[window].append(k)
    pairs = {pair for ks in holding.values() for pair in itertools.combinations_with_replacement(ks, 2)}
    return ((sets[j], sets[k]) for j, k in pairs)


def _windows(source: str) -> frozenset[tuple[str, ...]]:
    """Runs of tokens of a program, and all of it, the names it defines numbered within each."""
    code, defined = _normal(source)
    tokens = re.findall(r"\w+|[^\w\s]", code)
    runs = [tokens[k : k + WINDOW] for k in range(len(tokens) - WINDOW)]
    return frozenset(_numbered(run, defined) for run in [*runs, tokens])


def _numbered(tokens: Iterable[str], defined: set[str]) -> tuple[str, ...]:
    numbers: dict[str, int] = {}
    return tuple(f"#{numbers.setdefault(t, len(numbers))}" if t in defined else t for t in tokens)


def _normal(source: str) -> tuple[str, set[str]]:
    """A program in the one style of ast.unparse, without comments, docstrings and annotations; and what it defines.

    What is no program, or too long or too deep to be an honest one, stays as it is but for its comments.
    """
    try:
        if len(source) > LONGEST:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        for node in ast.walk(tree):
            _strip(node)
        return ast.unparse(tree), set(_defined(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.sub(r"#.*", "", source[:LONGEST]), set()


def _strip(node: ast.AST) -> None:
    if isinstance(node, ast.arg):
        node.annotation = None
    if isinstance(node, ast.FunctionDef):
        node.returns = None
    if isinstance(body := getattr(node, "body", None), list) and body:
        node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _defined(tree: ast.AST) -> Iterator[str]:
    """The names that a program gives to arguments, variables and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


# --- marks for other systems ------------------------------------------------------------------------------------------


def to_csv(records: Iterable[Record]) -> str:
    """A line per student: every score, the total, and whether it was graded. What has no score yet is left empty."""
    records = _sorted(records)
    names = list(worth(records))
    rows = [["student", "status", *names, "total", "out of", "reason"]]
    for record in records:
        found, most = scores(record), out_of(record) if status(record) != UNGRADED else None
        marks = [found.get(name) for name in names]
        rows.append([record["student"], status(record), *marks, total(record), most, record.get("reason", "")])
    return _table(rows)


def roster(text: str, column: str) -> dict[str, dict[str, str]]:
    """The rows of a table that Canvas or Moodle exported, by the student's name in the records: `column`."""
    return {row[column]: row for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))) if row.get(column)}


CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def to_canvas(records: Iterable[Record], assignment: str, roster: Roster | None = None) -> str:
    """The gradebook that Canvas imports (Grades → Import). Who has no mark yet has an empty cell.

    assignment: its name and, in brackets, its number in Canvas: "Lab 1 (1234)". roster: the gradebook that Canvas
    exports, so that students are found by their ID there; without it the name in the records is their login.
    """
    records, roster = _sorted(records), roster or {}
    rows = [
        [*CANVAS, assignment],
        ["    Points Possible", "", "", "", "", max(map(out_of, records), default=0) or None],
    ]
    for record in records:
        student = roster.get(record["student"], {"Student": record["student"], "SIS Login ID": record["student"]})
        rows.append([*(student.get(column, "") for column in CANVAS), total(record)])
    return _table(rows)


def to_moodle(records: Iterable[Record], roster: Roster | None = None) -> str:
    """Grades and comments for Moodle. Who has no mark yet has empty cells.

    roster: the grading worksheet of the assignment, as Moodle exports it; its columns are kept, and it goes back in
    with "Upload grading worksheet". Without it, "Grades → Import → CSV file" reads the table; map a column to a user.
    """
    records, roster = _sorted(records), roster or {}
    kept = next(iter(roster.values()), {"Identifier": "", "Email address": ""})
    columns = [*(name for name in kept if name not in ("Grade", "Feedback comments")), "Grade", "Feedback comments"]
    rows: list[list[Any]] = [columns]
    for record in records:
        email = record["student"] if "@" in record["student"] else ""
        row = roster.get(record["student"], {"Identifier": record["student"], "Email address": email})
        row = {**row, "Grade": total(record), "Feedback comments": _comments(record)}
        rows.append([row.get(column, "") for column in columns])
    return _table(rows)


def _comments(record: Record) -> str:
    """A line for each question, as Moodle shows it."""
    if total(record) is None:
        return ""
    lines = []
    for name, item in items(record).items():
        words = for_student(item).split("\n")[0].removeprefix(f"✗ {name}: ")
        lines.append(f"{name}: {_number(item['score'])} of {_number(item['points'])}" + (f". {words}" if words else ""))
    return "<br>".join(html.escape(line) for line in lines + list(record.get("notes", [])))


def _table(rows: Iterable[Iterable[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _cell(value: str | float | None) -> str:
    """A number, or text that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return _number(value)
    text = _clean(value)
    formula = text.startswith(("\t", "\n")) or text.lstrip().startswith(tuple("=+-@＝＋－＠"))
    return "'" + text if formula else text


def to_gradescope(record: Record) -> str:
    """The results.json of a Gradescope autograder. Hidden tests are not in it, for students can read it.

    Raises ValueError for an ungraded submission: Gradescope needs a score, and it has none.
    """
    if status(record) == UNGRADED:
        raise ValueError(f"{record['student']} was not graded: {record.get('reason', '')}")
    known = {name: item for name, item in items(record).items() if item["score"] is not None}
    waiting = [f"{name} waits for a person." for name in items(record) if name not in known]
    results = {
        "score": sum(item["score"] for item in known.values()),
        "execution_time": record.get("seconds", 0),
        "output": _clean("\n".join([*record.get("notes", []), *waiting])),
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": [_test(name, item) for name, item in known.items()],
    }
    return json.dumps(results, ensure_ascii=False, indent=1) + "\n"


def _test(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "score": item["score"],
        "max_score": item["points"],
        "status": "failed" if item.get("by") or not item["score"] else "passed",
        "output": _clean(for_student(item)),
        "output_format": "text",
        "visibility": "visible",
    }


# --- feedback ---------------------------------------------------------------------------------------------------------

HIDDEN = (
    "hidden tests: not passed. Your function passes the check in the notebook but not further tests with other shapes, "
    "dtypes or parameters."
)
WORDS = {
    "hidden": HIDDEN,
    "process": "Your function did not finish: it ended the process, or ran out of time or memory.",
    "missing": "The cell with this answer is missing.",
    "reference": "The answer only calls the library's own function for this exercise.",
    "visible": "The check in the notebook does not pass.",
}


def for_student(item: Mapping[str, Any]) -> str:
    """What a student may read about an answer: a verdict that the notebook gives too, of all else only its kind."""
    by = item.get("by", "")
    told = item.get("verdict") if by in ("visible", "reference") else ""
    return told or WORDS.get(by, "Not passed." if by else "")


def feedback(record: Record, notebook: Mapping[str, Any] | None = None) -> str:
    """A student's page: scores, verdicts, repairs, and what the notebook showed when it was run, as far as given."""
    return _page(
        "feedback.html",
        record=record,
        status=status(record),
        questions=[{"name": name, "words": for_student(item), **item} for name, item in items(record).items()],
        so_far=sum(score for score in scores(record).values() if score is not None),
        open=sum(item["points"] for item in items(record).values() if item["score"] is None),
        out_of=out_of(record),
        cells=list(_cells(notebook or {"cells": []}, items(record))),
    )


TEXT, PICTURE = 20_000, 3_000_000  # characters of one output that are shown


def _cells(notebook: Mapping[str, Any], graded: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The code cells that a student could write, with what they showed; checks are not among them."""
    for cell in notebook["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "code" and not _is_check(cell, graded) and "HIDDEN TESTS" not in source:
            yield {"source": source, "outputs": [_output(output) for output in cell.get("outputs", [])]}


def _is_check(cell: Mapping[str, Any], graded: Mapping[str, Any]) -> bool:
    grading = cell.get("metadata", {}).get("nbgrader", {})
    return bool(grading.get("grade") or grading.get("locked") or grading.get("grade_id") in graded)


def _output(output: Mapping[str, Any]) -> dict[str, str]:
    """An output as a picture or as text, never as a page of its own."""
    data = output.get("data", {})
    picture = re.sub(r"\s", "", _joined(data.get("image/png", "")))
    if picture and len(picture) <= PICTURE and _is_png(picture):
        return {"picture": picture, "text": ""}
    if output.get("output_type") == "error":
        text = "\n".join(output.get("traceback", []))
    else:
        text = _joined(data.get("text/plain", output.get("text", "")))
    return {"picture": "", "text": text[:TEXT] + ("\n… (cut)" if len(text) > TEXT else "")}


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    except (binascii.Error, ValueError):
        return False


def _joined(text: str | Sequence[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


# --- pages ------------------------------------------------------------------------------------------------------------


def _page(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values)


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: _clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=_number, percent=_percent)
    return templates


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _clean(text: str) -> str:
    """Text without colours of terminals, and with a � for what cannot be written or turns the text around it."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r\n", "\n"))
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "�", text)
