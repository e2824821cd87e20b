"""Python text cut into the pieces that a syntax error cannot reach across.

A chunk starts at every statement in column 0. Each chunk is parsed by itself, so an error
breaks one chunk and not the file, and the result is kept by the chunk's text, so that a
keystroke costs one small parse.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence

from attrs import frozen

# Column-0 text that continues the statement before it: closing brackets, the other arms of
# a compound statement, comments and blank lines.
# Written from the line end before it, which is found at the speed of a byte search.
_START = re.compile(r"\n(?=[^\s#)\]}])")
_ARM = re.compile(r"(?:else|elif|except|finally)\b")
_TRIPLE = re.compile(r'"""|' + "'''")
# What is no bracket of the program: strings (also unterminated ones) and comments.
_NOISE = re.compile(
    r"\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)|"
    r"\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*",
    re.DOTALL,
)
_MAX_JOINS = 4  # strings and brackets of one statement that hold text in column 0
_MAX_JOIN = 200  # lines a chunk may grow by: a docstring or call with text in column 0
_WITH_END = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
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


def lines_with_ends(text: str) -> list[str]:
    """The same lines with their ends; no line behind a last end."""
    return _WITH_END.findall(text)


def split(text: str) -> list[Chunk]:
    """The chunks of a text with ``\\n`` as its only line end, decorators with their class."""
    starts = [match.end() for match in _START.finditer(text)]
    starts = [start for start in starts if not _ARM.match(text, start)]
    if text[:1] and not text[0].isspace() and text[0] not in "#)]}":
        starts.insert(0, 0)
    if not starts:
        return []
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


def joined(chunks: Sequence[Chunk], index: int) -> Iterator[tuple[int, str]]:
    """Longer and longer readings of a chunk that is no Python by itself.

    A docstring or a bracket may hold text in column 0, which cuts its statement in
    pieces. Gives the index behind the last piece and the text up to there, each time what
    is open is closed again; nothing where nothing closes it.
    """
    text, behind = chunks[index].text, index + 1
    for _ in range(_MAX_JOINS):
        after = _closed(chunks, text, behind)
        if after is None:
            return
        text += "".join(chunk.text for chunk in chunks[behind:after])
        behind = after
        yield behind, text


def _closed(chunks: Sequence[Chunk], text: str, behind: int) -> int | None:
    """The index behind the first chunk that closes what ``text`` leaves open."""
    quotes = _TRIPLE.findall(text)
    quote = quotes[-1] if len(quotes) % 2 else ""
    depth = 0 if quote else _depth(text)
    if not quote and depth <= 0:
        return None
    budget = _MAX_JOIN
    for after in range(behind, len(chunks)):
        piece = chunks[after].text
        depth += 0 if quote else _depth(piece)
        if (quote and piece.count(quote) % 2) or (not quote and depth <= 0):
            return after + 1
        budget -= piece.count("\n")
        if budget < 0:
            return None
    return None


def _depth(text: str) -> int:
    """Brackets opened less brackets closed."""
    bare = _NOISE.sub("", text)
    return sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
