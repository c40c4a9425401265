"""A release is one command: it leaves a commit, a tag, and the files to publish."""

import subprocess
import sys
import zipfile

import pytest

from course import build
from tests.git import git, needs_git

pytestmark = [pytest.mark.grading, pytest.mark.slow, needs_git]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What is here, committed in a repository of its own."""
    root = tmp_path_factory.mktemp("checkout") / "fmlab"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=build.ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (build.ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "solutions/", "benchmarks/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((build.ROOT / name).read_bytes())
    git(root, "init", "--quiet")
    git(root, "config", "user.email", "somebody@example.org")  # of whom the command commits
    git(root, "config", "user.name", "Somebody")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "all")
    return root


def release(root, version: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "course", "release", version]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_what_is_not_ready_is_refused_in_words(checkout):
    for version, words in (("1.0", "three numbers such as 0.2.0"), ("7.8.9", "CHANGELOG.md needs one line")):
        refused = release(checkout, version)
        assert refused.returncode == 1 and words in refused.stderr
    (checkout / "notes.txt").write_text("not committed\n")
    refused = release(checkout, "7.8.9")
    assert refused.returncode == 1 and "commit your changes first" in refused.stderr
    (checkout / "notes.txt").unlink()
    assert not git(checkout, "status", "--porcelain") and not git(checkout, "tag")


def test_one_command_dates_packs_and_tags(checkout):
    changes = checkout / "CHANGELOG.md"
    changes.write_text(
        changes.read_text().replace("# Changes\n", "# Changes\n\n## 7.8.9, not released yet\n\n- All.\n", 1)
    )
    git(checkout, "commit", "--quiet", "--all", "--message", "what is new")
    done = release(checkout, "7.8.9")
    assert done.returncode == 0, done.stderr
    assert git(checkout, "tag") == "v7.8.9" and git(checkout, "log", "-1", "--format=%s") == "Release 7.8.9"
    assert not git(checkout, "status", "--porcelain")
    assert "## 7.8.9, 2" in changes.read_text() and "version: 7.8.9" in (checkout / "CITATION.cff").read_text()
    wheel = checkout / "build" / "fmlab-7.8.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(checkout / "build" / "fmlab-labs.zip") as handed_out:
        assert b"\nVersion: 7.8.9\n" in packed.read("fmlab-7.8.9.dist-info/METADATA")
        assert f"fmlab-labs/{wheel.name}" in handed_out.namelist()
    assert str(wheel.relative_to(checkout)) in done.stdout and "git push --follow-tags" in done.stdout
    again = release(checkout, "7.8.9")
    assert again.returncode == 1 and "released already" in again.stderr
