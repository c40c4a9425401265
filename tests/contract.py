"""Contract mutants: a solution that keeps a part of its docstring's promise only.

Images, one time for each row or for all, schedules of every kind, each number that is given, precision, randomness,
gradients: each rewrite here breaks one of these promises and leaves the formula as it is, at least on the example that
one has in mind. Students write all of them. The visible check has to reject each.
"""

import ast
import copy
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fmlab.checks.exercise import Exercise

Change = Callable[[ast.AST], ast.AST | None]


def contract_mutations(source: str, exercise: Exercise) -> Iterator[tuple[str, ast.Module]]:
    """Each broken promise of a solution's source, with its description."""
    tree = ast.parse(source)
    before = ast.unparse(tree)
    seen = {before}
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    names = [argument.arg for argument in function.args.args]
    promise = ast.get_docstring(function) or ""
    for what, change in rewrites(function, names, images="shape" in promise, rows="(n,)" in promise):
        for number in range(sum(1 for _ in ast.walk(tree))):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[number]
            if (new := change(node)) is not None:
                yield from _new(what, before, _put(changed, node, new), seen)
    for name, given in numbers_given(names, exercise):
        changed = copy.deepcopy(tree)
        body = next(node for node in changed.body if isinstance(node, ast.FunctionDef)).body
        body.insert(1 if ast.get_docstring(function) else 0, ast.parse(f"{name} = {given!r}").body[0])
        yield from _new("a given number is written in", before, changed, seen)


def _new(what: str, before: str, tree: ast.Module, seen: set[str]) -> Iterator[tuple[str, ast.Module]]:
    source = ast.unparse(ast.fix_missing_locations(tree))
    if source not in seen:
        seen.add(source)
        yield f"{what}: {difference(before, source)}", ast.parse(source)


def difference(before: str, after: str) -> str:
    """The lines that changed, as `before → after`."""
    old, new = before.split("\n"), after.split("\n")
    while old and new and old[0] == new[0]:
        old, new = old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        old, new = old[:-1], new[:-1]
    return " → ".join("; ".join(line.strip() for line in lines) for lines in (old, new))


def _put(tree: ast.Module, old: ast.AST, new: ast.AST) -> ast.Module:
    class Put(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else self.generic_visit(node)

    return Put().visit(tree)


def expression(text: str, **parts: ast.AST) -> ast.AST:
    """An expression in which names stand for other expressions."""
    tree = ast.parse(text, mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node):
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    return Fill().visit(tree)


def is_call(node: ast.AST, name: str) -> bool:
    """Whether a node calls a function or a method of this name."""
    called = getattr(node, "func", None)
    return isinstance(node, ast.Call) and name in (getattr(called, "id", None), getattr(called, "attr", None))


def rewrites(function: ast.FunctionDef, names: list[str], images: bool, rows: bool) -> Iterator[tuple[str, Change]]:
    """What is rewritten, and how a node is, if it is one to rewrite. images, rows: whether states may be images, and
    times one for each row."""
    own = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}

    def column(node):
        if is_call(node, "coefficient") and len(node.args) == 2:
            return expression("v[:, None]", v=node.args[0])
        if is_call(node, "weights"):
            each = "[w[:, None] for w in (s.alpha(t), s.beta(t), s.alpha_dot(t), s.beta_dot(t))]"
            return expression(each, s=node.func.value, t=node.args[0])
        return None

    if images:
        yield "shaped for points in the plane alone", column
    yield "images are not flattened", lambda node: node.func.value if is_call(node, "flatten") and node.args else None

    def last_axis(node):
        inner = node.func.value if is_call(node, "sum") else None
        if inner is not None and is_call(inner, "flatten"):
            return expression("v.sum(-1)", v=inner.func.value)
        return None

    yield "summed over the last axis alone", last_axis

    def preserving(node):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and "alpha" in own:
            if getattr(node.left, "id", "") == "beta" and getattr(node.right, "value", None) == 2:
                return expression("1 - alpha**2")
        if is_call(node, "beta") and isinstance(node.func, ast.Attribute) and len(node.args) == 1:
            return expression("(1 - s.alpha(t) ** 2).sqrt()", s=node.func.value, t=node.args[0])
        return None

    yield "β² = 1 − α²", preserving

    def straight(node):
        if is_call(node, "beta") and isinstance(node.func, ast.Attribute) and len(node.args) == 1:
            return expression("1 - s.alpha(t)", s=node.func.value, t=node.args[0])
        return None

    yield "β = 1 − α", straight
    functions = {_callee(node) for node in ast.walk(function) if isinstance(node, ast.Call)}
    for name in sorted(({"t", "s", "tau"} & set(names)) - functions):
        others = [(f"1 − {name}", f"1 - {name}"), (f"later than {name}", f"{name} + {'h' if 'h' in names else 0.05}")]
        if rows:
            others.append((f"the first {name} for all", f"({name}[0] if getattr({name}, 'ndim', 0) else {name})"))
        for what, text in others:
            yield what, lambda node, name=name, text=text: _other_time(node, name, text)
    called = [node for node in ast.walk(function) if isinstance(node, ast.Call) and _callee(node) in names]
    for first in called:
        for second in called:
            if _callee(first) == _callee(second) and ast.dump(first) != ast.dump(second):
                yield (
                    "one call where two are due",
                    lambda node, first=first, second=second: (
                        copy.deepcopy(first) if ast.dump(node) == ast.dump(second) else None
                    ),
                )


