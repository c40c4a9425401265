"""`train` against PyTorch's own schedule, interrupted runs against whole ones, quality against fresh data."""

import copy
import math
import os
import re
import signal
import statistics
import sys
from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from tqdm import tqdm

from fmlab.datasets import Checkerboard, Circles, Moons
from fmlab.losses import flow_matching_loss
from fmlab.models import MLP
from fmlab.paths import GaussianPath
from fmlab.processes import ODE
from fmlab.simulators import Midpoint, simulate
from fmlab.training import AVERAGE, interrupts_held, train
from tests.cases import rng

ROOT = Path(__file__).resolve().parents[1]


class Line(nn.Module):
    """a x + b."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def values(self):
        return torch.stack([self.a, self.b]).detach()


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C interrupts, whatever ran in this process before: a notebook client leaves the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before or signal.default_int_handler)


def fit(generator=None, interrupt_at=None):
    """The loss of fitting 3x − 2 through noise; the draw whose number is interrupt_at is broken off by Ctrl-C."""
    calls = 0

    def loss(model):
        nonlocal calls
        calls += 1
        x = torch.randn(64, generator=generator)
        if calls == interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return (model.a * x + model.b - (3 * x - 2 + 0.1 * torch.randn(64, generator=generator))).square().mean()

    return loss


def test_training_finds_the_minimum():
    torch.manual_seed(0)
    model = train(Line(), fit(), steps=1000, lr=0.1)
    # The average reaches back over the last steps, about 1/AVERAGE of 1000 batches of 64 points with noise 0.1.
    assert (model.values() - torch.tensor([3.0, -2.0])).abs().max() < 5 * 0.1 / math.sqrt(64 * 1000 / AVERAGE)
    assert len(model.history) == 1000
    assert statistics.mean(model.history[-100:]) == pytest.approx(0.01, rel=0.1)
    assert model.history[0] > 5 and not model.training


def test_it_is_adam_along_a_cosine_with_averaged_weights():
    steps, lr = 50, 0.1
    ours = train(Line(), fit(rng(0)), steps=steps, lr=lr)

    model, loss = Line(), fit(rng(0))
    adam = torch.optim.Adam(model.parameters(), lr)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    passed = []
    for _ in range(steps):
        adam.zero_grad()
        loss(model).backward()
        adam.step()
        cosine.step()
        passed.append(model.values().double())
    # θ̄_K = Σ_k w_k θ_k, where w_k is in proportion to the rising factorial k (k+1) ⋯ (k+c−1): polynomial decay.
    weights = torch.tensor([math.prod(k + i for i in range(AVERAGE)) for k in range(1, steps + 1)], dtype=torch.float64)
    average = (weights / weights.sum()) @ torch.stack(passed)
    torch.testing.assert_close(ours.values().double(), average, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("own_generator", [True, False])
@pytest.mark.parametrize("stops", [[8], [1], [8, 5], [40]])
def test_an_interrupted_run_ends_like_a_whole_one(own_generator, stops, capsys):
    def run(stops):
        torch.manual_seed(3)
        generator, model = rng(3) if own_generator else None, Line()
        for stop in [*stops, None]:
            assert train(model, fit(generator, stop), steps=40, lr=0.1, generator=generator) is model
        return model

    whole, broken = run([]), run(stops)
    assert broken.history == whole.history
    assert (broken.values() == whole.values()).all()
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("\n") == len(stops)
    assert f"interrupted after {stops[0] - 1} of 40 steps" in said.out


def test_an_interrupt_keeps_the_average_so_far():
    model = train(Line(), fit(rng(0), interrupt_at=31), steps=60, lr=0.1)
    assert len(model.history) == 30
    rate = lambda k: 0.05 * (1 + math.cos(math.pi * k / 60))  # noqa: E731
    reference, loss = Line(), fit(rng(0))
    adam, average = torch.optim.Adam(reference.parameters(), 0.1), torch.zeros(2)
    for k in range(30):
        adam.param_groups[0]["lr"] = rate(k)
        adam.zero_grad()
        loss(reference).backward()
        adam.step()
        average += (AVERAGE + 1) / (k + 1 + AVERAGE) * (reference.values() - average)
    torch.testing.assert_close(model.values(), average)
    assert (copy.deepcopy(model).values() == model.values()).all()


@pytest.mark.parametrize("stop", [1, 8, 40])
def test_an_interrupt_between_the_weights_and_their_average_waits_for_the_step_to_end(stop, capsys):
    """A step that has changed the weights is counted, so that it is not taken twice."""

    def run(stop):
        steps, generator, model = 0, rng(3), Line()

        def interrupt(*_):
            nonlocal steps
            steps += 1
            if steps == stop:
                signal.raise_signal(signal.SIGINT)

        hook = register_optimizer_step_post_hook(interrupt)
        try:
            train(model, fit(generator), steps=40, lr=0.1, generator=generator)
            assert len(model.history) == stop or stop is None
            return train(model, fit(generator), steps=40, lr=0.1, generator=generator) if stop else model
        finally:
            hook.remove()

    whole, broken = run(None), run(stop)
    assert broken.history == whole.history and (broken.values() == whole.values()).all()
    assert f"interrupted after {stop} of 40 steps" in capsys.readouterr().out


def test_an_interrupt_is_held_from_the_moment_on_that_it_can_be(monkeypatch):
    """It comes while `signal.signal` still puts the handler in its place."""
    done, put = [], signal.signal

    def interrupted(number, handler):
        before = put(number, handler)
        if handler is not signal.default_int_handler:
            signal.raise_signal(number)
        return before

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        done.append("the block")
    assert done == ["the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_the_stop_button_keeps_the_average_and_the_history_in_a_real_kernel():
    """Interrupted at whatever moment, the model is that of a run which is broken off by its loss at the same step."""
    manager, client = start_new_kernel(extra_arguments=["--log-level=ERROR"])

    def say(code):
        """What the kernel prints for the code; at the word "going" it is interrupted."""
        said = []

        def listen(message):
            said.append(message["content"].get("text", ""))
            if said[-1].startswith("going"):
                manager.interrupt_kernel()

        reply = client.execute_interactive(code, output_hook=listen)
        assert reply["content"]["status"] == "ok", reply
        return "".join(said)

    try:
        say(f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.environ['TQDM_DISABLE'] = '1'")
        say("from tests.test_training import Line, fit, train, rng\nimport torch")
        said = say(
            "calls, batch = 0, fit(rng(0))\n"
            "def loss(model):\n"
            "    global calls\n"
            "    calls += 1\n"
            "    if calls == 100: print('going', flush=True)\n"
            "    return batch(model)\n"
            "model = train(Line(), loss, steps=10**6)"
        )
        done = int(re.search("interrupted after (\\d+) of 1000000 steps", said)[1])
        assert done >= 99 and f"{done} {done}" in say("print(len(model.history), model.interrupted.done)")
        say(f"reference = train(Line(), fit(rng(0), interrupt_at={done + 1}), steps=10**6)")
        assert "True True True" in say(
            "raw = torch.stack(model.interrupted.weights)\n"
            "print(reference.history == model.history, bool((reference.values() == model.values()).all()), "
            "bool((raw != model.values()).all()))"
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_after_a_finished_run_another_one_begins():
    torch.manual_seed(0)
    model = train(Line(), fit(), steps=30, lr=0.1)
    first = model.values()
    train(model, fit(), steps=30, lr=1e-6)  # hardly moves: it starts where the first ended
    assert len(model.history) == 60
    torch.testing.assert_close(model.values(), first, rtol=0, atol=1e-4)


def test_training_is_repeatable():
    values = []
    for _ in range(2):
        torch.manual_seed(0)
        generator = rng(1)
        loss = lambda m: flow_matching_loss(m, GaussianPath(), Moons().sample(50, generator), generator=generator)  # noqa: B023, E731
        model = train(MLP(2, width=8), loss, steps=5, generator=generator)
        values.append(nn.utils.parameters_to_vector(model.parameters()))
    assert (values[0] == values[1]).all()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step():
    calls = []

    def loss(model):
        calls.append(1)
        return model.a * (math.nan if len(calls) == 3 else 1.0)

    model = Line()
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3"):
        train(model, loss, steps=10)
    assert len(model.history) == 2 and torch.isfinite(model.values()).all() and model.a != 0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model: 3.0, "scalar tensor.*got float"),
        (lambda model: None, "got NoneType"),
        (lambda model: torch.stack([model.a, model.b]), r"shape \(2,\)"),
        (lambda model: torch.tensor(1.0), "depends on the model's weights"),
    ],
)
def test_a_loss_of_the_wrong_kind_gets_a_clear_error(loss, message):
    with pytest.raises(ValueError, match=message):
        train(Line(), loss, steps=3)


def test_wrong_settings_get_a_clear_error():
    with pytest.raises(ValueError, match="steps ≥ 1"):
        train(Line(), fit(), steps=0)
    with pytest.raises(ValueError, match="lr > 0"):
        train(Line(), fit(), lr=-1.0)
    with pytest.raises(ValueError, match="no weights"):
        train(nn.ReLU(), fit(), steps=3)


def test_outside_terminals_training_is_silent(capfd):
    train(Line(), fit(), steps=20)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_in_a_terminal_a_bar_shows_and_goes(monkeypatch):
    import fcntl
    import pty
    import select
    import struct
    import sys
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        train(Line(), fit(), steps=20)
        monkeypatch.undo()
        terminal.flush()
        assert select.select([ours], [], [], 10)[0], "nothing was shown"
        shown = ""
        while select.select([ours], [], [], 0.5)[0]:  # it comes in pieces
            shown += os.read(ours, 100_000).decode()
    os.close(ours)
    assert "training:   0%" in shown and "/20" in shown
    assert shown.split("\r")[-1] == "" and shown.split("\r")[-2].strip() == ""  # cleared, the cursor back at its start


def test_a_short_run_shows_no_bar(monkeypatch):
    """A notebook keeps something of each bar, which makes megabytes where steps are taken one by one in a loop."""
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", None)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    bars = []
    monkeypatch.setattr("fmlab.training.tqdm", lambda **options: bars.append(options) or tqdm(disable=True))
    for steps in (1, 19, 20):
        train(Line(), fit(), steps=steps)
    assert [bar["disable"] for bar in bars] == [True, True, False]


@pytest.mark.slow
def test_in_a_notebook_nothing_goes_to_stderr(monkeypatch):
    """Output on stderr in a graded cell costs its points. With TQDM_DISABLE the bar leaves no trace at all."""
    nbformat, nbclient = (
        pytest.importorskip(name, reason=f"no notebooks here: pip install {name}") for name in ("nbformat", "nbclient")
    )
    code = """
