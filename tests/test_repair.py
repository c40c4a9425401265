"""What is repaired before grading: deformed copies of real labs, each told in its notes, and nothing else."""

import copy
import json
import random

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from course import build, repair
from tests import submissions

LAB = "lab1_simulation"
RELEASES = {path.stem: submissions.blank(path.stem) for path in build.sources()}
SOLVED, BLANK = submissions.solved(LAB), RELEASES[LAB]
each_lab = pytest.mark.parametrize("lab", RELEASES)


def written(nb) -> bytes:
    return json.dumps(nb).encode()


def repaired(data, lab=LAB) -> repair.Repaired:
    """A repaired submission, of which everything is true that must be true of all of them."""
    found = repair.repair(data if isinstance(data, bytes) else written(data), RELEASES[lab])
    nbformat.validate(found.notebook)
    assert nbformat.writes(found.notebook).encode()
    assert found.notebook.metadata == RELEASES[lab].metadata
    ids = [cell.id for cell in found.notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell, slot in zip(graded(found.notebook), graded(RELEASES[lab]), strict=True):
        assert (cell.metadata, cell.id, cell.cell_type) == (slot.metadata, slot.id, slot.cell_type)
        assert cell.source == slot.source or slot.metadata.nbgrader.solution
    assert not any(cell.metadata for cell in found.notebook.cells if "nbgrader" not in cell.metadata)
    assert len(found.notes) == len(set(found.notes)) and all(note.endswith(".") for note in found.notes)
    return found


def graded(nb) -> list[NotebookNode]:
    return [cell for cell in nb.cells if "nbgrader" in cell.metadata]


def cell(nb, name) -> NotebookNode:
    """The cell with an id."""
    return next(found for found in nb.cells if found.id == name)


def index(nb, name) -> int:
    return nb.cells.index(cell(nb, name))


def sources(nb) -> list[str]:
    return [found.source for found in nb.cells]


# --- what needs no repair ---------------------------------------------------------------------------------------------


@each_lab
def test_folds_are_opened(lab):
    folded = build.release(build.read(*build.sources([lab])))
    assert any(cell.metadata.get("jupyter") for cell in folded.cells)
    assert repaired(folded, lab) == (submissions.blank(lab), [])


@each_lab
@pytest.mark.parametrize("make", [submissions.blank, submissions.solved])
def test_an_honest_submission_is_what_it_was(lab, make):
    nb, notes = repaired(make(lab), lab)
    assert nb == make(lab)
    assert notes == []


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": {"name": "fmlab", "display_name": "my laptop", "language": "python"}},
        {"kernelspec": {"name": ".venv", "display_name": ".venv (Python 3.12.1)"}, "language_info": {"name": "python"}},
        {"kernelspec": {"name": "python3-colab", "display_name": "Python 3"}, "colab": {"provenance": []}},
        {"language_info": {"name": "python", "version": "3.11.9"}},
        {"kernelspec": 3},
    ],
)
def test_everyones_python_is_as_good_as_the_labs(metadata):
    nb = copy.deepcopy(SOLVED)
    nb.metadata = metadata
    assert repaired(nb) == (SOLVED, [])


def test_outputs_are_left_behind_and_cells_of_ones_own_stay():
    nb = copy.deepcopy(SOLVED)
    for found in nb.cells:
        if found.cell_type == "code":
            found.outputs, found.execution_count = [nbformat.v4.new_output("stream", text="hello")], 7
    own = new_code_cell("print('mine')", id="mine", metadata={"collapsed": True, "tags": ["a"]})
    nb.cells.insert(index(nb, "heun_step-answer"), own)
    nb.cells.append(new_raw_cell("the end", id="end"))
    found, notes = repaired(nb)
    assert notes == []
    assert [c.id for c in found.cells] == [c.id for c in nb.cells]
    assert sources(found) == sources(nb)
    assert not any(c.get("outputs") or c.get("execution_count") for c in found.cells)


