"""What PTX shows that a cubin hides. Free of torch."""

from __future__ import annotations

import re

# .visible .global .align 4 .b8 table[8] = {1, 2};
_GLOBAL = re.compile(
    r"(?<![\w.])\.global\s[^;={}]*?(?P<name>[A-Za-z_$%][\w$]*)\s*(?:\[\s*\d*\s*\]\s*)*(?:=[^;]*)?;"
)
_HIDDEN = re.compile(r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"", re.DOTALL)  # comments, strings
_WORD = re.compile(r"[A-Za-z_$%][\w$]*")
_STRING = "$str"  # string literals, of printf and assert


def used_globals(ptx: str) -> tuple[str, ...]:
    """Variables in global memory that a function's body names, where they outlive a launch.

    Headers declare hundreds of constants that no code refers to; they are left out.
    Constant memory (``.const``) is another state space.
    """
    outside, bodies = _split(_HIDDEN.sub(" ", ptx))
    declared = {match["name"] for match in _GLOBAL.finditer(outside)}
    declared |= {match["name"] for match in _GLOBAL.finditer(bodies)}  # from inline PTX
    used = set(_WORD.findall(bodies))
    return tuple(sorted(n for n in declared & used if not n.startswith(_STRING)))


def _split(ptx: str) -> tuple[str, str]:
    """The text outside functions, and the functions' bodies; initialisers are no bodies."""
    outside: list[str] = []
    bodies: list[str] = []
    depth = 0
    in_body = False
    position = 0
    for match in re.finditer(r"[{};]", ptx):
        piece, mark = ptx[position : match.start()], match.group()
        position = match.end()
        (bodies if in_body else outside).append(piece)
        if mark == "{":
            if depth == 0:
                in_body = "=" not in piece.rsplit("\n.", 1)[-1]
            depth += 1
        elif mark == "}":
            depth -= 1
            if depth == 0:
                in_body = False
        (bodies if in_body else outside).append(mark)
    return "".join(outside), "".join(bodies)
