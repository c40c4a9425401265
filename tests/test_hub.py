"""docs/hub.md as it is told: a hub with two students, a lab that they pull, do and hand in, and what is collected."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course import build, hosted
from tests import submissions
from tests.classroom import copy_checkout, entered, environment
from tests.git import git, needs_git
from tests.hub import Server, needs_hub, running

pytestmark = [pytest.mark.grading, pytest.mark.slow, *needs_hub, needs_git]

LAB = "lab0_welcome"
WORK = ("ada", "bo")
ASSIGNMENT = {"course_id": "default_course", "assignment_id": LAB}
DOCS = build.ROOT / "docs" / "hub.md"


def told(heading: str) -> str:
    """The commands below a heading of docs/hub.md."""
    section = DOCS.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"(?s)```sh\n(.*?)```", section))


def shell(commands: str, folder: Path, **more: str) -> str:
    env = environment() | {"PATH": f"{Path(sys.executable).parent}:{environment()['PATH']}"} | more
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A new clone, with the labs alone in a repository beside it."""
    names = ["nbgrader_config.py", "course", "fmlab", "labs", "pyproject.toml", "README.md", "LICENSE"]
    root = tmp_path_factory.mktemp("hub") / "course"
    root.mkdir()
    copy_checkout(root, *names, "constraints.txt")
    who = {f"GIT_{role}_{what}": "labs" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    shell(told("A repository of the labs alone"), root, **who)
    return root


def test_the_labs_repository_holds_what_students_get_and_no_solution(course):
    labs = course.parent / "fmlab-labs"
    files = git(labs, "ls-files").split()
    stems = [path.stem for path in build.sources()]
    assert {f"labs/{stem}/{stem}.ipynb" for stem in stems} <= set(files) and "README.md" in files
    assert not [name for name in files if name.startswith(("course", "solutions", "tests"))]


def test_two_students_pull_a_lab_do_it_and_hand_it_in_and_it_is_collected_and_graded(course, tmp_path):
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    exchange.chmod(0o777)
    for student in WORK:  # the tests may run as root
        config = tmp_path / student / ".jupyter" / "jupyter_server_config.json"
        config.parent.mkdir(parents=True)
        config.write_text(json.dumps({"ServerApp": {"allow_root": True}}))
    hand_out, collect = told("Hand out"), told("Collect and grade")
    shell(hand_out, course, FMLAB_EXCHANGE=str(exchange))

    with running(tmp_path, exchange) as hub:
        ada, bo = (Server(hub, student) for student in WORK)
        fetched = ada.ask("POST", "assignments/fetch", data=ASSIGNMENT)
        assert fetched["success"], fetched
        assert do(ada, LAB, submissions.solved(LAB)) == []
        handed_in = ada.ask("POST", "assignments/submit", data=ASSIGNMENT)
        assert handed_in["success"], handed_in

        repository = (course.parent / "fmlab-labs").as_uri()
        pulled = bo.ask("GET", "git-pull/api", params={"repo": repository, "branch": hosted.BRANCH})
        assert '"phase": "finished"' in pulled, pulled
        errors = do(bo, f"fmlab-labs/labs/{LAB}", submissions.blank(LAB))
        assert len(errors) == 2 and all(error.startswith("CheckFailed: ✗") for error in errors), errors
        submit = f"import subprocess\nsubprocess.run(['nbgrader', 'submit', {LAB!r}], check=True)"
        assert bo.run("fmlab-labs/labs", [submit]) == []

    (tmp_path / "nbgrader_config.py").write_text("c.ExchangeCollect.check_owner = False")  # here both are one user
    shell(collect, course, FMLAB_EXCHANGE=str(exchange), JUPYTER_CONFIG_PATH=str(tmp_path))
    marks = entered(f"sqlite:///{course}/grading/gradebook.db")
    points = submissions.points(LAB)
    for student, share in (("ada", 1), ("bo", 0)):
        given = {name: marks[student, LAB, name][0] for name in points}
        assert given == {name: share * most for name, most in points.items()}, student


def do(server: Server, folder: str, nb) -> list[str]:
    """Save a student's work in the place of the lab, and run it from top to bottom; the errors of its cells."""
    server.ask("PUT", f"api/contents/{folder}/{LAB}.ipynb", json={"type": "notebook", "content": nb})
    return server.run(folder, [cell.source for cell in nb.cells if cell.cell_type == "code"])
