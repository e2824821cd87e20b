"""Kernels for rows whose elements lie apart: a block takes a tile of neighbouring rows.

Lanes run over rows, VEC neighbouring rows each, so that accesses coalesce in packs; the warps
of a block share the columns. The tile is either held on chip between statistics and result,
or read again.
"""

from __future__ import annotations

from search_engine.contract.printer import launch_line
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import walk_until
from search_engine.playbook.expression import Expression, Inside, Load
from search_engine.playbook.launch import rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part
from search_engine.playbook.tiled_statistics import Tile, TiledStatistics, meeting_bytes


class TiledRows(TiledStatistics):
    """Writes one kernel file."""

    def __init__(self, program: Program, tile: Tile, function: str, comment: str) -> None:
        super().__init__(program, tile)
        self.function, self.comment = function, comment

    def text(self) -> Part:
        """The kernel in parts."""
        code, writer, tile = self.code, self.writer, self.tile
        exponential = code.exponential() if tile.held else None
        if exponential is not None:
            writer.names[exponential] = "exponential"
        self.replaced = exponential
        self.prologue = code.prologue() if tile.held else None
        held = (exponential or code.kept) if tile.held and code.full else None
        kept = code.kept if tile.held else None
        self.terms = {
            s: None if not tile.held and isinstance(s.body, Load) else code.body_element(s, kept)
            for s in code.statistics
        }
        self.epilogue = code.epilogue(held)
        self.held_at_end = held
        self._constants()
        tensors = writer.parameters(self.program.loads, self.program.stores)
        count = rows(self.program)
        body = self._body()
        writer.lines.append(
            launch_line(
                self.function,
                f"ceil_div({count}, {tile.rows})",
                32 * tile.warps,
                [*(name for _, name in tensors), count],
            )
        )
        head = wrapped(
            f'extern "C" __global__ void __launch_bounds__(WARPS * 32) {self.function}(',
            [*(d for d, _ in tensors), f"const {code.index} rows"],
            ") {",
        )
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(self.comment)

    def _constants(self) -> None:
        tile, writer = self.tile, self.writer
        writer.constant("COLS", self.program.column_count, "elements of a row")
        writer.constant("WARPS", tile.warps, f"of a block, sharing the columns of {tile.rows} rows")
        if tile.vec > 1:
            writer.constant("VEC", tile.vec, "neighbouring rows that a thread moves in one access")
        steps = "of a row per thread, in registers" if tile.held else "of a row per thread"
        writer.constant("STEPS", tile.steps(self.program), f"elements {steps}")

    def _body(self) -> list[str]:
        code, tile = self.code, self.tile
        index = code.index
        wide = f"({index})" if index != "int" else ""
        unit = " * VEC" if tile.vec > 1 else ""
        own = f"({wide}blockIdx.x * 32 + lane){unit}" if unit else f"{wide}blockIdx.x * 32 + lane"
        places, self.where = code.row_places("  ")
        lines = [
            "  const int lane = threadIdx.x % 32;",
            "  const int warp = threadIdx.x / 32;",
            f"  const {index} own_row = {own};",
            "  // Every warp meets at the barriers: lanes past the end repeat the last rows.",
            "  const bool active = own_row < rows;",
            f"  const {index} row = active ? own_row : rows - {'VEC' if unit else '1'};",
            *places,
        ]
        if tile.held:
            size = "VEC" if tile.vec > 1 else "1"
            lines.append(f"  {code.kept_type} kept[STEPS][{size}];")
            lines += self._columns(self._fill)
        for level in code.levels():
            lines += self._level(level)
        lines[:0] = self.meetings
        lines += self._row_values()
        if code.per_row:
            warp = "active && warp == 0" if tile.warps > 1 else "active"
            lines += [f"  if ({warp}) {{", *self._per_row(), "  }"]
        if self.epilogue is not None:
            lines.append("  if (!active) return;")
            lines += self._columns(self._finish, again=True)
        return lines

    # --- results ----------------------------------------------------------------------

    def _row_values(self) -> list[str]:
        lines: list[str] = []
        known: dict[Expression, str] = self._known()
        for value in self.code.row_values:
            for node in walk_until([value], known):
                if isinstance(node, (Load, Inside)):
                    known[node] = self.writer.item(node, self._of_row({}))
            text = self.writer.expression(value, known)
            name = self.code.name(value)
            lines += self._variable(compute_type(value.dtype), name, text, "  ")
            known[value] = name + self.k
        return lines

    def _at_hand(self) -> dict[Expression, str]:
        """Results and row values by their variables of row ``k``."""
        values: dict[Expression, str] = {
            value: self.code.name(value) + self.k for value in self.code.row_values
        }
        return {**self._known(), **values}

    def _per_row(self) -> list[str]:
        lines = []
        for number, store in enumerate(self.code.per_row, 1):
            value = self.code.row_result(store, self._at_hand(), self._of_row({}))
            if self.k:
                name = f"result_{number}"
                lines += self._variable(compute_type(store.dtype), name, value, "    ")
                value = name
            lines.append(self.writer.store_pack(store, self.where, value, "    "))
        return lines

    def _finish(self, where: dict[str, str], indent: str) -> list[str]:
        element = self.epilogue
        assert element is not None
        at = self._at_hand()
        if self.held_at_end is not None:
            at[self.held_at_end] = self._kept
        missing = [load for load in element.loads if load not in at]
        lines, loaded = self.writer.load_packs(missing, where, indent)
        stored = self.writer.compute_and_store(element, at | loaded, self.code.full, where, indent)
        return [*lines, *stored]


__all__ = ["Tile", "TiledRows", "meeting_bytes"]
