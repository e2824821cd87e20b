"""The table of PTX instructions: which opcode becomes which C++.

The reference is NVIDIA's "Parallel Thread Execution ISA", section "Instruction set". What
is here is what inline PTX in CUDA-C kernels is written for; an instruction that is not
ends as a finding that names it. The modules beside this one fill the table.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from attrs import frozen


@frozen
class Operand:
    """An operand as written: ``text``, and how it reads in C++.

    ``parts`` are the elements of ``{a, b}``, empty for one that is no vector; ``constant``
    is true for a literal or an operand with the constraint "n", which has no register.
    """

    text: str
    cpp: str
    parts: tuple[str, ...] = ()
    constant: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """The registers of a vector, or the one register."""
        return self.parts or (self.cpp,)


class UnknownInstruction(Exception):
    """No pattern fits; the message is what to tell the kernel's author."""


Emit = Callable[["re.Match[str]", Sequence[Operand], int], str]

_PATTERNS: list[tuple[re.Pattern[str], range, Emit]] = []


def instruction(opcode: str, operands: int | range) -> Callable[[Emit], Emit]:
    """Register a function that writes the C++ for opcodes matching ``opcode`` in full."""
    counts = range(operands, operands + 1) if isinstance(operands, int) else operands

    def register(emit: Emit) -> Emit:
        _PATTERNS.append((re.compile(opcode), counts, emit))
        return emit

    return register


def translate(opcode: str, operands: Sequence[Operand], line: int) -> str:
    """The C++ statement for one instruction. Raises UnknownInstruction."""
    for pattern, counts, emit in _PATTERNS:
        match = pattern.fullmatch(opcode)
        if match and len(operands) in counts:
            return emit(match, operands, line)
    raise unknown(opcode)


def unknown(opcode: str, why: str = "") -> UnknownInstruction:
    """The error for an instruction that only a GPU executes."""
    what = f"`{opcode}` {why}" if why else f"`{opcode}`"
    return UnknownInstruction(f"the cpu device cannot execute {what}; it can be verified on a GPU")


def immediate(text: str) -> str | None:
    """A PTX literal in C++, None where ``text`` is none: ``0f3F800000`` is 1.0f."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return f"{struct.unpack('>f', bytes.fromhex(text[2:]))[0]!r}f"
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return f"{struct.unpack('>d', bytes.fromhex(text[2:]))[0]!r}"
    if re.fullmatch(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?", text):
        return text.rstrip("U")
    if re.fullmatch(r"[-+]?\d+\.\d*([eE][-+]?\d+)?", text):
        return text + "f"
    return None


# How registers and immediates of a PTX type read in C++.
C_TYPES = {
    "b8": "unsigned char", "u8": "unsigned char", "s8": "signed char",
    "b16": "unsigned short", "u16": "unsigned short", "s16": "short", "f16": "unsigned short",
    "b32": "unsigned", "u32": "unsigned", "s32": "int", "f32": "float",
    "b64": "unsigned long long", "u64": "unsigned long long", "s64": "long long", "f64": "double",
    "f16x2": "unsigned", "bf16x2": "unsigned", "bf16": "unsigned short",
}  # fmt: skip


def typed(operand: Operand, kind: str) -> str:
    """The operand's bits as a value of the PTX type ``kind``."""
    if operand.constant:
        return f"({C_TYPES[kind]}){operand.cpp}"
    return f"simt::ptx::bits<{C_TYPES[kind]}>({operand.cpp})"
