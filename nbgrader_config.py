"""nbgrader's settings: its steps work in the folders of this repository, wherever the command is given."""

import os
from pathlib import Path

c = get_config()  # noqa: F821  (nbgrader provides it)
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

# Kernels import fmlab and, for hidden tests, course.hidden from here.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)

# labs/ is generated and in git, so it always exists; without force the command would skip it and record nothing.
c.GenerateAssignment.force = True
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}
c.ClearSolutions.text_stub = "*Write your answer here.*"

# Seconds for one cell. The default of 30 stops honest simulations.
c.ExecutePreprocessor.timeout = 300
c.ExecutePreprocessor.interrupt_on_timeout = True

# A check raises when an answer is wrong; a warning on stderr is no reason to lose the points.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s)."

# A check that a student deleted comes back and is graded.
c.OverwriteCells.add_missing_cells = True
c.LimitOutput.max_lines = 200
c.LimitOutput.max_traceback = 50
