"""The few places where CUDA-C is not C++: rewritten on tokens, with every line kept.

``extern __shared__ T x[]`` becomes a pointer to the launch's dynamic shared memory, and
``#pragma unroll`` the compiler's own pragma.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from search_engine.contract.kernel import Kernel
from search_engine.contract.tokens import Token, directives, tokenize

MOST_UNROLLED = 16  # beyond it the compile time grows, not the speed


def translate(kernel: Kernel, *, gcc: bool) -> str:
    """The kernel as C++: line n of it is line n of the kernel, entries stand behind."""
    tokens = [token for token in tokenize(kernel.source) if "comment" not in token.kind]
    lines = kernel.source.split("\n")
    edits = [*_dynamic_shared([t for t in tokens if not t.directive])]
    edits += _pragmas(tokens, gcc=gcc)
    # From the end, so that places before an edit keep theirs.
    for first, last, text in sorted(edits, key=lambda e: (e[0].line, e[0].column), reverse=True):
        _replace(lines, first, last, text)
    names = dict.fromkeys(launch.function for launch in kernel.launches)
    spaces = _namespaces([t for t in tokens if not t.directive], names)
    entries = (
        (f"using {spaces[name]}::{name}; " if spaces.get(name) else "") + f"SIMT_ENTRY({name})"
        for name in names
    )
    return "\n".join([*lines, *entries, ""])


def _namespaces(tokens: Sequence[Token], names: Collection[str]) -> dict[str, str]:
    """The namespace that each function is in, for those that are in one: ``a::b``."""
    found: dict[str, str] = {}
    scopes: list[str | None] = []  # a namespace's name, "" of a linkage block, None of all else
    head: list[Token] = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=False):
        if token.text == "{":
            texts = [word.text for word in head]
            if "namespace" in texts:
                scopes.append("".join(texts[texts.index("namespace") + 1 :]))
            elif len(head) == 2 and texts[0] == "extern":
                scopes.append("")
            else:
                scopes.append(None)
        elif token.text == "}" and scopes:
            scopes.pop()
        elif token.text in names and following is not None and following.text == "(":
            spaces = [scope for scope in scopes if scope is not None]
            if len(spaces) == len(scopes):
                found.setdefault(token.text, "::".join(scope for scope in spaces if scope))
        head = [] if token.text in ("{", "}", ";") else [*head, token]
    return found


def entry_lines(kernel: Kernel) -> dict[int, int]:
    """Lines behind the source, where an error concerns a launch, to that launch's line."""
    count = kernel.source.count("\n") + 1
    names = dict.fromkeys(launch.function for launch in kernel.launches)
    line_of = {launch.function: launch.line for launch in reversed(kernel.launches)}
    return {count + 1 + index: line_of[name] for index, name in enumerate(names)}


def _replace(lines: list[str], first: Token, last: Token, text: str) -> None:
    """From the start of ``first`` to the end of ``last``; the lines stay as many."""
    start, end = first.line - 1, last.line - 1
    head = lines[start][: first.column - 1]
    tail = lines[end][last.column - 1 + len(last.text) :]
    lines[start : end + 1] = [head + text + tail, *[""] * (end - start)]


def _dynamic_shared(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token, str]]:
    """``extern __shared__ [alignment] T name[];``, from ``extern`` to the bracket."""
    for index, token in enumerate(tokens):
        if token.text != "extern":
            continue
        end = index
        while end < len(tokens) and tokens[end].text not in (";", "{", "}"):
            end += 1
        words = tokens[index:end]
        texts = [word.text for word in words]
        if "__shared__" not in texts or texts[-2:] != ["[", "]"]:
            continue
        kind = _without_alignment([t for t in texts[1:-3] if t != "__shared__"])
        yield token, words[-1], f"SIMT_DYNAMIC_SHARED({texts[-3]}, {' '.join(kind)})"


def _without_alignment(texts: Sequence[str]) -> list[str]:
    """Dynamic shared memory is aligned to 1,024 bytes here, whatever was asked for."""
    kept: list[str] = []
    skipping = depth = 0
    for text in texts:
        if text in ("alignas", "__align__", "__attribute__"):
            skipping = 1
        elif skipping:
            depth += (text == "(") - (text == ")")
            skipping = int(depth > 0)
        else:
            kept.append(text)
    return kept


def _pragmas(tokens: Sequence[Token], *, gcc: bool) -> Iterator[tuple[Token, Token, str]]:
    for line in directives(tokens):
        if len(line) < 3 or line[1].text != "pragma" or line[2].text not in ("unroll", "nounroll"):
            continue
        if not gcc:
            continue  # clang knows both
        count = "".join(t.text for t in line[3:]).strip("()")
        if line[2].text == "nounroll":
            text = "#pragma GCC unroll 1"
        elif count.isdigit() and count != "0":
            text = f"#pragma GCC unroll {min(int(count), MOST_UNROLLED)}"
        else:  # all of it, or a count that only the compiler knows
            text = f"#pragma GCC unroll {MOST_UNROLLED}"
        yield line[0], line[-1], text
