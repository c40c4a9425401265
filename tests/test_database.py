"""A gradebook that cannot be used is named in a sentence that says what to do, and the same goes on afterwards."""

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from course import database, gradebook, jobs
from course.database import Unavailable, opened
from tests.classroom import nbgrader, sqlite
from tests.made_records import LAB, record
from tests.postgresql import needs_postgresql, server, stopped

pytestmark = pytest.mark.grading

prepare = functools.partial(gradebook.prepare, {})  # for no lab


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A gradebook with the marks of one student."""
    folder = tmp_path_factory.mktemp("whole")
    gradebook.enter([record("anna", written=None)], {LAB: jobs.release(LAB)}, sqlite(folder))
    return folder / "gradebook.db"


@pytest.fixture
def file(whole, tmp_path):
    return Path(shutil.copy(whole, tmp_path))


def changed(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def older(file: Path) -> None:
    """As nbgrader made it before it knew of other systems' names for students."""
    changed(
        file, "ALTER TABLE student DROP COLUMN lms_user_id", "UPDATE alembic_version SET version_num = '167914646830'"
    )


TROUBLES = {
    "no database": (lambda file: file.write_text("my laptop broke"), "is damaged"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:9000]), "is damaged"),
    "older": (older, "nbgrader db upgrade"),
    "much older": (lambda file: (older(file), changed(file, "DROP TABLE alembic_version")), "nbgrader db upgrade"),
    "newer": (lambda file: changed(file, "UPDATE alembic_version SET version_num = 'abc'"), "newer nbgrader"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "may not be written to"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_wrong_is_said_before_anything_is_written(file, trouble):
    spoil, words = TROUBLES[trouble]
    spoil(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(Unavailable, match=words):
        prepare(f"sqlite:///{file}")
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_locked_gradebook_is_waited_for_a_while(file, monkeypatch):
    monkeypatch.setattr(database, "WAIT", 1)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked by another program"):
            prepare(f"sqlite:///{file}")
    prepare(f"sqlite:///{file}")


def test_an_older_gradebook_goes_on_after_what_the_message_says(file):
    older(file)
    url = f"sqlite:///{file}"
    with pytest.raises(Unavailable) as refused:
        prepare(url)
    command = str(refused.value).partition("nbgrader db upgrade ")[2].partition("'")[2].partition("'")[0]
    assert command == url
    nbgrader(file.parent, "db", "upgrade", "--db", command)
    prepare(url)


def test_what_is_missing_is_made(tmp_path):
    url = sqlite(tmp_path / "not" / "there")
    prepare(url)
    with Gradebook(url) as book:
        assert not book.students


def test_a_gradebook_half_made_is_completed(tmp_path):
    prepare(sqlite(tmp_path))
    changed(tmp_path / "gradebook.db", "DROP TABLE alembic_version", "DROP TABLE comment", "DROP TABLE grade")
    prepare(sqlite(tmp_path))
    with opened(sqlite(tmp_path)) as book:
        assert not book.students


def test_marks_are_read_where_nothing_may_be_written(file):
    file.chmod(0o444)
    assert gradebook.marked([record("anna", written=None)], f"sqlite:///{file}?mode=ro&uri=true") == [
        record("anna", written=None)
    ]


@pytest.mark.parametrize("url", ["nonsense", "oracle://host/name", "postgresql+psycopg://u:secret@127.0.0.1:9/x"])
def test_addresses_of_nothing_are_told_without_a_password(url):
    with pytest.raises(Unavailable) as refused:
        prepare(url)
    assert "secret" not in str(refused.value) and "give the same command again" in str(refused.value)


@needs_postgresql
def test_a_server_that_is_down_and_comes_back():
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        prepare(url)
        with stopped(Path(folder)), pytest.raises(Unavailable, match="does not answer"):
            prepare(url)
        prepare(url)
