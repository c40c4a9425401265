"""The measurements run, their rows compute what they claim, and fmlab's cost is of the right magnitude.

How long anything takes is for `python -m benchmarks` to say: a test has no clock to rely on.
"""

import itertools
import json
import math
import time
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from benchmarks import densities, flow_maps, grading, measure, peers, resources, simulation
from benchmarks.__main__ import LONG, WORKLOADS, main
from benchmarks.measure import at_least, at_most, ratios, table, verdicts
from fmlab.samplers import sample_flow
from tests.walls import needs_walls

QUICK = {name: workload for name, workload in WORKLOADS.items() if name not in LONG}


def test_quick_mode_prints_ratios_and_writes_them_down(tmp_path, capsys):
    main(["--quick", "--out", str(tmp_path / "results")])
    printed = capsys.readouterr().out
    with capsys.disabled():
        print(printed)
    written = {path.name for path in (tmp_path / "results").iterdir()}
    assert written == {f"{name}.json" for name in QUICK} | {"bounds.md", "ratios.png", "quality.png"}
    bounds = [bound for workload in QUICK.values() for bound in getattr(workload, "bounds", ())]
    assert len((tmp_path / "results" / "bounds.md").read_text().splitlines()) == 2 + len(bounds)
    for name, workload in QUICK.items():
        record = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        assert record["quick"] and record["threads"] == 1
        assert [verdict["bound"] for verdict in record["bounds"]] == [*map(str, getattr(workload, "bounds", ()))]
        missing = [verdict["bound"] for verdict in record["bounds"] if verdict["holds"] is None]
        needed = {"torchsde": "torchsde", "digits,": "torchcfm", "glyphs,": "torchcfm"}  # for rows that begin so
        assert not any(find_spec(needed[bound.split()[0]]) for bound in missing), missing
        limit = next(iter(record["ratios"]))
        assert all(value == 1 for value in record["ratios"][limit].values())
        for row, found in record["measured"].items():
            if isinstance(found, dict):
                assert f"\n{row:36s}{record['ratios'][row]['best']:8.2f}" in printed
                assert all(seconds > 0 for seconds in found["wall"])
            else:
                assert f"\n{row:36s}{found:10.4g}\n" in printed
        if name == "quality_by_seconds":
            assert all(0 < value < math.inf for value in record["measured"].values())
        if name == "ou":  # near 1.1, 1.2 and 1.4; best CPU times vary little, but a machine may be very busy
            ratios = record["ratios"]
            assert all(ratios[row]["cpu"] < 4 for row in ratios if row.startswith("fmlab"))


PLANE = {"peer lab": peers.peer_lab} | peers.PLANE


@pytest.mark.parametrize("begin", PLANE.values(), ids=PLANE)
def test_examples_of_peers_learn_a_law_of_the_plane(begin):
    """N((1, −1), 0.3² I): the loss falls, and samples have its mean, at the size of the data."""
    torch.manual_seed(0)
    mean = torch.tensor([1.0, -1.0])
    example = begin(lambda n: (mean + 0.3 * torch.randn(n, 2), None), batch=128)
    losses = list(itertools.islice(example.losses, 150))
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])
    x = sample_flow(example.field(None), torch.randn(2000, 2), 10) / example.scale
    assert (x.mean(0) - mean).abs().max() < 0.15


@pytest.mark.parametrize("begin", peers.IMAGES.values(), ids=peers.IMAGES)
@pytest.mark.skipif(not find_spec("torchcfm"), reason="no torchcfm: pip install --no-deps torchcfm pot")
def test_examples_of_peers_learn_images(begin):
    """Bright ones, z = 3: networks whose last layer starts at 0 err by E(z − ε)² = 10, to 4 σ, and then by less."""
    torch.manual_seed(0)
    example = begin(lambda n: (torch.full((n, 1, 8, 8), 3.0), torch.arange(n) % 10), batch=8)
    losses = list(itertools.islice(example.losses, 16))
    assert losses[0] == pytest.approx(10, abs=4 * (38 / 512) ** 0.5)
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    x = torch.randn(10, 1, 8, 8)
    assert example.field(torch.arange(10))(x, torch.tensor(0.5)).shape == x.shape


