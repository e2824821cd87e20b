"""Which way an operand's layout in memory lets neighbouring lanes run, and how much at once."""

from __future__ import annotations

import math

from attrs import frozen

from search_engine.playbook.contraction import Operand
from search_engine.playbook.dtypes import item_bytes
from search_engine.playbook.expression import Load, loads


@frozen
class Access:
    """What an operand's layout in memory allows: which way lanes run, neighbours at once."""

    along_k: bool
    vec: int


# Lanes along rows as far apart as this still share the sectors that they fetch between them.
_NEAR = 8


def access(operand: Operand) -> Access:
    """The widest aligned access along the contiguous axis; single elements where there is none.

    Windows (several axes along k) go along rows: then a warp shares the tap and its bounds.
    """
    main = max(operand.leaves, key=lambda leaf: len(leaf.axes))
    if not isinstance(main, Load):
        main = max(loads(operand.value), key=lambda load: len(load.strides))
    inner_k, inner_row = operand.columns[-1], operand.rows[-1] if operand.rows else None
    step_k = abs(main.stride(inner_k.name)) or 2**62
    step_row = (abs(main.stride(inner_row.name)) if inner_row is not None else 0) or 2**62
    along_k = step_k <= step_row
    if len(operand.columns) > 1 and step_row <= _NEAR:
        along_k = False
    inner = inner_k if along_k else inner_row
    assert inner is not None
    if operand.load is None or (step_k if along_k else step_row) != 1:
        return Access(along_k, 1)
    if any(bound.factor(inner.name) for bound in main.bounds):
        return Access(along_k, 1)
    fit = math.gcd(inner.size, main.offset, *(s for axis, s in main.strides if axis != inner.name))
    return Access(along_k, math.gcd(fit, 16 // item_bytes(main.dtype)))
