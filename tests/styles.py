"""Rewrites of a right answer that change nothing that matters: whatever style an answer is written in, it is right.

A style is a function from an answer to another one, or None where it does not apply.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmlab.checks.exercise import Exercise

Style = Callable[[Callable, Exercise], Callable | None]
STYLES: dict[str, Style] = {}


def style(function: Style) -> Style:
    STYLES[function.__name__.replace("_", " ")] = function
    return function


def with_arguments(answer: Callable, change: Callable[[str, object, dict], object]) -> Callable:
    """An answer that changes each of its arguments first. change(name, value, all arguments)."""
    names = list(inspect.signature(answer).parameters)

    @functools.wraps(answer)
    def changed(*args):
        given = dict(zip(names, args, strict=True))
        return answer(*(change(name, value, given) for name, value in given.items()))

    return changed


def with_result(answer: Callable, change: Callable[[Tensor], Tensor]) -> Callable:
    """An answer that changes the tensors that it returns, also one by one in a tuple."""

    def each(value):
        if isinstance(value, (tuple, list)):
            return type(value)(map(each, value))
        return change(value) if isinstance(value, Tensor) else value

    @functools.wraps(answer)
    def changed(*args):
        return each(answer(*args))

    return changed


def number(value) -> bool:
    return isinstance(value, float)


@style
def numbers_made_single_tensors(answer, exercise):
    return with_arguments(
        answer, lambda _, value, __: torch.tensor(value, dtype=torch.float32) if number(value) else value
    )


@style
def numbers_made_double_tensors(answer, exercise):
    return with_arguments(
        answer, lambda _, value, __: torch.tensor(value, dtype=torch.float64) if number(value) else value
    )


def batch_of(given: dict) -> Tensor | None:
    """The states among the arguments."""
    return next(
        (v for k, v in given.items() if k in ("x", "z", "x0", "noise") and isinstance(v, Tensor) and v.ndim > 1), None
    )


@style
def time_in_the_dtype_of_x(answer, exercise):
    def cast(name, value, given):
        x = batch_of(given)
        return torch.as_tensor(value).to(x) if name in ("t", "s") and x is not None and not callable(value) else value

    return with_arguments(answer, cast) if "t" in inspect.signature(answer).parameters else None


@style
def a_time_for_each_row(answer, exercise):
    """Where the docstring takes (n,)."""
    promised = "(n,)" in (answer.__doc__ or "").replace("`", "")
    if not promised or "t" not in inspect.signature(answer).parameters:
        return None

    def expand(name, value, given):
        x = batch_of(given)
        if name not in ("t", "s") or x is None or callable(value):
            return value
        value = torch.as_tensor(value)
        return value.to(x).expand(len(x)) if value.ndim == 0 else value

    return with_arguments(answer, expand)


class Guard(ast.NodeTransformer):
    """A guard of 1e-8 in each denominator that is no number."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.Div) and not isinstance(node.right, ast.Constant):
            node.right = ast.BinOp(node.right, ast.Add(), ast.Constant(1e-8))
        return node


def rewritten(answer: Callable, transformer: ast.NodeTransformer, source: str) -> Callable:
    tree = transformer.visit(ast.parse(textwrap.dedent(source)))
    names = dict(answer.__globals__)
    exec(compile(ast.fix_missing_locations(tree), "style", "exec"), names)
    return names[answer.__name__]


@style
def a_guard_in_denominators(answer, exercise):
    return rewritten(answer, Guard(), answer.source)


@style
def strided_arguments(answer, exercise):
    def strided(_, value, __):
        if not isinstance(value, Tensor) or not value.ndim or value.requires_grad:
            return value
        return torch.stack([value, value], dim=-1)[..., 0]

    return with_arguments(answer, strided)


@style
def cloned_arguments(answer, exercise):
    return with_arguments(answer, lambda _, value, __: value.clone() if isinstance(value, Tensor) else value)


@style
def transposed_memory(answer, exercise):
    def transposed(_, value, __):
        if not isinstance(value, Tensor) or value.ndim < 2 or value.requires_grad:
            return value
        return value.transpose(0, -1).contiguous().transpose(0, -1)

    return with_arguments(answer, transposed)


@style
def a_module(answer, exercise):
    class Answer(nn.Module):
        def forward(self, *args):
            return answer(*args)

    return Answer()


@style
def a_partial(answer, exercise):
    return functools.partial(answer)


@style
def a_decorated_function(answer, exercise):
    @functools.wraps(answer)
    def decorated(*args, **options):
        return answer(*args, **options)

    return decorated


@style
def named_arguments(answer, exercise):
    names = list(inspect.signature(answer).parameters)
    return lambda *args: answer(**dict(zip(names, args, strict=True)))


@style
def a_method(answer, exercise):
    class Mine:
        def answer(self, *args):
            return answer(*args)

    return Mine().answer


@style
def without_gradients(answer, exercise):
    """Where none is promised."""
    from fmlab.checks import judges

    plain = exercise.judge in (judges.value, judges.repeatable) and "grad" not in answer.source
    return torch.no_grad()(answer) if plain else None


@style
def a_subclass(answer, exercise):
    class Mine(Tensor):
        pass

    return with_result(answer, lambda value: value.as_subclass(Mine))


@style
def the_negative_bit(answer, exercise):
    def negated(value):
        if not value.is_floating_point():
            return value
        return torch.complex(torch.zeros_like(value), -value).conj().imag

    return with_result(answer, negated)


@style
def a_strided_result(answer, exercise):
    return with_result(answer, lambda value: torch.stack([value, value], dim=-1)[..., 0])


@style
def lists_for_tuples(answer, exercise):
    def changed(*args):
        found = answer(*args)
        return list(found) if isinstance(found, tuple) else found

    return changed


@style
def compiled(answer, exercise):
    made = torch.compile(answer, backend="eager")
    made.seconds = 60  # which a busy machine takes to compile
    return made


@style
def another_default_dtype(answer, exercise):
    """Told to the test by the name: it sets the notebook's default to double precision."""
    return answer
