"""nbgrader's settings in the servers of students: where they fetch labs and hand them in."""

import os

c = get_config()  # noqa: F821  (nbgrader provides it)

c.CourseDirectory.course_id = "default_course"  # as in the instructor's nbgrader_config.py
c.Exchange.root = os.environ["FMLAB_EXCHANGE"]
