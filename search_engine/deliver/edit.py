"""The edit of the user's file: one import and one decorator line, in and out. Free of torch.

Lines are 0-based here and counted as editors count them; ``ast`` counts from 1 and columns
in UTF-8 bytes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from search_engine.deliver.delivery import Delivery, TextEdit
from search_engine.errors import DeliveryError
from search_engine.source import class_fingerprint, classes_named, split_lines

_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=]")


def insert(text: str, delivery: Delivery) -> list[TextEdit]:
    """The edit that puts the import and the decorator into ``text``; empty if they are there.

    The import follows the file's first block of imports (else its docstring and
    ``__future__`` imports, else its leading comments), where import sorters leave it or
    sort it in. The decorator is the one nearest to the class.

    Raises DeliveryError where the text does not parse, the class is gone or changed since
    it was verified, or its name for the decorator is taken.
    """
    tree = _parsed(text)
    node = _verified_class(tree, delivery)
    lines = split_lines(text)
    name = _name(delivery)
    edits = []
    if not _imports(tree, delivery):
        taken = _binding(tree, name)
        if taken is not None:
            raise DeliveryError(
                f"Line {taken.lineno} already gives the name {name} to something else: rename "
                "that first."
            )
        line = _import_line(tree, lines)
        ending = _ending(lines, line)
        before = "" if not line or lines[line - 1].endswith(("\n", "\r")) else ending
        if _opens_section(tree, lines, line, delivery):
            before += ending
        edits.append(TextEdit(line, line, before + delivery.import_line + ending))
    if not _decorators(node, name):
        line = node.lineno - 1
        indent = lines[line][: _column(lines, node)].replace("\f", "")
        edits.append(TextEdit(line, line, indent + delivery.decorator_line + _ending(lines, line)))
    if edits:
        _check(text, edits, delivery)
    return edits


def remove(text: str, delivery: Delivery) -> list[TextEdit]:
    """The edit that takes out what ``insert`` put in, also after formatters ran.

    The class may have changed since. Raises DeliveryError where the text does not parse or
    neither line is there.
    """
    tree = _parsed(text)
    lines = split_lines(text)
    name = _name(delivery)
    edits = [
        TextEdit(decorator.lineno - 1, _last_line(decorator), "")
        for node in classes_named(tree, delivery.qualname)
        for decorator in _decorators(node, name)
    ]
    if not _other_uses(tree, delivery):
        edits += [_without_import(lines, tree, item, name) for item in _imports(tree, delivery)]
    if not edits:
        raise DeliveryError(
            f"Neither `{delivery.decorator_line}` nor its import is in the file: nothing to revert."
        )
    return sorted(edits, key=lambda edit: edit.start)


def is_applied(text: str, delivery: Delivery) -> bool:
    """Whether the import and the decorator are both there.

    Where the text does not parse right now, lines that read like them count.
    """
    try:
        tree = _parsed(text)
    except DeliveryError:
        stripped = {line.strip() for line in split_lines(text)}
        return delivery.decorator_line in stripped and delivery.import_line in stripped
    name = _name(delivery)
    classes = classes_named(tree, delivery.qualname)
    return bool(_imports(tree, delivery)) and any(_decorators(node, name) for node in classes)


def apply(text: str, edits: Sequence[TextEdit]) -> str:
    """``text`` with the edits made; their lines are those of ``text`` before any of them."""
    lines = split_lines(text)
    # From the end, so that lines keep their numbers; of two at one place the first stays first.
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    for edit in ordered[::-1]:
        lines[edit.start : edit.end] = [edit.text]
    return "".join(lines)


# --- finding things -------------------------------------------------------------------


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        where = "" if error.lineno is None else f" in line {error.lineno}"
        raise DeliveryError(f"The file has a syntax error{where}: mend it first.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise DeliveryError(f"The file cannot be parsed: {error}.") from error


def _verified_class(tree: ast.Module, delivery: Delivery) -> ast.ClassDef:
    classes = classes_named(tree, delivery.qualname)
    if not classes:
        raise DeliveryError(f"The file has no class {delivery.qualname} any more.")
    for node in reversed(classes):
        if class_fingerprint(node) == delivery.fingerprint:
            return node
    raise DeliveryError(
        f"{delivery.qualname} has changed since its kernel was verified: run the search again."
    )


def _name(delivery: Delivery) -> str:
    return delivery.decorator_line.removeprefix("@")


def _decorators(node: ast.ClassDef, name: str) -> list[ast.expr]:
    return [d for d in node.decorator_list if isinstance(d, ast.Name) and d.id == name]


def _imports(tree: ast.Module, delivery: Delivery) -> list[ast.ImportFrom]:
    """The statements at the top level that import our name."""
    wanted = ast.parse(delivery.import_line).body[0]
    assert isinstance(wanted, ast.ImportFrom)
    name = _name(delivery)
    return [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and (node.module, node.level) == (wanted.module, wanted.level)
        and any(alias.name == name and alias.asname is None for alias in node.names)
    ]


def _binding(tree: ast.Module, name: str) -> ast.stmt | None:
    """A top-level statement that binds ``name``."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name == name:
                return statement
        elif any(_binds(node, name) for node in ast.walk(statement)):
            return statement
    return None


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.alias):
        return (node.asname or node.name) == name
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)


