"""Finding ``nn.Module`` classes in a buffer, broken or not, at the pace of typing.

The buffer is cut into chunks that are parsed one by one (see ``chunks``). Where a chunk is
no Python, its class headers are read by their shape, so that a lens stays where it is
while its class is being edited; such a class is ``broken`` and has no fingerprint.
"""

from __future__ import annotations

import ast
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from attrs import field, frozen

from kernel_lsp import chunks
from search_engine.errors import CaptureError

_MODULE = "torch.nn.Module"
# Bases from outside the file that are modules although torch.nn does not define them.
_KNOWN_MODULES = frozenset(
    {
        _MODULE,
        "lightning.LightningModule",
        "lightning.pytorch.LightningModule",
        "pytorch_lightning.LightningModule",
        "transformers.PreTrainedModel",
    }
)
_NO_MODULES = frozenset({"Parameter", "UninitializedParameter", "UninitializedBuffer", "Buffer"})
_NO_FORWARD = frozenset({_MODULE, "torch.nn.ModuleList", "torch.nn.ModuleDict"}) | _KNOWN_MODULES

_HEADER = re.compile(r"^(?P<indent>[ \t]*)class[ \t]+(?P<name>\w+)[ \t]*(?:\((?P<bases>[^:\n#]*))?")
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

    @property
    def name(self) -> str:
        """The last part of the qualified name."""
        return self.qualname.rpartition(".")[2]


@frozen
class _Part:
    """What one chunk adds to the file's picture; lines relative to the chunk."""

    classes: tuple[ModuleClass, ...] = ()  # all classes, modules or not
    imports: tuple[tuple[str, str], ...] = ()  # local name, dotted name
    stars: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()  # Base = nn.Module
    whole: bool = True  # False: the chunk is no Python by itself


@frozen
class FileModules:
    """The module classes of one version of a file."""

    classes: tuple[ModuleClass, ...]
    _by_name: dict[str, ModuleClass] = field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._by_name.update({found.qualname: found for found in self.classes})

    def get(self, qualname: str) -> ModuleClass | None:
        """The class of that qualified name."""
        return self._by_name.get(qualname)

    def at(self, line: int) -> ModuleClass | None:
        """The innermost class whose lines (decorators included) hold ``line``."""
        inside = (found for found in self.classes if found.start <= line < found.end)
        return max(inside, key=lambda found: found.start, default=None)


class ModuleFinder:
    """Finds modules and keeps what it learned of each chunk by the chunk's text."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._capacity = capacity  # chunks; a 5,000-line file has some hundreds

    def find(self, text: str) -> FileModules:
        """The modules of a buffer; never raises."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return FileModules(tuple(_modules(self._placed(text))))

    def _placed(self, text: str) -> Iterator[tuple[_Part, int]]:
        """Each chunk's part with the chunk's first line."""
        pieces = chunks.split(text)
        index = 0
        while index < len(pieces):
            piece = pieces[index]
            part = self._part(piece.text)
            behind = index + 1
            if not part.whole:
                joined = chunks.unclosed(pieces, index)
                if joined is not None:
                    whole = self._part("".join(p.text for p in pieces[index:joined]))
                    if whole.whole:
                        part, behind = whole, joined
            yield part, piece.line
            index = behind

    def _part(self, text: str) -> _Part:
        part = self._parts.get(text)
        if part is None:
            part = self._parts[text] = _read(text)
            if len(self._parts) > self._capacity:
                self._parts.popitem(last=False)
        else:
            self._parts.move_to_end(text)
        return part


def choose_class(text: str) -> str:
    """The qualified name of the class that a file without a named class means.

    ``Model`` (the KernelBench convention), else the only module that no other module of
    the file uses or extends. Raises CaptureError where that does not decide.
    """
    found = ModuleFinder().find(text).classes
    if not found:
        raise CaptureError("There is no nn.Module with a forward in this file: name another file.")
    names = [module.qualname for module in found]
    if "Model" in names:
        return "Model"
    roots = [name for name in names if not _used_elsewhere(name, text, found)]
    if len(roots) == 1:
        return roots[0]
    raise CaptureError(
        f"The file has several modules ({', '.join(roots or names)}): say which with FILE::Class."
    )


def _used_elsewhere(name: str, text: str, found: Sequence[ModuleClass]) -> bool:
    lines = chunks.lines_of(text)
    word = re.compile(rf"\b{re.escape(name)}\b")
    return any(
        word.search(line)
        for other in found
        if other.qualname != name
        for line in lines[other.line : other.end]
    )


# --- one chunk ------------------------------------------------------------------------


def _read(text: str) -> _Part:
    statements = chunks.parse(text)
    if statements is None:
        return _Part(classes=tuple(_headers(text)), whole=False)
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
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for name in statement.names:
                if name.name == "*":
                    stars.append(statement.module)
                else:
                    imports.append((name.asname or name.name, f"{statement.module}.{name.name}"))
        elif isinstance(statement, ast.Assign) and (value := _dotted(statement.value)):
            aliases += [(t.id, value) for t in statement.targets if isinstance(t, ast.Name)]
    return _Part(tuple(classes), tuple(imports), tuple(stars), tuple(aliases))


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
    yield ModuleClass(
        qualname=qualname,
        line=node.lineno - 1,
        name_column=_column(lines, node.lineno - 1, node.name),
        start=min((d.lineno - 1 for d in node.decorator_list), default=node.lineno - 1),
        end=node.end_lineno or node.lineno,
        forward_line=None if forward is None else forward.lineno - 1,
        forward_column=0 if forward is None else _column(lines, forward.lineno - 1, "forward"),
        decorators=tuple(ast.unparse(d) for d in node.decorator_list),
        bases=tuple(filter(None, map(_dotted, node.bases))),
        fingerprint=class_fingerprint(node),
    )
    for item in node.body:
        if isinstance(item, ast.ClassDef):
            yield from _classes(item, f"{qualname}.", text)


