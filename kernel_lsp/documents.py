"""The open Python files: text, modules and positions of one version of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen
from lsprotocol import types as lsp
from pygls.uris import to_fs_path
from pygls.workspace import PositionCodec, TextDocument, Workspace

from kernel_lsp.modules import FileModules, ModuleClass, ModuleFinder
from kernel_lsp.searches import project_file


@frozen
class View:
    """One version of an open file. ``path`` is its name in the store."""

    uri: str
    file: Path  # as the editor names it
    path: str
    version: int | None
    text: str
    modules: FileModules
    lines: Sequence[str] = field(repr=False, eq=False)  # with their ends
    _codec: PositionCodec = field(repr=False, eq=False)

    def line(self, number: int) -> str:
        """A line without its end, empty behind the last."""
        return self.lines[number].rstrip("\r\n") if 0 <= number < len(self.lines) else ""

    def column(self, position: lsp.Position) -> int:
        """A client's column in characters."""
        here = lsp.Position(0, position.character)
        return self._codec.position_from_client_units([self.line(position.line)], here).character

    def position(self, line: int, column: int) -> lsp.Position:
        """A position for the client from a column in characters."""
        text = self.line(line)
        if text.isascii():
            return lsp.Position(line, min(column, len(text)))
        return lsp.Position(line, self._codec.client_num_units(text[:column]))

    def name_range(self, module: ModuleClass) -> lsp.Range:
        """The class's name in its header."""
        start = module.name_column
        return lsp.Range(
            self.position(module.line, start),
            self.position(module.line, start + module.name_width),
        )


@frozen
class Drawn:
    """The lenses of an idle class as last sent (JSON), with what they depend on."""

    module: ModuleClass  # kept, so that its id stays its own
    line: str  # of the header: columns in the client's units depend on it
    lenses: str


class Documents:
    """What the editor has open."""

    def __init__(self) -> None:
        self._finders: dict[str, ModuleFinder] = {}
        self._paths: dict[str, tuple[Path, str]] = {}  # by uri: the file, its name in the store
        self._views: dict[str, View] = {}

    def open(self, item: lsp.TextDocumentItem) -> bool:
        """Take up a document; False where it is no Python file on disk."""
        name = to_fs_path(item.uri)
        if not item.uri.startswith("file:") or name is None:
            return False
        if item.language_id != "python" and not name.endswith((".py", ".pyi")):
            return False
        self._paths[item.uri] = (Path(name), project_file(name))
        self._finders[item.uri] = ModuleFinder()
        return True

    def close(self, uri: str) -> None:
        """Forget a document."""
        self._paths.pop(uri, None)
        self._views.pop(uri, None)
        self._finders.pop(uri, None)

    def uris(self) -> list[str]:
        """The open documents."""
        return list(self._paths)

    def paths(self) -> set[str]:
        """Their names in the store."""
        return {path for _, path in self._paths.values()}

    def view(self, workspace: Workspace, uri: str) -> View | None:
        """The current version of a document, None where it is not one of ours."""
        paths = self._paths.get(uri)
        if paths is None:
            return None
        document: TextDocument = workspace.get_text_document(uri)
        # A byte order mark is the file's, not Python's. It stays in the buffer: an edit never
        # begins before the first import, and no class is on the line of one.
        text = document.source.removeprefix("\ufeff")
        known = self._views.get(uri)
        if known is not None and known.version == document.version and known.text == text:
            return known
        file, path = paths
        view = View(
            uri, file, path, document.version, text,
            self._finders[uri].find(text), document.lines, document.position_codec,
        )  # fmt: skip
        self._views[uri] = view
        return view
