"""The user's code and constants that ``forward`` reaches, as one hash. Free of torch.

A kernel was verified for what ``forward`` did on that day. Much of that may lie outside
the class: helper functions, module-level constants, base classes, submodules' classes.
The delivered file carries this code and asks again at its first call.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import linecache
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from search_engine.source import definitions, digest, normalised, parse_or_none

# Methods that run without being named in the code that leads to them.
_ENTRIES = frozenset({"forward", "__call__", "__getattr__", "__getattribute__"})
# With one of these the names that are reached cannot be told from the text.
_DYNAMIC = frozenset({"getattr", "vars", "eval", "exec", "globals", "locals", "__dict__"})
_INSTALLED = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class SourceMissing(Exception):
    """User code whose source cannot be read."""


def is_user_code(module_name: str | None, filename: str | None, home: frozenset[str]) -> bool:
    """Whether code is the user's: of a package in ``home``, or neither installed nor Python's."""
    top = (module_name or "").partition(".")[0]
    if top in home:
        return True
    if not filename or top in ("torch", "builtins") or top in sys.stdlib_module_names:
        return False
    parts = Path(filename).parts
    installed = filename.startswith(_INSTALLED)
    return not (installed or "site-packages" in parts or "dist-packages" in parts)


def home_of(roots: Sequence[type]) -> frozenset[str]:
    """The top-level package of the class that is asked about, the first of ``roots``."""
    return frozenset(root.__module__.partition(".")[0] for root in roots[:1])


def is_user_class(kind: type, home: frozenset[str]) -> bool:
    """``is_user_code`` of a class."""
    module = sys.modules.get(kind.__module__)
    return is_user_code(kind.__module__, getattr(module, "__file__", None), home)


def type_name(kind: type, home: frozenset[str]) -> str:
    """A class's name that does not depend on how the user's file was imported."""
    top = "~" if is_user_class(kind, home) else kind.__module__.partition(".")[0]
    return f"{top}.{kind.__qualname__}"


def literal(value: object) -> str | None:
    """A constant as text that is the same in every process, None for anything else."""
    if value is None or type(value) in (bool, float, complex, str, bytes):
        return ascii(value)
    if type(value) is int:
        return hex(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if type(value).__module__ == "torch" and type(value).__name__ != "Tensor":
        return repr(value)  # dtype, device, Size, memory_format, layout
    if isinstance(value, dict):
        items = [literal(item) for pair in value.items() for item in pair]
    elif isinstance(value, tuple | list | set | frozenset):
        items = [literal(item) for item in value]
    else:
        return None
    texts = [item for item in items if item is not None]
    if len(texts) < len(items):
        return None
    if isinstance(value, set | frozenset):
        texts.sort()
    return f"{type(value).__name__}({','.join(texts)})"


def is_function(value: object) -> bool:
    """Whether an attribute of a module is code that ``forward`` may call (``self.act``)."""
    return isinstance(
        value,
        types.FunctionType | types.BuiltinFunctionType | types.MethodType | functools.partial,
    )


def reachable_fingerprint(
    roots: Sequence[type],
    functions: Sequence[Any] = (),
    texts: Mapping[str, str] | None = None,
) -> str | None:
    """The hash over all that ``forward`` of the classes ``roots`` reaches in user code.

    The first root is the class itself, the others are its submodules' classes;
    ``functions`` are attributes of the module that are code. ``texts`` gives files' texts
    where they differ from the disk. None where a source cannot be read.
    """
    try:
        reach = _Reach(roots, texts or {}, functions)
        return digest("\n".join(sorted(reach.parts)))
    except SourceMissing:
        return None


def attribute_names(roots: Sequence[type], texts: Mapping[str, str] | None = None) -> set[str]:
    """The attribute names that the reached code uses; ``{"*"}`` where any may be."""
    try:
        reach = _Reach(roots, texts or {})
    except SourceMissing:
        return {"*"}
    return {"*"} if reach.dynamic else reach.names


class _Reach:
    """A walk over functions, classes and constants until nothing new turns up."""

    def __init__(
        self, roots: Sequence[type], texts: Mapping[str, str], functions: Sequence[Any] = ()
    ) -> None:
        self.parts: set[str] = set()
        self.names: set[str] = set()
        self.dynamic = False
        self._texts = texts
        self._trees: dict[str, ast.Module | None] = {}
        self._seen: set[int] = set()
        self._home = home_of(roots)
        self._classes: list[type] = []
        for root in roots:
            self._add_class(root)
        for position, function in enumerate(functions):
            self._value(f"attribute {position}", function)
        self._until_nothing_new()

    def _add_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if base not in self._classes and is_user_class(base, self._home):
                self._classes.append(base)

    def _until_nothing_new(self) -> None:
        before = None
        while before != (len(self.names), len(self.parts), len(self._classes), self.dynamic):
            before = (len(self.names), len(self.parts), len(self._classes), self.dynamic)
            for kind in list(self._classes):
                for name, member in list(vars(kind).items()):
                    wanted = name in self.names or (self.dynamic and not name.startswith("__"))
                    if wanted or name in _ENTRIES:
                        self._member(f"{kind.__qualname__}.{name}", member)

    def _member(self, key: str, member: object) -> None:
        if isinstance(member, property):
            for function in (member.fget, member.fset):
                if function is not None:
                    self._value(key, function)
        elif isinstance(member, functools.cached_property):
            self._value(key, member.func)
        else:
            self._value(key, member)

    def _value(self, key: str, value: Any, namespace: Mapping[str, Any] | None = None) -> None:
        """One thing that is reached under the name ``key``."""
        if isinstance(value, types.ModuleType):
            return
        if isinstance(value, type):
            self._class(key, value)
            return
        if isinstance(value, functools.partial):
            self.parts.add(f"{key} partial={literal(value.args)},{literal(value.keywords)}")
            value = value.func
        value = inspect.unwrap(getattr(value, "__func__", value))
        text = literal(value)
        if isinstance(value, types.FunctionType):
            self._function(key, value)
        elif text is not None:
            self.parts.add(f"{key}={text}")
        elif callable(value) and hasattr(value, "__name__"):
            self.parts.add(f"{key}={value.__name__}")
        else:
            self._add_class(type(value))
            self._assignments(key, namespace)

    def _class(self, key: str, kind: type) -> None:
        if not is_user_class(kind, self._home):
            self.parts.add(f"{key}={type_name(kind, self._home)}")
        elif kind not in self._classes and id(kind) not in self._seen:
            self._seen.add(id(kind))
            module = sys.modules[kind.__module__]
            node = self._node(module.__file__ or "", kind.__qualname__, vars(module))
            self.parts.add(f"{kind.__qualname__}={normalised(node)}")
            self._add_class(kind)
            for statement in node.body:
                self._scan(statement, vars(module))

    def _function(self, key: str, function: types.FunctionType) -> None:
        code = function.__code__
        if not is_user_code(function.__module__, code.co_filename, self._home):
            self.parts.add(f"{key}={function.__name__}")
            return
        if id(code) in self._seen:
            return
        self._seen.add(id(code))
        namespace = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
        if function.__name__ == "<lambda>":
            nodes = self._lambdas(code.co_filename, code.co_firstlineno, function.__globals__)
        else:
            nodes = [self._node(code.co_filename, function.__qualname__, function.__globals__)]
        for node in nodes:
            self.parts.add(f"{function.__qualname__}={normalised(node)}")
            self._scan(node, namespace)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            text = literal(default)
            if text is not None:
                self.parts.add(f"{function.__qualname__} default={text}")

    def _scan(self, node: ast.AST, namespace: Mapping[str, Any]) -> None:
        """Follow every name of ``node`` that is not local to it."""
        local = _local_names(node)
        for item in _walk_code(node):
            if isinstance(item, ast.Attribute):
                self.names.add(item.attr)
                self.dynamic |= item.attr in _DYNAMIC
                self._chain(item, local, namespace)
            elif isinstance(item, ast.Name) and item.id not in local:
                self.dynamic |= item.id in _DYNAMIC
                if item.id in namespace:
                    self._value(item.id, namespace[item.id], namespace)

    def _chain(self, node: ast.Attribute, local: set[str], namespace: Mapping[str, Any]) -> None:
        """``helpers.scale``: an attribute of a module, whose name alone says nothing."""
        names = [node.attr]
        root = node.value
        while isinstance(root, ast.Attribute):
            names.append(root.attr)
            root = root.value
        if not isinstance(root, ast.Name) or root.id in local:
            return
        value = namespace.get(root.id)
        for name in reversed(names):
            if not isinstance(value, types.ModuleType):
                return
            value = getattr(value, name, None)
        self._value(".".join((root.id, *reversed(names))), value)

    def _assignments(self, key: str, namespace: Mapping[str, Any] | None) -> None:
        """How a value that is no constant (a tensor, a configuration object) is made."""
        filename = (namespace or {}).get("__file__")
        if not filename or namespace is None:
            return
        tree = self._tree(filename, namespace)
        for statement in [] if tree is None else tree.body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if key in _local_names(statement):
                self.parts.add(f"{key}={normalised(statement)}")

    def _tree(self, filename: str, namespace: Mapping[str, Any]) -> ast.Module | None:
        if filename not in self._trees:
            text = self._texts.get(filename)
            if text is None:
                text = "".join(linecache.getlines(filename, dict(namespace)))
            self._trees[filename] = parse_or_none(text) if text else None
        return self._trees[filename]

    def _node(self, filename: str, qualname: str, namespace: Mapping[str, Any]) -> Any:
        tree = self._tree(filename, namespace)
        found = [] if tree is None else definitions(tree, qualname)
        if not found:
            raise SourceMissing(qualname)
        return found[-1]

    def _lambdas(self, filename: str, line: int, namespace: Mapping[str, Any]) -> list[ast.AST]:
        tree = self._tree(filename, namespace)
        nodes = [] if tree is None else list(ast.walk(tree))
        found = [n for n in nodes if isinstance(n, ast.Lambda) and n.lineno == line]
        if not found:
            raise SourceMissing("<lambda>")
        return list(found)


def _walk_code(node: ast.AST) -> Iterator[ast.AST]:
    """``ast.walk`` without annotations: they name types that do nothing."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk_code(child)


def _local_names(node: ast.AST) -> set[str]:
    """Parameters and names assigned anywhere within, but for those declared global."""
    local: set[str] = set()
    outer: set[str] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.arg):
            local.add(item.arg)
        elif isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store):
            local.add(item.id)
        elif isinstance(item, ast.Global | ast.Nonlocal):
            outer.update(item.names)
    return local - outer
