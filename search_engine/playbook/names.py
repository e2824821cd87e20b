"""Names in generated CUDA-C, and folding of long lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from search_engine.playbook.primitives import PRIMITIVES

# Names that the templates use themselves, and words of C++.
_RESERVED = frozenset(
    [
        "row", "rows", "col", "cols", "lane", "warp", "thread", "block", "team", "part",
        "partial", "kept", "shared", "packs", "pack", "step", "i", "k", "v", "acc", "next",
        "active", "at", "base", "begin", "count", "end", "grid", "own_row", "p", "parked",
        "parts", "share", "squares", "tile", "token", "total", "values",
        "split", "first", "last", "float", "double", "int", "long", "short", "char", "bool",
        "half", "auto", "const", "if", "else", "for", "while", "do", "return", "switch",
        "case", "default", "break", "continue", "struct", "union", "enum", "class",
        "template", "typename", "new", "delete", "this", "true", "false", "void", "static",
        "a", "acc", "ahead", "b", "batch", "big", "bytes", "even", "four", "from", "group", "held",
        "j", "left", "m", "n", "odd", "outputs", "own_k", "own_m", "own_n", "pairs", "q", "raw",
        "rest", "right", "rounded", "side", "small", "stage", "stages", "sum", "sums", "to",
        "valid", "whole", "zero", "contract", "mma", "pack_left", "load_pack", "store_pack",
        "extern", "inline", "register", "volatile", "operator", "and", "or", "not", "xor",
        "signed", "unsigned", "sizeof", "namespace", "using", "public", "private", "try",
        "catch", "throw", "exp", "log", "sqrt", "pow", "sin", "cos", "tan", "min", "max",
        "abs", "floor", "ceil", "round", "fma", "erf", "tanh", "mean_of", "row_count", "std",
        "merge", "add", "at", "inside", "single",
    ]
)  # fmt: skip


# Numbered variables of the templates: ``own_1``, ``all_2``.
_NUMBERED = re.compile(
    r"(row_|read_)?(own|all|value|term|pilot|parts|meet|run|running|carry|before|totals)_\d+"
)


def identifier(text: str) -> str:
    """A C identifier for a contract or graph name: ``ln.weight`` → ``ln_weight``."""
    name = re.sub(r"\W", "_", text)
    taken = name in _RESERVED or name in PRIMITIVES or _NUMBERED.fullmatch(name)
    if not name or name[0].isdigit() or taken:
        name = f"{name}_" if name and not name[0].isdigit() else f"t{name}"
    return name


def unused(wish: str, taken: Iterable[str]) -> str:
    """The wished name, or the first of name_2, name_3, … that is free."""
    taken, name, count = set(taken), wish, 1
    while name in taken:
        count += 1
        name = f"{wish}_{count}"
    return name


def element_at(address: str) -> str:
    """``x[row * 8 + col]`` of the pointer ``x + row * 8 + col``."""
    found = re.fullmatch(r"(\w+)(?: ([+-]) (.*))?", address)
    assert found is not None, address
    name, sign, offset = found.groups("")
    return f"{name}[{'-' if sign == '-' else ''}{offset or 0}]"


def wrapped(head: str, items: Sequence[str], tail: str, indent: str = "") -> str:
    """``head`` + items + ``tail`` on one line if it fits in 100 columns, else folded."""
    line = head + ", ".join(items) + tail
    if len(line) <= 100:
        return line
    glued = ", ".join(item.replace(" ", "\0") for item in items)
    body = textwrap.wrap(glued, 94 - len(indent), break_long_words=False)
    return (head + f"\n{indent}    " + f"\n{indent}    ".join(body) + tail).replace("\0", " ")


def folded(line: str, width: int = 100) -> str:
    """A line of code cut at a comma, an operator or an opening parenthesis if it is too long."""
    if len(line) <= width or line.lstrip().startswith(("//", "#")):
        return line
    code = line.split("  // ")[0]
    if len(code) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())] + "    "
    places = [m.end() for m in re.finditer(r", |; | = | \+= | \? | \* |\((?=\w)", line)]
    fitting = [place for place in places if len(indent) < place <= width]
    if not fitting:
        return line
    # Rather after an assignment than inside its right-hand side, if the rest then fits.
    assignments = [m.end() for m in re.finditer(r" \+?= ", line) if m.end() <= width]
    last = fitting[-1]
    if assignments and len(indent) + len(line) - assignments[-1] <= width:
        last = assignments[-1]
    return line[:last].rstrip() + "\n" + folded(indent + line[last:], width)
