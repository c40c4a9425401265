"""A verdict: what a check found, as a card in a notebook and as text elsewhere."""

from __future__ import annotations

import html
import sys
from dataclasses import asdict, dataclass
from typing import Any

GREEN, RED = "#009E73", "#D55E00"
MIME = "application/vnd.fmlab.verdict+json"  # its fields, for those who read a notebook that was run


@dataclass(frozen=True)
class Verdict:
    """What became of an answer.

    reason: why it is not right; of a right one, what it now does. mistake: which known one it looks like, "" if none.
    expected, found, where: the numbers that differ most, and their place. note: a word beside the verdict.
    reread, link: what to read again, and the place in the notebook that it leads to. hint: the call that gives one.
    solved: whether there is an answer at all.
    """

    exercise: str
    passed: bool
    reason: str
    mistake: str = ""
    expected: str = ""
    found: str = ""
    where: str = ""
    note: str = ""
    reread: str = ""
    link: str = ""
    hint: str = ""
    solved: bool = True

    @property
    def head(self) -> str:
        """The verdict in one line."""
        return f"{'✓' if self.passed else '✗'} {self.exercise}: {self.short}"

    @property
    def short(self) -> str:
        """The first line of the reason, and the mistake."""
        return self.reason.partition("\n")[0] + (f"; it looks as if {self.mistake}" if self.mistake else "")

    def _rest(self) -> list[str]:
        """The other lines of the reason, if there are any: where it was raised, and what it was called with."""
        return [line.strip() for line in self.reason.splitlines()[1:]]

    def _numbers(self) -> str:
        """The two numbers, one below the other."""
        return f"expected {self.expected}\nfound    {self.found}   {self.where}".rstrip() if self.expected else ""

    def __str__(self) -> str:
        lines = [self.head, *self._rest(), *self._numbers().splitlines(), *self.note.splitlines()]
        more = [f"Reread: {self.reread}." if self.reread else "", f"A hint: {self.hint}" if self.hint else ""]
        lines += [" ".join(filter(None, more))] if not self.passed else []
        return "\n  ".join(filter(None, lines))

    __repr__ = __str__

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._html(), MIME: asdict(self)}

    def _html(self) -> str:
        escape = html.escape
        parts = [f"<b>{'✓' if self.passed else '✗'} {escape(self.exercise)}</b>: {escape(self.short)}"]
        parts += [f"<div>{escape(line)}</div>" for line in self._rest()]
        if self.expected:
            parts.append(f'<pre style="margin: 0.3em 0">{escape(self._numbers())}</pre>')
        if self.note:
            parts.append(f"<div>{escape(self.note)}</div>")
        if not self.passed:
            reread = f'<a href="#{escape(self.link)}">{escape(self.reread)}</a>' if self.link else escape(self.reread)
            more = [f"Reread: {reread}." if self.reread else ""]
            more += [f"A hint: <code>{escape(self.hint)}</code>" if self.hint else ""]
            parts.append(f"<div>{' '.join(filter(None, more))}</div>")
        return card("".join(parts), GREEN if self.passed else RED, "status" if self.passed else "alert")


def card(content: str, color: str, role: str = "status") -> str:
    """HTML on a card with a coloured edge, announced by screen readers."""
    style = f"border-left: 4px solid {color}; padding: 0.2em 0.8em; white-space: pre-line"
    return f'<div role="{role}" style="{style}">{content}</div>'


class CheckFailed(AssertionError):
    """A check that did not pass. A notebook shows the card of its verdict, and one line below it, but no traceback."""

    def __init__(self, verdict: Verdict):
        super().__init__(str(verdict))
        self.verdict = verdict

    def _render_traceback_(self):
        return [f"\x1b[1m{self.verdict.head}\x1b[0m"]


def in_notebook() -> bool:
    return "ipykernel.zmqshell" in sys.modules


def show(something) -> None:
    """Display an object in a notebook, print it elsewhere."""
    if in_notebook():
        from IPython.display import display

        display(something)
    else:
        print(something)
