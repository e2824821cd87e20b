"""Evaluates the contract's expressions over a task's sizes, in the integers of C."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping

from attrs import frozen

from search_engine.contract.kernel import Expression
from search_engine.task import Scalar
from search_engine.verdict import Finding

_LARGEST = 2**63 - 1


class Unresolvable(Exception):
    """An expression that has no value for this task; ``finding`` says why and where."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class _Problem(Exception):
    pass


@frozen
class Scope:
    """What names mean in an expression.

    ``shapes`` has the task's tensors and the scratch buffers by name, ``scalars`` the
    plain values: ``forward``'s own scalars, ``sm_count``, the macros of tune lines.
    """

    shapes: Mapping[str, tuple[int, ...]]
    scalars: Mapping[str, Scalar]

    def value(self, expression: Expression) -> Scalar:
        """The expression's value. Raises Unresolvable."""
        try:
            return _value(expression.tree, self)
        except _Problem as problem:
            message = f"`{expression.text}`: {problem}"
            raise Unresolvable(
                Finding("expression", message, expression.line, expression.column)
            ) from None

    def integer(self, expression: Expression, what: str) -> int:
        """The expression's value where only a whole number will do. Raises Unresolvable."""
        value = self.value(expression)
        if isinstance(value, bool) or not isinstance(value, int):
            message = f"`{expression.text}`: {what} must be a whole number, it is {value}"
            raise Unresolvable(Finding("expression", message, expression.line, expression.column))
        return value

    def suggestion(self, name: str) -> str:
        """ "there is no `wieght`; did you mean `weight`?", for messages."""
        return f"there is no `{name}`" + near(name, [*self.shapes, *self.scalars])


def near(name: str, known: list[str]) -> str:
    """The end of a sentence on an unknown name: a near match, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; known here: {shown}" if known else ""


def _bounded(value: Scalar) -> Scalar:
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise _Problem("the number does not fit 64 bits")
    return value


def _value(tree: ast.expr, scope: Scope) -> Scalar:
    if isinstance(tree, ast.Constant):
        assert isinstance(tree.value, int | float)
        return _bounded(tree.value)
    if isinstance(tree, ast.Name):
        return _name(tree.id, scope)
    if isinstance(tree, ast.UnaryOp):
        return -_value(tree.operand, scope)
    if isinstance(tree, ast.BinOp):
        operation = _OPERATIONS[type(tree.op)]
        return _bounded(operation(_value(tree.left, scope), _value(tree.right, scope)))
    assert isinstance(tree, ast.Call)
    if isinstance(tree.func, ast.Attribute):
        return _method(tree, scope)
    assert isinstance(tree.func, ast.Name)
    return _function(tree.func.id, [_value(argument, scope) for argument in tree.args])


def _name(name: str, scope: Scope) -> Scalar:
    if name in scope.scalars:
        return scope.scalars[name]
    if name in scope.shapes:
        raise _Problem(f"`{name}` is a tensor; write `{name}.size(i)` or `{name}.numel()`")
    raise _Problem(scope.suggestion(name))


def _method(tree: ast.Call, scope: Scope) -> int:
    assert isinstance(tree.func, ast.Attribute)
    assert isinstance(tree.func.value, ast.Name)
    owner = tree.func.value.id
    shape = scope.shapes.get(owner)
    if shape is None:
        raise _Problem(f"there is no tensor `{owner}`" + near(owner, list(scope.shapes)))
    if tree.func.attr == "numel":
        count = 1
        for size in shape:
            count *= size
        return count
    index = _value(tree.args[0], scope)
    if isinstance(index, bool) or not isinstance(index, int):
        raise _Problem(f"a dimension is a whole number, it is {index}")
    if not -len(shape) <= index < len(shape):
        raise _Problem(f"`{owner}` has {len(shape)} dimensions, there is no size({index})")
    return shape[index]


def _function(name: str, values: list[Scalar]) -> Scalar:
    if name not in _FUNCTIONS:
        raise _Problem(f"unknown function `{name}`; known: {', '.join(_FUNCTIONS)}")
    function, count = _FUNCTIONS[name]
    if len(values) < 2 or (count is not None and len(values) != count):
        raise _Problem(f"`{name}` takes {'two values' if count else 'two values or more'}")
    return _bounded(function(*values))


def _quotient(left: Scalar, right: Scalar) -> Scalar:
    if right == 0:
        raise _Problem("division by zero")
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    # C truncates towards zero; Python's // rounds down.
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: Scalar, right: Scalar) -> Scalar:
    if isinstance(left, float) or isinstance(right, float):
        raise _Problem("% takes whole numbers")
    if right == 0:
        raise _Problem("division by zero")
    return abs(left) % abs(right) * (-1 if left < 0 else 1)


def _ceil_div(left: Scalar, right: Scalar) -> int:
    if isinstance(left, float) or isinstance(right, float):
        raise _Problem("ceil_div takes whole numbers")
    if right == 0:
        raise _Problem("division by zero")
    return -(-left // right)


_OPERATIONS: dict[type[ast.operator], Callable[[Scalar, Scalar], Scalar]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: _quotient,
    ast.Mod: _remainder,
}
_FUNCTIONS: dict[str, tuple[Callable[..., Scalar], int | None]] = {
    "ceil_div": (_ceil_div, 2),
    "min": (min, None),
    "max": (max, None),
}
