"""What every row kernel shares: where a row and its columns lie, prologue, row values, epilogue.

A row kernel computes ``kept`` (the prologue: what the statistics are of), the statistics, the
row values (what depends on the row alone, such as 1/σ), and the epilogue element by element.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from search_engine.playbook import accumulators
from search_engine.playbook.cancellation import cancels, in_double
from search_engine.playbook.dtypes import Arithmetic, arithmetic, compute_type
from search_engine.playbook.emit import Element, Writer, walk_until
from search_engine.playbook.expression import (
    Apply,
    Expression,
    Inside,
    Load,
    Result,
    Statistic,
    loads,
    statistics,
    walk,
)
from search_engine.playbook.hoist import hoisted
from search_engine.playbook.launch import count_type
from search_engine.playbook.program import Axis, Program, Store


class RowCode:
    """The graph-dependent text of a row kernel, for packs of ``vec``.

    Packs lie along the columns, or ``along`` another axis.
    """

    def __init__(
        self, program: Program, vec: int, *, streaming: bool = False, along: str = ""
    ) -> None:
        delicate = [not program.full(store) and cancels(store.value) for store in program.stores]
        values, constants = hoisted(program, program.values)
        if any(delicate):
            kept = zip(program.values, delicate, strict=True)
            _, constants = hoisted(program, [value for value, fine in kept if not fine])
            values = [
                old if fine else new
                for old, new, fine in zip(program.values, values, delicate, strict=True)
            ]
        stores = tuple(
            evolve(store, value=value) for store, value in zip(program.stores, values, strict=True)
        )
        self.program = evolve(program, stores=stores)
        self.writer = Writer(self.program, vec=vec, streaming=streaming, along=along)
        self.vec = vec
        self.statistics: tuple[Statistic, ...] = statistics(*values)
        self.kept: Expression = self._worth_keeping()
        self.row_values = [value for value in constants if not isinstance(value, Result)]
        self.full = [s for s in stores if self.program.full(s)]
        self.per_row = [s for s in stores if not self.program.full(s)]
        self.delicate = [s.value for s, fine in zip(stores, delicate, strict=True) if fine]
        self.exact: set[Expression] = {
            node for node in walk(*self.delicate) if isinstance(node, Result)
        }
        self.real: Arithmetic = arithmetic(program.dtype)
        self.index = count_type(program)

    def _worth_keeping(self) -> Expression:
        """The largest part of the first statistic's body that the epilogue reads too.

        LayerNorm's and softmax's is the body itself; RMSNorm sums squares but scales x.
        """
        if not self.statistics:
            return self.program.values[0]
        body = self.statistics[0].body
        later = set(walk_until([store.value for store in self.program.stores], ()))
        later |= set(walk_until([s.body for s in self.statistics[1:]], ()))
        shared = [node for node in walk_until([body], ()) if node in later]
        columns = [node for node in shared if self.program.reads_columns(node)]
        return columns[-1] if columns else body

    # --- places -----------------------------------------------------------------------

    def row_places(self, indent: str, row: str = "row") -> tuple[list[str], dict[str, str]]:
        """Lines that take the row apart into its axes, and each axis's C expression."""
        return self._apart(self.program.rows, row, indent, self.index, runtime=True)

    def column_places(self, indent: str, col: str = "col") -> tuple[list[str], dict[str, str]]:
        """The same for the column, plus the whole index for row-major accesses."""
        lines, where = self._apart(self.program.columns, col, indent, "int", runtime=False)
        where[""] = f"row * {self.program.column_count} + {col}"
        return lines, where

    def _apart(
        self, axes: Sequence[Axis], name: str, indent: str, kind: str, *, runtime: bool
    ) -> tuple[list[str], dict[str, str]]:
        if len(axes) == 1:
            return [], {axes[0].name: name}
        lines: list[str] = []
        where: dict[str, str] = {}
        inner = 1
        for position, axis in reversed(list(enumerate(axes))):
            if self.writer.taken_apart(axis.name):
                value = name if inner == 1 else f"{name} / {inner}"
                if position or not runtime:
                    value += f" % {axis.size}" if position else ""
                lines.append(f"{indent}const {kind} {axis.name} = {value};")
                where[axis.name] = axis.name
            inner *= axis.size
        return lines, where

    # --- prologue ---------------------------------------------------------------------

    @property
    def kept_type(self) -> str:
        """The C type of a kept value."""
        return compute_type(self.kept.dtype)

    @property
    def kept_is_load(self) -> Load | None:
        """The load, where what is kept is a tensor's own element and not computed."""
        return self.kept if isinstance(self.kept, Load) else None

    def prologue(self) -> Element | None:
        """The element function of what is kept; None where it is a plain load."""
        if self.kept_is_load is not None:
            return None
        comment = "What the statistics are of, for one element."
        return self.writer.element("prologue", comment, [("value", self.kept_type, self.kept)], ())

    def fill(
        self, element: Element | None, where: dict[str, str], target: str, indent: str
    ) -> list[str]:
        """Lines that compute a pack of kept values into the array ``target``."""
        load = self.kept_is_load
        if load is not None:
            lines, at = self.writer.load_packs([load], where, indent)
            source = at[load]
            if lines and "_v[VEC];" in lines[0] and compute_type(load.dtype) == self.kept_type:
                # Straight into the target: no copy to read past.
                name = source.removesuffix("[k]")
                return [line.replace(name, target) for line in lines[1:]]
            step = f"{indent}for (int k = 0; k < VEC; ++k) " if self.vec > 1 else indent
            slot = f"{target}[k]" if self.vec > 1 else f"{target}[0]"
            return [*lines, f"{step}{slot} = {source};"]
        assert element is not None
        lines, at = self.writer.load_packs(element.loads, where, indent)
        call = self.writer.call(element, at)
        if self.vec == 1:
            return [*lines, f"{indent}{target}[0] = {call};"]
        return [*lines, "#pragma unroll",
                f"{indent}for (int k = 0; k < VEC; ++k) {target}[k] = {call};"]  # fmt: skip

    # --- row values and epilogue ------------------------------------------------------

    def name(self, value: Expression) -> str:
        """The C name of a result or a row value."""
        name = self.writer.leaf_name(value)
        # A tensor's own name is that of its pointer.
        return f"{name}_of_row" if isinstance(value, Load) else name

    def result_names(self, statistic: Statistic) -> dict[str, str]:
        """The C name of each part of the statistic that anything uses."""
        roots = [*(s.body for s in self.statistics), *(s.value for s in self.program.stores)]
        used = {
            node.part
            for root in roots
            for node in walk_until([root], ())
            if isinstance(node, Result) and node.statistic == statistic
        }
        return {part: self.name(Result(statistic, part)) for part in sorted(used)}

    def row_value_lines(self, where: dict[str, str], indent: str) -> list[str]:
        """``const float rstd = …;`` for each row value; results must have their names."""
        lines = []
        for value in self.row_values:
            known: dict[Expression, str] = {}
            for node in walk_until([value], ()):
                if isinstance(node, Result):
                    known[node] = self.name(node)
                elif isinstance(node, (Load, Inside)):
                    known[node] = self.writer.item(node, where)
            for other in self.row_values:
                if other is value:
                    break
                known[other] = self.name(other)
            text = self.writer.expression(value, known)
            kind = compute_type(value.dtype)
            lines.append(f"{indent}const {kind} {self.name(value)} = {text};")
        return lines

    def body_element(self, statistic: Statistic, held: Expression | None) -> Element | None:
        """The element function of a statistic's body from what is held; None: it is that."""
        if statistic.body == held:
            return None
        number = self.statistics.index(statistic) + 1
        results: list[Expression] = [
            Result(s, p) for s in self.statistics for p in self.result_names(s)
        ]
        return self.writer.element(
            f"term{number}",
            "What one element adds to a statistic.",
            [("value", self.accumulator(statistic).value, statistic.body)],
            results if held is None else [held, *results],
        )

    def epilogue(self, held: Expression | None) -> Element | None:
        """The element function from the held value, row values and loads to the outputs."""
        if not self.full:
            return None
        outputs = [
            (self.writer.tensor(s.tensor) + "_new", compute_type(s.dtype), s.value)
            for s in self.full
        ]
        known: list[Expression] = list(self.row_values)
        if held is not None:
            known.append(held)
        return self.writer.element("epilogue", "One element of the result.", outputs, known)

    def finish(
        self, element: Element, held: dict[Expression, str], where: dict[str, str], indent: str
    ) -> list[str]:
        """Lines that load what else the epilogue needs, compute and store one pack."""
        at = dict(held)
        for leaf in element.leaves:
            if leaf in self.row_values or isinstance(leaf, Result):
                at[leaf] = self.name(leaf)
        missing = [load for load in element.loads if load not in at]
        lines, loaded = self.writer.load_packs(missing, where, indent)
        stores = self.full
        return [
            *lines,
            *self.writer.compute_and_store(element, at | loaded, stores, where, indent),
        ]

    def per_row_lines(self, where: dict[str, str], indent: str) -> list[str]:
        """Lines that store outputs of one element per row (for one thread of the row)."""
        single = self.writer.elementwise()
        lines = []
        for store in self.per_row:
            known: dict[Expression, str] = {v: self.name(v) for v in self.row_values}
            for node in walk_until([store.value], known):
                if isinstance(node, Result):
                    known[node] = self.name(node)
            value = self.row_result(store, known, where)
            lines.append(single.store_pack(store, where, value, indent))
        return lines

    @property
    def row_sources(self) -> list[Expression]:
        """What depends on the row alone: row values, and results that are taken in double."""
        return [*self.row_values, *self.delicate]

    def row_result(self, store: Store, known: dict[Expression, str], where: dict[str, str]) -> str:
        """The C of an output of one element per row, in double where digits cancel."""
        if store.value not in self.delicate:
            return self.writer.expression(store.value, known)
        at = dict(known)
        for node in walk_until([store.value], at):
            if isinstance(node, (Load, Inside)):
                at[node] = self.writer.item(node, where)
        return self.writer.expression(in_double(store.value), at)

    def result_type(self, result: Result) -> str:
        """The C type of a statistic's number: double where a difference needs all its digits."""
        kind = compute_type(result.dtype)
        return "double" if result in self.exact and kind == "float" else kind

    def result_text(self, result: Result, a: accumulators.Accumulator, total: str) -> str:
        """The C of a statistic's number from the accumulator ``total``."""
        text = a.results[result.part].format(total)
        if self.result_type(result) == "double" and result.part == "sum":
            text = text.replace(f"? {total}.sum", f"? double({total}.sum)")
        return text.removeprefix("(").removesuffix(")") if text.startswith("(") else text

    def exponential(self) -> Apply | None:
        """exp(kept − max), where all that follows needs of ``kept`` is that.

        Then the row on chip is overwritten by it and no exponential is computed twice.
        """
        if len(self.statistics) != 1 or self.statistics[0].kind != "softmax":
            return None
        roots = [store.value for store in self.full]
        for node in walk_until(roots, ()):
            if isinstance(node, Apply) and node.op == "exp" and self._is_shifted(node.args[0]):
                rest = walk_until(roots, [node])
                covered = self.kept in rest or bool(set(loads(self.kept)) & set(rest))
                return None if covered else node
        return None

    def _is_shifted(self, node: Expression) -> bool:
        top = Result(self.statistics[0], "max")
        return isinstance(node, Apply) and node.op == "sub" and node.args == (self.kept, top)

    # --- one-pass statistics ----------------------------------------------------------

    def define_accumulators(self, *, team: bool) -> None:
        """Structs, merges and adds of the program's statistics; over warps and blocks too."""
        for statistic in self.statistics:
            self.define_accumulator(
                self.accumulator(statistic), lanes=32 if team else 1, block=team
            )

    def define_accumulator(
        self, accumulator: accumulators.Accumulator, *, lanes: int, block: bool, size: int = 0
    ) -> None:
        """Struct, merge and add of packs (of ``size``, where it is not ``vec``).

        ``lanes`` > 1: with ``warp_merge`` over so many; ``block``: with ``block_merge``.
        """
        texts = accumulators.definition(accumulator, size or self.vec)
        if lanes > 1:
            texts.append(accumulators.team_merge(accumulator, lanes))
        if block:
            texts.append(accumulators.block_merge(accumulator))
        self.writer.helpers.update((text, text) for text in texts)

    def accumulator(self, statistic: Statistic) -> accumulators.Accumulator:
        """The statistic's struct."""
        return accumulators.accumulator(statistic)

    def levels(self) -> list[list[Statistic]]:
        """Statistics that one pass can compute together, pass by pass."""
        depth: dict[Statistic, int] = {}
        for s in self.statistics:
            before = [depth[n.statistic] for n in walk_until([s.body], ()) if isinstance(n, Result)]
            depth[s] = 1 + max(before, default=0)
        deepest = max(depth.values())
        return [[s for s in self.statistics if depth[s] == d] for d in range(1, deepest + 1)]
