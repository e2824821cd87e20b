"""Import the user's file from the buffer's text, as Python would import the saved file.

The module gets its package name, so that relative imports work; it is never
``__main__``. Python's import system, ``inspect`` and ``linecache`` see the buffer's text
in place of the file on disk.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from attrs import frozen

from search_engine.capture.where import failed, place
from search_engine.errors import CaptureError
from search_engine.source import parse_or_none


@frozen
class Location:
    """How a file is imported: its dotted name, and the folders that go on ``sys.path``."""

    module_name: str
    root: str  # the folder that holds the outermost package, or the file
    folder: str  # the file's own folder
    is_package: bool


def locate(path: str, text: str = "") -> Location:
    """The name under which Python would import the file at ``path``.

    Folders with an ``__init__.py`` are packages. Others are where the file's own imports
    (``text``) say so: by their dots, or by a folder's name that nothing else answers to.
    """
    file = Path(path).absolute()
    is_package = file.name == "__init__.py"
    # Dots would be taken for packages. KernelBench's "19_ReLU" is a fine name for importlib.
    parts = [] if is_package else [file.stem.replace(".", "_")]
    folder = file.parent
    level, names = _imports(text)
    depth = 0
    while folder != folder.parent and (
        (folder / "__init__.py").is_file() or depth < level or _is_named(folder, names)
    ):
        parts.insert(0, folder.name)
        folder = folder.parent
        depth += 1
    if parts == ["__main__"]:
        parts = ["main"]
    return Location(".".join(parts), str(folder), str(file.parent), is_package)


def _imports(text: str) -> tuple[int, set[str]]:
    """The most dots of a relative import, and the packages that absolute ones begin with."""
    level, names = 0, set()
    tree = parse_or_none(text)
    for node in [] if tree is None else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            level = max(level, node.level)
            if not node.level and node.module:
                names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
    return level, names


def _is_named(folder: Path, names: set[str]) -> bool:
    """Whether the folder, or one above it, is a package of ``names`` without ``__init__.py``.

    A name that Python finds elsewhere is another package.
    """
    for above in (folder, *folder.parents):
        if above.name in names:
            return not (above.parent / f"{above.name}.py").exists() and _is_missing(above)
    return False


def _is_missing(folder: Path) -> bool:
    """Whether Python finds no package of the folder's name, or that very folder."""
    try:
        found = importlib.util.find_spec(folder.name)
    except (ImportError, ValueError):
        return True
    return found is None or str(folder) in (found.submodule_search_locations or ())


class _BufferLoader(importlib.machinery.SourceFileLoader):
    """A loader that takes its own file's bytes from the buffer and never writes bytecode."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._bytes = text.encode("utf-8")

    def get_data(self, path: str) -> bytes:
        if path == self.path:
            return self._bytes
        raise OSError(f"{path} is not the buffer")

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError("a buffer has no times, so that no stale bytecode is read")

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        return None


class _BufferFinder(importlib.abc.MetaPathFinder):
    """Finds the one module that lies in the buffer."""

    def __init__(self, location: Location, path: str, text: str) -> None:
        self._location = location
        self._path = path
        self._text = text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._location.module_name:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self._path,
            loader=_BufferLoader(fullname, self._path, self._text),
            submodule_search_locations=[self._location.folder]
            if self._location.is_package
            else None,
        )


def load(path: str, text: str) -> ModuleType:
    """Import ``text`` as the module that the file at ``path`` would be.

    Leaves ``sys.path`` as ``python path`` would have it, so that imports inside functions
    work later on, and ``sys.argv`` bare. Raises CaptureError, one sentence with the line.
    """
    path = str(Path(path).absolute())
    location = locate(path, text)
    _syntax(path, text)
    _forget_buffers()
    _shadowing(location, path)
    _search_path(location)
    sys.argv = [path]
    sys.meta_path.insert(0, _BufferFinder(location, path, text))
    # An entry without a time is never checked against the disk.
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    importlib.invalidate_caches()
    try:
        with quiet():
            return importlib.import_module(location.module_name)
    except SystemExit as error:
        raise CaptureError(
            f"Importing {Path(path).name} ends the program (sys.exit at {place(error, path)}): "
            "put what runs as a script under `if __name__ == '__main__':`."
        ) from error
    except Exception as error:
        advice = "importing the file must work before its modules can be made faster"
        if isinstance(error, ModuleNotFoundError):
            advice = f"install {error.name!r} into the Python at {sys.executable}"
        raise failed(f"Importing {Path(path).name}", error, path, advice) from error


def _forget_buffers() -> None:
    """Take out what an earlier call loaded: the buffer may have changed since."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _BufferFinder)]
    for name, module in list(sys.modules.items()):
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _BufferLoader):
            del sys.modules[name]


def _syntax(path: str, text: str) -> None:
    try:
        compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise CaptureError(
            f"{Path(path).name} has a syntax error at {place(error, path)} "
            f"({getattr(error, 'msg', error)}): mend it, then try again."
        ) from error


def _shadowing(location: Location, path: str) -> None:
    """Refuse a file whose name is that of a loaded module: both could not live together."""
    top = location.module_name.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is None:
        return
    # A package without __init__.py has folders and no file.
    file = getattr(loaded, "__file__", None)
    origins = [file] if file else list(getattr(loaded, "__path__", ()))
    if not any(Path(origin).is_relative_to(location.root) for origin in origins):
        raise CaptureError(
            f"{Path(path).name} has the name of the module {top!r} that Python or torch uses: "
            "rename the file."
        )


def _search_path(location: Location) -> None:
    """First what ``python -m package.module`` would see, then what ``python file.py`` would."""
    for folder in (location.folder, location.root):
        while folder in sys.path:
            sys.path.remove(folder)
    sys.path.insert(0, location.root)
    if location.folder != location.root:
        sys.path.append(location.folder)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What user code prints goes nowhere: neither ``print`` nor a C library's ``printf``."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # this process has no standard output
        kept = None
    try:
        if kept is not None:
            with open(os.devnull, "wb") as sink:  # noqa: PTH123
                os.dup2(sink.fileno(), 1)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
