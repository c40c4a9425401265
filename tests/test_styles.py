"""A right answer is right in any style: each solution, rewritten in ways that change nothing, passes both checks."""

import jupytext
import pytest
import torch

from course import hidden
from fmlab.checks import lab as labs
from fmlab.checks.calls import default_dtype
from tests.labs import LABS, solutions, source
from tests.styles import STYLES


def with_sources(lab: str) -> dict:
    """The solutions of a lab, which know their source."""
    found = solutions(source(lab))
    for cell in jupytext.read(source(lab)).cells:
        if name := cell.metadata.get("exercise"):
            found[name].source = cell.source
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("name", STYLES)
def test_a_harmless_style_is_right(lab, name):
    faults, count = [], 0
    for exercise, solution in with_sources(lab).items():
        torch._dynamo.reset()
        card = labs.load(lab).exercises[exercise]
        answer = STYLES[name](solution, card)
        if answer is None:
            continue
        count += 1
        with (
            default_dtype(torch.float64 if name == "another default dtype" else torch.float32),
            torch._dynamo.config.patch(cache_size_limit=2),  # what is called with more shapes runs as it is written
        ):
            for who, inputs in ("visible", card.visible), ("hidden", hidden.inputs(card)):
                few = inputs[:1] if name == "compiled" else inputs  # each is compiled anew, for seconds
                verdict = card.examine(answer, few)
                if not verdict.passed:
                    faults.append(f"{who}: {verdict}")
    assert not faults, "\n".join(faults)
    assert count or name in ("a time for each row", "time in the dtype of x"), "this style applies to nothing"
