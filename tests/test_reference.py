"""An answer that only calls the library's own function for the exercise earns nothing, nor does one that asks the
exercise's own check; any other use of them is free."""

import functools
import importlib
import inspect
import re
import types

import pytest
import torch

from course import build, hidden
from course.judge import judge
from course.sandbox import Sandbox
from fmlab import metrics, samplers, simulators
from fmlab.checks import lab as labs
from fmlab.checks import lab1, lab2, lab4, lab5, reference
from fmlab.processes import ODE
from fmlab.schedules import CondOT
from tests import submissions
from tests.labs import LABS, SOURCES, verdict
from tests.walls import needs_walls

EXERCISES = [exercise for lab in LABS for exercise in labs.load(lab)]
NAMES = sorted({name for exercise in EXERCISES for name in exercise.withhold})


def owner(name: str):
    """The module or class that has the function of this name."""
    module, *classes, _ = name.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(f"fmlab.{module}"))


def without_the_card(exercise):
    """The library's answer as a student may have written it: not a word of the card."""
    return exercise.library._function


def test_what_the_librarys_answers_call_is_withheld():
    """Written in a notebook, such an answer is rejected for that, visibly and hidden; some have no function to call."""
    rejected = 0
    for exercise in EXERCISES:
        for inputs in exercise.visible, hidden.inputs(exercise):
            found = exercise.examine(without_the_card(exercise), inputs)
            called = re.fullmatch(r"it calls fmlab\.(\S+), which is what this exercise asks you to write", found.reason)
            assert found.passed or called[1] in exercise.withhold, (exercise, found)
        rejected += not found.passed
    assert rejected > 40


# --- functions of the library -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_no_alias_reaches_a_withheld_function_and_all_do_before_and_after(name):
    """An alias, a bound method, an instance of a subclass, a partial, getattr: whatever the arguments are."""
    place, attribute = owner(name), name.split(".")[-1]
    alias, code = getattr(place, attribute), reference.find(name).__code__
    aliases = [alias, functools.partial(alias), lambda: alias(), lambda: getattr(place, attribute)()]
    aliases += [inspect.unwrap(alias), lambda: [*map(alias, [1])]]
    if inspect.isclass(place):
        mine = object.__new__(type("Mine", (place,), {}))
        aliases += [
            types.MethodType(alias, mine),
            getattr(mine, attribute),
            lambda: getattr(super(type(mine), mine), attribute)(),
        ]
    with reference.withheld([name]) as called:
        for count, function in enumerate(aliases, start=1):
            with pytest.raises(reference.Withheld, match=re.escape(f"fmlab.{name}")):
                function()
            assert called == [name] * count
    assert reference.find(name).__code__ is code
    with pytest.raises(Exception) as failure:
        alias(*[None] * 20)  # too many, for any of them
    assert failure.type is not reference.Withheld


def test_functions_keep_their_defaults_closures_and_decorators_when_the_library_calls_them():
    x0, ts = torch.ones(3, 2), torch.linspace(0, 1, 5)
    field = ODE(lambda x, t: -x)
    before = simulators.simulate(field, x0, ts), samplers.sample_flow(lambda x, t: -x, x0, 4)
    names = ["simulators.simulate", "simulators.Euler.step", "simulators.Midpoint.step", "metrics.energy_distance"]
    with reference.withheld([name for name in names if name != "simulators.simulate"]) as called:
        assert torch.equal(simulators.simulate(field, x0, ts), before[0])
    with reference.withheld(names) as called:
        assert torch.equal(samplers.sample_flow(lambda x, t: -x, x0, 4), before[1])
        assert 0 <= metrics.energy_test(x0, x0 + 1, permutations=9) <= 1
    assert not called


def test_functions_are_given_back_whatever_happens_and_may_be_withheld_twice():
    code = metrics.strong_error.__code__
    with pytest.raises(KeyboardInterrupt), reference.withheld(["metrics.strong_error"]):
        raise KeyboardInterrupt
    assert metrics.strong_error.__code__ is code

    with reference.withheld(["metrics.strong_error"]):
        with reference.withheld(["metrics.strong_error"]):
            assert metrics.strong_error.__code__ is not code
        with pytest.raises(reference.Withheld):
            metrics.strong_error(torch.ones(2), torch.zeros(2))
    assert metrics.strong_error.__code__ is code


def test_another_use_of_the_library_is_free():
    """A predictor by the library's Euler in Heun's method; the library's simulator, which makes the step itself."""

    def heun_step(u, x, t, h):
        return (simulators.Euler().step(u, x, t, t + h) + x + h * u(simulators.Euler().step(u, x, t, t + h), t + h)) / 2

    lab1.heun_step(heun_step)
    assert verdict("lab1", "heun_step", heun_step) == ""


