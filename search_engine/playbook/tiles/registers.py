"""The inner product in the fp32 (or fp64) units: every thread holds a tile of sums in registers."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from search_engine.playbook import packs
from search_engine.playbook.emit import Writer
from search_engine.playbook.tiles.shape import Layout, TileShape

_LANES_M, _LANES_N = 4, 8  # of a warp: 4 x 8 threads read the fewest different words


@frozen
class Registers:
    """``rows × columns`` sums per thread, one fused multiply-add per product."""

    writer: Writer
    shape: TileShape
    left: Layout
    right: Layout
    real: str

    @property
    def rows(self) -> int:
        """Rows of the tile that a thread holds."""
        return self.shape.warp_m // _LANES_M

    @property
    def columns(self) -> int:
        """Columns of the tile that a thread holds."""
        return self.shape.warp_n // _LANES_N

    @property
    def contiguous(self) -> int:
        """Columns that a thread holds side by side."""
        return 1 if self.right.k_inner else 4

    @property
    def sums(self) -> int:
        """Registers of sums."""
        return self.rows * self.columns * (2 if self.real == "double" else 1)

    def declare(self, indent: str) -> list[str]:
        """The thread's place among the others, and its sums."""
        shape = self.shape
        quads_m, quads_n = (1 if self.left.k_inner else 4), (1 if self.right.k_inner else 4)
        return [
            f"{indent}const int lane = threadIdx.x % 32;",
            f"{indent}const int warp = threadIdx.x / 32;",
            f"{indent}const int own_m = (warp / {shape.warps_n} * {_LANES_M} + lane / {_LANES_N})"
            f"{' * 4' if quads_m == 4 else ''};",
            f"{indent}const int own_n = (warp % {shape.warps_n} * {_LANES_N} + lane % {_LANES_N})"
            f"{' * 4' if quads_n == 4 else ''};",
            f"{indent}{self.real} acc[{self.rows}][{self.columns}] = {{}};",
        ]

    def multiply(self, indent: str) -> list[str]:
        """Lines that add a stage's products: ``left`` and ``right`` point to its tiles."""
        deep = 4 if self.left.k_inner or self.right.k_inner else 1
        inner = indent + "  "
        lines = [
            f"#pragma unroll {max(8 // deep, 1)}",
            f"{indent}for (int k = 0; k < {self.shape.k}; k += {deep}) {{",
            f"{inner}{self.real} a[{deep}][{self.rows}], b[{deep}][{self.columns}];",
        ]
        for name, layout, count in (
            ("a", self.left, self.rows),
            ("b", self.right, self.columns),
        ):
            lines += self._fragment(name, layout, count, deep, inner)
        product = "fma(a[q][i], b[q][j], acc[i][j])"
        if self.real == "float":
            product = "fmaf(a[q][i], b[q][j], acc[i][j])"
        lines += [
            "#pragma unroll",
            f"{inner}for (int q = 0; q < {deep}; ++q)",
            "#pragma unroll",
            f"{inner}  for (int i = 0; i < {self.rows}; ++i)",
            "#pragma unroll",
            f"{inner}    for (int j = 0; j < {self.columns}; ++j) acc[i][j] = {product};",
            f"{indent}}}",
        ]
        return lines

    def _fragment(self, name: str, layout: Layout, count: int, deep: int, indent: str) -> list[str]:
        """Loads of four neighbours: along k where a row's words are, else along rows."""
        helper = packs.load_helper("float64" if self.real == "double" else "float32", 4, False)
        self.writer.helpers.setdefault(helper, helper)
        tile = "left" if name == "a" else "right"
        own = "own_m" if name == "a" else "own_n"
        apart = layout.rows // count  # threads along the tile
        lines = ["#pragma unroll"]
        if layout.k_inner:
            at = layout.at(f"{own} + i * {apart}", "k")
            lines += [
                f"{indent}for (int i = 0; i < {count}; ++i) {{",
                f"{indent}  {self.real} four[4];",
                f"{indent}  load_pack(four, {tile} + {at});",
                f"{indent}  for (int q = 0; q < 4; ++q) {name}[q][i] = four[q];",
                f"{indent}}}",
            ]
            return lines
        at = layout.at(f"{own} + i * {apart}", "k + q")
        lines += [
            f"{indent}for (int q = 0; q < {deep}; ++q)",
            "#pragma unroll",
            f"{indent}  for (int i = 0; i < {count}; i += 4) {{",
            f"{indent}    {self.real} four[4];",
            f"{indent}    load_pack(four, {tile} + {at});",
            f"{indent}    for (int v = 0; v < 4; ++v) {name}[q][i + v] = four[v];",
            f"{indent}  }}",
        ]
        return lines

    def finish(self, indent: str) -> list[str]:
        """Nothing is left to add."""
        return []

    def place(self, i: str, j: str) -> tuple[str, str]:
        """C of the tile's row and column that the thread's (i, j) is."""

        def along(own: str, index: str, layout: Layout, count: int) -> str:
            apart = layout.rows // count
            if layout.k_inner:
                return f"{own} + {index} * {apart}"
            return f"{own} + {index} / 4 * {4 * apart} + {index} % 4"

        return (
            along("own_m", i, self.left, self.rows),
            along("own_n", j, self.right, self.columns),
        )

    def value(self, i: str, j: str) -> str:
        """C of the thread's sum (i, j)."""
        return f"acc[{i}][{j}]"


def fits(shape: TileShape, layouts: Sequence[Layout]) -> bool:
    """Whether threads get whole quads where they load four rows at once."""
    counts = (shape.warp_m // _LANES_M, shape.warp_n // _LANES_N)
    whole = shape.warp_m % _LANES_M == 0 and shape.warp_n % _LANES_N == 0
    return whole and all(
        count >= 1 and (layout.k_inner or count % 4 == 0)
        for count, layout in zip(counts, layouts, strict=True)
    )
