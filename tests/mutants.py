"""Mutants of the solution cells: `python -m tests.mutants [lab1 lab2 …]` shows which of them the checks let pass.

A mutant is a solution with one small change: another operator, another number, a factor left out, two names exchanged,
a statement or a method call dropped; or with one promise of its docstring broken (`tests/contract.py`). The check that
students see should reject each of them. One that is accepted is either no less right than the solution, and then listed
in `tests/equivalent_mutants.py` with the reason, or shows a hole in the check.
"""

import argparse
import ast
import copy
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import jupytext

from course import hidden
from tests.contract import contract_mutations, difference, wrapped
from tests.equivalent_mutants import EQUIVALENT
from tests.labs import SOURCES, exercise_of, namespace
from tests.test_answers import draws

OTHER_OPERATOR = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OTHER_NAME = {
    "alpha": "beta",
    "beta": "alpha",
    "alpha_dot": "beta_dot",
    "beta_dot": "alpha_dot",
    "sin": "cos",
    "cos": "sin",
    "mean": "sum",
    "sum": "mean",
    "exp": "log",
    "log": "exp",
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "randn": "rand",
    "randn_like": "rand_like",
    "rand": "randn",
    "min": "max",
    "max": "min",
    "cumsum": "cumprod",
    "cumprod": "cumsum",
    "square": "abs",
    "softmax": "log_softmax",
    "logsumexp": "sum",
}


class Mutant(NamedTuple):
    """change: the statement before and after, or the promise that is broken. answer: the changed function."""

    exercise: str
    change: str
    answer: Callable


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a source's solutions, in the order of its cells."""
    known, lab = namespace(path), path.stem.split("_")[0]
    for cell in jupytext.read(path).cells:
        if name := cell.metadata.get("exercise"):
            exercise = exercise_of(lab, name)
            small, contract = mutations(ast.parse(cell.source)), contract_mutations(cell.source, exercise)
            for change, tree in itertools.chain(small, contract):
                changed = dict(known)
                exec(compile(tree, name, "exec"), changed)
                yield Mutant(name, change, changed[name])
            random = draws(exercise, known[name], exercise.visible[:1])
            for change, answer in wrapped(known[name], exercise, random):
                yield Mutant(name, change, answer)


def mutations(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Every single change of a module's functions, with its description; no two give the same code."""
    seen = {ast.unparse(tree)}
    for number, node in enumerate(ast.walk(tree)):
        for variant in range(sum(1 for _ in replacements(node, tree))):
            changed = copy.deepcopy(tree)
            target = next(other for k, other in enumerate(ast.walk(changed)) if k == number)
            new = next(new for k, new in enumerate(replacements(target, changed)) if k == variant)
            _replace(changed, target, new)
            ast.fix_missing_locations(changed)
            try:
                source = ast.unparse(changed)
                compile(source, "mutant", "exec")
            except (SyntaxError, ValueError):
                continue
            if source not in seen:
                seen.add(source)
                yield difference(ast.unparse(tree), source), ast.parse(source)


def replacements(node: ast.AST, tree: ast.Module) -> Iterator[ast.AST | list | None]:
    """What may stand in place of a node: another node, a list of statements, or nothing (None: left out)."""
    if isinstance(node, ast.BinOp):
        yield node.left
        yield node.right
        if new := OTHER_OPERATOR.get(type(node.op)):
            yield ast.BinOp(node.left, new(), node.right)
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and (new := OTHER_OPERATOR.get(type(node.ops[0]))):
        yield ast.Compare(node.left, [new(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)):
            yield from (ast.Constant(node.value + 1), ast.Constant(0), ast.Constant(node.value / 2))
    elif isinstance(node, ast.Attribute) and node.attr in OTHER_NAME:
        yield ast.Attribute(node.value, OTHER_NAME[node.attr], node.ctx)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _other_names(node, tree)
    elif isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign)) and not isinstance(node.value, ast.Constant):
        yield None
    elif isinstance(node, (ast.With, ast.If, ast.For)):
        yield node.body
    elif isinstance(node, ast.FunctionDef) and node.decorator_list:
        bare = copy.copy(node)
        bare.decorator_list = []
        yield bare


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Attribute):
        yield node.func.value  # x.sqrt() → x
    yield from node.args  # torch.sqrt(x) → x
    if len(node.args) > 1:
        yield ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for k in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, node.keywords[:k] + node.keywords[k + 1 :])


def _other_names(node: ast.Name, tree: ast.Module) -> Iterator[ast.AST]:
    """The arguments of the function instead of one of them."""
    function = next(statement for statement in tree.body if isinstance(statement, ast.FunctionDef))
    names = [argument.arg for argument in function.args.args]
    if node.id in names:
        yield from (ast.Name(name, ast.Load()) for name in names if name != node.id)


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST | list | None) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is old for item in value):
                k = next(k for k, item in enumerate(value) if item is old)
                value[k : k + 1] = new if isinstance(new, list) else [ast.Pass() if new is None else new]
                return


def survives(lab: str, mutant: Mutant, unseen: bool = False) -> bool:
    """Whether the check that students see accepts a mutant; or the one that they do not see."""
    exercise = exercise_of(lab, mutant.exercise)
    inputs = hidden.inputs(exercise) if unseen else exercise.visible
    with redirect_stdout(None):
        return exercise.examine(mutant.answer, inputs, name=False).passed


def reason(mutant: Mutant) -> str | None:
    """Why a mutant is as good as the solution, if it is known to be."""
    return EQUIVALENT.get(mutant.exercise, {}).get(mutant.change)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("labs", nargs="*", help="such as lab1 (default: all)")
    options, holes = parser.parse_args(arguments), 0
    warnings.simplefilter("ignore", SyntaxWarning)  # mutants call numbers and the like
    for path in SOURCES:
        lab = path.stem.split("_")[0]
        if options.labs and lab not in options.labs:
            continue
        found = list(mutants(path))
        verdicts = [_progress(lab, number, len(found), mutant) for number, mutant in enumerate(found, 1)]
        accepted = [mutant for mutant, (visible, _) in zip(found, verdicts) if visible]
        unexplained = [mutant for mutant in accepted if not reason(mutant)]
        apart = [mutant for mutant, (visible, unseen) in zip(found, verdicts) if visible != unseen]
        rejected, equivalent = len(found) - len(accepted), len(accepted) - len(unexplained)
        score = rejected / (rejected + len(unexplained))
        print(
            f"{lab}: {len(found)} mutants, {rejected} rejected by the check in the notebook, {equivalent} as good as "
            f"the solution: score {score:.1%}; {len(apart)} judged otherwise by the hidden inputs"
        )
        for mutant in unexplained:
            print(f"  accepted: {mutant.exercise}: {mutant.change}")
        for mutant in apart:
            print(f"  judged otherwise: {mutant.exercise}: {mutant.change}")
        holes += len(unexplained) + len(apart)
    return holes > 0


def _progress(lab: str, number: int, total: int, mutant: Mutant) -> tuple[bool, bool]:
    """Whether the visible and the hidden check accept a mutant."""
    if sys.stderr.isatty():
        print(f"\r{lab}: mutant {number} of {total} ", end="" if number < total else "\n", file=sys.stderr, flush=True)
    return survives(lab, mutant), survives(lab, mutant, unseen=True)


if __name__ == "__main__":
    sys.exit(main())
