"""What nbgrader finds in its folders: what was handed out, what was handed in last, and when."""

from pathlib import Path

import pytest

from course import build, folders, jobs
from course.inbox import Choice, Submission

LAB = "lab0_welcome"
DAY = 86400


def handed_in(data: bytes, day: int, place: str = "inbox") -> list[Choice]:
    return [Choice(Submission("ada", "lab0.ipynb", data, when=day * DAY, place=place), LAB)]


def found(grading: Path) -> tuple[bytes, str]:
    folder = grading / "submitted" / "ada" / LAB
    return (folder / f"{LAB}.ipynb").read_bytes(), (folder / "timestamp.txt").read_text()


def test_the_last_hand_in_lies_there_with_its_own_time(tmp_path):
    for data, day in ((b"first", 1), (b"second", 2), (b"second", 5)):  # the same again is what was there
        folders.keep(handed_in(data, day), tmp_path)
    assert found(tmp_path) == (b"second", "1970-01-03 00:00:00.000000 UTC\n")


def test_a_run_that_ends_between_leaves_no_time_of_another_file(tmp_path, monkeypatch):
    folders.keep(handed_in(b"first", 1), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        folders.keep(handed_in(b"second", 2), tmp_path)
    folders.keep(handed_in(b"second", 2), tmp_path)
    assert found(tmp_path) == (b"second", "1970-01-03 00:00:00.000000 UTC\n")


def test_what_nbgrader_collected_stays(tmp_path):
    folder = tmp_path / "submitted" / "ada" / LAB
    folder.mkdir(parents=True)
    (folder / f"{LAB}.ipynb").write_bytes(b"collected")
    (folder / "timestamp.txt").write_text("2027-03-01 09:00:00 CET")
    folders.keep(handed_in(b"collected", 3), tmp_path)
    folders.keep(handed_in(b"something", 3, place=str(tmp_path / "submitted")), tmp_path)
    assert found(tmp_path) == (b"collected", "2027-03-01 09:00:00 CET")


def test_a_lab_is_released_without_its_hidden_tests_and_written_once(tmp_path):
    folders.release([LAB], tmp_path)
    released = tmp_path / "exchange" / "default_course" / "outbound" / LAB / f"{LAB}.ipynb"
    source = tmp_path / "source" / LAB / f"{LAB}.ipynb"
    assert "HIDDEN TESTS" in source.read_text() and "HIDDEN TESTS" not in released.read_text()
    assert released.read_bytes() == build.as_bytes(jobs.release(LAB))
    before = released.stat().st_mtime_ns, source.stat().st_mtime_ns
    folders.release([LAB], tmp_path)
    assert before == (released.stat().st_mtime_ns, source.stat().st_mtime_ns)
