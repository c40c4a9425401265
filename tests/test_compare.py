"""How an answer is compared with the truth: one tolerance, and words on where the two differ and how."""

import math

import numpy as np
import pytest
import torch

from fmlab.checks.compare import TOLERANCE, Look, close, describe, difference, relation
from tests.cases import normal

SCALE = torch.tensor([0.3, 1.7, -2.2, 0.9, 1.3, -0.4], dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.02, 0.3, 0.97])
def test_rounding_and_a_guard_of_1e_8_are_right_and_a_guard_of_1e_4_is_nearly_right(beta):
    """Numbers made tensors, and ε = (x − α z)/(β + guard): the relative differences are 6e-8, guard/β."""
    right = SCALE / beta
    assert close(SCALE / float(np.float32(beta)), right)
    assert close(SCALE / (beta + 1e-8), right)
    guarded = SCALE / (beta + 1e-4)
    assert not close(guarded, right)
    assert f"relative difference of {1e-4 / (beta + 1e-4):.0e}".replace("e-0", "e-") in relation(guarded, right)


def test_what_is_shown_is_where_the_two_differ_most_with_digits_that_differ():
    expected = normal(3, 4, seed=1)
    found = expected.clone()
    found[1, 2] += 1e-3
    shown = difference(Look("the table", found, expected), 1e-9)
    assert shown.reason == "the table is not right"
    assert shown.where == "at [1, 2] of shape (3, 4), where the two differ most"
    assert float(shown.expected) != float(shown.found)
    near = difference(Look("the value", 1.0 + 1e-9, 1.0, 1e-12), 1e-9)
    assert near.expected != near.found


def test_kinds_are_asked_for_in_words():
    like = torch.zeros(3, 2)
    reasons = {
        difference(Look("the state", found, like)).reason
        for found in (None, 2.0, "x", torch.zeros(2, 3), like.double(), [like], {}, lambda x: x)
    }
    assert len(reasons) == 8 and all(reason.startswith("the state should ") for reason in reasons)
    assert "None (is there a return?)" in difference(Look("the state", None, like)).reason
    assert difference(Look("the order", [1.0], 1.0)).reason == "the order should be one number, found a list of 1"
    assert difference(Look("the number of calls", 3, 2)).expected == "2"


@pytest.mark.parametrize("number", [1.5, np.float64(1.5), np.float32(1.5), torch.tensor(1.5), torch.tensor([[1.5]])])
def test_a_number_may_come_in_any_kind(number):
    assert difference(Look("the order", number, 1.5)) is None


def test_relations_are_named():
    expected = normal(4, 3, seed=2)
    assert relation(2 * expected, expected) == "each number is 2 times what it should be"
    assert relation(-expected, expected) == "each number is -1 times what it should be"
    assert relation(expected + 0.25, expected) == "each number is off by the same 0.25"
    assert relation(expected * math.nan, expected) == "some of the numbers are nan or inf"
    assert relation(normal(4, 3, seed=3), expected) == ""
    assert relation(expected, normal(3, 4, seed=2)) == ""


def test_random_numbers_agree_within_their_error():
    look = Look("the mean", torch.tensor([0.02, -0.05]), torch.zeros(2), error=0.06)
    assert difference(look) is None
    assert difference(look._replace(error=0.04)).where.startswith("at [1]")


def test_values_that_are_no_numbers_and_subclasses():
    assert close("a", "a") and not close("a", "b") and not close("a", 1.0)
    assert close((torch.ones(2), 1.0), (torch.ones(2), 1.0)) and not close((torch.ones(2), 1.0), (torch.ones(2), 2.0))
    negative = torch.complex(torch.zeros(2), -torch.ones(2)).conj().imag
    assert negative.is_neg() and close(negative, torch.ones(2))
    assert close(torch.ones(2, requires_grad=True), torch.ones(2).as_subclass(torch.nn.Parameter))
    assert not close(torch.full((2,), math.nan), torch.ones(2))
    assert close(torch.full((2,), math.nan), torch.full((2,), math.nan))  # two answers may be wrong in the same way


def test_described():
    assert describe(torch.zeros(2, 3)) == "a float32 tensor of shape (2, 3)"
    assert [describe(value) for value in (1.5, "abc", [1, 2], (1,), print)] == [
        "the number 1.5",
        "the text 'abc'",
        "a list of 2",
        "a tuple of 1",
        "a function",
    ]
    assert 0 < TOLERANCE < 1e-4


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(3, 2, device="meta"),
        torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        10**400,
        np.ma.masked_array([1.0, 2.0]),
        1j,
    ],
    ids=["without data", "sparse", "nested", "huge", "masked", "complex"],
)
def test_whatever_came_back_is_compared(odd):
    """With a tensor, with a number, and with itself; nothing raises."""
    assert difference(Look("the state", odd, torch.zeros(3, 2))).reason.startswith("the state should be a tensor of")
    assert difference(Look("the order", odd, 1.5)).reason.startswith("the order should be one number, found ")
    assert not close(odd, 1.5) and close(odd, odd) in (True, False)
