"""Several real modules as one file: the delivered file stands on its own. Free of torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import search_engine

_ROOT = Path(search_engine.__file__).parent
_VERIFIED = "deliver/template/verified.py"
_PARTS = (
    "source.py",
    "deliver/reached.py",
    "deliver/template/launcher.py",
    "deliver/template/launch.py",
    "deliver/template/guard.py",
    "deliver/template/forward.py",
)
_ENTRIES = ("decorate", "explain")


def joined_template(docstring: str, constants: Mapping[str, str], export: str) -> str:
    """One Python file: constants filled in, ``export`` behind them, then what these need.

    ``constants`` maps each constant of ``template/verified.py`` to its literal. Functions
    that nothing in the result uses are left out.
    """
    head, *rest = [_read(part) for part in (_VERIFIED, *_PARTS)]
    classes = [block for block in head.blocks if block.name not in constants]
    missing = {b.name for b in head.blocks if b.is_assignment} ^ set(constants)
    assert not missing, missing
    annotations = {b.name: b.annotation for b in head.blocks}
    values = [f"{name}{annotations[name]} = {text}" for name, text in constants.items()]
    blocks = _needed([block for module in rest for block in module.blocks])
    body = [*(b.text for b in classes), "\n".join(values), export.rstrip()]
    runtime = "# --- runtime, the same for every kernel " + "-" * 54
    text = "\n\n\n".join([*body, runtime, _spaced(blocks)])
    imports = _imports([node for module in (head, *rest) for node in module.imports], text)
    return f"{docstring}\n\n{imports}\n\n\n{text}\n"


class _Block:
    """A top-level statement with the comment above it."""

    def __init__(self, text: str, node: ast.stmt) -> None:
        self.text = text
        self.uses = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        self.is_assignment = isinstance(node, ast.Assign | ast.AnnAssign)
        self.annotation = ""
        self.name = ""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.name = node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.name = node.target.id
            self.annotation = f": {ast.unparse(node.annotation)}"
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


@functools.cache
def _read(part: str) -> _Module:
    return _Module((_ROOT / part).read_text("utf-8"))


def _needed(blocks: list[_Block]) -> list[_Block]:
    """The blocks that the entries use, directly or not, in their order."""
    by_name = {block.name: block for block in blocks}
    assert len(by_name) == len(blocks), "two parts of the template share a name"
    wanted = list(_ENTRIES)
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