def _column(lines: Sequence[str], line: int, name: str) -> int:
    found = re.search(rf"\b{name}\b", lines[line]) if line < len(lines) else None
    return 0 if found is None else found.start()


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
        qualname = ".".join([*(name for _, name in outer[-1:]), match["name"]])
        outer.append((indent, qualname))
        following = heads[position + 1][0] if position + 1 < len(heads) else len(lines)
        forward = next((n for n in range(number, following) if _FORWARD.match(lines[n])), None)
        start = number
        while start > 0 and lines[start - 1].lstrip().startswith("@"):
            start -= 1
        bases = (base.strip(" \t()") for base in (match["bases"] or "").split(","))
        yield ModuleClass(
            qualname=qualname,
            line=number,
            name_column=match.start("name"),
            start=start,
            end=len(lines) if not indent else following,
            forward_line=forward,
            forward_column=0 if forward is None else lines[forward].index("forward"),
            decorators=tuple(line.strip()[1:].strip() for line in lines[start:number]),
            bases=tuple(base for base in bases if _DOTTED.match(base)),
            fingerprint=None,
        )


def _moved(found: ModuleClass, by: int) -> ModuleClass:
    # By hand: `attrs.evolve` takes a third of the time of a keystroke in a large file.
    return ModuleClass(
        found.qualname,
        found.line + by,
        found.name_column,
        found.start + by,
        found.end + by,
        None if found.forward_line is None else found.forward_line + by,
        found.forward_column,
        found.decorators,
        found.bases,
        found.fingerprint,
    )


# --- the whole file -------------------------------------------------------------------


def _modules(parts: Iterable[tuple[_Part, int]]) -> list[ModuleClass]:
    """Classes that are modules and have a ``forward``, in the order of the file."""
    classes: dict[str, ModuleClass] = {}
    names: dict[str, str] = {}
    stars: list[str] = []
    for part, line in parts:
        for found in part.classes:
            classes.pop(found.qualname, None)  # the last definition of a name counts
            classes[found.qualname] = _moved(found, line) if line else found
        names.update(part.imports)
        names.update(part.aliases)
        stars += part.stars
    resolver = _Resolver(classes, names, stars)
    return [
        found
        for found in classes.values()
        if resolver.is_module(found.qualname) and resolver.has_forward(found.qualname)
    ]


class _Resolver:
    """Answers what a class is through imports, aliases and bases in the same file."""

    def __init__(
        self, classes: dict[str, ModuleClass], names: dict[str, str], stars: Sequence[str]
    ) -> None:
        self._classes = classes
        self._names = names
        self._stars = stars
        self._ancestors: dict[str, frozenset[str]] = {}

    def is_module(self, qualname: str) -> bool:
        return any(_is_torch_module(name) for name in self.ancestors(qualname))

    def has_forward(self, qualname: str) -> bool:
        if self._classes[qualname].forward_line is not None:
            return True
        for name in self.ancestors(qualname):
            base = self._classes.get(name)
            if base is not None and base.forward_line is not None:
                return True
            if _is_torch_module(name) and name not in _NO_FORWARD:
                return True  # nn.Sequential, nn.Linear, … bring their own
        return False

    def ancestors(self, qualname: str) -> frozenset[str]:
        """Everything a class derives from: qualified names here, dotted names elsewhere."""
        known = self._ancestors.get(qualname)
        if known is not None:
            return known
        self._ancestors[qualname] = frozenset()  # a class may not be its own ancestor
        found: set[str] = set()
        for base in self._classes[qualname].bases:
            name = self._resolve(base, qualname)
            found.add(name)
            if name in self._classes and name != qualname:
                found |= self.ancestors(name)
        self._ancestors[qualname] = frozenset(found)
        return self._ancestors[qualname]

    def _resolve(self, base: str, inside: str) -> str:
        sibling = ".".join([*inside.split(".")[:-1], base])
        if sibling in self._classes and sibling != inside:
            return sibling
        if base in self._classes and base != inside:
            return base
        head, dot, rest = base.partition(".")
        seen: set[str] = set()
        while head in self._names and head not in seen:
            seen.add(head)
            base = self._names[head] + dot + rest
            head, dot, rest = base.partition(".")
        if base in self._classes and base != inside:
            return base
        if base.startswith("nn."):  # the import itself may be the line being typed
            return f"torch.{base}"
        if "." not in base and any(
            star in ("torch.nn", "torch.nn.modules") for star in self._stars
        ):
            return f"torch.nn.{base}"
        return base


def _is_torch_module(name: str) -> bool:
    if name in _KNOWN_MODULES:
        return True
    last = name.rpartition(".")[2]
    return name.startswith("torch.nn.") and last[:1].isupper() and last not in _NO_MODULES