def _callee(node: ast.Call) -> str:
    return getattr(node.func, "id", "")


def _other_time(node: ast.AST, name: str, text: str) -> ast.AST | None:
    if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
        return expression(text)
    return None


def numbers_given(names: list[str], exercise: Exercise) -> Iterator[tuple[str, float]]:
    """The numbers among the arguments of the first visible case: what an example would have written in."""
    args = exercise.make(*exercise.visible[0]).args
    for name, value in zip(names, args, strict=True):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value


def wrapped(answer: Callable, exercise: Exercise, random: bool) -> Iterator[tuple[str, Callable]]:
    """Promises about the result that are broken whatever the source is. random: whether the answer draws numbers."""

    def each(value, change):
        if isinstance(value, (tuple, list)):
            return type(value)(each(item, change) for item in value)
        return change(value) if isinstance(value, Tensor) else value

    def changed(change):
        @functools.wraps(answer)
        def mutant(*args):
            return each(answer(*args), change)

        return mutant

    floating = any(
        getattr(arg, "dtype", None) == torch.float64 for given in exercise.visible for arg in _args(exercise, given)
    )
    if floating and returns_tensors(answer, exercise):
        yield (
            "single precision at the end",
            changed(lambda value: value.float() if value.is_floating_point() else value),
        )
    if returns_graph(answer, exercise):
        yield "detached at the end", changed(Tensor.detach)
    if random:

        @functools.wraps(answer)
        def seeded(*args):
            torch.manual_seed(0)
            return answer(*args)

        yield "a seed inside", seeded


def _args(exercise: Exercise, given: tuple) -> tuple:
    return exercise.make(*given).args


def first_result(answer: Callable, exercise: Exercise):
    with torch.random.fork_rng(devices=[]):
        return answer(*exercise.make(*exercise.visible[0]).args)


def _tensors(value) -> list[Tensor]:
    if isinstance(value, (tuple, list)):
        return [tensor for item in value for tensor in _tensors(item)]
    return [value] if isinstance(value, Tensor) else []


def returns_tensors(answer: Callable, exercise: Exercise) -> bool:
    return any(tensor.is_floating_point() and tensor.ndim for tensor in _tensors(first_result(answer, exercise)))


def returns_graph(answer: Callable, exercise: Exercise) -> bool:
    return any(tensor.requires_grad for tensor in _tensors(first_result(answer, exercise)))
