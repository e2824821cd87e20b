"""Statistics of a row that is held on chip: exact passes over what a thread has, then merges."""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.playbook import accumulators
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import Result, Statistic
from search_engine.playbook.held_packs import HeldPacks
from search_engine.playbook.names import unused


class HeldStatistics:
    """The text of the statistics, one after the other.

    ``replaces``: what is held is overwritten by its exponential, which is all that follows
    needs of it. ``partials`` are the shared arrays in which warps meet, and their structs.
    """

    def __init__(self, packs: HeldPacks, *, replaces: bool) -> None:
        self.packs, self.plan, self.code = packs, packs.plan, packs.code
        self.replaces = replaces
        self.sum_kind = accumulators.sum_kind(
            (self.plan.registers + self.plan.shared) * self.plan.vec
        )
        self.partials: dict[str, str] = {}
        self._local_names: list[str] = []

    def lines(
        self, s: Statistic, term: Element | None, where: dict[str, str], indent: str
    ) -> list[str]:
        """Lines that give the statistic's results their names; ``term``: what an element adds."""
        setup, value = self._term(term, where, indent + "  ")
        if s.kind == "moments":
            return self._moments(s, setup, value, indent)
        if s.kind == "softmax":
            return self._softmax(s, setup, value, indent, replaces=term is None)
        number = self.code.statistics.index(s) + 1
        own, total = self._locals(f"own_{number}", f"all_{number}")
        parts = {Result(s, part): name for part, name in self.code.result_names(s).items()}
        plain = s.kind == "sum" and not self.code.exact & parts.keys()
        kind = self.sum_kind if plain else s.kind
        lines = self._pass([(kind, own, value, total)], s.dtype, indent, setup)
        accumulator = accumulators.of_kind(kind, s.dtype)
        for result, name in parts.items():
            text = self.code.result_text(result, accumulator, total)
            lines.append(f"{indent}const {self.code.result_type(result)} {name} = {text};")
        return lines

    def _pass(
        self,
        terms: list[tuple[str, str, str, str]],
        dtype: str,
        indent: str,
        setup: list[str],
        before: Sequence[str] = (),
        write_back: bool = False,
    ) -> list[str]:
        """One pass over what is held: (kind, accumulator, C of an element ``@[k]``, its total).

        ``before``: statements that a pack starts with; ``write_back``: they change it.
        """
        head, body, tail = [], list(before), []
        for kind, own, value, total in terms:
            accumulator = accumulators.of_kind(kind, dtype)
            lanes = min(self.plan.lanes, 32)
            self.code.define_accumulator(accumulator, lanes=lanes, block=self.plan.is_block)
            column = ", col" if accumulator.indexed else ""
            head.append(f"{indent}{accumulator.type} {own} = {accumulator.identity};")
            if value == "@[k]":
                body.append(f"add({own}, @{column});")
            else:
                (array,) = self._locals(f"{own}_terms")
                body += [
                    f"{accumulator.value} {array}[{self.packs.width}];",
                    self.packs.each_element(f"{array}[k] = {value};"),
                    f"add({own}, {array}{column});",
                ]
            merged = f"warp_merge({own})" if lanes > 1 else own
            if self.plan.is_block:
                partial = f"partial_{accumulator.type.lower()}"
                self.partials[partial] = accumulator.type
                merged = f"block_merge({own}, {partial})"
            tail.append(f"{indent}const {accumulator.type} {total} = {merged};")
        return [*head, *self.packs.each(body, indent, setup, write_back), *tail]

    def _locals(self, *wishes: str) -> list[str]:
        """Variables of one statistic, different from every other's and from all parameters."""
        writer = self.code.writer
        taken = {writer.tensor(access.tensor) for access in self.code.program.loads}
        taken |= {writer.tensor(access.tensor) for access in self.code.program.stores}
        taken |= {*writer.names.values(), *self._local_names}
        names = [unused(wish, taken) for wish in wishes]
        self._local_names += names
        return names

    def _term(
        self, term: Element | None, where: dict[str, str], indent: str
    ) -> tuple[list[str], str]:
        """Lines before, and the C of, a statistic's term of the held element ``@[k]``."""
        if term is None:
            return [], "@[k]"
        places, columns = self.code.column_places(indent)
        others = [load for load in term.loads if load != self.code.kept]
        lines, at = self.code.writer.load_packs(others, where | columns, indent)
        for leaf in term.leaves:
            if isinstance(leaf, Result):
                at[leaf] = self.code.name(leaf)
        at[self.code.kept] = "@[k]"
        return ([*places, *lines] if lines else []), self.code.writer.call(term, at)

    def _moments(self, s: Statistic, setup: list[str], value: str, indent: str) -> list[str]:
        names, real = self.code.result_names(s), compute_type(s.dtype)
        own_total, total, first_mean, own_rest, own_squares, rests, squares, rest, d = self._locals(
            "own_total", "all_total", "first_mean", "own_rest", "own_squares", "all_rest",
            "all_squares", "rest", "distance",
        )  # fmt: skip
        result = accumulators.of_kind(self.sum_kind, s.dtype).results["sum"]
        before = [
            f"{real} {d}[{self.packs.width}];",
            self.packs.each_element(f"{d}[k] = {value} - {first_mean};"),
        ]
        lines = [
            *self._pass([(self.sum_kind, own_total, value, total)], s.dtype, indent, setup),
            f"{indent}const {real} {first_mean} = {result.format(total)} / COLS;",
            f"{indent}// Second pass, about the mean: no digits cancel. What is left over of the",
            f"{indent}// sum mends the mean's own rounding (Chan, Golub and LeVeque).",
            *self._pass(
                [
                    (self.sum_kind, own_rest, f"{d}[k]", rests),
                    (self.sum_kind, own_squares, f"{d}[k] * {d}[k]", squares),
                ],
                s.dtype, indent, setup, before,
            ),
            f"{indent}const {real} {rest} = {result.format(rests)};",
        ]  # fmt: skip
        if "mean" in names:
            lines.append(f"{indent}const {real} {names['mean']} = {first_mean} + {rest} / COLS;")
        if "m2" in names:
            text = f"{result.format(squares)} - {rest} * ({rest} / COLS)"
            lines.append(f"{indent}const {real} {names['m2']} = {text};")
        return lines

    def _softmax(
        self, s: Statistic, setup: list[str], value: str, indent: str, replaces: bool
    ) -> list[str]:
        real, f = compute_type(s.dtype), self.code.real.suffix
        top, total = (self.code.name(Result(s, part)) for part in ("max", "sum"))
        own_max, own_sum, all_max, all_sum = self._locals(
            "own_max", "own_sum", "all_max", "all_sum"
        )
        exp = f"exp{f}({value} - {top})"
        replace = replaces and self.replaces
        result = accumulators.of_kind(self.sum_kind, s.dtype).results["sum"]
        before = [self.packs.each_element(f"@[k] = {exp};")] if replace else []
        term = "@[k]" if replace else exp
        return [
            *self._pass([("max", own_max, value, all_max)], s.dtype, indent, setup),
            f"{indent}const {real} {top} = {all_max}.max;",
            *self._pass(
                [(self.sum_kind, own_sum, term, all_sum)], s.dtype, indent, setup, before, replace
            ),
            f"{indent}const {real} {total} = {result.format(all_sum)};",
        ]
