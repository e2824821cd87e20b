"""Instructions on registers: conversions, moves, predicates, arithmetic."""

from __future__ import annotations

import re
from collections.abc import Sequence

from search_engine.devices.cpu.ptx.table import C_TYPES, Operand, instruction, typed, unknown

# --- conversions ---------------------------------------------------------------------------


@instruction(r"cvt\.(rna|rn)(\.satfinite)?\.tf32\.f32", 2)
def _to_tf32(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, simt::ptx::tf32_{match[1]}({operands[1].cpp}))"


@instruction(r"cvt\.rn\.(f16|bf16)\.f32", 2)
def _to_narrow(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, simt::ptx::{match[1]}({operands[1].cpp}))"


@instruction(r"cvt\.rn\.(f16|bf16)x2\.f32", 3)
def _to_pair(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    high, low = (f"simt::ptx::{match[1]}({o.cpp})" for o in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, simt::ptx::pair({low}, {high}))"


@instruction(r"cvt\.f32\.f16", 2)
def _of_half(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, simt::ptx::of_f16({operands[1].cpp}))"


@instruction(r"cvt\.(u16|u32|u64|s32|s64)\.(u16|u32|u64|s32|s64)", 2)
def _integer(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    to, source = C_TYPES[match[1]], C_TYPES[match[2]]
    return f"simt::ptx::set({operands[0].cpp}, ({to})({source}){operands[1].cpp})"


@instruction(r"cvt\.rn\.f32\.(s32|u32)", 2)
def _of_integer(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, (float)({C_TYPES[match[1]]}){operands[1].cpp})"


@instruction(r"cvta\.to\.shared\.(u32|u64)", 2)
def _to_shared(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    address = f"simt_shared_address((const void*){operands[1].cpp})"
    return f"simt::ptx::set({operands[0].cpp}, ({C_TYPES[match[1]]}){address})"


@instruction(r"cvta\.shared\.(u64)", 2)
def _from_shared(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    pointer = f"simt_shared_pointer({operands[1].cpp}, {line})"
    return f"simt::ptx::set({operands[0].cpp}, (unsigned long long){pointer})"


@instruction(r"cvta(\.to)?\.(global|const|local)\.u64", 2)
def _same_address(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, {operands[1].cpp})"


# --- moves, predicates, selection ----------------------------------------------------------


@instruction(r"mov\.(b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64|pred)", 2)
def _move(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    to, source = operands
    kind = C_TYPES.get(match[1], "bool")
    width = int(match[1][1:]) if match[1] != "pred" else 1
    if to.parts or source.parts:
        if len(to.parts or source.parts) != 2 or (to.parts and source.parts) or width < 32:
            raise unknown(match[0], "between these vectors")
        half = C_TYPES[f"u{width // 2}"]
        whole = C_TYPES[f"u{width}"]
        if to.parts:
            return (
                f"{{ const {whole} simt_whole = simt::ptx::bits<{whole}>({source.cpp}); "
                f"simt::ptx::set({to.parts[0]}, ({half})simt_whole); "
                f"simt::ptx::set({to.parts[1]}, ({half})(simt_whole >> {width // 2})); }}"
            )
        low, high = (f"({whole})simt::ptx::bits<{half}>({part})" for part in source.parts)
        return f"simt::ptx::set({to.cpp}, {low} | {high} << {width // 2})"
    if source.constant:
        return f"simt::ptx::set({to.cpp}, ({kind}){source.cpp})"
    return f"simt::ptx::set({to.cpp}, {source.cpp})"


_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@instruction(r"setp\.(eq|ne|lt|le|gt|ge)\.(b32|u32|s32|f32|b64|u64|s64)", 3)
def _compare(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    a, b = (typed(operand, match[2]) for operand in operands[1:])
    return f"{operands[0].cpp} = {a} {_COMPARISONS[match[1]]} {b}"


@instruction(r"selp\.(b32|u32|s32|f32|b64|u64)", 4)
def _select(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    a, b = (typed(operand, match[1]) for operand in operands[1:3])
    return f"simt::ptx::set({operands[0].cpp}, {operands[3].cpp} ? {a} : {b})"


# --- arithmetic ----------------------------------------------------------------------------

_INFIX = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}


@instruction(r"(add|sub)(?:\.rn)?(?:\.ftz)?\.(f32|f64|u32|s32|u64|s64)", 3)
@instruction(r"(and|or|xor)\.(b32|b64)", 3)
def _infix(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    unsigned = match[2].replace("s", "u")
    a, b = (typed(operand, unsigned) for operand in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, {a} {_INFIX[match[1]]} {b})"


@instruction(r"mul(\.rn|\.lo)?(?:\.ftz)?\.(f32|f64|u32|s32|u64|s64)", 3)
def _product(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    a, b = (typed(operand, match[2].replace("s", "u")) for operand in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, {a} * {b})"


@instruction(r"fma\.rn(?:\.ftz)?\.f32", 4)
def _fused(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    a, b, c = (typed(operand, "f32") for operand in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, fmaf({a}, {b}, {c}))"


@instruction(r"(min|max)(?:\.ftz)?\.(f32|u32|s32)", 3)
def _extreme(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    a, b = (typed(operand, match[2]) for operand in operands[1:])
    name = f"f{match[1]}f" if match[2] == "f32" else match[1]
    return f"simt::ptx::set({operands[0].cpp}, {name}({a}, {b}))"


_FUNCTIONS = {
    "ex2": "exp2f({})", "lg2": "log2f({})", "rcp": "(1.0f / {})", "sqrt": "sqrtf({})",
    "rsqrt": "rsqrtf({})", "sin": "sinf({})", "cos": "cosf({})", "tanh": "tanhf({})",
    "abs": "fabsf({})", "neg": "(-{})",
}  # fmt: skip


@instruction(r"(ex2|lg2|rcp|sqrt|rsqrt|sin|cos|tanh)\.(?:approx|rn)(?:\.ftz)?\.f32", 2)
@instruction(r"(abs|neg)(?:\.ftz)?\.f32", 2)
def _function(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    value = _FUNCTIONS[match[1]].format(typed(operands[1], "f32"))
    return f"simt::ptx::set({operands[0].cpp}, {value})"


@instruction(r"(shl|shr)\.(b32|u32|s32|b64|u64)", 3)
def _shift(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    width = int(match[2][1:])
    value, by = typed(operands[1], match[2]), typed(operands[2], "u32")
    sign = "<<" if match[1] == "shl" else ">>"
    beyond = f"({value} >> {width - 1} >> 1)" if match[2] == "s32" else "0"
    kind = C_TYPES[match[2]]
    return (
        f"simt::ptx::set({operands[0].cpp}, {by} < {width} ? ({kind})({value} {sign} {by}) "
        f": ({kind}){beyond})"
    )


@instruction(r"lop3\.b32", 5)
def _lop3(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    values = ", ".join(typed(operand, "b32") for operand in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, simt::ptx::lop3({values}))"


@instruction(r"prmt\.b32", 4)
def _permute(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    values = ", ".join(typed(operand, "b32") for operand in operands[1:])
    return f"simt::ptx::set({operands[0].cpp}, __byte_perm({values}))"