def test_the_callers_notebooks_are_left_alone():
    before = copy.deepcopy(RELEASES[LAB])
    repaired(SOLVED).notebook.cells[3].source = "changed"
    assert RELEASES[LAB] == before
    assert repaired(SOLVED).notebook == SOLVED


# --- what is repaired completely --------------------------------------------------------------------------------------

REPAIRS = {}


def repairs(*words):
    """Register a way to deform the solved notebook, in place or into what it returns, and words of the notes on it."""

    def register(deform):
        REPAIRS[deform.__name__] = deform, words
        return deform

    return register


@repairs("Checks that were missing", "euler_step, ou_drift")
def checks_deleted(nb):
    nb.cells = [c for c in nb.cells if c.id not in ("euler_step", "ou_drift")]


@repairs("Checks that were changed", "euler_step")
def check_softened(nb):
    cell(nb, "euler_step").source = "pass"


@repairs("Checks that were copied", "euler_step")
def check_copied(nb):
    nb.cells.append(nbformat.from_dict({**cell(nb, "euler_step"), "id": "copied", "source": "lab1 = None"}))


@repairs("several", "euler_step")
def stub_pasted_below(nb):
    stub = nbformat.from_dict({**cell(BLANK, "euler_step-answer"), "id": "pasted"})
    nb.cells.insert(index(nb, "euler_step"), stub)


@repairs("several", "euler_step", "ou_parameters")
def older_answers_above(nb):
    for name, old in ("euler_step-answer", "def euler_step(u, x, t, h):\n    return x"), ("ou_parameters", "No idea."):
        nb.cells.insert(index(nb, name), nbformat.from_dict({**cell(nb, name), "id": "older", "source": old}))


@repairs("another order")
def upside_down(nb):
    nb.cells.reverse()


@repairs("another order")
def shuffled(nb):
    random.Random(0).shuffle(nb.cells)


@repairs("without nbgrader's metadata", "euler_step, heun_step", "ou_is_langevin")
def metadata_stripped(nb):
    for c in nb.cells:
        c.metadata = {}


@repairs("without nbgrader's metadata", "ou_is_langevin", "format 4.0")
def through_colab(nb):
    nb.metadata = {"colab": {"provenance": []}, "kernelspec": {"name": "python3-colab", "display_name": "Python 3"}}
    nb.nbformat_minor = 0
    for number, c in enumerate(nb.cells):
        del c["id"]
        c.metadata = {"id": f"x{number}"}


@repairs("metadata were changed", "euler_step", "heun_step, simulate")
def metadata_edited(nb):
    cell(nb, "euler_step").metadata.nbgrader.points = 100
    cell(nb, "heun_step").metadata.nbgrader.grade = False
    cell(nb, "simulate").metadata.nbgrader = {"grade_id": "simulate", "points": [[]]}


@repairs("metadata were changed", "names that the lab does not have: 'bonus', ?")
def names_edited(nb):
    cell(nb, "euler_step").metadata.nbgrader.grade_id = "bonus"
    cell(nb, "heun_step-answer").metadata.nbgrader.grade_id = ["euler_step"]


@repairs("metadata were changed")
def names_exchanged(nb):
    one, other = cell(nb, "euler_step-answer"), cell(nb, "heun_step-answer")
    one.metadata, other.metadata = other.metadata, one.metadata
    one.id, other.id = other.id, one.id


@repairs("type was changed", "euler_step, heun_step, ou_parameters")
def types_changed(nb):
    for name in "euler_step-answer", "heun_step":
        cell(nb, name).cell_type = "markdown"
    cell(nb, "ou_parameters").cell_type = "code"


