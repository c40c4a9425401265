"""Build the site: labs, solutions, notes and the library's reference as pages that need no network and no server.

    python -m course.site [folder]                     build/site/ if no folder is named; open its index.html

Sphinx makes the pages, with MyST-NB for notebooks and the Sphinx Book Theme; docs/site/ has its settings. No cell is
run. A link that leads to nothing, or anything else that Sphinx warns of, stops the build.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from course.build import ROOT, BuildError
from course.site.sources import START, gather


def make(out: Path) -> None:
    """Build the site in a folder, in place of the site that is there."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        gather(work / "sources")
        write_pages(work / "sources", work / "html")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / "html", out)


def write_pages(sources: Path, out: Path) -> None:
    """Make the pages of a folder of sources. Raises BuildError where Sphinx has said on stderr what is wrong."""
    settings, doctrees = (ROOT / START).parent, out.parent / "doctrees"
    app = Sphinx(sources, settings, out, doctrees, "html", status=None, warning=sys.stderr, warningiserror=True)
    app.build()
    if app.statuscode:
        raise BuildError("the site cannot be made, see above")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m course.site", description="Make the site, to be read from disk.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "site", help="default: build/site")
    out = parser.parse_args().folder
    try:
        make(out)
    except (BuildError, SphinxError) as error:
        sys.exit(str(error))
    print(f"open {out / 'index.html'}")
