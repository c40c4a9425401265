"""Whose the files are that came in, and what becomes of each: none is forgotten, and nobody is two or half."""

import functools
import io
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from course import inbox, jobs
from course.inbox import NotFound, find, places, table
from tests import inboxes
from tests.classroom import write_files
from tests.inboxes import CASES, IN_A_FOLDER, LAB, OTHER, ZIPPED, content, lines, write_folder, zipped

pytestmark = pytest.mark.grading


@functools.cache
def releases():
    return {lab: jobs.release(lab) for lab in (LAB, OTHER)}


def outcomes(*where: Path, known=(), lab=None) -> list[table.Row]:
    """What becomes of all that came in, if all that was chosen can be graded."""
    chosen = inbox.choose(
        find(where, None, releases(), known), releases(), lab, {(one["student"], one["lab"]): one for one in known}
    )
    graded = [
        {"student": choice.submission.student, "lab": choice.lab, "status": "graded"} for choice in chosen.choices
    ]
    return table.settle(chosen.rows, graded)


def seen(rows: list[table.Row]) -> list[tuple[str, str, str]]:
    return sorted((row.file, row.student, row.outcome) for row in rows)


def due(made: list[inboxes.Line]) -> list[tuple[str, str, str]]:
    return sorted((line.told, name, line.outcome) for line in made for name in line.students)


def built(kind: str, made: list[inboxes.Line], folder: Path) -> Path:
    """An inbox as a folder, or as a zip."""
    if kind == "folder":
        return write_folder(folder / "inbox", made)
    (folder / "inbox.zip").write_bytes(zipped(made))
    return folder / "inbox.zip"


EVERY = [(kind, name, text) for name, text in CASES.items() for kind in ("folder", "zip")]
EVERY += [("zip", name, text) for name, text in ZIPPED.items()]
EVERY += [("folder", name, text) for name, text in IN_A_FOLDER.items()]


@pytest.mark.parametrize(("kind", "text"), [pytest.param(k, text, id=f"{name}, {k}") for k, name, text in EVERY])
def test_every_file_has_its_student_and_an_outcome(tmp_path, kind, text):
    made = lines(text)
    rows = outcomes(built(kind, made, tmp_path))
    assert seen(rows) == due(made)
    why = {(row.file, row.student): row.why for row in rows}
    for line in made:
        for name in line.students:
            assert line.words in why[line.told, name]


def test_all_of_them_are_one_inbox(tmp_path):
    """In one run of many places; then, with what was graded known, nobody is called otherwise."""
    where, expected = [], []
    for number, (kind, _, text) in enumerate(EVERY):
        made = lines(text, f"x{chr(97 + number // 26)}{chr(97 + number % 26)}")
        (tmp_path / str(number)).mkdir()
        if kind == "folder" and text in CASES.values():
            continue
        where.append(built(kind, made, tmp_path / str(number)))
        expected += [(str(where[-1]), *line) for line in due(made)]
    rows = outcomes(*where)
    assert sorted((row.place, row.file, row.student, row.outcome) for row in rows) == sorted(expected)
    found = table.counts(rows)
    assert sum(found.values()) == len(rows) == len(expected) and set(found) == set(inboxes.OUTCOMES.values())
    known = [{"student": row.student, "key": row.key, "lab": row.lab} for row in rows if row.outcome == table.GRADED]
    again = find(where, None, releases(), known)
    assert {(one.key, one.student) for one in again} == {(row.key, row.student) for row in rows}


# --- from run to run --------------------------------------------------------------------------------------------------


def record(one: inbox.Submission, **more) -> dict:
    return {
        "student": one.student,
        "key": one.key,
        "lab": one.lab,
        "file": one.file,
        "sha256": one.digest,
        "when": one.when,
        "status": "graded",
        "exercises": {},
        "written": {},
    } | more


def came(folder: Path, text: str) -> list[inbox.Submission]:
    return find([write_folder(folder, lines(text))], None, releases())


def test_who_came_first_keeps_the_name_and_a_namesake_gets_another(tmp_path):
    first = "Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek | G"
    known = [record(one) for one in came(tmp_path / "a", first)]
    second = "Ada Ek_7002_assignsubmission_file_/lab1.ipynb | blank | Ada Ek | G"
    write_folder(tmp_path / "b", lines(second))
    for where in ([tmp_path / "b"], [tmp_path / "b", tmp_path / "a"]):
        names = {one.key: one.student for one in find(where, None, releases(), known)}
        assert names["moodle:7002"] == inboxes._name("Ada Ek~moodle:7002")
        assert names.get("moodle:7001", "Ada Ek") == "Ada Ek"


