"""Inline PTX as C++: ``asm`` statements of a preprocessed kernel, rewritten in place.

An ``asm`` statement is read as the compiler would read it: template, output and input
operands with their constraints. The template is a list of PTX instructions; each becomes
a call of the runtime (``table``). It is done on preprocessed text, so that no
macro can hide a statement, and what comes out is judged and compiled like any other code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from attrs import define, field, frozen

from search_engine.contract.tokens import Token, matching, tokenize
from search_engine.devices.cpu.ptx import arithmetic, matrices, memory
from search_engine.devices.cpu.ptx.table import (
    Operand,
    UnknownInstruction,
    immediate,
    translate,
    unknown,
)
from search_engine.devices.cpu.screen import own_lines
from search_engine.verdict import Finding

# The modules whose instructions fill the table, at their import.
TABLES = (arithmetic, matrices, memory)

_ASM = frozenset({"asm", "__asm", "__asm__"})
_QUALIFIERS = frozenset({"volatile", "__volatile__", "__volatile", "inline", "goto"})
_REGISTER_TYPES = {
    "h": "unsigned short", "r": "unsigned", "l": "unsigned long long", "f": "float", "d": "double",
}  # fmt: skip
_DECLARED = {
    "pred": "bool", "b16": "unsigned short", "u16": "unsigned short", "s16": "unsigned short",
    "b32": "unsigned", "u32": "unsigned", "s32": "unsigned", "f32": "float",
    "b64": "unsigned long long", "u64": "unsigned long long", "s64": "unsigned long long",
    "f64": "double", "f16x2": "unsigned", "f16": "unsigned short",
}  # fmt: skip
_SPECIAL = {
    "laneid": "simt_lane",
    "tid.x": "threadIdx.x", "tid.y": "threadIdx.y", "tid.z": "threadIdx.z",
    "ntid.x": "blockDim.x", "ntid.y": "blockDim.y", "ntid.z": "blockDim.z",
    "ctaid.x": "blockIdx.x", "ctaid.y": "blockIdx.y", "ctaid.z": "blockIdx.z",
    "nctaid.x": "gridDim.x", "nctaid.y": "gridDim.y", "nctaid.z": "gridDim.z",
    "lanemask_eq": "(1u << simt_lane)", "lanemask_lt": "((1u << simt_lane) - 1)",
    "lanemask_le": "(((1u << simt_lane) << 1) - 1)",
    "lanemask_gt": "~(((1u << simt_lane) << 1) - 1)",
    "lanemask_ge": "~((1u << simt_lane) - 1)",
    "clock": "simt_clock()", "clock64": "simt_clock()", "globaltimer": "simt_clock()",
}  # fmt: skip
_LOCAL = "simt_register_"


@frozen
class Argument:
    """An operand of the statement: its constraint and the C++ expression."""

    constraint: str  # without "=" and "+"
    expression: str
    written: bool
    read: bool


@define
class Statement:
    """One ``asm`` statement."""

    template: str
    arguments: list[Argument] = field(factory=list)


class _Unreadable(Exception):
    """The statement is not what the compiler takes for an ``asm`` statement."""


def rewrite(text: str, name: str) -> tuple[str, list[Finding]]:
    """A preprocessed file with the ``asm`` statements of the kernel itself replaced.

    ``name`` is the kernel's file name as the line markers have it. An instruction that is
    not known is a finding.
    """
    if "asm" not in text:
        return text, []
    places, rows, numbers = own_lines(text, name)
    findings = _rewrite_rows(rows, numbers)
    all_rows = text.split("\n")
    for place, row in zip(places, rows, strict=True):
        all_rows[place] = row
    return "\n".join(all_rows), findings


def _rewrite_rows(rows: list[str], numbers: Sequence[int]) -> list[Finding]:
    """Replace the statements in ``rows``, in place; rows stay as many."""
    tokens = tokenize("\n".join(rows))
    findings = []
    edits = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.kind != "identifier" or token.text not in _ASM or token.directive:
            index += 1
            continue
        line = numbers[token.line - 1]
        opening = index + 1
        while opening < len(tokens) and tokens[opening].text in _QUALIFIERS:
            opening += 1
        if opening >= len(tokens) or tokens[opening].text != "(":
            findings.append(Finding("unsupported", "an `asm` declaration", line))
            index += 1
            continue
        closing = matching(tokens, opening)
        try:
            statement = _read(tokens[opening + 1 : closing])
            edits.append((token, tokens[closing], _cpp(statement, line)))
        except UnknownInstruction as unknown:
            findings.append(Finding("unsupported", str(unknown), line))
        except _Unreadable as unreadable:
            findings.append(Finding("compile", f"inline PTX: {unreadable}", line))
        index = closing + 1
    for first, last, text in reversed(edits):
        start, end = first.line - 1, last.line - 1
        head = rows[start][: first.column - 1]
        tail = rows[end][last.column - 1 + len(last.text) :]
        rows[start : end + 1] = [head + text + tail, *[""] * (end - start)]
    return findings


# --- the statement ----------------------------------------------------------------------------


def _read(tokens: Sequence[Token]) -> Statement:
    parts = _split(_separate_colons(tokens), ":")
    strings = [token for token in parts[0] if token.kind == "string"]
    if len(strings) != len(parts[0]) or not strings:
        raise _Unreadable("the template is a string literal")
    statement = Statement("".join(_literal(token.text) for token in strings))
    for section, written in zip(parts[1:3], (True, False), strict=False):
        for words in _split(section, ","):
            if words:
                statement.arguments.append(_argument(words, written))
    return statement


def _separate_colons(tokens: Sequence[Token]) -> list[Token]:
    """``::`` between sections is two empty separators; inside operands it is C++'s own."""
    result: list[Token] = []
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.text in "([{") - (token.text in ")]}") if len(token.text) == 1 else 0
        if token.text == "::" and depth == 0 and token.kind == "punctuator":
            colon = Token("punctuator", ":", token.line, token.column, False, False)
            result += [colon, colon]
        else:
            result.append(tokens[index])
    return result