def test_one_may_try_the_library_and_then_write_it():
    def strong_and_weak_error(x, y):
        try:
            return metrics.strong_error(x, y), metrics.weak_error(x, y)
        except Exception:
            return (x - y).abs().mean(), (x - y).mean().abs()

    assert verdict("lab1", "strong_and_weak_error", strong_and_weak_error) == ""


# --- cards ------------------------------------------------------------------------------------------------------------


def wrapped(function):
    @functools.wraps(function)
    def run(*args):
        return function(*args)

    return run


WAYS = {
    "an alias": lambda exercise: exercise.library,
    "a partial": lambda exercise: functools.partial(exercise.library),
    "a function": lambda exercise: lambda *args: exercise.library(*args),
    "a decorated function": lambda exercise: torch.no_grad()(wrapped(exercise.library)),
    "an object": lambda exercise: type("Mine", (), {"__call__": lambda self, *args: exercise.library(*args)})(),
    "answer_or": lambda exercise: lambda *args: labs.load(exercise.lab).answer_or(exercise.name)(*args),
    "answer_or, before": lambda exercise: labs.load(exercise.lab).answer_or(exercise.name),
    "by name": lambda exercise: lambda *args: labs.load(exercise.lab).exercises[exercise.name].library(*args),
    "map": lambda exercise: lambda *args: next(map(exercise.library, *([arg] for arg in args))),
    "a student's error": lambda exercise: lambda *args: bare(exercise.library, *args),
}


def bare(function, *args):
    """What a function returns, or what is left of its error."""
    try:
        return function(*args)
    except Exception as error:
        return error.args


@pytest.mark.parametrize("way", WAYS)
def test_the_librarys_answer_on_the_card_is_withheld(way):
    """By whatever name an answer reaches it. Elsewhere, in figures, it does what it should."""
    for exercise in EXERCISES:
        exercise.answer = None  # else it is that which `answer_or` gives
        found = exercise.examine(WAYS[way](exercise))
        assert found.reason == "it calls the library's answer, which is what this exercise asks you to write", exercise
    lab1.ou_drift(lambda x, t, theta: -theta * x)  # which leaves nothing behind
    assert float(lab1.ou_drift.library(torch.ones(1), 0.0, 1.0)) == -1


def case_like(x, z, t, schedule):
    return lab2.conditional_vector_field.make(schedule, t, tuple(x.shape), x.dtype)


def nested_examination(x, z, t, schedule):
    def spy(*args):
        return z

    looks = next(lab2.conditional_vector_field.traces(spy, [(schedule, t, tuple(x.shape), x.dtype)])).looks
    return looks[0].expected


def own_terms(*args):
    """The terms, by a function that is no mistake of the card's."""
    return lab2.conditional_vector_field.mistaken(lambda x, z, a, b, da, db: da * z + db * (x - a * z) / b)(*args)


ASKING = {
    "a case": lambda *args: case_like(*args).expected,
    "what a judge sees": nested_examination,
    "its terms": lambda *args: lab2.conditional_vector_field.terms(*args)[1],
    "its terms, by a mistake of its own": own_terms,
    "a mistake": lambda x, z, t, s: next(iter(lab2.conditional_vector_field.mistakes.values()))(x, z, *s.weights(t, x)),
    "the whole check": lambda *args: lab2.conditional_vector_field.examine(lambda *args: args[1]).expected,
    "another card's mistake": lambda *args: lab2.conditional_score.mistaken(
        next(iter(lab2.conditional_score.mistakes.values()))
    )(*args),
}


@pytest.mark.parametrize("asking", ASKING)
def test_an_answer_may_not_ask_the_check_for_the_result(asking):
    found = lab2.conditional_vector_field.examine(ASKING[asking])
    assert found.reason == "it asks the check for the result, which is what this exercise asks you to write"


def test_a_mistake_of_the_card_is_a_wrong_answer_like_any_other():
    exercise = lab2.conditional_vector_field
    for said, mistake in exercise.mistakes.items():
        assert exercise.examine(exercise.mistaken(mistake)).mistake == said


def test_labs_build_on_one_another():
    """The library's answer to another exercise is free, but not as a way to what is withheld."""

    def heun_step(u, x, t, h):
        step = lab1.answer_or("euler_step")
        return (step(u, x, t, h) + x + h * u(step(u, x, t, h), t + h)) / 2

    assert verdict("lab1", "heun_step", heun_step) == ""

    def score_from_vector_field(u, x, t, schedule):
        return lab5.answer_or("convert_output")(u, x, t, schedule, "vector_field", "score")

    found = lab4.score_from_vector_field.examine(score_from_vector_field)
    assert found.reason == "it calls fmlab.conversions.convert, which is what this exercise asks you to write"
    given = torch.randn(3, 2), torch.randn(3, 2), torch.full((3,), 0.4), CondOT()
    assert torch.allclose(score_from_vector_field(*given), lab4.score_from_vector_field.library(*given), atol=1e-5)