@repairs("another cell than their own", "euler_step, heun_step, simulate, linear_flow, ou_moments")
def answers_in_other_cells(nb):
    """Below the check, above the stub, at the end, with the check, and with a figure."""
    answer = {name: cell(nb, f"{name}-answer").source for name in submissions.points(LAB)}
    for name in "euler_step", "heun_step", "simulate", "linear_flow", "ou_moments":
        cell(nb, f"{name}-answer").source = cell(BLANK, f"{name}-answer").source
    nb.cells.insert(index(nb, "euler_step") + 1, new_code_cell(answer["euler_step"]))
    nb.cells.insert(index(nb, "heun_step-answer"), new_code_cell(answer["heun_step"]))
    nb.cells.append(new_code_cell(answer["simulate"]))
    cell(nb, "linear_flow").source = answer["linear_flow"] + "\n\n" + cell(nb, "linear_flow").source
    figure = next(c for c in nb.cells[index(nb, "ou_moments") + 1 :] if c.cell_type == "code")
    figure.source = answer["ou_moments"]


@repairs("another cell than their own", "ou_parameters, ou_is_langevin")
def written_answers_in_other_cells(nb):
    """In a cell below, and in that of the question."""
    answer = {name: cell(nb, name).source for name in submissions.written(LAB)}
    for name in answer:
        cell(nb, name).source = cell(BLANK, name).source
    nb.cells.insert(index(nb, "ou_parameters") + 1, new_markdown_cell(answer["ou_parameters"]))
    nb.cells[index(nb, "ou_is_langevin") - 1].source += "\n\n" + answer["ou_is_langevin"]


@repairs("imports was missing")
def imports_deleted(nb):
    nb.cells.remove(next(c for c in nb.cells if "import torch" in c.source))


@repairs("the language 'R'")
def other_language(nb):
    nb.metadata = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}


@repairs("state of widgets")
def with_state_of_widgets(nb):
    nb.metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}, "kernelspec": 3}


@repairs("format 4.4")
def format_4_4(nb):
    nb.nbformat_minor = 4
    for c in nb.cells:
        del c["id"]


@repairs("format 3")
def format_3(nb):
    return written(nbformat.convert(nb, 3))


@repairs("format (none).(none)")
def format_not_told(nb):
    del nb["nbformat"], nb["nbformat_minor"]


@repairs("byte-order mark")
def byte_order_mark(nb):
    return b"\xef\xbb\xbf" + written(nb)


@repairs("UTF-16")
def utf_16(nb):
    return json.dumps(nb, ensure_ascii=False).encode("utf-16")


@repairs("UTF-16-LE")
def utf_16_without_a_mark(nb):
    return json.dumps(nb, ensure_ascii=False).encode("utf-16-le")


@repairs("Latin-1")
def latin_1(nb):
    nb.cells.append(new_markdown_cell("naïve, but möglich"))
    text = json.dumps(nb, ensure_ascii=False)
    return "".join(c if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text).encode("latin-1")


@repairs("line ends of Windows", "file")
def windows_file(nb):
    return nbformat.writes(nb).replace("\n", "\r\n").encode()


@repairs("Cells with line ends of Windows", "by number")
def windows_cells(nb):
    for c in nb.cells:
        c.source = c.source.replace("\n", "\r\n")


@repairs("before or after the notebook")
def garbage_behind(nb):
    return written(nb) + b"\n</html>{}"


@repairs("before or after the notebook")
def garbage_before(nb):
    return b"Dear Sir or Madam, my lab:\n" + written(nb)


@repairs("MB large")
def huge_outputs(nb):
    cell(nb, "euler_step").outputs = [nbformat.v4.new_output("stream", text="x" * 11_000_000)]


@repairs("characters that do not exist")
def lone_surrogates(nb):
    nb.cells.append(new_markdown_cell("\ud800 and \udfff", attachments={"\ud800": {"image/png": "\ud800"}}))


@repairs(f"not proper ones, by number; what could be read of them was kept: {len(SOLVED.cells) + 1}, ")
def strange_cells(nb):
    nb.cells += [{"cell_type": "heading", "source": 3}, {"id": [], "metadata": [], "attachments": 4}, None, "def f()"]


