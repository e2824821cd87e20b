"""The inner product in the tensor cores, by ``mma.sync`` with fp32 sums.

fp32 as three TF32 products: x = big + small, each rounded to TF32's 11 bits, and
a · b ≈ small·big + big·small + big·big. Tensor cores round sums towards zero, which adds up over
a long k; so the big products of 8 k's are summed there and then added in the fp32 units
(Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing
the FP32 theoretical peak performance", 2022).
"""

from __future__ import annotations

from attrs import frozen

from search_engine.playbook.emit import Writer
from search_engine.playbook.tiles.shape import Layout, TileShape, Word

_INSTRUCTIONS = {
    "float32": "m16n8k8.row.col.f32.tf32.tf32.f32",
    "float16": "m16n8k16.row.col.f32.f16.f16.f32",
    "bfloat16": "m16n8k16.row.col.f32.bf16.bf16.f32",
}

_MMA = """\
// d = a · b + c for 16 x 8 sums of a warp: each lane has rows lane / 4 and that + 8 of a, column
// lane / 4 of b, words lane % 4 and that + 4 along k.
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                    const float (&c)[4]) {{
  asm volatile("mma.sync.aligned.{instruction} "
               "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%10, %11, %12, %13}};"
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),
                 "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}}"""

_FOUR = """\
// Four 8 x 4 pieces of words: lanes 8 i to 8 i + 7 point to the rows of piece i; lane l gets word
// l % 4 of row l / 4 of each.
__device__ __forceinline__ void load_four(unsigned (&v)[4], const void* row) {
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(shared) : "memory");
}"""

_SPLIT = """\
// x as two TF32 numbers of 11 bits: the first rounded, the second what is left of x, whose last
// bit the tensor cores cut off. What is no number may be lost in the first, never in the second.
__device__ __forceinline__ void split(float x, unsigned& big, unsigned& small) {
  big = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
  small = __float_as_uint(x - __uint_as_float(big));
}"""

_ROUND = """\
// x for the tensor cores, which cut TF32 off at 10 bits of mantissa: larger by half of what that
// takes on average, so that sums of products are not biased. What fits 10 bits stays as it is.
__device__ __forceinline__ unsigned rounded(float x) { return __float_as_uint(x * 1.00035228f); }"""

_SUM = """\
// The sum of both parts. Where the big one is infinite or no number, the small one says nothing.
__device__ __forceinline__ float whole(float big, float small) {
  return (__float_as_uint(big) & 0x7f800000u) == 0x7f800000u ? big : big + small;
}"""


