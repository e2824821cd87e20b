"""Statistics of a tile of neighbouring rows: an accumulator for each row of a thread.

Warps that share the columns meet in shared memory; each row's merge is one thread's, in a
fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from search_engine.playbook import accumulators
from search_engine.playbook.accumulators import Accumulator
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element, walk_until
from search_engine.playbook.expression import Expression, Inside, Load, Result, Statistic
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode

# Lines for one column, from where it is and how far they are indented.
Inner: TypeAlias = Callable[[dict[str, str], str], list[str]]


@frozen
class Tile:
    """``vec`` neighbouring rows of a lane, ``warps`` that share the columns of a block's rows.

    ``held``: what a thread has of its rows stays in registers between statistics and result;
    else columns are read again, ``unroll`` at once, from the end where ``back``.
    """

    vec: int
    warps: int
    held: bool = False
    unroll: int = 4
    back: bool = False

    @property
    def rows(self) -> int:
        """Rows of a block."""
        return 32 * self.vec

    def steps(self, program: Program) -> int:
        """Columns of a thread."""
        return ceil_div(program.column_count, self.warps)


def meeting_bytes(program: Program, tile: Tile) -> int:
    """Shared memory in which warps meet: an accumulator for every warp, row and statistic."""
    numbers = {"softmax": 4 if tile.held else 3, "moments": 6 if tile.held else 3}
    item = 8 if program.dtype == "float64" else 4
    each = sum(numbers.get(s.kind, 2) for s in program.statistics) * item
    return tile.warps * tile.rows * each if tile.warps > 1 else 0


@frozen
class _Term:
    """One accumulation of a pass: its kind, and the C of what an element ``[k]`` adds."""

    accumulator: Accumulator
    own: str
    value: str


class TiledStatistics:
    """The text of loops over a tile, and of its rows' statistics."""

    def __init__(self, program: Program, tile: Tile) -> None:
        self.tile = tile
        self.code = RowCode(program, tile.vec, along=program.rows[-1].name)
        self.program, self.writer = self.code.program, self.code.writer
        self.exact = program.column_count % tile.warps == 0
        self.k = "[k]" if tile.vec > 1 else ""  # of a variable that each row of a thread has
        self.meetings: list[str] = []
        self.sum_kind = accumulators.sum_kind(tile.steps(program))
        self.terms: dict[Statistic, Element | None] = {}
        self.prologue: Element | None = None
        self.replaced: Expression | None = None  # what a sum of exponentials leaves in its place
        self.where: dict[str, str] = {}

    # --- loops ------------------------------------------------------------------------

    def _columns(self, inside: Inner, again: bool = False) -> list[str]:
        """The loop over this thread's columns with the lines of ``inside(where, indent)``."""
        tile = self.tile
        indent = "    " if self.exact else "      "
        places, columns = self.code.column_places(indent)
        body = inside(self.where | columns, indent)
        text = "\n".join(body)
        places = [line for line in places if line.split(" = ")[0].split()[-1] in text]
        back = again and tile.back and not tile.held
        head = "  for (int p = 0; p < STEPS; ++p) {"
        if back:
            head = "  for (int p = STEPS - 1; p >= 0; --p) {"
        lines = ["  // Backwards: what was read last is still in cache."] if back else []
        lines += ["#pragma unroll" if tile.held else f"#pragma unroll {tile.unroll}", head]
        if any("col" in line for line in (*places, *body)) or not self.exact:
            lines.append("    const int col = p * WARPS + warp;")
        if self.exact:
            return [*lines, *places, *body, "  }"]
        return [*lines, "    if (col < COLS) {", *places, *body, "    }", "  }"]

    def _each(self, statement: str, indent: str) -> list[str]:
        """The statement for each row ``k`` of a thread."""
        if not self.k:
            return [indent + statement]
        return ["#pragma unroll", f"{indent}for (int k = 0; k < VEC; ++k) {statement}"]

    def _variable(self, kind: str, name: str, value: str, indent: str) -> list[str]:
        """Lines that give each row of a thread its own ``name``."""
        if not self.k:
            return [f"{indent}const {kind} {name} = {value};"]
        return [f"{indent}{kind} {name}[VEC];", *self._each(f"{name}[k] = {value};", indent)]

    # --- statistics -------------------------------------------------------------------

    def _fill(self, where: dict[str, str], indent: str) -> list[str]:
        return self.code.fill(self.prologue, where, "kept[p]", indent)

    @property
    def _kept(self) -> str:
        return "kept[p][k]" if self.k else "kept[p][0]"

    def _known(self) -> dict[Expression, str]:
        """Results by their variables of row ``k``."""
        return {
            Result(s, part): name + self.k
            for s in self.code.statistics
            for part, name in self.code.result_names(s).items()
        }

    def _value(self, s: Statistic, where: dict[str, str], indent: str) -> tuple[list[str], str]:
        """Lines that load what the statistic wants of a column, and the C of its term."""
        element = self.terms[s]
        leaves = element.leaves if element else (s.body,)
        kept = self.code.kept if self.tile.held else None
        needed = [n for n in leaves if isinstance(n, (Load, Inside)) and n != kept]
        lines, at = self.writer.load_packs(needed, where, indent)
        known: dict[Expression, str] = {**self._known(), **at}
        if kept is not None:
            known[kept] = self._kept
        return lines, self.writer.call(element, known) if element else known[s.body]

    def _level(self, level: Sequence[Statistic]) -> list[str]:
        if not self.tile.held:
            return self._streamed(level)
        return [line for s in level for line in self._held(s)]

    def _streamed(self, level: Sequence[Statistic]) -> list[str]:
        """One reading for all statistics of a level, each in its one-pass form."""
        numbers = {s: self.code.statistics.index(s) + 1 for s in level}
        lines: list[str] = []
        terms = {s: _Term(self.code.accumulator(s), f"own_{n}", "") for s, n in numbers.items()}
        for s in level:
            lines += self._pilot(s)
            lines += self._declare(terms[s])

        def inside(where: dict[str, str], indent: str) -> list[str]:
            found: dict[str, None] = {}
            for s in level:
                loading, value = self._value(s, where, indent)
                if s.kind == "moments":
                    value += f" - pilot_{numbers[s]}{self.k}"
                found.update((line, None) for line in _joined(loading))
                found.update((line, None) for line in _joined(self._add(terms[s], value, indent)))
            return [line for text in found for line in text.split("\n")]

        lines += self._columns(inside)
        for s in level:
            total = self._meet(terms[s])
            lines += self._barrier_lines(terms[s])
            lines += self._names(
                s, terms[s].accumulator, total, f"pilot_{numbers[s]}" if s.kind == "moments" else ""
            )
        return lines

    def _pilot(self, s: Statistic) -> list[str]:
        """The row's first value, from which moments take their distances."""
        if s.kind != "moments":
            return []
        first = self._of_row({axis.name: "0" for axis in self.program.columns})
        first[""] = f"(row{' + k' if self.k else ''}) * {self.program.column_count}"
        known: dict[Expression, str] = self._known()
        for node in walk_until([s.body], ()):
            if isinstance(node, (Load, Inside)):
                known[node] = self.writer.item(node, first)
        name = f"pilot_{self.code.statistics.index(s) + 1}"
        value = self.writer.expression(s.body, known)
        note = "  // Distances to the row's first value: large means cost no digits."
        return [note, *self._variable(self.code.accumulator(s).value, name, value, "  ")]

    def _held(self, s: Statistic) -> list[str]:
        """The statistic of what is held, by exact passes."""
        number = self.code.statistics.index(s) + 1
        if s.kind == "softmax":
            return self._held_softmax(s, number)
        if s.kind == "moments":
            return self._held_moments(s, number)
        exact = any(Result(s, part) in self.code.exact for part in self.code.result_names(s))
        kind = self.sum_kind if s.kind == "sum" and not exact else s.kind
        term = _Term(self._of_kind(s, kind), f"own_{number}", "")
        lines, (total,) = self._pass(s, [term])
        return [*lines, *self._names(s, term.accumulator, total, "")]

    def _of_kind(self, s: Statistic, kind: str) -> Accumulator:
        return accumulators.of_kind(kind, s.dtype)

    def _held_softmax(self, s: Statistic, number: int) -> list[str]:
        """The largest value first, then the sum of exponentials about it."""
        top, total = (self.code.name(Result(s, part)) for part in ("max", "sum"))
        kind, f = compute_type(s.dtype), self.code.real.suffix
        largest = _Term(self._of_kind(s, "max"), f"own_max_{number}", "")
        lines, (found,) = self._pass(s, [largest])
        lines += self._variable(kind, top, f"{found}.max", "  ")
        summed = _Term(
            self._of_kind(s, self.sum_kind), f"own_sum_{number}", f"exp{f}({{0}} - {top}{self.k})"
        )
        replace = self.replaced is not None and self.terms[s] is None
        more, (found,) = self._pass(s, [summed], replace=replace)
        text = summed.accumulator.results["sum"].format(found)
        return [*lines, *more, *self._variable(kind, total, text, "  ")]

    def _held_moments(self, s: Statistic, number: int) -> list[str]:
        """The mean first, then squares about it, and what rounding left of the sum."""
        names, kind = self.code.result_names(s), compute_type(s.dtype)
        summing = self._of_kind(s, self.sum_kind)
        result, k = summing.results["sum"], self.k
        first, rest = f"first_mean_{number}", f"rest_{number}"
        lines, (total,) = self._pass(s, [_Term(summing, f"own_total_{number}", "")])
        lines += self._variable(kind, first, f"{result.format(total)} / COLS", "  ")
        distance = f"({{0}} - {first}{k})"
        more, (rests, squares) = self._pass(
            s,
            [
                _Term(summing, f"own_rest_{number}", distance),
                _Term(summing, f"own_squares_{number}", f"{distance} * {distance}"),
            ],
        )
        lines += [*more, *self._variable(kind, rest, result.format(rests), "  ")]
        if "mean" in names:
            value = f"{first}{k} + {rest}{k} / COLS"
            lines += self._variable(kind, names["mean"], value, "  ")
        if "m2" in names:
            value = f"{result.format(squares)} - {rest}{k} * ({rest}{k} / COLS)"
            lines += self._variable(kind, names["m2"], value, "  ")
        return lines

    def _pass(
        self, s: Statistic, terms: Sequence[_Term], replace: bool = False
    ) -> tuple[list[str], list[str]]:
        """One pass over what is held: its lines, and the C of each term's total of row ``k``.

        ``replace``: what is held is overwritten by what it adds.
        """
        lines = [line for term in terms for line in self._declare(term)]

        def inside(where: dict[str, str], indent: str) -> list[str]:
            found, value = self._value(s, where, indent)
            for term in terms:
                text = term.value.format(value) if term.value else value
                if replace:
                    found += self._each(f"{self._kept} = {text};", indent)
                    text = self._kept
                found += self._add(term, text, indent)
            return found

        lines += self._columns(inside)
        totals = [self._meet(term) for term in terms]
        lines += self._barrier_lines(*terms)
        return lines, totals

    def _declare(self, term: _Term) -> list[str]:
        kind, identity = term.accumulator.type, term.accumulator.identity
        self.code.define_accumulator(term.accumulator, lanes=1, block=False, size=1)
        if not self.k:
            return [f"  {kind} {term.own} = {identity};"]
        return [f"  {kind} {term.own}[VEC];",
                *self._each(f"{term.own}[k] = {kind}{identity};", "  ")]  # fmt: skip

    def _add(self, term: _Term, value: str, indent: str) -> list[str]:
        column = ", col" if term.accumulator.indexed else ""
        kind, name = term.accumulator.value, f"{term.own}_term"
        if not self.k:
            return [f"{indent}const {kind} {name}[1] = {{{value}}};",
                    f"{indent}add({term.own}, {name}{column});"]  # fmt: skip
        return [
            "#pragma unroll",
            f"{indent}for (int k = 0; k < VEC; ++k) {{",
            f"{indent}  const {kind} {name}[1] = {{{value}}};",
            f"{indent}  add({term.own}[k], {name}{column});",
            f"{indent}}}",
        ]

    # --- meeting ----------------------------------------------------------------------

    def _slot(self) -> str:
        return "[k * 32 + lane]" if self.k else "[lane]"

    def _meet(self, term: _Term) -> str:
        """The C of row ``k``'s total, once the warps have met."""
        name = term.own if self.tile.warps == 1 else self._total(term)
        return name + self.k

    @staticmethod
    def _total(term: _Term) -> str:
        return "all" + term.own.removeprefix("own")

    @staticmethod
    def _meeting(term: _Term) -> str:
        return "meet" + term.own.removeprefix("own")

    def _barrier_lines(self, *terms: _Term) -> list[str]:
        """Every warp lays down what it has; each row's merge is one thread's."""
        if self.tile.warps == 1:
            return []
        lines: list[str] = []
        for term in terms:
            name = self._meeting(term)
            size = "32 * VEC" if self.k else "32"
            self.meetings.append(f"  __shared__ {term.accumulator.type} {name}[WARPS][{size}];")
            lines += self._each(f"{name}[warp]{self._slot()} = {term.own}{self.k};", "  ")
        lines += [
            "  __syncthreads();",
            f"  for (int r = threadIdx.x; r < {self.tile.rows}; r += WARPS * 32) {{",
        ]
        for term in terms:
            name = self._meeting(term)
            total = f"{self._total(term)}_of_row"
            lines += [
                f"    {term.accumulator.type} {total} = {name}[0][r];",
                "#pragma unroll",
                f"    for (int w = 1; w < WARPS; ++w) {total} = merge({total}, {name}[w][r]);",
                f"    {name}[0][r] = {total};",
            ]
        lines += ["  }", "  __syncthreads();"]
        for term in terms:
            total = f"{self._meeting(term)}[0]{self._slot()}"
            lines += self._variable(term.accumulator.type, self._total(term), total, "  ")
        return lines

    def _names(self, s: Statistic, accumulator: Accumulator, total: str, pilot: str) -> list[str]:
        lines = []
        for part, name in self.code.result_names(s).items():
            result = Result(s, part)
            value = self.code.result_text(result, accumulator, total)
            if pilot and part == "mean":
                value = f"{pilot}{self.k} + {value}"
            lines += self._variable(self.code.result_type(result), name, value, "  ")
        return lines

    def _of_row(self, more: Mapping[str, str]) -> dict[str, str]:
        """Places of the thread's k-th row."""
        where = {**self.where, **more}
        if self.k:
            axis = self.writer.pack_axis
            where[axis] = f"({self.where[axis]} + k)" if axis in self.where else "(row + k)"
        return where


def _joined(lines: Sequence[str]) -> list[str]:
    """Lines as blocks that can be compared: a pragma and what it is about belong together."""
    blocks: list[str] = []
    depth = 0
    for line in lines:
        if blocks and (depth > 0 or blocks[-1].endswith("unroll")):
            blocks[-1] += "\n" + line
        else:
            blocks.append(line)
        depth += line.count("{") - line.count("}")
    return blocks