def _split(tokens: Sequence[Token], separator: str) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "punctuator":
            depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
            if token.text == separator and depth == 0:
                parts.append([])
                continue
        parts[-1].append(token)
    return parts


def _literal(text: str) -> str:
    raw = re.fullmatch(r'R"([^()\\\s"]{0,16})\((.*)\)\1"', text, re.DOTALL)
    if raw:
        return raw[2]
    if not text.startswith('"'):
        raise _Unreadable("the template is an ordinary string literal")
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        raise _Unreadable(f"the template {text[:40]} cannot be read") from None


def _argument(words: Sequence[Token], written: bool) -> Argument:
    if words[0].text == "[":
        raise _Unreadable("nvcc has no names for operands: write %0, %1 and so on")
    strings = 0
    while strings < len(words) and words[strings].kind == "string":
        strings += 1
    rest = words[strings:]
    if not strings or len(rest) < 3 or rest[0].text != "(" or rest[-1].text != ")":
        raise _Unreadable('an operand is written "constraint"(expression)')
    constraint = "".join(_literal(word.text) for word in words[:strings])
    kind = constraint.strip("=+&")
    if kind != "n" and kind not in _REGISTER_TYPES:
        raise _Unreadable(f"an operand with the constraint {constraint!r} has no register")
    if written != constraint.startswith(("=", "+")):
        raise _Unreadable(f"the constraint {constraint!r} stands on the wrong side")
    expression = " ".join(word.text for word in rest[1:-1])
    return Argument(kind, expression, written, not written or "+" in constraint)


# --- the template -----------------------------------------------------------------------------


def _cpp(statement: Statement, line: int) -> str:
    """The statement in C++, on one line; references are bound once, results stored at the end."""
    before, after = [], []
    for index, argument in enumerate(statement.arguments):
        register = f"simt_operand_{index}"
        if argument.constraint == "n":
            before.append(f"constexpr long long {register} = (long long)({argument.expression});")
            continue
        kind = _REGISTER_TYPES[argument.constraint]
        if argument.written:
            place = f"simt_place_{index}"
            before.append(f"auto& {place} = ({argument.expression});")
            after.append(f"simt::ptx::output({place}, {register});")
        source = f"simt_place_{index}" if argument.written else f"({argument.expression})"
        value = f"simt::ptx::input<'{argument.constraint}'>({source})" if argument.read else "0"
        before.append(f"{kind} {register} = {value};")
    body = _instructions(statement, line)
    return " ".join(["do {", *before, *body, *after, "} while (0)"])


