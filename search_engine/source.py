"""What a piece of Python source means, as a hash that outlives formatting. Free of torch.

The hash is taken over the syntax tree without positions, comments, docstrings and
kernel-lsp's own decorators, printed in a form that is the same under every Python from
3.10 on: fields that are None or empty are left out (later versions add such fields), as
are ``ctx`` and ``kind``.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator

_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def split_lines(text: str) -> list[str]:
    """The lines of ``text`` with their ends, as Python and editors count them.

    ``str.splitlines`` also splits at form feeds and Unicode separators, which neither does.
    """
    return LINE.findall(text)


def parse_or_none(text: str) -> ast.Module | None:
    """The syntax tree, or None where there is none."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def normalised(node: ast.AST) -> str:
    """``node`` as one line of ASCII that says all that matters to what it does.

    Characters are escaped by ``ascii``, because ``repr`` follows the Unicode tables of the
    running Python.
    """
    if isinstance(node, ast.Constant):
        text = hex(node.value) if type(node.value) is int else ascii(node.value)
        return f"{type(node.value).__name__}:{text}"
    value: object
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED_FIELDS or value is None:
            continue
        if name == "body" and isinstance(node, _DEFINITIONS):
            value = _without_docstring(node.body)
        if name == "decorator_list" and isinstance(node, ast.ClassDef):
            value = [item for item in node.decorator_list if not is_kernel_decorator(item)]
        if name == "targets" and isinstance(node, ast.Delete):
            value = _flat_targets(node.targets)
        if name == "values" and isinstance(node, ast.JoinedStr):
            # Python 3.12 ends some format specifications in an empty string.
            value = [v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")]
        if value != []:
            fields.append(f"{name}={_printed(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _printed(value: object) -> str:
    if isinstance(value, ast.AST):
        return normalised(value)
    if isinstance(value, list):
        return f"[{','.join(_printed(item) for item in value)}]"
    return ascii(value)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """``body`` without its docstring; ``pass`` beside other statements says nothing either."""
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        body = body[1:]
    return [statement for statement in body if not isinstance(statement, ast.Pass)]


def _flat_targets(targets: list[ast.expr]) -> list[ast.expr]:
    """``del (a, b)`` as ``del a, b``: formatters take those parentheses away."""
    flat: list[ast.expr] = []
    for target in targets:
        flat += _flat_targets(target.elts) if isinstance(target, ast.Tuple) else [target]
    return flat


def is_kernel_decorator(node: ast.expr) -> bool:
    """Whether a class decorator is one of ours by its name: ``@Net_cuda``."""
    return isinstance(node, ast.Name) and node.id.endswith("_cuda")


def digest(text: str) -> str:
    """16 hexadecimal digits of SHA-256: what identifies a source everywhere here."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def definitions(tree: ast.AST, qualname: str) -> list[ast.AST]:
    """Every class or function of that qualified name, in the order of the text.

    ``qualname`` is Python's own ("Net", "Outer.Net", "build.<locals>.Net"). There are
    several where a name is defined again or in the branches of an ``if``.
    """
    found: list[ast.AST] = [tree]
    for part in qualname.split("."):
        if part != "<locals>":
            found = [item for parent in found for item in _named(parent, part)]
    return [] if found == [tree] else found


def _named(parent: ast.AST, name: str) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, _DEFINITIONS):
            if child.name == name:
                yield child
        elif not isinstance(child, ast.expr):
            yield from _named(child, name)


def class_fingerprint(node: ast.ClassDef) -> str:
    """The hash of a class's meaning: what a result is kept under."""
    return digest(normalised(node))


def fingerprint(text: str, qualname: str) -> str | None:
    """The class's hash, or None where the text does not parse or lacks the class.

    Of several definitions of one name the last counts, as it does for Python.
    """
    tree = parse_or_none(text)
    classes = [] if tree is None else classes_named(tree, qualname)
    return class_fingerprint(classes[-1]) if classes else None


def classes_named(tree: ast.AST, qualname: str) -> list[ast.ClassDef]:
    """The classes among ``definitions``."""
    return [node for node in definitions(tree, qualname) if isinstance(node, ast.ClassDef)]