@repairs("a merge that was not finished", "the later side")
def merge(nb):
    return conflict(BLANK, nb)


@repairs("a merge that was not finished", "the earlier side")
def merge_with_a_broken_side(nb):
    return conflict(nb, BLANK).replace(b"=======", b"=======\n}")


@repairs("the side that is valid Python")
def merge_in_a_cell(nb):
    answer = cell(nb, "euler_step-answer")
    answer.source = f"<<<<<<< HEAD\n{answer.source}\n||||||| base\n=======\ndef euler_step(u,\n>>>>>>> theirs"


@pytest.mark.parametrize("name", REPAIRS)
def test_the_answers_come_back(name):
    deform, words = REPAIRS[name]
    nb = copy.deepcopy(SOLVED)
    data = deform(nb) or written(nb)
    found, notes = repaired(data)
    assert [c.source.strip() for c in graded(found)] == [c.source for c in graded(SOLVED)]
    for word in words:
        assert word in "\n".join(notes)
    assert repair.recognise(data, RELEASES) == LAB


def conflict(one, other) -> bytes:
    """The file of a merge of two notebooks, which git leaves where they differ."""
    lines = [nbformat.writes(nb).split("\n") for nb in (one, other)]
    start = next(k for k, pair in enumerate(zip(*lines)) if pair[0] != pair[1])
    end = next(k for k, pair in enumerate(zip(*(side[::-1] for side in lines))) if pair[0] != pair[1])
    mine, theirs = ("\n".join(side[start : len(side) - end]) for side in lines)
    top, bottom = "\n".join(lines[0][:start]), "\n".join(lines[0][len(lines[0]) - end :])
    return f"{top}\n<<<<<<< HEAD\n{mine}\n=======\n{theirs}\n>>>>>>> laptop\n{bottom}".encode()


# --- what students wrote stays ----------------------------------------------------------------------------------------


def test_a_deleted_answer_is_the_stub_again():
    nb = copy.deepcopy(SOLVED)
    nb.cells = [c for c in nb.cells if c.id not in ("euler_step-answer", "ou_parameters")]
    found, notes = repaired(nb)
    assert notes == ["Answers that are missing: euler_step, ou_parameters."]
    for name in "euler_step-answer", "ou_parameters":
        assert cell(found, name) == cell(BLANK, name)
        assert index(found, name) == index(SOLVED, name)


def test_a_helper_stays_above_what_needs_it():
    """The stub, the check, a helper, and the answer below it: the helper moves up with the answer."""
    nb = copy.deepcopy(SOLVED)
    answer = cell(nb, "heun_step-answer").source
    cell(nb, "heun_step-answer").source = cell(BLANK, "heun_step-answer").source
    below = index(nb, "heun_step") + 1
    nb.cells[below:below] = [new_code_cell("helper = 1", id="helper"), new_code_cell(answer, id="moved")]
    found, _ = repaired(nb)
    assert index(found, "helper") + 1 == index(found, "heun_step-answer") == index(found, "heun_step") - 1
    assert len(found.cells) == len(SOLVED.cells) + 1


def test_a_helper_between_answer_and_check_stays_there():
    nb = copy.deepcopy(SOLVED)
    nb.cells[index(nb, "heun_step")] = new_code_cell("helper = 1", id="helper")
    found, _ = repaired(nb)
    assert index(found, "helper") - 1 == index(found, "heun_step-answer") == index(found, "heun_step") - 2


def test_a_helper_in_the_check_stays_above_it():
    nb = copy.deepcopy(SOLVED)
    check = cell(nb, "heun_step")
    check.source = f"helper = 1\n\n{check.source}"
    found, notes = repaired(nb)
    assert found.cells[index(found, "heun_step") - 1].source == "helper = 1"
    assert [note.split(":")[1] for note in notes] == [" heun_step."]


