"""The numbers of a tiled kernel: what a block, a warp and a stage take."""

from __future__ import annotations

from attrs import frozen

from search_engine.playbook.dtypes import storage_type


@frozen
class Word:
    """What shared memory holds: one element, or two halves that neighbour along k.

    Fragments of ``mma`` are the same in such words for TF32 (k 8) and for halves (k 16).
    """

    dtype: str  # of the elements as they lie there
    pack: int  # elements of a word, along k

    @property
    def type(self) -> str:
        """The C type."""
        return "unsigned" if self.pack == 2 else storage_type(self.dtype)

    @property
    def bytes(self) -> int:
        """Of a word."""
        return 8 if self.dtype == "float64" else 4


@frozen
class TileShape:
    """A block's tile and how warps share it; sizes in rows (m, n) and elements (k)."""

    m: int
    n: int
    k: int
    warps_m: int
    warps_n: int
    stages: int
    split: int = 1  # blocks that share the k of one tile

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.warps_m * self.warps_n

    @property
    def warp_m(self) -> int:
        """Rows of a warp's tile."""
        return self.m // self.warps_m

    @property
    def warp_n(self) -> int:
        """Columns of a warp's tile."""
        return self.n // self.warps_n


@frozen
class Layout:
    """How a tile of rows × k words lies in shared memory.

    ``k_inner``: a row's words are neighbours, padded by 4 words; else a k's rows are, padded
    by 8. Either way the 32 lanes of a fragment load (8 rows × 4 words) meet 32 banks.
    """

    rows: int
    words: int  # along k
    k_inner: bool

    @property
    def stride(self) -> int:
        """Words from one line to the next."""
        return self.words + 4 if self.k_inner else self.rows + 8

    @property
    def size(self) -> int:
        """Words in all."""
        return self.stride * (self.rows if self.k_inner else self.words)

    def at(self, row: str, word: str) -> str:
        """The C index of a word."""
        line, inner = (row, word) if self.k_inner else (word, row)
        line = f"({line})" if " " in line else line
        return f"{line} * {self.stride} + {inner}"
