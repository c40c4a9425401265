"""An exercise as one object: what is asked, what is right, and which mistakes are known.

    @lab.exercise(reread=("eq-field", "notes, eq. 20"), passed="the velocity of a sample", hints=(…),
                  visible=[(Cosine(), 0.4, (2, 3)), …], library=…, withhold=(…), terms=…, mistakes={…})
    def conditional_vector_field(schedule, t, shape):
        …
        return Case("the field", args=(x, z, t, schedule), expected=α̇ z + β̇ ε)

The function makes a `Case` of inputs: what an answer is given, and what should come back. A judge asks the answer. The
inputs that students see stand on the card, the others in the course's hidden files; all else is the same for both.

A mistake is an answer, too: it is handed the case's `terms` and returns what someone with that misconception returns.
Where an answer is wrong, each mistake is put to the same judge; the one that shows the same is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from fmlab.checks import carried, judges, memory
from fmlab.checks.calls import Guarded, Unsolved, default_dtype
from fmlab.checks.compare import (
    TOLERANCE,
    Difference,
    Look,
    Stop,
    Wrong,
    close,
    difference,
    relation,
    says_something,
)
from fmlab.checks.reference import ANSWER, OnCard, answering, withheld, words
from fmlab.checks.verdict import CheckFailed, Verdict, in_notebook, show

NEW = "not checked yet"  # the state of an exercise that nobody has asked about
SEED = 602_214_076  # of random numbers in a check: none that an answer sets


class Case(SimpleNamespace):
    """One question to an answer. what: the thing that should come back, "the field for images". args: what the answer
    is given. expected: what is right. Whatever else a judge needs is kept by name: weights=…, calls=…, model=…."""

    def __init__(self, what: str, args: tuple, expected: Any = None, **more):
        super().__init__(what=what, args=tuple(args), expected=expected, **more)


class Trace(NamedTuple):
    """What a judge saw of an answer in one case, look by look, and why it went no further, if it did not."""

    looks: list[Look]
    end: Wrong | None


class Place(NamedTuple):
    """Where an answer is first wrong: the number of the case and of the look."""

    case: int
    look: int


class Exercise:
    """An exercise of a lab; called with an answer, it is the check.

    make(*inputs) → Case. name: that of the function. reread: (anchor, words), a place in the notebook and how it is
    called. passed: what a right answer does, in a few words. visible: the inputs that students see, each a tuple of
    arguments for `make`. hints: up to three, each more of a help than the one before. judge: how the answer is asked.
    library: the library's answer, which figures use until there is another. withhold: the library's functions that are
    the answer, "simulators.Euler.step"; an answer that calls one is rejected. terms(*args): what mistakes are handed,
    by default the arguments themselves. mistakes: words → function of the terms. tolerance: of all comparisons.
    random: whether the answer is to draw random numbers; others must leave them alone.
    siblings: name → exercise, those of the same lab.
    """

    def __init__(
        self,
        make: Callable[..., Case],
        lab: str,
        *,
        reread: tuple[str, str],
        passed: str,
        visible: Sequence[tuple],
        library: Callable,
        hints: tuple[str, ...] = (),
        judge: Callable = judges.value,
        withhold: tuple[str, ...] = (),
        terms: Callable | None = None,
        mistakes: Mapping[str, Callable] | None = None,
        tolerance: float = TOLERANCE,
        random: bool = False,
        siblings: Mapping[str, Exercise] | None = None,
    ):
        self.lab, self.name, self.siblings = lab, make.__name__, {} if siblings is None else siblings
        self.reread, self.passed, self.visible, self.hints = reread, passed, visible, hints
        self.judge, self.withhold, self.tolerance = judge, withhold, tolerance
        self.make, self.terms = OnCard(make, repr(self)), terms and OnCard(terms, repr(self))
        self.library = OnCard(library, repr(self), ANSWER)
        self.mistakes = {said: OnCard(mistake, repr(self)) for said, mistake in (mistakes or {}).items()}
        self.random = random
        self._shown: dict[tuple[str, int], tuple[Sequence[tuple], list[Trace]]] = {}
        self.state, self.answer, self.hints_given = NEW, None, 0

    def __repr__(self) -> str:
        return f"{self.lab}.{self.name}"

    def __call__(self, answer) -> None:
        """Check an answer: show the verdict, and raise CheckFailed if it is not right."""
        self.state, self.answer = "not right yet", None
        verdict = self.examine(answer)
        if verdict.passed:
            self.state, self.answer = "passed", answer
        elif not verdict.solved:
            self.state = "not solved yet"
        memory.note_check(self.lab, self.name, verdict.passed)
        if verdict.passed or in_notebook():
            show(verdict)
        if not verdict.passed:
            raise CheckFailed(verdict)

    def examine(
        self,
        answer,
        inputs: Sequence[tuple] | None = None,
        *,
        seed: int = 0,
        withhold: bool = True,
        name: bool = True,
    ) -> Verdict:
        """The verdict on an answer for these inputs, by default the visible ones. Raises nothing, shows nothing.

        seed: of the random numbers. withhold: whether the library's own functions are; then an answer that builds on
        others of its lab, which have not passed, is right if it is with the library's in their place. name: whether to
        look for the mistake that was made, which takes all cases.
        """
        inputs = self.visible if inputs is None else inputs
        verdict = self._examined(answer, inputs, seed, withhold, name)
        if verdict.passed or not withhold:
            return verdict
        others = {other: e.library.lent for other, e in self.siblings.items() if e is not self and e.answer is None}
        with carried.replaced(answer, others) as names:
            again = self._examined(answer, inputs, seed, withhold, name=False) if names else verdict
        if not again.passed:
            return verdict
        return replace(again, note="\n".join(filter(None, [_BUILT_ON.format(" and ".join(names)), again.note])))

    def _examined(self, answer, inputs: Sequence[tuple], seed: int, withhold: bool, name: bool) -> Verdict:
        dtype = torch.get_default_dtype()
        guarded = None
        functions, card = (self.withhold, repr(self)) if withhold else ((), "")
        with _own_world(seed), withheld(functions, card, running=False) as called:
            try:
                guarded = Guarded(answer, dtype=dtype, random=self.random)
                traces = self._until_wrong(guarded, inputs, on=name)
            except Wrong as wrong:  # it is no function
                return self._verdict(Difference(str(wrong)))
            place = self._first_wrong(traces)
            if place is None:
                return Verdict(self.name, True, self.passed, note=guarded.note())
            if called:
                return self._verdict(Difference(words(called[0])))
            found, solved = self._difference(traces, place), not isinstance(traces[place.case].end, Unsolved)
            mistake = self._named(traces, place, inputs) if name and self._may_be_named(traces, place) else ""
        if not mistake:
            found = found._replace(reason=found.reason + self._unnamed(traces, place))
        return replace(self._verdict(found, mistake, guarded.note()), solved=solved)

    def traces(self, answer, inputs: Iterable[tuple]) -> Iterator[Trace]:
        """What the judge sees of an answer, case by case, until there is no use in going on."""
        for given in inputs:
            # clones, since an answer may write on what it is given
            own = [value.clone() if isinstance(value, torch.Tensor) else value for value in given]
            trace = self._trace(answer, self.make(*own))
            yield trace
            if isinstance(trace.end, Stop):
                return

    def _until_wrong(self, answer, inputs: Iterable[tuple], on: bool) -> list[Trace]:
        """The traces up to the first that is wrong; of all cases, if it goes on."""
        seen: list[Trace] = []
        for trace in self.traces(answer, inputs):
            seen.append(trace)
            if not on and self._first_wrong([trace]):
                break
        return seen

    def _trace(self, answer, case: Case) -> Trace:
        looks: list[Look] = []
        try:
            for look in self.judge(answer, case):
                looks.append(look)
        except Wrong as wrong:
            return Trace(looks, wrong)
        except Exception as error:
            return Trace(looks, Wrong(f"what came back could not be compared ({type(error).__name__}: {error})"))
        return Trace(looks, None)

    def mistaken(self, mistake: Callable) -> Guarded:
        """A mistake of this card as an answer: it takes what an answer takes."""

        def answer(*args):
            with answering(not (isinstance(mistake, OnCard) and mistake.of_the_judged())):
                return mistake(*(self.terms(*args) if self.terms else args))

        return Guarded(answer)

    # --- where it is wrong, and why -----------------------------------------------------------------------------------

    def _first_wrong(self, traces: Sequence[Trace]) -> Place | None:
        for number, trace in enumerate(traces):
            for k, look in enumerate(trace.looks):
                if difference(look, self.tolerance):
                    return Place(number, k)
            if trace.end:
                return Place(number, len(trace.looks))
        return None

    def _difference(self, traces: Sequence[Trace], place: Place) -> Difference:
        trace = traces[place.case]
        if place.look == len(trace.looks):
            return Difference(str(trace.end))
        return difference(trace.looks[place.look], self.tolerance)  # type: ignore[return-value]  # here they differ

    def _may_be_named(self, traces: Sequence[Trace], place: Place) -> bool:
        """Whether there is something to compare mistakes with: a value, or an error that they may make too."""
        trace = traces[place.case]
        return place.look < len(trace.looks) or not isinstance(trace.end.key, str)  # type: ignore[union-attr]

    def _named(self, traces: Sequence[Trace], place: Place, inputs: Sequence[tuple]) -> str:
        """The known mistake that shows what the answer shows: in all cases, or else in the one that is wrong."""
        here = ""
        for mistake in self.mistakes:
            theirs = self.shown_by(mistake, inputs)
            if self.agree(traces, theirs):
                return mistake
            if here or len(theirs) <= place.case or not self._agree_up_to(traces, theirs, place):
                continue
            wrong = self._first_wrong([theirs[place.case]])  # it may be right here, and the answer's dtype alone is not
            here = mistake if wrong and wrong.look <= place.look else ""
        return here

    def shown_by(self, mistake: str, inputs: Sequence[tuple]) -> list[Trace]:
        """The traces of a known mistake; made once for the same list of inputs, however many answers are compared."""
        key = mistake, id(inputs)  # of a list that is kept beside the traces, so that no other gets its id
        if key not in self._shown:
            self._shown[key] = inputs, list(self.traces(self.mistaken(self.mistakes[mistake]), inputs))
        return self._shown[key][1]

    def agree(self, some: Sequence[Trace], others: Sequence[Trace]) -> bool:
        """Whether two answers show the same in all cases."""
        return len(some) == len(others) and all(map(self._same, some, others))

    def _same(self, one: Trace, other: Trace) -> bool:
        ends = (one.end is None and other.end is None) or (one.end and other.end and one.end.key == other.end.key)
        return bool(ends) and len(one.looks) == len(other.looks) and all(map(self._alike, one.looks, other.looks))

    def _agree_up_to(self, some: Sequence[Trace], others: Sequence[Trace], place: Place) -> bool:
        """Whether two answers show the same in the case that is wrong, up to the look that is."""
        one, other = some[place.case], others[place.case]
        if place.look == len(one.looks):
            return self._same(one, other)
        pairs = list(zip(one.looks, other.looks))[: place.look + 1]
        same = len(pairs) == place.look + 1 and all(self._alike(*pair) for pair in pairs)
        return same and says_something(one.looks[place.look].found)

    def _alike(self, one: Look, other: Look) -> bool:
        """Whether two answers show the same in one look; numbers that are random, within twice their error."""
        tolerance = one.tolerance or self.tolerance
        return close(one.found, other.found, tolerance, None if one.error is None else 2 * torch.as_tensor(one.error))

    def _unnamed(self, traces: Sequence[Trace], place: Place) -> str:
        """What can be said of an answer that looks like no known mistake."""
        trace = traces[place.case]
        if place.look == len(trace.looks):
            return _SHAPES if "must match the size of tensor" in str(trace.end) else ""
        look = trace.looks[place.look]
        if not self._difference(traces, place).expected:  # its kind, shape or dtype is not right, and that is said
            return ""
        if seen := relation(look.found, look.expected) if look.error is None else "":
            return f"; {seen}"
        return "; none of the slips I know gives these numbers" if self.mistakes else ""

    def _verdict(self, found: Difference, mistake: str = "", note: str = "") -> Verdict:
        link, reread = self.reread
        hint = f'{self.lab}.hint("{self.name}")' if self.hints else ""
        return Verdict(
            self.name, False, found.reason, mistake, found.expected, found.found, found.where, note, reread, link, hint
        )


_BUILT_ON = "Judged with fmlab's own {} in place of yours, which has not passed."
_SHAPES = (
    "\n  Two tensors do not fit together. Is there a value of shape (n,), one for each time, that multiplies states of "
    "shape (n, …)? coefficient(value, x) gives it the shape that does"
)


@contextmanager
def _own_world(seed: int) -> Iterator[None]:
    """Whatever the notebook has set: random numbers of its own, single precision, gradients, and no warnings, which
    on stderr would pass for a failure."""
    with (
        torch.random.fork_rng(devices=[]),
        default_dtype(torch.float32),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED + seed)
        yield
