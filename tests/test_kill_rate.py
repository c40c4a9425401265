"""Every wrong answer is rejected and every right one accepted, whatever the seed; prints the table per lab."""

from contextlib import contextmanager

import pytest
import torch

from tests.labs import LABS, modules, rejected_by

SEEDS = 20


@contextmanager
def seed(number: int, monkeypatch, drawn: list):
    """Checks seed torch with this number instead of theirs; `drawn` is appended True if random numbers were drawn."""
    fork, manual_seed = torch.random.fork_rng, torch.manual_seed

    @contextmanager
    def watched(*args, **options):
        with fork(*args, **options):
            yield
            after = torch.get_rng_state()
            manual_seed(number)
            drawn.append(not torch.equal(after, torch.get_rng_state()))

    with monkeypatch.context() as patch:
        patch.setattr(torch.random, "fork_rng", watched)
        patch.setattr(torch, "manual_seed", lambda _: manual_seed(number))
        yield


def verdicts(lab: str, exercise: str, answer, monkeypatch) -> list[tuple[str, str]]:
    """Who rejects the answer, and in which words, for 20 seeds; for one if nothing random was drawn."""
    drawn, found = [], []
    for number in range(SEEDS):
        with seed(number, monkeypatch, drawn):
            found.append(rejected_by(lab, exercise, answer))
        if not any(drawn):
            break
    return found


def is_verdict(message: str, exercise: str) -> bool:
    return message.startswith(f"✗ {exercise}: ") and "\n  Reread: " in message


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
def test_kill_rate(lab, monkeypatch, capsys):
    _, _, wrong, right = modules(lab)
    rows, faults = [], []
    for exercise, answers in wrong.WRONG.items():
        visible = hidden = named = seeds = 0
        for name, (answer, words) in answers.items():
            found = verdicts(lab, exercise, answer, monkeypatch)
            if not all(words in message and is_verdict(message, exercise) for _, message in found):
                faults.append(f"{exercise}: wrong answer {name!r}: {found}")
            visible += all(who == "visible" for who, _ in found)
            hidden += any(who == "hidden" for who, _ in found)
            named += bool(words)
            seeds = max(seeds, len(found))
        for k, answer in enumerate(right.RIGHT[exercise]):
            found = verdicts(lab, exercise, answer, monkeypatch)
            if any(who for who, _ in found):
                faults.append(f"{exercise}: right answer {k}: {found}")
            seeds = max(seeds, len(found))
        rows.append((exercise, len(answers), visible, hidden, named, len(right.RIGHT[exercise]), seeds))
    with capsys.disabled():
        print(f"\n{lab:32}{'wrong':>8}{'visible':>8}{'hidden':>8}{'named':>8}{'right':>8}{'seeds':>8}")
        for exercise, *numbers in [*rows, ("all", *map(sum, zip(*(row[1:-1] for row in rows), strict=True)), SEEDS)]:
            print(f"{exercise:32}{''.join(f'{number:8}' for number in numbers)}")
    assert faults == []
    assert sum(row[4] for row in rows) >= 0.9 * sum(row[1] for row in rows)
