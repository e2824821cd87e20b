"""Parameter types of the kernel functions of a source, as far as its text tells."""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.contract.declarations import Declaration, declarations
from search_engine.contract.tokens import Token


def signatures(source: str) -> dict[str, tuple[str, ...]]:
    """The parameter types of each ``__global__`` function by its name.

    Types are normalised: qualifiers other than ``const`` left out, one blank between
    words (``const float*``, ``unsigned int``, ``float4*``). Functions that are declared
    and defined come once. What macros and aliases hide is shown as written.
    """
    return {
        d.function.text: parameter_types(d)
        for d in declarations(source)
        if d.function is not None and "__global__" in d.words
    }


def parameter_types(declaration: Declaration) -> tuple[str, ...]:
    """The types of a function declaration's parameters."""
    parameters = _split(declaration.parameters)
    types = tuple(_type(parameter) for parameter in parameters)
    return () if types == ("void",) else types


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    """Parameters, parted at commas outside brackets of any kind."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.text in ("(", "[", "{", "<"):
            depth += 1
        elif token.text in (")", "]", "}", ">"):
            depth -= 1
        elif token.text == ">>":
            depth -= 2
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


_DROPPED = frozenset({
    "__restrict__", "__restrict", "restrict", "volatile", "__grid_constant__", "struct",
    "typename", "register",
})  # fmt: skip
_BUILTIN = frozenset({
    "void", "bool", "char", "short", "int", "long", "float", "double", "signed", "unsigned",
})  # fmt: skip


def _type(tokens: Sequence[Token]) -> str:
    kept = [token for token in tokens if token.text not in _DROPPED]
    for index, token in enumerate(kept):  # a default value says nothing of the type
        if token.text == "=":
            kept = kept[:index]
            break
    pointer = ""
    brackets = next((i for i, t in enumerate(kept) if t.text == "["), None)
    if brackets is not None:
        kept, pointer = kept[:brackets], "*"
    typed = any(t.kind == "identifier" and t.text != "const" for t in kept[:-1])
    last = kept[-1] if kept else None
    if (
        typed
        and last is not None
        and last.kind == "identifier"
        and last.text not in _BUILTIN | {"const"}
        and kept[-2].text != "::"
    ):
        kept = kept[:-1]  # the parameter's name
    if len(kept) > 1 and kept[-1].text == "const" and kept[-2].text == "*":
        kept = kept[:-1]  # a pointer that does not change is the same type to a caller
    text = ""
    for token in kept:
        gap = (
            token.kind == "identifier" and bool(text) and (text[-1].isalnum() or text[-1] in "_*&>")
        )
        text += (" " if gap else "") + token.text
    return text + pointer