@frozen
class TensorCores:
    """A warp's tile as fragments of 16 × 8 sums."""

    writer: Writer
    shape: TileShape
    left: Layout
    right: Layout
    word: Word
    products: int  # 3: fp32 by TF32; 1: one product of the word's own dtype (or TF32)

    def __attrs_post_init__(self) -> None:
        text = _MMA.format(instruction=_INSTRUCTIONS[self.word.dtype])
        helpers = [text]
        if self.products == 3:
            helpers += [_SPLIT, _SUM]
        elif self.word.dtype == "float32":
            helpers.append(_ROUND)
        for helper in helpers:
            self.writer.helpers.setdefault(helper, helper)

    @property
    def _fragments(self) -> tuple[int, int]:
        return self.shape.warp_m // 16, self.shape.warp_n // 8

    @property
    def rows(self) -> int:
        """Rows of the tile that a thread has sums of."""
        return self._fragments[0] * 2

    @property
    def columns(self) -> int:
        """Columns of the tile that a thread has sums of."""
        return self._fragments[1] * 2

    @property
    def contiguous(self) -> int:
        """Columns that a thread has side by side."""
        return 2

    @property
    def sums(self) -> int:
        """Registers of sums."""
        return self.rows * self.columns * (2 if self.products == 3 else 1)

    def declare(self, indent: str) -> list[str]:
        """The thread's place in its warp's fragments, and its sums."""
        m, n = self._fragments
        shape = self.shape
        lines = [
            f"{indent}const int lane = threadIdx.x % 32;",
            f"{indent}const int warp = threadIdx.x / 32;",
            f"{indent}const int own_m = warp / {shape.warps_n} * {shape.warp_m} + lane / 4;",
            f"{indent}const int own_n = warp % {shape.warps_n} * {shape.warp_n};",
            f"{indent}const int own_k = lane % 4;",
            f"{indent}float acc[{m}][{n}][4] = {{}};",
        ]
        if self.products == 3:
            lines.append(f"{indent}float rest[{m}][{n}][4] = {{}};  // of the small products")
        return lines

    def multiply(self, indent: str) -> list[str]:
        """Lines that add a stage's products: ``left`` and ``right`` point to its tiles."""
        m, n = self._fragments
        inner = indent + "  "
        lines = [
            "#pragma unroll",
            f"{indent}for (int k = 0; k < {self.left.words}; k += 8) {{",
        ]
        names = ("big", "small") if self.products == 3 else ("word",)
        a = ", ".join(f"a_{name}[{m}][4]" for name in names)
        b = ", ".join(f"b_{name}[{n}][2]" for name in names)
        lines += [f"{inner}unsigned {a}, {b};"]
        lines += self._fragments_of("a", m, inner)
        lines += self._fragments_of("b", n, inner)

        def each(*inside: str) -> list[str]:
            return [
                "#pragma unroll",
                f"{inner}for (int i = 0; i < {m}; ++i) {{",
                "#pragma unroll",
                f"{inner}  for (int j = 0; j < {n}; ++j) {{",
                *(f"{inner}    {line}" for line in inside),
                f"{inner}  }}",
                f"{inner}}}",
            ]

        if self.products == 3:
            # Apart, so that no product waits for the one before it.
            lines += each("mma(rest[i][j], a_small[i], b_big[j], rest[i][j]);")
            lines += each("mma(rest[i][j], a_big[i], b_small[j], rest[i][j]);")
            lines += each(
                "const float zero[4] = {};",
                "float sum[4];",
                "mma(sum, a_big[i], b_big[j], zero);",
                "for (int v = 0; v < 4; ++v) acc[i][j][v] += sum[v];",
            )
        else:
            lines += each("mma(acc[i][j], a_word[i], b_word[j], acc[i][j]);")
        return [*lines, f"{indent}}}"]

    def _fragments_of(self, name: str, count: int, indent: str) -> list[str]:
        """Lines that load a warp's fragments of one operand (and split or round them)."""
        layout, tile = (self.left, "left") if name == "a" else (self.right, "right")
        index = "i" if name == "a" else "j"
        inner = indent + "  "
        # Where words of four fragments' quarters go, and the row and word of lane 0 in each.
        if name == "a":
            step, wide = 1, 16
            slots = [(0, slot) for slot in range(4)]
            rows, words = "lane % 16", "lane / 16 * 4"
        else:
            step, wide = 2 if count % 2 == 0 else 1, 8
            slots = [(f, slot) for f in range(step) for slot in range(2)]
            rows, words = "lane / 16 * 8 + lane % 8", "lane / 8 % 2 * 4"
        lines = ["#pragma unroll"]
        if self._by_matrix(layout, name, count):
            self.writer.helpers.setdefault(_FOUR, _FOUR)
            own = "own_m - lane / 4" if name == "a" else "own_n"
            at = layout.at(f"{own} + {index} * {wide} + {rows}", f"k + {words}")
            lines += [
                f"{indent}for (int {index} = 0; {index} < {count}; {index} += {step}) {{",
                f"{inner}unsigned four[4];",
                f"{inner}load_four(four, {tile} + {at});",
            ]
            for number, (fragment, slot) in enumerate(slots):
                more = f" + {fragment}" if fragment else ""
                source = f"four[{number}]"
                if self.word.pack == 1:
                    source = f"__uint_as_float({source})"
                lines.append(f"{inner}{self._take(source, name, f'{index}{more}', slot)}")
            return [*lines, f"{indent}}}"]
        lines.append(f"{indent}for (int {index} = 0; {index} < {count}; ++{index}) {{")
        own = "own_m" if name == "a" else "own_n + lane / 4"
        places = [("", ""), (" + 8", ""), ("", " + 4"), (" + 8", " + 4")]
        if name == "b":
            places = [("", ""), ("", " + 4")]
        for slot, (row, word) in enumerate(places):
            at = layout.at(f"{own} + {index} * {wide}{row}", f"k + own_k{word}")
            lines.append(f"{inner}{self._take(f'{tile}[{at}]', name, index, slot)}")
        return [*lines, f"{indent}}}"]

    @staticmethod
    def _by_matrix(layout: Layout, name: str, count: int) -> bool:
        """Whether ``ldmatrix`` can take the fragments: rows of 16 bytes along k."""
        return layout.k_inner and (name == "a" or count % 2 == 0)

    def _take(self, source: str, name: str, fragment: str, slot: int) -> str:
        to = f"[{fragment}][{slot}]"
        if self.products == 3:
            return f"split({source}, {name}_big{to}, {name}_small{to});"
        value = f"rounded({source})" if self.word.dtype == "float32" else source
        return f"{name}_word{to} = {value};"

    def finish(self, indent: str) -> list[str]:
        """Lines that join the big and the small sums."""
        if self.products == 1:
            return []
        m, n = self._fragments
        return [
            "#pragma unroll",
            f"{indent}for (int i = 0; i < {m}; ++i)",
            "#pragma unroll",
            f"{indent}  for (int j = 0; j < {n}; ++j)",
            "#pragma unroll",
            f"{indent}    for (int v = 0; v < 4; ++v)",
            f"{indent}      acc[i][j][v] = whole(acc[i][j][v], rest[i][j][v]);",
        ]

    def place(self, i: str, j: str) -> tuple[str, str]:
        """C of the tile's row and column that the thread's (i, j) is."""
        return f"own_m + {i} * 8", f"own_n + {j} / 2 * 8 + own_k * 2 + {j} % 2"

    def value(self, i: str, j: str) -> str:
        """C of the thread's sum (i, j)."""
        return f"acc[{i} / 2][{j} / 2][{i} % 2 * 2 + {j} % 2]"


def fits(shape: TileShape, word: Word) -> bool:
    """Whether warps hold whole fragments."""
    whole = shape.warp_m % 16 == 0 and shape.warp_n % 8 == 0
    return whole and (shape.k // word.pack) % 8 == 0
