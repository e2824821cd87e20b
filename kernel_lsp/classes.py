"""The classes of one chunk of Python: read from its syntax tree, or from its shape.

Where a chunk is no Python, its class headers are read by their shape, so that a lens stays
where it is while its class is being edited; such a class has no fingerprint.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from attrs import field, frozen

from kernel_lsp import chunks

_HEADER = re.compile(
    r"^(?P<indent>[ \t]*)class[ \t]+(?P<name>\w+)[ \t]*"
    r"(?:\[[^\]\n]*\])?[ \t]*(?:\((?P<bases>[^:\n#]*))?"
)
_MAX_BASES = 10  # lines of a header that a formatter broke
_NAME = re.compile(r"\b(?:class|def)[ \t]+(\w+)")
_FORWARD = re.compile(r"^[ \t]+(?:async[ \t]+)?def[ \t]+forward\b")
_DOTTED = re.compile(r"^[^\W\d]\w*(?:\.[^\W\d]\w*)*$")


@frozen
class ModuleClass:
    """A module class of a buffer. Lines are 0-based, columns in characters.

    ``line`` is the header's line; ``start`` the first decorator's (the header's where there
    is none); ``end`` the first line behind the class. ``forward_line`` is None where
    ``forward`` is inherited. ``fingerprint`` is of the class's normalised source, None
    while the class is broken.
    """

    qualname: str
    line: int
    name_column: int
    name_width: int  # as written: Python normalises identifiers, 𝒳 is named X
    start: int
    end: int
    forward_line: int | None
    forward_column: int
    decorators: tuple[str, ...]
    bases: tuple[str, ...]
    fingerprint: str | None

    @property
    def broken(self) -> bool:
        """Whether the class cannot be parsed as it is."""
        return self.fingerprint is None


@frozen
class Part:
    """What one chunk adds to the file's picture; lines relative to the chunk."""

    classes: tuple[ModuleClass, ...] = ()  # all classes, modules or not
    imports: tuple[tuple[str, str], ...] = ()  # local name, dotted name
    stars: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()  # Base = nn.Module
    whole: bool = True  # False: the chunk is no Python by itself
    # Parts of equal shape mean the same to the rest of the file, whatever their bodies do.
    shape: int = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        classes = tuple((c.qualname, c.bases, c.forward_line is None) for c in self.classes)
        whole = (classes, self.imports, self.stars, self.aliases)
        object.__setattr__(self, "shape", hash(whole))


def read(text: str) -> Part:
    """The classes, imports and aliases of a chunk; never raises."""
    statements = chunks.parse(text)
    if statements is None:
        return Part(classes=tuple(_headers(text)), whole=False)
    classes: list[ModuleClass] = []
    imports: list[tuple[str, str]] = []
    stars: list[str] = []
    aliases: list[tuple[str, str]] = []
    for statement in _module_level(statements):
        if isinstance(statement, ast.ClassDef):
            classes += _classes(statement, "", text)
        elif isinstance(statement, ast.Import):
            for name in statement.names:
                local = name.asname or name.name.partition(".")[0]
                imports.append((local, name.name if name.asname else local))
        elif isinstance(statement, ast.ImportFrom):
            module = "." * statement.level + (statement.module or "")
            for name in statement.names:
                if name.name == "*":
                    stars.append(module)
                else:
                    imports.append((name.asname or name.name, f"{module}.{name.name}"))
        elif isinstance(statement, ast.Assign) and (value := _dotted(statement.value)):
            aliases += [(t.id, value) for t in statement.targets if isinstance(t, ast.Name)]
    return Part(tuple(classes), tuple(imports), tuple(stars), tuple(aliases))


def _module_level(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import, those under ``if``, ``try`` and ``with`` too."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            arms = [statement.body, getattr(statement, "orelse", [])]
            arms += [handler.body for handler in getattr(statement, "handlers", [])]
            arms.append(getattr(statement, "finalbody", []))
            for arm in arms:
                yield from _module_level(arm)


def _classes(node: ast.ClassDef, prefix: str, text: str) -> Iterator[ModuleClass]:
    from search_engine.source import class_fingerprint

    qualname = prefix + node.name
    forward = next(
        (
            item
            for item in node.body
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == "forward"
        ),
        None,
    )
    lines = text.split("\n")
    column, width = _name(lines, node.lineno - 1, node.name)
    yield ModuleClass(
        qualname=qualname,
        line=node.lineno - 1,
        name_column=column,
        name_width=width,
        start=min((d.lineno - 1 for d in node.decorator_list), default=node.lineno - 1),
        end=node.end_lineno or node.lineno,
        forward_line=None if forward is None else forward.lineno - 1,
        forward_column=0 if forward is None else _name(lines, forward.lineno - 1, "forward")[0],
        decorators=tuple(ast.unparse(d) for d in node.decorator_list),
        bases=tuple(filter(None, map(_dotted, node.bases))),
        fingerprint=class_fingerprint(node),
    )
    for item in node.body:
        if isinstance(item, ast.ClassDef):
            yield from _classes(item, f"{qualname}.", text)


def _name(lines: Sequence[str], line: int, name: str) -> tuple[int, int]:
    """Column and width of the name in a ``class`` or ``def`` line as it is written."""
    found = _NAME.search(lines[line]) if line < len(lines) else None
    return (0, len(name)) if found is None else (found.start(1), len(found[1]))


def _dotted(node: ast.expr) -> str:
    """``nn.Module`` of an expression, also of ``Base[int]``; empty for anything else."""
    if isinstance(node, ast.Subscript):
        return _dotted(node.value)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (value := _dotted(node.value)):
        return f"{value}.{node.attr}"
    return ""


def _headers(text: str) -> Iterator[ModuleClass]:
    """Classes of a chunk that is no Python, by the shape of their header lines."""
    lines = text.split("\n")
    heads = [(n, match) for n, line in enumerate(lines) if (match := _HEADER.match(line))]
    outer: list[tuple[int, str]] = []  # indentation and qualified name of open classes
    for position, (number, match) in enumerate(heads):
        indent = len(match["indent"].expandtabs())
        outer = [item for item in outer if item[0] < indent]
        if indent and not outer:
            continue  # inside a function, or of unknown standing
        name = unicodedata.normalize("NFKC", match["name"])
        qualname = ".".join([*(above for _, above in outer[-1:]), name])
        outer.append((indent, qualname))
        following = heads[position + 1][0] if position + 1 < len(heads) else len(lines)
        forward = next((n for n in range(number, following) if _FORWARD.match(lines[n])), None)
        start = number
        while start > 0 and lines[start - 1].lstrip().startswith("@"):
            start -= 1
        bases = (base.strip(" \t()") for base in _written_bases(lines, number, match).split(","))
        yield ModuleClass(
            qualname=qualname,
            line=number,
            name_column=match.start("name"),
            name_width=len(match["name"]),
            start=start,
            end=len(lines) if not indent else following,
            forward_line=forward,
            forward_column=0 if forward is None else lines[forward].index("forward"),
            decorators=tuple(line.strip()[1:].strip() for line in lines[start:number]),
            bases=tuple(base for base in bases if _DOTTED.match(base)),
            fingerprint=None,
        )


def _written_bases(lines: Sequence[str], number: int, match: re.Match[str]) -> str:
    """What stands between a header's brackets, also where a formatter broke the line."""
    bases: str = match["bases"] or ""
    if bases.strip() or not lines[number].rstrip().endswith("("):
        return bases
    following = lines[number + 1 : number + 1 + _MAX_BASES]
    for count, line in enumerate(following):
        if line.lstrip().startswith(")"):
            return "".join(following[:count])
    return bases
