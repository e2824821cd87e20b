"""Finding ``nn.Module`` classes in a buffer, broken or not, at the pace of typing.

The buffer is cut into chunks that are parsed one by one (see ``chunks``), what each has is
read once (``classes``), and what is a module is told for the whole file (``bases``).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from attrs import field, frozen

from kernel_lsp import chunks
from kernel_lsp.bases import modules_of
from kernel_lsp.classes import ModuleClass, Part, read
from search_engine.errors import CaptureError

__all__ = ["FileModules", "ModuleClass", "ModuleFinder", "choose_class"]


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
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._capacity = capacity  # chunks; a 5,000-line file has some hundreds
        # Of the last file: which classes are modules, by the shapes of its chunks, and the
        # classes at their places. A keystroke changes little of either.
        self._shapes: tuple[int, ...] = ()
        self._modules: frozenset[tuple[int, str]] = frozenset()
        self._moved: dict[tuple[int, int], tuple[Part, tuple[ModuleClass, ...]]] = {}

    def find(self, text: str) -> FileModules:
        """The modules of a buffer; never raises."""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        placed = list(self._placed(text))
        shapes = tuple(part.shape for part, _ in placed)
        if shapes != self._shapes:
            self._shapes, self._modules = shapes, modules_of([part for part, _ in placed])
        moved: dict[tuple[int, int], tuple[Part, tuple[ModuleClass, ...]]] = {}
        found: dict[str, ModuleClass] = {}
        for index, (part, line) in enumerate(placed):
            if not part.classes:
                continue
            key = (id(part), line)  # the part is kept with it, so its id stays its own
            known = self._moved.get(key) or (part, tuple(_moved(c, line) for c in part.classes))
            moved[key] = known
            for module in known[1]:
                if (index, module.qualname) in self._modules:
                    found[module.qualname] = module
        self._moved = moved
        return FileModules(tuple(found.values()))

    def _placed(self, text: str) -> Iterator[tuple[Part, int]]:
        """Each chunk's part with the chunk's first line."""
        pieces = chunks.split(text)
        index = 0
        while index < len(pieces):
            piece = pieces[index]
            part = self._part(piece.text)
            behind = index + 1
            if not part.whole:
                for after, longer in chunks.joined(pieces, index):
                    whole = self._part(longer)
                    if whole.whole:
                        part, behind = whole, after
                        break
            yield part, piece.line
            index = behind

    def _part(self, text: str) -> Part:
        part = self._parts.get(text)
        if part is None:
            part = self._parts[text] = read(text)
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


def _moved(found: ModuleClass, by: int) -> ModuleClass:
    # By hand: `attrs.evolve` takes a third of the time of a keystroke in a large file.
    return ModuleClass(
        found.qualname,
        found.line + by,
        found.name_column,
        found.name_width,
        found.start + by,
        found.end + by,
        None if found.forward_line is None else found.forward_line + by,
        found.forward_column,
        found.decorators,
        found.bases,
        found.fingerprint,
    )