def test_answers_merged_into_one_cell_are_taken_for_each():
    nb = copy.deepcopy(SOLVED)
    first, second = cell(nb, "euler_step-answer"), cell(nb, "heun_step-answer")
    first.source += "\n\n" + second.source
    nb.cells.remove(second)
    found, notes = repaired(nb)
    assert cell(found, "euler_step-answer").source == cell(found, "heun_step-answer").source == first.source
    assert notes == ["Answers that stood in another cell than their own and were moved: heun_step."]


def test_another_definition_stays_where_it_is():
    nb = copy.deepcopy(SOLVED)
    nb.cells.append(new_code_cell("def euler_step(u, x, t, h):\n    return None", id="second"))
    found, notes = repaired(nb)
    assert found.cells[:-1] == SOLVED.cells and found.cells[-1].id == "second"
    assert notes == ["Functions that other cells define too, which were kept: euler_step."]


def test_an_older_answer_is_run_before_the_last():
    nb = copy.deepcopy(SOLVED)
    older = nbformat.from_dict({**cell(nb, "euler_step-answer"), "id": "older", "source": "def euler_step(): pass"})
    nb.cells.insert(0, older)
    found, _ = repaired(nb)
    assert index(found, "older") == index(found, "euler_step-answer") - 1


def test_an_answer_with_an_error_of_syntax_is_found():
    nb = copy.deepcopy(SOLVED)
    through_colab(nb)
    source = "%%time\ndef euler_step(u, x, t, h)\n    return x"
    nb.cells[index(SOLVED, "euler_step-answer")].source = source
    assert cell(repaired(nb).notebook, "euler_step-answer").source == source


def test_a_lambda_is_an_answer_and_a_call_is_none():
    nb = copy.deepcopy(BLANK)
    nb.cells.append(new_code_cell("ou_drift = lambda x, t, theta: -theta * x"))
    nb.cells.append(new_code_cell("euler_step = print(heun_step)"))
    nb.cells.append(new_markdown_cell("```\ndef heun_step(): ...\n```"))
    found, notes = repaired(nb)
    assert notes == ["Answers that stood in another cell than their own and were moved: ou_drift."]
    assert cell(found, "ou_drift-answer").source.startswith("ou_drift = lambda")
    assert len(found.cells) == len(nb.cells) - 1


def test_written_answers_keep_their_pictures():
    nb = copy.deepcopy(SOLVED)
    good, bad = {"image/png": "iVBORw0KGgo="}, {"text/html": ["<script>"]}
    cell(nb, "ou_parameters").attachments = {"plot.png": good, "page": bad}
    found, notes = repaired(nb)
    assert cell(found, "ou_parameters").attachments == {"plot.png": good} and notes == []


def test_prose_in_a_cell_of_code_is_a_written_answer():
    nb = copy.deepcopy(SOLVED)
    nb.cells[index(nb, "ou_is_langevin")] = new_code_cell("It is the same drift, and the same noise.")
    found, notes = repaired(nb)
    assert cell(found, "ou_is_langevin").source == "It is the same drift, and the same noise."
    assert len(found.cells) == len(nb.cells) and len(notes) == 2


def test_an_answer_too_long_to_be_parsed_is_kept():
    nb = copy.deepcopy(SOLVED)
    cell(nb, "euler_step-answer").source += "\n# and so on" * 10_000
    found, notes = repaired(nb)
    assert found == nb and notes == []


def test_a_merge_in_a_cell_that_nobody_can_decide_is_left():
    nb = copy.deepcopy(SOLVED)
    source = "<<<<<<< HEAD\ndef euler_step(): 1\n=======\ndef euler_step(): 2\n>>>>>>> theirs"
    cell(nb, "euler_step-answer").source = source
    found, notes = repaired(nb)
    assert cell(found, "euler_step-answer").source == source
    assert len(notes) == 1 and "left as they are" in notes[0]