def test_one_key_is_one_person_in_every_place_and_two_systems_are_two(tmp_path):
    write_folder(tmp_path / "a", lines("ekada_7001_1_lab0.ipynb | solved | x | G"))
    write_folder(tmp_path / "b", lines("ekada_7001_2_lab1.ipynb | other | x | G"))
    write_folder(tmp_path / "c", lines("ekada/lab0.ipynb | blank | x | G"))
    one, same, other = find([tmp_path / name for name in "abc"], None, releases())
    assert (one.key, one.student) == (same.key, same.student) and other.student != one.student


def test_who_was_graded_before_there_were_keys_keeps_the_name(tmp_path):
    text = "Ada Ek_7001_assignsubmission_file_/lab1.ipynb | solved | Ada Ek | G"
    known = [{"student": "Ada Ek", "lab": LAB}]
    (found,) = find([write_folder(tmp_path, lines(text))], None, releases(), known)
    assert found.student == "Ada Ek"


def test_what_is_older_than_what_is_graded_is_refused(tmp_path):
    (newer,) = came(tmp_path / "new", "ada/lab1.ipynb | blank@100 | ada | G")
    write_folder(tmp_path / "old", lines("ada/mine.ipynb | solved@1 | ada | G"))
    known = [record(newer)]
    (row,) = outcomes(tmp_path / "old", known=known)
    assert row.outcome == "superseded" and "mine.ipynb of ada is older than what is graded: lab1.ipynb" in row.why
    assert inbox.choose(find([tmp_path / "old"], None, releases()), releases(), None, {("ada", LAB): known[0]}).stand
    (row,) = outcomes(tmp_path / "old", known=[known[0] | {"status": "ungraded"}])
    assert row.outcome == "graded"


def test_a_blank_copy_of_the_same_time_never_replaces_what_is_graded(tmp_path):
    (solved,) = came(tmp_path / "solved", "ada/lab1.ipynb | solved@5 | ada | G")
    answers = {"answer": "x = 1"}
    graded = {cell.metadata.nbgrader.grade_id for cell in releases()[LAB].cells if "nbgrader" in cell.metadata}
    known = record(solved, exercises={name.removesuffix("-answer"): answers for name in graded})
    write_folder(tmp_path / "blank", lines("ada/lab1 (1).ipynb | blank@6 | ada | G"))
    (row,) = outcomes(tmp_path / "blank", known=[known])
    assert row.outcome == "superseded" and "fewer answers" in row.why


def test_the_table_of_all_runs_adds_up(tmp_path):
    """A newer file supersedes what was graded in another place; a place that is read again replaces its own rows."""
    write_folder(tmp_path / "one", lines("ada/lab1.ipynb | solved@1 | ada | G\nbo/lab1.ipynb | solved | bo | G"))
    write_folder(tmp_path / "two", lines("ada/new.ipynb | blank@9 | ada | G\nada/=x.pdf | text | ada | N"))
    grading = tmp_path / "grading"
    grading.mkdir()
    for name in ("one", "two", "two"):
        table.keep(outcomes(tmp_path / name), [], grading)
        rows = table.read(grading)
    assert [(Path(row.place).name, row.file, row.outcome) for row in rows] == [
        ("one", "ada/lab1.ipynb", "superseded"),
        ("one", "bo/lab1.ipynb", "graded"),
        ("two", "ada/=x.pdf", "not graded"),
        ("two", "ada/new.ipynb", "graded"),
    ]
    assert rows[0].why.endswith("two/ada/new.ipynb.")
    assert table.summary(rows).startswith("4 files and empty folders came in: 2 graded, 1 superseded, 1 not graded")
    assert len(table.told(rows)) == 2


