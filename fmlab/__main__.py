"""python -m fmlab: is all that the labs need in place? labs FOLDER: get the labs. submission FILE: is it ready?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fmlab.checks import installation


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 1 if something is off."""
    parser = argparse.ArgumentParser(prog="python -m fmlab", description="Test the installation, line by line.")
    parser.set_defaults(command=_self_test)
    commands = parser.add_subparsers(metavar="command")
    command = commands.add_parser("labs", help="copy the labs to a folder; what is there already is kept")
    command.add_argument("folder", nargs="?", type=Path, default=Path("labs"), help="(default: labs)")
    command.set_defaults(command=_labs)
    command = commands.add_parser("submission", help="run a notebook from top to bottom; list what is still open")
    command.add_argument("path", type=Path, metavar="notebook")
    command.set_defaults(command=_submission)
    args = parser.parse_args(argv)
    return args.command(args)


def _self_test(args: argparse.Namespace) -> int:
    off = False
    for finding in installation.findings():
        print(finding, flush=True)
        off |= bool(finding.cure)
    return int(off)


def _labs(args: argparse.Namespace) -> int:
    from fmlab import notebooks

    try:
        for line in notebooks.copy(args.folder):
            print(line)
    except OSError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    print(f"To open them: jupyter lab --notebook-dir={args.folder}")
    return 0


def _submission(args: argparse.Namespace) -> int:
    from fmlab.checks import submission  # loads torch

    try:
        card = submission.examine(submission.find(args.path))
    except submission.NotReady as reason:
        print(f"✗ {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        return 1
    print(card)
    return 0 if card.ready else 1


if __name__ == "__main__":
    sys.exit(main())
