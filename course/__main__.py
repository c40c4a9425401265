"""python -m course build | verify | grade: the instructor's commands. `python -m course build --help` says more."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from course import build

GRADING = build.ROOT / "grading"


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return args.command(args)
    except build.BuildError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course", description="The instructor's commands.")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("build", help="course/sources/ -> labs/, solutions/ and grading/source/")
    command.add_argument("labs", nargs="*", metavar="lab", help="lab1 or lab1_simulation; all labs if none is named")
    command.add_argument("--force", action="store_true", help="execute solutions even if nothing changed")
    command.set_defaults(command=_build)

    command = commands.add_parser("verify", help="fail if labs/ or solutions/ are not what a build makes")
    command.add_argument("labs", nargs="*", metavar="lab", help="lab1 or lab1_simulation; all labs if none is named")
    command.add_argument("--no-execute", dest="execute", action="store_false", help="do not run the solutions")
    command.set_defaults(command=_verify)

    command = commands.add_parser("grade", help="submissions -> marks, feedback and a report on the class")
    command.add_argument("places", nargs="+", type=Path, metavar="place", help="a folder or a zip of submissions")
    command.add_argument("--lab", help="the lab that they are of, such as lab1; by default each file is recognised")
    command.add_argument("--workers", type=int, default=os.cpu_count(), help="submissions graded at a time")
    command.add_argument("--db", default=f"sqlite:///{GRADING / 'gradebook.db'}", help="nbgrader's gradebook")
    command.set_defaults(command=_grade)
    return parser


def _build(args: argparse.Namespace) -> int:
    for source in build.sources(args.labs):
        build.build(source, force=args.force)
    return 0


def _verify(args: argparse.Namespace) -> int:
    problems = []
    for source in build.sources(args.labs):
        problems += build.verify(source, run_solution=args.execute)
        if not build.is_current(build.read(source), source.stem):
            print(f"{source.stem}: the solution's figures are from before the last change; a build draws them again")
    problems += [f"{path.relative_to(build.ROOT).as_posix()}: has no source" for path in build.orphans()]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print("Edit course/sources/ only, then run: python -m course build", file=sys.stderr)
    return 1 if problems else 0


def _grade(args: argparse.Namespace) -> int:
    from course import grade, report  # they load torch

    (lab,) = [source.stem for source in build.sources([args.lab])] if args.lab else (None,)
    records = grade.grade(args.places, lab, GRADING / "autograded", args.workers, args.db)
    for name in sorted({record["lab"] for record in records if record["lab"]}):
        mine = [record for record in records if record["lab"] == name]
        (GRADING / f"{name}.csv").write_text(report.to_csv(mine), encoding="utf-8")
        (GRADING / f"{name}.html").write_text(report.class_report(mine, name), encoding="utf-8")
        for record in mine:
            page = GRADING / "feedback" / record["student"] / name / f"{name}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(report.feedback(record), encoding="utf-8")
        graded = sum(record["status"] == "graded" for record in mine)
        print(f"{name}: {graded} of {len(mine)} graded; marks in grading/{name}.csv, report in grading/{name}.html")
    for record in records:
        if record["status"] != "graded":
            print(f"{record['student']}, {record['file']}: not graded. {record['reason']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
