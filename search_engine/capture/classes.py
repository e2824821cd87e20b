"""Where classes stand in a text, also in one that does not parse. Free of torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from attrs import frozen

from search_engine.source import parse_or_none, split_lines

_STATEMENT = re.compile(r"^([ \t]*)(class|(?:async[ \t]+)?def)[ \t]+([^\W\d]\w*)")


@frozen
class ClassSite:
    """A class statement. Lines are 0-based; ``first`` is its first decorator's line."""

    qualname: str
    first: int
    line: int
    indent: str
    node: ast.ClassDef | None  # None where the text does not parse


def source_lines(text: str) -> list[str]:
    """The lines without their ends, counted as Python and editors count them."""
    return [line.rstrip("\r\n") for line in split_lines(text)]


def sites(text: str) -> list[ClassSite]:
    """All class statements in the order of the text."""
    tree = parse_or_none(text)
    lines = source_lines(text)
    return list(_from_lines(lines) if tree is None else _from_tree(tree, lines, ""))


def find(text: str, qualname: str) -> ClassSite | None:
    """The last class statement of that qualified name: the one that Python keeps."""
    return next((s for s in reversed(sites(text)) if s.qualname == qualname), None)


def has_function(text: str, name: str) -> bool:
    """Whether the module's top level has ``def name`` (or assigns ``name``)."""
    return re.search(rf"^(?:def[ \t]+{name}\b|{name}[ \t]*=)", text, re.MULTILINE) is not None


def _from_tree(tree: ast.AST, lines: list[str], prefix: str) -> Iterator[ClassSite]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            qualname = prefix + node.name
            first = min((d.lineno for d in node.decorator_list), default=node.lineno)
            source = lines[node.lineno - 1]
            indent = source[: len(source) - len(source.lstrip())]
            yield ClassSite(qualname, first - 1, node.lineno - 1, indent, node)
            yield from _from_tree(node, lines, qualname + ".")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _from_tree(node, lines, f"{prefix}{node.name}.<locals>.")
        else:
            yield from _from_tree(node, lines, prefix)


def _from_lines(lines: list[str]) -> Iterator[ClassSite]:
    """By indentation alone, as an editor's outline would."""
    scopes: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        match = _STATEMENT.match(line)
        if match is None:
            continue
        indent, keyword, name = match.groups()
        width = len(indent.expandtabs(8))
        while scopes and scopes[-1][0] >= width:
            scopes.pop()
        qualname = (scopes[-1][1] if scopes else "") + name
        if keyword == "class":
            first = number
            while first > 0 and lines[first - 1].startswith(indent + "@"):
                first -= 1
            yield ClassSite(qualname, first, number, indent, None)
            scopes.append((width, qualname + "."))
        else:
            scopes.append((width, f"{qualname}.<locals>."))
