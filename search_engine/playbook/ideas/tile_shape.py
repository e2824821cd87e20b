"""What ideas for rows that lie apart share: when rows do, packs across them, what coalesces."""

from __future__ import annotations

import math

from search_engine.hardware import DeviceFacts
from search_engine.playbook.expression import Load
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.program import Program, Store
from search_engine.playbook.tiled_rows import Tile

STATIC_SHARED = 48 * 1024  # bytes that a block may have without asking for more


def rows_apart(program: Program) -> bool:
    """Whether there are statistics over columns that are not neighbours in memory."""
    return (
        bool(program.statistics)
        and bool(program.columns)
        and program.column_count < 2**31 - 2**20
        and not row_shape.contiguous(program)
    )


def row_vector(program: Program) -> int:
    """Neighbouring rows of a 16-byte access that divide the innermost rows; 1: none are."""
    if not program.rows or scattered(program):
        return 1
    return math.gcd(program.rows[-1].size, max(16 // program.narrowest_item, 1))


def scattered(program: Program) -> list[str]:
    """Tensors of rows × columns in which neighbouring rows are not neighbours in memory."""
    inner = program.rows[-1].name if program.rows else ""
    accesses: list[Load | Store] = [load for load in program.loads if program.streamed(load)]
    accesses += [store for store in program.stores if program.full(store)]
    return [access.tensor for access in accesses if access.stride(inner) != 1]


def coalescing(program: Program) -> str:
    """What becomes of accesses when lanes run over rows, for a kernel's comment."""
    if scattered(program):
        return "of some tensors coalesce, those of others do not"
    return "coalesce although a row's own elements lie apart"


def tile_efficiency(program: Program, tile: Tile, facts: DeviceFacts) -> float:
    """Share of the copy bandwidth that packs across rows reach."""
    wide = min(tile.vec * program.narrowest_item, 16)
    return {16: 0.92, 8: 0.9, 4: 0.82}.get(wide, 0.75)