def _instructions(statement: Statement, line: int) -> list[str]:
    text = re.sub(r"/\*.*?\*/", " ", statement.template, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", " ", text)
    result: list[str] = []
    declared: set[str] = set()
    for piece in _pieces(text):
        if piece.startswith(".reg"):
            result.append(_declaration(piece, declared))
            continue
        guard = ""
        predicate = re.match(r"@(!?)\s*(%?\[?\w+\]?)\s+(.*)", piece, re.DOTALL)
        if predicate:
            condition = _operand(predicate[2], statement, declared).cpp
            guard = f"if ({predicate[1]}{condition}) "
            piece = predicate[3]
        opcode, _, rest = piece.partition(" ")
        if not re.fullmatch(r"[a-z][\w.:]*", opcode) or opcode.endswith(":"):
            raise unknown(opcode)
        operands = [_operand(word, statement, declared) for word in _words(rest)]
        translated = translate(opcode, operands, line)
        if translated:
            result.append(f"{guard}{{ {translated}; }}")
    return result


def _pieces(text: str) -> list[str]:
    """Instructions and declarations, white space made plain, braces of scopes left out."""
    text = re.sub(r"\s+", " ", text)
    pieces = []
    for piece in text.split(";"):
        piece = piece.strip()
        while piece[:1] in ("{", "}"):
            piece = piece[1:].strip()
        if piece:
            pieces.append(piece)
    return pieces


def _declaration(piece: str, declared: set[str]) -> str:
    match = re.fullmatch(r"\.reg ?\.(\w+) (.+)", piece)
    kind = _DECLARED.get(match[1]) if match else None
    if match is None or kind is None:
        raise unknown(piece)
    names: list[str] = []
    for name in (word.strip() for word in match[2].split(",")):
        numbered = re.fullmatch(r"([%$\w]+)<(\d{1,2})>", name)
        names += [f"{numbered[1]}{i}" for i in range(int(numbered[2]))] if numbered else [name]
    declared.update(names)
    return " ".join(f"{kind} {_local(name)} = 0;" for name in names)


def _local(name: str) -> str:
    return _LOCAL + re.sub(r"\W", "_", name)


def _words(text: str) -> list[str]:
    """Operands, at commas outside brackets and braces."""
    words = [""]
    depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            words.append("")
        else:
            words[-1] += character
    return [word.strip() for word in words if word.strip()]


def _operand(text: str, statement: Statement, declared: set[str]) -> Operand:
    vector = re.fullmatch(r"\{(.*)\}", text, re.DOTALL)
    if vector:
        parts = tuple(_register(p.strip(), statement, declared) for p in vector[1].split(","))
        return Operand(text, parts[0], parts)
    address = re.fullmatch(r"\[(.*)\]", text, re.DOTALL)
    if address:
        base, sign, offset = re.fullmatch(r"(.*?)\s*(?:([+-])\s*(-?\w+))?\s*", address[1]).groups()  # type: ignore[union-attr]
        cpp = _register(base, statement, declared)
        if offset is not None:
            cpp = f"({cpp} {sign} {_register(offset, statement, declared)})"
        return Operand(text, cpp)
    cpp = _register(text, statement, declared)
    register = re.fullmatch(r"simt_operand_(\d+)", cpp)
    constant = (
        statement.arguments[int(register[1])].constraint == "n"
        if register
        else not cpp.startswith(_LOCAL)
    )
    return Operand(text, cpp, constant=constant)


def _register(text: str, statement: Statement, declared: set[str]) -> str:
    if text in declared:
        return _local(text)
    numbered = re.fullmatch(r"%(\d+)", text)
    if numbered:
        index = int(numbered[1])
        if index >= len(statement.arguments):
            raise _Unreadable(f"there is no operand {text}")
        return f"simt_operand_{index}"
    special = text.removeprefix("%%")
    if text.startswith("%%") and special in _SPECIAL:
        return _SPECIAL[special]
    literal = immediate(text)
    if literal is None:
        raise UnknownInstruction(
            f"the cpu device does not know the operand `{text.replace('%%', '%')}` of inline PTX; "
            "it can be verified on a GPU"
        )
    return literal
