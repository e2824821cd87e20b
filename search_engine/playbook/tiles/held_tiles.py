"""Tiles that pass through registers: fetched before a stage's products, put after them."""

from __future__ import annotations

from attrs import mutable

from search_engine.playbook import packs
from search_engine.playbook.tiles.copies import PAIRS
from search_engine.playbook.tiles.movers import Mover
from search_engine.playbook.tiles.places import apart


@mutable
class HeldMover(Mover):
    """Loads, widens, computes or weaves elements on their way."""

    def __attrs_post_init__(self) -> None:
        Mover.__attrs_post_init__(self)
        if self.interleaved:
            self.writer.helpers.setdefault(PAIRS, PAIRS)

    def declare(self, indent: str) -> list[str]:
        """Registers that hold a tile on its way."""
        if self.interleaved:
            return [f"{indent}unsigned {self.name}_held[{self._per_thread}][2][{self.vec // 2}];"]
        return [f"{indent}{self.word.type} {self.name}_held[{self._per_thread}][{self._words}];"]

    def fetch(self, tile: str, indent: str) -> list[str]:
        """Lines that load a tile into registers."""
        _, k = self._in_tile()
        inner = indent + "  "
        held = f"{self.name}_held[i]"
        lines = [f"{indent}{{"]
        if self.interleaved:
            return [*lines, *self._fetch_interleaved(tile, k, inner), f"{indent}}}"]
        if self.word.pack == 2:
            return [*lines, *self._fetch_pairs(tile, k, inner), f"{indent}}}"]
        if self.raw and self.vec > 1:
            return [*lines, *self._fetch_vector(tile, k, inner), f"{indent}}}"]
        head, (taken, where) = self._k_lines(tile, k, inner)
        condition, value = self._element_at("i", where, raw=False)
        valid = self._valid("i", "k", condition)
        value = f"{valid} ? {value} : 0" if valid else value
        lines += [*head, *taken, f"{inner}  {held}[0] = {value};"]
        return [*lines, f"{inner}}}", f"{indent}}}"]

    def _fetch_vector(self, tile: str, k: str, inner: str) -> list[str]:
        """One wide load a chunk of elements as they are."""
        helper = packs.load_helper(self.word.dtype, self.vec, False)
        self.writer.helpers[helper] = helper
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        head, (taken, where) = self._k_lines(tile, k, inner)
        condition, offset = self._element_at("i", where, raw=True)
        valid = self._valid("i", "k", condition)
        held = f"{self.name}_held[i]"
        load = f"load_pack({held}, {tensor} + {offset});"
        lines = [*head, *taken]
        if valid:
            lines += [
                f"{inner}  if ({valid}) {{",
                f"{inner}    {load}",
                f"{inner}  }} else {{",
                f"{inner}    for (int v = 0; v < {self.vec}; ++v) {held}[v] = 0;",
                f"{inner}  }}",
            ]
        else:
            lines.append(f"{inner}  {load}")
        return [*lines, f"{inner}}}"]

    def _fetch_pairs(self, tile: str, k: str, inner: str) -> list[str]:
        """A word of two halves, each loaded or computed by itself (or all at once along k)."""
        half = self.word.dtype == "float16"
        held = f"{self.name}_held[i]"
        lines: list[str] = []
        if self.along_k and self.vec > 1:
            head, (taken, where) = self._k_lines(tile, k, inner)
            condition, offset = self._element_at("i", where, raw=True)
            valid = self._valid("i", "k", condition)
            assert self.operand.load is not None
            tensor = self.writer.tensor(self.operand.load.tensor)
            source = f"reinterpret_cast<const unsigned*>({tensor} + {offset})[v]"
            value = f"{valid} ? {source} : 0u" if valid else source
            loop = f"for (int v = 0; v < {self._words}; ++v) {held}[v] = {value};"
            return [*head, *taken, f"{inner}  {loop}", f"{inner}}}"]
        outer: dict[str, str] = {}
        if self.within:
            taken, outer = apart(self.operand.columns, "first_k", inner)
            lines += [f"{inner}const int first_k = {tile} * {self.shape.k};", *taken]
        lines += self._loop(inner)
        body = inner + "  "
        for number in range(2):
            own = self.name + "_k" if self.along_k else k
            base = f"{tile} * {self.shape.k} + {own}"
            name = ("even", "odd")[number]
            ctype = "unsigned" if self.raw else "float"
            lines += [f"{body}{ctype} {name};", f"{body}{{"]
            if self.within:
                taken = []
                last = self.operand.columns[-1].name
                where = {**outer, last: f"{last} + {own}{' + 1' if number else ''}"}
            else:
                lines.append(f"{body}  const int k = {base}{' + 1' if number else ''};")
                taken, where = self._k_where("k", body + "  ")
            condition, value = self._element_at("i", where, raw=self.raw)
            valid = self._valid("i", "k", condition)
            if self.raw:
                assert self.operand.load is not None
                tensor = self.writer.tensor(self.operand.load.tensor)
                value = f"reinterpret_cast<const unsigned short*>({tensor})[{value}]"
            value = f"{valid} ? {value} : 0" if valid else value
            lines += [*taken, f"{body}  {name} = {value};", f"{body}}}"]
        if self.raw:
            lines.append(f"{body}{held}[0] = even | odd << 16;")
        else:
            kind = "__half2" if half else "__nv_bfloat162"
            function = "__floats2half2_rn" if half else "__floats2bfloat162_rn"
            lines += [
                f"{body}const {kind} both = {function}(even, odd);",
                f"{body}{held}[0] = *reinterpret_cast<const unsigned*>(&both);",
            ]
        return [*lines, f"{inner}}}"]

    def _fetch_interleaved(self, tile: str, k: str, inner: str) -> list[str]:
        """The same rows at two neighbouring k's, each in one access."""
        words = self.vec // 2
        kind = {1: "unsigned", 2: "uint2", 4: "uint4"}[words]
        zero = {1: "0u", 2: "make_uint2(0, 0)", 4: "make_uint4(0, 0, 0, 0)"}[words]
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        body = inner + "  "
        lines = self._loop(inner)
        for number in range(2):
            lines += [
                f"{body}{{",
                f"{body}  const int k = {tile} * {self.shape.k} + {k}{' + 1' if number else ''};",
            ]
            taken, where = self._k_where("k", body + "  ")
            condition, offset = self._element_at("i", where, raw=True)
            valid = self._valid("i", "k", condition)
            source = f"*reinterpret_cast<const {kind}*>({tensor} + {offset})"
            value = f"{valid} ? {source} : {zero}" if valid else source
            lines += [*taken, f"{body}  const {kind} raw = {value};"]
            fields = [""] if words == 1 else [f".{c}" for c in "xyzw"[:words]]
            lines += [
                f"{body}  {self.name}_held[i][{number}][{j}] = raw{f};"
                for j, f in enumerate(fields)
            ]
            lines.append(f"{body}}}")
        return [*lines, f"{inner}}}"]

    def put(self, stage: str, indent: str) -> list[str]:
        """Lines that store the registers to a stage."""
        row, k = self._in_tile()
        name, layout = self.name, self.layout
        to = f"{name}_tiles + ({stage}) * {layout.size} + {layout.at(row, self._word_at(k))}"
        lines = [*self._loop(indent)]
        lines.append(f"{indent}  {self.word.type}* to = {to};")
        if self.interleaved:
            lines += [
                f"{indent}  for (int v = 0; v < {self.vec // 2}; ++v) {{",
                f"{indent}    reinterpret_cast<uint2*>(to)[v] = "
                f"pairs({name}_held[i][0][v], {name}_held[i][1][v]);",
                f"{indent}  }}",
            ]
        elif self._words == 4 and self.word.bytes == 4:
            kind = "float4" if self.word.type == "float" else "uint4"
            held = ", ".join(f"{name}_held[i][{v}]" for v in range(4))
            lines.append(f"{indent}  *reinterpret_cast<{kind}*>(to) = make_{kind}({held});")
        else:
            lines.append(
                f"{indent}  for (int v = 0; v < {self._words}; ++v) to[v] = {name}_held[i][v];"
            )
        return [*lines, f"{indent}}}"]