def _other_uses(tree: ast.Module, delivery: Delivery) -> bool:
    """Whether the name serves anything else in the file, so that its import must stay."""
    name = _name(delivery)
    ours = {
        id(decorator)
        for node in classes_named(tree, delivery.qualname)
        for decorator in _decorators(node, name)
    }
    return any(
        isinstance(node, ast.Name) and node.id == name and id(node) not in ours
        for node in ast.walk(tree)
    )


# --- where the import goes ------------------------------------------------------------


def _import_line(tree: ast.Module, lines: list[str]) -> int:
    """The line before which the import is inserted."""
    last: int | None = None
    for index, statement in enumerate(tree.body):
        docstring = index == 0 and _is_docstring(statement)
        if not docstring and not isinstance(statement, ast.Import | ast.ImportFrom):
            break
        last = index
    if last is None:
        return _after_leading_comments(tree, lines)
    end = _last_line(tree.body[last])
    for statement in tree.body[last + 1 :]:  # statements behind a semicolon on the same line
        if statement.lineno <= end:
            end = max(end, _last_line(statement))
    return end


def _opens_section(tree: ast.Module, lines: list[str], line: int, delivery: Delivery) -> bool:
    """Whether sorters want a blank line before: a relative import behind absolute ones.

    Only where a blank line follows too: then ``remove`` can tell that this one is ours.
    """
    above = [node for node in tree.body if _last_line(node) <= line]
    return (
        delivery.import_line.startswith("from .")
        and _blank(lines, line)
        and bool(above)
        and isinstance(above[-1], ast.Import | ast.ImportFrom)
        and not getattr(above[-1], "level", 0)
    )


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _after_leading_comments(tree: ast.Module, lines: list[str]) -> int:
    """Behind shebang, coding and licence, but before a comment that belongs to the code."""
    code = min(
        [tree.body[0].lineno, *(d.lineno for d in getattr(tree.body[0], "decorator_list", ()))]
    )
    line = code - 1
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    if line > 0:
        return line
    while line < min(code - 1, 2) and (
        lines[line].startswith("#!") or _CODING.match(lines[line]) is not None
    ):
        line += 1
    return line


def _ending(lines: list[str], line: int) -> str:
    """The line end used around ``line``."""
    for candidate in (*reversed(lines[:line]), *lines[line:]):
        for ending in ("\r\n", "\n", "\r"):
            if candidate.endswith(ending):
                return ending
    return "\n"


def _column(lines: list[str], node: ast.AST) -> int:
    """``node``'s column in characters."""
    line: str = lines[node.lineno - 1]  # type: ignore[attr-defined]
    offset: int = node.col_offset  # type: ignore[attr-defined]
    return len(line.encode()[:offset].decode())


def _last_line(node: ast.stmt | ast.expr) -> int:
    return node.end_lineno or node.lineno


