"""A plugin of pytest: where nbval runs a solution, it shows what a build of it shows, to the last bit, and no errors.

The build's outputs stand in the notebook. Another processor may draw other last digits than the build's; there the
notebook runs a second time, and is compared with that.
"""

import copy
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell

from course import build


class DrawsTheSameAgain(pytest.Item):
    """The last test of a notebook, after its cells."""

    def __init__(self, cells: list[IPyNbCell], **more):
        super().__init__(**more)
        self.cells = cells

    def runtest(self):
        if any(cell.test_outputs is None for cell in self.cells):
            pytest.skip("some of its cells did not run")
        shown = [_shown(map(build.repeatable, copy.deepcopy(cell.test_outputs))) for cell in self.cells]
        for cell, outputs in zip(self.cells, shown, strict=True):
            assert "stderr" not in [output.get("name") for output in outputs], cell.name
        built = self.parent.nb
        if shown != _all_shown(built):
            built = build.execute(built, self.path.parent, opened=_opened(self.path))
        for cell, outputs, same in zip(self.cells, shown, _all_shown(built), strict=True):
            assert outputs == same, cell.name


def _shown(outputs) -> list[dict]:
    """Outputs without the number of their cell, which nbval does not count."""
    return [{key: value for key, value in output.items() if key != "execution_count"} for output in outputs]


def _all_shown(nb: NotebookNode) -> list[list[dict]]:
    return [_shown(cell.outputs) for cell in nb.cells if cell.cell_type == "code"]


def _opened(solution: Path) -> Path:
    """The notebook that a student opens, for which a solution passes while it is built."""
    return build.notebook_path("labs", solution.stem)


def pytest_collection_modifyitems(items):
    """Behind the cells of each notebook comes a test that compares what they show."""
    cells: dict[pytest.File, list[IPyNbCell]] = {}
    for item in items:
        if isinstance(item, IPyNbCell):
            cells.setdefault(item.parent, []).append(item)
    for notebook, own in cells.items():
        last = DrawsTheSameAgain.from_parent(notebook, name="draws the same again", cells=own)
        items.insert(items.index(own[-1]) + 1, last)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """A kernel that nbval starts has the environment of one that a build starts."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    with patch.dict(os.environ, build.kernel_environment(_opened(item.path)), clear=True):
        return (yield)
