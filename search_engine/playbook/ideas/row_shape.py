"""What the row ideas share: when columns are contiguous, the vector that fits, plain facts."""

from __future__ import annotations

import math

from search_engine.playbook.launch import largest_vector
from search_engine.playbook.program import Program


def has_row_statistics(program: Program) -> bool:
    """Whether there are statistics over columns that lie side by side in memory."""
    return bool(program.statistics) and bool(program.columns) and contiguous(program)


def contiguous(program: Program) -> bool:
    """Whether a row's elements are neighbours in memory wherever rows × columns are read."""
    return program.column_count < 2**31 - 2**20 and program.inner_contiguous


def vector(program: Program) -> int:
    """Elements of a 16-byte access that every row and every merged axis allow."""
    return largest_vector(program, program.inner.size)


def ceil_div(a: int, b: int) -> int:
    """Integer division, rounded up."""
    return -(-a // b)


def power_of_two(value: int) -> int:
    """The least power of two that is not below the value."""
    return 1 << max(math.ceil(math.log2(max(value, 1))), 0)


def row_words(program: Program) -> str:
    """``4,096 rows of 65,536 elements (256 KB each)``."""
    size = program.column_count * program.narrowest_item
    text = f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1024:.3g} KB"
    plural = "row" if program.row_count == 1 else "rows"
    return f"{program.row_count:,} {plural} of {program.column_count:,} elements ({text} each)"


def statistic_words(program: Program) -> str:
    """What is computed over a row, for people."""
    names = {
        "moments": "mean and variance",
        "softmax": "maximum and the sum of exponentials",
        "sum": "a sum",
        "max": "a maximum",
        "min": "a minimum",
    }
    kinds = dict.fromkeys(names[s.kind] for s in program.statistics)
    return " and ".join(kinds)


def one_pass_words(program: Program) -> str:
    """The one-pass form of the statistics, by name."""
    kinds = {s.kind for s in program.statistics}
    if "softmax" in kinds:
        return "the online softmax sum (rescaled whenever the maximum rises)"
    if "moments" in kinds:
        return "Welford's running mean and squares, merged by Chan's formula"
    return "a running total"


def exact_words(program: Program) -> str:
    """What a second pass over held values makes exact, by name."""
    kinds = {s.kind for s in program.statistics}
    if "softmax" in kinds:
        return "exponentials about the true maximum"
    if "moments" in kinds:
        return "variance about the true mean"
    return "sums over short trees"
