"""Python text cut into the pieces that a syntax error cannot reach across.

A chunk starts at every statement in column 0. Each chunk is parsed by itself, so an error
breaks one chunk and not the file, and the result is kept by the chunk's text, so that a
keystroke costs one small parse.
"""

from __future__ import annotations

import ast
import re
import warnings

from attrs import frozen

# Column-0 text that continues the statement before it: closing brackets, the other arms of
# a compound statement, comments and blank lines.
_START = re.compile(r"^(?![\s#)\]}]|(?:else|elif|except|finally)\b)", re.MULTILINE)
_TRIPLE = re.compile(r'"""|' + "'''")
# What is no bracket of the program: strings (also unterminated ones) and comments.
_NOISE = re.compile(r"\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*")
_MAX_JOIN = 400  # lines a chunk may grow by: a docstring or call with text in column 0
_LINE_END = re.compile(r"\r\n|\r|\n")


@frozen
class Chunk:
    """Some whole lines of a file. ``line`` is 0-based."""

    line: int
    text: str


def lines_of(text: str) -> list[str]:
    """Lines without their ends, cut where Python and the protocol cut them.

    ``str.splitlines`` also cuts at form feeds and other characters that are legal inside a
    line of Python.
    """
    return _LINE_END.split(text)


def split(text: str) -> list[Chunk]:
    """The chunks of a text with ``\\n`` as its only line end, decorators with their class."""
    starts = [match.start() for match in _START.finditer(text)]
    chunks: list[Chunk] = []
    line = 0
    pending = 0  # what no chunk has yet: leading comments, a decorator that waits for its class
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if text.startswith("@", begin) and end < len(text):
            continue
        piece = text[pending:end]
        chunks.append(Chunk(line, piece))
        line += piece.count("\n")
        pending = end
    return chunks


def parse(text: str) -> list[ast.stmt] | None:
    """The statements of a chunk, None where it is no Python."""
    try:
        with warnings.catch_warnings():
            # An invalid escape in the user's string is no business of the server's stderr.
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def unclosed(chunks: list[Chunk], index: int) -> int | None:
    """The index behind the last chunk of a statement that goes on in column 0.

    A docstring or a bracket may hold text in column 0, which cuts its statement in
    pieces. None where nothing closes what chunk ``index`` left open.
    """
    text = chunks[index].text
    quotes = _TRIPLE.findall(text)
    budget = _MAX_JOIN
    if len(quotes) % 2:
        quote = quotes[-1]
        for after in range(index + 1, len(chunks)):
            if chunks[after].text.count(quote) % 2:
                return after + 1
            budget -= chunks[after].text.count("\n")
            if budget < 0:
                return None
        return None
    depth = _depth(text)
    if depth <= 0:
        return None
    for after in range(index + 1, len(chunks)):
        depth += _depth(chunks[after].text)
        if depth <= 0:
            return after + 1
        budget -= chunks[after].text.count("\n")
        if budget < 0:
            return None
    return None


def _depth(text: str) -> int:
    """Brackets opened less brackets closed."""
    bare = _NOISE.sub("", text)
    return sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