# --- behind the walls -------------------------------------------------------------------------------------------------

# What a notebook may do to reach the library's function for Heun's step; in a cell before the answer, and the answer.
DISGUISES = {
    "an alias": ("keep = simulators.Heun().step", "heun_step = keep"),
    "a partial": ("from functools import partial\nkeep = partial(simulators.Heun.step, None)", "heun_step = keep"),
    "getattr": ("", "heun_step = lambda *args: getattr(simulators, 'He' + 'un')().step(*args)"),
    "a subclass": (
        "class Mine(simulators.Heun):\n    def step(self, u, x, t, h):\n        return super().step(u, x, t, h)",
        "def heun_step(u, x, t, h):\n    return Mine().step(u, x, t, h)",
    ),
    "the simulator": (
        "",
        "def heun_step(u, x, t, h):\n    ts = torch.tensor([0.0, h]) + t\n"
        "    return simulators.simulate(processes.ODE(u), x, ts, simulators.Heun())",
    ),
    "the card": ("keep = lab1.heun_step.library", "heun_step = keep"),
    "answer_or": ("", "heun_step = lambda *args: lab1.answer_or('heun_step')(*args)"),
    "the card's function": ("", "heun_step = lab1.exercises['heun_step'].library._function"),
    "its cases": ("", "heun_step = lambda u, x, t, h: lab1.heun_step.make(tuple(x.shape), t, h, x.dtype).expected"),
    "a check of one's own": (
        "def trial(u, x, t, h):\n    return x",
        "def heun_step(u, x, t, h):\n    given = tuple(x.shape), t, h, x.dtype\n"
        "    return next(lab1.heun_step.traces(trial, [given])).looks[0].expected",
    ),
}


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


def judged(sandbox, lab: str, nb):
    (source,) = build.sources([lab])
    return judge(sandbox, build.read(source), lab.split("_")[0], nb)[1]


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_sandbox_withholds_too(sandbox, disguise):
    lab, (before, answer) = "lab1_simulation", DISGUISES[disguise]
    answers = {"euler_step": f"{before}\ndef euler_step(u, x, t, h):\n    return x + h * u(x, t)", "heun_step": answer}
    marks = judged(sandbox, lab, submissions.with_answers(lab, answers))
    rejected = marks.pop("heun_step")
    assert rejected.by == "reference" and "which is what this exercise asks you to write" in rejected.verdict.reason
    assert {mark.by for mark in marks.values()} == {""}


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.parametrize("lab", [path.stem for path in SOURCES])
@pytest.mark.parametrize("form", ["{lab}.{name}.library", "lambda *args: {lab}.answer_or('{name}')(*args)"])
def test_no_answer_of_the_library_passes_in_the_sandbox(sandbox, lab, form):
    short = lab.split("_")[0]
    answers = {name: f"{name} = {form.format(lab=short, name=name)}" for name in submissions.points(lab)}
    marks = judged(sandbox, lab, submissions.with_answers(lab, answers))
    assert {name: mark.by for name, mark in marks.items()} == dict.fromkeys(answers, "reference")


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.parametrize("lab", [path.stem for path in SOURCES])
def test_what_the_librarys_answers_call_is_withheld_in_the_sandbox(sandbox, lab):
    """The same answers as in the notebook, and no others, are rejected."""
    short = lab.split("_")[0]
    answers = {name: f"{name} = {short}.{name}.library._function" for name in submissions.points(lab)}
    marks = judged(sandbox, lab, submissions.with_answers(lab, answers))
    free = [e.name for e in labs.load(short) if e.examine(without_the_card(e)).passed]
    assert {name: mark.by for name, mark in marks.items()} == {
        name: "" if name in free else "reference" for name in answers
    }


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
def test_a_mistake_of_the_card_is_named_in_the_sandbox(sandbox):
    said = next(iter(lab1.ou_drift.mistakes))
    marks = judged(
        sandbox,
        "lab1_simulation",
        submissions.with_answers("lab1_simulation", {"ou_drift": submissions.mistaken(lab1.ou_drift, said)}),
    )
    assert marks["ou_drift"].by == "visible" and marks["ou_drift"].verdict.mistake == said


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
def test_a_new_process_withholds_as_the_one_before_it_did(sandbox):
    """One call ends the process; in the next, the library's function is out of reach still."""
    answer = (
        "import os\ncalls = []\n"
        "def heun_step(u, x, t, h):\n"
        "    try: return simulators.Heun().step(u, x, t, t + h)\n"
        "    except Exception: os._exit(0)"
    )
    marks = judged(sandbox, "lab1_simulation", submissions.with_answers("lab1_simulation", {"heun_step": answer}))
    assert marks["heun_step"].by == "process"