import torch
from fmlab.training import train
train(torch.nn.Linear(1, 1), lambda model: model(torch.ones(1, 1)).square().mean(), steps=200);
"""
    for disabled, expected in [("", {"display_data"}), ("1", set())]:
        monkeypatch.setenv("TQDM_DISABLE", disabled)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbclient.NotebookClient(notebook, timeout=300).execute()
        assert {output.output_type for output in notebook.cells[0].outputs} == expected


def plane_energy_distance(x, y, directions=128):
    """Energy distance in the plane as the mean over directions of that on a line, 2 ∫ (F − G)², times π/2.

    A sort for each direction instead of all pairs of points; with 128 directions it agrees to five digits.
    """
    total = 0.0
    for angle in torch.arange(directions) / directions * math.pi:
        v = torch.stack([angle.cos(), angle.sin()])
        values, order = torch.cat([x @ v, y @ v]).sort()
        difference = torch.where(order < len(x), 1 / len(x), -1 / len(y)).double().cumsum(0)[:-1]
        total += float((difference**2 * values.double().diff()).sum())
    return math.pi / directions * total


def quality(p, seed: int, n: int = 20_000) -> float:
    """Energy distance of a trained model's samples to fresh data, over that of two fresh samples.

    The latter has the mean 2 E‖X − X'‖/n; single values scatter by half of it, so four comparisons are averaged.
    """
    torch.manual_seed(seed)
    null = 2 * float(torch.pdist(p.sample(4000)).mean()) / n
    model = train(MLP(2), lambda model: flow_matching_loss(model, GaussianPath(), p.sample(2000)))
    with torch.no_grad():
        samples = [simulate(ODE(model), torch.randn(n, 2), torch.linspace(0, 1, 17), Midpoint()) for _ in range(4)]
    return statistics.mean(plane_energy_distance(x, p.sample(n)) for x in samples) / null


def test_two_fresh_samples_are_as_far_apart_as_said():
    p, n = Moons(), 1000
    distances = torch.tensor(
        [plane_energy_distance(p.sample(n, rng(k)), p.sample(n, rng(-1 - k)), 16) for k in range(200)]
    )
    null = 2 * float(torch.pdist(p.sample(4000, rng(0))).mean()) / n
    assert abs(float(distances.mean()) - null) < 5 * float(distances.std()) / math.sqrt(200) + 0.02 * null


@pytest.mark.slow
@pytest.mark.parametrize("p", [Checkerboard(), Moons(), Circles()], ids=lambda p: type(p).__name__)
def test_flow_matching_at_the_default_settings_draws_the_data(p):
    """The median of three seeds; the third is trained only where the first two disagree."""
    qualities = [quality(p, seed=0), quality(p, seed=1)]
    if max(qualities) >= 2.5 > min(qualities):
        qualities.append(quality(p, seed=2))
    assert statistics.median(qualities) < 2.5


def test_the_energy_distance_in_the_plane_is_that_of_all_pairs():
    from fmlab.metrics import energy_distance

    x, y = torch.randn(300, 2, generator=rng(0)), 1.2 * torch.randn(200, 2, generator=rng(1))
    assert plane_energy_distance(x, y) == pytest.approx(float(energy_distance(x, y)), rel=1e-3)
