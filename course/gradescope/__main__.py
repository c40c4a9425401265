"""python -m course.gradescope /autograder: grade the submission there."""

import sys
from pathlib import Path

from course.gradescope import grade

grade(Path(sys.argv[1]))
