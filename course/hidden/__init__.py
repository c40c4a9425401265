"""Hidden tests: more checks of the same kind as `fmlab.checks`, on cases a student does not see.

They are called from the hidden regions of the sources, importable in an instructor's checkout, and never part of what
students install.
"""

import functools

from fmlab.checks import report

check = functools.partial(report.check, hidden=True)
