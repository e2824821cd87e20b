"""Tokens of a CUDA-C source, as the compiler's first three translation phases see it.

Continued lines, digraphs, raw strings and comments are resolved the way ISO C++
[lex.phases] says, so that what looks like code is code and what looks like a comment is
one. It serves clear messages with places; what keeps generated code from the host is
the locked-down worker and the compiler's own list of opened files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

Kind: TypeAlias = Literal[
    "identifier", "number", "string", "character", "punctuator", "comment", "block comment"
]

_DIGRAPHS = {"%:%:": "##", "%:": "#", "<%": "{", "%>": "}", "<:": "[", ":>": "]"}

# A backslash at the end of a line continues it; compilers let blanks stand between.
_CONTINUATION = re.compile(r"\\[ \t\v\f\r]*\n")

_TOKEN = re.compile(
    r"""
      (?P<newline>\n)
    | (?P<blank>[^\S\n]+)
    | (?P<comment>//[^\n]*)
    | (?P<block_comment>/\*(?:.*?\*/|.*))
    | (?P<raw>(?:u8|[uUL])?R"(?P<delimiter>[^()\\\s"]{0,16})\()
    | (?P<string>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"?)
    | (?P<character>(?:u8|[uUL])?'(?:\\.|[^'\\\n])*'?)
    | (?P<number>\.?\d(?:[eEpP][+-]|'(?=\w)|[\w.])*)
    | (?P<identifier>[^\W\d][\w$]*)
    | (?P<digraph>%:%:|%:|<%|%>|<:(?!:[^:>])|:>)
    | (?P<punctuator><<=?|>>=?|->\*?|\+\+|--|&&|\|\||[-+*/%&|^=!<>]=|::|\.\.\.|\#\#|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@frozen
class Token:
    """One token. Line and column are 1-based, in the file as written.

    ``text`` has continuations taken out and digraphs spelled out. ``starts_line`` is true
    for the first token of a line that is no comment; ``directive`` for all tokens of a
    preprocessing line.
    """

    kind: Kind
    text: str
    line: int
    column: int
    starts_line: bool
    directive: bool


class _Text:
    """The source with continued lines joined, and the way back to places in the file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._line_starts = [0, *(m.end() for m in re.finditer("\n", source))]
        parts: list[str] = []
        self._joined_at: list[int] = [0]  # where a piece starts in the joined text
        self._source_at: list[int] = [0]  # and in the file
        start = length = 0
        for match in _CONTINUATION.finditer(source):
            parts.append(source[start : match.start()])
            length += match.start() - start
            start = match.end()
            self._joined_at.append(length)
            self._source_at.append(start)
        parts.append(source[start:])
        self.joined = "".join(parts)

    def offset(self, joined: int) -> int:
        piece = bisect_right(self._joined_at, joined) - 1
        return self._source_at[piece] + joined - self._joined_at[piece]

    def joined_offset(self, offset: int) -> int:
        piece = bisect_right(self._source_at, offset) - 1
        return self._joined_at[piece] + offset - self._source_at[piece]

    def place(self, joined: int) -> tuple[int, int]:
        offset = self.offset(joined)
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1


def tokenize(source: str) -> list[Token]:
    """All tokens of ``source`` in order, comments included, white space left out."""
    text = _Text(source)
    joined = text.joined
    tokens: list[Token] = []
    position = 0
    starts_line, directive = True, False
    while position < len(joined):
        match = _TOKEN.match(joined, position)
        assert match is not None  # the last alternative takes any character
        group, spelled, end = match.lastgroup, match.group(), match.end()
        if match["raw"] is not None:
            # Continuations inside a raw string are characters: look for its end in the file.
            closing = text.source.find(f'){match["delimiter"]}"', text.offset(end - 1))
            until = len(source) if closing < 0 else closing + len(match["delimiter"]) + 2
            end = max(end, text.joined_offset(until))
            group, spelled = "string", text.source[text.offset(position) : until]
        if group == "newline":
            starts_line, directive = True, False
        elif group != "blank":
            line, column = text.place(position)
            spelled = _DIGRAPHS[spelled] if group == "digraph" else spelled
            if group == "digraph":
                group = "punctuator"
            comment = group in ("comment", "block_comment")
            if starts_line and spelled == "#":
                directive = True
            kind: Kind = "block comment" if group == "block_comment" else group  # type: ignore[assignment]
            tokens.append(
                Token(kind, spelled, line, column, starts_line and not comment, directive)
            )
            if not comment:
                starts_line = False
        position = end
    return tokens


def code(tokens: Sequence[Token]) -> list[Token]:
    """What the compiler proper sees: no comments, no preprocessing lines."""
    return [t for t in tokens if not t.directive and "comment" not in t.kind]


def directives(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each preprocessing line, from its ``#`` on, without comments."""
    current: list[Token] = []
    for token in tokens:
        if not token.directive or "comment" in token.kind:
            continue
        if token.starts_line and current:
            yield current
            current = []
        current.append(token)
    if current:
        yield current


_CLOSES = {"(": ")", "[": "]", "{": "}"}


def matching(tokens: Sequence[Token], opening: int) -> int:
    """The index of the bracket that closes the one at ``opening``, or the last index."""
    stack: list[str] = []
    for index in range(opening, len(tokens)):
        token = tokens[index]
        if token.kind != "punctuator":
            continue
        if token.text in _CLOSES:
            stack.append(_CLOSES[token.text])
        elif stack and token.text == stack[-1]:
            stack.pop()
            if not stack:
                return index
    return len(tokens) - 1


def macros(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """The names that ``#define`` lines of the source define, with the tokens behind them."""
    found: dict[str, list[Token]] = {}
    for line in directives(tokens):
        if len(line) >= 3 and line[1].text == "define":
            found[line[2].text] = line[3:]
    return found
