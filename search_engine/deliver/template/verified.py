"""What was verified: constants that ``render`` fills in, here those of a row sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Launch(NamedTuple):
    """One kernel launch. Arguments are tensor names, or scalars as (C type, value)."""

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of dynamic shared memory
    arguments: tuple[Any, ...]
    cooperative: bool = False
    cluster: tuple[int, int, int] | None = None


class Case(NamedTuple):
    """One verified set of shapes. Tensors are (dtype, shape, stride) by name."""

    inputs: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    weights: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    outputs: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    scratch: dict[str, tuple[torch.dtype, tuple[int, ...], bool]]  # the last: zeroed
    launches: tuple[Launch, ...]


CLASS = "RowSum"
KERNEL_FILE = "RowSum.cu"
KERNEL_HASH = "0000000000000000"  # of the kernel file without white space
SOURCE_HASH = "0000000000000000"  # of all code and constants that forward reaches
NAMESPACE = "kernel_lsp_0000000000000000"
GPU = "NVIDIA H200"
MEASURED = True
CUBIN_FILE = ""
CUBIN_ARCH = ""
CUBIN_HASH = ""
TOLERANCE: dict[str, float] = {"out": 1e-6}
MODE: str | None = None
OUTPUT_KIND = "tensor"
ARGUMENTS: dict[str, object] = {}
MODULES = {"": "~.RowSum"}
ATTRIBUTES: dict[str, object] = {}
FUNCTIONS: tuple[str, ...] = ()
ABSENT: tuple[str, ...] = ()
CASES = (
    Case(
        inputs={"x": (torch.float32, (4, 8), (8, 1))},
        weights={},
        outputs={"out": (torch.float32, (4,), (1,))},
        scratch={},
        launches=(Launch("row_sum", (4, 1, 1), (32, 1, 1), 0, ("x", "out", ("int", 8))),),
    ),
)