def test_a_heading_underlined_with_signs_of_a_merge_is_no_merge():
    nb = copy.deepcopy(SOLVED)
    nb.cells.append(new_markdown_cell("Title\n=======\n>>>>>>> quoted\n<<<<<<< more"))
    assert repaired(nb).notes == []


def test_damaged_bytes_cost_one_character_each():
    data = json.dumps(SOLVED, ensure_ascii=False).encode().replace("θ".encode(), b"\xce", 1)
    found, notes = repaired(data)
    assert notes == ["Some bytes of the file are damaged; � stands for them."]
    assert sum("�" in source for source in sources(found)) == 1


@each_lab
def test_nothing_of_the_office_gets_in(lab):
    nb = copy.deepcopy(RELEASES[lab])
    nb.cells = nb.cells[: nb.cells.index(graded(nb)[0]) + 1]
    for c in nb.cells:
        c.pop("metadata"), c.pop("id")
    found, _ = repaired(nb, lab)
    text = "\n".join(sources(found))
    assert "HIDDEN TESTS" not in text and "course.hidden" not in text and "SOLUTION" not in text
    assert [c.source for c in graded(found)] == [c.source for c in graded(RELEASES[lab])]


def test_nothing_is_executed(tmp_path):
    nb = copy.deepcopy(SOLVED)
    mark = f"open({str(tmp_path / 'mark')!r}, 'w').close()\n"
    for c in nb.cells:
        c.source = mark + c.source
    repaired(nb)
    assert not list(tmp_path.iterdir())


# --- what cannot be repaired ------------------------------------------------------------------------------------------

UNREPAIRABLE = {
    "empty": (b"", "empty"),
    "blank": (b" \n\0", "empty"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "zip": (b"PK\x03\x04\x14\x00", "a zip archive"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "a web page"),
    "script": (b"def euler_step(u, x, t, h):\n    return {}\n", "not a notebook"),
    "cut off": (written(SOLVED)[:20_000], "breaks off"),
    "no cells": (b'{"cells": {}}', "no list of cells"),
    "no cell": (b'{"cells": []}', "none of this lab's"),
    "many cells": (b'{"cells": [' + b"{}," * 10_000 + b"{}]}", "10001 cells"),
    "many cells in format 3": (b'{"worksheets": [{"cells": [' + b"{}," * 10_000 + b"{}]}]}", "damaged format 3"),
    "a list": (b"[1, 2]", "no list of cells"),
    "another notebook": (written(nbformat.v4.new_notebook(cells=[new_markdown_cell("Hello.")])), "none of this lab's"),
    "another lab": (written(submissions.solved("lab2_paths")), "none of this lab's"),
    "deep": (b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    "damaged format 3": (b'{"worksheets": [3]}', "damaged format 3"),
    "a merge of nothing": (b"<<<<<<< HEAD\n{\n=======\n[\n>>>>>>> theirs\n", "neither side"),
    "a number with many digits": (b'{"cells": [' + b"1" * 10_000 + b"]}", "damaged"),
    "too large": (b" " * repair.MOST_BYTES + b"{}", "64 MB"),
    "too many values": (b'{"cells": [], "x": [' + b"[]," * 2_000_000 + b"[]]}", "2000004 opening brackets"),
    "empty lines": (b"\n" * 2**20 + b"{}", "no list of cells"),
}


@pytest.mark.parametrize("name", UNREPAIRABLE)
def test_what_cannot_be_graded_is_refused_with_a_reason(name):
    data, words = UNREPAIRABLE[name]
    with pytest.raises(repair.Unrepairable, match=words):
        repair.repair(data, RELEASES[LAB])


# --- which lab --------------------------------------------------------------------------------------------------------


@each_lab
def test_a_lab_is_recognised_by_what_is_in_it(lab):
    nb = submissions.solved(lab)
    assert repair.recognise(written(RELEASES[lab]), RELEASES) == lab
    assert repair.recognise(written(nb), RELEASES) == lab
    through_colab(nb)
    nb.cells = [c for c in nb.cells if c.cell_type == "code" and c.source.startswith("def ")]
    assert repair.recognise(written(nb), RELEASES) == lab


@pytest.mark.parametrize("name", [name for name in UNREPAIRABLE if name != "another lab"])
def test_what_belongs_to_no_lab_is_not_recognised(name):
    assert repair.recognise(UNREPAIRABLE[name][0], RELEASES) is None


# --- anything at all --------------------------------------------------------------------------------------------------

CHANGES = ("delete", "copy", "move", "strip", "forget", "blank")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 200), st.integers(0, 200)), max_size=40))
def test_any_deformation_leaves_the_cells_of_the_release(changes):
    nb = copy.deepcopy(SOLVED)
    for change, one, other in changes:
        at, to = one % len(nb.cells), other % len(nb.cells)
        if change == "delete":
            del nb.cells[at : at + to % 9]
        elif change == "copy":
            nb.cells.insert(to, copy.deepcopy(nb.cells[at]))
        elif change == "move":
            nb.cells.insert(to, nb.cells.pop(at))
        elif change == "strip":
            nb.cells[at].metadata = {}
        elif change == "forget":
            nb.cells[at].id = f"x{to}"
        else:
            nb.cells[at].source = ""
        if not nb.cells:
            break
    try:
        found = repaired(nb).notebook
    except repair.Unrepairable:
        assert not {c.id for c in nb.cells} & {slot.id for slot in graded(SOLVED) if slot.metadata.nbgrader.solution}
    else:
        assert graded(repaired(found).notebook) == graded(found)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(submissions.points(LAB))), st.integers(0, 200), st.booleans())