# --- taking the import out ------------------------------------------------------------


def _without_import(
    lines: list[str], tree: ast.Module, node: ast.ImportFrom, name: str
) -> TextEdit:
    start, end = node.lineno - 1, _last_line(node)
    if len(node.names) > 1:
        return TextEdit(start, end, _without_alias(lines, node, name))
    neighbours = [
        other
        for other in tree.body
        if other is not node and other.lineno <= end and _last_line(other) > start
    ]
    if neighbours:
        return TextEdit(start, end, _without_statement(lines, node))
    if start and _blank(lines, start - 1) and _blank(lines, end):
        # A sorter gave the import a section of its own: of the blank lines on both sides
        # the longer run was there before.
        before, after = _blank_run(lines, start - 1, -1), _blank_run(lines, end, 1)
        if before <= after:
            start -= before
        else:
            end += after
    elif start == 0 or (lines[start - 1].lstrip().startswith("#") and _opens(tree, lines, end)):
        end += _blank_run(lines, end, 1)
    return TextEdit(start, end, "")


def _opens(tree: ast.Module, lines: list[str], line: int) -> bool:
    """Whether relative imports follow, a section of their own behind a blank line.

    Then a sorter put the import between them and the comment above them.
    """
    after = line + _blank_run(lines, line, 1) + 1
    found = [node for node in tree.body if node.lineno == after]
    return after > line + 1 and bool(found) and bool(getattr(found[0], "level", 0))


def _blank(lines: list[str], line: int) -> bool:
    return line < len(lines) and not lines[line].strip()


def _blank_run(lines: list[str], line: int, step: int) -> int:
    count = 0
    while 0 <= line < len(lines) and _blank(lines, line):
        count, line = count + 1, line + step
    return count


def _span(lines: list[str], node: ast.AST, first: int) -> tuple[int, int]:
    """``node``'s start and end as character offsets into ``lines[first:]`` joined."""

    def offset(line: int, column: int) -> int:
        before = sum(len(text) for text in lines[first : line - 1])
        return before + len(lines[line - 1].encode()[:column].decode())

    return (
        offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
        offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    )


def _without_alias(lines: list[str], node: ast.ImportFrom, name: str) -> str:
    first = node.lineno - 1
    text = "".join(lines[first : _last_line(node)])
    index = next(i for i, alias in enumerate(node.names) if alias.name == name)
    start, end = _span(lines, node.names[index], first)
    own_line = text[:start].rpartition("\n")[2].strip() == ""
    comma = re.match(r"[ \t]*,[ \t]*", text[end:])
    if (
        comma
        and own_line
        and (rest := re.match(r"(?:#[^\r\n]*)?(?:\r\n|\r|\n)[ \t]*", text[end + comma.end() :]))
    ):
        end += comma.end() + rest.end()
    elif comma:
        end += comma.end()
    else:  # the last one without a trailing comma: the comma before it goes
        start = _span(lines, node.names[index - 1], first)[1]
    return text[:start] + text[end:]


def _without_statement(lines: list[str], node: ast.ImportFrom) -> str:
    """The statement's lines without it, where others share them over semicolons."""
    first = node.lineno - 1
    text = "".join(lines[first : _last_line(node)])
    start, end = _span(lines, node, first)
    behind = re.match(r"[ \t]*;[ \t]*", text[end:])
    before = re.search(r"[ \t]*;[ \t]*$", text[:start])
    if behind and text[end + behind.end() :].strip():
        end += behind.end()
    elif before:
        start = before.start()
    return text[:start] + text[end:]


def _check(text: str, edits: Sequence[TextEdit], delivery: Delivery) -> None:
    """An edit that would not parse or not be found again is never handed out."""
    edited = apply(text, edits)
    try:
        node = _verified_class(_parsed(edited), delivery)
        sound = bool(_decorators(node, _name(delivery))) and is_applied(edited, delivery)
    except DeliveryError:
        sound = False
    if not sound:
        raise DeliveryError(
            f"The two lines do not fit around {delivery.qualname} as it is written: run a "
            "formatter over the file, then accept again."
        )