def test_only_one_lab_is_graded_and_what_is_of_none_counts_as_of_it(tmp_path):
    text = "ada/a.ipynb | solved | ada | G\nada/b.ipynb | other | ada | N\nbo/x.ipynb | trivial | bo | G"
    where = write_folder(tmp_path / "inbox", lines(text))
    rows = {row.file: row for row in outcomes(where, lab=LAB)}
    assert (rows["ada/a.ipynb"].outcome, rows["bo/x.ipynb"].outcome) == ("graded", "graded")
    assert f"It is of {OTHER}" in rows["ada/b.ipynb"].why
    known = [record(one) for one in find([where], None, releases()) if one.lab == OTHER]
    assert {row.file: row.outcome for row in outcomes(where, lab=LAB, known=known)}["ada/b.ipynb"] == "graded"


# --- tables and places ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_names_students_and_paths(tmp_path, encoding, delimiter):
    write_files(tmp_path, {"here/a.ipynb": "1", "b.ipynb": "2"})
    (tmp_path / "c.zip").write_bytes(zipped(lines("x/lab1.ipynb | solved | cy | G")))
    made = tmp_path / "class.csv"
    text = f"path,student\nhere/a.ipynb,Bo Åge\n{tmp_path}/b.ipynb,../bo\nc.zip,cy\n".replace(",", delimiter)
    made.write_text(text, encoding=encoding)
    found = [(one.student, one.file) for one in find([made])]
    assert found == [("Bo Åge", "a.ipynb"), ("_bo", "b.ipynb"), ("cy", "lab1.ipynb")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,file\nanna,a.ipynb\n", 'columns "student" and "path"'),
        ("student,path\nanna,a.ipynb\n", "line 2"),
        ("", 'columns "student" and "path"'),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "class.csv").write_text(text)
    with pytest.raises(NotFound, match=words):
        find([tmp_path / "class.csv"])


def test_a_notebook_and_a_link_to_a_folder_are_places(tmp_path):
    write_folder(tmp_path / "inbox", lines("Ada Ek.ipynb | solved | Ada Ek | G"))
    (tmp_path / "link").symlink_to(tmp_path / "inbox")
    for place in (tmp_path / "inbox" / "Ada Ek.ipynb", tmp_path / "link"):
        assert seen(outcomes(place)) == [("Ada Ek.ipynb", "Ada Ek", "graded")]


def test_a_place_that_is_nothing_known_is_refused(tmp_path):
    (tmp_path / "class.zip").write_text("no zip")
    with pytest.raises(NotFound, match="neither a folder, nor a zip, nor a table"):
        find([tmp_path / "class.zip"])
    with pytest.raises(NotFound, match="no such folder"):
        find([tmp_path / "nothing"])


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_no_more_is_unpacked_than_a_notebook_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MOST_BYTES", 1000)
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("anna/lab1.ipynb", bytes(10**7))
    (found,) = find([archive])
    assert len(found.data) == 1001


def test_a_zip_that_unpacks_to_gigabytes_is_read_a_file_at_a_time(tmp_path):
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for k in range(15):
            opened.writestr(f"student{k}/lab1.ipynb", bytes(10 * 2**20))
    tracemalloc.start()
    found = find([archive])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 15 and peak < 60 * 2**20


@pytest.mark.parametrize(
    ("limit", "most", "words"), [("MOST_UNPACKED", 10**6, "unpack to more"), ("MOST_ENTRIES", 20, "more than 20 files")]
)
def test_a_zip_of_a_student_that_would_flood_the_grader_is_not_opened(tmp_path, monkeypatch, limit, most, words):
    monkeypatch.setattr(places, limit, most)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for k in range(40):
            opened.writestr(f"{k}.ipynb", bytes(10**5))
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as opened:
        opened.writestr("ada/work.zip", file.getvalue())
        opened.writestr("bo/lab1.ipynb", content("solved"))
    ada, bo = outcomes(tmp_path / "class.zip")
    assert (ada.student, ada.outcome) == ("ada", "not graded") and words in ada.why
    assert (bo.student, bo.outcome) == ("bo", "graded")


def test_a_submission_goes_to_a_worker_with_its_bytes_and_what_changed_meanwhile_has_its_own_digest(tmp_path):
    write_files(tmp_path, {"ada/lab1.ipynb": "1"})
    (found,) = find([tmp_path])
    write_files(tmp_path, {"ada/lab1.ipynb": "22"})
    sent = replace(found, content=found.__getstate__()["content"])
    assert sent.data == b"22" and sent.digest != found.digest
    (tmp_path / "ada" / "lab1.ipynb").unlink()
    assert found.data == b""
