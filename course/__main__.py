"""python -m course build | verify: the instructor's commands. `python -m course build --help` says more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from course import build


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


if __name__ == "__main__":
    sys.exit(main())
