"""How a dtype is stored, computed in and written in CUDA-C."""

from __future__ import annotations

import math

from attrs import frozen

from search_engine.task import ITEM_BYTES


@frozen
class Arithmetic:
    """The C type that a kernel computes in, and how it spells functions and infinity."""

    type: str
    suffix: str  # of math functions and literals: expf, 1.0f
    infinity: str


FLOAT = Arithmetic("float", "f", "INF")
DOUBLE = Arithmetic("double", "", "INF64")

# NVRTC knows no INFINITY without a host header, so the bit pattern stands for it.
INFINITIES = {
    "INF": "__int_as_float(0x7f800000)",
    "INF64": "__longlong_as_double(0x7ff0000000000000LL)",
}

_STORAGE = {
    "float64": "double", "float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16",
    "int64": "long long", "int32": "int", "int16": "short", "int8": "signed char",
    "uint8": "unsigned char", "bool": "bool",
}  # fmt: skip

HEADERS = {"float16": "cuda_fp16.h", "bfloat16": "cuda_bf16.h"}


def is_float(dtype: str) -> bool:
    """Whether the dtype is a floating one."""
    return dtype in ("float64", "float32", "float16", "bfloat16")


def storage_type(dtype: str) -> str:
    """The C type of an element in memory."""
    return _STORAGE[dtype]


def compute_type(dtype: str) -> str:
    """The C type that values of the dtype are computed in: halves are widened to float."""
    if dtype == "float64":
        return "double"
    if is_float(dtype):
        return "float"
    return {"int64": "long long", "bool": "bool"}.get(dtype, "int")


def arithmetic(dtype: str) -> Arithmetic:
    """How floating-point work on values of the dtype is spelt."""
    return DOUBLE if dtype == "float64" else FLOAT


def item_bytes(dtype: str) -> int:
    """Bytes of one element in memory."""
    return ITEM_BYTES[dtype]


def literal(value: float | int | bool, dtype: str) -> str:
    """The C literal of a constant that is used in work of the dtype."""
    if not is_float(dtype):
        if isinstance(value, bool) or dtype == "bool":
            return "true" if value else "false"
        whole = int(value)
        return f"{whole}LL" if abs(whole) >= 2**31 else str(whole)
    kind = arithmetic(dtype)
    number = float(value)
    if math.isnan(number):
        return f"({kind.infinity} - {kind.infinity})"
    if math.isinf(number) or (kind is FLOAT and abs(number) > 3.4028235e38):
        return kind.infinity if number > 0 else f"-{kind.infinity}"
    return f"{number!r}{kind.suffix}"
