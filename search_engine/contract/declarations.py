"""What a source declares at namespace and class scope: functions, variables, types.

A reader of tokens, no C++ parser: it sees where a declaration begins and ends and what
stands in its head. What macros produce it cannot see; the compiler and the locked-down
worker do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from attrs import frozen

from search_engine.contract.tokens import Token, code, macros, matching, tokenize

Scope: TypeAlias = Literal["namespace", "class"]

# Names that take parentheses in a declaration's head without being the declared function.
_ATTRIBUTES = frozenset({
    "__launch_bounds__", "__maxnreg__", "__cluster_dims__", "__block_size__", "__align__",
    "__attribute__", "__declspec", "alignas", "decltype", "noexcept", "explicit", "requires",
})  # fmt: skip
_TYPES = frozenset({"struct", "class", "union", "enum"})

DEEPEST = 100  # brackets within brackets; no kernel that people can read comes near


@frozen
class Declaration:
    """One declaration. ``head`` is everything before its body, initialiser or ``;``.

    ``function`` is the declared function's name, None for everything else; ``parameters``
    are the tokens between its parentheses, ``body`` those between its braces.
    """

    head: tuple[Token, ...]
    scope: Scope
    function: Token | None
    parameters: tuple[Token, ...]
    body: tuple[Token, ...] | None
    initialised: bool
    template: bool
    extern_c: bool

    @property
    def words(self) -> frozenset[str]:
        """Identifiers and keywords of the head."""
        return frozenset(token.text for token in self.head if token.kind == "identifier")

    @property
    def annotations(self) -> frozenset[str]:
        """``__global__``, ``__device__``, ``__host__`` as far as they are there."""
        return self.words & {"__global__", "__device__", "__host__"}


def declarations(source: str) -> Iterator[Declaration]:
    """The declarations of ``source`` in order; those of classes behind their class.

    None where brackets nest beyond ``DEEPEST``, which ``screen`` refuses.
    """
    tokens = tokenize(source)
    if too_deep(tokens) is not None:
        return
    callable_macros = frozenset(
        name for name, body in macros(tokens).items() if body and body[0].text == "("
    )
    yield from _scan(code(tokens), "namespace", False, callable_macros)


def too_deep(tokens: Sequence[Token]) -> Token | None:
    """The first bracket that lies deeper than ``DEEPEST``."""
    depth = 0
    for token in tokens:
        if token.kind == "punctuator" and token.text in ("(", "[", "{"):
            depth += 1
            if depth > DEEPEST:
                return token
        elif token.kind == "punctuator" and token.text in (")", "]", "}"):
            depth = max(depth - 1, 0)
    return None


def _scan(
    tokens: Sequence[Token], scope: Scope, extern_c: bool, skipped: frozenset[str]
) -> Iterator[Declaration]:
    position = 0
    while position < len(tokens):
        text = tokens[position].text
        if text == ";":
            position += 1
        elif scope == "class" and text in ("public", "private", "protected"):
            position += 2  # and its colon
        elif text in skipped:
            # A macro that makes declarations: what it makes is for the compiler to judge.
            position += 1
            if position < len(tokens) and tokens[position].text == "(":
                position = matching(tokens, position) + 1
        else:
            position = yield from _declaration(tokens, position, scope, extern_c, skipped)


def _past_angles(tokens: Sequence[Token], opening: int) -> int:
    """The index behind the ``>`` that closes the ``<`` at ``opening``."""
    depth, index = 0, opening
    while index < len(tokens):
        text = tokens[index].text
        if text in ("(", "[", "{"):
            index = matching(tokens, index)
        elif text == "<":
            depth += 1
        elif text in (">", ">>"):
            depth -= len(text)
            if depth <= 0:
                return index + 1
        index += 1
    return index


def _declaration(
    tokens: Sequence[Token], start: int, scope: Scope, extern_c: bool, skipped: frozenset[str]
) -> Generator[Declaration, None, int]:
    """Yields the declaration at ``start`` and what is in it; returns the index behind it."""
    position, template = start, False
    while position < len(tokens) and tokens[position].text == "template":
        template = True
        position += 1
        if position < len(tokens) and tokens[position].text == "<":
            position = _past_angles(tokens, position)
    head_start = position
    while position < len(tokens) and tokens[position].text not in ("{", ";", "="):
        if tokens[position].text in ("(", "["):
            position = matching(tokens, position)
        position += 1
    head = tuple(tokens[head_start:position])
    end = tokens[position].text if position < len(tokens) else ";"
    linkage = any(a.text == "extern" and b.kind == "string" for a, b in pairwise(head))
    if end == "{" and (_is_namespace(head) or (linkage and len(head) == 2)):
        closing = matching(tokens, position)
        inside = tokens[position + 1 : closing]
        yield from _scan(inside, "namespace", extern_c or linkage, skipped)
        return closing + 1
    function = _function(head) if end != "=" else None
    parameters: tuple[Token, ...] = ()
    if function is not None:
        opening = function + 1
        parameters = head[opening + 1 : matching(head, opening)]
    body: tuple[Token, ...] | None = None
    behind = position + 1
    is_type = function is None and any(token.text in _TYPES for token in head)
    if end == "{":
        closing = matching(tokens, position)
        body = tuple(tokens[position + 1 : closing])
        behind = closing + 1
        if function is None:  # a type's body or a braced initialiser: it goes on to the ";"
            behind = _past_semicolon(tokens, behind)
    elif end == "=":
        behind = _past_semicolon(tokens, position)
    yield Declaration(
        head=head,
        scope=scope,
        function=None if function is None else head[function],
        parameters=parameters,
        body=body if function is not None else None,
        initialised=end == "=" or (end == "{" and function is None and not is_type),
        template=template,
        extern_c=extern_c or linkage,
    )
    if is_type and body and not any(token.text == "enum" for token in head):
        yield from _scan(body, "class", extern_c, skipped)
    return behind


def _is_namespace(head: Sequence[Token]) -> bool:
    return any(token.text == "namespace" for token in head)


def _past_semicolon(tokens: Sequence[Token], position: int) -> int:
    while position < len(tokens) and tokens[position].text != ";":
        if tokens[position].text in ("(", "[", "{"):
            position = matching(tokens, position)
        position += 1
    return position + 1


def _function(head: Sequence[Token]) -> int | None:
    """Where in the head the declared function's name is."""
    index = 0
    while index < len(head):
        token = head[index]
        if token.text in ("using", "typedef", "static_assert", "friend", "asm", "__asm__"):
            return None
        if token.text == "operator":
            return _operator(head, index)
        followed = index + 1 < len(head) and head[index + 1].text == "("
        if token.kind == "identifier" and followed:
            if token.text not in _ATTRIBUTES:
                return index
            index = matching(head, index + 1)
        elif token.text in ("(", "["):
            index = matching(head, index)
        index += 1
    return None


def _operator(head: Sequence[Token], index: int) -> int | None:
    """``operator()(…)`` and ``operator+(…)``: the last token before the parameters."""
    position = index + 1
    if position + 1 < len(head) and head[position].text == "(" and head[position + 1].text == ")":
        position += 2
    while position < len(head) and head[position].text != "(":
        position += 1
    return position - 1 if position < len(head) else None
