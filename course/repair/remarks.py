"""What was odd about the cells of a submission."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from nbformat import NotebookNode

from course.repair.cells import Cell, is_answered, kind, name, slots
from course.repair.match import Answers, Places, definers, indices
from course.repair.words import listed, show


def remarks(cells: Sequence[Cell], places: Places, answers: Answers, release: NotebookNode) -> Iterator[str]:
    """What was odd about the cells: a sentence for each kind of it, with the names of the exercises."""
    here, definitions = indices(places), definers(cells, places, release)
    odd: dict[str, list[str]] = defaultdict(list)
    for place, slot in slots(release):
        chosen = answers.get(place, [])
        own = here[place] or [index for index in chosen if places[index] is None][:1]
        for sentence in _oddities(cells, slot, own, chosen, definitions[name(slot)]):
            odd[sentence].append(name(slot))
    for sentence, names in odd.items():
        yield from listed(sentence, names)
    if not _is_in_order(places, answers):
        yield "The cells stood in another order than in the lab, which was restored."
    graded = {slot.metadata.nbgrader.grade_id for _, slot in slots(release)}
    claims = [cell.grading["grade_id"] for cell in cells if "grade_id" in cell.grading]
    unknown = [show(claim) for claim in claims if not isinstance(claim, str) or claim not in graded]
    yield from listed("Cells claimed to be graded under names that the lab does not have", unknown)


def _oddities(
    cells: Sequence[Cell], slot: NotebookNode, own: Sequence[int], chosen: Sequence[int], definitions: Sequence[int]
) -> Iterator[str]:
    """What was odd about a graded cell.

    own: the cells that stood for it. chosen: those of its answer. definitions: those that define its function.
    """
    checks, gradings = kind(slot) == "check", [cells[index].grading for index in own]
    if not own and not chosen:
        yield "Checks that were missing and were put back" if checks else "Answers that are missing"
    if own and not any(gradings):
        yield "Cells without nbgrader's metadata, recognised by their id or by what they contain"
    elif own and slot.metadata.nbgrader not in gradings:
        yield "Cells whose grading metadata were changed and were put right"
    if any(cells[index].cell_type != slot.cell_type for index in own):
        yield "Cells whose type was changed and was put right"
    if len(own) > 1:
        several = "Answers of which there are several, so that the last that is not the stub was taken"
        yield "Checks that were copied, so that one was kept" if checks else several
    if not set(chosen) <= set(own):
        yield "Answers that stood in another cell than their own and were moved"
    others = set(definitions) - {*own, *chosen}
    if not checks and any(is_answered(cells[index], slot) for index in others):
        yield "Functions that other cells define too, which were kept"


def _is_in_order(places: Places, answers: Answers) -> bool:
    """Whether the cells stood in the order of the lab, copies and answers that were moved aside."""
    where = {place: index for index, place in reversed([*enumerate(places)]) if place is not None}
    where |= {place: chosen[-1] for place, chosen in answers.items() if place in where}
    indices = [where[place] for place in sorted(where) if places[where[place]] == place]
    return indices == sorted(indices)