def test_an_answer_survives_wherever_it_is(name, where, stripped):
    nb = copy.deepcopy(SOLVED)
    answer = nb.cells.pop(index(nb, f"{name}-answer"))
    answer.id = "elsewhere"
    if stripped:
        answer.metadata = {}
    nb.cells.insert(where % (len(nb.cells) + 1), answer)
    assert sources(repaired(nb).notebook) == sources(SOLVED)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
odd_gradings = st.fixed_dictionaries({"grade_id": values | st.just("simulate")})
odd_cells = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": values | st.sampled_from(["code", "markdown", "raw", "heading"]),
        "source": values | st.just("def euler_step(): pass") | st.lists(st.text() | values),
        "id": values | st.sampled_from(["euler_step", "euler_step-answer", "a b"]),
        "metadata": values
        | st.fixed_dictionaries(
            {"nbgrader": values | st.fixed_dictionaries({"grade_id": values | st.just("simulate")})}
        ),
        "attachments": values | st.dictionaries(st.text(), st.dictionaries(st.just("image/png"), values)),
        "outputs": values,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(odd_cells | values, max_size=8), values, st.sampled_from(["cells", "worksheets"]))
def test_any_json_is_repaired_or_refused(cells, metadata, key):
    answer = {"cell_type": "code", "source": "def heun_step(): pass"}
    inside = [answer, *cells]
    nb = {"metadata": metadata, key: inside if key == "cells" else [{"cells": inside}]}
    try:
        repaired(json.dumps(nb).encode())
    except repair.Unrepairable:
        assert key == "worksheets"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=4)), min_size=1, max_size=5), st.integers(0, 10**6))
def test_any_damage_to_the_bytes_is_repaired_or_refused(damage, length):
    data = written(SOLVED)
    data = data if length % 2 else data[: length % len(data)]
    for where, what in damage:
        at = where % (len(data) + 1)
        data = data[:at] + what + data[at + len(what) :]
    try:
        repaired(data)
    except repair.Unrepairable as error:
        assert str(error)
