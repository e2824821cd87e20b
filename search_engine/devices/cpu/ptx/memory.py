"""Instructions on memory: asynchronous copies, loads, stores, atomics, barriers, fences."""

from __future__ import annotations

import re
from collections.abc import Sequence

from search_engine.devices.cpu.ptx.table import C_TYPES, Operand, instruction, unknown


def _space(name: str | None, operand: Operand, line: int) -> str:
    function = "shared" if name and name.startswith("shared") else "generic"
    return f"simt::ptx::{function}({operand.cpp}, {line})"


# --- asynchronous copies and prefetches ----------------------------------------------------

_HINTS = r"(?:\.L1::\w+)?(\.L2::cache_hint)?(?:\.L2::(?:64|128|256)B)?"


@instruction(rf"cp\.async\.(ca|cg)\.shared(?:::cta)?\.global{_HINTS}", range(3, 6))
def _copy(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    used = list(operands[:-1] if match[2] else operands)
    to, source, size = _space("shared", used[0], line), used[1].cpp, used[2].cpp
    taken = used[3].cpp if len(used) > 3 else size
    copy = f"simt_copy_async({to}, (const void*){source}, {size}, {taken}, {line})"
    if match[1] == "ca":
        return copy
    message = '"cp.async.cg copies 16 bytes at a time; cp.async.ca copies 4 or 8"'
    return f"if ({size} != 16) simt_misuse({message}, {line}); {copy}"


@instruction(r"cp\.async\.commit_group", 0)
def _commit(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return "simt_copy_commit()"


@instruction(r"cp\.async\.wait_group", 1)
def _wait_group(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt_copy_wait((int){operands[0].cpp})"


@instruction(r"cp\.async\.wait_all", 0)
def _wait_all(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return "simt_copy_wait(-1)"


@instruction(r"prefetchu?(\.\w+|\.L2::\w+)+", 1)
@instruction(r"discard(\.\w+)*\.L2", 2)
@instruction(r"applypriority(\.\w+)*\.L2::\w+", 2)
@instruction(r"griddepcontrol\.(wait|launch_dependents)", 0)  # no-ops in an ordinary launch
@instruction(r"setmaxnreg\.\w+\.sync\.aligned\.u32", 1)
@instruction(r"nanosleep\.u32", 1)
@instruction(r"pragma", 1)
def _nothing(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return ""


@instruction(r"createpolicy(\.[\w:]+)+", range(1, 5))
def _policy(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt::ptx::set({operands[0].cpp}, 0ull)"


# --- loads and stores ----------------------------------------------------------------------

_TYPE = r"\.(b8|u8|s8|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64)"
_ACCESS = (
    r"(?:\.(?:weak|volatile|relaxed|acquire|release))?(?:\.(?:cta|cluster|gpu|sys))?"
    r"(?:\.(global|shared(?:::cta)?|const))?(?:\.(?:ca|cg|cs|lu|cv|wb|wt|nc))?"
    r"(?:\.nc)?(?:\.L1::\w+)?(\.L2::cache_hint)?(?:\.L2::\w+)?(?:\.v[248])?"
)


@instruction(rf"ld{_ACCESS}{_TYPE}", range(2, 4))
def _load(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    to = ", ".join(operands[0].all)
    source = _space(match[1], operands[1], line)
    return f"simt::ptx::load<{C_TYPES[match[3]]}>({source}, {line}, {to})"


@instruction(rf"st{_ACCESS}{_TYPE}", range(2, 4))
def _store(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    values = ", ".join(operands[1].all)
    to = _space(match[1], operands[0], line)
    return f"simt::ptx::store<{C_TYPES[match[3]]}>({to}, {line}, {values})"


_ATOMICS = {
    ("add", "f32"): ("atomicAdd", "float"), ("add", "f64"): ("atomicAdd", "double"),
    ("add", "u32"): ("atomicAdd", "unsigned"), ("add", "s32"): ("atomicAdd", "int"),
    ("add", "u64"): ("atomicAdd", "unsigned long long"),
    ("max", "s32"): ("atomicMax", "int"), ("max", "u32"): ("atomicMax", "unsigned"),
    ("min", "s32"): ("atomicMin", "int"), ("min", "u32"): ("atomicMin", "unsigned"),
    ("exch", "b32"): ("atomicExch", "unsigned"), ("or", "b32"): ("atomicOr", "unsigned"),
    ("and", "b32"): ("atomicAnd", "unsigned"), ("xor", "b32"): ("atomicXor", "unsigned"),
}  # fmt: skip
_ATOMIC = (
    r"(?:\.(?:relaxed|acquire|release|acq_rel))?(?:\.(?:cta|cluster|gpu|sys))?"
    r"(?:\.(global|shared(?:::cta)?))?\.(add|max|min|exch|or|and|xor)\.(\w+)"
)


def _atomic_call(match: re.Match[str], address: Operand, value: Operand, line: int) -> str:
    known = _ATOMICS.get((match[1 + 1], match[3]))
    if known is None:
        raise unknown(match[0])
    name, kind = known
    place = _space(match[1], address, line)
    return f"{name}(({kind}*){place}, simt::ptx::bits<{kind}>({value.cpp}), {line})"


@instruction(rf"red{_ATOMIC}", 2)
def _reduction(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return _atomic_call(match, operands[0], operands[1], line)


@instruction(rf"atom{_ATOMIC}", 3)
def _atomic(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    call = _atomic_call(match, operands[1], operands[2], line)
    return f"simt::ptx::set({operands[0].cpp}, {call})"


# --- barriers and fences -------------------------------------------------------------------


@instruction(r"(bar|barrier)(\.cta)?\.sync(\.aligned)?", range(1, 3))
def _barrier(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    if operands[0].cpp != "0" or len(operands) > 1:
        raise unknown(match[0], "on a part of the block or on another barrier than 0")
    return f"simt_barrier({line})"


@instruction(r"bar\.warp\.sync", 1)
def _warp_barrier(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"__syncwarp({operands[0].cpp}, {line})"


@instruction(r"membar\.(gl|sys)|fence(\.(sc|acq_rel))?\.(gpu|sys)", 0)
def _fence(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return "simt_fence()"


@instruction(r"membar\.cta|fence(\.(sc|acq_rel))?\.cta|fence\.proxy\.[\w.:]+", 0)
def _block_fence(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return ""


@instruction(r"trap", 0)
def _trap(match: re.Match[str], operands: Sequence[Operand], line: int) -> str:
    return f"simt_trap({line})"
