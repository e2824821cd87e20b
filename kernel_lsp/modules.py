"""Finding ``nn.Module`` classes in a buffer, broken or not, at the pace of typing.

The buffer is cut into chunks that are parsed one by one (see ``chunks``), what each has is
read once (``classes``), and what is a module is told for the whole file (``bases``).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

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


@frozen
class _Entry:
    """A chunk, or several that make one statement, at its place in the file."""

    text: str
    line: int
    count: int  # of lines
    part: Part
    classes: tuple[ModuleClass, ...]  # of the part, with the file's line numbers


class ModuleFinder:
    """Finds the modules of one file from version to version.

    A keystroke changes one chunk: the chunks before and behind it are taken over from the
    version before, and only where the file's classes or imports became others is it told
    anew what a module is. What was read of a chunk is kept by its text.
    """

    def __init__(self, capacity: int = 5_000) -> None:
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._capacity = capacity  # chunks; a 5,000-line file has some hundreds
        self._entries: list[_Entry] = []
        self._shapes: list[int] = []
        self._modules: frozenset[tuple[int, str]] = frozenset()

    def find(self, text: str) -> FileModules:
        """The modules of a buffer; never raises."""
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        entries = self._patched(text)
        if entries is None:
            entries = self._placed(chunks.split(text), 0, ())
        self._entries = entries
        shapes = [entry.part.shape for entry in entries]
        if shapes != self._shapes:
            self._shapes, self._modules = shapes, modules_of([entry.part for entry in entries])
        found = {
            module.qualname: module
            for index, entry in enumerate(entries)
            for module in entry.classes
            if (index, module.qualname) in self._modules
        }
        return FileModules(tuple(found.values()))

    def _patched(self, text: str) -> list[_Entry] | None:
        """The last version's entries with new ones where the text changed.

        None where that cannot be told from the changed chunks alone: a chunk elsewhere is
        broken, so that what it goes on with may have changed too.
        """
        old = self._entries
        head, start = 0, 0
        while head < len(old) and text.startswith(old[head].text, start):
            start += len(old[head].text)
            head += 1
        tail, end = len(old), len(text)
        while tail > head and text.endswith(old[tail - 1].text, start, end):
            tail -= 1
            end -= len(old[tail].text)
        # One more on either side: a decorator joins its class, a bracket its statement.
        if head:
            head -= 1
            start -= len(old[head].text)
        if tail < len(old):
            end += len(old[tail].text)
            tail += 1
        if not head and tail == len(old):
            return None
        if not all(e.part.whole for e in old[:head]) or not all(e.part.whole for e in old[tail:]):
            return None
        line = old[head].line if head < len(old) else 0
        pieces = chunks.split(text[start:end])
        if not pieces:
            return None
        behind = [chunks.Chunk(e.line, e.text) for e in old[tail:]]
        placed = self._placed(pieces, line, behind)
        if sum(len(entry.text) for entry in placed) != end - start:
            return None  # a statement goes on behind what changed
        by = placed[-1].line + placed[-1].count - (old[tail - 1].line + old[tail - 1].count)
        return [*old[:head], *placed, *(_shifted(entry, by) for entry in old[tail:])]

    def _placed(
        self, pieces: Sequence[chunks.Chunk], line: int, behind: Sequence[chunks.Chunk]
    ) -> list[_Entry]:
        """Entries for pieces that start at ``line``; ``behind`` is what follows them."""
        entries: list[_Entry] = []
        everything = [*pieces, *behind]
        index = 0
        while index < len(pieces):
            text = everything[index].text
            part = self._part(text)
            after = index + 1
            if not part.whole:
                for end, longer in chunks.joined(everything, index):
                    whole = self._part(longer)
                    if whole.whole:
                        part, text, after = whole, longer, end
                        break
            count = text.count("\n")
            entries.append(_Entry(text, line, count, part, _moved(part.classes, line)))
            line += count
            index = after
        return entries

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


def _shifted(entry: _Entry, by: int) -> _Entry:
    if not by:
        return entry
    return _Entry(entry.text, entry.line + by, entry.count, entry.part, _moved(entry.classes, by))


def _moved(classes: tuple[ModuleClass, ...], by: int) -> tuple[ModuleClass, ...]:
    # By hand: `attrs.evolve` takes three times as long.
    return (
        classes
        if not by
        else tuple(
            ModuleClass(
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
            for found in classes
        )
    )
