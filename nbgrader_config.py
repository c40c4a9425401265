"""nbgrader's settings: its steps work in the folders of this repository, wherever the command is given."""

import contextlib
import os
import sys
from pathlib import Path

from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, DeduplicateIds, OverwriteCells, OverwriteKernelspec

c = get_config()  # noqa: F821  (whoever reads this file provides it)
root = Path(__file__).resolve().parent

# Everything of the instructor's is in grading/, which git ignores; what is released is labs/.
c.CourseDirectory.root = str(root)
c.CourseDirectory.source_directory = "grading/source"
c.CourseDirectory.release_directory = "labs"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.solution_directory = "grading/solution"
c.CourseDirectory.source_with_tests_directory = "grading/source_with_tests"
c.CourseDirectory.db_url = f"sqlite:///{(root / 'grading' / 'gradebook.db').as_posix()}"

# What `make handout` gave out is released, as formgrader sees it; a name of a course is what makes it look.
c.CourseDirectory.course_id = "default_course"
c.Exchange.root = os.environ.get("FMLAB_EXCHANGE", str(root / "grading" / "exchange"))  # see docs/hub.md
if (root / "course").is_dir():  # an instructor's
    with contextlib.suppress(OSError):
        (root / "grading").mkdir(exist_ok=True)  # where `nbgrader collect` opens the gradebook, also in a new clone


def put_first(variable, folder):
    """Make a folder the first of the path in an environment variable, for the processes that nbgrader starts."""
    others = [path for path in os.environ.get(variable, "").split(os.pathsep) if path not in ("", str(folder))]
    os.environ[variable] = os.pathsep.join([str(folder), *others])


put_first("PYTHONPATH", root)  # kernels import fmlab and, for hidden tests, course.hidden
put_first("PATH", Path(sys.executable).parent)  # nbgrader calls alembic by name, also where no environment is activated

# labs/ is generated and in git, so it always exists; without force the command would skip it and record nothing.
c.GenerateAssignment.force = True
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}
c.ClearSolutions.text_stub = "*Write your answer here.*"

# Seconds for one cell. The default of 30 stops honest simulations.
c.ExecutePreprocessor.timeout = 300
c.ExecutePreprocessor.interrupt_on_timeout = True
# Progress bars of trainings would fill the notebooks that are kept. JupyterLab reads this file, too: there they show.
c.Execute.extra_arguments = ["--IPKernelApp.exec_lines=import os; os.environ['TQDM_DISABLE'] = '1'"]
c.LimitOutput.max_lines = 200
c.LimitOutput.max_traceback = 50

# A wrong answer makes its check raise; a mere warning on stderr is no reason to lose the points.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s)."

# A check that a student deleted comes back and is graded.
c.OverwriteCells.add_missing_cells = True


class ForgetDuplicates(DeduplicateIds):
    """Of a copied cell only the last copy counts. DeduplicateIds leaves the others metadata so empty that nbgrader
    takes it for an old format and stops the whole batch."""

    def preprocess_cell(self, cell, resources, cell_index):
        cell, resources = super().preprocess_cell(cell, resources, cell_index)
        if cell.metadata.get("nbgrader") == {}:
            del cell.metadata["nbgrader"]
        return cell, resources


c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    ForgetDuplicates,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]

# Feedback does not show the calls of hidden tests.
c.GenerateFeedback.preprocessors = [
    "nbgrader.preprocessors.GetGrades",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
