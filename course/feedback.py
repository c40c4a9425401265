"""A student's page: marks, verdicts and comments, and what the notebook showed; nothing of the hidden tests."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nbformat import NotebookNode

from course.marks import for_student, handed_in, items, late, lost, out_of, scores, status
from course.pages import page
from course.records import Record


def feedback(record: Record, notebook: NotebookNode | None = None) -> str:
    """The page, with what the notebook showed when it was run, as far as given."""
    return page(
        "feedback.html",
        record=record,
        status=status(record),
        questions=[{"name": name, "words": for_student(item), **item} for name, item in items(record).items()],
        so_far=sum(score for score in scores(record).values() if score is not None) * (1 - lost(record)),
        handed_in=handed_in(record),
        late=late(record),
        open=sum(item["points"] for item in items(record).values() if item["score"] is None),
        out_of=out_of(record),
        cells=list(_cells(notebook.cells)) if notebook else [],
    )


# --- the notebook -----------------------------------------------------------------------------------------------------

UNNAMED = "figure of the cell above"
TEXT, PICTURE = 20_000, 3_000_000  # characters of one output that are shown


def _cells(cells: Iterable[NotebookNode]) -> Iterator[dict[str, Any]]:
    """The answers in code, and the other cells of code that showed something. Checks are not among them."""
    for cell in cells:
        grading = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code" or grading.get("grade"):
            continue
        outputs = [_output(output) for output in cell.outputs]
        if grading or outputs:
            yield {"source": cell.source, "outputs": outputs}


def _output(output: NotebookNode) -> dict[str, str]:
    """An output as a picture with its text alternative or as text, never as a page of its own."""
    data = output.get("data", {})
    picture = re.sub(r"\s", "", data.get("image/png", ""))
    if picture and len(picture) <= PICTURE and _is_png(picture):
        words = data.get("text/plain", "")
        return {"picture": picture, "text": UNNAMED if not words or words.startswith("<Figure ") else words[:TEXT]}
    if output.get("output_type") == "error":
        text = "\n".join(output.get("traceback", []))
    else:
        text = data.get("text/plain", output.get("text", ""))
    return {"picture": "", "text": text[:TEXT] + ("\n… (cut)" if len(text) > TEXT else "")}


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    except (binascii.Error, ValueError):
        return False
