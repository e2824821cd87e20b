"""Size expressions of launch lines, so that grids follow the leading dimension."""

from __future__ import annotations

import math

from search_engine.playbook.program import Program, Store


def ceil_div(a: int, b: int) -> int:
    """Integer division, rounded up, as in the contract's expressions."""
    return -(-a // b)


def elements(program: Program) -> str:
    """The contract's expression for rows × columns."""
    store = _largest(program)
    missing = program.column_count // _columns_of(program, store)
    return f"{store.tensor}.numel()" + (f" * {missing}" if missing > 1 else "")


def rows(program: Program) -> str:
    """The contract's expression for the number of rows."""
    store = _largest(program)
    per_row = _columns_of(program, store)
    return f"{store.tensor}.numel()" + (f" / {per_row}" if per_row > 1 else "")


def _largest(program: Program) -> Store:
    """The output whose elements are counted: it has every row axis."""
    return max(program.stores, key=lambda store: math.prod(_sizes(program, store)))


def _sizes(program: Program, store: Store) -> list[int]:
    touched = {name for name, _ in store.strides}
    return [axis.size for axis in program.axes if axis.name in touched]


def _columns_of(program: Program, store: Store) -> int:
    """Elements of a row that the output has."""
    return math.prod(_sizes(program, store)) // program.row_count


def count_type(program: Program) -> str:
    """The C type of element indices."""
    return "long long" if program.needs_64_bit else "int"


def largest_vector(program: Program, length: int, most_bytes: int = 16) -> int:
    """The most neighbours (a power of two) that fit one access and divide the length."""
    widest = max(most_bytes // program.narrowest_item, 1)
    return math.gcd(length, min(widest, 8))
