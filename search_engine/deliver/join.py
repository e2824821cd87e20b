"""Several real modules as one file: what all delivered kernels of a folder share. Free of torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import search_engine
from search_engine.deliver.names import PREFIX
from search_engine.source import digest

_ROOT = Path(search_engine.__file__).parent
_PARTS = (
    "deliver/template/verified.py",
    "source.py",
    "deliver/reached.py",
    "deliver/template/launcher.py",
    "deliver/template/launch.py",
    "deliver/template/arguments.py",
    "deliver/template/state.py",
    "deliver/template/guard.py",
    "deliver/template/forward.py",
)
# What delivered files import.
NAMES = (
    "Case", "Constant", "Container", "KernelFile", "Launch", "Verified", "decorate", "explain",
)  # fmt: skip
_DOCSTRING = '''"""What delivered kernels have in common: the guard, the launches, the operator.

Written by kernel-lsp; needs torch and cuda-core, nothing else. Its name is the hash of its
text, so kernels of several versions live side by side. It goes with the last kernel that
imports it.
"""'''


@functools.cache
def runtime() -> tuple[str, str]:
    """The module's name (``_runtime_1a2b3c4d``) and its text.

    Functions that nothing in the result uses are left out.
    """
    modules = [_read(part) for part in _PARTS]
    blocks = _needed([block for module in modules for block in module.blocks])
    body = _spaced(blocks)
    imports = _imports([node for module in modules for node in module.imports], body)
    text = f"{_DOCSTRING}\n\n{imports}\n\n\n{body}\n"
    return f"{PREFIX}{digest(text)[:8]}", text


class _Block:
    """A top-level statement with the comment above it."""

    def __init__(self, text: str, node: ast.stmt) -> None:
        self.text = text
        self.uses = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        self.is_assignment = isinstance(node, ast.Assign | ast.AnnAssign)
        self.name = ""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.name = node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.name = node.target.id
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            self.name = node.targets[0].id


class _Module:
    def __init__(self, text: str) -> None:
        self.blocks: list[_Block] = []
        self.imports: list[ast.Import | ast.ImportFrom] = []
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports.append(node)
            elif not isinstance(node, ast.Expr):  # the docstring
                self.blocks.append(_Block(_with_comment(lines, node), node))


def _with_comment(lines: list[str], node: ast.stmt) -> str:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) - 1
    while first and lines[first - 1].startswith("#") and not lines[first - 1].startswith("# ---"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])


def _read(part: str) -> _Module:
    return _Module((_ROOT / part).read_text("utf-8"))


def _needed(blocks: list[_Block]) -> list[_Block]:
    """The blocks that the names use, directly or not, in their order."""
    by_name = {block.name: block for block in blocks}
    assert len(by_name) == len(blocks), "two parts of the template share a name"
    wanted = list(NAMES)
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in by_name and name not in seen:
            seen.add(name)
            wanted += by_name[name].uses
    return [block for block in blocks if block.name in seen]


def _spaced(blocks: list[_Block]) -> str:
    """Two blank lines around definitions, none between assignments."""
    text = ""
    for before, block in zip([None, *blocks], blocks, strict=False):
        if before is not None:
            text += "\n" if before.is_assignment and block.is_assignment else "\n\n\n"
        text += block.text
    return text


def _imports(nodes: list[ast.Import | ast.ImportFrom], text: str) -> str:
    """One sorted block with what ``text`` uses; our own modules are in the file itself."""
    used = {item.id for item in ast.walk(ast.parse(text)) if isinstance(item, ast.Name)}
    modules: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            modules.update(_used_modules(node, used))
        elif node.module and not node.module.startswith("search_engine"):
            found = {alias.name for alias in node.names if alias.name in used}
            names.setdefault(node.module, set()).update(found)
    names.pop("__future__", None)
    lines = ["from __future__ import annotations", ""]
    for third_party in (False, True):
        plain = sorted(m for m in modules if m.startswith("torch") is third_party)
        froms = sorted(m for m in names if names[m] and m.startswith("torch") is third_party)
        lines += [f"import {module}" for module in plain]
        lines += [f"from {m} import {', '.join(sorted(names[m], key=_isort))}" for m in froms]
        lines += [] if third_party else [""]
    return "\n".join(lines)


def _used_modules(node: ast.Import, used: set[str]) -> Iterator[str]:
    for alias in node.names:
        if alias.name.partition(".")[0] in used:
            yield alias.name


def _isort(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
