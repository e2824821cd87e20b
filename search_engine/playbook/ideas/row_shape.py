"""What the row ideas share: when columns are contiguous, the vector that fits, plain facts."""

from __future__ import annotations

import math

from search_engine.playbook import cost, words
from search_engine.playbook.dtypes import is_float
from search_engine.playbook.launch import largest_vector
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode


def has_row_statistics(program: Program) -> bool:
    """Whether there are statistics over columns that lie side by side in memory.

    Not where all operands are shared by rows, as in a matmul: that wants tiles.
    """
    rows = bool(program.statistics) and bool(program.columns) and contiguous(program)
    return rows and not cost.contracts(program)


def holds_floats(program: Program) -> bool:
    """Whether what a kernel keeps of a row is floating, as shared memory's slots are."""
    return is_float(RowCode(program, 1).kept.dtype)


def contiguous(program: Program) -> bool:
    """Whether a row's elements are neighbours in memory wherever rows × columns are read."""
    return program.column_count < 2**31 - 2**20 and program.inner_contiguous


def vector(program: Program) -> int:
    """Elements of a 16-byte access that every row and every merged axis allow."""
    return largest_vector(program, program.inner.size)


def power_of_two(value: int) -> int:
    """The least power of two that is not below the value."""
    return 1 << max(math.ceil(math.log2(max(value, 1))), 0)


def row_words(program: Program) -> str:
    """``4,096 rows of 65,536 elements (256 KB each)``."""
    text = words.size(program.column_count * program.narrowest_item)
    each = " each" if program.row_count > 1 else ""
    rows = words.counted(program.row_count, "row")
    return f"{rows} of {words.counted(program.column_count, 'element')} ({text}{each})"


def there_are(program: Program) -> str:
    """``There are 4,096 rows of 65,536 elements (256 KB each)``."""
    return f"There {'is' if program.row_count == 1 else 'are'} {row_words(program)}"


def statistic_words(program: Program) -> str:
    """What is computed over a row, for people."""
    names = {
        "moments": ("mean", "variance"),
        "softmax": ("maximum", "sum of exponentials"),
        "sum": ("sum",),
        "max": ("maximum",),
        "min": ("minimum",),
        "prod": ("product",),
        "argmax": ("maximum", "its place"),
        "argmin": ("minimum", "its place"),
    }
    return words.listed(list(dict.fromkeys(n for s in program.statistics for n in names[s.kind])))


def are(program: Program, one: str = "is", several: str = "are") -> str:
    """The verb after ``statistic_words``."""
    return several if " and " in statistic_words(program) else one


def one_pass_words(program: Program) -> str:
    """The one-pass form of the statistics, by name."""
    kinds = {s.kind for s in program.statistics}
    if "softmax" in kinds:
        return "the online softmax sum"
    if "moments" in kinds:
        return "Welford's running mean and squares, merged by Chan's formula"
    return "a running " + ("sum" if kinds == {"sum"} else "value of each")


def exact_words(program: Program) -> str:
    """What a second pass over held values makes exact, by name."""
    kinds = {s.kind for s in program.statistics}
    if "softmax" in kinds:
        return "exponentials about the true maximum"
    if "moments" in kinds:
        return "variance about the true mean"
    return "sums and extremes over short trees"
