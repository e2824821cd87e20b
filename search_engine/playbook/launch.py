"""Size expressions of launch lines, so that grids follow the leading dimension."""

from __future__ import annotations

import math

from search_engine.playbook.program import Program, Unsupported


def elements(program: Program) -> str:
    """The contract's expression for rows × columns, from a tensor that has them all."""
    names = {axis.name for axis in program.axes}
    for store in program.stores:
        if {name for name, _ in store.strides} == names:
            return f"{store.tensor}.numel()"
    for load in program.loads:
        if {name for name, _ in load.strides} == names:
            return f"{load.tensor}.numel()"
    raise Unsupported("No tensor of the task covers rows and columns.")


def rows(program: Program) -> str:
    """The contract's expression for the number of rows."""
    whole = elements(program)
    return whole if program.column_count == 1 else f"{whole} / {program.column_count}"


def count_type(program: Program) -> str:
    """The C type of element indices."""
    return "long long" if program.needs_64_bit else "int"


def largest_vector(program: Program, length: int, most_bytes: int = 16) -> int:
    """The most neighbours (a power of two) that fit one access and divide the length."""
    widest = max(most_bytes // program.narrowest_item, 1)
    return math.gcd(length, min(widest, 8))
