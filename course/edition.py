"""One course's edition of the labs: which of them, which exercises, what they are worth, when they are due.

It is a small file, `edition.toml` at the root of the repository or the one that FMLAB_EDITION names. Without one the
labs are as their sources say. Building, handing out, grading and reports read the same file, and change what it says:

    labs = ["lab1", "lab2"]                         # all, if this line is left out

    [lab1]
    leave_out = ["ou_drift", "why_noise"]           # exercises and questions; figures use the library's answer
    further = ["strong_error"]                      # marked as such; core = […] takes the mark away
    points = {euler_step = 3, heun_step = 4}
    due = 2027-03-01T23:59:00+01:00
    annul = {heun_step = "full"}                    # full marks for all; or "out": out of the total
    rubric = {why_noise = ["2: names the ratio"]}   # lines that stand beside the answers when they are read
    [lab1.partial.euler_maruyama_step]              # a share of the points for a mistake that the card knows
    "h was used where the noise needs √h" = 0.5

    [late]
    per_day = 0.1                                   # this share of the points is lost for each day that has begun,
    grace_hours = 2                                 # after these hours,
    most = 0.5                                      # and no more than this

    [extensions.ada]                                # a student, as the table of marks calls them
    lab1 = 2027-03-08T23:59:00+01:00
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from course.build import Cell

ROOT = Path(__file__).resolve().parents[1]
FULL, OUT = "full", "out"


class EditionError(ValueError):
    """The file says something that no course can do; the message says where."""


@dataclass(frozen=True)
class LabEdition:
    """What an edition says of one lab."""

    leave_out: frozenset[str] = frozenset()
    further: frozenset[str] = frozenset()
    core: frozenset[str] = frozenset()
    points: Mapping[str, float] = field(default_factory=dict)
    due: datetime | None = None
    annul: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rubric: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Late:
    """What a late hand-in costs: a share of the points per day that has begun, after a time of grace, up to a most."""

    per_day: float = 0.0
    grace_hours: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Edition:
    """What the file says. labs: "lab1" → its part. chosen: the labs there are, in all if None. extensions: by student
    and lab, another time at which it is due."""

    chosen: tuple[str, ...] | None = None
    labs: Mapping[str, LabEdition] = field(default_factory=dict)
    late: Late = Late()
    extensions: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)

    def has(self, lab: str) -> bool:
        """Whether the course has a lab, "lab1"."""
        return self.chosen is None or lab in self.chosen

    def of(self, lab: str) -> LabEdition:
        return self.labs.get(lab, LabEdition())

    def due(self, lab: str, student: str) -> datetime | None:
        """When a student has to hand in a lab; None if nothing is said of it."""
        return self.extensions.get(student, {}).get(lab, self.of(lab).due)


# --- reading ----------------------------------------------------------------------------------------------------------


def current() -> Edition:
    """The edition that is in force. Raises EditionError."""
    path = file()
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0) if path else Edition()


def file() -> Path | None:
    """The file of the edition that is in force; None where there is none."""
    place = os.environ.get("FMLAB_EDITION")
    path = Path(place) if place else ROOT / "edition.toml"
    return None if place == "none" or not (place or path.is_file()) else path


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Edition:
    """The edition in a file, read once for each time it was changed."""
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise EditionError(f"the edition {path} cannot be read: {error.strerror}") from None
    except (EditionError, ValueError) as error:  # tomllib's own errors are ValueErrors
        raise EditionError(f"{path.name}: {error}") from None


def parse(said: Mapping[str, Any]) -> Edition:
    """The edition that a file says. Raises EditionError, in words that name the place."""
    labs = {name: _lab(name, part) for name, part in said.items() if re.fullmatch(r"lab\d+", name)}
    if unknown := sorted(said.keys() - labs.keys() - {"labs", "late", "extensions"}):
        raise EditionError(f"there is no {unknown[0]!r} in an edition; it has labs, lab0, lab1, …, late and extensions")
    chosen = said.get("labs")
    if chosen is not None and not _are_words(chosen):
        raise EditionError('labs is a list such as ["lab1", "lab2"]')
    if chosen is not None and (left := sorted(labs.keys() - set(chosen))):
        raise EditionError(f"{left[0]} is not among the labs of this edition, but something is said of it")
    extensions = {
        student: {lab: _time(due, f"extensions.{student}.{lab}") for lab, due in _table(each, "extensions").items()}
        for student, each in _table(said.get("extensions", {}), "extensions").items()
    }
    return Edition(None if chosen is None else tuple(chosen), labs, _late(said.get("late", {})), extensions)


def _lab(name: str, part: Any) -> LabEdition:
    part = _table(part, name)
    if unknown := sorted(part.keys() - set(LabEdition.__dataclass_fields__)):
        raise EditionError(f"{name} has no {unknown[0]!r}; it has {', '.join(LabEdition.__dataclass_fields__)}")
    for key in ("leave_out", "further", "core"):
        if not _are_words(part.get(key, [])):
            raise EditionError(f"{name}.{key} is a list of names of exercises")
    points = _table(part.get("points", {}), f"{name}.points")
    for exercise, number in points.items():
        _number(number, f"{name}.points.{exercise}", above=0)
    annul = _table(part.get("annul", {}), f"{name}.annul")
    for exercise, how in annul.items():
        if how not in (FULL, OUT):
            raise EditionError(f'{name}.annul.{exercise} is "full", full marks for all, or "out", out of the total')
    partial = _table(part.get("partial", {}), f"{name}.partial")
    for exercise, shares in partial.items():
        for mistake, share in _table(shares, f"{name}.partial.{exercise}").items():
            _number(share, f"{name}.partial.{exercise}.{mistake!r}", most=1)
    rubric = _table(part.get("rubric", {}), f"{name}.rubric")
    for question, lines in rubric.items():
        if not _are_words(lines):
            raise EditionError(f"{name}.rubric.{question} is a list of lines")
    return LabEdition(
        *(frozenset(part.get(key, ())) for key in ("leave_out", "further", "core")),
        points,
        _time(part["due"], f"{name}.due") if "due" in part else None,
        annul,
        partial,
        rubric,
    )


def _late(part: Any) -> Late:
    part = _table(part, "late")
    if unknown := sorted(part.keys() - set(Late.__dataclass_fields__)):
        raise EditionError(f"late has no {unknown[0]!r}; it has {', '.join(Late.__dataclass_fields__)}")
    for key, number in part.items():
        _number(number, f"late.{key}", most=None if key == "grace_hours" else 1)
    return Late(**part)


def _table(found: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise EditionError(f"{place} is a table, with a line for each name")
    return found


def _are_words(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(word, str) for word in found)


def _number(found: Any, place: str, above: float | None = None, most: float | None = None) -> None:
    fits = isinstance(found, (int, float)) and not isinstance(found, bool) and found >= 0
    if not fits or (above is not None and found <= above) or (most is not None and found > most):
        between = "above 0" if above is not None else f"from 0 to {most:g}" if most is not None else "from 0 on"
        raise EditionError(f"{place} is a number {between}, not {found!r}")


def _time(found: Any, place: str) -> datetime:
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise EditionError(f"{place} is a time with its zone, such as 2027-03-01T23:59:00+01:00")
    return found


# --- a lab in this edition --------------------------------------------------------------------------------------------


def cut(cells: Sequence[Cell], lab: str, edition: Edition) -> list[Cell]:
    """The cells of a lab, "lab1", as the edition has them. Raises EditionError for names that the lab has not.

    Of an exercise that is left out the theory stays, under its title; what asks for it goes, and the library's answer
    takes its place, in figures and where later cells call it. A question goes with all of its text.
    """
    says = edition.of(lab)
    if says == LabEdition():
        return list(cells)
    _refuse_unknown(cells, lab, says)
    titles = {name: _title(cells, name) for name in says.leave_out}
    later = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    found = []
    for cell in cells:
        if cell.name in says.leave_out and cell.kind in ("exercise", "check", "answer"):
            if cell.kind == "exercise" and len(re.findall(rf"(?<![\w.\"]){cell.name}\(", later)) > 1:
                given = f"{cell.name} = {lab}.{cell.name}.library"
                found.append(cell._replace(kind="", name="", source=given))
            continue
        source = cell.source
        for name, title in titles.items():
            source = _without(source, name, title, lab, cell.cell_type)
        if cell.cell_type == "markdown" and not source.strip():
            continue
        points = says.points.get(cell.name, cell.points) if cell.points is not None else None
        further = (cell.further or cell.name in says.further) and cell.name not in says.core
        found.append(cell._replace(source=source, points=points, further=further if cell.points is not None else False))
    return found


def _refuse_unknown(cells: Sequence[Cell], lab: str, says: LabEdition) -> None:
    graded = {cell.name for cell in cells if cell.points is not None}
    for key in LabEdition.__dataclass_fields__:
        names: Collection[str] = getattr(says, key) if key != "due" else ()
        for name in sorted(set(names) - graded):
            raise EditionError(
                f"{lab}.{key}: {lab} has no exercise or question {name!r}; it has {', '.join(sorted(graded))}"
            )
    for name, shares in says.partial.items():
        known = _mistakes(lab, name)
        if not known:
            raise EditionError(f"{lab}.partial.{name}: no mistake of it is known, so none can be worth a share")
        for mistake in sorted(shares.keys() - known):
            nearest = difflib.get_close_matches(mistake, known, 1, 0)
            raise EditionError(
                f"{lab}.partial.{name}: its card knows no mistake {mistake!r}; the nearest is {nearest[0]!r}"
            )


def _mistakes(lab: str, name: str) -> Collection[str]:
    """The mistakes that the card of an exercise knows."""
    from fmlab.checks import lab as labs  # which loads torch

    card = labs.load(lab).exercises.get(name)
    return card.mistakes.keys() if card else ()


def _title(cells: Sequence[Cell], name: str) -> str:
    """The title of an exercise, from the heading that names it."""
    for cell in cells:
        if match := re.search(rf"(?m)^#+ .*?\{{exercise:{name}\}}\s*·\s*(.*?)\s*(\(|$)", cell.source):
            return match[1]
    return name.replace("_", " ")


def _without(source: str, name: str, title: str, lab: str, cell_type: str) -> str:
    """A text or a piece of code that does not ask for an exercise."""
    if cell_type == "markdown":
        source = "".join(_section(part, name, title) for part in re.split(r"(?m)^(?=#+ )", source))
    words = f"*{title}*" if cell_type == "markdown" else title
    source = re.sub(rf"(?i)exercise \{{exercise:{name}\}}|\{{exercise:({lab}\.)?{name}\}}", lambda _: words, source)
    source = source.replace(f'{lab}.answer_or("{name}")', f"{lab}.{name}.library")
    return re.sub(r"\{points:([\w, ]+)\}", lambda match: _sum_without(match[1], name), source)


def _section(part: str, name: str, title: str) -> str:
    """A heading with what stands below it. Of an exercise the theory is left; of a question nothing."""
    heading, _, text = part.partition("\n")
    if f"{{exercise:{name}}}" not in heading:
        return part
    beside = [each.strip() for each in ",".join(re.findall(r"\{points:([\w, ]+)\}", heading)).split(",")]
    if left := [each for each in beside if each not in (name, "")]:  # a heading for several
        return part.replace(f"{{exercise:{name}}}", f"{{exercise:{left[0]}}}")
    if heading.lstrip("# ").startswith("Question"):
        return ""
    kept = [block for block in re.split(r"\n{2,}", text) if not _asks(block, name)]
    return f"{heading.split()[0]} {title}\n" + "\n\n".join(kept) + ("\n" if part.endswith("\n") else "")


def _asks(block: str, name: str) -> bool:
    return block.lstrip().startswith("<details>") or f"`{name}(" in block or f"`{name}`" in block


def _sum_without(names: str, name: str) -> str:
    left = [each.strip() for each in names.split(",") if each.strip() != name]
    return f"{{points:{','.join(left)}}}" if left else "0"
