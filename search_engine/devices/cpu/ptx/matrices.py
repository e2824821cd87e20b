"""Instructions of a whole warp on matrices: mma.sync, ldmatrix, stmatrix."""

from __future__ import annotations

import re
from collections.abc import Sequence

from search_engine.devices.cpu.ptx.table import Operand, UnknownInstruction, instruction, unknown

# Inputs of mma.sync: the runtime's name, and the most of K that one instruction takes, which
# the registers of A follow from (two for each half of it).
_MMA_INPUTS = {
    "f16": ("F16", 16), "bf16": ("BF16", 16), "tf32": ("TF32", 8), "s8": ("S8", 32),
    "u8": ("U8", 32), "e4m3": ("E4M3", 32), "e5m2": ("E5M2", 32),
}  # fmt: skip


@instruction(
    r"mma\.sync\.aligned\.m16n8k(4|8|16|32)\.row\.col(?:\.kind::f8f6f4)?(?:\.satfinite)?"
    r"\.(f32|f16|s32)\.(f16|bf16|tf32|s8|u8|e4m3|e5m2)\.(\w+)\.(\w+)",
    4,
)
def _mma(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    depth, total, input_type = int(match[1]), match[2], match[3]
    name, most = _MMA_INPUTS[input_type]
    half = total == "f16"
    groups = 2 * depth // most  # halves of the deepest shape
    counts = [2 if half else 4, 2 * groups, groups, 2 if half else 4]
    fits = (
        match[4] == input_type and match[5] == total and depth in (most, most // 2)
        and (total == "s32") == (input_type in ("s8", "u8"))
        and [len(operand.parts or (operand.cpp,)) for operand in operands] == counts
        and not (half and input_type not in ("f16", "e4m3", "e5m2"))
    )  # fmt: skip
    if not fits:
        raise unknown(match[0], "with these operands")
    a, b, c = (", ".join(f"simt::ptx::b32({r})" for r in o.all) for o in operands[1:])
    to = ", ".join(operands[0].all)
    return (
        f"simt::ptx::mma(simt_Mma{{simt::{name}, {depth}, {int(half)}, "
        f"{{{a}}}, {{{b}}}, {{{c}}}}}, {line}, {to})"
    )


@instruction(
    r"ldmatrix\.sync\.aligned\.(?:m8n8\.x([124])|x([124])\.m8n8)(\.trans)?"
    r"\.shared(?:::cta)?\.b16",
    2,
)
def _ldmatrix(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    _require_registers(match, operands[0], int(match[1] or match[2]))
    to = ", ".join(operands[0].all)
    return f"simt::ptx::ldmatrix({operands[1].cpp}, {int(bool(match[3]))}, {line}, {to})"


@instruction(
    r"stmatrix\.sync\.aligned\.(?:m8n8\.x([124])|x([124])\.m8n8)(\.trans)?"
    r"\.shared(?:::cta)?\.b16",
    2,
)
def _stmatrix(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    _require_registers(match, operands[1], int(match[1] or match[2]))
    source = ", ".join(operands[1].all)
    return f"simt::ptx::stmatrix({operands[0].cpp}, {int(bool(match[3]))}, {line}, {source})"


def _require_registers(match: re.Match[str], operand: Operand, count: int) -> None:
    if len(operand.all) != count:
        raise UnknownInstruction(f"`{match[0]}` takes {count} registers, not {len(operand.all)}")