@pytest.mark.slow
@needs_walls
def test_rows_of_grading_grade():
    rows = grading.grading(quick=True)
    assert {name for bound in grading.grading.bounds for name in (bound.row, bound.of)} <= rows.keys()
    rows["1 process"]()
    rows["nbgrader autograde, a quarter of it, 2 processes"]()


def test_rows_of_the_ornstein_uhlenbeck_process_have_its_law():
    """From x = 1, with θ = σ = 1: each step multiplies the mean by 1 − h and the variance by (1 − h)², adding h.

    torchsde's default method has an error of about h², here far below the standard error.
    """
    torch.manual_seed(0)
    rows = simulation.ou(quick=True)
    decay = (1 - 1 / 40) ** 2
    euler = decay**20, (1 - decay**40) / (1 - decay) / 40
    exact = math.exp(-1), (1 - math.exp(-2)) / 2
    for name in rows.keys() - {"normals"}:
        mean, variance = exact if name == "torchsde, its default" else euler
        x = torch.as_tensor(rows[name]()).double().flatten()
        assert len(x) == 100_000, name
        assert abs(x.mean() - mean) < 5 * x.std() / len(x) ** 0.5, name
        if name != "fmlab, multiplicative noise":
            assert abs(x.var() - variance) < 5 * variance * (2 / len(x)) ** 0.5, name


def test_rows_of_langevin_dynamics_keep_their_mixture():
    """Mean and covariance of the target, which the samples start from, within six standard errors."""
    torch.manual_seed(0)
    rows, target = simulation.langevin_mixture(quick=True), simulation.eight_gaussians()
    for name in rows.keys() - {"normals", "the score by vmap(jacrev)"}:
        x = rows[name]().detach()
        assert x.shape == (20_000, 2)
        assert (x.mean(0).abs() < 6 * x.std(0) / len(x) ** 0.5).all(), name
        assert ((x.T.cov() - target.cov).abs() < 6 * target.cov.trace() / len(x) ** 0.5).all(), name


@pytest.mark.parametrize("workload", [densities.mixture_8, densities.mixture_40, densities.data_set_2])
def test_rows_of_a_marginal_find_the_same(workload):
    """Errors of single precision: about 1e-6 of numbers near 10, and of differences of them."""
    rows = workload(quick=True)
    expected = rows.pop("fmlab")()
    for row in rows.values():
        torch.testing.assert_close(row(), expected, rtol=1e-4, atol=2e-4)


def test_rows_of_a_table_find_the_same():
    rows = densities.table(quick=True)
    torch.testing.assert_close(rows["fmlab, masks"](), rows["compared token by token"]())
    torch.testing.assert_close(rows["chunked products"](), rows["products at once"]())


@pytest.mark.parametrize("workload", [simulation.tokens_sudoku, simulation.tokens_sums, simulation.tokens_network])
def test_rows_of_tokens_end_as_data(workload):
    """No mask is left, and what is asked of a denoiser are laws of tokens."""
    torch.manual_seed(0)
    for name, row in workload(quick=True).items():
        found = row()
        if not name.startswith("fmlab"):
            torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
            size = found.shape[-1]
        else:
            assert 0 <= int(found.min()) <= int(found.max()) < size, name


def test_rows_of_a_chain_have_its_law():
    """Of S states, each left at the rate 1 for any other: P(where it began) = 1/S + (1 − 1/S) exp(−t S/(S − 1))."""
    torch.manual_seed(0)
    rows = simulation.chain(quick=True)
    for name, states in {"fmlab": 8, "fmlab, 256 states": 256, "plain torch": 8}.items():
        x = rows[name]()
        back = 1 / states + (1 - 1 / states) * math.exp(-4 * states / (states - 1))
        for state in (0, 3):
            share = back if state == 0 else (1 - back) / (states - 1)
            found = float((x == state).double().mean())
            assert abs(found - share) < 5 * (share * (1 - share) / len(x)) ** 0.5, (name, state)


