"""Indices into an operand, split in what a row gives and what a k gives.

A thread works out its rows once, before the loop over k; in the loop only the k part is new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from search_engine.playbook.program import Axis


def apart(
    axes: Sequence[Axis], index: str, indent: str, ctype: str = "int"
) -> tuple[list[str], dict[str, str]]:
    """Lines that take a flat index apart into the axes' own, and the C name of each.

    The outermost axis takes what is left over: its size may be known at run time only.
    """
    if len(axes) == 1:
        return [], {axes[0].name: index}
    lines, inner = [], 1
    where: dict[str, str] = {}
    for position, axis in reversed(list(enumerate(axes))):
        value = index if inner == 1 else f"{index} / {inner}"
        if position:
            value += f" % {axis.size}"
        lines.append(f"{indent}const {ctype} {axis.name} = {value};")
        where[axis.name] = axis.name
        inner *= axis.size
    return lines, where


def used(taken: Sequence[str], lines: Iterable[str]) -> list[str]:
    """Those of ``apart``'s lines whose names the other lines use."""
    words = set(re.findall(r"\w+", "\n".join(lines)))
    return [line for line in taken if line.split(" = ")[0].split()[-1] in words]


def total(terms: Iterable[tuple[str, int]], where: Mapping[str, str], constant: int = 0) -> str:
    """``i0 * 4096 + i1 - 2``: the part of an index that the axes in ``where`` give."""
    parts = []
    for axis, factor in terms:
        if axis not in where:
            continue
        at = where[axis]
        at = f"({at})" if not at.replace("_", "").isalnum() and factor != 1 else at
        parts.append(at if factor == 1 else f"{at} * {factor}")
    text = " + ".join(parts)
    if not text:
        return str(constant)
    if constant:
        text += f" {'-' if constant < 0 else '+'} {abs(constant)}"
    return text
