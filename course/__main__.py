"""The commands of instructors: `python -m course` lists them.

`python -m course grade --help` says more of one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from course.failures import KNOWN, Unfinished, begun, sentence

ROOT = Path(__file__).resolve().parents[1]
GRADING = ROOT / "grading"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return args.command(args)
    except KNOWN as error:
        print(sentence(error), file=sys.stderr)
        return 2 if isinstance(error, Unfinished) else 1
    except KeyboardInterrupt:
        print("Interrupted. What was graded is kept; the same command goes on from there.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course", description="The instructor's commands.")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("new", help="begin an exercise: its card, inputs, cells and tests, to be filled in")
    command.add_argument("lab", help="lab1 or lab1_simulation")
    command.add_argument("name", help="of its function, which is what it will be called everywhere")
    command.set_defaults(command=_new)

    command = commands.add_parser("build", help="course/sources/ -> labs/, solutions/ and grading/source/")
    _add_labs(command)
    command.add_argument("--force", action="store_true", help="execute solutions even if nothing changed")
    command.set_defaults(command=_build)

    command = commands.add_parser("verify", help="fail if labs/ or solutions/ are not what a build makes")
    _add_labs(command)
    command.add_argument("--no-execute", dest="execute", action="store_false", help="do not run the solutions")
    command.set_defaults(command=_verify)

    command = commands.add_parser("pace", help="cells, words, lines and minutes of each lab")
    _add_labs(command)
    command.add_argument("--run", action="store_true", help="run the solutions, and print seconds")
    command.set_defaults(command=_pace)

    command = commands.add_parser("handout", help="one zip for students: labs, library, exact versions")
    _add_labs(command)
    command.add_argument("--out", type=Path, default=ROOT / "build" / "fmlab-labs.zip", help="(default: %(default)s)")
    command.set_defaults(command=_handout)

    command = commands.add_parser("autograder", help="a zip with which Gradescope grades a lab by the same judge")
    command.add_argument("lab", help="lab1 or lab1_simulation")
    command.add_argument("--out", type=Path, help="(default: build/LAB.autograder.zip)")
    command.set_defaults(command=_autograder)

    command = commands.add_parser("grade", help="submissions -> marks, feedback and a report on the class")
    command.add_argument("places", nargs="+", type=Path, metavar="place", help="a folder, a zip or a table (.csv)")
    command.add_argument("--lab", help="only submissions of this lab, such as lab1; by default each is recognised")
    command.add_argument("--roster", type=Path, help="the class, as Canvas or Moodle exports it; is remembered")
    command.add_argument("--question", help="grade this exercise alone again, for all that were graded")
    command.add_argument("--workers", type=int, help="submissions graded at a time; by default one for each core")
    command.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler whose workers grade instead")
    command.add_argument("--unsafe", action="store_true", help="without a sandbox; only for submissions that you trust")
    _add_gradebook(command)
    command.set_defaults(command=_grade)

    command = commands.add_parser("report", help="feedback and reports anew, with what was marked in formgrader")
    _add_gradebook(command)
    command.set_defaults(command=_report)

    command = commands.add_parser("read", help="read and mark the written answers, question by question, in a browser")
    command.add_argument("--lab", help="of this lab alone, such as lab1")
    command.add_argument("--port", type=int, default=0, help="(default: any that is free)")
    command.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")
    _add_gradebook(command)
    command.set_defaults(command=_read)

    command = commands.add_parser("export", help="marks for another system; for Moodle and Canvas feedback, too")
    command.add_argument("--to", choices=("csv", "canvas", "moodle", "gradescope"), default="csv")
    command.add_argument("--lab", help="of this lab alone, such as lab1")
    command.add_argument("--roster", type=Path, help="the table of students that Canvas or Moodle exported")
    command.add_argument("--out", type=Path, default=GRADING / "export", help="a folder (default: grading/export)")
    _add_gradebook(command)
    command.set_defaults(command=_export)

    command = commands.add_parser("release", help="the version, dated changes, packages and a tag in git")
    command.add_argument("version", help="three numbers, such as 0.2.0")
    command.set_defaults(command=_release)

    command = commands.add_parser("pretrain", help="train the networks that come with the library again, and keep them")
    command.set_defaults(command=_pretrain)

    command = commands.add_parser("pictures", help="draw the moving picture of README.md again")
    command.set_defaults(command=_pictures)
    return parser


def _add_labs(command: argparse.ArgumentParser) -> None:
    command.add_argument("labs", nargs="*", metavar="lab", help="lab1 or lab1_simulation; all labs if none is named")


def _add_gradebook(command: argparse.ArgumentParser) -> None:
    default = f"sqlite:///{GRADING / 'gradebook.db'}"
    command.add_argument("--db", default=default, metavar="URL", help="nbgrader's gradebook (default: %(default)s)")


def _new(args: argparse.Namespace) -> int:
    from course import new

    for path, text in new.begin(args.lab, args.name).items():
        print(f"{path.relative_to(ROOT).as_posix()}: {text.count('TODO')} times TODO")
    print("Write what says TODO, and move the cells to their place in the notebook. What is still missing is told by:")
    print(f"python -m course build {args.lab}")
    return 0


def _pretrain(args: argparse.Namespace) -> int:
    from course import pretrain

    for path in pretrain.write():
        print(f"{path.relative_to(ROOT).as_posix()}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def _pictures(args: argparse.Namespace) -> int:
    from course import pictures

    pictures.write()
    print(f"{pictures.PATH.relative_to(ROOT).as_posix()}: {pictures.PATH.stat().st_size / 1000:.0f} kB")
    return 0


def _release(args: argparse.Namespace) -> int:
    from course import release

    for path in release.release(args.version):
        print(path.relative_to(ROOT).as_posix())
    print("Look at the commit, then publish it with its tag: git push --follow-tags")
    return 0


def _build(args: argparse.Namespace) -> int:
    from course import build, pace

    for source in build.sources(args.labs):
        build.build(source, force=args.force)
    if not args.labs:
        build.retire()
    pace.write()
    return 0


def _pace(args: argparse.Namespace) -> int:
    from course import build, pace

    print(pace.report(build.sources(args.labs), args.run))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from course import build, pace

    problems = []
    for source in build.sources(args.labs):
        problems += build.verify(source, run_solution=args.execute)
        if not build.is_current(build.read(source), source.stem):
            print(f"{source.stem}: the solution's figures are from before the last change; a build draws them again")
    problems += [f"{path.relative_to(ROOT).as_posix()}: has no source" for path in build.orphans()]
    problems += [f"{name}: its list of labs is not what a build writes" for name in pace.stale()]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("Edit course/sources/ only, then run: python -m course build", file=sys.stderr)
    return 1 if problems else 0


def _handout(args: argparse.Namespace) -> int:
    from course import build, folders, handout

    sources = build.sources(args.labs)
    handout.write(sources, args.out)
    folders.release([source.stem for source in sources], GRADING)
    print(f"{args.out}: for students; unpacked, `python start.py` sets up and opens the labs")
    return 0


def _autograder(args: argparse.Namespace) -> int:
    from course import build, gradescope

    (source,) = build.sources([args.lab])
    out = args.out or ROOT / "build" / f"{source.stem}.autograder.zip"
    gradescope.write(source, out)
    print(f"{out}: upload it in Gradescope (Configure Autograder); it holds hidden tests, so keep it to yourself")
    return 0


def _grade(args: argparse.Namespace) -> int:
    from course import grade  # which starts workers before all else

    if args.roster:
        _remember(args.roster)
    found = grade.grade(
        args.places,
        GRADING,
        args.db,
        lab=args.lab,
        question=args.question,
        workers=args.workers,
        scheduler=args.scheduler,
        walls="none" if args.unsafe else None,
    )
    _tell(args.places, found)
    with begun(lambda: "Everything is graded and in the gradebook; the report is still open."):
        _report(args)
    return _open(found)


def _remember(path: Path) -> None:
    from course.inbox import roster

    roster.remember(path, GRADING)


def _tell(places: Sequence[Path], found: list) -> None:
    """What became of all that came in."""
    from course.inbox import roster, table
    from course.pages import line

    graded = sum(record["status"] == "graded" for record in found)
    print(f"{graded} of {len(found)} submissions graded")
    rows = [row for row in table.read(GRADING) if row.place in {table.place(place) for place in places}]
    print(f"{table.summary(rows)} (grading/{table.NAME})")
    register = roster.Register(roster.remembered(GRADING), found)
    for told in [*table.told(rows), *register.told(record["student"] for record in found)]:
        print(line(told), file=sys.stderr)


def _open(found: list) -> int:
    """Say what is open since the grader itself failed, last of all. Returns the exit code."""
    from course.records import unfinished

    names = [record["student"] for record in found if unfinished(record)]
    if names:
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        print(
            f"Still open, since the grader itself failed over them: {', '.join(names[:20])}{more}. "
            "The same command tries them again.",
            file=sys.stderr,
        )
    return 2 if names else 0


def _report(args: argparse.Namespace) -> int:
    from course import build, edition, gradebook, report

    marked = _marked(args)
    due = {source.stem: edition.current().of(build.short(source.stem)).due for source in build.sources()}
    gradebook.enter_dates(marked, due, args.db)
    for path in report.write_all(marked, GRADING, GRADING):
        print(f"{path}: the report; {path.with_suffix('.csv').name}: the marks; feedback/: for students")
    return 0


def _read(args: argparse.Namespace) -> int:
    from course import reading

    try:
        reading.serve(lambda: _marked(args, _lab(args) or "*"), args.db, args.port, args.browser)
    except KeyboardInterrupt:
        print("\nWhat was given is in the gradebook; `python -m course report` brings the reports up to date.")
    return 0


def _export(args: argparse.Namespace) -> int:
    from course import exports, returns
    from course.inbox import table
    from course.pages import line

    marked = _marked(args, _lab(args) or "*")
    for path in exports.write(marked, args.to, args.out, args.roster):
        print(path)
    if args.to in ("canvas", "moodle"):
        written, strangers = returns.write(marked, table.read(GRADING), args.to, args.out, GRADING)
        for path in written:
            print(f"{path}: feedback, to be uploaded to the assignment")
        for lab, students in strangers.items() if written else ():
            told = f"{lab}: feedback of these is not in the zip, since their files did not come from there: "
            print(line(told + ", ".join(students)), file=sys.stderr)
    return 0


def _lab(args: argparse.Namespace) -> str | None:
    """The lab that was named, in full."""
    from course import build

    return build.sources([args.lab])[0].stem if args.lab else None


def _marked(args: argparse.Namespace, lab: str = "*") -> list:
    """The records of all that was graded, as this edition weighs them and with what persons added in the gradebook."""
    from course import edition, gradebook, records, worth

    terms = edition.current()
    return worth.settled(gradebook.marked(worth.weighed(records.read(GRADING, lab), terms), args.db), terms)


if __name__ == "__main__":
    sys.exit(main())
