"""The database of nbgrader's gradebook: made where there is none, tried, opened; what is wrong with it in words."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import nbgrader
from alembic.config import Config
from alembic.script import ScriptDirectory
from nbgrader.api import Base, Gradebook, InvalidEntry
from sqlalchemy import URL, Column, Connection, MetaData, String, Table, create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

WAIT = 10  # seconds for a server to answer, or for another program to end its changes
# Which submission the marks of a student in a lab were last entered from.
ENTERED = Table(
    "fmlab_entered",
    MetaData(),
    Column("student", String(128), primary_key=True),
    Column("lab", String(128), primary_key=True),
    Column("sha256", String(64)),
)
# How a transaction begins that makes others wait for its end.
ALONE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(20)"}


class Unavailable(RuntimeError):
    """The gradebook cannot be used; the message says why, and what to do."""


@contextlib.contextmanager
def opened(url: str, writing: bool = True) -> Iterator[Gradebook]:
    """The gradebook. writing: see first that it can be written to. Raises Unavailable, whatever goes wrong with it."""
    try:
        patient = _patient(make_url(url))
        _prepare(patient, writing)
        with Gradebook(patient.render_as_string(hide_password=False)) as gradebook:
            yield gradebook
    except (SQLAlchemyError, InvalidEntry, ModuleNotFoundError) as error:
        raise Unavailable(f"The gradebook {_shown(url)} {_words(error)}") from error


def alone(connection: Connection) -> None:
    """Begin a transaction beside which there is no other of this kind."""
    if begin := ALONE.get(connection.dialect.name):
        connection.exec_driver_sql(begin)


def _patient(url: URL) -> URL:
    """The same, with bounds on how long to wait."""
    bounds = {
        "sqlite": {"timeout": str(WAIT)},
        "postgresql": {"connect_timeout": str(WAIT), "options": f"-c lock_timeout={WAIT}s"},
    }
    return url.set(query={**bounds.get(url.get_backend_name(), {}), **url.query})


# --- making it, and trying it -----------------------------------------------------------------------------------------


def _prepare(url: URL, writing: bool) -> None:
    """Make what is missing, in one transaction."""
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        if url.get_backend_name() == "sqlite":
            _check(connection)
        if not writing and _version(connection) == _newest():
            return
    with engine.begin() as connection:
        alone(connection)
        version = _version(connection)
        if version is None and _fits(connection):
            Base.metadata.create_all(connection)
            connection.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": _newest()})
        elif version != _newest():
            raise Unavailable(f"The gradebook {_shown(url)} {_of_another_version(version, url)}")
        ENTERED.create(connection, checkfirst=True)
        connection.execute(text("UPDATE alembic_version SET version_num = version_num"))


def _check(connection: Connection) -> None:
    """Raise what there is to raise if a file is damaged anywhere."""
    (found,) = connection.exec_driver_sql("PRAGMA quick_check(1)").first()
    if found != "ok":
        raise InvalidEntry(f"malformed: {found}")


def _version(connection: Connection) -> str | None:
    """The version of the tables; None if there are none, or not all of them."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _fits(connection: Connection) -> bool:
    """Whether tables that are there are as they should be, so that the others can be added."""
    found = inspect(connection)
    there = [table for table in Base.metadata.tables.values() if found.has_table(table.name)]
    return all({*table.columns.keys()} <= {c["name"] for c in found.get_columns(table.name)} for table in there)


def _of_another_version(version: str | None, url: URL) -> str:
    if version in (None, *(script.revision for script in _scripts().walk_revisions())):
        return (
            f"is of an older nbgrader. Bring it up to date, with a copy kept: nbgrader db upgrade --db '{_shown(url)}'"
        )
    return "is of a newer nbgrader than is installed here. Install that one: pip install --upgrade nbgrader"


@functools.cache
def _scripts() -> ScriptDirectory:
    """nbgrader's own, which make the tables of one version into those of the next."""
    config = Config()
    config.set_main_option("script_location", str(Path(nbgrader.__file__).parent / "alembic"))
    return ScriptDirectory.from_config(config)


def _newest() -> str:
    return _scripts().get_current_head()


# --- in words ---------------------------------------------------------------------------------------------------------

WORDS = {
    r"locked|lock timeout": "is locked by another program, such as a database browser with unsaved changes, or another "
    "grader. Close that one",
    r"not a database|malformed": "is damaged. Put a copy of it back; or move it away, and a new one is made, without "
    "what was marked in formgrader",
    r"readonly|read-only|unable to open|permission denied": "may not be written to. Give yourself the right to write "
    "it, and the folder that it is in",
    r"is full|no space left": "is on a disk that is full. Make room there",
    r"no such (table|column)|UndefinedColumn": "lacks tables or columns. Bring it up to date: nbgrader db upgrade",
    r"no module named": "needs a package that is not installed. Install it",
}


def _words(error: Exception) -> str:
    """What is wrong, and what to do about it."""
    said = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
    for pattern, words in WORDS.items():
        if re.search(pattern, str(error), re.IGNORECASE):
            return f"{words}, and give the same command again. ({said})"
    return f"does not answer. Start its server, or correct its address, and give the same command again. ({said})"


def _shown(url: str | URL) -> str:
    """An address without its password."""
    try:
        return make_url(url).difference_update_query(["timeout", "connect_timeout", "options"]).render_as_string()
    except SQLAlchemyError:
        return str(url)
