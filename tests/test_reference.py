"""An answer that only calls the library's own function for the exercise earns nothing; any other use of it is free."""

import functools
import importlib
import inspect
import re
import types

import pytest
import torch

from course import build
from course.judge import judge
from course.sandbox import Sandbox
from fmlab import metrics, samplers, simulators
from fmlab.checks import lab1, reference
from fmlab.checks.compare import CheckFailed
from fmlab.processes import ODE
from tests import library_answers, submissions
from tests.labs import SOURCES, modules, verdict
from tests.walls import needs_walls

LABS = [path.stem for path in SOURCES]
EXERCISES = {name: lab.split("_")[0] for lab in LABS for name in submissions.points(lab)}
REFERENCES = {
    exercise: getattr(importlib.import_module(f"fmlab.checks.{lab}"), exercise).exercise.reference
    for exercise, lab in EXERCISES.items()
}
NAMES = sorted({name for names in REFERENCES.values() for name in names})
ANSWERED = [exercise for exercise, names in REFERENCES.items() if names]

# The library's function does a little else than the exercise asks for, or draws numbers that the exercise is given.
NOT_AS_ASKED = {
    "marginal_vector_field", "sde_extension_drift", "conditional_flow_matching_loss", "marginal_flow_matching_loss",
    "train_step", "log_likelihood", "denoising_score_matching_loss", "sample_diffusion", "reverse_sde_drift",
    "probability_flow_field", "elbo_terms", "loss_over_log_snr", "ddim_step", "ddpm_step", "schedule_from_sde",
    "drop_labels",
}  # fmt: skip


def owner(name: str):
    """The module or class that has the function of this name."""
    module, *classes, _ = name.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(f"fmlab.{module}"))


def test_every_exercise_that_the_library_answers_names_its_functions():
    assert set(ANSWERED) == {name for name in EXERCISES if hasattr(library_answers, name)}


@pytest.mark.parametrize("exercise", ANSWERED)
def test_the_librarys_answer_is_rejected_for_that_reason_and_would_be_right(exercise, monkeypatch):
    lab, answer = EXERCISES[exercise], getattr(library_answers, exercise)
    for disguised in (answer, functools.partial(answer), lambda *args: answer(*args)):
        words = verdict(lab, exercise, disguised)
        called = re.match(rf"✗ {exercise}: it calls fmlab\.(\S+), which is what this exercise asks you to write", words)
        assert called and called[1] in REFERENCES[exercise], words
    monkeypatch.setattr(getattr(modules(lab)[0], exercise).exercise, "reference", ())
    assert bool(verdict(lab, exercise, answer)) == (exercise in NOT_AS_ASKED)


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

    def nested(x, y):
        with pytest.raises(CheckFailed, match=r"it calls fmlab\.metrics\.strong_error"):
            lab1.strong_error(metrics.strong_error)
        return (x - y).abs().mean()

    lab1.strong_error(nested)
    assert metrics.strong_error.__code__ is code


def test_another_use_of_the_library_is_free():
    """A predictor by the library's Euler in Heun's method; the library's simulator, which makes the step itself."""

    def heun_step(u, x, t, h):
        return (simulators.Euler().step(u, x, t, h) + x + h * u(simulators.Euler().step(u, x, t, h), t + h)) / 2

    lab1.heun_step(heun_step)
    assert verdict("lab1", "heun_step", heun_step) == ""


def test_one_may_try_the_library_and_then_write_it():
    def strong_error(x, y):
        try:
            return metrics.strong_error(x, y)
        except Exception:
            return (x - y).abs().mean()

    assert verdict("lab1", "strong_error", strong_error) == ""


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
    verdicts = judged(sandbox, lab, submissions.with_answers(lab, answers))
    rejected = verdicts.pop("heun_step")
    assert rejected.by == "reference" and "which is what this exercise asks you to write" in rejected.words
    assert {verdict.by for verdict in verdicts.values()} == {""}


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_no_answer_of_the_library_passes_in_the_sandbox(sandbox, lab):
    asked = [name for name in submissions.points(lab) if name in ANSWERED]
    if not asked:
        pytest.skip("the library has none of its exercises")
    answers = {name: f"{inspect.getsource(library_answers)}\n\n{name} = {name}" for name in asked}
    verdicts = judged(sandbox, lab, submissions.with_answers(lab, answers))
    assert {name: verdicts[name].by for name in asked} == dict.fromkeys(asked, "reference")


@needs_walls
@pytest.mark.grading
@pytest.mark.slow
def test_a_new_process_withholds_as_the_one_before_it_did(sandbox):
    """One call ends the process; in the next, the library's function is out of reach still."""
    answer = (
        "import os\ncalls = []\n"
        "def heun_step(u, x, t, h):\n"
        "    try: return simulators.Heun().step(u, x, t, h)\n"
        "    except Exception: os._exit(0)"
    )
    verdicts = judged(sandbox, "lab1_simulation", submissions.with_answers("lab1_simulation", {"heun_step": answer}))
    assert verdicts["heun_step"].by == "process"
