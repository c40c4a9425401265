"""Names of folders and files, and whether they may be those of people."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import PurePath

# Of folders and files that hold many people's work, or a part of one's.
WORDS = set(
    """
    all alle archive archived attachments class collected course everything export exports files gradebook hand handed
    handin handins in inbox ins kurs late on out outbox resubmission resubmissions student students submission
    submissions submitted time upload uploads download downloads abgabe abgaben teilnehmer canvas gradescope ilias
    moodle nbgrader answer answered answers assignment assignments aufgabe aufgaben blatt devoir ex exercise exercises
    homework hw lab labs praktikum problem ps set sheet tarea task tasks td tp uebung uebungen übung übungen week woche
    attempt backup code copie copy copyof draft final first fmlab kopie lib main master me mine my new notebook
    notebooks notes of old own project read readme repo second solution solutions solved source src stuff temp test
    tests third tmp try untitled utils v version von work working zip data desktop documents dokumente fig figures figs
    file grades images instructions list one part rubric syllabus three two img pictures plots checkpoints
    """.split()
)
NUMBERED = re.compile(r"(candidate|group|participant|student|submission|team|user)[ _-]*\d+", re.IGNORECASE)
# A lab's name and number beside that of a person: lab0_ada, "Ada Ek - lab0_welcome", lab0-ada.
KIND = "lab|homework|hw|assignment|exercise|ex|project|ps|sheet|week|aufgabe|blatt|übung|uebung|praktikum|tp|td|tarea"
LABEL = (
    rf"((copy|kopie|copie|copia) (of|von|de) )?({KIND}|实验|作业)[ _-]*\d+([ _-]+({{more}}final|solution|solved|v\d+))*"
)
COPY = re.compile(r"([ _-]*\(\d+\)|[ _-]+(copy|kopie|copie)[ _-]*\(?\d*\)?)+$", re.IGNORECASE)


def nobody(name: str, more: Iterable[str] = ()) -> bool:
    """Whether a name cannot be that of a person. more: words that are no names, either."""
    words = re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", name).casefold())
    return bool(words) and not NUMBERED.fullmatch(name) and all(word in WORDS or word in more for word in words)


def somebody(name: str, more: Iterable[str] = ()) -> bool:
    """Whether a name may be that of a person: a word of two letters, a number of a student."""
    letters = re.sub(r"[\W\d_]", "", name)
    long = len(letters) > 1 or not letters.isascii() or bool(re.search(r"\d{4}", name))
    return long and not nobody(name, more)


def related(name: str, other: str) -> bool:
    """Whether two names share a word, as a student's folder and file do."""
    return bool(_words(name) & _words(other))


def _words(name: str) -> set[str]:
    return {word for word in re.findall(r"\w{2,}", name.casefold().replace("_", " ")) if word not in WORDS}


def shared_start(names: Collection[str]) -> str:
    """What all of several names begin with; nothing of one alone."""
    if len(names) < 2:
        return ""
    pairs = zip(min(names), max(names))
    return "".join(letter for letter, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def stem(name: str) -> str:
    """The name of a file without its suffixes, or of a folder that a zip was."""
    return re.sub(r"(\.ipynb.*|\.(txt|json|zip)|\.tar\.\w+)$", "", name, flags=re.IGNORECASE)


def file_stem(name: str) -> str:
    """The name of any file without its suffixes."""
    bare = stem(name)
    return bare if bare != name else PurePath(name).stem


def without_lab(name: str, more: Iterable[str] = ()) -> str:
    """ada for lab0_ada and ada_lab0; the name itself where nobody is left. more: words of the names of labs."""
    text = unicodedata.normalize("NFC", name)
    label = LABEL.format(more="".join(f"{re.escape(word)}|" for word in sorted(more)))
    bare = re.sub(rf"^{label}[ _-]+|[ _-]+{label}$", "", text, flags=re.IGNORECASE)
    return bare if bare != text and somebody(bare, more) else name


def without_copy(name: str) -> str:
    """anna for "anna (1)" and "anna-Copy1"."""
    return COPY.sub("", name) or name
