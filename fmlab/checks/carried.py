"""An answer that builds on another exercise's answer, which has not passed: judged with the library's in its place.

So one mistake costs one exercise.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType


@contextlib.contextmanager
def replaced(answer: Callable, functions: Mapping[str, Callable]) -> Iterator[list[str]]:
    """Let names that an answer uses, itself or through its notebook's functions, mean these functions within the block.

    Yields those of the names that it uses.
    """
    function = _function(answer)
    namespace = function.__globals__ if function else {}
    own = {name: namespace[name] for name in _used(function, functions) if name in namespace}
    namespace.update({name: functions[name] for name in own})
    try:
        yield sorted(own)
    finally:
        namespace.update(own)


def _function(answer) -> FunctionType | None:
    """The function of Python that is behind an answer: what a decorator, a partial, a method or an instance calls."""
    with contextlib.suppress(Exception):  # an answer may be anything
        while not isinstance(answer, FunctionType):
            if isinstance(answer, partial):
                answer = answer.func
                continue
            inner = [getattr(answer, name, None) for name in ("__func__", "forward", "__call__")]
            answer = next(found for found in inner if isinstance(found, (FunctionType, MethodType)))
        answer = inspect.unwrap(answer)
        return answer if isinstance(answer, FunctionType) else None
    return None


def _used(function: FunctionType | None, names: Collection[str]) -> set[str]:
    """The names among these that a function uses, or one of the same notebook that it calls."""
    found, seen, left = set(), set(), [function] if function else []
    while left:
        function = left.pop()
        seen.add(function)
        used = _words(function.__code__)
        found |= used & {*names} - {function.__name__}
        known = [function.__globals__.get(name) for name in used]
        left += [
            other
            for other in known
            if isinstance(other, FunctionType) and other.__globals__ is function.__globals__ and other not in seen
        ]
    return found


def _words(code: CodeType) -> set[str]:
    """The names in the code of a function and of those within it."""
    inner = (_words(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)