def test_rows_of_a_training_step_find_the_same_gradient():
    rows = flow_maps.map_step(quick=True)
    for target in ("Eulerian", "Lagrangian", "mean flow"):
        torch.testing.assert_close(rows[f"fmlab, {target}"](), rows[f"jvp, {target}"](), rtol=1e-4, atol=1e-5)


def test_the_peak_of_memory_is_that_of_what_is_held_at_once():
    """Two tensors of 20 MiB and their sum; pages that were touched before may save a little."""
    mib = 2**18  # numbers
    assert 55 < resources.peak(lambda: torch.ones(20 * mib) + torch.ones(20 * mib)) < 70
    assert resources.peak(lambda: torch.ones(1000)) < 5


def test_rows_take_turns_until_their_budget_is_spent(monkeypatch):
    """By a clock that only the rows move."""
    turns, now = [], {"wall": 0.0, "cpu": 0.0}
    monkeypatch.setattr(measure, "cpu_time", lambda: now["cpu"])
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now["wall"]))

    def row(name: str, wall: float, cpu: float):
        turns.append(name)
        now["wall"] += wall
        now["cpu"] += cpu

    rows = {"fast": partial(row, "fast", 0.25, 0.125), "slow": partial(row, "slow", 3.0, 2.0)}
    times = measure.interleave(rows, rounds=4, budget=5)
    assert turns == ["fast", "slow", "fast", "slow", "fast", "fast"]
    assert times == {
        "fast": {"wall": [0.25] * 4, "cpu": [0.125] * 4},
        "slow": {"wall": [3.0] * 2, "cpu": [2.0] * 2},
    }


def test_cpu_time_does_not_count_waiting():
    begin = measure.cpu_time()
    time.sleep(0.05)
    assert measure.cpu_time() - begin < 0.05


def test_ratios_are_in_units_of_the_first_row():
    times = {
        "limit": {"wall": [2.0, 4.0, 3.0], "cpu": [1.0, 2.0, 2.0]},
        "row": {"wall": [9.0, 3.0, 6.0, 6.0], "cpu": [5.0, 8.0, 3.0, 3.0]},
    }
    found = ratios(times)
    assert found["limit"] == {"best": 1, "median": 1, "cpu": 1}
    assert found["row"] == {"best": 1.5, "median": 2.0, "cpu": 3.0}
    bounds = at_most("row", 1.4, "limit"), at_least("row", 1.4, "limit"), at_least("peer", 2, "row")
    assert [verdict["holds"] for verdict in verdicts(bounds, times)] == [False, True, None]
    assert [line.split() for line in table("title", times, bounds).splitlines()] == [
        ["title"],
        ["best", "median", "cpu", "seconds", "turns"],
        ["limit", "1.00", "1.00", "1.00", "2", "3"],
        ["row", "1.50", "2.00", "3.00", "3", "4"],
        "✗ row ≤ 1.4 × limit: 1.50 best, 2.00 median, 3.00 cpu".split(),
        "✓ row ≥ 1.4 × limit: 1.50 best, 2.00 median, 3.00 cpu".split(),
        "? peer ≥ 2 × row: a row is missing".split(),
    ]


def test_numbers_are_judged_as_they_are():
    found = {"a call": 1.0, "method": 12.0}
    bounds = at_most("method", 12, "a call"), at_most("method", 11, "a call")
    assert [line.split() for line in table("title", found, bounds).splitlines()] == [
        ["title"],
        ["a", "call", "1"],
        ["method", "12"],
        "✓ method ≤ 12 × a call: 12.00 value".split(),
        "✗ method ≤ 11 × a call: 12.00 value".split(),
    ]


def test_an_unknown_workload_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "unknown workload nothing; there are ou, langevin_mixture" in capsys.readouterr().err


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_a_workload_says_what_it_measures(workload):
    assert workload.__doc__ and "\n" not in workload.__doc__
